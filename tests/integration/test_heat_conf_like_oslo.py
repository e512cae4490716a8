"""What heat_conf.py reads and writes, beside the oslo.config, oslo.messaging and SQLAlchemy of a real Heat."""

from __future__ import annotations

import json
import random
import re
import subprocess
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote

import pytest

from tests.scripts import load_script

FILES = 2000
SEED = 20261127
# Runs in Heat's own environment: JSON in, JSON out.
ORACLE = r"""
import io, json, sys, tempfile
from oslo_config import cfg, iniparser
from oslo_messaging import TransportURL
from sqlalchemy.engine.url import make_url

def sections(text):
    found, normalized = {}, {}
    parser = cfg.ConfigParser("heat.conf", found)
    parser._add_normalized(normalized)
    try:
        iniparser.BaseParser.parse(parser, io.StringIO(text, newline=None).readlines())
    except cfg.ParseError:
        return None
    return {name: options for name, options in normalized.items() if options}

def brokers(url):
    try:
        read = TransportURL.parse(cfg.ConfigOpts(), url)
    except Exception:
        return None
    hosts = [[host.hostname, host.port, host.username, host.password] for host in read.hosts]
    return [read.transport, hosts, read.virtual_host, read.query]

def database(url):
    try:
        read = make_url(url)
    except Exception:
        return None
    return [read.username, read.password, read.host, read.port, read.database, dict(read.query)]

def values(text):
    conf = cfg.ConfigOpts()
    for group in (None, "database"):
        conf.register_opts([cfg.StrOpt(name) for name in "abc"], group=group)
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
        file.write(text)
        file.flush()
        conf(["--config-file", file.name], default_config_dirs=[])
    found = []
    for group in (conf, conf.database):
        for name in "abc":
            try:
                found.append(getattr(group, name))
            except (Exception, RecursionError):
                found.append(None)
    return found

asked = json.load(sys.stdin)
print(json.dumps({kind: [globals()[kind](text) for text in texts] for kind, texts in asked.items()}))
"""

LINES = [
    *("[DEFAULT]", "[DEFAULT]", "[database]", "[DATABASE]", "[Default]", "[ a ]", "[a]]", "[]", "[a", "[a] # b"),
    *("", "  ", "\t", "# a = b", "; a", "  # c", "\t[b]", "    /opt/heat/25/x,", "\t'c'", "\u00a0d", "\u2028"),
    *("a = b", "a=/opt/heat/25,", "b : c = d", "a = 'b'", "a = 'b", "a = \"b'", "a = '", "a =", "=b", "a", ":"),
    *("\x0ce = f", "a\x85= b", "a = 'b'c'", "d = 'e',", "c-d = \x1fe", "c = d\x0b", "c = ' e '", "c = 1 # 2"),
    *("b = /opt/heat/250 /mnt/opt/heat/25", "B = $a"),
]
WORDS = ["heat", "p", "h", "12", "%2F", "%40", "&a=b", "[::1]", *"+=/?#[]::@@,"]


def files(chance: random.Random) -> Iterator[str]:
    """Yield files of lines that are there for a reason; most of them begin as Heat's do."""
    for _ in range(FILES):
        lines = chance.choices(LINES, k=chance.randint(0, 9))
        yield chance.choice(["\n", "\n", "\r\n", "\r"]).join(["[DEFAULT]"] * chance.randint(0, 3) + lines)


def urls(chance: random.Random, scheme: str) -> Iterator[str]:
    for number in range(FILES):
        odd = "".join(chance.choices(WORDS, k=chance.randint(0, 6)))
        yield f"{scheme}://" + (f"heat:{odd}@h:1/heat" if number % 2 else odd + chance.choice(["", "/heat", "@h/heat"]))


@pytest.fixture(scope="module")
def heat_conf() -> ModuleType:
    return load_script("heat_conf")


@pytest.fixture
def chance() -> random.Random:
    print(f"the seed is {SEED}")
    return random.Random(SEED)


