r"""Turn TeX into MathML with Temml (https://temml.org), once, while the site is built.

pymdownx.arithmatex with `generic: true` leaves `\(…\)` and `\[…\]` in elements of class
`arithmatex`. They are replaced in the finished page, so that the search index keeps the source.
What was rendered is kept in `.build/formulas.json`: of the thousands in the book a build renders
those that are new.
"""

import atexit
import hashlib
import html
import json
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from publishing import PublishingError, store

TEMML = Path(__file__).parent / "temml" / "temml.min.js"

FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\s*(?:\\\((?P<inline>.*?)\\\)|\\\[(?P<display>.*?)\\\])'
    r"\s*</(?P=tag)>(?P<after>[，。、；：！？）」』”’]*)",
    re.S,
)
TEXT_COMMAND = re.compile(r"\\(?:text|textbf|textit|mbox)\s*\{[^{}]*\}")
CHINESE = re.compile(r"[\u3000-\u9fff\uff00-\uffef]")


class FormulaError(PublishingError):
    """A formula that Temml cannot read, or that breaks the house rules."""


@lru_cache(maxsize=1)
def _temml():
    from py_mini_racer import MiniRacer

    context = MiniRacer()
    # A context left open hangs the interpreter at exit.
    atexit.register(context.close)
    context.eval(TEMML.read_text(encoding="utf-8"))
    return context


# What earlier builds rendered, and what this process has used of it or rendered itself.
_kept: dict[str, str] = {}
_used: dict[str, str] = {}


def _version() -> str:
    """Name what a kept formula depends on beside its TeX: Temml, and how this module calls it."""
    digest = hashlib.sha256(TEMML.read_bytes())
    digest.update(Path(__file__).read_bytes())
    return digest.hexdigest()


def recall(root: Path) -> None:
    """Take up what earlier builds of this book rendered."""
    body = store.recall(root, "formulas.json", _version())
    _kept.update(json.loads(body) if body else {})


def keep(root: Path) -> None:
    """Keep what this process has used for the next build; what no page uses is dropped."""
    body = json.dumps(_used, sort_keys=True, ensure_ascii=False).encode()
    store.keep(root, "formulas.json", _version(), body)


def render(tex: str, display: bool = False) -> str:
    """Return a formula as a `<math>` element that carries its TeX as annotation.

    Raises:
        FormulaError: the TeX has an error, or Chinese outside `\\text{}`.
    """
    name = f"{'display' if display else 'inline'} {tex}"
    if name not in _used:
        _used[name] = _kept[name] if name in _kept else _render(tex, display)
    return _used[name]


def _render(tex: str, display: bool) -> str:
    if match := CHINESE.search(TEXT_COMMAND.sub("", tex)):
        raise FormulaError(f"bad formula ${tex}$: put the Chinese '{match[0]}' inside \\text{{}}")
    options = {"displayMode": display, "throwOnError": True, "annotate": True, "trust": False}
    script = (
        "(() => { try { return 'ok' + temml.renderToString(%s, %s) }"
        " catch (error) { return 'no' + error.message } })()"
    )
    answer = _temml().eval(script % (json.dumps(tex), json.dumps(options)))
    if not answer.startswith("ok"):
        # One line, without the combining low lines that mark the place.
        message = " ".join(answer[2:].replace("\u0332", "").split())
        raise FormulaError(f"bad formula ${tex}$: {message}")
    return answer[2:]


def replace_formulas(page: str, problem: Callable[[str], None]) -> str:
    """Replace every formula of an HTML page; report the bad ones and leave their TeX in place."""

    def one(match: re.Match) -> str:
        display = match["display"] is not None
        tex = html.unescape(match["display"] if display else match["inline"]).strip()
        try:
            math = render(tex, display)
        except FormulaError as error:
            problem(str(error))
            return match[0]
        tag = match["tag"]
        formula = f'<{tag} class="arithmatex">{math}</{tag}>'
        # A browser may break the line after a formula: keep its punctuation from starting a line.
        after = match["after"]
        return (
            f'<span class="unbroken">{formula}{after}</span>'
            if after and not display
            else (formula + after)
        )

    return FORMULA.sub(one, page)
