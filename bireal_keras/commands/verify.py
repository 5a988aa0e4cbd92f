"""Says whether a .tflite file computes what its Keras model computes.

Usage: bireal-verify [flags] MODEL FILE.tflite

    bireal-verify runs/digits runs/digits/model.tflite
    bireal-verify runs/cifar model.tflite --data_dir=~/tensorflow_datasets --num_images=1000
    bireal-verify birealnet18.h5 birealnet18.tflite --dataset=photos/
    bireal-verify birealnet18.h5 birealnet18.tflite --random

MODEL is a folder that bireal-train wrote, a .keras or .h5 file or a SavedModel folder. Keras, our
runtime and, where it is installed, Larq Compute Engine's reference kernel run on images of a
dataset's validation split: the run's own, or that of --dataset. Printed are the accuracy of each,
how often they agree, and for every 1-bit layer how far its input is from Keras's once Keras is told
the file's signs, and how many signs flip. docs/verify.md explains what that proves.

Exit status: 0 if the file computes what Keras computes, 1 if not, or if it cannot be told.
"""

import dataclasses
import itertools
import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from absl import app, flags

from bireal_keras import _files, _native_log
from bireal_keras.commands import _cli
from bireal_keras.tflite.model import UINT8, Graph
from bireal_keras.training import run_folder

if TYPE_CHECKING:
    from bireal_keras.export.differences import Comparison
    from bireal_keras.export.signature import Signature

_DATASET = _cli.define_path(
    "dataset",
    None,
    "Whose validation split to take the images from, as for bireal-train. Default: the dataset "
    "that config.json in MODEL names.",
)
_DATA_DIR = _cli.define_path(
    "data_dir", None, "Where TensorFlow Datasets keeps its data, if not in the usual place."
)
_NUM_IMAGES = flags.DEFINE_integer(
    "num_images", 200, "How many images, spread over the whole split.", lower_bound=8
)
_RANDOM = flags.DEFINE_bool(
    "random", False, "Take artificial images, which is also what happens where no dataset is known."
)
_TOLERANCE = flags.DEFINE_float(
    "tolerance",
    2e-4,
    "What passes for rounding, as a share of a tensor's spread. The default is for float32; real "
    "layers in half precision need about 0.01.",
    lower_bound=0.0,
)
_JSON = _cli.define_path("json", None, "File to write the results to, for programs.")

_PROGRESS_SECONDS = 5.0
_log = logging.getLogger("bireal_keras.commands.verify")


class _Images(NamedTuple):
    """What each input of the model gets, (n, ...), labels (n,) where known, and what they are."""

    values: list[np.ndarray]
    labels: np.ndarray | None
    name: str


def run() -> None:
    """Entry point of the console command."""
    _cli.run("bireal-verify", main, module=__name__, doc=__doc__)


def main(args: list[str]) -> int:
    if len(args) != 2:
        raise app.UsageError(f"a model and a .tflite file are needed. Received: {len(args)}.")
    if _RANDOM.value and _DATASET.value:
        raise app.UsageError("Give either --random or --dataset")
    model_path, file = Path(args[0]), Path(args[1])
    dataset, center_crop, run = _DATASET.value, 1.0, None
    if run_folder.is_run(model_path):
        run = run_folder.open_run(model_path)
        model_path, center_crop = run.model, run.center_crop
        dataset = dataset or run.dataset
    if not model_path.exists():
        raise ValueError(f"There is no {model_path}.")
    if not file.is_file():
        raise ValueError(f"There is no file {file}.")
    inputs = [model_path, file, *(run.files if run is not None else ())]
    output = _cli.output_path("--json", _JSON.value, _cli.JSON, others=inputs)
    content = file.read_bytes()
    graph = _graph(content, file)

    log = _cli.show_log("bireal_keras.export")
    log.info("loading %s", model_path)
    # TensorFlow's greeting and Keras's warnings would bury the result.
    with _native_log.captured():
        from bireal_keras._safe_load import load_model
        from bireal_keras.export import comparison, probes, rewriting, signature

        model = rewriting.in_float32(load_model(model_path))
        taken = signature.of(model)
        order = _file_order(taken, graph, file)
        # As it is used: with nothing inside it to look at, the delegate fuses.
        run_fused = probes.run_on_runtime(content)
        images = _images(taken, dataset, center_crop)
        in_file_order = [images.values[position] for position in order.inputs]
        lce_missing = probes.missing_on_lce(content, in_file_order)
    runners: dict[str, Callable[[bytes], probes.Runner]] = {
        "LCE": probes.run_on_lce,
        "ours": probes.run_on_runtime,
    }
    if lce_missing:
        del runners["LCE"]
    expected, comparisons = comparison.compare(
        model,
        content,
        images.values,
        list(runners.values()),
        tolerance=_TOLERANCE.value,
        progress=_Progress(len(images.values[0])),
    )
    compared = dict(zip(runners, comparisons))
    fused_in_file_order = run_fused(in_file_order)
    fused = [fused_in_file_order[position] for position in order.outputs]

    reason = _reason(expected, compared, fused)
    outputs = {"Keras": expected, **{name: one.outputs for name, one in compared.items()}}
    # The results are those of the file as it is used.
    outputs["ours"] = fused
    result = {
        "model": str(model_path),
        "file": str(file),
        "images": images.name,
        "num_images": len(images.values[0]),
        "top1": _top1(outputs, images.labels),
        "top1_agreement": _agreement(outputs),
        "lce": _as_dict(compared["LCE"]) if "LCE" in compared else None,
        "lce_missing": lce_missing or None,
        "ours": _as_dict(compared["ours"]),
        "computes_what_keras_computes": reason is None,
        "reason": reason,
    }
    print(_text(result, compared))
    if output is not None:
        _files.write(output, json.dumps(result, indent=2) + "\n")
    return 0 if reason is None else _cli.FAILURE


