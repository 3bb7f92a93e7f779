"""`validate FILE`: what would we answer, and what would we repair? Offline, by the real reading and the real rules."""

import argparse
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bridge.cli.arguments import Commands, UsageError, command
from bridge.cli.output import Exit, Terminal, count
from bridge.config import PolicySettings
from bridge.errors import MalformedError, RefusedError, StanzaError
from bridge.log import visible
from bridge.pipeline.compose import as_iq
from bridge.policy.admit import Arrival, State, admit, charge
from bridge.policy.record import Peer, Quarantine
from bridge.policy.trust import Authentication, Direction, Stream, Trust
from bridge.webhooks.event import plain
from bridge.xep0268.model import Kind, Reading
from bridge.xep0268.read import read
from bridge.xmpp import xml
from bridge.xmpp.jid import Jid
from bridge.xmpp.stanza import Iq, IqType

SENDER = "peer.example"
_MOST_BYTES = 16 * 1024 * 1024


_ACCEPTED = {
    Kind.REPORT: "Accepted. We would answer with an empty result.",
    Kind.REQUEST: "Accepted. We would answer with an empty result, and later with a response, when you respond.",
    Kind.RESPONSE: "Accepted. We would answer with an empty result; unless we asked for it, it is quarantined.",
    Kind.INQUIRY: "Accepted. We would answer with an empty result and then the report, or item-not-found where there"
    " is no such incident or the sender may not know of it.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What would happen: what was dropped from the file, what was read, what we would answer (None: `result`)."""

    dropped: tuple[str, ...] = ()
    reading: Reading | None = None
    refusal: StanzaError | None = None


def add(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Declare the command."""
    parser = command(
        commands,
        common,
        "validate",
        validate,
        "say what we would answer to a document, and what we would repair",
    )
    parser.add_argument(
        "file", metavar="FILE", help="an IQ, a payload, an Incident or an IODEF-Document; - is stdin"
    )
    parser.add_argument(
        "--from", dest="sender", metavar="DOMAIN", help=f"who sends it, if not an IQ ({SENDER})"
    )
    kinds = [str(kind) for kind in Kind]
    parser.add_argument("--as", dest="kind", choices=kinds, default=str(Kind.REPORT),
                        help="what an Incident or IODEF-Document is sent as (report)")  # fmt: skip


def validate(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Judge one file; exit 1 if its sender would get an error."""
    sender = _sender(arguments.sender)
    verdict = judge(read_bytes(arguments.file), sender=sender, kind=Kind(arguments.kind))
    code = Exit.NO if verdict.refusal else Exit.OK
    if terminal.is_json:
        terminal.json(_plain(verdict))
        return code
    if verdict.refusal:
        terminal.line(f"Refused. We would answer {verdict.refusal.type}/{verdict.refusal.condition}:")
        terminal.line(f"  {visible(verdict.refusal.text)}")
    else:
        terminal.line(_ACCEPTED[verdict.reading.kind if verdict.reading else Kind.REPORT])
    if verdict.reading:
        _show(verdict.reading, terminal)
    for sentence in verdict.dropped:
        terminal.line(f"Only because this is a file: {visible(sentence)}; over XMPP it would be refused.")
    return code


def _sender(text: str | None) -> Jid:
    try:
        return Jid.parse(text or SENDER)
    except MalformedError as error:
        raise UsageError(f"--from is not an XMPP address: {error.rule}") from None


def read_bytes(name: str, *, most: int = _MOST_BYTES) -> bytes:
    """Read at most so many bytes of a file, or of stdin for `-`."""
    try:
        if name == "-":
            return sys.stdin.buffer.read(most)
        with Path(name).open("rb") as file:
            return file.read(most)
    except OSError as error:
        raise UsageError(f"{name}: cannot be read: {error.strerror}") from None


def judge(data: bytes, *, sender: Jid, kind: Kind) -> Verdict:
    """Read and judge one document as if a trusted peer had sent it over a good stream."""
    dropped: tuple[str, ...] = ()
    reading = None
    try:
        root, dropped = xml.parse_file(data)
        iq = as_iq(root, sender=sender, kind=kind)
        if iq.type in {IqType.RESULT, IqType.ERROR}:
            raise MalformedError("iq", "this is an answer, not an interaction; nothing is answered to it")
        reading = read(iq)
        _admit(iq, reading, data)
    except RefusedError as error:
        return Verdict(dropped=dropped, reading=reading, refusal=error.stanza_error)
    return Verdict(dropped=dropped, reading=reading)


def _admit(iq: Iq, reading: Reading, data: bytes) -> None:
    """Apply the rules by which the running bridge admits; RefusedError is its answer."""
    now = datetime.now(UTC)
    stream = Stream(direction=Direction.INCOMING, encrypted=True, authentication=Authentication.CERTIFICATE)
    domain = iq.sender.domain
    state = State(
        host=iq.to.domain,
        rules=PolicySettings(),
        peers={domain: Peer(host=iq.to.domain, domain=domain, trust=Trust.TRUSTED)},
        buckets={},
        quarantine=Quarantine(host=iq.to.domain),
        remembered={},
        fill=0.0,
    )
    arrival = Arrival(id="validate", iq=iq, stream=stream, reading=reading, digest="", original=data)
    admit(charge(state, arrival, now=now), arrival, now=now)


def _show(reading: Reading, terminal: Terminal) -> None:
    identity = reading.incident.identity
    article = "An" if reading.kind is Kind.INQUIRY else "A"
    terminal.line(
        f"{article} {reading.kind} about incident {visible(identity.text)} of {visible(identity.name)}."
    )
    if not reading.repairs:
        terminal.line("Nothing to repair.")
        return
    terminal.title(
        f"{count(len(reading.repairs), 'repair')} on reading; what is stored is the repaired document"
    )
    rows = [(repair.path, repair.rule, repair.done) for repair in reading.repairs]
    terminal.table(("WHERE", "WHAT WAS WRONG", "WHAT WE DO"), rows, indent=2)


_ANSWERS = {Kind.INQUIRY: "result and report, or item-not-found"}


def _plain(verdict: Verdict) -> dict[str, object]:
    kind = verdict.reading.kind if verdict.reading else None
    return {
        "answer": "error" if verdict.refusal else _ANSWERS.get(kind or Kind.REPORT, "result"),
        "error": plain(verdict.refusal),
        "kind": None if kind is None else str(kind),
        "incident": plain(verdict.reading.incident) if verdict.reading else None,
        "repairs": plain(verdict.reading.repairs) if verdict.reading else [],
        "dropped": list(verdict.dropped),
    }
