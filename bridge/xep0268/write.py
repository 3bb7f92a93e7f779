"""From an Incident to the payload of one of the four interactions."""

from datetime import datetime

from lxml import etree

from bridge.iodef import write as iodef
from bridge.iodef.model import Incident, Restriction
from bridge.xep0268.model import NAMESPACE, Kind, Status
from bridge.xmpp.xml import Element


def write(
    kind: Kind,
    document: Element | Incident,
    *,
    reported_at: datetime,
    contact: str,
    restriction: Restriction | None = None,
    status: Status | None = None,
) -> Element:
    """A payload with one canonical Incident.

    Args:
        kind: the payload's name; the document's purpose is left as it is.
        document: an Incident element or a typed view.
        reported_at: ReportTime where the document has none.
        contact: the JID of the Contact where the document has none.
        restriction: who may learn of it; None leaves what the document says (absent is private).
        status: stated in reports; None leaves what the document says.
    """
    payload = etree.Element(f"{{{NAMESPACE}}}{kind}", nsmap={None: NAMESPACE})
    incident = iodef.write(
        document, reported_at=reported_at, contact=contact, restriction=restriction, status=status
    )
    payload.append(incident)
    return payload
