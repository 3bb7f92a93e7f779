"""Who does something, for the audit log."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who does it, and from where.

    Attributes:
        name: a JID, `token:<name>`, `cli:<user>`, or `bridge` for what it does by itself.
        origin: an address, or "".
    """

    name: str
    origin: str = ""


BRIDGE = Actor(name="bridge")
