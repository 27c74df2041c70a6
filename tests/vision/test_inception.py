import inspect
import json
from datetime import date

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import googlenet, inception_v3
from torchvision.models import inception as torchvision_v3
from torchvision.models.googlenet import GoogLeNetOutputs, Inception

from snippets.vision import inception as chapter
from snippets.vision.inception import (
    BLOCKS,
    GOOGLENET,
    BasicConv2d,
    DeepNet,
    InceptionA,
    InceptionV1,
    accuracy,
    aux_loss,
    bottleneck,
    bottleneck_mults,
    break_even,
    conv_mults,
    conv_relu,
    count_mults,
    fc_head,
    gap_head,
    layer_gradients,
    merge,
    naive_module,
    nin_block,
    pointwise_as_linear,
    reduced_module,
    shift,
    small_net,
    stack,
    stripes,
    train,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def meta(*shape: int) -> torch.Tensor:
    return torch.zeros(*shape, device="meta")


@pytest.fixture(scope="module")
def whole() -> nn.Module:
    """Torchvision's GoogLeNet on the meta device: shapes alone."""
    with torch.device("meta"):
        return googlenet(weights=None, init_weights=False)


# Costs


def test_costs_of_the_notes():
    direct, via = conv_mults(192, 256, 3, 32, 32), bottleneck_mults(192, 96, 256, 3, 32, 32)
    assert direct == 192 * 256 * 3 * 3 * 32 * 32 == 452_984_832
    assert via == 192 * 96 * 32 * 32 + 96 * 256 * 9 * 32 * 32 == 245_366_784
    assert conv_mults(192, 96, 1, 32, 32) == 18_874_368
    assert conv_mults(96, 256, 3, 32, 32) == 226_492_416
    assert via * 24 == direct * 13
    assert f"{13 / 24:.1%}" == "54.2%" and f"{24 / 13:.2f}" == "1.85"
    assert f"{18_874_368 / via:.1%}" == "7.7%"
    # The guess's case B: the same 1x1, before 16 outputs.
    narrow, worse = conv_mults(192, 16, 3, 32, 32), bottleneck_mults(192, 96, 16, 3, 32, 32)
    assert (narrow, worse) == (28_311_552, 33_030_144)
    assert worse * 6 == narrow * 7
    assert 2 * narrow == 3 * 18_874_368


@pytest.mark.parametrize(("k", "stride"), [(1, 1), (3, 1), (5, 1), (3, 2)])
def test_formula_hooks_and_flop_counter_agree(k, stride):
    conv = nn.Conv2d(6, 10, k, stride, padding=k // 2)
    x = torch.randn(1, 6, 8, 8)
    h, w = conv(x).shape[2:]
    assert count_mults(conv, x) == conv_mults(6, 10, k, h, w)
    with FlopCounterMode(display=False) as counter:
        conv(x)
    assert counter.get_total_flops() == 2 * conv_mults(6, 10, k, h, w)
    assert conv_mults(6, 10, k, h, w) == h * w * conv.weight.numel()


def test_hooks_count_linear_layers_and_are_removed():
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 2))
    assert count_mults(net, torch.zeros(1, 3, 2, 2)) == 12 * 5 + 5 * 2
    assert count_mults(net, torch.zeros(3, 3, 2, 2)) == 3 * (12 * 5 + 5 * 2)
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.parametrize(
    ("c_in", "c_out", "k"), [(192, 256, 3), (192, 16, 3), (480, 48, 5), (8, 8, 1)]
)
def test_break_even_is_where_the_costs_meet(c_in, c_out, k):
    r = break_even(c_in, c_out, k)
    assert r < min(c_in, k * k * c_out)
    direct = conv_mults(c_in, c_out, k, 7, 7)
    below, above = int(np.floor(r - 1e-9)), int(np.floor(r)) + 1
    assert bottleneck_mults(c_in, below, c_out, k, 7, 7) < direct
    assert bottleneck_mults(c_in, above, c_out, k, 7, 7) > direct
    for width in (1, 3, above):
        ratio = bottleneck_mults(c_in, width, c_out, k, 7, 7) / direct
        assert ratio == pytest.approx(width / r)


