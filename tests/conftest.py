"""What every test may use: the real config made small, markets made by hand, and finished runs made once.

Runs are made by the commands and take seconds: a test that needs a run directory or a bundle asks for ``finished_run``,
``run_of_seeds`` or ``saved_bundle`` and only reads it, or for ``copy_of(...)`` and changes the copy.
"""

import dataclasses
import functools
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import SMALL, moe_train, only_run
from composed import settings_of
from filelock import FileLock

from moe_trader.env import Instrument, Market

ROOT = Path(__file__).resolve().parents[1]

SMALL_MARKET = (
    "env=synthetic",
    "env.market.bars=700",
    "env.market.series.train=2",
    "env.market.series.validation=1",
    "env.market.series.test=1",
)


@pytest.fixture(scope="session")
def make_settings():
    """``make_settings("env.fill=next_close", ...)``: the real config on a small synthetic market, as ``RunSettings``.

    Overrides come last and win; ``make_settings("env=nasdaq", small=False)`` starts from the config as it stands.
    """

    def make(*overrides, small=True):
        return settings_of(*(SMALL_MARKET if small else ()), *overrides)

    return make


@pytest.fixture(scope="session")
def settings(make_settings):
    """The real config on the small synthetic market."""
    return make_settings()


@pytest.fixture(scope="session")
def prepared(settings):
    """The small synthetic task with its bars loaded; immutable, each environment made from it is new."""
    return settings.env.prepare()


@pytest.fixture(scope="session")
def prepared_for(settings, prepared):
    """``prepared_for(gating)``: the small synthetic task as this gate needs to see it."""

    @functools.cache
    def seen(gate_input):
        return settings.env.prepare(gate_input=gate_input) if gate_input.beyond_the_window else prepared

    return lambda gating: seen(gating.gate_input())


@pytest.fixture(scope="session")
def make_instrument():
    """``make_instrument(close, open=..., time=...)``: bars by hand; by default daily, opening at the previous close."""

    def make(close, open=None, time=None, symbol="hand", regime=None):
        close = np.asarray(close, dtype=np.float64)
        opening = np.concatenate([close[:1], close[:-1]]) if open is None else np.asarray(open, dtype=np.float64)
        if time is None:
            time = np.busday_offset("2000-01-03", np.arange(len(close)), roll="forward")
        return Instrument(
            symbol=symbol,
            time=np.asarray(time).astype("datetime64[us]"),
            open=opening,
            high=np.maximum(opening, close),
            low=np.minimum(opening, close),
            close=close,
            volume=np.zeros(len(close)),
            regime=regime,
        )

    return make


@pytest.fixture(scope="session")
def make_market(make_instrument):
    """``make_market(close, open=..., time=...)``: a market of one instrument made by hand."""

    def make(close, **bars):
        return Market("by_hand", (make_instrument(close, **bars),), opens_are_real=True)

    return make


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Results are bit-identical only for the same number of PyTorch threads."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def small_experts(settings):
    """``small_experts(count=2, ...)``: the real expert settings made small: 128 bars an update on 4 lanes."""

    def make(**changes):
        if "learning_rate" in changes:  # one rate unless a test asks for two
            changes.setdefault("final_learning_rate", changes["learning_rate"])
        small = {"count": 3, "net_arch": [16, 16], "n_steps": 32, "batch_size": 64, "n_epochs": 3}
        return dataclasses.replace(settings.expert, **(small | changes))

    return make


@pytest.fixture(scope="session")
def make_agent(settings, prepared_for, small_experts):
    """``make_agent(seed=1, count=2, ...)``: a fresh small agent; ``env`` and ``gating`` replace task and gate."""
    from moe_trader.agent import MoEAgent

    def make(seed=0, env=None, gating=None, **changes):
        gating = gating or settings.gating
        env = prepared_for(gating).training_env(4, seed) if env is None else env
        return MoEAgent(env, small_experts(**changes), gating, seed=seed)

    return make


@pytest.fixture(scope="session")
def made_once(tmp_path_factory, worker_id):
    """``made_once("name", make)``: a directory that ``make(directory)`` filled, once for all workers; only read it."""
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent  # each worker has a base of its own

    def made(name, make):
        directory, finished = shared / name, shared / f"{name}.finished"
        with FileLock(shared / f"{name}.lock"):
            if not finished.is_file():
                shutil.rmtree(directory, ignore_errors=True)  # another worker failed at it
                directory.mkdir()
                make(directory)
                finished.touch()
        return directory

    return made


