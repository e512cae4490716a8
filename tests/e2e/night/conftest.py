"""A lab before an upgrade: checked, cleaned up, and on time."""

from __future__ import annotations

from tests.e2e.labs import shared_lab

# On the first release, where engines come and go.
lab = shared_lab("e2e-night", "package")
