"""Dropout: what the mask does to a layer, to a loss, and to a network, beside its control.

The data are scikit-learn's bundled digits, some with wrong labels, and a noisy sine curve.
Everything runs on the CPU.
"""

# --8<-- [start:imports]
import copy
from collections.abc import Callable
from functools import cache
from itertools import pairwise

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

from snippets.data import load_digits

# --8<-- [end:imports]

SEEDS = range(6)


# --8<-- [start:task]
def with_wrong_labels(y: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Copy the labels y (n,) of ten classes, with this share of them moved to another class."""
    wrong = torch.randperm(len(y), generator=generator)[: round(share * len(y))]
    shift = torch.randint(1, 10, (len(wrong),), generator=generator)
    out = y.clone()
    out[wrong] = (y[wrong] + shift) % 10
    return out


def digits_task(n: int, wrong: float, seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Draw n digits to train on, a share of them with wrong labels.

    Returns pairs X (., 64), y (.,): "train"; "val", 360 of the other digits (none if n takes
    all 1437); "test", the same 360 for every seed.
    """
    X, y, X_test, y_test = load_digits()
    g = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(X), generator=g)
    chosen, others = order[:n], order[n : n + 360]
    given = with_wrong_labels(y[chosen], wrong, g)
    return {"train": (X[chosen], given), "val": (X[others], y[others]), "test": (X_test, y_test)}


# --8<-- [end:task]


# --8<-- [start:mlp]
def make_mlp(sizes: tuple[int, ...], generator: torch.Generator) -> nn.Sequential:
    """Linear, ReLU, Linear, ReLU, ..., Linear, started as nn.Linear does; sizes: (d, ..., q)."""
    layers = []
    for fan_in, fan_out in pairwise(sizes):
        linear = nn.Linear(fan_in, fan_out)
        for parameter in linear.parameters():
            nn.init.uniform_(parameter, -(fan_in**-0.5), fan_in**-0.5, generator=generator)
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


# --8<-- [end:mlp]


# --8<-- [start:train]
def train(
    net: nn.Module,
    X: Tensor,
    y: Tensor,
    steps: int,
    seed: int,
    batch_size: int = 100,
    probe: Callable[[], object] = lambda: None,
) -> list:
    """Minimise the cross-entropy by Adam; return what probe() says at every tenth step.

    X: (N, d); y: (N,) class numbers. The net is left in train() mode.
    """
    g = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    seen = []
    for step in range(1, steps + 1):
        batch = torch.randperm(len(X), generator=g)[:batch_size]
        net.train()
        optimizer.zero_grad()
        F.cross_entropy(net(X[batch]), y[batch]).backward()
        optimizer.step()
        if step % 10 == 0:
            seen.append(probe())
    return seen


# --8<-- [end:train]


# --8<-- [start:accuracy]
def accuracy(net: nn.Module, X: Tensor, y: Tensor) -> float:
    """Share of the samples classified as y says, in eval() mode; X: (N, d), y: (N,)."""
    mode = net.training
    net.eval()
    with torch.no_grad():
        share = (net(X).argmax(1) == y).float().mean().item()
    net.train(mode)
    return share


# --8<-- [end:accuracy]


# --8<-- [start:masks]
def all_masks(units: int, p: float) -> tuple[Tensor, Tensor]:
    """Every mask of a layer, (2^h, h) of 0 and 1, and the probability of each, (2^h,)."""
    values = [torch.tensor([0.0, 1.0], dtype=torch.float64)] * units
    masks = torch.cartesian_prod(*values).reshape(-1, units)  # (2^h, h)
    kept = masks.sum(1)  # (2^h,)
    return masks, (1 - p) ** kept * p ** (units - kept)


# --8<-- [end:masks]


# --8<-- [start:expected_loss]
def expected_loss(w: Tensor, X: Tensor, y: Tensor, p: float) -> Tensor:
    """Squared error of X w with dropout on the inputs, averaged exactly over all masks.

    w: (d,), X: (N, d), y: (N,), all float64; returns a scalar.
    """
    masks, probability = all_masks(len(w), p)
    predictions = (masks * w / (1 - p)) @ X.T  # (2^d, N)
    return probability @ (predictions - y).square().mean(1)


def dropout_penalty(w: Tensor, X: Tensor, p: float) -> Tensor:
    """The second term of equation (6); w: (d,), X: (N, d)."""
    return p / (1 - p) * (w.square() * X.square().mean(0)).sum()


