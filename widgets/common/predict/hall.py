"""The page on which a hall votes, served from the lecturer's machine to its local network.

One server for a kernel, with one question at a time: phones keep its address through a lecture. The
page is a form without scripts. A device is known by a cookie that this process signed: it holds a
random name. Requests are bounded in number, in size, in time, and by address; none is logged.
"""

from __future__ import annotations

import hmac
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from jinja2 import Template

from widgets.common.predict.poll import Gate, Poll
from widgets.common.predict.question import Question
from widgets.common.strings import say, section
from widgets.common.theme import DARK, LIGHT

__all__ = ["Hall", "local_address", "qr_picture"]

PORT = 8000  # short to type; any other one where it is taken
_MOST_AT_ONCE = 64  # connections
_MOST_BYTES = 200  # of a vote
_SECONDS = 5  # that a connection may take
_PAGE = Template(
    Path(__file__).with_name("hall.html.j2").read_text(encoding="utf-8"), autoescape=True
)


class Hall(ThreadingHTTPServer):
    """Answers at `address` until `close()`.

    Raises:
        OSError: this machine has no such address.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, host: str | None = None, port: int = PORT) -> None:
        self.host = local_address() if host is None else host
        try:
            super().__init__((self.host, port), _Visit)
        except OSError:
            super().__init__((self.host, 0), _Visit)
        self.address = f"http://{self.host}:{self.server_port}/"
        self.gate = Gate()
        self.poll: Poll | None = None
        self.number = 0
        self.lock = threading.Lock()
        self._key = secrets.token_bytes(32)
        self._places = threading.BoundedSemaphore(_MOST_AT_ONCE)
        self._tell: Callable[[list[int]], object] = lambda counts: None
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def ask(self, question: Question, tell: Callable[[list[int]], object]) -> Poll:
        """Put a question to the hall in place of the one before; `tell` hears each new count."""
        with self.lock:
            self.poll, self._tell = Poll(question), tell
            self.number += 1
            return self.poll

    def vote(self, number: int, device: str, choice: int) -> bool:
        """Count a vote on the question of that number, if it is still the one that is asked."""
        with self.lock:
            if self.poll is None or number != self.number or not self.poll.vote(device, choice):
                return False
            self._tell(self.poll.counts)
            return True

    def close(self) -> None:
        self.shutdown()
        self.server_close()

    def new_device(self) -> str:
        """A name for a device, signed."""
        name = secrets.token_hex(8)
        return f"{name}.{self._signed(name)}"

    def knows(self, device: str) -> bool:
        """Whether this name was given by this hall."""
        name, _, signature = device.partition(".")
        return hmac.compare_digest(signature.encode(), self._signed(name).encode())

    def _signed(self, name: str) -> str:
        return hmac.digest(self._key, name.encode(), "sha256").hex()[:32]

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        cut = threading.Timer(_SECONDS, _cut, [request])
        cut.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            cut.cancel()
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A phone that leaves in the middle is no error of the lecture."""


def _cut(request: socket.socket) -> None:
    with suppress(OSError):  # it has ended by itself
        request.shutdown(socket.SHUT_RDWR)


class _Visit(BaseHTTPRequestHandler):
    """One request of one phone."""

    server: Hall
    server_version, sys_version = "hall", ""

    def do_GET(self) -> None:
        if self._admitted():
            if self.path == "/":
                self._show(HTTPStatus.OK)
            else:
                self._refuse(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        if not self._admitted():
            return
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            self._refuse(HTTPStatus.LENGTH_REQUIRED)
        elif int(length) > _MOST_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        elif self.path != "/" or self.headers.get("Origin", self._origin) != self._origin:
            self._refuse(HTTPStatus.FORBIDDEN)
        else:
            self._vote(self.rfile.read(int(length)))

    def _vote(self, body: bytes) -> None:
        device = self._device()
        if device is None:
            self._show(HTTPStatus.FORBIDDEN, say("hall.cookie"))
            return
        try:
            form = parse_qs(body.decode("ascii"), max_num_fields=2, strict_parsing=True)
            [number], [choice] = form["poll"], form["choice"]
            counted = self.server.vote(int(number), device, int(choice))
        except (KeyError, ValueError):
            self._refuse(HTTPStatus.BAD_REQUEST)
            return
        if counted:
            self.send_response(HTTPStatus.SEE_OTHER)  # a reload does not vote again
            self.send_header("Location", "/")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self._show(HTTPStatus.CONFLICT, say("hall.late"))

    def _show(self, status: HTTPStatus, said: str | None = None) -> None:
        """The page with the question, for this device."""
        device, poll, nonce = self._device(), self.server.poll, secrets.token_hex(8)
        voted = None if poll is None or device is None else poll.votes.get(device)
        bins = poll.question.bins() if poll else []
        if said is None:
            said = say("hall.voted", choice=bins[voted]) if voted is not None else ""
            if poll and not poll.open:
                said = f"{said} {say('hall.closed')}".strip()
        page = _PAGE.render(
            question=poll and poll.question.text,
            open=poll is not None and poll.open,
            number=self.server.number,
            bins=bins,
            voted=voted,
            said=said,
            words=section("hall"),
            nonce=nonce,
            light=LIGHT,
            dark=DARK,
        ).encode()
        self.send_response(status)
        if device is None:
            cookie = f"device={self.server.new_device()}; HttpOnly; SameSite=Strict; Path=/"
            self.send_header("Set-Cookie", cookie)
        policy = (
            f"default-src 'none'; style-src 'nonce-{nonce}'; img-src data:; form-action 'self'; "
            "base-uri 'none'; frame-ancestors 'none'"
        )
        self.send_header("Content-Security-Policy", policy)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self._end(page)

    def _refuse(self, status: HTTPStatus) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self._end(status.phrase.encode())

    def _end(self, body: bytes) -> None:
        for name, value in {
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "Referrer-Policy": "same-origin",
            "X-Content-Type-Options": "nosniff",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _admitted(self) -> bool:
        """Whether this address may ask again, and asks for us: not by a name of someone else."""
        if not self.server.gate.lets(self.client_address[0], time.monotonic()):
            self._refuse(HTTPStatus.TOO_MANY_REQUESTS)
            return False
        if f"http://{self.headers.get('Host', '')}" != self._origin:
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST)
            return False
        return True

    @property
    def _origin(self) -> str:
        return self.server.address.rstrip("/")

    def _device(self) -> str | None:
        """The name that this device was given, if it was."""
        with suppress(CookieError):
            morsel = SimpleCookie(self.headers.get("Cookie", "")).get("device")
            if morsel and self.server.knows(morsel.value):
                return morsel.value
        return None

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody's address is written down."""


def local_address() -> str:
    """The address of this machine in its local network; loopback where it is in none.

    No packet is sent: a datagram socket only looks up its route.
    """
    for there in ("192.0.2.1", "10.255.255.255", "172.31.255.255", "192.168.255.255"):
        with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
            route.connect((there, 9))
            return str(route.getsockname()[0])
    return "127.0.0.1"


def qr_picture(text: str) -> str:
    """A QR code as a data URI of SVG; empty where segno is not installed."""
    if find_spec("segno") is None:
        return ""
    import segno  # of the extra "classroom"

    return str(segno.make(text, micro=False).svg_data_uri(scale=8, light="#fff", dark="#000"))
