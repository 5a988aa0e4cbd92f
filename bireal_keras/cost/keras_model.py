"""What a Keras or Larq model costs."""

from collections import Counter
from collections.abc import Iterator, Sequence
from math import prod
from numbers import Integral
from typing import Any

from bireal_keras import _keras_model, _layer_calls
from bireal_keras._keras import keras, lq, tf
from bireal_keras.cost.report import (
    FLOAT_BITS,
    MULTIPLIED_AS_REALS,
    NEVER_CALLED,
    UNKNOWN_KIND,
    Cost,
    LayerCost,
)

# Layers that apply the whole of their kernels at every position of their output ...
_CONVOLUTIONS = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Dense,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
)
# ... and, though Keras derives them from those, at every position of their input.
_TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)
# Attributes that hold a kernel. A separable convolution has the last two, in this order.
_KERNELS = ("kernel", "depthwise_kernel", "pointwise_kernel")
_STATISTICS = ("moving_mean", "moving_variance")
# Their weights may have several axes, and are not factors of a matrix multiplication.
_ELEMENTWISE = (keras.layers.LayerNormalization, keras.layers.PReLU)


def of_model(model: keras.Model, *, input_shape: Sequence[int] | None = None) -> Cost:
    """Counts the multiplications and the weights of a model, for one input.

    The model runs once, eagerly, on an input of zeros. So it may be made of anything, models
    inside models and layers that are called twice included. What a layer with weights
    multiplies is known for convolutions, plain, grouped, depthwise, separable or transposed,
    and for Dense. Of any other layer the weights are counted, and a note says so if they may be
    more than factors of single values.

    Weights take as many bits as their Larq quantizer has `precision`, without one 32. An
    activation is 1-bit where the layer has a 1-bit `input_quantizer`, or takes the output of a
    1-bit quantizer.

    Args:
        model: of legacy Keras, built.
        input_shape: (height, width, channels), where the model does not know it.

    Returns:
        One entry for each layer that has weights, in the order in which they are called.

    Raises:
        ValueError: it is not a model of legacy Keras, or the shape of its input is unknown, or
            the one that is given is none.
    """
    if not isinstance(model, keras.Model):
        kind = type(model)
        raise ValueError(
            "`model` must be a model of legacy Keras, tf_keras. "
            f"Received: {kind.__module__}.{kind.__name__}."
        )
    watch = _Watch()
    inputs = _zeros(model, input_shape)
    layers = _layer_calls.layers_of(model)
    with _layer_calls.watched(layers, watch.on_call):
        model(inputs)
    called = list(watch.called.values())
    seen: set[int] = set()
    costs = [_cost(layer, watch, seen) for layer in called]
    uncalled = [layer for layer in layers if id(layer) not in watch.called]
    costs += [_cost(layer, watch, seen, note=NEVER_CALLED) for layer in uncalled]
    return Cost(model.name, tuple(cost for cost in costs if cost.memory_bits or cost.float_flops))


def _zeros(model: keras.Model, input_shape: Sequence[int] | None) -> Any:
    """One input of zeros."""
    if input_shape is not None:
        # Keras itself says what does not fit the layers: many models take other sizes, too.
        taken = [tuple(tensor.shape[1:]) for tensor in model.inputs or ()]
        are_sizes = all(isinstance(size, Integral) and size > 0 for size in input_shape)
        if not are_sizes or any(len(shape) != len(input_shape) for shape in taken):
            raise ValueError(
                "`input_shape` must be whole numbers from 1, as many as those of "
                f"{', '.join(map(str, taken)) or 'the input'}. Received: {tuple(input_shape)}."
            )
        return tf.zeros((1, *input_shape))
    if not model.inputs or any(None in tensor.shape[1:] for tensor in model.inputs):
        raise ValueError(
            "`input_shape` is needed for a model that does not know the size of its input. "
            f"Received: {model.name} with {[tuple(t.shape) for t in model.inputs or ()]}."
        )
    zeros = [tf.zeros((1, *tensor.shape[1:]), tensor.dtype) for tensor in model.inputs]
    return zeros[0] if len(zeros) == 1 else zeros


