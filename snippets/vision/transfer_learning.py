"""Transfer learning: features from five digits moved to the other five, beside every control.

The data are scikit-learn's bundled digits, each placed at random in a larger empty field.
The long sweep of labels and learning rates is recorded by
`python -m snippets.vision.transfer_learning --record`. Everything runs on the CPU.
"""

# --8<-- [start:imports]
import copy
import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

from snippets.data import load_digits

if TYPE_CHECKING:
    import torchvision

Pair = tuple[Tensor, Tensor]  # images or features, classes
View = Callable[[Tensor, torch.Generator], Tensor]

# --8<-- [end:imports]

RECORD = Path(__file__).parents[2] / "records" / "transfer_learning.json"


# --8<-- [start:place]
def place(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Put each 8x8 image at a random place of an empty field; (n, 1, 8, 8) -> (n, 1, s, s)."""
    n, margin = len(images), size - 8
    padded = F.pad(images, (margin,) * 4)  # (n, 1, 8 + 2m, 8 + 2m)
    corner = torch.randint(0, margin + 1, (2, n, 1), generator=generator)
    rows, columns = corner + torch.arange(size)  # (n, s) each
    return padded[torch.arange(n)[:, None, None], 0, rows[:, :, None], columns[:, None]][:, None]


# --8<-- [end:place]


# --8<-- [start:digits]
@dataclass
class Digits:
    """Old digits 0 to 4, new ones 5 to 9 (called 0 to 4), standardised as the old ones are.

    Images are (n, 1, s, s), those of `_raw` (n, 1, 8, 8); `view` places and standardises these.
    """

    old_raw: Pair
    old_test: Pair
    new_raw: Pair
    new_train: Pair
    new_val: Pair
    new_test: Pair
    view: View


# --8<-- [end:digits]


# --8<-- [start:task]
def make_digits(size: int, seed: int) -> Digits:
    """Old: 700 to train, the rest to test. New: 100, 37 and 37 of each, these at four places."""
    X, y, X_more, y_more = load_digits(seed)
    X, y = torch.cat([X, X_more]).reshape(-1, 1, 8, 8), torch.cat([y, y_more])
    g = torch.Generator().manual_seed(seed)
    old = (y < 5).nonzero().squeeze(1)
    turns = torch.stack([(y == c).nonzero().squeeze(1)[:174] for c in range(5, 10)], 1)
    train, val, test = (turn.flatten() for turn in turns.split([100, 37, 37]))
    fields = place(X[old[:700]], size, g)
    mean, std = fields.mean(), fields.std()  # (1)!

    def view(images: Tensor, g: torch.Generator) -> Tensor:
        return (place(images, size, g) - mean) / std

    def part(index: Tensor, first: int = 0) -> Pair:
        return view(X[index], g), y[index] - first

    old_raw, new_raw = (X[old[:700]], y[old[:700]]), (X[train], y[train] - 5)
    new = [part(index, 5) for index in (train, val.repeat(4), test.repeat(4))]
    return Digits(old_raw, part(old[700:]), new_raw, *new, view)


# --8<-- [end:task]


# --8<-- [start:net]
def make_net(size: int, classes: int, seed: int) -> nn.Sequential:
    """Two convolutions of stride 2, a hidden layer and a head; (n, 1, s, s) -> (n, classes)."""
    torch.manual_seed(seed)
    side = math.ceil(size / 4)

    def block(*layers: nn.Module) -> nn.Sequential:
        return nn.Sequential(*layers, nn.ReLU())

    net = nn.Sequential()
    conv1 = nn.Conv2d(1, 16, 3, stride=2, padding=1, bias=False)
    conv2 = nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False)
    hidden = nn.Linear(32 * side * side, 64, bias=False)
    net.add_module("conv1", block(conv1, nn.BatchNorm2d(16)))
    net.add_module("conv2", block(conv2, nn.BatchNorm2d(32)))
    net.add_module("hidden", block(nn.Flatten(), hidden, nn.BatchNorm1d(64)))
    net.add_module("head", nn.Linear(64, classes))
    return net


# --8<-- [end:net]


# --8<-- [start:optimizer]
def make_optimizer(net: nn.Sequential, rates: list[float]) -> torch.optim.SGD:
    """SGD with one learning rate for each child of the net; a rate of 0 freezes the child."""
    groups = {}
    for child, rate in zip(net.children(), rates, strict=True):
        child.requires_grad_(rate > 0)  # (1)!
        if rate > 0:
            groups.setdefault(rate, []).extend(child.parameters())
    return torch.optim.SGD([{"params": p, "lr": r} for r, p in groups.items()], momentum=0.9)


def set_modes(net: nn.Sequential, rates: list[float]) -> None:
    """Training mode for the children that are trained, eval() for the frozen ones."""
    for child, rate in zip(net.children(), rates, strict=True):
        child.train(rate > 0)  # (2)!


# --8<-- [end:optimizer]


# --8<-- [start:train]
def train(
    net: nn.Sequential,
    data: Pair,
    steps: int,
    rates: float | list[float],
    seed: int,
    view: View = lambda images, g: images,
    size: int = 50,
    careful: bool = True,
) -> nn.Sequential:
    """Minimise the cross-entropy; the learning rates fall to 0 along half a cosine.

    rates: one for all, or one a child. view: what the net sees of a batch. careful: frozen
    children stay in eval(); False is the common loop that says net.train() and no more.
    """
    rates = rates if isinstance(rates, list) else [rates] * len(net)
    optimizer = make_optimizer(net, rates)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    g = torch.Generator().manual_seed(seed)
    set_modes(net, rates) if careful else net.train()
    for _ in range(steps):
        batch = torch.randperm(len(data[0]), generator=g)[:size]
        optimizer.zero_grad()
        F.cross_entropy(net(view(data[0][batch], g)), data[1][batch]).backward()
        optimizer.step()
        schedule.step()
    return net


# --8<-- [end:train]


# --8<-- [start:accuracy]
@torch.no_grad()
def accuracy(net: nn.Module, data: Pair) -> float:
    """Share classified right, in eval() mode."""
    net.eval()
    return (net(data[0]).argmax(1) == data[1]).float().mean().item()


@torch.no_grad()
def features(net: nn.Sequential, images: Tensor) -> Tensor:
    """What the head sees, in eval() mode; (n, 1, s, s) -> (n, 64)."""
    net.eval()
    return net[:-1](images)


# --8<-- [end:accuracy]


# --8<-- [start:head]
def fit_head(inputs: Tensor, y: Tensor, classes: int = 5, decay: float = 1e-3) -> nn.Linear:
    """Logistic regression on frozen features (n, d), to the minimum; returns a linear layer."""
    mean, scale = inputs.mean(0), inputs.std()
    centred = (inputs - mean) / scale  # (n, d)
    head = nn.Linear(inputs.shape[1], classes)
    nn.init.zeros_(head.weight), nn.init.zeros_(head.bias)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=50, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(head(centred), y) + decay * head.weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    with torch.no_grad():
        head.weight /= scale
        head.bias -= head.weight @ mean
    return head


# --8<-- [end:head]


# --8<-- [start:transfer]
def few(data: Pair, n: int) -> Pair:
    """The first n of each of the five classes, which take turns in the data."""
    return data[0][: 5 * n], data[1][: 5 * n]


def with_new_head(net: nn.Sequential, seed: int, classes: int = 5) -> nn.Sequential:
    """Copy a net, weights included, with a fresh head."""
    torch.manual_seed(seed)
    copied = copy.deepcopy(net)
    copied.head = nn.Linear(net.head.in_features, classes)
    return copied


def with_head(net: nn.Sequential, head: nn.Linear) -> nn.Sequential:
    """Put another head on the same body; nothing is copied."""
    return nn.Sequential(*net[:-1], head)


# --8<-- [end:transfer]


# --8<-- [start:nearest]
def descend(w: Tensor, X: Tensor, y: Tensor, steps: int, lr: float) -> Tensor:
    """Gradient descent on the mean squared error of X w, from w; X: (n, d)."""
    for _ in range(steps):
        w = w - lr * X.T @ (X @ w - y) / len(y)
    return w


def nearest(start: Tensor, X: Tensor, y: Tensor) -> Tensor:
    """The solution of X w = y next to the start; X: (..., n, d), y: (..., n), start: (d,)."""
    rest = y - X @ start  # (..., n)
    return start + (torch.linalg.pinv(X) @ rest[..., None])[..., 0]


# --8<-- [end:nearest]


# --8<-- [start:gap]
def errors(similarity: float, n: int, d: int, g: torch.Generator, draws: int = 100) -> float:
    """Mean squared distance to the truth w* after fitting n samples, from a start of length 1
    whose cosine with w* is `similarity`."""
    truth, start = torch.zeros(2, d, dtype=torch.float64)
    truth[0] = 1
    start[0], start[1] = similarity, math.sqrt(1 - similarity**2)
    X = torch.randn(draws, n, d, generator=g, dtype=torch.float64)
    return (nearest(start, X, X @ truth) - truth).square().sum(1).mean().item()


# --8<-- [end:gap]


# --8<-- [start:head_gradient]
def head_gradient(inputs: Tensor, y: Tensor, head: nn.Linear) -> tuple[Tensor, Tensor]:
    """Gradient of the mean cross-entropy by formula: for the head's weight, for its inputs."""
    error = head(inputs).softmax(1)  # (n, q)
    error[torch.arange(len(y)), y] -= 1  # p - y
    error = error / len(y)
    return error.T @ inputs, error @ head.weight  # (q, d), (n, d)


# --8<-- [end:head_gradient]


# --8<-- [start:chosen]
def chosen(results: dict, arm: str, n: int) -> tuple[float, Tensor]:
    """The setting with the best mean validation accuracy, and its test accuracies, (seeds,).

    results: "arm/n" -> setting -> "val" or "test" -> one accuracy for each seed.
    """
    settings = results[f"{arm}/{n}"]
    best = max(settings, key=lambda setting: sum(settings[setting]["val"]))
    return float(best), torch.tensor(settings[best]["test"])


# --8<-- [end:chosen]


# --8<-- [start:layers]
def with_layers(source: nn.Sequential, k: int, size: int, seed: int) -> nn.Sequential:
    """A fresh net whose first k children are copies of the source's."""
    net = make_net(size, 5, seed)
    for i in range(k):
        net[i].load_state_dict(source[i].state_dict())
    return net


# --8<-- [end:layers]


# --8<-- [start:drift]
def drift(source: nn.Sequential, data: Pair, old: Pair, steps: int) -> tuple[list[float], Tensor]:
    """Run batches through a net whose parameters are all frozen, in train() mode.

    Returns the accuracy on the old digits before and after every batch, (steps + 1), and the
    first running mean of conv1 along the way, (steps + 1, 16).
    """
    net = copy.deepcopy(source).requires_grad_(False)
    scores, means = [accuracy(net, old)], [net.conv1[1].running_mean.clone()]
    for _ in range(steps):
        net.train()
        net(data[0])
        scores.append(accuracy(net, old))
        means.append(net.conv1[1].running_mean.clone())
    return scores, torch.stack(means)


# --8<-- [end:drift]


# --8<-- [start:weights]
class WeightsError(FileNotFoundError):
    """Pretrained weights are not on this machine, or damaged; the message says what to do."""


def weights_file(weights: "torchvision.models.WeightsEnum") -> Path:
    """Return the file of some weights in torch.hub's cache. Nothing is ever downloaded.

    Raises:
        WeightsError: the file is missing or is not the one its name promises.
    """
    file = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]
    fault = "is missing"
    if file.is_file():
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest.startswith(file.stem.rpartition("-")[2]):  # (1)!
            return file
        fault = "is damaged: delete it; it was"
    once = f"from torchvision.models import get_weight; get_weight('{weights}').get_state_dict()"
    raise WeightsError(
        f"{file.name} {fault} in {file.parent}\n"
        f'With a network, once: python -c "{once}"\n'
        f"Without: get {weights.url} elsewhere and put the file there; TORCH_HOME moves the cache."
    )


