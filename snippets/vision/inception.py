"""1x1 convolutions, GoogLeNet's module, Inception-A: what they cost and what they buy.

Costs are exact counts; accuracies come from scikit-learn's bundled digits and from generated
stripes. Everything runs on the CPU.
"""

# --8<-- [start:imports]
import copy
import json
import math
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

from snippets.data import load_digits, load_fashion_mnist

# --8<-- [end:imports]

RECORD = Path(__file__).resolve().parents[2] / "records" / "inception.json"


# --8<-- [start:conv_mults]
def conv_mults(c_in: int, c_out: int, k: int, h: int, w: int) -> int:
    """Multiplications of one k x k convolution, equation (2); h, w: size of its output."""
    return h * w * c_out * c_in * k * k


# --8<-- [end:conv_mults]


# --8<-- [start:googlenet]
GOOGLENET = {  # size of the map; channels: 1x1, reduce, 3x3, reduce, 5x5, after the pooling
    "3a": (28, (64, 96, 128, 16, 32, 32)),
    "3b": (28, (128, 128, 192, 32, 96, 64)),
    "4a": (14, (192, 96, 208, 16, 48, 64)),
    "4b": (14, (160, 112, 224, 24, 64, 64)),
    "4c": (14, (128, 128, 256, 24, 64, 64)),
    "4d": (14, (112, 144, 288, 32, 64, 64)),
    "4e": (14, (256, 160, 320, 32, 128, 128)),
    "5a": (7, (256, 160, 320, 32, 128, 128)),
    "5b": (7, (384, 192, 384, 48, 128, 128)),
}


def naive_module(c_in: int, channels: tuple[int, ...], size: int) -> tuple[int, int]:
    """Output channels and multiplications of 1x1, 3x3, 5x5 and max pooling side by side."""
    one, _, three, _, five, _ = channels
    branches = ((one, 1), (three, 3), (five, 5))
    mults = sum(conv_mults(c_in, c, k, size, size) for c, k in branches)
    return one + three + five + c_in, mults


# --8<-- [end:googlenet]


# --8<-- [start:reduced]
def reduced_module(c_in: int, channels: tuple[int, ...], size: int) -> tuple[int, int]:
    """The same with GoogLeNet's 1x1 convolutions: before 3x3 and 5x5, after the pooling."""
    one, to_three, three, to_five, five, pool = channels
    convolutions = (
        (c_in, one, 1),
        (c_in, to_three, 1),
        (to_three, three, 3),
        (c_in, to_five, 1),
        (to_five, five, 5),
        (c_in, pool, 1),
    )
    mults = sum(conv_mults(a, b, k, size, size) for a, b, k in convolutions)
    return one + three + five + pool, mults


def stack(module: Callable[..., tuple[int, int]], c_in: int = 192) -> list[tuple[int, int]]:
    """Output channels and multiplications of each of GoogLeNet's nine modules in turn."""
    out = []
    for size, channels in GOOGLENET.values():
        c_in, mults = module(c_in, channels, size)
        out.append((c_in, mults))
    return out


# --8<-- [end:reduced]


