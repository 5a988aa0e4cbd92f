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

import numpy as np

from bireal_keras import _keras_model
from bireal_keras._keras import keras, tf
from bireal_keras.export import fake_quant, matching, probes
from bireal_keras.export import signature as signatures
from bireal_keras.export.binarize.told import before_squashing
from bireal_keras.export.differences import (
    TOLERANCE,
    Comparison,
    Int8Tally,
    LayerTally,
    Names,
    Tally,
    joined,
)
from bireal_keras.export.packing import unpack_signs
from bireal_keras.export.told_keras import Call, Quantized, SignedModel, Teller, Told
from bireal_keras.tflite.model import Graph

_BATCH = 8

# Besides LCE's signs, these operators make a jump of a small difference.
_JUMPS = {"SIGN", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "LceDequantize"}


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
    signed = SignedModel(model, signature)
    first_batch = signed.run([values[:size] for values in inputs])
    pairs = _pair(first_batch.calls, convolutions)
    int8 = fake_quant.rounded_tensors(graph)
    squashed = before_squashing(graph.operators)
    # What a softmax or its like makes each result of; where there is none, the result.
    sources = [squashed.get(index, index) for index in file_outputs]
    tensors = list(
        dict.fromkeys(
            [*file_outputs, *sources, *_looked_at(pairs), *(tensor.index for tensor in int8)]
        )
    )
    probed = probes.with_outputs(content, tensors)
    order = [file_inputs.index(index) for index in graph.inputs]
    run_file = [_RealRunner(graph, tensors, order, make(probed)) for make in runners]
    first_values = run_file[0]([values[:size] for values in inputs]) if int8 else {}
    quantized = _pair_quantized(first_batch.quantized, int8, first_values)

    names = Names(model, signed.layers)
    all_signs_told = (
        len(pairs) == len(first_batch.calls)
        and len(pairs) == len(convolutions)
        and len(quantized) == len(int8)
        and not any(operator.name in _JUMPS for operator in graph.operators)
    )
    expected = []
    tallies = [Tally() for _ in runners]
    count = len(inputs[0])
    for start in range(0, count, size):
        batch = [values[start : start + size] for values in inputs]
        free = first_batch if start == 0 else signed.run(batch)
        expected.append(free.outputs)
        teller = Teller(signed, batch)
        for run, tally in zip(run_file, tallies):
            values = run(batch)
            signs = {
                call: unpack_signs(values[convolution.signs], convolution.input_shape[-1])
                for call, (_, convolution) in pairs.items()
            }
            told = teller.run(
                Told(signs, {call: values[one.index] for call, one in quantized.items()})
            )
            tally.outputs.append([values[index] for index in file_outputs])
            tally.told_outputs.append(told.outputs)
            tally.source_sizes.append([np.abs(values[index]).max() for index in sources])
            for call, (wrong_bits, convolution) in pairs.items():
                layer, told_inputs, place = told.calls[call]
                tally.layers.setdefault(place, LayerTally(layer.name, wrong_bits)).add(
                    told=told_inputs,
                    free=free.calls[call].inputs,
                    negative=signs[call].reshape(told_inputs.shape),
                    real=None if convolution.real is None else values[convolution.real],
                )
            for call, one in quantized.items():
                given = told.quantized[call]
                tally.int8.setdefault(given.place, Int8Tally(one)).add(given, values[one.index])
        progress(min(start + size, count))
    keras_outputs = joined(expected)
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


def _pair(
    calls: list[Call], convolutions: list[probes.BinaryConvolution]
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
    calls: list[Quantized], tensors: list[fake_quant.Int8], values: dict[int, np.ndarray]
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
