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

if TYPE_CHECKING:
    from moe_trader.learner.mixture_learner import MixtureLearner


_RANDOM = ("numpy_random", "python_random", "action_space_random")


@dataclass(frozen=True)
class LearnerState:
    """Tensors by name, and values that JSON holds."""

    tensors: dict[str, Tensor]
    values: dict[str, Any]


def state_of(learner: MixtureLearner) -> LearnerState:
    """Return weights, optimiser, counters, metrics, random generators, last observations and environment.

    A rollout is not part of it: between two updates the next one is still to be collected. Schedules are functions of
    the counters.

    :raises ValueError: before training has begun, and for an environment that cannot say its state
    """
    if learner._last_obs is None:
        raise ValueError("state: training has not begun, so there is nothing to go on from; call learn() first")
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {name: getattr(learner, name) for name in learner.counters}
    values["learner"] = type(learner).__name__
    values["metrics"] = dict(learner.metrics)
    values["episodes"] = [dict(one) for one in learner.ep_info_buffer or ()]

    # Weights, those before the last update, and the optimiser.
    _add(tensors, "model", learner.model.state_dict())
    for name, optimizer in learner.optimizers().items():
        _add(tensors, name, _moments(optimizer))
    if learner._gate_weights is not None:
        tensors["gate_weights"] = learner._gate_weights
    _add(tensors, "own", learner.own_state())

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
    values["tensors"] = sorted(tensors)
    return LearnerState({name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}, values)


def load_state(learner: MixtureLearner, state: LearnerState) -> None:
    """Put a state back. :raises ValueError: for the state of another kind of learner, naming what differs."""
    if not isinstance(state, LearnerState):
        raise ValueError(f"state: expected a LearnerState, as state() returns it, got {type(state).__name__}")
    tensors, values = state.tensors, state.values
    needed = {"learner", "metrics", "episodes", "environment", "tensors", *_RANDOM, *learner.counters}
    if missing := sorted((needed - values.keys()) or ({*values["tensors"]} - tensors.keys())):
        raise ValueError(f"state: {missing[0]} is missing; take it again with state()")
    own = type(learner).__name__
    if values["learner"] != own:
        raise ValueError(f"state: expected one of {own}, got one of {values['learner']}")
    expected = {f"model.{name}": one.shape for name, one in learner.model.state_dict().items()}
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

    for name in learner.counters:
        setattr(learner, name, values[name])
    learner.metrics = dict(values["metrics"])
    learner.ep_info_buffer = deque(values["episodes"], maxlen=learner._stats_window_size)
    learner.ep_success_buffer = deque(maxlen=learner._stats_window_size)

    learner.model.load_state_dict(_part(tensors, "model"))
    for name, optimizer in learner.optimizers().items():
        _load_moments(optimizer, _part(tensors, name))
    gate_weights = tensors.get("gate_weights")
    learner._gate_weights = None if gate_weights is None else gate_weights.to(learner.device)
    learner.load_own_state(_part(tensors, "own"))

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


def _environment(learner: MixtureLearner, verb: str) -> Callable[..., Any]:
    """Return the environment's own ``state`` or ``load_state``. :raises ValueError: for one that has none."""
    if learner.env is None:
        raise ValueError("state: this agent has no environment to go on in; MoEAgent.load(path, env=...) gives it one")
    found = getattr(learner.env, verb, None)
    if not callable(found):
        raise ValueError(
            f"env: {type(learner.env).__name__} has no {verb}(): where training stands in it cannot be saved; "
            "use moe_trader's own environment"
        )
    method: Callable[..., Any] = found
    return method
