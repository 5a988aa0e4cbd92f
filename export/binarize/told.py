"""A binary file against the float file it was made of, sign by sign.

A 1-bit network is not continuous: where a value before a sign is within rounding of zero, two
correct programs may take it for different signs, and everything after it differs. So the float file
is told the signs of the binary one. Each sign in it becomes an input, and gets the bits that the
binary file computed for the same sample. What lies between two signs is continuous, and has to
agree up to rounding: every value before a sign, and every result. A sign that differs is harmless
where the value before it is within rounding of the threshold.

It needs no model but the file, so it works for every front end. It also checks what `signs` has
concluded: that the float file's own sign is -a or +a, on the side that its value is on. Weights of
exactly 0 that count as +1 in the binary file do so in the float file, too.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from ai_edge_litert import interpreter as litert
from ai_edge_litert import schema_py_generated as schema

from bireal_keras import runtime
from bireal_keras.export.binarize import Layer, PackedSign, Result
from bireal_keras.export.binarize.constants import Constants
from bireal_keras.export.binarize.graph import Graph, Operator
from bireal_keras.export.binarize.match import LAYERS
from bireal_keras.export.binarize.signs import Sign
from bireal_keras.tflite import model

# What passes for rounding, as a share of a tensor's standard deviation, and of its largest value.
TOLERANCE = 2e-4
ROUNDING = 1e-5
# Sums in float32 are multiples of 2^-23 of their largest term or of less. So for each that rounding
# makes exactly 0 about 2 * ROUNDING / 2^-23 = 168 come within ROUNDING of it. By chance they are
# fewer, and where terms are larger than sums.
_NEAR_FOR_A_ZERO = 4
# Their results hide the size of what they take, and with it the size of its rounding. A difference
# of what they take becomes at most twice as large.
_SQUASHING = frozenset({"SOFTMAX", "LOG_SOFTMAX", "LOGISTIC", "TANH"})
# By how much a sign may differ from -a and +a, as a share: (s - c) + c, PyTorch's way, rounds.
_AMPLITUDE = 1e-3

# From one array for each input of a file to one for each output, both in the file's order.
Runner = Callable[[Sequence[np.ndarray]], list[np.ndarray]]


@dataclass(frozen=True)
class Check:
    """What came of comparing the values before a sign, or a result.

    Attributes:
        name: of the tensor in the float file.
        difference: the largest one between the two files, or the largest value before a sign that
            differs.
        spread: standard deviation of the values.
        tolerance: the largest difference that passes for rounding.
        signs: how many signs were compared; 0 for a result.
        flips: how many of them differ.
        zeros: how many values are exactly 0 where the float file's sign is 0, too.
        near: how many are within rounding of 0 and are not 0.
        odd_signs: how many of the float file's own signs are not -a or +a, or are on the wrong
            side.
    """

    name: str
    difference: float
    spread: float
    tolerance: float
    signs: int = 0
    flips: int = 0
    zeros: int = 0
    near: int = 0
    odd_signs: int = 0

    @property
    def has_true_zeros(self) -> bool:
        """Whether values are exactly 0 for another reason than rounding.

        Where rounding makes a value 0, many more are within rounding of it. Each of those may turn
        its sign, which changes twice as much as a 0 that counts as +1: so few zeros are harmless.
        Those of a ReLU, of a dead channel or of a border come without such company.
        """
        return self.zeros * _NEAR_FOR_A_ZERO > self.near

    @property
    def is_right(self) -> bool:
        # Not `difference > tolerance`: NaN has to fail.
        is_close = self.difference <= self.tolerance
        return is_close and not self.has_true_zeros and not self.odd_signs


def check(
    content: bytes,
    result: Result,
    samples: Sequence[Sequence[np.ndarray]],
    *,
    run: Callable[[bytes], Runner] | None = None,
    tolerance: float = TOLERANCE,
) -> list[Check]:
    """Compares a binary file with the float file it was made of.

    Args:
        content: of the float file.
        result: what `binarize` made of it.
        samples: for each one an array for each input of the file, of the input's shape.
        run: runs the binary file; default on this project's runtime. The float file runs on LiteRT.
        tolerance: what passes for rounding, as a share of a tensor's standard deviation.

    Returns:
        For each sign that a binary layer reads, in the order of execution, then for each result,
        and then for what a softmax or its like makes a result of, whether the files agree.

    Raises:
        ValueError: one of the files does not run.
    """
    binary, graph = Graph(result.content), Graph(content)
    squashed = _return_squashed(graph, binary)
    outputs = len(binary.outputs)
    inner = [packed.bits for packed in result.signs]
    inner += [packed.real for packed in result.signs if packed.real is not None]
    inner = list(dict.fromkeys(inner))
    binary.outputs = (*binary.outputs, *inner)
    run_binary = (run or run_on_runtime)(binary.write()[0])

    _count_zeros(graph, result.layers)
    told = _Told(graph, result.signs)
    run_float = run_on_litert(told.content)

    tallies = [_Tally(graph.name(packed.sign.tensor)) for packed in result.signs]
    result_tallies = [_Tally(graph.name(tensor)) for tensor in told.results]
    for sample in samples:
        values = run_binary(sample)
        found = dict(zip(inner, values[outputs:]))
        bits = [_unpacked(found[packed.bits], told.shape(packed)) for packed in result.signs]
        expected = run_float([*sample, *told.inputs(bits)])
        for tally, value, right in zip(result_tallies, values, expected):
            tally.add(right, np.abs(value - right))
        for index, (packed, tally) in enumerate(zip(result.signs, tallies)):
            own = expected[told.places[packed.sign.tensor]]
            before = expected[told.before[index]]
            real = None if packed.real is None else found[packed.real].reshape(before.shape)
            tally.add_sign(packed, before, own, bits[index], real)
    for place, source in squashed.items():
        result_tallies[place].rounds_as(result_tallies[source])
    return [tally.check(tolerance) for tally in (*tallies, *result_tallies)]


def run_on_litert(content: bytes, delegates: Sequence[object] = ()) -> Runner:
    """Runs a file on LiteRT.

    Raises:
        ValueError: it does not run there.
    """
    try:
        interpreter = litert.Interpreter(
            model_content=content, experimental_delegates=list(delegates)
        )
        interpreter.allocate_tensors()
    except RuntimeError as error:
        raise ValueError(f"The file does not run on LiteRT: {error}") from error
    inputs = [details["index"] for details in interpreter.get_input_details()]
    outputs = [details["index"] for details in interpreter.get_output_details()]

    def run(values: Sequence[np.ndarray]) -> list[np.ndarray]:
        for index, value in zip(inputs, values, strict=True):
            interpreter.set_tensor(index, value)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in outputs]

    return run


def run_on_runtime(content: bytes) -> Runner:
    """Runs a file on LiteRT with this project's delegate."""
    return run_on_litert(content, [runtime.load_delegate()])


