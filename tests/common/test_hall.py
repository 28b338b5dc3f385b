"""A vote of the hall over real HTTP on loopback: one vote a device, live, bounded; refusals."""

import http.client
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from widgets.common.predict import Predict, control, hall, poll, predict
from widgets.common.predict.hall import Hall, local_address, qr_picture
from widgets.common.predict.poll import Gate, Poll
from widgets.common.predict.question import Question

CHOICES = ("memory", "arithmetic", "<script>")
WHY = Question("02.why", "What limits it?", choices=CHOICES)
SPEED = Question("02.speed", "How many times faster?", 1, 100, "x")


@pytest.fixture
def asked() -> Iterator[Predict]:
    """A question that is put to a hall on loopback."""
    control._asked.clear()
    server = control._halls["127.0.0.1"] = Hall("127.0.0.1", port=0)
    guess = predict(WHY.key, WHY.text, choices=WHY.choices)
    guess.ask_hall("127.0.0.1")
    yield guess
    server.close()
    control._halls.clear()


class Phone:
    """A browser without scripts: it keeps its cookie, and sends what it is told to."""

    def __init__(self, guess: Predict):
        self.place = urlsplit(guess.hall["address"]).netloc
        self.cookie = ""

    def ask(
        self, method: str = "GET", path: str = "/", body: str | None = None, **headers: str
    ) -> tuple[int, str]:
        """The status and the page."""
        connection = http.client.HTTPConnection(self.place, timeout=10)
        sent = {"Cookie": self.cookie} | {k.replace("_", "-"): v for k, v in headers.items()}
        connection.request(method, path, body, sent)
        reply = connection.getresponse()
        given = reply.getheader("Set-Cookie")
        self.cookie = given.partition(";")[0] if given else self.cookie
        self.headers = reply.headers
        page = reply.read().decode()
        connection.close()
        return reply.status, page

    def vote(self, choice: int, number: int = 1, **headers: str) -> int:
        if not self.cookie:
            self.ask()
        return self.ask("POST", body=f"poll={number}&choice={choice}", **headers)[0]


def test_votes_appear_in_the_card_and_in_its_reveal(asked: Predict) -> None:
    reveal = asked.reveal("memory")
    seen: list[list[int]] = []
    asked.observe(lambda change: seen.append(change["new"]), names="counts")
    assert [Phone(asked).vote(choice) for choice in (0, 1, 0)] == [303, 303, 303]
    assert seen == [[1, 0, 0], [1, 1, 0], [2, 1, 0]]
    assert reveal.summary().endswith("Audience: 2 of 3 said memory, where the answer lies.")


def test_a_device_has_one_vote_and_may_change_it(asked: Predict) -> None:
    phone = Phone(asked)
    for choice in (0, 1, 1):
        assert phone.vote(choice) == 303
    assert asked.counts == [0, 1, 0]
    _, page = phone.ask()
    assert "You voted: arithmetic." in page
    assert page.count(" checked") == 1


def test_a_closed_vote_stays_as_it_is(asked: Predict) -> None:
    phone = Phone(asked)
    phone.vote(0)
    asked.asking = False
    assert phone.vote(1) == 409
    assert asked.counts == [1, 0, 0]
    _, page = phone.ask()
    assert "You voted: memory. The vote is closed." in page
    assert "<form" not in page


def test_the_next_question_has_the_same_address_and_closes_the_one_before(asked: Predict) -> None:
    phone = Phone(asked)
    phone.vote(0)
    speed = predict(SPEED.key, SPEED.text, low=1, high=100, unit="x")
    assert speed.ask_hall("127.0.0.1") == asked.hall["address"]
    assert (asked.asking, speed.asking) == (False, True)
    assert phone.vote(1, number=1) == 409  # a page that was not loaded again
    assert phone.vote(5, number=2) == 303
    assert asked.counts == [1, 0, 0]
    assert sum(speed.counts) == speed.counts[5] == 1


def test_asked_again_the_hall_votes_anew(asked: Predict) -> None:
    phone = Phone(asked)
    phone.vote(0)
    asked.ask_hall("127.0.0.1")
    assert asked.counts == [0, 0, 0]
    assert phone.vote(1, number=2) == 303
    assert asked.counts == [0, 1, 0]


