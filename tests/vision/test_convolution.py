import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from snippets.vision import convolution as chapter
from snippets.vision.convolution import (
    TwoConv,
    accuracy,
    conv2d,
    conv2d_grads,
    conv_matrix,
    conv_params,
    corr2d,
    digits_task,
    fit,
    full_net,
    im2col,
    left_right,
    max_net,
    multiplications,
    out_size,
    permute,
    shift_each,
    shift_error,
    unshared_params,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


# The derivation: from a full connection to a convolution


def test_corr2d_equals_torch_and_the_figure():
    for shape, kernel in (((4, 4), (3, 3)), ((7, 5), (2, 4)), ((5, 5), (5, 5)), ((3, 6), (1, 1))):
        X, K = randn(*shape), randn(*kernel, seed=1)
        assert torch.allclose(corr2d(X, K), F.conv2d(X[None, None], K[None, None])[0, 0])
    out = corr2d(chapter.EXAMPLE, chapter.EDGE)
    assert out.tolist() == [[0, 1], [-2, -1]]
    assert out[1, 1] == 1 + 1 + 0 - 2 - 0 - 1


def test_two_constraints_turn_a_full_connection_into_a_convolution():
    """The matrix of a convolution is a full connection: local, and the same in every row."""
    weight, size = randn(1, 1, 3, 3), 6
    M = conv_matrix(weight, size)  # (16, 36)
    assert M.shape == (16, 36)
    assert ((M != 0).sum(1) == 9).all()
    values = {tuple(row[row != 0].tolist()) for row in M}
    assert values == {tuple(weight.flatten().tolist())}


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (1, 1), (2, 1), (3, 2)])
def test_the_matrix_is_the_convolution(stride, padding):
    weight, x = randn(3, 2, 3, 3), randn(5, 2, 7, 7, seed=1)
    M = conv_matrix(weight, 7, stride, padding)
    y = F.conv2d(x, weight, stride=stride, padding=padding)
    assert torch.allclose(x.flatten(1) @ M.T, y.flatten(1))


def test_counts_of_the_small_example():
    assert 196**2 == 38416
    assert unshared_params(1, 1, 7, 14, 14, bias=False) == 196 * 49 == 9604
    assert conv_params(1, 1, 7, bias=False) == 49


def test_torch_does_not_turn_the_kernel_and_numpy_does():
    signal, kernel = randn(20), randn(5, seed=1)
    as_is = F.conv1d(signal.view(1, 1, -1), kernel.view(1, 1, -1)).view(-1).numpy()
    turned = F.conv1d(signal.view(1, 1, -1), kernel.flip(0).view(1, 1, -1)).view(-1).numpy()
    both = signal.numpy(), kernel.numpy()
    assert np.allclose(as_is, np.correlate(*both, mode="valid"))
    assert np.allclose(turned, np.convolve(*both, mode="valid"))
    assert not np.allclose(as_is, turned)


def test_scipy_turns_the_kernel_in_two_dimensions():
    ndimage = pytest.importorskip("scipy.ndimage")
    X, K = randn(8, 9), randn(3, 5, seed=1)
    theirs = torch.from_numpy(ndimage.convolve(X.numpy(), K.numpy()))[1:-1, 2:-2]
    assert torch.allclose(theirs, corr2d(X, K.flip(0, 1)))
    assert not torch.allclose(theirs, corr2d(X, K))


# Channels and counts


def test_connections_of_one_output():
    """E47: 3 * 3 * 20 = 180 inputs reach one output, and one bias."""
    x = torch.randn(1, 20, 16, 16, requires_grad=True)
    conv = nn.Conv2d(20, 1, 3)
    conv(x)[0, 0, 5, 5].backward()
    assert (x.grad != 0).sum() == 180 == 3 * 3 * 20
    assert sum(p.numel() for p in conv.parameters()) == 181 == conv_params(20, 1, 3)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("c_in", "c_out", "k"), [(1, 20, 5), (10, 32, 3), (3, 16, 5), (7, 2, 1)])
def test_conv_params_equals_torch(c_in, c_out, k, bias):
    conv = nn.Conv2d(c_in, c_out, k, bias=bias)
    assert conv_params(c_in, c_out, k, bias) == sum(p.numel() for p in conv.parameters())


