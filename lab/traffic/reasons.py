"""Why stacks failed, so that the reasons of two runs can be compared."""

import re

_DATABASE_ERROR = re.compile(r"\(pymysql\.err\.(\w+)\) \((\d+), (.*)", re.DOTALL)
_CONSTRAINT = re.compile(r"CONSTRAINT `(\w+)`")
# where it broke: "Resource UPDATE failed: resources.outer: NotFound: resources.inner.resources[0]: "
_WRAPPERS = re.compile(r"^(?:Resource \w+ failed: |(?:\w+: )?resources[.\[][^\s:]*: )+")
_REPLACEMENTS = (
    (re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}"), "<id>"),
    (re.compile(r"\breq-<id>"), "<request>"),
    (re.compile(r"\d+(?:\.\d+)*"), "<n>"),
    (re.compile(r"\s+"), " "),
)


def kind_of(action: str, reason: str, *, prefix: str) -> str:
    """Name the kind of a failure: what is left of its reason without names, ids and numbers.

    Where in a tree of nested stacks something broke makes no kind of its own, what broke does.

    :param action: what failed, as CREATE.
    :param reason: as Heat tells it, maybe cut off.
    :param prefix: what the names of the traffic's stacks begin with.
    """
    core = _WRAPPERS.sub("", reason.strip())
    error = _DATABASE_ERROR.search(core)
    if error:
        return f"{action}: {_database_error(*error.groups())}"
    core = re.sub(rf"\b{re.escape(prefix)}-[\w-]+", "<stack>", core)
    for pattern, replacement in _REPLACEMENTS:
        core = pattern.sub(replacement, core)
    return f"{action}: {core.strip() or 'no reason given'}"


def _database_error(error: str, code: str, message: str) -> str:
    # An event's reason is cut off after 255 characters, so nothing may be taken from its end.
    constraint = _CONSTRAINT.search(message)
    what = f"constraint {constraint[1]}" if constraint else message.strip("'\"")[:40].rstrip()
    return f"MySQL {error} {code}, {what}"
