"""Draw a figure twice, for the light and the dark theme, as SVG that never changes by itself."""

import io
import re
import warnings
from collections.abc import Callable

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from cycler import cycler
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


def draw(function: Callable[[], Figure], theme: str) -> bytes:
    """Call a `figure_<name>` function under a theme and return the SVG.

    Raises:
        ValueError: the figure is too wide, empty, or holds Chinese text.
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
        plt.close("all")
    return buffer.getvalue()
