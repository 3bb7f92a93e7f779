"""One incident as `incidents show` prints it: what it says, what happened, who says so, what we repaired."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bridge.cli.lookalike import address_cell, remarks
from bridge.cli.output import Terminal, cell, moment
from bridge.cli.timeline import entries, print_entries
from bridge.iodef.model import Contact, Counter, Expectation, HistoryItem, Impact, IncidentId, Source
from bridge.iodef.model import Incident as Document
from bridge.log import visible
from bridge.pipeline.related import Related
from bridge.policy.clock import NextStep, Step
from bridge.policy.record import Incident, Interaction, Notices, Way
from bridge.policy.trust import Authentication, Stream

_LABEL = 14
_PROVEN = {
    Authentication.CERTIFICATE: "by a valid certificate",
    Authentication.DIALBACK_CERTIFICATE: "by dialback, with a certificate that is not trusted",
    Authentication.DIALBACK: "by dialback only",
    Authentication.LOCAL: "it is on this server",
    Authentication.NONE: "not at all",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What there is to tell about an incident.

    Attributes:
        interactions: all that concern it, oldest first.
        known: our hosts and trusted peers, whose names others may imitate.
    """

    incident: Incident
    interactions: tuple[Interaction, ...]
    related: tuple[Related, ...]
    notices: Notices | None
    known: frozenset[str]
    next_steps: tuple[NextStep, ...] = ()

    @property
    def newest(self) -> Interaction | None:
        """The interaction that brought the edition that counts; None if its document is gone."""
        by_id = {one.id: one for one in self.interactions}
        return by_id.get(self.incident.current.interaction_id)


def print_page(page: Page, terminal: Terminal) -> None:
    """Print the incident as the edition that counts tells it, then its story."""
    incident, newest = page.incident, page.newest
    _head(incident, terminal)
    if newest is None:
        terminal.line("Its document is no longer in the store.")
    else:
        _document(newest.document, terminal)
        _remarks(page, newest, terminal)
    _related(page, terminal)
    terminal.title("What happened")
    print_entries(entries(incident, page.interactions, page.notices), terminal)
    if page.next_steps:
        terminal.title("What is next")
    for step in page.next_steps:
        terminal.line(f"  {step_text(step)}")
        for line in step_commands(step):
            terminal.line(f"      {line}")
    if newest is not None:
        _sender(newest, terminal)
        _repairs(page, newest, terminal)


def step_text(step: NextStep) -> str:
    """`2026-11-29 10:00 UTC  remind c.example by chat to root@c.example, told once and nothing settled`."""
    what = "remind"
    if step.step is Step.LIST:
        what = "block, and propose for a public list:" if step.may_be_published else "block it here:"
    times = "once" if step.times == 1 else f"on {step.times} days"
    told = f"told {times} and nothing settled" if step.times else "nothing has arrived there yet"
    way = f" {visible(step.way)}" if step.way else ""
    return f"{moment(step.at)}  {what} {address_cell(step.peer)}{way}, {told}"


def step_commands(step: NextStep) -> list[str]:
    """What to type for it; for a public list also what to propose it with."""
    return [visible(one) for one in (step.command, step.log_command) if one]


def _head(incident: Incident, terminal: Terminal) -> None:
    terminal.line(terminal.marked(f"Incident {visible(incident.id)}", "title"))
    by = "this host" if incident.is_own else f"{address_cell(incident.reporter)} to"
    _field(terminal, "Reported by", f"{by} {address_cell(incident.host)}")
    _field(terminal, "Identifier", _identifier(incident.identity))
    _field(terminal, "Status", incident.status)
    if incident.quarantined:
        decide = terminal.advice(f"incident-bridge peers trust|block {incident.reporter}")
        _field(terminal, "Quarantine", f"yes: reported by a stranger. To decide: {decide}")
    elif not incident.is_own:
        _field(terminal, "Quarantine", "no")
    _field(terminal, "First told", moment(incident.created_at))
    if incident.updated_at != incident.created_at:
        _field(terminal, "Last told", moment(incident.updated_at))
    if incident.told:
        _field(terminal, "We told", ", ".join(address_cell(one) for one in incident.told))


def _remarks(page: Page, newest: Interaction, terminal: Terminal) -> None:
    """Say which addresses only look like one that the operator knows."""
    document = newest.document
    addresses = [page.incident.reporter, page.incident.identity.name]
    addresses += [one.address for one in document.sources + document.targets + document.others]
    addresses += [jid for contact in document.contacts for jid in contact.jids]
    found = remarks(addresses, page.known)
    if found:
        terminal.title("Beware")
    for line in found:
        terminal.line(f"  {line}")


def _related(page: Page, terminal: Terminal) -> None:
    """List the other incidents that have to do with it, with ids that can be typed."""
    rows = [
        (one.incident.id, address_cell(one.incident.reporter), one.incident.status, one.incident.updated_at,
         one.why, one.incident.summary)
        for one in page.related
        if one.incident is not None
    ]  # fmt: skip
    _section("Has to do with", ("ID", "REPORTED BY", "STATUS", "CHANGED", "WHY", "WHAT"), rows, terminal)
    strange = [one.identity for one in page.related if one.incident is None]
    _section("Related incidents", ("IDENTIFIER",), [(_identifier(one),) for one in strange], terminal)
    for one in strange[:1]:
        asking = f"incident-bridge inquire --to {one.name or 'DOMAIN'} --id {one.name or 'NAME'}/{one.text}"
        terminal.line(f"  Not known here. To ask: {cell(asking)}")


