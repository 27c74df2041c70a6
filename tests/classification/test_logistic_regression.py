import math
from statistics import NormalDist

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from snippets.classification import logistic_regression as chapter
from snippets.classification.logistic_regression import (
    LogisticRegression,
    accuracy,
    bce_stable,
    clamped_bce,
    descend,
    gradient,
    make_blobs,
    naive_bce,
    sigmoid,
    train,
)

LN2 = math.log(2)
PHI = NormalDist().cdf


def value_and_slope(loss_fn, z: float, y: float) -> tuple[float, float]:
    logit = torch.tensor([z], requires_grad=True)
    loss = loss_fn(logit, torch.tensor([y]))
    loss.backward()
    return loss.item(), logit.grad.item()


def with_ones(X: torch.Tensor) -> torch.Tensor:
    return torch.cat([X, torch.ones(len(X), 1)], dim=1)


@pytest.fixture(scope="module")
def fitted() -> tuple[LogisticRegression, torch.Tensor, torch.Tensor]:
    X, y = make_blobs(1000, seed=0)
    model = LogisticRegression(2)
    train(model, X, y, lr=0.5, steps=500)
    return model, X, y


# The failure


@pytest.mark.parametrize("y", [0.0, 1.0])
def test_three_ways_agree_while_the_logit_is_moderate(y):
    for z in (-10.0, -1.0, 0.0, 1.0, 10.0):
        exact = value_and_slope(F.binary_cross_entropy_with_logits, z, y)
        for way in (naive_bce, clamped_bce, bce_stable):
            # 1 - p has lost all but 3 digits at z = 10: 6e-8 / 5e-5.
            assert value_and_slope(way, z, y) == pytest.approx(exact, rel=2e-3, abs=1e-6)


@pytest.mark.parametrize("z", [20.0, 100.0])
def test_confident_mistake_breaks_two_of_the_three(z):
    value, slope = value_and_slope(naive_bce, z, 0.0)
    assert math.isinf(value) and math.isnan(slope)
    assert value_and_slope(clamped_bce, z, 0.0) == (100.0, 0.0)
    assert value_and_slope(bce_stable, z, 0.0) == pytest.approx((z, 1.0), rel=1e-6)


def test_naive_is_nan_on_a_confident_right_answer():
    assert all(math.isnan(v) for v in value_and_slope(naive_bce, 20.0, 1.0))
    assert value_and_slope(bce_stable, 20.0, 1.0) == pytest.approx((0, 0), abs=1e-8)


def test_float32_is_denser_near_zero_than_near_one():
    border_one, border_zero = 24 * math.log(2), math.log(torch.finfo(torch.float32).max)
    assert border_one == pytest.approx(16.6, abs=0.05)
    assert border_zero == pytest.approx(88.7, abs=0.05)
    for n in (1, 64):  # scalar and vector code
        assert torch.sigmoid(torch.full((n,), border_one - 0.1)).max() < 1
        assert torch.sigmoid(torch.full((n,), border_one + 0.1)).min() == 1
        assert torch.sigmoid(torch.full((n,), -80.0)).min() > 0
        assert torch.sigmoid(torch.full((n,), -104.0)).max() == 0  # 2^-150: below every float32
    for way in (naive_bce, clamped_bce):
        assert value_and_slope(way, -20.0, 1.0) == pytest.approx((20.0, -1.0))


def test_only_the_loss_on_logits_recovers_from_a_wrong_start(measured):
    values = measured(chapter.experiment_start)
    # The start (-1, -1) is almost opposite to (1.2, 0.9): 2.1 / (1.5 sqrt 2) = 0.99.
    assert values["before"].mean() == pytest.approx(1 - PHI(2.1 / math.sqrt(2)), abs=0.02)
    assert (values["naive_nan"] == 1).all() and (values["naive_accuracy"] == 0.5).all()
    assert (values["clamped_nan"] == 0).all() and (values["logits_nan"] == 0).all()
    assert (values["clamped_accuracy"] < 0.15).all()
    # Binomial sd of 1000 samples at 0.933: 0.008.
    assert (values["logits_accuracy"] > 0.90).all()
    assert (values["logits_moved"] > 3 * values["clamped_moved"]).all()


def test_nan_weights_give_exactly_one_half():
    X, y = make_blobs(1000, seed=0)
    assert accuracy(X @ torch.full((2,), math.nan), y) == 0.5


