"""What an image goes through before the network sees it, in training and outside.

Outside training there is one way, `preprocess`; the classifier on the device goes it too.
In training a recipe names one of `AUGMENTATIONS`.
"""

import inspect
from collections.abc import Callable
from typing import Any

from bireal_keras._keras import tf


def preprocess(image: tf.Tensor, image_size: int) -> tf.Tensor:
    """What every image goes through outside training: centre square, resized, in [-1, 1].

    Args:
        image: (height, width, 3), uint8 or float with values in [0, 255].
        image_size: height and width of the result in pixels. The resampling is bilinear
            and, where it shrinks, averages over the pixels it drops, as Pillow's does.

    Returns:
        float32 (image_size, image_size, 3) in [-1, 1].
    """
    return _scale(_center_square(image, image_size))


def _center_square(image: tf.Tensor, image_size: int) -> tf.Tensor:
    height, width = tf.unstack(tf.shape(image)[:2])
    side = tf.minimum(height, width)
    image = tf.image.crop_to_bounding_box(
        image, (height - side) // 2, (width - side) // 2, side, side
    )
    return tf.image.resize(image, (image_size, image_size), antialias=True)


def _scale(image: tf.Tensor) -> tf.Tensor:
    return tf.cast(image, tf.float32) / 127.5 - 1.0


def _no_crop(image: tf.Tensor, image_size: int, seed: tf.Tensor) -> tf.Tensor:
    return _center_square(image, image_size)


def _pad_crop(image: tf.Tensor, image_size: int, seed: tf.Tensor, *, pad: int) -> tf.Tensor:
    """A random shift by up to `pad` pixels in each direction; black moves in."""
    image = tf.pad(_center_square(image, image_size), ((pad, pad), (pad, pad), (0, 0)))
    return tf.image.stateless_random_crop(image, (image_size, image_size, 3), seed)


def _random_resized_crop(image: tf.Tensor, image_size: int, seed: tf.Tensor) -> tf.Tensor:
    """A random rectangle of 8 to 100 % of the area and aspect ratio 3/4 to 4/3."""
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.shape(image),
        tf.zeros((1, 0, 4)),
        seed,
        min_object_covered=0.0,
        area_range=(0.08, 1.0),
        aspect_ratio_range=(3 / 4, 4 / 3),
        use_image_if_no_bounding_boxes=True,
    )
    image = tf.ensure_shape(tf.slice(image, begin, size), (None, None, 3))
    return tf.image.resize(image, (image_size, image_size), antialias=True)


# name: (how an image becomes a square, whether half of them are mirrored)
AUGMENTATIONS: dict[str, tuple[Callable[..., tf.Tensor], bool]] = {
    "none": (_no_crop, False),
    "pad_crop": (_pad_crop, False),
    "pad_crop_flip": (_pad_crop, True),
    "random_resized_crop": (_random_resized_crop, False),
    "random_resized_crop_flip": (_random_resized_crop, True),
}


def create_augmentation(
    name: str, *, image_size: int, **arguments: Any
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Makes what images go through in training: `create_augmentation("pad_crop", pad=4, ...)`.

    Args:
        name: a key of `AUGMENTATIONS`.
        image_size: height and width of the result in pixels.
        **arguments: for `pad_crop` and `pad_crop_flip`, `pad`: by how many pixels an image
            is shifted at most.

    Returns:
        A TensorFlow function from a uint8 image (height, width, 3) and a seed, two integers
        of shape (2,), to a float32 image (image_size, image_size, 3) in [-1, 1].

    Raises:
        ValueError: unknown augmentation, or one that does not take such an argument.
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

    def augment(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        crop_seed, flip_seed = tf.unstack(tf.random.split(seed, 2))
        image = to_square(image, image_size, crop_seed, **arguments)
        if mirrored:
            image = tf.image.stateless_random_flip_left_right(image, flip_seed)
        return _scale(image)

    return augment
