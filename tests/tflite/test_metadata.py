"""What a model says about its images and classes, written by export and read by the runtime."""

import dataclasses
import struct
import time
import tracemalloc
import zipfile

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from lce_ops import Op, Tensor, build_model

from bireal_keras import runtime
from bireal_keras.runtime import Metadata, Normalization, read_metadata
from bireal_keras.tflite import metadata_writer
from bireal_keras.tflite.labels import append_labels, read_labels
from bireal_keras.tflite.metadata_schema import METADATA_NAME
from bireal_keras.tflite.metadata_writer import embed
from bireal_keras.tflite.model import serialize

SIZE = (6, 10)
IMAGENET = Normalization(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
FULL = Metadata(
    labels=("cat", "chat noir", "猫"),
    image_size=SIZE,
    normalization=IMAGENET,
    center_crop=0.875,
)


@pytest.fixture(scope="module")
def model() -> bytes:
    """One op, from images of 6x10 to images."""
    tensors = [Tensor((1, *SIZE, 3)), Tensor((1, *SIZE, 3))]
    return build_model(
        tensors, [Op("ABS", [0], [1], builtin=("AbsOptions", schema.AbsOptionsT()))], [0], [1]
    )


def packed(content: bytes) -> bytes:
    """The flatbuffer of the metadata, found with LiteRT's code."""
    root = schema.ModelT.InitFromPackedBuf(content, 0)
    (entry,) = [entry for entry in root.metadata if entry.name == METADATA_NAME.encode()]
    return bytes(root.buffers[entry.buffer].data)


def approximately(metadata: Metadata) -> Metadata:
    """Numbers as float32 holds them."""

    def single(values):
        return tuple(float(np.float32(value)) for value in values)

    normalization = Normalization(
        single(metadata.normalization.mean), single(metadata.normalization.std)
    )
    return dataclasses.replace(metadata, normalization=normalization)


@pytest.mark.parametrize(
    "metadata",
    [
        Metadata(),
        Metadata(image_size=SIZE),
        Metadata(labels=("a", "b")),
        Metadata(image_size=SIZE, normalization=Normalization(mean=0, std=255)),
        Metadata(image_size=SIZE, center_crop=0.1),
        FULL,
    ],
)
def test_round_trip(model, metadata, tmp_path):
    content = embed(model, metadata, name="net")
    assert read_metadata(content) == approximately(metadata)
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    assert read_metadata(path) == read_metadata(content)
    assert embed(model, metadata, name="net") == content


def test_the_model_computes_what_it_did(model):
    image = np.random.default_rng(0).normal(size=(1, *SIZE, 3)).astype(np.float32)
    interpreter = runtime.Interpreter(embed(model, FULL, name="net"))
    np.testing.assert_array_equal(interpreter.predict(image), np.abs(image))
    assert interpreter.metadata == approximately(FULL)


def test_a_model_without_metadata(model):
    """[-1, 1] and the whole square, and class names as ever."""
    assert read_metadata(model) == Metadata()
    assert Metadata().normalization == Normalization(mean=127.5, std=127.5)
    assert Metadata().center_crop == 1
    assert read_metadata(append_labels(model, ["a", "b"])).labels == ("a", "b")
    # The size is that of the input.
    assert runtime.Interpreter(model).metadata == Metadata(image_size=SIZE)


def test_zip_tools_find_the_labels(model, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(embed(model, FULL, name="net"))
    with zipfile.ZipFile(path) as archive:
        assert archive.read("labels.txt").decode() == "cat\nchat noir\n猫\n"


def test_another_file_of_labels(model):
    """Other tools give it any name; the metadata tell which."""
    content = embed(model, Metadata(labels=("a", "b")), name="net").replace(
        b"labels.txt", b"things.txt"
    )
    assert read_labels(content) is None
    assert read_metadata(content).labels == ("a", "b")


def test_every_buffer_is_aligned(model):
    """As the schema demands (force_align), for weights and for the metadata."""
    tensors = [Tensor((1, 3), value=np.ones((1, 3), np.float32)) for _ in range(5)]
    content = serialize(schema.ModelT.InitFromPackedBuf(build_model(tensors, [], [0], [1]), 0))
    content = embed(content, FULL, name="net")
    root = schema.Model.GetRootAs(content, 0)
    data = [root.Buffers(index).DataAsNumpy() for index in range(root.BuffersLength())]
    start = np.frombuffer(content, np.uint8).__array_interface__["data"][0]
    offsets = [x.__array_interface__["data"][0] - start for x in data if isinstance(x, np.ndarray)]
    assert len(offsets) == 6
    assert all(offset % 16 == 0 for offset in offsets)


def test_metadata_are_embedded_once(model):
    with pytest.raises(ValueError, match=r"model without metadata\. Received: one with"):
        embed(embed(model, Metadata(), name="net"), Metadata(), name="net")


def test_metadata_of_another_kind_stay(model):
    root = schema.ModelT.InitFromPackedBuf(model, 0)
    root.buffers.append(schema.BufferT(data=np.frombuffer(b"1.14.0", np.uint8)))
    root.metadata = [schema.MetadataT(name="min_runtime_version", buffer=len(root.buffers) - 1)]
    content = embed(serialize(root), FULL, name="net")
    root = schema.ModelT.InitFromPackedBuf(content, 0)
    assert [entry.name for entry in root.metadata] == [b"min_runtime_version", b"TFLITE_METADATA"]
    assert bytes(root.buffers[root.metadata[0].buffer].data) == b"1.14.0"
    assert read_metadata(content) == approximately(FULL)


class Fields:
    """Reads a table by the numbers in the published schema, with the flatbuffers package."""

    def __init__(self, buffer, position):
        self._table = flatbuffers.table.Table(buffer, position)

    def _position(self, number):
        return self._table.Offset(4 + 2 * number) + self._table.Pos

    def number(self, number, flags=flatbuffers.number_types.Uint32Flags):
        return self._table.Get(flags, self._position(number))

    def text(self, number):
        return self._table.String(self._position(number)).decode()

    def table(self, number):
        return Fields(self._table.Bytes, self._table.Indirect(self._position(number)))

    def tables(self, number):
        offset = self._position(number) - self._table.Pos
        start = self._table.Vector(offset)
        return [
            Fields(self._table.Bytes, self._table.Indirect(start + 4 * index))
            for index in range(self._table.VectorLen(offset))
        ]

    def floats(self, number):
        offset = self._position(number) - self._table.Pos
        return self._table.GetVectorAsNumpy(flatbuffers.number_types.Float32Flags, offset)


def test_against_the_published_schema(model):
    """The numbers are those of metadata_schema.fbs: ModelMetadata.subgraph_metadata is 3, ..."""
    byte = flatbuffers.number_types.Uint8Flags
    buffer = packed(embed(model, FULL, name="net"))
    assert buffer[4:8] == b"M001"
    root = Fields(buffer, struct.unpack_from("<I", buffer)[0])
    assert root.text(0) == "net"
    assert root.text(7) == "1.5.0"
    (graph,) = root.tables(3)
    (image,), (scores,), (crop,) = graph.tables(2), graph.tables(3), graph.tables(9)
    assert image.text(0) == "image"
    assert image.table(3).number(0, byte) == 2  # ImageProperties
    assert image.table(3).table(1).number(0, byte) == 1  # RGB
    size = image.table(3).table(1).table(1)
    assert (size.number(0), size.number(1)) == (10, 6)  # width, height
    (unit,) = image.tables(4)
    assert unit.number(0, byte) == 1  # NormalizationOptions
    mean, std = unit.table(1).floats(0), unit.table(1).floats(1)
    np.testing.assert_allclose(mean, IMAGENET.mean)
    np.testing.assert_allclose(std, IMAGENET.std)
    np.testing.assert_allclose(image.table(5).floats(0), (255 - mean) / std, rtol=1e-6)  # max
    np.testing.assert_allclose(image.table(5).floats(1), (0 - mean) / std, rtol=1e-6)  # min
    assert scores.table(3).number(0, byte) == 1  # FeatureProperties
    (labels,) = scores.tables(6)
    assert labels.text(0) == "labels.txt"
    assert labels.number(2, byte) == 2  # TENSOR_AXIS_LABELS
    assert (crop.text(0), crop.text(1)) == ("BIREAL_CENTER_CROP", "0.875")


def test_against_tensorflow_lites_own_reader(model):
    published = pytest.importorskip(
        "tensorflow_lite_support.metadata.metadata_schema_py_generated",
        reason="needs tflite-support, which wants another protobuf: pip install --no-deps",
    )
    content = embed(model, FULL, name="net")
    root = published.ModelMetadataT.InitFromObj(
        published.ModelMetadata.GetRootAsModelMetadata(packed(content), 0)
    )
    assert root.name == b"net"
    (graph,) = root.subgraphMetadata
    (image,) = graph.inputTensorMetadata
    assert image.content.contentPropertiesType == published.ContentProperties.ImageProperties
    assert image.content.contentProperties.colorSpace == published.ColorSpaceType.RGB
    size = image.content.contentProperties.defaultSize
    assert (size.height, size.width) == SIZE
    (unit,) = image.processUnits
    assert unit.optionsType == published.ProcessUnitOptions.NormalizationOptions
    np.testing.assert_allclose(unit.options.mean, IMAGENET.mean)
    np.testing.assert_allclose(unit.options.std, IMAGENET.std)
    assert (image.stats.min < image.stats.max).all()
    (scores,) = graph.outputTensorMetadata
    (labels,) = scores.associatedFiles
    assert labels.type == published.AssociatedFileType.TENSOR_AXIS_LABELS
    (crop,) = graph.customMetadata
    assert bytes(crop.data) == b"0.875"


def test_size_that_the_input_has_not(model):
    content = embed(model, Metadata(image_size=(6, 6)), name="net")
    with pytest.raises(ValueError, match="images of 6 x 10 pixels, and its metadata say 6 x 6"):
        runtime.Interpreter(content).metadata  # noqa: B018


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mean": ()}, "`mean` must be one number or three. Received: 0"),
        ({"mean": (1, 2)}, "`mean` must be one number or three. Received: 2"),
        ({"std": (1, 2, 0)}, "`std` must be positive"),
        ({"std": -1}, "`std` must be positive"),
        ({"std": float("nan")}, "`std` must be finite"),
        ({"mean": float("inf")}, "`mean` must be finite"),
        # A file has float32, in which these are 0 and infinity.
        ({"std": 1e-50}, "`std` must be positive"),
        ({"std": (1, 1e39, 1)}, "`std` must be finite"),
        ({"mean": -1e39}, "`mean` must be finite"),
        ({"mean": "bright"}, "`mean` must be numbers"),
        ({"mean": None}, "`mean` must be numbers"),
    ],
)
def test_unfit_normalization(arguments, message):
    with pytest.raises(ValueError, match=message):
        Normalization(**arguments)


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (5, 2**31)])
def test_unfit_size(model, size):
    with pytest.raises(ValueError, match="`image_size` must be from 1 to 16384"):
        Metadata(image_size=size)


