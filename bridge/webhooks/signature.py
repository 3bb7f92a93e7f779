"""Signing and verifying of messages as Standard Webhooks 1.0 says; both directions of the Prosody link and consumers.

House rules: what is signed are the very bytes that are sent; a signature is verified before the body is parsed;
comparison takes the same time wherever two signatures differ.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence

from bridge.errors import ConfigError, SignatureError, TimestampError

TOLERANCE_SECONDS = 300
MAX_BODY_BYTES = 1024 * 1024
_MAX_ID_BYTES = 256


def decode_secret(text: str) -> bytes:
    """Decode `whsec_<base64>` into the key; 24 to 64 bytes, as the standard says.

    Raises:
        ConfigError: not of that form; the message never shows the secret.
    """
    if not text.startswith("whsec_"):
        raise ConfigError("a secret begins with whsec_; make one with: echo whsec_$(openssl rand -base64 32)")
    try:
        key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except binascii.Error as error:
        raise ConfigError("what follows whsec_ in a secret is base64; this one is not") from error
    if not 24 <= len(key) <= 64:  # noqa: PLR2004 - the standard's own numbers
        raise ConfigError(f"a secret holds 24 to 64 bytes; this one holds {len(key)}")
    return key


def sign(key: bytes, *, message_id: str, timestamp: int, body: bytes) -> str:
    """Sign one message; `timestamp` is Unix seconds. Returns one `v1,<base64>`."""
    content = _bytes(f"{message_id}.{timestamp}.") + body
    return "v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()


def headers_for(keys: Sequence[bytes], *, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Make the three headers of a message, signed with every key (two while a secret is rotated)."""
    signatures = (sign(key, message_id=message_id, timestamp=timestamp, body=body) for key in keys)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signatures),
    }


def verify(keys: Sequence[bytes], headers: Mapping[str, str], body: bytes, *, now: float) -> str:
    """Verify a message and return its `webhook-id`.

    Args:
        keys: every key accepted now; one match is enough.
        headers: looked up in lower case; bytes that are no UTF-8 stand in them as lone surrogates.
        body: the bytes as they came.
        now: the receiver's Unix time in seconds.

    Raises:
        SignatureError: a header is missing or malformed, or no signature matches.
        TimestampError: the message is more than `TOLERANCE_SECONDS` away from `now`.
    """
    message_id = headers.get("webhook-id", "")
    if not message_id or len(_bytes(message_id)) > _MAX_ID_BYTES:
        raise SignatureError("the header webhook-id is missing or over 256 bytes", malformed=True)
    timestamp = headers.get("webhook-timestamp", "")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):  # noqa: PLR2004 - year 33658
        raise SignatureError("the header webhook-timestamp is not Unix seconds", malformed=True)
    given = headers.get("webhook-signature", "").split()
    if not given:
        raise SignatureError("the header webhook-signature is missing", malformed=True)
    expected = [
        sign(key, message_id=message_id, timestamp=int(timestamp), body=body).encode() for key in keys
    ]
    matches = [hmac.compare_digest(_bytes(one), other) for one in given[:8] for other in expected]
    if not any(matches):
        raise SignatureError("signature does not match")
    if abs(now - int(timestamp)) > TOLERANCE_SECONDS:
        raise TimestampError("timestamp out of tolerance", now=now)
    return message_id


def _bytes(text: str) -> bytes:
    """The bytes as they came in a header."""
    return text.encode("utf-8", "surrogateescape")