def test_naive_modules_explode():
    naive, reduced = stack(naive_module), stack(reduced_module)
    assert [c for c, _ in naive] == [416, 832, 1280, 1728, 2176, 2640, 3344, 4048, 4944]
    assert [c for c, _ in reduced] == [256, 480, 512, 512, 512, 528, 832, 832, 1024]
    totals = [sum(m for _, m in out) for out in (naive, reduced)]
    assert totals == [12_085_441_536, 1_103_972_352]
    assert 10.9 < totals[0] / totals[1] < 11


def test_the_counts_are_those_of_real_modules():
    """The paper's module built and run, and the naive one, counted by hooks."""
    c_in = 192
    with torch.device("meta"):
        for (size, channels), (c_out, mults) in zip(
            GOOGLENET.values(), stack(reduced_module), strict=True
        ):
            module = InceptionV1(c_in, channels)
            x = meta(1, c_in, size, size)
            assert count_mults(module, x) == mults
            assert module(x).shape == (1, c_out, size, size)
            c_in = c_out
        one, _, three, _, five, _ = GOOGLENET["3a"][1]
        convolutions = [
            nn.Conv2d(192, c, k, padding=k // 2) for c, k in ((one, 1), (three, 3), (five, 5))
        ]
        x = meta(1, 192, 28, 28)
        branches = [conv(x) for conv in convolutions] + [F.max_pool2d(x, 3, 1, 1)]
        c_out, mults = naive_module(192, GOOGLENET["3a"][1], 28)
        assert torch.cat(branches, 1).shape[1] == c_out == 416
        assert sum(count_mults(conv, x) for conv in convolutions) == mults


def test_all_of_googlenet_s_reductions_pay():
    c_in, ratios = 192, []
    for _, (one, to_three, three, to_five, five, pool) in GOOGLENET.values():
        ratios += [to_three / break_even(c_in, three, 3), to_five / break_even(c_in, five, 5)]
        c_in = one + three + five + pool
    assert len(ratios) == 18 and max(ratios) < 0.65
    assert f"{max(ratios):.3f}" == "0.583"
    assert break_even(10**6, 2, 3) < 18


# 1x1 convolutions


@pytest.mark.parametrize("bias", [True, False])
def test_pointwise_is_linear_at_each_pixel(bias):
    conv, x = nn.Conv2d(5, 3, 1, bias=bias), torch.randn(2, 5, 4, 6)
    assert torch.allclose(conv(x), pointwise_as_linear(conv, x), atol=1e-6)
    linear = nn.Linear(5, 3, bias=bias)
    linear.weight.data = conv.weight.data[:, :, 0, 0]
    if bias:
        linear.bias.data = conv.bias.data
    for i in range(4):
        for j in range(6):
            assert torch.allclose(conv(x)[:, :, i, j], linear(x[:, :, i, j]), atol=1e-6)


@pytest.mark.parametrize(
    "conv", [nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 1, 2), nn.Conv2d(2, 2, 1, padding=1)]
)
def test_pointwise_refuses_other_convolutions(conv):
    with pytest.raises(ValueError, match="not a plain 1x1"):
        pointwise_as_linear(conv, torch.randn(1, 2, 4, 4))


