"""Joint training by PPO: what must hold with one expert, with several, and that it learns."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO

from moe_trader.agent import MoEAgent
from moe_trader.config import compose, run_settings
from moe_trader.gating import Gate
from moe_trader.gating.losses.minimum_importance import MinimumImportance
from moe_trader.gating.losses.router_z import RouterZ
from moe_trader.gating.softmax import SoftmaxNetwork
from moe_trader.option import ConfigError

PENDULUM = {"n_steps": 64}  # two lanes


def states(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def largest_difference(one, other):
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)


def scatter(policy, seed=0, scale=0.3):
    """Move gate and experts away from their alike beginnings."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))


def collect(agent):
    """Fill the agent's rollout buffer, and return the whole of it as one batch."""
    algorithm = agent.algorithm
    _, callback = algorithm._setup_learn(10**6, None)
    assert algorithm.collect_rollouts(algorithm.env, callback, algorithm.rollout_buffer, algorithm.n_steps)
    batch = next(algorithm.rollout_buffer.get(None))
    return batch._replace(observations=agent.algorithm.policy.whole_observations(batch.observations))


def gradients(policy):
    """Return the gradient of every parameter of gate and experts, by its name in the policy."""
    found = {f"gate.{name}": parameter.grad for name, parameter in policy.gate.named_parameters()}
    return found | {f"experts.{name}": gradient for name, gradient in policy.experts.gradients()}


# --- one expert is plain Stable-Baselines3 ----------------------------------------------------------------------------


def plain_ppo(env, expert, seed):
    activation = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}[expert.activation]
    rate, last = expert.learning_rate, expert.final_learning_rate
    return PPO(
        "MlpPolicy",
        env,
        learning_rate=lambda remaining: last + (rate - last) * remaining,
        n_steps=expert.n_steps,
        batch_size=expert.batch_size,
        n_epochs=expert.n_epochs,
        gamma=expert.gamma,
        gae_lambda=expert.gae_lambda,
        clip_range=expert.clip_range,
        normalize_advantage=expert.normalize_advantage,
        ent_coef=expert.ent_coef,
        vf_coef=expert.vf_coef,
        max_grad_norm=expert.max_grad_norm,
        target_kl=expert.target_kl,
        policy_kwargs={"net_arch": list(expert.net_arch), "activation_fn": activation},
        seed=seed,
        device="cpu",
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "final_learning_rate": 3e-4,
            "activation": "relu",
            "target_kl": None,
            "ent_coef": 0.05,
            "expert_value_share": 0.0,
        },
    ],
    ids=["as configured", "other settings"],
)
@pytest.mark.parametrize("market", ["trading", "pendulum"])
def test_one_expert_trains_as_plain_ppo(market, changes, prepared, settings, small_experts, pendulum):
    make_env = (lambda: pendulum(5)) if market == "pendulum" else (lambda: prepared.training_env(4, 5))
    expert = small_experts(count=1, **({} if market == "trading" else PENDULUM), **changes)
    ours = MoEAgent(make_env(), expert, settings.gating, seed=5)
    our_beginning = states(ours.model.experts[0])
    ours.learn(3 * 128)
    theirs = plain_ppo(make_env(), expert, seed=5)
    beginning = states(theirs.policy)
    assert largest_difference(our_beginning, beginning) == 0.0
    theirs.learn(3 * 128)
    assert ours.algorithm.num_timesteps == theirs.num_timesteps == 3 * 128
    assert ours.algorithm._n_updates == theirs._n_updates
    assert largest_difference(beginning, states(theirs.policy)) > 1e-3
    assert largest_difference(states(ours.model.experts[0]), states(theirs.policy)) <= 1e-6
    observations = theirs.env.reset()
    np.testing.assert_allclose(
        ours.predict(observations)[0], theirs.predict(observations, deterministic=True)[0], atol=1e-5
    )


