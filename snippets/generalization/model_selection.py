"""Model selection: data splits, cross-validation, and how honest the score of a winner is.

A model is a function `fit(X, y) -> predict`; a loss is a function of predictions and labels,
smaller is better. A fold is a pair of index tensors (train, validation).
"""

# --8<-- [start:imports]
import math
from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

# --8<-- [end:imports]

SEEDS = range(10)


# --8<-- [start:best_of_random]
def best_of_random(n_models: int, n_test: int, seed: int) -> tuple[float, float]:
    """Let classifiers that flip coins take a two-class test of n_test samples.

    Returns the best accuracy, and the winner's accuracy on 10000 fresh samples.
    """
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(2, (n_test,), generator=g)  # (n,)
    guesses = torch.randint(2, (n_models, n_test), generator=g)  # (m, n)
    accuracy = (guesses == labels).double().mean(1)  # (m,)
    fresh_labels = torch.randint(2, (10_000,), generator=g)
    fresh_guesses = torch.randint(2, (10_000,), generator=g)  # (1)!
    retake = (fresh_guesses == fresh_labels).double().mean()
    return accuracy.max().item(), retake.item()


# --8<-- [end:best_of_random]


# --8<-- [start:expected_best]
def expected_best(m: int, n: int) -> float:
    """Expected best accuracy of m coin-flippers on n samples, equation (6)."""
    k = torch.arange(n + 1, dtype=torch.float64)  # (n + 1,)
    log_ways = math.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
    at_most = (log_ways - n * math.log(2)).exp().cumsum(0)  # (n + 1,): P(score <= k)
    return (1 - at_most[:-1] ** m).sum().item() / n


# --8<-- [end:expected_best]


# --8<-- [start:split]
def split(n: int, fractions: Sequence[float], seed: int) -> list[Tensor]:
    """Shuffle 0, ..., n - 1 once and cut: disjoint index tensors that cover everything.

    Raises ValueError if the fractions do not sum to 1.
    """
    if not math.isclose(sum(fractions), 1.0):
        raise ValueError("the fractions must sum to 1")
    sizes = [math.floor(n * fraction) for fraction in fractions]
    for i in range(n - sum(sizes)):  # (1)!
        sizes[i % len(sizes)] += 1
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))  # (n,)
    return list(order.split(sizes))


# --8<-- [end:split]


# --8<-- [start:kfold]
Fold = tuple[Tensor, Tensor]


def kfold(n: int, k: int, seed: int) -> list[Fold]:
    """Return k pairs (train, validation) of indices; k = n is leave-one-out.

    Raises ValueError unless 2 <= k <= n.
    """
    if not 2 <= k <= n:
        raise ValueError(f"k must be from 2 to {n}, got {k}")
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))  # (n,)
    parts = order.tensor_split(k)  # (1)!
    return [(torch.cat(parts[:i] + parts[i + 1 :]), parts[i]) for i in range(k)]


# --8<-- [end:kfold]


# --8<-- [start:models]
Predict = Callable[[Tensor], Tensor]
Fit = Callable[[Tensor, Tensor], Predict]
Loss = Callable[[Tensor, Tensor], float]


def add_ones(X: Tensor) -> Tensor:
    """Append the feature 1: (n, d) -> (n, d + 1)."""
    return torch.cat([X, torch.ones_like(X[:, :1])], dim=1)


def least_squares(X: Tensor, y: Tensor) -> Predict:
    """Fit an affine map by least squares; X: (n, d), y: (n, q)."""
    theta = torch.linalg.lstsq(add_ones(X), y).solution  # (d + 1, q)
    return lambda X_new: add_ones(X_new) @ theta


def neighbours(k: int) -> Fit:
    """Predict by the average label of the k nearest training samples."""

    def fit(X: Tensor, y: Tensor) -> Predict:
        def predict(X_new: Tensor) -> Tensor:
            nearest = torch.cdist(X_new, X).topk(k, largest=False).indices  # (n_new, k)
            return y[nearest].mean(1)  # (n_new, q)

        return predict

    return fit


# --8<-- [end:models]


# --8<-- [start:losses]
def mse(prediction: Tensor, y: Tensor) -> float:
    """Mean squared error; both (n, q)."""
    return (prediction - y).square().mean().item()


