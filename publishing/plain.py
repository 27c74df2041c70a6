"""A page as Markdown that any tool understands: measured values filled in, no extensions left.

The page is read into parts (prose, code, its output, figures), which a notebook turns into cells
and `text` writes one below the other.
"""

import itertools
import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from publishing import PublishingError, contract, pages, results, store
from publishing.markdown import CHINESE, seeds
from publishing.modules import Module

INDENT = "    "
BOX = re.compile(r'^(?:!!!|\?\?\?\+?|===!?)\+?[ \t]+(?:[\w -]+?[ \t]*)?(?:"(?P<title>.*)")?\s*$')
BLOCK = re.compile(r"^///\s*(?P<name>[\w-]+)\s*(?:\|\s*(?P<argument>.*?))?\s*$")
CAPTIONS = {"figure-caption": "图", "table-caption": "表"}
FIGURE = re.compile(r"^!\[(?P<alt>[^\]]*)\]\((?P<folder>[^)\s]+?)/(?P<name>\w+)\.svg\)\s*$")
HEADING = re.compile(r"^(#{1,6}\s.*?)\s*\{[^{}]*#[A-Za-z][\w-]*[^{}]*\}\s*$")
ATTRIBUTES = re.compile(r"\{:?\s*(?:[.#][\w-]+\s*|[\w-]+=\S+\s*|download\s*)+\}")
ATTRIBUTES_OF_LINK = re.compile(rf"(?<=\)){ATTRIBUTES.pattern}")
VERBATIM = re.compile(r"(?s)(`+)(?!`).+?(?<!`)\1(?!`)|\$\$.+?\$\$|\$(?!\s)[^$\n]+?(?<!\s)\$")
"""Code and formulas, in which nothing is a link."""
DROPPED = re.compile(r"^\s*(?:<!--.*-->|</?div\b[^>]*>|\*\[[^\]]+\]:.*)\s*$")
LINK = re.compile(r"(\]\()([^)\s]+)(\))")
NOTE = re.compile(r"#\s*\((\d+)\)!")
"""`# (1)!` at the end of a line of code: the number of a note below."""


class PageError(PublishingError):
    """A page has a fault that everybody who renders it reports as well."""


@dataclass(frozen=True)
class Part:
    """A piece of a page.

    Attributes:
        kind: "prose", "code" (runs), "output" (what the code above prints) or "figure".
        text: Markdown; of code and output the bare text, of a figure its caption.
        figure: the name of the function without `figure_`, and the module that has it.
    """

    kind: str
    text: str
    alt: str = ""
    figure: str = ""
    module: Module | None = None


@dataclass(frozen=True)
class Source:
    """A page: its path, `linear/gradient_descent.md`, its text, and where the site will stand."""

    page: str
    text: str
    site_url: str
    module: Module  # of the same path; a page without code has one without a file

    @property
    def root(self) -> Path:
        return self.module.root


def address(page: str, site_url: str) -> str:
    """Return where a page stands on the site: `linear/x.md` → `…/linear/x/`."""
    path = page.removesuffix(".md")
    path = path.removesuffix("index") if path.rpartition("/")[2] == "index" else f"{path}/"
    return site_url.rstrip("/") + "/" + path


def _absolute(target: str, source: Source) -> str:
    """Return a link's target as a full address.

    `index.md#map` and `x.svg` are resolved from the page; what has a scheme stays as it is.
    """
    if re.match(r"[a-z][a-z+.-]*:|//", target):
        return target
    path, hash_sign, anchor = target.partition("#")
    if path:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source.page), path))
    else:
        path = source.page
    if path.endswith(".md"):
        return address(path, source.site_url) + hash_sign + anchor
    return f"{source.site_url.rstrip('/')}/{path}{hash_sign}{anchor}"


