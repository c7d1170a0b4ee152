"""What a run directory holds, and where: every path of a run is written here, and nowhere else.

A run of several seeds holds a run directory for each, ``seed_N``, and what they have in common.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

CLAIM = ".claimed"
"""Locked by the process that works in the directory."""
CONFIG = ".hydra/config.yaml"
LOG = "train.log"
STATUS = "status.json"
"""Which stages are done; see :mod:`moe_trader.trainer.status`."""

# Of the mixture; a single policy has the same files below SINGLE_POLICY.
PROGRESS = "progress.csv"
VALIDATION = "validation.csv"
CHECKPOINTS = "checkpoint"
BUNDLE = "bundle"
WEIGHTS = "bundle/policy.safetensors"
MANIFEST = "bundle/manifest.json"
SINGLE_POLICY = "single_policy"

TABLES = {
    "steps": "activations/steps.parquet",
    "by_regime": "activations/by_regime.csv",
    "experts": "evaluation/experts.csv",
    "comparisons": "evaluation/comparisons.csv",
    "competence": "evaluation/competence.csv",
    "specialisation": "evaluation/specialisation.csv",
    "disagreement": "evaluation/disagreement.csv",
    "shapley": "evaluation/shapley.csv",
    "coalitions": "evaluation/coalitions.csv",
    "attribution": "evaluation/attribution.csv",
    "equity": "evaluation/equity.parquet",
}
"""Tables of the evaluation, by their attribute of :class:`moe_trader.evaluation.evaluate.Tables`."""
TITLES = {
    "steps": "activations",
    "by_regime": "activations by regime",
    "experts": "performance",
    "shapley": "Shapley values",
}
"""How messages call a table, where not by its name."""
REPORT = "report.html"
FIGURES = "figures"
SEEDS_TABLES = {"strategies": "seeds.csv", "regimes": "seeds_by_regime.csv"}
"""Of a run of several seeds."""
ENSEMBLES_TABLE = "ensembles.csv"
ENSEMBLE = "ensemble"
"""Bundle of the better of the two ensembles over the seeds of a run."""

COMPARED = {
    "weights of the mixture": WEIGHTS,
    "weights of the single policy": f"{SINGLE_POLICY}/{WEIGHTS}",
    **{TITLES.get(name, name): file for name, file in TABLES.items()},
}
"""What two runs of one config have in common to the last bit: how messages call it, and its file."""


def seed_directory(run: Path, seed: int) -> Path:
    """Return where a run of several seeds keeps one of them."""
    return run / f"seed_{seed}"


def seed_directories(run: Path) -> dict[int, Path]:
    """Return the run directories of the seeds that a run holds, by seed; empty for a run of one seed."""
    found = ((re.fullmatch(r"seed_(\d+)", path.name), path) for path in run.glob("seed_*"))
    return dict(sorted((int(match[1]), path) for match, path in found if match))


def written_folders(run: Path) -> list[Path]:
    """Return the folders below a run directory in which a run writes files and directories, itself first."""
    files = (
        CONFIG,
        *TABLES.values(),
        f"{CHECKPOINTS}/N",
        f"{SINGLE_POLICY}/{PROGRESS}",
        f"{SINGLE_POLICY}/{CHECKPOINTS}/N",
    )
    own = dict.fromkeys(str(Path(file).parent) for file in (STATUS, *files))
    return [place / folder for place in (run, *seed_directories(run).values()) for folder in own]


def holds_run(directory: Path) -> bool:
    """Whether a run began to train there, of one seed or of several."""
    begun = (STATUS, BUNDLE, PROGRESS)
    places = [directory, *seed_directories(directory).values()]
    return any((place / name).exists() for place in places for name in begun)


def is_finished(directory: Path) -> bool:
    """Whether the run in a directory noted that all its stages are done; reads nothing but its status."""
    try:
        content = json.loads((directory / STATUS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("finished") is True


def holds_sweep(directory: Path) -> bool:
    """Whether a job of a sweep began to train there."""
    return (directory / "multirun.yaml").is_file() and any(directory.rglob(PROGRESS))
