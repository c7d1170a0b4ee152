"""``python -m moe_trader`` is ``moe-train``."""

from moe_trader.train import main

main()
