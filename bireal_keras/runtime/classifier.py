"""From an image to the names of what is in it."""

import os
from typing import Any, BinaryIO, TypeAlias, overload

import numpy as np

from bireal_keras._pillow import Image
from bireal_keras.runtime import results
from bireal_keras.runtime.image import load_image, prepare
from bireal_keras.runtime.interpreter import Interpreter
from bireal_keras.runtime.results import Guess

ImageLike: TypeAlias = str | os.PathLike[str] | BinaryIO | np.ndarray | Image.Image
ModelLike: TypeAlias = str | os.PathLike[str] | bytes | Interpreter


@overload
def classify(images: ImageLike, model: ModelLike, *, top_k: int = 5) -> list[Guess]: ...


@overload
def classify(
    images: list[Any] | tuple[Any, ...], model: ModelLike, *, top_k: int = 5
) -> list[list[Guess]]: ...


def classify(
    images: ImageLike | list[Any] | tuple[Any, ...], model: ModelLike, *, top_k: int = 5
) -> list[Guess] | list[list[Guess]]:
    """Says what is in images, which are cropped, resized and normalized as the model's file says.

    Args:
        images: an image file as `load_image` takes it, or pixels: uint8 (height, width, 3) or grey
            (height, width), or a Pillow image. Or a list or tuple of such.
        model: a classifier: path of a .tflite file, its bytes, or an `Interpreter`, which is
            faster for several calls.
        top_k: how many classes to return.

    Returns:
        The most probable classes, the most probable one first; of a list of images, a list of
        such lists.

    Raises:
        OSError: a file cannot be read, or an image not be decoded.
        ValueError: the model is not a classifier of images or gives NaN, an image is none of these
            or its pixels are not uint8 of such a shape, or `top_k` is not a whole number from 1.
    """
    if not isinstance(model, Interpreter):
        with Interpreter(model) as interpreter:
            return classify(images, interpreter, top_k=top_k)
    check(model)
    if isinstance(images, (list, tuple)):
        return [_classify(image, model, top_k) for image in images]
    return _classify(images, model, top_k)


def _classify(image: ImageLike, model: Interpreter, top_k: int) -> list[Guess]:
    if isinstance(image, np.ndarray):
        image = _from_pixels(image)
    if isinstance(image, Image.Image):
        values = prepare(image, model.metadata)
    else:
        values = load_image(image, model.metadata)
    return results.top_k(model.predict(values[None])[0], model.metadata.labels, top_k)


def check(interpreter: Interpreter) -> None:
    """Raises a ValueError unless a model takes images and gives scores, with a name for each."""
    name = interpreter.name
    for what, tensors in (("input", interpreter.inputs), ("output", interpreter.outputs)):
        if len(tensors) != 1:
            raise ValueError(f"{name}: must have one {what}. Received: {len(tensors)}.")
    [image], [scores] = interpreter.inputs, interpreter.outputs
    is_image = len(image.shape) == 4 and image.shape[-1] in (1, 3)
    if not is_image or image.dtype not in (np.float32, np.uint8):
        raise ValueError(
            f"{name}: must take images (batch, height, width, 3), or 1 if they are grey, "
            f"float32 or uint8. Received: {image}."
        )
    if len(scores.shape) != 2 or scores.dtype != np.float32:
        raise ValueError(f"{name}: must give float32 (batch, classes). Received: {scores}.")
    labels, classes = interpreter.metadata.labels, scores.shape[1]
    if labels and len(labels) != classes:
        raise ValueError(f"{name}: holds {len(labels)} class names for {classes} classes.")


def _from_pixels(pixels: np.ndarray) -> Image.Image:
    grey = pixels.ndim == 2
    if pixels.dtype != np.uint8 or not (grey or (pixels.ndim == 3 and pixels.shape[2] == 3)):
        raise ValueError(
            "`image` must be pixels from 0 to 255, uint8 (height, width, 3) or (height, width). "
            f"Received: {pixels.dtype} {pixels.shape}."
        )
    if pixels.size == 0:
        raise ValueError(f"`image` must have pixels. Received: {pixels.dtype} {pixels.shape}.")
    return Image.fromarray(pixels)
