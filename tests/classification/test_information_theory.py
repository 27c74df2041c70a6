import math
import warnings
from itertools import product

import pytest
import torch
from torch.distributions import Categorical, Normal, kl_divergence
from torch.nn import functional as F

from snippets.classification import information_theory as chapter
from snippets.classification.information_theory import cross_entropy, entropy, kl


def double(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def random_distributions(seed: int, *shape: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.softmax(2 * torch.randn(*shape, generator=g, dtype=torch.float64), -1)


P, Q = double(0.5, 0.3, 0.2), double(0.2, 0.5, 0.3)


# The empirical distribution


def test_ecdf_is_a_right_continuous_staircase():
    share = chapter.ecdf(double(3.0, 1.0, 2.0, 2.0))
    x = double(0.9, 1.0, 1.9, 2.0, 2.9, 3.0, 9.0)
    assert share(x).tolist() == [0, 0.25, 0.25, 0.75, 0.75, 1, 1]


def test_e31_ecdf_counts_up_to_and_including_x():
    g = torch.Generator().manual_seed(0)
    throws = torch.randint(1, 7, (60_000,), generator=g).double()
    faces = torch.arange(1, 7, dtype=torch.float64)
    share = chapter.ecdf(throws)(faces)
    strictly_below = (throws[:, None] < faces).double().mean(0)
    # The sd of a share of 60000 throws is at most 0.002.
    assert torch.allclose(share, faces / 6, atol=0.01)
    assert torch.allclose(strictly_below - faces / 6, torch.full_like(faces, -1 / 6), atol=0.01)
    assert chapter.ecdf(throws)(throws.max()[None]).item() == 1  # at X_(n), not only beyond it


def test_e31_indicator_is_zero_or_one():
    g = torch.Generator().manual_seed(0)
    sample = torch.randn(8, generator=g, dtype=torch.float64)
    for x in (-0.5, 0.0, sample[3].item()):
        indicators = (sample <= x).double()
        assert set(indicators.tolist()) <= {0.0, 1.0}
        assert chapter.ecdf(sample)(double(x)).item() == indicators.mean().item()


def test_mean_and_variance_of_the_ecdf(measured):
    values = measured(chapter.experiment_ecdf)
    truth = torch.special.ndtr(double(0.3)).item()
    assert truth == pytest.approx(0.6179, abs=5e-5)
    assert truth * (1 - truth) / 50 == pytest.approx(0.004722, abs=5e-7)
    # 4000 samples: sd 0.0011 of the mean, relative sd sqrt(2 / 4000) = 2.2 % of the variance.
    assert values["mean"] == pytest.approx(truth, abs=0.005)
    assert values["variance"] == pytest.approx(0.004722, rel=0.1)


def test_pointwise_convergence_is_not_the_variance_of_a_constant():
    g = torch.Generator().manual_seed(0)
    for n in (10, 1000):
        share = (torch.rand(2000, n, generator=g) <= 0.3).double().mean(1)
        assert share.var().item() == pytest.approx(0.21 / n, rel=0.15)


@pytest.mark.parametrize("n", [1, 7, 40])
def test_largest_gap_agrees_with_a_fine_grid(n):
    u = torch.rand(n, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    x = torch.linspace(0, 1, 200_001, dtype=torch.float64)
    by_grid = (chapter.ecdf(u)(x) - x).abs().max().item()
    # The grid is 5e-6 wide and F has slope 1.
    assert chapter.largest_gap(u).item() == pytest.approx(by_grid, abs=1e-5)


def test_width_of_the_band():
    assert chapter.dkw_width(100) == pytest.approx(0.136, abs=5e-4)
    assert 2 * math.exp(-2 * 100 * chapter.dkw_width(100) ** 2) == pytest.approx(0.05)
    assert chapter.dkw_width(10) / chapter.dkw_width(100) == pytest.approx(math.sqrt(10))


def test_band_holds_for_independent_and_fails_for_copied_samples(measured):
    values = measured(chapter.experiment_band)
    # At least 0.95 in truth; 10 x 1000 samples have sd 0.002, one seed 0.007.
    assert values["independent"].mean() > 0.945
    assert values["independent"].min() > 0.92
    assert values["copied"].max() < 0.06


@pytest.mark.parametrize("n", [5, 20])
def test_dkw_holds_for_discrete_and_skewed_distributions(n):
    g = torch.Generator().manual_seed(n)
    p = random_distributions(n, 4)
    counts = chapter.sample_counts(p, n, 4000, g)
    gap = (counts.cumsum(-1) / n - p.cumsum(-1)).abs().amax(-1)
    for eps in (0.2, 0.3, 0.4):
        # Four sd of a share of 4000 trials.
        assert (gap > eps).double().mean() <= 2 * math.exp(-2 * n * eps**2) + 0.03


# Entropy, cross-entropy, divergence


def test_entropy_of_coins():
    assert entropy(double(0.5, 0.5)).item() == pytest.approx(math.log(2))
    assert entropy(double(1.0, 0.0)).item() == 0
    assert entropy(double(0.3, 0.7)).item() == pytest.approx(0.61086, abs=5e-6)
    assert math.log(2) == pytest.approx(0.69315, abs=5e-6)


def test_surprise_of_independent_events_adds():
    a, b = random_distributions(0, 4), random_distributions(1, 3)
    joint = torch.outer(a, b)
    assert entropy(joint.flatten()).item() == pytest.approx((entropy(a) + entropy(b)).item())


def test_entropy_is_at_most_log_k():
    p = random_distributions(0, 500, 7)
    uniform = torch.full((7,), 1 / 7, dtype=torch.float64)
    assert (entropy(p) < math.log(7)).all()
    assert torch.allclose(kl(p, uniform), math.log(7) - entropy(p))
    assert entropy(uniform).item() == pytest.approx(math.log(7))


def test_slope_of_the_entropy_is_infinite_at_the_ends():
    slopes = [entropy(double(h, 1 - h)).item() / h for h in (1e-3, 1e-6, 1e-9)]
    assert slopes[1] - slopes[0] == pytest.approx(math.log(1000), rel=1e-3)
    assert slopes[2] - slopes[1] == pytest.approx(math.log(1000), rel=1e-3)


def test_numbers_of_the_example():
    assert entropy(P).item() == pytest.approx(1.0297, abs=5e-5)
    assert cross_entropy(P, Q).item() == pytest.approx(1.2535, abs=5e-5)
    assert kl(P, Q).item() == pytest.approx(0.2238, abs=5e-5)
    assert kl(Q, P).item() == pytest.approx(0.1938, abs=5e-5)


def test_e32_difference_has_the_other_sign():
    p, q = random_distributions(0, 200, 5), random_distributions(1, 200, 5)
    by_sum = (p * (p / q).log()).sum(-1)
    assert torch.allclose(by_sum, cross_entropy(p, q) - entropy(p))
    assert torch.allclose(by_sum, kl(p, q))
    assert (entropy(p) - cross_entropy(p, q) < 0).all()  # as printed in the notes
    assert (entropy(P) - cross_entropy(P, Q)).item() == pytest.approx(-0.2238, abs=1e-4)
    assert ((p * q.log()).sum(-1) < 0).all()  # "P log Q" is not a code length


def test_e32_cross_entropy_is_not_joint_entropy():
    joint = torch.outer(P, Q)
    assert abs(entropy(joint.flatten()) - cross_entropy(P, Q)).item() > 0.5


def test_kl_is_never_negative_and_zero_only_for_equals():
    p, q = random_distributions(0, 1000, 5), random_distributions(1, 1000, 5)
    assert (kl(p, q) > 1e-3).all()
    # Sums of five numbers below 10: rounding 1e-15.
    assert torch.allclose(kl(p, p), torch.zeros(1000, dtype=torch.float64), atol=1e-14)
    assert ((kl(p, q) - kl(q, p)).abs() > 1e-6).all()


def test_inequality_of_the_proof():
    t = torch.logspace(-6, 3, 1001, dtype=torch.float64)
    assert (t.log() <= t - 1).all()
    assert (t.log() < t - 1)[(t - 1).abs() > 1e-3].all()


def test_impossible_events():
    zero = double(0.5, 0.5, 0.0)
    assert kl(P, zero).item() == math.inf
    assert cross_entropy(P, zero).item() == math.inf
    assert kl(zero, P).item() == pytest.approx(0.5 * math.log(1) + 0.5 * math.log(5 / 3))
    assert kl(zero, zero).item() == 0


def test_agreement_with_torch():
    p, q = random_distributions(0, 50, 6), random_distributions(1, 50, 6)
    assert torch.allclose(entropy(p), Categorical(p).entropy())
    assert torch.allclose(entropy(p), torch.special.entr(p).sum(-1))
    assert torch.allclose(kl(p, q), kl_divergence(Categorical(p), Categorical(q)))
    assert torch.allclose(kl(p, q), F.kl_div(q.log(), p, reduction="none").sum(-1))
    assert torch.allclose(kl(p, q).mean(), F.kl_div(q.log(), p, reduction="batchmean"))
    assert torch.allclose(cross_entropy(p, q).mean(), F.cross_entropy(q.log(), p))


def test_cross_entropy_and_kl_have_the_same_gradient_in_the_model():
    logits = torch.tensor([0.3, -1.0, 0.5], dtype=torch.float64, requires_grad=True)
    q = torch.softmax(logits, 0)
    (by_kl,) = torch.autograd.grad(kl(P, q), logits, retain_graph=True)
    (by_ce,) = torch.autograd.grad(cross_entropy(P, q), logits)
    assert torch.allclose(by_kl, by_ce)


# Conditional entropy and information gain


def joints(seed: int) -> torch.Tensor:
    return random_distributions(seed, 30, 12).view(30, 4, 3)


def test_chain_rule():
    joint = joints(0)
    p_a = joint.sum(-1)
    average = (p_a * entropy(joint / p_a[..., None])).sum(-1)
    assert torch.allclose(chapter.conditional_entropy(joint), average)
    assert torch.allclose(entropy(joint.flatten(-2)), entropy(p_a) + average)


def test_gain_is_mutual_information():
    joint = joints(1)
    apart = joint.sum(-1, keepdim=True) * joint.sum(-2, keepdim=True)
    gain = chapter.information_gain(joint)
    assert torch.allclose(gain, kl(joint.flatten(-2), apart.flatten(-2)))
    assert torch.allclose(gain, chapter.information_gain(joint.mT))
    assert (gain > 0).all()
    alone = chapter.information_gain(apart)
    assert torch.allclose(alone, torch.zeros_like(alone), atol=1e-14)


def test_gain_of_the_homework():
    joint = double(0.35, 0.15, 0.15, 0.35).view(2, 2)
    assert chapter.information_gain(joint).item() == pytest.approx(0.0823, abs=5e-5)
    assert pytest.approx(0.087, abs=5e-4) == 0.0823 + 1 / 200


def test_cross_table_counts_pairs():
    a, y = torch.tensor([[0, 2, 2, 1]]), torch.tensor([[1, 0, 1, 1]])
    assert chapter.cross_table(a, y, 3).tolist() == [[[0, 1], [0, 1], [1, 1]]]


def test_survey_is_what_it_says():
    real, irrelevant, y = chapter.survey(100_000, 31, torch.Generator().manual_seed(0))
    # sd of a share of 100000: 0.0016.
    assert y.double().mean().item() == pytest.approx(0.5, abs=0.008)
    assert (real == y).double().mean().item() == pytest.approx(0.7, abs=0.008)
    assert irrelevant.min() == 0 and irrelevant.max() == 30
    gain = chapter.information_gain(chapter.cross_table(irrelevant, y, 31) / 100_000)
    assert gain.item() < 0.001


# Maximum likelihood


def test_likelihood_is_cross_entropy_with_the_empirical_distribution():
    g = torch.Generator().manual_seed(0)
    draws = torch.multinomial(P, 40, replacement=True, generator=g)
    p_hat = chapter.mle_categorical(torch.bincount(draws, minlength=3).double())
    for model in random_distributions(1, 5, 3):
        nll = -model[draws].log().sum()
        assert (nll / 40).item() == pytest.approx(cross_entropy(p_hat, model).item())
        assert (nll / 40).item() == pytest.approx((entropy(p_hat) + kl(p_hat, model)).item())


def test_relative_frequencies_are_the_maximum():
    counts = double(7, 2, 1)
    best = chapter.mle_categorical(counts)
    assert best.tolist() == pytest.approx([0.7, 0.2, 0.1])
    others = random_distributions(0, 2000, 3)
    assert (cross_entropy(best, others) > cross_entropy(best, best)).all()
    logits = best.log().requires_grad_()
    loss = -(counts * torch.log_softmax(logits, 0)).sum()
    (grad,) = torch.autograd.grad(loss, logits)
    assert grad.abs().max() < 1e-12  # rounding of numbers up to 10
    assert loss.item() / 10 == pytest.approx(entropy(best).item())


def test_gaussian_maximum_divides_by_n():
    g = torch.Generator().manual_seed(0)
    x = 3 + 2 * torch.randn(12, generator=g, dtype=torch.float64)
    mean, variance = chapter.mle_gaussian(x)
    assert variance.item() == pytest.approx(x.var(correction=0).item())
    assert variance.item() == pytest.approx(x.var().item() * 11 / 12)
    theta = torch.stack([mean, variance]).requires_grad_()
    nll = -Normal(theta[0], theta[1].sqrt()).log_prob(x).sum()
    (grad,) = torch.autograd.grad(nll, theta)
    assert grad.abs().max() < 1e-10
    for m, v in product((-0.3, 0, 0.3), (0.7, 1, 1.4)):
        other = -Normal(mean + m, (variance * v).sqrt()).log_prob(x).sum()
        assert other >= nll - 1e-9


def test_gaussian_variance_is_low_by_one_over_n():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(40_000, 5, generator=g, dtype=torch.float64)
    variance = torch.func.vmap(lambda row: chapter.mle_gaussian(row)[1])(x).mean().item()
    assert variance == pytest.approx(4 / 5, abs=0.015)  # sd 0.003


def test_gaussian_likelihood_is_the_squared_error():
    g = torch.Generator().manual_seed(0)
    y, a, b = torch.randn(3, 20, generator=g, dtype=torch.float64)
    difference = (Normal(b, 2.0).log_prob(y) - Normal(a, 2.0).log_prob(y)).sum()
    squares = ((y - a) ** 2).sum() - ((y - b) ** 2).sum()
    assert difference.item() == pytest.approx(squares.item() / 8)


def test_likelihood_ratio_of_a_coin():
    counts = double(30, 70)
    for theta in (0.4, 0.65, 0.9):
        model = double(1 - theta, theta)
        ratio = ((counts * model.log()).sum() - (counts * double(0.3, 0.7).log()).sum()).exp()
        assert ratio.item() == pytest.approx(math.exp(-100 * kl(double(0.3, 0.7), model)), rel=1e-9)


def test_likelihood_is_not_a_distribution_over_the_parameter():
    theta = torch.linspace(0, 1, 100_001, dtype=torch.float64)
    assert (theta**7 * (1 - theta) ** 3).mean().item() == pytest.approx(1 / 1320, rel=1e-3)


def test_e33_printed_objective_ignores_the_data():
    data, point = double(0.7, 0.2, 0.1), double(0.0, 0.0, 1.0)
    models = random_distributions(0, 1000, 3)
    assert (entropy(models) > entropy(point)).all()  # any point mass wins, whatever the data
    assert entropy(point).item() == 0
    assert cross_entropy(data, point).item() == math.inf
    assert (cross_entropy(data, models) > cross_entropy(data, data)).all()


# The bias of counting


def all_samples(n: int, k: int) -> torch.Tensor:
    outcomes = torch.tensor(list(product(range(k), repeat=n)))
    return F.one_hot(outcomes, k).sum(1).double(), outcomes


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_bias_is_exactly_the_expected_divergence(n):
    counts, outcomes = all_samples(n, 3)
    weight = P[outcomes].prod(1)
    p_hat = counts / n
    assert weight.sum().item() == pytest.approx(1)
    assert (weight * cross_entropy(p_hat, P)).sum().item() == pytest.approx(entropy(P).item())
    expected = entropy(P) - (weight * kl(p_hat, P)).sum()
    assert (weight * entropy(p_hat)).sum().item() == pytest.approx(expected.item())


def test_expected_divergence_tends_to_k_minus_1_over_2n_whatever_p():
    g = torch.Generator().manual_seed(0)
    for p in (double(0.25, 0.25, 0.25, 0.25), double(0.4, 0.3, 0.2, 0.1)):
        p_hat = chapter.sample_counts(p, 1000, 8000, g) / 1000
        # 2n KL is nearly chi squared with 3 degrees: relative sd sqrt(2 / 3 / 8000) = 0.9 %.
        assert kl(p_hat, p).mean().item() == pytest.approx(3 / 2000, rel=0.05)
        assert kl(p, p_hat).mean().item() == pytest.approx(3 / 2000, rel=0.05)


def test_plugin_entropy_is_low_and_miller_madow_removes_most(measured):
    values = measured(chapter.experiment_entropy)
    # Predicted -0.155; seeds differ by 0.001.
    assert (values["dense_plain"] < -0.155).all()
    assert (values["dense_plain"] > -0.185).all()
    assert (abs(values["dense_corrected"]) < 0.2 * abs(values["dense_plain"])).all()


def test_no_correction_when_values_outnumber_samples(measured):
    values = measured(chapter.experiment_entropy)
    bound = math.log(100) + 0.5 - math.log(1000)
    assert math.log(100) + 0.5 == pytest.approx(5.11, abs=0.006)
    assert (values["sparse_corrected"] < bound).all()
    assert (values["sparse_plain"] < values["sparse_corrected"] - 0.3).all()


def test_entropy_estimates_are_bounded_by_the_sample_size():
    g = torch.Generator().manual_seed(0)
    counts = chapter.sample_counts(torch.full((1000,), 1e-3, dtype=torch.float64), 100, 50, g)
    every_one_new = torch.ones(100, dtype=torch.float64)
    assert (entropy(counts / 100) <= math.log(100)).all()
    assert chapter.entropy_miller_madow(every_one_new) < math.log(100) + 0.5
    assert entropy(every_one_new / 100).item() == pytest.approx(math.log(100))


def test_miller_madow_counts_the_values_seen():
    counts = double(3, 0, 1, 0)
    expected = entropy(double(0.75, 0.25)) + 1 / 8
    assert chapter.entropy_miller_madow(counts).item() == pytest.approx(expected.item())


def test_corrected_gain_subtracts_what_the_table_allows():
    counts = double(3, 1, 2, 2, 0, 0, 1, 4).view(4, 2)  # one row was never seen
    gain = chapter.information_gain(counts / 13)
    expected = gain - 2 * 1 / 26
    assert chapter.corrected_gain(counts).item() == pytest.approx(expected.item())


def test_bias_of_the_gain_in_a_well_filled_table():
    g = torch.Generator().manual_seed(0)
    _, irrelevant, y = chapter.survey(1000, 5, g, trials=3000)
    counts = chapter.cross_table(irrelevant, y, 5)
    # 2n G is nearly chi squared with 4 degrees: relative sd sqrt(2 / 4 / 3000) = 1.3 %.
    assert chapter.information_gain(counts / 1000).mean().item() == pytest.approx(0.002, rel=0.07)
    assert abs(chapter.corrected_gain(counts).mean().item()) < 0.0002


def test_irrelevant_feature_wins_unless_corrected(measured):
    values = measured(chapter.experiment_gain)
    # Predicted 0.0873 for the useful feature; seeds differ by 0.002.
    assert values["real_plain"] == pytest.approx(0.0873, abs=0.01)
    assert values["real_corrected"] == pytest.approx(0.0823, abs=0.01)
    assert values["real_shuffled"] == pytest.approx(0.0823, abs=0.01)
    assert (values["irrelevant_plain"] > 0.16).all()  # above the predicted 0.15
    assert (values["irrelevant_corrected"] < 0.4 * values["irrelevant_plain"]).all()
    assert (values["irrelevant_corrected"] > 0.02).all()
    assert (abs(values["irrelevant_shuffled"]) < 0.01).all()
    assert (values["fooled_plain"] > 0.9).all()
    assert (values["fooled_corrected"] < 0.35).all()
    assert (values["fooled_corrected"] > 0.1).all()
    assert (values["fooled_shuffled"] < 0.13).all()
    assert values["fooled_shuffled"].mean() > 0.02


def test_an_irrelevant_feature_catches_up_at_a_dozen_values():
    g = torch.Generator().manual_seed(0)
    gain = {}
    for values in (10, 20):
        _, irrelevant, y = chapter.survey(100, values, g, trials=2000)
        counts = chapter.cross_table(irrelevant, y, values)
        gain[values] = chapter.information_gain(counts / 100).mean().item()
    assert gain[10] < 0.0823 - 0.02  # sd of these means: 0.0007
    assert gain[20] > 0.0823 + 0.015


def test_miller_madow_needs_a_few_samples_a_value():
    g = torch.Generator().manual_seed(0)
    p = torch.full((32,), 1 / 32, dtype=torch.float64)
    left = {}
    for n in (8, 256):
        counts = chapter.sample_counts(p, n, 2000, g)
        plain = math.log(32) - entropy(counts / n).mean().item()
        left[n] = (math.log(32) - chapter.entropy_miller_madow(counts).mean().item()) / plain
    # 0.73 and 0.02; the sampling error of the second is 0.01.
    assert left[8] > 0.6
    assert abs(left[256]) < 0.06


def test_unique_feature_is_caught_by_shuffling_only(measured):
    values = measured(chapter.experiment_gain)
    assert (values["unique_corrected"] > 2 * values["real_corrected"]).all()
    assert values["unique_corrected"] == pytest.approx(math.log(2) - 99 / 200, abs=0.01)
    assert abs(values["unique_shuffled"]).max() < 1e-9


def test_training_loss_is_low_and_test_loss_is_high_by_the_same(measured):
    values = measured(chapter.experiment_overfit)
    # 5 / 400; 4000 trials of sd 0.03 give sd 0.0005 a seed.
    assert values["train"] == pytest.approx(-0.0125, abs=0.0025)
    assert values["test"] == pytest.approx(0.0125, abs=0.0025)
    assert values["truth"] == pytest.approx(0, abs=0.0025)
    assert values["truth"].std() > 1e-4  # measured on throws, so not 0 itself
    assert (values["train"] < values["truth"]).all()


def test_less_bias_and_more_error():
    heads = torch.arange(11, dtype=torch.float64)
    weight = double(*(math.comb(10, k) * 0.1**k * 0.9 ** (10 - k) for k in range(11)))
    counts = torch.stack([heads, 10 - heads], -1)
    truth = entropy(double(0.1, 0.9))
    plain, corrected = entropy(counts / 10) - truth, chapter.entropy_miller_madow(counts) - truth
    assert -0.5 < ((weight * corrected).sum() / -(weight * plain).sum()).item() < -0.4
    assert (weight * corrected**2).sum() > 1.1 * (weight * plain**2).sum()
    assert weight[0].item() == pytest.approx(0.35, abs=0.005)  # no heads at all
    assert plain[1].abs() < 1e-9 and (plain[2:9] > 0).all()  # one head in ten is exact


# The two directions


def test_the_bernoulli_curves():
    p, theta = double(0.8, 0.2), double(1e-300)
    edge = torch.stack([1 - theta, theta], -1)
    assert kl(p, edge).item() > 100
    assert kl(edge, p).item() == pytest.approx(-math.log(0.8))
    assert kl(double(0.0, 1.0), p).item() == pytest.approx(-math.log(0.2))


def test_forward_covers_and_reverse_chooses():
    grid = torch.arange(-150, 151, dtype=torch.float64) / 10
    p = chapter.two_peaks(grid)
    mean = (p * grid).sum().item()
    sd = math.sqrt((p * grid**2).sum().item() - mean**2)
    assert mean == pytest.approx(0.6)
    assert sd == pytest.approx(math.sqrt(9.64), abs=1e-3) and sd == pytest.approx(3.105, abs=1e-3)
    forward, reverse = (chapter.fit_gaussian(p, grid, r) for r in (False, True))
    assert forward[:2] == pytest.approx((0.6, 3.1))
    assert reverse[:2] == pytest.approx((3.0, 1.0))
    assert reverse[2] == pytest.approx(-math.log(0.6), abs=0.01)
    wide = chapter.gaussian_on(grid, double(0.6), double(3.1))[0]
    assert kl(wide, p) > reverse[2] + 0.2
    centre = (grid - mean).abs().argmin()
    assert p[centre] < 0.1 * p.max()  # hardly any data where the forward fit has its top


def test_both_directions_find_a_target_of_the_family():
    grid = torch.arange(-150, 151, dtype=torch.float64) / 10
    p = chapter.gaussian_on(grid, double(-1.2), double(1.7))[0]
    for reverse in (False, True):
        assert chapter.fit_gaussian(p, grid, reverse) == pytest.approx((-1.2, 1.7, 0), abs=1e-9)


# The clinic and the exercises


def test_clinic_kl_div():
    assert F.kl_div(Q, P, reduction="sum") < 0
    assert F.kl_div(P.log(), Q, reduction="sum").item() == pytest.approx(kl(Q, P).item())
    with pytest.warns(UserWarning, match="'batchmean' divides only by the batch size"):
        assert F.kl_div(Q.log(), P).item() == pytest.approx(kl(P, Q).item() / 3)


def test_clinic_zero_log_zero():
    p = torch.tensor([1.0, 0.0], requires_grad=True)
    assert (p * p.log()).sum().isnan()
    assert torch.autograd.grad(entropy(p), p)[0][1].isnan()
    assert torch.autograd.grad(torch.special.entr(p).sum(), p)[0][1] == math.inf
    logits = torch.tensor([30.0, -30.0], requires_grad=True)
    log_p = torch.log_softmax(logits, 0)
    (grad,) = torch.autograd.grad(-(log_p.exp() * log_p).sum(), logits)
    assert grad.isfinite().all()
    p = double(1.0, 0.0).requires_grad_()
    (grad,) = torch.autograd.grad(-(p * (p + 1e-8).log()).sum(), p)
    assert grad[1].item() == pytest.approx(18.4, abs=0.05)


def test_clinic_underflow():
    assert torch.full((149,), 0.5).prod() == 2.0**-149
    assert torch.full((150,), 0.5).prod() == 0
    logs = torch.full((150,), 0.5).log().sum().item()
    assert logs == pytest.approx(-150 * math.log(2), rel=1e-5)


def test_clinic_one_sample():
    x = torch.tensor([3.0])
    mean, variance = chapter.mle_gaussian(x)
    assert (mean, variance) == (3, 0)
    with pytest.raises(ValueError, match="GreaterThan"):
        Normal(mean, variance.sqrt())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert x.var().isnan()


def test_clinic_counts_give_a_negative_entropy():
    counts = double(50, 30, 20)
    assert entropy(counts) < 0
    p = chapter.mle_categorical(counts)
    assert 0 <= entropy(p).item() <= math.log(3)


def test_smoothing_helps_an_even_and_hurts_a_skewed_distribution():
    even = torch.full((50,), 1 / 50, dtype=torch.float64)
    skewed = torch.full((50,), 0.01 / 49, dtype=torch.float64)
    skewed[0] = 0.99
    assert pytest.approx(6.6, abs=0.05) == 50 * 0.98**100
    for seed in range(5):
        excess = {}
        for name, p in (("even", even), ("skewed", skewed)):
            counts = chapter.sample_counts(p, 100, 200, torch.Generator().manual_seed(seed))
            assert kl(p, chapter.mle_categorical(counts)).mean() == math.inf
            excess[name] = [
                kl(p, chapter.mle_categorical(counts + a)).mean().item() for a in (0.01, 1.0)
            ]
        assert excess["even"][1] < 0.5 * excess["even"][0]
        assert excess["skewed"][1] > 10 * excess["skewed"][0]
