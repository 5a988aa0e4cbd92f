"""Which convolutions and dense layers are 1-bit, and what they are made of. Changes nothing."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from bireal_keras.export.binarize import elementwise, padding, reasons
from bireal_keras.export.binarize.borders import UNDILATED, Borders, Sides, Surroundings, collapsed
from bireal_keras.export.binarize.constants import Constants
from bireal_keras.export.binarize.filters import Filters, signs_of
from bireal_keras.export.binarize.graph import NONE, Graph, Operator
from bireal_keras.export.binarize.padding import Axis, Padding
from bireal_keras.export.binarize.reasons import Reason
from bireal_keras.export.binarize.signs import MAX_POOL, Sign, Signs, is_max_pool

CONVOLUTION, DENSE = "CONV_2D", "FULLY_CONNECTED"
_OTHERS = ("CONV_3D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV")
LAYERS = (CONVOLUTION, DENSE, *_OTHERS)
_WORD_BITS = 32
# So many bytes may all kernels have for each byte of the file: they may be shared, and what repeats
# values, BROADCAST_TO, takes no memory, but their signs do.
_KERNEL_BYTES = 16
_SLACK_BYTES = 1 << 20


class Windows(NamedTuple):
    """Where a layer looks.

    Attributes:
        strides: for height and width.
        dilations: for height and width.
        padding: of the map.
        out: (height, width) of the result; LceBconv2d's may be larger.
        groups: of channels.
    """

    strides: tuple[int, int]
    dilations: tuple[int, int]
    padding: Padding
    out: tuple[int, int]
    groups: int


@dataclass(frozen=True)
class Plan:
    """A layer that becomes an LceBconv2d.

    Attributes:
        operator: the layer in the float file.
        sign: its input, less its padding.
        negative: (out, height, width, in of a group) bool, True for weights of -1.
        zero_weights: how many weights of 0 count as +1.
        multiplier: (out,) float32 by which the sum of +-1 is multiplied.
        bias: (out,) float32 that is added then.
        activation: that the layer applies to the result, `schema.ActivationFunctionType`.
        windows: where it looks. A dense layer is a convolution of a map with one column, and one
            row for each vector.
        flattens: of a dense layer, whether it sums over more than the last axis of its input.
        result: the tensor that the layer writes, which for a dilated one comes after
            BATCH_TO_SPACE_ND.
    """

    operator: Operator
    sign: Sign
    negative: np.ndarray
    zero_weights: int
    multiplier: np.ndarray
    bias: np.ndarray
    activation: int
    windows: Windows
    flattens: bool
    result: int

    @property
    def is_dense(self) -> bool:
        return self.operator.name == DENSE

    @property
    def channels_in(self) -> int:
        return self.windows.groups * self.negative.shape[-1]

    @property
    def depth(self) -> int:
        """How many products a sum has."""
        return self.negative[0].size

    @property
    def is_cropped(self) -> bool:
        """Whether LceBconv2d computes more rows or columns than the layer has."""
        return self.windows.padding.out != self.windows.out

    @property
    def reads_bits(self) -> bool:
        """Whether what it reads need not exist in real numbers.

        So it is for plain signs, and for maxima of them, which are signs of maxima.
        """
        source = self.sign.source
        if self.is_dense:
            return not self.sign.is_compared and not source.moves and not self.flattens
        return not self.sign.is_compared and all(map(is_max_pool, source.moves))


class Matcher:
    """Recognizes 1-bit layers.

    Args:
        graph: to look at.
        constants: of the graph.
        signs: of the graph.
        zero_sign: whether a sign that is 0 at 0 counts as +1 there.
        zero_weights: whether weights of exactly 0 count as +1.
    """

    def __init__(
        self,
        graph: Graph,
        constants: Constants,
        signs: Signs,
        *,
        zero_sign: bool,
        zero_weights: bool,
    ):
        self._graph = graph
        self._constants = constants
        self._signs = signs
        self._borders = Borders(graph, constants)
        self._zero_sign = zero_sign
        self._zero_weights = zero_weights
        self._left = _KERNEL_BYTES * graph.size_bytes + _SLACK_BYTES

    def match(self, operator: Operator) -> Plan | Reason | None:
        """What a layer becomes; why it stays as it is; None where nobody meant it to be 1-bit.

        Args:
            operator: one of `LAYERS`.

        Raises:
            ValueError: the file is damaged.
        """
        operator.require(2)
        if operator.name in _OTHERS:
            # The data of a transposed convolution is its last input.
            data = operator.inputs[2 if operator.name == "TRANSPOSE_CONV" else 0 :][:1]
            sign = self._sign(data[0]) if data else None
            return None if sign is None else reasons.kind(operator.name)
        if not (self._graph.is_float(operator.inputs[0]) and self._is_kernel(operator)):
            return None
        if operator.name == DENSE:
            return self._dense(operator)
        return self._convolution(operator)

    def _dense(self, operator: Operator) -> Plan | Reason | None:
        options = operator.options("FullyConnectedOptions")
        data, result = operator.inputs[0], operator.outputs[0]
        both = self._sign_and_filters(operator, data, rank=2)
        if both is None or isinstance(both, Reason):
            return both
        sign, filters = both
        if not all(map(self._graph.is_static, (data, result))):
            return reasons.DYNAMIC
        channels, depth = len(filters.negative), filters.negative.shape[-1]
        rows = self._graph.size(data) // depth
        if rows * depth != self._graph.size(data) or rows * channels != self._graph.size(result):
            raise self._damaged(operator, filters)
        if options.weightsFormat != schema.FullyConnectedOptionsWeightsFormat.DEFAULT:
            return reasons.COMPUTED_KERNEL
        if sign.is_compared and any(is_max_pool(move) for move in sign.source.moves):
            return reasons.moved(MAX_POOL)
        padding = Padding(same=False, ones=False, added=((0, 0), (0, 0)), out=(rows, 1))
        windows = Windows((1, 1), UNDILATED, padding, padding.out, groups=1)
        return self._plan(operator, sign, filters, windows, result)

    def _convolution(self, operator: Operator) -> Plan | Reason | None:
        around = self._borders.around(operator.inputs[0])
        both = self._sign_and_filters(operator, around.data, rank=4)
        if both is None or isinstance(both, Reason):
            return both
        sign, filters = both
        if around.pads_channels:
            return reasons.PADS_CHANNELS
        after = self._borders.after(operator.outputs[0], around.dilations)
        if after is None:
            return reasons.BATCH_SPACE
        crops, result = after
        if not all(map(self._graph.is_static, (around.data, operator.inputs[0], result))):
            return reasons.DYNAMIC
        windows = self._windows(operator, sign, filters, around, crops, result)
        if isinstance(windows, Reason):
            return windows
        return self._plan(operator, sign, filters, windows, result)

    def _sign(self, tensor: int) -> Sign | Reason | None:
        return self._signs.sign(tensor, zero_is_one=self._zero_sign)

    def _sign_and_filters(
        self, operator: Operator, data: int, rank: int
    ) -> tuple[Sign, Filters] | Reason | None:
        """Both are 1-bit, or why one is not; None if neither is, or only the input is not."""
        sign, filters = self._sign(data), self._filters(operator, rank)
        if sign is None:
            if isinstance(filters, Reason) or filters.negative[0].size == 1:
                return None
            return self._signs.separated(data) or reasons.NOT_A_SIGN
        if isinstance(sign, Reason):
            return sign
        return filters if isinstance(filters, Reason) else (sign, filters)

    def _is_kernel(self, operator: Operator) -> bool:
        return self._graph.is_float(operator.inputs[1]) and self._graph.is_float(
            operator.outputs[0]
        )

    def _filters(self, operator: Operator, rank: int) -> Filters | Reason:
        kernel = self._constants.get(operator.inputs[1])
        if kernel is None:
            return reasons.COMPUTED_KERNEL
        if kernel.nbytes > self._left:
            return reasons.SHARED_KERNELS
        self._left -= kernel.nbytes
        if kernel.ndim != rank or kernel.size == 0:
            raise ValueError(
                f"The .tflite file is damaged: the kernel '{self._graph.name(operator.inputs[1])}' "
                f"of a {operator.name} has the shape {kernel.shape}."
            )
        kernel = kernel if rank == 4 else kernel[:, None, None, :]
        return signs_of(kernel, zero_is_one=self._zero_weights)

    def _windows(
        self,
        operator: Operator,
        sign: Sign,
        filters: Filters,
        around: Surroundings,
        crops: Sides,
        result: int,
    ) -> Windows | Reason:
        """Where a convolution looks.

        Args:
            operator: the convolution.
            sign: what it reads, inside of all borders.
            filters: of it.
            around: the borders.
            crops: what BATCH_TO_SPACE_ND cuts off.
            result: the tensor that is left.
        """
        options = operator.options("Conv2DOptions")
        shape, out_shape = self._graph.shape(sign.tensor), self._graph.shape(result)
        channels, *sizes, depth = filters.negative.shape
        strides = (options.strideH, options.strideW)
        dilations = (options.dilationHFactor, options.dilationWFactor)
        is_same = options.padding == schema.Padding.SAME
        if (
            len(shape) != 4
            or len(out_shape) != 4
            or 0 in (*shape, *out_shape)
            or min(*strides, *dilations) < 1
            or (shape[0], channels) != (out_shape[0], out_shape[3])
            or shape[3] % depth
            or channels % (shape[3] // depth)
            or not (is_same or options.padding == schema.Padding.VALID)
        ):
            raise self._damaged(operator, filters)
        if around.dilations != UNDILATED:
            if strides != (1, 1) or dilations != UNDILATED or is_same:
                return reasons.BATCH_SPACE
            dilations = around.dilations
        groups = shape[3] // depth
        if groups > 1 and depth % _WORD_BITS:
            return reasons.groups(groups, depth)
        axes, seen = [], set()
        for index in (0, 1):
            size, out = shape[1 + index], out_shape[1 + index]
            axis = Axis(size, sizes[index], strides[index], dilations[index], 0, out)
            borders = [(*border.sides[index], border.value) for border in around.borders]
            padded = size + sum(before + after for before, after, _ in borders)
            if is_same:
                before, expected = padding.same_before(axis, padded)
                borders.insert(0, (before, max(0, axis.end - before - padded), 0.0))
            else:
                expected = (padded - axis.extent) // axis.stride + 1 - sum(crops[index])
            if expected != out:
                raise self._damaged(operator, filters)
            before, values = collapsed(axis._replace(before=-crops[index][0]), borders)
            if before < 0:
                return reasons.BATCH_SPACE
            axes.append(axis._replace(before=before))
            seen |= {float((np.float32(value) - sign.middle) / sign.amplitude) for value in values}
        odd = seen - {0.0, 1.0}
        if odd or len(seen) > 1:
            if odd and sign.middle:
                return reasons.padded_values(*sign.values)
            return reasons.pad_values(min(odd)) if odd else reasons.PADS_BOTH
        found = padding.solve(axes[0], axes[1], ones=seen == {1.0})
        if isinstance(found, Reason):
            return found
        return Windows(strides, dilations, found, (axes[0].out, axes[1].out), groups)

    def _plan(
        self, operator: Operator, sign: Sign, filters: Filters, windows: Windows, result: int
    ) -> Plan | Reason:
        bias = self._bias(operator, filters)
        if bias is None:
            return reasons.COMPUTED_KERNEL
        if operator.activation and operator.activation not in elementwise.ACTIVATIONS:
            return reasons.ACTIVATION
        return Plan(
            operator=operator,
            sign=sign,
            # A sign that is +a below the threshold inverts the filters.
            negative=filters.negative if sign.amplitude > 0 else ~filters.negative,
            zero_weights=filters.zeros,
            multiplier=filters.magnitudes * np.abs(sign.amplitude),
            bias=bias + sign.middle * filters.sums,
            activation=operator.activation,
            windows=windows,
            flattens=self._graph.shape(sign.tensor)[-1] != filters.negative.shape[-1],
            result=result,
        )

    def _bias(self, operator: Operator, filters: Filters) -> np.ndarray | None:
        """(out,) float32, None for one that is computed."""
        channels = len(filters.negative)
        if len(operator.inputs) < 3 or operator.inputs[2] == NONE:
            return np.zeros(channels, np.float32)
        bias = self._constants.get(operator.inputs[2])
        if bias is None:
            return None
        if bias.dtype != np.float32 or bias.size != channels:
            raise self._damaged(operator, filters)
        return bias.ravel()

    def _damaged(self, operator: Operator, filters: Filters) -> ValueError:
        return ValueError(
            f"The .tflite file is damaged: a {operator.name} with a kernel of "
            f"{filters.negative.shape} makes {self._graph.shape(operator.outputs[0])} of "
            f"{self._graph.shape(operator.inputs[0])}."
        )
