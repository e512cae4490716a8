"""Airflow for a lab's cloud: each component a supervised process of its own."""

from __future__ import annotations

import base64
import json
import os
import secrets
import socket
import sys
from datetime import datetime
from pathlib import Path

import requests

from lab.airflow.client import AirflowApi
from lab.cloud.cloud_file import write_connections
from lab.cloud.model import Lab
from lab.http import local_session
from lab.passwords import write_private
from lab.processes import LabError, Server, clean_environment, exclusive, run, wait_until

_CONFIG = """\
[core]
dags_folder = {root}/dags
plugins_folder = {root}/plugins
load_examples = False
executor = LocalExecutor
parallelism = 16
max_active_tasks_per_dag = 16
dags_are_paused_at_creation = False
fernet_key = {fernet_key}
simple_auth_manager_users = admin:admin
simple_auth_manager_passwords_file = {home}/passwords.json
execution_api_server_url = http://127.0.0.1:{port}/execution/
min_serialized_dag_update_interval = 1

[database]
sql_alchemy_conn = sqlite:///{home}/airflow.db

[logging]
base_log_folder = {home}/logs
# Everything that a log holds is read from this machine's files.
worker_log_server_port = {worker_log_port}
trigger_log_server_port = {triggerer_log_port}

[secrets]
backend = airflow.secrets.local_filesystem.LocalFilesystemBackend
backend_kwargs = {{"connections_file_path": "{home}/connections.yaml"}}

[api]
host = 127.0.0.1
port = {port}
base_url = http://127.0.0.1:{port}
secret_key = {api_key}

[api_auth]
jwt_secret = {jwt_secret}

[scheduler]
# Two cores: look often enough that a task follows the one before it at once, seldom enough to leave it the CPU.
scheduler_idle_sleep_time = 0.2
# What a scheduler that died had in its hands another one takes up soon, not after five minutes.
scheduler_health_check_threshold = 15
orphaned_tasks_check_interval = 10

[workers]
# A task's process that is over is noticed after so many seconds. A deferred task whose trigger fires sooner counts as
# lost for the scheduler, and is tried again.
min_heartbeat_interval = 1

[dag_processor]
refresh_interval = 5
min_file_process_interval = 10

[usage_data_collection]
enabled = False
"""
# Imported by Airflow when it starts. The executor's workers and their tasks are forks of the scheduler, so what it has
# in memory no task needs to import. Not the project's own code: edits should take effect.
_LOCAL_SETTINGS = """\
import sys

if "scheduler" in sys.argv:
    import airflow.providers.mysql.hooks.mysql
    import airflow.providers.ssh.hooks.ssh
    import keystoneauth1.adapter
    import keystoneauth1.loading
    import keystoneauth1.session
    import MySQLdb
    import requests
"""
_SUPERVISORD = """\
[supervisord]
logfile = {home}/supervisord.log
logfile_maxbytes = 0
pidfile = {home}/supervisord.pid
nodaemon = true
silent = true

[unix_http_server]
file = {home}/supervisor.sock
chmod = 0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl = unix://{home}/supervisor.sock
"""
_PROGRAM = """
[program:{component}]
command = {airflow} {component} {options}
autorestart = true
startsecs = 5
startretries = 20
stopwaitsecs = 10
stopasgroup = true
killasgroup = true
stdout_logfile = {home}/{component}.log
stdout_logfile_maxbytes = 0
redirect_stderr = true
"""
# The log servers serve other machines; there is one here.
_COMPONENTS = {
    "api-server": "",
    "scheduler": "--skip-serve-logs",
    "dag-processor": "",
    "triggerer": "--skip-serve-logs",
}
_BEATING = ("scheduler", "triggerer", "dag_processor")
_START = 300.0


def start_airflow(lab: Lab) -> AirflowApi:
    """
    Start the lab's Airflow, and wait until each component reports to be alive.

    :raises LabError: if it does not come up.
    :return: a client that is logged in.
    """
    with exclusive(lab.lock("airflow")):
        _start(lab)
    return airflow_client(lab)


