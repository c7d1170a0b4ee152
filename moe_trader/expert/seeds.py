"""Several seeds of one config in one process: where the arithmetic is PyTorch's, that of all of them at once.

On a GPU a small network costs what its kernels cost to start, whatever the batch: sixteen seeds one after the other
take sixteen times as long as one. Here each seed's training is the program that it is alone, SB3's own loop, in a
coroutine. Where it needs its networks it waits until all the others do; then ``torch.vmap`` runs them together.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from greenlet import GreenletExit, getcurrent, greenlet
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_leaves, tree_map

from moe_trader.expert.mixture_policy import MixturePolicy
from moe_trader.expert.mixture_ppo import MixturePPO
from moe_trader.expert.output import Evaluated, MixtureOutput, output_of
from moe_trader.option import ConfigError

log = logging.getLogger(__name__)

T = TypeVar("T")


class Seeds:
    """Runs jobs that each train one seed, and does their arithmetic together.

    Each job's draws are its own: what PyTorch's, NumPy's and Python's generators would say next is put by while another
    job runs, so that a seed is what it is alone, to rounding. For Box actions it is not: the estimate of the entropy is
    then drawn for all seeds at once.

    :param always: also where this package's compiled code could do the arithmetic, and faster, as on a CPU
    """

    def __init__(self, always: bool = False) -> None:
        self._always = always
        self._made: dict[Any, Callable[..., Any]] = {}  # by kind of request
        self._warned: set[str] = set()

    def run(self, jobs: Sequence[Callable[[], T]]) -> list[T]:
        """Run every job to its end, and return what they return.

        Where one fails the others go on, and its exception is raised at the end; a :class:`ConfigError`, which is every
        job's, ends all of them. Where one is interrupted all are, so that each can save what it has.

        :raises ConfigError: when the device's memory is too small for so many
        """
        self._hub, records = getcurrent(), torch.is_grad_enabled()
        returned: dict[greenlet, T] = {}
        failures: list[Exception] = []
        started = [greenlet(lambda job=job: returned.__setitem__(getcurrent(), job())) for job in jobs]
        waiting: dict[greenlet, _Request] = {}

        def go_on(one: greenlet, *answer: Any) -> None:
            waiting.pop(one, None)
            try:
                if (asked := one.switch(*answer)) is not None:  # it did not come to its end
                    waiting[one] = asked
            except (ConfigError, torch.OutOfMemoryError):
                raise
            except Exception as failure:
                failures.append(failure)
            torch.set_grad_enabled(records)  # each job has its own, as a thread would

        try:
            for one in started:
                go_on(one)
            while waiting:
                kind = min(request.kind for request in waiting.values())
                chosen = [one for one in started if one in waiting and waiting[one].kind == kind]
                for one, answer in zip(chosen, self._answers([waiting[one] for one in chosen]), strict=True):
                    go_on(one, answer)
        except torch.OutOfMemoryError as error:
            _end(started, GreenletExit)
            raise ConfigError(
                f"trainer.parallel_seeds: {len(jobs)} seeds need more memory than the device has "
                f"({str(error).splitlines()[0]}); try {max(len(jobs) // 2, 1)}"
            ) from None
        except BaseException as error:
            _end(started, type(error) if isinstance(error, KeyboardInterrupt) else GreenletExit)
            raise
        finally:
            torch.set_grad_enabled(records)
        if failures:
            raise failures[0]
        return [returned[one] for one in started]

    @contextlib.contextmanager
    def beside(self, algorithm: MixturePPO) -> Iterator[None]:
        """Train an algorithm, in a job, beside those of the others; what this package compiled gains nothing by it."""
        ours = algorithm.policy.stack.is_compiled and not algorithm.compiles
        algorithm.policy.beside = None if ours and not self._always else self
        try:
            yield
        finally:
            algorithm.policy.beside = None

    def mix(self, policy: MixturePolicy, observations: Tensor) -> MixtureOutput:
        """Return what ``policy.mix`` returns, for a job."""
        output: MixtureOutput = self._ask(_Request(1, _Trained(policy), (observations,), policy))
        return output

    def differentiate(self, algorithm: MixturePPO, batch: RolloutBufferSamples, clip_range: float) -> dict[str, Tensor]:
        """Do what ``algorithm.differentiate`` does, for a job."""
        told, given = (*batch, algorithm.gate_loss_weights()), algorithm.coefficients(clip_range)
        # Updates go first: a seed that ended its own early (expert.target_kl) waits for the others.
        terms: dict[str, Tensor] = self._ask(_Request(0, _Trained(algorithm.policy), told, algorithm, given))
        return terms

    def _ask(self, request: _Request) -> Any:
        draws, records = _draws(), torch.is_grad_enabled()
        try:
            answer = self._hub.switch(request)
        finally:
            torch.set_grad_enabled(records)
        _draw_on(draws)
        return answer

    def _answers(self, requests: Sequence[_Request]) -> Sequence[Any]:
        """Return what requests of one kind ask for."""
        with torch.set_grad_enabled(requests[0].turn == 0):
            return self._mixed(requests) if requests[0].turn else self._differentiated(requests)

    def _mixed(self, requests: Sequence[_Request]) -> list[MixtureOutput]:
        policy = requests[0].whose

        def evaluated(vector: Tensor, observations: Tensor) -> dict[str, Tensor]:
            found = policy.evaluate(observations, vector=vector)._asdict()
            return {name: one for name, one in found.items() if one is not None}  # vmap returns tensors alone

        found = self._run(requests, evaluated, _stacked(requests), compiles=False)
        absent = dict.fromkeys(Evaluated._fields)
        each = ({name: values[at] for name, values in found.items()} for at in range(len(requests)))
        return [output_of(Evaluated(**(absent | one))) for one in each]

    def _differentiated(self, requests: Sequence[_Request]) -> list[dict[str, Tensor]]:
        algorithm, coefficients = requests[0].whose, requests[0].constants

        def loss(vector: Tensor, *told: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            *batch, weights = told
            return algorithm.loss(vector, RolloutBufferSamples(*batch), weights, coefficients)

        given = _stacked(requests)
        losses, terms = self._run(requests, loss, given, compiles=algorithm.compiles)
        losses.sum().backward()  # no parameter of one seed is in the loss of another
        for at, request in enumerate(requests):
            for name, parameter in request.trained.named_parameters():
                gradient = given[name].grad
                parameter.grad = None if gradient is None else gradient[at]
        return [{name: values[at] for name, values in terms.items()} for at in range(len(requests))]

    def _run(
        self, requests: Sequence[_Request], function: Callable[..., Any], given: dict[str, Tensor], compiles: bool
    ) -> Any:
        """Return what a function of a policy's weights and of what is told returns, for all requests, stacked.

        :param function: of the first request's own, in which ``given`` takes the place of its weights; asked for once
            for every kind, so that all that differs later must be among what is given and told
        """
        kind, first = requests[0].kind, requests[0].trained
        told = [torch.stack(parts) for parts in zip(*(request.told for request in requests), strict=True)]
        if kind not in self._made:

            def run(one: dict[str, Tensor], *told: Tensor) -> Any:
                return functional_call(first, one, (function, *told))

            made = self._at_once(run, type(first.gate).__name__, given, *told)
            self._made[kind] = torch.compile(made) if compiles else made
        return self._made[kind](given, *told)

    def _at_once(self, run: Callable[..., Any], gate: str, *told: Any) -> Callable[..., Any]:
        """Return what runs a function for all seeds at once, or one after the other if ``vmap`` cannot."""
        made: Callable[..., Any] = torch.vmap(run, randomness="different")
        try:
            with torch.no_grad():
                made(*told)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # a gate or a loss has a step that vmap does not know, like PyTorch's GRU
            if gate not in self._warned:
                log.warning("%s: the networks of several seeds take turns, as vmap cannot run them: %s", gate, error)
                self._warned.add(gate)
            return functools.partial(_in_turn, run)
        return made


def _end(started: Sequence[greenlet], stop: type[BaseException]) -> None:
    """Throw an exception into every job that has begun and is not at its end."""
    for one in started:
        try:
            if one:
                one.throw(stop)
        except stop:
            pass
        except Exception:
            log.exception("A seed could not be ended in order, and may not have been saved")


def _in_turn(run: Callable[..., Any], *told: Any) -> Any:
    """Do as ``torch.vmap(run)``, one after the other."""
    n = len(tree_leaves(told)[0])
    returned = [run(*tree_map(lambda one, at=at: one[at], told)) for at in range(n)]
    return tree_map(lambda *parts: torch.stack(parts), *returned)


def _stacked(requests: Sequence[_Request]) -> dict[str, Tensor]:
    """Return what training changes of every seed's policy, one on top of the other."""
    values = [request.trained.values() for request in requests]
    stacked = {name: torch.stack([one[name] for one in values]).detach() for name in values[0]}
    return {name: one.requires_grad_(values[0][name].requires_grad) for name, one in stacked.items()}


