"""Converts a trained model to a .tflite file with bit-packed convolutions.

Usage: bireal-export --model_dir=FOLDER [flags]
       bireal-export --model=MODEL [flags]

    bireal-export --model_dir=runs/br18
    bireal-export --model=birealnet18.h5 --output=birealnet18.tflite --labels=labels.txt
    bireal-export --model=float.tflite --output=binary.tflite
    bireal-export --model=program.pt2 --zero_sign=+1

How the model takes its images and the names of its classes travel inside the file, so that
bireal-classify needs nothing else.

MODEL is a Keras model, or a .tflite file that another converter made without quantization:
TensorFlow's, Keras 3's, PyTorch's. Such a file takes neither TensorFlow nor Larq. A SavedModel that
legacy Keras cannot load as a model, as Keras 3's model.export writes it, becomes such a file first.
Or it is a .pt2 file, a program that PyTorch's torch.export.save wrote; that takes
bireal-keras[torch], see docs/pytorch.md.

The file is checked against the model before it is written; one that does not agree is not
written. What became of the model is printed, layer by layer: what is 1-bit, what is not and
why. See docs/export.md.

Load models of people you trust. Python code inside .keras, .h5 and .pt2 files is refused, but a
SavedModel is a program by design.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import app, flags

from bireal_keras import _files, _native_log
from bireal_keras.commands import _cli
from bireal_keras.export.pixel_input import INPUT_TYPES
from bireal_keras.export.real_layers import PRECISIONS
from bireal_keras.tflite.metadata import NORMALIZATIONS, Normalization
from bireal_keras.training import run_folder

if TYPE_CHECKING:
    from bireal_keras.export import Report

_SUFFIX = ".tflite"
# Legacy Keras writes it into its SavedModels.
_KERAS_METADATA = "keras_metadata.pb"
_PROGRAM = ".pt2"

_MODEL_DIR = _cli.define_path(
    "model_dir",
    None,
    "Folder that bireal-train wrote; model.keras, labels.txt and, of config.json, "
    "dataset.center_crop are taken.",
)
_MODEL = _cli.define_path(
    "model",
    None,
    "Instead of --model_dir: a .keras or .h5 file, a SavedModel folder, a float .tflite file or a "
    "program of PyTorch, .pt2.",
)
_OUTPUT = _cli.define_path(
    "output",
    None,
    "File to write or replace. Default: model.tflite in --model_dir, or beside --model under "
    "its name; NAME_binary.tflite beside a .tflite file.",
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
_INPUT_TYPE = flags.DEFINE_enum(
    "input_type",
    "float32",
    INPUT_TYPES,
    "What the file takes: images as the model takes them, or uint8, their pixels.",
)
_ALLOW_FLOAT = flags.DEFINE_bool(
    "allow_float", False, "Write the file even if a layer that is meant to be 1-bit stays float."
)
_CONVERTER = flags.DEFINE_enum(
    "converter",
    "bireal",
    ("bireal", "lce"),
    "Of a Keras model: bireal takes TensorFlow's converter and packs what it writes, lce takes "
    "Larq Compute Engine's.",
)
_ZEROS = ("refuse", "+1")
_ZERO_SIGN = flags.DEFINE_enum(
    "zero_sign",
    "refuse",
    _ZEROS,
    "Of a .tflite or .pt2 file: what a sign is worth that is 0 for 0, torch.sign and tf.sign. +1: "
    "as 1, if the samples show no 0.",
)
_ZERO_WEIGHTS = flags.DEFINE_enum(
    "zero_weights",
    "refuse",
    _ZEROS,
    "Of a .tflite or .pt2 file: what 1-bit weights are worth that are exactly 0. +1: as 1, if they "
    "are few.",
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
    is_float_file = model_path.suffix == _SUFFIX or _is_plain_saved_model(model_path)
    is_keras_model = not is_float_file and model_path.suffix != _PROGRAM
    output = Path(_OUTPUT.value) if _OUTPUT.value else _default_output(model_path, is_float_file)
    inputs = [model_path, Path(_LABELS.value) if _LABELS.value else None]
    if _MODEL_DIR.value:
        inputs += run_folder.open_run(_MODEL_DIR.value).files
    _cli.output_path("--output", output, _cli.TFLITE, others=inputs)
    npz_path = _cli.output_path("--npz", _NPZ.value, _cli.NPZ, others=[*inputs, output])
    json_path = _cli.output_path(
        "--json", _JSON.value, _cli.JSON, others=[*inputs, output, npz_path]
    )
    if npz_path is not None and not is_keras_model:
        raise app.UsageError("--npz needs a Keras model")
    if not is_keras_model and _CONVERTER.value != _CONVERTER.default:
        raise app.UsageError("--converter is for Keras models")
    if is_keras_model and (_ZERO_SIGN.value, _ZERO_WEIGHTS.value) != ("refuse", "refuse"):
        raise app.UsageError(
            "--zero_sign and --zero_weights are for .tflite and .pt2 files and for SavedModels of "
            "other programs"
        )
    options: dict[str, Any] = {
        "labels": labels,
        "normalization": _NORMALIZATION.value,
        "allow_float": _ALLOW_FLOAT.value,
        "real_layers": _REAL_LAYERS.value,
        "input_type": _INPUT_TYPE.value,
    }
    log = _cli.show_log("bireal_keras.export")
    if is_float_file:
        options |= _zeros() | {"center_crop": center_crop}
        report = _export_float_file(model_path, output, options)
    else:
        options["center_crop"] = 1.0 if center_crop is None else center_crop
        log.info("loading %s", model_path)
        if is_keras_model:
            options["converter"] = _CONVERTER.value
            report = _export_keras_model(model_path, output, options, npz_path)
        else:
            report = _export_program(model_path, output, options | _zeros())
    if json_path is not None:
        _files.write(json_path, json.dumps(report.as_dict(), indent=2) + "\n")
    print(report)


def _is_plain_saved_model(path: Path) -> bool:
    """Whether it is the folder of a SavedModel that legacy Keras has not written."""
    return (path / "saved_model.pb").is_file() and not (path / _KERAS_METADATA).is_file()


def _zeros() -> dict[str, Any]:
    return {"zero_sign": _ZERO_SIGN.value, "zero_weights": _ZERO_WEIGHTS.value}


def _default_output(path: Path, is_float_file: bool) -> Path:
    if is_float_file and not path.is_dir():
        return path.with_stem(f"{path.stem}_binary")
    return path.with_suffix(_SUFFIX)


def _export_float_file(path: Path, output: Path, options: dict[str, Any]) -> "Report":
    from bireal_keras.export import convert_tflite, from_saved_model

    file = from_saved_model.float_file(path, str(path)) if path.is_dir() else path
    return convert_tflite(file, output, **options)


def _export_program(path: Path, output: Path, options: dict[str, Any]) -> "Report":
    from bireal_keras.export import convert_torch

    return convert_torch(path, output, **options)


def _export_keras_model(
    path: Path, output: Path, options: dict[str, Any], npz_path: Path | None
) -> "Report":
    # TensorFlow's greeting and Keras's warnings would bury the report.
    with _native_log.captured():
        from bireal_keras._safe_load import load_model
        from bireal_keras.export import convert, to_npz

        model = load_model(path)
    report = convert(model, output, **options)
    if npz_path is not None:
        to_npz(model, npz_path)
    return report


def _inputs() -> tuple[Path, list[str] | None, float | None]:
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
    if center_crop is None and run:
        center_crop = run.center_crop
    return model, labels, center_crop
