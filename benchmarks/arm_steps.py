"""What a step of a model takes on a 64-bit Arm: passes through loops, and bytes of memory.

Three engines are counted: our delegate with LiteRT and XNNPACK for the rest, Larq Compute Engine
(LCE), and ncnn. Not counted are SOFTMAX, calls, and what an interpreter does between two operators.
"""

import collections
import dataclasses
import re
from math import ceil, prod

from ai_edge_litert import schema_py_generated as schema
from arm_kernels import Axis, BinaryConvolution, dense, float_convolution, same_axis

from bireal_keras.cost.tflite_model import BINARY, MULTIPLYING, multiply_accumulates
from bireal_keras.tflite.model import Graph, Operator, Tensor

_BYTES = {
    schema.TensorType.FLOAT32: 4,
    schema.TensorType.FLOAT16: 2,
    schema.TensorType.INT32: 4,
    schema.TensorType.INT64: 8,
    schema.TensorType.INT8: 1,
    schema.TensorType.UINT8: 1,
    schema.TensorType.BOOL: 1,
}
_POOLS = ("MAX_POOL_2D", "AVERAGE_POOL_2D")
# These change no value, of SOFTMAX there are few, and a DEQUANTIZE of weights is done once.
_FREE = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "SOFTMAX", "DEQUANTIZE")


@dataclasses.dataclass
class Work:
    """What a step takes.

    Attributes:
        units: of work in each loop, by its name in the table.
        constants: bytes of weights, which are read once in a run.
        maps: bytes of each map that is read or written.
    """

    units: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    constants: int = 0
    maps: list[int] = dataclasses.field(default_factory=list)

    def products(self) -> "Work":
        """What of it multiplies, in the innermost loops."""
        loops = re.compile(r".* \d+x\d+|LCE|.* (gemm.*|depthwise)")
        inner = {name: units for name, units in self.units.items() if loops.fullmatch(name)}
        return Work(collections.Counter(inner))


