"""What the defaults must be able to learn, at full size."""

import numpy as np
import pytest

from moe_trader.agent import MoEAgent
from moe_trader.evaluation.walk import walk


@pytest.mark.slow
def test_the_defaults_earn_most_of_what_a_bayes_filter_earns_on_unseen_series(make_settings):
    settings = make_settings("env=synthetic", small=False)
    task = settings.env.prepare()
    steps = settings.trainer.steps(task, settings.expert)
    assert steps == 400_000
    env = task.training_env(settings.trainer.n_envs, settings.seed)
    agent = MoEAgent(env, settings.expert, settings.gating, seed=settings.seed)
    agent.learn(steps)
    trace = walk(task, "test", agent, None, seed=0)
    earned = {s.name: float(np.mean(trace.reward[:, k])) for k, s in enumerate(trace.strategies)}
    assert earned["mixture"] >= 0.6 * earned["bayes_filter"] > 0
    assert earned["random"] < 0
    assert earned["mixture"] > earned["shuffled_gate"], "the gate's timing is worth something"
