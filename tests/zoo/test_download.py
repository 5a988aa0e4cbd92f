"""Downloads: once, whole, and the right file, whatever the server does."""

import contextlib
import errno
import hashlib
import multiprocessing
import os
import queue
import signal
import socket
import threading
import time

import numpy as np
import pytest
import tqdm

from bireal_keras import _file_lock
from bireal_keras.zoo import _download

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OTHER = hashlib.sha256(b"another file").hexdigest()


@pytest.fixture
def server(server):
    server.content = CONTENT
    return server


@pytest.fixture(autouse=True)
def folder(downloads):
    return downloads


def break_off(server, after):
    """A download that ends too early."""
    server.breaks_off_after = after
    with pytest.raises(OSError, match="Cannot download"):
        _download.fetch(server.url, sha256=SHA256)
    server.breaks_off_after = None
    server.ranges.clear()


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_downloads_once(server, folder, capsys):
    path = _download.fetch(server.url, sha256=SHA256)
    assert path == folder / "weights.h5"
    assert path.read_bytes() == CONTENT
    assert "Downloading weights.h5: 100%" in capsys.readouterr().err
    assert _download.fetch(server.url, sha256=SHA256) == path
    assert server.ranges == [None]
    assert files(folder) == ["weights.h5"]
    assert not capsys.readouterr().err


