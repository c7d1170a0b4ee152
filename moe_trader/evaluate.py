"""``moe-evaluate RUN``: load a saved run, evaluate it again, and say whether the tables came out the same."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import moe_trader


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
    sys.exit(0 if identical else 3)


def evaluate_run(run: Path, split: str, output: Path | None) -> bool:
    """Evaluate a run again; return whether every table equals the run's own."""
    import torch
    from omegaconf import OmegaConf

    from moe_trader.agent import MoEAgent
    from moe_trader.bundle import BundleError, read_manifest
    from moe_trader.config import run_settings, to_plain
    from moe_trader.env.features import Scaler
    from moe_trader.evaluation.console import performance_view
    from moe_trader.evaluation.evaluate import differing, evaluate, write_tables
    from moe_trader.terminal import console

    saved = run / ".hydra" / "config.yaml"
    if not saved.is_file():
        raise BundleError(f"{run}: not a run directory (no .hydra/config.yaml there); give one that moe-train made")
    settings = run_settings(to_plain(OmegaConf.load(saved)))
    manifest = read_manifest(run / "bundle")
    torch.set_num_threads(manifest["threads"])
    scaler = manifest["task"]["scaler"]
    task = settings.env.prepare(Scaler(tuple(scaler["mean"]), tuple(scaler["scale"])))
    if task.market.sha256() != manifest["task"]["market_sha256"]:
        console().print(f"[yellow]The prices of {task.market.name} are not those that the agent was trained on.[/]")
    agent = MoEAgent.load(run / "bundle", device=settings.device, plugins=settings.plugins)
    alone = run / "single_policy" / "bundle"
    single = MoEAgent.load(alone, device=settings.device, plugins=settings.plugins) if alone.is_dir() else None
    tables = evaluate(task, agent, single, settings.seed)
    console().print(performance_view(tables.experts, split))
    if output is not None:
        write_tables(tables, output)
        console().print(f"Tables written to {os.path.relpath(output)}")
    different = differing(tables, run)
    if different:
        console().print(f"Not the run's own: {', '.join(different)} of {run} differ.", soft_wrap=True)
    else:
        console().print(f"Identical to the tables of {run}, to the last bit.", soft_wrap=True)
    return not different


if __name__ == "__main__":
    main()
