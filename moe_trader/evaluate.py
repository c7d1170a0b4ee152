"""``moe-evaluate RUN``: load a saved run, evaluate it again, and say whether the tables came out the same."""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import moe_trader
from moe_trader.exhausted import explained
from moe_trader.exit_status import FAILED, parsed
from moe_trader.interrupt import exiting, listen
from moe_trader.run_directory import check_free
from moe_trader.run_files import BUNDLE, CONFIG, SINGLE_POLICY, seed_directories

if TYPE_CHECKING:
    from moe_trader.env import Feature
    from moe_trader.env.features import Scaler


def parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    made = argparse.ArgumentParser(
        prog="moe-evaluate",
        description="Load the bundle of a run (nothing is unpickled), evaluate it on the run's own validation and test "
        "bars, print the tables, and say whether they are those of the run to the last bit.",
    )
    made.add_argument("run", help="run directory, as moe-train made it")
    made.add_argument("--split", choices=("validation", "test"), default="test", help="which table to print")
    made.add_argument("--output", help="also write the tables below this directory")
    made.add_argument("--plugins", default="", help="your own packages that the run may import, separated by commas")
    made.add_argument("--version", action="version", version=f"moe_trader {moe_trader.__version__}")
    return made


def main(arguments: list[str] | None = None) -> None:
    """Entry point of ``moe-evaluate``; exit status 0: identical, 3: different, others as of ``moe-train``."""
    typed = sys.argv[1:] if arguments is None else arguments
    given = parsed(parser(), typed)
    listen()
    with exiting():
        sys.exit(_evaluate(given, typed))


def _evaluate(given: argparse.Namespace, typed: Sequence[str]) -> int | str:
    """Return the exit status, or why nothing can be evaluated: status 1."""
    from moe_trader.bundle import BundleError
    from moe_trader.env import MarketError
    from moe_trader.option import ConfigError

    try:
        run, output = Path(given.run), Path(given.output) if given.output else None
        if output is not None:
            check_free(output, "--output")
        plugins = trusted_plugins(run, given.plugins, typed)
        identical = evaluate_run(run, given.split, output, plugins)
    except (BundleError, MarketError, ConfigError) as error:
        return f"{type(error).__name__}: {error}"
    except Exception as error:
        place, name = (run, "run") if output is None else (output, "--output")
        if line := explained(error, place, name):
            print(line, file=sys.stderr)
            return FAILED
        if isinstance(error, OSError):  # a file that vanished or cannot be read
            return f"moe-evaluate: {error}"
        raise
    return 0 if identical else 3


def saved_config(run: Path) -> Path:
    """Return the file of a run's config. :raises BundleError: where there is none."""
    from moe_trader.bundle import BundleError

    saved = run / CONFIG
    if not saved.is_file():
        raise BundleError(f"{run}: not a run directory (no .hydra/config.yaml there); give one that moe-train made")
    return saved


def trusted_plugins(run: Path, named: str, typed: Sequence[str]) -> list[str]:
    """Return the packages that the user named. :raises ConfigError: when the run imports others."""
    from moe_trader.config import load_config
    from moe_trader.saved_config import check_plugins

    trusted, saved = [name for name in named.split(",") if name], saved_config(run)
    check_plugins(
        load_config(saved), trusted, saved, lambda names: shlex.join(["moe-evaluate", *typed, "--plugins", names])
    )
    return trusted


def evaluate_run(run: Path, split: str, output: Path | None, plugins: Sequence[str] = ()) -> bool:
    """Evaluate a run again; return whether every table equals the run's own.

    :param plugins: packages besides ``moe_trader`` that may be imported, whatever the run lists
    """
    import torch

    from moe_trader.agent import MoEAgent
    from moe_trader.bundle import BundleError, read_manifest
    from moe_trader.config import load_config, run_settings, to_plain
    from moe_trader.evaluation.console import performance_view
    from moe_trader.evaluation.evaluate import differing, evaluate, write_tables
    from moe_trader.terminal import console, say

    saved = saved_config(run)
    if seeds := seed_directories(run):
        raise BundleError(f"{run}: holds a run of several seeds; give one of them, such as {min(seeds.items())[1]}")
    plain = to_plain(load_config(saved)) | {"plugins": list(plugins)}
    manifest = read_manifest(run / BUNDLE)
    keeps_config = check_config(plain, manifest["task"], run)
    settings = run_settings(plain)
    torch.set_num_threads(manifest["threads"])
    features = saved_features(run / BUNDLE, settings.env.features, plugins)
    task = dataclasses.replace(settings.env, features=features).prepare(
        saved_scaler(run / BUNDLE), gate_input=settings.gating.gate_input()
    )
    agent = MoEAgent.load(run / BUNDLE, device=settings.device, plugins=plugins)
    if not keeps_config:
        check_task(task.summary(), manifest["task"], run)
    if task.market.sha256() != manifest["task"]["market_sha256"]:
        say(f"Note: the prices of {task.market.name} are not those that the agent was trained on.")
    alone = run / SINGLE_POLICY / BUNDLE
    single = MoEAgent.load(alone, device=settings.device, plugins=plugins) if alone.is_dir() else None
    tables = evaluate(task, agent, single, settings.seed, shapley=settings.shapley)
    console().print(performance_view(tables.experts, split, console().width))
    if caveat := agent.gating.caveat():
        say(caveat)
    different = differing(tables, run)
    if output is not None:
        write_tables(tables, output)
        say(f"Tables written to {os.path.relpath(output)}")
    if different:
        say(f"Not the run's own tables: {', '.join(different)}.")
    else:
        say(f"Identical to the tables of {run}, to the last bit.")
    return not different


