"""What keeps a layer from being bit-packed, found in the Keras model before any conversion."""

import dataclasses
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bireal_keras import _keras_model, _layer_calls
from bireal_keras._keras import keras, lq, tf
from bireal_keras.export import _origin, reasons
from bireal_keras.export.signature import Signature

# How far LCE lets the magnitudes of a filter's weights differ.
_SAME_MAGNITUDE = 0.005
# A magnitude that LCE takes for 0, and the whole kernel for a real one.
SMALLEST_MAGNITUDE = float(np.finfo(np.float32).eps)

_LAYERS = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Dense,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
)
# The order matters: Keras derives some of these from Conv2D.
_KINDS: tuple[tuple[type, str], ...] = (
    (keras.layers.Conv2DTranspose, "transposed convolution"),
    (keras.layers.Conv3DTranspose, "transposed convolution"),
    (keras.layers.Conv1DTranspose, "transposed convolution"),
    (keras.layers.DepthwiseConv1D, "depthwise convolution"),
    (keras.layers.DepthwiseConv2D, "depthwise convolution"),
    (keras.layers.SeparableConv1D, "separable convolution"),
    (keras.layers.SeparableConv2D, "separable convolution"),
    (keras.layers.Conv1D, "Conv1D"),
    (keras.layers.Conv3D, "Conv3D"),
    (keras.layers.Dense, "Dense"),
)
_MULTIPLICATIONS = {
    "Conv2D",
    "Conv3D",
    "DepthwiseConv2dNative",
    "Conv2DBackpropInput",
    "Conv3DBackpropInputV2",
    "MatMul",
    "BatchMatMulV2",
    # Keras compiles convolutions of several groups.
    "PartitionedCall",
    "StatefulPartitionedCall",
}
# Those of which the values of both factors are looked at.
_NUMBERS = ("Conv2D", "MatMul")
_ARITHMETIC = ("Add", "AddV2", "BiasAdd", "FusedBatchNormV3", "Mul", "RealDiv", "Sub")
_ACTIVATIONS = ("LeakyRelu", "Relu", "Relu6")
_POOLS = ("MaxPool", "AvgPool")
_SIGNS = ("GreaterEqual", "Sign")


@dataclass(frozen=True)
class Diagnosis:
    """One call of a convolution or a dense layer, as the Keras model has it.

    Attributes:
        layer: that is called; of another kind if it multiplies signs by signs in its own code.
        intended_binary: whether its input and its kernel are 1-bit.
        reason: code of what keeps it in float, or of a warning; "" if nothing is known to.
        detail: what `reasons.explain` wants to know.
        followed: whether BatchNormalization, a bias or an activation follows.
        left_reason: code of what keeps LCE from fusing it, if LCE does not.
        clip: width of the range that an activation right after it cuts its results to, or None.
        kernel: (..., out) float32, what a layer of another kind multiplies by; else None.
    """

    layer: keras.layers.Layer
    intended_binary: bool
    reason: str
    detail: str
    followed: bool
    left_reason: str
    clip: float | None
    kernel: np.ndarray | None = None


def diagnose(
    model: keras.Model, signature: Signature, samples: Sequence[np.ndarray] = ()
) -> list[Diagnosis]:
    """Looks at every convolution and dense layer of a model, in the order of their calls.

    The model is traced: TensorFlow's graph shows what lies around each layer, whatever it is made
    of. Signs that no code tells are seen in the values that a layer multiplies, on samples.

    Args:
        model: to look at.
        signature: of it.
        samples: what its inputs get, in full batches; without any, only code tells of signs.
    """
    calls: list[tuple[keras.layers.Layer, Any, Any]] = []

    def on_call(layer: keras.layers.Layer, inputs: Any, outputs: Any) -> None:
        if isinstance(layer, _LAYERS):
            calls.append((layer, inputs, outputs))

    # The model is traced as LCE gets it. With any number of images, constants of the input's shape
    # are not literals.
    with _layer_calls.watched(_layer_calls.layers_of(model), on_call):
        graph = signature.trace(model)
    origins = _origin.Origins(graph.inputs[: len(signature.inputs)])
    found = [_diagnose(origins, *call) for call in calls]
    return _with_hidden_signs(model, graph, found, samples) if len(samples) else found