def test_shared_and_unshared():
    assert conv_params(10, 32, 3, bias=False) == 32 * 3 * 3 * 10 == 2880
    assert conv_params(10, 32, 3) == 2880 + 32 == 2912
    unshared = unshared_params(10, 32, 3, 20, 20)
    assert unshared == 1_164_800 == 400 * 2912
    full = 4000 * 12_800 + 12_800
    assert full == 51_212_800
    assert 1 - unshared / full == pytest.approx(0.977, abs=5e-4)


def test_sharing_saves_no_multiplications():
    assert multiplications(10, 32, 3, 20, 20) == 1_152_000
    assert unshared_params(10, 32, 3, 20, 20, bias=False) == multiplications(10, 32, 3, 20, 20)


def test_multiplications_are_the_weights_in_the_matrix():
    weight = randn(3, 2, 3, 3)
    assert (conv_matrix(weight, 7) != 0).sum() == multiplications(2, 3, 3, 5, 5)
    assert (conv_matrix(weight, 7, stride=2) != 0).sum() == multiplications(2, 3, 3, 3, 3)


def test_edge_kernels_see_one_direction():
    image = chapter.shapes()
    vertical = F.conv2d(image, chapter.EDGE.view(1, 1, 3, 3))[0, 0]
    horizontal = F.conv2d(image, chapter.EDGE.T.reshape(1, 1, 3, 3))[0, 0]
    assert (vertical.min(), vertical.max()) == (-3, 3)
    # The middle of the rectangle's upper side: rows 18 and 19 of the image, columns 20 to 24.
    assert (vertical[17:19, 19:23] == 0).all()
    assert (horizontal[17:19, 19:23] == -3).all()
    # Its left side, and its inside.
    assert (vertical[20:24, 13:15] == -3).all()
    assert (horizontal[20:24, 13:15] == 0).all()
    assert (vertical[20:24, 18:24] == 0).all()


# Sizes


def test_out_size_equals_torch():
    checked = 0
    for size in range(3, 15):
        for kernel in (1, 2, 3, 5):
            for stride in (1, 2, 3, 4):
                for padding in (0, 1, 2):
                    for dilation in (1, 2, 3):
                        x, w = torch.zeros(1, 1, size, size), torch.zeros(1, 1, kernel, kernel)
                        how = {"stride": stride, "padding": padding, "dilation": dilation}
                        try:
                            theirs = F.conv2d(x, w, **how).shape[-1]
                        except RuntimeError:
                            with pytest.raises(ValueError, match="a window of"):
                                out_size(size, kernel, **how)
                        else:
                            assert out_size(size, kernel, **how) == theirs
                        checked += 1
    assert checked == 12 * 4 * 4 * 3 * 3


def test_e47_arithmetic_and_floor():
    assert (10 - 3 + 0) / 2 == 3.5
    assert (10 - 3 + 0) / 2 + 1 == 4.5
    assert out_size(10, 3, stride=2) == 4
    assert F.conv2d(torch.zeros(1, 1, 10, 10), torch.zeros(1, 1, 3, 3), stride=2).shape[-1] == 4


def test_e47_last_row_and_column_are_not_read():
    x = torch.zeros(1, 1, 10, 10, requires_grad=True)
    F.conv2d(x, torch.ones(1, 1, 3, 3), stride=2).sum().backward()
    read = x.grad[0, 0] > 0
    assert read[:9, :9].all()
    assert not read[9].any() and not read[:, 9].any()


def test_hatched_places_of_the_figure():
    expected = {
        (1, 0, 1): (8, []),
        (1, 1, 1): (10, []),
        (2, 0, 1): (4, [9]),
        (2, 1, 1): (5, [11]),  # the padding on the right
        (3, 0, 1): (3, [9]),
        (1, 0, 2): (6, []),
    }
    assert set(expected) == set(chapter.STRIPS)
    for (stride, padding, dilation), (count, lost) in expected.items():
        assert out_size(10, 3, stride, padding, dilation) == count
        assert chapter.unread(10, 3, stride, padding, dilation) == lost
        # Autograd agrees about the columns inside.
        x = torch.zeros(1, 1, 10, requires_grad=True)
        w = torch.ones(1, 1, 3)
        F.conv1d(x, w, stride=stride, padding=padding, dilation=dilation).sum().backward()
        inside = [place + padding for place in range(10) if x.grad[0, 0, place] == 0]
        assert inside == [place for place in lost if padding <= place < 10 + padding]


