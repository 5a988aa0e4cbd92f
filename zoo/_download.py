"""Files from the network: kept, checked, downloaded once, and from where it broke off."""

import contextlib
import hashlib
import http.client
import logging
import os
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from bireal_keras import _file_lock

_log = logging.getLogger(__name__)

_CHUNK_BYTES = 1 << 16
_TIMEOUT_SECONDS = 30  # without a single byte


class _Bar(tqdm):
    """A progress bar with a lock of this process.

    tqdm's own lock is shared with every process that was forked, and one that is killed while it
    holds the lock leaves all others waiting for ever.
    """


_Bar.set_lock(threading.RLock())


def fetch(url: str, *, sha256: str) -> Path:
    """Returns a file that lies on this machine, and downloads it first if it does not.

    It is kept in the folder `models/bireal_keras` of Keras' folder, which is the environment
    variable KERAS_HOME or else ~/.keras. What a broken-off download left is there too, with
    the suffix `.part`, and the next call goes on from it. Of several processes that call at once
    one downloads, and the others wait for it.

    Args:
        url: where it is published.
        sha256: its SHA-256, in hexadecimal. A file that was kept has to have it as well.

    Raises:
        OSError: it cannot be downloaded, or not be written.
        ValueError: what came is another file. It is deleted.
    """
    path = _folder() / url.rsplit("/", 1)[1]
    if path.is_file() and _sha256(path) == sha256:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    with _opened_alone(part, url) as file:
        if path.is_file():  # Perhaps put there by whom we waited for.
            actual = _sha256(path)
            if actual == sha256:
                part.unlink()
                return path
            _log.warning("deleting %s: its SHA-256 is %s and must be %s", path, actual, sha256)
            path.unlink()
        try:
            _download(url, file)
        except (OSError, http.client.HTTPException) as error:
            if not part.stat().st_size:
                part.unlink()
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            raise OSError(
                f"Cannot download {url}: {reason}. Calling again goes on where it stopped; "
                f"or get the file in another way and put it at {path}."
            ) from error
        actual = _sha256(part)
        if actual != sha256:
            part.unlink()
            raise ValueError(
                f"The download from {url} must have the SHA-256 {sha256}. "
                f"Received: {actual}; the file is deleted."
            )
        part.replace(path)
    return path


@contextlib.contextmanager
def _opened_alone(part: Path, url: str) -> Iterator[BinaryIO]:
    """Opens a file to append to it, once no other process or thread does so.

    The lock is on the file itself and ends with the process, however it ends. Whom we waited for
    may have renamed or deleted the file; then another one is the right one.
    """
    while True:
        with part.open("ab") as file:
            if not _file_lock.lock(file, wait=False):
                _log.warning("waiting for another process that downloads %s", url)
                _file_lock.lock(file, wait=True)
            is_it = False
            with contextlib.suppress(FileNotFoundError):
                is_it = os.path.samestat(os.fstat(file.fileno()), part.stat())
            if is_it:
                yield file
                return


def _folder() -> Path:
    keras_home = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
    return Path(keras_home) / "models" / "bireal_keras"


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _download(url: str, file: BinaryIO) -> None:
    """Downloads what a partial file, which is open to append to it, lacks."""
    done = os.fstat(file.fileno()).st_size
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if done and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # Nothing is lacking: its hash says whether it is the file.
        raise
    with response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            done = 0  # The server knows no ranges and sends everything.
            file.truncate(0)
        length = response.headers["Content-Length"]
        total = done + int(length) if length else None
        with _Bar(
            desc=f"Downloading {Path(file.name).stem}",
            initial=done,
            total=total,
            unit="B",
            unit_scale=True,
            # A log file is not to fill with it.
            mininterval=0.1 if sys.stderr.isatty() else 30,
        ) as bar:
            while chunk := response.read(_CHUNK_BYTES):
                file.write(chunk)
                done += len(chunk)
                bar.update(len(chunk))
        file.flush()
    if total is not None and done < total:
        raise ConnectionError(f"the connection broke off after {done:,} of {total:,} bytes")
