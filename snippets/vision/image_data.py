"""Image data: folders of photos, a data set of one's own, channel statistics, augmentation.

The photos are drawn with Pillow; the measurements use scikit-learn's bundled 8x8 digits. MNIST,
recorded by `python -m snippets.vision.image_data --record`, shows what augmentation is worth there.
"""

# --8<-- [start:imports]
import copy
import csv
import json
import random
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset, Subset

from snippets.data import load_digits, load_mnist

# --8<-- [end:imports]

RECORD = Path(__file__).parents[2] / "records" / "image_data.json"


# --8<-- [start:task]
def digits_task(n: int, seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Draw n digits to train on; "test" is the same 360 for every seed.

    Returns pairs X (., 1, 8, 8) in [0, 1], y (.,): "train", "test".
    """
    X, y, X_test, y_test = load_digits()
    chosen = torch.randperm(len(X), generator=torch.Generator().manual_seed(seed))[:n]
    return {
        "train": (X[chosen].view(-1, 1, 8, 8), y[chosen]),
        "test": (X_test.view(-1, 1, 8, 8), y_test),
    }


def shift(x: Tensor, down: int, right: int) -> Tensor:
    """Move images (N, C, H, W) by whole pixels; what comes in is 0, what leaves is lost."""
    p = max(abs(down), abs(right))
    H, W = x.shape[-2:]
    return F.pad(x, (p, p, p, p))[..., p - down : p - down + H, p - right : p - right + W]


# --8<-- [end:task]


# --8<-- [start:train]
Augment = Callable[[Tensor, torch.Generator], Tensor]


def fit(
    net: nn.Module,
    X: Tensor,
    y: Tensor,
    seed: int,
    augment: Augment = lambda x, g: x,
    steps: int = 150,
    size: int = 50,
    rate: float = 0.02,
) -> nn.Module:
    """Train on X (N, C, H, W), y (N,) by Adam, every batch augmented anew; return the net."""
    g = torch.Generator().manual_seed(seed)
    index = torch.randint(len(X), (steps * size,), generator=g)  # (1)!
    x = augment(X[index], g)  # (steps * size, C, H, W)
    optimizer = torch.optim.Adam(net.parameters(), lr=rate)
    net.train()
    for x_batch, y_batch in zip(x.split(size), y[index].split(size), strict=True):
        optimizer.zero_grad()
        F.cross_entropy(net(x_batch), y_batch).backward()
        optimizer.step()
    return net.eval()


# --8<-- [end:train]


# --8<-- [start:accuracy]
@torch.no_grad()
def accuracy(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of the images x (N, C, H, W) classified as y (N,) says."""
    return (net(x).argmax(1) == y).float().mean().item()


# --8<-- [end:accuracy]


# --8<-- [start:mlp]
def make_mlp(inputs: int, seed: int, hidden: int = 128) -> nn.Sequential:
    """Flatten, Linear, ReLU, Linear to ten classes; the same seed gives the same start."""
    torch.manual_seed(seed)
    layers = nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, 10)
    return nn.Sequential(nn.Flatten(), *layers)


NEIGHBOURS = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]


