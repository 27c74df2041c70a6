import inspect
import math
from itertools import chain

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from snippets.training import initialization as chapter
from snippets.training.initialization import (
    deep_mlp,
    digits,
    gradient_rms,
    he_,
    hidden_signals,
    kaiming_normal,
    make_weights,
    normal,
    orthogonal,
    rms,
    stack,
    torch_default,
    train_together,
    xavier_uniform,
)

ACTIVATIONS = [torch.sigmoid, torch.tanh, torch.relu]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def identity(z: torch.Tensor) -> torch.Tensor:
    return z


# The failure


def test_the_default_start_stays_at_ln_10_and_kaiming_does_not():
    X, y, _, _ = digits()
    default, kaiming = deep_mlp(30, seed=0), deep_mlp(30, seed=0, init_=he_)
    for net in (default, kaiming):
        chapter.train(net, X, y, lr=0.01, steps=400, seed=0)
    with torch.no_grad():
        # Classes are 10 % each within one point, so guessing costs ln 10 to 0.01.
        assert F.cross_entropy(default(X), y).item() == pytest.approx(math.log(10), abs=0.01)
        assert F.cross_entropy(kaiming(X), y).item() < 1.5


@pytest.mark.parametrize("lr", [0.01, 0.1, 1.0, 10.0, 30.0])
def test_no_rate_rescues_the_default(lr):
    params = stack([deep_mlp(30, seed) for seed in range(3)])
    history, accuracy = train_together(params, lr, 150, seed=0)
    last = history[-20:].mean(0)
    # A constant guess has an accuracy of 0.11 at most; large rates only shake the last bias.
    assert (last.isnan() | (last > 2.2)).all()
    assert (accuracy < 0.16).all()


# The derivation


def test_thirty_factors():
    assert pytest.approx(1.07e-21, rel=0.005) == 0.2**30
    assert pytest.approx(9.3e20, rel=0.005) == 5.0**30
    w = torch.full((30,), 0.2, dtype=torch.float64)
    x = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(w.prod() * x, x)
    assert slope.item() == pytest.approx(0.2**30)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_product_of_jacobians_is_the_derivative(activation):
    weights = [gaussian(5, 4), gaussian(6, 5, seed=1), gaussian(3, 6, seed=2)]
    x = gaussian(4, seed=3)
    expected = torch.autograd.functional.jacobian(
        lambda v: hidden_signals(weights, activation, v)[-1], x
    )
    assert torch.allclose(chapter.jacobian_chain(weights, activation, x), expected)


def test_the_derivative_by_a_weight_ends_in_v():
    weights, x = [gaussian(5, 4), gaussian(3, 5, seed=1)], gaussian(4, seed=2)
    expected = torch.autograd.functional.jacobian(
        lambda W: hidden_signals([W, weights[1]], torch.tanh, x)[-1], weights[0]
    )  # (3, 5, 4)
    h = torch.tanh(weights[0] @ x)
    after = chapter.jacobian_chain(weights[1:], torch.tanh, h)  # (3, 5)
    V = torch.einsum("i,ia,j->iaj", 1 - h**2, torch.eye(5, dtype=x.dtype), x)  # dh_i / dW_aj
    assert torch.allclose(torch.einsum("oi,iaj->oaj", after, V), expected)


@pytest.mark.parametrize("mean", [0.0, 2.0])
def test_variance_of_one_output(mean):
    # n_in = 300, sigma^2 = 0.01, gamma^2 = 9 + mean^2; uniform weights, dependent inputs.
    g = generator()
    x = 3 * torch.randn(4000, 1, generator=g, dtype=torch.float64).expand(-1, 300) + mean
    w = (2 * torch.rand(4000, 300, generator=g, dtype=torch.float64) - 1) * math.sqrt(0.03)
    o = (w * x).sum(1)
    expected = 300 * 0.01 * (9 + mean**2)
    # 4000 products of two near-normals: relative sd of the square about sqrt(8 / 4000) = 4.5 %.
    assert o.square().mean().item() == pytest.approx(expected, rel=0.18)
    assert abs(o.mean().item()) < 4 * math.sqrt(expected / 4000)