def test_only_pointwise_commutes_with_a_shuffle_of_the_pixels():
    x, order = torch.randn(2, 5, 4, 4), torch.randperm(16)

    def shuffle(t):
        return t.flatten(2)[:, :, order].view(t.shape)

    for k in (1, 3):
        conv = nn.Conv2d(5, 3, k, padding=k // 2)
        assert torch.allclose(conv(shuffle(x)), shuffle(conv(x)), atol=1e-6) is (k == 1)


def test_a_linear_bottleneck_is_one_kernel_of_rank_r():
    first, second = nn.Conv2d(12, 4, 1, bias=False), nn.Conv2d(4, 10, 3, padding=1, bias=False)
    x, kernel = torch.randn(2, 12, 6, 6), merge(first, second)
    assert kernel.shape == (10, 12, 3, 3)
    assert torch.allclose(second(first(x)), F.conv2d(x, kernel, padding=1), atol=1e-5)
    assert not torch.allclose(second(F.relu(first(x))), F.conv2d(x, kernel, padding=1), atol=1e-2)
    rows = kernel.detach().permute(0, 2, 3, 1).reshape(-1, 12)  # (out k k, c_in)
    assert torch.linalg.matrix_rank(rows) == 4
    full = nn.Conv2d(12, 10, 3).weight.detach().permute(0, 2, 3, 1).reshape(-1, 12)
    assert torch.linalg.matrix_rank(full) == 12


def test_two_pointwise_layers_without_relu_are_one():
    first, second = nn.Conv2d(5, 7, 1, bias=False), nn.Conv2d(7, 3, 1, bias=False)
    x = torch.randn(2, 5, 4, 4)
    assert torch.allclose(second(first(x)), F.conv2d(x, merge(first, second)), atol=1e-5)


def test_xor_of_two_channels_needs_the_relu(measured):
    values = measured(chapter.experiment_xor)
    # 1600 pixels to test on; no linear rule is better than chance, but a lucky draw of the
    # untrained direction may err by more than its binomial error.
    assert (values["one"] < 0.75).all() and values["one"].mean() < 0.65
    assert (values["relu"] > 0.9).all()


# The modules


def test_e49_the_notes_module_is_inception_a():
    ours, theirs = InceptionA(192, 32), torchvision_v3.InceptionA(192, 32)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 192, 9, 9)
    assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours.branch1x1.bn.running_var, theirs.branch1x1.bn.running_var)
    assert torch.equal(ours.eval()(x), theirs.eval()(x))
    assert ours(x).shape == (2, 64 + 64 + 96 + 32, 9, 9)
    assert parameters(ours) == 255_904
    with torch.device("meta"):
        net = inception_v3(weights=None, init_weights=False)
    kinds = [type(getattr(net, f"Mixed_5{letter}")) for letter in "bcd"]
    assert kinds == [torchvision_v3.InceptionA] * 3


def test_v1_equals_torchvision_only_with_3x3_and_batch_norm():
    channels = GOOGLENET["3a"][1]
    theirs = Inception(192, *channels)
    assert theirs.branch3[1].conv.kernel_size == (3, 3)
    assert "known bug" in inspect.getsource(Inception)
    ours = InceptionV1(192, channels, conv=BasicConv2d, large=3)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 192, 7, 7)
    assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours.eval()(x), theirs.eval()(x))
    assert parameters(theirs) == 155_872
    assert parameters(InceptionV1(192, channels)) == 163_696
    with pytest.raises(RuntimeError, match=r"branch3.1.conv.weight.*\[32, 16, 3, 3\]"):
        InceptionV1(192, channels, conv=BasicConv2d).load_state_dict(theirs.state_dict())


def test_v1_has_the_four_branches_of_the_paper():
    module, x = InceptionV1(192, GOOGLENET["3a"][1]), torch.randn(1, 192, 6, 6)
    shapes = [m.kernel_size for m in module.modules() if isinstance(m, nn.Conv2d)]
    assert shapes == [(1, 1), (1, 1), (3, 3), (1, 1), (5, 5), (1, 1)]
    assert not any(isinstance(m, nn.BatchNorm2d) for m in module.modules())
    assert all(m.bias is not None for m in module.modules() if isinstance(m, nn.Conv2d))
    out = module(x)
    assert torch.equal(out[:, :64], module.branch1(x))
    assert torch.equal(out[:, 64:192], module.branch2(x))
    assert torch.equal(out[:, 192:224], module.branch3(x))
    assert torch.equal(out[:, 224:], module.branch4[1](F.max_pool2d(x, 3, 1, 1)))


def test_the_table_is_torchvision_s(whole):
    c_in = 192
    for name, (_, channels) in GOOGLENET.items():
        module = getattr(whole, f"inception{name}")
        ours = InceptionV1(c_in, channels, conv=BasicConv2d, large=3)
        shapes = {k: v.shape for k, v in ours.state_dict().items()}
        assert shapes == {k: v.shape for k, v in module.state_dict().items()}
        c_in = module(meta(2, c_in, 7, 7)).shape[1]