def shifted_accuracy(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """Mean accuracy over the eight shifts by one pixel."""
    return sum(accuracy(net, shift(x, *by), y) for by in NEIGHBOURS) / len(NEIGHBOURS)


# --8<-- [end:mlp]


# --8<-- [start:combine]
def combine(means: Tensor, stds: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of all pixels from those of n images of one size, equation (4).

    means, stds: (n, C), the latter divided by the number of pixels; returns (C,), (C,).
    """
    mean = means.mean(0)
    return mean, (stds.square().mean(0) + (means - mean).square().mean(0)).sqrt()


# --8<-- [end:combine]


# --8<-- [start:absorb]
@torch.no_grad()
def absorb(layer: nn.Linear | nn.Conv2d, mean: Tensor, std: Tensor) -> nn.Linear | nn.Conv2d:
    """Return a layer that does to x what `layer` does to (x - mean) / std, equation (5).

    mean, std: one value per input feature or channel. A convolution must not pad.
    """
    shape = [1, -1] + [1] * (layer.weight.ndim - 2)
    folded = copy.deepcopy(layer)
    folded.weight /= std.view(shape)
    folded.bias -= (folded.weight * mean.view(shape)).flatten(1).sum(1)
    return folded


# --8<-- [end:absorb]


# --8<-- [start:warp]
def random_affine(
    n: int, size: tuple[int, int], pixels: float, degrees: float, generator: torch.Generator
) -> Tensor:
    """Draw n maps (n, 2, 3) from output to input positions in [-1, 1], equation (10).

    Angle uniform in [-degrees, degrees], anticlockwise on the screen; shifts right and down
    uniform in [-pixels, pixels].
    """
    H, W = size
    angle = torch.deg2rad(degrees * (2 * torch.rand(n, generator=generator) - 1))  # (n,)
    right, down = pixels * (2 * torch.rand(2, n, generator=generator) - 1)  # (n,), (n,)
    c, s = angle.cos(), angle.sin()
    top = torch.stack([c, -s * H / W, -2 * right / W], 1)  # (n, 3)
    bottom = torch.stack([s * W / H, c, -2 * down / H], 1)  # (n, 3)
    return torch.stack([top, bottom], 1)


def warp(x: Tensor, pixels: float, degrees: float, generator: torch.Generator) -> Tensor:
    """Shift and turn every image of x (N, C, H, W) by its own random amounts."""
    theta = random_affine(len(x), x.shape[-2:], pixels, degrees, generator)
    return F.grid_sample(x, F.affine_grid(theta, x.shape, align_corners=False), align_corners=False)


# --8<-- [end:warp]


# --8<-- [start:sample]
def sample_affine(x: Tensor, theta: Tensor) -> Tensor:
    """Bilinear sampling by hand, equation (11); x: (N, C, H, W), theta: (N, 2, 3)."""
    N, _, H, W = x.shape
    u = (2 * torch.arange(W) + 1) / W - 1  # (W,)
    v = (2 * torch.arange(H) + 1) / H - 1  # (H,)
    places = torch.stack([u.expand(H, W), v[:, None].expand(H, W), torch.ones(H, W)], -1)
    source = torch.einsum("nij,hwj->nhwi", theta, places)  # (N, H, W, 2)
    column = ((source[..., 0] + 1) * W - 1) / 2  # (N, H, W), in pixels
    row = ((source[..., 1] + 1) * H - 1) / 2
    image = torch.arange(N)[:, None, None]
    out = 0
    for i in (0, 1):
        for j in (0, 1):
            r, c = row.floor() + i, column.floor() + j
            weight = (1 - (row - r).abs()) * (1 - (column - c).abs())
            inside = (r >= 0) & (r < H) & (c >= 0) & (c < W)
            value = x[image, :, r.clamp(0, H - 1).long(), c.clamp(0, W - 1).long()]
            out = out + (weight * inside)[..., None] * value  # (N, H, W, C)
    return out.permute(0, 3, 1, 2)


# --8<-- [end:sample]


# --8<-- [start:fruit]
FRUITS = {
    "banana": (235, 200, 60),
    "blueberry": (70, 80, 170),
    "lime": (110, 180, 60),
    "tomato": (205, 55, 45),
}


def draw_fruit(name: str, rng: random.Random, size: int = 48) -> Image.Image:
    """Draw one fruit on a table: place, size, light and noise differ from photo to photo."""
    light = rng.uniform(0.6, 1.15)

    def shade(*colour: int) -> tuple[int, ...]:
        return tuple(min(255, round(light * value)) for value in colour)

    image = Image.new("RGB", (size, size), shade(200, 205, 210))
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 0.75 * size, size, size), fill=shade(150, 115, 85))
    tall = 0.55 if name == "banana" else 0.95
    r = rng.uniform(0.22, 0.32) * size
    x, y = (rng.uniform(0.42, 0.58) * size for _ in range(2))
    body = shade(*(value + rng.randint(-15, 15) for value in FRUITS[name]))
    pen.ellipse((x - r, y - tall * r, x + r, y + tall * r), fill=body)
    leaf, shine = shade(60, 110, 50), shade(235, 235, 235)
    pen.ellipse((x + 0.1 * r, y - 1.4 * tall * r, x + r, y - 0.8 * tall * r), fill=leaf)
    pen.ellipse((x - 0.6 * r, y - 0.5 * r, x - 0.35 * r, y - 0.25 * r), fill=shine)
    noise = np.random.default_rng(rng.randrange(2**32)).normal(0, 3, (size, size, 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


# --8<-- [end:fruit]


# --8<-- [start:tree]
def make_image_tree(root: Path, classes: Sequence[str], n: int, seed: int) -> None:
    """Write n photos of each class to root/<class>/<number>.png, and root/labels.csv."""
    rng = random.Random(seed)
    rows = []
    for name in classes:
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            file = Path(name) / f"{i:03}.png"
            draw_fruit(name, rng).save(root / file)
            rows.append((file.as_posix(), name))
    with (root / "labels.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("file", "label"), *rows])


# --8<-- [end:tree]


# --8<-- [start:dataset]
class CsvImageDataset(Dataset):
    """Images named in a table with the columns file and label; labels are numbered by name."""

    def __init__(self, table: Path, transform: Callable | None = None):
        with table.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        self.root, self.transform = table.parent, transform
        self.classes = sorted({row["label"] for row in rows})
        self.class_to_idx = {name: i for i, name in enumerate(self.classes)}
        self.samples = [(row["file"], self.class_to_idx[row["label"]]) for row in rows]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, i: int) -> tuple:
        file, label = self.samples[i]
        with Image.open(self.root / file) as stream:  # (1)!
            image = stream.convert("RGB")  # (2)!
        return image if self.transform is None else self.transform(image), label


# --8<-- [end:dataset]


# --8<-- [start:stats]
def channel_stats(dataset: Dataset) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every channel over all pixels of all images, each (C,).

    dataset yields (image, label) with images (C, H, W) in floats; one pass, sizes may differ.
    """
    count, total, squares = 0, 0.0, 0.0
    for i in range(len(dataset)):
        pixels = dataset[i][0].flatten(1).double()  # (C, H * W)
        count += pixels.shape[1]
        total = total + pixels.sum(1)
        squares = squares + pixels.square().sum(1)
    mean = total / count
    return mean.float(), (squares / count - mean.square()).clamp(min=0).sqrt().float()


# --8<-- [end:stats]


# --8<-- [start:transforms]
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def build_transforms(
    train: bool,
    size: int,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> Callable[[Image.Image], Tensor]:
    """From a PIL image of any size to a normalised tensor (3, size, size)."""
    from torchvision.transforms import v2

    if train:
        geometry = [
            v2.RandomResizedCrop(size, scale=(0.5, 1.0)),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(brightness=0.2, contrast=0.2),
        ]
    else:
        geometry = [v2.Resize(size), v2.CenterCrop(size)]  # (1)!
    return v2.Compose(
        [
            v2.ToImage(),  # (2)!
            *geometry,
            v2.ToDtype(torch.float32, scale=True),  # (3)!
            v2.Normalize(mean, std),
        ]
    )


# --8<-- [end:transforms]


# --8<-- [start:split]
def train_val_folders(
    root: Path,
    frac: float,
    seed: int,
    size: int = 32,
    photo: Callable[[str], str] = lambda file: Path(file).stem,
) -> tuple[Subset, Subset]:
    """Split a folder of classes; a share `frac` of each class's photos goes to validation.

    Files for which photo() says the same name stay together: copies of one photo must not be
    parted. The two halves read the same files with their own transforms.
    """
    from torchvision.datasets import ImageFolder

    train = ImageFolder(root, transform=build_transforms(True, size))
    val = ImageFolder(root, transform=build_transforms(False, size))
    rng = random.Random(seed)
    photos = defaultdict(lambda: defaultdict(list))  # label -> photo -> indices
    for i, (file, label) in enumerate(train.samples):
        photos[label][photo(file)].append(i)
    chosen = []
    for groups in photos.values():
        for name in rng.sample(sorted(groups), round(frac * len(groups))):
            chosen += groups[name]
    others = sorted(set(range(len(train))) - set(chosen))
    return Subset(train, others), Subset(val, sorted(chosen))


# --8<-- [end:split]


@torch.no_grad()
def tta(net: nn.Module, x: Tensor, views: Sequence[Callable[[Tensor], Tensor]]) -> Tensor:
    """Mean probability (N, q) over several views of the images x (N, C, H, W)."""
    return torch.stack([net(view(x)).softmax(1) for view in views]).mean(0)


# --8<-- [start:random_flip]
def random_flip(x: Tensor, dims: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Flip each image of x (N, C, H, W) along dims with probability 1/2."""
    flipped = torch.rand(len(x), 1, 1, 1, generator=generator) < 0.5
    return torch.where(flipped, x.flip(dims), x)


# --8<-- [end:random_flip]


ARMS: dict[str, Augment] = {
    "none": lambda x, g: x,
    "weak": lambda x, g: warp(x, 0.5, 0, g),
    "shift": lambda x, g: warp(x, 1.5, 0, g),
    "strong": lambda x, g: warp(x, 3, 0, g),
    "turn": lambda x, g: warp(x, 0, 20, g),
}
FLIPS: dict[str, Augment] = {
    "none": lambda x, g: x,
    "mirror": lambda x, g: random_flip(x, (-1,), g),
    "upside": lambda x, g: random_flip(x, (-2, -1), g),
}
VIEWS = [lambda x, by=by: shift(x, *by) for by in [(0, 0), *NEIGHBOURS]]


def confusion(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Shares (10, 10): row = true class, column = answer."""
    with torch.no_grad():
        counts = torch.bincount(10 * y + net(x).argmax(1), minlength=100).view(10, 10)
    return counts / counts.sum(1, keepdim=True)


def experiment_digits(seed: int) -> dict[str, float]:
    """100 digits, five ways to augment, three test sets; also test-time augmentation."""
    data = digits_task(100, seed)
    x, y = data["test"]
    turned = warp(x, 0, 30, torch.Generator().manual_seed(1))
    out = {}
    for name, augment in ARMS.items():
        net = fit(make_mlp(64, seed), *data["train"], seed, augment)
        out[f"{name}_train"] = accuracy(net, *data["train"])
        out[name] = accuracy(net, x, y)
        out[f"{name}_shifted"] = shifted_accuracy(net, x, y)
        out[f"{name}_turned"] = accuracy(net, turned, y)
        if name in ("none", "shift"):
            averaged = tta(net, x, VIEWS)  # (N, q)
            out[f"{name}_tta"] = (averaged.argmax(1) == y).float().mean().item()
    out["shift_tta_gain"] = out["shift_tta"] - out["shift"]
    for name in ARMS:
        for test in ("", "_shifted", "_turned"):
            out[f"{name}_gain{test}"] = out[f"{name}{test}"] - out[f"none{test}"]
    return out


def experiment_flips(seed: int) -> dict[str, float]:
    """Read flipped digits with a net that never saw one; then train with flips, many digits."""
    data = digits_task(1437, seed)
    x, y = data["test"]
    out = {}
    for name, augment in FLIPS.items():
        net = fit(make_mlp(64, seed), *data["train"], seed, augment, steps=100)
        shares = confusion(net, x, y)
        out[name] = accuracy(net, x, y)
        out[f"{name}_2_5"] = (shares[2, 5] + shares[5, 2]).item() / 2
        out[f"{name}_6_9"] = (shares[6, 9] + shares[9, 6]).item() / 2
        if name == "none":
            half_turn, mirror = confusion(net, x.flip(-2, -1), y), confusion(net, x.flip(-1), y)
            out |= {"six_is_nine": half_turn[6, 9].item(), "nine_is_six": half_turn[9, 6].item()}
            out |= {"five_is_two": mirror[5, 2].item(), "two_is_five": mirror[2, 5].item()}
            out |= {"mirrored_5": mirror[5, 5].item(), "mirrored_0": mirror[0, 0].item()}
    for name in FLIPS:
        out[f"{name}_gain"] = out[name] - out["none"]
    return out


def scalings(x: Tensor) -> dict[str, tuple[float, float]]:
    """Four ways to feed pixels in [0, 1]: subtract the first number, divide by the second."""
    return {
        "bytes": (0.0, 1 / 255),
        "unit": (0.0, 1.0),
        "imagenet": (sum(IMAGENET_MEAN) / 3, sum(IMAGENET_STD) / 3),
        "own": (x.mean().item(), x.std().item()),
    }


RATES = {"bytes": (0.001, 0.01, 0.1)}  # the others: 0.1, 0.3, 1


def experiment_scale(seed: int) -> dict[str, float]:
    """SGD on 400 digits fed in four ways; 400 more choose one of three rates for each way."""
    data = digits_task(800, seed)
    X, y = (part[:400] for part in data["train"])
    held, test = [part[400:] for part in data["train"]], data["test"]
    g = torch.Generator().manual_seed(seed)
    index = torch.randint(len(X), (50, 50), generator=g)
    out = {}
    for name, (mean, std) in scalings(X).items():
        reached = {}  # rate -> accuracy on the held and on the test digits
        for rate in RATES.get(name, (0.1, 0.3, 1.0)):
            net = make_mlp(64, seed, 32)
            optimizer = torch.optim.SGD(net.parameters(), lr=rate)
            for batch in index:
                optimizer.zero_grad()
                F.cross_entropy(net((X[batch] - mean) / std), y[batch]).backward()
                optimizer.step()
            reached[rate] = [accuracy(net, (x - mean) / std, label) for x, label in (held, test)]
        out[f"{name}_rate"] = max(reached, key=lambda rate: reached[rate][0])
        out[f"{name}_best"] = reached[out[f"{name}_rate"]][1]
        out[f"{name}_fixed"] = reached[0.1][1]
    out["gap"] = out["own_best"] - out["imagenet_best"]
    return out


def experiment_leak(seed: int) -> dict[str, float]:
    """Ten augmented copies of 60 digits, split by copy and by photo: what validation promises."""
    task = digits_task(60, seed)
    g = torch.Generator().manual_seed(seed)
    x = warp(task["train"][0].repeat_interleave(10, 0), 1, 20, g)  # (600, 1, 8, 8)
    y, photo = task["train"][1].repeat_interleave(10), torch.arange(60).repeat_interleave(10)
    test = warp(task["test"][0], 1, 20, g), task["test"][1]
    held = {"copy": torch.randperm(600, generator=g)[:150]}
    held["photo"] = torch.isin(photo, torch.randperm(60, generator=g)[:15]).nonzero().squeeze(1)
    out = {}
    for name, val in held.items():
        train = torch.ones(600, dtype=torch.bool).index_fill(0, val, False)
        net = fit(make_mlp(64, seed), x[train], y[train], seed, steps=100)
        out[f"{name}_val"], out[f"{name}_test"] = (
            accuracy(net, x[val], y[val]),
            accuracy(net, *test),
        )
        out[f"{name}_optimism"] = out[f"{name}_val"] - out[f"{name}_test"]
        seen = torch.isin(photo[val], photo[train]).float().mean()
        out[f"{name}_seen"] = seen.item()
    return out


def fruit_tensors(n: int, seed: int, size: int = 24) -> tuple[Tensor, Tensor]:
    """n photos of each fruit as bytes (4n, 3, size, size), labels (4n,)."""
    rng = random.Random(seed)
    images = [np.asarray(draw_fruit(name, rng, size)) for name in FRUITS for _ in range(n)]
    x = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return x, torch.arange(len(FRUITS)).repeat_interleave(n)


def make_cnn(seed: int) -> nn.Sequential:
    """Two strided convolutions, global mean, four classes; for images (3, H, W)."""
    torch.manual_seed(seed)
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 16, 3, 2), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4)),
    )


