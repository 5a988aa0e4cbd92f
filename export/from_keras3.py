"""From a model of Keras 3 to the checked file, by way of TensorFlow's converter.

Neither legacy Keras nor Larq is needed. What checks the file is the float file, as for every other
front end: `from_tflite` explains it.
"""

import os
import tempfile
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from bireal_keras import _native_log
from bireal_keras.export import arguments, from_saved_model
from bireal_keras.export.from_tflite import convert_tflite
from bireal_keras.export.report import Report
from bireal_keras.tflite.metadata import Normalization

# They say what a model's images are made of pixels by.
_OF_IMAGES = (keras.layers.Normalization, keras.layers.Rescaling)


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
) -> Report:
    """Converts a model of Keras 3; see `bireal_keras.export.convert`."""
    arguments.check_real_layers(real_layers)
    path = arguments.output_path(path)
    _check(model)
    shapes = [tuple(tensor.shape) for tensor in model.inputs]
    outputs = [tuple(tensor.shape) for tensor in model.outputs]
    arguments.check_labels_of(labels, outputs)
    arguments.check_input_type(input_type, shapes, outputs)
    if normalization is None and arguments.takes_images(shapes):
        _check_images(model)
    return convert_tflite(
        _float_file(model),
        path,
        labels=labels,
        normalization=normalization,
        center_crop=center_crop,
        samples=samples,
        allow_float=allow_float,
        real_layers=real_layers,
        input_type=input_type,
    )


def _check(model: keras.Model) -> None:
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "`model` must have the backend TensorFlow, whose converter writes the file: set "
            "KERAS_BACKEND=tensorflow before Python starts, and load the model. "
            f"Received: a model with the backend {keras.backend.backend()}."
        )
    if not getattr(model, "inputs", None):
        raise ValueError(
            "`model` must know its input: wrap it, keras.Model(inputs, model(inputs)) with inputs "
            f"= keras.Input(shape). Received: {model.name}, a {type(model).__name__}."
        )
    for tensor in model.inputs:
        shape = tuple(tensor.shape)
        if not shape or None in shape[1:] or tensor.dtype != "float32":
            raise ValueError(
                "`model` must take float32 tensors (batch, ...) of fixed sizes, as (batch, height, "
                f"width, channels). Received: {tensor.dtype} {shape}."
            )
    reduced = [layer.name for layer in model.layers if layer.compute_dtype != "float32"]
    if reduced:
        raise ValueError(
            "`model` must compute in float32: build it under the policy 'float32' and copy the "
            f"weights with set_weights. Received layers of another precision: {reduced}."
        )


def _check_images(model: keras.Model) -> None:
    """Nothing is assumed of the images where a layer may say something else."""
    names = [layer.name for layer in model.layers if isinstance(layer, _OF_IMAGES)]
    if names:
        raise ValueError(
            "`normalization` must say in what values the model takes its images, since it has the "
            f"layer {names[0]}: bireal_keras.runtime.Normalization.parse('raw') for pixels as they "
            "are, 'unit' or 'symmetric'. Received: normalization=None."
        )


def _float_file(model: keras.Model) -> bytes:
    """For one image where the model takes any number: a file of any would leave sizes open."""

    def serve(inputs: Any) -> Any:
        return model(inputs, training=False)

    specs = [
        tf.TensorSpec((tensor.shape[0] or 1, *tensor.shape[1:]), tensor.dtype, tensor.name)
        for tensor in model.inputs
    ]
    structure = tf.nest.pack_sequence_as(model.input, specs)
    with tempfile.TemporaryDirectory() as folder:
        with _native_log.captured():
            archive = keras.export.ExportArchive()
            archive.track(model)
            archive.add_endpoint("serve", serve, [structure])
            # The converter asks for no gradients, and tracing those of all signs takes a while.
            options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
            archive.write_out(folder, options=options, verbose=False)
        return from_saved_model.float_file(folder, model.name)
