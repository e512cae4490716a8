"""The script that rewrites heat.conf on a host, run as hosts run it."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from heat_upgrade.remote.step import STEPS_DIRECTORY
from lab.compose.identity import URL, heat_configuration

DEFAULT = "[DEFAULT]\ntransport_url = rabbit://h/v\n"
ODD_PASSWORD = "p%40%2F%25%3F%23%27%22%20x$$y:z"


def run(arguments: list[str], config: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(STEPS_DIRECTORY / "heat_conf.py"), *arguments]
    return subprocess.run(command, input=config, text=True, capture_output=True, check=False)


def rewritten(config: str, *arguments: str) -> str:
    done = run(["rewrite", *arguments], config)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("rabbit://u:p@h/old", "rabbit://u:p@h/new"),
        ("rabbit://u:p@h:5672/", "rabbit://u:p@h:5672/new"),
        ("rabbit://u:p@h", "rabbit://u:p@h/new"),
        (f"rabbit://u:{ODD_PASSWORD}@h/old", f"rabbit://u:{ODD_PASSWORD}@h/new"),
        ("rabbit://u:p@h1:1,u:q@h2:2,u:r@[::1]:3/old", "rabbit://u:p@h1:1,u:q@h2:2,u:r@[::1]:3/new"),
        ("rabbit://u:p@h/old?ssl=1&ssl_ca_file=/etc/ca.pem", "rabbit://u:p@h/new?ssl=1&ssl_ca_file=/etc/ca.pem"),
        ("rabbit://u:p@h?ssl=1", "rabbit://u:p@h/new?ssl=1"),
        ('"rabbit://u:p@h/old"', "rabbit://u:p@h/new"),
        ("rabbit+tls://u:p@h/%2Fodd%20vhost", "rabbit+tls://u:p@h/new"),
    ],
)
def test_only_the_vhost_of_transport_url_changes(url: str, expected: str) -> None:
    text = rewritten(f"[DEFAULT]\ntransport_url = {url}\n", "--vhost", "new")
    assert text == f"[DEFAULT]\ntransport_url = {expected}\n"


def test_a_vhost_is_percent_encoded_and_read_back() -> None:
    text = rewritten("[DEFAULT]\ntransport_url=rabbit://u:p@h/old\n", "--vhost", "/a b%")
    assert "transport_url = rabbit://u:p@h/%2Fa%20b%25\n" in text
    assert run(["named", "c1"], text).stdout == "/a b%\nc1\n"
    assert run(["named", "c1"], text + "host = heat\n").stdout == "/a b%\nheat\n"


def test_comments_order_and_other_sections_survive() -> None:
    config = (
        "# Heat\n[DEFAULT]\n; transport_url = rabbit://commented/out\ntransport_url = rabbit://h/old\n\n"
        "[oslo_messaging_notifications]\ntransport_url = rabbit://h/notifications\n"
        "[database]\nconnection = mysql+pymysql://heat:%40@h/heat\n"
    )
    assert rewritten(config, "--vhost", "new") == config.replace("rabbit://h/old", "rabbit://h/new")


def test_options_are_set_where_they_stand_or_added() -> None:
    config = "[DEFAULT]\ntransport_url = rabbit://h/old\n[revision]\nheat_revision = 1\n"
    text = rewritten(config, "--vhost", "v", "--set", "revision", "heat_revision", "2", "--set", "new", "key", "x")
    assert text.endswith("[revision]\nheat_revision = 2\n[new]\nkey = x\n")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "backends = disable_by_file"),
        ("backends = other", "backends = other,disable_by_file"),
        ("backends = other, disable_by_file", "backends = other, disable_by_file"),
    ],
)
def test_a_list_keeps_what_it_has(before: str, after: str) -> None:
    config = f"[DEFAULT]\ntransport_url = rabbit://h/v\n[healthcheck]\n{before}\n"
    assert (
        after in rewritten(config, "--vhost", "v", "--add", "healthcheck", "backends", "disable_by_file").splitlines()
    )


def test_paths_move_whole_names_only() -> None:
    config = (
        "[DEFAULT]\ntransport_url = rabbit://h/v\nenvironment_dir = /opt/heat/25/etc/environment.d\n"
        "plugin_dirs = /opt/heat/25,/opt/heat/250/plugins\n[paste_deploy]\napi_paste_config = /etc/heat/api-paste.ini\n"
    )
    text = rewritten(
        config,
        *("--vhost", "v"),
        *("--move", "/opt/heat/25=/opt/heat/26"),
        *("--move", "/etc/heat/api-paste.ini=/etc/heat/26/api-paste.ini"),
    )
    assert "environment_dir = /opt/heat/26/etc/environment.d\n" in text
    assert "plugin_dirs = /opt/heat/26,/opt/heat/250/plugins\n" in text
    assert "api_paste_config = /etc/heat/26/api-paste.ini\n" in text


@pytest.mark.parametrize("config", ["[DEFAULT]\nhost = a\n", "[DEFAULT]\ntransport_url = no url, secret\n"])
def test_a_missing_or_broken_transport_url_is_refused_without_showing_it(config: str) -> None:
    done = run(["rewrite", "--vhost", "v"], config)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "transport_url" in done.stderr
    assert "then retry" in done.stderr
    assert "secret" not in done.stdout + done.stderr


RAW_PASSWORD = "p@ / % ? # ' \" x$y:z"


def diff(old: str, new: str) -> str:
    done = run(["diff", "/etc/heat/25/heat.conf", "/etc/heat/26/heat.conf"], f"{old}\0{new}")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_difference_is_told_line_by_line_with_its_section() -> None:
    old = "[DEFAULT]\nhost = a\n# kept\n[revision]\nheat_revision = 1\n"
    new = "[DEFAULT]\nhost = a\n# kept\n[revision]\nheat_revision = 2\n[healthcheck]\nbackends = disable_by_file\n"
    assert diff(old, new).splitlines() == [
        "--- /etc/heat/25/heat.conf",
        "+++ /etc/heat/26/heat.conf",
        "@@ -5,1 +5,3 @@ [revision]",
        "-heat_revision = 1",
        "+heat_revision = 2",
        "+[healthcheck]",
        "+backends = disable_by_file",
    ]
    assert diff(old, old) == "\n"


# The braces stand for a secret.
@pytest.mark.parametrize(
    "line",
    [
        "transport_url = rabbit://heat:{}@h/v",
        "transport_url = rabbit://heat:{}@h1:1,heat:{}@h2:2/v?ssl=1",
        "transport_url: '{}'",
        "transport_url = rabbit://heat:{}\n    @h/v",
        "transport_url = rabbit://h1/v\n    heat:{}@h2/v",
        "connection = mysql+pymysql://heat:{}@db/heat?charset=utf8",
        "connection = mysql+pymysql://db/heat?charset=utf8&ssl_key_password={}",
        "slave_connection = heat:{}@db",
        "connection = {}",
        "password = {}",
        "PASSWORD={}",
        "auth_encryption_key = {}",
        "stack_user_domain_admin_password: {}",
        "memcache_secret_key = {}",
        "admin_token = {}",
        "password = x\n    {}",
        "trustee_credential = {}",
        "backend_argument = redis://u:{}@h:6379",
        "backend_argument = password:{}",
        "anything = http://proxy:{}@h:3128/ and more",
        "anything = user:{}@h",
        "# password = {}",
        ";transport_url = rabbit://heat:{}@h/v",
        "# the old password was {}",
        "# see rabbit://heat:{}@h/v",
        "{}",
        "    {}",
    ],
)
@pytest.mark.parametrize("password", [ODD_PASSWORD, RAW_PASSWORD], ids=["percent-encoded", "raw"])
def test_no_secret_is_in_a_difference(line: str, password: str) -> None:
    odd = [f"S3CRET{number}{password}S3CRET{number}" for number in range(line.count("{}"))]
    planted = line.format(*odd)
    told = diff("[a]\nkey = 1\n", f"[DEFAULT]\n{planted}\nhost = seen\n")
    assert "S3CRET" not in told
    assert "+host = seen" in told
    assert "***" in told
    assert "S3CRET" not in diff(f"[DEFAULT]\n{planted}\n", "[a]\n")


def test_what_is_no_secret_is_shown() -> None:
    lines = [
        "transport_url = rabbit://h:5672/v",
        "auth_uri = http://keystone:5000/v3",
        "host = a",
        "# Heat's own",
        "plugin_dirs = /a,",
        "    /b",
    ]
    told = diff("[a]\n", "\n".join(["[DEFAULT]", *lines]) + "\n").splitlines()
    assert [line for line in lines if f"+{line}" not in told] == []


def test_of_what_heat_tells_keystone_all_is_shown_but_passwords() -> None:
    text = heat_configuration({"service": f"S3CRET{RAW_PASSWORD}S3CRET", "domain_admin": "S3CRET"})
    told = diff("", text)
    assert "S3CRET" not in told
    hidden = [line.rpartition(" = ")[0] for line in text.splitlines() if line and f"+{line}" not in told.splitlines()]
    assert hidden == ["stack_domain_admin_password", "password", "password"]
    assert f"+www_authenticate_uri = {URL}" in told.splitlines()


def test_of_a_url_all_is_shown_but_its_login() -> None:
    told = diff("", f"[DEFAULT]\ntransport_url = rabbit://heat:{RAW_PASSWORD}@h:5672/v?ssl=1\n")
    assert "+transport_url = rabbit://***@h:5672/v?ssl=1" in told.splitlines()


def test_a_secret_that_changes_is_seen_to_change() -> None:
    told = diff("[DEFAULT]\nadmin_password = old\n", "[DEFAULT]\nadmin_password = new\n").splitlines()
    assert told[-2:] == ["-admin_password = ***", "+admin_password = ***"]


def test_the_database_url_becomes_an_option_file() -> None:
    config = f"[database]\nconnection = mysql+pymysql://he%40t:{ODD_PASSWORD}@db:3307/heat%2Ddb?ssl_ca=/etc/ca.pem\n"
    assert run(["mysql-options"], config).stdout == (
        "# database: heat%2Ddb\n[client]\n"
        'host="db"\nport="3307"\nuser="he@t"\npassword="p@/%?#\'\\" x$y:z"\nssl-ca="/etc/ca.pem"\n'
    )


def options_of(url: str, more: str = "") -> dict[str, str]:
    done = run(["mysql-options"], f"[database]\nconnection = {url}\n{more}")
    assert done.returncode == 0, done.stderr
    name, _, *options = done.stdout.splitlines()
    found = dict(option.replace('"', "").split("=", 1) for option in options)
    return {"database": name.removeprefix("# database: "), **found}


# What SQLAlchemy takes each for; the names are those of mysqldump.
@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("heat:Kq3/9xT+Zw==@h:3999/heat", {"user": "heat", "password": "Kq3/9xT+Zw==", "host": "h", "port": "3999"}),
        ("heat:12/abc@h:3999/heat", {"user": "heat", "password": "12/abc", "host": "h", "port": "3999"}),
        ("heat:a#b?c[d:e%40%2B@h/heat", {"user": "heat", "password": "a#b?c[d:e@+", "host": "h"}),
        ("heat:p%0Aq@h/heat", {"user": "heat", "password": "p\\nq", "host": "h"}),
        ("heat@[fd00::1]:3306/heat", {"user": "heat", "host": "fd00::1", "port": "3306"}),
        ("heat:p@/heat?unix_socket=/run/my.sock", {"user": "heat", "password": "p", "socket": "/run/my.sock"}),
        ("h/heat?user=he%2Bat&password=p+q", {"user": "he+at", "password": "p q", "host": "h"}),
    ],
)
@pytest.mark.parametrize("dialect", ["mysql+pymysql", "mysql", "mariadb+mysqldb"])
def test_the_database_url_is_read_as_heat_reads_it(dialect: str, url: str, expected: dict[str, str]) -> None:
    assert options_of(f"{dialect}://{url}") == {"database": "heat", **expected}
    assert "database=readable" in run(["facts"], f"{DEFAULT}[database]\nconnection = {dialect}://{url}\n").stdout


def test_parameters_that_oslo_db_appends_count() -> None:
    found = options_of("mysql+pymysql://h/heat?ssl_ca=/a", "connection_parameters = ssl_cert=/c&ssl_key=/k\n")
    assert found == {"database": "heat", "host": "h", "ssl-ca": "/a", "ssl-cert": "/c", "ssl-key": "/k"}


@pytest.mark.parametrize(
    "url",
    [
        "mysql+pymysql://heat:S3CRET@S3CRET@h/heat",
        "mysql+pymysql://heat:p@h:S3CRET/heat",
        "mysql+pymysql://heat:S3CRET@h:/heat",
        "mysql+pymysql://heat:S3CRET@[h]i/heat",
        "mysql+pymysql://heat:S3CRET@h",
        "mysql+pymysql://heat:S3CRET@h/heat/S3CRET@h",
        "postgresql://heat:S3CRET@h/heat",
        "S3CRET",
        "",
    ],
)
def test_a_database_url_that_leads_nowhere_is_refused_without_showing_it(url: str) -> None:
    config = f"{DEFAULT}[database]\nconnection = {url}\n"
    done = run(["mysql-options"], config)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: [database] connection in heat.conf is no URL of the form mysql+pymysql://")
    assert "S3CRET" not in done.stderr
    assert "database=unreadable" in run(["facts"], config).stdout


# Their parts would be taken for a vhost, a host or a query, and shown; Heat itself finds no broker.
@pytest.mark.parametrize(
    "url",
    [
        "rabbit://heat:Kq3/9xT+Zw==@h:5672/v",
        "rabbit://heat:12/S3CRET@h:5672/v",
        "rabbit://heat:12?S3CRET@h:5672/v",
        "rabbit://heat:12#S3CRET@h:5672/v",
        "rabbit://heat:p,S3CRET@h:5672/v",
        "rabbit://heat:p@h:S3CRET/v",
        "rabbit://heat:S3CRET]@h/v",
        "rabbit://heat:[::1]S3CRET@h/v",
        "rabbit://heat:p@h1:5672,heat:S3CRET",
        "1rabbit://h/S3CRET",
    ],
)
def test_a_transport_url_that_heat_cannot_use_is_refused_without_showing_it(url: str) -> None:
    for verb in (["facts"], ["named", "c1"], ["rewrite", "--vhost", "v"]):
        done = run(verb, f"[DEFAULT]\ntransport_url = {url}\n")
        assert (done.returncode, done.stdout) == (1, "")
        assert "error: transport_url in [DEFAULT] of heat.conf is no URL" in done.stderr
        assert not re.search(r"S3CRET|Kq3|9xT", done.stderr)


def test_what_nobody_has_thought_of_shows_nothing_either() -> None:
    done = run(["get", "DEFAULT", "a", ""], "[DEFAULT]\na = S3CRET $b\nb = S3CRET $a\n")
    assert done.stderr.startswith("error: heat.conf can't be read (RecursionError): report it")
    assert "S3CRET" not in done.stderr


def test_another_encoding_is_refused() -> None:
    command = [sys.executable, str(STEPS_DIRECTORY / "heat_conf.py"), "facts"]
    config = b"[DEFAULT]\ntransport_url = rabbit://h:S3CRET\xff\n"
    done = subprocess.run(command, input=config, capture_output=True, check=False)
    assert done.stderr.startswith(b"error: heat.conf isn't UTF-8, expected it to be")
    assert b"S3CRET" not in done.stderr


def test_utf_8_survives_whatever_the_locale_is() -> None:
    command = [sys.executable, str(STEPS_DIRECTORY / "heat_conf.py"), "rewrite", "--vhost", "v"]
    config = f"{DEFAULT}# Wärme\nhost = höst\u2028b\n".encode()
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = subprocess.run(command, input=config, capture_output=True, env=plain, check=False)
    assert done.stdout == config


# The lines as they stand there; the file's first option is on the fifth line.
CONTINUED = """\
# a comment

