"""Who may see what the camera sees.

A page of another site that is open in the same browser may send requests here. Of a WebSocket
it may even read the answers: so the header Origin, which a browser sends with one, must be this
server. And a name that the other site owns may be made to lead here (DNS rebinding): so the
header Host must be a name that nobody else owns.
"""

import dataclasses
import hmac
import ipaddress
import re
import socket
from collections.abc import Sequence
from http import HTTPStatus
from typing import Protocol
from urllib.parse import parse_qs

# RFC 9110, Section 7.2; in brackets an IPv6 address.
_HOST = re.compile(r"(?:\[(?P<address>[0-9A-Fa-f:.]+)\]|(?P<name>[\w.-]+))(?::\d{0,5})?", re.ASCII)
_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,256}")


class _Headers(Protocol):
    def get_all(self, key: str) -> Sequence[str]: ...


@dataclasses.dataclass(frozen=True)
class Access:
    """Decides about requests.

    Args:
        host: what the server listens on, a name or an address.
        port: and its port.
        token: what a viewer has to know; None lets in all who reach the server.

    Raises:
        ValueError: the token is too short, or has characters that an address cannot have.
    """

    host: str
    port: int
    token: str | None

    def __post_init__(self) -> None:
        if self.token is not None and not _TOKEN.fullmatch(self.token):
            raise ValueError(
                "A token must be 16 to 256 letters, digits, - or _. Received: "
                f"{len(self.token)} characters."
            )

    @property
    def cookie(self) -> str:
        """The name of the cookie that keeps the token; other ports have others."""
        return f"bireal-live-{self.port}"

    def refusal(self, path: str, headers: _Headers) -> tuple[HTTPStatus, str] | None:
        """Why a request is refused, None if it is not.

        Args:
            path: with the query, as it is requested.
            headers: the request's.
        """
        hosts, origins = headers.get_all("Host"), headers.get_all("Origin")
        if len(hosts) != 1 or not self._is_this_machine(hosts[0]):
            return HTTPStatus.MISDIRECTED_REQUEST, (
                "This page is not served under that name. Use the address that bireal-live "
                "printed, or this machine's IP address."
            )
        own = {f"http://{hosts[0]}", f"https://{hosts[0]}"}
        if not own.issuperset(origins):
            return HTTPStatus.FORBIDDEN, "Other pages may not ask for this one."
        if self.token is not None and not self._knows_token(path, headers):
            return HTTPStatus.FORBIDDEN, (
                "This page takes the whole address that bireal-live printed, with its token."
            )
        return None

    def token_in(self, path: str) -> str | None:
        """The token that a path brings in its query, where it is the right one."""
        _, _, query = path.partition("?")
        for token in parse_qs(query).get("token", ()):
            if self._is_token(token):
                return token
        return None

    def _knows_token(self, path: str, headers: _Headers) -> bool:
        if self.token_in(path) is not None:
            return True
        for cookie in ";".join(headers.get_all("Cookie")).split(";"):
            name, _, value = cookie.strip().partition("=")
            if name == self.cookie and self._is_token(value):
                return True
        return False

    def _is_token(self, text: str) -> bool:
        # The time that this takes says nothing about where they differ.
        received = text.encode(errors="replace")
        return self.token is not None and hmac.compare_digest(received, self.token.encode())

    def _is_this_machine(self, host: str) -> bool:
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        name = (match["address"] or match["name"]).lower()
        address = _address(name)
        if is_loopback(self.host):
            return name == "localhost" or (address is not None and address.is_loopback)
        if address is not None:  # An address in numbers leads where it says.
            return True
        return name in {"localhost", self.host.lower(), *own_names()}


def own_names() -> tuple[str, str]:
    """What this machine is called, and what it is called by multicast DNS (RFC 6762)."""
    name = socket.gethostname().lower().removesuffix(".local")
    return name, f"{name}.local"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server on this host."""
    address = _address(host)
    return host.lower() == "localhost" or (address is not None and address.is_loopback)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
