"""What docs/zh/linear/minibatch_sgd.md claims.

Everything is float64: a tolerance of 1e-12 is some thousand roundings.
"""

from fractions import Fraction
from itertools import combinations, pairwise, permutations, product
from math import ceil, comb, sqrt

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from snippets.linear import minibatch_sgd as chapter

X, Y = chapter.points15()
THREE = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
W = torch.tensor([0.3, -1.2], dtype=torch.float64)  # any point that is not the minimum


def mean_gradient(x, y, w):
    return chapter.sample_gradients(x, y, w).mean(dim=0)


# The guess and the failure


def test_single_samples_blow_up_where_the_full_batch_descends(measured):
    values = measured(chapter.experiment_divergence)
    # Seen: peaks of 152 to 996 over an untrained loss of 5.9, 17 to 26 epochs above it.
    assert (values["single_peak"] > 5 * values["untrained"]).all()
    assert (values["single_above_untrained"] >= 5).all()
    assert (values["full_last"] < 0.2).all()
    assert values["untrained"][0] == pytest.approx((Y**2).mean().item())


def test_full_batch_descends_at_every_epoch():
    losses = chapter.epoch_losses(X, Y, 15, 0.02, 100, seed=0)
    assert (losses.diff() < 0).all()


def test_curvature_of_point_12_and_of_the_mean():
    assert X[11, 0].item() == 10.791
    single = torch.linalg.eigvalsh(2 * torch.outer(X[11], X[11]))[-1].item()
    mean = torch.linalg.eigvalsh(2 / 15 * X.T @ X)[-1].item()
    assert single == pytest.approx(2 * (10.791**2 + 1))
    assert (round(single, 1), round(mean, 1)) == (234.9, 86.4)
    assert round(1 - 0.02 * single, 2) == -3.70
    assert round(1 - 0.02 * mean, 2) == -0.73


def test_limit_of_15_points_lies_between_0_015_and_0_02_for_single_samples():
    """E[e e^T] is multiplied by E[(I - lr A) x (I - lr A)] at each fresh draw."""

    def radius(lr):
        steps = torch.eye(2, dtype=X.dtype) - lr * 2 * X.unsqueeze(2) * X.unsqueeze(1)
        square = torch.stack([torch.kron(step, step) for step in steps]).mean(dim=0)
        return torch.linalg.eigvals(square).abs().max().item()

    assert radius(0.015) < 1 < radius(0.02)
    assert 2 / torch.linalg.eigvalsh(2 / 15 * X.T @ X)[-1].item() == pytest.approx(0.0231, abs=5e-5)


# The three names


@pytest.mark.parametrize(("B", "updates"), [(15, 1), (1, 15), (4, 4)])
def test_updates_in_an_epoch(B, updates):
    assert len(chapter.train(X, Y, B, 0.001, epochs=1, seed=0).loss) == updates == ceil(15 / B)


def test_batch_size_gives_the_three_methods():
    """E44: B = N is batch gradient descent step by step; B = 1 uses one sample an update."""
    w = torch.zeros(2, dtype=torch.float64)
    path = chapter.train(X, Y, 15, 0.01, epochs=20, seed=3).w
    for row in path:
        torch.testing.assert_close(row, w, rtol=0, atol=1e-12)
        w = w - 0.01 * 2 / 15 * X.T @ (X @ w - Y)
    single = chapter.train(X, Y, 1, 0.001, epochs=1, seed=3)
    steps = (single.w[:-1] - single.w[1:]) / 0.001  # (15, 2)
    for before, step in zip(single.w, steps, strict=False):
        gradients = chapter.sample_gradients(X, Y, before)
        assert (gradients - step).abs().amax(dim=1).min() < 1e-9  # divided by lr: 1000 x rounding


def test_optim_sgd_on_all_data_is_batch_gradient_descent():
    model = chapter.train_torch(X, Y, 15, 0.01, epochs=20, seed=0)
    w = torch.zeros(2, dtype=torch.float64)
    for _ in range(20):
        w = w - 0.01 * mean_gradient(X, Y, w)
    torch.testing.assert_close(model.weight[0].detach(), w, rtol=0, atol=1e-12)


def test_batch_gradient_is_not_the_sgd_gradient():
    """E44: 'SGD takes one batch' confuses two things: the mean is no sample's gradient."""
    batch = chapter.sample_gradients(X, Y, W)[:4]
    distance = (batch - batch.mean(dim=0)).norm(dim=1)
    assert (distance > 0.05 * batch.mean(dim=0).norm()).all()


