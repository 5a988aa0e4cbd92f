"""The picture of a training run, from its log.csv."""

import csv
import itertools
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def draw_curve(log: Path, picture: Path, title: str) -> None:
    """Draws accuracy over epochs, with a line where a stage begins."""
    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    epochs = range(1, len(rows) + 1)
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for column, label in (("accuracy", "training"), ("val_accuracy", "held out")):
        axes.plot(epochs, [100 * float(row[column]) for row in rows], ".-", label=label)
    for epoch, (before, row) in enumerate(itertools.pairwise(rows), 1):
        if row.get("stage") != before.get("stage"):
            axes.axvline(epoch + 0.5, color="gray", linestyle="--")
            axes.text(
                epoch + 0.7,
                0.03,
                f"stage {row['stage']}",
                transform=axes.get_xaxis_transform(),
                color="gray",
            )
    axes.set(xlabel="epoch", ylabel="top-1 accuracy (%)", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(picture, dpi=150)
