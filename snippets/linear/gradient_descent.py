"""Gradient descent: derivation, convergence, divergence, saddle points.

The running example is the line y = 2x through the points x = 1, 2, 3, fitted by
w with the mean squared error. Everything runs on the CPU in double precision
unless a section says otherwise.
"""

# --8<-- [start:imports]
import copy
from collections.abc import Callable, Sequence
from typing import Literal

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

# --8<-- [end:imports]

SEEDS = range(10)
XS = (1.0, 2.0, 3.0)
YS = (2.0, 4.0, 6.0)


# --8<-- [start:scratch]
def cost(w: float, xs: Sequence[float], ys: Sequence[float]) -> float:
    """Mean squared error of the line w * x over N points."""
    return sum((x * w - y) ** 2 for x, y in zip(xs, ys, strict=True)) / len(xs)


def gradient(w: float, xs: Sequence[float], ys: Sequence[float]) -> float:
    """Derivative of the cost with respect to w, equation (2)."""
    return 2 * sum(x * (x * w - y) for x, y in zip(xs, ys, strict=True)) / len(xs)


def gradient_descent(
    w0: float, lr: float, steps: int, xs: Sequence[float], ys: Sequence[float]
) -> list[float]:
    """Return the path [w_0, ..., w_steps] of equation (3)."""
    path = [w0]
    for _ in range(steps):
        path.append(path[-1] - lr * gradient(path[-1], xs, ys))
    return path


def max_stable_lr(xs: Sequence[float]) -> float:
    """Return 2 / L with the curvature L = 2 mean(x^2); descent converges below it."""
    return len(xs) / sum(x * x for x in xs)


# --8<-- [end:scratch]


# --8<-- [start:torch]
def gradient_descent_torch(w0: float, lr: float, steps: int, x: Tensor, y: Tensor) -> list[float]:
    """Return [w_0, ..., w_steps] with autograd and torch.optim.SGD; x, y: (N,)."""
    w = torch.tensor(w0, dtype=x.dtype, requires_grad=True)  # ()
    optimizer = torch.optim.SGD([w], lr=lr)
    path = [w.item()]
    for _ in range(steps):
        optimizer.zero_grad()  # (1)!
        loss = nn.functional.mse_loss(w * x, y)  # ()
        loss.backward()  # (2)!
        optimizer.step()  # (3)!
        path.append(w.item())
    return path


# --8<-- [end:torch]


# --8<-- [start:relative_cost]
def relative_cost(scales: Tensor, rate: float, steps: int, seed: int, adapt: bool) -> Tensor:
    """Cost after `steps` over the cost at the start, one random problem a scale.

    Each of the S problems has N = 50 samples, d = 5 features of size `scale`, and
    noise-free labels, so that the smallest cost is 0.
    rate: the learning rate itself, or with adapt=True a multiple of 1 / lambda_max.
    """
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(len(scales), 50, 5, generator=g, dtype=torch.float64)  # (S, N, d)
    x = x * scales[:, None, None]
    y = x @ torch.randn(len(scales), 5, 1, generator=g, dtype=torch.float64)  # (S, N, 1)
    hessian = 2 * x.mT @ x / x.shape[1]  # (S, d, d)
    lr = torch.full_like(scales, rate)  # (S,)
    if adapt:
        lr = rate / torch.linalg.eigvalsh(hessian)[:, -1]
    w = torch.zeros(len(scales), 5, 1, dtype=torch.float64)  # (S, d, 1)
    for _ in range(steps):
        w = w - lr[:, None, None] * 2 * x.mT @ (x @ w - y) / x.shape[1]
    return (x @ w - y).square().mean((1, 2)) / y.square().mean((1, 2))  # (S,)


# --8<-- [end:relative_cost]


