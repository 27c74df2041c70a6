import copy
import json
import math
import os
import shutil
import statistics
import threading
from datetime import date

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from publishing import ROOT
from snippets.scaling import accelerator as chapter
from snippets.scaling.accelerator import (
    LossScaler,
    OpLog,
    Queue,
    ToyDevice,
    break_even,
    count_graphs,
    gelu,
    linear_intensity,
    loss_of,
    make_mlp,
    op_seconds,
    pipeline,
    prefetch,
    round_mantissa,
    seconds,
    speedups,
)

CPU = torch.device("cpu")
PAGE = ROOT / "docs" / "zh" / "scaling" / "accelerator.md"

without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def one_thread():
    """Small work on all cores of a busy machine costs many times its CPU time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def forget_compiled():
    yield
    torch.compiler.reset()


# The queue: an asynchronous device without a GPU


def test_launch_returns_before_the_work_is_done():
    device, gate = Queue(), threading.Event()
    first, second = device.launch(gate.wait, 60), device.launch(lambda: 7)
    assert not first.done() and not second.done()  # the second waits for its turn
    gate.set()
    device.synchronize()
    assert first.done() and second.result() == 7


def test_work_is_done_in_order():
    device, seen = Queue(), []
    for i in range(50):
        device.launch(seen.append, i)
    device.synchronize()
    assert seen == list(range(50))


def test_an_error_shows_where_the_host_waits():
    device = Queue()
    device.launch(lambda: torch.zeros(3)[5])
    after = device.launch(threading.Event().wait, 0.05)  # still at work when the first failed
    with pytest.raises(IndexError, match="index 5 is out of bounds"):
        device.synchronize()
    assert after.done()
    device.synchronize()  # and only once


def test_the_naive_reading_is_taken_while_work_is_pending():
    gate, states = threading.Event(), []

    class Watched(Queue):
        def synchronize(self):
            states.extend(job.done() for job in self.pending)
            gate.set()
            super().synchronize()

    naive, true = chapter.two_readings(Watched(), gate.wait, 3)
    assert states == [False, False, False]
    assert 0 < naive <= true


def test_share_is_a_share(measured):
    share = measured(chapter.experiment_queue)["share"]
    assert len(share) >= 5 and (share > 0).all() and (share <= 1).all()


# The toy device


@pytest.mark.parametrize(("h", "c", "n"), [(10, 50, 100), (10, 5, 100), (7, 7, 13), (3, 11, 1)])
def test_equations_1_and_2(h, c, n):
    toy, each = ToyDevice(h), ToyDevice(h)
    for _ in range(n):
        toy.launch(c)
        each.launch(c)
        each.synchronize()
    assert toy.host == n * h
    toy.synchronize()
    assert toy.host == n * max(h, c) + min(h, c)
    assert each.host == n * (h + c)
    assert each.host <= 2 * toy.host


def test_the_numbers_of_the_guess():
    toy = ToyDevice(10)
    for _ in range(100):
        toy.launch(50)
    naive = toy.host
    toy.synchronize()
    assert (naive, toy.host, 100 * (10 + 50)) == (1000, 5010, 6000)


def test_a_full_queue_makes_the_host_wait():
    toy = ToyDevice(1, capacity=2)
    for _ in range(10):
        toy.launch(100)
    # The tenth launch waits for the eighth kernel to end, at 1 + 800.
    assert toy.host == 802


def test_kernels_do_not_overlap_and_never_start_before_their_launch():
    toy = ToyDevice(4)
    launched = []
    for cost in (1, 9, 2, 30, 1, 1):
        toy.launch(cost)
        launched.append(toy.host)
    starts, ends = zip(*toy.kernels, strict=True)
    assert all(s >= e for s, e in zip(starts[1:], ends, strict=False))
    assert all(s >= t for s, t in zip(starts, launched, strict=True))


# The roofline


def test_time_is_launch_plus_the_slower_part():
    assert op_seconds(100, 10, peak=10, bandwidth=10, launch=1) == 11
    assert op_seconds(10, 100, peak=10, bandwidth=10, launch=1) == 11


@pytest.mark.parametrize(("B", "d", "q"), [(1, 64, 32), (32, 1024, 1024), (7, 5, 3)])
def test_intensity_of_a_linear_layer_against_the_counters(B, d, q):
    layer, x = nn.Linear(d, q, bias=False), torch.randn(B, d)
    with FlopCounterMode(display=False) as flops, OpLog() as log:
        layer(x)
    assert log.names == ["mm"]
    assert flops.get_total_flops() / log.nbytes == pytest.approx(linear_intensity(B, d, q))
    half = linear_intensity(B, d, q, itemsize=2)
    assert half == pytest.approx(2 * linear_intensity(B, d, q))


def test_numbers_of_the_roofline_section():
    assert linear_intensity(1, 1024, 1024) < 0.5
    assert linear_intensity(1024, 1024, 1024) == pytest.approx(1024 / 6)
    assert f"{1024 / 6:.1f}" == "170.7"
    ridge = {k: p / chapter.A100_BANDWIDTH for k, p in chapter.A100.items()}
    assert (f"{ridge['float32']:.1f}", f"{ridge['bfloat16']:.1f}") == ("12.5", "200.6")
    x = torch.ones(1000)
    with OpLog() as log:
        torch.add(x, x)
    assert log.names == ["add"] and log.nbytes == 12 * 1000
    # The sizes at which work takes the assumed 5 microseconds.
    elements, order = 5e-6 * chapter.A100_BANDWIDTH / 12, (5e-6 * 19.5e12 / 2) ** (1 / 3)
    assert elements == pytest.approx(650_000, rel=0.01)
    assert order == pytest.approx(365, abs=1)


def test_gelu_is_gelu_and_moves_nine_times_the_least():
    x = torch.randn(10_000, generator=generator())
    with OpLog() as log:
        y = gelu(x)
    assert torch.allclose(y, F.gelu(x, approximate="tanh"), atol=1e-6)
    assert len(log.names) == 8
    assert log.nbytes == 18 * x.nbytes


def test_op_log_counts_no_views():
    x = torch.randn(4, 6)
    with OpLog() as log:
        x.t().contiguous()
    assert log.names == ["clone"] and log.nbytes == 2 * x.nbytes
    with OpLog() as log:
        x.view(2, 12)[0].unsqueeze(1)
    assert log.names == [] and log.nbytes == 0


# Transfer and overlap


def test_break_even_of_a_transfer():
    P_c, P_g, bus = 1e11, 1.95e13, 2.5e10
    n = 6 / (bus * (1 / P_c - 1 / P_g))
    assert n == pytest.approx(24.1, abs=0.05)
    for m, pays in ((24, False), (25, True)):
        stay, go = 2 * m**3 / P_c, 2 * m**3 / P_g + 12 * m**2 / bus
        assert (go < stay) == pays


@pytest.mark.parametrize(("N", "L", "C"), [(100, 3, 4), (10, 5, 2), (1, 3, 4), (7, 4, 4)])
def test_equation_7(N, L, C):
    assert pipeline(N, L, C, 0)[1][-1] == N * (L + C)
    for ahead in (1, 2, 5):
        assert pipeline(N, L, C, ahead)[1][-1] == L + (N - 1) * max(L, C) + C


def test_pipeline_respects_what_it_models():
    copied, done = pipeline(20, 3, 4, 1)
    assert all(b - 4 >= a for a, b in zip(copied, done, strict=True))  # no use before the copy
    starts = [c - 3 for c in copied]
    assert all(s >= d for s, d in zip(starts[2:], done, strict=False))  # two buffers


def test_faster_compute_cannot_beat_the_loader():
    L, C = 3.0, 4.0
    for k in (1, 10, 1000):
        assert (L + C) / (L + C / k) < 1 + C / L
    assert (L + C) / (L + C / 1e6) > 0.999 * (1 + C / L)
    slow, fast = (pipeline(100, 5, cost, 1)[1][-1] for cost in (4, 0))
    assert slow - fast == 4  # overlapped: only the last batch's computing is saved


def test_prefetch_gives_the_same_batches():
    rows = [(torch.randn(3, 2), torch.tensor([i])) for i in range(5)]
    got = list(prefetch(iter(rows), CPU))
    assert len(got) == 5
    for a, b in zip(rows, got, strict=True):
        assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])
    assert list(prefetch([], CPU)) == []


def test_to_device_is_free_when_already_there():
    x = torch.ones(2)
    assert x.to(chapter.pick_device()).to(chapter.pick_device()).device == chapter.pick_device()
    assert x.to(CPU) is x
    with OpLog() as log:
        x.to(CPU)
    assert log.names == []


# Formats


def test_table_of_formats():
    info = {name: torch.finfo(getattr(torch, name)) for name in ("float32", "float16", "bfloat16")}
    for name, mantissa in (("float32", 23), ("float16", 10), ("bfloat16", 7)):
        assert info[name].eps == 2.0**-mantissa
    assert info["float16"].max == 65504
    assert f"{info['float16'].smallest_normal:.1e}" == "6.1e-05"
    assert f"{info['bfloat16'].max:.1e}" == f"{info['float32'].max:.1e}" == "3.4e+38"
    assert f"{info['bfloat16'].smallest_normal:.1e}" == "1.2e-38"


def test_rounding_to_seven_bits_is_bfloat16():
    g = generator()
    x = torch.randn(100_000, generator=g) * 10 ** torch.empty(100_000).uniform_(-6, 6, generator=g)
    ties = torch.tensor([256.0, 257.0, 258.0, 259.0, -257.0, -259.0, 0.0, 1 + 2**-8, 1 + 3 * 2**-8])
    for values in (x, ties):
        assert torch.equal(round_mantissa(values, 7), values.bfloat16().float())
    small = x[(x.abs() > 1e-4) & (x.abs() < 6e4)]
    assert torch.equal(round_mantissa(small, 10), small.half().float())


def test_normal_numbers_lose_what_equation_8_says():
    probability = torch.distributions.Normal(0, 1).cdf
    exponents = range(-60, 6)
    e4 = sum(
        4.0**e * 2 * (probability(torch.tensor(2.0 ** (e + 1), dtype=torch.float64)) - p).item()
        for e in exponents
        for p in [probability(torch.tensor(2.0**e, dtype=torch.float64))]
    )
    assert e4 == pytest.approx(0.543, abs=1e-3)
    once = math.sqrt(e4 / 12)
    assert once == pytest.approx(0.213, abs=5e-4)
    assert math.sqrt(2) * once == pytest.approx(0.30, abs=2e-3)
    assert math.sqrt(3) * once == pytest.approx(0.37, abs=2e-3)


def test_products_are_as_wrong_as_predicted(measured):
    values = measured(chapter.experiment_rounding)
    # 90000 entries, correlated through the rows: seeds differ by less than 2 %.
    assert values["tf32_unit"] == pytest.approx(0.301, rel=0.02)
    assert values["bf16_unit"] == pytest.approx(0.301, rel=0.02)
    assert values["bf16_result_unit"] == pytest.approx(0.368, rel=0.02)


def test_updates_below_half_a_step_are_lost():
    w = torch.rand(10_000, generator=generator()) + 0.5
    w = w.bfloat16()
    for share, lost in ((1 / 513, 1.0), (1 / 255, 0.0)):
        moved = (w.float() * (1 + share)).bfloat16() != w
        assert 1 - moved.float().mean().item() == lost


def test_overflow_and_underflow_are_silent():
    assert torch.tensor(70000.0).half().isinf()
    assert torch.tensor(2.0**-25).half() == 0 and torch.tensor(2.0**-24).half() > 0
    assert torch.tensor(2.0**-25 * 1.01).half() > 0
    assert torch.tensor(70000.0).bfloat16().isfinite() and torch.tensor(1e-8).bfloat16() > 0


def test_counting_in_bfloat16_stops():
    total = torch.zeros((), dtype=torch.bfloat16)
    for _ in range(300):
        total += 1
    assert total.item() == 256
    assert torch.ones(1000, dtype=torch.bfloat16).sum().item() == 1000


# The code


def test_s1_17_device_idiom(monkeypatch):
    device = chapter.pick_device()
    assert torch.ones(2, device=device).sum().item() == 2
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert chapter.pick_device() == CPU


@without_cuda
def test_s1_18_cuda_without_a_driver():
    expected = "Found no NVIDIA driver" if torch.version.cuda else "not compiled with CUDA"
    net = nn.Linear(2, 2)
    for fn in (
        lambda: torch.ones(2).cuda(),
        lambda: torch.ones(2).to("cuda"),
        lambda: torch.ones(2, device="cuda"),
        net.cuda,
    ):
        with pytest.raises((RuntimeError, AssertionError), match=expected):
            fn()
    assert torch.ones(2).to(chapter.pick_device()).sum().item() == 2
    if torch.version.cuda and not torch.accelerator.is_available():
        assert torch.accelerator.current_accelerator().type == "cuda"


@without_cuda
def test_what_only_warns_without_cuda():
    with pytest.raises((RuntimeError, AssertionError)):
        torch.zeros(2).pin_memory()
    with pytest.warns(UserWarning, match="no accelerator is found"):
        batch = next(iter(DataLoader(torch.arange(4.0), batch_size=2, pin_memory=True)))
    assert batch.tolist() == [0, 1]
    with pytest.warns(UserWarning, match="CUDA is not available"):
        assert not torch.amp.GradScaler("cuda").is_enabled()
    with pytest.warns(UserWarning, match="CUDA is not available"), torch.autocast("cuda"):
        assert nn.Linear(2, 2)(torch.ones(1, 2)).dtype == torch.float32


def test_seconds_waits_before_and_after(monkeypatch):
    events = []
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda: events.append("wait"))
    ticks = iter([10.0, 16.0])

    def clock():
        events.append("clock")
        return next(ticks)

    got = seconds(lambda: events.append("run"), 3, torch.device("cuda"), clock)
    assert events == ["wait", "clock", "run", "run", "run", "wait", "clock"]
    assert got == 2


def test_speedups_are_ratios_measured_in_turns():
    calls = []
    ticks = iter(range(1000))
    ratios = speedups(
        lambda: calls.append("c"), lambda: calls.append("t"), 2, CPU, 5, lambda: next(ticks)
    )
    assert ratios == [1.0] * 5
    assert "".join(calls) == "ctct" + "cctt" * 5


def test_defaults_for_tf32():
    assert torch.get_float32_matmul_precision() == "highest"
    assert torch.backends.cudnn.allow_tf32


def test_autocast_chooses_types_and_leaves_the_weights():
    layer, norm, x = nn.Linear(8, 8), nn.LayerNorm(8), torch.randn(4, 8)
    with torch.autocast("cpu", torch.bfloat16):
        h = layer(x)
        assert h.dtype == h.softmax(1).dtype == norm(h).dtype == torch.bfloat16
        assert (h + x).dtype == torch.float32
        assert F.cross_entropy(h, torch.zeros(4, dtype=torch.long)).dtype == torch.float32
    h.float().sum().backward()
    assert layer.weight.dtype == layer.weight.grad.dtype == torch.float32
    assert layer(x).dtype == torch.float32  # the context has ended


def test_loss_of_is_the_cross_entropy():
    net, X, y = make_mlp((6, 5, 3), 0), torch.randn(9, 6), torch.randint(3, (9,))
    exact = F.cross_entropy(net(X), y)
    assert torch.equal(loss_of(net, X, y, None), exact)
    rough = loss_of(net, X, y, torch.bfloat16)
    assert rough.dtype == torch.float32
    assert rough.item() != exact.item() and rough.item() == pytest.approx(exact.item(), rel=0.02)


def test_bfloat16_weights_lose_updates_and_autocast_does_not(measured):
    values = measured(chapter.experiment_precision)
    assert len(values["loss_float32"]) >= 5
    # Autocast rounds inputs and activations by 2^-8: the losses agree to three digits.
    assert np.abs(values["loss_autocast"] / values["loss_float32"] - 1).max() < 2e-3
    # Of 360 test images, at most a few fall on the other side.
    assert np.abs(values["accuracy_autocast"] - values["accuracy_float32"]).max() < 0.012
    assert (values["lost_bfloat16"] > 0.9).all()
    assert (values["lost_float32"] < 0.02).all() and (values["lost_autocast"] < 0.02).all()
    assert (values["loss_bfloat16"] > values["loss_float32"] + 0.1).all()
    assert (values["accuracy_bfloat16"] < values["accuracy_float32"] - 0.05).all()


def test_a_large_rate_hides_it_and_a_small_one_shows_it():
    net, _ = chapter.fit("bfloat16", 0, epochs=2)
    lost = [chapter.lost_updates(net, lr) for lr in (1.0, 0.1, 0.01, 0.001)]
    assert lost == sorted(lost) and lost[0] < 0.5 and lost[-1] > 0.95


def test_curves_of_the_figure():
    runs = [chapter.fit(p, 0, epochs=12)[1] for p in ("float32", "autocast", "bfloat16")]
    float32, autocast, low = map(np.array, runs)
    assert np.abs(float32 - autocast).max() < 0.005
    assert (np.diff(float32) < 0).all()
    assert low[0] - low[-1] < 0.6 * (float32[0] - float32[-1])


def scaled_pair(sizes, growth_interval=3):
    """My scaler and PyTorch's, each with the same net and data, as two functions of a factor."""
    nets = [make_mlp((4, 8, 2), 0) for _ in range(2)]
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in nets]
    mine = LossScaler(growth_interval=growth_interval)
    theirs = torch.amp.GradScaler("cpu", growth_interval=growth_interval)
    X = torch.randn(8, 4, generator=generator())
    y = torch.randint(2, (8,), generator=generator())
    for size in sizes:
        taken = mine.step(loss_of(nets[0], X, y, None) * size, optimizers[0])
        optimizers[1].zero_grad()
        theirs.scale(loss_of(nets[1], X, y, None) * size).backward()
        theirs.step(optimizers[1])
        theirs.update()
        yield taken, mine.scale, theirs.get_scale(), nets


