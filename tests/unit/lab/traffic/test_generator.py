"""The traffic itself: the same for the same seed, all kinds in each round, bounded, failures seen."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice

import pytest

from lab.traffic.client import HeatClient
from lab.traffic.generator import Beat, Generator, Pace
from lab.traffic.ledger import Ledger
from lab.traffic.shapes import DECK, deal, template

SHAPES = sorted({card.shape for card in DECK})


def test_the_same_seed_deals_the_same_cards() -> None:
    assert list(islice(deal(7), 100)) == list(islice(deal(7), 100))
    assert list(islice(deal(7), 100)) != list(islice(deal(8), 100))


def test_each_round_holds_every_card() -> None:
    cards = deal(1)
    for _ in range(3):
        dealt = list(islice(cards, len(DECK)))
        assert sorted(map(repr, dealt)) == sorted(map(repr, DECK))


@pytest.mark.parametrize("shape", SHAPES)
def test_growing_leaves_every_resource_alone_and_changing_none(shape: str) -> None:
    first = template(shape, seed=3)["resources"]
    grown = template(shape, seed=3, update="grow")["resources"]
    changed = template(shape, seed=3, update="change")["resources"]
    added = grown.pop("added")
    assert grown == first
    assert changed.pop("added") == added
    assert changed.keys() == first.keys()
    assert all(changed[name] != first[name] for name in first)


def test_a_missed_beat_is_not_made_up_for() -> None:
    calls: list[None] = []
    beat = Beat(1000.0, lambda: calls.append(None))
    beat.tick()
    beat.tick()
    assert len(calls) == 1


class Heat(BaseHTTPRequestHandler):
    """Enough of an API to send traffic to: every stack is at rest at once; `broken` paths answer 500."""

    broken: str | None = None
    connections: list[object]
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        self.connections.append(self.client_address)
        super().setup()

    def do_GET(self) -> None:
        if self.path.endswith("/build_info"):
            self._answer(200, {"api": {"revision": "25.0.2"}, "engine": {"revision": "25.0.2"}})
        else:
            self._answer(200, {"stacks": []})

    def do_POST(self) -> None:
        self._answer(201, {"stack": {"id": json.loads(self._body())["stack_name"]}})

    def do_PUT(self) -> None:
        self._body()
        self._answer(202, {})

    def do_DELETE(self) -> None:
        self._answer(204, None)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def _answer(self, status: int, body: object) -> None:
        if self.broken and self.broken in f"{self.command} {self.path}":
            status, body = 500, {"error": "MessagingTimeout"}
        content = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", self.headers["Connection"])
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def api(request: pytest.FixtureRequest) -> Iterator[tuple[str, type[Heat]]]:
    handler = type("Handler", (Heat,), {"broken": getattr(request, "param", None), "connections": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1/admin", handler
    server.shutdown()
    thread.join()
    server.server_close()


def send(endpoint: str, pace: Pace, enough: Callable[[Generator, Ledger], bool]) -> tuple[Generator, Ledger]:
    """Send traffic until there was enough of it, but not for ever."""
    ledger = Ledger()
    generator = Generator(HeatClient(endpoint, None, ledger), prefix="t", seed=1, pace=pace)
    end = threading.Event()
    thread = threading.Thread(target=generator.run, args=(end,))
    thread.start()
    deadline = time.monotonic() + 30
    while not enough(generator, ledger) and time.monotonic() < deadline:
        time.sleep(0.05)
    end.set()
    thread.join()
    return generator, ledger


def all_lived(generator: Generator, _: Ledger) -> bool:
    lives = generator.lives
    return len(lives) == len(DECK) and all(life.stack_id and not life.busy and not life.next_step for life in lives)


def answers(count: int) -> Callable[[Generator, Ledger], bool]:
    return lambda _, ledger: ledger.requests(0.0, 1.0).sent >= count


def test_stacks_live_through_their_cards_on_fresh_connections(api: tuple[str, type[Heat]]) -> None:
    endpoint, handler = api
    pace = Pace(probe_every=0.05, list_every=0.1, create_every=0.05, most_stacks=len(DECK))
    generator, ledger = send(endpoint, pace, all_lived)
    requests = ledger.requests(0.0, 1.0)
    assert requests.failed == 0
    assert requests.by_kind["create"] == len(DECK)  # and no more: that is the bound
    steps = [step.action for card in DECK for step in card.steps]
    assert requests.by_kind["update"] == len(steps) - steps.count("delete")
    assert requests.by_kind["delete"] == steps.count("delete")
    assert all_lived(generator, ledger)
    assert len(handler.connections) == requests.sent
    assert ledger.releases["api"]["25.0.2"].answers == requests.by_kind["build_info"]


@pytest.mark.parametrize("api", ["POST", "build_info"], indirect=True)
def test_an_answer_that_is_not_the_expected_one_is_a_failure(api: tuple[str, type[Heat]]) -> None:
    _, ledger = send(api[0], Pace(probe_every=0.1, create_every=0.1), answers(8))
    requests = ledger.requests(0.0, 1.0)
    assert 0 < requests.failed < requests.sent
    assert requests.failures[0].error.startswith("500 ")


def test_a_connection_that_is_refused_is_a_failure() -> None:
    _, ledger = send("http://127.0.0.1:9/v1/admin", Pace(probe_every=0.1), answers(3))
    requests = ledger.requests(0.0, 1.0)
    assert requests.sent == requests.failed > 0
    assert "ConnectionError" in requests.failures[0].error
