"""Accelerators: what to move, how to time it, low precision, and what compiling costs.

Everything runs on the CPU. `python -m snippets.scaling.accelerator --record` times CUDA where
there is a GPU, else the CPU, and writes that half of records/accelerator.json.
"""

# --8<-- [start:imports]
import json
import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import cache
from itertools import chain, pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from snippets.data import batches, load_digits

# --8<-- [end:imports]

RECORD = Path(__file__).parents[2] / "records" / "accelerator.json"


# --8<-- [start:queue]
class Queue:
    """A stand-in for a GPU: one thread that does, in order, what launch() hands to it.

    Like a CUDA stream, launch() returns at once; an exception shows only in synchronize().
    """

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(1)
        self.pending: list[Future] = []

    def launch(self, fn: Callable, *args: object) -> Future:
        self.pending.append(self.pool.submit(fn, *args))
        return self.pending[-1]

    def synchronize(self) -> None:
        """Wait for all that was launched, then raise the first exception among it."""
        pending, self.pending = self.pending, []
        wait(pending)
        for future in pending:
            future.result()


# --8<-- [end:queue]


# --8<-- [start:two_readings]
def two_readings(device: Queue, fn: Callable[[], object], n: int) -> tuple[float, float]:
    """Launch fn n times; read the clock without and with waiting for the device, seconds."""
    start = time.perf_counter()
    for _ in range(n):
        device.launch(fn)
    naive = time.perf_counter() - start
    device.synchronize()
    return naive, time.perf_counter() - start


# --8<-- [end:two_readings]


# --8<-- [start:toy_device]
@dataclass
class ToyDevice:
    """Clocks of a host and its asynchronous device, in microseconds; nothing is computed.

    Attributes:
        overhead: what launching one kernel costs the host.
        capacity: how many kernels may wait before the host has to.
        host: the host's clock.
        kernels: start and end of every kernel on the device.
    """

    overhead: float = 10.0
    capacity: int = 1000
    host: float = 0.0
    kernels: list[tuple[float, float]] = field(default_factory=list)

    def launch(self, cost: float) -> None:
        if len(self.kernels) >= self.capacity:
            self.host = max(self.host, self.kernels[-self.capacity][1])
        self.host += self.overhead
        start = max(self.host, self.kernels[-1][1] if self.kernels else 0.0)
        self.kernels.append((start, start + cost))

    def synchronize(self) -> None:
        if self.kernels:
            self.host = max(self.host, self.kernels[-1][1])


# --8<-- [end:toy_device]


# --8<-- [start:op_seconds]
def op_seconds(flops: float, nbytes: float, peak: float, bandwidth: float, launch: float) -> float:
    """Equation (3): launch, then the slower of computing (FLOP/s) and moving (byte/s)."""
    return launch + max(flops / peak, nbytes / bandwidth)


def linear_intensity(batch: int, fan_in: int, fan_out: int, itemsize: int = 4) -> float:
    """FLOP per byte of X (batch, fan_in) @ W.T (fan_in, fan_out), each matrix moved once."""
    flops = 2 * batch * fan_in * fan_out
    numbers = batch * fan_in + fan_in * fan_out + batch * fan_out
    return flops / (itemsize * numbers)


# --8<-- [end:op_seconds]