def _with_hidden_signs(
    model: keras.Model,
    graph: Any,
    found: list[Diagnosis],
    samples: Sequence[np.ndarray],
) -> list[Diagnosis]:
    """Adds what multiplies signs by signs though nothing but its values tells."""
    inputs = graph.inputs[: len(samples)]
    dependent = _origin.Origins(inputs)
    layers = {layer.name: layer for layer in _layer_calls.layers_of(model)}
    known = {one.layer.name: one for one in found}
    candidates = []
    for op in graph.graph.get_operations():
        if op.type in _NUMBERS and not dependent.is_constant(op.inputs[0]):
            layer = layers.get(_innermost(op.name, layers), model)
            one = known.get(layer.name)
            if one is None or not one.intended_binary:
                candidates.append((op, layer, one))
    if not candidates:
        return found
    look = graph.prune(inputs, [list(op.inputs[:2]) for op, *_ in candidates])
    values = look(*(tf.constant(array) for array in samples))
    result = list(found)
    for (_, layer, one), (data, kernel) in zip(candidates, values):
        if not (_is_signs(data.numpy()) and _is_signs(kernel.numpy(), each_filter=True)):
            continue
        if one is None:
            result.append(
                Diagnosis(layer, True, reasons.HIDDEN_SIGN, "", False, "", None, kernel.numpy())
            )
        else:
            result[result.index(one)] = dataclasses.replace(
                one, intended_binary=True, reason=reasons.HIDDEN_SIGN, detail=""
            )
    return result


def _innermost(operator: str, layers: Container[str]) -> str:
    """The layer that an operator is in, by its name; "" for none.

    Operators are named after the layers around them, the innermost last: "model/block/conv/Conv2D".
    The name of a layer may have slashes of its own, as "block/conv", so that it is not told from
    "conv" inside "block" but by being the longest that there is.
    """
    parts = operator.split("/")
    for end in range(len(parts), 0, -1):
        for start in range(end):
            name = "/".join(parts[start:end])
            if name in layers:
                return name
    return ""


def _is_signs(values: np.ndarray, *, each_filter: bool = False) -> bool:
    """Whether values are +s and -s, and both; s may differ between filters, the last axis."""
    magnitudes = np.abs(values).reshape(-1, values.shape[-1] if each_filter else 1)
    return bool(
        magnitudes.shape[0] > 1
        and values.min(initial=0) < 0 < values.max(initial=0)
        and (magnitudes > SMALLEST_MAGNITUDE).all()
        and np.allclose(magnitudes, magnitudes[0], rtol=_SAME_MAGNITUDE, atol=0)
    )


def is_binary_dense(layer: keras.layers.Layer) -> bool:
    """Whether a layer is one of those that `rewriting` makes a 1x1 convolution of."""
    return (
        isinstance(layer, lq.layers.QuantDense)
        and _keras_model.has_one_bit_input(layer)
        and _keras_model.has_one_bit_kernel(layer)
    )


def _precision(layer: keras.layers.Layer, *names: str) -> int | None:
    quantizers = [getattr(layer, name, None) for name in names]
    for quantizer in quantizers:
        # NoOp states a precision and keeps real values.
        if quantizer is not None and not isinstance(quantizer, lq.quantizers.NoOp):
            return getattr(quantizer, "precision", None)
    return None


def _diagnose(
    origins: _origin.Origins, layer: keras.layers.Layer, inputs: tf.Tensor, outputs: tf.Tensor
) -> Diagnosis:
    multiplication = _origin.nearest(outputs, lambda op: op.type in _MULTIPLICATIONS)
    origin = origins.of(_data(origins, layer, multiplication, inputs))
    input_bits = _bits_of_input(layer, origin)
    kernel_bits = _bits_of_kernel(layer, input_bits)
    intended = input_bits == kernel_bits == 1
    if origin.sign == reasons.TERNARY:
        reason, detail = reasons.TERNARY, ""
    elif intended:
        reason, detail = _keeps_in_float(layer, origin)
    else:
        reason, detail = _not_meant(input_bits, kernel_bits)
    followers = list(_followers(origins, multiplication.outputs[0])) if multiplication else []
    if intended and not reason:
        reason = _warning(layer, followers)
    return Diagnosis(
        layer=layer,
        intended_binary=intended,
        reason=reason,
        detail=detail,
        followed=any(kind in (*_ARITHMETIC, *_ACTIVATIONS, reasons.PRELU) for kind in followers),
        left_reason=_left_reason(layer, followers),
        clip=_clip(origins, multiplication.outputs[0]) if multiplication else None,
    )


