"""Read and rewrite a heat.conf as text, so that comments, order and odd characters survive.

heat_conf.py get SECTION KEY DEFAULT                    < heat.conf   print one value
heat_conf.py named HOSTNAME                             < heat.conf   print the vhost, and the name of its engines
heat_conf.py facts                                      < heat.conf   print what preflight asks, a line each
heat_conf.py mysql-options                              < heat.conf   print [database] connection as an option file
heat_conf.py rewrite --vhost V [--set S K V] [--add S K V] [--move OLD=NEW]  < heat.conf   print the new heat.conf
heat_conf.py diff OLD NEW                               < both files, a NUL between them   print how they differ

The file may hold passwords: it comes on standard input and goes to standard output, never to a command line. What diff
prints is for people, so every secret in it is masked.
"""

import argparse
import re
import sys
from difflib import SequenceMatcher
from urllib.parse import parse_qsl, quote, unquote

SECTION = re.compile(r"\s*\[(?P<name>[^\]]+)\]")
OPTION = re.compile(r"(?P<key>[^\s=:#;\[][^=:]*?)(?P<sign>\s*[=:]\s*)(?P<value>.*?)\s*$")
# As oslo.messaging reads it, by urlparse: a / ? # in a password ends the brokers there, and Heat finds none. An @
# behind them is such a password's end.
TRANSPORT_URL = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*://)(?P<brokers>[^/?#]*)(?:/(?P<vhost>[^?#@]*))?(?P<query>\?[^#@]*)?", re.IGNORECASE
)
# One broker's host and port, of which oslo.messaging makes a number.
PLACE = re.compile(r"\[[^\[\]]*\](:\d+)?|[^:\[\]]*(:\d+)?|[^:]*(:[^:]*){2,}")
# As SQLAlchemy reads it (sqlalchemy/engine/url.py): a password ends at the first @, whatever else is in it.
DATABASE_URL = re.compile(
    r"(?:mysql|mariadb)[\w+]*://"
    r"(?:(?P<user>[^:/]*)(?::(?P<password>[^@]*))?@)?"
    r"(?:(?:\[(?P<ipv6>[^/?]+)\]|(?P<ipv4>[^/:?@]+))?(?::(?P<port>\d*))?)?"
    r"/(?P<database>[^?@]+)(?:\?(?P<query>.*))?"
)

MASK = "***"
NAME = re.compile(r"[\w.-]+")
SECRET_NAME = re.compile(r"passw|passphrase|secret|key(?!stone)|token|credential|private", re.IGNORECASE)
# What oslo.config knows as an address of a server with a login in it.
URL_NAME = re.compile(r"(transport_url|connection)$", re.IGNORECASE)
# To the last @ of a line: a URL may name several brokers, and a password may hold anything.
USERINFO = re.compile(r"(?<=://).*@")
LOGIN = re.compile(r"^[^@]*:.*@")
NAMED_SECRET = re.compile(rf"((?:{SECRET_NAME.pattern})[^=:\s]*\s*[=:]\s*).*", re.IGNORECASE)


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
    # urlparse drops them, which is how a URL that goes on in the next line comes together.
    match = TRANSPORT_URL.fullmatch(re.sub(r"[\t\r\n]", "", url))
    places = [broker.rpartition("@")[2] for broker in match["brokers"].split(",")] if match else [":"]
    if not all(PLACE.fullmatch(place) for place in places):
        sys.exit(
            "error: transport_url in [DEFAULT] of heat.conf is no URL of the form "
            "rabbit://user:password@host:port/vhost: correct it (percent-encode / ? # in passwords), then retry"
        )
    return match


def login(url):
    """Return as whom Heat logs in at the first broker that wants to know."""
    users = [broker.rpartition("@")[0].partition(":")[0] for broker in url["brokers"].split(",")]
    return unquote(next(filter(None, users), ""))


def facts(lines):
    """Return what preflight wants to know; a password is none of it."""
    return {
        "login": login(transport_url(lines)),
        "database": "readable" if database_url(lines) else "unreadable",
        "graceful_shutdown_timeout": get(lines, "DEFAULT", "graceful_shutdown_timeout", "60"),
        "health_backends": get(lines, "healthcheck", "backends", ""),
        "health_file": get(lines, "healthcheck", "disable_by_file_path", ""),
    }


def change_vhost(lines, vhost):
    """Give transport_url another vhost and leave its brokers, passwords and TLS options to the letter."""
    url = transport_url(lines)
    place = f"{url['scheme']}{url['brokers']}/{quote(vhost, safe='')}"
    put(lines, "DEFAULT", "transport_url", place + (url["query"] or ""))


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


def masked(lines):
    """Return lines with everything masked in them that is, or may be, a secret; what can't be read is."""
    # A line that continues another one is as secret as that; none does at the beginning.
    shown, hide_rest = [], True
    for number, line in enumerate(lines):
        option = OPTION.match(line)
        if continues(line):
            shown.append(MASK if hide_rest else masked_text(line))
        elif option and NAME.fullmatch(option["key"]):
            # An address that goes on in the next line may have its login there, or a part of it.
            torn = (
                any(continues(following) for following in lines[number + 1 : number + 2]) and "://" in option["value"]
            )
            value = MASK if torn else masked_value(option["key"], option["value"])
            hide_rest = value != option["value"]
            shown.append(f"{option['key']}{option['sign']}{value}")
        elif line.lstrip()[:1] in ("#", ";"):
            shown.append(masked_comment(line))
        else:
            shown.append(line if not line.strip() or SECTION.fullmatch(line.rstrip()) else MASK)
    return shown


