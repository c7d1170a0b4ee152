"""The categorical mixture with its gradient by hand, and compiled log-probabilities where autograd records nothing."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from moe_trader.fast import categorical as kernels
from moe_trader.mixture.categorical import CategoricalMixture, at_actions
from moe_trader.mixture.choice import positive


class CategoricalDensity(torch.autograd.Function):
    """log m(a|s), H(m) and the posterior entropy of every state, with their gradient by hand.

    With the joint P = g_k p_k(a), M = sum_k P and r = P / M: d log M / d log P = r, the entropy -sum M log M has the
    gradient -P (log M + 1), and the posterior entropy -sum P log r has -P log r. Autograd would record twenty steps.
    """

    @staticmethod
    def forward(weights: Tensor, logits: Tensor) -> tuple[Tensor, ...]:
        """Return log m, entropy, posterior entropy, log p_k and log r_k; the batch runs fastest."""
        log_p = torch.log_softmax(logits.permute(1, 2, 0), dim=1)  # (K, n_actions, batch): the batch runs fastest
        log_joint = log_p + torch.log(positive(weights.T)).unsqueeze(1)
        log_m = torch.logsumexp(log_joint, dim=0)  # (n_actions, batch)
        log_r = log_joint - log_m
        joint = log_joint.exp()
        entropy, posterior_entropy = -(log_m.exp() * log_m).sum(0), -(joint * log_r).sum((0, 1))
        return log_m, entropy, posterior_entropy, log_p, log_r, joint

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, ...]) -> None:
        """Keep the densities."""
        log_m, _, _, log_p, log_r, joint = output
        ctx.save_for_backward(inputs[0], log_p, log_r, joint, log_m)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(log_r, joint)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,
        d_log_m: Tensor | None,
        d_entropy: Tensor | None,
        d_posterior: Tensor | None,
        d_log_p: Tensor | None,
        *_: None,
    ) -> tuple[Tensor, Tensor]:
        """Return the gradients of weights and logits."""
        weights, log_p, log_r, joint, log_m = ctx.saved_tensors
        d_joint = torch.zeros_like(log_p) if d_log_m is None else log_r.exp() * d_log_m
        if d_entropy is not None:
            d_joint = torch.addcmul(d_joint, joint, (log_m + 1) * d_entropy, value=-1)
        if d_posterior is not None:
            d_joint = torch.addcmul(d_joint, joint * log_r, d_posterior, value=-1)
        d_weights = d_joint.sum(1).T / positive(weights)  # (batch, K)
        if d_log_p is not None:
            d_joint = d_joint + d_log_p
        d_logits = d_joint - log_p.exp() * d_joint.sum(1, keepdim=True)
        return d_weights, d_logits.permute(2, 0, 1)


class FastCategorical(CategoricalMixture):
    """The same mixture in fewer steps."""

    @cached_property
    def _density(self) -> tuple[Tensor, ...]:
        log_m, entropy, posterior_entropy, log_p, log_r, _ = CategoricalDensity.apply(self.weights, self.logits)
        return log_m.T, entropy, posterior_entropy, log_p.permute(2, 0, 1), log_r.permute(2, 0, 1)

    @property
    def log_probs(self) -> Tensor:
        """Log m of every action, shape ``(batch, n_actions)``."""
        return self._density[0] if torch.is_grad_enabled() else self._log_probs

    @cached_property
    def _log_probs(self) -> Tensor:  # what a rollout asks for, computed as in a compiled update
        if self.logits.device.type != "cpu" or self.logits.dtype != torch.float32:
            return self._density[0]
        weights, scores = self.weights.T.contiguous().numpy(), self.logits.permute(1, 2, 0).contiguous().numpy()
        p, log_r = np.empty_like(scores), np.empty_like(scores)
        m, log_m = np.empty_like(scores[0]), np.empty_like(scores[0])
        kernels.densities(weights, scores, p, log_r, m, log_m)
        return torch.from_numpy(log_m).T

    @property
    def expert_log_probs(self) -> Tensor:
        """Log p_k of every action, shape ``(batch, K, n_actions)``."""
        return self._density[3]

    def responsibilities(self, actions: Tensor) -> Tensor:
        """Return r, by Bayes' rule."""
        return at_actions(self._density[4], actions).exp().detach()

    def entropy(self) -> Tensor:
        """Return the exact entropy."""
        return self._density[1]

    def posterior_entropy(self, actions: Tensor) -> Tensor:
        """Return sum_a m(a) H(r(.|a)); ``actions`` are not needed."""
        return self._density[2]
