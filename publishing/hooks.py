"""The only part that knows MkDocs: it calls the rest of `publishing` at the right moments."""

import logging
import subprocess
import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlencode

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # a bare `mkdocs` does not look in its working directory
    sys.path.insert(0, str(ROOT))

import material.plugins.search.plugin as material_search  # noqa: E402
from mkdocs.exceptions import PluginError  # noqa: E402
from mkdocs.plugins import event_priority  # noqa: E402
from mkdocs.structure.files import File  # noqa: E402

from publishing import PublishingError, contract, formulas, pages, repairs, runner, store  # noqa: E402
from publishing.markdown import PublishingExtension  # noqa: E402
from publishing.modules import Module, find_modules  # noqa: E402

log = logging.getLogger("mkdocs.hooks.publishing")

# Material segments Chinese with jieba wherever that happens to be installed. The index must not
# depend on the machine, and the search tests pass without it.
material_search.jieba = None

_modules: dict[str, Module] = {}


@dataclass
class Rendered:
    """What converting a page's Markdown gave, for the next rebuild under `mkdocs serve`."""

    key: str
    content: str
    attributes: dict

    ATTRIBUTES = ("toc", "present_anchor_ids", "_title_from_render")

    def restore(self, page, files) -> None:
        """Set what Page.render would have set."""
        page.content = self.content
        for name in self.ATTRIBUTES:
            setattr(page, name, self.attributes[name])
        page.links_to_anchors = {
            files.get_file_from_path(path): anchors
            for path, anchors in self.attributes["links_to_anchors"].items()
        }

    @classmethod
    def of(cls, page, key: str) -> "Rendered":
        attributes = {name: getattr(page, name) for name in cls.ATTRIBUTES}
        links = page.links_to_anchors or {}
        attributes["links_to_anchors"] = {file.src_uri: links[file] for file in links}
        return cls(key, page.content, attributes)


class Complaints(logging.Handler):
    """Counts warnings: a page that caused one is rendered again, to warn again."""

    count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1


# By source path, and only under `mkdocs serve`: an edit then renders one page, not all.
_rendered: dict[str, Rendered] | None = None
_complaints = Complaints(logging.WARNING)


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
    global _rendered
    if command == "serve":
        runner.warm_up()
        _rendered = {}
        logging.getLogger("mkdocs").addHandler(_complaints)


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
        for problem in contract.problems(ROOT, modules):
            log.warning(problem)
    except PublishingError as error:
        raise PluginError(str(error)) from error
    store.prune(modules)

    for file in sorted((ROOT / "docs" / "assets").rglob("*")):
        if file.is_file() and file.suffix not in {".md", ".txt"}:
            files.append(_copied(config, ROOT / "docs", file))
    for module in modules:
        for name in module.figures:
            for theme in store.THEMES:
                file = store.figure_file(module, name, theme)
                files.append(_copied(config, store.build_folder(ROOT), file))
        files.append(
            File.generated(config, f"code/{module.path}.md", content=pages.module_page(module))
        )
        files.append(
            File.generated(config, f"code/{module.path}.py", abs_src_path=str(module.file))
        )
    return files


def _copied(config, base: Path, file: Path) -> File:
    return File.generated(config, file.relative_to(base).as_posix(), abs_src_path=str(file))


def _module_of(page) -> Module | None:
    return _modules.get(page.file.src_uri.removesuffix(".md"))


def on_page_markdown(markdown, page, config, files):
    problem = _problem(page)
    src = page.file.src_uri
    up = "../" * src.count("/")
    extension = PublishingExtension(
        module=_module_of(page),
        modules=list(_modules.values()),
        page=src,
        problem=problem,
        code_page=lambda module: f"{up}code/{module.path}.md",
    )
    # A page's own instance replaces the one of the page before.
    others = [e for e in config.markdown_extensions if not isinstance(e, PublishingExtension)]
    config.markdown_extensions[:] = [*others, extension]
    module = _module_of(page)
    if module is not None:
        report_url = None
        if config.repo_url:
            query = urlencode({"template": "mistake.yml", "page": page.canonical_url})
            report_url = f"{config.repo_url.rstrip('/')}/issues/new?{query}"
        markdown = pages.add_facts(markdown, module) + pages.provenance(module, up, report_url)
    if _rendered is not None:
        page.complaints = _complaints.count
        page.key = _render_key(markdown, module, config, files)
        kept = _rendered.get(src)
        if kept and kept.key == page.key:
            page.render = lambda config, files: kept.restore(page, files)
    return markdown


def _render_key(markdown: str, module: Module | None, config, files) -> str:
    """Name everything that a page's HTML depends on: text, modules it shows, files, settings."""
    shown = [
        other.key()
        for other in _modules.values()
        if other == module
        or f"{other.path}.py" in markdown
        or f"{other.path.rpartition('/')[2]}/" in markdown  # the folder of its figures
    ]
    settings = Path(config.config_file_path).read_text(encoding="utf-8")
    paths = sorted(file.src_uri for file in files)
    return sha256(repr((markdown, shown, settings, paths)).encode()).hexdigest()


def on_page_content(html, page, config, files):
    for text in pages.rendering_problems(html):
        _problem(page)(text)
    if _rendered is not None and page.complaints == _complaints.count:
        _rendered[page.file.src_uri] = Rendered.of(page, page.key)
    return html


@event_priority(100)  # before anything that rewrites the attributes the patterns look for
def on_post_page(output, page, config):
    output = formulas.replace_formulas(output, _problem(page))
    return repairs.repair(output)


def on_post_template(output_content, template_name, config):
    return repairs.repair(output_content) if template_name.endswith(".html") else output_content
