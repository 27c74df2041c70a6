import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from snippets import data
from snippets.generalization import dropout as chapter
from snippets.generalization.dropout import (
    Dropout,
    accuracy,
    all_masks,
    digits_task,
    dropout,
    ensemble_vs_scaling,
    expected_loss,
    geometric_mean,
    make_mlp,
    mc_dropout,
    train,
    vanilla_dropout,
    with_dropout,
    with_wrong_labels,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear_problem(seed: int, n: int = 50, d: int = 5) -> tuple[torch.Tensor, ...]:
    g = generator(seed)
    X = torch.randn(n, d, generator=g, dtype=torch.float64) * (1 + torch.arange(d))
    w = torch.randn(d, generator=g, dtype=torch.float64)
    return X, w, X.sum(1) + torch.randn(n, generator=g, dtype=torch.float64)


# The derivation: one unit and the next layer


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.8])
def test_values_mean_and_variance(p):
    n, h = 400_000, 3.0
    draws = dropout(torch.full((n,), h, dtype=torch.float64), p, generator=generator())
    values = draws.unique()
    assert torch.allclose(values, torch.tensor([0, h / (1 - p)], dtype=torch.float64))
    sd = h * math.sqrt(p / (1 - p))
    assert draws.mean().item() == pytest.approx(h, abs=5 * sd / math.sqrt(n))
    # The fourth moment of a two-valued variable: the variance of the squared deviation is below
    # (largest deviation)^2 times the variance.
    spread = 5 * max(h, p * h / (1 - p)) * sd / math.sqrt(n)
    assert draws.var().item() == pytest.approx(sd**2, abs=spread)


def test_numbers_of_the_example():
    masks, probability = all_masks(1, 0.3)
    values = masks[:, 0] * 3 / 0.7
    mean = probability @ values
    assert values.tolist() == pytest.approx([0, 30 / 7])
    assert mean.item() == pytest.approx(3)
    assert (probability @ (values - mean) ** 2).item() == pytest.approx(27 / 7)
    assert (f"{30 / 7:.3f}", f"{27 / 7:.3f}") == ("4.286", "3.857")
    assert 3 * math.sqrt(3 / 700) == pytest.approx(0.196, abs=5e-4)


@pytest.mark.parametrize("p", [0.2, 0.5, 0.9])
def test_next_layer_mean_and_variance(p):
    g = generator()
    h = torch.randn(8, generator=g, dtype=torch.float64)
    w = torch.randn(8, generator=g, dtype=torch.float64)
    masks, probability = all_masks(8, p)
    z = masks * h / (1 - p) @ w  # (256,)
    mean = probability @ z
    assert mean.item() == pytest.approx((w @ h).item(), rel=1e-12)
    variance = (probability @ (z - mean) ** 2).item()
    assert variance == pytest.approx((p / (1 - p) * (w * h).square().sum()).item(), rel=1e-12)


def test_wide_layers_average_the_noise_away():
    noise = {}
    for n in (8, 128):
        h = dropout(torch.ones(100_000, n), 0.5, generator=generator())
        noise[n] = h.mean(1).std().item()
        # The standard error of a standard deviation is 1 / sqrt(2 * 100000) = 0.2 %.
        assert noise[n] == pytest.approx(1 / math.sqrt(n), rel=0.02)
    assert (f"{128**-0.5:.3f}", f"{8**-0.5:.3f}") == ("0.088", "0.354")
    assert noise[8] == pytest.approx(4 * noise[128], rel=0.03)


def test_every_sample_and_every_pass_gets_its_own_mask():
    h = torch.ones(64, 100)
    g = generator()
    first, second = dropout(h, 0.5, generator=g), dropout(h, 0.5, generator=g)
    assert not torch.equal(first, second)
    assert len(first.unique(dim=0)) == 64


def test_backward_uses_the_same_mask():
    h = torch.randn(200, dtype=torch.float64).requires_grad_()
    out = dropout(h, 0.3, generator=generator())
    out.sum().backward()
    assert torch.allclose(h.grad * h, out)
    assert (h.grad == 0).any()


