"""Image files as a person sees them: upright, in colour, on white paper.

This is the one definition for training, verification and devices. A JPEG in grey or colour is
the exception that TensorFlow may decode by itself, whose pixels every libjpeg agrees about:
`jpeg_orientation` says which one that is. Imports Pillow and NumPy, never TensorFlow.
"""

import contextlib
import functools
import io
import os
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from bireal_keras._pillow import Image, ImageFile

# This is what Pillow calls the formats that are read, and how such files are called. Others are
# not even looked at: Pillow starts Ghostscript for PostScript, also within IPTC.
_FORMATS = {
    "AVIF": (".avif",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "JPEG": (".jpeg", ".jpg"),
    "JPEG2000": (".jp2",),
    "PNG": (".png",),
    "PPM": (".pgm", ".ppm"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
# They are looked for in a folder; a file that is given by its path is read whatever its name.
SUFFIXES = tuple(suffix for suffixes in _FORMATS.values() for suffix in suffixes)

# A JPEG is decoded row by row, so a larger one can be scaled down while it is decoded, until it
# has at most this many pixels.
_WHOLE_JPEG_PIXELS = 2**25
_MAX_JPEG_PIXELS = 175_000_000
# Everything else is decoded whole, at 4 bytes a pixel. A progressive JPEG takes up to 6 bytes a
# pixel for its coefficients.
_MAX_PIXELS = 2**26
# This many rows are turned into RGB at a time.
_STRIP_ROWS = 256

# A camera says in this field how it was held. Source: EXIF 2.32, Section 4.6.4.
_ORIENTATION = 0x0112
_XMP_ORIENTATION = re.compile(rb"""tiff:Orientation(?:>|=["'])\s*([1-8])\b""")
_XMP_IN_JPEG = b"http://ns.adobe.com/xap/1.0/\0"
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(content: bytes) -> np.ndarray:
    """The pixels of an image file.

    Args:
        content: of a file in one of the formats of `SUFFIXES`.

    Returns:
        uint8 (height, width, 3). A JPEG of more than 33 million pixels comes at a half, a
        quarter or an eighth of its size.

    Raises:
        OSError: it cannot be read as an image.
        ValueError: it is larger than is read, or has pixels that are not colours.
    """
    image = read(io.BytesIO(content))
    return np.asarray(to_rgb(image, (0, 0, *image.size)))


def is_named_like_one(path: str | os.PathLike[str]) -> bool:
    """Whether a path is that of a regular file with a name that image files have."""
    return os.fspath(path).lower().endswith(SUFFIXES) and os.path.isfile(path)


def jpeg_orientation(content: bytes) -> int:
    """How a JPEG is to be turned, if any libjpeg decodes it to the pixels that `decode` gives.

    Args:
        content: of an image file.

    Returns:
        1 to 8 as in EXIF, or 0: the file is not a JPEG, or has four colours, or is so large that
        `decode` scales it.

    Raises:
        OSError, ValueError: as `decode`, as far as the header shows it.
    """
    with _opened(io.BytesIO(content)) as image:
        plain = _is_jpeg(image) and image.mode in ("L", "RGB") and _scale(image) == 1
        return _orientation(image) if plain else 0


def read(source: str | os.PathLike[str] | BinaryIO) -> Image.Image:
    """The first frame of an image file, upright, in the colours that the file has.

    Args:
        source: path of an image file, or an open one.

    Raises:
        OSError, ValueError: as `decode`.
    """
    with _opened(source) as image:
        if _is_jpeg(image):
            scale = _scale(image)
            image.draft(None, (image.width // scale, image.height // scale))
        _bring_transparency_to_8_bits(image)
        image.load()
        # A PNG may say it after its pixels, and a TIFF is turned by Pillow while it is loaded.
        method = _TRANSPOSE.get(_orientation(image))
        return image if method is None else image.transpose(method)


def to_rgb(image: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    """A part of an image in RGB. Of 16 bits the upper 8 are used, and what is transparent is white.

    Args:
        image: of any mode.
        box: (left, top, right, bottom) in pixels.

    Raises:
        ValueError: its pixels are not colours.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image.crop(box)
    left, top, right, bottom = box
    result = Image.new("RGB", (right - left, bottom - top))
    for first in range(top, bottom, _STRIP_ROWS):
        strip = image.crop((left, first, right, min(first + _STRIP_ROWS, bottom)))
        result.paste(_strip_to_rgb(strip), (0, first - top))
    return result


class _Refused(ValueError):
    """What is not read by a rule of ours, and not because it is damaged."""


@contextlib.contextmanager
def _opened(source: str | os.PathLike[str] | BinaryIO) -> Iterator[ImageFile.ImageFile]:
    """Opens an image file; what Pillow raises on it becomes an OSError or a ValueError."""
    path = source if isinstance(source, (str, os.PathLike)) else None
    # Who opens a pipe waits for somebody to write into it.
    if path is not None and os.path.exists(path) and not os.path.isfile(path):
        raise OSError("it is not a regular file")
    if path is None and not hasattr(source, "read"):
        raise ValueError(
            "an image must be a path, an open file or, for `classify`, uint8 pixels or a Pillow "
            f"image. Received: {type(source).__name__}."
        )
    try:
        with Image.open(source, formats=_readable_formats()) as image:
            _check_size(image)
            yield image
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from error
    except Image.UnidentifiedImageError as error:
        raise OSError(
            f"it is not an image of a kind that is read ({', '.join(SUFFIXES)})"
        ) from error
    except (OSError, _Refused):
        raise
    except Exception as error:
        # Pillow's readers raise nearly anything on a damaged file.
        reason = str(error) or type(error).__name__
        raise OSError(f"the image cannot be decoded: {reason}") from error


@functools.cache
def _readable_formats() -> list[str]:
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]  # Older Pillows do not know AVIF.


def _is_jpeg(image: Image.Image) -> bool:
    return image.format in ("JPEG", "MPO")  # Telephones write MPO: several JPEGs in a file.


def _scale(image: Image.Image) -> int:
    """How many times smaller than it is a JPEG gets decoded."""
    pixels = image.width * image.height
    return next(scale for scale in (1, 2, 4, 8) if pixels <= scale**2 * _WHOLE_JPEG_PIXELS)


def _check_size(image: Image.Image) -> None:
    in_rows = _is_jpeg(image) and not image.info.get("progressive")
    pixels, limit = image.width * image.height, _MAX_JPEG_PIXELS if in_rows else _MAX_PIXELS
    if pixels > limit:
        raise _Refused(
            f"it has {image.width:,} x {image.height:,} pixels; of its kind, {limit:,} are read"
        )


def _bring_transparency_to_8_bits(image: ImageFile.ImageFile) -> None:
    """Of a PNG's transparent colour, which Pillow leaves in the file's depth, unlike the pixels."""
    transparency = image.info.get("transparency")
    if image.format != "PNG" or transparency is None:
        return
    depth = image.tile[0][3]
    if depth in ("L;2", "L;4"):
        image.info["transparency"] = transparency * (85 if depth == "L;2" else 17)
    elif depth == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in transparency)


def _orientation(image: Image.Image) -> int:
    """1 to 8, by EXIF or else by XMP; 1 where neither says it."""
    try:
        value: Any = image.getexif().get(_ORIENTATION)
    except Exception:  # Nobody can read these notes, and the pixels are there all the same.
        value = None
    if value not in range(1, 9):
        found = _XMP_ORIENTATION.search(_xmp(image))
        value = found[1] if found else 1
    return int(value)


def _xmp(image: Image.Image) -> bytes:
    """The XMP of a file, of which Pillow has a place for each kind of file and version."""
    for content in (image.info.get("xmp"), image.info.get("XML:com.adobe.xmp")):
        if content:
            return content.encode() if isinstance(content, str) else bytes(content)
    for name, content in getattr(image, "applist", ()):
        if name == "APP1" and content.startswith(_XMP_IN_JPEG):
            return content
    return b""


def _strip_to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers, whose range nobody knows")
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise ValueError("its pixels have more than 16 bits")
        grey = (values >> 8).astype(np.uint8)
        grey[values == image.info.get("transparency")] = 255
        return Image.fromarray(grey).convert("RGB")
    if image.mode.upper().endswith("A") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
