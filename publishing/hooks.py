"""The only part that knows MkDocs: it calls the rest of `publishing` at the right moments."""

import json
import logging
import pickle
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from urllib.parse import urlencode

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # a bare `mkdocs` does not look in its working directory
    sys.path.insert(0, str(ROOT))

import material.plugins.search.plugin as material_search  # noqa: E402
import mkdocs_jupyter.config as mkdocs_jupyter  # noqa: E402
from mkdocs.exceptions import PluginError  # noqa: E402
from mkdocs.plugins import event_priority  # noqa: E402
from mkdocs.structure.files import File  # noqa: E402
from mkdocs.structure.pages import Page  # noqa: E402

from publishing import (  # noqa: E402
    PublishingError,
    alone,
    cards,
    contract,
    downloads,
    formulas,
    glossary,
    lab_pages,
    labs,
    lists,
    notebooks,
    pages,
    plain,
    repairs,
    runner,
    store,
)
from publishing.markdown import PublishingExtension  # noqa: E402
from publishing.modules import Module, find_modules  # noqa: E402

log = logging.getLogger("mkdocs.hooks.publishing")

# Material segments Chinese with jieba wherever that happens to be installed. The index must not
# depend on the machine, and the search tests pass without it.
material_search.jieba = None

mkdocs_jupyter.settings.templates_dir = str(lab_pages.TEMPLATES)


class RememberingIndex(material_search.SearchIndex):
    """Reads a page into the search index only if it changed: that is a third of a rebuild."""

    def add_entry_from_context(self, page):
        state = repr((page.url, page.title, page.meta, page.content))
        key = sha256(state.encode()).hexdigest()
        _in_use.add(key)
        if key not in _index_entries:
            first = len(self.entries)
            super().add_entry_from_context(page)
            _index_entries[key] = self.entries[first:]
        else:
            self.entries += _index_entries[key]

    def generate_search_index(self, prev):
        """Note in the index which section the glossary names as the definition of a term."""
        for entry in self.entries:
            page, _, anchor = entry["location"].partition("#")
            entry.pop("terms", None)
            if names := _definitions.get((f"{page.rstrip('/')}.md", anchor)):
                entry["terms"] = names
        return super().generate_search_index(prev)


material_search.SearchIndex = RememberingIndex

_modules: dict[str, Module] = {}
_labs: dict[str, labs.Lab] = {}  # by source path
_lab_texts: dict[str, str] = {}  # their pages' Markdown, by source path
_definitions: dict[tuple[str, str], list[str]] = {}  # of the glossary: page, anchor → terms
_serving: list[str] = []  # the command, if it is `mkdocs serve`


RENDERED_ATTRIBUTES = ("content", "toc", "present_anchor_ids", "_title_from_render")
"""What converting a page's Markdown sets, beside `links_to_anchors`."""


def _state(page) -> dict:
    """Return what Page.render has set, in a form that can be kept."""
    links = page.links_to_anchors or {}
    state = {name: getattr(page, name) for name in RENDERED_ATTRIBUTES}
    return state | {"key": page.key, "links": {file.src_uri: links[file] for file in links}}


def _restore(page, state: dict, files) -> None:
    """Set what Page.render would have set."""
    for name in RENDERED_ATTRIBUTES:
        setattr(page, name, state[name])
    page.links_to_anchors = {
        files.get_file_from_path(path): anchors for path, anchors in state["links"].items()
    }


class Complaints(logging.Handler):
    """Counts warnings: a page that caused one is rendered again, to warn again."""

    count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1


# By source path. All outlive a rebuild under `mkdocs serve`, and the first two the process: a build
# with nothing changed converts no page.
_rendered: dict[str, dict] = {}
_index_entries: dict[str, list[dict]] = {}  # by a hash of what they were read from
_on_disk: set[str] = set()  # what names the two that `pages.pickle` holds
_in_use: set[str] = set()  # keys of the two, met in this build
_finished: dict[str, tuple[str, str]] = {}  # a page before and after `on_post_page`
_complaints = Complaints(logging.WARNING)
logging.getLogger("mkdocs").addHandler(_complaints)

