"""The conversion of a Keras model, whichever Keras it is of."""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bireal_keras.export.report import Report
from bireal_keras.tflite.metadata import Normalization

if TYPE_CHECKING:
    from bireal_keras._keras import keras

CONVERTERS = ("bireal", "lce")


def convert(
    model: "keras.Model",
    path: str | os.PathLike[str],
    *,
    labels: Sequence[str] | None = None,
    normalization: Normalization | None = None,
    center_crop: float = 1.0,
    samples: np.ndarray | Sequence[np.ndarray] | None = None,
    allow_float: bool = False,
    real_layers: str = "float32",
    input_type: str = "float32",
    converter: str = "bireal",
) -> Report:
    """Converts a Keras model to a `.tflite` file with bit-packed convolutions.

    TensorFlow's converter makes a float file of the model, and
    `bireal_keras.export.binarize.binarize` packs its 1-bit layers. One that stays float is an
    error. So is a file that does not compute what Keras computes, on our runtime and, where it is
    installed and can run the file, on Larq Compute Engine's (LCE's) reference kernel. The file is
    written in one step and only when everything is right: a file that was there before is replaced
    or stays as it was.

    Layers that compute in another precision than float32 are converted in float32. `model` itself
    stays as it is.

    A model of Keras 3 is converted likewise, but its file is compared with the float file that
    TensorFlow's converter wrote, as `convert_tflite` does, and layers go by that file's names.

    Args:
        model: a functional or sequential model of legacy Keras, or a subclassed one that has been
            called; or a functional or sequential one of Keras 3, whose backend is TensorFlow. It
            takes one or several float32 tensors (batch, ...) of fixed sizes, as images
            (batch, height, width, channels), and gives one or several tensors. If it fixes the
            number of images, the file takes as many at a time, otherwise one.
        path: the file to write; its folder exists.
        labels: names of the classes, to travel inside the file: one for each value of its only
            output.
        normalization: what the model's images are made of pixels by; travels inside the file.
            Default: what a first layer `Rescaling` or `Normalization` says, or else
            `Normalization()`, images in [-1, 1], as training feeds them. Published weights take
            `zoo.imagenet.NORMALIZATION`, unless `zoo.imagenet.standardize` is a part of the
            model.
        center_crop: how much of an image the model is to see, see `runtime.Metadata`; travels
            inside the file. A recipe's `dataset.center_crop`.
        samples: images to compare the file with Keras on, float32
            (at least 8, height, width, channels), preprocessed as for training; for a model of
            several inputs a list, one array for each. Default: 32 artificial ones.
        allow_float: whether to write the file though a 1-bit layer stayed float.
        real_layers: precision of the kernels of real-valued layers, "float32", "float16" or
            "int8": see `bireal_keras.export.real_layers`.
        input_type: what the file takes: "float32", images as the model takes them, or "uint8",
            their pixels, see `bireal_keras.export.pixel_input`.
        converter: "bireal", as described, or "lce", for legacy Keras: LCE's own, which packs less,
            and whose reference kernel has to run the file.

    Returns:
        What became of the model, layer by layer.

    Raises:
        ValueError: an argument is out of its range; a 1-bit layer stayed float, with the
            reason of each; the model cannot be converted, or the file does not agree with it.
        ImportError: LCE is asked for and not installed.
    """
    if converter not in CONVERTERS:
        raise ValueError(
            f"`converter` must be one of {', '.join(CONVERTERS)}. Received: {converter!r}."
        )
    options: dict[str, Any] = {
        "labels": labels,
        "normalization": normalization,
        "center_crop": center_crop,
        "samples": samples,
        "allow_float": allow_float,
        "real_layers": real_layers,
        "input_type": input_type,
    }
    # Each front end imports its Keras: an environment may lack the other.
    if not _is_of_keras3(model):
        from bireal_keras.export import legacy_keras

        return legacy_keras.convert(model, path, converter=converter, **options)
    if converter != "bireal":
        raise ValueError(
            "`converter` must be 'bireal' for a model of Keras 3: LCE works with legacy Keras "
            f"only. Received: converter={converter!r}."
        )
    from bireal_keras.export import from_keras3

    return from_keras3.convert(model, path, **options)


def _is_of_keras3(model: Any) -> bool:
    keras3 = sys.modules.get("keras")
    return keras3 is not None and isinstance(model, keras3.Model)
