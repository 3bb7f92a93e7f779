"""Charts: incidents over time, by peer and by kind of abuse, each with the same numbers as a table.

House rule: times and peers are counted by the indexes, whatever there is; kinds stand in documents only, so they are
counted among the newest, and the page says so.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from aiohttp import web
from markupsafe import Markup

from bridge.policy.lookalike import with_ascii
from bridge.policy.record import Incident, Interaction
from bridge.policy.words import count
from bridge.store import keys, load
from bridge.web.console import charts, find
from bridge.web.console.charts import Bar
from bridge.web.console.guard import Visit, get

PERIODS: Final[Mapping[str, tuple[str, int, int]]] = {  # shown, how many columns, days in each
    "month": ("30 days", 30, 1),
    "quarter": ("13 weeks", 13, 7),
    "year": ("52 weeks", 52, 7),
}
_SHOWN: Final = 12
_MOST_PEERS: Final = 2000
_NEWEST: Final = 300
_AT_ONCE: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One picture, and its numbers; `remark` says what they do not tell."""

    title: str
    what: str
    picture: Markup
    bars: tuple[Bar, ...]
    remark: str = ""


async def show(visit: Visit) -> web.Response:
    """Show the charts of a period."""
    period = visit.query("period") if visit.query("period") in PERIODS else "month"
    hosts = [visit.query("host")] if visit.query("host") in visit.hosts else list(visit.hosts)
    _, columns, days = PERIODS[period]
    spans = _spans(visit.now, columns, timedelta(days=days))
    by_time = await _by_time(visit, hosts, spans)
    made = [
        _over_time(by_time, days=days),
        await _by_peer(visit, hosts, spans[0][0]),
        await _by_kind(visit, hosts, spans[0][0]),
    ]
    return visit.page(
        "figures.html",
        title="Charts",
        charts=made,
        total=sum(bar.value for bar in by_time),
        periods=PERIODS,
        period=period,
        chosen=hosts[0] if len(hosts) == 1 else "",
        has_several_hosts=len(visit.hosts) > 1,
    )


def _spans(now: datetime, number: int, each: timedelta) -> list[tuple[datetime, datetime]]:
    """The columns, the last of which ends with today in UTC."""
    end = datetime.combine(now.astimezone(UTC).date(), datetime.min.time(), UTC) + timedelta(days=1)
    return [(end - each * (number - n), end - each * (number - n - 1)) for n in range(number)]


async def _by_time(
    visit: Visit, hosts: Sequence[str], spans: Sequence[tuple[datetime, datetime]]
) -> tuple[Bar, ...]:
    wanted = [(keys.incidents_made(host), start, end) for start, end in spans for host in hosts]
    counts = iter(await load.between(visit.store, wanted))
    return tuple(
        Bar(label=start.strftime("%d %b %Y"), value=sum(next(counts) for _ in hosts)) for start, _ in spans
    )


def _over_time(bars: tuple[Bar, ...], *, days: int) -> Chart:
    unit = "day" if days == 1 else "week"
    total, most = sum(bar.value for bar in bars), max(bars, key=lambda bar: bar.value)
    text = f"{count(total, 'incident')}; the most in a {unit}: {most.value}, {most.label}."
    title = f"Incidents a {unit}"
    picture = charts.columns(bars, name="over-time", title=title, text=text)
    what = "Day (UTC)" if days == 1 else "Week from"
    return Chart(title=title, what=what, picture=picture, bars=tuple(reversed(bars)))


async def _by_peer(visit: Visit, hosts: Sequence[str], since: datetime) -> Chart:
    """Count what each peer reported, or told more about, in the period."""
    end = visit.now + timedelta(days=1)
    wanted: list[tuple[str, datetime, datetime]] = []
    names: list[str] = []
    is_cut = False
    for host in hosts:
        seen = await load.page(visit.store, keys.peers(host), limit=_MOST_PEERS)
        is_cut = is_cut or (len(seen) == _MOST_PEERS and seen[-1][1] >= keys.milliseconds(since))
        lately = [domain for domain, score in seen if score >= keys.milliseconds(since)]
        for domain in (*lately, host):
            wanted.append((keys.incidents_of_reporter(host, domain), since, end))
            names.append("this host" if domain == host else with_ascii(domain))
    found: Counter[str] = Counter()
    for name, number in zip(names, await load.between(visit.store, wanted), strict=True):
        found[name] += number
    remark = f"Of the {_MOST_PEERS} peers that were seen last." if is_cut else ""
    return _ranked(found, name="by-peer", title="By who reported them", what="Server", remark=remark)


async def _by_kind(visit: Visit, hosts: Sequence[str], since: datetime) -> Chart:
    """Count the impacts that the newest incidents' documents state."""
    entries: list[tuple[str, int]] = []
    for host in hosts:
        entries += await load.page(visit.store, keys.incidents_made(host), limit=_NEWEST)
    entries.sort(key=lambda one: one[1], reverse=True)
    ids = [member for member, score in entries[:_NEWEST] if score >= keys.milliseconds(since)]
    found: Counter[str] = Counter()
    for at in range(0, len(ids), _AT_ONCE):
        records = await find.records(visit.store, map(keys.incident, ids[at : at + _AT_ONCE]))
        current = [one.current.interaction_id for one in records if isinstance(one, Incident)]
        told = await find.records(visit.store, map(keys.interaction, current))
        found.update(kind for one in told if isinstance(one, Interaction) for kind in _kinds(one))
    remark = f"Of the newest {_NEWEST} of the period." if len(ids) == _NEWEST else ""
    return _ranked(found, name="by-kind", title="By kind of abuse", what="Impact", remark=remark)


def _kinds(one: Interaction) -> Iterable[str]:
    """The kinds of abuse that a document states, each once; what it calls unknown is not said."""
    stated = dict.fromkeys(impact.type for impact in one.document.impacts if impact.type != "unknown")
    return stated or ("not said",)


def _ranked(found: Counter[str], *, name: str, title: str, what: str, remark: str) -> Chart:
    """The most frequent, and all others together."""
    ordered = [(label, number) for label, number in found.most_common() if number]
    bars = [Bar(label=label, value=number) for label, number in ordered[:_SHOWN]]
    others = ordered[_SHOWN:]
    if others:
        bars.append(
            Bar(label=count(len(others), "other", "others"), value=sum(number for _, number in others))
        )
    text = "; ".join(f"{bar.label}: {bar.value}" for bar in bars) or "There are none."
    picture = charts.ranked(bars, name=name, title=title, text=text)
    return Chart(title=title, what=what, picture=picture, bars=tuple(bars), remark=remark)


def routes() -> list[web.RouteDef]:
    """Return the route of the charts."""
    return [get("/charts", show)]