# --8<-- [start:op_log]
class OpLog(TorchDispatchMode):
    """Within `with`: the names of the kernels that ran and the bytes of their tensors.

    Views are no kernels. Every tensor argument counts as read once, every result as written once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.nbytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.names.append(func.overloadpacket.__name__)
            leaves = tree_leaves((args, kwargs, out))
            self.nbytes += sum(leaf.nbytes for leaf in leaves if isinstance(leaf, Tensor))
        return out


def gelu(x: Tensor) -> Tensor:
    """GELU by its tanh formula, one operation after the other; any shape."""
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


# --8<-- [end:op_log]


# --8<-- [start:pipeline]
def pipeline(n: int, copy: float, compute: float, ahead: int) -> tuple[list[float], list[float]]:
    """When n batches have been copied and computed, if copies may run `ahead` batches ahead.

    ahead = 0: one after the other on one queue. Times in any one unit.
    """
    copied, done = [], []
    for i in range(n):
        last = i - 1 - ahead  # the batch whose memory this one takes
        free = done[last] if last >= 0 else 0.0
        copied.append(max(copied[-1] if copied else 0.0, free) + copy)
        done.append(max(copied[-1], done[-1] if done else 0.0) + compute)
    return copied, done


# --8<-- [end:pipeline]


# --8<-- [start:rounding]
def round_mantissa(x: Tensor, bits: int) -> Tensor:
    """Round float32 to this many explicit mantissa bits, ties to even; any shape.

    bits: 7 is bfloat16, 10 is TF32 (and float16, but for its range); float32 has 23.
    """
    drop = 23 - bits
    i = x.view(torch.int32)
    odd = (i >> drop) & 1
    rounded = (i + (1 << (drop - 1)) - 1 + odd) >> drop << drop
    return rounded.view(torch.float32)


# --8<-- [end:rounding]


# --8<-- [start:pick_device]
def pick_device() -> torch.device:
    """The accelerator if one can be used now, else the CPU."""
    if torch.accelerator.is_available():
        return torch.accelerator.current_accelerator()
    return torch.device("cpu")


# --8<-- [end:pick_device]


# --8<-- [start:seconds]
def seconds(
    fn: Callable[[], object],
    n: int,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Seconds of one call of fn, from n calls, the device idle before and after."""
    wait_for = torch.accelerator.synchronize if device.type != "cpu" else lambda: None
    wait_for()
    start = clock()
    for _ in range(n):
        fn()
    wait_for()
    return (clock() - start) / n


def cuda_milliseconds(fn: Callable[[], object], n: int) -> float:
    """The same by the GPU's own clock: two events in the stream, milliseconds of one call."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(n):
        fn()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / n


# --8<-- [end:seconds]


# --8<-- [start:speedups]
def speedups(
    control: Callable[[], object],
    treatment: Callable[[], object],
    n: int,
    device: torch.device,
    repeats: int = 7,
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """Time of the control over time of the treatment, measured in turns; one ratio a repeat."""
    for _ in range(2):  # (1)!
        control()
        treatment()
    return [
        seconds(control, n, device, clock) / seconds(treatment, n, device, clock)
        for _ in range(repeats)
    ]


# --8<-- [end:speedups]


# --8<-- [start:prefetch]
def prefetch(
    loader: Iterable[tuple[Tensor, ...]], device: torch.device
) -> Iterator[tuple[Tensor, ...]]:
    """Yield the batches on the device; on CUDA each is copied while the last one is computed.

    The copies overlap only if the loader gives pinned tensors (`DataLoader(pin_memory=True)`).
    """
    if device.type != "cuda":
        yield from (tuple(t.to(device) for t in batch) for batch in loader)
        return
    side = torch.cuda.Stream(device)
    on_its_way = None
    for batch in chain(loader, [None]):
        arrived, on_its_way = on_its_way, None
        if arrived is not None:
            now = torch.cuda.current_stream(device)
            now.wait_stream(side)  # (1)!
            for t in arrived:
                t.record_stream(now)  # (2)!
        if batch is not None:
            with torch.cuda.stream(side):
                on_its_way = tuple(t.to(device, non_blocking=True) for t in batch)
        if arrived is not None:
            yield arrived


# --8<-- [end:prefetch]


# --8<-- [start:step]
def make_mlp(sizes: tuple[int, ...], seed: int, act: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Linear, act, Linear, ..., Linear, started as nn.Linear does; sizes: (d, ..., q)."""
    g = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        linear = nn.Linear(fan_in, fan_out)
        for parameter in linear.parameters():
            nn.init.uniform_(parameter, -(fan_in**-0.5), fan_in**-0.5, generator=g)
        layers += [linear, act()]
    return nn.Sequential(*layers[:-1])


def loss_of(net: nn.Module, X: Tensor, y: Tensor, low: torch.dtype | None) -> Tensor:
    """Cross-entropy of X (B, d), y (B,), the forward pass under autocast to `low` if given."""
    with torch.autocast(X.device.type, low or torch.bfloat16, enabled=low is not None):
        return F.cross_entropy(net(X), y)  # backward() goes outside the `with`


# --8<-- [end:step]


