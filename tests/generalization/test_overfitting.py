import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from snippets.data import load_digits
from snippets.generalization import overfitting as chapter
from snippets.generalization.overfitting import (
    EarlyStopping,
    fit,
    grid,
    legendre,
    sample,
    theory,
    truth,
)

SIGMA2 = 0.3**2


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# The failure


def test_training_error_never_rises_with_the_degree():
    for seed in range(10):
        train, _ = chapter.polyfit_errors(range(21), 30, 0.3, seed)
        # Nested sets of functions; rounding of numbers near 1 is 1e-16.
        assert (train.diff() < 1e-12).all()


def test_guess_as_many_coefficients_as_points_interpolate_and_explode():
    for seed in range(10):
        train, test = chapter.polyfit_errors([19], 20, 0.3, seed)
        assert train.item() < 1e-15
        assert test.item() > 1e5 * SIGMA2  # ten seeds: 1.5e5 to 9e7 times


def test_the_best_training_error_is_the_worst_test_error():
    for seed in range(10):
        train, test = chapter.polyfit_errors([1, 3, 15, 19], 20, 0.3, seed)
        assert (train.diff() < 0).all()
        assert test.argmax() == train.argmin() == 3
        assert test.argmin() == 1


def test_noise_variance_is_the_floor():
    x = torch.linspace(-1, 1, 200_000, dtype=torch.float64)
    y = sample(x, 0.3, generator())
    # sd of the mean of squares: 0.09 * sqrt(2 / 200000) = 0.0003; four of them.
    assert (y - truth(x)).square().mean().item() == pytest.approx(SIGMA2, abs=0.0012)


# Memorising


def test_a_network_memorises_a_hundred_coin_flips(measured):
    values = measured(chapter.experiment_memory)
    assert (values["coin_train"] == 1).all() and (values["rule_train"] == 1).all()
    # Binomial sd 0.016 for 1000 fresh labels; four of them.
    assert abs(values["coin_fresh"] - 0.5).max() < 0.064
    assert math.sqrt(0.25 / 1000) == pytest.approx(0.016, abs=5e-4)
    assert (values["rule_fresh"] > 0.7).all()  # 0.78 to 0.86


def test_memorising_takes_more_steps_and_larger_weights(measured):
    values = measured(chapter.experiment_memory)
    # Steps 8.4 against 12, sd 2; distance 9.3 against 11.3, sd 0.4.
    assert values["coin_steps"].mean() > 1.2 * values["rule_steps"].mean()
    assert (values["coin_moved"] > 1.05 * values["rule_moved"]).all()


def test_the_network_has_more_parameters_than_samples():
    net = nn.Sequential(nn.Linear(20, 256), nn.ReLU(), nn.Linear(256, 2))
    assert sum(p.numel() for p in net.parameters()) == 20 * 256 + 256 + 256 * 2 + 2 > 100


def test_too_few_steps_to_memorise_raise():
    with pytest.raises(ValueError, match="True"):
        chapter.fit_random_labels(100, seed=0, steps=3)


# The derivation


def test_bias_and_variance_add_up_exactly():
    for n_sets in (2, 7, 200):  # equation (3) needs no expectation
        for degree in (0, 1, 3, 9, 15):
            bias2, variance, mse = chapter.bias_variance(degree, n_sets, 30, 0.3)
            assert bias2 + variance == pytest.approx(mse, rel=1e-12)


def test_the_default_variance_would_not_add_up():
    y_hat = sample(grid(30).expand(7, 30), 0.3, generator())  # (sets, points)
    bias2 = (y_hat.mean(0) - truth(grid(30))).square().mean()
    mse = (y_hat - truth(grid(30))).square().mean()
    assert torch.allclose(bias2 + y_hat.var(0, correction=0).mean(), mse, rtol=1e-12)
    assert bias2 + y_hat.var(0).mean() > 1.1 * mse  # 7/6 of the variance


