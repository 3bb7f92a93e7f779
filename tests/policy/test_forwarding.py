"""Who else is told: the rules one by one, and several servers that all forward to each other."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import RefusedError
from bridge.iodef.model import IncidentId, Restriction
from bridge.policy import admit, decide
from bridge.policy.change import Change, Queue
from bridge.policy.disclosure import Inquiries
from bridge.policy.editions import add_edition
from bridge.policy.forwarding import correction_recipients, objection, recipients
from bridge.policy.outgoing import draft
from bridge.policy.record import Edition, Incident, Interaction, Notices, Peer, Quarantine, Way, incident_id
from bridge.policy.trust import Trust
from bridge.xep0268.model import Kind, Status
from bridge.xep0268.read import read
from bridge.xep0268.write import write
from bridge.xmpp import xml
from bridge.xmpp.stanza import IqType, read_iq, write_request

from .conftest import NOW, Rules, arrival_of, payload

IDENTITY = IncidentId(name="origin.test", text="1")


def incident(**changes: object) -> Incident:
    made = Incident(
        id="n1",
        host="a.test",
        reporter="b.test",
        identity=IDENTITY,
        status=Status.NEW,
        quarantined=False,
        severity=None,
        summary="",
        created_at=NOW,
        updated_at=NOW,
        editions=(Edition(interaction_id="i1", received_at=NOW, status=Status.NEW),),
        restriction=Restriction.NEED_TO_KNOW,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def report(**changes: object) -> Interaction:
    from bridge.iodef.model import Incident as Document

    made = draft(
        interaction_id="i1",
        host="a.test",
        to="b.test",
        kind=Kind.REPORT,
        payload=b"",
        document=Document(identity=IDENTITY),
        status=None,
        incident_id="n1",
        now=NOW,
    )
    return replace(made, way=Way.RECEIVED, **changes)  # type: ignore[arg-type]


def peer(domain: str, trust: Trust = Trust.TRUSTED, *, forwarded: bool = True) -> Peer:
    return Peer(host="a.test", domain=domain, trust=trust, is_forwarded_to=forwarded)


PEERS = [peer("c.test"), peer("b.test"), peer("origin.test"), peer("d.test")]


def test_a_report_goes_to_whom_the_operator_named_but_not_back_nor_to_its_origin() -> None:
    assert recipients(incident(), report(), PEERS, []) == ("c.test", "d.test")


@pytest.mark.parametrize(
    ("changes", "of_report"),
    [
        ({"restriction": Restriction.PRIVATE}, {}),
        ({"restriction": Restriction.DEFAULT}, {}),
        ({}, {"quarantined": True}),
        ({}, {"trust": Trust.STRANGER}),
    ],
)
def test_some_reports_go_nowhere(changes: dict[str, Any], of_report: dict[str, Any]) -> None:
    assert recipients(incident(**changes), report(**of_report), PEERS, []) == ()


def test_only_the_trusted_who_were_named_get_it() -> None:
    peers = [peer("c.test", Trust.STRANGER), peer("d.test", forwarded=False), peer("e.test", Trust.BLOCKED)]
    assert recipients(incident(), report(), peers, []) == ()


def test_who_reported_it_or_was_told_under_another_account_has_it() -> None:
    other = incident(id="n2", reporter="c.test", identity=replace(IDENTITY, name="Origin.Test"))
    told = incident(id="n3", reporter="x.test", told=("d.test",))
    another = incident(id="n4", reporter="y.test", told=("c.test",), identity=replace(IDENTITY, name="y"))
    assert recipients(incident(), report(), PEERS, [other]) == ("d.test",)
    assert recipients(incident(), report(), PEERS, [told]) == ("c.test",)
    assert recipients(incident(), report(), PEERS, [another]) == ("c.test", "d.test")


@given(st.lists(st.sampled_from(["b.test", "c.test", "d.test"]), unique=True), st.sampled_from(Restriction))
def test_a_correction_goes_to_exactly_those_who_got_the_report(
    told: list[str], restriction: Restriction
) -> None:
    to = correction_recipients(incident(told=tuple(told), restriction=restriction), report())
    if restriction is Restriction.PRIVATE:
        assert to == ()
    else:
        assert set(to) == set(told) - {"b.test"}
    assert correction_recipients(incident(told=tuple(told)), report(quarantined=True)) == ()


@given(
    domain=st.sampled_from(["b.test", "c.test", "origin.test"]),
    trust=st.sampled_from(Trust),
    restriction=st.sampled_from(Restriction),
    quarantined=st.booleans(),
    even_private=st.booleans(),
)
def test_by_hand_only_what_is_private_can_be_insisted_on(
    *,
    domain: str,
    trust: Trust,
    restriction: Restriction,
    quarantined: bool,
    even_private: bool,
) -> None:
    one = incident(restriction=restriction, quarantined=quarantined)
    why = objection(one, peer(domain, trust), [], even_private=even_private)
    may = (
        domain == "c.test"
        and trust is Trust.TRUSTED
        and not quarantined
        and (even_private or restriction in {Restriction.PUBLIC, Restriction.NEED_TO_KNOW})
    )
    assert (why is None) is may


@dataclass
class Server:
    """One server with this bridge: admission and decision as they are, a store of dictionaries."""

    host: str
    others: tuple[str, ...]
    incidents: dict[str, Incident] = field(default_factory=dict)
    interactions: dict[str, Interaction] = field(default_factory=dict)
    remembered: dict[str, str] = field(default_factory=dict)
    peers: dict[str, Peer] = field(default_factory=dict)
    clock: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        for domain in self.others:
            trusted = Peer(
                host=self.host, domain=domain, trust=Trust.TRUSTED, is_forwarded_to=True, asked_at=NOW
            )
            self.peers[domain] = trusted

    def take(self, batch: list[str], *, now: datetime) -> list[tuple[str, str]]:
        """Receive IQs, decide about them in one batch; what goes out is returned as (to, stanza)."""
        items = [item for stanza in batch for item in self._admit(stanza, now=now)]
        before = state = self._state()
        change = Change()
        for item in items:
            state, more = decide.decide(state, item, now=now)
            change += more
        self._store(change + Change(puts=decide.puts(before, state)))
        return [
            (sent.peer, self._stanza(sent))
            for append in change.appends
            if append.queue is Queue.OUTGOING and "send" in append.item
            for sent in [self.interactions[append.item["send"]]]
        ]

    def report(self, to: str, text: str, *, now: datetime) -> tuple[str, str]:
        """Report an incident of this host's own to one peer, as `originate` does."""
        source = payload("report", text="mine").replace("lots of MUC spammers from clueless.lit!", text)
        source = source.replace("name='jabber.org'", f"name='{self.host}'")
        iq = read_iq(xml.parse(f"<iq from='{self.host}' to='{to}' type='set' id='1'>{source}</iq>".encode()))
        written = write(
            Kind.REPORT,
            read(iq).tree,
            reported_at=now,
            contact=self.host,
            restriction=Restriction.NEED_TO_KNOW,
        )
        document = read(replace(iq, payload=written)).incident
        made = draft(
            interaction_id=f"{self.host[0]}-own-{next(self.clock)}",
            host=self.host,
            to=to,
            kind=Kind.REPORT,
            payload=xml.serialize(written),
            document=document,
            status=None,
            incident_id=incident_id(self.host, self.host, document.identity),
            now=now,
        )
        known = add_edition(self.incidents.get(made.incident_id), made)
        self.incidents[made.incident_id] = replace(known, told=tuple(dict.fromkeys((*known.told, to))))
        self.interactions[made.id] = made
        return to, self._stanza(made)

    def inquire(self, of: str, name: str) -> tuple[str, str]:
        identity = f"<IncidentID name='{name}'>mine</IncidentID>"
        inside = (
            f"<Incident xmlns='urn:ietf:params:xml:ns:iodef-1.0' purpose='traceback'>{identity}</Incident>"
        )
        inquiry = f"<inquiry xmlns='urn:xmpp:incident:2'>{inside}</inquiry>"
        return of, f"<iq from='{self.host}' to='{of}' type='get' id='q'>{inquiry}</iq>"

    def _admit(self, stanza: str, *, now: datetime) -> list[dict[str, Any]]:
        arrival = arrival_of(stanza.encode(), id=f"{self.host[0]}{next(self.clock)}")
        state = admit.State(
            host=self.host,
            rules=Rules(inquiries=Inquiries.TRUSTED),
            peers=dict(self.peers),
            buckets={},
            quarantine=Quarantine(host=self.host),
            remembered=self.remembered,
            fill=0,
        )
        try:
            _, change = admit.admit(state, arrival, now=now)
        except RefusedError:
            return []
        self._store(change)
        return [append.item for append in change.appends if append.queue is Queue.INCIDENTS]

    def _state(self) -> decide.State:
        accounts: dict[str, tuple[str, ...]] = {}
        for one in self.incidents.values():
            accounts[one.identity.text] = (*accounts.get(one.identity.text, ()), one.id)
        known: dict[str, Incident | None] = {
            one.incident_id: self.incidents.get(one.incident_id) for one in self.interactions.values()
        }
        return decide.State(
            host=self.host,
            rules=Rules(inquiries=Inquiries.TRUSTED),
            incidents={**known, **self.incidents},
            interactions=dict(self.interactions),
            peers=dict(self.peers),
            notices=Notices(host=self.host),
            accounts=accounts,
            forward_to=self.others,
        )

    def _store(self, change: Change) -> None:
        for put in change.puts:
            match put.after:
                case Incident():
                    self.incidents[put.after.id] = put.after
                case Interaction():
                    self.interactions[put.after.id] = put.after
                case Peer():
                    self.peers[put.after.domain] = put.after
        for mark in change.marks:
            one = self.interactions[mark.interaction_id]
            self.interactions[one.id] = replace(one, state=mark.state)
        for remember in change.remembers:
            assert remember.name not in self.remembered
            self.remembered[remember.name] = remember.value

    def _stanza(self, sent: Interaction) -> str:
        text = write_request(IqType.SET, to=sent.peer, id=sent.iq_id, payload=xml.parse(sent.original or b""))
        return text.replace("<iq ", f"<iq from='{self.host}' ", 1)


