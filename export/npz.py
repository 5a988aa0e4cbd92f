"""A model as arrays and a list of operations, for people who write their own kernels."""

import io
import json
import os
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

from bireal_keras import _files, _keras_model, blocks
from bireal_keras._keras import keras, lq, tf
from bireal_keras.export.packing import pack_filters

_GRAPH = "graph.json"
_FORMAT = 1


def to_npz(model: keras.Model, path: str | os.PathLike[str]) -> None:
    """Writes a model's 1-bit weights, scales, thresholds and real weights into a `.npz` file.

    For FPGAs and microcontrollers: NumPy reads the file without pickle, and every zip reader finds
    `graph.json` in it, the operations in an order in which they can be computed. docs/npz.md
    describes both. The same model gives the same bytes. It takes no Larq Compute Engine.

    A BatchNormalization is folded into the convolution or dense layer before it, if nothing else
    reads that.

    Args:
        model: a functional or sequential model of legacy Keras, built, whose layers are called
            once each, from one input of fixed size to one output, as all models of the zoo are.
        path: the file to write or replace; its folder exists.

    Raises:
        ValueError: the model is not such a model, or has a layer that the format cannot express.
    """
    if not isinstance(model, keras.Model) or not model.inputs:
        raise ValueError(f"`model` must be a built model of legacy Keras. Received: {model!r}.")
    if len(model.inputs) != 1 or len(model.outputs) != 1 or None in model.input_shape[1:]:
        raise ValueError(
            "`model` must have one input, of a fixed size, and one output. Received: inputs "
            f"{model.input_shape} and outputs {model.output_shape}."
        )
    graph = _Graph(model)
    description = {
        "format": _FORMAT,
        "model": model.name,
        "output": graph.output,
        "operations": graph.operations,
    }
    file = io.BytesIO()
    # Any: savez has a keyword of another type, which no name with a dot in it is.
    arrays: dict[str, Any] = graph.arrays
    np.savez(file, **arrays)
    with zipfile.ZipFile(file, "a") as archive:
        # A ZipInfo of our own has a fixed date, which writestr("graph.json") has not.
        archive.writestr(zipfile.ZipInfo(_GRAPH), json.dumps(description, indent=1) + "\n")
    _files.write(path, file.getvalue())


class _Graph:
    """The operations of a model.

    Attributes:
        operations: what `graph.json` lists.
        arrays: by "<operation>.<array>".
        output: the operation whose result is the model's.
    """

    def __init__(self, model: keras.Model):
        self.operations: list[dict[str, Any]] = []
        self.arrays: dict[str, np.ndarray] = {}
        # The operation that computes the output of each Keras layer, by its name.
        self._ends: dict[str, str] = {}
        source, self._last = (tensor._keras_history.layer for tensor in (model.input, model.output))
        # A sequential model does not list its input.
        layers = {layer.name: layer for layer in [source, *model.layers]}
        self._producers = {name: _producers(layer) for name, layer in layers.items()}
        self._consumers: dict[str, list[keras.layers.Layer]] = {name: [] for name in layers}
        for name, producers in self._producers.items():
            for producer in producers:
                self._consumers[producer].append(layers[name])

        for layer in layers.values():
            if layer.name not in self._ends:
                self._add(layer)
        self.output = self._ends[self._last.name]

    def _add(self, layer: keras.layers.Layer) -> None:
        """Adds a layer, and the BatchNormalization and the activation that follow in its place."""
        batch_norm = None
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense)):
            batch_norm = self._batch_norm_after(layer)
        last = batch_norm or layer
        op, fields, arrays = _describe(layer, batch_norm)
        if op == "binary_conv" and self._only_signs_follow(last):
            arrays["threshold"] = _threshold(arrays["multiplier"], arrays["bias"])
        inputs = [self._ends[producer] for producer in self._producers[layer.name]]
        self._append(layer, layer.name, op, inputs, fields, arrays)
        activation = _activation(layer)
        if activation is not None:
            self._append(layer, f"{layer.name}.{activation}", activation, [layer.name], {}, {})
        self._ends[layer.name] = self._ends[last.name] = self.operations[-1]["name"]

    def _append(
        self,
        layer: keras.layers.Layer,
        name: str,
        op: str,
        inputs: list[str],
        fields: dict[str, Any],
        arrays: dict[str, np.ndarray],
    ) -> None:
        shape = _shape(layer.output_shape)
        self.operations.append(
            {"name": name, "op": op, "inputs": inputs, "shape": shape, **fields}
            | {"arrays": sorted(arrays)}
        )
        self.arrays.update({f"{name}.{key}": value for key, value in arrays.items()})

    def _batch_norm_after(
        self, layer: keras.layers.Layer
    ) -> keras.layers.BatchNormalization | None:
        """The BatchNormalization that can be folded into a layer."""
        consumers = self._consumers[layer.name]
        if (
            layer is not self._last
            and len(consumers) == 1
            and isinstance(consumers[0], keras.layers.BatchNormalization)
            and _activation(layer) is None
        ):
            return consumers[0]
        return None

    def _only_signs_follow(self, layer: keras.layers.Layer) -> bool:
        """Whether nothing but the signs of 1-bit convolutions reads a layer."""
        consumers = self._consumers[layer.name]
        return (
            layer is not self._last
            and _activation(layer) is None
            and bool(consumers)
            and all(getattr(consumer, "input_quantizer", None) for consumer in consumers)
        )


