"""A training loop to take away: seeded, checked, clipped, scheduled, stopped early, resumable."""

# --8<-- [start:imports]
import contextlib
import copy
import math
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from snippets.data import load_digits

# --8<-- [end:imports]


# --8<-- [start:recipe]
@dataclass
class Recipe:
    """Settings; lr is the highest rate, reached after `warmup` steps, then half a cosine to 0."""

    epochs: int = 40
    batch_size: int = 64
    lr: float = 3e-3
    weight_decay: float = 1e-2
    warmup: int = 20
    clip: float = 1.0  # largest norm of the gradient
    patience: int = 8  # epochs without a better validation loss

    def rate(self, step: int, steps: int) -> float:
        done = max(0, step - self.warmup) / max(1, steps - self.warmup)
        return min(1, (step + 1) / max(1, self.warmup)) * 0.5 * (1 + math.cos(math.pi * done))


# --8<-- [end:recipe]


# --8<-- [start:checkpoint]
def save(path: Path, parts: dict, progress: dict) -> None:
    """Write all that changes in training; an interruption leaves the checkpoint before."""
    states = {name: part.state_dict() for name, part in parts.items()}
    random = [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]
    torch.save({"states": states, "progress": progress, "random": random}, f"{path}.part")
    os.replace(f"{path}.part", path)


def resume(path: Path, parts: dict, progress: dict) -> None:
    """Set everything to what `save` wrote."""
    saved = torch.load(path, map_location="cpu")
    for name, part in parts.items():
        part.load_state_dict(saved["states"][name])
    progress.update(saved["progress"])
    torch.set_rng_state(saved["random"][0])
    torch.cuda.set_rng_state_all(saved["random"][1:])


# --8<-- [end:checkpoint]


# --8<-- [start:epoch]
def train_epoch(parts: dict, X: Tensor, y: Tensor, recipe: Recipe) -> float:
    """Train on every sample once; return the mean loss. RuntimeError: a gradient is inf or nan."""
    model, total = parts["model"].train(), 0.0
    for rows in torch.randperm(len(X)).to(X.device).split(recipe.batch_size):
        loss = F.cross_entropy(model(X[rows]), y[rows])
        parts["optimizer"].zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip, error_if_nonfinite=True)
        parts["optimizer"].step()
        parts["schedule"].step()
        total += loss.item() * len(rows)
    return total / len(X)


@torch.no_grad()
def evaluate(model: nn.Module, X: Tensor, y: Tensor) -> tuple[float, float]:
    """Return mean loss and accuracy in evaluation mode."""
    logits = model.eval()(X)  # (n, q)
    return F.cross_entropy(logits, y).item(), (logits.argmax(1) == y).float().mean().item()


# --8<-- [end:epoch]


# --8<-- [start:fit]
def fit(model: nn.Module, data: tuple, recipe: Recipe, seed: int, path: Path) -> list[dict]:
    """Train on (X, y, X_valid, y_valid), or go on from `path`; leave the best weights in model."""
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
    X, y, X_valid, y_valid = (part.to(device) for part in data)
    steps = recipe.epochs * math.ceil(len(X) / recipe.batch_size)
    optimizer = AdamW(model.to(device).parameters(), recipe.lr, weight_decay=recipe.weight_decay)
    schedule = LambdaLR(optimizer, lambda step: recipe.rate(step, steps))
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
    progress = {"history": [], "best_epoch": 0, "best_loss": math.inf, "best": None}
    torch.manual_seed(seed)
    if path.exists():
        resume(path, parts, progress)
    history = progress["history"]
    with tqdm(total=recipe.epochs, initial=len(history), disable=None) as bar:
        while len(history) < min(recipe.epochs, progress["best_epoch"] + recipe.patience):
            loss = train_epoch(parts, X, y, recipe)
            valid, accuracy = evaluate(model, X_valid, y_valid)
            history.append({"train": loss, "valid": valid, "accuracy": accuracy})
            if valid < progress["best_loss"]:
                best = copy.deepcopy(model.state_dict())
                progress |= {"best_epoch": len(history), "best_loss": valid, "best": best}
            save(path, parts, progress)
            bar.update()
            bar.set_postfix(train=f"{loss:.3f}", valid=f"{valid:.3f}")
    model.load_state_dict(progress["best"])
    return history


