"""What XEP-0268 adds to IODEF: chat rooms as contacts, JIDs, XMPP addresses, roles and counters; read and written."""

from datetime import UTC, datetime

import pytest

from bridge.iodef.model import Contact, Counter, Incident, IncidentId, Source
from bridge.iodef.table import NAMESPACE as IODEF
from bridge.xep0268.model import NAMESPACE, Kind, Reading, Status
from bridge.xep0268.read import read
from bridge.xep0268.write import write
from bridge.xmpp.stanza import read_iq
from bridge.xmpp.xml import parse, serialize

NOW = datetime(2026, 11, 21, tzinfo=UTC)
SPELLINGS = ["ext-value", "ext-type", "ext-category", "ext-role"]
ROLES = ["xmpp", "xmpp-bytestreams", "xmpp-muc", "xmpp-pubsub"]


def received(inside: str, attributes: str = "", of_incident: str = "") -> Reading:
    incident = (
        f"<Incident xmlns='{IODEF}' purpose='reporting' {of_incident}>"
        f"<IncidentID name='b.test'>1</IncidentID>{inside}</Incident>"
    )
    payload = f"<report xmlns='{NAMESPACE}' {attributes}>{incident}</report>"
    return read(read_iq(parse(f"<iq from='b.test' to='a.test' id='1' type='set'>{payload}</iq>".encode())))


def again(incident: Incident) -> Incident:
    """What a peer reads of what we write."""
    payload = write(Kind.REPORT, incident, reported_at=NOW, contact="a.test")
    text = serialize(payload).decode()
    iq = f"<iq from='a.test' to='b.test' id='1' type='set'>{text}</iq>"
    reading = read(read_iq(parse(iq.encode())))
    assert reading.repairs == ()
    return reading.incident


def node(inside: str) -> str:
    flow = f"<Flow><System category='source'><Node>{inside}</Node></System></Flow>"
    return f"<EventData>{flow}</EventData>"


@pytest.mark.parametrize("namespace", ["urn:xmpp:jid:0", "urn:xmpp:incident:2", IODEF, ""])
def test_a_contacts_jid_is_found_in_every_namespace_it_was_seen_in(namespace: str) -> None:
    jid = f"<jid xmlns='{namespace}'>ops@b.test</jid>"
    contact = f"<Contact role='admin' type='person'><AdditionalData>{jid}</AdditionalData></Contact>"
    reading = received(contact)
    assert reading.incident.contacts == (Contact(role="admin", type="person", jids=("ops@b.test",)),)
    assert again(reading.incident).contacts == reading.incident.contacts


@pytest.mark.parametrize(
    "attributes",
    [
        "role='ext-value' ext-role='chatroom' type='ext-value' ext-type='chatroom'",
        "role='ext-type' ext-type='chatroom'",
        "role='ext-role' ext-role='chatroom' type='ext-value' ext-type='chatroom'",
        "role='chatroom' type='chatroom'",
        "ext-role='chatroom' ext-type='chatroom'",
    ],
)
def test_a_chat_room_is_a_contact(attributes: str) -> None:
    jid = "<AdditionalData dtype='xml'><jid xmlns='urn:xmpp:jid:0'>ops@muc.b.test</jid></AdditionalData>"
    (contact,) = received(f"<Contact {attributes}>{jid}</Contact>").incident.contacts
    assert (contact.role, contact.type, contact.jids) == ("chatroom", "chatroom", ("ops@muc.b.test",))


@pytest.mark.parametrize("spelling", [*SPELLINGS, "xmpp"])
def test_an_xmpp_address_is_one_however_it_is_spelled(spelling: str) -> None:
    extension = "" if spelling == "xmpp" else "ext-category='xmpp'"
    address = f"<Address category='{spelling}' {extension}>Abuser@Clueless.lit</Address>"
    (source,) = received(node(address)).incident.sources
    assert (source.category, source.address, source.jid) == (
        "xmpp",
        "Abuser@Clueless.lit",
        "abuser@clueless.lit",
    )


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("spelling", ["ext-value", "ext-category", ""])
def test_the_roles_of_nodes(role: str, spelling: str) -> None:
    attributes = f"category='{spelling}' ext-category='{role}'" if spelling else f"category='{role}'"
    reading = received(node(f"<Address>192.0.2.1</Address><NodeRole {attributes}/>"))
    assert reading.incident.sources[0].roles == (role,)
    assert again(reading.incident).sources == reading.incident.sources


