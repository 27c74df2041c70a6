import io
import itertools
import math

import numpy as np
import pytest
import torch

from snippets.basics import tensors as chapter
from snippets.basics.tensors import Strided, allocations, shares_memory, to_list


def strided(*shape: int) -> Strided:
    """The numbers 0, 1, ... in row-major order, like torch.arange(n).view(shape)."""
    return Strided(list(range(math.prod(shape))), shape, chapter.contiguous_stride(shape))


def matrix() -> torch.Tensor:
    return torch.arange(12).view(3, 4)


def layout(t: torch.Tensor) -> tuple:
    return t.storage_offset(), tuple(t.shape), t.stride()


# The failure


def test_dividing_by_row_sums_without_keepdim_invents_people():
    counts = chapter.moves().double()
    people = counts.sum(1)
    wrong = counts / counts.sum(1)
    right = counts / counts.sum(1, keepdim=True)
    assert people.tolist() == [100, 1000, 500]
    assert chapter.forecast(people, wrong, 0).sum() == 1600
    # By hand: 100 * (80/100 + 15/1000 + 5/500) + 1000 * ... + 500 * ...
    assert chapter.forecast(people, wrong, 1).sum().item() == pytest.approx(2617.5)
    assert chapter.forecast(people, wrong, 10).sum().item() == pytest.approx(4894.2, abs=0.05)
    for years in (1, 10, 100):
        assert chapter.forecast(people, right, years).sum().item() == pytest.approx(1600)


def test_the_wrong_matrix_passes_the_naive_checks_but_not_the_row_sums():
    counts = chapter.moves().double()
    wrong = counts / counts.sum(1)
    right = counts / counts.sum(1, keepdim=True)
    assert wrong.min() >= 0 and wrong.max() <= 1
    d = torch.diag(counts.sum(1))
    assert torch.allclose(wrong, d @ right @ d.inverse())
    eigenvalues = torch.linalg.eigvals(wrong).real
    assert eigenvalues.max().item() == pytest.approx(1)
    assert torch.allclose(right.sum(1), torch.ones(3).double())
    assert ((wrong.sum(1) - 1).abs() > 0.1).all()


def test_the_same_mistake_is_an_error_unless_the_matrix_is_square():
    message = r"The size of tensor a \(3\) must match the size of tensor b \(4\)"
    with pytest.raises(RuntimeError, match=message):
        torch.ones(4, 3) / torch.ones(4, 3).sum(1)
    torch.ones(3, 3) / torch.ones(3, 3).sum(1)


# What a tensor is


def test_number_of_axes_and_dtype_defaults():
    assert torch.tensor(3.5).shape == () and torch.tensor([3.5]).shape == (1,)
    assert torch.tensor(3.5).dtype == torch.float32
    assert torch.arange(4).dtype == torch.int64
    x = torch.zeros(2, 3, 4)
    assert (x.ndim, x.numel(), x[0].shape) == (3, 24, (3, 4))


def test_type_promotion_is_by_kind_then_by_bits_and_numbers_do_not_widen():
    f32, f64, i64 = (torch.ones(2, dtype=d) for d in (torch.float32, torch.float64, torch.int64))
    assert (f32 + i64).dtype == torch.float32
    assert (f32 + f64).dtype == torch.float64
    assert (f32 * 0.5).dtype == torch.float32
    assert (f32 + torch.ones((), dtype=torch.float64)).dtype == torch.float32
    assert (i64 * 0.5).dtype == torch.float32


def test_indexing_of_the_notes():
    x = matrix()
    assert x[1, 2] == 6
    assert x[:, 2].tolist() == [2, 6, 10]
    grid = torch.arange(60).view(5, 12)
    assert grid[1:4:2, 1:-1:4].tolist() == [[13, 17, 21], [37, 41, 45]]


# The derivation


def test_address_formula_finds_every_element():
    x = torch.arange(60).view(5, 12)
    memory = torch.arange(60)
    for view in (x, x.T, x[1:4:2, 1:-1:4], x[2], x[:, 3], x[:, :1].expand(5, 7)):
        for index in itertools.product(*(range(n) for n in view.shape)):
            address = view.storage_offset() + sum(
                i * s for i, s in zip(index, view.stride(), strict=True)
            )
            assert memory[address] == view[index]


