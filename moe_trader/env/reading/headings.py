"""Usual names of the columns of a price table, in the languages in which vendors write them."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable

NONE = "none"  # the user says that there is no such column
PRICES = ("open", "high", "low", "close")
# The first heading that is there wins, English ones before others. A bar's time is when it closes. The last two of
# time: an index without a name, as pandas writes it.
ALIASES: dict[str, tuple[str, ...]] = {
    "time": (
        *("time", "datetime", "timestamp", "date", "date time", "close time", "open time", "ts", "unix"),
        *("unix timestamp", "gmt time", "local time", "window start", "t", "dates", "trade date", "trading date"),
        *("datadate", "observation date"),
        *("datum", "fecha", "data", "дата", "日期", "日付", "날짜"),
        *("day", "week", "month", "quarter", "period", "year"),
        *("index", "unnamed: 0"),
    ),
    "open": (
        *("open", "o", "px open", "open price", "opening price"),
        *(
            "eröffnung",
            "eröffn.",
            "eröffnungskurs",
            "erster",
            "ouverture",
            "ouv.",
            "apertura",
            "abertura",
            "otwarcie",
            "开盘",
            "始値",
            "시가",
        ),
    ),
    "high": (
        *("high", "h", "px high", "high price"),
        *(
            "hoch",
            "tageshoch",
            "höchst",
            "höchstkurs",
            "plus haut",
            "máximo",
            "massimo",
            "máxima",
            "najwyzszy",
            "最高",
            "高値",
            "고가",
        ),
    ),
    "low": (
        *("low", "l", "px low", "low price"),
        *(
            "tief",
            "tagestief",
            "tiefst",
            "tiefstkurs",
            "plus bas",
            "mínimo",
            "minimo",
            "mínima",
            "najnizszy",
            "最低",
            "安値",
            "저가",
        ),
    ),
    "close": (
        *("close", "c", "last", "close/last", "px last", "close price", "closing price", "price"),
        *("schluss", "schlusskurs", "zuletzt", "clôture", "dernier", "cierre", "último", "chiusura", "ultimo"),
        *("fechamento", "zamkniecie", "收盘", "終値", "종가"),
    ),
    "adjusted_close": ("adj close", "adj. close", "adjclose", "adjusted close", "adjustedclose", "adjcp"),
    "volume": (
        *("volume", "vol", "v", "vol.", "tick volume", "tickvol", "px volume", "number of shares", "no.of shares"),
        *("stücke", "stuecke", "stück"),
        *("volumen", "wolumen", "成交量", "出来高", "거래량"),
    ),
    "symbol": ("symbol", "ticker", "tic", "tickers", "instrument", "ric", "ts code", "name"),
}

# Headings of countries that write 1.234,5 for 1234.5
DOTTED = frozenset(
    (
        *(
            "datum",
            "zeit",
            "uhrzeit",
            "eröffnung",
            "eröffn.",
            "erster",
            "hoch",
            "tief",
            "schluss",
            "schlusskurs",
            "zuletzt",
        ),
        *(
            "kurs",
            "volumen",
            "umsatz",
            "stücke",
            "fecha",
            "apertura",
            "abertura",
            "máximo",
            "mínimo",
            "máxima",
            "mínima",
        ),
        *(
            "cierre",
            "último",
            "massimo",
            "minimo",
            "chiusura",
            "ultimo",
            "fechamento",
            "koers",
            "slotkoers",
            "slutkurs",
        ),
    )
)


def plain(heading: Hashable) -> str:
    """Return how a heading reads: ``adj close`` of ``<Adj_Close>`` and ``5. Adj-Close``."""
    name = str(heading).strip().lower().strip("<>#").rstrip("*")  # <CLOSE> is MetaTrader's, Close* Yahoo's
    name = re.sub(r"^\d+[a-z]?\. ", "", name)  # "1. open" is Alpha Vantage's
    return re.sub(r"[\s_-]+", " ", name).strip()


def there(headings: Iterable[Hashable]) -> str:
    """Return the words that name the headings."""
    return f"columns there: {', '.join(map(str, headings)) or 'none'}"


def looks_like_data(headings: Iterable[Hashable]) -> bool:
    """Whether a first row holds numbers and dates, as in a file without a header, or positions."""
    cells = [str(heading).strip() for heading in headings]
    known = [cell for cell in cells if cell and not cell.startswith("Unnamed: ")]
    data = [re.fullmatch(r"[-+\d.,:/ TZeE]*\d[-+\d.,:/ TZeE]*", cell) is not None for cell in known]
    return bool(data) and sum(data) >= max(2, 0.6 * len(known))
