"""Residual networks: torchvision's block rebuilt, and deep nets with and without the shortcut.

The depth experiments use fully connected nets on scikit-learn's digits, five seeds trained at
once; the convolutional block is compared with torchvision's. Everything runs on the CPU.
"""

# --8<-- [start:imports]
import json
import math
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

from snippets.data import batches, load_digits, load_fashion_mnist

# --8<-- [end:imports]

RECORD = Path(__file__).parents[2] / "records" / "resnet.json"


# --8<-- [start:arms]
class Arm(NamedTuple):
    """How a block joins its input h to its branch, whether it normalises, how it starts."""

    join: str  # "plain", "residual", "pre" or "highway"
    norm: bool
    start: str = "kaiming"  # or "identity", or "zero": the branch starts as F = 0
    gate: float = 0.0  # highway: the gate starts near sigmoid(gate)


ARMS = {
    "plain": Arm("plain", norm=False),
    "plain_bn": Arm("plain", norm=True),
    "plain_identity": Arm("plain", norm=False, start="identity"),
    "residual": Arm("residual", norm=False),
    "residual_zero": Arm("residual", norm=False, start="zero"),
    "residual_bn": Arm("residual", norm=True),
    "residual_bn_zero": Arm("residual", norm=True, start="zero"),
    "pre": Arm("pre", norm=True),
    "highway_2": Arm("highway", norm=False, gate=-2.0),
    "highway_4": Arm("highway", norm=False, gate=-4.0),
}
# --8<-- [end:arms]


# --8<-- [start:parameters]
def parameters(arm: Arm, depth: int, seeds: Sequence[int], width: int = 32) -> list[Tensor]:
    """Draw R nets 64 - width - ... - width - 10 with `depth` layers in blocks of two.

    Returns stem (R, d, 64), W (depth, R, d, d), gain and bias (depth, R, d), head (R, 10, d).
    """
    nets = []
    for seed in seeds:
        g = torch.Generator().manual_seed(seed)
        stem = torch.randn(width, 64, generator=g) / 8
        W = torch.randn(depth, width, width, generator=g) * math.sqrt(2 / width)
        if arm.start == "identity":
            W = torch.eye(width) + 0.01 * torch.randn(W.shape, generator=g)
        gain, bias = torch.ones(depth, width), torch.zeros(depth, width)
        if arm.start == "zero":
            gain[1::2] = 0  # (1)!
        if arm.join == "highway":
            W[1::2] *= 0.1
            bias[1::2] = arm.gate
        head = torch.randn(10, width, generator=g) / math.sqrt(width)
        nets.append((stem, W, gain, bias, head))
    stem, W, gain, bias, head = zip(*nets, strict=True)
    layers = [torch.stack(p, 1) for p in (W, gain, bias)]
    return [torch.stack(stem), *layers, torch.stack(head)]


# --8<-- [end:parameters]


# --8<-- [start:block]
def scale(z: Tensor, gain: Tensor, bias: Tensor, norm: bool) -> Tensor:
    """gain * z + bias, with z (R, d, B) normalised over the batch first if norm."""
    if norm:
        flat = z.reshape(1, -1, z.shape[-1])  # (1)!
        flat = F.batch_norm(flat, None, None, gain.flatten(), bias.flatten(), training=True)
        return flat.view_as(z)
    return torch.addcmul(bias[..., None], gain[..., None], z)


def block(h: Tensor, first: tuple, second: tuple, arm: Arm) -> Tensor:
    """One block of two layers, each (W, gain, bias), of R nets; h: (R, d, B)."""
    (W1, *affine1), (W2, *affine2) = first, second
    if arm.join == "pre":  # (2)!
        z = W1 @ torch.relu(scale(h, *affine1, arm.norm))
        return h + W2 @ torch.relu(scale(z, *affine2, arm.norm))
    z = torch.relu(scale(W1 @ h, *affine1, arm.norm))
    if arm.join == "highway":  # (3)!
        gate = torch.sigmoid(scale(W2 @ h, *affine2, arm.norm))
        return torch.lerp(h, z, gate)  # gate * z + (1 - gate) * h
    z = scale(W2 @ z, *affine2, arm.norm)
    return torch.relu(z + h if arm.join == "residual" else z)  # (4)!


