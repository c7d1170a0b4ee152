"""Dense layers on a CPU, compiled: matrix products, transposes and activations in float32.

A minibatch of reinforcement learning is a chain of small products. Libraries made for large ones spend much of their
time on the call, and on AMD processors take narrow vectors (MKL) or a costly way in (oneDNN). Here a product is a few
instructions away, runs in vectors as wide as the processor's, and adds in the same order whatever the batch: what one
row gives does not depend, to the last bit, on the rows beside it.
"""
