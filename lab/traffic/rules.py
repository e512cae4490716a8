"""What the accounts of two runs say about an upgrade."""

from lab.traffic.account import Account
from lab.traffic.rates import HEATS_OWN, Rate, is_worse

FEWEST_PROBES = 10.0  # a second; with fewer a short outage could slip through


def verdict(upgrade: Account, control: Account) -> list[str]:
    """Judge an upgrade against a control run; return what speaks against it, nothing if it holds.

    The rule: no request failed; no stack is stuck, or still in progress after the wait; no more resources than in the
    control run had their lock stolen or were created twice; and stacks failed no more often, kind by kind, than in the
    control run and in what `rates.py` knows of Heat without an upgrade. A kind that neither has is not forgiven once.
    Two runs can only be compared if both sent the same traffic, densely enough, and the control run was well itself.

    :param upgrade: the run during which the upgrade happened.
    :param control: the same traffic on the same cloud without an upgrade.
    """
    return [*_comparable(upgrade, control), *_lost(upgrade), *_crossed(upgrade, control), *_failed(upgrade, control)]


def _comparable(upgrade: Account, control: Account) -> list[str]:
    reasons = []
    if upgrade.seed != control.seed:
        reasons.append(f"the runs differ: seed {upgrade.seed}, and {control.seed}; expected the same")
    if control.requests.failed or control.stuck or control.unsettled:
        reasons.append(
            f"the cloud is unwell without an upgrade: the control run has {control.requests.failed} failed "
            f"requests, {len(control.stuck)} stuck and {len(control.unsettled)} unsettled stacks"
        )
    for account in (upgrade, control):
        if not account.stacks.begun:
            reasons.append(f"{account.label}: no stack was begun, so it proves nothing")
        if account.requests.probes_per_second < FEWEST_PROBES:
            pace = account.requests.probes_per_second
            reasons.append(f"{account.label}: {pace} probes were answered a second, expected {FEWEST_PROBES:g} or more")
    return reasons


def _lost(upgrade: Account) -> list[str]:
    reasons = []
    if upgrade.requests.failed:
        first = upgrade.requests.failures[0]
        reasons.append(f"{upgrade.requests.failed} requests failed, the first a {first.kind}: {first.error}")
    if upgrade.stuck:
        reasons.append(f"{len(upgrade.stuck)} stacks are stuck: {_some(upgrade.stuck)}")
    if upgrade.unsettled:
        reasons.append(f"{len(upgrade.unsettled)} stacks are still in progress: {_some(upgrade.unsettled)}")
    return reasons


def _crossed(upgrade: Account, control: Account) -> list[str]:
    """A server that is created twice is one too many: no rate excuses it."""
    found = {
        "had their lock stolen from an engine": (upgrade.stolen, control.stolen),
        "were created twice": (upgrade.created_twice, control.created_twice),
    }
    return [
        f"{len(here)} resources {what}, expected at most {len(there)} as in the control run: {_some(here)}"
        for what, (here, there) in found.items()
        if len(here) > len(there)
    ]


def _failed(upgrade: Account, control: Account) -> list[str]:
    reasons = []
    for kind, names in upgrade.stacks.failure_kinds.items():
        here = Rate(len(names), upgrade.stacks.begun)
        there = _rate(kind, control)
        if not there.failed:
            reasons.append(
                f"{here.failed} stacks failed in a way that the control run doesn't have: {kind}: {_some(names)}"
            )
        elif is_worse(here, there):
            reasons.append(
                f"{here.failed} of {here.stacks} stacks failed in a way that without an upgrade only {there.failed} "
                f"of {there.stacks} do: {kind}: {_some(names)}"
            )
    return reasons


def _rate(kind: str, control: Account) -> Rate:
    seen = Rate(len(control.stacks.failure_kinds.get(kind, ())), control.stacks.begun)
    return seen + HEATS_OWN.get(kind, Rate(0, 0))


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
