import math
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from snippets.training import optimizers as chapter
from snippets.training.optimizers import (
    Adagrad,
    Adam,
    AdamW,
    Momentum,
    Nesterov,
    RMSprop,
    adam_drift,
    bowl,
    bowl_grad,
    clip,
    run,
    settled,
    taylor1,
    torch_run,
)

START = torch.ones(2, dtype=torch.float64)


def double(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def steps_to(path: torch.Tensor, distance: float) -> int:
    return int((path.norm(dim=1) <= distance).int().argmax())


# Taylor


@pytest.mark.parametrize("seed", range(5))
def test_e43_the_first_order_error_is_quadratic(seed):
    g = torch.Generator().manual_seed(seed)
    x0, direction = torch.randn(2, 2, generator=g, dtype=torch.float64)

    def wave(x):
        return x[0].exp() * x[1].cos()

    model = taylor1(wave, x0)
    errors = [
        (wave(x0 + h * direction) - model(x0 + h * direction)).abs().item()
        for h in (1e-2, 1e-3, 1e-4)
    ]
    assert errors[0] > 0  # the notes' "=" is false
    # The cubic term changes the factor 100 by a few per cent at h = 0.01; rounding at 1e-4
    # is 1e-16 against 1e-9.
    assert errors[0] / errors[1] == pytest.approx(100, rel=0.2)
    assert errors[1] / errors[2] == pytest.approx(100, rel=0.02)


def test_e43_smooth_but_not_analytic():
    assert chapter.flat(double(0.0)).item() == 0
    assert chapter.flat(double(0.5)).item() == pytest.approx(math.exp(-4))

    # Derivatives vanish towards 0 faster than any power: all Taylor coefficients are 0.
    def f(x):
        return torch.exp(-1 / x**2)

    for _ in range(4):
        assert abs(f(double(0.05)[0]).item()) < 1e-100
        f = torch.func.grad(f)
    # For exp, which is analytic, the series does give the function back.
    assert sum(0.5**k / math.factorial(k) for k in range(20)) == pytest.approx(math.exp(0.5))


@pytest.mark.parametrize("seed", range(5))
def test_descent_direction_minimizes_the_linear_model(seed):
    g = torch.Generator().manual_seed(seed)
    slope = torch.randn(5, generator=g, dtype=torch.float64)
    others = torch.randn(1000, 5, generator=g, dtype=torch.float64)
    ball = others / others.norm(dim=1, keepdim=True)
    assert (ball @ slope).min() > slope @ (-slope / slope.norm())
    box = others / others.abs().amax(dim=1, keepdim=True)
    assert (box @ slope).min() >= slope @ -slope.sign()


# Momentum


def test_plain_descent_needs_709_steps_and_momentum_95():
    slow = run(Momentum(2 / 101, mu=0.0), bowl_grad, START, 800)
    fast = run(Momentum(4 / 121, mu=(9 / 11) ** 2), bowl_grad, START, 800)
    assert steps_to(slow, 1e-6) == 709
    assert math.ceil(math.log(math.sqrt(2) * 1e6) / math.log(101 / 99)) == 709
    assert steps_to(fast, 1e-6) == 95
    assert 0.865 < 1 - 95 / 709 < 0.875  # printed as 87 %
    t = torch.arange(801, dtype=torch.float64)
    flat, steep = (1 + 2 * t / 11) * (9 / 11) ** t, (1 + 20 * t / 11) * (-9 / 11) ** t
    assert torch.allclose(fast, torch.stack([flat, steep], 1), rtol=0, atol=1e-12)
    assert int(steep.abs().argmax()) == 4  # the fastest is not the smoothest
    assert steep.max().item() == pytest.approx(3.7, abs=0.05)


def test_momentum_damps_the_steep_direction_and_speeds_up_the_flat_one():
    plain = run(Momentum(2 / 101, mu=0.0), bowl_grad, START, 40)[-1]
    with_momentum = run(Momentum(2 / 101, mu=0.6), bowl_grad, START, 40)[-1]
    assert plain.abs().min() > 0.4 and plain.abs().max() < 0.5  # (99 / 101)^40 = 0.45
    assert with_momentum[0].abs() < 0.3 * plain[0].abs()
    assert with_momentum[1].abs() < 1e-3


@pytest.mark.parametrize("lr", [0.015, 0.0195, 0.0199, 0.025])
def test_no_other_rate_shrinks_faster_in_the_long_run(lr):
    def factor(rate: float) -> float:
        return max(abs(1 - rate), abs(1 - 100 * rate))

    assert factor(lr) > factor(2 / 101)
    start = torch.tensor([0.0, 1.0] if 100 * lr > 2 - lr else [1.0, 0.0], dtype=torch.float64)
    path = run(Momentum(lr, mu=0.0), bowl_grad, start, 100).norm(dim=1)
    assert (path[100] / path[99]).item() == pytest.approx(factor(lr), rel=1e-9)


def test_within_the_interval_the_rate_is_sqrt_mu_whatever_the_curvature():
    mu = 0.81
    low, high = (1 - 0.9) ** 2, (1 + 0.9) ** 2
    for curvature in (1.01 * low, 0.1, 1.0, 3.0, 0.99 * high):
        roots = np.roots([1, -(1 + mu - curvature), mu])
        assert abs(roots) == pytest.approx([0.9, 0.9])
    for curvature in (0.9 * low, 1.1 * high):
        assert max(abs(np.roots([1, -(1 + mu - curvature), mu]))) > 0.901
    # Equation (6) puts the extreme curvatures on the two ends.
    lr, root = 4 / 121, 9 / 11
    assert lr * 1 == pytest.approx((1 - root) ** 2)
    assert lr * 100 == pytest.approx((1 + root) ** 2)


def test_velocity_of_constant_and_of_alternating_gradients():
    constant, alternating = Momentum(0.1), Momentum(0.1)
    w = double(0.0)
    for k in range(400):
        constant.step(w, double(1.0))
        alternating.step(w, double((-1.0) ** k))
    assert constant.v.item() == pytest.approx(10)
    assert abs(alternating.v.item()) == pytest.approx(1 / 1.9)
    assert 1 / 1.9 < 0.53


def test_nesterov_is_the_look_ahead_point():
    w, v, ahead = START, torch.zeros_like(START), []
    for _ in range(50):
        y = w - 0.01 * 0.9 * v
        ahead.append(y)
        v = 0.9 * v + chapter.beale_grad(y)
        w = w - 0.01 * v
    path = run(Nesterov(0.01), chapter.beale_grad, START, 49)
    assert torch.allclose(torch.stack(ahead), path, rtol=0, atol=1e-12)
    assert not torch.allclose(path, run(Momentum(0.01), chapter.beale_grad, START, 49))


# Equal to PyTorch


PAIRS = {
    "sgd": (lambda: Momentum(0.01, mu=0.0), lambda p: torch.optim.SGD(p, lr=0.01)),
    "momentum": (lambda: Momentum(0.01), lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9)),
    "nesterov": (
        lambda: Nesterov(0.01),
        lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True),
    ),
    "adagrad": (lambda: Adagrad(0.1), lambda p: torch.optim.Adagrad(p, lr=0.1)),
    "rmsprop": (lambda: RMSprop(0.01), lambda p: torch.optim.RMSprop(p, lr=0.01)),
    "rmsprop_large_eps": (
        lambda: RMSprop(0.01, eps=0.1),
        lambda p: torch.optim.RMSprop(p, lr=0.01, eps=0.1),
    ),
    "adam": (lambda: Adam(0.1), lambda p: torch.optim.Adam(p, lr=0.1)),
    "adam_large_eps": (lambda: Adam(0.1, eps=0.1), lambda p: torch.optim.Adam(p, 0.1, eps=0.1)),
    "adamw": (lambda: AdamW(0.1), lambda p: torch.optim.AdamW(p, lr=0.1)),
    "adamw_strong": (
        lambda: AdamW(0.1, weight_decay=0.5),
        lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.5),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("grad", [bowl_grad, chapter.beale_grad, chapter.saddle_grad])
