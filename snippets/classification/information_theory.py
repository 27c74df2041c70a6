"""Probability and information: empirical distribution, entropy, KL divergence, maximum likelihood.

Natural logarithms (nats) and double precision throughout. A distribution over K values is a
tensor whose last dimension sums to 1; leading dimensions are independent cases.
"""

# --8<-- [start:imports]
import math
from collections.abc import Callable

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor

# --8<-- [end:imports]

SEEDS = range(10)


# --8<-- [start:gain]
def entropy(p: Tensor) -> Tensor:
    """H(P) of equation (5) in nats; p: (..., K)."""
    return -torch.special.xlogy(p, p).sum(-1)


def conditional_entropy(joint: Tensor) -> Tensor:
    """H(Y|A) of equation (11); joint: (..., A, Y), the probabilities p(a, y)."""
    return entropy(joint.flatten(-2)) - entropy(joint.sum(-1))


def information_gain(joint: Tensor) -> Tensor:
    """H(Y) - H(Y|A) of equation (12), the mutual information of rows and columns."""
    return entropy(joint.sum(-2)) - conditional_entropy(joint)


# --8<-- [end:gain]


# --8<-- [start:survey]
def cross_table(a: Tensor, y: Tensor, rows: int) -> Tensor:
    """Count the pairs (a, y); a: (T, n) in 0..rows-1, y: (T, n) in 0..1; returns (T, rows, 2)."""
    counts = torch.zeros(len(a), 2 * rows, dtype=torch.float64)
    counts.scatter_add_(1, 2 * a + y, torch.ones_like(a, dtype=torch.float64))
    return counts.view(-1, rows, 2)