def test_two_3x3_see_what_a_5x5_sees():
    x = torch.randn(1, 1, 9, 9, requires_grad=True)
    two = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 3, padding=1))
    two(x)[0, 0, 4, 4].backward()
    rows, columns = x.grad[0, 0].nonzero().unbind(1)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 6, 2, 6)
    assert 18 / 25 == 0.72


def test_nin_block_is_a_sliding_mlp():
    block, x = nin_block(3, 8, 3), torch.randn(2, 3, 6, 6)
    first, second, third = (layer[0] for layer in block)
    for i, j in ((0, 0), (2, 1), (3, 3)):
        h = x[:, :, i : i + 3, j : j + 3].flatten(1)
        h = F.relu(F.linear(h, first.weight.flatten(1), first.bias))
        for conv in (second, third):
            h = F.relu(F.linear(h, conv.weight[:, :, 0, 0], conv.bias))
        assert torch.allclose(block(x)[:, :, i, j], h, atol=1e-6)
    assert nin_block(3, 8, 3, padding=1)(x).shape == (2, 8, 6, 6)


def test_head_parameters(whole):
    assert parameters(gap_head(1024, 1000)) == parameters(whole.fc) == 1_025_000
    with torch.device("meta"):
        flat = parameters(fc_head(1024, 7, 1000))
    assert flat == 50_177_000
    assert 48.9 < flat / 1_025_000 < 49
    assert parameters(gap_head(32, 10)) == 330 and parameters(fc_head(32, 4, 10)) == 5130


def test_pooling_and_a_linear_layer_commute():
    head, x = gap_head(6, 4), torch.randn(2, 6, 5, 5)
    per_pixel = F.conv2d(x, head[2].weight[:, :, None, None], head[2].bias)
    assert torch.allclose(head(x), per_pixel.mean((2, 3)), atol=1e-6)
    assert not torch.allclose(head(x), F.relu(per_pixel).mean((2, 3)), atol=1e-3)
    # The pooled head does not see where things are.
    assert torch.allclose(head(x), head(x.roll((1, 2), (2, 3))), atol=1e-6)
    flat = fc_head(6, 5, 4)
    assert not torch.allclose(flat(x), flat(x.roll((1, 2), (2, 3))), atol=1e-3)


# The whole GoogLeNet


def test_e49_googlenet_keeps_a_classifier(whole):
    assert isinstance(whole.fc, nn.Linear) and whole.fc.weight.shape == (1000, 1024)
    linear = [
        m for aux in (whole.aux1, whole.aux2) for m in aux.modules() if isinstance(m, nn.Linear)
    ]
    assert [tuple(m.weight.shape) for m in linear] == [(1024, 2048), (1000, 1024)] * 2


def test_googlenet_s_numbers(whole):
    sides = parameters(whole.aux1) + parameters(whole.aux2)
    assert (parameters(whole), sides) == (13_004_888, 6_379_984)
    assert f"{sides / parameters(whole):.0%}" == "49%"
    body = parameters(whole) - sides - parameters(whole.fc)
    assert body == 5_599_904 and 8.9 < 50_177_000 / body < 9
    image = meta(1, 3, 224, 224)
    assert count_mults(whole.eval(), image) == 1_498_376_192
    with FlopCounterMode(display=False) as counter:
        whole(image)
    assert counter.get_total_flops() == 2 * 1_498_376_192
    assert sum(isinstance(m, nn.BatchNorm2d) for m in whole.modules()) == 59
    assert not any(isinstance(m, nn.LocalResponseNorm) for m in whole.modules())
    assert all(m.bias is None for m in whole.modules() if isinstance(m, nn.Conv2d))


def test_side_heads_pool_to_4x4_in_another_way_than_the_paper(whole):
    assert "adaptive_avg_pool2d(x, (4, 4))" in inspect.getsource(type(whole.aux1))
    x = torch.randn(1, 1, 14, 14)
    paper, theirs = F.avg_pool2d(x, 5, stride=3), F.adaptive_avg_pool2d(x, 4)
    assert paper.shape == theirs.shape == (1, 1, 4, 4)
    assert not torch.allclose(paper, theirs, atol=1e-2)


