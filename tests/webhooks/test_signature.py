"""Our signatures against the standard's own library, and everything that must not verify."""

import base64
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from bridge.errors import ConfigError, SignatureError, TimestampError
from bridge.webhooks import signature

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()
NOW = 1_795_000_000
VECTORS = Path(__file__).parents[1] / "vectors" / "signature.json"


def headers(body: bytes, *, keys: tuple[bytes, ...] = (KEY,), timestamp: int = NOW) -> dict[str, str]:
    return signature.headers_for(keys, message_id="m-1", timestamp=timestamp, body=body)


@given(st.text(max_size=300))
def test_the_standard_library_verifies_what_we_sign(text: str) -> None:
    body = json.dumps({"text": text})
    now = int(datetime.now(UTC).timestamp())
    assert Webhook(SECRET).verify(body, headers(body.encode(), timestamp=now)) == {"text": text}


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=300))
def test_we_verify_what_the_standard_library_signs(body: str) -> None:
    made = Webhook(SECRET).sign("m-1", datetime.fromtimestamp(NOW, UTC), body)
    given_headers = {**headers(b""), "webhook-signature": made}
    assert signature.verify([KEY], given_headers, body.encode(), now=NOW) == "m-1"


def test_the_vectors_that_the_lua_module_is_held_to_are_ours_too() -> None:
    vectors = json.loads(VECTORS.read_text())
    assert vectors
    for one in vectors:
        made = signature.sign(
            signature.decode_secret(one["secret"]),
            message_id=one["id"],
            timestamp=int(one["timestamp"]),
            body=one["body"].encode(),
        )
        assert made == one["signature"]


@given(st.binary(max_size=200), st.integers(min_value=0))
def test_a_changed_body_does_not_verify(body: bytes, place: int) -> None:
    made = headers(body)
    changed = bytearray(body or b"x")
    changed[place % len(changed)] ^= 1
    with pytest.raises(SignatureError, match="does not match"):
        signature.verify([KEY], made, bytes(changed), now=NOW)


def test_either_of_two_secrets_is_accepted_while_one_is_rotated() -> None:
    old, new = KEY, bytes(reversed(KEY))
    assert signature.verify([new, old], headers(b"{}", keys=(old,)), b"{}", now=NOW) == "m-1"
    assert signature.verify([old], headers(b"{}", keys=(new, old)), b"{}", now=NOW) == "m-1"


@pytest.mark.parametrize("offset", [-301, 301])
def test_a_stale_or_early_message_is_refused_with_the_receivers_time(offset: int) -> None:
    with pytest.raises(TimestampError) as caught:
        signature.verify([KEY], headers(b"{}", timestamp=NOW + offset), b"{}", now=NOW)
    assert caught.value.now == NOW


def test_a_wrong_signature_is_told_before_a_wrong_time() -> None:
    made = headers(b"{}", keys=(bytes(32),), timestamp=NOW - 9999)
    with pytest.raises(SignatureError, match="does not match"):
        signature.verify([KEY], made, b"{}", now=NOW)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
@pytest.mark.parametrize("value", ["", None])
def test_a_missing_header_is_malformed(name: str, value: str | None) -> None:
    made = {key: one for key, one in headers(b"{}").items() if key != name}
    if value is not None:
        made[name] = value
    with pytest.raises(SignatureError) as caught:
        signature.verify([KEY], made, b"{}", now=NOW)
    assert caught.value.malformed


@pytest.mark.parametrize("timestamp", ["1e9", "-5", "١٢٣", "9" * 30, "0x10", " 5"])
def test_a_timestamp_that_is_not_decimal_seconds_is_malformed(timestamp: str) -> None:
    with pytest.raises(SignatureError) as caught:
        signature.verify([KEY], {**headers(b"{}"), "webhook-timestamp": timestamp}, b"{}", now=NOW)
    assert caught.value.malformed


@given(st.dictionaries(st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature"]), st.text()))
def test_no_headers_a_stranger_makes_up_verify(made: dict[str, str]) -> None:
    with pytest.raises(SignatureError):
        signature.verify([KEY], made, b"{}", now=NOW)


@pytest.mark.parametrize(
    "text", ["", "abc", "whsec_", "whsec_!!", "whsec_" + base64.b64encode(bytes(23)).decode()]
)
def test_a_secret_of_the_wrong_form_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        signature.decode_secret(text)
    assert not text.removeprefix("whsec_") or text.removeprefix("whsec_") not in str(caught.value)
