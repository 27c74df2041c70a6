import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import random_split

from snippets.generalization import model_selection as chapter
from snippets.generalization.model_selection import (
    cross_validate,
    error_rate,
    expected_best,
    kfold,
    least_squares,
    mse,
    neighbours,
    select,
    split,
)


def regression(n: int, d: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    X = torch.randn(n, d, generator=g, dtype=torch.float64)
    noise = torch.randn(n, 1, generator=g, dtype=torch.float64)
    return X, X.sum(1, keepdim=True) + noise


# The best of m


def test_a_thousand_coins_on_200_samples(measured):
    values = measured(chapter.experiment_coins)
    assert len(values["best_of_1000"]) >= 5
    # One maximum has sd 0.013; 400 seeds stayed within 0.585 and 0.66.
    assert (values["best_of_1000"] > 0.58).all() and (values["best_of_1000"] < 0.67).all()
    assert abs(values["best_of_1000"].mean() - expected_best(1000, 200)) < 4 * 0.013 / 10**0.5
    assert abs(values["retake"] - 0.5).max() < 0.025  # five sd of 10000 coins
    # Each tenfold adds 0.026 or more; the mean of ten seeds has sd 0.011, 0.008 and less.
    means = [values[f"best_of_{m}"].mean() for m in (1, 10, 100, 1000)]
    assert means == sorted(means)


def test_numbers_of_the_guess():
    assert math.sqrt(0.25 / 200) == pytest.approx(0.035, abs=5e-4)
    assert expected_best(1000, 200) == pytest.approx(0.614, abs=5e-4)
    assert 3 < (expected_best(1000, 200) - 0.5) / math.sqrt(0.25 / 200) < 4


@pytest.mark.parametrize(("m", "n"), [(1, 4), (2, 3), (3, 4)])
def test_expected_best_by_counting_every_outcome(m, n):
    scores = [sum(coins) for coins in itertools.product((0, 1), repeat=n)]
    best = [max(pick) for pick in itertools.product(scores, repeat=m)]
    assert expected_best(m, n) == pytest.approx(sum(best) / len(best) / n, abs=1e-12)


@pytest.mark.parametrize("n", [10, 200, 3000])
def test_the_bound_holds_and_grows_with_the_logarithm(n):
    for m in (1, 2, 10, 100, 1000, 10**6):
        assert expected_best(m, n) <= 0.5 + math.sqrt(math.log(m) / (2 * n)) + 1e-12
    assert math.sqrt(math.log(1000) / 400) == pytest.approx(0.131, abs=5e-4)


def test_how_the_bound_changes_with_m_and_n():
    def bound(m: int, n: int) -> float:
        return math.sqrt(math.log(m) / (2 * n))

    assert bound(10_000, 200) / bound(100, 200) == pytest.approx(math.sqrt(2))
    assert bound(100, 50) / bound(100, 200) == pytest.approx(2)


def test_the_bound_needs_neither_independence_nor_equal_models():
    g = torch.Generator().manual_seed(0)
    n, trials = 50, 2000
    p = torch.linspace(0.45, 0.6, 30, dtype=torch.float64)  # (m,)
    shared = torch.rand(trials, n, 1, generator=g, dtype=torch.float64)
    own = torch.rand(trials, n, 30, generator=g, dtype=torch.float64)
    bound = math.sqrt(math.log(30) / (2 * n))
    for draws, least in ((own, 0.05), (shared.expand(-1, -1, 30), -0.01)):
        scores = (draws < p).double().mean(1)  # (trials, m)
        winner = scores.argmax(1)
        excess = (scores.max(1).values - p[winner]).mean().item()
        assert least < excess < bound


def test_bound_of_equation_4_is_smallest_where_the_page_says():
    m, n = 1000, 200
    t = torch.linspace(1, 4000, 400_000, dtype=torch.float64)
    values = math.log(m) / t + t / (8 * n)
    assert t[values.argmin()].item() == pytest.approx(math.sqrt(8 * n * math.log(m)), abs=0.02)
    assert values.min().item() == pytest.approx(math.sqrt(math.log(m) / (2 * n)), rel=1e-9)


@pytest.mark.parametrize("p", [0.05, 0.3, 0.5])
def test_hoeffdings_lemma_for_a_single_sample(p):
    s = torch.linspace(-20, 20, 4001, dtype=torch.float64)
    centred = p * torch.exp(s * (1 - p)) + (1 - p) * torch.exp(-s * p)
    assert (centred <= torch.exp(s**2 / 8) * (1 + 1e-12)).all()


# Errors


def test_a_held_out_score_is_unbiased_with_the_variance_of_equation_3():
    g = torch.Generator().manual_seed(0)
    X, y = chapter.gaussians(60, 20, g)
    predict = least_squares(X, y)
    truth = chapter.true_error(predict, 20)
    scores = np.array([error_rate(predict(A), b) for A, b in fresh(2000, 25, g)])
    # 2000 scores of sd 0.07: the mean is known to 0.0016, the sd to 1.6%.
    assert scores.mean() == pytest.approx(truth, abs=0.006)
    assert scores.std() == pytest.approx(math.sqrt(truth * (1 - truth) / 25), rel=0.07)


def fresh(times: int, n: int, g: torch.Generator):
    for _ in range(times):
        yield chapter.gaussians(n, 20, g)


def test_worst_case_sd_of_an_error_rate():
    for n, sd in ((10, 0.158), (100, 0.05), (2500, 0.01), (10_000, 0.005)):
        assert 1 / (2 * math.sqrt(n)) == pytest.approx(sd, rel=1e-3)
        assert max(math.sqrt(r * (1 - r) / n) for r in np.linspace(0, 1, 101)) <= sd * 1.001


def test_exact_errors_agree_with_sampling():
    g = torch.Generator().manual_seed(0)
    predict = least_squares(*chapter.gaussians(60, 20, g))
    A, b = chapter.gaussians(100_000, 20, g)
    # 100000 samples: sd 0.0012.
    assert error_rate(predict(A), b) == pytest.approx(chapter.true_error(predict, 20), abs=0.005)
    predict = neighbours(5)(*chapter.wave(40, g))
    A, b = chapter.wave(50_000, g)
    # Squares have sd of about 0.5, so 0.002 for the average.
    assert mse(predict(A), b) == pytest.approx(chapter.true_mse(predict), abs=0.01)


def test_training_error_of_the_nearest_neighbour_is_zero_whatever_the_labels():
    g = torch.Generator().manual_seed(0)
    X = torch.randn(100, 5, generator=g, dtype=torch.float64)
    y = F.one_hot(torch.randint(2, (100,), generator=g), 2).double()
    assert error_rate(neighbours(1)(X, y)(X), y) == 0
    assert error_rate(neighbours(15)(X, y)(X), y) > 0.2


# Splits and folds


@pytest.mark.filterwarnings("ignore:Length of split")
@pytest.mark.parametrize("n", [10, 11, 13, 100, 1797])
@pytest.mark.parametrize("fractions", [(0.6, 0.2, 0.2), (0.98, 0.01, 0.01), (0.5, 0.5)])
def test_split_is_a_partition_and_equals_random_split(n, fractions):
    parts = split(n, fractions, seed=3)
    assert torch.cat(parts).sort().values.equal(torch.arange(n))  # no index in two splits
    theirs = random_split(range(n), fractions, generator=torch.Generator().manual_seed(3))
    assert [part.tolist() for part in parts] == [list(subset.indices) for subset in theirs]
    for part, fraction in zip(parts, fractions, strict=True):
        assert abs(len(part) - n * fraction) <= 2


def test_split_depends_on_the_seed_only():
    assert all(
        a.equal(b) for a, b in zip(split(50, (0.6, 0.4), 0), split(50, (0.6, 0.4), 0), strict=True)
    )
    assert not split(50, (0.6, 0.4), 0)[0].equal(split(50, (0.6, 0.4), 1)[0])
    assert not split(50, (0.6, 0.4), 0)[0].equal(torch.arange(30))  # it shuffles


@pytest.mark.parametrize("n", [5, 10, 97, 100])
@pytest.mark.parametrize("k", [2, 3, 5])
def test_folds_partition_the_data_and_sizes_differ_by_one_at_most(n, k):
    from sklearn.model_selection import KFold

    folds = kfold(n, k, seed=0)
    assert len(folds) == k
    assert torch.cat([valid for _, valid in folds]).sort().values.equal(torch.arange(n))
    for train, valid in folds:
        assert torch.cat([train, valid]).sort().values.equal(torch.arange(n))
    sizes = [len(valid) for _, valid in folds]
    assert max(sizes) - min(sizes) <= 1
    assert sizes == [len(valid) for _, valid in KFold(k).split(range(n))]


def test_k_equal_n_leaves_one_out():
    assert all(len(valid) == 1 and len(train) == 6 for train, valid in kfold(7, 7, seed=0))


@pytest.mark.parametrize("k", [0, 1, 11])
def test_impossible_numbers_of_folds(k):
    with pytest.raises(ValueError, match="k must be from 2 to 10"):
        kfold(10, k, seed=0)


def test_fractions_that_do_not_sum_to_one():
    with pytest.raises(ValueError, match="must sum to 1"):
        split(10, (0.6, 0.2, 0.1), seed=0)
    with pytest.raises(ValueError, match="does not equal the length of the input dataset"):
        random_split(range(10), [0.6, 0.2, 0.1])


# Models, cross-validation, choice


def test_models_and_scores_equal_those_of_scikit_learn():
    from sklearn.linear_model import LinearRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.neighbors import KNeighborsRegressor

    X, y = regression(60, 3, seed=0)
    folds = kfold(60, 5, seed=0)
    indices = [(train.numpy(), valid.numpy()) for train, valid in folds]
    for ours, theirs in (
        (least_squares, LinearRegression()),
        (neighbours(4), KNeighborsRegressor(4)),
    ):
        expected = -cross_val_score(
            theirs, X.numpy(), y.numpy(), cv=indices, scoring="neg_mean_squared_error"
        )
        # Losses are kept in float32.
        assert cross_validate(ours, mse, X, y, folds).numpy() == pytest.approx(expected, rel=1e-6)


def test_the_average_of_equal_folds_counts_every_sample_once():
    X, y = regression(60, 3, seed=1)
    squares = torch.zeros(60, 1, dtype=torch.float64)
    folds = kfold(60, 5, seed=0)
    for train, valid in folds:
        squares[valid] += (least_squares(X[train], y[train])(X[valid]) - y[valid]) ** 2
    average = cross_validate(least_squares, mse, X, y, folds).mean().item()
    assert average == pytest.approx(squares.mean().item(), rel=1e-6)


def test_no_validation_sample_reaches_fit():
    X, y = regression(40, 2, seed=0)
    seen = []

    def spy(A, b):
        seen.append(A)
        return lambda A_new: A_new[:, :1]

    folds = kfold(40, 4, seed=0)
    cross_validate(spy, mse, X, y, folds)
    for A, (_, valid) in zip(seen, folds, strict=True):
        assert len(A) == 30
        assert torch.cdist(A, X[valid]).min() > 0


def test_select_takes_the_smallest_average_not_the_smallest_fold():
    losses = {"steady": [2.0, 2.0], "lucky": [0.0, 5.0]}
    calls = dict.fromkeys(losses, 0)

    def candidate(name):
        def fit(A, b):
            calls[name] += 1
            return lambda A_new: torch.full_like(
                A_new[:, :1], math.sqrt(losses[name][calls[name] - 1])
            )

        return fit

    X, y = torch.randn(4, 1), torch.zeros(4, 1)
    winner, averages = select({n: candidate(n) for n in losses}, mse, X, y, kfold(4, 2, seed=0))
    assert winner == "steady"
    assert averages == pytest.approx({"steady": 2.0, "lucky": 2.5})
    assert calls == {"steady": 2, "lucky": 2}


def test_number_of_fits_in_exercise_1():
    assert 8 * 5 + 1 == 41 and 8 * 800 + 1 == 6401


@pytest.mark.parametrize("rho", [0.0, 0.3])
def test_variance_of_an_average_of_correlated_folds(rho):
    g = torch.Generator().manual_seed(0)
    k, trials = 10, 40_000
    common = torch.randn(trials, 1, generator=g, dtype=torch.float64)
    own = torch.randn(trials, k, generator=g, dtype=torch.float64)
    folds = math.sqrt(rho) * common + math.sqrt(1 - rho) * own  # variance 1, correlation rho
    # The variance of 40000 draws is known to 0.7%.
    assert folds.mean(1).var().item() == pytest.approx((1 + (k - 1) * rho) / k, rel=0.03)
    assert math.sqrt(10) == pytest.approx(3.16, abs=5e-3)


# Leave-one-out


@pytest.mark.parametrize(("n", "d", "q"), [(50, 5, 1), (12, 10, 1), (30, 3, 2)])
def test_leave_one_out_by_the_shortcut_and_by_n_fits(n, d, q):
    X, _ = regression(n, d, seed=0)
    y = torch.randn(n, q, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    slow = torch.empty_like(y)
    for i in range(n):
        rest = torch.arange(n) != i
        slow[i] = (least_squares(X[rest], y[rest])(X[i : i + 1]) - y[i : i + 1])[0]
    fast = chapter.loo_shortcut(X, y)
    assert torch.allclose(fast, slow, rtol=1e-8, atol=1e-10)
    cv = cross_validate(least_squares, mse, X, y, kfold(n, n, seed=0)).mean().item()
    assert fast.square().mean().item() == pytest.approx(cv, rel=1e-5)  # losses in float32
    assert not torch.allclose(slow, least_squares(X, y)(X) - y, rtol=1e-2)  # no plain residuals


def test_replacing_the_label_by_its_prediction_changes_nothing():
    X, y = regression(20, 3, seed=0)
    for i in range(20):
        rest = torch.arange(20) != i
        predict = least_squares(X[rest], y[rest])
        replaced = y.clone()
        replaced[i] = predict(X[i : i + 1])[0]
        assert torch.allclose(least_squares(X, replaced)(X), predict(X), atol=1e-10)


def test_leverages_sum_to_the_parameters_and_loo_exceeds_the_training_error():
    for seed in range(20):
        X, y = regression(30, 6, seed)
        A = chapter.add_ones(X)
        leverage = (A @ torch.linalg.solve(A.T @ A, A.T)).diagonal()
        assert leverage.sum().item() == pytest.approx(7)
        assert leverage.min() > 0 and leverage.max() < 1
        residual = least_squares(X, y)(X) - y
        assert (chapter.loo_shortcut(X, y).abs() > residual.abs()).all()


def test_the_shortcut_breaks_down_when_every_leverage_is_one():
    X, y = regression(5, 4, seed=0)
    Q = torch.linalg.qr(chapter.add_ones(X)).Q
    assert torch.allclose(Q.square().sum(1), torch.ones(5, dtype=torch.float64))
    assert torch.allclose(Q @ (Q.T @ y), y)  # residuals are 0: (12) is 0 / 0


# The comparison


def test_ten_fold_varies_less_than_a_tenth_held_out(measured):
    values = measured(chapter.experiment_estimates)
    assert len(values["ratio"]) >= 5
    # Thirty seeds: 2.8 +- 0.29, from 2.3 to 3.7. sqrt(10) would need folds without correlation.
    assert (values["ratio"] > 2).all()
    assert 2.4 < values["ratio"].mean() < math.sqrt(10)
    assert 0 < values["correlation"].mean() < 0.1  # thirty seeds: 0.03


def test_sd_of_the_hold_out_was_predicted(measured):
    values = measured(chapter.experiment_estimates)
    # sd of 100 estimates: 7% a seed, 2.3% for ten; the truth varies a little as well.
    assert values["holdout_sd"].mean() == pytest.approx(values["holdout_predicted"].mean(), rel=0.1)


def test_bias_of_the_estimates(measured):
    values = measured(chapter.experiment_estimates)
    # Thirty seeds: training -0.077 to -0.064, two folds 0.038 to 0.060.
    assert (values["training_bias"] < -0.05).all()
    assert (values["training_bias"] < -0.5 * values["truth"]).all()  # less than half the truth
    assert (values["two_fold_bias"] > 0.025).all()
    # The means of ten seeds have sd 0.004 (hold-out), 0.0016 (ten folds) and 0.0014 (one out).
    assert abs(values["holdout_bias"].mean()) < 0.02
    assert 0 < values["ten_fold_bias"].mean() < 0.02
    assert abs(values["loo_bias"].mean()) < 0.007
    assert values["two_fold_bias"].mean() > values["ten_fold_bias"].mean() + 0.03
    assert (values["training_sd"] < values["ten_fold_sd"]).all()


def test_cross_validation_chooses_better_than_a_hold_out_when_data_are_scarce(measured):
    values = measured(chapter.experiment_choice)
    # Thirty seeds: 0.197 +- 0.016, 0.052 +- 0.017, 0.023 +- 0.008.
    assert (values["small_training"] > 3 * values["small_ten_fold"]).all()
    assert values["small_holdout"].mean() > 1.5 * values["small_ten_fold"].mean()
    assert (values["small_holdout"] > values["small_ten_fold"]).mean() >= 0.8
    assert (values["large_training"] > 0.15).all()  # more samples do not cure it


def test_training_error_always_chooses_one_neighbour():
    for seed in range(10):
        X, y = chapter.wave(40, torch.Generator().manual_seed(seed))
        everything = torch.arange(40)
        candidates = {str(k): neighbours(k) for k in (1, 2, 3, 5, 8, 13)}
        winner, averages = select(candidates, mse, X, y, [(everything, everything)])
        assert winner == "1" and averages["1"] == 0


def test_the_smallest_average_of_many_cross_validations_is_optimistic_too():
    best, first = [], []
    for seed in range(10):
        g = torch.Generator().manual_seed(seed)
        X = torch.randn(100, 40, generator=g, dtype=torch.float64)
        y = F.one_hot(torch.randint(2, (100,), generator=g), 2).double()  # coins: truth 0.5
        folds = kfold(100, 5, seed)
        errors = [
            cross_validate(
                least_squares, error_rate, X[:, torch.randperm(40, generator=g)[:5]], y, folds
            )
            .mean()
            .item()
            for _ in range(50)
        ]
        best.append(min(errors))
        first.append(errors[0])
    assert max(best) < 0.47
    # An average over 100 samples has sd 0.05 or a little more, the mean of ten seeds 0.02.
    assert abs(np.mean(first) - 0.5) < 0.08


# Grouped and chronological data


def test_group_folds_keep_a_group_on_one_side():
    groups = torch.tensor([3, 3, 0, 7, 7, 7, 0, 9, 9, 2])
    folds = chapter.group_folds(groups, 3, seed=0)
    assert torch.cat([valid for _, valid in folds]).sort().values.equal(torch.arange(10))
    for train, valid in folds:
        assert not set(groups[train].tolist()) & set(groups[valid].tolist())
        assert torch.cat([train, valid]).sort().values.equal(torch.arange(10))
    random = kfold(10, 3, seed=0)
    assert any(set(groups[a].tolist()) & set(groups[b].tolist()) for a, b in random)


def test_forward_folds_train_on_the_past_only():
    folds = chapter.forward_folds(100, 4)
    assert len(folds) == 4
    for i, (train, valid) in enumerate(folds, 1):
        assert train.tolist() == list(range(20 * i))
        assert valid.tolist() == list(range(20 * i, 20 * i + 20))


def test_random_folds_of_grouped_data_flatter_and_reverse_the_ranking(measured):
    values = measured(chapter.experiment_groups)
    assert (values["nearest_random"] < 0.02).all()
    assert (values["nearest_truth"] > 0.25).all()
    assert (values["line_truth"] - values["line_random"] > 0.03).mean() >= 0.9
    # Forty seeds: random folds preferred the neighbour in all, new people the line in all,
    # folds by person the line in 38.
    assert (values["nearest_random"] < values["line_random"]).all()
    assert (values["nearest_truth"] > values["line_truth"]).all()
    assert (values["nearest_group"] > values["line_group"]).mean() >= 0.8
    # Sd of a seed 0.08 and 0.06, so 0.025 and 0.02 for the mean of ten.
    for model in ("nearest", "line"):
        assert abs(values[f"{model}_group"].mean() - values[f"{model}_truth"].mean()) < 0.08


def test_random_folds_of_a_series_flatter_and_reverse_the_ranking(measured):
    values = measured(chapter.experiment_time)
    # Predicted: 0.96 * 0.2 + 0.04 * 0.38 = 0.207; forty seeds: 0.208, sd of a seed 0.01.
    assert values["nearest_random"].mean() == pytest.approx(0.207, abs=0.015)
    assert (values["nearest_random"] < 0.4 * values["line_random"]).all()
    assert (values["nearest_truth"] > 4 * values["nearest_random"]).all()
    # Forty seeds: forward folds preferred the line in all, the future in 38.
    assert (values["nearest_forward"] > values["line_forward"]).all()
    assert (values["nearest_truth"] > values["line_truth"]).mean() >= 0.8
    assert (values["line_forward"].mean() > values["line_truth"].mean()).all()  # pessimistic


def test_predicted_errors_of_the_nearest_day():
    assert pytest.approx(0.96) == 1 - 0.2**2
    assert pytest.approx(0.2) == 2 * (1 - 0.9) and pytest.approx(0.38) == 2 * (1 - 0.9**2)
    assert pytest.approx(0.21, abs=5e-3) == 0.96 * 0.2 + 0.04 * 0.38
    days = np.arange(1, 201)
    assert 1e-4 * (days**2).mean() == pytest.approx(1e-4 * 201 * 401 / 6)
    assert 1e-4 * (days**2).mean() == pytest.approx(1.34, abs=5e-3)
    assert (0.9**days).mean() == pytest.approx(0.045, abs=5e-4)
    assert pytest.approx(3.25, abs=5e-3) == 1.34 + 2 * (1 - 0.045)


def test_the_series_has_the_stated_trend_variance_and_memory():
    X, y = chapter.series(100_000, 0.9, 0.01, torch.Generator().manual_seed(0))
    level = (y - 0.01 * X).squeeze(1)
    # About 100000 / 19 independent values: sd 0.02 for the variance, 0.002 for the correlation.
    assert level.var().item() == pytest.approx(1, abs=0.08)
    assert torch.corrcoef(torch.stack([level[1:], level[:-1]]))[0, 1].item() == pytest.approx(
        0.9, abs=0.01
    )


# When it does not help


def test_a_large_validation_set_is_hardly_spent_by_choosing(measured):
    values = measured(chapter.experiment_honest)
    small = values["small_validation"] - values["small_truth"]
    large = values["large_validation"] - values["large_truth"]
    assert (small > 0.06).all()  # thirty seeds: 0.085 to 0.121
    assert abs(large).max() < 0.03 and large.mean() < 0.2 * small.mean()
    assert math.sqrt(math.log(200) / 6000) == pytest.approx(0.030, abs=5e-4)


def test_with_500_samples_a_hold_out_will_do(measured):
    values = measured(chapter.experiment_choice)
    # Thirty seeds: 0.004 and 0.002, at most 0.012, beside a noise of 0.25.
    assert (values["large_holdout"] < 0.03).all() and (values["large_ten_fold"] < 0.03).all()
    assert values["small_holdout"].mean() > 3 * values["large_holdout"].mean()


def test_folds_by_group_and_by_time_agree_with_random_folds_on_independent_data(measured):
    values = measured(chapter.experiment_groups)
    for model in ("nearest", "line"):
        gap = values[f"alone_{model}_group"] - values[f"alone_{model}_random"]
        assert abs(gap.mean()) < 0.02  # a seed differs by 0.02, the mean of ten by 0.006
    values = measured(chapter.experiment_time)
    gap = values["independent_line_forward"] - values["independent_line_random"]
    assert abs(gap.mean()) < 0.08  # the first block of 200 days costs 0.025


# E08


def test_e08_shares_are_of_all_data():
    n = 1000
    assert [len(part) for part in split(n, (0.6, 0.2, 0.2), seed=0)] == [600, 200, 200]
    train, _ = split(n, (0.8, 0.2), seed=0)
    assert len(split(len(train), (0.6, 0.2, 0.2), seed=0)[0]) / n == pytest.approx(0.48)
    large = split(1_000_000, (0.98, 0.01, 0.01), seed=0)
    assert len(large[2]) == 10_000 and 1 / (2 * math.sqrt(len(large[2]))) <= 0.005


def test_e08_hold_out_is_one_fold_of_cross_validation():
    X, y = regression(50, 3, seed=0)
    folds = kfold(50, 5, seed=0)
    scores = cross_validate(least_squares, mse, X, y, folds)
    hold_out = cross_validate(least_squares, mse, X, y, folds[:1])
    assert torch.equal(hold_out, scores[:1])
    assert len(folds[0][1]) == 10 and sum(len(valid) for _, valid in folds) == 50
    # Five held-out evaluations of the same model and data, one after the other: they differ.
    assert scores.max() > 1.2 * scores.min()


def test_e08_a_test_set_used_once_is_honest(measured):
    values = measured(chapter.experiment_honest)
    gap = values["small_test"] - values["small_truth"]
    # 100 test sets of 100 samples: sd 0.005 for the mean, 0.016 for a seed.
    assert abs(gap.mean()) < 0.02
    assert (values["small_validation"] - values["small_test"] > 0.03).all()


def test_e08_selecting_on_the_test_set_is_optimistic(measured):
    values = measured(chapter.experiment_honest)
    cheat = values["small_cheat"] - values["small_cheat_truth"]
    bound = math.sqrt(math.log(200) / 200)
    assert bound == pytest.approx(0.163, abs=5e-4)
    assert (cheat > 0.06).all() and cheat.mean() < bound  # thirty seeds: at least 0.079
    # The test set is then a validation set: same optimism.
    honest = values["small_validation"] - values["small_truth"]
    assert cheat.mean() == pytest.approx(honest.mean(), abs=0.02)


# The clinic


def test_screening_before_the_folds_makes_noise_predictable(measured):
    values = measured(chapter.experiment_leak)
    # Sixty seeds: at most 0.30 outside; inside 0.51 +- 0.011 for the mean, sd 0.09 a seed.
    assert (values["screened_before"] < 0.4).all()
    assert abs(values["screened_inside"].mean() - 0.5) < 0.12
    assert values["screened_inside"].mean() - values["screened_before"].mean() > 0.2
    for name in ("scaled_before", "scaled_inside"):
        assert abs(values[name].mean() - 0.5) < 0.12
    assert abs(values["scaled_before"] - values["scaled_inside"]).mean() < 0.08


def test_screening_in_the_folds_finds_a_real_feature_and_uses_the_training_part_only():
    g = torch.Generator().manual_seed(0)
    X = torch.randn(50, 1000, generator=g, dtype=torch.float64)
    y = F.one_hot(torch.randint(2, (50,), generator=g), 2).double()
    X[:, 700] += 5 * y[:, 1]  # the classes are 5 sd apart in one feature
    assert chapter.strongest(X, y, 1).tolist() == [700]
    fit = chapter.screened(1, neighbours(1))
    assert cross_validate(fit, error_rate, X, y, kfold(50, 10, seed=0)).mean() < 0.1
    # Trained where feature 700 says nothing, the model does not use it.
    silent = X.clone()
    silent[:25, 700] = 0
    changed = silent.clone()
    changed[25:, 700] += 100
    predict = fit(silent[:25], y[:25])
    assert torch.equal(predict(silent[25:]), predict(changed[25:]))


def test_a_class_never_seen_is_never_predicted():
    X, y = chapter.gaussians(100, 20, torch.Generator().manual_seed(0))
    zero = y[:, 0].bool()
    for fit in (neighbours(1), neighbours(9), least_squares):
        predict = fit(X[zero], y[zero])
        assert error_rate(predict(X[~zero]), y[~zero]) == 1


def test_a_new_seed_puts_60_percent_of_the_test_set_into_training():
    train = split(1000, (0.6, 0.2, 0.2), seed=0)[0]
    shares = [
        torch.isin(split(1000, (0.6, 0.2, 0.2), seed)[2], train).double().mean().item()
        for seed in range(1, 101)
    ]
    assert np.mean(shares) == pytest.approx(0.6, abs=0.02)  # sd 0.03 a seed, 0.003 for the mean
    assert torch.isin(split(1000, (0.6, 0.2, 0.2), 0)[2], train).sum() == 0


def test_digits_of_unknown_writers_are_harder():
    from sklearn.datasets import load_digits

    bundle = load_digits()
    X = torch.tensor(bundle.data)
    y = F.one_hot(torch.tensor(bundle.target), 10).double()
    writers = chapter.group_folds(torch.arange(1797) * 13 // 1797, 13, seed=0)
    known = [
        cross_validate(neighbours(1), error_rate, X, y, kfold(1797, 13, seed)).mean().item()
        for seed in range(3)
    ]
    unknown = cross_validate(neighbours(1), error_rate, X, y, writers).mean().item()
    assert unknown > 1.3 * max(known)  # 0.019 against 0.012


# Exercises


def test_size_of_a_test_set_for_a_thousand_coins():
    n = math.ceil(math.log(1000) / (2 * 0.01**2))
    assert n == 34539
    assert expected_best(1000, n) < 0.51
    assert expected_best(1000, 26_500) < 0.51 < expected_best(1000, 26_100)
