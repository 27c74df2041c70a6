"""What a first visit costs over the network, compressed; the budgets stand in the design."""

import pytest

from tests.site.built import CHAPTERS, LABS, NAV, load_images

KB = 1000
LIMITS = {"all": 200 * KB, "html": 40 * KB, "javascript": 60 * KB}
REQUESTS = 25
TO_THE_END = 250 * KB
"""What a reader has loaded who has read a chapter or a lab to its last figure."""

HEADERS = 250
"""About what the headers of an answer take."""


def _loaded(server) -> list[tuple[str, str, int]]:
    """Return kind, path and compressed size of everything that was asked for."""
    loaded = []
    for path in server.asked:
        _, kind, _, data = server.answer(path)
        kind = kind.partition(";")[0].rpartition("/")[2]
        loaded.append((kind, path, len(data) + HEADERS))
    return loaded


def _listing(loaded: list) -> str:
    ordered = sorted(loaded, key=lambda one: -one[2])
    return "\n".join(f"{size / KB:7.1f} KB  {kind:10} {path}" for kind, path, size in ordered)


@pytest.mark.parametrize("page", NAV)
def test_page_keeps_to_the_budget(visit, server, page):
    server.asked.clear()
    with visit(width=412, height=823, device_scale_factor=1.75) as visitor:
        tab = visitor.open(page)
        tab.wait_for_load_state("networkidle")
        at_first = _loaded(server)
        assert len(at_first) <= REQUESTS, _listing(at_first)
        for kind, limit in LIMITS.items():
            total = sum(size for what, _, size in at_first if kind in ("all", what))
            assert total <= limit, f"{kind}: {total / KB:.0f} KB\n{_listing(at_first)}"
        if page in CHAPTERS or page in LABS:
            load_images(tab)
            to_the_end = _loaded(server)
            total = sum(size for *_, size in to_the_end)
            assert total <= TO_THE_END, f"{total / KB:.0f} KB\n{_listing(to_the_end)}"
        assert visitor.foreign == []


def test_formulas_cost_no_script(site):
    for file in site.rglob("*.js"):
        assert not any(name in file.name.lower() for name in ("katex", "mathjax", "temml"))
