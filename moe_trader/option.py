"""Options: the frozen, validated settings objects that YAML describes.

Everything a config file can choose (a market, a feature, a gate, an expert family, ...) is a class decorated with
:func:`option`. The YAML node holds its import path under ``_target_`` beside its arguments; :func:`build` turns the
node into the object and :func:`describe` turns the object back into the node, so that whatever was built in a notebook
can be saved and rebuilt elsewhere. No default stands in Python: each stands once, with a comment, in ``conf/``.
"""

from __future__ import annotations

import dataclasses
import datetime
import difflib
import functools
import importlib
import importlib.resources
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast, dataclass_transform

from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass

import moe_trader
from moe_trader import legacy

T = TypeVar("T")

_SETTINGS = ConfigDict(arbitrary_types_allowed=True, extra="forbid", allow_inf_nan=False)
_MARK = "__moe_trader_option__"
_LONGEST_TARGET = 200  # characters
_DEEPEST = 100
_MOST_ERRORS = 20
OWN = "moe_trader"


class ConfigError(ValueError):
    """A setting that cannot be used; the message begins with its path in the config."""


@dataclass_transform(kw_only_default=True, frozen_default=True)
def option(cls: type[T]) -> type[T]:
    """Make ``cls`` a frozen keyword-only dataclass whose fields pydantic validates, one for :func:`build`."""
    made: Any = dataclass(cls, frozen=True, kw_only=True, config=_SETTINGS)
    setattr(made, _MARK, made)
    return cast("type[T]", made)


@dataclass_transform(kw_only_default=True, frozen_default=True)
def option_base(cls: type[T]) -> type[T]:
    """Make ``cls`` a class that options derive from: they have its fields, and it cannot be built itself."""
    return cast("type[T]", dataclass(cast("Any", cls), frozen=True, kw_only=True, config=_SETTINGS))


