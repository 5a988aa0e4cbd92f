"""Every kind of image file, in training and on the device, against pixels that are known."""

import io
import re
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from bireal_keras import image_file
from bireal_keras._keras import tf
from bireal_keras.training import preprocessing

HEIGHT, WIDTH = 29, 43


def waves(height=HEIGHT, width=WIDTH):
    """A smooth colour image that no turn and no mirror leaves as it is, uint8."""
    y, x = np.mgrid[:height, :width]
    planes = [np.sin(x / 7 + y / 11), np.cos(x / 5 - y / 9), np.sin(y / 6 + x / 90)]
    return np.round(127.5 * (1 + np.stack(planes, axis=-1))).astype(np.uint8)


def stored(upright, orientation):
    """What a camera stores, and says `orientation` with, for a picture to look like `upright`."""
    # EXIF 2.32, Section 4.6.4: where the stored row 0 and column 0 are in the picture.
    turned = {
        1: lambda x: x,  # top, left
        2: lambda x: x[:, ::-1],  # top, right
        3: lambda x: x[::-1, ::-1],  # bottom, right
        4: lambda x: x[::-1],  # bottom, left
        5: lambda x: x.transpose(1, 0, 2),  # left, top
        6: lambda x: np.rot90(x),  # right, top
        7: lambda x: np.rot90(x, 2).transpose(1, 0, 2),  # right, bottom
        8: lambda x: np.rot90(x, -1),  # left, bottom
    }[orientation](upright)
    return Image.fromarray(np.ascontiguousarray(turned))


def saved(image, format="PNG", **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def exif(orientation):
    fields = Image.Exif()
    fields[0x0112] = orientation
    return fields


def xmp(orientation, form='tiff:Orientation="{}"/>'):
    head = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description '
    return head + form.format(orientation).encode() + b"</x:xmpmeta>"


def png(pixels, depth, color_type, transparent=None):
    """A PNG of any depth: `pixels` are (height, width, channels) integers."""
    height, width, _ = pixels.shape
    if depth == 16:
        rows = [row.astype(">u2").tobytes() for row in pixels]
    else:
        bits = np.unpackbits(pixels.astype(np.uint8)[..., None], axis=-1)[..., 8 - depth :]
        rows = [np.packbits(row).tobytes() for row in bits]
    header = struct.pack(">2I5B", width, height, depth, color_type, 0, 0, 0)
    chunks = [(b"IHDR", header)]
    if transparent is not None:
        chunks.append((b"tRNS", struct.pack(f">{len(transparent)}H", *transparent)))
    chunks += [(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))), (b"IEND", b"")]
    content = b"\x89PNG\r\n\x1a\n"
    for name, data in chunks:
        content += struct.pack(">I", len(data)) + name + data
        content += struct.pack(">I", zlib.crc32(name + data))
    return content


def as_rgb(grey):
    return np.repeat(np.asarray(grey, np.uint8).reshape(*np.shape(grey)[:2], 1), 3, axis=2)


def on_white(rgb, alpha):
    rgb, alpha = rgb.astype(float), alpha.astype(float)[..., None] / 255
    return np.round(rgb * alpha + 255 * (1 - alpha))


in_graph = tf.function(preprocessing.decode, input_signature=[tf.TensorSpec((), tf.string)])


def check(content, expected, atol=0):
    """Training's and the device's pixels are the same, and those that are expected."""
    on_device = image_file.decode(content)
    assert (on_device.dtype, on_device.shape) == (np.uint8, np.shape(expected))
    np.testing.assert_array_equal(in_graph(tf.constant(content)).numpy(), on_device)
    np.testing.assert_allclose(on_device.astype(float), expected, rtol=0, atol=atol)


LOSSLESS = [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})]


