"""Typed views of an Incident: what operators and consumers use.

House rules: frozen values that pydantic can write as JSON; the document itself stays the lxml tree, and nothing
here is needed to write it back. A coded value is the standard one or, for `ext-value`, its extension.
Nothing in a view is trustworthy: it is what the peer says.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Restriction(StrEnum):
    """Who may learn of it (RFC 5070 §3.2); an Incident without one is `private`."""

    DEFAULT = "default"
    PUBLIC = "public"
    NEED_TO_KNOW = "need-to-know"
    PRIVATE = "private"


class Severity(StrEnum):
    """How bad (RFC 5070 §3.10.1)."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Completion(StrEnum):
    """Whether the attempt did what it was meant to do."""

    FAILED = "failed"
    SUCCEEDED = "succeeded"


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentId:
    """`name` is "" when an inquiry did not say whose identifier it is (old Prosody modules leave it out)."""

    name: str
    text: str
    instance: str | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """Equal for the same incident (RFC 5070 §3.3: the name without regard to case)."""
        return self.name.casefold(), self.text, self.instance or ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Human text; `lang` None means not said, also not by the Incident."""

    text: str
    lang: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Impact:
    """RFC 5070 §3.10.1."""

    type: str = "unknown"
    severity: Severity | None = None
    completion: Completion | None = None
    text: str = ""
    lang: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Confidence:
    """RFC 5070 §3.10.4; `value` only with the rating `numeric`."""

    rating: str
    value: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """A person, organisation or chat room; nested Contacts and those of EventData stand beside the others."""

    role: str
    type: str
    jids: tuple[str, ...] = ()
    name: str | None = None
    emails: tuple[str, ...] = ()
    phones: tuple[str, ...] = ()
    restriction: Restriction | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """How much of something; `type` is for instance `xmpp-presence`, `duration` the time unit of a rate."""

    type: str
    value: float
    meaning: str | None = None
    duration: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One address of a System: a source, a target, or (in `others`) something else.

    `system` says which (RFC 5070 §3.15, System@category). `category` is that of the Address, `name` for a NodeName.
    `jid` is the prepared address when `category` is `xmpp` and the address is a valid JID. The counters are those
    of the Node and System: repeated for each address of the same Node, or told with the first where it has many.
    """

    address: str
    category: str
    system: str = "source"
    jid: str | None = None
    counters: tuple[Counter, ...] = ()
    roles: tuple[str, ...] = ()
    spoofed: str = "unknown"
    ports: tuple[str, ...] = ()
    descriptions: tuple[Text, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What the sender asks for; an action that RFC 5070 does not know must never be acted on."""

    action: str = "other"
    severity: Severity | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    descriptions: tuple[Text, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryItem:
    """What was done, and when; `at` None means not said."""

    action: str
    at: datetime | None = None
    incident: IncidentId | None = None
    descriptions: tuple[Text, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordItem:
    """A piece of evidence as text: a log line, a stanza."""

    dtype: str
    text: str
    meaning: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """One Incident (RFC 5070 §3.2); `status` is the text of the document, None when it has none."""

    identity: IncidentId
    purpose: str = "reporting"
    restriction: Restriction = Restriction.PRIVATE
    lang: str | None = None
    status: str | None = None
    detected_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    reported_at: datetime | None = None
    descriptions: tuple[Text, ...] = ()
    impacts: tuple[Impact, ...] = ()
    confidence: Confidence | None = None
    contacts: tuple[Contact, ...] = ()
    sources: tuple[Source, ...] = ()
    targets: tuple[Source, ...] = ()
    others: tuple[Source, ...] = ()
    expectations: tuple[Expectation, ...] = ()
    history: tuple[HistoryItem, ...] = ()
    record_items: tuple[RecordItem, ...] = ()
    related: tuple[IncidentId, ...] = ()
    alternatives: tuple[IncidentId, ...] = ()

    @property
    def severity(self) -> Severity | None:
        """The highest that any impact has."""
        stated = {impact.severity for impact in self.impacts}
        return next((level for level in reversed(Severity) if level in stated), None)