# --8<-- [end:expected_loss]


# --8<-- [start:input_noise]
def input_noise_loss(
    w: Tensor, X: Tensor, y: Tensor, sigma: float, n: int, generator: torch.Generator
) -> Tensor:
    """Squared error of a linear model, mean of n draws of noise N(0, sigma^2) on the inputs.

    w: (d,), X: (N, d), y: (N,); returns a scalar.
    """
    total = torch.zeros((), dtype=X.dtype)
    for _ in range(n):
        noise = sigma * torch.randn(X.shape, generator=generator, dtype=X.dtype)  # (N, d)
        total += ((X + noise) @ w - y).square().mean()
    return total / n


# --8<-- [end:input_noise]


# --8<-- [start:ensemble]
def ensemble_vs_scaling(
    rest: Callable[[Tensor], Tensor], h: Tensor, p: float
) -> tuple[Tensor, Tensor]:
    """What follows a dropout layer: its mean output over all masks, its output without dropout.

    rest: maps (..., units) to (..., q); h: (units,), float64; returns two of (q,).
    """
    masks, probability = all_masks(len(h), p)
    return probability @ rest(masks * h / (1 - p)), rest(h)


def geometric_mean(rest: Callable[[Tensor], Tensor], h: Tensor, p: float) -> Tensor:
    """Geometric mean of softmax(rest(.)) over all masks, scaled to sum to 1; returns (q,)."""
    masks, probability = all_masks(len(h), p)
    log_q = rest(masks * h / (1 - p)).log_softmax(1)  # (2^h, q)
    return (probability @ log_q).softmax(0)


# --8<-- [end:ensemble]


# --8<-- [start:dropout]
def dropout(
    h: Tensor, p: float, training: bool = True, generator: torch.Generator | None = None
) -> Tensor:
    """Inverted dropout, equation (1): zero each entry with probability p, scale the rest.

    h: any shape; returns the same shape. The identity if not training.

    Raises:
        ValueError: p is not in [0, 1].
    """
    if not 0 <= p <= 1:
        raise ValueError(f"p is the probability of dropping, between 0 and 1, not {p}")
    if not training or p == 0:
        return h
    if p == 1:
        return torch.zeros_like(h)
    keep = torch.empty_like(h).bernoulli_(1 - p, generator=generator)  # (1)!
    return keep * h / (1 - p)


# --8<-- [end:dropout]


# --8<-- [start:vanilla]
def vanilla_dropout(
    h: Tensor, keep: float, training: bool = True, generator: torch.Generator | None = None
) -> Tensor:
    """Dropout as published in 2012: keep each entry with probability `keep`, scale when testing."""
    if not training:
        return keep * h
    return torch.empty_like(h).bernoulli_(keep, generator=generator) * h


# --8<-- [end:vanilla]


# --8<-- [start:module]
class Dropout(nn.Module):
    """nn.Dropout with a random generator of its own."""

    def __init__(self, p: float, generator: torch.Generator):
        super().__init__()
        self.p, self.generator = p, generator

    def forward(self, h: Tensor) -> Tensor:
        return dropout(h, self.p, self.training, self.generator)


def with_dropout(net: nn.Sequential, p: float, seed: int) -> nn.Sequential:
    """Copy a network, weights included, with dropout p after every ReLU and nowhere else."""
    g = torch.Generator().manual_seed(seed)
    layers = []
    for layer in copy.deepcopy(net):
        if isinstance(layer, Dropout):
            continue
        layers.append(layer)
        if isinstance(layer, nn.ReLU):
            layers.append(Dropout(p, g))
    return nn.Sequential(*layers)


# --8<-- [end:module]


# --8<-- [start:single_pass]
def single_pass(net: nn.Module, X: Tensor, y: Tensor) -> float:
    """Accuracy with the masks on, one draw per sample; leaves the net in eval() mode."""
    net.train()
    with torch.no_grad():
        share = (net(X).argmax(1) == y).float().mean().item()
    net.eval()
    return share


# --8<-- [end:single_pass]