@pytest.mark.parametrize("shape", [(), (5,), (5, 12), (2, 3, 4), (2, 1, 3), (4, 3, 2, 5)])
def test_contiguous_strides(shape):
    assert chapter.contiguous_stride(shape) == torch.zeros(shape).stride()
    for k in range(len(shape)):
        assert chapter.contiguous_stride(shape)[k] == math.prod(shape[k + 1 :])


def test_numpy_counts_strides_in_bytes():
    array = np.zeros((3, 4), dtype=np.float32)
    assert array.strides == (16, 4)
    assert torch.from_numpy(array).stride() == (4, 1)


def test_own_slice_of_the_notes():
    part = strided(5, 12)[1:4:2, 1:-1:4]
    assert to_list(part) == [[13, 17, 21], [37, 41, 45]]
    assert (part.offset, part.shape, part.stride) == (13, (2, 3), (24, 4))


def test_own_slices_agree_with_torch_and_copy_nothing():
    ours, theirs = strided(5, 12), torch.arange(60).view(5, 12)
    bounds = (None, 0, 2, 9, -3, 20)
    slices = [slice(a, b, t) for a in bounds for b in bounds for t in (None, 1, 2, 4)]
    for key in slices:
        for keys in ((key, slice(None)), (slice(1, 4, 2), key), (3, key), (key, -2)):
            part, expected = ours[keys], theirs[keys]
            assert to_list(part) == expected.tolist()
            assert part.storage is ours.storage
            if expected.numel():
                # A slice with one element may keep any stride; torch and we multiply alike.
                assert (part.offset, part.shape, part.stride) == layout(expected)


def test_own_integer_index_raises_when_out_of_range():
    with pytest.raises(IndexError):
        strided(5, 12)[5, 0]


def test_own_transpose():
    ours, theirs = strided(2, 3, 4), torch.arange(24).view(2, 3, 4)
    assert to_list(ours.T) == theirs.permute(2, 1, 0).tolist()
    assert ours.T.stride == (1, 4, 12)
    assert ours.T.storage is ours.storage


def test_slices_are_views_and_lists_are_copies_even_with_one_number():
    x = matrix()
    assert shares_memory(x, x[0:1])
    assert not shares_memory(x, x[[0]])
    assert torch.equal(x[0:1], x[[0]])
    assert not shares_memory(x, x[x > 5])


def test_flatten_condition_is_exactly_when_view_works():
    base = torch.arange(2 * 3 * 1 * 4 * 6).view(2, 3, 1, 4, 6)
    seen = set()
    for axes in itertools.permutations(range(5)):
        for cut in (slice(None), slice(0, 2), slice(0, 6, 2), slice(0, 1)):
            t = base.permute(axes)[..., cut]
            predicted = chapter.flattens_without_copy(tuple(t.shape), t.stride())
            seen.add(predicted)
            assert shares_memory(t, t.reshape(-1)) == predicted
            if predicted:
                t.view(-1)
            else:
                with pytest.raises(RuntimeError, match="view size is not compatible"):
                    t.view(-1)
    assert seen == {True, False}


# Broadcasting

SHAPES = [(), (1,), (0,), (3,), (4,), (1, 3), (4, 1), (4, 3), (2, 1, 3), (2, 4, 1), (1, 0)]


@pytest.mark.parametrize(("a", "b"), list(itertools.product(SHAPES, SHAPES)))
def test_broadcast_shape_agrees_with_torch(a, b):
    try:
        expected = tuple(torch.broadcast_shapes(a, b))
    except RuntimeError:
        with pytest.raises(ValueError, match="sizes"):
            chapter.broadcast_shape(a, b)
    else:
        assert chapter.broadcast_shape(a, b) == expected
        assert (torch.zeros(a) + torch.zeros(b)).shape == expected


def test_broadcast_shape_of_several():
    shapes = ((8, 1, 6, 1), (7, 1, 5), (6, 5))
    assert chapter.broadcast_shape(*shapes) == tuple(torch.broadcast_shapes(*shapes))
    assert chapter.broadcast_shape(*shapes[:2]) == (8, 7, 6, 5)
    assert chapter.broadcast_shape() == ()


def test_one_and_zero_make_zero():
    assert chapter.broadcast_shape((0, 3), (1, 3)) == (0, 3)
    assert (torch.zeros(0, 3) + torch.zeros(3)).shape == (0, 3)


