"""Batch normalisation, and a complete training programme for handwritten digits.

The default data are scikit-learn's 8x8 digits; the notes' own network runs on MNIST, whose
results are recorded by `python -m snippets.training.batch_norm --record`.
"""

# --8<-- [start:imports]
import copy
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from snippets.data import batches, load_digits, load_mnist

# --8<-- [end:imports]

RECORD = Path(__file__).parents[2] / "records" / "batch_norm.json"
RATES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


# --8<-- [start:net]
Norm = Callable[[int], nn.Module] | None


class BatchNet(nn.Module):
    """Hidden layers Linear - norm - ReLU, then Linear; the notes' widths are (784, 300, 100, 10).

    norm makes the layer that normalises h features; None leaves it out.
    """

    def __init__(self, widths: Sequence[int], norm: Norm = nn.BatchNorm1d, bias: bool = True):
        super().__init__()
        layers = []
        for fan_in, fan_out in pairwise(widths[:-1]):
            layers.append(nn.Linear(fan_in, fan_out, bias=bias))
            if norm is not None:
                layers.append(norm(fan_out))
            layers.append(nn.ReLU())
        self.hidden = nn.Sequential(*layers)
        self.output = nn.Linear(widths[-2], widths[-1])

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, q) of inputs (B, ...)."""
        return self.output(self.hidden(x.flatten(1)))


# --8<-- [end:net]


# --8<-- [start:loop]
def train_one_epoch(
    model: nn.Module,
    data: tuple[Tensor, Tensor],
    optimizer: torch.optim.Optimizer,
    size: int,
    generator: torch.Generator,
) -> tuple[float, float]:
    """Train on shuffled mini-batches; return mean loss and accuracy over the N samples."""
    model.train()  # (1)!
    loss_sum, correct = 0.0, 0
    for x, y in batches(*data, size, generator):  # (B, d), (B,)
        logits = model(x)  # (B, q)
        loss = F.cross_entropy(logits, y)  # mean over the batch
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss_sum += loss.item() * len(y)  # (2)!
        correct += (logits.argmax(1) == y).sum().item()
    return loss_sum / len(data[1]), correct / len(data[1])


@torch.no_grad()  # (3)!
def evaluate(model: nn.Module, data: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """Return mean loss and accuracy in evaluation mode."""
    model.eval()  # (4)!
    logits = torch.cat([model(x) for x in data[0].split(1000)])  # (N, q)
    accuracy = (logits.argmax(1) == data[1]).double().mean()
    return F.cross_entropy(logits, data[1]).item(), accuracy.item()


# --8<-- [end:loop]


# --8<-- [start:digits_run]
def digits_run(
    norm: Norm,
    lr: float,
    epochs: int,
    seed: int,
    size: int = 64,
    scale: float = 1.0,
    rows: int = 1200,
) -> tuple[nn.Module, float]:
    """Train 64-64-32-10 on `rows` digits, pixels in [0, scale]; return it and its test accuracy."""
    X, y, X_test, y_test = load_digits()
    torch.manual_seed(seed)
    model = BatchNet((64, 64, 32, 10), norm)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        train_one_epoch(model, (scale * X[:rows], y[:rows]), optimizer, size, generator)
    return model, evaluate(model, (scale * X_test, y_test))[1]


# --8<-- [end:digits_run]


# --8<-- [start:backward]
def batch_norm_grad(x: Tensor, gamma: Tensor, grad_y: Tensor, eps: float = 1e-5) -> Tensor:
    """Gradient (10) of the loss with respect to x in training; x, grad_y: (B, d), gamma: (d,)."""
    s = (x.var(0, correction=0) + eps).sqrt()  # (d,)
    x_hat = (x - x.mean(0)) / s  # (B, d)
    g = gamma * grad_y  # (B, d)
    return (g - g.mean(0) - x_hat * (g * x_hat).mean(0)) / s


# --8<-- [end:backward]


# --8<-- [start:gap]
def gap(size: int) -> float:
    """Root mean square of x_hat - z for Gaussian z: equations (11) and (12)."""
    log_ratio = math.lgamma(size / 2) - math.lgamma((size - 1) / 2)
    return math.sqrt(2 - 2 * math.sqrt(2 / size) * math.exp(log_ratio))


def measure_gap(z: Tensor, size: int) -> float:
    """The same from data: z (N, d) with mean 0 and variance 1, cut into batches."""
    groups = z[: len(z) // size * size].view(-1, size, z.shape[1])  # (N // B, B, d)
    std = groups.std(1, correction=0, keepdim=True)  # (N // B, 1, d)
    x_hat = (groups - groups.mean(1, keepdim=True)) / std
    return (x_hat - groups).square().mean().sqrt().item()


# --8<-- [end:gap]


# --8<-- [start:batch_norm]
def batch_norm(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    running: tuple[Tensor, Tensor],
    training: bool,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise every feature of x (B, d), or every channel of x (B, C, H, W).

    gamma, beta and running = (mean, variance): (d,) or (C,). Training updates `running` in place.
    Raises ValueError if training sees one value per feature: its variance says nothing.
    """
    dims = [i for i in range(x.ndim) if i != 1]
    shape = [1, -1] + [1] * (x.ndim - 2)
    mean, var = running
    if training:
        n = x.numel() // x.shape[1]  # B, or B * H * W
        if n < 2:
            raise ValueError("training needs more than one value per feature")
        mean, var = x.mean(dims), x.var(dims, correction=0)
        with torch.no_grad():
            running[0].lerp_(mean, momentum)
            running[1].lerp_(var * n / (n - 1), momentum)  # (1)!
    x_hat = (x - mean.view(shape)) / (var.view(shape) + eps).sqrt()
    return gamma.view(shape) * x_hat + beta.view(shape)