class TestOrientation:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize(("format", "options"), LOSSLESS, ids=str)
    def test_in_exif(self, format, options, orientation):
        image = stored(waves(), orientation)
        check(saved(image, format, exif=exif(orientation), **options), waves())

    @pytest.mark.slow
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize(
        "options",
        [{}, {"subsampling": "4:4:4"}, {"progressive": True}, {"keep_rgb": True}, {"quality": 30}],
        ids=str,
    )
    def test_of_a_jpeg(self, options, orientation):
        image = stored(waves(), orientation)
        plain = saved(image, "JPEG", **options)
        turned = saved(image, "JPEG", exif=exif(orientation), **options)
        pixels = np.asarray(Image.open(io.BytesIO(plain)))
        back = {5: 5, 6: 8, 8: 6}.get(orientation, orientation)
        check(turned, np.asarray(stored(pixels, back)))
        check(turned, waves(), atol=90)
        assert image_file.jpeg_orientation(turned) == orientation

    @pytest.mark.parametrize("orientation", [1, 6, 7])
    @pytest.mark.parametrize(
        "form",
        [
            'tiff:Orientation="{}"/>',
            "tiff:Orientation='{}'/>",
            "><tiff:Orientation>{}</tiff:Orientation></rdf:Description>",
        ],
    )
    def test_in_xmp(self, orientation, form):
        image, note = stored(waves(), orientation), xmp(orientation, form)
        check(saved(image, "WEBP", lossless=True, xmp=note), waves())
        check(saved(image, "TIFF", tiffinfo={700: note}), waves())
        from PIL.PngImagePlugin import PngInfo

        notes = PngInfo()
        notes.add_itxt("XML:com.adobe.xmp", note.decode())
        check(saved(image, "PNG", pnginfo=notes), waves())
        expected = image_file.decode(saved(image, "JPEG", exif=exif(orientation)))
        check(saved(image, "JPEG", xmp=note), expected)

    def test_in_the_xmp_of_a_jpeg_where_pillow_has_no_place_for_it(self, monkeypatch):
        """Pillow 9.4 has the segment in a list, with all the others."""
        opened = Image.open

        def open_as_pillow_9(*args, **options):
            image = opened(*args, **options)
            image.info.pop("xmp", None)
            return image

        monkeypatch.setattr(Image, "open", open_as_pillow_9)
        content = saved(stored(waves(), 8), "JPEG", xmp=xmp(8))
        assert image_file.jpeg_orientation(content) == 8

    def test_exif_wins_over_xmp(self):
        image = stored(waves(), 6)
        check(saved(image, "WEBP", lossless=True, exif=exif(6), xmp=xmp(3)), waves())
        for content in (
            saved(image, "TIFF", exif=exif(6), tiffinfo={700: xmp(6)}),
            saved(image, "TIFF", tiffinfo={274: 6, 700: xmp(6)}),
        ):
            check(content, waves())

    def test_after_the_pixels_of_a_png(self):
        content = saved(stored(waves(), 6), exif=exif(6))
        start = content.index(b"eXIf") - 4
        end = start + 12 + int.from_bytes(content[start : start + 4], "big")
        moved = content[:start] + content[end:-12] + content[start:end] + content[-12:]
        assert moved.index(b"eXIf") > moved.index(b"IDAT")
        check(moved, waves())

    @pytest.mark.parametrize("value", [0, 9, 0x10000 - 1])
    def test_that_is_not_one(self, value):
        check(saved(Image.fromarray(waves()), exif=exif(value)), waves())

    def test_in_notes_that_nobody_can_read(self):
        image = Image.fromarray(waves())
        check(saved(image, exif=b"Exif\0\0no TIFF at all"), waves())
        content = saved(image, "JPEG", exif=b"Exif\0\0no TIFF at all")
        check(content, image_file.decode(saved(image, "JPEG")))

    def test_of_several_jpegs_in_a_file(self):
        """MPO, as telephones write."""
        image, other = stored(waves(), 6), Image.new("RGB", (8, 8))
        content = saved(image, "MPO", save_all=True, append_images=[other], exif=exif(6))
        assert Image.open(io.BytesIO(content)).format == "MPO"
        check(content, image_file.decode(saved(image, "JPEG", exif=exif(6))))

    @pytest.mark.parametrize("orientation", [1, 3, 5, 6])
    def test_of_an_avif(self, orientation):
        if ".avif" not in readable_suffixes():
            pytest.skip("this Pillow has no AVIF")
        content = saved(
            stored(waves(), orientation),
            "AVIF",
            quality=100,
            subsampling="4:4:4",
            exif=exif(orientation),
        )
        check(content, waves(), atol=6)


def readable_suffixes():
    return {s for name in image_file._readable_formats() for s in image_file._FORMATS[name]}


