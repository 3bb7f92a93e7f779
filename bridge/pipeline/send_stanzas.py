"""What waits in a host's lane is handed to its Prosody: answers, sendings of ours, notices to its admins."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from bridge import log
from bridge.clients.prosody import ProsodyClient
from bridge.errors import UnsupportedError
from bridge.pipeline.abuse import thank
from bridge.policy import enclosure, notice, outgoing
from bridge.policy.change import Change, Mark, Sent, Telling
from bridge.policy.letter import letter
from bridge.policy.record import Interaction, InteractionState, Notices
from bridge.policy.stages import Stage
from bridge.store import keys, load
from bridge.store.connect import Store
from bridge.xmpp import xml
from bridge.xmpp.stanza import write_chat, write_message, write_request

_log = log.get(__name__)

_MAX_CALL_BYTES = 900_000  # below the 1 MiB that Prosody reads, with room for JSON's escapes
_MAX_CALL_STANZAS = 64
_MESSAGES = {"notice", "text", "thank"}  # items that are no stanza of XEP-0268
Item = dict[str, Any]
Link = Callable[[Interaction, datetime], str]


async def send_stanzas(
    store: Store,
    prosody: ProsodyClient,
    host: str,
    items: Sequence[bytes],
    *,
    patience: outgoing.Patience,
    now: datetime,
    link: Link = lambda *_: "",
) -> Sent:
    """Hand a lane's items to the host's Prosody, in order, as many as one call takes.

    The same stanzas for the same items go out under the same `webhook-id`, so that Prosody knows a repeat after a
    crash.

    Args:
        store: where from.
        prosody: whereto.
        host: whose lane it is.
        items: from the first of the lane.
        patience: how long answers are waited for.
        now: the time.
        link: to the answer page of what goes to a person; "" for none.

    Raises:
        UnavailableError: Prosody did not take them; they stay in their lane.
    """
    decoded = [json.loads(item) for item in items]
    if "text" in decoded[0]:
        await _notify(prosody, host, decoded[0], decoded[0]["text"])
        return Sent(1, Change())
    if "notice" in decoded[0]:
        return Sent(1, await _tell_admins(store, prosody, host, decoded[0], now=now))
    if "thank" in decoded[0]:
        return Sent(1, await thank(store, prosody, host, decoded[0]))
    until = next((n for n, item in enumerate(decoded) if item.keys() & _MESSAGES), len(decoded))
    sendings = await _sendings(store, decoded[:until], now=now)
    stanzas = _stanzas(
        decoded[:until], sendings, lambda one: link(one, one.state_at or now)
    )  # again: the same
    wanted = [text for texts in stanzas for text in texts]
    named = [f"{item['id']} {text}" for item, texts in zip(decoded, stanzas, strict=False) for text in texts]
    webhook_id = "s-" + hashlib.sha256("\n".join(named).encode()).hexdigest()[:40]
    results = iter(await prosody.send(host, wanted, webhook_id=webhook_id) if wanted else ())
    change = Change()
    for item, texts in zip(decoded, stanzas, strict=False):
        if texts:
            first, *enclosed = [next(results) for _ in texts]
            change += _settle(host, item, first, sendings, patience=patience, now=now)
            change += _settle_enclosed(host, item, first, enclosed)
    return Sent(len(stanzas), change)


async def _sendings(store: Store, items: Sequence[Item], *, now: datetime) -> Mapping[str, Interaction]:
    """Load the interactions of ours among the items that are still to be sent, with their payloads."""
    names = [keys.interaction(item["send"]) for item in items if "send" in item]
    if not names:
        return {}
    records = (await load.fetch(store, names=names, originals=True)).records.values()
    return {one.id: one for one in records if isinstance(one, Interaction) and outgoing.is_due(one, now=now)}


def _stanzas(
    items: Sequence[Item], sendings: Mapping[str, Interaction], link: Callable[[Interaction], str]
) -> list[list[str]]:
    """Write each item's stanzas, of as many items as fit into one call; none for one that is not wanted any more."""
    found: list[list[str]] = []
    size_bytes = number = 0
    for item in items:
        texts = [item["stanza"]] if "stanza" in item else []
        interaction = sendings.get(item.get("send", ""))
        if interaction is not None and interaction.original is not None:
            texts = _written(interaction, interaction.original, link)
        size_bytes += sum(len(json.dumps(text)) for text in texts)
        number += len(texts)
        if found and (size_bytes > _MAX_CALL_BYTES or number > _MAX_CALL_STANZAS):
            break
        found.append(texts)
    return found


