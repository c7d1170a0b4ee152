"""``moe-train rerun RUN``: repeat a run from its saved config, and say whether it came out the same."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

COMPARED = {
    "weights of the mixture": "bundle/policy.safetensors",
    "weights of the single policy": "single_policy/bundle/policy.safetensors",
    "activations": "activations/steps.parquet",
    "activations by regime": "activations/by_regime.csv",
    "performance": "evaluation/experts.csv",
    "comparisons": "evaluation/comparisons.csv",
    "competence": "evaluation/competence.csv",
    "specialisation": "evaluation/specialisation.csv",
    "disagreement": "evaluation/disagreement.csv",
    "Shapley values": "evaluation/shapley.csv",
    "coalitions": "evaluation/coalitions.csv",
    "attribution": "evaluation/attribution.csv",
    "equity": "evaluation/equity.parquet",
}

USAGE = """Usage: moe-train rerun RUN [overrides]

Repeats the run in directory RUN from its saved config, in a new run directory, and says whether weights and tables are
identical. Overrides change single values (seed=2, expert.count=3); another option of a group needs a new run."""


def rerun_arguments(given: Sequence[str]) -> list[str]:
    """Turn the arguments after ``moe-train rerun`` into Hydra's; exits where they cannot be used."""
    if not given or given[0] in ("-h", "--help"):
        print(USAGE)
        sys.exit(0 if given else 1)
    run = Path(given[0]).resolve()
    saved = run / ".hydra"
    if not (saved / "config.yaml").is_file():
        sys.exit(f"{given[0]}: not a run directory (no .hydra/config.yaml there); give one that moe-train made")
    quoted = str(run).replace("\\", "\\\\").replace("'", "\\'")
    rest = list(given[1:])
    at = next((i for i, word in enumerate(rest) if "=" in word and not word.startswith("-")), len(rest))
    # Hydra wants all overrides in one piece
    return ["--config-dir", str(saved), "--config-name", "rerun", *rest[:at], f"rerun_of='{quoted}'", *rest[at:]]


def rerun_report(original: Path, repeated: Path) -> str:
    """Compare the files of :data:`COMPARED` and return the result as a sentence."""
    found: dict[str, list[str]] = {"same": [], "different": [], "lost": [], "gone": []}
    for what, file in _compared(original, repeated):
        one, other = _digest(original / file), _digest(repeated / file)
        if one is None and other is None:
            continue
        found["lost" if one is None else "gone" if other is None else "same" if one == other else "different"] += [what]
    prices = {_prices(original), _prices(repeated)} - {None}
    changed = "; the prices are not those of the original run" if len(prices) > 1 else ""
    if not (found["different"] or found["lost"] or found["gone"]):
        return f"Identical to {original}, to the last bit: {', '.join(found['same'])}{changed}"
    words = {
        "different": f"Differs from {original} in: ",
        "lost": f"{original} did not finish, or is gone; it has no: ",
        "gone": "This run does not have its: ",
        "same": "Identical: ",
    }
    return "; ".join(begin + ", ".join(found[kind]) for kind, begin in words.items() if found[kind]) + changed


def _compared(original: Path, repeated: Path) -> list[tuple[str, str]]:
    """Return what is compared, and its file; of runs of several seeds that of every seed."""
    seeds = {path.name for run in (original, repeated) for path in run.glob("seed_*")}
    if not seeds:
        return list(COMPARED.items())
    by_number = sorted(seeds, key=lambda name: int(name.removeprefix("seed_")))
    each = [(f"{what} of seed {name[5:]}", f"{name}/{file}") for name in by_number for what, file in COMPARED.items()]
    return [*each, ("means over seeds", "seeds.csv")]


def _prices(run: Path) -> str | None:
    """Return the hash of the prices that a run was trained on; ``None`` where it saved no bundle."""
    manifest = next(run.glob("**/bundle/manifest.json"), run)
    return json.loads(manifest.read_text())["task"].get("market_sha256") if manifest.is_file() else None


def _digest(file: Path) -> str | None:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None
