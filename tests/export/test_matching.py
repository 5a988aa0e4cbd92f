"""Operators are told apart by their kernels, whatever BatchNormalization has made of them."""

import numpy as np
from export_helpers import larq_conv

from bireal_keras._keras import keras
from bireal_keras.export.matching import Kernel, kernels_of, match
from bireal_keras.export.multiplications import BINARY, Multiplication
from bireal_keras.export.packing import pack_filters

L = keras.layers


def real(kernel, kind="CONV_2D"):
    return operator(kind, kernel.astype(np.float32))


def operator(kind, kernel):
    return Multiplication(
        kind=kind,
        tensor=0,
        output="",
        kernel=kernel,
        weights=0,
        kernel_bytes=0,
        other_bytes=0,
        macs=0,
        left_behind=(),
    )


def matched(layers, operators):
    """For each layer the numbers of its operators."""
    kernels = [kernel for layer in layers for kernel in kernels_of(layer)]
    owners = [number for number, layer in enumerate(layers) for _ in kernels_of(layer)]
    found = [[] for _ in layers]
    for position, (index, difference) in match(kernels, operators).items():
        assert difference == 0
        found[owners[position]].append(index)
    return found


def built(layer, shape):
    layer.build((None, *shape))
    return layer


def test_scaled_kernels_find_their_layers():
    """Also filters of gamma 0, and kernels in int8."""
    rng = np.random.default_rng(0)
    first, second = (built(L.Conv2D(4, 3, name=name), (8, 8, 2)) for name in ("a", "b"))
    rows = [layer.kernel.numpy().transpose(3, 0, 1, 2).reshape(4, -1) for layer in (first, second)]
    scaled = rows[0] * np.array([[2.0], [-0.5], [0.0], [1.0]])
    int8 = operator("CONV_2D", np.round(rows[1] / np.abs(rows[1]).max() * 127).astype(np.int8))
    other = real(rng.normal(size=(4, 18)))
    assert matched([second, first], [other, real(scaled), int8]) == [[2], [1]]


def test_layouts():
    depthwise = built(L.DepthwiseConv2D(3, depth_multiplier=2), (8, 8, 3))
    separable = built(L.SeparableConv2D(5, 3), (8, 8, 3))
    transposed = built(L.Conv2DTranspose(5, 3), (8, 8, 3))
    dense = built(L.Dense(5), (3,))
    kernels = [
        real(depthwise.depthwise_kernel.numpy().reshape(9, 6).T, "DEPTHWISE_CONV_2D"),
        real(separable.depthwise_kernel.numpy().reshape(9, 3).T, "DEPTHWISE_CONV_2D"),
        real(separable.pointwise_kernel.numpy().reshape(3, 5).T),
        real(transposed.kernel.numpy().transpose(2, 0, 1, 3).reshape(5, -1), "TRANSPOSE_CONV"),
        real(dense.kernel.numpy().T, "FULLY_CONNECTED"),
    ]
    found = matched([depthwise, separable, transposed, dense], kernels[::-1])
    assert found == [[4], [3, 2], [1], [0]]


def test_signs_and_inverted_filters():
    conv = built(larq_conv(4), (8, 8, 40))
    negative = conv.kernel.latent_variable.numpy().transpose(3, 0, 1, 2) < 0
    inverted = negative ^ np.array([True, False, True, False])[:, None, None, None]
    packed = operator(BINARY, pack_filters(inverted))
    assert matched([conv], [packed]) == [[0]]
    inverted[0, 0, 0, 0] ^= True
    inverted[1, 2, 2, 5] ^= True
    wrong = operator(BINARY, pack_filters(inverted))
    assert matched([conv], [wrong]) == [[]]
    # To a check of the file such an operator is the layer's, with an error.
    kernels = kernels_of(conv)
    assert match(kernels, [wrong], may_differ=True) == {0: (0, 2)}
    assert match(kernels, [wrong, packed], may_differ=True) == {0: (1, 0)}
    assert match(kernels, [wrong], may_differ=True, can_be=lambda kernel, index: False) == {}


def test_signs_of_a_filter_of_zeros_mean_nothing():
    filters = np.ones((2, 1, 1, 32), np.float32)
    filters[1] = 0
    negative = np.zeros(filters.shape, bool)
    negative[1, ..., ::2] = True
    assert Kernel(filters).difference(operator(BINARY, pack_filters(negative))) == 0


def test_equal_kernels_are_shared_out():
    """Two calls of a layer are two operators."""
    dense = built(L.Dense(5), (3,))
    rows = dense.kernel.numpy().T
    one, two = real(rows), real(rows)
    assert matched([dense, dense, dense], [one, two]) == [[0], [1], []]


def test_kernel_that_is_computed_belongs_to_nobody():
    assert matched([built(L.Dense(5), (3,))], [operator("FULLY_CONNECTED", None)]) == [[]]