# --8<-- [end:block]


# --8<-- [start:forward]
def forward(
    params: list[Tensor], x: Tensor, arm: Arm, skip: int | None = None
) -> tuple[Tensor, list[Tensor]]:
    """Logits (R, 10, B) and the signals before, between and after the blocks, each (R, d, B).

    x: (64, B), or (R, 64, B) for batches of their own; skip: leave this block out.
    """
    stem, W, gain, bias, head = params
    h = torch.relu(stem @ x)
    signals = [h]
    layers = list(zip(W, gain, bias, strict=True))
    for i in range(len(layers) // 2):
        if i != skip:
            h = block(h, layers[2 * i], layers[2 * i + 1], arm)
        signals.append(h)
    if arm.join == "pre":
        h = torch.relu(scale(h, torch.ones_like(gain[0]), torch.zeros_like(bias[0]), arm.norm))
    return head @ h, signals


def losses(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of each net, (R,); logits: (R, 10, B), y: (B,) or (R, B)."""
    return F.cross_entropy(logits, y.expand(len(logits), -1), reduction="none").mean(1)


# --8<-- [end:forward]


# --8<-- [start:digits]
@cache
def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Standardised digits in columns: X (64, 1437), y (1437,), X_test (64, 360), y_test (360,)."""
    X, y, X_test, y_test = load_digits()
    mean, sd = X.mean(0), X.std(0) + 0.1
    return ((X - mean) / sd).T.contiguous(), y, ((X_test - mean) / sd).T.contiguous(), y_test


# --8<-- [end:digits]


# --8<-- [start:fit]
@cache
def fit(
    name: str, depth: int, lr: float, steps: int = 80, seeds: Sequence[int] = range(5)
) -> tuple[list[Tensor], Tensor]:
    """Train R nets by SGD, momentum 0.9, batches of 64, each on its own loss.

    Returns the parameters and the batch losses (steps, R).
    """
    X, y, _, _ = digits()
    rows = X.T.contiguous()  # (N, 64)
    params = [p.requires_grad_() for p in parameters(ARMS[name], depth, seeds)]
    optimizer = torch.optim.SGD(params, lr=lr, momentum=0.9)
    draws = [torch.Generator().manual_seed(seed) for seed in seeds]
    history = []
    for _ in range(steps):
        index = torch.stack([torch.randint(len(y), (64,), generator=g) for g in draws])  # (R, B)
        logits, _ = forward(params, rows[index].mT, ARMS[name])
        each = losses(logits, y[index])  # (R,)
        optimizer.zero_grad()
        each.sum().backward()
        optimizer.step()
        history.append(each.detach())
    return [p.detach() for p in params], torch.stack(history)


# --8<-- [end:fit]


# --8<-- [start:training_loss]
def training_loss(params: list[Tensor], arm: Arm) -> Tensor:
    """Loss of each net on all 1437 training images, (R,)."""
    X, y, _, _ = digits()
    with torch.no_grad():
        return losses(forward(params, X, arm)[0], y)


def test_accuracy(params: list[Tensor], arm: Arm, skip: int | None = None) -> Tensor:
    """Share of the 360 test images each net gets right, (R,); skip: a block to leave out."""
    _, _, X, y = digits()
    with torch.no_grad():
        return (forward(params, X, arm, skip)[0].argmax(1) == y).float().mean(1)


# --8<-- [end:training_loss]


# --8<-- [start:compare]
RATES = {  # best training loss of 0.003, 0.01, 0.03, 0.1, 0.3; seeds 100 to 102, 100 steps
    "plain": {2: 0.1, 10: 0.01, 40: 0.003},
    "plain_bn": {2: 0.1, 10: 0.1, 40: 0.1},
    "plain_identity": {2: 0.1, 10: 0.03, 40: 0.003},
    "residual_bn": {2: 0.1, 10: 0.03, 40: 0.03},
    "residual_bn_zero": {2: 0.1, 10: 0.1, 40: 0.1},
    "residual_zero": {40: 0.1},
    "pre": {40: 0.3},
    "highway_2": {40: 0.1},
    "highway_4": {40: 0.3},
}


def plain_vs_residual(
    depth: int, steps: int = 80, seeds: Sequence[int] = range(5)
) -> tuple[float, float]:
    """Mean training loss with batch norm, plain and residual: `+ h` is all that differs."""
    out = []
    for name in ("plain_bn", "residual_bn"):
        params, _ = fit(name, depth, RATES[name][depth], steps, seeds)
        out.append(training_loss(params, ARMS[name]).mean().item())
    return out[0], out[1]


# --8<-- [end:compare]


# --8<-- [start:paths]
def by_length(blocks: Sequence[Tensor]) -> Tensor:
    """Split (I + A_n) ... (I + A_1) by path length: entry k sums all products of k blocks.

    blocks: A_1, ..., A_n, each (d, d); returns (n + 1, d, d), whose sum is the whole product.
    """
    sums = torch.zeros(len(blocks) + 1, *blocks[0].shape, dtype=blocks[0].dtype)
    sums[0] = torch.eye(len(blocks[0]))
    for A in blocks:
        longer = A @ sums[:-1]  # every path so far, sent through A
        sums[1:] += longer
    return sums


def gradient_share(n: int, a: float) -> list[float]:
    """Expected share of the squared gradient on paths of length 0..n, equation (6)."""
    return [math.comb(n, k) * a**k / (1 + a) ** n for k in range(n + 1)]


# --8<-- [end:paths]


# --8<-- [start:probe]
def probe(name: str, depth: int, width: int, seed: int) -> tuple[Tensor, Tensor, float]:
    """An untrained net on 64 digits, before the first block and after each.

    Returns the mean square of the signal (depth / 2 + 1,), the root mean square of its gradient
    (depth / 2 + 1,), and the mean cosine between the last signals of two images.
    """
    X, y, _, _ = digits()
    params = [p.requires_grad_() for p in parameters(ARMS[name], depth, [seed], width)]
    logits, signals = forward(params, X[:, :64], ARMS[name])
    slopes = torch.autograd.grad(losses(logits, y[:64]).sum(), signals)
    square = torch.stack([h.detach().square().mean() for h in signals])
    slope = torch.stack([g.square().mean().sqrt() for g in slopes])
    unit = F.normalize(signals[-1].detach()[0], dim=0)  # (d, B)
    cosine = (unit.T @ unit).sum() - unit.shape[1]
    return square, slope, cosine.item() / (64 * 63)


# --8<-- [end:probe]


# --8<-- [start:conv3x3]
def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """3x3 convolution, padding 1, no bias: the batch norm that follows would remove it."""
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)


def projection(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Shortcut for a block that changes the shape: 1x1 convolution, then batch norm."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
        nn.BatchNorm2d(out_channels),
    )


# --8<-- [end:conv3x3]


# --8<-- [start:basic_block]
class BasicBlock(nn.Module):
    """relu(F(x) + x), or with downsample(x) in place of x if F changes the shape (N, C, H, W)."""

    def __init__(
        self, in_channels: int, channels: int, stride: int = 1, downsample: nn.Module | None = None
    ):
        super().__init__()
        self.conv1 = conv3x3(in_channels, channels, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        out = torch.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))  # F(x), no ReLU yet
        identity = x if self.downsample is None else self.downsample(x)
        return torch.relu(out + identity)


