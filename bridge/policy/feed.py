"""Lists of others that a host subscribes to: what they name is a claim, from which nothing follows by itself.

House rules: each name keeps which lists say so and since when; what an operator withholds is never proposed; what is
blocked because lists named it counts for no list of ours, or servers that read each other would agree for ever.
"""

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from bridge.errors import ConfigError, MalformedError
from bridge.policy.compare import MAX_LINES, UNDECIDED, domains_of, standing
from bridge.policy.decisions import Mitigation
from bridge.policy.feed_record import NODE_QUERY, Feed, FeedNames
from bridge.policy.lookalike import ascii_form
from bridge.policy.publish import Published
from bridge.webhooks.subscription import Network, check_url
from bridge.xmpp.jid import Jid, prep_domain, shown

MAX_FEEDS: Final = 20
"""So many a host subscribes to at most."""
MAX_NAMES: Final = 5000
"""So many names of a feed are kept; the rest is counted."""
MAX_PROPOSALS: Final = 500
READ_AGAIN_SECONDS: Final = {"http": 3600, "https": 3600, "xmpp": 60}
"""How long a feed that could be read is not asked again; a node's changes come by themselves as far as Prosody."""
LOADING_SECONDS: Final = 5
FAILED_SECONDS: Final = 300
_MAX_NODE_BYTES: Final = 1023
_PAGE: Final = re.compile(r"https?://[^/?#]", re.IGNORECASE)
_HASH_CHARACTERS: Final = 64
_HASH: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """The names in a list that was read, at most `MAX_NAMES`."""

    names: frozenset[str]
    bad: int = 0
    left_out: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """That one feed names it, and since when as far as is known here."""

    url: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A domain that feeds name.

    Attributes:
        by: the feeds that name it.
        voices: how many publishers these have, see `voices`.
        standing: what is decided about it here, as in `compare.standing`; "": nothing yet.
        reports: how many reports of our own users are about it, and wait.
    """

    domain: str
    by: tuple[Claim, ...]
    voices: int = 1
    standing: str = ""
    reports: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LetGo:
    """A block that follows from feeds, which speak for it less than they did: with fewer publishers than are needed."""

    mitigation_id: str
    domain: str
    by: tuple[Claim, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposals:
    """What a host's feeds propose now.

    Attributes:
        quorum: how many publishers must name a domain, see `voices`.
        found: those that are named by so many, what is not decided first.
        fewer: how many undecided domains fewer of them name.
        let_go: blocks that feeds no longer speak for.
        left_out: how many more are proposed than `MAX_PROPOSALS`.
    """

    quorum: int
    found: tuple[Proposal, ...] = ()
    fewer: int = 0
    let_go: tuple[LetGo, ...] = ()
    left_out: int = 0


def checked_url(text: str, *, own: Collection[str], allow_http: bool, allowed: Sequence[Network] = ()) -> str:
    """Check where a list is, and write it in one way.

    Args:
        text: as somebody typed it.
        own: our names; a list of theirs is no list of others.
        allow_http: see `webhooks.subscription.check_url`.
        allowed: see there.

    Raises:
        ConfigError: it is no such address, and what one looks like.
    """
    text = text.strip()
    if _PAGE.match(text):
        try:
            url = check_url(text, allow_http=allow_http, allowed=allowed)
        except MalformedError as error:
            raise ConfigError(f"the list cannot be read from there: {error.rule}") from None
        _see_that_it_is_others(urlsplit(url).hostname or "", own)
        return url
    if not text.casefold().startswith("xmpp:"):
        raise ConfigError(
            f"'{shown(text)}' is not where a list can be read: https://… or xmpp:SERVICE?;node=NODE"
        )
    service, _, node = text[len("xmpp:") :].partition(NODE_QUERY)
    try:
        jid = Jid.parse(unquote(service, errors="strict"))
        node = unquote(node, errors="strict")
    except (MalformedError, UnicodeDecodeError):
        raise ConfigError(f"'{shown(text)}' names no service: xmpp:SERVICE?;node=NODE") from None
    if not 0 < len(node.encode(errors="replace")) <= _MAX_NODE_BYTES or not node.isprintable():
        raise ConfigError(f"'{shown(text)}' names no node: xmpp:SERVICE?;node=NODE")
    _see_that_it_is_others(jid.domain, own)
    return f"xmpp:{quote(jid.bare, safe='@.-_~')}{NODE_QUERY}{quote(node, safe=':/.-_~#')}"


def _see_that_it_is_others(name: str, own: Collection[str]) -> None:
    names = {ascii_form(one) for one in own}
    if any(ascii_form(name) == one or ascii_form(name).endswith(f".{one}") for one in names):
        raise ConfigError(f"{shown(name)} is this server itself; subscribe to lists of others")


def read_names(lines: Iterable[str]) -> Names:
    """Read what a list names: a domain, a bare JID or a SHA-256 a line; what follows a # does not count."""
    found: dict[str, None] = {}
    bad = left_out = 0
    for number, line in enumerate(lines):
        word = line.partition("#")[0].strip()
        if not word:
            continue
        name = _name(word) if number < MAX_LINES else None
        if name is None:
            bad += number < MAX_LINES
            left_out += number >= MAX_LINES
        elif len(found) < MAX_NAMES:
            found[name] = None
        elif name not in found:
            left_out += 1
    return Names(names=frozenset(found), bad=bad, left_out=left_out)


