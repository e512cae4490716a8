"""A host with both sides, without Heat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.router.sides import Answered, Beside, FakeEngines, Here, api_beside, call, flip, folder, router

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Host:
    """One host: who answers a request there, under which state."""

    def __init__(self, directory: Path, beside: Beside) -> None:
        self.directory, self.beside = directory, beside
        self.here, self.engines = Here(), FakeEngines()
        self.app: Any = self.here

    def state(self, **fields: Any) -> None:
        """Flip to another state, as the upgrade does."""
        flip(self.directory, **fields)

    def router(self, api: str = "orchestration") -> Any:
        """Return the router as one of this host's APIs has it."""
        return router(self.directory, self.beside.url, self.app, api, engines=self.engines)

    def ask(self, method: str, path: str, body: bytes = b"", *, api: str = "orchestration", **more: Any) -> Answered:
        """Send one request through the router."""
        return call(self.router(api), method, path, body, **more)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with api_beside() as beside:
        yield Host(folder(tmp_path / "router"), beside)
