"""Templates: read once, compiled when first shown, everything escaped, what a peer wrote made harmless and visible.

House rule: no page is safe because its author thought of it; every value passes `_shown`, filter or not.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, Final

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup, escape

from bridge.log import visible
from bridge.policy.lookalike import with_ascii
from bridge.policy.record import MAX_INDEXED
from bridge.policy.words import count, moment

_HERE: Final = files("bridge.web.console")
_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_LINES: Final = re.compile(r"([\n\t])")

NAVIGATION: Final = (
    ("/", "Inbox"),
    ("/approvals", "Approvals"),
    ("/incidents", "Incidents"),
    ("/mitigations", "Mitigations"),
    ("/peers", "Peers"),
    ("/send", "Send"),
    ("/endpoints", "Endpoints"),
    ("/charts", "Charts"),
    ("/audit", "Audit"),
    ("/about", "Status"),
)
SAID: Final = {
    "trusted": "This peer is trusted from now on; what lies in quarantine stays there.",
    "blocked": "This peer is blocked from now on; what it sent before stays.",
    "stranger": "Taken back: this peer is a stranger again, without rules.",
    "rules": "The rules are saved.",
    "forwarded": "Reports of others go on to this peer.",
    "not-forwarded": "Reports of others do not go on to this peer.",
    "mailed": "Noted that you mailed it.",
    "approved": "You said yes; it is being carried out.",
    "declined": "You said no; the server that asked is told why.",
    "asked-again": "Prosody was asked again; this is what it would touch now.",
    "abuse-sent": "What your users report is being sent; what comes of it appears here.",
    "abuse-protected": "Nothing was sent or listed: listing these accounts needs a second yes; see below.",
    "abuse-dismissed": "Dismissed; nothing is sent. What users report from now on is counted anew.",
    "abuse-late": "Somebody was faster, or more was reported just now. Nothing was done; look again.",
    "lifted": "You took it back; Prosody is told.",
    "list": "It is on the list.",
    "withhold": "It is kept off the list, whatever else says so.",
    "unlist": "Taken back.",
    "subscribe": "Subscribed; it is read within a minute. Nothing follows from it by itself.",
    "unsubscribe": "No longer subscribed to; what you blocked because of it stays blocked.",
    "triage": "Written down.",
    "closed": "They are closed.",
    "closed-some": "They are closed, but for those that are not in quarantine any more.",
    "forgotten": "They are forgotten.",
    "forgotten-some": "Some are forgotten. What changed just now, or was acted on, stays; look again.",
    "endpoint-added": "The endpoint is added; it gets what happens from now on.",
    "endpoint-changed": "The endpoint is changed.",
    "endpoint-enabled": "It is enabled; deliver what it missed again from its page.",
    "endpoint-disabled": "It is disabled; nothing is delivered to it.",
    "endpoint-tested": "A test is on its way; what comes of it appears among the deliveries.",
    "endpoint-removed": "The endpoint is removed.",
    "redelivered": "It is delivered once more.",
    "redelivered-many": "They are delivered once more, the oldest first.",
    "redelivered-none": "There was nothing to deliver.",
    "session-ended": "That session is ended.",
    "signed-out": "You are signed out.",
}


def harmless(text: str) -> str:
    """The text with what could deceive the eye shown as escapes; lines and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    parts = _LINES.split(text.replace("\r\n", "\n"))
    return "".join(part if _LINES.fullmatch(part) else visible(part) for part in parts)


def _shown(value: object) -> object:
    """What `{{ value }}` writes, before it is escaped."""
    match value:
        case Markup():
            return value
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case datetime():
            return moment(value)
        case str():
            return harmless(str(value))
        case _:
            return value


def _time(at: datetime | None, *, now: datetime | None = None) -> Markup:
    """A time a machine can read too; with `now`, how long ago."""
    if at is None:
        return Markup("&ndash;")
    utc = at.astimezone(UTC)
    exact = utc.strftime("%Y-%m-%d %H:%M:%S UTC")
    shown = utc.strftime("%Y-%m-%d %H:%M") if now is None else _ago((now - at).total_seconds(), utc)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(utc.isoformat(), exact, shown)


def _ago(seconds: float, at: datetime) -> str:
    if seconds < 0 or seconds > 14 * 86_400:
        return at.strftime("%Y-%m-%d")
    for unit_seconds, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= unit_seconds:
            return f"{int(seconds // unit_seconds)} {unit} ago"
    return "just now"


def _address(address: str) -> Markup:
    """An address, apart from the direction of the text around it; where it is not ASCII, with its ASCII form."""
    return Markup("<bdi>{}</bdi>").format(harmless(with_ascii(address)))


def _pairs(values: Iterable[str]) -> list[tuple[str, str]]:
    """Each value with what is shown for it: itself."""
    return [(value, value) for value in values]


def _named(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]


def _static() -> dict[str, tuple[bytes, str]]:
    found = {}
    for one in (_HERE / "static").iterdir():
        kind = next((kind for suffix, kind in _TYPES.items() if one.name.endswith(suffix)), None)
        if kind is not None:
            found[one.name] = (one.read_bytes(), kind)
    return found


STATIC: Final[Mapping[str, tuple[bytes, str]]] = _static()


def _static_url(name: str) -> str:
    return f"/static/{name}?v={_named(STATIC[name][0])}"


def _environment() -> Environment:
    folder = _HERE / "templates"
    loader = DictLoader({one.name: one.read_text("utf-8") for one in folder.iterdir()})
    made = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {
        "navigation": NAVIGATION,
        "static": _static_url,
        "count": count,
        "pairs": _pairs,
        "most_indexed": MAX_INDEXED,
    }
    made.filters |= {"time": _time, "address": _address, "harmless": harmless}
    return made


_ENVIRONMENT: Final = _environment()


def render(template: str, values: Mapping[str, Any]) -> str:
    """Write a page."""
    return _ENVIRONMENT.get_template(template).render(values)


def escaped(text: str) -> Markup:
    """Text as a template would write it."""
    return escape(harmless(text))
