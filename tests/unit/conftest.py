"""What holds for every unit test."""

from __future__ import annotations

import pytest
from airflow.sdk._shared.secrets_masker import reset_secrets_masker


@pytest.fixture(autouse=True)
def no_secrets_of_others() -> None:
    """Forget the passwords of tests before, so that their words aren't masked in this one's messages and logs."""
    reset_secrets_masker()
