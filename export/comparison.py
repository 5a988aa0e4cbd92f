"""A file against the Keras model it comes from, tensor by tensor, sign by sign.

A 1-bit network is not continuous. Where an activation before a sign is within rounding of
zero, two correct programs may round it to different sides, and the flipped sign changes everything
after it. So the results of a right file may be far from Keras's, and comparing them proves little.

Here Keras is told the file's signs. The model runs on the same images, but each of its 1-bit layers
gets the signs that the file's convolution got in place of its own. What lies between two signs is
continuous, so now every value before a sign, and the result, has to agree up to rounding, on
every image. A flip is harmless if the value before it is within rounding of zero.

If all of that holds, then for each of these images every sign of the file is what Keras makes of
the signs before it, or was undecided, and its result is what Keras makes of its signs. What
computes something else, however little it shows in the results, is found in the first tensor
after it. What no image exercises is not found.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from bireal_keras import _keras_model, _layer_calls
from bireal_keras._keras import keras, tf
from bireal_keras.export import fake_quant, matching, probes
from bireal_keras.export import signature as signatures
from bireal_keras.export.packing import unpack_signs
from bireal_keras.export.results import logits
from bireal_keras.export.signature import Signature
from bireal_keras.tflite.model import Graph

# What passes for rounding, as a share of a tensor's spread, its standard deviation. Given the same
# signs, rounding alone makes untrained networks of 18 and 50 layers at 32x32 differ by up to 1.1e-5
# of it.
TOLERANCE = 2e-4
# The same as a share of a tensor's largest value: the last digits of float32, where values hardly
# vary.
_ROUNDING = 1e-5
# The arithmetic of int8 in fixed point, as a share of a step, besides the half that is rounding.
_INT8_ROUNDING = 0.02
_BATCH = 8

# Besides LCE's signs, these operators make a jump of a small difference.
_JUMPS = {"SIGN", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "LceDequantize"}


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


def compare(
    model: keras.Model,
    content: bytes,
    inputs: Sequence[np.ndarray],
    runners: Sequence[Callable[[bytes], probes.Runner]],
    *,
    tolerance: float = TOLERANCE,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[list[np.ndarray], list[Comparison]]:
    """Compares a file, as each of several interpreters runs it, with Keras.

    Args:
        model: from float32 tensors to any float tensors.
        content: the file.
        inputs: what the model's inputs get, each float32 (images, ...); their number is a multiple
            of what the model takes at a time.
        runners: `probes.run_on_lce`, `probes.run_on_runtime`.
        tolerance: what passes for rounding, as a share of a tensor's spread.
        progress: is told how many images are done.

    Returns:
        What Keras gives, each (images, ...), and one comparison for each runner.

    Raises:
        ValueError: the file does not run, or is not a file of this model.
    """
    signature, graph = signatures.of(model), Graph(content)
    convolutions = probes.binary_convolutions(graph)
    file_inputs, file_outputs = signature.tensors_of(graph)
    size = signature.batch or _BATCH
    signed = _SignedModel(model, signature)
    first_batch = signed.run([values[:size] for values in inputs])
    pairs = _pair(first_batch.calls, convolutions)
    int8 = fake_quant.rounded_tensors(graph)
    tensors = list(
        dict.fromkeys([*file_outputs, *_looked_at(pairs), *(tensor.index for tensor in int8)])
    )
    probed = probes.with_outputs(content, tensors)
    order = [file_inputs.index(index) for index in graph.inputs]
    run_file = [_RealRunner(graph, tensors, order, make(probed)) for make in runners]
    first_values = run_file[0]([values[:size] for values in inputs]) if int8 else {}
    quantized = _pair_quantized(first_batch.quantized, int8, first_values)

    names = _Names(model, signed.layers)
    all_signs_told = (
        len(pairs) == len(first_batch.calls)
        and len(pairs) == len(convolutions)
        and len(quantized) == len(int8)
        and not any(operator.name in _JUMPS for operator in graph.operators)
    )
    expected = []
    tallies = [_Tally() for _ in runners]
    count = len(inputs[0])
    for start in range(0, count, size):
        batch = [values[start : start + size] for values in inputs]
        free = first_batch if start == 0 else signed.run(batch)
        expected.append(free.outputs)
        teller = _Teller(signed, batch)
        for run, tally in zip(run_file, tallies):
            values = run(batch)
            signs = {
                call: unpack_signs(values[convolution.signs], convolution.input_shape[-1])
                for call, (_, convolution) in pairs.items()
            }
            told = teller.run(
                _Told(signs, {call: values[one.index] for call, one in quantized.items()})
            )
            tally.outputs.append([values[index] for index in file_outputs])
            tally.told_outputs.append(told.outputs)
            for call, (wrong_bits, convolution) in pairs.items():
                layer, told_inputs, place = told.calls[call]
                tally.layers.setdefault(place, _LayerTally(layer.name, wrong_bits)).add(
                    told=told_inputs,
                    free=free.calls[call].inputs,
                    negative=signs[call].reshape(told_inputs.shape),
                    real=None if convolution.real is None else values[convolution.real],
                )
            for call, one in quantized.items():
                given = told.quantized[call]
                tally.int8.setdefault(given.place, _Int8Tally(one)).add(given, values[one.index])
        progress(min(start + size, count))
    keras_outputs = _joined(expected)
    comparisons = [
        tally.result(keras_outputs, names, tolerance, all_signs_told) for tally in tallies
    ]
    return keras_outputs, comparisons


def _looked_at(pairs: dict[int, tuple[int, probes.BinaryConvolution]]) -> Iterator[int]:
    """Numbers of the tensors of a file that are compared."""
    for _, convolution in pairs.values():
        yield convolution.signs
        if convolution.real is not None:
            yield convolution.real


def _joined(batches: Sequence[list[np.ndarray]]) -> list[np.ndarray]:
    return [np.concatenate(arrays) for arrays in zip(*batches)]


class _RealRunner:
    """An interpreter with the inner tensors of a file, int8 as what it stands for."""

    def __init__(
        self, graph: Graph, tensors: list[int], order: list[int], run: probes.Runner
    ) -> None:
        self._int8 = {index: fake_quant.Int8.of(index, graph.tensors[index]) for index in tensors}
        self._order, self._run = order, run

    def __call__(self, inputs: Sequence[np.ndarray]) -> dict[int, np.ndarray]:
        """The tensors' values by their numbers, for inputs in Keras's order."""
        outputs = self._run([inputs[position] for position in self._order])
        return {
            index: values if int8 is None else int8.real(values)
            for (index, int8), values in zip(self._int8.items(), outputs)
        }


class _Call(NamedTuple):
    """A call of a 1-bit layer; its place among all calls, of fake quantization, too.

    `inputs` have their channels last, whatever the layer's data format.
    """

    layer: keras.layers.Layer
    inputs: np.ndarray
    place: int


class _Quantized(NamedTuple):
    """A call of fake quantization: what it takes and gives, the step between two values."""

    inputs: np.ndarray
    outputs: np.ndarray
    step: float
    place: int


class _Run(NamedTuple):
    """What a Keras model gave, and its calls of 1-bit layers and fake quantization in order."""

    outputs: list[np.ndarray]
    calls: list[_Call]
    quantized: list[_Quantized]


class _Told(NamedTuple):
    """What Keras is told of a batch: signs, True for -1, and int8 values by number of the call."""

    signs: dict[int, np.ndarray]
    quantized: dict[int, np.ndarray]

    def of(self, chosen: np.ndarray) -> "_Told":
        """The same of some images, (images,) bool."""
        return _Told(
            *(
                {call: values.reshape(len(chosen), -1)[chosen] for call, values in told.items()}
                for told in self
            )
        )

    def differs(self, other: "_Told", images: int) -> np.ndarray:
        """(images,) bool: for which of them."""
        found = np.zeros(images, bool)
        for mine, theirs in zip(self, other):
            for call, values in mine.items():
                found |= (values != theirs[call]).reshape(images, -1).any(axis=1)
        return found


class _SignedModel:
    """A Keras model that can be told signs of 1-bit layers, and what fake quantization gives."""

    def __init__(self, model: keras.Model, signature: Signature):
        self._model, self._signature = model, signature
        self._layers = _layer_calls.layers_of(model)
        self.layers = [layer for layer in self._layers if _keras_model.has_one_bit_input(layer)]

    @property
    def fixes_batch(self) -> bool:
        return self._signature.batch is not None

    def run(
        self,
        inputs: Sequence[np.ndarray],
        signs: dict[int, np.ndarray] | None = None,
        quantized: dict[int, np.ndarray] | None = None,
    ) -> _Run:
        """Runs the model.

        Args:
            inputs: what its inputs get, each float32 (n, ...).
            signs: True for -1, by number of the call; the other calls keep their own.
            quantized: what fake quantization gives, float32, by number of the call; likewise.
        """
        calls: list[_Call] = []
        quantizations: list[_Quantized] = []
        told, told_quantized = signs or {}, quantized or {}

        def intercept(layer: keras.layers.Layer, inputs: tf.Tensor) -> tf.Tensor:
            number = len(calls)
            # The file packs the last axis, which is channels.
            channels_last = np.moveaxis(inputs.numpy(), _channel_axis(layer), -1)
            calls.append(_Call(layer, channels_last, len(calls) + len(quantizations)))
            if number not in told:
                return inputs
            # The layer's quantizer leaves +-1 as they are.
            values = np.where(told[number], np.float32(-1), np.float32(1))
            values = np.moveaxis(values.reshape(channels_last.shape), -1, _channel_axis(layer))
            return tf.constant(values, inputs.dtype)

        def quantize(values: np.ndarray, outputs: np.ndarray, step: float) -> np.ndarray:
            number, place = len(quantizations), len(calls) + len(quantizations)
            quantizations.append(_Quantized(values, outputs, step, place))
            return told_quantized.get(number, outputs)

        # A GPU may round more coarsely. On its own a model runs eagerly, layer by layer.
        with (
            _layer_calls.given(self.layers, intercept),
            fake_quant.intercepted(self._layers, quantize),
            tf.device("/CPU:0"),
        ):
            outputs = self._signature.call(self._model, inputs)
        return _Run(outputs, calls, quantizations)


class _Teller:
    """Keras on one batch, told what one interpreter after the other has computed.

    Two interpreters differ in a sign on few images, and Keras takes longer than both: it runs
    again for those images only.
    """

    def __init__(self, signed: _SignedModel, batch: Sequence[np.ndarray]):
        self._signed, self._batch = signed, batch
        self._first: tuple[_Told, _Run] | None = None

    def run(self, telling: _Told) -> _Run:
        """What Keras gives; of its calls those that were told."""
        if self._first is None:
            self._first = telling, self._signed.run(self._batch, *telling)
            return self._first[1]
        told, run = self._first
        again = telling.differs(told, len(self._batch[0]))
        if not again.any():
            return run
        if self._signed.fixes_batch:
            return self._signed.run(self._batch, *telling)
        some = self._signed.run([values[again] for values in self._batch], *telling.of(again))
        calls, quantized = list(run.calls), list(run.quantized)
        for call in telling.signs:
            inputs = _with_images(calls[call].inputs, again, some.calls[call].inputs)
            calls[call] = calls[call]._replace(inputs=inputs)
        for call in telling.quantized:
            before, after = quantized[call], some.quantized[call]
            quantized[call] = before._replace(
                inputs=_with_images(before.inputs, again, after.inputs),
                outputs=_with_images(before.outputs, again, after.outputs),
            )
        outputs = [
            _with_images(values, again, given) for values, given in zip(run.outputs, some.outputs)
        ]
        return _Run(outputs, calls, quantized)


def _with_images(values: np.ndarray, chosen: np.ndarray, given: np.ndarray) -> np.ndarray:
    """A copy of a batch's values with those of some images, (images,) bool, as given."""
    result = values.copy()
    result.reshape(len(chosen), -1)[chosen] = given.reshape(chosen.sum(), -1)
    return result


