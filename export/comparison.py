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

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from bireal_keras import _keras_model, _layer_calls
from bireal_keras._keras import keras, tf
from bireal_keras.export import matching, probes
from bireal_keras.export.packing import unpack_signs
from bireal_keras.tflite.model import Graph

# What passes for rounding, as a share of a tensor's spread, its standard deviation. Given the same
# signs, rounding alone makes untrained networks of 18 and 50 layers at 32x32 differ by up to 1.1e-5
# of it.
TOLERANCE = 2e-4
# The same as a share of a tensor's largest value: the last digits of float32, where values hardly
# vary.
_ROUNDING = 1e-5
_BATCH = 8

# Besides LCE's signs, these operators make a jump of a small difference.
_JUMPS = {"SIGN", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "LceDequantize"}


@dataclass(frozen=True)
class Layer:
    """What came of comparing the input of a 1-bit layer, or the result of the model.

    Attributes:
        name: of the Keras layer, "output" for the result.
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
        layers: in the order in which Keras computes them, the result last.
        all_signs_told: whether Keras could be told all signs of the file. If not, because some
            are not inputs of a binary convolution, later differences can be harmless.
        outputs: (images, ...) what the file gives.
        close: (images,) bool: where the result agrees with that of Keras, told the signs.
        free_differences: (images,) the largest difference of each result, of the logits where it
            is probabilities, from that of Keras on its own.
    """

    layers: tuple[Layer, ...]
    all_signs_told: bool
    outputs: np.ndarray = field(repr=False)
    close: np.ndarray = field(repr=False)
    free_differences: np.ndarray = field(repr=False)

    @property
    def first_wrong(self) -> Layer | None:
        """The first layer whose difference is not one of rounding."""
        return next((layer for layer in self.layers if not layer.is_right), None)

    @property
    def tolerance(self) -> float:
        """Of the result."""
        return self.layers[-1].tolerance

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
    images: np.ndarray,
    runners: Sequence[Callable[[bytes], probes.Runner]],
    *,
    tolerance: float = TOLERANCE,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[np.ndarray, list[Comparison]]:
    """Compares a file, as each of several interpreters runs it, with Keras.

    Args:
        model: from float32 (batch, height, width, channels) to any float output.
        content: the file.
        images: float32 (images, height, width, channels).
        runners: `probes.run_on_lce`, `probes.run_on_runtime`.
        tolerance: what passes for rounding, as a share of a tensor's spread.
        progress: is told how many images are done.

    Returns:
        What Keras gives, (images, ...), and one comparison for each runner.

    Raises:
        ValueError: the file does not run, or is not a file of this model.
    """
    graph = Graph(content)
    convolutions = probes.binary_convolutions(graph)
    if len(graph.outputs) != 1:
        raise ValueError(f"The file must have one output. Received: {len(graph.outputs)}.")
    signed = _SignedModel(model)
    first_batch = signed.run(images[:_BATCH])
    pairs = _pair(first_batch.calls, convolutions)
    tensors = [*graph.outputs]
    for _, convolution in pairs.values():
        tensors += [convolution.signs] if convolution.signs not in tensors else []
        if convolution.real is not None and convolution.real not in tensors:
            tensors.append(convolution.real)
    probed = probes.with_outputs(content, tensors)
    run_file = [make(probed) for make in runners]

    names = _Names(model, signed.layers)
    all_signs_told = (
        len(pairs) == len(first_batch.calls)
        and len(pairs) == len(convolutions)
        and not any(operator.name in _JUMPS for operator in graph.operators)
    )
    expected = []
    tallies = [_Tally() for _ in runners]
    for start in range(0, len(images), _BATCH):
        batch = images[start : start + _BATCH]
        free = first_batch if start == 0 else signed.run(batch)
        expected.append(free.output)
        for run, tally in zip(run_file, tallies):
            values = dict(zip(tensors, run(batch)))
            signs = {
                call: unpack_signs(values[convolution.signs], convolution.input_shape[-1])
                for call, (_, convolution) in pairs.items()
            }
            told = signed.run(batch, signs)
            tally.outputs.append(values[graph.outputs[0]])
            tally.told_outputs.append(told.output)
            for call, (wrong_bits, convolution) in pairs.items():
                layer, inputs = told.calls[call]
                tally.layers.setdefault(call, _LayerTally(layer.name, wrong_bits)).add(
                    told=inputs,
                    free=free.calls[call].inputs,
                    negative=signs[call].reshape(inputs.shape),
                    real=None if convolution.real is None else values[convolution.real],
                )
        progress(min(start + _BATCH, len(images)))
    keras_outputs = np.concatenate(expected)
    comparisons = [
        tally.result(keras_outputs, names, tolerance, all_signs_told) for tally in tallies
    ]
    return keras_outputs, comparisons


class _Call(NamedTuple):
    layer: keras.layers.Layer
    inputs: np.ndarray


class _Run(NamedTuple):
    """What a Keras model gave, and the calls of its 1-bit layers in their order."""

    output: np.ndarray
    calls: list[_Call]