@pytest.fixture(scope="session")
def run_once(made_once):
    """``run_once("name", "gating=oracle", ...)``: the folder where ``moe-train`` ran on ``SMALL``; only read it.

    ``stdout.txt`` in it is what the command printed. The run is below ``outputs``, unless ``hydra.run.dir`` says
    another place.
    """

    def run(name, *overrides):
        def make(folder):
            done = moe_train(*SMALL, *overrides, cwd=folder)
            assert done.returncode == 0, done.stderr
            (folder / "stdout.txt").write_text(done.stdout, encoding="utf-8")

        return made_once(name, make)

    return run


@pytest.fixture(scope="session")
def finished_run_folder(run_once):
    features = "env/features=[multi_horizon,regime_probabilities]", "env.features.regime_probabilities.states=2"
    return run_once("finished_run", *features)


@pytest.fixture(scope="session")
def finished_run(finished_run_folder):
    """The run directory of ``SMALL``: 2 experts, a softmax gate, a single policy, one fitted feature; only read it."""
    return only_run(finished_run_folder)


@pytest.fixture(scope="session")
def finished_run_printed(finished_run_folder):
    """What ``moe-train`` printed when it made ``finished_run``."""
    return (finished_run_folder / "stdout.txt").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def saved_bundle(finished_run):
    """The bundle of ``finished_run``; only read it."""
    return finished_run / "bundle"


@pytest.fixture(scope="session")
def run_of_seeds_folder(run_once):
    return run_once("run_of_seeds", "seed=1", "seeds=2", "hydra.run.dir=run")


@pytest.fixture(scope="session")
def run_of_seeds(run_of_seeds_folder):
    """A run directory of the seeds 1 and 2 of ``SMALL``, with single policies; only read it."""
    return run_of_seeds_folder / "run"


@pytest.fixture(scope="session")
def run_of_seeds_printed(run_of_seeds_folder):
    """What ``moe-train`` printed when it made ``run_of_seeds``."""
    return (run_of_seeds_folder / "stdout.txt").read_text(encoding="utf-8")


@pytest.fixture
def copy_of(tmp_path):
    """``copy_of(finished_run)``: a copy of a run directory or a bundle, which the test may change."""
    return lambda directory: Path(shutil.copytree(directory, tmp_path / "copies" / directory.name))


@pytest.fixture
def evaluate_here(capsys):
    """``evaluate_here(run)``: ``moe-evaluate`` in this process, which has its imports: exit status and what it said."""
    from moe_trader.evaluate import main

    def evaluate(run):
        with pytest.raises(SystemExit) as left:
            main([str(run)])
        code, printed = left.value.code, capsys.readouterr().out
        return (1, code) if isinstance(code, str) else (code, printed)

    return evaluate


@pytest.fixture
def pendulum():
    """``pendulum(seed)``: two lanes of a Box-action environment that is not ours."""
    from stable_baselines3.common.env_util import make_vec_env

    made = []

    def make(seed=0):
        made.append(make_vec_env("Pendulum-v1", n_envs=2, seed=seed))
        return made[-1]

    yield make
    for env in made:
        env.close()


@pytest.fixture
def write(tmp_path):
    """``write("name.csv", "header", "row", ...)``: a file of these lines."""

    def to_file(name, *lines):
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return to_file


@pytest.fixture
def load(make_settings):
    """``load(path, "env.market.adjust=false")``: the market of csv files; ``env="parquet"`` of Parquet files."""

    def made(path, *overrides, env="csv"):
        named = not isinstance(path, Path)  # in Hydra's words: several, a glob, a home
        words = path if named else "bars.csv"
        source = make_settings(f"env={env}", f"env.path={words}", *overrides, small=False).env.market
        return (source if named else dataclasses.replace(source, path=str(path))).load()

    return made


@pytest.fixture
def warnings(caplog):
    """What was logged as a warning, as one text."""
    caplog.set_level(logging.INFO, logger="moe_trader")
    return lambda level=logging.WARNING: "\n".join(one.getMessage() for one in caplog.records if one.levelno == level)
