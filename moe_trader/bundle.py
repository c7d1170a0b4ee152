"""The bundle: a saved agent as a directory of plain files, verified on loading and never unpickled.

    manifest.json          format version, algorithm, experts, spaces, task (features, what was fitted, data hash),
                           versions, seed, threads, and the sha256 of every other file
    config.yaml            the options that rebuild the agent: expert and gating
    policy.safetensors     every weight of gate and experts
    experts/NN_name.zip    each expert as a plain SB3 archive: `PPO.load` opens it without moe_trader

The zips are for others: SB3 unpickles what it loads, so this module only checks their hashes.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import torch
from gymnasium import spaces
from omegaconf import OmegaConf
from safetensors import SafetensorError
from safetensors.torch import load_file, save

import moe_trader
from moe_trader.durable import new_directory
from moe_trader.expert import ExpertFamily
from moe_trader.gate_input import ObservationLayout
from moe_trader.gating import Gate
from moe_trader.manifest import (
    CONFIG,
    FORMAT_VERSION,
    MANIFEST,
    WEIGHTS,
    BundleError,
    expert_file,
    from_json,
    read_manifest,
    space_from_json,
)
from moe_trader.option import ConfigError, build_option
from moe_trader.plain_yaml import load_yaml

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

__all__ = ["CONFIG", "MANIFEST", "WEIGHTS", "Bundle", "BundleError", "read", "read_manifest", "sha256", "write"]

_RECORDED = ("torch", "stable-baselines3", "gymnasium", "numpy", "pandas", "numba")


@dataclass(frozen=True)
class Bundle:
    """What a bundle holds, verified.

    :param layout: which columns of an observation gate and experts see
    :param tensors: every weight, by its name in the model's ``state_dict``
    """

    manifest: dict[str, Any]
    expert: ExpertFamily
    gating: Gate
    observation_space: spaces.Box
    action_space: spaces.Space
    layout: ObservationLayout
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

    :raises BundleError: when something else is at ``path``, or what is written could not be read again
    :raises OSError: when it cannot be written there
    """
    names = {expert_file(place, name): name for place, name in enumerate(experts)}
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise BundleError(f"{path}: not saved: {name} holds NaN or infinity")
    own = {"python": platform.python_version(), "moe_trader": moe_trader.__version__}
    versions = own | {name: version(name) for name in _RECORDED}
    head = {"format_version": FORMAT_VERSION, "versions": versions, "threads": torch.get_num_threads(), **manifest}
    try:
        from_json(json.dumps(head))
    except (TypeError, ValueError) as error:
        raise BundleError(f"{path}: not saved: a value of its {MANIFEST} cannot be written as JSON ({error})") from None
    path = _place_for(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_directory(path) as building:
        (building / "experts").mkdir()
        (building / CONFIG).write_text(OmegaConf.to_yaml(OmegaConf.create(dict(config))), encoding="utf-8")
        kept = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
        (building / WEIGHTS).write_bytes(save(kept))
        for file, name in names.items():
            archive = io.BytesIO()  # SB3 and PyTorch hide that a disk is full
            experts[name].save(archive)
            (building / file).write_bytes(archive.getvalue())
        files = {name: sha256(building / name) for name in sorted([CONFIG, WEIGHTS, *names])}
        text = json.dumps({**head, "files": files}, indent=2) + "\n"
        (building / MANIFEST).write_text(text, encoding="utf-8")


def _place_for(path: Path) -> Path:
    """Return where to write, links followed. :raises BundleError: when something else is there."""
    try:
        found = Path(os.path.realpath(path))
    except ValueError as error:  # a NUL
        raise BundleError(f"{str(path)!r}: not a path ({error})") from None
    is_empty = found.is_dir() and not any(found.iterdir())
    if not found.name or (found.exists() and not (found / MANIFEST).is_file() and not is_empty):
        raise BundleError(f"{path}: not empty and no bundle; nothing was overwritten, choose another place")
    return found


def read(path: Path, plugins: Sequence[str] = ()) -> Bundle:
    """Verify and read a bundle.

    :param plugins: packages besides ``moe_trader`` whose options the bundle may build
    :raises BundleError: naming the file, and the reason: it is missing, altered, unreadable or does not fit the others
    """
    manifest = read_manifest(path)
    try:
        _verify(path, manifest["files"])
        config = load_yaml(path / CONFIG)
        tensors = load_file(path / WEIGHTS)
    except ValueError as error:  # which names the file
        raise BundleError(str(error)) from None
    except OSError as error:
        raise BundleError(f"{error.filename or path}: cannot be read ({error.strerror or error})") from None
    except (SafetensorError, KeyError, TypeError) as error:
        raise BundleError(f"{path / WEIGHTS}: not a file of weights ({error}); copy it again") from None
    if not isinstance(config, dict) or set(config) != {"expert", "gating"}:
        raise BundleError(f"{path / CONFIG}: expected the keys expert and gating, and no other; copy it again")
    try:
        family = build_option(config["expert"], "expert", ExpertFamily, plugins)
        gate = build_option(config["gating"], "gating", Gate, plugins)
    except ConfigError as error:
        raise BundleError(f"{path / CONFIG}: {error}") from None
    observation_space = space_from_json(manifest["observation_space"])
    assert isinstance(observation_space, spaces.Box)  # as was checked
    layout = ObservationLayout(
        tuple(manifest["gate_columns"]), manifest["gate_rows"], tuple(manifest["expert_columns"])
    )
    action_space = space_from_json(manifest["action_space"])
    found = Bundle(manifest, family, gate, observation_space, action_space, layout, tensors)
    _check_config(path, found)
    _check_sizes(path, found)
    return found


def _verify(path: Path, listed: Mapping[str, str]) -> None:
    """Hold the files to the manifest's list. :raises BundleError: naming the first that does not fit."""
    for name, expected in listed.items():
        file = path / name
        if not file.is_file():
            raise BundleError(f"{file}: missing from the bundle; copy the whole directory again")
        if not file.resolve().is_relative_to(path.resolve()):
            raise BundleError(f"{path / MANIFEST}: names {name!r}, a file outside the bundle; do not trust this bundle")
        if sha256(file) != expected:
            raise BundleError(f"{file}: altered since it was saved (its sha256 is not the manifest's); copy it again")
    folders = {str(parent) for name in listed for parent in PurePosixPath(name).parents}
    for place, inner, files in os.walk(path):
        for name in (*inner, *files):
            found = Path(place, name).relative_to(path).as_posix()
            if found not in listed and found not in folders and found != MANIFEST:
                raise BundleError(f"{path / found}: not listed in {MANIFEST}; remove it")


def _check_config(path: Path, found: Bundle) -> None:
    """Hold the manifest to the config. :raises BundleError: naming the key."""
    names, rows, gate = found.expert.names(), found.layout.rows, found.gating
    if found.manifest["experts"] != names:
        raise BundleError(
            f"{path / MANIFEST}: experts: expected those of {CONFIG}, {', '.join(names)}, got "
            f"{', '.join(found.manifest['experts'])}; copy the bundle again"
        )
    for place, name in enumerate(names):
        if (file := expert_file(place, name)) not in found.manifest["files"]:
            raise BundleError(f"{path / MANIFEST}: has no {file}; the bundle is incomplete, copy it again")
    gate_input = gate.gate_input()
    is_foreign = rows == 1 and gate_input.of == "features" and not gate.compares_bars()  # an environment of one bar
    if rows != gate_input.rows and not is_foreign:
        raise BundleError(
            f"{path / MANIFEST}: gate_rows: expected the {gate_input.rows} that the gating of {CONFIG} reads, "
            f"got {rows}; copy the bundle again"
        )


def _check_sizes(path: Path, found: Bundle) -> None:
    """Compare the networks that the config describes with the tensors, before any memory is taken for them.

    :raises BundleError: naming both files
    """
    names, layout = found.expert.names(), found.layout
    described = len(names) * found.expert.parameters_each(len(layout.experts), found.action_space)
    held = sum(tensor.numel() for name, tensor in found.tensors.items() if name.startswith("experts."))
    if described != held:
        raise _misfit(path, f"{described:,} parameters of experts, and {held:,} are there")
    try:
        with torch.device("meta"):  # shapes without numbers
            gate = found.gating.network(layout.n_gate_features, len(names))
    except ConfigError as error:
        raise BundleError(f"{path / CONFIG}: {error}") from None
    except Exception:  # a plugin's gate that needs numbers to be made: compared once it is made
        return
    expected = {f"gate.{name}": tuple(tensor.shape) for name, tensor in gate.state_dict().items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in found.tensors.items() if name.startswith("gate.")}
    if shapes != expected:
        raise _misfit(path, f"a gate of {expected}, and {shapes} is there")


def load_weights(path: Path, model: torch.nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Put the weights of a bundle into its model. :raises BundleError: where names, types or numbers do not fit."""
    for name, expected in model.state_dict().items():
        found = tensors.get(name)
        if found is not None and found.dtype != expected.dtype:
            raise BundleError(f"{path / WEIGHTS}: {name}: expected {expected.dtype}, got {found.dtype}; copy it again")
        if found is not None and not bool(torch.isfinite(found).all()):
            raise BundleError(f"{path / WEIGHTS}: {name} holds NaN or infinity; use an earlier bundle of the run")
    try:
        model.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise _misfit(path, str(error)) from None


def _misfit(path: Path, reason: str) -> BundleError:
    return BundleError(
        f"{path}: the weights in {WEIGHTS} do not fit {CONFIG}, or the spaces and gate_columns, gate_rows and "
        f"expert_columns of {MANIFEST} ({reason}); copy the bundle again"
    )


def sha256(file: Path) -> str:
    """Return a file's sha256 as hexadecimal."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
