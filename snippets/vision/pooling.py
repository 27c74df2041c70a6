"""Pooling and the design of small convolutional networks: what pooling keeps, loses and buys.

The data are scikit-learn's bundled digits, put into a black frame so that they can be moved.
Everything runs on the CPU.
"""

# --8<-- [start:imports]
import copy
from collections.abc import Sequence
from functools import cache

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor, nn
from torch.nn import functional as F

from snippets.data import batches, load_digits

# --8<-- [end:imports]


# --8<-- [start:frame]
def frame(X: Tensor, dy: int = 0, dx: int = 0, margin: int = 2) -> Tensor:
    """Put digits (N, 64) into black frames, dy pixels below and dx right of the middle.

    Returns (N, 1, 8 + 2 margin, 8 + 2 margin); |dy| and |dx| are at most the margin.
    """
    left, top = margin + dx, margin + dy
    return F.pad(X.view(-1, 1, 8, 8), (left, 2 * margin - left, top, 2 * margin - top))


# --8<-- [end:frame]


# --8<-- [start:net]
Down = tuple[int, nn.Module]  # stride of the convolution, what follows its ReLU

NONE: Down = (1, nn.Identity())
MAX: Down = (1, nn.MaxPool2d(2))
AVERAGE: Down = (1, nn.AvgPool2d(2))
STRIDE: Down = (2, nn.Identity())


def make_net(*blocks: Down, size: int = 12, channels: int = 8) -> nn.Sequential:
    """Blocks of conv 3x3, batch norm, ReLU, pooling; then one linear layer.

    Maps (N, 1, size, size) to (N, 10). The channels double from block to block; torch's global
    seed sets the weights.
    """
    layers, c_in, c_out = [], 1, channels
    for stride, pool in blocks:
        layers += [nn.Conv2d(c_in, c_out, 3, stride=stride, padding=1, bias=False)]
        layers += [nn.BatchNorm2d(c_out), nn.ReLU(), pool]
        c_in, c_out = c_out, 2 * c_out
    net = nn.Sequential(*layers, nn.Flatten())
    width = net.eval()(torch.zeros(1, 1, size, size)).shape[1]  # (1)!
    return net.append(nn.Linear(width, 10)).train()


# --8<-- [end:net]


# --8<-- [start:train]
def train(
    net: nn.Module,
    X: Tensor,
    y: Tensor,
    epochs: int,
    seed: int,
    optimizer: torch.optim.Optimizer | None = None,
) -> nn.Module:
    """Minimise the cross-entropy, by Adam unless told otherwise, 50 images a step.

    X: (N, 1, H, W), y: (N,). Returns the net, in train() mode.
    """
    g = torch.Generator().manual_seed(seed)
    optimizer = optimizer or torch.optim.Adam(net.parameters(), lr=0.02)
    net.train()
    for _ in range(epochs):
        for images, labels in batches(X, y, 50, g):
            optimizer.zero_grad()
            F.cross_entropy(net(images), labels).backward()
            optimizer.step()
    return net


# --8<-- [end:train]


# --8<-- [start:accuracy]
@torch.no_grad()
def accuracy(net: nn.Module, X: Tensor, y: Tensor) -> float:
    """Share of the images (N, 1, H, W) classified as y (N,) says; leaves the net in eval()."""
    net.eval()
    return (net(X).argmax(1) == y).float().mean().item()


def moved_accuracy(net: nn.Module, X: Tensor, y: Tensor, shift: int, margin: int = 2) -> float:
    """Accuracy on digits X (N, 64) moved by `shift` pixels, mean of left and right."""
    moves = {-shift, shift}
    return sum(accuracy(net, frame(X, 0, dx, margin), y) for dx in moves) / len(moves)


# --8<-- [end:accuracy]