class PlainBlock(BasicBlock):
    """The control: the same layers without the shortcut."""

    def forward(self, x: Tensor) -> Tensor:
        out = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(out)))


# --8<-- [end:basic_block]


# --8<-- [start:make_stage]
def make_stage(
    in_channels: int,
    channels: int,
    blocks: int,
    stride: int = 1,
    block: type[BasicBlock] = BasicBlock,
) -> nn.Sequential:
    """Blocks in a row; only the first changes the shape, and only it may need a projection."""
    shortcut = None
    if block is not PlainBlock and (stride != 1 or in_channels != channels):
        shortcut = projection(in_channels, channels, stride)
    first = block(in_channels, channels, stride, shortcut)
    return nn.Sequential(first, *(block(channels, channels) for _ in range(blocks - 1)))


# --8<-- [end:make_stage]


# --8<-- [start:seen]
def seen(layer: nn.Module, size: int = 8) -> Tensor:
    """Which input positions (size, size) reach the output of a layer with one channel."""
    x = torch.rand(1, 1, size, size, requires_grad=True)
    (slope,) = torch.autograd.grad(layer(x).sum(), x)
    return slope[0, 0] != 0


# --8<-- [end:seen]


# --8<-- [start:tiny]
class TinyResNet(nn.Module):
    """Stem, two stages, global average, linear layer: (N, 1, 8, 8) to logits (N, 10)."""

    def __init__(self, channels: int = 16, blocks: int = 1, block: type[BasicBlock] = BasicBlock):
        super().__init__()
        self.conv1 = conv3x3(1, channels)
        self.bn1 = nn.BatchNorm2d(channels)
        self.layer1 = make_stage(channels, channels, blocks, 1, block)  # 8 x 8
        self.layer2 = make_stage(channels, 2 * channels, blocks, 2, block)  # 4 x 4
        self.fc = nn.Linear(2 * channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.bn1(self.conv1(x)))
        h = self.layer2(self.layer1(h))
        return self.fc(h.mean((2, 3)))