def standardize(x: Tensor, mean: Sequence[float] | Tensor, std: Sequence[float] | Tensor) -> Tensor:
    """(x - mean) / std for images (N, C, H, W), one mean and std per channel."""
    mean, std = (torch.as_tensor(v).view(1, -1, 1, 1) for v in (mean, std))
    return (x - mean) / std


def experiment_inputs(seed: int) -> dict[str, float]:
    """One net for the fruits, fed with test photos in the right way and in nine wrong ones."""
    (x, y), (x_test, y_test) = fruit_tensors(25, seed), fruit_tensors(25, 1000 + seed)
    X = x / 255
    mean, std = X.mean((0, 2, 3)), X.std((0, 2, 3))
    net = fit(make_cnn(seed), standardize(X, mean, std), y, seed, steps=80, size=25)
    T = x_test / 255  # (N, 3, H, W)
    fed = {
        "right": standardize(T, mean, std),
        "imagenet": standardize(T, IMAGENET_MEAN, IMAGENET_STD),
        "no_normalize": T,
        "twice": standardize(standardize(T, mean, std), mean, std),
        "bytes": standardize(x_test.float(), mean, std),
        "divided_twice": standardize(T / 255, mean, std),
        "bgr": standardize(T.flip(1), mean, std),
        "gray": standardize(T.mean(1, keepdim=True).expand_as(T), mean, std),
        "transposed": standardize(T.transpose(2, 3), mean, std),
        "reshaped": standardize(T.permute(0, 2, 3, 1).reshape(T.shape), mean, std),
    }
    out = {name: accuracy(net, images, y_test) for name, images in fed.items()}
    shares = F.one_hot(net(fed["bgr"]).argmax(1), 4).view(4, -1, 4).float().mean(1)  # (4, 4)
    out["tomato_is_blueberry"], out["blueberry_is_tomato"] = (
        shares[3, 1].item(),
        shares[1, 3].item(),
    )
    return out