def test_with_noisy_labels_the_three_terms_add_up_in_expectation():
    g, x = generator(), grid(30)
    y_hat = legendre(x, 3) @ fit(legendre(x, 3), sample(x.expand(20_000, 30), 0.3, g).T)
    y = sample(x.expand(20_000, 30), 0.3, g).T
    bias2 = (y_hat.mean(1) - truth(x)).square().mean()
    total = bias2 + y_hat.var(1, correction=0).mean() + SIGMA2
    # 600,000 squares of sd 0.15: their mean has sd 0.0002; four of them.
    assert (y_hat - y).square().mean().item() == pytest.approx(total.item(), abs=0.0008)


def test_measured_bias_and_variance_match_the_formulas(measured):
    values = measured(chapter.experiment_parts)
    for degree in (1, 3, 9, 15):
        bias2, variance = theory(degree, 30, 0.3)
        # Ten seeds of 200 sets each; the mean variance has sd 3 % (few directions vary).
        assert values[f"variance{degree}"].mean() == pytest.approx(variance, rel=0.1)
        # The mean of S fits has variance / S of its own.
        excess = variance / 200
        assert values[f"bias{degree}"].mean() == pytest.approx(bias2 + excess, abs=0.7 * excess)
        assert values[f"defect{degree}"].max() < 1e-12
    assert pytest.approx(0.0014, abs=5e-5) == theory(15, 30, 0.3)[1] / 200


def test_degree_one_is_bias_and_degree_three_is_variance(measured):
    values = measured(chapter.experiment_parts)
    assert (values["bias1"] > 10 * values["variance1"]).all()  # 0.165 + 0.006
    assert (values["variance3"] > 2 * values["bias3"]).all()  # 0.003 + 0.012
    assert (values["bias1"] > 30 * values["bias3"]).all()
    for low, high in ((1, 3), (3, 9), (9, 15)):
        assert (values[f"variance{high}"] > values[f"variance{low}"]).all()


def test_bias_of_the_line_by_integration():
    # E sin^2 3x - 3 (E x sin 3x)^2 over [-1, 1].
    total = (1 - math.sin(6) / 6) / 2
    slope = (math.sin(3) - 3 * math.cos(3)) / 9
    # 400 cells of midpoint rule and 3000 training points: 1e-5.
    assert theory(1, 3000, 0.3)[0] == pytest.approx(total - 3 * slope**2, abs=1e-5)
    assert total - 3 * slope**2 == pytest.approx(0.165, abs=5e-4)


def test_hat_matrix_is_a_projection_of_trace_p():
    A = legendre(grid(30), 9)
    H = A @ torch.linalg.inv(A.T @ A) @ A.T
    assert torch.allclose(H, H.T) and torch.allclose(H @ H, H)
    assert H.trace().item() == pytest.approx(10)


@pytest.mark.parametrize("degree", [1, 3, 9, 15])
def test_gap_is_two_sigma_squared_p_over_n(measured, degree):
    values = measured(chapter.experiment_gap)
    p = degree + 1
    A, f = legendre(grid(30), degree), truth(grid(30))[:, None]
    beta = (A @ fit(A, f) - f).square().mean().item()
    # Standard errors of the ten seeds: 0.0012 for the gap, 0.0008 for the errors; four of them.
    assert values[f"gap{degree}"].mean() == pytest.approx(2 * SIGMA2 * p / 30, abs=0.005)
    expected = {"train": beta + SIGMA2 * (1 - p / 30), "fresh": beta + SIGMA2 * (1 + p / 30)}
    for name, value in expected.items():
        assert values[f"{name}{degree}"].mean() == pytest.approx(value, abs=0.004)
    assert pytest.approx(0.006) == 2 * SIGMA2 / 30


