"""The multilayer perceptron and its activation functions.

The data are XOR, a disc, and scikit-learn's bundled digits, plain or together with their
negatives. Everything runs on the CPU in single precision unless a section says otherwise.
"""

# --8<-- [start:imports]
import copy
import math
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

from snippets.data import load_digits

Activation = Callable[[Tensor], Tensor]
# --8<-- [end:imports]


# --8<-- [start:mlp]
class MLP(nn.Module):
    """Fully connected network with one activation after every hidden layer, none at the end.

    sizes: (d, h_1, ..., h_L, q); two numbers make a linear model.
    """

    def __init__(self, sizes: Sequence[int], activation: Activation, generator: torch.Generator):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.activation = activation
        for layer in self.layers:
            bound = layer.in_features**-0.5  # (1)!
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            nn.init.uniform_(layer.bias, -bound, bound, generator=generator)

    def forward(self, X: Tensor) -> Tensor:
        H = X  # (N, d)
        for layer in self.layers[:-1]:
            H = self.activation(layer(H))  # (N, h)
        return self.layers[-1](H)  # (N, q), logits


# --8<-- [end:mlp]


# --8<-- [start:train]
def train(
    net: nn.Module,
    X: Tensor,
    y: Tensor,
    lr: float,
    epochs: int,
    batch_size: int,
    generator: torch.Generator,
) -> float:
    """Minimise the cross-entropy by mini-batch SGD; return it on the whole set.

    X: (N, d); y: (N,) class numbers.
    """
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    for _ in range(epochs):
        for index in torch.randperm(len(X), generator=generator).split(batch_size):
            optimizer.zero_grad()
            F.cross_entropy(net(X[index]), y[index]).backward()
            optimizer.step()
    with torch.no_grad():
        return F.cross_entropy(net(X), y).item()


# --8<-- [end:train]


# --8<-- [start:xor]
def xor_data() -> tuple[Tensor, Tensor]:
    """The four points of exclusive or; X: (4, 2), y: (4,) class numbers."""
    X = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    return X, torch.tensor([0, 1, 1, 0])


# --8<-- [end:xor]


# --8<-- [start:collapse]
def collapse(W1: Tensor, b1: Tensor, W2: Tensor, b2: Tensor) -> tuple[Tensor, Tensor]:
    """Merge X -> (X W1 + b1) W2 + b2 into one affine layer (W, b), equation (2).

    W1: (d, h), b1: (h,), W2: (h, q), b2: (q,); returns W: (d, q), b: (q,).
    """
    return W1 @ W2, b1 @ W2 + b2


# --8<-- [end:collapse]


