"""Introduction: what machine learning and deep learning are, in a few experiments.

Four parts run through the chapter: data, a family of models, an objective, an algorithm.
Everything runs on the CPU in seconds.
"""

# --8<-- [start:imports]
import math
from collections.abc import Callable
from itertools import pairwise

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch
from torch import Tensor, nn

# --8<-- [end:imports]
from snippets.data import load_digits

SEEDS = range(10)
ARMS = (0.2, 0.5, 0.8)


# --8<-- [start:city]
CAPACITY = math.log(3000)  # log of 3000 thousand people


def exponential(t: Tensor, theta: Tensor) -> Tensor:
    """Log of the users in week t: w t; t: (n,), theta: (1,) = (w,)."""
    return theta[0] * t


def saturating(t: Tensor, theta: Tensor) -> Tensor:
    """Log of the users when only exp(c) thousand exist; t: (n,), theta: (2,) = (w, c)."""
    w, c = theta
    return w * t - torch.log1p(torch.expm1(w * t) * torch.exp(-c))


def observe(n: int, weeks: float, seed: int) -> tuple[Tensor, Tensor]:
    """Return n times in [0, weeks] and the logs of the users counted then, both (n,).

    The city follows the saturating curve with w = 1; a count is 10 % off (sd of its log).
    """
    g = torch.Generator().manual_seed(seed)
    t = weeks * torch.rand(n, generator=g, dtype=torch.float64)  # (n,)
    truth = saturating(t, torch.tensor([1.0, CAPACITY], dtype=torch.float64))  # (n,)
    return t, truth + 0.1 * torch.randn(n, generator=g, dtype=torch.float64)


# --8<-- [end:city]


# --8<-- [start:search]
Family = Callable[[Tensor, Tensor], Tensor]


def risk(family: Family, theta: Tensor, x: Tensor, y: Tensor) -> float:
    """Mean squared error of one member of the family on n samples; x, y: (n,)."""
    return (family(x, theta) - y).square().mean().item()


def fit_by_search(family: Family, candidates: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return the row of candidates, shape (m, k), with the smallest risk on the data."""
    return min(candidates, key=lambda theta: risk(family, theta, x, y))


# --8<-- [end:search]


# --8<-- [start:networks]
class RowReader(nn.Module):
    """Read an image row by row, top to bottom, and classify by the last hidden state."""

    def __init__(self, width: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.rnn = nn.RNN(width, hidden, batch_first=True)
        self.head = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 1, rows, width) to scores (N, classes)."""
        states, _ = self.rnn(x.squeeze(1))  # (N, rows, hidden)
        return self.head(states[:, -1])


def network_zoo(seed: int) -> dict[str, nn.Module]:
    """Return three untrained networks that map (N, 1, 28, 28) to (N, 10)."""
    torch.manual_seed(seed)
    return {
        "FC": nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10)),
        "CNN": nn.Sequential(
            nn.Conv2d(1, 8, 5), nn.ReLU(), nn.MaxPool2d(2),  # (N, 8, 12, 12)
            nn.Conv2d(8, 16, 5), nn.ReLU(), nn.MaxPool2d(2),  # (N, 16, 4, 4)
            nn.Flatten(), nn.Linear(256, 10),
        ),
        "RNN": RowReader(28, 64, 10),
    }  # fmt: skip


# --8<-- [end:networks]


# --8<-- [start:rnn]
def rnn_by_hand(rnn: nn.RNN, x: Tensor) -> Tensor:
    """Run equation (11) over the time steps of one layer, from h_0 = 0.

    x: (T, N, d), time first. Returns the hidden states (T, N, h).
    """
    h = torch.zeros(x.shape[1], rnn.hidden_size, dtype=x.dtype)  # (N, h)
    bias = rnn.bias_ih_l0 + rnn.bias_hh_l0  # (h,)
    states = []
    for x_t in x:  # (N, d)
        h = torch.tanh(x_t @ rnn.weight_ih_l0.T + h @ rnn.weight_hh_l0.T + bias)
        states.append(h)
    return torch.stack(states)