def test_table_of_recipes():
    for size in range(7, 30):
        for kernel, stride, padding, dilation, expected in (
            (3, 1, 1, 1, size),
            (5, 1, 2, 1, size),
            (1, 1, 0, 1, size),
            (3, 2, 1, 1, math.ceil(size / 2)),
            (2, 2, 0, 1, size // 2),
            (7, 2, 3, 1, math.ceil(size / 2)),
            (3, 1, 2, 2, size),
        ):
            assert out_size(size, kernel, stride, padding, dilation) == expected


@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
def test_same_padding(kernel, dilation):
    for size in (7, 8, 20):
        assert out_size(size, kernel, 1, dilation * (kernel - 1) // 2, dilation) == size


def test_even_kernels_need_uneven_padding():
    x, w = randn(1, 1, 9, 9), randn(1, 1, 4, 4, seed=1)
    assert out_size(9, 4, padding=1) == 8 and out_size(9, 4, padding=2) == 10
    with pytest.warns(UserWarning, match="even kernel"):
        same = F.conv2d(x, w, padding="same")
    assert same.shape == x.shape
    # One row and column above and left, two below and right.
    assert torch.allclose(same, F.conv2d(F.pad(x, [1, 2, 1, 2]), w))


def test_five_layers_without_padding():
    x = torch.zeros(1, 1, 32, 32)
    size = 32
    for _ in range(5):
        x, size = F.conv2d(x, torch.zeros(1, 1, 3, 3)), out_size(size, 3)
    assert x.shape[-1] == size == 22


# Shifts


def layer(stride: int = 1, mode: str = "zeros", kernel: int = 3) -> nn.Conv2d:
    padding = (kernel - 1) // 2
    return nn.Conv2d(2, 3, kernel, stride, padding=padding, padding_mode=mode).double()


@pytest.mark.parametrize("by", [1, 3, -4])
@pytest.mark.parametrize("kernel", [3, 5])
def test_circular_padding_is_equivariant(kernel, by):
    conv, x = layer(mode="circular", kernel=kernel), randn(2, 2, 12, 12)
    assert shift_error(conv, x, by).max() < 1e-12
    moved = conv(x.roll((by, 2), (2, 3)))
    assert torch.allclose(moved, conv(x).roll((by, 2), (2, 3)))


def test_unshared_weights_are_not_equivariant():
    """Equation (9) rests on sharing: locality alone does not give it."""
    x = randn(1, 1, 6, 6)
    windows = im2col(F.pad(x, [1, 1, 1, 1], mode="circular"), (3, 3))  # (1, 1, 9, 6, 6)
    moved = im2col(F.pad(x.roll(1, 3), [1, 1, 1, 1], mode="circular"), (3, 3))
    own, shared = randn(9, 6, 6, seed=1), randn(9, 1, 1, seed=2)
    assert not torch.allclose((moved * own).sum(2), (windows * own).sum(2).roll(1, 3))
    assert torch.allclose((moved * shared).sum(2), (windows * shared).sum(2).roll(1, 3))


def test_zero_padding_fails_at_the_border_only():
    error = shift_error(layer(), randn(1, 2, 12, 12), 1).amax((0, 1, 2))  # a number a column
    assert (error[2:11] < 1e-12).all()
    assert (error[[0, 1, 11]] > 1e-3).all()


@pytest.mark.parametrize("by", range(1, 7))
def test_stride_is_equivariant_for_its_multiples_only(by):
    error = shift_error(layer(stride=2, mode="circular"), randn(1, 2, 12, 12), by, stride=2)
    if by % 2 == 0:
        assert error.max() < 1e-12
    else:
        assert error.amax((0, 1)).min() > 1e-6  # everywhere


def test_e47_receptive_field_grows_with_depth():
    for depth, expected in ((1, 3), (2, 5), (3, 7)):
        stack = nn.Sequential(*[nn.Conv2d(1, 1, 3) for _ in range(depth)]).double()
        x = randn(1, 1, 15, 15).requires_grad_()
        stack(x)[0, 0, 4, 4].backward()
        seen = x.grad[0, 0] != 0
        assert seen.any(0).sum() == seen.any(1).sum() == expected


# The code


GRID = [
    (stride, padding, dilation, groups, kernel)
    for stride in (1, 2, 3)
    for padding in (0, 1, 2)
    for dilation in (1, 2)
    for groups in (1, 2, 4)
    for kernel in ((1, 1), (3, 3), (2, 4))
]


def test_conv2d_equals_torch_on_a_grid():
    x, b = randn(2, 4, 9, 11), randn(8, seed=1)
    for stride, padding, dilation, groups, kernel in GRID:
        w = randn(8, 4 // groups, *kernel, seed=2)
        ours = conv2d(x, w, b, stride, padding, dilation, groups)
        assert torch.allclose(ours, F.conv2d(x, w, b, stride, padding, dilation, groups))
    assert len(GRID) == 3 * 3 * 2 * 3 * 3


def test_im2col_equals_unfold():
    x = randn(2, 3, 8, 9)
    for stride, padding, dilation in ((1, 0, 1), (2, 1, 1), (1, 2, 2), (3, 1, 2)):
        ours = im2col(x, (3, 2), stride, padding, dilation)
        how = {"stride": stride, "padding": padding, "dilation": dilation}
        assert torch.allclose(ours.reshape(2, 6 * 3, -1), F.unfold(x, (3, 2), **how))
    # With stride 1 and a size that stays, every number is copied nine times.
    assert im2col(x, (3, 3), padding=1).numel() == 9 * x.numel()


def test_gradients_equal_autograd():
    x = randn(2, 3, 8, 7).requires_grad_()
    w = randn(4, 3, 3, 2, seed=1).requires_grad_()
    y = F.conv2d(x, w)
    g = randn(*y.shape, seed=2)
    y.backward(g)
    for_x, for_w = conv2d_grads(x.detach(), w.detach(), g)
    assert torch.allclose(for_x, x.grad)
    assert torch.allclose(for_w, w.grad)
    assert torch.allclose(for_x, F.conv_transpose2d(g, w.detach()))


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 0), (2, 1), (3, 1)])
def test_transposed_convolution_is_the_transposed_matrix(stride, padding):
    w = randn(3, 2, 3, 3)
    M = conv_matrix(w, 10, stride, padding)
    side = out_size(10, 3, stride, padding)
    g = randn(1, 3, side, side, seed=1)
    x = randn(1, 2, 10, 10, seed=2).requires_grad_()
    F.conv2d(x, w, stride=stride, padding=padding).backward(g)
    assert torch.allclose(x.grad.flatten(), M.T @ g.flatten())
    missing = 10 - ((side - 1) * stride + 3 - 2 * padding)
    back = F.conv_transpose2d(g, w, stride=stride, padding=padding, output_padding=missing)
    assert torch.allclose(back, x.grad)


