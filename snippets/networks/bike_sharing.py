"""Universal approximation, scaling, and the bike-sharing predictor.

The network has 56 inputs, 10 sigmoid units and 1 output. Figures and experiments run on a
generated series with the columns of the UCI Bike Sharing hours; only figure_last_weeks_real draws
real hours, from the record. `python -m snippets.networks.bike_sharing --record` repeats the
experiments on the real hours (see snippets/data.py) and writes records/bike_sharing.json.
"""

# --8<-- [start:imports]
import json
import math
import time
from collections.abc import Callable
from datetime import date
from functools import cache
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

# --8<-- [end:imports]

RECORD = Path(__file__).parents[2] / "records" / "bike_sharing.json"


# --8<-- [start:calendar]
Table = dict[str, Tensor]  # column name -> (N,)


def calendar(days: int) -> Table:
    """Calendar columns as in hour.csv from 2011-01-01 on, each (24 days,)."""
    first = date(2011, 1, 1).toordinal()
    dates = [date.fromordinal(first + i) for i in range(days)]
    starts = ((3, 21), (6, 21), (9, 23), (12, 21))  # spring, summer, autumn, winter
    daily = {
        "day": [d.toordinal() for d in dates],
        "yr": [d.year - 2011 for d in dates],
        "mnth": [d.month for d in dates],
        "season": [1 + sum((d.month, d.day) >= s for s in starts) % 4 for d in dates],
        "weekday": [d.isoweekday() % 7 for d in dates],  # 0: Sunday
        "holiday": [int((d.month, d.day) in ((7, 4), (11, 11), (12, 25))) for d in dates],
    }
    table = {name: torch.tensor(values).repeat_interleave(24) for name, values in daily.items()}
    return table | {"hr": torch.arange(24).repeat(days)}


def year_end(day: Tensor) -> Tensor:
    """Say which rows fall on 22-31 December; day: date ordinals (N,)."""
    known, which = day.unique(return_inverse=True)
    dates = [date.fromordinal(d) for d in known.tolist()]
    return torch.tensor([d.month == 12 and d.day >= 22 for d in dates])[which]


# --8<-- [end:calendar]


# --8<-- [start:wander]
def wander(n: int, keep: float, g: torch.Generator) -> Tensor:
    """Random series (n,) of variance 1 that keeps the share `keep` of itself at each step."""
    value, values = torch.randn((), generator=g).item(), []
    for shock in torch.randn(n, generator=g).tolist():
        value = keep * value + math.sqrt(1 - keep**2) * shock
        values.append(value)
    return torch.tensor(values)


def bump(hr: Tensor, centre: float, width: float) -> Tensor:
    """Bell curve of height 1 over the hours."""
    return torch.exp(-0.5 * ((hr - centre) / width) ** 2)


# --8<-- [end:wander]


# --8<-- [start:make_bike_like]
def make_bike_like(days: int, seed: int, drift: bool = True) -> Table:
    """Generate rentals with the columns of hour.csv that the project uses; not real data.

    temp is 0-1 for -8 to 39 C. drift: let the level of demand grow and wander.
    """
    g = torch.Generator().manual_seed(seed)
    table = calendar(days)
    n, hr, age = 24 * days, table["hr"], table["day"] - table["day"][0]
    front = wander(n, 0.9, g)  # high: rain
    night = torch.cos(2 * math.pi * (hr - 3) / 24)
    winter = torch.cos(2 * math.pi * (age - 20) / 365.25)
    temp = 0.5 - 0.24 * winter - 0.06 * night + 0.07 * wander(days, 0.8, g)[age]
    table["temp"] = temp.clamp(0.02, 1)
    table["hum"] = (0.6 + 0.15 * front + 0.1 * night).clamp(0, 1)
    table["windspeed"] = (0.19 + 0.11 * wander(n, 0.8, g)).clamp(0, 0.85)
    table["weathersit"] = 1 + sum((front > edge).long() for edge in (0.45, 1.4, 3.6))
    work = 25 + 65 * bump(hr, 13, 4) + 440 * bump(hr, 8, 0.8) + 470 * bump(hr, 17.6, 1.5)
    free = 30 + 360 * bump(hr, 13.8, 3.8) + 75 * bump(hr, 24, 2) + 75 * bump(hr, 0, 2)
    at_work = (table["weekday"] % 6 > 0) & (table["holiday"] == 0)
    mean = torch.where(at_work, work, free) * (0.35 + 1.3 * table["temp"].clamp(max=0.75))
    mean *= torch.tensor([1.0, 0.92, 0.55, 0.3])[table["weathersit"] - 1]
    mean *= torch.where(year_end(table["day"]), 0.35, 1.0)
    if drift:
        mean *= (0.5 * (age / 365.25 - 1) + 0.15 * wander(days, 0.97, g)[age]).exp()
    mean *= (0.1 * wander(days, 0.3, g)[age] + 0.12 * torch.randn(n, generator=g)).exp()
    return table | {"cnt": torch.poisson(mean, generator=g).long().clamp(min=1)}


# --8<-- [end:make_bike_like]


