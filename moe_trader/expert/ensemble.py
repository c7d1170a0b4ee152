"""The experts of several agents together: what the bundle of an ensemble holds. They act, and do not learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

from gymnasium import spaces
from pydantic import Field

from moe_trader.expert import ExpertFamily
from moe_trader.option import ConfigError, option

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.vec_env import VecEnv

    from moe_trader.device import Kernels
    from moe_trader.gate_input import ObservationLayout
    from moe_trader.gating import Gate
    from moe_trader.learner import Learner
    from moe_trader.mixture.model import MixtureModel

MOST_EXPERTS = 1_024
_NESTED = "expected the experts of one agent, got an ensemble; join its members instead"

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9]\w*$", max_length=40)]


@option
class EnsembleExperts(ExpertFamily):
    """K experts of each of M agents, under the gate :class:`moe_trader.gating.ensemble.Ensemble`.

    :param of: settings of the experts of every member
    :param members: names of the members; experts are called ``MEMBER_EXPERT``: ``seed_1_expert_2``
    :param rule: how the ensemble acts. ``density``: the most likely action of the exact mixture of all M x K experts.
        ``mean``: the mean of the target positions that the members would take, a fraction between actions
    """

    of: ExpertFamily
    members: Annotated[list[Name], Field(min_length=1, max_length=MOST_EXPERTS)]
    rule: Literal["mean", "density"]

    def __post_init__(self) -> None:
        if isinstance(self.of, EnsembleExperts):
            raise ValueError(f"of: {_NESTED}")
        names = self.names()
        if len(set(names)) < len(names):
            raise ValueError(f"members: expected names that make different experts, got {', '.join(self.members)}")
        if len(names) > MOST_EXPERTS:
            raise ValueError(f"members: {len(names):,} experts in all; the greatest number is {MOST_EXPERTS:,}")

    @property
    def action_spaces(self) -> tuple[type[spaces.Space], ...]:  # type: ignore[override]
        """Kinds of action space that the members act in."""
        return self.of.action_spaces

    @property
    def n_averaged(self) -> int:
        """M under the rule ``mean``."""
        return len(self.members) if self.rule == "mean" else 1

    def names(self) -> list[str]:
        """Return the names of all experts, member after member."""
        return [f"{member}_{name}" for member in self.members for name in self.of.names()]

    def repeated(self, times: int) -> ExpertFamily:
        """Refuse an ensemble of ensembles. :raises ConfigError: always."""
        raise ConfigError(f"expert: {_NESTED}")

    def kinds(self) -> list[str]:
        """Return SB3's class of each expert."""
        return self.of.kinds() * len(self.members)

    def parameters_each(self, n_columns: int, action_space: spaces.Space) -> int:
        """Return how many parameters one expert has."""
        return self.of.parameters_each(n_columns, action_space)

    def shape(self) -> dict[str, Any]:
        """Return that of the members."""
        return self.of.shape()

    def model(
        self, gate: Gate, layout: ObservationLayout, observation_space: spaces.Box, action_space: spaces.Space
    ) -> MixtureModel:
        """Return a fresh mixture of all experts."""
        return self._together.model(gate, layout, observation_space, action_space)

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
    ) -> Learner:
        """Return what acts. :raises ConfigError: with an environment, because an ensemble does not learn."""
        if env is not None:
            _refuse_learning()
        how: dict[str, Any] = {"seed": seed, "device": device, "kernels": kernels}
        return self._together.learner(None, gate, layout, observation_space, action_space, **how)

    def export(self, model: MixtureModel, expert: int) -> BaseAlgorithm:
        """Return one of the M x K experts as the plain SB3 algorithm of its kind."""
        return self._together.export(model, expert)

    def parameter_matched(self, model: MixtureModel) -> ExpertFamily:
        """Refuse: a single policy is compared with a mixture that was trained. :raises ConfigError: always."""
        _refuse_learning()

    def warnings(self, gate: Gate, gate_learns: bool, n_envs: int) -> list[str]:
        """Return none: nothing learns."""
        return []

    @property
    def _together(self) -> ExpertFamily:
        return self.of.repeated(len(self.members))


def _refuse_learning() -> NoReturn:
    raise ConfigError(
        "expert: an ensemble acts and does not learn; load it without an environment, or train its members "
        "(seeds=N) and join them again"
    )
