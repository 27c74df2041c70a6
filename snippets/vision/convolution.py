"""Convolution layers: sizes, counts, shifts, gradients, and a fair race with a full connection.

The data are scikit-learn's bundled digits on a larger black canvas. Everything runs on the CPU.
"""

# --8<-- [start:imports]
from collections.abc import Callable
from functools import cache

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor, nn
from torch.nn import functional as F

from snippets.data import load_digits

# --8<-- [end:imports]


# --8<-- [start:task]
def shift_each(images: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Shift each image (N, 1, H, W) by its own random whole numbers of pixels, -most to most.

    What leaves on one side comes back on the other; the digits here never reach the border.
    """
    n, _, height, width = images.shape
    down, right = torch.randint(-most, most + 1, (2, n, 1, 1), generator=generator)
    rows = (torch.arange(height).view(1, -1, 1) - down) % height  # (N, H, 1)
    columns = (torch.arange(width).view(1, 1, -1) - right) % width  # (N, 1, W)
    return images[torch.arange(n).view(-1, 1, 1), 0, rows, columns].unsqueeze(1)


def digits_task(seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Digits in the middle of a 14 x 14 canvas: images (N, 1, 14, 14) and labels (N,).

    "train": 500 drawn at random; "test": 360; "shifted": the 360, each up to 3 pixels off.
    """
    X, y, X_test, y_test = load_digits()
    g = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(X), generator=g)[:500]
    train, test = (F.pad(part.view(-1, 1, 8, 8), [3] * 4) for part in (X[chosen], X_test))
    shifted = shift_each(test, 3, g)
    return {"train": (train, y[chosen]), "test": (test, y_test), "shifted": (shifted, y_test)}


# --8<-- [end:task]


# --8<-- [start:full]
def full_net(hidden: int = 14) -> nn.Sequential:
    """Fully connected 196-hidden-10; images (N, 1, 14, 14) to logits (N, 10)."""
    return nn.Sequential(nn.Flatten(), nn.Linear(196, hidden), nn.ReLU(), nn.Linear(hidden, 10))


# --8<-- [end:full]


# --8<-- [start:fit]
def fit(
    make: Callable[[], nn.Module],
    data: tuple[Tensor, Tensor],
    seed: int,
    steps: int,
    most: int = 0,
    lr: float = 0.02,
) -> nn.Module:
    """Build a net and train it by Adam on batches of 50 images.

    data: images (N, 1, H, W) and labels (N,); most: shift every image anew, up to so far.
    """
    images, labels = data
    g = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = make()
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    for _ in range(steps):
        batch = torch.randperm(len(images), generator=g)[:50]
        seen = shift_each(images[batch], most, g) if most else images[batch]
        optimizer.zero_grad()
        F.cross_entropy(net(seen), labels[batch]).backward()
        optimizer.step()
    return net


# --8<-- [end:fit]


