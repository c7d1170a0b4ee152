"""The experts of a mixture under given gate weights, which evaluation asks bar after bar."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from moe_trader.finite import checked_observations
from moe_trader.mixture.model import MixtureModel


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
        weights = self._weights[at]
        observations = checked_observations(observations, self._model.n_columns, self._model.column_names)
        if observations.ndim != 2:
            raise ValueError(f"observations: expected shape (n, {self._model.n_columns}), got {observations.shape}")
        if len(observations) != len(weights):
            raise ValueError(f"observations: expected as many rows as weights, {len(weights)}, got {len(observations)}")
        seen = self._model.seen_by_experts(torch.from_numpy(observations).to(self._device))
        choice = self._choose(seen, weights)
        actions, own = choice.mode(), choice.expert_modes()
        if self._first.stop:
            generator = torch.Generator(self._device).manual_seed(seed)
            draws = choice.rows(self._first).sample(generator)
            actions[self._drawn] = draws[self._drawn]
        return self._model.executed(actions), self._model.executed(own)


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
