"""Puts into a `.tflite` file what `bireal_keras.tflite.metadata` reads from it.

The fields are those of TensorFlow Lite's metadata schema, in a buffer of the model that its
list of metadata calls TFLITE_METADATA. The class names are in an archive after the model, see
`bireal_keras.tflite.labels`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as tflite

from bireal_keras.tflite import metadata_schema as schema
from bireal_keras.tflite.labels import LABELS_NAME, append_labels
from bireal_keras.tflite.metadata import CENTER_CROP_NAME, Metadata
from bireal_keras.tflite.model import BUFFER_ALIGNMENT, serialize


def embed(flatbuffer: bytes, metadata: Metadata, *, name: str) -> bytes:
    """Adds metadata to a model with one input and one output.

    Args:
        flatbuffer: a TFLite model without metadata of this kind and without an archive.
        metadata: what to add. Without an `image_size` nothing is said about the input.
        name: of the model.

    Returns:
        The model with the metadata; the same arguments give the same bytes.

    Raises:
        ValueError: the model has such metadata already, or a label is bad.
    """
    model = tflite.ModelT.InitFromPackedBuf(flatbuffer, 0)
    entries = list(model.metadata or [])
    if any(entry.name == schema.METADATA_NAME.encode() for entry in entries):
        raise ValueError("`flatbuffer` must be a model without metadata. Received: one with.")
    buffer = tflite.BufferT()
    buffer.data = np.frombuffer(_packed(metadata, name), np.uint8)
    model.buffers.append(buffer)
    entry = tflite.MetadataT()
    entry.name = schema.METADATA_NAME
    entry.buffer = len(model.buffers) - 1
    model.metadata = [*entries, entry]
    content = serialize(model)
    return content if metadata.labels is None else append_labels(content, metadata.labels)


def without_metadata(flatbuffer: bytes) -> bytes:
    """The model without metadata of this kind, if it had any; others stay.

    Args:
        flatbuffer: a TFLite model that was checked before.
    """
    model = tflite.ModelT.InitFromPackedBuf(flatbuffer, 0)
    entries = list(model.metadata or [])
    others = [entry for entry in entries if entry.name != schema.METADATA_NAME.encode()]
    if len(others) == len(entries):
        return flatbuffer
    for entry in entries:
        if entry not in others:
            model.buffers[entry.buffer].data = None
    model.metadata = others
    return serialize(model)


def _packed(metadata: Metadata, name: str) -> bytes:
    """The flatbuffer of the metadata; its parts are written before what refers to them."""
    builder = flatbuffers.Builder(1024)
    graph = {
        schema.SubGraphMetadata.INPUT_TENSOR_METADATA: _vector(
            builder, [_input(builder, metadata)]
        ),
        schema.SubGraphMetadata.OUTPUT_TENSOR_METADATA: _vector(
            builder, [_output(builder, metadata)]
        ),
    }
    version = schema.BASE_VERSION
    if metadata.center_crop != 1:
        crop = {
            schema.CustomMetadata.NAME: builder.CreateString(CENTER_CROP_NAME),
            schema.CustomMetadata.DATA: _bytes(builder, repr(metadata.center_crop).encode()),
        }
        entries = _vector(builder, [_table(builder, crop)])
        graph[schema.SubGraphMetadata.CUSTOM_METADATA] = entries
        version = schema.CUSTOM_METADATA_VERSION
    root = {
        schema.ModelMetadata.NAME: builder.CreateString(name),
        schema.ModelMetadata.SUBGRAPH_METADATA: _vector(builder, [_table(builder, graph)]),
        schema.ModelMetadata.MIN_PARSER_VERSION: builder.CreateString(version),
    }
    builder.Finish(_table(builder, root), file_identifier=schema.METADATA_IDENTIFIER)
    return bytes(builder.Output())


def _input(builder: flatbuffers.Builder, metadata: Metadata) -> int:
    fields = {schema.TensorMetadata.NAME: builder.CreateString("image")}
    if metadata.image_size is not None:
        mean, std = (
            np.array(values, np.float32)
            for values in (metadata.normalization.mean, metadata.normalization.std)
        )
        fields |= {
            schema.TensorMetadata.CONTENT: _image(builder, metadata),
            schema.TensorMetadata.PROCESS_UNITS: _vector(builder, [_normalize(builder, mean, std)]),
            schema.TensorMetadata.STATS: _stats(builder, (0 - mean) / std, (255 - mean) / std),
        }
    return _table(builder, fields)


def _output(builder: flatbuffers.Builder, metadata: Metadata) -> int:
    fields = {
        schema.TensorMetadata.NAME: builder.CreateString("scores"),
        schema.TensorMetadata.CONTENT: _content(
            builder, schema.ContentProperties.FEATURE, _table(builder, {})
        ),
    }
    if metadata.labels is not None:
        file = {
            schema.AssociatedFile.NAME: builder.CreateString(LABELS_NAME),
            schema.AssociatedFile.DESCRIPTION: builder.CreateString("names of the classes"),
        }
        kind = {schema.AssociatedFile.TYPE: schema.AssociatedFileType.TENSOR_AXIS_LABELS}
        files = _vector(builder, [_table(builder, file, int8=kind)])
        fields[schema.TensorMetadata.ASSOCIATED_FILES] = files
    return _table(builder, fields)


def _image(builder: flatbuffers.Builder, metadata: Metadata) -> int:
    assert metadata.image_size is not None
    height, width = metadata.image_size
    size = {schema.ImageSize.WIDTH: width, schema.ImageSize.HEIGHT: height}
    properties = {schema.ImageProperties.DEFAULT_SIZE: _table(builder, uint32=size)}
    color_space = schema.ColorSpace.RGB if metadata.channels == 3 else schema.ColorSpace.GRAYSCALE
    image = _table(builder, properties, int8={schema.ImageProperties.COLOR_SPACE: color_space})
    return _content(builder, schema.ContentProperties.IMAGE, image)


def _content(builder: flatbuffers.Builder, kind: int, properties: int) -> int:
    kinds = {schema.Content.PROPERTIES_TYPE: kind}
    return _table(builder, {schema.Content.PROPERTIES: properties}, int8=kinds)


def _normalize(builder: flatbuffers.Builder, mean: np.ndarray, std: np.ndarray) -> int:
    options = {
        schema.NormalizationOptions.MEAN: builder.CreateNumpyVector(mean),
        schema.NormalizationOptions.STD: builder.CreateNumpyVector(std),
    }
    kind = {schema.ProcessUnit.OPTIONS_TYPE: schema.ProcessUnitOptions.NORMALIZATION}
    return _table(builder, {schema.ProcessUnit.OPTIONS: _table(builder, options)}, int8=kind)


def _stats(builder: flatbuffers.Builder, low: np.ndarray, high: np.ndarray) -> int:
    fields = {
        schema.Stats.MIN: builder.CreateNumpyVector(low),
        schema.Stats.MAX: builder.CreateNumpyVector(high),
    }
    return _table(builder, fields)


def _table(
    builder: flatbuffers.Builder,
    references: Mapping[Any, int] | None = None,
    *,
    int8: Mapping[Any, int] | None = None,
    uint32: Mapping[Any, int] | None = None,
) -> int:
    """Writes a table: {number of a field: position of what it refers to, or its value}."""
    references, int8, uint32 = references or {}, int8 or {}, uint32 or {}
    builder.StartObject(1 + max([-1, *references, *int8, *uint32]))
    for field, value in references.items():
        builder.PrependUOffsetTRelativeSlot(field, value, 0)
    for field, value in uint32.items():
        builder.PrependUint32Slot(field, value, 0)
    for field, value in int8.items():
        builder.PrependInt8Slot(field, value, 0)
    return builder.EndObject()


def _vector(builder: flatbuffers.Builder, positions: Sequence[int]) -> int:
    builder.StartVector(4, len(positions), 4)
    for position in reversed(positions):
        builder.PrependUOffsetTRelative(position)
    return builder.EndVector()


def _bytes(builder: flatbuffers.Builder, content: bytes) -> int:
    builder.StartVector(1, len(content), BUFFER_ALIGNMENT)
    for byte in reversed(content):
        builder.PrependByte(byte)
    return builder.EndVector()