# --- several experts --------------------------------------------------------------------------------------------------


@pytest.fixture(params=["discrete", "box"])
def four(request, make_agent, pendulum):
    """Return a maker of agents with four experts, on either kind of action space."""

    def make(**changes):
        if request.param == "box":
            return make_agent(env=pendulum(0), count=4, **(PENDULUM | changes))
        return make_agent(count=4, **changes)

    return make


def test_the_ratio_is_one_before_the_first_update(four):
    agent = four()
    scatter(agent.model)
    collect(agent)
    batch = next(agent.algorithm.rollout_buffer.get(None))
    values, log_prob, entropy = agent.algorithm.policy.evaluate_actions(batch.observations, batch.actions)
    weights = agent.gate_weights(agent.algorithm.policy.whole_observations(batch.observations).numpy())
    assert weights.std(axis=0).min() > 0.01  # a gate with something to say
    assert (log_prob - batch.old_log_prob).abs().max() <= 1e-6
    torch.testing.assert_close(values.flatten(), batch.old_values, rtol=0, atol=1e-6)
    assert entropy.shape == log_prob.shape == (128,)


def test_the_first_minibatch_sees_no_divergence(four):
    agent = four(n_epochs=1, batch_size=128)
    agent.learn(128)
    recorded = agent.algorithm.logger.name_to_value
    assert abs(recorded["train/approx_kl"]) < 1e-6
    assert recorded["train/clip_fraction"] == 0.0


def test_every_parameter_of_gate_and_experts_is_trained(four):
    agent = four(learning_rate=3e-4)
    agent.learn(128)  # the gate's last layer starts at zero, which hides its first layers from the first gradient
    batch = collect(agent)
    agent.algorithm.differentiate(batch, 0.2)
    found = gradients(agent.model)
    assert found.keys() == {name for name, _ in agent.model.named_parameters()}
    assert [name for name, grad in found.items() if not grad.isfinite().all() or not grad.any()] == []


def test_every_parameter_is_in_the_optimiser_once(four):
    agent = four()
    policy = agent.model
    experts, gate = (group["params"] for group in agent.algorithm.policy.optimizer.param_groups)
    assert [id(parameter) for parameter in experts] == [id(policy.experts.weights)]
    assert policy.experts.weights.numel() == sum(parameter.numel() for parameter in policy.experts.parameters())
    assert [id(parameter) for parameter in gate] == [id(parameter) for parameter in policy.gate.parameters()]


def test_training_moves_gate_and_every_expert_apart(four):
    agent = four()
    before = states(agent.model)
    agent.learn(256)
    after = states(agent.model)
    unmoved = [name for name in before if before[name].is_floating_point() and torch.equal(before[name], after[name])]
    assert unmoved == []
    first, second = (states(agent.model.experts[k]) for k in (0, 1))
    assert largest_difference(first, second) > 1e-3


def test_experts_begin_different(make_agent):
    policy = make_agent(count=2).model
    assert largest_difference(states(policy.experts[0]), states(policy.experts[1])) > 1e-2


def test_a_gate_with_no_rate_stays_while_experts_learn(four):
    agent = four(gate_lr_scale=0.0)
    scatter(agent.model.gate)
    gate, experts = states(agent.model.gate), states(agent.model.experts)
    agent.learn(256)
    assert largest_difference(gate, states(agent.model.gate)) == 0.0
    assert largest_difference(experts, states(agent.model.experts)) > 1e-4