@cache
def shift_curves() -> tuple[Tensor, Tensor]:
    """Shifts in pixels (13,), and accuracies (2, 13) of control and treatment on shifted digits."""
    data = digits_task(100, 0)
    x, y = data["test"]
    by = torch.linspace(-3, 3, 13)
    rows = []
    for name in ("none", "shift"):
        net = fit(make_mlp(64, 0), *data["train"], 0, ARMS[name])
        rows.append([])
        for pixels in by:
            theta = torch.tensor([[1.0, 0, -2 * pixels / 8], [0, 1, 0]]).expand(len(x), 2, 3)
            grid = F.affine_grid(theta, x.shape, align_corners=False)
            rows[-1].append(accuracy(net, F.grid_sample(x, grid, align_corners=False), y))
    return by, torch.tensor(rows)


def figure_shift() -> Figure:
    """Test accuracy against a shift to the right, with and without augmentation."""
    fig, ax = plt.subplots(layout="constrained")
    by, (control, treated) = shift_curves()
    ax.plot(by, control, "C3s-", markersize=5, label="no augmentation")
    ax.plot(by, treated, "C0o-", markersize=5, label="random shifts up to 1.5")
    ax.set(xlabel="shift of the test images (pixels)", ylabel="test accuracy", ylim=(0, 1.25))
    ax.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    ax.grid(True)
    ax.legend(loc="upper center", frameon=False, ncols=1)
    return fig


