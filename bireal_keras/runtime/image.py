"""From an image to a model's input."""

import os
from typing import BinaryIO

import numpy as np

from bireal_keras import image_file
from bireal_keras._pillow import Image
from bireal_keras.tflite.metadata import Metadata


def load_image(source: str | os.PathLike[str] | BinaryIO, metadata: Metadata) -> np.ndarray:
    """Reads an image the way the training pipelines prepare images for evaluation.

    Args:
        source: path of an image file, or an open one: AVIF, BMP, GIF, JPEG, JPEG 2000, PGM, PNG,
            PPM, TIFF or WebP. It is turned upright as EXIF or XMP says. See `prepare` for the
            rest.
        metadata: `Interpreter.metadata`.

    Returns:
        float32 (height, width, channels), normalized; uint8 for a model that takes pixels.

    Raises:
        OSError: the file cannot be read as an image.
        ValueError: the image is unreasonably large or has pixels that are not colours, or
            `metadata` say no size.
    """
    return prepare(image_file.read(source), metadata)


def prepare(image: Image.Image, metadata: Metadata) -> np.ndarray:
    """Makes a model's input of an image in memory.

    Args:
        image: of any size and mode. It becomes RGB, or grey for a model of one channel; of 16
            bits the upper 8 are used, and what is transparent is white.
        metadata: what the model wants: the central part of the image (`center_crop`) in the
            proportions of `image_size`, resized and normalized.

    Returns:
        float32 (height, width, channels); for a model that takes pixels they are that, uint8.

    Raises:
        ValueError: `metadata` say no size, or the image has pixels that are not colours.
    """
    if metadata.image_size is None:
        raise ValueError("`metadata` must have an `image_size`. Received: None.")
    height, width = metadata.image_size
    # Cropped first: resizing must not see what is outside, and the rest costs less.
    image = image_file.to_rgb(image, central_box(image, metadata))
    if metadata.channels == 1:
        image = image.convert("L")
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image).reshape(height, width, metadata.channels)
    if metadata.takes_pixels:
        return pixels
    mean = np.array(metadata.normalization.mean, np.float32)
    std = np.array(metadata.normalization.std, np.float32)
    # In this order, so that [-1, 1] is to the last bit what training sees.
    return pixels.astype(np.float32) / std - mean / std


def central_box(image: Image.Image, metadata: Metadata) -> tuple[int, int, int, int]:
    """What a model sees of an image.

    Args:
        image: of any size.
        metadata: as for `prepare`, with an `image_size`.

    Returns:
        (left, top, right, bottom) in pixels; of a square as `preprocessing.preprocess` rounds it.
    """
    assert metadata.image_size is not None
    height, width = metadata.image_size
    # A square's ratio is exactly 1, so that nothing is rounded twice.
    reach = metadata.center_crop * min(image.height, image.width * (height / width))
    box_height = max(1, round(reach))
    box_width = max(1, round(reach * (width / height)))
    left, top = (image.width - box_width) // 2, (image.height - box_height) // 2
    return left, top, left + box_width, top + box_height