@pytest.mark.parametrize("last", [2e-4, 1e-3])
def test_the_gate_keeps_its_own_learning_rate(last, make_agent):
    agent = make_agent(gate_lr_scale=5.0, learning_rate=1e-3, final_learning_rate=last, gating=None)
    agent.learn(4 * 128)
    experts, gate = agent.algorithm.policy.optimizer.param_groups
    assert [id(p) for p in gate["params"]] == [id(p) for p in agent.model.gate.parameters()]
    # SB3 lowers the rate before the update: the last one has the final rate
    assert experts["lr"] == pytest.approx(last)
    assert gate["lr"] == pytest.approx(5 * experts["lr"])
    agent.algorithm._current_progress_remaining = 0.25
    agent.algorithm._update_learning_rate(agent.algorithm.policy.optimizer)
    assert experts["lr"] == pytest.approx(last + 0.25 * (1e-3 - last))
    assert gate["lr"] == pytest.approx(5 * experts["lr"])


def test_the_gate_moves_by_its_factor(make_agent):
    def moved(factor):
        agent = make_agent(gate_lr_scale=factor, learning_rate=3e-4, n_epochs=1, batch_size=128)
        agent.learn(128)  # one minibatch: Adam's first step is the rate times the gradient's sign
        return agent.model.gate.net[-1].bias.detach()

    torch.testing.assert_close(moved(4.0), 4 * moved(1.0), rtol=1e-4, atol=1e-9)


def test_the_value_does_not_train_the_gate(four):
    agent = four()
    scatter(agent.model)
    batch = collect(agent)
    agent.algorithm.policy.optimizer.zero_grad()
    agent.model.evaluate(batch.observations).values.sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in agent.model.gate.parameters())
    critics = [gradient for name, gradient in agent.model.experts.gradients() if "value_net" in name]
    assert all(gradient.any() for gradient in critics)


def test_the_value_loss_does_not_train_the_gate(four):
    agent = four()
    scatter(agent.model)
    batch = collect(agent)

    def found(vf_coef):
        agent.algorithm.vf_coef = vf_coef
        torch.manual_seed(0)  # the entropy of a Gaussian mixture is estimated by drawing
        agent.algorithm.differentiate(batch, 0.2)
        gate = torch.cat([p.grad.flatten() for p in agent.model.gate.parameters()])
        named = gradients(agent.model).items()
        return gate, torch.cat([gradient.flatten() for name, gradient in named if ".value_net" in name])

    (gate, critics), (other_gate, other_critics) = found(0.5), found(50.0)
    assert gate.abs().max() > 1e-4
    torch.testing.assert_close(gate, other_gate, rtol=0, atol=1e-6)
    torch.testing.assert_close(other_critics, 100 * critics, rtol=1e-3, atol=1e-4)


def test_each_critic_is_fitted_by_itself_with_its_responsibility(four):
    agent = four(expert_value_share=1.0)
    scatter(agent.model)
    batch = collect(agent)
    with torch.no_grad():
        output = agent.model.evaluate(batch.observations)
        r = output.mixture.responsibilities(batch.actions)
        by_hand = (r * (output.expert_values - batch.returns.unsqueeze(-1)) ** 2).sum(-1).mean().item()
    assert float(agent.algorithm.differentiate(batch, 0.2)["value_loss"]) == pytest.approx(by_hand, rel=1e-5)


def test_gate_losses_are_part_of_the_loss(make_agent, settings):
    steady = {"ramp_start": 0.0, "ramp_end": 0.0, "final_weight": None}
    losses = {"z": RouterZ(weight=2.0, **steady), "least": MinimumImportance(weight=3.0, share=1.0, **steady)}
    found = []
    for given in (losses, {}):
        agent = make_agent(gating=dataclasses.replace(settings.gating, losses=given))
        scatter(agent.model)
        batch = collect(agent)
        found.append({name: float(value) for name, value in agent.algorithm.differentiate(batch, 0.2).items()})
    extra = 2 * found[0]["gate_loss/z"] + 3 * found[0]["gate_loss/least"]
    assert extra > 0.01
    assert found[0]["loss"] - found[1]["loss"] == pytest.approx(extra, rel=1e-4)


