"""What images look like before the network sees them, against Pillow and NumPy."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageOps

from bireal_keras import runtime
from bireal_keras._keras import tf
from bireal_keras.runtime.image import central_box
from bireal_keras.training import preprocessing


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


@pytest.mark.parametrize(("height", "width"), [(256, 256), (300, 400), (77, 51)])
def test_center_crop_is_what_remains_of_a_larger_resized_image(height, width):
    image = smooth_image(height, width)
    share = 224 / 256
    side = round(share * min(height, width))
    top, left = (height - side) // 2, (width - side) // 2
    square = Image.fromarray(image[top : top + side, left : left + side])
    expected = np.asarray(square.resize((32, 32), Image.Resampling.BILINEAR), np.float32)

    result = preprocessing.preprocess(tf.constant(image), 32, center_crop=share).numpy()

    np.testing.assert_allclose((result + 1) * 127.5, expected, atol=1.1)
    if min(height, width) == 256:
        # This is ImageNet's custom, to the pixel.
        assert (top, left, side) == (16, 16, 224)


@pytest.mark.parametrize(("image_format", "options"), [("PNG", {}), ("JPEG", {"quality": 80})])
@pytest.mark.parametrize("share", [1.0, 0.875])
def test_a_device_sees_what_validation_saw(image_format, options, share):
    """`runtime.load_image`, which knows no TensorFlow."""
    file = io.BytesIO()
    Image.fromarray(smooth_image(117, 163)).save(file, image_format, **options)
    metadata = runtime.Metadata(image_size=(32, 32), center_crop=share)
    on_device = runtime.load_image(file, metadata)
    expected = preprocessing.preprocess(tf.constant(file.getvalue()), 32, center_crop=share).numpy()
    # Pillow rounds to integers, once per direction.
    np.testing.assert_allclose(on_device, expected, atol=1.1 / 127.5)


@pytest.mark.parametrize("share", [0, -0.5, 1.01, True, None, float("nan")])
def test_a_center_crop_must_be_a_share(share):
    with pytest.raises(ValueError, match=r"`center_crop` must be a number in \(0, 1\]"):
        preprocessing.preprocess(tf.zeros((8, 8, 3)), 8, center_crop=share)


def encode(image, image_format, **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, image_format, **options)
    return tf.constant(file.getvalue())


ENCODINGS = [
    ("PNG", {}),
    ("JPEG", {"subsampling": "4:4:4"}),
    ("JPEG", {"subsampling": "4:2:0"}),
    ("JPEG", {"subsampling": "4:2:0", "progressive": True}),
    ("JPEG", {"quality": 30}),
]
ENCODED_AUGMENTATIONS = [
    {"name": "random_crop_flip", "share": 0.6},
    {"name": "random_resized_crop_flip", "lighting": 0.1},
]


@pytest.mark.slow
@pytest.mark.parametrize(("image_format", "options"), ENCODINGS, ids=str)
def test_an_encoded_image_gives_what_its_pixels_give(image_format, options):
    encoded = encode(smooth_image(117, 163), image_format, **options)
    pixels = np.asarray(Image.open(io.BytesIO(encoded.numpy())))
    assert_equal_after(encoded, pixels, image_size=32, times=10)


@pytest.mark.slow
@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_turned_image_gives_what_its_upright_pixels_give(orientation):
    """Of which a part is decoded only."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    encoded = encode(smooth_image(117, 163), "JPEG", exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded.numpy())))
    assert_equal_after(encoded, np.asarray(upright), image_size=32, times=10)


@pytest.mark.slow
@pytest.mark.parametrize("share", [1.0, 0.9, 0.875, 0.7, 1 / 3])
def test_a_device_crops_to_the_same_pixel(share):
    """For every size of an image: 0.9 of 35 is half a pixel too much, or not."""
    metadata = runtime.Metadata(image_size=(224, 224), center_crop=share)
    shorter = np.arange(1, 2000, dtype=np.int32)
    sides = [preprocessing._side(tf.constant(2000), tf.constant(s), share) for s in shorter]
    boxes = [central_box(SimpleNamespace(height=2000, width=s), metadata) for s in shorter]
    assert [int(side) for side in sides] == [right - left for left, _, right, _ in boxes]


@pytest.mark.slow
def test_a_real_jpeg_gives_what_its_pixels_give(imagenet_jpegs):
    for encoded in imagenet_jpegs[:4]:
        pixels = np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))
        assert_equal_after(tf.constant(encoded), pixels, image_size=64, times=5)