@pytest.mark.parametrize("share", [0, -1, 1.5, float("nan"), "half", True])
def test_unfit_crop(share):
    with pytest.raises(ValueError, match=r"`center_crop` must be a number in \(0, 1\]"):
        Metadata(center_crop=share)


def test_a_file_that_is_not_a_model(tmp_path):
    path = tmp_path / "photo.tflite"
    for content in (b"", b"TFL", b"TFL3TFL3", bytes(100), b"\xff" * 100):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"photo\.tflite: the metadata cannot be read: "):
            read_metadata(path)
    with pytest.raises(FileNotFoundError):
        read_metadata(tmp_path / "none.tflite")


def answer(content: bytes) -> str:
    """ "read", or "refused" with a ValueError; every other exception is a failure."""
    try:
        read_metadata(content)
    except ValueError:
        return "refused"
    return "read"


def test_truncation_anywhere_is_a_value_error(model):
    content = embed(model, dataclasses.replace(FULL, labels=None), name="net")
    answers = [answer(content[:size]) for size in range(len(content))]
    assert answers.count("refused") > len(content) / 2


def test_damage_anywhere_is_a_value_error(model):
    """Every byte of the model and its metadata, changed in five ways."""
    content = embed(model, dataclasses.replace(FULL, labels=None), name="net")
    refused = 0
    for position in range(len(content)):
        for change in (0x01, 0x10, 0x7F, 0x80, 0xFF):
            damaged = bytearray(content)
            damaged[position] ^= change
            refused += answer(bytes(damaged)) == "refused"
    assert refused > 500


