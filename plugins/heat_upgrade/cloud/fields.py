"""The kinds of value in a cloud file. Each is harmless in a path, a unit name, a URL and a shell word."""

from __future__ import annotations

import base64
import ipaddress
import re
import string
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, Strict, ValidationInfo
from pydantic_core import PydanticCustomError

from heat_upgrade.problems import HIDDEN, Problem, did_you_mean, is_secret, show_key
from heat_upgrade.windows import Days, ever_comes

T = TypeVar("T")


def invalid(expected: str, todo: str) -> PydanticCustomError:
    """
    Return the error of a single wrong value, for a validator to raise.

    :param expected: what would have been right
    :param todo: what the operator does next
    """
    return PydanticCustomError("invalid", "expected {expected}: {todo}", {"expected": expected, "todo": todo})


def raise_if_any(problems: Sequence[Problem]) -> None:
    """
    Raise all problems at once, for a validator that looks at several values.

    :param problems: with places relative to the validated object; may be empty
    """
    if problems:
        raise PydanticCustomError("several", "several problems", {"problems": tuple(problems)})


def rule(test: Callable[[Any], bool], expected: str, todo: str) -> AfterValidator:
    """
    Return a validator that lets a value pass if a test holds.

    :param test: the test
    :param expected: what would have been right
    :param todo: what the operator does next
    """

    def check(value: T) -> T:
        if not test(value):
            raise invalid(expected, todo)
        return value

    return AfterValidator(check)


def text(pattern: str, expected: str, todo: str, fields: Sequence[str] = ()) -> AfterValidator:
    """
    Return a validator for a text, or for a template of one.

    :param pattern: what the whole text matches once the template is filled in
    :param expected: what would have been right
    :param todo: what the operator does next
    :param fields: the template fields that may be used
    """
    compiled = re.compile(pattern, re.ASCII | re.DOTALL)

    def check(value: str) -> str:
        sample = _fill_with_a_letter(value, fields) if fields else value
        if not compiled.fullmatch(sample):
            raise invalid(expected, todo)
        return value

    return AfterValidator(check)


def _fill_with_a_letter(template: str, fields: Sequence[str]) -> str:
    known = " ".join(f"{{{field}}}" for field in fields)
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError:
        raise invalid("each { to have its }", f"close it; the template fields are {known}") from None
    for _, field, spec, conversion in parts:
        # Only plain names: {host.name}, {host!r} and {host:>9} would reach into Python.
        if field is not None and (field not in fields or spec or conversion):
            raise invalid(f"only the template fields {known}", "use one of them ({{ and }} are plain braces)")
    return template.format(**dict.fromkeys(fields, "x"))


def _path(*fields: str) -> AfterValidator:
    return text(
        r"(/(?!\.{1,2}(/|\Z))[\w.+@-]+)+",
        "an absolute path of letters, digits and . _ + @ - without '..' and without a slash at its end",
        "write the full path on the host",
        fields,
    )


Text = Annotated[str, Strict()]
Whole = Annotated[int, Strict()]
Flag = Annotated[bool, Strict()]