def build(node: Any, path: str, plugins: Sequence[str] = ()) -> Any:
    """Build the option that a config node describes, and every option inside it.

    :param node: plain containers (dict, list, scalars), with ``_target_`` in each dict that stands for an option
    :param path: where the node stands in the config (``"env.market"``); every error names it
    :param plugins: top-level packages besides ``moe_trader`` whose options may be built
    :raises ConfigError: unknown target, unknown or missing setting, wrong type or range
    """
    if isinstance(node, Mapping) and "_target_" in node:
        return _construct(node, path, plugins)
    if isinstance(node, Mapping):
        return {key: build(value, f"{path}.{key}", plugins) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [build(value, f"{path}[{index}]", plugins) for index, value in enumerate(node)]
    return node


def build_option(node: Any, path: str, expected: Callable[..., T], plugins: Sequence[str] = ()) -> T:
    """Like :func:`build`, for a node that must describe an ``expected``."""
    if not (isinstance(node, Mapping) and "_target_" in node):
        raise ConfigError(
            f"{path}: expected a mapping with `_target_` (a {expected.__name__}), got {shown(node)}. "
            f"A config group is chosen with `{path}=NAME` only where the group is in the defaults list."
        )
    try:
        made = build(node, path, plugins)
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply; write at most {_DEEPEST} levels") from None
    assert isinstance(expected, type)  # Callable only because mypy refuses abstract classes as type[T]
    if not isinstance(made, expected):
        raise ConfigError(f"{path}: {node['_target_']} is not a {expected.__name__}")
    return cast("T", made)


def describe(value: Any) -> Any:
    """Return the config node that :func:`build` would turn into ``value`` (the inverse of :func:`build`)."""
    if is_option(type(value)):
        fields = {field.name: describe(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"_target_": f"{type(value).__module__}.{type(value).__qualname__}", **fields}
    if isinstance(value, Mapping):
        return {key: describe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [describe(item) for item in value]
    return value.isoformat() if isinstance(value, datetime.date) else value


def is_option(cls: type) -> bool:
    """Whether ``cls`` itself (not only a parent) was made by :func:`option`."""
    return getattr(cls, _MARK, None) is cls


def unknown_key(path: str, key: Any, known: Iterable[str]) -> ConfigError:
    """Return the error for a key that nothing reads, with the nearest known ones."""
    names, key = sorted(known), str(key)[:80]
    near = difflib.get_close_matches(key, names, n=1)
    hint = f" Did you mean `{near[0]}`?" if near else ""
    return ConfigError(f"{join(path, key)}: unknown setting.{hint} Known here: {', '.join(names)}")


def shown(value: Any) -> str:
    """Return what a message says was given: its repr, cut where it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits; endless nesting
        return f"a {type(value).__name__} that is too large to print"
    return text if len(text) <= 80 else f"{text[:77]}..."


def join(path: str, key: str) -> str:
    """Join a config path and a key; the root's path is empty."""
    return f"{path}.{key}" if path else key


def _construct(node: Mapping[str, Any], path: str, plugins: Sequence[str]) -> Any:
    cls = _locate(legacy.current_target(node["_target_"]), path, plugins)
    known = {field.name: field for field in dataclasses.fields(cls)}
    given = {key: value for key, value in node.items() if key != "_target_"}
    if cls.__module__.split(".")[0] == OWN:
        try:
            given = legacy.current(given, path, known)
        except ValueError as error:
            raise ConfigError(str(error)) from None
    for key in given:
        if key not in known:
            raise unknown_key(path, key, known)
    built = {key: build(value, join(path, key), plugins) for key, value in given.items()}
    try:
        return cls(**built)
    except ValidationError as error:
        raise ConfigError(_explain(error, path)) from None
    except ValueError as error:  # a check across several settings, in __post_init__
        raise ConfigError(f"{path}: {error}" if path else str(error)) from None


def _locate(target: Any, path: str, plugins: Sequence[str]) -> type:
    """Return the option of that name. What is no name of an option of this package is refused before any import."""
    _check_plugins(plugins)
    place = join(path, "_target_")
    parts = target.split(".") if isinstance(target, str) and len(target) <= _LONGEST_TARGET else []
    if len(parts) < 2 or not all(re.fullmatch(r"[A-Za-z]\w*", part, re.ASCII) for part in parts):
        raise ConfigError(f"{place}: expected the full name of an option, PACKAGE.MODULE.CLASS, got {shown(target)}")
    package, module_name, name = parts[0], ".".join(parts[:-1]), parts[-1]
    if package not in (OWN, *plugins):
        raise ConfigError(
            f"{place}: {target!r} is outside {', '.join((OWN, *plugins))}. To build options of your own package, "
            "list it: `plugins: [your_package]`."
        )
    if package == OWN and name not in (known := options_in(module_name)):
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean `{near[0]}`?" if near else ""
        raise ConfigError(f"{place}: {target!r} is not an option (a class decorated with {OWN}'s @option){hint}")
    try:
        found = getattr(importlib.import_module(module_name), name)
    except Exception as error:  # a plugin's module may fail in any way
        hint = "" if package == OWN else "; is its package installed, or on PYTHONPATH?"
        raise ConfigError(f"{place}: cannot import {target!r} ({type(error).__name__}: {error}){hint}") from error
    if not (isinstance(found, type) and is_option(found)):
        raise ConfigError(f"{place}: {target!r} is not an option (a class decorated with {OWN}'s @option)")
    if found.__module__.split(".")[0] != package:
        raise ConfigError(f"{place}: {target!r} is {found.__module__}.{found.__qualname__}; write that name")
    return found


@functools.cache
def options_in(module_name: str) -> frozenset[str]:
    """Return the options that a module of this package defines, as its source shows: nothing is imported."""
    _, *parts = module_name.split(".")
    place = importlib.resources.files(moe_trader)
    for part in parts[:-1]:
        place = place / part
    last = parts[-1] if parts else "__init__"
    source = place / last / "__init__.py" if (place / last).is_dir() else place / f"{last}.py"
    if not source.is_file():
        return frozenset()
    return frozenset(re.findall(r"^@option\nclass (\w+)", source.read_text(encoding="utf-8"), re.MULTILINE))


def _check_plugins(plugins: Sequence[Any]) -> None:
    """Refuse what is no package of the user's own. :raises ConfigError: naming it."""
    if isinstance(plugins, str) or not isinstance(plugins, Sequence):
        hint = f"; write [{plugins!r}]" if isinstance(plugins, str) else ""
        raise ConfigError(f"plugins: expected a list of packages, got {shown(plugins)}{hint}")
    for plugin in plugins:
        if not (isinstance(plugin, str) and re.fullmatch(r"[A-Za-z]\w*", plugin, re.ASCII)):
            raise ConfigError(f"plugins: expected names of top-level packages, got {shown(plugin)}")
        if plugin == OWN or plugin in sys.stdlib_module_names:
            owner = "this package" if plugin == OWN else "a module of Python itself"
            raise ConfigError(f"plugins: {plugin!r} is {owner}; list only packages that define options of your own")


def _explain(error: ValidationError, path: str) -> str:
    lines = []
    for problem in error.errors(include_url=False):
        location = [str(part) for part in problem["loc"]]
        place = ".".join([path, *location]) if path else ".".join(location)
        if problem["type"].startswith("missing"):
            lines.append(f"{place}: missing; this setting has no default")
        elif location:
            lines.append(f"{place}: {problem['msg']}, got {shown(problem['input'])}")
            if problem["type"] in ("is_instance_of", "dict_type") and isinstance(problem["input"], str):
                lines[-1] += (
                    f"; an option of a group is chosen with a slash: {place.replace('.', '/')}={problem['input']}"
                )
        else:
            reason = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{path}: {reason}" if path else reason)
    lines = list(dict.fromkeys(lines))
    more = [f"... and {len(lines) - _MOST_ERRORS:,} more"] if len(lines) > _MOST_ERRORS else []
    return "\n".join([*lines[:_MOST_ERRORS], *more])
