import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from snippets import data
from snippets.vision import pooling as chapter
from snippets.vision.pooling import (
    AVERAGE,
    MAX,
    NONE,
    STRIDE,
    BlurPool,
    LeNetLike,
    Squash,
    change,
    column_accuracy,
    frame,
    gradient_map,
    make_net,
    moved_copies,
    params_stack,
    pool2d,
    receptive_field,
    rf_by_gradient,
    spread,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


TORCH = {
    "max": F.max_pool2d,
    "avg": F.avg_pool2d,
    "l2": lambda x, k, stride=None: F.lp_pool2d(x, 2, k, stride),
}


# The frame and the moves


def test_frame_moves_the_digit_and_nothing_else():
    X = torch.rand(3, 64, generator=generator())
    middle = frame(X)
    assert middle.shape == (3, 1, 12, 12)
    assert torch.equal(middle[:, 0, 2:10, 2:10], X.view(3, 8, 8))
    for dy, dx in ((0, 1), (2, -2), (-1, 0)):
        assert torch.equal(frame(X, dy, dx), middle.roll((dy, dx), (2, 3)))
    assert frame(X, margin=8).shape == (3, 1, 24, 24)


def test_moved_copies_are_moves_of_the_right_digit():
    X = torch.rand(5, 64, generator=generator())
    images, labels = moved_copies(X, torch.arange(5), 40, seed=0)
    assert images.shape == (200, 1, 12, 12)
    assert torch.equal(labels, torch.arange(5).repeat(40))
    assert torch.allclose(images.sum((1, 2, 3)), X.sum(1).repeat(40))
    assert len(images[labels == 0].unique(dim=0)) > 15  # of 25 places, 40 draws


# The three kinds of pooling


@pytest.mark.parametrize("mode", TORCH)
@pytest.mark.parametrize(("k", "stride"), [(2, None), (3, 2), (3, 1), (2, 3), (1, 1)])
@pytest.mark.parametrize("size", [(7, 8), (9, 6)])
def test_pool2d_is_torch_s_and_so_is_its_gradient(mode, k, stride, size):
    x = torch.rand(2, 3, *size, generator=generator(), dtype=torch.float64).requires_grad_()
    ours, theirs = pool2d(x, k, stride, mode), TORCH[mode](x, k, stride)
    assert torch.allclose(ours, theirs)
    grads = [torch.autograd.grad(out.pow(3).sum(), x)[0] for out in (ours, theirs)]
    assert torch.allclose(*grads)


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="max, avg or l2"):
        pool2d(torch.zeros(1, 1, 2, 2), 2, mode="min")


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1])
def test_size_formula(k, stride, padding):
    for size in range(3, 20):
        out = F.max_pool2d(torch.zeros(1, 1, size, size), k, stride, padding)
        assert out.shape[-1] == (size + 2 * padding - k) // stride + 1


def test_numbers_of_the_example():
    x = torch.tensor(chapter.EXAMPLE).view(1, 1, 4, 4)
    assert pool2d(x, 2).flatten().tolist() == [4, 8, 4, 2]
    assert pool2d(x, 2, mode="avg").flatten().tolist() == [1.75, 3.5, 2.25, 2]
    assert pool2d(x, 2, mode="l2").flatten().tolist() == [5, 10, 5, 4]


def test_l2_pooling_of_3_and_4_is_5():
    x = torch.tensor([3.0, 4, 0, 0]).view(1, 1, 2, 2)
    assert pool2d(x, 2, mode="l2").item() == 5
    assert nn.LPPool2d(2, 2)(x).item() == 5


def test_maxima_send_the_gradient_to_one_place_means_to_all():
    x = torch.tensor([[1.0, 5], [2, 4]]).view(1, 1, 2, 2).requires_grad_()
    assert torch.autograd.grad(F.max_pool2d(x, 2), x)[0].flatten().tolist() == [0, 1, 0, 0]
    assert torch.autograd.grad(F.avg_pool2d(x, 2), x)[0].flatten().tolist() == [0.25] * 4
    l2 = torch.autograd.grad(pool2d(x, 2, mode="l2"), x)[0]
    assert torch.allclose(l2, x / math.sqrt(46))
    assert f"{math.sqrt(46):.3f}" == "6.782"


