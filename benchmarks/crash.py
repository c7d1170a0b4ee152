"""Does a run that is killed end as if it had not been? Kills (-9) at random moments, and at every call of a checkpoint.

    python benchmarks/crash.py --json crash.jsonl            # 50 kills, and one at each call of a checkpoint's write
    python benchmarks/crash.py --json crash.jsonl            # again: goes on with what is missing, prints the table

Each killed run is resumed with ``moe-train resume`` (some resumptions are killed too) until it is finished, and then
compared with a run that was never killed: the sha256 of each file of ``moe_trader.run_files.COMPARED``, and the rows of
``progress.csv`` but for ``time/fps`` and ``time/time_elapsed``. Runs are forked from a process that has the package and
its kernels in memory, so that moments are moments of the run, not of Python's imports.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from moe_trader.config import compose, run_settings
from moe_trader.run_files import COMPARED, PROGRESS, SEEDS_TABLES, SINGLE_POLICY, is_finished, seed_directories
from moe_trader.train import main as moe_train
from moe_trader.train import run_seed

RUN = [
    "env=synthetic",
    "env.market.bars=700",
    "env.market.series={train: 2, validation: 1, test: 2}",
    "expert.count=2",
    "expert.net_arch=[16]",
    "expert.n_steps=32",
    "expert.batch_size=64",
    "expert.n_epochs=2",
    "trainer.n_envs=4",
    "shapley=false",
]
STEPS = 12_800
SHORT = 1_024  # of the runs killed at a call: eight updates, a checkpoint after each
CHECKPOINTS = 10  # that a run is to write at least
CASES = {
    "softmax": ["gating=softmax"],
    "sticky": ["gating=sticky"],
    "top_k": ["gating=top_k"],
    "softmax continuous": ["gating=softmax", "env/positions=continuous"],
    "sticky continuous": ["gating=sticky", "env/positions=continuous"],
    "top_k continuous": ["gating=top_k", "env/positions=continuous"],
    "softmax two seeds": ["gating=softmax", "seeds=2"],
    "top_k continuous two seeds": ["gating=top_k", "env/positions=continuous", "seeds=2"],
    "softmax extended": ["gating=softmax"],
}
WRITES = {
    "checkpoint": ("moe_trader.trainer.checkpoint", "Checkpoints.write"),
    "bundle": ("moe_trader.bundle", "write"),
    "tables": ("moe_trader.trainer.run", "write_tables"),
    "report": ("moe_trader.trainer.run", "write_report"),
    "status": ("moe_trader.trainer.status", "Status._write"),
}
"""What is written, and the function that writes it."""
NOT_COMPARED = ("time/fps", "time/time_elapsed")
DISK = ("posix", "_io", "io", "nt")  # modules whose functions are the system's calls


def warm(directory: Path, kinds: Sequence[str] = ("discrete", "continuous")) -> None:
    """Import all that runs need, and load their kernels, before the first fork.

    :param kinds: of positions
    """
    for positions in kinds:
        settings = run_settings(compose([*RUN, f"env/positions={positions}", "trainer.total_timesteps=128"]))
        run = directory / positions
        run.mkdir(parents=True)
        run_seed(settings, settings.env.prepare(gate_input=settings.gating.gate_input()), run)
    shutil.rmtree(directory)


def forked(arguments: list[str], log: Path, prepare: Callable[[], None] = lambda: None) -> int:
    """Start ``moe-train`` in a process of its own; return its number. Its output is added to ``log``."""
    number = os.fork()
    if number:
        return number
    status = 99
    try:
        os.setpgid(0, 0)
        for stream in (1, 2):
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
        prepare()
        moe_train(arguments)
        status = 0
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else 1
        if isinstance(left.code, str):
            print(left.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status or 0)


def ended(number: int, after: float | None = None) -> int:
    """Wait until a process ends, or kill its group after some seconds; return its exit status (-9: killed)."""
    until = None if after is None else time.monotonic() + after
    while until is not None and time.monotonic() < until:
        found, status = os.waitpid(number, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    if until is not None:
        os.killpg(number, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


class KillingHook:
    """Counts the calls into the system within the n-th call of a function, and kills the process before one of them.

    :param function: its module and its name
    :param nth: which of the function's calls, from 1 on
    :param at: which call into the system, from 1 on; where there are fewer, the process is killed after the last one.
        ``None``: only count, into ``counts``
    :param counts: a file that gets the count, a line for each call of the function
    """

    def __init__(self, function: tuple[str, str], nth: int, at: int | None, counts: Path | None = None) -> None:
        self.function, self.nth, self.at, self.counts = function, nth, at, counts
        self._calls = self._seen = 0

    def install(self) -> None:
        """Wrap the function in this process."""
        module, name = self.function
        *parents, last = name.split(".")
        place: Any = importlib.import_module(module)
        for parent in parents:
            place = getattr(place, parent)
        function = getattr(place, last)

        def wrapped(*arguments: Any, **named: Any) -> Any:
            self._calls += 1
            if self.at is not None and self._calls != self.nth:
                return function(*arguments, **named)
            self._seen = 0
            sys.setprofile(self._profile)
            try:
                return function(*arguments, **named)
            finally:
                sys.setprofile(None)
                if self.counts is not None:
                    with self.counts.open("a") as file:
                        file.write(f"{self._seen}\n")
                if self.at is not None and self.at > self._seen:  # after the last call
                    os.kill(os.getpid(), signal.SIGKILL)

        setattr(place, last, wrapped)

    def _profile(self, _: Any, event: str, function: Any) -> None:
        if event != "c_call":
            return
        owner = getattr(function, "__self__", None)
        module = getattr(function, "__module__", None) or type(owner).__module__
        if module in DISK and function.__name__ not in ("fspath", "text_encoding", "fsencode", "fsdecode"):
            self._seen += 1
            if self._seen == self.at:
                os.kill(os.getpid(), signal.SIGKILL)


def results(run: Path) -> dict[str, Any]:
    """Return all that two runs must have in common: sha256 by file, and rows by csv file."""
    found: dict[str, Any] = {}
    for place in seed_directories(run).values() or [run]:
        name = "" if place == run else f"{place.name} "
        for title, file in COMPARED.items():
            found[name + title] = _sha256(place / file)
        for file in (PROGRESS, f"{SINGLE_POLICY}/{PROGRESS}"):
            found[name + file] = _rows(place / file)
    if seed_directories(run):
        found |= {file: _sha256(run / file) for file in SEEDS_TABLES.values()}
    return found


def _sha256(file: Path) -> str | None:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None


def _rows(file: Path) -> str | None:
    if not file.is_file():
        return None
    with file.open(newline="") as opened:
        rows = [{key: row[key] for key in sorted(row) if key not in NOT_COMPARED} for row in csv.DictReader(opened)]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


class Bench:
    """The runs of the benchmark, in a directory; every result is a line of a file.

    :param kills: at random moments
    :param only: ``random``, ``calls`` or ``None`` for both
    """

    def __init__(self, directory: Path, file: Path, kills: int, only: str | None) -> None:
        self.directory, self.file, self.kills, self.only = directory, file, kills, only
        self.known: dict[str, dict[str, Any]] = {}
        if file.is_file():
            lines = [json.loads(line) for line in file.read_text().splitlines()]
            self.known = {line["name"]: line for line in lines}

    def note(self, **line: Any) -> dict[str, Any]:
        """Keep a result."""
        with self.file.open("a") as file:
            file.write(json.dumps(line) + "\n")
        self.known[line["name"]] = line
        return line

    def run(self) -> None:
        """Make what is missing."""
        if self.only != "random":
            self._kill_at_calls()
        if self.only != "calls":
            for number in range(self.kills):
                self._kill_at_random(number)

    # --- runs that are not killed -------------------------------------------------------------------------------------

    def arguments(self, case: str, steps: int, seconds: float, run: Path) -> list[str]:
        """Return the arguments of ``moe-train`` for a run."""
        own = [f"trainer.total_timesteps={steps}", f"trainer.checkpoint_seconds={seconds}", f"hydra.run.dir='{run}'"]
        return [*RUN, *CASES[case], *own]

    def reference(self, case: str) -> dict[str, Any]:
        """Return what a run that is not killed leaves, how long it takes, and its steps."""
        name = f"reference: {case}"
        steps = STEPS
        while name not in self.known:
            run, log = self._new("reference")
            began = time.monotonic()
            _expect(ended(forked(self.arguments(case, steps, 1, run), log)), log)
            seconds = time.monotonic() - began
            n_checkpoints = len(re.findall("Checkpoint: ", (run / "train.log").read_text()))
            if n_checkpoints < CHECKPOINTS:
                steps *= 2
                continue
            if case.endswith("extended"):
                began = time.monotonic()
                _expect(ended(forked(self._extension(run, steps), log)), log)
                seconds = time.monotonic() - began
            found = results(run)
            self.note(name=name, steps=steps, seconds=seconds, checkpoints=n_checkpoints, results=found)
        return self.known[name]

    def calls_reference(self) -> dict[str, Any]:
        """Return what a short run leaves, and how many calls each of its writes has."""
        name = "reference: calls"
        if name not in self.known:
            counts = {}
            for write in WRITES:
                run, log = self._new("reference")
                file = self.directory / "counts"
                file.unlink(missing_ok=True)
                hook = KillingHook(WRITES[write], 1, None, file)
                _expect(ended(forked(self.arguments("softmax", SHORT, 0, run), log, hook.install)), log)
                counts[write] = [int(line) for line in file.read_text().split()]
            self.note(name=name, counts=counts, results=results(run))
        return self.known[name]

    # --- kills --------------------------------------------------------------------------------------------------------

    def _kill_at_calls(self) -> None:
        reference = self.calls_reference()
        nth = 4  # a checkpoint that removes an older one
        for at in range(1, reference["counts"]["checkpoint"][nth - 1] + 2):
            name = f"checkpoint, call {at}"
            if name not in self.known:
                self._kill_in_write(name, "checkpoint", nth, at)

    def _kill_in_write(self, name: str, write: str, nth: int, at: int) -> None:
        reference = self.calls_reference()
        run, log = self._new("killed")
        hook = KillingHook(WRITES[write], nth, at)
        status = ended(forked(self.arguments("softmax", SHORT, 0, run), log, hook.install))
        self._resume(name, f"writing the {write}", run, log, status, reference["results"], None)

    def _kill_at_random(self, number: int) -> None:
        """Kill a run at a random moment, or at a random call of one of its writes, and resume it."""
        name = f"random {number}"
        if name in self.known:
            return
        drawn = random.Random(number)
        if number % 5 == 4:  # what takes milliseconds is seldom hit by chance
            write = list(WRITES)[number // 5 % len(WRITES)]
            counts = self.calls_reference()["counts"][write]
            nth = drawn.randrange(len(counts))
            self._kill_in_write(name, write, nth + 1, drawn.randrange(counts[nth]) + 1)
            return
        case = list(CASES)[number % len(CASES)]
        reference = self.reference(case)
        part, seconds, status = drawn.uniform(0.05, 0.97), reference["seconds"], 0
        while status == 0:  # it may be faster than the reference was: then it is killed earlier
            run, log = self._new("killed")
            arguments, steps = self.arguments(case, reference["steps"], 1, run), reference["steps"]
            if case.endswith("extended"):
                _expect(ended(forked(arguments, log)), log)
                arguments = self._extension(run, steps)
            began, moment = time.monotonic(), part * seconds
            status = ended(forked(arguments, log), moment)
            seconds = seconds if status else time.monotonic() - began
        again = drawn.uniform(0.05, 0.97) * (seconds - moment) if number % 3 == 2 else None
        self._resume(name, f"{case}, after {moment:.1f} s", run, log, status, reference["results"], again)

    def _resume(
        self, name: str, how: str, run: Path, log: Path, status: int, expected: dict[str, Any], again: float | None
    ) -> None:
        """Resume a killed run, compare what it leaves, and keep the result. :param again: seconds to another kill."""
        began, stage = time.monotonic(), _stage(run)
        if status != -signal.SIGKILL:
            self.note(name=name, how=how, stage=stage, went_on="not killed", differing=[f"exit status {status}"])
            return
        if stage == "composing":  # nothing to go on with: the run is repeated
            print(f"{name:24} {how}: killed before its config was saved", flush=True)
            self.note(name=name, how=how, stage=stage, went_on="nothing there yet", differing=[])
            return
        read = len((run / "train.log").read_text()) if (run / "train.log").exists() else 0
        due = _checkpoint_due(run)
        if again is not None:
            ended(forked(["resume", str(run)], log), again)
            how += f", again after {again:.1f} s"
        status = ended(forked(["resume", str(run)], log))
        found = results(run)
        differing = sorted(key for key in expected if expected[key] != found.get(key))
        went_on = re.findall(r"Going on with the (.*? at step [\d,]+)", (run / "train.log").read_text()[read:])
        if status or not all(map(is_finished, seed_directories(run).values() or [run])):
            differing.append(f"exit status {status}")
        if due and not went_on:
            differing.append(f"no checkpoint was read ({due})")
        said = "; ".join(went_on) or "stages that were not done"
        seconds = time.monotonic() - began
        self.note(name=name, how=how, stage=stage, went_on=said, differing=differing, seconds=round(seconds, 1))
        print(f"{name:24} {how} ({stage}): {said}: {', '.join(differing) or 'identical'}", flush=True)
        if differing:
            kept = self.directory / name.replace(" ", "_")
            shutil.rmtree(kept, ignore_errors=True)
            shutil.move(run, kept)
            shutil.copy(log, kept / "output.txt")

    def _extension(self, run: Path, steps: int) -> list[str]:
        return ["resume", str(run), f"trainer.total_timesteps={steps * 3 // 2}"]

    def _new(self, name: str) -> tuple[Path, Path]:
        """Return a run directory that is not there, with a space in its name, and a file for the output."""
        run, log = self.directory / f"{name} run", self.directory / f"{name}.txt"
        shutil.rmtree(run, ignore_errors=True)
        log.unlink(missing_ok=True)
        return run, log


def _stage(run: Path) -> str:
    """Return which stage a killed run was in, by its log."""
    if not (run / ".hydra" / "config.yaml").is_file():
        return "composing"
    if not (run / "train.log").is_file():
        return "preparing"
    marks = {
        "Training mixture": "training",
        "Training single policy": "training",
        "Going on with": "training",
        "Checkpoint: ": "training",
        "Saved the bundle": "bundle saved",
    }
    marks |= {"Evaluating on": "evaluation", "mean log profit": "report"}
    stage = "preparing"
    for line in (run / "train.log").read_text().splitlines():
        message = line.partition(": ")[2]
        stage = next((found for mark, found in marks.items() if mark in message), stage)
    places = seed_directories(run).values() or [run]
    texts = [(place / "status.json").read_text() for place in places if (place / "status.json").is_file()]
    if texts and '"evaluation"' in texts[-1] and stage == "evaluation":
        return "report"
    return stage


def _checkpoint_due(run: Path) -> str | None:
    """Return the checkpoint that a killed run had written in the stage that it was in; ``None`` without."""
    due = None
    for line in (run / "train.log").read_text().splitlines() if (run / "train.log").is_file() else ():
        if "Checkpoint: " in line:
            due = line.partition("Checkpoint: ")[2]
        if "keeps the weights" in line or "Training mixture" in line or "Training single policy" in line:
            due = None
    return due


def _expect(status: int, log: Path) -> None:
    if status:
        sys.exit(f"a run that was not killed ended with {status}:\n{log.read_text()[-3000:]}")


def report(known: dict[str, dict[str, Any]]) -> bool:
    """Print how many kills of each stage ended identically; return whether all did."""
    lines = [line for line in known.values() if "differing" in line]
    table: dict[tuple[str, str], list[bool]] = {}
    for line in lines:
        kind = "at a call of a checkpoint" if line["name"].startswith("checkpoint") else "at random"
        table.setdefault((kind, line["stage"]), []).append(not line["differing"])
    print(f"\n{'killed':28} {'stage':16} {'kills':>6} {'identical':>10}")
    for (kind, stage), fine in sorted(table.items()):
        print(f"{kind:28} {stage:16} {len(fine):6} {sum(fine):10}")
    above = sum("at step" in line["went_on"] for line in lines)
    bad = [line for line in lines if line["differing"]]
    print(f"{len(lines)} kills, {len(lines) - len(bad)} identical; {above} went on from a checkpoint above step 0")
    for line in bad:
        print(f"{line['name']}, {line['how']} ({line['stage']}): {', '.join(line['differing'])}")
    return not bad


def main() -> None:
    """Make the kills that are missing and print the table; exit status 1 where a run differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, help="results, a line each; what it holds is not repeated")
    parser.add_argument("--kills", type=int, default=50, help="at random moments")
    parser.add_argument("--only", choices=("random", "calls"), help="one kind of kills")
    parser.add_argument("--directory", type=Path, help="of the runs (default: a temporary one)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    directory = given.directory or Path(tempfile.mkdtemp(prefix="crash "))
    directory.mkdir(exist_ok=True)
    warm(directory / "warm")
    bench = Bench(directory.resolve(), given.json, given.kills, given.only)
    bench.run()
    fine = report(bench.known)
    if given.directory is None and fine:
        shutil.rmtree(directory)
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