def zero_last_gamma(net: nn.Module) -> None:
    """Start every block as relu(shortcut): gamma of the last batch norm is 0."""
    for module in net.modules():
        if isinstance(module, BasicBlock):
            nn.init.zeros_(module.bn2.weight)


# --8<-- [end:tiny]


# --8<-- [start:train_images]
def train_images(
    net: nn.Module, images: Tensor, labels: Tensor, epochs: int, seed: int, lr: float = 0.05
) -> None:
    """Minimise the cross-entropy by SGD, momentum 0.9, batches of 64; images: (N, 1, H, W)."""
    g = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
    net.train()
    for _ in range(epochs):
        for x, y in batches(images, labels, 64, g):
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimizer.step()


@torch.no_grad()
def evaluate(net: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """Loss and accuracy in eval() mode."""
    net.eval()
    logits = torch.cat([net(x) for x in images.split(1000)])  # (N, q)
    accuracy = (logits.argmax(1) == labels).float().mean().item()
    return F.cross_entropy(logits, labels).item(), accuracy


# --8<-- [end:train_images]


# --8<-- [start:highway]
class Highway(nn.Module):
    """T * H + (1 - T) * x, a gate for every unit; bias: what the gate's bias starts with."""

    def __init__(self, width: int, bias: float = -2.0):
        super().__init__()
        self.candidate = nn.Linear(width, width)
        self.gate = nn.Linear(width, width)
        nn.init.constant_(self.gate.bias, bias)

    def forward(self, x: Tensor) -> Tensor:
        T = torch.sigmoid(self.gate(x))  # (N, d)
        return T * torch.relu(self.candidate(x)) + (1 - T) * x


# --8<-- [end:highway]


# --8<-- [start:nin]
def nin_block(in_channels: int, channels: int, kernel: int) -> nn.Sequential:
    """Network in Network: a convolution, then a two-layer perceptron at every position."""
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, kernel, padding=kernel // 2),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 1),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 1),
        nn.ReLU(),
    )


# --8<-- [end:nin]