# --8<-- [start:fit]
def fit(precision: str, seed: int, epochs: int, lr: float = 0.01) -> tuple[nn.Module, list[float]]:
    """Train 64-64-10 on the digits by SGD, batches of 100; return the net, losses of the epochs.

    precision: "float32"; "autocast", float32 weights and a bfloat16 forward pass; "bfloat16",
    weights too.
    """
    X, y, _, _ = load_digits()
    net = make_mlp((64, 64, 10), seed)
    if precision == "bfloat16":
        net, X = net.bfloat16(), X.bfloat16()
    low = torch.bfloat16 if precision == "autocast" else None
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    g = torch.Generator().manual_seed(seed)
    losses = []
    for _ in range(epochs):
        total = 0.0
        for X_batch, y_batch in batches(X, y, 100, g):
            loss = loss_of(net, X_batch, y_batch, low)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(X_batch)
        losses.append(total / len(X))
    return net, losses


# --8<-- [end:fit]


def lost_updates(net: nn.Module, lr: float) -> float:
    """Share of the weights that one step of gradient descent on all digits leaves as they are.

    Counted among the weights whose gradient is not zero; the net is not changed.
    """
    X, y, _, _ = load_digits()
    dtype = next(net.parameters()).dtype
    grads = torch.autograd.grad(loss_of(net, X.to(dtype), y, None), list(net.parameters()))
    stuck = moved = 0
    for w, g in zip(net.parameters(), grads, strict=True):
        stuck += ((w - lr * g == w) & (g != 0)).sum().item()
        moved += (w - lr * g != w).sum().item()
    return stuck / (stuck + moved)


# --8<-- [start:loss_scaler]
class LossScaler:
    """What torch.amp.GradScaler does: scale the loss up, the gradients down, skip overflows."""

    def __init__(self, scale: float = 2.0**16, growth_interval: int = 2000):
        self.scale, self.growth_interval, self.good = scale, growth_interval, 0

    def step(self, loss: Tensor, optimizer: torch.optim.Optimizer) -> bool:
        """Backward pass and step; False if the step was skipped."""
        optimizer.zero_grad()
        (loss * self.scale).backward()
        grads = [p.grad for group in optimizer.param_groups for p in group["params"]]
        for grad in grads:
            grad /= self.scale
        if not all(grad.isfinite().all() for grad in grads):
            self.scale, self.good = self.scale / 2, 0
            return False
        optimizer.step()
        self.good += 1
        if self.good == self.growth_interval:
            self.scale, self.good = self.scale * 2, 0
        return True


# --8<-- [end:loss_scaler]


# --8<-- [start:flushed]
def flushed(net: nn.Sequential, low: torch.dtype, scale: float) -> list[float]:
    """For each weight matrix: share of its float32 gradients that are 0 under autocast to `low`.

    Of the first 256 digits, at the net's present weights, the loss times `scale`.
    """
    X, y, _, _ = load_digits()
    weights = [p for p in net.parameters() if p.dim() == 2]
    exact = torch.autograd.grad(loss_of(net, X[:256], y[:256], None), weights)
    rough = torch.autograd.grad(loss_of(net, X[:256], y[:256], low) * scale, weights)
    return [
        ((r == 0) & (e != 0)).sum().item() / (e != 0).sum().item()
        for e, r in zip(exact, rough, strict=True)
    ]


# --8<-- [end:flushed]


# --8<-- [start:compile]
def count_graphs(fn: Callable, *calls: tuple, dynamic: bool | None = None) -> list[int]:
    """Compile fn without generating code; how many graphs there are after each call."""
    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable:
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    compiled = torch.compile(fn, backend=backend, dynamic=dynamic)
    counts = []
    for args in calls:
        compiled(*args)
        counts.append(len(graphs))
    return counts


def break_even(first: float, eager: float, compiled: float) -> float:
    """Calls from which compiling has paid, equation (11); first: the call that compiles."""
    return (first - compiled) / (eager - compiled) if eager > compiled else math.inf


# --8<-- [end:compile]


# --8<-- [start:capture]
def capture(fn: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[Tensor], Tensor]:
    """Record the kernels of fn(x) in a CUDA graph; return a function that replays them.

    x: a CUDA tensor; the function takes tensors of its shape and always returns the same tensor,
    overwritten by the next call.
    """
    static_in = x.clone()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # (1)!
        for _ in range(3):
            fn(static_in)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        static_out = fn(static_in)

    def replay(new: Tensor) -> Tensor:
        static_in.copy_(new)
        graph.replay()
        return static_out

    return replay