# --8<-- [end:batch_norm]


# --8<-- [start:fold]
@torch.no_grad()
def fold(linear: nn.Linear, norm: nn.BatchNorm1d) -> nn.Linear:
    """Return one Linear that does what linear and norm do in evaluation mode."""
    factor = norm.weight / (norm.running_var + norm.eps).sqrt()  # (h,)
    bias = linear.bias if linear.bias is not None else torch.zeros_like(factor)
    folded = nn.Linear(linear.in_features, linear.out_features)
    folded.weight.copy_(factor[:, None] * linear.weight)  # (h, d)
    folded.bias.copy_(factor * (bias - norm.running_mean) + norm.bias)
    return folded


# --8<-- [end:fold]


# --8<-- [start:train_mode]
@torch.no_grad()
def train_mode_accuracy(model: nn.Module, groups: Sequence[tuple[Tensor, Tensor]]) -> float:
    """Accuracy when every group (x, y) is normalised by its own statistics; model is kept."""
    model = copy.deepcopy(model).train()
    correct = sum((model(x).argmax(1) == y).sum().item() for x, y in groups)
    return correct / sum(len(y) for _, y in groups)


# --8<-- [end:train_mode]


# --8<-- [start:prepare]
def prepare() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return digits to train (1200), to choose (237) and to test (360), pixels in [-1, 1]."""
    X, y, X_test, y_test = load_digits()
    X, X_test = (X - 0.5) / 0.5, (X_test - 0.5) / 0.5
    return (X[:1200], y[:1200]), (X[1200:], y[1200:]), (X_test, y_test)


# --8<-- [end:prepare]


# --8<-- [start:run]
@dataclass
class Run:
    """All that training needs to go on: a checkpoint holds every field."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    generator: torch.Generator  # order of the mini-batches
    history: list[list[float]] = field(default_factory=list)  # one row an epoch
    best: float = 0.0  # validation accuracy
    best_state: dict[str, Tensor] = field(default_factory=dict)


def start(
    widths: Sequence[int],
    norm: Norm = nn.BatchNorm1d,
    lr: float = 0.1,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Run:
    """Return a run before its first epoch."""
    torch.manual_seed(seed)
    model = BatchNet(widths, norm).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    return Run(model, optimizer, torch.Generator().manual_seed(seed))


# --8<-- [end:run]


# --8<-- [start:checkpoint]
def save(run: Run, path: Path) -> None:
    """Write a checkpoint: first beside `path`, then in its place, so that it is never half."""
    state = {
        "model": run.model.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "generator": run.generator.get_state(),
        "history": run.history,
        "best": run.best,
        "best_state": run.best_state,
    }
    part = path.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, path)