def test_loss_scaler_is_grad_scaler():
    sizes = (1, 1, 1, 1, 1e36, 1, 1e36, 1e36, *[1] * 8)
    before = None
    for taken, scale, reference, nets in scaled_pair(sizes):
        assert scale == reference
        for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
            assert torch.allclose(a, b)
        now = [p.detach().clone() for p in nets[0].parameters()]
        if before is not None:
            same = all(torch.equal(a, b) for a, b in zip(before, now, strict=True))
            assert same == (not taken)
        before = now


def test_one_overflow_is_enough_to_skip_the_step():
    w = torch.ones(2, requires_grad=True), torch.ones(1, requires_grad=True)
    scaler, optimizer = LossScaler(), torch.optim.SGD(w, lr=0.1)
    assert not scaler.step((w[0] * torch.tensor([1e36, 1.0])).sum() + w[1].sum(), optimizer)
    assert all((p == 1).all() for p in w) and scaler.scale == 2.0**15


def test_scaling_changes_nothing_where_nothing_overflows():
    net, X, y = make_mlp((4, 8, 2), 0), torch.randn(8, 4), torch.randint(2, (8,))
    plain, scaled = copy.deepcopy(net), copy.deepcopy(net)
    for each in (plain, scaled):
        optimizer = torch.optim.SGD(each.parameters(), lr=0.1)
        if each is plain:
            loss_of(each, X, y, None).backward()
            optimizer.step()
        else:
            assert LossScaler().step(loss_of(each, X, y, None), optimizer)
    # A power of two changes no digit.
    for a, b in zip(plain.parameters(), scaled.parameters(), strict=True):
        assert torch.equal(a, b)


