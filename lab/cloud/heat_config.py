"""Heat's configuration and services of the first release, as an operator would have left them on a host."""

from __future__ import annotations

import shutil

from lab.cloud.model import API_PORT, CFN_PORT, FIRST_RELEASE, Lab, LabHost, Role
from lab.passwords import write_private

# The new policies refuse everybody at heat-api-cfn, which doesn't tell them the project, and at noauth's one role.
HEAT = """\
[DEFAULT]
transport_url = {transport_url}
host = {host}
auth_encryption_key = {key}
num_engine_workers = 1
# Two cores carry all of the lab. By default an engine that doesn't answer for two seconds counts as dead to the others,
# and what it works on is taken from it; with four hosts, both releases and Airflow at work at once that happens.
engine_life_check_timeout = 15
environment_dir = {directory}/environment.d
template_dir = {directory}/templates
heat_metadata_server_url = {cfn_server}
heat_waitcondition_server_url = {cfn_server}/v1/waitcondition
default_deployment_signal_transport = HEAT_SIGNAL
default_software_config_transport = POLL_SERVER_HEAT
max_stacks_per_tenant = 10000
region_name_for_services = lab

[database]
connection = {database_url}

[paste_deploy]
api_paste_config = {directory}/api-paste.ini

[oslo_policy]
enforce_new_defaults = false
enforce_scope = false

[revision]
heat_revision = {release}
"""
# Without Keystone. Heat joins the parts of a section that stands there twice.
NOAUTH = """
[DEFAULT]
deferred_auth_method = password
keystone_backend = heat.engine.clients.os.keystone.fake_keystoneclient.FakeKeystoneClient

[paste_deploy]
flavor = noauth
"""
HEALTHCHECK = """
[healthcheck]
backends = disable_by_file
disable_by_file_path = {file}
"""
_ENGINE = """\
[program:{unit}]
command = {venv}/bin/heat-engine --config-file {config}
directory = {root}
# The master only: it stops its worker itself, and waits for it.
stopsignal = TERM
stopwaitsecs = 3600
startsecs = 2
stdout_logfile = {root}/var/log/{unit}.log
stdout_logfile_maxbytes = 0
redirect_stderr = true
"""
# uWSGI lets go of its standard input. supervisord 4.3 polls the broken pipe without a pause, for ever, if it still
# listens there to what had the same number before, as it may where one program stops while another one starts.
_API = """\
[program:{unit}]
command = /bin/bash -c 'exec 9<&0; exec "$0" --ini "$1"' {venv}/bin/uwsgi {directory}/{unit}.ini
directory = {root}
stopsignal = TERM
stopwaitsecs = 120
startsecs = 2
stdout_logfile = {root}/var/log/{unit}.log
stdout_logfile_maxbytes = 0
redirect_stderr = true
"""
_UWSGI = """\
[uwsgi]
http-socket = {address}:{port}
module = heat.wsgi.{module}:application
# Heat reads its options from here, not from uWSGI's command line.
pyargv = --config-file {config}
home = {venv}
master = true
processes = {processes}
threads = 8
lazy-apps = true
need-app = true
# It does not keep connections open, and says so by itself to nobody.
add-header = Connection: close
die-on-term = true
# SIGTERM lets the requests in progress finish.
hook-master-start = unix_signal:15 gracefully_kill_them_all
worker-reload-mercy = 90
buffer-size = 65535
listen = 128
disable-logging = true
log-5xx = true
"""
APIS: dict[Role, tuple[str, int]] = {"api": ("api", API_PORT), "api-cfn": ("cfn", CFN_PORT)}
API_PROCESSES = 1


def write_configuration(lab: Lab, host: LabHost) -> None:
    """
    Write the first release's configuration directory on a host.

    :param lab: the lab.
    :param host: one of its hosts, with the release's virtual environment in place.
    """
    config = host.config(FIRST_RELEASE)
    directory = config.parent
    packaged = host.venv(FIRST_RELEASE) / "etc/heat"
    shutil.copytree(packaged, directory, dirs_exist_ok=True)
    _give_cfn_noauth(lab, host)
    text = HEAT.format(
        transport_url=lab.transport_url(),
        database_url=lab.database_url(),
        host=host.name,
        key=lab.secrets["auth_encryption_key"],
        directory=directory,
        cfn_server=lab.cfn_endpoint.removesuffix("/v1"),
        release=FIRST_RELEASE,
    )
    text += NOAUTH
    if host.rotation == "healthcheck":
        text += HEALTHCHECK.format(file=host.rotation_file)
    write_private(config, text)


def _give_cfn_noauth(lab: Lab, host: LabHost) -> None:
    """Heat ships no pipeline without Keystone for the CloudFormation API."""
    paste = host.config(FIRST_RELEASE).parent / "api-paste.ini"
    section = "[composite:api-cfn]\npaste.composite_factory = heat.api:pipeline_factory\n"
    pipeline = "noauth = cors request_id http_proxy_to_wsgi cfnversionnegotiation noauth context apicfnv1app\n"
    text = paste.read_text(encoding="utf-8")
    if "noauth context apicfnv1app" not in text:
        paste.write_text(text.replace(section, section + pipeline), encoding="utf-8")


def write_services(host: LabHost) -> None:
    """Write what the host's supervisord runs for the first release."""
    config = host.config(FIRST_RELEASE)
    for role in host.roles:
        unit = f"heat-{role}-{FIRST_RELEASE}"
        places = {
            "unit": unit,
            "venv": host.venv(FIRST_RELEASE),
            "config": config,
            "directory": config.parent,
            "root": host.root,
        }
        if role != "engine":
            module, port = APIS[role]
            uwsgi = _UWSGI.format(**places, module=module, address=host.address, port=port, processes=API_PROCESSES)
            (config.parent / f"{unit}.ini").write_text(uwsgi, encoding="utf-8")
        service = host.root / "etc/supervisor.d" / f"{unit}.conf"
        service.parent.mkdir(parents=True, exist_ok=True)
        service.write_text((_ENGINE if role == "engine" else _API).format(**places), encoding="utf-8")
