"""bireal-live as a person starts it; what it serves is in tests/runtime/live."""

import contextlib
import http.client
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from brightness import brightness
from commands import command
from videos import plain, write_video


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "brightness.tflite"
    path.write_bytes(brightness(threshold=0.5))
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("videos") / "clip.avi"
    return write_video(path, [plain(value) for value in (0, 255)])


@contextlib.contextmanager
def started(model, video, *flags):
    """The running command, and the lines that it prints, of which there is one for each address."""
    pytest.importorskip("websockets", reason="needs the extra [live]")
    run = "from bireal_keras.commands import live; live.run()"
    arguments = [model, f"--camera={video}", "--port=0", *flags]
    with subprocess.Popen(
        [sys.executable, "-c", run, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serves_until_it_is_told_to_stop(model, video, number):
    with started(model, video) as (process, address):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
        with urllib.request.urlopen(address, timeout=20) as response:
            assert b"<title>bireal-live</title>" in response.read()
        process.send_signal(number)
        assert process.wait(timeout=20) == 0
        assert process.stderr.read() == ""


def test_the_network_needs_the_token_that_is_printed(model, video):
    with started(model, video, "--host=0.0.0.0") as (_, address):
        match = re.fullmatch(r"http://[^/]+:(\d+)/\?token=([\w-]{22})", address)
        assert match
        port, token = match.groups()
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20)
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        with opener.open(f"http://127.0.0.1:{port}/?token={token}", timeout=20) as response:
            assert response.url == f"http://127.0.0.1:{port}/"
            assert response.status == 200


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="needs IPv6")
@pytest.mark.parametrize(
    ("host", "reached"), [("::", ["127.0.0.1", "[::1]"]), ("::1", ["[::1]"]), ("[::1]", ["[::1]"])]
)
def test_ipv6(model, video, host, reached):
    """The addresses of a network that are printed are of IPv4, also for ::, which is all."""
    with started(model, video, f"--host={host}") as (_, address):
        match = re.fullmatch(r"http://([^/]+):(\d+)/(\?token=.*)?", address)
        assert match
        name, port, token = match.groups()
        assert (name in reached, token is None) == (host != "::",) * 2
        for name in reached:
            connection = http.client.HTTPConnection(f"{name}:{port}", timeout=20)
            with contextlib.closing(connection):
                connection.request("GET", f"/{token or ''}")
                assert connection.getresponse().status == (303 if token else 200)


def test_a_token_of_ones_own(model, video):
    with started(model, video, "--token=my-own-token-of-16") as (_, address):
        assert address.endswith("/?token=my-own-token-of-16")


def test_a_port_in_use(model, video):
    pytest.importorskip("websockets", reason="needs the extra [live]")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = command("live", model, f"--camera={video}", f"--port={port}")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        f"bireal-live: port {port} of 127.0.0.1 is in use. --port=0 takes any that is free.\n"
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--camera=none.mp4"],
            r"A camera is a number from 0, .* Received: none\.mp4, which is not",
        ),
        (["--host=192.0.2.77"], r"192\.0\.2\.77 is not an address of this machine\."),
        (["--token=short"], r"A token must be 16 to 256 letters, .* Received: 5 characters\."),
    ],
)
def test_what_cannot_be(model, video, flags, message):
    pytest.importorskip("websockets", reason="needs the extra [live]")
    result = command("live", model, f"--camera={video}", "--port=0", *flags)
    assert (result.returncode, result.stdout) == (1, "")
    assert re.fullmatch(rf"bireal-live: {message}.*\n", result.stderr)


@pytest.mark.parametrize("arguments", [[], ["a.tflite", "b.tflite"]])
def test_usage(arguments):
    result = command("live", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert "exactly one model is needed" in result.stderr


def test_without_websockets(model, tmp_path, monkeypatch):
    (tmp_path / "websockets.py").write_text("raise ModuleNotFoundError('websockets')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    result = command("live", model)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        "bireal-live: The live page needs the package websockets, 14 or newer: pip install "
        "'websockets>=14', which is all that bireal-keras[live] adds.\n"
    )
