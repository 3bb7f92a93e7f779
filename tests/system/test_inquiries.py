"""Who is told what we know, and that nobody can tell "we know nothing" from "you may not know"."""

import os
import re
import statistics
from collections.abc import Iterator

import pytest

from deploy.servers import Authority, Prosody, Reply, free_network, iq
from tests.system.reports import inquiry, payload
from tests.system.servers import Federation, Lab, eventually

LENIENT = "[policy]\nquota_per_minute = 100000\nquota_burst = 100000\nquota_strangers_burst = 100000\n"
PRIVATE, SHARED, QUARANTINED = "private-1", "shared-1", "quarantined-1"


@pytest.fixture(scope="module", params=["0.12", "13"], ids=["prosody-0.12", "prosody-13"])
def standing(authority: Authority, request: pytest.FixtureRequest) -> Iterator[Federation]:
    """b.test is trusted, c.test a stranger, d.test is what the reports name as the source's server."""
    lab = Lab(free_network(os.getpid() + 4), authority)
    try:
        made = Federation.start(lab, version=request.param, settings=LENIENT)
        for name in ("c.test", "d.test"):
            lab.prosody(name, peer=True, mannered=True)
        made.bridge.cli("peers", "trust", "b.test")
        yield made
    finally:
        lab.close()


def about_d(text: str, restriction: str) -> str:
    """A report whose source is at d.test."""
    return payload(text, restriction=restriction).replace("@clueless.lit", "@d.test")


@pytest.fixture
async def known(standing: Federation) -> Federation:
    """What b.test reported: one private, one for who needs to know; and what c.test, a stranger, did."""
    for sender, text, restriction in (
        ("b.test", PRIVATE, "private"),
        ("b.test", SHARED, "need-to-know"),
        ("c.test", QUARANTINED, "public"),
    ):
        body = iq(about_d(text, restriction), to="a.test", sender=sender, id=text)
        assert (await server(standing, sender).send_iq(body)).type == "result"
    return standing


def server(federation: Federation, name: str) -> Prosody:
    found = federation.lab.servers[name]
    assert isinstance(found, Prosody)
    return found


async def ask(federation: Federation, asker: str, text: str, *, number: object = "") -> Reply:
    stanza = iq(inquiry(text), to="a.test", sender=asker, id=f"ask-{text}-{number}", type="get")
    return await server(federation, asker).send_iq(stanza)


def without_id(reply: Reply) -> tuple[str | None, ...]:
    return reply.type, reply.error_type, reply.condition, reply.text


async def reports_of(federation: Federation, name: str, text: str) -> list[str]:
    """The reports that a server got about an incident."""
    return [one for one in await server(federation, name).received() if "<report " in one and text in one]


async def test_unknown_and_not_allowed_are_the_same_answer(known: Federation) -> None:
    unknown = await ask(known, "c.test", "no-such-incident")
    assert (unknown.error_type, unknown.condition) == ("cancel", "item-not-found")
    for asker, text in (
        ("c.test", PRIVATE),
        ("c.test", SHARED),
        ("d.test", PRIVATE),
        ("d.test", QUARANTINED),
        ("b.test", QUARANTINED),
    ):
        reply = await ask(known, asker, text)
        assert without_id(reply) == without_id(unknown), (asker, text)
        assert await reports_of(known, asker, text) == []


async def test_how_long_it_takes_does_not_tell_them_apart(known: Federation) -> None:
    """Medians of interleaved pairs; the bound is loose, machines are busy."""
    times: dict[str, list[float]] = {"unknown": [], PRIVATE: []}
    for number in range(60):
        for text, found in times.items():
            found.append((await ask(known, "c.test", text, number=number)).seconds)
    unknown, private = (statistics.median(found[5:]) for found in times.values())
    spread = statistics.quantiles(times["unknown"][5:] + times[PRIVATE][5:], n=4)
    assert abs(unknown - private) < max(spread[2] - spread[0], 0.25 * unknown), (unknown, private, spread)


async def test_who_may_know_gets_the_result_and_then_the_report(known: Federation) -> None:
    # The reporter always, and the domain that the report names as the source's.
    for asker, text in (("b.test", PRIVATE), ("d.test", SHARED), ("c.test", QUARANTINED)):
        reply = await ask(known, asker, text)
        assert reply.type == "result", (asker, text, reply.xml)

        async def told(asker: str = asker, text: str = text) -> list[str]:
            return await reports_of(known, asker, text)

        [report] = await eventually(told, 10)
        assert re.search(r"^<iq[^>]*\stype='set'", report)
        order = [
            "report" if "<report " in one else "result"
            for one in await server(known, asker).received()
            if f"ask-{text}-" in one or ("<report " in one and text in one)
        ]
        assert order == ["result", "report"], (asker, text)


async def test_every_inquiry_is_answered_anew(known: Federation) -> None:
    replies = [await ask(known, "d.test", SHARED, number=number) for number in range(3)]
    assert [reply.type for reply in replies] == ["result"] * 3

    async def told() -> bool:
        return len(await reports_of(known, "d.test", SHARED)) >= 3

    await eventually(told, 10)


async def test_a_blocked_peer_is_told_nothing_not_even_what_it_reported(known: Federation) -> None:
    known.bridge.cli("peers", "block", "b.test")
    reply = await ask(known, "b.test", SHARED)
    assert (reply.error_type, reply.condition) == ("auth", "forbidden")
    known.bridge.cli("peers", "trust", "b.test")
