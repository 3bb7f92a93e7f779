"""What lists of others agree on."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.policy.compare import MAX_LINES, named_by, read_plain
from bridge.policy.listing import Listing
from bridge.policy.publish import Entry, Published

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_a_plain_list_is_read_with_comments_and_either_end_of_line() -> None:
    read = read_plain("# spam\r\nBad.test\r\n\r\nbad.test # again\nx@y\nb\u202ed..\nmünchen.test")
    assert (read.domains, read.bad) == ({"bad.test", "münchen.test"}, 2)


def test_a_list_without_end_is_read_in_part_and_that_is_said() -> None:
    assert read_plain("a.test\n" * (MAX_LINES + 5)).left_out == 6


@given(st.text())
def test_whatever_a_list_holds_each_domain_is_one_word(text: str) -> None:
    assert all(len(domain.split()) == 1 for domain in read_plain(text).domains)


def test_only_what_enough_lists_name_counts_and_each_name_keeps_who_says_it() -> None:
    lists = {"one": ["a.test", "b.test"], "two": ["b.test"], "three": ["b.test", "a.test", "c.test"]}
    found = named_by(lists, quorum=2, own=["h.test"], known=Published(), trusted=(), protected=())
    assert [(one.domain, one.by) for one in found] == [
        ("b.test", ("one", "two", "three")),
        ("a.test", ("one", "three")),
    ]


@pytest.mark.parametrize(
    ("domain", "standing"),
    [
        ("h.test", "own"),
        ("muc.h.test", "own"),
        ("blocked.test", "blocked"),
        ("listed.test", "listed"),
        ("withheld.test", "withheld"),
        ("protected.test", "protected"),
        ("user.test", "protected"),
        ("trusted.test", "trusted"),
        ("new.test", ""),
        ("xh.test", ""),
    ],
)
def test_what_is_decided_here_stands_beside_it(domain: str, standing: str) -> None:
    def entry(address: str, mitigation: str = "") -> Entry:
        return Entry(address=address, since=NOON, until=None, by="x", mitigation_id=mitigation)

    withheld = Listing(host="h.test", address="withheld.test", is_published=False, by="x", at=NOON)
    known = Published(entries=(entry("blocked.test", "m1"), entry("listed.test")), withheld=(withheld,))
    [found] = named_by(
        {"one": [domain]},
        quorum=1,
        own=["h.test"],
        known=known,
        trusted={"trusted.test"},
        protected={"protected.test", "x@user.test"},
    )
    assert found.standing == standing
