"""The gate of an ensemble: the gates of several agents, each over experts of its own."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from moe_trader.gate_input import GateInput
from moe_trader.gating import Gate, GateLoss, GatingNetwork
from moe_trader.option import ConfigError, option


@option
class Ensemble(Gate):
    """g_mk = g_k^(m) / M: member m's gate over its own experts, every member with the same share.

    The mixture under it is the mean of the members' densities. For: acting with several agents trained on one task.
    Lakshminarayanan et al., "Deep ensembles" (arXiv 1612.01474) average predictive densities likewise. The state of a
    member's gate (temperature, bias) is kept.

    :param members: settings of each member's gate, which keep their losses; an ensemble adds none
    """

    losses: ClassVar[Mapping[str, GateLoss]] = MappingProxyType({})  # type: ignore[misc]

    members: Annotated[list[Gate], Field(min_length=1, max_length=1_024)]

    def __post_init__(self) -> None:
        for gate in self.members[1:]:
            if gate.gate_input() != self.members[0].gate_input():
                raise ValueError(
                    f"members: expected gates that read the same, got {self.members[0].gate_input()} and "
                    f"{gate.gate_input()}; join agents whose gates read the same"
                )

    def reads(self) -> GateInput:
        """Return what each member's gate reads."""
        return self.members[0].reads()

    def compares_bars(self) -> bool:
        """Whether the members were trained with a loss that compares bars: observations then hold one bar more."""
        return self.members[0].compares_bars()

    def caveat(self) -> str | None:
        """Return that of the first member that has one."""
        return next((line for gate in self.members if (line := gate.caveat())), None)

    def network(self, n_features: int, n_experts: int) -> GatingNetwork:
        """Return fresh networks, one a member. :raises ConfigError: unless experts divide evenly among members."""
        n_members = len(self.members)
        if n_experts % n_members:
            raise ConfigError(
                f"gating.members: {n_members} gates do not divide {n_experts} experts evenly; give as many gates as "
                "the ensemble has members"
            )
        return EnsembleNetwork([gate.network(n_features, n_experts // n_members) for gate in self.members])


class EnsembleNetwork(GatingNetwork):
    """The networks of M gates, each over its K of the M x K experts.

    :param members: networks whose logits have K columns
    """

    def __init__(self, members: list[GatingNetwork]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    @property
    def networks(self) -> list[GatingNetwork]:
        """The members' gates."""
        return [one for one in self.members if isinstance(one, GatingNetwork)]

    def logits(self, features: Tensor) -> Tensor:
        """Return the members' scores side by side, shape ``(batch, M K)``."""
        return torch.cat([gate.logits(features) for gate in self.networks], dim=-1)

    def weights(self, logits: Tensor) -> Tensor:
        """Return the members' weights side by side, over M."""
        parts = logits.chunk(len(self.members), dim=-1)
        weights = [gate.weights(part) for gate, part in zip(self.networks, parts, strict=True)]
        return torch.cat(weights, dim=-1) / len(self.members)

    def adapt(self, progress: float, weights: Tensor | None) -> None:
        """Let each member's gate change, by its own weights."""
        n = len(self.members)
        parts = [None] * n if weights is None else [part * n for part in weights.chunk(n, dim=-1)]
        for gate, part in zip(self.networks, parts, strict=True):
            gate.adapt(progress, part)
