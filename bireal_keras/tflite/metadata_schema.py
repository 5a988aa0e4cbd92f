"""The fields of TensorFlow Lite's schemas that metadata takes: their numbers in the tables.

Sources: https://github.com/tensorflow/tflite-support,
tensorflow_lite_support/metadata/metadata_schema.fbs, version 1.5.0, and
https://github.com/tensorflow/tensorflow, tensorflow/compiler/mlir/lite/schema/schema.fbs.
"""

from enum import IntEnum

MODEL_IDENTIFIER = b"TFL3"
METADATA_IDENTIFIER = b"M001"
# Among the model's own list of metadata, the one that points to a buffer of this schema.
METADATA_NAME = "TFLITE_METADATA"
# The schema's first version, and the first one that has CustomMetadata.
BASE_VERSION = "1.0.0"
CUSTOM_METADATA_VERSION = "1.5.0"


class Model(IntEnum):
    BUFFERS = 4
    METADATA = 6


class Metadata(IntEnum):
    NAME = 0
    BUFFER = 1


class Buffer(IntEnum):
    DATA = 0


class ModelMetadata(IntEnum):
    NAME = 0
    SUBGRAPH_METADATA = 3
    MIN_PARSER_VERSION = 7


class SubGraphMetadata(IntEnum):
    INPUT_TENSOR_METADATA = 2
    OUTPUT_TENSOR_METADATA = 3
    CUSTOM_METADATA = 9


class TensorMetadata(IntEnum):
    NAME = 0
    DESCRIPTION = 1
    CONTENT = 3
    PROCESS_UNITS = 4
    STATS = 5
    ASSOCIATED_FILES = 6


class Content(IntEnum):
    PROPERTIES_TYPE = 0
    PROPERTIES = 1


class ContentProperties(IntEnum):
    FEATURE = 1
    IMAGE = 2


class ImageProperties(IntEnum):
    COLOR_SPACE = 0
    DEFAULT_SIZE = 1


class ColorSpace(IntEnum):
    RGB = 1
    GRAYSCALE = 2


class ImageSize(IntEnum):
    WIDTH = 0
    HEIGHT = 1


class ProcessUnit(IntEnum):
    OPTIONS_TYPE = 0
    OPTIONS = 1


class ProcessUnitOptions(IntEnum):
    NORMALIZATION = 1


class NormalizationOptions(IntEnum):
    MEAN = 0
    STD = 1


class Stats(IntEnum):
    MAX = 0
    MIN = 1


class AssociatedFile(IntEnum):
    NAME = 0
    DESCRIPTION = 1
    TYPE = 2


class AssociatedFileType(IntEnum):
    TENSOR_AXIS_LABELS = 2


class CustomMetadata(IntEnum):
    NAME = 0
    DATA = 1