[DEFAULT]

transport_url = rabbit://heat:p@rmq1:5672,
                heat:q@rmq2:5672/old
plugin_dirs = /opt/heat/25/lib,
\t/opt/heat/25/share, /mnt/opt/heat/25
logging_context_format_string = "%(asctime)s
    [%(request_id)s] %(message)s"
    # no comment
graceful_shutdown_timeout = 3600

[healthcheck]
backends = one,
    two
# [database] is a section's other name for oslo.config
[DATABASE]
connection = mysql+pymysql://heat:p@h/heat
"""


def test_options_of_several_lines_are_read_and_written_as_a_whole() -> None:
    moves = ("--move", "/opt/heat/25=/opt/heat/26", "--add", "healthcheck", "backends", "three")
    text = rewritten(CONTINUED, "--vhost", "new", "--set", "database", "connection", "'x'", *moves)
    assert text == (
        CONTINUED.replace("rmq1:5672,\n                heat:q@rmq2:5672/old", "rmq1:5672,heat:q@rmq2:5672/new")
        .replace(" /opt/heat/25", " /opt/heat/26")
        .replace("\t/opt/heat/25", "\t/opt/heat/26")
        .replace("one,\n    two", "one,two,three")
        .replace("mysql+pymysql://heat:p@h/heat", "\"'x'\"")
    )
    assert run(["named", "c1"], CONTINUED).stdout == "old\nc1\n"
    assert run(["facts"], CONTINUED).stdout == (
        "login=heat\ndatabase=readable\ngraceful_shutdown_timeout=3600\nhealth_backends=one, two\nhealth_file=\n"
    )
    again = rewritten(text, "--vhost", "new", *moves)
    assert again == text


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("[DEFAULT] # comment", "begins a section, expected nothing behind its ]"),
        ("[", "begins a section"),
        ("S3CRET", "is no option, expected key = value"),
        ("= S3CRET", "is no option, expected key = value"),
        ("\n    S3CRET", "continues no option"),
        ("# a comment ends it\n    S3CRET", "continues no option"),
    ],
)
def test_a_line_that_heat_cannot_read_is_refused_without_showing_it(line: str, reason: str) -> None:
    for verb in (["facts"], ["named", "c1"], ["rewrite", "--vhost", "v"]):
        done = run(verb, f"{DEFAULT}{line}\n")
        assert done.stderr.startswith(f"error: line {3 + line.count(chr(10))} of heat.conf {reason}")
        assert "S3CRET" not in done.stdout + done.stderr


def test_an_option_before_every_section_is_refused() -> None:
    assert "line 1 of heat.conf stands before the first section" in run(["facts"], "host = a\n").stderr


@pytest.mark.parametrize(
    ("config", "value"),
    [
        ("[default]\nhost = a\n", "other"),
        ("[ DEFAULT ]\nhost = a\n", "other"),
        ("[DEFAULT]\n# host = a\nhost : b = c\n", "b = c"),
        ("[DEFAULT]\nhost = '\n", ""),
        ("[DEFAULT]\nhost = 'a'b'\n", "a'b"),
        ("[DEFAULT]\r\nhost = a\r\nhost = b\r\n", "b"),
        ("[DEFAULT]\nhost = a\x0cb\n", "a\x0cb"),
        ("[DEFAULT]\nhost = ${name}-$other.name-$nobody\nname = a\n[other]\nname = b\n", "a-b-$nobody"),
        ("[DEFAULT]\nhost = $$1-\\$2-$\n", "$1-$2-$"),
    ],
)
def test_a_value_is_what_oslo_config_makes_of_it(config: str, value: str) -> None:
    assert run(["get", "DEFAULT", "host", "other"], config).stdout == f"{value}\n"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("rabbit://u:p$$q@h/old", "rabbit://u:p$$q@h/new"),
        (r"rabbit://u:p\$q@h/old", r"rabbit://u:p\$q@h/new"),
        ("rabbit://$rpc/old", "rabbit://u:p@h1,u:p@h2/new"),
        ("rabbit://u:p$$q@h/$rpc", None),
        ("rabbit://u:p$nowhere@h/old", None),
        ("rabbit://u:$password@h/old", None),
    ],
)
def test_what_transport_url_names_is_carried_over(url: str, expected: str | None) -> None:
    config = "[DEFAULT]\ntransport_url = {}\nrpc = u:p@h1,u:p@h2\npassword = p$nowhere\n"
    done = run(["rewrite", "--vhost", "new"], config.format(url))
    assert done.stdout == (config.format(expected) if expected else "")
    assert done.stderr == "" if expected else "error: transport_url in [DEFAULT] of heat.conf" in done.stderr


def test_the_last_of_two_values_counts() -> None:
    assert run(["get", "DEFAULT", "host", "other"], "[DEFAULT]\nhost = a\nhost = 'b'\n").stdout == "b\n"
    assert run(["get", "DEFAULT", "host", "other"], "[other]\nhost = a\n").stdout == "other\n"


@pytest.mark.parametrize(
    ("url", "login"),
    [
        (f"rabbit://heat:{ODD_PASSWORD}@h/v", "heat"),
        ("rabbit://h%40t:p@h1:1,other:q@h2:2/v", "h@t"),
        ("rabbit://heat@h/v", "heat"),
        ("rabbit://he@t:p@h/v", "he@t"),
        ("rabbit://heat:p@q@h:5672/v", "heat"),
        ("rabbit://h1:5672,heat:q@h2:2/v", "heat"),
        ("rabbit://h:5672/v", ""),
    ],
)
def test_preflight_is_told_of_the_user_and_never_of_the_password(url: str, login: str) -> None:
    done = run(["facts"], f"[DEFAULT]\ntransport_url = {url}\n[healthcheck]\nbackends = disable_by_file\n")
    assert done.stdout.splitlines() == [
        f"login={login}",
        "database=unreadable",
        "graceful_shutdown_timeout=60",
        "health_backends=disable_by_file",
        "health_file=",
    ]
