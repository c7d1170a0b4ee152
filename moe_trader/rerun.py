"""``moe-train rerun RUN``: repeat a run from its saved config, and say whether it came out the same."""

from __future__ import annotations

import hashlib
import json
import shlex
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from moe_trader.config import load_config, to_plain
from moe_trader.legacy import translated
from moe_trader.option import ConfigError
from moe_trader.run_files import BUNDLE, COMPARED, CONFIG, MANIFEST, seed_directories, seed_directory
from moe_trader.saved_config import PLAIN, as_of_seed, check_plugins, difference, states_plugins

CHANGED = "; the prices are not those of the original run"

USAGE = """Usage: moe-train rerun RUN [--plugins PACKAGE,...] [overrides]

Repeats the run in directory RUN from its saved config, in a new run directory, and says whether weights and tables are
identical. Overrides change single values (seed=2, expert.count=3); another option of a group needs a new run.
Packages that the run lists under `plugins` are imported only if you name them with --plugins."""


def rerun_arguments(given: Sequence[str]) -> list[str]:
    """Turn the arguments after ``moe-train rerun`` into Hydra's; exits where they cannot be used."""
    return saved_run_arguments("rerun", USAGE, given, lambda run: [f"rerun_of={quoted(str(run))}"])


def saved_run_arguments(verb: str, usage: str, given: Sequence[str], own: Callable[[Path], Sequence[str]]) -> list[str]:
    """Turn the arguments after ``moe-train VERB`` into Hydra's, with the config of a saved run; exits on a mistake.

    :param given: the run, and overrides
    :param own: run directory -> overrides that the verb adds
    """
    if not given or given[0] in ("-h", "--help"):
        print(usage)
        sys.exit(0 if given else 1)
    saved = Path(given[0]).resolve() / ".hydra"
    if not (saved / "config.yaml").is_file():
        sys.exit(f"{given[0]}: not a run directory (no .hydra/config.yaml there); give one that moe-train made")
    parser = ArgumentParser(prog=f"moe-train {verb}", add_help=False, allow_abbrev=False)
    parser.add_argument("--plugins", default="")
    named, rest = parser.parse_known_args(given[1:])
    trusted = [name for name in named.plugins.split(",") if name]
    config = _checked_config(saved / "config.yaml", trusted, ["moe-train", verb, given[0]], rest)
    try:
        rest = translated(rest, config)
    except ValueError as error:
        sys.exit(f"ConfigError: {error}")
    added = list(own(saved.parent))
    if trusted:
        added.append(f"plugins=[{','.join(map(quoted, trusted))}]")
    at = next((i for i, word in enumerate(rest) if "=" in word and not word.startswith("-")), len(rest))
    # Hydra wants all overrides in one piece
    return ["--config-dir", str(saved), "--config-name", "rerun", *rest[:at], *added, *rest[at:]]


def _checked_config(
    saved: Path, trusted: Sequence[str], command: Sequence[str], rest: Sequence[str]
) -> Mapping[str, Any]:
    """Return the saved config; exit unless it holds plain values and the user named the packages that it imports."""
    try:
        config = load_config(saved)
        if not states_plugins(rest):
            check_plugins(config, trusted, saved, lambda names: shlex.join([*command, *rest, "--plugins", names]))
        plain: Mapping[str, Any] = OmegaConf.to_container(config, resolve=False)  # type: ignore[assignment]
    except ConfigError as error:
        sys.exit(f"ConfigError: {error}")
    return plain


def quoted(text: str) -> str:
    """Return text as a value of Hydra's."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def changed_config(original: Path) -> str | None:
    """Return where the saved config of a run is not the one that its bundle keeps, as a sentence; ``None`` if it is.

    Of several seeds, the first bundle is asked. A bundle of version 0.1.0 keeps no config.
    """
    runs = {None: original} if (original / BUNDLE).is_dir() else seed_directories(original)
    saved = {seed: run for seed, run in runs.items() if (run / BUNDLE).is_dir()}
    if not saved:
        return None
    seed, run = next(iter(saved.items()))
    task = _task(run)
    if PLAIN not in task:
        return None
    plain = to_plain(load_config(original / CONFIG))
    if seed is not None:
        plain = as_of_seed(plain, seed)
    try:
        found = difference(plain, task)
    except ValueError as error:
        return f"{run / BUNDLE}: {error}"
    if found is None:
        return None
    key, now, then = found
    return (
        f"{key}: the config saved in {original} says {now}, and the run was trained with {then}; this is no repetition"
    )


def rerun_report(original: Path, repeated: Path) -> str:
    """Compare the files of :data:`COMPARED` and return the result as a sentence."""
    if seeds := {**seed_directories(original), **seed_directories(repeated)}:
        return _seeds_report(original, repeated, sorted(seeds))
    found: dict[str, list[str]] = {"same": [], "different": [], "lost": [], "gone": []}
    for what, file in COMPARED.items():
        one, other = _digest(original / file), _digest(repeated / file)
        if one is None and other is None:
            continue
        found["lost" if one is None else "gone" if other is None else "same" if one == other else "different"] += [what]
    prices = {_prices(original), _prices(repeated)} - {None}
    changed = CHANGED if len(prices) > 1 else ""
    if not (found["different"] or found["lost"] or found["gone"]):
        return f"Identical to {original}, to the last bit: {', '.join(found['same'])}{changed}"
    words = {
        "different": f"Differs from {original} in: ",
        "lost": f"{original} did not finish, or is gone; it has no: ",
        "gone": "This run does not have its: ",
        "same": "Identical: ",
    }
    made_by = _version(original)
    if made_by not in (None, _version(repeated)):
        changed = f"; the original was made by moe_trader {made_by}, whose tables may have other columns{changed}"
    return "; ".join(begin + ", ".join(found[kind]) for kind, begin in words.items() if found[kind]) + changed


def _seeds_report(original: Path, repeated: Path, seeds: Iterable[int]) -> str:
    """Compare runs of several seeds, seed by seed."""
    same, lines = [], []
    for seed in seeds:
        one, other = seed_directory(original, seed), seed_directory(repeated, seed)
        found = rerun_report(one, other)
        if not (one.is_dir() and other.is_dir()):
            lines.append(f"Seed {seed} is in {'this run' if other.is_dir() else original} alone")
        elif found.startswith("Identical to") and not found.endswith(CHANGED):
            same.append(str(seed))
        else:
            lines.append(f"Seed {seed}: {found}")
    if same:
        lines.insert(0, f"Identical to {original}, to the last bit: seed{'s' * (len(same) > 1)} {', '.join(same)}")
    return "; ".join(lines)


def _prices(run: Path) -> str | None:
    """Return the hash of the prices that a run was trained on; ``None`` where it saved no bundle."""
    return _task(run).get("market_sha256")


def _version(run: Path) -> str | None:
    """Return the version of moe_trader that made a run; ``None`` where it saved no bundle."""
    return _manifest(run, "versions").get("moe_trader")


def _task(run: Path) -> dict[str, Any]:
    """Return what the bundle of a run remembers of its task; nothing where there is none that can be read."""
    return _manifest(run, "task")


def _manifest(run: Path, key: str) -> dict[str, Any]:
    try:
        found = json.loads((run / MANIFEST).read_text(encoding="utf-8"))[key]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _digest(file: Path) -> str | None:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None
