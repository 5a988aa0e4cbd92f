"""What the caller of a conversion says, checked against what the model takes and gives."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bireal_keras.export.pixel_input import INPUT_TYPES
from bireal_keras.export.real_layers import PRECISIONS
from bireal_keras.tflite.labels import check_labels
from bireal_keras.tflite.metadata import Metadata, Normalization

MIN_SAMPLES = 8

# Of a tensor, with None for a batch of any size.
Shape = tuple[int | None, ...]


def check_real_layers(real_layers: str) -> None:
    """Checks a precision.

    Raises:
        ValueError: it is none.
    """
    if real_layers not in PRECISIONS:
        raise ValueError(
            f"`real_layers` must be one of {', '.join(PRECISIONS)}. "
            f"Received: real_layers={real_layers!r}."
        )


def check_input_type(input_type: str, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> None:
    """Checks what a file is to take.

    Raises:
        ValueError: it is no such type, or the model does not take images and give one output.
    """
    if input_type not in INPUT_TYPES:
        raise ValueError(
            f"`input_type` must be one of {', '.join(INPUT_TYPES)}. "
            f"Received: input_type={input_type!r}."
        )
    if input_type != "float32" and not (takes_images(inputs) and len(outputs) == 1):
        raise ValueError(
            "`input_type` 'uint8' needs a model of one RGB or grey image and one output. Received: "
            f"one of {', '.join(map(str, inputs))} and {len(outputs)} outputs."
        )


def output_path(path: str | os.PathLike[str]) -> Path:
    """The file to write.

    Raises:
        ValueError: it cannot be one.
    """
    path = Path(path)
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"`path` must be a file in an existing folder. Received: path='{path}'.")
    return path


def check_labels_of(labels: Sequence[str] | None, outputs: Sequence[Shape]) -> None:
    """Checks names of classes.

    Raises:
        ValueError: they are none, or not those of a model with these outputs.
    """
    if labels is None:
        return
    check_labels(labels)
    if len(outputs) != 1 or len(outputs[0]) != 2:
        raise ValueError(
            "`labels` need a model that ends in one (batch, classes). "
            f"Received: {len(labels)} labels for {', '.join(map(str, outputs))}."
        )
    if len(labels) != outputs[0][-1]:
        raise ValueError(
            "`labels` must name every class of the model. "
            f"Received: {len(labels)} labels for {outputs[0][-1]} classes."
        )


def takes_images(inputs: Sequence[Shape]) -> bool:
    """Whether a model takes one RGB or grey image, (batch, height, width, 3 or 1)."""
    return len(inputs) == 1 and len(inputs[0]) == 4 and inputs[0][-1] in (1, 3)


def check_normalization(normalization: Normalization | None, inputs: Sequence[Shape]) -> None:
    """Checks that a normalization is given for images only.

    Raises:
        ValueError: the model takes something else.
    """
    if normalization is not None and not takes_images(inputs):
        raise ValueError(
            "`normalization` needs a model of one RGB or grey image. "
            f"Received: one of {', '.join(map(str, inputs))}."
        )


def metadata_of(
    inputs: Sequence[Shape],
    outputs: Sequence[Shape],
    labels: Sequence[str] | None,
    normalization: Normalization,
    center_crop: float,
) -> Metadata | None:
    """What travels inside the file; nothing with a model of several inputs or outputs.

    Raises:
        ValueError: the crop or the size of the images is out of its range.
    """
    image_size, channels = None, 3
    if takes_images(inputs):
        _, height, width, depth = inputs[0]
        channels = depth or channels
        assert height is not None
        assert width is not None
        image_size = height, width
    metadata = Metadata(
        labels=None if labels is None else tuple(labels),
        image_size=image_size,
        normalization=normalization,
        center_crop=center_crop,
        channels=channels,
    )
    return metadata if len(inputs) == len(outputs) == 1 else None


def checked_samples(
    samples: np.ndarray | Sequence[np.ndarray], shapes: Sequence[tuple[int, ...]], size: int
) -> list[np.ndarray]:
    """Samples as an array float32 (n, ...) for each input.

    Args:
        samples: as the caller gives them.
        shapes: of one sample for each input.
        size: how many the model takes at a time.

    Raises:
        ValueError: they are too few, or have other shapes.
    """
    single = len(shapes) == 1 and not isinstance(samples, (list, tuple))
    arrays = [np.asarray(values, np.float32) for values in ([samples] if single else samples)]
    counts = {len(values) for values in arrays}
    if (
        [values.shape[1:] for values in arrays] != list(shapes)
        or len(counts) != 1
        or min(counts) < MIN_SAMPLES
        or min(counts) % size
    ):
        multiple = f", a multiple of {size}," if size > 1 else ""
        raise ValueError(
            f"`samples` must be at least {MIN_SAMPLES} images{multiple} of "
            f"{' and '.join(map(str, shapes))}. Received: samples of shape "
            f"{' and '.join(str(values.shape) for values in arrays)}."
        )
    return arrays
