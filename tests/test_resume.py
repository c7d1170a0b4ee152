"""Going on with a run in its own directory: resume, extension, and sweeps that are repeated."""

import hashlib
import json
import re
import shutil
import signal
from pathlib import Path

import pandas as pd
import pytest
from commands import SMALL, moe_train, stopped_train
from omegaconf import OmegaConf

from moe_trader import resume
from moe_trader.option import ConfigError
from moe_trader.run_files import COMPARED, CONFIG, PROGRESS, STATUS, holds_run, is_finished
from moe_trader.sweep import unfinished_lines
from moe_trader.trainer.status import Status, StatusError

FEATURES = "env/features=[multi_horizon,regime_probabilities]", "env.features.regime_probabilities.states=2"


def state(directory):
    """Return every file's time and content: what tells whether it was written."""
    return {
        str(file.relative_to(directory)): (file.stat().st_mtime_ns, hashlib.sha256(file.read_bytes()).hexdigest())
        for file in directory.rglob("*")
        if file.is_file()
    }


def fingerprint(run):
    return {name: hashlib.sha256((run / file).read_bytes()).hexdigest() for name, file in COMPARED.items()}


def rows(run):
    table = pd.read_csv(run / PROGRESS)
    return table.drop(columns=["time/fps", "time/time_elapsed"])


# --- stages -----------------------------------------------------------------------------------------------------------


def test_a_finished_run_is_not_repeated(finished_run, copy_of, tmp_path):
    run = copy_of(finished_run)
    before = state(run)
    done = moe_train("resume", run, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"Stage (.*): done before", done.stdout) == ["mixture", "single policy", "evaluation", "report"]
    assert "Training mixture" not in done.stdout
    after = state(run)
    assert {name for name in after if before.get(name) != after[name]} <= {"train.log", ".claimed"}


