"""Weight decay, the L2 and the L1 penalty.

The loss of a linear model is half the mean squared error throughout, so that the penalty
lam / 2 * ||w||^2 shrinks w by the factor 1 - lr * lam a step. Everything runs on the CPU.
"""

# --8<-- [start:imports]
from collections.abc import Iterable

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

from snippets.data import load_digits

# --8<-- [end:imports]

SEEDS = range(10)


# --8<-- [start:idle_weight]
def idle_weight(
    optimizer: type[torch.optim.Optimizer], lam: float, lr: float = 1e-3, steps: int = 1000
) -> float:
    """Return what is left of a weight 1.0 to which the loss never sends a gradient."""
    w = torch.ones((), dtype=torch.float64, requires_grad=True)
    stepper = optimizer([w], lr=lr, weight_decay=lam)
    for _ in range(steps):
        w.grad = torch.zeros_like(w)
        stepper.step()
    return w.item()


# --8<-- [end:idle_weight]


# --8<-- [start:high_dim]
def high_dim_data(seed: int, n: int = 20, d: int = 200) -> tuple[Tensor, Tensor]:
    """X (n, d) and y (n,) with y = 0.05 + sum_j 0.01 x_j + 0.01 noise."""
    g = torch.Generator().manual_seed(seed)
    X = torch.randn(n, d, generator=g, dtype=torch.float64)
    return X, 0.05 + 0.01 * X.sum(1) + 0.01 * torch.randn(n, generator=g, dtype=torch.float64)


def high_dim_experiment(lam: float, start: float, seed: int) -> dict[str, list[float]]:
    """100 epochs of SGD, batch 5, rate 0.003, on 20 samples; w starts at start * randn.

    Returns train and test mean squared error and ||w - w*||^2 after 0, 1, ..., 100 epochs.
    The test error is exact for new standard normal features: no test set is drawn.
    """
    X, y = high_dim_data(seed)
    g = torch.Generator().manual_seed(1000 + seed)
    w = start * torch.randn(200, generator=g, dtype=torch.float64)  # (d,)
    b = torch.zeros((), dtype=torch.float64)
    log = {"train": [], "test": [], "weights": []}
    for epoch in range(101):
        log["train"].append((X @ w + b - y).square().mean().item())
        log["weights"].append((w - 0.01).square().sum().item())
        log["test"].append(log["weights"][-1] + (b.item() - 0.05) ** 2 + 0.01**2)
        for batch in torch.randperm(20, generator=g).split(5 if epoch < 100 else 20):
            r = X[batch] @ w + b - y[batch]  # (B,)
            w = (1 - 0.003 * lam) * w - 0.003 * X[batch].T @ r / len(r)
            b = b - 0.003 * r.mean()
    return log


# --8<-- [end:high_dim]


# --8<-- [start:scratch]
def l2_penalty(params: Iterable[Tensor]) -> Tensor:
    """Half the sum of the squares of all entries, a scalar tensor."""
    return sum(p.square().sum() for p in params) / 2


@torch.no_grad()
def sgd_l2_step(params: Iterable[Tensor], lr: float, lam: float) -> None:
    """Update in place by equation (4); every parameter needs its .grad, without the penalty."""
    for p in params:
        p.mul_(1 - lr * lam)
        p.sub_(lr * p.grad)


# --8<-- [end:scratch]


# --8<-- [start:ridge]
def ridge(X: Tensor, y: Tensor, lam: float) -> Tensor:
    """Minimiser (d,) of mean(0.5 * (X w - y)^2) + lam / 2 * ||w||^2; X: (n, d), y: (n,)."""
    n, d = X.shape
    return torch.linalg.solve(X.T @ X / n + lam * torch.eye(d, dtype=X.dtype), X.T @ y / n)


# --8<-- [end:ridge]


# --8<-- [start:param_groups]
def param_groups(model: nn.Module, lam: float) -> list[dict]:
    """Two groups for torch.optim: decay the matrices, leave biases and normalisation alone."""
    decay, keep = [], []
    for p in model.parameters():
        (decay if p.ndim >= 2 else keep).append(p)
    return [{"params": decay, "weight_decay": lam}, {"params": keep, "weight_decay": 0.0}]


# --8<-- [end:param_groups]