def _name(word: str) -> str | None:
    if _HASH.fullmatch(word.lower()):
        return word.lower()
    local, at, domain = word.rpartition("@")
    word = f"{local}{at}{_unicode(domain)}"
    try:
        return Jid.parse(word).bare if at else prep_domain(word)
    except MalformedError:
        return None


def _unicode(domain: str) -> str:
    """A domain as XMPP has it, with U-labels where a list has A-labels (RFC 5890 §2.3.2.1)."""
    labels = domain.lower().split(".")
    if not any(label.startswith("xn--") and label.isascii() for label in labels):
        return domain
    try:
        return ".".join(label.encode("ascii").decode("idna") for label in labels)
    except UnicodeError:
        return domain


def was_read(
    feed: Feed, before: FeedNames | None, names: Names | None, *, mark: str, now: datetime
) -> tuple[Feed, FeedNames | None]:
    """Note that a feed was read.

    Args:
        feed: as stored.
        before: what it named before.
        names: what it names; None: the same as before, as its server says.
        mark: by which its server knows it.
        now: the time.

    Returns:
        The feed, and what it names now if that is another list than before.
    """
    after = replace(feed, problem="", mark=mark, read_at=now, due_at=_later(feed, now))
    if names is None:
        return after, None
    known = {} if before is None else before.since
    after = replace(after, names=len(names.names), bad=names.bad, left_out=names.left_out)
    if before is not None and known.keys() == names.names:
        return after, None
    seconds = int(now.timestamp())
    since = {name: known.get(name, seconds) for name in sorted(names.names)}
    version = 0 if before is None else before.version
    return replace(after, changed_at=now), FeedNames(feed_id=feed.id, since=since, version=version)


def _later(feed: Feed, now: datetime) -> datetime:
    return now + timedelta(seconds=READ_AGAIN_SECONDS[feed.scheme])


def failed(feed: Feed, problem: str, *, now: datetime) -> Feed:
    """Note that it could not be read; what it named before stands."""
    return replace(feed, problem=problem, due_at=now + timedelta(seconds=FAILED_SECONDS))


def claims(lists: Mapping[str, Mapping[str, int]], address: str) -> tuple[Claim, ...]:
    """Which feeds name an address, an account also by its whole server; in the open or by its hash.

    Args:
        lists: what each feed names and since when, by its URL.
        address: a domain or a bare JID, prepared.
    """
    domain = address.rpartition("@")[2]
    names = {address, domain, _hashed(address), _hashed(domain)}
    return _claims((url, since[name]) for url, since in lists.items() for name in names if name in since)


def _claims(found: Iterable[tuple[str, int]]) -> tuple[Claim, ...]:
    """One for each feed, since it first named any of the names."""
    first: dict[str, int] = {}
    for url, seconds in found:
        first[url] = min(seconds, first.get(url, seconds))
    return tuple(Claim(url=url, since=datetime.fromtimestamp(seconds, UTC)) for url, seconds in first.items())


