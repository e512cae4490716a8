"""What has to hold while some projects' new stacks go ahead of everybody else's. Nothing here reads or writes."""

from __future__ import annotations

from dataclasses import dataclass

from heat_upgrade.readings import BegunActions
from heat_upgrade.report.availability import Availability

# How a canary has ended: by its time, by a person's answer, or by what was measured.
HELD, APPROVED, REJECTED, FAILED = "held", "approved", "rejected", "failed"


@dataclass(frozen=True)
class Limits:
    """
    What is too much for a canary.

    :param slowest: seconds that an answer of the API may take
    :param usual: how many of the canary's actions failed in as long a time before it
    """

    slowest: float
    usual: int


def errors_of(seen: Availability, begun: BegunActions | None, limits: Limits) -> list[str]:
    """
    Return what takes a canary back; nothing where all holds.

    :param seen: the API's answers since the watch began
    :param begun: the canary's actions since it began; None where they weren't read this time
    :param limits: what is too much
    """
    errors: list[str] = []
    if seen.outages:
        errors.append(
            f"{seen.failed} of {seen.probes} requests to the API failed ({seen.outages[0].reason}), expected none to: "
            "see the logs of the new APIs and engines"
        )
    if seen.slowest > limits.slowest:
        errors.append(
            f"the API took {seen.slowest:.1f} s to answer, expected {limits.slowest:g} s at the most: see the load of "
            "the new APIs and engines, or raise the cloud file's canary.slowest"
        )
    if begun and begun.failed > limits.usual:
        errors.append(
            f"{begun.failed} of {begun.total} actions on the canary's stacks failed, expected {limits.usual} at the "
            "most, as many as in as long a time before: see these stacks' events"
        )
    return errors