@pytest.mark.parametrize(
    ("shape", "target"), [((3,), (2, 3)), ((4, 1), (2, 4, 3)), ((), (2, 2)), ((1, 3), (5, 3))]
)
def test_expand_is_stride_zero(shape, target):
    ours, theirs = strided(*shape), torch.arange(math.prod(shape)).view(shape)
    wide, expected = chapter.expand(ours, target), theirs.expand(target)
    assert to_list(wide) == expected.tolist()
    assert wide.stride == expected.stride()
    assert wide.storage is ours.storage
    assert allocations(lambda: theirs.expand(target))[0][1] == 0


def test_expand_cannot_shrink_or_stretch_other_sizes():
    for shape, target in (((3,), (2, 1)), ((2, 3), (3,)), ((3,), (6,))):
        with pytest.raises(ValueError):
            chapter.expand(strided(*shape), target)


def test_only_the_result_of_broadcasting_takes_memory():
    a, b = torch.ones(100, 1), torch.ones(50)
    log = allocations(lambda: a + b)
    assert sum(size for _, size in log) == 100 * 50 * 4


def test_features_last_needs_no_extra_axis():
    data = torch.randn(7, 3)
    centred = data - data.mean(0)
    assert torch.allclose(centred.mean(0), torch.zeros(3), atol=1e-6)  # float32


# Products


def test_matrix_product_by_broadcasting_needs_k_times_the_memory():
    g = torch.Generator().manual_seed(0)
    a = torch.randn(5, 8, generator=g, dtype=torch.float64)
    b = torch.randn(8, 6, generator=g, dtype=torch.float64)
    by_broadcast = (a[:, :, None] * b[None]).sum(1)
    assert torch.allclose(by_broadcast, a @ b)
    for i, j in itertools.product(range(5), range(6)):
        total = sum(a[i, k] * b[k, j] for k in range(8))
        assert total.item() == pytest.approx((a @ b)[i, j].item())
    largest = max(size for _, size in allocations(lambda: a[:, :, None] * b[None]))
    assert largest == 8 * max(size for _, size in allocations(lambda: a @ b))


def test_three_products():
    x, y = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])
    a = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert torch.dot(x, y) == x @ y == 11
    assert torch.mv(a, x).tolist() == (a @ x).tolist() == [5, 11]
    assert torch.mm(a, a).tolist() == (a @ a).tolist() == [[7, 10], [15, 22]]


def test_both_distances_agree_with_each_other_and_with_cdist():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(9, 4, generator=g, dtype=torch.float64)
    y = torch.randn(7, 4, generator=g, dtype=torch.float64)
    expected = torch.cdist(x, y) ** 2
    for method in (
        chapter.distances_broadcast,
        chapter.distances_matmul,
        chapter.centred_matmul,
    ):
        assert torch.allclose(method(x, y), expected)


# Operations


def test_table_of_operations():
    a = torch.tensor([[1, 2, 3], [4, 5, 6]])
    assert a.sum(0).tolist() == [5, 7, 9] and a.sum(1).tolist() == [6, 15]
    assert a.sum(1, keepdim=True).shape == (2, 1)
    assert a.cumsum(1).tolist() == [[1, 3, 6], [4, 9, 15]]
    assert a.numel() == 6
    assert torch.cat([a, a], 0).shape == (4, 3) and torch.cat([a, a], 1).shape == (2, 6)
    assert (a * a)[1].tolist() == [16, 25, 36]
    assert (torch.ones(5, 2, 3) @ torch.ones(3, 4)).shape == (5, 2, 4)


# Sharing


def test_readings_share_or_copy_as_printed():
    x = torch.arange(12.0).view(3, 4)
    copies = {name for name, t in chapter.readings(x).items() if not shares_memory(x, t)}
    assert copies == {
        "x[rows]",
        "x[x > 5]",
        "x.T.reshape(12)",
        "x.repeat(2, 1)",
        "x.flip(0)",
        "torch.cat([x])",
        "x.T.contiguous()",
        "x.double()",
        "x.clone()",
        "x + 0",
    }
    # The same, found by writing instead of by looking at addresses.
    for name in chapter.readings(x):
        y = torch.arange(12.0).view(3, 4)
        chapter.readings(y)[name].untyped_storage().fill_(0)
        assert bool((y == 0).all()) == (name not in copies)