def test_float16_flushes_the_gradients_of_a_deep_net(measured):
    values = measured(chapter.experiment_flushed)
    assert (values["plain_1"] > 0.99).all()
    assert (values["plain_2"] > 0.02).all() and (values["plain_7"] == 0).all()
    for layer in range(1, 8):
        assert (values[f"scaled_{layer}"] < 0.01).all()
        assert (values[f"bf16_{layer}"] < 0.01).all()


def test_each_row_s_gradient_is_flushed_before_the_sum_over_rows():
    X, y, _, _ = chapter.load_digits()
    net, rows = make_mlp(chapter.DEEP, 0, nn.Sigmoid), []
    net[0].register_forward_hook(lambda layer, args, out: rows.append(out))
    for low in (None, torch.float16):
        loss = loss_of(net, X[:256], y[:256], low)
        (rows[-1],) = torch.autograd.grad(loss, [rows[-1]])
    exact, rough = rows
    assert (exact != 0).all() and (rough == 0).all()


def test_shallow_relu_nets_lose_little():
    net = make_mlp((64, 64, 64, 10), 0)
    assert max(chapter.flushed(net, torch.float16, 1.0)) < 0.01


def test_gradients_of_the_figure():
    X, y, _, _ = chapter.load_digits()
    net = make_mlp(chapter.DEEP, 0, nn.Sigmoid)
    (grad,) = torch.autograd.grad(loss_of(net, X[:256], y[:256], None), [net[0].weight])
    size = grad[grad != 0].abs().log2()
    # About half of the weights' gradients; float16 flushes all, because what leads to them is 0.
    assert 0.4 < (size < -25).float().mean() < 0.6
    assert chapter.flushed(net, torch.float16, 1.0)[0] > 0.99
    assert (size + 16 > -25).float().mean() > 0.99  # right of the line