def test_xavier_is_the_compromise_and_exact_for_square_layers():
    n_in, n_out = 400, 100
    variance = 2 / (n_in + n_out)
    assert (n_in * variance + n_out * variance) / 2 == pytest.approx(1)
    assert n_in * variance > 1 > n_out * variance  # neither holds by itself
    W = xavier_uniform(n_out, n_in, generator()).double()
    x, delta = gaussian(2000, n_in), gaussian(2000, n_out, seed=1)
    # 40,000 weights and 2000 samples: 2 % at most.
    assert (x @ W.T).var().item() == pytest.approx(n_in * variance, rel=0.04)
    assert (delta @ W).var().item() == pytest.approx(n_out * variance, rel=0.04)


def test_relu_halves_the_second_moment_whatever_the_mean_of_its_inputs():
    x = torch.relu(gaussian(500, 1000))  # mean 0.4
    W = normal(0.05)(1000, 1000, generator()).double()
    h = torch.relu(x @ W.T)
    expected = 0.5 * 1000 * 0.05**2 * x.square().mean().item()
    # Every unit sees nearly the same input direction: 1000 units, kurtosis 3, 7 % sd with the half.
    assert h.square().mean().item() == pytest.approx(expected, rel=0.25)


def test_signals_follow_the_prediction(measured):
    values = measured(chapter.experiment_signal)
    assert (values["zero"] == 0).all()
    # ln(rms) of one network has the sd sqrt(5 * 30 / 256) / 2 = 0.38: 3.5 sd is a factor of 4.
    for key, std in {
        "small": 0.01,
        "large": 1.0,
        "default": 1 / math.sqrt(3 * 256),
        "xavier": 1 / 16,
        "kaiming": math.sqrt(2 / 256),
        "orthogonal": math.sqrt(2 / 256),
    }.items():
        predicted = math.sqrt(256 * std**2 / 2) ** 30
        assert (values[key] < 4 * predicted).all(), key
        assert (values[key] > predicted / 4).all(), key
    assert pytest.approx(3.05e-5, rel=0.01) == 2.0**-15
    assert pytest.approx(2.1e-12, rel=0.02) == 6.0**-15
    assert (0.01 * 16 / math.sqrt(2)) ** 30 == pytest.approx(4.06e-29, rel=0.01)
    assert (16 / math.sqrt(2)) ** 30 == pytest.approx(4.06e31, rel=0.01)
    # Treatment against control: Kaiming against Xavier, the same draws up to the scale.
    assert (values["kaiming"] > 1e4 * values["xavier"]).all()


def test_biases_keep_the_size_but_not_the_difference_between_images():
    X, _, _, _ = digits()
    for seed in range(5):
        with torch.no_grad():
            h = deep_mlp(30, seed)[:-1](X)
            h_kaiming = deep_mlp(30, seed, he_)[:-1](X)
        assert rms(h) > 0.01
        assert h.std(0).max() < 1e-6
        assert h_kaiming.std(0).max() > 1e-2


# The code


@pytest.mark.parametrize("shape", [(512, 256), (256, 512), (5, 7), (64, 64)])
def test_scratch_equals_torch(shape):
    def fill(init_, **options):
        return init_(torch.empty(shape), generator=generator(1), **options)

    assert torch.allclose(xavier_uniform(*shape, generator(1)), fill(nn.init.xavier_uniform_))
    expected = fill(nn.init.kaiming_normal_, nonlinearity="relu")
    assert torch.allclose(kaiming_normal(*shape, generator(1)), expected)
    expected = fill(nn.init.kaiming_uniform_, a=math.sqrt(5))
    assert torch.allclose(torch_default(*shape, generator(1)), expected)
    W = orthogonal(2.0)(*shape, generator(1))
    short = W if shape[0] <= shape[1] else W.T
    # float32 QR: a few 1e-6.
    assert torch.allclose(short @ short.T, 4 * torch.eye(min(shape)), atol=1e-4)
    if shape[0] >= shape[1]:
        assert torch.allclose(W, fill(nn.init.orthogonal_, gain=2.0), atol=1e-5)