# --8<-- [end:weights]


# --8<-- [start:backbone]
def load_backbone(name: str, weights: "torchvision.models.WeightsEnum | None") -> nn.Module:
    """Build a torchvision model with weights from the cache, or untrained if there are none."""
    from torchvision.models import get_model

    model = get_model(name, weights=None)
    if weights is not None:
        state = torch.load(weights_file(weights), map_location="cpu", weights_only=True)
        model.load_state_dict(state)
    return model


def body_and_head(model: nn.Module, classes: int) -> nn.Sequential:
    """Cut a model's last linear layer off and put a fresh one behind it, as a second child."""
    linear = [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    parent, _, attribute = linear[-1].rpartition(".")
    owner = model.get_submodule(parent)
    fan_in = getattr(owner, attribute).in_features
    setattr(owner, attribute, nn.Identity())
    net = nn.Sequential()
    net.add_module("body", model)
    net.add_module("head", nn.Linear(fan_in, classes))
    return net


# --8<-- [end:backbone]


# --8<-- [start:folder]
def load_folder(folder: Path, transform: Callable, per_class: int) -> Pair:
    """The first images of each class of an ImageFolder, (n, 3, h, w), and their classes, (n,)."""
    from torchvision.datasets import ImageFolder

    images = ImageFolder(folder, transform=transform)
    of_class = [
        [i for i, c in enumerate(images.targets) if c == k] for k in range(len(images.classes))
    ]
    index = [i for own in of_class for i in own[:per_class]]
    return torch.stack([images[i][0] for i in index]), torch.tensor(images.targets)[index]


# --8<-- [end:folder]


# --8<-- [start:arms]
def folder_arms(
    folder: Path, name: str, pretrained: bool, per_class: int = 20, steps: int = 40
) -> dict[str, float]:
    """Validation accuracy of a torchvision model on folder/train, folder/val: body frozen, tuned.

    pretrained=False gives the two controls: random features, and training from scratch.
    """
    from torchvision.models import get_model_weights

    weights = get_model_weights(name).DEFAULT
    model = load_backbone(name, weights if pretrained else None)
    transform = weights.transforms()  # (1)!
    data, val = (load_folder(folder / p, transform, per_class) for p in ("train", "val"))
    net = body_and_head(model, classes=int(data[1].max()) + 1)
    head = fit_head(features(net, data[0]), data[1], classes=net.head.out_features)
    frozen = accuracy(with_head(net, head), val)
    rates = [0.003, 0.03] if pretrained else [0.03, 0.03]
    return {"frozen": frozen, "tuned": accuracy(train(net, data, steps, rates, 0, size=16), val)}


# --8<-- [end:arms]


def photos(folder: Path, name: str = "resnet18") -> list[str]:
    """One line for each pair of arms: accuracies, or what is missing and how to get it."""
    if not (folder / "train").is_dir():
        rule = "put train/ and val/ there, one folder a class; DATA_DIR moves it"
        return [f"{folder} is missing: {rule}"]
    lines = []
    for title, pretrained in (("pretrained", True), ("untrained", False)):
        try:
            lines.append(f"{title}: {folder_arms(folder, name, pretrained)}")
        except WeightsError as error:
            lines.append(f"{title}: {error}")
    return lines


@cache
def recorded() -> dict:
    """The results that `--record` stored, as `chosen` wants them."""
    return json.loads(RECORD.read_text())["results"]


SIZE, SOURCE_STEPS, STEPS = 12, 300, 100
LABELS = (1, 2, 5, 10, 50, 100)
RATES = (0.01, 0.03, 0.1, 0.3, 1.0)


def train_source(
    digits: Digits,
    size: int,
    seed: int,
    labels: Tensor | None = None,
    order: Tensor | None = None,
    steps: int = SOURCE_STEPS,
) -> nn.Sequential:
    """Train on the old digits, each batch at new places.

    labels: in place of the true ones; order: a permutation of the field's pixels.
    """
    images, y = digits.old_raw

    def view(images: Tensor, g: torch.Generator) -> Tensor:
        seen = digits.view(images, g)
        return seen if order is None else permuted(seen, order)

    data = (images, y if labels is None else labels)
    return train(make_net(size, 5, seed), data, steps, 0.1, seed, view)


def permuted(images: Tensor, order: Tensor) -> Tensor:
    """Shuffle the pixels of every image in the same way."""
    return images.flatten(1)[:, order].reshape(images.shape)


def sweep(seed: int) -> dict[str, dict[str, tuple[float, float]]]:
    """Every arm on the new digits in the field: "arm/n" -> {setting: (validation, test)}."""
    d = make_digits(SIZE, seed)
    g = torch.Generator().manual_seed(seed)
    source = train_source(d, SIZE, seed)
    sources = {
        "random": make_net(SIZE, 5, seed + 100),
        "permuted": train_source(d, SIZE, seed, order=torch.randperm(SIZE**2, generator=g)),
        "shuffled": train_source(d, SIZE, seed, labels=torch.randint(5, (700,), generator=g)),
    }
    out = {}

    def note(arm: str, n: int, setting: float, net: nn.Sequential) -> None:
        scores = tuple(round(accuracy(net, part), 4) for part in (d.new_val, d.new_test))
        out.setdefault(f"{arm}/{n}", {})[str(setting)] = scores

    for n in LABELS:
        data, raw = few(d.new_train, n), few(d.new_raw, n)
        for decay in (1e-4, 1e-3, 1e-2):
            for name, net in {"source": source, **sources}.items():
                head = fit_head(features(net, data[0]), data[1], decay=decay)
                note(
                    "probe" if name == "source" else f"probe_{name}", n, decay, with_head(net, head)
                )
            head = fit_head(data[0].flatten(1), data[1], decay=decay)
            note("pixels", n, decay, nn.Sequential(nn.Flatten(), head))
        for lr in RATES:
            note("fine", n, lr, train(with_new_head(source, seed), data, STEPS, lr, seed))
            note("scratch", n, lr, train(make_net(SIZE, 5, seed + 50), data, STEPS, lr, seed))
            if n in (1, 10, 100) and lr > 0.01:
                for arm, net in (
                    ("fine_moved", with_new_head(source, seed)),
                    ("scratch_moved", make_net(SIZE, 5, seed + 50)),
                ):
                    note(arm, n, lr, train(net, raw, STEPS, lr, seed, d.view))
            if n in (10, 100) and lr > 0.01:
                for name in ("permuted", "shuffled"):
                    net = train(with_new_head(sources[name], seed), data, STEPS, lr, seed)
                    note(f"fine_{name}", n, lr, net)
            if n in (10, 100) and lr in (0.1, 0.3):
                for k in (1, 2, 3):
                    for arm, net, rate in (
                        (f"frozen_{k}", source, 0.0),
                        (f"tuned_{k}", source, lr),
                        (f"frozen_random_{k}", sources["random"], 0.0),
                    ):
                        rates = [rate] * k + [lr] * (4 - k)
                        net = with_layers(net, k, SIZE, seed + 50)
                        note(arm, n, lr, train(net, data, STEPS, rates, seed))
    return out


ARMS = {  # name in the record: label, style
    "fine": ("fine-tune all", "C0o-"),
    "probe": ("frozen + new head", "C1s-"),
    "scratch": ("from scratch", "C3^-"),
    "probe_random": ("random, frozen + head", "C2x--"),
    "pixels": ("pixels + head", "C4v:"),
}


def figure_task() -> Figure:
    """Ten fields side by side: the old digits above, the new ones below."""
    fig, axes = plt.subplots(2, 1, figsize=(4.8, 2.5), layout="constrained")
    d = make_digits(SIZE, 0)
    for ax, (images, y), name in zip(axes, (d.old_test, d.new_train), ("old", "new"), strict=True):
        row = [F.pad(images[(y == c).nonzero()[0, 0], 0], (1, 1), value=2) for c in range(5)]
        ax.imshow(torch.cat(row, 1), cmap="gray")
        ax.set_ylabel(name)
        ax.set_xticks([]), ax.set_yticks([])
    return fig


@cache
def start_errors(cosine: float) -> list[float]:
    """Measured errors in 40 dimensions for each n of figure_start."""
    g = torch.Generator().manual_seed(0)
    return [errors(cosine, n, 40, g, draws=60) for n in START_SAMPLES]


START_SAMPLES = (4, 12, 20, 28, 36)


def figure_start() -> Figure:
    """Error after fitting n samples in 40 dimensions, from four starts; lines are equation (4)."""
    fig, ax = plt.subplots(layout="constrained")
    ink = plt.rcParams["text.color"]
    ax.plot([0, 40], [1, 0], "--", color=ink, linewidth=1.2, label="start at zero, (4)")
    for c, style in ((0.9, "C0o"), (0.5, "C1s"), (0.0, "C3^")):
        ax.plot([0, 40], [2 - 2 * c, 0], style[:2] + "-", linewidth=1, alpha=0.6)
        ax.plot(START_SAMPLES, start_errors(c), style, label=rf"$\cos={c}$")
    ax.set(xlabel="samples $n$ ($d=40$)", ylabel=r"$\|w-w^*\|^2$", ylim=(0, 2.1))
    ax.legend(frameon=False)
    ax.grid(True)
    return fig


def figure_labels() -> Figure:
    """Test accuracy against labels a class, each arm at its own best setting; mean and sd."""
    fig, ax = plt.subplots(figsize=(4.8, 4.2), layout="constrained")
    for arm, (label, style) in ARMS.items():
        tests = torch.stack([chosen(recorded(), arm, n)[1] for n in LABELS])  # (n, seeds)
        error = tests.std(1)
        ax.errorbar(LABELS, tests.mean(1), error, fmt=style, markersize=5, capsize=2, label=label)
    ax.set(xscale="log", xlabel="labels a class", ylabel="test accuracy", ylim=(0.1, 1.0))
    ax.set_xticks(LABELS, [str(n) for n in LABELS])
    ax.minorticks_off()
    ax.axhline(0.2, color=plt.rcParams["text.color"], linestyle=":", linewidth=1.5)
    ax.legend(frameon=False, loc="upper left")
    ax.grid(True)
    return fig


def figure_rates() -> Figure:
    """Validation accuracy against the learning rate, for 10 and 100 labels a class."""
    fig, axes = plt.subplots(2, 1, figsize=(4.8, 4.6), sharex=True, layout="constrained")
    for ax, n in zip(axes, (10, 100), strict=True):
        for arm in ("fine", "scratch"):
            settings = recorded()[f"{arm}/{n}"]
            val = torch.tensor([settings[str(lr)]["val"] for lr in RATES])  # (rates, seeds)
            label, style = ARMS[arm]
            ax.errorbar(RATES, val.mean(1), val.std(1), fmt=style, capsize=2, label=label)
        ax.set(xscale="log", ylabel="validation acc.", title=f"{n} labels a class")
        ax.set_xticks(RATES, [str(lr) for lr in RATES])
        ax.minorticks_off()
        ax.grid(True)
    axes[0].legend(frameon=False, loc="upper right")
    axes[1].set(xlabel="learning rate")
    return fig


# All three frozen leaves a head alone, which fit_head takes to its minimum.
ALL_THREE = {"tuned": "tuned_3", "frozen": "probe", "frozen_random": "probe_random"}


def figure_layers() -> Figure:
    """Test accuracy when the first k layers come from the source, from 10 and 100 labels."""
    fig, axes = plt.subplots(2, 1, figsize=(4.8, 5.0), sharex=True, layout="constrained")
    arms = {
        "tuned": ("from the source, tuned", "C0o-"),
        "frozen": ("from the source, frozen", "C1s-"),
        "frozen_random": ("random, frozen", "C2x--"),
    }
    for ax, n in zip(axes, (10, 100), strict=True):
        for arm, (label, style) in arms.items():
            names = ["scratch", f"{arm}_1", f"{arm}_2", ALL_THREE[arm]]
            heights = [chosen(recorded(), name, n)[1].mean() for name in names]
            ax.plot(range(4), heights, style, label=label)
        ax.set(ylabel="test accuracy", title=f"{n} labels a class")
        ax.grid(True)
    axes[1].set(xlabel="layers taken over, $k$")
    axes[1].set_xticks(range(4), ["0", "1: conv1", "2: conv2", "3: hidden"])
    axes[1].legend(frameon=False, loc="lower left")
    return fig


@cache
def drifts() -> dict[float, tuple[list[float], Tensor]]:
    """What `drift` returns for the new digits at two contrasts, 30 batches each."""
    d = make_digits(SIZE, 0)
    source = train_source(d, SIZE, 0, steps=100)
    images, y = few(d.new_train, 10)
    return {c: drift(source, (dim(images, c), y), d.old_test, 30) for c in (1.0, 0.3)}


def figure_drift() -> Figure:
    """Old accuracy and the share of the old running mean, batch by batch; no parameter moves."""
    fig, axes = plt.subplots(2, 1, figsize=(4.8, 4.4), sharex=True, layout="constrained")
    axes[0].plot(drifts()[1.0][0], "C0o-", markersize=3, label="same contrast")
    axes[0].plot(drifts()[0.3][0], "C3s-", markersize=3, label="contrast 0.3")
    means = drifts()[0.3][1]
    new_mean = (means[1] - 0.9 * means[0]) / 0.1
    share = (means - new_mean).norm(dim=1) / (means[0] - new_mean).norm()
    axes[1].plot(share, "C3s", markersize=4, label="measured")
    axes[1].plot([0.9**k for k in range(31)], color=plt.rcParams["text.color"], label="$0.9^k$")
    axes[0].set(ylabel="old accuracy", ylim=(0.2, 1.02))
    axes[1].set(ylabel="share of old mean", xlabel="batches seen in train() mode")
    for ax in axes:
        ax.legend(frameon=False)
        ax.grid(True)
    return fig


def dim(images: Tensor, contrast: float) -> Tensor:
    """Scale standardised images about their black."""
    black = images.min()
    return (images - black) * contrast + black


def experiment_linear(seed: int) -> dict[str, float]:
    """Squared error after fitting 10 and 30 samples in 40 dimensions, by cosine of the start."""
    g = torch.Generator().manual_seed(seed)
    return {
        f"c{round(10 * c)}_n{n}": errors(c, n, 40, g) for n in (10, 30) for c in (0.9, 0.5, 0.0)
    }


def experiment_centred(seed: int) -> dict[str, float]:
    """The 8x8 digits as they are: test accuracy on the new ones from few labels a class."""
    d = make_digits(8, seed)
    source, untrained = train_source(d, 8, seed, steps=80), make_net(8, 5, seed + 100)
    out = {"source": accuracy(source, d.old_test)}
    for n in (1, 5):
        images, y = few(d.new_train, n)
        for name, net in (("probe", source), ("random", untrained)):
            net = with_head(net, fit_head(features(net, images), y))
            out[f"{name}_{n}"] = accuracy(net, d.new_test)
        net = nn.Sequential(nn.Flatten(), fit_head(images.flatten(1), y))
        out[f"pixels_{n}"] = accuracy(net, d.new_test)
    for name, net in (
        ("fine", with_new_head(source, seed)),
        ("scratch", make_net(8, 5, seed + 50)),
    ):
        out[f"{name}_5"] = accuracy(train(net, few(d.new_train, 5), 40, 0.1, seed), d.new_test)
    out["lost_1"] = out["pixels_1"] - out["probe_1"]
    out["lost_5"] = out["pixels_5"] - out["probe_5"]
    return out


def experiment_field(seed: int) -> dict[str, float]:
    """Everything that one source net is used for: transfer, forgetting, drift, wrong scaling."""
    d = make_digits(SIZE, seed)
    source = train_source(d, SIZE, seed)
    (images, y), test = few(d.new_train, 10), d.new_test
    head = fit_head(features(source, images), y)
    out = {
        "source": accuracy(source, d.old_test),
        "probe": accuracy(with_head(source, head), test),
        "pixels": accuracy(nn.Sequential(nn.Flatten(), fit_head(images.flatten(1), y)), test),
    }
    untrained = make_net(SIZE, 5, seed + 100)
    out["random"] = accuracy(with_head(untrained, fit_head(features(untrained, images), y)), test)
    fine = train(with_new_head(source, seed), (images, y), STEPS, 0.1, seed)
    out["fine"], out["old_fine"] = tested(fine, source, d)
    scratch = train(make_net(SIZE, 5, seed + 50), (images, y), STEPS, 0.1, seed)
    out["scratch"] = accuracy(scratch, test)
    out["taught"], out["gain"] = out["probe"] - out["random"], out["probe"] - out["scratch"]
    for name, rates in (("all", [0.3] * 4), ("low", [0.03] * 3 + [0.3])):
        net = train(with_new_head(source, seed), d.new_train, 50, rates, seed)
        out[f"{name}_100"], out[f"old_{name}_100"] = tested(net, source, d)
    for name, contrast, careful in (
        *(("same", 1, False), ("same_eval", 1, True)),
        *(("dim", 0.3, False), ("dim_eval", 0.3, True)),
    ):
        net, few_dim = with_new_head(source, seed), (dim(images, contrast), y)
        net = train(net, few_dim, 22, [0, 0, 0, 0.1], seed, careful=careful)
        out[f"drift_{name}"] = accuracy(net, (dim(test[0], contrast), test[1]))
        out[f"old_drift_{name}"] = tested(net, source, d)[1]
    out |= wrong_scaling(source, head, d, y, seed)
    return out


def tested(net: nn.Sequential, source: nn.Sequential, digits: Digits) -> tuple[float, float]:
    """Accuracy on the new digits, and on the old ones with the old head put back."""
    return accuracy(net, digits.new_test), accuracy(with_head(net, source.head), digits.old_test)


def wrong_scaling(
    source: nn.Sequential, head: nn.Linear, digits: Digits, y: Tensor, seed: int
) -> dict[str, float]:
    """Accuracies when pixels in [0, 1] are fed to a net that saw standardised ones."""
    black, white = digits.old_test[0].min(), digits.old_test[0].max()
    raw = [
        (x - black) / (white - black) for x in (few(digits.new_train, 10)[0], digits.new_test[0])
    ]
    old = ((digits.old_test[0] - black) / (white - black), digits.old_test[1])
    refitted = fit_head(features(source, raw[0]), y)
    test = (raw[1], digits.new_test[1])
    return {
        "raw_old": accuracy(source, old),
        "raw_test": accuracy(with_head(source, head), test),
        "raw_both": accuracy(with_head(source, refitted), test),
    }


def record(seeds: range = range(10)) -> dict:
    """Run the sweep and return what records/transfer_learning.json holds."""
    import os
    import platform
    import time
    from datetime import date

    torch.set_num_threads(1)
    clock = time.process_time()
    runs = [sweep(seed) for seed in seeds]
    results = {
        arm: {
            setting: {
                part: [run[arm][setting][i] for run in runs]
                for i, part in enumerate(("val", "test"))
            }
            for setting in settings
        }
        for arm, settings in runs[0].items()
    }
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        cpu = platform.processor() or platform.machine()
    return {
        "data": "scikit-learn's digits, each placed at random in a field of 12x12",
        "command": "python -m snippets.vision.transfer_learning --record",
        "date": date.today().isoformat(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "machine": f"{cpu}, {os.cpu_count()} cores, {platform.system()}",
        "cpu_seconds": round(time.process_time() - clock, 1),
        "seeds": list(seeds),
        "results": results,
    }


if __name__ == "__main__":
    import sys

    if "--photos" in sys.argv:
        from snippets.data import data_dir

        print(*photos(data_dir() / "trashnet-mini"), sep="\n")
        sys.exit()
    if "--record" in sys.argv:
        RECORD.parent.mkdir(exist_ok=True)
        RECORD.write_text(json.dumps(record()).replace('}}, "', '}},\n"') + "\n")
        sys.exit()
    for experiment in (experiment_linear, experiment_centred, experiment_field):
        print(experiment.__name__, experiment(0))
    figure_labels()
    plt.show()
