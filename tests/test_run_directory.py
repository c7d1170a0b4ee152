"""A finished run stays as it is: its directory is never used again, and its saved config is read with distrust."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import commands
import pytest
from commands import SCRIPTS, moe_train
from filelock import FileLock
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, open_dict, read_write

from moe_trader import evaluate, train
from moe_trader.bundle import BundleError
from moe_trader.config import config_directory, load_config, to_plain
from moe_trader.option import ConfigError
from moe_trader.rerun import changed_config, rerun_arguments
from moe_trader.run_directory import CLAIM, RunDirectories, check_free, claim, claimed_job, release_sweeps
from moe_trader.saved_config import as_of_seed, difference, record, save_as_of_seed

SMALL = (*commands.SMALL, "trainer.total_timesteps=128", "single_policy=false", "shapley=false")
HOLDS = "holds a run already; choose another directory, or go on with that run: moe-train resume"
SWEEP = (
    "holds a sweep already; choose another directory, or repeat the same command with trainer.resume=auto to go on "
    "with that sweep"
)


def state(directory):
    """Return what every file below a directory holds, and when it was written."""
    return {
        str(file.relative_to(directory)): (file.stat().st_mtime_ns, hashlib.sha256(file.read_bytes()).hexdigest())
        for file in directory.rglob("*")
        if file.is_file()
    }


@pytest.fixture
def run(finished_run, tmp_path, monkeypatch):
    """A copy of the finished run, ``run`` in the working directory."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


def composed(*overrides, folder=None):
    """Return a config with Hydra's own node, as a callback gets it."""
    with initialize_config_dir(version_base="1.3", config_dir=config_directory()):
        searched = [f"hydra.searchpath=[file://{folder}]"] if folder else []
        made = compose("train", overrides=[*searched, *overrides], return_hydra_config=True)
    with read_write(made), open_dict(made):
        made.hydra.runtime.cwd = str(Path.cwd())
    return made


def refusal(act, *arguments):
    with pytest.raises(SystemExit) as caught:
        act(*arguments)
    return str(caught.value)


# --- directories that are taken ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "override",
    [
        "hydra.run.dir=run",
        "++hydra.run.dir=run",
        "hydra.run.dir=run/",
        "hydra.run.dir=./other/../run",
        "hydra.run.dir=link",
        "hydra.run.dir=${hydra:runtime.cwd}/run",
        "hydra.run.dir=r${oc.decode:un}",
        "+mine=into_the_run",
    ],
)
def test_the_directory_of_a_finished_run_is_refused_however_it_is_named(override, run, tmp_path):
    (tmp_path / "link").symlink_to("run")
    (tmp_path / "conf" / "mine").mkdir(parents=True)
    mine = "# @package _global_\nhydra: {run: {dir: run}}\n"
    (tmp_path / "conf" / "mine" / "into_the_run.yaml").write_text(mine)
    before = state(run)
    said = refusal(RunDirectories().on_run_start, composed(override, folder=tmp_path / "conf"))
    assert re.fullmatch(rf"ConfigError: hydra\.run\.dir: \S+ {HOLDS} \S+", said)
    assert state(run) == before


def test_a_config_of_ones_own_cannot_write_into_a_finished_run(run, tmp_path):
    """Not even by a log file that is opened before the job starts, nor by callbacks of the same name."""
    (tmp_path / "conf" / "mine").mkdir(parents=True)
    (tmp_path / "conf" / "mine" / "mine.yaml").write_text(
        "# @package _global_\n"
        "hydra:\n"
        "  run: {dir: run}\n"
        "  output_subdir: .hydra\n"
        "  callbacks: {run_directories: {_target_: hydra.experimental.callback.Callback}}\n"
        "  job_logging: {handlers: {file: {mode: w, delay: false}}}\n"
    )
    before = state(run)
    done = moe_train(*SMALL, "seed=7", "+mine=mine", "--config-dir", "conf", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, f"ConfigError: hydra.run.dir: run {HOLDS} run\n")
    assert state(run) == before