# --8<-- [start:regression_data]
def regression_data(n: int, active: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """X (n, 50), y (n,) with noise of sd 0.5, and the true w (50,), `active` entries not 0.

    E||w||^2 = 1. For such features the test error is ||w_hat - w||^2 + 0.25 exactly.
    """
    g = torch.Generator().manual_seed(seed)
    w = torch.zeros(50, dtype=torch.float64)
    w[:active] = torch.randn(active, generator=g, dtype=torch.float64) / active**0.5
    X = torch.randn(n, 50, generator=g, dtype=torch.float64)
    return X, X @ w + 0.5 * torch.randn(n, generator=g, dtype=torch.float64), w


def excess(w_hat: Tensor, w: Tensor) -> float:
    """Test error above the noise, ||w_hat - w||^2."""
    return (w_hat - w).square().sum().item()


# --8<-- [end:regression_data]


# --8<-- [start:experiment_ridge]
def experiment_ridge(seed: int) -> dict[str, float]:
    """Excess test error without decay (lam 0) and with it, for 60 and for 2000 samples."""
    out = {}
    for name, n in (("few", 60), ("many", 2000)):
        X, y, w = regression_data(n, 50, seed)
        best = 0.25 * 50 / n  # sigma^2 / (n tau^2)
        out[f"{name}_none"] = excess(ridge(X, y, 0.0), w)
        out[f"{name}_decay"] = excess(ridge(X, y, best), w)
    out["copied"] = excess(ridge(X, y, 0.25 * 50 / 60), w)
    return out


# --8<-- [end:experiment_ridge]


# --8<-- [start:digits]
def noisy_digits(n: int, wrong: float, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """load_digits cut to n training images, of which about a share `wrong` gets a wrong label."""
    X, y, X_test, y_test = load_digits(seed)
    g = torch.Generator().manual_seed(seed)
    flip = torch.rand(n, generator=g) < wrong  # (n,)
    shift = torch.where(flip, torch.randint(1, 10, (n,), generator=g), 0)
    return X[:n], (y[:n] + shift) % 10, X_test, y_test


def fit_digits(
    X: Tensor, y: Tensor, lam: float, seed: int, steps: int = 400, l1: float = 0.0
) -> nn.Sequential:
    """Train 64-32-10 by full-batch steps of rate 0.5; lam: L2, l1: L1 by the proximal step."""
    g = torch.Generator().manual_seed(seed)
    net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    for p in net.parameters():
        nn.init.uniform_(p, -0.15, 0.15, generator=g)
    optimizer = torch.optim.SGD(param_groups(net, lam), lr=0.5)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(net(X), y).backward()
        optimizer.step()
        if l1 > 0:
            with torch.no_grad():
                for layer in (net[0], net[2]):
                    layer.weight.copy_(soft_threshold(layer.weight, 0.5 * l1))
    return net


# --8<-- [end:digits]


# --8<-- [start:ista]
def soft_threshold(z: Tensor, kappa: float) -> Tensor:
    """Minimiser of 0.5 * (w - z)^2 + kappa * |w|, entry by entry."""
    return z.sign() * (z.abs() - kappa).clamp(min=0)


def ista(X: Tensor, y: Tensor, lam: float, steps: int = 300) -> Tensor:
    """Minimise mean(0.5 * (X w - y)^2) + lam * ||w||_1 by proximal gradient steps from 0.

    X: (n, d), y: (n,); returns w (d,). Source: Parikh and Boyd 2014, section 4.2.
    """
    gram, c = X.T @ X / len(y), X.T @ y / len(y)  # (d, d), (d,)
    lr = 1 / torch.linalg.eigvalsh(gram)[-1].item()
    w = torch.zeros_like(c)
    for _ in range(steps):
        w = soft_threshold(w - lr * (gram @ w - c), lr * lam)
    return w


# --8<-- [end:ista]


# --8<-- [start:subgradient]
def l1_by_autograd(X: Tensor, y: Tensor, lam: float, lr: float = 0.01, steps: int = 800) -> Tensor:
    """The same objective as ista, with the penalty in the loss and torch.optim.SGD."""
    w = torch.zeros(X.shape[1], dtype=X.dtype, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (X @ w - y).square().mean() / 2 + lam * w.abs().sum()
        loss.backward()
        optimizer.step()
    return w.detach()


# --8<-- [end:subgradient]


# --8<-- [start:noise_decay]
def noise_decay(
    optimizer: type[torch.optim.Optimizer], scale: float, lam: float, seed: int
) -> float:
    """What is left of 2000 weights 0.5 after 250 steps of rate 0.004 on pure noise.

    scale: standard deviation of the gradients. They come in pairs of opposite sign, so that
    the random walks cancel in the mean and only the decay is left.
    """
    g = torch.Generator().manual_seed(seed)
    w = torch.full((2, 1000), 0.5, requires_grad=True)
    stepper = optimizer([w], lr=4e-3, weight_decay=lam)
    for _ in range(250):
        e = scale * torch.randn(1000, generator=g)
        w.grad = torch.stack([e, -e])
        stepper.step()
    return w.mean().item() / 0.5


# --8<-- [end:noise_decay]


def sparse_data(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """X (100, 20), y (100,), noise 0.5, and w = (3, -2, 1.5, 0, ..., 0)."""
    g = torch.Generator().manual_seed(seed)
    X = torch.randn(100, 20, generator=g, dtype=torch.float64)
    w = torch.zeros(20, dtype=torch.float64)
    w[:3] = torch.tensor([3.0, -2.0, 1.5], dtype=torch.float64)
    return X, X @ w + 0.5 * torch.randn(100, generator=g, dtype=torch.float64), w


def accuracy(net: nn.Module, X: Tensor, y: Tensor) -> float:
    """Share of the rows of X that net gives the class y."""
    with torch.no_grad():
        return (net(X).argmax(1) == y).double().mean().item()


def figure_high_dim() -> Figure:
    """Test error by epoch: random start with and without decay, zero start without."""
    fig, ax = plt.subplots(layout="constrained")
    arms = {
        r"random start, $\lambda=0$": (0.0, 1.0, "C3-"),
        r"random start, $\lambda=3$": (3.0, 1.0, "C0--"),
        r"zero start, $\lambda=0$": (0.0, 0.0, "C2-."),
    }
    for label, (lam, start, style) in arms.items():
        test = high_dim_experiment(lam, start, seed=0)["test"]
        ax.semilogy(range(0, 101, 2), test[::2], style, label=label)
    ax.axhline(0.0226, color=plt.rcParams["text.color"], linewidth=0.8)
    ax.text(2, 0.028, "always predict 0")
    ax.set(xlabel="epoch", ylabel="test MSE", xlim=(0, 100), ylim=(5e-3, 3e4))
    ax.grid(True)
    ax.legend(loc="upper right", frameon=False)
    return fig


def figure_balls() -> Figure:
    """Contours of a loss and the point of the L1 and of the L2 ball where it is smallest."""
    fig, axes = plt.subplots(1, 2, sharey=True, figsize=(4.8, 2.9), layout="constrained")
    centre = torch.tensor([1.6, 0.4], dtype=torch.float64)
    t = torch.linspace(0, 2 * torch.pi, 61, dtype=torch.float64)
    circle = torch.stack([t.cos(), t.sin()])  # (2, 61)
    diamond = torch.tensor([[1.0, 0, -1, 0, 1], [0, 1, 0, -1, 0]])
    solutions = {
        "L1": (diamond, soft_threshold(centre, 0.6)),
        "L2": (circle, centre / centre.norm()),
    }
    for ax, (name, (ball, best)) in zip(axes, solutions.items(), strict=True):
        ax.fill(*ball, color="C0", alpha=0.25, linewidth=0)
        ax.plot(*ball, "C0")
        radius = (best - centre).norm()
        for r in (0.5 * radius, radius, 1.5 * radius):
            ax.plot(*(centre[:, None] + r * circle), "C1", linewidth=1)
        ax.plot(*centre, "C1+", markersize=9)
        ax.plot(*best, "C3o")
        ax.axhline(0, color=plt.rcParams["grid.color"], linewidth=0.8, zorder=0)
        ax.axvline(0, color=plt.rcParams["grid.color"], linewidth=0.8, zorder=0)
        ax.set(title=name, xlabel="$w_1$", aspect="equal", xlim=(-1.2, 2.5), ylim=(-1.2, 1.7))
    axes[0].set_ylabel("$w_2$")
    return fig


def figure_error() -> Figure:
    """Train and test error of ridge regression against lambda, mean of 10 seeds."""
    fig, ax = plt.subplots(layout="constrained")
    lams = torch.logspace(-3, 1, 25).tolist()
    train, test = torch.zeros(25), torch.zeros(25)
    for seed in SEEDS:
        X, y, w = regression_data(60, 50, seed)
        for i, lam in enumerate(lams):
            w_hat = ridge(X, y, lam)
            train[i] += (X @ w_hat - y).square().mean().item() / len(SEEDS)
            test[i] += (excess(w_hat, w) + 0.25) / len(SEEDS)
    ax.semilogx(lams, test, "C3", label="test")
    ax.semilogx(lams, train, "C0--", label="train")
    ax.axvline(0.25 * 50 / 60, color=plt.rcParams["text.color"], linewidth=0.8)
    ax.text(0.24, 1.42, r"$\sigma^2/(n\tau^2)$")
    ax.set(xlabel=r"$\lambda$", ylabel="mean squared error", ylim=(0, 1.6), xlim=(1e-3, 10))
    ax.grid(True)
    ax.legend(loc="center left", frameon=False)
    return fig


def figure_paths() -> Figure:
    """Coefficients against lambda: ridge above, L1 below."""
    fig, axes = plt.subplots(2, 1, sharex=True, figsize=(4.8, 4.8), layout="constrained")
    X, y, _ = sparse_data(seed=0)
    lams = torch.logspace(-2, 0.7, 22).tolist()
    for ax, (name, fit) in zip(axes, {"L2": ridge, "L1": ista}.items(), strict=True):
        paths = torch.stack([fit(X, y, lam) for lam in lams])  # (22, d)
        for j in range(3, 20):
            ax.semilogx(lams, paths[:, j], color="C3", linewidth=0.6)
        for j in range(3):
            ax.semilogx(lams, paths[:, j], f"C{j}", linewidth=2)
        ax.set(ylabel=f"coefficient ({name})", xlim=(lams[0], lams[-1]))
        ax.grid(True)
    axes[1].set_xlabel(r"$\lambda$")
    return fig


def figure_histogram() -> Figure:
    """First-layer weights of three networks trained on the same 300 noisy digits."""
    fig, ax = plt.subplots(layout="constrained")
    X, y, _, _ = noisy_digits(300, 0.2, seed=0)
    arms = {"none": (0.0, 0.0, "C3-"), "L2": (0.03, 0.0, "C0--"), "L1": (0.0, 0.003, "C2-.")}
    edges = torch.linspace(-1.5, 1.5, 42)  # an odd number of bins: one is centred at 0
    for label, (lam, l1, style) in arms.items():
        weights = fit_digits(X, y, lam, 0, l1=l1)[0].weight.detach().flatten()
        counts = torch.histogram(weights, edges).hist
        ax.stairs(counts + 0.5, edges, color=style[:2], linestyle=style[2:], label=label)
    ax.set(xlabel="weight", ylabel="count + 0.5", yscale="log", xlim=(-1.5, 1.5), ylim=(0.4, 6000))
    ax.grid(True)
    ax.legend(loc="upper right", frameon=False)
    return fig


def experiment_high_dim(seed: int) -> dict[str, float]:
    """Final train and test error of the four combinations of start and decay."""
    out = {}
    for name, start in (("random", 1.0), ("zero", 0.0)):
        for arm, lam in (("none", 0.0), ("decay", 3.0)):
            log = high_dim_experiment(lam, start, seed)
            for key in ("train", "test", "weights"):
                out[f"{name}_{arm}_{key}"] = log[key][-1]
    return out


def experiment_digits(seed: int) -> dict[str, float]:
    """Accuracy without and with decay: 300 images, 20 % wrong labels; 1437 clean images."""
    X, y, X_test, y_test = noisy_digits(300, 0.2, seed)
    wrong = y != load_digits(seed)[1][:300]  # (300,)
    out = {}
    for name, lam in (("none", 0.0), ("decay", 0.03)):
        net = fit_digits(X, y, lam, seed)
        out[f"noisy_{name}_learnt"] = accuracy(net, X[wrong], y[wrong])
        out[f"noisy_{name}"] = accuracy(net, X_test, y_test)
    X, y, _, _ = noisy_digits(1437, 0.0, seed)
    for name, lam in (("none", 0.0), ("small", 1e-3), ("copied", 0.03)):
        out[f"clean_{name}"] = accuracy(fit_digits(X, y, lam, seed, 120), X_test, y_test)
    return out


def experiment_sparse(seed: int) -> dict[str, float]:
    """Exact zeros among 20 coefficients, 17 of them truly 0, and the largest of the 17."""
    X, y, _ = sparse_data(seed)
    fits = {"ista": ista(X, y, 0.2), "sub": l1_by_autograd(X, y, 0.2), "ridge": ridge(X, y, 0.2)}
    out = {}
    for name, w in fits.items():
        out[f"{name}_zeros"] = float((w == 0).sum())
        out[f"{name}_largest"] = w[3:].abs().max().item()
    return out


def experiment_truth(seed: int) -> dict[str, float]:
    """Excess error of L1 and L2, each at its best lambda, if 5 or all 50 weights matter."""
    lams = [0.01 * 2**i for i in range(8)]
    out = {}
    for name, active in (("sparse", 5), ("dense", 50)):
        X, y, w = regression_data(60, active, seed)
        out[f"{name}_l2"] = min(excess(ridge(X, y, lam), w) for lam in lams)
        out[f"{name}_l1"] = min(excess(ista(X, y, lam), w) for lam in lams)
    return out


def experiment_decoupled(seed: int) -> dict[str, float]:
    """What is left of weights under noise gradients of size 0.1, 1, 10, by optimiser."""
    out = {}
    for optimizer in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW):
        for name, scale in (("small", 0.1), ("middle", 1.0), ("large", 10.0)):
            key = f"{optimizer.__name__.lower()}_{name}"
            out[key] = noise_decay(optimizer, scale, 0.1, seed)
    return out


if __name__ == "__main__":
    for optimizer in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW):
        print(optimizer.__name__, idle_weight(optimizer, 0.1))
    print(experiment_ridge(0))
    print(experiment_sparse(0))
    figure_error()
    plt.show()