@pytest.mark.parametrize(
    ("line", "changes"),
    [
        ("x[0:1][0, 0] = 100", True),
        ("x[[0]][0, 0] = 100", False),
        ("x.T[2, 0] = 100", True),
        ("x.T.reshape(12)[5] = 100", False),
        ("x[x == 7] = 100", True),
        ("x.float()[2, 0] = 100", False),
    ],
)
def test_guess_which_lines_change_x(line, changes):
    x = matrix()
    exec(line, {"x": x})
    assert bool((x == 100).any()) == changes


def test_last_line_of_the_guess_changes_a_float_tensor():
    x = matrix().float()
    x.float()[2, 0] = 100
    assert x[2, 0] == 100
    x = matrix().double()  # of the floats only float32
    x.float()[2, 0] = 100
    assert x[2, 0] == 8


def test_rebinding_leaves_other_names_alone_and_augmented_assignment_does_not():
    x = torch.zeros(2)
    other = x
    x = x + 1
    assert other.tolist() == [0, 0]
    x = other
    x += 1
    assert other.tolist() == [1, 1]


def test_an_in_place_operation_reaches_the_caller_s_array():
    image = np.array([0.0, 51.0, 255.0])
    torch.from_numpy(image).div_(255)
    assert image[-1] == 1.0
    image = np.array([0.0, 51.0, 255.0])
    _ = torch.from_numpy(image) / 255
    assert image[-1] == 255.0


# Devices


