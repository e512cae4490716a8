"""What is checked on every host. Nothing here connects: facts in, an outcome out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

from heat_upgrade.hosts import ALIVE
from heat_upgrade.preflight.check import Check, Outcome, check_clock, failed, passed, skipped, unavailable, warned
from heat_upgrade.preflight.facts import HostCheckContext, HostFacts, in_units, seconds
from heat_upgrade.preflight.rotation import rotation
from heat_upgrade.readings import Unavailable

if TYPE_CHECKING:
    from heat_upgrade.cloud.model import Deployment
    from heat_upgrade.cloud.sections import Role

# KiB. A release takes 200 MB, its bytecode 100 more.
VENV_SPACE = 512 * 1024
# KiB that an engine takes where none runs to be measured.
USUAL_ENGINE = 300 * 1024
# Python that a release of Heat wants, by its first number; a later one wants at least as much.
PYTHON = {25: (3, 10), 26: (3, 10), 27: (3, 11)}
# The host's own, by which steps read heat.conf and what the routers keep.
STEPS_PYTHON = "3.8"

HostCheck = Callable[[str, HostFacts, HostCheckContext], Check]


def check_host(found: HostFacts | Unavailable, context: HostCheckContext) -> list[Check]:
    """
    Make every check of a host.

    :param found: what the host has told, or why it didn't
    :param context: what is to come
    """
    checks = _checks_of(context.target)
    if isinstance(found, Unavailable):
        rest = [skipped(name, "the host wasn't asked") for name in checks if name != "SSH"]
        return [unavailable("SSH", found), *rest]
    return list(_in_order(checks, found, context))


def _in_order(checks: Mapping[str, HostCheck], facts: HostFacts, context: HostCheckContext) -> Iterator[Check]:
    rootless = context.target.cloud.become == "sudo" and facts.reported.get("sudo") != "yes"
    needs_root = False
    for name, check in checks.items():
        yield skipped(name, "not asked, it takes sudo") if needs_root else check(name, facts, context)
        needs_root = needs_root or (rootless and name == "sudo")


def _checks_of(target: Deployment) -> dict[str, HostCheck]:
    engine: dict[str, HostCheck] = {"engine": listens, "memory": memory, "graceful stop": graceful_stop}
    return {
        "SSH": ssh,
        "host key": host_key,
        "clock": clock,
        "sudo": sudo,
        "services": services,
        "release": release,
        "heat.conf": heat_conf,
        "sources": sources,
        "vhost": vhost,
        **({"sides": sides} if target.host.api_roles else {}),
        **(engine if "engine" in target.host.roles else {}),
        "Python": python,
        "disk": disk,
        "heat-status": upgrade_check,
        **{f"rotation {role}": partial(rotation, role) for role in target.host.api_roles},
    }


def ssh(name: str, facts: HostFacts, context: HostCheckContext) -> Check:
    """Say how SSH got in."""
    return passed(name, f"as {facts.login}")


def host_key(name: str, facts: HostFacts, context: HostCheckContext) -> Check:
    """Check that the host's key was verified."""
    if facts.key:
        return passed(name, f"verified by {facts.key}")
    return warned(
        name,
        "was not verified, expected a known key: put `host_key` into the cloud file, and take no_host_key_check and "
        f"allow_host_key_change out of the Airflow connection {context.target.cloud.connections.ssh!r}",
    )


def clock(name: str, facts: HostFacts, context: HostCheckContext) -> Check:
    """Check that the host's clock agrees with Airflow's."""
    return check_clock(name, facts.ahead, "see `chronyc tracking` or `timedatectl` there")


def sudo(name: str, facts: HostFacts, context: HostCheckContext) -> Check:
    """Check that the SSH user may do what the steps do."""
    if facts.reported.get("state") == "no":
        return failed(
            name,
            f"{context.target.state}, the upgrade's own folder, can't be made or written by {facts.login}, expected "
            "so: correct layout.state in the cloud file, or that user's rights there",
        )
    if context.target.cloud.become == "none":
        return passed(name, "not needed: `become` is none in the cloud file")
    if facts.reported.get("sudo") == "yes":
        return passed(name, "without a password")
    return failed(
        name,
        "`sudo -n true` fails, expected it to work without a password: give the SSH user NOPASSWD rights in sudoers, "
        "or set `become: none` in the cloud file",
    )