# --8<-- [start:accuracy]
def accuracy(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of the images (N, 1, H, W) classified as the labels (N,) say."""
    with torch.no_grad():
        return (net(images).argmax(1) == labels).float().mean().item()


# --8<-- [end:accuracy]


# --8<-- [start:corr2d]
def corr2d(X: Tensor, K: Tensor) -> Tensor:
    """Cross-correlation, equation (2): X (H, W), K (kh, kw) to (H - kh + 1, W - kw + 1)."""
    kh, kw = K.shape
    out = X.new_empty(X.shape[0] - kh + 1, X.shape[1] - kw + 1)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = (X[i : i + kh, j : j + kw] * K).sum()
    return out


# --8<-- [end:corr2d]


# --8<-- [start:counts]
def conv_params(c_in: int, c_out: int, k: int, bias: bool = True) -> int:
    """Parameters of nn.Conv2d(c_in, c_out, k), equation (5)."""
    return c_out * (k * k * c_in + bias)


def unshared_params(c_in: int, c_out: int, k: int, h: int, w: int, bias: bool = True) -> int:
    """Parameters if each of the h x w output positions had weights of its own."""
    return h * w * conv_params(c_in, c_out, k, bias)


def multiplications(c_in: int, c_out: int, k: int, h: int, w: int) -> int:
    """Multiplications for one image with an output of h x w, equation (6)."""
    return h * w * conv_params(c_in, c_out, k, bias=False)


# --8<-- [end:counts]


# --8<-- [start:out_size]
def out_size(size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> int:
    """Height or width after a convolution, equation (7).

    Raises:
        ValueError: the window does not fit into the padded input.
    """
    last = size + 2 * padding - dilation * (kernel - 1) - 1  # the last place a window can begin
    if last < 0:
        raise ValueError(f"a window of {dilation * (kernel - 1) + 1} in {size + 2 * padding}")
    return last // stride + 1


# --8<-- [end:out_size]


# --8<-- [start:shift_error]
def shift_error(layer: nn.Module, images: Tensor, by: int, stride: int = 1) -> Tensor:
    """|layer(T x) - T layer(x)|, T being a shift to the right that comes back on the left.

    images: (N, C, H, W), shifted by `by` columns; the output is shifted by by // stride columns.
    """
    with torch.no_grad():
        return (layer(images.roll(by, 3)) - layer(images).roll(by // stride, 3)).abs()


# --8<-- [end:shift_error]


# --8<-- [start:matrix]
def conv_matrix(weight: Tensor, size: int, stride: int = 1, padding: int = 0) -> Tensor:
    """The matrix of a convolution: row for each output, column for each input pixel.

    weight: (K, C, k, k), images C x size x size; returns (K * H' * W', C * size * size).
    """
    c = weight.shape[1]
    basis = torch.eye(c * size * size, dtype=weight.dtype).view(-1, c, size, size)
    return F.conv2d(basis, weight, stride=stride, padding=padding).flatten(1).T


# --8<-- [end:matrix]


# --8<-- [start:im2col]
def im2col(
    X: Tensor, kernel: tuple[int, int], stride: int = 1, padding: int = 0, dilation: int = 1
) -> Tensor:
    """Lay the windows of X (N, C, H, W) side by side: (N, C, kh * kw, H', W')."""
    kh, kw = kernel
    height = out_size(X.shape[2], kh, stride, padding, dilation)
    width = out_size(X.shape[3], kw, stride, padding, dilation)
    X = F.pad(X, [padding] * 4)
    windows = []
    for u in range(0, kh * dilation, dilation):
        for v in range(0, kw * dilation, dilation):
            rows = slice(u, u + stride * (height - 1) + 1, stride)
            columns = slice(v, v + stride * (width - 1) + 1, stride)
            windows.append(X[:, :, rows, columns])  # (N, C, H', W')
    return torch.stack(windows, 2)


# --8<-- [end:im2col]


# --8<-- [start:conv2d]
def conv2d(
    X: Tensor,
    W: Tensor,
    b: Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> Tensor:
    """F.conv2d as one matrix product: X (N, C, H, W), W (K, C / groups, kh, kw), b (K,)."""
    windows = im2col(X, W.shape[2:], stride, padding, dilation)  # (N, C, kh*kw, H', W')
    n, height, width = len(X), *windows.shape[3:]
    columns = windows.reshape(n, groups, -1, height * width)  # (N, g, C/g * kh*kw, H'*W')
    weight = W.reshape(groups, len(W) // groups, -1)  # (g, K/g, C/g * kh*kw)
    out = (weight @ columns).reshape(n, len(W), height, width)
    return out if b is None else out + b.view(-1, 1, 1)


# --8<-- [end:conv2d]


# --8<-- [start:grads]
def conv2d_grads(X: Tensor, W: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Equations (10) and (11) for stride 1 without padding: gradients for X and for W.

    X: (N, C, H, W), W: (K, C, kh, kw), grad: (N, K, H', W'), the gradient for the output.
    """
    windows = im2col(X, W.shape[2:])  # (N, C, kh*kw, H', W')
    for_W = torch.einsum("ncuij,nkij->kcu", windows, grad).view_as(W)
    kh, kw = W.shape[2:]
    around = F.pad(grad, [kw - 1, kw - 1, kh - 1, kh - 1])
    for_X = conv2d(around, W.flip(2, 3).transpose(0, 1))
    return for_X, for_W


# --8<-- [end:grads]


# --8<-- [start:two_conv]
class TwoConv(nn.Module):
    """Two convolutions of 5 x 5, (N, 1, 28, 28) to (N, 20, 20, 20)."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.conv2 = nn.Conv2d(20, 20, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))  # (N, 20, 24, 24)
        return F.relu(self.conv2(x))  # (N, 20, 20, 20)


# --8<-- [end:two_conv]


# --8<-- [start:conv_nets]
class GlobalMax(nn.Module):
    """The largest value of every channel: (N, C, H, W) to (N, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).max(2).values


def flat_net() -> nn.Sequential:
    """4 filters, then a full connection that knows the position of every response."""
    return nn.Sequential(nn.Conv2d(1, 4, 7), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 10))