def test_pick_device_asks_what_is_there_now(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    assert chapter.pick_device() == torch.device("cpu")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    assert chapter.pick_device() == torch.device("cuda")


def test_device_idiom_works_on_this_machine():
    device = chapter.pick_device()
    x = torch.ones(2, 3).to(device)
    w = torch.ones(3, 1, device=device)
    assert (x @ w).cpu().tolist() == [[3.0], [3.0]]
    assert x.to(device) is x


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_method_fails_without_a_gpu_and_to_device_does_not():
    with pytest.raises((RuntimeError, AssertionError)):
        torch.ones(2).cuda()
    assert torch.ones(2).to("cpu").sum() == 2
    if torch.version.cuda:  # a CUDA build names its accelerator although there is none
        assert torch.accelerator.current_accelerator().type == "cuda"
        assert not torch.accelerator.is_available()


def test_to_moves_a_module_and_copies_a_tensor():
    x = torch.ones(2)
    x.to("meta")
    assert x.device.type == "cpu"
    net = torch.nn.Linear(2, 1)
    net.to("meta")
    assert net.weight.device.type == "meta"


def test_meta_tensors_check_shapes_and_devices():
    x = torch.zeros(2, 3, device="meta")
    assert (x.unsqueeze(1) + torch.zeros(4, 3, device="meta")).shape == (2, 4, 3)
    with pytest.raises(RuntimeError, match="not on the expected device meta"):
        x + torch.zeros(3)
    assert (x + torch.tensor(1.0)).device.type == "meta"  # shape (): a number like any other


@pytest.mark.gpu
def test_cuda_and_cpu_agree():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(64, 32, generator=g, dtype=torch.float64)
    device = chapter.pick_device()
    assert device.type == "cuda"
    on_gpu = chapter.distances_matmul(x.to(device), x.to(device))
    # Other order of summation: a few roundings of numbers below 200.
    assert torch.allclose(on_gpu.cpu(), chapter.distances_matmul(x, x), atol=1e-11)


@pytest.mark.gpu
def test_cuda_tensors_do_not_mix_with_cpu_tensors_or_numpy():
    x = torch.ones(2, device="cuda")
    with pytest.raises(RuntimeError, match="on the same device"):
        x + torch.ones(2)
    with pytest.raises(TypeError, match="cpu"):
        x.numpy()
    assert x.requires_grad_().detach().cpu().numpy().tolist() == [1, 1]


@pytest.mark.gpu
def test_moving_between_devices_copies():
    x = torch.ones(2, device="cuda")
    y = x.cpu()
    y[0] = 5
    assert x.tolist() == [1, 1]


# The comparison


def test_memory_of_the_distances_is_as_predicted(measured):
    n, m, d = 500, 500, 64
    predicted = (2 * n * m * d + n * m) / (n * m + n * d + m * d + n + m)
    assert (2 * n * m * d + n * m, n * m + n * d + m * d + n + m) == (32_250_000, 315_000)
    assert predicted == pytest.approx(102.4, abs=0.05)
    values = measured(chapter.experiment_distances)
    assert values["bytes"] == pytest.approx(predicted, rel=1e-12)


def test_matmul_distances_are_much_faster(measured):
    # 136 to 152 in five seeds; ten is left for another machine.
    assert (measured(chapter.experiment_distances)["time"] > 10).all()


def test_most_of_the_time_of_broadcasting_is_for_new_memory(measured):
    values = measured(chapter.experiment_distances)
    assert (values["reused"] < values["time"] / 2).all()  # about a ninth
    assert (values["reused"] > 2).all()  # about 16


def test_loops_are_slow_on_many_numbers_and_slowest_over_tensors(measured):
    values = measured(chapter.experiment_loop)
    # 124 to 148, and about 110 times that for the loop over tensors.
    assert (values["large_list"] > 20).all()
    assert (values["large_tensor"] > 20 * values["large_list"]).all()


def test_a_python_loop_wins_on_three_numbers(measured):
    values = measured(chapter.experiment_loop)
    assert (values["small_list"] < 0.7).all()  # 0.18 to 0.33
    assert (values["small_tensor"] > 2).all()  # 10


def test_loop_and_dot_agree():
    a, b = torch.rand(2, 50, dtype=torch.float64)
    for x, y in ((a, b), (a.tolist(), b.tolist())):
        assert float(chapter.dot_loop(x, y)) == pytest.approx(torch.dot(a, b).item())


def test_new_memory_is_what_costs_and_only_when_it_is_large(measured):
    values = measured(chapter.experiment_inplace)
    # 8.6 to 10.4 in eight runs; 1.5 with out=, three blocks of memory instead of two.
    assert (values["large"] > 2).all()
    assert (values["out"] < values["large"] / 2).all()
    assert (values["small"] < values["large"] / 2).all()  # 1.3 to 1.5


def test_strides_cost_unless_the_order_does_not_matter(measured):
    values = measured(chapter.experiment_stride)
    assert (values["apart"] > 4).all()  # 15 to 28
    assert (values["transposed"] < 2).all()  # 0.8 to 0.95
    assert (values["copied"] > 4).all()  # 21 to 28


# Limits


def test_matmul_distances_fail_where_predicted(measured):
    values = measured(chapter.experiment_distances)
    assert 2**-24 * 4096**2 == 1
    # Forty seeds: at c = 4096 0.925 to 0.995, at 64 at most 0.01. A guess is wrong in 0.995.
    assert (values["matmul_4096"] > 0.8).all()
    assert (values["matmul_64"] < 0.05).all()
    assert (values["matmul_0"] < 0.02).all()


def test_subtracting_first_or_centring_loses_nothing(measured):
    values = measured(chapter.experiment_distances)
    # 0 in forty seeds; another order of summation may turn a near tie.
    for method in ("broadcast", "centred"):
        for c in (0, 64, 4096):
            assert (values[f"{method}_{c}"] < 0.02).all()


def test_centring_does_not_help_two_clouds_far_apart():
    g = torch.Generator().manual_seed(0)
    cloud = torch.randn(200, 8, generator=g)
    cloud[:100] += 4096
    cloud[100:] -= 4096
    assert chapter.wrong_neighbours(chapter.centred_matmul, cloud) > 0.5
    assert chapter.wrong_neighbours(chapter.distances_broadcast, cloud) < 0.02


def test_error_grows_with_the_square_of_the_offset():
    g = torch.Generator().manual_seed(0)
    cloud = torch.randn(100, 8, generator=g)

    def error(c: float) -> float:
        x = cloud + c
        exact = chapter.distances_broadcast(x.double(), x.double())
        return ((chapter.distances_matmul(x, x) - exact).abs().mean() / exact.mean()).item()

    assert 0.2 < error(4096) < 5  # (9) says 1 up to a factor for the sums
    for c in (256, 1024):
        assert 8 < error(4 * c) / error(c) < 32  # 16


def test_cdist_switches_to_matmul_above_25_points():
    exact = "donot_use_mm_for_euclid_dist"
    for seed in range(5):
        g = torch.Generator().manual_seed(seed)
        points = torch.randn(26, 8, generator=g) + 100
        assert (torch.cdist(points[:25], points[:25]).diagonal() == 0).all()
        assert (torch.cdist(points, points).diagonal() != 0).any()
        one_side = torch.cdist(points, points[:25])  # 26 on one side are enough
        assert (one_side.diagonal() != 0).any()
        assert (torch.cdist(points, points, compute_mode=exact).diagonal() == 0).all()


def test_in_place_and_autograd_conflict():
    w = torch.ones(3, requires_grad=True)
    z = torch.exp(w)
    z.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()


# Errata


def test_e22_bridge_shares_memory():
    assert chapter.numpy_bridge() == {
        "tensor.numpy()": True,
        "from_numpy(f64)": True,
        "as_tensor(f64)": True,
        "as_tensor(f64, float32)": False,
        "tensor(f64)": False,
        "FloatTensor(f32)": True,
        "FloatTensor(f64)": False,
    }
    tensor = torch.zeros(2)
    tensor.numpy()[0] = 5
    assert tensor[0] == 5
    assert torch.from_numpy(np.zeros(2)).dtype == torch.float64


def test_e22_numpy_needs_cpu_and_no_grad():
    x = torch.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"Use tensor.detach\(\).numpy\(\) instead"):
        x.numpy()
    with pytest.raises(TypeError, match=r"Use Tensor.cpu\(\) to copy"):
        torch.ones(2, device="meta").numpy()
    assert x.detach().cpu().numpy().tolist() == [1, 1]