def test_ties_share_the_gradient_in_amax_only():
    x = torch.ones(1, 1, 2, 2, requires_grad=True)
    assert torch.autograd.grad(pool2d(x, 2), x)[0].flatten().tolist() == [0.25] * 4
    assert torch.autograd.grad(F.max_pool2d(x, 2), x)[0].flatten().tolist() == [1, 0, 0, 0]


# What it saves, what it loses


def multiplications(net: nn.Module, size: int) -> int:
    """Count those of convolutions and linear layers for one image, by hooks."""
    total = []

    def hook(layer, inputs, out):
        per_output = layer.weight[0].numel()
        total.append(per_output * out[0].numel())

    for layer in net:
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.register_forward_hook(hook)
    net.eval()(torch.zeros(1, 1, size, size))
    return sum(total)


def test_pooling_has_no_parameters_and_changes_only_the_linear_layer():
    assert count(nn.MaxPool2d(2)) == count(nn.AvgPool2d(2)) == count(nn.LPPool2d(2, 2)) == 0
    nets = [make_net(*blocks) for blocks in ((NONE, NONE), (MAX, MAX), (STRIDE, STRIDE))]
    assert [count(net) for net in nets] == [24322, 2722, 2722]
    assert count(make_net(AVERAGE, AVERAGE)) == 2722
    assert [count(net[:-1]) for net in nets] == [1272] * 3
    assert [net[-1].in_features for net in nets] == [2304, 144, 144]
    assert [multiplications(net, 12) for net in nets] == [199296, 53280, 14400]


def test_make_net_leaves_fresh_batch_norm_statistics_and_is_in_training_mode():
    net = make_net(MAX, MAX)
    assert all(module.training for module in net.modules())
    assert all(m.num_batches_tracked == 0 for m in net if isinstance(m, nn.BatchNorm2d))


def test_e48_two_inputs_one_output():
    first = torch.tensor([3.0, 0, 0, 0]).view(1, 1, 2, 2)
    second = torch.tensor([1.0, 2, 3, 3]).view(1, 1, 2, 2)
    assert torch.equal(pool2d(first, 2), pool2d(second, 2))
    assert not torch.equal(pool2d(first, 2, mode="avg"), pool2d(second, 2, mode="avg"))
    third = torch.tensor([0.0, 3, 0, 0]).view(1, 1, 2, 2)
    assert torch.equal(pool2d(first, 2, mode="avg"), pool2d(third, 2, mode="avg"))


# Shifts


@pytest.mark.parametrize("mode", TORCH)
@pytest.mark.parametrize("stride", [2, 3])
def test_equivariant_for_shifts_by_the_stride_only(mode, stride):
    x = F.pad(torch.rand(4, 1, 12, 12, generator=generator()), (6, 6, 6, 6))
    out = pool2d(x, stride, mode=mode)
    for d in range(1, 2 * stride + 1):
        moved = pool2d(x.roll(d, 3), stride, mode=mode)
        for m in range(3):
            same = torch.allclose(moved, out.roll(m, 3))
            assert same == (d == m * stride)


def test_stripe_of_the_figure():
    x = torch.tensor([0.0, 0, 1, 1, 0, 0, 0, 0]).view(1, 1, 8)
    outs = [F.max_pool1d(x.roll(d, 2), 2)[0, 0].tolist() for d in range(3)]
    assert outs == [[0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0]]


def test_blur_pool_is_a_binomial_blur_of_the_dense_maximum():
    x = torch.rand(2, 3, 8, 8, generator=generator())
    row = torch.tensor([1.0, 2, 1]) / 4
    kernel = torch.outer(row, row).expand(3, 1, 3, 3)
    dense = F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 2, stride=1)  # (2, 3, 9, 9)
    expected = F.conv2d(dense, kernel, stride=2, groups=3)  # (2, 3, 4, 4)
    assert torch.allclose(BlurPool()(x), expected, atol=1e-6)


