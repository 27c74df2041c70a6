"""Softmax regression: from scores to probabilities, cross-entropy, and its gradient p - y.

The data set is scikit-learn's bundled digits (1797 images of 8x8 pixels, 10 classes); the same
`train` takes any images, flattened to (n, d). Everything runs on the CPU in single precision
unless the caller passes doubles.
"""

# --8<-- [start:imports]
import math
from collections.abc import Callable

import matplotlib.pyplot as plt
import torch
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from sklearn.datasets import load_digits as bundled_digits
from torch import Tensor, nn

from snippets.data import batches, load_digits

# --8<-- [end:imports]

SEEDS = range(10)


# --8<-- [start:softmax]
def softmax_naive(x: Tensor, dim: int = -1) -> Tensor:
    """Equation (3) as it stands: nan where exp overflows or every exp underflows."""
    e = x.exp()
    return e / e.sum(dim, keepdim=True)


def softmax(x: Tensor, dim: int = -1) -> Tensor:
    """Probabilities along `dim`; the largest exponent is exactly 0."""
    return softmax_naive(x - x.amax(dim, keepdim=True), dim)


# --8<-- [end:softmax]


# --8<-- [start:loss]
def one_hot(y: Tensor, q: int) -> Tensor:
    """Rows of the identity matrix. y: (n,), class indices 0 ... q - 1; returns (n, q)."""
    return torch.eye(q)[y]


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Mean of logsumexp(o) - o_y, equation (10). logits: (n, q), y: (n,); returns ()."""
    true = logits[torch.arange(len(y)), y]  # (n,)
    return (logits.logsumexp(1) - true).mean()


def accuracy(logits: Tensor, y: Tensor) -> float:
    """Share of rows whose largest logit is the true class. logits: (n, q), y: (n,)."""
    return (logits.argmax(1) == y).double().mean().item()


# --8<-- [end:loss]


# --8<-- [start:gradients]
def ce_gradient(logits: Tensor, y: Tensor) -> Tensor:
    """d(cross-entropy of each sample)/d(logits) = p - y, equation (12); (n, q)."""
    return softmax(logits) - one_hot(y, logits.shape[1])


def through_softmax(p: Tensor, g: Tensor) -> Tensor:
    """g @ (diag(p) - p p^T), row by row: from d/dp to d/do, equation (13); p, g: (n, q)."""
    return p * (g - (p * g).sum(1, keepdim=True))


def squared_gradient(logits: Tensor, y: Tensor) -> Tensor:
    """d(|p - y|^2 of each sample)/d(logits), equation (16); (n, q)."""
    p = softmax(logits)  # (n, q)
    return through_softmax(p, 2 * (p - one_hot(y, p.shape[1])))


def double_gradient(logits: Tensor, y: Tensor) -> Tensor:
    """The same for cross-entropy that is given softmax(logits) instead of logits; (n, q)."""
    p = softmax(logits)  # (n, q)
    return through_softmax(p, ce_gradient(p, y))


# --8<-- [end:gradients]


# --8<-- [start:steps]
def steps_to_recover(gap: float, lr: float, gradient: Callable[[Tensor, Tensor], Tensor]) -> int:
    """Steps of descent on two free logits until the true class, `gap` behind, has caught up."""
    logits, y = torch.tensor([[0.0, gap]]), torch.tensor([0])  # (1, 2), (1,)
    steps = 0
    while logits[0, 0] < logits[0, 1]:
        logits = logits - lr * gradient(logits, y)
        steps += 1
    return steps


# --8<-- [end:steps]


# --8<-- [start:train]
def train(
    X: Tensor,
    y: Tensor,
    q: int,
    lr: float,
    epochs: int,
    seed: int,
    gradient: Callable[[Tensor, Tensor], Tensor] = ce_gradient,
    std: float = 0.0,
    batch_size: int = 64,
) -> tuple[Tensor, Tensor]:
    """Mini-batch gradient descent on o = x W + b; returns W (d, q) and b (q,).

    X: (n, d); y: (n,), class indices.
    gradient: of the loss of each sample with respect to its logits, (B, q) -> (B, q).
    std: standard deviation of the weights at the start.
    """
    W = std * torch.randn(X.shape[1], q, generator=torch.Generator().manual_seed(seed))  # (d, q)
    b = torch.zeros(q)
    g = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for x, target in batches(X, y, batch_size, g):
            delta = gradient(x @ W + b, target) / len(x)  # (B, q)
            W -= lr * x.T @ delta
            b -= lr * delta.sum(0)
    return W, b


# --8<-- [end:train]


# --8<-- [start:largest_safe_lr]
def largest_safe_lr(X: Tensor) -> float:
    """4 / lambda_max, equation (15): below it full-batch descent never climbs. X: (n, d)."""
    A = torch.cat([X, torch.ones(len(X), 1)], 1)  # (n, d + 1)
    return 4 / torch.linalg.eigvalsh(A.T @ A / len(A))[-1].item()


# --8<-- [end:largest_safe_lr]


# --8<-- [start:module]
class SoftmaxRegression(nn.Module):
    """One linear layer that returns logits; there is no softmax in it."""

    def __init__(self, d: int, q: int) -> None:
        super().__init__()
        self.linear = nn.Linear(d, q)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(1))  # (B, ...) -> (B, d) -> (B, q)


def fit(
    model: nn.Module, X: Tensor, y: Tensor, lr: float, epochs: int, seed: int, batch_size: int = 64
) -> None:
    """Train any classifier that returns logits. X: (n, ...), y: (n,), class indices."""
    g = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for _ in range(epochs):
        for x, target in batches(X, y, batch_size, g):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), target).backward()  # (1)!
            optimizer.step()


# --8<-- [end:module]


# --8<-- [start:confusion]
def confusion_matrix(predicted: Tensor, y: Tensor, q: int) -> Tensor:
    """Counts (q, q): one row for each true class, one column for each predicted one."""
    return torch.bincount(y * q + predicted, minlength=q * q).view(q, q)


# --8<-- [end:confusion]


# --8<-- [start:file_order]
def split_in_file_order(block: int = 4) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The digits with 360 consecutive rows as the test set, block 0 (first) to 4 (last).

    Returns X_train (1437, 64), y_train (1437,), X_test (360, 64), y_test (360,).
    """
    pixels, target = bundled_digits(return_X_y=True)
    X = torch.tensor(pixels, dtype=torch.float32) / 16
    y = torch.tensor(target)
    held_out = torch.zeros(len(X), dtype=torch.bool)
    first = 1437 * block // 4
    held_out[first : first + 360] = True
    return X[~held_out], y[~held_out], X[held_out], y[held_out]