def test_e22_legacy_constructors():
    assert torch.LongTensor([1.7, -1.7]).tolist() == [1, -1]
    assert torch.LongTensor([1]).dtype == torch.int64
    assert torch.LongTensor([1]).dtype != torch.int32  # what "int" is elsewhere
    assert torch.FloatTensor(3).shape == (3,) and torch.FloatTensor([3]).tolist() == [3]
    integers = np.array([1, 2])
    torch.LongTensor(integers)[0] = 9
    assert integers.tolist() == [9, 2]
    assert torch.tensor([1.7], dtype=torch.float32).dtype == torch.float32


def test_e28_broadcasting_is_about_shapes_not_types():
    x, y = torch.ones(2, 1, dtype=torch.int64), torch.ones(3, dtype=torch.float32)
    a, b = torch.broadcast_tensors(x, y)
    assert a.shape == b.shape == (2, 3)
    assert a.dtype != b.dtype  # the shapes were matched, the types were not
    assert (x + y).dtype == torch.float32


def test_e28_conditions_of_the_operations():
    a, i = torch.ones(2, 3), torch.arange(3)
    with pytest.raises(NotImplementedError, match="could not infer output dtype"):
        i.mean()
    with pytest.raises(RuntimeError, match="1D tensors expected"):
        torch.dot(a, a)
    with pytest.raises(RuntimeError, match="same dtype"):
        torch.dot(a[0], i)
    with pytest.raises(RuntimeError, match="mat2 must be a matrix"):
        torch.mm(a, a[0])
    with pytest.raises(RuntimeError, match="vector"):
        torch.mv(a, a)
    with pytest.raises(RuntimeError, match="Sizes of tensors must match"):
        torch.cat([a, a[:1]], dim=1)
    with pytest.raises(RuntimeError, match="same number of dimensions"):
        torch.cat([a, a[0]])
    with pytest.raises(ValueError, match="step must be greater than zero"):
        a[::-1]
    assert i.float().mean() == 1
    assert a.flip(0).shape == a.shape