class Model:
    """A .tflite file whose steps are counted, for one image.

    Args:
        content: of the file, which an interpreter has accepted.
    """

    def __init__(self, content: bytes):
        self._graph = Graph(content)
        self._model = schema.Model.GetRootAs(content, 0)

    @property
    def nodes(self) -> range:
        """The numbers of all operators."""
        return range(len(self._graph.operators))

    def delegated(self, nodes: tuple[int, ...], kernel: str) -> Work:
        """A step of our delegate, with all that it took over, on `neon` or `neon_lookup`."""
        work = self._memory(nodes)
        operators = [self._graph.operators[node] for node in nodes]
        binary = next((operator for operator in operators if operator.name == BINARY), None)
        if binary is None:
            for operator in operators:
                work.units += self._float_units(operator)
            return work
        convolution = self._binary_convolution(binary)
        store = "floats"
        for operator in operators:
            if operator.name == "ADD" and len(self._computed(operator)) == 2:
                store = "floats with shortcut"
            elif operator.name not in (BINARY, "LceQuantize"):
                work.units += self._elementwise(operator, "float32")
        if self._tiles_make_floats(binary, convolution):
            is_clamped = binary.option("fused_activation_function") != 0
            work.units += convolution.units(kernel, f"clamped {store}" if is_clamped else store)
        else:
            work.units += convolution.units(kernel, "counts")
            work.units[store.replace("floats", "store")] += convolution.values // 4
        if kernel == "neon_lookup":
            # Its filters lie in half bytes, one in each byte.
            work.constants += self._bytes(binary.inputs[1])
        return work

    def _tiles_make_floats(self, operator: Operator, convolution: BinaryConvolution) -> bool:
        """Whether tiles fill words of signs and no count is odd; else a row takes two passes."""
        filters = convolution.filters // convolution.groups
        channels_in = operator.option("channels_in") // convolution.groups
        return filters % 32 == 0 and channels_in % 2 == 0

    def _float_units(self, operator: Operator) -> collections.Counter[str]:
        """An operator other than a binary convolution on the delegate's kernels."""
        size_out = self._size(operator.outputs[0])
        if operator.name in ("CONV_2D", "FULLY_CONNECTED"):
            kernel = self._shape(operator.inputs[1])
            filters, channels_in = kernel[0], kernel[-1]
            if self._graph.tensors[operator.inputs[1]].type == schema.TensorType.INT8:
                raise ValueError(
                    f"{operator.name} with int8 weights: the delegate has no NEON kernel for it to "
                    "count. --float_ops=litert leaves it to LiteRT."
                )
            if prod(kernel[1:-1]) == 1:
                return dense(size_out // filters, channels_in, filters)
            groups = self._shape(operator.inputs[0])[-1] // channels_in
            height, width = self._axes(operator, *kernel[1:3])
            return float_convolution(height, width, channels_in, filters, groups)
        if operator.name in (*_POOLS, "MEAN"):
            name = "max" if operator.name == "MAX_POOL_2D" else "average"
            return collections.Counter({name: self._pooled(operator) // 4})
        if operator.name == "LceQuantize":
            return collections.Counter({"pack": self._size(operator.inputs[0]) // 4})
        return self._elementwise(operator, "float32")

    def interpreted(self, node: int, arithmetic: str, int8_gemm: str) -> Work:
        """An operator as LiteRT with XNNPACK, or ncnn, computes it.

        Args:
            node: the operator.
            arithmetic: of real values, "float32" or "float16".
            int8_gemm: of int8 values, "sdot" or "smull".
        """
        work = self._memory((node,))
        operator = self._graph.operators[node]
        is_int8 = self._graph.tensors[operator.outputs[0]].type == schema.TensorType.INT8
        kind = "int8" if is_int8 else arithmetic
        if arithmetic == "float16" and not is_int8:
            work.maps = [size // 2 for size in work.maps]
            work.constants //= 2
        if operator.name == "DEPTHWISE_CONV_2D":
            lanes = 4 if kind == "float32" else 8
            work.units[f"{kind} depthwise"] += self._macs(operator) // lanes
        elif operator.name in MULTIPLYING:
            lanes = {"float32": 4, "float16": 8, "int8": 16}[kind]
            gemm = f"int8 gemm, {int8_gemm}" if is_int8 else f"{kind} gemm"
            work.units[gemm] += self._macs(operator) // lanes
        else:
            work.units += self._elementwise(operator, kind)
        return work

    def of_lce(self, node: int) -> Work:
        """An operator as Larq Compute Engine computes it: each by itself, from copied patches."""
        operator = self._graph.operators[node]
        if operator.name == "LceQuantize":
            work = self._memory((node,))
            work.units += self._float_units(operator)
            return work
        if operator.name != BINARY:
            return self.interpreted(node, "float32", "smull")
        work = self._memory((node,))
        convolution = self._binary_convolution(operator)
        work.units["LCE"] += self._macs(operator) // 128
        taps = convolution.height.taps * convolution.width.taps
        positions = convolution.values // convolution.filters
        # A copy of 4 words is what an elementwise operation reads and writes.
        words = positions * taps * convolution.words * convolution.groups
        work.units["float32 elementwise"] += words // 4 if taps > 1 else 0
        work.units["store"] += convolution.values // 4
        return work

    def _binary_convolution(self, operator: Operator) -> BinaryConvolution:
        filters, height, width, words = self._shape(operator.inputs[1])
        return BinaryConvolution(
            *self._axes(operator, height, width),
            words=words,
            filters=filters,
            groups=self._shape(operator.inputs[0])[-1] // words,
            pads_with_ones=operator.option("pad_values") == 1,
        )

    def _axes(self, operator: Operator, *taps: int) -> list[Axis]:
        """Height and width of a convolution's window."""
        inputs, outputs = self._shape(operator.inputs[0]), self._shape(operator.outputs[0])
        axes = []
        for axis, tap in zip((1, 2), taps):
            if operator.name == BINARY:
                side = ("height", "width")[axis - 1]
                stride = operator.option(f"stride_{side}")
                dilation = operator.option(f"dilation_{side}_factor")
            else:
                stride, dilation = max(1, round(inputs[axis] / outputs[axis])), 1
            axes.append(same_axis(inputs[axis], outputs[axis], tap, stride, dilation))
        return axes

    def _elementwise(self, operator: Operator, kind: str) -> collections.Counter[str]:
        """An operator of which one vector of the larger side is one instruction."""
        if operator.name in _FREE:
            return collections.Counter()
        lanes = 4 if kind == "float32" else 8
        if operator.name in _POOLS:
            size = self._pooled(operator)
        else:
            size = max(map(self._size, [*self._computed(operator), operator.outputs[0]]))
        return collections.Counter({f"{kind} elementwise": ceil(size / lanes)})

    def _pooled(self, operator: Operator) -> int:
        """Values that a pooling or a MEAN looks at; windows are taken to lie in the map."""
        if operator.name == "MEAN":
            return self._size(operator.inputs[0])
        node = self._graph.operators.index(operator)
        table = self._model.Subgraphs(0).Operators(node).BuiltinOptions()
        options = schema.Pool2DOptions()
        options.Init(table.Bytes, table.Pos)
        return self._size(operator.outputs[0]) * options.FilterHeight() * options.FilterWidth()

    def _memory(self, nodes: tuple[int, ...]) -> Work:
        """What a step reads and writes; what only its own operators see does not exist."""
        operators = [self._graph.operators[node] for node in nodes]
        if all(operator.name in _FREE for operator in operators):
            return Work()
        written = {index for operator in operators for index in operator.outputs}
        read = {index for operator in operators for index in operator.inputs if index >= 0}
        work = Work()
        for index in sorted(read - written):
            if self._graph.is_constant(index):
                work.constants += self._bytes(index)
            else:
                work.maps.append(self._bytes(index))
        for index in sorted(written):
            readers = [reader for reader in self._graph.readers(index) if reader not in operators]
            if readers or index in self._graph.outputs:
                work.maps.append(self._bytes(index))
        return work

    def _computed(self, operator: Operator) -> list[int]:
        return [
            index for index in operator.inputs if index >= 0 and not self._graph.is_constant(index)
        ]

    def _macs(self, operator: Operator) -> int:
        return multiply_accumulates(self._graph, operator)

    def _tensor(self, index: int) -> Tensor:
        return self._graph.tensors[self._graph.stored(index)]

    def _shape(self, index: int) -> tuple[int, ...]:
        return self._tensor(index).shape

    def _size(self, index: int) -> int:
        return prod(self._shape(index))

    def _bytes(self, index: int) -> int:
        return self._size(index) * _BYTES.get(self._tensor(index).type, 4)