def _start(lab: Lab) -> None:
    home = lab.airflow_home
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_connections(lab)
    _write_config(lab, home)
    _migrate(lab, home)
    server = _server(lab)
    if not server.running():
        _refuse_taken_port(lab.own_port("airflow"))
    server.start([_tool("supervisord"), "-n", "-c", home / "supervisord.conf"], env=_environment(lab), cwd=home)
    wait_until(lambda: all_alive(lab), what="Airflow is alive", timeout=_START, given_up=server.failure)


def _refuse_taken_port(port: int) -> None:
    # Another Airflow there would answer in this one's place, out of another database.
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise LabError(f"port {port} on 127.0.0.1 is in use by another program: stop that one first") from error


def airflow_login(lab: Lab) -> tuple[str, str]:
    """Return the user name and the password of the lab's Airflow."""
    return "admin", lab.secrets["airflow"]


def airflow_client(lab: Lab) -> AirflowApi:
    """Return a client of the lab's Airflow."""
    return AirflowApi(lab.airflow_url, *airflow_login(lab))


def all_alive(lab: Lab) -> bool:
    """Tell whether every component of the lab's Airflow has sent a heartbeat since it was started."""
    try:
        health = local_session().get(f"{lab.airflow_url}/api/v2/monitor/health", timeout=5)
        health.raise_for_status()
    except requests.RequestException:
        return False
    parts = health.json()
    return all(_alive(parts.get(name) or {}, name, _server(lab).started()) for name in _BEATING)


def _alive(part: dict[str, str | None], name: str, since: float) -> bool:
    """Heartbeats of a process that was killed count as healthy for half a minute, so look at their time as well."""
    heartbeat = part.get(f"latest_{name}_heartbeat")
    if part.get("status") != "healthy" or not heartbeat:
        return False
    return datetime.fromisoformat(heartbeat).timestamp() > since


def _server(lab: Lab) -> Server:
    return lab.server("airflow")


def _tool(name: str) -> Path:
    return Path(sys.executable).parent / name


def _environment(lab: Lab) -> dict[str, str]:
    environment = clean_environment(
        PATH=f"{_tool('airflow').parent}:{os.environ['PATH']}",
        AIRFLOW_HOME=str(lab.airflow_home),
        PYTHONPATH=f"{lab.root}:{lab.root / 'plugins'}",
        HEAT_UPGRADE_CLOUDS=str(lab.clouds_directory),
    )
    # All that it talks to is on this machine, where no proxy gets.
    return {name: value for name, value in environment.items() if not name.lower().endswith("_proxy")}


def _write_config(lab: Lab, home: Path) -> None:
    keys = _keys(home / "keys.json")
    config = _CONFIG.format(
        root=lab.root,
        home=home,
        port=lab.own_port("airflow"),
        worker_log_port=lab.own_port("log_worker"),
        triggerer_log_port=lab.own_port("log_triggerer"),
        **keys,
    )
    write_private(home / "airflow.cfg", config)
    settings = home / "config/airflow_local_settings.py"
    settings.parent.mkdir(exist_ok=True)
    settings.write_text(_LOCAL_SETTINGS, encoding="utf-8")
    login, password = airflow_login(lab)
    write_private(home / "passwords.json", json.dumps({login: password}) + "\n")
    programs = "".join(
        _PROGRAM.format(component=component, options=options, airflow=_tool("airflow"), home=home)
        for component, options in _COMPONENTS.items()
    )
    (home / "supervisord.conf").write_text(_SUPERVISORD.format(home=home) + programs, encoding="utf-8")


def _keys(file: Path) -> dict[str, str]:
    if not file.exists():
        made = {
            "fernet_key": base64.urlsafe_b64encode(os.urandom(32)).decode(),
            "jwt_secret": secrets.token_urlsafe(48),
            "api_key": secrets.token_urlsafe(48),
        }
        write_private(file, json.dumps(made))
    loaded: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    return loaded


def _migrate(lab: Lab, home: Path) -> None:
    done = home / "migrated"
    if done.exists():
        return
    (home / "airflow.db").unlink(missing_ok=True)  # half-made by an aborted run
    run([_tool("airflow"), "db", "migrate"], what="make Airflow's database", env=_environment(lab))
    done.touch()
