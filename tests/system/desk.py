"""What an operator of one host does and sees, by the very stories the commands use, without starting a command."""

import base64
import dataclasses
import secrets
from datetime import UTC, datetime

from bridge.config import load_settings
from bridge.iodef.model import Counter, Incident, IncidentId, Restriction, Source, Text
from bridge.pipeline import originate
from bridge.pipeline.originate import Origin, Originated
from bridge.policy import record
from bridge.policy.change import Change, Put, Telling
from bridge.policy.record import Interaction, InteractionState, Peer
from bridge.policy.trust import Trust
from bridge.store import keys, load
from bridge.store.commit import commit
from bridge.store.connect import close, open_store
from bridge.xep0268.model import Status
from tests.system.servers import Bridge, eventually


def document(
    text: str,
    *,
    host: str = "a.test",
    source: str = "spammer@b.test",
    target: str | None = None,
    restriction: Restriction = Restriction.NEED_TO_KNOW,
) -> Incident:
    """An incident of this host's own: somebody sent it five messages."""
    return Incident(
        identity=IncidentId(name=host, text=text),
        restriction=restriction,
        descriptions=(Text(text="five messages of spam"),),
        sources=(
            Source(address=source, category="xmpp", counters=(Counter(type="xmpp-message", value=5.0),)),
        ),
        targets=(Source(address=target or f"victim@{host}", category="xmpp", system="target"),),
    )


@dataclasses.dataclass
class Desk:
    """The operator of `host`; every call opens the store anew, so that processes may die meanwhile."""

    bridge: Bridge
    host: str = "a.test"

    def origin(self, *to: str) -> Origin:
        """Who sends, to whom, now."""
        return Origin(host=self.host, to=to, now=datetime.now(UTC), new_id=_new_id)

    async def report(self, *to: str, text: str = "1", status: Status | None = None) -> Originated:
        """Report the incident of that IncidentID."""
        store = await open_store(load_settings(self.bridge.config_path).store_url())
        try:
            made = document(text, host=self.host)
            return await originate.report(store, self.origin(*to), made, status=status)
        finally:
            await close(store)

    async def inquire(self, *to: str, identity: IncidentId) -> Originated:
        """Ask what these peers know of an incident."""
        store = await open_store(load_settings(self.bridge.config_path).store_url())
        try:
            return await originate.inquire(store, self.origin(*to), identity)
        finally:
            await close(store)

    async def interactions(self, *ids: str) -> list[Interaction]:
        """These interactions as they are now."""
        found = await self._records([keys.interaction(one) for one in ids])
        return [one for one in found if isinstance(one, Interaction)]

    async def settled(self, *ids: str, seconds: float = 20) -> list[Interaction]:
        """These interactions, once none of them is under way."""

        async def are_settled() -> list[Interaction]:
            found = await self.interactions(*ids)
            open_ones = [
                one for one in found if one.state in {InteractionState.QUEUED, InteractionState.SENT}
            ]
            assert not open_ones, [(one.peer, one.state, one.attempts, one.failure) for one in open_ones]
            return found

        return await eventually(are_settled, seconds)

    async def peer(self, domain: str) -> Peer:
        """What the host knows of a peer."""
        [found] = await self._records([keys.peer(self.host, domain)])
        return found if isinstance(found, Peer) else Peer(host=self.host, domain=domain)

    async def untold(self, telling: Telling) -> list[tuple[str, int]]:
        """What the admins are still to be told, as (peer, count)."""
        store = await open_store(load_settings(self.bridge.config_path).store_url())
        try:
            return [(one.peer, one.count) for one in await load.tallies(store, self.host, telling)]
        finally:
            await close(store)

    async def incidents(self) -> dict[tuple[str, str], record.Incident]:
        """Every incident the host knows, by reporter and the text of its IncidentID."""
        store = await open_store(load_settings(self.bridge.config_path).store_url())
        try:
            index = keys.incidents(self.host)
            ids = (await load.newest(store, [index], limit=1000))[index]
            fetched = await load.fetch(store, names=[keys.incident(one) for one in ids])
        finally:
            await close(store)
        found = [one for one in fetched.records.values() if isinstance(one, record.Incident)]
        return {(one.reporter, one.identity.text): one for one in found}

    async def about(self, reporter: str, text: str) -> tuple[record.Incident, list[Interaction]]:
        """An incident, and all that was sent and received about it, oldest first; both must be there."""
        incident = (await self.incidents()).get((reporter, text))
        assert incident is not None, f"{self.host} knows of no {text} reported by {reporter}"
        store = await open_store(load_settings(self.bridge.config_path).store_url())
        try:
            index = keys.interactions(incident.id)
            ids = (await load.newest(store, [index], limit=1000))[index]
        finally:
            await close(store)
        found = await self.interactions(*ids)
        return incident, sorted(found, key=lambda one: one.received_at)

    async def decide(self, domain: str, *, trust: Trust = Trust.TRUSTED, forward: bool = False) -> None:
        """Trust a peer, and have reports of others forwarded to it."""
        store = await open_store(load_settings(self.bridge.config_path).store_url())
        try:
            before = await self.peer(domain)
            after = dataclasses.replace(before, trust=trust, is_forwarded_to=forward)
            await commit(store, Change(puts=(Put(before if before.version else None, after),)))
        finally:
            await close(store)

    async def _records(self, names: list[keys.RecordName]) -> list[record.Record | None]:
        store = await open_store(load_settings(self.bridge.config_path).store_url())
        try:
            fetched = await load.fetch(store, names=names)
        finally:
            await close(store)
        return [fetched.records[name] for name in names]


def _new_id() -> str:
    return base64.b32encode(secrets.token_bytes(10)).decode().lower()
