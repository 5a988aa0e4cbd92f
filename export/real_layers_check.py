"""Does a file with compact real-valued layers compute what it should?"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from bireal_keras.export import probes, real_layers
from bireal_keras.export.results import top1_agreement
from bireal_keras.tflite.model import Graph, Tensor, serialize, unpack

# What passes for rounding, as a share of the sum of the magnitudes that an output is made of. Two
# sums of hundreds of float32 products in another order differ by a few units in the last place,
# 6e-8 each.
_ROUNDING = 1e-5
# A weight is stored by way of float32: its scale, the quotient that is rounded to an integer, and
# here the integer times the scale again. Each rounds by half a unit in the last place, at most of
# the filter's largest weight, so that two units of that one hold them all. They are 3e-5 of a step.
_WEIGHT_ROUNDING = 2.0**-22
_INT8_STEPS = 255
_IMAGES = 8


@dataclass(frozen=True)
class _Layer:
    """A compact layer in a probe.

    Attributes:
        name: of its output.
        magnitudes: (out,), the sum of the magnitudes of each output channel's weights.
        dynamic: whether it rounds its input to int8.
        outputs: where in the probe's outputs its input is, its output, and what that should be.
    """

    name: str
    magnitudes: np.ndarray
    dynamic: bool
    outputs: tuple[int, int, int]


def check(float32: bytes, compact: bytes, samples: Sequence[np.ndarray]) -> float | None:
    """Compares a compact file with the float32 file that it was made of.

    A stem in fewer bits rightly turns the signs of some activations, and then everything after
    them is different. So the files are compared layer by layer, each on the input that it gets
    in the compact file:

    - Each stored weight is the float32 one rounded: off by half a step of its channel's scale
      for int8, by 2^-11 of its value for float16. (For int8, two units in the last place of the
      channel's largest weight are allowed beside: what the arithmetic of float32 leaves open.)
    - Each layer gives what the float32 layer with the stored weights gives, up to rounding.
      Where it rounds its input to int8, up to half a step of that (a 255th of the range of the
      image's values and 0) times the sum of the magnitudes of a channel's weights. That is
      checked for every output on 8 samples, on LiteRT's own kernels and,
      where they can run it, on those of LCE's interpreter.

    - Every other constant is the same: binary filters, factors, biases.

    So once `verification.verify` has accepted the float32 file, one question is open: what the
    rounding does to the accuracy. What is returned hints at that; a data set tells.

    Args:
        float32: the file with float32 real-valued layers.
        compact: what `real_layers.compact` made of it.
        samples: what its inputs get, in the file's order, each float32 (samples, ...).

    Returns:
        Share of the samples on which both files find the same class on our runtime; None for a
        model whose output is not (batch, classes).

    Raises:
        ValueError: the compact file does not compute what it should.
    """
    content, layers = _probe(float32, compact)
    # XNNPACK has kernels of its own, and rounds each pixel to its own range.
    runners = [probes.run_on_runtime(content, xnnpack=False)]
    if not probes.missing_on_lce(content, samples):
        runners.append(probes.run_on_lce(content))
    graph = Graph(compact)
    size = graph.tensors[graph.inputs[0]].shape[0]
    # One batch of the file's at a time: the maps after a stem take megabytes.
    for start in range(0, min(_IMAGES, len(samples[0])), size):
        batch = [values[start : start + size] for values in samples]
        for run_probe in runners:
            outputs = [*batch, *run_probe(batch)]
            for layer in layers:
                _check_output(layer, *(outputs[index] for index in layer.outputs))
    expected, actual = (probes.run_on_runtime(file)(list(samples)) for file in (float32, compact))
    return top1_agreement(expected, actual)


def _probe(float32: bytes, compact: bytes) -> tuple[bytes, list[_Layer]]:
    """The compact file with a second, float32 layer on the input of each compact one.

    Its outputs are the file's, then the two of each pair and their input. A layer counts them
    from 1: 0 is the image.
    """
    before, now = Graph(float32), Graph(compact)
    probe, operators_before = unpack(compact), unpack(float32).subgraphs[0].operators
    graph = probe.subgraphs[0]
    computed_by = {operator.outputs[0]: operator for operator in now.operators}
    outputs = [*now.inputs, *now.outputs]

    def place(index: int) -> int:
        if index not in outputs:
            outputs.append(index)
        return outputs.index(index)

    layers = []
    compacted = set()
    for operator, table in zip(before.operators, operators_before):
        axis = real_layers.OUTPUT_AXES.get(operator.name)
        if axis is None:
            continue
        source, kernel = operator.inputs[:2]
        output = operator.outputs[0]
        stored, original = now.tensors[kernel], before.tensors[kernel].values
        if original is None or stored.type == before.tensors[kernel].type:
            continue
        name = now.tensors[output].name
        weights = _stored_weights(stored, axis)
        _check_weights(name, weights, original, stored, axis)
        compacted.add(kernel)
        twin = copy.copy(table)
        twin.inputs = [source, _add_tensor(probe, kernel, weights), *operator.inputs[2:]]
        twin.outputs = [_add_tensor(probe, output, None)]
        graph.operators.append(twin)
        layers.append(
            _Layer(
                name=name,
                magnitudes=np.abs(weights).sum(axis=_all_but(axis, weights.ndim)),
                dynamic=computed_by[output].inputs[1] == kernel,
                outputs=(place(source), place(output), place(twin.outputs[0])),
            )
        )
    for index, tensor in enumerate(before.tensors):
        if index not in compacted and not _same_bytes(tensor, now.tensors[index]):
            raise ValueError(f"The compact file has another {tensor.name}.")
    graph.outputs = outputs[len(now.inputs) :]
    probe.signatureDefs = None
    return serialize(probe), layers


def _same_bytes(a: Tensor, b: Tensor) -> bool:
    if a.data is None or b.data is None:
        return a.data is b.data
    return np.array_equal(a.data, b.data)


def _stored_weights(tensor: Tensor, axis: int) -> np.ndarray:
    if tensor.values is None:
        raise ValueError(f"The compact file does not hold the weights of {tensor.name}.")
    values = tensor.values.astype(np.float32)
    if tensor.type == schema.TensorType.FLOAT16:
        return values
    return values * tensor.scales.reshape([-1 if i == axis else 1 for i in range(values.ndim)])


def _check_weights(
    name: str, stored: np.ndarray, weights: np.ndarray, tensor: Tensor, axis: int
) -> None:
    if tensor.type == schema.TensorType.FLOAT16:
        # The steps of float16 do not get smaller below 2^-14.
        allowed = np.maximum(np.abs(weights) * 2.0**-11, 2.0**-25)
    else:
        largest = np.abs(weights).max(axis=_all_but(axis, weights.ndim), keepdims=True)
        # No step is smaller than the least normal number, see `real_layers.quantize`.
        step = np.maximum(largest / 127, np.finfo(np.float32).tiny)
        allowed = 0.5 * step + _WEIGHT_ROUNDING * largest
    # Written in this way, the condition finds NaN wrong, here as below.
    if not (np.abs(stored - weights) <= allowed).all():
        raise ValueError(f"The compact file does not hold the weights of {name}.")


def _check_output(
    layer: _Layer, inputs: np.ndarray, actual: np.ndarray, expected: np.ndarray
) -> None:
    low, high = min(inputs.min(), 0), max(inputs.max(), 0)
    step = 0.5 * (high - low) / _INT8_STEPS if layer.dynamic else 0
    allowed = (step + _ROUNDING * max(high, -low)) * layer.magnitudes
    differences = np.abs(actual - expected)
    if not (differences <= allowed).all():
        raise ValueError(
            f"The compact file does not compute what it should: {layer.name} differs by up to "
            f"{differences.max():.2g} from the float32 layer with the same weights."
        )


def _add_tensor(model: schema.ModelT, like: int, value: np.ndarray | None) -> int:
    """A float32 tensor of the shape of another."""
    graph = model.subgraphs[0]
    buffer, tensor = schema.BufferT(), schema.TensorT()
    if value is not None:
        buffer.data = np.frombuffer(value.tobytes(), np.uint8)
    model.buffers.append(buffer)
    tensor.name = graph.tensors[like].name + b"/float32"
    tensor.shape = graph.tensors[like].shape
    tensor.type = schema.TensorType.FLOAT32
    tensor.buffer = len(model.buffers) - 1
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _all_but(axis: int, rank: int) -> tuple[int, ...]:
    return tuple(i for i in range(rank) if i != axis)
