"""Fake quantization, which TensorFlow's converter writes as QUANTIZE and DEQUANTIZE."""

from collections.abc import Iterator

import numpy as np

from bireal_keras.export.binarize.graph import Graph, Operator


def fold(graph: Graph) -> None:
    """Computes that of constants once, and not on every run.

    The values take as much memory as the constants.

    Args:
        graph: is changed.
    """
    folded = set()
    for quantize, dequantize in _pairs(graph):
        values = _rounded(graph, quantize)
        if values is not None and values.shape == graph.shape(dequantize.outputs[0]):
            graph.store(dequantize.outputs[0], values)
            folded.add(dequantize)
    graph.operators = [operator for operator in graph.operators if operator not in folded]


def drop_additions(graph: Graph) -> None:
    """Takes out what TensorFlow's converter adds of its own accord.

    The average of values that are quantized is rounded to their steps, too, which Keras does not
    do. The tensors of the model's own fake quantization are named after it.

    Args:
        graph: of a file of TensorFlow's converter; is changed.
    """
    sources = {
        dequantize.outputs[0]: quantize.inputs[0]
        for quantize, dequantize in _pairs(graph)
        if "FakeQuant" not in graph.name(dequantize.inputs[0])
    }
    graph.operators = [
        graph.with_tensors(
            operator,
            [sources.get(tensor, tensor) for tensor in operator.inputs],
            operator.outputs,
        )
        for operator in graph.operators
    ]
    graph.outputs = tuple(sources.get(tensor, tensor) for tensor in graph.outputs)


def _pairs(graph: Graph) -> Iterator[tuple[Operator, Operator]]:
    producers = graph.producers()
    for operator in graph.operators:
        quantize = producers.get(operator.inputs[0]) if operator.inputs else None
        if quantize is not None and (quantize.name, operator.name) == ("QUANTIZE", "DEQUANTIZE"):
            yield quantize, operator


def _rounded(graph: Graph, quantize: Operator) -> np.ndarray | None:
    """The float32 values that a QUANTIZE rounds a constant to; None if it does something else."""
    values, steps = graph.stored(quantize.inputs[0]), graph.steps(quantize.outputs[0])
    if values is None or values.dtype != np.float32 or steps is None:
        return None
    size, zero_point, low, high = steps
    # As TensorFlow's fake quantization rounds: halves upwards.
    numbers = np.floor(values / size + np.float32(0.5)) + zero_point
    return size * (np.clip(numbers, low, high) - zero_point).astype(np.float32)