NAMES = ("a.test", "b.test", "c.test", "d.test")


def network(size: int) -> dict[str, Server]:
    hosts = NAMES[:size]
    return {host: Server(host, tuple(one for one in hosts if one != host)) for host in hosts}


def run(
    servers: dict[str, Server], wire: list[tuple[str, str]], *, pick: st.DataObject | None, most: int
) -> list[tuple[str, str]]:
    """Deliver everything, in any order if `pick` chooses, several to one server at once; returns what was sent."""
    sent = list(wire)
    now = NOW
    while wire:
        now += timedelta(seconds=1)
        place = 0 if pick is None else pick.draw(st.integers(0, len(wire) - 1))
        to = wire[place][0]
        together = 1 if pick is None else pick.draw(st.integers(1, 3))
        batch = [one for one in wire if one[0] == to][:together]
        for one in batch:
            wire.remove(one)
        out = servers[to].take([stanza for _, stanza in batch], now=now)
        wire += out
        sent += out
        assert len(sent) <= most, "it goes round and round"
    return sent


def test_three_servers_that_all_forward_tell_each_other_once() -> None:
    servers = network(3)
    first = servers["a.test"].report("b.test", "first", now=NOW)
    sent = run(servers, [first], pick=None, most=10)
    assert [to for to, _ in sent] == ["b.test", "c.test"]