def resume(run: Run, path: Path) -> None:
    """Bring a fresh run of the same widths to where the checkpoint stands."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    run.model.load_state_dict(state["model"])
    run.optimizer.load_state_dict(state["optimizer"])
    run.generator.set_state(state["generator"])
    run.history, run.best, run.best_state = state["history"], state["best"], state["best_state"]


# --8<-- [end:checkpoint]


# --8<-- [start:fit]
def fit(
    run: Run,
    train: tuple[Tensor, Tensor],
    valid: tuple[Tensor, Tensor],
    epochs: int,
    size: int = 64,
    path: Path | None = None,
) -> None:
    """Train until the run has `epochs` epochs, keep the best state, save after every epoch."""
    while len(run.history) < epochs:
        trained = train_one_epoch(run.model, train, run.optimizer, size, run.generator)
        checked = evaluate(run.model, valid)
        run.history.append([*trained, *checked])  # loss, accuracy, loss, accuracy
        if checked[1] > run.best:
            run.best = checked[1]
            run.best_state = copy.deepcopy(run.model.state_dict())  # (1)!
        if path is not None:
            save(run, path)


# --8<-- [end:fit]


# --8<-- [start:confusion]
@torch.no_grad()
def predictions(model: nn.Module, X: Tensor) -> Tensor:
    """Return the classes (N,) that model predicts in evaluation mode."""
    model.eval()
    return model(X).argmax(1)


def confusion_matrix(y: Tensor, y_hat: Tensor, classes: int = 10) -> Tensor:
    """Count the pairs: row = true class, column = predicted class; (classes, classes)."""
    return torch.bincount(y * classes + y_hat, minlength=classes**2).view(classes, classes)


# --8<-- [end:confusion]


def experiment_scale(seed: int) -> dict[str, float]:
    """Test accuracy after 5 epochs for pixels in [0, 1], [0, 16], [0, 255] and [0, 0.001]."""
    scales = {"tiny": 0.001, "1": 1.0, "16": 16.0, "255": 255.0}
    arms = {"plain": None, "bn": nn.BatchNorm1d}
    return {
        f"{arm}_{name}": digits_run(norm, 0.1, 5, seed, scale=scale)[1]
        for arm, norm in arms.items()
        for name, scale in scales.items()
    }


@cache
def rate_accuracy(norm: Norm, lr: float, seed: int) -> tuple[float, float]:
    """Accuracy on the validation and the test rows after 3 epochs at one learning rate."""
    X, y, _, _ = load_digits()
    model, test = digits_run(norm, lr, 3, seed)
    return evaluate(model, (X[1200:], y[1200:]))[1], test


def experiment_rates(seed: int) -> dict[str, float]:
    """Test accuracy at the rate that is best in validation; how many rates reach 0.9 there."""
    result = {}
    for arm, norm in {"plain": None, "bn": nn.BatchNorm1d}.items():
        scores = [rate_accuracy(norm, lr, seed) for lr in RATES]
        result[f"{arm}_best"] = max(scores)[1]
        result[f"{arm}_notes"] = scores[RATES.index(0.01)][1]
        result[f"{arm}_good"] = sum(valid > 0.9 for valid, _ in scores)
    return result


def experiment_small(seed: int) -> dict[str, float]:
    """Test accuracy after one epoch of 600 digits in small batches, three normalisations."""
    arms = {
        "bn": nn.BatchNorm1d,
        "ln": nn.LayerNorm,
        "gn": lambda width: nn.GroupNorm(width // 8, width),
    }
    result = {"bn_4": digits_run(nn.BatchNorm1d, 0.1, 1, seed, size=4, rows=600)[1]}
    for arm, norm in arms.items():
        for size in (2, 16):
            result[f"{arm}_{size}"] = digits_run(norm, 0.1, 1, seed, size=size, rows=600)[1]
    return result


def cut(X: Tensor, y: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    """Cut (N, d) and (N,) into groups of `size` in their given, random order."""
    return list(zip(X.split(size), y.split(size), strict=True))


@cache
def digits_model(seed: int) -> tuple[nn.Module, float]:
    """The BatchNet of the failure and the guess: 8 epochs at rate 0.1."""
    return digits_run(nn.BatchNorm1d, 0.1, 8, seed)


def experiment_modes(seed: int) -> dict[str, float]:
    """Test accuracy of one trained network in evaluation mode and, four ways, in training mode."""
    model, accuracy = digits_model(seed)
    _, _, X, y = load_digits()
    one_class = [(X[y == k], y[y == k]) for k in range(10)]
    result = {"eval": accuracy, "one_class": train_mode_accuracy(model, one_class)}
    for size in (60, 4, 2):
        result[f"mixed_{size}"] = train_mode_accuracy(model, cut(X, y, size))
    return result


def experiment_gap(seed: int) -> dict[str, float]:
    """Measured root mean square gap between batch and population statistics, Gaussian data."""
    g = torch.Generator().manual_seed(seed)
    z = torch.randn(4096, 32, generator=g, dtype=torch.float64)
    return {f"b{size}": measure_gap(z, size) for size in (2, 4, 16, 64)}


def experiment_stuck(seed: int) -> dict[str, float]:
    """Test accuracy after 4 epochs, with and without model.train() after each evaluation."""
    X, y, X_test, y_test = load_digits()
    result = {}
    for name, lr, back in (
        ("right_low", 0.1, True),
        ("stuck_low", 0.1, False),
        ("right_high", 1.0, True),
        ("stuck_high", 1.0, False),
    ):
        torch.manual_seed(seed)
        model = BatchNet((64, 64, 32, 10))
        optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        g = torch.Generator().manual_seed(seed)
        for _ in range(4):
            if back:
                model.train()
            for x, target in batches(X[:1200], y[:1200], 64, g):
                optimizer.zero_grad()
                F.cross_entropy(model(x), target).backward()
                optimizer.step()
            result[name] = evaluate(model, (X_test, y_test))[1]
    return result


def experiment_tuned(seed: int) -> dict[str, float]:
    """Test accuracy after 8 epochs: default start, then inputs standardised and He start."""
    X, y, X_test, y_test = load_digits()
    mean, std = X[:1200].mean(0), X[:1200].std(0) + 0.1  # (d,), 0.1 for dead pixels
    result = {}
    for arm, norm in {"plain": None, "bn": nn.BatchNorm1d}.items():
        result[arm] = digits_run(norm, 0.1, 8, seed)[1]
        run = start((64, 64, 32, 10), norm, lr=0.1, seed=seed)
        for layer in run.model.modules():
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)
        for _ in range(8):
            data = ((X[:1200] - mean) / std, y[:1200])
            train_one_epoch(run.model, data, run.optimizer, 64, run.generator)
        result[f"{arm}_tuned"] = evaluate(run.model, ((X_test - mean) / std, y_test))[1]
    return result


@cache
def programme(norm: Norm, seed: int) -> tuple[Run, float, float]:
    """The programme on digits, 15 epochs: the run, test loss and accuracy of the best state."""
    train, valid, test = prepare()
    run = start((64, 64, 32, 10), norm, lr=0.1, seed=seed)
    fit(run, train, valid, epochs=15)
    best = BatchNet((64, 64, 32, 10), norm)
    best.load_state_dict(run.best_state)
    return run, *evaluate(best, test)


def experiment_digits(seed: int) -> dict[str, float]:
    """Test accuracy of the programme, with and without normalisation, and its first losses."""
    result = {}
    for arm, norm in {"plain": None, "bn": nn.BatchNorm1d}.items():
        run, _, accuracy = programme(norm, seed)
        result[f"{arm}_test"] = accuracy
        result[f"{arm}_valid"] = run.best
        reached = [epoch + 1 for epoch, row in enumerate(run.history) if row[3] > 0.9]
        result[f"{arm}_epoch"] = reached[0] if reached else math.inf
    return result


def figure_distribution() -> Figure:
    """Spread of 12 hidden pre-activations before and after normalisation, untrained network."""
    fig, axes = plt.subplots(2, 1, sharex=True, figsize=(4.8, 4.6), layout="constrained")
    X, _, _, _ = load_digits()
    torch.manual_seed(0)
    model = BatchNet((64, 64, 32, 10)).train()
    with torch.no_grad():
        before = model.hidden[0](16 * X[:1200])  # (N, 64)
        after = model.hidden[1](before)
    units = range(1, 13)
    for ax, values, title in zip(axes, (before, after), ("before", "after"), strict=True):
        low, middle, high = values[:, :12].quantile(torch.tensor([0.05, 0.5, 0.95]), dim=0)
        ax.vlines(units, low, high, color="C0", linewidth=5, alpha=0.5)
        ax.plot(units, middle, "C3o", markersize=5)
        ax.set(ylabel=f"{title} norm")
        ax.grid(True, axis="y")
    axes[1].set(xlabel="hidden unit", xticks=[1, 4, 8, 12], ylim=(-3, 3))
    return fig


def figure_gap() -> Figure:
    """Gap between batch and population statistics against the batch size."""
    fig, ax = plt.subplots(layout="constrained")
    sizes = (2, 3, 4, 8, 16, 32, 64, 128, 256)
    ax.loglog(sizes, [gap(size) for size in sizes], "C0-", label="theory")
    g = torch.Generator().manual_seed(0)
    z = torch.randn(4096, 32, generator=g, dtype=torch.float64)
    ax.loglog(sizes, [measure_gap(z, size) for size in sizes], "C0s", label="Gaussian samples")
    model, _ = digits_model(0)
    X, _, _, _ = load_digits()
    with torch.no_grad():
        hidden = model.hidden[0](X)  # (1437, 64)
    hidden = (hidden - hidden.mean(0)) / hidden.std(0, correction=0)
    ax.loglog(sizes, [measure_gap(hidden, size) for size in sizes], "C3x", label="trained net")
    ax.set(xlabel="batch size $B$", ylabel=r"RMS gap of $\hat{x}$")
    ax.set_xticks([2, 8, 32, 128], ["2", "8", "32", "128"])
    ax.set_yticks([0.1, 0.3, 1.0], ["0.1", "0.3", "1"])
    ax.minorticks_off()
    ax.grid(True)
    ax.legend(loc="lower left", frameon=False)
    return fig


def figure_modes() -> Figure:
    """Test accuracy in training mode against the batch size, three networks."""
    fig, ax = plt.subplots(layout="constrained")
    _, _, X, y = load_digits()
    sizes = (2, 4, 8, 20, 60, 180, 360)
    models = [digits_model(seed) for seed in range(3)]
    rows = [[train_mode_accuracy(model, cut(X, y, size)) for size in sizes] for model, _ in models]
    ax.axhline(sum(a for _, a in models) / 3, color="C0", label="evaluation mode")
    ax.semilogx(sizes, torch.tensor(rows).mean(0), "C3o--", label="training mode, mixed")
    one_class = [(X[y == k], y[y == k]) for k in range(10)]
    sorted_ = [train_mode_accuracy(model, one_class) for model, _ in models]
    ax.semilogx(36, sum(sorted_) / 3, "C1X", markersize=9, label="training mode, one class")
    ax.set(xlabel="size of a test batch", ylabel="test accuracy", ylim=(0, 1.05))
    ax.set_xticks([2, 8, 36, 180], ["2", "8", "36", "180"])
    ax.minorticks_off()
    ax.grid(True)
    ax.legend(loc="center right", bbox_to_anchor=(1, 0.45), frameon=False)
    return fig


def figure_rates() -> Figure:
    """Test accuracy after 3 epochs against the learning rate, two seeds each."""
    fig, ax = plt.subplots(layout="constrained")
    for norm, style, label in ((nn.BatchNorm1d, "C0s", "batch norm"), (None, "C3o", "without")):
        values = torch.tensor([[rate_accuracy(norm, lr, s)[1] for lr in RATES] for s in range(2)])
        ax.semilogx(RATES, values.T, style, markersize=4)
        line = "-" if norm else "--"
        ax.semilogx(RATES, values.mean(0), style[:2] + line, label=label)
    ax.set(xlabel=r"learning rate $\eta$", ylabel="test accuracy", ylim=(0, 1.05))
    ax.grid(True)
    fig.legend(loc="outside upper center", ncols=2, frameon=False)
    return fig


def figure_curves() -> Figure:
    """Training loss and validation accuracy of the programme, with and without."""
    fig, axes = plt.subplots(2, 1, sharex=True, figsize=(4.8, 4.8), layout="constrained")
    for norm, style, label in ((nn.BatchNorm1d, "C0s-", "batch norm"), (None, "C3o--", "without")):
        history = torch.tensor([programme(norm, seed)[0].history for seed in range(2)]).mean(0)
        epochs = range(1, len(history) + 1)
        axes[0].semilogy(epochs, history[:, 0], style, markersize=4, label=label)
        axes[1].plot(epochs, history[:, 3], style, markersize=4)
    axes[0].set(ylabel="training loss")
    axes[1].set(xlabel="epoch", ylabel="validation accuracy", ylim=(0, 1.05), xticks=[1, 5, 10, 15])
    for ax in axes:
        ax.grid(True)
    axes[0].legend(loc="lower left", frameon=False)
    return fig


def mistakes() -> tuple[Tensor, Tensor, Tensor]:
    """Images, labels and predictions of the programme's test set, seed 0, best state."""
    run, _, _ = programme(nn.BatchNorm1d, 0)
    model = BatchNet((64, 64, 32, 10))
    model.load_state_dict(run.best_state)
    _, _, (X, y) = prepare()
    return X, y, predictions(model, X)


