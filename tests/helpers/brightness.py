"""A classifier whose answers anybody can tell."""

import numpy as np
from lce_ops import Bconv2d, Op, Tensor, build_model, constant, pack

from bireal_keras.runtime import Metadata, Normalization
from bireal_keras.tflite.metadata_writer import embed

SIZE = (4, 4)


def brightness(
    *, classes=2, labels=("dark", "bright"), size=SIZE, bias=(0.5, 0.5), threshold=0.0, **metadata
):
    """A classifier of images by their brightness, as the content of a file.

    Quantize -> 1-bit convolution over all 4x4 pixels with weights -1 and +1 -> float. Its
    metadata make 0 of a pixel that is as bright as `threshold`, from 0 to 1.
    """
    case = Bconv2d(1, 4, 4, 3, classes, filter_size=(4, 4), padding=1)
    case.kernel[0], case.kernel[1:] = -1, 1
    case.multiplier[:], case.bias[:] = 1 / 96, bias
    tensors = [Tensor((1, 4, 4, 3)), Tensor((1, 4, 4, 1), np.int32)]
    tensors += [constant(pack(case.kernel)), constant(case.multiplier), constant(case.bias)]
    tensors += [Tensor((1, 1, 1, classes)), constant(np.array([1, classes], np.int32))]
    tensors += [Tensor((1, classes))]
    ops = [
        Op("LceQuantize", [0], [1]),
        Op("LceBconv2d", [1, 2, 3, 4, -1], [5], case.options),
        Op("RESHAPE", [5, 6], [7]),
    ]
    normalization = Normalization(mean=255 * threshold, std=255)
    return embed(
        build_model(tensors, ops, [0], [7]),
        Metadata(labels, size, normalization, **metadata),
        name="brightness",
    )