def continues(line):
    return line[:1].isspace() and bool(line.strip())


def masked_value(key, value):
    if SECRET_NAME.search(key) or (URL_NAME.search(key) and not re.match(r"['\"]?[\w+.-]+://", value)):
        return MASK if value else value
    return masked_text(value)


def masked_text(text):
    named = NAMED_SECRET.search(text)
    if named and "@" in text[named.end(1) :]:
        return MASK  # which of the two ends where can't be told
    without_login = (USERINFO if "://" in text else LOGIN).sub(f"{MASK}@", text)
    return NAMED_SECRET.sub(rf"\1{MASK}", without_login)


def masked_comment(line):
    """Mask an option that is commented out as if it weren't; words about a secret may hold it."""
    head = re.match(r"\s*[#;]+\s*", line)[0]
    option = OPTION.match(line[len(head) :])
    if option and NAME.fullmatch(option["key"]):
        return f"{head}{option['key']}{option['sign']}{masked_value(option['key'], option['value'])}"
    return f"{head}{MASK}" if SECRET_NAME.search(line) or "@" in line else line


def difference(old, new, old_name, new_name):
    """Return how a file differs from another one, as `diff --unified=0` writes it, but with sections and no secrets."""
    pairs = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    old_shown, new_shown, sections = masked(old), masked(new), sections_of(new)
    told = [f"--- {old_name}", f"+++ {new_name}"]
    for kind, a, b, c, d in pairs:
        if kind != "equal":
            told.append(f"@@ -{a + 1},{b - a} +{c + 1},{d - c} @@ [{sections[c]}]")
            told += [f"-{line}" for line in old_shown[a:b]] + [f"+{line}" for line in new_shown[c:d]]
    return told if len(told) > 2 else []


def sections_of(lines):
    """Return the section of every line, and of what comes after the last one."""
    section, found = "DEFAULT", []
    for line in lines:
        if header := SECTION.match(line):
            section = header["name"].strip()
        found.append(section)
    return [*found, section]


def option_value(text):
    """Quote a value as MySQL's and MariaDB's option files want it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    for character, letter in ("\n", "n"), ("\r", "r"), ("\t", "t"):
        escaped = escaped.replace(character, f"\\{letter}")
    return f'"{escaped}"'


def database_url(lines):
    """Take [database] connection apart, None if it leads to no MySQL or MariaDB."""
    url = get(lines, "database", "connection") or ""
    match = DATABASE_URL.fullmatch(url)
    if not match or not url.isprintable():
        return None
    more = get(lines, "database", "connection_parameters") or ""  # oslo.db appends them
    return {
        "host": match["ipv4"] or match["ipv6"],
        "port": match["port"],
        "user": unquote(match["user"] or ""),
        "password": unquote(match["password"] or ""),
        "database": match["database"],
        **dict(parse_qsl(f"{match['query'] or ''}&{more}")),
    }


def mysql_options(lines):
    """Turn [database] connection into an option file for mysqldump, and name the database in a comment."""
    url = database_url(lines)
    if not url:
        sys.exit(
            "error: [database] connection in heat.conf is no URL of the form mysql+pymysql://user:password@host/name: "
            "correct it (percent-encode @ in the password), or take the backup by hand and mark this task as a success"
        )
    names = {"unix_socket": "socket", "ssl_ca": "ssl-ca", "ssl_cert": "ssl-cert", "ssl_key": "ssl-key"}
    options = ["host", "port", "unix_socket", "user", "password", "ssl_ca", "ssl_cert", "ssl_key"]
    body = "\n".join(f"{names.get(key, key)}={option_value(url[key])}" for key in options if url.get(key))
    return f"# database: {url['database']}\n[client]\n{body}\n"


def parse():
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers(dest="verb", required=True)
    getter = verbs.add_parser("get")
    getter.add_argument("section")
    getter.add_argument("key")
    getter.add_argument("default")
    verbs.add_parser("named").add_argument("hostname")
    verbs.add_parser("facts")
    verbs.add_parser("mysql-options")
    rewriter = verbs.add_parser("rewrite")
    rewriter.add_argument("--vhost", required=True)
    rewriter.add_argument("--set", nargs=3, action="append", default=[])
    rewriter.add_argument("--add", nargs=3, action="append", default=[])
    rewriter.add_argument("--move", action="append", default=[])
    differ = verbs.add_parser("diff")
    differ.add_argument("old")
    differ.add_argument("new")
    return parser.parse_args()


def main():
    arguments = parse()
    if arguments.verb == "diff":
        old, _, new = sys.stdin.read().partition("\0")
        print("\n".join(difference(old.splitlines(), new.splitlines(), arguments.old, arguments.new)))
        return
    lines = sys.stdin.read().splitlines()
    if arguments.verb == "get":
        print(get(lines, arguments.section, arguments.key, arguments.default))
    elif arguments.verb == "named":
        print(unquote(transport_url(lines)["vhost"] or ""), get(lines, "DEFAULT", "host", arguments.hostname), sep="\n")
    elif arguments.verb == "facts":
        print("\n".join(f"{name}={value}" for name, value in facts(lines).items()))
    elif arguments.verb == "mysql-options":
        sys.stdout.write(mysql_options(lines))
    else:
        sys.stdout.write(rewrite(lines, arguments))


if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        # A traceback ends with words of the file, which may be a password.
        sys.exit(
            f"error: heat.conf can't be read ({type(error).__name__}): report it with the file, without its secrets"
        )
