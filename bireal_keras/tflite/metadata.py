"""What a `.tflite` file says about its images and its classes.

It is standard TensorFlow Lite metadata, which Netron, Android Studio and TensorFlow Lite's
support library show as well. What a file does not say is what this package's training does:
the whole central square of an image, in [-1, 1].
"""

import math
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from bireal_keras._checks import check_share
from bireal_keras.tflite import flatbuffer
from bireal_keras.tflite import metadata_schema as schema
from bireal_keras.tflite.labels import LABELS_NAME, read_labels

# The standard has no field for it: an entry of our own, a decimal number as text.
CENTER_CROP_NAME = "BIREAL_CENTER_CROP"

# Height and width of an input. No network sees more, and a damaged file may ask for anything.
_MAX_SIZE = 16384
# A decimal number has at most so many.
_MAX_NUMBER_BYTES = 32
# The name of a file in the archive.
_MAX_NAME_BYTES = 255
# Red, green and blue.
_MAX_CHANNELS = 3


@dataclass(frozen=True)
class Normalization:
    """From pixels in [0, 255] to a model's input: (pixel - mean) / std.

    Args:
        mean, std: of red, green and blue, or one number for all three.

    Raises:
        ValueError: there are not one or three numbers, one is not finite, or a `std` is not
            positive, in float32 as in a file.
    """

    mean: tuple[float, ...] = (127.5,)
    std: tuple[float, ...] = (127.5,)

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            values = getattr(self, name)
            try:
                values = tuple(map(float, values if isinstance(values, Iterable) else (values,)))
            except (TypeError, ValueError) as error:
                raise ValueError(f"`{name}` must be numbers. Received: {values!r}.") from error
            if len(values) not in (1, 3):
                raise ValueError(f"`{name}` must be one number or three. Received: {len(values)}.")
            if not all(map(math.isfinite, map(_stored, values))):
                raise ValueError(f"`{name}` must be finite in float32. Received: {name}={values}.")
            object.__setattr__(self, name, values)
        if min(map(_stored, self.std)) <= 0:
            raise ValueError(f"`std` must be positive in float32. Received: std={self.std}.")

    @classmethod
    def parse(cls, text: str) -> "Normalization":
        """Reads a name of `NORMALIZATIONS`, or `mean:std`: "127.5:127.5" is "symmetric".

        Args:
            text: a name, or two lists of one number or of three, for red, green and blue:
                "123.7,116.3,103.5:58.4,57.1,57.4".

        Raises:
            ValueError: it is neither, or not a normalization.
        """
        if text in NORMALIZATIONS:
            return NORMALIZATIONS[text]
        try:
            mean, std = ([float(number) for number in part.split(",")] for part in text.split(":"))
        except ValueError as error:
            raise ValueError(
                f"a normalization must be {', '.join(NORMALIZATIONS)} or mean:std, for pixels from "
                f"0 to 255. Received: {text!r}."
            ) from error
        return cls(tuple(mean), tuple(std))

    def __str__(self) -> str:
        """What `parse` reads."""
        for name, normalization in NORMALIZATIONS.items():
            if self == normalization:
                return name
        return ":".join(",".join(f"{value:g}" for value in part) for part in (self.mean, self.std))


def _stored(value: float) -> float:
    """A number as a file keeps it, which is in float32."""
    try:
        return struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        return math.inf