def test_default_folder_is_keras_own(server, tmp_path, monkeypatch):
    monkeypatch.delenv("KERAS_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    path = _download.fetch(server.url, sha256=SHA256)
    assert path == tmp_path / "home/.keras/models/bireal_keras/weights.h5"


def test_follows_redirections(server, folder):
    """As of releases on GitHub, whose files lie on another host: ranges have to get there."""
    server.url = server.url.replace("/files/", "/redirect/")
    break_off(server, 1000)
    assert _download.fetch(server.url, sha256=SHA256).read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-", "bytes=1000-"]


def test_goes_on_where_it_broke_off(server, folder):
    break_off(server, 100_001)
    assert files(folder) == ["weights.h5.part"]
    break_off(server, 50_000)
    assert _download.fetch(server.url, sha256=SHA256).read_bytes() == CONTENT
    assert server.ranges == ["bytes=150001-"]
    assert files(folder) == ["weights.h5"]


def test_says_how_far_it_came(server, folder):
    server.breaks_off_after = 1234
    with pytest.raises(OSError, match=r"1,?234") as error:
        _download.fetch(server.url, sha256=SHA256)
    message = str(error.value)
    assert server.url in message
    assert "Calling again goes on" in message
    assert f"put it at {folder / 'weights.h5'}" in message
    assert "\n" not in message


def test_server_without_ranges_starts_over(server, folder):
    server.knows_ranges = False
    break_off(server, 100_000)
    assert _download.fetch(server.url, sha256=SHA256).read_bytes() == CONTENT
    assert server.ranges == ["bytes=100000-"]


def test_server_that_does_not_say_how_long_the_file_is(server):
    server.says_length = False
    assert _download.fetch(server.url, sha256=SHA256).read_bytes() == CONTENT


def test_complete_part(server, folder):
    """All bytes had come when the program was killed."""
    folder.mkdir(parents=True)
    (folder / "weights.h5.part").write_bytes(CONTENT)
    assert _download.fetch(server.url, sha256=SHA256).read_bytes() == CONTENT
    assert files(folder) == ["weights.h5"]


@pytest.mark.parametrize("size", [100, len(CONTENT) + 5])
def test_part_of_another_file(server, folder, size):
    folder.mkdir(parents=True)
    (folder / "weights.h5.part").write_bytes(bytes(size))
    with pytest.raises(ValueError, match="the file is deleted"):
        _download.fetch(server.url, sha256=SHA256)
    assert files(folder) == []
    assert _download.fetch(server.url, sha256=SHA256).read_bytes() == CONTENT


def test_wrong_file(server, folder):
    with pytest.raises(ValueError, match=f"{server.url} must have the SHA-256 {OTHER}.*{SHA256}"):
        _download.fetch(server.url, sha256=OTHER)
    assert files(folder) == []


@pytest.mark.parametrize("damage", [b"", CONTENT[:-1], b"x" + CONTENT[1:]], ids=len)
def test_damaged_kept_file_is_downloaded_anew(server, folder, caplog, damage):
    path = _download.fetch(server.url, sha256=SHA256)
    path.write_bytes(damage)
    assert _download.fetch(server.url, sha256=SHA256).read_bytes() == CONTENT
    assert f"deleting {path}: its SHA-256 is" in caplog.text
    assert server.ranges == [None, None]


def test_file_placed_by_hand_needs_no_network(folder):
    folder.mkdir(parents=True)
    (folder / "weights.h5").write_bytes(CONTENT)
    url = "http://host.invalid/weights.h5"
    assert _download.fetch(url, sha256=SHA256) == folder / "weights.h5"


def test_not_there(server, folder):
    url = server.url.replace("/files/", "/nothing/")
    with pytest.raises(OSError, match=f"Cannot download {url}: Not Found"):
        _download.fetch(url, sha256=SHA256)
    assert files(folder) == []


def test_nobody_answers(folder):
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as closed:
        port = closed.getsockname()[1]
    url = f"http://127.0.0.1:{port}/weights.h5"
    with pytest.raises(OSError, match=f"Cannot download {url}: .*refused") as error:
        _download.fetch(url, sha256=SHA256)
    assert str(folder / "weights.h5") in str(error.value)
    assert "\n" not in str(error.value)


def test_silence(monkeypatch):
    """A server that accepts and says nothing."""
    monkeypatch.setattr(_download, "_TIMEOUT_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/w.h5"
        with pytest.raises(OSError, match="timed out"):
            _download.fetch(url, sha256=SHA256)


def _fetch(url, sha256, results):
    try:
        results.put(_download.fetch(url, sha256=sha256).read_bytes() == CONTENT)
    except Exception as error:
        results.put(repr(error))


def fetch_at_once(server, start, count):
    """What each of `count` processes or threads got: True for the right content."""
    results = multiprocessing.Queue()
    workers = [start(target=_fetch, args=(server.url, SHA256, results)) for _ in range(count)]
    for worker in workers:
        worker.start()
    got = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    return got


@pytest.mark.parametrize(
    "start",
    [threading.Thread, multiprocessing.get_context("fork").Process],
    ids=["threads", "processes"],
)
@pytest.mark.parametrize("begun", [0, 1000])
def test_all_at_once_download_once(server, folder, start, begun):
    if begun:
        break_off(server, begun)
    server.seconds = 0.3
    assert fetch_at_once(server, start, 4) == [True] * 4
    assert server.ranges == [f"bytes={begun}-" if begun else None]
    assert files(folder) == ["weights.h5"]


def test_who_waits_says_so_and_goes_on_where_the_other_failed(server, folder, caplog):
    server.seconds, server.breaks_off_after = 0.3, 200_000
    first, second = fetch_at_once(server, threading.Thread, 2)
    assert f"after {200_000:,} of {300_000:,} bytes" in first
    assert second is True
    assert f"waiting for another process that downloads {server.url}" in caplog.text
    assert server.ranges == [None, "bytes=200000-"]


def test_a_process_that_was_killed_leaves_no_lock(server, folder):
    server.seconds = 60
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_fetch, args=(server.url, SHA256, context.Queue()))
    process.start()
    deadline = time.monotonic() + 30
    while not (folder / "weights.h5.part").is_file() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.join()
    assert files(folder) == ["weights.h5.part"]
    server.seconds = 0
    assert _download.fetch(server.url, sha256=SHA256).read_bytes() == CONTENT


def _killed_with(lock):
    lock.acquire()
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_was_killed_while_it_drew_a_bar_stops_nobody(server, folder, monkeypatch):
    """tqdm's lock, which a forked process shares, stays locked for ever."""
    context = multiprocessing.get_context("fork")
    monkeypatch.setattr(tqdm.tqdm, "_lock", context.RLock(), raising=False)
    process = context.Process(target=_killed_with, args=(tqdm.tqdm.get_lock(),))
    process.start()
    process.join()
    results = queue.Queue()
    threading.Thread(target=_fetch, args=(server.url, SHA256, results), daemon=True).start()
    assert results.get(timeout=30) is True


def test_where_files_cannot_be_locked(server, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(_file_lock.fcntl, "flock", no_locks)
    assert _download.fetch(server.url, sha256=SHA256).read_bytes() == CONTENT
    monkeypatch.setattr(_file_lock, "fcntl", None)
    assert _download.fetch(server.url, sha256=SHA256).read_bytes() == CONTENT