@pytest.fixture
def sweep(run, tmp_path):
    """A directory of a sweep as version 0.1.0 left it, of one finished job."""
    (tmp_path / "S").mkdir()
    run.rename(tmp_path / "S" / "0")
    (tmp_path / "S" / "0" / CLAIM).unlink()
    (tmp_path / "S" / "multirun.yaml").write_text("seed: 0\n")
    return tmp_path / "S"


def test_a_sweep_is_not_begun_where_a_sweep_was(sweep, tmp_path):
    before = state(sweep)
    done = moe_train("-m", *SMALL, "seed=7,8", "expert.count=3", "hydra.sweep.dir=S", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"ConfigError: hydra.sweep.dir: S {SWEEP}\n"
    assert state(sweep) == before


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["hydra.sweep.dir=S", "hydra.sweep.subdir=new"], f"dir: S {SWEEP}"),
        (["hydra.sweep.dir=S/0"], f"dir: S/0 {HOLDS}"),
        (["hydra.sweep.dir=T", "hydra.sweep.subdir=../S/0"], f"subdir: T/../S/0 {HOLDS}"),
        (["hydra.sweep.dir=T", "hydra.sweep.subdir=''"], "subdir: '' is the directory of the sweep itself; give each"),
        (["hydra.sweep.dir=T", "hydra.sweep.subdir=."], "subdir: '.' is the directory of the sweep itself; give each"),
        (["hydra.sweep.dir=T", "hydra.sweep.subdir=/proc/x"], "subdir: /proc/x cannot be used (No such file or dir"),
        (["hydra.sweep.dir=''"], "dir: empty; give a directory, hydra.sweep.dir=PATH, or leave it out"),
    ],
)
def test_a_sweep_is_refused_by_the_setting_that_names_its_directory(overrides, reason, sweep, tmp_path):
    before = state(sweep)
    said = refusal(RunDirectories().on_multirun_start, composed(*overrides))
    assert said.startswith(f"ConfigError: hydra.sweep.{reason}")
    assert state(sweep) == before
    assert not (tmp_path / "T" / CLAIM).exists()


def test_a_job_whose_directory_is_taken_is_refused_and_the_others_go_on(sweep, tmp_path):
    """Side by side, in processes that the launcher starts."""
    (sweep / "multirun.yaml").unlink()  # a single run, by hydra.run.dir=S/0
    before = state(sweep / "0")
    done = moe_train("-m", *SMALL, "seed=7,8", "hydra.sweep.dir=S", cwd=tmp_path)
    assert done.returncode == 1
    assert f"ConfigError: hydra.sweep.subdir: {sweep / '0'} {HOLDS}" in done.stderr
    assert "Traceback" not in done.stderr
    assert state(sweep / "0") == before
    assert (sweep / "1" / "report.html").is_file()
    assert load_config(sweep / "1" / ".hydra" / "config.yaml").seed == 8
    assert (sweep / CLAIM).is_file()
    assert (sweep / "1" / CLAIM).is_file()


def test_two_sweeps_at_once_do_not_share_a_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    RunDirectories().on_multirun_start(composed("hydra.sweep.dir=S"))
    assert "S is claimed by another run" in refusal(RunDirectories().on_multirun_start, composed("hydra.sweep.dir=S"))
    release_sweeps()  # none of its jobs trained, as when all are refused
    RunDirectories().on_multirun_start(composed("hydra.sweep.dir=S"))
    (tmp_path / "S" / "0").mkdir()
    (tmp_path / "S" / "0" / "progress.csv").touch()
    release_sweeps()
    assert (tmp_path / "S" / CLAIM).is_file()


def test_two_runs_at_once_do_not_share_a_directory(tmp_path):
    long = [*SMALL, "trainer.total_timesteps=100000000", "hydra.run.dir=run"]
    with subprocess.Popen([SCRIPTS / "moe-train", *long], cwd=tmp_path, stdout=subprocess.DEVNULL) as first:
        try:
            last = tmp_path / "run" / ".hydra" / "overrides.yaml"
            while not (last.is_file() and last.stat().st_size):
                assert first.poll() is None
                time.sleep(0.05)
            time.sleep(0.2)  # until its last line is written
            before = state(tmp_path / "run" / ".hydra")
            second = moe_train(*SMALL, "seed=1", "hydra.run.dir=run", cwd=tmp_path)
        finally:
            first.kill()
    assert second.returncode == 1
    assert re.match(r"ConfigError: hydra\.run\.dir: run (is claimed by another run|holds a run already)", second.stderr)
    assert state(tmp_path / "run" / ".hydra") == before