def show(ax, image, title: str = "", **options) -> None:
    """Draw an image (H, W, 3) or (H, W) without axes, its pixels sharp.

    Photos are drawn in steps of 16 grey levels: their noise would make the figures heavy.
    """
    pixels = np.asarray(image)
    if pixels.ndim == 3:
        steps = 16 if pixels.dtype == np.uint8 else 1 / 16
        pixels = pixels // steps * steps + pixels.dtype.type(steps / 2)
    ax.imshow(pixels, interpolation="none", **options)
    ax.set_title(title, fontsize=11, pad=3)
    ax.axis("off")


def figure_folders() -> Figure:
    """Three class folders, some of their photos, and the label that each gets."""
    fig = plt.figure(figsize=(4.8, 3.3))
    rng = random.Random(3)
    frame = fig.add_axes((0, 0, 1, 1), xlim=(0, 4.8), ylim=(0, 3.3))
    frame.axis("off")
    frame.text(0.05, 3.1, "photos/", family="monospace", va="center")
    frame.text(4.75, 3.1, "label", ha="right", va="center")
    arrow = {"arrowstyle": "->", "color": plt.rcParams["text.color"], "linewidth": 1.5}
    for i, name in enumerate(("blueberry", "lime", "tomato")):
        y = 2.45 - i
        frame.text(0.25, y, f"{name}/", family="monospace", va="center")
        for j in range(2):
            place = ((1.6 + 0.95 * j) / 4.8, (y - 0.42) / 3.3, 0.84 / 4.8, 0.84 / 3.3)
            show(fig.add_axes(place), draw_fruit(name, rng, 36))
        frame.annotate("", (4.15, y), (3.5, y), arrowprops=arrow)
        frame.text(4.3, y, f"{i}", color=f"C{i}", fontsize=16, va="center", weight="bold")
    return fig