# --8<-- [start:mc_dropout]
def mc_dropout(net: nn.Module, X: Tensor, passes: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the output over `passes` draws of the masks, each (N, q).

    Only dropout is switched on; leaves the net in eval() mode.
    """
    net.eval()
    for module in net.modules():
        if isinstance(module, (Dropout, nn.Dropout)):  # (1)!
            module.train()
    with torch.no_grad():
        outputs = torch.stack([net(X) for _ in range(passes)])  # (T, N, q)
    net.eval()
    return outputs.mean(0), outputs.std(0)


# --8<-- [end:mc_dropout]


# --8<-- [start:sine]
def sine_task(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """n points of sin(4x) with noise 0.1, none between -0.3 and 0.3; x, y: (n, 1)."""
    left = torch.linspace(-1, -0.3, n // 2)
    x = torch.cat([left, -left]).unsqueeze(1)
    return x, torch.sin(4 * x) + 0.1 * torch.randn(x.shape, generator=generator)


def fit_sine(n: int, p: float, seed: int) -> nn.Sequential:
    """Train 1-50-50-1 with dropout p on sine_task, 300 full-batch steps of Adam."""
    g = torch.Generator().manual_seed(seed)
    x, y = sine_task(n, g)
    net = with_dropout(make_mlp((1, 50, 50, 1), g), p, seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(300):
        optimizer.zero_grad()
        F.mse_loss(net(x), y).backward()
        optimizer.step()
    return net


# --8<-- [end:sine]


SETTINGS = {  # digits to train on, share of wrong labels, hidden units, steps, batch size
    "noisy": (200, 0.3, 128, 150, 200),
    "clean": (1437, 0.0, 128, 150, 200),
    "narrow": (1437, 0.0, 8, 300, 200),
}


def fit_digits(
    data: dict[str, tuple[Tensor, Tensor]],
    width: int,
    steps: int,
    batch_size: int,
    p: float,
    seed: int,
    parts: tuple[str, ...] = (),
) -> tuple[nn.Sequential, Tensor]:
    """Train 64-width-10 with dropout p, p = 0 is the control.

    Returns the net, and its accuracies on the parts named at every tenth step, (steps / 10, parts).
    """
    g = torch.Generator().manual_seed(seed)
    net = with_dropout(make_mlp((64, width, 10), g), p, seed)
    curve = train(
        net,
        *data["train"],
        steps=steps,
        seed=seed,
        batch_size=batch_size,
        probe=lambda: [accuracy(net, *data[part]) for part in parts],
    )
    return net, torch.tensor(curve)


@cache
def sweep(ps: tuple[float, ...], seeds: int) -> dict[str, list[float]]:
    """Mean test accuracy over some seeds at each p, in the three settings of the page."""
    out = {}
    for name, (n, wrong, *how) in SETTINGS.items():
        tasks = [digits_task(n, wrong, seed) for seed in range(seeds)]
        out[name] = []
        for p in ps:
            nets = [fit_digits(data, *how, p, i)[0] for i, data in enumerate(tasks)]
            ends = [accuracy(net, *data["test"]) for net, data in zip(nets, tasks, strict=True)]
            out[name].append(sum(ends) / seeds)
    return out


@cache
def curves(p: float, seed: int) -> Tensor:
    """Accuracies (15, 2) on the given labels and on the test set, few noisy labels."""
    n, wrong, *how = SETTINGS["noisy"]
    data = digits_task(n, wrong, seed)
    return fit_digits(data, *how, p, seed, ("train", "test"))[1]


@cache
def sine_band(n: int, p: float, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Grid, mean and standard deviation of 100 passes of fit_sine, each (81,)."""
    grid = torch.linspace(-2, 2, 81)
    mean, sd = mc_dropout(fit_sine(n, p, seed), grid.unsqueeze(1), 100)
    return grid, mean.squeeze(1), sd.squeeze(1)


def draw_network(ax: Axes, dropped: tuple[int, ...]) -> None:
    """Draw a 4-5-3 network; the hidden units dropped lose their lines and are dotted."""
    ink, ground = plt.rcParams["text.color"], plt.rcParams["legend.facecolor"]
    ground = plt.rcParams["axes.facecolor"] if ground == "inherit" else ground
    columns = (("x", 4, "C0"), ("h", 5, "C1"), ("o", 3, "C2"))
    places = [[(x, (n - 1) / 2 - i) for i in range(n)] for x, (_, n, _) in enumerate(columns)]
    gone = {places[1][i - 1] for i in dropped}
    for left, right in pairwise(places):
        for a in left:
            for b in right:
                if a not in gone and b not in gone:
                    ax.plot(*zip(a, b, strict=True), color=ink, linewidth=0.7, alpha=0.5, zorder=1)
    for (name, _, colour), points in zip(columns, places, strict=True):
        for i, point in enumerate(points, 1):
            off = point in gone
            face = "none" if off else colour
            style = ":" if off else "-"
            ax.scatter(
                *point, s=330, color=face, edgecolor=ink if off else colour, ls=style, zorder=2
            )
            label_colour = ink if off else ground
            ax.text(*point, f"${name}_{i}$", ha="center", va="center", color=label_colour, zorder=3)
    ax.set(xlim=(-0.35, 2.35), ylim=(-2.6, 2.6))
    ax.axis("off")


def figure_network() -> Figure:
    """A 4-5-3 network, whole and with the hidden units 2 and 5 dropped."""
    fig, axes = plt.subplots(1, 2, layout="constrained")
    for ax, dropped, title in zip(axes, ((), (2, 5)), ("no mask", "one mask"), strict=True):
        draw_network(ax, dropped)
        ax.set_title(title, fontsize=11)
    return fig


def figure_mask() -> Figure:
    """Top: one unit with h = 3 and p = 0.3. Bottom: a sum of 100 such units, each times 0.01."""
    fig, axes = plt.subplots(2, 1, figsize=(4.8, 4.4), layout="constrained")
    g = torch.Generator().manual_seed(0)
    h = dropout(torch.full((5000, 100), 3.0), 0.3, generator=g)
    axes[0].hist(h[:, 0], bins=30, range=(-0.5, 5), weights=[1 / 5000] * 5000, color="C0")
    axes[1].hist(h.mean(1), bins=30, range=(-0.5, 5), weights=[1 / 5000] * 5000, color="C0")
    for ax, label in zip(axes, ("one unit $h'$", "mean of 100 units"), strict=True):
        ax.axvline(3, color="C3", linestyle="--", label="$h=3$")
        ax.set(xlabel=label, ylabel="share of draws", xlim=(-0.5, 5))
    axes[0].legend(loc="upper center", frameon=False)
    return fig


def figure_curves() -> Figure:
    """Accuracy on the given labels and on the test set while training, with and without dropout."""
    fig, axes = plt.subplots(2, 1, figsize=(4.8, 4.8), sharex=True, layout="constrained")
    steps = range(10, 151, 10)
    for p, style, label in ((0.0, "C3s-", "no dropout"), (0.8, "C0o-", "$p=0.8$")):
        for ax, values in zip(axes, curves(p, 0).T, strict=True):
            ax.plot(steps, values, style, markersize=4, label=label)
    axes[0].axhline(0.7, color=plt.rcParams["text.color"], linestyle=":")
    axes[0].text(148, 0.665, "share of right labels", ha="right", va="top")
    axes[0].set(ylabel="training accuracy", ylim=(0.5, 1.03))
    axes[1].set(ylabel="test accuracy", xlabel="step", ylim=(0.5, 1.03))
    for ax in axes:
        ax.grid(True)
    axes[1].legend(loc="upper right", ncols=2, frameon=False)
    return fig


def figure_sweep() -> Figure:
    """Test accuracy against p in three settings, mean of two seeds."""
    fig, ax = plt.subplots(figsize=(4.8, 3.6), layout="constrained")
    ps = (0.0, 0.3, 0.6, 0.9)
    styles = {
        "clean": ("C2^-", "wide, clean labels"),
        "narrow": ("C3s-", "8 units, clean labels"),
        "noisy": ("C0o-", "wide, 30% wrong labels"),
    }
    values = sweep(ps, 2)
    for name, (style, label) in styles.items():
        ax.plot(ps, values[name], style, markersize=5, label=label)
    ax.set(xlabel="dropout probability $p$", ylabel="test accuracy", ylim=(0, 1.03))
    ax.grid(True)
    ax.legend(loc="lower left", frameon=False)
    return fig


def figure_band() -> Figure:
    """Monte Carlo dropout on the sine: mean, two standard deviations, data and truth."""
    fig, ax = plt.subplots(figsize=(4.8, 3.6), layout="constrained")
    grid, mean, sd = sine_band(20, 0.1, 0)
    x, y = sine_task(20, torch.Generator().manual_seed(0))
    ax.fill_between(grid, mean - 2 * sd, mean + 2 * sd, color="C0", alpha=0.3, linewidth=0)
    ax.plot(grid, mean, "C0", label="mean and 2 sd")
    ax.plot(grid, torch.sin(4 * grid), "C3--", label=r"truth $\sin 4x$")
    ax.plot(x, y, "o", color=plt.rcParams["text.color"], markersize=4, label="data")
    ax.set(xlabel="$x$", ylabel="$y$", xlim=(-2, 2), ylim=(-4, 4))
    ax.grid(True)
    ax.legend(loc="upper center", ncols=2, frameon=False)
    return fig


def four_uses(net: nn.Sequential, X: Tensor, y: Tensor) -> dict[str, float]:
    """A net trained with dropout, tested with the masks on: once, twice, and 50 times averaged."""
    net.train()
    with torch.no_grad():
        passes = torch.stack([net(X).softmax(1) for _ in range(50)])  # (50, N, q)
    answers = passes.argmax(2)  # (50, N)
    return {
        "single": (answers == y).float().mean().item(),
        "changed": (answers[0] != answers[1]).float().mean().item(),
        "mean_of_50": (passes.mean(0).argmax(1) == y).float().mean().item(),
    }


def experiment_digits(seed: int) -> dict[str, float]:
    """Three settings with and without dropout: few noisy labels, many clean ones, a narrow net."""
    out = {}
    for setting, (n, wrong, *how) in SETTINGS.items():
        data = digits_task(n, wrong, seed)
        for name, p in (("control", 0.0), ("half", 0.5), ("strong", 0.8)):
            if name == "strong" and setting != "noisy":
                continue
            parts = ("val", "test") if setting == "noisy" else ()
            net, curve = fit_digits(data, *how, p, seed, parts)
            key = f"{setting}_{name}"
            out[f"{key}_train"] = accuracy(net, *data["train"])
            out[key] = accuracy(net, *data["test"])
            if parts:
                out[f"{key}_stopped"] = curve[curve[:, 0].argmax(), 1].item()
            out[f"{key}_damaged"] = single_pass(with_dropout(net, 0.5, seed), *data["test"])
            if name == "strong":
                out |= four_uses(net, *data["test"])
    for setting in SETTINGS:
        out[f"{setting}_gain"] = out[f"{setting}_half"] - out[f"{setting}_control"]
    out["stopped_gain"] = out["noisy_strong_stopped"] - out["noisy_control_stopped"]
    out["strong_gain"] = out["noisy_strong"] - out["noisy_control"]
    return out


def experiment_band(seed: int) -> dict[str, float]:
    """Monte Carlo dropout on the sine: width of the band where there are data and where not."""
    out = {}
    for n in (20, 200):
        grid, mean, sd = sine_band(n, 0.1, seed)
        error = (mean - torch.sin(4 * grid)).abs()  # (81,)
        near = (grid.abs() > 0.3) & (grid.abs() < 1)
        far = grid.abs() > 1.5
        out[f"near_{n}"] = sd[near].mean().item()
        out[f"far_{n}"] = sd[far].mean().item()
        out[f"far_error_{n}"] = error[far].mean().item()
        out[f"covered_near_{n}"] = (error < 2 * sd)[near].float().mean().item()
        out[f"covered_far_{n}"] = (error < 2 * sd)[far].float().mean().item()
    return out


def experiment_noise(seed: int) -> dict[str, float]:
    """Noise on the inputs of a linear model: clean loss, mean noisy loss, equation (7)."""
    g = torch.Generator().manual_seed(seed)
    X = torch.randn(100, 5, generator=g, dtype=torch.float64)  # (N, d)
    y = X.sum(1) + torch.randn(100, generator=g, dtype=torch.float64)  # (N,)
    w = torch.tensor([2.0, -1.0, 0.5, 1.0, 0.0], dtype=torch.float64)
    clean = (X @ w - y).square().mean()
    noisy = input_noise_loss(w, X, y, 0.5, 1000, g)
    predicted = clean + 0.25 * w.square().sum()
    return {
        "clean": clean.item(),
        "noisy": noisy.item(),
        "predicted": predicted.item(),
        "ratio": (noisy / predicted).item(),
    }


if __name__ == "__main__":
    print("three settings", experiment_digits(0))
    print("band", experiment_band(0))
    print("input noise", experiment_noise(0))
    figure_sweep()
    figure_band()
    plt.show()