def assert_equal_after(encoded, pixels, *, image_size, times):
    """Whether all augmentations, and preprocessing, do the same with a file and its pixels."""
    decoded = preprocessing.decode(encoded).numpy()
    np.testing.assert_array_equal(decoded, pixels)
    np.testing.assert_array_equal(
        preprocessing.preprocess(encoded, image_size, center_crop=0.875),
        preprocessing.preprocess(tf.constant(decoded), image_size, center_crop=0.875),
    )
    for augmentation in ENCODED_AUGMENTATIONS:
        augment = tf.function(
            preprocessing.create_augmentation(image_size=image_size, **augmentation)
        )
        for index in range(times):
            seed = tf.constant([3, index], tf.int64)
            np.testing.assert_array_equal(augment(encoded, seed), augment(decoded, seed))


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

    # The first pixel's centre and the last's are (50 - 1) / 50 of the crop apart.
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


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_random_crops_are_squares_of_one_size_anywhere(share):
    y, x = np.mgrid[:160, :200]
    image = np.stack([x, y, 0 * x], axis=-1).astype(np.uint8)
    side = round(share * 160)

    results = augment_often(image, "random_crop", image_size=side, share=share)

    # Nothing is resized, so every crop is the image's own pixels.
    corners = np.round((results[:, 0, 0] + 1) * 127.5).astype(int)
    expected = [image[top : top + side, left : left + side] for left, top, _ in corners]
    np.testing.assert_allclose(results, np.stack(expected) / 127.5 - 1, atol=1e-5)
    for positions, last in zip(corners.T, (200 - side, 160 - side)):
        assert positions.min() <= 0.05 * last
        assert 0.95 * last <= positions.max() <= last
        assert positions.mean() == pytest.approx(last / 2, abs=0.1 * last)


def test_mixup_takes_a_share_of_each_image_and_the_rest_of_the_next():
    """Images of one value and their labels; shares of Beta(a, a) by its moments."""
    count, alpha = 4096, 0.4
    values = np.arange(count, dtype=np.float32)
    labels = np.eye(7, dtype=np.float32)[np.arange(count) % 7]
    images = np.broadcast_to(values[:, None, None, None], (count, 2, 2, 3))
    mixed, mixed_labels = (
        part.numpy()
        for part in preprocessing.mixup(tf.constant(images), tf.constant(labels), (3, 4), alpha)
    )
    assert (mixed == mixed[:, :1, :1, :1]).all()
    others = np.roll(values, -1)
    shares = (mixed[:, 0, 0, 0] - others) / (values - others)
    assert -1e-3 <= shares.min() < 0.01 < 0.99 < shares.max() <= 1 + 1e-3
    assert shares.mean() == pytest.approx(0.5, abs=0.03)
    assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), abs=0.01)
    expected = shares[:, None] * labels + (1 - shares[:, None]) * np.roll(labels, -1, axis=0)
    np.testing.assert_allclose(mixed_labels, expected, atol=1e-3)

    tiny, tiny_labels = preprocessing.mixup(
        tf.constant(images), tf.constant(labels), (3, 4), alpha=1e-3
    )
    assert np.isfinite(tiny).all()
    np.testing.assert_allclose(np.sum(tiny_labels, axis=1), 1, atol=1e-6)


def test_lighting_is_normal_noise_along_the_principal_components_of_colour():
    image = smooth_image(8, 8)
    results = augment_often(image, "none", times=2000, image_size=8, lighting=0.1)
    noise = (results - (image / 127.5 - 1)) / 2
    # The shift is the same for all pixels of an image.
    assert np.ptp(noise, axis=(1, 2)).max() < 1e-6
    noise = noise[:, 0, 0].astype(np.float64)

    # Krizhevsky et al., 2012: [p1, p2, p3] [a1 l1, a2 l2, a3 l3]^T with a ~ N(0, 0.1).
    components = np.array(
        [[-0.5675, -0.5808, -0.5836], [0.7192, -0.0045, -0.6948], [0.4009, -0.8140, 0.4203]]
    )
    np.testing.assert_allclose(components @ components.T, np.eye(3), atol=1e-3)
    factors = noise @ components.T / [0.2175, 0.0188, 0.0045]
    np.testing.assert_allclose(factors.mean(axis=0), 0, atol=0.01)
    np.testing.assert_allclose(np.cov(factors.T), 0.01 * np.eye(3), atol=0.001)
    # These are about 68 and 95 % of a normal distribution.
    assert np.mean(np.abs(factors) < 0.1) == pytest.approx(0.683, abs=0.03)
    assert np.mean(np.abs(factors) < 0.2) == pytest.approx(0.954, abs=0.02)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "flip"}, r"`augmentation.name` must be one of .*'pad_crop'.*'flip'"),
        ({"name": "none", "pad": 1}, r"`augmentation` 'none': .*'pad'"),
        ({"name": "pad_crop"}, r"`augmentation` 'pad_crop': .*'pad'"),
        ({"name": "pad_crop", "pad": -1}, r"`augmentation.pad` must be .*\[0, 8\].*-1"),
        ({"name": "pad_crop", "pad": 1.5}, r"`augmentation.pad` must be an int"),
        ({"name": "random_crop"}, r"`augmentation` 'random_crop': .*'share'"),
        ({"name": "random_crop", "share": 0}, r"`augmentation.share` must be .*\(0, 1\].*=0"),
        ({"name": "none", "lighting": -1}, r"`augmentation.lighting` must be a number.* -1"),
        ({"name": "none", "lighting": "on"}, r"`augmentation.lighting` must be .*'on'"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        preprocessing.create_augmentation(image_size=8, **arguments)
