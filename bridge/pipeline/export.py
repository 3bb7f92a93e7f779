"""An interaction's document for other programs, and all that was sent and received about an incident."""

from collections.abc import Iterable

from lxml import etree

from bridge.iodef.table import NAMESPACE, tag
from bridge.iodef.write import write
from bridge.policy.disclosure import reread
from bridge.policy.record import Edition, Interaction
from bridge.store import keys, load
from bridge.store.connect import Store
from bridge.xmpp import xml
from bridge.xmpp.xml import Element

_MOST_INTERACTIONS = 500


async def interactions_about(
    store: Store, incident_id: str, *, editions: Iterable[Edition] = (), limit: int = _MOST_INTERACTIONS
) -> list[Interaction]:
    """Load the newest interactions about an incident, and those that brought these editions, oldest first."""
    index = keys.interactions(incident_id)
    members = (await load.newest(store, [index], limit=limit))[index]
    ids = dict.fromkeys((*members, *(edition.interaction_id for edition in editions)))
    names = [keys.interaction(one) for one in ids]
    found = (await load.fetch(store, names=names)).records.values() if names else ()
    interactions = [one for one in found if isinstance(one, Interaction)]
    return sorted(interactions, key=lambda one: (one.received_at, one.way, one.id))


def exported(interaction: Interaction) -> bytes:
    """The document as canonical IODEF, whole: an IODEF-Document with one Incident, valid against the schema.

    Args:
        interaction: loaded with its original.
    """
    return xml.serialize(_document(interaction))


def readable(interaction: Interaction) -> bytes:
    """The same with a line for each element, for people."""
    document = _document(interaction)
    etree.indent(document)
    return xml.serialize(document)


def _document(interaction: Interaction) -> Element:
    incident = write(reread(interaction).tree, reported_at=interaction.received_at, contact=interaction.peer)
    document = etree.Element(tag("IODEF-Document"), nsmap={None: NAMESPACE})
    document.set("version", "1.00")
    document.set("lang", interaction.document.lang or "en")
    document.append(incident)
    return document


def payload(interaction: Interaction) -> bytes:
    """What goes out, with a line for each element, for people.

    Args:
        interaction: one of ours, with its original.
    """
    element = xml.parse(interaction.original or b"")
    etree.indent(element)
    return xml.serialize(element)