def before_squashing(operators: Iterable[Operator | model.Operator]) -> dict[int, int]:
    """By each tensor that a softmax or its like writes, the tensor that it is made of."""
    return {
        output: source
        for operator in operators
        if operator.name in _SQUASHING
        for output, source in zip(operator.outputs, operator.inputs)
    }


def _return_squashed(*graphs: Graph) -> dict[int, int]:
    """Makes files of the same results return what a softmax or its like makes those of, too.

    Returns:
        By the place of a result, the place of what it is made of.
    """
    taken = [before_squashing(graph.operators) for graph in graphs]
    places = {}
    for place, results in enumerate(zip(*(graph.outputs for graph in graphs))):
        if all(result in sources for sources, result in zip(taken, results)):
            places[place] = len(graphs[0].outputs)
            for graph, sources, result in zip(graphs, taken, results):
                graph.outputs = (*graph.outputs, sources[result])
    return places


def _count_zeros(graph: Graph, layers: Sequence[Layer]) -> None:
    """Gives the float file the weights of +a that the binary file has in place of a few zeros."""
    names = {layer.name for layer in layers if layer.zero_weights}
    if not names:
        return
    constants = Constants(graph)
    for operator in graph.operators:
        if operator.name not in LAYERS or graph.layer_name(operator) not in names:
            continue
        data, weights, *others = operator.inputs
        kernel = constants.get(weights)
        if kernel is not None:
            # A filter of zeros stays one.
            axes = tuple(range(1, kernel.ndim))
            magnitudes = np.abs(kernel).max(axis=axes, keepdims=True)
            counted = np.where(kernel == 0, magnitudes, kernel).astype(np.float32)
            new = graph.add_constant(f"{graph.name(weights)}/counted", counted)
            operator.inputs = (data, new, *others)


