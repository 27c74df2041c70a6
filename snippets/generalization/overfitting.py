"""Underfitting, overfitting, bias and variance.

Polynomials on a noisy sine carry the theory, because every number of theirs can be predicted;
networks on scikit-learn's digits show what carries over and what does not. CPU only; polynomials
in double precision.
"""

# --8<-- [start:imports]
import copy
import math
from collections.abc import Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

from snippets.data import load_digits

# --8<-- [end:imports]

SEEDS = range(10)
NOISE = 0.3


# --8<-- [start:sample]
def truth(x: Tensor) -> Tensor:
    """The function behind the data."""
    return torch.sin(3 * x)


def grid(n: int) -> Tensor:
    """The centres of n equal cells of [-1, 1], (n,)."""
    return (2 * torch.arange(n, dtype=torch.float64) + 1) / n - 1


def sample(x: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """Labels truth(x) + noise * N(0, 1), the shape of x."""
    return truth(x) + noise * torch.randn(x.shape, generator=generator, dtype=x.dtype)


# --8<-- [end:sample]


# --8<-- [start:legendre]
def legendre(x: Tensor, degree: int) -> Tensor:
    """Legendre polynomials P_0 ... P_degree at x, (n,) -> (n, degree + 1).

    They span what 1, x, ..., x^degree span, without running parallel:
    (j + 1) P_{j+1} = (2 j + 1) x P_j - j P_{j-1}.
    """
    columns = [torch.ones_like(x), x]
    for j in range(1, degree):
        columns.append(((2 * j + 1) * x * columns[j] - j * columns[j - 1]) / (j + 1))
    return torch.stack(columns[: degree + 1], dim=-1)


def fit(A: Tensor, y: Tensor, penalty: float = 0.0) -> Tensor:
    """Least squares: A (n, p), y (n, q) -> w (p, q).

    Minimises the mean over rows of |A w - y|^2, plus penalty * |w|^2. With penalty 0
    and p > n: of all exact solutions the one with the least |w|.
    """
    n, p = A.shape
    if penalty == 0:
        return torch.linalg.lstsq(A, y).solution
    if p <= n:
        return torch.linalg.solve(A.T @ A + penalty * n * torch.eye(p, dtype=A.dtype), A.T @ y)
    return A.T @ torch.linalg.solve(A @ A.T + penalty * n * torch.eye(n, dtype=A.dtype), y)


# --8<-- [end:legendre]


# --8<-- [start:polyfit_errors]
def polyfit_errors(
    degrees: Sequence[int], n_train: int, noise: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Training and test error of one polynomial a degree, (len(degrees),) each.

    Training points lie on a grid, 2000 test points are uniform on [-1, 1]; both have noise.
    """
    g = torch.Generator().manual_seed(seed)
    x = grid(n_train)  # (n,)
    y = sample(x, noise, g)[:, None]  # (n, 1)
    x_test = 2 * torch.rand(2000, generator=g, dtype=x.dtype) - 1  # (2000,)
    y_test = sample(x_test, noise, g)[:, None]  # (2000, 1)
    train, test = [], []
    for degree in degrees:
        w = fit(legendre(x, degree), y)  # (degree + 1, 1)
        train.append((legendre(x, degree) @ w - y).square().mean())
        test.append((legendre(x_test, degree) @ w - y_test).square().mean())
    return torch.stack(train), torch.stack(test)


# --8<-- [end:polyfit_errors]


# --8<-- [start:random_labels]
def fit_random_labels(n: int, seed: int, random: bool = True, steps: int = 100) -> dict[str, float]:
    """Train a 20-256-2 network on n points, then test it on 1000 fresh ones.

    random: labels from a coin. Otherwise the sign of the first feature, the control.
    Returns both accuracies, the steps until all n are right, how far the weights moved.
    Raises ValueError if the steps are not enough for that.
    """
    torch.manual_seed(seed)
    X = torch.randn(n + 1000, 20)  # (n + 1000, d)
    coin = torch.randint(0, 2, (n + 1000,))  # thrown in either case: the same net follows
    y = coin if random else (X[:, 0] > 0).long()
    net = nn.Sequential(nn.Linear(20, 256), nn.ReLU(), nn.Linear(256, 2))
    start = nn.utils.parameters_to_vector(net.parameters()).detach()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    hits = []
    for _ in range(steps):
        optimizer.zero_grad()
        logits = net(X[:n])  # (n, 2)
        F.cross_entropy(logits, y[:n]).backward()
        optimizer.step()
        hits.append((logits.argmax(1) == y[:n]).all().item())
    with torch.no_grad():
        right = (net(X).argmax(1) == y).float()  # (n + 1000,)
        moved = nn.utils.parameters_to_vector(net.parameters()) - start
    out = {"train": right[:n].mean().item(), "fresh": right[n:].mean().item()}
    return out | {"steps": float(hits.index(True)), "moved": moved.norm().item()}


# --8<-- [end:random_labels]


# --8<-- [start:theory]
def theory(degree: int, n: int, noise: float) -> tuple[float, float]:
    """Bias^2 and variance of the fit, averaged over [-1, 1]; no noise is drawn.

    The fit is linear in the labels, phi(x)^T A^+ y: mean and variance are exact.
    """
    x, x_new = grid(n), grid(400)
    smoother = legendre(x_new, degree) @ torch.linalg.pinv(legendre(x, degree))  # (400, n)
    bias = smoother @ truth(x) - truth(x_new)  # (400,)
    variance = noise**2 * smoother.square().sum(1)  # (400,)
    return bias.square().mean().item(), variance.mean().item()


# --8<-- [end:theory]


# --8<-- [start:bias_variance]
def bias_variance(
    degree: int, n_sets: int, n: int, noise: float, seed: int = 0
) -> tuple[float, float, float]:
    """Bias^2, variance and error against the truth, from n_sets training sets.

    All three are means over the same 400 points and the same fits, so the first two
    add up to the third, to rounding error, however few sets there are.
    """
    g = torch.Generator().manual_seed(seed)
    x, x_new = grid(n), grid(400)
    y = sample(x.expand(n_sets, n), noise, g).T  # (n, n_sets), one training set a column
    y_hat = legendre(x_new, degree) @ fit(legendre(x, degree), y)  # (400, n_sets)
    mean = y_hat.mean(1)  # (400,)
    bias2 = (mean - truth(x_new)).square().mean().item()
    variance = y_hat.var(1, correction=0).mean().item()  # (1)!
    mse = (y_hat - truth(x_new)[:, None]).square().mean().item()
    return bias2, variance, mse


# --8<-- [end:bias_variance]


# --8<-- [start:learning_curve]
def learning_curve(
    degree: int, sizes: Sequence[int], noise: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Training and test error for each number of training points, (len(sizes),) each."""
    errors = [polyfit_errors([degree], n, noise, seed) for n in sizes]
    train, test = zip(*errors, strict=True)
    return torch.cat(train), torch.cat(test)


# --8<-- [end:learning_curve]


# --8<-- [start:early_stopping]
class EarlyStopping:
    """Say when `patience` evaluations in a row brought nothing, and keep the best weights.

    min_delta: an improvement must be larger than this to count.
    """

    def __init__(self, patience: int, min_delta: float = 0.0) -> None:
        self.patience, self.min_delta = patience, min_delta
        self.best, self.best_step, self.step = math.inf, 0, 0
        self.state: dict[str, Tensor] = {}

    def update(self, value: float, model: nn.Module) -> bool:
        """Take a validation loss, lower is better; return True when it is time to stop."""
        self.step += 1
        if value < self.best - self.min_delta:
            self.best, self.best_step = value, self.step
            self.state = copy.deepcopy(model.state_dict())  # (1)!
        return self.step - self.best_step >= self.patience


# --8<-- [end:early_stopping]


# --8<-- [start:noisy_digits]
def noisy_digits(flip: float, seed: int) -> tuple[Tensor, ...]:
    """200 digits to train, 100 to validate, 360 to test; a share of the 300 labels drawn anew.

    Returns X (200, 64), y (200,), X_val, y_val (100 of them), X_test, y_test (360).
    """
    X, y, X_test, y_test = load_digits(seed)
    X, y = X[:300], y[:300].clone()
    g = torch.Generator().manual_seed(seed)
    drawn = torch.rand(300, generator=g) < flip  # (300,)
    y[drawn] = torch.randint(0, 10, (300,), generator=g)[drawn]
    return X[:200], y[:200], X[200:], y[200:], X_test, y_test


# --8<-- [end:noisy_digits]


# --8<-- [start:train]
def train(
    net: nn.Module,
    X: Tensor,
    y: Tensor,
    X_val: Tensor,
    y_val: Tensor,
    steps: int,
    stopper: EarlyStopping | None = None,
) -> list[tuple[float, float]]:
    """Full-batch Adam; return (training loss, validation loss) a step. X: (n, d), y: (n,).

    With a stopper: stop when it says so, and put the best weights back.
    """
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(X), y)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            losses.append((loss.item(), F.cross_entropy(net(X_val), y_val).item()))
        if stopper and stopper.update(losses[-1][1], net):
            break
    if stopper:
        net.load_state_dict(stopper.state)
    return losses


# --8<-- [end:train]


# --8<-- [start:random_relu]
def random_relu(X: Tensor, width: int, seed: int) -> Tensor:
    """A hidden layer of ReLU units, drawn once and never trained; (n, d) -> (n, width)."""
    g = torch.Generator().manual_seed(seed)
    W = torch.randn(width, X.shape[1], generator=g, dtype=X.dtype)  # (width, d)
    return (X @ W.T / math.sqrt(X.shape[1])).relu()


def width_errors(widths: Sequence[int], seed: int, penalty: float = 0.0) -> tuple[Tensor, Tensor]:
    """Error rates, training and test, of 200 digits for each width, (len(widths),) each."""
    X, y, X_test, y_test = load_digits(seed)
    X, y, centre = X[:200].double(), y[:200], X[:200].double().mean(0)
    wide, wide_test = (random_relu(Z - centre, max(widths), seed) for Z in (X, X_test.double()))
    train, test = [], []
    for p in widths:
        w = fit(wide[:, :p], F.one_hot(y, 10).double(), penalty)  # (p, 10)
        train.append(((wide[:, :p] @ w).argmax(1) != y).double().mean())
        test.append(((wide_test[:, :p] @ w).argmax(1) != y_test).double().mean())
    return torch.stack(train), torch.stack(test)


# --8<-- [end:random_relu]


def small_mlp(seed: int) -> nn.Sequential:
    """The 64-128-10 network of the digits experiments."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))


def accuracy(net: nn.Module, X: Tensor, y: Tensor) -> float:
    """Share of X (n, d) whose largest output is at y (n,)."""
    with torch.no_grad():
        return (net(X).argmax(1) == y).float().mean().item()


def poly_fit(degree: int, n: int, seed: int, penalty: float = 0.0) -> tuple[float, float]:
    """Test error of one polynomial, the noise variance included, and the norm of its weights."""
    g = torch.Generator().manual_seed(seed)
    x, x_test = grid(n), grid(400)
    w = fit(legendre(x, degree), sample(x, NOISE, g)[:, None], penalty)
    y_hat = (legendre(x_test, degree) @ w)[:, 0]  # (400,)
    return (y_hat - truth(x_test)).square().mean().item() + NOISE**2, w.norm().item()


def figure_three_fits() -> Figure:
    """One training set, polynomials of degree 1, 3 and 15."""
    fig, axes = plt.subplots(3, 1, figsize=(4.8, 6.4), sharex=True, layout="constrained")
    x, x_new = grid(20), grid(160)
    y = sample(x, NOISE, torch.Generator().manual_seed(0))
    for ax, degree in zip(axes, (1, 3, 15), strict=True):
        w = fit(legendre(x, degree), y[:, None])
        ax.plot(x_new, truth(x_new), "--", color="C2", label="truth")
        ax.plot(x_new, legendre(x_new, degree) @ w, "C0", label=f"degree {degree}")
        ax.plot(x, y, "o", color="C1", markersize=4)
        ax.set(ylim=(-2.2, 2.2), ylabel="$y$")
        ax.legend(loc="lower right", frameon=False, ncols=2)
    axes[-1].set(xlabel="$x$")
    return fig


def figure_complexity() -> Figure:
    """Training and test error against the degree, median of ten training sets."""
    fig, ax = plt.subplots(figsize=(4.8, 3.6), layout="constrained")
    degrees = range(21)
    errors = [polyfit_errors(degrees, 30, NOISE, seed) for seed in SEEDS]
    train = torch.stack([e[0] for e in errors])  # (seeds, degrees)
    test = torch.stack([e[1] for e in errors])
    ax.axhline(NOISE**2, color=plt.rcParams["text.color"], linewidth=0.8, linestyle=":")
    ax.text(20, NOISE**2 * 0.62, r"noise $\sigma^2$", ha="right")
    ax.semilogy(degrees, test.median(0).values, "C3o-", markersize=4, label="test")
    ax.fill_between(degrees, test.amin(0), test.amax(0), color="C3", alpha=0.2, linewidth=0)
    ax.semilogy(degrees, train.median(0).values, "C0s-", markersize=4, label="training")
    ax.axvspan(-0.5, 2.5, color="C1", alpha=0.15, linewidth=0)
    ax.axvspan(5.5, 20.5, color="C3", alpha=0.08, linewidth=0)
    ax.text(1.0, 3.0, "under-\nfitting", ha="center")
    ax.text(10.0, 3.0, "overfitting", ha="center")
    ax.set(xlabel="degree", ylabel="mean squared error", xlim=(-0.5, 20.5), ylim=(0.01, 20))
    ax.set_xticks(range(0, 21, 5))
    ax.legend(loc="lower left", bbox_to_anchor=(0.0, 0.02), frameon=False)
    return fig


def figure_bias_variance() -> Figure:
    """Bias^2, variance and noise stacked, by degree."""
    fig, ax = plt.subplots(layout="constrained")
    degrees = list(range(13))
    parts = torch.tensor([theory(k, 30, NOISE) for k in degrees]).T  # (2, degrees)
    noise = torch.full((len(degrees),), NOISE**2)
    labels = [r"noise $\sigma^2$", r"bias$^2$", "variance"]
    ax.stackplot(
        degrees, noise, *parts, labels=labels, colors=["C2", "C0", "C3"], alpha=0.75, linewidth=0
    )
    ax.plot(degrees, noise + parts.sum(0), "o-", color=plt.rcParams["text.color"], markersize=4)
    ax.set(xlabel="degree", ylabel="test error", xlim=(0, 12), ylim=(0, 0.65))
    handles, names = ax.get_legend_handles_labels()
    ax.legend(handles[::-1], names[::-1], loc="upper right", frameon=False)
    return fig


def figure_learning_curves() -> Figure:
    """Training and test error against the number of points, degree 1 and degree 5."""
    fig, axes = plt.subplots(2, 1, figsize=(4.8, 5.0), sharex=True, layout="constrained")
    sizes = [8, 10, 15, 20, 30, 50, 100, 200, 500]
    for ax, degree in zip(axes, (1, 5), strict=True):
        errors = [learning_curve(degree, sizes, NOISE, seed) for seed in SEEDS]
        for i, (style, label) in enumerate((("C0s-", "training"), ("C3o-", "test"))):
            mean = torch.stack([e[i] for e in errors]).mean(0)  # (sizes,)
            ax.semilogx(sizes, mean, style, markersize=4, label=label)
        ax.axhline(NOISE**2, color=plt.rcParams["text.color"], linewidth=0.8, linestyle=":")
        ax.set(ylabel="error", ylim=(0, 0.45), title=f"degree {degree}")
        ax.grid(True)
    axes[0].legend(loc="lower right", frameon=False, ncols=2)
    axes[1].set(xlabel="training points $n$")
    axes[1].text(500, 0.025, r"noise $\sigma^2$", ha="right")
    return fig


def figure_early_stopping() -> Figure:
    """Training and validation loss of a network on digits, 40 % of the labels drawn anew."""
    fig, ax = plt.subplots(layout="constrained")
    X, y, X_val, y_val, _, _ = noisy_digits(0.4, seed=0)
    losses = torch.tensor(train(small_mlp(0), X, y, X_val, y_val, steps=100))  # (100, 2)
    best = int(losses[:, 1].argmin())
    steps = range(1, 101)
    ax.plot(steps, losses[:, 1], "C3", label="validation")
    ax.plot(steps, losses[:, 0], "C0--", label="training")
    ax.plot(best + 1, losses[best, 1], "o", color="C2", markersize=9, label="stop here")
    ax.set(xlabel="step", ylabel="cross-entropy", xlim=(0, 100), ylim=(0, None))
    ax.grid(True)
    ax.legend(loc="upper left", frameon=False)
    return fig


def figure_double_descent() -> Figure:
    """Test error rate against the number of random features, with and without a penalty."""
    fig, ax = plt.subplots(figsize=(4.8, 3.6), layout="constrained")
    widths = [10, 20, 40, 70, 100, 140, 180, 200, 220, 270, 400, 1000, 4000]
    results = [width_errors(widths, seed) for seed in range(3)]
    train_error = torch.stack([r[0] for r in results]).mean(0)
    test_error = torch.stack([r[1] for r in results]).mean(0)
    decayed = torch.stack([width_errors(widths, seed, 0.01)[1] for seed in range(3)]).mean(0)
    ax.semilogx(widths, test_error, "C3o-", markersize=4, label="test")
    ax.semilogx(widths, decayed, "C2^--", markersize=4, label="test, with penalty")
    ax.semilogx(widths, train_error, "C0s-", markersize=4, label="training")
    ax.axvline(200, color=plt.rcParams["text.color"], linewidth=0.8, linestyle=":")
    ax.text(215, 0.86, "$p = n$")
    ax.set(xlabel="features $p$", ylabel="error rate", ylim=(-0.03, 0.95))
    ax.grid(True)
    ax.legend(loc="upper left", frameon=False)
    return fig


def experiment_degree(seed: int) -> dict[str, float]:
    """The degree with the least test error among 0 ... 20, and three fits, n = 30."""
    train, test = polyfit_errors(range(21), 30, NOISE, seed)
    out = {"best": float(test.argmin())}
    for degree in (1, 3, 15, 20):
        out[f"train{degree}"] = train[degree].item()
        out[f"test{degree}"] = test[degree].item()
    return out


def experiment_memory(seed: int) -> dict[str, float]:
    """One network, one recipe: labels from a rule and labels from a coin."""
    out = {}
    for name, random in (("rule", False), ("coin", True)):
        out |= {f"{name}_{k}": v for k, v in fit_random_labels(100, seed, random).items()}
    return out


def experiment_parts(seed: int) -> dict[str, float]:
    """Bias^2 and variance from 200 training sets of 30 points, and the defect of their sum."""
    out = {}
    for degree in (1, 3, 9, 15):
        bias2, variance, mse = bias_variance(degree, 200, 30, NOISE, seed)
        out |= {f"bias{degree}": bias2, f"variance{degree}": variance}
        out[f"defect{degree}"] = abs(bias2 + variance - mse) / mse
    return out


def experiment_gap(seed: int) -> dict[str, float]:
    """Training error and error on fresh labels of the same 30 points, mean of 200 sets."""
    g = torch.Generator().manual_seed(seed)
    x, out = grid(30).expand(200, 30), {}
    y, fresh = sample(x, NOISE, g).T, sample(x, NOISE, g).T  # (n, n_sets)
    for degree in (1, 3, 9, 15):
        A = legendre(grid(30), degree)
        y_hat = A @ fit(A, y)  # (n, n_sets)
        out[f"train{degree}"] = (y_hat - y).square().mean().item()
        out[f"fresh{degree}"] = (y_hat - fresh).square().mean().item()
        out[f"gap{degree}"] = out[f"fresh{degree}"] - out[f"train{degree}"]
    return out


def experiment_size(seed: int) -> dict[str, float]:
    """Training and test error for 15, 50 and 500 points, degree 5 and degree 1."""
    out = {}
    for degree in (5, 1):
        train, test = learning_curve(degree, [15, 50, 500], NOISE, seed)
        for i, n in enumerate((15, 50, 500)):
            out |= {f"train{degree}_{n}": train[i].item(), f"test{degree}_{n}": test[i].item()}
    return out


def experiment_remedies(seed: int) -> dict[str, float]:
    """Test error of an underfitted and an overfitted polynomial under the same four remedies."""
    patients = {"under": (1, 3, 0), "over": (15, 18, 3)}  # degree, larger, smaller
    out = {}
    for name, (degree, larger, smaller) in patients.items():
        out[f"{name}_none"], out[f"{name}_norm"] = poly_fit(degree, 30, seed)
        out[f"{name}_data"], _ = poly_fit(degree, 300, seed)
        out[f"{name}_larger"], _ = poly_fit(larger, 30, seed)
        out[f"{name}_smaller"], _ = poly_fit(smaller, 30, seed)
        out[f"{name}_penalty"], out[f"{name}_shrunk"] = poly_fit(degree, 30, seed, penalty=0.1)
    return out


def experiment_underfit(seed: int) -> dict[str, float]:
    """Four ways out of underfitting, each beside the case without it; test errors, n = 30."""
    g = torch.Generator().manual_seed(seed)
    x, x_test = grid(30), grid(400)
    y = sample(x, NOISE, g)[:, None]

    def error(w: Tensor, A: Tensor) -> float:
        return ((A @ w)[:, 0] - truth(x_test)).square().mean().item() + NOISE**2

    def descend(A: Tensor, steps: int) -> Tensor:
        w = torch.zeros(A.shape[1], 1, dtype=A.dtype)
        for _ in range(steps):
            w = w - 0.5 * A.T @ (A @ w - y) / len(y)
        return w

    line, cubic = legendre(x, 1), legendre(x, 3)
    line_test, cubic_test = legendre(x_test, 1), legendre(x_test, 3)
    feature, feature_test = torch.sin(3 * x)[:, None], torch.sin(3 * x_test)[:, None]
    return {
        "line": error(fit(line, y), line_test),
        "capacity": error(fit(cubic, y), cubic_test),
        "feature": error(fit(feature, y), feature_test),
        "short": error(descend(cubic, 10), cubic_test),
        "long": error(descend(cubic, 200), cubic_test),
        "strong": error(fit(cubic, y, penalty=1.0), cubic_test),
        "weak": error(fit(cubic, y, penalty=0.001), cubic_test),
    }


def experiment_stopping(seed: int) -> dict[str, float]:
    """Test accuracy with early stopping and after 100 steps, noisy labels and clean ones.

    Third way: no stopping and no validation set, all 300 samples go into the training.
    """
    out = {}
    for name, flip in (("noisy", 0.4), ("clean", 0.0)):
        X, y, X_val, y_val, X_test, y_test = noisy_digits(flip, seed)
        net, stopper = small_mlp(seed), EarlyStopping(patience=10)
        steps = len(train(net, X, y, X_val, y_val, 100, stopper))
        full, everything = small_mlp(seed), small_mlp(seed)
        train(full, X, y, X_val, y_val, 100)
        train(everything, torch.cat([X, X_val]), torch.cat([y, y_val]), X_val, y_val, 100)
        out |= {
            f"{name}_stopped": accuracy(net, X_test, y_test),
            f"{name}_full": accuracy(full, X_test, y_test),
            f"{name}_all": accuracy(everything, X_test, y_test),
            f"{name}_steps": float(steps),
            f"{name}_fitted": accuracy(full, X, y),
        }
        y_true = load_digits(seed)[1][:200]  # (200,)
        wrong = y != y_true  # (200,)
        out[f"{name}_right"] = accuracy(net, X[~wrong], y[~wrong])
        if flip > 0:
            out[f"{name}_wrong"] = accuracy(net, X[wrong], y[wrong])
            out[f"{name}_mended"] = accuracy(net, X[wrong], y_true[wrong])
        out[f"{name}_gain"] = out[f"{name}_stopped"] - out[f"{name}_full"]
        out[f"{name}_price"] = out[f"{name}_all"] - out[f"{name}_stopped"]
    return out


def experiment_descent(seed: int) -> dict[str, float]:
    """Test error rate at widths below, at and far above n = 200, with and without a penalty."""
    widths = (20, 100, 200, 4000)
    train_error, test_error = width_errors(widths, seed)
    decayed = width_errors(widths, seed, penalty=0.01)[1]
    out = {f"train{p}": train_error[i].item() for i, p in enumerate(widths)}
    out |= {f"test{p}": test_error[i].item() for i, p in enumerate(widths)}
    return out | {f"decayed{p}": decayed[i].item() for i, p in enumerate(widths)}


def experiment_ends(seed: int) -> dict[str, float]:
    """Bias^2 and variance on y = x1 x2 of a linear model and of 1000 random ReLU units."""
    g = torch.Generator().manual_seed(seed)
    X_new = 2 * torch.rand(300, 2, generator=g, dtype=torch.float64) - 1
    one = torch.ones(300, 1, dtype=torch.float64)
    f_new, out = X_new.prod(1), {}
    for n in (20, 200):
        fits: dict[str, list[Tensor]] = {"line": [], "wide": []}
        for _ in range(10):
            X = 2 * torch.rand(n, 2, generator=g, dtype=torch.float64) - 1  # (n, 2)
            y = X.prod(1) + 0.1 * torch.randn(n, generator=g, dtype=torch.float64)
            A, A_new = torch.cat([X, one[:n]], 1), torch.cat([X_new, one], 1)
            fits["line"].append((A_new @ fit(A, y[:, None]))[:, 0])
            wide, wide_new = random_relu(A, 1000, seed), random_relu(A_new, 1000, seed)
            fits["wide"].append((wide_new @ fit(wide, y[:, None], 0.001))[:, 0])
        for name, rows in fits.items():
            y_hat = torch.stack(rows)  # (sets, 300)
            out[f"{name}_bias{n}"] = (y_hat.mean(0) - f_new).square().mean().item()
            out[f"{name}_variance{n}"] = y_hat.var(0, correction=0).mean().item()
    return out


def experiment_coverage(seed: int) -> dict[str, float]:
    """Test error of degree 5: 30 points on all of [-1, 1], or 300 on the left half only."""
    g = torch.Generator().manual_seed(seed)
    x_test, out = grid(400), {}
    for name, x in (("whole", grid(30)), ("half", (grid(300) - 1) / 2)):
        A, y = legendre(x, 5), sample(x, NOISE, g)[:, None]
        w = fit(A, y)
        wrong = ((legendre(x_test, 5) @ w)[:, 0] - truth(x_test)).square()  # (400,)
        out[f"{name}_train"] = (A @ w - y).square().mean().item()
        out[f"{name}_inside"] = wrong[x_test < 0].mean().item() + NOISE**2
        out[f"{name}_test"] = wrong.mean().item() + NOISE**2
    return out


if __name__ == "__main__":
    for k in (1, 3, 9, 15):
        print(k, theory(k, 30, NOISE), bias_variance(k, 200, 30, NOISE))
    print(fit_random_labels(100, seed=0))
    figure_complexity()
    plt.show()
