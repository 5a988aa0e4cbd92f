"""Image files of all kinds, as a model gets to see them."""

import io
import os
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from bireal_keras.runtime import Metadata, Normalization, load_image

# The model sees pixels as they are.
PIXELS = Metadata(image_size=(4, 4), normalization=Normalization(mean=0, std=1))


def waves(height, width):
    """A smooth colour image, uint8."""
    y, x = np.mgrid[:height, :width]
    planes = [np.sin(x / 7 + y / 11), np.cos(x / 5 - y / 9), np.sin(y / 6)]
    return np.round(127.5 * (1 + np.stack(planes, axis=-1))).astype(np.uint8)


def saved(image, format="PNG", **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    file.seek(0)
    return file


def flat(value, mode="RGB", **options):
    """What a model sees of an image of one colour: (red, green, blue)."""
    image = load_image(saved(Image.new(mode, (9, 7), value), **options), PIXELS)
    assert image.shape == (4, 4, 3)
    assert image.dtype == np.float32
    assert np.ptp(image, axis=(0, 1)).max() == 0
    return tuple(image[0, 0])


def test_pixels_become_minus_one_to_one(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "x.png")
    result = load_image(tmp_path / "x.png", Metadata(image_size=(4, 4)))
    # It is what `preprocessing` computes, to the last bit.
    np.testing.assert_array_equal(result, image.astype(np.float32) / 127.5 - 1)


def test_normalization_of_each_channel():
    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    image = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    metadata = Metadata(image_size=(4, 4), normalization=Normalization(mean, std))
    result = load_image(saved(Image.fromarray(image)), metadata)
    np.testing.assert_allclose(result, (image - np.array(mean)) / np.array(std), atol=1e-5)


@pytest.mark.parametrize("size", [(90, 61), (60, 200), (64, 64), (20, 31), (1, 1), (1, 50)])
@pytest.mark.parametrize("share", [1, 224 / 256, 0.5])
def test_the_central_square(size, share):
    image = waves(*size)
    side = max(1, round(share * min(size)))
    top, left = (size[0] - side) // 2, (size[1] - side) // 2
    square = Image.fromarray(image[top : top + side, left : left + side])
    expected = square.resize((32, 32), Image.Resampling.BILINEAR)

    metadata = Metadata((), (32, 32), Normalization(0, 1), share)
    result = load_image(saved(Image.fromarray(image)), metadata)
    np.testing.assert_array_equal(result, np.asarray(expected, np.float32))


def test_an_input_that_is_no_square_keeps_the_proportions():
    image = waves(100, 100)
    metadata = Metadata((), (10, 20), Normalization(0, 1))
    expected = Image.fromarray(image[25:75]).resize((20, 10), Image.Resampling.BILINEAR)
    result = load_image(saved(Image.fromarray(image)), metadata)
    np.testing.assert_array_equal(result, np.asarray(expected, np.float32))


def test_colours_and_greys():
    assert flat((10, 20, 30)) == (10, 20, 30)
    assert flat(77, "L") == (77, 77, 77)
    assert flat(1, "1") == (255, 255, 255)
    assert flat((10, 20, 30), format="BMP") == (10, 20, 30)
    np.testing.assert_allclose(flat((10, 200, 30), format="JPEG"), (10, 200, 30), atol=3)
    np.testing.assert_allclose(flat((0, 255, 255, 0), "CMYK", format="JPEG"), (255, 0, 0), atol=3)


@pytest.mark.parametrize("value", [0, 255, 256, 0x4DFF, 0xFFFF])
@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_the_upper_8_of_16_bits(value, format):
    pixels = np.full((7, 9), value, np.uint16)
    image = load_image(saved(Image.fromarray(pixels), format), PIXELS)
    assert (image == value >> 8).all()


def test_palettes():
    image = Image.fromarray(waves(8, 8)).quantize(16)
    assert image.mode == "P"
    expected = np.asarray(image.convert("RGB").resize((4, 4), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(load_image(saved(image), PIXELS), expected)


def test_white_shows_through():
    assert flat((255, 0, 0, 255), "RGBA") == (255, 0, 0)
    assert flat((255, 0, 0, 0), "RGBA") == (255, 255, 255)
    np.testing.assert_allclose(flat((255, 0, 0, 51), "RGBA"), (255, 204, 204), atol=1)
    assert flat((0, 0), "LA") == (255, 255, 255)
    # A colour stands for transparent, or a palette's entry does.
    assert flat((1, 2, 3), transparency=(1, 2, 3)) == (255, 255, 255)
    assert flat((1, 2, 4), transparency=(1, 2, 3)) == (1, 2, 4)
    assert flat(5, "L", transparency=5) == (255, 255, 255)
    assert flat(0, "P", transparency=0) == (255, 255, 255)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "TIFF"])
def test_the_first_frame_of_an_animation(format):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("black", "white", "white")]
    file = saved(frames[0], format, save_all=True, append_images=frames[1:])
    assert load_image(file, PIXELS).max() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_in_exif(orientation):
    upright = waves(8, 8)
    # A camera stores this for the picture to be turned back.
    stored = {
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.transpose(1, 0, 2),
        6: lambda x: np.rot90(x),
        7: lambda x: np.rot90(x, 2).transpose(1, 0, 2),
        8: lambda x: np.rot90(x, -1),
    }[orientation](upright)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(stored))
    metadata = Metadata((), (8, 8), Normalization(0, 1))
    np.testing.assert_array_equal(load_image(saved(image, exif=exif), metadata), upright)