# The derivation


def test_two_probabilities_sum_to_one_and_log_odds_are_the_logit():
    z = torch.linspace(-10, 10, 101, dtype=torch.float64)
    p = sigmoid(z)
    assert torch.allclose(p, torch.sigmoid(z))
    assert torch.allclose(p + 1 / (1 + z.exp()), torch.ones(101, dtype=torch.float64))
    assert torch.allclose(p, z.exp() / (1 + z.exp()))
    assert torch.allclose(sigmoid(-z), 1 - p)
    assert torch.allclose((p / (1 - p)).log(), z)


def test_sigmoid_is_finite_everywhere_and_steepest_at_zero():
    z = torch.tensor([-1e4, -100.0, 0.0, 100.0, 1e4])
    assert sigmoid(z).tolist() == pytest.approx([0, 0, 0.5, 1, 1], abs=1e-40)
    point = torch.linspace(-6, 6, 121, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(torch.sigmoid(point).sum(), point)
    assert slope.max().item() == pytest.approx(1 / 4) and slope.argmax() == 60
    p = torch.sigmoid(point.detach())
    assert torch.allclose(slope, p * (1 - p))


def test_one_unit_of_a_feature_multiplies_the_odds(fitted):
    model, _, _ = fitted
    w = model.linear.weight[0].detach()
    p, q = model.probability(torch.tensor([[0.3, -0.2], [1.3, -0.2]]))
    assert ((q / (1 - q)) / (p / (1 - p))).item() == pytest.approx(w[0].exp().item(), rel=1e-4)


def test_boundary_is_where_the_logit_is_zero(fitted):
    model, X, _ = fitted
    with torch.no_grad():
        assert torch.equal(model(X) > 0, model.probability(X) > 0.5)
        for p in (0.1, 0.5, 0.9):
            slope, intercept = chapter.decision_line(model, p)
            x1 = torch.tensor([-2.0, 0.0, 3.0])
            on_line = torch.stack([x1, slope * x1 + intercept], dim=1)
            assert torch.allclose(model.probability(on_line), torch.tensor(p), atol=1e-5)
        w, b = model.linear.weight[0], model.linear.bias
        foot = X - ((X @ w + b) / w.norm() ** 2).unsqueeze(1) * w  # nearest point of the line
        assert torch.allclose(model(foot), torch.zeros(1000), atol=1e-4)
        assert torch.allclose((X - foot).norm(dim=1), model(X).abs() / w.norm(), atol=1e-5)


def test_decision_line_refuses_a_vertical_line_and_other_dimensions():
    model = LogisticRegression(2)  # w = 0
    with pytest.raises(ValueError, match="w2 != 0"):
        chapter.decision_line(model)
    with pytest.raises(ValueError, match="two features"):
        chapter.decision_line(LogisticRegression(3))


def test_log_odds_of_two_gaussians_are_linear():
    X, _ = make_blobs(100, seed=0)
    m, share = torch.tensor([1.2, 0.9]), 0.1
    density = torch.distributions.MultivariateNormal
    odds = density(m, torch.eye(2)).log_prob(X) - density(-m, torch.eye(2)).log_prob(X)
    true = X @ torch.tensor([2.4, 1.8]) + math.log(1 / 9)
    assert torch.allclose(odds + math.log(share / (1 - share)), true, atol=1e-5)
    assert math.hypot(2.4, 1.8) == pytest.approx(3) and m.norm().item() == pytest.approx(1.5)
    assert PHI(1.5) == pytest.approx(0.933, abs=5e-4)


def test_blobs_are_what_they_say():
    X, y = make_blobs(20_000, seed=0, d=3, positive=0.1)
    assert X.shape == (20_000, 3) and y.sum() == 2000
    m = torch.tensor([1.2, 0.9, 0.0])
    # Standard error of a mean of 2000: 0.022; of a variance of 18000: 0.011. Four of them.
    assert torch.allclose(X[y == 1].mean(0), m, atol=0.09)
    assert torch.allclose(X[y == 0].mean(0), -m, atol=0.03)
    assert torch.allclose(X[y == 0].var(0), torch.ones(3), atol=0.045)
    assert not torch.equal(make_blobs(10, 0)[0], make_blobs(10, 1)[0])


def test_cross_entropy_is_the_mean_negative_log_likelihood():
    X, y = make_blobs(50, seed=0)
    z = (X @ torch.tensor([1.0, 2.0])).double()
    p, y = torch.sigmoid(z), y.double()
    likelihood = (p**y * (1 - p) ** (1 - y)).prod()
    assert bce_stable(z, y).item() == pytest.approx(-likelihood.log().item() / 50)
    softplus_form = ((1 + z.exp()).log() - y * z).mean()  # equation (7)
    assert bce_stable(z, y).item() == pytest.approx(softplus_form.item())


@pytest.mark.parametrize("seed", range(3))
def test_first_loss_is_log_two(seed):
    X, y = make_blobs(30, seed, positive=0.3)
    assert train(LogisticRegression(2), X, y, 0.1, 1)[0] == pytest.approx(LN2)


def test_stable_loss_equals_pytorch_everywhere():
    z = torch.tensor([-1e4, -100.0, -88.8, -20.0, -1e-3, 0.0, 1e-3, 20.0, 88.8, 100.0, 1e4])
    for y in (torch.zeros(11), torch.ones(11), torch.full((11,), 0.3)):
        for i in range(11):
            ours, theirs = (
                loss(z[i : i + 1], y[i : i + 1])
                for loss in (bce_stable, F.binary_cross_entropy_with_logits)
            )
            assert torch.allclose(ours, theirs, rtol=1e-6) and ours.isfinite()


def test_gradient_is_prediction_minus_label():
    X, y = make_blobs(100, seed=3)
    w, b = torch.tensor([0.5, -1.0], requires_grad=True), torch.tensor(0.3, requires_grad=True)
    F.binary_cross_entropy_with_logits(X @ w + b, y).backward()
    ours = gradient(w.detach(), b.detach(), X, y)
    assert torch.allclose(ours[0], w.grad, atol=1e-6) and torch.allclose(ours[1], b.grad, atol=1e-6)
    z = torch.randn(100, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    z.requires_grad_()
    (slope,) = torch.autograd.grad(100 * bce_stable(z, y.double()), z)
    assert torch.allclose(slope, torch.sigmoid(z) - y)


def test_hessian_formula_and_its_bound():
    X, y = make_blobs(60, seed=0)
    A, y = with_ones(X).double(), y.double()
    for seed in range(5):
        g = torch.Generator().manual_seed(seed)
        theta = torch.randn(3, generator=g, dtype=torch.float64)
        H = torch.func.hessian(lambda t: bce_stable(A @ t, y))(theta)
        p = torch.sigmoid(A @ theta)
        assert torch.allclose(H, A.T @ torch.diag(p * (1 - p)) @ A / 60)
        eigenvalues = torch.linalg.eigvalsh(H)
        assert eigenvalues[0] >= 0
        assert eigenvalues[-1] <= torch.linalg.eigvalsh(A.T @ A / 60)[-1] / 4


@pytest.mark.parametrize("seed", range(5))
def test_loss_falls_at_every_step_below_the_bound(seed):
    X, y = make_blobs(100, seed)
    A = with_ones(X)
    lr = 0.99 * 8 / torch.linalg.eigvalsh(A.T @ A / 100)[-1].item()
    losses = torch.tensor(train(LogisticRegression(2), X, y, lr, 60))
    # float32: the last digits of a loss near 0.2 wobble by 1e-7.
    assert (losses.diff() < 1e-6).all() and losses[-1] < losses[0] / 2


def test_eigenvalues_of_the_two_clouds():
    A = with_ones(make_blobs(20_000, seed=0)[0])
    eigenvalues = torch.linalg.eigvalsh(A.T @ A / 20_000)
    assert torch.allclose(eigenvalues, torch.tensor([1.0, 1.0, 3.25]), atol=0.1)  # sd 0.025
    assert pytest.approx(2.46, abs=5e-3) == 8 / 3.25


# The code


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_scratch_equals_torch(decay):
    X, y = make_blobs(200, seed=1, positive=0.3)
    model = LogisticRegression(2)
    losses = train(model, X, y, 0.5, 100, decay)
    W, B = descend(X, y, 0.5, 100, decay)
    assert W.shape == (101, 2) and B.shape == (101,) and len(losses) == 100
    assert torch.allclose(model.linear.weight[0], W[-1], atol=1e-5)  # 100 float32 steps
    assert torch.allclose(model.linear.bias[0], B[-1], atol=1e-5)
    assert losses[-1] == pytest.approx(bce_stable(X @ W[-2] + B[-2], y).item(), rel=1e-5)


def test_decay_spares_the_bias():
    X, y = make_blobs(2000, seed=0, positive=0.1)
    W, B = descend(X, y, 0.15, 2000, decay=10.0)
    # w is held at 0, so that b has to carry the base rate alone: ln(1/9) = -2.2.
    assert W[-1].norm() < 0.1
    assert B[-1].item() == pytest.approx(math.log(1 / 9), abs=0.1)


def test_forward_returns_logits(fitted):
    model, X, _ = fitted
    z = model(X)
    assert z.shape == (1000,) and z.max() > 1 and z.min() < 0
    assert torch.allclose(model.probability(X), torch.sigmoid(z))
    assert not model.probability(X).requires_grad


def test_fit_finds_the_true_parameters_and_the_best_accuracy(measured):
    values = measured(chapter.experiment_overlap)
    assert abs(values["free_norm"].mean() - 3) < 0.25  # sd 0.19 a seed
    sd = math.sqrt(PHI(1.5) * PHI(-1.5) / 10_000)  # binomial; four of them
    assert sd == pytest.approx(0.0025, abs=5e-5)
    assert abs(values["free_accuracy"] - PHI(1.5)).max() < 4 * sd


# Separable data


def test_two_points_grow_like_the_logarithm_of_the_steps():
    X, y = torch.tensor([[1.0], [-1.0]]), torch.tensor([1.0, 0.0])
    W, B = descend(X, y, 1.0, 10_000)
    for k in (100, 1000, 10_000):
        w = W[k].item()
        # The flow has w + e^w = 1 + k; discrete steps add about ln(k) / 2.
        assert w + math.exp(w) == pytest.approx(1 + k, rel=0.03)
        assert w == pytest.approx(math.log(k), abs=0.02)
    assert W[10_000].item() - W[1000].item() == pytest.approx(math.log(10), abs=0.01)
    assert B.abs().max() < 1e-3 and (W[1:, 0] > W[:-1, 0]).all()


def test_decay_gives_two_points_an_end():
    X, y = torch.tensor([[1.0], [-1.0]]), torch.tensor([1.0, 0.0])
    W, _ = descend(X, y, 1.0, 2000, decay=0.01)
    w = W[-1].item()
    assert w == pytest.approx(3.36, abs=0.005)
    assert 0.01 * w == pytest.approx(1 / (1 + math.exp(w)), rel=1e-4)


def test_thirty_points_in_thirty_dimensions_are_separable_whatever_their_labels():
    for seed in range(5):
        X, _ = make_blobs(30, seed, d=30)
        labels = torch.randint(2, (30,), generator=torch.Generator().manual_seed(seed)).float()
        signs = 2 * labels - 1
        theta = torch.linalg.lstsq(with_ones(X).double(), signs.double(), driver="gelsd").solution
        assert torch.allclose(with_ones(X).double() @ theta, signs.double(), atol=1e-6)


def test_max_margin_of_a_known_case():
    X = torch.tensor([[0.0, 2.0], [5.0, 9.0], [1.0, -2.0], [-4.0, -7.0]])
    y = torch.tensor([1.0, 1.0, 0.0, 0.0])
    # The nearest two are (0, 2) and (1, -2), sqrt(17) apart; the plane between them separates all.
    assert chapter.max_margin(X, y) == pytest.approx(math.sqrt(17) / 2, rel=1e-3)


def test_norm_keeps_growing_without_decay_at_the_predicted_rate(measured):
    values = measured(chapter.experiment_separable)
    assert len(values["growth"]) >= 5
    assert (values["free_norm_1000"] > values["free_norm_100"] + 1).all()
    assert (values["free_norm_3000"] > values["free_norm_1000"] + 0.5).all()
    # Ten seeds: measured over predicted from 0.95 to 0.99.
    assert values["growth"] == pytest.approx(values["predicted"], rel=0.1)


def test_decay_stops_the_growth_below_its_bound(measured):
    values = measured(chapter.experiment_separable)
    bound = math.sqrt(2 * LN2 / 0.1)
    assert bound == pytest.approx(3.72, abs=0.005)
    assert (values["decay_norm_3000"] < bound).all()
    assert values["decay_norm_3000"] == pytest.approx(values["decay_norm_100"], rel=0.01)
    assert (values["free_norm_3000"] > 3 * values["decay_norm_3000"]).all()


def test_growing_weights_spoil_the_test_loss_and_decay_prevents_it(measured):
    values = measured(chapter.experiment_separable)
    assert (values["free_train_accuracy"] == 1).all() and (
        values["decay_train_accuracy"] == 1
    ).all()
    assert (values["free_train_3000"] < 0.1 * values["decay_train_3000"]).all()
    assert (values["free_test_3000"] > values["free_test_100"] + 0.05).all()
    assert (values["free_test_3000"] > 1.15 * values["decay_test_3000"]).all()
    assert values["free_test_3000"].mean() > 1.4 * values["decay_test_3000"].mean()
    assert values["free_test_3000"].max() > LN2
    # Early stopping does as well; the accuracies differ by a few points at most.
    assert abs(values["free_test_100"] - values["decay_test_3000"]).max() < 0.08
    assert abs(values["free_test_100"].mean() - values["decay_test_3000"].mean()) < 0.02
    assert abs(values["free_test_accuracy"] - values["decay_test_accuracy"]).max() < 0.05


# Thresholds


def test_threshold_of_least_cost():
    for miss in (1.0, 3.0, 9.0):
        p = torch.linspace(0.001, 0.999, 999)
        say_one = (1 - p) < miss * p  # expected costs of the two answers
        assert torch.equal(
            say_one[(p - 1 / (1 + miss)).abs() > 1e-4],
            (p > 1 / (1 + miss))[(p - 1 / (1 + miss)).abs() > 1e-4],
        )


def test_precision_recall_and_cost_by_hand():
    z = torch.tensor([3.0, 1.0, -1.0, 2.0, -3.0])
    y = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0])
    assert chapter.precision_recall(z, y) == pytest.approx((2 / 3, 2 / 3))
    assert chapter.precision_recall(z, y, 0.1) == pytest.approx((3 / 4, 1))  # z > -2.2
    assert chapter.mean_cost(z, y, 0.5, miss=9) == pytest.approx((9 + 1) / 5)
    assert chapter.mean_cost(z, y, 0.1, miss=9) == pytest.approx(1 / 5)


