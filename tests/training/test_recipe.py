"""The recipe: what is restored, what is checked, what each part is worth."""

import math
import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from publishing import ROOT
from snippets.training import recipe as chapter
from snippets.training.recipe import Recipe, evaluate, fit, make_net, noisy_digits

SHORT = Recipe(epochs=4, lr=1e-2)


@pytest.fixture
def data():
    return noisy_digits(300, 0.0, seed=0)[0]


def states(model: nn.Module) -> list[torch.Tensor]:
    return list(model.state_dict().values())


def test_the_loop_has_at_most_eighty_lines():
    source = (ROOT / "snippets/training/recipe.py").read_text(encoding="utf-8")
    lines = 0
    for name in ("recipe", "checkpoint", "epoch", "fit"):
        section = re.search(rf"\[start:{name}\]\n(.*?)# --8<-- \[end:{name}\]", source, re.S)[1]
        lines += sum(bool(line.strip()) for line in section.splitlines())
    assert lines == 70  # as the page says


# Interruption


@pytest.mark.parametrize("batches", [0, 3, 5, 9, 19])  # five batches an epoch
def test_a_run_broken_anywhere_ends_bit_equal(data, tmp_path, batches):
    whole = make_net(0)
    history = fit(whole, data, SHORT, 0, tmp_path / "whole.pt")
    chapter.train_interrupted(data, SHORT, 0, batches, tmp_path / "broken.pt")
    resumed = make_net(0)
    assert fit(resumed, data, SHORT, 0, tmp_path / "broken.pt") == history
    assert all(torch.equal(a, b) for a, b in zip(states(whole), states(resumed), strict=True))


def test_a_run_broken_twice_ends_bit_equal(data, tmp_path):
    whole, path = make_net(0), tmp_path / "broken.pt"
    fit(whole, data, SHORT, 0, tmp_path / "whole.pt")
    for batches in (7, 6):
        chapter.train_interrupted(data, SHORT, 0, batches, path)
    resumed = make_net(5)  # the start does not matter: everything comes from the checkpoint
    fit(resumed, data, SHORT, 9, path)
    assert all(torch.equal(a, b) for a, b in zip(states(whole), states(resumed), strict=True))


@pytest.mark.parametrize("part", ["model", "optimizer", "schedule"])
def test_without_one_part_of_the_state_the_run_is_another(data, tmp_path, monkeypatch, part):
    whole, path = make_net(0), tmp_path / "broken.pt"
    fit(whole, data, SHORT, 0, tmp_path / "whole.pt")
    chapter.train_interrupted(data, SHORT, 0, 11, path)
    resume = chapter.resume

    def forgetful(path, parts, progress):
        resume(path, {name: parts[name] for name in parts if name != part}, progress)

    monkeypatch.setattr(chapter, "resume", forgetful)
    resumed = make_net(0)
    fit(resumed, data, SHORT, 0, path)
    # Far above rounding; the optimizer carries the learning rate of the schedule as well.
    assert chapter.distance(whole, resumed) > 1e-4


def test_weights_alone_give_another_model_and_a_curve_that_does_not_show_it(measured):
    values = measured(chapter.experiment_resume)
    assert (values["all"] == 0).all()
    assert (values["weights"] > 1 / 8).all()  # 0.19 to 0.22
    assert make_net(0)[0].weight.abs().max() <= 1 / 8  # uniform, 1 / sqrt(64)
    # No jump: the loss of the seventh epoch is below that of the sixth, either way.
    assert (values["step"] < 1).all() and (values["step_weights"] < 1).all()
    assert abs(values["step"].mean() - values["step_weights"].mean()) < 0.1


def test_the_figure_begins_above_and_ends_below():
    whole, resumed, weights = chapter.figure_resume().axes[0].lines[:3]
    assert list(whole.get_ydata()) == list(resumed.get_ydata())
    assert weights.get_ydata()[0] > whole.get_ydata()[6]
    assert weights.get_ydata()[-1] < whole.get_ydata()[-1]


