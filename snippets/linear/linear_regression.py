"""Linear regression: the closed form, by hand, and as an nn.Module.

Shapes: n samples, d features, X (n, d), y (n,), design matrix A = [X 1] (n, d + 1),
parameters theta = (w, b) (d + 1,). The loss is the mean squared error without a factor 1/2.
"""

# --8<-- [start:imports]
import copy
from collections.abc import Iterable, Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

# --8<-- [end:imports]

SEEDS = range(10)


# --8<-- [start:points15]
def points15() -> tuple[Tensor, Tensor]:
    """X (15, 1), y (15,), float64. Source: yunjey/pytorch-tutorial."""
    x = [3.3, 4.4, 5.5, 6.71, 6.93, 4.168, 9.779, 6.182]
    x += [7.59, 2.167, 7.042, 10.791, 5.313, 7.997, 3.1]
    y = [1.7, 2.76, 2.09, 3.19, 1.694, 1.573, 3.366, 2.596]
    y += [2.53, 1.221, 2.827, 3.465, 1.65, 2.904, 1.3]
    X = torch.tensor(x, dtype=torch.float64).unsqueeze(1)  # (15, 1)
    return X, torch.tensor(y, dtype=torch.float64)  # (15,)


# --8<-- [end:points15]


# --8<-- [start:fit_layer]
def fit_layer(
    X: Tensor,
    y: Tensor,
    lr: float,
    steps: int,
) -> tuple[nn.Linear, list[float]]:
    """Full-batch descent from w = 0, b = 0; the loss before each step."""
    layer = nn.Linear(X.shape[1], 1, dtype=X.dtype)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimizer = torch.optim.SGD(layer.parameters(), lr=lr)
    losses = []
    for _ in range(steps):
        loss = F.mse_loss(layer(X).squeeze(1), y)  # (1)!
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return layer, losses


# --8<-- [end:fit_layer]


# --8<-- [start:normal_equation]
def add_ones(X: Tensor) -> Tensor:
    """Append the column of ones: (n, d) -> (n, d + 1)."""
    return torch.cat([X, torch.ones_like(X[:, :1])], dim=1)


def normal_equation(X: Tensor, y: Tensor) -> Tensor:
    """Solve A^T A theta = A^T y for theta = (w, b), shape (d + 1,).

    Raises torch.linalg.LinAlgError where elimination meets a zero pivot.
    """
    A = add_ones(X)  # (n, d + 1)
    return torch.linalg.solve(A.T @ A, A.T @ y)  # (1)!


def least_squares(X: Tensor, y: Tensor) -> Tensor:
    """The same minimiser by QR of A, never forming A^T A. (d + 1,)."""
    return torch.linalg.lstsq(add_ones(X), y.unsqueeze(1)).solution.squeeze(1)


# --8<-- [end:normal_equation]


# --8<-- [start:gradient_descent]
def mse(A: Tensor, y: Tensor, theta: Tensor) -> float:
    """Mean squared error of A theta against y; A (n, p), theta (p,)."""
    return (A @ theta - y).square().mean().item()


def gradient(A: Tensor, y: Tensor, theta: Tensor) -> Tensor:
    """Gradient of the same error: 2/n A^T (A theta - y), shape (p,)."""
    return 2 / len(y) * (A.T @ (A @ theta - y))


def gradient_descent(
    A: Tensor, y: Tensor, lr: float, steps: int, start: Tensor | None = None
) -> tuple[Tensor, list[float]]:
    """Full-batch descent from start (or 0); the loss before each step."""
    theta = torch.zeros_like(A[0]) if start is None else start.clone()  # (p,)
    losses = []
    for _ in range(steps):
        losses.append(mse(A, y, theta))
        theta = theta - lr * gradient(A, y, theta)
    return theta, losses


# --8<-- [end:gradient_descent]


# --8<-- [start:make_data]
def make_data(
    n: int, weights: Iterable[float], bias: float, noise: float, seed: int
) -> tuple[Tensor, Tensor]:
    """y = Xw + b + noise * N(0, 1) with standard normal X (n, d); y (n,)."""
    generator = torch.Generator().manual_seed(seed)
    w = torch.tensor(list(weights))  # (d,)
    X = torch.randn(n, len(w), generator=generator)
    return X, X @ w + bias + noise * torch.randn(n, generator=generator)


