"""One incident as `incidents show` prints it: first what it says, then who says so, then what we had to repair."""

from collections.abc import Iterable, Sequence

from bridge.cli.output import Terminal, cell, moment
from bridge.iodef.model import Contact, Counter, Expectation, HistoryItem, Impact, IncidentId, Source
from bridge.iodef.model import Incident as Document
from bridge.log import visible
from bridge.policy.record import Incident, Interaction, InteractionState
from bridge.policy.trust import Authentication, Stream

_LABEL = 14
_PROVEN = {
    Authentication.CERTIFICATE: "by a valid certificate",
    Authentication.DIALBACK_CERTIFICATE: "by dialback, with a certificate that is not trusted",
    Authentication.DIALBACK: "by dialback only",
    Authentication.LOCAL: "it is on this server",
    Authentication.NONE: "not at all",
}


def print_page(incident: Incident, interactions: Sequence[Interaction], terminal: Terminal) -> None:
    """Print the incident as its newest interaction tells it."""
    _head(incident, terminal)
    if not interactions:
        terminal.line("Its documents are no longer in the store.")
        return
    newest = interactions[-1]
    _document(newest.document, terminal)
    _senders(incident, interactions, terminal)
    _repairs(interactions, terminal)


def _head(incident: Incident, terminal: Terminal) -> None:
    terminal.line(terminal.marked(f"Incident {visible(incident.id)}", "title"))
    _field(terminal, "Reported by", f"{incident.reporter} to {incident.host}")
    _field(terminal, "Identifier", _identifier(incident.identity))
    _field(terminal, "Status", incident.status)
    if incident.quarantined:
        decide = terminal.advice(f"incident-bridge peers trust|block {incident.reporter}")
        _field(terminal, "Quarantine", f"yes: reported by a stranger. To decide: {decide}")
    else:
        _field(terminal, "Quarantine", "no")
    _field(terminal, "First told", moment(incident.created_at))
    if incident.updated_at != incident.created_at:
        _field(terminal, "Last told", moment(incident.updated_at))


def _field(terminal: Terminal, label: str, value: object) -> None:
    terminal.line(f"  {label:{_LABEL}} {cell(value)}")


def _identifier(identity: IncidentId) -> str:
    instance = f" ({identity.instance})" if identity.instance else ""
    return f"{identity.text}{instance} of {identity.name}" if identity.name else identity.text + instance


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
    _section(
        "Related incidents", ("IDENTIFIER",), [(_identifier(one),) for one in document.related], terminal
    )
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
        (source.address, source.category, ", ".join(source.roles), "; ".join(map(counter, source.counters)))
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
    addresses = (*(f"xmpp:{jid}" for jid in contact.jids), *contact.emails, *contact.phones)
    return contact.role, contact.type, ", ".join(addresses), contact.name


def _expectation(expectation: Expectation) -> tuple[object, ...]:
    return expectation.action, "; ".join(text.text for text in expectation.descriptions)


def _history(item: HistoryItem) -> tuple[object, ...]:
    return item.at, item.action, "; ".join(text.text for text in item.descriptions)


def _senders(incident: Incident, interactions: Sequence[Interaction], terminal: Terminal) -> None:
    by_id = {one.id: one for one in interactions}
    terminal.title("Who told us")
    rows = []
    for number, edition in enumerate(incident.editions, start=1):
        sent = by_id.get(edition.interaction_id)
        sender = sent.sender if sent else None
        rows.append(
            (number, edition.received_at, edition.status, sender, sent and sent.trust, sent and _state(sent))
        )
    terminal.table(("EDITION", "CAME", "STATUS", "SENDER", "COUNTED AS", "ANSWER"), rows, indent=2)
    newest = interactions[-1]
    _field(terminal, "Server proven", _PROVEN[newest.stream.authentication])
    _field(terminal, "Stream", _stream(newest.stream))
    if newest.stream.certificate_sha256:
        _field(terminal, "Certificate", f"SHA-256 {newest.stream.certificate_sha256}")
    _field(terminal, "IQ id", newest.iq_id)
    _field(terminal, "Interaction", newest.id)


def _stream(stream: Stream) -> str:
    tls = (stream.tls or "encrypted") if stream.encrypted else "NOT ENCRYPTED"
    return f"{stream.direction}, {tls}"


def _state(interaction: Interaction) -> str:
    at = f" {moment(interaction.state_at)}" if interaction.state_at else ""
    match interaction.state:
        case InteractionState.STORED:
            return "waits for a worker"
        case InteractionState.DECIDED:
            return f"waits for Prosody since{at}" if at else "waits for Prosody"
        case InteractionState.ANSWERED:
            return f"answered{at}"
        case InteractionState.FAILED:
            return "failed: set aside, see the log"


def _repairs(interactions: Sequence[Interaction], terminal: Terminal) -> None:
    newest = interactions[-1]
    if not newest.repairs:
        terminal.title("The document needed no repair.")
        return
    rows = [(repair.path, repair.rule, repair.done) for repair in newest.repairs]
    _section("What was repaired in the document", ("WHERE", "WHAT WAS WRONG", "WHAT WE DID"), rows, terminal)