def test_launches(measured):
    values = {key: v[0] for key, v in measured(chapter.experiment_launches).items()}
    assert values["loop"] > values["forward"] + values["backward"]
    assert values["fused"] < values["foreach"] < values["loop"]
    assert values["gelu"] == 8 and values["gelu_traffic"] == 9


def test_the_optimizers_agree():
    nets = []
    for options in ({"foreach": False}, {"foreach": True}, {"fused": True}):
        net = make_mlp((4, 8, 2), 0)
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01, **options)
        X, y = torch.ones(3, 4), torch.tensor([0, 1, 0])
        for _ in range(3):
            chapter.training_step(net, X, y, optimizer)()
        nets.append(net)
    for other in nets[1:]:
        for a, b in zip(nets[0].parameters(), other.parameters(), strict=True):
            assert torch.allclose(a, b, atol=1e-6)


def test_autocast_keeps_more_for_a_small_batch_and_less_for_a_large(measured):
    values = {key: v[0] for key, v in measured(chapter.experiment_memory).items()}
    copies = (256 * 256 + 256 * 10) * 2 / 1024
    assert round(copies) == 133
    assert values["ratio_16"] > 2 and values["ratio_1024"] < 0.7
    for n in (16, 1024):
        # Half the activations and the copies of the weights; the softmax stays float32.
        expected = values[f"full_{n}"] / 2 + copies
        assert values[f"low_{n}"] == pytest.approx(expected, rel=0.03)
    assert values["weights"] == pytest.approx((64 * 256 + 256 * 257 + 256 + 2560 + 10) * 4 / 1024)