def figure_confusion() -> Figure:
    """Confusion matrix of the programme on the 360 test digits, seed 0."""
    fig, ax = plt.subplots(figsize=(4.8, 4.4), layout="constrained")
    _, y, y_hat = mistakes()
    counts = confusion_matrix(y, y_hat)
    for i, j in counts.nonzero().tolist():
        ax.text(j, i, counts[i, j].item(), ha="center", va="center")
        if i != j:
            ax.add_patch(plt.Rectangle((j - 0.5, i - 0.5), 1, 1, color="C3", alpha=0.35))
    ax.set(xlabel="predicted", ylabel="true", xticks=range(10), yticks=range(10))
    ax.set(xlim=(-0.5, 9.5), ylim=(9.5, -0.5), aspect="equal")
    return fig


def figure_mistakes() -> Figure:
    """The misclassified test digits of the same network, true class and prediction."""
    X, y, y_hat = mistakes()
    wrong = (y != y_hat).nonzero().squeeze(1)[:8]
    fig, axes = plt.subplots(2, 4, figsize=(4.8, 3.0), layout="constrained")
    for ax in axes.flat:
        ax.axis("off")
    for ax, i in zip(axes.flat, wrong.tolist(), strict=False):
        ax.imshow(X[i].view(8, 8), cmap="gray")
        ax.set_title(f"{y[i]} as {y_hat[i]}", fontsize=11)
    return fig


