"""From files and vendors as they are to bars that can be traded on: repaired with a count, or refused by row.

:mod:`~moe_trader.env.reading.files` finds a market's files and :mod:`~moe_trader.env.reading.download` asks vendors;
:mod:`~moe_trader.env.reading.bars` turns one price table into an instrument, in the order of the page: which column is
what, when each bar closed, what the numbers are, and whether adjustments and splits agree.
"""