def test_paths_of_the_figure():
    """Two epochs at lr 0.1, x standardised: more updates, further along, for each of five seeds."""
    Z = X.clone()
    Z[:, 0] = (Z[:, 0] - Z[:, 0].mean()) / Z[:, 0].std(correction=0)
    w_star = chapter.least_squares(Z, Y)
    hessian = 2 / 15 * Z.T @ Z
    torch.testing.assert_close(hessian, 2 * torch.eye(2, dtype=torch.float64))  # circles
    for seed in range(5):
        left = {}
        for B in (15, 5, 1):
            path = chapter.train(Z, Y, B, 0.1, 2, seed).w
            assert len(path) - 1 == {15: 2, 5: 6, 1: 30}[B]
            left[B] = ((path - w_star).norm(dim=1) / w_star.norm())[-1].item()
        assert left[15] == pytest.approx(0.8**2)  # 36 % of the way
        assert left[1] < left[5] < left[15]


# Derivation: expectation and variance


def test_sample_gradients_equal_autograd():
    w = W.clone().requires_grad_()
    for n in range(15):
        (gradient,) = torch.autograd.grad((X[n] @ w - Y[n]) ** 2, w)
        torch.testing.assert_close(chapter.sample_gradients(X, Y, W)[n], gradient)


@pytest.mark.parametrize("B", [1, 2, 3, 5, 8, 14, 15])
def test_batch_gradients_are_unbiased(B):
    """E44: the mean over all C(15, B) batches is the full gradient."""
    gradients = chapter.all_batch_gradients(X, Y, W, B)
    assert gradients.shape == (comb(15, B), 2)
    torch.testing.assert_close(gradients.mean(dim=0), mean_gradient(X, Y, W), rtol=1e-12, atol=0)


def test_batches_are_distinct_and_averaged():
    batches = list(combinations(range(15), 3))
    gradients = chapter.all_batch_gradients(X, Y, W, 3)
    for k in (0, 200, 454):
        idx = torch.tensor(batches[k])
        torch.testing.assert_close(gradients[k], mean_gradient(X[idx], Y[idx], W))


@pytest.mark.parametrize("B", range(1, 16))
def test_variance_formula(B):
    """E44 and (6): the variance over all batches, for each coordinate and in all."""
    sigma2 = chapter.sample_gradients(X, Y, W).var(dim=0, correction=0)
    variance = chapter.all_batch_gradients(X, Y, W, B).var(dim=0, correction=0)
    torch.testing.assert_close(variance, sigma2 / B * (15 - B) / 14, rtol=1e-10, atol=1e-20)
    if 1 < B < 15:  # sigma^2 / B alone, without the second factor, is too large
        assert (variance < 0.95 * sigma2 / B).all()


def test_variance_ratios_named_on_the_page():
    def ratio(B, N=15):
        return Fraction(N - B, B * (N - 1))

    assert (ratio(5), ratio(8), ratio(15)) == (Fraction(1, 7), Fraction(1, 16), 0)
    assert ratio(3) > Fraction(1, 4) > ratio(4) == Fraction(11, 56)  # exercise 2
    assert Fraction(60, 18) * 14 * Fraction(1, 4) == 15 - Fraction(60, 18)


def test_variance_with_replacement_has_no_second_factor():
    g = chapter.sample_gradients(X, Y, W)
    pairs = torch.tensor(list(product(range(15), repeat=2)))
    variance = g[pairs].mean(dim=1).var(dim=0, correction=0)
    torch.testing.assert_close(variance, g.var(dim=0, correction=0) / 2)


def test_later_batches_of_a_shuffled_epoch_are_biased_only_given_the_earlier_ones():
    g = chapter.sample_gradients(X[:4], Y[:4], W)
    full = g.mean(dim=0)
    orders = torch.tensor(list(permutations(range(4))))
    second = g[orders[:, 2:]].mean(dim=1)  # the second batch of two, at a fixed w
    torch.testing.assert_close(second.mean(dim=0), full)
    given = second[(orders[:, :2] < 2).all(dim=1)].mean(dim=0)  # the first was {0, 1}
    assert (given - full).norm() > 0.1 * full.norm()


# Derivation: the limit and the floor


