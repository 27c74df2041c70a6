"""The claims of docs/zh/linear/linear_regression.md.

Unless a comment says otherwise, a tolerance of 1e-9 stands for "equal in float64": the quantities
are of order 1 to 100 and rounding leaves about 1e-13.
"""

import copy
import math
import warnings
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from snippets.linear import linear_regression as chapter
from snippets.linear.linear_regression import add_ones, gradient, gradient_descent, mse


@pytest.fixture
def points():
    return chapter.points15()


@pytest.fixture
def hessian(points):
    A = add_ones(points[0])
    return 2 / len(A) * A.T @ A


def standardise(X, correction=0):
    return (X - X.mean(dim=0)) / X.std(dim=0, correction=correction)


def largest_eigenvalue(A):
    return torch.linalg.eigvalsh(2 / len(A) * A.T @ A)[-1].item()


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


# The failure: the notes' run


def test_least_squares_of_the_15_points(points):
    X, y = points
    theta = chapter.normal_equation(X, y)
    # The page prints five and six decimals.
    assert theta.tolist() == pytest.approx([0.25999, 0.74767], abs=5e-6)
    assert mse(add_ones(X), y, theta) == pytest.approx(0.168915, abs=5e-7)


def test_1000_steps_at_0_001_look_converged_and_are_not(points):
    X, y = points
    exact = chapter.normal_equation(X, y)
    layer, losses = chapter.fit_layer(X, y, lr=0.001, steps=1000)
    assert losses[-1] / losses[0] == pytest.approx(1 - 0.96, abs=0.006)
    assert 1 - losses[-1] / losses[-101] == pytest.approx(0.01, abs=0.002)
    assert layer.bias.item() / exact[1].item() == pytest.approx(0.28, abs=0.005)
    assert losses[-1] / mse(add_ones(X), y, exact) == pytest.approx(1.2, abs=0.05)


def test_5000_steps_at_0_02_reach_the_minimum(points):
    X, y = points
    exact = chapter.normal_equation(X, y)
    layer, losses = chapter.fit_layer(X, y, lr=0.02, steps=5000)
    assert losses[-1] == pytest.approx(mse(add_ones(X), y, exact), abs=1e-6)
    assert [layer.weight.item(), layer.bias.item()] == pytest.approx(exact.tolist(), abs=1e-6)


