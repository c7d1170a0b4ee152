"""Arguments of the Python API: what is not one is refused by its name, whatever it is."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from moe_trader.agent import MoEAgent
from moe_trader.argument import to_path, whole_number


@pytest.mark.parametrize("given", [3, np.int64(3), np.uint8(3), np.array(3), torch.tensor(3)])
def test_whole_numbers_of_every_type_are_read(given):
    found = whole_number(given, "n")
    assert (type(found), found) == (int, 3)


STRAY = torch.zeros(3, requires_grad=True)


@pytest.mark.parametrize("given", [True, 0, 11, 2.0, np.nan, "3", None, [3], np.zeros(3), STRAY, 10**400])
def test_other_numbers_are_refused_with_their_bounds(given):
    with pytest.raises(ValueError, match=r"^n: expected a whole number from 1 to 10, got "):
        whole_number(given, "n", most=10)


def test_paths_are_texts_or_paths(tmp_path):
    assert to_path(str(tmp_path), "path") == to_path(tmp_path, "path") == tmp_path
    with pytest.raises(TypeError, match=r"^path: expected str | os\.PathLike, got b'x', of type bytes$"):
        to_path(b"x", "path")


WRONG = {
    "callback": lambda agent, task, place, _: agent.learn(1, callback=3),
    "callback in a list": lambda agent, task, place, _: agent.learn(1, callback=["x"]),
    "path": lambda agent, task, place, _: agent.save(3),
    "path of a bundle": lambda agent, task, place, _: MoEAgent.load(None),
    "task": lambda agent, task, place, _: agent.save(place / "new", task=[1]),
    "env": lambda agent, task, place, _: MoEAgent.load(place, env=1.5),
    "expert": lambda agent, task, place, _: MoEAgent(task.training_env(2, 0), agent.gating, agent.gating, seed=0),
    "gating": lambda agent, task, place, _: MoEAgent(task.training_env(2, 0), agent.expert, "softmax", seed=0),
    "market": lambda agent, task, place, _: task.task.prepare(market=1.5),
    "scaler": lambda agent, task, place, _: task.task.prepare(scaler=(0, 1), market=task.market),
    "gate_input": lambda agent, task, place, _: task.task.prepare(gate_input=1, market=task.market),
    "agent": lambda agent, task, place, trainer: trainer.fit("x", place / "run"),
    "run_directory": lambda agent, task, place, trainer: trainer.fit(agent, 3),
    "title": lambda agent, task, place, trainer: trainer.fit(agent, place / "run", title=[1]),
}


@pytest.fixture(scope="module")
def agent(make_agent):
    return make_agent(count=2)


@pytest.mark.parametrize("name", WRONG)
def test_an_argument_of_another_type_is_named(name, agent, prepared, settings, tmp_path):
    with pytest.raises(TypeError, match=rf"^{name.split()[0]}: expected [^\n]+, got "):
        WRONG[name](agent, prepared, tmp_path, settings.trainer)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seed", [-1, 1.5, "0", np.zeros(3), True])
def test_a_seed_is_a_whole_number_wherever_it_is_given(seed, agent, prepared):
    one, weights = prepared.env("train"), np.full((4, 2), 0.5)
    observations = prepared.vec_env("train", 4, 0).reset()
    calls = [
        lambda: prepared.vec_env("train", 2, seed),
        lambda: one.reset(seed=seed),
        lambda: agent.decide(observations, weights, seed=seed),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"^seed: expected a whole number, 0 or more, got "):
            call()


@pytest.mark.parametrize("n_envs", [0, -1, "x", None, np.zeros(3), 2**31])
def test_a_number_of_lanes_is_one_that_a_config_may_hold(n_envs, prepared):
    with pytest.raises(ValueError, match=r"^n_envs: expected a whole number from 1 to 65536, got "):
        prepared.vec_env("train", n_envs, 0)


@pytest.mark.parametrize("split", [["train"], np.zeros(3), None, 1])
def test_a_split_is_a_name(split, prepared):
    for call in (prepared.env, prepared.evaluated, lambda one: prepared.walk(one, 1)):
        expected = r"^expected a split among train, validation, test, got " + re.escape(repr(split))
        with pytest.raises(ValueError, match=expected):
            call(split)


def test_learning_leaves_nothing_in_the_temporary_directory(make_agent, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert Path(tempfile.gettempdir()) == tmp_path
    make_agent(count=2).learn(1)
    assert not list(tmp_path.iterdir())