def test_transposed_convolution_is_no_inverse():
    w, x = randn(1, 1, 3, 3), randn(1, 1, 10, 10, seed=1)
    y = F.conv2d(x, w, stride=2)
    assert F.conv_transpose2d(y, w, stride=2).shape[-1] == 9
    back = F.conv_transpose2d(y, w, stride=2, output_padding=1)
    assert back.shape == x.shape
    assert not torch.allclose(back, x, rtol=0.1)
    assert (back[..., 9] == 0).all() and (back[..., 9, :] == 0).all()


def test_two_conv():
    model = TwoConv()
    assert model(torch.randn(4, 1, 28, 28)).shape == (4, 20, 20, 20)
    assert conv_params(1, 20, 5) == 520 and conv_params(20, 20, 5) == 10_020
    assert sum(p.numel() for p in model.parameters()) == 10_540
    assert multiplications(1, 20, 5, 24, 24) == 288_000
    assert multiplications(20, 20, 5, 20, 20) == 4_000_000
    assert (model(torch.randn(2, 1, 28, 28)) >= 0).all()


def test_two_conv_against_a_full_connection():
    full = 28 * 28 * 20 * 20 * 20
    assert full == 6_272_000
    assert round(full / 10_540) == 595
    assert full / 4_288_000 == pytest.approx(1.46, abs=0.01)


# The comparison


def test_the_three_nets_have_as_many_parameters():
    counts = {
        k: sum(p.numel() for p in make().parameters()) for k, (make, _) in chapter.NETS.items()
    }
    assert counts == {"full": 2908, "flat": 2770, "max": 2890}
    assert max(counts.values()) / min(counts.values()) < 1.05
    assert sum(p.numel() for p in full_net(140).parameters()) == 28_990
    assert sum(p.numel() for p in chapter.strided_net().parameters()) == 2890


