"""What lists of others propose, and what never follows from them."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import ConfigError
from bridge.policy.compare import MAX_LINES
from bridge.policy.decisions import Mitigation, MitigationState, MitigationType
from bridge.policy.feed import (
    FAILED_SECONDS,
    MAX_NAMES,
    MAX_PROPOSALS,
    Names,
    checked_url,
    claims,
    failed,
    proposals,
    read_names,
    was_read,
)
from bridge.policy.feed_record import Feed, FeedNames
from bridge.policy.listing import Listing
from bridge.policy.publish import Published, published

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
AT = int(NOON.timestamp())
ONE, TWO = "https://one.example/list.txt", "xmpp:two.example?;node=spam_source_domains"


def feed(url: str = ONE, **more: Any) -> Feed:
    return Feed(id="f1", host="a.test", url=url, by="cli:root", added_at=NOON, due_at=NOON, **more)


def block(domain: str, *feeds: str) -> Mitigation:
    return Mitigation(
        id=f"m-{domain}", host="a.test", type=MitigationType.BLOCK, target={"domain": domain}, action="block-host",
        incident_id="" if feeds else "i1", approval_id="p1", created_at=NOON, asked_at=NOON,
        expires_at=NOON + timedelta(days=1), by="cli:root", reason="", state=MitigationState.APPLIED,
        applied_at=NOON, feeds=feeds,
    )  # fmt: skip


def withheld(address: str) -> Listing:
    return Listing(host="a.test", address=address, is_published=False, by="cli:root", at=NOON)


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def propose(lists: dict[str, list[str]], quorum: int = 1, **more: Any) -> Any:
    given = {
        "own": ["a.test", "c.test"],
        "known": Published(),
        "active": (),
        "reports": {},
        "trusted": (),
        "protected": (),
    } | more
    given.setdefault("publisher", {url: feed(url).answers for url in lists})
    return proposals({url: dict.fromkeys(names, AT) for url, names in lists.items()}, quorum=quorum, **given)


def found(what: Any) -> list[str]:
    return [one.domain for one in what.found]


@pytest.mark.parametrize(
    ("typed", "written"),
    [
        ("HTTPS://One.example/List.txt", "https://one.example/List.txt"),
        ("xmpp:XMPPBL.example?;node=spam_source_domains", "xmpp:xmppbl.example?;node=spam_source_domains"),
        ("xmpp:lists@x.example?;node=a%20b", "xmpp:lists@x.example?;node=a%20b"),
        (" XMPP:x.example?;node=urn:x:1#y ", "xmpp:x.example?;node=urn:x:1#y"),
    ],
)
def test_where_a_list_is_is_written_in_one_way(typed: str, written: str) -> None:
    assert checked_url(typed, own=("a.test",), allow_http=False) == written
    assert checked_url(written, own=("a.test",), allow_http=False) == written


@pytest.mark.parametrize(
    "typed",
    ["", "one.example", "http://one.example/", "ftp://one.example/x", "xmpp:", "xmpp:x.example", "xmpp:?;node=x",
     "xmpp:x.example?;node=", "xmpp:x.example?;node=%0a", "xmpp:x.example?;node=%ff", "xmpp:a.test?;node=x",
     "xmpp:pubsub.a.test?;node=x", "https://a.test/x", "https://incidents.a.test/x",
     "https://u:p@one.example/", "xmpp:x.example?;node=" + "x" * 1024],
)  # fmt: skip
def test_what_is_no_list_of_others_is_refused_and_says_what_one_looks_like(typed: str) -> None:
    with pytest.raises(ConfigError):
        checked_url(typed, own=("a.test",), allow_http=False)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("/srv/x", "'/srv/x' is not where a list can be read: https://… or xmpp:SERVICE?;node=NODE"),
        ("ftp://x.example/l", "'ftp://x.example/l' is not where a list can be read: https://… or "),
        ("https://a*b/l", "the list cannot be read from there: 'a*b' is not a host name"),
    ],
)
def test_what_is_wrong_with_the_place_of_a_list_is_said_once(typed: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        checked_url(typed, own=("a.test",), allow_http=False)
    assert str(refused.value).startswith(said)


@given(st.text())
def test_any_text_is_a_place_of_a_list_or_an_error_of_ours(text: str) -> None:
    try:
        written = checked_url(text, own=(), allow_http=True)
        node = checked_url(f"xmpp:x.example?;node={text}", own=(), allow_http=True)
    except ConfigError:
        return
    assert checked_url(written, own=(), allow_http=True) == written
    assert checked_url(node, own=(), allow_http=True) == node
    assert feed(node).node[0] == "x.example"


def test_a_list_names_domains_accounts_and_hashes_in_whatever_spelling() -> None:
    names = read_names(
        ["# ours", "Bad.test", "bad.test # again", "", "Eve@Bad.test/x", sha256("x").upper(), "b\u202ed.."]
    )
    assert names == Names(names=frozenset({"bad.test", "eve@bad.test", sha256("x")}), bad=1)


def test_a_list_without_end_is_read_in_part_and_that_is_said() -> None:
    names = read_names(f"d{number}.test" for number in range(MAX_NAMES + 7))
    assert (len(names.names), names.left_out) == (MAX_NAMES, 7)
    assert read_names("x\n" for _ in range(MAX_LINES + 3)).left_out == 3


@given(st.lists(st.text(max_size=80), max_size=30))
def test_whatever_a_list_holds_each_name_is_one_word_and_reading_again_finds_the_same(
    lines: list[str],
) -> None:
    names = read_names(lines).names
    assert all(len(name.split()) == 1 for name in names)
    assert read_names(sorted(names)).names == names


def test_what_stays_on_a_list_keeps_since_when_and_what_leaves_it_is_gone() -> None:
    before = FeedNames(feed_id="f1", since={"old.test": AT - 99, "gone.test": AT - 99}, version=3)
    after, names = was_read(
        feed(problem="it was away"),
        before,
        Names(names=frozenset({"old.test", "new.test"})),
        mark="m",
        now=NOON,
    )
    assert names == FeedNames(feed_id="f1", since={"new.test": AT, "old.test": AT - 99}, version=3)
    assert (after.problem, after.mark, after.names, after.read_at, after.changed_at) == (
        "",
        "m",
        2,
        NOON,
        NOON,
    )
    assert after.due_at > NOON
    again, none = was_read(after, names, Names(names=frozenset(names.since)), mark="m", now=LATER)
    assert (none, again.changed_at, again.read_at) == (None, NOON, LATER)
    same, none = was_read(after, names, None, mark="m", now=LATER)
    assert (none, same.names, same.read_at) == (None, 2, LATER)


def test_a_list_that_cannot_be_read_keeps_what_it_named_and_is_tried_again_soon() -> None:
    after = failed(feed(names=7, read_at=NOON), "it answered 503", now=LATER)
    assert (after.names, after.read_at, after.problem) == (7, NOON, "it answered 503")
    assert after.due_at == LATER + timedelta(seconds=FAILED_SECONDS)


def test_an_address_is_found_in_the_open_by_its_hash_and_by_its_server() -> None:
    lists = {
        ONE: {"eve@bad.test": AT, sha256("eve@bad.test"): AT - 60},
        TWO: {sha256("bad.test"): AT - 5},
        "https://three.example/": {"worse.test": AT},
    }
    assert [(one.url, int(one.since.timestamp())) for one in claims(lists, "eve@bad.test")] == [
        (ONE, AT - 60),
        (TWO, AT - 5),
    ]
    assert [one.url for one in claims(lists, "bad.test")] == [TWO]
    assert claims(lists, "good.test") == ()


def test_only_what_enough_lists_name_is_proposed_and_the_rest_is_counted() -> None:
    what = propose({ONE: ["a.example", "b.example"], TWO: ["b.example", "c.example"]}, quorum=2)
    assert (found(what), what.fewer) == (["b.example"], 2)
    assert [one.url for one in what.found[0].by] == [ONE, TWO]


@pytest.mark.parametrize(
    ("urls", "count"),
    [
        (["xmpp:two.example?;node=domains", "xmpp:two.example?;node=others"], 1),
        (["xmpp:two.example?;node=domains", "https://lists.two.example/x"], 1),
        (["xmpp:lists@two.example?;node=x", "https://two.example:8443/x"], 1),
        (["https://one.example/a", "https://one.example/b"], 1),
        (["https://lists.one.example/a", "https://www.one.example/b"], 1),
        (["xmpp:bücher.example?;node=x", "https://xn--bcher-kva.example/b"], 1),
        (["https://a.b.one.example/a", "https://one.example/b"], 1),
        (["https://one.example/a", "https://other-one.example/b"], 2),
        (["https://127.0.0.1/a", "https://127.0.0.2/b"], 2),
    ],
)
def test_what_one_publisher_says_in_several_lists_counts_once(urls: list[str], count: int) -> None:
    lists = {url: ["a.example"] for url in urls}
    assert [found(propose(lists, quorum=quorum)) for quorum in (count, count + 1)] == [["a.example"], []]


def test_an_operator_says_whose_lists_are_whose() -> None:
    urls = ["https://forge.example/a", "https://forge.example/b", "https://c.example/"]
    lists = {url: ["a.example"] for url in urls}
    assert feed(urls[0], publisher="alice").answers == "alice"
    assert found(propose(lists, quorum=3)) == []
    assert found(propose(lists, quorum=3, publisher=dict(zip(urls, ["alice", "bob", "c"], strict=True)))) == [
        "a.example"
    ]
    assert found(propose(lists, quorum=2, publisher=dict.fromkeys(urls, "alice"))) == []


def test_what_is_decided_about_comes_last_and_what_our_users_report_first() -> None:
    lists = {ONE: ["a.example", "b.example", "own.a.test", "kept.example", "on.example", "friend.example"]}
    what = propose(
        lists,
        known=published((), [withheld("kept.example")], now=NOON),
        active=[block("on.example")],
        reports={"b.example": 3, "unnamed.example": 9},
        trusted=["friend.example"],
    )
    assert [(one.domain, one.standing, one.reports) for one in what.found] == [
        ("b.example", "", 3),
        ("a.example", "", 0),
        ("friend.example", "trusted", 0),
        ("kept.example", "withheld", 0),
        ("on.example", "blocked", 0),
        ("own.a.test", "own", 0),
    ]


def test_a_server_whose_hash_only_is_listed_is_proposed_where_our_users_report_it() -> None:
    what = propose({ONE: [sha256("bad.test"), sha256("unknown.test")]}, reports={"bad.test": 2})
    assert found(what) == ["bad.test"]


def let_go(active: list[Mitigation], lists: dict[str, list[str]], quorum: int = 2) -> list[tuple[str, int]]:
    return [(one.domain, len(one.by)) for one in propose(lists, quorum=quorum, active=active).let_go]


def test_what_is_blocked_because_of_lists_is_shown_once_fewer_speak_for_it_than_are_needed() -> None:
    active = [block("by-lists.example", ONE, TWO), block("by-us.example")]
    assert let_go(active, {ONE: ["by-lists.example"], TWO: ["by-lists.example"]}) == []
    assert let_go(active, {ONE: ["by-lists.example"], TWO: []}) == [("by-lists.example", 1)]
    assert let_go(active, {ONE: ["by-lists.example"]}, quorum=1) == []


def test_what_was_blocked_because_one_list_named_it_is_let_go_when_that_one_does() -> None:
    active = [block("by-one.example", ONE)]
    assert let_go(active, {ONE: ["by-one.example"], TWO: []}) == []
    assert let_go(active, {ONE: ["by-one.example"], TWO: []}, quorum=20) == []
    assert let_go(active, {ONE: [], TWO: []}) == [("by-one.example", 0)]
    assert let_go(active, {}) == [("by-one.example", 0)]  # no longer subscribed to


def test_our_other_hosts_are_ours_and_the_server_of_a_protected_user_is_protected() -> None:
    what = propose({ONE: ["c.test", "muc.c.test", "friend.example"]}, protected=["bob@friend.example"])
    assert {one.domain: one.standing for one in what.found} == {
        "c.test": "own", "muc.c.test": "own", "friend.example": "protected",
    }  # fmt: skip


def test_a_domain_is_one_and_the_same_however_a_list_writes_it() -> None:
    assert read_names(["xn--bcher-kva.example", "BÜCHER.example", "eve@xn--bcher-kva.example"]).names == {
        "bücher.example", "eve@bücher.example",
    }  # fmt: skip
    assert read_names(["xn--\u0661.example", "xn--99999999.example"]).bad <= 2


def test_what_is_blocked_because_of_lists_is_on_no_list_of_ours() -> None:
    forgotten = replace(block("by-lists-too.example", ONE), feeds=())  # an older release wrote it back
    what = published([block("by-lists.example", ONE), forgotten, block("by-us.example")], (), now=NOON)
    assert [one.address for one in what.entries] == ["by-us.example"]


def test_so_much_is_proposed_at_most_and_the_rest_is_counted() -> None:
    what = propose({ONE: [f"d{number}.example" for number in range(MAX_PROPOSALS + 5)]})
    assert (len(what.found), what.left_out) == (MAX_PROPOSALS, 5)
