"""What families of SB3 actor-critics share: towers of one shape, their size, their model and their export."""

from __future__ import annotations

import dataclasses
import functools
import math
from abc import abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, Self

from gymnasium import spaces
from pydantic import Field
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

from moe_trader.bounds import WIDEST, Bars, Count, Fraction, LearningRate, NonNegative, Positive, Widths
from moe_trader.device import Kernels
from moe_trader.expert import ExpertFamily
from moe_trader.fast.backend import FastBackend
from moe_trader.gate_input import ObservationLayout
from moe_trader.gating import Gate
from moe_trader.gating.contradictions import contradictions
from moe_trader.learner.bar_index import N_NUMBERS
from moe_trader.learner.on_policy import OnPolicyLearner
from moe_trader.learner.policy import MixturePolicy
from moe_trader.learner.rollout import TorchRolloutBuffer
from moe_trader.memory import check_memory
from moe_trader.mixture.backend import Backend
from moe_trader.mixture.bank import ExpertBank
from moe_trader.mixture.model import MixtureModel
from moe_trader.mixture.stacked import bank_of
from moe_trader.option import option_base

_SB3_SETTINGS = ("n_steps", "gamma", "gae_lambda", "normalize_advantage", "ent_coef", "vf_coef", "max_grad_norm")
_ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU}


