"""The mixture: gate and experts as one PyTorch module (:mod:`~moe_trader.mixture.model`), in plain PyTorch.

``model`` holds a gate, an expert ``bank`` and the ``layout`` of an observation; ``choice``, ``categorical`` and
``gaussian`` say what they do together, ``backend`` how it is computed, ``ppo_loss`` what PPO minimises.
"""
