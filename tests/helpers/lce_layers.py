"""What LCE's operators in two files have in common, and Keras models as a front end leaves them."""

import contextlib
import io
import tempfile
from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

from bireal_keras._keras import keras, tf
from bireal_keras.tflite.model import serialize


def saved_and_converted(model, converters):
    """What each of several converters makes of a model's SavedModel."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        model.export(folder)
        return [convert(folder) for convert in converters]


def stock(folder):
    """A float file, as TensorFlow's own converter writes it."""
    return tf.lite.TFLiteConverter.from_saved_model(folder).convert()


def randomize(model, *, negative=0.2, seed=0):
    """Random statistics for BatchNormalization, some gammas negative.

    With fresh ones a network gives nearly the same for all inputs.
    """
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            channels = layer.moving_mean.shape[0]
            signs = np.where(rng.random(channels) < negative, -1, 1)
            layer.gamma.assign(rng.uniform(0.5, 1.5, channels) * signs)
            layer.beta.assign(rng.normal(size=channels))
            layer.moving_mean.assign(rng.normal(size=channels))
            layer.moving_variance.assign(rng.uniform(0.5, 2, channels))
    return model


@dataclass
class Bconv:
    """An LceBconv2d: its options and constants, None for those that it does not have."""

    options: dict
    filters: np.ndarray
    multiplier: np.ndarray | None
    bias: np.ndarray | None
    thresholds: np.ndarray | None


def bconvs(content):
    """Those of a file, in the order of execution."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = model.subgraphs[0]

    def constant(index, dtype):
        if index < 0:
            return None
        tensor = graph.tensors[index]
        return np.asarray(model.buffers[tensor.buffer].data).view(dtype).reshape(tensor.shape)

    found = []
    for operator in graph.operators:
        if model.operatorCodes[operator.opcodeIndex].customCode == b"LceBconv2d":
            _, filters, multiplier, bias, thresholds = operator.inputs
            found.append(
                Bconv(
                    flexbuffers.Loads(bytes(operator.customOptions)),
                    constant(filters, "<u4"),
                    constant(multiplier, "<f4"),
                    constant(bias, "<f4"),
                    constant(thresholds, "<i4"),
                )
            )
    return found


def inversions(ours, theirs):
    """Which filters are LCE's inverted, and the bits that a filter's weights fill."""
    channels = ours.options["channels_in"]
    mask = np.packbits(np.arange(ours.filters.shape[-1] * 32) < channels, bitorder="little")
    mask = mask.view("<u4")
    axes = (1, 2, 3)
    same = (ours.filters == theirs.filters).all(axes)
    inverted = (ours.filters ^ mask == theirs.filters).all(axes)
    assert (same | inverted).all()
    return ~same, mask


def with_inversions(content, lce_file):
    """A file with LCE's filters and multipliers where ours are their inverse and negative."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = model.subgraphs[0]

    def store(index, value):
        model.buffers[graph.tensors[index].buffer].data = np.frombuffer(value.tobytes(), np.uint8)

    layers = zip(bconvs(content), bconvs(lce_file))
    for operator in graph.operators:
        if model.operatorCodes[operator.opcodeIndex].customCode == b"LceBconv2d":
            ours, theirs = next(layers)
            inverted, mask = inversions(ours, theirs)
            filters = ours.filters ^ np.where(inverted[:, None, None, None], mask, 0)
            store(operator.inputs[1], filters.astype("<u4"))
            if ours.multiplier is not None:
                store(operator.inputs[2], np.where(inverted, -ours.multiplier, ours.multiplier))
    return serialize(model)


def sums(layer):
    """(values, out) float32: what a layer makes of each sum, as LCE's kernels compute it."""
    depth = layer.options["channels_in"] * layer.filters.shape[1] * layer.filters.shape[2]
    multiplier = layer.multiplier.astype(np.float64)
    slope = (-multiplier).astype(np.float32)
    offset = (layer.bias + depth * multiplier).astype(np.float32)
    return np.arange(0, 2 * depth + 1, 2, np.float32)[:, None] * slope + offset


def assert_same_layer(ours, theirs):
    """Equal but for filters that are inverted, with the negative of LCE's multiplier."""
    options = dict(theirs.options)
    if theirs.filters.shape[1:3] == (1, 1):
        # TensorFlow's converter says that nothing is padded there, LCE's passes on 'same'.
        options["padding"] = 1
    assert ours.options == options
    assert ours.filters.shape == theirs.filters.shape
    inverted, _ = inversions(ours, theirs)
    if theirs.thresholds is not None:
        assert not inverted.any()
        np.testing.assert_array_equal(ours.thresholds, theirs.thresholds)
        return
    multiplier = np.where(inverted, -ours.multiplier, ours.multiplier)
    assert multiplier.tobytes() == theirs.multiplier.tobytes()
    assert ours.bias.tobytes() == theirs.bias.tobytes()
    # The inverted filter has the negative sum: the other way round the table.
    our_sums = np.where(inverted, sums(ours)[::-1], sums(ours))
    assert np.abs(our_sums - sums(theirs)).max() <= 1e-6 * np.abs(our_sums).max()