# --8<-- [end:capture]


def ground() -> str:
    """The colour behind a figure."""
    colour = plt.rcParams["legend.facecolor"]
    return plt.rcParams["axes.facecolor"] if colour == "inherit" else colour


def boxes(ax: Axes, row: float, spans: list[tuple[float, float]], colour: str) -> None:
    """Draw what is busy when as boxes in one row."""
    for start, end in spans:
        ax.barh(row, end - start, left=start, height=0.7, color=colour, edgecolor=ground())


def figure_timeline() -> Figure:
    """Host and toy device, five kernels: run ahead and wait once, or wait after each."""
    fig, axes = plt.subplots(2, 1, figsize=(4.8, 4.4), sharex=True, layout="constrained")
    for ax, each, title in zip(axes, (False, True), ("wait once", "wait each time"), strict=True):
        toy, launches = ToyDevice(overhead=10), []
        for _ in range(5):
            launches.append((toy.host, toy.host + toy.overhead))
            toy.launch(40)
            if each:
                toy.synchronize()
        naive = launches[-1][1]
        toy.synchronize()
        boxes(ax, 1, launches, "C1")
        boxes(ax, 0, toy.kernels, "C0")
        ax.axvline(naive, color="C3", linestyle="--")
        ax.axvline(toy.host, color="C2")
        ha, shift = ("right", -3) if each else ("left", 3)
        ax.annotate(
            "last launch", (naive, 1.5), (shift, 0), textcoords="offset points", color="C3", ha=ha
        )
        ax.annotate(
            "done", (toy.host, 1.5), (-3, 0), textcoords="offset points", color="C2", ha="right"
        )
        ax.set(yticks=[0, 1], yticklabels=["device", "host"], ylim=(-0.6, 2.0), title=title)
    axes[0].set_xlim(0, 260)
    axes[1].set_xlabel("model time (µs)")
    return fig


def figure_overlap() -> Figure:
    """Four batches, copying 3 and computing 4: on one queue, and copied one batch ahead."""
    fig, axes = plt.subplots(2, 1, figsize=(4.8, 4.0), sharex=True, layout="constrained")
    titles = ("one after the other", "next batch copied meanwhile")
    for ax, ahead, title in zip(axes, (0, 1), titles, strict=True):
        copied, done = pipeline(4, 3, 4, ahead)
        boxes(ax, 1, [(end - 3, end) for end in copied], "C1")
        boxes(ax, 0, [(end - 4, end) for end in done], "C0")
        for i, (a, b) in enumerate(zip(copied, done, strict=True), 1):
            ax.text(a - 1.5, 1, str(i), ha="center", va="center", color=ground())
            ax.text(b - 2, 0, str(i), ha="center", va="center", color=ground())
        ax.axvline(done[-1], color="C2")
        ax.set(yticks=[0, 1], yticklabels=["compute", "copy"], title=title)
    axes[0].set_xlim(0, 30)
    axes[1].set_xlabel("model time")
    return fig


A100 = {  # data sheet, dense: peak FLOP/s; 1.555e12 byte/s is the 40 GB version
    "float32": 19.5e12,
    "bfloat16": 312e12,
}
A100_BANDWIDTH = 1.555e12


def figure_roofline() -> Figure:
    """Attainable speed against arithmetic intensity on an A100, by its data sheet."""
    fig, ax = plt.subplots(figsize=(4.8, 4.0), layout="constrained")
    grid = torch.logspace(-1.5, 3.5, 200)
    for (name, peak), colour in zip(A100.items(), ("C0", "C1"), strict=True):
        ax.loglog(grid, (grid * A100_BANDWIDTH).clamp(max=peak) / 1e12, colour)
        ax.text(2700, peak / 1e12 * 1.25, name, color=colour, ha="right")
    points = {
        "add": 1 / 12,
        "linear, B=1": linear_intensity(1, 1024, 1024),
        "B=32": linear_intensity(32, 1024, 1024),
        "B=1024": linear_intensity(1024, 1024, 1024),
    }
    for label, x in points.items():
        y = min(x * A100_BANDWIDTH, A100["float32"]) / 1e12
        ax.plot(x, y, "o", color="C3")
        ax.annotate(label, (x, y), (5, -13), textcoords="offset points")
    ax.set(xlabel="arithmetic intensity (FLOP/byte)", ylabel="attainable TFLOP/s", ylim=(0.04, 900))
    ax.grid(True)
    return fig