def max_net(stride: int = 1, padding_mode: str = "zeros", classes: int = 10) -> nn.Sequential:
    """48 filters, of each only its largest response anywhere; max(ReLU(x)) = ReLU(max(x))."""
    conv = nn.Conv2d(1, 48, 7, stride, padding=3, padding_mode=padding_mode)
    return nn.Sequential(conv, GlobalMax(), nn.ReLU(), nn.Linear(48, classes))


# --8<-- [end:conv_nets]


# --8<-- [start:permute]
def permute(images: Tensor, order: Tensor) -> Tensor:
    """Rearrange the pixels of all images (N, 1, H, W) in the same way; order: (H * W,)."""
    return images.flatten(1)[:, order].view_as(images)


# --8<-- [end:permute]


# --8<-- [start:left_right]
def left_right(images: Tensor) -> tuple[Tensor, Tensor]:
    """Every image (N, 1, H, W) twice, 3 columns to the left, class 0, and to the right, class 1."""
    sides = torch.tensor([0, 1]).repeat_interleave(len(images))
    return torch.cat([images.roll(-3, 3), images.roll(3, 3)]), sides


# --8<-- [end:left_right]


NETS: dict[str, tuple[Callable[[], nn.Module], int]] = {  # how to build it, steps of training
    "full": (full_net, 200),
    "flat": (flat_net, 100),
    "max": (max_net, 100),
}

EXAMPLE = torch.tensor([[1, 2, 0, 1], [0, 1, 3, 2], [2, 1, 0, 0], [1, 0, 2, 1.0]])
EDGE = torch.tensor([[1, 0, -1], [1, 0, -1], [1, 0, -1.0]])


def by_distance(net: nn.Module, images: Tensor, labels: Tensor) -> list[float]:
    """Accuracy with all images 0, 1, 2, 3 pixels off, mean of right and down."""
    out = []
    for d in range(4):
        ends = [accuracy(net, images.roll(d, axis), labels) for axis in (2, 3)]
        out.append(sum(ends) / 2)
    return out


def strided_net() -> nn.Sequential:
    return max_net(stride=2)


@cache
def curves(seed: int) -> dict[str, list[float]]:
    """by_distance of four nets trained on digits in the middle."""
    data = digits_task(seed)
    nets = NETS | {"strided": (strided_net, 100)}
    return {
        name: by_distance(fit(make, data["train"], seed, steps), *data["test"])
        for name, (make, steps) in nets.items()
    }


def draw_grid(ax: Axes, values: Tensor, left: float, title: str, boxes: dict) -> None:
    """Write a table of numbers as squares from x = left on; boxes: colour of a cell's ground."""
    ink = plt.rcParams["text.color"]
    height, width = values.shape
    for i in range(height):
        for j in range(width):
            x, y = left + j, height / 2 - i - 1
            colour = boxes.get((i, j))
            face = {"facecolor": colour, "alpha": 0.35} if colour else {"facecolor": "none"}
            ax.add_patch(Rectangle((x, y), 1, 1, edgecolor="none", **face))
            ax.add_patch(Rectangle((x, y), 1, 1, fill=False, edgecolor=ink, linewidth=0.7))
            text = f"{values[i, j]:.0f}".replace("-", "\u2212")
            ax.text(x + 0.5, y + 0.45, text, ha="center", va="center")
    ax.text(left + width / 2, height / 2 + 0.35, title, ha="center")


def figure_window() -> Figure:
    """A 4 x 4 input, a 3 x 3 kernel, the 2 x 2 output; the last window and its output marked."""
    fig, ax = plt.subplots(figsize=(4.8, 2.4), layout="constrained")
    window = {(i, j): "C1" for i in range(1, 4) for j in range(1, 4)}
    draw_grid(ax, EXAMPLE, 0, "input", window)
    draw_grid(ax, EDGE, 5.2, "kernel", {})
    draw_grid(ax, corr2d(EXAMPLE, EDGE), 9.4, "output", {(1, 1): "C1"})
    ax.text(4.6, 0, r"$\star$", ha="center", va="center", fontsize=15)
    ax.text(8.8, 0, "=", ha="center", va="center", fontsize=15)
    ax.set(xlim=(-0.1, 11.5), ylim=(-2.2, 2.9), aspect="equal")
    ax.axis("off")
    return fig