# --8<-- [end:rnn]


# --8<-- [start:bandit]
def bandit_episode(probs: Tensor, eps: float, seed: int, rate: float | None = None) -> list[int]:
    """Play one episode with an epsilon-greedy agent; return the reward of every step.

    probs: (T, A), what each arm pays 1 with at each step; the agent does not see them.
    rate: how far an estimate moves towards a reward; None makes it the plain average.
    """
    g = torch.Generator().manual_seed(seed)
    pays = (torch.rand(probs.shape, generator=g) < probs).int().tolist()  # (T, A)
    lots = torch.rand(probs.shape, generator=g).tolist()  # (T, A)
    explore = (torch.rand(len(pays), generator=g) < eps).tolist()  # (T,)
    arms = range(probs.shape[1])
    value, count, rewards = [0.0 for _ in arms], [0 for _ in arms], []
    for t in range(len(pays)):
        if explore[t]:
            arm = max(arms, key=lambda a: lots[t][a])
        else:
            arm = max(arms, key=lambda a: (value[a], lots[t][a]))  # (1)!
        reward = pays[t][arm]  # (2)!
        count[arm] += 1
        value[arm] += (reward - value[arm]) * (rate or 1 / count[arm])  # (3)!
        rewards.append(reward)
    return rewards


# --8<-- [end:bandit]