def test_training_returns_three_outputs_main_first(whole):
    images, target = meta(2, 3, 64, 64), meta(2).long()
    out = whole.train()(images)
    assert isinstance(out, GoogLeNetOutputs)
    assert out._fields == ("logits", "aux_logits2", "aux_logits1")
    with pytest.raises(TypeError, match="must be Tensor, not GoogLeNetOutputs"):
        F.cross_entropy(out, target)
    with pytest.raises(AttributeError, match="no attribute 'argmax'"):
        out.argmax(1)
    assert aux_loss(out, target).shape == ()
    assert isinstance(whole.eval()(images), torch.Tensor)
    with torch.device("meta"):
        without = googlenet(weights=None, init_weights=False, aux_logits=False)
    assert isinstance(without.train()(images), torch.Tensor)
    with pytest.raises(RuntimeError, match=r"Unexpected key.*aux1\.conv"):
        without.load_state_dict(whole.state_dict())
    kept = {k: v for k, v in whole.state_dict().items() if not k.startswith("aux")}
    without.load_state_dict(kept)


def test_small_images(whole):
    with pytest.raises(ValueError, match=r"more than 1 value per channel.*\[1, 256, 1, 1\]"):
        whole.train()(meta(1, 3, 32, 32))
    whole.train()(meta(2, 3, 32, 32))
    with pytest.raises(RuntimeError, match="Output size is too small"):
        whole.eval()(meta(1, 3, 14, 14))
    assert whole.eval()(meta(1, 3, 15, 15)).shape == (1, 1000)
    smallest = torchvision.models.GoogLeNet_Weights.DEFAULT.meta["min_size"]
    assert smallest == (15, 15)


def test_inception_v3_wants_75_pixels_and_more_to_train():
    with torch.device("meta"):
        net = inception_v3(weights=None, init_weights=False)
    assert net.eval()(meta(1, 3, 75, 75)).shape == (1, 1000)
    with pytest.raises(RuntimeError):
        net(meta(1, 3, 74, 74))
    with pytest.raises(RuntimeError):
        net.train()(meta(2, 3, 75, 75))
    assert net.train()(meta(2, 3, 299, 299))._fields == ("logits", "aux_logits")


def test_init_weights_left_out_warns():
    warning = pytest.warns(FutureWarning, match="default weight initialization of GoogleNet will")
    with warning, torch.device("meta"):
        googlenet(weights=None)


def test_e49_the_listing_lacks_its_imports():
    listing = "class BasicConv2d(nn.Module):\n    pass\n"
    with pytest.raises(NameError, match="name 'nn' is not defined"):
        exec(listing, {})


def test_e07_the_name():
    paper, function = torchvision.models.GoogLeNet.__name__, torchvision.models.googlenet.__name__
    assert paper == "GoogLeNet" and function == "googlenet"


# The clinic