def test_the_information_term_is_ramped_in_over_training(make_agent, settings):
    information = dataclasses.replace(settings.gating.losses["information"], weight=10.0, ramp_start=0.5, ramp_end=1.0)
    agent = make_agent(gating=dataclasses.replace(settings.gating, losses={"information": information}))
    scatter(agent.model)
    batch = collect(agent)
    found = {}
    for progress in (0.0, 0.5, 0.75, 1.0):
        agent.algorithm._current_progress_remaining = 1 - progress
        terms = agent.algorithm.differentiate(batch, 0.2)
        found[progress] = terms["loss"]
    information = terms["gate_loss/information"]
    assert information < -0.01
    assert found[0.5] == pytest.approx(found[0.0], abs=1e-6)
    assert found[0.75] - found[0.0] == pytest.approx(5 * information, abs=1e-5)
    assert found[1.0] - found[0.0] == pytest.approx(10 * information, abs=1e-5)


def test_target_kl_stops_an_update_early(make_agent):
    fast = {"learning_rate": 0.01, "n_epochs": 10}
    updates, moved = [], []
    for target_kl in (None, 0.005):
        agent = make_agent(target_kl=target_kl, **fast)
        before = states(agent.model)
        agent.learn(128)
        updates.append(agent.algorithm._n_updates)
        moved.append(largest_difference(before, states(agent.model)))
    assert updates[0] == 10
    assert updates[1] < 10
    assert 0 < moved[1] < moved[0]


def test_a_batch_larger_than_a_rollout_is_refused(make_agent):
    with pytest.raises(
        ValueError, match=r"^expert\.batch_size: 129 is more than one rollout holds \(expert\.n_steps 32 x "
    ):
        make_agent(batch_size=129)


# --- determinism ------------------------------------------------------------------------------------------------------


def test_one_seed_gives_the_same_weights_to_the_bit(four):
    trained = [states(four().learn(3 * 128).model) for _ in range(2)]
    assert largest_difference(states(four().model), trained[0]) > 1e-4
    assert largest_difference(*trained) == 0.0


def test_another_seed_gives_other_weights(make_agent):
    assert largest_difference(*(states(make_agent(seed=seed).model) for seed in (0, 1))) > 1e-2
    assert largest_difference(*(states(make_agent(seed=seed).learn(256).model) for seed in (0, 1))) > 1e-2


def test_asking_an_agent_does_not_disturb_its_training(four):
    trained = []
    for asked in (False, True):
        agent = four()
        observations = collect(agent).observations.numpy()
        if asked:
            weights = agent.gate_weights(observations)
            agent.predict(observations)
            agent.expert_actions(observations)
            agent.act(observations, weights)
        trained.append(states(agent.learn(2 * 128).model))
    assert largest_difference(*trained) == 0.0


# --- learning ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [1, -1], ids=["rising", "falling"])
def test_it_learns_to_hold_the_position_that_earns(sign):
    """One strong trend: the optimum is to hold it from the first bar on, and the profit is known."""
    features = ["env/features=multi_horizon", "env.gate_features=[trend]"]  # there are no regimes to tell apart
    market = ["env.market.bars=600", "env.market.series={train:2,validation:1,test:1}"]
    plain = compose(["env=synthetic", *features, *market])
    trend = {"_target_": "moe_trader.env.synthetic.Regime", "mean_bp": 60.0 * sign, "ar1": 0.0, "volatility_bp": 80.0}
    plain["env"]["market"]["regimes"] = {"trend": trend}
    plain["env"]["episode_bars"] = 50
    plain["expert"] |= {"count": 2, "net_arch": [16], "n_steps": 32, "batch_size": 128, "learning_rate": 3e-3}
    settings = run_settings(plain)
    prepared = settings.env.prepare()
    agent = MoEAgent(prepared.training_env(16, 0), settings.expert, settings.gating, seed=0)

    def walk(seed=0):
        lanes = prepared.walk("test", 1)
        lanes.reset(0, np.random.default_rng(seed))
        positions = []
        while not lanes.finished[0]:
            action = agent.predict(lanes.observe().copy())[0]
            positions.append(settings.env.positions.fractions[int(action[0])])
            lanes.step(action)
        return np.array(positions), lanes.log_profit(0)

    untrained = walk()[1]
    agent.learn(8_192)
    positions, profit = walk()
    close = prepared.evaluated("test")[0].close
    trend = np.log(close[-1] / close[0])
    assert trend * sign > 2.0
    assert np.mean(positions == sign) > 0.98
    # a short is held, not rebalanced: it gains what the price loses, at most its first value
    best = trend if sign > 0 else np.log(2 - np.exp(trend))
    assert profit > untrained + 0.25 * abs(best)
    assert profit == pytest.approx(best, abs=0.05 * abs(best) + 0.02)


