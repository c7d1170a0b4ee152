"""PPO experts under one gate, trained jointly by PPO on the mixture density.

Paper: https://arxiv.org/abs/1707.06347. Rollouts, advantages and schedules are SB3's own; :meth:`MixturePPO.train`
follows SB3's ``PPO.train`` step by step (with one expert the weights agree to rounding, which a test pins) and adds
what a mixture needs: a loss for each critic, the gate's losses, and the norms that say who is being trained.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal

import torch
from gymnasium import spaces
from pydantic import Field, PositiveFloat, PositiveInt
from stable_baselines3 import PPO
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from stable_baselines3.common.utils import explained_variance
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from moe_trader.expert import ExpertFamily
from moe_trader.expert.metrics import mixture_metrics
from moe_trader.expert.mixture_policy import N_REFERENCE, MixturePolicy
from moe_trader.expert.objective import STATED, Coefficients, mixture_objective
from moe_trader.expert.rollout import TorchRolloutBuffer
from moe_trader.gating import Gate, GateBatch
from moe_trader.option import ConfigError, option
from moe_trader.sight import GateView

Fraction = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]

LARGE_BLOCK = 31 * 2**20  # bytes; glibc learns from blocks below 32 MiB alone
STATES_MEASURED = 1_024  # of a rollout, evenly spread, for the mixture's metrics

_ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU}


@option
class PPOExperts(ExpertFamily):
    """K PPO experts; every setting is SB3's of the same name unless said otherwise here.

    :param count: K
    :param prefix: experts are called ``prefix_1`` ... ``prefix_K``
    :param n_steps: steps of each lane between updates
    :param final_learning_rate: the learning rate falls linearly to this, which the last update uses
    :param gate_rate_factor: the gate's learning rate over the experts'
    :param expert_value_share: share of the value loss that fits each critic by itself, sum_k r_k (V_k - R)^2; the rest
        fits their mixture. It makes the critic of an exported expert usable
    """

    count: PositiveInt
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9]*$")]
    net_arch: Annotated[list[PositiveInt], Field(min_length=1)]
    activation: Literal["tanh", "relu"]
    learning_rate: PositiveFloat
    final_learning_rate: PositiveFloat
    gate_rate_factor: NonNegative
    n_steps: PositiveInt
    batch_size: Annotated[int, Field(ge=2)]
    n_epochs: PositiveInt
    gamma: Fraction
    gae_lambda: Fraction
    clip_range: PositiveFloat
    normalize_advantage: bool
    ent_coef: NonNegative
    vf_coef: NonNegative
    expert_value_share: Fraction
    max_grad_norm: PositiveFloat
    target_kl: PositiveFloat | None

    algorithm_name = "PPO"

    def names(self) -> list[str]:
        """Return ``prefix_1`` ... ``prefix_K``."""
        return [f"{self.prefix}_{number}" for number in range(1, self.count + 1)]

    def algorithm(
        self,
        env: VecEnv | None,
        observation_space: spaces.Box,
        action_space: spaces.Space,
        gate: Gate,
        view: GateView,
        seed: int,
        device: str,
    ) -> MixturePPO:
        """Return a fresh :class:`MixturePPO`."""
        n_envs = 1 if env is None else env.num_envs
        # Bars by number: rollouts of a few bytes a step. Asked of the class: SB3's wrappers pass on what they wrap.
        refer = getattr(type(env), "referring", None)
        # An observation as narrow as its reference stays whole: nothing to gain, and the two could not be told apart.
        named = None if refer is None or observation_space.shape[0] <= N_REFERENCE else refer(env)
        env = named or env
        if self.batch_size > self.n_steps * n_envs and env is not None:
            raise ConfigError(
                f"expert.batch_size: {self.batch_size} is more than one rollout holds "
                f"(expert.n_steps {self.n_steps} x {n_envs} lanes, trainer.n_envs = {self.n_steps * n_envs})"
            )
        tables = [] if named is None else named.get_attr("tables")[0]
        made = MixturePPO(
            MixturePolicy,
            env,
            expert_value_share=self.expert_value_share,
            names=self.names(),
            seed=seed,
            device=device,
            policy_kwargs=self._mixture_kwargs(gate, view, observation_space, tables),
            rollout_buffer_class=TorchRolloutBuffer,
            _init_setup_model=False,
            **self._hyperparameters(),
        )
        made.observation_space = observation_space if env is None else env.observation_space
        made.action_space, made.n_envs = action_space, n_envs
        made._setup_model()
        return made

    def standalone(self, policy: MixturePolicy, expert: int) -> PPO:
        """Return expert ``expert`` as a plain ``PPO`` with the same hyperparameters."""
        made = PPO(
            "MlpPolicy",
            None,  # type: ignore[arg-type]
            device="cpu",
            policy_kwargs=self._policy_kwargs(),
            _init_setup_model=False,
            **(self._hyperparameters() | {"learning_rate": self.learning_rate}),
        )
        made.observation_space, made.action_space, made.n_envs = policy.expert_space, policy.action_space, 1
        made._setup_model()
        made.policy.load_state_dict(policy.experts[expert].state_dict())
        return made

    def matched_single(self, n_parameters: int, observation_size: int, n_actions: int) -> PPOExperts:
        """Return one expert whose layers are widened alike until its size is nearest ``n_parameters``."""

        def size(widths: Iterable[int]) -> int:
            layers = [observation_size, *widths]
            trunk = sum((a + 1) * b for a, b in pairwise(layers))
            return 2 * trunk + (layers[-1] + 1) * (n_actions + 1)

        def widened(first: int) -> list[int]:
            return [max(1, round(first * width / self.net_arch[0])) for width in self.net_arch]

        best = min(range(1, 64 * self.net_arch[0]), key=lambda first: abs(size(widened(first)) - n_parameters))
        return dataclasses.replace(self, count=1, prefix="single", net_arch=widened(best))

    def _hyperparameters(self) -> dict[str, Any]:
        same = "n_steps batch_size n_epochs gamma gae_lambda clip_range normalize_advantage ent_coef vf_coef"
        same += " max_grad_norm target_kl"
        first, last = self.learning_rate, self.final_learning_rate

        def rate(remaining: float) -> float:
            return last + (first - last) * max(remaining, 0.0)  # the last rollout may go beyond the end

        return {name: getattr(self, name) for name in same.split()} | {"learning_rate": rate}

    def _mixture_kwargs(
        self, gate: Gate, view: GateView, whole: spaces.Box, tables: Sequence[tuple[Any, int]] = ()
    ) -> dict[str, Any]:
        return self._policy_kwargs() | {
            "gate": gate,
            "n_experts": self.count,
            "view": view,
            "gate_rate_factor": self.gate_rate_factor,
            "whole": whole,
            "tables": tables,
        }

    def _policy_kwargs(self) -> dict[str, Any]:
        return {"net_arch": list(self.net_arch), "activation_fn": _ACTIVATIONS[self.activation]}


class MixturePPO(PPO):
    """SB3's PPO on a :class:`~moe_trader.expert.mixture_policy.MixturePolicy`.

    :param expert_value_share: see :class:`PPOExperts`
    :param names: the experts' names, for the metrics
    """

    policy: MixturePolicy

    def __init__(self, *args: Any, expert_value_share: float, names: Sequence[str], **kwargs: Any) -> None:
        self.expert_value_share = expert_value_share
        self.names = list(names)
        self._norm_names = [f"gradient_norm/{name}" for name in (*names, "gate")]
        self.metrics: dict[str, float] = {}
        self._gate_weights: Tensor | None = None
        super().__init__(*args, **kwargs)

    def collect_rollouts(self, *args: Any, **kwargs: Any) -> bool:
        """Let the gate adapt, then roll out as SB3 does."""
        self.policy.gate.adapt(self._progress, self._gate_weights)
        return super().collect_rollouts(*args, **kwargs)

    @property
    def _progress(self) -> float:
        return min(1 - self._current_progress_remaining, 1.0)

    def train(self) -> None:
        """Update gate and experts on the rollout, and record what the update did."""
        self.policy.set_training_mode(True)
        # Until glibc has seen a block of this size freed, it gives a large minibatch's memory back to the system every
        # time, and the next one fetches it anew, page by page.
        torch.empty(LARGE_BLOCK, dtype=torch.uint8)
        self._update_learning_rate(self.policy.optimizer)
        clip_range = self.clip_range(self._current_progress_remaining)  # type: ignore[operator]
        trace: list[dict[str, Tensor]] = []
        stopped = False
        for _ in range(self.n_epochs):
            for batch in self.rollout_buffer.get(self.batch_size):
                whole = self.policy.whole_observations(batch.observations)
                loss, terms = self._loss(batch._replace(observations=whole), clip_range)
                trace.append(terms)
                if self.target_kl is not None and terms["approx_kl"] > 1.5 * self.target_kl:
                    stopped = True
                    break
                self.policy.optimizer.zero_grad()
                loss.backward()
                norms = self.policy.optimizer.clipped_step(self.max_grad_norm)
                terms |= dict(zip(self._norm_names, norms.unbind(), strict=True))
            self._n_updates += 1
            if stopped:
                break
        self._record(trace, clip_range)

    def _loss(self, batch: RolloutBufferSamples, clip_range: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a minibatch of whole observations, and its terms."""
        gate = self.policy._gate_settings
        output = self.policy.mix(batch.observations, compare=gate.compares_bars())
        advantages = batch.advantages  # (batch,)
        if self.normalize_advantage and len(advantages) > 1:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        loss, posterior_entropy, stated = mixture_objective(
            output.mixture, output.expert_values, batch, advantages, self._coefficients(clip_range)
        )
        terms = dict(zip(STATED, stated.unbind(), strict=True))
        gate_batch = GateBatch(
            output.gate_logits,
            output.mixture,
            posterior_entropy,
            batch.actions,
            advantages,
            output.previous_weights,
        )
        for name, gate_loss in gate.losses.items():
            value = gate_loss(gate_batch)
            loss = loss + gate_loss.weight_at(self._progress) * value
            terms[f"gate_loss/{name}"] = value.detach()
        terms["loss"] = loss.detach()
        return loss, terms

    def _coefficients(self, clip_range: float) -> Coefficients:
        return Coefficients(clip_range, self.ent_coef, self.vf_coef, self.expert_value_share)

    def _record(self, trace: Sequence[dict[str, Tensor]], clip_range: float) -> None:
        """Log the means over the update's minibatches, and the mixture's state on the rollout."""
        for name in dict.fromkeys(name for terms in trace for name in terms):
            group = name if "/" in name else f"train/{name}"
            self.logger.record(group, torch.stack([terms[name] for terms in trace if name in terms]).mean().item())
        buffer = self.rollout_buffer
        self.logger.record(
            "train/explained_variance", explained_variance(buffer.values.ravel(), buffer.returns.ravel())
        )
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/clip_range", clip_range)
        with torch.no_grad():
            states = buffer.observations.reshape(-1, buffer.observations.shape[-1])
            sample = states[:: max(len(states) // STATES_MEASURED, 1)]
            whole = self.policy.whole_observations(torch.as_tensor(sample, device=self.device))
            mixture = self.policy.mix(whole).mixture
            self.metrics, self._gate_weights = mixture_metrics(mixture, self.names), mixture.weights
        for name, value in self.metrics.items():
            self.logger.record(name, value)
        for name, gate_loss in self.policy._gate_settings.losses.items():
            self.logger.record(f"gate_loss_weight/{name}", gate_loss.weight_at(self._progress))

    def _update_learning_rate(self, optimizers: Any) -> None:
        """Set every group's rate; SB3's own writes one rate into all of them."""
        rate = self.lr_schedule(self._current_progress_remaining)
        self.logger.record("train/learning_rate", rate)
        for group in self.policy.optimizer.param_groups:
            group["lr"] = rate * group["rate_factor"]
