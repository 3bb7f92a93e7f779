"""What a preview says, in words; the same in the terminal, in the console and in chat.

House rule: what Prosody names (rooms) is escaped by whoever shows it.
"""

from collections.abc import Mapping
from typing import Any

from bridge.policy.decisions import MitigationType, Target
from bridge.policy.words import count

_MOST_ROOMS = 5
_WOULD = {
    MitigationType.SUSPEND: "suspend account {account}",
    MitigationType.BLOCK: "block domain {domain}",
    MitigationType.BAN: "ban {jid} from {room}",
}


def would(target: Target) -> str:
    """`suspend account juliet@a.example`; "" where nothing can be done."""
    return _WOULD[target.type].format(**target.fields) if target.type else ""


def is_vain(target: Target) -> bool:
    """Whether Prosody would refuse it, or there is nobody."""
    preview = target.preview or {}
    is_absent = preview.get("exists") is False and target.type is not MitigationType.BLOCK
    return bool(preview.get("refused") or preview.get("is_admin") or is_absent)


def is_ticked(target: Target) -> bool:
    """Whether it is ticked before the operator ticks anything: one yes is enough for it, and it is not in vain."""
    return not target.second_yes and not is_vain(target)


def effects(target: Target) -> tuple[str, ...]:
    """Say what would be touched, a few words each; empty: it was not asked yet, or nothing can be done."""
    preview = target.preview
    if preview is None or target.type is None:
        return ()
    if preview.get("error"):
        return (f"what it would touch is not known: {preview['error']}",)
    found: list[str] = []
    if preview.get("refused"):
        found.append(f"Prosody would refuse it: {preview['refused']}")
    if preview.get("exists") is False and target.type in _ABSENT:
        found.append(_ABSENT[target.type])
    if preview.get("is_admin"):
        found.append("an admin of this server")
    found += [text for key, one, many in _COUNTED[target.type] if (text := _counted(preview, key, one, many))]
    rooms = _rooms(preview.get("rooms"))
    if rooms and target.type is not MitigationType.BAN:
        more = f" and {len(rooms) - _MOST_ROOMS} more" if len(rooms) > _MOST_ROOMS else ""
        found.append(f"in {', '.join(rooms[:_MOST_ROOMS])}{more}")
    if preview.get("mitigated_by"):
        found.append("something is in force against it already")
    return tuple(found) or (_QUIET[target.type],)


_ABSENT = {
    MitigationType.SUSPEND: "there is no such account",
    MitigationType.BAN: "there is no such room now",
}
_QUIET = {
    MitigationType.SUSPEND: "nobody is signed in",
    MitigationType.BLOCK: "no stream is open, and nobody here knows it",
    MitigationType.BAN: "nobody is there now",
}
_COUNTED = {
    MitigationType.SUSPEND: (
        ("sessions", "session is closed", "sessions are closed"),
        ("contacts", "contact loses it", "contacts lose it"),
    ),
    MitigationType.BLOCK: (
        ("streams", "stream is closed", "streams are closed"),
        ("contacts", "contact of our users is cut off", "contacts of our users are cut off"),
    ),
    MitigationType.BAN: (
        ("sessions", "session is removed", "sessions are removed"),
        ("occupants", "occupant in the room", "occupants in the room"),
    ),
}


def _rooms(listed: object) -> list[str]:
    if not isinstance(listed, list | tuple):
        return []
    return [str(one.get("room", "")) for one in listed if isinstance(one, Mapping)]


def _counted(preview: Mapping[str, Any], key: str, one: str, many: str) -> str:
    number = preview.get(key)
    if not isinstance(number, int) or isinstance(number, bool) or number <= 0:
        return ""
    least = "at least " if key == "contacts" and preview.get("contacts_complete") is False else ""
    return least + count(number, one, many)
