import copy
import math
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from torch import nn

from snippets.linear import gradient_descent as chapter
from snippets.linear.gradient_descent import cost, descend, gradient, gradient_descent

XS, YS = [1.0, 2.0, 3.0], [2.0, 4.0, 6.0]
X, Y = torch.tensor(XS, dtype=torch.float64), torch.tensor(YS, dtype=torch.float64)
RATES = [0.01, 0.1, 0.2, 0.215]


def double(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


# The derivation


def test_three_ways_to_the_gradient_agree():
    h = 1e-5
    numeric = (cost(1 + h, XS, YS) - cost(1 - h, XS, YS)) / (2 * h)
    w = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    ((X * w - Y) ** 2).mean().backward()
    assert gradient(1.0, XS, YS) == pytest.approx(-28 / 3, rel=1e-15)
    assert w.grad.item() == pytest.approx(-28 / 3, rel=1e-15)
    # A central difference of a parabola is exact but for cancellation, about 1e-16 / h.
    assert numeric == pytest.approx(-28 / 3, abs=1e-9)


def test_first_order_decrease_is_lr_times_the_squared_gradient():
    lr = 1e-6
    decrease = cost(1.0, XS, YS) - cost(1.0 - lr * gradient(1.0, XS, YS), XS, YS)
    # The next term is lr * L / 2 = 5e-6 of it.
    assert decrease == pytest.approx(lr * (28 / 3) ** 2, rel=1e-5)


def test_the_hundredth_step_of_the_notes():
    path = gradient_descent(1.0, 0.01, 100, XS, YS)
    assert cost(path[0], XS, YS) == pytest.approx(14 / 3)
    assert path[1] == pytest.approx(1 + 28 / 300)
    assert path[100] == pytest.approx(2 - (68 / 75) ** 100, rel=1e-14)
    assert path[100] == pytest.approx(1.9999444, abs=5e-8)  # printed with 8 digits
    assert 4 * path[100] == pytest.approx(7.9997778, abs=5e-8)


@pytest.mark.parametrize("lr", RATES)
def test_closed_form(lr):
    path = gradient_descent(1.0, lr, 100, XS, YS)
    for k in (1, 10, 100):
        # 100 steps of rounding, 1e-16 each, against errors of up to 2.
        assert path[k] - 2 == pytest.approx((1 - lr * 28 / 3) ** k * -1, abs=1e-12)


@pytest.mark.parametrize(
    ("lr", "factor"),
    [
        ("1/100", "68/75"),
        ("1/10", "1/15"),
        ("3/28", "0"),
        ("1/5", "-13/15"),
        ("3/14", "-1"),
        ("215/1000", "-151/150"),
    ],
)
def test_table_of_factors_in_exact_arithmetic(lr, factor):
    path = gradient_descent(Fraction(1), Fraction(lr), 3, [1, 2, 3], [2, 4, 6])
    for before, after in pairwise(path):
        assert after - 2 == Fraction(factor) * (before - 2)


def test_one_over_l_arrives_in_one_step_and_two_over_l_never():
    xs, ys = [1, 2, 3], [2, 4, 6]
    assert gradient_descent(Fraction(1), Fraction(3, 28), 1, xs, ys) == [1, 2]
    assert gradient_descent(Fraction(1), Fraction(3, 14), 4, xs, ys) == [1, 3, 1, 3, 1]
    assert chapter.max_stable_lr(XS) == pytest.approx(3 / 14)


def test_guess_which_rate_fails():
    distance = {lr: abs(gradient_descent(1.0, lr, 100, XS, YS)[-1] - 2) for lr in RATES}
    assert distance[0.1] < distance[0.2] < distance[0.01] < 1 < distance[0.215]
    assert pytest.approx(1.075) == 0.215 / 0.2


def test_two_over_l_is_the_exact_border():
    assert 0.2 < chapter.max_stable_lr(XS) < 0.215
    for seed in range(20):
        g = torch.Generator().manual_seed(seed)
        xs = (10 ** (2 * torch.rand((), generator=g)) * torch.randn(8, generator=g)).tolist()
        ys = [2 * x + 1 for x in xs]
        best = sum(x * y for x, y in zip(xs, ys, strict=True)) / sum(x * x for x in xs)
        limit = chapter.max_stable_lr(xs)
        below = gradient_descent(best + 1, 0.99 * limit, 1000, xs, ys)
        above = gradient_descent(best + 1, 1.01 * limit, 300, xs, ys)
        # |1 - 1.98|^1000 = 2e-9 and |1 - 2.02|^300 = 380, whatever the data.
        assert abs(below[-1] - best) < 1e-8
        assert abs(above[-1] - best) > 100


def test_cost_falls_at_every_step_even_while_w_swings():
    path = gradient_descent(1.0, 0.2, 50, XS, YS)
    costs = [cost(w, XS, YS) for w in path]
    sides = [w > 2 for w in path]
    assert all(after < before for before, after in pairwise(costs))
    assert all(after != before for before, after in pairwise(sides))


def test_changing_the_unit_of_x_makes_a_safe_rate_diverge():
    xs_dm = [10 * x for x in XS]
    path = gradient_descent(1.0, 0.01, 5, xs_dm, YS)
    assert chapter.max_stable_lr(xs_dm) == pytest.approx(3 / 1400)
    assert 4 < 0.01 / chapter.max_stable_lr(xs_dm) < 5
    assert path[-1] == pytest.approx(0.2 + 0.8 * (-25 / 3) ** 5)
    assert 4e4 < (25 / 3) ** 5 < 4.1e4
    assert abs(gradient_descent(1.0, 0.0001, 100, xs_dm, YS)[-1] - 0.2) < 1e-4  # 0.01 / 100


def test_every_eigendirection_has_its_own_factor():
    design = torch.stack([X, torch.ones(3, dtype=torch.float64)], 1)
    hessian = 2 * design.T @ design / 3
    eigenvalues, vectors = torch.linalg.eigh(hessian)
    best, lr = double(2.0, 0.5), 0.15
    path = descend(lambda p: 2 * design.T @ (design @ p - Y - 0.5) / 3, double(0, 0), lr, 20)
    errors = (path - best) @ vectors  # (21, 2)
    predicted = (1 - lr * eigenvalues) ** torch.arange(21)[:, None] * errors[0]
    assert torch.allclose(errors, predicted, atol=1e-12)


@pytest.mark.parametrize(("multiple", "converges"), [(1.98, True), (2.02, False)])
def test_border_of_several_parameters(multiple, converges):
    design = torch.stack([X, torch.ones(3, dtype=torch.float64)], 1)
    top = torch.linalg.eigvalsh(2 * design.T @ design / 3)[-1].item()
    path = descend(
        lambda p: 2 * design.T @ (design @ p - Y - 0.5) / 3, double(0, 0), multiple / top, 3000
    )
    assert bool((path[-1] - double(2.0, 0.5)).norm() < 1e-3) == converges


def test_best_rate_and_its_factor():
    low, high = 0.25, 11.0
    rates = torch.linspace(0.001, 2 / high, 100_000, dtype=torch.float64)
    worst = torch.maximum((1 - rates * low).abs(), (1 - rates * high).abs())
    kappa = high / low
    # The grid is 2e-6 wide and the factor changes by 11 of that at most.
    assert rates[worst.argmin()].item() == pytest.approx(2 / (low + high), abs=2e-6)
    assert worst.min().item() == pytest.approx((kappa - 1) / (kappa + 1), abs=3e-5)


# The code


@pytest.mark.parametrize("lr", RATES)
def test_scratch_equals_torch(lr):
    scratch = torch.tensor(gradient_descent(1.0, lr, 100, XS, YS))
    by_torch = torch.tensor(chapter.gradient_descent_torch(1.0, lr, 100, X, Y))
    assert torch.allclose(scratch, by_torch)


# The comparison


def test_copied_rate_works_in_a_narrow_window_only(measured):
    values = measured(chapter.experiment_rate)
    assert len(values["fixed_solved"]) >= 5
    # Below a fifth: the window is sqrt(193 / 6.7) = 5.4 wide, 0.73 of 4 decades. The seeds
    # differ by 0.01 because a decade holds 25 problems.
    assert (values["fixed_solved"] > 0.08).all()
    assert (values["fixed_solved"] < 0.20).all()
    assert (values["fixed_spoilt"] > 0.20).all()
    assert (values["fixed_spoilt"] < 0.35).all()


def test_rate_from_curvature_solves_all_and_the_border_is_sharp(measured):
    values = measured(chapter.experiment_rate)
    assert (values["adapted_solved"] == 1).all()
    assert (values["below_solved"] == 1).all()
    assert (values["above_solved"] == 0).all()
    assert (values["above_spoilt"] == 1).all()


def test_predicted_window_of_the_copied_rate():
    reach = 10 ** (-6 / 200)
    low, high = (1 - reach) / 0.01, (1 + reach) / 0.01
    assert low == pytest.approx(6.7, abs=0.05)
    assert high == pytest.approx(193, abs=0.5)
    assert math.sqrt(high / low) == pytest.approx(5.4, abs=0.05)
    assert math.log10(5.4) == pytest.approx(0.73, abs=0.005)


def test_condition_numbers_of_the_comparison_need_fewer_than_100_steps():
    assert (1 - 1 / 14) ** 200 < 1e-6
    for seed in chapter.SEEDS:
        g = torch.Generator().manual_seed(seed)  # the draws of relative_cost
        x = torch.randn(100, 50, 5, generator=g, dtype=torch.float64)
        eigenvalues = torch.linalg.eigvalsh(x.mT @ x)  # (100, 5), ascending
        assert (eigenvalues[:, -1] / eigenvalues[:, 0]).max() < 14  # seen: 4.9


@pytest.mark.parametrize("d", [2, 5, 30])
def test_standardised_features_bound_the_curvature(d):
    for seed in range(5):
        g = torch.Generator().manual_seed(seed)
        x = torch.randn(100, d, generator=g, dtype=torch.float64)
        x = x @ torch.randn(d, d, generator=g, dtype=torch.float64) * 50 + 7  # correlated, shifted
        x = (x - x.mean(0)) / x.std(0, correction=0)
        hessian = 2 * x.T @ x / len(x)
        assert hessian.trace().item() == pytest.approx(2 * d)
        assert torch.linalg.eigvalsh(hessian)[-1] < 2 * d


# Non-convex functions


def test_the_cost_of_the_line_is_convex_and_the_valleys_are_not():
    g = torch.Generator().manual_seed(0)
    u, v, t = 8 * torch.rand(3, 1000, generator=g, dtype=torch.float64) - 4
    t = (t + 4) / 8

    def gap(f):
        return t * f(u) + (1 - t) * f(v) - f(t * u + (1 - t) * v)  # (1000,), (9): >= 0

    assert gap(lambda w: (X[:, None] * w - Y[:, None]).square().mean(0)).min() > -1e-12
    assert gap(chapter.two_valleys).min() < -1


def test_non_convex_without_a_bad_minimum():
    w = torch.linspace(-5, 5, 1001, dtype=torch.float64, requires_grad=True)
    f = w**2 / (1 + w**2)
    (slope,) = torch.autograd.grad(f.sum(), w)
    assert (1.5**2 / (1 + 1.5**2)) > (0 + 3**2 / (1 + 3**2)) / 2  # midpoint of 0 and 3: not convex
    assert (slope[w > 1e-9] > 0).all()
    assert (slope[w < -1e-9] < 0).all()


def test_two_valleys_and_their_basins():
    w = torch.linspace(-4, 4, 101, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(chapter.two_valleys(w).sum(), w)
    # Values reach 60, rounding 1e-14.
    assert torch.allclose(slope, chapter.two_valleys_grad(w), atol=1e-12)
    assert chapter.two_valleys(double(-3.0)) < chapter.two_valleys(double(2.5)) - 20
    starts = torch.linspace(-4, 4, 1600, dtype=torch.float64)  # none is 0.5 exactly
    end = descend(chapter.two_valleys_grad, starts, 0.02, 500)[-1]
    expected = torch.where(starts < 0.5, -3.0, 2.5).double()
    assert torch.allclose(end, expected, atol=1e-3)
    curvature = 3 * starts**2 - 31 / 4
    assert curvature.max() < 1 / 0.02


def test_share_of_starts_that_find_the_global_minimum(measured):
    values = measured(chapter.experiment_restarts)
    # 400 trials: binomial sd 0.025 and 0.006; four of them.
    assert abs(values["one"] - 9 / 16).max() < 0.1
    assert abs(values["five"] - (1 - (7 / 16) ** 5)).max() < 0.026
    assert (values["five"] > values["one"] + 0.3).all()
    assert pytest.approx(0.984, abs=5e-4) == 1 - (7 / 16) ** 5


def test_permuted_networks_are_equal_and_the_midpoint_is_higher(measured):
    values = measured(chapter.experiment_barrier)
    assert values["net"] == pytest.approx(values["permuted"], rel=1e-4)  # float32, other order
    # At least 25 times in 30 seeds; a convex cost could not exceed 1 times.
    assert (values["midpoint"] > 10 * values["net"]).all()


def test_permutation_moves_the_parameters_and_keeps_the_function():
    net = chapter.train_mlp(8, seed=1, steps=20)
    other = chapter.permute_hidden(net, torch.tensor([3, 1, 4, 0, 5, 2, 7, 6]))
    x, _ = chapter.sine_data()
    assert torch.allclose(net(x), other(x), atol=1e-6)  # float32 sums in another order
    assert not torch.allclose(net[0].weight, other[0].weight)
    assert math.factorial(8) == 40320


def test_half_a_permutation_changes_the_function():
    net = chapter.train_mlp(8, seed=1, steps=20)
    broken = copy.deepcopy(net)
    with torch.no_grad():
        broken[0].weight.copy_(net[0].weight.roll(1, 0))
    x, _ = chapter.sine_data()
    assert not torch.allclose(net(x), broken(x), atol=1e-2)


def test_interpolate_ends_at_its_arguments():
    a, b = chapter.train_mlp(3, seed=0, steps=1), chapter.train_mlp(3, seed=1, steps=1)
    for t, end in ((0.0, a), (1.0, b)):
        parameters = chapter.interpolate(a, b, t).parameters()
        for p, q in zip(parameters, end.parameters(), strict=True):
            assert torch.equal(p, q)


def test_e06_large_networks_end_alike(measured):
    values = measured(chapter.experiment_width)
    # Forty seeds: sd 0.18 against 0.005, small from 0.03 to 0.50, large at most 0.022.
    assert values["small"].std() > 10 * values["large"].std()
    assert values["small"].min() < 0.1 and values["small"].max() > 0.4
    assert values["large"].max() < 0.03
    _, y = chapter.sine_data()
    assert y.var(correction=0).item() == pytest.approx(0.54, abs=0.005)


# Saddle points


def test_hessian_decides_by_the_signs_of_its_eigenvalues():
    zero = double(0, 0)
    assert chapter.hessian_type(lambda p: p[0] ** 2 - p[1] ** 2, zero) == "saddle"
    assert chapter.hessian_type(lambda p: p[0] ** 2 + p[1] ** 2, zero) == "min"
    assert chapter.hessian_type(lambda p: -(p[0] ** 2) - p[1] ** 2, zero) == "max"
    assert chapter.hessian_type(lambda p: p[0] ** 2 + p[1] ** 4, zero) == "undecided"
    hessian = torch.func.jacrev(torch.func.grad(lambda p: p[0] ** 2 - p[1] ** 2))(zero)
    assert torch.linalg.eigvalsh(hessian).tolist() == [-2, 2]


def test_hessian_type_of_the_valleys():
    def f(p):
        return chapter.two_valleys(p).sum()

    assert [chapter.hessian_type(f, double(w)) for w in (-3.0, 0.5, 2.5)] == ["min", "max", "min"]


def test_e05_a_zero_partial_derivative_is_not_a_saddle():
    def f(p):
        return p[0] ** 2 + p[1]

    assert torch.func.grad(f)(double(0, 0)).tolist() == [0, 1]
    with pytest.raises(ValueError, match="not a stationary point"):
        chapter.hessian_type(f, double(0, 0))


def test_e05_zero_derivative_without_extremum():
    assert chapter.hessian_type(lambda p: (p**3).sum(), double(0.0)) == "undecided"
    assert (-0.01) ** 3 < 0 < 0.01**3  # neither a minimum nor a maximum
    # Descent from the right stops there all the same; from the left it runs away.
    assert 0 < descend(lambda w: 3 * w**2, double(1.0), 0.1, 10_000)[-1] < 1e-3
    assert descend(lambda w: 3 * w**2, double(-0.1), 0.1, 50)[-1] < -1


def test_e05_descent_never_seeks_a_maximum():
    end = descend(chapter.two_valleys_grad, double(0.5 - 1e-9, 0.5 + 1e-9), 0.02, 500)[-1]
    assert torch.allclose(end, double(-3.0, 2.5), atol=1e-3)


@pytest.mark.parametrize(("y0", "step"), [(1e-6, 76), (1e-12, 152)])
def test_escape_takes_the_predicted_number_of_steps(y0, step):
    path = descend(chapter.saddle_grad, double(1.0, y0), 0.1, 200)
    assert chapter.escape_step(path, double(0, 1)) == step
    assert math.ceil(math.log(1 / y0) / math.log(1.2)) == step
    assert torch.allclose(path[:, 0], 0.8 ** torch.arange(201).double(), atol=1e-12)


def test_descent_stalls_on_the_stable_manifold_only():
    path = descend(chapter.saddle_grad, double(1.0, 0.0), 0.1, 1000)
    assert chapter.escape_step(path, double(0, 1)) == math.inf
    assert path[-1, 1] == 0 and path[-1, 0].abs() < 1e-90  # 0.8^1000


def test_noise_and_rounding_free_descent_from_the_saddle(measured):
    values = measured(chapter.experiment_saddle)
    assert (values["stuck"] == 1).all()
    # The same random numbers, 1000 times smaller: ln 1000 / ln 1.2 = 37.9 steps, give or take 1.
    delay = values["tiny"] - values["small"]
    assert (delay >= 37).all() and (delay <= 39).all()
    assert math.log(1000) / math.log(1.2) == pytest.approx(37.9, abs=0.05)
    # ln 1e16 / ln 1.2 = 202 for an error of one rounding; 1e-22 and 1e-11 would be 278 and 139.
    assert (values["tilted"] > 139).all() and (values["tilted"] < 278).all()
    assert math.log(1e16) / math.log(1.2) == pytest.approx(202, abs=0.5)
    assert (values["small"] < values["tiny"]).all() and (values["tiny"] < values["tilted"]).all()


# Where it does not help


def test_best_rate_is_slow_on_ill_conditioned_data_and_centring_cures_it():
    design = torch.stack([X, torch.ones(3, dtype=torch.float64)], 1)
    eigenvalues = torch.linalg.eigvalsh(2 * design.T @ design / 3)
    root = math.sqrt(265)
    assert torch.allclose(eigenvalues, double((17 - root) / 3, (17 + root) / 3))
    kappa = (17 + root) / (17 - root)
    factor = (kappa - 1) / (kappa + 1)
    assert kappa == pytest.approx(46.1, abs=0.05)
    assert factor == pytest.approx(0.958, abs=5e-4)
    design[:, 0] -= 2
    assert torch.allclose(2 * design.T @ design / 3, torch.diag(double(4 / 3, 2)))
    bounds = [math.ceil(math.log(1e-6) / (2 * math.log(r))) for r in (factor, 0.2)]
    assert bounds == [160, 5]
    steps = [chapter.steps_needed(x, Y + 0.5) for x in (X, X - 2)]
    assert steps[0] <= bounds[0] and steps[1] <= bounds[1]
    assert steps[0] > 20 * steps[1]


def test_noise_leaves_a_floor_at_a_minimum(measured):
    values = measured(chapter.experiment_floor)
    assert (values["exact"] < 1e-20).all()
    # The mean of 4000 squared normals: sd 2.2 %; four of them.
    assert values["noisy"] == pytest.approx(3 / 64, rel=0.09)
    assert pytest.approx(3 / 64) == 0.1 / (2 * (2 - 0.1 * 28 / 3))


# Errata


def test_e02_third_label():
    wrong = [2.0, 4.0, 8.0]
    w = gradient_descent(1.0, 0.01, 100, XS, wrong)[-1]
    assert w == pytest.approx(17 / 7, abs=1e-4)  # 17/7 - (68/75)^100 * 10/7
    assert 4 * w == pytest.approx(9.714, abs=1e-3)
    assert abs(4 * w - 8) > 1  # what the notes predict
    assert cost(17 / 7, XS, wrong) == pytest.approx(10 / 21)
    assert cost(2.0, XS, YS) == 0


def test_e04_learning_rate_is_a_step_size():
    slow, fast = (gradient_descent(1.0, lr, 10, XS, YS) for lr in (0.01, 0.02))
    assert len(slow) == len(fast) == 11  # the number of updates does not change
    assert fast[1] - 1 == pytest.approx(2 * (slow[1] - 1))  # the step does


# The clinic


def test_divergence_raises_in_python_and_is_silent_in_torch():
    diverging = gradient_descent(1.0, 0.3, 700, XS, YS)
    with pytest.raises(OverflowError):
        [cost(w, XS, YS) for w in diverging]
    path = chapter.gradient_descent_torch(1.0, 0.3, 160, X.float(), Y.float())
    costs = (torch.tensor(path)[:, None] * X.float() - Y.float()).square().mean(1)
    assert costs.isinf().int().argmax() == 74
    assert costs[-1].isnan()
    largest = torch.finfo(torch.float32).max
    assert 14 * 1.8 ** (2 * 73) < largest < 14 * 1.8 ** (2 * 74)


@pytest.mark.parametrize("lr", [0.001, 0.01, 0.1])
def test_without_zero_grad_the_error_swings_for_ever(lr):
    w = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=lr)
    errors = [-1.0]
    for _ in range(2000):
        nn.functional.mse_loss(w * X, Y).backward()
        optimizer.step()
        errors.append(w.item() - 2)
    e = double(*errors)
    assert torch.allclose(e[2:] - (2 - lr * 28 / 3) * e[1:-1] + e[:-2], double(0.0), atol=1e-9)
    # Neither shrinks nor grows; the amplitude is 1 / cos of a small angle, 1.2 at lr = 0.1.
    assert 0.9 < e[-200:].abs().max() < 1.4
    assert cost(e[-1].item() + 2, XS, YS) < 14 / 3 * 1.4**2


def test_rebinding_the_parameter_fails_at_the_second_step():
    w = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    nn.functional.mse_loss(w * X, Y).backward()
    with torch.no_grad():
        w = w - 0.01 * w.grad
    assert not w.requires_grad
    with pytest.raises(RuntimeError, match="does not require grad and does not have a grad_fn"):
        nn.functional.mse_loss(w * X, Y).backward()


@pytest.mark.parametrize(("reduction", "lr", "converges"), [
    ("mean", 0.1, True), ("sum", 0.1, False), ("sum", 0.07, True), ("sum", 0.0715, False),
])  # fmt: skip
def test_sum_divides_the_border_by_n(reduction, lr, converges):
    w = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=lr)
    for _ in range(1000):
        optimizer.zero_grad()
        nn.functional.mse_loss(w * X, Y, reduction=reduction).backward()
        optimizer.step()
    assert (abs(w.item() - 2) < 0.1) == converges
    assert 0.07 < 1 / 14 < 0.0715


