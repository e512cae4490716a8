"""Every error that the product can print, as its code has it: texts with ``<what stands there>`` for each value."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import product
from pathlib import Path
from typing import NamedTuple

from heat_upgrade import exceptions

PROJECT = Path(__file__).parents[3]
PACKAGE, REMOTE = PROJECT / "plugins" / "heat_upgrade", PROJECT / "plugins/heat_upgrade/remote/scripts"
# What the product's hook is made of; its sensor has a page of its own.
RABBITMQ = [
    PROJECT / "plugins/rabbitmq_management" / name for name in ("api.py", "connection.py", "hooks/management.py")
]

# Calls that make an error, and which of their arguments are its text: a Problem's value, expectation and next step.
MAKERS = {
    "exit": [0],
    "failed": [1],
    "warned": [1],
    "Unavailable": [0],
    "Problem": [1, 2, 3],
    "invalid": [0, 1],
    "rule": [1, 2],
    "text": [1, 2],
    "_refused": [2, 3],
}
# What a verdict of the drain lists, and functions whose result is an error's text.
LISTS = {"blockers", "errors"}
WRITERS = {"_cancel", "_missing_topics", "_refusal", "_expectation", "failure_message", "timeout_message", "way_out"}
# No errors: a task that is skipped, a method that somebody has to write, what cloud.errors puts into its own words.
NO_ERRORS = {"AirflowSkipException", "DownstreamTasksSkipped", "NotImplementedError", "PydanticCustomError"}
# What a value has to be, by pydantic's name for the error: pairs of an expectation and a next step.
EXPECTATIONS = "_TYPES"
# Caught next to where they are raised, pydantic's own to fill in, or of streams, which aren't read: nobody sees them.
UNSEEN = ("is no time span", "no date", "it is <status>", "{expected}: {todo}", "expected classic and quorum queues")
WORD = re.compile(r"[a-z]{2,}")


class Message(NamedTuple):
    """One text of an error, and where it is written."""

    place: str
    text: str

    @property
    def file(self) -> str:
        """Return the file that has it."""
        return self.place.partition(":")[0]


@cache
def messages() -> tuple[Message, ...]:
    """Return every text, each once."""
    found = {message.text: message for message in _all()}
    return tuple(message for text, message in found.items() if _tells(text))


def _tells(text: str) -> bool:
    """Tell whether a text has words of its own: what only passes on another one has none."""
    own = set(WORD.findall(bare(text))) - {"got", "expected"}
    return bool(own) and not any(unseen in text for unseen in UNSEEN)


def bare(text: str) -> str:
    """Return a text with nothing in its holes, as texts are compared."""
    return " ".join(re.sub(r"<[^<>]*>", "<>", text).split())


def _all() -> Iterator[Message]:
    for path in [*sorted(PACKAGE.rglob("*.py")), *sorted(REMOTE.rglob("*.py")), *RABBITMQ]:
        yield from _in_python(path)
    for path in sorted(file for file in REMOTE.rglob("*") if file.is_file() and file.suffix != ".py"):
        yield from _in_shell(path, path.read_text(), r'\bfail "', 'printf "error: ')


def _in_python(path: Path) -> Iterator[Message]:
    source = path.read_text()
    for line, text in Reader(ast.parse(source)).read():
        yield Message(f"{path.relative_to(PROJECT)}:{line}", text)
    # A script that goes to a host on the command line.
    yield from _in_shell(path, source, 'printf "error: ')


def _in_shell(path: Path, source: str, *begins: str) -> Iterator[Message]:
    for begin in re.finditer("|".join(begins), source):
        place = f"{path.relative_to(PROJECT)}:{source.count(chr(10), 0, begin.start()) + 1}"
        yield Message(place, _words(source[begin.end() :].replace("\\\n", "")))


# Up to the quote that ends it; a command in it may have quotes of its own.
_SHELL = re.compile(r"""\$\((?:[^()]|\([^()]*\))*\)|\$\{[^{}]*\}|\$\w+|%s|\$[?*]|\\n|[^"]""")


def _words(quoted: str) -> str:
    parts, at = [], 0
    while piece := _SHELL.match(quoted, at):
        value = re.fullmatch(r"[$%].*", piece[0], re.DOTALL)
        parts.append(f"<{'_'.join(re.findall(r'[a-zA-Z]+', piece[0])[:3])}>" if value else piece[0])
        at = piece.end()
    return "".join(parts).replace("\\n", "")


