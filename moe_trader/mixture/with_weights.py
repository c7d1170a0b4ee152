"""The experts of a mixture under given gate weights, which evaluation asks bar after bar."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from moe_trader.finite import checked_observations
from moe_trader.mixture.choice import Choice
from moe_trader.mixture.model import MixtureModel


class Positions(Protocol):
    """What actions mean: :class:`moe_trader.env.Positions`."""

    def targets(self, actions: np.ndarray, held: NDArray[np.float64]) -> tuple[NDArray[np.float64], Any]:
        """Return the target position of each action, shape ``(batch,)``, and more."""

    def nearest(self, targets: NDArray[np.float64], held: NDArray[np.float64]) -> np.ndarray:
        """Return the actions whose targets are nearest to these."""


class WithWeights:
    """The experts of a mixture under given gate weights, which are checked and moved to its device once.

    Neither gate nor critics are run, and no densities but those that an action needs: a decision for one bar is all
    overhead, and evaluation takes one after the other, because each depends on the account that the last one left.

    :param weights: at each decision, shape ``(n_decisions, batch, K)``
    :param drawn: rows whose action is drawn instead of being the most likely, shape ``(batch,)``; ``None``: no row
    :raises ValueError: unless rows are non-negative and sum to 1, and for another ``drawn``
    """

    def __init__(self, model: MixtureModel, weights: np.ndarray, drawn: np.ndarray | None = None) -> None:
        weights = _checked(as_weights(weights), model.n_experts)
        self._model, self._device = model, model.device
        self._choose = model.chooser()
        self._weights = torch.as_tensor(weights.astype(np.float32), device=self._device)
        rows = _rows(drawn, weights.shape[1])
        self._drawn = torch.tensor(rows, dtype=torch.long, device=self._device)
        self._first = slice(0, rows[-1] + 1 if rows else 0)  # what a row draws does not depend on the rows behind it

    @torch.inference_mode()
    def decide(self, at: int, observations: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Return the actions of decision ``at``, ``(batch, ...)``, and each expert's own, ``(batch, K, ...)``.

        :param observations: shape ``(batch, size)``
        :param seed: of the draws, which do not disturb those of training
        :raises ValueError: for observations of another shape, with numbers that are not finite, or with another number
            of rows than there are weights
        """
        choice = self._choice(at, observations)
        return self._model.executed(self._actions(choice, self._generator(seed))), self._own(choice)

    def order(
        self, at: int, observations: np.ndarray, held: NDArray[np.float64], positions: Positions, seed: int = 0
    ) -> tuple[NDArray[np.float64], np.ndarray]:
        """Return the target positions of decision ``at``, ``(batch,)``, and each expert's own actions.

        :param held: target that each row holds, shape ``(batch,)``
        :param positions: what actions mean
        """
        actions, own = self.decide(at, observations, seed)
        return positions.targets(actions, held)[0], own

    def _choice(self, at: int, observations: np.ndarray) -> Choice:
        weights = self._weights[at]
        observations = checked_observations(observations, self._model.n_columns, self._model.column_names)
        if observations.ndim != 2:
            raise ValueError(f"observations: expected shape (n, {self._model.n_columns}), got {observations.shape}")
        if len(observations) != len(weights):
            raise ValueError(f"observations: expected as many rows as weights, {len(weights)}, got {len(observations)}")
        seen = self._model.seen_by_experts(torch.from_numpy(observations).to(self._device))
        return self._choose(seen, weights)

    def _actions(self, choice: Choice, generator: torch.Generator | None) -> torch.Tensor:
        actions = choice.mode()
        if generator is not None:
            draws = choice.rows(self._first).sample(generator)
            actions[self._drawn] = draws[self._drawn]
        return actions

    def _generator(self, seed: int) -> torch.Generator | None:
        """Return what rows are drawn with; ``None``: no row is drawn."""
        return torch.Generator(self._device).manual_seed(seed) if self._first.stop else None

    def _own(self, choice: Choice) -> np.ndarray:
        return self._model.executed(choice.expert_modes())