def test_thresholds_meet_the_predicted_table(measured):
    values = measured(chapter.experiment_threshold)
    predicted = {}
    for name, cut in (("half", math.log(9) / 3), ("tenth", 0.0)):
        recall, alarm = PHI(1.5 - cut), PHI(-1.5 - cut)
        predicted |= {
            f"{name}_recall": recall,
            f"{name}_precision": 0.1 * recall / (0.1 * recall + 0.9 * alarm),
            f"{name}_accuracy": 0.1 * recall + 0.9 * (1 - alarm),
            f"{name}_cost": 0.9 * (1 - recall) + 0.9 * alarm,
        }
    page = {
        "half_recall": 0.779, "half_precision": 0.871, "half_accuracy": 0.966, "half_cost": 0.211,
        "tenth_recall": 0.933, "tenth_precision": 0.608, "tenth_accuracy": 0.933,
        "tenth_cost": 0.120,
    }  # fmt: skip
    assert predicted == pytest.approx(page, abs=6e-4)
    assert math.log(9) / 3 == pytest.approx(0.732, abs=5e-4)
    for name, value in predicted.items():
        # 500 training positives leave b uncertain by 0.08, so the recall by 0.012.
        assert values[name].mean() == pytest.approx(value, abs=0.02)
    assert abs(values["bias"].mean() - math.log(1 / 9)) < 0.15
    assert (values["tenth_cost"] < 0.75 * values["half_cost"]).all()
    assert values["tenth_cost"].mean() / values["half_cost"].mean() == pytest.approx(0.6, abs=0.05)
    assert (values["tenth_accuracy"] < values["half_accuracy"] - 0.02).all()


