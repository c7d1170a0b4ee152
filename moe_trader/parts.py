"""Parts of an agent, its experts and its gate: taken from another agent's bundle, and frozen."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from moe_trader import bundle
from moe_trader.argument import check_types, to_path
from moe_trader.differences import Side, first_difference
from moe_trader.expert import ExpertFamily
from moe_trader.expert.ensemble import EnsembleExperts
from moe_trader.gate_input import ObservationLayout, column_names
from moe_trader.gating import Gate
from moe_trader.option import ConfigError, shown

if TYPE_CHECKING:
    from moe_trader.learner import Learner
    from moe_trader.mixture.model import MixtureModel

Part = Literal["experts", "gate"]
PARTS: tuple[Part, ...] = get_args(Part)


class PartsOfAgent:
    """What an agent does with its parts: a base of :class:`~moe_trader.agent.MoEAgent`."""

    expert: ExpertFamily
    gating: Gate
    layout: ObservationLayout
    algorithm: Learner

    @property
    def model(self) -> MixtureModel:
        """The mixture: ``model.experts`` are SB3 policies, ``model.gate`` is the gating network."""
        return self.algorithm.model

    @property
    def frozen(self) -> list[str]:
        """Names of the experts that do not learn."""
        names = self.expert.names()
        return [names[k] for k in self.model.experts.frozen]

    def freeze(self, names: Collection[str]) -> None:
        """Have these experts stand still while the agent learns, and all others learn; ``[]``: all learn.

        A frozen expert keeps its weights to the last bit. Gate and other experts learn as if these weights were
        constants. A bundle keeps the names, and a loaded agent goes on with them.

        :raises ConfigError: for a name that no expert has, and where nothing would be left that learns
        """
        check_names(names, self.expert.names(), "frozen")
        before = self.frozen
        self.model.experts.freeze([k for k, name in enumerate(self.expert.names()) if name in names])
        try:
            self.check_learns()
        except ConfigError:
            self.model.experts.freeze([k for k, name in enumerate(self.expert.names()) if name in before])
            raise

    def check_learns(self) -> None:
        """Refuse an agent in which nothing learns. :raises ConfigError: naming the gate and the way out."""
        names = self.expert.names()
        if len(self.frozen) < len(names) or (self.algorithm.gate_learns and len(names) > 1):
            return
        gate = type(self.gating).__name__
        reason = f"has a single expert to choose from, {names[0]}" if len(names) == 1 else "has nothing to learn"
        raise ConfigError(
            f"frozen: every expert is frozen, and the gate ({gate}) {reason}: training would change nothing. Leave out "
            "an expert, or use several experts and a gate that learns (gating=softmax, expert.gate_lr_scale above 0)"
        )

    def load_parts(
        self,
        path: str | Path,
        parts: Collection[str] = PARTS,
        *,
        task: Mapping[str, Any] | None = None,
        plugins: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Take the weights of the experts, of the gate, or of both from a bundle; the rest stays as it is.

        As SB3's ``set_parameters``, but of parts, and verified: sizes, columns and actions are compared by name. The
        optimiser, the step count and the schedules stay as they are, which is at zero in a new agent.

        :param parts: ``"experts"``, ``"gate"`` or both
        :param task: ``PreparedTask.summary()`` of the agent's own task, for comparisons by its settings
        :param plugins: packages of your own whose gates or experts the bundle may build
        :return: the manifest of the bundle
        :raises BundleError: when a file is missing, altered, malformed, or of another format version
        :raises ConfigError: naming the first difference, both values and the way out
        """
        path = to_path(path, "path")
        check_types(task=(task, Mapping | None))
        wrong = isinstance(parts, str) or not parts or [one for one in parts if one not in PARTS]
        if wrong:
            raise ConfigError(f"parts: expected a list of experts, gate or both, got {shown(parts)}")
        content = bundle.read(path, plugins)
        if isinstance(content.expert, EnsembleExperts):
            raise ConfigError(
                f"{path}: an ensemble, which does not learn on; start from one of its members, RUN/seed_N"
            )
        if found := first_difference(_of_bundle(content), _of_agent(self, task or {}), parts):
            raise ConfigError(f"{path}: does not fit: {found}")
        tensors = self.model.state_dict()
        taken = tuple(f"{part}." for part in parts)
        tensors |= {name: one for name, one in content.tensors.items() if name.startswith(taken)}
        bundle.load_weights(path, self.model, tensors)
        return content.manifest


def check_names(names: Any, experts: Sequence[str], setting: str) -> None:
    """Refuse names that no expert has. :raises ConfigError: naming the setting, the name and the names there are."""
    if isinstance(names, str) or not isinstance(names, Collection):
        raise ConfigError(f"{setting}: expected a list of experts' names, got {shown(names)}")
    for name in names:
        if name not in experts:
            raise ConfigError(f"{setting}: no expert is called {shown(name)}; the experts are {', '.join(experts)}")


def _of_bundle(content: bundle.Bundle) -> Side:
    task = content.manifest["task"]
    (size,) = content.observation_space.shape or (0,)
    names = column_names(task.get("features"), task.get("window"), size)
    shapes = {name: tuple(one.shape) for name, one in content.tensors.items()}
    return Side(task, content.expert, content.gating, content.layout, content.action_space, names, shapes)


def _of_agent(agent: PartsOfAgent, task: Mapping[str, Any]) -> Side:
    model = agent.model
    shapes = {name: tuple(one.shape) for name, one in model.state_dict().items()}
    return Side(task, agent.expert, agent.gating, agent.layout, model.action_space, model.column_names, shapes)
