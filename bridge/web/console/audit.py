"""The audit log: who did what, from where, newest first, of all hosts that somebody may see.

House rule: a page costs a bounded number of entries; where it stopped looking it says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import quote, urlencode

from aiohttp import web

from bridge.policy.sessions import Role
from bridge.store import load
from bridge.web.console.guard import Visit, get

_PER_PAGE: Final = 50
_AT_ONCE: Final = 200
_MOST_SCANNED: Final = 2000
_BRIDGE: Final = ""  # what concerns no host: tokens for all of them
_FIELDS: Final = ("who", "what", "target")
_PAGES: Final = {
    "approval": "/approvals/{target}",
    "mitigation": "/mitigations/{target}",
    "endpoint": "/endpoints/{target}",
    "incident": "/incidents/{target}",
    "triage": "/incidents/{target}",
    "peer": "/peers/{host}/{target}",
    "send": "/incidents/{target}",
    "send.inquire": "/sent?ids={target}",
    "send.respond": "/sent?ids={target}",
}
ACTIONS: Final = (
    "approval",
    "delivery",
    "endpoint",
    "incident",
    "mitigation",
    "peer",
    "send",
    "session",
    "token",
)
"""The beginnings of what is written down, as the field offers them."""

Cursor = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What somebody did; of several hosts where it was done to all of them at once.

    Attributes:
        position: in the log; what several hosts' logs hold of one commit has the same.
        link: the page of what it was done to; "": there is none.
    """

    position: Cursor
    at: datetime
    hosts: tuple[str, ...]
    actor: str
    origin: str
    action: str
    target: str
    detail: str
    link: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """What was found in one host's log, and down to where was looked; None: to its end."""

    entries: tuple[Entry, ...]
    edge: Cursor | None


async def show(visit: Visit) -> web.Response:
    """Show a page of the log."""
    typed = {name: visit.query(name) for name in _FIELDS}
    before = _cursor(visit.query("before"))
    names = [*visit.hosts, *([_BRIDGE] if _is_admin(visit) else [])]
    parts = [await _part(visit, name, typed, before) for name in names]
    edge = max((part.edge for part in parts if part.edge is not None), default=None)
    found = _folded([one for part in parts for one in part.entries])
    found = [one for one in found if edge is None or one.position >= edge]  # below, not every log was read
    shown = found[:_PER_PAGE]
    shown += [
        one for one in found[_PER_PAGE:] if one.position == shown[-1].position
    ]  # the next page is below it
    after = shown[-1].position if len(found) > len(shown) else edge
    kept = {name: value for name, value in typed.items() if value}
    return visit.page(
        "audit.html",
        title="Audit log",
        entries=shown,
        typed=typed,
        actions=ACTIONS,
        is_filtered=bool(kept),
        is_partial=len(found) == len(shown) and edge is not None,
        is_first=before is None,
        first_page=f"/audit?{urlencode(kept)}",
        next_page=after and f"/audit?{urlencode({**kept, 'before': f'{after[0]}-{after[1]}'})}",
        has_several_hosts=len(names) > 1,
    )


def _is_admin(visit: Visit) -> bool:
    """Whether this person may act for every host there is."""
    return all(visit.hosts.get(name) is Role.APPROVER for name in visit.service.settings.hosts)


async def _part(visit: Visit, host: str, typed: Mapping[str, str], before: Cursor | None) -> _Part:
    """Look through one log, so far as a page may."""
    found: list[Entry] = []
    start = "+" if before is None else _written(before)
    for _ in range(_MOST_SCANNED // _AT_ONCE):
        rows = await load.audits(visit.store, host, limit=_AT_ONCE, before=start)
        entries = [_entry(name, host, fields) for name, fields in rows]
        found += [one for one in entries if _is_wanted(one, typed)]
        if len(rows) < _AT_ONCE:
            return _Part(entries=tuple(found), edge=None)
        start = rows[-1][0]
        if len(found) > _PER_PAGE:
            break
    return _Part(entries=tuple(found), edge=_cursor(start))


def _is_wanted(one: Entry, typed: Mapping[str, str]) -> bool:
    who, what, target = (typed[name].casefold() for name in _FIELDS)
    return (
        who in f"{one.actor} {one.origin}".casefold()
        and one.action.startswith(what)
        and target in f"{one.target} {one.detail}".casefold()
    )


def _entry(name: str, host: str, fields: Mapping[str, str]) -> Entry:
    action, target = fields["action"], fields["target"]
    page = _PAGES.get(action) or _PAGES.get(action.partition(".")[0], "")
    return Entry(
        position=_cursor(name) or (0, 0),
        at=datetime.fromisoformat(fields["at"]),
        hosts=(host,),
        actor=fields["actor"],
        origin=fields.get("origin", ""),
        action=action,
        target=target,
        detail=fields.get("detail", ""),
        link=page.format(host=quote(host, safe=""), target=quote(target, safe="")),
    )


def _folded(entries: Sequence[Entry]) -> list[Entry]:
    """What was done to several hosts at once becomes one entry; newest first."""
    found: dict[tuple[object, ...], Entry] = {}
    for one in sorted(entries, key=lambda each: (each.position, each.hosts), reverse=True):
        same = (one.position[0], one.at, one.actor, one.action, one.target, one.detail)
        known = found.get(same)
        hosts = (*one.hosts, *known.hosts) if known else one.hosts
        found[same] = Entry(
            **{name: getattr(one, name) for name in Entry.__slots__ if name != "hosts"}, hosts=hosts
        )
    return sorted(found.values(), key=lambda one: one.position, reverse=True)


def _cursor(text: str) -> Cursor | None:
    """A position as Redis names it, `milliseconds-number`; None if it is none."""
    first, dash, second = text.partition("-")
    is_one = dash and first.isdecimal() and second.isdecimal() and first.isascii() and second.isascii()
    return (int(first), int(second)) if is_one and max(len(first), len(second)) < 20 else None  # noqa: PLR2004 - digits


def _written(position: Cursor) -> str:
    return f"{position[0]}-{position[1]}"


def routes() -> list[web.RouteDef]:
    """Return the route of the log."""
    return [get("/audit", show)]
