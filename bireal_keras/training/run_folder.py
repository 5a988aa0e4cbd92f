"""The folder of a training run but for its checkpoints: what was run, and what came out.

Commands read it on devices, too: this module imports no TensorFlow.
"""

import contextlib
import csv
import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from bireal_keras import _file_lock, _files
from bireal_keras._checks import check_share

_Value = TypeVar("_Value")

HELD_OUT = "held_out.json"


@dataclasses.dataclass(frozen=True)
class Run:
    """A run's folder, each file of which is read when it is asked for; see `open_run`.

    What is asked for raises a ValueError where its file cannot be used.
    """

    folder: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """What training wrote, whether it is there or not."""
        names = ("config.json", "labels.txt", HELD_OUT, "log.csv", "metrics.json", "model.keras")
        return tuple(self.folder / name for name in names)

    @property
    def model(self) -> Path:
        """The trained Keras model, which has to be there."""
        path = self.folder / "model.keras"
        if not path.is_file():
            raise ValueError(f"There is no {path}.")
        return path

    @property
    def tflite(self) -> Path:
        """The file that bireal-export made of the model, which has to be there."""
        path = self.folder / "model.tflite"
        if not path.is_file():
            raise ValueError(
                f"There is no {path}. bireal-export --model_dir={self.folder} writes it."
            )
        return path

    @property
    def labels(self) -> list[str] | None:
        """The names of the classes in the order of the model's outputs; None without any."""
        path = self.folder / "labels.txt"
        return read_lines(path) if path.is_file() else None

    @property
    def center_crop(self) -> float:
        """What validation saw of an image; see `bireal_keras.training.recipe`."""

        def read(config: Any) -> float:
            share = config["recipe"]["dataset"].get("center_crop", 1.0)
            check_share(center_crop=share)
            return share

        return self._read_config(read, 1.0)

    @property
    def dataset(self) -> str | None:
        """The name of the dataset, as `data.load` takes it; None where nothing says it."""
        return self._read_config(lambda config: config["dataset"]["name"], None)

    @property
    def training_images(self) -> int | None:
        """How many images of the dataset were not held out; None where nothing says it."""

        def read(config: Any) -> int | None:
            dataset = config["dataset"]
            if "train_images" not in dataset:
                return None
            # With the recipe's `held_out` these validated in place of the dataset's own.
            parts = bool(config["recipe"]["dataset"].get("held_out"))
            return dataset["train_images"] + parts * dataset["validation_images"]

        return self._read_config(read, None)

    @property
    def held_out(self) -> list[str] | None:
        """Paths, in the folder that is the dataset, of the images that `data.load` held out.

        None of a dataset that is no folder, and of a run that did not write them down yet.
        """
        path = self.folder / HELD_OUT
        if not path.is_file():
            return None
        try:
            names = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is damaged: {error!r}") from error
        if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise ValueError(f"{path} is damaged: it must be a list of paths.")
        return names

    def _read_config(self, read: Callable[[Any], _Value], default: _Value) -> _Value:
        """What `read` takes from config.json; `default` where there is none."""
        path = self.folder / "config.json"
        if not path.is_file():
            return default
        try:
            return read(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise ValueError(f"{path} is damaged: {error!r}") from error


def open_run(path: str | os.PathLike[str]) -> Run:
    """Opens the folder that `training.train_and_evaluate` wrote.

    Raises:
        ValueError: there is no such folder.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise ValueError(f"There is no folder {folder}.")
    return Run(folder)


def is_run(path: str | os.PathLike[str]) -> bool:
    """Whether a path is the folder of a finished run, and not that of a SavedModel, say."""
    return (Path(path).expanduser() / "model.keras").is_file()


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, as every editor shows them.

    `str.splitlines` would break them at characters that a name may hold, too.

    Raises:
        ValueError: it is not text in UTF-8.
        OSError: it cannot be read.
    """
    try:
        # Some editors begin a file with a byte order mark, which is no part of the first name.
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8: {error}") from error
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []


def check_output_dir(run_dir: Path, resume: bool) -> None:
    """Raises a ValueError unless a run can start, or be resumed, in this folder."""
    if run_dir.exists() and not run_dir.is_dir():
        raise ValueError(f"`output_dir` is not a folder: {run_dir}.")
    is_run = (run_dir / "config.json").is_file()
    if resume and not is_run:
        raise ValueError(f"`output_dir` holds no run to resume: {run_dir}.")
    if not resume and is_run:
        raise ValueError(
            f"`output_dir` holds a run already: {run_dir}. Resume it, or choose another folder."
        )
    if not resume and run_dir.is_dir() and any(run_dir.iterdir()):
        raise ValueError(f"`output_dir` is not empty: {run_dir}.")


@contextlib.contextmanager
def alone_in(run_dir: Path) -> Iterator[None]:
    """Keeps other runs out of a folder that is there, until the context or the process ends.

    Raises:
        ValueError: another run is in it.
    """
    with _file_lock.locked_folder(run_dir) as is_ours:
        if not is_ours:
            raise ValueError(
                f"Another process trains in `output_dir`: {run_dir}. Wait until it has ended, or "
                "choose another folder."
            )
        yield


def check_same_run(
    run_dir: Path, description: dict[str, Any], defaults: Mapping[str, Any] | None = None
) -> None:
    """Raises a ValueError unless config.json describes this very run.

    Args:
        run_dir: the folder of the run.
        description: what config.json has to say.
        defaults: of fields of the recipe that an older version did not write down.
    """
    path = run_dir / "config.json"
    try:
        before = _flatten(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    unsaid = {f"recipe.{name}": value for name, value in (defaults or {}).items()}
    before = {**unsaid, **before}
    now = {**unsaid, **_flatten(json.loads(to_json(description)))}
    for field in sorted({*before, *now}):
        if before.get(field) != now.get(field):
            raise ValueError(
                f"The run in {run_dir} was started with {field}={before.get(field)!r}, it "
                f"cannot be resumed with {field}={now.get(field)!r}."
            )


def check_same_held_out(run_dir: Path, held_out: Sequence[str] | None) -> None:
    """Raises a ValueError where a run to resume held out other images than would be now."""
    before = Run(run_dir).held_out
    if before is not None and before != list(held_out or ()):
        raise ValueError(
            f"The run in {run_dir} cannot be resumed: the dataset's images have changed, so that "
            "it would validate with images that it was trained on. Put back what has been added, "
            "moved or removed, or start a new run."
        )


def _flatten(fields: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": [{"c": 1}]}} as {"a.b[0].c": 1}."""
    flat = {}
    for key, value in fields.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            flat.update(_flatten(value, f"{name}."))
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            for index, item in enumerate(value):
                flat.update(_flatten(item, f"{name}[{index}]."))
        else:
            flat[name] = value
    return flat


def keep_epochs(log: Path, epochs: int) -> None:
    """Drops from log.csv what came after the checkpoint: it will be trained again."""
    if log.exists():
        header, *rows = log.read_text(encoding="utf-8").splitlines(keepends=True) or [""]
        # A stage that ended early left out numbers. A line that a crash cut off has none.
        numbers = [row.partition(",")[0] for row in rows]
        kept = [row for row, n in zip(rows, numbers) if n.isdecimal() and int(n) < epochs]
        _files.write(log, "".join([header, *kept] if kept else []))


def read_log(log: Path) -> list[dict[str, str]]:
    """The rows of log.csv; none where it is gone."""
    if not log.exists():
        return []
    with log.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def to_json(value: dict[str, Any] | Sequence[str]) -> str:
    return json.dumps(value, indent=2) + "\n"
