"""What became of everything that was asked during chaos, counted from the store and from both Prosodys.

House rules: nothing is taken from what the bridge says of itself; what was acknowledged must be there once, what has an
effect has it under one id.
"""

import asyncio
import dataclasses
import json
import re
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import aiohttp

from bridge.clients.prosody import ProsodyClient
from bridge.config import load_settings
from bridge.policy import record
from bridge.policy.decisions import Approval, Mitigation, MitigationState
from bridge.policy.record import Interaction, Way
from bridge.store import keys, load
from bridge.store.connect import close, open_store
from bridge.xep0268.model import Kind
from deploy.servers import Prosody
from tests.system.chaos_load import AWAY, HOST, Consumer, Peer
from tests.system.servers import Bridge, Store

PROGRESS_WITHIN_SECONDS = 20
UNDER_WAY = {"queued", "sent"}
FAULTY = (
    "lost",
    "doubled_records",
    "doubled_proposals",
    "doubled_mitigations",
    "second_ids",
    "unanswered",
    "undelivered",
    "unfinished",
    "wrong_errors",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figures:
    """What was counted after a run. `faulty` is what must be empty; the rest tells how much happened.

    Attributes:
        repeated: IQs sent again because there was no answer, or one that says later.
        again: stanzas and deliveries that came more than once, under the same id, which is allowed.
        under_way: sendings of ours that will be tried again later, because the peer could not be reached.
    """

    seed: int = 0
    faults: int = 0
    restarts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    last_answer_seconds: float = 0.0
    acknowledged: Mapping[str, int]
    repeated: int
    refusals: Mapping[str, int]
    silences: int
    again: int
    under_way: int
    lost: list[str]
    doubled_records: list[str]
    doubled_proposals: list[str]
    doubled_mitigations: list[str]
    second_ids: list[str]
    unanswered: list[str]
    undelivered: list[str]
    unfinished: list[str]
    wrong_errors: list[str]

    @property
    def faulty(self) -> dict[str, list[str]]:
        """What must not be."""
        return {name: found for name in FAULTY if (found := getattr(self, name))}

    def line(self) -> str:
        """All of it, for people."""
        counted = ", ".join(f"{name.replace('_', ' ')} {len(getattr(self, name))}" for name in FAULTY)
        asked = ", ".join(f"{name} {number}" for name, number in self.acknowledged.items())
        return (
            f"seed {self.seed}: {self.faults} faults, {sum(self.restarts.values())} restarts; acknowledged "
            f"{sum(self.acknowledged.values())} ({asked}), repeated {self.repeated}, without any answer "
            f"{self.silences}, again under the same id {self.again}, still under way {self.under_way}; "
            f"{counted}; last answer {self.last_answer_seconds:.1f} s after the end; refusals {dict(self.refusals)}"
        )


async def records(store: Store) -> list[record.Record]:
    """Every record there is, whether an index knows it or not."""
    opened = await open_store(f"unix://admin:admin@{store.socket}")
    try:
        found = [key async for key in opened.redis.scan_iter(match=f"{keys.PREFIX}r:*", count=1000)]
        names = sorted({keys.record_name(key.decode()) for key in found})
        wanted = [
            name for name in names if name.type in {"interaction", "incident", "approval", "mitigation"}
        ]
        fetched = await load.fetch(opened, names=wanted)
        return [one for one in fetched.records.values() if one is not None]
    finally:
        await close(opened)


async def events(store: Store) -> list[dict[str, Any]]:
    """Every webhook event of the host's stream."""
    opened = await open_store(f"unix://admin:admin@{store.socket}")
    try:
        return [event for _, event in await load.events(opened, HOST, after=0, limit=1_000_000)]
    finally:
        await close(opened)


async def in_force(bridge: Bridge, a: Prosody) -> list[Mapping[str, Any]]:
    """The mitigations that Prosody itself has."""
    host = dataclasses.replace(load_settings(bridge.config_path).hosts[HOST], api_url=a.url)
    async with aiohttp.ClientSession() as session:
        return await ProsodyClient({HOST: host}, session).mitigations(HOST)


async def count(store: Store, bridge: Bridge, a: Prosody, peer: Peer, consumer: Consumer) -> Figures:
    """Wait until nothing is left to do, then hold what was told against what is there."""
    acknowledged = {
        kind: {one.text for one in peer.asked if one.is_acknowledged and one.kind is kind} for kind in Kind
    }

    async def left() -> list[str]:
        return unfinished(await records(store), acknowledged[Kind.REQUEST])

    async def undelivered() -> list[str]:
        return [
            one for event in await events(store) if (one := event["data"]["event_id"]) not in consumer.came
        ]

    await _until_empty(left)
    await _until_empty(undelivered)
    found = await records(store)
    received = [one for one in found if isinstance(one, Interaction) and one.way is Way.RECEIVED]
    texts = Counter((one.kind, one.document.identity.text) for one in received)
    incidents = {one.identity.text: one for one in found if isinstance(one, record.Incident)}
    approvals = [one for one in found if isinstance(one, Approval)]
    mitigations = [one for one in found if isinstance(one, Mitigation)]
    sent = [one for one in found if isinstance(one, Interaction) and one.way is Way.SENT]
    prosodys = await in_force(bridge, a)
    stanzas = Stanzas(await peer.prosody.received())
    told = await events(store)
    tries = {(one.kind, one.text): one.tries for one in peer.asked}
    return Figures(
        acknowledged={str(kind): len(those) for kind, those in acknowledged.items() if those},
        repeated=sum(one.tries - 1 for one in peer.asked),
        refusals=peer.refusals,
        silences=peer.silences,
        again=stanzas.again + sum(number - 1 for number in consumer.came.values()),
        under_way=sum(one.state in UNDER_WAY for one in sent),
        lost=[
            *(f"report {one}" for one in acknowledged[Kind.REPORT] if one not in incidents),
            *(f"request {one}" for one in acknowledged[Kind.REQUEST] if not texts[Kind.REQUEST, one]),
            *(f"event of {one}" for one in _without_event(acknowledged, received, told)),
            *(f"mitigation {one}" for one in _not_in_force(mitigations, prosodys)),
        ],
        doubled_records=[
            *(f"{kind} {text} {number} times" for (kind, text), number in texts.items() if number > 1),
            *(f"{text}: editions" for text, one in incidents.items() if len(one.editions) > 1),
            *twice("incident", (one.identity.text for one in found if isinstance(one, record.Incident))),
            *twice("event", (_about(event) for event in told)),
        ],
        doubled_proposals=twice("proposal", (one.incident_id for one in approvals)),
        doubled_mitigations=[
            *twice("stored", (str(dict(one.target)) for one in mitigations)),
            *twice("in Prosody", (str(one.get("domain")) for one in prosodys)),
        ],
        second_ids=[
            *stanzas.under_second_ids(tries),
            *twice("response to", (str(one.answers) for one in sent if one.kind is Kind.RESPONSE)),
            *(
                f"unknown event {one}"
                for one in consumer.came
                if one not in {each["data"]["event_id"] for each in told}
            ),
        ],
        unanswered=[f"{one.kind} {one.text}" for one in peer.asked if not one.is_acknowledged],
        undelivered=await undelivered(),
        unfinished=await left(),
        wrong_errors=[name for name in peer.refusals if name.rpartition("/")[2] not in AWAY],
    )


def unfinished(found: list[record.Record], requests: set[str]) -> list[str]:
    """What still has to be decided, carried out or told; what waits for its next attempt is not."""
    received = [one for one in found if isinstance(one, Interaction) and one.way is Way.RECEIVED]
    answers = {one.answers for one in found if isinstance(one, Interaction) and one.way is Way.SENT}
    return [
        *(
            f"{one.kind} {one.document.identity.text} is {one.state}"
            for one in received
            if one.state == "stored"
        ),
        *(
            f"mitigation {dict(one.target)} is {one.state}"
            for one in found
            if isinstance(one, Mitigation) and one.state is not MitigationState.APPLIED
        ),
        *(
            f"request {one.document.identity.text} has no response"
            for one in received
            if one.kind is Kind.REQUEST and one.document.identity.text in requests and one.id not in answers
        ),
    ]


class Stanzas:
    """What b.test was sent, by the id and by what it is about."""

    def __init__(self, xmls: list[str]) -> None:
        ids: dict[tuple[str, str], set[str]] = defaultdict(set)
        seen: Counter[str] = Counter()
        for xml in xmls:
            head, _, body = xml.partition(">")
            [iq_id] = re.findall(r"""\sid=["']([^"']+)""", head)
            seen[iq_id] += 1
            kind = re.match(r"<(report|response)\b", body)
            text = re.search(r"<IncidentID[^>]*>([^<]+)", body)
            if kind and text:
                ids[kind[1], text[1]].add(iq_id)
        self.ids = ids
        self.again = seen.total() - len(seen)

    def under_second_ids(self, tries: Mapping[tuple[Kind, str], int]) -> list[str]:
        """What had one cause and came under several ids; an inquiry is answered anew each time it is asked."""
        return [
            f"{kind} {text} under {sorted(ids)}"
            for (kind, text), ids in self.ids.items()
            if len(ids) > (tries.get((Kind.INQUIRY, text), 0) if kind == "report" else 1)
        ]


def twice(what: str, those: Iterable[str]) -> list[str]:
    """What is there more than once."""
    return [f"{what} {one} {number} times" for one, number in Counter(those).items() if number > 1]


def _about(event: Mapping[str, Any]) -> str:
    """What an event tells, without its id."""
    data = event["data"]
    about = data.get("interaction_id") or data.get("mitigation") or data
    return f"{event['type']} {json.dumps(about, sort_keys=True, default=str)}"


def _without_event(
    acknowledged: Mapping[Kind, set[str]], received: list[Interaction], told: list[dict[str, Any]]
) -> list[str]:
    """What was acknowledged, and no consumer will be told of it."""
    known = {event["data"].get("interaction_id") for event in told}
    texts = acknowledged[Kind.REPORT] | acknowledged[Kind.REQUEST]
    return [
        one.document.identity.text
        for one in received
        if one.document.identity.text in texts and one.id not in known
    ]


def _not_in_force(mitigations: list[Mitigation], prosodys: list[Mapping[str, Any]]) -> list[str]:
    """What is recorded as applied and not there, and the reverse."""
    recorded = {one.id for one in mitigations if one.state is MitigationState.APPLIED}
    there = {str(one["mitigation"]) for one in prosodys}
    return sorted(recorded ^ there)


async def _until_empty(what: Callable[[], Awaitable[list[str]]]) -> None:
    """Wait for it as long as it gets less; the count names what is left."""
    least, deadline = len(await what()), time.monotonic() + PROGRESS_WITHIN_SECONDS
    while least and time.monotonic() < deadline:
        await asyncio.sleep(0.5)  # each look reads everything
        left = len(await what())
        if left < least:
            least, deadline = left, time.monotonic() + PROGRESS_WITHIN_SECONDS