def _field(terminal: Terminal, label: str, value: object) -> None:
    terminal.line(f"  {label:{_LABEL}} {cell(value)}")


def _identifier(identity: IncidentId) -> str:
    instance = f" ({identity.instance})" if identity.instance else ""
    text = identity.text + instance
    return f"{text} of {address_cell(identity.name)}" if identity.name else text


def _document(document: Document, terminal: Terminal) -> None:
    for label, time in (
        ("Began", document.started_at),
        ("Ended", document.ended_at),
        ("Detected", document.detected_at),
        ("Written", document.reported_at),
    ):
        if time:
            _field(terminal, label, moment(time))
    for impact in document.impacts:
        _field(terminal, "Impact", _impact(impact))
    if document.confidence:
        rating = document.confidence
        _field(terminal, "Confidence", rating.rating if rating.value is None else rating.value)
    _field(terminal, "Purpose", document.purpose)
    _field(terminal, "May be shared", document.restriction)
    for text in document.descriptions:
        terminal.title(f"Description ({text.lang})" if text.lang else "Description")
        for line in text.text.strip().split("\n"):
            terminal.line(f"  {visible(line.strip())}")
    _addresses("Sources", document.sources, terminal)
    _addresses("Targets", document.targets, terminal)
    _addresses("Other systems", document.others, terminal)
    contacts = [_contact(contact) for contact in document.contacts]
    _section("Contacts", ("ROLE", "TYPE", "ADDRESS", "NAME"), contacts, terminal)
    _section("Asked for", ("ACTION", "TEXT"), map(_expectation, document.expectations), terminal)
    _section("What was done", ("WHEN", "ACTION", "TEXT"), map(_history, document.history), terminal)
    others = [(_identifier(one),) for one in document.alternatives]
    _section("Also known as", ("IDENTIFIER",), others, terminal)


def _section(title: str, titles: Sequence[str], rows: Iterable[Sequence[object]], terminal: Terminal) -> None:
    found = list(rows)
    if found:
        terminal.title(title)
        terminal.table(titles, found, indent=2)


def _impact(impact: Impact) -> str:
    severity = f"{impact.severity} severity" if impact.severity else None
    return ", ".join(word for word in (impact.type, severity, impact.completion, impact.text) if word)


def _addresses(title: str, sources: Sequence[Source], terminal: Terminal) -> None:
    rows = [
        (
            address_cell(source.address),
            source.category,
            ", ".join(source.roles),
            "; ".join(map(counter, source.counters)),
        )
        for source in sources
    ]
    _section(title, ("ADDRESS", "KIND", "ROLE", "COUNTERS"), rows, terminal)
    spoofed = [source.address for source in sources if source.spoofed == "yes"]
    if spoofed:
        terminal.line(f"  Said to be forged: {cell(', '.join(spoofed))}")


def counter(one: Counter) -> str:
    """`123 xmpp-presence`, `5 packet a second`."""
    rate = f" a {one.duration}" if one.duration else ""
    meaning = f" ({one.meaning})" if one.meaning else ""
    return f"{one.value:.15g} {one.type}{rate}{meaning}"


def _contact(contact: Contact) -> tuple[object, ...]:
    addresses = (*(f"xmpp:{address_cell(jid)}" for jid in contact.jids), *contact.emails, *contact.phones)
    return contact.role, contact.type, ", ".join(addresses), contact.name


def _expectation(expectation: Expectation) -> tuple[object, ...]:
    return expectation.action, "; ".join(text.text for text in expectation.descriptions)


def _history(item: HistoryItem) -> tuple[object, ...]:
    return item.at, item.action, "; ".join(text.text for text in item.descriptions)


def _sender(newest: Interaction, terminal: Terminal) -> None:
    """Say how the server that told it proved who it is."""
    if newest.way is Way.SENT:
        return
    terminal.title("Who told us so")
    _field(terminal, "Sender", address_cell(newest.sender))
    _field(terminal, "Server proven", _PROVEN[newest.stream.authentication])
    _field(terminal, "Stream", _stream(newest.stream))
    if newest.stream.certificate_sha256:
        _field(terminal, "Certificate", f"SHA-256 {newest.stream.certificate_sha256}")
    _field(terminal, "IQ id", newest.iq_id)


def _stream(stream: Stream) -> str:
    tls = (stream.tls or "encrypted") if stream.encrypted else "NOT ENCRYPTED"
    return f"{stream.direction}, {tls}"


def _repairs(page: Page, newest: Interaction, terminal: Terminal) -> None:
    """List what was repaired or left out on reading, in each document that was received."""
    titles = ("WHERE", "WHAT WAS WRONG", "WHAT WE DID")
    rows = [(repair.path, repair.rule, repair.done) for repair in newest.repairs]
    _section("What was repaired in the document", titles, rows, terminal)
    others = [
        (one.id, repair.path, repair.rule, repair.done)
        for one in page.interactions
        for repair in one.repairs
        if one is not newest
    ]
    _section("What was repaired in the other documents", ("INTERACTION", *titles), others, terminal)
    if not rows and newest.way is Way.RECEIVED:
        terminal.title("The document needed no repair.")
