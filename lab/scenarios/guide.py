"""The upgrade by the letter of Heat's own upgrade guide, for `make compare`: `python -m lab.scenarios.guide --name X`.

The guide goes host by host: stop the old engine gracefully, start the new one, switch the API. Every API is
switched before the last old engine is stopped, and before that the old vhost's queues must hold no message. The
steps themselves are the product's own, so that nothing but the order and the gate differs, and whatever the guide
leaves open is done the careful way: the slow work comes first, and an API moves only once an engine waits for it.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any
from urllib.parse import quote

import requests

from heat_upgrade.cloud.sections import Host
from heat_upgrade.remote import steps
from lab.cloud.model import FIRST_RELEASE, Lab
from lab.processes import LabError, wait_until
from lab.scenarios.plain_script import PlainScript, make_vhost

SAMPLES = 3
SAMPLE_EVERY = 2.0  # seconds
ENGINE_READY = 60.0  # seconds for a new engine to listen
QUEUES_EMPTY = 600.0  # seconds for the messages to be read


class Guide(PlainScript):
    """
    Upgrade a lab's cloud the guide's way.

    :param lab: the lab; it may be under traffic.
    :param source: the release that it is on.
    :param target: the release to go to.
    """

    def __init__(self, lab: Lab, source: str = FIRST_RELEASE, target: str = "26.0.2") -> None:
        super().__init__(lab)
        self.source, self.target = self.cloud.release(source), self.cloud.release(target)
        self._begun = time.monotonic()

    def run(self) -> float:
        """Run everything; return the seconds it took."""
        self._begun = time.monotonic()
        self._tell("install and configure beside the old release, create the vhost, sync the database")
        self._at_once(self.cloud.hosts, self._look)
        self._at_once(self.cloud.hosts, self._prepare)
        self._back_up()
        make_vhost(self.lab, self.target.vhost)
        self._sync()
        *_, last = self.cloud.hosts_with("engine")
        for host in self.cloud.hosts:
            if host is not last:
                self._upgrade(host)
        self._upgrade_last(last)
        self._tell("done")
        return time.monotonic() - self._begun

    def _upgrade(self, host: Host) -> None:
        if "engine" in host.roles:
            self._replace_engine(host)
        if host.api_roles:
            self._tell(f"{host.name}: switch the API")
            self._switch(host)

    def _upgrade_last(self, host: Host) -> None:
        if host.api_roles:
            self._tell(f"{host.name}: switch the API, before the last old engine stops")
            self._switch(host)
        self._wait_for_empty_queues()
        self._replace_engine(host)

    def _replace_engine(self, host: Host) -> None:
        source, target = self._both(host)
        self._tell(f"{host.name}: stop the old engine")
        self._on(host, steps.stop_engine(source))
        self._tell(f"{host.name}: start the new engine")
        listening = self._listening()
        self._on(host, steps.start_engine(target))
        wait_until(
            lambda: self._listening() > listening, what=f"{host.name}'s new engine listens", timeout=ENGINE_READY
        )

    def _exchange_apis(self, host: Host) -> None:
        """Stop the one and start the other: the guide knows of nothing between them."""
        source, target = self._both(host)
        self._on(host, steps.stop_api(source))
        self._on(host, steps.start_api(target))

    def _listening(self) -> int:
        """Return how many engines take calls in the new vhost."""
        return sum(queue["consumers"] for queue in self._queues(self.target.vhost) if queue["name"] == "engine")

    def _wait_for_empty_queues(self) -> None:
        """Trust the queues, as the guide does, three times in a row."""
        deadline = time.monotonic() + QUEUES_EMPTY
        empty = 0
        while empty < SAMPLES:
            messages = sum(queue["messages"] for queue in self._queues(self.source.vhost) if queue["consumers"])
            self._tell(f"{messages} messages in the old vhost's queues")
            empty = 0 if messages else empty + 1
            if time.monotonic() > deadline:
                raise LabError(
                    f"{messages} messages wait in vhost {self.source.vhost}, expected 0: do its engines run?"
                )
            time.sleep(SAMPLE_EVERY)

    def _queues(self, vhost: str) -> list[dict[str, Any]]:
        account = self.lab.management()
        url = f"http://{account.host}:{account.port}/api/queues/{quote(vhost, safe='')}"
        answer = requests.get(url, auth=(account.login, account.password), timeout=30)
        answer.raise_for_status()
        return [{"messages": 0, "consumers": 0, **queue} for queue in answer.json()]

    def _tell(self, what: str) -> None:
        print(f"{time.monotonic() - self._begun:7.1f} s  {what}", flush=True)


def main() -> int:
    """Upgrade a lab; return the exit status."""
    parser = argparse.ArgumentParser("python -m lab.scenarios.guide", description="Upgrade a lab by Heat's own guide.")
    parser.add_argument("--name", default="demo", help="which lab (default: %(default)s)")
    Guide(Lab(parser.parse_args().name)).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
