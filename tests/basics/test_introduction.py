import importlib.util
import math

import pytest
import torch
from torch import nn

from snippets.basics import introduction as chapter
from snippets.basics.introduction import bandit_episode, fit_by_search, risk
from snippets.data import load_digits

TRUTH = torch.tensor([1.0, chapter.CAPACITY], dtype=torch.float64)
LATE = torch.tensor([12.0], dtype=torch.float64)


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


# The failure: a good fit of the past, a wrong prediction


def test_fit_and_held_out_error_are_the_noise_and_week_12_is_fifty_times_off(measured):
    values = measured(chapter.experiment_growth)
    # Noise of 0.1 measured by 40 samples: sd 0.011 a seed, 0.0035 in the mean of ten.
    for key in ("exponential_train", "exponential_held"):
        assert values[key].mean() == pytest.approx(0.1, abs=0.015)
        assert values[key].max() < 0.15
    # w is 0.9953 with sd 0.1 / sqrt(40 * 25 / 3) = 0.0055: a factor of 52 exp(12 * 0.0055 * z).
    assert (values["exponential_few"] > 40).all() and (values["exponential_few"] < 70).all()


def test_more_data_does_not_cure_the_wrong_family(measured):
    values = measured(chapter.experiment_growth)
    # Ten times smaller spread: 52.3 within 3 sd of 0.4, and two grid steps of 1.2 %.
    assert abs(values["exponential_many"] - 52.3).max() < 2
    assert values["exponential_many"].std() < values["exponential_few"].std() / 2


def test_family_and_data_have_to_be_right_both(measured):
    values = measured(chapter.experiment_growth)
    assert (abs(values["saturating_many"] - 1) < 0.35).all()  # the grid is 10 % wide
    assert values["saturating_few"].max() > 10 and values["saturating_few"].min() < 0.5
    # In the window the two families cannot be told apart.
    assert abs(values["saturating_held"] - values["exponential_held"]).max() < 0.02


def test_data_from_all_weeks_expose_the_wrong_family(measured):
    values = measured(chapter.experiment_growth)
    # Forty seeds: 5.4 to 10 times.
    assert (values["exponential_wide"] > 4 * values["saturating_wide"]).all()
    assert values["saturating_wide"].mean() == pytest.approx(0.1, abs=0.015)


def test_the_factor_of_equation_6():
    for week, factor in ((5.0, 1.049), (12.0, 55.3)):
        t = torch.tensor([week], dtype=torch.float64)
        ratio = (t - chapter.saturating(t, TRUTH)).exp().item()
        assert ratio == pytest.approx(1 + (math.exp(week) - 1) / 3000, rel=1e-12)
        assert ratio == pytest.approx(factor, abs=0.05 if week == 12 else 5e-4)
    n = 3000 / (1 + 2999 * math.exp(-12))
    assert chapter.saturating(LATE, TRUTH).exp().item() == pytest.approx(n, rel=1e-12)
    assert math.exp(12) / n == pytest.approx(55.3, abs=0.06)


def test_the_slope_of_equation_7():
    t = torch.linspace(0, 5, 100_001, dtype=torch.float64)
    log_n = chapter.saturating(t, TRUTH)
    w = torch.trapezoid(t * log_n, t) / torch.trapezoid(t * t, t)
    formula = 1 - (4 * math.exp(5) - 11.5) / (3000 * 125 / 3)
    assert formula == pytest.approx(0.9953, abs=5e-5)
    assert w.item() == pytest.approx(formula, abs=1e-4)  # the second order is 7e-5
    factor = (12 * w - chapter.saturating(LATE, TRUTH)).exp().item()
    assert factor == pytest.approx(52.3, abs=0.1)


def test_log_difference_is_a_relative_error():
    assert math.exp(0.1) - 1 == pytest.approx(0.1, abs=0.006)


# The derivation


def test_search_returns_the_best_candidate():
    x = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    grid = torch.tensor([[0.5], [2.0], [1.9], [3.0]], dtype=torch.float64)
    assert fit_by_search(chapter.exponential, grid, x, 2 * x).tolist() == [2.0]
    assert risk(chapter.exponential, grid[3], x, 2 * x) == pytest.approx(14 / 3)


