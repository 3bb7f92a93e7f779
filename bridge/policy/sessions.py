"""The records of signing in to the console: who asked, and who is in.

House rules: no secret is stored, only its SHA-256; a code is not stored at all, see `policy/sign_in.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Role(StrEnum):
    """What somebody may do in the console."""

    VIEWER = "viewer"  # look
    APPROVER = "approver"  # everything


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """Somebody wants in: by a code that Prosody sends, or by a link that the command line made.

    Attributes:
        digest: of the secret in the cookie of the browser that asked; of a link, of the secret in it.
        who: the bare JID, prepared; of a link, as it is to be called in the audit log.
        origin: the address it was asked for from.
        hosts: what the session will be good for, once that is known.
        via: the host whose Prosody sent the code, and under whose secret it is made; "": it was not sent.
        tries: codes typed.
    """

    id: str
    digest: str = field(repr=False)
    who: str
    created_at: datetime
    expires_at: datetime
    ttl_seconds: int
    origin: str = ""
    hosts: Mapping[str, Role] = field(default_factory=dict)
    is_link: bool = False
    via: str = ""
    tries: int = 0
    version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Somebody is in.

    Attributes:
        digest: of the cookie.
        hosts: what they may see, and as what.
        seen_at: when they last did something, to within some minutes.
        expires_at: when it ends however busy they are.
    """

    id: str
    digest: str = field(repr=False)
    who: str
    hosts: Mapping[str, Role]
    created_at: datetime
    seen_at: datetime
    expires_at: datetime
    origin: str = ""
    version: int = 0
