"""The documents of what we send: written as they go out, read back as the peer will read them."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from bridge.errors import ConfigError
from bridge.iodef.model import Incident as Document
from bridge.iodef.model import Restriction
from bridge.iodef.read import read as read_document
from bridge.pipeline.actors import BRIDGE, Actor
from bridge.policy import outgoing
from bridge.policy.record import Interaction
from bridge.xep0268.model import Kind, Status
from bridge.xep0268.write import write
from bridge.xmpp import xml
from bridge.xmpp.xml import Element

MAX_PAYLOAD_BYTES = xml.STANZA_LIMITS.max_bytes - 4096
"""Room for the IQ around it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Who sends, where to and when; `new_id` makes ids of interactions, 80 random bits each.

    Attributes:
        actor: who has it sent, for the audit log.
        is_rehearsal: nothing is stored and nothing sent; what would be is returned, to be looked at.
    """

    host: str
    to: tuple[str, ...]
    now: datetime
    new_id: Callable[[], str]
    actor: Actor = BRIDGE
    is_rehearsal: bool = False


def write_payload(
    origin: Origin, kind: Kind, document: Element | Document, *, status: Status | None
) -> tuple[bytes, Document]:
    """Write the payload that goes out, and read it back as the peer will.

    Raises:
        ConfigError: it is larger than servers accept.
    """
    if isinstance(document, Document):
        restriction: Restriction | None = document.restriction
    else:
        restriction = None if document.get("restriction") else Restriction.NEED_TO_KNOW
    payload = write(
        kind, document, reported_at=origin.now, contact=origin.host, restriction=restriction, status=status
    )
    view = read_document(
        payload[0], default_name=origin.host, purpose=kind.purpose, only_id_required=kind is Kind.INQUIRY
    )
    data = xml.serialize(payload)
    if len(data) > MAX_PAYLOAD_BYTES:
        raise ConfigError(
            f"the document has {len(data)} bytes; servers accept {MAX_PAYLOAD_BYTES}: leave some evidence out"
        )
    return data, view.incident


def make_draft(  # noqa: PLR0917 - who, what, to whom; as it is read at its calls
    origin: Origin,
    kind: Kind,
    to: str,
    payload: bytes,
    view: Document,
    about: str,
    own_id: str,
    *,
    status: Status | None = None,
    answers: str | None = None,
    draft_id: str | None = None,
) -> Interaction:
    """Make the interaction that tracks one sending; `about` is its incident's id, `own_id` its own."""
    return outgoing.draft(
        interaction_id=own_id,
        host=origin.host,
        to=to,
        kind=kind,
        payload=payload,
        document=view,
        status=status,
        incident_id=about,
        now=origin.now,
        answers=answers,
        draft_id=draft_id,
    )
