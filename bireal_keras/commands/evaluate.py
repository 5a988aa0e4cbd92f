"""Says how good a model is, and what it takes for what.

Usage: bireal-evaluate MODEL [--dataset=DATASET] [flags]

    bireal-evaluate runs/photos --pictures=runs/photos
    bireal-evaluate runs/photos/model.tflite --dataset=more_photos/
    bireal-evaluate runs/cifar/model.keras --dataset=cifar10 --json=cifar.json

MODEL is a .tflite file, a .keras or .h5 file, or a folder of bireal-train: then its model.tflite
or, where bireal-export has not written that yet, its model.keras. Or it is cifar10, the model that
comes with the package. A Keras model takes images in [-1, 1], as those of bireal-train do. A
.tflite file and a folder of images need no TensorFlow.

Of a run, and of a file in a run's folder, the dataset is the run's own unless --dataset names
another. Evaluated are the images that training did not see: of a dataset of TensorFlow Datasets and
of mnist_5k the validation split, of a run's own folder the images that the run's held_out.json
lists (its folder validation, or the tenth that bireal-train held out), as far as they are there
still, and of another folder its folder validation, or else all images.

Printed are how often the class came first (top-1) and among the first five (top-5), and for each
class the precision (the share of it among what was taken for it) and the recall (the share of it
that was found); what was taken for what; and how long the network takes. An image that cannot be
read is reported and left out; the exit status is then 1.
"""

import io
import itertools
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from absl import app, flags

from bireal_keras import _files, _native_log
from bireal_keras.commands import _cli, _model_argument, _tensorflow_log
from bireal_keras.runtime import results
from bireal_keras.runtime.interpreter import Interpreter
from bireal_keras.tflite.metadata import Metadata
from bireal_keras.training import image_folder, run_folder

if TYPE_CHECKING:
    from bireal_keras.evaluation import Evaluation, Mistake
    from bireal_keras.pictures import Tile

_DATASET = _cli.define_path(
    "dataset",
    None,
    "A folder of images, <folder>/<class>/*.jpg or <folder>/validation/<class>/*.jpg, or a dataset "
    "as for bireal-train. Default: the one of MODEL's run.",
)
_DATA_DIR = _cli.define_path(
    "data_dir", None, "Where TensorFlow Datasets keeps its data, if not in the usual place."
)
_HELD_OUT = flags.DEFINE_bool(
    "held_out",
    None,
    "Of a folder without train and validation, evaluate only the tenth that bireal-train holds out "
    "of it. Default: only of the folder that MODEL's run was trained on.",
)
_NUM_THREADS = flags.DEFINE_integer(
    "num_threads", 1, "Threads to compute with, of a .tflite file.", lower_bound=1, upper_bound=64
)
_JSON = _cli.define_path("json", None, "File to write the results to, for programs.")
_PICTURES = _cli.define_path(
    "pictures", None, "Folder to write confusion.png and mistakes.png to, the surest mistakes."
)

# Of a Keras model, which is slow for one image.
_BATCH_SIZE = 32
# More classes are not listed but those with the lowest recall.
_MAX_CLASSES = 20
_MAX_CONFUSIONS = 5
_TEXT_MISTAKES = 5


class _Model(NamedTuple):
    """Something that tells classes from images.

    Attributes:
        path: of its file.
        metadata: how it takes images, and what its classes are called.
        classes: how many it has.
        predict: float32 (n, height, width, channels) -> scores (n, classes).
        batch_size: how many images it takes at once.
    """

    path: Path
    metadata: Metadata
    classes: int
    predict: Callable[[np.ndarray], np.ndarray]
    batch_size: int


class _Example(NamedTuple):
    """An image as the model takes it, its class, what it is called and what shows it."""

    name: str
    label: int
    values: np.ndarray
    picture: Path | np.ndarray


class _Dataset(NamedTuple):
    """Examples that are read one after the other, and what the dataset is called.

    An example that cannot be read is an error in its place.
    """

    name: str
    class_names: tuple[str, ...]
    examples: Iterable[_Example | tuple[str, Exception]]


def run() -> None:
    """Entry point of the console command."""
    _cli.run("bireal-evaluate", main, module=__name__, doc=__doc__)


