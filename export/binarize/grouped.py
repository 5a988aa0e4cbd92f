"""Merges convolutions of groups of channels, which front ends write apart, into one operator.

Networks that are trained on CPUs split the channels, convolve each part and concatenate; much of
MeliusNet's time was there. TFLite's CONV_2D convolves in groups where its filter has a part of the
input's channels.
"""

import copy
from itertools import pairwise

import numpy as np

from bireal_keras.export.binarize.graph import Graph, Operator


def merge(graph: Graph) -> None:
    """Replaces a SPLIT, a CONV_2D of each part and the CONCATENATION of them by one CONV_2D.

    The sums are the same ones. A MUL and an ADD by channel after them, of a normalization that
    could not be folded before, are folded. What is not exactly that stays as it is: parts of
    different sizes, or read by others, or convolutions that differ in their options.

    Args:
        graph: is changed; operators that nobody needs any more are left to `Graph.write`.
    """
    producers, readers = graph.producers(), graph.readers()
    for index, operator in enumerate(graph.operators):
        if operator.name != "CONCATENATION" or operator.activation:
            continue
        convolutions = [producers.get(tensor) for tensor in operator.inputs]
        parts = [conv for conv in convolutions if conv is not None and conv.name == "CONV_2D"]
        if len(parts) != len(convolutions) or len(parts) < 2:
            continue
        split = producers.get(parts[0].inputs[0])
        if (
            split is not None
            and _splits_channels(graph, split)
            and split.outputs == tuple(conv.inputs[0] for conv in parts)
            and _is_last_axis(graph, operator)
            and all(_is_only_read_once(graph, readers, conv) for conv in parts)
            and all(_are_alike(graph, *pair) for pair in pairwise(parts))
        ):
            graph.operators[index] = _merged(graph, split, parts, operator)
            _fold(graph, readers, index)


def _source(split: Operator) -> int:
    """The tensor that is split."""
    return split.inputs[1 if split.name == "SPLIT" else 0]


def _splits_channels(graph: Graph, split: Operator) -> bool:
    """Whether it cuts the channels of images into equal parts."""
    if split.name == "SPLIT" and len(split.inputs) == 2:
        axis = graph.stored(split.inputs[0])
    elif split.name == "SPLIT_V" and len(split.inputs) == 3:
        axis = graph.stored(split.inputs[2])
    else:
        return False
    shapes = {graph.shape(tensor) for tensor in split.outputs}
    rank = len(graph.shape(_source(split)))
    return (
        axis is not None
        and axis.size == 1
        and int(axis.item()) % rank == 3 == rank - 1
        and (len(shapes) == 1)
    )


def _is_last_axis(graph: Graph, concatenation: Operator) -> bool:
    rank = len(graph.shape(concatenation.outputs[0]))
    return concatenation.options("ConcatenationOptions").axis in (-1, rank - 1)


def _is_only_read_once(
    graph: Graph, readers: dict[int, list[Operator]], convolution: Operator
) -> bool:
    """Whether nobody else needs its input and its output."""
    tensors = (convolution.inputs[0], convolution.outputs[0])
    return all(len(readers[tensor]) == 1 and not graph.is_output(tensor) for tensor in tensors)


def _are_alike(graph: Graph, a: Operator, b: Operator) -> bool:
    """Whether two convolutions differ in the values of their constants only."""
    options = [vars(operator.options("Conv2DOptions")) for operator in (a, b)]
    constants = [[graph.stored(tensor) for tensor in operator.inputs[1:]] for operator in (a, b)]
    if options[0] != options[1] or len(constants[0]) != 2 or len(constants[1]) != 2:
        return False
    return all(
        one is not None
        and other is not None
        and one.dtype == other.dtype == np.float32
        and one.shape == other.shape
        for one, other in zip(*constants, strict=True)
    )


def _merged(
    graph: Graph, split: Operator, parts: list[Operator], concatenation: Operator
) -> Operator:
    name = graph.name(concatenation.outputs[0])
    # The version of the operator stays: interpreters that are too old for groups say so.
    return graph.with_tensors(
        parts[0],
        [
            _source(split),
            *(
                graph.add_constant(
                    f"{name}/{kind}",
                    np.concatenate([_stored(graph, conv.inputs[place]) for conv in parts]),
                )
                for place, kind in ((1, "filters"), (2, "bias"))
            ),
        ],
        concatenation.outputs,
    )


def _fold(graph: Graph, readers: dict[int, list[Operator]], index: int) -> None:
    """Changes a convolution's constants in place of its result: a MUL and an ADD after it.

    Args:
        graph: is changed.
        readers: by tensor.
        index: of the convolution among the operators.
    """
    conv = graph.operators[index]
    (result,) = conv.outputs
    while len(readers[result]) == 1 and not graph.is_output(result) and not conv.activation:
        (following,) = readers[result]
        operands = [graph.stored(tensor) for tensor in following.inputs if tensor != result]
        filters, bias = (_stored(graph, tensor) for tensor in conv.inputs[1:])
        if following.name not in ("MUL", "ADD") or len(operands) != 1:
            return
        (operand,) = operands
        if operand is None or operand.shape != bias.shape or operand.dtype != bias.dtype:
            return
        name = graph.name(following.outputs[0])
        if following.name == "MUL":
            filters, bias = filters * operand[:, None, None, None], bias * operand
        else:
            bias = bias + operand
        constants = {"filters": filters, "bias": bias}
        inputs = [graph.add_constant(f"{name}/{kind}", value) for kind, value in constants.items()]
        conv = graph.with_tensors(conv, [conv.inputs[0], *inputs], following.outputs)
        conv.table.builtinOptions = copy.copy(conv.options("Conv2DOptions"))
        conv.table.builtinOptions.fusedActivationFunction = following.activation
        graph.operators[index] = conv
        graph.operators.remove(following)
        (result,) = conv.outputs


def _stored(graph: Graph, tensor: int) -> np.ndarray:
    value = graph.stored(tensor)
    assert value is not None  # `_are_alike` has seen it.
    return value