RENDERERS = (
    "mkdocs",
    "mkdocs-material",
    "mkdocs-jupyter",
    "nbconvert",
    "Markdown",
    "pymdown-extensions",
    "Pygments",
)


@cache
def _rendering_version() -> str:
    """Name what a page's HTML depends on beside the book: the programs that make it."""
    digest = sha256(repr([python_version(), *map(version, RENDERERS)]).encode())
    ours = [*(ROOT / "publishing").glob("*.py"), *lab_pages.TEMPLATES.rglob("*.j2")]
    for file in sorted(ours):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _recall_pages() -> None:
    if not _rendered and (body := store.recall(ROOT, "pages.pickle", _rendering_version())):
        rendered, entries = pickle.loads(body)
        _rendered.update(rendered)
        _index_entries.update(entries)
        _on_disk.update(_names())


def _names() -> set[str]:
    """Name what would be kept, to see whether it is what is on disk."""
    return {*_index_entries, *(state["key"] for state in _rendered.values())}


def _problem(page):
    return lambda text: log.warning("%s: %s", page.file.src_uri, text)


def _origin() -> str:
    """Return the clone's `origin` as a web address, or nothing."""
    try:
        answer = subprocess.run(
            ["git", "config", "--get", "remote.origin.url"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    address = answer.stdout.strip().removesuffix(".git")
    if address.startswith("git@"):
        address = "https://" + address.removeprefix("git@").replace(":", "/", 1)
    return address if address.startswith("https://") else ""


def on_startup(*, command, dirty):
    _serving.clear()
    if command == "serve":
        _serving.append(command)
        runner.warm_up()


def on_config(config):
    if not config.repo_url:
        config.repo_url = _origin() or None
    if config.repo_url:
        config.repo_name = config.repo_name or config.repo_url.rstrip("/").rpartition("/")[2]
    else:
        config.edit_uri = None
    return config


def on_files(files, config):
    modules = find_modules()
    _modules.clear()
    _modules.update({module.path: module for module in modules})
    try:
        runner.bring_up_to_date(modules, log.info)
        files = _with_labs(files, config)
        for problem in contract.problems(ROOT, modules):
            log.warning(problem)
    except PublishingError as error:
        raise PluginError(str(error)) from error
    store.prune(modules)
    formulas.recall(ROOT)
    cards.recall(ROOT)
    _recall_pages()
    book = config.extra["book"] = lists.Book(ROOT, list(_nav_pages(config.nav)))
    try:
        terms = book.texts.get("glossary.md", "")
        config.extra["abbreviations"] = glossary.abbreviations(terms)
        _definitions.clear()
        _definitions.update(glossary.definitions(terms))
        standalone = alone.standalone_files(modules)
        _make_downloads(config, book, modules)
    except PublishingError as error:
        raise PluginError(str(error)) from error

    for file in sorted((ROOT / "docs" / "assets").rglob("*")):
        if file.is_file() and file.suffix not in {".md", ".txt"}:
            files.append(_copied(config, ROOT / "docs", file))
    files.append(_copied(config, ROOT / "docs", ROOT / "docs" / "references.bib"))
    for module in modules:
        for name in module.figures:
            for theme in store.THEMES:
                file = store.figure_file(module, name, theme)
                files.append(_copied(config, store.build_folder(ROOT), file))
        if card := cards.of_module(module):
            files.append(File.generated(config, _card(module.path), content=card))
        files.append(
            File.generated(config, f"code/{module.path}.md", content=pages.module_page(module))
        )
        text = standalone[module.path]
        files.append(File.generated(config, f"code/{module.path}.py", content=text))
        if module.record_file.is_file():
            beside = f"code/{module.path}.py".rpartition("/")[0]
            file = File.generated(
                config,
                f"{beside}/{module.record_file.name}",
                abs_src_path=str(module.record_file),
            )
            files.append(file)
    return files


def _card(path: str) -> str:
    return f"assets/cards/{path}.png"


def _card_url(page, config) -> str:
    """Return the address of a page's card; pages without a figure share the front page's."""
    module = _module_of(page)
    path = module.path if module is not None and module.figures else "index"
    return f"{config.site_url or ''}{_card(path)}"


def _make_downloads(config, book: lists.Book, modules: list[Module]) -> None:
    """Make what readers can take away; not under `mkdocs serve`, which is to answer at once."""
    if _serving:
        return
    site = downloads.Site(
        config.site_name,
        config.site_description,
        config.site_url or "/",
        downloads.sections(config.nav),
    )
    gathered = {page for page, text in book.texts.items() if lists.LIST.search(text)}
    try:
        downloads.bring_up_to_date(site, modules, book.texts, gathered, log.info)
    except plain.PageError as error:  # rendering the page will warn
        log.info("the downloads stay as they were: %s", error)


def _with_labs(files, config):
    """Put the labs' pages, figures and notebooks in the place of their scripts' pages."""
    found = labs.find_labs()
    labs.bring_up_to_date(found, log.info)
    labs.prune(found)
    _labs.clear()
    _lab_texts.clear()
    for lab in found:
        page = File.generated(config, f"{lab.path}.md", abs_src_path=str(lab.printed_file))
        _labs[page.src_uri] = lab
        _lab_texts[page.src_uri] = lab_pages.page(lab)
        files.append(page)
        made = {f"{lab.path}.ipynb": lab_pages.notebook(lab)} | lab_pages.drawings(lab)
        for path, content in made.items():
            files.append(File.generated(config, path, content=content))
    return files


def on_page_read_source(page, config):
    return _lab_texts.get(page.file.src_uri)


def _lab_renderer(page, lab: labs.Lab):
    """Return how a lab is rendered: prose by the site's Markdown, its cells by mkdocs-jupyter."""
    render_notebook = page.render  # as mkdocs-jupyter has set it for this page

    def render(config, files):
        Page.render(page, config, files)
        contents = page.toc
        notebook = lab_pages.printed(lab, page.content)
        store.write_atomically(lab.printed_file, notebook.encode())
        render_notebook(config, files)
        page.content = lab_pages.without_style(page.content)
        page.toc = contents

    return render


def _nav_pages(nav) -> Iterator[str]:
    """Yield the pages of a nav in order: strings, in lists and in mappings from titles."""
    if isinstance(nav, str):
        yield nav
    else:
        for entry in nav.values() if isinstance(nav, dict) else nav or []:
            yield from _nav_pages(entry)


def _copied(config, base: Path, file: Path) -> File:
    return File.generated(config, file.relative_to(base).as_posix(), abs_src_path=str(file))


def _module_of(page) -> Module | None:
    return _modules.get(page.file.src_uri.removesuffix(".md"))


def on_env(env, config, files):
    env.globals["structured_data"] = _structured_data
    env.globals["card_url"] = _card_url
    return env


def _structured_data(page, config, nav) -> str:
    """Describe a page to search engines: the book, or one of its chapters (schema.org)."""
    book = {
        "@context": "https://schema.org",
        "@type": "Book",
        "name": config.site_name,
        "url": config.site_url,
        "inLanguage": "zh-CN",
        "isAccessibleForFree": True,
        "license": "https://creativecommons.org/licenses/by-sa/4.0/",
    }
    if page.is_homepage:
        found = book | {"description": config.site_description, "bookFormat": "EBook"}
        found["author"] = {"@type": "Organization", "name": config.site_author}
    else:
        found = {
            "@context": "https://schema.org",
            "@type": ["Chapter", "LearningResource"] if _module_of(page) else "WebPage",
            "name": page.meta.get("title", page.title),
            "description": page.meta.get("description", config.site_description),
            "url": page.canonical_url,
            "inLanguage": "zh-CN",
            "isPartOf": {key: book[key] for key in ("@type", "name", "url")},
        }
        if _module_of(page):
            found |= {"learningResourceType": "textbook chapter", "educationalLevel": "university"}
    return json.dumps(found, ensure_ascii=False).replace("</", "<\\/")


def on_page_markdown(markdown, page, config, files):
    problem = _problem(page)
    src = page.file.src_uri
    lab = _labs.get(src)
    if lab is not None and config.repo_url and config.edit_uri:
        script = f"{config.edit_uri}{lab.path}.py"
        page.edit_url = f"{config.repo_url.rstrip('/')}/{script}"
    up = "../" * src.count("/")
    book = config.extra["book"]
    abbreviations = config.extra["abbreviations"] if src in book.chapters else []
    extension = PublishingExtension(
        module=_module_of(page),
        modules=list(_modules.values()),
        page=src,
        problem=problem,
        code_page=lambda module: f"{up}code/{module.path}.md",
        abbreviations=abbreviations,
        glossary=f"{up}glossary.md",
    )
    # A page's own instance replaces the one of the page before.
    others = [e for e in config.markdown_extensions if not isinstance(e, PublishingExtension)]
    config.markdown_extensions[:] = [*others, extension]
    module = _module_of(page)
    try:
        if src in book.chapters:
            markdown = lists.link_errata(markdown, src)
        else:
            markdown = lists.complete(markdown, book)
    except PublishingError as error:
        problem(str(error))
    if module is not None:
        report_url = None
        if config.repo_url:
            query = urlencode({"template": "mistake.yml", "page": page.canonical_url})
            report_url = f"{config.repo_url.rstrip('/')}/issues/new?{query}"
        colab = notebooks.colab(config.repo_url or "", module)
        markdown = pages.add_facts(markdown, module)
        markdown += pages.provenance(module, up, report_url, colab)
    page.complaints = _complaints.count
    page.key = _render_key(markdown, module, abbreviations, config, files)
    kept = _rendered.get(src)
    _in_use.add(src)
    page.restored = kept is not None and kept["key"] == page.key
    if page.restored:
        page.render = lambda config, files: _restore(page, kept, files)
    elif lab is not None:
        page.render = _lab_renderer(page, lab)
    return markdown


def _render_key(markdown: str, module: Module | None, abbreviations, config, files) -> str:
    """Name everything that a page's HTML depends on: text, modules, files, settings, glossary."""
    shown = [
        (other.key(), store.fingerprint(other))
        for other in _modules.values()
        if other == module
        or f"{other.path}.py" in markdown
        or f"{other.path.rpartition('/')[2]}/" in markdown  # the folder of its figures
    ]
    settings = Path(config.config_file_path).read_text(encoding="utf-8")
    paths = sorted(file.src_uri for file in files)
    return sha256(repr((markdown, shown, settings, paths, abbreviations)).encode()).hexdigest()


def on_page_content(html, page, config, files):
    if not page.restored:  # a page that caused a complaint is not kept
        for text in pages.rendering_problems(html):
            _problem(page)(text)
        if page.complaints == _complaints.count:
            _rendered[page.file.src_uri] = _state(page)
    return html


@event_priority(100)  # before anything that rewrites the attributes the patterns look for
def on_post_page(output, page, config):
    src, before = page.file.src_uri, _complaints.count
    if _finished.get(src, ("", ""))[0] == output:
        return _finished[src][1]
    finished = repairs.repair(formulas.replace_formulas(output, _problem(page)))
    if _complaints.count == before:
        _finished[src] = output, finished
    return finished


def on_post_build(config):
    downloads.publish(ROOT, list(_modules.values()), Path(config.site_dir))
    formulas.keep(ROOT)
    cards.keep(ROOT)
    for kept in (_rendered, _index_entries):
        for name in kept.keys() - _in_use:
            del kept[name]
    _in_use.clear()
    if _names() != _on_disk:
        _on_disk.clear()
        _on_disk.update(_names())
        body = pickle.dumps((_rendered, _index_entries))
        store.keep(ROOT, "pages.pickle", _rendering_version(), body)


def on_post_template(output_content, template_name, config):
    return repairs.repair(output_content) if template_name.endswith(".html") else output_content
