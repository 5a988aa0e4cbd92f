"""What a classifier found: the most probable classes, and how they are written."""

import csv
import io
import json

import numpy as np
import pytest

from bireal_keras.runtime.results import (
    CsvWriter,
    Guess,
    JsonWriter,
    TextWriter,
    printable,
    top_k,
)

GUESSES = [Guess(1, 'a "cat", asleep', 0.75), Guess(0, None, 0.25)]


class Terminal(io.StringIO):
    def isatty(self):
        return True


class TestTopK:
    def test_the_most_probable_first(self):
        guesses = top_k(np.float32([0.1, 0.6, 0.3]), ("a", "b", "c"), 2)
        assert [(guess.index, guess.name) for guess in guesses] == [(1, "b"), (2, "c")]
        assert guesses[0].probability == pytest.approx(0.6)

    def test_more_than_there_are(self):
        assert len(top_k(np.float32([0.5, 0.5]), None, 10)) == 2

    def test_none_is_too_few(self):
        for k in (0, -1, "3", 2.5, None, True):
            with pytest.raises(ValueError, match=r"^`top_k` must be a whole .* Received: top_k="):
                top_k(np.float32([0.5, 0.5]), None, k)
        assert len(top_k(np.float32([0.5, 0.5]), None, np.int64(1))) == 1

    def test_of_equal_ones_the_first(self):
        assert [guess.index for guess in top_k(np.full(4, 0.25), None, 4)] == [0, 1, 2, 3]

    def test_sigmoids_need_not_add_up_to_1(self):
        guesses = top_k(np.float32([0.9, 0.8]), None, 2)
        assert [guess.probability for guess in guesses] == [
            float(np.float32(0.9)),
            float(np.float32(0.8)),
        ]

    def test_logits_become_probabilities(self):
        logits = np.float32([1.0, -2.0, 3.0])
        expected = np.exp(logits) / np.exp(logits).sum()
        found = {guess.index: guess.probability for guess in top_k(logits, None, 3)}
        np.testing.assert_allclose([found[i] for i in range(3)], expected, rtol=1e-6)

    def test_large_logits_do_not_overflow(self):
        [guess] = top_k(np.float32([1e4, 0]), None, 1)
        assert (guess.index, guess.probability) == (0, 1.0)

    def test_rounding_does_not_make_logits_of_probabilities(self):
        [guess] = top_k(np.float32([1.0005, -0.0005]), None, 1)
        assert guess.probability == pytest.approx(1.0005)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_a_number_that_is_none(self, value):
        with pytest.raises(ValueError, match="the model gives NaN or infinity"):
            top_k(np.float32([0.5, value]), None, 1)


def test_a_class_without_a_name():
    assert Guess(7, None, 0.5).name == "class 7"


class TestTextWriter:
    def test_a_line_for_each_class(self):
        file = io.StringIO()
        TextWriter(file).write("a.jpg", GUESSES)
        assert file.getvalue() == 'a.jpg\n   75.0%  a "cat", asleep\n   25.0%  class 0\n'

    def test_in_place_on_a_terminal(self):
        file = Terminal()
        writer = TextWriter(file, in_place=True)
        writer.write("camera", GUESSES)
        first = file.getvalue()
        writer.write("camera", GUESSES)
        # Three lines up, and clear the rest of the screen: ECMA-48, CUU and ED.
        assert file.getvalue() == f"{first}\x1b[3A\x1b[J{first}"

    def test_in_place_in_a_file_it_is_not(self):
        file = io.StringIO()
        writer = TextWriter(file, in_place=True)
        writer.write("camera", GUESSES)
        writer.write("camera", GUESSES)
        assert "\x1b" not in file.getvalue()


def test_csv():
    file = io.StringIO()
    writer = CsvWriter(file)
    writer.write("a, b.jpg", GUESSES)
    assert list(csv.reader(file.getvalue().splitlines())) == [
        ["image", "rank", "index", "label", "probability"],
        ["a, b.jpg", "1", "1", 'a "cat", asleep', "0.750000"],
        ["a, b.jpg", "2", "0", "", "0.250000"],
    ]


def test_json():
    file = io.StringIO()
    writer = JsonWriter(file)
    for name in ("a.jpg", "b\n.jpg"):
        writer.write(name, GUESSES)
    first, second = map(json.loads, file.getvalue().splitlines())
    assert (first["image"], second["image"]) == ("a.jpg", "b\n.jpg")
    assert first["classes"] == second["classes"]
    assert first["classes"] == [
        {"index": 1, "label": 'a "cat", asleep', "probability": 0.75},
        {"index": 0, "label": None, "probability": 0.25},
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [("Größe 2", "Größe 2"), ("\x1b[2J", r"\x1b[2J"), ("a\nb", r"a\nb"), ("\u202e", r"\u202e")],
)
def test_printable(text, shown):
    assert printable(text) == shown
