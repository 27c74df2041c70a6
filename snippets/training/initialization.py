"""Numerical stability and initialization: what thirty layers do to a signal and to a gradient.

Signals are measured in double precision on random inputs; training runs use scikit-learn's bundled
digits, standardised, in single precision. Weights have PyTorch's shape (n_out, n_in).
"""

# --8<-- [start:imports]
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
Init = Callable[[int, int, torch.Generator], Tensor]  # (n_out, n_in, g) -> (n_out, n_in)
# --8<-- [end:imports]


# --8<-- [start:digits]
@cache
def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Digits with one mean and one standard deviation for all pixels, those of the training set.

    Returns X_train (1437, 64), y_train (1437,), X_test (360, 64), y_test (360,).
    """
    X, y, X_test, y_test = load_digits(seed=0)
    mean, std = X.mean(), X.std()
    return (X - mean) / std, y, (X_test - mean) / std, y_test


# --8<-- [end:digits]


# --8<-- [start:deep_mlp]
def deep_mlp(
    depth: int, seed: int, init_: Callable | None = None, width: int = 64
) -> nn.Sequential:
    """ReLU classifier 64-width-...-width-10; init_ fills each weight in place, biases become 0.

    init_=None leaves everything as nn.Linear made it.
    """
    layers: list[nn.Module] = []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for n_in, n_out in pairwise([64, *[width] * depth, 10]):
            linear = nn.Linear(n_in, n_out)
            if init_ is not None:
                init_(linear.weight)
                nn.init.zeros_(linear.bias)
            layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


# --8<-- [end:deep_mlp]


# --8<-- [start:train]
def train(net: nn.Module, X: Tensor, y: Tensor, lr: float, steps: int, seed: int) -> float:
    """Minimise the cross-entropy by SGD, 32 samples a step; return it on the whole set."""
    g = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    for _ in range(steps):
        index = torch.randint(len(X), (32,), generator=g)
        optimizer.zero_grad()
        F.cross_entropy(net(X[index]), y[index]).backward()
        optimizer.step()
    with torch.no_grad():
        return F.cross_entropy(net(X), y).item()


# --8<-- [end:train]


# --8<-- [start:he_]
def he_(weight: Tensor) -> Tensor:
    """Fill a weight (n_out, n_in) in place with N(0, 2 / n_in)."""
    return nn.init.kaiming_normal_(weight, nonlinearity="relu")


# --8<-- [end:he_]


# --8<-- [start:layers]
def hidden_signals(weights: list[Tensor], activation: Activation, x: Tensor) -> list[Tensor]:
    """Input and output of every layer without biases: L + 1 tensors (N, n_l); x: (N, n_0)."""
    signals = [x]
    for W in weights:
        signals.append(activation(signals[-1] @ W.mT))  # (N, n_in) @ (n_in, n_out)
    return signals


# --8<-- [end:layers]


# --8<-- [start:jacobian]
def jacobian_chain(weights: list[Tensor], activation: Activation, x: Tensor) -> Tensor:
    """Jacobian of the last layer's output by equation (2), for one sample x: (n_0,).

    Multiplies diag(slope) W of each layer, the last on the left; returns (n_L, n_0).
    """
    product = torch.eye(len(x), dtype=x.dtype)
    for W in weights:
        z = (W @ x).requires_grad_()  # (n_out,)
        x = activation(z)
        (slope,) = torch.autograd.grad(x.sum(), z)
        product = slope[:, None] * W @ product
        x = x.detach()
    return product


# --8<-- [end:jacobian]


# --8<-- [start:scratch]
def normal(std: float) -> Init:
    """Make an initializer N(0, std^2) that ignores the size of the layer."""
    return lambda n_out, n_in, g: std * torch.randn(n_out, n_in, generator=g)


def xavier_uniform(n_out: int, n_in: int, g: torch.Generator) -> Tensor:
    """U(-a, a) with a = sqrt(6 / (n_in + n_out)), equation (5)."""
    a = math.sqrt(6 / (n_in + n_out))
    return (2 * torch.rand(n_out, n_in, generator=g) - 1) * a


def kaiming_normal(n_out: int, n_in: int, g: torch.Generator) -> Tensor:
    """N(0, 2 / n_in), equation (7)."""
    return math.sqrt(2 / n_in) * torch.randn(n_out, n_in, generator=g)


def torch_default(n_out: int, n_in: int, g: torch.Generator) -> Tensor:
    """U(-a, a) with a = 1 / sqrt(n_in): what nn.Linear does, equation (8)."""
    return (2 * torch.rand(n_out, n_in, generator=g) - 1) / math.sqrt(n_in)


# --8<-- [end:scratch]


# --8<-- [start:orthogonal]
def orthogonal(gain: float) -> Init:
    """Make an initializer: gain times a random matrix with orthonormal rows or columns."""

    def init(n_out: int, n_in: int, g: torch.Generator) -> Tensor:
        tall = torch.randn(max(n_out, n_in), min(n_out, n_in), generator=g)
        q, r = torch.linalg.qr(tall)  # orthonormal columns
        q = gain * q * r.diagonal().sign()  # (1)!
        return q if n_out >= n_in else q.mT

    return init


# --8<-- [end:orthogonal]


# --8<-- [start:gradient_rms]
def rms(t: Tensor) -> float:
    """Root of the mean square of all entries."""
    return t.square().mean().sqrt().item()


def gradient_rms(weights: list[Tensor], activation: Activation, x: Tensor) -> list[float]:
    """Size of the gradient at each layer's input and at the output, which gets N(0, 1)."""
    signals = hidden_signals(weights, activation, x.detach().requires_grad_())
    g = torch.Generator().manual_seed(0)
    seed = torch.randn(signals[-1].shape, generator=g, dtype=x.dtype)
    return [rms(t) for t in torch.autograd.grad(signals[-1], signals, seed)]