def test_the_page_has_no_script_and_escapes_what_it_shows(asked: Predict) -> None:
    phone = Phone(asked)
    status, page = phone.ask()
    assert status == 200
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "default-src 'none'" in phone.headers["Content-Security-Policy"]
    assert phone.headers["Cache-Control"] == "no-store"
    assert "http" not in page  # nothing from elsewhere


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        ("poll=1&choice=3", {}, 400),
        ("poll=1&choice=-1", {}, 400),
        ("poll=1&choice=x", {}, 400),
        ("poll=1&choice=" + "9" * 100, {}, 400),
        ("poll=1", {}, 400),
        ("poll=1&choice=1&choice=1", {}, 400),
        ("", {}, 400),
        ("poll=1&choice=1", {"Cookie": ""}, 403),
        ("poll=1&choice=1", {"Cookie": "device=0011223344556677.00"}, 403),
        ("poll=1&choice=1", {"Cookie": "device=\xff"}, 403),
        ("poll=1&choice=1", {"Origin": "http://elsewhere.example"}, 403),
        ("poll=1&choice=1", {"Host": "elsewhere.example"}, 421),
        ("x" * 201, {}, 413),
        ("poll=1&choice=1", {"Content_Length": "-1"}, 411),
    ],
)
def test_a_bad_vote_is_refused_and_not_counted(
    asked: Predict, body: str, headers: dict[str, str], status: int
) -> None:
    phone = Phone(asked)
    phone.ask()
    assert phone.ask("POST", body=body, **headers)[0] == status
    assert asked.counts == [0, 0, 0]


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/etc", 404), ("PUT", "/", 501)])
def test_there_is_one_page(asked: Predict, method: str, path: str, status: int) -> None:
    assert Phone(asked).ask(method, path)[0] == status


def test_a_flood_from_one_address_is_refused(asked: Predict) -> None:
    server = control._halls["127.0.0.1"]
    server.gate = Gate(rate=0, burst=5)
    phone = Phone(asked)
    assert [phone.ask()[0] for _ in range(7)] == [200] * 5 + [429] * 2


def test_open_connections_are_bounded_and_cut(
    asked: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hall, "_SECONDS", 0.5)
    place = urlsplit(asked.hall["address"])
    idle = [socket.create_connection((place.hostname, place.port)) for _ in range(80)]
    for one in idle:
        one.settimeout(20)
        assert one.recv(1) == b""  # refused at once, or cut
        one.close()
    assert Phone(asked).ask()[0] == 200


def test_devices_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poll, "MOST_DEVICES", 2)
    votes = Poll(WHY)
    assert [votes.vote(device, 0) for device in ("a", "b", "c", "a")] == [True, True, False, True]
    assert votes.counts == [2, 0, 0]


def test_a_gate_remembers_a_bounded_number_of_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poll, "_MOST_ADDRESSES", 2)
    gate = Gate(rate=1, burst=1)
    assert [gate.lets(address, 0.0) for address in ("a", "b", "c")] == [True, True, False]
    assert gate.lets("c", 2.0)  # the others are forgotten: they may ask again
    assert len(gate._seen) == 1


def test_votes_at_once_are_all_counted(asked: Predict) -> None:
    phones = [Phone(asked) for _ in range(20)]
    for phone in phones:
        phone.ask()
    threads = [threading.Thread(target=phone.vote, args=(i % 2,)) for i, phone in enumerate(phones)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert asked.counts == [10, 10, 0]


def test_nothing_is_known_of_a_device_but_its_name(
    asked: Predict, capfd: pytest.CaptureFixture[str]
) -> None:
    phone = Phone(asked)
    phone.vote(1, User_Agent="a phone of Ada")
    [name] = control._halls["127.0.0.1"].poll.votes  # type: ignore[union-attr]
    assert phone.cookie == f"device={name}"
    assert capfd.readouterr() == ("", "")


def test_the_address_is_this_machines_and_stands_in_the_code(asked: Predict) -> None:
    with socket.socket() as server:
        server.bind((local_address(), 0))
    assert asked.hall["code"] == qr_picture(asked.hall["address"])
    assert asked.hall["code"].startswith("data:image/svg+xml")


def test_without_segno_the_address_is_shown_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hall, "find_spec", lambda name: None)
    assert qr_picture("http://127.0.0.1/") == ""
