"""Runs that are killed (-9) end as if they had not been: each stage is hit, and the moment is chosen, not drawn.

``benchmarks/crash.py`` kills at 50 random moments and at every call of a checkpoint's write.
"""

import json
import os
import sys
from pathlib import Path

import pytest
from commands import call

HERE = Path(__file__).parent
# Where a run is killed, and how it goes on.
MOMENTS = {
    "the training of the mixture": "Going on with the mixture at step 768 of 1,024",
    "a checkpoint": "Going on with the mixture at step 384 of 1,024",
    "the bundle": "Training single policy",
    "the training of the single policy": "Going on with the single policy at step 384 of 1,024",
    "the tables": "Stage single policy: done before",
    "the report": "Stage evaluation: done before",
}


@pytest.fixture(scope="module")
def runs(made_once):
    """What runs left, by the moment of their kill; ``nothing``: of none."""

    def make(directory):
        path = os.pathsep.join([str(HERE), str(HERE.parent / "benchmarks"), os.environ.get("PYTHONPATH", "")])
        made = call(sys.executable, HERE / "killed.py", directory, cwd=directory, PYTHONPATH=path, PYTHONWARNINGS="")
        assert made.returncode == 0, made.stderr

    return json.loads((made_once("crash", make) / "results.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_ends_as_if_it_had_not_been(moment, runs):
    killed = runs[moment]
    assert not killed["finished when killed"]
    assert killed["status"] == 0, killed["printed"]
    assert killed["finished"]
    assert MOMENTS[moment] in killed["printed"]
    assert killed["partial"] == []
    expected = runs["nothing"]["results"]
    assert len(expected) == 15
    assert None not in expected.values()
    assert {name for name, one in expected.items() if killed["results"][name] != one} == set()
