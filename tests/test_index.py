"""The front page's claim: trial and theory agree on where gradient descent stops converging."""

import pytest

from snippets import index


def test_boundary_found_by_trial_is_three_fourteenths(measured):
    # 40 halvings of [0, 1] leave 1e-12; the rest is rounding in 200 steps of the path.
    assert measured(index.experiment_boundary)["found"] == pytest.approx(3 / 14, abs=1e-8)


@pytest.mark.parametrize(("lr", "grows"), [(0.2132, False), (0.2154, True)])
def test_one_per_cent_decides(lr, grows):
    path = index.distances(1.0, lr, 300)
    assert (path[-1] > path[0]).item() is grows


def test_the_two_rates_lie_within_one_per_cent_of_the_boundary():
    assert 0.2132 < 3 / 14 < 0.2154
    step = 0.2154 / 0.2132 - 1
    assert step == pytest.approx(0.01, abs=0.001)
