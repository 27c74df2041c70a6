"""The labs as they were run, for tests of what they claim."""

from collections.abc import Callable

import pytest

from publishing import lab_pages, labs
from publishing.labs import Lab


@pytest.fixture(scope="session")
def ran() -> Callable[[str], Lab]:
    """Return a function: name → a lab that is up to date."""

    def lab(name: str) -> Lab:
        found = Lab(name)
        labs.bring_up_to_date([found])
        return found

    return lab


@pytest.fixture(scope="session")
def printed(ran) -> Callable[[str], str]:
    """Return a function: name → everything that a lab printed."""
    return lambda name: "\n".join(
        lab_pages.output_text(cell)
        for cell in ran(name).executed["cells"]
        if cell["cell_type"] == "code"
    )