def test_shift_changes_values_less_but_far_from_nothing(measured):
    values = measured(chapter.experiment_shift)
    assert (values["none"] > 0.75).all()
    assert (values["every_second"] > values["none"]).all()
    for name in ("max", "average"):
        assert (values[name] > 0.5).all()
        assert (values[name] < 0.75 * values["none"]).all()
    assert (values["blur"] < 0.85 * values["max"]).all()


def test_shift_keeps_the_total_of_means_and_of_the_blur(measured):
    values = measured(chapter.experiment_shift)
    for name in ("none", "average", "blur"):  # float32 sums of 64 to 256 numbers
        assert (values[f"{name}_sum"] < 1e-5).all()
    assert (values["max_sum"] > 0.08).all()
    assert (values["every_second_sum"] > 0.12).all()


def test_change_is_zero_for_a_whole_step_of_the_total_and_relative():
    x = F.pad(torch.rand(3, 1, 4, 4, generator=generator()), (4, 4, 4, 4))
    for pool in (nn.MaxPool2d(2), nn.AvgPool2d(2), BlurPool()):
        values, total = change(pool, x, 2)
        assert (values > 0.1).all()
        assert (total < 1e-6).all()
        doubled, _ = change(pool, 2 * x, 2)
        assert torch.allclose(values, doubled)


# Receptive fields


NETS = [
    ([(3, 1)] * 3, 7),
    ([(3, 1), (2, 2), (3, 1)], 8),
    ([(3, 1)], 3),
    ([(3, 2), (3, 2), (3, 1)], 15),
    ([(5, 1), (2, 2), (5, 1), (2, 2)], 16),
    ([(3, 1), (3, 2), (3, 1), (2, 2), (3, 1)], 19),
]


@pytest.mark.parametrize(("layers", "expected"), NETS)
@pytest.mark.parametrize("pool", [nn.MaxPool2d, nn.AvgPool2d])
def test_receptive_field_by_recursion_equals_that_by_gradient(layers, expected, pool):
    modules = []
    for k, s in layers:
        modules.append(nn.Conv2d(1, 1, k, s) if k != 2 else pool(2, s))
        modules.append(nn.ReLU())
    assert receptive_field(layers) == expected
    assert rf_by_gradient(nn.Sequential(*modules), 48) == expected


def test_closed_form_of_the_recursion():
    layers = [(3, 1), (2, 2), (5, 1), (3, 2), (3, 1)]
    strides = [1, 1, 2, 2, 4]  # products of the strides before
    assert receptive_field(layers) == 1 + sum(
        (k - 1) * j for (k, _), j in zip(layers, strides, strict=True)
    )


def test_e47_only_the_first_layer_sees_its_filter():
    assert receptive_field([(3, 1)]) == 3
    assert [receptive_field([(3, 1)] * n) for n in (1, 2, 3)] == [3, 5, 7]
    assert receptive_field([(5, 1), (2, 2), (5, 1), (2, 2), (5, 1)]) == 32  # LeNet's own input


def test_rf_by_gradient_leaves_the_net_alone():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2))
    before = net[0].weight.clone()
    rf_by_gradient(net, 12)
    assert torch.equal(net[0].weight, before)
    assert net[0].weight.dtype == torch.float32
    assert isinstance(net[2], nn.MaxPool2d)


def test_receptive_field_of_vgg_and_of_dilation():
    layers = []
    for convs in (2, 2, 3, 3, 3):
        layers += [(3, 1)] * convs + [(2, 2)]
    assert receptive_field(layers) == 212
    assert receptive_field([(3, 1)] * 13) == 27
    assert receptive_field([(2 * d + 1, 1) for d in (1, 2, 4)]) == 15
    dilated = nn.Sequential(*[nn.Conv2d(1, 1, 3, dilation=d) for d in (1, 2, 4)])
    assert rf_by_gradient(dilated, 31) == 15


def paths(n: int) -> torch.Tensor:
    """Probability that n steps of -1, 0, 1 end at -n ... n."""
    out = torch.ones(1, dtype=torch.float64)
    for _ in range(n):
        out = F.conv1d(out.view(1, 1, -1), torch.ones(1, 1, 3).double() / 3, padding=2).flatten()
    return out