def test_equal_to_torch_optim(name, grad):
    ours, theirs = PAIRS[name]
    start = 0.3 * START
    gap = run(ours(), grad, start, 100) - torch_run(theirs, grad, start, 100)
    assert gap.abs().max() < 1e-12


def test_e44_epsilon_inside_and_outside_differ():
    def end(inside, grad):
        g = double(grad)
        return run(RMSprop(0.01, inside=inside), lambda w: g, 0 * g, 10)[-1].item()

    # For constant g, c_t = (1 - 0.99^t) g^2: both sums in closed form.
    c = [(1 - 0.99**t) * 1e-6 for t in range(1, 11)]
    outside = -0.01 * sum(1e-3 / (math.sqrt(x) + 1e-8) for x in c)
    within = -0.01 * sum(1e-3 / math.sqrt(x + 1e-8) for x in c)
    assert end(False, 1e-3) == pytest.approx(outside, rel=1e-12)
    assert end(True, 1e-3) == pytest.approx(within, rel=1e-12)
    assert within - outside > 0.05
    assert (within - outside) / -outside == pytest.approx(0.14, abs=0.005)
    # Large gradients do not notice.
    assert end(True, 1.0) == pytest.approx(end(False, 1.0), rel=1e-5)
    # PyTorch has it outside; the notes' formula does not reproduce it.
    g = double(1e-3)
    theirs = torch_run(lambda p: torch.optim.RMSprop(p, lr=0.01), lambda w: g, 0 * g, 10)
    assert theirs[-1].item() == pytest.approx(outside, rel=1e-12)
    assert "TensorFlow interchanges these two operations" in torch.optim.RMSprop.__doc__


