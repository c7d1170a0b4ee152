"""The bundle: a saved agent as a directory of plain files, verified on loading and never unpickled.

    manifest.json          format version, algorithm, experts, spaces, task (features, what was fitted, data hash),
                           versions, seed, threads, and the sha256 of every other file
    config.yaml            the options that rebuild the agent: expert and gating
    policy.safetensors     every weight of gate and experts
    experts/NN_name.zip    each expert as a plain SB3 archive: `PPO.load` opens it without moe_trader

The zips are for others: SB3 unpickles what it loads, so this module only checks their hashes. The manifest itself is
not signed: its hashes tell damage, not a forger, and what loading reads of it is checked value by value.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gymnasium import spaces
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from yaml import YAMLError

import moe_trader
from moe_trader.expert import ExpertFamily
from moe_trader.gating import Gate
from moe_trader.option import build_option

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

FORMAT_VERSION = 2
MANIFEST, CONFIG, WEIGHTS = "manifest.json", "config.yaml", "policy.safetensors"
_SPACES = ("observation_space", "action_space", "gate_columns", "gate_rows", "expert_columns")
_NEEDED = ("experts", *_SPACES, "seed", "threads", "task")
_RECORDED = ("torch", "stable-baselines3", "gymnasium", "numpy", "pandas", "numba")


class BundleError(ValueError):
    """A bundle that cannot be trusted or read; the message names the file and the way out."""


@dataclass(frozen=True)
class Bundle:
    """What a bundle holds, verified."""

    manifest: dict[str, Any]
    expert: ExpertFamily
    gating: Gate
    tensors: dict[str, torch.Tensor]


def write(
    path: Path,
    *,
    config: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
    experts: Mapping[str, BaseAlgorithm],
    manifest: Mapping[str, Any],
) -> None:
    """Write a bundle, in place of one that is there already; it appears only once it is complete.

    :raises BundleError: when something else is at ``path``
    """
    if path.exists() and not (path / MANIFEST).is_file() and not (path.is_dir() and not any(path.iterdir())):
        raise BundleError(f"{path}: not empty and no bundle; nothing was overwritten, choose another place")
    building = path.with_name(path.name + ".partial")
    shutil.rmtree(building, ignore_errors=True)
    (building / "experts").mkdir(parents=True)
    (building / CONFIG).write_text(OmegaConf.to_yaml(OmegaConf.create(dict(config))))
    save_file({name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}, building / WEIGHTS)
    for number, (name, algorithm) in enumerate(experts.items(), start=1):
        algorithm.save(building / "experts" / f"{number:02d}_{name}.zip")
    files = {str(file.relative_to(building)): sha256(file) for file in sorted(building.rglob("*")) if file.is_file()}
    versions = {"python": platform.python_version(), "moe_trader": moe_trader.__version__}
    versions |= {name: version(name) for name in _RECORDED}
    head = {"format_version": FORMAT_VERSION, "versions": versions, "threads": torch.get_num_threads()}
    (building / MANIFEST).write_text(json.dumps({**head, **manifest, "files": files}, indent=2) + "\n")
    if path.exists():
        shutil.rmtree(path)
    building.rename(path)


def read(path: Path, plugins: Sequence[str] = ()) -> Bundle:
    """Verify and read a bundle.

    :param plugins: packages besides ``moe_trader`` whose options the bundle may build
    :raises BundleError: naming the file that is missing, altered or unreadable
    """
    manifest = read_manifest(path)
    for name, expected in manifest["files"].items():
        file = path / name
        if not file.resolve().is_relative_to(path.resolve()):
            raise BundleError(f"{path / MANIFEST}: names {name!r}, a file outside the bundle; do not trust this bundle")
        if not file.is_file():
            raise BundleError(f"{file}: missing from the bundle; copy the whole directory again")
        if sha256(file) != expected:
            raise BundleError(f"{file}: altered since it was saved (its sha256 is not the manifest's); copy it again")
    try:
        config = OmegaConf.to_container(OmegaConf.load(path / CONFIG))
        expert, gating = config["expert"], config["gating"]  # type: ignore[index, call-overload]
        tensors = load_file(path / WEIGHTS)
    except (YAMLError, OmegaConfBaseException, SafetensorError, KeyError, TypeError) as error:
        raise BundleError(f"{path}: {CONFIG} or {WEIGHTS} is not what a bundle holds ({error!r})") from None
    family = build_option(expert, "expert", ExpertFamily, plugins)
    if manifest["experts"] != family.names():
        raise BundleError(
            f"{path / MANIFEST}: experts: expected those of {CONFIG}, {', '.join(family.names())}, got "
            f"{', '.join(manifest['experts'])}; copy the bundle again"
        )
    gate = build_option(gating, "gating", Gate, plugins)
    if manifest["gate_rows"] not in (1, rows := gate.sight().rows):  # 1: an environment that is not ours
        raise BundleError(
            f"{path / MANIFEST}: gate_rows: expected the {rows} that the gating of {CONFIG} reads, got "
            f"{manifest['gate_rows']}; copy the bundle again"
        )
    return Bundle(manifest, family, gate, tensors)


def read_manifest(path: Path) -> dict[str, Any]:
    """Read and check the manifest alone."""
    file = path / MANIFEST
    if not file.is_file():
        raise BundleError(f"{path}: no bundle here (no {MANIFEST}); give the directory that a run saved, RUN/bundle")
    try:
        manifest: dict[str, Any] = json.loads(file.read_text())
        found = manifest["format_version"]
        listed = dict(manifest["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{file}: not a bundle's manifest ({error!r})") from None
    if not isinstance(manifest.get("threads", 1), int) or manifest.get("threads", 1) < 1:
        raise BundleError(f"{file}: expected a number of threads, 1 or more, got {manifest['threads']!r}")
    missing = [name for name in (CONFIG, WEIGHTS) if name not in listed]
    missing += [name for name in _NEEDED if name not in manifest]
    if found != FORMAT_VERSION:
        raise BundleError(
            f"{file}: format version {found}, and moe_trader {moe_trader.__version__} reads version {FORMAT_VERSION}; "
            f"it was saved by moe_trader {manifest.get('versions', {}).get('moe_trader', 'unknown')}"
        )
    if missing:
        raise BundleError(f"{file}: has no {' and no '.join(missing)}; the bundle is incomplete, copy it again")
    _check_values(file, manifest)
    return manifest


def _check_values(file: Path, manifest: Mapping[str, Any]) -> None:
    """Hold every value that loading reads to what it may be. :raises BundleError: naming the key."""

    def check(key: str, expected: str, good: bool) -> None:
        if not good:
            got = repr(manifest[key])
            got = got if len(got) <= 80 else f"{got[:77]}..."
            raise BundleError(f"{file}: {key}: expected {expected}, got {got}; copy the bundle again")

    for key in ("observation_space", "action_space"):
        try:
            space = space_from_json(manifest[key])
        except (KeyError, TypeError, ValueError, AttributeError, AssertionError) as error:
            check(key, f"a space as it was saved ({error!r})", good=False)
        if key == "observation_space":
            check(key, "a flat Box", isinstance(space, spaces.Box) and len(space.shape) == 1)
            (size,) = space.shape or ()
    for key in ("gate_columns", "expert_columns"):
        columns = manifest[key]
        is_columns = isinstance(columns, list) and all(type(one) is int and 0 <= one < size for one in columns)
        check(key, f"one or more numbers from 0 to {size - 1}", is_columns and len(columns) > 0)
    ascending = manifest["expert_columns"] == sorted(set(manifest["expert_columns"]))
    check("expert_columns", "numbers in ascending order", ascending)
    columns, rows, names = (manifest[key] for key in ("gate_columns", "gate_rows", "experts"))
    is_rows = type(rows) is int and rows >= 1 and len(columns) % rows == 0
    check("gate_rows", f"a number of bars that {len(columns)} gate_columns are made of, 1 or more", is_rows)
    is_names = isinstance(names, list) and len(names) > 0 and all(isinstance(one, str) for one in names)
    check("experts", "one or more names", is_names)
    check("seed", "a whole number, 0 or more", type(manifest["seed"]) is int and manifest["seed"] >= 0)
    check("task", "a mapping", isinstance(manifest["task"], dict))


def sha256(file: Path) -> str:
    """Return a file's sha256 as hexadecimal."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def space_to_json(space: spaces.Space) -> dict[str, Any]:
    """Describe a Box or Discrete space in JSON."""
    if isinstance(space, spaces.Discrete):
        return {"type": "Discrete", "n": int(space.n), "start": int(space.start)}
    assert isinstance(space, spaces.Box), space
    return {"type": "Box", "dtype": str(space.dtype), "low": space.low.tolist(), "high": space.high.tolist()}


def space_from_json(description: Mapping[str, Any]) -> spaces.Space:
    """Return the space that :func:`space_to_json` described."""
    if description["type"] == "Discrete":
        return spaces.Discrete(description["n"], start=description["start"])
    dtype = np.dtype(description["dtype"]).type
    return spaces.Box(np.array(description["low"], dtype), np.array(description["high"], dtype), dtype=dtype)
