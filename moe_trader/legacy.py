"""Names of earlier versions: one table, applied to configs, bundles and overrides, so that old runs keep their meaning.

Bundles of 0.1.0 need no other names: their tensors (``gate.*``, ``experts.K.*``) and option paths are today's.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

log = logging.getLogger(__name__)

TARGETS: dict[str, str] = {}
"""Import path of an option then -> now."""
RENAMED = {"expert.gate_rate_factor": "expert.gate_lr_scale", "trainer.parallel_seeds": "seeds"}
"""Config path then -> now, which may lie in another node. Applied by :func:`renamed` and :func:`translated`."""
RETIRED: dict[str, Any] = {"trainer.compile": False}
"""Config path of a removed setting -> the value that still means what it did."""
ADDED: dict[str, Any] = {
    "kernels": "auto",
    "env.visits": 25.0,
    "trainer.cost_multiple": 1.0,
    "trainer.validate_every": 0,
    "trainer.select": "last",
    "trainer.select_by": "sharpe",
    "trainer.patience": None,
    "trainer.init_from": None,
    "trainer.init_parts": ["experts", "gate"],
    "trainer.frozen": [],
    "trainer.checkpoint_seconds": 60,
    "trainer.resume": "never",
    "seeds_at_once": None,
}
"""Config path of a setting that is newer than a config -> the value that means what the config meant."""

_OWN = "moe_trader."  # options of this package
_warned: set[str] = set()


def current(node: Mapping[str, Any], path: str, known: Collection[str]) -> dict[str, Any]:
    """Return the settings of a config node that is built, under today's names: :func:`renamed`, removed, new.

    :param path: where the node stands in the config; empty for the root
    :param known: today's settings of the node
    :raises ValueError: for a removed setting with a value that nothing stands for, and for both names of one setting
    """
    found = renamed(node, path)
    prefix = f"{path}." if path else ""
    for key in list(found):
        if key in known or not isinstance(key, str):
            continue
        full = prefix + key
        if full in RETIRED and found.pop(key) != RETIRED[full]:
            raise ValueError(f"{full}: removed setting; expected {RETIRED[full]} or nothing, got {node[key]!r}")
    for full, value in ADDED.items():
        parent, _, key = full.rpartition(".")
        if parent == path and key in known:
            found.setdefault(key, value)
    return found


def renamed(config: Mapping[Any, Any], path: str = "") -> dict[str, Any]:
    """Return a config node with the settings in and below it under today's names; an old name is warned about once.

    Nodes of other packages keep their names.

    :param path: where the node stands in the config; empty for the root
    :raises ValueError: for both names of one setting, with different values
    """
    found = {str(key): value for key, value in config.items()}
    prefix = f"{path}." if path else ""
    for old, new in RENAMED.items():
        if not (old.startswith(prefix) and new.startswith(prefix)):
            continue
        source, old_key = _node_of(found, old.removeprefix(prefix))
        target, new_key = _node_of(found, new.removeprefix(prefix))
        if old_key not in source or not str(source.get("_target_", _OWN)).startswith(_OWN):
            continue
        value = source.pop(old_key)
        if target.setdefault(new_key, value) != value:
            raise ValueError(_differ(old, value, target[new_key]))
        _warn(old)
    return found


def _node_of(found: dict[str, Any], path: str) -> tuple[dict[str, Any], str]:
    """Return a copy of the node that holds a setting, put in its place, and the setting's key; an empty one if none."""
    *groups, key = path.split(".")
    for group in groups:
        if not isinstance(found.get(group), Mapping):
            return {}, key
        found[group] = dict(found[group])
        found = found[group]
    return found, key


def _differ(old: str, value: Any, other: Any) -> str:
    return f"{old}={value}, the old name of {RENAMED[old]}, which is {other}; remove one of them"


def completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a plain config with the settings that are newer than it: :data:`ADDED`."""
    found = {key: dict(value) if isinstance(value, Mapping) else value for key, value in config.items()}
    for full, value in ADDED.items():
        group, _, key = full.rpartition(".")
        node = found.get(group) if group else found
        if isinstance(node, dict):
            node.setdefault(key, value)
    return found


def current_target(target: Any) -> Any:
    """Return an option's import path as it is today."""
    return TARGETS.get(target, target) if isinstance(target, str) else target


def translated(overrides: Sequence[str], saved: Mapping[str, Any] | None = None) -> list[str]:
    """Return overrides under the names that the config has which they change.

    :param saved: the config of a run that is repeated; ``None``: today's
    :raises ValueError: for a removed setting with a value that nothing stands for, and for both names of one setting
        with different values
    """
    names, values = dict(RENAMED), _values(overrides)
    for old, new in RENAMED.items():
        if old in values and values.get(new, values[old]) != values[old]:
            raise ValueError(_differ(old, values[old], values[new]))
    if saved is not None:
        is_old = {old: _holds(saved, old) for old in RENAMED}
        names = {new if is_old[old] else old: old if is_old[old] else new for old, new in RENAMED.items()}
    found = []
    for word in overrides:
        path, equals, value = word.partition("=")
        bare = path.lstrip("+~")
        if bare in RETIRED and equals:
            if value.lower() != str(RETIRED[bare]).lower():
                raise ValueError(f"{bare}: removed setting; expected {RETIRED[bare]} or nothing, got {value}")
            continue
        if bare in names:
            if saved is None:
                _warn(bare)
            word = path[: len(path) - len(bare)] + names[bare] + equals + value
        found.append(word)
    return found


def _values(overrides: Sequence[str]) -> dict[str, str]:
    words = (word.partition("=") for word in overrides)
    return {path.lstrip("+"): value for path, equals, value in words if equals}


def _holds(config: Mapping[str, Any], path: str) -> bool:
    node: Any = config
    for key in path.split("."):
        if not (isinstance(node, Mapping) and key in node):
            return False
        node = node[key]
    return True


def _warn(old: str) -> None:
    if old not in _warned:
        _warned.add(old)
        log.warning("%s is called %s now; the old name still works", old, RENAMED[old])