@pytest.mark.parametrize("n", [1, 5, 10, 20])
def test_spread_of_the_paths(n):
    p = paths(n)
    assert p.sum().item() == pytest.approx(1)
    energy = torch.outer(p, p)
    assert spread(energy.float()) == pytest.approx(math.sqrt(2 * n / 3), rel=1e-5)


def test_squared_gradient_of_linear_layers_counts_the_paths():
    """Equation (8) itself: three random 1-D layers, no ReLU, 20000 networks."""
    g = torch.ones(20_000, 1, dtype=torch.float64)
    for layer in torch.randn(3, 20_000, 3, 1, generator=generator(), dtype=torch.float64):
        g = (F.pad(g, (2, 2)).unfold(1, 3, 1) @ layer).squeeze(2)
    energy = g.square().mean(0)  # (7,)
    # Heavy tails: a product of three squared normals has variance 26, over its mean 1.
    assert torch.allclose(energy / energy.sum(), paths(3), atol=0.03)


def test_effective_field_grows_with_the_root(measured):
    values = measured(chapter.experiment_effective)
    for n, printed in ((5, "1.83"), (10, "2.58"), (20, "3.65")):
        predicted = math.sqrt(2 * n / 3)
        assert f"{predicted:.2f}" == printed
        assert values[f"spread_{n}"].mean() == pytest.approx(predicted, rel=0.06)
    assert (values["middle_20"] > 0.98).all()
    assert (values["middle_5"] < 0.75).all()
    assert 21**2 / 41**2 < 0.27


def test_gradient_map_fills_the_field_and_is_normalised():
    energy = gradient_map(3, 16, 5, generator())
    assert energy.shape == (7, 7)
    assert energy.sum().item() == pytest.approx(1, abs=1e-5)
    assert (energy > 0).all()
    assert energy[3, 3] > 5 * energy[0, 0]


# Stacks of small kernels


def test_three_small_kernels_against_a_large_one():
    assert (params_stack(3, 3, 64), params_stack(7, 1, 64)) == (110592, 200704)
    assert pytest.approx(0.45, abs=0.005) == 1 - 110592 / 200704
    for n, k, c, c_in in ((3, 3, 8, 8), (1, 7, 8, 8), (3, 3, 8, 3), (1, 7, 8, 3)):
        sizes = [c_in] + [c] * n
        convs = [nn.Conv2d(a, b, k, bias=False) for a, b in pairwise(sizes)]
        assert params_stack(k, n, c, c_in) == sum(map(count, convs))


def test_a_widening_first_layer_is_cheaper_with_one_large_kernel():
    small, large = params_stack(3, 3, 64, c_in=3), params_stack(7, 1, 64, c_in=3)
    assert (small, large) == (75456, 9408)
    assert round(small / large) == 8
    for c_in in range(1, 65):
        saves = params_stack(3, 3, 64, c_in) < params_stack(7, 1, 64, c_in)
        assert saves == (c_in > 0.45 * 64)


# Sizes


def test_sizes_that_halve_often():
    assert (2**5, 2**6, 2**5 * 7) == (32, 64, 224)
    sizes = {224: [112, 56, 28, 14, 7], 100: [50, 25, 12, 6, 3]}
    for size, expected in sizes.items():
        x = torch.ones(1, 1, size, size, requires_grad=True)
        h, seen = x, []
        for _ in range(5):
            h = F.avg_pool2d(h, 2)
            seen.append(h.shape[-1])
        assert seen == expected
        h.sum().backward()
        used = 7 * 32 if size == 224 else 96
        assert (x.grad[0, 0] > 0).sum().item() == used**2
    assert pytest.approx(0.0784) == 1 - 0.96**2


def test_ceil_mode_keeps_the_rest():
    x = torch.arange(25.0).view(1, 1, 5, 5)
    assert F.max_pool2d(x, 2).flatten().tolist() == [6, 8, 16, 18]
    whole = F.max_pool2d(x, 2, ceil_mode=True).flatten().tolist()
    assert whole == [6, 8, 9, 16, 18, 19, 21, 23, 24]


# LeNet