# --8<-- [end:file_order]


# --8<-- [start:rings]
def rings(n: int = 100) -> tuple[Tensor, Tensor]:
    """Two circles, radius 1 (class 0) and 2 (class 1), n points each; X (2n, 2), y (2n,)."""
    angle = torch.arange(n) * (2 * math.pi / n)
    circle = torch.stack([angle.cos(), angle.sin()], 1)  # (n, 2)
    return torch.cat([circle, 2 * circle]), torch.arange(2).repeat_interleave(n)


# --8<-- [end:rings]


def make_blobs(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Three overlapping Gaussian clouds of n points each; X: (3n, 2), y: (3n,)."""
    g = torch.Generator().manual_seed(seed)
    centres = torch.tensor([[0.0, 1.5], [-1.3, -0.8], [1.3, -0.8]])  # (3, 2)
    y = torch.arange(3).repeat_interleave(n)
    return centres[y] + 0.7 * torch.randn(3 * n, 2, generator=g), y


def pooled_confusion() -> Tensor:
    """Confusion matrix (10, 10) of ten models, each on the test images of its own split."""
    total = torch.zeros(10, 10, dtype=torch.int64)
    for seed in range(10):
        X, y, X_test, y_test = load_digits(seed)
        W, b = train(X, y, 10, lr=0.3, epochs=30, seed=seed)
        total += confusion_matrix((X_test @ W + b).argmax(1), y_test, 10)
    return total


def figure_network() -> Figure:
    """Four inputs, three outputs, every input joined to every output, then softmax."""
    fig, ax = plt.subplots(figsize=(4.8, 2.8), layout="constrained")
    text, lines = plt.rcParams["text.color"], plt.rcParams["grid.color"]
    inputs = [(0.0, 3 - i) for i in range(4)]
    outputs = [(2.0, 2.5 - j) for j in range(3)]
    for x0, y0 in inputs:
        for x1, y1 in outputs:
            ax.plot([x0, x1], [y0, y1], color=lines, linewidth=1, zorder=1)
    for nodes, letter, colour in ((inputs, "x", "C0"), (outputs, "o", "C1")):
        for number, (x, y) in enumerate(nodes, 1):
            ax.scatter(x, y, s=500, color=colour, alpha=0.3, linewidth=0, zorder=2)
            ax.text(x, y, f"${letter}_{number}$", ha="center", va="center", fontsize=13)
    arrow = {"arrowstyle": "->", "color": text}
    for number, (x, y) in enumerate(outputs, 1):
        ax.annotate("", (3.5, y), (x + 0.3, y), arrowprops=arrow)
        ax.text(3.8, y, rf"$p_{number}$", ha="center", va="center", fontsize=13)
    ax.text(2.9, 2.75, "softmax", ha="center")
    ax.text(1.0, -0.75, r"$W$: $4\times3$,  $b$: $3$", ha="center")
    ax.set(xlim=(-0.5, 4.2), ylim=(-1.0, 3.5))
    ax.axis("off")
    return fig


def figure_temperature() -> Figure:
    """Three logits and the probabilities softmax makes of them at three temperatures."""
    fig, axes = plt.subplots(2, 1, figsize=(4.8, 4.4), layout="constrained")
    logits = torch.tensor([1.0, 2.0, 3.0])
    place = torch.arange(3)
    axes[0].bar(place, logits, 0.5, color=plt.rcParams["text.color"], alpha=0.5)
    axes[0].set(ylabel="logit $o_j$", ylim=(0, 3.5))
    for k, temperature in enumerate((0.5, 1.0, 4.0)):
        p = softmax(logits / temperature)
        label = f"$T={temperature:g}$"
        axes[1].bar(place + 0.26 * (k - 1), p, 0.24, color=f"C{k}", label=label)
    axes[1].set(xlabel="class $j$", ylabel="probability $p_j$", ylim=(0, 1))
    axes[1].legend(frameon=False, loc="upper left")
    for ax in axes:
        ax.set_xticks(place, ["1", "2", "3"])
    return fig


def figure_mistake() -> Figure:
    """Speed at which descent closes the lead of the wrong class of two, for two losses."""
    fig, ax = plt.subplots(layout="constrained")
    gap = torch.linspace(-4, 10, 57, dtype=torch.float64)
    p_wrong = gap.sigmoid()
    ax.semilogy(gap, 2 * p_wrong, "C0", label="cross-entropy")
    ax.semilogy(gap, 8 * p_wrong**2 * (1 - p_wrong), "C3--", label="squared error")
    ax.axvline(0, color=plt.rcParams["text.color"], linewidth=0.8)
    ax.text(-0.3, 2.8e-4, "right", ha="right")
    ax.text(0.3, 2.8e-4, "wrong")
    ax.set(xlabel="lead $z$ of the wrong class", ylabel="speed at which $z$ falls", ylim=(2e-4, 30))
    ax.grid(True)
    ax.legend(frameon=False, loc="upper left", ncols=2)
    return fig


def figure_regions() -> Figure:
    """Three clouds of points and the regions that softmax regression gives the classes."""
    fig, ax = plt.subplots(figsize=(4.8, 4.0), layout="constrained")
    X, y = make_blobs(40, seed=0)
    W, b = train(X, y, 3, lr=0.3, epochs=60, seed=0)
    axis = torch.linspace(-3.4, 3.4, 61)
    x1, x2 = torch.meshgrid(axis, axis, indexing="xy")  # (61, 61)
    logits = torch.stack([x1, x2], -1) @ W + b  # (61, 61, 3)
    for k in range(3):
        others = logits[..., [j for j in range(3) if j != k]].amax(-1)
        lead = logits[..., k] - others  # (61, 61)
        ax.contourf(x1, x2, lead, [0.0, math.inf], colors=[f"C{k}"], alpha=0.2)
    for k, marker in enumerate("os^"):
        ax.plot(*X[y == k].T, f"C{k}{marker}", markersize=4, label=f"class {k}")
    ax.set(xlabel="$x_1$", ylabel="$x_2$", xlim=(-3.4, 3.4), ylim=(-3.4, 3.4))
    ax.legend(loc="upper left", frameon=False, handletextpad=0.1)
    return fig


def figure_start() -> Figure:
    """Test accuracy after 30 epochs against the size of the initial weights, two losses."""
    fig, ax = plt.subplots(layout="constrained")
    sizes = [0.1, 0.3, 1.0, 3.0, 10.0]
    rules = {
        "cross-entropy": (ce_gradient, 0.3, "C0o-"),
        "squared error": (squared_gradient, 1.5, "C3s--"),
    }
    for label, (gradient, lr, style) in rules.items():
        reached = torch.empty(len(sizes), 3)
        for seed in range(3):
            X, y, X_test, y_test = load_digits(seed)
            for row, std in enumerate(sizes):
                W, b = train(X, y, 10, lr, 30, seed, gradient, std)
                reached[row, seed] = accuracy(X_test @ W + b, y_test)
        ax.semilogx(sizes, reached.mean(1), style, label=label)
        ax.fill_between(
            sizes, reached.amin(1), reached.amax(1), color=style[:2], alpha=0.2, linewidth=0
        )
    ax.axhline(0.1, color=plt.rcParams["text.color"], linewidth=0.8)
    ax.text(0.1, 0.12, "guessing")
    ax.set(xlabel="standard deviation of the initial weights", ylabel="test accuracy", ylim=(0, 1))
    ax.grid(True)
    ax.legend(frameon=False, loc="center left")
    return fig


def figure_confusion() -> Figure:
    """Confusion matrix of ten splits; the shade of a mistake grows with its count."""
    fig, ax = plt.subplots(figsize=(4.8, 4.4), layout="constrained")
    counts = pooled_confusion()
    shades = torch.zeros(10, 10, 4)
    for i in range(10):
        for j in range(10):
            share = 0.25 if i == j else 0.43 * min(counts[i, j].item() / 30, 1.0)
            shades[i, j] = torch.tensor(to_rgba("C2" if i == j else "C3", share))
            if counts[i, j] > 0:
                ax.text(j, i, str(counts[i, j].item()), ha="center", va="center")
    ax.imshow(shades.numpy())
    ax.set(xlabel="predicted", ylabel="true", xticks=range(10), yticks=range(10))
    return fig


def figure_mistakes() -> Figure:
    """The eight test images with the largest loss: what each is, what it was read as."""
    X, y, X_test, y_test = load_digits(0)
    W, b = train(X, y, 10, lr=0.3, epochs=30, seed=0)
    p = softmax(X_test @ W + b)  # (360, 10)
    loss = -p[torch.arange(len(p)), y_test].log()  # (360,)
    fig, axes = plt.subplots(2, 4, figsize=(4.8, 3.4), layout="constrained")
    for ax, i in zip(axes.flat, loss.argsort(descending=True)[:8].tolist(), strict=True):
        ax.imshow(X_test[i].view(8, 8).numpy(), cmap="Blues")
        ax.set_title(f"{y_test[i]} as {p[i].argmax()}\n{p[i].max():.0%} sure", fontsize=11)
        ax.axis("off")
    return fig


def experiment_double(seed: int) -> dict[str, float]:
    """Training loss and test accuracy on the digits with one softmax and with two."""
    X, y, X_test, y_test = load_digits(seed)
    rules = {
        "once": (ce_gradient, 0.3),
        "twice": (double_gradient, 0.3),
        "faster": (double_gradient, 3.0),
    }
    out = {}
    for name, (gradient, lr) in rules.items():
        W, b = train(X, y, 10, lr, 30, seed, gradient)
        shown = X @ W + b if name == "once" else softmax(X @ W + b)
        out[f"{name}_loss"] = cross_entropy(shown, y).item()
        out[f"{name}_accuracy"] = accuracy(X_test @ W + b, y_test)
    return out


def experiment_start(seed: int) -> dict[str, float]:
    """Test accuracy on the digits: two losses, zero and large (std 3) initial weights.

    The squared error's rate is always 5 times as large: from zero the first step is the same.
    best_...: the best of four rates, chosen on the test images, for either loss.
    """
    X, y, X_test, y_test = load_digits(seed)
    losses = {"ce": (ce_gradient, 1.0), "squared": (squared_gradient, 5.0)}

    def reach(loss: str, lr: float, std: float) -> float:
        gradient, factor = losses[loss]
        W, b = train(X, y, 10, factor * lr, 30, seed, gradient, std)
        return accuracy(X_test @ W + b, y_test)

    W, b = train(X, y, 10, 0.0, 1, seed, std=3.0)
    logits = X @ W + b  # (1437, 10)
    out = {
        "large_loss": cross_entropy(logits, y).item(),
        "large_accuracy": accuracy(logits, y),
        "image_norm": X.norm(dim=1).mean().item(),
        "gap": math.sqrt(2) * logits.std(1).square().mean().sqrt().item(),
    }
    for loss in losses:
        out[f"zero_{loss}"] = reach(loss, 0.3, 0.0)
        out[f"large_{loss}"] = reach(loss, 0.3, 3.0)
        others = [reach(loss, lr, 3.0) for lr in (0.1, 1.0, 3.0)]
        out[f"best_{loss}"] = max(out[f"large_{loss}"], *others)
    return out


def experiment_digits(seed: int) -> dict[str, float]:
    """The digits with 360 test images drawn at random, and with the last 360 rows instead.

    Accuracy, mean confidence, loss and its exp(-loss) on the test images; for the random split
    also the recall of the digit 8 and of all other digits together.
    """
    out = {}
    for name, split in (("random", load_digits(seed)), ("last", split_in_file_order())):
        X, y, X_test, y_test = split
        W, b = train(X, y, 10, lr=0.3, epochs=30, seed=seed)
        logits = X_test @ W + b  # (360, 10)
        out[f"{name}_accuracy"] = accuracy(logits, y_test)
        out[f"{name}_error"] = 1 - out[f"{name}_accuracy"]
        out[f"{name}_confidence"] = softmax(logits).amax(1).mean().item()
        out[f"{name}_loss"] = cross_entropy(logits, y_test).item()
        out[f"{name}_probability"] = math.exp(-out[f"{name}_loss"])
        if name == "random":
            out["recall_8"] = accuracy(logits[y_test == 8], y_test[y_test == 8])
            out["recall_others"] = accuracy(logits[y_test != 8], y_test[y_test != 8])
    return out


if __name__ == "__main__":
    X, y, X_test, y_test = load_digits()
    print("largest safe rate", largest_safe_lr(X))
    W, b = train(X, y, 10, lr=0.3, epochs=30, seed=0)
    print("test accuracy", accuracy(X_test @ W + b, y_test))
    print("steps to recover", [steps_to_recover(z, 0.1, ce_gradient) for z in (2, 5, 8)])
    figure_start()
    plt.show()