def test_the_three_nets_do_not_multiply_as_much():
    full = 196 * 14 + 14 * 10
    flat = multiplications(1, 4, 7, 8, 8) + 4 * 64 * 10
    most = multiplications(1, 48, 7, 14, 14) + 48 * 10
    assert (full, flat, most) == (2884, 15_104, 461_472)
    assert round(most / full) == 160


def test_the_task():
    data = digits_task(0)
    assert len(data["train"][0]) == 500 and len(data["test"][0]) == len(data["shifted"][0]) == 360
    images = data["test"][0]
    assert images.shape[1:] == (1, 14, 14)
    border = torch.ones(14, 14, dtype=torch.bool)
    border[3:11, 3:11] = False
    assert (images[:, 0, border] == 0).all()
    # Shifting moves the digits whole: nothing is lost, at most 3 pixels, every image its own way.
    shifted = data["shifted"][0]
    assert torch.allclose(shifted.sum((1, 2, 3)), images.sum((1, 2, 3)))
    moves = [(a, b) for a in range(-3, 4) for b in range(-3, 4)]
    found = set()
    for image, moved in zip(images, shifted, strict=True):
        fitting = [move for move in moves if torch.equal(moved, image.roll(move, (1, 2)))]
        assert len(fitting) == 1
        found |= set(fitting)
    # 49 moves, 360 images: one in thirty draws would miss a move.
    assert len(found) >= 47
    again = shift_each(images, 3, generator(5))
    assert not torch.equal(again, shift_each(images, 3, generator(6)))


def test_fit_starts_from_the_seed_alone():
    data = digits_task(0)["train"]
    torch.manual_seed(1)
    one = fit(full_net, data, seed=0, steps=5)
    torch.manual_seed(2)
    two = fit(full_net, data, seed=0, steps=5)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_every_net_has_learnt(measured):
    values = measured(chapter.experiment_digits)
    for name in chapter.NETS:
        assert (values[f"{name}_train"] > 0.95).all(), name
    assert (values["max_mixed_train"] > 0.92).all()
    assert (values["full_mixed_train"] > 0.94).all()


def test_a_shift_ruins_the_full_connection(measured):
    values = measured(chapter.experiment_digits)
    assert len(values["full_shifted"]) >= 5
    assert (values["full_test"] > 0.9).all()
    assert (values["full_shifted"] < 0.25).all()
    assert ((values["full_1"] > 0.3) & (values["full_1"] < 0.6)).all()
    assert (values["full_2"] < 0.25).all()


def test_ten_times_the_net_with_shifts_in_training_is_still_behind(measured):
    values = measured(chapter.experiment_digits)
    assert (values["wide_shifted"] > values["full_shifted"] + 0.4).all()
    assert (values["wide_shifted"] < values["max_shifted"] - 0.05).all()
    assert values["wide_test"].mean() < values["full_test"].mean() - 0.05


def test_more_steps_with_shifts_help_further(measured):
    values = measured(chapter.experiment_digits)
    data = digits_task(0)
    net = fit(lambda: full_net(140), data["train"], seed=0, steps=1000, most=3, lr=0.01)
    for part in ("test", "shifted"):
        assert accuracy(net, *data[part]) > values[f"wide_{part}"][0] + 0.01


def test_convolution_with_a_global_maximum_does_not_mind_the_shift(measured):
    values = measured(chapter.experiment_digits)
    assert (values["gain_shifted"] > 0.7).all()
    # One image of the 360 is 0.003.
    assert (values["drop_max"] < 0.03).all()


def test_convolution_alone_minds_the_shift(measured):
    values = measured(chapter.experiment_digits)
    assert (values["flat_shifted"] < 0.25).all()
    assert np.abs(values["flat_shifted"] - values["full_shifted"]).max() < 0.06


def test_more_filters_do_not_help_the_flattened_net():
    """48 filters with padding, as in the net with a global maximum; only the end differs."""
    data = digits_task(0)

    def wide_flat_net() -> nn.Sequential:
        conv = nn.Conv2d(1, 48, 7, padding=3)
        return nn.Sequential(conv, nn.ReLU(), nn.Flatten(), nn.Linear(48 * 196, 10))

    net = fit(wide_flat_net, data["train"], seed=0, steps=50, lr=0.01)
    assert accuracy(net, *data["test"]) > 0.9
    assert accuracy(net, *data["shifted"]) < 0.25


