"""From a table on disk to mini-batches: order, preprocessing, loaders, memory, speed."""

# --8<-- [start:imports]
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from io import StringIO
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, TensorDataset

# --8<-- [end:imports]
from snippets.data import batches, load_digits

SEEDS = range(10)


# --8<-- [start:train]
def zero_net() -> nn.Linear:
    """Softmax regression for 64 pixels and 10 classes; all scores start at zero."""
    net = nn.Linear(64, 10)
    nn.init.zeros_(net.weight)
    nn.init.zeros_(net.bias)
    return net


def train_epoch(net: nn.Module, loader: Iterable, lr: float) -> list[float]:
    """One pass of SGD over batches X (B, ...), y (B,); return the loss of each, before its step."""
    parameters, losses = list(net.parameters()), []
    for X, y in loader:
        loss = nn.functional.cross_entropy(net(X), y)
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter -= lr * gradient
        losses.append(loss.item())
    return losses


def accuracy(net: nn.Module, X: Tensor, y: Tensor) -> float:
    """Share of the samples X (N, ...) whose highest score is at y (N,)."""
    with torch.no_grad():
        return (net(X).argmax(dim=1) == y).float().mean().item()


# --8<-- [end:train]


# --8<-- [start:data_iter]
def make_linear_data(w: Tensor, b: float, n: int, noise: float, seed: int) -> tuple[Tensor, Tensor]:
    """y = X @ w + b + Gaussian noise, X standard normal. w: (d,); returns X (n, d), y (n,)."""
    g = torch.Generator().manual_seed(seed)
    X = torch.randn(n, len(w), generator=g)
    return X, X @ w + b + noise * torch.randn(n, generator=g)