def test_e28_names_comments_and_operators():
    a = torch.ones(2, 3)
    assert a.sum(1, keepdim=True).shape == a.sum(1, keepdims=True).shape == (2, 1)
    with pytest.raises(NameError, match="求和"):  # a name like any other: a floor division
        exec("X.sum(0) // 求和", {"X": a})
    with pytest.raises(SyntaxError, match="invalid character"):
        compile("X.sum(0) // 求和，少一个轴", "notes", "exec")
    i = torch.tensor([1, 3])
    assert (i / 2).tolist() == [0.5, 1.5] and (i // 2).tolist() == [0, 1]
    assert (i == 1).dtype == torch.bool


def test_e29_slice_assignment_allocates_a_temporary():
    x, y, z = torch.zeros(1000), torch.ones(1000), torch.zeros(1000)
    names = {"torch": torch, "x": x, "y": y, "z": z}

    def log(line):
        return allocations(lambda: exec(line, names))

    assert log("x + y") == [("add", 4000)]
    before = x.data_ptr()
    assert log("x[:] = x + y") == [("add", 4000), ("copy_", 0)]
    assert x.data_ptr() == before  # the half of the notes that is right
    assert log("x += y") == log("x.add_(y)") == [("add_", 0)]
    assert log("torch.add(x, y, out=z)") == [("add", 0)]
    names["x"] = x
    exec("x = x + y", names)
    assert names["x"].data_ptr() != before


def test_e29_to_copies_only_when_the_type_changes():
    x = torch.zeros(3)
    assert x.to(torch.float32) is x and x.float() is x
    assert not shares_memory(x, x.to(torch.float64))


# The clinic


def test_view_reorders_nothing():
    x = torch.arange(6).view(2, 3)
    assert x.view(3, 2).shape == x.T.shape
    assert x.view(3, 2).tolist() == [[0, 1], [2, 3], [4, 5]]
    assert x.T.tolist() == [[0, 3], [1, 4], [2, 5]]
    assert x.T.reshape(6).tolist() == [0, 3, 1, 4, 2, 5]


def test_writing_into_an_expanded_tensor_is_refused():
    x = torch.zeros(3, 1).expand(3, 4)
    with pytest.raises(RuntimeError, match="refers to a single memory location"):
        x += 1
    assert (x + 1).sum() == x.clone().add_(1).sum() == 12


def test_repeated_indices_are_added_once():
    labels = torch.tensor([0, 0, 0, 1])
    counts = torch.zeros(3)
    counts[labels] += 1
    assert counts.tolist() == [1, 1, 0]
    assert torch.zeros(3).index_add_(0, labels, torch.ones(4)).tolist() == [3, 1, 0]
    assert torch.bincount(labels, minlength=3).tolist() == [3, 1, 0]


def test_integers_truncate_silently_and_bytes_wrap():
    x = torch.tensor([1, 2, 3])
    x[0] = 9.9
    assert x.tolist() == [9, 2, 3]
    with pytest.raises(RuntimeError, match="can't be cast to the desired output type Long"):
        x += 0.5
    night, day = torch.tensor([10, 200], dtype=torch.uint8)
    assert (night - day).item() == 256 - 190 == 66
    assert (night.float() - day.float()).item() == -190


def test_saving_a_row_saves_the_whole_storage():
    def size(tensor: torch.Tensor) -> int:
        buffer = io.BytesIO()
        torch.save(tensor, buffer)
        return len(buffer.getvalue())

    weights = torch.zeros(1000, 1000)
    assert size(weights[0]) >= 4_000_000
    assert 4000 <= size(weights[0].clone()) < 10_000  # about 1.5 KB of headers
    assert weights[0].untyped_storage().nbytes() == 4_000_000


def test_numpy_arrays_read_backwards_must_be_copied():
    backwards = np.arange(4)[::-1]
    with pytest.raises(ValueError, match="negative"):
        torch.from_numpy(backwards)
    assert torch.from_numpy(backwards.copy()).tolist() == [3, 2, 1, 0]


# The exercises


def test_one_hot_by_broadcasting():
    y = torch.tensor([2, 0, 2])
    one_hot = (y[:, None] == torch.arange(3)).int()
    assert torch.equal(one_hot, torch.nn.functional.one_hot(y, 3).int())
    assert one_hot.sum(0).tolist() == torch.bincount(y, minlength=3).tolist()


def test_own_tensor_reads_backwards():
    back = strided(4)[(slice(None, None, -1),)]
    assert (back.offset, back.stride, to_list(back)) == (3, (-1,), [3, 2, 1, 0])
    assert to_list(strided(3, 4)[::-1, ::2]) == matrix().flip(0)[:, ::2].tolist()


def test_windows_share_memory():
    x = torch.arange(5.0)
    windows = x.unfold(0, 3, 1)
    assert windows.stride() == (1, 1) and shares_memory(x, windows)
    assert to_list(Strided(x.tolist(), (3, 3), (1, 1))) == windows.tolist()


def test_blocks_need_less_memory_and_lose_nothing():
    assert 2000**2 * 64 * 4 == 1_024_000_000 and 50 * 2000 * 64 * 4 == 25_600_000
    x = torch.randn(120, 8, generator=torch.Generator().manual_seed(0))
    blocks = [chapter.distances_broadcast(rows, x) for rows in x.split(50)]
    assert torch.equal(torch.cat(blocks), chapter.distances_broadcast(x, x))
    whole = max(size for _, size in allocations(lambda: chapter.distances_broadcast(x, x)))
    part = max(size for _, size in allocations(lambda: chapter.distances_broadcast(x[:50], x)))
    assert whole * 50 == part * 120
