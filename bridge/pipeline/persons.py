"""People who look after servers that do not speak XEP-0268: what was mailed to them, and their answer page.

House rules: a link that is guessed, over or closed finds nothing, and nothing is said of why; the page is the one
write that needs no account, and an answer the only thing it can change.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from bridge.errors import ConfigError, ConflictError
from bridge.pipeline.actors import Actor, audits
from bridge.policy import answer_link, outgoing, ways
from bridge.policy.change import Change, Put
from bridge.policy.outreach import Channel, Outreach, PersonsAnswer
from bridge.policy.record import Interaction, Peer, Way
from bridge.store import keys, load
from bridge.store.commit import commit
from bridge.store.connect import Store

_ATTEMPTS = 10
Keys = Mapping[str, Sequence[bytes]]


def links(public_url: str, keys_by_host: Keys, *, days: int) -> Callable[[Interaction, datetime], str]:
    """Return what makes the link to a sending's answer page; "" where the operator wants none (`days` is 0)."""

    def link(interaction: Interaction, now: datetime) -> str:
        if not days or not public_url or interaction.host not in keys_by_host:
            return ""
        until = now + timedelta(days=days)
        key = keys_by_host[interaction.host][0]
        word = answer_link.make(key, host=interaction.host, interaction_id=interaction.id, until=until)
        return f"{public_url}{answer_link.PATH}{word}"

    return link


async def by_mail(store: Store, interaction: Interaction) -> Outreach | None:
    """Say whom the operator may mail it to, see `ways.by_mail`."""
    name = keys.peer(interaction.host, interaction.peer)
    record = (await load.fetch(store, names=[name])).records[name]
    return ways.by_mail(interaction, record.contacts if isinstance(record, Peer) else None)


async def mailed(store: Store, interaction: Interaction, *, actor: Actor, now: datetime) -> Interaction:
    """Note that the operator mailed it; once noted, noting it again changes nothing.

    Raises:
        ConfigError: there is nothing to be mailed.
        ConflictError: somebody changed it meanwhile.
    """
    known = interaction.outreach
    to = await by_mail(store, interaction)
    if to is None and known is not None and known.channel is Channel.MAIL:
        return interaction
    if to is None:
        raise ConfigError(
            f"{interaction.id} reached {interaction.peer} itself or is with its people, and no mail address is known: "
            "nothing is to be mailed"
        )
    after, change = outgoing.mailed(interaction, to, now=now)
    said = audits(
        (interaction.host,),
        actor,
        "send.mail",
        interaction.incident_id,
        now=now,
        detail=f"to {to.address}" if to.address else "",
    )
    await commit(store, change + Change(audits=said))
    return after


async def find(store: Store, word: str, *, keys_by_host: Keys, now: datetime) -> Interaction | None:
    """Find what a link is about, if it is good and still open."""
    interaction_id = answer_link.names(word)
    if interaction_id is None:
        return None
    name = keys.interaction(interaction_id)
    found = (await load.fetch(store, names=[name])).records[name]
    if not isinstance(found, Interaction) or found.way is not Way.SENT or found.outreach is None:
        return None
    own = keys_by_host.get(found.host, ())
    if not answer_link.is_good(word, own, host=found.host, now=now) or answer_link.is_closed(found.outreach):
        return None
    return found


async def answer(
    store: Store, word: str, given: PersonsAnswer, *, keys_by_host: Keys, now: datetime
) -> Interaction | None:
    """Note an answer; None where the link is not good, or not open any more.

    Raises:
        ConflictError: others keep changing it; nothing was noted.
    """
    for _ in range(_ATTEMPTS):
        known = await find(store, word, keys_by_host=keys_by_host, now=now)
        if known is None:
            return None
        name = keys.peer(known.host, known.peer)
        record = (await load.fetch(store, names=[name])).records[name]
        before = record if isinstance(record, Peer) else None
        peer = before or Peer(host=known.host, domain=known.peer)
        after, counted, change = outgoing.answered_by_person(known, peer, given, now=now)
        if after is known:
            return known  # the same once more
        try:
            await commit(store, change + Change(puts=(Put(known, after), Put(before, counted))))
        except ConflictError:
            continue
        return after
    raise ConflictError("it changes faster than your answer can be noted; try again")
