"""Writes LCE's operators in place of what was recognized."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from bireal_keras.export.binarize import fuse
from bireal_keras.export.binarize.decide import BinaryLayer, Decision
from bireal_keras.export.binarize.graph import NONE, Graph, Operator
from bireal_keras.export.binarize.match import Plan
from bireal_keras.export.binarize.signs import Sign, Source, is_max_pool

_WORD_BITS = 32


@dataclass(frozen=True)
class Bits:
    """Packed signs.

    Attributes:
        tensor: index of the packed tensor.
        real: index of the float32 tensor that an LceQuantize makes them of, None where another
            operator does.
    """

    tensor: int
    real: int | None


class Emitted(NamedTuple):
    """What was written.

    Attributes:
        signs: that layers read, in the order of execution, with their bits.
        results: by the layer in the float graph, index of the tensor that its LceBconv2d writes.
    """

    signs: list[tuple[Sign, Bits]]
    results: dict[Operator, int]


def emit(graph: Graph, decision: Decision) -> Emitted:
    """Replaces layers by LCE's operators.

    Operators come where the layer, or the sign, was; the others stay in their order.

    Args:
        graph: is changed.
        decision: about its layers.
    """
    emitter = _Emitter(graph, decision)
    producers = graph.producers()
    signs: dict[Operator, list[Plan]] = defaultdict(list)
    for layer in decision.layers.values():
        signs[producers[layer.plan.sign.tensor]].append(layer.plan)
    bits: dict[Operator, Bits] = {}
    for operator in graph.operators:
        if operator in decision.layers:
            layer = decision.layers[operator]
            emitter.layer(layer, bits[operator])
        elif not decision.real.isdisjoint(operator.outputs) and not emitter.writes(operator):
            emitter.operators.append(operator)
        for plan in signs[operator]:
            bits[plan.operator] = emitter.sign(plan)
    graph.operators = emitter.operators
    read = [(layer.plan.sign, bits[operator]) for operator, layer in decision.layers.items()]
    # In the order of execution.
    return Emitted(list(dict.fromkeys(reversed(read))), emitter.layers)


class _Emitter:
    def __init__(self, graph: Graph, decision: Decision):
        self._graph = graph
        self._real = decision.real
        self._producers = graph.producers()
        self._results = {layer.output.tensor for layer in decision.layers.values()}
        self._packed: dict[int, Bits] = {}
        self._bits: dict[tuple[Source, bool, int], Bits] = {}
        self.operators: list[Operator] = []
        self.layers: dict[Operator, int] = {}

    def writes(self, operator: Operator) -> bool:
        """Whether what an operator writes is a layer's result by now."""
        return not self._results.isdisjoint(operator.outputs)

    def sign(self, plan: Plan) -> Bits:
        """Packs the signs that a layer reads."""
        rows = plan.windows.out[0] if plan.is_dense else 0
        return self._bits_of(plan.sign.source, plan.sign.strict, rows, plan.channels_in)

    def layer(self, layer: BinaryLayer, bits: Bits) -> None:
        """An LceBconv2d and what has to come before and after it."""
        plan, output = layer.plan, layer.output
        name = self._graph.name(output.tensor)
        source = self._padded(bits.tensor, plan)
        channels = len(plan.negative)
        batch = 1 if plan.is_dense else self._graph.shape(plan.sign.tensor)[0]
        shape = (batch, *plan.windows.padding.out, channels)
        if layer.packs:
            thresholds, inverted = fuse.thresholds(plan, output)
            negative = plan.negative ^ inverted[:, None, None, None]
            result = self._new(f"{name}/packed", _packed_shape(shape), np.int32)
            constants = [NONE, NONE, self._graph.add_constant(f"{name}/thresholds", thresholds)]
            self._packed[output.tensor] = Bits(result, None)
            self._bconv(layer, source, negative, constants, result)
            return
        constants = [
            self._graph.add_constant(f"{name}/multiplier", output.multiplier),
            self._graph.add_constant(f"{name}/bias", output.bias),
            NONE,
        ]
        following = [kind for kind in (output.left, self._cut(plan)) if kind]
        tensors = [self._new(f"{name}/{index}", shape, np.float32) for index in following]
        tensors.append(output.tensor)
        self._bconv(layer, source, plan.negative, constants, tensors[0])
        for kind, inner, outer in zip(following, tensors, tensors[1:]):
            self._follow(kind, inner, outer)

    def _cut(self, plan: Plan) -> str:
        """What brings the result into the shape that it has in the float graph."""
        return "RESHAPE" if plan.is_dense else "SLICE" if plan.is_cropped else ""

    def _follow(self, kind: str, inner: int, outer: int) -> None:
        shape = np.array(self._graph.shape(outer), np.int32)
        if kind == "RESHAPE":
            self._reshape(inner, outer)
        elif kind == "SLICE":
            name = self._graph.name(outer)
            begin = self._graph.add_constant(f"{name}/begin", np.zeros(4, np.int32))
            size = self._graph.add_constant(f"{name}/size", shape)
            self._add(kind, [inner, begin, size], outer, schema.SliceOptionsT())
        else:
            self._add(kind, [inner], outer)

    def _bconv(
        self,
        layer: BinaryLayer,
        source: int,
        negative: np.ndarray,
        constants: Sequence[int],
        result: int,
    ) -> None:
        plan, windows = layer.plan, layer.plan.windows
        name = f"{self._graph.name(layer.output.tensor)}/filters"
        filters = self._graph.add_constant(name, packed(negative))
        options = {
            "channels_in": plan.channels_in,
            "dilation_height_factor": windows.dilations[0],
            "dilation_width_factor": windows.dilations[1],
            "fused_activation_function": layer.output.activation,
            "pad_values": int(windows.padding.ones),
            "padding": schema.Padding.SAME if windows.padding.same else schema.Padding.VALID,
            "stride_height": windows.strides[0],
            "stride_width": windows.strides[1],
        }
        inputs = [source, filters, *constants]
        self.layers[plan.operator] = result
        self.operators.append(self._graph.new_custom("LceBconv2d", inputs, result, options))

    def _padded(self, bits: int, plan: Plan) -> int:
        """Rows and columns of +1, which is bit 0, around packed signs."""
        sides = np.array([(0, 0), *plan.windows.padding.added, (0, 0)], np.int32)
        if not sides.any():
            return bits
        name = self._graph.name(bits)
        paddings = self._graph.add_constant(f"{name}/paddings", sides)
        shape = np.array(self._graph.shape(bits)) + sides.sum(axis=1)
        result = self._new(f"{name}/padded", shape.tolist(), np.int32)
        self._add("PAD", [bits, paddings], result, schema.PadOptionsT())
        return result

    def _bits_of(self, source: Source, strict: bool, rows: int = 0, channels: int = 0) -> Bits:
        """Packed signs.

        Args:
            source: what they are the signs of.
            strict: see `signs.Sign`.
            rows: for a dense layer, how many vectors of `channels` there are; for a convolution 0.
            channels: see `rows`.
        """
        pools: list[tuple[Source, Operator]] = []
        while (source, strict, rows) not in self._bits:
            found = self._pool_of(source, strict, rows)
            if found is None:
                made = self._packed.get(source.tensor) if self._is_packed(source, strict) else None
                made = made or self._quantized(source, strict, rows, channels)
                self._bits[source, strict, rows] = made
                break
            pools.append((source, found[0]))
            source = found[1]
        for pooled, pool in reversed(pools):
            bits = self._pooled(pool, self._bits[source, strict, rows])
            self._bits[pooled, strict, rows] = bits
            source = pooled
        return self._bits[source, strict, rows]

    def _pool_of(self, source: Source, strict: bool, rows: int) -> tuple[Operator, Source] | None:
        """The pool whose bits a source's are, and what it pools; None if it is none."""
        if source.moves:
            pool, inner = source.moves[-1], replace(source, moves=source.moves[:-1])
            return (pool, inner) if is_max_pool(pool) and not rows else None
        if not self._is_packed(source, strict) or source.tensor in self._packed:
            return None
        producer = self._producers[source.tensor]
        return producer, Source(producer.inputs[0])

    def _is_packed(self, source: Source, strict: bool) -> bool:
        """Whether a source exists as bits only: what a layer packs, or a pool of that."""
        is_plain = source.threshold is None and not strict and not source.moves
        return is_plain and source.tensor not in self._real and source.tensor in self._producers

    def _quantized(self, source: Source, strict: bool, rows: int, channels: int) -> Bits:
        """An LceQuantize, of real numbers or of a comparison."""
        is_plain = source.threshold is None and not strict
        tensor = source.tensor if is_plain else self._compared(source, strict)
        for move in source.moves:
            tensor = self._moved(move, tensor)
        if rows:
            name, dtype = f"{self._graph.name(tensor)}/rows", self._graph.dtype(tensor)
            flat = self._new(name, (1, rows, 1, channels), dtype)
            self._reshape(tensor, flat)
            tensor = flat
        name = f"{self._graph.name(tensor)}/signs"
        result = self._new(name, _packed_shape(self._graph.shape(tensor)), np.int32)
        self.operators.append(self._graph.new_custom("LceQuantize", [tensor], result))
        return Bits(result, tensor if is_plain else None)

    def _pooled(self, pool: Operator, bits: Bits) -> Bits:
        options = pool.options("Pool2DOptions")
        name = self._graph.name(pool.outputs[0])
        words = self._graph.shape(bits.tensor)[-1]
        shape = (*self._graph.shape(pool.outputs[0])[:-1], words)
        result = self._new(f"{name}/signs", shape, np.int32)
        custom = {
            "filter_height": options.filterHeight,
            "filter_width": options.filterWidth,
            "padding": options.padding,
            "stride_height": options.strideH,
            "stride_width": options.strideW,
        }
        inputs = [bits.tensor]
        self.operators.append(self._graph.new_custom("LceBMaxPool2d", inputs, result, custom))
        return Bits(result, None)

    def _compared(self, source: Source, strict: bool) -> int:
        """BOOL: where a tensor is not below a threshold; LceQuantize makes +1 of true."""
        threshold = source.threshold
        if threshold is None:
            threshold = self._graph.add_constant("zero", np.array(0, np.float32))
        name = f"{self._graph.name(source.tensor)}/compared"
        result = self._new(name, self._graph.shape(source.tensor), np.bool_)
        kind = "GREATER" if strict else "GREATER_EQUAL"
        self._add(kind, [source.tensor, threshold], result)
        return result

    def _moved(self, move: Operator, tensor: int) -> int:
        """Applies an operator that was applied to a sign to what is to be its source."""
        output = move.outputs[0]
        name = f"{self._graph.name(output)}/moved"
        result = self._new(name, self._graph.shape(output), self._graph.dtype(tensor))
        inputs = (tensor, *move.inputs[1:])
        self.operators.append(self._graph.with_tensors(move, inputs, (result,)))
        return result

    def _reshape(self, source: int, result: int) -> None:
        options = schema.ReshapeOptionsT()
        options.newShape = list(self._graph.shape(result))
        shape = np.array(self._graph.shape(result), np.int32)
        wanted = self._graph.add_constant(f"{self._graph.name(result)}/shape", shape)
        self._add("RESHAPE", [source, wanted], result, options)

    def _add(self, name: str, inputs: Sequence[int], output: int, options: Any = None) -> None:
        self.operators.append(self._graph.new_builtin(name, inputs, output, options))

    def _new(self, name: str, shape: Sequence[int], dtype: Any) -> int:
        return self._graph.add_tensor(name, shape, dtype)


def packed(negative: np.ndarray) -> np.ndarray:
    """Signs (..., channels), True for -1, as LCE's words (..., ceil(channels / 32)) int32.

    The first channel is the lowest bit; bits without a channel are 0.
    """
    missing = -negative.shape[-1] % _WORD_BITS
    filled = np.pad(negative, [(0, 0)] * (negative.ndim - 1) + [(0, missing)])
    octets = np.ascontiguousarray(np.packbits(filled, axis=-1, bitorder="little"))
    return octets.view("<i4")


def _packed_shape(shape: Sequence[int]) -> tuple[int, ...]:
    return (*shape[:-1], -(-shape[-1] // _WORD_BITS))
