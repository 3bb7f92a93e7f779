"""What the tests send: XEP-0268's own report, and small payloads of the other kinds."""

import re

from deploy.servers import REPORT, iq

ID = "4BF5D2CE-7C90-4860-BEF2-43A7D777D5FF"
INCIDENT = "{urn:ietf:params:xml:ns:iodef-1.0}Incident"


def payload(text: str = ID, *, restriction: str | None = None) -> str:
    """The example's payload, byte for byte; `text` replaces the IncidentID's, `restriction` lets it be told others."""
    found = re.search(r"<report\b.*</report>", REPORT.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    body = found[0].replace(ID, text)
    return (
        body
        if restriction is None
        else body.replace("<Incident ", f"<Incident restriction='{restriction}' ", 1)
    )


def report(
    number: int | str = "", *, sender: str = "b.test", to: str = "a.test", text: str | None = None
) -> str:
    """An IQ with the example's payload; `number` makes its id, and its IncidentID where `text` does not."""
    body = payload(ID if number == "" else f"incident-{number}") if text is None else payload(text)
    return iq(body, to=to, sender=sender, id=f"r{number}")


def inquiry(text: str = ID, name: str = "jabber.org") -> str:
    """A payload that asks what is known of an incident; the example's identity unless told otherwise."""
    return (
        "<inquiry xmlns='urn:xmpp:incident:2'><Incident xmlns='urn:ietf:params:xml:ns:iodef-1.0' purpose='traceback'>"
        f"<IncidentID name='{name}'>{text}</IncidentID></Incident></inquiry>"
    )
