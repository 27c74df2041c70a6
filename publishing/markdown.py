"""A Python-Markdown extension: measured values, figures, abbreviations, item comments.

Configuration: `module`, the page's snippet module (None for a page without code), `problem`, a
function called with one sentence about each thing that is wrong on the page, `code_page`, a
function that gives the Markdown link of a module's source page, `abbreviations`, those to explain,
and `glossary`, the Markdown link of the page that lists them.
"""

import re
import xml.etree.ElementTree as etree
from collections.abc import Callable

from markdown import Extension, Markdown
from markdown.inlinepatterns import InlineProcessor
from markdown.postprocessors import Postprocessor
from markdown.preprocessors import Preprocessor
from markdown.treeprocessors import Treeprocessor
from markdown.util import AtomicString
from pymdownx.blocks import BlocksExtension
from pymdownx.blocks.block import Block

from publishing import PublishingError, results, store
from publishing.glossary import Abbreviation
from publishing.modules import Module

ITEMS = re.compile(r"^\s*<!--\s*items:[^>]*-->\s*$")


class RemoveItems(Preprocessor):
    """Drop the `<!-- items: S3-32 -->` lines; they are for the contract tests."""

    def run(self, lines: list[str]) -> list[str]:
        return [line for line in lines if not ITEMS.match(line)]


def _stored(module: Module | None, experiment: str) -> store.Record:
    if module is None:
        raise PublishingError("this page has no snippet module, so it cannot quote results")
    record = store.load(module, f"experiment_{experiment}")
    if experiment not in module.experiments or record is None:
        known = ", ".join(module.experiments) or "none"
        raise PublishingError(
            f"unknown experiment '{experiment}'; {module.relative_file} measures: {known}"
        )
    return record


def _values(module: Module | None, experiment: str, key: str) -> list[float]:
    record = _stored(module, experiment)
    if key not in record.values:
        known = ", ".join(record.values)
        raise PublishingError(f"unknown result '{experiment}.{key}'; it measures: {known}")
    return record.values[key]


class Quotes(InlineProcessor):
    """`{{ experiment.key }}` → the stored value, with its provenance as a tooltip."""

    def __init__(self, md: Markdown, module: Module | None, problem: Callable[[str], None]):
        super().__init__(results.QUOTE.pattern, md)
        self.module, self.problem = module, problem

    def handleMatch(self, match, data):
        element = etree.Element("span", {"class": "measured"})
        try:
            values = _values(self.module, match["experiment"], match["key"])
            spec = (match["format"] or ":")[1:] or None
            element.text = results.quote(values, match["part"], spec)
            element.set("title", f"{match['experiment']}.{match['key']}，n = {len(values)}")
        except PublishingError as error:
            self.problem(str(error))
            element.text = f"‹{match['experiment']}.{match['key']}›"
        return element, match.start(0), match.end(0)


class ResultsBlock(Block):
    """`/// results | experiment` with one `key: label` a line → a table with mean ± sd and n."""

    NAME = "results"
    ARGUMENT = True

    def on_init(self):
        self.module = self.config["module"]
        self.problem = self.config["problem"]

    def on_create(self, parent):
        return etree.SubElement(parent, "div", {"class": "measured-table"})

    def on_markdown(self):
        return "raw"

    def on_end(self, block):
        lines = [line.strip() for line in (block.text or "").splitlines() if line.strip()]
        block.text = ""
        try:
            record = _stored(self.module, self.argument.strip())
        except PublishingError as error:
            self.problem(str(error))
            return
        table = etree.SubElement(block, "table")
        head = etree.SubElement(etree.SubElement(table, "thead"), "tr")
        for text in ("测得的量", "均值 ± 标准差"):
            etree.SubElement(head, "th").text = text
        body = etree.SubElement(table, "tbody")
        for line in lines:
            key, colon, label = line.partition(":")
            if not colon:
                self.problem(f"results block: expected 'key: label', got '{line}'")
                continue
            key, _, spec = key.strip().partition("|")
            row = etree.SubElement(body, "tr")
            etree.SubElement(row, "td").text = label.strip()
            spec = f":{spec.strip()}" if spec.strip() else ""
            cell = etree.SubElement(row, "td")
            cell.text = f"{{{{ {self.argument.strip()}.{key.strip()}{spec} }}}}"
        caption = etree.SubElement(block, "p", {"class": "provenance"})
        caption.text = f"n = {len(record.seeds)}，{seeds(record.seeds)}"


