"""An incident of ours for those who keep lists and those who run machines: a dated log as text, and XARF v4.

House rules: only what this host reported itself; every line that is not ours is quoted; victims, evidence, and who
decided here stay here.
"""

import base64
import hashlib
import re
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from bridge.errors import ConfigError
from bridge.iodef.model import Incident as Document
from bridge.iodef.model import Source
from bridge.policy import ways
from bridge.policy.abuse import SPAM_IMPACT
from bridge.policy.letter import quoted, sources_told
from bridge.policy.lookalike import ascii_form
from bridge.policy.outreach import Channel, Outreach, PersonsAnswer, Tried
from bridge.policy.record import Incident, Interaction, InteractionState, Outcome, Way
from bridge.xep0268.model import Kind

XARF_VERSION = "4.2.0"
_IP = frozenset({"ipv4-addr", "ipv6-addr"})
_MAIL = re.compile(
    r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?", re.ASCII
)
_MAX_DESCRIPTION = 1000
_MAX_SOURCES = 100
_OUTCOMES = {Outcome.DONE: "done", Outcome.DECLINED: "declined", Outcome.PARTLY: "partly done"}
_STOOD = {
    InteractionState.QUEUED: "on its way",
    InteractionState.SENT: "no answer",
    InteractionState.ACKNOWLEDGED: "acknowledged",
    InteractionState.REFUSED: "refused by the server",
    InteractionState.UNREACHABLE: "the server cannot be reached",
    InteractionState.UNANSWERED: "the server does not answer",
}


class ContactError(ConfigError):
    """It is not known at which mail address this host can be asked."""


def log(incident: Incident, document: Document, interactions: Iterable[Interaction]) -> str:
    """Write what happened and who was told when, as a public list's pull request wants it.

    Args:
        incident: one of this host's own.
        document: its newest edition.
        interactions: all about it; only what went out, and what came back for that, is told.

    Raises:
        ConfigError: another server reported it, or it is made of reports whose users did not agree to that.
    """
    _may_be_published(incident)
    lines = [
        f"Incident {quoted(document.identity.text)} reported by {ascii_form(incident.host)}",
        "",
        *sources_told(document.sources, is_own=True),
        *(
            f"> {quoted(line)}"
            for text in document.descriptions
            for line in text.text.splitlines()
            if line.strip()
        ),
        "",
        *(line for at, line in sorted(_entries(interactions), key=lambda one: one[0])),
    ]
    if incident.status == "resolved":
        lines.append(f"{_day(incident.updated_at)} resolved")
    return "\n".join(lines) + "\n"


def xarf(
    incident: Incident, document: Document, interactions: Iterable[Interaction], *, contact: str = ""
) -> list[dict[str, Any]]:
    """Write one XARF v4 report for each source, with the log as evidence; the same source has the same id again.

    Args:
        incident: see `log`, as for the next two.
        document: see there.
        interactions: see there.
        contact: the mail address at which this host can be asked; "": the first that the document names.

    Raises:
        ConfigError: as for `log`; or XARF has nothing to say what it is, and what to type.
        ContactError: no such address is known, or it is none.
    """
    text = log(incident, document, interactions).encode()
    kind = _kind(document)
    host = ascii_form(incident.host)
    who = {"org": host, "contact": _contact(document, contact), "domain": host}
    at = document.started_at or document.detected_at or document.reported_at or incident.created_at
    told = " ".join(quoted(one.text) for one in document.descriptions)
    sources = {one.address: one for one in document.sources}
    return [
        {
            "xarf_version": XARF_VERSION,
            "report_id": str(_report_id(incident, one)),
            "timestamp": _exact(at),
            "reporter": who,
            "sender": who,
            "source_identifier": ascii_form(one.address),
            **kind,
            **({"description": told[:_MAX_DESCRIPTION]} if told else {}),
            "evidence": [
                {
                    "content_type": "text/plain",
                    "description": "What was seen, and who was told when",
                    "payload": base64.b64encode(text).decode(),
                    "hash": f"sha256:{hashlib.sha256(text).hexdigest()}",
                    "size": len(text),
                }
            ],
        }
        for one in list(sources.values())[:_MAX_SOURCES]
    ]


def _kind(document: Document) -> dict[str, str]:
    """What XARF calls it, with all that it wants to know of that; never more than the document says."""
    impacts = [one.type for one in document.impacts]
    if SPAM_IMPACT in impacts:
        return {"category": "messaging", "type": "spam", "protocol": "chat"}
    if "dos" in impacts:
        return _attack(document)
    stated = f"impact {', '.join(map(quoted, impacts))}" if impacts else "no impact stated"
    raise ConfigError(
        f"XARF has no kind for it ({stated}), only for spam and dos; if it is one of these, say so first: "
        "incident-bridge report --incident ID --impact spam; else export the log: --form log"
    )


