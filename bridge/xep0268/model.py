"""The four interactions of XEP-0268."""

from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from bridge.iodef.model import Incident
from bridge.iodef.repair import Repair
from bridge.xmpp.stanza import IqType
from bridge.xmpp.xml import Element

NAMESPACE = "urn:xmpp:incident:2"


class Kind(StrEnum):
    """XEP-0268 §4; the value is the payload's element name."""

    REPORT = "report"
    INQUIRY = "inquiry"
    REQUEST = "request"
    RESPONSE = "response"

    @property
    def iq_type(self) -> IqType:
        """The IQ type the specification sends it in; a request is a get, although it changes things."""
        match self:
            case Kind.REPORT | Kind.RESPONSE:
                return IqType.SET
            case Kind.INQUIRY | Kind.REQUEST:
                return IqType.GET
            case _:
                assert_never(self)

    @property
    def purpose(self) -> str:
        """The `Incident@purpose` the specification's examples have."""
        match self:
            case Kind.REPORT:
                return "reporting"
            case Kind.INQUIRY:
                return "traceback"
            case Kind.REQUEST | Kind.RESPONSE:
                return "mitigation"
            case _:
                assert_never(self)


class Status(StrEnum):
    """XEP-0268 §4.1: what a report tells about its incident."""

    NEW = "new"
    UPDATED = "updated"
    RESOLVED = "resolved"

    @classmethod
    def of(cls, text: str | None) -> "Status | None":
        """The status that a document states; a word we do not know means that something changed."""
        if not text:
            return None
        try:
            return cls(text.strip().lower())
        except ValueError:
            return cls.UPDATED


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """An interaction as received; `status` is None when the document does not state one."""

    kind: Kind
    incident: Incident
    status: Status | None
    repairs: tuple[Repair, ...]
    tree: Element
