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
RENAMED = {"expert.gate_rate_factor": "expert.gate_lr_scale"}
"""Config path then -> now."""
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
}
"""Config path of a setting that is newer than a config -> the value that means what the config meant."""

_warned: set[str] = set()


def current(node: Mapping[str, Any], path: str, known: Collection[str]) -> dict[str, Any]:
    """Return the settings of a config node under today's names; an old name is warned about once.

    :param path: where the node stands in the config; empty for the root
    :param known: today's settings of the node
    :raises ValueError: for a removed setting with a value that nothing stands for, and for both names of one setting
    """
    found = dict(node)
    prefix = f"{path}." if path else ""
    for key in node:
        if key in known or not isinstance(key, str):
            continue
        full = prefix + key
        if full in RETIRED:
            if found.pop(key) != RETIRED[full]:
                raise ValueError(f"{full}: removed setting; expected {RETIRED[full]} or nothing, got {node[key]!r}")
        elif full in RENAMED:
            new = RENAMED[full].rpartition(".")[2]
            if new in node:
                raise ValueError(f"{full}: the old name of {RENAMED[full]}, which is set too; remove one of them")
            found[new] = found.pop(key)
            _warn(full)
    for full, value in ADDED.items():
        parent, _, key = full.rpartition(".")
        if parent == path and key in known:
            found.setdefault(key, value)
    return found


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
    :raises ValueError: for a removed setting with a value that nothing stands for
    """
    names = dict(RENAMED)
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