def services(name: str, facts: HostFacts, context: HostCheckContext) -> Check:
    """Check that each of the host's services runs, of one release or the other."""
    state = facts.state
    shown = ", ".join(
        f"heat-{role} {version} {word}" for (role, version), word in state.services.items() if word in ALIVE
    )
    dead = [f"heat-{role} ({_states(facts, role)})" for role in state.host.roles if not state.releases(role)]
    if not dead:
        return passed(name, shown)
    if context.cold and state.stopped:
        return passed(name, f"a cold upgrade has stopped {state.stopped} here; {shown or 'nothing runs'}")
    if not shown:
        todo = "start Heat there, or correct `layout` and the first release's `unit` in the cloud file"
        if state.stopped:
            todo = f"a cold upgrade has stopped {state.stopped} there and was left at that, so run that one again"
        return failed(name, f"none of its services runs: {', '.join(dead)}; expected some: {todo}")
    return warned(
        name,
        f"{', '.join(dead)} doesn't run, {shown}; expected all of its services: see the service's log, unless an "
        "earlier run has stopped in the middle there",
    )


def sides(name: str, facts: HostFacts, context: HostCheckContext) -> Check:
    """Check that no rolling upgrade is half-way where a cold one begins: it knows no APIs beside, and no router."""
    state = facts.state
    beside = [f"heat-{role} {version}" for (role, version), word in state.beside.items() if word in ALIVE]
    told = [f"{', '.join(beside)} beside"] if beside else []
    if state.router:
        told.append(f"users on {state.router.default}, {state.router.listed} stacks on the other side")
    if not told:
        return passed(name, "no rolling upgrade is half-way here")
    if not context.cold:
        return passed(name, f"a rolling upgrade is half-way: {'; '.join(told)}")
    return failed(
        name,
        f"a rolling upgrade is half-way there ({'; '.join(told)}), expected none: finish it, or take it back, with the "
        "rolling upgrade's DAG",
    )


def _states(facts: HostFacts, role: str) -> str:
    states = [f"{version} {word}" for (of, version), word in facts.state.services.items() if of == role]
    there = [state for state in states if not state.endswith(" absent")]
    return ", ".join(there) or "not installed"


def release(name: str, facts: HostFacts, context: HostCheckContext) -> Check:
    """Check that what runs is what the cloud file calls it, and that its APIs can run beside the new ones."""
    found = {version: facts.state.installed.get(version, "") for version in sorted(facts.state.running)}
    if wrong := {version: holds for version, holds in found.items() if holds and holds != version}:
        told = "; ".join(f"{version} runs from a venv with openstack-heat {holds}" for version, holds in wrong.items())
        return failed(
            name, f"{told}, expected the same: correct the release's `version`, `venv` or `unit` in the cloud file"
        )
    if lacking := _without_server(facts, context):
        return failed(
            name,
            f"{', '.join(lacking)}, expected one of the two, so that the API can run once more beside the new one: "
            "install pyuwsgi there, or correct the release's `venv` in the cloud file",
        )
    if taken := _taken_places(facts, context):
        return failed(
            name,
            f"something listens at {', '.join(taken)} already, expected nothing: the API that runs is to listen there "
            "once more, beside the new one. Set the ports that this names in the cloud file to free ones",
        )
    if unknown := [version for version, holds in found.items() if not holds]:
        return warned(
            name,
            f"{', '.join(unknown)} runs, but its venv holds no openstack-heat that Python finds, so this is on paper "
            "only: correct the release's `venv` in the cloud file",
        )
    return passed(name, f"openstack-heat {', '.join(found)} as installed") if found else skipped(name, "nothing runs")


def _running(facts: HostFacts, context: HostCheckContext) -> list[Deployment]:
    """Return the releases that run on the host, in the cloud file's order."""
    cloud = context.target.cloud
    return [cloud.deployment(facts.state.host, one) for one in cloud.releases if one.version in facts.state.running]


