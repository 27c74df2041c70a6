"""Tensors: shape, operations, broadcasting, memory, device.

A tensor is a stretch of memory and a way to read it: dtype, shape, stride, offset.
What copies, what broadcasts and what is slow follows from that. Measured times are
always ratios within one run, on the CPU with one thread.
"""

# --8<-- [start:imports]
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# --8<-- [end:imports]


# --8<-- [start:moves]
def moves() -> Tensor:
    """Thousands of people who moved from city i to city j in a year, shape (3, 3)."""
    return torch.tensor([[80.0, 15.0, 5.0], [100.0, 850.0, 50.0], [30.0, 70.0, 400.0]])


def forecast(people: Tensor, share: Tensor, years: int) -> Tensor:
    """People in each city after some years; people: (n,), share[i, j]: from i to j, (n, n)."""
    for _ in range(years):
        people = people @ share  # (n,)
    return people


# --8<-- [end:moves]


# --8<-- [start:strided]
@dataclass(frozen=True)
class Strided:
    """A tensor over a Python list; item(i, j, ...) is equation (1)."""

    storage: list[float]
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int = 0

    def item(self, *index: int) -> float:
        steps = zip(index, self.stride, strict=True)
        return self.storage[self.offset + sum(i * s for i, s in steps)]

    def __getitem__(self, keys: tuple[int | slice, ...]) -> "Strided":
        """Equation (3): one key an axis, the same storage, nothing copied."""
        offset, kept = self.offset, []
        for key, n, s in zip(keys, self.shape, self.stride, strict=True):
            if isinstance(key, int):
                offset += range(n)[key] * s
            else:
                picked = range(n)[key]  # (1)!
                offset += picked.start * s
                kept.append((len(picked), picked.step * s))
        return Strided(self.storage, tuple(n for n, _ in kept), tuple(s for _, s in kept), offset)

    @property
    def T(self) -> "Strided":
        return Strided(self.storage, self.shape[::-1], self.stride[::-1], self.offset)


# --8<-- [end:strided]


