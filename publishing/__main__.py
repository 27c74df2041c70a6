"""`python -m publishing`: run what is stale, a line per module or lab, and build no site.

`python -m publishing notebooks` makes every chapter's notebook as well, in `.build/`.
"""

import os
import sys

from publishing import PublishingError, labs, notebooks, plain, runner, store
from publishing.modules import Module, find_modules


def _report(line: str) -> None:
    print(line, flush=True)


def _sources(modules: list[Module]) -> list[plain.Source]:
    """Return the chapters: the pages that a module of the same path belongs to."""
    site_url = os.environ.get("SITE_URL", "http://127.0.0.1:8000/")
    found = []
    for module in modules:
        page = module.root / "docs" / "zh" / f"{module.path}.md"
        if "/" in module.path and page.is_file():
            text = page.read_text(encoding="utf-8")
            found.append(plain.Source(f"{module.path}.md", text, site_url, module))
    return found


def main() -> int:
    try:
        modules = find_modules()
        runner.bring_up_to_date(modules, _report)
        store.prune(modules)
        found = labs.find_labs()
        labs.bring_up_to_date(found, _report)
        labs.prune(found)
        if sys.argv[1:] == ["notebooks"]:
            notebooks.bring_up_to_date(_sources(modules), _report)
        print(f"{len(modules)} modules and {len(found)} labs are up to date in .build/")
    except PublishingError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; what had finished is kept", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
