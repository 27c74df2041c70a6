"""Batch, stochastic and mini-batch gradient descent; smoothing a noisy loss curve."""

# --8<-- [start:imports]
from dataclasses import dataclass
from itertools import combinations

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

# --8<-- [end:imports]

SEEDS = range(10)
BUDGET_LR = {1: 0.0016, 10: 0.0128, 100: 0.1024, 1000: 0.1024}


# --8<-- [start:data]
def points15() -> tuple[Tensor, Tensor]:
    """X (15, 2), whose second column of ones carries the bias, and y (15,)."""
    x = [3.3, 4.4, 5.5, 6.71, 6.93, 4.168, 9.779, 6.182]
    x += [7.59, 2.167, 7.042, 10.791, 5.313, 7.997, 3.1]
    y = [1.7, 2.76, 2.09, 3.19, 1.694, 1.573, 3.366, 2.596]
    y += [2.53, 1.221, 2.827, 3.465, 1.65, 2.904, 1.3]
    X = torch.tensor([x, [1.0] * 15], dtype=torch.float64).T  # (15, 2)
    return X, torch.tensor(y, dtype=torch.float64)  # (15,)


# --8<-- [end:data]


# --8<-- [start:gradients]
def mse(X: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """Mean squared error of X @ w. X: (N, d), y: (N,), w: (d,)."""
    return ((X @ w - y) ** 2).mean()


def sample_gradients(X: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """(N, d): row n is the gradient of (x_n @ w - y_n)^2."""
    return 2 * (X @ w - y).unsqueeze(1) * X


def all_batch_gradients(X: Tensor, y: Tensor, w: Tensor, B: int) -> Tensor:
    """(C(N, B), d): the gradient of every batch of B different samples."""
    batches = torch.tensor(list(combinations(range(len(y)), B)))
    return sample_gradients(X, y, w)[batches].mean(dim=1)


# --8<-- [end:gradients]


# --8<-- [start:floor]
def noise_floor(x: Tensor, y: Tensor, B: int, lr: float) -> float:
    """Stationary E[(w - w*)^2] of y_hat = x w, every batch drawn afresh.

    x, y: (N,). Raises ValueError where the mean square diverges.
    """
    w_star = (x @ y) / (x @ x)
    batches = torch.tensor(list(combinations(range(len(y)), B)))
    a = (2 * x**2)[batches].mean(dim=1)  # a_B
    c = (2 * x * (x * w_star - y))[batches].mean(dim=1)  # c_B
    limit = 2 * a.mean() / (a**2).mean()
    if lr >= limit:
        raise ValueError(f"lr = {lr} is at or above the limit {limit:.4f}")
    return (lr * (c**2).mean() / (2 * a.mean() - lr * (a**2).mean())).item()


# --8<-- [end:floor]


# --8<-- [start:minibatches]
def minibatches(n: int, B: int, gen: torch.Generator) -> tuple[Tensor, ...]:
    """Shuffle 0 ... n - 1 and cut it into batches of B; the last may be smaller.

    Raises ValueError unless 1 <= B <= n.
    """
    if not 1 <= B <= n:
        raise ValueError(f"batch size {B} is not in 1 ... {n}")
    return torch.randperm(n, generator=gen).split(B)


# --8<-- [end:minibatches]


# --8<-- [start:train]
@dataclass
class History:
    """What happened in U updates."""

    w: Tensor  # before the first update and after each, (U + 1, d)
    loss: Tensor  # of the batch, before each update, (U,)


def train(X: Tensor, y: Tensor, B: int, lr: float, epochs: int, seed: int) -> History:
    """From w = 0; B = N is batch GD, B = 1 is SGD. X: (N, d), y: (N,)."""
    gen = torch.Generator().manual_seed(seed)
    w = torch.zeros(X.shape[1], dtype=X.dtype)
    weights, losses = [w], []
    for _ in range(epochs):
        for idx in minibatches(len(y), B, gen):
            X_b, y_b = X[idx], y[idx]  # (n_b, d), (n_b,)
            losses.append(mse(X_b, y_b, w))
            w = w - lr * sample_gradients(X_b, y_b, w).mean(dim=0)  # (d,)
            weights.append(w)
    return History(torch.stack(weights), torch.stack(losses))


# --8<-- [end:train]


# --8<-- [start:torch]
def train_torch(X: Tensor, y: Tensor, B: int, lr: float, epochs: int, seed: int) -> nn.Linear:
    """The same with nn.Linear, autograd and torch.optim.SGD."""
    gen = torch.Generator().manual_seed(seed)
    model = nn.Linear(X.shape[1], 1, bias=False, dtype=X.dtype)
    nn.init.zeros_(model.weight)
    loss_fn = nn.MSELoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for _ in range(epochs):
        for idx in minibatches(len(y), B, gen):
            optimizer.zero_grad()
            loss = loss_fn(model(X[idx]).squeeze(1), y[idx])
            loss.backward()
            optimizer.step()
    return model


# --8<-- [end:torch]


# --8<-- [start:pass_gradient]
def pass_gradient(X: Tensor, y: Tensor, w: Tensor, B: int, weighted: bool) -> Tensor:
    """Average the batch gradients of one pass, by n_b / N or by 1 / batches."""
    batches = torch.arange(len(y)).split(B)
    total = torch.zeros_like(w)
    for idx in batches:
        share = len(idx) / len(y) if weighted else 1 / len(batches)
        total += share * sample_gradients(X[idx], y[idx], w).mean(dim=0)
    return total


# --8<-- [end:pass_gradient]


# --8<-- [start:excess]
def least_squares(X: Tensor, y: Tensor) -> Tensor:
    """The minimiser w* of the mean squared error, (d,)."""
    return torch.linalg.lstsq(X, y.unsqueeze(1)).solution.squeeze(1)


def excess(X: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """(U,): L(w) - L(w*) for each row of w. X: (N, d), w: (U, d)."""
    difference = w - least_squares(X, y)  # (U, d)
    return ((X @ difference.T) ** 2).mean(dim=0)


def noisy_line(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """y = 2 x + 0.5 + 0.5 normal noise, x in [0, 3]. X: (n, 2), y: (n,)."""
    gen = torch.Generator().manual_seed(seed)
    x = 3 * torch.rand(n, generator=gen, dtype=torch.float64)
    y = 2 * x + 0.5 + 0.5 * torch.randn(n, generator=gen, dtype=torch.float64)
    return torch.stack([x, torch.ones_like(x)], dim=1), y


# --8<-- [end:excess]


# --8<-- [start:ewma]
def ewma(c: Tensor, beta: float) -> Tensor:
    """Smooth a curve (U,): s_0 = c_0, s_i = beta c_i + (1 - beta) s_(i-1).

    beta weighs the new value. Raises ValueError unless 0 < beta <= 1.
    """
    if not 0 < beta <= 1:
        raise ValueError(f"beta = {beta} is not in (0, 1]")
    s = c.clone()
    for i in range(1, len(c)):
        s[i] = beta * c[i] + (1 - beta) * s[i - 1]
    return s


# --8<-- [end:ewma]


# --8<-- [start:ema_corrected]
def ema_corrected(c: Tensor, gamma: float) -> Tensor:
    """v_t / (1 - gamma^t), v_t = gamma v_(t-1) + (1 - gamma) c_t, v_0 = 0. c: (U,).

    gamma weighs the past. Raises ValueError unless 0 <= gamma < 1.
    """
    if not 0 <= gamma < 1:
        raise ValueError(f"gamma = {gamma} is not in [0, 1)")
    v = torch.zeros((), dtype=c.dtype)
    corrected = []
    for t, value in enumerate(c, start=1):
        v = gamma * v + (1 - gamma) * value
        corrected.append(v / (1 - gamma**t))
    return torch.stack(corrected)


# --8<-- [end:ema_corrected]


def epoch_losses(X: Tensor, y: Tensor, B: int, lr: float, epochs: int, seed: int) -> Tensor:
    """Loss on all samples before training and after each epoch, (epochs + 1,)."""
    w = train(X, y, B, lr, epochs, seed).w
    updates = (len(y) + B - 1) // B
    return torch.stack([mse(X, y, row) for row in w[::updates]])


def experiment_divergence(seed: int) -> dict[str, float]:
    """One learning rate, 100 epochs: all 15 points per update against one point per update."""
    X, y = points15()
    full = epoch_losses(X, y, 15, 0.02, 100, seed)
    single = epoch_losses(X, y, 1, 0.02, 100, seed)
    return {
        "untrained": full[0].item(),
        "full_last": full[-1].item(),
        "single_peak": single.max().item(),
        "single_above_untrained": (single[1:] > single[0]).double().sum().item(),
    }


def stationary_error(x: Tensor, y: Tensor, B: int, lr: float, shuffle: bool, seed: int) -> float:
    """Mean (w - w*)^2 over 2000 independent runs and their last 90 updates. x, y: (N,)."""
    gen = torch.Generator().manual_seed(seed)
    w_star = (x @ y) / (x @ x)
    w = torch.full((2000,), w_star.item(), dtype=x.dtype)
    squares = []
    for step in range(150):
        at = step * B % len(y) if shuffle else 0
        if at == 0:
            order = torch.rand(len(w), len(y), generator=gen).argsort(dim=1)
        idx = order[:, at : at + B]  # (2000, B)
        w = w - lr * (2 * x[idx] * (x[idx] * w.unsqueeze(1) - y[idx])).mean(dim=1)
        squares.append(((w - w_star) ** 2).mean())
    return torch.stack(squares[-90:]).mean().item()


def experiment_floor(seed: int) -> dict[str, float]:
    """Fit y_hat = x w to y = 2 x + 0.5, x = 1, 2, 3: 10^4 E[(w - w*)^2], fresh and shuffled."""
    x = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    y = 2 * x + 0.5
    return {
        "b1_lr2": 1e4 * stationary_error(x, y, 1, 0.02, False, seed),
        "b1_lr4": 1e4 * stationary_error(x, y, 1, 0.04, False, seed),
        "b2_lr2": 1e4 * stationary_error(x, y, 2, 0.02, False, seed),
        "b2_lr4": 1e4 * stationary_error(x, y, 2, 0.04, False, seed),
        "shuffled_lr2": 1e4 * stationary_error(x, y, 1, 0.02, True, seed),
        "shuffled_lr4": 1e4 * stationary_error(x, y, 1, 0.04, True, seed),
    }


def experiment_smoothing(seed: int) -> dict[str, float]:
    """Standard deviation of the batch loss: in training, with frozen weights, and smoothed."""
    X, y = noisy_line(1000, seed)
    history = train(X, y, 10, 0.0128, 16, seed)
    w_star = least_squares(X, y)
    gen = torch.Generator().manual_seed(seed)
    batches = [idx for _ in range(16) for idx in minibatches(1000, 10, gen)]
    frozen = torch.stack([mse(X[idx], y[idx], w_star) for idx in batches])
    tail = slice(600, 1600)  # the last 10 epochs
    training = history.loss[tail].std().item()
    return {
        "training": training,
        "frozen": frozen[tail].std().item(),
        "all_samples": excess(X, y, history.w[tail]).std().item(),
        "ratio_30": ewma(history.loss, 0.3)[tail].std().item() / training,
        "ratio_5": ewma(history.loss, 0.05)[tail].std().item() / training,
    }


def experiment_budget(seed: int) -> dict[str, float]:
    """10^3 (L(w) - L(w*)) after 5 epochs of 1000 samples: 5000 sample gradients for each B."""
    X, y = noisy_line(1000, seed)
    result = {}
    for B, lr in BUDGET_LR.items():
        result[f"b{B}"] = 1e3 * excess(X, y, train(X, y, B, lr, 5, seed).w[-1:]).item()
    return result


def experiment_updates(seed: int) -> dict[str, float]:
    """10^3 (L(w) - L(w*)) after the same 200 updates with the same learning rate 0.05."""
    X, y = noisy_line(1000, seed)
    result = {}
    for B in (1, 10, 100, 1000):
        w = train(X, y, B, 0.05, 200 * B // 1000 + 1, seed).w
        result[f"b{B}"] = 1e3 * excess(X, y, w[200:201]).item()
    return result


def experiment_tiny(seed: int) -> dict[str, float]:
    """Fifteen points, equal epochs: 10^3 (L(w) - L(w*)), B = 15 (lr 0.02) and B = 5 (0.006)."""
    X, y = points15()
    full = 1e3 * excess(X, y, train(X, y, 15, 0.02, 600, seed).w)  # (601,)
    small = 1e3 * excess(X, y, train(X, y, 5, 0.006, 600, seed).w[::3])  # (601,)
    return {
        "full_5": full[5].item(),
        "small_5": small[5].item(),
        "full_600": full[-1].item(),
        "small_600": small[-100:].mean().item(),  # the last 100 epochs
    }


def figure_divergence() -> Figure:
    """Loss on all 15 points after each epoch at lr = 0.02."""
    X, y = points15()
    full = epoch_losses(X, y, 15, 0.02, 100, seed=0)
    single = epoch_losses(X, y, 1, 0.02, 100, seed=0)
    fig, ax = plt.subplots(layout="constrained")
    ax.semilogy(single, color="C1", label="B = 1")
    ax.semilogy(full, color="C0", label="B = 15")
    ax.axhline(full[0].item(), color=plt.rcParams["text.color"], lw=1, ls="--", label="untrained")
    ax.set(xlabel="epoch", ylabel="MSE on all 15 points", ylim=(0.1, 3000))
    ax.legend(ncols=3, loc="upper center", handlelength=1.4, columnspacing=1)
    return fig


def figure_paths() -> Figure:
    """Two epochs of batch GD, mini-batch and SGD on the 15 points, x standardised."""
    X, y = points15()
    X[:, 0] = (X[:, 0] - X[:, 0].mean()) / X[:, 0].std(correction=0)
    w_star = least_squares(X, y)
    w, b = torch.linspace(-0.9, 2.1, 80), torch.linspace(-0.2, 2.8, 80)
    loss = excess(X, y, torch.cartesian_prod(w, b).double()).reshape(80, 80)
    fig, ax = plt.subplots(figsize=(4.8, 4.4), layout="constrained")
    levels = [0.01, 0.1, 0.4, 1, 2, 3.5, 5.5]
    ax.contour(w, b, loss.T, levels=levels, colors=[plt.rcParams["grid.color"]], linewidths=1)
    for B, color in ((1, "C1"), (5, "C2"), (15, "C0")):
        path = train(X, y, B, 0.1, 2, seed=0).w
        ax.plot(*path.T, "o-", color=color, ms=3, lw=1.2, label=f"B = {B}")
    ax.plot(*w_star, "*", color="C3", ms=13, label="minimum")
    ax.set(xlabel="$w$", ylabel="$b$", aspect="equal")
    ax.legend(loc="lower right")
    return fig


def figure_variance() -> Figure:
    """Gradient variance over all batches of B of 15 points, as a share of that of B = 1."""
    X, y = points15()
    w = torch.zeros(2, dtype=torch.float64)
    sizes = range(1, 15)
    variances = [all_batch_gradients(X, y, w, B).var(dim=0, correction=0).sum() for B in sizes]
    measured = [(v / variances[0]).item() for v in variances]
    fig, ax = plt.subplots(layout="constrained")
    ax.semilogy(sizes, [1 / B for B in sizes], color="C1", ls="--", label="$1/B$")
    ax.semilogy(sizes, [(15 - B) / (14 * B) for B in sizes], color="C0", label="formula (6)")
    ax.semilogy(sizes, measured, "o", color="C0", ms=6, label="all batches")
    ax.set(xlabel="batch size $B$", ylabel="variance relative to $B = 1$", xticks=[1, 5, 8, 11, 14])
    ax.legend(loc="lower left")
    return fig


def figure_smoothing() -> Figure:
    """The batch losses of one run and two exponentially weighted means of them."""
    X, y = noisy_line(1000, seed=0)
    loss = train(X, y, 10, 0.0128, 3, seed=0).loss
    fig, ax = plt.subplots(layout="constrained")
    for beta, color, width in ((1.0, "C0", 0.8), (0.3, "C1", 1.2), (0.05, "C3", 2.2)):
        ax.semilogy(ewma(loss, beta), color=color, lw=width, label=rf"$\beta$ = {beta:g}")
    ax.set(xlabel="update", ylabel="loss of the batch")
    ax.legend()
    return fig


def figure_budget() -> Figure:
    """Excess loss against sample gradients spent: mean of three seeds and their range."""
    fig, ax = plt.subplots(layout="constrained")
    for color, (B, lr) in zip(("C1", "C2", "C3", "C0"), BUDGET_LR.items(), strict=True):
        runs = []
        for seed in range(3):
            X, y = noisy_line(1000, seed)
            runs.append(excess(X, y, train(X, y, B, lr, 5, seed).w[:: max(1, 100 // B)]))
        curves = torch.stack(runs)  # (3, points)
        spent = torch.linspace(0, 5, curves.shape[1])
        ax.semilogy(spent, curves.mean(dim=0), color=color, label=f"B = {B}")
        ax.fill_between(spent, curves.amin(dim=0), curves.amax(dim=0), color=color, alpha=0.2, lw=0)
    ax.set(xlabel="epochs (1000 sample gradients each)", ylabel="$L(w) - L(w^*)$")
    ax.legend()
    return fig


def figure_tiny() -> Figure:
    """Excess loss on 15 points after each epoch: B = 5 stops at its floor, batch GD does not."""
    X, y = points15()
    small = excess(X, y, train(X, y, 5, 0.006, 600, seed=0).w[::3])
    full = excess(X, y, train(X, y, 15, 0.02, 600, seed=0).w)
    fig, ax = plt.subplots(layout="constrained")
    ax.semilogy(small, color="C2", lw=0.8, label="B = 5")
    ax.semilogy(full, color="C0", lw=2, label="B = 15")
    ax.set(xlabel="epoch (15 sample gradients)", ylabel="$L(w) - L(w^*)$")
    ax.legend()
    return fig


if __name__ == "__main__":
    X, y = points15()
    G = {B: all_batch_gradients(X, y, torch.zeros(2, dtype=X.dtype), B) for B in (1, 5, 8, 15)}
    for B, g in G.items():
        variance = g.var(dim=0, correction=0).sum() / G[1].var(dim=0, correction=0).sum()
        print(f"B = {B:2}: {len(g):4} batches, variance {variance:.6f} of that of B = 1")
    for name, experiment in list(globals().items()):
        if name.startswith("experiment_"):
            print(name, {key: float(f"{value:.4g}") for key, value in experiment(0).items()})
    for name, figure in list(globals().items()):
        if name.startswith("figure_"):
            figure()
    plt.show()