def figure_eight() -> Figure:
    """One photo and eight augmentations of it, each strong enough to be seen."""
    from torchvision.transforms import v2

    image = v2.functional.to_image(draw_fruit("tomato", random.Random(5), 36))
    transforms = {
        "HorizontalFlip": v2.RandomHorizontalFlip(1),
        "ResizedCrop": v2.RandomResizedCrop(36, scale=(0.3, 0.4)),
        "Rotation": v2.RandomRotation((30, 30)),
        "Perspective": v2.RandomPerspective(0.6, 1),
        "Elastic": v2.ElasticTransform(60.0, 4.0),
        "ColorJitter": v2.ColorJitter(brightness=(0.5, 0.5), hue=(0.08, 0.08)),
        "GaussianBlur": v2.GaussianBlur(7, 2.0),
        "Erasing": v2.RandomErasing(1, scale=(0.1, 0.15)),
    }
    fig, axes = plt.subplots(3, 3, figsize=(4.8, 5.2), layout="constrained")
    show(axes.flat[0], image.permute(1, 2, 0), "original")
    for ax, (name, transform) in zip(axes.flat[1:], transforms.items(), strict=True):
        torch.manual_seed(1)
        show(ax, transform(image).permute(1, 2, 0), name)
    return fig


def figure_batch() -> Figure:
    """Four photos, each transformed by itself, and the four in one call."""
    from torchvision.transforms import v2

    rng = random.Random(1)
    photos = [v2.functional.to_image(draw_fruit(name, rng, 36)) for name in FRUITS]
    transform = v2.RandomAffine(40, translate=(0.15, 0.15))
    torch.manual_seed(2)
    rows = [torch.stack([transform(photo) for photo in photos]), transform(torch.stack(photos))]
    fig, axes = plt.subplots(2, 4, figsize=(4.8, 2.9), layout="constrained")
    for row, images in zip(axes, rows, strict=True):
        for ax, image in zip(row, images, strict=True):
            show(ax, image.permute(1, 2, 0))
    axes[0, 0].set_title("image by image", fontsize=11, loc="left")
    axes[1, 0].set_title("one call for the batch", fontsize=11, loc="left")
    return fig