# --8<-- [end:make_data]


# --8<-- [start:figure_scatter]
def figure_scatter() -> Figure:
    """The second feature against the label of 1000 generated samples."""
    features, labels = make_data(1000, (2.0, -3.4), 4.2, 0.01, seed=0)
    figure, axes = plt.subplots(layout="constrained")
    axes.scatter(features[:, 1].numpy(), labels.numpy(), s=3)  # (1)!
    axes.set_xlabel("feature $x_2$")
    axes.set_ylabel("label $y$")
    axes.grid(True)
    return figure


# --8<-- [end:figure_scatter]


# --8<-- [start:data_iter]
def data_iter(
    batch_size: int, X: Tensor, y: Tensor, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """One shuffled epoch: every sample once, the last batch may be smaller."""
    order = torch.randperm(len(y), generator=generator)
    for i in range(0, len(y), batch_size):
        batch = order[i : i + batch_size]
        yield X[batch], y[batch]  # (B, d), (B,)


# --8<-- [end:data_iter]


# --8<-- [start:scratch]
def train_scratch(
    X: Tensor, y: Tensor, lr: float, epochs: int, batch_size: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Mini-batch gradient descent without torch.nn; returns w (d,) and b ()."""
    generator = torch.Generator().manual_seed(seed)
    w = torch.zeros(X.shape[1], dtype=X.dtype, requires_grad=True)  # (d,)
    b = torch.zeros((), dtype=X.dtype, requires_grad=True)  # ()
    for _ in range(epochs):
        for xb, yb in data_iter(batch_size, X, y, generator):
            prediction = xb @ w + b  # (B,)
            loss = (prediction - yb).square().mean()
            loss.backward()
            with torch.no_grad():  # (1)!
                for parameter in (w, b):
                    parameter -= lr * parameter.grad
                    parameter.grad.zero_()  # (2)!
    return w.detach(), b.detach()


# --8<-- [end:scratch]


# --8<-- [start:module]
class LinearRegression(nn.Module):
    """Standardise, then one output neuron: (n, d) -> (n,)."""

    def __init__(
        self,
        n_features: int,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(n_features, 1)
        nn.init.normal_(self.linear.weight, std=0.01, generator=generator)
        nn.init.constant_(self.linear.bias, 0.0)
        self.register_buffer("mean", torch.zeros(n_features))  # (1)!
        self.register_buffer("std", torch.ones(n_features))

    def fit_scaler(self, X: Tensor) -> None:
        """Mean and sd of X (n, d); ValueError if a column is constant."""
        std = X.std(dim=0, correction=0)  # (d,)
        if (std == 0).any():
            raise ValueError("a feature is constant")
        self.mean.copy_(X.mean(dim=0))
        self.std.copy_(std)

    def forward(self, X: Tensor) -> Tensor:
        scaled = (X - self.mean) / self.std  # (n, d)
        return self.linear(scaled).squeeze(1)  # (n,)


# --8<-- [end:module]


# --8<-- [start:train_epoch]
def train_epoch(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    optimizer: torch.optim.Optimizer,
) -> float:
    """One pass; the mean loss per sample, measured along the way."""
    model.train()
    total, count = 0.0, 0
    for X, y in batches:
        loss = F.mse_loss(model(X), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(y)
        count += len(y)
    return total / count


def evaluate(model: nn.Module, X: Tensor, y: Tensor) -> float:
    """Mean squared error in evaluation mode, without recording a graph."""
    model.eval()
    with torch.no_grad():
        return F.mse_loss(model(X), y).item()


# --8<-- [end:train_epoch]


# --8<-- [start:houses]
def make_houses(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """X (n, 2): area, age; y (n,): price in 10 000 yuan, noise 20. float64."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, 3, dtype=torch.float64, generator=generator)
    area = 90 + 25 * z[:, 0]  # m^2
    age = 15 + 8 * z[:, 1]  # years
    X = torch.stack([area, age], dim=1)  # (n, 2)
    return X, 3 * area - 2 * age + 50 + 20 * z[:, 2]


def split_three(
    X: Tensor, y: Tensor, n_train: int, n_valid: int, seed: int
) -> list[tuple[Tensor, Tensor]]:
    """Shuffle once, then cut into training, validation and test part."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(y), generator=generator)
    parts = order.tensor_split([n_train, n_train + n_valid])
    return [(X[part], y[part]) for part in parts]


def pick_device() -> torch.device:
    """The accelerator of this machine, or the CPU."""
    found = torch.accelerator.current_accelerator(check_available=True)
    return found or torch.device("cpu")


# --8<-- [end:houses]


# --8<-- [start:train_module]
def train_module(
    model: nn.Module,
    loader: Iterable[tuple[Tensor, Tensor]],
    valid: tuple[Tensor, Tensor],
    epochs: int,
    lr: float,
) -> list[tuple[float, float]]:
    """Keep the best validation epoch; return (train, validation) losses."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    best, best_state, history = float("inf"), None, []
    for _ in range(epochs):
        train_loss = train_epoch(model, loader, optimizer)
        valid_loss = evaluate(model, *valid)
        history.append((train_loss, valid_loss))
        if valid_loss < best:
            best = valid_loss
            best_state = copy.deepcopy(model.state_dict())  # (1)!
    if best_state is None:
        raise ValueError("no epoch with a finite validation loss")
    model.load_state_dict(best_state)
    return history


# --8<-- [end:train_module]


# --8<-- [start:checkpoint]
def save_model(model: nn.Module, path: Path) -> None:
    """Write parameters and buffers; the class stays in the source code."""
    torch.save(model.state_dict(), path)


def load_model(n_features: int, path: Path) -> LinearRegression:
    """Build the class anew, fill it from the file, set evaluation mode."""
    model = LinearRegression(n_features)
    state = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(state)
    return model.eval()


# --8<-- [end:checkpoint]


# --8<-- [start:experiment_scaling]
def experiment_scaling(seed: int) -> dict[str, float]:
    """100 steps of descent on raw, centred and standardised features."""
    X, y = make_houses(200, seed)
    mean, std = X.mean(dim=0), X.std(dim=0, correction=0)  # (2,)
    arms = {"raw": X, "centred": X - mean, "scaled": (X - mean) / std}
    result = {"loss_exact": mse(add_ones(X), y, normal_equation(X, y))}
    for name, features in arms.items():
        A = add_ones(features)  # (200, 3)
        eigenvalues = torch.linalg.eigvalsh(2 / len(y) * A.T @ A)
        lr = 1 / eigenvalues[-1].item()
        theta, _ = gradient_descent(A, y, lr, steps=100)
        loss = mse(A, y, theta)
        result[f"condition_{name}"] = (eigenvalues[-1] / eigenvalues[0]).item()
        result[f"loss_{name}"] = loss
        result[f"excess_{name}"] = loss / result["loss_exact"] - 1
    return result


# --8<-- [end:experiment_scaling]


# --8<-- [start:min_norm]
def experiment_min_norm(seed: int) -> dict[str, float]:
    """20 samples, 60 features: the starting point and the test error."""
    generator = torch.Generator().manual_seed(seed)
    draw = {"dtype": torch.float64, "generator": generator}
    n, d, noise = 20, 60, 0.1
    w = torch.randn(d, **draw) / d**0.5
    X = torch.randn(n, d, **draw)
    y = X @ w + noise * torch.randn(n, **draw)
    direction = torch.randn(d, **draw)
    shortest = torch.linalg.pinv(X) @ y  # (d,)
    lr = 1 / torch.linalg.eigvalsh(2 / n * X.T @ X)[-1].item()
    result = {"test_nothing": torch.sum(w**2).item() + noise**2}
    for name, size in {"zero": 0.0, "small": 0.01, "large": 1.0}.items():
        theta, _ = gradient_descent(X, y, lr, 1000, size * direction)
        error = torch.sum((theta - w) ** 2).item() + noise**2  # (1)!
        result[f"train_{name}"] = mse(X, y, theta)
        result[f"test_{name}"] = error
        result[f"gap_{name}"] = torch.dist(theta, shortest).item()
    return result | {"test_normal": normal_equation_error(X, y, w, noise)}


# --8<-- [end:min_norm]


# --8<-- [start:polynomial]
def polynomial_features(x: Tensor, degree: int) -> Tensor:
    """Powers x, x^2, ..., x^degree of x (n,) as columns: (n, degree)."""
    return torch.stack([x**k for k in range(1, degree + 1)], dim=1)


# --8<-- [end:polynomial]


def normal_equation_error(X: Tensor, y: Tensor, w: Tensor, noise: float) -> float:
    """Test error of solve(X^T X, X^T y), infinite where it raises."""
    try:
        theta = torch.linalg.solve(X.T @ X, X.T @ y)
    except torch.linalg.LinAlgError:
        return float("inf")
    return torch.sum((theta - w) ** 2).item() + noise**2


def experiment_start(seed: int) -> dict[str, float]:
    """The 15 points from a random start: 1000 steps at 0.001 beside 5000 steps at 0.02."""
    X, y = points15()
    A = add_ones(X)  # (15, 2)
    exact = normal_equation(X, y)
    generator = torch.Generator().manual_seed(seed)
    start = 2 * torch.rand(2, dtype=torch.float64, generator=generator) - 1
    slow_direction = torch.linalg.eigh(A.T @ A).eigenvectors[:, 0]
    result = {}
    for name, lr, steps in (("slow", 0.001, 1000), ("fast", 0.02, 5000)):
        theta, _ = gradient_descent(A, y, lr, steps, start)
        result[f"loss_{name}"] = mse(A, y, theta)
        result[f"gap_b_{name}"] = abs(theta[1] - exact[1]).item()
        remaining = slow_direction @ (theta - exact) / (slow_direction @ (start - exact))
        result[f"remaining_{name}"] = remaining.item()
    return result


def experiment_recovery(seed: int) -> dict[str, float]:
    """Largest parameter error on (2, -3.4, 4.2) of three ways, same data."""
    truth = torch.tensor([2.0, -3.4, 4.2])
    X, y = make_data(1000, (2.0, -3.4), 4.2, 0.01, seed)
    w, b = train_scratch(X, y, lr=0.03, epochs=3, batch_size=10, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    model = LinearRegression(2, generator)
    loader = DataLoader(TensorDataset(X, y), batch_size=10, shuffle=True, generator=generator)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03)
    for _ in range(3):
        train_epoch(model, loader, optimizer)
    by_module = torch.cat([model.linear.weight[0], model.linear.bias]).detach()
    by_hand = torch.cat([w, b.unsqueeze(0)])
    found = {"scratch": by_hand, "module": by_module, "closed": normal_equation(X, y)}
    return {f"error_{k}": (theta - truth).abs().max().item() for k, theta in found.items()}


def select_states(lr: float, seed: int) -> dict[str, float]:
    """Train with batches of 4 and return the exact test error of three ways to choose a state."""
    truth = torch.tensor([2.0, -3.4, 4.2], dtype=torch.float64)
    X, y = make_data(100, (2.0, -3.4), 4.2, 1.0, seed)
    X_valid, y_valid = make_data(100, (2.0, -3.4), 4.2, 1.0, seed + 1000)
    A, y = add_ones(X.double()), y.double()
    A_valid, y_valid = add_ones(X_valid.double()), y_valid.double()
    generator = torch.Generator().manual_seed(seed)
    theta = torch.zeros(3, dtype=torch.float64)
    lucky, lucky_loss, epochs = theta, float("inf"), []
    for _ in range(20):
        for a, target in data_iter(4, A, y, generator):
            loss = mse(a, target, theta)
            if loss < lucky_loss:
                lucky, lucky_loss = theta, loss
            theta = theta - lr * gradient(a, target, theta)
        epochs.append(theta)
    valid = min(epochs, key=lambda state: mse(A_valid, y_valid, state))
    chosen = {"lucky": lucky, "valid": valid, "last": theta}
    return {k: 1 + (state - truth).square().sum().item() for k, state in chosen.items()}


def experiment_selection(seed: int) -> dict[str, float]:
    """Smallest mini-batch loss, smallest validation loss, last epoch; large and small rate."""
    rates = {"hot": 0.2, "cool": 0.02}
    return {
        f"{rate}_{way}": error
        for rate, lr in rates.items()
        for way, error in select_states(lr, seed).items()
    }


def make_curved(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """y = 2 x1 + 10 x2 + x1^2 + 0.5 N(0, 1); X (n, 2) standard normal, float64."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, 3, dtype=torch.float64, generator=generator)
    return z[:, :2], 2 * z[:, 0] + 10 * z[:, 1] + z[:, 0].square() + 0.5 * z[:, 2]


def experiment_features(seed: int) -> dict[str, float]:
    """Mean squared error of the closed form without and with the column x1^2."""
    X, y = make_curved(500, seed)
    wide = torch.cat([X, X[:, :1].square()], dim=1)  # (n, 3)
    return {
        "mse_plain": mse(add_ones(X), y, normal_equation(X, y)),
        "mse_squared": mse(add_ones(wide), y, normal_equation(wide, y)),
    }


def make_twins(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Two nearly equal features, difference 1e-3; y = 2 x1 + 0.1 N(0, 1), float64."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, 3, dtype=torch.float64, generator=generator)
    X = torch.stack([z[:, 0], z[:, 0] + 1e-3 * z[:, 1]], dim=1)  # (n, 2)
    return X, 2 * z[:, 0] + 0.1 * z[:, 2]


def experiment_collinear(seed: int) -> dict[str, float]:
    """Nearly equal features: correct digits of two float32 solvers, exact solution, 200 steps."""
    X, y = make_twins(200, seed)
    X_test, y_test = make_twins(1000, seed + 1000)
    A, A_test = add_ones(X), add_ones(X_test)
    exact = least_squares(X, y)
    lr = 1 / torch.linalg.eigvalsh(2 / len(y) * A.T @ A)[-1].item()
    descent, _ = gradient_descent(A, y, lr, steps=200)
    solvers = {"normal": normal_equation, "qr": least_squares}
    result = {
        f"digits_{name}": torch.log10(
            exact.norm() / torch.dist(solve(X.float(), y.float()), exact)
        ).item()
        for name, solve in solvers.items()
    }
    scaled = (X - X.mean(dim=0)) / X.std(dim=0, correction=0)
    return result | {
        "condition": torch.linalg.cond(A).item(),
        "condition_scaled": torch.linalg.cond(add_ones(scaled)).item(),
        "w1_exact": exact[0].item(),
        "w1_descent": descent[0].item(),
        "test_exact": mse(A_test, y_test, exact),
        "test_descent": mse(A_test, y_test, descent),
    }


def figure_fit() -> Figure:
    """The 15 points, the least-squares line, and the line after 1000 steps at 0.001."""
    X, y = points15()
    grid = torch.linspace(0, 11, 2, dtype=torch.float64).unsqueeze(1)
    exact = normal_equation(X, y)
    early, _ = gradient_descent(add_ones(X), y, 0.001, 1000)
    figure, axes = plt.subplots(layout="constrained")
    axes.scatter(X[:, 0].numpy(), y.numpy(), s=24, color=plt.rcParams["text.color"], zorder=3)
    axes.plot(grid[:, 0], add_ones(grid) @ exact, color="C1", label="least squares")
    axes.plot(
        grid[:, 0], add_ones(grid) @ early, "--", color="C0", label="1000 steps, $\\eta=0.001$"
    )
    axes.set_xlim(0, 11.2)
    axes.set_ylim(0, 4.6)
    axes.set_xlabel("$x$")
    axes.set_ylabel("$y$")
    axes.legend(loc="upper left")
    axes.grid(True)
    return figure


def figure_loss_curve() -> Figure:
    """The same two runs twice: the loss, and its distance to the minimum on a log scale."""
    X, y = points15()
    A = add_ones(X)
    minimum = mse(A, y, normal_equation(X, y))
    figure, (top, bottom) = plt.subplots(
        2, 1, sharex=True, figsize=(4.8, 5.0), layout="constrained"
    )
    for lr, color in ((0.001, "C0"), (0.02, "C1")):
        losses = torch.tensor(gradient_descent(A, y, lr, 1000)[1], dtype=torch.float64)
        top.plot(losses, color=color, label=f"$\\eta={lr}$")
        bottom.semilogy(losses - minimum, color=color)
    top.set_ylabel("loss $L$")
    top.legend()
    bottom.set_ylabel("$L - L_{\\min}$")
    bottom.set_xlabel("step")
    for axes in (top, bottom):
        axes.grid(True)
    return figure


def figure_scaling() -> Figure:
    """Loss of the house prices against the step for raw, centred and standardised features."""
    X, y = make_houses(200, seed=0)
    mean, std = X.mean(dim=0), X.std(dim=0, correction=0)
    arms = {"centred": X - mean, "raw": X, "standardised": (X - mean) / std}
    figure, axes = plt.subplots(layout="constrained")
    for (name, features), style in zip(arms.items(), ("-", "--", "-"), strict=True):
        A = add_ones(features)
        lr = 1 / torch.linalg.eigvalsh(2 / len(y) * A.T @ A)[-1].item()
        losses = gradient_descent(A, y, lr, 101)[1]
        axes.plot(losses, style, label=name)
    minimum = mse(add_ones(X), y, normal_equation(X, y))
    axes.axhline(minimum, ls=":", color=plt.rcParams["text.color"], label="minimum")
    axes.set_yscale("log")
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(0, 100)
    axes.set_xlabel("step")
    axes.set_ylabel("training MSE")
    axes.legend(loc="upper right", bbox_to_anchor=(1, 0.88))
    axes.grid(True)
    return figure


def figure_min_norm() -> Figure:
    """One equation w1 + 2 w2 = 5: from two starts to two points of the line of solutions."""
    A = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    y = torch.tensor([5.0], dtype=torch.float64)
    figure, axes = plt.subplots(figsize=(4.8, 4.2), layout="constrained")
    axes.plot([-1.0, 5.0], [3.0, 0.0], color=plt.rcParams["text.color"], label="all with loss 0")
    for start, color, label in (
        ((0.0, 0.0), "C0", "from (0, 0)"),
        ((4.0, -1.5), "C1", "from (4, $-1.5$)"),
    ):
        path = [torch.tensor(start, dtype=torch.float64)]
        for _ in range(12):
            path.append(gradient_descent(A, y, 0.03, 1, path[-1])[0])
        points = torch.stack(path)
        axes.plot(points[:, 0], points[:, 1], "o-", ms=4, color=color, label=label)
    axes.set_aspect("equal")
    axes.set_xlabel("$w_1$")
    axes.set_ylabel("$w_2$")
    axes.set_ylim(-1.8, 4.4)
    axes.legend(loc="upper right")
    axes.grid(True)
    return figure


def figure_residuals() -> Figure:
    """A curved relation hidden in the scatter of the labels, plain in the residuals."""
    X, y = make_curved(500, seed=0)
    residual = y - add_ones(X) @ normal_equation(X, y)
    figure, (top, bottom) = plt.subplots(
        2, 1, sharex=True, figsize=(4.8, 5.0), layout="constrained"
    )
    top.scatter(X[:, 0].numpy(), y.numpy(), s=5, color="C0")
    top.set_ylabel("label $y$")
    bottom.scatter(X[:, 0].numpy(), residual.numpy(), s=5, color="C1")
    bottom.set_ylabel("residual $y - \\hat{y}$")
    bottom.set_xlabel("feature $x_1$")
    for axes in (top, bottom):
        axes.grid(True)
    return figure


if __name__ == "__main__":
    points, targets = points15()
    print("least squares (w, b):", normal_equation(points, targets).tolist())
    print("after 1000 steps at 0.001:", gradient_descent(add_ones(points), targets, 0.001, 1000)[0])
    for experiment in (experiment_start, experiment_recovery, experiment_scaling):
        print(experiment.__name__, experiment(seed=0))
    for experiment in (experiment_min_norm, experiment_collinear, experiment_selection):
        print(experiment.__name__, experiment(seed=0))
    print("experiment_features", experiment_features(seed=0))
    for draw in (figure_fit, figure_loss_curve, figure_scatter):
        draw()
    for draw in (figure_scaling, figure_min_norm, figure_residuals):
        draw()
    plt.show()
