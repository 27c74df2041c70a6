"""Mend, in the finished HTML, what the theme and its helpers leave wrong or needlessly heavy.

Each repair is one pattern that must occur; `tests/site/test_repairs.py` says when one no longer
does, so that an upgrade of the theme is noticed. What the theme's script adds to the page in the
browser is mended by `docs/assets/site.js`.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Repair:
    """A pattern in a page's HTML and what replaces it."""

    pattern: re.Pattern
    replacement: str


REPAIRS = {
    # axe: aria-dialog-name. The search dialog takes the name of the field in it.
    "search dialog without a name": Repair(
        re.compile(
            r'(<div class="md-search" data-md-component="search" role="dialog")'
            r'(>.*?<input type="text" class="md-search__input"[^>]* (aria-label="[^"]*"))',
            re.S,
        ),
        r"\1 \3\2",
    ),
    # The theme's Chinese says only "go to".
    "skip link that does not say where": Repair(
        re.compile(r'(class="md-skip">\s*)跳转至'),
        r"\1跳到正文",
    ),
    # axe: empty-table-header. Markdown makes a header even of the corner of a table.
    "empty table header": Repair(re.compile(r"<th([^>]*)></th>"), r"<td\1></td>"),
    # The theme's script would wrap it, late and with a layout of the whole page (site.js).
    "table that cannot scroll": Repair(
        re.compile(r'(?<!<div class="md-typeset__table">)<table>.*?</table>', re.S),
        r'<div class="md-typeset__scrollwrap"><div class="md-typeset__table">\g<0></div></div>',
    ),
    # vnu: a tabindex is a number.
    "label with an empty tabindex": Repair(re.compile(r'(<label [^>]*?) tabindex=""'), r"\1"),
    # vnu: nothing completes a checkbox.
    "checkbox with autocomplete": Repair(
        re.compile(r'(<input [^>]*type="checkbox"[^>]*) autocomplete="off"'), r"\1"
    ),
    # vnu: a page without sections has no box to open its table of contents with.
    "label of a box that is not there": Repair(
        re.compile(r'\A((?!.*id="__toc").*?<label class="md-nav__title") for="__toc"', re.S),
        r"\1",
    ),
    # vnu knows this attribute on <mstyle> alone, MathML Core on every element.
    "script level on a letter or number": Repair(
        re.compile(r"<(m[ino])( scriptlevel=\"\d\")>([^<]*)</\1>"),
        r"<mstyle\2><\1>\3</\1></mstyle>",
    ),
    # Temml sets \bar with U+203E, which Latin Modern Math lacks; its macron is the same stroke.
    "bar accent that the font lacks": Repair(
        re.compile("(<mo [^>]*>)\u203e</mo>"),
        "\\1\u00af</mo>",
    ),
    # Search in Chinese: see docs/assets/search.js.
    "search worker that cannot search Chinese": Repair(
        re.compile(r'("search": "[^"]*?)assets/javascripts/workers/search\.[0-9a-f]+\.min\.js"'),
        r'\1assets/search.js"',
    ),
    # This style sheet makes the browser style every element of a page twice more while it loads: a
    # third of a second on a phone. What the site needs of it is in docs/assets/site.css.
    "palette that slows every page": Repair(
        re.compile(r'<link rel="stylesheet" href="[^"]*stylesheets/palette\.\w+\.min\.css">'),
        "",
    ),
    # The theme's script asks at once how far the page is scrolled, and so has all of it laid out
    # before any of it is on the screen. site.js runs it after the first frame instead.
    "script that holds up the first frame": Repair(
        re.compile(
            r'(?<!<template id="theme-script">)'
            r'<script src="[^"]*assets/javascripts/bundle\.\w+\.min\.js"></script>'
        ),
        r'<template id="theme-script">\g<0></template>',
    ),
    # Half of a code block's markup marks names, operators and punctuation, which have the colour
    # of plain code (site.css): without it a page has a third fewer elements and is 4 KB smaller.
    "token without a colour of its own": Repair(
        re.compile(r'<span class="(?:n|o|ow|p|w)">([^<]*)</span>'),
        r"\1",
    ),
}


# Where white space counts.
VERBATIM = re.compile(r"(<pre\b.*?</pre>|<script\b.*?</script>)", re.S)


def _without_indentation(page: str) -> str:
    """Drop the indentation of the theme's templates, a fifteenth of a page."""
    parts = VERBATIM.split(page)
    parts[::2] = (re.sub(r"\n\s+", "\n", part) for part in parts[::2])
    return "".join(parts)


def repair(page: str) -> str:
    """Return the page with the faults of the theme mended."""
    for one in REPAIRS.values():
        page = one.pattern.sub(one.replacement, page)
    return _without_indentation(page)