# These are what images are usually made of pixels by. "imagenet" takes the mean and the deviation
# of the colours in ImageNet's training set.
NORMALIZATIONS = {
    "symmetric": Normalization(),
    "imagenet": Normalization((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "unit": Normalization((0,), (255,)),
    "raw": Normalization((0,), (1,)),
}


@dataclass(frozen=True)
class Metadata:
    """How a model takes its images, and what its outputs mean.

    Attributes:
        labels: names of the classes in the order of the outputs; None where the file has
            none.
        image_size: (height, width) of the input in pixels; None where the file says none.
        normalization: how pixels become numbers.
        center_crop: how much of an image the model sees: a central part in the proportions of
            `image_size`, as a share of the largest one that fits, in (0, 1].
        channels: 3 for images in RGB, 1 for grey ones.
        takes_pixels: whether the model takes pixels as they are, uint8. No metadata say it, but the
            type of the input does: `Interpreter.metadata` tells, `read_metadata` does not.

    Raises:
        ValueError: `image_size`, `center_crop` or `channels` is out of its range, or
            `normalization` is for other channels.
    """

    labels: tuple[str, ...] | None = None
    image_size: tuple[int, int] | None = None
    normalization: Normalization = field(default_factory=Normalization)
    center_crop: float = 1.0
    channels: int = 3
    takes_pixels: bool = False

    def __post_init__(self) -> None:
        if self.image_size and not all(1 <= size <= _MAX_SIZE for size in self.image_size):
            raise ValueError(
                f"`image_size` must be from 1 to {_MAX_SIZE}. Received: {self.image_size}."
            )
        check_share(center_crop=self.center_crop)
        if self.channels not in (1, 3):
            raise ValueError(f"`channels` must be 1 or 3. Received: channels={self.channels!r}.")
        numbers = len(self.normalization.mean), len(self.normalization.std)
        if not {*numbers} <= {1, self.channels}:
            raise ValueError(
                f"`normalization` must be of one number, or of {self.channels} for as many "
                f"channels. Received: {max(numbers)}."
            )


def read_metadata(model: bytes | str | os.PathLike[str]) -> Metadata:
    """Reads what a `.tflite` file says about its first input and output.

    Args:
        model: a TFLite model, or the path of one. One without metadata may still have class
            names, see `labels`.

    Raises:
        ValueError: it is not a TFLite model, or its metadata make no sense.
        OSError: the file cannot be read.
    """
    if isinstance(model, bytes):
        name, content = "the model", model
    else:
        name, content = os.fspath(model), Path(model).read_bytes()
    try:
        return parse(content)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def parse(content: bytes) -> Metadata:
    """`read_metadata` of a file's content, without a name in the errors."""
    try:
        packed = _find(content)
        if packed is None:
            return Metadata(labels=_labels(content, LABELS_NAME))
        return _read(packed, content)
    except ValueError as error:
        raise ValueError(f"the metadata cannot be read: {error}") from error


def _find(content: bytes) -> bytes | None:
    """The flatbuffer of the metadata within that of the model."""
    model = flatbuffer.root(content, schema.MODEL_IDENTIFIER)
    for entry in model.elements(schema.Model.METADATA):
        if entry.is_text(schema.Metadata.NAME, schema.METADATA_NAME):
            index = entry.scalar(schema.Metadata.BUFFER, "<I", 0)
            data = model.element(schema.Model.BUFFERS, index).data(schema.Buffer.DATA)
            if data is None:
                raise ValueError(f"buffer {index} is empty")
            return data
    return None


def _read(packed: bytes, content: bytes) -> Metadata:
    root = flatbuffer.root(packed, schema.METADATA_IDENTIFIER)
    graph = _first(root, schema.ModelMetadata.SUBGRAPH_METADATA)
    if graph is None:
        return Metadata(labels=_labels(content, LABELS_NAME))
    image = _first(graph, schema.SubGraphMetadata.INPUT_TENSOR_METADATA)
    scores = _first(graph, schema.SubGraphMetadata.OUTPUT_TENSOR_METADATA)
    return Metadata(
        labels=_labels(content, LABELS_NAME if scores is None else _labels_name(scores)),
        image_size=None if image is None else _image_size(image),
        normalization=Normalization() if image is None else _normalization(image),
        center_crop=_center_crop(graph),
        channels=3 if image is None else _channels(image),
    )


def _first(table: flatbuffer.Table, number: int) -> flatbuffer.Table | None:
    return next(table.elements(number), None)


def _labels(content: bytes, name: str) -> tuple[str, ...] | None:
    labels = read_labels(content, name)
    return None if labels is None else tuple(labels)


def _labels_name(scores: flatbuffer.Table) -> str:
    for file in scores.elements(schema.TensorMetadata.ASSOCIATED_FILES):
        kind = file.scalar(schema.AssociatedFile.TYPE, "<b", 0)
        if kind == schema.AssociatedFileType.TENSOR_AXIS_LABELS:
            return file.string(schema.AssociatedFile.NAME, most=_MAX_NAME_BYTES) or LABELS_NAME
    return LABELS_NAME


def _image_properties(image: flatbuffer.Table) -> flatbuffer.Table | None:
    content = image.table(schema.TensorMetadata.CONTENT)
    if content is None:
        return None
    kind = content.scalar(schema.Content.PROPERTIES_TYPE, "<B", 0)
    is_image = kind == schema.ContentProperties.IMAGE
    return content.table(schema.Content.PROPERTIES) if is_image else None


def _channels(image: flatbuffer.Table) -> int:
    properties = _image_properties(image)
    if properties is None:
        return 3
    color_space = properties.scalar(schema.ImageProperties.COLOR_SPACE, "<b", 0)
    return 1 if color_space == schema.ColorSpace.GRAYSCALE else 3


def _image_size(image: flatbuffer.Table) -> tuple[int, int] | None:
    properties = _image_properties(image)
    size = None if properties is None else properties.table(schema.ImageProperties.DEFAULT_SIZE)
    if size is None:
        return None
    return (
        size.scalar(schema.ImageSize.HEIGHT, "<I", 0),
        size.scalar(schema.ImageSize.WIDTH, "<I", 0),
    )


def _normalization(image: flatbuffer.Table) -> Normalization:
    for unit in image.elements(schema.TensorMetadata.PROCESS_UNITS):
        kind = unit.scalar(schema.ProcessUnit.OPTIONS_TYPE, "<B", 0)
        options = unit.table(schema.ProcessUnit.OPTIONS)
        if kind == schema.ProcessUnitOptions.NORMALIZATION and options is not None:
            return Normalization(
                mean=options.floats(schema.NormalizationOptions.MEAN, most=_MAX_CHANNELS),
                std=options.floats(schema.NormalizationOptions.STD, most=_MAX_CHANNELS),
            )
    return Normalization()


def _center_crop(graph: flatbuffer.Table) -> float:
    for entry in graph.elements(schema.SubGraphMetadata.CUSTOM_METADATA):
        if entry.is_text(schema.CustomMetadata.NAME, CENTER_CROP_NAME):
            return float(entry.data(schema.CustomMetadata.DATA, most=_MAX_NUMBER_BYTES) or b"")
    return 1.0