CloudName = Annotated[
    Text,
    text(r"[A-Za-z0-9][\w.-]{0,199}", "a name of letters, digits and . _ -", "rename the cloud file"),
]
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST_NAME = rf"(?=.{{1,200}}\Z){_LABEL}(\.{_LABEL})*"
HostName = Annotated[
    Text,
    text(_HOST_NAME, "a host name (letters, digits, dots and inner hyphens)", "write the host's own name"),
]
PlainPath = Annotated[Text, _path()]
HostPath = Annotated[Text, _path("host")]
ReleasePath = Annotated[Text, _path("host", "release")]
Unit = Annotated[
    Text,
    text(
        r"\w[\w.@-]*(?<!\.service)(?<!\.conf)",
        "a unit name of letters, digits and . _ @ - without .service or .conf",
        "write for example heat-{role}-{release}",
        ("host", "release", "role"),
    ),
]
User = Annotated[Text, text(r"[a-z_][a-z0-9_-]{0,31}", "the name of a Unix account", "write for example heat")]
Vhost = Annotated[
    Text,
    text(
        r"(?!.*\.\.)[A-Za-z0-9_/][\w./-]*",
        "a RabbitMQ vhost of letters, digits and . _ - / (or / itself)",
        "write for example heat_26",
    ),
]
Version = Annotated[
    Text,
    text(
        r"(0|[1-9]\d{0,5})(\.(0|[1-9]\d{0,5})){2}",
        "a release as heat-engine --version prints it, x.y.z",
        "write all three numbers, in quotes if there are fewer dots, as in '25.0.2'",
    ),
]
Program = Annotated[
    Text,
    text(
        r"(/(?!\.{1,2}(/|\Z))[\w.+@-]+)+|\w[\w.+-]*",
        "a program: its name or its absolute path",
        "write for example python3 or /usr/bin/python3",
    ),
]
ServerName = Annotated[
    Text,
    text(
        r"\w[\w.:-]*",
        "a HAProxy name of letters, digits and . _ : -",
        "copy it from haproxy.cfg",
        ("host", "role"),
    ),
]
BackendName = Annotated[
    Text, text(r"\w[\w.:-]*", "a HAProxy name of letters, digits and . _ : -", "copy it from haproxy.cfg")
]
Command = Annotated[
    Text,
    text(
        r"(?!.*(://\S*:\S*@|passw\w*[=: ]|\s-u ?\S+:))(?=.*\S)[^\x00-\x1f\x7f]+",
        "a shell command on one line without a password in it",
        "put longer ones and secrets into a script on the host",
        ("host", "address", "role"),
    ),
]
Argument = Annotated[
    Text,
    text(
        r"(?!-p|--password)[\w./:=@+,-]+",
        "an argument of letters, digits and . _ / : = @ + , - and no password option",
        "leave the password to supervisorctl's own configuration file",
        ("host",),
    ),
]
ConnectionId = Annotated[
    Text,
    text(
        r"[A-Za-z0-9_][\w.-]{0,249}",
        "the id of an Airflow connection (letters, digits and . _ -), not the connection itself",
        "store address and secrets with `airflow connections add <id>` and write the id here",
    ),
]
# Keystone's own are 32 or 64 hexadecimal digits; without Keystone it is whatever stands in the API's address.
PROJECT_ID = r"[A-Za-z0-9][\w.-]{0,63}"
A_PROJECT_ID = "a project's id: letters, digits and . _ -, 64 at most"
ProjectId = Annotated[Text, text(PROJECT_ID, A_PROJECT_ID, "copy it from `openstack project list`, its first column")]
Port = Annotated[Whole, rule(lambda n: 1 <= n <= 65535, "a port from 1 to 65535", "write the port of the service")]
Count = Annotated[Whole, rule(lambda n: 1 <= n <= 1024, "a number from 1 to 1024", "write how many to start")]
Seconds = Annotated[
    float,
    Strict(),
    rule(lambda s: 0 < s < 10**8, "a number of seconds above 0", "write the seconds, as in 60"),
]


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return bool(re.fullmatch(_HOST_NAME, value)) and not re.fullmatch(r"[\d.]+", value)
    return "%" not in value


Address = Annotated[
    Text,
    rule(_is_address, "an IP address or a host name, without user or port", "write for example 10.0.0.11"),
]
ListenAddress = Annotated[
    Text,
    rule(
        lambda value: value == "{address}" or _is_address(value),
        "an IP address, a host name or the template field {address}",
        "write {address} for the host's own address or 0.0.0.0 for all",
    ),
]


_KEY_TYPES = {"ssh-ed25519", "ssh-rsa", *(f"ecdsa-sha2-nistp{bits}" for bits in (256, 384, 521))}


def _public_key(value: str) -> str:
    kind, _, rest = value.strip().partition(" ")
    blob = rest.partition(" ")[0]
    if "\n" in value.strip() or kind not in _KEY_TYPES or not _holds_a_key(kind, blob):
        raise invalid(
            "a public host key: its type and its base64 text",
            "copy the two last words of `ssh-keyscan -t ed25519 ADDRESS`, and compare them with the host's own",
        )
    return f"{kind} {blob}"


def _holds_a_key(kind: str, blob: str) -> bool:
    """Return whether a blob is whole and of its type: a cut-off key would fail only at the first SSH connection."""
    try:
        key = base64.b64decode(blob, validate=True)
    except ValueError:
        return False
    parts = []
    while key:
        size = int.from_bytes(key[:4], "big")
        if len(key) < 4 + size:
            return False
        parts.append(key[4 : 4 + size])
        key = key[4 + size :]
    return len(parts) > 1 and parts[0] == kind.encode()


HostKey = Annotated[Text, AfterValidator(_public_key)]


