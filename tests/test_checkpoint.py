"""Checkpoints on the disk: which one training goes on from, what is refused, and what of the logs goes on with it."""

import csv
import json
import logging
import shutil

import pytest
from commands import sha256
from composed import trainer_of
from safetensors.torch import load_file
from stable_baselines3.common.vec_env import VecEnvWrapper
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from moe_trader.durable import new_directory, remove_partial, write_file
from moe_trader.run_files import written_folders
from moe_trader.trainer.checkpoint import CheckpointError, Checkpoints

AN_UPDATE, STEPS = 128, 6 * 128
OLDER, NEWEST = "000000000512", "000000000640"
TASK = {"market_sha256": "abc"}
TIMES = ("time/fps", "time/time_elapsed")


def fit(agent, directory, resume="auto", task=TASK, **settings):
    trainer = trainer_of(**{"total_timesteps": STEPS, "n_envs": 4, "checkpoint_seconds": 0, **settings}, resume=resume)
    return trainer.fit(agent, directory, task=task)


def rows_of(directory, but=TIMES):
    with (directory / "progress.csv").open(newline="") as file:
        return [{name: one for name, one in row.items() if name not in but} for row in csv.DictReader(file)]


def weights(directory):
    return sha256(directory / "bundle" / "policy.safetensors")


@pytest.fixture(scope="module")
def runs(make_agent, tmp_path_factory):
    """A training that was not disturbed, and its directory as a kill leaves it before the checkpoint of its end."""
    whole, killed = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("killed") / "run"
    agent = make_agent(n_epochs=1)

    def leave_a_copy():
        if agent.algorithm.num_timesteps == STEPS:
            shutil.copytree(whole, killed)

    agent.algorithm.update_listeners.append(leave_a_copy)
    fit(agent, whole)
    return whole, killed


@pytest.fixture
def whole(runs):
    return runs[0]


@pytest.fixture
def killed(runs, tmp_path):
    """A copy of the killed run's directory; its newest checkpoints are of the steps 512 and 640 of 768."""
    return shutil.copytree(runs[1], tmp_path / "run")


@pytest.fixture
def agent(make_agent):
    return make_agent(n_epochs=1)


@pytest.fixture
def warnings(caplog):
    """What training logged as warnings, as one text."""
    caplog.set_level(logging.INFO, logger="moe_trader")

    def logged(level=logging.WARNING):
        found = [one for one in caplog.records if one.name.startswith("moe_trader.trainer") and one.levelno == level]
        return "\n".join(one.getMessage() for one in found)

    return logged


# --- what is kept, and which one is read ------------------------------------------------------------------------------


def test_the_last_two_are_kept(whole, killed):
    assert Checkpoints(killed / "checkpoint").steps() == [512, 640]
    assert Checkpoints(whole / "checkpoint").steps() == [640, 768]
    assert sorted(path.name for path in (killed / "checkpoint" / NEWEST).iterdir()) == [
        "state.json",
        "state.safetensors",
    ]


def test_training_goes_on_from_the_newest(agent, killed, whole, warnings):
    fit(agent, killed)
    assert "Going on with the mixture at step 640 of 768" in warnings(logging.INFO)
    assert not warnings()
    assert weights(killed) == weights(whole)
    assert rows_of(killed) == rows_of(whole)


def test_a_training_that_may_not_go_on_removes_what_is_there(agent, killed, whole, warnings):
    fit(agent, killed, resume="never")
    assert "Going on" not in warnings(logging.INFO)
    assert weights(killed) == weights(whole)


def truncate(file):
    file.write_bytes(file.read_bytes()[:-1])


def empty(file):
    file.write_bytes(b"")


