"""S&P 500, daily, 1999-2018: closes that install with the package."""

from __future__ import annotations

from moe_trader.env import Market, MarketSource
from moe_trader.env.reading.bars import read_csv
from moe_trader.env.reading.installed import installed_file
from moe_trader.option import option


@option
class SP500(MarketSource):
    """Daily bars of the S&P 500 from the wheel of ``arch`` (NCSA licence), 5,031 sessions; nothing fills at its opens.

    Until 2005 the file's opens repeat the close before on 97 to 100 % of the days, and still on half of them in 2012.
    They stay in the bars as the file has them, and are declared not real.
    """

    def load(self) -> Market:
        """Return the one-instrument market."""
        path = installed_file("arch", "sp500.csv.gz", "pip install 'arch>=8,<9'")
        return Market("sp500", (read_csv(path, "^GSPC", date_format="%m/%d/%Y"),), opens_are_real=False)
