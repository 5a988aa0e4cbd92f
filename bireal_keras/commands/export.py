"""Converts a trained Keras model to a .tflite file with bit-packed convolutions.

    bireal-export --model_dir=runs/br18
    bireal-export --model=birealnet18.h5 --output=birealnet18.tflite --labels=labels.txt

How the model takes its images and the names of its classes travel inside the file, so that
bireal-classify needs nothing else.

The file is checked against the Keras model before it is written; one that does not agree
is not written. What became of the model is printed, layer by layer: what is 1-bit, what is not
and why. See docs/export.md.

Load models of people you trust. Python code inside .keras and .h5 files is refused, but a
SavedModel is a program by design.
"""

import dataclasses
import json
from pathlib import Path

from absl import app, flags

from bireal_keras import _native_log
from bireal_keras.commands import _cli
from bireal_keras.export.real_layers import PRECISIONS
from bireal_keras.tflite.metadata import NORMALIZATIONS, Normalization

_MODEL_DIR = flags.DEFINE_string(
    "model_dir",
    None,
    "Folder that bireal-train wrote; model.keras, labels.txt and, of config.json, "
    "dataset.center_crop are taken.",
)
_MODEL = flags.DEFINE_string(
    "model", None, "Instead of --model_dir: a .keras or .h5 file or a SavedModel folder."
)
_OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "File to write or replace. Default: model.tflite in --model_dir, or beside --model under "
    "its name.",
)
_LABELS = flags.DEFINE_string(
    "labels",
    None,
    "Text file with the class names, one a line, to put into the .tflite file. Default: "
    "labels.txt in --model_dir, if it is there.",
)


class _NormalizationParser(flags.ArgumentParser):
    """A name or mean:std, see `Normalization.parse`."""

    syntactic_help = "|".join([*NORMALIZATIONS, "mean:std"])

    def parse(self, argument: str | Normalization) -> Normalization:
        return Normalization.parse(argument) if isinstance(argument, str) else argument


_NORMALIZATION = flags.DEFINE(
    _NormalizationParser(),
    "normalization",
    None,
    "What the model takes. symmetric: images in [-1, 1], as all of bireal-train's. imagenet: with "
    "the mean and the deviation of ImageNet's colours taken off, as published weights. unit: in "
    "[0, 1]. raw: pixels, from 0 to 255. mean:std: (pixel - mean) / std; of three colours with "
    "commas, 124,116,104:58,57,57. Default: what a first layer Rescaling or Normalization takes, "
    "or else symmetric.",
    serializer=flags.ArgumentSerializer(),
)
_CENTER_CROP = flags.DEFINE_float(
    "center_crop",
    None,
    "Side of the central square of an image that the model is to see, as a share of the shorter "
    "side. Default: the recipe's in --model_dir, or else 1.",
)
_REAL_LAYERS = flags.DEFINE_enum(
    "real_layers",
    "float32",
    PRECISIONS,
    "Precision of the kernels of real-valued layers: the first convolution, those on shortcuts, "
    "the classifier.",
)
_ALLOW_FLOAT = flags.DEFINE_bool(
    "allow_float", False, "Write the file even if a layer that is meant to be 1-bit stays float."
)
_JSON = flags.DEFINE_string("json", None, "File to write the report to, too, for programs.")
_NPZ = flags.DEFINE_string(
    "npz",
    None,
    "File to write packed bits, scales, thresholds and real weights to as well, for FPGAs and "
    "microcontrollers; docs/npz.md describes it.",
)


def run() -> None:
    """Entry point of the console command."""
    _cli.run("bireal-export", main, module=__name__, doc=__doc__)


def main(argv: list[str]) -> None:
    if argv:
        raise app.UsageError(f"Unexpected argument {argv[0]!r}")
    model_path, output, labels_path = _paths()
    labels = None if labels_path is None else _read_lines(labels_path)
    center_crop = _center_crop()
    json_path = _cli.output_path("--json", _JSON.value)
    npz_path = _cli.output_path("--npz", _NPZ.value)

    log = _cli.show_log("bireal_keras.export")

    log.info("loading %s", model_path)
    # TensorFlow's greeting and Keras's warnings would bury the report.
    with _native_log.captured():
        from bireal_keras._keras_model import load_model
        from bireal_keras.export import convert, to_npz

        model = load_model(model_path)
    report = convert(
        model,
        output,
        labels=labels,
        normalization=_NORMALIZATION.value,
        center_crop=center_crop,
        allow_float=_ALLOW_FLOAT.value,
        real_layers=_REAL_LAYERS.value,
    )
    if json_path is not None:
        content = json.dumps(dataclasses.asdict(report), indent=2) + "\n"
        json_path.write_text(content, encoding="utf-8")
    if npz_path is not None:
        to_npz(model, npz_path)
    print(report)


def _paths() -> tuple[Path, Path, Path | None]:
    """Of the model, of the output and of the labels, None without any."""
    labels = Path(_LABELS.value) if _LABELS.value else None
    if _MODEL_DIR.value and not _MODEL.value:
        folder = Path(_MODEL_DIR.value)
        model = folder / "model.keras"
        if labels is None and (folder / "labels.txt").is_file():
            labels = folder / "labels.txt"
    elif _MODEL.value and not _MODEL_DIR.value:
        model = Path(_MODEL.value)
    else:
        raise app.UsageError("Give either --model_dir or --model")
    if not model.exists():
        raise ValueError(f"There is no {model}.")
    output = Path(_OUTPUT.value) if _OUTPUT.value else model.with_suffix(".tflite")
    return model, output, labels


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text: {error}") from error


def _center_crop() -> float:
    path = Path(_MODEL_DIR.value or "") / "config.json"
    if _CENTER_CROP.value is not None:
        return _CENTER_CROP.value
    if not _MODEL_DIR.value or not path.is_file():
        return 1.0
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        return config["recipe"]["dataset"].get("center_crop", 1.0)
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
