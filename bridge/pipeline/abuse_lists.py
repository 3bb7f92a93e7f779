"""Listing accounts that users reported, with the operator's yes to passing that on.

House rules: no account is listed of which no user agreed that others be told; what is withheld stays so.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from bridge.pipeline import publish
from bridge.pipeline.actors import Actor, audits
from bridge.policy import abuse
from bridge.policy.abuse_record import AbuseDraft
from bridge.policy.change import Change, Put
from bridge.policy.listing import Listing
from bridge.policy.publish import still_to_list
from bridge.store import keys, load
from bridge.store.connect import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """That the accounts of a draft be listed, too.

    Attributes:
        rules: the operator's.
        expires_at: when they are off the list; None: after `rules.mitigation_days`.
        second_yes: protected names are meant too.
        only: what the operator was shown; what is reported meanwhile is not listed. None: all that may be.
    """

    rules: publish.Rules
    expires_at: datetime | None = None
    second_yes: bool = False
    only: frozenset[str] | None = None


async def listable(
    store: Store, drafts: Iterable[AbuseDraft], *, until: datetime
) -> dict[str, tuple[str, ...]]:
    """Say which accounts of each draft, by its id, a yes now would list until then."""
    wanted = {one.id: (one.host, abuse.may_be_listed(one)) for one in drafts}
    said = await _said(store, wanted.values())
    return {
        name: still_to_list(addresses, (one for one in said if one.host == host), until=until)
        for name, (host, addresses) in wanted.items()
    }


async def listing(
    store: Store, draft: AbuseDraft, wish: Wish, *, actor: Actor, now: datetime, incident_id: str
) -> Change:
    """Say what listing the accounts of a draft adds to what is written with the yes to it.

    Raises:
        ConfigError: the list is full, or it would be over at once; ProtectedError: without a second yes.
    """
    end = publish.end_of(wish.expires_at, wish.rules, now=now)
    may_be = tuple(one for one in abuse.may_be_listed(draft) if wish.only is None or one in wish.only)
    known = {one.address: one for one in await _said(store, [(draft.host, may_be)])}
    wanted = still_to_list(may_be, known.values(), until=end)
    if not wish.second_yes:
        await publish.see_unprotected(store, draft.host, wanted, wish.rules)
    await publish.see_room(store, draft.host, more=sum(one not in known for one in wanted))
    made = [
        Listing(
            host=draft.host,
            address=one,
            is_published=True,
            by=actor.name,
            at=now,
            reason=abuse.headline(draft),
            expires_at=end,
            incident_id=incident_id,
            is_reported=True,
        )
        for one in wanted
    ]
    return Change(
        puts=tuple(Put(known.get(one.address), one) for one in made),
        audits=tuple(
            entry
            for one in made
            for entry in audits((one.host,), actor, "list.add", one.address, now=now, detail=one.reason)
        ),
    )


async def listed(store: Store, draft: AbuseDraft) -> tuple[str, ...]:
    """The accounts that are listed because of a draft."""
    said = await _said(store, [(draft.host, abuse.may_be_listed(draft))])
    return tuple(one.address for one in said if one.is_reported and one.incident_id == draft.incident_id)


async def _said(store: Store, wanted: Iterable[tuple[str, tuple[str, ...]]]) -> list[Listing]:
    """Load what operators said about these accounts of each host, and about their domains."""
    names = dict.fromkeys(
        keys.listing(host, name)
        for host, addresses in wanted
        for address in addresses
        for name in (address, address.rpartition("@")[2])
    )
    records = (await load.fetch(store, names=list(names))).records.values() if names else ()
    return [one for one in records if isinstance(one, Listing)]