@option_base
class ActorCriticExperts(ExpertFamily):
    """K actor-critics, trained jointly by an on-policy algorithm of SB3; settings are SB3's unless said otherwise.

    :param count: K
    :param prefix: experts are called ``prefix_1`` ... ``prefix_K``
    :param net_arch: hidden layers of each expert's policy, and of its critic
    :param final_learning_rate: the learning rate falls linearly to this, which the last update uses
    :param gate_lr_scale: the gate's learning rate over the experts'
    :param n_steps: steps of each env between updates
    :param expert_value_share: share of the value loss that fits each critic by itself, sum_k r_k (V_k - R)^2; the rest
        fits their mixture. It makes the critic of an exported expert usable
    """

    action_spaces = (spaces.Discrete, spaces.Box)
    sb3_algorithm: ClassVar[type[OnPolicyAlgorithm]]
    """SB3's own algorithm, which an exported expert is saved as."""
    learner_class: ClassVar[type[OnPolicyLearner]]
    """The algorithm on a mixture."""
    minibatch_setting: ClassVar[str]
    """Config path of the setting that :meth:`minibatch` follows from."""

    count: Count
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9]*$", max_length=40)]
    net_arch: Annotated[Widths, Field(min_length=1)]
    activation: Literal["tanh", "relu"]
    learning_rate: LearningRate
    final_learning_rate: LearningRate
    gate_lr_scale: NonNegative
    n_steps: Bars
    gamma: Fraction
    gae_lambda: Fraction
    normalize_advantage: bool
    ent_coef: NonNegative
    vf_coef: NonNegative
    expert_value_share: Fraction
    max_grad_norm: Positive

    def hyperparameters(self) -> dict[str, Any]:
        """Return arguments of SB3's algorithm, without policy, environment, learning rate, seed and device."""
        return {name: getattr(self, name) for name in _SB3_SETTINGS}

    @abstractmethod
    def optimizer(self, is_fast: bool) -> dict[str, Any]:
        """Return ``optimizer_class`` and ``optimizer_kwargs`` of an SB3 policy.

        :param is_fast: whether compiled code may be used
        """

    @abstractmethod
    def minibatch(self, n_envs: int) -> int:
        """Return the states in a minibatch. :raises ConfigError: where a rollout holds fewer."""

    def names(self) -> list[str]:
        """Return ``prefix_1`` ... ``prefix_K``."""
        return [f"{self.prefix}_{number}" for number in range(1, self.count + 1)]

    def kinds(self) -> list[str]:
        """Return SB3's class, K times."""
        return [self.sb3_algorithm.__name__] * self.count

    def repeated(self, times: int) -> Self:
        """Return the family with ``times`` as many experts."""
        changes: dict[str, Any] = {"count": times * self.count}
        return dataclasses.replace(self, **changes)

    def parameters_each(self, n_columns: int, action_space: spaces.Space) -> int:
        """Return the size of an SB3 actor-critic with a tower each for actor and critic."""
        if isinstance(action_space, spaces.Discrete):
            return _size(n_columns, self.net_arch, int(action_space.n))
        n_numbers = math.prod(action_space.shape or ())
        return _size(n_columns, self.net_arch, n_numbers) + n_numbers  # a log deviation for each

    def shape(self) -> dict[str, Any]:
        """Return layers and activation."""
        return {"net_arch": list(self.net_arch), "activation": self.activation}

    def model(
        self, gate: Gate, layout: ObservationLayout, observation_space: spaces.Box, action_space: spaces.Space
    ) -> MixtureModel:
        """Return a fresh mixture of SB3's own ``ActorCriticPolicy``."""

        def experts(seen: spaces.Box) -> ExpertBank:
            arch = self.architecture()
            return bank_of([ActorCriticPolicy(seen, action_space, lambda _: 0.0, **arch) for _ in range(self.count)])

        return MixtureModel(gate, experts, layout, observation_space, action_space)

    def learner(
        self,
        env: VecEnv | None,
        gate: Gate,
        layout: ObservationLayout,
        observation_space: spaces.Box,
        action_space: spaces.Space,
        *,
        seed: int,
        device: str,
        kernels: Kernels,
    ) -> OnPolicyLearner:
        """Return a fresh learner of :attr:`learner_class`."""
        # Bars by index where the environment can: rollouts of a few bytes a step. Asked of the class, because SB3's
        # wrappers pass on what they wrap.
        refer = getattr(type(env), "with_bar_indices", None)
        is_wide = observation_space.shape[0] > N_NUMBERS
        indexed = refer(env) if refer and is_wide else None
        env = indexed or env
        n_envs = 1 if env is None else env.num_envs
        shown = observation_space if env is None else env.observation_space
        if env is not None:
            self.minibatch(n_envs)
        self._check_memory(action_space, layout, n_envs, shown)

        is_fast = kernels != "off"
        made = self.learner_class(
            MixturePolicy,
            env,
            names=self.names(),
            expert_value_share=self.expert_value_share,
            learning_rate=self.learning_rate_at,
            seed=seed,
            device=device,
            policy_kwargs={
                "make_model": functools.partial(self.model, gate, layout, observation_space, action_space),
                "backend": FastBackend() if is_fast else Backend(),
                "gate_lr_scale": self.gate_lr_scale,
                "tables": indexed.get_attr("tables")[0] if indexed is not None else (),
                **self.optimizer(is_fast),
            },
            rollout_buffer_class=TorchRolloutBuffer,
            _init_setup_model=False,
            **self.hyperparameters(),
        )
        made.observation_space, made.action_space, made.n_envs = shown, action_space, n_envs
        made._setup_model()
        return made

    def export(self, model: MixtureModel, expert: int) -> OnPolicyAlgorithm:
        """Return expert ``expert`` as a plain SB3 algorithm with the same hyperparameters."""
        policy = model.experts.policies[expert]
        made = self.sb3_algorithm(
            "MlpPolicy",
            None,  # type: ignore[arg-type]
            learning_rate=self.learning_rate,
            device="cpu",
            policy_kwargs=self.architecture(),
            _init_setup_model=False,
            **self.hyperparameters(),
        )
        made.observation_space, made.action_space, made.n_envs = policy.observation_space, policy.action_space, 1
        made._setup_model()
        made.policy.load_state_dict(policy.state_dict())
        return made

    def parameter_matched(self, model: MixtureModel) -> Self:
        """Return one expert whose layers are widened by one factor until its size is nearest the mixture's."""
        n_parameters, n_columns = model.n_parameters(), model.layout.single_width
        space = model.action_space
        n_outputs = int(space.n) if isinstance(space, spaces.Discrete) else math.prod(space.shape or ())

        def widened(first: int) -> list[int]:
            return [min(max(1, round(first * width / self.net_arch[0])), WIDEST) for width in self.net_arch]

        def distance(first: int) -> int:
            return abs(_size(n_columns, widened(first), n_outputs) - n_parameters)

        best = min(range(1, min(64 * self.net_arch[0], WIDEST)), key=distance)
        changes: dict[str, Any] = {"count": 1, "prefix": "single", "net_arch": widened(best)}
        return dataclasses.replace(self, **changes)

    def warnings(self, gate: Gate, gate_learns: bool, n_envs: int) -> list[str]:
        """Return the contradictions of gate, losses and experts."""
        return contradictions(
            gate,
            n_experts=self.count,
            gate_learns=gate_learns,
            ent_coef=self.ent_coef,
            batch_size=self.minibatch(n_envs),
            batch_setting=self.minibatch_setting,
        )

    def learning_rate_at(self, remaining: float) -> float:
        """Return the learning rate when a share ``remaining`` of training is left."""
        first, last = self.learning_rate, self.final_learning_rate
        return last + (first - last) * max(remaining, 0.0)  # the last rollout may go beyond the end

    def architecture(self) -> dict[str, Any]:
        """Return the arguments of one SB3 policy that say its shape."""
        return {"net_arch": list(self.net_arch), "activation_fn": _ACTIVATIONS[self.activation]}

    def _check_memory(
        self, action_space: spaces.Space, layout: ObservationLayout, n_envs: int, shown: spaces.Space
    ) -> None:
        """Refuse networks and rollouts that do not fit. :raises ConfigError: naming the settings."""
        each = self.parameters_each(len(layout.experts), action_space)
        check_memory(
            "expert.count, expert.net_arch",
            f"{self.count:,} experts of {each:,} parameters, their gradient and Adam's two averages",
            4 * 4 * self.count * each,
        )
        size = math.prod(shown.shape or ())
        check_memory(
            "expert.n_steps, trainer.n_envs",
            f"a rollout of {self.n_steps:,} steps in {n_envs:,} envs that show {size:,} numbers",
            4 * 2 * self.n_steps * n_envs * (size + 6),  # kept twice: as it comes, and for minibatches
        )


def _size(n_columns: int, widths: Sequence[int], n_outputs: int) -> int:
    """Return the parameters of two towers with a layer of each width, one ending in a value, one in all outputs."""
    layers = [n_columns, *widths]
    tower = sum((a + 1) * b for a, b in pairwise(layers))
    return 2 * tower + (layers[-1] + 1) * (n_outputs + 1)