# torch.compile


def plain(x):
    return torch.relu(x * 2 + 1).sum()


def reads_a_number(x):
    y = x * 2
    if y.sum().item() > 0:
        y = y + 1
    return y.relu()


def test_graph_breaks_and_recompiles():
    calls = [(torch.ones(n, 3),) for n in range(2, 7)]
    assert count_graphs(plain, calls[0]) == [1]
    assert count_graphs(reads_a_number, calls[0]) == [2]
    assert count_graphs(plain, *calls) == [1, 2, 2, 2, 2]
    assert count_graphs(plain, *calls, dynamic=False) == [1, 2, 3, 4, 5]
    torch.compiler.reset()
    found = torch._dynamo.explain(reads_a_number)(torch.ones(3, 3))
    assert (found.graph_count, found.graph_break_count) == (2, 1)


def test_recompiles_stop_at_the_limit():
    limit = torch._dynamo.config.recompile_limit
    assert limit == 8
    calls = [(torch.ones(n, 3),) for n in range(2, 2 + limit + 3)]
    assert count_graphs(plain, *calls, dynamic=False)[-3:] == [limit] * 3


def test_mode_and_no_grad_compile_again():
    net, x = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)), torch.ones(1, 2)

    def forward(x, training):
        net.train(training)
        return net(x)

    assert count_graphs(forward, (x, True), (x, False))[-1] >= 2
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    compiled = torch.compile(nn.Linear(2, 2), backend=backend)
    compiled(x)
    with torch.no_grad():
        compiled(x)
    assert len(graphs) == 2