def error_rate(prediction: Tensor, y: Tensor) -> float:
    """Share of wrong classes; y: (n, q) one-hot, the class is the largest entry."""
    return (prediction.argmax(1) != y.argmax(1)).double().mean().item()


# --8<-- [end:losses]


# --8<-- [start:cross_validate]
def cross_validate(
    fit: Fit,
    loss: Loss,
    X: Tensor,
    y: Tensor,
    folds: Sequence[Fold],
) -> Tensor:
    """Train on each fold's training part; return the validation losses, (k,)."""
    losses = []
    for train, valid in folds:
        predict = fit(X[train], y[train])
        losses.append(loss(predict(X[valid]), y[valid]))
    return torch.tensor(losses)


def select(
    candidates: Mapping[str, Fit],
    loss: Loss,
    X: Tensor,
    y: Tensor,
    folds: Sequence[Fold],
) -> tuple[str, dict[str, float]]:
    """Return the candidate with the smallest average loss, and all averages."""
    averages = {
        name: cross_validate(fit, loss, X, y, folds).mean().item()
        for name, fit in candidates.items()
    }
    return min(averages, key=averages.get), averages


# --8<-- [end:cross_validate]


# --8<-- [start:loo]
def loo_shortcut(X: Tensor, y: Tensor) -> Tensor:
    """Leave-one-out residuals of least squares from a single fit, equation (12).

    X: (n, d), y: (n, q); returns (n, q).
    """
    Q = torch.linalg.qr(add_ones(X)).Q  # (n, d + 1), H = Q Q^T
    leverage = Q.square().sum(1, keepdim=True)  # (n, 1): h_ii
    return (Q @ (Q.T @ y) - y) / (1 - leverage)


# --8<-- [end:loo]


