"""What can be seen of an API's place in the load balancer's rotation without taking it out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heat_upgrade.cloud.sections import HAProxy, Healthcheck
from heat_upgrade.preflight.check import Check, failed, passed, skipped, unavailable, warned
from heat_upgrade.readings import Unavailable

if TYPE_CHECKING:
    from heat_upgrade.cloud.sections import Role
    from heat_upgrade.preflight.facts import HostCheckContext, HostFacts


def rotation(role: Role, name: str, facts: HostFacts, context: HostCheckContext) -> Check:
    """Check that an API is in the rotation, and that the balancer follows its health check."""
    way = context.target.rotation(role)
    if not facts.state.releases(role):
        return skipped(name, f"no heat-{role} runs here")
    if isinstance(way, Healthcheck):
        return _by_healthcheck(name, role, way, facts)
    if isinstance(way, HAProxy):
        return _by_haproxy(name, role, way, context)
    return skipped(name, "by the cloud file's own commands, which show what they do when the first API leaves")


def _by_healthcheck(name: str, role: Role, way: Healthcheck, facts: HostFacts) -> Check:
    status = facts.reported.get(f"healthcheck/{role}", "000")
    if facts.reported.get("out_of_rotation") == "yes":
        return warned(
            name,
            f"{way.file} exists, so the API is out of the rotation, expected in: an earlier run has stopped there; "
            "rejoin_rotation takes the file away",
        )
    if status != "200":
        # An API that is ill is no reason to leave the cloud as it is; one without a health check can't leave.
        verdict = warned if status == "000" or status.startswith("5") else failed
        return verdict(
            name,
            f"/healthcheck of heat-{role} answers {status}, expected 200: see the API's log; an API without one needs "
            "another `rotation` in the cloud file (haproxy or commands)",
        )
    return _follows_the_file(name, way, facts, sorted(facts.state.releases(role)))


def _follows_the_file(name: str, way: Healthcheck, facts: HostFacts, releases: list[str]) -> Check:
    answers = "/healthcheck answers 200"
    for version in releases:
        file, backends = (facts.configured(version, key) for key in ("health_file", "health_backends"))
        if file and (file != way.file or "disable_by_file" not in backends):
            return failed(
                name,
                f"[healthcheck] of {version}'s heat.conf has disable_by_file_path {file!r} and backends {backends!r}, "
                f"expected {way.file!r} and disable_by_file: correct the one or the other, or rotation.file",
            )
        if not file:
            return warned(
                name,
                f"{answers}, but {version}'s heat.conf has no [healthcheck] disable_by_file_path, expected "
                f"{way.file!r}: unless api-paste.ini has it, the API will not leave the rotation",
            )
    return passed(name, f"{answers}, and 503 while {way.file} exists; a balancer that follows shows at the first API")


def _by_haproxy(name: str, role: Role, way: HAProxy, context: HostCheckContext) -> Check:
    reading = context.rotations.get(role, Unavailable("HAProxy wasn't asked"))
    if isinstance(reading, Unavailable):
        return unavailable(name, reading)
    status, _, how = reading.partition(",")
    server = f"{way.backend(role)}/{way.server}"
    todo = "`option httpchk GET /healthcheck` in the backend, so that a dead API leaves the rotation by itself"
    if status == "no check":
        return warned(name, f"{server} isn't checked by HAProxy, expected {todo}")
    if not status.startswith("UP"):
        return warned(
            name,
            f"{server} is {status} ({how}), expected UP: see the API's log and HAProxy's; what an earlier run has left "
            "so, rejoin_rotation puts back",
        )
    if not how.lstrip("* ").startswith("L7"):
        return warned(name, f"{server} is {status}, checked by its port alone ({how}), expected {todo}")
    return passed(name, f"{server} is {status} by an HTTP check ({how})")