def test_much_damage_is_a_value_error(model):
    content = embed(model, dataclasses.replace(FULL, labels=None), name="net")
    random = np.random.default_rng(0)
    # Where the metadata lie, lengths and offsets are small numbers and huge ones.
    start = content.index(packed(content))
    words = np.array([0, 1, 4, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 4, 2**32 - 1], "<u4")
    refused = 0
    for _ in range(3000):
        damaged = bytearray(content)
        for position in random.integers(start // 4, len(content) // 4, random.integers(1, 6)):
            damaged[4 * position : 4 * position + 4] = random.choice(words).tobytes()
        refused += answer(bytes(damaged)) == "refused"
    assert refused > 1000


def test_a_vector_that_claims_to_be_long_is_not_read(model):
    content = embed(model, Metadata(image_size=SIZE), name="net")
    mean = struct.pack("<If", 1, 127.5)
    assert content.count(mean) == 2  # It is the mean and the deviation.
    with pytest.raises(ValueError, match=r"a vector of 4294967295 items .* does not fit"):
        read_metadata(content.replace(mean, struct.pack("<If", 2**32 - 1, 127.5)))


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("symmetric", (-1,), (1,)),
        ("unit", (0,), (1,)),
        ("raw", (0,), (255,)),
        ("imagenet", (-2.1179, -2.0357, -1.8044), (2.2489, 2.4286, 2.64)),  # torchvision's
        ("100:50", (-2,), (3.1,)),
        ("100,51,0:50,51,255", (-2, -1, 0), (3.1, 4, 1)),
    ],
)
def test_normalization_as_text(text, low, high):
    normalization = Normalization.parse(text)
    mean, std = np.array(normalization.mean), np.array(normalization.std)
    np.testing.assert_allclose((0 - mean) / std, low, atol=1e-4)
    np.testing.assert_allclose((255 - mean) / std, high, atol=1e-4)
    assert str(normalization) == text
    assert Normalization.parse(str(normalization)) == normalization


