"""The bibliography and the links of the pages are about the same works, each named once."""

import pytest

from publishing import ROOT, PublishingError, bibliography, lists
from tests.site.built import SOURCES

BOOK = lists.Book(ROOT, SOURCES)
WORKS = bibliography.read(ROOT / "docs" / "references.bib")
CITED = {(page, link) for page, text in BOOK.texts.items() for link in bibliography.cited(text)}


def test_every_link_to_a_work_has_one_entry():
    found = {(page, link): [work.key for work in WORKS if work.is_at(link)] for page, link in CITED}
    assert {at: keys for at, keys in found.items() if len(keys) != 1} == {}


def test_every_entry_is_cited():
    links = {link for _, link in CITED}
    assert [work.key for work in WORKS if not any(map(work.is_at, links))] == []


def test_no_work_has_two_entries():
    links = [bibliography.identity(link) for work in WORKS for link in work.links.values()]
    assert sorted({link for link in links if links.count(link) > 1}) == []
    titles = [work.title.lower() for work in WORKS]
    assert sorted({title for title in titles if titles.count(title) > 1}) == []


def test_the_file_is_sorted_by_key():
    text = (ROOT / "docs" / "references.bib").read_text(encoding="utf-8")
    keys = [line.partition("{")[2].strip(",") for line in text.splitlines() if line[:1] == "@"]
    assert len(keys) == len(WORKS) and keys == sorted(keys)


def test_every_chapter_cites_something():
    assert set(BOOK.chapters) - {page for page, _ in CITED} == set()


def test_the_list_names_every_work_and_where_it_is_cited():
    text = lists.references(BOOK)
    assert [work.key for work in WORKS if f"{{: #{work.key} }}" not in text] == []
    adam = next(line for line in text.splitlines() if "Adam: A Method" in line)
    assert "D. P. Kingma, J. Ba，2015" in adam
    assert "(training/optimizers.md#references)" in adam


@pytest.mark.parametrize(
    ("link", "name"),
    [
        ("https://doi.org/10.1016/0893-6080(91)90009-T", "doi:10.1016/0893-6080(91)90009-t"),
        ("https://doi.org/10.1016/0893-6080%2891%2990009-T", "doi:10.1016/0893-6080(91)90009-t"),
        ("https://arxiv.org/pdf/1412.6980v9.pdf", "arxiv:1412.6980"),
        ("https://arxiv.org/abs/1412.6980", "arxiv:1412.6980"),
        ("https://www.jmlr.org/papers/v5/x.html", "jmlr.org/papers/v5/x.html"),
    ],
)
def test_forms_of_a_link_name_the_same_work(link, name):
    assert bibliography.identity(link) == name


def test_a_link_with_brackets_is_read_to_its_end():
    [link] = bibliography.cited("（[*T*](https://doi.org/10.1016/0893-6080(91)90009-T)）。")
    assert link.endswith("90009-T")


ENTRY = "@misc{%s, author={A, B}, title={T}, year={%s}, %s={%s}}"


@pytest.mark.parametrize(
    ("entries", "complaint"),
    [
        ([("a1", "2015", "eprint", "1412.698")], "a1 has an ill-formed eprint"),
        ([("a1", "2015", "doi", "doi:10.1000/x")], "a1 has an ill-formed doi"),
        ([("a1", "15", "doi", "10.1000/x")], "a1 has an ill-formed year"),
        ([("a1", "2015", "url", "http://a.example/")], "a1 has an ill-formed url"),
        ([("a1", "2015", "note", "x")], "a1 has no doi, eprint or url"),
        ([("a1", "2015", "doi", "10.1000/x")] * 2, "repeated bibliography entry: a1"),
    ],
)
def test_a_bad_entry_is_named(tmp_path, entries, complaint):
    file = tmp_path / "bad.bib"
    file.write_text("\n".join(ENTRY % entry for entry in entries), encoding="utf-8")
    with pytest.raises(PublishingError, match=f"bad.bib: {complaint}"):
        bibliography.read(file)
