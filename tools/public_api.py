"""List the public names and signatures of the package, one per line: `python tools/public_api.py [SOURCE]`.

SOURCE is a checkout; default: this one. Files without an underscore are public, with the names in their `__all__`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import griffe

PACKAGE = "moondream_async"
HERE = Path(__file__).parent.parent


def lines(source: Path, modules: list[str]) -> Iterator[str]:
    """Yield the lines for a checkout.

    Args:
        source: The checkout.
        modules: Names of the public modules in the package, which is public itself.
    """
    package = griffe.load(PACKAGE, search_paths=[source], resolve_aliases=True, try_relative_path=False)
    yield from _member_lines(PACKAGE, package)
    for name in modules:
        yield from _member_lines(f"{PACKAGE}.{name}", package[name])


def _member_lines(path: str, module: griffe.Object | griffe.Alias) -> Iterator[str]:
    exports = module.exports
    for name in sorted(module.members):
        if (name in exports) if exports else not name.startswith("_") and not module.members[name].is_alias:
            yield from _describe(f"{path}.{name}", module.members[name])


def _describe(path: str, member: griffe.Object | griffe.Alias) -> Iterator[str]:
    if member.is_alias:
        member = member.final_target  # type: ignore[union-attr]
    if member.is_module:
        return
    if member.is_function:
        yield f"{path}({_signature(member)})"
    elif member.is_class:
        yield f"{path}({_signature(member)})"
        for name, each in sorted(member.all_members.items()):
            if not name.startswith("_") and not each.is_class:
                yield from _describe(f"{path}.{name}", each)
    else:
        yield path


def _signature(member: griffe.Object | griffe.Alias) -> str:
    parameters = [each for each in getattr(member, "parameters", None) or [] if each.name not in ("self", "cls")]
    texts: list[str] = []
    for each in parameters:
        if each.kind is griffe.ParameterKind.keyword_only and not any(name.startswith("*") for name in texts):
            texts.append("*")
        texts.append(_parameter_text(each))
    return ", ".join(texts)


def _parameter_text(parameter: griffe.Parameter) -> str:
    if parameter.kind is griffe.ParameterKind.var_positional:
        return f"*{parameter.name}"
    if parameter.kind is griffe.ParameterKind.var_keyword:
        return f"**{parameter.name}"
    return parameter.name if parameter.default is None else f"{parameter.name}={parameter.default}"


MODULES = [
    "bulk",
    "config",
    "distributed",
    "errors",
    "fal",
    "hooks",
    "mcp",
    "models",
    "otel",
    "prices",
    "proxy",
    "sandbox",
    "types",
    "video",
    "vision",
    "web",
]

if __name__ == "__main__":
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    sys.stdout.write("".join(f"{line}\n" for line in lines(source, MODULES)))
