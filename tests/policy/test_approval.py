"""What a host could do about a request: only what is known, only about JIDs, and for strangers only at home."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.iodef.model import Expectation, Incident, IncidentId, Source
from bridge.iodef.table import ENUMERATIONS
from bridge.policy.approval import MAX_TARGETS, Possibility, possibilities
from bridge.policy.trust import Trust

HOST = "a.test"


def source(address: str, category: str = "xmpp") -> Source:
    from bridge.errors import MalformedError
    from bridge.xmpp.jid import Jid

    try:
        jid = str(Jid.parse(address)) if category == "xmpp" else None
    except MalformedError:
        jid = None
    return Source(address=address, category=category, jid=jid)


def request(*sources: Source, actions: tuple[str, ...] = ("block-host",)) -> Incident:
    return Incident(
        identity=IncidentId(name="b.test", text="1"),
        sources=sources,
        expectations=tuple(Expectation(action=action) for action in actions),
    )


def only(address: str, category: str = "xmpp", *, trust: Trust = Trust.TRUSTED) -> Possibility:
    (one,) = possibilities(request(source(address, category)), host=HOST, trust=trust)
    return one


@pytest.mark.parametrize(
    ("address", "trust", "mitigation"),
    [
        ("juliet@a.test", Trust.TRUSTED, "account.suspend"),
        ("juliet@a.test", Trust.STRANGER, "account.suspend"),
        ("Juliet@A.test/phone", Trust.TRUSTED, "account.suspend"),
        ("spam.example", Trust.TRUSTED, "domain.block"),
        ("abuser@spam.example", Trust.TRUSTED, "room.ban"),
        ("spam.example", Trust.STRANGER, None),
        ("abuser@spam.example", Trust.STRANGER, None),
        ("juliet@sub.a.test", Trust.STRANGER, None),
        ("a.test", Trust.TRUSTED, None),
        ("not a jid", Trust.TRUSTED, None),
    ],
)
def test_a_source_is_mapped_to_what_can_be_done(address: str, trust: Trust, mitigation: str | None) -> None:
    one = only(address, trust=trust)
    assert (one.mitigation, one.address) == (mitigation, address)
    assert bool(one.reason) is (mitigation is None)


@pytest.mark.parametrize("category", ["ipv4-addr", "ipv4-net", "asn", "name", "e-mail", "own"])
def test_what_is_no_xmpp_address_is_shown_and_not_offered(category: str) -> None:
    assert only("192.0.2.1", category).mitigation is None


@given(
    st.sampled_from(sorted(ENUMERATIONS["action"] - {"block-host"})) | st.text(max_size=20),
    st.sampled_from(["juliet@a.test", "spam.example"]),
    st.sampled_from(Trust),
)
def test_an_action_that_is_not_block_host_is_never_offered(action: str, address: str, trust: Trust) -> None:
    if action == "block-host":
        return
    (one,) = possibilities(request(source(address), actions=(action,)), host=HOST, trust=trust)
    assert (one.action, one.mitigation) == (action, None)
    assert one.reason


@given(st.sampled_from(["block-host ", "Block-Host", "blockquote", "block_host", "block-host\n"]))
def test_what_only_looks_like_an_action_is_none(action: str) -> None:
    assert (
        possibilities(request(source("juliet@a.test"), actions=(action,)), host=HOST, trust=Trust.TRUSTED)[
            0
        ].mitigation
        is None
    )


def test_each_expectation_is_answered_even_where_no_source_is_named() -> None:
    found = possibilities(request(actions=("block-host", "investigate")), host=HOST, trust=Trust.TRUSTED)
    assert [(one.action, one.mitigation) for one in found] == [("block-host", None), ("investigate", None)]
    assert possibilities(request(source("a@a.test"), actions=()), host=HOST, trust=Trust.TRUSTED) == ()


def test_more_targets_than_one_yes_may_cover_are_not_offered() -> None:
    many = tuple(source(f"u{number}@a.test") for number in range(MAX_TARGETS + 5))
    found = possibilities(request(*many, actions=("block-host", "other")), host=HOST, trust=Trust.TRUSTED)
    assert sum(one.mitigation is not None for one in found) == MAX_TARGETS
    assert [(one.action, one.address, one.reason[:7]) for one in found[-2:]] == [
        ("block-host", "", "5 more "),
        ("other", "", "5 more "),
    ]


DOMAINS = st.sampled_from([HOST, "spam.example", "muc.a.test", "b.test"])


@given(st.lists(st.tuples(st.booleans(), DOMAINS), max_size=30))
def test_a_stranger_is_offered_nothing_about_others(named: list[tuple[bool, str]]) -> None:
    sources = [source(f"u@{domain}" if local else domain) for local, domain in named]
    for one in possibilities(request(*sources), host=HOST, trust=Trust.STRANGER):
        assert one.mitigation is None or (one.mitigation, one.address) == ("account.suspend", "u@a.test")
