r"""Turn TeX into MathML with Temml (https://temml.org), once, while the site is built.

pymdownx.arithmatex with `generic: true` leaves `\(…\)` and `\[…\]` in elements of class
`arithmatex`. They are replaced in the finished page, so that the search index keeps the source.
"""

import atexit
import html
import json
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from publishing import PublishingError

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
    context.eval((Path(__file__).parent / "temml" / "temml.min.js").read_text(encoding="utf-8"))
    return context


@lru_cache(maxsize=8192)
def render(tex: str, display: bool = False) -> str:
    """Return a formula as a `<math>` element that carries its TeX as annotation.

    Raises:
        FormulaError: the TeX has an error, or Chinese outside `\\text{}`.
    """
    if match := CHINESE.search(TEXT_COMMAND.sub("", tex)):
        raise FormulaError(f"bad formula {tex!r}: put the Chinese '{match[0]}' inside \\text{{}}")
    options = {"displayMode": display, "throwOnError": True, "annotate": True, "trust": False}
    script = (
        "(() => { try { return 'ok' + temml.renderToString(%s, %s) }"
        " catch (error) { return 'no' + error.message } })()"
    )
    answer = _temml().eval(script % (json.dumps(tex), json.dumps(options)))
    if not answer.startswith("ok"):
        raise FormulaError(f"bad formula {tex!r}: {answer[2:]}")
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