# --8<-- [start:pool2d]
def pool2d(x: Tensor, k: int, stride: int | None = None, mode: str = "max") -> Tensor:
    """Pool k x k windows, equations (1) to (3); the stride is k unless given.

    x: (N, C, H, W); returns (N, C, (H - k) // stride + 1, (W - k) // stride + 1).

    Raises:
        ValueError: mode is not "max", "avg" or "l2".
    """
    stride = stride or k
    windows = x.unfold(2, k, stride).unfold(3, k, stride)  # (N, C, H', W', k, k)
    if mode == "max":
        return windows.amax((-2, -1))
    if mode == "avg":
        return windows.mean((-2, -1))
    if mode == "l2":
        return windows.square().sum((-2, -1)).sqrt()
    raise ValueError(f"mode is max, avg or l2, not {mode}")


# --8<-- [end:pool2d]


# --8<-- [start:change]
def change(pool: nn.Module, x: Tensor, dx: int) -> tuple[Tensor, Tensor]:
    """What a shift by dx columns does behind a pooling layer: to the values, to their sum.

    x: (N, 1, H, W), black at the sides. Returns the relative change of the N outputs, and of
    their sums, each (N,).
    """
    before, after = pool(x).flatten(1), pool(x.roll(dx, 3)).flatten(1)  # (N, H' W')
    values = (after - before).norm(dim=1) / before.norm(dim=1)
    return values, (after.sum(1) / before.sum(1) - 1).abs()


# --8<-- [end:change]


# --8<-- [start:blur]
class BlurPool(nn.Module):
    """Maximum of 2x2 windows at stride 1, then a blur by 1, 2, 1 at stride 2 (Zhang 2019)."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H / 2, W / 2); H and W are even."""
        x = F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 2, stride=1)  # (N, C, H + 1, W + 1)
        return F.avg_pool2d(F.avg_pool2d(x, 2, stride=1), 2)  # (1)!


# --8<-- [end:blur]


# --8<-- [start:receptive_field]
def receptive_field(layers: Sequence[tuple[int, int]]) -> int:
    """Side of the input region one output sees, by equation (6); layers: (kernel, stride)."""
    field, step = 1, 1
    for kernel, stride in layers:
        field += (kernel - 1) * step
        step *= stride
    return field


# --8<-- [end:receptive_field]


