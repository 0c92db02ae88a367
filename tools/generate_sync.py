"""Write the sync clients in `_sync/` from the async ones.

Every method keeps its parameters, defaults, overloads and docstring. Its body becomes one call through the portal.
`--check` writes nothing and exits with 1 if a file on disk is out of date.
"""

from __future__ import annotations

import ast
import difflib
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "moondream_async"

IMPORTS = """
import copy
from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any, cast
from .._bulk.outcomes import Outcome
from .._concurrency.closing import Closing
from .._tuning.models import Rollouts
from ..config import Secret, hidden_headers
from .fal_handle import RequestHandle
from .finetune import Finetune
from .run import run
from .streams import ChatStream, Facade, Map, SegmentStream, TextStream, iterate
"""
TYPE_IMPORTS = """
from .._bulk.map import AsyncMap
from .batches import Batches
from .portal import Portal
from .tuning import Tuning
"""
"""What the bodies below need besides the imports of the source; ruff removes what a file does not use."""


class Facade:
    """A sync class to generate.

    Args:
        name: Name of the class; that of the async one begins with `Async`.
        source: File of the async class, in the package.
        target: File to write, in `_sync/`.
        key: Name of the parameter with the API key; empty for a part of another client, such as `batches`.
        internal: Methods that only this package calls; they have no sync form.
    """

    def __init__(self, name: str, source: str, target: str, key: str = "", internal: Sequence[str] = ()) -> None:
        self.name, self.key, self.internal = name, key, internal
        self.source, self.target = PACKAGE / source, PACKAGE / "_sync" / target


FACADES = (
    Facade("Client", "_client/async_client.py", "client.py", "api_key"),
    Facade("FalClient", "_fal/async_client.py", "fal_client.py", "key"),
    Facade("Batches", "_batches/resource.py", "batches.py"),
    Facade("Tuning", "_tuning/resource.py", "tuning.py"),
    Facade("Finetune", "_tuning/finetune.py", "finetune.py"),
    Facade(
        "RequestHandle",
        "_fal/request_handle.py",
        "fal_handle.py",
        internal=("cancel_while_leaving", "completed", "fetch", "out_of_time"),
    ),
)
RENAMED = "Client|FalClient|RequestHandle|TextStream|SegmentStream|ChatStream|Map|Batches|Tuning|Finetune"
ITERATED = {
    "AsyncOutcomes": "Generator[Outcome[Any]]",
    "AsyncRollouts[C]": "Generator[tuple[C, Rollouts]]",
    "Pages[": "Generator[",
}
PART_INIT = """def __init__(self, portal: Portal, {parameter}: Async{name}) -> None:
    self._portal = portal
    self._async = {parameter}"""
SPECIAL_BODIES = {
    "tuning": ["from .tuning import Tuning", "return Tuning(self._portal, self._async.tuning)"],
    "Tuning.create": ["return Finetune(self._portal, self._portal.call(self._async.create, {arguments}))"],
    "Tuning.retrieve": ["return Finetune(self._portal, self._portal.call(self._async.retrieve, {arguments}))"],
    "Tuning.list": [
        "for finetune in iterate(self._portal, self._async.list({arguments})):",
        "    yield Finetune(self._portal, finetune)",
    ],
    "batches": ["from .batches import Batches", "return Batches(self._portal, self._async.batches)"],
    "with_options": [
        "clone = copy.copy(self)",
        "clone._async = self._async.with_options({arguments})",
        "return clone",
    ],
    # The overloads of `map`, `ask_json` and `post` have no case for the union of all arguments.
    "map": [
        "start = cast('Callable[..., AsyncMap[Any]]', self._async.map)",
        "return Map(self._portal, start(skill, items, {keywords}, **arguments))",
    ],
    "run": ["return run(self._portal, self._async, skill, items, out, {keywords}, arguments=arguments)"],
    "ask_json": [
        "ask = cast('Callable[..., Awaitable[Any]]', self._async.ask_json)",
        "return self._portal.call(ask, {arguments})",
    ],
    "post": [
        "post = cast('Callable[..., Awaitable[T | dict[str, Any]]]', self._async.post)",
        "return self._portal.call(post, {arguments})",
    ],
    "FalClient.handle": ["return RequestHandle(self._portal, self._async.handle({arguments}))"],
    "FalClient.submit": ["return RequestHandle(self._portal, self._portal.call(self._async.submit, {arguments}))"],
    "aclose": ["self._portal.close(self._async.aclose)"],
    "__repr__": [
        "inner = getattr(self, '_async', None)",
        "return repr(inner).replace(type(inner).__name__, type(self).__name__, 1) if inner else type(self).__name__",
    ],
}


