# make serve · make site · make pdf · make offline · make test · make bench · make clean …; each sets up .venv when it is stale.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export NO_MKDOCS_2_WARNING := 1

.PHONY: help serve site pdf offline test bench lighthouse validate lock clean

help:
	@echo "make serve   build what is missing and serve the book on http://127.0.0.1:8000/"
	@echo "make site    write the finished book to site/, strictly"
	@echo "make pdf     print the finished book to book.pdf; needs Chromium or Chrome"
	@echo "make offline pack the finished book into notes-offline.zip, to read from a disk"
	@echo "make test    run every test"
	@echo "make bench   measure the budgets beside their yardsticks"
	@echo "make lighthouse  measure typical pages in a browser; needs Node.js and Chromium"
	@echo "make validate  check every page's HTML; needs Node.js and Java"
	@echo "make lock    resolve requirements.in into requirements.txt"
	@echo "make clean   delete what was made"

$(STAMP): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -r requirements.txt
	@touch $@

serve: $(STAMP)
	$(BIN)/python -m mkdocs serve

site: $(STAMP)
	$(BIN)/python -m mkdocs build --strict

pdf: site
	$(BIN)/python -m publishing.book_pdf

offline: site
	$(BIN)/python -m publishing.offline

test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m publishing notebooks
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal

bench: $(STAMP)
	$(BIN)/python -m publishing.bench

lighthouse: $(STAMP)
	$(BIN)/python -m tests.site.lighthouse

validate: site
	npm_config_ignore_scripts=true npx --yes vnu-jar@26.9.27 --errors-only --skip-non-html site
	@echo "every page is valid HTML"

lock:
	uv pip compile --universal --python-version 3.11 --no-header requirements.in -o requirements.txt

clean:
	rm -rf .build site book.pdf notes-offline.zip
