"""``moe-evaluate RUN``: load a saved run, evaluate it again, and say whether the tables came out the same."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import moe_trader

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
    made.add_argument("--version", action="version", version=f"moe_trader {moe_trader.__version__}")
    return made


def main(arguments: list[str] | None = None) -> None:
    """Entry point of ``moe-evaluate``; exit status 0: identical, 3: different, 1: cannot be evaluated."""
    given = parser().parse_args(arguments)
    from moe_trader.bundle import BundleError
    from moe_trader.env import MarketError
    from moe_trader.option import ConfigError

    try:
        identical = evaluate_run(Path(given.run), given.split, Path(given.output) if given.output else None)
    except (BundleError, MarketError, ConfigError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except OSError as error:  # an output directory that cannot be written, a file that vanished
        sys.exit(f"moe-evaluate: {error}")
    sys.exit(0 if identical else 3)


def evaluate_run(run: Path, split: str, output: Path | None) -> bool:
    """Evaluate a run again; return whether every table equals the run's own."""
    import torch

    from moe_trader.agent import MoEAgent
    from moe_trader.bundle import BundleError, read_manifest
    from moe_trader.config import load_config, run_settings, to_plain
    from moe_trader.evaluation.console import performance_view
    from moe_trader.evaluation.evaluate import differing, evaluate, write_tables
    from moe_trader.terminal import console, say

    saved = run / ".hydra" / "config.yaml"
    if not saved.is_file():
        raise BundleError(f"{run}: not a run directory (no .hydra/config.yaml there); give one that moe-train made")
    if seeds := sorted(path.name for path in run.glob("seed_*")):
        raise BundleError(f"{run}: holds a run of several seeds; give one of them, such as {run / seeds[0]}")
    settings = run_settings(to_plain(load_config(saved)))
    manifest = read_manifest(run / "bundle")
    torch.set_num_threads(manifest["threads"])
    features = saved_features(run / "bundle", settings.env.features, settings.plugins)
    task = dataclasses.replace(settings.env, features=features).prepare(
        saved_scaler(run / "bundle"), sight=settings.gating.sight()
    )
    agent = MoEAgent.load(run / "bundle", device=settings.device, plugins=settings.plugins)
    check_task(task.summary(), manifest["task"], run)
    if task.market.sha256() != manifest["task"]["market_sha256"]:
        say(f"Note: the prices of {task.market.name} are not those that the agent was trained on.")
    alone = run / "single_policy" / "bundle"
    single = MoEAgent.load(alone, device=settings.device, plugins=settings.plugins) if alone.is_dir() else None
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
        if not len(scaler.mean) == len(scaler.scale) == len(task["features"]):
            raise ValueError(
                f"{len(scaler.mean)} means and {len(scaler.scale)} scales for {len(task['features'])} features"
            )
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{bundle / MANIFEST}: its `task` holds no usable scaler ({error!r})") from None
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


def check_task(now: dict[str, Any], saved: dict[str, Any], run: Path) -> None:
    """Refuse a config that shows the agent something else than it was trained on.

    :raises ConfigError: naming what differs
    """
    from moe_trader.option import ConfigError

    shown = ("features", "window", "positions", "gate_features", "gate_only", "gate_labels")
    places = {what: f"env.{what}" for what in shown}
    for what, where in (places | {"gate_sight": "gating.rows and what else makes the gate's sight"}).items():
        if now[what] != saved.get(what):
            raise ConfigError(
                f"{where}: {run / '.hydra' / 'config.yaml'} says {now[what]}, and the agent was trained with "
                f"{saved.get(what, 'what its bundle does not tell')}; restore the config of the run, or train again"
            )


if __name__ == "__main__":
    main()