@dataclass(frozen=True)
class _Request:
    """What a job waits for.

    :param turn: 0 for a gradient, 1 for an output: the least goes first
    :param told: tensors, one for each seed
    :param whose: the algorithm or the policy that asks
    :param constants: the same for all seeds
    """

    turn: int
    trained: _Trained
    told: tuple[Tensor, ...]
    whose: Any
    constants: Any = ()

    @cached_property
    def kind(self) -> tuple[Any, ...]:
        """What must be alike to be done at once, turns in ascending order."""
        values = self.trained.values().items()
        shapes = tuple((name, *one.shape) for name, one in values), tuple(tuple(one.shape) for one in self.told)
        return self.turn, shapes, self.constants


class _Trained(nn.Module):
    """What training changes of a policy, in a module of its own: other values can be put in its place."""

    def __init__(self, policy: MixturePolicy) -> None:
        super().__init__()
        self.vector, self.gate = policy.stack.followed(), policy.gate

    def values(self) -> dict[str, Tensor]:
        """Return the vector of the experts' weights, and the gate's parameters and buffers."""
        return dict([*self.named_parameters(), *self.named_buffers()])

    def forward(self, function: Callable[..., Any], *told: Any) -> Any:
        """Call a function on the vector and more, while the gate has what was put in place of its own."""
        return function(self.vector, *told)


def _draws() -> tuple[Any, ...]:
    """Return what the global generators would say next."""
    on_gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    return torch.get_rng_state(), np.random.get_state(), random.getstate(), on_gpu  # noqa: NPY002 - it is SB3's


def _draw_on(draws: tuple[Any, ...]) -> None:
    torch.set_rng_state(draws[0])
    np.random.set_state(draws[1])  # noqa: NPY002
    random.setstate(draws[2])
    if draws[3] is not None:
        torch.cuda.set_rng_state_all(draws[3])