class _Order(NamedTuple):
    """Where a file's inputs are among Keras's, and Keras's outputs among the file's."""

    inputs: list[int]
    outputs: list[int]


def _graph(content: bytes, file: Path) -> Graph:
    try:
        return Graph(content)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def _file_order(signature: "Signature", graph: Graph, file: Path) -> _Order:
    try:
        inputs, outputs = signature.tensors_of(graph)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    if any(graph.tensors[index].type == UINT8 for index in inputs):
        raise ValueError(
            f"{file} must take float32, as the model does. Received: one that takes pixels. Verify "
            "the file without --input_type=uint8, which is the same after the first operators."
        )
    batch = graph.tensors[inputs[0]].shape[0]
    if batch != (signature.batch or 1):
        raise ValueError(
            f"{file} must take as many images at a time as the model, {signature.batch or 1}. "
            f"Received: {batch}."
        )
    return _Order(
        [inputs.index(index) for index in graph.inputs],
        [graph.outputs.index(index) for index in outputs],
    )


def _images(signature: "Signature", name: str | None, center_crop: float) -> _Images:
    if _RANDOM.value or name is None:
        from bireal_keras.export.samples import artificial

        values = artificial(signature.sample_shapes, signature.batch or 1, _NUM_IMAGES.value)
        return _Images(values, None, "artificial images")
    shape = signature.image_shape
    if shape is None or shape[0] != shape[1] or shape[2] != 3:
        raise ValueError(
            "Only models of one square image in colour can see a dataset: take --random. Received: "
            f"a model of {', '.join(map(str, signature.sample_shapes))}."
        )

    from bireal_keras.training import data

    images = data.load(name, data_dir=_DATA_DIR.value)
    classes = len(images.class_names)
    output = signature.outputs[0]
    is_classifier = len(signature.outputs) == 1 and len(output) == 2
    if is_classifier and classes != output[-1]:
        raise ValueError(f"The dataset {name} has {classes} classes and the model {output[-1]}.")
    split = images.validation
    # Full batches: a model may fix how many images it takes.
    batch = signature.batch or 1
    count = min(_NUM_IMAGES.value, split.size) // batch * batch
    if not count:
        raise ValueError(
            f"The dataset {name} must have {batch} images, as many as the model takes at a time. "
            f"Received: {min(_NUM_IMAGES.value, split.size)}."
        )
    # A folder's images come class by class.
    examples = split.examples.shard(split.size // count, 0).take(count)
    batches = data.evaluation_batches(
        dataclasses.replace(split, examples=examples, size=count),
        image_size=shape[0],
        num_classes=classes,
        batch_size=32,
        center_crop=center_crop,
    )
    samples, one_hot = (np.concatenate(arrays) for arrays in zip(*batches.as_numpy_iterator()))
    labels = one_hot.argmax(axis=1) if is_classifier else None
    return _Images([samples], labels, f"images of {name}'s validation split")


class _Progress:
    """Says every few seconds how far the comparison is."""

    def __init__(self, total: int):
        self._total = total
        self._last = time.monotonic()

    def __call__(self, done: int) -> None:
        if done < self._total and time.monotonic() - self._last >= _PROGRESS_SECONDS:
            self._last = time.monotonic()
            _log.info("compared %d of %d images", done, self._total)


def _reason(
    expected: list[np.ndarray], compared: "dict[str, Comparison]", fused: list[np.ndarray]
) -> str | None:
    """Why the file is wrong, None if it is right.

    Args:
        expected: what Keras gives.
        compared: the file as LCE, if it can, and our runtime run it, by their names.
        fused: what our runtime gives when it is not looked into.
    """
    from bireal_keras.export.verification import reason_to_refuse

    reasons = {name: reason_to_refuse(expected, one) for name, one in compared.items()}
    if reasons.get("LCE") is not None:
        return reasons["LCE"]
    if reasons["ours"] is not None:
        return f"Our runtime, not LCE: {reasons['ours']}" if "LCE" in reasons else reasons["ours"]
    for a, b in zip(fused, compared["ours"].outputs):
        if not np.array_equal(a, b):
            return (
                "Our runtime gives something else when its layers are looked at: results differ by "
                f"up to {np.abs(a - b).max():.2g}."
            )
    return None


def _top1(
    outputs: dict[str, list[np.ndarray]], labels: np.ndarray | None
) -> dict[str, float] | None:
    if labels is None:
        return None
    return {name: float((one.argmax(1) == labels).mean()) for name, [one] in outputs.items()}


def _agreement(outputs: dict[str, list[np.ndarray]]) -> dict[str, float | None] | None:
    from bireal_keras.export.results import top1_agreement

    if len(outputs["Keras"]) != 1 or outputs["Keras"][0].ndim != 2:
        return None
    pairs = itertools.combinations(outputs, 2)
    return {f"{a} and {b}": top1_agreement(outputs[a], outputs[b]) for a, b in pairs}


def _as_dict(compared: "Comparison") -> dict[str, Any]:
    return {
        "all_signs_told": compared.all_signs_told,
        "signs": compared.signs,
        "flips": compared.flips,
        "free_flips": compared.free_flips,
        "max_abs_difference": float(compared.free_differences.max()),
        "layers": [
            {**dataclasses.asdict(layer), "is_right": layer.is_right} for layer in compared.layers
        ],
    }


def _text(result: dict[str, Any], compared: "dict[str, Comparison]") -> str:
    lines = [f"{result['file']} and {result['model']} on {result['num_images']} {result['images']}"]
    if result["top1"] is not None:
        lines.append(
            "top-1: " + ", ".join(f"{name} {share:.1%}" for name, share in result["top1"].items())
        )
    if result["top1_agreement"] is not None:
        lines.append(
            "same class: "
            + ", ".join(f"{pair} {share:.1%}" for pair, share in result["top1_agreement"].items())
        )
    columns = [[f"{name}: differs by", "of spread", "flips"] for name in compared]
    rows = [["input of", "signs", *itertools.chain(*columns), ""]]
    for layers in zip(*(one.layers for one in compared.values())):
        row = [layers[0].name, f"{layers[0].signs:,}" if layers[0].signs else ""]
        for layer in layers:
            share = f"{layer.difference / layer.spread:.1e}" if layer.spread else ""
            row += [f"{layer.difference:.1e}", share, f"{layer.flips:,}" if layer.signs else ""]
        row.append("" if all(layer.is_right for layer in layers) else "<- more than rounding")
        rows.append(row)
    lines += ["", "given the same signs before:", *_table(rows), ""]
    if result["lce_missing"]:
        lines.append(f"LCE: not compared: {result['lce_missing']}")
    for name, one in compared.items():
        line = f"{name}: {one.flips:,} of {one.signs:,} signs flip given the same before"
        if one.free_flips:
            first = next(layer.name for layer in one.layers if layer.free_flips)
            line += (
                f"; with what follows from them {one.free_flips:,} differ from Keras's, the "
                f"first before {first}"
            )
        lines.append(f"{line}; results differ by up to {one.free_differences.max():.2g}")
    if result["reason"] is None:
        lines.append("verdict: the file computes what Keras computes, up to rounding")
    else:
        lines.append(f"verdict: {result['reason']}")
    return "\n".join(lines)


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligned columns, the first to the left, the others but the last to the right."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1])]
            + [row[-1]]
        ).rstrip()
        for row in rows
    ]
