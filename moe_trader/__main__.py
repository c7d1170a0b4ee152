"""``python -m moe_trader`` is ``moe-train``."""

from moe_trader.train import main

if __name__ == "__main__":
    main()
