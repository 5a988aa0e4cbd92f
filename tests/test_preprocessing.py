"""What images look like before the network sees them, against Pillow and NumPy."""

import numpy as np
import pytest
from PIL import Image

from bireal_keras import preprocessing
from bireal_keras._keras import tf


def smooth_image(height, width):
    """Waves of other lengths and directions in each channel, uint8."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 7 + y / 11), np.cos(x / 5 - y / 9), np.sin(y / 6)]
    return np.round(127.5 * (1 + np.stack(waves, axis=-1))).astype(np.uint8)


@pytest.mark.parametrize(("height", "width"), [(90, 61), (60, 200), (64, 64), (20, 31)])
def test_preprocess_is_pillows_centre_crop_and_bilinear_resize(height, width):
    image = smooth_image(height, width)
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = Image.fromarray(image[top : top + side, left : left + side])
    resized = np.asarray(square.resize((32, 32), Image.Resampling.BILINEAR), np.float32)

    result = preprocessing.preprocess(tf.constant(image), 32).numpy()

    assert result.dtype == np.float32
    # Pillow rounds to integers, once per direction.
    np.testing.assert_allclose((result + 1) * 127.5, resized, atol=1.1)


def test_preprocess_leaves_an_image_of_the_right_size_as_it_is():
    image = np.random.default_rng(0).integers(0, 256, (28, 28, 3), dtype=np.uint8)
    image[0, 0] = [0, 255, 128]
    result = preprocessing.preprocess(tf.constant(image), 28).numpy()
    np.testing.assert_allclose(result, image / 127.5 - 1, atol=1e-6)
    assert result[0, 0, 0] == -1
    assert result[0, 0, 1] == 1


def augment_often(image, augmentation, times=200, **arguments):
    augment = preprocessing.create_augmentation(augmentation, **arguments)
    function = tf.function(lambda seed: augment(tf.constant(image), seed))
    seeds = [tf.constant([7, index], tf.int64) for index in range(times)]
    return np.stack([function(seed).numpy() for seed in seeds])


@pytest.mark.parametrize("mirrored", [False, True])
def test_pad_crop_gives_every_shift_and_nothing_else(mirrored):
    image = smooth_image(16, 16)
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)))
    shifts = [padded[y : y + 16, x : x + 16] for y in range(5) for x in range(5)]
    if mirrored:
        shifts += [shift[:, ::-1] for shift in shifts]
    expected = np.stack(shifts) / 127.5 - 1

    name = "pad_crop_flip" if mirrored else "pad_crop"
    results = augment_often(image, name, times=500, image_size=16, pad=2)

    distances = np.abs(results[:, None] - expected[None]).max(axis=(2, 3, 4))
    assert distances.min(axis=1).max() < 1e-5
    assert set(distances.argmin(axis=1)) == set(range(len(expected)))


def test_no_augmentation_is_the_evaluation_preprocessing():
    image = smooth_image(40, 50)
    expected = preprocessing.preprocess(tf.constant(image), 16).numpy()
    results = augment_often(image, "none", times=3, image_size=16)
    np.testing.assert_array_equal(results, np.stack([expected] * 3))


@pytest.mark.parametrize("mirrored", [False, True])
def test_random_resized_crops_have_the_areas_and_ratios_they_should(mirrored):
    # The image's values are its coordinates, so a crop shows where it was taken from.
    y, x = np.mgrid[:200, :200]
    image = np.stack([x, y, 0 * x], axis=-1).astype(np.uint8)

    name = "random_resized_crop_flip" if mirrored else "random_resized_crop"
    results = (augment_often(image, name, image_size=50) + 1) * 127.5

    # From the first pixel's centre to the last's is (50 - 1) / 50 of the crop.
    widths = (results[:, 25, -1, 0] - results[:, 25, 0, 0]) * 50 / 49
    heights = (results[:, -1, 25, 1] - results[:, 0, 25, 1]) * 50 / 49
    assert (heights > 0).all()
    share_mirrored = np.mean(widths < 0)
    assert 0.35 < share_mirrored < 0.65 if mirrored else share_mirrored == 0

    areas = np.abs(widths) * heights / 200**2
    ratios = np.abs(widths) / heights
    # Crops are whole pixels, and their borders are interpolated.
    assert areas.min() == pytest.approx(0.08, abs=0.04)
    assert areas.max() > 0.8
    assert 0.7 < ratios.min() < 0.85
    assert 1.2 < ratios.max() < 1.45


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "flip"}, r"`augmentation.name` must be one of .*'pad_crop'.*'flip'"),
        ({"name": "none", "pad": 1}, r"`augmentation` 'none': .*'pad'"),
        ({"name": "pad_crop"}, r"`augmentation` 'pad_crop': .*'pad'"),
        ({"name": "pad_crop", "pad": -1}, r"`augmentation.pad` must be .*\[0, 8\].*-1"),
        ({"name": "pad_crop", "pad": 1.5}, r"`augmentation.pad` must be an int"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        preprocessing.create_augmentation(image_size=8, **arguments)