def _attack(document: Document) -> dict[str, str]:
    """A flood of stanzas; these come over TCP (RFC 6120 §3)."""
    began = document.started_at or document.detected_at
    if began is None:
        raise ConfigError(
            "XARF wants to know since when; say so first: incident-bridge report --incident ID --started TIME"
        )
    if bare := next((one.address for one in document.sources if one.category in _IP), ""):
        raise ConfigError(
            f"of {quoted(bare)} XARF wants to know the port, which is not known here; export the log: --form log"
        )
    ended = {"last_seen": _exact(document.ended_at)} if document.ended_at else {}
    return {"category": "connection", "type": "ddos", "protocol": "tcp", "first_seen": _exact(began), **ended}


def mail_in(document: Document) -> str:
    """The first mail address among its contacts; "": there is none."""
    return next((one for contact in document.contacts for one in contact.emails), "")


def _contact(document: Document, given: str) -> str:
    known = given.strip() or mail_in(document)
    if not known:
        raise ContactError("XARF names a mail address at which you can be asked, and the document names none")
    if not _MAIL.fullmatch(known):
        raise ContactError(f"'{quoted(known)}' is not a mail address")
    return known


def _exact(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _may_be_published(incident: Incident) -> None:
    if not incident.is_own:
        raise ConfigError(f"{incident.reporter} reported it, so it is for {incident.reporter} to publish")
    if incident.only_to:
        raise ConfigError(
            f"the users whose reports it is made of agreed that {', '.join(incident.only_to)} be told, and nobody else"
        )


def _report_id(incident: Incident, source: Source) -> uuid.UUID:
    named = hashlib.sha256(f"{incident.id}\n{source.address}".encode()).digest()
    return uuid.UUID(bytes=named[:16], version=4)


def _entries(interactions: Iterable[Interaction]) -> Iterator[tuple[datetime, str]]:
    known = {one.id: one for one in interactions}
    for one in known.values():
        asked = known.get(one.answers or "")
        if one.way is Way.RECEIVED and one.kind is Kind.RESPONSE and asked is not None and asked.outcome:
            said = f"answer from {ascii_form(one.peer)}: {_OUTCOMES[asked.outcome]}"
            yield one.received_at, f"{_day(one.received_at)} {said}"
        if one.way is not Way.SENT or one.kind not in (Kind.REPORT, Kind.REQUEST):
            continue
        for at, by in _tries(one):
            yield at, f"{_day(at)} {one.kind} to {ascii_form(one.peer)} {by}"
        for answer in one.outreach.answers if one.outreach else ():
            yield answer.at, f"{_day(answer.at)} answer for {ascii_form(one.peer)}: {_said(answer)}"


def _tries(one: Interaction) -> Iterator[tuple[datetime, str]]:
    """Say by which ways it went, to whom, and whether it arrived."""
    known, first = one.outreach, one.first_sent_at or one.received_at
    if known is None:
        yield first, f"(XEP-0268): {_STOOD.get(one.state, one.state)}"
        return
    yield first, f"(XEP-0268): {'no answer' if known.is_server_away else 'not spoken there'}"
    for each in known.tried:
        came = "no answer" if each.failure is None else f"not delivered ({quoted(each.failure.condition)})"
        yield each.at, f"{_way(each)}: {came}"
    *_, last = ways.tried(one, at=one.state_at or first)
    if last not in known.tried:
        yield one.sent_at or first, f"{_way(last)}: {_arrived(one, known)}"


def _arrived(one: Interaction, known: Outreach) -> str:
    match one.state:
        case InteractionState.QUEUED:
            return "on its way" if one.failure is None or one.retry_at is None else "not delivered yet"
        case InteractionState.SENT:
            return "no answer"
        case InteractionState.ACKNOWLEDGED:
            return "answered"
        case _ if known.channel is Channel.MAIL:
            return "not written to yet"
    return f"not delivered ({quoted(one.failure.condition)})" if one.failure else "not delivered"


def _way(one: Tried) -> str:
    return f"by {one.channel} to {quoted(ascii_form(one.address))}" if one.address else f"by {one.channel}"


def _said(answer: PersonsAnswer) -> str:
    verdict = str(answer.verdict).replace("-", " ") if answer.verdict else "in words"
    return f"{verdict}: “{quoted(answer.text)}”" if answer.text else verdict


def _day(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d}"
