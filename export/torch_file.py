"""What litert-torch writes, made readable and quicker before it is packed.

Names of tensors become those of PyTorch's modules, "layer1.0.conv", PReLU, which is written as four
operators, becomes LiteRT's PRELU, and what is transposed to and fro is not. The values stay.
"""

import re
from collections import Counter
from collections.abc import Mapping

import numpy as np

from bireal_keras.export.binarize import elementwise
from bireal_keras.export.binarize.constants import Constants
from bireal_keras.export.binarize.graph import Graph, Operator
from bireal_keras.export.binarize.match import LAYERS

# torch.export.unflatten's classes, by which litert-torch calls a tensor after the modules that it
# comes from: ".../torch.export.unflatten.InterpreterModule_layer1/...". What became one operator
# has several such names, with ";;" between them and the last for what was first.
_MODULE = re.compile(r"torch\.export\.unflatten\.Interpreter\w*?Module_([^/;]+)")
_ENDS = re.compile(r"serving_default_(arg|output)s?_(\d+)")
_RELU = "RELU"


def tidied(content: bytes, names: Mapping[str, str] | None = None) -> bytes:
    """The same file, for the same values, with other names and fewer operators.

    Args:
        content: of a file that litert-torch made of a module of torch.export.unflatten.
        names: of modules, by those that the file has for them, where these are not the whole names.
    """
    graph = Graph(content)
    _name(graph, names or {})
    constants = Constants(graph)
    _join_prelus(graph, constants)
    _skip_transpositions(graph, constants)
    return graph.write()[0]


def _name(graph: Graph, names: Mapping[str, str]) -> None:
    """Names tensors by their modules, layers first; what else a module computes gets numbers."""
    layers = [one for one in graph.operators if one.name in LAYERS]
    others = [one for one in graph.operators if one.name not in LAYERS]
    seen: Counter[str] = Counter()
    for tensor in (*graph.inputs, *(tensor for one in layers + others for tensor in one.outputs)):
        old = graph.name(tensor)
        end = _ENDS.match(old)
        module = ".".join(_MODULE.findall(old.rpartition(";;")[2]))
        name = f"{end[1]}_{end[2]}" if end else names.get(module, module) or "module"
        seen[name] += 1
        graph.rename(tensor, name if seen[name] == 1 else f"{name}:{seen[name]}")


def _skip_transpositions(graph: Graph, constants: Constants) -> None:
    """Lets what reads a TRANSPOSE that undoes one before it read what that one reads."""
    producers = graph.producers()
    same: dict[int, int] = {}
    for operator in graph.operators:
        operator.inputs = tuple(same.get(tensor, tensor) for tensor in operator.inputs)
        before = producers.get(operator.inputs[0]) if operator.inputs else None
        if before is None or not before.name == operator.name == "TRANSPOSE":
            continue
        there, back = (constants.get(one.inputs[1]) for one in (before, operator))
        if there is not None and back is not None and (there[back] == np.arange(len(back))).all():
            same[operator.outputs[0]] = before.inputs[0]


def _join_prelus(graph: Graph, constants: Constants) -> None:
    """Replaces relu(x) - slope * relu(-x)."""
    producers = graph.producers()
    for index, operator in enumerate(graph.operators):
        found = _prelu(graph, constants, producers, operator)
        if found is not None:
            tensor, slope = found
            name = f"{graph.name(operator.outputs[0])}/slope"
            inputs = (tensor, graph.add_constant(name, slope))
            graph.operators[index] = graph.new_builtin("PRELU", inputs, operator.outputs[0])


def _prelu(
    graph: Graph, constants: Constants, producers: dict[int, Operator], operator: Operator
) -> tuple[int, np.ndarray] | None:
    """The tensor that a SUB is the PReLU of, and the slope, one for each channel or for all."""
    if operator.name != "SUB" or operator.activation:
        return None
    positive, scaled = (producers.get(tensor) for tensor in operator.inputs)
    if positive is None or positive.name != _RELU or scaled is None or scaled.activation:
        return None
    factor = _factor(constants, scaled)
    negated = None if factor is None else producers.get(scaled.inputs[0])
    if factor is None or negated is None or not _is_clamped(negated):
        return None
    minus = _factor(constants, negated)
    [tensor] = positive.inputs
    channels = graph.shape(tensor)[-1:]
    if (
        minus is None
        or not (minus == -1).all()
        or negated.inputs[0] != tensor
        or factor.shape[-1:] not in ((), (1,), channels)
        or factor.size not in (1, *channels)
    ):
        return None
    axes = len(graph.shape(tensor)) - 1
    return tensor, np.broadcast_to(factor.ravel(), channels).reshape((1,) * (axes - 1) + channels)


def _is_clamped(operator: Operator) -> bool:
    return elementwise.ACTIVATIONS.get(operator.activation) == _RELU


def _factor(constants: Constants, operator: Operator) -> np.ndarray | None:
    """The constant that a MUL multiplies by."""
    return constants.get(operator.inputs[1]) if operator.name == "MUL" else None
