"""Keras, told the signs of a file: what it gives then, and what it has before each sign.

The model runs on given images, but each call of a 1-bit layer gets the signs that the file's
convolution got in place of its own; fake quantization likewise gives what the file has.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bireal_keras import _keras_model, _layer_calls
from bireal_keras._keras import keras, tf
from bireal_keras.export import fake_quant
from bireal_keras.export.signature import Signature


class Call(NamedTuple):
    """A call of a 1-bit layer; its place among all calls, of fake quantization, too.

    `inputs` have their channels last, whatever the layer's data format.
    """

    layer: keras.layers.Layer
    inputs: np.ndarray
    place: int


class Quantized(NamedTuple):
    """A call of fake quantization: what it takes and gives, the step between two values."""

    inputs: np.ndarray
    outputs: np.ndarray
    step: float
    place: int


class Run(NamedTuple):
    """What a Keras model gave, and its calls of 1-bit layers and fake quantization in order."""

    outputs: list[np.ndarray]
    calls: list[Call]
    quantized: list[Quantized]


class Told(NamedTuple):
    """What Keras is told of a batch: signs, True for -1, and int8 values by number of the call."""

    signs: dict[int, np.ndarray]
    quantized: dict[int, np.ndarray]

    def of(self, chosen: np.ndarray) -> "Told":
        """The same of some images, (images,) bool."""
        return Told(
            *(
                {call: values.reshape(len(chosen), -1)[chosen] for call, values in told.items()}
                for told in self
            )
        )

    def differs(self, other: "Told", images: int) -> np.ndarray:
        """(images,) bool: for which of them."""
        found = np.zeros(images, bool)
        for mine, theirs in zip(self, other):
            for call, values in mine.items():
                found |= (values != theirs[call]).reshape(images, -1).any(axis=1)
        return found


class SignedModel:
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
    ) -> Run:
        """Runs the model.

        Args:
            inputs: what its inputs get, each float32 (n, ...).
            signs: True for -1, by number of the call; the other calls keep their own.
            quantized: what fake quantization gives, float32, by number of the call; likewise.
        """
        calls: list[Call] = []
        quantizations: list[Quantized] = []
        told, told_quantized = signs or {}, quantized or {}

        def intercept(layer: keras.layers.Layer, inputs: tf.Tensor) -> tf.Tensor:
            number = len(calls)
            # The file packs the last axis, which is channels.
            channels_last = np.moveaxis(inputs.numpy(), _channel_axis(layer), -1)
            calls.append(Call(layer, channels_last, len(calls) + len(quantizations)))
            if number not in told:
                return inputs
            # The layer's quantizer leaves +-1 as they are.
            values = np.where(told[number], np.float32(-1), np.float32(1))
            values = np.moveaxis(values.reshape(channels_last.shape), -1, _channel_axis(layer))
            return tf.constant(values, inputs.dtype)

        def quantize(values: np.ndarray, outputs: np.ndarray, step: float) -> np.ndarray:
            number, place = len(quantizations), len(calls) + len(quantizations)
            quantizations.append(Quantized(values, outputs, step, place))
            return told_quantized.get(number, outputs)

        # A GPU may round more coarsely. On its own a model runs eagerly, layer by layer.
        with (
            _layer_calls.given(self.layers, intercept),
            fake_quant.intercepted(self._layers, quantize),
            tf.device("/CPU:0"),
        ):
            outputs = self._signature.call(self._model, inputs)
        return Run(outputs, calls, quantizations)


class Teller:
    """Keras on one batch, told what one interpreter after the other has computed.

    Two interpreters differ in a sign on few images, and Keras takes longer than both: it runs
    again for those images only.
    """

    def __init__(self, signed: SignedModel, batch: Sequence[np.ndarray]):
        self._signed, self._batch = signed, batch
        self._first: tuple[Told, Run] | None = None

    def run(self, telling: Told) -> Run:
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
        return Run(outputs, calls, quantized)


def _with_images(values: np.ndarray, chosen: np.ndarray, given: np.ndarray) -> np.ndarray:
    """A copy of a batch's values with those of some images, (images,) bool, as given."""
    result = values.copy()
    result.reshape(len(chosen), -1)[chosen] = given.reshape(chosen.sum(), -1)
    return result


def _channel_axis(layer: keras.layers.Layer) -> int:
    return 1 if getattr(layer, "data_format", "") == "channels_first" else -1
