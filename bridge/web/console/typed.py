"""What people type into forms that several pages have: words, and for how long something is to last."""

from collections.abc import Sequence
from datetime import timedelta
from http import HTTPStatus
from typing import Final

from bridge.web.console.guard import Refusal, Visit
from bridge.xmpp.xml import legal

_MOST_DAYS: Final = 3650
_DAYS: Final = (1, 7, 30, 90, 365)


async def words(visit: Visit, name: str, *, most: int) -> str:
    """Text of a field, as XML can carry it.

    Raises:
        Refusal: it is longer than `most` characters.
    """
    text = legal((await visit.field(name)).replace("\r\n", "\n").replace("\r", "\n"))
    if len(text) > most:
        rule = (
            f"It may have {most} characters and has {len(text)}. Go back and shorten it; nothing was changed."
        )
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "Too long", rule)
    return text


def spans(usual: int) -> Sequence[int]:
    """The numbers of days that are offered; the usual one among them."""
    return sorted({*_DAYS, usual})


async def span(visit: Visit) -> timedelta:
    """For how long what is approved is to last.

    Raises:
        Refusal: it is no number of days.
    """
    text = await visit.field("days") or str(visit.service.settings.policy.mitigation_days)
    if not (text.isascii() and text.isdecimal() and len(text) < len("10000") and 0 < int(text) <= _MOST_DAYS):
        rule = f"Choose a number of days from 1 to {_MOST_DAYS}."
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "No such time", rule)
    return timedelta(days=int(text))