@cache
def results(name: str, depth: int, seeds: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Training loss (R,), test accuracy (R,), and that without each block (depth / 2, R)."""
    params, _ = fit(name, depth, RATES[name][depth], seeds=seeds)
    arm = ARMS[name]
    lesions = []
    if depth == 10:
        lesions = [test_accuracy(params, arm, skip) for skip in range(depth // 2)]
    lesions = torch.stack(lesions) if lesions else torch.empty(0, len(seeds))
    return training_loss(params, arm), test_accuracy(params, arm), lesions


MAIN = ("plain", "plain_bn", "plain_identity", "residual_bn", "residual_bn_zero")


def draw_box(ax: Axes, x: float, y: float, text: str, colour: str, width: float = 1.5) -> None:
    """A labelled box with its centre at (x, y)."""
    ax.add_patch(
        plt.Rectangle((x - width / 2, y - 0.3), width, 0.6, facecolor="none", edgecolor=colour)
    )
    ax.text(x, y, text, ha="center", va="center", fontsize=11)


def draw_unit(ax: Axes, names: Sequence[str], shortcut: str | None) -> None:
    """A residual unit from top to bottom, its branch on the left and its shortcut on the right."""
    ink = plt.rcParams["text.color"]
    arrow = {"arrowstyle": "->", "color": ink}
    ax.text(0, 6.6, "$x$", ha="center", va="center", fontsize=12)
    heights = [5.4, 4.4, 3.4, 2.4, 1.4]
    ax.annotate("", (0, 5.7), (0, 6.3), arrowprops=arrow)
    for name, y in zip(names, heights, strict=True):
        draw_box(ax, 0, y, name, "C0")
    for above, below in zip(heights, [*heights[1:], 0.2], strict=True):
        ax.annotate("", (0, below + 0.3), (0, above - 0.3), arrowprops=arrow)
    ax.text(0, 0.2, r"$\oplus$", ha="center", va="center", fontsize=16)
    ax.plot([0, 1.5, 1.5], [6.0, 6.0, 4.3 if shortcut else 0.2], color="C3")
    ax.annotate("", (0.2, 0.2), (1.5, 0.2), arrowprops={"arrowstyle": "->", "color": "C3"})
    if shortcut:
        ax.plot([1.5, 1.5], [2.5, 0.2], color="C3")
        ax.add_patch(plt.Rectangle((1.0, 2.5), 1.0, 1.8, facecolor="none", edgecolor="C3"))
        ax.text(1.5, 3.4, shortcut, ha="center", va="center", fontsize=11)
    ax.annotate("", (0, -0.7), (0, -0.1), arrowprops=arrow)
    draw_box(ax, 0, -1.0, "ReLU", "C0")
    ax.set(xlim=(-0.9, 2.1), ylim=(-1.5, 6.9))
    ax.axis("off")


def figure_units() -> Figure:
    """The basic residual unit, and the one that halves the image and doubles the channels."""
    fig, axes = plt.subplots(1, 2, figsize=(4.8, 4.8), layout="constrained")
    draw_unit(axes[0], ["conv 3×3", "BN", "ReLU", "conv 3×3", "BN"], None)
    draw_unit(axes[1], ["conv, /2", "BN", "ReLU", "conv 3×3", "BN"], "conv\n1×1\n/2, BN")
    axes[0].set_title("identity", fontsize=11)
    axes[1].set_title("projection", fontsize=11)
    return fig


def figure_training() -> Figure:
    """Training loss at depths 2 and 40, mean of two seeds, smoothed over ten steps."""
    fig, axes = plt.subplots(2, 1, figsize=(4.8, 5.6), sharex=True, layout="constrained")
    styles = {
        "plain_bn": ("C3-", "plain + BN"),
        "plain_identity": ("C2--", "plain, $W=I$"),
        "residual_bn": ("C0-", "residual + BN"),
    }
    for ax, depth in zip(axes, (2, 40), strict=True):
        for name, (style, label) in styles.items():
            _, history = fit(name, depth, RATES[name][depth], seeds=range(2))
            smooth = history.mean(1).unfold(0, 10, 1).mean(1)  # (71,)
            ax.plot(range(10, 81), smooth, style, label=label)
        ax.axhline(math.log(10), color=plt.rcParams["text.color"], linewidth=0.8, linestyle=":")
        ax.set(ylabel="training loss", title=f"depth {depth}", yscale="log", ylim=(0.02, 9))
        ax.grid(True)
    axes[1].set(xlabel="step")
    axes[0].legend(loc="upper right", ncols=2, frameon=False)
    return fig


def figure_gradient() -> Figure:
    """Size of the gradient after each block before training, relative to the last block's input."""
    fig, ax = plt.subplots(figsize=(4.8, 4.0), layout="constrained")
    styles = {
        "plain_bn": ("C3s-", "plain + BN"),
        "residual": ("C4^-", "residual, no BN"),
        "residual_bn": ("C0o-", "residual + BN"),
        "plain": ("C1v-", "plain, Kaiming"),
        "residual_zero": ("C2D-", "residual, $F=0$"),
    }
    for name, (style, label) in styles.items():
        _, slope, _ = probe(name, 40, 64, 0)
        ratio = slope[1:-1] / slope[-2]
        ax.plot(range(1, 20), ratio, style, markersize=4, label=label)
    ax.set(xlabel="block", ylabel="gradient / gradient at block 19", yscale="log")
    ax.set(ylim=(0.05, 3e5), xticks=[1, 5, 10, 15, 19])
    ax.grid(True)
    ax.legend(loc="upper right", ncols=2, frameon=False, fontsize=11, columnspacing=0.8)
    return fig


def figure_paths() -> Figure:
    """How many of the 2^20 paths have each length, and how much of the gradient they carry."""
    fig, ax = plt.subplots(layout="constrained")
    lengths = range(21)
    count = [math.comb(20, k) / 2**20 for k in lengths]
    ax.bar([k - 0.2 for k in lengths], count, 0.4, color="C1", label="share of paths")
    share = gradient_share(20, 0.1)
    ax.bar([k + 0.2 for k in lengths], share, 0.4, color="C0", label="share of gradient")
    ax.set(xlabel="blocks on the path", xticks=range(0, 21, 5))
    ax.legend(frameon=False)
    return fig


def figure_lesion() -> Figure:
    """Test accuracy after one of the five blocks is left out, mean of two seeds."""
    fig, ax = plt.subplots(layout="constrained")
    styles = {
        "residual_bn": ("C0o-", "residual + BN"),
        "plain_identity": ("C2D--", "plain, $W=I$"),
        "plain_bn": ("C3s-", "plain + BN"),
    }
    for name, (style, label) in styles.items():
        _, whole, lesions = results(name, 10, range(2))
        values = [whole.mean(), *lesions.mean(1)]
        ax.plot(range(6), values, style, markersize=5, label=label)
    ax.axhline(0.1, color=plt.rcParams["text.color"], linestyle=":")
    ax.set(xlabel="block left out", ylabel="test accuracy", ylim=(0, 1.03))
    ax.set_xticks(range(6), ["none", "1", "2", "3", "4", "5"])
    ax.grid(True)
    ax.legend(loc="center right", frameon=False)
    return fig


def figure_stride() -> Figure:
    """Input positions that reach the output of three ways to halve an 8 x 8 image."""
    fig, axes = plt.subplots(1, 3, figsize=(4.8, 2.1), layout="constrained")
    pooled = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(1, 1, 1))
    ways = {
        "1×1, stride 2": nn.Conv2d(1, 1, 1, 2),
        "mean, 1×1": pooled,
        "3×3, stride 2": nn.Conv2d(1, 1, 3, 2, 1),
    }
    for ax, (label, layer) in zip(axes, ways.items(), strict=True):
        for row, column in seen(layer).nonzero().tolist():
            ax.add_patch(plt.Rectangle((column, row), 1, 1, color="C0", linewidth=0))
        ax.set(xlim=(0, 8), ylim=(8, 0), aspect="equal", xticks=range(9), yticks=range(9))
        ax.tick_params(labelbottom=False, labelleft=False, length=0)
        ax.grid(True)
        ax.set_title(label, fontsize=11)
    return fig


