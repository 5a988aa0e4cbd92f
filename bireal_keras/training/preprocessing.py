"""What an image goes through before the network sees it, in training and outside.

Outside training there is one way, `preprocess`; the classifier on the device goes it too.
In training a recipe names one of `AUGMENTATIONS`.

An image is a uint8 tensor (height, width, 3), or a string: the content of a file of any kind that
`image_file` reads. Of a JPEG only the part that is used gets decoded.
"""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from bireal_keras import image_file
from bireal_keras._checks import check_share
from bireal_keras._keras import tf

# It maps an image's height and width to the part of it to use: (top, left, height, width).
_ChooseBox = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]]

# These are the principal components of the colours in ImageNet, for values in [0, 1], a column
# each, and their weights. Source: https://github.com/facebookarchive/fb.resnet.torch,
# datasets/imagenet.lua.
_COLOUR_WEIGHTS = (0.2175, 0.0188, 0.0045)
_COLOUR_COMPONENTS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)


# It is libjpeg's default. TensorFlow's own default is another one, and not faster.
_DCT_METHOD = "INTEGER_ACCURATE"
# libjpeg smooths colours across columns, and across the border of what it decodes it cannot.
_JPEG_MARGIN = 2


def decode(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes the content of an image file, a string scalar, to uint8 (height, width, 3).

    The pixels are `image_file.decode`'s, to the last bit: upright, and white where the image is
    transparent.
    """
    return _crop(encoded, lambda height, width: (0, 0, height, width))


def check(content: bytes) -> None:
    """Decodes an image file as `decode` does, but with an error that a person can read.

    Raises:
        OSError: it cannot be read as an image.
        ValueError: it is larger than is read, or has pixels that are not colours.
    """
    if not image_file.jpeg_orientation(content):
        image_file.decode(content)
        return
    try:
        tf.io.decode_jpeg(content, dct_method=_DCT_METHOD)
    except tf.errors.InvalidArgumentError as error:
        # TensorFlow speaks of its own ops, and Pillow of what is wrong with the file.
        image_file.decode(content)
        raise OSError("the JPEG is damaged: TensorFlow cannot decode it") from error


def preprocess(image: tf.Tensor, image_size: int, *, center_crop: float = 1.0) -> tf.Tensor:
    """What every image goes through outside training: centre square, resized, in [-1, 1].

    Args:
        image: uint8 or float pixels (height, width, 3) in [0, 255], or an encoded image.
        image_size: height and width of the result in pixels. The resampling is bilinear
            and, where it shrinks, averages over the pixels it drops, as Pillow's does.
        center_crop: side of the square as a share of the image's shorter side. ImageNet's
            custom is 224 / 256: resize the shorter side to 256, then cut out 224.

    Returns:
        float32 (image_size, image_size, 3) in [-1, 1].

    Raises:
        ValueError: `center_crop` is not in (0, 1].
    """
    check_share(center_crop=center_crop)
    return _scale(_center_square(image, image_size, center_crop))


def _crop(image: tf.Tensor, choose_box: _ChooseBox) -> tf.Tensor:
    """The part of an image that `choose_box` chooses, with the dtype of the pixels."""

    def of_pixels(pixels: tf.Tensor) -> tf.Tensor:
        box = choose_box(*tf.unstack(tf.shape(pixels)[:2]))
        return tf.image.crop_to_bounding_box(pixels, *box)

    if image.dtype != tf.string:
        return of_pixels(image)
    orientation = _in_python(image_file.jpeg_orientation, image, tf.int32, ())
    part = tf.cond(
        orientation > 0,
        lambda: _crop_jpeg(image, orientation, choose_box),
        lambda: of_pixels(_in_python(image_file.decode, image, tf.uint8, (None, None, 3))),
    )
    return tf.ensure_shape(part, (None, None, 3))


def _in_python(
    function: Callable[[bytes], Any], encoded: tf.Tensor, dtype: tf.DType, shape: tuple[Any, ...]
) -> tf.Tensor:
    """What a function of Python makes of the content of a file."""

    def call(content: Any) -> np.ndarray:
        # TensorFlow hands over bytes within a graph, and an array of them outside.
        return np.asarray(function(np.asarray(content, object).item()), dtype.as_numpy_dtype)

    return tf.ensure_shape(tf.numpy_function(call, [encoded], dtype, stateful=False), shape)


def _crop_jpeg(encoded: tf.Tensor, orientation: tf.Tensor, choose_box: _ChooseBox) -> tf.Tensor:
    """Decodes the part of a JPEG that `choose_box` chooses of it when it is upright.

    What a camera stores is the upright image, transposed if its orientation is 5 to 8, after
    it was mirrored or turned upside down; 3 and 7 are both.
    """
    is_transposed = orientation >= 5
    is_mirrored = tf.reduce_any(orientation == (2, 3, 6, 7))
    is_flipped = tf.reduce_any(orientation == (3, 4, 7, 8))

    stored_shape = tf.image.extract_jpeg_shape(encoded)[:2]
    image_height, image_width = tf.unstack(
        tf.where(is_transposed, stored_shape[::-1], stored_shape)
    )
    top, left, height, width = choose_box(image_height, image_width)
    top = tf.where(is_flipped, image_height - top - height, top)
    left = tf.where(is_mirrored, image_width - left - width, left)
    stored_box = tf.where(is_transposed, (left, top, width, height), (top, left, height, width))

    part = _decode_part(encoded, stored_shape[1], *tf.unstack(stored_box))
    part = tf.cond(is_transposed, lambda: tf.transpose(part, (1, 0, 2)), lambda: part)
    return part[:: tf.where(is_flipped, -1, 1), :: tf.where(is_mirrored, -1, 1)]


def _decode_part(
    encoded: tf.Tensor,
    image_width: tf.Tensor,
    top: tf.Tensor,
    left: tf.Tensor,
    height: tf.Tensor,
    width: tf.Tensor,
) -> tf.Tensor:
    """A part of a JPEG as it is stored, to the last bit what is cut out of the whole."""
    first = tf.maximum(left - _JPEG_MARGIN, 0)
    last = tf.minimum(left + width + _JPEG_MARGIN, image_width)
    strip = tf.image.decode_and_crop_jpeg(
        encoded, (top, first, height, last - first), channels=3, dct_method=_DCT_METHOD
    )
    return strip[:, left - first :][:, :width]


def _resize(image: tf.Tensor, image_size: int) -> tf.Tensor:
    return tf.image.resize(image, (image_size, image_size), antialias=True)


def _center_square(image: tf.Tensor, image_size: int, share: float = 1.0) -> tf.Tensor:
    if share == 1 and image.shape[:2] == (image_size, image_size):
        return image

    def box(height: tf.Tensor, width: tf.Tensor) -> tuple[tf.Tensor, ...]:
        side = _side(height, width, share)
        return (height - side) // 2, (width - side) // 2, side, side

    return _resize(_crop(image, box), image_size)


def _side(height: tf.Tensor, width: tf.Tensor, share: float) -> tf.Tensor:
    """Side of a square: a share of the shorter side, rounded to pixels, at least one."""
    shorter = tf.minimum(height, width)
    # Python computes in float64 on the device.
    side = tf.cast(tf.round(share * tf.cast(shorter, tf.float64)), tf.int32)
    return tf.maximum(side, 1)


def _scale(image: tf.Tensor) -> tf.Tensor:
    return tf.cast(image, tf.float32) / 127.5 - 1.0


def _no_crop(image: tf.Tensor, image_size: int, seed: tf.Tensor) -> tf.Tensor:
    return _center_square(image, image_size)


def _pad_crop(image: tf.Tensor, image_size: int, seed: tf.Tensor, *, pad: int) -> tf.Tensor:
    """A random shift by up to `pad` pixels in each direction; black moves in."""
    image = tf.pad(_center_square(image, image_size), ((pad, pad), (pad, pad), (0, 0)))
    return tf.image.stateless_random_crop(image, (image_size, image_size, 3), seed)


def _random_crop(image: tf.Tensor, image_size: int, seed: tf.Tensor, *, share: float) -> tf.Tensor:
    """A random square whose side is a share of the image's shorter side."""

    def box(height: tf.Tensor, width: tf.Tensor) -> tuple[tf.Tensor, ...]:
        side = _side(height, width, share)
        room = tf.cast(tf.stack([height - side + 1, width - side + 1]), tf.float32)
        top, left = tf.unstack(tf.cast(tf.random.stateless_uniform([2], seed) * room, tf.int32))
        return top, left, side, side

    return _resize(_crop(image, box), image_size)


def _random_resized_crop(image: tf.Tensor, image_size: int, seed: tf.Tensor) -> tf.Tensor:
    """A random rectangle of 8 to 100 % of the area and aspect ratio 3/4 to 4/3."""

    def box(height: tf.Tensor, width: tf.Tensor) -> tuple[tf.Tensor, ...]:
        begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
            tf.stack([height, width, 3]),
            tf.zeros((1, 0, 4)),
            seed,
            min_object_covered=0.0,
            area_range=(0.08, 1.0),
            aspect_ratio_range=(3 / 4, 4 / 3),
            use_image_if_no_bounding_boxes=True,
        )
        return begin[0], begin[1], size[0], size[1]

    return _resize(_crop(image, box), image_size)