# --8<-- [start:by_gradient]
def rf_by_gradient(net: nn.Sequential, size: int) -> int:
    """The same, counted: input rows that have a gradient from one output of the middle.

    Convolutions get positive weights and maxima become means, so that no path cancels or is cut.
    """
    layers = []
    for layer in copy.deepcopy(net):
        if isinstance(layer, nn.MaxPool2d):
            layer = nn.AvgPool2d(layer.kernel_size, layer.stride, layer.padding)
        for parameter in layer.parameters():
            nn.init.constant_(parameter, 0.1)
        layers.append(layer)
    x = torch.ones(1, net[0].in_channels, size, size, dtype=torch.float64, requires_grad=True)
    out = nn.Sequential(*layers).double()(x)  # (1, C, H', W')
    out[0, 0, out.shape[2] // 2, out.shape[3] // 2].backward()
    return int((x.grad[0, 0].sum(1) > 0).sum())


# --8<-- [end:by_gradient]


# --8<-- [start:effective]
def gradient_map(depth: int, channels: int, trials: int, g: torch.Generator) -> Tensor:
    """Squared gradient of one output of `depth` 3x3 convolutions and ReLUs, over the input.

    Mean over random networks, each scaled to sum 1; returns (2 depth + 1, 2 depth + 1).
    """
    size = 2 * depth + 1
    total = torch.zeros(size, size)
    for _ in range(trials):
        x = torch.randn(1, 1, size, size, generator=g).requires_grad_()
        h = x
        for layer in range(depth):
            weight = torch.randn(channels, h.shape[1], 3, 3, generator=g)
            h = F.conv2d(h, weight * (2 / 9 / h.shape[1]) ** 0.5)
            h = h if layer == depth - 1 else torch.relu(h)
        energy = torch.autograd.grad(h.sum(), x)[0][0, 0].square()
        total += energy / energy.sum() / trials
    return total


def spread(energy: Tensor) -> float:
    """Standard deviation, in pixels, of a map (s, s) that sums to 1, along one axis."""
    offset = torch.arange(len(energy)) - len(energy) // 2
    return (energy.sum(0) * offset.square()).sum().sqrt().item()


# --8<-- [end:effective]


# --8<-- [start:stack]
def params_stack(k: int, n: int, c: int, c_in: int | None = None) -> int:
    """Weights, without biases, of n convolutions k x k with c channels; c_in enter the first."""
    first = c if c_in is None else c_in
    return k * k * c * (first + (n - 1) * c)


# --8<-- [end:stack]


# --8<-- [start:lenet]
class LeNetLike(nn.Module):
    """Two rounds of convolution, activation and pooling, then three linear layers.

    LeNet's own sizes are size 32, padding 0; the digits of 8x8 want size 8, padding 2.
    """

    def __init__(
        self, act=nn.ReLU, pool=nn.MaxPool2d, norm: bool = False, size: int = 32, padding: int = 0
    ):
        super().__init__()
        layers = []
        for c_in, c_out in ((1, 6), (6, 16)):
            layers += [nn.Conv2d(c_in, c_out, 5, padding=padding)]
            layers += [nn.BatchNorm2d(c_out)] if norm else []
            layers += [act(), pool(2)]
            size = (size + 2 * padding - 4) // 2
        layers += [nn.Flatten()]
        for fan_in, fan_out in ((16 * size**2, 120), (120, 84)):
            layers += [nn.Linear(fan_in, fan_out)]
            layers += [nn.BatchNorm1d(fan_out)] if norm else []
            layers += [act()]
        self.layers = nn.Sequential(*layers, nn.Linear(84, 10))

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 1, size, size) to logits (N, 10)."""
        return self.layers(x)


# --8<-- [end:lenet]


# --8<-- [start:lenet_run]
def lenet_start(seed: int, **options) -> LeNetLike:
    """Make an untrained LeNetLike(**options) for 8x8 images, with Xavier's weights."""
    torch.manual_seed(seed)
    net = LeNetLike(**options, size=8, padding=2)
    for parameter in net.parameters():
        if parameter.ndim > 1:
            nn.init.xavier_uniform_(parameter)
    return net


def lenet_run(seed: int, epochs: int, **options) -> tuple[LeNetLike, float]:
    """Train it on 1200 digits by SGD, 24 steps an epoch; return it and its test accuracy."""
    X, y, X_test, y_test = load_digits()
    net = lenet_start(seed, **options)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.3)
    train(net, frame(X[:1200], margin=0), y[:1200], epochs, seed, optimizer=optimizer)
    return net, accuracy(net, frame(X_test, margin=0), y_test)


# --8<-- [end:lenet_run]


# --8<-- [start:signal]
@torch.no_grad()
def signal(net: LeNetLike, X: Tensor) -> list[float]:
    """How much the images (N, 1, H, W) differ after every convolution and linear layer.

    The standard deviation over the images, mean over channels and places.
    """
    out, h = [], X
    for layer in net.layers:
        h = layer(h)
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            out.append(h.std(0).mean().item())
    return out


# --8<-- [end:signal]


# --8<-- [start:squash]
class Squash(nn.Module):
    """The sigmoid, made steep (slope 1 in the middle, not 1/4), centred around 0, or both: tanh."""

    def __init__(self, steep: bool, centred: bool):
        super().__init__()
        self.factor, self.centred = (2 if steep else 1), centred

    def forward(self, x: Tensor) -> Tensor:
        y = self.factor * torch.sigmoid(self.factor * x)
        return y - self.factor / 2 if self.centred else y


# --8<-- [end:squash]