def survey(
    n: int, values: int, generator: torch.Generator, trials: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """Ask n people about a fair label y, an answer that equals y with probability 0.7,
    and an irrelevant answer with `values` equally likely values. Each returned: (trials, n)."""
    y = torch.randint(2, (trials, n), generator=generator)
    honest = torch.rand(trials, n, generator=generator) < 0.7
    irrelevant = torch.randint(values, (trials, n), generator=generator)
    return torch.where(honest, y, 1 - y), irrelevant, y


# --8<-- [end:survey]


# --8<-- [start:ecdf]
def ecdf(sample: Tensor) -> Callable[[Tensor], Tensor]:
    """Return F_n, equation (1): the share of the sample, shape (n,), that is <= x."""
    points = sample.sort().values

    def share(x: Tensor) -> Tensor:
        return torch.searchsorted(points, x, right=True).double() / len(points)

    return share


def largest_gap(u: Tensor) -> Tensor:
    """sup |F_n - F| from u = F(sample), shape (..., n); a jump reaches it, at k/n or (k-1)/n."""
    n = u.shape[-1]
    u = u.sort(-1).values
    k = torch.arange(1, n + 1, dtype=u.dtype)  # (n,)
    return torch.maximum(k / n - u, u - (k - 1) / n).amax(-1)


def dkw_width(n: int, alpha: float = 0.05) -> float:
    """Half-width of the band (4), which holds all of F with probability 1 - alpha."""
    return math.sqrt(math.log(2 / alpha) / (2 * n))


# --8<-- [end:ecdf]


# --8<-- [start:kl]
def cross_entropy(p: Tensor, q: Tensor) -> Tensor:
    """H(P, Q) of equation (6) in nats; p, q: (..., K); inf where p > 0 = q."""
    return -torch.special.xlogy(p, q).sum(-1)


def kl(p: Tensor, q: Tensor) -> Tensor:
    """D_KL(P || Q) of equation (7) in nats; p, q: (..., K); inf where p > 0 = q."""
    return (torch.special.xlogy(p, p) - torch.special.xlogy(p, q)).sum(-1)


# --8<-- [end:kl]


# --8<-- [start:mle]
def mle_categorical(counts: Tensor) -> Tensor:
    """Relative frequencies, the solution of (17); counts: (..., K)."""
    return counts / counts.sum(-1, keepdim=True)


def mle_gaussian(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of (18), dividing by n, not n - 1; x: (n,)."""
    mean = x.mean()
    return mean, (x - mean).square().mean()


# --8<-- [end:mle]


# --8<-- [start:corrections]
def entropy_miller_madow(counts: Tensor) -> Tensor:
    """Plug-in entropy plus (K - 1) / 2n, K the number of values seen; counts: (..., K)."""
    seen = (counts > 0).sum(-1)  # (...)
    return entropy(mle_categorical(counts)) + (seen - 1) / (2 * counts.sum(-1))


def corrected_gain(counts: Tensor) -> Tensor:
    """Plug-in gain minus its bias (22); counts: (..., A, Y)."""
    n = counts.sum((-2, -1))  # (...)
    rows = (counts.sum(-1) > 0).sum(-1)
    columns = (counts.sum(-2) > 0).sum(-1)
    gain = information_gain(counts / n[..., None, None])
    return gain - (rows - 1) * (columns - 1) / (2 * n)


# --8<-- [end:corrections]


# --8<-- [start:shuffled_gain]
def shuffled_gain(
    a: Tensor, y: Tensor, rows: int, generator: torch.Generator, shuffles: int = 20
) -> Tensor:
    """Gain minus its mean over shuffled labels, which know nothing of a; a, y: (T, n)."""
    n = y.shape[1]
    chance = torch.zeros(len(y), dtype=torch.float64)  # (T,)
    for _ in range(shuffles):
        order = torch.rand(y.shape, generator=generator).argsort(1)  # (T, n)
        chance += information_gain(cross_table(a, y.gather(1, order), rows) / n)
    return information_gain(cross_table(a, y, rows) / n) - chance / shuffles


# --8<-- [end:shuffled_gain]


# --8<-- [start:sample_counts]
def sample_counts(p: Tensor, n: int, trials: int, generator: torch.Generator) -> Tensor:
    """Draw n values from p, shape (K,), and count them, `trials` times; returns (trials, K)."""
    draws = torch.multinomial(p.expand(trials, -1), n, replacement=True, generator=generator)
    counts = torch.zeros(trials, len(p), dtype=p.dtype)
    return counts.scatter_add_(1, draws, torch.ones_like(draws, dtype=p.dtype))


# --8<-- [end:sample_counts]


# --8<-- [start:fit]
def gaussian_on(grid: Tensor, mean: Tensor, sd: Tensor) -> Tensor:
    """A Gaussian made discrete on the grid (K,); mean, sd: (...); returns (..., K)."""
    return torch.softmax(-(((grid - mean[..., None]) / sd[..., None]) ** 2) / 2, -1)


def two_peaks(grid: Tensor) -> Tensor:
    """0.6 N(3, 1) + 0.4 N(-3, 1) on the grid (K,)."""
    mean, sd = torch.tensor([3.0, -3.0], dtype=grid.dtype), torch.ones(2, dtype=grid.dtype)
    return torch.tensor([0.6, 0.4], dtype=grid.dtype) @ gaussian_on(grid, mean, sd)


def fit_gaussian(p: Tensor, grid: Tensor, reverse: bool) -> tuple[float, float, float]:
    """Search mean, sd (steps of 0.1) for the smallest KL(P||Q), or KL(Q||P) if reverse.

    Returns mean, sd and that divergence.
    """
    mean = torch.arange(-50, 51, dtype=grid.dtype)[:, None] / 10  # (101, 1)
    sd = torch.arange(5, 51, dtype=grid.dtype)[None] / 10  # (1, 46)
    q = gaussian_on(grid, *torch.broadcast_tensors(mean, sd))  # (101, 46, K)
    divergence = kl(q, p) if reverse else kl(p, q)  # (101, 46)
    i, j = divmod(divergence.argmin().item(), divergence.shape[1])
    return mean[i, 0].item(), sd[0, j].item(), divergence[i, j].item()


# --8<-- [end:fit]


def double(*values: float) -> Tensor:
    """A one-dimensional double-precision tensor."""
    return torch.tensor(values, dtype=torch.float64)


def bernoulli(theta: Tensor) -> Tensor:
    """The distribution (1 - theta, theta); theta: (...); returns (..., 2)."""
    return torch.stack([1 - theta, theta], -1)


def figure_gain() -> Figure:
    """Mean gain of an irrelevant feature against its number of values, with the prediction."""
    fig, ax = plt.subplots(layout="constrained")
    g = torch.Generator().manual_seed(0)
    sizes = [2, 5, 10, 15, 20, 25, 31, 40, 50, 60]
    plain, corrected = [], []
    for values in sizes:
        _, irrelevant, y = survey(100, values, g, trials=400)
        counts = cross_table(irrelevant, y, values)
        plain.append(information_gain(counts / 100).mean())
        corrected.append(corrected_gain(counts).mean())
    truth = math.log(2) - entropy(double(0.3, 0.7)).item()
    ax.plot(sizes, plain, "C3o", label="irrelevant, as counted")
    ax.plot(sizes, [(values - 1) / 200 for values in sizes], "C3--", label="$(r-1)/2n$")
    ax.plot(sizes, corrected, "C0s", label="irrelevant, corrected")
    ax.axhline(truth, color="C2", label="useful feature, truth")
    ax.set(xlabel="number $r$ of values", ylabel="gain (nats)", xlim=(0, 62), ylim=(-0.02, 0.5))
    ax.grid(True)
    ax.legend(loc="upper left", frameon=False)
    return fig


def figure_ecdf() -> Figure:
    """F_n for three sample sizes, the true F and the 95 % band around F_n."""
    fig, axes = plt.subplots(3, 1, figsize=(4.8, 6.0), sharex=True, layout="constrained")
    g = torch.Generator().manual_seed(1)
    x = torch.linspace(-3, 3, 121, dtype=torch.float64)
    for ax, n in zip(axes, (10, 100, 1000), strict=True):
        share = ecdf(torch.randn(n, generator=g, dtype=torch.float64))(x)
        eps = dkw_width(n)
        low, high = (share - eps).clamp(min=0), (share + eps).clamp(max=1)
        ax.fill_between(x, low, high, color="C0", alpha=0.25, linewidth=0, step="post")
        ax.step(x, share, "C0", where="post", label="$F_n$ and band")
        ax.plot(x, torch.special.ndtr(x), "C3--", label="$F$")
        ax.set(ylabel=f"$n$ = {n}", xlim=(-3, 3), ylim=(-0.02, 1.02), yticks=(0, 0.5, 1))
        ax.grid(True)
    axes[0].legend(loc="lower right", frameon=False)
    axes[2].set(xlabel="$x$", xticks=(-3, 0, 3))
    return fig


def figure_binary_entropy() -> Figure:
    """Entropy of a coin against the probability of heads."""
    fig, ax = plt.subplots(figsize=(4.8, 2.8), layout="constrained")
    theta = torch.linspace(0, 1, 101, dtype=torch.float64)
    ax.plot(theta, entropy(bernoulli(theta)), "C0")
    ax.axhline(math.log(2), color=plt.rcParams["text.color"], linewidth=0.8)
    ax.text(0.0, math.log(2) + 0.015, r"$\ln 2$")
    ax.set(xlabel=r"probability of heads $\theta$", ylabel="$H$ (nats)", ylim=(0, 0.78))
    ax.grid(True)
    return fig


def figure_two_directions() -> Figure:
    """KL(P||Q) and KL(Q||P) for P = Bernoulli(0.2) against the parameter of Q."""
    fig, ax = plt.subplots(layout="constrained")
    p = bernoulli(double(0.2))  # (1, 2)
    theta = torch.linspace(-14, 14, 141, dtype=torch.float64).sigmoid()  # dense at both ends
    q = bernoulli(theta)  # (141, 2)
    ax.plot(theta, kl(p, q), "C0", label=r"$D_{KL}(P\,\|\,Q)$")
    ax.plot(theta, kl(q, p), "C1--", label=r"$D_{KL}(Q\,\|\,P)$")
    ax.plot(0.2, 0, "o", color=plt.rcParams["text.color"])
    ax.set(
        xlabel=r"$\theta$ of $Q$  ($P$ has 0.2)", ylabel="nats", ylim=(-0.05, 2), xlim=(-0.02, 1)
    )
    ax.grid(True)
    ax.legend(loc="upper center", frameon=False)
    return fig


def figure_likelihood() -> Figure:
    """Likelihood of a coin, relative to its maximum, for 70 % heads in three sample sizes."""
    fig, ax = plt.subplots(layout="constrained")
    theta = torch.linspace(0.2, 1, 161, dtype=torch.float64)
    gap = kl(bernoulli(double(0.7)), bernoulli(theta))  # (161,)
    for n, style in ((10, "C0-"), (100, "C1--"), (1000, "C2-.")):
        ax.plot(theta, (-n * gap).exp(), style, label=f"$n$ = {n}")
    ax.set(xlabel=r"$\theta$", ylabel=r"$L(\theta)\,/\,L(\hat\theta)$", xlim=(0.2, 1))
    ax.grid(True)
    ax.legend(loc="upper left", frameon=False)
    return fig


def figure_bias() -> Figure:
    """How far the estimated entropy lies below the truth, two estimators, 32 values."""
    fig, ax = plt.subplots(layout="constrained")
    g = torch.Generator().manual_seed(0)
    p = torch.full((32,), 1 / 32, dtype=torch.float64)
    sizes = [8, 16, 32, 64, 128, 256, 512, 1024]
    low: dict[str, list[float]] = {"plain": [], "corrected": []}
    for n in sizes:
        counts = sample_counts(p, n, 1000, g)
        low["plain"].append(math.log(32) - entropy(counts / n).mean().item())
        low["corrected"].append(math.log(32) - entropy_miller_madow(counts).mean().item())
    ax.loglog(sizes, [31 / (2 * n) for n in sizes], "C3--", label="$(K-1)/2n$")
    ax.loglog(sizes, low["plain"], "C3o", label="as counted")
    ax.loglog(sizes, [abs(v) for v in low["corrected"]], "C0s", label="Miller-Madow")
    ax.set(xlabel="sample size $n$", ylabel="underestimate (nats)")
    ax.grid(True)
    ax.legend(loc="lower left", frameon=False)
    return fig


def figure_two_fits() -> Figure:
    """A distribution with two peaks and the Gaussians nearest to it in the two directions."""
    fig, ax = plt.subplots(layout="constrained")
    grid = torch.arange(-150, 151, dtype=torch.float64) / 10
    p = two_peaks(grid)
    ax.fill_between(grid, 10 * p, color=plt.rcParams["grid.color"], linewidth=0, label="$P$")
    fits = ((False, "C0-", r"min $D(P\|Q)$"), (True, "C1--", r"min $D(Q\|P)$"))
    for reverse, style, label in fits:
        mean, sd, _ = fit_gaussian(p, grid, reverse)
        ax.plot(grid, 10 * gaussian_on(grid, double(mean), double(sd))[0], style, label=label)
    ax.set(xlabel="$x$", ylabel="density", xlim=(-8, 8), ylim=(0, 0.45))
    ax.legend(loc="upper left", frameon=False)
    return fig


def experiment_ecdf(seed: int) -> dict[str, float]:
    """Mean and variance of F_50(0.3) over 4000 standard normal samples."""
    g = torch.Generator().manual_seed(seed)
    share = (torch.randn(4000, 50, generator=g, dtype=torch.float64) <= 0.3).double().mean(1)
    return {"mean": share.mean().item(), "variance": share.var().item()}


def experiment_band(seed: int) -> dict[str, float]:
    """Share of 1000 samples of 100 whose F stays in the 95 % band: independent, and 10 copies."""
    g = torch.Generator().manual_seed(seed)
    u = torch.rand(1000, 100, generator=g, dtype=torch.float64)
    samples = {"independent": u, "copied": u[:, :10].repeat(1, 10)}
    return {
        name: (largest_gap(x) <= dkw_width(100)).double().mean().item()
        for name, x in samples.items()
    }


def experiment_gain(seed: int) -> dict[str, float]:
    """Gain of a useful, an irrelevant (31 values) and a unique feature, 400 surveys of 100."""
    g = torch.Generator().manual_seed(seed)
    real, irrelevant, y = survey(100, 31, g, trials=400)
    unique = torch.arange(100).expand_as(y)
    features = {"real": (real, 2), "irrelevant": (irrelevant, 31), "unique": (unique, 100)}
    out = {}
    gains = {}
    for name, (a, rows) in features.items():
        counts = cross_table(a, y, rows)
        gains[name, "plain"] = information_gain(counts / 100)
        gains[name, "corrected"] = corrected_gain(counts)
        gains[name, "shuffled"] = shuffled_gain(a, y, rows, g)
    for (name, kind), gain in gains.items():
        out[f"{name}_{kind}"] = gain.mean().item()
    for kind in ("plain", "corrected", "shuffled"):
        fooled = gains["irrelevant", kind] > gains["real", kind]
        out[f"fooled_{kind}"] = fooled.double().mean().item()
    return out


def experiment_entropy(seed: int) -> dict[str, float]:
    """Bias of two entropy estimators: 32 values in 100 draws, and 1000 values in 100 draws."""
    g = torch.Generator().manual_seed(seed)
    out = {}
    for name, values, trials in (("dense", 32, 2000), ("sparse", 1000, 200)):
        p = torch.full((values,), 1 / values, dtype=torch.float64)
        counts = sample_counts(p, 100, trials, g)
        out[f"{name}_plain"] = entropy(counts / 100).mean().item() - math.log(values)
        out[f"{name}_corrected"] = entropy_miller_madow(counts).mean().item() - math.log(values)
    return out


def experiment_overfit(seed: int) -> dict[str, float]:
    """Cross-entropy on the 200 throws themselves and on 200 new ones, minus the entropy.

    train, test: of the fitted die; truth: of the true die, on the throws of train.
    """
    g = torch.Generator().manual_seed(seed)
    p = double(0.3, 0.2, 0.2, 0.1, 0.1, 0.1)
    old = mle_categorical(sample_counts(p, 200, 4000, g))  # (4000, 6)
    new = mle_categorical(sample_counts(p, 200, 4000, g))
    losses = {"train": (old, old), "test": (new, old), "truth": (old, p)}
    return {
        name: (cross_entropy(data, model).mean() - entropy(p)).item()
        for name, (data, model) in losses.items()
    }


if __name__ == "__main__":
    for name, values in experiment_gain(0).items():
        print(f"{name:22} {values:.3f}")
    figure_gain()
    plt.show()