def test_he_is_kaiming_normal():
    # Standard deviation of 200,000 draws: 0.16 % sd.
    assert he_(torch.empty(500, 400)).std().item() == pytest.approx(math.sqrt(2 / 400), rel=0.01)


def test_gains_of_torch():
    gain = nn.init.calculate_gain
    assert (gain("linear"), gain("sigmoid"), gain("tanh")) == (1, 1, 5 / 3)
    assert gain("relu") == math.sqrt(2)
    assert gain("leaky_relu", math.sqrt(5)) == pytest.approx(math.sqrt(1 / 3))


def test_gradients_follow_the_prediction(measured):
    values = measured(chapter.experiment_gradient)
    # As for the signals: a factor of 4 is 3.5 sd of one network.
    for key, factor in {"default": 6**-0.5, "xavier": 2**-0.5, "kaiming": 1, "orthogonal": 2**-0.5}.items():  # noqa: E501  # fmt: skip
        assert (values[f"relu_{key}"] < 4 * factor**30).all(), key
        assert (values[f"relu_{key}"] > factor**30 / 4).all(), key
    # A quarter per layer and a weight factor of 1; Kaiming adds sqrt(2) per layer.
    assert (values["sigmoid_xavier"] < 4**-30 * 4).all()
    for key in ("default", "xavier", "kaiming", "orthogonal"):
        assert (values[f"sigmoid_{key}"] < 1e-14).all()
    assert (values["tanh_xavier"] > 0.05).all() and (values["tanh_xavier"] < 1).all()
    assert (values["tanh_orthogonal"] > 0.05).all() and (values["tanh_orthogonal"] < 1).all()
    assert (values["tanh_kaiming"] > 1).all() and (values["tanh_kaiming"] < 10).all()
    assert (values["tanh_default"] < 1e-6).all()


# The training runs


def test_training_together_equals_training_alone():
    X, y, X_test, y_test = digits()
    starts = [he_, nn.init.xavier_normal_]
    nets = [deep_mlp(4, seed, start) for seed, start in enumerate(starts)]
    _, accuracy = train_together(stack(nets), 0.05, 30, seed=3)
    for net, expected in zip(nets, accuracy, strict=True):
        chapter.train(net, X, y, 0.05, 30, seed=3)
        alone = (net(X_test).argmax(1) == y_test).float().mean()
        # Rounding may turn a few of 360 near ties.
        assert abs(alone - expected) <= 4 / 360


@pytest.mark.parametrize("normalise", [False, True])
def test_forward_together_is_the_network(normalise):
    x = digits()[0][:40]
    net = deep_mlp(3, 0, he_)
    expected = net(x)
    if normalise:
        layers = [
            [layer, nn.BatchNorm1d(64)] if isinstance(layer, nn.Linear) else [layer]
            for layer in net[:-1]
        ]
        expected = nn.Sequential(*chain.from_iterable(layers), net[-1])(x)  # training mode
    out = chapter.forward_together(stack([net, net]), x, normalise)
    assert torch.allclose(out, expected.expand(2, -1, -1), atol=1e-4)  # float32