def test_a_longer_run_is_not_the_run_planned_for_that_length(data, tmp_path):
    planned, longer, short = make_net(0), make_net(0), replace(SHORT, warmup=2)
    fit(planned, data, replace(short, epochs=6), 0, tmp_path / "planned.pt")
    fit(make_net(0), data, short, 0, tmp_path / "longer.pt")
    fit(longer, data, replace(short, epochs=6), 0, tmp_path / "longer.pt")
    assert chapter.distance(planned, longer) > 1e-3


def test_a_failed_save_leaves_the_checkpoint_before(data, tmp_path, monkeypatch):
    path = tmp_path / "c.pt"
    fit(make_net(0), data, replace(SHORT, epochs=1), 0, path)
    before = path.read_bytes()

    def breaks(state, file):
        with open(file, "wb") as handle:
            handle.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", breaks)
    with pytest.raises(OSError, match="No space left"):
        fit(make_net(0), data, SHORT, 0, path)
    assert path.read_bytes() == before


def test_a_finished_run_does_nothing_more(data, tmp_path):
    path = tmp_path / "c.pt"
    history = fit(make_net(0), data, SHORT, 0, path)
    before = path.stat().st_mtime_ns
    assert fit(make_net(0), data, SHORT, 0, path) == history
    assert path.stat().st_mtime_ns == before


def test_a_checkpoint_of_another_model_is_refused(data, tmp_path):
    path = tmp_path / "c.pt"
    fit(make_net(0), data, replace(SHORT, epochs=1), 0, path)
    with pytest.raises(RuntimeError, match="size mismatch for 0"):
        fit(nn.Sequential(nn.Linear(64, 9)), data, SHORT, 0, path)


# What the loop does


def test_validation_does_not_touch_the_training(data, tmp_path):
    X, y, X_valid, y_valid = data
    one, other = make_net(0), make_net(0)
    kept = [fit(one, data, SHORT, 0, tmp_path / "1.pt")]
    kept.append(fit(other, (X, y, X_valid[:10], y_valid[:10]), SHORT, 0, tmp_path / "2.pt"))
    assert [h["train"] for h in kept[0]] == [h["train"] for h in kept[1]]


def test_evaluation_has_no_dropout_and_no_graph(data):
    model = make_net(0)
    model.train()
    assert evaluate(model, *data[:2]) == evaluate(model.train(), *data[:2])
    assert not model.training
    assert all(p.grad is None for p in model.parameters())


def test_training_mode_comes_back_after_evaluation(data):
    model = make_net(0)
    evaluate(model, *data[:2])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    parts = {"model": model, "optimizer": optimizer}
    parts["schedule"] = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    chapter.train_epoch(parts, *data[:2], SHORT)
    assert model.training


def test_best_weights_are_returned(tmp_path):
    data, _ = noisy_digits(300, 0.3, seed=0)
    model = make_net(0)
    history = fit(model, data, Recipe(lr=1e-2), 0, tmp_path / "c.pt")
    losses = [h["valid"] for h in history]
    assert evaluate(model, *data[2:])[0] == pytest.approx(min(losses), rel=1e-6)
    assert losses[-1] > min(losses)
    assert len(losses) == losses.index(min(losses)) + 1 + Recipe().patience


def test_clean_labels_seldom_stop_early(tmp_path):
    lengths = []
    for seed in range(5):
        data, _ = noisy_digits(600, 0.0, seed)
        lengths.append(len(fit(make_net(seed), data, Recipe(), seed, tmp_path / f"{seed}.pt")))
    assert lengths[0] == Recipe().epochs
    assert lengths.count(Recipe().epochs) >= 3 and min(lengths) > 30  # 40, 40, 40, 38, 40


def test_three_tenths_drawn_anew_are_27_percent_wrong():
    assert pytest.approx(0.27) == 0.3 * 9 / 10
    (_, y, _, y_valid), _ = noisy_digits(1237, 0.3, seed=0)
    (_, right, _, right_valid), _ = noisy_digits(1237, 0.0, seed=0)
    wrong = torch.cat([y != right, y_valid != right_valid]).float().mean().item()
    assert wrong == pytest.approx(0.27, abs=0.04)  # 1437 labels: sd 0.012


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_one_bad_pixel_stops_the_run_before_it_spoils_the_weights(data, tmp_path, value):
    X = data[0].clone()
    X[7, 0] = value
    model = make_net(0)
    with pytest.raises(RuntimeError, match="non-finite"):
        fit(model, (X, *data[1:]), SHORT, 0, tmp_path / "c.pt")
    assert all(p.isfinite().all() for p in model.parameters())