# --8<-- [start:descend]
def descend(
    grad: Callable[[Tensor], Tensor],
    p0: Tensor,
    lr: float,
    steps: int,
    noise: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the path p_0, ..., p_steps, shape (steps + 1, *p0.shape).

    noise: standard deviation of the Gaussian noise on every gradient entry.
    """
    path = [p0]
    for _ in range(steps):
        g = grad(path[-1])
        if noise > 0:
            g = g + noise * torch.randn(p0.shape, generator=generator, dtype=p0.dtype)
        path.append(path[-1] - lr * g)
    return torch.stack(path)


# --8<-- [end:descend]


# --8<-- [start:two_valleys]
def two_valleys(w: Tensor) -> Tensor:
    """Non-convex: minima at -3 (global) and 2.5 (local), maximum at 0.5."""
    return w**4 / 4 - 31 * w**2 / 8 + 15 * w / 4


def two_valleys_grad(w: Tensor) -> Tensor:
    """Its derivative w^3 - 31 w / 4 + 15 / 4."""
    return (w + 3) * (w - 0.5) * (w - 2.5)


# --8<-- [end:two_valleys]


# --8<-- [start:permute_hidden]
def permute_hidden(mlp: nn.Sequential, perm: Tensor) -> nn.Sequential:
    """Copy Sequential(Linear(d, h), activation, Linear(h, q)) with hidden units reordered."""
    out = copy.deepcopy(mlp)
    with torch.no_grad():
        out[0].weight.copy_(mlp[0].weight[perm])  # (h, d): rows
        out[0].bias.copy_(mlp[0].bias[perm])  # (h,)
        out[2].weight.copy_(mlp[2].weight[:, perm])  # (q, h): columns
    return out


def interpolate(a: nn.Module, b: nn.Module, t: float) -> nn.Module:
    """Copy of a whose parameters are (1 - t) a + t b."""
    out = copy.deepcopy(a)
    with torch.no_grad():
        for p, q in zip(out.parameters(), b.parameters(), strict=True):
            p.lerp_(q, t)
    return out


# --8<-- [end:permute_hidden]


# --8<-- [start:train_mlp]
def sine_data() -> tuple[Tensor, Tensor]:
    """21 points of sin(5x) on [-1, 1]; x, y: (21, 1), float32."""
    x = torch.linspace(-1, 1, 21).unsqueeze(1)
    return x, torch.sin(5 * x)


def train_mlp(hidden: int, seed: int, steps: int = 1000, lr: float = 0.05) -> nn.Sequential:
    """Fit a 1-hidden-1 tanh network to sine_data by full-batch gradient descent."""
    x, y = sine_data()
    g = torch.Generator().manual_seed(seed)
    net = nn.Sequential(nn.Linear(1, hidden), nn.Tanh(), nn.Linear(hidden, 1))
    nn.init.normal_(net[0].weight, std=2.0, generator=g)
    nn.init.normal_(net[0].bias, std=1.0, generator=g)
    nn.init.normal_(net[2].weight, std=hidden**-0.5, generator=g)
    nn.init.zeros_(net[2].bias)
    for _ in range(steps):
        net.zero_grad()
        nn.functional.mse_loss(net(x), y).backward()
        with torch.no_grad():
            for p in net.parameters():
                p -= lr * p.grad
    return net


# --8<-- [end:train_mlp]


# --8<-- [start:hessian_type]
def hessian_type(
    f: Callable[[Tensor], Tensor], p: Tensor, tol: float = 1e-8
) -> Literal["min", "max", "saddle", "undecided"]:
    """Classify the stationary point p, shape (d,), by the signs of the Hessian's eigenvalues.

    "undecided": some eigenvalue is 0 and the others do not contradict each other.
    Raises ValueError if the gradient at p is not 0.
    """
    grad = torch.func.grad(f)
    if grad(p).abs().max() > tol:
        raise ValueError("not a stationary point: the gradient is not zero")
    hessian = torch.func.jacrev(grad)(p)  # (d, d)
    eigenvalues = torch.linalg.eigvalsh(hessian)  # (d,), ascending
    if eigenvalues[0] < -tol and eigenvalues[-1] > tol:
        return "saddle"
    if eigenvalues[0] > tol:
        return "min"
    if eigenvalues[-1] < -tol:
        return "max"
    return "undecided"


# --8<-- [end:hessian_type]


# --8<-- [start:escape]
def escape_step(path: Tensor, direction: Tensor) -> float:
    """First step with |p . direction| > 1, or inf; path: (steps + 1, 2), direction: (2,)."""
    outside = (path @ direction).abs() > 1  # (steps + 1,)
    return float(outside.int().argmax()) if outside.any() else float("inf")


def saddle_grad(p: Tensor) -> Tensor:
    """Gradient of x^2 - y^2; p: (2,)."""
    return p * torch.tensor([2.0, -2.0], dtype=p.dtype)


# --8<-- [end:escape]


# --8<-- [start:steps_needed]
def steps_needed(x: Tensor, y: Tensor) -> int:
    """Steps until w x + b has lost all but a millionth of its cost, at the best rate (8).

    x, y: (N,), with y exactly linear in x, so that the smallest cost is 0.
    """
    design = torch.stack([x, torch.ones_like(x)], dim=1)  # (N, 2)
    eigenvalues = torch.linalg.eigvalsh(2 * design.T @ design / len(x))  # (2,)
    lr = 2 / (eigenvalues[0] + eigenvalues[-1]).item()
    p, steps = torch.zeros(2, dtype=x.dtype), 0  # (w, b)
    while (design @ p - y).square().mean() > 1e-6 * y.square().mean():
        p = p - lr * 2 * design.T @ (design @ p - y) / len(x)
        steps += 1
    return steps


# --8<-- [end:steps_needed]


def mse(net: nn.Module) -> float:
    """Mean squared error of net on sine_data."""
    x, y = sine_data()
    with torch.no_grad():
        return nn.functional.mse_loss(net(x), y).item()


def figure_learning_rates() -> Figure:
    """Cost against the step for four learning rates, one start."""
    fig, ax = plt.subplots(layout="constrained")
    styles = {0.01: "C0-", 0.1: "C2--", 0.2: "C1-.", 0.215: "C3-"}
    for lr, style in styles.items():
        path = gradient_descent(1.0, lr, 60, XS, YS)
        ax.semilogy([cost(w, XS, YS) for w in path], style, label=rf"$\eta={lr}$")
    ax.set(xlabel="step $k$", ylabel=r"cost$(w_k)$", ylim=(1e-8, 1e5), xlim=(0, 60))
    ax.grid(True)
    ax.legend(loc="upper center", ncols=2, frameon=False)
    return fig


def figure_cost_curve() -> Figure:
    """The same 100 steps on a linear and on a logarithmic axis."""
    fig, axes = plt.subplots(2, 1, sharex=True, figsize=(4.8, 4.6), layout="constrained")
    costs = [cost(w, XS, YS) for w in gradient_descent(1.0, 0.01, 100, XS, YS)]
    for ax, scale in zip(axes, ("linear", "log"), strict=True):
        ax.plot(costs, "C0")
        ax.set(yscale=scale, ylabel=f"cost ({scale})")
        ax.grid(True)
    axes[1].set(xlabel="step $k$", xlim=(0, 100))
    return fig


def figure_scales() -> Figure:
    """Relative cost after 100 steps against the size of the features, two rules for the rate."""
    fig, ax = plt.subplots(layout="constrained")
    scales = torch.logspace(-2, 2, 60, dtype=torch.float64)
    rules = {
        r"$\eta = 1/\lambda_{\max}$": (1.0, True, "C0s"),
        r"$\eta = 0.01$": (0.01, False, "C3o"),
    }
    for label, (rate, adapt, style) in rules.items():
        left = relative_cost(scales, rate, 100, seed=0, adapt=adapt).clamp(1e-15, 1e15)
        ax.loglog(scales, left, style, markersize=4, label=label)
    ax.axhline(1.0, color=plt.rcParams["text.color"], linewidth=0.8)
    ax.text(0.011, 8.0, "no progress")
    ax.set(xlabel="size of the features", ylabel="final cost / start cost", ylim=(1e-18, 1e22))
    ax.grid(True)
    ax.legend(loc="upper left", frameon=False)
    return fig


def figure_two_valleys() -> Figure:
    """Two starts on a non-convex function, one on each side of the hill."""
    fig, ax = plt.subplots(layout="constrained")
    w = torch.linspace(-4, 4, 200, dtype=torch.float64)
    ax.plot(w, two_valleys(w), color=plt.rcParams["text.color"], linewidth=1.2)
    ax.axvspan(0.5, 4, color="C3", alpha=0.15, linewidth=0)
    for start, style in ((0.3, "C0o"), (0.7, "C3s")):
        path = descend(two_valleys_grad, torch.tensor(start, dtype=torch.float64), 0.02, 100)
        ax.plot(path, two_valleys(path), style, markersize=5, label=f"start {start}")
    ax.annotate("local\nminimum", (2.5, two_valleys(torch.tensor(2.5))), (2.5, -15), ha="center")
    ax.annotate("global\nminimum", (-3, two_valleys(torch.tensor(-3.0))), (-1.2, -25), ha="center")
    ax.set(xlabel="$w$", ylabel="$f(w)$", xlim=(-4, 4), ylim=(-29, 18))
    ax.legend(loc="upper center", frameon=False)
    return fig


def figure_permutation() -> Figure:
    """Cost along the segment between a trained network and its permuted copy."""
    fig, ax = plt.subplots(layout="constrained")
    net = train_mlp(8, seed=0)
    other = permute_hidden(net, torch.arange(8).roll(1))
    ts = [i / 40 for i in range(41)]
    ax.plot(ts, [mse(interpolate(net, other, t)) for t in ts], "C0")
    ax.plot([0, 1], [mse(net), mse(other)], "C2o", label="equal costs")
    ax.plot(0.5, mse(interpolate(net, other, 0.5)), "C3s", label="midpoint")
    ax.set(xlabel="$t$ on the segment $(1-t)A + tB$", ylabel="cost", ylim=(0, None))
    ax.grid(True)
    ax.legend(frameon=False)
    return fig


def figure_saddle() -> Figure:
    """Two paths on x^2 - y^2 whose starts differ by 1e-6."""
    fig, ax = plt.subplots(figsize=(4.8, 4.2), layout="constrained")
    axis = torch.linspace(-1.2, 1.2, 81)
    x, y = torch.meshgrid(axis, axis, indexing="xy")
    ax.contour(x, y, x**2 - y**2, levels=11, colors=plt.rcParams["grid.color"], linewidths=0.8)
    for y0, style, label in ((0.0, "C3s", "start (1, 0)"), (1e-6, "C0o", r"start (1, $10^{-6}$)")):
        path = descend(saddle_grad, torch.tensor([1.0, y0], dtype=torch.float64), 0.1, 76)
        ax.plot(*path.T, style, markersize=8 if y0 == 0 else 4, label=label)
    ax.set(xlabel="$x$", ylabel="$y$", xlim=(-1.2, 1.2), ylim=(-1.2, 1.2))
    ax.legend(loc="lower left", frameon=False)
    return fig


def experiment_rate(seed: int) -> dict[str, float]:
    """Shares of 100 random problems solved (cost / 1e6) or spoilt in 100 steps, by rule."""
    scales = torch.logspace(-2, 2, 100, dtype=torch.float64)
    rules = {
        "fixed": (0.01, False),
        "adapted": (1.0, True),
        "below": (1.9, True),
        "above": (2.1, True),
    }
    out = {}
    for name, (rate, adapt) in rules.items():
        left = relative_cost(scales, rate, 100, seed, adapt)  # (100,)
        out[f"{name}_solved"] = (left < 1e-6).double().mean().item()
        out[f"{name}_spoilt"] = (~(left <= 1)).double().mean().item()
    return out


def experiment_restarts(seed: int) -> dict[str, float]:
    """Share of 400 trials that find the global minimum: one start, best of five starts."""
    g = torch.Generator().manual_seed(seed)
    starts = 8 * torch.rand(400, 5, generator=g, dtype=torch.float64) - 4  # (trials, starts)
    end = descend(two_valleys_grad, starts, 0.02, 300)[-1]
    found = (end + 3).abs() < 1e-3  # (400, 5)
    return {
        "one": found[:, 0].double().mean().item(),
        "five": found.any(1).double().mean().item(),
    }


def experiment_barrier(seed: int) -> dict[str, float]:
    """Cost of a trained network, of its permuted copy, and of the midpoint of the two."""
    net = train_mlp(8, seed)
    other = permute_hidden(net, torch.arange(8).roll(1))
    middle = mse(interpolate(net, other, 0.5))
    return {"net": mse(net), "permuted": mse(other), "midpoint": middle}


def experiment_width(seed: int) -> dict[str, float]:
    """Cost after the same training with 2 and with 16 hidden units."""
    return {"small": mse(train_mlp(2, seed)), "large": mse(train_mlp(16, seed))}


def experiment_saddle(seed: int) -> dict[str, float]:
    """Steps until descent leaves a saddle it was aimed at, without and with noise."""
    g = torch.Generator().manual_seed(seed)
    start = torch.tensor([1.0, 0.0], dtype=torch.float64)
    out_of = torch.tensor([0.0, 1.0], dtype=torch.float64)
    angle = 0.1 + 1.3 * torch.rand((), generator=g, dtype=torch.float64)
    u = torch.stack([angle.cos(), angle.sin()])
    v = torch.stack([-angle.sin(), angle.cos()])
    tilted = 2 * torch.outer(u, u) - 2 * torch.outer(v, v)  # (2, 2)
    out = {"stuck": float(descend(saddle_grad, start, 0.1, 1000)[-1, 1] == 0)}
    out["tilted"] = escape_step(descend(lambda p: tilted @ p, u, 0.1, 400), v)
    for name, noise in (("tiny", 1e-6), ("small", 1e-3)):
        g = torch.Generator().manual_seed(seed)
        out[name] = escape_step(descend(saddle_grad, start, 0.1, 400, noise, g), out_of)
    return out


def experiment_floor(seed: int) -> dict[str, float]:
    """Mean cost of 4000 chains on y = 2x after 100 steps, without and with gradient noise."""
    g = torch.Generator().manual_seed(seed)
    x, y = torch.tensor(XS, dtype=torch.float64), torch.tensor(YS, dtype=torch.float64)
    start = torch.ones(4000, 1, dtype=torch.float64)
    out = {}
    for name, noise in (("exact", 0.0), ("noisy", 1.0)):
        path = descend(lambda w: 2 * (x * (x * w - y)).mean(1, True), start, 0.1, 100, noise, g)
        out[name] = (path[-1] * x - y).square().mean().item()
    return out


if __name__ == "__main__":
    for rate in (0.01, 0.1, 0.2, 0.215):
        print(rate, gradient_descent(1.0, rate, 100, XS, YS)[-1])
    print("largest stable rate", max_stable_lr(XS))
    figure_learning_rates()
    plt.show()