def test_stride_two_minds_odd_shifts_only(measured):
    values = measured(chapter.experiment_digits)
    assert (np.abs(values["strided_2"] - values["strided_0"]) < 0.03).all()
    for odd in ("strided_1", "strided_3"):
        assert (values[odd] < values["strided_0"] - 0.25).all()
        assert values[odd].mean() == pytest.approx(0.55, abs=0.08)


def test_shifts_in_training_help_the_strided_net():
    data = digits_task(0)
    net = fit(chapter.strided_net, data["train"], seed=0, steps=100, most=3)
    assert accuracy(net, *data["shifted"]) > 0.7


def test_curves_of_the_figure():
    curves = chapter.curves(0)
    assert min(curves["max"]) > 0.93
    assert min(curves["strided"][0], curves["strided"][2]) > 0.88
    assert max(curves["strided"][1], curves["strided"][3]) < 0.7
    for name in ("full", "flat"):
        assert curves[name][0] > 0.9 and max(curves[name][2:]) < 0.25


# Where it does not help


def test_aligned_images_gain_little(measured):
    values = measured(chapter.experiment_digits)
    assert 0 < values["gain_test"].mean() < 0.05
    assert abs((values["flat_test"] - values["full_test"]).mean()) < 0.015


def test_mixed_pixels_take_the_advantage_away(measured):
    values = measured(chapter.experiment_digits)
    assert (values["loss_mixed"] > 0).all()
    assert values["loss_mixed"].mean() > 0.02
    # In the middle: no longer ahead. Shifted: neither net knows anything.
    assert values["gain_mixed"].mean() < 0.005
    assert values["gain_mixed"].mean() < values["gain_test"].mean() - 0.02
    assert np.abs(values["gain_mixed_shifted"]).max() < 0.06
    assert abs(values["gain_mixed_shifted"].mean()) < 0.03
    assert (values["max_mixed_shifted"] < 0.25).all()


def test_more_training_helps_the_convolution_on_mixed_pixels_but_not_when_shifted(measured):
    data = digits_task(0)
    order = torch.randperm(196, generator=generator(0))
    mixed = {part: (permute(images, order), y) for part, (images, y) in data.items()}
    values = measured(chapter.experiment_digits)
    many = fit(max_net, mixed["train"], seed=0, steps=200)
    assert accuracy(many, *mixed["train"]) > 0.98
    assert accuracy(many, *mixed["test"]) > values["max_mixed_test"][0] + 0.005
    # Level with the full connection: within 2 % of the 360 images.
    assert accuracy(many, *mixed["test"]) == pytest.approx(values["full_mixed_test"][0], abs=0.02)
    assert accuracy(many, *mixed["shifted"]) < 0.25


def test_full_connection_does_not_know_the_order():
    """With the first weights rearranged like the pixels, training is the same step by step."""
    data = digits_task(0)
    order = torch.randperm(196, generator=generator(3))
    mixed = (permute(data["train"][0], order), data["train"][1])
    plain = fit(full_net, data["train"], seed=0, steps=20)

    def rearranged() -> nn.Sequential:
        net = full_net()
        with torch.no_grad():
            net[1].weight.copy_(net[1].weight[:, order])
        return net

    other = fit(rearranged, mixed, seed=0, steps=20)
    # Sums in another order: rounding only.
    assert torch.allclose(other[1].weight, plain[1].weight[:, order], atol=1e-4)
    images = data["test"][0]
    assert torch.allclose(other(permute(images, order)), plain(images), atol=1e-3)
    assert not torch.allclose(other(images), plain(images), atol=0.1)


def test_left_or_right(measured):
    values = measured(chapter.experiment_digits)
    assert (values["where_full"] > 0.99).all()
    # Half, but for images whose two logits differ by less than the rounding of the sums.
    assert values["where_circular"] == pytest.approx(0.5, abs=0.02)
    assert (values["where_zeros"] > 0.65).all()
    assert values["where_zeros"].mean() > 0.8