def coefficients(B):
    """a_B and c_B of all batches of x = 1, 2, 3, y = 2 x + 1/2, as fractions."""
    xs = [Fraction(1), Fraction(2), Fraction(3)]
    ys = [2 * x + Fraction(1, 2) for x in xs]
    w_star = sum(x * y for x, y in zip(xs, ys, strict=True)) / sum(x * x for x in xs)
    assert w_star == Fraction(31, 14)
    a = [2 * x * x for x in xs]
    c = [2 * x * (x * w_star - y) for x, y in zip(xs, ys, strict=True)]
    assert c == [Fraction(-4, 7), Fraction(-2, 7), Fraction(6, 7)] and sum(c) == 0
    batches = list(combinations(range(3), B))
    return [sum(a[n] for n in b) / B for b in batches], [sum(c[n] for n in b) / B for b in batches]


def expectation(values):
    return sum(values) / len(values)


@pytest.mark.parametrize(("B", "limit"), [(1, (6, 42)), (2, (8, 42)), (3, (9, 42))])
def test_learning_rate_limits(B, limit):
    a, _ = coefficients(B)
    h = expectation(a)
    bound = 2 * h / expectation([v * v for v in a])
    assert h == Fraction(28, 3)
    assert bound == Fraction(*limit)
    assert expectation([(1 - bound * v) ** 2 for v in a]) == 1  # exactly on the edge
    below, above = (expectation([(1 - f * bound * v) ** 2 for v in a]) for f in (0.99, 1.01))
    assert below < 1 < above


@pytest.mark.parametrize(
    ("B", "lr", "floor"),
    [
        (1, Fraction(1, 50), Fraction(1, 2107)),
        (1, Fraction(1, 25), Fraction(1, 882)),
        (2, Fraction(1, 50), Fraction(1, 8771)),
        (2, Fraction(1, 25), Fraction(1, 3871)),
    ],
)
def test_floor_formula(B, lr, floor):
    a, c = coefficients(B)
    square = expectation([v * v for v in c])
    formula = lr * square / (2 * expectation(a) - lr * expectation([v * v for v in a]))
    assert formula == floor
    assert floor == {1: lr / (49 * (1 - 7 * lr)), 2: lr / (49 * (4 - 21 * lr))}[B]
    # A stationary second moment is mapped on itself by (9).
    assert expectation([(1 - lr * v) ** 2 for v in a]) * floor + lr**2 * square == floor
    assert chapter.noise_floor(THREE, 2 * THREE + 0.5, B, float(lr)) == pytest.approx(float(floor))


def test_floor_of_the_full_batch_is_zero_and_no_floor_exists_above_the_limit():
    y = 2 * THREE + 0.5
    assert chapter.noise_floor(THREE, y, 3, 0.04) < 1e-25  # c_B is 0 up to rounding
    with pytest.raises(ValueError, match=r"at or above the limit 0\.1429"):
        chapter.noise_floor(THREE, y, 1, 0.15)
    assert chapter.noise_floor(THREE, y, 1, 0.14) > 0


def test_measured_floor_is_the_predicted_one(measured):
    values = measured(chapter.experiment_floor)
    # 2000 runs, 90 correlated updates each: the mean of a seed is within about 1 %.
    for key, denominator in {"b1_lr2": 2107, "b1_lr4": 882, "b2_lr2": 8771, "b2_lr4": 3871}.items():
        assert values[key] * 1e-4 * denominator == pytest.approx(1, abs=0.05)


def test_shuffling_lowers_the_floor_to_second_order(measured):
    values = measured(chapter.experiment_floor)
    assert (values["shuffled_lr2"] < 0.5 * values["b1_lr2"]).all()
    assert (values["shuffled_lr4"] < 0.7 * values["b1_lr4"]).all()
    # lr halved: a quarter when shuffled (lr^2), 882 / 2107 = 0.42 with fresh draws.
    assert values["shuffled_lr2"] / values["shuffled_lr4"] == pytest.approx(0.25, abs=0.04)
    assert values["b1_lr2"] / values["b1_lr4"] == pytest.approx(0.42, abs=0.03)


def test_no_floor_when_the_model_fits_every_sample():
    line = torch.stack([THREE, torch.ones_like(THREE)], dim=1)
    solution = torch.tensor([2.0, 0.5], dtype=torch.float64)
    fitted = chapter.train(line, 2 * THREE + 0.5, 1, 0.05, epochs=1500, seed=0).w[-1]
    assert (fitted - solution).abs().max() < 1e-13
    noisy = torch.tensor([0.1, -0.2, 0.1], dtype=torch.float64)  # now the samples disagree
    path = chapter.train(line, 2 * THREE + 0.5 + noisy, 1, 0.05, epochs=1500, seed=0).w
    assert (path[-100:] - path[-100:].mean(dim=0)).abs().max() > 1e-3