@pytest.mark.slow
def test_a_run_without_its_status_goes_on_from_its_checkpoints(finished_run, copy_of, tmp_path):
    """As the error of a damaged one advises."""
    run = copy_of(finished_run)
    (run / STATUS).write_text("damaged")
    refused = moe_train("resume", run, cwd=tmp_path)
    assert refused.returncode == 1
    assert "delete it to go on from the last checkpoints" in refused.stderr
    (run / STATUS).unlink()
    done = moe_train("resume", run, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Training mixture" not in done.stdout
    assert fingerprint(run) == fingerprint(finished_run)
    assert is_finished(run)


@pytest.mark.slow
def test_what_was_lost_of_a_run_is_made_again_to_the_bit(finished_run, copy_of, tmp_path):
    run = copy_of(finished_run)
    shutil.rmtree(run / "bundle")  # the mixture comes back from its last checkpoint
    (run / "evaluation" / "experts.csv").write_text("altered\n")
    done = moe_train("resume", run, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "bundle/manifest.json is missing or was altered: the stage is done again: mixture" in done.stdout
    assert "Training mixture" not in done.stdout
    assert fingerprint(run) == fingerprint(finished_run)
    pd.testing.assert_frame_equal(rows(run), rows(finished_run))


def test_a_status_knows_what_was_done(tmp_path):
    (tmp_path / "a.csv").write_text("1\n")
    status = Status(tmp_path)
    assert not status.is_done("mixture")
    assert not holds_run(tmp_path)
    status.begin(100, "prices")
    status.done("mixture", ["a.csv"])
    again = Status(tmp_path)
    assert again.is_done("mixture")
    assert again.total_timesteps == 100
    assert not is_finished(tmp_path)
    again.finish()
    assert is_finished(tmp_path)
    again.begin(100, "prices")
    assert is_finished(tmp_path)
    again.begin(200, "prices")
    assert not is_finished(tmp_path)
    assert not again.is_done("mixture")
    assert Status(tmp_path).extended_from == [100]
    with pytest.raises(ConfigError, match=r"^env\.market: the prices are not those of the run in .*; restore the data"):
        again.check_market("others")
    with pytest.raises(ConfigError, match=r"^trainer\.total_timesteps: 199, and the run in .* has 200; give"):
        again.check_total(199)


def test_a_stage_whose_files_were_altered_is_not_done(tmp_path, warnings):
    (tmp_path / "a.csv").write_text("1\n")
    status = Status(tmp_path)
    status.begin(100, "prices")
    status.done("evaluation", ["a.csv"])
    (tmp_path / "a.csv").write_text("2\n")
    assert not status.is_done("evaluation")
    assert warnings() == f"{tmp_path / 'a.csv'} is missing or was altered: the stage is done again: evaluation"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format_version": 9}'])
def test_a_damaged_status_is_refused_in_words(content, tmp_path):
    (tmp_path / STATUS).write_text(content)
    with pytest.raises(StatusError, match=r"status\.json: cannot be read .*; delete it to go on from the last check"):
        Status(tmp_path)
    assert not is_finished(tmp_path)


# --- extension --------------------------------------------------------------------------------------------------------


def test_a_finished_run_is_extended(finished_run, copy_of, evaluate_here, tmp_path):
    run = copy_of(finished_run)
    done = moe_train("resume", run, "trainer.total_timesteps=1536", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Going on with the mixture at step 1,024 of 1,536" in done.stdout
    assert "Going on with the single policy at step 1,024 of 1,536" in done.stdout
    status = json.loads((run / STATUS).read_text())
    assert (status["total_timesteps"], status["extended_from"], status["finished"]) == (1536, [1024], True)
    assert OmegaConf.load(run / CONFIG).trainer.total_timesteps == 1536

    before, after = rows(finished_run), rows(run)
    assert after["time/total_timesteps"].to_list() == [*range(128, 1537, 128), 1536]
    same = len(before) - 1  # the last row of a run holds what its last update did
    pd.testing.assert_frame_equal(after.head(same), before.head(same)[after.columns])
    assert "extended after" in (run / "report.html").read_text()
    assert evaluate_here(run)[0] == 0

    fewer = moe_train("resume", run, "trainer.total_timesteps=1024", cwd=tmp_path)
    assert fewer.returncode == 1
    assert "trainer.total_timesteps: 1,024, and the run in " in fewer.stderr
    assert "has 1,536; give that number or more" in fewer.stderr
    assert OmegaConf.load(run / CONFIG).trainer.total_timesteps == 1536


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: not a run directory (no .hydra/config.yaml there); give one that moe-train made"),
        (
            ["run", "seed=3"],
            "ConfigError: seed: a run goes on with its own settings; only trainer.total_timesteps, "
            "trainer.checkpoint_seconds, seeds_at_once, device, plugins may change. For a new run with changes: "
            "moe-train rerun run seed=3",
        ),
        (
            ["sweep"],
            "sweep: the directory of a sweep; repeat the command of the sweep with trainer.resume=auto and "
            "hydra.sweep.dir=sweep, or give one of its jobs",
        ),
    ],
)
def test_what_cannot_be_gone_on_with_is_refused(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("sweep").mkdir()
    Path("sweep/multirun.yaml").touch()
    with pytest.raises(SystemExit) as left:
        resume.resume_arguments(arguments)
    assert left.value.code == message


def test_help_says_what_resume_does(capsys):
    with pytest.raises(SystemExit) as left:
        resume.resume_arguments(["--help"])
    assert left.value.code == 0
    assert "Usage: moe-train resume RUN" in capsys.readouterr().out


def test_a_run_without_checkpoints_is_refused(finished_run, copy_of, tmp_path):
    run = copy_of(finished_run)
    (run / STATUS).unlink()
    shutil.rmtree(run / "checkpoint")
    before = state(run)
    done = moe_train("resume", run, cwd=tmp_path)
    assert done.returncode == 1
    reason = "has no status.json and no checkpoint/: this run was made by a version that wrote none; repeat it: "
    assert f"{run}: {reason}moe-train rerun {run}" in done.stderr
    assert {name: kept for name, kept in state(run).items() if name != ".claimed"} == {
        name: kept for name, kept in before.items() if name != ".claimed"
    }


def test_hydra_s_own_node_is_refused(finished_run, copy_of, tmp_path):
    run = copy_of(finished_run)
    with (run / CONFIG).open("a") as config:
        config.write("hydra:\n  run:\n    dir: elsewhere\n")
    done = moe_train("resume", run, cwd=tmp_path)
    assert done.returncode == 1
    assert "`hydra`: a saved config holds no instructions to Hydra" in done.stderr


# --- trainer.resume=auto ----------------------------------------------------------------------------------------------


def test_a_repeated_sweep_leaves_finished_jobs_as_they_are(finished_run, tmp_path):
    """One finished job, one that was killed before its first checkpoint, and one that is new."""
    shutil.copytree(finished_run, tmp_path / "S" / "0")
    shutil.copytree(finished_run / ".hydra", tmp_path / "S" / "1" / ".hydra")
    config = OmegaConf.load(tmp_path / "S" / "1" / CONFIG)
    config.seed = 1
    OmegaConf.save(config, tmp_path / "S" / "1" / CONFIG)
    (tmp_path / "S" / "1" / PROGRESS).write_text("a row of a killed run\n")
    (tmp_path / "S" / "multirun.yaml").touch()
    before = state(tmp_path / "S" / "0")
    words = "-m", *SMALL, *FEATURES, "hydra.sweep.dir=S", "trainer.resume=auto"
    done = moe_train(*words, "seed=0,1,2", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert state(tmp_path / "S" / "0") == before
    assert f"Finished before, nothing to do: {Path('S/0')}" in done.stdout
    assert is_finished(tmp_path / "S" / "1")
    assert is_finished(tmp_path / "S" / "2")
    assert "killed" not in (tmp_path / "S" / "1" / PROGRESS).read_text()

    before = state(tmp_path / "S" / "0")
    other = moe_train(*words, "seed=0", "expert.gamma=0.5", cwd=tmp_path)
    assert other.returncode == 1
    assert "ConfigError: expert.gamma: 0.5, and the run in " in other.stderr
    assert state(tmp_path / "S" / "0") == before


def test_the_jobs_of_a_sweep_that_are_not_done_are_listed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    jobs = [["env=synthetic", f"seed={seed}"] for seed in range(3)]
    for number, finished in ((0, True), (1, False)):
        (Path("S") / str(number) / ".hydra").mkdir(parents=True)
        (Path("S") / str(number) / CONFIG).touch()
        (Path("S") / str(number) / STATUS).write_text(json.dumps({"finished": finished}))
    typed = ["-m", "env=synthetic", "seed=0,1,2", "expert.net_arch=[16]"]
    assert unfinished_lines(Path("S").resolve(), jobs, typed) == [
        "2 of 3 jobs of the sweep are not done:",
        "  S/1 (seed=1): unfinished",
        "  S/2 (seed=2): not begun",
        "To go on: moe-train -m env=synthetic seed=0,1,2 'expert.net_arch=[16]' hydra.sweep.dir=S trainer.resume=auto",
    ]
    Path("S/1", STATUS).write_text('{"finished": true}')
    assert unfinished_lines(Path("S").resolve(), jobs[:2], typed) == []


@pytest.mark.slow
@pytest.mark.parametrize(("stop", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
def test_a_stopped_sweep_writes_checkpoints_and_says_how_to_go_on(stop, code, tmp_path):
    sweep = "seed=0,1,2", "hydra.sweep.dir=S", "hydra.launcher.n_jobs=2"
    words = "-m", *SMALL, "trainer.total_timesteps=1000000", *sweep
    begun = [tmp_path / "S" / number / PROGRESS for number in "01"]
    left, printed = stopped_train(*words, stop=stop, begun=begun, cwd=tmp_path)
    assert left == code, printed
    assert "Traceback" not in printed
    *_, head, first, second, third, way_on = printed.splitlines()
    assert head == "3 of 3 jobs of the sweep are not done:"
    assert (first, second) == ("  S/0 (seed=0): unfinished", "  S/1 (seed=1): unfinished")
    assert third == "  S/2 (seed=2): not begun"
    assert way_on.startswith("To go on: moe-train -m env=synthetic ")
    assert way_on.endswith(" seed=0,1,2 hydra.launcher.n_jobs=2 hydra.sweep.dir=S trainer.resume=auto")
    for seed in (0, 1):
        assert list((tmp_path / "S" / str(seed) / "checkpoint").iterdir())
        assert f"To go on: moe-train resume S/{seed}" in printed
