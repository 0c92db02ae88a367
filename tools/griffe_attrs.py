"""An extension of griffe: the constructors of attrs classes, from their fields, as griffe knows only dataclasses."""

from __future__ import annotations

from typing import Any

from griffe import (
    Attribute,
    Class,
    Expr,
    ExprCall,
    ExprKeyword,
    Extension,
    Function,
    Module,
    Parameter,
    ParameterKind,
    Parameters,
)

_DECORATORS = ("attrs.frozen", "attrs.define")


class AttrsExtension(Extension):
    """Adds `__init__` to the attrs classes of a package."""

    def on_package(self, *, pkg: Module, **_: Any) -> None:
        """Visit all classes of a package that was loaded."""
        self._visit(pkg)

    def _visit(self, container: Module | Class) -> None:
        for member in list(container.members.values()):
            if member.is_alias:
                continue
            if isinstance(member, Class) and _decorator(member) is not None and "__init__" not in member.members:
                _add_constructor(member)
            if isinstance(member, Class | Module):
                self._visit(member)


def _decorator(cls: Class) -> Expr | str | None:
    for decorator in cls.decorators:
        if decorator.callable_path in _DECORATORS:
            return decorator.value
    return None


def _keywords(value: Any) -> dict[str, Any]:
    arguments = value.arguments if isinstance(value, ExprCall) else []
    return {each.name: each.value for each in arguments if isinstance(each, ExprKeyword)}


def _add_constructor(cls: Class) -> None:
    fields: dict[str, Parameter] = {}
    for base in [*reversed(cls.mro()), cls]:
        decorator = _decorator(base)
        if decorator is not None:
            fields |= _fields(base, all_by_keyword=_keywords(decorator).get("kw_only") == "True")
    parameters = sorted(fields.values(), key=lambda each: each.kind is ParameterKind.keyword_only)
    self = Parameter("self", kind=ParameterKind.positional_or_keyword)
    init = Function("__init__", parameters=Parameters(self, *parameters), returns="None", lineno=cls.lineno)
    cls.set_member("__init__", init)


def _fields(cls: Class, *, all_by_keyword: bool) -> dict[str, Parameter]:
    found: dict[str, Parameter] = {}
    for name, member in cls.members.items():
        if not isinstance(member, Attribute) or member.annotation is None or "property" in member.labels:
            continue
        if str(member.annotation).startswith("ClassVar"):
            continue
        options = _keywords(member.value) if "attrs.field" in str(member.value) else {"default": member.value}
        if options.get("init") == "False":
            continue
        by_keyword = all_by_keyword or options.get("kw_only") == "True"
        kind = ParameterKind.keyword_only if by_keyword else ParameterKind.positional_or_keyword
        default = options.get("default") or ("..." if "factory" in options else None)
        found[name.lstrip("_")] = Parameter(name.lstrip("_"), annotation=member.annotation, kind=kind, default=default)
    return found