# Code


@pytest.mark.parametrize(("n", "B", "last"), [(15, 4, 3), (15, 5, 5), (15, 7, 1), (1000, 32, 8)])
def test_minibatches_use_every_sample_once(n, B, last):
    gen = torch.Generator().manual_seed(0)
    first, second = chapter.minibatches(n, B, gen), chapter.minibatches(n, B, gen)
    assert len(first) == ceil(n / B)
    assert [len(b) for b in first] == [B] * (len(first) - 1) + [last]
    assert torch.cat(first).sort().values.tolist() == list(range(n))
    assert not torch.equal(torch.cat(first), torch.cat(second))  # shuffled anew


@pytest.mark.parametrize("B", [0, 16])
def test_minibatches_refuse_impossible_sizes(B):
    with pytest.raises(ValueError, match=f"batch size {B} is not in 1 ... 15"):
        chapter.minibatches(15, B, torch.Generator())


@pytest.mark.parametrize("B", [1, 4, 15])
def test_scratch_equals_torch(B):
    by_hand = chapter.train(X, Y, B, 0.005, 20, seed=0).w[-1]
    by_torch = chapter.train_torch(X, Y, B, 0.005, 20, seed=0).weight[0]
    assert torch.allclose(by_hand, by_torch, rtol=1e-12, atol=0)


def test_history_holds_the_loss_before_each_update():
    history = chapter.train(X, Y, 15, 0.01, 3, seed=0)
    assert history.w.shape == (4, 2)
    expected = torch.stack([chapter.mse(X, Y, w) for w in history.w[:-1]])
    torch.testing.assert_close(history.loss, expected)


def test_unequal_batches_need_weights():
    x, y, w = THREE.unsqueeze(1), 2 * THREE, torch.ones(1, dtype=torch.float64)
    assert chapter.sample_gradients(x, y, w).flatten().tolist() == [-2, -8, -18]
    assert chapter.pass_gradient(x, y, w, 2, weighted=True).item() == pytest.approx(-28 / 3)
    assert chapter.pass_gradient(x, y, w, 2, weighted=False).item() == pytest.approx(-11.5)
    for B in range(1, 16):
        full = mean_gradient(X, Y, W)
        torch.testing.assert_close(chapter.pass_gradient(X, Y, W, B, weighted=True), full)
        plain = chapter.pass_gradient(X, Y, W, B, weighted=False)
        assert torch.allclose(plain, full) == (15 % B == 0)


def test_unweighted_mean_is_unbiased_over_all_orders():
    x, w = THREE.unsqueeze(1), torch.ones(1, dtype=torch.float64)
    means = []
    for order in permutations(range(3)):
        idx = torch.tensor(order)
        means.append(chapter.pass_gradient(x[idx], 2 * THREE[idx], w, 2, weighted=False).item())
    assert sum(means) / len(means) == pytest.approx(-28 / 3)
    assert sorted(set(means)) == [-11.5, -9.0, -7.5]  # each order is wrong alone


# Comparison and limits


def budget_grid(B, rates, seeds=range(5)):
    """Mean excess loss after 5 epochs for every learning rate, all rates on the same batches."""
    total = torch.zeros(len(rates), dtype=torch.float64)
    for seed in seeds:
        x, y = chapter.noisy_line(1000, seed)
        gen = torch.Generator().manual_seed(seed)
        w = torch.zeros(len(rates), 2, dtype=torch.float64)
        for _ in range(5):
            for idx in chapter.minibatches(1000, B, gen):
                residual = x[idx] @ w.T - y[idx].unsqueeze(1)  # (n_b, rates)
                w = w - rates.unsqueeze(1) * 2 / len(idx) * residual.T @ x[idx]
        total += chapter.excess(x, y, w)
    return total / len(seeds)


def test_each_batch_size_has_its_best_learning_rate_of_the_grid():
    rates = 0.0008 * 2.0 ** torch.arange(9, dtype=torch.float64)
    assert rates[-1].item() == pytest.approx(0.2048)
    for B, lr in chapter.BUDGET_LR.items():
        assert rates[budget_grid(B, rates).argmin()].item() == pytest.approx(lr)
    best = chapter.BUDGET_LR
    assert best[10] / best[1] == pytest.approx(8) and best[100] / best[10] == pytest.approx(8)