def _left_behind(facts: HostFacts, context: HostCheckContext) -> list[tuple[Deployment, Role]]:
    """Return the APIs that are to run once more beside those to come; a cold upgrade runs none."""
    left = [one for one in _running(facts, context) if one.release != context.target.release]
    return [(one, role) for one in left for role in one.host.api_roles if not context.cold]


def _taken_places(facts: HostFacts, context: HostCheckContext) -> list[str]:
    """Return where APIs are to listen beside others and something else does."""
    return [
        f"{one.beside(role).address}:{one.beside(role).port} (services.{role.replace('-', '_')}.beside)"
        for one, role in _left_behind(facts, context)
        if facts.reported.get(f"answers_beside/{one.release.version}/{role}") == "yes"
        and facts.state.beside.get((role, one.release.version)) not in ALIVE
    ]


def _without_server(facts: HostFacts, context: HostCheckContext) -> list[str]:
    """Return the APIs that nothing can run beside those to come, each with what was looked for."""
    return [
        f"{one.venv}/bin has neither a uWSGI with Python nor heat-{role}"
        for one, role in _left_behind(facts, context)
        if facts.reported.get(f"server/{one.release.version}/{role}") == ""
    ]


def heat_conf(name: str, facts: HostFacts, context: HostCheckContext) -> Check:
    """Check that the upgrade reads the running releases' heat.conf as Heat does, so that it can be carried over."""
    found = [(one.config, facts.configured(one.release.version, "problem")) for one in _running(facts, context)]
    if problems := "; ".join(f"{config}: {problem}" for config, problem in found if problem):
        return failed(name, problems)
    return passed(name, ", ".join(f"{config} can be carried over" for config, _ in found) or "nothing runs")


def sources(name: str, facts: HostFacts, context: HostCheckContext) -> Check:
    """Check that the running services read what the new release will: the heat.conf that its own is made from."""
    told = list(_sources(name, facts, context))
    for outcome in (Outcome.FAILED, Outcome.WARNED):
        if found := [check.finding for check in told if check.outcome is outcome]:
            return Check(name, outcome, "; ".join(found))
    return passed(name, ", ".join(check.finding for check in told) or "nothing runs that is carried over")


def _sources(name: str, facts: HostFacts, context: HostCheckContext) -> Iterator[Check]:
    """Check each service that is to be replaced."""
    cloud, version_to_come = context.target.cloud, context.target.release.version
    for (role, version), state in facts.state.services.items():
        if state not in ALIVE or version == version_to_come:
            continue
        deployment = cloud.deployment(facts.state.host, cloud.release(version))
        yield _source(name, f"heat-{role} {version}", f"{version}/{role}", deployment, facts)


def _source(name: str, service: str, key: str, deployment: Deployment, facts: HostFacts) -> Check:
    config, found = deployment.config, facts.reported.get(f"sources/{key}")
    if found is None:
        return warned(
            name,
            f"what {service} reads can't be told from its process, expected {config} alone: compare its command line",
        )
    # What an earlier upgrade has put in front of it is not the operator's.
    files = [file for file in found.split() if not file.startswith(f"{deployment.router}/")]
    first = facts.reported.get(f"defaults/{key}", "").split()
    if variables := facts.reported.get(f"environment/{key}"):
        return failed(
            name,
            f"{service} takes {variables} from its environment, expected every option in {config}, from which the new "
            "release's is made: write them there, and take them out of the service",
        )
    if files != [*first, config]:
        return failed(
            name,
            f"{service} reads {', '.join(files) or 'no file'}, expected {config} alone, from which the new release's "
            "is made: move all that counts into it, and start the service with that --config-file and no --config-dir",
        )
    if first:
        return warned(
            name,
            f"{service} reads {', '.join(first)} before {config}, expected that alone: the new release reads them too, "
            "but the upgrade itself goes by heat.conf, so see that transport_url, host and connection are there",
        )
    return passed(name, f"{service} reads {config} alone")