def test_depth_separates_the_starts(measured):
    values = measured(chapter.experiment_depth)
    # Ten seeds: Kaiming 0.79..0.94 on 10 layers, Xavier 0.25..0.6, default at chance (0.08..0.13).
    assert (values["kaiming_10"] > values["default_10"] + 0.5).all()
    assert (values["kaiming_10"] > values["xavier_10"] + 0.1).all()
    assert (values["xavier_10"] > values["default_10"] + 0.05).all()
    assert (values["kaiming_5"] > values["default_5"] + 0.4).all()
    assert (values["kaiming_30"] > 0.15).all() and values["kaiming_30"].mean() > 0.25
    assert (values["default_30"] < 0.13).all() and (values["xavier_30"] < 0.13).all()
    assert abs(values["default_30_loss"] - math.log(10)).max() < 0.03
    assert abs(values["xavier_30_loss"] - math.log(10)).max() < 0.03
    gain = values["orthogonal_gain_30"]
    assert gain.mean() > 0 > gain.min()  # the page: higher on average, not at every seed
    assert gain.std(ddof=1) > gain.mean()


def test_two_layers_do_not_need_it(measured):
    values = measured(chapter.experiment_depth)
    assert (abs(values["kaiming_2"] - values["default_2"]) < 0.05).all()
    assert (values["default_2"] > 0.9).all()


def test_normalisation_rescues_the_default(measured):
    values = measured(chapter.experiment_rescue)
    assert (values["sgd_10"] < 0.16).all()
    assert (values["normalised_10"] > 0.85).all()
    assert (values["adam_10"] > values["sgd_10"] + 0.05).all()


def test_adam_fails_at_30_layers_because_of_eps():
    params = stack([deep_mlp(30, seed) for seed in range(5)])
    usual, _ = train_together(params, 0.001, 150, seed=0, adam_eps=1e-8)
    small, _ = train_together(params, 0.001, 150, seed=0, adam_eps=1e-20)
    # ln 10 = 2.303; one batch of 32 scatters by 0.03, the mean of 20 by less.
    assert (usual[-20:].mean(0) > 2.25).all()
    assert (small[-20:].mean(0) < 2.15).all()
    X, y, _, _ = digits()
    for seed in range(5):
        net = deep_mlp(30, seed)
        F.cross_entropy(net(X[:64]), y[:64]).backward()
        assert rms(net[0].weight.grad) < 1e-10


def test_normalisation_removes_the_scale_of_the_weights():
    params = stack([deep_mlp(5, 0, he_)])
    scaled = [p * 3 if i % 2 == 0 and i < 10 else p for i, p in enumerate(params)]
    x = digits()[0][:64]
    # eps = 1e-5 against a variance near 1.
    a, b = (chapter.forward_together(p, x, normalise=True) for p in (params, scaled))
    assert torch.allclose(a, b, atol=1e-3)


# Symmetry


@pytest.mark.parametrize("value", [0.05, 0.0])
def test_equal_units_get_equal_gradients(value):
    X, y, _, _ = digits()
    W1 = torch.full((32, 64), value, dtype=torch.float64, requires_grad=True)
    # Equal units, but each class has a weight of its own.
    W2 = (value * gaussian(10, 1)).repeat(1, 32).requires_grad_()
    loss = F.cross_entropy(torch.relu(X[:64].double() @ W1.T) @ W2.T, y[:64])
    g1, g2 = torch.autograd.grad(loss, (W1, W2))
    # Rounding only, about 1e-16.
    assert torch.allclose(g1, g1[:1].expand_as(g1), atol=1e-14)
    assert torch.allclose(g2, g2[:, :1].expand_as(g2), atol=1e-14)
    if value == 0:
        assert (g1 == 0).all() and (g2 == 0).all()
    else:
        assert g1.abs().max() > 1e-4 and g2.abs().max() > 1e-4


def test_the_probe_leaves_its_arguments_alone():
    W1, W2 = gaussian(32, 64), gaussian(10, 32)
    before = W1.clone()
    chapter.symmetry_probe(W1, W2, 0.0, 2, 0)
    assert torch.equal(W1, before) and not W1.requires_grad


