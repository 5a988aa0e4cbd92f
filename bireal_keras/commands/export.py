"""Converts a trained Keras model to a .tflite file with bit-packed convolutions.

Usage: bireal-export --model_dir=FOLDER [flags]
       bireal-export --model=MODEL [flags]

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

import json
from pathlib import Path

from absl import app, flags

from bireal_keras import _files, _native_log
from bireal_keras.commands import _cli
from bireal_keras.export.real_layers import PRECISIONS
from bireal_keras.tflite.metadata import NORMALIZATIONS, Normalization
from bireal_keras.training import run_folder

_MODEL_DIR = _cli.define_path(
    "model_dir",
    None,
    "Folder that bireal-train wrote; model.keras, labels.txt and, of config.json, "
    "dataset.center_crop are taken.",
)
_MODEL = _cli.define_path(
    "model", None, "Instead of --model_dir: a .keras or .h5 file or a SavedModel folder."
)
_OUTPUT = _cli.define_path(
    "output",
    None,
    "File to write or replace. Default: model.tflite in --model_dir, or beside --model under "
    "its name.",
)
_LABELS = _cli.define_path(
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
_JSON = _cli.define_path("json", None, "File to write the report to, too, for programs.")
_NPZ = _cli.define_path(
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
    model_path, labels, center_crop = _inputs()
    output = Path(_OUTPUT.value) if _OUTPUT.value else model_path.with_suffix(".tflite")
    json_path = _cli.output_path("--json", _JSON.value)
    npz_path = _cli.output_path("--npz", _NPZ.value)

    log = _cli.show_log("bireal_keras.export")

    log.info("loading %s", model_path)
    # TensorFlow's greeting and Keras's warnings would bury the report.
    with _native_log.captured():
        from bireal_keras._safe_load import load_model
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
        _files.write(json_path, json.dumps(report.as_dict(), indent=2) + "\n")
    if npz_path is not None:
        to_npz(model, npz_path)
    print(report)


def _inputs() -> tuple[Path, list[str] | None, float]:
    """The path of the model, the names of its classes and the share of an image that it sees.

    What a flag does not say comes from the run's folder, if there is one.
    """
    if bool(_MODEL_DIR.value) == bool(_MODEL.value):
        raise app.UsageError("Give either --model_dir or --model")
    run = run_folder.open_run(_MODEL_DIR.value) if _MODEL_DIR.value else None
    model = run.model if run else Path(_MODEL.value or "")
    if not model.exists():
        raise ValueError(f"There is no {model}.")
    labels, center_crop = None, _CENTER_CROP.value
    if _LABELS.value:
        labels = run_folder.read_lines(Path(_LABELS.value))
    elif run:
        labels = run.labels
    if center_crop is None:
        center_crop = run.center_crop if run else 1.0
    return model, labels, center_crop
