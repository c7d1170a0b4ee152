"""Lines of a small price file."""

HEADER = "Date,Open,High,Low,Close,Volume"
ROWS = ("2018-12-27,10,12,9,11,100", "2018-12-28,11.5,13,10,12,200", "2018-12-31,12.5,14,11,13,300")
COLUMNS = ("time", "open", "high", "low", "close", "volume")
