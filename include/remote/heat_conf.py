"""Read and rewrite a heat.conf as text, so that comments, order and odd characters survive.

heat_conf.py get SECTION KEY DEFAULT                    < heat.conf   print one value
heat_conf.py vhost                                      < heat.conf   print the vhost of transport_url
heat_conf.py facts                                      < heat.conf   print what preflight asks, a line each
heat_conf.py mysql-options                              < heat.conf   print [database] connection as an option file
heat_conf.py rewrite --vhost V [--set S K V] [--add S K V] [--move OLD=NEW]  < heat.conf   print the new heat.conf

The file may hold passwords: it comes on standard input and goes to standard output, never to a command line.
"""

import argparse
import re
import sys
from urllib.parse import parse_qs, quote, unquote, urlsplit

SECTION = re.compile(r"\s*\[(?P<name>[^\]]+)\]")
OPTION = re.compile(r"(?P<key>[^\s=:#;\[][^=:]*?)(?P<sign>\s*[=:]\s*)(?P<value>.*?)\s*$")
# Everything before the vhost may hold passwords of several brokers; the query holds TLS options.
TRANSPORT_URL = re.compile(r"(?P<brokers>[\w+.-]+://[^/?#]*)(?:/(?P<vhost>[^?#]*))?(?P<query>\?.*)?")


def options(lines):
    """Yield (line number, section, key, sign, value) of every option; a continuation line belongs to no key."""
    section = "DEFAULT"
    for number, line in enumerate(lines):
        if header := SECTION.match(line):
            section = header["name"].strip()
        elif option := OPTION.match(line):
            yield number, section, option["key"], option["sign"], option["value"]


def unquoted(value):
    """Take off the quotes that oslo.config takes off."""
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value


def get(lines, section, key, default=None):
    """Return the value that oslo.config would use: the last one of a key that stands there twice."""
    found = [unquoted(v) for _, s, k, _, v in options(lines) if (s, k) == (section, key)]
    return found[-1] if found else default


def put(lines, section, key, value):
    """Set an option where it stands, else at the head of its section, else in a new section at the end."""
    numbers = [n for n, s, k, _, _ in options(lines) if (s, k) == (section, key)]
    for number in numbers:
        lines[number] = f"{key} = {value}"
    if numbers:
        return
    for number, line in enumerate(lines):
        if (header := SECTION.match(line)) and header["name"].strip() == section:
            lines.insert(number + 1, f"{key} = {value}")
            return
    lines += [f"[{section}]", f"{key} = {value}"]


def add(lines, section, key, value):
    """Add a value to an option that is a comma-separated list."""
    present = [word.strip() for word in (get(lines, section, key) or "").split(",") if word.strip()]
    if value not in present:
        put(lines, section, key, ",".join([*present, value]))


def transport_url(lines):
    """Take transport_url apart."""
    url = get(lines, "DEFAULT", "transport_url")
    if url is None:
        sys.exit(
            "error: no transport_url in [DEFAULT] of heat.conf, expected rabbit://...: "
            "write it there (the upgrade changes nothing but its vhost), then retry"
        )
    match = TRANSPORT_URL.fullmatch(url)
    if not match:
        sys.exit(
            "error: transport_url in [DEFAULT] of heat.conf is no URL of the form "
            "rabbit://user:password@host:port/vhost: correct it (percent-encode / ? # in passwords), then retry"
        )
    return match


def facts(lines):
    """Return what preflight wants to know; a password is none of it."""
    brokers = transport_url(lines)["brokers"].partition("://")[2]
    return {
        "login": unquote(re.split("[:@]", brokers)[0]) if "@" in brokers else "",
        "graceful_shutdown_timeout": get(lines, "DEFAULT", "graceful_shutdown_timeout", "60"),
        "health_backends": get(lines, "healthcheck", "backends", ""),
        "health_file": get(lines, "healthcheck", "disable_by_file_path", ""),
    }


def change_vhost(lines, vhost):
    """Give transport_url another vhost and leave its brokers, passwords and TLS options to the letter."""
    match = transport_url(lines)
    put(lines, "DEFAULT", "transport_url", f"{match['brokers']}/{quote(vhost, safe='')}{match['query'] or ''}")


def move_paths(lines, old, new):
    """Point values at a file's place in the new release."""
    path = re.compile(re.escape(old) + r"(?=[/,\s'\"]|$)")
    for number, _, key, sign, value in list(options(lines)):
        if path.search(value):
            lines[number] = f"{key}{sign}{path.sub(new, value)}"


def rewrite(lines, arguments):
    change_vhost(lines, arguments.vhost)
    for old, new in (move.split("=", 1) for move in arguments.move):
        move_paths(lines, old, new)
    for section, key, value in arguments.set:
        put(lines, section, key, value)
    for section, key, value in arguments.add:
        add(lines, section, key, value)
    return "\n".join(lines) + "\n"


def option_value(text):
    """Quote a value as MySQL's and MariaDB's option files want it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def mysql_options(lines):
    """Turn [database] connection into an option file for mysqldump, and name the database in a comment."""
    url = urlsplit(get(lines, "database", "connection") or "")
    if not url.scheme.startswith("mysql") or not url.path.strip("/"):
        sys.exit(
            "error: [database] connection in heat.conf is no URL of the form mysql+pymysql://user:password@host/name: "
            "correct it, or take the backup by hand and mark this task as a success"
        )
    query = {key: values[-1] for key, values in parse_qs(url.query).items()}
    values = {
        "host": url.hostname,
        "port": str(url.port) if url.port else None,
        "socket": query.get("unix_socket"),
        "user": unquote(url.username or ""),
        "password": unquote(url.password or ""),
        "ssl-ca": query.get("ssl_ca"),
        "ssl-cert": query.get("ssl_cert"),
        "ssl-key": query.get("ssl_key"),
    }
    body = "\n".join(f"{key}={option_value(value)}" for key, value in values.items() if value)
    return f"# database: {unquote(url.path.strip('/'))}\n[client]\n{body}\n"


def main():
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers(dest="verb", required=True)
    getter = verbs.add_parser("get")
    getter.add_argument("section")
    getter.add_argument("key")
    getter.add_argument("default")
    verbs.add_parser("vhost")
    verbs.add_parser("facts")
    verbs.add_parser("mysql-options")
    rewriter = verbs.add_parser("rewrite")
    rewriter.add_argument("--vhost", required=True)
    rewriter.add_argument("--set", nargs=3, action="append", default=[])
    rewriter.add_argument("--add", nargs=3, action="append", default=[])
    rewriter.add_argument("--move", action="append", default=[])
    arguments = parser.parse_args()

    lines = sys.stdin.read().splitlines()
    if arguments.verb == "get":
        print(get(lines, arguments.section, arguments.key, arguments.default))
    elif arguments.verb == "vhost":
        print(unquote(transport_url(lines)["vhost"] or ""))
    elif arguments.verb == "facts":
        print("\n".join(f"{name}={value}" for name, value in facts(lines).items()))
    elif arguments.verb == "mysql-options":
        sys.stdout.write(mysql_options(lines))
    else:
        sys.stdout.write(rewrite(lines, arguments))


if __name__ == "__main__":
    main()