def experiment_depth(seed: int) -> dict[str, float]:
    """Five ways to build a deep net at three depths: training loss, accuracy, one block less."""
    group = range(seed // 5 * 5, seed // 5 * 5 + 5)
    out = {}
    for name in MAIN:
        for depth in (2, 10, 40):
            loss, accuracy, lesions = results(name, depth, group)
            out[f"{name}_{depth}"] = loss[seed % 5].item()
            out[f"{name}_{depth}_accuracy"] = accuracy[seed % 5].item()
            if depth == 10:
                out[f"{name}_lesion_mean"] = lesions[:, seed % 5].mean().item()
                out[f"{name}_lesion_worst"] = lesions[:, seed % 5].min().item()
    return out


def experiment_variants(seed: int) -> dict[str, float]:
    """Other blocks at depth 40: training loss and test accuracy."""
    group = range(seed // 5 * 5, seed // 5 * 5 + 5)
    out = {}
    for name in ("residual_zero", "pre", "highway_2", "highway_4"):
        loss, accuracy, _ = results(name, 40, group)
        out[name] = loss[seed % 5].item()
        out[f"{name}_accuracy"] = accuracy[seed % 5].item()
    return out


def experiment_signal(seed: int) -> dict[str, float]:
    """Untrained nets of width 64: signal, gradient at block 1 over that at the last but one."""
    out = {}
    for name in ("plain", "plain_bn", "residual", "residual_bn", "residual_zero", "pre"):
        for depth in (20, 40):
            square, slope, cosine = probe(name, depth, 64, seed)
            out[f"{name}_slope_{depth}"] = (slope[1] / slope[-2]).item()
        if name == "plain_bn":  # block 1 to 19: 36 layers
            out["plain_bn_per_layer"] = out["plain_bn_slope_40"] ** (1 / 36)
        out[f"{name}_first"] = square[0].item()
        out[f"{name}_last"] = square[-1].item()
        out[f"{name}_cosine"] = cosine
    return out


CONV = {"plain": PlainBlock, "residual": BasicBlock, "residual_zero": BasicBlock}


def fashion_run(name: str, blocks: int, seed: int) -> dict[str, float]:
    """Train a TinyResNet of 8 channels on 6000 Fashion-MNIST images of 14 x 14, two epochs."""
    X, y, X_test, y_test = load_fashion_mnist()
    half = [F.avg_pool2d(images[:, None] - 0.286, 2) / 0.353 for images in (X[:6000], X_test)]
    torch.manual_seed(seed)
    net = TinyResNet(8, blocks, CONV[name])
    if name == "residual_zero":
        zero_last_gamma(net)
    train_images(net, half[0], y[:6000], 2, seed)
    loss, train_accuracy = evaluate(net, half[0], y[:6000])
    return {
        "train_loss": round(loss, 4),
        "train_accuracy": round(train_accuracy, 4),
        "test_accuracy": round(evaluate(net, half[1], y_test)[1], 4),
    }


def record(seeds: range = range(5)) -> dict:
    """Run the convolutional comparison and return what records/resnet.json holds."""
    import platform
    import time
    from datetime import date

    torch.set_num_threads(1)
    clock = time.process_time()
    results = {
        f"{name}_{blocks}": [fashion_run(name, blocks, seed) for seed in seeds]
        for blocks in (1, 9)
        for name in CONV
    }
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        cpu = platform.processor() or platform.machine()
    return {
        "data": "Fashion-MNIST (Xiao, Rasul, Vollgraf 2017), first 6000 images, halved to 14x14",
        "command": "python -m snippets.vision.resnet --record",
        "date": date.today().isoformat(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "machine": f"{cpu}, {os.cpu_count()} cores, {platform.system()}",
        "cpu_seconds": round(time.process_time() - clock, 1),
        "seeds": list(seeds),
        "results": results,
    }


if __name__ == "__main__":
    import sys

    if "--record" in sys.argv:
        RECORD.parent.mkdir(exist_ok=True)
        RECORD.write_text(json.dumps(record()).replace("}, {", "},\n{") + "\n")
        sys.exit()
    print("plain and residual, depth 40", plain_vs_residual(40))
    print("signal", experiment_signal(0))
    figure_training()
    figure_gradient()
    plt.show()
