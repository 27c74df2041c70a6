import copy
import gc
import json
import math
import os
from datetime import date
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snippets import data
from snippets.training import batch_norm as chapter
from snippets.training.batch_norm import BatchNet, batch_norm, fit, resume, start

WIDTHS = (64, 64, 32, 10)
SHAPES = {"1d": (16, 6), "2d": (4, 6, 5, 3)}


def randn(*shape: int, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=g, dtype=torch.float64)


def normalise(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Training-mode batch normalisation without gamma and beta; x: (B, d)."""
    ones, zeros = torch.ones(x.shape[1]).to(x), torch.zeros(x.shape[1]).to(x)
    return batch_norm(x, ones, zeros, (zeros.clone(), ones.clone()), training=True, eps=eps)


@pytest.fixture(scope="module")
def digits():
    return data.load_digits()


@pytest.fixture(scope="module")
def trained() -> tuple[nn.Module, float]:
    """Tests that change it copy it first."""
    return chapter.digits_run(nn.BatchNorm1d, lr=0.1, epochs=5, seed=0)


@pytest.fixture(scope="module")
def record():
    return json.loads(chapter.RECORD.read_text())


# The forward pass


@pytest.mark.parametrize("kind", SHAPES)
def test_by_hand_equals_torch(kind):
    shape = SHAPES[kind]
    layer = (nn.BatchNorm1d if kind == "1d" else nn.BatchNorm2d)(6).double()
    with torch.no_grad():
        layer.weight.copy_(randn(6, seed=1))
        layer.bias.copy_(randn(6, seed=2))
    running = (torch.zeros(6).double(), torch.ones(6).double())
    arguments = (layer.weight.detach(), layer.bias.detach(), running)
    for seed in range(4):
        x = 5 * randn(*shape, seed=seed) + 2
        assert torch.allclose(batch_norm(x, *arguments, training=True), layer(x))
    assert torch.allclose(running[0], layer.running_mean)
    assert torch.allclose(running[1], layer.running_var)
    x = randn(*shape, seed=9)
    by_hand = batch_norm(x, *arguments, training=False)
    assert torch.allclose(by_hand, layer.eval()(x))
    assert not torch.allclose(by_hand, layer.train()(x), atol=0.1)


def test_output_has_mean_beta_and_standard_deviation_gamma():
    gamma, beta = torch.tensor([2.0, -3.0]).double(), torch.tensor([5.0, 7.0]).double()
    running = (torch.zeros(2).double(), torch.ones(2).double())
    y = batch_norm(10 * randn(50, 2) - 4, gamma, beta, running, training=True)
    assert torch.allclose(y.mean(0), beta)
    # eps = 1e-5 beside a variance near 100
    assert torch.allclose(y.std(0, correction=0), gamma.abs(), rtol=1e-6)


def test_e46_biased_in_the_batch_unbiased_in_the_running():
    x = torch.tensor([[1.0], [2.0], [3.0], [6.0]], dtype=torch.float64)
    layer = nn.BatchNorm1d(1, eps=1e-12).double()
    y = layer(x)
    biased = (x - 3) / math.sqrt(3.5)
    assert torch.allclose(y, biased)
    assert not torch.allclose(y, (x - 3) / math.sqrt(14 / 3), atol=0.1)
    expected = Fraction(9, 10) + Fraction(1, 10) * Fraction(14, 3)
    assert expected == Fraction(41, 30)
    assert layer.running_mean.item() == pytest.approx(0.3)
    assert layer.running_var.item() == pytest.approx(41 / 30)
    assert abs(layer.running_var.item() - (0.9 + 0.35)) > 0.1  # the biased variance would give it
    assert [p.numel() for p in layer.parameters()] == [1, 1]


def test_mean_of_the_biased_variance():
    for size in (2, 4):
        variance = randn(100_000, size, seed=size).var(1, correction=0).mean().item()
        # The mean of 1e5 variances has a standard deviation below 0.003.
        assert variance == pytest.approx((size - 1) / size, abs=0.012)


def test_the_start_is_forgotten_after_44_batches():
    assert 0.9**44 < 0.01 < 0.9**43
    assert pytest.approx(0.0097, abs=5e-5) == 0.9**44
    layer = nn.BatchNorm1d(1).double()
    x = torch.tensor([[9.0], [11.0]], dtype=torch.float64)
    for _ in range(44):
        layer(x)
    assert layer.running_mean.item() == pytest.approx(10 * (1 - 0.9**44))


def test_evaluation_does_not_depend_on_the_company(trained, digits):
    model, X = trained[0].eval(), digits[2]
    with torch.no_grad():
        assert torch.allclose(model(X[:1]), model(X[:50])[:1], atol=1e-5)
        busy = copy.deepcopy(model).train()
        assert not torch.allclose(busy(X[:2])[:1], busy(X[:50])[:1], atol=0.1)


# The two invariances


def test_bias_before_the_norm_is_redundant():
    torch.manual_seed(0)
    model, x = BatchNet(WIDTHS).double(), randn(32, 64)
    moved = copy.deepcopy(model)
    with torch.no_grad():
        moved.hidden[0].bias += 100
        moved.hidden[3].bias -= 7
    assert torch.allclose(model(x), moved(x))
    assert not torch.allclose(model.eval()(x), moved.eval()(x), atol=0.1)
    model.train()
    F.cross_entropy(model(x), torch.arange(32) % 10).backward()
    for layer in (0, 3):
        assert model.hidden[layer].bias.grad.abs().max() < 1e-15 * 1e3  # rounding of 32 terms
        assert model.hidden[layer].weight.grad.abs().max() > 1e-4
    assert model.output.bias.grad.abs().max() > 1e-4  # no norm behind it


@pytest.mark.parametrize("c", [0.01, 3.0, 255.0])
def test_scale_is_invisible_as_eps_goes_to_zero(c):
    x = randn(20, 5)
    assert torch.allclose(normalise(c * x + 4, eps=1e-14), normalise(x, eps=1e-14), atol=1e-8)
    assert torch.allclose(normalise(c * x), normalise(x, eps=1e-5 / c**2))  # (6), exactly


def test_eps_ends_the_invariance_for_tiny_inputs():
    x = randn(20, 5)
    assert normalise(1e-4 * x).abs().max() < 0.1 < normalise(x).abs().max()
    assert torch.allclose(normalise(1e-4 * x) * 1e-5**0.5, 1e-4 * (x - x.mean(0)), rtol=1e-2)


def loss_and_gradient(W: Tensor) -> tuple[float, Tensor]:
    W = W.clone().requires_grad_()
    x, target = randn(30, 6, seed=1), torch.arange(30) % 4
    loss = F.cross_entropy(normalise(x @ W.T, eps=1e-14) @ randn(8, 4, seed=2), target)
    return loss.item(), torch.autograd.grad(loss, W)[0]


def test_gradient_is_orthogonal_and_shrinks_with_the_weight():
    W = randn(8, 6)
    loss, grad = loss_and_gradient(W)
    loss_10, grad_10 = loss_and_gradient(10 * W)
    assert loss_10 == pytest.approx(loss)
    assert abs((W * grad).sum()) < 1e-10 * W.norm() * grad.norm()
    assert torch.allclose(grad_10, grad / 10, rtol=1e-6)


def test_weights_grow_by_pythagoras():
    W, lr = randn(8, 6), 5.0
    for _ in range(5):
        _, grad = loss_and_gradient(W)
        after = W - lr * grad
        assert after.square().sum().item() == pytest.approx(
            (W.square().sum() + lr**2 * grad.square().sum()).item()
        )
        W = after
    assert W.norm() > randn(8, 6).norm()


def test_a_hundredfold_rate_for_a_tenfold_weight_is_the_same_training():
    small, large = randn(8, 6), 10 * randn(8, 6)
    for _ in range(5):
        small = small - 0.5 * loss_and_gradient(small)[1]
        large = large - 50 * loss_and_gradient(large)[1]
    assert torch.allclose(large, 10 * small, rtol=1e-6)


# The backward pass


@pytest.mark.parametrize("size", [2, 3, 8, 64])
def test_gradient_formula_equals_autograd(size):
    x, gamma, grad_y = randn(size, 5).requires_grad_(), randn(5, seed=1), randn(size, 5, seed=2)
    F.batch_norm(x, None, None, gamma, training=True, eps=1e-5).backward(grad_y)
    by_formula = chapter.batch_norm_grad(x.detach(), gamma, grad_y)
    assert torch.allclose(x.grad, by_formula, atol=1e-9)


def test_jacobian_is_a_projection():
    x = randn(6, 1)
    J = torch.autograd.functional.jacobian(lambda v: normalise(v[:, None], 1e-14)[:, 0], x[:, 0])
    x_hat = normalise(x, 1e-14)[:, 0]
    s = x.std(correction=0)
    expected = (torch.eye(6).double() - 1 / 6 - torch.outer(x_hat, x_hat) / 6) / s
    assert torch.allclose(J, expected, atol=1e-9)
    assert torch.linalg.matrix_rank(J, rtol=1e-6) == 6 - 2


def test_batch_of_two_keeps_the_order_and_passes_no_gradient():
    x, grad_y = randn(2, 50), randn(2, 50, seed=1)
    # No two of these 50 pairs are closer than 1e-3; eps changes x_hat by 1e-12 / 1e-6.
    assert torch.allclose(normalise(x, 1e-14).abs(), torch.ones_like(x), atol=1e-5)
    one = torch.ones(50).double()
    two = chapter.batch_norm_grad(x, one, grad_y, 1e-14).abs().max()
    three = chapter.batch_norm_grad(randn(3, 50), one, randn(3, 50, seed=1), 1e-14).abs().max()
    assert two < 1e-3 < 0.1 < three


def test_gap_by_theory(measured):
    assert chapter.gap(2) == pytest.approx(math.sqrt(2 - 2 / math.sqrt(math.pi)))
    for size, printed in ((2, 0.934), (4, 0.636), (16, 0.309), (64, 0.153)):
        assert chapter.gap(size) == pytest.approx(printed, abs=5e-4)
    assert chapter.gap(256) == pytest.approx(math.sqrt(3 / 512), rel=5e-3)
    values = measured(chapter.experiment_gap)
    for size in (2, 4, 16, 64):
        # Forty seeds differ from the theory by 2.5 % at most.
        assert values[f"b{size}"] == pytest.approx(chapter.gap(size), rel=0.05)


def test_gap_of_a_trained_network_is_near_the_theory(trained, digits):
    with torch.no_grad():
        z = trained[0].hidden[0](digits[0]).double()
    z = (z - z.mean(0)) / z.std(0, correction=0)
    for size in (2, 8, 32, 128):
        # Not Gaussian: within a quarter on this figure.
        assert chapter.measure_gap(z, size) == pytest.approx(chapter.gap(size), rel=0.25)


# The code


def test_layer_and_group_norm_are_the_same_formula_along_a_sample():
    x = randn(3, 8).float()
    by_hand = (x - x.mean(1, keepdim=True)) / (x.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    assert torch.allclose(nn.LayerNorm(8)(x), by_hand, atol=1e-5)
    assert torch.allclose(nn.GroupNorm(1, 8)(x), by_hand, atol=1e-5)
    groups = x.view(3, 2, 4)
    std = (groups.var(2, correction=0, keepdim=True) + 1e-5).sqrt()
    by_groups = (groups - groups.mean(2, keepdim=True)) / std
    assert torch.allclose(nn.GroupNorm(2, 8)(x), by_groups.view(3, 8), atol=1e-5)
    for layer in (nn.LayerNorm(8), nn.GroupNorm(2, 8)):
        assert torch.allclose(layer(x[:1]), layer(x)[:1], atol=1e-6)  # no company, no batch of one
        assert not list(layer.buffers())
        assert torch.equal(layer.train()(x), layer.eval()(x))


@pytest.mark.parametrize("bias", [True, False])
def test_fold_is_one_linear_layer(bias):
    torch.manual_seed(0)
    linear, norm = nn.Linear(5, 7, bias=bias), nn.BatchNorm1d(7)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    for _ in range(5):
        norm(linear(3 * torch.randn(20, 5) + 1))
    x = torch.randn(9, 5)
    folded = chapter.fold(linear, norm)
    assert torch.allclose(folded(x), norm.eval()(linear(x)), atol=1e-5)  # float32
    assert not torch.allclose(folded(x), norm.train()(linear(x)), atol=0.1)


def test_fold_a_trained_network(trained, digits):
    model = trained[0].eval()
    plain = BatchNet(WIDTHS, norm=None)
    plain.hidden[0] = chapter.fold(model.hidden[0], model.hidden[1])
    plain.hidden[2] = chapter.fold(model.hidden[3], model.hidden[4])
    plain.output = model.output
    assert torch.allclose(plain(digits[2]), model(digits[2]), atol=1e-4)


# The failure and the comparisons


def test_pixel_scale_spoils_the_plain_network_only(measured):
    values = measured(chapter.experiment_scale)
    # Six seeds: plain at 255 at most 0.13, BN at least 0.95.
    assert (values["plain_255"] < 0.2).all()
    assert (values["bn_255"] > 0.9).all()
    assert (values["plain_16"] > 0.8).all()
    # The trajectories differ by eps / c^2 and rounding; ten of 360 images is far more.
    for scale in ("16", "255"):
        assert abs(values[f"bn_{scale}"] - values["bn_1"]).max() <= 10 / 360


def test_eps_hurts_when_pixels_are_tiny(measured):
    values = measured(chapter.experiment_scale)
    assert (values["bn_tiny"] < values["bn_1"] - 0.02).all()
    assert (values["bn_1"] - values["bn_tiny"]).mean() > 0.05
    assert (values["bn_tiny"] > values["plain_tiny"] + 0.3).all()


def test_default_start_shrinks_the_signal_and_the_norm_restores_it(digits):
    spread = {None: [], nn.BatchNorm1d: []}
    for seed in range(5):
        for norm, values in spread.items():
            model = start(WIDTHS, norm, seed=seed).model.train()
            outputs = []
            for layer in [*model.modules()]:
                if isinstance(layer, nn.Linear):
                    layer.register_forward_hook(lambda m, a, out, o=outputs: o.append(out))
            with torch.no_grad():
                model(digits[0])
            values.append([out.std(0).mean().item() for out in outputs])
    plain, bn = (np.array(spread[norm]) for norm in (None, nn.BatchNorm1d))  # (seeds, layers)
    assert (plain[:, 1] < 0.6 * plain[:, 0]).all() and (plain[:, 2] < 0.6 * plain[:, 1]).all()
    assert (bn[:, 2] > 3 * plain[:, 2]).all()


def test_window_of_learning_rates(measured):
    values = measured(chapter.experiment_rates)
    # Five seeds: best 0.36 to 0.74 without, 0.94 to 0.97 with.
    assert (values["plain_best"] < 0.9).all() and (values["plain_good"] == 0).all()
    assert (values["bn_best"] > 0.9).all() and (values["bn_good"] >= 2).all()
    assert (values["bn_best"] > values["plain_best"] + 0.1).all()
    assert (values["plain_notes"] < 0.2).all() and (values["bn_notes"] > 0.45).all()


def test_training_mode_at_test_time(measured):
    values = measured(chapter.experiment_modes)
    # Five seeds: 0.97 to 0.98, 0.97 to 0.98, 0.75 to 0.78, 0.41 to 0.49, 0.10 to 0.13.
    assert (values["eval"] > 0.95).all()
    assert (abs(values["eval"] - values["mixed_60"]) < 0.03).all()
    assert (values["mixed_4"] < values["eval"] - 0.1).all()
    assert (values["mixed_2"] < values["mixed_4"] - 0.15).all()
    assert (values["one_class"] < values["mixed_2"] - 0.2).all()
    assert (values["one_class"] < 0.2).all()


def test_batches_of_two_need_another_norm(measured):
    values = measured(chapter.experiment_small)
    # Five seeds at 2: BN 0.41 to 0.54, the others 0.58 to 0.79; at 4 BN is at 0.73 or more.
    for other in ("ln", "gn"):
        assert (values[f"{other}_2"] > values["bn_2"]).all()
        assert (values["bn_16"] > values[f"{other}_16"]).all()
        assert (values[f"{other}_2"] - values["bn_2"]).mean() > 0.15
    assert (values["bn_4"] > values["bn_2"] + 0.1).all()


# The programme


def test_e45_batches_and_parameters():
    model = BatchNet((784, 300, 100, 10))
    parts = {"Linear": [], "BatchNorm1d": []}
    for layer in model.modules():
        if type(layer).__name__ in parts:
            parts[type(layer).__name__].append(sum(p.numel() for p in layer.parameters()))
    assert parts == {"Linear": [235_500, 30_100, 1_010], "BatchNorm1d": [600, 200]}
    total = sum(p.numel() for p in model.parameters())
    without = BatchNet((784, 300, 100, 10), bias=False)
    assert total == 267_410
    assert total - sum(p.numel() for p in without.parameters()) == 400
    g = torch.Generator()
    for n, count, last in ((60_000, 938, 32), (10_000, 157, 16)):
        sizes = [len(y) for _, y in data.batches(torch.zeros(n, 1), torch.zeros(n), 64, g)]
        assert len(sizes) == count == math.ceil(n / 64) and sizes[-1] == last


def test_normalize_maps_to_minus_one_and_one(digits):
    train, valid, test = chapter.prepare()
    assert [len(y) for _, y in (train, valid, test)] == [1200, 237, 360]
    assert train[0].min() == -1 and train[0].max() == 1
    both = torch.cat([train[0], valid[0]])
    assert torch.allclose(both, 2 * digits[0] - 1)


def test_untrained_loss_is_near_ln_10():
    _, valid, _ = chapter.prepare()
    for seed in range(5):
        loss, _ = chapter.evaluate(start(WIDTHS, seed=seed).model, valid)
        assert loss == pytest.approx(math.log(10), abs=0.1)


class Fixed(nn.Module):
    """Gives every sample its two columns as logits, and remembers its mode."""

    def __init__(self) -> None:
        super().__init__()
        self.zero = nn.Parameter(torch.zeros(1))
        self.modes = []

    def forward(self, x: Tensor) -> Tensor:
        self.modes.append((self.training, torch.is_grad_enabled()))
        return x + self.zero


def test_epoch_loss_is_the_mean_over_samples_not_over_batches():
    x = torch.tensor([[0.0, 0.0]] * 4 + [[9.0, 0.0]])
    y = torch.tensor([0, 0, 0, 0, 1])
    model = Fixed()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    g = torch.Generator().manual_seed(0)
    loss, accuracy = chapter.train_one_epoch(model, (x, y), optimizer, 4, g)
    losses = F.cross_entropy(x, y, reduction="none")
    assert loss == pytest.approx(losses.mean().item())
    assert accuracy == 0.8
    assert model.modes == [(True, True)] * 2
    chapter.evaluate(model, (x, y))
    assert model.modes[-1] == (False, False)


def test_evaluation_builds_no_graph_and_changes_nothing(trained, digits):
    model = copy.deepcopy(trained[0]).train()
    before = copy.deepcopy(model.state_dict())
    outputs = []
    model.register_forward_hook(lambda module, args, out: outputs.append(out))
    chapter.evaluate(model, digits[2:])
    assert outputs and all(out.grad_fn is None and not out.requires_grad for out in outputs)
    assert not model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_e45_volatile_builds_a_graph():
    model = nn.Linear(3, 2)
    with pytest.warns(UserWarning, match="volatile was removed and now has no effect"):
        x = torch.autograd.Variable(torch.zeros(1, 3), volatile=True)
    assert type(x) is Tensor
    assert model(x).grad_fn is not None  # what the notes' test loop does
    with torch.no_grad():
        assert model(x).grad_fn is None


def test_e45_tabs_and_spaces():
    listing = "for epoch in range(20):\n\ttrain_loss = 0\n        train_acc = 0\n"
    with pytest.raises(TabError, match="inconsistent use of tabs and spaces"):
        compile(listing, "notes.py", "exec")
    compile(listing.expandtabs(8), "notes.py", "exec")


def test_resumed_training_is_bit_equal(tmp_path):
    train, valid, _ = chapter.prepare()
    path = tmp_path / "run.pt"
    whole = start(WIDTHS, seed=0)
    fit(whole, train, valid, epochs=5)
    first = start(WIDTHS, seed=0)
    fit(first, train, valid, epochs=2, path=path)
    second = start(WIDTHS, seed=123)
    resume(second, path)
    assert len(second.history) == 2
    fit(second, train, valid, epochs=5, path=path)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name
    for name, value in whole.best_state.items():
        assert torch.equal(value, second.best_state[name]), name
    assert whole.history == second.history and whole.best == second.best
    assert [file.name for file in tmp_path.iterdir()] == ["run.pt"]


@pytest.mark.parametrize("lost", ["generator", "buffers", "best", "momentum"])
def test_a_checkpoint_with_anything_less_is_not_enough(lost, tmp_path):
    train, valid, _ = chapter.prepare()

    def fresh(seed: int) -> chapter.Run:
        run = start(WIDTHS, seed=seed)
        run.optimizer = torch.optim.SGD(run.model.parameters(), lr=0.1, momentum=0.9)
        return run

    path = tmp_path / "run.pt"
    whole, first = fresh(0), fresh(0)
    fit(whole, train, valid, epochs=4)
    fit(first, train, valid, epochs=2, path=path)
    second = fresh(123)
    resume(second, path)
    if lost == "generator":
        second.generator.manual_seed(123)
    if lost == "buffers":
        second.model.hidden[1].reset_running_stats()
    if lost == "best":
        second.best = 2.0
    if lost == "momentum":
        second.optimizer.state.clear()
    fit(second, train, valid, epochs=4)
    assert (whole.history, whole.best) != (second.history, second.best)


def test_momentum_survives_the_checkpoint(tmp_path):
    train, valid, _ = chapter.prepare()
    runs = [start(WIDTHS, seed=seed) for seed in (0, 0, 123)]
    for run in runs:
        run.optimizer = torch.optim.SGD(run.model.parameters(), lr=0.1, momentum=0.9)
    whole, first, second = runs
    fit(whole, train, valid, epochs=3)
    fit(first, train, valid, epochs=1, path=tmp_path / "run.pt")
    resume(second, tmp_path / "run.pt")
    fit(second, train, valid, epochs=3)
    assert whole.history == second.history


def test_best_state_is_the_best_epoch_and_a_copy():
    train, valid, _ = chapter.prepare()
    run = start(WIDTHS, lr=3.0)  # a high rate, so that the last epoch is not the best
    fit(run, train, valid, epochs=6)
    accuracies = [row[3] for row in run.history]
    assert run.best == max(accuracies)
    assert accuracies[-1] < run.best
    best = BatchNet(WIDTHS)
    best.load_state_dict(run.best_state)
    assert chapter.evaluate(best, valid)[1] == pytest.approx(run.best)


def test_an_interrupted_save_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "run.pt"
    run = start(WIDTHS)
    chapter.save(run, path)
    content = path.read_bytes()

    def break_off(state, file):
        Path(file).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", break_off)
    with pytest.raises(OSError, match="disk full"):
        chapter.save(run, path)
    assert path.read_bytes() == content


def test_digits_programme(measured):
    values = measured(chapter.experiment_digits)
    # Five seeds: 0.958 to 0.978 with, 0.933 to 0.958 without; epoch 2 against 6 to 10.
    assert (values["bn_test"] > 0.95).all()
    assert (values["bn_test"] - values["plain_test"]).mean() > 0.01
    assert (values["bn_epoch"] <= 3).all()
    assert (values["plain_epoch"] >= 2 * values["bn_epoch"]).all()


def test_confusion_matrix_counts_every_pair():
    y, y_hat = torch.tensor([0, 0, 1, 2, 2]), torch.tensor([0, 1, 1, 0, 2])
    assert chapter.confusion_matrix(y, y_hat, 3).tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 1]]
    _, y, y_hat = chapter.mistakes()
    counts = chapter.confusion_matrix(y, y_hat)
    assert counts.sum() == 360
    assert counts.sum() - counts.diag().sum() == (y != y_hat).sum() <= 18


# The recorded MNIST run


def test_the_record_says_where_it_comes_from(record):
    assert record["command"] == "python -m snippets.training.batch_norm --record"
    assert date.fromisoformat(record["date"]) >= date(2026, 11, 20)
    assert record["versions"].keys() == {"python", "torch"} and record["machine"]
    assert record["cpu_seconds"] > 0 and len(record["seeds"]) >= 5
    for arm in ("bn", "plain"):
        runs = record["results"][arm]
        assert len(runs) == len(record["seeds"])
        assert all(len(run[key]) == 20 for run in runs for key in run)


def test_recorded_mnist_effect(record):
    results = record["results"]
    bn = np.array([run["test_accuracy"] for run in results["bn"]])
    plain = np.array([run["test_accuracy"] for run in results["plain"]])
    assert bn[:, -1].min() > plain[:, -1].max() + 0.005
    assert (bn[:, -1] - plain[:, -1]).mean() > 10 * max(bn[:, -1].std(), plain[:, -1].std())
    assert (bn[:, -1] - plain[:, -1]).mean() > 0.01
    # The first epoch with the norm is worth more than five without.
    assert bn[:, 0].min() > plain[:, 4].max()
    loss = np.array([run["train_loss"] for run in results["plain"]])
    assert (loss[:, -1] < loss[:, -2]).all()


def test_real_mnist_starts_as_recorded(record):
    folder = Path(os.environ.get("DATA_DIR", "")) / "MNIST"
    if not os.environ.get("DATA_DIR") or not folder.is_dir():
        pytest.skip("MNIST is not below DATA_DIR")
    X = data.load_mnist()[0]
    assert X.mean().item() == pytest.approx(0.1307, abs=5e-5)
    assert X.std().item() == pytest.approx(0.3081, abs=5e-5)
    curves = chapter.mnist_run(nn.BatchNorm1d, 0.01, seed=0, epochs=1)
    # Another machine rounds otherwise: the seeds differ by 0.0005.
    assert curves["test_accuracy"][0] == pytest.approx(
        record["results"]["bn"][0]["test_accuracy"][0], abs=0.005
    )


# Limits


def test_a_good_start_leaves_little_to_gain(measured):
    values = measured(chapter.experiment_tuned)
    # Five seeds: 0.69 to 0.86, 0.97 to 0.98; tuned 0.92 to 0.95 and 0.93 to 0.96.
    assert (values["bn"] - values["plain"]).mean() > 0.08
    assert (values["bn"] > values["plain"] + 0.05).all()
    assert (values["plain_tuned"] > values["plain"]).all()
    difference = values["bn_tuned"] - values["plain_tuned"]
    assert abs(difference.mean()) < 0.02
    assert abs(difference.mean()) < 2 * values["plain_tuned"].std()
    assert (values["bn"] > values["bn_tuned"]).all()


# The clinic


def test_batch_of_one_raises(digits):
    with pytest.raises(ValueError, match="Expected more than 1 value per channel when training"):
        nn.BatchNorm1d(3)(torch.zeros(1, 3))
    with pytest.raises(ValueError, match="more than one value"):
        normalise(torch.zeros(1, 3))
    assert nn.BatchNorm1d(3).eval()(torch.zeros(1, 3)).shape == (1, 3)
    assert nn.BatchNorm2d(3)(torch.zeros(1, 3, 2, 2)).shape == (1, 3, 2, 2)
    with pytest.raises(ValueError, match="more than 1 value"):
        nn.BatchNorm2d(3)(torch.zeros(1, 3, 1, 1))
    assert len(digits[1]) == 4 * 359 + 1
    sizes = [len(y) for _, y in data.batches(*digits[:2], 4, torch.Generator())]
    assert sizes[-1] == 1 and set(sizes[:-1]) == {4}


def test_eps_zero_raises_in_training_only():
    layer = nn.BatchNorm1d(3, eps=0)
    with pytest.raises(ValueError, match="eps must be positive during training"):
        layer(torch.randn(4, 3))
    assert layer.eval()(torch.randn(4, 3)).isfinite().all()


def test_wrong_dimensions():
    with pytest.raises(ValueError, match=r"expected 4D input \(got 2D input\)"):
        nn.BatchNorm2d(3)(torch.randn(4, 3))
    with pytest.raises(RuntimeError, match="running_mean should contain 5 elements not 3"):
        nn.BatchNorm1d(3)(torch.randn(4, 5))


def test_no_grad_does_not_protect_the_running_statistics(trained, digits):
    model = copy.deepcopy(trained[0])
    before = model.hidden[1].running_mean.clone()
    with torch.no_grad():
        model.eval()(digits[2])
        assert torch.equal(before, model.hidden[1].running_mean)
        model.train()(digits[2])
    assert not torch.equal(before, model.hidden[1].running_mean)


def test_train_mode_accuracy_keeps_the_model(trained, digits):
    before = copy.deepcopy(trained[0].state_dict())
    chapter.train_mode_accuracy(trained[0], [digits[2:]])
    for name, value in trained[0].state_dict().items():
        assert torch.equal(before[name], value)


def test_forgotten_train_mode(measured):
    values = measured(chapter.experiment_stuck)
    # Five seeds: 0.95 to 0.97 against 0.71 to 0.95; 0.95 to 0.98 against 0.08.
    assert (values["right_low"] - values["stuck_low"]).mean() > 0.03
    assert (values["right_low"] > values["stuck_low"] - 0.02).all()
    assert (values["right_low"] > 0.9).all()
    assert (values["right_high"] > 0.9).all()
    assert (values["stuck_high"] < 0.3).all()


def test_state_dict_is_an_alias(digits):
    model = BatchNet(WIDTHS)
    best, kept = model.state_dict(), copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    g = torch.Generator()
    chapter.train_one_epoch(model, (digits[0][:200], digits[1][:200]), optimizer, 64, g)
    assert torch.equal(best["output.weight"], model.output.weight)
    assert not torch.equal(kept["output.weight"], model.output.weight)


def test_parameters_alone_are_not_the_model(trained, digits):
    model, accuracy = trained
    only = dict(model.named_parameters())
    fresh = BatchNet(WIDTHS)
    with pytest.raises(RuntimeError, match=r"Missing key.*running_mean"):
        fresh.load_state_dict(only)
    fresh.load_state_dict(only, strict=False)
    # Six seeds lose 0.2 to 0.7.
    assert chapter.evaluate(fresh, digits[2:])[1] < accuracy - 0.1
    fresh.load_state_dict(model.state_dict())
    assert chapter.evaluate(fresh, digits[2:])[1] == accuracy


# The exercises


@pytest.mark.parametrize(("norm", "equal"), [(nn.LayerNorm, True), (nn.BatchNorm1d, False)])
def test_accumulated_gradients(norm, equal, digits):
    torch.manual_seed(0)
    model = BatchNet(WIDTHS, norm)
    grads = []
    for pieces in (1, 4):
        model.zero_grad()
        for x, y in zip(digits[0][:64].chunk(pieces), digits[1][:64].chunk(pieces), strict=True):
            (F.cross_entropy(model(x), y) / pieces).backward()
        grads.append(model.hidden[0].weight.grad.clone())
    assert torch.allclose(*grads, atol=1e-6) == equal


def test_dark_images_and_new_statistics(trained, digits):
    model, accuracy = copy.deepcopy(trained[0]), trained[1]
    dark = (digits[2] / 10, digits[3])
    # Six seeds: 0.08 to 0.49, then 0.956 to 0.981.
    assert chapter.evaluate(model, dark)[1] < 0.7
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm1d):
            layer.reset_running_stats()
            layer.momentum = None
    with torch.no_grad():
        model.train()(digits[0][:1200] / 10)
    assert chapter.evaluate(model, dark)[1] > accuracy - 0.03


@pytest.mark.gpu
def test_cuda_and_cpu_agree():
    train, valid, _ = chapter.prepare()
    losses = []
    for device in ("cpu", "cuda"):
        run = start(WIDTHS, seed=0, device=device)
        move = [tuple(t.to(device) for t in part) for part in (train, valid)]
        fit(run, *move, epochs=1)
        losses.append(run.history[0][0])
    gc.collect()
    # The start is drawn on the CPU; 19 float32 steps round differently.
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)