def test_e44_adagrad_of_the_notes_is_pytorchs():
    g = [3.0, -1.0, 0.5]
    w, total = 1.0, 0.0
    for value in g:
        total += value * value
        w -= 0.1 / (math.sqrt(total) + 1e-10) * value
    sequence = iter(g)
    theirs = torch_run(
        lambda p: torch.optim.Adagrad(p, lr=0.1), lambda w: double(next(sequence)), double(1.0), 3
    )
    assert theirs[-1].item() == pytest.approx(w, rel=1e-14)


def test_adagrad_shrinks_like_one_over_root_t_and_rmsprop_recovers():
    def effective(opt):
        w, rates = double(0.0), []
        for g in [1.0] * 100 + [0.1] * 100:
            rates.append(((w - opt.step(w, double(g))) / g).item())
        return rates

    adagrad, rmsprop = effective(Adagrad(1.0)), effective(RMSprop(1.0, alpha=0.9))
    assert adagrad[:100] == pytest.approx([1 / math.sqrt(t) for t in range(1, 101)], rel=1e-6)
    assert adagrad[-1] < adagrad[100] < adagrad[0]
    assert rmsprop[99] == pytest.approx(1, rel=1e-3)
    assert rmsprop[-1] == pytest.approx(10, rel=5e-3)  # 0.9^100 = 3e-5 of the old 1 against 0.01
    assert rmsprop[140] > 5  # "some tens of steps"


# Adam


@pytest.mark.parametrize("g", [1e-4, 1.0, -1e4])
def test_e44_adam_is_more_than_rmsprop_with_momentum(g):
    def first(corrected):
        return Adam(0.01, corrected=corrected).step(double(0.0), double(g)).item()

    # eps = 1e-8 against |g| = 1e-4.
    assert first(True) == pytest.approx(-0.01 * math.copysign(1, g), rel=2e-4)
    assert first(False) / first(True) == pytest.approx(0.1 / math.sqrt(0.001), rel=4e-3)
    assert 0.1 / math.sqrt(0.001) == pytest.approx(3.16, abs=0.005)


