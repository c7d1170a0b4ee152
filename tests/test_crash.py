"""Runs that are killed (-9), interrupted or starved end as if they had not been, once they are resumed.

Each stage is hit, and the moment is chosen, not drawn. ``benchmarks/crash.py`` kills at 50 random moments and at every
call of a checkpoint's write.
"""

import errno
import json
import os
import re
import signal
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import call

from moe_trader.exhausted import explained

HERE = Path(__file__).parent
KILLS = {  # and how the run goes on
    "killed in the training of the mixture": "Going on with the mixture at step 768 of 1,024",
    "killed in a checkpoint": "Going on with the mixture at step 384 of 1,024",
    "killed in the bundle": "Training single policy",
    "killed in the training of the single policy": "Going on with the single policy at step 384 of 1,024",
    "killed in the tables": "Stage single policy: done before",
    "killed in the report": "Stage evaluation: done before",
}
AT_384, AT_512 = (f"Going on with the mixture at step {step} of 1,024" for step in (384, 512))
ENDS = {  # exit status, the last line, and how the run goes on
    "a Ctrl-C": (130, "Interrupted. {way_on}", AT_512),
    "a Ctrl-C in a long update": (130, "Interrupted. {way_on}", AT_384),
    "a SIGTERM": (143, "Interrupted. {way_on}", AT_512),
    "two Ctrl-C": (-signal.SIGINT, "Interrupted: ending this update and writing a checkpoint", AT_384),
    "a Ctrl-C in the report": (130, "Interrupted. {way_on}", "Stage evaluation: done before"),
    "a limit of file sizes": (
        2,
        "hydra.run.dir: no space left for {run} (File too large); free some. {way_on}",
        AT_384,
    ),
    "no memory": (
        2,
        "out of memory; free some, or train again with a lower trainer.n_envs, expert.n_steps, expert.batch_size or "
        "expert.count. {way_on}",
        AT_384,
    ),
    "a removed directory": (
        2,
        "hydra.run.dir: {run} was removed during the run; run the command again. Nothing was trained in {run}",
        None,
    ),
    "a disk of 200 KB": (
        2,
        "hydra.run.dir: no space left for {run} (No space left on device); free some. {way_on}",
        "",
    ),
    "a disk of 1.1 MB": (
        2,
        "hydra.run.dir: no space left for {run} (No space left on device); free some. {way_on}",
        "",
    ),
    "a disk that becomes read-only": (
        2,
        "cannot be used (Read-only file system); make {run} readable and writable. {way_on}",
        AT_384,
    ),
}


@pytest.fixture(scope="module")
def directory(made_once):
    def make(directory):
        path = os.pathsep.join([str(HERE), str(HERE.parent / "benchmarks"), os.environ.get("PYTHONPATH", "")])
        made = call(sys.executable, HERE / "killed.py", directory, cwd=directory, PYTHONPATH=path, PYTHONWARNINGS="")
        assert made.returncode == 0, made.stderr

    return made_once("crash", make)


@pytest.fixture(scope="module")
def runs(directory):
    """What runs left, by what happened to them."""
    return json.loads((directory / "results.json").read_text(encoding="utf-8"))


def check_resumed(found, line, runs):
    assert not found["finished"]
    assert found["resumed status"] == 0, found["resumed printed"]
    assert line in found["resumed printed"]
    assert found["finished at last"]
    assert found["partial"] == []
    expected = runs["nothing"]["results"]
    assert len(expected) == 15
    assert None not in expected.values()
    assert {name for name, one in expected.items() if found["results"][name] != one} == set()


@pytest.mark.slow
def test_a_run_that_nothing_disturbs_ends_with_status_0(runs):
    assert (runs["nothing"]["status"], runs["nothing"]["finished"]) == (0, True)


@pytest.mark.slow
@pytest.mark.parametrize("moment", KILLS)
def test_a_killed_run_ends_as_if_it_had_not_been(moment, runs):
    assert runs[moment]["status"] == -signal.SIGKILL, runs[moment]["printed"]
    check_resumed(runs[moment], KILLS[moment], runs)


@pytest.mark.slow
@pytest.mark.parametrize("what", ENDS)
def test_a_run_that_cannot_go_on_ends_in_a_line_and_loses_nothing(what, runs, directory):
    found, (status, line, goes_on) = runs[what], ENDS[what]
    if "skipped" in found:
        pytest.skip(found["skipped"])
    printed = found["printed"]
    assert found["status"] == status, printed
    run = directory / what / "run" if "disk" in what else directory / what
    way_on = f"To go on: moe-train resume '{os.path.relpath(run, directory)}'"
    assert line.format(run=run, way_on=way_on) in printed
    assert "Traceback" not in printed
    assert "Logging error" not in printed
    assert "Exception" not in printed
    if goes_on is None:
        assert not run.exists()  # it is not created again
    else:
        check_resumed(found, goes_on, runs)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["a Ctrl-C", "a Ctrl-C in a long update", "a SIGTERM"])
def test_a_signal_ends_a_run_within_five_seconds(what, runs):
    times = re.findall(r"^(\S+ \S+) WARNING moe_trader\S* Interrupted", runs[what]["log"], re.MULTILINE)
    first, last = (datetime.strptime(one, "%Y-%m-%d %H:%M:%S,%f") for one in times)
    assert (last - first).total_seconds() < 5


# --- words ------------------------------------------------------------------------------------------------------------


def failure(act):
    with pytest.raises((MemoryError, RuntimeError)) as found:
        act()
    return found.value


@pytest.mark.parametrize(
    "act",
    [lambda: np.zeros(2**50), lambda: torch.empty(2**50), lambda: bytearray(2**60)],
    ids=["numpy", "torch", "python"],
)
def test_too_little_memory_is_explained(act, tmp_path):
    assert explained(failure(act), tmp_path, "hydra.run.dir").startswith(
        "out of memory; free some, or train again with"
    )


@pytest.mark.parametrize(
    ("number", "file", "line"),
    [
        (errno.ENOSPC, None, "hydra.run.dir: no space left for {run} (No space left on device); free some"),
        (errno.EDQUOT, None, "hydra.run.dir: no space left for {run} (Disk quota exceeded); free some"),
        (errno.ENOSPC, "/cache/bars", "no space left for /cache/bars (No space left on device); free some"),
        (errno.EIO, None, "hydra.run.dir: {run} cannot be used (Input/output error); make {run} readable and writable"),
        (
            errno.ENOENT,
            "{run}/checkpoint/1/a",
            "hydra.run.dir: {run}/checkpoint is missing; it was removed during the run",
        ),
        (
            errno.EACCES,
            "{run}/a",
            "hydra.run.dir: {run}/a cannot be used (Permission denied); make {run} readable and writable",
        ),
        (errno.ENOENT, "/bars.csv", None),
        (errno.EACCES, None, None),
        (errno.ENOTEMPTY, None, None),
    ],
)
def test_a_disk_that_fails_is_explained(number, file, line, tmp_path):
    error = OSError(number, os.strerror(number), file and file.format(run=tmp_path))
    assert explained(error, tmp_path, "hydra.run.dir") == (line and line.format(run=tmp_path))
