"""Draws what models are worth: accuracy over latency and over the size of the file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

from bireal_keras.zoo import _registry

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter
from matplotlib.transforms import Bbox


class _Point(NamedTuple):
    name: str
    kind: str
    top1: float
    milliseconds: float
    megabytes: float


_COLOURS = {"1-bit": "#c0392b", "int8": "#2471a3", "float32": "#7f8c8d"}
_MARKERS = {"1-bit": "o", "int8": "^", "float32": "s"}
# Offsets of a label from its point, in points: the first that hides no other is taken.
_PLACES = [(6, -3), (-6, -3), (0, 6), (0, -12), (6, 5), (-6, 5), (6, -11), (-6, -11), (0, 14)]


def draw(content: Mapping[str, Any], path: Path) -> Path:
    """Draws docs/models/measured.json.

    Networks without an accuracy in literature are left out.

    Args:
        content: of the file.
        path: of the picture to write; it is returned.
    """
    points = _points(content)
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 6), layout="constrained", sharey=True)
    for axes, value, label, ticks in (
        (left, "milliseconds", "one image, 1 thread (ms)", (1, 2, 5, 10, 20, 50, 100)),
        (right, "megabytes", "file (MB)", (2, 5, 10, 20, 50, 100)),
    ):
        for kind, colour in _COLOURS.items():
            of_kind = [point for point in points if point.kind == kind]
            axes.scatter(
                [getattr(point, value) for point in of_kind],
                [point.top1 for point in of_kind],
                marker=_MARKERS[kind],
                color=colour,
                label=kind,
                zorder=3,
            )
        axes.set(xscale="log", xlabel=label)
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.margins(x=0.18, y=0.07)
        axes.grid(alpha=0.3)
    left.set_ylabel("top-1 on ImageNet in literature (%)")
    left.legend(loc="lower right")
    figure.suptitle(content["machine"].rstrip("."), fontsize="small", color="gray")
    figure.canvas.draw()  # Labels are placed where everything else is.
    for axes, value in ((left, "milliseconds"), (right, "megabytes")):
        _label(axes, value, points)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def _points(content: Mapping[str, Any]) -> list[_Point]:
    points = []
    for name, figures in {**content["models"], **content["others"]}.items():
        network, _, kind = name.partition(" ")
        accuracy = figures["top1"] if kind else _registry.MODELS[name].top1
        if accuracy is not None:
            size = figures["bytes"] / 1e6
            points.append(_Point(network, kind or "1-bit", accuracy, figures["milliseconds"], size))
    return points


def _label(axes: Axes, value: str, points: list[_Point]) -> None:
    """Writes each point's name beside it, where it hides no point and no other name."""
    places = [axes.transData.transform((getattr(point, value), point.top1)) for point in points]
    markers = [Bbox.from_extents(x - 5, y - 5, x + 5, y + 5) for x, y in places]
    taken = []
    for point, marker in zip(points, markers):
        best: tuple[int, Text] | None = None
        for x, y in _PLACES:
            text = axes.annotate(
                point.name,
                (getattr(point, value), point.top1),
                xytext=(x, y),
                textcoords="offset points",
                ha="left" if x > 0 else "right" if x < 0 else "center",
                color=_COLOURS[point.kind],
                fontsize=7.5,
            )
            box = text.get_window_extent()
            hidden = sum(box.overlaps(other) for other in taken)
            hidden += sum(box.overlaps(other) for other in markers if other is not marker)
            hidden += not axes.bbox.x0 < box.x0 < box.x1 < axes.bbox.x1
            if best is None or hidden < best[0]:
                if best is not None:
                    best[1].remove()
                best = (hidden, text)
            else:
                text.remove()
            if hidden == 0:
                break
        assert best is not None
        taken.append(best[1].get_window_extent())
