"""Folders of photos, those that cannot be used above all."""

import os
import sys

import numpy as np
import pytest

from bireal_keras.training import image_folder


def touch(folder, *names):
    """Files that are called like images; nobody reads them."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def held_out(folder):
    return sorted(
        os.path.relpath(folder.paths[i], folder.paths[i].parents[1]) for i in folder.validation
    )


def test_a_tenth_of_each_class_is_held_out_always_the_same(tmp_path):
    touch(tmp_path, *(f"a/{i:02}.jpg" for i in range(30)), *(f"b/{i}.png" for i in range(4)))
    folder = image_folder.read(tmp_path)
    assert folder.class_names == ("a", "b")
    assert np.bincount(folder.labels[folder.validation]).tolist() == [3, 1]
    assert sorted([*folder.train, *folder.validation]) == list(range(34))
    assert held_out(folder) == held_out(image_folder.read(tmp_path))


def test_all_of_a_folder_is_its_folder_validation_where_it_has_one(tmp_path):
    names = [f"{part}/{kind}/{i}.jpg" for part in ("train", "val") for kind in "ab" for i in "12"]
    touch(tmp_path, *names)
    expected = ["a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg"]
    assert held_out(image_folder.list_all(tmp_path)) == expected
    assert held_out(image_folder.list_all(tmp_path / "train")) == expected
    assert held_out(image_folder.read(tmp_path)) == expected
    # To evaluate, one class is enough.
    touch(tmp_path / "more", "a/1.jpg")
    assert held_out(image_folder.list_all(tmp_path / "more")) == ["a/1.jpg"]


def test_what_was_held_out_is_found_in_a_folder_that_has_changed(tmp_path):
    touch(tmp_path, *(f"{kind}/{i:02}.jpg" for kind in "abc" for i in range(20)))
    names = image_folder.held_out_names(tmp_path, image_folder.read(tmp_path))
    assert len(names) == 6
    # One is removed, one is now of another class, and there are a new one and a new class.
    (tmp_path / names[0]).unlink()
    (tmp_path / names[1]).rename(tmp_path / "c" / "moved.jpg")
    touch(tmp_path, "b/000.jpg", "d/1.jpg", "d/2.jpg")
    folder = image_folder.read_listed(tmp_path, names)
    assert folder.class_names == ("b", "c")
    assert sorted(map(str, folder.paths)) == sorted(str(tmp_path / name) for name in names[2:])
    assert held_out(folder) == sorted(names[2:])
    assert [folder.class_names[label] for label in folder.labels] == [*"bbcc"]
    with pytest.raises(ValueError, match=f"{tmp_path} holds none of the 1 images"):
        image_folder.read_listed(tmp_path, names[:1])


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems refuse such names")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        # As Python reads a name in Latin-1.
        ("caf\udce9", r"must be text in UTF-8\. Received: '.*caf\\udce9'\. Rename it"),
        ("a\u2028b", r"must be one line, .*Received: '.*a\\u2028b'\. Rename it"),
        ("a\x1cb", r"must be one line, .*Received: '.*a\\x1cb'\. Rename it"),
        (" ", r"must be one line, not blank .*Received: '.*/ '\. Rename it"),
        ("a\n", r"must be one line, .*Received: '.*a\\n'\. Rename it"),
    ],
)
def test_a_class_that_cannot_be_a_line_of_a_text_is_refused(tmp_path, name, message):
    touch(tmp_path, "bird/1.jpg", "bird/2.jpg", f"{name}/1.jpg", f"{name}/2.jpg")
    with pytest.raises(ValueError, match=message) as error:
        image_folder.read(tmp_path)
    str(error.value).encode()  # It can be printed.


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["1.jpg", "2.jpg"], "must hold one folder of images per class.* It holds no folder"),
        (["cat/1.jpg", "cat/2.jpg"], "two classes or more. It holds one: cat"),
        (["cat/1.jpg", "dog/1.jpg"], "/cat holds one image: two are needed"),
        (["cat/1.jpg", "cat/2.jpg", "dog/notes.txt"], r"No image \(.*\) in .*/dog"),
        (
            ["animals/cat/1.jpg", "animals/dog/1.jpg"],
            "/animals must hold the images of one class. It holds folders: if these are the "
            "classes, it is the dataset",
        ),
        (["train/cat/1.jpg", "val/cat/1.jpg"], "/train must hold .* two classes.* one: cat"),
    ],
)
def test_says_in_one_line_what_is_wrong(tmp_path, names, message):
    touch(tmp_path, *names)
    with pytest.raises(ValueError, match=message) as error:
        image_folder.read(tmp_path)
    assert "\n" not in str(error.value)