def _channel_axis(layer: keras.layers.Layer) -> int:
    return 1 if getattr(layer, "data_format", "") == "channels_first" else -1


def _pair(
    calls: list[_Call], convolutions: list[probes.BinaryConvolution]
) -> dict[int, tuple[int, probes.BinaryConvolution]]:
    """For each call of a 1-bit layer the convolution it became.

    Where each layer became one, a filter may differ: that is an error to be found. Where some
    layers stayed float, or some signs are not a quantizer's, filters that are not the same may be
    those of strangers.

    Returns:
        By number of the call: how many bits differ, and the convolution.
    """
    numbers = [
        number
        for number, (layer, inputs, _) in enumerate(calls)
        if _keras_model.has_one_bit_kernel(layer) and _takes_signs(layer, inputs)
    ]
    kernels = {id(layer): matching.Kernel.of(layer) for layer in (calls[n].layer for n in numbers)}
    found = matching.match(
        [kernels[id(calls[number].layer)] for number in numbers],
        convolutions,
        may_differ=len(calls) == len(convolutions),
        can_be=lambda position, index: (
            calls[numbers[position]].inputs[0].size == np.prod(convolutions[index].input_shape)
        ),
    )
    return {
        numbers[position]: (bits, convolutions[index]) for position, (index, bits) in found.items()
    }