@pytest.mark.parametrize("spelling", ["ext-value", "ext-type", "xmpp-presence"])
def test_presence_is_counted(spelling: str) -> None:
    extension = "" if spelling == "xmpp-presence" else "ext-type='xmpp-presence'"
    counter = f"<Counter type='{spelling}' {extension}>123</Counter>"
    reading = received(node(f"<Address>192.0.2.1</Address>{counter}"))
    assert reading.incident.sources[0].counters == (Counter(type="xmpp-presence", value=123),)


def test_our_own_documents_say_all_of_it() -> None:
    mine = Incident(
        identity=IncidentId(name="a.test", text="1"),
        status="new",
        reported_at=NOW,
        contacts=(
            Contact(role="admin", type="person", jids=("ops@a.test",)),
            Contact(role="chatroom", type="chatroom", jids=("ops@muc.a.test",)),
        ),
        sources=tuple(
            Source(
                address=f"u{number}@clueless.lit",
                category="xmpp",
                jid=f"u{number}@clueless.lit",
                roles=(role,),
                counters=(Counter(type="xmpp-presence", value=number + 0.5),),
            )
            for number, role in enumerate(ROLES)
        ),
    )
    read_back = again(mine)
    assert (read_back.contacts, read_back.sources) == (mine.contacts, mine.sources)
    assert Status.of(read_back.status) is Status.NEW


OURS = f"<AdditionalData dtype='string' meaning='status' formatid='{NAMESPACE}'>%s</AdditionalData>"
OTHER = "<AdditionalData dtype='string' meaning='%s'>%s</AdditionalData>"


@pytest.mark.parametrize("word", ["resolved", "Resolved", " RESOLVED "])
@pytest.mark.parametrize(
    "spelling",
    ["ours", "status", "incident-status", "xmpp-status", "XMPP-Incident-Status", "@report", "@", "@ext"],
)
def test_every_spelling_of_the_status_is_understood(spelling: str, word: str) -> None:
    match spelling:
        case "ours":
            reading = received(OURS % word)
        case "@report":
            reading = received("", f"status='{word}'")
        case "@":
            reading = received("", "", f"status='{word}'")
        case "@ext":
            reading = received("", "", f"status='ext-value' ext-status='{word}'")
        case _:
            reading = received(OTHER % (spelling, word))
    assert reading.status is Status.RESOLVED
    payload = write(Kind.REPORT, reading.tree, reported_at=NOW, contact="a.test", status=reading.status)
    stated = [data for data in payload[0].findall("{*}AdditionalData") if data.get("meaning") == "status"]
    assert [(data.text, data.get("formatid")) for data in stated] == [("resolved", NAMESPACE)]
    assert payload[0][-1] is stated[0]


def test_the_status_in_our_spelling_comes_before_the_others() -> None:
    both = received(OTHER % ("incident-status", "new") + OURS % "resolved", "status='updated'")
    assert both.status is Status.RESOLVED


@pytest.mark.parametrize(
    ("word", "status"), [("in-progress", Status.UPDATED), ("forwarded", Status.UPDATED), ("new", Status.NEW)]
)
def test_the_words_of_version_2_are_understood(word: str, status: Status) -> None:
    assert received("", "", f"status='{word}'").status is status


def test_without_a_status_none_is_read() -> None:
    reading = received("")
    assert reading.status is None


def test_what_stands_in_or_beside_the_payload_is_told() -> None:
    payload = (
        f"<report xmlns='{NAMESPACE}' colour='red' status='resolved'>text<Incident xmlns='{IODEF}' purpose='other'>"
        "<IncidentID name='b'>1</IncidentID></Incident>more<x xmlns='u'/></report>"
    )
    iq = f"<iq from='b.test' to='a.test' id='1' type='set'>{payload}</iq>"
    told = [repair.rule for repair in read(read_iq(parse(iq.encode()))).repairs]
    assert any("'colour'" in rule for rule in told)
    assert any("'status'" in rule for rule in told)
    assert any("'text more'" in rule for rule in told)
    assert any("1 element(s)" in rule for rule in told)