def test_fullgraph_refuses_a_break():
    def prints(x):
        print("side effect")
        return x + 1

    with pytest.raises(torch._dynamo.exc.Unsupported, match="print"):
        torch.compile(prints, backend="eager", fullgraph=True)(torch.ones(2))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_training_is_the_same_training(backend):
    nets = [make_mlp((4, 8, 2), 0) for _ in range(2)]
    X, y = torch.randn(6, 4), torch.randint(2, (6,))
    for net, forward in zip(nets, (nets[0], torch.compile(nets[1], backend=backend)), strict=True):
        F.cross_entropy(forward(X), y).backward()
        assert all(p.grad is not None for p in net.parameters())
    for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, atol=1e-6)


def test_break_even():
    assert break_even(first=10.0, eager=2.0, compiled=1.0) == 9
    for n in range(1, 30):
        compiled, eager = 10.0 + (n - 1) * 1.0, n * 2.0
        assert (compiled < eager) == (n > 9)
    assert break_even(10.0, 1.0, 1.0) == break_even(10.0, 1.0, 2.0) == math.inf


def test_no_cxx_compiler(monkeypatch):
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, "cxx", ("no-such-compiler",))
    compiled = torch.compile(lambda x: torch.relu(x + 3))  # says nothing yet
    with pytest.raises(Exception, match="No working C\\+\\+ compiler found"):
        compiled(torch.ones(3))


@pytest.mark.skipif(
    not (os.environ.get("RUN_INDUCTOR") and (shutil.which("g++") or shutil.which("clang++"))),
    reason="costs 4 to 15 s CPU and a C++ compiler; set RUN_INDUCTOR=1 to run it",
)
def test_inductor_gives_the_same_numbers():
    x = torch.randn(1000, generator=generator())
    assert torch.allclose(torch.compile(gelu)(x), gelu(x), atol=1e-6)


def test_channels_last_changes_strides_only():
    x = torch.randn(2, 3, 4, 5)
    last = x.to(memory_format=torch.channels_last)
    assert torch.equal(x, last) and last.stride() == (60, 1, 15, 3)
    conv = nn.Conv2d(3, 4, 2)
    other = copy.deepcopy(conv).to(memory_format=torch.channels_last)
    assert torch.allclose(conv(x), other(last), atol=1e-6)
    assert other(last).is_contiguous(memory_format=torch.channels_last)
    with pytest.raises(RuntimeError, match=r"Use .reshape\(...\) instead"):
        last.view(2, -1)
    assert torch.equal(last.flatten(1), x.flatten(1))


def threads_of_worker(batch):
    return torch.get_num_threads()


def test_a_loader_s_worker_has_one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert list(DataLoader(range(1), num_workers=1, collate_fn=threads_of_worker)) == [1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


# The clinic


def test_a_plain_attribute_stays_behind():
    class Scale(nn.Module):
        def __init__(self, as_buffer):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))
            if as_buffer:
                self.register_buffer("mean", torch.zeros(3))
            else:
                self.mean = torch.zeros(3)

        def forward(self, x):
            return (x - self.mean) * self.weight

    x = torch.ones(2, 3, device="meta")
    with pytest.raises(RuntimeError, match="device cpu is not on the expected device meta"):
        Scale(False).to("meta")(x)
    assert Scale(True).to("meta")(x).shape == (2, 3)


def test_an_optimizer_built_before_the_move_holds_other_tensors():
    net = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net.to("meta")
    assert optimizer.param_groups[0]["params"][0] is not net.weight


def test_dtype_messages():
    half = torch.eye(2, dtype=torch.float16)
    with pytest.raises(TypeError, match="Got unsupported ScalarType BFloat16"):
        torch.ones(2, dtype=torch.bfloat16).numpy()
    assert torch.ones(2, dtype=torch.bfloat16).float().numpy().sum() == 2
    with pytest.raises(RuntimeError, match="must have the same dtype, but got Half and Float"):
        nn.Linear(2, 2)(half)
    with pytest.raises(NotImplementedError, match="not implemented for 'Half'"):
        torch.linalg.svd(half)


