"""One Heat host: its sshd, its supervisord, and the first release of Heat."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import sys
from pathlib import Path
from typing import Any
from xmlrpc.client import ServerProxy

from supervisor.xmlrpc import SupervisorTransport  # type: ignore[import-untyped]

from lab.cloud.heat_config import write_configuration, write_services
from lab.cloud.model import FIRST_RELEASE, PROJECT_ROOT, SSH_PORT, Lab, LabHost
from lab.passwords import write_private
from lab.processes import LabError, clean_environment, run, send_signal, stop_marked, wait_until

_SSHD = """\
ListenAddress {address}:{port}
HostKey {root}/etc/ssh/ssh_host_ed25519_key
PidFile {root}/run/sshd.pid
AuthorizedKeysFile {authorized}
AuthenticationMethods publickey
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
# The project may be checked out below a directory that a group can write to.
StrictModes no
UseDNS no
PrintMotd no
MaxStartups 100
MaxSessions 100
Subsystem sftp internal-sftp
SetEnv {environment}
"""
_SUPERVISORD = """\
[supervisord]
logfile = {root}/var/log/supervisord.log
logfile_maxbytes = 0
pidfile = {root}/run/supervisord.pid
childlogdir = {root}/var/log
nodaemon = true
silent = true
minfds = 1024

[unix_http_server]
file = {socket}
chmod = 0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl = unix://{socket}

