"""`make lighthouse`: what Lighthouse says of some pages, as a table of medians.

Lighthouse comes from npm, so this needs Node.js, and a Chromium; the site is built strictly and
served from this machine, compressed as a real server would.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from tests.site.built import (
    CHAPTERS,
    CHROMIUM,
    CHROMIUM_FLAGS,
    LABS,
    NAV,
    Server,
    build,
    file_of,
)

LIGHTHOUSE = "lighthouse@12.8.2"
CATEGORIES = ("performance", "accessibility", "best-practices", "seo")


def typical(site: Path) -> list[str]:
    """Return the front page, two chapters, a lab, the page with most formulas, the longest."""
    texts = {page: file_of(site, page).read_text(encoding="utf-8") for page in NAV}
    formulas = max(texts, key=lambda page: texts[page].count("<math"))
    longest = max(texts, key=lambda page: len(texts[page]))
    chosen = ["", "linear/gradient_descent/", CHAPTERS[-1], LABS[0], formulas, longest]
    return list(dict.fromkeys(chosen))


def measure(address: str, form: str) -> dict[str, float]:
    """Return the four scores (0 to 100) and the main figures of one run."""
    flags = " ".join(["--headless=new", *CHROMIUM_FLAGS])
    command = ["npx", "--yes", LIGHTHOUSE, address, "--output=json", "--quiet"]
    command += [f"--chrome-flags={flags}", f"--only-categories={','.join(CATEGORIES)}"]
    if form == "desktop":
        command.append("--preset=desktop")
    # The package's helpers would fetch a browser of their own when they are installed.
    environment = {**os.environ, "CHROME_PATH": CHROMIUM, "PUPPETEER_SKIP_DOWNLOAD": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"Lighthouse failed on {address}:\n{done.stderr}")
    report = json.loads(done.stdout)
    audits = report["audits"]
    found = {name: 100 * report["categories"][name]["score"] for name in CATEGORIES}
    found["LCP ms"] = audits["largest-contentful-paint"]["numericValue"]
    found["TBT ms"] = audits["total-blocking-time"]["numericValue"]
    found["CLS"] = audits["cumulative-layout-shift"]["numericValue"]
    found["KB"] = audits["total-byte-weight"]["numericValue"] / 1000
    found["requests"] = len(audits["network-requests"]["details"]["items"])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pages", nargs="*", help="addresses below the site's root, `linear/x/`")
    parser.add_argument("--runs", type=int, default=5, help="runs of each page (default: 5)")
    parser.add_argument("--form", choices=("mobile", "desktop"), default="mobile")
    options = parser.parse_args()
    if CHROMIUM is None or shutil.which("npx") is None:
        sys.exit("Lighthouse needs Node.js (npx) and Chromium; install both.")
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / "site"
        build(site, REPO_URL="https://github.example/someone/notes", SITE_URL="")
        server = Server(site)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        head = None
        for page in options.pages or typical(site):
            runs = [measure(server.address + page, options.form) for _ in range(options.runs)]
            if head is None:
                head = list(runs[0])
                print(f"{LIGHTHOUSE}, {options.form}, median of {options.runs}\n")
                print("| page | " + " | ".join(head) + " |")
                print("|---|" + "---|" * len(head))
            medians = (statistics.median(run[name] for run in runs) for name in head)
            cells = (
                f"{value:.3f}" if name == "CLS" else f"{value:.0f}"
                for name, value in zip(head, medians, strict=True)
            )
            print(f"| /{page} | " + " | ".join(cells) + " |", flush=True)
        server.shutdown()


if __name__ == "__main__":
    main()