def _written(interaction: Interaction, payload: bytes, link: Callable[[Interaction], str]) -> list[str]:
    """Write one sending: the incident IQ, or in its place the chat message to a person and what is enclosed with it."""
    known = interaction.outreach
    if known is not None:
        text = letter(interaction, link=link(interaction))
        return [
            write_chat(text, to=known.address, id=interaction.iq_id),
            *(
                write_message(one, to=known.address, id=f"{outgoing.REPORT_PREFIX}{interaction.id}-{number}")
                for number, one in enumerate(enclosure.reports(interaction), start=1)
            ),
        ]
    iq_type, document = interaction.kind.iq_type, xml.parse(payload)
    return [write_request(iq_type, to=interaction.peer, id=interaction.iq_id, payload=document)]


def _settle(
    host: str,
    item: Item,
    result: Mapping[str, Any],
    sendings: Mapping[str, Interaction],
    *,
    patience: outgoing.Patience,
    now: datetime,
) -> Change:
    """Note what Prosody did with one stanza."""
    outcome = "error" if "error" in result else "dropped" if "dropped" in result else "sent"
    change = Change(counts=(("stanzas", outcome),))
    fields = {"host": host, "interaction": item.get("interaction") or item.get("send"), "item": item["id"]}
    if outcome == "error":
        _log.error(f"Prosody refused a stanza of ours, it is not sent again: {result['error']}", **fields)
    else:
        _log.info("sent" if outcome == "sent" else "dropped: answered by Prosody itself", **fields)
    if "send" in item:
        interaction = sendings[item["send"]]
        if outcome == "error":
            return change + outgoing.not_sendable(interaction, str(result["error"]), now=now)
        return change + outgoing.handed_over(interaction, now=now, patience=patience)[1]
    if outcome == "sent" and item.get("interaction") is not None:
        mark = Mark(interaction_id=item["interaction"], state=InteractionState.ANSWERED, at=now)
        times = ((Stage.ANSWERED, now.timestamp() - item["since"]),) if "since" in item else ()
        return change + Change(marks=(mark,), times=times)
    return change


def _settle_enclosed(
    host: str, item: Item, letter_result: Mapping[str, Any], results: Sequence[Mapping[str, Any]]
) -> Change:
    """Note what Prosody did with what goes along with a letter; the letter counts without it, too."""
    refused = [str(result["error"]) for result in results if "error" in result]
    if refused and "error" not in letter_result:
        _log.warning(
            "Prosody sent the letter, but not all reports for programs with it: "
            "install the module that came with this bridge",
            host=host,
            interaction=item["send"],
            refused=len(refused),
            reason=refused[0],
        )
    counts = tuple(("stanzas", "error" if "error" in result else "sent") for result in results)
    return Change(counts=counts)


async def _tell_admins(
    store: Store, prosody: ProsodyClient, host: str, item: Item, *, now: datetime
) -> Change:
    """Send the host's admins the message that waits for them, if one still does."""
    name = keys.notices(host)
    found = (await load.fetch(store, names=[name])).records[name]
    notices = found if isinstance(found, Notices) else Notices(host=host)
    telling = Telling(item["notice"])
    tallies = await load.tallies(store, host, telling)
    if not tallies:
        return Change()
    if now < notice.may_tell_at(notices, telling, now=now):  # several workers asked for a look at once
        return Change(timers=(notice.look(notices, telling, now=now),))
    open_approvals = await load.count(store, keys.approvals_open(host))
    await _notify(prosody, host, item, notice.text(host, telling, tallies, open_approvals=open_approvals))
    return notice.told(notices, telling, tallies, now=now)


async def _notify(prosody: ProsodyClient, host: str, item: Item, text: str) -> None:
    webhook_id = "n-" + hashlib.sha256(f"{host} {item['id']} {text}".encode()).hexdigest()[:40]
    try:
        sent = await prosody.notify(host, text, webhook_id=webhook_id)
    except UnsupportedError as error:
        _log.error("admins are not told", host=host, reason=str(error))
        sent = []
    _log.info("admins told", host=host, admins=len(sent), item=item["id"])