# --8<-- [start:features]
def one_hot_columns(values: Tensor, first: int, count: int) -> Tensor:
    """Columns (N, count) for the categories first, first + 1, ...; ValueError for any other."""
    if values.min() < first or values.max() >= first + count:
        raise ValueError(f"a category outside {first}..{first + count - 1}")
    return F.one_hot(values - first, count).float()


def features(table: Table) -> Tensor:
    """The 56 inputs (N, 56): temp, hum, windspeed, yr, holiday, then five one-hot blocks."""
    plain = [table[name].float() for name in ("temp", "hum", "windspeed", "yr", "holiday")]
    blocks = [
        one_hot_columns(table["season"], 1, 4),
        one_hot_columns(table["weathersit"], 1, 4),
        one_hot_columns(table["mnth"], 1, 12),
        one_hot_columns(table["hr"], 0, 24),
        one_hot_columns(table["weekday"], 0, 7),
    ]
    return torch.cat([torch.stack(plain, dim=1), *blocks], dim=1)


def targets(table: Table) -> Tensor:
    """Rentals per hour as a column (N, 1), the shape of the network's output."""
    return table["cnt"].float().unsqueeze(1)


# --8<-- [end:features]


# --8<-- [start:train]
def make_model(d: int, hidden: int = 10) -> nn.Sequential:
    """The notes' network: d inputs, `hidden` sigmoid units, one output unit."""
    return nn.Sequential(nn.Linear(d, hidden), nn.Sigmoid(), nn.Linear(hidden, 1))


def run_epochs(
    step: Callable, X: Tensor, y: Tensor, rates: tuple[float, float], epochs: int, seed: int
) -> list[float]:
    """Call step(x, target, rates) on shuffled batches of 128; return each epoch's mean loss.

    rates: of the hidden and the output layer, falling to 0. Raises ValueError: y is no column.
    """
    if y.shape != (len(X), 1):
        raise ValueError(f"y must be ({len(X)}, 1), not {tuple(y.shape)}")
    g, history = torch.Generator().manual_seed(seed), []
    for epoch in range(epochs):
        now = [rate * (1 - epoch / epochs) for rate in rates]
        order = torch.randperm(len(X), generator=g)
        batches = zip(X[order].split(128), y[order].split(128), strict=True)
        losses = [step(x, target, now) for x, target in batches]
        history.append(torch.stack(losses).mean().item())
    return history


# --8<-- [end:train]


