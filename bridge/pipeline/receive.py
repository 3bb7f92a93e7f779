"""A batch of stanzas from Prosody: store what is admitted in one commit, and say at once what is refused.

House rules: a bad item gets its error and spoils nothing for the others; nothing is acknowledged before `commit`
is done.
"""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bridge import log
from bridge.errors import Condition, ErrorType, RefusedError, StanzaError, UnavailableError
from bridge.policy import admit, replies
from bridge.policy.admit import Arrival, Returned, Rules
from bridge.policy.change import Change
from bridge.policy.outgoing import ID_PREFIX
from bridge.policy.quota import OverQuotaError
from bridge.policy.record import STRANGERS, Bucket, Peer, Quarantine
from bridge.policy.replies import Said
from bridge.policy.trust import Stream
from bridge.store import keys, load
from bridge.store.commit import Once, SeenError, StaleError, commit
from bridge.store.connect import Store
from bridge.xep0268.model import Reading
from bridge.xep0268.read import read
from bridge.xmpp import xml
from bridge.xmpp.jid import Jid
from bridge.xmpp.stanza import Iq, IqType, is_message, read_iq, read_message

Arrived = Arrival | Returned | Said | StanzaError

_log = log.get(__name__)

_ATTEMPTS = 8
_SMALL_CHARACTERS = 32_768
_MAX_REFUSE_SECONDS = 60
_FAULT = StanzaError(
    ErrorType.WAIT,
    Condition.INTERNAL_SERVER_ERROR,
    "this server failed to handle the incident; send it again later",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Relayed:
    """One stanza as Prosody relayed it."""

    stanza: str
    stream: Stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """What receiving needs besides the batch: whose host, by which rules, how full the store is."""

    host: str
    rules: Rules
    fill: float


async def receive(
    store: Store,
    intake: Intake,
    batch: Sequence[Relayed],
    *,
    webhook_id: str,
    now: datetime,
    new_id: Callable[[], str],
) -> bytes:
    """Settle everything that can be settled at once; safe to repeat under the same `webhook_id`.

    A batch whose `webhook_id` was answered before gets that answer again; `new_id` makes the id of an interaction.
    Returns the body of the answer (DESIGN §4).

    Raises:
        UnavailableError: the store does not answer, or somebody else keeps changing what this batch depends on.
    """
    arrivals = await _read_all(batch, intake.host, new_id)
    for _ in range(_ATTEMPTS):
        state, recorded = await _load(store, intake, arrivals, webhook_id)
        if recorded is not None:
            return recorded
        answer, change = _settle(state, arrivals, now=now)
        try:
            await commit(store, change, once=Once(f"{intake.host}:{webhook_id}", answer))
        except StaleError:
            continue
        except SeenError as seen:
            return seen.answer
        _tell(intake.host, webhook_id, arrivals, answer)
        return answer
    raise UnavailableError("the store changes faster than this batch can be decided; send it again")


async def _read_all(batch: Sequence[Relayed], host: str, new_id: Callable[[], str]) -> list[Arrived]:
    """Read a batch; a large one in a thread, so that a hostile document holds up nobody but its sender."""

    def read_all() -> list[Arrived]:
        return [_read(relayed, host, new_id()) for relayed in batch]

    is_small = sum(len(relayed.stanza) for relayed in batch) <= _SMALL_CHARACTERS
    return read_all() if is_small else await asyncio.to_thread(read_all)


def _read(relayed: Relayed, host: str, interaction_id: str) -> Arrived:
    """Read one item: an interaction, an answer to an IQ of ours, or the error that it gets at once."""
    original = relayed.stanza.encode("utf-8", "surrogatepass")
    try:
        element = xml.parse(original)
        if is_message(element):
            about, sender, text = read_message(element)
            about = about.removeprefix(ID_PREFIX)
            return Said(id=interaction_id, about=about, sender=sender, text=text, stream=relayed.stream)
        iq = read_iq(element)
        if iq.payload is None or iq.type in (IqType.RESULT, IqType.ERROR):
            return Returned(id=interaction_id, iq=iq, stream=relayed.stream)
        return Arrival(
            id=interaction_id,
            iq=iq,
            stream=relayed.stream,
            reading=_reading(iq),
            digest=xml.digest(iq.payload),
            original=original,
        )
    except RefusedError as error:
        return error.stanza_error
    except Exception:  # noqa: BLE001 - a bug met by one stanza must not answer 63 others
        _log.exception(
            "a stanza could not be read: report this as a bug", host=host, interaction=interaction_id
        )
        return _FAULT


def _sender(arrival: Arrival | Returned | Said) -> Jid:
    return arrival.sender if isinstance(arrival, Said) else arrival.iq.sender


def _reading(iq: Iq) -> Reading | StanzaError:
    try:
        return read(iq)
    except RefusedError as error:
        return error.stanza_error


async def _load(
    store: Store, intake: Intake, arrivals: Sequence[Arrived], webhook_id: str
) -> tuple[admit.State, bytes | None]:
    """Load what the batch depends on, in one round trip, and the answer recorded for it, if there is one."""
    host = intake.host
    domains = {_sender(one).domain for one in arrivals if not isinstance(one, StanzaError)}
    remembered = {name for one in arrivals if isinstance(one, Arrival) for name in admit.names_of(host, one)}
    names = [keys.peer(host, domain) for domain in domains]
    names += [keys.bucket(host, name) for name in (*domains, STRANGERS)]
    fetched = await load.fetch(
        store,
        names=[*names, keys.quarantine(host)],
        remembered=[(host, name) for name in remembered],
        once=f"{host}:{webhook_id}",
    )
    records = [one for one in fetched.records.values() if one is not None]
    peers = {domain: Peer(host=host, domain=domain) for domain in domains}
    peers.update({one.domain: one for one in records if isinstance(one, Peer)})
    state = admit.State(
        host=host,
        rules=intake.rules,
        peers=peers,
        buckets={one.name: one for one in records if isinstance(one, Bucket)},
        quarantine=next((one for one in records if isinstance(one, Quarantine)), Quarantine(host=host)),
        remembered={name: known for (_, name), known in fetched.remembered.items() if known is not None},
        fill=intake.fill,
    )
    return state, fetched.once


def _settle(before: admit.State, arrivals: Sequence[Arrived], *, now: datetime) -> tuple[bytes, Change]:
    """Fold admission over the batch; returns the answer's body and everything to write."""
    state, change = before, Change()
    results: list[Mapping[str, Any]] = []
    refuse: dict[str, int] = {}
    for arrival in arrivals:
        try:
            state, more = _take(state, arrival, now=now)
        except RefusedError as error:
            if isinstance(error, OverQuotaError) and error.name != STRANGERS:
                refuse[error.name] = min(error.seconds, _MAX_REFUSE_SECONDS)
            results.append({**_named(arrival), **_error(error.stanza_error)})
            change += Change(counts=(("refused", error.stanza_error.condition),))
        except Exception:  # noqa: BLE001 - a bug met by one stanza must not answer 63 others
            _log.exception(
                "a stanza could not be admitted: report this as a bug",
                host=before.host,
            )
            results.append({**_named(arrival), **_error(_FAULT)})
        else:
            results.append(_named(arrival))
            change += more
    answer = {"results": results, "refuse": refuse}
    return json.dumps(answer).encode(), Change(puts=admit.puts(before, state)) + change


def _take(state: admit.State, arrival: Arrived, *, now: datetime) -> tuple[admit.State, Change]:
    if isinstance(arrival, StanzaError):
        raise RefusedError(arrival)
    if isinstance(arrival, Returned):
        return replies.take_answer(state, arrival, now=now)
    if isinstance(arrival, Said):
        return replies.take_said(state, arrival, now=now)
    return admit.admit(admit.charge(state, arrival, now=now), arrival, now=now)


def _named(arrival: Arrival | Returned | Said | StanzaError) -> dict[str, Any]:
    """The id under which everybody's log knows an interaction; Prosody's too."""
    return {"interaction": arrival.id} if isinstance(arrival, Arrival) else {}


def _error(error: StanzaError) -> Mapping[str, Any]:
    return {"stanza_error": {"type": error.type, "condition": error.condition, "text": error.text}}


def _tell(host: str, webhook_id: str, arrivals: Sequence[Arrived], answer: bytes) -> None:
    """Log one line for each stanza of the batch."""
    for arrival, result in zip(arrivals, json.loads(answer)["results"], strict=True):
        error = result.get("stanza_error")
        fields: dict[str, Any] = {"host": host, "batch": webhook_id}
        if not isinstance(arrival, StanzaError):
            fields |= {"interaction": arrival.id, "peer": _sender(arrival).domain}
        if error is not None:
            fields |= {"condition": error["condition"], "reason": error["text"]}
        _log.info("refused" if error else "stored", **fields)
