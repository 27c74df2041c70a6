"""What is in `.build/` is whole and true, or is made again; nothing is written for nothing."""

import errno
import os
import shutil

import filelock
import pytest

from publishing import ROOT, runner, store
from publishing.modules import Module, find_modules
from tests.publishing.tiny import MODULE_FILE, Book

RECORDS = ("part/chapter/figure_line.json", "part/chapter/experiment_noise.json")
DRAWINGS = ("part/chapter/line.light.svg", "part/chapter/line.dark.svg")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Book:
    """A book whose modules have run; copied by `whole`, not to be changed."""
    book = Book(tmp_path_factory.mktemp("made"))
    book.run()
    return book


@pytest.fixture
def whole(book, made) -> Book:
    """A book whose modules have run, to be damaged."""
    shutil.copytree(made.build, book.build)
    return book


def functions_made_again(book: Book) -> set[str]:
    stale = {task.function for task in runner.stale_tasks(book.modules)}
    book.run()
    assert runner.stale_tasks(book.modules) == []
    return stale


def test_all_that_is_made_is_a_record_each_and_two_drawings_a_figure(whole):
    assert set(whole.results()) == {*RECORDS, *DRAWINGS}


DAMAGE = {
    "deleted": lambda data: None,
    "empty": lambda data: b"",
    "truncated": lambda data: data[: len(data) // 2],
    "one byte short": lambda data: data[:-1],
    "edited": lambda data: data.replace(b"0", b"1", 1),
    "rubbish": lambda data: b"\xff\x00[]",
    "other JSON": lambda data: b"[]",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("name", [RECORDS[1], DRAWINGS[0], DRAWINGS[1]])
def test_a_damaged_file_is_noticed(whole, name, damage):
    file = whole.build / name
    before, data = file.read_bytes(), damage(file.read_bytes())
    assert data != before
    file.unlink() if data is None else file.write_bytes(data)
    function = "experiment_noise" if name == RECORDS[1] else "figure_line"
    assert [task.function for task in runner.stale_tasks(whole.modules)] == [function]


def test_what_is_damaged_is_made_again_and_nothing_else(whole):
    before = whole.results()
    for name in (RECORDS[1], DRAWINGS[0]):
        (whole.build / name).write_bytes(before[name][0][:-20])
    assert functions_made_again(whole) == {"experiment_noise", "figure_line"}
    after = whole.results()
    # Drawn again byte for byte, and what was whole was not written to.
    assert after[DRAWINGS[0]][0] == before[DRAWINGS[0]][0]
    assert after[DRAWINGS[1]] == before[DRAWINGS[1]]


def test_an_edited_number_does_not_reach_a_page(whole):
    file = whole.build / RECORDS[1]
    text = file.read_text()
    assert "8.0" in text
    file.write_text(text.replace("8.0", "9.0"))
    with pytest.raises(KeyError, match="no stored result"):
        runner.values(whole.modules[0], "noise")
    whole.run()
    assert runner.values(whole.modules[0], "noise")["loss"][-1] == 8.0


def test_a_deleted_build_folder_is_made_again(whole):
    before = whole.results()
    shutil.rmtree(whole.build)
    assert functions_made_again(whole) == {"figure_line", "experiment_noise"}
    after = whole.results()
    assert {name: after[name][0] for name in DRAWINGS} == {
        name: before[name][0] for name in DRAWINGS
    }


def test_a_file_in_place_of_the_folder_is_named(book):
    book.write(".build", "")
    message = book.run_failing()
    assert message.startswith(f"cannot write {book.build}/lock: ")
    assert "\n" not in message


def test_a_lock_that_cannot_be_opened_is_named(book):
    (book.build / "lock").mkdir(parents=True)
    assert book.run_failing().startswith(f"cannot write {book.build}/lock: Is a directory. ")


def test_a_full_disk_leaves_earlier_results_as_they_were(whole, monkeypatch):
    before = whole.results()
    whole.edit(MODULE_FILE, "return 2 * x", "return 3 * x")
    replace, calls = os.replace, []

    def full(source, target):
        if calls:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        calls.append(target)
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    message = whole.run_failing()
    assert message.startswith(f"cannot write {whole.build}/part/chapter/")
    assert "No space left on device. Earlier results are unchanged" in message
    assert "\n" not in message
    after = whole.results()
    assert after.keys() == before.keys()  # no half-written file is left lying about
    assert sum(after[name] != before[name] for name in after) == 1
    monkeypatch.undo()
    whole.run()
    assert runner.values(whole.modules[0], "noise")["loss"][-1] == 12.0


def test_figures_are_drawn_the_same_in_a_fresh_folder(tmp_path):
    """A figure of every chapter, drawn once more, is byte for byte what is stored."""
    modules = [module for module in find_modules() if module.figures]
    runner.bring_up_to_date(modules)
    for name in ("snippets", "records"):
        shutil.copytree(ROOT / name, tmp_path / name)
    compared = 0
    again = [Module(module.path, tmp_path) for module in modules]
    for module, copy in zip(modules, again, strict=True):  # the rest need not run again
        shutil.copytree(store.folder(module), store.folder(copy))
        (store.folder(copy) / f"figure_{module.figures[0]}.json").unlink()
    runner.bring_up_to_date(again)
    for module, copy in zip(modules, again, strict=True):
        record = store.load(module, f"figure_{module.figures[0]}")
        if record.machine != store.machine():
            continue  # another processor may round otherwise
        compared += 1
        drawn = store.load(copy, f"figure_{module.figures[0]}")
        assert drawn.files == record.files, f"{module.relative_file}: {record.function}()"
    if not compared:
        pytest.skip("the stored figures were all drawn on another machine")


def test_no_byte_is_written_for_nothing(tmp_path):
    file = tmp_path / "folder" / "file"
    assert store.write_atomically(file, b"one")
    stamp = file.stat().st_mtime_ns
    assert not store.write_atomically(file, b"one")
    assert file.stat().st_mtime_ns == stamp
    assert store.write_atomically(file, b"two")
    assert file.read_bytes() == b"two"
    assert list(file.parent.iterdir()) == [file]


def test_the_size_of_a_drawing_is_that_of_its_root_element(whole):
    assert store.figure_size(whole.modules[0], "line", "light") == (461, 307)  # 4.8 × 3.2 in
    assert store.figure_size(whole.modules[0], "none", "light") == (0, 0)


def test_what_nobody_makes_any_more_is_deleted(whole):
    before = whole.results()
    strays = [
        whole.write(f".build/{name}", "")
        for name in (
            "part/old/figure_x.json",
            "part/old/x.light.svg",
            "part/chapter/experiment_gone.json",
            "part/chapter/.tmp123.part",
        )
    ]
    unknown = whole.write(".build/notes.txt", "not ours")
    store.prune(whole.modules)
    assert not any(stray.exists() for stray in strays)
    assert unknown.exists()
    unknown.unlink()
    assert whole.results() == before


def test_nothing_is_deleted_under_a_build_that_is_running(whole):
    half_written = whole.write(".build/part/chapter/.tmp123.part", "")
    with filelock.FileLock(whole.build / "lock"):
        store.prune(whole.modules)
        assert half_written.exists()
    store.prune(whole.modules)
    assert not half_written.exists()


def test_there_is_nothing_to_tidy_before_the_first_run(book):
    store.prune(book.modules)
    assert not book.build.exists()


def test_notebooks_of_labs_are_not_the_modules_to_tidy(whole):
    kept = whole.build / "labs" / "race.ipynb"
    kept.parent.mkdir()
    kept.write_text("{}")
    store.prune(whole.modules)
    assert kept.is_file()


def test_what_is_kept_comes_back_under_its_own_version_only(tmp_path):
    store.keep(tmp_path, "pages.pickle", "v1", b"two\nlines")
    assert store.recall(tmp_path, "pages.pickle", "v1") == b"two\nlines"
    assert store.recall(tmp_path, "pages.pickle", "v2") is None
    assert store.recall(tmp_path, "formulas.json", "v1") is None


@pytest.mark.parametrize("how", [how for how in DAMAGE if how != "deleted"])
def test_a_damaged_keepsake_counts_as_missing(tmp_path, how):
    store.keep(tmp_path, "formulas.json", "v1", b'{"a": "10"}')
    file = store.build_folder(tmp_path) / "formulas.json"
    file.write_bytes(DAMAGE[how](file.read_bytes()))
    assert store.recall(tmp_path, "formulas.json", "v1") is None


def test_a_disk_that_takes_nothing_costs_only_time(tmp_path):
    (tmp_path / ".build").write_text("a file where the folder should be")
    store.keep(tmp_path, "formulas.json", "v1", b"{}")
    assert store.recall(tmp_path, "formulas.json", "v1") is None
