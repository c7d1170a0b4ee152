"""A gate, a loss of the gate and an expert family of a user's own package (`tests/plugin`), by the README's steps."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from commands import SCRIPTS, call, moe_train, only_run
from stable_baselines3 import A2C

from moe_trader.agent import MoEAgent

PLUGIN = Path(__file__).parent / "plugin"
ON_PATH = os.pathsep.join([str(PLUGIN), os.environ.get("PYTHONPATH", "")])
SMALL_TASK = [
    "env=synthetic",
    "env.market.bars=700",
    "env.market.series={train: 2, validation: 1, test: 2}",
    "trainer.n_envs=4",
    "trainer.total_timesteps=1024",
    "single_policy=false",
    "shapley=false",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plugin")
    words = ["--config-dir", PLUGIN / "conf", "expert=awr", "gating=linear", "plugins=[my_parts]", *SMALL_TASK]
    done = call(SCRIPTS / "moe-train", *words, cwd=folder, PYTHONPATH=ON_PATH)
    assert done.returncode == 0, done.stderr
    return only_run(folder)


def test_a_run_of_ones_own_parts_is_as_any_other(run):
    progress = pd.read_csv(run / "progress.csv")
    assert {"gate_loss/follow", "gate_loss/router_z", "train/policy_loss", "importance/awr_2"} <= {*progress.columns}
    assert progress["gradient_norm/gate"].iloc[-1] > 0
    experts = pd.read_csv(run / "evaluation" / "experts.csv")
    assert {"awr_1", "awr_2", "mixture"} <= {*experts["strategy"]}
    evaluated = call(SCRIPTS / "moe-evaluate", run, "--plugins", "my_parts", cwd=run, PYTHONPATH=ON_PATH)
    assert evaluated.returncode == 0, evaluated.stderr


def test_its_bundle_opens_and_its_experts_open_without_it(run, monkeypatch):
    monkeypatch.syspath_prepend(PLUGIN)
    agent = MoEAgent.load(run / "bundle", plugins=["my_parts"])
    observations = np.random.default_rng(0).normal(size=(50, agent.model.n_columns)).astype(np.float32)
    own = agent.expert_actions(observations)
    for k, name in enumerate(agent.expert_names):
        expert = A2C.load(run / "bundle" / "experts" / f"{k + 1:02}_{name}.zip", device="cpu")
        seen = agent.model.seen_by_experts(torch.from_numpy(observations)).numpy()
        np.testing.assert_array_equal(expert.predict(seen, deterministic=True)[0], own[:, k])


def test_without_the_package_it_is_refused_with_the_way_out(tmp_path):
    done = moe_train("--config-dir", PLUGIN / "conf", "expert=awr", *SMALL_TASK, cwd=tmp_path)
    assert done.returncode == 1
    assert "ConfigError: expert._target_: 'my_parts.awr.AWRExperts' is outside moe_trader. To build" in done.stderr
