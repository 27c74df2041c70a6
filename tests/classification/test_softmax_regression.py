import math
from itertools import pairwise

import matplotlib.pyplot as plt
import pytest
import torch
from sklearn.datasets import load_digits as bundled_digits
from torch import nn
from torch.nn import functional as F

from snippets import data
from snippets.classification import softmax_regression as chapter
from snippets.classification.softmax_regression import (
    accuracy,
    ce_gradient,
    cross_entropy,
    double_gradient,
    softmax,
    softmax_naive,
    squared_gradient,
    train,
)


def random_logits(n: int, q: int, scale: float = 3.0, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return scale * torch.randn(n, q, generator=g, dtype=torch.float64)


def random_labels(n: int, q: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(q, (n,), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def digits():
    return data.load_digits(0)


@pytest.fixture(scope="module")
def trained(digits):
    X, y, _, _ = digits
    return train(X, y, 10, lr=0.3, epochs=30, seed=0)


# The guess and the failure


@pytest.mark.parametrize("q", [2, 3, 10])
def test_initial_loss_is_ln_q(q):
    X, y = torch.randn(50, 4), random_labels(50, q)
    W, b = train(X, y, q, lr=0.0, epochs=1, seed=0)
    assert cross_entropy(X @ W + b, y).item() == pytest.approx(math.log(q), rel=1e-6)
    model = chapter.SoftmaxRegression(4, q)
    assert F.cross_entropy(model(X), y).item() == pytest.approx(math.log(q), rel=1e-6)


@pytest.mark.parametrize(("q", "floor"), [(3, 0.5514), (10, 1.4612)])
def test_double_softmax_has_a_floor(q, floor):
    y = torch.arange(q)
    perfect = torch.eye(q, dtype=torch.float64)
    assert F.cross_entropy(perfect, y).item() == pytest.approx(math.log(1 + (q - 1) / math.e))
    assert math.log(1 + (q - 1) / math.e) == pytest.approx(floor, abs=5e-5)
    assert F.cross_entropy(100 * perfect, y) < 1e-12
    # No probabilities do better, however sharp or flat.
    for scale in (0.1, 1, 10, 100):
        p = softmax(random_logits(1000, q, scale))
        losses = F.cross_entropy(p, p.argmax(1), reduction="none")
        assert losses.min() >= floor - 5e-5


def test_double_softmax_divides_the_first_gradient_by_the_number_of_classes():
    for q in (3, 10):
        logits, y = torch.zeros(5, q, dtype=torch.float64), random_labels(5, q)
        ratio = double_gradient(logits, y) / ce_gradient(logits, y)
        assert torch.allclose(ratio, torch.full_like(ratio, 1 / q))


def test_double_softmax_costs_accuracy_until_the_rate_makes_up_for_it(measured):
    values = measured(chapter.experiment_double)
    assert len(values["once_accuracy"]) >= 5
    lost = values["once_accuracy"] - values["twice_accuracy"]
    # Ten seeds: 0.07 to 0.13; two errors in 360 images are 0.006.
    assert (lost > 0.04).all()
    assert (values["faster_accuracy"] > values["once_accuracy"] - 0.015).all()
    for name in ("twice", "faster"):
        assert (values[f"{name}_loss"] > math.log(1 + 9 / math.e)).all()
        assert (values[f"{name}_loss"] < math.log(10)).all()  # it falls, so nobody is warned
    assert (values["once_loss"] < 0.25).all()


# Model and softmax


def test_the_model_is_one_affine_map():
    model = nn.Linear(4, 3)
    assert model.weight.numel() == 12 and model.bias.numel() == 3
    X = torch.randn(5, 4)
    W, b = model.weight.detach().T, model.bias.detach()  # (4, 3), (3,)
    by_hand = [[sum(X[i, k] * W[k, j] for k in range(4)) + b[j] for j in range(3)] for i in (0, 4)]
    assert torch.allclose(torch.tensor(by_hand), model(X)[[0, 4]], atol=1e-6)
    assert torch.allclose(X @ W + b, model(X), atol=1e-6)


def test_one_hot_and_the_order_of_the_classes_does_not_matter(digits):
    y = torch.tensor([2, 0, 1, 2])
    assert torch.equal(chapter.one_hot(y, 3), F.one_hot(y, 3).float())
    X, y, _, _ = digits
    order = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    W, b = train(X, y, 10, 0.3, 2, 0)
    V, c = train(X, order[y], 10, 0.3, 2, 0)
    # The sums over classes run in another order: rounding of 46 steps.
    assert torch.allclose(V[:, order], W, atol=1e-5) and torch.allclose(c[order], b, atol=1e-5)


def test_softmax_is_a_distribution_and_equals_torch():
    for scale in (0.01, 1, 100):
        x = random_logits(20, 7, scale)
        for dim in (0, 1, -1):
            p = softmax(x, dim)
            assert torch.allclose(p, torch.softmax(x, dim))
            assert torch.allclose(p.sum(dim), torch.ones(1, dtype=torch.float64))
            assert (p >= 0).all()


def test_argmax_is_preserved_at_every_temperature():
    x = random_logits(200, 5)
    ranks = x.argsort(1)
    for temperature in (0.5, 1.0, 4.0):
        p = softmax(x / temperature)
        assert torch.equal(p.argmax(1), x.argmax(1))
        assert torch.equal(p.argsort(1), ranks)


def test_temperature_sharpens_and_flattens():
    x = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    for temperature in (0.5, 1.0, 4.0):
        p = softmax(x / temperature)
        assert (p[2] / p[0]).item() == pytest.approx(math.exp(2 / temperature))
    assert softmax(x / 0.01)[2] > 1 - 1e-12
    assert torch.allclose(softmax(x / 1e4), torch.full((3,), 1 / 3).double(), atol=1e-4)
    # The heights that the figure's text names.
    assert [round(softmax(x / t)[2].item(), 2) for t in (0.5, 1.0)] == [0.87, 0.67]


def test_e13_only_ratios_grow():
    x = random_logits(500, 4)
    p = softmax(x)
    difference = x[:, 0] - x[:, 1]
    assert torch.allclose(p[:, 0] / p[:, 1], difference.exp())
    gap = (p[:, 0] - p[:, 1]).abs()
    bound = torch.tanh(difference.abs() / 2)
    assert (gap <= bound).all() and (bound <= difference.abs() / 2).all()
    assert (gap < bound / 2).any()  # with more than two classes it can be far below
    two = softmax(x[:, :2])
    assert torch.allclose((two[:, 0] - two[:, 1]).abs(), bound)  # equality for two
    # "Widens the gap", say the notes: 0.1 becomes 0.05. "Large numbers need a smaller one": no.
    small = softmax(torch.tensor([0.1, 0.2], dtype=torch.float64))
    assert [round(v, 3) for v in small.tolist()] == [0.475, 0.525]
    assert math.exp(0.1) == pytest.approx(1.105, abs=5e-4)
    large = torch.tensor([1001.0, 1002.0, 1003.0])
    assert torch.equal(softmax(large), softmax(large - 1000))


def test_e13_subtract_exactly_the_maximum():
    x = torch.tensor([1.0, 2.0, 3.0])
    right = torch.softmax(x, 0)
    for c in (0, 80, 1000, -105, -1000):
        assert torch.allclose(softmax(x + c), right)
    assert torch.allclose(softmax_naive(x), right)
    assert softmax_naive(x + 1000).isnan().all()
    assert softmax_naive(x - 1000).isnan().all()  # "subtracting a large number changes nothing"
    # float32 ends between exp(88) and exp(89), and below half of 1.4e-45.
    largest = torch.finfo(torch.float32).max
    tiny = 2.0**-149
    assert math.exp(88) < largest < math.exp(89)
    assert math.exp(-103) > tiny / 2 > math.exp(-104)
    units = [math.exp(-k) / tiny for k in (104, 103, 102)]
    assert [round(u, 2) for u in units] == [0.49, 1.32, 3.59]
    assert [round(u) for u in units] == [0, 1, 4]
    assert torch.allclose(softmax_naive(x - 105), torch.tensor([0.0, 0.2, 0.8]))
    # Nor is the mean the thing to subtract: 600 would be left in the exponent.
    assert softmax(torch.tensor([0.0, 200.0, 1000.0])).tolist() == [0, 0, 1]


def test_the_largest_exponent_is_one_and_the_denominator_at_most_q():
    x = random_logits(100, 6, 50)
    exponents = (x - x.amax(1, keepdim=True)).exp()
    assert (exponents.amax(1) == 1).all()
    assert (exponents.sum(1) >= 1).all() and (exponents.sum(1) <= 6).all()


def test_one_class_of_weights_is_redundant_and_two_classes_are_logistic():
    X, W = torch.randn(30, 4).double(), torch.randn(4, 3).double()
    same = W + torch.randn(4, 1).double()
    assert torch.allclose(softmax(X @ W), softmax(X @ same))
    two = random_logits(50, 2)
    assert torch.allclose(softmax(two)[:, 0], torch.sigmoid(two[:, 0] - two[:, 1]))


# Boundaries


@pytest.fixture(scope="module")
def blobs():
    X, y = chapter.make_blobs(40, seed=0)
    W, b = train(X, y, 3, lr=0.3, epochs=60, seed=0)
    return X, y, W.double(), b.double()


def test_boundaries_are_affine(blobs):
    X, _, W, b = blobs
    u, v = torch.randn(2, 200, 2, generator=torch.Generator().manual_seed(0)).double()
    middle = (softmax((u + v) / 2 @ W + b)).log()
    ends = (softmax(u @ W + b).log() + softmax(v @ W + b).log()) / 2
    # log p_i - log p_j is affine in x, log p_i itself is not.
    assert torch.allclose(middle[:, :1] - middle[:, 1:], ends[:, :1] - ends[:, 1:])
    assert (middle[:, 0] - ends[:, 0]).abs().max() > 0.1
    # On the line that (4) gives, the two probabilities are equal.
    normal, offset = W[:, 0] - W[:, 1], b[0] - b[1]
    foot = -offset * normal / (normal @ normal)
    along = torch.stack([-normal[1], normal[0]])
    p = softmax((foot + torch.linspace(-3, 3, 20).double()[:, None] * along) @ W + b)
    assert torch.allclose(p[:, 0], p[:, 1])
    assert accuracy(X.double() @ W + b, blobs[1]) > 0.9


def test_the_three_boundaries_meet_in_one_point(blobs):
    _, _, W, b = blobs
    sides = torch.stack([W[:, 0] - W[:, 1], W[:, 1] - W[:, 2]])  # (2, 2)
    x = torch.linalg.solve(sides, torch.stack([b[1] - b[0], b[2] - b[1]]))
    logits = x @ W + b
    assert logits.max() - logits.min() < 1e-9
    assert x.abs().max() < 3.4  # inside the figure


def test_the_region_of_a_class_is_convex(blobs):
    _, _, W, b = blobs
    u, v = 4 * torch.randn(2, 5000, 2, generator=torch.Generator().manual_seed(1)).double()
    classes = [(point @ W + b).argmax(1) for point in (u, v, (u + v) / 2)]
    same = classes[0] == classes[1]
    assert same.sum() > 500
    assert torch.equal(classes[2][same], classes[0][same])


# Likelihood and cross-entropy


def test_exp_of_minus_n_times_the_loss_is_the_joint_probability():
    logits, y = random_logits(12, 5), random_labels(12, 5)
    true = softmax(logits)[torch.arange(12), y]
    L = cross_entropy(logits, y)
    assert torch.allclose(torch.exp(-12 * L), true.prod())
    assert torch.allclose(torch.exp(-L), true.prod() ** (1 / 12))


def test_cross_entropy_three_ways_and_torch():
    logits, y = random_logits(40, 6), random_labels(40, 6)
    Y, p = chapter.one_hot(y, 6).double(), softmax(logits)
    L = cross_entropy(logits, y)
    assert torch.allclose(L, -(Y * p.log()).sum(1).mean())  # (9)
    assert torch.allclose(L, (logits.logsumexp(1) - (Y * logits).sum(1)).mean())  # (10)
    assert torch.allclose(L, F.cross_entropy(logits, y))
    example = cross_entropy(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([2])).item()
    assert example == pytest.approx(math.log(math.e + math.e**2 + math.e**3) - 3, rel=1e-6)
    assert example == pytest.approx(0.4076, abs=5e-5)
    assert -math.log(0.66524) == pytest.approx(0.4076, abs=5e-5)


def test_the_other_classes_share_the_rest_without_effect():
    p, r = torch.tensor([[0.6, 0.4, 0.0], [0.6, 0.2, 0.2]]).double()
    label = torch.tensor([0])
    assert torch.allclose(
        cross_entropy(p.clamp_min(1e-300).log()[None], label), cross_entropy(r.log()[None], label)
    )


def test_cross_entropy_is_entropy_plus_kl():
    y, p = softmax(random_logits(2, 5))
    entropy = -(y * y.log()).sum()
    kl = (y * (y / p).log()).sum()
    assert torch.allclose(-(y * p.log()).sum(), entropy + kl)
    assert torch.allclose(kl, F.kl_div(p.log(), y, reduction="sum"))
    hard = torch.tensor([[0.0, 0.0, 1.0, 0.0, 0.0]]).double()
    assert torch.allclose(F.kl_div(p.log()[None], hard, reduction="sum"), -p[2].log())


def test_a_loss_below_ln_two_means_a_right_answer():
    logits, y = random_logits(5000, 4), random_labels(5000, 4)
    losses = F.cross_entropy(logits, y, reduction="none")
    right = logits.argmax(1) == y
    assert right[losses < math.log(2)].all()
    assert right[losses >= math.log(2)].any()  # not the other way round


def test_e14_error_rate_has_no_gradient(digits, trained):
    X, y, _, _ = digits
    W, b = (t.double() for t in trained)
    X = X.double()
    direction = torch.randn(W.shape, generator=torch.Generator().manual_seed(0)).double()
    # No margin of 1437 images is so small that a step of 1e-9 would change an answer.
    before, after = X @ W + b, X @ (W + 1e-9 * direction) + b
    assert accuracy(before, y) == accuracy(after, y) < 1
    assert (cross_entropy(before, y) - cross_entropy(after, y)).abs() > 1e-12


def test_e14_squared_error_is_blind_to_parameters():
    X, W = torch.randn(30, 4).double(), torch.randn(4, 3).double()
    other = W + 5  # the same vector added to every class
    Y = chapter.one_hot(random_labels(30, 3), 3)
    costs = [(softmax(X @ V) - Y).square().sum(1).mean() for V in (W, other)]
    assert torch.allclose(*costs)
    assert (W - other).abs().min() > 4


# Gradients


@pytest.mark.parametrize("scale", [0.1, 3.0, 30.0])
def test_gradients_equal_autograd(scale):
    y = random_labels(20, 5)
    Y = chapter.one_hot(y, 5)
    losses = {
        ce_gradient: lambda o: F.cross_entropy(o, y, reduction="sum"),
        squared_gradient: lambda o: (softmax(o) - Y).square().sum(),
        double_gradient: lambda o: F.cross_entropy(softmax(o), y, reduction="sum"),
    }
    for gradient, loss in losses.items():
        o = random_logits(20, 5, scale).requires_grad_()
        loss(o).backward()
        assert torch.allclose(o.grad, gradient(o.detach(), y), atol=1e-12)


def test_gradcheck_of_cross_entropy():
    y = random_labels(4, 3)
    logits = random_logits(4, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda o: cross_entropy(o, y), logits)


def test_p_minus_y_sums_to_zero_and_stays_within_one():
    logits, y = random_logits(500, 6, 10), random_labels(500, 6)
    d = ce_gradient(logits, y)
    assert d.sum(1).abs().max() < 1e-12
    assert d.abs().max() <= 1
    true = d[torch.arange(500), y]
    assert (true <= 0).all() and ((d >= 0).sum(1) >= 5).all()


def test_gradient_of_the_parameters():
    X, y = torch.randn(30, 4).double(), random_labels(30, 3)
    W = torch.randn(4, 3).double().requires_grad_()
    b = torch.randn(3).double().requires_grad_()
    cross_entropy(X @ W + b, y).backward()
    residual = (softmax(X @ W + b) - chapter.one_hot(y, 3)).detach()
    assert torch.allclose(W.grad, X.T @ residual / 30)
    assert torch.allclose(b.grad, residual.mean(0))


def test_jacobian_and_its_eigenvalues():
    for scale in (0.1, 2.0, 10.0):
        for o in random_logits(20, 5, scale):
            p = softmax(o)
            J = p.diag() - torch.outer(p, p)
            assert torch.allclose(torch.func.jacrev(softmax)(o), J, atol=1e-12)
            e = torch.randn(5).double()
            assert torch.allclose(chapter.through_softmax(p[None], e[None])[0], e @ J)
            hessian = torch.func.hessian(lambda o: o.logsumexp(0) - o[2])(o)
            assert torch.allclose(hessian, J, atol=1e-12)
            eigenvalues = torch.linalg.eigvalsh(J)
            assert eigenvalues[0] > -1e-12 and eigenvalues[-1] <= 0.5 + 1e-12
            assert torch.allclose(e @ J @ e, (p * e**2).sum() - (p * e).sum() ** 2)
    half = torch.tensor([0.5, 0.5]).double()
    assert torch.linalg.eigvalsh(half.diag() - torch.outer(half, half))[-1].item() == 0.5


def test_the_logarithm_cancels_the_probability():
    logits, y = random_logits(20, 5), random_labels(20, 5)
    p = softmax(logits)
    e = -chapter.one_hot(y, 5) / p
    assert torch.allclose(chapter.through_softmax(p, e), ce_gradient(logits, y))


@pytest.mark.parametrize("seed", range(5))
def test_below_the_safe_rate_the_loss_never_climbs(seed):
    X, y, _, _ = data.load_digits(seed)
    X = X.double()
    lr = 0.99 * chapter.largest_safe_lr(X.float())
    assert lr > 0.3
    W = 3 * torch.randn(64, 10, generator=torch.Generator().manual_seed(seed)).double()
    b = torch.zeros(10).double()
    losses = []
    for _ in range(60):
        losses.append(cross_entropy(X @ W + b, y).item())
        d = ce_gradient(X @ W + b, y) / len(X)
        W, b = W - lr * X.T @ d, b - lr * d.sum(0)
    assert all(later < earlier for earlier, later in pairwise(losses))


def test_the_safe_rate_bounds_the_curvature_of_the_whole_model():
    for seed in range(5):
        g = torch.Generator().manual_seed(seed)
        X, y = torch.randn(20, 2, generator=g), random_labels(20, 3, seed)
        A = torch.cat([X, torch.ones(20, 1)], 1).double()
        start = torch.randn(9, generator=g).double()
        curvature = torch.func.hessian(lambda v, A=A, y=y: cross_entropy(A @ v.view(3, 3), y))(
            start
        )
        eigenvalues = torch.linalg.eigvalsh(curvature)
        assert eigenvalues[0] > -1e-12  # convex
        assert eigenvalues[-1] <= 2 / chapter.largest_safe_lr(X)


# Confident mistakes


def test_confident_mistakes_starve_the_squared_error():
    gap = torch.linspace(-4, 12, 33, dtype=torch.float64)
    logits = torch.stack([torch.zeros_like(gap), gap], 1)  # the true class is 0
    y = torch.zeros(33, dtype=torch.int64)
    p = gap.sigmoid()
    speed = {
        g: (lambda d: d[:, 1] - d[:, 0])(g(logits, y)) for g in (ce_gradient, squared_gradient)
    }
    assert torch.allclose(speed[ce_gradient], 2 * p)
    assert torch.allclose(speed[squared_gradient], 8 * p**2 * (1 - p))
    assert speed[ce_gradient][8] == speed[squared_gradient][8] == 1  # at gap 0
    assert speed[ce_gradient][-1] == pytest.approx(2, abs=1e-4)
    assert speed[squared_gradient][-1].item() == pytest.approx(8 * math.exp(-12), rel=1e-4)
    assert 3.5e-4 < 8 * math.exp(-10) < 4e-4  # the right end of the figure
    assert 8 * math.exp(-16) < 1e-6
    fine = torch.linspace(-4, 12, 16_001, dtype=torch.float64)
    fastest = fine[(8 * fine.sigmoid() ** 2 * (-fine).sigmoid()).argmax()]
    assert fastest.item() == pytest.approx(math.log(2), abs=1e-3)
    # Any number of classes: the pull on the true logit carries the factor p of the true class.
    logits, y = random_logits(300, 6, 8), random_labels(300, 6)
    true = softmax(logits)[torch.arange(300), y]
    pull = squared_gradient(logits, y)[torch.arange(300), y].abs()
    assert (pull <= 4 * true + 1e-15).all()
    assert (ce_gradient(logits, y)[torch.arange(300), y].abs() == 1 - true).all()


@pytest.mark.parametrize("z", [2, 5, 8])
def test_steps_to_recover_are_predicted(z):
    ce = (z + 1 - math.exp(-z)) / 0.2
    squared = (math.exp(z) + 3 * z + 2.5 - 3 * math.exp(-z) - math.exp(-2 * z) / 2) / 0.8
    # Whole steps, and a step of at most 0.2 taken with the slope at its start.
    assert chapter.steps_to_recover(z, 0.1, ce_gradient) == pytest.approx(ce, abs=1.5)
    assert chapter.steps_to_recover(z, 0.1, squared_gradient) == pytest.approx(squared, abs=4.5)


def test_the_integrals_of_the_speeds():
    z = torch.linspace(0, 8, 200_001, dtype=torch.float64)
    p = z.sigmoid()
    ce = torch.trapezoid(1 / (2 * p), z).item()
    squared = torch.trapezoid(1 / (8 * p**2 * (1 - p)), z).item()
    assert ce == pytest.approx((8 + 1 - math.exp(-8)) / 2, rel=1e-8)
    closed = (math.exp(8) + 24 + 2.5 - 3 * math.exp(-8) - math.exp(-16) / 2) / 8
    assert squared == pytest.approx(closed, rel=1e-8)
    assert 1 / (1 + math.exp(-8)) == pytest.approx(0.9997, abs=5e-5)
    # A lead of 16, as in the comparison.
    assert (math.exp(16) + 50.5) / 8 / (17 / 2) == pytest.approx(1.3e5, rel=0.01)


# The comparison


def test_the_first_step_from_zero_is_the_same(digits):
    X, y, _, _ = digits
    ce = train(X, y, 10, 0.3, 1, 0, batch_size=len(X))
    squared = train(X, y, 10, 1.5, 1, 0, squared_gradient, batch_size=len(X))
    assert all(torch.allclose(u, v, atol=1e-7) for u, v in zip(ce, squared, strict=True))
    assert ce[0].abs().max() > 0.01
    logits, labels = torch.zeros(4, 10), random_labels(4, 10)
    fifth = squared_gradient(logits, labels) / ce_gradient(logits, labels)
    assert torch.allclose(fifth, torch.full((4, 10), 0.2))


def test_confident_starts_separate_the_losses(measured):
    values = measured(chapter.experiment_start)
    assert len(values["large_ce"]) >= 5
    # Ten seeds: 0.80 to 0.88 against 0.28 to 0.58.
    assert (values["large_ce"] > values["large_squared"] + 0.15).all()
    assert values["large_ce"].mean() > values["large_squared"].mean() + 0.3
    # Each with the best of four rates: 0.93 to 0.95 against 0.45 to 0.86.
    assert (values["best_ce"] > values["best_squared"] + 0.03).all()
    assert values["best_ce"].mean() > values["best_squared"].mean() + 0.2


def test_the_figure_of_starts_falls_and_parts():
    fig = chapter.figure_start()
    ce, squared = (torch.tensor(line.get_ydata()) for line in fig.axes[0].lines[:2])
    plt.close(fig)
    # Three seeds of 360 images: up to 0.3 the means differ by about 0.01, then by 0.05, 0.4, 0.4.
    assert (abs(ce - squared)[:2] < 0.02).all() and (abs(ce - squared)[3:] > 0.3).all()
    assert (ce[1:].diff() < 0).all() and (squared[1:].diff() < 0).all()


def test_from_zero_the_squared_error_is_no_worse(measured):
    values = measured(chapter.experiment_start)
    # 360 images: one error is 0.003. The mean of ten seeds is 0.01 in its favour.
    assert values["zero_squared"].mean() > values["zero_ce"].mean() - 0.003
    assert (abs(values["zero_squared"] - values["zero_ce"]) < 0.03).all()


def test_a_large_start_shows_in_the_first_loss(measured):
    values = measured(chapter.experiment_start)
    assert (values["large_loss"] > 3 * math.log(10)).all()
    assert values["image_norm"] == pytest.approx(3.86, abs=0.02)
    predicted = 3 * 3.86 * math.sqrt(2)
    assert predicted == pytest.approx(16, abs=0.5)
    # The images are alike, so that a model has about ten independent logits: 1 / sqrt(20) = 22 %
    # a seed, and a third of that for the mean of ten.
    assert values["gap"].mean() == pytest.approx(predicted, rel=0.22)
    assert values["large_accuracy"].mean() == pytest.approx(0.1, abs=0.05)  # nine in ten are wrong


# The code


def test_scratch_equals_torch(digits, trained):
    X, y, X_test, y_test = digits
    W, b = trained
    model = chapter.SoftmaxRegression(64, 10)
    chapter.fit(model, X, y, lr=0.3, epochs=30, seed=0)
    # 690 steps of rounding in float32; the weights reach 2.
    assert torch.allclose(model.linear.weight, W.T, atol=1e-5)
    assert torch.allclose(model.linear.bias, b, atol=1e-5)
    assert accuracy(model(X_test.view(-1, 8, 8)), y_test) > 0.92  # images need no flattening


def test_the_module_returns_logits(digits):
    model = chapter.SoftmaxRegression(64, 10)
    nn.init.normal_(model.linear.weight)
    assert (model(digits[0]).sum(1) - 1).abs().max() > 1


def test_results_on_the_digits(measured):
    values = measured(chapter.experiment_digits)
    # 360 images at 0.956: sd 0.011; four of them.
    assert (values["random_accuracy"] > 0.91).all()
    # One writer's digits, about 130 rows, make the last rows one fixed draw: 0.89 at every seed.
    assert (values["last_error"] > values["random_error"] + 0.02).all()
    assert values["last_error"].mean() > 2 * values["random_error"].mean()
    ratio = values["last_loss"].mean() / values["random_loss"].mean()
    assert 1.7 < ratio < 2.2
    assert values["random_probability"] == pytest.approx(
        torch.exp(-torch.tensor(values["random_loss"])).numpy()
    )


def test_probabilities_are_not_calibrated_by_themselves(measured):
    values = measured(chapter.experiment_digits)
    assert (values["random_confidence"] < values["random_accuracy"] - 0.04).all()
    fall = {k: values[f"random_{k}"] - values[f"last_{k}"] for k in ("accuracy", "confidence")}
    assert (fall["accuracy"].mean() > 1.5 * fall["confidence"].mean()).all()


def test_every_block_of_rows_is_harder_on_average():
    blocks, random = [], []
    for k in range(5):
        for scores, split in (
            (blocks, chapter.split_in_file_order(k)),
            (random, data.load_digits(k)),
        ):
            X, y, X_test, y_test = split
            assert X.shape == (1437, 64) and X_test.shape == (360, 64)
            W, b = train(X, y, 10, 0.3, 30, k)
            scores.append(accuracy(X_test @ W + b, y_test))
    # Five blocks: 0.925 against 0.959; sd of a mean of five 0.005.
    assert sum(blocks) / 5 < sum(random) / 5 - 0.015
    assert blocks[4] == min(blocks)
    pixels, target = bundled_digits(return_X_y=True)
    last = chapter.split_in_file_order()
    assert torch.equal(last[2], torch.tensor(pixels[-360:], dtype=torch.float32) / 16)
    assert torch.equal(last[3], torch.tensor(target[-360:]))
    assert torch.equal(last[0], torch.tensor(pixels[:1437], dtype=torch.float32) / 16)


def test_confusion_matrix():
    y = torch.tensor([0, 0, 1, 2, 2, 2])
    predicted = torch.tensor([0, 1, 1, 2, 0, 2])
    counts = chapter.confusion_matrix(predicted, y, 3)
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 2]]
    assert counts.sum(1).tolist() == [2, 1, 3]  # rows: how often each class occurs
    assert (counts.diag() / counts.sum(1)).tolist() == pytest.approx([1 / 2, 1, 2 / 3])
    assert (counts.diag() / counts.sum(0)).tolist() == pytest.approx([1 / 2, 1 / 2, 1])


def test_eights_are_read_as_ones(measured):
    counts = chapter.pooled_confusion()
    assert counts.sum() == 3600
    mistakes = counts - counts.diag().diag()
    order = mistakes.flatten().argsort(descending=True)
    assert order[0] == 81 and order[1] == 38  # true 8, read as 1; true 3, read as 8
    assert mistakes[8, 1] > 2 * mistakes[1, 8]  # 25 against 6: not symmetric
    values = measured(chapter.experiment_digits)
    # Ten seeds: 0.886 and 0.964; a seed has about 35 eights, so that the mean has an sd of 0.017.
    assert values["recall_8"].mean() < values["recall_others"].mean() - 0.03


def test_the_figure_of_mistakes_shows_mistakes():
    fig = chapter.figure_mistakes()
    titles = [ax.get_title() for ax in fig.axes]
    plt.close(fig)
    assert len(titles) == 8
    assert all(title[0] != title[5] for title in titles)
    assert titles[0].startswith("5 as 9")


def test_fashion_mnist():
    try:
        X, y, X_test, y_test = data.load_fashion_mnist()
    except data.DataError as error:
        pytest.skip(f"Fashion-MNIST is not here: {str(error).splitlines()[0]}")
    W, b = train(X.flatten(1), y, 10, lr=0.1, epochs=5, seed=0, batch_size=256)
    assert accuracy(X_test.flatten(1) @ W + b, y_test) > 0.80


# Where it does not help


def test_rings_leave_softmax_regression_at_ln_two():
    X, y = chapter.rings()
    residual = softmax(torch.zeros(200, 2)) - chapter.one_hot(y, 2)
    # Sums of 200 terms of size 1 in float32.
    assert (X.T @ residual).abs().max() < 1e-4 and residual.sum(0).abs().max() < 1e-6
    for seed in range(5):
        W, b = train(X, y, 2, 0.3, 500, seed, std=0.5, batch_size=200)
        # Convex: from any start it ends there. exp(-0.3 * 500 * 0.3) is left of the start.
        assert cross_entropy(X @ W + b, y).item() == pytest.approx(math.log(2), abs=1e-5)
    lifted = torch.cat([X, X.square().sum(1, keepdim=True)], 1)
    W, b = train(lifted, y, 2, 0.3, 200, 0, batch_size=200)
    assert accuracy(lifted @ W + b, y) == 1


# Errata


def test_e35_formulas_of_the_notes_fail():
    o = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    y = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    p = o.exp() / o.exp().sum()
    assert torch.allclose(p, torch.softmax(o, 0))
    of_the_notes = o.exp() / o.sum()
    assert (of_the_notes.sum() - 1).abs() > 3  # no distribution
    loss = o.logsumexp(0) - (y * o).sum()
    assert torch.allclose(loss, F.cross_entropy(o[None], torch.tensor([2])))
    # y / p instead of -y log p: 1, not 0, for a perfect answer.
    assert ((y / p).sum() - loss).abs() > 1
    sure = torch.softmax(torch.tensor([0.0, 0.0, 100.0]).double(), 0)
    assert (y / sure).sum() == 1 and -(y * sure.log()).sum() < 1e-12


def test_e35_reversed_gradient_climbs(digits):
    X, y, _, _ = digits

    def true_minus_predicted(logits, y):
        return -ce_gradient(logits, y)

    right = train(X, y, 10, 0.3, 3, 0)
    wrong = train(X, y, 10, 0.3, 3, 0, true_minus_predicted)
    losses = [cross_entropy(X @ W + b, y).item() for W, b in (right, wrong)]
    assert losses[0] < math.log(10) < losses[1]
    assert accuracy(X @ wrong[0] + wrong[1], y) < 0.2  # one class for all images


# The clinic


def test_errors_of_wrong_targets():
    scores, y = torch.zeros(3, 10), torch.tensor([1, 5, 9])
    with pytest.raises(IndexError, match="Target 10 is out of bounds"):
        F.cross_entropy(scores, y + 1)
    with pytest.raises(RuntimeError, match="0D or 1D target tensor expected"):
        F.cross_entropy(scores, y.unsqueeze(1))
    with pytest.raises(RuntimeError, match="expected target dtype to be Long"):
        F.cross_entropy(scores, y.float())
    with pytest.raises(RuntimeError, match="Expected floating point type for target"):
        F.cross_entropy(scores, F.one_hot(y, 10))
    logits = torch.randn(3, 10)
    cured = [y.unsqueeze(1).squeeze(1), y.float().long(), F.one_hot(y, 10).float()]
    for target in cured:
        assert torch.allclose(F.cross_entropy(logits, target), F.cross_entropy(logits, y))
    some = torch.tensor([1, -100, -100])
    assert torch.allclose(
        F.cross_entropy(logits, some), F.cross_entropy(logits[:1], torch.tensor([1]))
    )
    assert F.cross_entropy(logits, torch.full((3,), -100)).isnan()


def test_softmax_over_the_batch_is_silent():
    x = torch.randn(8, 3)
    assert torch.allclose(torch.softmax(x, 0).sum(0), torch.ones(3))
    assert (torch.softmax(x, 0).sum(1) - 1).abs().max() > 0.1
    assert torch.equal(torch.softmax(x[:1], 0), torch.ones(1, 3))


def test_log_of_softmax_gives_inf_and_nan():
    naive = torch.tensor([[0.0, 200.0]], requires_grad=True)
    loss = -torch.softmax(naive, 1).log()[0, 0]
    loss.backward()
    assert loss.isinf() and naive.grad.isnan().all()
    x = torch.tensor([[0.0, 200.0]], requires_grad=True)
    loss = cross_entropy(x, torch.tensor([0]))
    loss.backward()
    assert loss == 200 and x.grad.tolist() == [[-1, 1]]


def test_nll_loss_of_probabilities_is_negative():
    logits, y = torch.randn(20, 10), random_labels(20, 10)
    assert -1 <= F.nll_loss(torch.softmax(logits, 1), y) < 0
    assert torch.allclose(F.nll_loss(torch.log_softmax(logits, 1), y), F.cross_entropy(logits, y))
    assert cross_entropy(logits, y) > 0


# The exercises


def test_hand_exercise():
    o, y = torch.tensor([[0.0, math.log(2), math.log(3)]], dtype=torch.float64), torch.tensor([0])
    assert torch.allclose(softmax(o), torch.tensor([[1 / 6, 1 / 3, 1 / 2]]).double())
    assert cross_entropy(o, y).item() == pytest.approx(math.log(6))
    assert ce_gradient(o, y)[0].tolist() == pytest.approx([-5 / 6, 1 / 3, 1 / 2])


def test_ninety_percent_of_ten_classes_is_a_lead_of_ln_81():
    x = torch.zeros(10, dtype=torch.float64)
    x[3] = math.log(81)
    assert softmax(x)[3].item() == pytest.approx(0.9)
    assert math.log(81) == pytest.approx(4.394, abs=5e-4)


def test_softmax_again_and_again_ends_at_ln_three():
    x, losses = 100 * torch.eye(3, dtype=torch.float64), []
    for _ in range(40):
        losses.append(cross_entropy(x, torch.arange(3)).item())
        before = x[0, 0] - x[0, 1]
        x = softmax(x)
        assert x[0, 0] - x[0, 1] <= before / 2 + 1e-15
    assert losses[1] == pytest.approx(math.log(1 + 2 / math.e))
    assert losses[-1] == pytest.approx(math.log(3))


def test_log_frequencies_start_at_the_entropy():
    y = torch.tensor([0] * 90 + [1] * 10)
    bias = torch.tensor([0.9, 0.1], dtype=torch.float64).log()
    entropy = -0.9 * math.log(0.9) - 0.1 * math.log(0.1)
    assert cross_entropy(bias.expand(100, 2), y).item() == pytest.approx(entropy)
    assert entropy == pytest.approx(0.325, abs=5e-4)
    assert ce_gradient(bias.expand(100, 2), y).mean(0).abs().max() < 1e-7


def test_label_smoothing_has_the_entropy_of_its_target_as_floor():
    target = 0.9 * torch.eye(10, dtype=torch.float64)[:1] + 0.01
    entropy = -(target * target.log()).sum().item()
    assert entropy == pytest.approx(-0.91 * math.log(0.91) - 0.09 * math.log(0.01))
    assert entropy == pytest.approx(0.5003, abs=5e-5)
    y = torch.tensor([0])
    at_best = F.cross_entropy(target.log(), y, label_smoothing=0.1).item()
    assert at_best == pytest.approx(entropy)
    for seed in range(20):
        other = random_logits(1, 10, seed=seed)
        assert F.cross_entropy(other, y, label_smoothing=0.1) > entropy
        leaf = other.requires_grad_()
        F.cross_entropy(leaf, y, label_smoothing=0.1).backward()
        assert torch.allclose(leaf.grad, softmax(leaf.detach()) - target)