# Where it does not help


def test_decay_hurts_where_the_data_overlap(measured):
    values = measured(chapter.experiment_overlap)
    assert (values["decay_norm"] < 0.5 * values["free_norm"]).all()
    ratio = values["decay_test"] / values["free_test"]
    assert (ratio > 1.3).all() and (ratio < 1.55).all()
    assert abs(values["decay_accuracy"] - values["free_accuracy"]).max() < 0.005
    for seed in range(3):
        X, y = make_blobs(1000, seed)
        free, held = (descend(X, y, 0.5, 500, decay)[0][-1] for decay in (0.0, 0.1))
        assert torch.cosine_similarity(free, held, dim=0) > 0.999


def test_rings_hold_the_loss_at_log_two_and_squares_free_it():
    X, y = chapter.make_rings(100)
    grad_w, grad_b = gradient(torch.zeros(2), torch.zeros(()), X, y)
    assert grad_w.norm() < 1e-6 and grad_b.abs() < 1e-6
    assert torch.allclose(X.norm(dim=1), 2 - y)
    for seed in range(20):  # convex: no other w is better
        theta = torch.randn(3, generator=torch.Generator().manual_seed(seed))
        assert bce_stable(X @ theta[:2] + theta[2], y) > LN2
    squares = torch.cat([X, X**2], dim=1)
    W, B = descend(squares, y, 0.5, 500)
    assert accuracy(squares @ W[-1] + B[-1], y) == 1
    assert bce_stable(squares @ W[-1] + B[-1], y) < 0.05


