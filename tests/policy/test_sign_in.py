"""Who may sign in, with which code, how often and for how long."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from bridge.policy import sign_in
from bridge.policy.record import Bucket
from bridge.policy.sessions import Role, Session, SignIn

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
KEY = b"k" * 32


@dataclass(frozen=True)
class Host:
    """A `[hosts]` table."""

    admins: frozenset[str] = frozenset()
    viewers: frozenset[str] = frozenset()


def asked(
    who: str = "romeo@a.test", *, via: str = "a.test", tries: int = 1, sign_in_id: str = "one"
) -> SignIn:
    return SignIn(
        id=sign_in_id,
        digest="d",
        who=who,
        created_at=NOON,
        expires_at=NOON + timedelta(minutes=5),
        ttl_seconds=900,
        via=via,
        tries=tries,
    )


def session(who: str = "romeo@a.test", **hosts: Role) -> Session:
    return Session(
        id="s", digest="d", who=who, hosts={f"{name}.test": role for name, role in hosts.items()},
        created_at=NOON, seen_at=NOON, expires_at=NOON + sign_in.LONGEST,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("host", "role"),
    [
        (Host(), Role.APPROVER),
        (Host(admins=frozenset({"romeo@a.test"})), Role.APPROVER),
        (Host(admins=frozenset({"juliet@a.test"})), None),
        (Host(viewers=frozenset({"romeo@a.test"})), Role.VIEWER),
        (Host(admins=frozenset({"romeo@a.test"}), viewers=frozenset({"romeo@a.test"})), Role.VIEWER),
    ],
)
def test_the_lists_of_the_operator_say_what_an_admin_may_do(host: Host, role: Role | None) -> None:
    assert sign_in.role_for("romeo@a.test", host, ["Romeo@A.test/balcony", "not a jid@"]) is role


def test_whom_prosody_does_not_call_an_admin_may_do_nothing_whatever_the_lists_say() -> None:
    host = Host(admins=frozenset({"romeo@a.test"}), viewers=frozenset({"juliet@a.test"}))
    assert sign_in.role_for("romeo@a.test", host, ["nurse@a.test"]) is None
    assert sign_in.role_for("juliet@a.test", host, []) is None


def test_the_code_is_right_whatever_spaces_stand_in_it() -> None:
    code = sign_in.code(KEY, asked())
    assert len(code) == 6
    assert code.isdecimal()
    assert sign_in.is_right(f" {code[:3]} {code[3:]} ", asked(), [b"another", KEY], now=NOON)


@pytest.mark.parametrize(
    "change",
    [
        {"via": ""},
        {"tries": 6},
        {"expires_at": NOON},
        {"id": "two"},
        {"who": "juliet@a.test"},
    ],
    ids=["not sent", "the sixth try", "too late", "another sign-in", "another person"],
)
def test_the_same_code_is_wrong_elsewhere(change: Mapping[str, object]) -> None:
    code = sign_in.code(KEY, asked())
    assert sign_in.is_right(code, asked(tries=5), [KEY], now=NOON)
    assert not sign_in.is_right(code, replace(asked(), **change), [KEY], now=NOON)  # type: ignore[arg-type]


def test_what_is_no_code_is_only_wrong() -> None:
    for typed in ("", "abc", "\uff11" * 6, "\u202e", "0" * 1000):
        assert not sign_in.is_right(typed, asked(), [KEY], now=NOON)


def test_the_message_says_for_what_from_where_and_nothing_of_a_document() -> None:
    text = sign_in.code_text(replace(asked(), hosts={"a.test": Role.APPROVER}, origin="192.0.2.7"), "123456")
    assert text.startswith("123456 is your code")
    assert "a.test" in text
    assert "192.0.2.7" in text


def spend_all(who: str, origin: str, buckets: dict[str, Bucket], *, times: int) -> list[float]:
    waits = []
    for _ in range(times):
        after, seconds = sign_in.spend(buckets, who, origin, now=NOON)
        buckets |= {one.name: one for one in after}
        waits.append(seconds)
    return waits


def test_one_jid_gets_three_codes_and_then_one_in_ten_minutes() -> None:
    buckets: dict[str, Bucket] = {}
    assert spend_all("romeo@a.test", "192.0.2.1", buckets, times=4) == [0, 0, 0, 600]
    assert spend_all("juliet@a.test", "192.0.2.1", buckets, times=1) == [0]


def test_one_address_gets_ten_codes_whomever_it_asks_for_and_a_network_counts_as_one() -> None:
    buckets: dict[str, Bucket] = {}
    waits = [
        wait
        for number in range(11)
        for wait in spend_all(f"u{number}@a.test", f"2001:db8::{number}", buckets, times=1)
    ]
    assert waits == [*[0.0] * 10, 60.0]
    assert spend_all("u99@a.test", "2001:db8:0:1::1", buckets, times=1) == [0]


@pytest.mark.parametrize(
    ("seen", "now", "is_over"),
    [
        (timedelta(0), sign_in.IDLE - timedelta(seconds=1), False),
        (timedelta(0), sign_in.IDLE, True),
        (sign_in.LONGEST - timedelta(seconds=2), sign_in.LONGEST - timedelta(seconds=1), False),
        (sign_in.LONGEST - timedelta(seconds=1), sign_in.LONGEST, True),
    ],
)
def test_a_session_ends_when_idle_and_in_the_end_anyhow(
    seen: timedelta, now: timedelta, *, is_over: bool
) -> None:
    one = replace(session(a=Role.APPROVER), seen_at=NOON + seen)
    assert sign_in.is_over(one, now=NOON + now) is is_over


def test_a_session_is_good_for_no_more_than_the_configuration_allows_now() -> None:
    one = session(a=Role.APPROVER, b=Role.APPROVER, c=Role.VIEWER, gone=Role.APPROVER)
    hosts = {
        "a.test": Host(viewers=frozenset({"romeo@a.test"})),
        "b.test": Host(admins=frozenset({"juliet@a.test"})),
        "c.test": Host(),
        "new.test": Host(),
    }
    assert sign_in.allowed(one, hosts) == {"a.test": Role.VIEWER, "c.test": Role.VIEWER}
    assert sign_in.allowed(session("cli:root", b=Role.APPROVER), hosts) == {"b.test": Role.APPROVER}
