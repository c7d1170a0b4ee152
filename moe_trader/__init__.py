"""moe_trader: mixtures of Stable-Baselines3 trading experts under one gating network.

Importing the package is free of side effects and light: PyTorch, Stable-Baselines3 and pandas load with the rooms
that use them (`moe_trader.env`, `.gating`, `.expert`, `.agent`, `.trainer`, `.evaluation`).
"""

__version__ = "0.2.0"
