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
import string
import sys
from collections import namedtuple
from difflib import SequenceMatcher
from urllib.parse import parse_qsl, quote, unquote

# For what is shown only; what counts is read by options().
SECTION = re.compile(r"\[(?P<name>.+)\]\s*")
OPTION = re.compile(r"(?P<key>[^\s=:#;\[][^=:]*?)(?P<sign>\s*[=:]\s*)(?P<value>.*?)\s*$")
# As oslo.messaging reads it, by urlparse: a / ? # in a password ends the brokers there, and Heat finds none. An @
# behind them is such a password's end.
TRANSPORT_URL = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*://)(?P<brokers>[^/?#]*)(?:/(?P<vhost>[^?#@]*))?(?P<query>\?[^#@]*)?", re.IGNORECASE
)
# One broker's host and port, of which oslo.messaging makes a number. For urlparse brackets are an IPv6 address's alone.
PLACE = re.compile(r"\[[\da-fA-F:.]*:[\da-fA-F:.]*(%\w+)?\](:\d+)?|[^:\[\]]*(:\d+)?|[^:\[\]]*(:[^:\[\]]*){2,}")
# As SQLAlchemy reads it (sqlalchemy/engine/url.py): a password ends at the first @, whatever else is in it.
DATABASE_URL = re.compile(
    r"(?:mysql|mariadb)[\w+]*://"
    r"(?:(?P<user>[^:/]*)(?::(?P<password>[^@]*))?@)?"
    r"(?:(?:\[(?P<ipv6>[^/?]+)\]|(?P<ipv4>[^/:?@\[][^/:?@]*))?(?::(?P<port>\d+))?)?"
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


# Where an option begins and ends in the lines, where its value begins in the first of them, and what it says.
Option = namedtuple("Option", "first end at section key value")


def options(lines):
    """Return every option, read line by line as oslo.config does it (oslo_config/iniparser.py)."""
    found, section, goes_on = [], None, False
    for number, line in enumerate(map(str.rstrip, lines)):
        if line.startswith((" ", "\t")):
            if not goes_on:
                refuse(number, "continues no option: take the blanks at its beginning away")
            last = found[-1]
            found[-1] = last._replace(end=number + 1, value=f"{last.value}\n{line.lstrip()}")
            continue
        goes_on = bool(line) and line[0] not in "[#;"
        if line.startswith("["):
            if len(line) < 3 or not line.endswith("]"):
                refuse(number, "begins a section, expected nothing behind its ]: give a comment a line of its own")
            section = section_name(line[1:-1])
        elif goes_on:
            found.append(option(number, section, line))
    return found


def option(number, section, line):
    """Take an option's first line apart."""
    sign = re.search("[=:]", line)
    if not sign or not line[: sign.start()].strip():
        refuse(number, "is no option, expected key = value: correct it")
    if section is None:
        refuse(number, "stands before the first section: put [DEFAULT] above it")
    value = unquoted(line[sign.end() :].strip())
    return Option(number, number + 1, sign.end(), section, line[: sign.start()].strip(), value)


def refuse(number, reason):
    """Refuse a file that Heat itself can't read; the line may hold a password, so its number has to do."""
    sys.exit(f"error: line {number + 1} of heat.conf {reason}; Heat can't read it like that either, then retry")


def section_name(text):
    """Return by which name oslo.config knows a section."""
    return text if text == "DEFAULT" else text.lower()


def unquoted(value):
    """Take off the quotes that oslo.config takes off."""
    return value[1:-1] if value and value[0] == value[-1] and value[0] in "'\"" else value


def written(key, value):
    """Return the lines that oslo.config reads as this value."""
    first, *rest = value.split("\n")
    if first != first.strip() or first != unquoted(first):
        first = f'"{first}"'
    return [f"{key} = {first}", *(f"    {line}" for line in rest)]


def raw(lines, section, key):
    """Return an option's value as it stands there, None if it doesn't: the last one of a key that is there twice."""
    found = [one.value for one in options(lines) if (one.section, one.key) == (section, key)]
    return found[-1] if found else None


def get(lines, section, key, default=None):
    """Return the value that oslo.config would use; what it names with a $ and heat.conf doesn't set stays as it is."""
    value = raw(lines, section, key)
    return default if value is None else substituted(value, Others(lines, section))


class Template(string.Template):
    """A value that may name other options, as oslo.config understands it."""

    idpattern = r"[_a-z][\._a-z0-9]*"


def template(value):
    return Template(value.replace(r"\$", "$$"))


def substituted(value, others):
    return template(value).safe_substitute(others)


def names_others(value):
    """Tell whether a value names other options, which a $ alone or a doubled one doesn't."""
    text = template(value)
    return any(name["named"] or name["braced"] for name in text.pattern.finditer(text.template))


class Others:
    """The options that a value may name: of its own section, of [DEFAULT], or with their section and a dot."""

    def __init__(self, lines, section):
        self.lines, self.section, self.unknown = lines, section, []

    def __getitem__(self, name):
        group, dot, key = name.partition(".")
        for section, option_name in ((group, key) if dot else (self.section, name), ("DEFAULT", name)):
            value, others = raw(self.lines, section, option_name), Others(self.lines, section)
            text = substituted(value or "", others)
            if value is not None and not others.unknown:
                return text
        self.unknown.append(name)
        raise KeyError(name)


def put(lines, section, key, value):
    """Set an option where it stands, else at the head of its section, else in a new section at the end."""
    places = [one for one in options(lines) if (one.section, one.key) == (section, key)]
    for place in reversed(places):
        lines[place.first : place.end] = written(key, value)
    if places:
        return
    for number, line in enumerate(map(str.rstrip, lines)):
        if line.startswith("[") and section_name(line[1:-1]) == section:
            lines[number + 1 : number + 1] = written(key, value)
            return
    lines += [f"[{section}]", *written(key, value)]


def add(lines, section, key, value):
    """Add a value to an option that is a comma-separated list."""
    present = [word.strip() for word in (raw(lines, section, key) or "").split(",") if word.strip()]
    if value not in present:
        put(lines, section, key, ",".join([*present, value]))


def transport_url(lines):
    """Take transport_url apart."""
    value = raw(lines, "DEFAULT", "transport_url")
    if value is None:
        sys.exit(
            "error: no transport_url in [DEFAULT] of heat.conf, expected rabbit://...: "
            "write it there (the upgrade changes nothing but its vhost), then retry"
        )
    others = Others(lines, "DEFAULT")
    match = broker_url(substituted(value, others))
    if others.unknown:
        sys.exit(
            "error: transport_url in [DEFAULT] of heat.conf names by a $ what heat.conf doesn't set, expected the "
            "value itself: write it there (a $ of a password is written $$), then retry"
        )
    if not match:
        sys.exit(
            "error: transport_url in [DEFAULT] of heat.conf is no URL of the form "
            "rabbit://user:password@host:port/vhost: correct it (percent-encode / ? # in passwords), then retry"
        )
    return match


def broker_url(text):
    """Take a URL of brokers apart, None if oslo.messaging couldn't."""
    # urlparse drops them, which is how a URL that goes on in the next line comes together.
    match = TRANSPORT_URL.fullmatch(re.sub(r"[\t\r\n]", "", text))
    brokers = [broker.rpartition("@") for broker in match["brokers"].split(",")] if match else []
    usable = all(PLACE.fullmatch(place) and not re.search(r"[\[\]]", user) for user, _, place in brokers)
    return match if usable else None


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
    read, value = transport_url(lines), raw(lines, "DEFAULT", "transport_url")
    # An option that it names may hold the vhost, or a part of it.
    url = broker_url(read[0].replace("$", "$$") if names_others(value) else value)
    place = f"{url['scheme']}{url['brokers']}/{quote(vhost, safe='')}"
    put(lines, "DEFAULT", "transport_url", place + (url["query"] or ""))


def move_paths(lines, old, new):
    """Point values at a file's place in the new release."""
    path = re.compile(rf"(?<![\w.-]){re.escape(old)}(?=[/,\s'\"]|$)")
    for place in options(lines):
        for number in range(place.first, place.end):
            at = place.at if number == place.first else 0
            lines[number] = lines[number][:at] + path.sub(lambda _: new, lines[number][at:])


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
            shown.append(line if not line.strip() or SECTION.fullmatch(line) else MASK)
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
        if header := SECTION.fullmatch(line):
            section = header["name"]
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
    others = Others(lines, "database")
    url = substituted(raw(lines, "database", "connection") or "", others)
    match = DATABASE_URL.fullmatch(url)
    if not match or not url.isprintable() or others.unknown:
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
    names = {"host": "host", "port": "port", "unix_socket": "socket", "user": "user", "password": "password"}
    names.update(ssl_ca="ssl-ca", ssl_cert="ssl-cert", ssl_key="ssl-key")
    body = "\n".join(f"{name}={option_value(url[key])}" for key, name in names.items() if url.get(key))
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


def lines_of(text):
    """Return the lines that Python's text files have, by which Heat reads: fewer than str.splitlines() finds."""
    lines = re.split("\r\n|\r|\n", text)
    return lines if lines[-1] else lines[:-1]


def read_input():
    """Return what comes on standard input, whatever the locale is; Heat's own is UTF-8."""
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError:
        sys.exit("error: heat.conf isn't UTF-8, expected it to be: save it as UTF-8, then retry")


def main():
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    arguments = parse()
    if arguments.verb == "diff":
        old, _, new = read_input().partition("\0")
        print("\n".join(difference(lines_of(old), lines_of(new), arguments.old, arguments.new)))
        return
    lines = lines_of(read_input())
    if arguments.verb == "get":
        print(get(lines, arguments.section, arguments.key, arguments.default))
    elif arguments.verb == "named":
        print(unquote(transport_url(lines)["vhost"] or ""), get(lines, "DEFAULT", "host", arguments.hostname), sep="\n")
    elif arguments.verb == "facts":
        print("\n".join(f"{name}={' '.join(value.split())}" for name, value in facts(lines).items()))
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
