"""What follows a binary convolution and becomes a part of it."""

from dataclasses import dataclass, replace

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from bireal_keras.export.binarize import elementwise
from bireal_keras.export.binarize.constants import Constants
from bireal_keras.export.binarize.graph import Graph, Operator
from bireal_keras.export.binarize.match import Plan

_INT32 = np.iinfo(np.int32)
_ACTIVATIONS = {name: code for code, name in elementwise.ACTIVATIONS.items()}
# The integers that LceBconv2d clamps a sum to, by its activation.
_LIMITS: dict[int, tuple[float, float]] = {
    schema.ActivationFunctionType.NONE: (-np.inf, np.inf),
    schema.ActivationFunctionType.RELU: (0, np.inf),
    schema.ActivationFunctionType.RELU_N1_TO_1: (-1, 1),
    schema.ActivationFunctionType.RELU6: (0, 6),
}
# An activation that is a part of the convolution leaves LCE's multiplier and bias as large as the
# sum of all bits, and what comes of them as small as the activation's range: float32 loses digits.
# Measured on random networks, values are off by up to 4e-7 of their spread times the depth (height
# x width x channels of a filter) over the range; at this depth by half of what passes for rounding.
CANCELLING_DEPTH = 250
# Nobody writes more, and a file could make much work of it.
_MAX_FOLLOWING = 32


@dataclass(frozen=True)
class Output:
    """What an LceBconv2d computes of its sums, and what stays an operator after it.

    Attributes:
        multiplier: (out,) float32.
        bias: (out,) float32, added after the multiplication.
        activation: that clamps the sums before both, `schema.ActivationFunctionType`.
        left: name of an activation that stays an operator of its own, or "".
        tensor: index of what comes out in the end.
        only_bits: whether an activation is fused that costs digits, but for thresholds.
    """

    multiplier: np.ndarray
    bias: np.ndarray
    activation: int
    left: str
    tensor: int
    only_bits: bool = False


def follow(
    graph: Graph, constants: Constants, readers: dict[int, list[Operator]], plan: Plan
) -> list[Output]:
    """Takes in what follows a layer, as far as nothing else reads what is between.

    That is: sums with constants and products by constants, one for each channel; and one
    activation, if neither bias nor zeros of the padding come before it.

    Returns:
        What the layer can compute: more where it writes bits alone, which comes first, than where
        it does not.
    """
    chains = [_Chain(plan, only_bits=only_bits) for only_bits in (True, False)]
    outputs = [_follow(graph, constants, readers, chain) for chain in chains]
    return outputs if outputs[0].only_bits else outputs[1:]


def _follow(
    graph: Graph, constants: Constants, readers: dict[int, list[Operator]], chain: "_Chain"
) -> Output:
    plan = chain.plan
    if not chain.clamp(elementwise.ACTIVATIONS.get(plan.activation, "")):
        return chain.output
    for _ in range(_MAX_FOLLOWING):
        output = chain.output
        following = readers.get(output.tensor, [])
        if len(following) != 1 or graph.is_output(output.tensor):
            return output
        [operator] = following
        if operator.name in _ACTIVATIONS:
            if not chain.clamp(operator.name):
                return output
        elif not chain.multiply_or_add(graph, constants, operator):
            return output
        chain.move(operator.outputs[0])
        if not chain.clamp(elementwise.ACTIVATIONS.get(operator.activation, "")):
            return chain.output
    return chain.output


class _Chain:
    def __init__(self, plan: Plan, *, only_bits: bool):
        self.plan = plan
        self._only_bits = only_bits
        self.output = Output(plan.multiplier, plan.bias, 0, "", plan.result)

    def move(self, tensor: int) -> None:
        self.output = replace(self.output, tensor=tensor)

    def clamp(self, activation: str) -> bool:
        """Applies an activation; False if it stays an operator of its own, which ends the chain."""
        if not activation:
            return True
        if self._is_fusible(activation):
            costs_digits = self._costs_digits(activation)
            if self._only_bits or not costs_digits:
                code = _ACTIVATIONS[activation]
                self.output = replace(self.output, activation=code, only_bits=costs_digits)
                return True
        self.output = replace(self.output, left=activation)
        return False

    def _is_fusible(self, activation: str) -> bool:
        old = self.output
        # LceBconv2d clamps first: relu(m * sum) is m * relu(sum) for m >= 0, without a bias.
        if old.bias.any() or old.activation or not self.plan.windows.padding.is_exact_on_bits:
            return False
        if activation == "RELU":
            return bool((old.multiplier >= 0).all())
        return _ACTIVATIONS[activation] in _LIMITS and bool((old.multiplier == 1).all())

    def _costs_digits(self, activation: str) -> bool:
        low, high = _LIMITS[_ACTIVATIONS[activation]]
        return self.plan.depth > CANCELLING_DEPTH * (high - low)

    def multiply_or_add(self, graph: Graph, constants: Constants, operator: Operator) -> bool:
        """Applies arithmetic with a constant for each channel; False if the operator is not it."""
        if operator.name not in ("ADD", "SUB", "MUL", "DIV") or len(operator.inputs) != 2:
            return False
        old = self.output
        comes_first = operator.inputs[0] == old.tensor
        other = constants.get(operator.inputs[1] if comes_first else operator.inputs[0])
        channels = len(old.multiplier)
        if (
            other is None
            or other.dtype != np.float32
            or other.size not in (1, channels)
            or (other.size > 1 and other.shape[-1] != channels)
            or (operator.name == "DIV" and not comes_first)
            or graph.shape(operator.outputs[0]) != graph.shape(old.tensor)
        ):
            return False
        value = np.broadcast_to(other.ravel(), (channels,))
        multiplier, bias = old.multiplier, old.bias
        with np.errstate(all="ignore"):
            if operator.name == "ADD":
                bias = bias + value
            elif operator.name == "SUB" and comes_first:
                bias = bias - value
            elif operator.name == "SUB":
                multiplier, bias = -multiplier, value - bias
            elif operator.name == "MUL":
                multiplier, bias = multiplier * value, bias * value
            else:
                multiplier, bias = multiplier / value, bias / value
        if not (np.isfinite(multiplier).all() and np.isfinite(bias).all()):
            return False
        self.output = replace(old, multiplier=multiplier, bias=bias)
        return True


def thresholds(plan: Plan, output: Output) -> tuple[np.ndarray, np.ndarray]:
    """For packed results: thresholds, and which filters are to be inverted.

    LceBconv2d gives -1 where it counts more different signs than the threshold. A sum of `depth`
    products is depth - 2 * count, so for a positive multiplier the result is negative where

        count > (bias / multiplier + depth) / 2

    and for a negative one the same holds of the inverted filter. Rounded as LCE's converter does
    (mlir/transforms/optimize.cc): the sum in float32, half of it in double.

    Returns:
        (out,) int32 and (out,) bool.
    """
    multiplier, bias = output.multiplier, output.bias
    low, high = _LIMITS[output.activation]
    with np.errstate(all="ignore"):
        limit = bias / np.abs(multiplier) + np.float32(plan.depth)
        found = np.floor(0.5 * limit.astype(np.float64))
        ends = [
            multiplier * np.float32(np.clip(end, -plan.depth, plan.depth)) + bias
            for end in (low, high)
        ]
    smallest, largest = np.minimum(*ends), np.maximum(*ends)
    found = np.where(np.isnan(found), 0, np.clip(found, _INT32.min, _INT32.max))
    result = found.astype(np.int64).astype(np.int32)
    result[largest < 0] = _INT32.min
    result[smallest >= 0] = _INT32.max
    return result, multiplier < 0
