"""Records in labs: a table with provenance; what is missing is named."""

import json

import pytest

from publishing import PublishingError, lab_records

RECORD = {
    "data": "某数据集",
    "date": "2026-01-02",
    "versions": {"torch": "2.0", "python": "3.11"},
    "machine": "某机器",
    "cpu_seconds": 12.3,
    "seeds": [0, 1],
    "results": {"lab": {"small": [0.5, 0.7], "large": [100.0, 102.0]}},
}
TEXT = "前\n\n<!-- record: one.lab -->\n<!-- small: 小的 -->\n<!-- large: 大的 -->\n\n后\n"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "one.json").write_text(json.dumps(RECORD), encoding="utf-8")
    return tmp_path


def test_table_has_means_deviations_and_provenance(root):
    filled = lab_records.fill_in(TEXT, root)
    assert "| 小的 | 0.6000 ± 0.1414 |\n| 大的 | 101.0 ± 1.4 |" in filled
    assert (
        "某数据集；2026-01-02，torch 2.0，Python 3.11，某机器，2 个种子，共 12 秒 CPU。" in filled
    )
    assert filled.startswith("前\n\n|") and filled.endswith("后\n")


def test_text_without_a_record_stays(root):
    assert lab_records.fill_in("<!-- 注释 -->\n", root) == "<!-- 注释 -->\n"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("one.lab", "two.lab", "two.json has no results 'lab'"),
        ("one.lab", "one.other", "one.json has no results 'other'"),
        ("small:", "tiny:", "one.json: no 'tiny'; there are small, large"),
    ],
)
def test_what_is_missing_is_named(root, old, new, message):
    with pytest.raises(PublishingError, match=message):
        lab_records.fill_in(TEXT.replace(old, new), root)