def _outside(pattern: re.Pattern, text: str, change: Callable[[str], str]) -> str:
    """Apply a change to a text, but not to what the pattern matches."""
    kept: list[str] = []

    def hide(match: re.Match) -> str:
        kept.append(match[0])
        return f"\0{len(kept) - 1}\0"

    changed = change(pattern.sub(hide, text))
    return re.sub("\0(\\d+)\0", lambda match: kept[int(match[1])], changed)


def _quote(match: re.Match, source: Source) -> str:
    """Return a measured value as the site prints it."""
    module, name = source.module, match["experiment"]
    record = store.load(module, f"experiment_{name}")
    if record is None or match["key"] not in record.values:
        raise PublishingError(f"unknown result '{name}.{match['key']}'")
    spec = (match["format"] or ":")[1:] or None
    return results.quote(record.values[match["key"]], match["part"], spec)


def inline(text: str, source: Source) -> str:
    """Return prose with values filled in, full addresses, and no attribute lists.

    Raises:
        PublishingError: it quotes a result that there is not.
    """

    def linked(match: re.Match) -> str:
        return f"{match[1]}{_absolute(match[2], source)}{match[3]}"

    def change(text: str) -> str:
        text = ATTRIBUTES_OF_LINK.sub("", LINK.sub(linked, text))
        return results.QUOTE.sub(lambda match: _quote(match, source), text)

    return _outside(VERBATIM, text, change)


def _results_table(argument: str, body: list[str], source: Source) -> str:
    """Write `/// results | experiment` as a table, with its seeds below."""
    name = argument.strip()
    record = store.load(source.module, f"experiment_{name}")
    if record is None:
        raise PublishingError(f"unknown experiment '{name}'")
    rows = ["| 测得的量 | 均值 ± 标准差 |", "|---|---|"]
    for line in filter(None, map(str.strip, body)):
        key, _, label = line.partition(":")
        key, _, spec = key.strip().partition("|")
        quote = f"{{{{ {name}.{key.strip()}{':' + spec.strip() if spec.strip() else ''} }}}}"
        rows.append(f"| {inline(label.strip(), source)} | {inline(quote, source)} |")
    return "\n".join([*rows, "", f"n = {len(record.seeds)}，{seeds(record.seeds)}"])


def _body(lines: list[str], start: int) -> int:
    """Return the line after an indented body that starts at a line."""
    end = number = start
    while number < len(lines) and (lines[number].startswith(INDENT) or not lines[number].strip()):
        number += 1
        if lines[number - 1].strip():
            end = number
    return end


def _closing(lines: list[str], opening: int) -> int:
    """Return the line that closes a `/// block`."""
    try:
        return lines.index("///", opening)
    except ValueError:
        raise PublishingError(f"this block is not closed: '{lines[opening]}'") from None


def _prose(lines: list[str], source: Source) -> str:
    """Clean lines of prose; Chinese lines of one paragraph are joined without a space."""
    kept: list[str] = []
    for line in lines:
        if DROPPED.match(line) or (line.strip() and not ATTRIBUTES.sub("", line).strip()):
            continue
        if heading := HEADING.match(line):
            line = heading[1]
        kept.append(line)
    text = re.sub(r"\n{3,}", "\n\n", inline("\n".join(kept), source)).strip("\n")
    text = re.sub(r"(?m)^(#{1,6} .*)\n(?!\n)", r"\1\n\n", text)
    return re.sub(rf"(?<=[{CHINESE}])\n(?=[{CHINESE}])", "", text)