def vhost(name: str, facts: HostFacts, context: HostCheckContext) -> Check:
    """Check that the running releases' heat.conf names the vhost that the cloud file says."""
    configs = {one.release: one.config for one in _running(facts, context)}
    if any(facts.configured(one.version, "problem") for one in configs):
        return skipped(name, "heat.conf can't be read")
    found = {one.version: facts.state.vhosts.get(one.version) for one in configs}
    if wrong := [one for one in configs if found[one.version] != one.vhost]:
        told = "; ".join(
            f"{configs[one]} names {_shown(found[one.version])}, expected {one.vhost!r} for {one.version}"
            for one in wrong
        )
        return failed(name, f"{told}: correct the release's `vhost` or `config` in the cloud file")
    return passed(name, ", ".join(f"{one.version} on {one.vhost!r}" for one in configs) or "nothing runs")


def _shown(vhost_found: str | None) -> str:
    return "no vhost (it can't be read)" if vhost_found is None else repr(vhost_found)


def listens(name: str, facts: HostFacts, context: HostCheckContext) -> Check:
    """Check that the host's engines listen on the vhost that the cloud file says."""
    if isinstance(context.consumers, Unavailable):
        return skipped(name, "RabbitMQ wasn't asked")
    cloud, queue = context.target.cloud, f"engine.{facts.state.heat_host}"
    running = [one for one in cloud.releases if one.version in facts.state.releases("engine")]
    deaf = [one for one in running if not context.consumers.get(one.vhost, {}).get(queue)]
    if deaf:
        told = ", ".join(f"{one.version} on vhost {one.vhost!r}" for one in deaf)
        # Beside another one it was left by an earlier run, which may have to be gone back on for that reason.
        verdict = failed if len(running) == 1 else warned
        return verdict(
            name,
            f"nobody reads queue {queue!r} of {told}, expected the host's engine: correct the release's `vhost` "
            "(transport_url in heat.conf has it), or see the engine's log for its connection to RabbitMQ",
        )
    told = ", ".join(f"{one.version} listens on {one.vhost!r}" for one in running)
    return passed(name, told) if told else skipped(name, "none runs here")


def memory(name: str, facts: HostFacts, context: HostCheckContext) -> Check:
    """Check that a second engine fits beside the one that runs."""
    if context.target.release.version in facts.state.releases("engine"):
        return passed(name, f"the engine of {context.target.release.version} runs already")
    if context.cold:
        return passed(name, "a cold upgrade starts no engine beside another")
    available = facts.number("memory_available")
    taken = [facts.number(f"memory/{version}") for version in facts.state.releases("engine")]
    need = max((amount for amount in taken if amount), default=USUAL_ENGINE)
    if available is None:
        return warned(name, f"what is free can't be told, expected {in_units(need)} for one more engine: see `free`")
    told = f"{in_units(available)} available, one more engine takes {in_units(need)}"
    if available < need:
        return failed(name, f"{told}: free memory there, or use fewer num_engine_workers")
    if available < 2 * need:
        return warned(name, f"{told}, expected twice as much: watch it while both engines run")
    return passed(name, told)


def graceful_stop(name: str, facts: HostFacts, context: HostCheckContext) -> Check:
    """Check that an engine that stops may finish what it works on; after the drain nothing should be left."""
    if isinstance(context.longest, Unavailable):
        return skipped(name, "the database wasn't read")
    longest = context.longest.seconds if context.longest else 0
    resource = f"the longest resource took {context.longest}" if context.longest else "no resource was seen"
    told: list[str] = []
    problems: list[str] = []
    for version in sorted(facts.state.releases("engine")):
        grace, stop = _patience(facts, version)
        told.append(f"{version}: graceful_shutdown_timeout {_limit(grace)}, killed after {_limit(stop)}")
        problems += _too_short(grace, stop, longest)
    if not told:
        return skipped(name, "no engine runs here")
    finding = f"{'; '.join(told)}; {resource}"
    if problems:
        return warned(name, f"{finding}; expected {' and '.join(dict.fromkeys(problems))}")
    return passed(name, finding)


