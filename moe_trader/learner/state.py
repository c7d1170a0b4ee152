"""The state of a learner between two updates: tensors and plain values, from which training goes on to the bit."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from moe_trader.learner.divergence import KeptWeights

if TYPE_CHECKING:
    from moe_trader.learner.on_policy import OnPolicyLearner

COUNTERS = (
    "num_timesteps",
    "_num_timesteps_at_start",
    "_total_timesteps",
    "_current_progress_remaining",
    "_n_updates",
    "_episode_num",
)


@dataclass(frozen=True)
class LearnerState:
    """Tensors by name, and values that JSON holds."""

    tensors: dict[str, Tensor]
    values: dict[str, Any]


def state_of(learner: OnPolicyLearner) -> LearnerState:
    """Return weights, optimiser, counters, random generators, last observations and environment.

    A rollout is not part of it: between two updates the next one is still to be collected. Schedules are functions of
    the counters.

    :raises ValueError: before training has begun, and for an environment that cannot say its state
    """
    if learner._last_obs is None:
        raise ValueError("state: training has not begun, so there is nothing to go on from; call learn() first")
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {name: getattr(learner, name) for name in COUNTERS}
    values["learner"] = type(learner).__name__
    values["metrics"] = dict(learner.metrics)
    values["episodes"] = [dict(one) for one in learner.ep_info_buffer or ()]

    # Weights, those before the last update, and the optimiser.
    _add(tensors, "model", learner.policy.model.state_dict())
    _add(tensors, "optimizer", _moments(learner.policy.optimizer))
    if learner._gate_weights is not None:
        tensors["gate_weights"] = learner._gate_weights
    if learner._kept is not None:
        _add(tensors, "kept.experts", {str(k): one for k, one in enumerate(learner._kept.experts)})
        _add(tensors, "kept.gate", learner._kept.gate)

    # Environment, and what it showed last.
    environment = _environment(learner, "state")()
    values["environment"] = environment["values"]
    _add(tensors, "environment", {name: torch.from_numpy(array) for name, array in environment["arrays"].items()})
    tensors["last_observations"] = torch.from_numpy(np.asarray(learner._last_obs))
    tensors["last_episode_starts"] = torch.from_numpy(np.asarray(learner._last_episode_starts))

    # Random generators: Python's, NumPy's, PyTorch's, and that of the action space.
    name, keys, *rest = np.random.get_state()  # noqa: NPY002 - SB3 draws from it
    tensors["numpy_random"] = torch.from_numpy(np.asarray(keys).astype(np.int64))
    values["numpy_random"] = [name, *rest]
    tensors["torch_random"] = torch.get_rng_state()
    if learner.device.type == "cuda":
        tensors["cuda_random"] = torch.cuda.get_rng_state(learner.device)
    values["python_random"] = list(random.getstate())
    values["action_space_random"] = learner.action_space.np_random.bit_generator.state
    return LearnerState({name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}, values)


def load_state(learner: OnPolicyLearner, state: LearnerState) -> None:
    """Put a state back. :raises ValueError: for the state of another kind of learner, naming what differs."""
    tensors, values = state.tensors, state.values
    own = type(learner).__name__
    if values["learner"] != own:
        raise ValueError(f"state: expected one of {own}, got one of {values['learner']}")
    expected = {f"model.{name}": one.shape for name, one in learner.policy.model.state_dict().items()}
    found = {name: one.shape for name, one in tensors.items() if name.startswith("model.")}
    if expected != found:
        differing = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        raise ValueError(
            f"state: expected one of the same experts and gate; {differing[0]} has shape "
            f"{tuple(found.get(differing[0], ()))} there and {tuple(expected.get(differing[0], ()))} here"
        )
    # The environment first: where it refuses a state, the learner is still as it was.
    arrays = {name: one.numpy().copy() for name, one in _part(tensors, "environment").items()}
    _environment(learner, "load_state")({"values": values["environment"], "arrays": arrays})
    learner._last_obs = tensors["last_observations"].numpy().copy()
    learner._last_episode_starts = tensors["last_episode_starts"].numpy().copy()

    for name in COUNTERS:
        setattr(learner, name, values[name])
    learner.metrics = dict(values["metrics"])
    learner.ep_info_buffer = deque(values["episodes"], maxlen=learner._stats_window_size)
    learner.ep_success_buffer = deque(maxlen=learner._stats_window_size)

    learner.policy.model.load_state_dict(_part(tensors, "model"))
    _load_moments(learner.policy.optimizer, _part(tensors, "optimizer"))
    gate_weights = tensors.get("gate_weights")
    learner._gate_weights = None if gate_weights is None else gate_weights.to(learner.device)
    if any(name.startswith("kept.") for name in tensors):
        experts = _part(tensors, "kept.experts")
        kept = KeptWeights(learner.policy.model)
        kept.experts = [experts[str(k)].to(learner.device) for k in range(len(experts))]
        kept.gate = _part(tensors, "kept.gate")
        learner._kept = kept

    name, *rest = values["numpy_random"]
    np.random.set_state((name, tensors["numpy_random"].numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(tensors["torch_random"])
    if learner.device.type == "cuda" and "cuda_random" in tensors:
        torch.cuda.set_rng_state(tensors["cuda_random"], learner.device)
    version, numbers, following = values["python_random"]
    random.setstate((version, tuple(numbers), following))
    learner.action_space.np_random.bit_generator.state = values["action_space_random"]


def _add(tensors: dict[str, Tensor], prefix: str, more: Mapping[str, Tensor]) -> None:
    tensors |= {f"{prefix}.{name}": tensor for name, tensor in more.items()}


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}."): one for name, one in tensors.items() if name.startswith(f"{prefix}.")}


def _moments(optimizer: Optimizer) -> dict[str, Tensor]:
    """Return what an optimiser remembers of each parameter, as ``NUMBER.NAME``."""
    state = optimizer.state_dict()["state"]
    return {f"{number}.{name}": torch.as_tensor(one) for number, own in state.items() for name, one in own.items()}


def _load_moments(optimizer: Optimizer, moments: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in moments.items():
        number, _, kind = name.partition(".")
        state.setdefault(int(number), {})[kind] = tensor.clone()
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _environment(learner: OnPolicyLearner, verb: str) -> Callable[..., Any]:
    """Return the environment's own ``state`` or ``load_state``. :raises ValueError: for one that has none."""
    found = getattr(learner.env, verb, None)
    if not callable(found):
        raise ValueError(
            f"env: {type(learner.env).__name__} has no {verb}(): where training stands in it cannot be saved; "
            "use moe_trader's own environment"
        )
    method: Callable[..., Any] = found
    return method