def test_dropped_units_get_no_update():
    net = with_dropout(make_mlp((4, 6, 2), generator()), 0.5, seed=0)
    kept = []
    net[2].register_forward_hook(lambda module, inputs, out: kept.append(out != 0))
    net(torch.ones(1, 4)).sum().backward()
    off = ~kept[0][0]  # (6,)
    assert off.any()
    assert (net[0].weight.grad[off] == 0).all()
    assert (net[3].weight.grad[:, off] == 0).all()


# The derivation: the loss


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_input_dropout_is_exactly_a_weighted_ridge(seed, p):
    X, w, y = linear_problem(seed)
    clean = (X @ w - y).square().mean()
    exact = expected_loss(w, X, y, p)
    assert torch.allclose(exact, clean + chapter.dropout_penalty(w, X, p), rtol=1e-12)
    # The plain ridge penalty, without the size of the feature, is another number.
    assert not torch.allclose(exact, clean + p / (1 - p) * w.square().sum(), rtol=0.01)


def test_standardised_features_at_one_half_give_plus_squared_norm():
    X, w, y = linear_problem(0)
    X = (X - X.mean(0)) / X.std(0, correction=0)
    clean = (X @ w - y).square().mean()
    assert torch.allclose(expected_loss(w, X, y, 0.5), clean + w.square().sum())


def test_closed_form_of_exercise_5_is_the_minimum():
    X, _, y = linear_problem(1)
    D, N = torch.diag(X.square().mean(0)), len(X)
    w = torch.linalg.solve(X.T @ X / N + D, X.T @ y / N)
    least = expected_loss(w, X, y, 0.5)
    g = generator()
    for _ in range(20):
        other = w + 0.1 * torch.randn(5, generator=g, dtype=torch.float64)
        assert expected_loss(other, X, y, 0.5) > least


def test_training_with_dropout_ends_at_the_ridge_solution():
    X, _, y = linear_problem(2)
    X = X / X.std(0)
    D, N = torch.diag(X.square().mean(0)), len(X)
    ridge = torch.linalg.solve(X.T @ X / N + D, X.T @ y / N)
    plain = torch.linalg.solve(X.T @ X / N, X.T @ y / N)
    g, w, mean = generator(), torch.zeros(5, dtype=torch.float64), 0
    for step in range(6000):
        noisy = dropout(X, 0.5, generator=g)
        w = w - 0.02 * 2 * noisy.T @ (noisy @ w - y) / N
        if step >= 1000:
            mean = mean + w / 5000
    # The iterates jump about the minimum; the mean of 5000 is within a few percent.
    assert (mean - ridge).norm() < 0.05 * ridge.norm()
    assert (mean - plain).norm() > 0.3 * ridge.norm()


def test_input_noise_is_exactly_ridge_for_a_linear_model(measured):
    values = measured(chapter.experiment_noise)
    # 1000 draws of 100 samples; five standard errors are about 0.015 of the loss.
    assert (np.abs(values["ratio"] - 1) < 0.015).all()
    # Without the penalty it fails by a tenth and more: the penalty is 0.25 * 6.25.
    assert (values["noisy"] > 1.1 * values["clean"]).all()
    assert values["predicted"] - values["clean"] == pytest.approx(0.25 * 6.25)


def test_input_noise_holds_for_large_noise():
    X, w, y = linear_problem(0)
    for sigma in (0.1, 1.0, 10.0):
        clean = (X @ w - y).square().mean()
        noisy = chapter.input_noise_loss(w, X, y, sigma, 4000, generator(1))
        predicted = clean + sigma**2 * w.square().sum()
        assert noisy.item() == pytest.approx(predicted.item(), rel=0.02)


