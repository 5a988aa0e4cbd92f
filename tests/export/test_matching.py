"""Operators are told apart by their kernels, whatever BatchNormalization has made of them."""

import numpy as np
from export_helpers import larq_conv

from bireal_keras._keras import keras
from bireal_keras.export import flatbuffer, matching

L = keras.layers


def real(kernel, kind="CONV_2D"):
    return operator(kind, kernel.astype(np.float32))


def operator(kind, kernel):
    return flatbuffer.Multiplication(
        kind=kind,
        output="",
        kernel=kernel,
        weights=0,
        kernel_bytes=0,
        other_bytes=0,
        macs=0,
        left_behind=(),
    )


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
    found = matching.match([second, first], [other, real(scaled), int8])
    assert [[id(op) for op in ops] for ops in found] == [[id(int8)], [id(found[1][0])]]
    np.testing.assert_array_equal(found[1][0].kernel, scaled.astype(np.float32))


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
    found = matching.match([dense, transposed, separable, depthwise], kernels[::-1])
    wanted = [kernels[4:], kernels[3:4], kernels[1:3], kernels[:1]]
    assert [list(map(id, ops)) for ops in found] == [list(map(id, ops)) for ops in wanted]


def test_signs_and_inverted_filters():
    conv = built(larq_conv(4), (8, 8, 40))
    negative = conv.kernel.latent_variable.numpy().transpose(3, 0, 1, 2) < 0
    inverted = negative ^ np.array([True, False, True, False])[:, None, None, None]
    packed = operator(flatbuffer.BINARY, flatbuffer.packed_filters(inverted))
    assert matching.match([conv], [packed])[0][0] is packed
    inverted[0, 0, 0, 0] ^= True
    wrong = operator(flatbuffer.BINARY, flatbuffer.packed_filters(inverted))
    assert matching.match([conv], [wrong]) == [[]]


def test_equal_kernels_are_shared_out():
    """Two calls of a layer are two operators."""
    dense = built(L.Dense(5), (3,))
    rows = dense.kernel.numpy().T
    one, two = real(rows), real(rows)
    found = matching.match([dense, dense, dense], [one, two])
    assert [list(map(id, ops)) for ops in found] == [[id(one)], [id(two)], []]


def test_kernel_that_is_computed_belongs_to_nobody():
    assert matching.match([built(L.Dense(5), (3,))], [operator("FULLY_CONNECTED", None)]) == [[]]