def figure_sizes() -> Figure:
    """Recorded time of one addition against its size, one line for each recorded device."""
    fig, ax = plt.subplots(layout="constrained")
    runs = json.loads(RECORD.read_text())["runs"]
    for (device, run), style in zip(sorted(runs.items()), ("C0o-", "C1s-", "C2^-"), strict=False):
        sizes = torch.tensor(run["sizes"]["numel"])
        times = torch.tensor(run["sizes"]["microseconds"])
        ax.loglog(sizes, times / times[0], style, markersize=4, label=f"x + y on {device}")
    ax.loglog(
        sizes, sizes / sizes[-1] * times[-1] / times[0], ":", color=plt.rcParams["text.color"]
    )
    ax.set(xlabel="elements", ylabel="time / time of one element", ylim=(0.5, None))
    ax.grid(True)
    ax.legend(frameon=False)
    return fig


@cache
def losses(precision: str) -> list[float]:
    """Loss of each epoch, seed 0, as experiment_precision trains."""
    return fit(precision, 0, epochs=EPOCHS)[1]


def figure_precision() -> Figure:
    """Training loss with float32, bfloat16 autocast, and bfloat16 weights."""
    fig, ax = plt.subplots(layout="constrained")
    styles = {
        "float32": ("C0-", "float32", 2),
        "autocast": ("C1--", "autocast, float32 weights", 3),
        "bfloat16": ("C3:", "bfloat16 weights", 2),
    }
    for precision, (style, label, width) in styles.items():
        curve = losses(precision)
        ax.plot(range(1, EPOCHS + 1), curve, style, label=label, linewidth=width)
    ax.set(xlabel="epoch", ylabel="training loss", ylim=(1.8, 2.35))
    ax.grid(True)
    ax.legend(frameon=False)
    return fig


def figure_gradients() -> Figure:
    """Sizes of a deep net's first gradients, and the smallest number of float16."""
    fig, ax = plt.subplots(layout="constrained")
    X, y, _, _ = load_digits()
    net = make_mlp(DEEP, 0, nn.Sigmoid)
    (grad,) = torch.autograd.grad(loss_of(net, X[:256], y[:256], None), [net[0].weight])
    size = grad[grad != 0].abs().log2()
    bins = range(-50, 5)
    share = [1 / len(size)] * len(size)
    ax.hist(size, bins, weights=share, color="C0", label="gradients")
    ax.hist(size + 16, bins, weights=share, color="C1", alpha=0.7, label="times $2^{16}$")
    ax.axvline(-25, color="C3", linestyle="--", label="below: 0 in float16")
    ax.set(xlabel=r"$\log_2\,$|gradient|, first layer", ylabel="share", xlim=(-50, 0))
    ax.set_ylim(0, 0.4)
    ax.legend(frameon=False, loc="upper left")
    return fig


EPOCHS = 30
DEEP = (64, 64, 64, 64, 64, 64, 64, 10)  # six hidden layers


def experiment_queue(seed: int) -> dict[str, float]:
    """The two readings of the clock for 30 matrix products on the stand-in for a GPU."""
    g = torch.Generator().manual_seed(seed)
    A, device = torch.randn(300, 300, generator=g), Queue()
    two_readings(device, lambda: A @ A, 2)  # starts the thread
    naive, true = two_readings(device, lambda: A @ A, 30)
    return {"share": naive / true}


def experiment_precision(seed: int) -> dict[str, float]:
    """Train with float32, with bfloat16 autocast, with bfloat16 weights; the same start."""
    _, _, X, y = load_digits()
    out = {}
    for precision in ("float32", "autocast", "bfloat16"):
        net, curve = fit(precision, seed, EPOCHS)
        out[f"lost_{precision}"] = lost_updates(net, lr=0.01)
        net.float()
        out[f"accuracy_{precision}"] = (net(X).argmax(1) == y).float().mean().item()
        out[f"loss_{precision}"] = curve[-1]
    return out