def gaussian_mean(f, sigma: float) -> float:
    """Mean of f(e) for e ~ N(0, sigma^2), by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    return float((weights * f(sigma * nodes)).sum() / weights.sum())


def excess(x: float, y: float, sigma: float) -> tuple[float, float]:
    """Extra expected loss of tanh under input noise, and the second-order term of it."""
    f = math.tanh(x)
    slope, bend = 1 - f**2, -2 * f * (1 - f**2)
    exact = gaussian_mean(lambda e: (np.tanh(x + e) - y) ** 2, sigma) - (f - y) ** 2
    return exact, sigma**2 * (slope**2 + (f - y) * bend)


def test_e38_second_order_only_for_a_curve():
    errors = [abs(exact - second) for exact, second in (excess(0.5, 0.0, s) for s in (0.04, 0.02))]
    # The next term is of order sigma^4: half the noise, a sixteenth of the error. The term after
    # that is sigma^2 = 0.0016 of it, times a factor of a few.
    assert errors[0] / errors[1] == pytest.approx(16, rel=0.05)
    exact, second = excess(0.5, 0.0, 1.0)
    assert abs(second - exact) > 0.1 * abs(exact)


def test_e38_noise_can_lower_the_expected_loss():
    f = math.tanh(1.0)
    slope, residual = (1 - f**2) ** 2, (f + 1) * -2 * f * (1 - f**2)
    assert (round(slope, 2), round(residual, 2)) == (0.18, -1.13)
    exact, second = excess(1.0, -1.0, 0.1)
    assert exact < 0
    assert second < 0


# The derivation: the ensemble


@pytest.mark.parametrize("p", [0.2, 0.5, 0.8])
def test_weight_scaling_is_exact_for_linear_and_softmax(p):
    for seed in range(5):
        g = generator(seed)
        h = torch.rand(8, generator=g, dtype=torch.float64)
        W = torch.randn(8, 3, generator=g, dtype=torch.float64)
        b = torch.randn(3, generator=g, dtype=torch.float64)
        assert torch.allclose(*ensemble_vs_scaling(lambda h, W=W, b=b: h @ W + b, h, p))
        average, scaled = ensemble_vs_scaling(lambda h, W=W: (h @ W).softmax(-1), h, p)
        assert torch.allclose(geometric_mean(lambda h, W=W: h @ W, h, p), scaled)
        assert (average - scaled).abs().max() > 0.005  # the arithmetic mean is not exact


@pytest.mark.parametrize("p", [0.2, 0.5, 0.8])
def test_e20_weight_scaling_is_not_the_mean_of_deep_networks(p):
    for seed in range(5):
        g = generator(seed)
        h = torch.rand(8, generator=g, dtype=torch.float64)
        W = torch.randn(8, 6, generator=g, dtype=torch.float64)
        average, scaled = ensemble_vs_scaling(
            lambda h, W=W: torch.relu(h @ W).sum(-1, keepdim=True), h, p
        )
        assert average > scaled + 0.01  # Jensen: the direction is known


def test_relu_one_by_one_is_never_below_the_scaled_network():
    g = generator()
    h = torch.rand(8, generator=g, dtype=torch.float64)
    W = torch.randn(8, 40, generator=g, dtype=torch.float64)
    average, scaled = ensemble_vs_scaling(lambda h: torch.relu(h @ W), h, 0.5)
    assert (average >= scaled - 1e-12).all()
    assert (average > scaled + 1e-3).float().mean() > 0.9


def test_all_masks():
    for p in (0.0, 0.3, 1.0):
        masks, probability = all_masks(5, p)
        assert masks.shape == (32, 5)
        assert len(masks.unique(dim=0)) == 32
        assert probability.sum().item() == pytest.approx(1)
        assert torch.allclose(probability @ masks, torch.full((5,), 1 - p, dtype=torch.float64))


def test_counts_in_the_text():
    assert f"{2**128:.1e}" == "3.4e+38"
    n, wrong, width, steps, batch = chapter.SETTINGS["noisy"]
    assert (n, wrong, width) == (200, 0.3, 128)
    assert steps * batch == 30_000
    assert chapter.SETTINGS["narrow"][2] == 8


# The code


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_scratch_equals_torch(p):
    h = torch.randn(30, 20, generator=generator())
    layer = nn.Dropout(p)
    torch.manual_seed(0)
    theirs = layer(h)
    torch.manual_seed(0)
    assert torch.allclose(dropout(h, p), theirs)
    assert torch.equal(layer.eval()(h), h)


@pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
def test_eval_is_the_identity(p):
    h = torch.randn(30, 20)
    assert torch.equal(dropout(h, p, training=False), h)
    assert torch.equal(nn.Dropout(p).eval()(h), h)


def test_the_ends_of_p():
    h = torch.randn(100)
    assert torch.equal(dropout(h, 0.0), h)
    assert torch.equal(dropout(h, 1.0), torch.zeros(100))
    assert torch.equal(F.dropout(h, 1.0), torch.zeros(100))
    for p in (-0.1, 1.5, 20):
        with pytest.raises(ValueError, match="between 0 and 1"):
            dropout(h, p)


def test_keep_probability_is_one_minus_p():
    h = torch.rand(1000, dtype=torch.float64)
    vanilla = vanilla_dropout(h, 0.8, generator=generator())
    inverted = dropout(h, 0.2, generator=generator())
    assert torch.allclose(vanilla, 0.8 * inverted)
    assert torch.allclose(vanilla_dropout(h, 0.8, training=False), 0.8 * h)
    draws = vanilla_dropout(torch.ones(100_000), 0.8, generator=generator())
    # Five standard errors: 5 * 0.4 / sqrt(100000).
    assert draws.mean().item() == pytest.approx(0.8, abs=0.0064)


def test_e20_removing_only_the_scaling_shifts_the_mean():
    draws = dropout(torch.full((100_000,), 3.0), 0.3, generator=generator()) * 0.7  # mask only
    assert draws.mean().item() == pytest.approx(0.7 * 3, abs=0.03)
    assert abs(draws.mean().item() - 3) > 0.8


def test_e20_scaling_twice_is_wrong():
    h = torch.rand(6, dtype=torch.float64)
    W = torch.randn(6, 2, generator=generator(), dtype=torch.float64)
    average, scaled = ensemble_vs_scaling(lambda h: h @ W, h, 0.5)
    assert torch.allclose(average, scaled)
    assert not torch.allclose(average, 0.5 * h @ W, rtol=0.1)


def test_control_and_treatment_share_weights_and_batches():
    net = make_mlp((64, 128, 10), generator())
    treated = with_dropout(net, 0.5, seed=0)
    assert [type(layer).__name__ for layer in treated] == ["Linear", "ReLU", "Dropout", "Linear"]
    for a, b in zip(net.parameters(), treated.parameters(), strict=True):
        assert torch.equal(a, b)
        assert a is not b
    again = with_dropout(treated, 0.2, seed=0)
    assert [layer.p for layer in again if isinstance(layer, Dropout)] == [0.2]
    # p = 0 is the control, to the last bit.
    X, y = digits_task(200, 0.3, 0)["train"]
    for trained in (net, zero := with_dropout(net, 0.0, seed=0)):
        train(trained, X, y, steps=20, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), zero.parameters(), strict=True))


def test_wrong_labels_are_the_share_asked_for_and_all_wrong():
    data = digits_task(200, 0.3, 0)
    clean = digits_task(200, 0.0, 0)
    assert torch.equal(data["train"][0], clean["train"][0])
    assert (data["train"][1] != clean["train"][1]).sum() == 60
    assert torch.equal(data["val"][1], clean["val"][1])
    assert len(data["val"][1]) == len(data["test"][1]) == 360
    rows = {tuple(row) for row in data["train"][0].tolist()}
    assert not any(tuple(row) in rows for row in data["val"][0].tolist())


def test_accuracy_leaves_the_mode_alone():
    net = with_dropout(make_mlp((4, 8, 2), generator()), 0.5, seed=0)
    X, y = torch.randn(10, 4), torch.zeros(10, dtype=torch.long)
    for mode in (True, False):
        net.train(mode)
        assert accuracy(net, X, y) == accuracy(net, X, y)
        assert net.training is mode


# The comparison


def test_control_memorises_every_wrong_label(measured):
    values = measured(chapter.experiment_digits)
    assert len(values["noisy_control"]) >= 5
    assert (values["noisy_control_train"] == 1).all()
    assert (values["noisy_control"] < 0.70).all()


def test_curves_of_the_figure():
    control, treated = chapter.curves(0.0, 0), chapter.curves(0.8, 0)  # (15, 2): train, test
    assert control[:, 1].argmax() == 0 and control[0, 0] < 0.7
    assert control[-1, 0] == 1 and control[-1, 1] < control[0, 1] - 0.2
    best = treated[:, 1].argmax()
    assert 0 < best < 14 and treated[-1, 1] > treated[best, 1] - 0.1
    assert treated[-1, 0].item() == pytest.approx(0.8, abs=0.05)


def test_dropout_helps_a_net_that_memorises(measured):
    values = measured(chapter.experiment_digits)
    # Every seed of 0..9 gained 0.075 or more at p = 0.5 and 0.139 or more at 0.8.
    assert (values["noisy_gain"] > 0.04).all()
    assert (values["strong_gain"] > 0.10).all()
    assert (values["noisy_strong"] > values["noisy_half"]).all()
    assert values["noisy_gain"].mean() > 0.08
    assert values["strong_gain"].mean() > 0.15


def test_strong_dropout_keeps_near_the_share_of_right_labels(measured):
    values = measured(chapter.experiment_digits)
    assert (values["noisy_strong_train"] > 0.7).all()
    assert (values["noisy_strong_train"] < 0.9).all()


def test_e20_half_the_units_still_memorise_wrong_labels(measured):
    values = measured(chapter.experiment_digits)
    # 0.7 is what the right labels alone give; capacity in eval() is unchanged.
    assert (values["noisy_half_train"] > 0.94).all()


def test_dropout_does_nothing_with_enough_clean_data(measured):
    values = measured(chapter.experiment_digits)
    # One image of the 360 is 0.003; single seeds differ by a few images in both directions.
    assert (np.abs(values["clean_gain"]) < 0.02).all()
    assert abs(values["clean_gain"].mean()) < 0.01
    assert (values["clean_control"] > 0.95).all()


def test_dropout_hurts_a_narrow_net(measured):
    values = measured(chapter.experiment_digits)
    assert values["narrow_gain"].mean() < -0.025
    # One seed in six may be a tie: its start is bad for the control as well.
    assert (values["narrow_gain"] < 0).mean() >= 5 / 6
    assert (values["narrow_gain"] < 0.01).all()
    assert (values["narrow_half_train"] < values["narrow_control_train"]).all()


def test_longer_training_does_not_save_the_narrow_net():
    n, wrong, width, _, batch = chapter.SETTINGS["narrow"]
    gains = []
    for seed in range(3):
        data = digits_task(n, wrong, seed)
        ends = [
            accuracy(chapter.fit_digits(data, width, 1000, batch, p, seed)[0], *data["test"])
            for p in (0.0, 0.5)
        ]
        gains.append(ends[1] - ends[0])
    assert sum(gains) / 3 < -0.015


def test_early_stopping_does_most_of_it(measured):
    values = measured(chapter.experiment_digits)
    stopped, full = values["noisy_control_stopped"], values["noisy_control"]
    assert (stopped > full + 0.10).all()
    assert (stopped > values["noisy_half"]).all()
    # Beside a control that stops early, dropout adds a fraction of what it seemed to add.
    added = values["stopped_gain"].mean()
    assert added < 0.05
    assert added < 0.4 * values["strong_gain"].mean()
    # Without early stopping, strong dropout comes near it.
    assert np.abs((values["noisy_strong"] - stopped).mean()) < 0.05


def test_nets_trained_with_dropout_survive_the_loss_of_half_their_units(measured):
    values = measured(chapter.experiment_digits)
    for setting, margin in (("noisy", 0.10), ("clean", 0.02), ("narrow", 0.05)):
        control, treated = values[f"{setting}_control_damaged"], values[f"{setting}_half_damaged"]
        assert (treated > control).all(), setting
        assert (treated - control).mean() > margin, setting


def test_masks_at_test_time_are_worse_and_averaging_repairs_it(measured):
    values = measured(chapter.experiment_digits)
    assert (values["noisy_strong"] - values["single"] > 0.08).all()
    assert (values["changed"] > 0.3).all()
    # Averaging 50 passes and eval() differ by a few of the 360 images.
    assert (np.abs(values["mean_of_50"] - values["noisy_strong"]) < 0.03).all()


def fashion_accuracies(n: int, wrong: float, seed: int) -> list[float]:
    """Test accuracy of 784-128-10 after 300 steps on n images, for p = 0, 0.5, 0.8."""
    X, y, X_test, y_test = data.load_fashion_mnist()
    g = generator(seed)
    chosen = torch.randperm(len(X), generator=g)[:n]
    given = with_wrong_labels(y[chosen], wrong, g)
    control = make_mlp((784, 128, 10), g)
    out = []
    for p in (0.0, 0.5, 0.8):
        net = with_dropout(control, p, seed)
        train(net, X[chosen].flatten(1), given, steps=300, seed=seed, batch_size=200)
        out.append(accuracy(net, X_test.flatten(1), y_test))
    return out


def test_fashion_mnist():
    folder = data.data_dir() / "FashionMNIST" / "raw"
    if not (folder / "train-images-idx3-ubyte.gz").is_file():
        pytest.skip("needs Fashion-MNIST in DATA_DIR; python -m snippets.data downloads it")
    noisy = torch.tensor([fashion_accuracies(1000, 0.3, seed) for seed in range(2)])
    clean = torch.tensor([fashion_accuracies(10_000, 0.0, seed) for seed in range(2)])
    # Measured gains 0.05 to 0.10 with wrong labels, losses 0.005 to 0.03 without.
    assert (noisy[:, 1] > noisy[:, 0] + 0.03).all()
    assert (noisy[:, 2] < noisy[:, 1] - 0.03).all()  # here 0.8 is too much
    assert (clean[:, 1] < clean[:, 0]).all()
    assert (clean[:, 2] < clean[:, 1]).all()


# Monte Carlo dropout


def test_mc_dropout_switches_on_dropout_only():
    net = nn.Sequential(nn.Linear(2, 50), nn.BatchNorm1d(50), nn.ReLU(), nn.Dropout(0.5))
    net.append(nn.Linear(50, 1))
    X = torch.randn(20, 2, generator=generator())
    before = copy.deepcopy(net[1].running_mean)
    mean, sd = mc_dropout(net, X, 50)
    assert mean.shape == sd.shape == (20, 1)
    assert (sd > 0).all()
    assert torch.equal(net[1].running_mean, before)
    assert not any(module.training for module in net.modules())


def test_mc_dropout_has_the_mean_and_spread_of_all_masks():
    g = generator()
    net = with_dropout(make_mlp((3, 5, 1), g), 0.5, seed=1)
    x = torch.randn(1, 3, generator=g)
    mean, sd = mc_dropout(net, x, 20_000)
    h = torch.relu(net[0](x)).detach().double().squeeze(0)  # (5,)
    masks, probability = all_masks(5, 0.5)
    outputs = (masks * h / 0.5) @ net[3].weight.detach().double().T + net[3].bias.double()
    expected = probability @ outputs
    spread = (probability @ (outputs - expected) ** 2).sqrt()
    assert mean.item() == pytest.approx(expected.item(), abs=5 * spread.item() / 140)
    assert sd.item() == pytest.approx(spread.item(), rel=0.03)


def test_band_widens_away_from_the_data_but_misses_the_truth(measured):
    values = measured(chapter.experiment_band)
    for n in (20, 200):
        assert (values[f"far_{n}"] > 1.8 * values[f"near_{n}"]).all()
        assert (values[f"covered_near_{n}"] > 0.7).all()
        assert (values[f"covered_far_{n}"] == 0).all()
        assert (values[f"far_error_{n}"] > 3 * values[f"far_{n}"]).all()


def test_band_hardly_shrinks_with_ten_times_the_data(measured):
    values = measured(chapter.experiment_band)
    ratio = values["near_200"] / values["near_20"]
    assert (ratio > 0.6).all()  # 0.32 if it came from the data
    assert (ratio < 1).all()
    assert pytest.approx(0.32, abs=0.005) == 1 / math.sqrt(10)


def test_band_follows_p():
    near = {
        p: [chapter.sine_band(20, p, seed)[2][25:30].mean() for seed in range(3)]
        for p in (0.05, 0.4)
    }
    assert sum(near[0.4]) > 1.3 * sum(near[0.05])


# The clinic and the exercises


def test_eval_cannot_switch_off_functional_or_fresh_dropout():
    class Functional(nn.Module):
        def forward(self, h):
            return F.dropout(h, 0.5)

    class Fresh(nn.Module):
        def forward(self, h):
            return nn.Dropout(0.5)(h)

    ones = torch.ones(1000)
    assert not torch.equal(Functional().eval()(ones), ones)
    assert not torch.equal(Fresh().eval()(ones), ones)


def test_forgotten_train_switches_dropout_off():
    layer = nn.Dropout(0.5)
    layer.eval()
    assert torch.equal(layer(torch.ones(1000)), torch.ones(1000))
    layer.train()
    assert not torch.equal(layer(torch.ones(1000)), torch.ones(1000))


def test_keep_probability_given_as_p_keeps_a_fifth():
    torch.manual_seed(0)
    kept = (nn.Dropout(0.8)(torch.ones(100_000)) != 0).float().mean().item()
    assert kept == pytest.approx(0.2, abs=0.0064)


def test_error_messages():
    with pytest.raises(ValueError, match="has to be between 0 and 1, but got 20"):
        nn.Dropout(20)
    with pytest.raises(RuntimeError, match="can't be cast to the desired output type Long"):
        F.dropout(torch.arange(6), 0.5)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5, inplace=True))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        net(torch.ones(2, 4)).sum().backward()


def test_all_units_off_leaves_the_bias():
    net = with_dropout(make_mlp((4, 5, 2), generator()), 1.0, seed=0).train()
    X = torch.randn(7, 4)
    assert torch.equal(net(X), net[3].bias.expand(7, 2))
    masks, probability = all_masks(5, 0.5)
    assert probability[masks.sum(1) == 0].item() == 1 / 32


def test_gaussian_noise_of_the_same_size_helps_too():
    class Gaussian(Dropout):
        def forward(self, h):
            if not self.training:
                return h
            noise = torch.randn(h.shape, generator=self.generator)
            return h * (1 + (self.p / (1 - self.p)) ** 0.5 * noise)

    for seed in range(5):
        data = digits_task(200, 0.3, seed)
        net = make_mlp((64, 128, 10), generator(seed))
        noisy = copy.deepcopy(net).insert(2, Gaussian(0.8, generator(seed)))
        for each in (net, noisy):
            train(each, *data["train"], steps=150, seed=seed, batch_size=200)
        assert accuracy(noisy, *data["test"]) > accuracy(net, *data["test"]) + 0.05


@pytest.mark.parametrize("p", [0.2, 0.5, 0.8])
def test_batch_norm_after_dropout_stores_too_large_a_variance(p):
    h = torch.randn(200_000, 1, generator=generator())
    norm = nn.BatchNorm1d(1, momentum=None)
    torch.manual_seed(0)
    norm(F.dropout(h, p))
    ratio = norm.running_var.item() / h.var().item()
    assert ratio == pytest.approx(1 / (1 - p), rel=0.03)