def test_full_batch_loses_by_a_factor_at_equal_sample_gradients(measured):
    values = measured(chapter.experiment_budget)
    # Seen: at least 6 times in every seed, 14 to 28 times in the mean.
    for key in ("b1", "b10", "b100"):
        assert (values["b1000"] > 3 * values[key]).all()
        assert values["b1000"].mean() > 10 * values[key].mean()
    small = [values[key].mean() for key in ("b1", "b10", "b100")]
    assert max(small) < 4 * min(small)  # these three are not told apart


def test_no_learning_rate_rescues_the_full_batch():
    rates = torch.linspace(0.01, 0.26, 251, dtype=torch.float64)
    small = budget_grid(10, torch.tensor([0.0128], dtype=torch.float64)).item()
    assert budget_grid(1000, rates).min().item() > 8 * small


def test_limit_of_the_comparison_data():
    population = torch.tensor([[6.0, 3.0], [3.0, 2.0]], dtype=torch.float64)  # 2 E[x^2], 2 E[x], 2
    assert torch.linalg.eigvalsh(population)[-1].item() == pytest.approx(4 + sqrt(13))
    assert round(2 / (4 + sqrt(13)), 3) == 0.263
    for seed in range(5):
        x, _ = chapter.noisy_line(1000, seed)
        # 1000 samples: the largest eigenvalue varies by a few per cent.
        largest = torch.linalg.eigvalsh(2 / 1000 * x.T @ x)[-1].item()
        assert largest == pytest.approx(4 + sqrt(13), rel=0.1)


def test_small_batches_lose_at_equal_numbers_of_updates(measured):
    values = measured(chapter.experiment_updates)
    means = [values[key].mean() for key in ("b1", "b10", "b100", "b1000")]
    assert all(small > 2 * large for small, large in pairwise(means))
    assert (values["b1"] > 10 * values["b1000"]).all()


def test_tiny_data_small_batches_lead_at_first_and_stop_at_their_floor(measured):
    values = measured(chapter.experiment_tiny)
    assert (values["small_5"] < 0.5 * values["full_5"]).all()  # seen: 0.20 to 0.22
    assert (values["small_600"] > 5 * values["full_600"]).all()  # seen: 15 to 25


# Smoothing


def test_the_jitter_of_the_curve_is_the_change_of_batch(measured):
    values = measured(chapter.experiment_smoothing)
    ratio = values["frozen"] / values["training"]
    assert (ratio > 0.95).all() and (ratio < 1.05).all()
    assert (values["all_samples"] < values["training"] / 50).all()  # seen: 58 to 95