class _SignedModel:
    """A Keras model whose 1-bit layers can be told the signs of their inputs."""

    def __init__(self, model: keras.Model):
        self._model = model
        self.layers = [layer for layer in model.submodules if _keras_model.has_one_bit_input(layer)]

    def run(self, images: np.ndarray, signs: dict[int, np.ndarray] | None = None) -> _Run:
        """Runs the model.

        Args:
            images: float32 (n, height, width, channels).
            signs: True for -1, by number of the call; the other calls keep their own.
        """
        calls: list[_Call] = []
        told = signs or {}

        def intercept(layer: keras.layers.Layer, inputs: tf.Tensor) -> tf.Tensor:
            number = len(calls)
            calls.append(_Call(layer, inputs.numpy()))
            if number not in told:
                return inputs
            # The layer's quantizer leaves +-1 as they are.
            values = np.where(told[number], np.float32(-1), np.float32(1))
            return tf.constant(values.reshape(inputs.shape), inputs.dtype)

        # A GPU may round more coarsely. On its own a model runs eagerly, layer by layer.
        with _layer_calls.given(self.layers, intercept), tf.device("/CPU:0"):
            output = self._model(tf.constant(images), training=False).numpy()
        return _Run(output, calls)


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
        for number, (layer, inputs) in enumerate(calls)
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


class _LayerTally:
    """What is added up over images for one call of a 1-bit layer."""

    def __init__(self, name: str, wrong_bits: int):
        self._name, self._wrong_bits = name, wrong_bits
        self._difference = self._largest = 0.0
        self._sum = self._sum_of_squares = 0.0
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
        self._largest = float(np.max([self._largest, np.abs(told).max()]))
        self._sum += told.sum(dtype=np.float64)
        self._sum_of_squares += np.square(told, dtype=np.float64).sum()
        self._signs += told.size
        self._flips += int(flipped.sum())
        self._free_flips += int(((free < 0) != negative).sum())

    def result(self, names: "_Names", tolerance: float) -> Layer:
        mean = self._sum / self._signs
        spread = float(np.sqrt(max(0.0, self._sum_of_squares / self._signs - mean**2)))
        return Layer(
            name=self._name,
            computed_by=names.computed_by(self._name),
            difference=self._difference,
            spread=spread,
            tolerance=max(tolerance * spread, _ROUNDING * self._largest),
            signs=self._signs,
            flips=self._flips,
            free_flips=self._free_flips,
            wrong_bits=self._wrong_bits,
        )


class _Tally:
    """What is added up over images for one interpreter."""

    def __init__(self) -> None:
        self.outputs: list[np.ndarray] = []
        self.told_outputs: list[np.ndarray] = []
        self.layers: dict[int, _LayerTally] = {}

    def result(
        self, free: np.ndarray, names: "_Names", tolerance: float, all_signs_told: bool
    ) -> Comparison:
        outputs, told = np.concatenate(self.outputs), np.concatenate(self.told_outputs)
        expected, actual = _logits(told), _logits(outputs)
        differences = np.abs(actual - expected).max(axis=1)
        spread = float(expected.std(axis=0).mean())
        result = Layer(
            name="output",
            computed_by=names.computed_by(None),
            difference=float(differences.max()),
            spread=spread,
            tolerance=max(tolerance * spread, _ROUNDING * float(np.abs(expected).max())),
        )
        return Comparison(
            layers=(*(tally.result(names, tolerance) for tally in self.layers.values()), result),
            all_signs_told=all_signs_told,
            outputs=outputs,
            close=differences <= result.tolerance,
            free_differences=np.abs(actual - _logits(free)).max(axis=1),
        )


def _logits(outputs: np.ndarray) -> np.ndarray:
    """Rows of outputs, (samples, values), with softmax undone.

    Softmax hides differences: 1,000 probabilities of an untrained net all are 0.001, and
    those of a confident one all are 0 or 1.
    """
    rows = outputs.reshape(len(outputs), -1).astype(np.float64)
    if (rows >= 0).all() and np.allclose(rows.sum(axis=1), 1, atol=1e-3):
        rows = np.log(np.maximum(rows, 1e-30))
        rows -= rows.mean(axis=1, keepdims=True)
    return rows


class _Names:
    """Which layers of a flat model compute what is compared."""

    def __init__(self, model: keras.Model, signed: Sequence[keras.layers.Layer]):
        self._layers = {layer.name: layer for layer in model.layers}
        self._output = model.output._keras_history.layer
        # Their outputs are compared, as inputs of these.
        self._compared = {
            producer.name
            for layer in signed
            if layer.name in self._layers
            for producer in _producers(layer)
        }
        self._signed = {layer.name for layer in signed}

    def computed_by(self, name: str | None) -> tuple[str, ...]:
        """Names of the layers from those compared before to the input of the layer `name`.

        Args:
            name: of a 1-bit layer, None for the model's result.
        """
        if name is None:
            front = [self._output]
        elif name in self._layers:
            front = _producers(self._layers[name])
        else:
            return ()
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
