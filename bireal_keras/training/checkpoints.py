"""Checkpoints: one file each, written whole or not at all, and read whole or not at all.

A checkpoint is a NumPy archive of the model's and the optimizer's variables, and of how far
the run had come. It is written under another name and renamed once it is on the disk, so that
a run can be killed at any time. Each array has a checksum: a file that was cut off or has
rotted is noticed, and the one before it is taken.
"""

import dataclasses
import json
import os
import re
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from bireal_keras import _files
from bireal_keras._keras import keras

_NAME = re.compile(r"epoch-(\d+)-step-(\d+)\.npz")
_POSITION = "position"


@dataclasses.dataclass(frozen=True)
class Position:
    """How far a run has come.

    Attributes:
        stage: the stage whose model this is, from 0.
        epoch: complete epochs, of all stages.
        step: steps of the next epoch.
        figures: means over those steps, and their "seconds".
    """

    stage: int = 0
    epoch: int = 0
    step: int = 0
    figures: dict[str, float] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        return f"epoch {self.epoch + 1}, step {self.step}"


Arrays = dict[str, np.ndarray]


class Checkpoints:
    """The checkpoints of a run, `epoch-0003-step-000042.npz`, of which the newest are kept."""

    def __init__(self, folder: str | os.PathLike[str], *, keep: int = 3):
        self.folder = Path(folder)
        self._keep = keep

    def paths(self) -> list[Path]:
        """From the oldest to the newest."""
        found = [(path, _NAME.fullmatch(path.name)) for path in self.folder.glob("*.npz")]
        return [
            path
            for _, path in sorted(
                ((int(name[1]), int(name[2])), path) for path, name in found if name
            )
        ]

    def save(self, arrays: Arrays, position: Position) -> Path | None:
        """Writes a checkpoint, and removes the oldest.

        Returns:
            Its path, or None, after a warning, when it could not be written (the disk is
            full) or holds a number that is not finite. Those before it stay then.
        """
        for name, array in arrays.items():
            if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
                warnings.warn(f"No checkpoint at {position}: {name} is not finite.", stacklevel=2)
                return None
        path = self.folder / f"epoch-{position.epoch:04}-step-{position.step:06}.npz"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _write_file(path, arrays, position)
        except OSError as error:
            warnings.warn(
                f"No checkpoint at {position}: cannot write {path}: {error}. The newest is "
                f"{self.newest()}.",
                stacklevel=2,
            )
            return None
        for old in self.paths()[: -self._keep]:
            old.unlink()
        return path

    def newest(self) -> Path | None:
        return next(reversed(self.paths()), None)

    def load(self) -> tuple[Arrays, Position] | None:
        """The newest checkpoint that can be read, or None if there is no file at all.

        Each newer one that cannot be read is warned about.

        Raises:
            ValueError: there are checkpoints, and none can be read.
        """
        for path in reversed(self.paths()):
            try:
                return _read(path)
            except (*_DAMAGE, OSError) as error:
                warnings.warn(
                    f"Cannot read the checkpoint {path}, taking the one before: {error}",
                    stacklevel=2,
                )
        if self.paths():
            raise ValueError(f"None of the checkpoints in {self.folder} can be read.")
        return None


class BestEpoch:
    """The weights of a stage's best epoch, that with the highest validation accuracy.

    They are in memory, and in a file for a run that is resumed: `best.npz`, of the second stage
    `best-2.npz`, and so on.

    Args:
        folder: where that is.
        stage: the stage, from 0.
        writes: whether this process writes the file. Across machines all of them read it.

    Attributes:
        epoch: which epoch of the run it is, from 0; None before there is one.
        accuracy: that on the validation split.
        weights: as `model.get_weights` gives them.
    """

    def __init__(self, folder: str | os.PathLike[str], stage: int, *, writes: bool):
        # Each stage's own: a run that is resumed may be at the end of the stage before.
        self._path = Path(folder) / ("best.npz" if stage == 0 else f"best-{stage + 1}.npz")
        self._stage, self._writes = stage, writes
        self.epoch: int | None = None
        self.accuracy = -np.inf
        self.weights: list[np.ndarray] = []
        if self._path.is_file():
            self._read()

    def _read(self) -> None:
        try:
            arrays, position = _read(self._path)
            accuracy = position.figures["val_accuracy"]
        except (*_DAMAGE, OSError) as error:
            warnings.warn(f"Cannot read the best epoch, {self._path}: {error}", stacklevel=3)
            return
        if position.stage == self._stage:
            self.epoch, self.accuracy = position.epoch, accuracy
            self.weights = [arrays[name] for name in sorted(arrays)]

    def waited(self, epochs: int) -> int:
        """How many of the run's first `epochs` came after the best one."""
        return 0 if self.epoch is None else epochs - 1 - self.epoch

    def offer(self, model: keras.Model, epoch: int, accuracy: float) -> None:
        """Takes an epoch's weights if it is better than those before. All machines call it."""
        if not accuracy > self.accuracy:
            return
        self.epoch, self.accuracy, self.weights = epoch, accuracy, model.get_weights()
        if not self._writes:
            return
        figures = {"val_accuracy": float(accuracy)}
        arrays = {f"model/{i:04}": weight for i, weight in enumerate(self.weights)}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            _write_file(self._path, arrays, Position(self._stage, epoch, figures=figures))
        except OSError as error:
            warnings.warn(f"Cannot write the best epoch, {self._path}: {error}", stacklevel=2)


_DAMAGE = (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)


def _write_file(path: Path, arrays: Arrays, position: Position) -> None:
    described = np.array(json.dumps(dataclasses.asdict(position)))
    with _files.replacing(path) as partial, partial.open("wb") as file:
        _write(file, {_POSITION: described, **arrays})


def _write(file: BinaryIO, arrays: Arrays) -> None:
    """`numpy.savez`, which after a failed write tries again whenever Python collects garbage."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)


def _read(path: Path) -> tuple[Arrays, Position]:
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return arrays, Position(**json.loads(str(arrays.pop(_POSITION))))


def state_of(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> Arrays:
    """The variables of a model and its optimizer, by names that tell them apart.

    Across machines, every one has to call this: some variables are read from all of them.
    """
    variables = _variables(model, optimizer)
    return dict(zip(variables, keras.backend.batch_get_value(list(variables.values()))))


def restore(arrays: Arrays, model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
    """Sets what `state_of` returned.

    Raises:
        ValueError: the checkpoint is another model's or optimizer's; nothing was set.
    """
    # Its variables are made at the first step otherwise.
    optimizer.build(model.trainable_variables)
    variables = _variables(model, optimizer)
    for name in sorted({*arrays, *variables}):
        shape = tuple(variables[name].shape) if name in variables else None
        if name not in arrays or shape != arrays[name].shape:
            raise ValueError(
                f"The checkpoint is another model's or optimizer's: {name} has the shape "
                f"{arrays[name].shape if name in arrays else None} there, and {shape} here."
            )
    keras.backend.batch_set_value([(variables[name], arrays[name]) for name in variables])


def _variables(
    model: keras.Model, optimizer: keras.optimizers.Optimizer
) -> dict[str, keras.backend.variable]:
    # The names of an optimizer's variables depend on where they were made.
    named = {f"model/{i:04}/{v.name}": v for i, v in enumerate(model.weights)}
    return named | {f"optimizer/{i:04}": v for i, v in enumerate(optimizer.variables)}
