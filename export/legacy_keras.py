"""From a model of legacy Keras to the checked file."""

import logging
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bireal_keras import _files, _native_log
from bireal_keras._keras import keras, tf
from bireal_keras.export import (
    arguments,
    diagnosis,
    from_keras,
    image_range,
    latency,
    pixel_input,
    probes,
    real_layers_check,
    reasons,
    rewriting,
    verification,
)
from bireal_keras.export import signature as signatures
from bireal_keras.export.binarize import Layer, binarize
from bireal_keras.export.binarize.folding import fold
from bireal_keras.export.layer_reports import layer_reports
from bireal_keras.export.multiplications import multiplications
from bireal_keras.export.real_layers import compact
from bireal_keras.export.report import LayerReport, Report
from bireal_keras.export.samples import artificial
from bireal_keras.export.signature import Signature
from bireal_keras.tflite.metadata import Normalization
from bireal_keras.tflite.metadata_writer import embed
from bireal_keras.tflite.model import Graph

# Samples on which values are looked at for signs.
_LOOKED_AT = 4

_log = logging.getLogger(__name__)


def convert(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    labels: Sequence[str] | None,
    normalization: Normalization | None,
    center_crop: float,
    samples: np.ndarray | Sequence[np.ndarray] | None,
    allow_float: bool,
    real_layers: str,
    input_type: str,
    converter: str,
) -> Report:
    """Converts a model of legacy Keras; see `bireal_keras.export.convert`."""
    arguments.check_real_layers(real_layers)
    path = arguments.output_path(path)
    _check_type(model)
    cast_layers = rewriting.with_other_precision(model)
    model = rewriting.in_float32(model)
    signature = signatures.of(model)
    _check_signature(signature)
    shapes = (signature.input_shapes, signature.outputs)
    arguments.check_labels_of(labels, signature.outputs)
    arguments.check_input_type(input_type, *shapes)
    normalization, images = _normalization(model, signature, normalization)
    metadata = arguments.metadata_of(*shapes, labels, normalization, center_crop)
    inputs = _samples(samples, signature)
    looked_at = [values[: signature.batch or _LOOKED_AT] for values in inputs]

    _log.info("converting %s", model.name)
    by = (_by_lce if converter == "lce" else _by_bireal)(model, signature, looked_at)
    converted = by.content
    compacted = compact(converted, real_layers)
    operators = multiplications(converted, compacted)
    layers = layer_reports(by.found, operators, by.rewritten, by.layers, batch=signature.batch or 1)
    if not allow_float:
        _check_binary(layers)
    float32_file, file = converted, compacted
    if metadata is not None:
        float32_file = embed(converted, metadata, name=model.name)
        file = embed(compacted, metadata, name=model.name)

    _log.info("checking it against Keras on %d samples", len(inputs[0]))
    runners = [probes.run_on_lce] if converter == "lce" else None
    agreement = verification.verify(model, float32_file, inputs, runners)
    graph = Graph(float32_file)
    order, _ = signature.tensors_of(graph)
    file_inputs = [inputs[order.index(index)] for index in graph.inputs]
    float32_agreement = None
    files = {"float32": float32_file}
    if real_layers != "float32":
        _log.info("checking its real layers in %s", real_layers)
        float32_agreement = real_layers_check.check(float32_file, file, file_inputs)
        files[real_layers] = file
    times = latency.of_files(files, [values[: signature.batch or 1] for values in file_inputs])
    if input_type == "uint8" and metadata is not None:
        file = pixel_input.of_pixels(converted, metadata, real_layers=real_layers, name=model.name)

    _files.write(path, file)
    return Report.of(
        path,
        file,
        operators,
        layers,
        float_size_bytes=4 * model.count_params(),
        cast_layers=tuple(cast_layers),
        agreement=agreement,
        real_layers=real_layers,
        input_type=input_type,
        images=images,
        float32_agreement=float32_agreement,
        latency_ms=times,
    )


class _Converted(NamedTuple):
    """A file, and what is known of its layers: in Keras, and where our own pass looked at them."""

    content: bytes
    found: list[diagnosis.Diagnosis]
    rewritten: dict[str, str]
    layers: tuple[Layer, ...]


def _check_type(model: keras.Model) -> None:
    if isinstance(model, keras.Model):
        return
    kind = type(model)
    received = f"{kind.__module__}.{kind.__name__}."
    if isinstance(model, (str, os.PathLike)):
        received = (
            f"the path {os.fspath(model)!r}. Load it with bireal_keras.load_model, or use "
            "bireal-export --model."
        )
    raise ValueError(f"`model` must be a Keras model. Received: {received}")


def _check_signature(signature: Signature) -> None:
    for spec in signature.inputs:
        shape = tuple(spec.shape)
        if not shape or None in shape[1:] or spec.dtype != tf.float32:
            raise ValueError(
                "`model` must take float32 tensors (batch, ...) of fixed sizes, as (batch, height, "
                f"width, channels). Received: {spec.dtype.name} {shape}."
            )


def _normalization(
    model: keras.Model, signature: Signature, given: Normalization | None
) -> tuple[Normalization, str | None]:
    """What goes into the file, and what the report says of it: None if it takes no images."""
    arguments.check_normalization(given, signature.input_shapes)
    if not arguments.takes_images(signature.input_shapes):
        return Normalization(), None
    normalization, source = (given, "as given") if given else image_range.find(model)
    return normalization, f"{normalization}, {source}"


def _samples(
    given: np.ndarray | Sequence[np.ndarray] | None, signature: Signature
) -> list[np.ndarray]:
    """What each input of the model gets."""
    shapes, size = signature.sample_shapes, signature.batch or 1
    if given is None:
        return artificial(shapes, size)
    return arguments.checked_samples(given, shapes, size)


def _by_bireal(
    model: keras.Model, signature: Signature, looked_at: Sequence[np.ndarray]
) -> _Converted:
    found = diagnosis.diagnose(model, signature, looked_at)
    float_file = from_keras.float_file(model, signature)
    with _native_log.captured():
        try:
            result = binarize(float_file)
        except ValueError as error:
            raise ValueError(f"{model.name} cannot be converted: {error}") from error
    return _Converted(result.content, found, {}, result.layers)


def _by_lce(
    model: keras.Model, signature: Signature, looked_at: Sequence[np.ndarray]
) -> _Converted:
    with rewriting.rewritten(model, signature) as rewritten:
        found = diagnosis.diagnose(model, signature, looked_at)
        _check_convertible(found)
        return _Converted(fold(from_keras.lce_file(model, signature)), found, rewritten, ())


def _check_convertible(found: list[diagnosis.Diagnosis]) -> None:
    for one in found:
        if one.reason == reasons.TERNARY:
            raise ValueError(
                f"`model` cannot be converted: {one.layer.name}: {reasons.explain(one.reason)}"
            )


def _check_binary(layers: list[LayerReport]) -> None:
    intended = [layer for layer in layers if layer.intended_binary]
    stayed_float = [layer for layer in intended if not layer.binary]
    if stayed_float:
        names = " ".join(
            f"{layer.name} ({layer.reason}): {layer.explanation}" for layer in stayed_float
        )
        raise ValueError(
            f"{len(stayed_float)} of {len(intended)} 1-bit layers stayed float in the converted "
            f"file, which was not written. `allow_float` allows it. {names}"
        )