# --8<-- [end:gradient_rms]


# --8<-- [start:stack_layers]
def make_weights(init: Init, depth: int, width: int, seed: int) -> list[Tensor]:
    """Draw `depth` square weights (width, width), returned in double precision."""
    g = torch.Generator().manual_seed(seed)
    return [init(width, width, g).double() for _ in range(depth)]


INITS: dict[str, Init] = {
    "zero": normal(0.0),
    "N(0, 0.01²)": normal(0.01),
    "N(0, 1)": normal(1.0),
    "default": torch_default,
    "Xavier": xavier_uniform,
    "Kaiming": kaiming_normal,
    "orthogonal, gain √2": orthogonal(math.sqrt(2)),
}
# --8<-- [end:stack_layers]


# --8<-- [start:together]
def stack(nets: Sequence[nn.Sequential]) -> list[Tensor]:
    """Parameters of R networks of one shape: W (R, n_out, n_in), b (R, 1, n_out), W, b, ..."""
    together = [torch.stack(p).detach() for p in zip(*(n.parameters() for n in nets), strict=True)]
    return [p if p.dim() == 3 else p[:, None] for p in together]


def forward_together(params: list[Tensor], x: Tensor, normalise: bool = False) -> Tensor:
    """Logits (R, N, q) of R ReLU networks for the same x: (N, d).

    normalise: make every unit's input have mean 0 and variance 1 over the batch, before ReLU.
    """
    h = x.expand(len(params[0]), -1, -1)  # (R, N, d)
    for W, b in zip(params[:-2:2], params[1:-2:2], strict=True):
        z = torch.baddbmm(b, h, W.mT)  # (R, N, n_out)
        if normalise:
            z = (z - z.mean(1, True)) / (z.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
        h = torch.relu(z)
    return torch.baddbmm(params[-1], h, params[-2].mT)


# --8<-- [end:together]


# --8<-- [start:losses]
def losses(logits: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy of each network, (R,); logits: (R, N, q), y: (N,)."""
    each = F.cross_entropy(logits.flatten(0, 1), y.repeat(len(logits)), reduction="none")
    return each.view(len(logits), -1).mean(1)


def clip_each(params: list[Tensor], largest: float) -> None:
    """Shorten each network's gradient to the norm `largest` if it is longer; shapes (R, ...)."""
    squares = [p.grad.flatten(1).square().sum(1) for p in params]  # (R,) each
    factor = (largest / torch.stack(squares).sum(0).sqrt()).clamp(max=1)  # (R,)
    for p in params:
        p.grad *= factor[:, None, None]


# --8<-- [end:losses]


# --8<-- [start:train_together]
def train_together(
    params: list[Tensor], lr: float, steps: int, seed: int, adam_eps: float | None = None,
    clip: float = math.inf, normalise: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Train R networks on the same batches of 32 digits, each on its own loss.

    adam_eps: use Adam with this eps instead of SGD; clip: largest norm of one network's gradient.
    Returns the batch losses (steps, R) and the accuracy on the test set (R,).
    """
    X, y, X_test, y_test = digits()
    params = [p.clone().requires_grad_() for p in params]
    optimizer: torch.optim.Optimizer = torch.optim.SGD(params, lr=lr)
    if adam_eps is not None:
        optimizer = torch.optim.Adam(params, lr=lr, eps=adam_eps)
    g = torch.Generator().manual_seed(seed)
    history = []
    for _ in range(steps):
        index = torch.randint(len(X), (32,), generator=g)
        optimizer.zero_grad()
        each = losses(forward_together(params, X[index], normalise), y[index])  # (R,)
        each.sum().backward()
        if clip < math.inf:
            clip_each(params, clip)
        optimizer.step()
        history.append(each.detach())
    with torch.no_grad():
        guesses = forward_together(params, X_test, normalise).argmax(-1)  # (R, N)
    return torch.stack(history), (guesses == y_test).float().mean(1)


# --8<-- [end:train_together]


# --8<-- [start:symmetry]
def spread(W1: Tensor) -> float:
    """Distance of the units from their mean, relative to their size; W1: (h, d). 0: all equal."""
    return ((W1 - W1.mean(0)).norm() / W1.norm().clamp(min=1e-300)).item()


# --8<-- [end:symmetry]


# --8<-- [start:symmetry_probe]
def symmetry_probe(
    W1: Tensor, W2: Tensor, dropout: float, steps: int, seed: int, lr: float = 0.1
) -> tuple[Tensor, float]:
    """Train a network 64-h-10 without biases on the digits, in double precision.

    W1: (h, 64), W2: (10, h); dropout: probability to drop a hidden unit.
    Returns W1 after training and the accuracy on the test set.
    """
    X, y, X_test, y_test = digits()
    W1, W2 = (W.double().clone().requires_grad_() for W in (W1, W2))
    g = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        index = torch.randint(len(X), (64,), generator=g)
        H = torch.relu(X[index].double() @ W1.T)  # (64, h)
        keep = torch.rand(H.shape, generator=g) >= dropout
        logits = (H * keep / (1 - dropout)) @ W2.T  # (64, 10)
        grads = torch.autograd.grad(F.cross_entropy(logits, y[index]), (W1, W2))
        with torch.no_grad():
            W1 -= lr * grads[0]
            W2 -= lr * grads[1]
    guesses = (torch.relu(X_test.double() @ W1.T) @ W2.T).argmax(1)
    return W1.detach(), (guesses == y_test).double().mean().item()


# --8<-- [end:symmetry_probe]


STARTS: dict[str, Callable | None] = {
    "default": None,
    "xavier": nn.init.xavier_normal_,
    "kaiming": he_,
    "orthogonal": lambda weight: nn.init.orthogonal_(weight, gain=math.sqrt(2)),
}


@cache
def ten_layer_losses() -> Tensor:
    """Losses on 10 layers over 200 steps, means of 10 batches: (20, 3 starts, 5 seeds)."""
    starts = [STARTS[name] for name in ("default", "xavier", "kaiming")]
    params = stack([deep_mlp(10, seed, start) for start in starts for seed in range(5)])
    history, _ = train_together(params, lr=0.03, steps=200, seed=0)
    return history.view(20, 10, 3, 5).mean(1)


def figure_chain() -> Figure:
    """Powers of 0.2, 1 and 5."""
    fig, ax = plt.subplots(figsize=(4.8, 2.9), layout="constrained")
    layers = range(31)
    for factor, style in ((5.0, "C3--"), (1.0, "C2-"), (0.2, "C0-.")):
        ax.semilogy(layers, [factor**k for k in layers], style)
    ax.text(14, 1e13, "$5^k$", ha="right")
    ax.text(14, 1e-13, "$0.2^k$", ha="right")
    ax.text(24, 1e1, "$1^k$")
    ax.set(xlabel="number of factors $k$", ylabel="product", xlim=(0, 30))
    ax.grid(True)
    return fig


def figure_signal() -> Figure:
    """Size of the signal by layer, ReLU, width 256, six initializers."""
    fig, ax = plt.subplots(figsize=(4.8, 4.0), layout="constrained")
    lines = {
        "N(0, 1)": ("C3-", "N(0, 1)", 22, 1e26),
        "Kaiming": ("C2-", "Kaiming, orthogonal", 30.4, 1e2),
        "orthogonal, gain √2": ("C4--", "", 0, 1.0),
        "Xavier": ("C0-", "Xavier", 30.4, 3e-10),
        "default": ("C1-", "nn.Linear default", 30.4, 1e-17),
        "N(0, 0.01²)": ("C5-", "N(0, 0.01²)", 22, 1e-29),
    }
    g = torch.Generator().manual_seed(0)
    x = torch.randn(32, 256, generator=g, dtype=torch.float64)
    for name, (style, label, right, bottom) in lines.items():
        signals = hidden_signals(make_weights(INITS[name], 30, 256, seed=0), torch.relu, x)
        ax.semilogy([rms(h) for h in signals], style)
        ax.text(right, bottom, label, ha="right", color=style[:2])
    ax.set(xlabel="layer", ylabel="rms of the units", xlim=(0, 31), ylim=(1e-33, 1e34))
    ax.grid(True)
    return fig


def figure_gradient() -> Figure:
    """Size of the gradient at every layer, three activations with Xavier, ReLU with Kaiming."""
    fig, ax = plt.subplots(figsize=(4.8, 3.6), layout="constrained")
    lines: list[tuple[str, Init, Activation, str]] = [
        ("ReLU, Kaiming", kaiming_normal, torch.relu, "C2-"),
        ("tanh, Xavier", xavier_uniform, torch.tanh, "C4--"),
        ("ReLU, Xavier", xavier_uniform, torch.relu, "C0-."),
        ("sigmoid, Xavier", xavier_uniform, torch.sigmoid, "C3-"),
    ]
    g = torch.Generator().manual_seed(0)
    x = torch.randn(32, 256, generator=g, dtype=torch.float64)
    for label, init, activation, style in lines:
        sizes = gradient_rms(make_weights(init, 30, 256, seed=0), activation, x)
        ax.semilogy(sizes, style, label=label)
    ax.set(xlabel="layer (0: input, 30: output)", ylabel="rms of the gradient", xlim=(0, 30))
    ax.grid(True)
    ax.legend(loc="lower right", frameon=False)
    return fig


def figure_default() -> Figure:
    """Weights of one nn.Linear(256, 256) and a Gaussian of the same variance."""
    fig, ax = plt.subplots(figsize=(4.8, 2.9), layout="constrained")
    g = torch.Generator().manual_seed(0)
    weights = torch_default(256, 256, g).flatten()
    ax.hist(weights, bins=40, density=True, color="C0", alpha=0.6, label="nn.Linear")
    w = torch.linspace(-0.13, 0.13, 100)
    variance = 1 / (3 * 256)
    density = (-w.square() / (2 * variance)).exp() / math.sqrt(2 * math.pi * variance)
    ax.plot(w, density, "C3", label="Gaussian")
    ax.set(xlabel="weight", ylabel="density", ylim=(0, 15.5), xlim=(-0.13, 0.13))
    ax.legend(loc="upper center", ncols=2, frameon=False)
    return fig


def figure_training() -> Figure:
    """Batch loss by step on ten hidden layers: mean and range of five seeds, three starts."""
    fig, ax = plt.subplots(figsize=(4.8, 3.4), layout="constrained")
    curves = ten_layer_losses()
    steps = torch.arange(20) * 10 + 5
    labels = (("nn.Linear default", "C1"), ("Xavier", "C0"), ("Kaiming", "C2"))
    for i, (label, color) in enumerate(labels):
        ax.plot(steps, curves[:, i].mean(1), color, label=label)
        low, high = curves[:, i].min(1).values, curves[:, i].max(1).values
        ax.fill_between(steps, low, high, color=color, alpha=0.25, linewidth=0)
    ax.axhline(math.log(10), color=plt.rcParams["text.color"], linewidth=0.8, linestyle=":")
    ax.set(xlabel="step", ylabel="training loss", xlim=(0, 200), ylim=(0, 3.2))
    ax.legend(loc="upper center", ncols=3, frameon=False, columnspacing=0.9, handlelength=1.2)
    return fig


def experiment_signal(seed: int) -> dict[str, float]:
    """Rms after 30 ReLU layers of width 256, by initializer; and after 10 linear near-1 layers."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(32, 256, generator=g, dtype=torch.float64)
    keys = ("zero", "small", "large", "default", "xavier", "kaiming", "orthogonal")
    out = {}
    for key, init in zip(keys, INITS.values(), strict=True):
        weights = make_weights(init, 30, 256, seed)
        out[key] = rms(hidden_signals(weights, torch.relu, x)[-1])
    near_one = [1 + W for W in make_weights(normal(0.01), 10, 256, seed)]
    out["near_one"] = rms(hidden_signals(near_one, lambda z: z, x)[-1])
    return out


def experiment_gradient(seed: int) -> dict[str, float]:
    """Gradient at the input over that at the output of 30 layers, by activation and initializer."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(32, 256, generator=g, dtype=torch.float64)
    inits = {
        "default": torch_default,
        "xavier": xavier_uniform,
        "kaiming": kaiming_normal,
        "orthogonal": orthogonal(1.0),
    }
    out = {}
    for key, init in inits.items():
        weights = make_weights(init, 30, 256, seed)
        for activation in (torch.sigmoid, torch.tanh, torch.relu):
            sizes = gradient_rms(weights, activation, x)
            out[f"{activation.__name__}_{key}"] = sizes[0] / sizes[-1]
    return out


def experiment_slope(seed: int) -> dict[str, float]:
    """Ten sigmoid layers, width 64, weights N(0, scale^2): mean slope, and gradient ratio."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(64, 64, generator=g, dtype=torch.float64)
    out = {}
    for name, scale in (("small", 0.01), ("middle", 0.5), ("large", 10.0)):
        weights = make_weights(normal(scale), 10, 64, seed)
        signals = hidden_signals(weights, torch.sigmoid, x)[1:]
        slopes = torch.stack([h * (1 - h) for h in signals])  # (10, 64, 64)
        out[f"{name}_slope"] = slopes.mean().item()
        out[f"{name}_saturated"] = (slopes < 1e-3).double().mean().item()
        sizes = gradient_rms(weights, torch.sigmoid, x)
        out[f"{name}_ratio"] = sizes[0] / sizes[-1]
    return out


def experiment_depth(seed: int) -> dict[str, float]:
    """Accuracy after 200 steps at the rate 0.3 / depth, by depth and start."""
    out = {}
    for depth in (2, 5, 10, 30):
        params = stack([deep_mlp(depth, seed, start) for start in STARTS.values()])
        history, accuracy = train_together(params, 0.3 / depth, 200, seed)
        for name, loss, share in zip(STARTS, history[-20:].mean(0), accuracy, strict=True):
            out[f"{name}_{depth}"] = share.item()
            out[f"{name}_{depth}_loss"] = loss.item()
    out["orthogonal_gain_30"] = out["orthogonal_30"] - out["kaiming_30"]
    return out


def experiment_rescue(seed: int) -> dict[str, float]:
    """Accuracy of nn.Linear's default start on 10 layers with SGD, Adam and normalisation."""
    ten = stack([deep_mlp(10, seed)])
    runs = {
        "sgd_10": train_together(ten, 0.03, 100, seed),
        "adam_10": train_together(ten, 0.001, 100, seed, adam_eps=1e-8),
        "normalised_10": train_together(ten, 0.03, 100, seed, normalise=True),
    }
    return {name: accuracy.item() for name, (_, accuracy) in runs.items()}


def experiment_clip(seed: int) -> dict[str, float]:
    """Accuracy on 10 layers from 1, 1.5 and 3 times Kaiming, without and with clipping."""
    factors = {"one": 1.0, "half_more": 1.5, "triple": 3.0}
    params = stack([deep_mlp(10, seed, he_)] * 3)
    for W in params[:-2:2]:
        W *= torch.tensor(list(factors.values()))[:, None, None]
    out = {}
    for kind, clip in (("free", math.inf), ("clipped", 1.0)):
        history, accuracy = train_together(params, 0.03, 100, seed, clip=clip)
        for name, loss, share in zip(factors, history[-1], accuracy, strict=True):
            out[f"{name}_{kind}"] = share.item()
            out[f"{name}_{kind}_nan"] = float(not loss.isfinite())
    return out


def experiment_symmetry(seed: int) -> dict[str, float]:
    """Spread of 32 hidden units and accuracy: equal and random starts, with and without dropout."""
    equal = torch.full((32, 64), 0.05), torch.full((10, 32), 0.05)
    g = torch.Generator().manual_seed(seed)
    random = kaiming_normal(32, 64, g), kaiming_normal(10, 32, g)
    runs = {
        "zero": (torch.zeros(32, 64), torch.zeros(10, 32), 0.0, 300),
        "equal": (*equal, 0.0, 300),
        "dropout": (*equal, 0.5, 300),
        "random": (*random, 0.0, 300),
        "random_dropout": (*random, 0.5, 300),
        "long": (*equal, 0.0, 1000),
    }
    out = {}
    for name, arguments in runs.items():
        W1, out[name] = symmetry_probe(*arguments, seed)
        out[f"{name}_spread"] = spread(W1)
    return out


def experiment_width(seed: int) -> dict[str, float]:
    """Spread of ln(rms^2) after 30 Kaiming layers over 60 networks, and share of dead ones."""
    out = {}
    for width in (8, 32, 128):
        g = torch.Generator().manual_seed(seed)
        h = torch.randn(60, width, 1, generator=g)
        h = h / h.square().mean(1, True).sqrt()  # (60, width, 1), rms 1
        for _ in range(30):
            W = torch.randn(60, width, width, generator=g) * math.sqrt(2 / width)
            h = torch.relu(W @ h)
        size = h.square().mean((1, 2))  # (60,)
        alive = size[size > 0].log()
        out[f"sd_{width}"] = alive.std().item()
        out[f"dead_{width}"] = (size == 0).float().mean().item()
    return out


if __name__ == "__main__":
    for label, init_function in INITS.items():
        x = torch.randn(64, 256, dtype=torch.float64)
        weights = make_weights(init_function, 30, 256, 0)
        print(label, rms(hidden_signals(weights, torch.relu, x)[-1]))
    figure_signal()
    plt.show()
