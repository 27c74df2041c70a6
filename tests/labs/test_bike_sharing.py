"""What the bike-sharing lab says, against what it printed."""

import os
import re
from pathlib import Path

import pytest

from publishing import lab_pages, labs
from publishing.labs import Lab

BASELINES = ("mean", "hour profile", "last week")
REAL = Path(os.environ.get("DATA_DIR", "")) / "bike-sharing" / "hour.csv"


@pytest.fixture(scope="module")
def text(printed) -> str:
    return printed("bike_sharing")


def rmse(text: str, name: str) -> float:
    return float(re.search(rf"(?m)^{name} +RMSE +([\d.]+)", text)[1])


def part(text: str, name: str) -> dict[str, float]:
    found = re.search(rf"(?m)^{name} +bias +(\S+) +spread +(\S+) +RMSE +(\S+)", text)
    return dict(zip(("bias", "spread", "rmse"), map(float, found.groups()), strict=True))


def test_working_days_peak_in_the_evening_and_others_after_noon(text):
    working, other = map(
        int, re.search(r"busiest hour: (\d+) on .*, (\d+) on others", text).groups()
    )
    assert working in (17, 18) and 12 <= other <= 16


def test_demand_grows(text):
    first, second = map(int, re.search(r"(\d+) in 2011, (\d+) in 2012", text).groups())
    assert second > 1.2 * first


@pytest.mark.parametrize("seed", range(3))
def test_network_as_a_whole_is_worse_than_two_baselines(text, seed):
    best = max(rmse(text, "hour profile"), rmse(text, "last week"))
    assert rmse(text, f"network {seed}") > best


def test_the_last_ten_days_are_overestimated_and_the_others_are_not(text):
    before, late = (part(text, name) for name in ("before 22 December", "from 22 December on"))
    assert late["bias"] > 3 * abs(before["bias"]) and late["rmse"] > 3 * before["rmse"]
    assert before["rmse"] < min(rmse(text, name) for name in BASELINES)


def test_the_training_hours_of_the_year_s_end_are_overestimated_too(text):
    other = float(re.search(r"other December days: bias (\S+)", text)[1])
    late = float(re.search(r"22 to 31 December: +bias (\S+)", text)[1])
    assert late > 20 > abs(other)


def test_one_more_column_repairs_it(text):
    best = min(rmse(text, name) for name in (*BASELINES, "network mean"))
    assert rmse(text, "with year end") < 0.5 * best


def test_more_is_left_than_the_noise_of_the_counts(text):
    floor, rest = map(
        float, re.search(r"about ([\d.]+); the model's RMSE: ([\d.]+)", text).groups()
    )
    assert floor < rest


def test_page_shows_the_record_of_the_real_hours(ran):
    page = lab_pages.page(ran("bike_sharing"))
    assert re.search(r"\| 网络，12 月 22 日起 \| [\d.]+ ± [\d.]+ \|", page)
    assert "UCI Bike Sharing, hour.csv" in page and "<!-- record" not in page


@pytest.mark.skipif(not REAL.is_file(), reason="needs the UCI Bike Sharing hours in DATA_DIR")
def test_same_code_runs_on_the_real_hours():
    notebook = labs.execute(Lab("bike_sharing"), os.environ["DATA_DIR"])
    text = "\n".join(
        lab_pages.output_text(c) for c in notebook["cells"] if c["cell_type"] == "code"
    )
    assert "UCI Bike Sharing: 17379 hours" in text
    assert part(text, "from 22 December on")["bias"] > 0