@pytest.mark.parametrize("d", [2, 10, 1000])
def test_no_unit_direction_beats_the_negative_gradient(d):
    g = torch.Generator().manual_seed(d)
    a = torch.randn(d, generator=g, dtype=torch.float64)
    theta = torch.randn(d, generator=g, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad((theta - a).pow(4).sum(), theta)
    u = torch.randn(5000, d, generator=g, dtype=torch.float64)
    u = u / u.norm(dim=1, keepdim=True)
    assert (u @ gradient).min() >= -gradient.norm() * (1 + 1e-12)
    best = -gradient / gradient.norm()
    assert (best @ gradient).item() == pytest.approx(-gradient.norm().item(), rel=1e-12)
    # The identity behind (3).
    left = (u + gradient / gradient.norm()).square().sum(1)
    assert torch.allclose(left, 2 + 2 * u @ gradient / gradient.norm(), atol=1e-12)
    # The typical share is 1 / sqrt(d); 5000 draws know it to 1 %.
    assert (u @ best).square().mean().sqrt().item() == pytest.approx(d**-0.5, rel=0.05)


def test_equation_2_is_the_first_order():
    f = lambda p: (p**4).sum()  # noqa: E731
    theta = torch.tensor([1.0, -2.0], dtype=torch.float64)
    u = torch.tensor([0.6, 0.8], dtype=torch.float64)
    slope = (4 * theta**3) @ u
    errors = [(f(theta + e * u) - f(theta) - e * slope).abs().item() for e in (1e-2, 1e-3)]
    assert errors[0] == pytest.approx(100 * errors[1], rel=0.05)  # o(e): here e squared


def test_the_largest_norm_has_another_steepest_direction():
    g = torch.tensor([3.0, -0.1, 1.0], dtype=torch.float64)
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 3)
    assert (corners @ g).min() == -g.abs().sum() == g @ -g.sign()
    assert -(g @ (-g / g.abs().max())) < g.abs().sum() - 0.5


def test_training_error_below_best_risk_below_risk_in_use():
    # Equation (5) with 21 constants as the family and |y - theta|^2: risks by formula.
    g = torch.Generator().manual_seed(0)
    y = torch.randn(20_000, 10, generator=g, dtype=torch.float64)  # (repeats, n)
    thetas = torch.linspace(-1, 1, 21, dtype=torch.float64)
    empirical = (y[:, :, None] - thetas).square().mean(1)  # (repeats, 21)
    risks = 1 + thetas**2
    # For a fixed theta the empirical risk is unbiased; sd of a mean 0.5 / sqrt(20000) = 0.004.
    assert torch.allclose(empirical.mean(0), risks, atol=0.02)
    train = empirical.min(1).values.mean()
    use = risks[empirical.argmin(1)].mean()
    assert train < risks.min() - 0.05
    assert use > risks.min() + 0.05


# Reinforcement learning


def test_constant_rewards_are_worth_r_over_one_minus_gamma():
    total = sum(0.9**t * 0.8 for t in range(500))
    assert total == pytest.approx(0.8 / (1 - 0.9), rel=1e-12)
    assert pytest.approx(10) == 1 / (1 - 0.9)


def test_predicted_rewards():
    p = chapter.ARMS
    assert 0.9 * max(p) + 0.1 * mean(p) == pytest.approx(0.77)
    assert sum(q * q for q in p) / sum(p) == pytest.approx(0.62)
    assert mean(p) == pytest.approx(0.5)


def test_epsilon_greedy_earns_more_than_uniform(measured):
    values = measured(chapter.experiment_bandit)
    assert len(values["explore"]) >= 10
    # Binomial sd of a run 0.011; forty seeds lie between 0.24 and 0.29 above.
    assert (values["explore"] - values["uniform"] > 0.2).all()
    assert values["explore"].mean() == pytest.approx(0.77, abs=0.02)
    assert values["uniform"].mean() == pytest.approx(0.5, abs=0.015)  # 4 sd of the mean
    # The syllabus: 0.766 against 0.488, one run each.
    assert abs(values["explore"] - 0.766).max() < 0.06
    assert abs(values["uniform"] - 0.488).max() < 0.06


def test_greedy_stays_with_the_first_arm_that_pays(measured):
    values = measured(chapter.experiment_bandit)
    nearest = abs(values["greedy"][:, None] - torch.tensor(chapter.ARMS).numpy()).min(1)
    assert (nearest < 0.04).all()  # 3.5 sd of one run
    assert values["greedy"].std() > 5 * values["explore"].std()
    # A run has sd 0.24 between arms; 400 runs know the mean to 0.012.
    assert values["greedy_forty"].mean() == pytest.approx(0.62, abs=0.04)