def test_lenet_shapes_and_parameters():
    net = LeNetLike()
    assert net(torch.zeros(2, 1, 32, 32)).shape == (2, 10)
    rows = chapter.lenet_table()
    assert [row[0].split()[-1] for row in rows] == (
        ["1x32x32", "6x28x28", "6x14x14", "16x10x10", "16x5x5", "120", "84", "10"]
    )
    assert [row[2] for row in rows] == [0, 156, 0, 2416, 0, 48120, 10164, 850]
    assert rows[1][1] == 4704
    assert count(net) == 61706
    assert f"{48120 / 61706:.0%}" == "78%"
    assert 16 * 10 * 10 * 120 + 120 == 192120
    assert rf_by_gradient(net.layers[:6], 32) == 16
    assert 2 * 6 == 12  # a coefficient and a bias for each of S2's maps


@pytest.mark.parametrize("norm", [False, True])
def test_small_lenet_takes_digits(norm):
    net = LeNetLike(nn.Tanh, nn.AvgPool2d, norm, size=8, padding=2)
    assert net(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert sum(isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)) for m in net.modules()) == 4 * norm


def test_squash_is_tanh_when_steep_and_centred():
    z = torch.linspace(-3, 3, 31, requires_grad=True)
    assert torch.allclose(Squash(True, True)(z), z.tanh(), atol=1e-6)
    assert torch.allclose(Squash(False, False)(z), z.sigmoid())
    for steep in (False, True):
        for centred in (False, True):
            y = Squash(steep, centred)(z)
            (slope,) = torch.autograd.grad(y.sum(), z)
            assert slope.max().item() == pytest.approx(1 if steep else 0.25, abs=1e-6)
            assert (abs(y[15].item()) < 1e-6) == centred


def test_lenet_needs_both_a_slope_and_a_centre(measured):
    values = measured(chapter.experiment_lenet)
    for name in ("sigmoid", "steep", "centred"):
        assert (values[name] < 0.2).all()
    assert (values["tanh"] > 0.7).all()
    assert (values["relu_norm"] > 0.8).all()


def lenet_result(seed: int, epochs: int, lr: float, **options) -> float:
    """Test accuracy of chapter.lenet_run at another learning rate."""
    X, y, X_test, y_test = chapter.digits()
    net = chapter.lenet_start(seed, **options)
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    chapter.train(net, frame(X[:1200], margin=0), y[:1200], epochs, seed, optimizer=optimizer)
    return chapter.accuracy(net, frame(X_test, margin=0), y_test)


def test_steep_is_slow_and_centred_is_stuck():
    assert lenet_result(0, 20, 0.1, **chapter.LENETS["steep"]) > 0.85
    assert lenet_result(0, 10, 1.0, **chapter.LENETS["centred"]) < 0.2


def test_average_pooling_is_not_the_fault(measured):
    average = lenet_result(0, 2, 0.3, act=nn.Tanh, pool=nn.AvgPool2d)
    assert 0.4 < average < measured(chapter.experiment_lenet)["tanh"][0]


def test_the_gradient_of_the_sigmoid_net_fades_on_the_way_back():
    X, y, _, _ = chapter.digits()
    ratio = {}
    for name in ("sigmoid", "tanh"):
        net = chapter.lenet_start(0, **chapter.LENETS[name])
        F.cross_entropy(net(frame(X[:200], margin=0)), y[:200]).backward()
        sizes = [(p.grad.norm() / p.norm()).item() for p in net.parameters() if p.ndim > 1]
        ratio[name] = sizes[0] / sizes[-1]
    assert ratio["sigmoid"] < 0.01
    assert ratio["tanh"] > 0.5


def test_the_signal_comes_back_with_the_slope(measured):
    values = measured(chapter.experiment_lenet)
    assert (values["sigmoid_logits"] < 2e-4).all()
    assert (values["centred_logits"] < 5e-4).all()
    assert (values["steep_logits"] > 50 * values["sigmoid_logits"]).all()
    assert (values["relu_norm_logits"] > 0.5).all()


def test_each_sigmoid_layer_shrinks_the_signal():
    seen = chapter.start_signal("sigmoid", 1)
    assert len(seen) == 5
    assert all(after < before / 2.5 for before, after in pairwise(seen))
    assert seen[-1] < 2e-3 * seen[0]


# Global pooling


