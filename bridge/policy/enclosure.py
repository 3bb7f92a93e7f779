"""What goes along with a letter for programs: a report (XEP-0377) of each account, as forwarders of reports send it.

House rules: only accounts of the very server that is written to, and only those that the document names, so what users
did not agree to pass on is not here either; every word is ours but the identifier, which is quoted; the same
interaction has the same reports again.
"""

from enum import StrEnum

from lxml import etree

from bridge.iodef.model import Incident as Document
from bridge.iodef.model import Source
from bridge.iodef.table import JID_NAMESPACE
from bridge.policy import abuse
from bridge.policy.letter import quoted
from bridge.policy.record import Interaction
from bridge.policy.words import count
from bridge.xep0268.model import Status
from bridge.xmpp.xml import Element, legal

NAMESPACE = "urn:xmpp:reporting:1"
MAX_REPORTS = 20
MAX_TEXT_BYTES = 2000
"""mod_incident_bridge passes on no longer text; what is written here is shorter, whatever the document holds."""


class Reason(StrEnum):
    """Why an account is reported; what is not known to be spam is abuse (XEP-0377 §3)."""

    SPAM = "urn:xmpp:reporting:spam"
    ABUSE = "urn:xmpp:reporting:abuse"


def reports(interaction: Interaction) -> tuple[Element, ...]:
    """Write the reports that accompany the letter; none where the incident is over."""
    if interaction.status is Status.RESOLVED:
        return ()
    accused: dict[str, Source] = {}
    for source in interaction.document.sources:
        if source.jid is not None and _is_account(source.jid, interaction.peer):
            accused.setdefault(source.jid, source)
    reason = _reason(interaction.document)
    return tuple(
        _report(jid, reason, _text(interaction, source))
        for jid, source in list(accused.items())[:MAX_REPORTS]
    )


def _is_account(jid: str, domain: str) -> bool:
    """Whether it is a user of exactly that domain; with a resource it may as well be somebody in a room."""
    return "/" not in jid and jid.partition("@")[1:] == ("@", domain)


def _reason(document: Document) -> Reason:
    is_spam = any(impact.type == abuse.SPAM_IMPACT for impact in document.impacts)
    return Reason.SPAM if is_spam else Reason.ABUSE


def _text(interaction: Interaction, source: Source) -> str:
    host, identity = interaction.host, interaction.document.identity
    users = abuse.users_in(source) if interaction.is_about_own else 0
    said = f"{count(users, 'user')} of {host} reported" if users else f"{host} reports"
    return f"{said} this account. Our reference: {quoted(identity.text)}"


def _report(jid: str, reason: Reason, text: str) -> Element:
    report = etree.Element(f"{{{NAMESPACE}}}report", reason=reason.value, nsmap={None: NAMESPACE})
    etree.SubElement(report, f"{{{JID_NAMESPACE}}}jid", nsmap={None: JID_NAMESPACE}).text = legal(jid)
    etree.SubElement(report, f"{{{NAMESPACE}}}text").text = legal(text)
    return report