def test_channels_of_exercise_two():
    assert parameters(InceptionA(288, 64)) == 285_152
    norms = [m for m in InceptionA(288, 64).modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 7 and sum(m.num_features for m in norms) == 496


def test_cat_wants_equal_maps():
    x = torch.randn(2, 8, 8, 8)
    branches = [nn.Conv2d(8, 4, 1), nn.Conv2d(8, 4, 3, padding=1), nn.Conv2d(8, 4, 5)]
    with pytest.raises(RuntimeError, match="Expected size 8 but got size 4 for tensor number 2"):
        torch.cat([branch(x) for branch in branches], 1)
    assert nn.MaxPool2d(3).stride == 3
    branches[2] = nn.Conv2d(8, 4, 5, padding=2)
    assert torch.cat([branch(x) for branch in branches]).shape == (6, 4, 8, 8)
    assert torch.cat([branch(x) for branch in branches], 1).shape == (2, 12, 8, 8)


# The experiments


def test_blocks_cost_the_same_and_are_what_the_table_says():
    costs = {}
    with torch.device("meta"):
        for name, (make, channels) in BLOCKS.items():
            block, x = make(), meta(1, 16, 6, 6)
            assert block(x).shape == (1, channels, 6, 6)
            costs[name] = count_mults(block, x) // 36
        digits = [conv_relu(32, 32, 3, 1), bottleneck(32, 8, 32), conv_relu(32, 9, 3, 1)]
        digits.append(bottleneck(32, 1, 32))
        assert [count_mults(b, meta(1, 32, 4, 4)) // 16 for b in digits] == [9216, 2560, 2592, 320]
    assert costs == {"branches": 1466, "small": 1520, "large": 1464, "direct": 1440}
    assert max(costs.values()) / min(costs.values()) < 1.06
    assert f"{2560 / 9216:.0%}" == f"{2592 / 9216:.0%}" == "28%"


def test_branches_call_more_kernels():
    class Count(TorchDispatchMode):
        calls = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            Count.calls += 1
            return function(*args, **(kwargs or {}))

    calls = {}
    for name in ("branches", "direct"):
        block, x = BLOCKS[name][0](), torch.randn(1, 16, 6, 6)
        Count.calls = 0
        with torch.no_grad(), Count():
            block(x)
        calls[name] = Count.calls
    assert calls == {"branches": 14, "direct": 2}


def test_stripes_turn_and_widen():
    X, y, period = stripes(400, generator())
    assert X.shape == (400, 1, 12, 12) and set(y.tolist()) == {0, 1, 2, 3}
    assert period.min() >= 2.5 and period.max() <= 9
    again, _, _ = stripes(400, generator())
    assert torch.equal(X, again)
    # Direction 0 varies along the columns alone, direction 2 along the rows alone: averaging
    # over the other axis removes noise, not the wave.
    for direction, axis in ((0, 1), (2, 2)):
        chosen = X[y == direction, 0]
        assert chosen.mean(axis).var() > 2 * chosen.mean(3 - axis).var()


def test_shift_moves_and_fills_with_zeros():
    X = torch.arange(16.0).view(1, 1, 4, 4)
    moved = shift(X, 2, 1)
    assert torch.equal(moved[:, :, 2:, 1:], X[:, :, :2, :3])
    assert (moved[:, :, :2] == 0).all() and (moved[:, :, :, 0] == 0).all()
    assert torch.equal(shift(X, 0, 0), X)


def test_training_is_deterministic_and_learns():
    X, y, _ = stripes(200, generator())
    nets = []
    for _ in range(2):
        torch.manual_seed(0)
        net = small_net(4, conv_relu(4, 4, 3, padding=1), 4, gap_head(4, 4))
        train(net, X, y, seed=0, steps=20)
        nets.append(net)
    one, other = (net.state_dict() for net in nets)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert accuracy(nets[0], X, y) == accuracy(nets[1], X, y)
    assert not nets[0].training


def test_bottleneck_beats_narrowing_at_equal_cost(measured):
    values = measured(chapter.experiment_digits)
    # Means: sixty steps are few, and rounding differs from processor to processor.
    assert (values["r8"] - values["narrow"]).mean() > 0.02
    assert (values["direct"] - values["narrow"]).mean() > 0.05


def test_width_one_loses_most(measured):
    values = measured(chapter.experiment_digits)
    assert values["r1"].mean() < values["narrow"].mean() - 0.1


def test_branches_do_not_beat_a_plain_convolution(measured):
    values = measured(chapter.experiment_stripes)
    # Within the seeds' spread of 0.04 at fifty steps: not faster, maybe slower.
    for name in ("branches", "small", "large"):
        assert (values[name] - values["direct"]).mean() < 0.02


def test_side_heads_raise_the_first_gradient_and_help_a_net_without_norm(measured):
    values = measured(chapter.experiment_aux)
    assert (values["plain_aux_gradient"] > 20 * values["plain_gradient"]).all()
    assert (np.abs(values["bn_aux_gradient"] / values["bn_gradient"] - 1) < 0.1).all()
    assert values["plain_aux"].mean() > values["plain"].mean() + 0.05
    assert values["bn"].mean() > values["plain_aux"].mean() + 0.3


def test_side_heads_speak_in_training_only():
    net, X = DeepNet(norm=False, aux=True), torch.randn(4, 64)
    outputs = net.train()(X)
    assert len(outputs) == 3 and isinstance(net.eval()(X), torch.Tensor)
    assert torch.equal(outputs[0], net(X))
    h = X
    for depth, layer in enumerate(net.layers, 1):
        h = layer(h)
        if depth == 3:
            assert torch.equal(outputs[2], net.side[0](h))
        if depth == 6:
            assert torch.equal(outputs[1], net.side[1](h))
    y = torch.arange(4)
    expected = F.cross_entropy(outputs[0], y)
    expected = expected + 0.3 * (F.cross_entropy(outputs[1], y) + F.cross_entropy(outputs[2], y))
    assert torch.allclose(aux_loss(outputs, y), expected)
    assert torch.equal(aux_loss(outputs[0], y), F.cross_entropy(outputs[0], y))
    assert len(layer_gradients(net, X, y)) == len(net.layers) == 9


# The record


@pytest.fixture(scope="module")
def record() -> dict:
    return json.loads(chapter.RECORD.read_text())


def recorded(record: dict, part: str) -> dict[str, np.ndarray]:
    runs = record["results"][part]
    return {key: np.array([run[key] for run in runs]) for key in runs[0]}


def test_the_record_says_where_it_comes_from(record):
    assert record["command"] == "python -m snippets.vision.inception --record"
    assert date.fromisoformat(record["date"]) >= date(2026, 11, 20)
    assert record["versions"].keys() == {"python", "torch"} and record["machine"]
    assert record["cpu_seconds"] > 0 and len(record["seeds"]) >= 5 and record["steps"] == 300
    assert all(len(runs) == len(record["seeds"]) for runs in record["results"].values())


def gain(values: dict[str, np.ndarray], one: str, other: str) -> str:
    """Difference of two means, as printed with three digits each."""
    return f"{round(values[one].mean(), 3) - round(values[other].mean(), 3):.3f}"


def test_recorded_bottleneck(record):
    values = recorded(record, "digits")
    assert abs(values["r8"].mean() - values["direct"].mean()) < 0.002
    assert gain(values, "r8", "narrow") == "0.009"
    assert (values["narrow"] > values["r8"]).sum() == 1
    assert (values["r1"] < values["narrow"] - 0.05).all()
    assert values["r1"].mean() < values["direct"].mean() - 0.07


def test_recorded_heads(record):
    values = recorded(record, "digits")
    assert gain(values, "direct", "flat") == "0.006"
    assert abs(values["direct_few"] - values["flat_few"]).mean() < 0.015
    assert values["direct_few"].mean() < values["flat_few"].mean()
    assert values["flat_moved"].mean() < 0.1 and 0.3 < values["direct_moved"].mean() < 0.45


def test_recorded_stripes(record):
    values = recorded(record, "stripes")
    for name in ("branches", "small"):
        assert abs(values[name].mean() - values["direct"].mean()) < 0.01
        assert values[name].std(ddof=1) > abs(values[name].mean() - values["direct"].mean())
    assert abs(values["branches_0"].mean() - values["direct_0"].mean()) < 0.005
    assert values["large_4"].mean() < values["direct_4"].mean()
    assert values["large"].mean() == min(values[name].mean() for name in BLOCKS)


def test_recorded_fashion(record):
    values = recorded(record, "fashion")
    assert (values["branches"] > values["direct"]).all()
    assert gain(values, "branches", "direct")[:4] == "0.05"
    assert gain(values, "branches", "small") == "0.013"
    best = np.maximum(values["small"], values["large"])
    assert values["small"].mean() > values["large"].mean()
    assert (values["branches"] > values["small"]).sum() == 4
    assert (best > values["direct"]).all()


def test_recorded_side_heads(record):
    values = recorded(record, "aux")
    assert 0.5 < values["plain"].mean() < 0.6 and 0.9 < values["plain_aux"].mean() < 0.93
    assert (values["bn"] > values["plain_aux"]).all()
    assert gain(values, "bn_aux", "bn") == "0.005"
    assert values["bn_aux"].std(ddof=1) > 0.005


def test_side_heads_speed_up_a_short_training_with_norm(measured):
    values = measured(chapter.experiment_aux)
    assert values["bn_aux"].mean() > values["bn"].mean()
