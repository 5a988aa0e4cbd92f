"""Where a tensor's 1-bit values come from, read from TensorFlow's graph.

Operators say what Keras layers do not: what a Lambda computes, an `Activation`, or a quantizer
that is any Python function.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bireal_keras._keras import tf
from bireal_keras.export import reasons

# This is a value of `Origin.sign` beside the codes of signs that LCE does not know.
SIGN = "sign"

_TRANSPARENT = ("Identity", "IdentityN", "StopGradient", "CheckNumerics", "Snapshot")
_SUMS = ("Add", "AddV2", "Sub")
_PRODUCTS = ("Mul", "RealDiv", "Neg")
_PADS = ("Pad", "PadV2", "MirrorPad")
_POOLS = ("MaxPool", "MaxPoolV2")
# Sums with constants and products are a part of these.
_MADE_OF_ARITHMETIC = (reasons.CAST, reasons.MORE_BITS)
_MOVES = {
    "BatchToSpaceND",
    "ConcatV2",
    "DepthToSpace",
    "ExpandDims",
    "Gather",
    "GatherNd",
    "GatherV2",
    "Pack",
    "Reshape",
    "ResizeNearestNeighbor",
    "ReverseV2",
    "Roll",
    "Slice",
    "SpaceToBatchND",
    "SpaceToDepth",
    "Split",
    "SplitV",
    "Squeeze",
    "StridedSlice",
    "Tile",
    "Transpose",
    "Unpack",
}


@dataclass(frozen=True)
class Origin:
    """What a tensor's values are made of.

    Attributes:
        sign: `SIGN` for a sign that LCE recognises, the code in `reasons` of one that it does
            not, "" for real values.
        code: of the operator nearest to the sign that keeps LCE from seeing it, or "".
        between: name of that operator.
    """

    sign: str = ""
    code: str = ""
    between: str = ""


_REAL = Origin()


class Origins:
    """The origins of the tensors of one graph, each looked up once.

    Args:
        sources: the graph's inputs.
    """

    def __init__(self, sources: Sequence[tf.Tensor]):
        self._found: dict[str, Origin] = {}
        self._dependent = _dependents(sources)

    def is_constant(self, tensor: tf.Tensor) -> bool:
        """Whether it is the same for every input: LCE folds it into a literal."""
        return tensor.op.name not in self._dependent

    def of(self, tensor: tf.Tensor) -> Origin:
        """The origin of a tensor of the graph."""
        if tensor.name not in self._found:
            self._found[tensor.name] = _REAL if self.is_constant(tensor) else self._find(tensor)
        return self._found[tensor.name]

    def _find(self, tensor: tf.Tensor) -> Origin:
        tensor = self.before_identities(tensor)
        op = tensor.op
        # Shapes are left out, which vary with the number of images.
        varying = [
            source
            for source in op.inputs
            if source.dtype.is_floating and not self.is_constant(source)
        ]
        if op.type == "Sign":
            return Origin(self._kind_of_sign(op))
        if op.type in ("Select", "SelectV2"):
            return Origin(self._kind_of_select(op))
        if op.type == "Cast" and op.inputs[0].dtype == tf.bool:
            return Origin(reasons.ZERO_ONE)
        if op.type == "Round":
            return Origin(reasons.MORE_BITS)
        if op.type in _SUMS and len(varying) == 1:
            return self._sum(self.of(varying[0]))
        if op.type in _PRODUCTS:
            origins = [self.of(source) for source in varying]
            return self._product(origins, op.type)
        if op.type in _PADS:
            return _separated(self.of(op.inputs[0]), reasons.PADDED, op.type)
        if op.type in _POOLS:
            return _separated(self.of(op.inputs[0]), reasons.POOLED, op.type)
        if op.type in _MOVES and varying:
            origins = [self.of(source) for source in varying]
            real = next((origin for origin in origins if not origin.sign), None)
            return real or _separated(origins[0], reasons.MOVED, op.type)
        return _REAL

    def before_identities(self, tensor: tf.Tensor) -> tf.Tensor:
        """The tensor of which this one is a mere copy."""
        while tensor.op.type in _TRANSPARENT:
            # IdentityN, from a custom gradient, has one input for each output.
            tensor = tensor.op.inputs[tensor.value_index]
        return tensor

    def _kind_of_sign(self, op: tf.Operation) -> str:
        inner = self.before_identities(op.inputs[0]).op
        if inner.type == "Relu":
            return reasons.ZERO_ONE
        if inner.type in ("Add", "AddV2"):
            summands = [self.before_identities(source) for source in inner.inputs]
            signs = [source for source in summands if source.op.type == "Sign"]
            if signs:
                return SIGN if any(map(self.is_constant, summands)) else reasons.TERNARY
        return reasons.TF_SIGN

    def _kind_of_select(self, op: tf.Operation) -> str:
        arms = [self.before_identities(arm) for arm in op.inputs[1:]]
        values = [tf.get_static_value(arm) for arm in arms]
        if all(value is not None for value in values):
            distinct = np.unique(np.concatenate([np.ravel(value) for value in values])).tolist()
            known = {(-1, 1): SIGN, (0, 1): reasons.ZERO_ONE}
            return known.get(tuple(distinct), reasons.WHERE if len(distinct) == 2 else "")
        return reasons.WHERE if all(map(_is_filled, arms)) else ""

    def _sum(self, origin: Origin) -> Origin:
        """The origin of the sum of a tensor and a constant."""
        if origin.sign == reasons.ZERO_ONE:
            return Origin(reasons.CAST)
        return origin if origin.sign in _MADE_OF_ARITHMETIC else _REAL

    def _product(self, origins: list[Origin], op_type: str) -> Origin:
        origin = next((origin for origin in origins if origin.sign), _REAL)
        if len(origins) == 1 and origin.sign in (reasons.ZERO_ONE, *_MADE_OF_ARITHMETIC):
            return origin
        return _separated(origin, reasons.SCALED, op_type)


def _separated(origin: Origin, code: str, between: str) -> Origin:
    if not origin.sign or origin.code:
        return origin
    return Origin(origin.sign, code, between)


def _is_filled(tensor: tf.Tensor) -> bool:
    """Whether it is one value everywhere, with a shape known only at run time."""
    op = tensor.op
    if op.type in ("Fill", "OnesLike", "ZerosLike", "Const"):
        return True
    return op.type in (*_SUMS, *_PRODUCTS, *_TRANSPARENT) and all(map(_is_filled, op.inputs))


def _dependents(sources: Sequence[tf.Tensor]) -> set[str]:
    """Names of the operators that compute from some tensors, their own included."""
    waiting = [source.op for source in sources]
    found = {op.name for op in waiting}
    while waiting:
        for output in waiting.pop().outputs:
            for reader in output.consumers():
                if reader.name not in found:
                    found.add(reader.name)
                    waiting.append(reader)
    return found


def nearest(tensor: tf.Tensor, is_wanted: Callable[[tf.Operation], bool]) -> tf.Operation | None:
    """The operator nearest before a tensor for which `is_wanted` is true, or None."""
    seen, waiting = {tensor.op.name}, [tensor.op]
    while waiting:
        op = waiting.pop(0)
        if is_wanted(op):
            return op
        for source in op.inputs:
            if source.op.name not in seen:
                seen.add(source.op.name)
                waiting.append(source.op)
    return None