_Description = tuple[str, dict[str, Any], dict[str, np.ndarray]]


def _describe(
    layer: keras.layers.Layer, batch_norm: keras.layers.BatchNormalization | None
) -> _Description:
    """Operation, fields and arrays of a layer, with a BatchNormalization after it or not.

    Raises:
        ValueError: the format cannot express it.
    """
    # The exact type counts: a subclass is another operation.
    describe = _DESCRIBERS.get(type(layer))
    if describe is not None and getattr(layer, "data_format", "channels_last") == "channels_last":
        described = describe(layer)
        return described if batch_norm is None else _folded(described, batch_norm)
    raise ValueError(
        f"`model` must be made of layers that the format can express. Received: {layer.name}, a "
        f"{type(layer).__name__}."
    )


def _convolution(layer: keras.layers.Conv2D) -> _Description:
    kernel = _keras_model.quantized_kernel(layer)
    bias = layer.bias.numpy() if layer.use_bias else np.zeros(layer.filters, np.float32)
    fields = {
        **_window(layer, layer.kernel_size),
        "dilations": [*layer.dilation_rate],
        "groups": layer.groups,
    }
    padded_with = getattr(layer, "pad_values", 0) if layer.padding == "same" else 0
    if getattr(layer, "input_quantizer", None) is None and padded_with == 0:
        return "conv", fields, {"kernel": kernel, "bias": bias}
    magnitude = np.abs(kernel).max(axis=(0, 1, 2))
    if (
        not _keras_model.has_one_bit_input(layer)
        or not _keras_model.has_one_bit_kernel(layer)
        or not np.allclose(np.abs(kernel), magnitude, rtol=1e-4, atol=0)
        or not _is_sign(layer.input_quantizer)
    ):
        raise ValueError(
            "`model` must quantize inputs to signs, where it does, and kernels with them. "
            f"Received: {layer.name}."
        )
    fields |= {"pad_value": int(padded_with), "depth": int(np.prod(kernel.shape[:3]))}
    filters = pack_filters(kernel.transpose(3, 0, 1, 2) < 0)
    return "binary_conv", fields, {"filters": filters, "multiplier": magnitude, "bias": bias}


def _is_sign(quantizer: Callable[[tf.Tensor], tf.Tensor]) -> bool:
    return np.array_equal(quantizer(tf.constant([-2.0, -1e-6, 0.0, 1e-6, 2.0])), [-1, -1, 1, 1, 1])


def _dense(layer: keras.layers.Dense) -> _Description:
    if getattr(layer, "input_quantizer", None) or getattr(layer, "kernel_quantizer", None):
        raise ValueError(f"`model` must have real dense layers. Received: {layer.name}.")
    bias = layer.bias.numpy() if layer.use_bias else np.zeros(layer.units, np.float32)
    return "dense", {}, {"kernel": layer.kernel.numpy(), "bias": bias}


def _batch_norm(layer: keras.layers.BatchNormalization) -> _Description:
    multiplier, bias = _factors(layer)
    return "affine", {}, _float32(multiplier=multiplier, bias=bias)


def _factors(layer: keras.layers.BatchNormalization) -> tuple[np.ndarray, np.ndarray]:
    """What a BatchNormalization multiplies with, and then adds; (channels,) float64 each."""
    mean, variance = (
        weight.numpy().astype(np.float64) for weight in (layer.moving_mean, layer.moving_variance)
    )
    multiplier = 1 / np.sqrt(variance + layer.epsilon)
    if layer.scale:
        multiplier *= layer.gamma.numpy()
    bias = -mean * multiplier
    return multiplier, bias + layer.beta.numpy() if layer.center else bias


def _folded(described: _Description, layer: keras.layers.BatchNormalization) -> _Description:
    op, fields, arrays = described
    multiplier, bias = _factors(layer)
    # The last axis of a kernel counts the outputs, too.
    factor = "multiplier" if op == "binary_conv" else "kernel"
    changed = {factor: arrays[factor] * multiplier, "bias": arrays["bias"] * multiplier + bias}
    return op, fields, arrays | _float32(**changed)


