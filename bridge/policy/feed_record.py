"""What is kept of a list of others that a host subscribes to.

House rule: what is read lies apart from how reading it goes, which changes far more often.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import unquote, urlsplit

NODE_QUERY: Final = "?;node="


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """A list that a host subscribes to, and how reading it goes; a record of the store.

    Attributes:
        id: of (host, url).
        url: `https://…`, one name a line; or `xmpp:SERVICE?;node=NODE` (XEP-0060 §12.22).
        publisher: who answers for it; what one publisher says counts once. By default where it is: a domain.
        by: who subscribed, as in `change.Audit`.
        due_at: when it is read next.
        read_at: when it was read last; `changed_at`: when that was another list than before. None: never.
        problem: why it could not be read last; hostile text. "": it could.
        mark: by which its server knows what we have: an ETag, a revision.
        names: how many names it has; `bad`: lines that are none; `left_out`: names beyond `MAX_NAMES`.
    """

    id: str
    host: str
    url: str
    by: str
    added_at: datetime
    due_at: datetime
    read_at: datetime | None = None
    changed_at: datetime | None = None
    problem: str = ""
    mark: str = ""
    names: int = 0
    bad: int = 0
    left_out: int = 0
    publisher: str = ""
    version: int = 0

    @property
    def scheme(self) -> str:
        """`https`, `http` or `xmpp`."""
        return self.url.partition(":")[0]

    @property
    def answers(self) -> str:
        """Who answers for it."""
        if self.publisher:
            return self.publisher
        if self.scheme == "xmpp":
            return self.node[0].rpartition("@")[2]
        return urlsplit(self.url).hostname or self.url

    @property
    def node(self) -> tuple[str, str]:
        """The service and the node of an `xmpp:` one."""
        service, _, node = self.url.removeprefix("xmpp:").partition(NODE_QUERY)
        return unquote(service), unquote(node)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedNames:
    """What a feed names, apart from the record that changes each time it is read; a record of the store.

    Attributes:
        since: by name, when it was first seen there, in Unix seconds. A name is a domain, a bare JID, or the
            hexadecimal SHA-256 of either.
    """

    feed_id: str
    since: Mapping[str, int]
    version: int = 0
