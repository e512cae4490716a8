"""Print what running services of Heat read, as their processes show it: names of files and variables, never a value.

sources.py RELEASE/ROLE=PID ...

sources/RELEASE/ROLE      the files, in the order in which oslo.config reads them: the later one wins
defaults/RELEASE/ROLE     those that it reads first where a service names its heat.conf and nothing else
environment/RELEASE/ROLE  the variables that stand for options
What isn't known of a service is left out.
"""

import os
import pwd
import re
import shlex
import sys
from pathlib import Path

PROGRAM = re.compile(r"(.*/)?(heat-(engine|api|api-cfn|all)|(py)?uwsgi([-_]\w+)?)")
OPTION = re.compile(r"--config-(file|dir)(?:=(.*))?")
# oslo.config's environment source: OS_GROUP__OPTION.
VARIABLE = re.compile(r"OS_[A-Z0-9_]+?__[A-Z0-9_]+")
TITLE = re.compile(r"[\w.-]+: master process \[(.*)\]")


def read(path):
    return Path(path).read_bytes().decode("utf-8", "replace")


def words_of(pid):
    """Return a process's command line, also where it has given itself another title; None if it isn't Heat's."""
    text = read(f"/proc/{pid}/cmdline").rstrip("\0 ")
    title = TITLE.fullmatch(text)
    words = title[1].split() if title else text.split("\0")
    # An interpreter and its options may stand before the program.
    return words if any(PROGRAM.fullmatch(word) for word in words[:4]) else None


def options_of(words):
    """Return the words that Heat reads its options from: uWSGI hands them on."""
    if not any("uwsgi" in Path(word).name for word in words[:4]):
        return words
    found, following = [], iter(words)
    for word in following:
        name, sign, value = word.lstrip("-").partition("=")
        if name in ("pyargv", "ini", "i") and not sign:
            value = next(following, "")
        if name == "pyargv":
            found += shlex.split(value)
        elif name in ("ini", "i") or word.endswith(".ini"):
            found += shlex.split(" ".join(re.findall(r"(?m)^\s*pyargv\s*=(.*)$", read(value or word))))
    return found


def named(options):
    """Return what the options name, in order: pairs of file or dir, and its path."""
    found, kind = [], ""
    for word in options:
        option = OPTION.fullmatch(word)
        if kind:
            found.append((kind, word))
            kind = ""
        elif option and option[2] is not None:
            found.append((option[1], option[2]))
        elif option:
            kind = option[1]
    return found


def in_folder(path):
    """Return what oslo.config reads of a folder, in its order."""
    return sorted(str(file) for file in Path(path).glob("*.conf") if not file.name.startswith("."))


class Defaults:
    """What oslo.config reads by itself (find_config_files), and before it what RDO's does (/usr/share)."""

    def __init__(self, home, role):
        self.places = [f"{home}/.heat", home, "/etc/heat", "/etc"]
        self.names = ["heat", f"heat-{role}"]

    def first(self, name):
        return next(filter(os.path.exists, (f"{place}/{name}" for place in self.places)), None)

    def files(self):
        packaged = [f"/usr/share/heat/{name}-dist.conf" for name in self.names]
        return [*filter(os.path.exists, packaged), *filter(None, (self.first(f"{name}.conf") for name in self.names))]

    def dropins(self):
        folders = filter(None, (self.first(f"{name}.conf.d") for name in self.names))
        return [file for folder in folders for file in in_folder(folder)]


def files_of(pairs, defaults):
    """Return every file that is read, in order."""
    found = [] if any(kind == "file" for kind, _ in pairs) else defaults.files()
    found += [] if any(kind == "dir" for kind, _ in pairs) else defaults.dropins()
    for kind, path in pairs:
        found += in_folder(path) if kind == "dir" else [path]
    return [os.path.normpath(file) for file in found]


def tell(name, pid):
    words = words_of(pid)
    if words is None:
        return
    home = pwd.getpwuid(Path(f"/proc/{pid}").stat().st_uid).pw_dir
    defaults = Defaults(home, name.rpartition("/")[2])
    print(f"::sources/{name}={' '.join(files_of(named(options_of(words)), defaults))}")
    print(f"::defaults/{name}={' '.join(defaults.dropins())}")
    variables = (pair.partition("=")[0] for pair in read(f"/proc/{pid}/environ").split("\0"))
    print(f"::environment/{name}={' '.join(sorted(filter(VARIABLE.fullmatch, variables)))}")


for argument in sys.argv[1:]:
    service, _, process = argument.partition("=")
    try:
        tell(service, process)
    except (OSError, ValueError, KeyError):
        continue  # what can't be told is left out
