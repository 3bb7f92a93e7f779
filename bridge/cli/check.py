"""`check`: is everything as it must be, and if not, what to type.

House rule: every bad finding carries its cure; the checks run even where an earlier one failed, as far as they can.
"""

import argparse
import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from types import SimpleNamespace

import aiohttp

from bridge.cli.arguments import NO_FILE, Commands, command
from bridge.cli.output import Exit, Terminal, count, moment
from bridge.cli.services import ready_problem
from bridge.cli.stored import opened
from bridge.clients.prosody import ProsodyClient
from bridge.config import Settings, load_settings
from bridge.errors import BridgeError, ConfigError, UnavailableError
from bridge.log import visible
from bridge.pipeline.feeds import listed
from bridge.policy.feed_record import Feed
from bridge.store import load
from bridge.store.connect import Store, check_durability
from bridge.store.place import at
from bridge.store.rebuild import rebuild_indexes
from bridge.store.sentinel import Servers
from bridge.webhooks.signature import TOLERANCE_SECONDS

_NOTABLE_OFFSET_SECONDS = 30
_OTHERS_MAY_READ = 0o004
_MIB = 1024 * 1024
_WORKER_SEEN_SECONDS = 30
_REPLICAS = 2
_UNREAD_FOR = timedelta(days=1)
_FIX_CLOCK = "timedatectl set-ntp true   (on whichever machine is wrong)"
_ENABLE_MODULE = 'modules_enabled = { "incident_bridge" } for that host, then: prosodyctl restart'
_FIX_SET_ASIDE = """\
incident-bridge incidents show ID   (the workers' log says which: "set aside")
report it as a bug, with the document: incident-bridge incidents export ID --form original"""
_LOAD_MODULE = "prosodyctl shell module load incident_bridge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at; `code` is what it alone would make the command exit with."""

    what: str
    text: str
    code: Exit = Exit.OK
    fix: str = ""


