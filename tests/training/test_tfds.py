"""Data sets in TFDS's format, with real images: what TFDS and Pillow read is what is trained on."""

import io

import numpy as np
import pytest
from photographs import jpegs
from PIL import Image

from bireal_keras._keras import tf
from bireal_keras.training import data, preprocessing


def arrays(batches):
    images, labels = zip(*batches.as_numpy_iterator())
    return np.concatenate(images), np.concatenate(labels)


def central_part(encoded, size, share):
    """A central square of a JPEG file as Pillow cuts and resizes it, (size, size, 3) floats."""
    image = Image.open(io.BytesIO(encoded)).convert("RGB")
    side = round(share * min(image.size))
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side))
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR), np.float32)


@pytest.mark.slow
def test_images_of_one_size_are_what_tfds_reads(tfds_folder):
    import tensorflow_datasets as tfds

    digits = data.load("digits", data_dir=tfds_folder)
    assert (digits.train.size, digits.validation.size) == (200, 50)
    assert digits.class_names == tuple("abcde")
    source, _ = digits.train.examples.element_spec
    assert (source.shape, source.dtype) == ((28, 28, 3), tf.uint8)  # They are cached decoded.

    batches = data.evaluation_batches(
        digits.validation, image_size=28, num_classes=5, batch_size=16
    )
    pixels, labels = arrays(batches)
    expected = tfds.load("digits", split="test", data_dir=tfds_folder, download=False)
    for example, image, label in zip(expected, pixels, labels, strict=True):
        grey = example["image"].numpy() / 127.5 - 1
        np.testing.assert_allclose(image, np.repeat(grey, 3, axis=-1), atol=1e-6)
        assert np.argmax(label) == example["label"].numpy()


@pytest.mark.parametrize("share", [1.0, 0.875, 0.5])
def test_the_central_part_of_photos_of_all_sizes(tfds_folder, share):
    photos = data.load("photos", data_dir=tfds_folder)
    assert (photos.train.size, photos.validation.size) == (16, 8)
    assert photos.class_names == ("cat", "dog", "bird")
    assert photos.train.examples.element_spec[0].dtype == tf.string  # They are kept as they came.

    batches = data.evaluation_batches(
        photos.validation, image_size=64, num_classes=3, batch_size=3, center_crop=share
    )
    pixels, labels = arrays(batches)
    for encoded, image in zip(jpegs(24)[16:], pixels, strict=True):
        expected = central_part(encoded, 64, share)
        np.testing.assert_allclose((image + 1) * 127.5, expected, atol=1.1)
    np.testing.assert_array_equal(labels.argmax(axis=1), np.arange(16, 24) % 3)


def test_photos_are_augmented_anew_in_every_epoch_and_the_same_in_every_run(tfds_folder):
    photos = data.load("photos", data_dir=tfds_folder)

    def images_of(initial_epoch, epochs):
        augment = preprocessing.create_augmentation(
            "random_resized_crop_flip", image_size=32, lighting=0.1
        )
        batches = data.train_batches(
            photos.train,
            augment=augment,
            num_classes=3,
            batch_size=8,
            seed=1,
            initial_epoch=initial_epoch,
            epochs=epochs,
        )
        return arrays(batches)

    pixels, labels = images_of(0, 2)
    assert pixels.shape == (32, 32, 32, 3)
    # 16 photos of 3 classes, each once in an epoch.
    np.testing.assert_array_equal(labels.reshape(2, 16, 3).sum(axis=1), [[6, 5, 5]] * 2)
    assert (pixels[:16] != pixels[16:]).any()
    np.testing.assert_array_equal(images_of(1, 2)[0], pixels[16:])


def test_a_photo_gives_what_its_pixels_give():
    """To the last bit: a file may be decoded in part, as far as the crop reaches."""
    for encoded in jpegs(4):
        pixels = np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))
        np.testing.assert_array_equal(preprocessing.decode(tf.constant(encoded)), pixels)
        augment = preprocessing.create_augmentation("random_resized_crop_flip", image_size=32)
        for index in range(5):
            seed = tf.constant([1, index], tf.int64)
            np.testing.assert_array_equal(
                augment(tf.constant(encoded), seed), augment(tf.constant(pixels), seed)
            )


def test_a_dataset_without_a_split_to_train_with(tfds_folder):
    with pytest.raises(ValueError, match=r"splits train and .*It has: validation"):
        data.load("nothing_to_train", data_dir=tfds_folder)
