"""What a preview says, in words; whatever Prosody answers, it is a few short ones."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.policy.decisions import MitigationType, Target
from bridge.policy.effects import effects, would

FIELDS = {
    MitigationType.SUSPEND: {"account": "juliet@a.test"},
    MitigationType.BLOCK: {"domain": "spam.example"},
    MitigationType.BAN: {"room": "tea@muc.a.test", "jid": "bad@spam.example"},
}


def target(kind: MitigationType, preview: dict[str, Any] | None) -> Target:
    return Target(action="block-host", address="x", type=kind, fields=FIELDS[kind], preview=preview)


@pytest.mark.parametrize(
    ("kind", "preview", "said"),
    [
        (MitigationType.SUSPEND, None, ()),
        (MitigationType.SUSPEND, {"exists": False}, ("there is no such account",)),
        (MitigationType.SUSPEND, {"exists": True, "sessions": 0}, ("nobody is signed in",)),
        (
            MitigationType.SUSPEND,
            {"sessions": 1, "contacts": 2},
            ("1 session is closed", "2 contacts lose it"),
        ),
        (MitigationType.SUSPEND, {"is_admin": True}, ("an admin of this server",)),
        (MitigationType.BLOCK, {"exists": False}, ("no stream is open, and nobody here knows it",)),
        (
            MitigationType.BLOCK,
            {"contacts": 2, "contacts_complete": False},
            ("at least 2 contacts of our users are cut off",),
        ),
        (MitigationType.BLOCK, {"refused": "it is this host"}, ("Prosody would refuse it: it is this host",)),
        (MitigationType.BAN, {"exists": False}, ("there is no such room now",)),
        (MitigationType.BAN, {"error": "old"}, ("what it would touch is not known: old",)),
        (MitigationType.BLOCK, {"mitigated_by": ["m"]}, ("something is in force against it already",)),
    ],
)
def test_a_preview_is_told_in_words(
    kind: MitigationType, preview: dict[str, Any] | None, said: tuple[str, ...]
) -> None:
    assert effects(target(kind, preview)) == said


def test_many_rooms_are_counted() -> None:
    rooms = [{"room": f"r{n}@muc.a.test"} for n in range(7)]
    (text,) = effects(target(MitigationType.SUSPEND, {"rooms": rooms}))
    assert text.endswith("and 2 more")


ANYTHING = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5)
NAMES = [
    "exists",
    "sessions",
    "contacts",
    "streams",
    "occupants",
    "rooms",
    "refused",
    "error",
    "mitigated_by",
]


@given(st.sampled_from(MitigationType), st.dictionaries(st.sampled_from(NAMES), ANYTHING))
def test_whatever_prosody_answers_is_told(kind: MitigationType, preview: dict[str, Any]) -> None:
    assert effects(target(kind, preview))
    assert would(target(kind, preview))