def test_a_line_beats_the_fit_on_rings():
    X, y = chapter.make_rings(3000)
    assert accuracy(1.0001 - X[:, 0], y) == pytest.approx(2 / 3, abs=1e-3)


# Errata


def test_e42_notes_formula_overflows():
    z = torch.tensor([88.0, 89.0])
    notes = z.exp() / (1 + z.exp())
    assert notes[0] == 1 and notes[1].isnan()
    assert sigmoid(z).tolist() == [1, 1]


def test_e42_sigmoid_then_bce_loses_the_gradient():
    notes = nn.Sequential(nn.Linear(2, 1), nn.Sigmoid())
    right = LogisticRegression(2)
    point = torch.tensor([[10.0, 10.0]])
    with torch.no_grad():
        for layer in (notes[0], right.linear):
            layer.weight.fill_(1.0)
            layer.bias.zero_()
    loss = nn.BCELoss()(notes(point), torch.zeros(1, 1))
    loss.backward()
    assert loss == 100 and notes[0].weight.grad.tolist() == [[0, 0]]
    loss = nn.BCEWithLogitsLoss()(right(point), torch.zeros(1))
    loss.backward()
    assert loss == 20 and right.linear.weight.grad.tolist() == [[10, 10]]


def test_e42_formulas_of_the_notes_are_right_in_exact_arithmetic():
    z = torch.linspace(-8, 8, 33, dtype=torch.float64)
    y = (torch.arange(33) % 2).double()
    assert naive_bce(z, y).item() == pytest.approx(bce_stable(z, y).item(), rel=1e-10)