def data_iter(
    batch_size: int, X: Tensor, y: Tensor, generator: torch.Generator | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield one epoch in random order: every sample once, the last batch may be smaller.

    X: (N, ...), y: (N,). Raises ValueError, at the first batch, if their lengths differ.
    """
    if len(X) != len(y):
        raise ValueError(f"{len(X)} samples but {len(y)} labels")
    order = torch.randperm(len(X), generator=generator)  # (N,)
    for index in order.split(batch_size):  # (B,)
        yield X[index], y[index]


# --8<-- [end:data_iter]


# --8<-- [start:make_loader]
def make_loader(X: Tensor, y: Tensor, batch_size: int, shuffle: bool, seed: int) -> DataLoader:
    """PyTorch's loader over tensors X (N, ...), y (N,); the seed fixes the order of all epochs."""
    generator = torch.Generator().manual_seed(seed)
    return DataLoader(TensorDataset(X, y), batch_size, shuffle=shuffle, generator=generator)


# --8<-- [end:make_loader]


# --8<-- [start:pad_collate]
def pad_collate(batch: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Merge B sequences (T_i,) and their labels: zero-padded (B, T), lengths (B,), labels (B,)."""
    sequences, labels = zip(*batch, strict=True)
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    padded = torch.zeros(len(batch), int(lengths.max()), dtype=sequences[0].dtype)
    for row, sequence in zip(padded, sequences, strict=True):
        row[: len(sequence)] = sequence
    return padded, lengths, torch.tensor(labels)


# --8<-- [end:pad_collate]


# --8<-- [start:lazy_csv]
class LazyCSV(Dataset):
    """Rows of a CSV file of numbers, read from disk one by one; the last column is the label.

    Memory holds one integer a row: the byte where it starts. The first line is the header; no
    cell may contain a line break.
    """

    def __init__(self, path: Path):
        with open(path, "rb") as file:
            lengths = [len(line) for line in file]
        self.path = path
        self.starts = np.cumsum(lengths)[:-1]  # (N,), row i starts after i + 1 lines

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        with open(self.path, "rb") as file:  # (1)!
            file.seek(self.starts[i])
            *x, y = map(float, file.readline().split(b","))
        return torch.tensor(x), torch.tensor(y)  # (d,), ()


# --8<-- [end:lazy_csv]


# --8<-- [start:rents]
def rents() -> str:
    """Six flats as CSV text: area in square metres, floor, heating, monthly rent."""
    return """area,floor,heating,rent
48,3,gas,2900
72,,electric,4100
35,1,,2300
90,12,gas,5200
60,6,electric,3600
41,,gas,2500
"""


# --8<-- [end:rents]


# --8<-- [start:load_table]
def encode(frame: pd.DataFrame, like: pd.DataFrame) -> pd.DataFrame:
    """Turn a table into numbers, with the means and the categories of `like`, the training table.

    A missing number becomes the mean; text becomes one column per category, and one for missing.
    """
    columns = pd.get_dummies(like, dummy_na=True).columns
    filled = frame.fillna(like.mean(numeric_only=True))
    numbers = pd.get_dummies(filled, dummy_na=True, dtype=float)
    return numbers.reindex(columns=columns, fill_value=0)  # (1)!


def load_table(csv: Path | StringIO, target: str) -> tuple[Tensor, Tensor]:
    """Read a CSV file, or text, into features X (N, d) and labels y (N,), both float32."""
    frame = pd.read_csv(csv)
    y = frame.pop(target)
    X = encode(frame, like=frame)
    return torch.tensor(X.to_numpy()).float(), torch.tensor(y.to_numpy()).float()


# --8<-- [end:load_table]


def epoch_order(kind: str, y: Tensor, fixed: Tensor, g: torch.Generator) -> Tensor:
    """Indices of one epoch (N,): sorted by label, shuffled once or each time, or independent."""
    if kind == "sorted":
        return y.argsort(stable=True)
    if kind == "once":
        return fixed
    if kind == "each":
        return torch.randperm(len(y), generator=g)
    return torch.randint(len(y), (len(y),), generator=g)  # "replacement"


def train_in_order(kind: str, epochs: int, seed: int) -> tuple[list[float], list[float]]:
    """Train on digits: the batch loss before each update, the accuracy after each epoch."""
    X, y, X_test, y_test = load_digits(seed)
    g = torch.Generator().manual_seed(seed)
    fixed, net = torch.randperm(len(y), generator=g), zero_net()
    losses, accuracies = [], []
    for _ in range(epochs):
        order = epoch_order(kind, y, fixed, g)
        losses += train_epoch(net, ((X[i], y[i]) for i in order.split(32)), lr=0.5)
        accuracies.append(accuracy(net, X_test, y_test))
    return losses, accuracies


class CountCalls(TorchFunctionMode):
    """Count the calls to PyTorch's functions and tensor methods inside a `with` block."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


# --8<-- [start:loaders]
class Images(Dataset):
    """Images X (N, 28, 28) of bytes, made floats when asked for, as torchvision's ToTensor does."""

    def __init__(self, X: Tensor, y: Tensor):
        self.X, self.y = X, y

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int | list[int]) -> tuple[Tensor, Tensor]:
        return self.X[i].float() / 255, self.y[i]


def sample_loader(dataset: Dataset, size: int, generator: torch.Generator) -> DataLoader:
    """The usual loader: `dataset[i]` for each index, then collate."""
    return DataLoader(dataset, size, shuffle=True, generator=generator)


def index_loader(dataset: Dataset, size: int, generator: torch.Generator) -> DataLoader:
    """The same batches by `dataset[[i, j, ...]]`, one call a batch."""
    order = BatchSampler(RandomSampler(dataset, generator=generator), size, drop_last=False)
    return DataLoader(dataset, sampler=order, batch_size=None, generator=generator)


# --8<-- [end:loaders]


def experiment_order(seed: int) -> dict[str, float]:
    """The same data, net and number of updates; only the order of the samples differs."""
    y_test = load_digits(seed)[3]
    result = {"nines": (y_test == 9).float().mean().item()}
    for kind in ("sorted", "once", "each", "replacement"):
        losses, accuracies = train_in_order(kind, 10, seed)
        result[f"{kind}_log"] = sum(losses[:45]) / 45
        result[f"{kind}_last"] = losses[44]
        result[f"{kind}_acc1"] = accuracies[0]
        result[f"{kind}_acc10"] = accuracies[-1]
    result["gap_once"] = result["each_acc10"] - result["once_acc10"]
    result["gap_replacement"] = result["each_acc10"] - result["replacement_acc10"]
    return result


def experiment_unseen(seed: int) -> dict[str, float]:
    """Draws with and without replacement: what one epoch leaves out, epochs until all are seen."""
    n, g = 1437, torch.Generator().manual_seed(seed)
    permuted = n - len(torch.randperm(n, generator=g).unique())
    draws = torch.randint(n, (30 * n,), generator=g)
    first = torch.full((n,), 30 * n).scatter_reduce(0, draws, torch.arange(30 * n), "amin")
    return {
        "replacement": (first >= n).double().mean().item(),
        "permutation": permuted / n,
        "left_after_8": (first >= 8 * n).double().sum().item(),
        "epochs_until_all": (first.max().item() + 1) / n,
    }


def cpu_seconds(run: Callable[[], object], repeats: int = 3) -> float:
    """CPU seconds of the fastest of several runs."""
    seconds = []
    for _ in range(repeats):
        started = time.process_time()
        run()
        seconds.append(time.process_time() - started)
    return min(seconds)


def bytes_images(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Random images (n, 28, 28) of bytes and labels (n,)."""
    g = torch.Generator().manual_seed(seed)
    X = torch.randint(256, (n, 28, 28), generator=g, dtype=torch.uint8)
    return X, torch.randint(10, (n,), generator=g)


def exhaust(iterable: Iterable) -> None:
    for _ in iterable:
        pass


def experiment_loading(seed: int) -> dict[str, float]:
    """One epoch of 5,000 images in batches of 256, loaded in three ways: time and calls."""
    X, y = bytes_images(5_000, seed)
    whole, images, g = X / 255, Images(X, y), torch.Generator().manual_seed(seed)
    ways = {
        "sample": lambda: exhaust(sample_loader(images, 256, g)),
        "index": lambda: exhaust(index_loader(images, 256, g)),
        "whole": lambda: exhaust(batches(whole, y, 256, g)),
    }
    seconds = {name: cpu_seconds(run) for name, run in ways.items()}
    result = {f"{name}_time": s / seconds["whole"] for name, s in seconds.items()}
    for name, run in ways.items():
        with CountCalls() as calls:
            run()
        result[f"{name}_calls"] = calls.count
    return result


def experiment_training(seed: int) -> dict[str, float]:
    """How much faster an epoch of training gets when only the loading changes, for two nets."""
    X, y = bytes_images(512, seed)
    whole, images, g = X / 255, Images(X, y), torch.Generator().manual_seed(seed)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    conv = nn.Sequential(
        nn.Unflatten(1, (1, 28)), nn.Conv2d(1, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 5), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 8 * 8, 10),
    )  # fmt: skip

    def gain(net: nn.Module, repeats: int) -> float:
        slow = cpu_seconds(lambda: train_epoch(net, sample_loader(images, 256, g), 0.01), repeats)
        fast = cpu_seconds(lambda: train_epoch(net, batches(whole, y, 256, g), 0.01), repeats)
        return slow / fast

    return {"linear": gain(linear, 3), "conv": gain(conv, 2)}


def write_csv(path: Path, n: int, d: int, seed: int) -> None:
    """Write n rows of d features and a label, six digits each, under a header."""
    values = torch.randn(n, d + 1, generator=torch.Generator().manual_seed(seed)).numpy()
    header = ",".join([f"x{j}" for j in range(d)] + ["y"])
    np.savetxt(path, values, delimiter=",", header=header, comments="", fmt="%.6f")


def held(make: Callable[[], object]) -> tuple[object, float]:
    """Return what `make` makes and the bytes of Python and NumPy memory it holds on to."""
    tracemalloc.start()
    made = make()
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return made, float(size)


def rows(table: np.ndarray) -> Iterator[np.ndarray]:
    """An iterator over a table that has been read whole."""
    yield from table


def experiment_lazy(seed: int) -> dict[str, float]:
    """Memory held and time of an epoch: a table read whole, an iterator over it, LazyCSV."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        write_csv(path, 2000, 50, seed)

        def read() -> np.ndarray:
            return np.loadtxt(path, delimiter=",", skiprows=1, dtype=np.float32)

        whole, whole_bytes = held(read)
        _, iterator_bytes = held(lambda: rows(read()))
        lazy, lazy_bytes = held(lambda: LazyCSV(path))
        table = torch.from_numpy(whole)
        eager = TensorDataset(table[:, :-1], table[:, -1])
        seconds = {
            name: cpu_seconds(lambda dataset=dataset: exhaust(DataLoader(dataset, 100)), 2)
            for name, dataset in (("eager", eager), ("lazy", lazy))
        }
    return {
        "iterator_memory": iterator_bytes / whole_bytes,
        "lazy_memory": whole_bytes / lazy_bytes,
        "lazy_time": seconds["lazy"] / seconds["eager"],
    }


def figure_order() -> Figure:
    """Batch loss and test accuracy at every update of one epoch, digits sorted or shuffled."""
    X, y, X_test, y_test = load_digits(0)
    fig, (top, bottom) = plt.subplots(2, 1, figsize=(4.8, 4.6), sharex=True, layout="constrained")
    for color, kind in (("C1", "sorted"), ("C0", "each")):
        order = epoch_order(kind, y, y, torch.Generator().manual_seed(0))
        net, losses, accuracies = zero_net(), [], []
        for i in order.split(32):
            losses += train_epoch(net, [(X[i], y[i])], lr=0.5)
            accuracies.append(accuracy(net, X_test, y_test))
        label = "sorted by label" if kind == "sorted" else "shuffled"
        updates = range(1, 46)
        top.plot(updates, losses, color=color, label=label)
        bottom.plot(updates, accuracies, color=color)
    top.set(ylabel="loss of the batch", ylim=(0, 6.9))
    top.legend(ncols=2, loc="upper center")
    bottom.set(xlabel="update", ylabel="test accuracy", ylim=(0, 1))
    return fig


def figure_unseen() -> Figure:
    """Share of 1437 samples not yet seen against draws, with and without replacement."""
    n, g = 1437, torch.Generator().manual_seed(0)
    draws = torch.randint(n, (3 * n,), generator=g)
    first = torch.full((n,), 3 * n).scatter_reduce(0, draws, torch.arange(3 * n), "amin")
    at = torch.linspace(0, 3, 13)  # epochs
    unseen = [(first >= t * n).double().mean().item() for t in at]
    t = torch.linspace(0, 3, 61)
    fig, ax = plt.subplots(layout="constrained")
    ax.plot([0, 1, 3], [1, 0, 0], color="C0", label="without replacement")
    ax.plot(t, torch.exp(-t), color="C1", label="with replacement, $e^{-t}$")
    ax.plot(at, unseen, "o", color="C1", ms=5, label="with replacement, drawn")
    ax.axvline(1, color=plt.rcParams["grid.color"], lw=1, zorder=0)
    ax.set(xlabel="draws, in epochs of $N$ = 1437", ylabel="share never seen", xticks=range(4))
    ax.legend()
    return fig


def figure_accuracy() -> Figure:
    """Test accuracy after each epoch for three orders: mean and range of three seeds."""
    fig, ax = plt.subplots(layout="constrained")
    epochs = range(1, 11)
    for color, kind, label in (
        ("C0", "each", "shuffled every epoch"),
        ("C2", "once", "shuffled once"),
        ("C1", "sorted", "sorted by label"),
    ):
        runs = torch.tensor([train_in_order(kind, 10, seed)[1] for seed in range(3)])  # (3, 10)
        ax.plot(epochs, runs.mean(dim=0), color=color, label=label)
        low, high = runs.amin(dim=0), runs.amax(dim=0)
        ax.fill_between(epochs, low, high, color=color, alpha=0.2, lw=0)
    ax.set(xlabel="epoch", ylabel="test accuracy", ylim=(0, 1), xticks=[1, 4, 7, 10])
    ax.legend(loc="center right", bbox_to_anchor=(1, 0.28))
    return fig


def box(ax: plt.Axes, x: float, y: float, width: float, text: str, color: str) -> None:
    """A rounded box with its centre at (x, y), 1.1 high."""
    ax.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - 0.55), width, 1.1, boxstyle="round,pad=0,rounding_size=0.15",
            facecolor="none", edgecolor=color, lw=1.6,
        )
    )  # fmt: skip
    ax.text(x, y, text, ha="center", va="center", linespacing=1.35)


