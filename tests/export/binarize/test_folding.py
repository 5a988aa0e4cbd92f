"""Constants that LCE's converter leaves to be computed on every run: an XNOR-Net's large kernel."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from lce_graph import Graph
from lce_ops import Op, Tensor, build_model, constant, pack, run_lce

from bireal_keras import runtime
from bireal_keras.export.binarize.folding import fold
from bireal_keras.tflite import model as tflite

SIZE, CHANNELS, FILTERS = 3, 40, 20
INPUT = (1, SIZE, SIZE, CHANNELS)
KERNEL = (SIZE, SIZE, CHANNELS, FILTERS)


class XnorLayer(Graph):
    """A convolution of signs. Its filters are the signs of others, times their mean magnitude.

    As in LCE's file of Larq Zoo's XNORNet, they are packed, unpacked, multiplied and transposed.
    """

    def __init__(self, *, is_packed: bool):
        super().__init__(INPUT)
        random = np.random.default_rng(0)
        self.x = random.normal(size=INPUT).astype(np.float32)
        self.filters = random.uniform(-1.5, 1.5, KERNEL).astype(np.float32)
        self.filters[0, 0, :2, 0] = 0.0, -0.0
        self.bias = random.normal(size=FILTERS).astype(np.float32)
        self.scales = np.abs(np.clip(self.filters, -1, 1)).mean((0, 1, 2), np.float64)
        signs = self.unpacked(self.quantize(0), INPUT)
        if is_packed:
            packed = self.constant(pack(np.where(self.filters < 0, -1, 1)))
            scales = self.constant(self.scales.astype(np.float32).reshape(1, 1, 1, -1))
        else:
            clipped = self.op("RELU_N1_TO_1", [self.constant(self.filters)], KERNEL)
            packed = self.quantize(clipped)
            axes = self.constant(np.array([0, 1, 2], np.int32))
            options = schema.ReducerOptionsT()
            options.keepDims = True
            magnitudes = self.op("ABS", [clipped], KERNEL)
            scales = self.op("MEAN", [magnitudes, axes], (1, 1, 1, FILTERS), options)
        unpacked = self.unpacked(packed, KERNEL)
        scaled = self.op("MUL", [scales, unpacked], KERNEL, schema.MulOptionsT())
        order = self.constant(np.array([3, 0, 1, 2], np.int32))
        shape = (FILTERS, SIZE, SIZE, CHANNELS)
        kernel = self.op("TRANSPOSE", [scaled, order], shape, schema.TransposeOptionsT())
        options = schema.Conv2DOptionsT()
        options.padding, options.strideH, options.strideW = schema.Padding.VALID, 1, 1
        inputs = [signs, kernel, self.constant(self.bias)]
        output = self.op("CONV_2D", inputs, (1, 1, 1, FILTERS), options)
        self.content = build_model(self.tensors, self.ops, [0], [output])

    def constant(self, value) -> int:
        return self.add_tensor(constant(value))

    def unpacked(self, words, shape) -> int:
        return self.op("LceDequantize", [words], shape)

    def op(self, name, inputs, shape, options=None) -> int:
        output = self.add_tensor(Tensor(shape))
        builtin = None if options is None else (type(options).__name__.removesuffix("T"), options)
        self.ops.append(Op(name, inputs, [output], builtin=builtin))
        return output

    def expected(self) -> np.ndarray:
        filters = np.where(self.filters < 0, -1.0, 1.0) * self.scales
        signs = np.where(self.x[0] < 0, -1.0, 1.0)
        return np.einsum("hwc,hwcf->f", signs, filters) + self.bias


def operators(content: bytes) -> list[str]:
    return [operator.name for operator in tflite.Graph(content).operators]


@pytest.mark.parametrize("is_packed", [False, True])
def test_a_kernel_is_computed_once(is_packed):
    layer = XnorLayer(is_packed=is_packed)
    folded = fold(layer.content)
    assert operators(folded) == ["LceQuantize", "LceDequantize", "CONV_2D"]
    result = runtime.Interpreter(folded).predict(layer.x)
    np.testing.assert_allclose(result.ravel(), layer.expected(), rtol=1e-5, atol=1e-5)
    # A kernel that is stored takes another path in XNNPACK, which rounds otherwise.
    theirs = run_lce(layer.content, layer.x)
    np.testing.assert_allclose(run_lce(folded, layer.x), theirs, rtol=1e-5, atol=1e-5)


def test_other_files_stay_as_they_are():
    graph = Graph()
    signs = graph.quantize(0)
    output = graph.add_tensor(Tensor(graph.shape))
    graph.ops.append(Op("LceDequantize", [signs], [output]))
    content = build_model(graph.tensors, graph.ops, [0], [output])
    assert fold(content) is content
