"""Draws what models are worth: accuracy over latency, predicted latency, and the size of the file.

python benchmarks/models_picture.py  # after models.py or predict.py, which write the figures
"""

import json
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
    value: float


class _Panel(NamedTuple):
    figure: str
    label: str


_COLOURS = {"1-bit": "#c0392b", "int8": "#2471a3", "float32": "#7f8c8d"}
_TICKS = (1, 2, 5, 10, 20, 50, 100, 200)
_MARKERS = {"1-bit": "o", "int8": "^", "float32": "s"}
# Offsets of a label from its point, in points: the first that hides no other is taken.
_PLACES = [(6, -3), (-6, -3), (0, 6), (0, -12), (6, 5), (-6, 5), (6, -11), (-6, -11), (0, 14)]


def draw(folder: Path) -> Path:
    """Draws measured.json and predicted.json of docs/models, and returns the picture's path.

    Networks without an accuracy in literature are left out.
    """
    measured = json.loads((folder / "measured.json").read_text(encoding="utf-8"))
    predicted = json.loads((folder / "predicted.json").read_text(encoding="utf-8"))["models"]
    here = f"one image, 1 thread (ms), {measured['machine'].rstrip('.')}"
    panels = [_Panel("milliseconds", here), _Panel("bytes", "file (MB)")]
    panels += [
        _Panel(board, f"predicted: one image, 1 thread (ms), {board}")
        for board in ("Raspberry Pi 4", "Raspberry Pi 5")
    ]
    figure, grid = plt.subplots(2, 2, figsize=(12, 11), layout="constrained", sharey=True)
    points = [_points(panel.figure, measured, predicted) for panel in panels]
    for axes, panel, shown in zip(grid.flat, panels, points):
        for kind, colour in _COLOURS.items():
            of_kind = [point for point in shown if point.kind == kind]
            axes.scatter(
                [point.value for point in of_kind],
                [point.top1 for point in of_kind],
                marker=_MARKERS[kind],
                color=colour,
                label=kind,
                zorder=3,
            )
        axes.set(xscale="log", xlabel=panel.label)
        axes.xaxis.set_major_locator(FixedLocator(_TICKS))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.margins(x=0.18, y=0.07)
        axes.grid(alpha=0.3)
    for axes in grid[:, 0]:
        axes.set_ylabel("top-1 on ImageNet in literature (%)")
    grid[0, 0].legend(loc="lower right")
    figure.canvas.draw()  # Labels are placed where everything else is.
    for axes, shown in zip(grid.flat, points):
        _label(axes, shown)
    path = folder / "models.png"
    figure.savefig(path, dpi=100)
    plt.close(figure)
    return path


def _points(
    figure: str, measured: Mapping[str, Any], predicted: Mapping[str, Mapping[str, float]]
) -> list[_Point]:
    """A figure of every network that has it, and an accuracy."""
    points = []
    for name, figures in {**measured["models"], **measured["others"]}.items():
        network, _, kind = name.partition(" ")
        accuracy = figures["top1"] if kind else _registry.MODELS[name].top1
        value = {**figures, **predicted.get(name, {})}.get(figure)
        if accuracy is not None and value is not None:
            shown = value / 1e6 if figure == "bytes" else value
            points.append(_Point(network, kind or "1-bit", accuracy, shown))
    return points


def _label(axes: Axes, points: list[_Point]) -> None:
    """Writes each point's name beside it, where it hides no point and no other name."""
    places = [axes.transData.transform((point.value, point.top1)) for point in points]
    markers = [Bbox.from_extents(x - 5, y - 5, x + 5, y + 5) for x, y in places]
    taken = []
    for point, marker in zip(points, markers):
        best: tuple[int, Text] | None = None
        for x, y in _PLACES:
            text = axes.annotate(
                point.name,
                (point.value, point.top1),
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


if __name__ == "__main__":
    print(draw(Path(__file__).parents[1] / "docs/models"))