def alter(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def remove(file):
    file.unlink()


DAMAGE = [truncate, empty, alter, remove]


@pytest.mark.parametrize("name", ["state.json", "state.safetensors"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_newest_one_is_logged_and_the_one_before_is_read(damage, name, killed, warnings):
    damage(killed / "checkpoint" / NEWEST / name)
    checkpoints = Checkpoints(killed / "checkpoint")
    found = checkpoints.newest()
    assert found.step == 512
    said = warnings()
    assert said.startswith(f"{killed / 'checkpoint' / NEWEST}: damaged checkpoint ({name}")
    assert said.endswith("); going on from the checkpoint before it, step 512")
    assert checkpoints.steps() == [512]  # else the damaged one would outlive the next checkpoints


def test_training_from_the_one_before_ends_the_same(agent, killed, whole):
    alter(killed / "checkpoint" / NEWEST / "state.safetensors")
    fit(agent, killed)
    assert weights(killed) == weights(whole)
    assert rows_of(killed) == rows_of(whole)


def test_where_both_are_damaged_the_way_out_is_named_and_neither_is_removed(agent, killed):
    truncate(killed / "checkpoint" / OLDER / "state.json")
    remove(killed / "checkpoint" / NEWEST / "state.safetensors")
    with pytest.raises(CheckpointError) as found:
        fit(agent, killed)
    place = killed / "checkpoint"
    assert str(found.value) == (
        f"{place / NEWEST}: damaged checkpoint (state.safetensors: No such file or directory); "
        f"{place / OLDER}: damaged checkpoint (state.json is not JSON); "
        f"no other checkpoint is left. Restore one of them, or delete {place} to train from step 0"
    )
    assert Checkpoints(place).steps() == [512, 640]


def rewritten(folder, **changes):
    """Change values of a checkpoint, and its checksum with them."""
    from moe_trader.trainer.checkpoint import _sha256

    content = json.loads((folder / "state.json").read_text())
    del content["sha256"]
    content |= changes
    (folder / "state.json").write_text(json.dumps(content | {"sha256": _sha256(content)}))


def test_one_of_another_format_version_is_refused_and_kept(agent, killed):
    rewritten(killed / "checkpoint" / NEWEST, format_version=7)
    with pytest.raises(
        CheckpointError, match=f"{NEWEST}: format version 7, and this moe_trader reads 1; go on with the version that"
    ):
        fit(agent, killed)
    assert Checkpoints(killed / "checkpoint").steps() == [512, 640]


def test_other_prices_are_refused(agent, killed):
    with pytest.raises(CheckpointError, match="the prices are not those of the checkpoint; restore the data, or train"):
        fit(agent, killed, task={"market_sha256": "other"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 2}, "state: expected one of the same experts and gate; model.* has shape"),
        ({"net_arch": [8, 16]}, "state: expected one of the same experts and gate; model.* has shape"),
    ],
)
def test_one_of_another_shape_is_refused(changes, message, make_agent, killed):
    before = {file: sha256(file) for file in killed.rglob("*") if file.is_file()}
    start, end = message.split("*")
    with pytest.raises(CheckpointError) as found:
        fit(make_agent(n_epochs=1, **changes), killed)
    assert str(found.value).startswith(f"{killed / 'checkpoint'}: {start}")
    assert end in str(found.value)
    assert {file: sha256(file) for file in before} == before


def test_other_versions_are_logged(agent, killed, warnings):
    values = json.loads((killed / "checkpoint" / NEWEST / "state.json").read_text())["values"]
    rewritten(killed / "checkpoint" / NEWEST, values=values | {"versions": {"torch": "1.0"}})
    fit(agent, killed)
    assert "The checkpoint was written by other versions: results may differ in the last digits" in warnings()


def test_a_checkpoint_every_so_many_seconds_and_at_the_end(make_agent, tmp_path, warnings):
    fit(make_agent(n_epochs=1), tmp_path, checkpoint_seconds=3600)
    assert Checkpoints(tmp_path / "checkpoint").steps() == [768]


def test_an_environment_without_a_state_trains_with_one_warning(make_agent, prepared, whole, tmp_path, warnings):
    class Plain(VecEnvWrapper):
        """SB3's wrappers pass on what they do not know, ``state`` too."""

        state = None

        def reset(self):
            return self.venv.reset()

        def step_wait(self):
            return self.venv.step_wait()

    fit(make_agent(n_epochs=1, env=Plain(prepared.training_env(4, 0))), tmp_path)
    assert warnings() == "No checkpoints: Plain has no state() to go on from"
    assert Checkpoints(tmp_path / "checkpoint").steps() == []
    ours, theirs = (load_file(place / "bundle" / "policy.safetensors") for place in (tmp_path, whole))
    assert all((ours[name] == theirs[name]).all() for name in theirs)


# --- what goes on with it ---------------------------------------------------------------------------------------------


def test_a_progress_file_whose_header_grew_after_the_checkpoint(agent, killed, whole, warnings):
    lines = (killed / "progress.csv").read_text().splitlines()
    (killed / "progress.csv").write_text("\n".join([f"{lines[0]},later", *(f"{line},1" for line in lines[1:])]) + "\n")
    fit(agent, killed)
    assert rows_of(killed) == rows_of(whole)
    assert not warnings()


def test_a_row_that_a_kill_cut_off_is_written_again(agent, killed, whole, warnings):
    truncate(killed / "progress.csv")
    fit(agent, killed)
    assert rows_of(killed) == rows_of(whole)
    assert not warnings()


def test_a_progress_file_that_was_deleted_goes_on_with_a_warning(agent, killed, whole, warnings):
    (killed / "progress.csv").unlink()
    fit(agent, killed)
    assert warnings() == f"{killed / 'progress.csv'} was deleted: its 5 rows are lost, the rows of later updates go on"
    assert weights(killed) == weights(whole)
    assert rows_of(killed) == rows_of(whole)[5:]


def test_rows_that_were_deleted_are_logged(agent, killed, whole, warnings):
    lines = (killed / "progress.csv").read_text().splitlines()
    (killed / "progress.csv").write_text("\n".join(lines[:3]) + "\n")
    fit(agent, killed)
    assert warnings() == (f"{killed / 'progress.csv'} was altered: it has 2 of 5 rows; the rows of later updates go on")
    assert rows_of(killed) == [*rows_of(whole)[:2], *rows_of(whole)[5:]]


@pytest.mark.parametrize("content", [b"mine;yours\n1;2\n", b"", b"\xff\xfe\x00\n", b'"' + b"x" * 200_000 + b'"\n'])
def test_a_progress_file_with_other_columns_is_kept_under_another_name(content, agent, killed, whole, warnings):
    (killed / "progress.csv").write_bytes(content)
    fit(agent, killed)
    assert (killed / "progress.altered.csv").read_bytes() == content
    assert "progress.csv was altered: its columns are not those of the run; it is kept as" in warnings()
    assert weights(killed) == weights(whole)
    assert rows_of(killed) == rows_of(whole)[5:]


def test_tensorboard_shows_no_step_twice(agent, killed, whole):
    shown = []
    fit(agent, killed)
    for directory in (killed, whole):
        events = EventAccumulator(str(directory))
        events.Reload()
        names = [name for name in events.Tags()["scalars"] if name not in TIMES]
        shown.append({name: [(one.step, one.value) for one in events.Scalars(name)] for name in names})
    assert len(list(killed.glob("events.*"))) == 2
    assert shown[0] == shown[1]
    assert len(shown[0]["mixture/gate_entropy"]) == 6


# --- files and directories that are whole or not there ----------------------------------------------------------------


def test_what_a_killed_process_left_half_written_is_removed(agent, killed, whole):
    partial = killed / "checkpoint" / "000000000768.0123abcd.partial"
    shutil.copytree(killed / "checkpoint" / NEWEST, partial)
    fit(agent, killed)
    assert not partial.exists()
    assert weights(killed) == weights(whole)


def test_only_what_durable_names_is_removed(tmp_path):
    names = {"a.0123abcd.partial", "b.partial", "c.0123abcd.partial.txt", "d.xyz.partial"}
    for name in names:
        (tmp_path / name).mkdir()
    (tmp_path / "e.89abcdef.partial").touch()
    remove_partial(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == names - {"a.0123abcd.partial"}


def test_the_folders_of_a_run_are_all_that_hold_files(run_of_seeds):
    found = {file.parent for file in run_of_seeds.rglob("*") if file.is_file()}
    ours = set(written_folders(run_of_seeds))
    other = {
        path
        for path in found - ours
        if {"bundle", "figures", "ensemble"}.isdisjoint(path.relative_to(run_of_seeds).parts)
    }
    assert {path.parent.name for path in other} <= {"checkpoint"}  # of each step


def test_a_directory_that_cannot_be_renamed_leaves_the_old_one(tmp_path, monkeypatch):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "file").write_text("old")
    rename = type(tmp_path).rename

    def fail(self, target):
        if self.name.endswith(".partial") and (self / "new").exists():
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(type(tmp_path), "rename", fail)
    with pytest.raises(OSError, match="No space left"), new_directory(tmp_path / "one") as building:
        (building / "new").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
    assert (tmp_path / "one" / "file").read_text() == "old"


def test_neither_a_file_nor_a_directory_is_written_where_the_directory_around_it_is_gone(tmp_path):
    gone = tmp_path / "gone"
    with pytest.raises(FileNotFoundError):
        write_file(gone / "file", "text")
    with pytest.raises(FileNotFoundError), new_directory(gone / "one"):
        pass
    assert not gone.exists()
