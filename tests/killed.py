"""Carries out the runs of tests/test_crash.py: ``killed.py DIRECTORY`` leaves ``results.json`` there.

Each run is killed, interrupted or starved at a chosen moment, and then resumed. All are forked from this process, which
has the package and its kernels in memory.
"""

import importlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import torch
from commands import SMALL
from crash import WRITES, KillingHook, ended, forked, results, warm

from moe_trader.run_files import is_finished, written_folders

RUN = [*SMALL, "trainer.checkpoint_seconds=0", "shapley=false"]
UPDATE = ("moe_trader.trainer.training", "Training._validate")  # called after each, eight times for each agent
REPORT = WRITES["report"]
AT_THE_END = 10**9


def killed_in(function, nth, at):
    """Kill (-9) in the ``nth`` call of a function, before the call ``at`` into the system."""
    return lambda run: KillingHook(function, nth, at).install()


def when_called(function, nth, act):
    """Call ``act(run)`` at the beginning of the ``nth`` call of a function."""

    def prepare(run):
        module, name = function
        *parents, last = name.split(".")
        place = importlib.import_module(module)
        for parent in parents:
            place = getattr(place, parent)
        original, calls = getattr(place, last), []

        def counted(*arguments, **named):
            calls.append(1)
            if len(calls) == nth:
                act(run)
            return original(*arguments, **named)

        setattr(place, last, counted)

    return prepare


def no_larger_files(run):
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))


def too_much_memory(run):
    torch.empty(2**50)


def interrupt(number, run):
    os.kill(os.getpid(), number)


def in_a_long_update(run):
    interrupt(signal.SIGINT, run)
    time.sleep(60)


def twice(run):
    interrupt(signal.SIGINT, run)
    interrupt(signal.SIGINT, run)


def read_only(run):
    """Mount the disk read-only over itself: with open files it cannot be made so."""
    for how in (["--bind", run.parent], ["-o", "remount,bind,ro"]):
        subprocess.run(["mount", *how, run.parent], check=True)


CASES = {
    "nothing": None,
    "killed in the training of the mixture": killed_in(UPDATE, 7, AT_THE_END),
    "killed in a checkpoint": killed_in(WRITES["checkpoint"], 4, 20),
    "killed in the bundle": killed_in(WRITES["bundle"], 1, 300),
    "killed in the training of the single policy": killed_in(UPDATE, 12, AT_THE_END),
    "killed in the tables": killed_in(WRITES["tables"], 1, 100),
    "killed in the report": killed_in(REPORT, 1, 900),
    "a Ctrl-C": when_called(UPDATE, 4, partial(interrupt, signal.SIGINT)),
    "a Ctrl-C in a long update": when_called(UPDATE, 4, in_a_long_update),
    "two Ctrl-C": when_called(UPDATE, 4, twice),
    "a SIGTERM": when_called(UPDATE, 4, partial(interrupt, signal.SIGTERM)),
    "a Ctrl-C in the report": when_called(REPORT, 1, partial(interrupt, signal.SIGINT)),
    "a limit of file sizes": when_called(UPDATE, 4, no_larger_files),
    "no memory": when_called(UPDATE, 4, too_much_memory),
    "a removed directory": when_called(UPDATE, 4, shutil.rmtree),
    "a disk of 200 KB": None,
    "a disk of 1.1 MB": None,
    "a disk that becomes read-only": when_called(UPDATE, 4, read_only),
}
DISKS = {"a disk of 200 KB": "200k", "a disk of 1.1 MB": "1100k", "a disk that becomes read-only": "16m"}


def carry_out(directory, case):
    """Carry out a run, resume it where it did not come to its end; return what both left."""
    place, log = directory / case, directory / f"{case}.txt"
    if case not in DISKS:
        return run_in(place, log, CASES[case])
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISKS[case]}", "tmpfs", place],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        return {"skipped": f"no tmpfs can be mounted: {mounted.stderr.strip()}"}
    try:
        return run_in(place / "run", log, CASES[case], lambda: remount(place))
    finally:
        subprocess.run(["umount", place], check=False)


def remount(place):
    if not os.access(place, os.W_OK):
        subprocess.run(["umount", place], check=True)
    subprocess.run(["mount", "-o", "remount,size=16m", place], check=True)


def run_in(run, log, prepare, repair=lambda: None):
    begun = [*RUN, f"hydra.run.dir='{run}'"]
    status = ended(forked(begun, log, partial(prepare, run) if prepare else lambda: None))
    found = {"status": status, "finished": is_finished(run), "printed": log.read_text(), "results": {}}
    if run.is_dir():
        repair()
    if run.is_dir() and not is_finished(run):
        log.unlink()
        found |= {"resumed status": ended(forked(["resume", str(run)], log)), "resumed printed": log.read_text()}
        found["partial"] = [str(one) for folder in written_folders(run) for one in folder.glob("*.partial")]
    if run.is_dir():
        found |= {"finished at last": is_finished(run), "results": results(run), "log": (run / "train.log").read_text()}
    return found


if __name__ == "__main__":
    directory = Path(sys.argv[1])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background may ignore it
    torch.set_num_threads(1)
    warm(directory / "warm", ["discrete"])
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(partial(carry_out, directory), CASES)
    (directory / "results.json").write_text(json.dumps(dict(zip(CASES, found, strict=True))))