def saved_scaler(bundle: Path) -> Scaler:
    """Return the scaler that the agent saw the market through. :raises BundleError: where the manifest has none."""
    from moe_trader.bundle import MANIFEST, BundleError, read_manifest
    from moe_trader.env.features import Scaler

    try:
        task = read_manifest(bundle)["task"]
        scaler = Scaler(tuple(map(float, task["scaler"]["mean"])), tuple(map(float, task["scaler"]["scale"])))
        for name, mean, scale in zip(task["features"], scaler.mean, scaler.scale, strict=False):
            if not (math.isfinite(mean) and math.isfinite(scale) and scale > 0):
                raise ValueError(f"{name}: expected a finite mean and a finite scale above 0, got {mean} and {scale}")
        if not len(scaler.mean) == len(scaler.scale) == len(task["features"]):
            raise ValueError(
                f"{len(scaler.mean)} means and {len(scaler.scale)} scales for {len(task['features'])} features"
            )
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{bundle / MANIFEST}: its `task` holds no usable scaler ({error})") from None
    return scaler


def saved_features(bundle: Path, features: Mapping[str, Feature], plugins: Sequence[str] = ()) -> dict[str, Feature]:
    """Return the features of the config, those with something to fit as they were fitted for the agent.

    :raises BundleError: where the manifest does not have them
    :raises ConfigError: where the config sets them otherwise than for the agent
    """
    from moe_trader.bundle import MANIFEST, BundleError, read_manifest
    from moe_trader.env import Feature
    from moe_trader.env.features import learned
    from moe_trader.option import ConfigError, build_option, describe

    kept = read_manifest(bundle)["task"].get("fitted", {})
    found = dict(features)
    for name, asked in learned(features).items():
        try:
            found[name] = build_option(kept[name], f"task.fitted.{name}", Feature, plugins)
        except (KeyError, TypeError, ConfigError) as error:
            raise BundleError(f"{bundle / MANIFEST}: its `task` holds no usable fitted {name} ({error!r})") from None
        for key, value in describe(asked).items():
            if value is not None and value != kept[name].get(key):  # null: what is fitted
                raise ConfigError(
                    f"env.features.{name}.{key}: the config of the run says {value}, and the agent was trained with "
                    f"{kept[name].get(key)}; restore the config of the run, or train again"
                )
    return found


def check_config(plain: Mapping[str, Any], task: Mapping[str, Any], run: Path) -> bool:
    """Refuse a config that is not the one of the bundle.

    :return: whether the bundle keeps a config; one of version 0.1.0 does not
    :raises ConfigError: naming the first setting that differs
    :raises BundleError: where the kept config is damaged
    """
    from moe_trader.bundle import MANIFEST, BundleError
    from moe_trader.option import ConfigError
    from moe_trader.saved_config import PLAIN, SHA256, difference

    if PLAIN not in task and SHA256 not in task:
        return False
    try:
        found = difference(plain, task)
    except ValueError as error:
        raise BundleError(f"{run / 'bundle' / MANIFEST}: {error}") from None
    if found:
        key, now, kept = found
        raise ConfigError(
            f"{key}: {run / '.hydra' / 'config.yaml'} says {now}, and the agent was trained with {kept}; restore the "
            "config of the run, or train again"
        )
    return True


def check_task(now: dict[str, Any], saved: dict[str, Any], run: Path) -> None:
    """Refuse a config that shows the agent something else than it was trained on, where its bundle keeps no config.

    :raises ConfigError: naming what differs
    """
    from moe_trader.option import ConfigError

    shown = ("features", "window", "positions", "gate_features", "gate_only", "gate_labels")
    places = {what: f"env.{what}" for what in shown}
    for what, where in (places | {"gate_sight": "gating.rows and what else makes the gate's input"}).items():
        if now[what] != saved.get(what):
            raise ConfigError(
                f"{where}: {run / '.hydra' / 'config.yaml'} says {now[what]}, and the agent was trained with "
                f"{saved.get(what, 'what its bundle does not tell')}; restore the config of the run, or train again"
            )


if __name__ == "__main__":
    main()
