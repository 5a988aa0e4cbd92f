"""Converts a small Bi-Real Net of Keras on the machine itself, and runs the file beside Keras.

Usage: convert_keras.py FILE.tflite. For machines where nothing but the wheel with its extra
[tensorflow], and Larq, is installed.
"""

import platform
import sys
import time

import numpy as np

from bireal_keras import export, runtime, zoo
from bireal_keras._keras import keras, tf


def main(path: str) -> int:
    print(f"{platform.machine()}, Python {platform.python_version()}, TensorFlow {tf.__version__}")
    keras.utils.set_random_seed(0)
    model = zoo.BiRealNet18(
        input_shape=(16, 16, 3), num_classes=10, width=4, stem="cifar", weights=None
    )
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.gamma.assign(random.uniform(-1, 1, layer.gamma.shape))
            layer.moving_mean.assign(random.normal(size=layer.gamma.shape))
    start = time.time()
    print(export.convert(model, path))
    print(f"converted and checked in {time.time() - start:.0f} s")
    images = random.normal(size=(8, 16, 16, 3)).astype(np.float32)
    expected = model(images, training=False).numpy()
    actual = runtime.Interpreter(path).predict(images)
    equal = int((expected.argmax(axis=1) == actual.argmax(axis=1)).sum())
    print(f"top-1 as in Keras on {equal} of {len(images)}")
    return equal != len(images)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