def test_global_pooling_frees_the_size_and_the_parameters():
    with torch.device("meta"):
        assert count(nn.Linear(512 * 7 * 7, 4096)) == 102764544
        assert count(nn.Linear(512, 1000)) == 513000
    net = make_net(MAX, chapter.GLOBAL_MAX).eval()
    for size in (8, 13, 28):
        assert net(torch.zeros(1, 1, size, size)).shape == (1, 10)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        make_net(MAX, MAX).eval()(torch.zeros(1, 1, 28, 28))


def test_a_larger_background_dilutes_the_global_mean():
    x = torch.rand(1, 4, 12, 12, generator=generator())
    large = F.pad(x, (8, 8, 8, 8))
    assert torch.allclose(large.mean((2, 3)), x.mean((2, 3)) * (12 / 28) ** 2)
    assert f"{(12 / 28) ** 2:.2f}" == "0.18"
    assert torch.equal(large.amax((2, 3)), x.amax((2, 3)))


# The comparison


def test_without_pooling_a_pixel_costs_half(measured):
    values = measured(chapter.experiment_digits)
    assert (values["none_0"] > 0.9).all()
    assert (values["none_1"] < 0.6).all()
    assert (values["none_2"] < 0.25).all()


def test_pooling_buys_some_invariance_a_stride_buys_none(measured):
    values = measured(chapter.experiment_digits)
    assert (values["max_gain_1"] > 0.05).all()
    assert (values["max_gain_2"] > 0.1).all()
    assert (values["average_1"] > values["none_1"] + 0.05).all()
    assert (values["average_2"] > values["none_2"] + 0.1).all()
    assert abs((values["stride_1"] - values["none_1"]).mean()) < 0.08
    assert abs((values["stride_2"] - values["none_2"]).mean()) < 0.08
    assert (values["max_2"] < 0.5).all()


def test_pooling_gains_nothing_in_the_middle(measured):
    values = measured(chapter.experiment_digits)
    for name in ("max", "stride"):
        assert abs((values[f"{name}_0"] - values["none_0"]).mean()) < 0.02


def test_maximum_and_mean_each_have_their_column(measured):
    values = measured(chapter.experiment_digits)
    assert values["max_0"].mean() > values["average_0"].mean() + 0.01
    assert values["average_1"].mean() > values["max_1"].mean() + 0.02
    assert values["average_2"].mean() > values["max_2"].mean() + 0.01


def test_moving_the_training_images_buys_more(measured):
    values = measured(chapter.experiment_digits)
    assert (values["moved_gain_2"] > 0.3).all()
    assert (values["moved_2"] > 0.7).all()
    assert (values["moved_loss_0"] > 0).all()


def moved_curve(block: chapter.Down, places: int, epochs: int, seed: int) -> list[float]:
    """Accuracy at shifts 0, 1, 2 of two such blocks; places: random ones a digit, or 0."""
    X, y, X_test, y_test = chapter.digits()
    X, y = X[:1200], y[:1200]
    images, labels = moved_copies(X, y, places, seed) if places else (frame(X), y)
    torch.manual_seed(seed)
    net = chapter.train(make_net(block, block), images, labels, epochs, seed)
    return [chapter.moved_accuracy(net, X_test, y_test, shift) for shift in range(3)]


def test_more_steps_do_not_replace_the_moves():
    middle, one, two = moved_curve(MAX, places=0, epochs=4, seed=0)  # 96 steps, as D's
    assert middle > 0.93 and one < 0.8 and two < 0.5


def test_with_moves_in_training_pooling_still_helps(measured):
    values = measured(chapter.experiment_digits)
    without = [moved_curve(NONE, places=4, epochs=1, seed=seed) for seed in range(2)]
    for shift in (1, 2):
        mean = sum(curve[shift] for curve in without) / 2
        assert values[f"moved_{shift}"][:2].mean() > mean + 0.04


def test_accuracy_has_the_period_of_the_stride(measured):
    values = measured(chapter.experiment_digits)
    # Logits equal up to rounding: at most two of the 360 images may change sides.
    assert (abs(values["global_0"] - values["global_2"]) < 0.006).all()
    assert (values["global_drop"] > 0.12).all()


