"""From an image to a model's input."""

import os
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from bireal_keras.tflite.metadata import Metadata

# A PostScript file is a program: Pillow would start Ghostscript to run it.
_PROGRAMS = ("EPS",)


def load_image(source: str | os.PathLike[str] | BinaryIO, metadata: Metadata) -> np.ndarray:
    """Reads an image the way the training pipelines prepare images for evaluation.

    Args:
        source: path of an image file, or an open one: JPEG, PNG and whatever else Pillow reads.
            The orientation in EXIF data is applied. See `prepare` for the rest.
        metadata: `Interpreter.metadata`.

    Returns:
        float32 (height, width, 3), normalized.

    Raises:
        OSError: the file cannot be read as an image.
        ValueError: the image is unreasonably large or a PostScript program, or `metadata` say
            no size.
    """
    return prepare(_read(source), metadata)


def prepare(image: Image.Image, metadata: Metadata) -> np.ndarray:
    """Makes a model's input of an image in memory.

    Args:
        image: of any size and mode. Grey becomes RGB, of 16 bits the upper 8 are used, what is
            transparent shows white behind it, and of an animation the first frame is taken.
        metadata: what the model wants: the central part of the image (`center_crop`) in the
            proportions of `image_size`, resized and normalized.

    Returns:
        float32 (height, width, 3).

    Raises:
        ValueError: `metadata` say no size, or the image has pixels that are no colours.
    """
    if metadata.image_size is None:
        raise ValueError("`metadata` must have an `image_size`. Received: None.")
    height, width = metadata.image_size
    # Cropped first: resizing must not see what is outside, and the rest costs less.
    image = _to_rgb(image.crop(_central_box(image, metadata)))
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    mean = np.array(metadata.normalization.mean, np.float32)
    std = np.array(metadata.normalization.std, np.float32)
    # In this order, so that [-1, 1] is to the last bit what training sees.
    return np.asarray(image, np.float32) / std - mean / std


def _read(source: str | os.PathLike[str] | BinaryIO) -> Image.Image:
    """The first frame of an image file, upright."""
    try:
        with Image.open(source) as image:
            if image.format not in _PROGRAMS:
                return ImageOps.exif_transpose(image)
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from error
    except Image.UnidentifiedImageError as error:
        raise OSError("it is no image, or of a kind that Pillow does not read") from error
    except OSError:
        raise
    except Exception as error:
        # Pillow's readers raise nearly anything on a damaged file.
        reason = str(error) or type(error).__name__
        raise OSError(f"the image cannot be decoded: {reason}") from error
    raise ValueError("PostScript is not read: it is a program")


def _central_box(image: Image.Image, metadata: Metadata) -> tuple[int, int, int, int]:
    """(left, top, right, bottom); for a square as `preprocessing.preprocess` rounds it."""
    assert metadata.image_size is not None
    height, width = metadata.image_size
    reach = metadata.center_crop * min(image.height, image.width * height / width)
    box_height = max(1, round(reach))
    box_width = max(1, round(reach * width / height))
    left, top = (image.width - box_width) // 2, (image.height - box_height) // 2
    return left, top, left + box_width, top + box_height


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers, whose range nobody knows")
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise ValueError("its pixels have more than 16 bits")
        return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
    if image.mode.upper().endswith("A") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