class _Watch:
    """What a forward pass shows.

    Attributes:
        called: the layers by id, in the order of their first calls.
        binary_macs, real_macs: by id of the layer.
        mixed: ids of the layers that multiply 1-bit values by reals.
    """

    def __init__(self) -> None:
        self.called: dict[int, keras.layers.Layer] = {}
        self.binary_macs: Counter[int] = Counter()
        self.real_macs: Counter[int] = Counter()
        self.mixed: set[int] = set()
        # They are kept, so that no other tensor gets the id.
        self._one_bit: dict[int, tf.Tensor] = {}

    def on_call(self, layer: keras.layers.Layer, inputs: Any, outputs: Any) -> None:
        self.called.setdefault(id(layer), layer)
        if isinstance(layer, lq.quantizers.Quantizer) and _keras_model.is_one_bit(layer):
            self._one_bit[id(outputs)] = outputs
        one_bit = _keras_model.has_one_bit_input(layer) or id(inputs) in self._one_bit
        for kernel in _kernels(layer):
            macs = _positions(layer, inputs, outputs) * prod(kernel.shape)
            if one_bit and _bits(kernel) == 1:
                self.binary_macs[id(layer)] += macs
            else:
                self.real_macs[id(layer)] += macs
                if one_bit or _bits(kernel) == 1:
                    self.mixed.add(id(layer))
            # What the depthwise half of a separable convolution gives to the pointwise half.
            one_bit = False


def _kernels(layer: keras.layers.Layer) -> list[tf.Variable]:
    if not isinstance(layer, _CONVOLUTIONS):
        return []
    return [getattr(layer, name) for name in _KERNELS if hasattr(layer, name)]


def _positions(layer: keras.layers.Layer, inputs: tf.Tensor, outputs: tf.Tensor) -> int:
    shape = list((inputs if isinstance(layer, _TRANSPOSED) else outputs).shape)
    channels = 1 if getattr(layer, "data_format", None) == "channels_first" else -1
    del shape[channels]
    return prod(shape)


def _cost(layer: keras.layers.Layer, watch: _Watch, seen: set[int], note: str = "") -> LayerCost:
    weights = list(_new_weights(layer, seen))
    bits: Counter[int] = Counter()
    for weight in weights:
        bits[_bits(weight)] += prod(weight.shape)
    if id(layer) in watch.mixed:
        note = MULTIPLIED_AS_REALS
    elif not isinstance(layer, (*_CONVOLUTIONS, *_ELEMENTWISE)) and any(
        max(weight.shape, default=1) != prod(weight.shape) for weight in weights
    ):
        note = UNKNOWN_KIND
    return LayerCost(
        name=layer.name,
        kind=type(layer).__name__,
        binary_macs=watch.binary_macs[id(layer)],
        real_macs=watch.real_macs[id(layer)],
        binary_weights=bits[1],
        real_weights=bits.total() - bits[1],
        memory_bits=sum(width * count for width, count in bits.items()),
        note=note,
    )


def _new_weights(layer: keras.layers.Layer, seen: set[int]) -> Iterator[tf.Variable]:
    """A layer's own weights, less those of layers inside it and those counted before."""
    inside = {
        id(weight)
        for module in layer.submodules
        if isinstance(module, keras.layers.Layer)
        for weight in module.weights
    }
    statistics = {id(getattr(layer, name, None)) for name in _STATISTICS}
    for weight in layer.weights:
        if id(weight) not in inside | statistics | seen:
            seen.add(id(weight))
            yield weight


def _bits(weight: tf.Variable) -> int:
    return getattr(weight, "precision", None) or FLOAT_BITS
