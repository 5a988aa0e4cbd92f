"""What follows a binary convolution and becomes a part of it."""

from dataclasses import dataclass

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
# A multiplication after a clamp rounds to depth * multiplier * 2^-24, since LceBconv2d adds
# depth * multiplier to its bias. Where that is more than this share of the range, the clamp stays
# an operator of its own.
_CLAMP_ROUNDING = 1e-5
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
    """

    multiplier: np.ndarray
    bias: np.ndarray
    activation: int
    left: str
    tensor: int


def follow(
    graph: Graph, constants: Constants, readers: dict[int, list[Operator]], plan: Plan
) -> Output:
    """Takes in what follows a layer, as far as nothing else reads what is between.

    That is: sums with constants and products by constants, one for each channel; and one
    activation, if neither bias nor zeros of the padding come before it.
    """
    chain = _Chain(plan)
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
    def __init__(self, plan: Plan):
        self._plan = plan
        self.output = Output(plan.multiplier, plan.bias, 0, "", plan.result)

    def move(self, tensor: int) -> None:
        old = self.output
        self.output = Output(old.multiplier, old.bias, old.activation, old.left, tensor)

    def clamp(self, activation: str) -> bool:
        """Applies an activation; False if it stays an operator of its own, which ends the chain."""
        old = self.output
        if not activation:
            return True
        if self._is_fusible(activation):
            code = _ACTIVATIONS[activation]
            self.output = Output(old.multiplier, old.bias, code, "", old.tensor)
            return True
        self.output = Output(old.multiplier, old.bias, old.activation, activation, old.tensor)
        return False

    def _is_fusible(self, activation: str) -> bool:
        old = self.output
        # LceBconv2d clamps first: relu(m * sum) is m * relu(sum) for m >= 0, without a bias.
        if old.bias.any() or old.activation or not self._plan.windows.padding.is_exact_on_bits:
            return False
        if activation == "RELU":
            return bool((old.multiplier >= 0).all())
        if _ACTIVATIONS[activation] not in _LIMITS:
            return False
        low, high = _LIMITS[_ACTIVATIONS[activation]]
        rounding = self._plan.depth * 2.0**-24
        is_precise = rounding <= _CLAMP_ROUNDING * (high - low)
        return is_precise and bool((old.multiplier == 1).all())

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
        self.output = Output(multiplier, bias, old.activation, "", old.tensor)
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
