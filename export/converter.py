"""The conversion, from the Keras model to the checked file."""

import contextlib
import io
import logging
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bireal_keras._keras import keras, lq, tf
from bireal_keras.export import _native_log, flatbuffer, verification
from bireal_keras.export._lce import lce
from bireal_keras.export.report import Report
from bireal_keras.runtime.labels import append_labels, check_labels

_log = logging.getLogger(__name__)


def convert(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    labels: Sequence[str] | None = None,
    samples: np.ndarray | None = None,
) -> Report:
    """Converts a Keras model to a `.tflite` file with bit-packed convolutions.

    Larq Compute Engine does the conversion. Where it finds no binary convolution it keeps
    a float one without a word; here that is an error. So is a file that computes something
    else than Keras does. The file is written in one step and only when everything is
    right: a file that was there before is replaced or stays as it was.

    Args:
        model: a functional or sequential model of legacy Keras, built, from one float32
            input (batch, height, width, channels) of fixed size to one output.
        path: the file to write; its folder exists.
        labels: names of the classes, to travel inside the file: one for each output.
        samples: images to compare the file with Keras on, float32
            (at least 8, height, width, channels), preprocessed as for training. Default:
            32 artificial ones.

    Returns:
        What became of the model.

    Raises:
        ValueError: an argument is out of its range; a 1-bit convolution stayed float; LCE
            cannot convert the model, or the file does not agree with it.
        ImportError: Larq Compute Engine is not installed.
    """
    path = Path(path)
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"`path` must be a file in an existing folder. Received: path='{path}'.")
    _check_model(model)
    _check_labels(labels, model)
    samples = _checked_samples(samples, model.input_shape[1:])

    _log.info("converting %s", model.name)
    content = _to_flatbuffer(model)
    convolutions = flatbuffer.convolutions(content)
    intended = _binary_layers(model)
    _check_binary(intended, convolutions)
    if labels is not None:
        content = append_labels(content, labels)

    _log.info("checking it against Keras on %d samples", len(samples))
    agreement = verification.verify(model, content, samples)

    _write_atomically(path, content)
    binary_convolutions = sum(convolution.binary for convolution in convolutions)
    return Report(
        path=str(path),
        size_bytes=len(content),
        float_size_bytes=4 * model.count_params(),
        binary_convolutions=binary_convolutions,
        intended_binary_convolutions=len(intended),
        float_convolutions=len(convolutions) - binary_convolutions,
        samples=agreement.samples,
        close_samples=agreement.close_samples,
        max_abs_difference=agreement.max_abs_difference,
        top1_agreement=agreement.top1_agreement,
    )


def _check_model(model: keras.Model) -> None:
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
    # Before the input's type, which follows from the policy.
    reduced = [
        layer.name
        for layer in model.submodules
        if isinstance(layer, keras.layers.Layer)
        and layer.compute_dtype in ("float16", "bfloat16", "float64")
    ]
    if reduced:
        raise ValueError(
            "`model` must compute in float32: build it under the policy 'float32' and copy the "
            f"weights with set_weights. Received layers of another precision: {reduced}."
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


def _binary_layers(model: keras.Model) -> list[lq.layers.QuantConv2D]:
    return [
        layer
        for layer in model.submodules
        if isinstance(layer, lq.layers.QuantConv2D)
        and getattr(layer.input_quantizer, "precision", None) == 1
        and getattr(layer.kernel_quantizer, "precision", None) == 1
    ]


def _check_binary(
    layers: list[lq.layers.QuantConv2D], convolutions: list[flatbuffer.Convolution]
) -> None:
    """Every layer's signs must be the filters of a binary convolution in the file.

    Names cannot tell: LCE cuts them to 50 characters, and BatchNormalization, once folded
    in, has put its own in front.
    """
    packed = [convolution.filters for convolution in convolutions if convolution.binary]
    stayed_float = [layer.name for layer in layers if not _is_among(layer, packed)]
    if stayed_float:
        raise ValueError(
            f"{len(stayed_float)} of {len(layers)} binary convolutions stayed float in the "
            f"converted file: {', '.join(sorted(stayed_float))}. LCE packs a convolution of +-1 "
            "by +-1 only. Possible reasons: a dead filter (mean |w| of zero, which takes the "
            "whole layer with it), `pad_values` other than 0 and 1, a quantizer that is no "
            "larq-style sign, an operation between the sign and the convolution, groups of "
            "channels that are no multiple of 32."
        )


def _is_among(layer: lq.layers.QuantConv2D, packed: list[np.ndarray | None]) -> bool:
    with lq.context.quantized_scope(True):
        kernel = tf.convert_to_tensor(layer.kernel).numpy()
    negative = kernel.transpose(3, 0, 1, 2) < 0
    filters, inverted = flatbuffer.packed_filters(negative), flatbuffer.packed_filters(~negative)
    axes = (1, 2, 3)
    # Where the output is packed too, LCE inverts the filters that a negative factor follows.
    return any(
        candidate is not None
        and candidate.shape == filters.shape
        and ((candidate == filters).all(axes) | (candidate == inverted).all(axes)).all()
        for candidate in packed
    )


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
