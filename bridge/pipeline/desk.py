"""What the steps of an admin's ad-hoc command share: who does it on which host, and how things are found."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
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
_POLL_SECONDS = 0.1
_MOST_SEARCHED = 2000
_MOST_STORY = 100
_LATER = timedelta(days=1)  # another machine's clock
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

    async def oldest(self, index: str, limit: int) -> tuple[str, ...]:
        """The oldest members of an index."""
        return await load.older(self.store, index, than=self.now + _LATER, limit=limit)

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


async def watched(look: Callable[[], Awaitable[T]], is_over: Callable[[T], bool]) -> T:
    """Look again until it is over, for a moment."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + WATCH_SECONDS
    while True:
        found = await look()
        if is_over(found) or loop.time() >= deadline:
            return found
        await asyncio.sleep(_POLL_SECONDS)