# --8<-- [start:contiguous]
def contiguous_stride(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of row-major order, equation (2)."""
    stride = [1]
    for n in shape[:0:-1]:
        stride.append(stride[-1] * n)
    return tuple(reversed(stride[: len(shape)]))


def to_list(t: Strided) -> list | float:
    """The elements as nested lists."""
    if not t.shape:
        return t.item()
    rest = [slice(None)] * (len(t.shape) - 1)
    return [to_list(t[(i, *rest)]) for i in range(t.shape[0])]


def flattens_without_copy(shape: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    """Whether all axes merge into one with a single stride, equation (4); no empty axes."""
    axes = [(n, s) for n, s in zip(shape, stride, strict=True) if n != 1]
    return all(s == n1 * s1 for (_, s), (n1, s1) in pairwise(axes))


# --8<-- [end:contiguous]


# --8<-- [start:broadcast]
def broadcast_shape(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """Common shape of all operands, equation (5).

    Raises ValueError if two sizes of an axis differ and neither is 1.
    """
    out: list[int] = []  # from the last axis to the first
    for shape in shapes:
        for k, n in enumerate(reversed(shape)):
            if k == len(out):
                out.append(n)
            elif out[k] == 1:
                out[k] = n
            elif n not in (1, out[k]):
                raise ValueError(f"sizes {out[k]} and {n} at axis -{k + 1}")
    return tuple(reversed(out))


def expand(t: Strided, shape: tuple[int, ...]) -> Strided:
    """Read t with a larger shape: stride 0 on new axes and on axes of size 1."""
    if broadcast_shape(t.shape, shape) != shape:
        raise ValueError(f"{t.shape} does not expand to {shape}")
    new = len(shape) - len(t.shape)
    old = zip(t.shape, t.stride, shape[new:], strict=True)
    stride = [0] * new + [s if n == m else 0 for n, s, m in old]
    return Strided(t.storage, shape, tuple(stride), t.offset)


# --8<-- [end:broadcast]


# --8<-- [start:shares]
def shares_memory(a: Tensor, b: Tensor) -> bool:
    """Whether both tensors read the same storage."""
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


# --8<-- [end:shares]


# --8<-- [start:readings]
def readings(x: Tensor) -> dict[str, Tensor]:
    """What common operations make of x, a contiguous float32 tensor of shape (3, 4)."""
    names = {"torch": torch, "x": x, "rows": torch.tensor([0, 2])}
    indexing = ["x[1]", "x[:, 1:3]", "x[rows]", "x[x > 5]", "x.split(2)[0]"]
    shapes = ["x.T", "x.flip(0)", "x.view(12)", "x.reshape(12)", "x.T.reshape(12)"]
    shapes += ["x.unsqueeze(0)", "x.expand(2, 3, 4)", "x.repeat(2, 1)", "torch.cat([x])"]
    others = ["x.contiguous()", "x.T.contiguous()", "x.float()", "x.double()"]
    others += ["x.detach()", "x.clone()", "x + 0"]
    return {code: eval(code, names) for code in indexing + shapes + others}


# --8<-- [end:readings]


# --8<-- [start:numpy_bridge]
def numpy_bridge() -> dict[str, bool]:
    """Whether a write to the NumPy array is seen by the tensor on the other side."""
    f32, f64 = np.zeros(3, dtype=np.float32), np.zeros(3)
    tensor = torch.zeros(3)
    pairs = {
        "tensor.numpy()": (tensor.numpy(), tensor),
        "from_numpy(f64)": (f64, torch.from_numpy(f64)),
        "as_tensor(f64)": (f64, torch.as_tensor(f64)),
        "as_tensor(f64, float32)": (f64, torch.as_tensor(f64, dtype=torch.float32)),
        "tensor(f64)": (f64, torch.tensor(f64)),
        "FloatTensor(f32)": (f32, torch.FloatTensor(f32)),
        "FloatTensor(f64)": (f64, torch.FloatTensor(f64)),
    }
    seen = {}
    for name, (array, made) in pairs.items():
        array[0] = 7.0
        seen[name] = made[0].item() == 7.0
        array[0] = 0.0
    return seen


# --8<-- [end:numpy_bridge]


# --8<-- [start:allocations]
class AllocationLog(TorchDispatchMode):
    """Logs each operator PyTorch runs and the bytes of new memory its results need."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[tuple[str, int]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = [t for t in (*args, *kwargs.values()) if isinstance(t, Tensor)]
        out = func(*args, **kwargs)
        fresh = isinstance(out, Tensor) and not any(shares_memory(out, t) for t in given)
        size = out.untyped_storage().nbytes() if fresh else 0
        self.log.append((func.overloadpacket.__name__, size))
        return out


def allocations(fn: Callable[[], object]) -> list[tuple[str, int]]:
    """Operators that fn runs and the bytes each allocates (0 for those with several results)."""
    with AllocationLog() as mode:
        fn()
    return mode.log


# --8<-- [end:allocations]


# --8<-- [start:pick_device]
def pick_device() -> torch.device:
    """The accelerator if one can be used now, else the CPU."""
    if torch.accelerator.is_available():  # (1)!
        return torch.accelerator.current_accelerator()
    return torch.device("cpu")


# --8<-- [end:pick_device]


# --8<-- [start:distances]
def distances_broadcast(x: Tensor, y: Tensor) -> Tensor:
    """Squared distances (n, m) of x: (n, d) and y: (m, d), left side of (7)."""
    return (x[:, None] - y).square().sum(2)  # (n, m, d) -> (n, m)


def distances_matmul(x: Tensor, y: Tensor) -> Tensor:
    """The same by the right side of (7): nothing larger than (n, m), (n, d), (m, d)."""
    out = x @ y.T  # (n, m)
    out.mul_(-2).add_(x.square().sum(1, keepdim=True))  # (n, 1)
    return out.add_(y.square().sum(1))  # (m,)


# --8<-- [end:distances]


# --8<-- [start:dots]
def dot_loop(a: list[float] | Tensor, b: list[float] | Tensor) -> float | Tensor:
    """Sum of products, one Python step for each pair; a, b: (n,)."""
    total = 0.0
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


def cpu_seconds(run: Callable[[], object], calls: int = 1, repeats: int = 7) -> float:
    """CPU seconds of `calls` calls, the fastest of several repeats."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        for _ in range(calls):
            run()
        seconds.append(time.process_time() - start)
    return min(seconds)


# --8<-- [end:dots]


# --8<-- [start:wrong_neighbours]
def wrong_neighbours(distances: Callable, x: Tensor) -> float:
    """Share of the points x: (n, d) whose nearest point is not the one in float64."""
    exact = distances_broadcast(x.double(), x.double()).fill_diagonal_(torch.inf)  # (n, n)
    ours = distances(x, x).fill_diagonal_(torch.inf)
    return (exact.argmin(1) != ours.argmin(1)).double().mean().item()


def centred_matmul(x: Tensor, y: Tensor) -> Tensor:
    """distances_matmul after moving the origin to the mean of x."""
    mean = x.mean(0)  # (d,)
    return distances_matmul(x - mean, y - mean)


# --8<-- [end:wrong_neighbours]


def cells(
    ax: Axes,
    corner: tuple[float, float],
    values: list[list[object]],
    colors: list[list[str]],
    width: float = 1.0,
) -> None:
    """Draw a grid of cells, rows downwards from corner; the color "" means an empty cell."""
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            x, y = corner[0] + width * j, corner[1] - i - 1
            face = (colors[i][j], 0.4) if colors[i][j] else "none"
            edge = plt.rcParams["grid.color"]
            ax.add_patch(plt.Rectangle((x, y), width, 1, fc=face, ec=edge, lw=0.8))
            ax.text(x + width / 2, y + 0.5, str(value), ha="center", va="center_baseline")


def canvas(width: float, height: float, inches: float) -> tuple[Figure, Axes]:
    """An axes without frame whose units are squares."""
    fig, ax = plt.subplots(figsize=(4.8, inches), layout="constrained")
    ax.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    ax.axis("off")
    return fig, ax


def figure_dimensions() -> Figure:
    """A scalar, a vector, a matrix and a tensor of three axes, with their shapes."""
    fig, ax = canvas(15.2, 10.2, 3.3)
    values = torch.arange(24).view(2, 3, 4)
    blue = [["C0"] * 4] * 3
    for name, corner, numbers in (
        ("scalar ()", (0.1, 8.6), [[0]]),
        ("vector (4,)", (5.6, 8.6), [[0, 1, 2, 3]]),
        ("matrix (3, 4)", (0.1, 4.8), values[0].tolist()),
        ("3 axes (2, 3, 4)", (5.6, 4.8), values[0].tolist()),
    ):
        cells(ax, corner, numbers, blue)
        ax.text(corner[0], corner[1] + 0.4, name)
    cells(ax, (10.8, 4.8), values[1].tolist(), [["C1"] * 4] * 3)
    ax.text(7.6, 0.8, "x[0]", ha="center")
    ax.text(12.8, 0.8, "x[1]", ha="center")
    return fig


def figure_broadcast() -> Figure:
    """Which row sum divides which element: shape (3,) against shape (3, 1)."""
    fig, ax = canvas(11.6, 10.2, 4.3)
    counts = moves().int()
    sums = counts.sum(1, keepdim=True)  # (3, 1)
    by_row, by_column = [[c] * 3 for c in ("C0", "C1", "C2")], [["C0", "C1", "C2"]] * 3
    for top, title, divisors, paint, real in (
        (8.9, "shape (3,): wrong", sums.T.expand(3, 3), by_column, (5.1, 1)),
        (3.7, "shape (3, 1): correct", sums.expand(3, 3), by_row, (1.7, 3)),
    ):
        ax.text(0.1, top + 0.4, "counts (3, 3)")
        cells(ax, (0.1, top), counts.tolist(), by_row, width=1.7)
        ax.text(5.7, top - 1.5, "/", ha="center", va="center")
        ax.text(6.3, top + 0.4, title)
        cells(ax, (6.3, top), divisors.tolist(), paint, width=1.7)
        ink = plt.rcParams["text.color"]
        ax.add_patch(plt.Rectangle((6.3, top - real[1]), *real, fill=False, ec=ink, lw=2))
    return fig


def figure_slice() -> Figure:
    """The six elements of x[1:4:2, 1:-1:4] on a 5 x 12 grid of storage positions."""
    fig, ax = canvas(12.1, 6.2, 2.6)
    grid = torch.arange(60).view(5, 12)
    picked = torch.zeros(5, 12, dtype=torch.bool)
    picked[1:4:2, 1:-1:4] = True
    colors = [["C1" if p else "" for p in row] for row in picked.tolist()]
    cells(ax, (0.05, 5.1), grid.tolist(), colors)
    ax.text(0.05, 5.5, "x[1:4:2, 1:-1:4]")
    return fig


def figure_layouts() -> Figure:
    """One storage of 12 numbers and the order in which four tensors read it."""
    fig, ax = canvas(12.1, 11.4, 4.4)
    x = torch.arange(12).view(3, 4)
    views = {
        "x  (3, 4), stride (4, 1)": x,
        "x.T  (4, 3), stride (1, 4)": x.T,
        "x[::2, 1:3]  (2, 2), stride (8, 1)": x[::2, 1:3],
        "x[:, 1].expand(2, 3)  stride (0, 4)": x[:, 1].expand(2, 3),
    }
    for k, (name, view) in enumerate(views.items()):
        top = 10.3 - 2.9 * k
        ax.text(0.05, top + 0.35, name)
        order = [[] for _ in range(12)]
        for step, position in enumerate(view.flatten().tolist()):
            order[position].append(step)
        texts = [[",".join(map(str, steps)) for steps in order]]
        rows = [[""] * 12]
        for i, row in enumerate(view.tolist()):
            for position in row:
                rows[0][position] = f"C{i}" if len(order[position]) == 1 else "C0"
        cells(ax, (0.05, top), texts, rows)
    return fig


def figure_cancellation() -> Figure:
    """Wrong nearest neighbours against the distance of the cloud from the origin."""
    fig, ax = plt.subplots(layout="constrained")
    offsets = torch.logspace(0, 5, 26)
    cloud = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))  # (n, d)
    methods = {
        "matmul": (distances_matmul, "C3s-", 4),
        "matmul, centred": (centred_matmul, "C2^-", 4),
        "broadcast": (distances_broadcast, "C0o", 8),
    }
    for label, (method, style, size) in methods.items():
        wrong = [wrong_neighbours(method, cloud + c) for c in offsets]
        ax.semilogx(offsets, wrong, style, markersize=size, fillstyle="none", label=label)
    ax.axvline(4096, color=plt.rcParams["text.color"], linewidth=0.8, linestyle=":")
    ax.text(5000, 0.45, "4096")
    ax.set(xlabel="coordinate of the centre $c$", ylabel="wrong neighbours", ylim=(-0.05, 1.05))
    ax.grid(True)
    ax.legend(loc="upper left", frameon=False)
    return fig


def experiment_loop(seed: int) -> dict[str, float]:
    """A dot product by a list loop, a loop over tensors, and torch: ratios of CPU time."""
    g = torch.Generator().manual_seed(seed)
    out = {}
    for name, n, calls in (("small", 3, 500), ("large", 10_000, 1)):
        a, b = torch.rand(2, n, generator=g).unbind()  # (n,), (n,)
        lists = a.tolist(), b.tolist()
        by_list = cpu_seconds(lambda lists=lists: dot_loop(*lists), calls)
        by_torch = cpu_seconds(lambda a=a, b=b: torch.dot(a, b), 100 * calls) / 100
        by_tensor = cpu_seconds(lambda a=a, b=b: dot_loop(a, b), calls, repeats=3)
        out[f"{name}_list"] = by_list / by_torch
        out[f"{name}_tensor"] = by_tensor / by_torch
    return out


def experiment_inplace(seed: int) -> dict[str, float]:
    """Addition into new and into given memory against in place: ratios of CPU time."""
    g = torch.Generator().manual_seed(seed)
    out = {}
    for name, n, calls in (("large", 2**24, 1), ("small", 2**6, 2000)):
        x, y = torch.rand(n, generator=g), torch.rand(n, generator=g)  # (n,), (n,)
        plain = cpu_seconds(lambda x=x, y=y: x + y, calls, repeats=5)
        inplace = cpu_seconds(lambda x=x, y=y: x.add_(y), calls)
        out[name] = plain / inplace
        if name == "large":
            z = torch.zeros(n)
            given = cpu_seconds(lambda x=x, y=y, z=z: torch.add(x, y, out=z))
            out["out"] = given / inplace
    return out


def experiment_stride(seed: int) -> dict[str, float]:
    """Sums over as many numbers, far apart or side by side: ratios of CPU time."""
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(4096, 4096, generator=g)  # 64 MiB
    apart, side = x.view(-1)[::16], x.view(-1)[: 2**20]  # (2^20,), (2^20,)
    straight = cpu_seconds(x.sum)
    return {
        "apart": cpu_seconds(apart.sum) / cpu_seconds(side.sum),
        "transposed": cpu_seconds(x.T.sum) / straight,
        "copied": cpu_seconds(lambda: x.T.contiguous().sum(), repeats=3) / straight,
    }


def experiment_distances(seed: int) -> dict[str, float]:
    """Pairwise distances by broadcasting and by matmul: memory, time, wrong neighbours."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(500, 64, generator=g)  # (n, d)
    methods = {"broadcast": distances_broadcast, "matmul": distances_matmul}
    size = {
        name: sum(new for _, new in allocations(lambda f=f: f(x, x))) for name, f in methods.items()
    }
    seconds = {name: cpu_seconds(lambda f=f: f(x, x), repeats=3) for name, f in methods.items()}
    given = x[:, None] - x  # (n, n, d), memory that is there already
    reused = cpu_seconds(lambda: torch.sub(x[:, None], x, out=given).square_().sum(2), repeats=3)
    out = {
        "bytes": size["broadcast"] / size["matmul"],
        "time": seconds["broadcast"] / seconds["matmul"],
        "reused": reused / seconds["matmul"],
    }
    cloud = torch.randn(200, 8, generator=g)
    for c in (0, 64, 4096):
        for name, f in (*methods.items(), ("centred", centred_matmul)):
            out[f"{name}_{c}"] = wrong_neighbours(f, cloud + c)
    return out


if __name__ == "__main__":
    counts = moves()
    for share in (counts / counts.sum(1), counts / counts.sum(1, keepdim=True)):
        print(forecast(counts.sum(1), share, 1).sum().item())
    for name, tensor in readings(torch.arange(12.0).view(3, 4)).items():
        print(name, tensor.shape, tensor.stride())
    print(numpy_bridge())
    for experiment in (
        experiment_loop,
        experiment_inplace,
        experiment_stride,
        experiment_distances,
    ):
        print(experiment.__name__, experiment(0))
    for draw in (
        figure_dimensions,
        figure_broadcast,
        figure_slice,
        figure_layouts,
        figure_cancellation,
    ):
        draw()
    plt.show()