# --8<-- [start:transfer]
def train_digits(X: Tensor, y: Tensor, seed: int) -> nn.Sequential:
    """Train 64-64-10 on the digits, 100 full-batch steps of Adam; X: (n, 64), y: (n,)."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10), nn.Softmax(dim=1))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net[:3](X), y).backward()
        optimizer.step()
    return net.requires_grad_(False)


def new_head(features: Tensor, target: Tensor, decay: float = 0.1) -> Callable[[Tensor], Tensor]:
    """Fit a linear yes-no answer by ridge regression; features: (n, d), target: (n,) bool."""
    mean, scale = features.mean(0), features.std()
    a = (features - mean) / scale  # (n, d)
    y = 2.0 * target - 1  # (n,)
    ridge = decay * len(a) * torch.eye(a.shape[1])  # (d, d)
    w = torch.linalg.solve(a.T @ a + ridge, a.T @ (y - y.mean()))  # (d,)
    return lambda x: ((x - mean) / scale) @ w + y.mean() > 0


# --8<-- [end:transfer]


# --8<-- [start:nothing]
def risks_without_signal(n: int, d: int, problems: int, seed: int) -> tuple[float, float]:
    """Least squares where labels and features have nothing to do with each other.

    Returns the mean squared error on the n training samples and on 100 new ones,
    averaged over the problems. The labels have variance 1: answering 0 has risk 1.
    """
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(problems, n + 100, d, generator=g, dtype=torch.float64)  # (P, n + 100, d)
    y = torch.randn(problems, n + 100, 1, generator=g, dtype=torch.float64)  # (P, n + 100, 1)
    w = torch.linalg.lstsq(x[:, :n], y[:, :n]).solution  # (P, d, 1)
    error = (x @ w - y).square()  # (P, n + 100, 1)
    return error[:, :n].mean().item(), error[:, n:].mean().item()


# --8<-- [end:nothing]


def growth_grid() -> Tensor:
    """Candidates for the exponential family, (501, 1)."""
    return torch.linspace(0.75, 1.25, 501, dtype=torch.float64)[:, None]


def saturating_grid() -> Tensor:
    """Candidates (w, c) for the saturating family, (1023, 2); exp(c) from 300 to 3 million."""
    w = torch.linspace(0.95, 1.05, 11, dtype=torch.float64)
    c = torch.linspace(math.log(300), math.log(3e6), 93, dtype=torch.float64)
    return torch.cartesian_prod(w, c)


def constant_arms(probs: tuple[float, ...], steps: int) -> Tensor:
    """A world that does not change, (steps, A)."""
    return torch.tensor(probs).expand(steps, len(probs))


def diagram(height: float) -> tuple[Figure, Axes]:
    """An empty canvas, ten units wide, whose units are square."""
    fig, ax = plt.subplots(figsize=(4.8, height), layout="constrained")
    ax.set(xlim=(0, 10), ylim=(0, 10 * height / 4.8), aspect="equal")
    ax.axis("off")
    return fig, ax


def box(
    ax: Axes, x: float, y: float, width: float, height: float, text: str, color: str = "C0"
) -> None:
    """A rounded box with its centre at (x, y)."""
    corner = (x - width / 2, y - height / 2)
    style = "round,pad=0,rounding_size=0.2"
    ax.add_patch(FancyBboxPatch(corner, width, height, boxstyle=style, fc="none", ec=color, lw=1.6))
    ax.text(x, y, text, ha="center", va="center", linespacing=1.3)


def arrow(
    ax: Axes, start: tuple[float, float], end: tuple[float, float], bend: float = 0.0
) -> None:
    """An arrow from start to end; bend > 0 curves it."""
    style = {"arrowstyle": "-|>", "color": plt.rcParams["text.color"], "lw": 1.4}
    style |= {"shrinkA": 0, "shrinkB": 0, "connectionstyle": f"arc3,rad={bend}"}
    ax.annotate("", end, start, arrowprops=style)


def figure_growth() -> Figure:
    """Users against weeks: the observed window, the fitted exponential and the truth."""
    t, y = observe(40, 5, seed=0)
    theta = fit_by_search(exponential, growth_grid(), t, y)
    week = torch.linspace(0, 12, 61, dtype=torch.float64)
    truth = saturating(week, torch.tensor([1.0, CAPACITY], dtype=torch.float64))
    fig, ax = plt.subplots(figsize=(4.8, 3.4), layout="constrained")
    ax.axvspan(0, 5, color="C2", alpha=0.12, lw=0)
    ax.semilogy(week, exponential(week, theta).exp(), "C1--", label="fitted exponential")
    ax.semilogy(week, truth.exp(), "C0", label="what happened")
    ax.semilogy(t, y.exp(), "o", color="C2", markersize=3.5, label="the data")
    ax.axhline(3000, color=plt.rcParams["text.color"], lw=0.8, ls=":")
    ax.text(0.2, 3700, "everybody")
    ax.set(xlabel="week", ylabel="users (thousands)", xlim=(0, 12), ylim=(0.6, 6e5))
    ax.legend(loc="lower right", frameon=False)
    return fig


def figure_cycle() -> Figure:
    """The learning loop: guess, take samples, adjust, repeat."""
    fig, ax = diagram(3.3)
    box(ax, 5.9, 6.0, 5.2, 1.3, "1. model with initial $\\theta$")
    box(ax, 8.2, 3.6, 3.2, 1.4, "2. take\nsamples", "C2")
    box(ax, 5, 1.0, 5.6, 1.4, "3. adjust $\\theta$ so that\nthe objective improves", "C1")
    box(ax, 1.8, 3.6, 3.2, 1.4, "4. good\nenough?", "C3")
    arrow(ax, (7.4, 5.35), (8.2, 4.3))
    arrow(ax, (8.2, 2.9), (7.2, 1.7))
    arrow(ax, (2.8, 1.7), (1.8, 2.9))
    arrow(ax, (3.4, 3.6), (6.6, 3.6))
    ax.text(5, 3.8, "no", ha="center", va="bottom")
    arrow(ax, (1.5, 4.3), (1.5, 5.6))
    ax.text(1.5, 5.75, "yes: use it", ha="center", va="bottom", color="C3")
    return fig


def figure_map() -> Figure:
    """What the data tell the learner splits the field in three."""
    fig, ax = diagram(4.2)
    ink = plt.rcParams["text.color"]
    box(ax, 5, 8.1, 7.4, 1.0, "What comes with each input?", ink)
    columns = (
        (1.67, "C0", "a label", "supervised",
         "regression\nclassification\ntagging\nsearch\nrecommending\nsequences"),
        (5.0, "C2", "nothing", "unsupervised",
         "clustering\nPCA\ngenerating\n(GAN)\ngraphical\nmodels"),
        (8.33, "C1", "a reward", "reinforcement", "bandits\ngames\nrobots"),
    )  # fmt: skip
    for x, color, answer, name, tasks in columns:
        arrow(ax, (5 + (x - 5) * 0.75, 7.6), (x, 6.6))
        ax.text(x, 6.15, answer, ha="center", va="center", style="italic")
        box(ax, x, 5.2, 3.2, 1.0, name, color)
        ax.text(x, 4.45, tasks, ha="center", va="top", linespacing=1.25)
    box(ax, 5, 0.6, 9.86, 1.0, "deep learning: the model is a network", "C3")
    return fig


def figure_supervised() -> Figure:
    """Supervised learning: examples make the model, the model answers for new inputs."""
    fig, ax = diagram(2.7)
    box(ax, 1.9, 4.6, 3.6, 1.5, "inputs $X$\nand labels $y$", "C2")
    box(ax, 6.0, 4.6, 2.8, 1.5, "learning\nalgorithm", "C1")
    box(ax, 6.0, 1.2, 2.8, 1.5, "model\n$f(x;\\,\\hat\\theta)$")
    ax.text(1.9, 1.2, "new\ninput $x$", ha="center", va="center")
    ax.text(8.9, 1.2, "predic-\ntion $\\hat y$", ha="center", va="center")
    arrow(ax, (3.7, 4.6), (4.6, 4.6))
    arrow(ax, (6.0, 3.85), (6.0, 1.95))
    ax.text(6.3, 2.9, "picks $\\hat\\theta$", va="center")
    arrow(ax, (2.8, 1.2), (4.6, 1.2))
    arrow(ax, (7.4, 1.2), (8.0, 1.2))
    return fig


def figure_environment_data() -> Figure:
    """Collect from the environment once, then learn apart from it."""
    fig, ax = diagram(2.1)
    box(ax, 1.6, 2.9, 3.0, 1.5, "environ-\nment", "C2")
    box(ax, 5.1, 2.9, 2.2, 1.5, "data\nset", "C0")
    box(ax, 8.4, 2.9, 2.9, 1.5, "training", "C1")
    arrow(ax, (3.1, 2.9), (4.0, 2.9))
    arrow(ax, (6.2, 2.9), (6.95, 2.9))
    arrow(ax, (8.0, 2.15), (2.0, 2.1), -0.3)
    ax.text(5, 0.5, "the model is used here later", ha="center", va="center")
    return fig


def figure_agent() -> Figure:
    """The loop of reinforcement learning."""
    fig, ax = diagram(2.3)
    box(ax, 1.7, 2.4, 3.0, 1.7, "agent", "C0")
    box(ax, 8.2, 2.4, 3.2, 1.7, "environ-\nment", "C2")
    arrow(ax, (2.2, 3.3), (7.7, 3.3), -0.2)
    arrow(ax, (7.7, 1.5), (2.2, 1.5), -0.2)
    ax.text(5, 4.25, "action $a_t$", ha="center", va="center")
    ax.text(5, 0.4, "observation, reward $r_t$", ha="center", va="center")
    return fig


def figure_fully_connected() -> Figure:
    """Every unit is connected with every unit of the layer before."""
    fig, ax = diagram(2.3)
    sizes, colors = (4, 5, 3), ("C2", "C0", "C1")
    layers = [
        [(1.5 + 3.5 * k, 2.65 + 0.85 * (i - (n - 1) / 2)) for i in range(n)]
        for k, n in enumerate(sizes)
    ]
    for left, right in pairwise(layers):
        for a in left:
            for b in right:
                ax.plot(*zip(a, b, strict=True), color=plt.rcParams["grid.color"], lw=1.0, zorder=1)
    for layer, color, name in zip(layers, colors, ("input", "hidden", "output"), strict=True):
        for place in layer:
            ax.add_patch(Circle(place, 0.3, fc=color, ec="none", zorder=2))
        ax.text(layer[0][0], 0.1, name, ha="center", va="center")
    return fig


def figure_convolutional() -> Figure:
    """The feature maps of the CNN in `network_zoo`: channels above, size below."""
    fig, ax = diagram(2.2)
    maps = ((1.15, 28, 1), (3.95, 24, 8), (6.35, 12, 8), (8.0, 8, 16), (9.25, 4, 16))
    for k, (x, size, channels) in enumerate(maps):
        side = 0.078 * size
        copies = min(channels, 3)
        for i in reversed(range(copies)):
            corner = (x - side / 2 + 0.14 * i, 2.1 - side / 2 + 0.14 * i)
            color = ("C2", "C0", "C3", "C0", "C3")[k]
            ax.add_patch(plt.Rectangle(corner, side, side, fc=color, ec="none", alpha=0.35))
            ax.add_patch(plt.Rectangle(corner, side, side, fc="none", ec=color, lw=1.2))
        ax.text(x, 0.62, f"{channels}", ha="center", va="center")
        ax.text(x, 0.1, f"{size}×{size}", ha="center", va="center")
    for x, name in ((2.6, "conv"), (5.3, "pool"), (7.3, "conv"), (8.72, "pool")):
        ax.text(x, 4.0, name, ha="center", va="center")
        arrow(ax, (x - 0.3, 3.6), (x + 0.3, 3.6))
    return fig


def figure_recurrent() -> Figure:
    """One cell, drawn once for each time step: the same weights every time."""
    fig, ax = diagram(2.3)
    for t, x in enumerate((2.1, 5.1, 8.1)):
        box(ax, x, 2.4, 1.7, 1.2, "cell", "C0")
        ax.text(x, 0.25, f"$x_{t + 1}$", ha="center", va="center")
        ax.text(x, 4.5, f"$\\hat y_{t + 1}$", ha="center", va="center")
        arrow(ax, (x, 0.65), (x, 1.8))
        arrow(ax, (x, 3.0), (x, 4.1))
        arrow(ax, (x - 2.15, 2.4), (x - 0.85, 2.4))
        ax.text(x - 1.5, 2.75, f"$h_{t}$", ha="center", va="center")
    return fig


def figure_bandit() -> Figure:
    """Mean reward of three agents against the step, with the predicted levels."""
    fig, ax = plt.subplots(figsize=(4.8, 3.4), layout="constrained")
    probs = constant_arms(ARMS, 400)
    agents = (("C0", 0.1, 0.77, "explores every tenth step"), ("C1", 0.0, 0.62, "never explores"),
              ("C2", 1.0, 0.5, "always explores"))  # fmt: skip
    for color, eps, level, name in agents:
        runs = torch.tensor([bandit_episode(probs, eps, seed) for seed in range(300)])  # (300, T)
        curve = runs.float().mean(0).unfold(0, 10, 10).mean(1)  # (T / 10,)
        ax.plot(torch.arange(5, 400, 10), curve, color=color)
        ax.axhline(level, color=color, ls="--", lw=1)
        ax.text(395, level - 0.06, name, color=color, ha="right", va="center")
    ax.set(xlabel="step", ylabel="mean reward per step", xlim=(0, 400), ylim=(0.4, 0.85))
    return fig


def experiment_growth(seed: int) -> dict[str, float]:
    """Two families, 40 or 4000 samples of weeks 0 to 5: errors on 40 fresh ones and in week 12.

    The factor is the predicted number of users in week 12 over the true one.
    """
    late = torch.tensor([12.0], dtype=torch.float64)
    truth = torch.tensor([1.0, CAPACITY], dtype=torch.float64)
    t, y = observe(80, 5, seed)
    many, wide = observe(4000, 5, seed + 100), observe(40, 12, seed + 200)
    out = {}
    for name, family, grid in (
        ("exponential", exponential, growth_grid()),
        ("saturating", saturating, saturating_grid()),
    ):
        few = fit_by_search(family, grid, t[:40], y[:40])
        out[f"{name}_train"] = risk(family, few, t[:40], y[:40]) ** 0.5
        out[f"{name}_held"] = risk(family, few, t[40:], y[40:]) ** 0.5
        for size, theta in (("few", few), ("many", fit_by_search(family, grid, *many))):
            log_factor = family(late, theta) - saturating(late, truth)
            out[f"{name}_{size}"] = log_factor.exp().item()
        theta = fit_by_search(family, grid, *wide)
        out[f"{name}_wide"] = risk(family, theta, *wide) ** 0.5
    return out


def experiment_bandit(seed: int) -> dict[str, float]:
    """Mean reward per step over 2000 steps: one episode an agent; greedy over 40 of 500 too."""
    probs = constant_arms(ARMS, 2000)
    out = {
        name: sum(bandit_episode(probs, eps, seed)) / 2000
        for name, eps in (("explore", 0.1), ("uniform", 1.0), ("greedy", 0.0))
    }
    short = constant_arms(ARMS, 500)
    rewards = [sum(bandit_episode(short, 0.0, 1000 * seed + k)) for k in range(1, 41)]
    out["greedy_forty"] = sum(rewards) / (40 * 500)
    same = constant_arms((0.5, 0.5, 0.5), 2000)
    for name, eps in (("explore_same", 0.1), ("uniform_same", 1.0)):
        out[name] = sum(bandit_episode(same, eps, seed)) / 2000
    return out


def experiment_change(seed: int) -> dict[str, float]:
    """Mean reward before and after the arms change places, 1000 steps each."""
    probs = torch.cat([constant_arms(ARMS, 1000), constant_arms(ARMS[::-1], 1000)])  # (2000, 3)
    agents = {"average": (0.1, None), "recent": (0.1, 0.1), "uniform": (1.0, None)}
    out = {}
    for name, (eps, rate) in agents.items():
        rewards = bandit_episode(probs, eps, seed, rate)
        out[f"{name}_before"] = sum(rewards[:1000]) / 1000
        out[f"{name}_after"] = sum(rewards[1000:]) / 1000
    return out


def experiment_transfer(seed: int) -> dict[str, float]:
    """Test accuracy of two new tasks from 50 labels: on pixels, on a trained net's answers."""
    X, y, X_test, y_test = load_digits(seed)
    net = train_digits(X, y, seed)
    few = torch.randperm(len(X), generator=torch.Generator().manual_seed(seed))[:50]
    ink, ink_test = X.mean(1), X_test.mean(1)
    tasks = {
        "odd": (y % 2 == 1, y_test % 2 == 1),
        "dark": (ink > ink.median(), ink_test > ink.median()),
    }
    out = {"digits": (net(X_test).argmax(1) == y_test).float().mean().item()}
    for task, (target, target_test) in tasks.items():
        for name, features in (("pixels", nn.Identity()), ("net", net)):
            answer = new_head(features(X[few]), target[few])
            hit = answer(features(X_test)) == target_test  # (360,)
            out[f"{task}_{name}"] = hit.float().mean().item()
    return out


def experiment_nothing(seed: int) -> dict[str, float]:
    """Risks of least squares on pure noise with d = 10: n = 40 and n = 400 samples."""
    out = {}
    for n in (40, 400):
        out[f"train_{n}"], out[f"new_{n}"] = risks_without_signal(n, 10, 200, seed)
    return out


if __name__ == "__main__":
    for experiment in (
        experiment_growth,
        experiment_bandit,
        experiment_change,
        experiment_transfer,
        experiment_nothing,
    ):
        print(experiment.__name__, experiment(0))
    for figure in (figure_growth, figure_bandit):
        figure()
    plt.show()