def test_e21_dropout_separates_equal_units(measured):
    values = measured(chapter.experiment_symmetry)
    # Rounding starts at 1e-16 and has reached 1e-13..1e-12 after 300 steps.
    assert (values["equal_spread"] < 1e-6).all()
    assert (values["dropout_spread"] > 0.5).all()
    assert (values["zero_spread"] == 0).all()
    assert (values["zero"] < 0.13).all()
    assert (values["dropout"] > values["equal"] + 0.5).all()
    # Random is ahead by 1 to 5 points, with dropout as well; four test digits are 0.011.
    assert values["random"].mean() > values["dropout"].mean() + 0.005
    assert values["random_dropout"].mean() > values["dropout"].mean() + 0.005
    assert (values["random"] > values["long"] + 0.2).all()


def test_equal_units_are_an_unstable_state():
    W1 = torch.full((32, 64), 0.05, dtype=torch.float64)
    W1[0, 0] *= 1 + 1e-7
    for seed in range(3):
        start, _ = chapter.symmetry_probe(W1, torch.full((10, 32), 0.05), 0.0, 1, seed)
        end, _ = chapter.symmetry_probe(W1, torch.full((10, 32), 0.05), 0.0, 1000, seed)
        assert chapter.spread(start) < 1e-6
        assert chapter.spread(end) > 0.1


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_e21_permuted_units_compute_the_same_function(dropout):
    W1, W2 = (init.double() for init in (kaiming_normal(32, 64, generator()), kaiming_normal(10, 32, generator(1))))  # noqa: E501  # fmt: skip
    X = digits()[0].double()
    order = torch.randperm(32, generator=generator(2))
    for weight in (W1, chapter.symmetry_probe(W1, W2, dropout, 50, 0)[0]):
        f = torch.relu(X @ weight.T) @ W2.T
        assert torch.allclose(f, torch.relu(X @ weight[order].T) @ W2[:, order].T)
        assert not torch.allclose(f, torch.relu(X @ weight[order].T) @ W2.T, atol=0.1)


# Clipping


def test_clip_grad_norm_caps_at_one_and_keeps_the_direction():
    X, y, _, _ = digits()
    net = deep_mlp(10, 0, lambda weight: nn.init.normal_(weight, std=1.0))
    F.cross_entropy(net(X[:32]), y[:32]).backward()
    before = torch.cat([p.grad.flatten() for p in net.parameters()]).double()
    returned = nn.utils.clip_grad_norm_(net.parameters(), max_norm=1.0)
    after = torch.cat([p.grad.flatten() for p in net.parameters()]).double()
    assert returned.item() == pytest.approx(before.norm().item(), rel=1e-4)  # float32 sums
    assert after.norm().item() == pytest.approx(1, rel=1e-4)
    assert F.cosine_similarity(before, after, dim=0).item() == pytest.approx(1)
    assert before.norm() > 1e6


def test_clip_each_is_clip_grad_norm_for_every_network():
    params = [gaussian(2, 3, 4).requires_grad_(), gaussian(2, 1, 3, seed=1).requires_grad_()]
    alone = []
    for p, seed in zip(params, (2, 3), strict=True):
        p.grad = gaussian(*p.shape, seed=seed)
        p.grad[1] *= 0.01  # the second network is below the limit
        alone.append(p.grad.clone())
    chapter.clip_each(params, 1.0)
    for i in range(2):
        twins = [nn.Parameter(torch.zeros_like(grad[i])) for grad in alone]
        for twin, grad in zip(twins, alone, strict=True):
            twin.grad = grad[i].clone()
        nn.utils.clip_grad_norm_(twins, 1.0)
        for p, twin in zip(params, twins, strict=True):
            assert torch.allclose(p.grad[i], twin.grad, rtol=1e-5)  # torch adds 1e-6 to the norm


