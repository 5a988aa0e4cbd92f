"""Who may see the camera, request by request."""

import socket
from http import HTTPStatus

import pytest

from bireal_keras.runtime.live.access import Access

TOKEN = "0123456789abcdef"
NAME = socket.gethostname().lower().removesuffix(".local")


class Headers:
    """As anybody may send them, those that a library refuses included."""

    def __init__(self, *pairs):
        self.pairs = pairs

    def get_all(self, name):
        return [value for key, value in self.pairs if key == name]


def status(access, path="/", **headers):
    """The status of a refusal, None where there is none."""
    refusal = access.refusal(path, Headers(*headers.items()))
    return refusal and refusal[0]


@pytest.fixture(scope="module")
def here():
    return Access("127.0.0.1", 8000, None)


@pytest.fixture(scope="module")
def network():
    return Access("0.0.0.0", 8000, TOKEN)


class TestHost:
    """Against DNS rebinding: https://owasp.org/www-community/attacks/DNS_Rebinding"""

    @pytest.mark.parametrize(
        "host", ["127.0.0.1:8000", "localhost:8000", "LOCALHOST", "[::1]:8000", "localhost:9000"]
    )
    def test_this_machine(self, here, host):
        """Another port is that of a tunnel: ssh -L 9000:localhost:8000."""
        assert status(here, Host=host) is None

    @pytest.mark.parametrize(
        "host",
        [
            *(
                "evil.example",
                "evil.example:8000",
                "localhost.evil.example",
                "127.0.0.1.nip.example",
            ),
            *("192.168.1.7:8000", "", "[", "[::1", "localhost:8000@evil.example", "2130706433"),
        ],
    )
    def test_another_name(self, here, host):
        assert status(here, Host=host) == HTTPStatus.MISDIRECTED_REQUEST

    def test_no_name_or_two(self, here):
        assert status(here) == HTTPStatus.MISDIRECTED_REQUEST
        headers = Headers(("Host", "localhost"), ("Host", "localhost"))
        assert here.refusal("/", headers)[0] == HTTPStatus.MISDIRECTED_REQUEST

    @pytest.mark.parametrize(
        "host", [f"{NAME}:8000", f"{NAME}.local:8000", "192.168.1.7:8000", "[fe80::1]:8000"]
    )
    def test_this_machine_in_a_network(self, network, host):
        """An address in numbers cannot be made to lead elsewhere."""
        assert status(network, f"/?token={TOKEN}", Host=host) is None
        assert status(network, f"/?token={TOKEN}", Host=f"x{host}") is not None

    def test_the_name_that_it_serves_under(self):
        access = Access("Pi.Lan", 8000, TOKEN)
        assert status(access, f"/?token={TOKEN}", Host="pi.lan:8000") is None


class TestOrigin:
    """A browser says with a WebSocket which page asks for it, and does not keep it from asking."""

    @pytest.mark.parametrize("origin", ["http://localhost:8000", "https://localhost:8000"])
    def test_this_page(self, here, origin):
        assert status(here, "/frames", Host="localhost:8000", Origin=origin) is None

    @pytest.mark.parametrize(
        "origin",
        [
            "http://evil.example",
            "null",
            "http://localhost:9000",
            "http://localhost",
            "http://[",
            "",
        ],
    )
    def test_another_page(self, here, origin):
        assert status(here, "/frames", Host="localhost:8000", Origin=origin) == HTTPStatus.FORBIDDEN


class TestToken:
    @pytest.mark.parametrize("path", [f"/?token={TOKEN}", f"/frames?a=b&token={TOKEN}"])
    def test_in_the_address(self, network, path):
        assert status(network, path, Host="10.0.0.2") is None

    def test_in_a_cookie(self, network):
        cookie = f"other=1; {network.cookie}={TOKEN}"
        assert status(network, Host="10.0.0.2", Cookie=cookie) is None

    @pytest.mark.parametrize(
        "path",
        ["/", "/?token=", f"/?token={TOKEN}0", f"/?token={TOKEN[:-1]}", "/?token=%ff", f"/{TOKEN}"],
    )
    def test_wrong(self, network, path):
        assert status(network, path, Host="10.0.0.2") == HTTPStatus.FORBIDDEN

    @pytest.mark.parametrize(
        "cookie",
        [
            "bireal-live-8000=",
            "bireal-live-8000",
            f"bireal-live-80={TOKEN}",
            "\udcff=\udcff",
            ";;=;",
        ],
    )
    def test_wrong_cookie(self, network, cookie):
        found = status(network, Host="10.0.0.2", Cookie=cookie)
        assert found == HTTPStatus.FORBIDDEN
        assert status(network, Host="10.0.0.2", Cookie=f"bireal-live-8000=\udcff{cookie}") == found

    @pytest.mark.parametrize("token", ["", "short", "x" * 257, "with spaces in it", "ü" * 16])
    def test_that_cannot_be_one(self, token):
        with pytest.raises(ValueError, match="A token must be 16 to 256 letters"):
            Access("127.0.0.1", 8000, token)