def test_blurring_flattens_the_teeth():
    sharp, blurred = (chapter.shift_curve(name, 0) for name in ("global", "blur"))
    for curve in (sharp, blurred):
        # Equal up to rounding of the logits: at most two of the 360 images.
        assert curve[2] == pytest.approx(curve[0], abs=0.006)
        assert curve[4] == pytest.approx(curve[0], abs=0.006)
        assert curve[3] == pytest.approx(curve[1], abs=0.006)
    assert blurred[0] - blurred[1] < 0.6 * (sharp[0] - sharp[1])


@pytest.mark.parametrize(("pools", "period"), [(1, 2), (2, 4), (3, 8)])
def test_period_is_the_product_of_the_strides(pools, period):
    net = make_net(*[MAX] * pools, chapter.GLOBAL_MAX, size=64).eval()
    X, _, _, _ = data.load_digits()
    images = frame(X[:20], margin=28)
    out = net(images)
    for d in range(1, 9):
        same = torch.allclose(net(images.roll(d, 3)), out, atol=1e-5)
        assert same == (d % period == 0)


# Where it hurts


@pytest.mark.parametrize("window", [1, 2, 4, 8])
def test_position_is_lost_as_predicted(window):
    conv = {1: 1, 2: 1, 4: 3 / 4, 8: 1 / 8}[window]
    for seed in range(3):
        assert column_accuracy(window, False, seed) == 1 / window
        assert column_accuracy(window, True, seed) == conv


def test_the_printed_positions_are_exact(measured):
    values = measured(chapter.experiment_position)
    for window, conv in ((1, 1), (2, 1), (4, 0.75), (8, 0.125)):
        assert (values[f"pixels_{window}"] == 1 / window).all()
        assert (values[f"conv_{window}"] == conv).all()


# The clinic


def test_error_messages():
    flat = nn.Sequential(nn.Conv2d(1, 6, 5), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1176, 10))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        flat(torch.zeros(2, 1, 28, 28))
    assert 6 * 12 * 12 == 864
    with pytest.raises(RuntimeError, match="Output size is too small"):
        nn.Sequential(*[nn.MaxPool2d(2)] * 4)(torch.zeros(1, 1, 8, 8))
    with pytest.raises(RuntimeError, match="at most half of effective kernel size"):
        F.max_pool2d(torch.zeros(1, 1, 4, 4), 2, padding=2)
    with pytest.raises(RuntimeError, match="non-empty 3D or 4D"):
        nn.MaxPool2d(2)(torch.zeros(32, 784))


def test_silent_surprises():
    assert nn.MaxPool2d(3)(torch.zeros(1, 1, 28, 28)).shape[-1] == 9
    assert nn.MaxPool2d(2)(torch.zeros(32, 28, 28)).shape == (32, 14, 14)
    ones = torch.ones(1, 1, 4, 4)
    padded = F.avg_pool2d(ones, 3, stride=1, padding=1)[0, 0]
    assert padded[0, 0].item() == pytest.approx(4 / 9)
    assert padded[0, 1].item() == pytest.approx(6 / 9)
    honest = F.avg_pool2d(ones, 3, stride=1, padding=1, count_include_pad=False)
    assert torch.equal(honest, ones)
    assert (F.max_pool2d(-ones, 3, stride=1, padding=1) == -1).all()
    assert (F.max_pool2d(F.pad(-ones, (1, 1, 1, 1)), 3, stride=1) == 0).any()


def test_own_l2_pooling_has_no_gradient_in_the_dark():
    x = torch.zeros(1, 1, 2, 2, requires_grad=True)
    assert torch.autograd.grad(pool2d(x, 2, mode="l2"), x)[0].isnan().all()
    assert (torch.autograd.grad(F.lp_pool2d(x, 2, 2), x)[0] == 0).all()


def test_relu_commutes_with_the_maximum_not_with_the_mean():
    x = torch.randn(2, 3, 8, 8, generator=generator())
    assert torch.equal(F.max_pool2d(x.relu(), 2), F.max_pool2d(x, 2).relu())
    assert not torch.allclose(F.avg_pool2d(x.relu(), 2), F.avg_pool2d(x, 2).relu())
