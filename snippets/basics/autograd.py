"""Automatic differentiation: the recorded graph, its backward pass, and where it misleads."""

# --8<-- [start:imports]
import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

# --8<-- [end:imports]
# isort: split
from itertools import pairwise

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, FancyBboxPatch

SEEDS = range(10)


# --8<-- [start:fit_slope]
def fit_slope(x: Tensor, y: Tensor, lr: float, steps: int, clear: bool) -> list[float]:
    """Minimise mean((w * x - y)**2) from w = 1; return w before and after every step.

    x, y: (N,). With clear=False the gradients of all steps pile up in w.grad.
    """
    w = torch.tensor(1.0, dtype=x.dtype, requires_grad=True)
    path = [w.item()]
    for _ in range(steps):
        loss = ((w * x - y) ** 2).mean()
        loss.backward()
        with torch.no_grad():
            w -= lr * w.grad
        if clear:
            w.grad = None  # (1)!
        path.append(w.item())
    return path


# --8<-- [end:fit_slope]


# --8<-- [start:graph_example]
def graph_example(x: Tensor) -> dict[str, Tensor]:
    """Compute t = mean((x + 2)**2) and return every tensor on the way. x: any shape."""
    y = x + 2
    z = y * y
    t = z.mean()
    return {"x": x, "y": y, "z": z, "t": t}


# --8<-- [end:graph_example]


# --8<-- [start:walk_graph]
def walk_graph(t: Tensor) -> list[tuple[str, list[int]]]:
    """List the recorded operations behind t, starting from t.grad_fn.

    Entry i is the name of node i and the indices of the nodes it hands its gradients to.
    Inputs that need no gradient are not in the graph; no graph at all gives [].
    """
    nodes = [] if t.grad_fn is None else [t.grad_fn]
    listing = []
    for node in nodes:  # (1)!
        targets = []
        for target, _ in node.next_functions:
            if target is None:
                continue
            if target not in nodes:
                nodes.append(target)
            targets.append(nodes.index(target))
        listing.append((type(node).__name__, targets))
    return listing


# --8<-- [end:walk_graph]


# --8<-- [start:double_until]
def double_until(x: Tensor, limit: float) -> Tensor:
    """Double x until it reaches limit > 0. x: 0-d and positive."""
    while x < limit:
        x = x * 2
    return x


# --8<-- [end:double_until]