@cache
def unflipped_net() -> nn.Module:
    """A net that saw 1437 digits and no flips."""
    return fit(make_mlp(64, 0), *digits_task(1437, 0)["train"], 0, steps=100)


def figure_flips() -> Figure:
    """Ten digits as they are, mirrored, and turned by 180 degrees, with a net's usual answer."""
    net = unflipped_net()
    x, y = digits_task(1437, 0)["test"]
    first = [int((y == d).nonzero()[2]) for d in range(10)]
    fig, axes = plt.subplots(3, 1, figsize=(5.2, 2.7), layout="constrained")
    names = ("as written", "mirrored", "turned by 180°")
    for ax, title, dims in zip(axes, names, ((), (-1,), (-2, -1)), strict=True):
        flipped = x.flip(dims)
        answers = confusion(net, flipped, y).argmax(1)
        row = F.pad(flipped[first, 0], (1, 1, 0, 0), value=float("nan"))  # (10, 8, 10)
        show(ax, torch.cat([*row], 1))
        ax.set_title(title, fontsize=11, loc="left", pad=3)
        for d, answer in enumerate(answers.tolist()):
            colour = "C2" if answer == d else "C3"
            style = {"ha": "center", "va": "top", "fontsize": 12, "weight": "bold"}
            ax.text(10 * d + 4.5, 8, f"{answer}", color=colour, **style)
    return fig