# --8<-- [start:moved]
def moved_copies(X: Tensor, y: Tensor, copies: int, seed: int) -> tuple[Tensor, Tensor]:
    """Frames of every digit `copies` times, each moved by a random -2 ... 2 in both directions."""
    g = torch.Generator().manual_seed(seed)
    places = torch.stack([frame(X, dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)])
    choice = torch.randint(25, (copies, len(X)), generator=g)
    return places[choice, torch.arange(len(X))].flatten(0, 1), y.repeat(copies)


# --8<-- [end:moved]


# --8<-- [start:position]
def column_accuracy(window: int, conv: bool, seed: int) -> float:
    """In which of 8 columns is the bright pixel? Share a linear layer tells behind max pooling.

    All 64 images of 8x8 with one bright pixel; features are pooled pixels, or 8 random 3x3
    convolutions (circular, so that no border gives the place away) and ReLU, then pooled. The
    linear layer is the least-squares fit.
    """
    g = torch.Generator().manual_seed(seed)
    x = torch.eye(64, dtype=torch.float64).view(64, 1, 8, 8)
    column = torch.arange(64) % 8
    if conv:
        kernels = torch.randn(8, 1, 3, 3, generator=g, dtype=torch.float64)
        x = torch.relu(F.conv2d(F.pad(x, (1, 1, 1, 1), mode="circular"), kernels))
    features = F.max_pool2d(x, window).flatten(1)  # (64, F)
    weights = torch.linalg.pinv(features) @ F.one_hot(column, 8).double()  # (F, 8)
    scores = (features @ weights).round(decimals=6)  # ties are ties, whatever the rounding
    return (scores.argmax(1) == column).double().mean().item()


# --8<-- [end:position]


GLOBAL_MAX: Down = (1, nn.AdaptiveMaxPool2d(1))
RECIPES = {  # blocks of make_net, epochs, margin of the frame, random places a digit if any
    "none": ((NONE, NONE), 2, 2, 0),
    "max": ((MAX, MAX), 2, 2, 0),
    "average": ((AVERAGE, AVERAGE), 2, 2, 0),
    "stride": ((STRIDE, STRIDE), 2, 2, 0),
    "moved": ((MAX, MAX), 1, 2, 4),
    "global": ((MAX, GLOBAL_MAX), 3, 4, 0),
    "blur": (((1, BlurPool()), GLOBAL_MAX), 3, 4, 0),
}
LENETS = {
    "sigmoid": {"act": nn.Sigmoid, "pool": nn.AvgPool2d},
    "steep": {"act": lambda: Squash(steep=True, centred=False)},
    "centred": {"act": lambda: Squash(steep=False, centred=True)},
    "tanh": {"act": nn.Tanh},
    "relu_norm": {"norm": True},
}
EXAMPLE = [[3.0, 4, 6, 0], [0, 0, 0, 8], [1, 2, 2, 2], [4, 2, 2, 2]]


digits = cache(load_digits)  # read once


def digit_net(name: str, seed: int) -> nn.Module:
    """Train a net of RECIPES on 1200 digits."""
    X, y, _, _ = digits()
    X, y = X[:1200], y[:1200]
    blocks, epochs, margin, places = RECIPES[name]
    torch.manual_seed(seed)
    net = make_net(*blocks, size=8 + 2 * margin)
    data = moved_copies(X, y, places, seed) if places else (frame(X, margin=margin), y)
    return train(net, *data, epochs, seed)


@cache
def shift_curve(name: str, seed: int) -> list[float]:
    """Test accuracy on digits moved right by 0, 1, 2, ... pixels.

    Up to 2 in the frame of the training; up to 4 in one of 28x28 if the net takes any size.
    """
    _, _, X, y = digits()
    shifts, margin = (5, 10) if RECIPES[name][0][1] is GLOBAL_MAX else (3, 2)
    net = digit_net(name, seed)
    return [accuracy(net, frame(X, 0, dx, margin), y) for dx in range(shifts)]