def test_variance_of_degree_15_lives_between_the_training_points():
    x = grid(30)
    A = legendre(x, 15)
    at_points = SIGMA2 * (A @ torch.linalg.pinv(A)).square().sum(1).mean().item()
    assert at_points == pytest.approx(SIGMA2 * 16 / 30)
    assert at_points == pytest.approx(0.048)
    assert theory(15, 30, 0.3)[1] > 5 * at_points


def test_a_parameter_pays_if_the_bias_falls_by_more_than_its_variance():
    """Exact in-sample errors from (6), by the noise-free projections."""
    f = truth(grid(30))[:, None]
    for degree in range(1, 12):
        betas, errors = [], []
        for k in (degree, degree + 1):
            A = legendre(grid(30), k)
            betas.append((A @ fit(A, f) - f).square().mean().item())
            smoother = A @ torch.linalg.pinv(A)
            errors.append(betas[-1] + SIGMA2 * (1 + smoother.square().sum().item() / 30))
        assert (errors[1] < errors[0]) == (betas[0] - betas[1] > SIGMA2 / 30)


# The code


def test_fit_equals_the_normal_equations_and_the_pseudoinverse():
    A, y = legendre(grid(30), 9), sample(grid(30), 0.3, generator())[:, None]
    assert torch.allclose(fit(A, y), torch.linalg.solve(A.T @ A, A.T @ y))
    assert torch.allclose(fit(A, y), torch.linalg.pinv(A) @ y)


def test_fit_of_a_wide_matrix_has_the_least_norm():
    A = torch.randn(5, 12, generator=generator(), dtype=torch.float64)
    y = torch.randn(5, 2, generator=generator(1), dtype=torch.float64)
    w = fit(A, y)
    assert torch.allclose(A @ w, y) and torch.allclose(w, torch.linalg.pinv(A) @ y)


@pytest.mark.parametrize(("n", "p"), [(12, 5), (5, 12)])
def test_penalised_fit_has_gradient_zero(n, p):
    A = torch.randn(n, p, generator=generator(), dtype=torch.float64)
    y = torch.randn(n, 2, generator=generator(1), dtype=torch.float64)
    w = fit(A, y, penalty=0.1).requires_grad_()
    ((A @ w - y).square().sum() / n + 0.1 * w.square().sum()).backward()
    assert w.grad.abs().max() < 1e-12


@pytest.mark.parametrize("degree", [0, 1, 2, 9])
def test_legendre_equals_torch(degree):
    x = grid(30)
    built_in = torch.stack(
        [torch.special.legendre_polynomial_p(x, j) for j in range(degree + 1)], 1
    )
    assert torch.allclose(legendre(x, degree), built_in)


def test_legendre_spans_the_powers():
    x = grid(30)
    powers = x[:, None] ** torch.arange(6)
    assert torch.allclose(legendre(x, 5) @ fit(legendre(x, 5), powers), powers)


# Complexity


def test_s0_45_test_error_is_least_in_the_middle(measured):
    values = measured(chapter.experiment_degree)
    assert (values["best"] >= 3).all() and (values["best"] <= 8).all()  # 40 seeds: 3 to 8
    assert (values["test1"] > 2 * values["test3"]).all()  # 0.26 against 0.11
    assert (values["test15"] > 1.5 * values["test3"]).all()  # 0.21 at least against 0.11
    assert (values["test20"] > values["test15"]).all()
    assert (values["train20"] < values["train3"]).all()


def test_the_checked_seed_chooses_degree_three():
    _, test = chapter.polyfit_errors(range(21), 30, 0.3, seed=1)
    assert test.argmin() == 3


def test_even_degrees_only_add_variance():
    for k in (2, 4, 6, 8):
        (bias_odd, variance_odd), (bias_even, variance_even) = (
            theory(j, 30, 0.3) for j in (k - 1, k)
        )
        assert bias_even == pytest.approx(bias_odd, rel=1e-9, abs=1e-15)
        assert variance_even > variance_odd


# Learning curves


