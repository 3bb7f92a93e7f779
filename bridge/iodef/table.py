"""The classes of RFC 5070 as a table: which children in which order, which attributes, what text.

House rules: facts only, no behaviour; a test compares every line with the official schema.

Content is written like in a DTD: order counts, `?` at most one, `*` any number, `+` at least one,
`a|b` a choice. Attributes: `!` is mandatory; `name:kind` names an enumeration or a simple type.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

NAMESPACE = "urn:ietf:params:xml:ns:iodef-1.0"
NAMESPACE_V2 = "urn:ietf:params:xml:ns:iodef-2.0"
JID_NAMESPACE = "urn:xmpp:jid:0"
XEP_NAMESPACE = "urn:xmpp:incident:2"
EXT_VALUE = "ext-value"


def tag(name: str) -> str:
    """The element's name as lxml spells it."""
    return f"{{{NAMESPACE}}}{name}"


class Text(StrEnum):
    """What may stand between the tags of an element."""

    ELEMENTS = "elements"
    ANY = "any"
    STRING = "string"
    TIME = "time"
    INTEGER = "integer"
    NUMBER = "number"
    POSITIVE = "positive"
    PORTLIST = "portlist"
    TIMEZONE = "timezone"
    URI = "uri"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One place in the order of children: one name, or a choice of names."""

    tags: tuple[str, ...]
    is_required: bool
    is_single: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """An attribute: a closed set of values, or a simple type (`kind`).

    `extension` names the attribute that holds the meaning when the value is `ext-value`.
    """

    kind: str
    values: frozenset[str] | None
    extension: str | None
    is_required: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Class:
    """One element of RFC 5070."""

    name: str
    text: Text
    groups: tuple[Group, ...]
    positions: Mapping[Any, int]  # by tag; Any, because lxml's stubs know tags that are no strings
    attributes: Mapping[str, Attribute]
    required: tuple[str, ...]
    is_global: bool


ENUMERATIONS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        name: frozenset(values.split())
        for name, values in {
            "restriction": "default public need-to-know private",
            "severity": "low medium high",
            "duration": "second minute hour day month quarter year ext-value",
            "action": "nothing contact-source-site contact-target-site contact-sender investigate block-host"
            " block-network block-port rate-limit-host rate-limit-network rate-limit-port remediate-other"
            " status-triage status-new-info other ext-value",
            "dtype": "boolean byte character date-time integer ntpstamp portlist real string file path frame"
            " packet ipv4-packet ipv6-packet url csv winreg xml ext-value",
            "purpose": "traceback mitigation reporting other ext-value",
            "role": "creator admin tech irt cc ext-value",
            "contact-type": "person organization ext-value",
            "registry": "internic apnic arin lacnic ripe afrinic local ext-value",
            "occurrence": "actual potential",
            "completion": "failed succeeded",
            "impact-type": "admin dos extortion file info-leak misconfiguration recon policy"
            " social-engineering user unknown ext-value",
            "metric": "labor elapsed downtime ext-value",
            "rating": "low medium high numeric unknown",
            "system-category": "source target intermediate sensor infrastructure ext-value",
            "spoofed": "unknown yes no",
            "address-category": "asn atm e-mail mac ipv4-addr ipv4-net ipv4-net-mask ipv6-addr ipv6-net"
            " ipv6-net-mask ext-value",
            "node-category": "client server-internal server-public www mail messaging streaming voice file ftp"
            " p2p name directory credential print application database infra log ext-value",
            "counter-type": "byte packet flow session event alert message host site organization ext-value",
            "pattern-type": "regex binary xpath ext-value",
            "offsetunit": "line byte ext-value",
            "version": "1.00",
        }.items()
    }
)

_CONTENT = {
    "IODEF-Document": "Incident+",
    "Incident": "IncidentID AlternativeID? RelatedActivity? DetectTime? StartTime? EndTime? ReportTime"
    " Description* Assessment+ Method* Contact+ EventData* History? AdditionalData*",
    "AlternativeID": "IncidentID+",
    "RelatedActivity": "IncidentID|URL+",
    "Contact": "ContactName? Description* RegistryHandle* PostalAddress? Email* Telephone* Fax? Timezone?"
    " Contact* AdditionalData*",
    "History": "HistoryItem+",
    "HistoryItem": "DateTime IncidentID? Contact? Description* AdditionalData*",
    "Expectation": "Description* StartTime? EndTime? Contact?",
    "Method": "Reference|Description+ AdditionalData*",
    "Reference": "ReferenceName URL* Description*",
    "Assessment": "Impact|TimeImpact|MonetaryImpact+ Counter* Confidence? AdditionalData*",
    "EventData": "Description* DetectTime? StartTime? EndTime? Contact* Assessment? Method* Flow* Expectation*"
    " Record? EventData* AdditionalData*",
    "Flow": "System+",
    "System": "Node Service* OperatingSystem* Counter* Description* AdditionalData*",
    "Node": "NodeName|Address* Location? DateTime? NodeRole* Counter*",
    "Service": "Port|Portlist? ProtoType? ProtoCode? ProtoField? Application?",
    "Record": "RecordData+",
    "RecordData": "DateTime? Description* Application? RecordPattern* RecordItem+ AdditionalData*",
    "Application": "URL?",
    "OperatingSystem": "URL?",
}
_TEXT = {
    Text.ANY: "AdditionalData RecordItem",
    Text.STRING: "IncidentID ContactName RegistryHandle PostalAddress Email Telephone Fax ReferenceName Impact"
    " Confidence NodeName Address Location NodeRole RecordPattern Description",
    Text.TIME: "DateTime ReportTime DetectTime StartTime EndTime",
    Text.INTEGER: "Port ProtoType ProtoCode ProtoField",
    Text.NUMBER: "Counter",
    Text.POSITIVE: "TimeImpact MonetaryImpact",
    Text.PORTLIST: "Portlist",
    Text.TIMEZONE: "Timezone",
    Text.URI: "URL",
}
_SOFTWARE = "swid configid vendor family name version patch"
_EXTENSION = "dtype!:dtype ext-dtype meaning formatid restriction:restriction"
_ATTRIBUTES = {
    "IODEF-Document": "version:version lang!:lang formatid",
    "Incident": "purpose!:purpose ext-purpose lang:lang restriction:restriction",
    "IncidentID": "name! instance restriction:restriction",
    "AlternativeID": "restriction:restriction",
    "RelatedActivity": "restriction:restriction",
    "AdditionalData": _EXTENSION,
    "RecordItem": _EXTENSION,
    "Contact": "role!:role ext-role type!:contact-type ext-type restriction:restriction",
    "ContactName": "lang:lang",
    "RegistryHandle": "registry:registry ext-registry",
    "PostalAddress": "lang:lang meaning",
    "Email": "meaning",
    "Telephone": "meaning",
    "Fax": "meaning",
    "History": "restriction:restriction",
    "HistoryItem": "restriction:restriction action!:action ext-action",
    "Expectation": "restriction:restriction severity:severity action:action ext-action",
    "Method": "restriction:restriction",
    "ReferenceName": "lang:lang",
    "Assessment": "occurrence:occurrence restriction:restriction",
    "Impact": "lang:lang severity:severity completion:completion type:impact-type ext-type",
    "TimeImpact": "severity:severity metric!:metric ext-metric duration:duration ext-duration",
    "MonetaryImpact": "severity:severity currency",
    "Confidence": "rating!:rating",
    "EventData": "restriction:restriction",
    "System": "restriction:restriction interface category:system-category ext-category spoofed:spoofed",
    "NodeName": "lang:lang",
    "Address": "category:address-category ext-category vlan-name vlan-num:integer",
    "Location": "lang:lang",
    "NodeRole": "lang:lang category!:node-category ext-category",
    "Service": "ip_protocol!:integer",
    "Counter": "type!:counter-type ext-type meaning duration:duration ext-duration",
    "Record": "restriction:restriction",
    "RecordData": "restriction:restriction",
    "RecordPattern": "type!:pattern-type ext-type offset:integer offsetunit:offsetunit ext-offsetunit instance:integer",
    "Application": _SOFTWARE,
    "OperatingSystem": _SOFTWARE,
    "Description": "lang:lang",
}
_LOCAL = frozenset(["ReferenceName", "NodeName", "Port", "Portlist", "ProtoType", "ProtoCode", "ProtoField"])


def _groups(content: str) -> tuple[Group, ...]:
    return tuple(
        Group(
            tags=tuple(tag(name) for name in part.rstrip("?*+").split("|")),
            is_required=part[-1] not in "?*",
            is_single=part[-1] not in "*+",
        )
        for part in content.split()
    )


def _attributes(line: str) -> dict[str, Attribute]:
    parts = [part.partition(":") for part in line.split()]
    names = {name.rstrip("!") for name, _, _ in parts}
    found = {}
    for spelled, _, kind in parts:
        name = spelled.rstrip("!")
        extension = f"ext-{name}"
        found[name] = Attribute(
            kind=kind or "string",
            values=ENUMERATIONS.get(kind),
            extension=extension if extension in names else None,
            is_required=spelled.endswith("!"),
        )
    return found


def _class(name: str, text: Text) -> Class:
    groups = _groups(_CONTENT.get(name, ""))
    attributes = _attributes(_ATTRIBUTES.get(name, ""))
    return Class(
        name=name,
        text=text,
        groups=groups,
        positions={child: i for i, group in enumerate(groups) for child in group.tags},
        attributes=attributes,
        required=tuple(key for key, attribute in attributes.items() if attribute.is_required),
        is_global=name not in _LOCAL,
    )


CLASSES: Mapping[Any, Class] = {tag(name): _class(name, Text.ELEMENTS) for name in _CONTENT} | {
    tag(name): _class(name, text) for text, names in _TEXT.items() for name in names.split()
}
"""By tag; a plain dictionary, because it is asked for every element of every document."""