def test_share_of_each_arm_without_exploration():
    world = chapter.constant_arms(chapter.ARMS, 200)
    ends = torch.tensor([sum(bandit_episode(world, 0.0, s)[100:]) / 100 for s in range(600)])
    arms = (ends[:, None] - torch.tensor(chapter.ARMS)).abs().argmin(1)
    shares = torch.bincount(arms, minlength=3) / 600
    # Binomial sd 0.02, a few runs of 100 steps fall next to the wrong arm.
    assert torch.allclose(shares, torch.tensor(chapter.ARMS) / 1.5, atol=0.06)


def test_without_exploration_the_first_ten_steps_are_as_good():
    world = chapter.constant_arms(chapter.ARMS, 400)
    start, end = {}, {}
    for eps in (0.0, 0.1):
        runs = torch.tensor([bandit_episode(world, eps, s) for s in range(300)]).float()
        start[eps], end[eps] = runs[:, :10].mean().item(), runs[:, 300:].mean().item()
    assert abs(start[0.0] - start[0.1]) < 0.04  # the same episodes; sd of a mean 0.01
    assert end[0.1] > end[0.0] + 0.1


def test_the_estimate_is_the_average_of_the_rewards():
    # Of one arm nothing can be explored: every step pays what the arm pays.
    rewards = bandit_episode(torch.full((500, 1), 0.3), 0.0, seed=0)
    assert set(rewards) == {0, 1} and mean(rewards) == pytest.approx(0.3, abs=0.09)
    value = 0.0
    for k, reward in enumerate(rewards, 1):
        value += (reward - value) / k
    assert value == pytest.approx(mean(rewards), rel=1e-12)


def test_less_exploration_has_a_higher_limit_and_a_lower_sum():
    world = chapter.constant_arms(chapter.ARMS, 2000)
    limits = [(1 - eps) * 0.8 + eps * 0.5 for eps in (0.01, 0.1, 0.3)]
    assert limits == pytest.approx([0.797, 0.77, 0.71])
    ends = [mean([mean(bandit_episode(world, eps, s)) for s in range(30)]) for eps in (0.01, 0.1)]
    assert ends[0] < ends[1]


# The networks


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("FC", 784 * 64 + 64 + 64 * 10 + 10),
        ("CNN", 8 * 25 + 8 + 16 * 8 * 25 + 16 + 256 * 10 + 10),
        ("RNN", 64 * (28 + 64 + 2) + 64 * 10 + 10),
    ],
)
def test_sizes_and_shapes_of_the_zoo(name, size):
    net = chapter.network_zoo(seed=0)[name]
    assert sum(p.numel() for p in net.parameters()) == size
    assert size == {"FC": 50890, "CNN": 5994, "RNN": 6666}[name]
    assert net(torch.zeros(5, 1, 28, 28)).shape == (5, 10)
    if name != "FC":
        assert 7 < 50890 / size < 9  # about eight times fewer


