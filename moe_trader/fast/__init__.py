"""Compiled code of learning, behind one door: the same numbers to rounding, in a fraction of the time.

Three things are taken from here, by learners and expert families: :class:`~moe_trader.fast.backend.FastBackend`,
which evaluates a mixture, :func:`~moe_trader.fast.update.ppo_gradient`, which differentiates a minibatch, and
:class:`~moe_trader.fast.adam.ClippingAdam`, which takes the step. ``kernels=off`` uses none of them.

A minibatch of reinforcement learning is a chain of small matrix products. Libraries made for large ones spend much of
their time on the call. Here a product is a few instructions away, runs in vectors as wide as the processor's, and adds
in the same order whatever the batch: the result of one row does not depend, to the last bit, on the other rows.
"""