class TestTransparency:
    RGB = waves()
    ALPHA = np.linspace(0, 255, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint8)

    @pytest.mark.parametrize(
        ("format", "options"),
        [*LOSSLESS[:1], ("WEBP", {"lossless": True, "exact": True}), *LOSSLESS[2:]],
        ids=str,
    )
    def test_of_colours(self, format, options):
        image = Image.fromarray(np.dstack([self.RGB, self.ALPHA]))
        check(saved(image, format, **options), on_white(self.RGB, self.ALPHA), atol=1)
        hidden = Image.fromarray(np.dstack([self.RGB, np.zeros_like(self.ALPHA)]))
        check(saved(hidden, format, **options), np.full_like(self.RGB, 255))

    def test_of_greys(self):
        grey = self.RGB[..., 0]
        image = Image.fromarray(np.dstack([grey, self.ALPHA]), "LA")
        check(saved(image), on_white(as_rgb(grey), self.ALPHA), atol=1)

    @pytest.mark.parametrize("depth", [8, 16])
    def test_of_a_pngs_colours(self, depth):
        scale = 1 if depth == 8 else 257
        pixels = np.dstack([self.RGB, self.ALPHA]).astype(int) * scale
        check(png(pixels, depth, 6), on_white(self.RGB, self.ALPHA), atol=1)
        pixels = np.dstack([self.RGB[..., 0], self.ALPHA]).astype(int) * scale
        check(png(pixels, depth, 4), on_white(as_rgb(self.RGB[..., 0]), self.ALPHA), atol=1)

    @pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
    def test_of_one_grey(self, depth):
        last = 2**depth - 1
        values = np.linspace(0, last, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).round().astype(int)
        for transparent in {0, 1, last // 3, last}:
            shown = values >> 8 if depth == 16 else values * (255 // last)
            expected = as_rgb(np.where(values == transparent, 255, shown))
            check(png(values[..., None], depth, 0, [transparent]), expected)

    @pytest.mark.parametrize("depth", [8, 16])
    def test_of_one_colour(self, depth):
        pixels = self.RGB.astype(int)
        if depth == 16:
            pixels = pixels << 8 | 0xA7
        expected = self.RGB.copy()
        expected[(self.RGB[9, 20] == self.RGB).all(axis=-1)] = 255
        assert (expected != self.RGB).any()
        check(png(pixels, depth, 2, pixels[9, 20]), expected)

    @pytest.mark.parametrize("format", ["PNG", "GIF"])
    def test_of_a_palette(self, format):
        image = Image.fromarray(self.RGB).quantize(16)
        index = np.asarray(image)
        colours = np.asarray(image.convert("RGB"))
        expected = np.where((index == 5)[..., None], 255, colours)
        assert (expected != colours).any()
        check(saved(image, format, transparency=5), expected)

    def test_of_many_in_a_palette(self):
        image = Image.fromarray(self.RGB).quantize(16)
        alpha = np.arange(0, 256, 16, dtype=np.uint8)
        expected = on_white(np.asarray(image.convert("RGB")), alpha[np.asarray(image)])
        check(saved(image, transparency=alpha.tobytes()), expected, atol=1)


class TestColours:
    GREY = waves()[..., 0]

    @pytest.mark.parametrize("format", ["PNG", "TIFF", "BMP", "PPM", "GIF"])
    def test_greys(self, format):
        check(saved(Image.fromarray(self.GREY), format), as_rgb(self.GREY))

    @pytest.mark.parametrize("format", ["PNG", "TIFF", "BMP", "PPM", "GIF"])
    def test_black_and_white(self, format):
        bits = self.GREY > 100
        check(saved(Image.fromarray(bits), format), as_rgb(bits * 255))

    @pytest.mark.parametrize("orientation", [1, 7])
    def test_grey_jpeg(self, orientation):
        image = stored(as_rgb(self.GREY), orientation).convert("L")
        content = saved(image, "JPEG", exif=exif(orientation), quality=95)
        assert image_file.jpeg_orientation(content) == orientation
        check(content, as_rgb(self.GREY), atol=6)

    @pytest.mark.parametrize("format", ["PNG", "TIFF", "BMP", "PPM"])
    def test_colours(self, format):
        check(saved(Image.fromarray(waves()), format), waves())

    @pytest.mark.parametrize("format", ["JPEG", "TIFF"])
    @pytest.mark.parametrize("orientation", [1, 6])
    def test_cmyk(self, format, orientation):
        rng = np.random.default_rng(0)
        ink = np.full((16, 16, 4), rng.integers(0, 256, 4), np.uint8)
        image = Image.fromarray(ink, "CMYK")
        expected = (255 - ink[..., :3].astype(float)) * (255 - ink[..., 3:].astype(float)) / 255
        content = saved(image, format, exif=exif(orientation))
        assert image_file.jpeg_orientation(content) == 0
        check(content, expected, atol=4 if format == "JPEG" else 1)

    @pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM"])
    def test_the_upper_8_of_16_bits(self, format):
        values = (self.GREY.astype(np.uint16) << 8) | 0xA7
        check(saved(Image.fromarray(values), format), as_rgb(self.GREY))

    def test_the_upper_8_of_16_bits_of_colours(self):
        check(png((waves().astype(int) << 8) | 0xA7, 16, 2), waves())

    def test_palette(self):
        image = Image.fromarray(waves()).quantize(16)
        for format in ("PNG", "GIF", "BMP", "TIFF"):
            check(saved(image, format), np.asarray(image.convert("RGB")))

    @pytest.mark.parametrize(
        ("format", "options"),
        [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {}), ("TIFF", {})],
        ids=str,
    )
    def test_the_first_frame_of_an_animation(self, format, options):
        colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]
        first, *others = (Image.new("RGB", (8, 8), colour) for colour in colours)
        content = saved(first, format, save_all=True, append_images=others, **options)
        check(content, np.full((8, 8, 3), colours[0]))

    def test_jpeg_2000(self):
        if ".jp2" not in readable_suffixes():
            pytest.skip("this Pillow has no JPEG 2000")
        check(saved(Image.fromarray(waves()), "JPEG2000"), waves())

    @pytest.mark.parametrize("mode", ["F", "I"])
    def test_pixels_that_are_not_colours(self, mode):
        image = Image.fromarray(np.full((3, 3), 70000, np.float32 if mode == "F" else np.int32))
        with pytest.raises(ValueError, match="its pixels"):
            image_file.decode(saved(image, "TIFF"))


