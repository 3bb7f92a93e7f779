"""What the steps of an admin's ad-hoc command share: who does it on which host, and how things are found."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import TypeVar

from bridge.errors import ConfigError
from bridge.pipeline.actors import Actor
from bridge.pipeline.approve import Rules
from bridge.policy import forms
from bridge.policy.forms import CommandError
from bridge.policy.record import Incident, Interaction, Record, derived_id
from bridge.policy.sessions import Role
from bridge.store import keys, load
from bridge.store.connect import Store

WATCH_SECONDS = 3.0
LISTED = 30
_MORE = "after:"  # begins the value of the option that leads to the next page of a list
_POLL_SECONDS = 0.1
_MOST_SEARCHED = 2000
_MOST_STORY = 100
_MOST_DIGITS = 20
T = TypeVar("T")
R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """One step of a command.

    Attributes:
        role: what this admin may do.
        session: of the command; ids of what it sends are made from it, so that sending twice sends once.
        given: what was typed so far, hidden fields too: nothing in it is trusted.
    """

    store: Store
    host: str
    actor: Actor
    role: Role
    rules: Rules
    session: str
    given: Mapping[str, tuple[str, ...]]
    now: datetime

    def may_act(self) -> None:
        """Raise a CommandError where this admin may only look."""
        if self.role is not Role.APPROVER:
            raise CommandError(
                "forbidden", "You may look and change nothing; see viewers in the configuration", type="auth"
            )

    def ids(self) -> Callable[[], str]:
        """Ids for what this command sends: the same whenever it is submitted again."""
        numbers = count()
        return lambda: derived_id("adhoc", self.host, self.session, str(next(numbers)))

    async def records(self, kind: type[R], names: Sequence[keys.RecordName]) -> list[R]:
        """Load records of this kind in the order of their names; what is gone is left out."""
        if not names:
            return []
        found = (await load.fetch(self.store, names=names)).records
        return [one for name in names if isinstance(one := found[name], kind)]

    async def newest(self, index: str, limit: int) -> tuple[str, ...]:
        """The newest members of an index."""
        return (await load.newest(self.store, [index], limit=limit))[index]

    async def listed(
        self, index: str, var: str, *, is_oldest_first: bool = False
    ) -> tuple[list[str], list[tuple[str, str]]]:
        """A page of an index, and the option of the field `var` that leads to the next page, if there is one."""
        start = _position(self.first(var))
        if is_oldest_first:
            rows = await load.page_of_oldest(self.store, index, limit=LISTED + 1, after=start or (0, ""))
        else:
            rows = await load.page(self.store, index, limit=LISTED + 1, before=start)
        ids = [member for member, _ in rows[:LISTED]]
        member, score = rows[len(ids) - 1] if rows else ("", 0)
        return ids, [("More of them …", f"{_MORE}{score}-{member}")] if len(rows) > LISTED else []

    def is_paging(self, var: str) -> bool:
        """Whether the next page of a list was chosen there, instead of something on it."""
        return self.first(var).startswith(_MORE)

    async def incident(self, typed: str) -> Incident:
        """The one incident of this host whose id begins so.

        Raises:
            ConfigError: there is none, or several.
        """
        start = typed.strip().casefold()
        ids = [start]
        if not await self.records(Incident, [keys.incident(start)]):
            members = await self.newest(keys.incidents(self.host), _MOST_SEARCHED)
            ids = [one for one in members if start and one.startswith(start)][:2]
        found = await self.records(Incident, [keys.incident(one) for one in ids])
        mine = [one for one in found if one.host == self.host]
        if len(mine) != 1:
            raise ConfigError(f"{'several incidents' if mine else 'no incident'} here: {typed}")
        return mine[0]

    async def story(self, incident: Incident) -> list[Interaction]:
        """The newest interactions about an incident, and the one that counts, oldest first."""
        members = await self.newest(keys.interactions(incident.id), _MOST_STORY)
        ids = dict.fromkeys((*members, incident.current.interaction_id))
        found = await self.records(Interaction, [keys.interaction(one) for one in ids])
        return sorted(found, key=lambda one: (one.received_at, one.way, one.id))

    async def with_original(self, interaction_id: str) -> Interaction:
        """Load an interaction of this host with its bytes.

        Raises:
            ConfigError: it is gone.
        """
        name = keys.interaction(interaction_id)
        found = (await load.fetch(self.store, names=[name], originals=True)).records[name]
        if not isinstance(found, Interaction) or found.host != self.host or found.original is None:
            raise ConfigError("its document is no longer in the store")
        return found

    def first(self, var: str) -> str:
        """What was typed into a field."""
        return forms.first(self.given, var)


def _position(typed: str) -> tuple[int, str] | None:
    score, _, member = typed.removeprefix(_MORE).partition("-")
    is_one = typed.startswith(_MORE) and score.isascii() and score.isdecimal() and len(score) < _MOST_DIGITS
    return (int(score), member) if is_one else None


async def watched(look: Callable[[], Awaitable[T]], is_over: Callable[[T], bool]) -> T:
    """Look again until it is over, for a moment."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + WATCH_SECONDS
    while True:
        found = await look()
        if is_over(found) or loop.time() >= deadline:
            return found
        await asyncio.sleep(_POLL_SECONDS)