# --8<-- [start:saved_tensors]
def saved_tensors(f: Callable[[Tensor], Tensor], x: Tensor) -> list[Tensor]:
    """Run f(x) and return the tensors that autograd keeps for the backward pass."""
    saved = []

    def keep(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        f(x)
    return saved


# --8<-- [end:saved_tensors]


# --8<-- [start:vjp]
def vjp(f: Callable[[Tensor], Tensor], x: Tensor, v: Tensor) -> Tensor:
    """Return v^T J for J = df/dx without forming J. x: (n,), f(x) and v: (m,) -> (n,)."""
    x = x.detach().requires_grad_()
    (product,) = torch.autograd.grad(f(x), x, grad_outputs=v)
    return product


# --8<-- [end:vjp]


# --8<-- [start:oscillator]
def forgotten_slope(k: float, w0: float, w_star: float, lr: float, curvature: float) -> float:
    """w after k steps that never clear the gradient, for 0 < lr * curvature < 4."""
    theta = math.acos(1 - lr * curvature / 2)
    return w_star + (w0 - w_star) * math.cos((k + 0.5) * theta) / math.cos(theta / 2)


# --8<-- [end:oscillator]


# --8<-- [start:value]
class Value:
    """A number that remembers how it was made. After micrograd by Andrej Karpathy."""

    def __init__(self, data: float, inputs: tuple[tuple["Value", float], ...] = ()) -> None:
        self.data = data
        self.inputs = inputs  # (1)!
        self.grad = 0.0

    def __add__(self, other: "Value") -> "Value":
        return Value(self.data + other.data, ((self, 1.0), (other, 1.0)))

    def __mul__(self, other: "Value") -> "Value":
        return Value(self.data * other.data, ((self, other.data), (other, self.data)))

    def tanh(self) -> "Value":
        out = math.tanh(self.data)
        return Value(out, ((self, 1 - out * out),))

    def backward(self) -> None:
        order = topological_order(self)
        for node in order:
            if node.inputs:  # (2)!
                node.grad = 0.0
        self.grad += 1.0  # (3)!
        for node in reversed(order):
            for source, slope in node.inputs:
                source.grad += node.grad * slope  # (4)!


# --8<-- [end:value]


# --8<-- [start:topological_order]
def topological_order(root: Value) -> list[Value]:
    """Every node behind root once, inputs before the results made from them."""
    order, seen = [], set()

    def visit(node: Value) -> None:
        if node in seen:
            return
        seen.add(node)
        for source, _ in node.inputs:
            visit(source)
        order.append(node)

    visit(root)
    return order


# --8<-- [end:topological_order]


# --8<-- [start:sgd_step]
def sgd_step(params: Iterable[Tensor], lr: float) -> None:
    """Move every parameter against its gradient, then clear the gradient."""
    with torch.no_grad():
        for p in params:
            p -= lr * p.grad
            p.grad = None


# --8<-- [end:sgd_step]


# --8<-- [start:detach_demo]
def detach_demo(x: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of x**2 * x and of u * x with the constant u = x**2. x: any shape."""
    x = x.detach().requires_grad_()
    (whole,) = torch.autograd.grad((x**2 * x).sum(), x)
    (cut,) = torch.autograd.grad(((x**2).detach() * x).sum(), x)
    return whole, cut


# --8<-- [end:detach_demo]


# --8<-- [start:accumulated_gradient]
def points() -> tuple[Tensor, Tensor]:
    """The 15 points of the source notes, x: (15,), y: (15,)."""
    x = [3.3, 4.4, 5.5, 6.71, 6.93, 4.168, 9.779, 6.182, 7.59, 2.167, 7.042, 10.791, 5.313]
    y = [1.7, 2.76, 2.09, 3.19, 1.694, 1.573, 3.366, 2.596, 2.53, 1.221, 2.827, 3.465, 1.65]
    return torch.tensor([*x, 7.997, 3.1]), torch.tensor([*y, 2.904, 1.3])


def accumulated_gradient(x: Tensor, y: Tensor, batch: int, weighted: bool) -> float:
    """Gradient of mean((w * x - y)**2) at w = 0, added up over batches. x, y: (N,)."""
    w = torch.tensor(0.0, requires_grad=True)
    parts = x.split(batch)
    for x_part, y_part in zip(parts, y.split(batch), strict=True):
        share = len(x_part) / len(x) if weighted else 1 / len(parts)
        (share * ((w * x_part - y_part) ** 2).mean()).backward()
    return w.grad.item()


# --8<-- [end:accumulated_gradient]


# --8<-- [start:numerical_gradient]
def numerical_gradient(f: Callable[[Tensor], Tensor], w: Tensor, h: float) -> Tensor:
    """Central differences of a scalar function: 2 d evaluations. w: (d,) -> (d,)."""
    gradient = torch.zeros_like(w)
    for i in range(len(w)):
        step = torch.zeros_like(w)
        step[i] = h
        gradient[i] = (f(w + step) - f(w - step)) / (2 * h)
    return gradient


def autograd_gradient(f: Callable[[Tensor], Tensor], w: Tensor) -> Tensor:
    """The same gradient by one forward and one backward pass. w: (d,) -> (d,)."""
    w = w.detach().requires_grad_()
    return torch.autograd.grad(f(w), w)[0]


# --8<-- [end:numerical_gradient]


# --8<-- [start:rounded_loss]
def rounded_loss(w: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Squared error of a prediction rounded to whole numbers. w: (1,), x, y: (N,)."""
    return ((torch.round(w * x) - y) ** 2).mean()


def smooth_loss(w: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The same error without the rounding."""
    return ((w * x - y) ** 2).mean()


def descend(gradient: Callable[[Tensor], Tensor], lr: float, steps: int) -> Tensor:
    """Gradient descent from w = 1 with any way to get the gradient; returns w: (1,)."""
    w = torch.ones(1)
    for _ in range(steps):
        w = w - lr * gradient(w)
    return w


# --8<-- [end:rounded_loss]


# --8<-- [start:overwritten_gradient]
def overwritten_gradient(overwrite: Callable[[Tensor], object]) -> Tensor:
    """Gradient of w**2 at w = 3 when overwrite(w) runs between forward and backward.

    Raises: RuntimeError if autograd notices the change.
    """
    w = torch.tensor(3.0, requires_grad=True)
    loss = w**2
    overwrite(w)
    loss.backward()
    return w.grad


# --8<-- [end:overwritten_gradient]


def line_data(seed: int) -> tuple[Tensor, Tensor, float, float]:
    """Noisy line y = 3 x: x, y: (20,) in float64, curvature of the loss, best slope."""
    gen = torch.Generator().manual_seed(seed)
    x = torch.randn(20, generator=gen, dtype=torch.float64)
    y = 3 * x + 0.5 * torch.randn(20, generator=gen, dtype=torch.float64)
    return x, y, 2 * (x * x).mean().item(), ((x * y).sum() / (x * x).sum()).item()


def crossing_period(path: list[float], center: float) -> float:
    """Period of an oscillation from its interpolated crossings of center."""
    error = [value - center for value in path]
    crossings = [k + a / (a - b) for k, (a, b) in enumerate(pairwise(error)) if a * b < 0]
    return 2 * (crossings[-1] - crossings[0]) / (len(crossings) - 1)


def tanh_problem(seed: int, dtype: torch.dtype) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """Loss of one tanh neuron on 50 samples and the point w: (20,) to differentiate it at."""
    gen = torch.Generator().manual_seed(seed)
    X = torch.randn(50, 20, generator=gen).to(dtype)  # (N, d)
    y = torch.randn(50, generator=gen).to(dtype)  # (N,)
    w = torch.randn(20, generator=gen).to(dtype) / 4  # (d,)
    return lambda v: ((torch.tanh(X @ v) - y) ** 2).mean(), w


def relative_error(gradient: Tensor, reference: Tensor) -> float:
    return ((gradient.double() - reference).norm() / reference.norm()).item()


def experiment_clearing(seed: int) -> dict[str, float]:
    """The same descent with and without clearing: what is left of the error, and its period."""
    lr, steps = 0.05, 400
    x, y, curvature, best = line_data(seed)
    cleared = fit_slope(x, y, lr, steps, clear=True)
    forgotten = fit_slope(x, y, lr, steps, clear=False)
    predicted = 2 * math.pi / math.acos(1 - lr * curvature / 2)
    period = crossing_period(forgotten, best)
    return {
        "left_cleared": abs(cleared[-1] - best) / abs(1 - best),
        "left_forgotten": max(abs(w - best) for w in forgotten[-100:]) / abs(1 - best),
        "period_predicted": predicted,
        "period_measured": period,
        "period_gap": abs(period / predicted - 1),
    }


def experiment_difference(seed: int) -> dict[str, float]:
    """Error of autograd and of central differences in float32 against float64 autograd."""
    exact_loss, exact_w = tanh_problem(seed, torch.float64)
    reference = autograd_gradient(exact_loss, exact_w)
    loss, w = tanh_problem(seed, torch.float32)
    errors = {
        k: relative_error(numerical_gradient(loss, w, 2.0**-k), reference) for k in range(2, 25)
    }
    best = min(errors, key=errors.__getitem__)
    return {
        "autograd": relative_error(autograd_gradient(loss, w), reference),
        "difference_best": errors[best],
        "difference_small": errors[20],
        "best_step": 2.0**-best,
    }


def experiment_rounding(seed: int) -> dict[str, float]:
    """Fit whole-number labels: three gradients, each judged by the rounded loss at the end."""
    gen = torch.Generator().manual_seed(seed)
    x = 3 * torch.rand(30, generator=gen)
    y = torch.round(2 * x)

    def loss(w: Tensor) -> Tensor:
        return rounded_loss(w, x, y)

    lr, steps = 0.05, 100
    by_autograd = descend(lambda w: autograd_gradient(loss, w), lr, steps)
    by_difference = descend(lambda w: numerical_gradient(loss, w, 0.25), lr, steps)
    without_rounding = descend(
        lambda w: autograd_gradient(lambda v: smooth_loss(v, x, y), w), lr, steps
    )
    return {
        "start": loss(torch.ones(1)).item(),
        "autograd": loss(by_autograd).item(),
        "difference": loss(by_difference).item(),
        "smooth": loss(without_rounding).item(),
    }


def figure_forgetting() -> Figure:
    """w against the step, with and without clearing; the line is the closed form."""
    x = torch.tensor([1.0, 2.0, 3.0])
    lr, steps, curvature = 0.01, 60, 28 / 3
    forgotten = fit_slope(x, 2 * x, lr, steps, clear=False)
    cleared = fit_slope(x, 2 * x, lr, steps, clear=True)
    times = [k / 10 for k in range(10 * steps + 1)]
    formula = [forgotten_slope(k, 1.0, 2.0, lr, curvature) for k in times]

    fig, ax = plt.subplots(layout="constrained")
    ax.axhline(2, color=plt.rcParams["grid.color"], zorder=0)
    ax.plot(times, formula, color="C1", linewidth=1)
    ax.plot(forgotten, "o", color="C1", markersize=4, label="not cleared")
    ax.plot(cleared, "s", color="C0", markersize=4, label="cleared")
    ax.set(xlabel="step k", ylabel="w", yticks=[1, 1.5, 2, 2.5, 3])
    fig.legend(loc="outside upper center", ncols=2, frameon=False)
    return fig


def figure_graph() -> Figure:
    """The example's tensors on the left, the nodes that walk_graph finds on the right."""
    tensors = graph_example(torch.ones(2, 2, requires_grad=True))
    nodes = walk_graph(tensors["t"])
    ink, faint = plt.rcParams["text.color"], plt.rcParams["grid.color"]
    left, right, rows = 0.9, 3.5, [1.1 * i for i in range(len(nodes))]

    fig, ax = plt.subplots(figsize=(4.8, 4.6), layout="constrained")
    ax.set(xlim=(0, 4.8), ylim=(-0.5, rows[-1] + 0.85), aspect="equal")
    ax.axis("off")
    ax.text(left, rows[-1] + 0.6, "forward: tensors", color="C0", ha="center")
    ax.text(right, rows[-1] + 0.6, "backward: grad_fn", color="C1", ha="center")
    names, steps = list(tensors), [r"$+\,2$", r"$y \cdot y$", "mean"]
    for i, name in enumerate(reversed(names)):
        label = f"{name}  {tuple(tensors[name].shape)}" if tensors[name].dim() else f"{name}  ()"
        draw_box(ax, left, rows[i], 1.2, 0.5, "C0")
        ax.text(left, rows[i], label, color=ink, ha="center", va="center")
        ax.plot([left + 0.7, right - 0.95], [rows[i]] * 2, ":", color=faint)
    for i, step in enumerate(reversed(steps)):
        draw_arrow(ax, (left, rows[i + 1] - 0.26), (left, rows[i] + 0.26), "C0")
        ax.text(left + 0.12, rows[i] + 0.55, step, color="C0", va="center")
    for i, (name, targets) in enumerate(nodes):
        ax.add_patch(Ellipse((right, rows[i]), 2.0, 0.6, fc="none", ec="C1", lw=1.5))
        ax.text(right, rows[i], name, color=ink, ha="center", va="center")
        for n, j in enumerate(targets):
            offset = 0.22 * (2 * n - len(targets) + 1)
            x = right + offset
            draw_arrow(ax, (x, rows[i] + 0.3), (x, rows[j] - 0.3), "C1")
    return fig


def figure_passes() -> Figure:
    """tanh(ab + a^2) in the scalar engine: values, local slopes and gradients."""
    a, b = Value(0.5), Value(2.0)
    root = (a * b + a * a).tanh()
    root.backward()
    order = topological_order(root)
    labels = ["$a$", "$b$", "$a b$", "$a a$", "sum", "tanh"]
    places = [(0, 0.8), (0, -0.8), (1.27, -0.8), (1.27, 0.8), (2.54, 0), (3.81, 0)]
    place = dict(zip(order, places, strict=True))
    ink = plt.rcParams["text.color"]

    fig, ax = plt.subplots(figsize=(4.6, 3.2), layout="constrained")
    ax.set(xlim=(-0.4, 4.2), ylim=(-1.3, 1.8), aspect="equal")
    ax.axis("off")
    ax.text(0.35, 1.65, "value", color="C0", ha="right", va="center")
    ax.text(0.55, 1.65, "gradient", color="C1", va="center")
    ax.text(1.6, 1.65, "on the arrows: local slope", color=ink, va="center")
    for node, label in zip(order, labels, strict=True):
        px, py = place[node]
        draw_box(ax, px, py, 0.72, 0.88, ink)
        ax.text(px, py + 0.27, label, ha="center", va="center")
        ax.text(px, py, f"{node.data:.3f}", color="C0", ha="center", va="center")
        ax.text(px, py - 0.27, f"{node.grad:.3f}", color="C1", ha="center", va="center")
        used = [source for source, _ in node.inputs]
        for n, (source, slope) in enumerate(node.inputs):
            sx, sy = place[source]
            shift = 0.2 * (1 - 2 * n) if used.count(source) > 1 else 0
            draw_arrow(ax, (sx + 0.37, sy + shift), (px - 0.37, py + shift), ink)
            middle = ((sx + px) / 2 + (0.12 if sy > py else 0), (sy + py) / 2 + shift + 0.11)
            ax.text(*middle, f"{slope:.3g}", color=ink, ha="center", va="center")
    return fig


def draw_box(ax: Axes, x: float, y: float, width: float, height: float, color: str) -> None:
    corner = (x - width / 2, y - height / 2)
    style = "round,pad=0,rounding_size=0.1"
    ax.add_patch(FancyBboxPatch(corner, width, height, boxstyle=style, fc="none", ec=color, lw=1.5))


def draw_arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], color: str) -> None:
    style = {"arrowstyle": "-|>", "color": color, "lw": 1.5, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", end, start, arrowprops=style)


def figure_finite_difference() -> Figure:
    """Relative error of central differences against the step, autograd as a level line."""
    exact_loss, exact_w = tanh_problem(0, torch.float64)
    reference = autograd_gradient(exact_loss, exact_w)
    fig, ax = plt.subplots(layout="constrained")
    steps = [2.0**-k for k in range(1, 34)]
    for color, dtype in (("C0", torch.float64), ("C1", torch.float32)):
        loss, w = tanh_problem(0, dtype)
        errors = [relative_error(numerical_gradient(loss, w, h), reference) for h in steps]
        name = str(dtype).removeprefix("torch.")
        ax.loglog(steps, errors, "o-", color=color, markersize=3, label=f"difference, {name}")
    level = relative_error(autograd_gradient(loss, w), reference)
    ax.axhline(level, color="C2", linestyle="--", label="autograd, float32")
    ax.set(xlabel="step h", ylabel="relative error of gradient")
    fig.legend(loc="outside upper center", ncols=2, frameon=False)
    return fig


def figure_rounding() -> Figure:
    """The loss of y = 2 x on x = 1, 2, 3 as a staircase and as a parabola in w."""
    x = torch.tensor([1.0, 2.0, 3.0])
    grid = torch.linspace(0.6, 3.4, 1121)
    fig, ax = plt.subplots(layout="constrained")
    for color, style, name, loss in (
        ("C0", "--", "without rounding", smooth_loss),
        ("C1", "-", "rounded", rounded_loss),
    ):
        values = [loss(w, x, 2 * x).item() for w in grid]
        ax.plot(grid, values, style, color=color, label=name)
    ax.set(xlabel="w", ylabel="loss")
    fig.legend(loc="outside upper center", ncols=2, frameon=False)
    return fig


if __name__ == "__main__":
    example = graph_example(torch.ones(2, 2, requires_grad=True))
    example["t"].backward()
    print("graph:", walk_graph(example["t"]))
    print("x.grad:", example["x"].grad.tolist())
    slope_x = torch.tensor([1.0, 2.0, 3.0])
    for clear in (True, False):
        print("clear:", clear, fit_slope(slope_x, 2 * slope_x, lr=3 / 28, steps=8, clear=clear))
    for experiment in (experiment_clearing, experiment_difference, experiment_rounding):
        print(experiment.__name__, experiment(0))
    for draw in (
        figure_forgetting,
        figure_graph,
        figure_passes,
        figure_finite_difference,
        figure_rounding,
    ):
        draw()
    plt.show()
