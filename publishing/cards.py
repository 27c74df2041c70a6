"""Cards that other sites show beside a link to a page: a figure of the chapter on a white ground.

The title stands beside a card, so that a card holds no text and needs no Chinese font.
"""

import pickle
import re
from hashlib import sha256
from pathlib import Path

from publishing import PublishingError, store
from publishing.modules import Module

WIDTH, HEIGHT, MARGIN = 1200, 630, 40
"""Pixels; the shape that Open Graph recommends."""

ROOT_TAG = re.compile(r"<svg\b[^>]*>")
VIEW_BOX = re.compile(r'viewBox="0 0 ([\d.]+) ([\d.]+)"')

# What earlier builds drew, and what this one uses of it.
_kept: dict[str, bytes] = {}
_used: dict[str, bytes] = {}


def compose(svg: str) -> str:
    """Return the drawing of a card: the figure as large as it fits, in the middle.

    Raises:
        PublishingError: the text is no SVG with a `viewBox` that starts at 0 0.
    """
    root = ROOT_TAG.search(svg)
    box = VIEW_BOX.search(root[0]) if root else None
    if not box:
        raise PublishingError("a card needs an SVG with a viewBox that starts at 0 0")
    width, height = float(box[1]), float(box[2])
    scale = min((WIDTH - 2 * MARGIN) / width, (HEIGHT - 2 * MARGIN) / height)
    place = {
        "x": (WIDTH - scale * width) / 2,
        "y": (HEIGHT - scale * height) / 2,
        "width": scale * width,
        "height": scale * height,
    }
    tag = re.sub(r'\s(?:width|height)="[^"]*"', "", root[0])[:-1]
    tag += "".join(f' {name}="{value:.2f}"' for name, value in place.items()) + ">"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>{tag}{svg[root.end() :]}</svg>'
    )


def draw(svg: str) -> bytes:
    """Return a card as PNG, drawn now or by an earlier build."""
    name = sha256(svg.encode()).hexdigest()
    if name not in _used:
        _used[name] = _kept[name] if name in _kept else _draw(compose(svg))
    return _used[name]


def _draw(svg: str) -> bytes:
    import resvg_py  # only where a figure has changed

    return bytes(resvg_py.svg_to_bytes(svg_string=svg))


def of_module(module: Module) -> bytes | None:
    """Return the card of a chapter: its first figure; None if it has none."""
    if not module.figures:
        return None
    return draw(store.figure_file(module, module.figures[0], "light").read_text(encoding="utf-8"))


def _version() -> str:
    return sha256(Path(__file__).read_bytes()).hexdigest()


def recall(root: Path) -> None:
    """Take up the cards that earlier builds drew."""
    if body := store.recall(root, "cards.pickle", _version()):
        _kept.update(pickle.loads(body))


def keep(root: Path) -> None:
    """Keep the cards for the next build, if one of them is new."""
    if _used.keys() != _kept.keys():
        store.keep(root, "cards.pickle", _version(), pickle.dumps(_used))