@pytest.mark.parametrize("unscale", [False, True])
def test_clipping_scaled_gradients(unscale):
    net = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    before = net.weight.detach().clone()
    plain = torch.autograd.grad(net(torch.ones(4, 2)).square().mean() * 0.1, net.weight)[0]
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(net(torch.ones(4, 2)).square().mean() * 0.1).backward()
    if unscale:
        scaler.unscale_(optimizer)
        with pytest.raises(RuntimeError, match="unscale_\\(\\) has already been called"):
            scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    scaler.step(optimizer)
    moved, wanted = (net.weight - before).norm().item(), 0.1 * plain.norm().item()
    if unscale:
        # The weights are float32: their difference is right to 2^-24 of a weight.
        assert moved == pytest.approx(wanted, abs=1e-6)
    else:
        assert moved < wanted / 50


def test_grad_scaler_refuses_half_weights():
    net = nn.Linear(2, 1).half()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(net(torch.ones(1, 2).half()).float().sum()).backward()
    with pytest.raises(ValueError, match="Attempting to unscale FP16 gradients"):
        scaler.unscale_(optimizer)


def test_state_dict_of_a_compiled_module():
    net = nn.Linear(2, 2)
    compiled = torch.compile(net, backend="eager")
    assert list(compiled.state_dict()) == ["_orig_mod.weight", "_orig_mod.bias"]
    with pytest.raises(RuntimeError, match=r"Missing key\(s\) in state_dict"):
        nn.Linear(2, 2).load_state_dict(compiled.state_dict())
    assert compiled._orig_mod.weight is net.weight
    nn.Linear(2, 2).load_state_dict(net.state_dict())
    net.compile(backend="eager")
    assert list(net.state_dict()) == ["weight", "bias"]
    assert net(torch.ones(1, 2)).shape == (1, 2)


# The exercises


def test_batch_that_reaches_the_ridge():
    for itemsize, peak, formula in (
        (4, 19.5e12, lambda d, r: 2 * d * r / (d - 4 * r)),
        (2, 312e12, lambda d, r: d * r / (d - 2 * r)),
    ):
        ridge = peak / chapter.A100_BANDWIDTH
        B = formula(4096, ridge)
        assert linear_intensity(math.floor(B), 4096, 4096, itemsize) < ridge
        assert linear_intensity(math.ceil(B), 4096, 4096, itemsize) > ridge
        assert f"{B:.1f}" in ("25.4", "222.4")


# The record


@pytest.fixture(scope="module")
def record():
    return json.loads(chapter.RECORD.read_text())


def test_the_record_says_where_it_comes_from(record):
    assert record["command"] == "python -m snippets.scaling.accelerator --record"
    for run in record["runs"].values():
        assert date.fromisoformat(run["date"]) >= date(2026, 11, 29)
        assert run["versions"].keys() == {"python", "torch"} and run["machine"] and run["clock"]
        assert run["wall_seconds"] > 0
        assert all(len(ratios) >= 5 for ratios in run["speedups"].values())
        assert len(run["sizes"]["numel"]) == len(run["sizes"]["microseconds"])
        for rows in run["compile"].values():
            assert rows.keys() == {"first", "eager", "compiled"}
            assert all(len(values) >= 5 for values in rows.values())
    assert record["runs"]["cpu"]["speedups"].keys() == chapter.cpu_cases().keys()


def test_the_page_says_whether_a_gpu_is_recorded(record):
    assert ("还没有记录" in PAGE.read_text(encoding="utf-8")) == ("cuda" not in record["runs"])


def test_what_the_page_says_of_the_recorded_cpu(record):
    run = record["runs"]["cpu"]
    for faster in ("matmul_bfloat16", "autocast_wide", "fused_adam", "one_call_for_1000"):
        assert min(run["speedups"][faster]) > 1, faster
    assert max(run["speedups"]["autocast_narrow"]) < 1
    assert max(run["speedups"]["matmul_float16"]) < 1 / 30
    assert np.abs(np.array(run["speedups"]["channels_last"]) - 1).max() < 0.1
    first, eager, fast = (
        statistics.median(run["compile"]["gelu"][k]) for k in ("first", "eager", "compiled")
    )
    assert eager / fast > 2 and 10 < break_even(first, eager, fast) < 1000
    rows = run["compile"]["narrow"]
    assert all(e < c for e, c in zip(rows["eager"], rows["compiled"], strict=True))
    times = dict(zip(run["sizes"]["numel"], run["sizes"]["microseconds"], strict=True))
    assert times[256] < 1.5 * times[1] and times[4**11] > 100 * times[1]


def test_cases_compare_equals():
    for name, (control, treatment, n) in chapter.cpu_cases().items():
        assert n >= 1
        if name == "one_call_for_1000":
            assert torch.equal(torch.cat(control()), treatment())
        elif name == "matmul_bfloat16":
            error = (treatment().float() - control()).norm() / control().norm()
            assert error < 0.01
        elif name == "channels_last":
            control(), treatment()


# On a GPU


@pytest.fixture
def cuda():
    return torch.device("cuda")


@pytest.mark.gpu
def test_gpu_launches_are_asynchronous(cuda):
    torch.cuda.synchronize()
    done = torch.cuda.Event()
    torch.cuda._sleep(1_000_000_000)  # clock cycles: about half a second
    done.record()
    assert not done.query()
    torch.cuda.synchronize()
    assert done.query()