def to_sync(text: str) -> str:
    """Replace the async names and keywords of a type or docstring."""
    text = re.sub(rf"(?<!\.)\bAsync({RENAMED}|Generator)\b", r"\1", text)
    for name, sync_name in ITERATED.items():
        text = text.replace(name, sync_name)
    text = re.sub(r"\basync (with|for)\b", r"\1", text)
    return text.replace("An async client", "A client").replace("await ", "")


def arguments(function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """Return the arguments of a call that passes on every parameter by its name."""
    names = [a.arg for a in function.args.args if a.arg != "self"] + [a.arg for a in function.args.kwonlyargs]
    others = [f"**{function.args.kwarg.arg}"] if function.args.kwarg else []
    return ", ".join([f"{name}={name}" for name in names] + others)


def body_of(function: ast.FunctionDef | ast.AsyncFunctionDef, facade: Facade) -> list[str]:
    """Return the statements of the sync method."""
    name, passed_on = function.name, arguments(function)
    special = SPECIAL_BODIES.get(f"{facade.name}.{name}") or SPECIAL_BODIES.get(name)
    if special:
        keywords = ", ".join(f"{a.arg}={a.arg}" for a in function.args.kwonlyargs)
        return [line.format(arguments=passed_on, keywords=keywords) for line in special]
    if name == "__init__":
        hide_key = f"{facade.key} = cast('Any', Secret({facade.key}))  # hides the key from tracebacks with locals"
        return [hide_key, f"self._async = Async{facade.name}({passed_on})", "self._open_portal()"]
    if ast.unparse(function.returns or ast.Constant(None)).startswith(("AsyncGenerator", *ITERATED)):
        return [f"return iterate(self._portal, self._async.{name}({passed_on}))"]
    if isinstance(function, ast.FunctionDef):
        return [f"return self._async.{name}" if is_property(function) else f"return self._async.{name}({passed_on})"]
    call = f"self._portal.call(self._async.{name}, {passed_on})".replace(", )", ")")
    if facade.name != "Client" or not any(a.arg == "stream" for a in function.args.args):
        return [f"return {call}"]
    result = to_sync(ast.unparse(function.returns or ast.Constant(None)))
    return [
        f"wrap: Callable[[Any], {result}] = self._wrap",
        f"return {call.replace('.call(', '.call_and_wrap(wrap, ')}",
    ]


def is_property(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Return whether it is a property."""
    return any(isinstance(d, ast.Name) and d.id == "property" for d in function.decorator_list)


def is_overload(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Return whether it is one of the typed signatures before the method itself."""
    return any(isinstance(d, ast.Name) and d.id == "overload" for d in function.decorator_list)


def method(function: ast.FunctionDef | ast.AsyncFunctionDef, facade: Facade) -> str:
    """Return the source of one sync method."""
    if function.name == "__init__" and not facade.key:
        return PART_INIT.format(name=facade.name, parameter="handle" if facade.name == "RequestHandle" else "inner")
    signature = ast.FunctionDef(
        name="close" if function.name == "aclose" else function.name,
        args=function.args,
        body=[ast.Expr(ast.Constant(...))],
        decorator_list=function.decorator_list,
        returns=function.returns,
        lineno=0,
    )
    head = to_sync(ast.unparse(ast.fix_missing_locations(signature))).removesuffix("\n    ...")
    if is_overload(function):
        return head + " ..."
    docstring = ast.get_docstring(function, clean=False)
    lines = [f'"""{to_sync(docstring)}"""'] if docstring else []
    if any(a.arg == "headers" for a in function.args.kwonlyargs):
        lines.append("headers = hidden_headers(headers)")
    if not is_property(function) and not function.name.startswith("_"):
        lines.append("__tracebackhide__ = True")
    lines += body_of(function, facade)
    return head + "\n    " + "\n    ".join(lines)


def is_private(name: str) -> bool:
    """Return whether the name is private, and so not part of the facade."""
    return name.startswith("_") and not name.startswith("__")


def imports(facade: Facade, tree: ast.Module) -> str:
    """Return the imports of the source, relative to the facade's file, and those that the bodies need."""
    names = [f"Async{facade.name}", *constant_names(tree)]
    at_run_time = [f"from {package_of(facade)}.{facade.source.stem} import {', '.join(names)}", *IMPORTS.splitlines()]
    for_types = TYPE_IMPORTS.splitlines()
    for node in tree.body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for_types += [relative_import(each, facade) for each in node.body]
        elif isinstance(node, (ast.Import, ast.ImportFrom)) and getattr(node, "module", "") != "__future__":
            at_run_time.append(relative_import(node, facade))
    own = f"from .{facade.target.stem} import"
    lines = [*at_run_time, "if TYPE_CHECKING:", *(f"    {line}" for line in for_types)]
    return "\n".join(line for line in lines if not line.strip().startswith(own))


def constant_names(tree: ast.Module) -> list[str]:
    """Return the names of the constants and type variables of a module."""
    targets = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def package_of(facade: Facade) -> str:
    """Return the package of the source, relative to the facade's file."""
    return f"..{facade.source.parent.name}"


def relative_import(node: ast.stmt, facade: Facade) -> str:
    """Return an import of the source, relative to the facade's file."""
    if isinstance(node, ast.ImportFrom) and node.level == 1:
        base = package_of(facade) + (f".{node.module}" if node.module else "")
        return f"from {base} import " + ", ".join(ast.unparse(name) for name in node.names)
    return ast.unparse(node)


def generate(facade: Facade) -> str:
    """Return the formatted source of a facade."""
    tree = ast.parse(facade.source.read_text())
    source = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == f"Async{facade.name}")
    methods = [
        method(node, facade)
        for node in source.body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and not is_private(node.name)
        and node.name not in facade.internal
    ]
    docstring = to_sync(ast.get_docstring(source, clean=False) or "")
    indented = "\n\n".join(indent_method(m) for m in methods)
    about = f"`{facade.name}`: `Async{facade.name}` for blocking code."
    text = f'"""{about} Generated by tools/generate_sync.py; do not edit."""\n\n'
    text += f"from __future__ import annotations\n\n{imports(facade, tree)}\n\n"
    decorators = "".join(f"@{ast.unparse(each)}\n" for each in source.decorator_list)
    bases = "Closing, Facade" if facade.key else "Facade"
    text += f'\n{decorators}class {facade.name}({bases}):\n    """{docstring}"""\n\n{indented}\n'
    for options in (["check", "--select", "F401,F811,I001", "--fix", "--quiet"], ["format", "--quiet"]):
        command = [sys.executable, "-m", "ruff", *options, "--stdin-filename", str(facade.target), "-"]
        text = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
    return text


def indent_method(text: str) -> str:
    """Indent a method's code, except the lines inside its docstring, which already are."""
    if '"""' not in text:
        return re.sub(r"(?m)^(?=.)", "    ", text)
    before, docstring, after = text.split('"""')
    return re.sub(r"(?m)^(?=.)", "    ", before) + '"""' + docstring + '"""' + after.replace("\n", "\n    ")


def main() -> int:
    """Write or check the files."""
    outdated = [facade for facade in FACADES if not write_or_check(facade, write="--check" not in sys.argv[1:])]
    for facade in outdated:
        print(f"{facade.target} is out of date: run `python tools/generate_sync.py`.")
    return 1 if outdated else 0


def write_or_check(facade: Facade, *, write: bool) -> bool:
    """Write a facade; or return whether its file is up to date, and print the difference."""
    generated = generate(facade)
    if write:
        facade.target.write_text(generated)
        return True
    current = facade.target.read_text() if facade.target.exists() else ""
    lines = difflib.unified_diff(current.splitlines(True), generated.splitlines(True), str(facade.target), "generated")
    sys.stdout.writelines(lines)
    return current == generated


if __name__ == "__main__":
    sys.exit(main())