def add(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Declare the command."""
    parser = command(
        commands, common, "check", check, "check configuration, store and the link to each host's Prosody"
    )
    parser.add_argument(
        "--rebuild-indexes",
        action="store_true",
        help="first make the store's indexes what its records say; all else may go on meanwhile",
    )


def check(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Look at everything and say what to type for each thing that is wrong."""
    settings = load_settings(arguments.config)
    findings = asyncio.run(_all(settings, rebuild=arguments.rebuild_indexes))
    code = max(finding.code for finding in findings)
    if terminal.is_json:
        terminal.json({"ok": code == Exit.OK, "findings": [asdict(finding) for finding in findings]})
        return code
    width = max(len(finding.what) for finding in findings)
    for finding in findings:
        mark = "ok " if finding.code == Exit.OK else "BAD"
        shown = terminal.marked(mark, "good" if finding.code == Exit.OK else "bad")
        terminal.line(f"{shown}  {visible(finding.what):{width}}  {visible(finding.text)}")
        for line in finding.fix.splitlines():
            terminal.line(f"{'':{width + 5}}  → {visible(terminal.advice(line))}")
    bad = sum(finding.code != Exit.OK for finding in findings)
    terminal.say("\nEverything is as it must be." if not bad else f"\n{count(bad, 'thing')} to repair.")
    return code


async def _all(settings: Settings, *, rebuild: bool) -> list[Finding]:
    findings = configuration(settings)
    findings += await _store(settings, rebuild=rebuild)
    problem = await asyncio.to_thread(ready_problem, settings.server.ingest_listen)
    findings.append(_service(settings, problem))
    for host in settings.hosts:
        findings += [finding async for finding in _prosody(settings, host)]
    return findings


def configuration(settings: Settings) -> list[Finding]:
    """What the settings themselves show."""
    hosts = ", ".join(settings.hosts)
    found = [
        Finding(
            what="configuration", text=f"{settings.path or 'defaults, no file'}; hosts: {hosts or 'none'}"
        )
    ]
    if not settings.hosts:
        found.append(
            Finding(
                what="hosts",
                text="none is configured, so no Prosody can send anything here",
                code=Exit.USAGE,
                fix=NO_FILE
                if settings.path is None
                else 'add a [hosts."example.org"] table; its keys: incident-bridge config default',
            )
        )
    path = settings.path
    if path and path.stat().st_mode & _OTHERS_MAY_READ and b"whsec_" in path.read_bytes():
        text = f"every user of this machine may read the secrets in {path}"
        found.append(Finding(what="secrets", text=text, code=Exit.NO, fix=f"chmod o-r {path}"))
    found += [
        Finding(
            what=f"rotation {name}",
            text="two secrets are accepted; remove the old one when Prosody has the new",
        )
        for name, host in settings.hosts.items()
        if len(host.secrets) > 1
    ]
    return found


async def _store(settings: Settings, *, rebuild: bool) -> list[Finding]:
    try:
        async with opened(settings) as store:
            rebuilt = [await _indexes(store)] if rebuild else []
            return rebuilt + await _open_store(store, settings)
    except UnavailableError as error:
        fix = "incident-bridge up" if settings.is_embedded else "start it, or correct store.url"
        return [Finding(what="store", text=str(error), code=Exit.UNREACHABLE, fix=fix)]
    except ConfigError as error:
        first, *rest = str(error).splitlines()
        return [
            Finding(what="store", text=first, code=Exit.USAGE, fix="\n".join(line.strip() for line in rest))
        ]


async def _indexes(store: Store) -> Finding:
    return Finding(what="indexes", text=f"rebuilt from {count(await rebuild_indexes(store), 'record')}")


async def _open_store(store: Store, settings: Settings) -> list[Finding]:
    durability = await check_durability(store, durability=settings.store.durability)
    health = await load.health(store)
    kind = "embedded" if settings.is_embedded else "configured"
    most = f" of {health.max_bytes / _MIB:.0f}" if health.max_bytes else ""
    used = f"{health.used_bytes / _MIB:.1f}{most} MiB used"
    kept = {
        "disk": "everything acknowledged is on disk",
        "memory": "durability = memory: a crash of the store loses incidents",
        "assumed": "durability = assumed: not checked, you vouch for it",
    }[durability.mode]
    found = [Finding(what="store", text=f"{kind}; {kept}; {used}")]
    if store.sentinels is not None:
        found.append(servers(await store.sentinels.servers()))
    for queue, age_seconds in health.workers_seen.items():
        is_seen = age_seconds is not None and age_seconds <= _WORKER_SEEN_SECONDS
        waiting = f"{count(health.lanes[queue].items, 'item')} waiting"
        text = f"running; {waiting}" if is_seen else f"none is running; {waiting}"
        code = Exit.OK if is_seen else Exit.UNREACHABLE
        fix = "" if is_seen else f"incident-bridge worker {queue}   (incident-bridge up starts all of them)"
        found.append(Finding(what=f"worker {queue}", text=text, code=code, fix=fix))
    if health.set_aside:
        text = f"{count(health.set_aside, 'item')} set aside, because workers died of it"
        found.append(Finding(what="set aside", text=text, code=Exit.NO, fix=_FIX_SET_ASIDE))
    for host in settings.hosts:
        feeds = await listed(store, host)
        found += [one for feed in feeds if (one := unread(feed, now=datetime.now(UTC))) is not None]
    return found


def unread(feed: Feed, *, now: datetime) -> Finding | None:
    """That a list of others could not be read for long; None: it could."""
    since = feed.read_at or feed.added_at
    if now - since < _UNREAD_FOR:
        return None
    why = f": {feed.problem}" if feed.problem else ""
    text = f"{feed.url} could not be read since {moment(since)}{why}"
    fix = f"mend it, or: incident-bridge feeds remove {feed.id}"
    return Finding(what=f"feed {feed.host}", text=text, code=Exit.NO, fix=fix)


def servers(known: Servers) -> Finding:
    """Who is the primary, who follows, and whether another fault may come."""
    well = [at(one.address) for one in known.replicas if one.is_up and one.is_following]
    bad = [at(one.address) for one in known.replicas if not (one.is_up and one.is_following)]
    text = f"primary {at(known.primary)}; replicas: {', '.join(well) or 'none'}"
    text += f"; not following: {', '.join(bad)}" if bad else ""
    text += f"; {known.answering} of {count(known.asked, 'sentinel')} answer"
    fixes = [
        f"on {one}: systemctl restart redis-server   (its log says why it does not follow)" for one in bad
    ]
    if known.answering < known.asked:
        fixes.append("systemctl restart redis-sentinel   (where it does not answer)")
    if len(known.replicas) < _REPLICAS:
        fixes.append(f"add a replica: with fewer than {_REPLICAS}, nothing is stored while one is away")
    return Finding(what="sentinel", text=text, code=Exit.NO if fixes else Exit.OK, fix="\n".join(fixes))


def _service(settings: Settings, problem: str | None) -> Finding:
    address = settings.server.ingest_listen
    if problem is None:
        return Finding(what="service", text=f"ready for Prosody at http://{address}")
    fix = "incident-bridge up   (or: incident-bridge serve)" if "nothing answers" in problem else ""
    return Finding(what="service", text=problem, code=Exit.UNREACHABLE, fix=fix)


async def _prosody(settings: Settings, host: str) -> AsyncIterator[Finding]:
    """Ask a host's Prosody to describe itself; its answer's Date header tells the offset of the clocks."""
    dates: list[str] = []

    async def note(_: aiohttp.ClientSession, __: SimpleNamespace, end: aiohttp.TraceRequestEndParams) -> None:
        dates.append(end.response.headers.get("Date", ""))

    trace = aiohttp.TraceConfig()
    trace.on_request_end.append(note)
    what = f"prosody {host}"
    try:
        async with aiohttp.ClientSession(trace_configs=[trace]) as session:
            described = await ProsodyClient(settings.hosts, session).describe(host)
    except BridgeError as error:
        url = settings.hosts[host].api_url
        fix = (
            f"is Prosody running, with its HTTP server at {url}? Then: {_ENABLE_MODULE}, or: {_LOAD_MODULE} {host}"
            if not dates
            else ""
        )
        yield Finding(what=what, text=str(error), code=Exit.UNREACHABLE, fix=fix)
    else:
        versions = f"Prosody {described.get('prosody_version')}, module {described.get('module_version')}"
        admins = count(len(described.get("admins") or []), "admin")
        yield Finding(what=what, text=f"{versions}, {admins}; signatures agree")
        if settings.hosts[host].publish_lists:
            yield _lists(host, described.get("capabilities") or [])
    offset = clock_offset(dates[-1], datetime.now(UTC)) if dates else None
    if offset is not None:
        yield _clock(f"clock {host}", offset)


def _lists(host: str, capabilities: Sequence[str]) -> Finding:
    if "list.publish" in capabilities:
        return Finding(what=f"lists {host}", text="published by HTTP and on pubsub nodes")
    fix = f'incident_bridge_lists = true for VirtualHost "{host}", if others are to subscribe to them'
    return Finding(what=f"lists {host}", text="published by HTTP only", fix=fix)


def clock_offset(date: str, now: datetime) -> float | None:
    """How many seconds a `Date` header is ahead of `now`; whole seconds, None if it cannot be read."""
    try:
        stated = parsedate_to_datetime(date)
    except (ValueError, TypeError):
        return None
    stated = stated if stated.tzinfo else stated.replace(tzinfo=UTC)
    return round((stated - now.replace(microsecond=0)).total_seconds())


def _clock(what: str, offset: float) -> Finding:
    text = f"Prosody's clock is {abs(offset):.0f} s {'ahead of' if offset > 0 else 'behind'} ours"
    if abs(offset) >= TOLERANCE_SECONDS:
        text += f"; beyond {TOLERANCE_SECONDS} s no signature is accepted"
        return Finding(what=what, text=text, code=Exit.NO, fix=_FIX_CLOCK)
    if abs(offset) >= _NOTABLE_OFFSET_SECONDS:
        return Finding(what=what, text=text, fix=_FIX_CLOCK)
    return Finding(what=what, text="the clocks agree" if abs(offset) <= 1 else text)
