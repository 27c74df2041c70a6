"""Linear model and mean squared error: everything the chapter runs, in page order."""

# --8<-- [start:imports]
import math

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

# --8<-- [end:imports]

SEEDS = range(10)


# --8<-- [start:model]
def linear(X: Tensor, w: Tensor, b: float = 0.0) -> Tensor:
    """Return the N predictions of f(x) = w^T x + b, one for every row of X."""
    return X @ w + b  # (N, d) @ (d,) -> (N,)


def three_points(b: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return x = 1, 2, 3 and y = 2x + b, both of shape (N,) with N = 3."""
    x = torch.tensor([1.0, 2.0, 3.0])
    return x, 2 * x + b


def loss_table(w: float) -> list[list[float]]:
    """Return the rows [x, y, y_hat, (y_hat - y)^2] of the model y_hat = wx."""
    x, y = three_points()
    y_hat = linear(x.unsqueeze(1), torch.tensor([w]))  # (N, 1) @ (1,) -> (N,)
    loss = (y_hat - y) ** 2  # (N,)
    return torch.stack([x, y, y_hat, loss], dim=1).tolist()  # (N, 4)


# --8<-- [end:model]


def figure_lines() -> Figure:
    """Truth y = 2x, the models 3x and x, and their residuals at the three points."""
    x, y = three_points()
    ends = torch.tensor([0.0, 3.3])
    fig, ax = plt.subplots(layout="constrained")
    for w, color in ((3.0, "C1"), (2.0, "C0"), (1.0, "C2")):
        name = f"$y={w:g}x$" if w > 1 else "$y=x$"
        ax.plot(ends, w * ends, color=color)
        ax.text(3.38, 3.3 * w, name, color=color, va="center")
    for xi, yi in zip(x.tolist(), y.tolist(), strict=True):
        ax.plot([xi, xi], [yi, 3 * xi], color="C1", linestyle=":")
        ax.plot([xi, xi], [yi, xi], color="C2", linestyle=":")
        ax.text(xi - 0.04, 3 * xi + 0.1, f"$+{xi:g}$", color="C1", ha="right", va="bottom")
        ax.text(xi + 0.02, xi - 0.2, f"$-{xi:g}$", color="C2", ha="left", va="top")
    ax.plot(x, y, "o", color="C0")
    ax.set(xlabel="$x$", ylabel="$y$", xlim=(0, 4), ylim=(0, 10.5), xticks=[0, 1, 2, 3])
    return fig


# --8<-- [start:points15]
def fifteen_points() -> tuple[Tensor, Tensor]:
    """Return x and y of shape (N,) with N = 15."""
    x = [3.3, 4.4, 5.5, 6.71, 6.93, 4.168, 9.779, 6.182, 7.59, 2.167, 7.042, 10.791, 5.313]
    y = [1.7, 2.76, 2.09, 3.19, 1.694, 1.573, 3.366, 2.596, 2.53, 1.221, 2.827, 3.465, 1.65]
    return torch.tensor([*x, 7.997, 3.1]), torch.tensor([*y, 2.904, 1.3])


# --8<-- [end:points15]


# --8<-- [start:fit]
def fit(X: Tensor, y: Tensor, steps: int = 2000) -> tuple[nn.Linear, list[float]]:
    """Fit nn.Linear(1, 1) to X of shape (N, 1); return it and all losses.

    The labels are used as they come: (N, 1) is right, (N,) is the trap.
    """
    lr = 0.02
    model = nn.Linear(1, 1)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    losses = []
    for _ in range(steps):
        loss = ((model(X) - y) ** 2).mean()
        model.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= lr * parameter.grad
        losses.append(loss.item())
    return model, losses


# --8<-- [end:fit]


def figure_broadcast() -> Figure:
    """The same 15 points and the same loop; only the shape of the labels differs."""
    x, y = fifteen_points()
    X = x.unsqueeze(1)  # (N, 1)
    ends = torch.tensor([[1.5], [11.5]])
    fig, ax = plt.subplots(layout="constrained")
    ax.plot(x, y, "o", color=plt.rcParams["text.color"], markersize=4)
    cases = (("labels $(N, 1)$", y.unsqueeze(1), "C0", "-"), ("labels $(N,)$", y, "C1", "--"))
    for name, labels, color, style in cases:
        model, _ = fit(X, labels)
        ax.plot(ends, model(ends).detach(), color=color, linestyle=style, label=name)
    ax.set(xlabel="$x$", ylabel="$y$", ylim=(0.9, 4.4))
    ax.legend(loc="upper left", ncols=2)
    return fig


def figure_contour() -> Figure:
    """Contours of MSE(w, b) for y = 2x + 0.5 and the best b for every w."""
    x, y = three_points(b=0.5)
    W, B, Z = mse_surface(x, y, torch.linspace(0, 4, 81), torch.linspace(-3, 4, 71))
    fig, ax = plt.subplots(figsize=(4.8, 3.6), layout="constrained")
    lines = ax.contour(W, B, Z, levels=[1, 4, 9, 16, 25], colors="C0", linewidths=1.2)
    ax.clabel(lines, fontsize=10, fmt="%g", colors=[plt.rcParams["text.color"]])
    w = torch.tensor([0.25, 3.75])
    ax.plot(w, 0.5 - 2 * (w - 2), color="C1", linestyle="--", label="best $b$ for each $w$")
    ax.plot(2, 0.5, "*", color="C1", markersize=14, label="minimum (2, 0.5)")
    ax.set(xlabel="$w$", ylabel="$b$", ylim=(-3, 5.6), yticks=[-2, 0, 2, 4])
    ax.legend(loc="upper center", ncols=2, columnspacing=1, handlelength=1.5)
    return fig


# --8<-- [start:mse]
def mse(y_hat: Tensor, y: Tensor) -> Tensor:
    """Return the mean squared error as a 0-d tensor.

    Raises:
        ValueError: the shapes differ, so that subtracting would broadcast.
    """
    if y_hat.shape != y.shape:
        raise ValueError(f"shapes differ: {y_hat.shape} and {y.shape}")
    return ((y_hat - y) ** 2).mean()


# --8<-- [end:mse]


# --8<-- [start:scan]
def scan_w(x: Tensor, y: Tensor, grid: Tensor) -> Tensor:
    """Return the MSE of y_hat = wx for every w; x, y: (N,), grid: (G,)."""
    y_hat = grid.unsqueeze(1) * x  # (G, 1) * (N,) -> (G, N)
    return ((y_hat - y) ** 2).mean(dim=1)  # (G,)


# --8<-- [end:scan]


def figure_parabola() -> Figure:
    """The 41 scanned values of MSE(w) on the curve (14/3)(w - 2)^2."""
    x, y = three_points()
    grid = torch.linspace(0, 4, 41)
    curve = torch.linspace(0, 4, 200)
    fig, ax = plt.subplots(layout="constrained")
    ax.plot(curve, 14 / 3 * (curve - 2) ** 2, color="C0", label=r"$\frac{14}{3}(w-2)^2$")
    ax.plot(grid, scan_w(x, y, grid), ".", color="C0", label="scan, 41 values")
    ax.plot([1, 3], [14 / 3, 14 / 3], "o--", color="C1", linewidth=1.2)
    ax.text(2, 14 / 3 + 0.5, "14/3", color="C1", ha="center")
    ax.plot(4, 56 / 3, "o", color="C1")
    ax.text(3.85, 56 / 3, "56/3", color="C1", ha="right", va="center")
    ax.set(xlabel="$w$", ylabel="MSE", ylim=(-0.6, 20), yticks=range(0, 21, 5))
    ax.legend(loc="upper center")
    return fig


# --8<-- [start:surface]
def mse_surface(
    x: Tensor,  # (N,)
    y: Tensor,  # (N,)
    ws: Tensor,  # (G,)
    bs: Tensor,  # (K,)
) -> tuple[Tensor, Tensor, Tensor]:
    """Return W, B and Z = MSE(W, B), each of shape (G, K)."""
    W, B = torch.meshgrid(ws, bs, indexing="ij")  # (G, K)
    y_hat = W.unsqueeze(2) * x + B.unsqueeze(2)  # (G, K, N)
    return W, B, ((y_hat - y) ** 2).mean(dim=2)


# --8<-- [end:surface]


def figure_surface() -> Figure:
    """MSE(w, b) for y = 2x + 0.5 as a surface with its minimum."""
    x, y = three_points(b=0.5)
    W, B, Z = mse_surface(x, y, torch.linspace(0, 4, 17), torch.linspace(-2, 3, 17))
    fig = plt.figure(figsize=(4.8, 3.9))
    ax = fig.add_axes((-0.06, 0.02, 1.06, 1.06), projection="3d", computed_zorder=False)
    ax.plot_wireframe(W.numpy(), B.numpy(), Z.numpy(), color="C0", linewidth=0.8)
    ax.plot([2, 2], [0.5, 0.5], [0, 40], color="C1", linestyle=":")
    ax.plot([2], [0.5], [0], "*", color="C1", markersize=14)
    ax.text(2, 0.5, 42, "minimum (2, 0.5)", color="C1", ha="center")
    for axis in (ax.xaxis, ax.yaxis, ax.zaxis):
        axis.set_pane_color((0, 0, 0, 0))
    ax.set(
        xlabel="$w$",
        ylabel="$b$",
        zlabel="MSE",
        zticks=range(0, 50, 20),
        xticks=range(5),
        yticks=range(-2, 4),
    )
    ax.set_box_aspect(None, zoom=0.88)
    ax.view_init(elev=28, azim=-62)
    return fig


# --8<-- [start:slopes]
def slope_mse(x: Tensor, y: Tensor) -> Tensor:
    """Return the w of least MSE for each row; x: (N,), y: (R, N) -> (R,)."""
    return (y @ x) / (x @ x)


def slope_mae(x: Tensor, y: Tensor) -> Tensor:
    """Return the w of least MAE for each row; x: (N,), y: (R, N) -> (R,).

    It is the median of the ratios y / x, each counted with weight x > 0.
    """
    ratio, order = (y / x).sort(dim=1)  # (R, N)
    weight = x[order].cumsum(dim=1)  # (R, N)
    middle = (weight < x.sum() / 2).sum(dim=1, keepdim=True)  # (R, 1)
    return ratio.gather(1, middle).squeeze(1)


# --8<-- [end:slopes]


# --8<-- [start:outliers]
def noisy_labels(x: Tensor, share: float, sets: int, rng: torch.Generator) -> Tensor:
    """Return y = 2x + noise of shape (R, N) with R = sets.

    The noise is standard normal; the given share of it is ten times as wide.
    """
    size = (sets, len(x))
    noise = torch.randn(size, generator=rng)
    outlier = torch.rand(size, generator=rng) < share
    return 2 * x + torch.where(outlier, 10 * noise, noise)


def experiment_outliers(seed: int) -> dict[str, float]:
    """Fit 2000 data sets of 101 points by both losses; compare the errors of w."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.linspace(1, 3, 101)
    result = {}
    for percent in (0, 1, 2, 5, 10):
        y = noisy_labels(x, percent / 100, 2000, rng)  # (R, N)
        by_mse = ((slope_mse(x, y) - 2) ** 2).mean().item()
        by_mae = ((slope_mae(x, y) - 2) ** 2).mean().item()
        result[f"mse_{percent}"] = math.sqrt(by_mse)
        result[f"mae_{percent}"] = math.sqrt(by_mae)
        result[f"ratio_{percent}"] = by_mae / by_mse
    return result


# --8<-- [end:outliers]


def predicted_ratio(share: float) -> float:
    """Return the large-sample variance of the MAE slope over that of the MSE slope."""
    density = (1 - 0.9 * share) / math.sqrt(2 * math.pi)  # of the noise at 0
    variance = 1 + 99 * share
    return 1 / (4 * density**2) / variance


def figure_outliers() -> Figure:
    """Measured and predicted variance ratio against the share of outliers."""
    runs = [experiment_outliers(seed) for seed in SEEDS]
    shares = (0, 1, 2, 5, 10)
    ratios = torch.tensor([[run[f"ratio_{p}"] for run in runs] for p in shares])  # (5, seeds)
    curve = torch.linspace(0, 12, 200)
    fig, ax = plt.subplots(layout="constrained")
    ax.axhline(1, color=plt.rcParams["text.color"], linewidth=1)
    ax.plot(curve, [predicted_ratio(p / 100) for p in curve.tolist()], color="C0", label="derived")
    mean, sd = ratios.mean(dim=1), ratios.std(dim=1)
    ax.errorbar(
        shares, mean, sd, fmt="o", color="C1", capsize=3, label=f"measured, {len(SEEDS)} seeds"
    )
    ax.text(11.9, 1.06, "above: MSE better", ha="right", va="bottom")
    ax.text(11.9, 0.95, "below: MAE better", ha="right", va="top")
    ax.set(xlabel="share of outliers (%)", ylabel="variance ratio MAE / MSE")
    ax.set(yscale="log", ylim=(0.12, 2.4), xlim=(-0.4, 12))
    ax.set_yticks([0.2, 0.5, 1, 2], ["0.2", "0.5", "1", "2"])
    ax.minorticks_off()
    ax.legend(loc="lower left")
    return fig


# --8<-- [start:two_modes]
def two_way_labels(x: Tensor, rng: torch.Generator) -> Tensor:
    """Return y = +x or y = -x by chance, plus a little noise; x, y: (N,)."""
    sign = torch.randint(2, x.shape, generator=rng) * 2.0 - 1
    return sign * x + 0.1 * torch.randn(x.shape, generator=rng)


def experiment_two_modes(seed: int) -> dict[str, float]:
    """Fit two-way labels and, as a control, their absolute values."""
    rng = torch.Generator().manual_seed(seed)
    x = 1 + 2 * torch.rand(2001, generator=rng)  # (N,), between 1 and 3
    y = two_way_labels(x, rng)
    cases = (
        ("mse_two", slope_mse, y),
        ("mae_two", slope_mae, y),
        ("mse_one", slope_mse, y.abs()),
    )
    result = {}
    for name, slope, labels in cases:
        w = slope(x, labels.unsqueeze(0)).item()
        near = (w * x - labels).abs() < 0.5
        result[f"w_{name}"] = w
        result[f"near_{name}"] = 100 * near.float().mean().item()
    return result


# --8<-- [end:two_modes]


def figure_two_modes() -> Figure:
    """Labels that go two ways and the line of least mean squared error between them."""
    rng = torch.Generator().manual_seed(0)
    x = 1 + 2 * torch.rand(400, generator=rng)
    y = two_way_labels(x, rng)
    w = slope_mse(x, y.unsqueeze(0)).item()
    ends = torch.tensor([1.0, 3.0])
    fig, ax = plt.subplots(layout="constrained")
    ax.plot(x, y, ".", color="C0", markersize=4, label="labels")
    ax.plot(ends, w * ends, color="C1", label="least MSE")
    ax.set(xlabel="$x$", ylabel="$y$", xlim=(0.8, 3.1))
    ax.legend(loc="lower right", bbox_to_anchor=(1, 0.26))
    return fig


# --8<-- [start:drawn]
def drawn_minimum(ws: Tensor, bs: Tensor, Z: Tensor, indexing: str) -> tuple[float, float]:
    """Return where a plot over meshgrid(ws, bs) shows the lowest point of Z."""
    W, B = torch.meshgrid(ws, bs, indexing=indexing)
    lowest = Z.argmin()
    return W.flatten()[lowest].item(), B.flatten()[lowest].item()


# --8<-- [end:drawn]


def figure_meshgrid() -> Figure:
    """The same Z drawn over both kinds of grid; a ring marks the true minimum."""
    x, y = three_points(b=0.5)
    axis = torch.arange(40) / 10
    _, _, Z = mse_surface(x, y, axis, axis)
    fig, axes = plt.subplots(1, 2, figsize=(5.0, 2.9), sharey=True, layout="constrained")
    for ax, indexing, verdict in zip(axes, ("xy", "ij"), ("wrong", "right"), strict=True):
        W, B = torch.meshgrid(axis, axis, indexing=indexing)
        ax.contour(W, B, Z, levels=[1, 4, 9, 16, 25, 36], colors="C0", linewidths=1.1)
        ax.plot(2, 0.5, "o", color="C2", markersize=13, fillstyle="none", markeredgewidth=2)
        ax.plot(*drawn_minimum(axis, axis, Z, indexing), "*", color="C1", markersize=11)
        ax.set(title=f'"{indexing}": {verdict}', xlabel="$w$", xticks=range(5), yticks=range(5))
    axes[0].set_ylabel("$b$")
    return fig


if __name__ == "__main__":
    for w in (3.0, 4.0):
        rows = loss_table(w)
        print(f"w = {w:g}: {rows}, MSE {sum(row[3] for row in rows) / len(rows):.4f}")
    x, y = fifteen_points()
    for labels in (y.unsqueeze(1), y):
        model, losses = fit(x.unsqueeze(1), labels)
        print(tuple(labels.shape), model.weight.item(), model.bias.item(), losses[-1])
    print(experiment_outliers(0))
    print(experiment_two_modes(0))
    figures = (figure_lines, figure_broadcast, figure_contour, figure_parabola, figure_surface)
    for figure in (*figures, figure_outliers, figure_two_modes, figure_meshgrid):
        figure()
    plt.show()