def test_uncorrected_steps_peak_at_twelve():
    g = double(1.0)
    sizes = -run(Adam(1.0, corrected=False), lambda w: g, 0 * g, 5000).diff(dim=0)[:, 0]
    t = torch.arange(1, 5001, dtype=torch.float64)
    assert torch.allclose(sizes, (1 - 0.9**t) / (1 - 0.999**t).sqrt(), rtol=1e-6)
    assert int(sizes.argmax()) + 1 == 12
    assert sizes.max().item() == pytest.approx(6.57, abs=0.005)
    assert sizes[999] > 1.2 and sizes[-1] < 1.01
    corrected = -run(Adam(1.0), lambda w: g, 0 * g, 100).diff(dim=0)
    assert corrected == pytest.approx(torch.ones(100, 1), rel=1e-6)


def test_adam_ignores_the_scale_of_the_loss():
    for make, same in (
        (lambda: Adam(0.1), True),
        (lambda: Adagrad(0.1), True),
        (lambda: Momentum(1e-4, mu=0.0), False),
    ):
        a = run(make(), bowl_grad, START, 50)
        b = run(make(), lambda p: 1000 * bowl_grad(p), START, 50)
        assert torch.allclose(a, b, atol=1e-6) is same


def test_decay_cancels_in_adam_but_not_in_adamw():
    def end(make, decay):
        path = torch_run(lambda p: make(p, 1e-3, weight_decay=decay), torch.zeros_like, START, 100)
        return path[-1, 0].item()

    l2 = [end(torch.optim.Adam, decay) for decay in (1e-4, 1e-2, 1.0)]
    assert max(l2) - min(l2) < 2e-4  # eps against a gradient of 1e-4
    for decay in (1e-4, 1e-2, 1.0):
        assert end(torch.optim.AdamW, decay) == pytest.approx((1 - 1e-3 * decay) ** 100)


# The race


@pytest.mark.parametrize("name", ["bowl", "rotated", "beale", "saddle"])
def test_gradients_of_the_tracks(name):
    f, grad = chapter.landscape(name)
    p = chapter.random_starts(name, 10, seed=1)
    assert torch.allclose(torch.func.grad(lambda p: f(p).sum())(p), grad(p))
    assert (f(p) > 0).all()


def test_minima_and_the_saddle():
    assert chapter.beale(double(3.0, 0.5)).item() == pytest.approx(0, abs=1e-28)
    assert chapter.saddle(double(0.0, -1.0)).item() == 0
    assert chapter.saddle_grad(double(0.0, 0.0)).abs().max() == 0
    hessian = torch.func.hessian(chapter.saddle)(double(0.0, 0.0))
    assert torch.allclose(hessian, torch.diag(double(1.0, -0.01)))
    p = chapter.random_starts("bowl", 5, seed=0)
    assert torch.allclose(chapter.landscape("rotated")[0](chapter.rotate(p)), bowl(p))


def test_settled_counts_the_last_time_above_the_bound():
    class Script:
        def __init__(self, values):
            self.values = iter(values)

        def step(self, w, g):
            return torch.full_like(w, next(self.values))

    def f(w):
        return w[..., 0]

    w = torch.ones(1, 1, dtype=torch.float64)
    assert settled(Script([1, 0, 1, 0, 0]), f, f, w, 5).item() == 4
    assert settled(Script([1, 0, 1, 0, 1]), f, f, w, 5).item() == math.inf
    assert settled(Script([math.nan] * 3), f, f, w, 3).item() == math.inf


def test_race_momentum_is_limited_by_its_own_memory(measured):
    values = measured(chapter.experiment_race)
    limit = math.log(100) / -math.log(math.sqrt(0.9))
    assert limit == pytest.approx(87.4, abs=0.05)
    for track in ("bowl", "rotated"):
        assert values[f"{track}_momentum"] == pytest.approx(limit, abs=3)
        assert (values[f"{track}_nesterov"] < 0.7 * limit).all()
        assert (values[f"{track}_momentum"] < values[f"{track}_gd"]).all()