def start_signal(name: str, seed: int) -> list[float]:
    """`signal` of an untrained LeNet of LENETS, for 200 digits."""
    X, _, _, _ = digits()
    return signal(lenet_start(seed, **LENETS[name]), frame(X[:200], margin=0))


def figure_example() -> Figure:
    """Four 2x2 windows of a 4x4 input; their maxima, means and L2 norms."""
    fig, axes = plt.subplots(2, 2, figsize=(4.8, 4.6), layout="constrained")
    x = torch.tensor(EXAMPLE).view(1, 1, 4, 4)
    panels = [("input", x)] + [(mode, pool2d(x, 2, mode=mode)) for mode in ("max", "avg", "l2")]
    for ax, (title, values) in zip(axes.flat, panels, strict=True):
        side = values.shape[-1]
        for i in range(side):
            for j in range(side):
                window = 2 * (i * 2 // side) + j * 2 // side
                ax.add_patch(Rectangle((j, i), 1, 1, facecolor=f"C{window}", alpha=0.3))
                number = f"{values[0, 0, i, j].item():g}"
                ax.text(j + 0.5, i + 0.5, number, ha="center", va="center", fontsize=14)
        ax.set(xlim=(-0.02, side + 0.02), ylim=(side + 0.02, -0.02), aspect="equal", title=title)
        ax.axis("off")
    return fig


def figure_translation() -> Figure:
    """A stripe of two pixels, moved by 0, 1 and 2, and its maxima over windows of two."""
    fig, axes = plt.subplots(3, 2, figsize=(4.8, 3.9), sharey=True, layout="constrained")
    stripe = torch.tensor([0.0, 0, 1, 1, 0, 0, 0, 0]).view(1, 1, 8)
    for dx, (left, right) in enumerate(axes):
        x = stripe.roll(dx, 2)
        left.bar(torch.arange(8) + 0.5, x[0, 0], 0.92, color="C0")
        right.bar(torch.arange(4) + 0.5, F.max_pool1d(x, 2)[0, 0], 0.92, color="C1")
        left.set(ylabel=f"shift {dx}", ylim=(0, 1.1), yticks=[0, 1], xticks=range(0, 9, 2))
        right.set(xticks=range(5))
        left.grid(axis="x")
    axes[0, 0].set_title("input, windows of 2")
    axes[0, 1].set_title("max of each window")
    return fig


def draw_field(ax: Axes, layers: Sequence[tuple[int, int]], names: Sequence[str]) -> None:
    """Draw what one output of 1-D layers (kernel, stride) sees, layer by layer."""
    step, start, seen = [1], [0.0], [[0]]  # of each level: distance, place of unit 0, units seen
    for kernel, stride in layers:
        start.append(start[-1] + (kernel - 1) * step[-1] / 2)
        step.append(step[-1] * stride)
    for kernel, stride in reversed(layers):
        seen.insert(0, sorted({i * stride + j for i in seen[0] for j in range(kernel)}))
    width = receptive_field(layers)
    for level, units in enumerate(seen):
        for i in units:
            x = start[level] + i * step[level]
            ax.scatter(x, level, s=70, color=f"C{level}", zorder=3)
            kernel, stride = layers[level - 1] if level else (0, 1)
            for j in range(i * stride, i * stride + kernel):
                below = start[level - 1] + j * step[level - 1]
                ink = plt.rcParams["text.color"]
                ax.plot([below, x], [level - 1, level], color=ink, lw=0.8, alpha=0.6)
        ax.text(width - 0.3, level, f"{names[level]}: {len(units)}", va="center")
    ax.set(xlim=(-0.6, width + 3.6), ylim=(-0.4, len(layers) + 0.4))
    ax.axis("off")


def figure_receptive_field() -> Figure:
    """What one output sees: three 3x3 convolutions; a pooling between two of them."""
    fig, axes = plt.subplots(2, 1, figsize=(4.8, 4.8), layout="constrained")
    draw_field(axes[0], [(3, 1)] * 3, ("input", "conv 3", "conv 3", "conv 3"))
    draw_field(axes[1], [(3, 1), (2, 2), (3, 1)], ("input", "conv 3", "pool 2", "conv 3"))
    return fig


def figure_effective() -> Figure:
    """Where the gradient of one output lies: 5 and 20 convolutions of 3x3, against the theory."""
    fig, ax = plt.subplots(figsize=(4.8, 3.6), layout="constrained")
    for depth, colour in ((5, "C1"), (20, "C0")):
        g = torch.Generator().manual_seed(0)
        offset = torch.arange(-depth, depth + 1)
        kernel, theory = torch.full((1, 1, 3), 1 / 3), torch.ones(1, 1, 1)
        for _ in range(depth):
            theory = F.conv1d(theory, kernel, padding=2)
        ax.plot(offset, theory[0, 0], color=colour)
        measured = gradient_map(depth, 16, 10, g).sum(0)
        ax.plot(offset, measured, "o", color=colour, markersize=4, label=f"{depth} layers")
        for edge in (-depth - 0.5, depth + 0.5):
            ax.axvline(edge, color=colour, linestyle=":")
    ax.set(xlabel="columns from the middle", ylabel="share of squared gradient", xlim=(-22, 22))
    ax.set_ylim(0)
    ax.grid(True)
    ax.legend(loc="upper left", bbox_to_anchor=(0.06, 1), frameon=False)
    return fig


def lenet_table() -> list[tuple[str, int, int]]:
    """Stages of LeNet with 32x32 images: name and output shape, activations, parameters."""
    rows, h = [("input 1x32x32", 1024, 0)], torch.zeros(1, 1, 32, 32)
    names = {nn.Conv2d: "conv 5", nn.MaxPool2d: "pool 2", nn.Linear: "linear"}
    for layer in LeNetLike().layers:
        h = layer(h)
        if type(layer) in names:
            shape = "x".join(map(str, h.shape[1:]))
            parameters = sum(p.numel() for p in layer.parameters())
            rows.append((f"{names[type(layer)]} {shape}", h.numel(), parameters))
    return rows


def figure_pipeline() -> Figure:
    """LeNet layer by layer: how many activations, how many parameters."""
    fig, ax = plt.subplots(figsize=(4.8, 4.4), layout="constrained")
    names, activations, parameters = zip(*lenet_table(), strict=True)
    y = torch.arange(len(names))
    ax.barh(y - 0.2, activations, 0.38, color="C0", label="activations")
    ax.barh(y + 0.2, parameters, 0.38, color="C1", label="parameters")
    for row, number in zip(y, parameters, strict=True):
        ax.text(max(number, 1) * 1.15, row + 0.2, f"{number}", va="center", fontsize=11)
    ax.set(xscale="log", xlim=(1, 4e5), xlabel="number", yticks=y, yticklabels=names)
    ax.tick_params(axis="y", labelsize=11)
    ax.minorticks_off()
    ax.invert_yaxis()
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    return fig


def figure_signal() -> Figure:
    """How much the images still differ, layer by layer, in four LeNets before training."""
    fig, ax = plt.subplots(figsize=(4.8, 3.6), layout="constrained")
    styles = {
        "sigmoid": ("C3s-", "sigmoid, average"),
        "steep": ("C1D--", "steep sigmoid, max"),
        "tanh": ("C2^-", "tanh, max"),
        "relu_norm": ("C0o-", "batch norm, ReLU, max"),
    }
    for name, (style, label) in styles.items():
        ax.semilogy(range(1, 6), start_signal(name, 0), style, label=label)
    ax.set(ylabel="spread over the images", xticks=range(1, 6), ylim=(3e-5, 3))
    ax.minorticks_off()
    ax.set_xticklabels(["conv 1", "conv 2", "linear 1", "linear 2", "linear 3"], rotation=20)
    ax.grid(True)
    ax.legend(loc="lower left", frameon=False)
    return fig


def figure_shift() -> Figure:
    """Test accuracy against the shift: no pooling; a global one after max pooling, after a blur."""
    fig, ax = plt.subplots(figsize=(4.8, 4.2), layout="constrained")
    styles = {
        "none": ("C3s-", "no pooling"),
        "global": ("C0o-", "max 2x2; global max"),
        "blur": ("C1D--", "max and blur; global max"),
    }
    for name, (style, label) in styles.items():
        values = shift_curve(name, 0)
        ax.plot(range(len(values)), values, style, markersize=5, label=label)
    ax.set(xlabel="shift in pixels", ylabel="test accuracy", xticks=range(5), ylim=(0, 1.03))
    ax.grid(True)
    ax.legend(loc="lower right", bbox_to_anchor=(1, 0.22), frameon=False)
    return fig


def experiment_digits(seed: int) -> dict[str, float]:
    """Test accuracy in the middle and moved by one and two pixels, for six nets.

    "global" takes any size: it is trained in frames of 16x16 and measured in 24x24.
    """
    _, _, X, y = digits()
    out = {}
    for name in RECIPES:
        if name == "blur":
            continue
        net = digit_net(name, seed)
        for shift in range(3):
            margin = 8 if name == "global" else 2
            out[f"{name}_{shift}"] = moved_accuracy(net, X, y, shift, margin)
    out["max_gain_1"] = out["max_1"] - out["none_1"]
    out["max_gain_2"] = out["max_2"] - out["none_2"]
    out["global_drop"] = out["global_0"] - out["global_1"]
    out["moved_gain_2"] = out["moved_2"] - out["max_2"]
    out["moved_loss_0"] = out["max_0"] - out["moved_0"]
    return out


def experiment_lenet(seed: int) -> dict[str, float]:
    """Test accuracy of five LeNets after 48 steps, and the spread of their first logits."""
    out = {}
    for name, options in LENETS.items():
        out[name] = lenet_run(seed, 2, **options)[1]
        out[f"{name}_logits"] = start_signal(name, seed)[-1]
    return out


def experiment_effective(seed: int) -> dict[str, float]:
    """Spread of the squared gradient, and its share in the middle quarter of the field."""
    g = torch.Generator().manual_seed(seed)
    out = {}
    for depth in (5, 10, 20):
        energy = gradient_map(depth, 16, 10, g)
        middle = slice(depth - depth // 2, depth + depth // 2 + 1)
        out[f"spread_{depth}"] = spread(energy)
        out[f"middle_{depth}"] = energy[middle, middle].sum().item()
    return out


def experiment_shift(seed: int) -> dict[str, float]:
    """What one pixel of shift changes behind five kinds of downsampling, 300 digits, no network."""
    X, _, _, _ = digits()
    g = torch.Generator().manual_seed(seed)
    x = frame(X[torch.randperm(len(X), generator=g)[:300]], margin=4)
    pools = {
        "none": nn.Identity(),
        "every_second": nn.MaxPool2d(1, stride=2),
        "max": nn.MaxPool2d(2),
        "average": nn.AvgPool2d(2),
        "blur": BlurPool(),
    }
    out = {}
    for name, pool in pools.items():
        values, total = change(pool, x, 1)
        out[name], out[f"{name}_sum"] = values.mean().item(), total.mean().item()
    return out


def experiment_position(seed: int) -> dict[str, float]:
    """Share of bright pixels whose column is still told behind max pooling."""
    return {
        f"{'conv' if conv else 'pixels'}_{window}": column_accuracy(window, conv, seed)
        for conv in (False, True)
        for window in (1, 2, 4, 8)
    }


if __name__ == "__main__":
    print("receptive field", receptive_field([(3, 1), (2, 2), (3, 1)]))
    print("shifted digits", experiment_digits(0))
    print("LeNet", experiment_lenet(0))
    print("shift", experiment_shift(0))
    print("position", experiment_position(0))
    figure_shift()
    figure_effective()
    plt.show()