def test_a_correction_takes_the_same_way() -> None:
    servers = network(3)
    run(servers, [servers["a.test"].report("b.test", "first", now=NOW)], pick=None, most=10)
    later = NOW + timedelta(hours=1)
    sent = run(servers, [servers["a.test"].report("b.test", "second", now=later)], pick=None, most=10)
    assert [to for to, _ in sent] == ["b.test", "c.test"]
    (at_c,) = servers["c.test"].incidents.values()
    assert (at_c.status, at_c.summary, at_c.reporter) == (Status.UPDATED, "second", "b.test")


def test_two_accounts_in_one_batch_are_forwarded_once() -> None:
    servers = network(4)
    reports = [servers["a.test"].report(to, "first", now=NOW) for to in ("b.test", "c.test")]
    sent = run(servers, reports, pick=None, most=20)
    to_d = [stanza for to, stanza in sent if to == "d.test"]
    assert len(to_d) == 2  # one from b, one from c, who do not know of each other
    assert len({stanza.split("'")[1] for stanza in to_d}) == 2


@settings(max_examples=120, deadline=None)
@given(st.integers(3, 4), st.data())
def test_nothing_goes_round_for_ever(size: int, data: st.DataObject) -> None:
    servers = network(size)
    hosts = list(servers)
    steps = data.draw(st.integers(1, 6))
    for step in range(steps):
        now = NOW + timedelta(hours=step)
        who = data.draw(st.sampled_from(hosts))
        whom = data.draw(st.sampled_from([one for one in hosts if one != who]))
        if data.draw(st.booleans()):
            wire = [servers[who].report(whom, f"text {step}", now=now)]
        else:
            wire = [servers[who].inquire(whom, data.draw(st.sampled_from(hosts)))]
        run(servers, wire, pick=data, most=size * size * 3)
    for server in servers.values():
        for one in server.incidents.values():
            assert one.reporter not in one.told
            assert server.host not in one.told
        forwarded = [one for one in server.interactions.values() if one.way is Way.SENT]
        assert all(one.peer != server.host for one in forwarded)
