"""The config that a run saved: what it may import, and whether it is the one that the run's bundle keeps."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from moe_trader.config import load_config
from moe_trader.durable import write_file
from moe_trader.legacy import completed, renamed
from moe_trader.option import ConfigError, join

# These change no result: which run is repeated, which packages may be imported, the device, where files are, when
# checkpoints are written, and how many seeds train at once. Prices have a hash of their own.
NOT_COMPARED = (
    *("rerun_of", "plugins", "device", "env.market.path", "env.market.cache", "env.market.refresh"),
    *("trainer.checkpoint_seconds", "trainer.resume", "seeds_at_once"),
)
PLAIN, SHA256 = "run_config", "run_config_sha256"  # keys in the manifest's task
_NOTHING = object()


def save_as_of_seed(saved: Path, target: Path, seed: int) -> None:
    """Write the config in ``saved`` to ``target`` as that of a run of this seed alone, where Hydra saved any.

    It stays unresolved, as Hydra saves it: a resolved one would freeze what refers to the time or the run directory.
    """
    if not (saved / "config.yaml").is_file():  # a run that did not come from the command line
        return
    config = OmegaConf.to_container(load_config(saved / "config.yaml"), resolve=False)
    assert isinstance(config, dict)
    target.mkdir(parents=True, exist_ok=True)
    write_file(target / "config.yaml", OmegaConf.to_yaml(as_of_seed(renamed(config), seed)))


def as_of_seed(plain: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Return the config of a run, under today's names, as that of a run of this seed alone."""
    return {**plain, "seed": seed, "seeds": 1}


def check_plugins(config: DictConfig, trusted: Sequence[str], path: Path, way_out: Callable[[str], str]) -> None:
    """Refuse to import packages because a saved config lists them.

    :param trusted: packages that the user named
    :param way_out: how the user names them; it gets their names, joined by commas
    :raises ConfigError: naming those that the user did not name
    """
    plugins = OmegaConf.to_container(config, resolve=False).get("plugins") or []  # type: ignore[union-attr]
    if not (isinstance(plugins, list) and all(isinstance(one, str) and one.isidentifier() for one in plugins)):
        raise ConfigError(f"{path}: plugins: expected a list of top-level packages, got {_shown(plugins)}")
    if not set(plugins) <= set(trusted):
        raise ConfigError(
            f"{path}: plugins: this run imports {', '.join(plugins)}, which can run any code. If you trust this code: "
            + way_out(",".join(plugins))
        )


def check_folder(folder: str | None, name: str, overrides: Sequence[str]) -> None:
    """Check what Hydra would read of a run's ``.hydra``, where it is given as a folder of configs.

    :param name: of the primary config
    :raises ConfigError: as :func:`load_config` and, unless an override states ``plugins``, :func:`check_plugins`
    """
    named = Path(os.path.abspath((folder or "").removeprefix("file://")))
    place = named.resolve()
    if ".hydra" not in (named.name, place.name):
        return
    for file in {place / "config.yaml", place / f"{name.removesuffix('.yaml')}.yaml"}:
        if file.is_file():
            config = load_config(file)
            if not states_plugins(overrides):
                check_plugins(config, (), file, lambda names: f"add the override 'plugins=[{names}]'")


def states_plugins(overrides: Sequence[str]) -> bool:
    """Whether an override says which packages may be imported."""
    return any(word.lstrip("+").startswith("plugins=") for word in overrides)


def difference_of_runs(plain: Mapping[str, Any], saved: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """Return where a plain config is not the one that a run was started with, which may be older.

    :return: the key, its value here, and its value in the run; ``None`` for the same config
    """
    return _difference(_compared(completed(plain)), _compared(completed(saved)), "")


def record(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a bundle's task keeps of the plain config of its run: the config and its sha256."""
    kept = _compared(plain)
    return {PLAIN: kept, SHA256: _sha256(kept)}


def difference(plain: Mapping[str, Any], task: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """Return where a plain config is not the one that a bundle's task keeps.

    :return: the key, its value here, and its value in the bundle; ``None`` for the same config
    :raises ValueError: when the task keeps no config, or not the one of its own sha256
    """
    kept = task.get(PLAIN)
    if not isinstance(kept, dict) or _sha256(kept) != task.get(SHA256):
        raise ValueError(f"its `task` holds no {PLAIN} of the sha256 that it states; copy the bundle again")
    return _difference(_compared(plain), renamed(kept), "")


def _compared(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return a plain config as JSON gives it back, without :data:`NOT_COMPARED`."""
    kept: dict[str, Any] = json.loads(json.dumps(plain, default=str))
    for setting in NOT_COMPARED:
        *groups, key = setting.split(".")
        node: Any = kept
        for group in groups:
            node = node.get(group) if isinstance(node, dict) else None
        if isinstance(node, dict):
            node.pop(key, None)
    return kept


def _sha256(kept: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(kept, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _difference(now: Any, kept: Any, path: str) -> tuple[str, str, str] | None:
    if isinstance(now, dict) and isinstance(kept, dict):
        for key in dict.fromkeys([*now, *kept]):
            if found := _difference(now.get(key, _NOTHING), kept.get(key, _NOTHING), join(path, key)):
                return found
        return None
    same = now == kept or str(now) == str(kept)  # the second: NaN
    return None if same else (path, _shown(now), _shown(kept))


def _shown(value: Any) -> str:
    text = "nothing" if value is _NOTHING else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
