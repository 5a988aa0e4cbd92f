"""The conversion, from the Keras model to the checked file."""

import contextlib
import dataclasses
import io
import logging
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bireal_keras import _native_log
from bireal_keras._keras import keras, tf
from bireal_keras.export import (
    diagnosis,
    flatbuffer,
    image_range,
    real_layers_check,
    reasons,
    rewriting,
    verification,
)
from bireal_keras.export._lce import lce
from bireal_keras.export.layer_reports import layer_reports
from bireal_keras.export.real_layers import PRECISIONS, compact
from bireal_keras.export.report import LayerReport, Report, Total
from bireal_keras.runtime.interpreter import Interpreter
from bireal_keras.runtime.latency import measure
from bireal_keras.tflite.labels import check_labels
from bireal_keras.tflite.metadata import Metadata, Normalization
from bireal_keras.tflite.metadata_writer import embed

_LATENCY_RUNS = 12

_log = logging.getLogger(__name__)


def convert(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    labels: Sequence[str] | None = None,
    normalization: Normalization | None = None,
    center_crop: float = 1.0,
    samples: np.ndarray | None = None,
    allow_float: bool = False,
    real_layers: str = "float32",
) -> Report:
    """Converts a Keras model to a `.tflite` file with bit-packed convolutions.

    Larq Compute Engine does the conversion. Where it finds no binary convolution it keeps
    a float one without a word; here that is an error. So is a file that computes something
    else than Keras does. The file is written in one step and only when everything is
    right: a file that was there before is replaced or stays as it was.

    What can be mended is: filters of zeros, 1-bit dense layers, and layers that compute in
    another precision than float32. `model` itself stays as it is.

    Args:
        model: a functional or sequential model of legacy Keras, built, from one float32
            input (batch, height, width, channels) of fixed size to one output.
        path: the file to write; its folder exists.
        labels: names of the classes, to travel inside the file: one for each output.
        normalization: what the model's images are made of pixels by; travels inside the file.
            Default: what a first layer `Rescaling` or `Normalization` says, or else
            `Normalization()`, images in [-1, 1], as training feeds them. Published weights take
            `zoo.imagenet.NORMALIZATION`, unless `zoo.imagenet.standardize` is a part of the
            model.
        center_crop: how much of an image the model is to see, see `runtime.Metadata`; travels
            inside the file. A recipe's `dataset.center_crop`.
        samples: images to compare the file with Keras on, float32
            (at least 8, height, width, channels), preprocessed as for training. Default:
            32 artificial ones.
        allow_float: whether to write the file though a 1-bit layer stayed float.
        real_layers: precision of the kernels of real-valued layers, "float32", "float16" or
            "int8": see `bireal_keras.export.real_layers`.

    Returns:
        What became of the model, layer by layer.

    Raises:
        ValueError: an argument is out of its range; a 1-bit layer stayed float, with the
            reason of each; LCE cannot convert the model, or the file does not agree with it.
        ImportError: Larq Compute Engine is not installed.
    """
    if real_layers not in PRECISIONS:
        raise ValueError(
            f"`real_layers` must be one of {', '.join(PRECISIONS)}. "
            f"Received: real_layers={real_layers!r}."
        )
    path = Path(path)
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"`path` must be a file in an existing folder. Received: path='{path}'.")
    _check_type(model)
    cast_layers = rewriting.with_other_precision(model)
    model = rewriting.in_float32(model)
    _check_model(model)
    _check_labels(labels, model)
    normalization, images = _normalization(model, normalization)
    metadata = _metadata(model, labels, normalization, center_crop)
    samples = _checked_samples(samples, model.input_shape[1:])

    _log.info("converting %s", model.name)
    with rewriting.mended(model) as mended:
        found = diagnosis.diagnose(model)
        _check_convertible(found)
        content = _to_flatbuffer(model)
    files = {"float32": content, real_layers: compact(content, real_layers)}
    operators = _operators(content, files[real_layers])
    layers = layer_reports(found, operators, mended)
    if not allow_float:
        _check_binary(layers)
    files = {precision: embed(file, metadata, name=model.name) for precision, file in files.items()}
    content = files["float32"]

    _log.info("checking it against Keras on %d samples", len(samples))
    agreement = verification.verify(model, content, samples)
    float32_agreement = None
    if real_layers != "float32":
        _log.info("checking its real layers in %s", real_layers)
        float32_agreement = real_layers_check.check(content, files[real_layers], samples)
    latency = _latency(files)
    content = files[real_layers]

    _write_atomically(path, content)
    intended = [layer for layer in layers if layer.intended_binary]
    convolutions = [operator for operator in operators if operator.kind != flatbuffer.DENSE]
    binary_convolutions = sum(operator.is_binary for operator in convolutions)
    return Report(
        path=str(path),
        size_bytes=len(content),
        float_size_bytes=4 * model.count_params(),
        binary_convolutions=binary_convolutions,
        intended_binary_convolutions=len(intended),
        float_convolutions=len(convolutions) - binary_convolutions,
        layers=tuple(layers),
        binary_total=Total.of(intended),
        real_total=Total.of([layer for layer in layers if not layer.intended_binary]),
        cast_layers=tuple(cast_layers),
        samples=agreement.samples,
        signs=agreement.signs,
        flips=agreement.flips,
        close_samples=agreement.close_samples,
        max_abs_difference=agreement.max_abs_difference,
        top1_agreement=agreement.top1_agreement,
        real_layers=real_layers,
        images=images,
        float32_agreement=float32_agreement,
        latency_ms=latency,
    )