def _float32(**arrays: np.ndarray) -> dict[str, np.ndarray]:
    return {name: values.astype(np.float32) for name, values in arrays.items()}


def _threshold(multiplier: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """t of each channel such that multiplier * v + bias < 0 where s * v < t, for whole numbers v.

    s is -1 where the multiplier is negative and else 1. Where it is 0, t is the smallest or the
    largest number of 32 bits.
    """
    limits = np.iinfo(np.int32)
    with np.errstate(divide="ignore", invalid="ignore"):
        thresholds = np.ceil(-bias.astype(np.float64) / np.abs(multiplier.astype(np.float64)))
    constant = np.where(bias < 0, limits.max, limits.min)
    thresholds = np.where(multiplier == 0, constant, thresholds)
    return np.clip(thresholds, limits.min, limits.max).astype(np.int32)


def _shift(layer: blocks.ChannelShift) -> _Description:
    shift = layer.shift.numpy()
    return "affine", {}, {"multiplier": np.ones_like(shift), "bias": shift}


def _prelu(layer: keras.layers.PReLU) -> _Description:
    return "prelu", {}, {"alpha": layer.alpha.numpy()}


def _pooling(op: str) -> Callable[[keras.layers.Layer], _Description]:
    def describe(layer: keras.layers.Layer) -> _Description:
        return op, {"window": [*layer.pool_size], **_window(layer, layer.pool_size)}, {}

    return describe


def _border(op: str, amounts: str) -> Callable[[keras.layers.Layer], _Description]:
    return lambda layer: (op, {"amounts": [[*pair] for pair in getattr(layer, amounts)]}, {})


def _plain(op: str) -> Callable[[keras.layers.Layer], _Description]:
    return lambda layer: (op, {}, {})


def _window(layer: keras.layers.Layer, size: tuple[int, int]) -> dict[str, Any]:
    """Strides, and rows and columns of padding before and after, as TensorFlow counts them."""
    dilations = getattr(layer, "dilation_rate", (1, 1))
    padding = []
    for length, extent, stride, dilation in zip(
        layer.input_shape[1:3], size, layer.strides, dilations
    ):
        total = 0
        if layer.padding == "same":
            outputs = -(-length // stride)
            total = max(0, (outputs - 1) * stride + (extent - 1) * dilation + 1 - length)
        padding.append([total // 2, total - total // 2])
    return {"strides": [*layer.strides], "padding": padding}


def _activation(layer: keras.layers.Layer) -> str | None:
    """What a layer applies to its result; None for nothing."""
    if not hasattr(layer, "activation") or isinstance(layer, blocks.RealActivation):
        return None
    name = keras.activations.serialize(layer.activation)
    if name not in ("linear", "relu", "softmax"):
        raise ValueError(
            "`model` must have the activations relu and softmax only. "
            f"Received: {layer.name} with {name}."
        )
    return None if name == "linear" else name


def _shape(shape: Any) -> list[int]:
    """Of one image."""
    [shape] = [shape] if isinstance(shape, tuple) else shape  # An input's is in a list.
    return [int(size) for size in shape[1:]]


def _producers(layer: keras.layers.Layer) -> list[str]:
    if isinstance(layer, keras.layers.InputLayer):
        return []
    if len(layer.inbound_nodes) != 1:
        raise ValueError(
            "`model` must call each layer once. "
            f"Received: {layer.name}, called {len(layer.inbound_nodes)} times."
        )
    return [producer.name for producer in tf.nest.flatten(layer.inbound_nodes[0].inbound_layers)]


_DESCRIBERS: dict[type, Callable[[Any], _Description]] = {
    keras.layers.InputLayer: _plain("input"),
    keras.layers.Conv2D: _convolution,
    lq.layers.QuantConv2D: _convolution,
    keras.layers.Dense: _dense,
    keras.layers.BatchNormalization: _batch_norm,
    blocks.ChannelShift: _shift,
    blocks.RealActivation: lambda layer: (layer.activation, {}, {}),
    keras.layers.PReLU: _prelu,
    # Its activation follows as an operation of its own.
    keras.layers.Activation: _plain("identity"),
    keras.layers.Dropout: _plain("identity"),
    keras.layers.Add: _plain("add"),
    keras.layers.Flatten: _plain("flatten"),
    keras.layers.MaxPooling2D: _pooling("max_pool"),
    keras.layers.AveragePooling2D: _pooling("average_pool"),
    keras.layers.GlobalAveragePooling2D: _plain("global_average_pool"),
    keras.layers.ZeroPadding2D: _border("zero_pad", "padding"),
    keras.layers.Cropping2D: _border("crop", "cropping"),
}