# The exercises


def test_slow_divergence_passes_a_hundredfold_at_step_347():
    path = gradient_descent(1.0, 0.215, 400, XS, YS)
    first = next(k for k, w in enumerate(path) if cost(w, XS, YS) > 100 * cost(1.0, XS, YS))
    assert first == math.ceil(math.log(100) / (2 * math.log(151 / 150))) == 347


def test_a_large_rate_leaves_the_sharp_valley_for_the_flat_one():
    curvature = {w: 3 * w**2 - 31 / 4 for w in (-3.0, 2.5)}
    assert curvature == {-3.0: 19.25, 2.5: 11.0}
    assert pytest.approx(0.104, abs=5e-4) == 2 / 19.25
    assert pytest.approx(0.182, abs=5e-4) == 2 / 11
    starts = torch.linspace(-4, 0.45, 200, dtype=torch.float64)  # all in the deep valley
    kept = descend(chapter.two_valleys_grad, starts, 0.12, 3000)[-1]
    left = descend(chapter.two_valleys_grad, starts, 0.17, 3000)[-1]
    assert (kept < 0.5).all() and ((kept + 3).abs() > 0.1).all()
    assert torch.allclose(left, double(2.5), atol=1e-6)


def test_sign_flips_of_tanh_units():
    net = chapter.train_mlp(8, seed=0, steps=10)
    flipped = copy.deepcopy(net)
    with torch.no_grad():
        flipped[0].weight[3] *= -1
        flipped[0].bias[3] *= -1
        flipped[2].weight[:, 3] *= -1
    x, _ = chapter.sine_data()
    assert torch.allclose(net(x), flipped(x), atol=1e-6)  # float32
    assert 2**8 * math.factorial(8) == 10_321_920
