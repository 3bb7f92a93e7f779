"""XEP-0268's four examples, none of which is valid: read, every repair told, written again.

That what is written is valid is tested in `tests/iodef/test_corpus.py`, where the schema is.
"""

from datetime import UTC, datetime
from pathlib import Path

from lxml import etree

from bridge.iodef.model import Counter
from bridge.iodef.read import project
from bridge.xep0268.model import Kind, Reading, Status
from bridge.xep0268.read import read
from bridge.xep0268.write import write
from bridge.xmpp.stanza import read_iq, write_request
from bridge.xmpp.xml import digest, parse, serialize

INQUIRED_AT = datetime(2009, 4, 13, 19, 40, tzinfo=UTC)
DEVIATIONS = {  # facts: the deviations of the examples, by a word of the repair that tells them
    "the children are not in RFC 5070's order": 1,
    "the language is in xml:lang": 1,
    "the mandatory attribute dtype is missing": 3,
    "the namespace is not urn:xmpp:jid:0": 1,
    "the same Contact stands here twice": 1,
    "role='ext-type'": 1,
    "type is missing beside ext-type": 1,
    "category='ext-category'": 5,
    "type='ext-type' is": 2,
    "a System with 2 Nodes": 1,
}


def test_every_deviation_is_told(example: Reading) -> None:
    told = [repair.rule for repair in example.repairs]
    expected = {} if example.kind is Kind.INQUIRY else dict(DEVIATIONS)
    if example.kind is Kind.RESPONSE:
        expected["action='blockquote'"] = 1
    for word, count in expected.items():
        assert sum(rule.startswith(word) for rule in told) == count, word
    assert len(told) == sum(expected.values())
    assert all(repair.path.startswith(f"{example.kind}/Incident") for repair in example.repairs)


def test_the_incident_is_understood(example: Reading) -> None:
    incident = example.incident
    assert (incident.identity.name, incident.identity.text) == (
        "jabber.org",
        "4BF5D2CE-7C90-4860-BEF2-43A7D777D5FF",
    )
    assert example.status is None
    if example.kind is Kind.INQUIRY:
        return
    assert [(s.jid, s.counters) for s in incident.sources] == [
        ("abuser@clueless.lit", (Counter(type="xmpp-presence", value=123),)),
        ("luser27@clueless.lit", (Counter(type="xmpp-presence", value=47),)),
    ]
    assert [t.address for t in incident.targets] == [
        "jdev@conference.jabber.org",
        "jabber@conference.jabber.org",
    ]
    assert {t.roles for t in incident.targets} == {("xmpp-muc",)}
    assert [c.jids for c in incident.contacts] == [("stpeter@jabber.org",), ("operators@muc.xmpp.org",)]
    assert [c.role for c in incident.contacts] == ["admin", "chatroom"]
    assert incident.started_at == datetime(2009, 4, 13, 19, 5, 20, tzinfo=UTC)
    assert [i.name for i in incident.related] == ["im.example.com"]
    assert incident.severity == "medium"


def test_request_and_response_say_what_is_asked_and_done(example: Reading) -> None:
    asked = [e.action for e in example.incident.expectations]
    assert asked == (["block-host"] if example.kind in {Kind.REQUEST, Kind.RESPONSE} else [])
    done = [(h.action, h.descriptions[0].text) for h in example.incident.history]
    assert done == ([("blockquote", "Account disabled")] if example.kind is Kind.RESPONSE else [])


def test_what_was_written_is_read_again(example: Reading) -> None:
    payload = write(
        example.kind, example.tree, reported_at=INQUIRED_AT, contact="tigase.org", status=Status.UPDATED
    )
    text = write_request(example.kind.iq_type, to="a.example", id="ib-1", payload=payload)
    again = read(read_iq(parse(text.replace("<iq", "<iq from='jabber.org'", 1).encode())))
    assert again.repairs == ()
    assert again.status is Status.UPDATED
    assert digest(again.tree) == digest(payload[0])
    if example.kind is not Kind.INQUIRY:
        assert again.incident.sources == example.incident.sources
        assert again.incident.contacts == example.incident.contacts


def test_the_written_example_is_the_canonical_one(example: Reading, shared: Path) -> None:
    canonical = parse((shared / "iodef" / "canonical" / f"{example.kind}.xml").read_bytes().strip())[0]
    status = Status.NEW if example.kind is Kind.REPORT else None
    payload = write(example.kind, example.tree, reported_at=INQUIRED_AT, contact="tigase.org", status=status)
    for item in canonical.iter("{*}HistoryItem"):
        if item.get("action") == "block-host":  # the example's `blockquote` is not guessed at
            item.attrib.update({"action": "ext-value", "ext-action": "blockquote"})
    if example.kind is Kind.RESPONSE:  # the canonical response leaves the Expectation out
        expectation = payload.find(".//{*}Expectation")
        in_canonical = canonical.find(".//{*}Expectation")
        if in_canonical is None:
            expectation.getparent().remove(expectation)
    assert serialize_sorted(payload) == serialize_sorted(canonical)


def serialize_sorted(element: etree._Element) -> bytes:
    """Canonical XML without white space between elements."""
    copy = etree.fromstring(serialize(element), etree.XMLParser(remove_blank_text=True))
    return etree.tostring(copy, method="c14n2", strip_text=True)


def test_the_view_of_the_canonical_form_is_the_same(example: Reading) -> None:
    if example.kind is not Kind.INQUIRY:
        payload = write(example.kind, example.tree, reported_at=INQUIRED_AT, contact="x")
        assert project(payload[0]) == example.incident
        view = write(example.kind, example.incident, reported_at=INQUIRED_AT, contact="x")
        assert project(view[0]) == example.incident