def test_gradients_are_clipped(data):
    model = make_net(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    parts = {"model": model, "optimizer": optimizer}
    parts["schedule"] = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    before = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
    chapter.train_epoch(parts, 1e4 * data[0][:64], data[1][:64], replace(SHORT, clip=0.5))
    after = torch.cat([p.detach().flatten() for p in model.parameters()])
    # One batch, learning rate 1: the step is the clipped gradient. clip_grad_norm_ adds 1e-6.
    assert (after - before).norm().item() == pytest.approx(0.5, rel=1e-4)


# Formulas


def test_schedule_of_equation_4():
    recipe, steps = Recipe(warmup=20), 400
    assert recipe.rate(0, steps) == pytest.approx(1 / 20)
    assert recipe.rate(19, steps) == recipe.rate(20, steps) == 1
    assert recipe.rate(210, steps) == pytest.approx(0.5)
    assert recipe.rate(400, steps) == 0
    rates = [recipe.rate(step, steps) for step in range(401)]
    assert rates[:20] == sorted(rates[:20]) and rates[20:] == sorted(rates[20:], reverse=True)
    assert Recipe(warmup=0).rate(0, steps) == 1
    assert Recipe(warmup=20).rate(19, 20) == 1  # a run no longer than its warm-up


def test_interval_of_equation_3():
    C, M = 10, 86_400
    best = math.sqrt(2 * C * M)
    assert round(best) == 1315 and best / 60 == pytest.approx(22, abs=0.1)

    def cost(interval):
        return C / interval + interval / (2 * M)

    assert cost(best) == pytest.approx(math.sqrt(2 * C / M)) == pytest.approx(0.0152, abs=1e-4)
    assert all(cost(best) < cost(best * factor) for factor in (0.5, 0.9, 1.1, 2))


def test_interval_against_a_simulation():
    """Failures come at random; the cheapest interval lies where (3) says."""
    C, M, work = 1.0, 200.0, 200_000.0
    g = torch.Generator().manual_seed(0)

    def lost(interval: float) -> float:
        time = done = since = 0.0
        fails = -M * math.log(1 - torch.rand((), generator=g).item())
        while done < work:
            end = time + interval + C
            if fails < end:
                since += fails - time
                time, fails = fails, fails - M * math.log(1 - torch.rand((), generator=g).item())
            else:
                time, done, since = end, done + interval, since + C
        return since / work

    best = math.sqrt(2 * C * M)  # 20
    costs = {factor: lost(factor * best) for factor in (0.25, 1, 4)}
    # (2) to first order: 0.21, 0.10, 0.21; the noise of 1000 failures is a few per cent.
    assert costs[1] == pytest.approx(math.sqrt(2 * C / M), rel=0.2)
    assert costs[0.25] > 1.5 * costs[1] and costs[4] > 1.5 * costs[1]


# What each part is worth


def test_best_weights_and_evaluation_mode_are_worth_it_the_rest_is_not_seen(measured):
    values = measured(chapter.experiment_parts)
    # 0.022 and 0.020 on average, with standard errors of 0.008 and 0.007.
    assert values["stop"].mean() > 0.005 and values["eval"].mean() > 0.005
    assert (values["stop"] > 0).mean() >= 0.6
    for part in ("clip", "warmup", "decay"):
        assert abs(values[part].mean()) < 0.015
        assert values[part].min() <= 0 <= values[part].max()


def test_single_seeds_do_not_show_it(measured):
    values = measured(chapter.experiment_parts)
    for part in ("stop", "eval"):
        assert values[part].min() <= 0
        assert values[part].std(ddof=1) > 0.5 * values[part].mean()


@pytest.mark.gpu
def test_the_accelerator_gives_the_same_run(data, tmp_path, monkeypatch):
    history = fit(make_net(0), data, SHORT, 0, tmp_path / "gpu.pt")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    on_cpu = fit(make_net(0), data, SHORT, 0, tmp_path / "cpu.pt")
    # Other dropout masks and other rounding: the same course, not the same numbers.
    assert history[-1]["train"] == pytest.approx(on_cpu[-1]["train"], rel=0.3)