def test_race_adagrad_becomes_newton_only_along_the_axes(measured):
    values = measured(chapter.experiment_race)
    assert (values["bowl_adagrad"] <= 4).all()
    assert (values["bowl_adagrad_rate"] == 100).all()
    assert (values["rotated_adagrad"] > 25 * values["bowl_adagrad"]).all()
    # Effective rate after the kick: 1 / curvature.
    opt = Adagrad(100.0)
    w = double(0.6, 0.8)
    w = opt.step(w, bowl_grad(w))
    opt.step(w, bowl_grad(w))
    assert (100 / opt.total.sqrt()) == pytest.approx(double(1.0, 0.01), rel=0.02)


def test_race_rotation_leaves_gd_and_momentum_alone(measured):
    values = measured(chapter.experiment_race)
    for name in ("gd", "momentum", "nesterov"):
        before, after = values[f"bowl_{name}"].mean(), values[f"rotated_{name}"].mean()
        assert after == pytest.approx(before, rel=0.1)  # the starts differ, not the task
    assert values["rotated_rmsprop"].mean() > 3 * values["bowl_rmsprop"].mean()


def test_race_rmsprop_does_not_come_to_rest(measured):
    values = measured(chapter.experiment_race)
    assert values["beale_rmsprop_late"].mean() > 0.5
    for name in ("gd", "momentum", "nesterov", "adam"):
        assert values[f"beale_{name}_late"].mean() < 0.1


def test_race_saddle_is_left_fast_by_methods_that_normalize(measured):
    values = measured(chapter.experiment_race)
    assert math.log(1e4) / math.log(1 + 0.01 * 10**0.25) == pytest.approx(522.5, abs=0.05)
    assert values["saddle_gd_rate"] == pytest.approx(10**0.25)
    assert (values["saddle_gd"] > 500).all()
    assert (values["saddle_gd"] > 50 * values["saddle_adagrad"]).all()
    assert (values["saddle_gd"] > 20 * values["saddle_rmsprop"]).all()
    assert (values["saddle_gd"] > 5 * values["saddle_adam"]).all()
    assert (values["saddle_gd"] > 4 * values["saddle_momentum"]).all()


def test_race_beale_has_three_winners(measured):
    values = measured(chapter.experiment_race)
    three = ("momentum", "nesterov", "adam")
    means = [values[f"beale_{name}"].mean() for name in three]
    spread = max(values[f"beale_{name}"].std(ddof=1) for name in three)
    assert max(means) - min(means) < spread
    assert max(means) < 0.6 * values["beale_gd"].mean()


# The network


def test_batched_networks_are_nn_modules():
    p = chapter.init_params(2, seed=0).double()
    p[1] *= 2
    X, y, _, _ = chapter.load_digits()
    X, y = X[:50].double(), y[:50]
    w1, b1, w2, b2 = p[1].split([64 * 32, 32, 320, 10])
    net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)).double()
    with torch.no_grad():
        for parameter, value in zip(
            net.parameters(), (w1.view(64, 32).T, b1, w2.view(32, 10).T, b2), strict=True
        ):
            parameter.copy_(value)
    expected = nn.functional.cross_entropy(net(X), y)
    assert torch.allclose(chapter.net_loss(p, X.expand(2, -1, -1), y)[1], expected)
    assert p[0].abs().max() <= 32**-0.5


def test_training_side_by_side_is_training_alone():
    scales = torch.stack(chapter.mixed_units())
    both, _ = chapter.train(Momentum, torch.tensor([0.1, 0.03]), scales, 0, epochs=1)
    alone, _ = chapter.train(Momentum, torch.tensor([0.03]), scales[1:], 0, epochs=1)
    # Other shapes sum in another order in float32, over 23 steps.
    assert both[1].item() == pytest.approx(alone.item(), rel=1e-3)