def test_no_size():
    with pytest.raises(ValueError, match="`metadata` must have an `image_size`"):
        load_image(saved(Image.new("L", (1, 1))), Metadata())


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pixels_that_are_no_colours(mode):
    image = Image.fromarray(np.full((3, 3), 70000, np.float32 if mode == "F" else np.int32))
    with pytest.raises(ValueError, match="its pixels"):
        load_image(saved(image, "TIFF"), PIXELS)


def png(width, height):
    """A PNG of a few bytes that claims to be large."""
    content = bytearray(saved(Image.new("L", (1, 1))).getvalue())
    content[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return io.BytesIO(content)


@pytest.mark.parametrize("size", [(50_000, 50_000), (2**31 - 1, 2**31 - 1)])
def test_decompression_bombs(size):
    with pytest.raises(ValueError, match="decompression bomb"):
        load_image(png(*size), PIXELS)


def test_a_long_line_of_pixels_that_are_not_there():
    with pytest.raises(OSError, match="truncated"):
        load_image(png(2**20, 1), PIXELS)


def iptc(*fields):
    """An IPTC file of (record, number, content)."""
    return b"".join(
        bytes([0x1C, record, number]) + struct.pack(">H", len(content)) + content
        for record, number, content in fields
    )


@pytest.mark.parametrize("wrapped", [False, True])
def test_postscript_is_not_run(tmp_path, monkeypatch, wrapped):
    """Neither as it is, nor in IPTC, whose reader in Pillow opens what is inside."""
    interpreter = tmp_path / "gs"
    interpreter.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    interpreter.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    content = saved(Image.new("RGB", (10, 10)), "EPS").getvalue()
    if wrapped:
        size = struct.pack(">H", 10)
        header = [(3, 60, b"\1\0"), (3, 20, size), (3, 30, size), (3, 120, b"\5")]
        content = iptc(*header, (8, 10, content))
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(OSError, match="it is not an image of a kind that is read"):
        load_image(path, PIXELS)
    assert not (tmp_path / "started").exists()


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.jpg")
    with pytest.raises(OSError, match="it is not a regular file"):
        load_image(tmp_path / "x.jpg", PIXELS)


def test_a_reader_that_fails_in_its_own_way(monkeypatch):
    def load(image):
        raise MemoryError

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)
    with pytest.raises(OSError, match="the image cannot be decoded: MemoryError"):
        load_image(saved(Image.new("L", (1, 1))), PIXELS)


def test_no_image():
    with pytest.raises(OSError, match="it is not an image of a kind that is read"):
        load_image(io.BytesIO(b"no image"), PIXELS)
    with pytest.raises(OSError, match="it is not an image of a kind that is read"):
        load_image(io.BytesIO(b""), PIXELS)
    with pytest.raises(FileNotFoundError):
        load_image("none.png", PIXELS)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_damage_is_one_of_two_errors(format):
    """Truncated anywhere, or any bytes changed: an image, an OSError or a ValueError."""
    image = Image.fromarray(waves(16, 16))
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {} if format in ("GIF", "BMP", "PPM") else {"exif": exif}
    content = saved(image, format, **options).getvalue()
    random = np.random.default_rng(0)
    damaged = [content[: int(size)] for size in random.integers(0, len(content), 60)]
    for _ in range(150):
        changed = bytearray(content)
        for position in random.integers(0, min(len(content), 400), 2):
            changed[position] = random.integers(256)
        damaged.append(bytes(changed))
    refused = 0
    for content in damaged:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                assert np.isfinite(load_image(io.BytesIO(content), PIXELS)).all()
            except (OSError, ValueError):
                refused += 1
    assert refused >= 20