def seeds(numbers: list[int]) -> str:
    """Write a list of seeds for the reader: 种子 0–4."""
    if numbers == list(range(numbers[0], numbers[-1] + 1)) and len(numbers) > 2:
        return f"种子 {numbers[0]}–{numbers[-1]}"
    return "种子 " + "、".join(map(str, numbers))


class ResultsExtension(BlocksExtension):
    def __init__(self, module, problem):
        super().__init__()
        self.settings = {"module": module, "problem": problem}

    def extendMarkdownBlocks(self, md, block_mgr):
        block_mgr.register(ResultsBlock, self.settings)


class Figures(Treeprocessor):
    """An image `chapter/name.svg` → the light and the dark drawing of `figure_name()`."""

    def __init__(self, md, settings: dict):
        super().__init__(md)
        self.settings = settings

    def _module(self, folder: str) -> Module | None:
        """Resolve the folder of an image, relative to the page, to a snippet module."""
        page: str = self.settings["page"]
        base = page.rpartition("/")[0]
        path = f"{base}/{folder}" if base else folder
        while "/../" in f"/{path}":
            path = re.sub(r"(^|/)[^/]+/\.\./", r"\1", f"{path}", count=1)
        return next((m for m in self.settings["modules"] if m.path == path), None)

    def run(self, root: etree.Element) -> None:
        parents = {child: parent for parent in root.iter() for child in parent}
        for image in list(root.iter("img")):
            source = image.get("src", "")
            match = re.fullmatch(r"(?!\w+://)(.+)/(\w+)\.svg", source)
            if not match or source.endswith((".light.svg", ".dark.svg")):
                continue
            module = self._module(match[1])
            if module is None:
                continue
            self._replace(image, parents, module, match[1], match[2])

    def _replace(self, image, parents, module: Module, folder: str, name: str) -> None:
        problem = self.settings["problem"]
        if name not in module.figures:
            known = ", ".join(module.figures) or "none"
            problem(f"no figure '{name}'; {module.relative_file} draws: {known}")
            image.tag, image.text = "span", image.get("alt")  # said once, not as a bad link again
            image.attrib.clear()
            return
        if not image.get("alt"):
            problem(f"figure '{name}' has no alternative text")
        parent = parents[image]
        position = list(parent).index(image)
        tail, image.tail = image.tail, None
        parent.remove(image)
        for offset, theme in enumerate(store.THEMES):
            width, height = store.figure_size(module, name, theme)
            drawing = etree.Element(
                "img",
                {
                    "alt": image.get("alt", ""),
                    "src": f"{folder}/{name}.{theme}.svg#only-{theme}",
                    "width": str(width),
                    "height": str(height),
                    "loading": "lazy",
                    "decoding": "async",
                },
            )
            parent.insert(position + offset, drawing)
        parent[position + 1].tail = tail
        link = etree.Element(
            "a",
            {"href": f"{self.settings['code_page'](module)}#figure_{name}", "class": "figure-code"},
        )
        link.text = "作图代码"
        figure = parents.get(parent)
        if figure is not None and figure.tag == "figure":
            caption = figure.find("figcaption")
            (caption if caption is not None else figure).append(link)
        else:
            parent.append(link)


CHINESE = "\u2e80-\u9fff\uff00-\uffef\u2018-\u201d\u2026"


class JoinChineseLines(Treeprocessor):
    """Remove the line breaks of the source between Chinese characters, which browsers show as
    spaces."""

    between = re.compile(rf"(?<=[{CHINESE}])\n(?=[{CHINESE}])")
    before = re.compile(rf"(?<=[{CHINESE}])\n$")
    after = re.compile(rf"^\n(?=[{CHINESE}])")

    def run(self, root: etree.Element) -> None:
        for element in root.iter():
            if element.tag in {"pre", "code"}:
                continue
            if element.text:
                element.text = self.between.sub("", element.text)
            previous = None
            for child in element:
                self._join(element, previous, child)
                if child.tail:
                    child.tail = self.between.sub("", child.tail)
                    if self._ends_chinese(child):
                        child.tail = self.after.sub("", child.tail)
                previous = child

    def _join(self, parent, previous, child) -> None:
        if child.tag not in {"a", "strong", "em"} or not re.match(
            f"[{CHINESE}]", "".join(child.itertext())
        ):
            return
        if previous is None:
            parent.text = self.before.sub("", parent.text or "") or None
        else:
            previous.tail = self.before.sub("", previous.tail or "") or None

    def _ends_chinese(self, child) -> bool:
        return child.tag in {"a", "strong", "em"} and bool(
            re.search(f"[{CHINESE}]$", "".join(child.itertext()))
        )