def figure_pipeline() -> Figure:
    """Who does what in a DataLoader with two workers, from indices to a batch."""
    fig, ax = plt.subplots(figsize=(4.8, 4.8), layout="constrained")
    ax.set(xlim=(0, 10), ylim=(0, 10))
    ax.axis("off")
    box(ax, 5, 9.4, 7.6, "sampler: which samples, in what order\n6  2  7  0  5  1  3  4", "C0")
    box(ax, 5, 7.4, 7.6, "batch sampler: cut into $B$ = 2\n[6, 2]  [7, 0]  [5, 1]  [3, 4]", "C0")
    for x, name, indices in ((2.4, "worker process 0", (6, 2)), (7.6, "worker process 1", (7, 0))):
        lines = [name, f"dataset[{indices[0]}]", f"dataset[{indices[1]}]", "collate_fn"]
        ax.add_patch(
            FancyBboxPatch(
                (x - 2.2, 3.1), 4.4, 2.6, boxstyle="round,pad=0,rounding_size=0.15",
                facecolor="none", edgecolor="C1", lw=1.6,
            )
        )  # fmt: skip
        ax.text(x, 4.4, "\n".join(lines), ha="center", va="center", linespacing=1.5)
    box(ax, 5, 0.9, 7.6, "training loop: $X$ ($B$, $d$), $y$ ($B$,)\nin the sampler's order", "C2")
    arrow = {"arrowstyle": "-|>", "color": plt.rcParams["text.color"], "lw": 1.2}
    for start, end in (
        ((5, 8.8), (5, 7.95)), ((3.4, 6.85), (2.4, 5.7)), ((6.6, 6.85), (7.6, 5.7)),
        ((2.4, 3.1), (3.4, 1.45)), ((7.6, 3.1), (6.6, 1.45)),
    ):  # fmt: skip
        ax.annotate("", end, start, arrowprops=arrow)
    return fig