def figure_wrong() -> Figure:
    """One photo read in six ways that raise no error."""
    photo = draw_fruit("tomato", random.Random(5), 36)
    x = np.asarray(photo)  # (H, W, 3)
    cut = Image.new("RGBA", photo.size)
    mask = Image.new("L", photo.size)
    ImageDraw.Draw(mask).ellipse((6, 5, 32, 31), fill=255)
    cut.paste(photo, mask=mask)
    ways = {
        "right": x,
        "RGB as BGR": x[..., ::-1],
        "reshape to CHW": np.moveaxis(x.reshape(3, *x.shape[:2]), 0, -1),
        "palette as gray": np.asarray(photo.quantize(16)) * 16,
        "RGBA to RGB": np.asarray(cut.convert("RGB")),
        "EXIF ignored": np.rot90(x),
    }
    fig, axes = plt.subplots(2, 3, figsize=(4.8, 3.6), layout="constrained")
    for ax, (name, image) in zip(axes.flat, ways.items(), strict=True):
        show(ax, image, name, cmap="gray", vmin=0, vmax=255)
    return fig


MNIST_ARMS: dict[str, Augment] = {
    "none": lambda x, g: x,
    "warp": lambda x, g: warp(x, 2, 15, g),
    "mirror": FLIPS["mirror"],
}
MNIST_SIZES = (100, 300, 1000, 3000, 10_000)


def mnist_run(n: int, arm: str, seed: int) -> float:
    """Train 784-128-10 on n digits of MNIST, 600 batches of 100; return the test accuracy."""
    X, y, X_test, y_test = load_mnist()
    chosen = torch.randperm(len(X), generator=torch.Generator().manual_seed(seed))[:n]
    net = make_mlp(784, seed)
    x = X[chosen].unsqueeze(1)
    fit(net, x, y[chosen], seed, MNIST_ARMS[arm], steps=600, size=100, rate=0.01)
    return accuracy(net, X_test.unsqueeze(1), y_test)


def record(seeds: range = range(5)) -> dict:
    """Run MNIST with and without augmentation; return what records/image_data.json holds."""
    import os
    import platform
    from datetime import date

    torch.set_num_threads(1)
    clock = time.process_time()
    results = {
        arm: {str(n): [round(mnist_run(n, arm, s), 4) for s in seeds] for n in MNIST_SIZES}
        for arm in MNIST_ARMS
    }
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        cpu = platform.processor() or platform.machine()
    return {
        "data": "MNIST (LeCun, Cortes, Burges), some of 60000 to train, 10000 to test",
        "command": "python -m snippets.vision.image_data --record",
        "date": date.today().isoformat(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "machine": f"{cpu}, {os.cpu_count()} cores, {platform.system()}",
        "cpu_seconds": round(time.process_time() - clock, 1),
        "seeds": list(seeds),
        "results": results,
    }


def figure_mnist() -> Figure:
    """Recorded MNIST accuracy against the number of training images, three ways to augment."""
    results = json.loads(RECORD.read_text())["results"]
    fig, ax = plt.subplots(figsize=(4.8, 3.6), layout="constrained")
    styles = {
        "warp": ("C0o-", "shifts and turns"),
        "none": ("C3s-", "no augmentation"),
        "mirror": ("C4^-", "mirrored half the time"),
    }
    for arm, (style, label) in styles.items():
        means = [sum(results[arm][str(n)]) / len(results[arm][str(n)]) for n in MNIST_SIZES]
        ax.semilogx(MNIST_SIZES, means, style, markersize=6, label=label)
    ax.set(xlabel="training images", ylabel="test accuracy", ylim=(0.6, 1))
    ax.grid(True)
    ax.legend(loc="lower right", frameon=False)
    return fig


if __name__ == "__main__":
    import sys

    if "--record" in sys.argv:
        RECORD.parent.mkdir(exist_ok=True)
        RECORD.write_text(json.dumps(record()).replace('}, "', '},\n"') + "\n")
        sys.exit()
    for experiment in (experiment_digits, experiment_flips, experiment_scale, experiment_leak):
        print(experiment.__name__, experiment(seed=0))
    print(experiment_inputs.__name__, experiment_inputs(seed=0))
    figure_shift()
    figure_eight()
    plt.show()
