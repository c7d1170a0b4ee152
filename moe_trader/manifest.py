"""The manifest of a bundle: what loading reads of it, checked value by value.

It is not signed: its hashes show damage, not a forger, so nothing in it is believed.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from gymnasium import spaces

import moe_trader
from moe_trader.bounds import MOST_SEEDS, MOST_THREADS
from moe_trader.option import shown

FORMAT_VERSION = 2
MANIFEST, CONFIG, WEIGHTS = "manifest.json", "config.yaml", "policy.safetensors"
MAX_BYTES = 64_000_000  # the bounds of a million columns fit
_SPACES = ("observation_space", "action_space", "gate_columns", "gate_rows", "expert_columns")
_NEEDED = ("experts", *_SPACES, "seed", "threads", "task")


class BundleError(ValueError):
    """A bundle that cannot be trusted, read or written; the message names the file and the way out."""


def read_manifest(path: Path) -> dict[str, Any]:
    """Read and check the manifest of the bundle at ``path``. :raises BundleError: naming file and key."""
    file = path / MANIFEST
    try:
        if not file.is_file():
            raise BundleError(
                f"{path}: no bundle here (no {MANIFEST}); give the directory that a run saved, RUN/bundle"
            )
        with file.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise BundleError(f"{file}: larger than {MAX_BYTES:,} bytes, the limit of a manifest")
        manifest = from_json(content.decode("utf-8"))
        if not isinstance(manifest, dict):
            raise ValueError(f"expected a mapping, got {shown(manifest)}")
        found, listed = manifest["format_version"], manifest["files"]
    except BundleError:
        raise
    except OSError as error:
        raise BundleError(f"{file}: cannot be read ({error.strerror or error})") from None
    except (ValueError, KeyError) as error:
        raise BundleError(f"{file}: not a bundle's manifest ({error!r})") from None
    if type(found) is not int or found != FORMAT_VERSION:
        versions = manifest.get("versions")
        by = versions.get("moe_trader") if isinstance(versions, dict) else None
        raise BundleError(
            f"{file}: format version {shown(found)}, and moe_trader {moe_trader.__version__} reads version "
            f"{FORMAT_VERSION}; it was saved by moe_trader {'unknown' if by is None else str(by)[:40]}"
        )
    _check_listed(file, listed)
    missing = [name for name in (CONFIG, WEIGHTS) if name not in listed]
    missing += [name for name in _NEEDED if name not in manifest]
    if missing:
        raise BundleError(f"{file}: has no {' and no '.join(missing)}; the bundle is incomplete, copy it again")
    _check_values(file, manifest)
    return manifest


def from_json(text: str) -> Any:
    """Return what JSON describes. :raises ValueError: for NaN, duplicate keys, and too many levels or digits."""
    try:
        return json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_infinity)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def expert_file(place: int, name: str) -> str:
    """Return the file of an expert within the bundle. :raises BundleError: where its name cannot name a file."""
    if not re.fullmatch(r"\w[\w.-]{0,99}", name):
        raise BundleError(f"experts: expected names of letters, digits, _, - and ., got {shown(name)}")
    return f"experts/{place + 1:02d}_{name}.zip"


def space_to_json(space: spaces.Space) -> dict[str, Any]:
    """Describe a Box or Discrete space in JSON."""
    if isinstance(space, spaces.Discrete):
        return {"type": "Discrete", "n": int(space.n), "start": int(space.start)}
    assert isinstance(space, spaces.Box), space
    return {"type": "Box", "dtype": str(space.dtype), "low": space.low.tolist(), "high": space.high.tolist()}


def space_from_json(description: Any) -> spaces.Space:
    """Return the space that :func:`space_to_json` described. :raises ValueError: where it describes none."""
    if not isinstance(description, dict):
        raise ValueError("expected a mapping")
    if description.get("type") == "Discrete":
        n, start = description.get("n"), description.get("start")
        if type(n) is not int or not 0 < n < 2**31 or type(start) is not int or start != 0:
            raise ValueError("expected n, 1 or more, and start, 0")
        return spaces.Discrete(n)
    if description.get("type") != "Box":
        raise ValueError("expected type Box or Discrete")
    name = description.get("dtype")
    if not (isinstance(name, str) and re.fullmatch(r"float(16|32|64)|u?int(8|16|32|64)", name)):
        raise ValueError("expected dtype float32 or another of numbers")
    dtype = np.dtype(name)
    low: list[float]
    high: list[float]
    low, high = (description.get(key, []) for key in ("low", "high"))
    for bounds in (low, high):
        if not (isinstance(bounds, list) and bounds and all(_is_number(one, dtype) for one in bounds)):
            raise ValueError(f"expected low and high to be lists of numbers that {name} holds")
    if len(low) != len(high) or any(a > b for a, b in zip(low, high, strict=True)):
        raise ValueError("expected as many low as high, none above it")
    return spaces.Box(np.array(low, dtype), np.array(high, dtype), dtype=dtype.type)


def _is_number(value: Any, dtype: np.dtype[Any]) -> bool:
    """Whether a value of JSON is one that an array of the type holds as it is."""
    if dtype.kind == "f":
        return type(value) in (int, float) and (abs(value) <= float(np.finfo(dtype).max) or abs(value) == math.inf)
    return type(value) is int and np.iinfo(dtype).min <= value <= np.iinfo(dtype).max


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise ValueError(f"the key {shown(key)} stands twice")
        made[key] = value
    return made


def _infinity(constant: str) -> float:
    """Return an infinity, which bounds of spaces may be."""
    if constant == "NaN":
        raise ValueError("NaN is not a value of a manifest")
    return float(constant)


def _check_listed(file: Path, listed: Any) -> None:
    """Hold the list of files to names within the bundle and hashes. :raises BundleError: naming the entry."""
    if not isinstance(listed, dict):
        raise BundleError(f"{file}: not a bundle's manifest (files: expected a mapping, got {shown(listed)})")
    for name, digest in listed.items():
        parts = PurePosixPath(name).parts
        if PurePosixPath(name).is_absolute() or ".." in parts:
            raise BundleError(f"{file}: names {name!r}, a file outside the bundle; do not trust this bundle")
        if not parts or "/".join(parts) != name or not name.isprintable() or name == MANIFEST:
            raise BundleError(f"{file}: files: expected names of files in the bundle, got {shown(name)}")
        if not (isinstance(digest, str) and re.fullmatch(r"[0-9a-f]{64}", digest)):
            raise BundleError(f"{file}: files: expected a sha256 for {shown(name)}, got {shown(digest)}")


def _check_values(file: Path, manifest: dict[str, Any]) -> None:
    """Hold every value that loading reads to what it may be. :raises BundleError: naming the key."""

    def check(key: str, expected: str, good: bool) -> None:
        if not good:
            raise BundleError(f"{file}: {key}: expected {expected}, got {shown(manifest[key])}; copy the bundle again")

    made: dict[str, spaces.Space] = {}
    for key in ("observation_space", "action_space"):
        try:
            made[key] = space_from_json(manifest[key])
        except ValueError as error:
            check(key, f"a space as it was saved ({error})", good=False)
    check("observation_space", "a flat Box", isinstance(made["observation_space"], spaces.Box))
    (size,) = made["observation_space"].shape or (0,)
    action = made["action_space"]
    is_finite = not isinstance(action, spaces.Box) or bool(np.isfinite([action.low, action.high]).all())
    check("action_space", "finite bounds", is_finite)
    for key in ("gate_columns", "expert_columns"):
        columns = manifest[key]
        is_columns = isinstance(columns, list) and all(type(one) is int and 0 <= one < size for one in columns)
        check(key, f"one or more numbers from 0 to {size - 1}", is_columns and len(columns) > 0)
        check(key, "different numbers in ascending order", columns == sorted(set(columns)))
    columns, rows, names = (manifest[key] for key in ("gate_columns", "gate_rows", "experts"))
    is_rows = type(rows) is int and rows >= 1 and len(columns) % rows == 0
    check("gate_rows", f"a number of bars that {len(columns)} gate_columns are made of, 1 or more", is_rows)
    is_names = isinstance(names, list) and len(names) > 0 and all(isinstance(one, str) for one in names)
    check("experts", "one or more names", is_names)
    frozen = manifest.setdefault("frozen", [])
    is_frozen = isinstance(frozen, list) and all(one in names for one in frozen)
    check("frozen", "a list of experts", is_frozen)
    is_seed = type(manifest["seed"]) is int and 0 <= manifest["seed"] < MOST_SEEDS
    check("seed", f"a whole number, 0 or more, below {MOST_SEEDS}", is_seed)
    is_threads = type(manifest["threads"]) is int and 1 <= manifest["threads"] <= MOST_THREADS
    check("threads", f"a number of threads, 1 to {MOST_THREADS:,}", is_threads)
    check("task", "a mapping", isinstance(manifest["task"], dict))
