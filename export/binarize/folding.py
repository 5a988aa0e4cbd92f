"""Arithmetic on constants that Larq Compute Engine's (LCE's) converter leaves in a file."""

from bireal_keras.export.binarize.constants import Constants
from bireal_keras.export.binarize.graph import Graph
from bireal_keras.tflite import model as tflite


def fold(content: bytes) -> bytes:
    """Computes once what unpacks constant signs, and what is made of them, and not on every run.

    TensorFlow folds no large constants. So in LCE's file of an XNOR-Net a kernel of many weights is
    clipped, packed, unpacked by LceDequantize, multiplied and transposed whenever the file runs.

    Args:
        content: of a `.tflite` file.

    Returns:
        The file with these values stored, for a batch of 1 where it was any number; `content`
        itself if no LceDequantize reads a constant.

    Raises:
        ValueError: the file is damaged.
    """
    if all(operator.name != "LceDequantize" for operator in tflite.Graph(content).operators):
        return content
    graph = Graph(content)
    constants = Constants(graph)
    kept, values, unpacks = [], {}, False
    for operator in graph.operators:
        value = constants.get(operator.outputs[0]) if operator.outputs else None
        if value is None:
            kept.append(operator)
        else:
            values[operator.outputs[0]] = value
            unpacks |= operator.name == "LceDequantize"
    if not unpacks:
        return content
    graph.operators = kept
    for tensor in {*graph.outputs, *(tensor for operator in kept for tensor in operator.inputs)}:
        if tensor in values:
            graph.store(tensor, values[tensor])
    return graph.write()[0]