def _check_type(model: keras.Model) -> None:
    if not isinstance(model, keras.Model):
        kind = type(model)
        hint = ""
        if any(base.__module__.startswith("keras.") for base in kind.__mro__):
            hint = (
                " This is a model of Keras 3: import bireal_keras before tensorflow (or set "
                "TF_USE_LEGACY_KERAS=1) and build it with tf.keras."
            )
        raise ValueError(
            "`model` must be a model of legacy Keras, tf_keras. "
            f"Received: {kind.__module__}.{kind.__name__}.{hint}"
        )


def _check_model(model: keras.Model) -> None:
    if not model.inputs:
        raise ValueError(
            "`model` must know its input: make it functional, or start a sequential one with "
            f"keras.Input. Received: {model.name}, which is not built."
        )
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            "`model` must have one input and one output. "
            f"Received: {len(model.inputs)} and {len(model.outputs)}."
        )
    shape, dtype = model.input_shape, model.inputs[0].dtype
    if len(shape) != 4 or None in shape[1:] or shape[0] not in (None, 1) or dtype != tf.float32:
        raise ValueError(
            "`model` must take float32 (batch, height, width, channels) of a fixed size, one "
            f"image or any number at a time. Received: {dtype.name} {shape}."
        )


def _check_labels(labels: Sequence[str] | None, model: keras.Model) -> None:
    if labels is None:
        return
    check_labels(labels)
    if len(model.output_shape) != 2:
        raise ValueError(
            "`labels` need a model that ends in (batch, classes). "
            f"Received: {len(labels)} labels for {model.output_shape}."
        )
    if len(labels) != model.output_shape[-1]:
        raise ValueError(
            "`labels` must name every class of the model. "
            f"Received: {len(labels)} labels for {model.output_shape[-1]} classes."
        )


def _normalization(
    model: keras.Model, given: Normalization | None
) -> tuple[Normalization, str | None]:
    """What goes into the file, and what the report says of it: None if it takes no images."""
    channels = model.input_shape[-1]
    if channels not in (1, 3):
        if given is not None:
            raise ValueError(
                "`normalization` needs a model of RGB or grey images. "
                f"Received: one of {channels} channels."
            )
        return Normalization(), None
    normalization, source = (given, "as given") if given else image_range.find(model)
    return normalization, f"{normalization}, {source}"


def _metadata(
    model: keras.Model,
    labels: Sequence[str] | None,
    normalization: Normalization,
    center_crop: float,
) -> Metadata:
    _, height, width, channels = model.input_shape
    return Metadata(
        labels=None if labels is None else tuple(labels),
        image_size=(height, width) if channels in (1, 3) else None,
        normalization=normalization,
        center_crop=center_crop,
        channels=1 if channels == 1 else 3,
    )


def _checked_samples(samples: np.ndarray | None, shape: tuple[int, int, int]) -> np.ndarray:
    if samples is None:
        return verification.random_samples(shape)
    samples = np.asarray(samples, np.float32)
    if samples.shape[1:] != shape or len(samples) < verification.MIN_SAMPLES:
        raise ValueError(
            f"`samples` must be at least {verification.MIN_SAMPLES} images of {shape}. "
            f"Received: samples of shape {samples.shape}."
        )
    return samples


def _to_flatbuffer(model: keras.Model) -> bytes:
    # Not lce.convert_keras_model: it tries the same, and when that fails keeps the reason to
    # itself and tries something else.
    with (
        tempfile.TemporaryDirectory() as folder,
        _native_log.captured() as native_errors,
        contextlib.redirect_stdout(io.StringIO()),
    ):
        try:
            model.export(folder)
            return lce.convert_saved_model(folder)
        except Exception as error:
            raise ValueError(
                f"LCE cannot convert {model.name}: {error} {native_errors()}".rstrip()
            ) from error


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


def _operators(content: bytes, compacted: bytes) -> list[flatbuffer.Multiplication]:
    """Those of the float32 file, whose kernels tell the layers, with the size they end up with."""
    return [
        dataclasses.replace(operator, kernel_bytes=end.kernel_bytes)
        for operator, end in zip(
            flatbuffer.multiplications(content), flatbuffer.multiplications(compacted), strict=True
        )
    ]


def _latency(files: dict[str, bytes]) -> dict[str, float]:
    """Shortest of a few runs of each file on our runtime, which take turns, in milliseconds."""
    with _native_log.captured():
        interpreters = [Interpreter(content) for content in files.values()]
        times = measure(interpreters, num_runs=_LATENCY_RUNS, warmup_runs=2)
    return {name: min(milliseconds) for name, milliseconds in zip(files, times)}


def _write_atomically(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