class Abbreviations(Treeprocessor):
    """The first use of each abbreviation → what it stands for as a tooltip, a link to the glossary.

    Markdown's own `abbr` marks every use, in headings and links as well, and a tooltip alone cannot
    be had by a finger or a keyboard.
    """

    HEADINGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6", "label", "summary"))
    LEFT_ALONE = HEADINGS | {"a", "abbr", "code", "pre", "script", "style"}
    LEFT_ALONE_CLASSES = frozenset(("admonition-title", "arithmatex"))

    def __init__(self, md: Markdown, abbreviations: list[Abbreviation], glossary: str):
        super().__init__(md)
        self.known = {one.short: one for one in abbreviations}
        self.glossary = glossary
        self.pattern = re.compile(rf"(?<![\w.-])({'|'.join(self.known)})(?![\w-])", re.ASCII)

    def run(self, root: etree.Element) -> None:
        self.met: set[str] = set()
        if self.known:
            self._walk(root)

    def _walk(self, element: etree.Element) -> None:
        classes = set(element.get("class", "").split())
        if element.tag in self.LEFT_ALONE or classes & self.LEFT_ALONE_CLASSES:
            return
        element.text, marked = self._marked(element.text)
        children = list(element)
        for offset, one in enumerate(marked):
            element.insert(offset, one)
        for child in children:
            self._walk(child)
            child.tail, marked = self._marked(child.tail)
            position = list(element).index(child) + 1
            for offset, one in enumerate(marked):
                element.insert(position + offset, one)

    def _marked(self, text: str | None) -> tuple[str | None, list[etree.Element]]:
        """Cut a text at the abbreviations that are new; return its start and what follows."""
        if not text or isinstance(text, AtomicString):
            return text, []
        pieces: list[etree.Element] = []
        start, end = text, 0
        for match in self.pattern.finditer(text):
            one = self.known[match[0]]
            if one.short in self.met:
                continue
            self.met.add(one.short)
            before, after = (
                text[: match.start()].rstrip("，, （("),
                text[match.end() :].lstrip("，, （("),
            )
            english = one.english.lower()
            if before.lower().endswith(english) or after.lower().startswith(english):
                continue  # the sentence itself says it: mean squared error，MSE
            if pieces:
                pieces[-1].tail = text[end : match.start()]
            else:
                start = text[: match.start()]
            pieces.append(self._element(one))
            end = match.end()
        if pieces:
            pieces[-1].tail = text[end:]
        return start, pieces

    def _element(self, one: Abbreviation) -> etree.Element:
        link = etree.Element(
            "a", {"class": "abbreviation", "href": f"{self.glossary}#{one.anchor}"}
        )
        etree.SubElement(link, "abbr", {"title": one.title}).text = AtomicString(one.short)
        return link


class CodeNotes(Postprocessor):
    """Number the notes in a block of code, `# (1)!`, whose text is the list below it.

    The theme makes bubbles of them in the browser, and lays the page out four times for each. A
    list is there at once, without a script, on paper as well.
    """

    BLOCK = re.compile(r"(<pre>(?:(?!</pre>).)*</pre></div>\s*)<ol>", re.S)
    MARK = re.compile(r'[ \t]*<span class="c1"># \((\d+)\)!</span>')

    def run(self, text: str) -> str:
        return self.BLOCK.sub(self._numbered, text)

    def _numbered(self, match: re.Match) -> str:
        # The number is an attribute, so that it is not copied with the code.
        block, marks = self.MARK.subn(r'<span class="code-note" data-note="\1"></span>', match[1])
        return f'{block}<ol class="code-notes">' if marks else match[0]


class PublishingExtension(Extension):
    """All of the above; see the module's docstring for the settings."""

    def __init__(self, **settings):
        super().__init__()
        self.settings = settings

    def extendMarkdown(self, md: Markdown) -> None:
        module, problem = self.settings["module"], self.settings["problem"]
        md.preprocessors.register(RemoveItems(md), "publishing-items", 31)
        # Below formulas (189.9) and code (190), so that neither is touched.
        md.inlinePatterns.register(Quotes(md, module, problem), "publishing-quotes", 175)
        # After the inline patterns (20) have made the images, before MkDocs resolves links (0).
        md.treeprocessors.register(Figures(md, self.settings), "publishing-figures", 10)
        md.treeprocessors.register(JoinChineseLines(md), "publishing-lines", 9)
        short = Abbreviations(md, self.settings["abbreviations"], self.settings["glossary"])
        md.treeprocessors.register(short, "publishing-abbreviations", 8)
        # After the blocks of code have been put back (30).
        md.postprocessors.register(CodeNotes(md), "publishing-code-notes", 5)
        ResultsExtension(module, problem).extendMarkdown(md)
