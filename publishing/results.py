"""Write a measured value the way a reader expects it: mean ± standard deviation."""

import math
import re
import statistics

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
    return text.replace("-", "−")


def _spec(mean: float, sd: float) -> str:
    """Choose the digits: two significant ones of the standard deviation, four of an exact value."""
    size = abs(mean) if mean else sd
    if not size or not math.isfinite(size) or not math.isfinite(sd):
        return ".4g"
    if not 1e-4 <= size < 1e6:
        return ".2e" if sd else ".3e"
    if not sd:
        return ".4g" if size < 1e4 else ".0f"
    decimals = 1 - math.floor(math.log10(sd))
    return f".{min(max(decimals, 0), 6)}f"


def summary(values: list[float]) -> dict[str, float]:
    """Return mean, sample standard deviation (0 for a single run), min, max and n."""
    finite = all(math.isfinite(value) for value in values)
    return {
        "mean": statistics.fmean(values),
        "sd": statistics.stdev(values) if len(values) > 1 and finite else 0.0,
        "min": min(values),
        "max": max(values),
        "n": len(values),
    }


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
    numbers = summary(values)
    spec = spec or ("d" if part == "n" else _spec(numbers["mean"], numbers["sd"]))
    try:
        if part:
            return _number(numbers[part], spec)
        mean = _number(numbers["mean"], spec)
        if numbers["sd"] == 0:
            return mean
        return f"{mean} ± {_number(numbers['sd'], spec)}"
    except ValueError as error:
        raise PublishingError(f"'{spec}' is not a format for a number: {error}") from error
