"""From an image file to a model's input."""

import os

import numpy as np
from PIL import Image, ImageOps


def load_image(path: str | os.PathLike[str], height: int, width: int) -> np.ndarray:
    """Reads an image the way the training pipelines prepare images for evaluation.

    Args:
        path: of an image file. Grey becomes RGB, transparency is dropped, the orientation
            in EXIF data is applied.
        height, width: of the result, in pixels.

    Returns:
        The central square, resized: float32 (height, width, 3) in [-1, 1].

    Raises:
        OSError: the file cannot be read as an image.
        ValueError: the image is unreasonably large.
    """
    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file).convert("RGB")
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from error
    except (SyntaxError, ValueError) as error:
        # What some of Pillow's readers say of a damaged file.
        raise OSError(f"cannot read the image: {error}") from error
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    image = image.resize((width, height), Image.Resampling.BILINEAR, box=box)
    return np.asarray(image, np.float32) / 127.5 - 1.0