# The clinic


def test_sigmoid_twice_has_a_floor_and_never_says_zero():
    X, y = make_blobs(200, seed=0)
    floor = (math.log(1 + math.exp(-1)) + LN2) / 2
    assert floor == pytest.approx(0.503, abs=5e-4)
    assert math.log(1 + math.exp(-1)) == pytest.approx(0.313, abs=5e-4)
    for scale in (1.0, 10.0, 1000.0):
        once = torch.sigmoid(scale * (X @ torch.tensor([2.4, 1.8])))
        assert bce_stable(once, y) >= floor
        assert (torch.sigmoid(once) >= 0.5).all()
    assert bce_stable(y, y).item() == pytest.approx(floor)  # the best first sigmoid


@pytest.mark.parametrize(("loss_fn", "shape", "dtype", "error", "message"), [
    (F.binary_cross_entropy_with_logits, (2,), torch.int64, RuntimeError, "can't be cast"),
    (F.binary_cross_entropy_with_logits, (2, 1), torch.float32, ValueError, "must be the same as"),
    (F.binary_cross_entropy, (2,), torch.float32, RuntimeError, "between 0 and 1"),
    (F.cross_entropy, (2, 1), torch.int64, IndexError, "Target 1 is out of bounds"),
])  # fmt: skip
def test_real_errors(loss_fn, shape, dtype, error, message):
    with pytest.raises(error, match=message):
        loss_fn(torch.tensor([2.0, -1.0]).view(shape), torch.tensor([1, 0], dtype=dtype))


