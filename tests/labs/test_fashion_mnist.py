"""What the lab on the way to a small convolutional network says, against what it printed."""

import json
import re
import statistics

import pytest

from publishing import ROOT, lab_pages

STEPS = ("softmax", "hidden", "adam", "convolution", "pooling", "dropout")


@pytest.fixture(scope="module")
def text(printed) -> str:
    return printed("fashion_mnist")


@pytest.fixture(scope="module")
def record() -> dict:
    return json.loads((ROOT / "records" / "fashion_mnist.json").read_text(encoding="utf-8"))


def accuracy(text: str, name: str) -> float:
    found = re.search(rf"(?m)^{name} +\d+ parameters +loss \S+ ± \S+ +accuracy (\S+)", text)
    return float(found[1])


def test_log_has_every_step_in_order(text):
    assert tuple(re.findall(r"(?m)^(\w+) +\d+ parameters", text)) == STEPS


def test_the_hidden_layer_is_clearly_worth_it(text):
    line = re.search(r"softmax → hidden +(\S+) ± \S+ points: (.*)", text)
    assert float(line[1]) > 0 and line[2] == "beyond two standard errors"


def test_some_steps_are_not_clear(text):
    assert "points: not clear" in text


def test_every_step_beats_softmax(text):
    assert all(accuracy(text, name) > accuracy(text, "softmax") for name in STEPS[1:])


def test_the_network_with_pooling_has_fewer_parameters_than_the_one_without(text):
    counts = {
        name: int(re.search(rf"(?m)^{name} +(\d+) parameters", text)[1])
        for name in ("convolution", "pooling")
    }
    assert counts["pooling"] < counts["convolution"]


def test_chosen_network_is_as_good_on_the_test_set(text):
    name = re.search(r"chosen on the validation set: (\w+)", text)[1]
    test = float(re.search(r"test accuracy over 5 seeds: (\S+)", text)[1])
    assert abs(test - accuracy(text, name)) < 0.03


def test_record_says_where_it_comes_from(record):
    assert "Fashion-MNIST" in record["data"] and len(record["seeds"]) >= 3
    assert {"date", "versions", "machine", "cpu_seconds", "command"} <= record.keys()
    values = record["results"]["lab"]
    assert values.keys() == {f"{name}_accuracy" for name in (*STEPS, "test")}
    assert all(len(runs) == len(record["seeds"]) for runs in values.values())


def test_on_fashion_mnist_the_last_networks_beat_softmax_on_every_seed(record):
    values = record["results"]["lab"]
    for name in ("pooling", "dropout"):
        pairs = zip(values["softmax_accuracy"], values[f"{name}_accuracy"], strict=True)
        assert all(before < after for before, after in pairs)


def gains(record: dict, before: str, after: str) -> list[float]:
    values = record["results"]["lab"]
    pairs = zip(values[f"{before}_accuracy"], values[f"{after}_accuracy"], strict=True)
    return [new - old for old, new in pairs]


def test_the_two_accounts_differ(text, record):
    """Digits: the hidden layer is clear, the convolution is not; Fashion-MNIST: the reverse."""
    assert re.search(r"adam → convolution .* not clear", text)
    assert all(gain > 0 for gain in gains(record, "adam", "convolution"))
    for before, after in (("softmax", "hidden"), ("hidden", "adam")):
        runs = gains(record, before, after)
        error = statistics.stdev(runs) / len(runs) ** 0.5
        assert abs(statistics.mean(runs)) < 2 * error
    assert re.search(r"hidden → adam .* not clear", text)


def test_page_shows_the_record(ran, record):
    page = lab_pages.page(ran("fashion_mnist"))
    mean = statistics.mean(record["results"]["lab"]["softmax_accuracy"])
    assert f"| softmax 回归，验证准确率 | {mean:.4f} ± " in page
    assert record["date"] in page and "<!-- record" not in page