@pytest.mark.parametrize(("n", "predicted"), [(15, 0.054), (50, 0.079), (500, 0.089)])
def test_training_error_by_size_is_predicted(measured, n, predicted):
    values = measured(chapter.experiment_size)
    assert SIGMA2 * (1 - 6 / n) == pytest.approx(predicted, abs=5e-4)
    # sd of one run: 0.09 sqrt(2 (n - 6)) / n; four standard errors of ten seeds.
    error = SIGMA2 * math.sqrt(2 * (n - 6)) / n / math.sqrt(10)
    assert values[f"train5_{n}"].mean() == pytest.approx(predicted, abs=4 * error)


def test_more_data_narrows_the_gap(measured):
    values = measured(chapter.experiment_size)
    for degree in (1, 5):
        gaps = [
            (values[f"test{degree}_{n}"] - values[f"train{degree}_{n}"]).mean()
            for n in (15, 50, 500)
        ]
        assert gaps[0] > gaps[1] > gaps[2]
    assert abs(values["test5_500"].mean() - values["train5_500"].mean()) < 0.01
    # Degree 5: training error rises, test error falls.
    assert values["train5_15"].mean() < values["train5_50"].mean() < values["train5_500"].mean()
    assert values["test5_15"].mean() > values["test5_50"].mean() > values["test5_500"].mean()


def test_the_line_stays_at_its_plateau(measured):
    values = measured(chapter.experiment_size)
    # 2000 test points, squares of sd 0.3: one standard error of ten seeds is 0.002.
    assert values["test1_500"].mean() == pytest.approx(SIGMA2 + 0.165, abs=0.01)
    assert values["test1_15"].mean() < 1.15 * values["test1_500"].mean()


# Remedies


def test_more_data_cures_overfitting_only(measured):
    values = measured(chapter.experiment_remedies)
    assert (values["over_data"] < 0.6 * values["over_none"]).all()  # 0.095 against 0.20 at least
    assert (values["over_data"] < 1.15 * SIGMA2).all()
    assert (values["under_data"] > 0.9 * values["under_none"]).all()
    assert (values["under_data"] > 2.5 * SIGMA2).all()


def test_the_cure_of_one_harms_the_other(measured):
    values = measured(chapter.experiment_remedies)
    assert (values["under_larger"] < 0.5 * values["under_none"]).all()
    assert values["over_larger"].mean() > 2 * values["over_none"].mean()
    assert (values["over_smaller"] < 0.7 * values["over_none"]).all()
    assert (values["under_smaller"] > 2 * values["under_none"]).all()
    assert (values["over_penalty"] < values["over_none"]).all()
    assert values["over_penalty"].mean() < 0.5 * values["over_none"].mean()  # 0.16 against 0.46
    assert values["under_penalty"].mean() > values["under_none"].mean()  # 0.279 against 0.264
    assert (values["over_shrunk"] < 0.7 * values["over_norm"]).all()


def test_s0_52_remedies_for_underfitting(measured):
    values = measured(chapter.experiment_underfit)
    for cure, control in (("capacity", "line"), ("feature", "line"), ("weak", "strong")):
        assert (values[cure] < 0.5 * values[control]).all()
    assert (values["long"] < values["short"]).all()
    assert values["long"].mean() < 0.8 * values["short"].mean()  # 0.108 against 0.153
    assert (values["feature"] < values["capacity"]).all()


def test_a_penalty_lowers_the_variance_of_the_same_16_parameters():
    A, A_new = legendre(grid(30), 15), legendre(grid(400), 15)
    labels = torch.eye(30, dtype=A.dtype)
    variances = [
        (A_new @ fit(A, labels, penalty)).square().sum(1) for penalty in (0.0, 0.1)
    ]  # at every point, in units of sigma^2
    assert (variances[1] < variances[0]).all()
    assert variances[1].mean() < 0.1 * variances[0].mean()


