"""The user's own bars, from Parquet files and other tables."""

from __future__ import annotations

import pandas as pd

from moe_trader.env.reading.files import BarFiles
from moe_trader.env.reading.formats import read_table
from moe_trader.option import option


@option
class Parquet(BarFiles):
    """Tables with the columns that csv files have; the stamps may stand in the index."""

    def read(self, path: str) -> pd.DataFrame:
        """Return the table of one file, whose format is known by its first bytes."""
        return read_table(path, self.reading())
