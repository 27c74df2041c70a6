"""What holds for every lab: it ran whole, stays light, and needs nothing of the repository."""

import gzip
import json
import re

import pytest

from publishing import lab_pages, labs

NAMES = [lab.name for lab in labs.find_labs()]


@pytest.fixture(params=NAMES)
def lab(request, ran):
    return ran(request.param)


def test_no_cell_failed(lab):
    outputs = [output for cell in lab.executed["cells"] for output in cell.get("outputs", [])]
    assert outputs
    assert [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"] == []


def test_every_code_cell_ran_in_order(lab):
    counts = [c["execution_count"] for c in lab.executed["cells"] if c["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1))


def test_imports_nothing_of_the_repository(lab):
    assert not re.search(r"(?m)^\s*(from|import) (snippets|publishing|tests)\b", lab.source)


def test_runs_within_its_budget(lab):
    # CPU seconds, kept with the notebook when it ran; a busy machine makes them more.
    assert lab.executed["metadata"]["book"]["seconds"] <= 60


def test_figures_are_light_and_have_texts(lab):
    found = lab_pages.drawings(lab)
    assert len(found) >= 6  # three figures, in two themes
    for path, svg in found.items():
        assert len(gzip.compress(svg.encode())) <= 60_000, path
        assert "<dc:date>" not in svg or "1970" in svg, path
    assert lab_pages.page(lab).count("/// figure-caption") == len(found) // 2


def test_figures_hold_only_colours_with_a_dark_counterpart(lab):
    dark = lab.executed["metadata"]["book"]["dark"]
    assert set(dark) & set(re.findall("#[0-9a-f]{6}", "".join(lab_pages.drawings(lab).values())))


def test_notebook_is_whole_and_of_a_size_to_download(lab):
    notebook = lab_pages.notebook(lab)
    cells = json.loads(notebook)["cells"]
    assert len(notebook) < 3_000_000
    assert sum(bool(cell.get("outputs")) for cell in cells) >= 4
    texts = "".join(cell["source"] for cell in cells if cell["cell_type"] == "markdown")
    assert "{#" not in texts and ".md)" not in texts


def test_size_of_a_lab_is_that_of_an_exploration(lab):
    assert 150 <= len(lab.source.splitlines()) <= 450
