"""A folder of photos: which classes it has, which files, and which of them are held out.

Commands read it on devices, too: this module imports no TensorFlow.
"""

import dataclasses
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bireal_keras import image_file

_VALIDATION_FOLDERS = ("validation", "val")

# What is held out never depends on the run's seed, so that runs can be compared.
_HOLD_OUT_FRACTION = 0.1
_HOLD_OUT_SEED = 0

# A message names this many of the files that it is about.
_MAX_NAMED = 20


@dataclasses.dataclass(frozen=True)
class ImageFolder:
    """The image files of a folder, none of which has been read.

    Attributes:
        class_names: names of the classes, sorted; label i is `class_names[i]`.
        paths: of all images.
        labels: of all images, int64.
        train, validation: indices of the images to train with and to validate with.
    """

    class_names: tuple[str, ...]
    paths: tuple[Path, ...]
    labels: np.ndarray
    train: np.ndarray
    validation: np.ndarray


def check_exists(name: str, data_dir: str | os.PathLike[str] | None = None) -> None:
    """Raises a ValueError if a dataset's name is a path and not that of a folder.

    With a `data_dir` a name without folders is never a path.
    """
    is_path = name.startswith((".", "/")) or name.endswith("/")
    if (is_path or data_dir is None) and os.path.isfile(name):
        raise ValueError(
            "`dataset` must be a folder of images, <folder>/<class>/*.jpg, and not a file. "
            f"Received: {name!r}."
        )
    if is_path and not os.path.isdir(name):
        raise ValueError(f"`dataset` names a folder that does not exist: {name!r}.")


def read(folder: Path) -> ImageFolder:
    """Lists `folder/<class>/*.jpg`, or `folder/train/<class>/*.jpg` and `folder/validation/...`.

    Of the first a tenth of every class is held out to validate.

    Raises:
        ValueError: a class has no image, or too few to hold one out; there are fewer than two
            classes; or the two folders do not have the same ones.
    """
    if (folder / "train").is_dir():
        return _read_split(folder)
    class_names, paths, labels = _list_images(folder)
    _check_classes(folder, class_names)
    lonely = np.flatnonzero(np.bincount(labels) < 2)
    if len(lonely):
        raise ValueError(
            f"{folder / class_names[lonely[0]]} holds one image: two are needed, one to "
            "train and one to validate."
        )
    return ImageFolder(class_names, tuple(paths), labels, *hold_out(labels))


def _read_split(folder: Path) -> ImageFolder:
    held_out = [folder / name for name in _VALIDATION_FOLDERS if (folder / name).is_dir()]
    if not held_out:
        raise ValueError(f"`dataset` has a folder train but no folder validation: {folder}.")
    class_names, paths, labels = _list_images(folder / "train")
    other_names, other_paths, other_labels = _list_images(held_out[0])
    if class_names != other_names:
        only = sorted(set(class_names) ^ set(other_names))
        raise ValueError(
            f"{folder / 'train'} and {held_out[0]} must hold the same classes; "
            f"in one of the two only: {', '.join(only)}."
        )
    _check_classes(folder / "train", class_names)
    train, validation = np.arange(len(paths)), len(paths) + np.arange(len(other_paths))
    labels = np.concatenate([labels, other_labels])
    return ImageFolder(class_names, (*paths, *other_paths), labels, train, validation)


def _check_classes(folder: Path, class_names: Sequence[str]) -> None:
    if len(class_names) < 2:
        raise ValueError(
            f"{folder} must hold a folder of images for each of two classes or more. It holds "
            f"one: {class_names[0]}."
        )


def list_all(folder: Path) -> ImageFolder:
    """All images of a folder to validate with: its folder validation, or else `folder/<class>`.

    Raises:
        ValueError: a class has no image, or there is no class.
    """
    parts = [folder / name for name in _VALIDATION_FOLDERS if (folder / name).is_dir()]
    class_names, paths, labels = _list_images(parts[0] if parts else folder)
    none, every = np.arange(0), np.arange(len(paths))
    return ImageFolder(class_names, tuple(paths), labels, none, every)


