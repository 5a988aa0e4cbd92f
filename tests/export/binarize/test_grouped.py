"""Convolutions of groups of channels, which front ends write apart."""

import ai_edge_litert.interpreter as litert
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from lce_ops import NONE, RELU, SAME, Op, Tensor, build_model, constant

from bireal_keras.export.binarize import binarize
from bireal_keras.export.binarize.graph import Graph

SHAPE = (1, 7, 6, 12)


class Groups:
    """A SPLIT of the channels, a CONV_2D of each part, their CONCATENATION, and perhaps a MUL."""

    def __init__(self, groups: int = 3, channels_out: int = 6, *, split: str = "SPLIT_V"):
        random = np.random.default_rng(groups)
        width = SHAPE[3] // groups
        self.x = random.normal(size=SHAPE).astype(np.float32)
        shape = (groups, channels_out // groups, 3, 3, width)
        self.filters = random.normal(size=shape).astype(np.float32)
        self.bias = random.normal(size=shape[:2]).astype(np.float32)
        self.factors = random.normal(size=channels_out).astype(np.float32)
        self.tensors = [Tensor(SHAPE)]
        self.parts = [self._add(Tensor((*SHAPE[:3], width))) for _ in range(groups)]
        axis = self._add(constant(np.array(3, np.int32)))
        if split == "SPLIT":
            options, inputs = schema.SplitOptionsT(), [axis, 0]
        else:
            sizes = self._add(constant(np.full(groups, width, np.int32)))
            options, inputs = schema.SplitVOptionsT(), [0, sizes, axis]
        options.numSplits = groups
        named = "SplitVOptions" if split == "SPLIT_V" else "SplitOptions"
        self.ops = [Op(split, inputs, self.parts, builtin=(named, options))]
        self.results = [self._convolution(group) for group in range(groups)]
        concatenation = schema.ConcatenationOptionsT()
        concatenation.axis = 3
        self.output = self._add(Tensor((*SHAPE[:3], channels_out)))
        self.ops.append(
            Op(
                "CONCATENATION",
                self.results,
                [self.output],
                builtin=("ConcatenationOptions", concatenation),
            )
        )

    def _add(self, tensor: Tensor) -> int:
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def _convolution(self, group: int) -> int:
        constants = [self._add(constant(v[group])) for v in (self.filters, self.bias)]
        result = self._add(Tensor((*SHAPE[:3], len(self.bias[group]))))
        options = schema.Conv2DOptionsT()
        options.padding = SAME
        options.strideH = options.strideW = 1
        options.dilationHFactor = options.dilationWFactor = 1
        inputs = [self.parts[group], *constants]
        self.ops.append(Op("CONV_2D", inputs, [result], builtin=("Conv2DOptions", options)))
        return result

    def follow(self, name: str, operand: np.ndarray, activation: int = NONE) -> None:
        """A MUL or an ADD of the result."""
        options = {"MUL": schema.MulOptionsT, "ADD": schema.AddOptionsT}[name]()
        options.fusedActivationFunction = activation
        inputs = [self.output, self._add(constant(operand))]
        self.output = self._add(Tensor(self.tensors[self.output].shape))
        named = type(options).__name__.removesuffix("T")
        self.ops.append(Op(name, inputs, [self.output], builtin=(named, options)))

    def model(self, *outputs: int) -> bytes:
        return build_model(self.tensors, self.ops, [0], [self.output, *outputs])

    def expected(self) -> np.ndarray:
        """The sums of the groups, one pixel of the filter after the other."""
        padded = np.pad(self.x.astype(np.float64), [(0, 0), (1, 1), (1, 1), (0, 0)])
        height, width = SHAPE[1:3]
        y = 0.0
        for row in range(3):
            for column in range(3):
                pixels = padded[:, row : row + height, column : column + width]
                parts = np.split(pixels, len(self.parts), axis=3)
                products = [part @ f[:, row, column].T for part, f in zip(parts, self.filters)]
                y = y + np.concatenate(products, axis=3)
        return y + self.bias.reshape(-1)


def run(model: bytes, x: np.ndarray) -> np.ndarray:
    interpreter = litert.Interpreter(model_content=model)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def names(model: bytes) -> list[str]:
    return [operator.name for operator in Graph(model).operators]


@pytest.mark.parametrize("split", ["SPLIT", "SPLIT_V"])
@pytest.mark.parametrize("groups", [2, 3, 6])
def test_they_become_one_operator(groups, split):
    net = Groups(groups, split=split)
    merged = binarize(net.model()).content
    assert names(merged) == ["CONV_2D"]
    for model in (net.model(), merged):
        np.testing.assert_allclose(run(model, net.x), net.expected(), atol=1e-5)


@pytest.mark.parametrize("activation", [NONE, RELU])
def test_a_normalization_after_them_is_folded(activation):
    net = Groups()
    net.follow("MUL", net.factors)
    net.follow("ADD", net.factors[::-1].copy(), activation)
    merged = binarize(net.model()).content
    assert names(merged) == ["CONV_2D"]
    expected = net.expected() * net.factors + net.factors[::-1]
    expected = np.maximum(expected, 0) if activation == RELU else expected
    np.testing.assert_allclose(run(merged, net.x), expected, atol=1e-5)


def test_what_follows_an_activation_stays():
    net = Groups()
    net.follow("MUL", net.factors, RELU)
    net.follow("MUL", net.factors)
    merged = binarize(net.model()).content
    assert names(merged) == ["CONV_2D", "MUL"]
    expected = np.maximum(net.expected() * net.factors, 0) * net.factors
    np.testing.assert_allclose(run(merged, net.x), expected, atol=1e-5)


def test_a_product_that_is_not_by_channel_stays():
    net = Groups()
    net.follow("MUL", np.full((6, 6), 2, np.float32))
    merged = binarize(net.model()).content
    assert names(merged) == ["CONV_2D", "MUL"]
    np.testing.assert_allclose(run(merged, net.x), 2 * net.expected(), atol=1e-5)


def other_dilation(net: Groups) -> None:
    for op in net.ops[1:3]:
        op.builtin[1].dilationHFactor = 2


def other_activation(net: Groups) -> None:
    net.ops[1].builtin[1].fusedActivationFunction = RELU


def other_order(net: Groups) -> None:
    net.ops[-1].inputs = net.results[::-1]


def activated(net: Groups) -> None:
    net.ops[-1].builtin[1].fusedActivationFunction = RELU


@pytest.mark.parametrize("change", [other_dilation, other_activation, other_order, activated])
def test_what_is_not_a_grouped_convolution_stays(change):
    net = Groups()
    change(net)
    assert names(binarize(net.model()).content) == names(net.model())


def test_parts_that_others_need_stay():
    for tensor in ("parts", "results"):
        net = Groups()
        model = net.model(getattr(net, tensor)[0])
        assert names(binarize(model).content) == names(model)
