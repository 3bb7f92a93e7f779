"""Lists that others publish, held against each other and against what is decided here; nothing follows from it.

House rule: a list is a claim of whoever publishes it, so each name keeps who says it.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from bridge.errors import MalformedError
from bridge.policy.publish import Published
from bridge.xmpp.jid import prep_domain

MAX_LINES: Final = 100_000
UNDECIDED: Final = frozenset({"", "trusted", "protected"})
"""The standings of what may still be blocked, the latter two on a second yes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A domain that enough lists name.

    Attributes:
        by: the lists that name it, in the order given.
        standing: what is decided about it here: `blocked`, `listed`, `withheld`, `protected`, `trusted`, `own`; "".
    """

    domain: str
    by: tuple[str, ...]
    standing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What a plain list holds; `bad` counts the lines that are no domain, `left_out` those beyond `MAX_LINES`."""

    domains: frozenset[str]
    bad: int = 0
    left_out: int = 0


def read_plain(text: str) -> Read:
    """Read a plain list: one domain a line; empty lines and what follows a # are passed over."""
    found: set[str] = set()
    bad = 0
    lines = text.split("\n")
    for line in lines[:MAX_LINES]:
        word = line.partition("#")[0].strip()
        if not word:
            continue
        try:
            found.add(prep_domain(word))
        except MalformedError:
            bad += 1
    return Read(domains=frozenset(found), bad=bad, left_out=max(0, len(lines) - MAX_LINES))


def named_by(
    lists: Mapping[str, Collection[str]],
    *,
    quorum: int,
    own: Collection[str],
    known: Published,
    trusted: Collection[str],
    protected: Collection[str],
) -> tuple[Named, ...]:
    """Find the domains that at least `quorum` lists name, most named first.

    Args:
        lists: the domains of each, by how it is called.
        quorum: how many must agree.
        own: our hosts.
        known: what the host blocks, lists and withholds.
        trusted: the domains of its trusted peers.
        protected: domains and bare JIDs that need a second yes.
    """
    said, second = known.said, domains_of(protected)
    found: dict[str, list[str]] = {}
    for name, domains in lists.items():
        for domain in domains:
            found.setdefault(domain, []).append(name)
    rows = [
        Named(domain=domain, by=tuple(by), standing=standing(domain, own, said, trusted, second))
        for domain, by in found.items()
        if len(by) >= quorum
    ]
    return tuple(sorted(rows, key=lambda one: (-len(one.by), one.domain)))


def standing(
    domain: str,
    own: Collection[str],
    said: Mapping[str, str],
    trusted: Collection[str],
    protected: Collection[str],
) -> str:
    """Say what is decided about a domain here, see `Named`.

    Args:
        domain: prepared.
        own: our hosts.
        said: as `Published.said` has it.
        trusted: the domains of trusted peers.
        protected: as `domains_of` made them.
    """
    if any(domain == host or domain.endswith(f".{host}") for host in own):
        return "own"
    if domain in said:
        return said[domain]
    if domain in protected:
        return "protected"
    return "trusted" if domain in trusted else ""


def domains_of(protected: Iterable[str]) -> frozenset[str]:
    """The servers that need a second yes, those of protected users among them."""
    return frozenset(one.rpartition("@")[2] for one in protected)
