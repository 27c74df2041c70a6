"""What a first visit costs over the network, compressed; the budgets stand in the design."""

import pytest

from tests.site.built import CHAPTERS, load_images

KB = 1000
LIMITS = {"all": 200 * KB, "html": 40 * KB, "javascript": 60 * KB}
REQUESTS = 25


HEADERS = 250
"""About what the headers of an answer take."""


def _visit(visit, server, page: str, to_the_end: bool) -> list[tuple[str, str, int]]:
    """Return kind, path and compressed size of everything that a first visit loads."""
    server.asked.clear()
    with visit(width=412, height=823, device_scale_factor=1.75) as visitor:
        tab = visitor.open(page)
        if to_the_end:
            load_images(tab)
        tab.wait_for_load_state("networkidle")
        assert visitor.foreign == []
    loaded = []
    for path in server.asked:
        _, kind, _, data = server.answer(path)
        kind = kind.partition(";")[0].rpartition("/")[2]
        loaded.append((kind, path, len(data) + HEADERS))
    return loaded


def _listing(loaded: list) -> str:
    ordered = sorted(loaded, key=lambda one: -one[2])
    return "\n".join(f"{size / KB:7.1f} KB  {kind:10} {path}" for kind, path, size in ordered)


@pytest.mark.parametrize("page", ["", *CHAPTERS])
def test_first_visit_keeps_to_the_budget(visit, server, page):
    loaded = _visit(visit, server, page, to_the_end=False)
    assert len(loaded) <= REQUESTS, _listing(loaded)
    for kind, limit in LIMITS.items():
        total = sum(size for what, _, size in loaded if kind in ("all", what))
        assert total <= limit, f"{kind}: {total / KB:.0f} KB\n{_listing(loaded)}"


@pytest.mark.parametrize("page", CHAPTERS)
def test_page_read_to_the_end_keeps_to_the_budget(visit, server, page):
    loaded = _visit(visit, server, page, to_the_end=True)
    total = sum(size for *_, size in loaded)
    assert total <= 250 * KB, f"{total / KB:.0f} KB\n{_listing(loaded)}"


def test_formulas_cost_no_script(site):
    for file in site.rglob("*.js"):
        assert not any(name in file.name.lower() for name in ("katex", "mathjax", "temml"))
