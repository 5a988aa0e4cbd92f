"""From a Keras model to a `.tflite` file, by TensorFlow's converter and by LCE's."""

import contextlib
import io
import tempfile
from collections.abc import Callable
from typing import Any

from bireal_keras import _native_log
from bireal_keras._keras import keras, tf
from bireal_keras.export.binarize import fake_quant
from bireal_keras.export.binarize.graph import Graph
from bireal_keras.export.signature import Signature


def float_file(model: keras.Model, signature: Signature) -> bytes:
    """What TensorFlow's own converter writes: float32, without a binary operator.

    Where the model takes any number of images, the file takes one. A file of any number would
    leave the sizes of reshapes open.

    Raises:
        ValueError: it cannot convert the model.
    """

    def convert(folder: str) -> bytes:
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        # They say how the file was made, and to add them takes another copy of it.
        converter.exclude_conversion_metadata = True
        return bytes(converter.convert())

    structure = tf.nest.map_structure(_of_one_image, signature.structure)
    content = _converted(model, structure, "TensorFlow", convert)
    try:
        graph = Graph(content)
    except ValueError as error:
        raise ValueError(f"{model.name} cannot be converted: {error}") from error
    if not any(operator.name == "QUANTIZE" for operator in graph.operators):
        return content
    fake_quant.drop_additions(graph)
    return graph.write()[0]


def _of_one_image(spec: tf.TensorSpec) -> tf.TensorSpec:
    batch, *shape = spec.shape
    return tf.TensorSpec((1 if batch is None else batch, *shape), spec.dtype, spec.name)


def lce_file(model: keras.Model, signature: Signature) -> bytes:
    """What Larq Compute Engine's converter writes: binary operators where it sees 1-bit layers.

    Raises:
        ValueError: it cannot convert the model.
        ImportError: it is not installed.
    """
    from bireal_keras.export._lce import lce  # Which not every platform has.

    # lce.convert_keras_model is not used: it tries the same, and when that fails, it keeps the
    # reason to itself and tries something else.
    return _converted(
        model, signature.structure, "LCE", lambda folder: lce.convert_saved_model(folder)
    )


def _converted(
    model: keras.Model, structure: Any, name: str, convert: Callable[[str], bytes]
) -> bytes:
    """A model by way of a SavedModel, which is quicker than a converter's way from Keras."""

    def serve(inputs: Any) -> Any:
        # Without `training`, random layers would bring their random states, which no converter
        # takes.
        return model(inputs, training=False)

    with (
        tempfile.TemporaryDirectory() as folder,
        _native_log.captured() as native_errors,
        contextlib.redirect_stdout(io.StringIO()),
    ):
        try:
            # Keras's own export would trace the model twice, and save both of them.
            function = tf.function(serve, input_signature=[structure]).get_concrete_function()
            servable = tf.Module()
            servable.kept = list(function.graph.variables)
            # No converter asks for gradients, and tracing those of all signs takes a while.
            options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
            tf.saved_model.save(servable, folder, signatures=function, options=options)
            return convert(folder)
        except Exception as error:
            raise ValueError(
                f"{name} cannot convert {model.name}: {error} {native_errors()}".rstrip()
            ) from error
