"""The simple types of RFC 5070 §2 and XML Schema, read tolerantly.

House rules: a function returns the value, or None when the text has none; nothing raises.
"""

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from types import MappingProxyType

from bridge.iodef.table import Text

_STRICT_TIME = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-](0\d|1[0-3]):[0-5]\d|[+-]14:00)", re.ASCII
)
_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ]\s*(\d\d):(\d\d)(?::(\d\d)(?:[.,](\d+))?)?\s*(?:([Zz])|([+-])(\d\d):?(\d\d)?)?",
    re.ASCII,
)
_INTEGER = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)
_PORTLIST = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*", re.ASCII)
_TIMEZONE = re.compile(r"Z|[+-](0\d|1[0-4]):[0-5]\d", re.ASCII)
_LANGUAGE = re.compile(r"[a-zA-Z]{1,8}(-[a-zA-Z0-9]{1,8})*", re.ASCII)
_URI = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:([!$&-;=?-Z_a-z~#]|%[0-9a-fA-F]{2})+", re.ASCII)
_LONGEST_LANGUAGE = 35
_MAX_OFFSET_HOURS = 14
_MIDNIGHT_AFTER = 24
_LEAP_SECOND = 60


def time(text: str) -> datetime | None:
    """An aware UTC time; without a zone it is taken as UTC, 24:00 and second 60 as the moment after."""
    text = text.strip()
    if _STRICT_TIME.fullmatch(text):
        try:
            return datetime.fromisoformat(text).astimezone(UTC)
        except (ValueError, OverflowError):
            pass  # 24:00, second 60, or no such day: below
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, _, sign, offset_h, offset_m = match.groups()
    hours, seconds = int(hour), int(second or 0)
    extra = timedelta()
    if hours == _MIDNIGHT_AFTER and int(minute) == 0 and seconds == 0:
        hours, extra = 0, timedelta(days=1)
    elif seconds == _LEAP_SECOND:
        seconds, extra = 59, timedelta(seconds=1)
    if int(offset_h or 0) > _MAX_OFFSET_HOURS:
        return None
    offset = timedelta(hours=int(offset_h or 0), minutes=int(offset_m or 0))
    zone = timezone(-offset if sign == "-" else offset)
    micro = int((fraction or "0")[:6].ljust(6, "0"))
    try:
        moment = datetime(int(year), int(month), int(day), hours, int(minute), seconds, micro, zone)
        return (moment + extra).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def time_text(moment: datetime) -> str:
    """`2009-04-13T19:05:20Z`, with a fraction only when there is one."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def number(text: str) -> float | None:
    """A finite number; INF and NaN are none, for JSON has none."""
    text = text.strip()
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def language(text: str) -> str | None:
    """A language tag, with `_` taken for `-`; none that is longer than any in use (RFC 5646 §4.4.1)."""
    return _match(_LANGUAGE, text.replace("_", "-")) if len(text) <= _LONGEST_LANGUAGE else None


def integer(text: str) -> str | None:
    """The text of a whole number of at most 18 digits."""
    return _match(_INTEGER, text)


def _match(pattern: re.Pattern[str], text: str) -> str | None:
    clean = text.strip()
    return clean if pattern.fullmatch(clean) else None


def _time(text: str) -> str | None:
    moment = time(text)
    if moment is None:
        return None
    clean = text.strip()
    is_plain = _STRICT_TIME.fullmatch(clean) and clean[11:13] != "24" and clean[17:19] != "60"
    return clean if is_plain else time_text(moment)


def _number(text: str) -> str | None:
    return None if number(text) is None else text.strip()


def _positive(text: str) -> str | None:
    value = number(text)
    return text.strip() if value is not None and _SMALLEST_FLOAT < value < _LARGEST_FLOAT else None


_SMALLEST_FLOAT, _LARGEST_FLOAT = 1e-37, 3e38  # xs:float has 32 bits


NORMAL: Mapping[Text, Callable[[str], str | None]] = MappingProxyType(
    {
        Text.TIME: _time,
        Text.INTEGER: integer,
        Text.NUMBER: _number,
        Text.POSITIVE: _positive,
        Text.PORTLIST: lambda text: _match(_PORTLIST, text),
        Text.TIMEZONE: lambda text: _match(_TIMEZONE, text),
        Text.URI: lambda text: _match(_URI, text),
    }
)
"""For each simple type: the text as the schema wants it, or None when it cannot be read as that type."""

EXPECTED: Mapping[Text, str] = MappingProxyType(
    {
        Text.TIME: "a time like 2009-04-13T19:05:20Z",
        Text.INTEGER: "a whole number",
        Text.NUMBER: "a finite number",
        Text.POSITIVE: "a number above zero",
        Text.PORTLIST: "ports like 80,8000-8010",
        Text.TIMEZONE: "an offset like +01:00",
        Text.URI: "a URI with its scheme",
    }
)
