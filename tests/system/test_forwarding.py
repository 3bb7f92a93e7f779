"""Reports that go on to others: no loops, and corrections to exactly those who got the report."""

import re

from bridge.xep0268.model import Status
from deploy.servers import Prosody, iq
from tests.system.desk import Desk
from tests.system.reports import ID, payload
from tests.system.servers import Domain, Lab, eventually

NAMES = {"a.test": "13", "b.test": "0.12", "c.test": "13"}


async def reports_at(server: Prosody) -> list[tuple[str, str]]:
    """Who sent a server reports, with the status that each states, in order."""
    found = []
    for stanza in await server.received():
        if "<report " in stanza and (sender := re.search(r"^<iq[^>]*\sfrom='([^']+)'", stanza)):
            status = re.search(r"meaning='status'[^>]*>(\w+)<|<status>(\w+)<", stanza)
            found.append((sender[1], next(filter(None, status.groups())) if status else ""))
    return found


async def quiet(domains: list[Domain], desks: list[Desk]) -> None:
    """Wait until nothing is under way: every report sent is settled, at every domain."""

    async def settled() -> bool:
        for desk in desks:
            for reporter, text in await desk.incidents():
                _, found = await desk.about(reporter, text)
                waiting = [one.id for one in found if one.state in {"stored", "decided", "queued", "sent"}]
                assert not waiting, (desk.host, waiting)
        return True

    await eventually(settled, 30)


async def test_three_servers_that_all_forward_to_each_other_come_to_rest(lab: Lab) -> None:
    domains = lab.domains(NAMES)
    desks = [Desk(one.bridge, one.name) for one in domains]
    d = lab.prosody("d.test", peer=True, mannered=True)
    for desk in desks:
        for other in (*NAMES, "d.test"):
            if other != desk.host:
                await desk.decide(other, forward=True)

    # d.test reports to a.test; a.test tells b.test and c.test, each of which tells the other at most once.
    first_report = payload(restriction="need-to-know").replace("'jabber.org'", "'d.test'", 1)
    assert (await d.send_iq(iq(first_report, to="a.test", sender="d.test", id="r1"))).type == "result"

    await eventually(lambda: reports_at(domains[2].prosody), 10)
    await eventually(lambda: reports_at(domains[1].prosody), 10)
    await quiet(domains, desks)
    first = {one.name: await reports_at(one.prosody) for one in domains}
    assert first["a.test"] == [("d.test", "")], "nobody tells it who told them"
    for name, other in (("b.test", "c.test"), ("c.test", "b.test")):
        senders = [sender for sender, _ in first[name]]
        assert senders.count("a.test") == 1
        assert senders.count(other) <= 1
        assert set(senders) <= {"a.test", other}
    assert await reports_at(d) == [], "never to the domain in its name"

    # d.test corrects it: the correction goes the ways of the report and no others.
    resolved = first_report.replace(
        "</Incident>", "<AdditionalData dtype='string' meaning='status'>resolved</AdditionalData></Incident>"
    )
    assert (await d.send_iq(iq(resolved, to="a.test", sender="d.test", id="r2"))).type == "result"

    async def resolved_everywhere() -> bool:
        for desk in desks[1:]:
            known, _ = await desk.about("a.test", ID)
            assert known.status is Status.RESOLVED
        return True

    await eventually(resolved_everywhere, 10)
    await quiet(domains, desks)
    second = {one.name: (await reports_at(one.prosody))[len(first[one.name]) :] for one in domains}
    assert [sender for sender, _ in second["a.test"]] == ["d.test"]
    for name in ("b.test", "c.test"):
        assert sorted(sender for sender, _ in second[name]) == sorted(sender for sender, _ in first[name])
        assert {status for _, status in second[name]} == {"resolved"}
    assert await reports_at(d) == []