@pytest.mark.gpu
def test_gpu_events_and_the_host_agree(cuda):
    def work():
        torch.cuda._sleep(50_000_000)

    work()
    by_event = chapter.cuda_milliseconds(work, 5)
    by_host = 1000 * seconds(work, 5, cuda)
    assert by_event == pytest.approx(by_host, rel=0.2)


@pytest.mark.gpu
def test_gpu_copies_from_pinned_memory_do_not_wait(cuda):
    x = torch.randn(1 << 20)
    pinned = x.pin_memory()
    assert pinned.is_pinned() and not x.is_pinned()
    torch.cuda.synchronize()
    torch.cuda._sleep(1_000_000_000)
    y = pinned.to(cuda, non_blocking=True)
    done = torch.cuda.Event()
    done.record()
    assert not done.query()
    torch.cuda.synchronize()
    assert torch.equal(y.cpu(), x)


@pytest.mark.gpu
@pytest.mark.parametrize("pin", [False, True])
def test_gpu_prefetch_gives_the_same_batches(cuda, pin):
    rows = [(torch.randn(64, 32), torch.tensor([i])) for i in range(8)]
    loader = [tuple(t.pin_memory() for t in row) for row in rows] if pin else rows
    net = nn.Linear(32, 32).to(cuda)
    for (X, i), (X_gpu, i_gpu) in zip(rows, prefetch(loader, cuda), strict=True):
        assert X_gpu.device.type == "cuda"
        net(X_gpu)
        assert torch.equal(X_gpu.cpu(), X) and torch.equal(i_gpu.cpu(), i)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gpu_autocast(cuda, dtype):
    net = make_mlp((64, 64, 10), 0).to(cuda)
    X, y, _, _ = chapter.load_digits()
    X, y = X[:100].to(cuda), y[:100].to(cuda)
    with torch.autocast("cuda", dtype):
        h = net(X)
        assert h.dtype == dtype
        assert h.softmax(1).dtype == F.layer_norm(h, (10,)).dtype == torch.float32
    exact = loss_of(net, X, y, None)
    assert loss_of(net, X, y, dtype).item() == pytest.approx(exact.item(), rel=0.01)


@pytest.mark.gpu
def test_gpu_and_cpu_train_alike(cuda):
    X, y, _, _ = chapter.load_digits()
    losses = []
    for device in ("cpu", cuda):
        net = make_mlp((64, 64, 10), 0).to(device)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
        step = chapter.training_step(net, X[:500].to(device), y[:500].to(device), optimizer)
        for _ in range(10):
            step()
        losses.append(loss_of(net, X.to(device), y.to(device), None).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.gpu
def test_gpu_tf32_has_the_error_of_ten_bits(cuda):
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("TF32 needs compute capability 8.0")
    A, B = (torch.randn(1024, 1024, generator=generator(i)).to(cuda) for i in range(2))
    exact = A.double() @ B.double()

    def error(C):
        return ((C.double() - exact).norm() / exact.norm()).item()

    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("highest")
        assert error(A @ B) < 1e-5
        torch.set_float32_matmul_precision("high")
        # 0.30 x 2^-10 if the factors are rounded to nearest, up to twice that if cut off.
        assert 1e-4 < error(A @ B) < 1.5e-3
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.gpu
def test_gpu_graph_replays_with_new_input(cuda):
    net = make_mlp((16, 32, 32, 4), 0).to(cuda).requires_grad_(False)
    x = torch.randn(8, 16, device=cuda)
    replay = chapter.capture(net, x)
    first = replay(x)
    kept = first.clone()
    assert torch.allclose(kept, net(x), atol=1e-5)
    other = torch.randn(8, 16, device=cuda)
    second = replay(other)
    assert second is first and not torch.allclose(first, kept)  # the same memory, overwritten
    assert torch.allclose(second, net(other), atol=1e-5)


@pytest.mark.gpu
def test_gpu_channels_last(cuda):
    conv, x = nn.Conv2d(8, 8, 3).to(cuda), torch.randn(2, 8, 16, 16, device=cuda)
    other = copy.deepcopy(conv).to(memory_format=torch.channels_last)
    last = x.to(memory_format=torch.channels_last)
    # cuDNN may use TF32 for convolutions by default.
    assert torch.allclose(conv(x), other(last), atol=1e-2)


@pytest.mark.gpu
def test_gpu_tensors_do_not_mix(cuda):
    with pytest.raises(RuntimeError, match="on the same device"):
        torch.ones(2, device=cuda) + torch.ones(2)


@pytest.mark.gpu
def test_gpu_cases_run(cuda):
    for name, (control, treatment, _) in chapter.cuda_cases(cuda).items():
        control()
        treatment()
        torch.cuda.synchronize()
        assert name
