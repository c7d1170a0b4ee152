"""The transport loss: states assigned to the experts that did well on them, every expert the same number."""

from __future__ import annotations

import torch
from torch import Tensor

from moe_trader.bounds import Scale, Times
from moe_trader.gating import GateBatch
from moe_trader.gating.losses import ScheduledLoss
from moe_trader.option import option


@option
class Sinkhorn(ScheduledLoss):
    """Cross-entropy of the gate to a balanced assignment of states to experts: -E sum_k P_k log g_k.

    P = Sinkhorn(score / epsilon) is the entropic optimal transport of the minibatch's states to the experts, each of
    which takes an equal share; it carries no gradient. Lin, Zhou, Liu and Bian, "Learning multiple stock trading
    patterns with temporal routing adaptor and optimal transport" (arXiv 2106.12950, Qlib's TRA) score expert k by minus
    its own loss. On-policy only the action taken was tried, so the score is

        score_k = A(s, a) p_k(a|s) / m(a|s) = A r_k / g_k,

    the advantage weighted by the responsibility that k has beyond its gate weight. Its mean over a ~ m is
    sum_a p_k(a|s) A(s, a), the advantage of following expert k, which is the gradient of the return by g_k as well. A
    constant added to a state's scores changes nothing, so no baseline is needed. A is in units of its root mean
    square; p_k / m stops at K, which it cannot exceed under equal weights, as a rare expert's score would drown all
    others (truncated as in IMPALA, arXiv 1802.01561).

    One action is noisy evidence, and P is right on average only as far as it is linear in the score, which a larger
    epsilon makes it. Since experts get equal shares whatever the regimes, let the loss fade (``final_weight: 0``), as
    TRA does.

    :param epsilon: entropic regularisation; smaller is nearer to one expert a state
    :param iterations: of scaling columns, then rows; rows always sum to 1, columns nearly to batch / K
    """

    epsilon: Scale
    iterations: Times

    def __call__(self, batch: GateBatch) -> Tensor:
        """Return the cross-entropy in nats."""
        log_weights = torch.log(batch.weights.clamp_min(torch.finfo(batch.weights.dtype).tiny))
        plan = transport(batch.expert_advantages / self.epsilon, self.iterations)
        return -(plan * log_weights).sum(-1).mean()


def transport(score: Tensor, iterations: int) -> Tensor:
    """Return the entropic transport plan of ``score``, shape ``(batch, n_experts)``, its rows summing to 1.

    Cuturi, "Sinkhorn distances" (arXiv 1306.0895), in logarithms.
    """
    log_plan = score
    for _ in range(iterations):
        log_plan = log_plan - torch.logsumexp(log_plan, dim=0)  # every expert takes the same number of states
        log_plan = torch.log_softmax(log_plan, dim=-1)  # every state is assigned in full
    return log_plan.exp()