def mnist_run(norm: Norm, lr: float, seed: int, epochs: int = 20) -> dict[str, list[float]]:
    """The notes' training: 784-300-100-10 on all of MNIST, batches of 64, plain SGD."""
    X, y, X_test, y_test = load_mnist()
    train = ((X.flatten(1) - 0.5) / 0.5, y)
    test = ((X_test.flatten(1) - 0.5) / 0.5, y_test)
    run = start((784, 300, 100, 10), norm, lr=lr, seed=seed)
    curves = {"train_loss": [], "test_accuracy": []}
    for _ in range(epochs):
        loss, _ = train_one_epoch(run.model, train, run.optimizer, 64, run.generator)
        curves["train_loss"].append(round(loss, 5))
        curves["test_accuracy"].append(round(evaluate(run.model, test)[1], 4))
    return curves


def record(seeds: range = range(5)) -> dict:
    """Run the notes' training on MNIST and return what records/batch_norm.json holds."""
    import platform
    import time
    from datetime import date

    torch.set_num_threads(1)
    clock = time.process_time()
    arms = {"bn": nn.BatchNorm1d, "plain": None}
    results = {arm: [mnist_run(norm, 0.01, seed) for seed in seeds] for arm, norm in arms.items()}
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        cpu = platform.processor() or platform.machine()
    return {
        "data": "MNIST (LeCun, Cortes, Burges), 60000 to train, 10000 to test",
        "command": "python -m snippets.training.batch_norm --record",
        "date": date.today().isoformat(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "machine": f"{cpu}, {os.cpu_count()} cores, {platform.system()}",
        "cpu_seconds": round(time.process_time() - clock, 1),
        "seeds": list(seeds),
        "results": results,
    }


if __name__ == "__main__":
    import sys

    if "--record" in sys.argv:
        RECORD.parent.mkdir(exist_ok=True)
        RECORD.write_text(json.dumps(record()).replace('}, {"', '},\n{"') + "\n")
        sys.exit()
    for experiment in (experiment_scale, experiment_rates, experiment_modes, experiment_small):
        print(experiment.__name__, experiment(seed=0))
    for experiment in (experiment_gap, experiment_stuck, experiment_tuned, experiment_digits):
        print(experiment.__name__, experiment(seed=0))
    figure_rates()
    plt.show()
