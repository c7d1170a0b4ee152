"""The user's own bars, from csv files."""

from __future__ import annotations

import pandas as pd

from moe_trader.env.reading.files import BarFiles
from moe_trader.env.reading.tables import read_csv_table
from moe_trader.option import option


@option
class Csv(BarFiles):
    """Files with a header, plain or compressed: time or date, close, and perhaps open, high, low, volume, symbol."""

    def read(self, path: str) -> pd.DataFrame:
        """Return the table of one file."""
        return read_csv_table(path, self.columns)