def main(args: list[str]) -> int:
    if len(args) != 1:
        raise app.UsageError(f"exactly one model is needed. Received: {len(args)}.")
    folder = _pictures_folder(_PICTURES.value)
    _tensorflow_log.silence()
    # Pillow warns of large images and odd tags; what matters becomes an error.
    warnings.simplefilter("ignore")
    path, trained = _find(Path(args[0]))
    inputs = [path, *(trained.files if trained is not None else ())]
    output = _cli.output_path("--json", _JSON.value, _cli.JSON, others=inputs)
    model = _load(path, trained)
    dataset = _open_dataset(model, trained)

    evaluation, times, unread = _evaluate(model, dataset)
    if not evaluation.images:
        raise ValueError(f"No image of {dataset.name} can be read.")
    report = {
        "model": str(path),
        "dataset": dataset.name,
        "unread": unread,
        **evaluation.to_dict(),
        "latency_ms": {"median": statistics.median(times), "min": min(times)},
        "batch_size": model.batch_size,
        "num_threads": _NUM_THREADS.value if path.suffix == ".tflite" else None,
    }
    if output is not None:
        _files.write(output, json.dumps(report, indent=2) + "\n")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name that the terminal cannot show is not a reason to stop.
        sys.stdout.reconfigure(errors="backslashreplace")
    print(_text(report, evaluation))
    if folder is not None:
        written = _draw(evaluation, folder, dataset.name)
        print(f"pictures: {', '.join(map(str, written))}")
    return _cli.FAILURE if unread else 0


def _pictures_folder(value: str | None) -> Path | None:
    folder = Path(value) if value else None
    if folder is not None and not folder.is_dir():
        raise ValueError(f"--pictures must be an existing folder. Received: {folder}.")
    return folder


def _find(path: Path) -> tuple[Path, run_folder.Run | None]:
    """The model's file, and the run that it is from, if it is from one."""
    if run_folder.is_run(path):
        trained = run_folder.open_run(path)
        exported = trained.folder / "model.tflite"
        return (exported if exported.is_file() else trained.model), trained
    path = Path(_model_argument.resolve(str(path)))
    return path, run_folder.open_run(path.parent) if run_folder.is_run(path.parent) else None


def _load(path: Path, trained: run_folder.Run | None) -> _Model:
    if path.suffix == ".tflite":
        # It is imported here because --help and a mistyped flag do not need Pillow.
        from bireal_keras.runtime import classifier

        with _native_log.quiet():  # LiteRT greets.
            interpreter = Interpreter(path, num_threads=_NUM_THREADS.value)
        classifier.check(interpreter)
        classes = interpreter.output_shape[1]
        return _Model(path, interpreter.metadata, classes, interpreter.predict, 1)

    with _cli.imports("bireal-evaluate"), _native_log.quiet():
        from bireal_keras._safe_load import load_model
    model = load_model(path)
    taken, given = model.input_shape, model.output_shape
    if len(taken) != 4 or None in taken[1:] or taken[3] != 3 or len(given) != 2:
        raise ValueError(
            f"{path}: must be a classifier from images (batch, height, width, 3) to (batch, "
            f"classes). Received: {taken} to {given}."
        )
    labels = trained.labels if trained is not None else None
    metadata = Metadata(
        labels=None if labels is None else tuple(labels),
        image_size=taken[1:3],
        center_crop=1.0 if trained is None else trained.center_crop,
    )
    return _Model(path, metadata, given[1], model.predict_on_batch, _BATCH_SIZE)


def _open_dataset(model: _Model, trained: run_folder.Run | None) -> _Dataset:
    own = trained.dataset if trained is not None else None
    name = _DATASET.value or own
    if name is None:
        raise app.UsageError(f"{model.path} says of no dataset; --dataset is needed")
    image_folder.check_exists(name, _DATA_DIR.value)
    path = Path(os.path.abspath(name))
    if not path.is_dir() or _DATA_DIR.value is not None:
        return _tensorflow_dataset(name, model)
    is_own = own is not None and path == Path(os.path.abspath(own))
    if not (is_own if _HELD_OUT.value is None else _HELD_OUT.value):
        folder, described = image_folder.list_all(path), "all of it"
    elif trained is not None and is_own:
        folder, described = _held_out(path, trained)
    else:
        folder, described = image_folder.read(path), "what training held out"
    return _Dataset(f"{path}, {described}", folder.class_names, _read(folder, model.metadata))


