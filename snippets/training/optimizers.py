"""Optimizers: from Taylor's formula to Adam, each beside its control.

Every optimizer is one small class with step(w, g) -> w. It works on a tensor of any shape,
and its learning rate may be a tensor too, so that a whole grid of rates runs at once.
"""

# --8<-- [start:imports]
import math
from collections.abc import Callable
from functools import cache

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from snippets.data import batches, load_digits

# --8<-- [end:imports]

SEEDS = range(10)
TUNING_SEEDS = (100, 101, 102)


# --8<-- [start:bowl]
def bowl(p: Tensor, kappa: float = 100.0) -> Tensor:
    """Return (x^2 + kappa y^2) / 2, smallest at 0; p: (..., 2), result: (...)."""
    return (p[..., 0] ** 2 + kappa * p[..., 1] ** 2) / 2


def bowl_grad(p: Tensor, kappa: float = 100.0) -> Tensor:
    """Its gradient (x, kappa y)."""
    return p * torch.tensor([1.0, kappa], dtype=p.dtype)


# --8<-- [end:bowl]


# --8<-- [start:taylor]
def taylor1(f: Callable[[Tensor], Tensor], x0: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the linear model x -> f(x0) + grad f(x0) . (x - x0); x0: (d,)."""
    value, slope = f(x0), torch.func.grad(f)(x0)  # (), (d,)
    return lambda x: value + slope @ (x - x0)


def flat(x: Tensor) -> Tensor:
    """Return exp(-1 / x^2), continued by 0 at 0: smooth, and all derivatives at 0 vanish."""
    return torch.where(x == 0, 0.0, torch.exp(-1 / x**2))


# --8<-- [end:taylor]


# --8<-- [start:momentum]
class Momentum:
    """Heavy ball, equation (4); mu = 0 is plain gradient descent (torch.optim.SGD)."""

    def __init__(self, lr: float | Tensor, mu: float = 0.9) -> None:
        self.lr, self.mu = lr, mu
        self.v = 0.0  # becomes a tensor shaped like w

    def step(self, w: Tensor, g: Tensor) -> Tensor:
        """Return the parameters after one step; w, g: the same shape."""
        self.v = self.mu * self.v + g
        return w - self.lr * self.v


class Nesterov(Momentum):
    """Nesterov's momentum in PyTorch's form, equation (8)."""

    def step(self, w: Tensor, g: Tensor) -> Tensor:
        self.v = self.mu * self.v + g
        return w - self.lr * (g + self.mu * self.v)


# --8<-- [end:momentum]


# --8<-- [start:run]
def run(opt, grad: Callable[[Tensor], Tensor], w0: Tensor, steps: int) -> Tensor:
    """Return the path w_0, ..., w_steps, shape (steps + 1, *w0.shape)."""
    path = [w0]
    for _ in range(steps):
        path.append(opt.step(path[-1], grad(path[-1])))
    return torch.stack(path)


# --8<-- [end:run]


# --8<-- [start:adaptive]
class Adagrad:
    """Equation (9): divide by the root of the sum of all squared gradients."""

    def __init__(self, lr: float | Tensor, eps: float = 1e-10) -> None:
        self.lr, self.eps = lr, eps
        self.total = 0.0

    def step(self, w: Tensor, g: Tensor) -> Tensor:
        self.total = self.total + g * g
        return w - self.lr * g / (self.total.sqrt() + self.eps)


class RMSprop:
    """Equation (10): divide by the root of a moving average of the squared gradients."""

    def __init__(
        self, lr: float | Tensor, alpha: float = 0.99, eps: float = 1e-8, inside: bool = False
    ) -> None:
        self.lr, self.alpha, self.eps, self.inside = lr, alpha, eps, inside
        self.cache = 0.0

    def step(self, w: Tensor, g: Tensor) -> Tensor:
        self.cache = self.alpha * self.cache + (1 - self.alpha) * g * g
        if self.inside:
            return w - self.lr * g / (self.cache + self.eps).sqrt()
        return w - self.lr * g / (self.cache.sqrt() + self.eps)


# --8<-- [end:adaptive]


# --8<-- [start:adam]
class Adam:
    """Equations (11) to (13); corrected=False leaves the bias correction out."""

    def __init__(
        self,
        lr: float | Tensor,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        corrected: bool = True,
    ) -> None:
        self.lr, self.beta1, self.beta2, self.eps = lr, beta1, beta2, eps
        self.corrected = corrected
        self.m = self.v = 0.0
        self.t = 0

    def step(self, w: Tensor, g: Tensor) -> Tensor:
        self.t += 1
        self.m = self.beta1 * self.m + (1 - self.beta1) * g
        self.v = self.beta2 * self.v + (1 - self.beta2) * g * g
        m, v = self.m, self.v
        if self.corrected:
            m = m / (1 - self.beta1**self.t)
            v = v / (1 - self.beta2**self.t)
        return w - self.lr * m / (v.sqrt() + self.eps)


# --8<-- [end:adam]


# --8<-- [start:adamw]
class AdamW(Adam):
    """Adam with decoupled weight decay, equation (14)."""

    def __init__(self, lr: float | Tensor, weight_decay: float = 0.01, **options) -> None:
        super().__init__(lr, **options)
        self.weight_decay = weight_decay

    def step(self, w: Tensor, g: Tensor) -> Tensor:
        return super().step((1 - self.lr * self.weight_decay) * w, g)


# --8<-- [end:adamw]


# --8<-- [start:torch_run]
def torch_run(
    make: Callable[[list[Tensor]], torch.optim.Optimizer],
    grad: Callable[[Tensor], Tensor],
    w0: Tensor,
    steps: int,
) -> Tensor:
    """Return the path of a torch.optim optimizer, shape (steps + 1, *w0.shape)."""
    w = w0.clone().requires_grad_()
    optimizer = make([w])
    path = [w0]
    for _ in range(steps):
        w.grad = grad(w.detach())
        optimizer.step()
        path.append(w.detach().clone())
    return torch.stack(path)


# --8<-- [end:torch_run]


# --8<-- [start:landscapes]
def rotate(p: Tensor, degrees: float = 45.0) -> Tensor:
    """Turn the points p, shape (..., 2), about the origin."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return p @ torch.tensor([[c, s], [-s, c]], dtype=p.dtype)


def beale(p: Tensor) -> Tensor:
    """Beale's function: a curved valley with flat ends, smallest (0) at (3, 0.5)."""
    x, y = p[..., 0], p[..., 1]
    return sum((c - x + x * y**k) ** 2 for k, c in ((1, 1.5), (2, 2.25), (3, 2.625)))


def beale_grad(p: Tensor) -> Tensor:
    """Its gradient."""
    x, y = p[..., 0], p[..., 1]
    gx, gy = torch.zeros_like(x), torch.zeros_like(y)
    for k, c in ((1, 1.5), (2, 2.25), (3, 2.625)):
        residual = c - x + x * y**k
        gx = gx + 2 * residual * (y**k - 1)
        gy = gy + 2 * residual * k * x * y ** (k - 1)
    return torch.stack([gx, gy], dim=-1)


# --8<-- [end:landscapes]


# --8<-- [start:saddle]
def saddle(p: Tensor, weak: float = 0.01) -> Tensor:
    """Saddle at (0, 0), as steep as 1 along x, `weak` along y; smallest (0) at (0, +-1)."""
    x, y = p[..., 0], p[..., 1]
    return x**2 / 2 + weak * (y**2 - 1) ** 2 / 4


def saddle_grad(p: Tensor, weak: float = 0.01) -> Tensor:
    """Its gradient."""
    x, y = p[..., 0], p[..., 1]
    return torch.stack([x, weak * (y**3 - y)], dim=-1)


# --8<-- [end:saddle]


# --8<-- [start:settled]
def settled(opt, f: Callable, grad: Callable, w: Tensor, steps: int, share: float = 1e-4) -> Tensor:
    """Step from which f stays below `share` of its value at the start; inf if it never does.

    w: (..., S, 2) starts; f has minimum 0. Result: (..., S).
    """
    bound = share * f(w)  # (..., S)
    last_above = torch.zeros_like(bound)
    for k in range(1, steps + 1):
        w = opt.step(w, grad(w))
        below = f(w) <= bound  # nan counts as above
        last_above = torch.where(below, last_above, float(k))
    return torch.where(last_above < steps, last_above + 1, float("inf"))


# --8<-- [end:settled]


# --8<-- [start:network]
def init_params(rows: int, seed: int, hidden: int = 32) -> Tensor:
    """Return `rows` copies of one 64-hidden-10 network, each flat: (rows, P), uniform init."""
    g = torch.Generator().manual_seed(seed)
    parts = []
    for fan_in, fan_out in ((64, hidden), (hidden, 10)):
        u = torch.rand((fan_in + 1) * fan_out, generator=g)  # weights and biases
        parts.append((2 * u - 1) / fan_in**0.5)
    return torch.cat(parts).repeat(rows, 1)


def net_logits(p: Tensor, x: Tensor, hidden: int = 32) -> Tensor:
    """Logits of K flat ReLU networks; p: (K, P), x: (K, B, 64), result: (K, B, 10)."""
    sizes = [64 * hidden, hidden, hidden * 10, 10]
    w1, b1, w2, b2 = p.split(sizes, dim=1)
    h = torch.relu(torch.baddbmm(b1[:, None], x, w1.view(-1, 64, hidden)))  # (K, B, hidden)
    return torch.baddbmm(b2[:, None], h, w2.view(-1, hidden, 10))


def net_loss(p: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of each network; y: (B,), result: (K,)."""
    logits = net_logits(p, x)  # (K, B, 10)
    every = nn.functional.cross_entropy(
        logits.flatten(0, 1), y.repeat(len(p)), reduction="none"
    )  # (K * B,)
    return every.view(len(p), -1).mean(1)


# --8<-- [end:network]


# --8<-- [start:train]
def train(
    make: Callable,
    rates: Tensor,
    scales: Tensor,
    seed: int,
    schedules: tuple[Callable[[float], float], ...] = (),
    epochs: int = 6,
) -> tuple[Tensor, Tensor]:
    """Train K networks side by side on the digits, same start, same batches of 64.

    rates: (K,); scales: (K, 64) multiply the pixels; schedules: share done -> factor, K of them.
    Returns the training loss and the test accuracy, both (K,).
    """
    X, y, X_test, y_test = load_digits()
    p = init_params(len(rates), seed)  # (K, P)
    opt = make(rates[:, None])
    g = torch.Generator().manual_seed(seed)
    done, total = 0, epochs * math.ceil(len(X) / 64)
    for _ in range(epochs):
        for xb, yb in batches(X, y, 64, g):
            if schedules:
                opt.lr = (rates * torch.tensor([s(done / total) for s in schedules]))[:, None]
            p.requires_grad_()
            (grad,) = torch.autograd.grad(net_loss(p, xb * scales[:, None], yb).sum(), p)
            p = opt.step(p.detach(), grad)
            done += 1
    hits = net_logits(p, X_test * scales[:, None]).argmax(-1) == y_test  # (K, 360)
    return net_loss(p, X * scales[:, None], y), hits.float().mean(1)


# --8<-- [end:train]


# --8<-- [start:schedules]
def constant(share: float) -> float:
    """Factor of the learning rate when `share` of the steps are done."""
    return 1.0


def cosine(share: float) -> float:
    """From 1 to 0 along half a period of the cosine, equation (15)."""
    return (1 + math.cos(math.pi * share)) / 2


def warmup_cosine(share: float, warmup: float = 0.1) -> float:
    """Linear from 0 to 1 in the first `warmup` of the steps, then the cosine."""
    if share < warmup:
        return share / warmup
    return cosine((share - warmup) / (1 - warmup))


# --8<-- [end:schedules]


# --8<-- [start:noisy]
def noisy_descent(
    seed: int, schedule: Callable[[float], float], decay: float, steps: int = 600
) -> tuple[Tensor, Tensor]:
    """1000 chains on w^2 / 2 with gradient noise N(0, 1), from w = 1, learning rate 0.1.

    Returns mean squared w after each step, for the last iterate and for its moving
    average a <- decay a + (1 - decay) w, both (steps,).
    """
    g = torch.Generator().manual_seed(seed)
    w = average = torch.ones(1000, dtype=torch.float64)
    last, averaged = [], []
    for k in range(steps):
        noise = torch.randn(1000, generator=g, dtype=torch.float64)
        w = w - 0.1 * schedule(k / steps) * (w + noise)
        average = decay * average + (1 - decay) * w
        last.append(w.square().mean())
        averaged.append(average.square().mean())
    return torch.stack(last), torch.stack(averaged)


# --8<-- [end:noisy]


# --8<-- [start:clip]
def clip(g: Tensor, limit: float) -> Tensor:
    """Shorten gradients whose norm exceeds `limit`; g: (..., d)."""
    norm = g.norm(dim=-1, keepdim=True)  # (..., 1)
    return g * (limit / (norm + 1e-6)).clamp(max=1)  # (1)!


# --8<-- [end:clip]


# --8<-- [start:drift]
def adam_drift(big: float, period: int, beta1: float, beta2: float) -> float:
    """Return what Adam adds to w in one cycle, in units of the learning rate.

    The gradient is `big` once and -1 in the other period - 1 steps of a cycle. Measured after
    20,000 steps, where the bias correction no longer matters: 0.999^20000 = 2e-9.
    """
    cycles = math.ceil(20_000 / period) + 1
    m = v = moved = 0.0
    for k in range(cycles * period):
        g = big if k % period == 0 else -1.0
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        if k >= (cycles - 1) * period:
            moved -= m / math.sqrt(v)
    return moved


# --8<-- [end:drift]


OPTIMIZERS: dict[str, Callable] = {
    "gd": lambda lr: Momentum(lr, mu=0.0),
    "momentum": Momentum,
    "nesterov": Nesterov,
    "adagrad": Adagrad,
    "rmsprop": RMSprop,
    "adam": Adam,
}
LABELS = {
    "gd": "GD",
    "momentum": "momentum",
    "nesterov": "Nesterov",
    "adagrad": "Adagrad",
    "rmsprop": "RMSprop",
    "adam": "Adam",
}


def landscape(name: str) -> tuple[Callable, Callable]:
    """Return the function and the gradient of a race track."""
    if name == "rotated":
        return (
            lambda p: bowl(rotate(p, -45.0)),
            lambda p: rotate(bowl_grad(rotate(p, -45.0)), 45.0),
        )
    tracks = {
        "bowl": (bowl, bowl_grad),
        "beale": (beale, beale_grad),
        "saddle": (saddle, saddle_grad),
    }
    return tracks[name]


def random_starts(name: str, n: int, seed: int) -> Tensor:
    """Return n random starts of a track, (n, 2)."""
    g = torch.Generator().manual_seed(seed)
    if name == "saddle":  # beside the ridge
        y = 1e-4 * torch.randn(n, generator=g, dtype=torch.float64)
        return torch.stack([torch.ones_like(y), y], dim=1)
    u = torch.rand(n, 2, generator=g, dtype=torch.float64)
    if name == "beale":
        return 2 * u - torch.tensor([0.0, 1.0], dtype=u.dtype)  # x in [0, 2], y in [-1, 1]
    angle = 2 * math.pi * u[:, 0]
    return torch.stack([angle.cos(), angle.sin()], dim=1)  # the unit circle


@cache
def tuned_rate(name: str, optimizer: str) -> float:
    """Best of 25 learning rates, four to the decade, by mean steps of 40 tuning starts."""
    f, grad = landscape(name)
    rates = 10 ** torch.linspace(-4, 2, 25, dtype=torch.float64)
    w = random_starts(name, 40, seed=100).expand(len(rates), -1, -1)  # (R, 40, 2)
    steps = settled(OPTIMIZERS[optimizer](rates[:, None, None]), f, grad, w, 600)
    return rates[steps.clamp(max=600).mean(1).argmin()].item()


def mixed_units() -> tuple[Tensor, Tensor]:
    """Return the two scalings of the 64 pixels: all 1, and 10^u with u uniform on [-2, 1]."""
    u = torch.rand(64, generator=torch.Generator().manual_seed(7))
    return torch.ones(64), 10 ** (3 * u - 2)


NET_RATES = 10 ** torch.linspace(-3, 0.5, 15)


@cache
def tuning_losses(optimizer: str) -> Tensor:
    """Final training loss of every rate on the tuning seeds; (3, 2, 15): seed, units, rate."""
    scales = torch.stack(mixed_units()).repeat_interleave(len(NET_RATES), 0)  # (30, 64)
    losses = [
        train(OPTIMIZERS[optimizer], NET_RATES.repeat(2), scales, seed)[0] for seed in TUNING_SEEDS
    ]
    return torch.stack(losses).view(len(losses), 2, -1).nan_to_num(nan=math.inf)


# Index into NET_RATES of the smallest mean tuning loss: plain pixels, mixed units.
TUNED = {
    "gd": (12, 9),
    "momentum": (9, 6),
    "nesterov": (10, 8),
    "adagrad": (8, 8),
    "rmsprop": (4, 3),
    "adam": (7, 6),
}


@cache
def race_steps(name: str, optimizer: str) -> Tensor:
    """Steps to settle from 20 starts of every seed in SEEDS, at most 600; (10, 20)."""
    f, grad = landscape(name)
    starts = torch.stack([random_starts(name, 20, seed) for seed in SEEDS])  # (10, 20, 2)
    opt = OPTIMIZERS[optimizer](tuned_rate(name, optimizer))
    return settled(opt, f, grad, starts, 600).clamp(max=600)


@cache
def tuned_path(name: str, optimizer: str, start: tuple[float, float], steps: int) -> Tensor:
    """Path at the tuned rate, (steps + 1, 2); cached because every figure is drawn twice."""
    opt = OPTIMIZERS[optimizer](tuned_rate(name, optimizer))
    return run(opt, landscape(name)[1], torch.tensor(start, dtype=torch.float64), steps)


def figure_bowl_paths() -> Figure:
    """The first 40 steps in the valley at one learning rate, with and without momentum."""
    fig, ax = plt.subplots(layout="constrained")
    x, y = torch.meshgrid(
        torch.linspace(-0.3, 1.1, 41), torch.linspace(-1.1, 1.1, 41), indexing="ij"
    )
    p = torch.stack([x, y], dim=-1)
    grid = plt.rcParams["grid.color"]
    ax.contour(x, y, bowl(p), levels=[0.2, 2, 8, 18, 32, 50], colors=grid, linewidths=0.8)
    start = torch.ones(2, dtype=torch.float64)
    slow = run(Momentum(2 / 101, mu=0.0), bowl_grad, start, 40)
    fast = run(Momentum(2 / 101, mu=0.6), bowl_grad, start, 40)
    ax.plot(*slow.T, "C3-s", markersize=3, linewidth=0.8, label=r"$\mu = 0$")
    ax.plot(*fast.T, "C0-o", markersize=4, linewidth=0.8, label=r"$\mu = 0.6$")
    ax.plot(0, 0, "*", color=plt.rcParams["text.color"], markersize=12)
    ax.set(xlabel="$x$ (curvature 1)", ylabel="$y$ (curvature 100)", ylim=(-1.2, 1.8))
    ax.set(xlim=(-0.3, 1.1))
    ax.legend(loc="upper left", ncols=2, frameon=False)
    return fig


def figure_effective_rate() -> Figure:
    """Effective learning rate when the gradient shrinks from 1 to 0.1 at step 100."""
    fig, ax = plt.subplots(layout="constrained")
    g = torch.ones(201, dtype=torch.float64)
    g[100:] = 0.1
    for name, opt, style in (
        ("Adagrad", Adagrad(1.0), "C3-"),
        (r"RMSprop, $\alpha=0.9$", RMSprop(1.0, alpha=0.9), "C0--"),
    ):
        w = torch.zeros((), dtype=torch.float64)
        rates = []
        for value in g:
            rates.append((w - opt.step(w, value)) / value)
        ax.semilogy(range(1, 202), rates, style, label=name)
    ax.axvline(100, color=plt.rcParams["grid.color"], linewidth=1)
    ax.set(xlabel="step $t$", ylabel=r"effective rate / $\eta$", xlim=(0, 200), ylim=(0.05, 60))
    ax.grid(True)
    ax.legend(loc="upper left", frameon=False)
    return fig


def figure_bias_correction() -> Figure:
    """Length of Adam's step for a constant gradient, with and without the correction."""
    fig, ax = plt.subplots(layout="constrained")
    for corrected, style, label in (
        (False, "C3-", "without correction"),
        (True, "C0--", "with correction"),
    ):
        w0 = torch.zeros((), dtype=torch.float64)
        path = run(Adam(1.0, corrected=corrected), torch.ones_like, w0, 1000)
        sizes = -path.diff()
        show = (10 ** torch.linspace(0, 3, 60)).long().unique()
        ax.semilogx(show, sizes[show - 1], style, label=label)
    ax.set(xlabel="step $t$", ylabel=r"step / $\eta$", ylim=(0, 8))
    ax.grid(True)
    ax.legend(loc="upper right", frameon=False)
    return fig


def figure_beale_paths() -> Figure:
    """150 steps on Beale's function at the tuned rates."""
    fig, ax = plt.subplots(figsize=(4.8, 3.6), layout="constrained")
    x, y = torch.meshgrid(torch.linspace(0, 4.2, 49), torch.linspace(-1.4, 1.1, 49), indexing="ij")
    levels = [0.05, 0.5, 2, 6, 14, 30]
    z = beale(torch.stack([x, y], dim=-1))
    ax.contour(x, y, z, levels=levels, colors=plt.rcParams["grid.color"], linewidths=0.8)
    for name, style in (("gd", "C3s"), ("momentum", "C1^"), ("adam", "C0o")):
        path = tuned_path("beale", name, (0.5, -0.9), 150)[::3]
        ax.plot(*path.T, f"{style}-", markersize=3.5, linewidth=0.8, label=LABELS[name])
    ax.plot(3, 0.5, "*", color=plt.rcParams["text.color"], markersize=12)
    ax.set(xlabel="$x$", ylabel="$y$", xlim=(0, 4.2), ylim=(-1.4, 1.1))
    ax.legend(loc="lower right", frameon=False)
    return fig


def figure_saddle() -> Figure:
    """Value against the step beside a saddle, at the tuned rates."""
    fig, ax = plt.subplots(layout="constrained")
    start = tuple(random_starts("saddle", 1, seed=0)[0].tolist())
    for name, style in (("gd", "C3-"), ("momentum", "C1-."), ("adam", "C0--")):
        path = tuned_path("saddle", name, start, 600)[::4]
        ax.semilogy(range(0, 601, 4), saddle(path), style, label=LABELS[name])
    ax.axhline(0.0025, color=plt.rcParams["text.color"], linewidth=0.8)
    ax.text(590, 0.0033, "height of the saddle", ha="right")
    ax.set(xlabel="step", ylabel="$f$", xlim=(0, 600), ylim=(1e-7, 20))
    ax.grid(True)
    ax.legend(loc="upper right", ncols=3, frameon=False)
    return fig


def figure_tuning() -> Figure:
    """Final training loss against the learning rate, two units, three optimizers."""
    fig, axes = plt.subplots(2, 1, sharex=True, figsize=(4.8, 5.2), layout="constrained")
    for name, style in (("gd", "C3s-"), ("momentum", "C1^-"), ("adam", "C0o-")):
        losses = tuning_losses(name)  # (3, 2, 15)
        for ax, units in zip(axes, losses.unbind(1), strict=True):
            ax.loglog(NET_RATES, units.mean(0), style, markersize=4, label=LABELS[name])
    for ax, title in zip(axes, ("plain pixels", "mixed units"), strict=True):
        ax.axhline(math.log(10), color=plt.rcParams["text.color"], linewidth=0.8)
        ax.set(ylabel="final loss", ylim=(0.04, 4), title=title)
        ax.minorticks_off()
        ax.grid(True)
    axes[1].set(xlabel=r"learning rate $\eta$")
    axes[1].legend(loc="lower left", frameon=False, ncols=2)
    return fig


def figure_floor() -> Figure:
    """Mean squared error under gradient noise: constant rate, cosine, averaged weights."""
    fig, ax = plt.subplots(layout="constrained")
    last, averaged = noisy_descent(0, constant, 0.99)
    decayed, _ = noisy_descent(0, cosine, 0.99)
    show = torch.arange(0, 600, 6)
    for values, style, label in (
        (last, "C3-", "constant rate"),
        (decayed, "C1-.", "cosine"),
        (averaged, "C0--", "EMA of the weights"),
    ):
        ax.semilogy(show + 1, values[show], style, label=label)
    ax.axhline(0.1 / 1.9, color=plt.rcParams["text.color"], linewidth=0.8)
    ax.set(xlabel="step", ylabel=r"mean of $w^2$", xlim=(0, 600), ylim=(1e-3, 4))
    ax.grid(True)
    ax.legend(loc="upper right", frameon=False)
    return fig


def figure_wrong_way() -> Figure:
    """Mean gradient +1/3, so w should fall: SGD and two settings of Adam."""
    fig, ax = plt.subplots(layout="constrained")
    g = torch.tensor([3.0, -1.0, -1.0], dtype=torch.float64).repeat(20)
    for opt, style, label in (
        (Adam(0.1, beta1=0.0, beta2=0.1), "C3-", r"Adam, $\beta_2=0.1$"),
        (Momentum(0.1, mu=0.0), "C2-.", "SGD"),
        (Adam(0.1, beta1=0.0, beta2=0.999), "C0--", r"Adam, $\beta_2=0.999$"),
    ):
        w = torch.zeros((), dtype=torch.float64)
        path = [0.0]
        for value in g:
            w = opt.step(w, value)
            path.append(w.item())
        ax.plot(path, style, label=label)
    ax.set(xlabel="step", ylabel="$w$", xlim=(0, 60), ylim=(-2.2, 2.8))
    ax.grid(True)
    ax.legend(loc="upper left", frameon=False)
    return fig


def experiment_race(seed: int) -> dict[str, float]:
    """Mean steps from 20 random starts on four tracks, at rates tuned on other starts."""
    out = {}
    for name in ("bowl", "rotated", "beale", "saddle"):
        for optimizer in OPTIMIZERS:
            steps = race_steps(name, optimizer)[SEEDS.index(seed)]  # (20,)
            out[f"{name}_{optimizer}"] = steps.mean().item()
            out[f"{name}_{optimizer}_late"] = (steps == 600).double().mean().item()
            out[f"{name}_{optimizer}_rate"] = tuned_rate(name, optimizer)
    return out


def compare_units(seed: int) -> dict[str, float]:
    """Training loss and test accuracy after 6 epochs on the digits, rates tuned on other seeds."""
    scales = torch.stack(mixed_units())  # (2, 64)
    out = {}
    for name, index in TUNED.items():
        rates = NET_RATES[list(index)]  # (2,)
        losses, accuracies = train(OPTIMIZERS[name], rates, scales, seed)
        for k, units in enumerate(("plain", "mixed")):
            out[f"{name}_{units}"] = losses[k].item()
            out[f"{name}_{units}_accuracy"] = accuracies[k].item()
            out[f"{name}_{units}_rate"] = rates[k].item()
    return out


def compare_schedules(seed: int) -> dict[str, float]:
    """Final loss with a constant rate, the cosine, and warm-up plus cosine, two peak rates."""
    shapes = {"constant": constant, "cosine": cosine, "warmup": warmup_cosine}
    factors = torch.tensor([1.0, 1.0, 1.0, 2.0, 2.0, 2.0])
    out = {}
    for name in ("momentum", "adam"):
        rates = NET_RATES[TUNED[name][0]] * factors  # (6,)
        losses, _ = train(
            OPTIMIZERS[name], rates, torch.ones(6, 64), seed, tuple(shapes.values()) * 2
        )
        for k, loss in enumerate(losses.tolist()):
            out[f"{name}_{list(shapes)[k % 3]}_{1 if k < 3 else 2}"] = loss
    return out


def compare_correction(seed: int) -> dict[str, float]:
    """Final loss of Adam with and without bias correction, two learning rates."""
    rates = NET_RATES[[4, 6]]  # 0.01, 0.0316
    out = {}
    for key, make in (("with", Adam), ("without", lambda lr: Adam(lr, corrected=False))):
        losses, _ = train(make, rates, torch.ones(2, 64), seed)
        out[f"{key}_small"], out[f"{key}_large"] = losses.tolist()
    return out


def experiment_network(seed: int) -> dict[str, float]:
    """All comparisons on the digits: optimizers and units, schedules, bias correction."""
    return compare_units(seed) | compare_schedules(seed) | compare_correction(seed)


def experiment_floor(seed: int) -> dict[str, float]:
    """Mean of w^2 under gradient noise: constant, cosine, EMA; late (step 600) and early (20)."""
    last, averaged = noisy_descent(seed, constant, 0.99)
    decayed, _ = noisy_descent(seed, cosine, 0.99)
    return {
        "constant": last[-1].item(),
        "cosine": decayed[-1].item(),
        "ema": averaged[-1].item(),
        "constant_early": last[19].item(),
        "ema_early": averaged[19].item(),
    }


CLIP_KEYS = tuple(
    f"{kind}_{how}" for kind in ("heavy", "light", "skewed") for how in ("raw", "clipped")
)


def experiment_clip(seed: int) -> dict[str, float]:
    """Clipping at 1 on w^2 / 2 with heavy and light noise, and on skewed data.

    Noise: median distance from 0 of 1000 chains after 300 steps. Skewed: the sample is 10
    once in ten, else 0, so the mean is 1; value of w averaged over chains.
    """
    g = torch.Generator().manual_seed(seed)
    paths = {key: torch.full((1000, 1), 1.0, dtype=torch.float64) for key in CLIP_KEYS}
    for _ in range(300):
        u = torch.rand(1000, 1, generator=g, dtype=torch.float64)
        sign = 2 * torch.randint(2, (1000, 1), generator=g) - 1
        normal = torch.randn(1000, 1, generator=g, dtype=torch.float64)
        draws = {"heavy": sign * (u ** (-1 / 1.2) - 1), "light": normal, "skewed": -10 * (u < 0.1)}
        for key, w in paths.items():
            kind, limit = key.split("_")
            gradient = w + draws[kind]
            paths[key] = w - 0.05 * (clip(gradient, 1.0) if limit == "clipped" else gradient)
    return {
        key: (w.mean() if key.startswith("skewed") else w.abs().median()).item()
        for key, w in paths.items()
    }


if __name__ == "__main__":
    for track in ("bowl", "rotated", "beale", "saddle"):
        for key in OPTIMIZERS:
            print(track, key, tuned_rate(track, key), race_steps(track, key).mean().item())
    figure_tuning()
    plt.show()