def _data(
    origins: _origin.Origins,
    layer: keras.layers.Layer,
    multiplication: tf.Operation | None,
    inputs: tf.Tensor,
) -> tf.Tensor:
    """What a layer multiplies by its kernel, less the padding that is its own."""
    # Nothing is asked of the other kinds but whether their inputs are signs.
    if multiplication is None or _kind(layer):
        return inputs
    varying = [source for source in multiplication.inputs if not origins.is_constant(source)]
    if not varying:
        return inputs
    data = origins.before_identities(varying[0])
    own = ["SpaceToBatchND"] + (["PadV2"] if _padding(layer) else [])
    while data.op.type in own:
        data = origins.before_identities(data.op.inputs[0])
    return data


def _bits_of_input(layer: keras.layers.Layer, origin: _origin.Origin) -> int | None:
    """1, 2 for more, None for a real one."""
    precision = _precision(layer, "input_quantizer")
    if precision is not None:
        return min(precision, 2) if precision < 32 else None
    if not origin.sign:
        return None
    return 2 if origin.sign in (reasons.MORE_BITS, reasons.TERNARY) else 1


def _bits_of_kernel(layer: keras.layers.Layer, input_bits: int | None) -> int | None:
    """As `_bits_of_input`."""
    precision = _precision(layer, "kernel_quantizer", "depthwise_quantizer")
    if precision is not None:
        return min(precision, 2) if precision < 32 else None
    if input_bits != 1 or not hasattr(layer, "kernel"):
        return None
    # LCE asks for values alone. (A filter of one weight is not a sign.)
    values = _keras_model.quantized_kernel(layer)
    is_one_bit = values[..., 0].size > 1 and np.abs(values).min() > 0 and not _odd_filter(values)
    return 1 if is_one_bit else None


def _not_meant(input_bits: int | None, kernel_bits: int | None) -> tuple[str, str]:
    if 2 in (input_bits, kernel_bits):
        return reasons.MORE_BITS, "input" if input_bits == 2 else "kernel"
    if kernel_bits == 1:
        return reasons.WEIGHTS_ONLY, ""
    return (reasons.INPUT_ONLY if input_bits == 1 else reasons.REAL), ""


def _keeps_in_float(layer: keras.layers.Layer, origin: _origin.Origin) -> tuple[str, str]:
    """Code and detail of the first thing that LCE does not take."""
    if _kind(layer):
        return reasons.KIND, _kind(layer)
    if getattr(layer, "data_format", "") == "channels_first":
        return reasons.CHANNELS_FIRST, ""
    if _padding(layer) not in (None, 0, 1):
        return reasons.PAD_VALUES, f"{_padding(layer):g}"
    if origin.sign == reasons.MORE_BITS:
        # A quantizer that says 1 bit: DoReFa's.
        return reasons.ZERO_ONE, ""
    if origin.sign != _origin.SIGN:
        return origin.sign or reasons.UNKNOWN_SIGN, ""
    if origin.code:
        return origin.code, origin.between
    values = _keras_model.quantized_kernel(layer)
    odd = _odd_filter(values)
    if odd:
        return reasons.KERNEL_VALUES, odd
    groups, channels = getattr(layer, "groups", 1), values.shape[-2]
    if groups > 1 and channels % 32:
        return reasons.GROUPS, f"{groups} groups has {channels} input channels"
    return "", ""


def _kind(layer: keras.layers.Layer) -> str:
    """What a layer is if it is neither Conv2D nor converted to one."""
    if is_binary_dense(layer):
        return ""
    return next((kind for base, kind in _KINDS if isinstance(layer, base)), "")


def _padding(layer: keras.layers.Layer) -> float | None:
    """With what a layer surrounds its input; None if with nothing."""
    return getattr(layer, "pad_values", 0) if getattr(layer, "padding", "") == "same" else None