[include]
files = {root}/etc/supervisor.d/*.conf
"""
_TOOLS = Path(sys.executable).parent
PYTHON = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"


def make_login_key(lab: Lab) -> None:
    """Make the key pair that logs in at every host."""
    make_key(lab.ssh_key, comment=f"lab-{lab.name}")


def start_sshd(host: LabHost) -> None:
    """
    Start the host's SSH server, and wait until it answers.

    :raises LabError: if it does not come up.
    """
    sshd = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    if not sshd:
        raise LabError("sshd is not installed: on Debian, `apt-get install openssh-server`")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd's privilege separation asks for it
    (host.root / "run").mkdir(parents=True, exist_ok=True)
    make_key(host.root / "etc/ssh/ssh_host_ed25519_key", comment=host.name)
    config = host.root / "etc/ssh/sshd_config"
    write_private(config, _sshd_config(host))
    host.sshd.start([Path(sshd).resolve(), "-D", "-e", "-f", config])
    wait_until(lambda: greets(host), what=f"sshd of {host.name} answers", given_up=host.sshd.failure)


def stop_sshd(host: LabHost) -> None:
    """Kill the host's SSH server, with all its open connections: each is a process in a session of its own."""
    connections = host.sshd.connections()
    host.sshd.stop(grace=0)
    send_signal(connections, signal.SIGKILL)


def cut_power(host: LabHost) -> None:
    """Kill everything that runs on the host, also what was started over SSH."""
    host.supervisord.stop(grace=0)
    stop_sshd(host)
    stop_marked(f"HOME={host.home}")


def boot(host: LabHost) -> None:
    """Start what a boot starts: the SSH server, the service manager and with it the services that are enabled."""
    start_sshd(host)
    start_services(host)


def install_first_release(lab: Lab, host: LabHost) -> None:
    """
    Put the first release on a host, unless that is done: virtual environment, configuration and services.

    :raises LabError: if the installation fails.
    """
    done = host.root / "var/lib/installed"
    if done.exists():
        return
    venv = host.venv(FIRST_RELEASE)
    shutil.rmtree(venv, ignore_errors=True)  # half-made by an aborted run
    run([_TOOLS / "uv", "venv", "--quiet", "--python", PYTHON, venv], what=f"make {venv}")
    pins = PROJECT_ROOT / "include/releases" / f"openstack-heat-{FIRST_RELEASE}.txt"
    run(
        [_TOOLS / "uv", "pip", "install", "--quiet", "--require-hashes", "--python", venv / "bin/python", "-r", pins],
        what=f"install Heat {FIRST_RELEASE} on {host.name}",
    )
    write_configuration(lab, host)
    write_services(host)
    done.parent.mkdir(parents=True, exist_ok=True)
    done.touch()


def share_bytecode(source: LabHost, target: LabHost) -> None:
    """
    Give a host the bytecode that another has compiled of the first release.

    It is valid there: uv has linked the same files, with the same times, into both virtual environments.
    """
    origin = source.venv(FIRST_RELEASE)
    for compiled in origin.rglob("__pycache__/*.pyc"):
        copy = target.venv(FIRST_RELEASE) / compiled.relative_to(origin)
        if not copy.exists() and copy.parent.parent.exists():
            copy.parent.mkdir(exist_ok=True)
            shutil.copy2(compiled, copy)


def start_services(host: LabHost) -> None:
    """
    Start the host's supervisord and with it all the services that it has.

    :raises LabError: if it does not come up.
    """
    for directory in ("run", "var/log", "var/lib/heat", "etc/supervisor.d"):
        (host.root / directory).mkdir(parents=True, exist_ok=True)
    host.supervisor_conf.write_text(
        _SUPERVISORD.format(root=host.root, socket=host.supervisor_socket), encoding="utf-8"
    )
    host.supervisord.start([_TOOLS / "supervisord", "-n", "-c", host.supervisor_conf], env=clean_environment())
    wait_until(
        lambda: _takes_commands(host),
        what=f"supervisord of {host.name} answers",
        given_up=host.supervisord.failure,
    )


def make_key(key: Path, *, comment: str) -> None:
    public = key.with_name(f"{key.name}.pub")
    if key.exists() and public.exists():
        return
    key.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    key.unlink(missing_ok=True)
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", key], what=f"make the key {key}")


def _sshd_config(host: LabHost) -> str:
    """
    Let what is run over SSH see a host's own environment.

    It has what a package installation needs, and a home of its own: the dot files of whoever runs the lab are
    none of the host's business. Only uv's cache is shared, since it makes an installation a matter of seconds.
    """
    home = host.home
    home.mkdir(parents=True, exist_ok=True)
    cache = run([_TOOLS / "uv", "cache", "dir"], what="find uv's cache").strip()
    names = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
    wanted = {
        name: value
        for name, value in clean_environment().items()
        if name in names or name.startswith(("PIP_", "UV_")) or name.lower().endswith("_proxy")
    }
    no_proxy = ",".join(filter(None, (wanted.get("no_proxy"), host.address)))
    wanted |= {"HEAT_LAB": str(host.lab_state), "HOME": str(home), "UV_CACHE_DIR": cache, "no_proxy": no_proxy}
    wanted |= _own_environment(host)
    pairs = " ".join(f'"{name}={value}"' for name, value in sorted(wanted.items()))
    return _SSHD.format(
        address=host.address,
        port=SSH_PORT,
        root=host.root,
        authorized=host.lab_state / "ssh/id_ed25519.pub",
        environment=pairs,
    )


def _own_environment(host: LabHost) -> dict[str, str]:
    if not host.environment.exists():
        return {}
    lines = host.environment.read_text(encoding="utf-8").splitlines()
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def greets(host: LabHost) -> bool:
    """Tell whether the host's SSH server answers."""
    try:
        with socket.create_connection((host.address, SSH_PORT), timeout=2) as connection:
            connection.settimeout(5)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def programs(host: LabHost) -> dict[str, str]:
    """Return the state of each program of the host's supervisord, such as RUNNING; empty if it is down."""
    return {program["name"]: program["statename"] for program in _programs(host)}


def program_pids(host: LabHost) -> dict[str, int]:
    """Return the process of each program of the host's supervisord that runs."""
    return {program["name"]: program["pid"] for program in _programs(host) if program["pid"]}


def _programs(host: LabHost) -> list[dict[str, Any]]:
    transport = SupervisorTransport(None, None, f"unix://{host.supervisor_socket}")
    supervisor: Any = ServerProxy("http://127.0.0.1", transport=transport).supervisor
    try:
        return list(supervisor.getAllProcessInfo())
    except OSError:
        return []


def _takes_commands(host: LabHost) -> bool:
    """Connect: the socket of one that was killed is still there."""
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(str(host.supervisor_socket)) == 0


def login_name() -> str:
    """Return the account that SSH logs in as: the one that the lab runs as."""
    return getpass.getuser()