def test_short_training_and_a_strong_penalty_keep_the_training_error_large():
    A = legendre(grid(30), 3)
    for seed in range(10):
        y = sample(grid(30), 0.3, generator(seed))[:, None]
        short = torch.zeros(4, 1, dtype=A.dtype)
        for _ in range(10):
            short = short - 0.5 * A.T @ (A @ short - y) / 30
        best, strong, weak = (
            (A @ w - y).square().mean()
            for w in (fit(A, y), fit(A, y, penalty=1.0), fit(A, y, penalty=0.001))
        )
        assert (A @ short - y).square().mean() > 1.2 * best
        assert strong > 2 * best and weak < 1.01 * best


# Early stopping


def test_stopping_rule():
    model = nn.Linear(1, 1)
    stopper = EarlyStopping(patience=2, min_delta=0.1)
    assert [stopper.update(v, model) for v in (1.0, 0.95, 0.8, 0.75, 0.72)] == [
        False, False, False, False, True,
    ]  # fmt: skip
    assert (stopper.best, stopper.best_step) == (0.8, 3)


def test_a_nan_is_no_improvement():
    stopper = EarlyStopping(patience=2)
    model = nn.Linear(1, 1)
    assert [stopper.update(v, model) for v in (1.0, math.nan, math.nan)] == [False, False, True]
    assert stopper.best == 1.0


def test_training_returns_to_the_best_weights():
    X, y, X_val, y_val, _, _ = chapter.noisy_digits(0.4, seed=0)
    net, stopper = chapter.small_mlp(0), EarlyStopping(patience=10)
    losses = chapter.train(net, X, y, X_val, y_val, 100, stopper)
    validation = [v for _, v in losses]
    with torch.no_grad():
        assert F.cross_entropy(net(X_val), y_val).item() == min(validation) < validation[-1]
    assert len(losses) == validation.index(min(validation)) + 1 + 10


def test_early_stopping_helps_with_noisy_labels(measured):
    values = measured(chapter.experiment_stopping)
    assert (values["noisy_gain"] > 0.04).all()  # 0.21 +- 0.06, ten seeds
    assert values["noisy_gain"].mean() > 0.12
    assert (values["noisy_fitted"] > 0.99).all()  # the wrong labels are memorised
    assert (values["noisy_steps"] < 0.3 * 100).all()
    assert (values["noisy_stopped"] > values["noisy_all"]).all()


def test_early_stopping_does_nothing_with_clean_labels_and_costs_the_validation_set(measured):
    values = measured(chapter.experiment_stopping)
    assert abs(values["clean_gain"]).max() < 0.03  # 360 test images: sd 0.013 of each accuracy
    assert abs(values["clean_gain"].mean()) < 0.01
    # 0.009 +- 0.012 here and 0.018 +- 0.012 on thirty other seeds.
    assert values["clean_price"].mean() > 0


def test_rules_are_learnt_before_exceptions(measured):
    values = measured(chapter.experiment_stopping)
    assert (values["noisy_right"] > values["noisy_wrong"] + 0.5).all()  # 0.90 against 0.06
    assert (values["noisy_wrong"] < 0.25).all()
    # The labels it was trained on are wrong; it says the true ones.
    assert (values["noisy_mended"] > 0.5).all()


def test_noisy_digits_touches_only_the_labels_it_should():
    X, y, X_test, y_test = load_digits(3)
    noisy = chapter.noisy_digits(0.4, 3)
    labels = torch.cat([noisy[1], noisy[3]])
    # 0.4 * 0.9 = 0.36 differ, binomial sd 0.028; four of them.
    assert (labels != y[:300]).double().mean().item() == pytest.approx(0.36, abs=0.11)
    assert torch.equal(torch.cat([noisy[0], noisy[2]]), X[:300])
    assert torch.equal(noisy[4], X_test) and torch.equal(noisy[5], y_test)
    assert torch.equal(load_digits(3)[1], y)  # the loader's labels are not written to
    assert torch.equal(chapter.noisy_digits(0.0, 3)[1], y[:200])


