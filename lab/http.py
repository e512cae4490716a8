"""HTTP to servers on this machine."""

from __future__ import annotations

import requests


def local_session() -> requests.Session:
    """Return a session that asks no proxy: a proxy can't reach this machine's loopback addresses."""
    session = requests.Session()
    session.trust_env = False
    return session