def _takes_signs(layer: keras.layers.Layer, inputs: np.ndarray) -> bool:
    """Whether a layer takes the signs of its inputs, as they are."""
    sign = np.where(inputs >= 0, 1, -1)
    return np.array_equal(layer.input_quantizer(tf.constant(inputs)).numpy(), sign)


def _pair_quantized(
    calls: list[_Quantized], tensors: list[fake_quant.Int8], values: dict[int, np.ndarray]
) -> dict[int, fake_quant.Int8]:
    """For each call of fake quantization the int8 tensor it became, by number of the call.

    Those of one size belong together, of the same step if there are any, and with the nearest
    values: where signs flip, values differ, but not as those of strangers. Fake quantization of a
    kernel became no such tensor.
    """
    candidates = []
    for number, call in enumerate(calls):
        for position, tensor in enumerate(tensors):
            actual = values[tensor.index]
            if actual.size == call.outputs.size:
                has_another_step = not np.isclose(call.step, tensor.step, rtol=1e-4)
                distance = np.abs(actual.reshape(call.outputs.shape) - call.outputs).mean()
                candidates.append((has_another_step, float(distance), number, position))
    found: dict[int, fake_quant.Int8] = {}
    taken = set()
    for _, _, number, position in sorted(candidates):
        if number not in found and position not in taken:
            found[number] = tensors[position]
            taken.add(position)
    return dict(sorted(found.items()))


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