def test_the_figure_of_the_cnn_shows_its_shapes():
    x, shapes = torch.zeros(1, 1, 28, 28), []
    for layer in chapter.network_zoo(seed=0)["CNN"][:6]:
        x = layer(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes[0::3] == [(8, 24, 24), (16, 8, 8)]
    assert shapes[2::3] == [(8, 12, 12), (16, 4, 4)]


@pytest.mark.parametrize("steps", [1, 7, 40])
def test_rnn_by_hand_equals_torch(steps):
    torch.manual_seed(steps)
    rnn = nn.RNN(3, 5)
    x = torch.randn(steps, 2, 3)
    states, last = rnn(x)
    by_hand = chapter.rnn_by_hand(rnn, x)
    assert torch.allclose(by_hand, states, atol=1e-6)  # float32 sums in another order
    assert torch.allclose(by_hand[-1], last[0], atol=1e-6)


def test_rnn_has_fifty_parameters_five_of_them_idle():
    rnn = nn.RNN(3, 5)
    assert sum(p.numel() for p in rnn.parameters()) == 50 == 5 * (3 + 5 + 2)
    x = torch.randn(7, 2, 3)
    before = rnn(x)[0]
    with torch.no_grad():
        rnn.bias_ih_l0 += rnn.bias_hh_l0
        rnn.bias_hh_l0.zero_()
    assert torch.allclose(rnn(x)[0], before, atol=1e-6)
    assert sum(p.numel() for p in nn.RNN(28, 64).parameters()) == 6016
    assert 64 * (28 + 64 + 1) == 5952


def test_an_rnn_reads_any_length():
    zoo = chapter.network_zoo(seed=0)
    for rows in (3, 28, 100):
        assert zoo["RNN"](torch.zeros(2, 1, rows, 28)).shape == (2, 10)
    for name in ("FC", "CNN"):
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            zoo[name](torch.zeros(2, 1, 100, 28))


def test_three_algorithms_find_the_same_slope():
    t, y = chapter.observe(40, 5, seed=3)
    exact = torch.linalg.lstsq(t[:, None], y[:, None]).solution.item()
    found = fit_by_search(chapter.exponential, chapter.growth_grid(), t, y).item()
    w = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.mse_loss(w * t, y).backward()
        optimizer.step()
    assert found == pytest.approx(exact, abs=0.0005)  # half a step of the grid
    assert w.item() == pytest.approx(exact, abs=1e-9)


# Transfer


def test_transfer_helps_a_task_that_needs_what_was_learnt(measured):
    values = measured(chapter.experiment_transfer)
    # Forty seeds: 0.01 to 0.20 above the pixels, 0.12 in the mean, sd 0.04.
    assert (values["odd_net"] - values["odd_pixels"] > 0).all()
    assert (values["odd_net"] - values["odd_pixels"]).mean() > 0.08
    assert values["odd_net"].mean() == pytest.approx(values["digits"].mean(), abs=0.03)
    assert pytest.approx(0.005, abs=5e-4) == 0.9**50


def test_transfer_ruins_a_task_that_needs_what_was_dropped(measured):
    values = measured(chapter.experiment_transfer)
    # Forty seeds: 0.21 to 0.39.
    assert (values["dark_pixels"] - values["dark_net"] > 0.15).all()
    assert values["dark_net"].mean() == pytest.approx(0.5, abs=0.06)


def test_the_ink_is_lost_in_the_last_layers():
    hits = torch.zeros(4)
    for seed in range(5):
        X, y, X_test, _ = load_digits(seed)
        assert X.shape == (1437, 64)
        net = chapter.train_digits(X, y, seed)
        ink, ink_test = X.mean(1), X_test.mean(1)
        for layer in range(4):
            old = net[: layer + 1]
            answer = chapter.new_head(old(X[:50]), ink[:50] > ink.median())
            hits[layer] += (answer(old(X_test)) == (ink_test > ink.median())).float().mean() / 5
    assert (hits[:2] > 0.75).all() and (hits[2:] < 0.7).all() and hits[3] < 0.58


# Where it does not help


@pytest.mark.parametrize(("n", "train", "new"), [(40, 0.75, 1.345), (400, 0.975, 1.026)])
def test_learning_from_nothing_is_worse_than_not_learning(measured, n, train, new):
    values = measured(chapter.experiment_nothing)
    assert 1 - 10 / n == train
    assert 1 + 10 / (n - 11) == pytest.approx(new, abs=5e-4)
    # 200 problems a seed, ten seeds: sd of the mean 0.006 at n = 40, less at 400.
    assert values[f"train_{n}"].mean() == pytest.approx(train, abs=0.025)
    assert values[f"new_{n}"].mean() == pytest.approx(new, abs=0.025)
    assert (values[f"train_{n}"] < 1).all() and (values[f"new_{n}"] > 1).all()


def test_samples_needed_to_halt_the_harm_at_a_tenth():
    assert pytest.approx(1.1) == 1 + 10 / (111 - 11)
    _, new = chapter.risks_without_signal(111, 10, 500, seed=0)
    assert new == pytest.approx(1.1, abs=0.03)  # 50 000 squared normals: sd 0.007


def test_equal_arms_leave_nothing_to_gain(measured):
    values = measured(chapter.experiment_bandit)
    gain = values["explore_same"] - values["uniform_same"]
    assert abs(gain.mean()) < 0.02  # sd of the mean of ten differences: 0.005


def test_after_a_change_the_learner_is_worse_than_chance(measured):
    values = measured(chapter.experiment_change)
    # Forty seeds: 0.02 to 0.29 below chance, 0.21 in the mean, sd 0.07.
    assert (values["average_after"] < values["uniform_after"]).all()
    assert (values["uniform_after"] - values["average_after"]).mean() > 0.15
    assert values["average_after"].mean() == pytest.approx(0.23, abs=0.08)
    assert values["average_before"].mean() == pytest.approx(0.77, abs=0.04)
    # Forgetting recovers (0.18 to 0.28 above chance), and costs a little while nothing changes.
    assert (values["recent_after"] > values["uniform_after"] + 0.1).all()
    assert (values["recent_after"] > values["average_after"] + 0.2).all()
    assert values["recent_before"].mean() < values["average_before"].mean()


def test_the_arithmetic_of_the_change():
    pulls = 1000 * (0.9 + 0.1 / 3)
    assert pulls == pytest.approx(933, abs=0.5)
    assert (0.8 * pulls + 0.2 * pulls) / (2 * pulls) == pytest.approx(0.5)
    assert pulls / (0.9 + 0.1 / 3) == pytest.approx(1000)
    assert pytest.approx(0.23) == 0.9 * 0.2 + 0.1 * 0.5
    k = math.log(0.5) / math.log(0.9)
    assert k == pytest.approx(6.6, abs=0.05)
    assert 0.2 + 0.6 * 0.9**7 < 0.5 < 0.2 + 0.6 * 0.9**6


# Errata


def test_e07_model_is_architecture_and_parameters():
    one, two = (chapter.network_zoo(seed)["FC"] for seed in (0, 1))
    x = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    assert (one(x) - two(x)).abs().max() > 0.01
    two.load_state_dict(one.state_dict())  # no data involved
    assert torch.equal(one(x), two(x))


def test_e07_same_structure_and_data_give_two_models():
    X, y, X_test, _ = load_digits(0)
    one, two = (chapter.train_digits(X, y, seed) for seed in (0, 1))
    assert (one(X_test).argmax(1) != two(X_test).argmax(1)).any()


def test_e07_import_name_is_torch():
    assert importlib.util.find_spec("torch") is not None
    assert importlib.util.find_spec("pytorch") is None


def test_e14_error_rate_is_flat_where_cross_entropy_is_not():
    X, y, _, _ = load_digits(0)
    torch.manual_seed(0)
    layer = nn.Linear(64, 10)
    scores = layer(X)
    loss = nn.functional.cross_entropy(scores, y)
    loss.backward()
    direction = layer.weight.grad / layer.weight.grad.norm()
    assert layer.weight.grad.norm() > 0.01
    with torch.no_grad():
        layer.weight -= 1e-5 * direction
        moved = layer(X)
        assert nn.functional.cross_entropy(moved, y) < loss
        assert torch.equal(scores.argmax(1) == y, moved.argmax(1) == y)  # not a single answer
    with pytest.raises(RuntimeError, match="does not require grad"):
        (layer(X).argmax(1) != y).float().mean().backward()


# The clinic


def test_other_image_sizes_fail_at_the_linear_layer():
    zoo = chapter.network_zoo(seed=0)
    wide = torch.zeros(5, 1, 32, 32)
    with pytest.raises(RuntimeError, match="5x1024 and 784x64"):
        zoo["FC"](wide)
    with pytest.raises(RuntimeError, match="5x400 and 256x10"):
        zoo["CNN"](wide)
    assert zoo["CNN"][:6](wide).shape == (5, 16, 5, 5)  # the convolutions do not mind
    with pytest.raises(RuntimeError, match="Expected 28, got 32"):
        zoo["RNN"](wide)


@pytest.mark.parametrize(("batch_first", "leaks"), [(False, True), (True, False)])
def test_batch_and_time_in_the_wrong_order_leak_between_samples(batch_first, leaks):
    torch.manual_seed(0)
    x = torch.randn(4, 6, 3)  # (N, T, d)
    changed = x.clone()
    changed[0] += 1
    rnn = nn.RNN(3, 5, batch_first=batch_first)
    assert rnn(x)[0].shape == (4, 6, 5)
    moved = (rnn(changed)[0] - rnn(x)[0]).abs().amax((1, 2)) > 0
    assert moved.tolist() == [True, leaks, leaks, leaks]


# The exercises


def test_the_exponential_is_twice_the_truth_in_week_8():
    week = torch.tensor([math.log(3001)], dtype=torch.float64)
    assert week.item() == pytest.approx(8.01, abs=0.005)
    assert (week - chapter.saturating(week, TRUTH)).exp().item() == pytest.approx(2)


def test_forty_samples_to_week_8_do():
    spread = {}
    for weeks in (5, 8):
        fits = [
            fit_by_search(
                chapter.saturating, chapter.saturating_grid(), *chapter.observe(40, weeks, s)
            )
            for s in range(10)
        ]
        logs = torch.cat([chapter.saturating(LATE, fit) for fit in fits])
        spread[weeks] = (logs - chapter.saturating(LATE, TRUTH)).abs().max().item()
    assert spread[8] < math.log(2) < math.log(10) < spread[5]