def figure_parameters() -> Figure:
    """Parameters of three layers from 20 x 20 x 10 to 20 x 20 x 32."""
    fig, ax = plt.subplots(figsize=(4.8, 2.4), layout="constrained")
    counts = {
        "full connection": 4000 * 12800 + 12800,
        "3x3, not shared": unshared_params(10, 32, 3, 20, 20),
        "3x3, shared": conv_params(10, 32, 3),
    }
    for i, count in enumerate(counts.values()):
        ax.barh(-i, count, color=f"C{i}", height=0.7)
        ax.text(count * 1.3, -i, f"{count:,}", va="center")
    ax.set_yticks([0, -1, -2], counts)
    ax.set(xscale="log", xlim=(100, 5e10), xlabel="parameters")
    ax.set_xticks([1e3, 1e5, 1e7, 1e9])
    ax.minorticks_off()
    return fig


STRIPS = ((1, 0, 1), (1, 1, 1), (2, 0, 1), (2, 1, 1), (3, 0, 1), (1, 0, 2))


def unread(size: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> list[int]:
    """Places of the padded input that no window reads, counted from 0."""
    count = out_size(size, kernel, stride, padding, dilation)
    read = {i * stride + u * dilation for i in range(count) for u in range(kernel)}
    return [place for place in range(size + 2 * padding) if place not in read]


def draw_strip(ax: Axes, stride: int, padding: int, dilation: int) -> None:
    """Ten inputs, their padding, the first and last window of three, and the outputs above."""
    ink = plt.rcParams["text.color"]
    count = out_size(10, 3, stride, padding, dilation)
    lost = unread(10, 3, stride, padding, dilation)
    for place in range(10 + 2 * padding):
        inside = padding <= place < 10 + padding
        style = {"fill": False, "linestyle": "-" if inside else ":"}
        if place in lost:
            style = {"facecolor": "C3", "alpha": 0.6, "hatch": "////"}
        elif inside:
            style = {"facecolor": "C0", "alpha": 0.25}
        ax.add_patch(Rectangle((place - padding, 0), 1, 1, edgecolor=ink, linewidth=0.8, **style))
    for i in range(count):
        middle = i * stride - padding + dilation + 0.5
        ax.add_patch(Rectangle((middle - 0.32, 1.6), 0.64, 0.64, facecolor="C2", linewidth=0))
        if i in (0, count - 1):
            for u in range(3):
                x = i * stride - padding + u * dilation + 0.5
                ax.plot([x, middle], [1, 1.6], color="C2", linewidth=1)
    numerator = 10 + 2 * padding - dilation * 2 - 1
    exact = f"{numerator}/{stride}+1 = {numerator / stride + 1:.4g}"
    text = exact if numerator % stride == 0 else f"{exact} \u2192 {count}"
    name = f"S={stride}, P={padding}" + (f", D={dilation}" if dilation > 1 else "")
    ax.text(-1, 2.75, f"{name}:  {text}", va="center")
    ax.set(xlim=(-1.3, 11.3), ylim=(-0.3, 3.2), aspect="equal")
    ax.axis("off")


def figure_sizes() -> Figure:
    """Windows of 3 on an input of 10 for six settings; what no window reads is hatched."""
    fig, axes = plt.subplots(6, 1, figsize=(4.8, 7.8), layout="constrained")
    for ax, setting in zip(axes, STRIPS, strict=True):
        draw_strip(ax, *setting)
    return fig


def shapes() -> Tensor:
    """A bright disc and a bright rectangle on black, (1, 1, 32, 32)."""
    row, column = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    disc = (row - 10).square() + (column - 10).square() < 49
    box = (row >= 19) & (row < 28) & (column >= 15) & (column < 29)
    return (disc | box).float().view(1, 1, 32, 32)


def figure_edges() -> Figure:
    """An image and its responses to the two edge kernels."""
    fig, axes = plt.subplots(1, 3, figsize=(4.8, 2.6), layout="constrained")
    image = shapes()
    parts = {
        "image": image[0, 0, 1:-1, 1:-1] * 3,
        "vertical": F.conv2d(image, EDGE.view(1, 1, 3, 3))[0, 0],
        "horizontal": F.conv2d(image, EDGE.T.reshape(1, 1, 3, 3))[0, 0],
    }
    for ax, (title, values) in zip(axes, parts.items(), strict=True):
        picture = ax.imshow(values, vmin=-3, vmax=3)
        ax.set_title(title)
        ax.set(xticks=[], yticks=[])
    fig.colorbar(picture, ax=axes, location="bottom", shrink=0.6, ticks=[-3, 0, 3])
    return fig


def figure_equivariance() -> Figure:
    """Where shifting first and convolving first disagree, for three layers."""
    fig, axes = plt.subplots(1, 3, figsize=(4.8, 2.0), layout="constrained")
    g = torch.Generator().manual_seed(0)
    images = torch.randn(1, 1, 12, 12, generator=g)
    for ax, (title, stride, mode) in zip(
        axes,
        (("circular", 1, "circular"), ("zeros", 1, "zeros"), ("stride 2", 2, "circular")),
        strict=True,
    ):
        layer = nn.Conv2d(1, 1, 3, stride, padding=1, padding_mode=mode)
        with torch.no_grad():
            layer.weight.copy_(torch.randn(1, 1, 3, 3, generator=g))
        wrong = shift_error(layer, images, 1, stride)[0, 0] > 1e-5
        ax.pcolormesh(
            wrong.float(),
            cmap=ListedColormap(["C2", "C3"]),
            vmin=0,
            vmax=1,
            edgecolors=plt.rcParams["grid.color"],
            linewidth=1,
        )
        ax.set_title(title)
        ax.set(aspect="equal")
        ax.axis("off")
    return fig


def figure_shift() -> Figure:
    """Accuracy against the distance of the digits from where they were in training."""
    fig, ax = plt.subplots(figsize=(4.8, 3.6), layout="constrained")
    styles = {
        "max": ("C0o-", "conv, global max"),
        "strided": ("C1^-", "conv stride 2, global max"),
        "flat": ("C2s--", "conv, flatten"),
        "full": ("C3x:", "fully connected"),
    }
    for name, (style, label) in styles.items():
        ax.plot(range(4), curves(0)[name], style, markersize=6, label=label)
    ax.set(xlabel="shift in pixels", ylabel="test accuracy", ylim=(0, 1.45))
    ax.set_xticks(range(4))
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1])
    ax.grid(True)
    ax.legend(loc="upper center", ncols=2, frameon=False, columnspacing=1, handlelength=1.6)
    return fig