class _Int8Tally:
    """What is added up over images for one call of fake quantization."""

    def __init__(self, tensor: fake_quant.Int8):
        self._tensor = tensor
        self._difference = self._half = 0.0
        self._spread = _Spread()

    def add(self, call: _Quantized, actual: np.ndarray) -> None:
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

    def result(self, names: "_Names", tolerance: float) -> Layer:
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


class _LayerTally:
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

    def result(self, names: "_Names", tolerance: float) -> Layer:
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


class _Tally:
    """What is added up over images for one interpreter."""

    def __init__(self) -> None:
        self.outputs: list[list[np.ndarray]] = []
        self.told_outputs: list[list[np.ndarray]] = []
        # By the place of the call in Keras.
        self.layers: dict[int, _LayerTally] = {}
        self.int8: dict[int, _Int8Tally] = {}

    def result(
        self, free: list[np.ndarray], names: "_Names", tolerance: float, all_signs_told: bool
    ) -> Comparison:
        outputs, told = _joined(self.outputs), _joined(self.told_outputs)
        tallies: dict[int, _LayerTally | _Int8Tally] = {**self.layers, **self.int8}
        results, close, free_differences = [], [], []
        for number, (expected, actual, alone) in enumerate(
            zip(map(logits, told), map(logits, outputs), map(logits, free))
        ):
            differences = np.abs(actual - expected).max(axis=1)
            spread = float(expected.std(axis=0).mean())
            result = Layer(
                name="output" if len(outputs) == 1 else f"output {number}",
                computed_by=names.computed_by_output(number),
                difference=float(differences.max()),
                spread=spread,
                tolerance=max(tolerance * spread, _ROUNDING * float(np.abs(expected).max())),
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


class _Names:
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
