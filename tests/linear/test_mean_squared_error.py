"""What the chapter on the linear model and the mean squared error claims."""

import math
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from snippets.linear import mean_squared_error as chapter

FIFTEEN_OLS = (0.25999, 0.74767, 0.168915)  # w, b, MSE of the least-squares line


def random_pair(seed: int, n: int = 50) -> tuple[torch.Tensor, torch.Tensor]:
    """Return correlated float64 x and y of shape (n,): identities hold to rounding in float64."""
    generator = torch.Generator().manual_seed(seed)
    x = 3 + torch.randn(n, generator=generator, dtype=torch.float64)
    y = 2 * x + torch.randn(n, generator=generator, dtype=torch.float64)
    return x, y


def covariance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a * b).mean() - a.mean() * b.mean()


def broadcast_loss(y_hat: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return ((y_hat.unsqueeze(1) - y) ** 2).mean()


# The model and its loss


def test_linear_model_is_nn_linear_without_the_last_dimension():
    layer = nn.Linear(4, 1)
    X = torch.randn(7, 4)
    ours = chapter.linear(X, layer.weight[0], layer.bias.item())
    assert ours.shape == (7,)
    assert layer(X).shape == (7, 1)
    torch.testing.assert_close(ours, layer(X).squeeze(1))


@pytest.mark.parametrize(
    ("w", "predictions", "losses", "thirds"),
    [
        (3.0, [3, 6, 9], [1, 4, 9], 14),
        (4.0, [4, 8, 12], [4, 16, 36], 56),
        (1.0, [1, 2, 3], [1, 4, 9], 14),
        (2.0, [2, 4, 6], [0, 0, 0], 0),
    ],
)
def test_loss_table(w, predictions, losses, thirds):
    rows = chapter.loss_table(w)
    assert [row[0] for row in rows] == [1, 2, 3]
    assert [row[1] for row in rows] == [2, 4, 6]
    assert [row[2] for row in rows] == predictions
    assert [row[3] for row in rows] == losses
    assert sum(row[3] for row in rows) / 3 == pytest.approx(thirds / 3)


def test_twice_the_error_is_four_times_the_loss():
    x, y = chapter.three_points()
    assert ((4 * x - y) == 2 * (3 * x - y)).all()
    assert chapter.mse(4 * x, y).item() == pytest.approx(4 * chapter.mse(3 * x, y).item())


# The failure: (N, 1) minus (N,)


def test_perfect_model_gets_sixteen_thirds_and_no_warning_from_plain_arithmetic():
    x, y = chapter.three_points()
    y_hat = 2 * x.unsqueeze(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        difference = y_hat - y
        loss = (difference**2).mean().item()
    assert difference.shape == (3, 3)
    assert loss == pytest.approx(16 / 3)
    assert loss > chapter.mse(3 * x, y).item()  # worse than the model that is wrong
    assert chapter.mse(y_hat.squeeze(1), y).item() == 0


def test_torch_loss_warns_and_returns_the_same_wrong_number():
    x, y = chapter.three_points()
    with pytest.warns(UserWarning, match=r"target size \(torch.Size\(\[3\]\)\) that is different"):
        loss = F.mse_loss(2 * x.unsqueeze(1), y)
    assert loss.item() == pytest.approx(16 / 3)


def test_training_with_flat_labels_forgets_x():
    x, y = chapter.fifteen_points()
    assert len(x) == len(y) == 15
    X = x.unsqueeze(1)
    model, losses = chapter.fit(X, y.unsqueeze(1))
    w, b, least = FIFTEEN_OLS
    # 2000 steps leave a factor (1 - 0.02 * 0.2568)^2000 = 3e-5 of the initial error of about 1.
    assert model.weight.item() == pytest.approx(w, abs=1e-3)
    assert model.bias.item() == pytest.approx(b, abs=1e-3)
    assert losses[-1] == pytest.approx(least, abs=1e-5)

    broken, broken_losses = chapter.fit(X, y)
    assert broken.weight.item() == pytest.approx(0, abs=1e-3)
    assert broken.bias.item() == pytest.approx(y.mean().item(), abs=1e-3)
    assert broken_losses[-1] == pytest.approx(y.var(correction=0).item(), abs=1e-5)
    assert broken_losses[-1] > 3 * losses[-1]

    # The curves give no hint: same start, never up (1e-6: float32 rounding at the bottom).
    assert losses[0] == pytest.approx(broken_losses[0])
    for curve in (losses, broken_losses):
        assert (np.diff(curve) < 1e-6).all()


@pytest.mark.parametrize("seed", range(3))
def test_broadcast_loss_is_mse_plus_twice_the_covariance(seed):
    y_hat, y = random_pair(seed)
    right = chapter.mse(y_hat, y)
    torch.testing.assert_close(broadcast_loss(y_hat, y), right + 2 * covariance(y_hat, y))
    lower = y.var(correction=0)
    split = y_hat.var(correction=0) + lower + (y_hat.mean() - y.mean()) ** 2
    torch.testing.assert_close(broadcast_loss(y_hat, y), split)
    assert broadcast_loss(y_hat, y) > lower
    constant = y.mean().expand_as(y)
    torch.testing.assert_close(broadcast_loss(constant, y), lower)


def test_broadcast_loss_has_the_same_hessian():
    x, y = random_pair(0)

    def hessian(loss):
        cost = lambda p: loss(p[0] * x + p[1], y)  # noqa: E731
        return torch.autograd.functional.hessian(cost, torch.zeros(2, dtype=x.dtype))

    torch.testing.assert_close(hessian(broadcast_loss), hessian(chapter.mse))


def test_sixteen_thirds_is_twice_the_variance_of_the_labels():
    _, y = chapter.three_points()
    assert y.var(correction=0).item() == pytest.approx(8 / 3)
    assert 2 * covariance(y, y).item() == pytest.approx(16 / 3)


# The derivation


def test_parabola_of_the_three_points():
    x, y = chapter.three_points()
    assert (x * x).mean().item() == pytest.approx(14 / 3)
    assert (x * y).mean().item() == pytest.approx(28 / 3)
    assert (y * y).mean().item() == pytest.approx(56 / 3)
    for w in (-3.0, 0.0, 1.0, 2.5, 4.0):
        assert chapter.mse(w * x, y).item() == pytest.approx(14 / 3 * (w - 2) ** 2)


@pytest.mark.parametrize("seed", range(3))
def test_completed_square_for_any_data(seed):
    x, y = random_pair(seed)
    best = (x * y).mean() / (x * x).mean()
    for w in (-1.0, 0.3, 2.0, 5.0):
        square = (x * x).mean() * (w - best) ** 2 + chapter.mse(best * x, y)
        torch.testing.assert_close(chapter.mse(w * x, y), square)
    lowest = (y * y).mean() - (x * y).mean() ** 2 / (x * x).mean()
    torch.testing.assert_close(chapter.mse(best * x, y), lowest)
    torch.testing.assert_close(chapter.slope_mse(x, y.unsqueeze(0))[0], best)


def test_bowl_of_the_shifted_points():
    x, y = chapter.three_points(b=0.5)
    assert y.tolist() == [2.5, 4.5, 6.5]

    def cost(p):
        return chapter.mse(p[0] * x + p[1], y)

    for u, v in ((0.0, 0.0), (1.0, 0.0), (-1.5, 1.5), (0.7, -2.0)):
        expected = 14 / 3 * u**2 + 4 * u * v + v**2
        assert cost(torch.tensor([2 + u, 0.5 + v])).item() == pytest.approx(expected, abs=1e-5)
    hessian = torch.autograd.functional.hessian(cost, torch.zeros(2))
    torch.testing.assert_close(hessian, torch.tensor([[28 / 3, 4.0], [4.0, 2.0]]))


def test_the_best_b_flattens_the_bowl_seven_times():
    x, y = chapter.three_points(b=0.5)
    assert x.var(correction=0).item() == pytest.approx(2 / 3)
    assert pytest.approx(7) == (14 / 3) / (2 / 3)
    bs = torch.linspace(-6, 6, 1201)  # every 0.01
    for u in (-1.0, 0.5, 2.0):
        losses = ((((2 + u) * x).unsqueeze(0) + bs.unsqueeze(1) - y) ** 2).mean(dim=1)
        assert bs[losses.argmin()].item() == pytest.approx(0.5 - 2 * u, abs=0.01)
        assert losses.min().item() == pytest.approx(2 / 3 * u**2, abs=1e-4)


def test_centring_x_removes_the_cross_term():
    x, y = chapter.three_points(b=0.5)
    centred = x - x.mean()
    hessian = torch.autograd.functional.hessian(
        lambda p: chapter.mse(p[0] * centred + p[1], y), torch.zeros(2)
    )
    assert hessian[0, 1].item() == pytest.approx(0, abs=1e-6)
    assert hessian[0, 0].item() > 0


def test_mse_wants_the_mean_and_mae_the_median():
    generator = torch.Generator().manual_seed(0)
    y = torch.empty(1001).exponential_(generator=generator)  # skewed: mean and median differ
    constants = torch.linspace(0, 3, 3001)  # every 0.001
    errors = y - constants.unsqueeze(1)
    assert constants[(errors**2).mean(dim=1).argmin()].item() == pytest.approx(
        y.mean().item(), abs=1e-3
    )
    # The absolute error is flat to first order between neighbours of the median: 5e-3.
    assert constants[errors.abs().mean(dim=1).argmin()].item() == pytest.approx(
        y.median().item(), abs=5e-3
    )
    least = ((y - y.mean()) ** 2).mean().item()
    assert least == pytest.approx(y.var(correction=0).item())
    assert ((y - 2) ** 2).mean().item() == pytest.approx(least + (y.mean().item() - 2) ** 2)


@pytest.mark.parametrize("sigma", [0.5, 2.0])
def test_gaussian_likelihood_is_the_mse(sigma):
    y_hat, y = random_pair(0)
    nll = -torch.distributions.Normal(y_hat, sigma).log_prob(y).sum().item()
    n = len(y)
    formula = n / (2 * sigma**2) * chapter.mse(y_hat, y).item()
    assert nll == pytest.approx(formula + n / 2 * math.log(2 * math.pi * sigma**2))


def test_sum_mean_and_half_share_the_minimum_but_not_the_gradient():
    x, y = chapter.three_points()
    grid = torch.linspace(0, 4, 401)
    errors = (grid.unsqueeze(1) * x - y) ** 2
    costs = {"mean": errors.mean(dim=1), "sum": errors.sum(dim=1), "half": errors.mean(dim=1) / 2}
    assert {grid[c.argmin()].item() for c in costs.values()} == {2.0}

    def slope(reduction):
        w = torch.tensor(1.0, requires_grad=True)
        F.mse_loss(w * x, y, reduction=reduction).backward()
        return w.grad.item()

    assert slope("sum") == pytest.approx(3 * slope("mean"))
    assert slope("mean") == pytest.approx(-28 / 3)


# The code


@pytest.mark.parametrize("shape", [(5,), (5, 1), (4, 3), (2, 3, 4)])
def test_mse_equals_torch(shape):
    y_hat, y = torch.randn(shape), torch.randn(shape)
    torch.testing.assert_close(chapter.mse(y_hat, y), F.mse_loss(y_hat, y))
    torch.testing.assert_close(chapter.mse(y_hat, y), nn.MSELoss()(y_hat, y))


@pytest.mark.parametrize(("a", "b"), [((3, 1), (3,)), ((3,), (1,)), ((1, 3), (3,)), ((), (1,))])
def test_mse_refuses_to_broadcast(a, b):
    with pytest.raises(ValueError, match="shapes differ"):
        chapter.mse(torch.zeros(a), torch.zeros(b))


def test_mean_divides_by_all_elements():
    y_hat, y = torch.randn(4, 3), torch.randn(4, 3)
    per_sample = F.mse_loss(y_hat, y, reduction="none").sum(dim=1).mean()
    torch.testing.assert_close(F.mse_loss(y_hat, y), per_sample / 3)


def test_scan_has_41_values_and_its_minimum_at_two():
    x, y = chapter.three_points()
    grid = torch.linspace(0, 4, 41)
    values = chapter.scan_w(x, y, grid)
    assert values.shape == (41,)
    assert grid[values.argmin()].item() == 2.0
    assert values.min().item() == 0
    assert values[0].item() == pytest.approx(56 / 3)
    assert values[-1].item() == pytest.approx(56 / 3)
    assert values[10].item() == pytest.approx(values[30].item())  # MSE(1) = MSE(3)
    one_by_one = torch.stack([chapter.mse(w * x, y) for w in grid])
    torch.testing.assert_close(values, one_by_one)


def test_surface_matches_mse_and_has_its_minimum_at_two_and_a_half():
    x, y = chapter.three_points(b=0.5)
    ws, bs = torch.linspace(0, 4, 41), torch.linspace(-2, 3, 51)
    W, B, Z = chapter.mse_surface(x, y, ws, bs)
    assert W.shape == B.shape == Z.shape == (41, 51)
    for i, j in ((0, 0), (7, 44), (20, 25), (40, 3)):
        assert Z[i, j].item() == pytest.approx(chapter.mse(ws[i] * x + bs[j], y).item(), abs=1e-6)
    best = Z.argmin()
    assert W.flatten()[best].item() == pytest.approx(2.0)
    assert B.flatten()[best].item() == pytest.approx(0.5)


# The comparison


def test_slope_mae_is_the_minimiser():
    generator = torch.Generator().manual_seed(0)
    x = 1 + 2 * torch.rand(21, generator=generator)
    y = chapter.noisy_labels(x, 0.2, 50, generator)  # (R, N)
    w = chapter.slope_mae(x, y)

    def cost(w):
        return (y - w.unsqueeze(1) * x).abs().mean(dim=1)

    # The cost is piecewise linear with kinks at the ratios, so its minimum is at one of them.
    candidates = torch.stack([cost(ratio) for ratio in (y / x).unbind(dim=1)])  # (N, R)
    torch.testing.assert_close(cost(w), candidates.min(dim=0).values)
    assert (cost(w) < cost(chapter.slope_mse(x, y)) + 1e-6).all()


def test_noise_has_the_stated_spread():
    x = torch.linspace(1, 3, 101)
    noise = chapter.noisy_labels(x, 0.05, 5000, torch.Generator().manual_seed(0)) - 2 * x
    # 505 000 values: the standard error of the variance is about 1 %.
    assert noise.var().item() == pytest.approx(1 + 99 * 0.05, rel=0.04)
    near_zero = (noise.abs() < 0.1).float().mean().item() / 0.2
    expected = (1 - 0.9 * 0.05) / math.sqrt(2 * math.pi)
    assert near_zero == pytest.approx(expected, rel=0.03)


def test_predicted_ratio():
    printed = {0: 1.571, 1: 0.804, 2: 0.547, 5: 0.289, 10: 0.174}
    for percent, value in printed.items():
        p = percent / 100
        assert chapter.predicted_ratio(p) == pytest.approx(value, abs=5e-4)
        formula = math.pi / (2 * (1 - 0.9 * p) ** 2 * (1 + 99 * p))
        assert chapter.predicted_ratio(p) == pytest.approx(formula)
    assert chapter.predicted_ratio(0.0058) > 1 > chapter.predicted_ratio(0.0060)
    assert 3.4 < 1 / chapter.predicted_ratio(0.05) < 3.6  # three and a half times the data
    assert 1 - 2 / math.pi == pytest.approx(0.36, abs=5e-3)


def test_measured_ratios_follow_the_prediction(measured):
    values = measured(chapter.experiment_outliers)
    assert len(values["ratio_0"]) >= 5
    for percent in (0, 1, 2, 5, 10):
        ratio = values[f"ratio_{percent}"].mean()
        # A seed's ratio has a standard deviation of 3-4 %, the mean of ten about 1.3 %, and the
        # formula is for many points: at 101 it is off by about 2 %.
        assert ratio == pytest.approx(chapter.predicted_ratio(percent / 100), rel=0.06)
    assert (values["ratio_0"] > 1.35).all()  # no outliers: the squares win in every seed
    assert (values["ratio_2"] < 0.75).all()  # 2 %: the absolute values win in every seed
    assert (values["ratio_10"] < 0.25).all()


def test_outliers_hurt_squares_and_hardly_absolute_values(measured):
    values = measured(chapter.experiment_outliers)
    # Derived: sqrt(1 + 99 * 0.1) = 3.3 against 1 / 0.91 = 1.1.
    assert (values["mse_10"] / values["mse_0"] > 2.8).all()
    assert (values["mae_10"] / values["mae_0"] < 1.25).all()


# Where it does not help


def test_two_answers_defeat_both_losses(measured):
    values = measured(chapter.experiment_two_modes)
    # The standard error of w is about 1 / sqrt(2001) = 0.022: 0.1 is more than four of them.
    assert (np.abs(values["w_mse_two"]) < 0.1).all()
    assert (values["near_mse_two"] == 0).all()
    assert (np.abs(values["w_mae_two"]) > 0.7).all()
    assert values["w_mae_two"].min() < 0 < values["w_mae_two"].max()  # either branch, by chance
    assert ((values["near_mae_two"] > 40) & (values["near_mae_two"] < 60)).all()
    assert np.abs(values["w_mse_one"] - 1).max() < 0.02
    assert (values["near_mse_one"] == 100).all()


# The errata


def test_e01_the_notes_print_averages_of_other_columns():
    x, y = chapter.three_points()
    assert y.tolist() == [2, 4, 6]
    assert (3 * x).tolist() == [3, 6, 9]
    assert (y.mean().item(), (3 * x).mean().item()) == (4, 6)  # what the notes call the MSE
    assert chapter.mse(3 * x, y).item() == pytest.approx(14 / 3) != 4
    assert chapter.mse(4 * x, y).item() == pytest.approx(56 / 3) != 6


def test_e03_default_meshgrid_transposes_the_surface():
    x, y = (t.double() for t in chapter.three_points(b=0.5))
    axis = np.arange(0.0, 4.0, 0.1)
    assert len(axis) == 40
    Z = np.array([[chapter.mse(w * x + b, y).item() for b in axis] for w in axis])
    drawn = {}
    for indexing in ("xy", "ij"):
        W, B = np.meshgrid(axis, axis, indexing=indexing)
        drawn[indexing] = (W.flat[Z.argmin()], B.flat[Z.argmin()])
    assert drawn["xy"] == pytest.approx((0.5, 2.0))  # the notes' picture
    assert drawn["ij"] == pytest.approx((2.0, 0.5))
    W, B = np.meshgrid(axis, axis)
    assert (W.flat[Z.T.argmin()], B.flat[Z.T.argmin()]) == pytest.approx((2.0, 0.5))
    assert chapter.mse(0.5 * x + 2.0, y).item() == pytest.approx(3.75)

    grid = torch.arange(40) / 10
    surface = chapter.mse_surface(x.float(), y.float(), grid, grid)[2]
    for indexing, place in drawn.items():
        assert chapter.drawn_minimum(grid, grid, surface, indexing) == pytest.approx(place)


def test_e03_square_grids_hide_the_transposition_and_others_do_not():
    x, y = chapter.three_points(b=0.5)
    figure, ax = plt.subplots()
    for n, m in ((40, 40), (41, 21)):
        ws, bs = torch.linspace(0, 4, n), torch.linspace(0, 2, m)
        _, _, Z = chapter.mse_surface(x, y, ws, bs)
        W, B = torch.meshgrid(ws, bs, indexing="xy")
        if n == m:
            ax.contour(W, B, Z)
        else:
            with pytest.raises(TypeError, match=r"Shapes of x \(21, 41\) and z \(41, 21\)"):
                ax.contour(W, B, Z)
    plt.close(figure)


def test_e03_arange_excludes_4_1():
    grid = np.arange(0.0, 4.1, 0.1)
    assert len(grid) == 41
    assert grid[-1] == pytest.approx(4.0)
    assert not np.isclose(grid, 4.1).any()


def test_e07_the_standard_deviation_is_another_number():
    x, y = chapter.three_points()
    deviation = y.std(correction=0).item()
    assert deviation == pytest.approx(math.sqrt(8 / 3)) == pytest.approx(1.633, abs=5e-4)
    assert chapter.mse(3 * x, y).item() == pytest.approx(4.667, abs=5e-4)
    assert chapter.mse(2 * x, y).item() == 0  # depends on the model; the deviation does not


def test_e34_none_keeps_the_shape_and_there_is_no_half():
    prediction, target = torch.full((2, 3), 2.0), torch.zeros(2, 3)
    none, mean, total = (
        nn.MSELoss(reduction=r)(prediction, target) for r in ("none", "mean", "sum")
    )
    assert none.shape == (2, 3)  # the notes say a vector
    assert mean.shape == total.shape == ()
    assert (none == 4).all()  # with a factor 1/2 it would be 2
    assert (mean.item(), total.item()) == (4, 24)
    assert nn.MSELoss().reduction == "mean"


# The clinic


def test_shape_warning_can_be_made_an_exception():
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Using a target size")
        with pytest.raises(UserWarning, match="Using a target size"):
            F.mse_loss(torch.zeros(15, 1), torch.zeros(15))


def test_plain_squeeze_loses_the_sample_dimension_of_a_last_batch_of_one():
    assert torch.ones(1, 1).squeeze().shape == ()
    assert torch.ones(1, 1).squeeze(1).shape == (1,)


def test_integer_tensors_have_no_mean():
    counts = torch.tensor([2, 4, 6])
    assert counts.dtype == torch.int64
    with pytest.raises(NotImplementedError, match=r"mean\(\): could not infer output dtype"):
        ((counts - counts) ** 2).mean()
    with pytest.raises(NotImplementedError, match="not implemented for 'Long'"):
        F.mse_loss(counts, counts)
    x, _ = chapter.three_points()
    w = torch.tensor(3.0, requires_grad=True)
    loss = F.mse_loss(w * x, counts)  # one side in floating point is enough
    assert loss.item() == pytest.approx(14 / 3)
    loss.backward()
    torch.testing.assert_close(w.grad, torch.tensor(28 / 3))


def test_float64_features_do_not_fit_float32_weights():
    with pytest.raises(RuntimeError, match="must have the same dtype, but got Double and Float"):
        nn.Linear(1, 1)(torch.from_numpy(np.ones((3, 1))))
    nn.Linear(1, 1)(torch.tensor(np.ones((3, 1)), dtype=torch.float32))


def test_one_missing_label_ruins_all_parameters_in_one_step():
    x, y = chapter.fifteen_points()
    y[3] = float("nan")
    model, losses = chapter.fit(x.unsqueeze(1), y.unsqueeze(1), steps=1)
    assert math.isnan(losses[0])
    assert all(parameter.isnan().all() for parameter in model.parameters())


def test_torch_meshgrid_defaults_to_ij_with_a_warning_and_numpy_to_xy():
    a, b = torch.arange(2.0), torch.arange(3.0)
    torch.set_warn_always(True)  # otherwise torch warns once a process
    try:
        with pytest.warns(UserWarning, match="it will be required to pass the indexing argument"):
            default = torch.meshgrid(a, b)
    finally:
        torch.set_warn_always(False)
    assert torch.equal(default[0], torch.meshgrid(a, b, indexing="ij")[0])
    assert np.meshgrid(a.numpy(), b.numpy())[0].shape == (3, 2)


@pytest.mark.parametrize("arange", [np.arange, torch.arange])
def test_arange_with_a_decimal_step_may_include_its_end(arange):
    assert len(arange(1, 1.3, 0.1)) == 4  # ceil(0.3 / 0.1) would be 3 without rounding
    assert len(torch.linspace(1, 1.2, 3)) == 3


# The exercises


def test_every_line_through_the_mean_point_has_zero_mean_error():
    x, y = chapter.three_points()
    for w in (-2.0, 0.0, 1.0, 5.0):
        y_hat = 4 + w * (x - 2)
        assert (y_hat - y).mean().item() == pytest.approx(0, abs=1e-6)
        assert chapter.mse(y_hat, y).item() == pytest.approx(2 / 3 * (w - 2) ** 2)
    lower = torch.tensor([-10.0, -100.0])
    assert [(2 * x + b - y).mean().item() for b in lower] == pytest.approx([-10, -100])


def test_the_unit_of_the_labels_is_squared():
    x, y = (t.double() for t in chapter.fifteen_points())
    design = torch.stack([x, torch.ones_like(x)], dim=1)
    metres, centimetres = (torch.linalg.lstsq(design, k * y).solution for k in (1, 100))
    torch.testing.assert_close(centimetres, 100 * metres)
    assert chapter.mse(design @ metres, y).item() == pytest.approx(FIFTEEN_OLS[2], abs=1e-6)
    torch.testing.assert_close(
        chapter.mse(design @ centimetres, 100 * y), 1e4 * chapter.mse(design @ metres, y)
    )


def test_the_median_of_waiting_times_is_31_percent_too_low():
    assert 1 - math.log(2) == pytest.approx(0.31, abs=5e-3)
    waiting = torch.distributions.Exponential(1.0)
    assert waiting.mean.item() == 1
    assert waiting.icdf(torch.tensor(0.5)).item() == pytest.approx(math.log(2))


# The figures


def line(figure, label: str) -> tuple[np.ndarray, np.ndarray]:
    ax = figure.axes[0]
    found = next(artist for artist in ax.lines if artist.get_label() == label)
    return np.asarray(found.get_xdata()), np.asarray(found.get_ydata())


def test_figure_broadcast_shows_a_flat_and_a_rising_line():
    figure = chapter.figure_broadcast()
    _, right = line(figure, "labels $(N, 1)$")
    _, wrong = line(figure, "labels $(N,)$")
    assert right[1] - right[0] == pytest.approx(10 * FIFTEEN_OLS[0], abs=0.02)
    assert wrong[1] - wrong[0] == pytest.approx(0, abs=0.02)
    plt.close(figure)


def test_figure_parabola_shows_the_scan_on_the_curve():
    figure = chapter.figure_parabola()
    w, values = line(figure, "scan, 41 values")
    assert len(w) == 41
    np.testing.assert_allclose(values, 14 / 3 * (w - 2) ** 2, atol=1e-4)
    plt.close(figure)