# --8<-- [start:gaussians]
def gaussians(n: int, d: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two classes, means +-0.3 in every feature, variance 1; y: (n, 2), one-hot."""
    label = torch.randint(2, (n,), generator=g)  # (n,)
    noise = torch.randn(n, d, generator=g, dtype=torch.float64)
    X = noise + 0.3 * (2 * label[:, None] - 1)
    return X, F.one_hot(label, 2).double()


def true_error(predict: Predict, d: int) -> float:
    """Exact error rate of an affine classifier on `gaussians`."""
    zero = torch.zeros(1, d, dtype=torch.float64)
    margin = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)  # (2, 1)
    b = (predict(zero) @ margin).squeeze()  # ()
    w = (predict(torch.eye(d, dtype=torch.float64)) @ margin).squeeze(1) - b  # (d,)
    reach = 0.3 * w.sum()
    correct = torch.special.ndtr(torch.stack([reach + b, reach - b]) / w.norm())  # (2,)
    return 1 - correct.mean().item()


# --8<-- [end:gaussians]


# --8<-- [start:estimates]
def estimates(seed: int) -> dict[str, float]:
    """Five estimates of one error rate from the same 100 samples, and the truth."""
    g = torch.Generator().manual_seed(seed)
    X, y = gaussians(100, 20, g)
    predict = least_squares(X, y)  # from all 100 samples
    ten = cross_validate(least_squares, error_rate, X, y, kfold(100, 10, seed))  # (10,)
    two = cross_validate(least_squares, error_rate, X, y, kfold(100, 2, seed))  # (2,)
    return {
        "truth": true_error(predict, 20),
        "training": error_rate(predict(X), y),
        "holdout": ten[0].item(),
        "two_fold": two.mean().item(),
        "ten_fold": ten.mean().item(),
        "loo": error_rate(y + loo_shortcut(X, y), y),
    }


# --8<-- [end:estimates]


# --8<-- [start:wave]
def wave(n: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Noisy samples of sin(2 pi x), x uniform on [0, 1], noise 0.5; X, y: (n, 1)."""
    X = torch.rand(n, 1, generator=g, dtype=torch.float64)
    noise = torch.randn(n, 1, generator=g, dtype=torch.float64)
    return X, torch.sin(2 * math.pi * X) + 0.5 * noise


def true_mse(predict: Predict) -> float:
    """Expected squared error on new samples of `wave`: grid average plus noise."""
    grid = torch.linspace(0, 1, 201, dtype=torch.float64).unsqueeze(1)
    return mse(predict(grid), torch.sin(2 * math.pi * grid)) + 0.25


# --8<-- [end:wave]


# --8<-- [start:choose]
def choose_three_ways(n: int, seed: int) -> dict[str, float]:
    """Choose k of k-NN on n samples by three rules; true loss above the best."""
    X, y = wave(n, torch.Generator().manual_seed(seed))
    sizes = [k for k in (1, 2, 3, 5, 8, 13, 21, 34, 55, 89) if k < n / 2]
    candidates = {str(k): neighbours(k) for k in sizes}
    truth = {name: true_mse(fit(X, y)) for name, fit in candidates.items()}
    best = min(truth.values())
    everything = torch.arange(n)
    rules = {
        "training": [(everything, everything)],
        "holdout": kfold(n, 5, seed)[:1],
        "ten_fold": kfold(n, 10, seed),
    }
    regret = {}
    for rule, folds in rules.items():
        winner, _ = select(candidates, mse, X, y, folds)
        regret[rule] = truth[winner] - best  # retrained on all n
    return regret


# --8<-- [end:choose]


# --8<-- [start:random_subsets]
def random_subsets(m: int, n: int, seed: int) -> dict[str, float]:
    """Train m classifiers, each on 5 of 40 features, and choose one; winners' accuracies.

    n: size of the training, the validation and the test set, each; labels are -1 and 1.
    """
    g = torch.Generator().manual_seed(seed)
    effect = torch.zeros(40, dtype=torch.float64)
    effect[:10] = 0.2  # class means +-0.2 in 10 features, the other 30 are noise
    columns = torch.rand(m, 40, generator=g).argsort(1)[:, :5]  # (m, 5)

    def sample() -> tuple[Tensor, Tensor]:
        label = 2 * torch.randint(2, (n,), generator=g).double() - 1  # (n,)
        noise = torch.randn(n, 40, generator=g, dtype=torch.float64)
        X = label[:, None] * effect + noise
        return X[:, columns].movedim(1, 0), label  # (m, n, 5), (n,)

    X, label = sample()
    w = torch.linalg.lstsq(X, label.expand(m, n)[..., None]).solution  # (m, 5, 1)
    scores = []
    for X, label in (sample(), sample()):  # validation, test
        scores.append(((X @ w).squeeze(2).sign() == label).double().mean(1))  # (m,)
    validation, test = scores
    reach = (w.squeeze(2) * effect[columns]).sum(1) / w.squeeze(2).norm(dim=1)
    truth = torch.special.ndtr(reach)  # (m,), exact
    honest, cheat = validation.argmax(), test.argmax()
    names = ("validation", "test", "truth", "cheat", "cheat_truth")
    values = (validation[honest], test[honest], truth[honest], test[cheat], truth[cheat])
    return {name: value.item() for name, value in zip(names, values, strict=True)}


# --8<-- [end:random_subsets]


# --8<-- [start:group_folds]
def group_folds(groups: Tensor, k: int, seed: int) -> list[Fold]:
    """K-fold over groups, none on both sides; groups: (n,), one number a sample."""
    names = groups.unique()  # (G,)
    return [
        (
            torch.isin(groups, names[train]).nonzero().squeeze(1),
            torch.isin(groups, names[valid]).nonzero().squeeze(1),
        )
        for train, valid in kfold(len(names), k, seed)
    ]


def forward_folds(n: int, k: int) -> list[Fold]:
    """Cut time into k + 1 blocks; validate on one, train on all before it."""
    parts = torch.arange(n).tensor_split(k + 1)
    return [(torch.cat(parts[:i]), parts[i]) for i in range(1, k + 1)]


# --8<-- [end:group_folds]


# --8<-- [start:people]
def people(n: int, repeats: int, g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Several recordings of each of n people: X (n * repeats, 10), y one-hot, person.

    A person has a class and a centre, which tells a part of the class; the recordings
    scatter around the centre with standard deviation 0.3.
    """
    centre = torch.randn(n, 10, generator=g, dtype=torch.float64)
    hidden = torch.randn(n, generator=g, dtype=torch.float64)
    label = (centre[:, 0] + centre[:, 1] + hidden > 0).long()  # (n,)
    person = torch.arange(n).repeat_interleave(repeats)
    scatter = torch.randn(n * repeats, 10, generator=g, dtype=torch.float64)
    X = centre[person] + 0.3 * scatter
    return X, F.one_hot(label[person], 2).double(), person


# --8<-- [end:people]


# --8<-- [start:series]
def series(
    n: int,
    memory: float,
    slope: float,
    g: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """A linear trend plus an AR(1) process of unit variance; X (the day), y: (n, 1)."""
    noise = torch.randn(n, generator=g, dtype=torch.float64)
    level = [noise[0]]
    for shock in noise[1:]:
        level.append(memory * level[-1] + math.sqrt(1 - memory**2) * shock)
    day = torch.arange(n, dtype=torch.float64)
    return day[:, None], (slope * day + torch.stack(level))[:, None]


# --8<-- [end:series]


# --8<-- [start:screening]
def screened(keep: int, fit: Fit) -> Fit:
    """Keep the features that say most about the class, chosen in the training part."""

    def fit_screened(X: Tensor, y: Tensor) -> Predict:
        kept = strongest(X, y, keep)
        predict = fit(X[:, kept], y)
        return lambda X_new: predict(X_new[:, kept])

    return fit_screened


def strongest(X: Tensor, y: Tensor, keep: int) -> Tensor:
    """Features with the largest covariance with class 1: indices, (keep,)."""
    return (X.T @ (y[:, 1] - y[:, 1].mean())).abs().topk(keep).indices


# --8<-- [end:screening]


def figure_splits() -> Figure:
    """Shares of training, validation and test set, small and large data."""
    fig, ax = plt.subplots(figsize=(4.8, 2.6), layout="constrained")
    for row, shares in enumerate(((60, 20, 20), (98, 1, 1))):
        left = 0
        for share, color in zip(shares, ("C0", "C1", "C3"), strict=True):
            ax.barh(row, share, left=left, height=0.5, color=color, alpha=0.4)
            left += share
    for x, name in ((30, "training"), (70, "validation"), (90, "test")):
        ax.text(x, -0.45, name, ha="center", va="center")
    for x, share in ((30, "60%"), (70, "20%"), (90, "20%")):
        ax.text(x, 0, share, ha="center", va="center")
    ax.text(49, 1, "98%", ha="center", va="center")
    ax.text(98, 1.48, "1% + 1%", ha="right", va="center")
    ax.set(xlabel="share of all data (%)", xlim=(0, 100), ylim=(1.75, -0.7))
    ax.set_yticks([0, 1], ["thousands\nof samples", "millions\nof samples"])
    return fig


def figure_folds() -> Figure:
    """5-fold cross-validation: every sample is validated once, the test set never."""
    fig, ax = plt.subplots(layout="constrained")
    for row in range(5):
        for part in range(5):
            color = "C1" if part == row else "C0"
            ax.barh(row, 0.94, left=part, height=0.8, color=color, alpha=0.4)
            if part == row:
                ax.text(part + 0.47, row, "valid.", ha="center", va="center")
    ax.barh(2, 1.1, left=5.3, height=4.8, color="C3", alpha=0.4)
    ax.text(5.85, 2, "test", ha="center", va="center")
    ax.set(xlabel="the samples, shuffled once", ylabel="training run", ylim=(4.6, -0.6))
    ax.set_xticks([])
    ax.set_yticks(range(5), range(1, 6))
    return fig


def figure_best_of_m() -> Figure:
    """Best accuracy among m coin-flippers: measured, exact and bound."""
    fig, ax = plt.subplots(layout="constrained")
    ms = [round(10 ** (i / 8)) for i in range(25)]
    ax.plot(ms, [0.5 + math.sqrt(math.log(m) / 400) for m in ms], "C1--", label="bound (5)")
    ax.plot(ms, [expected_best(m, 200) for m in ms], "C0-", label="exact (6)")
    few = [1, 3, 10, 30, 100, 300, 1000]
    best = [sum(best_of_random(m, 200, seed)[0] for seed in range(100)) / 100 for m in few]
    ax.plot(few, best, "C3o", label="measured")
    ax.axhline(0.5, color=plt.rcParams["text.color"], linewidth=0.8)
    ax.set(xlabel="number of models $m$", ylabel="best of $m$: accuracy", xscale="log")
    ax.minorticks_off()
    ax.set(ylim=(0.48, 0.65))
    ax.grid(True)
    ax.legend(loc="upper left", frameon=False)
    return fig


def figure_estimates() -> Figure:
    """Histograms of hold-out and 10-fold estimates over 300 data sets."""
    fig, axes = plt.subplots(2, 1, sharex=True, figsize=(4.8, 4.0), layout="constrained")
    runs = [estimates(seed) for seed in range(300)]
    truth = sum(run["truth"] for run in runs) / len(runs)
    rules = (("holdout", 0.1, "C3", "10% hold-out"), ("ten_fold", 0.02, "C0", "10-fold"))
    for ax, (rule, width, color, title) in zip(axes, rules, strict=True):
        bins = [width * (i - 0.5) for i in range(round(0.6 / width) + 1)]
        weights = [1 / len(runs)] * len(runs)
        ax.hist([run[rule] for run in runs], bins, weights=weights, color=color, alpha=0.8)
        ax.axvline(truth, color=plt.rcParams["text.color"], linestyle="--")
        ax.set(ylabel="share")
        ax.text(0.97, 0.85, title, transform=ax.transAxes, ha="right")
    axes[1].set(xlabel="estimated error rate")
    return fig


def figure_time() -> Figure:
    """What a random split asks, and what the future asks, of two models of one series."""
    fig, ax = plt.subplots(layout="constrained")
    X, y = series(1200, 0.9, 0.01, torch.Generator().manual_seed(0))
    train, valid = kfold(1000, 5, 0)[0]
    for index, style, label in ((train, "C0.", "training"), (valid, "C1^", "validation")):
        shown = index[index >= 900].sort().values
        ax.plot(X[shown], y[shown], style, markersize=4, label=label)
    text_color = plt.rcParams["text.color"]
    ax.plot(X[1000::4], y[1000::4], ".", color=text_color, alpha=0.5, markersize=4, label="future")
    days = torch.tensor([[1000.0], [1199.0]], dtype=torch.float64)
    for fit, style, label in ((neighbours(1), "C3-", "1-NN"), (least_squares, "C2--", "line")):
        ax.plot(days, fit(X[:1000], y[:1000])(days), style, linewidth=2, label=label)
    ax.axvline(1000, ymax=0.6, color=text_color, linewidth=0.8)
    ax.set(xlabel="day", ylabel="$y$", ylim=(5, 19))
    ax.legend(loc="upper left", ncols=2, frameon=False, handlelength=1.2, columnspacing=1)
    return fig


def average(runs: Sequence[Mapping[str, float]], key: str) -> float:
    """Mean of one key over the runs."""
    return sum(run[key] for run in runs) / len(runs)


def experiment_coins(seed: int) -> dict[str, float]:
    """Best of m coin-flippers on 200 samples, and the winner of 1000 on fresh data."""
    out = {f"best_of_{m}": best_of_random(m, 200, seed)[0] for m in (1, 10, 100)}
    out["best_of_1000"], out["retake"] = best_of_random(1000, 200, seed)
    return out


def experiment_estimates(seed: int) -> dict[str, float]:
    """Bias and standard deviation of five estimates of an error rate over 100 data sets."""
    runs = [estimates(100 * seed + i) for i in range(100)]
    out = {"truth": average(runs, "truth")}
    for rule in ("training", "holdout", "two_fold", "ten_fold", "loo"):
        values = torch.tensor([run[rule] for run in runs], dtype=torch.float64)
        out[f"{rule}_bias"] = values.mean().item() - out["truth"]
        out[f"{rule}_sd"] = values.std().item()
    p = out["truth"]
    out["holdout_predicted"] = math.sqrt(p * (1 - p) / 10)
    out["ratio"] = out["holdout_sd"] / out["ten_fold_sd"]
    out["correlation"] = (10 / out["ratio"] ** 2 - 1) / 9  # (8) solved for rho
    return out


def experiment_choice(seed: int) -> dict[str, float]:
    """True loss above the best choice's: 20 data sets of 40 samples, 3 of 500."""
    small = [choose_three_ways(40, 100 * seed + i) for i in range(20)]
    large = [choose_three_ways(500, 100 * seed + i) for i in range(3)]
    out = {f"small_{rule}": average(small, rule) for rule in small[0]}
    out |= {f"large_{rule}": average(large, rule) for rule in large[0]}
    out["small_saved"] = out["small_holdout"] - out["small_ten_fold"]
    return out


def experiment_honest(seed: int) -> dict[str, float]:
    """Choose 1 of 200 models on validation or on test data of 100 and of 3000 samples."""
    small = [random_subsets(200, 100, 100 * seed + i) for i in range(10)]
    out = {f"small_{key}": average(small, key) for key in small[0]}
    large = random_subsets(200, 3000, seed)
    out |= {f"large_{key}": value for key, value in large.items()}
    for size in ("small", "large"):
        out[f"{size}_optimism"] = out[f"{size}_validation"] - out[f"{size}_truth"]
    return out


def experiment_groups(seed: int) -> dict[str, float]:
    """Error rates by random folds, by person folds and on new people, two models."""
    g = torch.Generator().manual_seed(seed)
    X, y, person = people(40, 10, g)
    X_new, y_new, _ = people(400, 10, g)
    alone, y_alone, _ = people(400, 1, g)  # every recording from somebody else
    pretended = torch.arange(400) // 10
    out = {}
    for name, fit in (("nearest", neighbours(1)), ("line", least_squares)):
        folds = {"random": kfold(400, 5, seed), "group": group_folds(person, 5, seed)}
        for rule, pairs in folds.items():
            out[f"{name}_{rule}"] = cross_validate(fit, error_rate, X, y, pairs).mean().item()
        out[f"{name}_truth"] = error_rate(fit(X, y)(X_new), y_new)
        folds["group"] = group_folds(pretended, 5, seed)
        for rule, pairs in folds.items():
            losses = cross_validate(fit, error_rate, alone, y_alone, pairs)
            out[f"alone_{name}_{rule}"] = losses.mean().item()
    return out


def experiment_time(seed: int) -> dict[str, float]:
    """Squared errors by random folds, by forward folds and on the next 200 days, two models."""
    out = {}
    for prefix, memory, slope in (("", 0.9, 0.01), ("independent_", 0.0, 0.0)):
        X, y = series(1200, memory, slope, torch.Generator().manual_seed(seed))
        past, past_y, future, future_y = X[:1000], y[:1000], X[1000:], y[1000:]
        for name, fit in (("nearest", neighbours(1)), ("line", least_squares)):
            key = prefix + name
            for rule, folds in (
                ("random", kfold(1000, 5, seed)),
                ("forward", forward_folds(1000, 4)),
            ):
                losses = cross_validate(fit, mse, past, past_y, folds)
                out[f"{key}_{rule}"] = losses.mean().item()
            out[f"{key}_truth"] = mse(fit(past, past_y)(future), future_y)
    return out


def experiment_leak(seed: int) -> dict[str, float]:
    """Error rates on pure noise: features screened, or only scaled, before or in the folds."""
    g = torch.Generator().manual_seed(seed)
    X = torch.randn(50, 1000, generator=g, dtype=torch.float64)
    y = F.one_hot(torch.randint(2, (50,), generator=g), 2).double()
    folds, nearest = kfold(50, 10, seed), neighbours(1)
    kept = strongest(X, y, 20)

    def scaled(X: Tensor, y: Tensor) -> Predict:
        mean, sd = X.mean(0), X.std(0)
        predict = nearest((X - mean) / sd, y)
        return lambda X_new: predict((X_new - mean) / sd)

    fits = {
        "screened_before": (nearest, X[:, kept]),
        "screened_inside": (screened(20, nearest), X),
        "scaled_before": (nearest, (X - X.mean(0)) / X.std(0)),
        "scaled_inside": (scaled, X),
    }
    return {
        name: cross_validate(fit, error_rate, data, y, folds).mean().item()
        for name, (fit, data) in fits.items()
    }


if __name__ == "__main__":
    print("best of 1000 coin-flippers:", best_of_random(1000, 200, seed=0))
    print("expected:", expected_best(1000, 200))
    print("estimates of one error rate:", estimates(seed=0))
    figure_estimates()
    plt.show()
