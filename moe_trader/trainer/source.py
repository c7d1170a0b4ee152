"""The bundle that a run starts from: where it is, and whether it is still the one that an earlier run started from."""

from __future__ import annotations

from pathlib import Path

from moe_trader.manifest import MANIFEST, WEIGHTS, BundleError, read_manifest
from moe_trader.option import ConfigError
from moe_trader.run_files import BUNDLE, holds_run, seed_directories

INIT_FROM = "init_from"  # key in the manifest's task


def find_bundle(source: str) -> Path:
    """Return the bundle that ``trainer.init_from`` names, an absolute path.

    :raises ConfigError: when there is none, naming what is there and the way out
    """
    place = Path(source)
    try:
        if (place / MANIFEST).is_file():
            return place.resolve()
        if (place / BUNDLE / MANIFEST).is_file():
            return (place / BUNDLE).resolve()
        seeds = [run for run in seed_directories(place).values() if (run / BUNDLE / MANIFEST).is_file()]
        is_run = holds_run(place)
        is_there = place.is_dir()
        is_sweep = (place / "multirun.yaml").is_file()
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"trainer.init_from: {source}: cannot be read ({getattr(error, 'strerror', error)})"
        ) from None
    if seeds:
        found = ", ".join(map(str, seeds))
        reason = f"a run of several seeds; choose one of them: {found}"
    elif is_run:
        reason = f"a run without a bundle, at work or interrupted; go on with it: moe-train resume {source}"
    elif is_sweep:
        reason = f"a sweep; choose one of its runs, such as {place / '0'}"
    elif is_there:
        reason = f"neither a run directory nor a bundle (no {BUNDLE}/{MANIFEST}); name a directory that moe-train made"
    else:
        reason = f"no such directory; relative paths count from {Path.cwd()}"
    raise ConfigError(f"trainer.init_from: {source}: {reason}")


def changed_source(original: Path, init_from: str | None) -> str | None:
    """Return how the source of a repeated run is not the one that the original run started from, as a sentence.

    :param original: run directory of the original run
    :param init_from: of the repeated run
    :return: ``None`` where it is the same, and where one of the two did not start from any
    :raises ConfigError: when the source is not there any more, with the path and the hash that it had
    """
    bundles = [run / BUNDLE for run in (original, *seed_directories(original).values()) if (run / BUNDLE).is_dir()]
    recorded = _recorded(bundles[0]) if bundles else None
    if init_from is None or recorded is None:
        return None
    then = f"{original} started from {recorded['path']}, weights of sha256 {recorded['sha256'][:12]}"
    try:
        source = find_bundle(init_from)
        now = read_manifest(source)["files"][WEIGHTS]
    except (ConfigError, BundleError) as error:
        raise ConfigError(f"{error}. {then}; restore them, or choose others with trainer.init_from=...") from None
    if now == recorded["sha256"]:
        return None
    return f"trainer.init_from: {source} has weights of sha256 {now[:12]}, but {then}; this is no repetition"


def _recorded(bundle: Path) -> dict[str, str] | None:
    """Return what a bundle remembers of its source; ``None`` where it remembers none, or cannot be read."""
    try:
        found = read_manifest(bundle)["task"].get(INIT_FROM)
    except BundleError:
        return None
    is_record = isinstance(found, dict) and all(isinstance(found.get(key), str) for key in ("path", "sha256"))
    return found if is_record else None