def test_the_rate_never_falls_below_its_end(make_agent):
    """The last rollout goes beyond the end of training: 128 steps where 10 were asked for."""
    agent = make_agent(learning_rate=1e-3, final_learning_rate=1e-4).learn(10)
    assert agent.algorithm.policy.optimizer.param_groups[0]["lr"] == pytest.approx(1e-4)


def test_a_gate_that_breaks_its_contract_is_refused(make_agent, settings):
    from moe_trader.gating import Gate, GatingNetwork
    from moe_trader.option import ConfigError

    class Loud(GatingNetwork):
        def __init__(self, n_experts):
            super().__init__()
            self.n_experts = n_experts

        def logits(self, features):
            return features.new_zeros(len(features), self.n_experts)

        def weights(self, logits):
            return torch.ones_like(logits)

    class LoudGate(Gate):
        losses = {}  # noqa: RUF012

        def network(self, n_features, n_experts):
            return Loud(n_experts)

    with pytest.raises(
        ConfigError, match=r"gating: Loud must give 3 weights that sum to 1 .*sums \[3\.0, 3\.0, 3\.0\]"
    ):
        make_agent(gating=LoudGate())


@pytest.mark.parametrize(
    ("how", "given", "message"),
    [
        ("network", 3, r"^gating: expected network\(\) to return a GatingNetwork, got int$"),
        ("logits", lambda x: x.tolist(), r"^gating: Odd\.logits must give a tensor of float32, got list$"),
        ("weights", lambda x: None, r"^gating: Odd\.weights must give a tensor of float32, got NoneType$"),
        ("weights", lambda x: x.double(), r"^gating: Odd\.weights must give a tensor of float32, got torch\.float64$"),
        ("weights", lambda x: x[:, :1], r"^gating: Odd must give 3 weights that sum to 1 .* got shape \(3, 1\)"),
    ],
)
def test_a_gate_that_gives_something_else_is_refused(how, given, message, make_agent):
    class Odd(SoftmaxNetwork):
        def logits(self, features):
            return given(super().logits(features)) if how == "logits" else super().logits(features)

        def weights(self, logits):
            return given(super().weights(logits)) if how == "weights" else super().weights(logits)

    class OddGate(Gate):
        losses = {}  # noqa: RUF012

        def network(self, n_features, n_experts):
            return given if how == "network" else Odd(n_features, n_experts, [8], 1.0, 0.02)

    with pytest.raises(ConfigError, match=message):
        make_agent(gating=OddGate())


@pytest.mark.parametrize("given", [None, 1.0, torch.zeros(3), torch.tensor(1), np.float32(1)])
def test_a_loss_that_is_no_scalar_tensor_is_refused(given, make_agent, settings):
    class Odd(RouterZ):
        def __call__(self, batch):
            return given

    losses = {"odd": Odd(**dataclasses.asdict(settings.gating.losses["router_z"]))}
    with pytest.raises(ConfigError, match=r"^gating\.losses\.odd: expected Odd to return a scalar tensor, got "):
        make_agent(gating=dataclasses.replace(settings.gating, losses=losses)).learn(1)
