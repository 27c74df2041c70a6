"""`python -m publishing`: run what is stale, a line per module or lab, and build no site."""

import sys

from publishing import PublishingError, labs, runner, store
from publishing.modules import find_modules


def main() -> int:
    try:
        modules = find_modules()
        runner.bring_up_to_date(modules, lambda line: print(line, flush=True))
        store.prune(modules)
        found = labs.find_labs()
        labs.bring_up_to_date(found, lambda line: print(line, flush=True))
        labs.prune(found)
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