def _odd_filter(values: np.ndarray) -> str:
    """The first filter that is not +s or -s everywhere, in words; "" if there is none.

    A filter of zeros is not such a filter: it is rewritten.
    """
    magnitudes = np.abs(values.reshape(-1, values.shape[-1]))
    odd = np.abs(magnitudes - magnitudes[0]) > _SAME_MAGNITUDE * magnitudes[0]
    odd &= magnitudes.max(axis=0) > SMALLEST_MAGNITUDE
    if not odd.any():
        return ""
    index = int(odd.any(axis=0).argmax())
    low, high = magnitudes[:, index].min(), magnitudes[:, index].max()
    return f"the magnitudes of filter {index} go from {low:.3g} to {high:.3g}"


def _warning(layer: keras.layers.Layer, followers: list[str]) -> str:
    """Code of what a user of a bit-packed layer should know, or ""."""
    if _padding(layer) == 0 and any(kind.startswith("FakeQuant") for kind in followers):
        return reasons.FAKE_QUANT
    return reasons.GROUPED if getattr(layer, "groups", 1) > 1 else ""


def _left_reason(layer: keras.layers.Layer, followers: list[str]) -> str:
    """Why some of its followers might stay operators after a 1-bit convolution."""
    before: list[str] = []
    for kind in followers:
        if kind in (reasons.PRELU, reasons.SEVERAL_READERS):
            return kind
        if kind in _ACTIVATIONS:
            if before:
                return reasons.RELU_LATE
            if _padding(layer) == 0:
                return reasons.RELU_ON_ZEROS
        elif kind in _ARITHMETIC:
            if any(pool in before for pool in _POOLS):
                return reasons.POOL_FIRST
            if "Reshape" in before:
                return reasons.RESHAPED
        before.append(kind)
    return ""


def _clip(origins: _origin.Origins, tensor: tf.Tensor) -> float | None:
    """See `Diagnosis.clip`: of ReLU6, or of a minimum and a maximum one after the other.

    Where nothing but a sign reads what follows, there are no digits to lose: LCE compares the sum
    of bits with thresholds.
    """
    bounds: dict[str, float] = {}
    width = None
    while True:
        readers = _readers(tensor)
        if len(readers) != 1:
            return width
        [reader] = readers
        if width is None and reader.type == "Relu6" and not bounds:
            width = 6.0
        elif width is None and reader.type in ("Minimum", "Maximum"):
            values = [tf.get_static_value(origins.before_identities(x)) for x in reader.inputs]
            constants = [value for value in values if value is not None]
            if len(constants) != 1 or np.size(constants[0]) != 1:
                return None
            bounds[reader.type] = float(np.ravel(constants[0])[0])
            if len(bounds) == 2:
                width = bounds["Minimum"] - bounds["Maximum"]
        elif width is not None and reader.type in _SIGNS:
            return None
        elif width is not None and reader.type in _ARITHMETIC:
            if not all(origins.is_constant(x) for x in reader.inputs if x is not tensor):
                return width
        elif reader.type not in ("Identity", "BatchToSpaceND"):
            return width
        tensor = reader.outputs[0]


def _readers(tensor: tf.Tensor) -> list[tf.Operation]:
    """The operators that compute from a tensor's values."""
    # A custom gradient passes its arguments on, to nobody where none is computed.
    return [
        reader
        for reader in tensor.consumers()
        if reader.type != "Shape"
        and (
            reader.type != "IdentityN" or any(copy.consumers() for copy in _copies(reader, tensor))
        )
    ]


def _copies(reader: tf.Operation, tensor: tf.Tensor) -> list[tf.Tensor]:
    return [output for source, output in zip(reader.inputs, reader.outputs) if source is tensor]


def _followers(origins: _origin.Origins, tensor: tf.Tensor) -> Iterator[str]:
    """What is applied to a tensor, one after the other, and to nothing else with it."""
    while True:
        readers = [reader for reader in tensor.consumers() if reader.type != "Shape"]
        kinds = sorted(reader.type for reader in readers)
        if kinds == ["Neg", "Relu"]:
            yield reasons.PRELU
            return
        if len(readers) != 1:
            if readers:
                yield reasons.SEVERAL_READERS
            return
        reader = readers[0]
        others = [source for source in reader.inputs if source is not tensor]
        if not reader.outputs or not all(map(origins.is_constant, others)):
            return
        if reader.type not in ("Identity", "BatchToSpaceND"):
            yield reader.type
        tensor = reader.outputs[0]
