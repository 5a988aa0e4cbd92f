"""Bi-Real-18 on small images, end to end: Keras, LCE's kernels and our runtime.

At 32x32 and 64x64 the last stages' maps are 1x1 and 2x2, smaller than their filters: where
LCE 0.16's default kernel goes wrong without a word.

Two correct programs may round a value near zero to different signs, and one sign can change
everything after it. So the network here has weights that leave nothing to round: see
`set_exact_weights`. Whatever differs then is wrong.
"""

from types import SimpleNamespace

import numpy as np
import pytest
from export_helpers import packed
from photographs import squares

from bireal_keras import runtime
from bireal_keras._keras import keras, lq
from bireal_keras.zoo import BiRealNet18

IMAGES = 256
CLASSES = 10


def real_images(size: int) -> np.ndarray:
    """Parts of photographs in multiples of 1/128, enlarged by repeating pixels."""
    images = (squares(IMAGES, 32).astype(np.float32) - 128) / 128
    return images.repeat(size // 32, axis=1).repeat(size // 32, axis=2)


def set_exact_weights(model: keras.Model) -> None:
    """Gives every value before a sign few binary digits, and none of them zero.

    Weights and scales are powers of two or multiples of one, so that float32 sums are exact
    in any order. The stem's values are multiples of 2^-11, and an offset of half a step
    keeps them, and what the blocks add to them, off zero; average pooling over four pixels
    makes the step four times smaller, and the next stage's offset follows.
    """
    random = np.random.default_rng(0)
    offset = 2.0**-12
    for layer in model.layers:
        shapes = [tuple(weight.shape) for weight in layer.weights]
        if layer.name == "stem_conv":
            layer.set_weights([random.integers(-4, 5, shapes[0]) / 16])
        elif isinstance(layer, lq.layers.QuantConv2D):
            layer.set_weights([random.choice([-1, 1], shapes[0]) / 8])
        elif isinstance(layer, keras.layers.Conv2D):
            _, _, channels_in, channels_out = shapes[0]
            channel = np.arange(channels_out) % channels_in
            layer.set_weights([np.eye(channels_in)[channel].T[None, None]])
        elif isinstance(layer, keras.layers.BatchNormalization):
            (channels,) = shapes[0]
            gamma, beta = np.ones(channels), np.zeros(channels)
            if layer.name == "stem_bn":
                beta += offset
            elif layer.name.endswith("_shortcut_bn"):
                offset /= 4
                beta += offset
            else:
                # A convolution's values spread as the root of the number of its weights.
                gamma *= random.choice([-1, 1], channels) / 2 ** (2 if channels < 256 else 3)
                beta += random.integers(-8, 9, channels) / 16
            variance = np.full(channels, np.float32(1) - np.float32(layer.epsilon))
            layer.set_weights([gamma, beta, np.zeros(channels), variance])


@pytest.fixture(scope="module", params=[32, 64])
def small_maps(request):
    """Of images of one size: .images, .content, a file with all signs, and .expected of it."""
    images = real_images(request.param)
    model = BiRealNet18(input_shape=images.shape[1:], num_classes=CLASSES)
    set_exact_weights(model)

    # One output has the logits, and what each sign sees.
    signed = [layer.input for layer in model.layers if isinstance(layer, lq.layers.QuantConv2D)]
    assert len(signed) == 16
    flat = [keras.layers.Flatten()(tensor) for tensor in signed]
    logits = model.get_layer("head_fc").output
    probe = keras.Model(model.input, keras.layers.Concatenate()([logits, *flat]))
    expected = probe.predict(images, batch_size=32, verbose=0)
    return SimpleNamespace(images=images, content=packed(probe), expected=expected)


@pytest.mark.proof
def test_runtime_agrees_with_keras(small_maps):
    # Winograd's coefficients, in the delegate's stem, would round what is exact here.
    interpreter = runtime.Interpreter(small_maps.content, num_threads=2, float_ops="litert")
    output, expected = interpreter.predict(small_maps.images), small_maps.expected

    signs = expected[:, CLASSES:]
    assert np.abs(signs).min() > 0
    assert 0.3 < (signs < 0).mean() < 0.7
    # With AVX-512, TensorFlow's BatchNormalization takes the reciprocal root of 1 for one rounding
    # less than 1. Elsewhere the values are equal.
    np.testing.assert_array_equal(output[:, CLASSES:] < 0, signs < 0)
    np.testing.assert_allclose(output[:, CLASSES:], signs, rtol=0, atol=2e-6)
    output, expected = output[:, :CLASSES], expected[:, :CLASSES]
    print(
        f"on {IMAGES} images no sign differs; logits, up to {np.abs(expected).max():.1f}, differ "
        f"by at most {np.abs(output - expected).max():.1e}; top-1 equal on "
        f"{np.sum(output.argmax(axis=1) == expected.argmax(axis=1))}"
    )
    np.testing.assert_allclose(output, expected, rtol=0, atol=1e-3)
    np.testing.assert_array_equal(output.argmax(axis=1), expected.argmax(axis=1))
    assert len(np.unique(expected.argmax(axis=1))) > 1


@pytest.mark.proof
def test_lce_default_kernel_does_not(lce, small_maps):
    from larq_compute_engine.tflite.python.interpreter import Interpreter

    expected = small_maps.expected[:, :CLASSES]
    default = Interpreter(small_maps.content).predict(small_maps.images)[:, :CLASSES]
    wrong = np.abs(default - expected).max(axis=1)
    other_class = np.sum(default.argmax(axis=1) != expected.argmax(axis=1))
    print(
        f"LCE's default kernel: logits differ by {np.median(wrong):.2f} (median) to "
        f"{wrong.max():.2f}, top-1 differs on {other_class}"
    )
    assert np.median(wrong) > 0.1 * np.abs(expected).max()