class MeanOfMembers(WithWeights):
    """M members of equally many experts, which each take an action by themselves: their mean target is ordered.

    A member's share of the mean is the sum of its experts' weights: 1 / M each under the ensemble's gate.

    :param n_members: M, which divides the number of experts
    """

    def __init__(self, model: MixtureModel, weights: np.ndarray, drawn: np.ndarray | None, n_members: int) -> None:
        super().__init__(model, weights, drawn)
        n_each = model.n_experts // n_members
        self._parts = [slice(at, at + n_each) for at in range(0, model.n_experts, n_each)]

    @torch.inference_mode()
    def order(
        self, at: int, observations: np.ndarray, held: NDArray[np.float64], positions: Positions, seed: int = 0
    ) -> tuple[NDArray[np.float64], np.ndarray]:
        """Return the mean of the members' targets, and each expert's own actions; see :meth:`WithWeights.order`."""
        choice, generator = self._choice(at, observations), self._generator(seed)
        found, shares = [], []
        for part in self._parts:
            weights = choice.weights[:, part]
            share = weights.sum(-1, keepdim=True)
            even = torch.full_like(weights, 1 / weights.shape[-1])  # of a member without any share
            own_weights = torch.zeros_like(choice.weights)
            own_weights[:, part] = torch.where(share > 0, weights / share, even)
            actions = self._model.executed(self._actions(choice.reweighted(own_weights), generator))
            found.append(positions.targets(actions, held)[0])
            shares.append(share.squeeze(-1).cpu().numpy())
        return _mean(np.stack(found), np.stack(shares).astype(np.float64)), self._own(choice)


def _mean(targets: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of the members' targets by their shares, ``(M, batch)`` each.

    Shares are sums of float32. Their rounding would be traded at each bar, so that whole multiples of 1 / M are exact.
    """
    multiples = shares * len(shares)
    whole = np.round(multiples)
    multiples = np.where(np.abs(multiples - whole) < 1e-4, whole, multiples)
    mean: NDArray[np.float64] = (multiples * targets).sum(0) / multiples.sum(0)
    return mean


def as_weights(given: Any) -> NDArray[Any]:
    """Return an array of real numbers. :raises ValueError: for anything else."""
    try:
        weights = np.asarray(given)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged rows, a tensor with a gradient
        raise ValueError(f"weights: expected an array of numbers, got {type(given).__name__} ({error})") from None
    if weights.dtype.kind not in "biuf":
        raise ValueError(f"weights: expected an array of numbers, got {type(given).__name__} of {weights.dtype}")
    return weights


def _checked(weights: NDArray[Any], n_experts: int) -> NDArray[Any]:
    """Return weights as they are. :raises ValueError: unless rows are non-negative and sum to 1."""
    wanted = f"weights: expected rows of shape (batch, {n_experts}) that are not negative and sum to 1"
    if weights.ndim != 3 or weights.shape[-1] != n_experts or not weights.size:
        raise ValueError(f"{wanted}, got shape {weights.shape[1:]}")
    sums = weights.sum(axis=-1)
    if weights.min() < 0 or not np.allclose(sums, 1.0, atol=1e-4):
        raise ValueError(f"{wanted}, got sums from {np.min(sums):g} to {np.max(sums):g}")
    return weights


def _rows(drawn: Any, n: int) -> list[int]:
    """Return which of ``n`` rows are drawn. :raises ValueError: unless there is True or False for each."""
    if drawn is None:
        return []
    if not (isinstance(drawn, np.ndarray) and drawn.dtype == np.bool_ and drawn.shape == (n,)):
        raise ValueError(f"drawn: expected an array of True or False for each of {n} rows, got {drawn!r:.80}")
    rows: list[int] = np.flatnonzero(drawn).tolist()
    return rows