@pytest.mark.parametrize("name", list(chapter.TUNED))
def test_the_tuned_rates_are_the_best_on_the_tuning_seeds(name):
    losses = chapter.tuning_losses(name).mean(0)  # (2, 15)
    for units, index in enumerate(chapter.TUNED[name]):
        # Within 5 %: float32 sums differ between machines, and neighbours may swap.
        assert losses[units, index] <= 1.05 * losses[units].min()
        assert 0 < index < 14  # not on the edge of the grid
    assert not set(chapter.TUNING_SEEDS) & set(chapter.SEEDS)


def test_at_adams_best_rate_descent_has_hardly_begun():
    index = chapter.TUNED["adam"][0]
    assert chapter.tuning_losses("gd").mean(0)[0, index] > 1.0  # ln 10 = 2.3 at the start
    assert chapter.tuning_losses("adam").mean(0)[0, index] < 0.15


def test_network_plain_units_do_not_separate_momentum_and_adam(measured):
    values = measured(chapter.experiment_network)
    momentum, adam = values["momentum_plain"], values["adam_plain"]
    assert abs(momentum.mean() - adam.mean()) < max(momentum.std(ddof=1), adam.std(ddof=1))
    for slow in ("gd", "adagrad", "rmsprop"):
        for fast in ("momentum", "nesterov", "adam"):
            assert values[f"{slow}_plain"].mean() > 1.4 * values[f"{fast}_plain"].mean()
    assert abs(values["momentum_plain_accuracy"] - values["adam_plain_accuracy"]).mean() < 0.03


def test_network_mixed_units_need_adam(measured):
    values = measured(chapter.experiment_network)
    momentum, adam = values["momentum_mixed"], values["adam_mixed"]
    assert (adam < momentum).all()  # ten of ten
    assert adam.mean() < 0.65 * momentum.mean()
    assert momentum.mean() - adam.mean() > 3 * max(momentum.std(ddof=1), adam.std(ddof=1))
    for name in ("adagrad", "rmsprop"):
        assert values[f"{name}_mixed"].mean() < 0.9 * momentum.mean()
    accuracy = values["adam_mixed_accuracy"] - values["momentum_mixed_accuracy"]
    assert accuracy.mean() > 0.03
    for name in chapter.TUNED:
        assert (values[f"{name}_plain"] < values[f"{name}_mixed"]).all()


# Recipes


def test_schedules_equal_torch():
    parameter = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50)
    for k in range(50):
        # PyTorch's recursion rounds at every step.
        assert scheduler.get_last_lr()[0] == pytest.approx(chapter.cosine(k / 50), abs=1e-12)
        optimizer.step()
        scheduler.step()
    assert [chapter.warmup_cosine(s) for s in (0, 0.05, 0.1, 1)] == pytest.approx([0, 0.5, 1, 0])
    shares = [(k + 0.5) / 1000 for k in range(1000)]
    assert sum(map(chapter.cosine, shares)) / 1000 == pytest.approx(0.5)  # half the distance


def test_cosine_needs_a_larger_peak(measured):
    values = measured(chapter.experiment_network)
    constant, cosine = values["momentum_constant_1"], values["momentum_cosine_1"]
    assert cosine.mean() > constant.mean() + 0.005  # same peak: worse on average
    six = {k: v.mean() for k, v in values.items() if k.startswith("momentum_") and k[-1] in "12"}
    assert len(six) == 6
    assert max(six, key=six.get) == "momentum_constant_2"
    assert six["momentum_cosine_2"] < 0.75 * six["momentum_constant_1"]
    assert six["momentum_warmup_2"] < 0.75 * six["momentum_constant_1"]


def test_warmup_rescues_adam_at_twice_the_rate(measured):
    values = measured(chapter.experiment_network)
    assert values["adam_warmup_2"].max() < 0.06
    assert values["adam_constant_2"].max() > 0.3
    assert values["adam_cosine_2"].max() > 0.3
    assert values["adam_warmup_2"].mean() < 0.5 * values["adam_cosine_2"].mean()