def _held_out(path: Path, trained: run_folder.Run) -> tuple[image_folder.ImageFolder, str]:
    """Of a run's own folder the images that training did not see, and how to call them.

    What training held out of it then is not what it would hold out of the folder as it is now.
    """
    names = trained.held_out
    if names is not None:
        folder = image_folder.read_listed(path, names)
        gone = len(names) - len(folder.paths)
        but = f" but for {gone:,} of {len(names):,}, which are gone" if gone else ""
        return folder, f"what training held out{but}"
    # An older version did not write down which ones.
    folder, before = image_folder.read(path), trained.training_images
    if before not in (None, len(folder.train)):
        raise ValueError(
            f"{path} has changed since training: it had {before:,} images to train with, and now "
            f"{len(folder.train):,}. Which of them were held out is not known of this run, as it "
            f"has no {run_folder.HELD_OUT}. --noheld_out evaluates them all, --dataset others."
        )
    return folder, "what training held out"


def _read(
    folder: image_folder.ImageFolder, metadata: Metadata
) -> Iterator[_Example | tuple[str, Exception]]:
    from bireal_keras.runtime.image import load_image

    for index in sorted(folder.validation):
        path = folder.paths[index]
        try:
            values = load_image(path, metadata)
        except (OSError, ValueError) as error:
            yield str(path), error
        else:
            yield _Example(str(path), int(folder.labels[index]), values, path)


def _tensorflow_dataset(name: str, model: _Model) -> _Dataset:
    metadata = model.metadata
    if metadata.image_size is None or metadata.channels != 3:
        raise ValueError(f"{model.path}: takes no RGB images, and is evaluated on folders only.")
    height, width = metadata.image_size
    if height != width:
        raise ValueError(
            f"{model.path}: must take square images, or be evaluated on a folder. "
            f"Received: {height} x {width}."
        )
    with _cli.imports("bireal-evaluate"), _native_log.quiet():
        try:
            from bireal_keras import _keras  # noqa: F401
        except ImportError as error:
            if os.path.isdir(name):
                raise
            # On a device, where this comes from, it is as a rule a mistyped folder.
            raise ImportError(
                f"There is no folder {name}, and a dataset that goes by a name takes more. {error}"
            ) from error
        from bireal_keras.training import data
    dataset = data.load(name, data_dir=_DATA_DIR.value)
    classes = len(dataset.class_names)
    batches = data.evaluation_batches(
        dataset.validation,
        image_size=height,
        num_classes=classes,
        batch_size=_BATCH_SIZE,
        center_crop=metadata.center_crop,
    )
    normalization = metadata.normalization
    mean, std = (np.array(v, np.float32) for v in (normalization.mean, normalization.std))

    def examples() -> Iterator[_Example]:
        number = itertools.count()
        for images, labels in batches.as_numpy_iterator():
            for pixels, label in zip((images + 1) * np.float32(127.5), labels.argmax(axis=1)):
                picture = np.clip(np.round(pixels), 0, 255).astype(np.uint8)
                values = picture if metadata.takes_pixels else (pixels - mean) / std
                yield _Example(f"{name} {next(number)}", int(label), values, picture)

    return _Dataset(f"{name}, validation", dataset.class_names, examples())


def _evaluate(model: _Model, dataset: _Dataset) -> tuple["Evaluation", list[float], list[str]]:
    """The figures, the milliseconds that each image took, and the images that cannot be read."""
    from bireal_keras.evaluation import Evaluation

    labels = model.metadata.labels or tuple(dataset.class_names)
    if len(labels) != model.classes:
        raise ValueError(
            f"{model.path} has {model.classes} classes, and no names for them; "
            f"{dataset.name} has {len(labels)}."
        )
    strange = [name for name in dataset.class_names if name not in labels]
    if strange:
        raise ValueError(
            f"{model.path} does not know these classes of {dataset.name}: {', '.join(strange)}. "
            f"It knows: {', '.join(labels)}."
        )
    positions = [labels.index(name) for name in dataset.class_names]
    evaluation = Evaluation(labels)
    times: list[float] = []
    unread: list[str] = []
    examples = iter(_complaining(dataset.examples, unread))
    while batch := list(itertools.islice(examples, model.batch_size)):
        values = np.stack([example.values for example in batch])
        if not times:
            # Not measured: Keras builds a graph for its first batch.
            model.predict(values)
        start = time.perf_counter()
        scores = np.asarray(model.predict(values))
        times.append((time.perf_counter() - start) * 1e3 / len(batch))
        for example, row in zip(batch, scores):
            guesses = results.top_k(row, labels, 5)
            ranked = [guess.index for guess in guesses]
            label = positions[example.label]
            evaluation.add(example.name, label, ranked, guesses[0].probability, example.picture)
    return evaluation, times, unread


