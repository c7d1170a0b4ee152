"""Experts under gate weights that are given: what evaluation asks of a mixture, bar after bar."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from moe_trader.expert.mixture import GaussianMixture
from moe_trader.expert.mixture_policy import MixturePolicy
from moe_trader.finite import checked_observations


class GivenGate:
    """The experts of a policy under other gate weights, which are checked and moved to the policy's device once.

    Neither gate nor critics are run, and no densities but those that an action needs: a decision for one bar is all
    overhead, and evaluation takes one after the other, because each depends on the account that the last one left.

    :param weights: at each decision, shape ``(n_decisions, batch, K)``
    :param drawn: rows whose action is drawn instead of being the most likely, shape ``(batch,)``; ``None``: no row
    :raises ValueError: for weights that are none, and for another ``drawn``
    """

    def __init__(self, policy: MixturePolicy, weights: np.ndarray, drawn: np.ndarray | None = None) -> None:
        weights = _checked(as_weights(weights), len(policy.actor_critics))
        (self._size,), self._names = policy.observation_space.shape or (), policy.column_names
        self._seen = policy.seen_by_experts
        self._space, self._device = policy.action_space, policy.device
        self._scores, self._log_std = policy.stack.actor(), policy.stack.log_std
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
        weights = self._weights[at]
        observations = checked_observations(observations, self._size, self._names)
        if observations.ndim != 2:
            raise ValueError(f"observations: expected shape (n, {self._size}), got {observations.shape}")
        if len(observations) != len(weights):
            raise ValueError(f"observations: expected as many rows as weights, {len(weights)}, got {len(observations)}")
        seen = self._seen(torch.from_numpy(observations).to(self._device))
        scores, log_std = self._scores(seen), self._log_std
        if log_std is None:
            chances = (torch.softmax(scores, -1) * weights.unsqueeze(-1)).sum(1)  # m(a|s), (batch, n_actions)
            actions, own = chances.argmax(-1), scores.argmax(-1)
        else:
            mixture = GaussianMixture(weights, scores, log_std)
            actions, own = mixture.mode(), scores
        if self._first.stop:
            generator = torch.Generator(self._device).manual_seed(seed)
            if log_std is None:
                draws = torch.multinomial(chances[self._first], 1, generator=generator, replacement=True).squeeze(-1)
            else:
                draws = GaussianMixture(weights[self._first], scores[self._first], log_std).sample(generator)
            actions[self._drawn] = draws[self._drawn]
        return self._executed(actions), self._executed(own)

    def _executed(self, actions: Tensor) -> np.ndarray:
        """Return actions as an environment gets them: SB3's Gaussians are unbounded, and clipped to the space."""
        array: np.ndarray = actions.cpu().numpy()
        return np.clip(array, self._space.low, self._space.high) if isinstance(self._space, spaces.Box) else array


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
    """Return weights as they are. :raises ValueError: for what are none."""
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
