"""IQs: what is read, what is refused, what is written."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import Condition, ErrorType, MalformedError, StanzaError
from bridge.xmpp.stanza import (
    Iq,
    IqType,
    read_iq,
    write_error,
    write_message,
    write_request,
    write_result,
)
from bridge.xmpp.xml import parse


def read(text: str) -> Iq:
    return read_iq(parse(text.encode()))


def test_an_iq_is_read_in_both_namespaces() -> None:
    for xmlns in ("", " xmlns='jabber:client'"):
        iq = read(f"<iq{xmlns} from='A.example' to='b.example' id='1' type='set'><x xmlns='u'/></iq>")
        assert (iq.type, iq.id, str(iq.sender), str(iq.to)) == (IqType.SET, "1", "a.example", "b.example")
        assert iq.payload is not None
        assert iq.payload.tag == "{u}x"


def test_an_empty_result_has_no_payload() -> None:
    assert read("<iq from='a' to='b' id='1' type='result'/>").payload is None


def test_an_error_tells_what_the_peer_said() -> None:
    iq = read(
        "<iq from='a' to='b' id='1' type='error'><report xmlns='u'/><error type='wait'>"
        "<resource-constraint xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
        "<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>later</text><x xmlns='app'/></error></iq>"
    )
    assert iq.error is not None
    assert (iq.error.type, iq.error.condition, iq.error.text) == ("wait", "resource-constraint", "later")


@pytest.mark.parametrize("inside", ["", "<error/>", "<error type='odd'><odd/></error>"])
def test_an_error_without_condition_does_not_crash(inside: str) -> None:
    error = read(f"<iq from='a' to='b' id='1' type='error'>{inside}</iq>").error
    assert error is not None
    assert error.condition == "undefined-condition"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("<message from='a' to='b'/>", "iq element"),
        ("<iq from='a' to='b' type='set'><x/></iq>", "id is missing"),
        ("<iq from='a' to='b' id='' type='set'><x/></iq>", "id is missing"),
        (f"<iq from='a' to='b' id='{'é' * 129}' type='set'><x/></iq>", "longer than 256 bytes"),
        ("<iq from='a' to='b' id='1'><x/></iq>", "type must be"),
        ("<iq from='a' to='b' id='1' type='put'><x/></iq>", "type must be"),
        ("<iq from='a' to='b' id='1' type='set'/>", "payload is missing"),
        ("<iq from='a' to='b' id='1' type='get'><x/><y/></iq>", "exactly one payload"),
        ("<iq to='b' id='1' type='get'><x/></iq>", "from is missing"),
        ("<iq from='a' id='1' type='get'><x/></iq>", "to is missing"),
        ("<iq from='a@@b' to='b' id='1' type='get'><x/></iq>", "iq/@from"),
    ],
)
def test_a_broken_envelope_is_malformed(text: str, rule: str) -> None:
    with pytest.raises(MalformedError, match=rule):
        read(text)


def test_a_result_is_written_without_from() -> None:
    assert write_result(to="a.example", id="1") == '<iq type="result" to="a.example" id="1"/>'


def test_a_request_carries_a_copy_of_its_payload() -> None:
    payload = parse(b"<a><x xmlns='u'/>tail</a>")[0]
    text = write_request(IqType.SET, to="a.example", id="ib-1", payload=payload)
    assert text == '<iq type="set" to="a.example" id="ib-1"><x xmlns="u"/></iq>'


def test_a_message_for_programs_has_its_payload_and_no_type_or_text() -> None:
    payload = parse(b"<a><x xmlns='u'/>tail</a>")[0]
    text = write_message(payload, to="u@a.example", id="ib-1")
    assert text == '<message to="u@a.example" id="ib-1"><x xmlns="u"/></message>'


@settings(max_examples=60, deadline=None)
@given(
    st.text(st.characters(exclude_characters="\r\n\t"), min_size=1, max_size=20),
    st.text(max_size=20),
    st.sampled_from(ErrorType),
    st.sampled_from(Condition),
)
def test_whatever_is_written_is_read_again(
    iq_id: str, text: str, kind: ErrorType, condition: Condition
) -> None:
    written = write_error(StanzaError(kind, condition, text), to="a.example", id=iq_id)
    iq = read(written.replace("<iq", "<iq from='b.example'", 1))
    assert iq.error is not None
    assert (iq.error.type, iq.error.condition) == (kind.value, condition.value)