def _complaining(
    examples: Iterable[_Example | tuple[str, Exception]], unread: list[str]
) -> Iterator[_Example]:
    """The examples that can be read; the others are reported, and noted in `unread`."""
    for example in examples:
        if isinstance(example, _Example):
            yield example
            continue
        name, error = example
        # The text of an OSError from the system repeats the path.
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        print(f"bireal-evaluate: {results.printable(name)}: {reason}", file=sys.stderr)
        unread.append(name)


def _text(report: dict[str, Any], evaluation: "Evaluation") -> str:
    """The results, for people."""
    shown = results.printable
    lines = [
        f"{shown(report['model'])} on {shown(report['dataset'])}: {evaluation.images:,} images"
    ]
    if report["unread"]:
        lines[0] += f", {len(report['unread']):,} more cannot be read"
    top5 = "" if evaluation.top5 is None else f", top-5 {evaluation.top5:.1%}"
    lines.append(f"top-1 {evaluation.top1:.1%}{top5}")

    classes = evaluation.classes
    if len(classes) > _MAX_CLASSES:
        some = [one for one in classes if one.recall is not None]
        classes = sorted(some, key=lambda one: one.recall or 0.0)[:_MAX_CLASSES]
        lines.append(f"the {len(classes)} classes with the lowest recall:")
    width = max(len("class"), *(len(shown(one.name)) for one in classes))
    lines.append(f"  {'class':{width}}  images  precision  recall")
    for one in classes:
        precision, recall = (_percent(share) for share in (one.precision, one.recall))
        lines.append(f"  {shown(one.name):{width}} {one.images:7,} {precision:>10} {recall:>7}")

    wrong = evaluation.confusion * (1 - np.eye(len(evaluation.class_names), dtype=np.int64))
    for index in np.argsort(-wrong, axis=None, kind="stable")[:_MAX_CONFUSIONS]:
        row, column = divmod(int(index), len(wrong))
        if wrong[row, column]:
            label, taken = evaluation.class_names[row], evaluation.class_names[column]
            lines.append(f"{shown(label)} taken for {shown(taken)}: {wrong[row, column]:,}")
    for mistake in evaluation.mistakes[:_TEXT_MISTAKES]:
        lines.append(f"{shown(_told(mistake, evaluation))}: {shown(mistake.image)}")

    latency = report["latency_ms"]
    how = (
        f"threads: {report['num_threads']}"
        if report["num_threads"]
        else f"Keras, in batches of {report['batch_size']}"
    )
    lines.append(
        f"the network takes {latency['median']:.3f} ms for an image (median; at least "
        f"{latency['min']:.3f} ms; {how})"
    )
    return "\n".join(lines)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _told(mistake: "Mistake", evaluation: "Evaluation") -> str:
    names = evaluation.class_names
    return f"{mistake.probability:.0%} {names[mistake.predicted]}, is {names[mistake.label]}"


def _draw(evaluation: "Evaluation", folder: Path, name: str) -> list[Path]:
    """Writes the pictures, and returns their paths."""
    from bireal_keras import pictures

    drawn = {
        "confusion.png": pictures.confusion_matrix(evaluation.confusion, evaluation.class_names),
        "mistakes.png": pictures.gallery(
            f"The surest mistakes on {name}",
            [_tile(mistake, evaluation) for mistake in evaluation.mistakes],
        ),
    }
    for file, picture in drawn.items():
        with _files.replacing(folder / file) as partial:
            picture.save(partial)
    return [folder / file for file in drawn]


def _tile(mistake: "Mistake", evaluation: "Evaluation") -> "Tile":
    from bireal_keras import pictures
    from bireal_keras._pillow import Image
    from bireal_keras.runtime.image import load_image

    pixels = mistake.picture
    if isinstance(pixels, Path):
        # The central square, in [-1, 1].
        size = pictures.TILE
        values = load_image(pixels, Metadata(image_size=(size, size)))
        pixels = np.round((values + 1) * 127.5).astype(np.uint8)
    picture = Image.fromarray(pixels).resize((pictures.TILE, pictures.TILE))
    names = evaluation.class_names
    lines = (
        f"{mistake.probability:.0%} {names[mistake.predicted]}",
        f"is {names[mistake.label]}",
        os.path.basename(mistake.image),
    )
    return pictures.Tile(picture, lines)
