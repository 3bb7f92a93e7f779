"""Addresses that only look alike are shown as such."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.cli.lookalike import address_cell, remarks
from bridge.policy.lookalike import ascii_form, skeleton

KNOWN = ["jabber.org", "example.com"]


@pytest.mark.parametrize(
    "address",
    [
        "j\u0430bber.org",
        "x@j\u0430bber.org/r@s",
        "jabb\u0435r.\u043erg",
        "examp1e.com",
        "exarnple.com",
        "ex\xe4mple.com",
    ],
)
def test_what_looks_alike_is_remarked_on(address: str) -> None:
    (remark,) = remarks([address, address], KNOWN)
    assert "is NOT" in remark


@pytest.mark.parametrize(
    "address", ["jabber.org", "x@Jabber.org", "jabber.com", "sub.jabber.org", "", "@", "a@"]
)
def test_what_is_known_or_different_is_not(address: str) -> None:
    assert remarks([address], KNOWN) == []


def test_what_is_not_ascii_is_shown_in_ascii_too() -> None:
    assert address_cell("a@jabber.org") == "a@jabber.org"
    assert (
        address_cell("\xe4@b\xfccher.example/\xe9")
        == "\xe4@b\xfccher.example/\xe9 (\\xe4@xn--bcher-kva.example/\\xe9)"
    )


@given(st.text())
def test_any_text_has_an_ascii_form_and_a_skeleton(text: str) -> None:
    assert ascii_form(text).isascii()
    assert isinstance(skeleton(text), str)
    remarks([text], KNOWN)