def test_clipping_saves_a_large_start_and_costs_a_good_one(measured):
    values = measured(chapter.experiment_clip)
    for key in ("half_more", "triple"):
        assert (values[f"{key}_free_nan"] == 1).all()
        assert (values[f"{key}_clipped_nan"] == 0).all()
        assert (values[f"{key}_clipped"] > values[f"{key}_free"] + 0.1).all()
    assert (values["one_free_nan"] == 0).all()
    assert values["one_clipped"].mean() < values["one_free"].mean() - 0.05
    # It does not replace a good start.
    assert (values["one_free"] > values["half_more_clipped"] + 0.1).all()
    assert (values["one_clipped"] > values["triple_clipped"] + 0.1).all()


# Where it does not help


def test_narrow_networks_scatter(measured):
    values = measured(chapter.experiment_width)
    assert (values["dead_32"] == 0).all() and (values["dead_128"] == 0).all()
    # 300 networks, probability 0.111: sd 0.018; four of them.
    assert values["dead_8"].mean() == pytest.approx(1 - (1 - 2.0**-8) ** 30, abs=0.073)
    assert pytest.approx(0.11, abs=0.005) == 1 - (1 - 2.0**-8) ** 30
    # sqrt(5 L / n) is the first term: right to 20 % from width 32 on, too small at 8.
    for width in (32, 128):
        predicted = math.sqrt(5 * 30 / width)
        assert values[f"sd_{width}"].mean() == pytest.approx(predicted, rel=0.2)
    assert (values["sd_8"] > 4.33).all()
    assert [round(math.sqrt(150 / n), 2) for n in (8, 32, 128)] == [4.33, 2.17, 1.08]


def test_relative_variance_of_one_layer_is_five_over_n():
    z = gaussian(1_000_000)
    h2 = torch.relu(z) ** 2
    # E z^4 / 2 over (E z^2 / 2)^2, less 1; heavy tails: 1 % sd.
    assert (h2.var() / h2.mean() ** 2).item() == pytest.approx(5, rel=0.05)


# Errata


def test_e16_small_weights_have_the_largest_slope(measured):
    values = measured(chapter.experiment_slope)
    assert values["small_slope"] == pytest.approx(0.25, abs=1e-3)  # the notes: small
    assert (values["small_slope"] > values["middle_slope"]).all()
    assert (values["middle_slope"] > 5 * values["large_slope"]).all()
    # 0.25 * 0.01 * 8 = 0.02 a layer all the same: the weights make it vanish.
    assert values["small_ratio"] == pytest.approx(0.02**10, rel=0.3)
    # Saturation stops nine units of ten and yet the gradient as a whole explodes.
    assert (values["large_saturated"] > 0.85).all()
    assert (values["large_ratio"] > 100).all()
    z = torch.linspace(-5, 5, 101, dtype=torch.float64)
    slope = torch.sigmoid(z) * (1 - torch.sigmoid(z))
    assert slope.argmax() == 50 and slope[50] == 0.25


def test_e17_weights_near_one_explode(measured):
    values = measured(chapter.experiment_signal)
    assert pytest.approx(7.6e22, rel=0.01) == 2.0**76
    # Rms over 32 samples of one Gaussian number: sd 12.5 %; four of them.
    assert values["near_one"] == pytest.approx(2.0**76, rel=0.5)
    assert not hasattr(torch, "init") and hasattr(torch.nn, "init")


def test_e17_entries_below_one_need_not_vanish():
    weights = make_weights(orthogonal(1.0), 30, 256, seed=0)
    x = gaussian(1, 256)
    assert max(W.abs().max() for W in weights) < 0.5
    out = hidden_signals(weights, identity, x)[-1]
    assert (out.norm() / x.norm()).item() == pytest.approx(1, abs=1e-4)  # float32 QR
    sizes = gradient_rms(weights, identity, x)
    assert sizes[0] == pytest.approx(sizes[-1], rel=1e-4)