def _patience(facts: HostFacts, version: str) -> tuple[float, float]:
    """Return for how long an engine waits for its work, and the service manager for the engine."""
    grace = facts.configured(version, "graceful_shutdown_timeout")
    grace_seconds = float(grace) if grace.isdigit() else 60.0
    try:
        stop = seconds(facts.reported.get(f"stop_timeout/{version}", ""))
    except ValueError:
        stop = None
    return grace_seconds or float("inf"), float("inf") if stop is None else stop


def _limit(limit: float) -> str:
    return "no limit" if limit == float("inf") else f"{limit:g} s"


def _too_short(grace: float, stop: float, longest: float) -> Iterator[str]:
    if grace < longest:
        yield "[DEFAULT] graceful_shutdown_timeout in heat.conf above the longest resource"
    if stop < longest or stop <= grace < float("inf"):
        yield "TimeoutStopSec (stopwaitsecs) of the engine's service above both"


def python(name: str, facts: HostFacts, context: HostCheckContext) -> Check:
    """Check that the Python there is new enough, and that venvs can be made of it."""
    target, installer = context.target.release, context.target.cloud.installer
    if too_old := _steps_python(name, facts.reported.get("python3", "")):
        return too_old
    if facts.state.installed.get(target.version) == target.version or not target.requirements:
        return passed(name, f"{target.version} is installed already")
    if facts.reported.get("installer") != "yes":
        todo = (
            "install python3-venv there, or correct installer.python"
            if installer.kind == "pip"
            else "install uv there, or correct installer.command"
        )
        return failed(name, f"no venv can be made with {installer.kind}, expected so: {todo} in the cloud file")
    found, needed = facts.reported.get("python", ""), _python_for(target.version)
    if not found:
        return failed(name, f"{installer.python} doesn't run there, expected Python {needed}: correct installer.python")
    if _numbers(found) < _numbers(needed):
        return failed(
            name,
            f"{installer.python} is Python {found}, expected at least {needed} for Heat {target.version}: "
            "install it and name it as installer.python in the cloud file",
        )
    return passed(name, f"{found}; Heat {target.version} wants {needed}")


def _steps_python(name: str, found: str) -> Check | None:
    if found and _numbers(found) >= _numbers(STEPS_PYTHON):
        return None
    return failed(
        name,
        f"python3 is {found or 'not there'}, expected at least {STEPS_PYTHON}, by which the upgrade's steps run: "
        "install a newer one, so that the SSH user and root find it as python3",
    )


def _python_for(version: str) -> str:
    major = int(version.split(".", maxsplit=1)[0])
    return ".".join(map(str, PYTHON[max([known for known in PYTHON if known <= major], default=min(PYTHON))]))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split(".")[:2])


def disk(name: str, facts: HostFacts, context: HostCheckContext) -> Check:
    """Check that the release has room."""
    target = context.target
    if facts.state.installed.get(target.release.version) == target.release.version or not target.release.requirements:
        return passed(name, f"{target.release.version} is installed already")
    free = facts.number("free_venv")
    if free is None:
        return warned(name, f"the space for {target.venv} can't be told, expected {in_units(VENV_SPACE)}: see `df`")
    told = f"{in_units(free)} free for {target.venv}"
    if free < VENV_SPACE:
        return failed(name, f"{told}, expected {in_units(VENV_SPACE)}: free space there, or change layout.venv")
    return passed(name, told)


def upgrade_check(name: str, facts: HostFacts, context: HostCheckContext) -> Check:
    """Check what the new code's own `heat-status upgrade check` says."""
    version, status = context.target.release.version, facts.reported.get("upgrade_check")
    command = f"`heat-status upgrade check` of {version}"
    if status is None:
        return skipped(name, f"{version} isn't here yet; sync_database runs it before it migrates")
    if status == "0":
        return passed(name, f"{command} finds nothing")
    todo = "its table is above: do what it says"
    verdict = warned if status == "1" else failed
    return verdict(name, f"{command} ends with status {status}, expected 0; {todo}")
