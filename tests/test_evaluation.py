"""Figures of a classifier, and their pictures, against counts by hand."""

import numpy as np
import pytest
from PIL import Image

from bireal_keras import evaluation, pictures

# (class, what came first, ...)
SEEN = [(0, 0), (0, 0), (0, 1), (1, 1), (1, 0), (2, 0), (2, 2)]


@pytest.fixture
def counted():
    counted = evaluation.Evaluation(["a", "b", "c", "d"])
    for index, (label, first) in enumerate(SEEN):
        counted.add(f"{index}.jpg", label, [first], 0.5 + index / 100, picture=index)
    return counted


def test_counts(counted):
    assert counted.confusion.tolist() == [[2, 1, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    assert (counted.images, counted.top1, counted.top5) == (7, 4 / 7, None)
    assert [(one.images, one.precision, one.recall) for one in counted.classes] == [
        (3, 2 / 4, 2 / 3),
        (2, 1 / 2, 1 / 2),
        (2, 1 / 1, 1 / 2),
        (0, None, None),
    ]
    assert [(m.image, m.label, m.predicted, m.picture) for m in counted.mistakes] == [
        ("5.jpg", 2, 0, 5),
        ("4.jpg", 1, 0, 4),
        ("2.jpg", 0, 1, 2),
    ]


def test_top5_of_more_than_five_classes():
    counted = evaluation.Evaluation("abcdefg")
    for label in range(7):
        counted.add("x", label, [0, 1, 2, 3, 4], 0.9)
    assert (counted.top1, counted.top5) == (1 / 7, 5 / 7)


def test_only_the_surest_mistakes_are_kept():
    counted = evaluation.Evaluation("ab")
    rng = np.random.default_rng(0)
    probabilities = rng.permutation(1000) / 1000
    for index, probability in enumerate(probabilities):
        counted.add(str(index), 0, [1, 0], probability)
    kept = [mistake.probability for mistake in counted.mistakes]
    assert kept == sorted(probabilities, reverse=True)[: evaluation.MAX_MISTAKES]


def test_no_image_at_all():
    empty = evaluation.Evaluation("ab")
    assert np.isnan(empty.top1)
    assert (empty.to_dict()["top1"], empty.to_dict()["mistakes"]) == (None, [])


@pytest.mark.parametrize("classes", [1, 2, 3, 20, 60, 1000])
def test_a_cell_is_as_dark_as_its_share(classes):
    """Of a class all, half or none of whose images are in a cell."""
    confusion = np.zeros((classes, classes), int)
    confusion[0, 0] = 4
    if classes > 1:
        confusion[1, :2] = 3
    names = [f"class {index} with a name that is rather long" for index in range(classes)]
    picture = np.asarray(pictures.confusion_matrix(confusion, names)).astype(int)
    height, width, _ = picture.shape
    assert max(height, width) < 1400
    cell = max(1, min(72, 900 // classes))
    # The matrix ends where the margin begins; numbers are in the middle of cells.
    top = height - 12 - cell * classes
    left = next(x for x in range(width) if (picture[top, x : x + cell] == (8, 69, 148)).all())
    np.testing.assert_array_equal(picture[top, left], (8, 69, 148))
    if classes > 1:
        half = np.round(255 + 0.5 * (np.array((8, 69, 148)) - 255))
        for column in (0, 1):
            np.testing.assert_array_equal(picture[top + cell, left + column * cell], half)
    if classes > 2:
        np.testing.assert_array_equal(picture[top, left + 2 * cell], 255)


def test_a_name_of_any_characters_is_drawn():
    names = ["Katze", "猫\n", "\x1b[2J", "🐈" * 100]
    assert pictures.confusion_matrix(np.eye(4, dtype=int), names).size[0] < 1000


def test_a_gallery_has_its_pictures_in_rows_of_five():
    colours = [(10 * index, 0, 0) for index in range(7)]
    tiles = [
        pictures.Tile(Image.new("RGB", (pictures.TILE,) * 2, colour), ("first", "second", "third"))
        for colour in colours
    ]
    picture = np.asarray(pictures.gallery("a title", tiles))
    corners = [np.argwhere((picture == colour).all(axis=2)).min(axis=0) for colour in colours[1:]]
    assert len({row for row, _ in corners[:4]}) == 1
    assert corners[4][0] > corners[3][0] + pictures.TILE
    assert [column for _, column in corners[:4]] == sorted({column for _, column in corners[:4]})
    assert pictures.gallery("none", []).size[1] < 60
