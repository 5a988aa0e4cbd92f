"""Files that are whole or not there."""

import os
import resource
import subprocess
import sys
import threading

import pytest

from bireal_keras import _files


def test_writes_text_and_bytes(tmp_path):
    _files.write(tmp_path / "text", "Größe\n")
    assert (tmp_path / "text").read_bytes() == "Größe\n".encode()
    _files.write(tmp_path / "text", b"\xff")
    assert (tmp_path / "text").read_bytes() == b"\xff"
    assert os.listdir(tmp_path) == ["text"]


def test_the_other_name_keeps_the_suffix(tmp_path):
    with _files.replacing(tmp_path / "model.keras") as partial:
        assert partial.parent == tmp_path
        assert (partial.suffix, partial.name) != (".keras", "model.keras")
        assert partial.suffix == ".keras"
        partial.write_text("new")
        assert not (tmp_path / "model.keras").exists()
    assert (tmp_path / "model.keras").read_text() == "new"


def test_an_exception_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def write_half():
        with _files.replacing(path) as partial:
            partial.write_text("half of the ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_full_disk_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A file may not grow beyond this: the write stops in its middle, as on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            _files.write(path, 1000 * "x")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_it_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace

    def synced(file):
        events.append(("fsync", os.fstat(file).st_size, (tmp_path / "file").exists()))
        fsync(file)

    def renamed(old, new):
        events.append(("replace", os.path.getsize(old), os.path.exists(new)))
        replace(old, new)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    _files.write(tmp_path / "file", "12345")
    assert events == [("fsync", 5, False), ("replace", 5, False)]


def test_a_link_stays_and_its_file_is_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "folder" / "file")
    _files.write(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "folder" / "file").read_text() == "new"


def test_a_pipe_is_written_to(tmp_path):
    """As /dev/stdout is where the output of a command goes to another one."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    read = []
    reader = threading.Thread(target=lambda: read.append(path.read_text()))
    reader.start()
    _files.write(path, "through")
    reader.join(timeout=60)
    assert read == ["through"]
    assert os.listdir(tmp_path) == ["pipe"]


def test_two_processes_write_the_same_file(tmp_path):
    """Each time it is one of the two, and never a mixture."""
    script = (
        "import sys; from bireal_keras import _files\n"
        "for _ in range(100): _files.write(sys.argv[1], 100_000 * sys.argv[2])"
    )
    path = tmp_path / "file"
    writers = [
        subprocess.Popen([sys.executable, "-c", script, path, letter], stderr=subprocess.PIPE)
        for letter in "ab"
    ]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            seen.add(path.read_text())
    assert [writer.communicate()[1] for writer in writers] == [b"", b""]
    assert seen <= {100_000 * "a", 100_000 * "b"}
    assert seen
    assert os.listdir(tmp_path) == ["file"]
