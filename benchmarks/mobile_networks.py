"""Real-valued networks for devices, to compare 1-bit ones with: of Keras, with random weights.

How fast they are does not depend on the weights. EfficientNet-Lite0 is EfficientNet-B0 without
squeeze-and-excitation and with ReLU6, as its authors describe it:
https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite.
"""

import copy
import functools
import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from bireal_keras._keras import keras, tf


class Network(NamedTuple):
    """A network and its accuracy on ImageNet in percent, as literature states it, or None."""

    build: Callable[..., keras.Model]
    top1_float32: float
    top1_int8: float | None
    source: str


def _lite0(**arguments: Any) -> keras.Model:
    # The public namespace has the finished networks only.
    efficientnet = importlib.import_module("tf_keras.src.applications.efficientnet")
    blocks = copy.deepcopy(efficientnet.DEFAULT_BLOCKS_ARGS)
    for block in blocks:
        block["se_ratio"] = 0
    return efficientnet.EfficientNet(
        width_coefficient=1.0,
        depth_coefficient=1.0,
        default_size=224,
        activation=tf.nn.relu6,
        blocks_args=blocks,
        model_name="efficientnet_lite0",
        **arguments,
    )


_KERAS = "https://keras.io/api/applications"
_SLIM = "https://github.com/tensorflow/models/tree/master/research/slim/nets/mobilenet"
_LITE = "https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite"
_build = keras.applications

NETWORKS = {
    "MobileNetV1": Network(_build.MobileNet, 70.4, None, _KERAS),
    "MobileNetV2": Network(_build.MobileNetV2, 71.3, None, _KERAS),
    "MobileNetV2-0.35": Network(
        functools.partial(_build.MobileNetV2, alpha=0.35), 60.3, None, _SLIM
    ),
    "MobileNetV3Small": Network(_build.MobileNetV3Small, 67.5, 64.9, _SLIM),
    "MobileNetV3Large": Network(_build.MobileNetV3Large, 75.2, 73.9, _SLIM),
    "EfficientNetLite0": Network(_lite0, 75.1, 74.4, _LITE),
    "EfficientNetB0": Network(_build.EfficientNetB0, 77.1, None, _KERAS),
}


def makers() -> dict[str, Callable[[], bytes]]:
    """ "NAME float32" and "NAME int8": what makes the .tflite file."""
    return {
        f"{name} {kind}": functools.partial(_convert, network.build, kind == "int8")
        for name, network in NETWORKS.items()
        for kind in ("float32", "int8")
    }


def literature(name: str) -> dict[str, Any]:
    """By a name of `makers`: `top1` on ImageNet in percent, or None, and its `source`."""
    network, kind = name.split(" ")
    _, float32, int8, source = NETWORKS[network]
    return {"top1": float32 if kind == "float32" else int8, "source": source}


def _convert(build: Callable[..., keras.Model], int8: bool) -> bytes:
    # With any other number of images, XNNPACK does not take MobileNetV3.
    return convert(build(weights=None, input_tensor=keras.Input((224, 224, 3), batch_size=1)), int8)


def convert(model: keras.Model, int8: bool) -> bytes:
    """The .tflite file of a real-valued model for images of 224x224, in float32 or int8."""
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if int8:
        random = np.random.default_rng(0)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: (
            [random.uniform(-1, 1, (1, 224, 224, 3)).astype(np.float32)] for _ in range(2)
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        # Quantize and dequantize are not to be timed.
        converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()
