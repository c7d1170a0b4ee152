"""Where the time of a minibatch goes: the parts of a joint PPO update, each without the parts within it."""

from __future__ import annotations

import dataclasses
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np

from moe_trader.agent import MoEAgent
from moe_trader.fast import categorical, stacked, update
from moe_trader.fast.adam import ClippingAdam
from moe_trader.fast.gates import Routing
from moe_trader.learner import ppo
from moe_trader.learner.policy import MixturePolicy
from moe_trader.learner.rollout import TorchRolloutBuffer


class Clock:
    """Processor time of nested parts; a part's own time leaves out what runs within it."""

    def __init__(self) -> None:
        self.samples: list[dict[str, float]] = []
        self._spent: dict[str, float] = defaultdict(float)
        self._open: list[str] = []
        self._since = 0.0

    def _turn(self) -> None:
        now = time.process_time()
        if self._open:
            self._spent[self._open[-1]] += now - self._since
        self._since = now

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measure what runs within."""
        self._turn()
        self._open.append(name)
        yield
        self._turn()
        self._open.pop()

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, measured."""

        def measured(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return function(*args, **kwargs)

        return measured

    def next_minibatch(self) -> None:
        """Close the sample of a minibatch."""
        self._turn()
        self.samples.append(dict(self._spent))
        self._spent.clear()


def profile_update(agent: MoEAgent, steps: int) -> dict[str, float]:
    """Return the median milliseconds of each part of a minibatch of the update, while the agent learns ``steps``."""
    clock = Clock()
    functions = [
        ("minibatch out of the rollout", MixturePolicy, "whole_observations"),
        ("stack, forward", stacked, "run"),
        ("loss", categorical, "normalise"),
        ("loss", categorical, "densities"),
        ("loss", categorical, "objective"),
        ("loss", categorical, "gradients"),
        ("stack, backward", stacked, "gradient"),
        ("between the parts", ppo, "ppo_gradient"),
        ("sums, logs", ppo.PPOLearner, "train"),
    ]
    get, route, end = TorchRolloutBuffer.get, update.route, ClippingAdam.clipped_step
    gradients = {kind: clock.around("losses of the gate", one) for kind, one in update.GRADIENTS.items()}

    def minibatches(*args: Any) -> Iterator[Any]:
        made = get(*args)
        while True:
            with clock.part("minibatch out of the rollout"):
                batch = next(made, None)
            if batch is None:
                return
            yield batch

    def routed(*args: Any) -> Routing:
        with clock.part("gate, forward"):
            routing = route(*args)
        return dataclasses.replace(routing, send_back=clock.around("gate, backward", routing.send_back))

    def stepped(*args: Any) -> Any:
        with clock.part("clipping and Adam"):
            terms = end(*args)
        clock.next_minibatch()
        return terms

    with ExitStack() as changes:
        for name, owner, attribute in functions:
            measured = clock.around(name, getattr(owner, attribute))
            changes.enter_context(patch.object(owner, attribute, measured))
        changes.enter_context(patch.object(update, "route", routed))
        changes.enter_context(patch.object(update, "GRADIENTS", gradients))
        changes.enter_context(patch.object(ClippingAdam, "clipped_step", stepped))
        changes.enter_context(patch.object(TorchRolloutBuffer, "get", minibatches))
        agent.learn(steps)
    names = {name for sample in clock.samples for name in sample}
    return {name: 1e3 * float(np.median([sample.get(name, 0.0) for sample in clock.samples])) for name in names}
