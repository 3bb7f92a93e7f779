"""What an operator said about one address and the lists of a host; a record of the store."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """An address that an operator lists, or withholds.

    Attributes:
        address: a domain or a bare JID, prepared; there is one listing for each.
        is_published: it is listed; else it is withheld: never listed, whatever else says so. A domain that is withheld
            keeps its accounts off the list, too.
        by: who said so, as in `change.Audit`.
        reason: for people; never published.
        expires_at: when it is off the list; None: never, which is so for what is withheld.
        incident_id: what it is about; "": nothing in particular.
        is_reported: users of the host reported it, and it was listed with the operator's yes to passing that on.
    """

    host: str
    address: str
    is_published: bool
    by: str
    at: datetime
    reason: str = ""
    expires_at: datetime | None = None
    incident_id: str = ""
    is_reported: bool = False
    version: int = 0
