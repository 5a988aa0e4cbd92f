"""The picture of a training run, from its log.csv."""

import itertools
from pathlib import Path

from matplotlib.figure import Figure

from bireal_keras import _files
from bireal_keras.training import run_folder


def draw_curve(log: Path, picture: Path, title: str, *, validation: str = "held out") -> None:
    """Draws accuracy over epochs, with a line where a stage begins.

    Args:
        log: a run's log.csv, with at least one epoch.
        picture: the file to write, a PNG.
        title: of the picture.
        validation: which images the log's `val_accuracy` is of.
    """
    rows = run_folder.read_log(log)
    epochs = range(1, len(rows) + 1)
    # Without pyplot: which backend a program shows its own figures on is its own choice.
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for column, label in (("accuracy", "training"), ("val_accuracy", validation)):
        axes.plot(epochs, [100 * float(row[column]) for row in rows], ".-", label=label)
    for epoch, (before, row) in enumerate(itertools.pairwise(rows), 1):
        if row.get("stage") != before.get("stage"):
            axes.axvline(epoch + 0.5, color="gray", linestyle="--")
            # Upright, a name is as narrow as the shortest stage.
            axes.text(
                epoch + 0.7,
                0.03,
                f"stage {row['stage']}",
                transform=axes.get_xaxis_transform(),
                color="gray",
                rotation="vertical",
            )
    # A $ would begin a formula.
    axes.set(xlabel="epoch", ylabel="top-1 accuracy (%)", title=title.replace("$", r"\$"))
    axes.grid(alpha=0.3)
    axes.legend()
    with _files.replacing(picture) as partial:
        figure.savefig(partial, dpi=150)