# Double descent


def test_test_error_peaks_at_p_equal_n_and_falls_again(measured):
    values = measured(chapter.experiment_descent)
    assert (values["test20"] > 1.5 * values["test100"]).all()  # first descent
    assert (values["test200"] > 4 * values["test100"]).all()  # 0.7 at least against 0.14 at most
    assert (values["train200"] == 0).all() and (values["train4000"] == 0).all()


def test_s0_49_far_more_parameters_than_samples_beat_the_best_small_model(measured):
    values = measured(chapter.experiment_descent)
    assert (values["test4000"] < 0.8 * values["test100"]).all()
    for seed in range(3):
        widths = [20, 40, 60, 80, 100, 120, 140, 160, 4000]
        _, test = chapter.width_errors(widths, seed)
        assert test[-1] < 0.8 * test[:-1].min()


def test_a_penalty_removes_the_peak(measured):
    values = measured(chapter.experiment_descent)
    assert (values["decayed200"] < 0.2 * values["test200"]).all()
    assert values["decayed200"].mean() < values["decayed100"].mean()  # no peak: 0.07 against 0.10
    assert abs(values["decayed4000"] - values["test4000"]).max() < 0.03  # nothing left to cure


def test_weights_are_huge_at_the_peak_only():
    X, y, _, _ = load_digits(0)
    X, target = X[:200].double(), F.one_hot(y[:200], 10).double()
    norms = {
        p: fit(chapter.random_relu(X - X.mean(0), p, 0), target).norm().item()
        for p in (100, 200, 4000)
    }
    assert norms[200] > 5 * norms[100] and norms[200] > 20 * norms[4000]


def test_s2_106_a_wide_network_can_have_both_low(measured):
    values = measured(chapter.experiment_ends)
    for n in (20, 200):
        # 300 points: the mean of (x1 x2)^2 has sd 0.01; one tenth of 1/9 from ten sets at n = 20.
        assert values[f"line_bias{n}"].mean() == pytest.approx(1 / 9, abs=0.015)
        assert (values[f"wide_bias{n}"] < 0.1 * values[f"line_bias{n}"]).all()
    # More data: no help for the bias of the line, and less of everything for the network.
    assert (values["line_bias200"] > 0.8 * values["line_bias20"]).all()
    assert values["wide_variance20"].mean() < values["line_variance20"].mean()
    assert values["wide_variance200"].mean() < values["line_variance200"].mean()
    assert (values["wide_variance200"] < 0.2 * values["wide_variance20"]).all()
    assert (values["wide_bias200"] < 0.5 * values["wide_bias20"]).all()


# Where it does not help


def test_unrepresentative_data_fail_unseen(measured):
    values = measured(chapter.experiment_coverage)
    assert (values["half_inside"] < 1.1 * SIGMA2).all()
    assert (values["half_inside"] < values["whole_inside"]).all()
    # Forty seeds: 4.7 at least, 0.14 at most.
    assert (values["half_test"] > 10 * values["whole_test"]).all()


# The clinic


def test_state_dict_is_a_view_of_the_model():
    layer = nn.Linear(2, 1)
    reference, copied = layer.state_dict(), copy.deepcopy(layer.state_dict())
    with torch.no_grad():
        layer.weight += 1
    assert torch.equal(reference["weight"], layer.weight)
    assert not torch.equal(copied["weight"], layer.weight)


def test_the_stopper_keeps_a_copy():
    layer, stopper = nn.Linear(2, 1), EarlyStopping(patience=1)
    stopper.update(1.0, layer)
    before = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight += 1
    assert torch.equal(stopper.state["weight"], before)


