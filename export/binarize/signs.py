"""Which tensors are signs, whatever their sign is written as.

A tensor is described as

    constant + sum of a table of three values for each source + sum of coefficient * real tensor

where a source is a comparison of a real tensor with a threshold, and the table has what it adds
where the tensor is below, at and above the threshold. Sums and multiples of such forms are such
forms again, so what a straight-through estimator adds and subtracts cancels. Every elementwise
operator maps the tables of one source value by value, and operators that move values move the
source. SIGN or a comparison of anything else opens a source. So `tf.where(x >= 0, 1., -1.)`,
`2 * cast(x >= 0) - 1` and `sign(sign(x) + 0.1)` all have the table (-1, +1, +1) of one source,
and that is what makes a tensor a sign.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bireal_keras.export.binarize import elementwise, reasons
from bireal_keras.export.binarize.constants import Constants
from bireal_keras.export.binarize.graph import NONE, Graph, Operator
from bireal_keras.export.binarize.reasons import Reason

# A form of more terms, or a source that was moved more often, is not followed: it is not a sign
# that anybody writes, and would make work without end.
_MAX_TERMS = 8
_MAX_MOVES = 16
# They move values, or leave some out, and compute none.
_MOVES = ("EXPAND_DIMS", "RESHAPE", "SLICE", "SQUEEZE", "STRIDED_SLICE", "TRANSPOSE")
MAX_POOL = "MAX_POOL_2D"
_POOLS = (MAX_POOL, "AVERAGE_POOL_2D")
# Nothing negative comes out of these, or something else that makes the sign of 0 matter.
_ONE_SIDED = (
    *("ABS", "EXP", "LOGISTIC", "MAXIMUM", "MINIMUM", "RELU", "RELU6", "RELU_0_TO_1"),
    *("SOFTMAX", "SQRT", "SQUARE"),
)
# Through these a sign is looked for, to say what separates it from a layer. Most of them move
# values, too, but of several tensors or to several places, or pad, or are not followed.
_SEPARATING = (
    *_MOVES,
    *_POOLS,
    *("ADD", "DIV", "MEAN", "MUL", "SUB"),
    *("BATCH_TO_SPACE_ND", "BROADCAST_TO", "CONCATENATION", "DEPTH_TO_SPACE", "GATHER"),
    *("GATHER_ND", "MIRROR_PAD", "PACK", "PAD", "PADV2", "RESIZE_BILINEAR"),
    *("RESIZE_NEAREST_NEIGHBOR", "REVERSE_V2", "SPACE_TO_BATCH_ND", "SPACE_TO_DEPTH"),
    *("SPLIT", "SPLIT_V", "TILE", "UNPACK"),
)
_ZERO = np.float32(0)
_SIDES = np.array([-1, 0, 1], np.float32)
_LINEAR: dict[str, Callable[[Any, Any], Any]] = {
    "ADD": np.add,
    "DIV": np.divide,
    "MUL": np.multiply,
    "SUB": np.subtract,
}


@dataclass(frozen=True)
class Source:
    """A comparison: on which side of a threshold each value of a tensor is.

    Attributes:
        tensor: index of a float32 tensor.
        threshold: index of the tensor that it is compared with, None for zero.
        moves: operators that are applied to the result, one after the other.
    """

    tensor: int
    threshold: int | None = None
    moves: tuple[Operator, ...] = ()


@dataclass(frozen=True)
class Form:
    """What a tensor is made of; see the module.

    Attributes:
        constant: float32 or bool.
        tables: (3,) of the same type, by source.
        reals: coefficients by index of the tensor.
    """

    constant: Any = _ZERO
    tables: dict[Source, np.ndarray] = field(default_factory=dict)
    reals: dict[int, float] = field(default_factory=dict)

    @property
    def is_finite(self) -> bool:
        """Whether it takes a few values only, which one source decides on."""
        return not self.reals and len(self.tables) <= 1

    @property
    def source(self) -> Source | None:
        """Of a finite form that is not a constant."""
        return next(iter(self.tables)) if self.is_finite and self.tables else None

    @property
    def values(self) -> np.ndarray:
        """(3,) of a finite form: below, at and above the threshold."""
        return np.repeat(self.constant, 3) if self.source is None else self.tables[self.source]


@dataclass(frozen=True)
class Sign:
    """A tensor that is c - a or c + a, for one number c, which is mostly 0.

    Attributes:
        tensor: its index.
        source: what it is the sign of.
        strict: whether it is on the lower side at the threshold: `x > 0`, not `x >= 0`.
        amplitude: a, negative where it is c + a below the threshold.
        middle: c: 1/2 for values of 0 and 1.
        zero_is_guessed: whether it is 0 in the file, and counts as +1, at the threshold.
    """

    tensor: int
    source: Source
    strict: bool
    amplitude: np.float32
    middle: np.float32
    zero_is_guessed: bool

    @property
    def values(self) -> tuple[float, float]:
        """Below and above the threshold."""
        return float(self.middle - self.amplitude), float(self.middle + self.amplitude)

    @property
    def is_compared(self) -> bool:
        """Whether it takes an operator to compare; LceQuantize compares with `x >= 0` itself."""
        return self.strict or self.source.threshold is not None


def is_max_pool(operator: Operator) -> bool:
    """Whether an operator only takes maxima, as LceBMaxPool2d does."""
    return operator.name == MAX_POOL and not operator.activation


class Signs:
    """The forms of all tensors of a graph."""

    def __init__(self, graph: Graph, constants: Constants):
        self._graph = graph
        self._constants = constants
        self._producers = graph.producers()
        self._forms: dict[int, Form] = {}
        for operator in graph.operators:
            form = self._computed(operator)
            if form is not None and len(form.reals) + len(form.tables) <= _MAX_TERMS:
                self._forms[operator.outputs[0]] = form

    def sign(self, tensor: int, *, zero_is_one: bool) -> Sign | Reason | None:
        """The tensor as a sign, why it is none, or None if it is nothing like a sign.

        Args:
            tensor: its index.
            zero_is_one: whether 0 where a sign should be counts as +1, where that is plausible.
        """
        form = self._forms.get(tensor)
        if form is None or form.source is None or not self._graph.is_float(tensor):
            return None
        below, at, above = (float(value) for value in form.values)
        is_guessed = at == 0 and below == -above
        if below == above or not (at in (below, above) or is_guessed):
            return reasons.values([below, at, above])
        if is_guessed:
            reason = self._reason_against_zero(form.source)
            if reason is not None:
                return reason
            if not zero_is_one:
                return reasons.TF_SIGN
        amplitude, middle = np.float32((above - below) / 2), np.float32((above + below) / 2)
        sign = Sign(tensor, form.source, at == below, amplitude, middle, is_guessed)
        pools = [is_max_pool(move) for move in sign.source.moves]
        # There is no pool of the BOOLs that a comparison makes, only one of bits, which comes last.
        if sign.is_compared and pools != sorted(pools):
            return reasons.moved(MAX_POOL)
        return sign

    def separated(self, tensor: int) -> Reason | None:
        """What lies between the nearest sign and a tensor that is none; None if no sign is near."""
        seen, front = {tensor}, [tensor]
        for _ in range(_MAX_TERMS):
            following = []
            for index in front:
                producer = self._producers.get(index)
                if producer is None or producer.name not in _SEPARATING:
                    continue
                for source in producer.inputs:
                    form = self._forms.get(source)
                    if form is not None and form.source is not None:
                        is_scale = producer.name in _LINEAR
                        return reasons.SCALED if is_scale else reasons.moved(producer.name)
                    if source not in seen:
                        seen.add(source)
                        following.append(source)
            front = following[:_MAX_TERMS]
        return None

    def _reason_against_zero(self, source: Source) -> Reason | None:
        """Why 0 is more than a rare accident in what a sign is taken of."""
        form = self._forms.get(source.tensor)
        if form is not None and form.tables:
            return reasons.TERNARY
        tensor = source.tensor
        for _ in range(_MAX_TERMS):
            producer = self._producers.get(tensor)
            if producer is None:
                return None
            activation = elementwise.ACTIVATIONS.get(producer.activation)
            if producer.name in _ONE_SIDED or activation in _ONE_SIDED:
                return reasons.ZERO_ONE
            if producer.name not in (*_MOVES, *_POOLS) or producer.inputs[0] == NONE:
                return None
            tensor = producer.inputs[0]
        return None

    def _form(self, tensor: int) -> Form | None:
        """None for a constant of several values, or of another type."""
        if tensor in self._forms:
            return self._forms[tensor]
        if self._constants.get(tensor) is not None:
            scalar = self._constants.scalar(tensor)
            return Form(scalar) if isinstance(scalar, (np.float32, np.bool_)) else None
        return Form(reals={tensor: 1.0}) if self._graph.is_float(tensor) else None

    def _computed(self, operator: Operator) -> Form | None:
        """The form of what an operator computes; None where it is simply a real tensor."""
        count = elementwise.operands(operator)
        if count == 0 and operator.name not in (*_MOVES, MAX_POOL):
            return None
        operator.require(max(count, 1))
        if self._constants.get(operator.outputs[0]) is not None:
            return None
        if count == 0:
            return self._moved(operator)
        tensors = operator.inputs[:count]
        shape = self._graph.shape(operator.outputs[0])
        if any(
            self._constants.get(tensor) is None and self._graph.shape(tensor) != shape
            for tensor in tensors
        ):
            return None  # It is broadcast, so the values are not those of one place.
        forms = [self._form(tensor) for tensor in tensors]
        finite = [form for form in forms if form is not None and form.is_finite]
        if len(finite) == len(forms):
            form = self._mapped(operator, finite)
            if form is not None:
                return form
        if operator.name == "SIGN":
            is_float = self._graph.is_float(tensors[0])
            return Form(_ZERO, {Source(tensors[0]): np.sign(_SIDES)}) if is_float else None
        if operator.name in elementwise.COMPARISONS:
            return self._compared(operator, forms)
        return self._sum(operator, forms)

    def _moved(self, operator: Operator) -> Form | None:
        form = self._forms.get(operator.inputs[0])
        if form is None or form.source is None or len(form.source.moves) >= _MAX_MOVES:
            return None
        if operator.name == MAX_POOL and not (
            is_max_pool(operator) and form.values.dtype != bool and _is_rising(form.values)
        ):
            return None
        source = self._turned_back(form.source, operator)
        if source is None:
            source = replace(form.source, moves=(*form.source.moves, operator))
        return Form(form.constant, {source: form.values})

    def _turned_back(self, source: Source, operator: Operator) -> Source | None:
        """What is left of a source if the operator undoes a TRANSPOSE, or None.

        litert-torch selects with the channels first what was compared with the channels last, or
        compares so, too.
        """
        if source.moves:
            undone = self._is_undone(source.moves[-1], operator)
            return replace(source, moves=source.moves[:-1]) if undone else None
        producer = self._producers.get(source.tensor)
        is_one_number = source.threshold is None or self._graph.size(source.threshold) == 1
        if producer is None or not is_one_number or not self._is_undone(producer, operator):
            return None
        return replace(source, tensor=producer.inputs[0])

    def _is_undone(self, first: Operator, second: Operator) -> bool:
        """Whether these are two TRANSPOSEs, and values are where they were after both."""
        if not first.name == second.name == "TRANSPOSE":
            return False
        there, back = self._order(first), self._order(second)
        if there is None or back is None or len(there) != len(back):
            return False
        return [there[axis] for axis in back] == list(range(len(back)))

    def _order(self, operator: Operator) -> list[int] | None:
        """The order in which a TRANSPOSE puts the axes; None if it is computed, or damaged."""
        operator.require(2)
        order = self._constants.get(operator.inputs[1])
        if order is None or order.dtype.kind != "i":
            return None
        axes: list[int] = order.ravel().tolist()
        return axes if sorted(axes) == list(range(len(axes))) else None

    def _mapped(self, operator: Operator, forms: list[Form]) -> Form | None:
        """Of finite forms of one source: value by value."""
        sources = {form.source for form in forms} - {None}
        if len(sources) > 1:
            return None
        result = elementwise.evaluate(self._graph, operator, *(form.values for form in forms))
        if result is None or result.dtype not in (np.float32, np.bool_):
            return None
        [source] = sources or {None}
        if source is None or bool((result == result[0]).all()):
            return Form(result[0])
        return Form(result.dtype.type(0), {source: result})

    def _compared(self, operator: Operator, forms: list[Form | None]) -> Form | None:
        """A comparison of a real tensor with anything."""
        left, right = operator.inputs[:2]
        compare = elementwise.COMPARISONS[operator.name]
        if not (self._graph.is_float(left) and self._graph.is_float(right)):
            return None
        if self._constants.get(left) is None:
            tensor, threshold, table = left, right, compare(_SIDES, 0)
        else:
            tensor, threshold, table = right, left, compare(0, _SIDES)
        if self._constants.scalar(threshold) == 0:
            return Form(np.bool_(False), {Source(tensor): table})
        return Form(np.bool_(False), {Source(tensor, threshold): table})

    def _sum(self, operator: Operator, forms: list[Form | None]) -> Form | None:
        """Sums, and multiples by one number."""
        if operator.activation or None in forms:
            return None
        first, *others = (form for form in forms if form is not None)
        if any(np.asarray(form.constant).dtype == bool for form in (first, *others)):
            return None
        with np.errstate(all="ignore"):
            if operator.name == "NEG":
                return _combined(first, -1, first, 0)
            if operator.name in ("ADD", "SUB"):
                return _combined(first, 1, others[0], 1 if operator.name == "ADD" else -1)
            if operator.name == "MUL" and not (first.reals or first.tables):
                return _combined(others[0], first.constant, first, 0)
            if operator.name in ("MUL", "DIV") and not (others[0].reals or others[0].tables):
                factor = others[0].constant
                factor = np.float32(1) / factor if operator.name == "DIV" else factor
                return _combined(first, factor, first, 0)
        return None


def _is_rising(table: np.ndarray) -> bool:
    return bool((table[1:] >= table[:-1]).all())


def _combined(first: Form, factor: Any, second: Form, other: Any) -> Form:
    """factor * first + other * second, less what cancels."""
    factor, other = np.float32(factor), np.float32(other)
    constant = factor * first.constant + other * second.constant
    tables = {source: factor * table for source, table in first.tables.items()}
    reals = {tensor: float(factor) * value for tensor, value in first.reals.items()}
    if other:
        for source, table in second.tables.items():
            tables[source] = tables.get(source, np.zeros(3, np.float32)) + other * table
        for tensor, value in second.reals.items():
            reals[tensor] = reals.get(tensor, 0.0) + float(other) * value
    tables = {source: table for source, table in tables.items() if table.any()}
    reals = {tensor: value for tensor, value in reals.items() if value}
    if not reals and len(tables) == 1:
        # A finite form has its constant in the table.
        [(source, table)] = tables.items()
        return Form(_ZERO, {source: table + constant})
    return Form(constant, tables, reals)
