"""A lab from its first release to the next one and back."""

from __future__ import annotations

from tests.e2e.labs import shared_lab

# On the first release until one of the stories upgrades it.
lab = shared_lab("e2e-life", "package")