class _Told:
    """The float file with its signs as inputs.

    Attributes:
        content: of the file.
        results: the tensors that it returns by itself.
        places: by sign, where the file returns what it would have been.
        before: for each sign, where the file returns the values before it, less the threshold.
    """

    def __init__(self, graph: Graph, signs: Sequence[PackedSign]):
        self._graph = graph
        self.results = graph.outputs
        # A tensor may have been packed twice, for a convolution and for a dense layer.
        self._first = {packed.sign.tensor: index for index, packed in reversed([*enumerate(signs)])}
        told = {
            tensor: graph.add_tensor(f"{graph.name(tensor)}/told", graph.shape(tensor), np.float32)
            for tensor in self._first
        }
        self._signs = list(signs)
        for operator in graph.operators:
            operator.inputs = tuple(told.get(tensor, tensor) for tensor in operator.inputs)
        graph.inputs = (*graph.inputs, *told.values())
        outputs = [told.get(tensor, tensor) for tensor in graph.outputs]
        self.places, self.before = {}, []
        for packed in signs:
            self.places[packed.sign.tensor] = len(outputs)
            outputs.append(packed.sign.tensor)
        for packed in signs:
            self.before.append(len(outputs))
            outputs.append(self._value_before(packed))
        graph.outputs = tuple(outputs)
        self.content, _ = graph.write()

    def shape(self, packed: PackedSign) -> tuple[int, ...]:
        return self._graph.shape(packed.sign.tensor)

    def inputs(self, bits: Sequence[np.ndarray]) -> list[np.ndarray]:
        """What the file's additional inputs get, of the bits of each sign."""
        return [
            _values(self._signs[index].sign, bits[index]).astype(np.float32)
            for index in self._first.values()
        ]

    def _value_before(self, packed: PackedSign) -> int:
        graph, source = self._graph, packed.sign.source
        tensor = source.tensor
        if source.threshold is not None:
            new = graph.add_tensor(f"{graph.name(tensor)}/margin", graph.shape(tensor), np.float32)
            operands = [tensor, source.threshold]
            subtract = graph.new_builtin("SUB", operands, new, schema.SubOptionsT())
            graph.operators.append(subtract)
            tensor = new
        for move in source.moves:
            shape = graph.shape(move.outputs[0])
            new = graph.add_tensor(f"{graph.name(move.outputs[0])}/moved", shape, np.float32)
            moved = graph.with_tensors(move, (tensor, *move.inputs[1:]), (new,))
            graph.operators.append(moved)
            tensor = new
        return tensor


class _Tally:
    """Adds up what the samples show."""

    def __init__(self, name: str):
        self._name = name
        self._difference = 0.0
        self._largest = 0.0
        self._sums = np.zeros(3)
        self._signs = self._flips = self._zeros = self._near = self._odd_signs = 0

    def add(self, values: np.ndarray, differences: np.ndarray) -> None:
        values = values.astype(np.float64)
        self._sums += np.array([values.size, values.sum(), np.square(values).sum()])
        # `max` of Python would drop a NaN.
        self._difference = float(np.maximum(self._difference, np.max(differences, initial=0)))
        self._largest = float(np.maximum(self._largest, np.max(np.abs(values), initial=0)))

    def rounds_as(self, other: "_Tally") -> None:
        """Says that the values are made of others, which may be larger and round as such."""
        self._largest = float(np.maximum(self._largest, other._largest))

    def add_sign(
        self,
        packed: PackedSign,
        before: np.ndarray,
        own: np.ndarray,
        negative: np.ndarray,
        real: np.ndarray | None,
    ) -> None:
        """Of one sample.

        Args:
            packed: the sign.
            before: what the float file takes it of, less the threshold.
            own: what it makes of it.
            negative: what the binary file makes of it, True for -1.
            real: what the binary file takes it of, None where that is not known.
        """
        sign = packed.sign
        below = before <= 0 if sign.strict else before < 0
        unclear = (before == 0) & sign.zero_is_guessed
        is_odd = (
            ~(np.abs(own - _values(sign, below)) <= _AMPLITUDE * np.abs(sign.amplitude)) & ~unclear
        )
        flipped = negative != below
        differences = np.where(flipped, np.abs(before), 0)
        if real is not None:
            differences = np.maximum(differences, np.abs(real - before))
        self.add(before, differences)
        self._signs += before.size
        self._flips += int(np.count_nonzero(flipped))
        self._zeros += int(np.count_nonzero(unclear))
        sizes = np.abs(before)
        limit = ROUNDING * np.max(sizes, initial=0)
        self._near += int(np.count_nonzero((sizes > 0) & (sizes <= limit)))
        self._odd_signs += int(np.count_nonzero(is_odd))

    def check(self, tolerance: float) -> Check:
        count, total, squares = self._sums
        variance = squares / max(count, 1) - (total / max(count, 1)) ** 2
        spread = float(np.sqrt(np.maximum(variance, 0)))
        return Check(
            self._name,
            self._difference,
            spread,
            max(tolerance * spread, ROUNDING * self._largest),
            self._signs,
            self._flips,
            self._zeros,
            self._near,
            self._odd_signs,
        )


def _values(sign: Sign, negative: np.ndarray) -> np.ndarray:
    """What a sign gives, by whether it is below its threshold."""
    return np.where(negative, *sign.values)


def _unpacked(words: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Packed signs as bool of a shape, True for -1."""
    vectors = int(np.prod(words.shape[:-1]))
    octets = np.ascontiguousarray(words, "<i4").view(np.uint8)
    channels = int(np.prod(shape)) // vectors
    signs = np.unpackbits(octets, axis=-1, bitorder="little", count=channels)
    return signs.astype(bool).reshape(shape)