# --8<-- [start:with_negatives]
def with_negatives(X: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Every image and its negative under the same label; X: (N, ...) in [0, 1].

    Returns inputs (2N, ...) in [-1, 1], where the negative of u is -u, and labels (2N,).
    """
    U = 2 * X - 1  # (N, ...)
    return torch.cat([U, -U]), torch.cat([y, y])


# --8<-- [end:with_negatives]


# --8<-- [start:fold]
def xor_by_hand(X: Tensor) -> Tensor:
    """Equation (6), two ReLU units: 1 - relu(s - 1) - relu(1 - s); X: (N, 2), returns (N,)."""
    W = torch.tensor([[1.0, -1.0], [1.0, -1.0]])  # (d, h)
    b = torch.tensor([-1.0, 1.0])  # (h,)
    return 1 - torch.relu(X @ W + b).sum(1)


# --8<-- [end:fold]


# --8<-- [start:activations]
def relu(z: Tensor) -> Tensor:
    """Elementwise max(0, z)."""
    return torch.where(z > 0, z, 0.0)


def leaky_relu(z: Tensor, slope: float = 0.01) -> Tensor:
    """Elementwise z for z > 0, slope * z elsewhere."""
    return torch.where(z > 0, z, slope * z)


def sigmoid(z: Tensor) -> Tensor:
    """Elementwise 1 / (1 + exp(-z)), range (0, 1)."""
    return 1 / (1 + torch.exp(-z))


def tanh(z: Tensor) -> Tensor:
    """Elementwise hyperbolic tangent by equation (9), range (-1, 1)."""
    return 2 * sigmoid(2 * z) - 1


ACTIVATIONS: dict[str, Activation] = {
    "ReLU": torch.relu,
    "LeakyReLU": F.leaky_relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}
# --8<-- [end:activations]


# --8<-- [start:derivative]
def derivative(f: Activation, z: Tensor) -> Tensor:
    """Derivative of an elementwise function at every entry of z, by autograd."""
    z = z.detach().requires_grad_()
    (slope,) = torch.autograd.grad(f(z).sum(), z)
    return slope


# --8<-- [end:derivative]


# --8<-- [start:scratch]
def forward(X: Tensor, W1: Tensor, b1: Tensor, W2: Tensor, b2: Tensor) -> tuple[Tensor, ...]:
    """Equation (1) with ReLU; W1: (d, h), W2: (h, q). Returns Z, H: (N, h), logits: (N, q)."""
    Z = X @ W1 + b1
    H = torch.relu(Z)
    return Z, H, H @ W2 + b2


def gradients(
    X: Tensor, y: Tensor, W1: Tensor, b1: Tensor, W2: Tensor, b2: Tensor
) -> tuple[Tensor, ...]:
    """Gradients of the mean cross-entropy with respect to W1, b1, W2, b2, by equation (11)."""
    Z, H, logits = forward(X, W1, b1, W2, b2)
    delta_out = (logits.softmax(1) - F.one_hot(y, logits.shape[1])) / len(X)  # (N, q)
    delta = (delta_out @ W2.T) * (Z > 0)  # (N, h)
    return X.T @ delta, delta.sum(0), H.T @ delta_out, delta_out.sum(0)


# --8<-- [end:scratch]


# --8<-- [start:classify]
def classify(
    data: tuple[Tensor, Tensor, Tensor, Tensor],
    hidden: Sequence[int],
    activation: Activation,
    lr: float,
    epochs: int,
    seed: int,
) -> dict[str, float]:
    """Train a classifier on (X_train, y_train, X_test, y_test), any image shape, batches of 128.

    Returns the loss before and after training and the accuracy on the test set.
    """
    X, y, X_test, y_test = data
    X, X_test = X.flatten(1), X_test.flatten(1)  # (N, d)
    g = torch.Generator().manual_seed(seed)
    net = MLP((X.shape[1], *hidden, int(y.max()) + 1), activation, g)
    with torch.no_grad():
        before = F.cross_entropy(net(X), y).item()
    after = train(net, X, y, lr, epochs, 128, g)
    with torch.no_grad():
        accuracy = (net(X_test).argmax(1) == y_test).float().mean().item()
    return {"before": before, "after": after, "accuracy": accuracy}


# --8<-- [end:classify]


# --8<-- [start:many]
def init_many(d: int, h: int, runs: int, seed: int) -> list[Tensor]:
    """R networks d-h-1 at once, started as nn.Linear does.

    Returns W (R, d, h), b (R, 1, h), v (R, h, 1), c (R, 1, 1).
    """
    g = torch.Generator().manual_seed(seed)

    def uniform(rows: int, columns: int, fan_in: int) -> Tensor:
        return (2 * torch.rand(runs, rows, columns, generator=g) - 1) * fan_in**-0.5

    return [uniform(d, h, d), uniform(1, h, d), uniform(h, 1, h), uniform(1, 1, h)]


def losses_many(params: list[Tensor], X: Tensor, y: Tensor, activation: Activation) -> Tensor:
    """Binary cross-entropy (R,) of each network on the same X: (N, d), y: (N,) 0 or 1."""
    W, b, v, c = params
    logits = (activation(X @ W + b) @ v + c).squeeze(-1)  # (R, N)
    y = y.float().expand_as(logits)
    return F.binary_cross_entropy_with_logits(logits, y, reduction="none").mean(1)


# --8<-- [end:many]


# --8<-- [start:train_many]
def train_many(
    params: list[Tensor],
    X: Tensor,
    y: Tensor,
    activation: Activation,
    lr: float | Tensor,
    steps: int,
) -> list[Tensor]:
    """Full-batch descent of every network on its own loss; lr: one rate, or one each, (R, 1, 1)."""
    params = [p.clone().requires_grad_() for p in params]
    for _ in range(steps):
        total = losses_many(params, X, y, activation).sum()  # (1)!
        gradients = torch.autograd.grad(total, params)
        with torch.no_grad():
            for p, g in zip(params, gradients, strict=True):
                p -= lr * g
    return [p.detach() for p in params]


# --8<-- [end:train_many]


# --8<-- [start:dead]
def disc_data(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Points of the square [-1, 1]^2, half of them inside a disc; X: (n, 2), y: (n,) 0 or 1."""
    g = torch.Generator().manual_seed(seed)
    X = 2 * torch.rand(n, 2, generator=g) - 1
    return X, (X.square().sum(1) < 2 / math.pi).long()


def dead_fraction(X: Tensor, W: Tensor, b: Tensor) -> Tensor:
    """Share of hidden units whose input x w + b is at most 0 for every sample.

    X: (N, d), W: (..., d, h), b: (..., 1, h) or (h,); returns (...).
    """
    return ((X @ W + b) <= 0).all(-2).float().mean(-1)


def frozen_fraction(params: list[Tensor], X: Tensor, y: Tensor, activation: Activation) -> Tensor:
    """Share of hidden units whose weights get a gradient of exactly 0, for each network, (R,)."""
    W = params[0].clone().requires_grad_()
    total = losses_many([W, *params[1:]], X, y, activation).sum()
    (gradient,) = torch.autograd.grad(total, W)  # (R, d, h)
    return (gradient == 0).all(-2).float().mean(-1)


# --8<-- [end:dead]


# --8<-- [start:gradient_ratio]
def gradient_ratio(net: MLP, X: Tensor, y: Tensor) -> Tensor:
    """Size (rms) of the gradient at each hidden layer's input over that one layer further on.

    X: (N, d), y: (N,); returns (L - 1,) for L hidden layers.
    """
    H, inputs = X, []
    for layer in net.layers[:-1]:
        inputs.append(layer(H))  # (N, h)
        H = net.activation(inputs[-1])
    loss = F.cross_entropy(net.layers[-1](H), y)
    deltas = torch.autograd.grad(loss, inputs)
    sizes = torch.stack([delta.square().mean().sqrt() for delta in deltas])  # (L,)
    return sizes[:-1] / sizes[1:]


# --8<-- [end:gradient_ratio]


# --8<-- [start:tanh_to_sigmoid]
def tanh_to_sigmoid(net: MLP) -> MLP:
    """Return the sigmoid network that computes the same function as a tanh network.

    tanh(z) = 2 sigmoid(2 z) - 1: what feeds a tanh is doubled, what reads one is doubled and
    shifted.
    """
    out = copy.deepcopy(net)
    out.activation = torch.sigmoid
    with torch.no_grad():
        for layer in out.layers[1:]:  # reads a tanh
            layer.bias -= layer.weight.sum(1)
            layer.weight *= 2
        for layer in out.layers[:-1]:  # feeds a tanh
            layer.weight *= 2
            layer.bias *= 2
    return out


# --8<-- [end:tanh_to_sigmoid]


# --8<-- [start:zigzag]
def single_sample_path(X: Tensor, w_star: Tensor, lr: float) -> Tensor:
    """SGD on 0.5 (x w - x w*)^2, one sample a step, from w = 0; X: (N, d), returns (N + 1, d)."""
    path = [torch.zeros_like(w_star)]
    for x in X:
        delta = x @ (path[-1] - w_star)  # ()
        path.append(path[-1] - lr * delta * x)
    return torch.stack(path)


# --8<-- [end:zigzag]


def steps_to_target(X: Tensor, w_star: Tensor, accuracy: float = 1e-3) -> tuple[float, int]:
    """Condition number, and full-batch steps at the best learning rate until w is near w*.

    X: (N, d); near: the error has shrunk to `accuracy` times the error of w = 0.
    """
    H = X.T @ X / len(X)  # (d, d)
    eigenvalues = torch.linalg.eigvalsh(H)  # (d,)
    lr = 2 / (eigenvalues[0] + eigenvalues[-1])
    w, steps = torch.zeros_like(w_star), 0
    while (w - w_star).norm() > accuracy * w_star.norm():
        w = w - lr * H @ (w - w_star)
        steps += 1
    return (eigenvalues[-1] / eigenvalues[0]).item(), steps


# --8<-- [start:solve_xor]
def solve_xor(activation: Activation, width: int, runs: int, seed: int) -> Tensor:
    """Final losses (runs,) on XOR of networks 2-width-1, 500 full-batch steps at 1."""
    X, y = xor_data()
    params = train_many(init_many(2, width, runs, seed), X, y, activation, 1.0, 500)
    return losses_many(params, X, y, activation)


# --8<-- [end:solve_xor]


def linear_on(X: Tensor, W: Tensor, b: Tensor) -> Tensor:
    """Whether every hidden unit is on for all samples or off for all, (R,).

    X: (N, d), W: (R, d, h), b: (R, 1, h).
    """
    on = (X @ W + b) > 0  # (R, N, h)
    return (on.all(1) | ~on.any(1)).all(1)


def xor_steps() -> list[float]:
    """Best mean losses when 4, 3 or 2 of the points of XOR look the same to the network."""
    entropy = math.log(3) - 2 / 3 * math.log(2)  # of (1/3, 2/3)
    return [math.log(2), 3 / 4 * entropy, 2 / 4 * math.log(2)]


def excess_errors(n: int, d: int, seed: int) -> tuple[float, float]:
    """Mean squared distance from the true line w x, noise 1: least squares and a d-64-1 MLP."""
    g = torch.Generator().manual_seed(seed)
    w = torch.randn(d, 1, generator=g)
    X, X_test = torch.randn(n, d, generator=g), torch.randn(2000, d, generator=g)
    y = X @ w + torch.randn(n, 1, generator=g)  # (n, 1)
    ones, ones_test = torch.ones(n, 1), torch.ones(2000, 1)
    theta = torch.linalg.lstsq(torch.cat([X, ones], 1), y).solution  # (d + 1, 1)
    line = torch.cat([X_test, ones_test], 1) @ theta
    net = MLP((d, 64, 1), torch.relu, g)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    for _ in range(500):
        optimizer.zero_grad()
        F.mse_loss(net(X), y).backward()
        optimizer.step()
    with torch.no_grad():
        errors = [(guess - X_test @ w).square().mean().item() for guess in (line, net(X_test))]
    return errors[0], errors[1]


def figure_network() -> Figure:
    """The network 4-5-3 as a diagram."""
    fig, ax = plt.subplots(figsize=(4.8, 3.4), layout="constrained")
    ink, ground = plt.rcParams["text.color"], plt.rcParams["legend.facecolor"]
    ground = plt.rcParams["axes.facecolor"] if ground == "inherit" else ground
    columns = {"$x$": (4, "C0"), "$h$": (5, "C1"), "$o$": (3, "C2")}
    captions = {"$x$": "4 inputs", "$h$": "5 hidden units", "$o$": "3 outputs"}
    places = [
        [(x, (n - 1) / 2 - i) for i in range(n)]
        for x, (n, _) in zip((0, 1.6, 3.2), columns.values(), strict=True)
    ]
    for left, right in pairwise(places):
        for a in left:
            for b in right:
                ax.plot(*zip(a, b, strict=True), color=ink, linewidth=0.7, alpha=0.5, zorder=1)
    for (name, (_, colour)), points in zip(columns.items(), places, strict=True):
        ax.scatter(*zip(*points, strict=True), s=430, color=colour, zorder=2)
        for i, point in enumerate(points):
            label = f"{name[:-1]}_{i + 1}$"
            ax.text(*point, label, ha="center", va="center", color=ground, zorder=3)
        ax.text(points[0][0], -2.85, captions[name], ha="center", color=ink)
    ax.set(xlim=(-0.6, 3.8), ylim=(-3, 2.5))
    ax.axis("off")
    return fig


def figure_xor_regions() -> Figure:
    """Left: a line with three of four points right. Right: the regions of a trained MLP."""
    fig, axes = plt.subplots(1, 2, figsize=(4.8, 3.0), sharey=True, layout="constrained")
    X, y = xor_data()
    g = torch.Generator().manual_seed(0)
    net = MLP((2, 8, 2), torch.relu, g)
    train(net, X, y, 0.5, 500, 4, g)
    side = torch.linspace(-0.5, 1.5, 61)
    x1, x2 = torch.meshgrid(side, side, indexing="xy")
    grid = torch.stack([x1, x2], -1)  # (61, 61, 2)
    with torch.no_grad():
        margin = net(grid)[..., 1] - net(grid)[..., 0]
    for ax, values, title in zip(
        axes, (x1 + x2 - 0.5, margin), ("best line: 3 of 4", "one hidden layer"), strict=True
    ):
        ax.contourf(x1, x2, values, levels=[0, 1e9], colors=["C1"], alpha=0.25)
        ax.contour(x1, x2, values, levels=[0], colors=["C1"], linewidths=1.2)
        for label, marker, colour in ((0, "o", "C0"), (1, "s", "C1")):
            ax.plot(*X[y == label].T, marker, color=colour, markersize=9, label=f"y = {label}")
        ax.set(title=title, xlabel="$x_1$", xticks=[0, 1], yticks=[0, 1], aspect="equal")
    axes[0].set_ylabel("$x_2$")
    return fig


def figure_activations() -> Figure:
    """Four activation functions and their derivatives."""
    fig, axes = plt.subplots(2, 2, figsize=(4.8, 4.4), sharex=True, layout="constrained")
    z = torch.linspace(-5, 5, 201)
    for ax, (name, f) in zip(axes.flat, ACTIVATIONS.items(), strict=True):
        ax.plot(z, f(z), "C0", label="function")
        ax.plot(z, derivative(f, z), "C1--", label="derivative")
        ax.set(title=name, ylim=(-1.25, 2.25), xlim=(-5, 5))
        ax.grid(True)
    axes[0, 0].legend(loc="upper left", frameon=False, handlelength=1.4)
    for ax in axes[1]:
        ax.set_xlabel("$z$")
    return fig


@cache
def accuracies_by_rate(name: str, rates: tuple[float, ...], seeds: tuple[int, ...]) -> Tensor:
    """Test accuracies on the digits and their negatives, one hidden layer of 64.

    Returns (len(rates), len(seeds)); cached because every figure is drawn twice.
    """
    data = [digits_with_negatives(seed) for seed in seeds]
    activation = ACTIVATIONS[name]
    return torch.tensor(
        [
            [
                classify(both, (64,), activation, lr, 10, seed)["accuracy"]
                for both, seed in zip(data, seeds, strict=True)
            ]
            for lr in rates
        ]
    )


def figure_learning_rates() -> Figure:
    """Test accuracy against the learning rate for three activations, means of two seeds."""
    fig, ax = plt.subplots(layout="constrained")
    rates = (0.1, 0.3, 1.0, 3.0, 10.0)
    for name, style in (("ReLU", "C3o-"), ("tanh", "C2^-."), ("sigmoid", "C0s--")):
        mean = accuracies_by_rate(name, rates, (0, 1)).mean(1)
        ax.semilogx(rates, mean, style, markersize=5, label=name)
    ax.set(xlabel=r"learning rate $\eta$", ylabel="test accuracy", ylim=(0, 1.2))
    ax.set_xticks(rates, labels=["0.1", "0.3", "1", "3", "10"])
    ax.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    ax.grid(True)
    ax.legend(loc="upper center", ncols=3, frameon=False, columnspacing=1.2)
    return fig


@cache
def frozen_by_rate(name: str, rates: tuple[float, ...], runs: int) -> Tensor:
    """Share of units without gradient after 300 steps on the disc, mean of the runs; (len(rates),).

    Cached because every figure is drawn twice.
    """
    X, y = disc_data(100, seed=0)
    params = init_many(2, 16, runs * len(rates), seed=0)
    lr = torch.tensor(rates).repeat_interleave(runs)[:, None, None]  # (R, 1, 1)
    trained = train_many(params, X, y, ACTIVATIONS[name], lr, 300)
    return frozen_fraction(trained, X, y, ACTIVATIONS[name]).view(-1, runs).mean(1)


def figure_dead_units() -> Figure:
    """Share of hidden units without gradient against the learning rate."""
    fig, ax = plt.subplots(layout="constrained")
    rates = (0.3, 1.0, 3.0, 4.0, 5.0, 7.0, 10.0, 15.0, 30.0)
    for name, style in (("ReLU", "C3o-"), ("LeakyReLU", "C1v--")):
        ax.semilogx(rates, frozen_by_rate(name, rates, 10), style, markersize=5, label=name)
    start = init_many(2, 16, 10 * len(rates), seed=0)
    untrained = dead_fraction(disc_data(100, seed=0)[0], *start[:2]).mean()
    ax.axhline(untrained, color="C3", linestyle=":", linewidth=1.6, label="ReLU, untrained")
    ax.set(xlabel=r"learning rate $\eta$", ylabel="units without gradient", ylim=(-0.05, 1.05))
    ax.set_xticks([0.3, 1, 3, 10, 30], labels=["0.3", "1", "3", "10", "30"])
    ax.grid(True)
    ax.legend(loc="upper left", frameon=False)
    return fig


def figure_zigzag() -> Figure:
    """Single-sample SGD with positive and with centred inputs, two samples in turn."""
    fig, ax = plt.subplots(figsize=(4.8, 3.8), layout="constrained")
    X = torch.tensor([[1.0, 0.4], [0.4, 1.0]])
    target = torch.tensor([1.0, -1.0])
    for inputs, style, label in (
        (X, "C3o-", "inputs as they are, positive"),
        (X - X.mean(0), "C0s-", "inputs minus their mean"),
    ):
        lr = 0.4 / inputs.square().sum(1).mean()
        path = single_sample_path(inputs.repeat(10, 1), target, lr)
        ax.plot(*path.T, style, markersize=4, linewidth=1.2, label=label)
    ax.plot(*target, "*", color=plt.rcParams["text.color"], markersize=14)
    ax.set(xlabel="$w_1$", ylabel="$w_2$", xlim=(-0.1, 1.1), ylim=(-1.1, 0.4))
    ax.grid(True)
    ax.legend(loc="upper right", frameon=False)
    return fig


@cache
def sorted_losses(width: int) -> Tensor:
    """Final losses on XOR of 100 ReLU networks, from high to low; cached for the two drawings."""
    return solve_xor(torch.relu, width, 100, seed=0).sort(descending=True).values


def figure_xor_stairs() -> Figure:
    """Final losses of 100 networks, sorted, for three widths."""
    fig, ax = plt.subplots(layout="constrained")
    for width, style in ((2, "C3-"), (4, "C1--"), (16, "C0-.")):
        ax.plot(sorted_losses(width), style, label=f"{width} units")
    for level in xor_steps():
        ax.axhline(level, color=plt.rcParams["text.color"], linewidth=0.7, linestyle=":")
    ax.set(xlabel="networks, sorted by final loss", ylabel="final loss", ylim=(-0.02, 0.88))
    ax.set_yticks([0, 0.2, 0.4, 0.6])
    ax.legend(loc="upper center", ncols=3, frameon=False)
    return fig


def digits_with_negatives(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The bundled digits and their negatives, split into training and test images."""
    X, y, X_test, y_test = load_digits(seed)
    return *with_negatives(X, y), *with_negatives(X_test, y_test)


def experiment_digits(seed: int) -> dict[str, float]:
    """Test accuracy on digits with and without negatives: no, one linear, one hidden layer."""
    X, y, X_test, y_test = load_digits(seed)
    plain = 2 * X - 1, y, 2 * X_test - 1, y_test
    both = digits_with_negatives(seed)
    runs = {
        "linear_plain": (plain, (), nn.Identity(), 0.3),
        "relu_plain": (plain, (64,), torch.relu, 0.3),
        "deep_plain": (plain, (64,), nn.Identity(), 0.3),
        "linear_both": (both, (), nn.Identity(), 0.3),
        "deep_both": (both, (64,), nn.Identity(), 0.3),
        "relu_both": (both, (64,), torch.relu, 0.3),
        "relu_fast": (both, (64,), torch.relu, 3.0),
        "tanh_both": (both, (64,), torch.tanh, 0.3),
        "tanh_fast": (both, (64,), torch.tanh, 3.0),
        "sigmoid_both": (both, (64,), torch.sigmoid, 0.3),
        "sigmoid_fast": (both, (64,), torch.sigmoid, 3.0),
    }
    out = {}
    for name, (data, hidden, activation, lr) in runs.items():
        result = classify(data, hidden, activation, lr, 10, seed)
        out[name] = result["accuracy"]
        if name in ("linear_both", "deep_both", "relu_both"):
            out[f"{name}_before"], out[f"{name}_after"] = result["before"], result["after"]
    return out


def experiment_dying(seed: int) -> dict[str, float]:
    """Disc, 10 networks 2-16-1 a rate: dead and frozen units at rates 1 and 10, and 1 after 10."""
    X, y = disc_data(100, seed)
    start = init_many(2, 16, 10, seed)
    out = {"start": dead_fraction(X, *start[:2]).mean().item()}
    rates = torch.tensor([1.0, 10.0]).repeat_interleave(10)[:, None, None]  # (20, 1, 1)
    for name in ("ReLU", "LeakyReLU"):
        f, key = ACTIVATIONS[name], name.lower()
        both = train_many([torch.cat([p, p]) for p in start], X, y, f, rates, 300)
        large = [p[10:] for p in both]
        later = train_many(large, X, y, f, 1.0, 300)
        for word, params in (("small", [p[:10] for p in both]), ("large", large), ("later", later)):
            out[f"{key}_{word}_dead"] = dead_fraction(X, *params[:2]).mean().item()
            out[f"{key}_{word}_frozen"] = frozen_fraction(params, X, y, f).mean().item()
            out[f"{key}_{word}_loss"] = losses_many(params, X, y, f).mean().item()
    return out


def train_deep(kind: str, lr: float, seed: int) -> tuple[float, float, float]:
    """Three hidden layers of 64 on the plain digits: gradient ratio, final loss, test accuracy.

    kind: "relu", "tanh", "sigmoid", or "rescaled", the sigmoid network equal to the tanh one.
    """
    X, y, X_test, y_test = load_digits(seed)
    X, X_test = 2 * X - 1, 2 * X_test - 1
    g = torch.Generator().manual_seed(seed)
    net = MLP((64, 64, 64, 64, 10), torch.tanh, g)
    if kind == "rescaled":
        net = tanh_to_sigmoid(net)
    else:
        net.activation = getattr(torch, kind)
    ratio = gradient_ratio(net, X, y).mean().item()
    loss = train(net, X, y, lr, 10, 64, g)
    with torch.no_grad():
        accuracy = (net(X_test).argmax(1) == y_test).float().mean().item()
    return ratio, loss, accuracy


def experiment_depth(seed: int) -> dict[str, float]:
    """Three hidden layers: gradient ratio at the start, then training, by activation and rate."""
    out = {}
    for name, kind, lr in (
        ("relu", "relu", 0.3),
        ("tanh", "tanh", 0.3),
        ("sigmoid", "sigmoid", 0.3),
        ("sigmoid_fast", "sigmoid", 3.0),
        ("rescaled", "rescaled", 1.2),
    ):
        out[f"{name}_ratio"], out[f"{name}_loss"], out[name] = train_deep(kind, lr, seed)
    return out


def experiment_centring(seed: int) -> dict[str, float]:
    """Condition number and steps to the target for 8 inputs, positive and centred."""
    g = torch.Generator().manual_seed(seed)
    X = torch.rand(2000, 8, generator=g, dtype=torch.float64)
    w_star = torch.randn(8, generator=g, dtype=torch.float64)
    out = {}
    out["kappa"], out["steps"] = steps_to_target(X, w_star)
    out["kappa_centred"], out["steps_centred"] = steps_to_target(X - 0.5, w_star)
    return out


def experiment_xor(seed: int) -> dict[str, float]:
    """Share of 100 networks that solve XOR, and where the others end."""
    losses, out = {}, {}
    for name, h in (("ReLU", 2), ("ReLU", 4), ("ReLU", 16), ("LeakyReLU", 2), ("tanh", 2)):
        losses[name, h] = solve_xor(ACTIVATIONS[name], h, 100, seed)  # (100,)
        out[f"{name.lower()}_{h}"] = (losses[name, h] < 0.1).float().mean().item()
    two = losses["ReLU", 2]  # (100,)
    gap = (two[:, None] - torch.tensor(xor_steps())).abs() < 0.02  # (100, 3)
    out["on_step"] = gap[two >= 0.1].any(1).float().mean().item()
    X, _ = xor_data()
    linear = linear_on(X, *init_many(2, 2, 100, seed)[:2])  # before training
    out["linear_start"] = linear.float().mean().item()
    out["linear_start_stuck"] = gap[linear, 0].float().mean().item()
    return out


def experiment_linear_truth(seed: int) -> dict[str, float]:
    """Error of least squares and of an MLP where the truth is linear."""
    line, mlp = excess_errors(100, 10, seed)
    return {"line": line, "mlp": mlp}


if __name__ == "__main__":
    print("digits and negatives", experiment_digits(0))
    print("dying units", experiment_dying(0))
    print("three hidden layers", experiment_depth(0))
    print("XOR solved", experiment_xor(0))
    figure_activations()
    figure_learning_rates()
    plt.show()