class Reader:
    """
    Reads the texts of a module's errors.

    :param tree: the module
    """

    def __init__(self, tree: ast.Module) -> None:
        self._tree = tree
        self._names = _assigned(node for node in tree.body if isinstance(node, ast.Assign))

    def read(self) -> Iterator[tuple[int, str]]:
        """Yield each text with its line."""
        yield from self._visit(self._tree, self._names, "")

    def _visit(self, node: ast.AST, names: Names, function: str) -> Iterator[tuple[int, str]]:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names, function = {**self._names, **_assigned(ast.walk(node))}, node.name
        line = getattr(node, "lineno", 0)
        said = (*self._handed_over(node, names), *self._given_back(node, names, function))
        yield from ((line, text) for text in said)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return  # a docstring
        if not _is_text(node):
            for child in ast.iter_child_nodes(node):
                yield from self._visit(child, names, function)

    def _handed_over(self, node: ast.AST, names: Names) -> Iterator[str]:
        """Yield what is said to whatever makes an error."""
        match node:
            case ast.Raise(exc=ast.Call(func=raised, args=[first, *_])) if _name(raised) not in {*NO_ERRORS, *MAKERS}:
                yield from _texts(first, names)
            case ast.Call(func=made, args=[first, *_]) if _name(made) in vars(exceptions):
                yield from _texts(first, names)
            case ast.Call(func=called, args=arguments) if places := _places(called, names):
                yield from _joined([arguments[place] for place in places if place < len(arguments)], names)
            case ast.keyword(arg=listed, value=value) if listed in LISTS:
                yield from _texts(value, names)

    def _given_back(self, node: ast.AST, names: Names, function: str) -> Iterator[str]:
        """Yield what is said for somebody else to hand over, and whatever says what was expected."""
        match node:
            case ast.Return(value=ast.expr() as value) | ast.Yield(value=ast.expr() as value) if function in WRITERS:
                yield from _joined(value.elts, names) if isinstance(value, ast.Tuple) else _texts(value, names)
            case ast.Assign(targets=[ast.Name(table)], value=ast.Dict(values=pairs)) if table == EXPECTATIONS:
                for pair in pairs:
                    yield from _joined(_inside(pair, names), names)
            case _ if _is_text(node):
                yield from (text for text in _texts(node, names) if re.search(r"\bexpected\b", text))


Names = dict[str, list[ast.expr]]


def _assigned(nodes: Iterable[ast.AST]) -> Names:
    names: Names = {}
    for node in nodes:
        match node:
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)):
                pairs = list(zip(targets, values, strict=False))
            case ast.Assign(targets=[target], value=value) | ast.AugAssign(target=target, value=value):
                pairs = [(target, value)]
            case _:
                continue
        for target, value in pairs:
            if isinstance(target, ast.Name):
                names.setdefault(target.id, []).append(value)
    return names


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _places(called: ast.expr, names: Names) -> list[int]:
    """Return which arguments of a call are an error's text; what is called may be one of two, as in a verdict."""
    either = [
        branch
        for value in names.get(_name(called), [])
        if isinstance(value, ast.IfExp)
        for branch in (value.body, value.orelse)
    ]
    return next((MAKERS[_name(one)] for one in [called, *either] if _name(one) in MAKERS), [])


def _inside(node: ast.expr, names: Names) -> list[ast.expr]:
    pair = names[node.id][0] if isinstance(node, ast.Name) else node
    return pair.elts if isinstance(pair, ast.Tuple) else [pair]


def _is_text(node: ast.AST) -> bool:
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.Add) and _is_text(node.left) and _is_text(node.right)
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _joined(nodes: Iterable[ast.expr], names: Names) -> Iterator[str]:
    said = [list(_texts(node, names)) for node in nodes]
    form = {2: "expected {}; {}", 3: "got {}, expected {}; {}"}.get(len(said), "{}" * len(said))
    yield from (form.format(*parts) for parts in product(*said))


def _texts(node: ast.expr, names: Names) -> Iterator[str]:
    """Yield what an expression may say; what can't be told from the code is a hole."""
    match node:
        case ast.Constant(value=str() as text):
            yield text.replace("<", "(").replace(">", ")")
        case ast.FormattedValue(value=value) | ast.Starred(value=value) | ast.GeneratorExp(elt=value):
            yield from _texts(value, names)
        case ast.JoinedStr(values=parts):
            yield from _in_a_row("", parts, names)
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            yield from _in_a_row("", [left, right], names)
        case ast.Call(func=ast.Attribute(attr="join"), args=[ast.List(elts=lines)]):
            yield from _in_a_row(" ", lines, names)
        case _:
            yield from _one_of(node, names)


def _in_a_row(between: str, nodes: list[ast.expr], names: Names) -> Iterator[str]:
    yield from map(between.join, product(*(list(_texts(node, names)) for node in nodes)))


def _one_of(node: ast.expr, names: Names) -> Iterator[str]:
    said = [text for inner, known in _alternatives(node, names) for text in _texts(inner, known)]
    # A variable's name says more than a hole in its value.
    yield from said if any(WORD.search(bare(text)) for text in said) else [f"<{_name(node) or '...'}>"]


def _alternatives(node: ast.expr, names: Names) -> Iterator[tuple[ast.expr, Names]]:
    """Yield what an expression may stand for, and the variables that its parts may be."""
    match node:
        case ast.IfExp(body=body, orelse=otherwise):
            yield from ((body, names), (otherwise, names))
        case ast.Tuple(elts=nodes) | ast.List(elts=nodes):
            yield from ((inner, names) for inner in nodes)
        case ast.Call(func=ast.Name("tuple"), args=[value]):
            yield value, names
        case ast.Subscript(value=ast.Name(name)) if name in names and isinstance(names[name][0], ast.Dict):
            yield from ((value, names) for value in names[name][0].values)
        case ast.Name(name):
            # Without itself: a text may be made longer under its own name.
            others = {key: values for key, values in names.items() if key != name}
            yield from ((value, others) for value in names.get(name, []))