def test_of_many_that_claim_a_directory_at_once_one_gets_it(tmp_path):
    held = []

    def attempt(_):
        try:
            held.append(claim(tmp_path / "run", "hydra.run.dir"))
        except ConfigError as error:
            return str(error)
        return "claimed"

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(attempt, range(64)))
    assert results.count("claimed") == 1
    said = f"hydra.run.dir: {tmp_path / 'run'} is claimed by another run, which is at work; wait for it, or choose "
    assert {one for one in results if one != "claimed"} == {said + "another directory"}
    held[0].release()
    claim(tmp_path / "run", "hydra.run.dir")  # what a killed process claimed is free again


def test_a_process_that_was_killed_holds_nothing(tmp_path):
    hold = "import sys, time; from moe_trader.run_directory import *; from pathlib import Path\n"
    hold += "held = claim(Path('run'), 'x'); print('held', flush=True); time.sleep(300)"
    with subprocess.Popen([sys.executable, "-c", hold], cwd=tmp_path, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(ConfigError, match="is claimed by another run, which is at work"):
            claim(tmp_path / "run", "x")
        process.kill()
    claim(tmp_path / "run", "x").release()


@pytest.fixture
def job(tmp_path):
    """The config of a job in ``tmp_path/run``, as Hydra gives it to the job."""
    whole = composed(f"hydra.run.dir={tmp_path}/run")
    with read_write(whole), open_dict(whole):
        whole.hydra.runtime.output_dir = f"{tmp_path}/run"
        whole.hydra.job.name = "train"
        whole.hydra.job.override_dirname = ""
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(whole)
    yield OmegaConf.masked_copy(whole, [key for key in whole if key != "hydra"])
    HydraConfig.instance().cfg = before


def test_a_refused_run_leaves_its_directory_to_the_corrected_command(job, tmp_path):
    for _ in range(2):
        with pytest.raises(ConfigError, match="a mistake"), claimed_job(job, keep=True) as directory:  # noqa: PT012
            assert (directory / CLAIM).is_file()
            raise ConfigError("a mistake")
        assert sorted(state(directory)) == [".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml"]
    with pytest.raises(KeyboardInterrupt), claimed_job(job, keep=True):  # noqa: PT012
        (tmp_path / "run" / "progress.csv").touch()
        raise KeyboardInterrupt
    assert (tmp_path / "run" / CLAIM).is_file()  # there is something to keep
    with pytest.raises(ConfigError, match=HOLDS), claimed_job(job, keep=True):
        pass


def test_a_picture_of_the_data_may_be_drawn_again_but_not_into_a_run(job, tmp_path):
    for _ in range(2):
        with claimed_job(job, keep=False) as directory:
            (directory / "market.png").touch()
    (tmp_path / "run" / "progress.csv").touch()
    with pytest.raises(ConfigError, match=HOLDS), claimed_job(job, keep=False):
        pass


def test_a_job_saves_what_hydra_would(job, tmp_path):
    with claimed_job(job, keep=True):
        pass
    saved = {file.name: OmegaConf.load(file) for file in (tmp_path / "run" / ".hydra").iterdir()}
    assert saved["config.yaml"] == job
    assert OmegaConf.to_container(saved["hydra.yaml"], resolve=False)["hydra"]["run"]["dir"] == f"{tmp_path}/run"
    assert saved["overrides.yaml"] == []


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("hydra.run.dir=''", "empty; give a directory, hydra.run.dir=PATH, or leave it out"),
        ("hydra.run.dir='  '", "empty; give a directory, hydra.run.dir=PATH, or leave it out"),
        ("hydra.run.dir=file", "file cannot be used (not a directory); choose another directory"),
        ("hydra.run.dir=file/below", "file/below cannot be used (Not a directory); choose another directory"),
        ("hydra.run.dir=/proc/x", "/proc/x cannot be used (No such file or directory); choose another directory"),
        ("hydra.run.dir=circle", "circle cannot be used (Symlink loop from"),
        ("hydra.run.dir=dangling", "dangling cannot be used (not a directory); choose another directory"),
        (f"hydra.run.dir={'a' * 300}", f"{'a' * 300} cannot be used (File name too long); choose another directory"),
        ("hydra.run.dir=${nowhere}", "Interpolation key 'nowhere' not found"),
    ],
)
def test_a_directory_that_cannot_be_used_is_refused_in_one_line(override, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "dangling").symlink_to("nowhere")
    said = refusal(RunDirectories().on_run_start, composed(override))
    assert said.startswith(f"ConfigError: hydra.run.dir: {reason}")
    assert "\n" not in said