def test_the_notes_code_with_seed_0(points):
    X, y = (t.float() for t in points)
    with pytest.raises(NameError, match="name 'Variable' is not defined"):
        exec("import torch\nVariable(torch.ones(15, 1))", {})
    torch.manual_seed(0)
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for _ in range(1000):
        loss = F.mse_loss(model(X), y.unsqueeze(1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # float32, and the last loss is the one before the last step: five digits agree.
    assert loss.item() == pytest.approx(0.17116, abs=1e-4)
    assert model.weight.item() == pytest.approx(0.2788, abs=1e-3)
    assert model.bias.item() == pytest.approx(0.6167, abs=1e-3)


def test_the_default_start_of_a_linear_layer_is_uniform_on_minus_one_to_one():
    starts = torch.stack([nn.Linear(1, 1).weight.detach().squeeze() for _ in range(2000)])
    # 2000 draws: the extremes of U(-1, 1) lie within 0.01 of the ends but for one case in e^10.
    assert -1 <= starts.min() < -0.99 and 0.99 < starts.max() <= 1
    assert starts.abs().mean() == pytest.approx(0.5, abs=0.03)  # sd of the mean 0.0065


def test_where_1000_steps_end_depends_on_the_start_and_5000_faster_steps_do_not(measured):
    values = measured(chapter.experiment_start)
    X, y = chapter.points15()
    minimum = mse(add_ones(X), y, chapter.normal_equation(X, y))
    assert (values["loss_slow"] > minimum).all()
    # 30 seeds: from 0.169 to 0.387; the ten of the page must at least spread by a half.
    assert values["loss_slow"].max() > 1.5 * values["loss_slow"].min()
    assert values["gap_b_slow"].mean() > 0.2
    assert values["loss_fast"] == pytest.approx(minimum, abs=1e-6)
    assert (values["gap_b_fast"] < 1e-6).all()


# The derivation


def test_gradient_formula_equals_autograd_and_finite_differences(points):
    X, y = points
    A = add_ones(X)
    theta = double(0.3, -1.2).requires_grad_()
    (A @ theta - y).square().mean().backward()
    by_formula = gradient(A, y, theta.detach())
    assert torch.allclose(by_formula, theta.grad, rtol=1e-12)
    for j in range(2):
        step = torch.zeros(2, dtype=torch.float64)
        step[j] = 1e-6
        up, down = mse(A, y, theta.detach() + step), mse(A, y, theta.detach() - step)
        # The loss is quadratic, so only rounding (1e-15 / 1e-6) separates the two.
        assert (up - down) / 2e-6 == pytest.approx(by_formula[j].item(), rel=1e-6)


def test_the_normal_equation_by_hand():
    X, y = double(1, 2, 3).unsqueeze(1), double(2.5, 4.5, 6.5)
    A = add_ones(X)
    assert torch.equal(A.T @ A, double(14, 6, 6, 3).view(2, 2))
    assert torch.equal(A.T @ y, double(31, 13.5))
    inverse = double(3, -6, -6, 14).view(2, 2) / (14 * 3 - 6**2)
    assert torch.allclose(inverse @ (A.T @ y), double(2, 0.5))
    assert torch.allclose(chapter.normal_equation(X, y), double(2, 0.5))


def test_four_ways_to_the_same_minimum(points):
    X, y = points
    A = add_ones(X)
    exact = chapter.normal_equation(X, y)
    assert torch.allclose(chapter.least_squares(X, y), exact, atol=1e-9)
    assert torch.allclose(torch.linalg.pinv(A) @ y, exact, atol=1e-9)
    assert torch.allclose(torch.linalg.inv(A.T @ A) @ A.T @ y, exact, atol=1e-9)
    assert torch.allclose(gradient_descent(A, y, 0.02, 5000)[0], exact, atol=1e-9)


def test_residuals_are_orthogonal_to_every_feature_and_sum_to_zero(points):
    X, y = points
    A = add_ones(X)
    theta = chapter.normal_equation(X, y)
    residual = A @ theta - y
    assert (A.T @ residual).abs().max() < 1e-9
    assert residual.sum().abs() < 1e-9
    assert X.mean() * theta[0] + theta[1] == pytest.approx(y.mean().item(), abs=1e-9)


def test_the_loss_is_the_minimum_plus_a_square(points):
    X, y = points
    A = add_ones(X)
    theta = chapter.normal_equation(X, y)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        delta = torch.randn(2, dtype=torch.float64, generator=generator)
        expected = mse(A, y, theta) + (A @ delta).square().mean().item()
        assert mse(A, y, theta + delta) == pytest.approx(expected, rel=1e-9)
        assert mse(A, y, theta + delta) > mse(A, y, theta)


def test_hessian_of_the_15_points(points, hessian):
    X, y = points
    assert X.square().mean() == pytest.approx(42.3264, abs=5e-5)
    assert X.var(correction=0) == pytest.approx(5.5471, abs=5e-5)
    slow, fast = torch.linalg.eigvalsh(hessian).tolist()
    assert fast == pytest.approx(86.40, abs=0.005)
    assert slow == pytest.approx(0.2568, abs=5e-5)
    assert fast / slow == pytest.approx(336, abs=0.5)
    assert 2 / fast == pytest.approx(0.0231, abs=5e-5)
    assert slow + fast == pytest.approx(2 * (X.square().mean().item() + 1))
    assert slow * fast == pytest.approx(4 * X.var(correction=0).item())
    by_autograd = torch.autograd.functional.hessian(
        lambda theta: (add_ones(X) @ theta - y).square().mean(), double(0, 0)
    )
    assert torch.allclose(by_autograd, hessian)


def test_each_eigendirection_shrinks_by_its_own_factor(points, hessian):
    X, y = points
    exact = chapter.normal_equation(X, y)
    values, vectors = torch.linalg.eigh(hessian)
    start = double(3, -2)
    for lr, steps in ((0.001, 50), (0.02, 50)):
        theta, _ = gradient_descent(add_ones(X), y, lr, steps, start)
        predicted = (1 - lr * values) ** steps * (vectors.T @ (start - exact))
        assert torch.allclose(vectors.T @ (theta - exact), predicted, atol=1e-9)


def test_77_percent_of_the_slow_error_remain_whatever_the_start(measured):
    assert pytest.approx(0.7735, abs=5e-5) == (1 - 0.001 * 0.2568) ** 1000
    values = measured(chapter.experiment_start)
    assert values["remaining_slow"] == pytest.approx(0.7735, abs=5e-5)


def test_the_learning_rate_bound_is_sharp(points):
    X, y = points
    assert chapter.fit_layer(X, y, 0.023, 3000)[1][-1] < 0.17
    for lr in (0.0233, 0.1):
        losses = chapter.fit_layer(X, y, lr, 3000)[1]
        assert not losses[-1] < losses[0]


def test_one_step_after_standardising(points):
    X, y = points
    minimum = mse(add_ones(X), y, chapter.normal_equation(X, y))
    A = add_ones(standardise(X))
    assert torch.allclose(2 / 15 * A.T @ A, 2 * torch.eye(2, dtype=torch.float64), atol=1e-9)
    assert chapter.fit_layer(standardise(X), y, 0.5, 2)[1][1] == pytest.approx(minimum, abs=1e-9)
    # The default correction of std leaves a variance of 14/15: the step falls short by 1/15 of w,
    # a loss of (w s / 15)^2 = 1.7e-3, far above rounding.
    short = chapter.fit_layer(standardise(X, correction=1), y, 0.5, 2)[1][1]
    assert short > minimum + 1e-3


def test_the_standard_deviation_of_torch_divides_by_n_minus_1():
    x = double(1, 2, 3)
    assert x.std().item() == pytest.approx(1.0)
    assert x.std(correction=0).item() == pytest.approx(math.sqrt(2 / 3))


# The code


def test_scatter_is_wide_because_of_the_other_feature():
    X, y = chapter.make_data(1000, (2.0, -3.4), 4.2, 0.01, seed=0)
    only_x2 = X[:, 1:]
    residual = y - add_ones(only_x2) @ chapter.normal_equation(only_x2, y)
    assert residual.std().item() == pytest.approx(
        2.0, rel=0.1
    )  # sd of a sd: 2 / sqrt(2000) = 0.045
    both = y - add_ones(X) @ chapter.normal_equation(X, y)
    assert residual.std() > 100 * both.std()
    assert chapter.normal_equation(only_x2, y)[0].item() == pytest.approx(-3.4, abs=0.2)


def test_data_iter_gives_every_sample_once_and_keeps_pairs_together():
    X = torch.arange(105.0).unsqueeze(1)
    batches = list(chapter.data_iter(10, X, X[:, 0], torch.Generator().manual_seed(0)))
    assert [len(yb) for _, yb in batches] == [10] * 10 + [5]
    assert all(torch.equal(xb[:, 0], yb) for xb, yb in batches)
    order = torch.cat([yb for _, yb in batches])
    assert torch.equal(order.sort().values, X[:, 0])
    assert not torch.equal(order, X[:, 0])


def test_one_step_of_train_scratch_is_equation_11():
    X, y = chapter.make_data(8, (2.0, -3.4), 4.2, 0.01, seed=0)
    w, b = chapter.train_scratch(X, y, lr=0.03, epochs=1, batch_size=8, seed=0)
    assert torch.allclose(w, -0.03 / 8 * (2 * (0 - y).unsqueeze(1) * X).sum(dim=0))
    assert torch.allclose(b, -0.03 / 8 * (2 * (0 - y)).sum())


def test_train_scratch_equals_nn_module_on_the_same_batches():
    X, y = chapter.make_data(105, (2.0, -3.4), 4.2, 0.01, seed=1)
    w, b = chapter.train_scratch(X, y, lr=0.03, epochs=3, batch_size=10, seed=0)
    model = chapter.LinearRegression(2)
    nn.init.zeros_(model.linear.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        chapter.train_epoch(model, chapter.data_iter(10, X, y, generator), optimizer)
    # float32 and another order of additions: a few units of 1e-7.
    assert torch.allclose(w, model.linear.weight[0], atol=1e-5)
    assert torch.allclose(b, model.linear.bias[0], atol=1e-5)


def test_half_the_square_needs_twice_the_rate():
    X, y = chapter.make_data(10, (2.0, -3.4), 4.2, 0.01, seed=0)
    w, b = chapter.train_scratch(X, y, lr=0.03, epochs=1, batch_size=10, seed=0)
    layer = nn.Linear(2, 1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.06)
    (0.5 * (layer(X).squeeze(1) - y) ** 2).mean().backward()
    optimizer.step()
    assert torch.allclose(layer.weight[0], w) and torch.allclose(layer.bias[0], b)


def test_all_three_ways_recover_the_parameters(measured):
    values = measured(chapter.experiment_recovery)
    for name in ("scratch", "module", "closed"):
        assert (values[f"error_{name}"] < 1e-2).all()
    # Means over ten seeds: 0.0007, 0.0007 and 0.0004; three blocks of ten agree.
    assert values["error_closed"].mean() < values["error_scratch"].mean()
    assert values["error_closed"].mean() < values["error_module"].mean()


def test_zero_is_a_fine_start_here_and_not_with_a_hidden_layer():
    X, y = chapter.make_data(50, (2.0, -3.4), 4.2, 0.01, seed=0)
    w, _ = chapter.train_scratch(X, y, lr=0.1, epochs=200, batch_size=50, seed=0)
    assert torch.allclose(w, torch.tensor([2.0, -3.4]), atol=0.01)
    hidden = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    for parameter in hidden.parameters():
        nn.init.zeros_(parameter)
    optimizer = torch.optim.SGD(hidden.parameters(), lr=0.1)
    for _ in range(20):
        optimizer.zero_grad()
        F.mse_loss(hidden(X).squeeze(1), y).backward()
        optimizer.step()
    assert not hidden[0].weight.any()


def test_expand_as_is_a_method_and_broadcasting_does_it():
    with pytest.raises(NameError, match="name 'expand_as' is not defined"):
        exec("expand_as(x)", {"x": torch.ones(3)})
    a, x = torch.tensor([2.0]), torch.arange(6.0).view(3, 2)
    assert torch.equal(a * x, a.expand_as(x) * x)


def test_parameters_and_buffers_of_the_module():
    model = chapter.LinearRegression(56)
    assert sum(p.numel() for p in model.parameters()) == 57
    assert sorted(dict(model.named_buffers())) == ["mean", "std"]
    assert sorted(model.state_dict()) == ["linear.bias", "linear.weight", "mean", "std"]


def test_initialisation_of_the_module():
    weight = chapter.LinearRegression(10_000).linear.weight
    assert weight.std().item() == pytest.approx(0.01, rel=0.05)  # 10 000 draws: 0.7 %
    assert chapter.LinearRegression(3).linear.bias.tolist() == [0.0]


def test_without_fit_scaler_the_scaler_is_the_identity():
    model = chapter.LinearRegression(3)
    X = torch.randn(5, 3)
    assert torch.allclose(model(X), model.linear(X).squeeze(1))
    assert model(X).shape == (5,)


def test_the_optimizer_leaves_the_buffers_alone():
    X, y = (t.float() for t in chapter.make_houses(64, seed=0))
    model = chapter.LinearRegression(2)
    model.fit_scaler(X)
    mean, std, weight = model.mean.clone(), model.std.clone(), model.linear.weight.clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.5)
    chapter.train_epoch(model, [(X, y)], optimizer)
    assert torch.equal(model.mean, mean) and torch.equal(model.std, std)
    assert not torch.equal(model.linear.weight, weight)
    inputs = (X - model.mean) / model.std
    assert torch.allclose(inputs.mean(dim=0), torch.zeros(2), atol=1e-5)
    assert torch.allclose(inputs.std(dim=0, correction=0), torch.ones(2), atol=1e-5)


def test_a_constant_feature_cannot_be_standardised():
    with pytest.raises(ValueError, match="constant"):
        chapter.LinearRegression(2).fit_scaler(torch.tensor([[1.0, 5.0], [2.0, 5.0]]))


def test_the_loss_exists_as_a_class_and_as_a_function():
    a, b = torch.randn(7), torch.randn(7)
    assert torch.equal(nn.MSELoss()(a, b), F.mse_loss(a, b))


def test_train_and_eval_set_a_flag_that_linear_ignores_and_dropout_reads():
    X = torch.randn(100, 3)
    model = chapter.LinearRegression(3)
    assert model.train().training and not model.eval().training
    assert torch.equal(model.train()(X), model.eval()(X))
    dropout = nn.Dropout(0.5)
    assert not torch.equal(dropout.train()(X), X)
    assert torch.equal(dropout.eval()(X), X)


def test_train_epoch_trains_and_evaluate_only_looks():
    class Spy(chapter.LinearRegression):
        def forward(self, X):
            output = super().forward(X)
            self.seen = (self.training, output.requires_grad)
            return output

    X, y = chapter.make_data(20, (2.0, -3.4), 4.2, 0.01, seed=0)
    model = Spy(2).eval()
    chapter.train_epoch(model, [(X, y)], torch.optim.SGD(model.parameters(), lr=0.1))
    assert model.seen == (True, True)
    before = copy.deepcopy(model.state_dict())
    loss = chapter.evaluate(model, X, y)
    assert model.seen == (False, False)
    assert loss == pytest.approx((model(X) - y).square().mean().item())
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_train_epoch_weights_the_last_small_batch_by_its_size():
    X, y = chapter.make_data(5, (1.0,), 0.0, 1.0, seed=0)
    model = chapter.LinearRegression(1)
    frozen = torch.optim.SGD(model.parameters(), lr=0.0)
    parts = [(X[:4], y[:4]), (X[4:], y[4:])]
    whole = chapter.evaluate(model, X, y)
    assert chapter.train_epoch(model, parts, frozen) == pytest.approx(whole, rel=1e-5)


# The recipe


def run_recipe(device=None):
    parts = chapter.split_three(*chapter.make_houses(1000, seed=0), 600, 200, seed=0)
    device = device or torch.device("cpu")
    train, valid, test = [(X.float().to(device), y.float().to(device)) for X, y in parts]
    generator = torch.Generator().manual_seed(0)
    loader = DataLoader(TensorDataset(*train), batch_size=32, shuffle=True, generator=generator)
    model = chapter.LinearRegression(2, generator)
    model.fit_scaler(train[0])
    model.to(device)
    history = chapter.train_module(model, loader, valid, epochs=10, lr=0.1)
    return model, history, train, valid, test


def test_split_three_is_a_partition():
    X = torch.arange(10.0).unsqueeze(1)
    parts = chapter.split_three(X, X[:, 0], 6, 2, seed=0)
    assert [len(y) for _, y in parts] == [6, 2, 2]
    assert torch.equal(torch.cat([y for _, y in parts]).sort().values, X[:, 0])
    assert all(torch.equal(x[:, 0], y) for x, y in parts)
    assert not torch.equal(torch.cat([y for _, y in parts]), X[:, 0])


def test_the_recipe_leaves_nothing_but_noise():
    model, history, train, _, test = run_recipe()
    root_mean_square = chapter.evaluate(model, *test) ** 0.5
    # Noise 20; the sd of its estimate from 200 samples is 20 / sqrt(400) = 1.
    assert root_mean_square == pytest.approx(20, abs=3)
    exact = chapter.normal_equation(train[0].double(), train[1].double())
    of_exact = mse(add_ones(test[0].double()), test[1].double(), exact) ** 0.5
    assert root_mean_square == pytest.approx(of_exact, rel=0.03)
    assert torch.allclose(model.mean, train[0].mean(dim=0))
    assert len(history) == 10


def test_train_module_returns_the_best_validation_epoch():
    model, history, _, valid, _ = run_recipe()
    best = min(valid_loss for _, valid_loss in history)
    assert chapter.evaluate(model, *valid) == pytest.approx(best, rel=1e-6)
    assert best < history[-1][1]  # here the last epoch is not the best one


def test_train_module_raises_when_every_epoch_diverges():
    X, y = chapter.make_houses(50, seed=0)
    data = (X.float(), y.float())
    model = chapter.LinearRegression(2)  # raw features: 0.1 is far above 2 / lambda_max
    with pytest.raises(ValueError, match="finite"):
        chapter.train_module(model, [data] * 50, data, epochs=2, lr=0.1)


def test_pick_device_returns_a_device_that_works():
    assert torch.ones(2, device=chapter.pick_device()).sum().item() == 2


@pytest.mark.gpu
def test_the_recipe_gives_the_same_model_on_cuda():
    on_cpu, on_cuda = run_recipe()[0], run_recipe(torch.device("cuda"))[0]
    # The batches are the same; float32 sums differ in order over 190 steps.
    for a, b in zip(on_cpu.parameters(), on_cuda.parameters(), strict=True):
        assert torch.allclose(a, b.cpu(), rtol=1e-3, atol=1e-2)


def test_save_and_load(tmp_path):
    model, _, _, _, test = run_recipe()
    chapter.save_model(model, tmp_path / "linear.pt")
    loaded = chapter.load_model(2, tmp_path / "linear.pt")
    assert not loaded.training
    assert torch.equal(loaded(test[0]), model(test[0]))
    assert type(torch.load(tmp_path / "linear.pt", weights_only=True)).__name__ == "OrderedDict"
    with pytest.raises(RuntimeError, match=r"size mismatch for linear\.weight"):
        chapter.load_model(3, tmp_path / "linear.pt")


def test_choosing_by_validation_loss_beats_a_lucky_batch_when_the_rate_is_large(measured):
    values = measured(chapter.experiment_selection)
    excess = {key: value - 1 for key, value in values.items()}
    # In ten blocks of ten seeds the mean excess of the lucky step is 2.9 to 5.6 times, that of the
    # last step 1.7 to 6.4 times that of the validated epoch.
    assert 0.6 > excess["hot_lucky"].mean() > 2 * excess["hot_valid"].mean()
    assert excess["hot_last"].mean() > 1.5 * excess["hot_valid"].mean()
    # With a small rate the two sensible ways differ by at most 0.01 in every block of ten.
    assert abs(excess["cool_valid"].mean() - excess["cool_last"].mean()) < 0.02
    assert excess["cool_last"].mean() < 0.5 * excess["hot_last"].mean()


# The comparison: standardising


def test_standardising_makes_gradient_descent_fast(measured):
    values = measured(chapter.experiment_scaling)
    assert (values["condition_raw"] > 1e5).all()
    assert (values["condition_scaled"] < 1.5).all()
    assert (abs(values["excess_scaled"]) < 1e-6).all()
    assert (values["excess_raw"] > 0.15).all()  # 50 seeds: 0.24 to 0.65


def test_centring_alone_mends_the_condition_and_worsens_the_loss(measured):
    values = measured(chapter.experiment_scaling)
    ratio = values["condition_raw"] / values["condition_centred"]
    assert (ratio > 150).all() and ratio.mean() == pytest.approx(230, rel=0.1)
    assert (values["loss_centred"] > 50 * values["loss_raw"]).all()
    assert values["loss_centred"].mean() / values["loss_raw"].mean() == pytest.approx(100, rel=0.2)


def test_the_loss_of_the_centred_arm_is_predicted(measured):
    assert 3 * 90 - 2 * 15 + 50 == 290
    assert pytest.approx(0.73, abs=0.005) == (1 - 1 / 625) ** 200
    assert pytest.approx(6e4, rel=0.03) == 290**2 * 0.73
    values = measured(chapter.experiment_scaling)
    for seed in range(3):
        X, y = chapter.make_houses(200, seed)
        lam = largest_eigenvalue(add_ones(X - X.mean(dim=0)))
        predicted = y.mean().item() ** 2 * (1 - 2 / lam) ** 200
        left = values["loss_centred"][seed] - values["loss_exact"][seed]
        assert left == pytest.approx(predicted, rel=1e-6)


def test_no_constant_rate_saves_the_raw_features():
    X, y = chapter.make_houses(200, seed=0)
    A = add_ones(X)
    minimum = mse(A, y, chapter.normal_equation(X, y))
    for share in (0.5, 1.0, 1.5, 1.9):
        theta, _ = gradient_descent(A, y, share / largest_eigenvalue(A), 100)
        assert mse(A, y, theta) > 1.1 * minimum


# Where it does not help


def test_standardising_changes_no_prediction_of_the_closed_form():
    X, y = chapter.make_houses(200, seed=0)
    scaled = standardise(X)
    theta, theta_scaled = chapter.normal_equation(X, y), chapter.normal_equation(scaled, y)
    assert torch.allclose(add_ones(X) @ theta, add_ones(scaled) @ theta_scaled, rtol=1e-9)
    w = theta_scaled[:2] / X.std(dim=0, correction=0)
    b = theta_scaled[2] - (w * X.mean(dim=0)).sum()
    assert torch.allclose(torch.cat([w, b.unsqueeze(0)]), theta, rtol=1e-8)


def test_nearly_equal_features(measured):
    values = measured(chapter.experiment_collinear)
    condition = values["condition"].mean()
    assert condition == pytest.approx(2000, rel=0.15)
    # Scaling each column by itself cannot separate two columns that agree.
    assert values["condition_scaled"].mean() == pytest.approx(condition, rel=0.05)
    unit = 2.0**-24
    assert -math.log10(2000**2 * unit) == pytest.approx(0.6, abs=0.05)
    assert -math.log10(2000 * unit) == pytest.approx(3.9, abs=0.05)
    # Ten blocks of ten seeds: normal 0.05 to 0.64, QR 3.4 to 4.0.
    assert values["digits_normal"].mean() == pytest.approx(0.6, abs=0.8)
    assert values["digits_qr"].mean() == pytest.approx(3.9, abs=0.8)
    assert (values["digits_qr"] > values["digits_normal"]).all()


def test_collinear_weights_mean_nothing_and_predict_well(measured):
    values = measured(chapter.experiment_collinear)
    predicted = 0.1 / (0.001 * math.sqrt(200))
    assert predicted == pytest.approx(7.1, abs=0.05)
    # 95 % of the chi distribution with 9 degrees of freedom: 0.55 to 1.45 of the true sd.
    assert 0.5 * predicted < values["w1_exact"].std(ddof=1) < 1.5 * predicted
    assert values["w1_exact"].min() < 0 < values["w1_exact"].max()
    assert values["w1_descent"] == pytest.approx(1.0, abs=0.03)
    # 1000 test samples: sd of the mean square 0.01 * sqrt(2 / 1000) = 0.0004.
    assert values["test_exact"] == pytest.approx(0.01, abs=0.002)
    assert values["test_descent"] == pytest.approx(values["test_exact"], abs=0.001)


def test_more_features_than_samples_the_start_decides(measured):
    values = measured(chapter.experiment_min_norm)
    for name in ("zero", "small", "large"):
        assert (values[f"train_{name}"] < 1e-20).all()
    assert (values["gap_zero"] < 1e-9).all()
    assert (values["gap_large"] > 4).all()  # sqrt(40) = 6.3
    # Predicted 40/60 + 0.01 and 40 more; |w|^2 has mean 1 and sd 0.18, blocks of ten 0.68 to 0.77.
    assert values["test_zero"].mean() == pytest.approx(0.68, abs=0.12)
    assert values["test_large"].mean() == pytest.approx(40.7, abs=6)
    assert values["test_small"].mean() == pytest.approx(
        values["test_zero"].mean() + 0.004, abs=0.04
    )
    assert (values["test_zero"] < values["test_nothing"]).all()
    assert values["test_zero"].mean() > 0.4  # not the true parameters either
    assert values["test_large"].mean() / values["test_zero"].mean() == pytest.approx(60, rel=0.2)


def test_the_normal_equation_fails_silently_when_d_exceeds_n(measured):
    values = measured(chapter.experiment_min_norm)
    assert (values["test_normal"] < math.inf).all()  # infinite where it raises
    assert (values["test_normal"] > 5 * values["test_zero"]).all()


def test_gradient_descent_never_leaves_the_row_space():
    generator = torch.Generator().manual_seed(0)
    A = torch.randn(5, 12, dtype=torch.float64, generator=generator)
    y = torch.randn(5, dtype=torch.float64, generator=generator)
    start = torch.randn(12, dtype=torch.float64, generator=generator)
    outside = torch.eye(12, dtype=torch.float64) - torch.linalg.pinv(A) @ A
    lr = 1 / largest_eigenvalue(A)
    early, _ = gradient_descent(A, y, lr, 7, start)
    assert torch.allclose(outside @ early, outside @ start, atol=1e-9)
    end, _ = gradient_descent(A, y, lr, 5000, start)
    assert torch.allclose(end, torch.linalg.pinv(A) @ y + outside @ start, atol=1e-8)
    assert (torch.linalg.pinv(A) @ y).norm() < end.norm()


def test_lstsq_on_the_cpu_gives_the_minimum_norm_solution():
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(5, 12, dtype=torch.float64, generator=generator)
    y = torch.randn(5, dtype=torch.float64, generator=generator)
    assert torch.allclose(
        chapter.least_squares(X, y), torch.linalg.pinv(add_ones(X)) @ y, atol=1e-9
    )


def test_memory_of_the_closed_form():
    assert (10**5) ** 2 * 4 == 40e9


# Errata


def test_e10_one_neuron_many_parameters():
    layer = nn.Linear(56, 1)
    assert layer.out_features == 1
    assert sum(p.numel() for p in layer.parameters()) == 57


def test_e10_the_number_of_parameters_does_not_determine_the_function():
    X = torch.randn(10, 56)
    assert not torch.allclose(nn.Linear(56, 1)(X), nn.Linear(56, 1)(X))


def test_e10_linear_in_the_parameters_is_enough():
    x = torch.linspace(-1, 3, 9, dtype=torch.float64)
    y = 1 - 4 * x + 3 * x**2
    features = chapter.polynomial_features(x, 2)
    assert torch.equal(features, torch.stack([x, x**2], dim=1))
    theta = chapter.normal_equation(features, y)
    assert torch.allclose(theta, double(-4, 3, 1), atol=1e-9)
    for feature in (torch.log(x + 2), x.abs()):
        theta = chapter.normal_equation(feature.unsqueeze(1), 5 * feature + 2)
        assert torch.allclose(theta, double(5, 2), atol=1e-9)


def test_e10_one_hot_needs_one_class_less():
    classes = torch.tensor([0, 1, 2, 0, 1, 2])
    y = double(5, 7, 4, 5, 7, 4)
    one_hot = F.one_hot(classes).double()
    assert torch.linalg.matrix_rank(add_ones(one_hot)) == 3  # of 4 columns
    theta = chapter.normal_equation(one_hot[:, 1:], y)
    assert torch.allclose(theta, double(2, -1, 5), atol=1e-9)


def test_e10_a_wrong_model_still_gives_the_best_line():
    x = torch.linspace(-1, 1, 101, dtype=torch.float64)
    A, y = add_ones(x.unsqueeze(1)), x**2
    theta = chapter.normal_equation(x.unsqueeze(1), y)
    best = mse(A, y, theta)
    assert best > 0.05  # the relation is not linear
    for dw in (-0.1, 0.0, 0.1):
        for db in (-0.1, 0.0, 0.1):
            if dw or db:
                assert mse(A, y, theta + double(dw, db)) > best


def test_e10_gradient_descent_approaches_and_does_not_arrive(points):
    X, y = points
    A = add_ones(X)
    minimum = mse(A, y, chapter.normal_equation(X, y))
    _, losses = gradient_descent(A, y, 0.02, 1000)
    assert all(a > b > minimum for a, b in pairwise(losses))


def test_e10_the_missing_square_costs_what_was_predicted(measured):
    values = measured(chapter.experiment_features)
    # 500 samples: sd of the first 0.3 a seed, 0.1 for the mean of ten; of the second 0.016 a seed.
    assert values["mse_plain"].mean() == pytest.approx(2.25, abs=0.3)
    assert values["mse_squared"] == pytest.approx(0.25, abs=0.06)


def test_e10_the_residuals_show_the_curve_and_the_labels_hide_it():
    X, y = chapter.make_curved(500, seed=0)
    residual = y - add_ones(X) @ chapter.normal_equation(X, y)
    square = X[:, 0] ** 2
    correlation = torch.corrcoef(torch.stack([square, residual, y]))[0]
    assert correlation[1] > 0.85
    assert correlation[2] < 0.3


def test_e11_the_optimizer_updates_parameters_not_the_loss(points):
    X, y = points
    layer = nn.Linear(1, 1, dtype=torch.float64)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.01)
    loss = F.mse_loss(layer(X).squeeze(1), y)
    before = loss.item()
    loss.backward()
    grad = layer.weight.grad.item()
    optimizer.step()
    assert loss.item() == before
    assert layer.weight.item() == pytest.approx(-0.01 * grad)
    assert F.mse_loss(layer(X).squeeze(1), y).item() < 0.1 * before


def test_e41_a_unit_rescales_the_weight_and_nothing_else():
    X, y = chapter.make_houses(200, seed=0)
    factors = double(1e4, 1)
    theta, theta_cm = chapter.normal_equation(X, y), chapter.normal_equation(X * factors, y)
    assert torch.allclose(theta_cm[:2], theta[:2] / factors, rtol=1e-6)
    assert theta_cm[2].item() == pytest.approx(theta[2].item(), rel=1e-6)
    assert torch.allclose(add_ones(X * factors) @ theta_cm, add_ones(X) @ theta, rtol=1e-9)


def test_e41_so_the_ranking_by_size_depends_on_the_unit():
    X, y = chapter.make_houses(200, seed=0)
    area, age, _ = chapter.normal_equation(X, y).abs().tolist()
    area_cm, age_cm, _ = chapter.normal_equation(X * double(1e4, 1), y).abs().tolist()
    assert area > age
    assert age_cm / area_cm == pytest.approx(6000, rel=0.1)


def test_e41_standardised_weights_are_effects_of_one_standard_deviation():
    X, y = chapter.make_houses(200, seed=0)
    scaled = chapter.normal_equation(standardise(X), y)
    again = chapter.normal_equation(standardise(X * double(1e4, 1)), y)
    assert torch.allclose(scaled, again, rtol=1e-9)
    expected = chapter.normal_equation(X, y)[:2] * X.std(dim=0, correction=0)
    assert torch.allclose(scaled[:2], expected, rtol=1e-9)


# The clinic


def test_broadcasting_learns_the_mean(points):
    X, y = points
    prediction = 0.7 * X - 1.3  # (15, 1)
    wrong = (prediction - y).square()
    assert wrong.shape == (15, 15)
    expected = (prediction - y.mean()).square().mean() + y.var(correction=0)
    assert wrong.mean().item() == pytest.approx(expected.item())
    layer = nn.Linear(1, 1, dtype=torch.float64)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
    losses = []
    for _ in range(3):
        loss = (layer(standardise(X)) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert layer.weight.item() == pytest.approx(0, abs=1e-9)
    assert layer.bias.item() == pytest.approx(y.mean().item())
    assert losses[-1] == pytest.approx(y.var(correction=0).item())
    assert losses[-1] > 3 * mse(add_ones(X), y, chapter.normal_equation(X, y))


def test_mse_loss_warns_where_plain_arithmetic_is_silent(points):
    X, y = points
    message = r"Using a target size \(torch.Size\(\[15\]\)\) that is different"
    with pytest.warns(UserWarning, match=message):
        F.mse_loss(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (X - y).square().mean()


def test_wrong_shape_and_wrong_dtype_raise(points):
    X, _ = points
    layer = nn.Linear(1, 1)
    with pytest.raises(RuntimeError, match=r"cannot be multiplied \(1x15 and 1x1\)"):
        layer(X[:, 0].float())
    with pytest.raises(RuntimeError, match="must have the same dtype"):
        layer(X)
    assert layer(X[:, 0].unsqueeze(1).float()).shape == (15, 1)


def test_proportional_columns_are_singular_and_lstsq_shares_the_slope():
    X, y = torch.tensor([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]]), torch.tensor([2.5, 4.5, 6.5])
    with pytest.raises(torch.linalg.LinAlgError, match="singular"):
        chapter.normal_equation(X, y)
    found = chapter.least_squares(X, y)
    assert found.tolist() == pytest.approx([0.4, 0.8, 0.5], abs=1e-5)  # float32
    for other in ([2.0, 0.0, 0.5], [0.0, 1.0, 0.5]):  # other solutions are longer
        assert torch.allclose(add_ones(X) @ torch.tensor(other), y)
        assert torch.tensor(other).norm() > found.norm()


def steps_without_zero_grad(A, y, lr, steps):
    theta, accumulated, losses = torch.zeros(2, dtype=torch.float64), 0, []
    for _ in range(steps):
        losses.append(mse(A, y, theta))
        accumulated = accumulated + gradient(A, y, theta)
        theta = theta - lr * accumulated
    return losses


def test_without_zero_grad_the_loss_oscillates_for_ever(points, hessian):
    X, y = points
    A = add_ones(X)
    bound = 4 / torch.linalg.eigvalsh(hessian)[-1].item()
    for lr in (0.001, 0.02, 0.99 * bound):
        losses = steps_without_zero_grad(A, y, lr, 4000)
        early, late = max(losses[:1000]), max(losses[-1000:])
        assert late == pytest.approx(early, rel=0.05)  # neither damped nor growing
        assert late >= 0.98 * losses[0]
    grown = steps_without_zero_grad(A, y, 1.01 * bound, 1000)
    assert grown[-1] > 1e6 * grown[0]


def test_without_zero_grad_is_a_spring_without_friction(points, hessian):
    X, y = points
    A = add_ones(X)
    exact = chapter.normal_equation(X, y)
    layer = nn.Linear(1, 1, dtype=torch.float64)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.01)
    errors = []
    for _ in range(10):
        errors.append(torch.stack([layer.weight[0, 0], layer.bias[0]]).detach() - exact)
        (layer(X).squeeze(1) - y).square().mean().backward()
        optimizer.step()
    for before, now, after in zip(errors, errors[1:], errors[2:], strict=False):
        assert torch.allclose(after - 2 * now + before, -0.01 * hessian @ now, atol=1e-9)
    assert A.shape == (15, 2)


def test_state_dict_is_a_reference():
    model = chapter.LinearRegression(2)
    kept, copied = model.state_dict(), copy.deepcopy(model.state_dict())
    with torch.no_grad():
        model.linear.bias += 1
    assert kept["linear.bias"].item() == 1
    assert copied["linear.bias"].item() == 0


# The figures show what their captions say


def line_at(axes, index, x):
    line = axes.lines[index]
    (x0, x1), (y0, y1) = line.get_xdata(), line.get_ydata()
    return float(y0 + (x - x0) * (y1 - y0) / (x1 - x0))


def test_figure_fit_the_lines_agree_on_the_data_and_part_at_zero(points):
    axes = chapter.figure_fit().axes[0]
    assert line_at(axes, 0, 0) == pytest.approx(0.75, abs=0.005)
    assert line_at(axes, 1, 0) == pytest.approx(0.21, abs=0.005)
    middle = points[0].mean().item()
    assert abs(line_at(axes, 0, middle) - line_at(axes, 1, middle)) < 0.08


def test_figure_loss_curve_flat_above_not_below():
    top, bottom = chapter.figure_loss_curve().axes
    slow, fast = (torch.as_tensor(line.get_ydata()) for line in bottom.lines)
    assert bottom.get_yscale() == "log" and top.get_yscale() == "linear"
    assert slow[100] / slow[-1] < 2 < 1e3 < fast[100] / fast[-1]


def test_figure_min_norm_paths_are_parallel_and_end_at_different_zeros():
    axes = chapter.figure_min_norm().axes[0]
    ends, directions = [], []
    for line in axes.lines[1:]:
        xy = torch.as_tensor(line.get_xydata())
        ends.append(xy[-1])
        directions.append((xy[-1] - xy[0]) / (xy[-1] - xy[0]).norm())
    assert torch.allclose(directions[0], directions[1], atol=1e-9)
    assert torch.allclose(ends[0], double(1, 2), atol=0.03)  # 12 steps leave 0.7^12 = 1.4 %
    for end in ends:
        assert (end @ double(1, 2)).item() == pytest.approx(5, abs=0.08)
    assert (ends[0] - ends[1]).norm() > 3


def test_figure_scaling_shows_the_three_arms():
    axes = chapter.figure_scaling().axes[0]
    curves = {line.get_label(): line.get_ydata() for line in axes.lines}
    minimum = curves["minimum"][0]
    assert curves["standardised"][3] < 1.001 * minimum
    assert 1.15 * minimum < curves["raw"][-1] < 3 * minimum
    assert curves["centred"][-1] > 0.6 * curves["centred"][0] > 50 * curves["raw"][-1]
    assert curves["centred"][0] == pytest.approx(curves["raw"][0])


# The exercises


def test_exercise_1_by_hand():
    X, y = double(1, 2, 3).unsqueeze(1), double(1, 3, 2)
    assert torch.equal(add_ones(X).T @ y, double(13, 6))
    theta = chapter.normal_equation(X, y)
    assert torch.allclose(theta, double(0.5, 1))
    assert torch.allclose(add_ones(X) @ theta - y, double(0.5, -1, 0.5))


def test_exercise_2_number_of_steps(hessian):
    slow = torch.linalg.eigvalsh(hessian)[0].item()
    assert math.log(0.01) / math.log(1 - 0.001 * slow) == pytest.approx(17_929.2, abs=0.05)
    assert math.ceil(math.log(0.01) / math.log(1 - 0.02 * slow)) == 895


def test_exercise_3_newton_takes_one_step_from_anywhere(points, hessian):
    X, y = points
    exact = chapter.normal_equation(X, y)
    for start in (double(100, -7), double(-3, 1e4)):
        step = torch.linalg.solve(hessian, gradient(add_ones(X), y, start))
        assert torch.allclose(start - step, exact, atol=1e-8)


def test_exercise_4_starting_the_bias_at_the_mean_saves_the_centred_arm():
    X, y = chapter.make_houses(200, seed=0)
    A = add_ones(X - X.mean(dim=0))
    minimum = mse(A, y, chapter.normal_equation(X - X.mean(dim=0), y))
    start = torch.stack([double(0)[0], double(0)[0], y.mean()])
    theta, _ = gradient_descent(A, y, 1 / largest_eigenvalue(A), 100, start)
    assert mse(A, y, theta) == pytest.approx(minimum, rel=1e-6)