# --8<-- [start:pointwise]
def pointwise_as_linear(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """A 1x1 convolution done as a linear layer on the channels of each pixel.

    x: (B, C_in, H, W); returns (B, C_out, H, W).

    Raises:
        ValueError: the convolution is not a plain 1x1.
    """
    if conv.kernel_size != (1, 1) or conv.stride != (1, 1) or conv.padding != (0, 0):
        raise ValueError(f"not a plain 1x1 convolution: {conv}")
    weight = conv.weight[:, :, 0, 0]  # (C_out, C_in)
    pixels = x.permute(0, 2, 3, 1)  # (B, H, W, C_in)
    return F.linear(pixels, weight, conv.bias).permute(0, 3, 1, 2)


# --8<-- [end:pointwise]


# --8<-- [start:break_even]
def bottleneck_mults(c_in: int, r: int, c_out: int, k: int, h: int, w: int) -> int:
    """Multiplications of a 1x1 convolution to r channels, then a k x k one, equation (4)."""
    return conv_mults(c_in, r, 1, h, w) + conv_mults(r, c_out, k, h, w)


def break_even(c_in: int, c_out: int, k: int) -> float:
    """The width at which the 1x1 in front saves nothing, equation (5)."""
    return 1 / (1 / c_in + 1 / (k * k * c_out))


# --8<-- [end:break_even]


# --8<-- [start:count]
def count_mults(net: nn.Module, x: Tensor) -> int:
    """Multiplications of all convolutions and linear layers in net(x), by forward hooks.

    Runs under torch.device("meta") as well, where nothing is computed.
    """
    total = 0

    def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        total += output.numel() * layer.weight[0].numel()  # one output costs one row of weights

    layers = [m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    handles = [layer.register_forward_hook(hook) for layer in layers]
    with torch.no_grad():
        net(x)
    for handle in handles:
        handle.remove()
    return total


# --8<-- [end:count]


# --8<-- [start:merge]
def merge(pointwise: nn.Conv2d, spatial: nn.Conv2d) -> Tensor:
    """The one k x k kernel that equals 1x1, then k x k, with nothing between; no biases.

    Returns (C_out, C_in, k, k): equation (6).
    """
    return torch.einsum("orhw,ri->oihw", spatial.weight, pointwise.weight[:, :, 0, 0])


# --8<-- [end:merge]


# --8<-- [start:basic]
class BasicConv2d(nn.Module):
    """Convolution without bias, batch normalization, ReLU; (B, C_in, H, W) to (B, C_out, ., .)."""

    def __init__(self, c_in: int, c_out: int, kernel_size: int, padding: int = 0):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel_size, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(c_out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


# --8<-- [end:basic]


# --8<-- [start:inception_a]
class InceptionA(nn.Module):
    """Inception-v3's first module (Szegedy et al. 2015): c_in to 224 + pool_features channels."""

    def __init__(self, c_in: int, pool_features: int):
        super().__init__()
        self.branch1x1 = BasicConv2d(c_in, 64, 1)
        self.branch5x5_1 = BasicConv2d(c_in, 48, 1)
        self.branch5x5_2 = BasicConv2d(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = BasicConv2d(c_in, 64, 1)
        self.branch3x3dbl_2 = BasicConv2d(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = BasicConv2d(96, 96, 3, padding=1)
        self.branch_pool = BasicConv2d(c_in, pool_features, 1)

    def forward(self, x: Tensor) -> Tensor:
        branches = [
            self.branch1x1(x),  # (B, 64, H, W)
            self.branch5x5_2(self.branch5x5_1(x)),  # (B, 64, H, W)
            self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x))),  # (B, 96, H, W)
            self.branch_pool(F.avg_pool2d(x, 3, stride=1, padding=1)),  # (B, pool_features, H, W)
        ]
        return torch.cat(branches, 1)


# --8<-- [end:inception_a]


# --8<-- [start:conv_relu]
def conv_relu(c_in: int, c_out: int, kernel_size: int, padding: int = 0) -> nn.Module:
    """Convolution with bias, ReLU: what the paper of 2014 used."""
    return nn.Sequential(nn.Conv2d(c_in, c_out, kernel_size, padding=padding), nn.ReLU())


# --8<-- [end:conv_relu]


# --8<-- [start:inception_v1]
class InceptionV1(nn.Module):
    """GoogLeNet's module (Szegedy et al. 2014), channels as in GOOGLENET; H and W stay.

    conv: conv_relu is the paper's; BasicConv2d with large=3 is torchvision's.
    """

    def __init__(
        self,
        c_in: int,
        channels: tuple[int, ...],
        conv: Callable[..., nn.Module] = conv_relu,
        large: int = 5,
    ):
        super().__init__()
        one, to_three, three, to_five, five, pool = channels
        pad = large // 2
        self.branch1 = conv(c_in, one, 1)
        self.branch2 = nn.Sequential(conv(c_in, to_three, 1), conv(to_three, three, 3, padding=1))
        self.branch3 = nn.Sequential(
            conv(c_in, to_five, 1), conv(to_five, five, large, padding=pad)
        )
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), conv(c_in, pool, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


# --8<-- [end:inception_v1]


# --8<-- [start:nin]
def nin_block(c_in: int, c_out: int, k: int, padding: int = 0) -> nn.Sequential:
    """NiN's mlpconv (Lin et al. 2013): a k x k convolution, then two 1x1, ReLU after each."""
    return nn.Sequential(
        conv_relu(c_in, c_out, k, padding),
        conv_relu(c_out, c_out, 1),
        conv_relu(c_out, c_out, 1),
    )


# --8<-- [end:nin]


# --8<-- [start:heads]
def gap_head(channels: int, classes: int) -> nn.Sequential:
    """Global average pooling, then one linear layer; (B, channels, H, W) to (B, classes)."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def fc_head(channels: int, size: int, classes: int) -> nn.Sequential:
    """One linear layer on all channels * size * size numbers; the map must be size x size."""
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size * size, classes))


# --8<-- [end:heads]


# --8<-- [start:small_net]
def small_net(stem: int, block: nn.Module, channels: int, head: nn.Module) -> nn.Sequential:
    """A 3x3 convolution with stride 2, the block under test, a head; (B, 1, H, W) to logits."""
    return nn.Sequential(
        nn.Conv2d(1, stem, 3, stride=2, padding=1),
        nn.BatchNorm2d(stem),
        nn.ReLU(),
        block,  # (B, channels, H/2, W/2)
        nn.BatchNorm2d(channels),
        head,
    )


def bottleneck(c_in: int, r: int, c_out: int, k: int = 3) -> nn.Sequential:
    """1x1 to r channels, then k x k to c_out, ReLU after each."""
    return nn.Sequential(conv_relu(c_in, r, 1), conv_relu(r, c_out, k, padding=k // 2))


# --8<-- [end:small_net]


# --8<-- [start:train]
Loss = Callable[[Tensor, Tensor], Tensor]


def train(
    net: nn.Module,
    X: Tensor,
    y: Tensor,
    seed: int,
    steps: int = 80,
    loss: Loss = F.cross_entropy,
) -> None:
    """Adam on batches of 32 drawn with replacement; the rate falls linearly from 0.02 to 0."""
    g = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(net.parameters(), fused=True)
    net.train()
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / steps)
        batch = torch.randint(len(X), (32,), generator=g)
        optimizer.zero_grad()
        loss(net(X[batch]), y[batch]).backward()
        optimizer.step()


@torch.no_grad()
def accuracy(net: nn.Module, X: Tensor, y: Tensor) -> float:
    """Share of the samples classified as y says; leaves the net in eval() mode."""
    return (net.eval()(X).argmax(1) == y).float().mean().item()


# --8<-- [end:train]


# --8<-- [start:stripes]
def stripes(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy stripes in four directions, 45 degrees apart, as wide as chance will have them.

    Returns images (n, 1, 12, 12), directions (n,) in 0..3, periods (n,) in pixels, 2.5 to 9.
    """
    y = torch.randint(4, (n,), generator=generator)
    period = 2.5 * (9 / 2.5) ** torch.rand(n, generator=generator)
    phase = 2 * math.pi * torch.rand(n, 1, 1, generator=generator)
    row, column = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij")
    angle = (y * math.pi / 4).view(n, 1, 1)
    along = column * angle.cos() + row * angle.sin()  # (n, 12, 12)
    wave = torch.sin(2 * math.pi * along / period.view(n, 1, 1) + phase)
    noise = torch.randn(n, 12, 12, generator=generator)
    return (wave + 1.5 * noise).unsqueeze(1), y, period


# --8<-- [end:stripes]


# --8<-- [start:blocks]
BLOCKS = {  # 16 channels in, nearly the same multiplications a pixel; the channels that come out
    "branches": (lambda: InceptionV1(16, (8, 6, 12, 3, 6, 6)), 32),
    "small": (lambda: bottleneck(16, 5, 32, k=3), 32),
    "large": (lambda: bottleneck(16, 4, 14, k=5), 14),
    "direct": (lambda: conv_relu(16, 10, 3, padding=1), 10),
}


def block_net(name: str, classes: int, seed: int) -> nn.Sequential:
    """An untrained small net with one of the BLOCKS."""
    torch.manual_seed(seed)
    block, channels = BLOCKS[name]
    return small_net(16, block(), channels, gap_head(channels, classes))


# --8<-- [end:blocks]


# --8<-- [start:deep]
class DeepNet(nn.Module):
    """Nine Linear(-BatchNorm)-ReLU layers of 32 units; while training, two side heads as well.

    In training mode with aux=True it returns (logits, after layer 6, after layer 3), the order
    of torchvision's GoogLeNet; otherwise the logits alone.
    """

    def __init__(self, norm: bool, aux: bool):
        super().__init__()
        self.layers = nn.ModuleList()
        for d in [64] + 8 * [32]:
            layer = [nn.Linear(d, 32)] + ([nn.BatchNorm1d(32)] if norm else []) + [nn.ReLU()]
            self.layers.append(nn.Sequential(*layer))
        self.head, self.side = nn.Linear(32, 10), nn.ModuleList([nn.Linear(32, 10) for _ in "ab"])
        self.aux = aux

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        seen = {}
        for depth, layer in enumerate(self.layers, 1):
            seen[depth] = x = layer(x)  # (B, 32)
        if self.training and self.aux:
            return self.head(x), self.side[1](seen[6]), self.side[0](seen[3])
        return self.head(x)


# --8<-- [end:deep]


# --8<-- [start:aux_loss]
def aux_loss(outputs: Tensor | tuple[Tensor, ...], y: Tensor, weight: float = 0.3) -> Tensor:
    """Cross-entropy of the first output, plus weight times that of each other one."""
    if isinstance(outputs, Tensor):
        return F.cross_entropy(outputs, y)
    main, *others = outputs
    return F.cross_entropy(main, y) + weight * sum(F.cross_entropy(o, y) for o in others)


# --8<-- [end:aux_loss]


# --8<-- [start:gradients]
def layer_gradients(net: DeepNet, X: Tensor, y: Tensor) -> list[float]:
    """Norm of the loss's gradient with respect to each layer's weights, first layer first."""
    aux_loss(net.train()(X), y).backward()
    return [layer[0].weight.grad.norm().item() for layer in net.layers]


# --8<-- [end:gradients]


def digit_images() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The digits as images: (1437, 1, 8, 8), (1437,), (360, 1, 8, 8), (360,)."""
    X, y, X_test, y_test = load_digits()
    return X.view(-1, 1, 8, 8), y, X_test.view(-1, 1, 8, 8), y_test


def shift(X: Tensor, down: int, right: int) -> Tensor:
    """Move images (n, 1, H, W) by 0 to 2 pixels; zeros come in, what leaves is lost."""
    h, w = X.shape[2:]
    return F.pad(X, (right, 0, down, 0))[:, :, :h, :w]


def digits_runs(seed: int, steps: int, heads: bool = True) -> dict[str, float]:
    """Digits: a full 3x3, one behind a 1x1, a narrow one at the same cost.

    heads: compare the pooled head with a flat one as well, on moved images and on few.
    """
    X, y, X_test, y_test = digit_images()
    few = torch.randperm(1437, generator=torch.Generator().manual_seed(seed))[:100]
    parts = {
        "direct": lambda: (conv_relu(32, 32, 3, padding=1), 32, gap_head(32, 10)),
        "r8": lambda: (bottleneck(32, 8, 32), 32, gap_head(32, 10)),
        "narrow": lambda: (conv_relu(32, 9, 3, padding=1), 9, gap_head(9, 10)),
        "r1": lambda: (bottleneck(32, 1, 32), 32, gap_head(32, 10)),
    }
    if heads:
        parts["flat"] = lambda: (conv_relu(32, 32, 3, padding=1), 32, fc_head(32, 4, 10))
    out = {}
    for name, make in parts.items():
        torch.manual_seed(seed)
        net = small_net(32, *make())
        start = copy.deepcopy(net)
        train(net, X, y, seed, steps)
        out[name] = accuracy(net, X_test, y_test)
        if heads and name in ("direct", "flat"):
            out[f"{name}_moved"] = accuracy(net, shift(X_test, 2, 0), y_test)
            train(start, X[few], y[few], seed, steps)
            out[f"{name}_few"] = accuracy(start, X_test, y_test)
    return out


EDGES = (2.5, 3.2, 4.2, 5.4, 7.0, 9.0)  # of the periods' five groups, in pixels


def stripes_runs(seed: int, steps: int, groups: int = 5) -> dict[str, float]:
    """Four blocks of equal cost on stripes of many widths: in all, and in groups of widths."""
    X, y, _ = stripes(3000, torch.Generator().manual_seed(seed))
    X_test, y_test, period = stripes(1000, torch.Generator().manual_seed(1000 + seed))
    group = torch.bucketize(period, torch.tensor(EDGES[1:-1]))
    out = {}
    for name in BLOCKS:
        net = block_net(name, 4, seed)
        train(net, X, y, seed, steps)
        out[name] = accuracy(net, X_test, y_test)
        for i in range(groups):
            out[f"{name}_{i}"] = accuracy(net, X_test[group == i], y_test[group == i])
    return out


def fashion_runs(seed: int, steps: int) -> dict[str, float]:
    """The same four blocks on Fashion-MNIST, 28x28."""
    X, y, X_test, y_test = load_fashion_mnist()
    out = {}
    for name in BLOCKS:
        net = block_net(name, 10, seed)
        train(net, X.unsqueeze(1), y, seed, steps)
        out[name] = accuracy(net, X_test.unsqueeze(1), y_test)
    return out


def aux_runs(seed: int, steps: int) -> dict[str, float]:
    """Nine layers on the digits, with and without side heads, with and without batch norm."""
    X, y, X_test, y_test = load_digits()
    out = {}
    for name, norm in (("plain", False), ("bn", True)):
        for aux in (False, True):
            torch.manual_seed(seed)
            net = DeepNet(norm, aux)
            key = f"{name}_aux" if aux else name
            out[f"{key}_gradient"] = layer_gradients(net, X[:256], y[:256])[0]
            train(net, X, y, seed, steps, loss=aux_loss)
            out[key] = accuracy(net, X_test, y_test)
    return out


def experiment_digits(seed: int) -> dict[str, float]:
    """digits_runs, 60 steps, without the heads."""
    return digits_runs(seed, 60, heads=False)


def experiment_stripes(seed: int) -> dict[str, float]:
    """stripes_runs, 50 steps, all widths together."""
    return stripes_runs(seed, 50, groups=0)


def experiment_aux(seed: int) -> dict[str, float]:
    """aux_runs, 60 steps."""
    return aux_runs(seed, 60)


def experiment_xor(seed: int) -> dict[str, float]:
    """Per pixel, are the signs of two channels equal? One 1x1 against 1x1-ReLU-1x1."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(300, 2, 4, 4, generator=g)
    y = (x[:, 0] * x[:, 1] > 0).long()  # (300, 4, 4)
    torch.manual_seed(seed)
    nets = {
        "one": nn.Conv2d(2, 2, 1),
        "relu": nn.Sequential(nn.Conv2d(2, 16, 1), nn.ReLU(), nn.Conv2d(16, 2, 1)),
    }
    out = {}
    for name, net in nets.items():
        train(net, x[:200], y[:200], seed, steps=60)
        out[name] = accuracy(net, x[200:], y[200:])
    return out


def draw_module(ax: Axes, c_in: int, branches: list[list[str]], title: str) -> None:
    """Draw a module from the input below to the concatenation above; a label: one box."""
    ink = plt.rcParams["text.color"]
    top = max(len(branch) for branch in branches) + 1
    frame = {"boxstyle": "round,pad=0.25", "facecolor": "none"}

    def box(x: float, y: float, text: str, colour: str) -> None:
        ax.text(x, y, text, ha="center", va="center", bbox={**frame, "edgecolor": colour})

    for x, branch in enumerate(branches):
        edge = min(max(x, 0.8), 2.2)  # where the branch meets the wide boxes
        stops = [(edge, 0.2)]
        for i in range(len(branch)):
            stops += [(x, 0.66 + i), (x, 1.34 + i)]  # lower and upper side of a box
        stops.append((edge, top - 0.2))
        for start, end in zip(stops[::2], stops[1::2], strict=True):
            arrow = {"arrowstyle": "-|>", "color": ink, "shrinkA": 0, "shrinkB": 0, "lw": 1}
            ax.annotate("", end, start, arrowprops=arrow)
        for i, label in enumerate(branch):
            colour = "C2" if "pool" in label else "C0" if label.startswith("1x1") else "C3"
            box(x, 1.0 + i, label, colour)
    outputs = [int(branch[-1].split()[-1]) for branch in branches]
    box(1.5, 0, f"input, {c_in} channels", ink)
    box(1.5, top, f"concat: {' + '.join(map(str, outputs))} = {sum(outputs)}", ink)
    ax.set(xlim=(-0.5, 3.5), ylim=(-0.4, top + 0.4), title=title)
    ax.axis("off")


def figure_modules() -> Figure:
    """GoogLeNet's first module, and the one of Inception-v3 that the notes print."""
    fig, axes = plt.subplots(
        2, 1, figsize=(4.8, 6.6), layout="constrained", height_ratios=(3.8, 4.8)
    )
    v1 = [
        ["1x1\n64"],
        ["1x1\n96", "3x3\n128"],
        ["1x1\n16", "5x5\n32"],
        ["max pool\n3x3", "1x1\n32"],
    ]
    a = [
        ["1x1\n64"],
        ["1x1\n48", "5x5\n64"],
        ["1x1\n64", "3x3\n96", "3x3\n96"],
        ["avg pool\n3x3", "1x1\n32"],
    ]
    draw_module(axes[0], 192, v1, "GoogLeNet, module 3a")
    draw_module(axes[1], 192, a, "Inception-v3, module A")
    return fig


def figure_growth() -> Figure:
    """Channels after each of the nine modules, with and without the 1x1 convolutions."""
    fig, ax = plt.subplots(layout="constrained")
    for module, style, label in (
        (naive_module, "C3s-", "naive"),
        (reduced_module, "C0o-", "with 1x1"),
    ):
        ax.plot(list(GOOGLENET), [c for c, _ in stack(module)], style, label=label)
    ax.set(xlabel="module", ylabel="output channels", ylim=(0, None))
    ax.grid(True)
    ax.legend(loc="upper left", frameon=False)
    return fig


def figure_cost() -> Figure:
    """Multiplications of a 3x3 convolution on 192 channels, direct and behind a 1x1 to 96."""
    fig, axes = plt.subplots(2, 1, figsize=(4.8, 3.6), layout="constrained")
    for ax, c_out in zip(axes, (256, 16), strict=True):
        direct = conv_mults(192, c_out, 3, 32, 32) / 1e6
        first = conv_mults(192, 96, 1, 32, 32) / 1e6
        second = conv_mults(96, c_out, 3, 32, 32) / 1e6
        ax.barh(["direct"], [direct], color="C3")
        ax.barh(["via 96"], [first], color="C0")
        ax.barh(["via 96"], [second], left=[first], color="C3")
        for row, total in enumerate((direct, first + second)):
            ax.text(total, row, f" {total:.1f}", va="center")
        ax.set(title=f"{c_out} output channels", xlim=(0, 1.2 * max(direct, first + second)))
        ax.invert_yaxis()
    axes[1].set_xlabel("million multiplications (blue: the 1x1)")
    return fig


def figure_break_even() -> Figure:
    """Cost of 1x1 to r, then 3x3, over that of the direct 3x3, from 192 channels."""
    fig, ax = plt.subplots(layout="constrained")
    widths = range(1, 193)
    for c_out, style in ((256, "C0-"), (64, "C1--"), (16, "C3:")):
        direct = conv_mults(192, c_out, 3, 1, 1)
        ratio = [bottleneck_mults(192, r, c_out, 3, 1, 1) / direct for r in widths]
        ax.plot(widths, ratio, style, linewidth=2, label=f"{c_out} output channels")
        ax.plot([break_even(192, c_out, 3)], [1], style[:2] + "o")
    ax.axhline(1, color=plt.rcParams["text.color"], linewidth=1)
    ax.set(xlabel="width $r$ of the 1x1", ylabel="cost / direct cost", ylim=(0, 2.4), xlim=(0, 192))
    ax.grid(True)
    ax.legend(loc="upper left", frameon=False)
    return fig


def figure_stripes() -> Figure:
    """Recorded test accuracy of the four blocks against the period of the stripes."""
    fig, ax = plt.subplots(figsize=(4.8, 3.8), layout="constrained")
    runs = json.loads(RECORD.read_text())["results"]["stripes"]
    centres = [math.sqrt(a * b) for a, b in pairwise(EDGES)]
    styles = {"branches": "C0o-", "small": "C1s--", "large": "C2^--", "direct": "C3D:"}
    labels = {"small": "1x1, 3x3", "large": "1x1, 5x5", "direct": "3x3 alone"}
    for name, style in styles.items():
        values = torch.tensor([[run[f"{name}_{i}"] for i in range(5)] for run in runs])
        ax.plot(centres, values.mean(0), style, label=labels.get(name, "four branches"))
    ax.set(xlabel="period of the stripes (pixels)", ylabel="test accuracy", ylim=(0.86, 1))
    ax.grid(True)
    ax.legend(loc="lower right", frameon=False)
    return fig


def record(seeds: range = range(5), steps: int = 300) -> dict:
    """Train everything five times as long and return what records/inception.json holds."""
    import platform
    import time
    from datetime import date

    torch.set_num_threads(1)
    clock = time.process_time()
    runs = {
        "digits": digits_runs,
        "stripes": stripes_runs,
        "fashion": fashion_runs,
        "aux": aux_runs,
    }
    results = {name: [run(seed, steps) for seed in seeds] for name, run in runs.items()}
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        cpu = platform.processor() or platform.machine()
    return {
        "data": "load_digits; generated stripes; Fashion-MNIST (Xiao, Rasul, Vollgraf 2017)",
        "command": "python -m snippets.vision.inception --record",
        "date": date.today().isoformat(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "machine": f"{cpu}, {os.cpu_count()} cores, {platform.system()}",
        "cpu_seconds": round(time.process_time() - clock, 1),
        "seeds": list(seeds),
        "steps": steps,
        "results": results,
    }


if __name__ == "__main__":
    import sys

    if "--record" in sys.argv:
        RECORD.parent.mkdir(exist_ok=True)
        RECORD.write_text(json.dumps(record()).replace('}, {"', '},\n{"') + "\n")
        sys.exit()
    print("direct, behind a 1x1:", conv_mults(192, 256, 3, 32, 32), end=" ")
    print(bottleneck_mults(192, 96, 256, 3, 32, 32))
    for experiment in (experiment_digits, experiment_stripes, experiment_aux, experiment_xor):
        print(experiment.__name__, experiment(0))
    figure_modules()
    figure_break_even()
    plt.show()
