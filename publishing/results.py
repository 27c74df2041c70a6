"""Write a measured value the way a reader expects it: mean ± standard deviation."""

import math
import re
import statistics
from functools import lru_cache

from publishing import PublishingError

QUOTE = re.compile(
    r"\{\{\s*(?P<experiment>[A-Za-z_]\w*)\.(?P<key>[A-Za-z_]\w*)"
    r"(?:\.(?P<part>mean|sd|min|max|n))?(?P<format>:[^{}\s]+)?\s*\}\}"
)
"""`{{ experiment.key }}`, `{{ experiment.key.mean:.3f }}`."""

SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def _number(value: float, spec: str) -> str:
    text = format(value, spec)
    mantissa, exponent_sign, exponent = text.partition("e")
    if exponent_sign:
        text = f"{mantissa} × 10{str(int(exponent)).translate(SUPERSCRIPT)}"
    if math.isfinite(value) and not re.search("[1-9]", mantissa):
        text = text.replace("-", "", 1)  # no negative zero
    return text.replace("-", "−")


def _spec(mean: float, sd: float) -> str:
    """Choose the digits: two significant ones of the standard deviation, four of an exact value."""
    size = max(abs(mean), sd)
    if not size or not math.isfinite(size):
        return ".4g"
    if not 1e-4 <= size < 1e6:
        return ".2e" if sd else ".3e"
    if not sd:
        return ".4g" if size < 1e4 else ".0f"
    decimals = 1 - math.floor(math.log10(sd))
    return f".{min(max(decimals, 0), 6)}f"


def summary(values: list[float]) -> dict[str, float]:
    """Return mean, sample standard deviation (0 for a single run), min, max and n.

    A value that is not a number makes mean, min and max none either; one that is not finite leaves
    no standard deviation (nan).
    """
    return dict(_summary(tuple(values)))


@lru_cache(maxsize=4096)  # a quotation asks three times, and tables repeat what the text quotes
def _summary(values: tuple[float, ...]) -> dict[str, float]:
    if any(math.isnan(value) for value in values):
        mean = low = high = math.nan
    else:
        mean, low, high = statistics.mean(values), min(values), max(values)
    sd = 0.0
    if len(values) > 1:
        sd = statistics.stdev(values) if all(map(math.isfinite, values)) else math.nan
    return {"mean": mean, "sd": sd, "min": low, "max": high, "n": len(values)}


def quote(values: list[float], part: str | None = None, spec: str | None = None) -> str:
    """Format values over seeds.

    Args:
        values: one value per seed.
        part: `mean`, `sd`, `min`, `max` or `n`; None gives "mean ± sd", or the value alone where
            every seed gave the same.
        spec: a Python format specification such as `.3f` or `.0%`; chosen by size if None.

    Raises:
        PublishingError: the format specification is not one.
    """
    numbers, chosen = summary(values), spec is None
    spec = spec or ("d" if part == "n" else _spec(numbers["mean"], numbers["sd"]))
    try:
        if part:
            return _number(numbers[part], spec)
        mean = _number(numbers["mean"], spec)
        if not numbers["sd"] > 0:  # exact, or not finite
            return mean
        sd = _number(numbers["sd"], spec)
        if chosen and not re.search("[1-9]", sd):  # one that rounds to nothing is not nothing
            sd = _number(numbers["sd"], ".1e")
        return f"{mean} ± {sd}"
    except ValueError as error:
        raise PublishingError(f"'{spec}' is not a format for a number: {error}") from error