CURVE = torch.randn(300, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_beta_one_is_the_identity():
    assert torch.equal(chapter.ewma(CURVE, 1.0), CURVE)


@pytest.mark.parametrize("beta", [0.05, 0.3, 1.0])
def test_unrolled_weights(beta):
    """(14), and the weights add up to 1."""
    smooth = chapter.ewma(CURVE, beta)
    for i in (0, 1, 7, 299):
        weights = [beta * (1 - beta) ** k for k in range(i)] + [(1 - beta) ** i]
        assert sum(weights) == pytest.approx(1)
        parts = [weight * CURVE[i - k].item() for k, weight in enumerate(weights)]
        assert smooth[i].item() == pytest.approx(sum(parts))


LAGS = [(0.3, sqrt(3 / 17), 7 / 3), (0.05, 1 / sqrt(39), 19)]


@pytest.mark.parametrize(("beta", "share", "lag"), LAGS)
def test_noise_shrinks_and_the_curve_lags(beta, share, lag):
    assert sqrt(beta / (2 - beta)) == pytest.approx(share)
    assert (1 - beta) / beta == pytest.approx(lag)
    noise = torch.randn(20000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    # 20000 values, at most 39 of them correlated: some 500 independent ones, 3 % of error.
    assert chapter.ewma(noise, beta)[500:].std().item() == pytest.approx(share, rel=0.1)
    ramp = torch.arange(600, dtype=torch.float64)
    assert (ramp - chapter.ewma(ramp, beta))[-1].item() == pytest.approx(lag)


def test_smoothed_jitter_of_a_training_run(measured):
    values = measured(chapter.experiment_smoothing)
    assert (values["ratio_30"] < sqrt(3 / 17)).all() and (values["ratio_30"] > 0.36).all()
    assert (values["ratio_5"] < 39**-0.5).all() and (values["ratio_5"] > 0.09).all()


def test_fresh_batches_give_back_the_predicted_ratio():
    x, y = chapter.noisy_line(1000, 0)
    w_star = chapter.least_squares(x, y)
    gen = torch.Generator().manual_seed(0)
    draws = [torch.randint(1000, (10,), generator=gen) for _ in range(8000)]
    losses = torch.stack([chapter.mse(x[idx], y[idx], w_star) for idx in draws])
    ratio = chapter.ewma(losses, 0.05)[200:].std() / losses.std()
    assert ratio.item() == pytest.approx(0.16, abs=0.015)  # shuffled: 0.117 to 0.140


def test_first_loss_stays_in_the_smoothed_curve():
    impulse = torch.zeros(60, dtype=torch.float64)
    impulse[0] = 1
    smooth = chapter.ewma(impulse, 0.05)
    assert smooth[45].item() == pytest.approx(0.95**45)
    assert smooth[44] > 0.1 > smooth[45] > 0.099
    # The mirrored form with correction has long forgotten it.
    assert chapter.ema_corrected(impulse, 0.95)[45] < 0.01


def test_smoothest_curve_of_the_figure_is_late():
    for seed in range(5):
        x, y = chapter.noisy_line(1000, seed)
        history = chapter.train(x, y, 10, 0.0128, 3, seed)
        above = chapter.excess(x, y, history.w)
        assert above[30] < 0.02 * above[0]  # most is learnt after 30 updates; seen: 0.6 %
        level = history.loss[150:].mean()
        smooth = chapter.ewma(history.loss, 0.05)
        assert smooth[30] > 10 * level and smooth[60] > 3 * level  # seen: 15 and 4.2
        assert smooth[100] > 1.25 * level and smooth[150] < 1.35 * level  # seen: 1.44, 1.22


def test_smoothing_changes_no_weight():
    """E09: training with and without smoothing along the way gives the same bits."""
    w = torch.zeros(2, dtype=torch.float64)
    gen = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(20):
        for idx in chapter.minibatches(15, 4, gen):
            losses.append(chapter.mse(X[idx], Y[idx], w))
            chapter.ewma(torch.stack(losses), 0.05)
            w = w - 0.005 * mean_gradient(X[idx], Y[idx], w)
    assert torch.equal(w, chapter.train(X, Y, 4, 0.005, 20, seed=0).w[-1])


def test_smoothing_does_not_smooth_the_cost():
    """E09: the drawn curve loses its jitter; the values behind it and the cost keep theirs."""
    history = chapter.train(X, Y, 4, 0.005, 100, seed=0)
    raw = history.loss.clone()
    before = torch.stack([chapter.mse(X, Y, w) for w in history.w])
    smooth = chapter.ewma(history.loss, 0.05)
    after = torch.stack([chapter.mse(X, Y, w) for w in history.w])
    assert torch.equal(history.loss, raw)
    assert torch.equal(before, after)
    assert smooth[100:].std() < 0.5 * raw[100:].std()


def test_correction_is_needed_from_zero_only():
    """E09: constants pass the notes' form and the corrected one; uncorrected they start too low."""
    ones = torch.ones(50, dtype=torch.float64)
    t = torch.arange(1, 51)
    torch.testing.assert_close(chapter.ewma(ones, 0.1), ones)
    torch.testing.assert_close(chapter.ema_corrected(ones, 0.9), ones)
    v, uncorrected = 0.0, []
    for value in ones:
        v = 0.9 * v + 0.1 * value
        uncorrected.append(v)
    uncorrected = torch.stack(uncorrected)
    torch.testing.assert_close(uncorrected, 1 - 0.9 ** t.double())
    assert uncorrected[0] == pytest.approx(0.1)
    torch.testing.assert_close(chapter.ema_corrected(CURVE, 0.9)[0], CURVE[0])


def test_the_two_conventions_agree_in_the_long_run():
    # The start weighs 0.9^290, far below rounding.
    late, mirrored = chapter.ewma(CURVE, 0.1)[290:], chapter.ema_corrected(CURVE, 0.9)[290:]
    torch.testing.assert_close(late, mirrored, rtol=0, atol=1e-10)


@pytest.mark.parametrize("beta", [0.0, 1.1])
def test_weights_out_of_range_are_refused(beta):
    with pytest.raises(ValueError, match="beta"):
        chapter.ewma(CURVE, beta)
    with pytest.raises(ValueError, match="gamma"):
        chapter.ema_corrected(CURVE, 1 - beta if beta == 0 else beta)


# Clinic and exercises


def test_batchnorm_refuses_a_last_batch_of_one():
    data, layer = TensorDataset(X.float()), nn.BatchNorm1d(2)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel when training"):
        for (x,) in DataLoader(data, batch_size=7, shuffle=True):
            layer(x)
    sizes = [len(layer(x)) for (x,) in DataLoader(data, batch_size=7, drop_last=True)]
    assert sizes == [7, 7]


def test_mean_of_batch_means_is_not_the_mean():
    x, w = THREE.unsqueeze(1), torch.ones(1, dtype=torch.float64)
    losses = [chapter.mse(x[i], 2 * THREE[i], w).item() for i in torch.arange(3).split(2)]
    assert losses == [2.5, 9.0]
    assert sum(losses) / 2 == 5.75
    assert (losses[0] * 2 + losses[1]) / 3 == pytest.approx(14 / 3)
    assert chapter.mse(x, 2 * THREE, w).item() == pytest.approx(14 / 3)


def graph_size(node, seen):
    if node is None or node in seen:
        return len(seen)
    seen.add(node)
    for parent, _ in node.next_functions:
        graph_size(parent, seen)
    return len(seen)


def test_adding_loss_tensors_keeps_every_graph():
    model = nn.Linear(2, 1, dtype=torch.float64)
    total, sizes = 0.0, []
    for idx in torch.arange(15).split(4):
        loss = nn.functional.mse_loss(model(X[idx]).squeeze(1), Y[idx])
        total = total + loss
        sizes.append(graph_size(total.grad_fn, set()))
    assert total.requires_grad
    assert all(later > earlier for earlier, later in pairwise(sizes))
    assert isinstance(total.item(), float)


def test_shuffling_features_and_labels_apart_learns_the_mean():
    for seed in range(5):
        gen = torch.Generator().manual_seed(seed)
        w = torch.zeros(2, dtype=torch.float64)
        for _ in range(1000):
            x, y = X[torch.randperm(15, generator=gen)], Y[torch.randperm(15, generator=gen)]
            for idx in torch.arange(15).split(5):
                w = w - 0.005 * mean_gradient(x[idx], y[idx], w)
        assert chapter.mse(X, Y, w) > 0.4  # near the variance of y; at best 0.17
        assert abs(w[0]) < 0.1 and abs(w[1] - Y.mean()) < 0.3
    assert Y.var(correction=0).item() == pytest.approx(0.54, abs=0.01)


def test_unweighted_accumulation_finds_another_minimum():
    """Exercise 4: the lone last sample counts 7 times as much as any other."""
    root = torch.tensor([1 / 21] * 14 + [1 / 3], dtype=torch.float64).sqrt()
    biased = chapter.least_squares(root.unsqueeze(1) * X, root * Y)
    plain = chapter.pass_gradient(X, Y, biased, 7, weighted=False)
    torch.testing.assert_close(plain, torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-12)
    assert X[-1].tolist() == [3.1, 1.0] and Y[-1] == 1.3
    right = chapter.least_squares(X, Y)
    assert abs(X[-1] @ biased - Y[-1]) < 0.6 * abs(X[-1] @ right - Y[-1])


def test_averaging_weights_lowers_the_floor_for_real():
    """Exercise 5. Seen: the typical loss is 117 to 156 times that of the mean weights."""
    for seed in range(3):
        path = chapter.train(X, Y, 1, 0.002, 600, seed).w[-4500:]
        typical = chapter.excess(X, Y, path).mean()
        averaged = chapter.excess(X, Y, path.mean(dim=0, keepdim=True))[0]
        assert averaged < typical / 20


def test_excess_is_the_loss_above_its_minimum():
    w_star = chapter.least_squares(X, Y)
    assert mean_gradient(X, Y, w_star).abs().max() < 1e-10
    expected = chapter.mse(X, Y, W) - chapter.mse(X, Y, w_star)
    assert chapter.excess(X, Y, W.unsqueeze(0))[0].item() == pytest.approx(expected.item())
