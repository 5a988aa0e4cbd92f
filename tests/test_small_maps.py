"""Bi-Real-18 on small images, end to end: Keras, LCE's kernels and our runtime.

At 32x32 and 64x64 the last stages' maps are 1x1 and 2x2, smaller than their filters: where
LCE 0.16's default kernel goes wrong without a word.
"""

import numpy as np
import pytest

from bireal_keras import runtime
from bireal_keras._keras import keras, lq, tf
from bireal_keras.zoo import BiRealNet18

IMAGES = 256
CLASSES = 10


def cifar10(split: str, size: int, data_dir) -> tuple[np.ndarray, np.ndarray]:
    import tensorflow_datasets as tfds

    data = tfds.load("cifar10", split=split, data_dir=str(data_dir), download=False, batch_size=-1)
    images = tf.image.resize(tf.cast(data["image"], tf.float32) / 127.5 - 1, (size, size))
    return images.numpy(), data["label"].numpy()


def fitted(images: np.ndarray, labels: np.ndarray) -> keras.Model:
    """A network that knows these images: one flipped sign of thousands, of a value that is
    zero but for rounding, should not change its mind."""
    model = BiRealNet18(input_shape=images.shape[1:], num_classes=CLASSES)
    model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy")
    model.fit(images, labels, batch_size=64, epochs=7, verbose=0)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("size", [32, 64])
def test_runtime_agrees_with_keras_and_lce_default_kernel_does_not(size, shared_tfds):
    lce = pytest.importorskip("larq_compute_engine", reason="LCE has no wheel for this platform")
    from larq_compute_engine.tflite.python.interpreter import Interpreter as LceInterpreter

    images, labels = cifar10(f"test[:{IMAGES}]", size, shared_tfds)
    model = fitted(images, labels)

    # Logits, and what each sign sees, in one output.
    signed = [layer.input for layer in model.layers if isinstance(layer, lq.layers.QuantConv2D)]
    assert len(signed) == 16
    flat = [keras.layers.Flatten()(tensor) for tensor in signed]
    logits = model.get_layer("head_fc").output
    probe = keras.Model(model.input, keras.layers.Concatenate()([logits, *flat]))
    expected = probe.predict(images, batch_size=32, verbose=0)
    content = lce.convert_keras_model(probe)
    output = runtime.Interpreter(content, num_threads=2).predict(images)

    flips = ((output[:, CLASSES:] < 0) != (expected[:, CLASSES:] < 0)).sum(axis=1)
    difference = np.abs(output - expected)[:, :CLASSES].max(axis=1)
    same_class = output[:, :CLASSES].argmax(axis=1) == expected[:, :CLASSES].argmax(axis=1)
    print(
        f"{size}x{size}: {np.count_nonzero(flips)} of {IMAGES} images with a flipped sign, "
        f"logits differ by {difference[flips == 0].max():.2e} without, "
        f"{difference.max():.2e} with; top-1 equal on {same_class.sum()}"
    )
    assert np.count_nonzero(flips == 0) > 0.9 * IMAGES
    assert difference[flips == 0].max() < 1e-3
    assert same_class.all()

    default = LceInterpreter(content).predict(images)[:, :CLASSES]
    wrong = np.abs(default - expected[:, :CLASSES]).max(axis=1)
    print(f"LCE's default kernel: logits differ by up to {wrong.max():.2e}")
    assert np.median(wrong) > 1e-2