def experiment_rounding(seed: int) -> dict[str, float]:
    """Error of a product of normal matrices whose factors are rounded, in units of 2^-bits."""
    g = torch.Generator().manual_seed(seed)
    A, B = (torch.randn(300, 300, generator=g) for _ in range(2))
    exact = A.double() @ B.double()

    def error(C: Tensor) -> float:
        return ((C.double() - exact).square().mean() / exact.square().mean()).sqrt().item()

    out = {}
    for name, bits in (("tf32", 10), ("bf16", 7)):
        out[name] = error(round_mantissa(A, bits) @ round_mantissa(B, bits))
        out[f"{name}_unit"] = out[name] * 2**bits
    out["bf16_result"] = error(A.bfloat16() @ B.bfloat16())
    out["bf16_result_unit"] = out["bf16_result"] * 2**7
    return out


def experiment_flushed(seed: int) -> dict[str, float]:
    """Gradients of a net of six sigmoid layers that become 0 under autocast."""
    net = make_mlp(DEEP, seed, nn.Sigmoid)
    out = {}
    for name, low, scale in (
        ("plain", torch.float16, 1.0),
        ("scaled", torch.float16, 2.0**16),
        ("bf16", torch.bfloat16, 1.0),
    ):
        shares = flushed(net, low, scale)
        out |= {f"{name}_{layer}": share for layer, share in enumerate(shares, 1)}
    return out


def training_step(net: nn.Module, X: Tensor, y: Tensor, optimizer, low=None) -> Callable[[], None]:
    """One step of training as a function without arguments."""

    def step() -> None:
        optimizer.zero_grad()
        loss_of(net, X, y, low).backward()
        optimizer.step()

    return step


def experiment_launches(seed: int) -> dict[str, float]:
    """Kernels of one step of training 64-64-64-10 by Adam, and bytes kept for backward()."""
    X, y, _, _ = load_digits()
    out = {}
    for name, options in (
        ("loop", {"foreach": False}),
        ("foreach", {"foreach": True}),
        ("fused", {"fused": True}),
    ):
        net = make_mlp((64, 64, 64, 10), seed)
        optimizer = torch.optim.Adam(net.parameters(), **options)
        training_step(net, X[:100], y[:100], optimizer)()
        with OpLog() as log:
            optimizer.zero_grad()
            loss = loss_of(net, X[:100], y[:100], None)
        out["forward"] = len(log.names)
        with OpLog() as log:
            loss.backward()
        out["backward"] = len(log.names)
        with OpLog() as log:
            optimizer.step()
        out[name] = len(log.names)
    x = torch.randn(10_000, generator=torch.Generator().manual_seed(seed))
    with OpLog() as log:
        gelu(x)
    out["gelu"] = len(log.names)
    out["gelu_traffic"] = log.nbytes / (2 * x.nbytes)
    return out


def saved_bytes(net: nn.Module, X: Tensor, y: Tensor, low: torch.dtype | None) -> int:
    """Bytes that the forward pass keeps for backward(), parameters themselves not counted."""
    own = {p.data_ptr() for p in net.parameters()}
    kept: dict[int, int] = {}

    def pack(t: Tensor) -> Tensor:
        if t.data_ptr() not in own:
            kept[t.data_ptr()] = max(kept.get(t.data_ptr(), 0), t.nbytes)
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        loss = loss_of(net, X, y, low)
    del loss
    return sum(kept.values())


def experiment_memory(seed: int) -> dict[str, float]:
    """What autocast saves: weights, and what is kept for backward(), small and large batch."""
    net = make_mlp((64, 256, 256, 10), seed)
    X, y, _, _ = load_digits()
    out = {"weights": sum(p.nbytes for p in net.parameters()) / 1024}
    for n in (16, 1024):
        full, low = (saved_bytes(net, X[:n], y[:n], dtype) for dtype in (None, torch.bfloat16))
        out |= {f"full_{n}": full / 1024, f"low_{n}": low / 1024, f"ratio_{n}": low / full}
    return out


# The recorded times