# --8<-- [end:fit]


SEEDS = range(10)


# --8<-- [start:setting]
def noisy_digits(n: int, flip: float, seed: int) -> tuple[tuple, tuple]:
    """Digits with a share of the training and validation labels drawn anew.

    Returns ((X, y, X_valid, y_valid), (X_test, y_test)); n training images, 200 to validate,
    X: (n, 64); the labels of the 360 test images are right.
    """
    X, y, X_test, y_test = load_digits(seed=seed)
    X, y = X.flatten(1)[: n + 200], y[: n + 200].clone()
    g = torch.Generator().manual_seed(seed)
    drawn = torch.rand(len(y), generator=g) < flip
    y[drawn] = torch.randint(10, (int(drawn.sum()),), generator=g)
    return (X[:n], y[:n], X[n:], y[n:]), (X_test.flatten(1), y_test)


def make_net(seed: int) -> nn.Module:
    """64-128-10 with dropout, from a seeded start."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 10))


# --8<-- [end:setting]


# --8<-- [start:interrupt]
def interrupt_after(model: nn.Module, batches: int) -> None:
    """Press Ctrl-C while the model sees its next training batch after so many."""
    left = [batches]

    def count(module: nn.Module, inputs: tuple) -> None:
        left[0] -= module.training
        if left[0] < 0:
            raise KeyboardInterrupt

    model.register_forward_pre_hook(count)


def train_interrupted(data: tuple, recipe: Recipe, seed: int, batches: int, path: Path) -> None:
    """Train until the interruption; the last checkpoint stays at `path`."""
    model = make_net(seed)
    interrupt_after(model, batches)
    with contextlib.suppress(KeyboardInterrupt):
        fit(model, data, recipe, seed, path)


# --8<-- [end:interrupt]


# --8<-- [start:experiment_resume]
def continue_weights_only(data: tuple, recipe: Recipe, seed: int, path: Path) -> tuple:
    """Start again from the weights alone: a new optimizer, schedule and order."""
    model = make_net(seed)
    model.load_state_dict(torch.load(path)["states"]["model"])
    rest = replace(recipe, epochs=recipe.epochs - len(torch.load(path)["progress"]["history"]))
    return model, fit(model, data, rest, seed, path.with_name("rest.pt"))


def distance(a: nn.Module, b: nn.Module) -> float:
    """Largest difference between the weights of two models."""
    pairs = zip(a.parameters(), b.parameters(), strict=True)
    return max((p - q).abs().max().item() for p, q in pairs)


def experiment_resume(seed: int) -> dict[str, float]:
    """A run interrupted in its seventh epoch and continued, against one without a break."""
    data, _ = noisy_digits(600, 0.0, seed)
    recipe = Recipe(epochs=12, lr=1e-2, patience=12)
    with tempfile.TemporaryDirectory() as folder:
        whole, path = make_net(seed), Path(folder, "broken.pt")
        history = fit(whole, data, recipe, seed, Path(folder, "whole.pt"))
        train_interrupted(data, recipe, seed, batches=65, path=path)
        weights, rest = continue_weights_only(data, recipe, seed, path)
        resumed = make_net(seed)
        fit(resumed, data, recipe, seed, path)
    found = {"all": distance(whole, resumed), "weights": distance(whole, weights)}
    found["step"] = history[6]["train"] / history[5]["train"]  # seventh epoch to sixth
    return found | {"step_weights": rest[0]["train"] / history[5]["train"]}


# --8<-- [end:experiment_resume]


# --8<-- [start:experiment_parts]
def experiment_parts(seed: int) -> dict[str, float]:
    """Test accuracy on wrong labels: the whole recipe, and what each part adds to it."""
    data, (X_test, y_test) = noisy_digits(300, 0.3, seed)
    recipe = Recipe(lr=1e-2)
    without = {
        "clip": replace(recipe, clip=math.inf),
        "decay": replace(recipe, weight_decay=0.0),
        "warmup": replace(recipe, warmup=0),
        "stop": replace(recipe, patience=recipe.epochs),
    }
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, changed in {"all": recipe, **without}.items():
            path = Path(folder, f"{name}.pt")
            model = make_net(seed)
            fit(model, data, changed, seed, path)
            if name == "stop":  # no best weights either: the last
                model.load_state_dict(torch.load(path)["states"]["model"])
            accuracy = evaluate(model, X_test, y_test)[1]
            found[name] = accuracy if name == "all" else found["all"] - accuracy
            if name == "all":
                with torch.no_grad():
                    noisy = (model.train()(X_test).argmax(1) == y_test).float().mean().item()
                found["eval"] = accuracy - noisy
    return found


# --8<-- [end:experiment_parts]


def figure_schedule() -> Figure:
    """Draw the learning rate of a run, step by step."""
    recipe, steps = Recipe(), 400
    fig, ax = plt.subplots(layout="constrained", figsize=(4.8, 2.4))
    ax.plot([recipe.lr * recipe.rate(step, steps) for step in range(steps + 1)], color="C0")
    ax.set(xlabel="step", ylabel="learning rate")
    ax.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    return fig


def figure_resume() -> Figure:
    """Draw the training loss of a run and of its two continuations."""
    data, _ = noisy_digits(600, 0.0, 0)
    recipe = Recipe(epochs=12, lr=1e-2, patience=12)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "broken.pt")
        whole = fit(make_net(0), data, recipe, 0, Path(folder, "whole.pt"))
        train_interrupted(data, recipe, 0, batches=65, path=path)
        _, rest = continue_weights_only(data, recipe, 0, path)
        resumed = fit(make_net(0), data, recipe, 0, path)
    fig, ax = plt.subplots(layout="constrained")
    ax.plot(range(1, 13), [h["train"] for h in whole], "C0o", ms=9, mfc="none", label="no break")
    ax.plot(range(1, 13), [h["train"] for h in resumed], color="C0", label="all restored")
    ax.plot(range(7, 13), [h["train"] for h in rest], "C1s--", ms=4, label="weights only")
    ax.axvline(6.5, color=plt.rcParams["grid.color"])
    ax.set(xlabel="epoch", ylabel="training loss", yscale="log")
    ax.legend()
    return fig


def figure_curves() -> Figure:
    """Draw training and validation loss on wrong labels, and where the run is stopped."""
    data, _ = noisy_digits(300, 0.3, 0)
    recipe = Recipe(lr=1e-2, patience=40)
    with tempfile.TemporaryDirectory() as folder:
        history = fit(make_net(0), data, recipe, 0, Path(folder, "c.pt"))
    valid = [h["valid"] for h in history]
    best = min(range(len(valid)), key=valid.__getitem__)
    fig, ax = plt.subplots(layout="constrained")
    epochs = range(1, len(valid) + 1)
    ax.plot(epochs, valid, color="C0", label="validation")
    ax.plot(epochs, [h["train"] for h in history], "C1--", label="training")
    ax.plot(best + 1, valid[best], "C2o", ms=8, label="kept weights")
    ax.axvline(best + 1 + Recipe().patience, color="C2", ls=":", label="stop")
    ax.set(xlabel="epoch", ylabel="cross-entropy")
    ax.legend()
    return fig


if __name__ == "__main__":
    for experiment in (experiment_resume, experiment_parts):
        print(experiment.__name__, experiment(0))
    figure_resume()
    plt.show()