def ask(venv: Path, **texts: list[str]) -> dict[str, list[Any]]:
    command = [str(venv / "bin/python"), "-W", "ignore", "-c", ORACLE]
    done = subprocess.run(command, input=json.dumps(texts), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answers: dict[str, list[Any]] = json.loads(done.stdout)
    return answers


def read(heat_conf: ModuleType, text: str) -> dict[str, dict[str, list[str]]] | None:
    """Return what the script reads in the form of oslo.config's parser, None for what it refuses."""
    found: dict[str, dict[str, list[str]]] = {}
    try:
        options = heat_conf.options(heat_conf.lines_of(text))
    except SystemExit:
        return None
    for option in options:
        found.setdefault(option.section, {}).setdefault(option.key, []).append(option.value)
    return found


def test_files_are_read_as_oslo_config_reads_them(
    heat_conf: ModuleType, heat_venv: Path, chance: random.Random
) -> None:
    texts = list(files(chance))
    read_by_oslo = ask(heat_venv, sections=texts)["sections"]
    assert 0.2 < sum(one is not None for one in read_by_oslo) / FILES < 0.8, "files of both kinds are needed"
    for text, expected in zip(texts, read_by_oslo, strict=True):
        assert read(heat_conf, text) == expected, repr(text)


UPGRADE = Namespace(
    vhost="new",
    move=["/opt/heat/25=/opt/heat/26"],
    set=[["database", "c", "' e '"], ["revision", "heat_revision", "26"]],
    add=[["DEFAULT", "b", "z"]],
)
MOVED = re.compile(r"(?<!mnt)/opt/heat/25(?!0)")


def test_only_what_the_upgrade_sets_is_read_otherwise(
    heat_conf: ModuleType, heat_venv: Path, chance: random.Random
) -> None:
    urls = "[DEFAULT]\ntransport_url = rabbit://h:1,\n  i:2/old?a=b"
    texts = [f"{text}\n{urls}" for text in files(chance) if read(heat_conf, text) is not None]
    written = [heat_conf.rewrite(heat_conf.lines_of(text), UPGRADE) for text in texts]
    answers = ask(heat_venv, sections=[*texts, *written])["sections"]
    assert len(texts) > FILES / 5
    for text, old, new in zip(texts, answers, answers[len(texts) :], strict=False):
        assert set(new["database"].pop("c")) == {"' e '"}, text
        assert [word.strip() for word in new["DEFAULT"].pop("b")[-1].split(",")].count("z") == 1, text
        assert new.pop("revision") == {"heat_revision": ["26"]}
        assert new["DEFAULT"]["transport_url"] == ["rabbit://h:1,i:2/new?a=b"]
        old["DEFAULT"] |= {"transport_url": new["DEFAULT"]["transport_url"]}
        old.get("database", {}).pop("c", None)
        old["DEFAULT"].pop("b", None)
        assert _without_empty(new) == json.loads(MOVED.sub("/opt/heat/26", json.dumps(_without_empty(old)))), text


def _without_empty(sections: dict[str, dict[str, list[str]]]) -> dict[str, dict[str, list[str]]]:
    return {name: options for name, options in sections.items() if options}


NAMES = ["$a", "$b", "${c}", "$database.a", "${database.b}", "$$", "\\$", "$", "$1", "$$$a", "a"]


def test_a_dollar_means_what_it_means_to_oslo_config(
    heat_conf: ModuleType, heat_venv: Path, chance: random.Random
) -> None:
    texts = []
    for _ in range(FILES // 50):
        options = ["-".join(chance.choices(NAMES, k=chance.randint(0, 3))) for _ in range(6)]
        pairs = [f"{key} = {value}" for key, value in zip("abcabc", options, strict=True)]
        texts.append("\n".join(["[DEFAULT]", *pairs[:3], "[database]", *pairs[3:]]))
    answers = ask(heat_venv, values=texts)["values"]
    assert 0.2 < sum(one is not None for answer in answers for one in answer) / (6 * len(texts)) < 0.9
    for text, answer in zip(texts, answers, strict=True):
        found = [value(heat_conf, text, section, key) for section in ("DEFAULT", "database") for key in "abc"]
        assert found == answer, text


def value(heat_conf: ModuleType, text: str, section: str, key: str) -> str | None:
    """Return an option's value, None where the script would refuse it."""
    lines = heat_conf.lines_of(text)
    others = heat_conf.Others(lines, section)
    try:
        found: str = heat_conf.substituted(heat_conf.raw(lines, section, key), others)
    except RecursionError:
        return None
    return None if others.unknown else found


def test_a_transport_url_is_read_as_oslo_messaging_reads_it_or_refused(
    heat_conf: ModuleType, heat_venv: Path, chance: random.Random
) -> None:
    texts = list(urls(chance, "rabbit"))
    mine = [heat_conf.broker_url(text) for text in texts]
    taken = [(text, url) for text, url in zip(texts, mine, strict=True) if url]
    written = [f"{url['scheme']}{url['brokers']}/new{url['query'] or ''}" for _, url in taken]
    answers = ask(heat_venv, brokers=[text for text, _ in taken] + written)["brokers"]
    assert len(taken) > FILES / 10
    for (text, url), before, after in zip(taken, answers, answers[len(taken) :], strict=False):
        assert before, text
        transport, hosts, vhost, query = before
        assert (vhost or "") == unquote(url["vhost"] or ""), text
        assert heat_conf.login(url) == next((user for _, _, user, _ in hosts if user), ""), text
        assert after == [transport, hosts, "new", query], text


def test_a_database_url_is_read_as_sqlalchemy_reads_it_or_refused(
    heat_conf: ModuleType, heat_venv: Path, chance: random.Random
) -> None:
    texts = list(urls(chance, "mysql+pymysql"))
    answers = ask(heat_venv, database=texts)["database"]
    mine = [heat_conf.database_url(["[database]", f"connection = {text}"]) for text in texts]
    assert sum(one is not None for one in mine) > FILES / 4
    for text, url, expected in zip(texts, mine, answers, strict=True):
        if url:
            assert expected, text
            user, password, host, port, name, query = expected
            parts = {"user": user or "", "password": password or "", "host": host, "database": name, **query}
            assert {**url, "port": int(url["port"]) if url["port"] else None} == {**parts, "port": port}, text
