"""A gate: a linear layer under a softmax."""

from torch import Tensor, nn

from moe_trader.gating import Gate, GateLoss, GatingNetwork
from moe_trader.option import option


@option
class Linear(Gate):
    """g = softmax(W x + b).

    :param losses: name -> term added to the training loss
    """

    losses: dict[str, GateLoss]

    def network(self, n_features: int, n_experts: int) -> GatingNetwork:
        """Return a fresh network."""
        return LinearNetwork(n_features, n_experts)


class LinearNetwork(GatingNetwork):
    """One layer, trained by autograd."""

    def __init__(self, n_features: int, n_experts: int) -> None:
        super().__init__()
        self.layer = nn.Linear(n_features, n_experts)

    def logits(self, features: Tensor) -> Tensor:
        """Return scores, shape ``(batch, n_experts)``."""
        return self.layer(features)

    def weights(self, logits: Tensor) -> Tensor:
        """Return weights, shape ``(batch, n_experts)``."""
        return logits.softmax(-1)