def _colour_noise(seed: tf.Tensor, deviation: float) -> tf.Tensor:
    """What "lighting" adds to every pixel's red, green and blue in [0, 1]: float32 (3,).

    Source: Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural
    Networks", NIPS 2012, Section 4.1: sum of the principal components, each times its
    weight and a normal random number.
    """
    factors = tf.random.stateless_normal([3], seed, stddev=deviation)
    return tf.linalg.matvec(_COLOUR_COMPONENTS, factors * _COLOUR_WEIGHTS)


def mixup(
    images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, alpha: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mixes each image of a batch, and its label, with the one after it, the last with the first.

    share * this + (1 - share) * other, with a share for each image from Beta(alpha, alpha).
    Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018
    (arXiv:1710.09412), where alpha is 0.1 to 0.4 on ImageNet.

    Args:
        images: float32 (batch, height, width, channels).
        labels: float32 (batch, classes), one-hot.
        seed: two integers, shape (2,), that determine the shares.
        alpha: positive; the smaller, the less is mixed.

    Returns:
        The mixed images and labels, of the same shapes.
    """
    # Of two numbers from a gamma distribution, the share of the first in their sum is Beta's.
    this, other = (
        tf.random.stateless_gamma([tf.shape(images)[0]], part, alpha)
        for part in tf.unstack(tf.random.split(seed, 2))
    )
    # Where both are too small for a float, the other image stays alone.
    share = tf.math.divide_no_nan(this, this + other)

    def mix(values: tf.Tensor) -> tf.Tensor:
        shares = tf.reshape(share, [-1] + [1] * (len(values.shape) - 1))
        return shares * values + (1 - shares) * tf.roll(values, -1, axis=0)

    return mix(images), mix(labels)


# name: (how an image becomes a square, whether half of them are mirrored)
AUGMENTATIONS: dict[str, tuple[Callable[..., tf.Tensor], bool]] = {
    "none": (_no_crop, False),
    "pad_crop": (_pad_crop, False),
    "pad_crop_flip": (_pad_crop, True),
    "random_crop": (_random_crop, False),
    "random_crop_flip": (_random_crop, True),
    "random_resized_crop": (_random_resized_crop, False),
    "random_resized_crop_flip": (_random_resized_crop, True),
}


def create_augmentation(
    name: str, *, image_size: int, lighting: float = 0.0, **arguments: Any
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Makes what images go through in training: `create_augmentation("pad_crop", pad=4, ...)`.

    Args:
        name: a key of `AUGMENTATIONS`.
        image_size: height and width of the result in pixels.
        lighting: standard deviation of the colour noise, see `_colour_noise`; 0.1 is usual
            for ImageNet.
        **arguments: for `pad_crop` and `pad_crop_flip`, `pad`: by how many pixels an image
            is shifted at most; for `random_crop` and `random_crop_flip`, `share`: side of the
            square as a share of the image's shorter side.

    Returns:
        A TensorFlow function from an image, uint8 (height, width, 3) or encoded, and a seed,
        two integers of shape (2,), to a float32 image (image_size, image_size, 3) in
        [-1, 1], or with lighting a little beyond.

    Raises:
        ValueError: unknown augmentation, one that does not take such an argument, or a value
            out of its range.
    """
    if name not in AUGMENTATIONS:
        raise ValueError(
            f"`augmentation.name` must be one of {list(AUGMENTATIONS)}. Received: {name!r}."
        )
    to_square, mirrored = AUGMENTATIONS[name]
    try:
        inspect.signature(to_square).bind(None, image_size, None, **arguments)
    except TypeError as error:
        raise ValueError(f"`augmentation` {name!r}: {error}.") from error
    pad = arguments.get("pad", 0)
    if type(pad) is not int or not 0 <= pad <= image_size:
        raise ValueError(
            f"`augmentation.pad` must be an int in [0, {image_size}]. Received: {pad!r}."
        )
    check_share(**{"augmentation.share": arguments.get("share", 1.0)})
    if type(lighting) not in (int, float) or not 0 <= lighting < float("inf"):
        raise ValueError(
            f"`augmentation.lighting` must be a number from 0. Received: {lighting!r}."
        )

    def augment(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        crop_seed, flip_seed, lighting_seed = tf.unstack(tf.random.split(seed, 3))
        image = to_square(image, image_size, crop_seed, **arguments)
        if mirrored:
            image = tf.image.stateless_random_flip_left_right(image, flip_seed)
        image = _scale(image)
        if lighting:
            # [-1, 1] is twice as wide as [0, 1].
            image += 2 * _colour_noise(lighting_seed, lighting)
        return image

    return augment