@pytest.mark.parametrize("text", ["", "imagenett", "1", "1:2:3", "a:b", "1,2:3", "0:0", "nan:1"])
def test_text_that_is_not_a_normalization(text):
    with pytest.raises(ValueError, match=r"normalization must be symmetric, |`mean`|`std`"):
        Normalization.parse(text)


def many_long_names(size: int) -> bytes:
    """A model whose list of metadata leads size / 8 times to one name of size / 2 bytes.

    Written by hand: https://flatbuffers.dev/internals/. A vtable holds its size, the table's size
    and an offset for each field; a table starts with the distance to its vtable.
    """
    count, length = size // 8, size // 2
    head = struct.pack("<I", 28) + b"TFL3"
    model = struct.pack("<9Hxx", 18, 8, 0, 0, 0, 0, 0, 0, 4) + struct.pack("<iI", 20, 4)
    # After the vector come the vtable of the one entry, the entry and the name.
    entry = 4 + 4 * count + 8
    references = (entry - (4 + 4 * index) for index in range(count))
    vector = struct.pack(f"<I{count}I", count, *references)
    name = struct.pack("<3Hxx", 6, 8, 4) + struct.pack("<iI", 8, 4) + struct.pack("<I", length)
    return head + model + vector + name + b"a" * length


@pytest.mark.slow
@pytest.mark.parametrize("size", [100_000, 1_600_000])
def test_work_and_memory_grow_with_the_size(size):
    """200,000 references to a name of 800 KB took four minutes once."""
    content = many_long_names(size)
    tracemalloc.start()
    start = time.process_time()
    assert read_metadata(content) == Metadata()
    seconds = time.process_time() - start
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 20 * size / 1_000_000 + 1
    assert memory < 2 * size


def test_long_vectors_and_names_are_refused(model, monkeypatch):
    """Instead of unpacked: 28 bytes for each float32, and a copy of a text."""
    content = embed(model, FULL, name="net")
    mean = struct.pack("<I3f", 3, *np.array(IMAGENET.mean, np.float32))
    assert content.count(mean) == 1
    with pytest.raises(ValueError, match="a vector of 4 items, where at most 3 make sense"):
        read_metadata(content.replace(mean, struct.pack("<I", 4) + mean[4:]))
    monkeypatch.setattr(metadata_writer, "LABELS_NAME", 300 * "x")
    with pytest.raises(ValueError, match="a vector of 300 items, where at most 255 make sense"):
        read_metadata(embed(model, FULL, name="net"))
