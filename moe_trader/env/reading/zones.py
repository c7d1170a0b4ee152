"""Time zones by name: behind each stamp, or given for all of them."""

from __future__ import annotations

import re

import pandas as pd

# Offsets of the names that brokers and vendors write; those of IANA (US/Eastern) are known without.
_SHORT = {
    **{"UTC": "+00:00", "GMT": "+00:00", "Z": "+00:00", "BST": "+01:00", "CET": "+01:00", "CEST": "+02:00"},
    **{"EET": "+02:00", "EEST": "+03:00", "MSK": "+03:00", "IST": "+05:30", "HKT": "+08:00", "SGT": "+08:00"},
    **{"JST": "+09:00", "KST": "+09:00", "AEST": "+10:00", "AEDT": "+11:00", "EST": "-05:00", "EDT": "-04:00"},
    **{"CST": "-06:00", "CDT": "-05:00", "MST": "-07:00", "MDT": "-06:00", "PST": "-08:00", "PDT": "-07:00"},
    **{"ET": "America/New_York", "CT": "America/Chicago", "MT": "America/Denver", "PT": "America/Los_Angeles"},
}
_LONGEST_FIRST = "|".join(sorted(_SHORT, key=len, reverse=True))
_NAMED = re.compile(
    rf"^(?P<local>.*?\d(?:\s*[AaPp]\.?[Mm]\.?)?)\s*\(?"
    rf"(?P<zone>(?:GMT|UTC)[+-]\d{{1,2}}(?::?\d\d)?|{_LONGEST_FIRST}|[A-Z][A-Za-z]+(?:/[A-Za-z_]+)+)\)?$"
)
_BEYOND = re.compile(r"(?:GMT|UTC)([+-])(\d{1,2}):?(\d\d)?")


def split_zones(text: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Return stamps without the zone's name behind them, and the names, missing where there is none."""
    parts = text.str.extract(_NAMED)
    return parts["local"].where(parts["zone"].notna(), text), parts["zone"]


def to_utc(local: pd.Series, zones: pd.Series | str) -> pd.Series:
    """Return what clocks of zones showed in UTC; ``NaT`` for what no clock showed, or twice and in no order.

    :param zones: one for all, or one of each stamp
    """
    if isinstance(zones, str):
        return _localized(local, zones)
    utc = pd.Series(pd.NaT, index=local.index, dtype="datetime64[us, UTC]")
    for zone in zones.dropna().unique():
        rows = (zones == zone).to_numpy()
        utc[rows] = _localized(local[rows], zone).astype(utc.dtype)
    return utc


def is_zone(name: str) -> bool:
    """Whether a zone is known by this name."""
    try:
        pd.Timestamp(0).tz_localize(_offset(name))
    except Exception:  # of several libraries of zones
        return False
    return True


def _localized(local: pd.Series, zone: str) -> pd.Series:
    try:
        known = local.dt.tz_localize(_offset(zone), ambiguous="infer", nonexistent="NaT")
    except ValueError:  # an hour that comes twice stands there once
        known = local.dt.tz_localize(_offset(zone), ambiguous="NaT", nonexistent="NaT")
    except KeyError:  # a zone that nobody knows
        return pd.Series(pd.NaT, index=local.index, dtype="datetime64[us, UTC]")
    return known.dt.tz_convert("UTC")


def _offset(zone: str) -> str:
    """Return a zone as pandas takes it: an offset, or a name of IANA's."""
    beyond = _BEYOND.fullmatch(zone)
    return f"{beyond[1]}{int(beyond[2]):02d}:{beyond[3] or '00'}" if beyond else _SHORT.get(zone, zone)
