"""Draw a figure twice, for the light and the dark theme, as SVG that never changes by itself."""

import io
import re
import warnings
from collections.abc import Callable

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.text import Text

MAX_WIDTH = 5.2
"""Inches. At 360 px a wider figure shrinks its 11 pt labels below what one can read."""

COLOURS = {
    "light": ["#1f5fb4", "#b3420a", "#1d7a3e", "#8b3fa8", "#8a6100", "#0b7285"],
    "dark": ["#7db4ff", "#ff9d66", "#6bd18c", "#d79bf0", "#e5bf4a", "#5ccfe0"],
}
"""C0…C5 on each ground; every colour has a contrast of at least 4.5 against its ground."""

GROUND = {"light": "#ffffff", "dark": "#1e2129"}
"""The colour of the page below the transparent figure."""

INK = {"light": "#24292f", "dark": "#e6e8ee"}
FAINT = {"light": "#d5d9e0", "dark": "#454b59"}


def style(theme: str) -> dict:
    """Return the rcParams of a theme, `light` or `dark`."""
    ink, faint = INK[theme], FAINT[theme]
    return {
        "figure.figsize": (4.8, 3.2),
        "figure.facecolor": "none",
        "savefig.facecolor": "none",
        "axes.facecolor": "none",
        "axes.prop_cycle": cycler(color=COLOURS[theme]),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": ink,
        "axes.labelcolor": ink,
        "axes.titlecolor": ink,
        "axes.titlesize": 11,
        "axes.labelsize": 11,
        "font.size": 11,
        "xtick.labelsize": 10,
        "ytick.labelsize": 10,
        "legend.fontsize": 10,
        "legend.facecolor": GROUND[theme],
        "legend.edgecolor": faint,
        "legend.framealpha": 0.85,
        "text.color": ink,
        "xtick.color": ink,
        "ytick.color": ink,
        "grid.color": faint,
        "patch.edgecolor": ink,
        "hatch.color": ink,
        "lines.linewidth": 1.8,
        "image.cmap": "cividis",
        "svg.fonttype": "path",
        "svg.hashsalt": "runnable-notes",
        "savefig.bbox": "standard",
    }


def _check(figure: Figure) -> None:
    width = figure.get_size_inches()[0]
    if width > MAX_WIDTH:
        raise ValueError(f"the figure is {width:.1f} in wide; at most {MAX_WIDTH} fit on a phone")
    if not any(ax.has_data() or ax.patches or ax.texts or ax.tables for ax in figure.axes):
        raise ValueError("the figure is empty: no axes hold any data")
    for text in figure.findobj(Text):
        if re.search(r"[\u2e80-\u9fff\uff00-\uffef]", text.get_text()):
            raise ValueError(f"text inside a figure must not be Chinese: {text.get_text()!r}")


LEAST_CONTRAST = 4.5
"""Of text against what lies below it: WCAG 2.2, success criterion 1.4.3."""


def contrast(one: np.ndarray, other: np.ndarray) -> float:
    """Return the contrast of two sRGB colours in [0, 1], from 1 to 21 (WCAG 2.2)."""
    colours = np.stack([one, other])
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    low, high = sorted(linear @ [0.2126, 0.7152, 0.0722])
    return (high + 0.05) / (low + 0.05)


def _pixels(figure: Figure, ground: np.ndarray) -> np.ndarray:
    """Draw a figure without its text; return its pixels, height × width × 3, the top row first."""
    canvas = FigureCanvasAgg(figure)
    texts = [(text, text.get_alpha()) for text in figure.findobj(Text)]
    for text, _ in texts:
        text.set_alpha(0)  # invisible text would change the layout
    canvas.draw()
    for text, alpha in texts:
        text.set_alpha(alpha)
    drawn = np.asarray(canvas.buffer_rgba()) / 255
    return drawn[..., :3] * drawn[..., 3:] + ground * (1 - drawn[..., 3:])


def _check_contrast(figure: Figure, theme: str) -> None:
    """Raise ValueError if some text can hardly be read on what lies below it."""
    ground = np.array(to_rgba(GROUND[theme])[:3])
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
    inside = {text for axes in figure.axes for text in axes.texts}
    pixels = _pixels(figure, ground) if inside else None
    for text in texts:
        below = ground
        if text in inside:
            box = text.get_window_extent()
            columns = slice(max(0, round(box.x0)), max(0, round(box.x1)))
            height = len(pixels)
            rows = slice(max(0, height - round(box.y1)), max(0, height - round(box.y0)))
            covered = pixels[rows, columns].reshape(-1, 3)
            below = np.median(covered, axis=0) if covered.size else ground
        *ink, alpha = to_rgba(text.get_color(), text.get_alpha())
        ratio = contrast(alpha * np.array(ink) + (1 - alpha) * below, below)
        if ratio < LEAST_CONTRAST:
            raise ValueError(
                f"the text {text.get_text()!r} has a contrast of {ratio:.1f} on the {theme} page; "
                f"at least {LEAST_CONTRAST} can be read: use C0…C5, or leave the colour out"
            )


def draw(function: Callable[[], Figure], theme: str) -> bytes:
    """Call a `figure_<name>` function under a theme and return the SVG.

    Raises:
        ValueError: the figure is too wide, empty, holds Chinese text, or text that is too faint.
        TypeError: the function did not return a Figure.
    """
    with plt.rc_context(), warnings.catch_warnings():
        plt.rcdefaults()
        plt.rcParams.update(style(theme))
        warnings.filterwarnings("error", message=r"Glyph .* missing")
        figure = function()
        if not isinstance(figure, Figure):
            raise TypeError(f"returned {type(figure).__name__}, expected a matplotlib Figure")
        _check(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
        _check_contrast(figure, theme)
        plt.close("all")
    return buffer.getvalue()
