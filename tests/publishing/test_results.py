"""How measured values are written."""

import math

import pytest

from publishing import PublishingError
from publishing.results import quote

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([3.0], "3"),  # n = 1
        ([0.1] * 5, "0.1"),  # the same for every seed: no deviation is shown
        ([14 / 3] * 5, "4.667"),
        ([12345.678] * 2, "12346"),
        ([0.0, 0.0], "0"),
        ([1.0, 2.0, 3.0], "2.0 ± 1.0"),  # two significant digits of the deviation
        ([0.5, 0.51], "0.5050 ± 0.0071"),
        ([1234.5, 1334.5], "1284 ± 71"),
        ([-1.5, -2.5], "−2.00 ± 0.71"),
        ([-0.25] * 3, "−0.25"),
        ([2e-7] * 2, "2.000 × 10⁻⁷"),
        ([1e-7, 2e-7], "1.50 × 10⁻⁷ ± 7.07 × 10⁻⁸"),
        ([1e7] * 2, "1.000 × 10⁷"),
        ([-1e8, -2e8], "−1.50 × 10⁸ ± 7.07 × 10⁷"),
        ([1e-17, 1.0, -1.0], "0.0 ± 1.0"),  # the deviation, not a rounding error, sets the scale
        ([-1e-17, 1.0, -1.0], "0.0 ± 1.0"),  # no negative zero
        ([1.0, 1.0 + 1e-9], "1.000000 ± 7.1 × 10⁻¹⁰"),  # small, but not nothing
        ([NAN, 1.0], "nan"),
        ([1.0, NAN], "nan"),
        ([INF, 1.0], "inf"),
        ([-INF], "−inf"),
        ([INF, -INF], "nan"),
    ],
)
def test_mean_and_deviation(values, text):
    assert quote(values) == text


@pytest.mark.parametrize(
    ("part", "spec", "text"),
    [
        (None, ".3f", "2.500 ± 1.291"),
        (None, ".0%", "250% ± 129%"),
        (None, ".1e", "2.5 × 10⁰ ± 1.3 × 10⁰"),
        ("mean", None, "2.5"),
        ("mean", ".3f", "2.500"),
        ("sd", None, "1.3"),
        ("sd", ".4f", "1.2910"),
        ("min", None, "1.0"),
        ("max", ".0f", "4"),
        ("n", None, "4"),
        ("n", "d", "4"),
    ],
)
def test_parts_and_formats(part, spec, text):
    assert quote([1.0, 2.0, 3.0, 4.0], part, spec) == text


@pytest.mark.parametrize(
    ("part", "text"),
    [("mean", "nan"), ("sd", "nan"), ("min", "nan"), ("max", "nan"), ("n", "2")],
)
@pytest.mark.parametrize("values", [[1.0, NAN], [NAN, 1.0]])
def test_what_is_not_a_number_is_not_hidden(values, part, text):
    assert quote(values, part) == text


def test_there_is_no_deviation_from_infinity():
    assert quote([1.0, INF], "sd") == "nan"
    assert quote([1.0, INF], "max") == "inf"


def test_one_run_has_no_deviation():
    assert quote([2.0], "sd") == "0"


def test_a_rounded_negative_number_is_not_a_negative_zero():
    assert quote([-0.0001], None, ".2f") == "0.00"
    assert quote([-0.004, -0.002], None, ".2f") == "0.00 ± 0.00"


@pytest.mark.parametrize("spec", ["d", "s", "q", ".3q", ".99999999999f"])
def test_a_bad_format_is_named(spec):
    with pytest.raises(PublishingError, match=f"^'{spec}' is not a format for a number: "):
        quote([1.5, 2.5], None, spec)
