"""What is published follows from what is in force, and what is withheld never is."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import ConfigError
from bridge.policy.decisions import Mitigation, MitigationState, MitigationType
from bridge.policy.listing import Listing
from bridge.policy.publish import MAX_ENTRIES, nodes, plain_text, prepared, published, still_to_list

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
SOON = NOON + timedelta(days=1)


def mitigation(kind: MitigationType = MitigationType.BLOCK, **target: str) -> Mitigation:
    return Mitigation(
        id="m1", host="a.test", type=kind, target=target, action="block-host", incident_id="i1",
        approval_id="p1", created_at=NOON, asked_at=NOON, expires_at=SOON, by="cli:root", reason="secret",
        state=MitigationState.APPLIED, applied_at=NOON,
    )  # fmt: skip


def listing(address: str, *, is_published: bool = True, **more: Any) -> Listing:
    end = SOON if is_published else None
    fields = {"by": "cli:root", "at": NOON, "expires_at": end, "reason": "secret"} | more
    return Listing(host="a.test", address=address, is_published=is_published, **fields)


def addresses(mitigations: list[Mitigation], listings: list[Listing], now: datetime = NOON) -> set[str]:
    return {one.address for one in published(mitigations, listings, now=now).entries}


def test_blocked_domains_and_people_banned_from_rooms_are_listed_and_accounts_of_ours_are_not() -> None:
    found = addresses(
        [
            mitigation(domain="bad.test"),
            mitigation(MitigationType.BAN, room="r@muc.a.test", jid="x@c.test"),
            mitigation(MitigationType.BAN, room="r@muc.a.test", jid="ours@a.test"),
            mitigation(MitigationType.SUSPEND, account="eve@a.test"),
        ],
        [listing("d.test")],
    )
    assert found == {"bad.test", "x@c.test", "d.test"}


@pytest.mark.parametrize("state", [one for one in MitigationState if one is not MitigationState.APPLIED])
def test_what_is_not_in_force_is_not_listed(state: MitigationState) -> None:
    assert addresses([replace(mitigation(domain="bad.test"), state=state)], []) == set()


def test_what_is_over_is_off_the_list_by_itself() -> None:
    assert addresses([mitigation(domain="bad.test")], [listing("d.test")], now=SOON) == set()


def test_what_is_withheld_is_never_listed_nor_are_the_accounts_of_a_domain_that_is() -> None:
    what = [mitigation(domain="bad.test"), mitigation(MitigationType.BAN, room="r@muc", jid="x@bad.test")]
    listed = [listing("y@bad.test"), listing("z@c.test"), listing("bad.test.c.test")]
    withheld = [listing("bad.test", is_published=False), listing("z@c.test", is_published=False)]
    assert addresses(what, [*listed[:1], listed[2], *withheld]) == {"bad.test.c.test"}


def test_of_two_reasons_the_one_that_lasts_longer_counts() -> None:
    longer = listing("bad.test", expires_at=SOON + timedelta(days=1))
    [entry] = published([mitigation(domain="bad.test")], [longer], now=NOON).entries
    assert entry.until == longer.expires_at


def test_a_list_is_bounded_and_keeps_the_newest() -> None:
    many = [listing(f"s{n}.test", at=NOON + timedelta(seconds=n)) for n in range(MAX_ENTRIES + 3)]
    found = published([], many, now=NOON)
    assert (len(found.entries), found.left_out) == (MAX_ENTRIES, 3)
    assert found.entries[0].address == f"s{MAX_ENTRIES + 2}.test"


def test_a_plain_list_is_one_domain_a_line_and_each_line_ends() -> None:
    entries = published([mitigation(domain="b.test")], [listing("a.b.test"), listing("x@c.test")], now=NOON)
    assert plain_text(entries.entries) == "a.b.test\nb.test\n"
    assert plain_text(()) == ""


def test_nodes_hold_hashes_but_of_domains_and_no_word_of_why() -> None:
    entries = published([mitigation(domain="b.test")], [listing("x@c.test")], now=NOON).entries
    hashed = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("b.test", "x@c.test")}
    found = {node: set(ids) for node, ids in nodes(entries).items()}
    assert found == {
        "spam_source_domains": {"b.test"},
        "spam_source_jids_sha256": {hashed["x@c.test"]},
        "muc_bans_sha256": set(hashed.values()),
    }


@pytest.mark.parametrize(
    "address", ["", "a b", "a.test", "x@a.test", "muc.a.test", "x@muc.a.test", "@b.test"]
)
def test_what_is_no_address_or_our_own_cannot_be_listed(address: str) -> None:
    with pytest.raises(ConfigError):
        prepared(address, host="a.test")


@pytest.mark.parametrize(
    ("typed", "meant"), [("B.Test.", "b.test"), ("Eve@B.test/phone", "eve@b.test"), ("xa.test", "xa.test")]
)
def test_an_address_is_prepared_as_servers_compare_it(typed: str, meant: str) -> None:
    assert prepared(typed, host="a.test") == meant


@given(st.text(max_size=60))
def test_whatever_is_typed_is_listed_as_one_line_or_refused(text: str) -> None:
    try:
        address = prepared(text, host="a.test")
    except ConfigError:
        return
    assert address == prepared(address, host="a.test")
    assert len(address.splitlines()) == 1
    assert not any(character.isspace() for character in address.rpartition("@")[2])


SAID = st.builds(
    lambda address, is_published, days: listing(
        address, is_published=is_published, expires_at=NOON + timedelta(days=days) if is_published else None
    ),
    st.sampled_from(["x@b.test", "y@b.test", "b.test", "z@c.test", "c.test"]),
    st.booleans(),
    st.integers(0, 60),
)


@given(st.lists(SAID, unique_by=lambda one: one.address), st.integers(1, 60))
def test_what_is_still_to_list_takes_nothing_back_and_shortens_nothing(said: list[Any], days: int) -> None:
    until = NOON + timedelta(days=days)
    wanted = ("x@b.test", "z@c.test", "x@b.test")
    found = still_to_list(wanted, said, until=until)
    before = {one.address: one for one in said}
    for address in found:
        domain = before.get(address.partition("@")[2])
        assert domain is None or domain.is_published
        assert address not in before or (before[address].is_published and before[address].expires_at < until)
    after = [one for one in said if one.address not in found]
    after += [listing(one, expires_at=until) for one in found]
    entries = {one.address: one.until for one in published([], after, now=NOON).entries}
    for address in set(wanted):
        domain = before.get(address.partition("@")[2])
        is_withheld = any(one is not None and not one.is_published for one in (before.get(address), domain))
        assert (address in entries) is not is_withheld
        assert is_withheld or entries[address] >= until
    assert still_to_list(wanted, after, until=until) == ()