def test_a_directory_whose_name_no_system_takes_is_refused():
    with pytest.raises(
        ConfigError, match=r"^hydra\.run\.dir: \S+ cannot be used \(embedded null byte\); choose another"
    ):
        check_free(Path("a\0"), "hydra.run.dir")


def test_a_directory_that_cannot_be_written_is_refused_in_one_line(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(FileLock, "acquire", refuse)  # whoever runs the tests may be root
    with pytest.raises(
        ConfigError, match=r"^hydra\.run\.dir: \S+ cannot be used \(Permission denied\); choose another"
    ):
        claim(tmp_path, "hydra.run.dir")


def test_an_unusable_directory_ends_the_command_in_one_line(tmp_path):
    done = moe_train(*SMALL, "hydra.run.dir=", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "ConfigError: hydra.run.dir: empty; give a directory, hydra.run.dir=PATH, or leave it out\n"
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_into_a_bundle(run):
    for inside in ("bundle", "bundle/experts", "bundle/new"):
        with pytest.raises(ConfigError, match=rf"^x: \S+/{inside} lies inside a saved bundle; choose another"):
            check_free(run / inside, "x")
    assert not (run / "bundle" / "new").exists()


def test_an_evaluation_is_not_written_into_a_run(run):
    before = state(run)
    assert refusal(evaluate.main, ["run", "--output", "run"]) == f"ConfigError: --output: run {HOLDS} run"
    assert state(run) == before


def test_hydra_s_rerun_of_a_pickle_is_refused():
    assert refusal(train.main, ["--experimental-rerun", "config.pickle"]) == (
        "--experimental-rerun: it unpickles a file, which can run any code; use moe-train rerun RUN"
    )


# --- saved configs ----------------------------------------------------------------------------------------------------

LOGGING = "hydra: {{job_logging: {{handlers: {{e: {{class: logging.FileHandler, filename: {}, mode: w}}}}}}}}\n"


def test_hydra_s_own_node_in_a_saved_config_does_nothing(run, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("precious")
    config = run / ".hydra" / "config.yaml"
    config.write_text(config.read_text() + LOGGING.format(precious))
    for act in (
        (train.main, ["rerun", "run"]),
        (train.main, ["--config-path", str(run / ".hydra"), "--config-name", "config"]),
        (train.main, ["--config-path", f"file://{run}/.hydra", "--config-name", "config.yaml", "--cfg", "job"]),
        (evaluate.main, ["run"]),
    ):
        said = refusal(*act)
        assert re.match(r"ConfigError: \S+/?\.hydra/config\.yaml: `hydra`: a saved config holds no instructions", said)
    assert precious.read_text() == "precious"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("defaults: [env: csv]\nseed: 1\n", "`defaults`: a saved config holds no instructions to Hydra"),
        ("# @package hydra\nseed: 1\n", "`# @package hydra`: a saved config holds no instructions to Hydra"),
        ("\n#@package _global_\nseed: 1\n", "`#@package _global_`: a saved config holds no instructions to Hydra"),
        ("hydra:\n", "`hydra`: a saved config holds no instructions to Hydra"),
        ("a: &a [1]\nb: [*a, *a]\n", "line 1: YAML anchors and aliases"),
        ("- 1\n", "expected a mapping, as moe-train saves it"),
        ("", "expected a mapping, as moe-train saves it"),
        ("[" * 1000, "line 1: nested more than 100 levels deep"),
        ("a: ${b\n", "no viable alternative at input"),
        ("a: {1.5: 2, null: 3}\n", "Incompatible key type 'NoneType'"),
    ],
)
def test_a_saved_config_that_is_not_plain_is_refused_in_one_line(content, reason, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=rf"^{re.escape(str(file))}: {re.escape(reason)}") as caught:
        load_config(file)
    assert "\n" not in str(caught.value)


@pytest.fixture
def stranger(run, tmp_path, monkeypatch):
    """A run whose config lists a package that must not be imported."""
    (tmp_path / "evilmod.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    config = run / ".hydra" / "config.yaml"
    config.write_text(config.read_text().replace("plugins: []", "plugins: [evilmod, other]"))
    return run


def test_plugins_of_a_saved_run_are_imported_by_the_users_word_only(stranger):
    says = "plugins: this run imports evilmod, other, which can run any code. If you trust this code: "
    for act, command in (
        ((train.main, ["rerun", "run", "seed=2"]), "moe-train rerun run seed=2 --plugins evilmod,other"),
        ((train.main, ["rerun", "run", "--plugins", "other"]), "moe-train rerun run --plugins evilmod,other"),
        ((evaluate.main, ["run", "--split=test"]), "moe-evaluate run --split=test --plugins evilmod,other"),
        ((evaluate.main, ["run", "--plugins", "x"]), "moe-evaluate run --plugins x --plugins evilmod,other"),
        (
            (train.main, ["--config-path", str(stranger / ".hydra"), "--config-name", "config", "seed=2"]),
            "add the override 'plugins=[evilmod,other]'",
        ),
    ):
        assert refusal(*act).endswith(says + command)


def test_plugins_that_the_user_named_are_passed_on(stranger):
    for named in (["--plugins", "evilmod,other"], ["--plugins=evilmod,other", "seed=2"]):
        arguments = rerun_arguments(["run", *named])
        assert "plugins=['evilmod','other']" in arguments
        assert not any(word.startswith("--plugins") for word in arguments)
    assert "plugins=[evilmod]" in rerun_arguments(["run", "plugins=[evilmod]"])  # Hydra's own way to say it
    assert refusal(evaluate.main, ["run", "--plugins", "evilmod,other"]) == "0"  # evaluated, identical


@pytest.mark.parametrize("plugins", ["evilmod", "['${oc.env:X}']", "[a.b]", "{a: 1}", "[[a]]", "'${seed}'"])
def test_plugins_that_are_no_list_of_names_are_refused(plugins, run):
    config = run / ".hydra" / "config.yaml"
    config.write_text(config.read_text().replace("plugins: []", f"plugins: {plugins}"))
    assert "plugins: expected a list of top-level packages, got" in refusal(evaluate.main, ["run", "--plugins=a"])
    assert "plugins: expected a list of top-level packages, got" in refusal(rerun_arguments, ["run", "--plugins=a"])


# --- the config of a run stands in its bundle -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "trained"),
    [
        ("env.clip", 1.0, "5.0"),
        ("env.fill", "this_close", "next_open"),
        ("expert.gamma", 0.1, "0.9"),
        ("seed", 1, "0"),
        ("env.features.trend.spans", [10], "["),
        ("gating.losses.mine", 1, "nothing"),
    ],
)
def test_a_config_that_is_not_the_runs_is_refused_by_name(key, value, trained, run):
    config = OmegaConf.load(run / ".hydra" / "config.yaml")
    OmegaConf.update(config, key, value)
    OmegaConf.save(config, run / ".hydra" / "config.yaml")
    said = refusal(evaluate.main, ["run"])
    assert said.startswith(
        f"ConfigError: {key}: run/.hydra/config.yaml says {value}, and the agent was trained with {trained}"
    )
    assert said.endswith("; restore the config of the run, or train again")
    assert changed_config(run).startswith(
        f"{key}: the config saved in {run} says {value}, and the run was trained with {trained}"
    )


def test_a_setting_that_is_gone_from_a_config_is_named(run):
    config = OmegaConf.load(run / ".hydra" / "config.yaml")
    del config.env.market.bars
    OmegaConf.save(config, run / ".hydra" / "config.yaml")
    assert refusal(evaluate.main, ["run"]).startswith(
        "ConfigError: env.market.bars: run/.hydra/config.yaml says nothing, and the agent was trained with 700;"
    )


def test_what_changes_no_result_may_differ(run):
    plain = to_plain(load_config(run / ".hydra" / "config.yaml"))
    task = json.loads((run / "bundle" / "manifest.json").read_text())["task"]
    assert difference(plain, task) is None
    assert changed_config(run) is None
    moved = {**plain["env"], "market": {**plain["env"]["market"], "path": "elsewhere"}}
    assert difference({**plain, "rerun_of": "run", "plugins": ["mine"], "device": "cuda", "env": moved}, task) is None
    assert difference({**plain, "expert": {**plain["expert"], "count": 2.0}}, task) is None  # 2 as YAML may have it


def test_a_bundle_of_0_1_0_keeps_no_config(run):
    task = json.loads((run / "bundle" / "manifest.json").read_text())["task"]
    old = {key: value for key, value in task.items() if not key.startswith("run_config")}
    assert evaluate.check_config({}, old, run) is False
    with pytest.raises(BundleError, match="holds no run_config of the sha256 that it states; copy the bundle"):
        evaluate.check_config({}, old | {"run_config": {"seed": 1}}, run)
    with pytest.raises(BundleError, match="holds no run_config of the sha256 that it states"):
        evaluate.check_config({}, task | {"run_config_sha256": "0" * 64}, run)


def test_the_config_of_a_seed_is_the_one_that_is_saved_for_it(run, tmp_path):
    save_as_of_seed(run / ".hydra", tmp_path / "seed_3", 3)
    plain = to_plain(load_config(run / ".hydra" / "config.yaml"))
    several = {**plain, "seeds": 5}
    saved = to_plain(load_config(tmp_path / "seed_3" / "config.yaml"))
    assert difference(saved, record(as_of_seed(several, 3))) is None
    assert difference(saved, record(as_of_seed(several, 4))) == ("seed", "3", "4")


@pytest.mark.parametrize("value", [0.0, -1.0])  # a manifest with NaN or infinity is no manifest: tests/test_bundle.py
def test_a_scaler_that_scales_nothing_is_refused_by_name(value, run):
    file = run / "bundle" / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["task"]["scaler"]["scale"][1] = value
    file.write_text(json.dumps(manifest))
    name = manifest["task"]["features"][1]
    said = refusal(evaluate.main, ["run"])
    assert re.search(
        rf"no usable scaler \({name}: expected a finite mean and a finite scale above 0, got \S+ and ", said
    )


# --- saved configs under other names, and places within a run ---------------------------------------------------------


@pytest.mark.parametrize("at", ["link", "linked"])
def test_a_link_does_not_hide_a_saved_config(at, run, tmp_path):
    """Neither a link called .hydra to a folder of another name, nor a link of another name to .hydra."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    if at == "link":
        (run / ".hydra").rename(run / "plain")
        (run / ".hydra").symlink_to("plain")
    else:
        (run / "linked").symlink_to(".hydra")
    folder = run / (".hydra" if at == "link" else "linked")
    with (folder / "config.yaml").open("a") as file:
        file.write(LOGGING.format(victim))
    for arguments in (
        ["rerun", "run", "plugins=[]"],
        ["--config-path", str(folder.absolute()), "--config-name", "config"],
    ):
        assert "a saved config holds no instructions to Hydra" in refusal(train.main, arguments)
    assert victim.read_text() == "precious"


def test_nothing_is_written_below_a_finished_run(run, tmp_path):
    before = state(run)
    for place in ("run/evaluation", "run/again/and/again"):
        with pytest.raises(ConfigError, match=f"^--output: {place} lies inside the directory of a run; choose another"):
            check_free(Path(place), "--output")
    assert state(run) == before
