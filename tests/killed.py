"""Kills and resumes the runs of tests/test_crash.py: ``killed.py DIRECTORY`` leaves ``results.json`` there.

All are forked from this process, which has the package and its kernels in memory.
"""

import json
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from commands import SMALL
from crash import WRITES, KillingHook, ended, forked, results, warm

from moe_trader.run_files import is_finished, written_folders

RUN = [*SMALL, "trainer.checkpoint_seconds=0", "shapley=false"]
AN_UPDATE = ("moe_trader.trainer.training", "Training._validate")  # is called after each, eight times for each agent
AT_THE_END = 10**9
MOMENTS = {  # the function, the number of its call, and that of the call into the system before which it ends
    "the training of the mixture": (AN_UPDATE, 7, AT_THE_END),
    "a checkpoint": (WRITES["checkpoint"], 4, 20),
    "the bundle": (WRITES["bundle"], 1, 300),
    "the training of the single policy": (AN_UPDATE, 12, AT_THE_END),
    "the tables": (WRITES["tables"], 1, 100),
    "the report": (WRITES["report"], 1, 900),
}


def run(directory, name):
    """Carry out a run that is killed in ``name``, or is not; return what it leaves."""
    place, log = directory / f"killed in {name}", directory / f"{name}.txt"
    hook = KillingHook(*MOMENTS[name]) if name in MOMENTS else None
    status = ended(forked([*RUN, f"hydra.run.dir='{place}'"], log, hook.install if hook else lambda: None))
    finished = is_finished(place)
    if hook:
        assert status == -signal.SIGKILL, f"{name}: {status}\n{log.read_text()}"
        status = ended(forked(["resume", str(place)], log))
    return {
        "finished when killed": finished,
        "status": status,
        "finished": is_finished(place),
        "printed": log.read_text(),
        "partial": [str(one) for folder in written_folders(place) for one in folder.glob("*.partial")],
        "results": results(place),
    }


if __name__ == "__main__":
    directory = Path(sys.argv[1])
    torch.set_num_threads(1)
    warm(directory / "warm", ["discrete"])
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda name: run(directory, name), ["nothing", *MOMENTS])
    (directory / "results.json").write_text(json.dumps(dict(zip(["nothing", *MOMENTS], found, strict=True))))
