"""Seeds side by side: each is the run of that seed to the bit, and nothing that happens to one changes another."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import time
from datetime import datetime
from multiprocessing import current_process
from types import SimpleNamespace

import pandas as pd
import pytest
from commands import HEAR_CTRL_C, SCRIPTS, SMALL, moe_train, sha256, stopped_train
from composed import settings_of

from moe_trader.config import load_config, to_plain
from moe_trader.finite import TrainingError
from moe_trader.lock import is_locked, lock_directory
from moe_trader.option import ConfigError
from moe_trader.run_files import COMPARED, SEEDS_TABLES, is_finished
from moe_trader.terminal import in_parallel_sweep
from moe_trader.trainer.seeds import Seeds, named, seeds_at_once, usable_cores
from moe_trader.trainer.status import Status

SEEDS = [*SMALL, "seed=1", "seeds=2", "hydra.run.dir=run"]


def fingerprints(run):
    files = [f"seed_{seed}/{file}" for seed in (1, 2) for file in COMPARED.values()]
    return {file: sha256(run / file) for file in [*files, *SEEDS_TABLES.values()]}


# --- whole runs -------------------------------------------------------------------------------------------------------


def test_a_seed_is_the_run_of_that_seed_to_the_bit(run_of_seeds, run_of_seeds_printed, tmp_path):
    printed = run_of_seeds_printed
    assert "INFO Training seeds 1, 2 (" in printed
    assert "INFO seed 2: Training mixture: 1,024 steps" in printed
    assert "seed 2: Training mixture" in (run_of_seeds / "train.log").read_text()
    own = (run_of_seeds / "seed_2" / "train.log").read_text()
    assert "moe_trader.trainer.training: Training mixture: 1,024 steps" in own
    assert "DEBUG" in own
    assert "seed 1" not in own
    repeated = moe_train("rerun", run_of_seeds / "seed_2", "hydra.run.dir=run", cwd=tmp_path)
    assert "to the last bit: weights of the mixture, weights of the single policy" in repeated.stdout, repeated.stderr
    config = to_plain(load_config(tmp_path / "run" / ".hydra" / "config.yaml"))
    rerun_of = {"rerun_of": str(run_of_seeds / "seed_2")}
    assert to_plain(load_config(run_of_seeds / "seed_2" / ".hydra" / "config.yaml")) | rerun_of == config


def test_each_tenth_has_a_line_that_names_its_seed(run_of_seeds_printed):
    for seed in (1, 2):
        lines = re.findall(rf"INFO seed {seed}: mixture (\d+) %: ", run_of_seeds_printed)
        assert lines == ["12", "25", "37", "50", "62", "75", "87", "100"]


def test_a_warning_of_all_seeds_is_printed_once(run_of_seeds, run_of_seeds_printed):
    warning = "expert.batch_size (64) is small for gating.losses.information"
    assert run_of_seeds_printed.count(warning) == 1
    assert (run_of_seeds / "train.log").read_text().count(warning) == 2


def test_a_run_of_several_seeds_has_means_and_can_be_repeated(run_of_seeds, run_of_seeds_printed, tmp_path):
    run, printed = run_of_seeds, run_of_seeds_printed
    assert "Test split, 2 seeds" in printed
    assert "Over 2 seeds the mixture" in printed
    for step in ("run/report.html", "moe-evaluate run/seed_1", "moe-train rerun run"):
        assert step in printed
    each = [pd.read_csv(run / f"seed_{seed}" / "evaluation" / "experts.csv") for seed in (1, 2)]
    whole = [table.query("instrument == 'all'").set_index(["split", "strategy"])["log_return"] for table in each]
    means = pd.read_csv(run / "seeds.csv").set_index(["split", "strategy"])["log_return"]
    assert means["test", "mixture"] == pytest.approx(sum(table["test", "mixture"] for table in whole) / 2)
    repeated = moe_train("rerun", run, "seeds_at_once=1", cwd=tmp_path)
    assert "Training seeds 1, 2 (1 at once: seeds_at_once); each logs to its own seed_N/train.log" in repeated.stdout
    assert f"Identical to {run}, to the last bit: seeds 1, 2" in repeated.stdout, repeated.stderr


def test_a_finished_run_of_seeds_is_left_untouched(run_of_seeds, copy_of):
    copy = copy_of(run_of_seeds)
    before = {file: (file.stat().st_mtime_ns, sha256(file)) for file in copy.rglob("*") if file.is_file()}
    again = moe_train(*SEEDS, "trainer.resume=auto", cwd=copy.parent)
    assert again.stdout == "Finished before, nothing to do: run\n", again.stderr
    assert {file: (file.stat().st_mtime_ns, sha256(file)) for file in before} == before


@pytest.mark.slow
def test_only_what_a_seed_lost_is_done_again(run_of_seeds, copy_of):
    copy = copy_of(run_of_seeds)
    (copy / "seed_2" / "report.html").unlink()
    again = moe_train("resume", "run", cwd=copy.parent)
    assert again.returncode == 0, again.stderr
    assert "Done before: seed 1" in again.stdout
    assert "Training seed 2 (" in again.stdout
    assert "report.html is missing or was altered: the stage is done again: report" in again.stdout
    assert (copy / "seed_2" / "report.html").is_file()
    assert fingerprints(copy) == fingerprints(run_of_seeds)


@pytest.mark.slow
def test_an_interrupted_run_of_seeds_goes_on_to_the_same_bits(run_of_seeds, tmp_path):
    """Here by the Ctrl-C of a terminal, which reaches every process."""
    run = tmp_path / "run"
    begun = run / "seed_1" / "progress.csv"
    code, printed = stopped_train(*SEEDS, stop=signal.SIGINT, begun=begun, cwd=tmp_path, group=True)
    assert code == 130, printed
    assert printed.rstrip().endswith("Interrupted. To go on: moe-train resume run")
    assert printed.count("moe-train resume") == printed.count("Interrupted: ending this update") == 1
    assert "Traceback" not in printed
    assert not is_finished(run)
    done = moe_train("resume", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert fingerprints(run) == fingerprints(run_of_seeds)
    assert is_finished(run)


@pytest.mark.slow
def test_a_killed_parent_leaves_no_seed_at_work_and_its_run_goes_on(run_of_seeds, tmp_path):
    """The resumed run begins while the processes of the first may still write their checkpoints."""
    run = tmp_path / "run"
    command = [sys.executable, "-c", HEAR_CTRL_C, SCRIPTS / "moe-train", *SEEDS]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT) as parent:
        while not all((run / f"seed_{seed}" / "progress.csv").is_file() for seed in (1, 2)):
            assert parent.poll() is None
            time.sleep(0.05)
        parent.kill()
    done = moe_train("resume", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Going on with the mixture at step " in done.stdout
    assert fingerprints(run) == fingerprints(run_of_seeds)
    assert not any(is_locked(run / f"seed_{seed}") for seed in (1, 2))


@pytest.mark.slow
def test_seeds_that_are_done_before_an_interrupt_have_their_means(tmp_path):
    """Here by a SIGTERM, which reaches the parent only."""
    many = *SMALL, "seeds=50", "single_policy=false", "shapley=false", "trainer.validate_every=0", "hydra.run.dir=run"
    begun = tmp_path / "run" / "seed_3" / "progress.csv"
    code, printed = stopped_train(*many, "seeds_at_once=2", stop=signal.SIGTERM, begun=begun, cwd=tmp_path)
    assert code == 143, printed
    means = pd.read_csv(tmp_path / "run" / "seeds.csv")
    assert means["seeds"].min() >= 2
    assert f"Test split, {means['seeds'].max()} seeds" in printed
    assert printed.rstrip().endswith("Interrupted. To go on: moe-train resume run")
    assert not is_finished(tmp_path / "run")
    assert not list((tmp_path / "run").glob("seed_2?"))


@pytest.mark.slow
def test_seeds_of_a_sweep_train_one_after_the_other(tmp_path):
    """In processes of their own too, although the job is not the main process."""
    less = "trainer.total_timesteps=256", "trainer.validate_every=0", "single_policy=false", "shapley=false"
    done = moe_train("-m", *SMALL, *less, "seed=1", "seeds=2", "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    said = "Seeds train one after the other, because jobs of a sweep share the cores (seeds_at_once)"
    assert re.search(rf"INFO Process-\d: {re.escape(said)}", done.stdout), done.stdout
    assert re.search(r"INFO Process-\d: seed 2: Training mixture", done.stdout)
    assert is_finished(tmp_path / "sweep" / "0")
    begun = [(tmp_path / "sweep" / "0" / f"seed_{seed}" / "train.log").read_text()[:23] for seed in (1, 2)]
    ended = (tmp_path / "sweep" / "0" / "seed_1" / "status.json").stat().st_mtime
    assert datetime.fromisoformat(begun[1].replace(",", ".")).timestamp() > ended - 0.001


# --- what becomes of a seed's process ---------------------------------------------------------------------------------


class Fake:
    """A run that does what its name says."""

    total_timesteps = 1

    def __init__(self, directory, seed, does):
        self.directory, self.does = directory / f"seed_{seed}", does
        self.settings = SimpleNamespace(threads=1, seed=seed, expert=settings_of().expert)

    def begin(self, status):
        status.begin(self.total_timesteps, "prices")

    def is_done(self):
        return (self.directory / "done").exists()

    def carry_out(self):
        getattr(self, self.does)()
        (self.directory / "done").touch()

    def trains(self):
        logging.getLogger("moe_trader.fake").info("Trained in %s", self.directory)

    def sleeps(self):
        time.sleep(600)

    def diverges(self):
        raise TrainingError("diverged")

    def breaks(self):
        raise ZeroDivisionError("by zero")

    def is_killed(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def is_refused(self):
        raise ConfigError("expert.count: too many")


@pytest.fixture
def seeds_that(tmp_path):
    """``seeds_that("trains", "breaks")``: seeds 0 and 1, of which the first trains and the second breaks."""
    return lambda *each: Seeds({seed: Fake(tmp_path, seed, does) for seed, does in enumerate(each)}, tmp_path)


def test_a_seed_that_fails_does_not_stop_the_others(seeds_that, tmp_path, warnings):
    seeds, begun = seeds_that("breaks", "diverges", "is_killed", "trains"), []
    seeds.train(2, begun.append)
    assert begun == [0, 1, 2, 3]
    assert seeds.failed == {
        0: f"ZeroDivisionError: by zero; the traceback is in {tmp_path / 'seed_0' / 'train.log'}",
        1: "diverged",
        2: "its process was ended by SIGKILL; perhaps memory ran out",
    }
    assert sorted(warnings(logging.ERROR).splitlines()) == [
        f"Seed {seed} failed: {seeds.failed[seed]}" for seed in (0, 1, 2)
    ]
    assert "Traceback" in (tmp_path / "seed_0" / "train.log").read_text()
    assert f"seed 3: Trained in {tmp_path / 'seed_3'}" in warnings(logging.INFO)
    assert [run.is_done() for run in seeds.runs.values()] == [False, False, False, True]
    assert seeds.write_results() is None  # of one seed there are no means


def test_a_mistake_of_the_user_ends_all_seeds(seeds_that, tmp_path):
    seeds = seeds_that("sleeps", "is_refused", "trains")
    with pytest.raises(ConfigError, match=r"^expert\.count: too many$"):
        seeds.train(2, lambda seed: None)
    assert seeds.failed == {}
    assert not (tmp_path / "seed_2").exists()
    assert not is_locked(tmp_path / "seed_0")


def test_a_part_that_cannot_be_sent_to_a_process_is_refused(seeds_that):
    seeds = seeds_that("trains")
    seeds.runs[0].settings.part = lambda: None
    with pytest.raises(
        ConfigError, match=r"^seeds: a part of the run cannot be sent to another process \(.*lambda.*\); "
    ):
        seeds.train(1, lambda seed: None)


def test_a_seed_waits_for_a_process_that_is_at_work_in_its_directory(tmp_path, warnings):
    lock = lock_directory(tmp_path, "seed 1")
    with pytest.raises(ConfigError, match=f"^seed 1: {re.escape(str(tmp_path))} is claimed by another run, which is"):
        lock_directory(tmp_path, "seed 1", patience=0.01)
    assert warnings() == f"Waiting up to 0 s for another process that is at work in {tmp_path}"
    lock.release()
    lock_directory(tmp_path, "seed 1", patience=1).release()


def test_fewer_steps_than_the_run_has_are_refused_before_any_process_starts(seeds_that, tmp_path):
    Status(tmp_path).begin(2, "prices")
    message = f"^trainer.total_timesteps: 1, and the run in {re.escape(str(tmp_path))} has 2; give that number or more$"
    with pytest.raises(ConfigError, match=message):
        seeds_that("trains").train(1, lambda seed: pytest.fail("began"))


# --- how many at once -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cores", "given", "expected"),
    [
        (8, {}, 8),
        (8, {"threads": 3}, 2),
        (2, {"threads": 4}, 1),
        (8, {"device": "cuda"}, 1),
        (8, {"device": "cuda", "seeds_at_once": 2}, 2),
        (2, {"seeds_at_once": 5}, 5),
    ],
)
def test_a_seed_trains_on_each_usable_core(cores, given, expected, monkeypatch):
    monkeypatch.setattr("moe_trader.trainer.seeds.usable_cores", lambda: cores)
    settings = {"threads": 1, "device": "cpu", "seeds_at_once": None, **given}
    assert seeds_at_once(SimpleNamespace(**settings)) == expected


def test_usable_cores_are_those_of_the_affinity():
    assert 1 <= usable_cores() <= os.cpu_count()


def test_a_job_of_a_parallel_sweep_trains_one_seed_at_once(monkeypatch, warnings):
    monkeypatch.setattr(current_process(), "_name", "LokyProcess-3")
    assert in_parallel_sweep()
    assert seeds_at_once(SimpleNamespace(threads=1, device="cpu", seeds_at_once=None)) == 1
    assert "Seeds train one after the other" in warnings(logging.INFO)


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [([3], "seed 3"), ([0, 1], "seeds 0, 1"), ([0, 1, 2], "seeds 0 to 2"), ([0, 2, 3], "seeds 0, 2, 3")],
)
def test_seeds_are_named(seeds, expected):
    assert named(seeds) == expected
