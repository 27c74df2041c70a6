import json
import math

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import resnet

from snippets.vision import resnet as chapter
from snippets.vision.resnet import (
    ARMS,
    MAIN,
    RATES,
    BasicBlock,
    Highway,
    PlainBlock,
    TinyResNet,
    by_length,
    fit,
    forward,
    gradient_share,
    losses,
    make_stage,
    nin_block,
    parameters,
    probe,
    projection,
    seen,
    training_loss,
    zero_last_gamma,
)
from snippets.vision.resnet import test_accuracy as accuracy  # not a test


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


# The block beside torchvision's


@pytest.mark.parametrize(("channels", "stride"), [(64, 1), (64, 2), (128, 1), (128, 2)])
def test_e50_block_equals_torchvision(channels, stride):
    def shortcut():
        return projection(64, channels, stride) if (channels, stride) != (64, 1) else None

    theirs = resnet.BasicBlock(64, channels, stride, shortcut())
    ours = BasicBlock(64, channels, stride, shortcut())
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(3, 64, 9, 9)
    for mode in (True, False):
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        out, expected = ours.train(mode)(a), theirs.train(mode)(b)
        assert torch.allclose(out, expected, atol=1e-6)
        out.square().sum().backward()
        expected.square().sum().backward()
        assert torch.allclose(a.grad, b.grad, rtol=1e-4, atol=1e-4)
    for name, value in ours.state_dict().items():  # running statistics too
        assert torch.allclose(value, theirs.state_dict()[name], atol=1e-6), name


def test_parameters():
    assert count(BasicBlock(64, 64)) == count(resnet.BasicBlock(64, 64)) == 73_984
    assert 2 * 64 * 64 * 9 + 4 * 64 == 73_984
    assert count(BasicBlock(64, 128, 2, projection(64, 128, 2))) == 230_144


@pytest.mark.parametrize(("name", "channels"), [("layer1", 64), ("layer2", 128), ("layer3", 256)])
def test_stage_equals_resnet18(name, channels):
    whole = resnet.resnet18().eval()
    first = channels if name == "layer1" else channels // 2
    stage = make_stage(first, channels, 2, 1 if name == "layer1" else 2).eval()
    stage.load_state_dict(getattr(whole, name).state_dict())
    x = torch.randn(2, first, 7, 7)
    with torch.no_grad():
        assert torch.allclose(stage(x), getattr(whole, name)(x), atol=1e-5)
    assert [block.downsample is None for block in stage] == [name == "layer1", True]