def cpu_cases() -> dict[str, tuple[Callable, Callable, int]]:
    """Control, treatment, and calls of each for one reading; float32 and plain is the control."""
    g = torch.Generator().manual_seed(0)
    A = torch.randn(512, 512, generator=g)
    low, half = A.bfloat16(), A.half()
    out = {
        "matmul_bfloat16": (lambda: A @ A, lambda: low @ low, 10),
        "matmul_float16": (lambda: A @ A, lambda: half @ half, 1),
    }
    for name, sizes, n in (("wide", (784, 1024, 10), 256), ("narrow", (64, 32, 10), 16)):
        X, y = torch.randn(n, sizes[0], generator=g), torch.randint(10, (n,), generator=g)
        steps = []
        for dtype in (None, torch.bfloat16):
            net = make_mlp(sizes, 0)
            optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
            steps.append(training_step(net, X, y, optimizer, dtype))
        out[f"autocast_{name}"] = (*steps, 5 if n == 256 else 100)
    images = torch.randn(16, 32, 32, 32, generator=g)
    convs = []
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(32, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3))
        net, x = net.to(memory_format=layout), images.contiguous(memory_format=layout)
        convs.append(lambda net=net, x=x: net(x).sum().backward())
    out["channels_last"] = (*convs, 3)
    x = torch.randn(100_000, generator=g)
    pieces = x.split(100)
    out["one_call_for_1000"] = (lambda: [p + 1 for p in pieces], lambda: x + 1, 10)
    steps = []
    for options in ({"foreach": False}, {"fused": True}):
        net = make_mlp((64, *[32] * 20, 10), 0)
        optimizer = torch.optim.Adam(net.parameters(), **options)
        for p in net.parameters():
            p.grad = torch.ones_like(p)
        steps.append(optimizer.step)
    out["fused_adam"] = (*steps, 10)
    return out


def cuda_cases(device: torch.device) -> dict[str, tuple[Callable, Callable, int]]:
    """The same, and what only CUDA has; every control is the plain way on the same GPU."""
    g = torch.Generator().manual_seed(0)
    A = torch.randn(4096, 4096, generator=g).to(device)
    low, half = A.bfloat16(), A.half()

    def tf32() -> None:
        torch.set_float32_matmul_precision("high")
        A @ A
        torch.set_float32_matmul_precision("highest")

    out = {
        "matmul_bfloat16": (lambda: A @ A, lambda: low @ low, 10),
        "matmul_float16": (lambda: A @ A, lambda: half @ half, 10),
        "matmul_tf32": (lambda: A @ A, tf32, 10),
    }
    for name, sizes, n in (("wide", (4096, 4096, 4096, 10), 4096), ("narrow", (64, 32, 10), 16)):
        X = torch.randn(n, sizes[0], generator=g).to(device)
        y = torch.randint(10, (n,), generator=g).to(device)
        steps = []
        for dtype in (None, torch.bfloat16):
            net = make_mlp(sizes, 0).to(device)
            optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
            steps.append(training_step(net, X, y, optimizer, dtype))
        out[f"autocast_{name}"] = (*steps, 20)
    images = torch.randn(64, 64, 56, 56, generator=g).to(device)
    convs = []
    for layout in (torch.contiguous_format, torch.channels_last):
        net = nn.Sequential(nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3)).to(device)
        net = net.bfloat16().to(memory_format=layout)
        x = images.bfloat16().contiguous(memory_format=layout)
        convs.append(lambda net=net, x=x: net(x).sum().backward())
    out["channels_last"] = (*convs, 10)
    x = torch.randn(100_000, generator=g).to(device)
    pieces = x.split(100)
    out["one_call_for_1000"] = (lambda: [p + 1 for p in pieces], lambda: x + 1, 10)
    pageable = torch.randn(64, 3, 224, 224, generator=g)
    pinned = pageable.pin_memory()
    out["pinned_copy"] = (
        lambda: pageable.to(device),
        lambda: pinned.to(device, non_blocking=True),
        10,
    )
    deep = make_mlp((64, *[64] * 30, 10), 0).to(device).requires_grad_(False)
    few = torch.randn(16, 64, generator=g).to(device)
    replay = capture(deep, few)
    out["cuda_graph"] = (lambda: deep(few), lambda: replay(few), 20)
    out["no_item"] = (lambda: deep(few).sum().item(), lambda: deep(few).sum(), 20)
    return out