# --8<-- [start:train_torch]
def train(
    model: nn.Sequential, X: Tensor, y: Tensor, rates: tuple[float, float], epochs: int, seed: int
) -> list[float]:
    """Train with autograd and torch.optim.SGD, one learning rate for each layer."""
    layers = (model[0], model[2])
    optimizer = torch.optim.SGD([{"params": layer.parameters(), "lr": 0.0} for layer in layers])

    def step(x: Tensor, target: Tensor, now: list[float]) -> Tensor:
        for group, lr in zip(optimizer.param_groups, now, strict=True):
            group["lr"] = lr
        loss = F.mse_loss(model(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return run_epochs(step, X, y, rates, epochs, seed)


# --8<-- [end:train_torch]


# --8<-- [start:relu_interpolant]
def relu_interpolant(f: Callable, low: float, high: float, width: int) -> nn.Sequential:
    """The network of equation (2): `width` ReLU units, equal to f at width + 1 knots."""
    knots = torch.linspace(low, high, width + 1, dtype=torch.float64)  # (width + 1,)
    values = f(knots)
    slopes = values.diff() / knots.diff()  # (width,)
    net = nn.Sequential(nn.Linear(1, width), nn.ReLU(), nn.Linear(width, 1)).double()
    with torch.no_grad():
        net[0].weight.fill_(1.0)
        net[0].bias.copy_(-knots[:-1])
        net[2].weight.copy_(torch.cat([slopes[:1], slopes.diff()]))
        net[2].bias.copy_(values[0])
    return net


@torch.no_grad()
def largest_error(net: Callable, f: Callable, low: float, high: float) -> float:
    """Largest |net - f| on 4001 points of [low, high]."""
    x = torch.linspace(low, high, 4001, dtype=torch.float64).unsqueeze(1)  # (4001, 1)
    return (net(x) - f(x)).abs().max().item()


# --8<-- [end:relu_interpolant]


def random_hidden(f: Callable, activation: Callable, width: int, seed: int) -> Callable:
    """Fit f on [-2, 2] with random hidden units; only the output layer by least squares."""
    g = torch.Generator().manual_seed(seed)
    draw = {"generator": g, "dtype": torch.float64}
    weight = 3 * torch.randn(1, width, **draw)
    kink = 4 * torch.rand(1, width, **draw) - 2  # each unit bends at a point of [-2, 2]

    def hidden(x: Tensor) -> Tensor:  # (N, 1) -> (N, width + 1)
        return torch.cat([activation(weight * (x - kink)), torch.ones_like(x)], dim=1)

    x = torch.linspace(-2, 2, 1001, dtype=torch.float64).unsqueeze(1)
    output = torch.linalg.lstsq(hidden(x), f(x), driver="gelsd").solution  # (width + 1, 1)
    return lambda x: hidden(x) @ output


# --8<-- [start:standardizer]
class Standardizer:
    """z-scores by the mean and standard deviation of the rows it was fitted on."""

    def fit(self, values: Tensor) -> "Standardizer":
        """Take the statistics of each column of values (N, d)."""
        self.mean = values.mean(dim=0)  # (d,)
        std = values.std(dim=0, correction=0)  # (d,)
        self.std = torch.where(std > 0, std, 1.0)  # (1)!
        return self

    def transform(self, values: Tensor) -> Tensor:
        return (values - self.mean) / self.std

    def inverse(self, values: Tensor) -> Tensor:
        return values * self.std + self.mean


def scale_inputs(X: Tensor, rows: Tensor) -> Tensor:
    """Standardise temp, hum and windspeed (the first 3 columns) by the statistics of `rows`."""
    scaler = Standardizer().fit(X[rows, :3])
    return torch.cat([scaler.transform(X[:, :3]), X[:, 3:]], dim=1)


# --8<-- [end:standardizer]


# --8<-- [start:two_layer]
class TwoLayer(nn.Module):
    """sigmoid(x W1 + b1) W2 + b2, the notes' hand-written network with an output bias."""

    def __init__(self, d: int, hidden: int, seed: int):
        super().__init__()
        g = torch.Generator().manual_seed(seed)

        def uniform(*shape: int, fan_in: int) -> nn.Parameter:
            return nn.Parameter((2 * torch.rand(shape, generator=g) - 1) / math.sqrt(fan_in))

        self.W1, self.b1 = uniform(d, hidden, fan_in=d), uniform(hidden, fan_in=d)
        self.W2, self.b2 = uniform(hidden, 1, fan_in=hidden), uniform(1, fan_in=hidden)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.sigmoid(x @ self.W1 + self.b1)  # (B, hidden)
        return hidden @ self.W2 + self.b2  # (B, 1)


# --8<-- [end:two_layer]


# --8<-- [start:by_hand]
@torch.no_grad()
def sgd_step(net: TwoLayer, x: Tensor, y: Tensor, rates: list[float]) -> Tensor:
    """One step by equations (12) to (14), in place; returns the loss before it."""
    h = torch.addmm(net.b1, x, net.W1).sigmoid_()  # (B, hidden)
    r = torch.addmm(net.b2, h, net.W2).sub_(y)  # (B, 1)
    G = (r @ net.W2.T) * (h - h * h)  # (B, hidden)
    hidden_rate, output_rate = (-2 * rate / len(x) for rate in rates)
    net.W2.addmm_(h.T, r, alpha=output_rate)
    net.b2.add_(r.sum(0), alpha=output_rate)
    net.W1.addmm_(x.T, G, alpha=hidden_rate)
    net.b1.add_(G.sum(0), alpha=hidden_rate)
    return r.square().mean()


def train_by_hand(net: TwoLayer, X: Tensor, y: Tensor, rates, epochs: int, seed: int) -> list:
    """The same training as `train`, without autograd."""
    return run_epochs(lambda *batch: sgd_step(net, *batch), X, y, rates, epochs, seed)


# --8<-- [end:by_hand]


# --8<-- [start:predict_counts]
def rmse(a: Tensor, b: Tensor) -> float:
    """Root mean square difference."""
    return (a - b).square().mean().sqrt().item()


@torch.no_grad()
def predict_counts(model: nn.Module, X: Tensor, scaler: Standardizer) -> Tensor:
    """Rentals per hour (N, 1), mapped back to bikes and never negative."""
    return scaler.inverse(model(X)).clamp(min=0)


def fit_counts(X, y, rows: Tensor, seed: int, rates=(5.0, 0.2), scaler=None, epochs=10) -> Tensor:
    """Train on `rows` (N,) of X (N, d), y (N, 1) alone, then predict every row (N, 1).

    scaler: maps the target to the network's units; fitted on `rows` if None.
    """
    scaler = scaler or Standardizer().fit(y[rows])
    net = TwoLayer(X.shape[1], 10, seed)
    train_by_hand(net, X[rows], scaler.transform(y[rows]), rates, epochs, seed)
    return predict_counts(net, X, scaler)


# --8<-- [end:predict_counts]


# --8<-- [start:notes_epoch]
def notes_epoch(X, Y, weights: list[Tensor], lr: float) -> list[float]:
    """The notes' loop, repaired; X (N, d), Y (N, 1) NumPy arrays, weights float64 leaves."""
    W1, b1, W2, b2 = weights
    losses = []
    for start in range(0, len(X), 128):
        xx = torch.tensor(X[start : start + 128], dtype=torch.double, requires_grad=True)
        yy = torch.tensor(Y[start : start + 128], dtype=torch.double, requires_grad=True)
        predictions = torch.sigmoid(xx.mm(W1) + b1).mm(W2) + b2
        loss = torch.mean((predictions - yy) ** 2)
        for w in weights:
            if w.grad is not None:
                w.grad.data.zero_()
        loss.backward()
        for w in weights:
            w.data.add_(-lr * w.grad.data)
        losses.append(loss.item())
    return losses


# --8<-- [end:notes_epoch]


# --8<-- [start:split]
def chronological_split(day: Tensor, test_days: int) -> tuple[Tensor, Tensor]:
    """Rows before the last `test_days` days and rows in them; boolean masks (N,)."""
    test = day > day.max() - test_days
    return ~test, test


def same_hour_last_week(table: Table) -> Tensor:
    """The count 168 hours earlier (N, 1), nan where that hour is missing."""
    hours = 24 * table["day"] + table["hr"]  # (N,) ascending
    place = torch.searchsorted(hours, hours - 168).clamp(max=len(hours) - 1)
    found = hours[place] == hours - 168
    earlier = table["cnt"][place].float()
    return torch.where(found, earlier, torch.nan).unsqueeze(1)


# --8<-- [end:split]


def compare_splits(table: Table, seed: int) -> dict[str, float]:
    """RMSE on the same rows of the last 21 days: trained on the past, and on a random 75 %.

    The table ends 21 (seed + 1) days before its end, so that seeds look at different weeks.
    """
    kept = table["day"] <= table["day"].max() - 21 * (seed + 1)
    table = {name: values[kept] for name, values in table.items()}
    X, y = features(table), targets(table)
    past, block = chronological_split(table["day"], 21)
    g = torch.Generator().manual_seed(seed)
    held_out = torch.rand(len(y), generator=g) < 0.25  # the usual random split
    by_past = fit_counts(scale_inputs(X, past), y, past, seed, epochs=15)
    by_random = fit_counts(scale_inputs(X, ~held_out), y, ~held_out, seed, epochs=15)
    same = block & held_out  # rows that neither model has seen
    last_week = same_hour_last_week(table)
    same_known = same & ~last_week.isnan().squeeze(1)
    return {
        "chronological": rmse(by_past[same], y[same]),
        "random": rmse(by_random[same], y[same]),
        "reported": rmse(by_random[held_out], y[held_out]),
        "last_week": rmse(last_week[same_known], y[same_known]),
    }


def load_hours() -> Table:
    """The 17379 real hours with the columns of `make_bike_like`; some hours are missing."""
    from snippets.data import load_bike_sharing  # from DATA_DIR, or downloaded

    frame = load_bike_sharing()
    days = [date.fromisoformat(text).toordinal() for text in frame["dteday"]]
    table = {
        name: torch.tensor(frame[name].to_numpy()) for name in make_bike_like(1, 0).keys() - {"day"}
    }
    return table | {"day": torch.tensor(days)}


def sin3(x: Tensor) -> Tensor:
    """A smooth target on [-2, 2]; its second derivative is at most 9."""
    return torch.sin(3 * x)


def step(x: Tensor) -> Tensor:
    """A target that jumps from 0 to 1 inside a cell of every width that is a power of two."""
    return (x > -2 / 3).double()


def figure_approximation() -> Figure:
    """Largest error against the width: a smooth target, a jump, and a quadratic activation."""
    fig, ax = plt.subplots(layout="constrained")
    widths = [4, 8, 16, 32, 64, 128, 256]
    smooth = [largest_error(relu_interpolant(sin3, -2, 2, m), sin3, -2, 2) for m in widths]
    square = [largest_error(random_hidden(sin3, torch.square, m, 0), sin3, -2, 2) for m in widths]
    jump = [largest_error(relu_interpolant(step, -2, 2, m), step, -2, 2) for m in widths]
    ax.loglog(widths, square, "C3s--", label=r"$\sin 3x$ with $z^2$")
    ax.loglog(widths, jump, "C1^-", label="jump with ReLU")
    ax.loglog(widths, smooth, "C0o-", label=r"$\sin 3x$ with ReLU")
    ax.loglog(widths, [9 / 8 * (4 / m) ** 2 for m in widths], ":", color=plt.rcParams["text.color"])
    ax.text(20, 0.06, "bound (4)", rotation=-32)
    ax.set_xticks(widths, [str(m) for m in widths])
    ax.minorticks_off()
    ax.set(xlabel="hidden units $m$", ylabel="largest error", ylim=(1e-4, 3))
    ax.grid(True)
    ax.legend(loc="lower left", frameon=False)
    return fig


def figure_outside() -> Figure:
    """The built network of 32 units inside and outside the interval it was built on."""
    fig, ax = plt.subplots(layout="constrained")
    net = relu_interpolant(sin3, -2, 2, 32)
    x = torch.linspace(-3.5, 3.5, 211, dtype=torch.float64).unsqueeze(1)
    ax.axvspan(-2, 2, color=plt.rcParams["grid.color"], alpha=0.5, linewidth=0)
    ax.plot(x, sin3(x), color=plt.rcParams["text.color"], linewidth=1.2, label=r"$\sin 3x$")
    ax.plot(x, net(x).detach(), "C0--", linewidth=2.4, label="32 ReLU units")
    ax.text(0, -3.9, "compact set $K$", ha="center")
    ax.set(xlabel="$x$", ylabel="output", xlim=(-3.5, 3.5), ylim=(-4.3, 5.2))
    ax.legend(loc="upper left", frameon=False)
    return fig


def figure_paths() -> Figure:
    """30 steps of gradient descent on two inputs, before and after standardising them."""
    table = make_bike_like(731, 0)
    inputs = torch.stack([47 * table["temp"], table["hum"]], dim=1).double()  # C, fraction
    y = Standardizer().fit(targets(table).double()).transform(targets(table))
    fig, ax = plt.subplots(figsize=(4.8, 3.8), layout="constrained")
    scaler = Standardizer().fit(inputs)
    Z = scaler.transform(inputs)  # (N, 2)
    best = torch.linalg.lstsq(Z, y).solution  # (2, 1)
    first, second = torch.meshgrid(
        torch.linspace(-0.05, 0.55, 61), torch.linspace(-0.45, 0.05, 61), indexing="xy"
    )
    H = 2 * Z.T @ Z / len(Z)
    u = torch.stack([first - best[0], second - best[1]], dim=-1).double()  # (61, 61, 2)
    height = ((u @ H) * u).sum(-1) / 2
    ax.contour(first, second, height, levels=7, colors=plt.rcParams["grid.color"], linewidths=0.8)
    for name, X, style in (("raw", inputs - scaler.mean, "C3s-"), ("standardised", Z, "C0o-")):
        H = 2 * X.T @ X / len(X)
        lr = 1 / torch.linalg.eigvalsh(H)[-1]
        w, path = torch.zeros(2, 1, dtype=torch.float64), []
        for _ in range(30):
            path.append(w * X.std(0, correction=0).unsqueeze(1))
            w = w - lr * 2 * X.T @ (X @ w - y) / len(X)
        ax.plot(*torch.stack(path).squeeze(2).T, style, markersize=5, label=name)
    ax.plot(*best, "*", color=plt.rcParams["text.color"], markersize=12)
    ax.text(best[0].item() + 0.02, best[1].item(), "minimum")
    ax.set(xlabel=r"$w_1\sigma_1$ (temperature)", ylabel=r"$w_2\sigma_2$ (humidity)")
    ax.legend(loc="lower left", frameon=False)
    return fig


@cache
def scan_units(seed: int) -> tuple[Tensor, list[float], float, float]:
    """Units c, training RMSE of the raw target in each, of the standardised one, of the mean."""
    table = make_bike_like(731, seed)
    X, y = features(table), targets(table)
    rows, _ = chronological_split(table["day"], 21)
    units = torch.logspace(-3, 3, 9)
    raw = [fit_counts(X, y, rows, seed, (0.01, 0.01), unit(c)) for c in units.tolist()]
    scaled = fit_counts(X, y, rows, seed)
    errors = [rmse(p[rows], y[rows]) for p in raw]
    return units, errors, rmse(scaled[rows], y[rows]), y[rows].std().item()


def figure_units() -> Figure:
    """Training RMSE in bikes against the unit in which the target is written."""
    units, raw, scaled, std = scan_units(0)
    fig, ax = plt.subplots(layout="constrained")
    ax.semilogx(units, raw, "C3s-", label=r"raw target, $\eta=0.01$")
    ax.axhline(scaled, color="C0", linestyle="--", label="standardised, any unit")
    ax.axhline(std, color=plt.rcParams["text.color"], linewidth=0.8)
    ax.text(0.07, std + 4, "predicting the mean", ha="center")
    ax.set_xticks([1e-3, 1, 200], ["thousands", "bikes", "cents"])
    ax.minorticks_off()
    ax.set(xlabel="unit of the target", ylabel="training RMSE (bikes)", ylim=(0, 215))
    ax.grid(True)
    ax.legend(loc="lower left", frameon=False)
    return fig


@cache
def training_curves(seed: int) -> dict[str, Tensor]:
    """Training RMSE in bikes after each of 10 epochs for three pairs of rates."""
    table = make_bike_like(731, seed)
    rows, _ = chronological_split(table["day"], 21)
    X, y = scale_inputs(features(table), rows)[rows], targets(table)[rows]
    scaler = Standardizer().fit(y)
    curves = {}
    for rates in ((0.01, 0.01), (0.5, 0.5), (5.0, 0.2)):
        losses = train_by_hand(TwoLayer(56, 10, seed), X, scaler.transform(y), rates, 10, seed)
        curves["{:g}, {:g}".format(*rates)] = scaler.std * torch.tensor(losses).sqrt()
    return curves


def figure_training_curve() -> Figure:
    """RMSE while training for three pairs of learning rates, target standardised."""
    fig, ax = plt.subplots(layout="constrained")
    for (label, curve), style in zip(
        training_curves(0).items(), ("C3:", "C1--", "C0-"), strict=True
    ):
        ax.plot(range(1, 11), curve, style, label=label)
    ax.set(xlabel="epoch", ylabel="RMSE while training (bikes)", ylim=(0, 215))
    ax.set_xticks([1, 4, 7, 10])
    ax.grid(True)
    ax.legend(title=r"$\eta$ hidden, output", loc="lower left", frameon=False, ncols=3)
    return fig


def draw_weeks(day: Tensor, hr: Tensor, actual: Tensor, predicted: Tensor, title: str) -> Figure:
    """Three weeks in three rows, 22-31 December shaded; all arguments (N,), one row an hour."""
    fig, axes = plt.subplots(3, 1, sharey=True, figsize=(4.8, 5.4), layout="constrained")
    time_in_december = day - date(2012, 12, 1).toordinal() + 1 + hr / 24  # (N,)
    for week, ax in enumerate(axes):
        start = 11 + 7 * week
        rows = (time_in_december >= start) & (time_in_december < start + 7)
        rows &= (hr == 0) | (hr > 4)  # hardly anyone rides from 1 to 4
        x = time_in_december[rows]
        ax.plot(x, actual[rows], color=plt.rcParams["text.color"], linewidth=1.0, label="true")
        ax.plot(x, predicted[rows], "C1", linewidth=1.6, label="predicted")
        if start + 7 > 22:
            ax.axvspan(max(start, 22), start + 7, color="C3", alpha=0.15, linewidth=0)
        ax.set(xlim=(start, start + 7), ylim=(0, None), xticks=range(start, start + 7, 2))
        ax.locator_params(axis="y", nbins=3)
    axes[1].set_ylabel("rentals per hour")
    axes[2].set_xlabel("December 2012")
    handles = axes[0].get_legend_handles_labels()
    fig.legend(*handles, loc="outside upper center", ncols=2, frameon=False, title=title)
    return fig


@cache
def last_weeks(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Day, hour, true and predicted counts of the generated last 21 days, each (504,)."""
    table = make_bike_like(731, seed)
    rows, test = chronological_split(table["day"], 21)
    X, y = scale_inputs(features(table), rows), targets(table)
    predicted = fit_counts(X, y, rows, seed)
    columns = (table["day"], table["hr"], y.squeeze(1), predicted.squeeze(1))
    return tuple(column[test] for column in columns)


def figure_last_weeks() -> Figure:
    """The last three weeks of the generated series, true and predicted."""
    return draw_weeks(*last_weeks(0), "generated series")


def figure_last_weeks_real() -> Figure:
    """The last three weeks of the real hours, true and predicted, from the record."""
    weeks = json.loads(RECORD.read_text())["last_weeks"]
    columns = (torch.tensor(weeks[name]) for name in ("day", "hr", "actual", "predicted"))
    return draw_weeks(*columns, "UCI Bike Sharing, recorded run")


def unit(c: float) -> Standardizer:
    """The scaler of a target measured in units of 1 / c bikes: no centring."""
    scaler = Standardizer()
    scaler.mean, scaler.std = torch.zeros(1), torch.full((1,), 1 / c)
    return scaler


@torch.no_grad()
def stuck_share(net: TwoLayer, X: Tensor) -> float:
    """Share of the hidden activations with a slope h (1 - h) below 0.001, of at most 0.25."""
    h = torch.sigmoid(X @ net.W1 + net.b1)  # (N, hidden)
    return (h * (1 - h) < 0.001).float().mean().item()


def compare_units(table: Table, seed: int) -> dict[str, float]:
    """Training RMSE in bikes after 10 epochs, the target raw in three units and standardised.

    <arm>_stuck is the share of stuck activations, <arm>_nudge the change of the RMSE when one
    initial weight is moved by a millionth.
    """
    rows, _ = chronological_split(table["day"], 21)
    X, y = features(table)[rows], targets(table)[rows]

    def run(rates: tuple[float, float], scaler: Standardizer, nudge: float) -> tuple[float, float]:
        net = TwoLayer(56, 10, seed)
        with torch.no_grad():
            net.W1[0, 0] += nudge
        train_by_hand(net, X, scaler.transform(y), rates, 10, seed)
        return rmse(predict_counts(net, X, scaler), y), stuck_share(net, X)

    std = y.std(correction=0).item()
    result = {"std": std}
    for name, c in {"thousand": 0.001, "bike": 1.0, "cent": 200.0}.items():
        result[f"rate_{name}"] = 0.01 * (c * std) ** 2  # of the hidden layer, equation (7)
    scaler = Standardizer().fit(y)
    arms = {
        "raw_thousand": ((0.01, 0.01), unit(0.001)),
        "raw_bike": ((0.01, 0.01), unit(1.0)),
        "raw_cent": ((0.01, 0.01), unit(200.0)),
        "scaled_notes": ((0.01, 0.01), scaler),
        "scaled_two": ((5.0, 0.2), scaler),
    }
    for name, arm in arms.items():
        result[name], result[f"{name}_stuck"] = run(*arm, nudge=0.0)
    for name in ("raw_bike", "scaled_two"):
        nudged, _ = run(*arms[name], nudge=1e-6)
        result[f"{name}_nudge"] = abs(nudged - result[name])
    return result


def compare_project(table: Table, seed: int) -> dict[str, float]:
    """Test RMSE of three baselines, the network, and the network that knows the year's end."""
    raw, y = features(table), targets(table)
    rows, test = chronological_split(table["day"], 21)
    late = year_end(table["day"])
    X = scale_inputs(raw, rows)
    A = torch.cat([X, torch.ones(len(X), 1)], dim=1).double()  # (N, 57)
    theta = torch.linalg.lstsq(A[rows], y[rows].double(), driver="gelsd").solution
    last_week = same_hour_last_week(table)
    there = test & ~last_week.isnan().squeeze(1)
    flagged = torch.cat([X, late.float().unsqueeze(1)], dim=1)  # (N, 57)
    net, flag = fit_counts(X, y, rows, seed), fit_counts(flagged, y, rows, seed)
    leaking = fit_counts(scale_inputs(raw, rows | test), y, rows, seed)
    unscaled = fit_counts(raw, y, rows, seed)
    return {
        "constant": rmse(y[rows].mean(), y[test]),
        "last_week": rmse(last_week[there], y[there]),
        "linear": rmse((A[test] @ theta).clamp(min=0), y[test].double()),
        "net": rmse(net[test], y[test]),
        "before": rmse(net[test & ~late], y[test & ~late]),
        "late": rmse(net[test & late], y[test & late]),
        "excess_december": (net - y)[rows & ~late & (table["mnth"] == 12)].mean().item(),
        "excess_late": (net - y)[rows & late].mean().item(),
        "flag": rmse(flag[test], y[test]),
        "flag_before": rmse(flag[test & ~late], y[test & ~late]),
        "flag_late": rmse(flag[test & late], y[test & late]),
        "leaking": rmse(leaking[test], y[test]),
        "unscaled": rmse(unscaled[test], y[test]),
        "train_net": rmse(net[rows], y[rows]),
        "train_unscaled": rmse(unscaled[rows], y[rows]),
    }


def experiment_units(seed: int) -> dict[str, float]:
    """The unit of the target on the generated series; see compare_units."""
    return compare_units(make_bike_like(731, seed), seed)


def experiment_project(seed: int) -> dict[str, float]:
    """The predictor on the generated series; see compare_project."""
    return compare_project(make_bike_like(731, seed), seed)


def experiment_splits(seed: int) -> dict[str, float]:
    """Two ways to split, with and without drift of the demand; see compare_splits."""
    drifting = compare_splits(make_bike_like(548, seed), seed)
    steady = compare_splits(make_bike_like(548, seed, drift=False), seed)
    return drifting | {f"{name}_steady": value for name, value in steady.items()}


def experiment_curvature(seed: int) -> dict[str, float]:
    """Largest stable rates 2 / lambda_max of the two layers, each alone, at the start."""
    X = features(make_bike_like(731, seed))[::8]  # (2193, 56)
    net = TwoLayer(56, 10, seed)
    with torch.no_grad():
        h = torch.sigmoid(X @ net.W1 + net.b1)  # (N, 10)
        ones = torch.ones(len(X), 1)
        slopes = h * (1 - h) * net.W2.T  # (N, 10)
        inputs = torch.cat([X, ones], dim=1)  # (N, 57)
        jacobians = {
            "output": torch.cat([h, ones], dim=1),  # (N, 11)
            "hidden": (slopes[:, :, None] * inputs[:, None, :]).flatten(1),  # (N, 570)
        }
        largest = {k: torch.linalg.matrix_norm(J, 2).item() ** 2 for k, J in jacobians.items()}
    return {k: len(X) / value for k, value in largest.items()} | {
        "inputs": inputs.square().sum(1).mean().item()
    }


def experiment_width(seed: int) -> dict[str, float]:
    """Largest error on sin(3x), 64 units: built, random with two activations, and trained."""
    x = torch.linspace(-2, 2, 201).unsqueeze(1)
    net = TwoLayer(1, 64, seed)
    for _ in range(1000):
        sgd_step(net, x, sin3(x), (10.0, 0.02))
    nets = {
        "built": relu_interpolant(sin3, -2, 2, 64),
        "sigmoid": random_hidden(sin3, torch.sigmoid, 64, seed),
        "square": random_hidden(sin3, torch.square, 64, seed),
        "trained": net.double(),
    }
    return {name: largest_error(net, sin3, -2, 2) for name, net in nets.items()}


def experiment_selection(seed: int) -> dict[str, float]:
    """Accuracy on random labels when 20 of 5000 features are chosen with and without the test."""
    g = torch.Generator().manual_seed(seed)
    hits = {"leaking": [], "honest": []}
    for _ in range(20):
        X = torch.randn(60, 5000, generator=g)
        y = 2.0 * torch.randint(2, (60,), generator=g) - 1  # -1 or 1
        for name, seen in {"leaking": 60, "honest": 40}.items():
            score = (X[:seen] * y[:seen, None]).mean(0).abs()  # (5000,)
            chosen = X[:, score.topk(20).indices]
            direction = (chosen[:40] * y[:40, None]).mean(0)  # (20,)
            hits[name].append(((chosen[40:] @ direction) * y[40:] > 0).float().mean())
    return {name: torch.stack(values).mean().item() for name, values in hits.items()}


def experiment_neighbours(seed: int) -> dict[str, float]:
    """Accuracy of the nearest neighbour: one useful feature, four of noise in two units."""
    g = torch.Generator().manual_seed(seed)
    z = torch.randn(600, 5, generator=g)
    y = z[:, 0] > 0
    result = {}
    for name, size in {"large": 10.0, "small": 0.1}.items():
        X = z * torch.tensor([1.0, size, size, size, size])
        for way, table in {"raw": X, "scaled": Standardizer().fit(X[:300]).transform(X)}.items():
            nearest = torch.cdist(table[300:], table[:300]).argmin(1)  # (300,)
            result[f"{way}_{name}"] = (y[:300][nearest] == y[300:]).float().mean().item()
    return result


def experiment_speed(seed: int) -> dict[str, float]:
    """CPU time of an epoch of the notes' loop over that of two others, and equal losses."""
    table = make_bike_like(120, seed)
    X = features(table)
    y = Standardizer().fit(targets(table)).transform(targets(table))
    arrays = X.double().numpy(), y.double().numpy()
    start = [p.detach() for p in TwoLayer(56, 10, seed).parameters()]
    seconds = {"notes": [], "autograd": [], "hand": []}
    for _ in range(5):
        leaves = [p.double().requires_grad_() for p in start]
        clock = time.process_time()
        by_notes = notes_epoch(*arrays, leaves, 0.01)
        seconds["notes"].append(time.process_time() - clock)

        net = TwoLayer(56, 10, seed)
        clock = time.process_time()
        for x, target in zip(X.split(128), y.split(128), strict=True):
            loss = F.mse_loss(net(x), target)
            grads = torch.autograd.grad(loss, tuple(net.parameters()))
            with torch.no_grad():
                for p, grad in zip(net.parameters(), grads, strict=True):
                    p.sub_(grad, alpha=0.01)
        seconds["autograd"].append(time.process_time() - clock)

        net = TwoLayer(56, 10, seed)
        clock = time.process_time()
        batches = zip(X.split(128), y.split(128), strict=True)
        by_hand = [sgd_step(net, x, target, (0.01, 0.01)) for x, target in batches]
        seconds["hand"].append(time.process_time() - clock)
    gap = (torch.stack(by_hand).double() - torch.tensor(by_notes, dtype=torch.float64)).abs().max()
    return {
        "autograd": min(seconds["notes"]) / min(seconds["autograd"]),
        "hand": min(seconds["notes"]) / min(seconds["hand"]),
        "gap": gap.item(),
    }


def notes_recipe(table: Table, seed: int) -> dict[str, float]:
    """The notes' own training: raw counts, batches in order, rate 0.01, 1000 epochs."""
    X, y = features(table), targets(table)
    rows, test = chronological_split(table["day"], 21)
    net = TwoLayer(56, 10, seed)
    batches = list(zip(X[rows].split(128), y[rows].split(128), strict=True))
    for _ in range(1000):
        for x, target in batches:
            sgd_step(net, x, target, (0.01, 0.01))
    predicted = predict_counts(net, X, unit(1.0))
    return {"train": rmse(predicted[rows], y[rows]), "test": rmse(predicted[test], y[test])}


def processor() -> str:
    """Name the processor of this machine."""
    import os
    import platform

    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores, {platform.system()}"


def record(seeds: range = range(10)) -> dict:
    """Run every comparison on the real hours and return what records/bike_sharing.json holds."""
    import platform

    torch.set_num_threads(1)
    clock = time.process_time()
    table = load_hours()
    runs = (compare_units, compare_project, compare_splits, notes_recipe)
    results = {}
    for run in runs:
        values = [run(table, seed) for seed in seeds]
        name = run.__name__.removeprefix("compare_")
        results[name] = {key: [round(v[key], 3) for v in values] for key in values[0]}
    rows, test = chronological_split(table["day"], 21)
    predicted = fit_counts(scale_inputs(features(table), rows), targets(table), rows, seed=0)
    return {
        "data": "UCI Bike Sharing, hour.csv (Fanaee-T, Gama 2013), doi 10.24432/C5W894, CC BY 4.0",
        "command": "python -m snippets.networks.bike_sharing --record",
        "date": date.today().isoformat(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "machine": processor(),
        "cpu_seconds": round(time.process_time() - clock, 1),
        "seeds": list(seeds),
        "results": results,
        "last_weeks": {
            "day": table["day"][test].tolist(),
            "hr": table["hr"][test].tolist(),
            "actual": table["cnt"][test].tolist(),
            "predicted": predicted[test].squeeze(1).round().int().tolist(),
        },
    }


if __name__ == "__main__":
    import sys

    if "--record" in sys.argv:
        RECORD.parent.mkdir(exist_ok=True)
        RECORD.write_text(json.dumps(record()).replace('], "', '],\n"') + "\n")
        sys.exit()
    for experiment in (experiment_width, experiment_units, experiment_project, experiment_splits):
        print(experiment.__name__, experiment(seed=0))
    for experiment in (experiment_selection, experiment_neighbours, experiment_speed):
        print(experiment.__name__, experiment(seed=0))
    for draw in (figure_approximation, figure_units, figure_training_curve, figure_last_weeks):
        draw()
    plt.show()