def test_powers_in_single_precision_break_the_monotone_training_error():
    for seed in range(5):
        x = grid(30)
        y = sample(x, 0.3, generator(seed))[:, None]
        bad, good = [], []
        for k in (3, 15):
            powers = (10 * x.float())[:, None] ** torch.arange(k + 1)
            bad.append((powers @ fit(powers, y.float()) - y).square().mean())
            good.append((legendre(x, k) @ fit(legendre(x, k), y) - y).square().mean())
        assert bad[1] > bad[0] and good[1] < good[0]


def test_normal_equations_with_more_features_than_samples_are_singular():
    A = torch.tensor([[1.0, 2.0, 4.0]])
    with pytest.raises(torch.linalg.LinAlgError, match="the input matrix is singular"):
        torch.linalg.solve(A.T @ A, A.T @ torch.ones(1))
    least = torch.linalg.lstsq(A, torch.ones(1, 1)).solution
    assert torch.allclose(least, A.T / 21)


def test_dropout_makes_the_training_loss_look_high():
    torch.manual_seed(1)
    X, y, _, _ = load_digits()
    net = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, 10))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(50):
        optimizer.zero_grad()
        F.cross_entropy(net(X), y).backward()
        optimizer.step()
    with torch.no_grad():
        in_train = F.cross_entropy(net(X), y)
        assert in_train > 1.3 * F.cross_entropy(net.eval()(X), y)


# The exercises


def test_predicted_errors_of_a_cubic():
    g, A = generator(), legendre(grid(20), 3)
    cubic = A @ torch.ones(4, 1, dtype=A.dtype)
    old, new = (cubic + 0.5 * torch.randn(20, 20_000, generator=g, dtype=A.dtype) for _ in "ab")
    y_hat = A @ fit(A, old)
    # 20,000 columns: sd 0.0006.
    assert (y_hat - old).square().mean().item() == pytest.approx(0.20, abs=0.0024)
    assert (y_hat - new).square().mean().item() == pytest.approx(0.30, abs=0.0028)


@pytest.mark.parametrize(("patience", "stop", "best"), [(2, 4, 2), (3, 8, 5)])
def test_patience_by_hand(patience, stop, best):
    stopper, model = EarlyStopping(patience), nn.Linear(1, 1)
    values = [1.0, 0.8, 0.85, 0.83, 0.7, 0.72, 0.75, 0.74]
    stops = [stopper.update(v, model) for v in values]
    assert stops.index(True) + 1 == stop
    again = EarlyStopping(patience)
    next(i for i, v in enumerate(values) if again.update(v, model))
    assert again.best_step == best


def test_degree_five_overtakes_degree_three_near_61_points():
    bias2, _ = theory(3, 30, 0.3)
    assert 2 * SIGMA2 / bias2 == pytest.approx(60.6, abs=0.05)
    wins = [n for n in range(10, 200) if sum(theory(5, n, 0.3)) < sum(theory(3, n, 0.3))]
    assert wins == list(range(wins[0], 200))
    assert 55 < wins[0] < 70


def test_averaging_divides_the_variance_only():
    A, x_new = legendre(grid(30), 1), grid(400)
    y_hat = legendre(x_new, 1) @ fit(A, sample(grid(30).expand(4000, 30), 0.3, generator()).T)
    means = y_hat.reshape(400, 400, 10).mean(2)
    assert (y_hat.var(1).mean() / means.var(1).mean()).item() == pytest.approx(10, rel=0.25)
    for fits in (y_hat, means):  # the bias of the line stays
        assert (fits.mean(1) - truth(x_new)).square().mean().item() == pytest.approx(
            0.165, abs=0.001
        )


def test_a_linear_model_memorises_as_many_coins_as_it_has_parameters():
    for seed in range(10):
        g = generator(seed)
        for n, all_right in ((21, True), (100, False)):
            A = torch.cat([torch.randn(n, 20, generator=g), torch.ones(n, 1)], 1).double()
            coin = torch.randint(0, 2, (n, 1), generator=g).double() * 2 - 1
            right = ((A @ fit(A, coin)).sign() == coin).double().mean().item()
            assert (right == 1) == all_right and right > 0.6