def where(data: dict[str, tuple[Tensor, Tensor]], seed: int) -> dict[str, float]:
    """Is the digit left or right, whichever digit it is? Test accuracy of three nets."""
    train, test = (left_right(data[part][0][:200]) for part in ("train", "test"))
    nets = {
        "full": full_net,
        "circular": lambda: max_net(padding_mode="circular", classes=2),
        "zeros": lambda: max_net(classes=2),
    }
    return {name: accuracy(fit(make, train, seed, 30), *test) for name, make in nets.items()}


def experiment_digits(seed: int) -> dict[str, float]:
    """Three nets of as many parameters: digits in the middle, shifted, with mixed pixels."""
    data = digits_task(seed)
    order = torch.randperm(196, generator=torch.Generator().manual_seed(seed))
    mixed = {part: (permute(images, order), y) for part, (images, y) in data.items()}
    out = {}
    for name, (make, steps) in NETS.items():
        for prefix, parts in (("", data), ("mixed_", mixed)):
            if name == "flat" and prefix:
                continue
            net = fit(make, parts["train"], seed, steps)
            out |= {f"{name}_{prefix}{part}": accuracy(net, *parts[part]) for part in parts}
            if name == "full" and not prefix:
                out["full_1"], out["full_2"] = by_distance(net, *data["test"])[1:3]
    strided = by_distance(fit(strided_net, data["train"], seed, 100), *data["test"])
    out |= {f"strided_{d}": value for d, value in enumerate(strided)}
    wide = fit(lambda: full_net(140), data["train"], seed, steps=300, most=3, lr=0.01)
    out["wide_test"] = accuracy(wide, *data["test"])
    out["wide_shifted"] = accuracy(wide, *data["shifted"])
    out |= {f"where_{name}": value for name, value in where(data, seed).items()}
    out["gain_test"] = out["max_test"] - out["full_test"]
    out["gain_shifted"] = out["max_shifted"] - out["full_shifted"]
    out["gain_mixed"] = out["max_mixed_test"] - out["full_mixed_test"]
    out["gain_mixed_shifted"] = out["max_mixed_shifted"] - out["full_mixed_shifted"]
    out["loss_mixed"] = out["max_test"] - out["max_mixed_test"]
    out["drop_max"] = out["max_test"] - out["max_shifted"]
    return out


if __name__ == "__main__":
    print("output size", out_size(10, 3, 2), "parameters", conv_params(10, 32, 3))
    print("digits", experiment_digits(0))
    figure_sizes()
    figure_shift()
    plt.show()
