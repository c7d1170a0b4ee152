"""The rollout on PyTorch's side: converted once, shuffled once an epoch, sliced for every minibatch."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from torch import Tensor


class TorchRolloutBuffer(RolloutBuffer):
    """SB3's rollout buffer with minibatches made by PyTorch, in the very order in which SB3 would make them."""

    def reset(self) -> None:
        """Forget the rollout."""
        self._samples: tuple[Tensor, Tensor, Tensor] | None = None
        super().reset()

    def compute_returns_and_advantage(self, last_values: Tensor, dones: np.ndarray) -> None:
        """Compute them as SB3 does; what overflows is refused before an update, without NumPy's warning."""
        with np.errstate(over="ignore", invalid="ignore"):
            super().compute_returns_and_advantage(last_values, dones)

    def get(self, batch_size: int | None = None) -> Generator[RolloutBufferSamples, None, None]:
        """Yield the rollout in minibatches, in a new order."""
        observations, actions, scalars = self._samples = self._samples or self._converted()
        n = len(observations)
        order = torch.from_numpy(np.random.permutation(n)).to(self.device)  # noqa: NPY002 - the draw that SB3 makes
        actions, scalars = actions[order], scalars[:, order]
        for start in range(0, n, batch_size or n):
            part = slice(start, start + (batch_size or n))
            yield RolloutBufferSamples(
                observations.index_select(0, order[part]), actions[part], *scalars[:, part].unbind()
            )

    def _converted(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return observations ``(n, size)``, actions, and values, log-probs, advantages and returns ``(4, n)``."""

        def tensor(array: np.ndarray) -> Tensor:
            return torch.from_numpy(self.swap_and_flatten(array)).to(self.device)

        actions = tensor(self.actions)
        if isinstance(self.action_space, spaces.Discrete):
            actions = actions.flatten()
        scalars = [self.values, self.log_probs, self.advantages, self.returns]
        return tensor(self.observations), actions, torch.cat([tensor(one) for one in scalars], dim=1).T.contiguous()