def test_labels_of_minus_one_make_the_loss_negative_without_bound():
    X, y = make_blobs(100, seed=0)
    losses = train(LogisticRegression(2), X, 2 * y - 1, 0.5, 100)
    assert losses[0] == pytest.approx(LN2) and losses[50] < -5 and losses[-1] < losses[50] - 5
    assert min(train(LogisticRegression(2), X, y, 0.5, 100)) > 0


def test_half_on_logits_is_another_threshold(fitted):
    model, X, y = fitted
    assert PHI(0) == 0.5 and torch.sigmoid(torch.tensor(0.5)).item() == pytest.approx(
        0.622, abs=5e-4
    )
    assert torch.equal(model(X) > 0.5, model.probability(X) > torch.sigmoid(torch.tensor(0.5)))
    with torch.no_grad():
        recalls = [chapter.precision_recall(model(X), y, t)[1] for t in (0.5, 0.622)]
        accuracies = [accuracy(model(X) - shift, y) for shift in (0.0, 0.5)]
    assert recalls[1] < recalls[0] - 0.01
    assert abs(accuracies[1] - accuracies[0]) < 0.01


def test_kink_of_the_stable_formula_is_wrong_by_one_half_with_relu():
    for y in (0.0, 1.0):
        assert value_and_slope(bce_stable, 0.0, y)[1] == 0.5 - y
        z = torch.zeros(1, requires_grad=True)
        kinked = F.relu(z) - y * z + torch.log1p(torch.exp(-z.abs()))
        assert torch.autograd.grad(kinked, z)[0].item() == -y
        assert torch.autograd.grad(F.softplus(z) - y * z, z)[0].item() == 0.5 - y


def test_broadcast_labels_teach_nothing():
    X, y = make_blobs(100, seed=0)
    w, b = chapter.train_from(
        torch.tensor([1.0, -1.0]), lambda z, y: bce_stable(z.unsqueeze(1), y), X, y, 0.5, 300
    )
    assert torch.allclose(w, torch.zeros(2), atol=1e-2) and b.abs() < 1e-2
    assert bce_stable((X @ w + b).unsqueeze(1), y).item() == pytest.approx(LN2, abs=1e-3)


# The exercises


def test_exercise_by_hand():
    w, b = torch.tensor([2.0, -1.0]), torch.tensor(0.5)
    x, one = torch.tensor([[1.0, 3.0]]), torch.ones(1)
    z = x @ w + b
    assert z.item() == -0.5
    assert sigmoid(z).item() == pytest.approx(0.3775, abs=5e-5)
    assert bce_stable(z, one).item() == pytest.approx(0.9741, abs=5e-5)
    assert gradient(w, b, x, one)[0].tolist() == pytest.approx([-0.6225, -1.8674], abs=6e-5)


def test_squared_error_hardly_moves_a_confident_mistake_and_is_not_convex():
    z = torch.tensor([10.0, 3.0], dtype=torch.float64, requires_grad=True)
    p = torch.sigmoid(z)
    (slope,) = torch.autograd.grad((p**2).sum(), z, create_graph=True)
    assert torch.allclose(slope, 2 * p * p * (1 - p)) and slope[0] < 1e-4
    (curvature,) = torch.autograd.grad(slope.sum(), z)
    assert curvature[1] < 0


def test_steps_to_a_loss_of_one_thousandth():
    w = math.log(1 / math.expm1(0.001))
    assert w == pytest.approx(6.907, abs=5e-4) and w + math.exp(w) - 1 == pytest.approx(
        1005, abs=0.5
    )
    path, _ = descend(torch.tensor([[1.0], [-1.0]]), torch.tensor([1.0, 0.0]), 1.0, 1100)
    first = int((F.softplus(-path[:, 0]) < 0.001).int().argmax())
    assert first == pytest.approx(1005, rel=0.005)


def test_a_new_base_rate_only_moves_the_bias(fitted):
    model, _, _ = fitted
    for seed in range(2, 7):
        X, y = make_blobs(10_000, seed, positive=0.1)
        z = model(X).detach()
        before, after = (bce_stable(z + shift, y) for shift in (0.0, math.log(1 / 9)))
        assert after < 0.7 * before
        # No other shift is much better: at most 3 % of the loss (b itself is estimated).
        assert min(bce_stable(z + s, y) for s in (-3.0, -2.6, -1.8, -1.4)) > 0.97 * after