def addition_times(device: torch.device, clock: Callable[[], float]) -> dict[str, list[float]]:
    """Median time of x + y, float32, against the number of elements."""
    numel = [4**k for k in range(12)]
    times = []
    for n in numel:
        x, y = torch.ones(n, device=device), torch.ones(n, device=device)
        calls = max(3, min(2000, 4_000_000 // n))
        seconds(lambda x=x, y=y: x + y, calls, device, clock)
        runs = [seconds(lambda x=x, y=y: x + y, calls, device, clock) for _ in range(7)]
        times.append(round(1e6 * statistics.median(runs), 4))
    return {"numel": numel, "microseconds": times}


def compile_times(device: torch.device, clock: Callable[[], float], repeats: int = 5) -> dict:
    """Compile two functions with nothing cached: seconds of the first call and of later ones."""
    from torch._inductor.utils import fresh_cache

    large = torch.randn(1_000_000, device=device)
    net, few = make_mlp((64, 32, 10), 0).to(device), torch.randn(16, 64, device=device)
    out = {}
    for name, fn, x in (("gelu", gelu, large), ("narrow", net, few)):
        rows = {"first": [], "eager": [], "compiled": []}
        for _ in range(repeats + 1):  # the first also imports the compiler and is not kept
            torch.compiler.reset()
            with fresh_cache(), torch.no_grad():
                compiled = torch.compile(fn)
                first = seconds(lambda c=compiled, x=x: c(x), 1, device, clock)
                torch.testing.assert_close(compiled(x), fn(x))
                eager = seconds(lambda f=fn, x=x: f(x), 200, device, clock)
                fast = seconds(lambda c=compiled, x=x: c(x), 200, device, clock)
            for key, value in zip(rows, (first, eager, fast), strict=True):
                rows[key].append(value)
        out[name] = {key: values[1:] for key, values in rows.items()}
    return out


def cpu_clock() -> float:
    """CPU seconds of this process and of the children that it has waited for."""
    import resource

    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(r.ru_utime + r.ru_stime for r in used)


def record() -> dict:
    """Time CUDA, or the CPU without it; return the entry of records/accelerator.json."""
    import os
    import platform
    from datetime import date

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(1)
    started = time.perf_counter()
    cases = cuda_cases(device) if device.type == "cuda" else cpu_cases()
    clock = time.perf_counter if device.type != "cpu" else cpu_clock
    ratios = {
        name: [float(f"{r:.4g}") for r in speedups(*case, device=device, clock=clock)]
        for name, case in cases.items()
    }
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        cpu = platform.processor() or platform.machine()
    name = torch.cuda.get_device_name(device) + ", " if device.type == "cuda" else ""
    compiled = compile_times(device, clock)
    return {
        "date": date.today().isoformat(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "machine": f"{name}{cpu}, {os.cpu_count()} cores, {platform.system()}",
        "clock": "wall, synchronised" if device.type != "cpu" else "CPU seconds, one thread",
        "wall_seconds": round(time.perf_counter() - started, 1),
        "speedups": ratios,
        "sizes": addition_times(device, clock),
        "compile": {
            name: {key: [float(f"{v:.4g}") for v in values] for key, values in rows.items()}
            for name, rows in compiled.items()
        },
    }


if __name__ == "__main__":
    import sys

    if "--record" in sys.argv:
        runs = json.loads(RECORD.read_text())["runs"] if RECORD.is_file() else {}
        runs["cuda" if torch.cuda.is_available() else "cpu"] = record()
        command = "python -m snippets.scaling.accelerator --record"
        RECORD.parent.mkdir(exist_ok=True)
        text = json.dumps({"command": command, "runs": runs})
        RECORD.write_text(text.replace("], ", "],\n") + "\n")
        sys.exit()
    for experiment in (experiment_queue, experiment_launches, experiment_memory):
        print(experiment.__name__, experiment(seed=0))
    for experiment in (experiment_rounding, experiment_flushed, experiment_precision):
        print(experiment.__name__, experiment(seed=0))
    if RECORD.is_file():
        for device, run in json.loads(RECORD.read_text())["runs"].items():
            print(device, run["date"], run["machine"], run["clock"])
            for name, ratios in run["speedups"].items():
                print(f"  {name:<20} {statistics.median(ratios):.2f} x")
    figure_timeline()
    figure_precision()
    plt.show()
