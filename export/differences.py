"""By how much a file and Keras differ, added up over images, and what passes for rounding."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bireal_keras._keras import keras, tf
from bireal_keras.export import fake_quant
from bireal_keras.export.results import logits
from bireal_keras.export.told_keras import Quantized

# What passes for rounding, as a share of a tensor's spread, its standard deviation. Given the same
# signs, rounding alone makes untrained networks of 18 and 50 layers at 32x32 differ by up to 1.1e-5
# of it.
TOLERANCE = 2e-4
# The same as a share of a tensor's largest value: the last digits of float32, where values hardly
# vary.
_ROUNDING = 1e-5
# The most that passes for rounding in logarithms of probabilities, however large the values are
# that softmax makes them of: a hundredth of a probability.
_SOFTMAX_ROUNDING = 0.01
# The arithmetic of int8 in fixed point, as a share of a step, besides the half that is rounding.
_INT8_ROUNDING = 0.02


@dataclass(frozen=True)
class Layer:
    """What came of comparing the input of a 1-bit layer, or the result of the model.

    Attributes:
        name: of the Keras layer, "output" for the result, "output 0" and so on for several.
        computed_by: names of the Keras layers between the tensors compared before and this one,
            where the model is flat.
        difference: the largest absolute difference, given the same signs before.
        spread: standard deviation of the values; of the result, over images.
        tolerance: the largest difference that passes for rounding.
        signs: how many signs were compared; 0 for the result.
        flips: how many of them differ, given the same signs before.
        free_flips: how many differ from Keras on its own.
        wrong_bits: in how many weights the file's filters differ from Keras's.
    """

    name: str
    computed_by: tuple[str, ...]
    difference: float
    spread: float
    tolerance: float
    signs: int = 0
    flips: int = 0
    free_flips: int = 0
    wrong_bits: int = 0

    @property
    def is_right(self) -> bool:
        # It is not `difference > tolerance`, because NaN has to fail.
        return self.difference <= self.tolerance and not self.wrong_bits


@dataclass(frozen=True)
class Comparison:
    """A file, as one interpreter runs it, against Keras.

    Attributes:
        layers: in the order in which Keras computes them, the results last.
        all_signs_told: whether Keras could be told all signs of the file. If not, because some
            are not inputs of a binary convolution, later differences can be harmless.
        outputs: what the file gives, each (images, ...).
        close: (images,) bool: where the results agree with those of Keras, told the signs.
        free_differences: (outputs, images) the largest difference of each result, of the logits
            where it is probabilities, from that of Keras on its own.
    """

    layers: tuple[Layer, ...]
    all_signs_told: bool
    outputs: list[np.ndarray] = field(repr=False)
    close: np.ndarray = field(repr=False)
    free_differences: np.ndarray = field(repr=False)

    @property
    def first_wrong(self) -> Layer | None:
        """The first layer whose difference is not one of rounding."""
        return next((layer for layer in self.layers if not layer.is_right), None)

    @property
    def results(self) -> tuple[Layer, ...]:
        """What came of comparing the results."""
        return self.layers[-len(self.outputs) :]

    @property
    def freely_close(self) -> np.ndarray:
        """(images,) bool: where the results agree with those of Keras on its own."""
        tolerances = np.array([[result.tolerance] for result in self.results])
        return (self.free_differences <= tolerances).all(axis=0)

    @property
    def signs(self) -> int:
        return sum(layer.signs for layer in self.layers)

    @property
    def flips(self) -> int:
        return sum(layer.flips for layer in self.layers)

    @property
    def free_flips(self) -> int:
        return sum(layer.free_flips for layer in self.layers)


class Names:
    """Which layers of a flat model compute what is compared."""

    def __init__(self, model: keras.Model, signed: Sequence[keras.layers.Layer]):
        self._layers = {layer.name: layer for layer in model.layers}
        # A subclassed model has no graph to look into.
        self._outputs = [tensor._keras_history.layer for tensor in model.outputs or ()]
        # Their outputs are compared, as inputs of these.
        self._compared = {
            producer.name
            for layer in signed
            if layer.name in self._layers
            for producer in _producers(layer)
        }
        self._signed = {layer.name for layer in signed}

    def computed_by(self, name: str) -> tuple[str, ...]:
        """Names of the layers from those compared before to the input of the 1-bit layer `name`."""
        return self._between(_producers(self._layers[name]) if name in self._layers else [])

    def computed_by_output(self, number: int) -> tuple[str, ...]:
        """Names of the layers from those compared before to one of the results."""
        return self._between(self._outputs[number : number + 1])

    def _between(self, front: list[keras.layers.Layer]) -> tuple[str, ...]:
        found = {layer.name for layer in front}
        while front:
            layer = front.pop()
            if layer.name in self._signed:
                continue  # Its input was compared.
            for producer in _producers(layer):
                if producer.name not in self._compared | found:
                    found.add(producer.name)
                    front.append(producer)
        order = [layer_name for layer_name in self._layers if layer_name in found]
        return tuple(
            name for name in order if not isinstance(self._layers[name], keras.layers.InputLayer)
        )


def _producers(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    if not layer.inbound_nodes:
        return []
    return tf.nest.flatten(layer.inbound_nodes[0].inbound_layers)


def joined(batches: Sequence[list[np.ndarray]]) -> list[np.ndarray]:
    return [np.concatenate(arrays) for arrays in zip(*batches)]


class _Spread:
    """The standard deviation and the largest of many values."""

    def __init__(self) -> None:
        self._sum = self._sum_of_squares = 0.0
        self._count = 0
        self._largest = 0.0

    def add(self, values: np.ndarray) -> None:
        """Adds values."""
        self._count += values.size
        self._sum += values.sum(dtype=np.float64)
        self._sum_of_squares += np.square(values, dtype=np.float64).sum()
        # Unlike Python's, NumPy's maximum keeps a NaN.
        self._largest = float(np.max([self._largest, np.abs(values).max()]))

    @property
    def deviation(self) -> float:
        mean = self._sum / self._count
        return float(np.sqrt(max(0.0, self._sum_of_squares / self._count - mean**2)))

    def tolerance(self, share: float) -> float:
        """What passes for rounding."""
        return max(share * self.deviation, _ROUNDING * self._largest)


class Int8Tally:
    """What is added up over images for one call of fake quantization."""

    def __init__(self, tensor: fake_quant.Int8):
        self._tensor = tensor
        self._difference = self._half = 0.0
        self._spread = _Spread()

    def add(self, call: Quantized, actual: np.ndarray) -> None:
        """Adds a batch.

        Args:
            call: of Keras, told the file's signs and int8 values before.
            actual: the file's values.
        """
        half = self._half = call.step / 2
        # Half a step is what quantization is for; where it is more, the range has ended.
        is_inside = np.abs(call.outputs - call.inputs) <= half * (1 + 1e-3)
        values = np.where(is_inside, call.inputs, call.outputs)
        excess = np.abs(actual.reshape(values.shape) - values) - half
        self._difference = float(np.max([self._difference, np.max(excess)]))
        self._spread.add(values)

    def result(self, names: Names, tolerance: float) -> Layer:
        return Layer(
            name=f"int8 tensor {self._tensor.name}",
            computed_by=(),
            difference=self._difference,
            spread=self._spread.deviation,
            tolerance=(
                self._spread.tolerance(tolerance)
                + _INT8_ROUNDING * 2 * self._half
                + self._tensor.kernel_error
            ),
        )


class LayerTally:
    """What is added up over images for one call of a 1-bit layer."""

    def __init__(self, name: str, wrong_bits: int):
        self._name, self._wrong_bits = name, wrong_bits
        self._difference = 0.0
        self._spread = _Spread()
        self._signs = self._flips = self._free_flips = 0

    def add(
        self, *, told: np.ndarray, free: np.ndarray, negative: np.ndarray, real: np.ndarray | None
    ) -> None:
        """Adds a batch.

        Args:
            told: what Keras has before the sign, told the file's signs before.
            free: what it has on its own.
            negative: the file's signs, True for -1.
            real: what the file has before the sign, where it has such a tensor.
        """
        flipped = (told < 0) != negative
        # A sign that flipped may do so within rounding of zero.
        differences = [np.abs(told[flipped]).max(initial=0)]
        if real is not None:
            differences.append(np.abs(real.reshape(told.shape) - told).max())
        # Unlike Python's, NumPy's maximum keeps a NaN.
        self._difference = float(np.max([self._difference, *differences]))
        self._spread.add(told)
        self._signs += told.size
        self._flips += int(flipped.sum())
        self._free_flips += int(((free < 0) != negative).sum())

    def result(self, names: Names, tolerance: float) -> Layer:
        return Layer(
            name=self._name,
            computed_by=names.computed_by(self._name),
            difference=self._difference,
            spread=self._spread.deviation,
            tolerance=self._spread.tolerance(tolerance),
            signs=self._signs,
            flips=self._flips,
            free_flips=self._free_flips,
            wrong_bits=self._wrong_bits,
        )


class Tally:
    """What is added up over images for one interpreter."""

    def __init__(self) -> None:
        self.outputs: list[list[np.ndarray]] = []
        self.told_outputs: list[list[np.ndarray]] = []
        # Of each result, the largest value in the file that a softmax or its like makes it of.
        self.source_sizes: list[list[float]] = []
        # By the place of the call in Keras.
        self.layers: dict[int, LayerTally] = {}
        self.int8: dict[int, Int8Tally] = {}

    def result(
        self, free: list[np.ndarray], names: Names, tolerance: float, all_signs_told: bool
    ) -> Comparison:
        outputs, told = joined(self.outputs), joined(self.told_outputs)
        tallies: dict[int, LayerTally | Int8Tally] = {**self.layers, **self.int8}
        source_sizes = np.max(self.source_sizes, axis=0)
        results, close, free_differences = [], [], []
        for number, (expected, actual, alone) in enumerate(
            zip(map(logits, told), map(logits, outputs), map(logits, free))
        ):
            differences = np.abs(actual - expected).max(axis=1)
            spread = float(expected.std(axis=0).mean())
            # Softmax takes differences of values, which round as what they are.
            hidden = min(_ROUNDING * source_sizes[number], _SOFTMAX_ROUNDING)
            result = Layer(
                name="output" if len(outputs) == 1 else f"output {number}",
                computed_by=names.computed_by_output(number),
                difference=float(differences.max()),
                spread=spread,
                tolerance=max(
                    tolerance * spread, _ROUNDING * float(np.abs(expected).max()), hidden
                ),
            )
            results.append(result)
            close.append(differences <= result.tolerance)
            free_differences.append(np.abs(actual - alone).max(axis=1))
        return Comparison(
            layers=(
                *(tallies[place].result(names, tolerance) for place in sorted(tallies)),
                *results,
            ),
            all_signs_told=all_signs_told,
            outputs=outputs,
            close=np.all(close, axis=0),
            free_differences=np.stack(free_differences),
        )
