"""Logistic regression: log-odds, cross-entropy on logits, separable data, thresholds.

The data are two round Gaussian clouds around +m and -m with m = (1.2, 0.9), so that the true
log-odds are linear in x: w = 2m = (2.4, 1.8) and b = log(positive / (1 - positive)).
"""

# --8<-- [start:imports]
import math
from collections.abc import Callable

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

# --8<-- [end:imports]

SEEDS = range(10)


# --8<-- [start:naive]
def naive_bce(z: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy as the formula is written; z, y: (n,). Wrong for large |z|."""
    p = torch.sigmoid(z)  # (n,)
    return -(y * p.log() + (1 - y) * (1 - p).log()).mean()


def clamped_bce(z: Tensor, y: Tensor) -> Tensor:
    """The same by nn.BCELoss, which clamps both logarithms at -100; z, y: (n,)."""
    return F.binary_cross_entropy(torch.sigmoid(z), y)


# --8<-- [end:naive]


# --8<-- [start:blobs]
def make_blobs(n: int, seed: int, d: int = 2, positive: float = 0.5) -> tuple[Tensor, Tensor]:
    """Two Gaussian clouds of unit variance around +m (label 1) and -m (label 0).

    m = (1.2, 0.9, 0, ..., 0) has length 1.5. Exactly round(n * positive) labels are 1.

    Returns:
        X (n, d), y (n,), both float32.
    """
    g = torch.Generator().manual_seed(seed)
    y = (torch.randperm(n, generator=g) < round(n * positive)).float()  # (n,)
    m = torch.zeros(d)
    m[:2] = torch.tensor([1.2, 0.9])
    X = torch.randn(n, d, generator=g) + (2 * y - 1).unsqueeze(1) * m  # (n, d)
    return X, y


# --8<-- [end:blobs]


# --8<-- [start:train_from]
def train_from(
    w: Tensor,
    loss_fn: Callable[[Tensor, Tensor], Tensor],
    X: Tensor,
    y: Tensor,
    lr: float,
    steps: int,
) -> tuple[Tensor, Tensor]:
    """Gradient descent on (w, b) from the given w (d,) and b = 0; returns w (d,), b ()."""
    b = torch.zeros(())
    for _ in range(steps):
        w, b = w.detach().requires_grad_(), b.detach().requires_grad_()
        grads = torch.autograd.grad(loss_fn(X @ w + b, y), (w, b))
        w, b = w - lr * grads[0], b - lr * grads[1]
    return w.detach(), b.detach()


def accuracy(z: Tensor, y: Tensor) -> float:
    """Share of samples on the right side of the boundary z = 0; z, y: (n,)."""
    return ((z > 0) == (y == 1)).float().mean().item()


# --8<-- [end:train_from]


# --8<-- [start:scratch]
def sigmoid(z: Tensor) -> Tensor:
    """1 / (1 + e^-z) without overflow: only e^-|z| is ever computed."""
    e = torch.exp(-z.abs())  # in (0, 1]
    return torch.where(z >= 0, 1 / (1 + e), e / (1 + e))


def bce_stable(z: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy of logits z and labels y in {0, 1}, equation (9); z, y: (n,)."""
    positive_part = (z + z.abs()) / 2  # (1)!
    return (positive_part - z * y + torch.log1p(torch.exp(-z.abs()))).mean()


def gradient(w: Tensor, b: Tensor, X: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient of the mean cross-entropy, equation (11): (d,) and ().

    w: (d,), b: (), X: (n, d), y: (n,).
    """
    error = (sigmoid(X @ w + b) - y) / len(y)  # (n,)
    return error @ X, error.sum()


# --8<-- [end:scratch]


# --8<-- [start:descend]
def descend(
    X: Tensor, y: Tensor, lr: float, steps: int, decay: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Full-batch gradient descent from zero on the loss + decay / 2 * |w|^2.

    Returns:
        The paths W (steps + 1, d) and B (steps + 1,).
    """
    w, b = X.new_zeros(X.shape[1]), X.new_zeros(())
    W, B = [w], [b]
    for _ in range(steps):
        grad_w, grad_b = gradient(w, b, X, y)
        w = w - lr * (grad_w + decay * w)
        b = b - lr * grad_b
        W.append(w)
        B.append(b)
    return torch.stack(W), torch.stack(B)


# --8<-- [end:descend]


# --8<-- [start:module]
class LogisticRegression(nn.Module):
    """One linear output; forward returns logits, not probabilities."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.linear = nn.Linear(d, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, X: Tensor) -> Tensor:
        """X: (n, d); returns z: (n,)."""
        return self.linear(X).squeeze(1)  # (1)!

    @torch.no_grad()
    def probability(self, X: Tensor) -> Tensor:
        """P(Y = 1) of every row; X: (n, d), returns (n,)."""
        return torch.sigmoid(self(X))


# --8<-- [end:module]


# --8<-- [start:train]
def train(
    model: LogisticRegression, X: Tensor, y: Tensor, lr: float, steps: int, decay: float = 0.0
) -> list[float]:
    """Full-batch SGD on the logits; returns the loss before each step. X: (n, d), y: (n,)."""
    groups = [
        {"params": [model.linear.weight], "weight_decay": decay},  # (1)!
        {"params": [model.linear.bias], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(groups, lr=lr)
    loss_fn = nn.BCEWithLogitsLoss()
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_fn(model(X), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# --8<-- [end:train]


# --8<-- [start:decision_line]
def decision_line(model: LogisticRegression, p: float = 0.5) -> tuple[float, float]:
    """Slope and intercept of x2 = slope * x1 + intercept, where P(Y = 1) = p.

    Raises:
        ValueError: the model has not two features, or the line is vertical (w2 = 0).
    """
    w, b = model.linear.weight[0], model.linear.bias.item()
    if len(w) != 2 or w[1] == 0:
        raise ValueError("the line needs two features and w2 != 0")
    z = math.log(p / (1 - p))
    return -(w[0] / w[1]).item(), (z - b) / w[1].item()


# --8<-- [end:decision_line]


# --8<-- [start:max_margin]
def max_margin(X: Tensor, y: Tensor) -> float:
    """Distance from the best separating plane to the nearest sample; X: (n, d), y: (n,).

    The plane is that of a linear support vector machine; X has to be separable.
    """
    from sklearn.svm import SVC  # (1)!

    machine = SVC(kernel="linear", C=1e8).fit(X.numpy(), y.numpy())
    return 1 / float((machine.coef_**2).sum()) ** 0.5


# --8<-- [end:max_margin]


# --8<-- [start:precision_recall]
def precision_recall(z: Tensor, y: Tensor, threshold: float = 0.5) -> tuple[float, float]:
    """Precision TP / (TP + FP) and recall TP / (TP + FN) of "P(Y = 1) > threshold".

    z: logits (n,), y: labels (n,). A ratio 0 / 0 is nan.
    """
    said = z > math.log(threshold / (1 - threshold))  # (n,)
    hits = (said & (y == 1)).sum()
    return (hits / said.sum()).item(), (hits / (y == 1).sum()).item()


def mean_cost(z: Tensor, y: Tensor, threshold: float, miss: float) -> float:
    """Mean cost when a false alarm costs 1 and a missed positive costs `miss`."""
    said = z > math.log(threshold / (1 - threshold))  # (n,)
    return (miss * (~said & (y == 1)) + (said & (y == 0)).float()).mean().item()


# --8<-- [end:precision_recall]


# --8<-- [start:rings]
def make_rings(n: int) -> tuple[Tensor, Tensor]:
    """n points evenly on a circle of radius 1 (label 1), n on radius 2 (label 0).

    Returns:
        X (2n, 2), y (2n,).
    """
    angle = torch.arange(n) * (2 * math.pi / n)
    circle = torch.stack([angle.cos(), angle.sin()], dim=1)  # (n, 2)
    return torch.cat([circle, 2 * circle]), torch.cat([torch.ones(n), torch.zeros(n)])


# --8<-- [end:rings]


def figure_naive() -> Figure:
    """Loss of a wrong sample (y = 0) against its logit, three ways to compute it."""
    fig, ax = plt.subplots(layout="constrained")
    z = torch.linspace(0, 120, 481)
    zero = torch.zeros(1)
    ways = {
        "on logits": (bce_stable, "C0-", 5.0),
        "nn.BCELoss": (clamped_bce, "C1--", 2.0),
        "naive (then inf)": (naive_bce, "C3-", 2.0),
    }
    for label, (loss, style, width) in ways.items():
        values = torch.stack([loss(v.view(1), zero) for v in z])
        ax.plot(z, values, style, linewidth=width, label=label, alpha=0.5 if width > 2 else 1.0)
    ax.set(xlabel="logit $z$ of a sample with $y = 0$", ylabel="loss", xlim=(0, 120))
    ax.set_ylim(0, 125)
    ax.grid(True)
    ax.legend(loc="lower right", frameon=False)
    return fig


def figure_sigmoid() -> Figure:
    """The two probabilities against the logit."""
    fig, ax = plt.subplots(layout="constrained")
    z = torch.linspace(-6, 6, 121)
    ax.plot(z, sigmoid(z), "C0", label=r"$P(Y=1)=\sigma(z)$")
    ax.plot(z, sigmoid(-z), "C1--", label=r"$P(Y=0)=\sigma(-z)$")
    ax.plot(z, 0.5 + z / 4, color=plt.rcParams["text.color"], linewidth=0.8, linestyle=":")
    ax.text(1.35, 0.94, "slope 1/4", ha="right")
    ax.set(xlabel="logit $z$", ylabel="probability", ylim=(-0.03, 1.03), xlim=(-6, 6))
    ax.grid(True)
    ax.legend(loc="center right", frameon=False)
    return fig


def figure_boundary() -> Figure:
    """200 training points, the shaded probability, and the lines p = 0.1, 0.5, 0.9."""
    fig, ax = plt.subplots(figsize=(4.8, 4.6), layout="constrained")
    X, y = make_blobs(200, seed=0)
    model = LogisticRegression(2)
    train(model, X, y, lr=0.5, steps=500)
    axis = torch.linspace(-4, 4, 33)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1)  # (33, 33, 2)
    p = model.probability(grid.view(-1, 2)).view(33, 33)
    below, above = [0, 0.02, 0.1, 0.5], [0.5, 0.9, 0.98, 1]
    for levels, alphas, color in (
        (below, (0.36, 0.24, 0.12), "C1"),
        (above, (0.12, 0.24, 0.36), "C0"),
    ):
        for low, high, alpha in zip(levels, levels[1:], alphas, strict=False):
            ax.contourf(axis, axis, p, [low, high], colors=color, alpha=alpha)
    for level, style in ((0.1, "--"), (0.5, "-"), (0.9, "--")):
        slope, intercept = decision_line(model, level)
        ax.axline((0, intercept), slope=slope, color=plt.rcParams["text.color"], linestyle=style)
    for label, style in ((0, "C1s"), (1, "C0o")):
        ax.plot(*X[y == label].T, style, markersize=3.5, label=f"$y = {label}$")
    ax.set(xlabel="$x_1$", ylabel="$x_2$", xlim=(-4, 4), ylim=(-4, 4), aspect="equal")
    fig.legend(loc="outside upper center", ncols=2, frameon=False)
    return fig


def figure_norm() -> Figure:
    """Length of w and test loss against the step, separable data, with and without decay."""
    fig, axes = plt.subplots(2, 1, sharex=True, figsize=(4.8, 4.8), layout="constrained")
    steps = torch.logspace(0, math.log10(3000), 25).long().unique()
    for seed in range(3):
        X, y = make_blobs(30, seed, d=30)
        X_test, y_test = make_blobs(4000, seed + 1000, d=30)
        for decay, style in ((0.0, "C3-"), (0.1, "C0--")):
            W, B = descend(X, y, 0.5, 3000, decay)
            label = rf"$\lambda = {decay:g}$" if seed == 0 else None
            axes[0].plot(steps, W[steps].norm(dim=1), style, label=label)
            Z = X_test @ W[steps].T + B[steps]  # (4000, S)
            axes[1].plot(steps, [bce_stable(z, y_test) for z in Z.T], style)
    axes[1].axhline(math.log(2), color=plt.rcParams["text.color"], linewidth=0.8, linestyle=":")
    axes[1].text(1, math.log(2) - 0.02, r"$\ln 2$: a coin", va="top")
    axes[0].set(ylabel=r"$\Vert w\Vert$")
    axes[1].set(xlabel="step", ylabel="test loss", xscale="log", ylim=(0.2, None))
    for ax in axes:
        ax.grid(True)
    axes[0].legend(loc="upper left", frameon=False)
    return fig


def experiment_start(seed: int) -> dict[str, float]:
    """Train from a wrong start on features 100 times too large, with three losses."""
    X, y = make_blobs(1000, seed)
    X = 100 * X
    start = -torch.ones(2)
    losses = {"naive": naive_bce, "clamped": clamped_bce, "logits": bce_stable}
    out = {"before": accuracy(X @ start, y)}
    for name, loss in losses.items():
        w, b = train_from(start, loss, X, y, lr=0.001, steps=300)
        out[f"{name}_accuracy"] = accuracy(X @ w + b, y)
        out[f"{name}_nan"] = float(w.isnan().any())
        out[f"{name}_moved"] = (w - start).norm().item()
    return out


def experiment_separable(seed: int) -> dict[str, float]:
    """30 samples, 30 features: the length of w and the test error, without and with decay."""
    X, y = make_blobs(30, seed, d=30)
    X_test, y_test = make_blobs(10_000, seed + 1000, d=30)
    out = {}
    for name, decay in (("free", 0.0), ("decay", 0.1)):
        W, B = descend(X, y, 0.5, 3000, decay)
        for k in (100, 1000, 3000):
            out[f"{name}_norm_{k}"] = W[k].norm().item()
            out[f"{name}_train_{k}"] = bce_stable(X @ W[k] + B[k], y).item()
            out[f"{name}_test_{k}"] = bce_stable(X_test @ W[k] + B[k], y_test).item()
        out[f"{name}_train_accuracy"] = accuracy(X @ W[-1] + B[-1], y)
        out[f"{name}_test_accuracy"] = accuracy(X_test @ W[-1] + B[-1], y_test)
        if decay == 0:
            out["growth"] = (W[3000].norm() - W[300].norm()).item()
            out["predicted"] = math.log(10) / max_margin(X, y)
    return out


def experiment_overlap(seed: int) -> dict[str, float]:
    """1000 samples, 2 features, overlapping clouds: the same decay where it is not needed."""
    X, y = make_blobs(1000, seed)
    X_test, y_test = make_blobs(10_000, seed + 1000)
    out = {}
    for name, decay in (("free", 0.0), ("decay", 0.1)):
        W, B = descend(X, y, 0.5, 500, decay)
        z = X_test @ W[-1] + B[-1]
        out[f"{name}_norm"] = W[-1].norm().item()
        out[f"{name}_test"] = bce_stable(z, y_test).item()
        out[f"{name}_accuracy"] = accuracy(z, y_test)
    return out


def experiment_threshold(seed: int) -> dict[str, float]:
    """10 % positives, a miss costs nine false alarms: threshold 0.5 beside 0.1."""
    X, y = make_blobs(5000, seed, positive=0.1)
    X_test, y_test = make_blobs(20_000, seed + 1000, positive=0.1)
    W, B = descend(X, y, 0.5, 500)
    z = X_test @ W[-1] + B[-1]
    out = {"bias": B[-1].item()}
    for name, threshold in (("half", 0.5), ("tenth", 0.1)):
        said = z > math.log(threshold / (1 - threshold))
        out[f"{name}_accuracy"] = (said == (y_test == 1)).float().mean().item()
        precision, recall = precision_recall(z, y_test, threshold)
        out |= {f"{name}_precision": precision, f"{name}_recall": recall}
        out[f"{name}_cost"] = mean_cost(z, y_test, threshold, miss=9.0)
    return out


if __name__ == "__main__":
    features, labels = make_blobs(1000, seed=0)
    classifier = LogisticRegression(2)
    print("first loss", train(classifier, features, labels, lr=0.5, steps=500)[0])
    print("accuracy", accuracy(classifier(features), labels))
    figure_boundary()
    plt.show()
