"""The link to the page where a person without an account answers what was sent: signed, and good until a moment.

House rules: a link names one sending and nothing else; it is made from a host's secret by HMAC, so that none is stored;
one that is wrong in any way is simply not good.
"""

import base64
import hmac
import re
from collections.abc import Iterable
from datetime import datetime

from bridge.policy.outreach import MAX_ANSWERS, Outreach, Verdict

PATH = "/answer/"
_WORD = re.compile(r"([a-z0-9-]{1,64})\.([0-9a-f]{1,12})\.([A-Za-z0-9_-]{43})")
_PURPOSE = b"incident-bridge answer page"
_CLOSING = (Verdict.DONE, Verdict.DECLINED)


def make(key: bytes, *, host: str, interaction_id: str, until: datetime) -> str:
    """Make the last part of a link; `key` is the newest of the host's secrets, decoded."""
    seconds = int(until.timestamp())
    return f"{interaction_id}.{seconds:x}.{_seal(key, host, interaction_id, seconds)}"


def names(word: str) -> str | None:
    """Say which interaction a link is about, if it is one at all; nothing is proven by that."""
    found = _WORD.fullmatch(word)
    return found[1] if found else None


def is_good(word: str, keys: Iterable[bytes], *, host: str, now: datetime) -> bool:
    """Whether this host made the link, with a secret that it still has, and it is not over."""
    found = _WORD.fullmatch(word)
    if found is None:
        return False
    seconds = int(found[2], 16)
    seals = [_seal(key, host, found[1], seconds) for key in keys]
    is_ours = any(hmac.compare_digest(one, found[3]) for one in seals)
    return is_ours and now.timestamp() < seconds


def is_closed(outreach: Outreach) -> bool:
    """Whether the page takes no more answers: one of them said that it is done, or will not be."""
    is_over = any(one.verdict in _CLOSING for one in outreach.answers)
    return is_over or len(outreach.answers) >= MAX_ANSWERS


def _seal(key: bytes, host: str, interaction_id: str, seconds: int) -> str:
    own = hmac.digest(key, _PURPOSE, "sha256")  # apart from what the secret signs elsewhere
    made = hmac.digest(own, f"{host}\n{interaction_id}\n{seconds}".encode(), "sha256")
    return base64.urlsafe_b64encode(made).rstrip(b"=").decode()