def _local_file(value: Any, info: ValidationInfo) -> Path:
    if not isinstance(value, str) or not value or "\n" in value or "\0" in value or ".." in Path(value).parts:
        raise invalid("the path of a pip requirements file", "write it absolute or from HEAT_UPGRADE_HOME")
    # Who validates a cloud without a file of its own means the current directory.
    return Path((info.context or {}).get("home", "")) / value


LocalFile = Annotated[Path, BeforeValidator(_local_file)]


def _wave(value: Any) -> int | str:
    percent = re.fullmatch(r"(\d{1,3})%", value) if isinstance(value, str) else None
    if percent and 1 <= int(percent[1]) <= 100:
        return str(value)
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise invalid("a number of hosts above 0 or a share from 1% to 100%", "write for example [1, 2, 50%]")


Wave = Annotated[int | str, BeforeValidator(_wave)]
Waves = Annotated[tuple[Wave, ...], rule(bool, "at least one wave", "write for example [1] or delete the key")]


# `* 22 * * sat` opens sixty windows, not one; H and R, croniter's own, stand for any time.
_CRON = re.compile(r"\d{1,2}( (?![hr])[\w*/,#-]+){4}", re.ASCII | re.IGNORECASE)


def _cron(value: str) -> str:
    expected = "a cron expression: minute (one number), hour, day of month, month, day of week"
    fields = value.split(" ")
    if not _CRON.fullmatch(value) or not ever_comes(value):
        raise invalid(
            expected, 'write for example "0 22 * * sat", or "0 22 * * sat#1" for the first Saturday of a month'
        )
    if "*" not in (fields[2], fields[4]):
        expected = "a day of the month or a day of the week, not both"
        raise invalid(
            expected, 'cron takes either for enough: for the first Saturday of a month write "0 22 * * sat#1"'
        )
    return value


def _time_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ValueError, OSError, ZoneInfoNotFoundError):
        todo = did_you_mean(value, available_timezones(), "write for example Europe/Berlin")
        raise invalid("a time zone of the IANA database", todo) from None
    return value


def _days(value: Any) -> Days:
    first, _, last = value.partition(" to ") if isinstance(value, str) else (value, "", "")
    try:
        days = Days(_date(first), _date(last or first))
    except ValueError:
        days = None
    if days is None or days.last < days.first:
        expected = "a day or the first and the last of several, as in 2026-12-24 to 2027-01-02"
        raise invalid(expected, "write each as year-month-day, the earlier one first")
    return days


def _date(value: Any) -> date:
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
        value = date.fromisoformat(value)
    # What YAML has read as a date; a datetime is one as well. The first and last years are too near the calendar's end.
    if type(value) is not date or not 2000 <= value.year < 9999:
        raise ValueError("no date")
    return value


Cron = Annotated[Text, AfterValidator(_cron)]
TimeZone = Annotated[Text, AfterValidator(_time_zone)]
Blackout = Annotated[Days, BeforeValidator(_days), PlainSerializer(str)]
Minutes = Annotated[
    Whole, rule(lambda n: 5 <= n <= 10080, "from 5 to 10080 minutes, which is a week", "write how long it stays open")
]

CanaryMinutes = Annotated[
    Whole, rule(lambda n: 1 <= n <= 10080, "from 1 to 10080 minutes, which is a week", "write for example 30")
]

EmailAddress = Annotated[
    Text,
    text(r"[\w.+-]+@[\w-]+(\.[\w-]+)*", "an e-mail address without a name", "write for example heat@example.org"),
]
ImportPath = Annotated[
    Text,
    text(
        r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+",
        "the import path of a notifier: package, module and class, with dots",
        "write for example airflow.providers.slack.notifications.slack.SlackNotifier",
    ),
]


_SEE_NOTIFIER = "see the notifier's documentation for its arguments"


def _arguments(value: dict[str, Any]) -> dict[str, Any]:
    problems = []
    for name in value:
        if is_secret(name):
            todo = "delete it, secrets belong in an Airflow connection, of which a notifier takes the id"
            problems.append(Problem(show_key(name), HIDDEN, "no secret", todo))
        elif not name.isidentifier():
            problems.append(Problem("", f"the key {show_key(name)}", "the name of an argument", _SEE_NOTIFIER))
    raise_if_any(problems)
    return value


NotifierArguments = Annotated[dict[Text, Any], AfterValidator(_arguments)]
