"""The DET plot: both error rates on normal-deviate axes, on which normally distributed scores make a straight line."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import stats

from core.errors import UsageError
from embed.metrics import ErrorCurve

TICKS = (0.0001, 0.001, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99)
CURVE = "#1f5fa8"
MARK = "#c0392b"
FORMATS = (".png", ".svg", ".pdf")


@dataclass(frozen=True, slots=True, kw_only=True)
class DetPlot:
    """What is drawn, and how it is labelled."""

    title: str
    false_accept_name: str
    false_reject_name: str
    curve: ErrorCurve
    impostors: int
    genuine: int
    marked: float
    """A threshold to show on the curve."""
    marked_name: str


def check_plot_path(path: Path) -> None:
    """Refuse a file that can't be written, before any work.

    Raises:
        UsageError: another format, or no such folder.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"--plot {path}: write one of {', '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise UsageError(f"--plot {path}: there is no folder {path.parent}")


def draw_det(plot: DetPlot, path: Path) -> None:
    """Write a DET plot (Martin et al., "The DET curve in assessment of detection task performance", Eurospeech 1997).

    Raises:
        UsageError: the file can't be written.
    """
    figure = Figure(figsize=(7, 7), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    x, y = deviates(plot.curve.false_accepts, plot.impostors), deviates(plot.curve.false_rejects, plot.genuine)
    axes.step(x, y, where="post", color=CURVE, linewidth=2)
    place = min(int(np.searchsorted(plot.curve.thresholds, plot.marked)), len(x) - 1)
    axes.plot(x[place], y[place], "o", color=MARK, markersize=9, clip_on=False, zorder=5)
    axes.plot([], [], "o", color=MARK, label=_in_words(plot, place))
    span = stats.norm.ppf([TICKS[0], TICKS[-1]])
    axes.plot(span, span, color="0.75", linewidth=1, linestyle=":", label="equal error rate")
    _label(axes, plot)
    try:
        figure.savefig(path)
    except OSError as err:
        raise UsageError(f"--plot {path}: can't be written: {err.strerror}") from err


def deviates(rates: NDArray[np.floating], trials: int) -> NDArray[np.float64]:
    """Return normal deviates; 0 and 1 are drawn half a trial inside."""
    edge = max(0.5 / trials, TICKS[0])
    return np.asarray(stats.norm.ppf(np.clip(rates, edge, 1 - edge)), np.float64)


def _in_words(plot: DetPlot, place: int) -> str:
    accepts, rejects = plot.curve.false_accepts[place], plot.curve.false_rejects[place]
    return f"{plot.marked_name} {plot.marked:.3f}: {accepts:.2%} / {rejects:.2%}"


def _label(axes: Axes, plot: DetPlot) -> None:
    places = stats.norm.ppf(TICKS)
    names = [f"{100 * tick:g} %" for tick in TICKS]
    axes.set_xticks(places, names)
    axes.set_yticks(places, names)
    axes.set_xlim(places[0], places[-1])
    axes.set_ylim(places[0], places[-1])
    axes.set_aspect("equal")
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.set_xlabel(f"{plot.false_accept_name} (of {plot.impostors:,})")
    axes.set_ylabel(f"{plot.false_reject_name} (of {plot.genuine:,})")
    axes.set_title(plot.title)
    axes.legend(loc="upper right")
