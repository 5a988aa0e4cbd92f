"""From a float `.tflite` file, whoever wrote it, to a checked file of bits.

Needs no training framework: `binarize` packs, and `binarize.told` compares the two files.
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from bireal_keras import _files, _native_log
from bireal_keras.export import arguments, latency, pixel_input, real_layers_check, reasons
from bireal_keras.export.binarize import Layer, Result, binarize, told
from bireal_keras.export.binarize.graph import Graph
from bireal_keras.export.multiplications import Multiplication, multiplications
from bireal_keras.export.real_layers import compact
from bireal_keras.export.report import FLOAT_FILE, Agreement, LayerReport, Report
from bireal_keras.export.results import Results
from bireal_keras.export.samples import artificial
from bireal_keras.tflite.metadata import Normalization, read_metadata
from bireal_keras.tflite.metadata_writer import embed, without_metadata

# Where there are signs that the float file cannot be told, this share of the runs has to agree: an
# error in the file shows on every one, a flipped sign does not.
_MIN_SHARE = 1 / 8
# They make a jump of a small difference, as LCE's signs do, which alone are told.
_JUMPS = {"SIGN", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "ROUND", "FLOOR", "CEIL"}

_REAL = "Its input is not a sign, and its kernel is not 1-bit."

_log = logging.getLogger(__name__)


def convert_tflite(
    model: bytes | str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    labels: Sequence[str] | None = None,
    normalization: Normalization | None = None,
    center_crop: float | None = None,
    samples: np.ndarray | Sequence[np.ndarray] | None = None,
    allow_float: bool = False,
    real_layers: str = "float32",
    input_type: str = "float32",
    zero_sign: Literal["refuse", "+1"] = "refuse",
    zero_weights: Literal["refuse", "+1"] = "refuse",
) -> Report:
    """Converts a float `.tflite` file to one with bit-packed convolutions.

    The float file is what any converter writes without quantization: TensorFlow's, that of Keras 3,
    PyTorch's litert-torch. A layer whose input is -a or +a and whose filters have one magnitude
    each is packed, see `bireal_keras.export.binarize.binarize`. A layer that reads a sign or
    has a 1-bit kernel and stays float is an error. So is a file that does not compute what the
    float file computes, which is told the packed file's signs, as `binarize.told` explains. The
    file is written in one step, and only when everything is right.

    Neither TensorFlow nor PyTorch nor Larq Compute Engine is needed.

    Args:
        model: the float file, or its content. It takes one or several tensors of fixed sizes; where
            the batch is free, the new file takes 1.
        path: the file to write; its folder exists.
        labels: names of the classes, as for `convert`. Default: those in the float file, if any.
        normalization: what images are made of pixels by, as for `convert`. Default: what the float
            file says in its metadata, or else `Normalization()`.
        center_crop: as for `convert`. Default: what the float file says, or else 1.
        samples: to compare the files on, float32 (n, ...) with n at least 8 and a multiple of the
            batch; for several inputs a list, one array for each. Default: 32 artificial ones.
        allow_float: whether to write the file though such a layer stayed float.
        real_layers: precision of the kernels of real-valued layers, as for `convert`.
        input_type: what the new file takes, as for `convert`.
        zero_sign: what a sign is worth that is 0 for 0, see `binarize`.
        zero_weights: what a weight of exactly 0 is worth, see `binarize`.

    Returns:
        What became of the file, layer by layer.

    Raises:
        ValueError: an argument is out of its range; the float file is damaged or not one; a 1-bit
            layer stayed float, with the reason of each; the files do not agree.
        OSError: a file cannot be read or written.
    """
    arguments.check_real_layers(real_layers)
    path = arguments.output_path(path)
    name = "the model" if isinstance(model, bytes) else os.fspath(model)
    content = model if isinstance(model, bytes) else Path(model).read_bytes()
    try:
        # The first look at the file, which checks it.
        signature = _Signature.of(Graph(content))
        own = read_metadata(content)
    except ValueError as error:
        raise ValueError(f"{name} cannot be converted: {error}") from error
    labels = own.labels if labels is None else labels
    arguments.check_labels_of(labels, signature.outputs)
    arguments.check_normalization(normalization, signature.inputs)
    arguments.check_input_type(input_type, signature.inputs, signature.outputs)
    said = own.normalization if own.image_size is not None else None
    metadata = arguments.metadata_of(
        signature.inputs,
        signature.outputs,
        labels,
        normalization or said or Normalization(),
        own.center_crop if center_crop is None else center_crop,
    )
    runs = _runs(samples, signature)

    _log.info("packing %s", name)
    with _native_log.captured():
        try:
            result = binarize(content, zero_sign=zero_sign, zero_weights=zero_weights)
        except ValueError as error:
            raise ValueError(f"{name} cannot be converted: {error}") from error
    if not allow_float:
        _check_binary(result.layers)
    converted = float32_file = without_metadata(result.content)
    file = compact(float32_file, real_layers)
    operators = multiplications(float32_file, file)
    layers = _layer_reports(result.layers, operators, signature.batch)
    title = "model" if isinstance(model, bytes) else Path(model).stem
    if metadata is not None:
        float32_file, file = (embed(one, metadata, name=title) for one in (float32_file, file))

    _log.info("checking it against the float file on %d samples", len(runs) * signature.batch)
    with _native_log.captured():
        agreement = _agreement(content, result, runs, signature)
    float32_agreement = None
    files = {"float32": float32_file}
    if real_layers != "float32":
        _log.info("checking its real layers in %s", real_layers)
        inputs = [np.concatenate(values) for values in zip(*runs)]
        float32_agreement = real_layers_check.check(float32_file, file, inputs)
        files[real_layers] = file
    times = latency.of_files(files, runs[0])
    if input_type == "uint8" and metadata is not None:
        file = pixel_input.of_pixels(converted, metadata, real_layers=real_layers, name=title)

    _files.write(path, file)
    images = None
    if metadata is not None and metadata.image_size is not None:
        source = "as given" if normalization else "by the float file" if said else "assumed"
        images = f"{metadata.normalization}, {source}"
    return Report.of(
        path,
        file,
        operators,
        layers,
        float_size_bytes=len(content),
        cast_layers=(),
        agreement=agreement,
        real_layers=real_layers,
        input_type=input_type,
        images=images,
        float32_agreement=float32_agreement,
        latency_ms=times,
        source=FLOAT_FILE,
    )


class _Signature(NamedTuple):
    """Shapes of what a file takes and gives, with the batch that it takes."""

    inputs: list[tuple[int, ...]]
    outputs: list[tuple[int, ...]]

    @property
    def batch(self) -> int:
        return self.inputs[0][0]

    @classmethod
    def of(cls, graph: Graph) -> "_Signature":
        """
        Raises:
            ValueError: the file takes something else than float32 (batch, ...) of fixed sizes.
        """
        for tensor in graph.inputs:
            shape, kind = graph.shape(tensor), graph.dtype(tensor)
            if not shape or not graph.is_float(tensor) or not graph.is_static(tensor):
                size = "fixed" if graph.is_static(tensor) else "free"
                raise ValueError(
                    "it must take float32 tensors (batch, ...) of fixed sizes. Received: "
                    f"'{graph.name(tensor)}', {kind or 'another type'} {shape}, its size {size}. "
                    "Convert the model with a fixed input size."
                )
        inputs = [graph.shape(tensor) for tensor in graph.inputs]
        outputs = [graph.shape(tensor) for tensor in graph.outputs]
        if not inputs or not outputs or len({shape[0] for shape in inputs}) != 1 or 0 in inputs[0]:
            raise ValueError(
                "it must take and give tensors, all of one batch. Received: "
                f"inputs {', '.join(map(str, inputs))}, outputs {', '.join(map(str, outputs))}."
            )
        return cls(inputs, outputs)


def _runs(
    samples: np.ndarray | Sequence[np.ndarray] | None, signature: _Signature
) -> list[list[np.ndarray]]:
    """What the inputs get, in each of several runs."""
    shapes, size = [shape[1:] for shape in signature.inputs], signature.batch
    if samples is None:
        arrays = artificial(shapes, size)
    else:
        arrays = arguments.checked_samples(samples, shapes, size)
    return [
        [values[start : start + size] for values in arrays]
        for start in range(0, len(arrays[0]), size)
    ]


def _check_binary(layers: Sequence[Layer]) -> None:
    stayed_float = [layer for layer in layers if not layer.binary]
    if stayed_float:
        names = " ".join(f"{one.name} ({one.code}): {one.explanation}" for one in stayed_float)
        raise ValueError(
            f"{len(stayed_float)} of {len(layers)} layers that read a sign or have a 1-bit kernel "
            f"stay float, and no file was written. `allow_float` allows it. {names}"
        )


def _layer_reports(
    layers: Sequence[Layer], operators: Sequence[Multiplication], batch: int
) -> list[LayerReport]:
    """One for each operator that multiplies."""
    by_tensor = {layer.tensor: layer for layer in layers}
    reports = []
    for operator in operators:
        layer = by_tensor.get(operator.tensor)
        if layer is None:
            layer = Layer(operator.output, operator.kind, False, reasons.REAL, _REAL)
        reports.append(
            LayerReport.of(
                [operator],
                batch=batch,
                name=layer.name,
                kind=layer.kind,
                intended_binary=operator.tensor in by_tensor,
                reason=layer.code,
                explanation=layer.explanation,
                rewritten=_rewritten(layer),
            )
        )
    return reports


def _rewritten(layer: Layer) -> str:
    if not layer.binary or not layer.zero_weights:
        return ""
    return f"weights of exactly 0, which count as +1 ({layer.zero_weights})"


def _agreement(
    content: bytes, result: Result, runs: Sequence[Sequence[np.ndarray]], signature: _Signature
) -> Agreement:
    """How far the binary file agrees with the float file.

    Raises:
        ValueError: it does not.
    """
    checks = told.check(content, result, runs)
    wrong = next((check for check in checks if not check.is_right), None)
    if wrong is not None and not _agrees_mostly(content, result, runs):
        raise ValueError(
            f"The packed file does not compute what the float file does: {_describe(wrong)}"
        )
    has_rows = all(shape[:1] == (signature.batch,) for shape in signature.outputs)
    join = np.concatenate if has_rows else _without_rows
    expected, actual = (
        [join(values) for values in zip(*map(run, runs))]
        for run in (told.run_on_litert(content), told.run_on_runtime(result.content))
    )
    return Agreement(
        **vars(Results.of(expected, actual)),
        signs=sum(check.signs for check in checks),
        flips=sum(check.flips for check in checks),
    )


def _without_rows(values: Sequence[np.ndarray]) -> np.ndarray:
    """Results that have no row for each image, one for each run."""
    return np.stack(values)[:, None]


def _agrees_mostly(content: bytes, result: Result, runs: Sequence[Sequence[np.ndarray]]) -> bool:
    """Whether untold signs can explain what differs: then not all runs differ."""
    if _JUMPS.isdisjoint(operator.name for operator in Graph(result.content).operators):
        return False
    right = sum(all(check.is_right for check in told.check(content, result, [run])) for run in runs)
    return right >= _MIN_SHARE * len(runs)


def _describe(check: told.Check) -> str:
    """What is wrong, in words."""
    if check.has_true_zeros:
        return (
            f"{check.zeros:,} of the {check.signs:,} values before the sign '{check.name}' are "
            f"exactly 0, more than rounding explains ({check.near:,} are within rounding of 0), "
            "which zero_sign='+1' rules out. Write the sign as x >= 0 and train again."
        )
    if check.odd_signs:
        return (
            f"{check.odd_signs:,} of the signs of '{check.name}' are not the two values that its "
            "operators were taken to give. Please report it, with the float file."
        )
    what = f"the values before the sign '{check.name}'" if check.signs else f"'{check.name}'"
    return (
        f"given the same signs before, {what} differ by up to {check.difference:.2g}; rounding "
        f"explains {check.tolerance:.2g}. Please report it, with the float file."
    )