def _parts(lines: list[str], source: Source, numbers: dict[str, itertools.count]) -> Iterator[Part]:
    prose: list[str] = []

    def flush() -> Iterator[Part]:
        if text := _prose(prose, source):
            yield Part("prose", text)
        prose.clear()

    number = 0
    while number < len(lines):
        line = lines[number]
        if fence := pages.FENCE.match(line):
            end = number + 1
            closing = re.compile(rf"^ *{re.escape(fence['mark'][0])}{{{len(fence['mark'])},}}\s*$")
            while end < len(lines) and not closing.match(lines[end]):
                end += 1
            block = pages.fences("\n".join(lines[number : end + 1]))[0]
            runs = block.language == "python"
            shown = block.language == "text" and pages.OUTPUT in block.info
            if fence["indent"] and not runs:  # in a list, of which it is a part
                yield from flush()
                yield Part("prose", "\n".join(lines[number : end + 1]))
            elif runs or shown:
                yield from flush()
                code = NOTE.sub(r"# (\1)", pages.expand(block, source.root))
                yield Part("code" if runs else "output", code)
            else:
                yield from flush()
                yield Part("prose", _fenced(pages.expand(block, source.root), block.language))
            number = end + 1
        elif box := BOX.match(line):
            yield from flush()
            end = _body(lines, number + 1)
            inner = [text.removeprefix(INDENT) for text in lines[number + 1 : end]]
            yield from _boxed(box["title"] or "", list(_parts(inner, source, numbers)), source)
            number = end
        elif block := BLOCK.match(line):
            end = _closing(lines, number)
            body = lines[number + 1 : end]
            yield from flush()
            if block["name"] == "results":
                yield Part("prose", _results_table(block["argument"] or "", body, source))
            else:
                label = CAPTIONS.get(block["name"])
                label = f"{label} {next(numbers[label])}：" if label else ""
                yield Part("prose", label + _prose(body, source))
            number = end + 1
        elif figure := FIGURE.match(line):
            yield from flush()
            path = posixpath.normpath(
                posixpath.join(posixpath.dirname(source.page), figure["folder"])
            )
            caption = ""
            if lines[number + 1 : number + 2] == ["/// figure-caption"]:
                end = _closing(lines, number + 1)
                caption = _prose(lines[number + 2 : end], source)
                caption = f"图 {next(numbers['图'])}：{caption}"
                number = end
            module = Module(path, source.root)
            yield Part("figure", caption, figure["alt"], figure["name"], module)
            number += 1
        else:
            prose.append(line)
            number += 1
    yield from flush()


def _boxed(title: str, inner: list[Part], source: Source) -> list[Part]:
    """Write a box, a fold or a tab: quoted where it is all prose, else below its title."""
    title = inline(title, source)
    if all(part.kind == "prose" and "```" not in part.text for part in inner):
        text = "\n\n".join(([f"**{title}**"] if title else []) + [part.text for part in inner])
        return [Part("prose", "\n".join(f"> {line}".rstrip() for line in text.split("\n")))]
    return ([Part("prose", f"**{title}**")] if title else []) + inner


def _fenced(text: str, language: str) -> str:
    mark = "`" * max(3, 1 + max(map(len, re.findall(r"`+", text)), default=0))
    return f"{mark}{language}\n{text.rstrip()}\n{mark}"


def parts(source: Source) -> list[Part]:
    """Read a page into its parts.

    Raises:
        PageError: an include or a result is missing, or a fence or block is not closed.
    """
    text = source.text
    if front_matter := contract.FRONT_MATTER.match(text):
        text = text[front_matter.end() :]
    counters = {label: itertools.count(1) for label in CAPTIONS.values()}
    try:
        return list(_parts(text.splitlines(), source, counters))
    except PublishingError as error:
        raise PageError(f"docs/zh/{source.page}: {error}") from error


def image(part: Part, site_url: str) -> str:
    """Return a figure's drawing on the site as a Markdown image."""
    assert part.module
    file = f"{part.module.path}/{part.figure}.light.svg"
    return f"![{part.alt}]({site_url.rstrip('/')}/{file})"


def text(source: Source) -> str:
    """Return the whole page as plain Markdown.

    Raises:
        PageError: see `parts`.
    """
    written = []
    for part in parts(source):
        if part.kind == "code":
            written.append(_fenced(part.text, "python"))
        elif part.kind == "output":
            written.append(f"输出：\n\n{_fenced(part.text, 'text')}")
        elif part.kind == "figure":
            written += [image(part, source.site_url), *filter(None, [part.text])]
        else:
            written.append(part.text)
    return "\n\n".join(written) + "\n"
