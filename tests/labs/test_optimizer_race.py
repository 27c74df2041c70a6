"""What the optimiser race says, against what it printed."""

import math
import re

import pytest

NAMES = ("SGD", "Momentum", "Nesterov", "Adagrad", "RMSprop", "Adam")


@pytest.fixture(scope="module")
def text(printed) -> str:
    return printed("optimizer_race")


def numbers(text: str, name: str, pattern: str) -> list[float]:
    """Return the numbers of the line of an optimiser that matches a pattern."""
    match = re.search(rf"(?m)^{name} +{pattern}", text)
    assert match, f"no line of {name} like {pattern}"
    return [float(value) for value in match.groups()]


def bowl(text: str, name: str) -> list[float]:
    return numbers(text, name, r"bowl +(\S+) +rotated +(\S+) +ratio +(\S+)")


def odd(text: str, name: str) -> list[float]:
    return numbers(text, name, r"median g +(\S+) +below 0.05: +(\d+) of 30")


def test_no_best_rate_lies_at_the_edge_of_the_table(text):
    assert "best rate at the edge of the table: none" in text


@pytest.mark.parametrize("name", ["SGD", "Momentum", "Nesterov"])
def test_turning_the_bowl_changes_nothing_for_plain_gradients(text, name):
    assert 0.3 < bowl(text, name)[2] < 3


@pytest.mark.parametrize("name", ["Adagrad", "RMSprop"])
def test_turning_the_bowl_costs_orders_of_magnitude(text, name):
    aligned, turned, ratio = bowl(text, name)
    assert ratio > 1e3 and turned > 1e3 * aligned


def test_adam_differs_from_the_other_two_on_the_turned_bowl(text):
    assert bowl(text, "Adam")[2] < 1e-2 * min(bowl(text, n)[2] for n in ("Adagrad", "RMSprop"))


def test_best_rates_differ_widely_between_tracks(text):
    row = numbers(text, "SGD", r"(\S+) +(\S+) +(\S+) +(\S+)$")
    assert max(row) / min(row) >= 10


def paired(text: str, name: str) -> list[float]:
    pattern = r"([+-][\d.]+) ± ([\d.]+) \(standard error\), ahead on (\d+) of 10"
    return numbers(text, f"Adam - {name}", pattern)


@pytest.mark.parametrize("name", ["SGD", "Adagrad", "RMSprop"])
def test_adam_is_ahead_of_three_on_every_seed(text, name):
    gap, error, seeds = paired(text, name)
    assert gap > 4 * error and seeds >= 9


@pytest.mark.parametrize("name", ["Momentum", "Nesterov"])
def test_ten_seeds_do_not_tell_adam_from_the_other_two(text, name):
    gap, error, _ = paired(text, name)
    assert abs(gap) < 3 * error


def test_final_points_lie_in_one_of_the_dips_of_the_floor(text):
    dips = re.search(r"dips of the floor: (.*)", text)[1]
    values = [float(value) for value in re.findall(r"= ([\d.]+)", dips)]
    assert len(values) == 2 and 0.4 < max(values) < 0.6 and min(values) < 0.05
    for name in NAMES:
        median = odd(text, name)[0]
        assert any(math.isclose(median, value, abs_tol=0.1) for value in values), name


def test_one_optimiser_ends_in_both_dips_depending_on_the_start(text):
    assert any(0 < odd(text, name)[1] < 30 for name in NAMES)
