"""Did a change of the code change what a run computes? Fingerprints of weights and tables, to compare across commits.

    python benchmarks/fingerprint.py --json before.json      # on one commit
    python benchmarks/fingerprint.py --against before.json   # on another, on the same machine: what differs, by name

A fingerprint of weights is the sha256 over name, dtype, shape and bytes of every tensor of the bundle, sorted by name;
that of a table is the sha256 of its file. Results are bit-identical only on one machine with one number of threads.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import sys
import tempfile
from pathlib import Path

import torch
from safetensors import safe_open

from moe_trader.config import compose, config_directory, run_settings
from moe_trader.run_files import TABLES
from moe_trader.train import run_seed

STEPS = "trainer.total_timesteps=20_000"
GATES = sorted(path.stem for path in (Path(config_directory()) / "gating").glob("*.yaml"))
CASES = {
    "default": [],
    "synthetic": ["env=synthetic"],
    "continuous": ["env/positions=continuous", STEPS],
    **{gate: [f"gating={gate}", "env=synthetic", STEPS] for gate in GATES},
}


def weights_of(file: Path) -> str:
    """Return the fingerprint of a bundle's tensors."""
    digest = hashlib.sha256()
    with safe_open(file, "pt") as tensors:
        for name in sorted(tensors.keys()):
            tensor = tensors.get_tensor(name)
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def fingerprint(overrides: list[str]) -> dict[str, str]:
    """Carry out a run and return what identifies it: part -> sha256."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        settings = run_settings(compose(overrides))
        torch.set_num_threads(settings.threads)
        run_seed(settings, settings.env.prepare(gate_input=settings.gating.gate_input()), directory)
        found = {"weights": weights_of(directory / "bundle" / "policy.safetensors")}
        found["single policy"] = weights_of(directory / "single_policy" / "bundle" / "policy.safetensors")
        return found | {
            name: hashlib.sha256((directory / file).read_bytes()).hexdigest() for name, file in TABLES.items()
        }


def main() -> None:
    """Make the fingerprints, write or compare them; exit status 1 where one differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), help="cases")
    parser.add_argument("--json", type=Path, help="write the fingerprints to this file")
    parser.add_argument("--against", type=Path, help="compare with the fingerprints in this file")
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    before = json.loads(given.against.read_text()) if given.against else {}
    found, differing = {}, 0
    for case in given.only:
        found[case] = fingerprint(CASES[case])
        parts = [part for part, digest in found[case].items() if before.get(case, {}).get(part, digest) != digest]
        differing += len(parts)
        compared = f"differs in {', '.join(parts)}" if parts else "identical" if case in before else ""
        print(f"{case:12} {found[case]['weights'][:16]} {compared}", flush=True)
        if given.json:
            given.json.write_text(json.dumps(found, indent=2) + "\n")
    sys.exit(1 if differing else 0)


if __name__ == "__main__":
    main()