def draw_table(ax: plt.Axes, cells: list[list[str]], marked: list[list[str | None]]) -> None:
    """Draw rows of text under a header row; a cell's mark is the colour of its frame."""
    for i, row in enumerate(cells):
        for j, text in enumerate(row):
            weight = "bold" if i == 0 else "normal"
            ax.text(j + 0.5, i + 0.5, text, ha="center", va="center", weight=weight)
            if marked[i][j]:
                frame = plt.Rectangle((j + 0.06, i + 0.08), 0.88, 0.84, fill=False, lw=1.5)
                frame.set_edgecolor(marked[i][j])
                ax.add_patch(frame)
    ax.axhline(1, color=plt.rcParams["text.color"], lw=1)
    ax.set(xlim=(0, 5), ylim=(len(cells), 0))
    ax.axis("off")


def figure_one_hot() -> Figure:
    """The table of flats before and after `encode`, filled cells and one-hot columns framed."""
    frame = pd.read_csv(StringIO(rents())).drop(columns="rent")
    numbers = encode(frame, like=frame)
    missing = frame.isna().to_numpy()
    before = [["area", "floor", "heating"]]
    before += [["" if pd.isna(v) else str(v).removesuffix(".0") for v in r] for r in frame.values]
    after = [["area", "floor", "electric", "gas", "nan"]]
    after += [[f"{v:g}" for v in row] for row in numbers.to_numpy()]
    top_marks: list[list[str | None]] = [[None] * 3]
    top_marks += [["C1" if j == 1 and m else "C0" if j == 2 else None for j, m in enumerate(r)]
                  for r in missing]  # fmt: skip
    bottom_marks: list[list[str | None]] = [[None] * 5]
    bottom_marks += [[None, "C1" if r[1] else None, *["C0" if v else None for v in one[2:]]]
                     for r, one in zip(missing, numbers.to_numpy(), strict=True)]  # fmt: skip
    fig, (top, bottom) = plt.subplots(2, 1, figsize=(4.8, 4.9), layout="constrained")
    fig.get_layout_engine().set(hspace=0.08)
    top.set_title("as read: gaps and text", loc="left")
    bottom.set_title("after encode: $X$, shape (6, 5)", loc="left")
    draw_table(top, before, top_marks)
    draw_table(bottom, after, bottom_marks)
    return fig


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name, experiment in list(globals().items()):
        if name.startswith("experiment_"):
            print(name, {key: float(f"{value:.4g}") for key, value in experiment(0).items()})
    for name, figure in list(globals().items()):
        if name.startswith("figure_"):
            figure()
    plt.show()