def test_e17_the_gradient_of_a_weight_is_not_proportional_to_it():
    x = digits()[0][:10].double()
    weights = make_weights(kaiming_normal, 3, 64, seed=1)

    def gradients(middle):
        ws = [W.clone().requires_grad_() for W in (weights[0], middle, weights[2])]
        return torch.autograd.grad(hidden_signals(ws, torch.relu, x)[-1].sum(), ws)

    first, second = gradients(weights[1]), gradients(weights[1] / 10)
    for a, b, factor in zip(first, second, (0.1, 1.0, 0.1), strict=True):
        assert torch.allclose(b, factor * a)


def test_e36_the_default_is_uniform():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer, conv = nn.Linear(256, 512), nn.Conv2d(16, 64, 4)
    for module in (layer, conv):  # fan_in 256 for both
        for p in module.parameters():
            assert p.abs().max() <= 1 / 16
        w = module.weight.detach().double().flatten()
        assert w.abs().max() > 0.999 / 16
        assert w.var().item() == pytest.approx(1 / (3 * 256), rel=0.03)
        kurtosis = (w**4).mean() / (w**2).mean() ** 2
        # 16,384 draws at least: sd 0.01; a Gaussian has 3.
        assert kurtosis.item() == pytest.approx(1.8, abs=0.05)
    assert "kaiming_uniform_(self.weight, a=math.sqrt(5))" in inspect.getsource(
        nn.Linear.reset_parameters
    )


def test_e36_xavier_uniform_has_the_variance_of_the_notes():
    W = xavier_uniform(512, 256, generator())
    bound = math.sqrt(6 / 768)
    assert bound == pytest.approx(0.0884, abs=5e-5)
    assert (2 * bound) ** 2 / 12 == pytest.approx(2 / 768)
    assert W.abs().max() <= bound and W.abs().max() > 0.999 * bound
    # 131,072 draws, sd of the variance 0.25 %.
    assert W.var().item() == pytest.approx(2 / 768, rel=0.01)


# The clinic


def test_biases_have_no_fan_in():
    with pytest.raises(ValueError, match="fewer than 2 dimensions"):
        nn.init.xavier_uniform_(nn.Linear(4, 3).bias)


def test_in_place_on_a_leaf_is_refused_outside_nn_init():
    layer = nn.Linear(4, 3)
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
        layer.weight.normal_(0, 0.1)
    nn.init.normal_(layer.weight, std=0.1)
    assert layer.weight.requires_grad and layer.weight.is_leaf


def test_a_transposed_weight_gets_the_wrong_scale_silently():
    W = nn.init.kaiming_normal_(torch.empty(64, 1024), generator=generator())
    assert W.std().item() == pytest.approx(math.sqrt(2 / 1024), rel=0.02)
    nn.init.kaiming_normal_(W.T, generator=generator())  # fills W itself
    assert W.std().item() == pytest.approx(math.sqrt(2 / 64), rel=0.02)


def test_one_nan_spoils_all_clipped_gradients():
    p = nn.Parameter(torch.zeros(3))
    p.grad = torch.tensor([1.0, math.nan, 2.0])
    with pytest.raises(RuntimeError, match="non-finite"):
        nn.utils.clip_grad_norm_([p], 1.0, error_if_nonfinite=True)
    nn.utils.clip_grad_norm_([p], 1.0)
    assert p.grad.isnan().all()


# The exercises


def test_depth_at_which_a_thousandth_is_left():
    assert 6**-4 < 1e-3 < 6**-3.5
    assert 2.0**-10 < 1e-3 < 2.0**-9.5


def test_a_zero_last_layer_starts_at_ln_10_and_learns():
    X, y, _, _ = digits()
    net = deep_mlp(3, 0, he_)
    nn.init.zeros_(net[-1].weight)
    with torch.no_grad():
        assert F.cross_entropy(net(X), y).item() == pytest.approx(math.log(10), abs=1e-6)
    assert chapter.train(net, X, y, lr=0.1, steps=300, seed=0) < 0.3
