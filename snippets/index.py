"""The front page: where gradient descent on a parabola stops converging."""

# --8<-- [start:imports]
import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor

# --8<-- [end:imports]

SEEDS = range(10)

# --8<-- [start:distances]
X = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)  # (3,)
Y = 2 * X  # (3,)


def distances(w: float, lr: float, steps: int) -> Tensor:
    """Descend on mean((w x - 2 x)^2) and return |w - 2| before each step, shape (steps,)."""
    path = []
    for _ in range(steps):
        path.append(abs(w - 2))
        w -= lr * (2 * X * (w * X - Y)).mean().item()
    return torch.tensor(path)


# --8<-- [end:distances]


def largest_converging_rate(w: float, steps: int = 200, halvings: int = 40) -> float:
    """Bisect for the learning rate above which the distance to the minimum grows."""
    low, high = 0.0, 1.0
    for _ in range(halvings):
        middle = (low + high) / 2
        path = distances(w, middle, steps)
        low, high = (middle, high) if path[-1] < path[0] else (low, middle)
    return low


def experiment_boundary(seed: int) -> dict[str, float]:
    """Find the boundary by trial from a random start in [-8, 12], without using the theory."""
    generator = torch.Generator().manual_seed(seed)
    start = -8 + 20 * torch.rand(1, generator=generator).item()
    return {"found": largest_converging_rate(start), "start": start}


def figure_boundary() -> Figure:
    """Distance to the minimum under two rates that differ by one per cent."""
    figure, axes = plt.subplots(figsize=(4.8, 3.0), layout="constrained")
    steps = torch.arange(300)
    for lr, colour, verb in ((0.2154, "C1", "diverges"), (0.2132, "C0", "converges")):
        axes.semilogy(steps, distances(1.0, lr, 300), color=colour, label=rf"$\eta$ = {lr}: {verb}")
    axes.semilogy(
        steps,
        torch.ones(300),
        color=plt.rcParams["text.color"],
        linestyle="--",
        linewidth=1.2,
        label=r"predicted boundary $\eta$ = 3/14",
    )
    axes.set(xlabel="step", ylabel="distance to the minimum")
    axes.legend(loc="upper left")
    axes.set_ylim(top=4e3)
    return figure


if __name__ == "__main__":
    print(f"boundary found by trial: {largest_converging_rate(1.0):.6f}, 3/14 = {3 / 14:.6f}")
    figure_boundary()
    plt.show()