def test_floor_of_the_last_iterate_and_of_the_average(measured):
    values = measured(chapter.experiment_floor)
    floor = 0.1 / 1.9
    average = floor * 0.01 / 1.99 * (1 + 0.9 * 0.99) / (1 - 0.9 * 0.99)
    assert floor == pytest.approx(0.0526, abs=5e-5)
    assert average == pytest.approx(0.00459, abs=5e-6)
    assert 10.5 < floor / average < 11.9
    # The mean over 10 seeds x 1000 chains has a relative error of sqrt(2 / 10^4) = 1.4 %; what
    # is left of the start in the average is 0.99^1200 = 6e-6, 0.1 %.
    assert values["constant"].mean() == pytest.approx(floor, rel=0.06)
    assert values["ema"].mean() == pytest.approx(average, rel=0.06)
    assert (values["cosine"] < 0.2 * values["constant"]).all()
    assert 0.7 < values["cosine"].mean() / values["ema"].mean() < 1.5  # they end alike


def test_averaging_hurts_early(measured):
    values = measured(chapter.experiment_floor)
    assert (values["ema_early"] > 5 * values["constant_early"]).all()


def test_formula_of_the_averaged_floor():
    # Covariance of (w, average) by iterating the linear recursion itself.
    a, b, lr = 0.9, 0.99, 0.1
    step = torch.tensor([[a, 0.0], [(1 - b) * a, b]], dtype=torch.float64)
    noise = lr * double(1.0, 1 - b)[:, None]
    covariance = torch.zeros(2, 2, dtype=torch.float64)
    for _ in range(5000):
        covariance = step @ covariance @ step.T + noise @ noise.T
    v = lr / (2 - lr)
    assert covariance[0, 0].item() == pytest.approx(v)
    assert covariance[1, 1].item() == pytest.approx(
        (1 - b) / (1 + b) * (1 + a * b) / (1 - a * b) * v
    )


@pytest.mark.parametrize("size", [0.1, 1.0, 30.0])
def test_clip_equals_torch(size):
    g = size * double(3.0, -4.0, 12.0) / 13
    parameter = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    parameter.grad = g.clone()
    nn.utils.clip_grad_norm_([parameter], 1.0)
    assert torch.allclose(clip(g, 1.0), parameter.grad, rtol=0, atol=1e-12)
    assert clip(g, 1.0).norm() <= 1


def test_clipping_helps_against_heavy_tails_only(measured):
    values = measured(chapter.experiment_clip)
    assert (values["heavy_raw"] > 4 * values["heavy_clipped"]).all()
    assert (values["light_raw"] < 1.5 * values["light_clipped"]).all()


def test_clipping_moves_the_minimum_of_skewed_data(measured):
    values = measured(chapter.experiment_clip)
    # Standard error of the mean of 10000 chains: sqrt(0.05 * 9 / 2 / 10^4) = 0.005.
    assert values["skewed_raw"].mean() == pytest.approx(1, abs=0.02)
    assert values["skewed_clipped"].mean() == pytest.approx(1 / 9, abs=0.005)


# Limits


def test_adam_walks_the_wrong_way():
    # The limit cycle of v for beta2 = 0.1, solved by hand.
    v1 = 8.199 / 0.999
    v2 = 0.1 * v1 + 0.9
    v3 = 0.1 * v2 + 0.9
    drift = -3 / math.sqrt(v1) + 1 / math.sqrt(v2) + 1 / math.sqrt(v3)
    assert adam_drift(3.0, 3, 0.0, 0.1) == pytest.approx(drift, rel=1e-9)
    assert drift == pytest.approx(0.68, abs=0.005)
    # v hardly moves within a cycle of three: -3 / sqrt(v) + 2 / sqrt(v), v = (9 + 1 + 1) / 3.
    steady = -1 / math.sqrt(11 / 3)
    assert adam_drift(3.0, 3, 0.0, 0.999) == pytest.approx(steady, rel=0.01)
    assert adam_drift(4500.0, 3000, 0.9, 0.999) > 10
    assert adam_drift(1500.0, 1000, 0.9, 0.999) < -1
    for big, period in ((3, 3), (4500, 3000), (1500, 1000)):
        assert (big - (period - 1)) / period > 0.3  # the mean gradient is positive every time