def read_listed(folder: Path, names: Sequence[str]) -> ImageFolder:
    """The images of a list that are in a folder still, to validate with.

    Args:
        folder: what `read` took when the list was made.
        names: paths in it, each in its class's folder, as `held_out_names` gives them.

    Raises:
        ValueError: none of them is there.
    """
    paths = [folder / name for name in names if (folder / name).is_file()]
    if not paths:
        raise ValueError(
            f"{folder} holds none of the {len(names):,} images that training held out."
        )
    classes = [path.parent.name for path in paths]
    class_names, labels = np.unique(classes, return_inverse=True)
    none, every = np.arange(0), np.arange(len(paths))
    return ImageFolder(tuple(class_names.tolist()), tuple(paths), labels, none, every)


def held_out_names(folder: Path, images: ImageFolder) -> tuple[str, ...]:
    """The paths in a folder of the images to validate with, sorted."""
    held_out = (images.paths[index] for index in images.validation)
    return tuple(sorted(path.relative_to(folder).as_posix() for path in held_out))


def hold_out(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices to train with and to validate with: a tenth of each class, at least one."""
    rng = np.random.default_rng(_HOLD_OUT_SEED)
    train, validation = [], []
    for label in np.unique(labels):
        indices = rng.permutation(np.flatnonzero(labels == label))
        count = max(1, round(_HOLD_OUT_FRACTION * len(indices)))
        validation.append(indices[:count])
        train.append(indices[count:])
    return rng.permutation(np.concatenate(train)), rng.permutation(np.concatenate(validation))


def _list_images(folder: Path) -> tuple[tuple[str, ...], list[Path], np.ndarray]:
    """Class names, paths and int64 labels of folder/<class>/<image>, sorted."""
    class_names: list[str] = []
    paths: list[Path] = []
    labels: list[int] = []
    left_out: list[Path] = []
    for class_folder in (path for path in _visible(folder) if path.is_dir()):
        _check_class_name(class_folder)
        entries = _visible(class_folder)
        images = [path for path in entries if image_file.is_named_like_one(path)]
        left_out += sorted(set(entries) - set(images))
        if not images and any(path.is_dir() for path in entries):
            raise ValueError(
                f"{class_folder} must hold the images of one class. It holds folders: if these "
                "are the classes, it is the dataset."
            )
        if not images:
            raise ValueError(f"No image ({', '.join(image_file.SUFFIXES)}) in {class_folder}.")
        paths += images
        labels += [len(class_names)] * len(images)
        class_names.append(class_folder.name)
    if not class_names:
        raise ValueError(
            f"{folder} must hold one folder of images per class, or the folders train and "
            "validation. It holds no folder."
        )
    if left_out:
        names = [str(path.relative_to(folder)) for path in left_out]
        warnings.warn(
            f"{folder}: left out what is not an image file ({', '.join(image_file.SUFFIXES)}): "
            f"{', '.join(first(names))}.",
            stacklevel=2,
        )
    return tuple(class_names), paths, np.array(labels, dtype=np.int64)


def _check_class_name(class_folder: Path) -> None:
    """Raises a ValueError unless a class's name can be a line of a text file."""
    name = class_folder.name
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"The name of a class's folder must be text in UTF-8. Received: {str(class_folder)!r}. "
            "Rename it."
        ) from error
    if not name.strip() or name.splitlines() != [name]:
        raise ValueError(
            "The name of a class's folder must be one line, not blank and without any character "
            f"that breaks lines. Received: {str(class_folder)!r}. Rename it."
        )


def _visible(folder: Path) -> list[Path]:
    """What lies in a folder, sorted, without other programs' notes (.DS_Store, ._photo.jpg)."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def first(texts: Sequence[str]) -> list[str]:
    """The first ones, and how many more there are."""
    more = len(texts) - _MAX_NAMED
    return [*texts[:_MAX_NAMED], *([f"and {more:,} more"] if more > 0 else [])]
