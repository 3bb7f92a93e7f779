"""What bodies, queries and answers of the API share.

House rules: what comes in is strict, nothing unknown passes; what goes out is one class for each answer, whose
fields are documented where a name does not say it all; models are built when first used, so that a start is quick.
"""

import re
from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from bridge.errors import MalformedError
from bridge.xmpp.jid import prep_domain

_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]")
_FIRST_YEAR, _LAST_YEAR = 1970, 2999


class Body(BaseModel):
    """A body that is sent to us, or a part of one."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, defer_build=True)


class Query(BaseModel):
    """The query of a URL; values are text, so they are read leniently."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)


class Out(BaseModel):
    """An answer, or a part of one."""

    model_config = ConfigDict(frozen=True, defer_build=True)


class PageQuery(Query):
    """The query of a list."""

    limit: int = Field(default=50, ge=1, le=200, description="At most so many; a page may be shorter.")
    cursor: str | None = Field(
        default=None,
        max_length=1000,
        pattern="^[A-Za-z0-9_-]*$",
        description="`next` of the page before, with the same filters.",
    )

    def filters_given(self) -> list[Any]:
        """What was asked for, besides where to go on and how far."""
        return [value for name, value in self if name not in {"limit", "cursor"}]


def _visible(value: str) -> str:
    """Refuse what cannot stand in XML, or cannot be seen: control characters, lone surrogates, noncharacters."""
    for character in value:
        code = ord(character)
        if (code < 0x20 and character not in "\t\n\r") or 0x7F <= code <= 0x9F:  # noqa: PLR2004
            raise ValueError(f"holds the control character U+{code:04X}")
        if 0xD800 <= code <= 0xDFFF or code & 0xFFFE == 0xFFFE:  # noqa: PLR2004
            raise ValueError(f"holds U+{code:04X}, which is no character")
    return value


def _domain(value: str) -> str:
    try:
        return prep_domain(value)
    except MalformedError as error:
        raise ValueError(f"is not a server's domain: {error.rule}") from None


def _line(value: str) -> str:
    if any(character in "\r\n\t" for character in value):
        raise ValueError("must be one line")
    return _visible(value)


def _written(value: object) -> object:
    """Refuse bare numbers, which would count as seconds since 1970."""
    if isinstance(value, str) and not _DATE.match(value):
        raise ValueError("must be a date and time with its zone, such as 2026-11-21T03:00:00Z")
    return value


def _sane(value: datetime) -> datetime:
    if not _FIRST_YEAR <= value.year <= _LAST_YEAR:
        raise ValueError(f"must lie in the years {_FIRST_YEAR} to {_LAST_YEAR}")
    return value


Moment = Annotated[AwareDatetime, AfterValidator(_sane)]
QueryMoment = Annotated[Moment, BeforeValidator(_written)]
Text = Annotated[str, AfterValidator(_visible)]
Line = Annotated[str, AfterValidator(_line)]
Domain = Annotated[str, Field(min_length=1, max_length=1023), AfterValidator(_domain)]
Json = dict[str, Any]