def _hashed(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def proposals(
    lists: Mapping[str, Mapping[str, int]],
    *,
    publisher: Mapping[str, str],
    quorum: int,
    own: Collection[str],
    known: Published,
    active: Iterable[Mitigation],
    reports: Mapping[str, int],
    trusted: Collection[str],
    protected: Collection[str],
) -> Proposals:
    """Work out what feeds propose.

    Args:
        lists: what each feed names and since when, by its URL.
        publisher: who answers for each, by its URL.
        quorum: how many publishers must agree, see `voices`.
        own: our hosts, which nobody blocks.
        known: what this one lists and withholds.
        active: its mitigations in force.
        reports: by domain, how many reports of its users wait; feeds may name these by their hash.
        trusted: the domains of its trusted peers.
        protected: domains and bare JIDs that need a second yes.
    """
    said, second = known.said, domains_of(protected)
    blocked = {one.target["domain"]: one for one in active if "domain" in one.target}
    by = _by_domain(lists, {*reports, *blocked})
    enough: list[Proposal] = []
    fewer = 0
    for domain, found in by.items():
        stands = "blocked" if domain in blocked else standing(domain, own, said, trusted, second)
        speaking = voices(publisher[url] for url, _ in found)
        if speaking < quorum:
            fewer += stands in UNDECIDED
        else:
            who = _claims(found)
            enough.append(
                Proposal(
                    domain=domain, by=who, voices=speaking, standing=stands, reports=reports.get(domain, 0)
                )
            )
    enough.sort(key=_order)
    return Proposals(
        quorum=quorum,
        found=tuple(enough[:MAX_PROPOSALS]),
        fewer=fewer,
        let_go=tuple(_let_go(blocked, by, publisher, quorum)),
        left_out=max(0, len(enough) - MAX_PROPOSALS),
    )


def _let_go(
    blocked: Mapping[str, Mitigation],
    by: Mapping[str, Sequence[tuple[str, int]]],
    publisher: Mapping[str, str],
    quorum: int,
) -> Iterator[LetGo]:
    """Those that fewer publishers speak for than did, and than are needed: one was enough where an operator said so."""
    for domain, one in sorted(blocked.items()):
        who = _claims(by.get(domain, ()))
        named = {each.url for each in who}
        spoke = voices(publisher.get(url, url) for url in one.feeds)
        is_dropped = any(url not in named for url in one.feeds)
        if is_dropped and voices(publisher[url] for url in named) < min(quorum, spoke):
            yield LetGo(mitigation_id=one.id, domain=domain, by=who)


def voices(publishers: Iterable[str]) -> int:
    """How many publishers these are; names of one domain are one: `lists.a.example`, `www.a.example`, `a.example`.

    Where it cannot be told, as with two people's names below one that is everybody's, they count once.
    """
    names = {_domain_of(ascii_form(name)) for name in publishers}
    return sum(not any(name.endswith(f".{other}") for other in names) for name in names)


def _domain_of(name: str) -> str:
    """The name without its first label, if that leaves a domain; an address stays as it is."""
    first, _, rest = name.partition(".")
    return name if "." not in rest or first.isdecimal() else rest


def _by_domain(
    lists: Mapping[str, Mapping[str, int]], known: Collection[str]
) -> dict[str, list[tuple[str, int]]]:
    """Which feeds name each domain and since when; those known here also by their hash."""
    hashes = {_hashed(domain): domain for domain in known}
    found: dict[str, list[tuple[str, int]]] = {}
    for url, since in lists.items():
        for name, seconds in since.items():
            if "@" in name:
                continue
            is_hash = len(name) == _HASH_CHARACTERS and _HASH.fullmatch(name)
            domain = hashes.get(name, "") if is_hash else name
            if domain:
                found.setdefault(domain, []).append((url, seconds))
    return found


def _order(one: Proposal) -> tuple[bool, int, int, str]:
    return one.standing not in UNDECIDED, -one.reports, -one.voices, one.domain
