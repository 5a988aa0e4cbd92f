"""Pictures of a classifier's results. Pillow draws them, since a device has no matplotlib."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bireal_keras._pillow import Image, ImageDraw, ImageFont

# Pixels.
TILE = 160
_COLUMNS = 5
_MARGIN = 12
_FONT_SIZE = 14
_LINE = 18
_MATRIX = 900
_MAX_CELL = 72
# In a smaller cell there is no room for a line of text.
_MIN_CELL_WITH_NAME = 16
_MIN_CELL_WITH_NUMBER = 30
_MAX_NAME = 24

_WHITE, _BLACK, _GREY, _RED = (255, 255, 255), (0, 0, 0), (110, 110, 110), (180, 30, 30)
# Of a cell with all images of its row.
_DARK = (8, 69, 148)


class Tile(NamedTuple):
    """A picture of a gallery, RGB of `TILE` x `TILE` pixels, and the lines below it."""

    picture: Image.Image
    lines: tuple[str, ...]


def confusion_matrix(confusion: np.ndarray, class_names: Sequence[str]) -> Image.Image:
    """Draws how often which class was taken for which.

    A row is a class, a column what its images were taken for. The darker a cell, the more of its
    row's images are in it. Of many classes there is only the colour.

    Args:
        confusion: integers (classes, classes), of at least one class.
        class_names: a name for each.
    """
    classes = len(class_names)
    cell = max(1, min(_MAX_CELL, _MATRIX // classes))
    side = cell * classes
    names = [_shortened(name) for name in class_names] if cell >= _MIN_CELL_WITH_NAME else []
    room = max((_width(name) for name in names), default=0) + _MARGIN
    left, top = _MARGIN + _LINE + room, _MARGIN + _LINE + room
    picture = Image.new("RGB", (left + side + _MARGIN, top + side + _MARGIN), _WHITE)

    images = confusion.sum(axis=1, keepdims=True)
    shares = confusion / np.maximum(images, 1)
    colours = _WHITE + shares[..., None] * (np.array(_DARK) - _WHITE)
    cells = Image.fromarray(np.round(colours).astype(np.uint8))
    picture.paste(cells.resize((side, side), Image.Resampling.NEAREST), (left, top))

    draw = ImageDraw.Draw(picture)
    draw.rectangle((left - 1, top - 1, left + side, top + side), outline=_GREY)
    draw.text((left, _MARGIN), "taken for", fill=_GREY, font=_font())
    _draw_upwards(picture, "is", (_MARGIN, top + _width("is")), _GREY)
    for index, name in enumerate(names):
        middle = index * cell + (cell - _LINE) // 2
        draw.text((left - room, top + middle), name, fill=_BLACK, font=_font())
        _draw_upwards(picture, name, (left + middle, top - _MARGIN // 2), _BLACK)
    if cell >= _MIN_CELL_WITH_NUMBER:
        for (row, column), count in np.ndenumerate(confusion):
            text = str(count)
            x = left + column * cell + (cell - _width(text)) // 2
            y = top + row * cell + (cell - _LINE) // 2
            colour = _WHITE if shares[row, column] > 0.5 else _BLACK
            if count and _width(text) <= cell:
                draw.text((x, y), text, fill=colour, font=_font())
    return picture


def gallery(title: str, tiles: Sequence[Tile]) -> Image.Image:
    """Draws pictures in rows of five, each with its lines below, the first of them in red."""
    rows = -(-len(tiles) // _COLUMNS)
    lines = max((len(tile.lines) for tile in tiles), default=0)
    height = TILE + lines * _LINE + _MARGIN
    size = (_COLUMNS * (TILE + _MARGIN) + _MARGIN, 2 * _MARGIN + _LINE + rows * height)
    picture = Image.new("RGB", size, _WHITE)
    draw = ImageDraw.Draw(picture)
    draw.text((_MARGIN, _MARGIN), title, fill=_BLACK, font=_font())
    for index, tile in enumerate(tiles):
        row, column = divmod(index, _COLUMNS)
        x = _MARGIN + column * (TILE + _MARGIN)
        y = 2 * _MARGIN + _LINE + row * height
        picture.paste(tile.picture, (x, y))
        for number, line in enumerate(tile.lines):
            colour = _GREY if number else _RED
            below = (x, y + TILE + 2 + number * _LINE)
            draw.text(below, _shortened(line, TILE), fill=colour, font=_font())
    return picture


def _draw_upwards(
    picture: Image.Image, text: str, bottom_left: tuple[int, int], colour: tuple[int, int, int]
) -> None:
    """Writes a line from the bottom to the top."""
    mask = Image.new("L", (max(1, _width(text)), _LINE))
    ImageDraw.Draw(mask).text((0, 0), text, fill=255, font=_font())
    mask = mask.transpose(Image.Transpose.ROTATE_90)
    x, bottom = bottom_left
    picture.paste(colour, (x, bottom - mask.height), mask)


@functools.cache
def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    try:
        return ImageFont.load_default(_FONT_SIZE)
    except TypeError:  # Pillow before 10.1 has its font in one size.
        return ImageFont.load_default()


def _width(text: str) -> int:
    return int(np.ceil(_font().getlength(text)))


def _shortened(text: str, width: int = _MAX_NAME * 8) -> str:
    """Text of one line that is at most so many pixels wide, of characters that the font has."""
    font = _font()
    if not isinstance(font, ImageFont.FreeTypeFont):
        text = text.encode("latin-1", "replace").decode("latin-1")
    text = "".join(character if character.isprintable() else "?" for character in text)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."