def test_left_and_right_are_the_same_to_a_circular_net():
    images, sides = left_right(digits_task(0)["test"][0][:50])
    assert images.shape == (100, 1, 14, 14)
    assert sides.tolist() == [0] * 50 + [1] * 50
    assert torch.equal(images[50:], images[:50].roll(6, 3))
    assert (images[:50, ..., 8:] == 0).all()  # to the left, and nothing came round
    net = max_net(padding_mode="circular", classes=2)
    with torch.no_grad():
        left, right = net(images[:50]), net(images[50:])
    # The sums of a window come in the same order wherever it lies; rounding at most.
    assert torch.allclose(left, right, atol=1e-5)
    with torch.no_grad():
        zeros = max_net(classes=2)(images)
    assert not torch.allclose(zeros[:50], zeros[50:], atol=1e-5)


# The clinic and the exercises


def test_error_messages():
    conv = nn.Conv2d(1, 8, 3)
    with pytest.raises(RuntimeError, match="to have 3 channels, but got 28 channels"):
        nn.Conv2d(3, 8, 3)(torch.rand(2, 28, 28, 3))
    with pytest.raises(RuntimeError, match="to have 3 channels, but got 1 channels"):
        nn.Conv2d(3, 8, 3)(torch.rand(2, 1, 28, 28))
    with pytest.raises(RuntimeError, match="to have 1 channels, but got 64 channels"):
        conv(torch.rand(64, 28, 28))
    with pytest.raises(RuntimeError, match=r"Expected 3D \(unbatched\) or 4D"):
        conv(torch.rand(28, 28))
    with pytest.raises(RuntimeError, match="Kernel size can't be greater"):
        nn.Conv2d(1, 8, 5)(torch.rand(2, 1, 4, 4))
    for dtype, name in ((torch.uint8, "unsigned char"), (torch.float64, "double")):
        with pytest.raises(RuntimeError, match=name):
            conv(torch.zeros(2, 1, 28, 28, dtype=dtype))
    with pytest.raises(ValueError, match="not supported for strided"):
        nn.Conv2d(1, 8, 3, stride=2, padding="same")
    with pytest.raises(RuntimeError, match="2x5408 and 6272x10"):
        nn.Sequential(conv, nn.Flatten(), nn.Linear(8 * 28 * 28, 10))(torch.rand(2, 1, 28, 28))


def test_silent_mistakes():
    conv = nn.Conv2d(1, 8, 3)
    assert conv(torch.rand(1, 28, 28)).shape == (8, 26, 26)  # one image without its batch
    photo = torch.rand(28, 28, 3)
    assert photo.reshape(3, 28, 28).shape == photo.permute(2, 0, 1).shape
    assert not torch.equal(photo.reshape(3, 28, 28), photo.permute(2, 0, 1))
    assert nn.Conv2d(1, 8, 4, padding=2)(torch.rand(1, 1, 28, 28)).shape[-1] == 29


def test_lazy_linear_finds_its_size():
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Flatten(), nn.LazyLinear(10))
    assert net(torch.rand(2, 1, 28, 28)).shape == (2, 10)
    assert net[2].in_features == 8 * out_size(28, 3) ** 2 == 5408


def test_sizes_of_exercise_1():
    assert (32 + 2 * 2 - 5) / 2 == 15.5
    assert out_size(32, 5, 2, 2) == 16
    assert chapter.unread(32, 5, 2, 2) == [35]  # the outermost padding on the right


def test_maximum_of_maxima():
    net = max_net()
    pooled = nn.Sequential(net[0], nn.MaxPool2d(2), *net[1:])
    images = digits_task(0)["test"][0][:20]
    assert torch.equal(pooled(images), net(images))
    # ReLU never falls, so it may come before the maximum or after.
    relu_first = nn.Sequential(net[0], nn.ReLU(), net[1], net[3])
    assert torch.equal(relu_first(images), net(images))


def test_circular_padding_makes_the_trained_net_invariant():
    data = digits_task(1)
    net = fit(max_net, data["train"], seed=1, steps=30)
    circular = max_net(padding_mode="circular")
    circular.load_state_dict(copy.deepcopy(net.state_dict()))
    images = data["test"][0]
    with torch.no_grad():
        assert torch.allclose(circular(images), circular(images.roll((3, -3), (2, 3))), atol=1e-5)
        assert not torch.allclose(net(images), net(images.roll((3, -3), (2, 3))), atol=1e-2)
        assert (net(images).argmax(1) == net(images.roll((3, -3), (2, 3))).argmax(1)).sum() > 340
        # With the digit in the middle, every window that sees it fits: both paddings agree.
        assert torch.allclose(circular(images), net(images), atol=1e-5)
