"""The traffic itself: each stack lives through its card, the number of stacks is bounded, failures are seen."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import pytest

from lab.traffic import generator as generator_module
from lab.traffic.client import HeatClient
from lab.traffic.deck import CFN_SIGNAL, DECK, GROW_AT_ONCE, SIGNAL, SIGNALS, Card, Deck
from lab.traffic.generator import Beat, Generator, Pace
from lab.traffic.ledger import Ledger


def test_a_missed_beat_is_not_made_up_for() -> None:
    calls: list[None] = []
    beat = Beat(1000.0, lambda: calls.append(None))
    beat.tick()
    beat.tick()
    assert len(calls) == 1


class Heat(BaseHTTPRequestHandler):
    """Enough of an API to send traffic to: every stack is at rest at once; `broken` paths answer 500.

    A handle can be signalled when it is asked for the second time, and stands in a stack of its own.
    """

    broken: str | None = None
    connections: list[object]
    asked: list[str]
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        self.connections.append(self.client_address)
        super().setup()

    def do_GET(self) -> None:
        if self.path.endswith("/build_info"):
            self._answer(200, {"api": {"revision": "25.0.2"}, "engine": {"revision": "25.0.2"}})
        elif "Action=GetTemplate" in self.path:
            self._answer(400, "The Stack (no-such-stack) could not be found.")
        elif "/resources" in self.path:
            self._answer(200, {"resources": [self._handle()]})
        else:
            self._answer(200, {"stacks": []})

    def _handle(self) -> dict[str, object]:
        self.asked.append(self.path)
        status = "CREATE_COMPLETE" if self.asked.count(self.path) > 1 else "CREATE_IN_PROGRESS"
        name = self.path.split("/")[4]
        links = [
            {"rel": "self", "href": f"http://elsewhere:8004/v1/admin/stacks/{name}-inner/{name}-id/resources/handle"},
            {"rel": "stack", "href": f"http://elsewhere:8004/v1/admin/stacks/{name}-inner/{name}-id"},
        ]
        return {"resource_name": "handle", "resource_status": status, "links": links}

    def do_POST(self) -> None:
        body = json.loads(self._body())
        if self.path.endswith("/signal"):
            self.asked.append(self.path)
            self._answer(200, None)
        else:
            self._answer(201, {"stack": {"id": body["stack_name"]}})

    def do_PUT(self) -> None:
        body = json.loads(self._body())
        signal = "/waitcondition/" in self.path
        self.asked.append(self.path if signal else ",".join(body["template"]["resources"]))
        self._answer(200 if signal else 202, {})

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
    attributes = {"broken": getattr(request, "param", None), "connections": [], "asked": []}
    handler = type("Handler", (Heat,), attributes)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1/admin", handler
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator_module, "EARLY", {"at once": 0.05, "in progress": 0.1})
    monkeypatch.setattr(generator_module, "AGAIN", 0.05)


# Without signals, and nothing beside it: each request is one that a card asks for.
QUIET = Deck(tuple(card for card in DECK.cards if not SIGNALS & {step.action for step in card.steps}))


def send(
    endpoint: str,
    pace: Pace,
    enough: Callable[[Generator, Ledger], bool],
    *,
    deck: Deck = QUIET,
    cfn_endpoint: str | None = None,
) -> tuple[Generator, Ledger]:
    """Send traffic until there was enough of it, but not for ever."""
    ledger = Ledger()
    generator = Generator(HeatClient(endpoint, cfn_endpoint, ledger), prefix="t", deck=deck, seed=1, pace=pace)
    end = threading.Event()
    thread = threading.Thread(target=generator.run, args=(end,))
    thread.start()
    deadline = time.monotonic() + 30
    while not enough(generator, ledger) and time.monotonic() < deadline:
        time.sleep(0.05)
    end.set()
    thread.join()
    return generator, ledger


def all_lived(count: int) -> Callable[[Generator, Ledger], bool]:
    def lived(generator: Generator, _: Ledger) -> bool:
        lives = generator.lives
        return len(lives) == count and all(life.stack_id and not life.busy and not life.next_step for life in lives)

    return lived


def answers(count: int) -> Callable[[Generator, Ledger], bool]:
    return lambda _, ledger: ledger.requests(0.0, 1.0).sent >= count


def quick(most_stacks: int) -> Pace:
    return Pace(probe_every=0.05, list_every=0.1, show_every=0.1, create_every=0.05, most_stacks=most_stacks)


def test_stacks_live_through_their_cards_on_fresh_connections(api: tuple[str, type[Heat]]) -> None:
    endpoint, handler = api
    cards = QUIET.cards
    generator, ledger = send(endpoint, quick(len(cards)), all_lived(len(cards)))
    requests = ledger.requests(0.0, 1.0)
    assert requests.failed == 0
    assert requests.by_kind["create"] == len(cards)  # and no more: that is the bound
    steps = [step.action for card in cards for step in card.steps]
    assert requests.by_kind["update"] == len(steps) - steps.count("delete")
    assert requests.by_kind["delete"] == steps.count("delete")
    assert requests.by_kind["show"] > 0
    assert all_lived(len(cards))(generator, ledger)
    assert len(handler.connections) == requests.sent
    (side,) = ledger.sides()
    assert sum(side.answers.values()) == requests.by_kind["build_info"]
    touches = sum(len(life.touched) for life in generator.lives)
    assert touches == sum(requests.by_kind[kind] for kind in ("create", "update", "delete"))


def test_the_deck_comes_with_its_trickle(api: tuple[str, type[Heat]]) -> None:
    endpoint, handler = api
    count = 2 * len(DECK.cards)
    cfn = endpoint.replace("/admin", "")
    generator, ledger = send(endpoint, quick(count), all_lived(count), deck=DECK, cfn_endpoint=cfn)
    assert sum(life.card == DECK.trickle for life in generator.lives) == len(DECK.cards)
    by_kind = ledger.requests(0.0, 1.0).by_kind
    assert by_kind["signal"] == by_kind["cfn signal"] == 2
    grown = [resources for resources in handler.asked if resources.endswith("added-2")]
    assert len(grown) == sum([step.action for step in card.steps] == ["grow"] * 2 for card in DECK.cards)


WAITING = Deck((Card("nested waiting", (CFN_SIGNAL, SIGNAL)),))


@pytest.mark.parametrize("cfn", [True, False])
def test_a_signal_goes_to_the_stack_that_has_the_handle_once_it_is_there(
    api: tuple[str, type[Heat]], cfn: bool
) -> None:
    endpoint, handler = api
    cfn_endpoint = endpoint.replace("/admin", "") if cfn else None
    generator, ledger = send(endpoint, quick(1), all_lived(1), deck=WAITING, cfn_endpoint=cfn_endpoint)
    (name,) = [life.name for life in generator.lives]
    listed = f"/v1/admin/stacks/{name}/{name}/resources?nested_depth=2"
    handle = f"stacks/{name}-inner/{name}-id/resources/handle"
    through_heat, through_cfn = f"/v1/admin/{handle}/signal", f"/v1/waitcondition/arn:openstack:heat::admin:{handle}"
    first = through_cfn if cfn else through_heat
    assert list(map(unquote, handler.asked)) == [listed, listed, first, listed, through_heat]
    if cfn:
        assert "%2F" in handler.asked[2]
    assert ledger.requests(0.0, 1.0).failed == 0


def test_a_stack_that_waits_for_its_signals_gets_them_before_the_end(api: tuple[str, type[Heat]]) -> None:
    # The end comes as soon as it is begun.
    generator, ledger = send(api[0], quick(1), lambda generator, _: bool(generator.lives), deck=WAITING)
    assert all_lived(1)(generator, ledger)
    assert ledger.requests(0.0, 1.0).by_kind["signal"] == 2


@pytest.mark.parametrize("api", ["POST /v1/admin/stacks"], indirect=True)
def test_a_stack_that_was_refused_gets_none(api: tuple[str, type[Heat]]) -> None:
    began = time.monotonic()
    _, ledger = send(api[0], quick(1), answers(10), deck=WAITING)
    assert "signal" not in ledger.requests(0.0, 1.0).by_kind
    assert time.monotonic() - began < generator_module.LAST_SIGNALS


def test_the_trickle_is_touched_again_at_once(api: tuple[str, type[Heat]]) -> None:
    deck = Deck((Card("chain"),), trickle=Card("pair", (GROW_AT_ONCE,)))
    generator, _ = send(api[0], quick(2), all_lived(2), deck=deck)
    (pair,) = [life for life in generator.lives if life.card == deck.trickle]
    first, second = pair.touched
    assert second - first >= 0.05


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