@pytest.mark.parametrize(("amsgrad", "sign"), [(False, 1), (True, -1)])
def test_amsgrad_walks_the_right_way(amsgrad, sign):
    w = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([w], lr=0.1, betas=(0.0, 0.1), amsgrad=amsgrad)
    for k in range(300):
        w.grad = double(3.0 if k % 3 == 0 else -1.0)
        optimizer.step()
    assert w.item() * sign > 1


def test_bias_correction_is_not_always_better(measured):
    values = measured(chapter.experiment_network)
    assert (values["without_small"] < values["with_small"]).all()
    assert values["without_large"].max() > 0.3 > 3 * values["with_large"].max()
    assert values["without_small"].mean() < values["with_large"].mean()


def test_momentum_is_useless_on_a_round_bowl():
    rates = torch.logspace(-3, 0, 61, dtype=torch.float64)
    starts = torch.ones(61, 1, 2, dtype=torch.float64)

    def steps(opt, w):
        return settled(opt, lambda p: bowl(p, 1.0), lambda p: bowl_grad(p, 1.0), w, 300)

    assert 70 <= steps(Momentum(rates[:, None, None]), starts).min() < 80
    assert steps(Momentum(1.0, mu=0.0), starts[0]).item() == 1


# Clinic


def test_an_exhausted_generator_leaves_no_parameters():
    params = nn.Linear(2, 1).parameters()
    assert sum(p.numel() for p in params) == 3
    with pytest.raises(ValueError, match="optimizer got an empty parameter list"):
        torch.optim.SGD(params, lr=0.1)

    class Forgetful(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = [nn.Linear(2, 1)]

    with pytest.raises(ValueError, match="empty parameter list"):
        torch.optim.SGD(Forgetful().parameters(), lr=0.1)


def test_a_replaced_layer_is_not_trained():
    net = nn.Sequential(nn.Linear(2, 1))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net[0] = nn.Linear(2, 1)
    before = net[0].weight.detach().clone()
    net(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert torch.equal(before, net[0].weight)


@pytest.mark.parametrize("scheduler_first", [True, False])
def test_scheduler_before_optimizer_warns(scheduler_first):
    optimizer = torch.optim.SGD(nn.Linear(2, 1).parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for part in (scheduler, optimizer) if scheduler_first else (optimizer, scheduler):
            part.step()
    told = any("`lr_scheduler.step()` before `optimizer.step()`" in str(w.message) for w in caught)
    assert told is scheduler_first


@pytest.mark.parametrize("keep", [True, False])
def test_resuming_needs_the_state_of_the_optimizer(keep):
    w = START.clone().requires_grad_()
    optimizer = torch.optim.Adam([w], lr=0.1)
    for k in range(20):
        if k == 10:
            state = optimizer.state_dict()
            optimizer = torch.optim.Adam([w], lr=0.1)
            if keep:
                optimizer.load_state_dict(state)
        w.grad = bowl_grad(w.detach())
        optimizer.step()
    whole = run(Adam(0.1), bowl_grad, START, 20)[-1]
    assert torch.allclose(w.detach(), whole, rtol=0, atol=1e-12) is keep


def test_first_exercise():
    path = run(Momentum(0.1), torch.ones_like, double(0.0), 200)
    assert path[1:4, 0].tolist() == pytest.approx([-0.1, -0.29, -0.561])
    assert (path[-2] - path[-1]).item() == pytest.approx(1, rel=1e-6)
