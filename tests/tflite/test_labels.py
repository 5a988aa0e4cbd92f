"""Class names in the archive after a TFLite model."""

import io
import struct
import subprocess
import sys
import time
import tracemalloc
import warnings
import zipfile
import zlib

import pytest

from bireal_keras.tflite import labels
from bireal_keras.tflite.labels import append_labels, read_labels

# To the archive any bytes are a model; interpreters get a real one in tests/export.
MODEL = b"TFL3" + bytes(range(256)) * 10
LABELS = ["cat", "chat noir", "猫", "Egyptian cat, a tabby"]


def archive(name="labels.txt", content=b"cat\n", method=zipfile.ZIP_DEFLATED):
    file = io.BytesIO(MODEL)
    with zipfile.ZipFile(file, "a", method) as z:
        z.writestr(name, content)
    return file.getvalue()


def test_round_trip():
    data = append_labels(MODEL, LABELS)
    assert data.startswith(MODEL)
    assert read_labels(data) == LABELS


def test_zip_tools_find_the_names(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(append_labels(MODEL, LABELS))
    with zipfile.ZipFile(path) as z:
        assert z.testzip() is None
        assert z.namelist() == ["labels.txt"]
        assert z.read("labels.txt").decode() == "cat\nchat noir\n猫\nEgyptian cat, a tabby\n"
    assert read_labels(path) == LABELS
    assert read_labels(str(path)) == LABELS


def test_same_arguments_give_the_same_bytes(monkeypatch):
    first = append_labels(MODEL, LABELS)
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    monkeypatch.setattr("time.localtime", lambda *_: (2033, 5, 18, 3, 33, 20, 2, 138, 0))
    assert append_labels(MODEL, LABELS) == first


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"TFL3",
        MODEL,
        # It is the four bytes alone, as weights may contain them.
        MODEL + b"PK\x05\x06" + MODEL[:100],
        archive("other.txt"),
        archive("folder/labels.txt"),
    ],
)
def test_no_labels(data):
    assert read_labels(data) is None


def test_other_entries_are_ignored():
    file = io.BytesIO(archive("metadata.json", b"{}"))
    with zipfile.ZipFile(file, "a") as z:
        z.writestr("labels.txt", "cat\r\ndog\r\n")
    assert read_labels(file.getvalue()) == ["cat", "dog"]


def test_a_byte_order_mark_is_no_part_of_a_name():
    assert read_labels(archive(content="\ufeffcat\ndog\n".encode())) == ["cat", "dog"]


@pytest.mark.parametrize(
    "names",
    [[], "cat", None, ["cat", ""], ["cat", "  "], ["a\nb"], ["a\r"], ["a\u2028b"], [1], [b"cat"]],
)
def test_bad_labels(names):
    with pytest.raises(ValueError, match="`labels` must be"):
        append_labels(MODEL, names)


def test_a_bad_label_is_told_by_its_number():
    message = r"none empty\. Received: '' as number 3 of 4\.$"
    with pytest.raises(ValueError, match=message):
        append_labels(MODEL, ["cat", "dog", "", "hen"])


def test_name_that_is_not_unicode():
    # Python makes this of a folder's name with stray bytes.
    with pytest.raises(ValueError, match="surrogates not allowed"):
        append_labels(MODEL, ["caf\udce9"])


def test_labels_are_appended_once():
    with pytest.raises(ValueError, match="without an archive"):
        append_labels(append_labels(MODEL, LABELS), LABELS)


def test_too_long_labels_are_not_written():
    with pytest.raises(ValueError, match="at most 2,000,000 bytes"):
        append_labels(MODEL, ["x" * 2_000_000])


@pytest.fixture
def memory():
    """Returns the most memory that was in use since the test began, in bytes."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


@pytest.fixture(scope="module")
def bomb():
    """200 MB of zeros in 200 KB."""
    data = archive(content=bytes(200_000_000))
    assert len(data) < 250_000
    return data


def test_bomb_is_not_unpacked(bomb, memory):
    with pytest.raises(ValueError, match="200,000,000 bytes, limit 2,000,000"):
        read_labels(bomb)
    assert memory() < 1_000_000


@pytest.mark.parametrize("size", [0, 4, 1_999_999, 2_000_000])
def test_bomb_that_lies_about_its_size_is_not_unpacked(bomb, memory, size):
    data = bytearray(bomb)
    directory = data.rindex(b"PK\x01\x02")
    assert struct.unpack_from("<I", data, directory + 24) == (200_000_000,)
    struct.pack_into("<I", data, directory + 16, zlib.crc32(bytes(size)))
    struct.pack_into("<I", data, directory + 24, size)
    before = memory()
    # What the archive says is a text of that many zeros, right to its checksum.
    assert read_labels(bytes(data)) == (["\0" * size] if size else [])
    assert memory() - before < 10_000_000


@pytest.mark.parametrize("line", ["x\n", "猫\n", "\n"])
def test_the_most_names_that_fit_take_little(memory, line):
    content = (line * (2_000_000 // len(line.encode()))).encode()
    data = archive(content=content)
    before = memory()
    assert len(read_labels(data)) == content.count(b"\n")
    assert memory() - before < 80_000_000


@pytest.mark.slow
def test_an_archive_of_many_files(memory):
    """Time and memory for its directory grow with its size."""
    file = io.BytesIO(MODEL)
    with zipfile.ZipFile(file, "a") as z:
        for index in range(20_000):
            z.writestr(f"{index}", b"")
    data = file.getvalue()
    before, start = memory(), time.process_time()
    assert read_labels(data) is None
    assert memory() - before < 20 * len(data)
    assert time.process_time() - start < 10


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unusual_compression_is_refused(method):
    with pytest.raises(ValueError, match="unusual method"):
        read_labels(archive(method=method))


def test_content_that_is_not_utf8():
    with pytest.raises(ValueError, match="utf-8"):
        read_labels(archive(content=b"\xff\xfe"))


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.tflite"):
        read_labels(tmp_path / "none.tflite")


def test_error_names_the_file(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(archive(content=b"\xff"))
    with pytest.raises(ValueError, match=str(path)):
        read_labels(path)


def test_damage_anywhere_in_the_archive_is_a_value_error():
    """Every byte of the archive, changed in three ways: an answer or a ValueError, no crash."""
    data = append_labels(MODEL, LABELS)
    refused = 0
    for position in range(len(MODEL), len(data)):
        for change in (0x01, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[position] ^= change
            try:
                # zipfile warns of what it repairs.
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    read_labels(bytes(damaged))
            except ValueError:
                refused += 1
    assert refused > 100


def test_needs_nothing_but_python():
    # -S: without site-packages.
    subprocess.run([sys.executable, "-I", "-S", labels.__file__], check=True)