@pytest.mark.parametrize("arguments", [(64, 64, 2), (64, 128, 1), (64, 128, 2)])
def test_e50_missing_downsample_raises(arguments):
    for block in (BasicBlock, resnet.BasicBlock):
        with pytest.raises(RuntimeError, match=r"size of tensor a .* must match"):
            block(*arguments)(torch.randn(2, 64, 8, 8))
    stage = make_stage(64, arguments[1], 2, arguments[2])
    assert stage(torch.randn(2, 64, 8, 8)).shape == (2, arguments[1], *[8 // arguments[2]] * 2)


def test_e50_zero_branch_gives_relu_of_x():
    block = BasicBlock(4, 4)
    nn.init.zeros_(block.bn2.weight)
    x = torch.randn(3, 4, 5, 5)
    assert torch.equal(block(x), torch.relu(x))
    assert torch.equal(block(x.abs()), x.abs())
    assert not torch.equal(block(x), x)
    # With gamma = 0 the first step reaches gamma and beta only.
    block(x).square().sum().backward()
    assert block.bn2.weight.grad.abs().sum() > 0
    for parameter in (block.conv1.weight, block.conv2.weight, block.bn1.weight):
        assert (parameter.grad == 0).all()


def test_torchvision_zero_init_is_the_same_start():
    theirs = resnet.resnet18(zero_init_residual=True)
    assert all((m.bn2.weight == 0).all() for m in theirs.modules() if hasattr(m, "bn2"))
    ours = TinyResNet()
    zero_last_gamma(ours)
    assert all((m.bn2.weight == 0).all() for m in ours.modules() if isinstance(m, BasicBlock))
    assert (ours.bn1.weight == 1).all()
    assert (resnet.resnet18().layer1[0].bn2.weight == 1).all()


def test_plain_block_differs_by_the_shortcut_alone():
    plain, residual = PlainBlock(4, 4), BasicBlock(4, 4)
    plain.load_state_dict(residual.state_dict())
    branch = []
    residual.bn2.register_forward_hook(lambda module, inputs, out: branch.append(out))
    x = torch.randn(2, 4, 6, 6)
    out = residual(x)
    assert torch.equal(plain(x), torch.relu(branch[0]))
    assert torch.equal(out, torch.relu(branch[0] + x))
    assert make_stage(4, 8, 2, 2, PlainBlock)[0].downsample is None


def test_a_strided_1x1_sees_a_quarter():
    mask = seen(nn.Conv2d(1, 1, 1, 2))
    assert mask.sum() == 16
    assert mask[::2, ::2].all()
    assert seen(nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(1, 1, 1))).all()
    assert seen(nn.Conv2d(1, 1, 3, 2, 1)).all()


def test_torchvision_strides_in_the_3x3():
    first = resnet.resnet50().layer2[0]
    assert (first.conv1.stride, first.conv2.stride) == ((1, 1), (2, 2))


def test_tiny_resnet():
    net = TinyResNet()
    stem, first, second = 16 * 9 + 32, 2 * 16 * 16 * 9 + 64, (16 + 32) * 32 * 9 + 16 * 32 + 3 * 64
    assert count(net) == stem + first + second + 330 == 19_706
    assert net(torch.rand(2, 1, 8, 8)).shape == (2, 10)
    assert net.layer2(net.layer1(torch.rand(2, 16, 8, 8))).shape == (2, 32, 4, 4)


# The derivation


def test_gradient_of_a_block_has_the_identity_added():
    g = generator()
    W1, W2 = torch.randn(2, 5, 5, generator=g, dtype=torch.float64)
    x = torch.randn(5, generator=g, dtype=torch.float64)

    def branch(x):
        return W2 @ torch.tanh(W1 @ x)

    jacobian = torch.autograd.functional.jacobian
    whole = jacobian(lambda x: x + branch(x), x)
    assert torch.allclose(whole, torch.eye(5) + jacobian(branch, x))
    rectified = jacobian(lambda x: torch.relu(x + branch(x)), x)
    D = torch.diag((x + branch(x) > 0).double())
    assert torch.allclose(rectified, D @ whole)


def test_paths_add_up_and_follow_the_binomial():
    g = generator()
    A, B, C = torch.randn(3, 4, 4, generator=g, dtype=torch.float64)
    lengths = by_length([A, B, C])
    assert torch.allclose(lengths[1], A + B + C)
    assert torch.allclose(lengths[2], B @ A + C @ A + C @ B)
    assert torch.allclose(lengths[3], C @ B @ A)
    # Equations (5) and (6), random independent blocks with a = 0.1.
    n, d, a, draws = 6, 8, 0.1, 2000
    v = torch.randn(d, generator=g, dtype=torch.float64)
    squares = torch.zeros(n + 1, dtype=torch.float64)
    total = 0.0
    for _ in range(draws):
        blocks = torch.randn(n, d, d, generator=g, dtype=torch.float64) * (a / d) ** 0.5
        by = by_length(list(blocks)) @ v  # (n + 1, d)
        squares += by.square().sum(1) / draws
        total += by.sum(0).square().sum() / draws
    norm = v.square().sum()
    assert (total / norm).item() == pytest.approx((1 + a) ** n, rel=0.05)
    share = torch.tensor(gradient_share(n, a), dtype=torch.float64)
    assert torch.allclose(squares / squares.sum(), share, atol=0.02)


def test_numbers_of_the_paths():
    share = gradient_share(20, 0.1)
    assert sum(share) == pytest.approx(1)
    assert sum(k * s for k, s in enumerate(share)) == pytest.approx(20 / 11)
    assert sum(share[:6]) > 0.98
    assert 2**20 == 1_048_576
    assert sum(k * math.comb(20, k) for k in range(21)) / 2**20 == 10
    third = gradient_share(20, 1 / 3)
    assert sum(k * s for k, s in enumerate(third)) == pytest.approx(5)


def test_signal_is_as_predicted(measured):
    values = measured(chapter.experiment_signal)
    start = values["plain_first"]
    assert np.allclose(start, 0.2, atol=0.01)
    # ReLU of a standard normal: one half.
    assert np.allclose(values["plain_bn_last"], 0.5, atol=0.05)
    # One unit a block, equation (8); ten percent for five draws of width 64.
    assert values["pre_last"].mean() == pytest.approx(start.mean() + 20, rel=0.1)
    assert (values["residual_bn_last"] > 14).all()
    assert (values["residual_bn_last"] < 20.2).all()
    assert np.allclose(values["residual_zero_last"], start)
    # Between 2 and 3 times a block, equation (7).
    growth = (values["residual_last"] / start) ** (1 / 20)
    assert (growth > 2).all()
    assert (growth < 3).all()
    assert pytest.approx(0.2 * 3**20, rel=0.01) == 7e8


def test_gradients_of_the_six_nets(measured):
    values = measured(chapter.experiment_signal)
    # Exponential in depth without a shortcut, a power of it with one. 20 layers have 8 steps
    # from block 1 to the last but one, 40 have 18.
    bn20, bn40 = values["plain_bn_slope_20"], values["plain_bn_slope_40"]
    assert np.allclose(np.log(bn40) / np.log(bn20), 18 / 8, rtol=0.1)
    assert np.allclose(values["plain_bn_per_layer"], 1.22, atol=0.02)
    for name in ("residual_bn", "pre"):
        growth = values[f"{name}_slope_40"] / values[f"{name}_slope_20"]
        assert (growth > 1.8).all()
        assert (growth < 3).all()
    assert (values["residual_zero_slope_40"] == 1).all()
    # Kaiming: healthy gradients, and images that have become one direction.
    assert (values["plain_slope_40"] > 0.1).all()
    assert (values["plain_slope_40"] < 10).all()
    assert (values["plain_cosine"] > 0.9).all()
    assert (values["residual_zero_cosine"] < 0.4).all()
    assert (values["residual_slope_40"] > 100).all()


def test_normalised_residual_gradients_stay_polynomial():
    ratios = {}
    for name in ("residual_bn", "plain_bn"):
        for depth in (30, 60):
            _, slope, _ = probe(name, depth, 32, 0)
            ratios[name, depth] = (slope[1] / slope[-2]).item()
    assert ratios["residual_bn", 60] < 4 * ratios["residual_bn", 30]
    assert ratios["plain_bn", 60] > 100 * ratios["plain_bn", 30]


# The deep nets


@pytest.mark.parametrize("name", list(ARMS))
def test_blocks_by_hand(name):
    arm = ARMS[name]
    params = parameters(arm, 4, [3], width=6)
    if arm.start == "zero":
        params[2][1::2] = 0.5
    x = torch.randn(64, 10, generator=generator())
    stem, W, gain, bias, head = (p[0] if i in (0, 4) else p[:, 0] for i, p in enumerate(params))

    def scaled(z, k):
        if arm.norm:
            z = (z - z.mean(1, True)) / (z.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
        return gain[k][:, None] * z + bias[k][:, None]

    h = torch.relu(stem @ x)
    for k in (0, 2):
        if arm.join == "pre":
            z = W[k] @ torch.relu(scaled(h, k))
            h = h + W[k + 1] @ torch.relu(scaled(z, k + 1))
            continue
        z = torch.relu(scaled(W[k] @ h, k))
        if arm.join == "highway":
            T = torch.sigmoid(scaled(W[k + 1] @ h, k + 1))
            h = T * z + (1 - T) * h
            continue
        z = scaled(W[k + 1] @ z, k + 1)
        h = torch.relu(z + h) if arm.join == "residual" else torch.relu(z)
    if arm.join == "pre":
        h = (h - h.mean(1, True)) / (h.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
        h = torch.relu(h)
    logits, signals = forward(params, x, arm)
    assert torch.allclose(logits[0], head @ h, atol=1e-4)
    assert len(signals) == 3
    skipped, signals = forward(params, x, arm, skip=1)
    assert torch.equal(signals[1], signals[2])
    assert not torch.allclose(skipped, logits)


def test_arms_differ_as_they_say():
    by = {name: parameters(arm, 4, [0]) for name, arm in ARMS.items()}
    for name in ("plain_bn", "residual", "residual_bn", "pre"):
        assert all(torch.equal(a, b) for a, b in zip(by["plain"], by[name], strict=True))
    std = by["plain"][1].std().item()
    assert std == pytest.approx(math.sqrt(2 / 32), rel=0.05)
    assert (by["plain_identity"][1] - torch.eye(32)).abs().max() < 0.06
    assert by["residual_bn_zero"][2][:, 0, 0].tolist() == [1, 0, 1, 0]
    assert by["highway_4"][3][:, 0, 0].tolist() == [0, -4, 0, -4]


@pytest.mark.parametrize("name", ["plain_identity", "residual_bn", "highway_4"])
def test_training_together_equals_training_alone(name):
    together, _ = fit(name, 4, 0.01, 10, range(3))
    alone, _ = fit(name, 4, 0.01, 10, range(1, 2))
    for i, (a, b) in enumerate(zip(together, alone, strict=True)):
        ours = a[1:2] if i in (0, 4) else a[:, 1:2]
        assert torch.allclose(ours, b, atol=1e-4)


def test_a_deep_net_holds_the_shallow_one():
    stem, W, gain, bias, head = fit("plain", 2, 0.1, 20, range(1))[0]
    n, d = 38, W.shape[-1]
    deeper = [
        stem,
        torch.cat([W, torch.eye(d).expand(n, 1, d, d)]),
        torch.cat([gain, torch.ones(n, 1, d)]),
        torch.cat([bias, torch.zeros(n, 1, d)]),
        head,
    ]
    X, y, _, _ = chapter.digits()
    arm = ARMS["plain"]
    shallow = losses(forward([stem, W, gain, bias, head], X, arm)[0], y)
    assert torch.equal(losses(forward(deeper, X, arm)[0], y), shallow)


def test_e50_training_error_rises_with_depth(measured):
    values = measured(chapter.experiment_depth)
    assert len(values["plain_2"]) >= 5
    for name in ("plain", "plain_bn"):
        assert (values[f"{name}_10"] > 2 * values[f"{name}_2"]).all()
        assert (values[f"{name}_40"] > 1.7).all()
        # Both errors are bad: not overfitting.
        assert (values[f"{name}_40_accuracy"] < 0.4).all()
        assert (values[f"{name}_2_accuracy"] > 0.93).all()


def test_shortcut_and_identity_start_mend_it(measured):
    values = measured(chapter.experiment_depth)
    for name in ("plain_identity", "residual_bn", "residual_bn_zero"):
        assert (values[f"{name}_40"] < 0.4).all()
        assert (values[f"{name}_40_accuracy"] > 0.85).all()
    # The identity start without a shortcut comes near the residual net of the paper.
    ratio = values["plain_identity_40"].mean() / values["residual_bn_40"].mean()
    assert 0.5 < ratio < 2
    # Starting from F = 0 is better than both, at every seed.
    best = values["residual_bn_zero_40"]
    assert (best < values["residual_bn_40"]).all()
    assert (best < values["plain_identity_40"]).all()
    # Even so, 40 layers are worse than 2 with the block of the paper; with F = 0 they are level.
    assert (values["residual_bn_40"] > 2 * values["residual_bn_2"]).all()
    assert best.mean() < 2 * values["residual_bn_zero_2"].mean()


def test_shortcut_does_nothing_in_a_shallow_net(measured):
    values = measured(chapter.experiment_depth)
    loss = values["residual_bn_2"] - values["plain_bn_2"]
    accuracy_ = values["residual_bn_2_accuracy"] - values["plain_bn_2_accuracy"]
    assert abs(loss.mean()) < 0.02
    assert abs(accuracy_.mean()) < 0.02


def test_deleting_a_block(measured):
    values = measured(chapter.experiment_depth)
    assert (values["plain_bn_lesion_mean"] < 0.25).all()
    # The plain net that started as the identity does not mind either: it is not the paths.
    for name in ("plain_identity", "residual_bn_zero"):
        assert (values[f"{name}_10_accuracy"] - values[f"{name}_lesion_worst"] < 0.05).all()
    assert (values["residual_bn_10_accuracy"] - values["residual_bn_lesion_mean"] < 0.15).all()
    assert (values["residual_bn_lesion_worst"] > 0.5).all()


def test_first_block_matters_most():
    _, whole, lesions = chapter.results("residual_bn", 10, range(5))
    assert (lesions.argmin(0) == 0).all()
    assert whole.mean() - lesions.mean(1)[0] > 0.05


def test_variants(measured):
    values, main = measured(chapter.experiment_variants), measured(chapter.experiment_depth)
    for name in ("residual_zero", "pre", "highway_4"):
        assert (values[name] < 0.3).all()
        assert (values[f"{name}_accuracy"] > 0.9).all()
    assert (values["pre"] < main["residual_bn_40"]).all()
    assert values["pre"].mean() > 0.8 * main["residual_bn_zero_40"].mean()
    assert (values["highway_2"] > 3 * values["highway_4"]).all()
    assert values["highway_4"].mean() < 1.3 * main["residual_bn_zero_40"].mean()
    kept = [(1 - 1 / (1 + math.exp(b))) ** 20 for b in (2, 4)]
    assert kept == pytest.approx([0.08, 0.69], abs=0.01)


FIVE_RATES = torch.tensor([0.003, 0.01, 0.03, 0.1, 0.3])


def losses_at_five_rates(name: str, steps: int) -> torch.Tensor:
    """Training loss of one net, 40 layers, trained at each rate; all five at once."""
    arm = ARMS[name]
    X, y, _, _ = chapter.digits()
    params = [p.requires_grad_() for p in parameters(arm, 40, [0] * 5)]
    rates = [FIVE_RATES.view(-1, 1, 1)] * 5
    rates[2] = rates[3] = FIVE_RATES.view(-1, 1)
    velocity = [torch.zeros_like(p) for p in params]
    g = generator()
    for _ in range(steps):
        index = torch.randint(len(y), (64,), generator=g)
        each = losses(forward(params, X[:, index], arm)[0], y[index])
        slopes = torch.autograd.grad(each.sum(), params)
        with torch.no_grad():
            for p, v, slope, lr in zip(params, velocity, slopes, rates, strict=True):
                p -= lr * v.mul_(0.9).add_(slope)
    return training_loss(params, arm)


def test_five_rates_at_once_equal_sgd():
    ours = losses_at_five_rates("residual_bn", 5)[1].item()
    params, _ = fit("residual_bn", 40, 0.01, 5, range(1))
    assert ours == pytest.approx(training_loss(params, ARMS["residual_bn"]).item(), rel=1e-2)


@pytest.mark.parametrize("name", ["plain", "plain_bn"])
def test_no_rate_rescues_the_deep_plain_net(name):
    ends = losses_at_five_rates(name, 80)
    assert not (ends < 1.2).any()  # nan is no rescue


def test_the_identity_start_has_a_narrow_window():
    narrow = losses_at_five_rates("plain_identity", 30)
    assert narrow[0] < 1.2
    assert not (narrow[2:] < 1).any()
    assert narrow[3:].isnan().all()
    assert losses_at_five_rates("residual_bn", 30).isfinite().all()


def test_longer_training_does_not_save_plain_bn():
    ends = {}
    for name in ("plain_identity", "plain_bn"):
        params, _ = fit(name, 40, RATES[name][40], 160, range(1))
        ends[name] = training_loss(params, ARMS[name]).item()
    assert ends["plain_identity"] < 0.15
    assert ends["plain_bn"] > 1


def test_a_shortcut_alone_explodes():
    for name, depth, bad in (("residual", 40, True), ("residual", 10, False)):
        params, history = fit(name, depth, 0.003, 30, range(2))
        assert (history[0] > 100).all() == bad
        assert training_loss(params, ARMS[name]).isnan().all() == bad
    params, _ = fit("residual", 40, 1e-4, 100, range(1))
    assert training_loss(params, ARMS["residual"]).item() > 2


def test_rates_cover_what_is_measured():
    assert set(MAIN) <= set(RATES)
    assert all(set(RATES[name]) == {2, 10, 40} for name in MAIN)


# The relatives


def test_e50_highway_closed_is_the_identity():
    x = torch.randn(5, 8)
    assert torch.allclose(Highway(8, bias=-100.0)(x), x)
    opened = Highway(8, bias=100.0)
    assert torch.allclose(opened(x), torch.relu(opened.candidate(x)))
    half = Highway(8, bias=0.0)
    nn.init.zeros_(half.gate.weight)
    assert torch.allclose(half(x), 0.5 * (torch.relu(half.candidate(x)) + x))


def test_nin_block_is_a_perceptron_at_every_position():
    block = nin_block(3, 4, 1)
    x = torch.randn(2, 3, 5, 5)
    h = x[0, :, 2, 3]
    for layer in block:
        h = torch.relu(layer.weight[:, :, 0, 0] @ h + layer.bias) if hasattr(layer, "weight") else h
    assert torch.allclose(block(x)[0, :, 2, 3], h, atol=1e-6)


# The record


def test_convolutional_nets_degrade_too():
    recorded = json.loads(chapter.RECORD.read_text())
    loss = {
        name: np.array([run["train_loss"] for run in runs])
        for name, runs in recorded["results"].items()
    }
    assert len(recorded["seeds"]) >= 5
    assert loss["plain_9"].min() > loss["plain_1"].max()
    assert (loss["residual_9"] < 0.7 * loss["plain_9"]).all()
    assert abs(loss["residual_9"].mean() - loss["residual_1"].mean()) < 0.1
    assert abs(loss["residual_1"].mean() - loss["plain_1"].mean()) < 0.1
    for blocks in (1, 9):  # gamma = 0 is slower here
        assert loss[f"residual_zero_{blocks}"].mean() > loss[f"residual_{blocks}"].mean() + 0.1
    steps = 2 * math.ceil(6000 / 64)
    assert steps == 188


# The clinic


def test_average_pooling_of_an_odd_size():
    odd = torch.randn(2, 64, 7, 7)
    for ceil in (False, True):
        block = BasicBlock(
            64, 128, 2, nn.Sequential(nn.AvgPool2d(2, ceil_mode=ceil), projection(64, 128, 1))
        )
        if ceil:
            assert block(odd).shape == (2, 128, 4, 4)
        else:
            with pytest.raises(RuntimeError, match=r"tensor a \(4\) must match .* b \(3\)"):
                block(odd)


def test_one_channel_is_broadcast_in_silence():
    block = BasicBlock(1, 16)
    x = torch.rand(2, 1, 8, 8)
    branch = []
    block.bn2.register_forward_hook(lambda module, inputs, out: branch.append(out))
    assert torch.equal(block(x), torch.relu(branch[0] + x.expand(-1, 16, -1, -1)))


def test_adding_in_place_after_relu_breaks_the_backward():
    conv = nn.Conv2d(4, 4, 3, padding=1)
    norm = nn.BatchNorm2d(4)
    x = torch.randn(2, 4, 5, 5)
    out = torch.relu(conv(x))
    out += x
    with pytest.raises(RuntimeError, match="output 0 of Relu"):
        out.sum().backward()
    out = norm(conv(x))
    out += x  # torchvision's way: batch norm keeps its input, not its output
    out.sum().backward()


def test_in_place_relu_changes_the_shortcut():
    x = torch.tensor([[-1.0, 2.0, -3.0, 4.0]])
    branch = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 4))
    given = x.clone()
    expected = torch.relu(x) + branch[1](torch.relu(x))
    assert torch.allclose(given + branch(given), expected)
    assert (given >= 0).all()


def test_forgotten_eval_and_batch_of_one():
    block = BasicBlock(8, 8)
    pair = torch.randn(2, 8, 4, 4)
    assert not torch.allclose(block(pair)[:1], block(pair[:1]), atol=1e-3)
    block.eval()
    assert torch.allclose(block(pair)[:1], block(pair[:1]), atol=1e-6)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        block.train()(torch.randn(1, 8, 1, 1))


def test_keys_of_a_missing_downsample():
    state = BasicBlock(64, 128, 2, projection(64, 128, 2)).state_dict()
    with pytest.raises(RuntimeError, match=r"Unexpected key.*downsample\.0\.weight"):
        BasicBlock(64, 128, 2).load_state_dict(state)


# The exercises


def test_swapping_blocks():
    ends = {}
    for name in ("residual_bn", "plain_bn"):
        params = list(fit(name, 10, RATES[name][10])[0])
        order = [0, 1, 2, 3, 6, 7, 4, 5, 8, 9]
        params[1:4] = [p[order] for p in params[1:4]]
        ends[name] = accuracy(params, ARMS[name]).mean().item()
    assert ends["residual_bn"] > 0.85
    assert ends["plain_bn"] < 0.3


@pytest.mark.gpu
def test_cuda_and_cpu_agree():
    block = BasicBlock(8, 16, 2, projection(8, 16, 2))
    x = torch.randn(2, 8, 8, 8)
    expected = block(x)
    assert torch.allclose(block.cuda()(x.cuda()).cpu(), expected, atol=1e-3)