class TestLargeImages:
    @pytest.mark.parametrize("orientation", [1, 6])
    @pytest.mark.parametrize(("pixels", "scale"), [(6144, 1), (6143, 2), (1535, 4), (383, 8)])
    def test_a_jpeg_is_scaled_while_it_is_decoded(self, monkeypatch, orientation, pixels, scale):
        monkeypatch.setattr(image_file, "_WHOLE_JPEG_PIXELS", pixels)
        upright = waves(64, 96)
        image = stored(upright, orientation)
        content = saved(image, "JPEG", quality=95, subsampling="4:4:4", exif=exif(orientation))
        assert image_file.jpeg_orientation(content) == (orientation if scale == 1 else 0)
        blocks = upright.reshape(64 // scale, scale, 96 // scale, scale, 3)
        check(content, blocks.mean(axis=(1, 3)), atol=24)

    @pytest.mark.parametrize(
        ("content", "limit"),
        [
            (saved(Image.new("RGB", (9, 9))), image_file._MAX_PIXELS),
            (saved(Image.new("RGB", (9, 9)), "JPEG", progressive=True), image_file._MAX_PIXELS),
            (saved(Image.new("RGB", (9, 9)), "JPEG"), image_file._MAX_JPEG_PIXELS),
        ],
        ids=["PNG", "progressive", "JPEG"],
    )
    def test_what_is_too_large_is_not_decoded(self, monkeypatch, content, limit):
        name = "_MAX_PIXELS" if limit == image_file._MAX_PIXELS else "_MAX_JPEG_PIXELS"
        monkeypatch.setattr(image_file, name, 81)
        image_file.decode(content)
        monkeypatch.setattr(image_file, name, 80)
        for read in (image_file.decode, image_file.jpeg_orientation):
            with pytest.raises(ValueError, match="it has 9 x 9 pixels; of its kind, 80 are read"):
                read(content)

    @pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")
    def test_a_photo_of_100_megapixels_takes_less_than_300_mib(self, tmp_path):
        write = "from PIL import Image; Image.new('RGB', (10_000, 10_000)).save('x.jpg')"
        subprocess.run([sys.executable, "-c", write], cwd=tmp_path, check=True)
        read = (
            "from bireal_keras import runtime\n"
            "runtime.load_image('x.jpg', runtime.Metadata(image_size=(224, 224)))\n"
            "print(open('/proc/self/status').read())\n"
        )
        command = [sys.executable, "-c", read]
        result = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
        # Not resource.getrusage, whose peak is that of the process before, which started this one.
        peak = re.search(r"VmHWM:\s+(\d+) kB", result.stdout)
        assert int(peak[1]) < 300 * 1024
