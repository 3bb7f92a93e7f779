"""What a peer is told when it sends what we do not accept, and that nothing of it is stored."""

import os
from collections.abc import Iterator

import pytest

from deploy.servers import Authority, Reply, free_network, iq
from tests.system.reports import payload, report
from tests.system.servers import Federation, Lab

INCIDENT = "<Incident xmlns='urn:ietf:params:xml:ns:iodef-1.0' purpose='reporting'>{}</Incident>"
IDENTITY = "<IncidentID name='b.test'>1</IncidentID>"
TYPES = {"report": "set", "inquiry": "get", "request": "get", "response": "set"}


@pytest.fixture(scope="module")
def standing(authority: Authority) -> Iterator[Federation]:
    """One federation for all refusals: they leave nothing behind, which the last test checks."""
    lab = Lab(free_network(os.getpid() + 1), authority)
    try:
        yield Federation.start(lab, settings="[policy]\nallow_users = ['friend@b.test']\n")
    finally:
        lab.close()


def told(reply: Reply) -> str:
    assert reply.type == "error", reply.xml
    return f"{reply.error_type}/{reply.condition}"


def wrapped(kind: str, inner: str) -> str:
    return f"<{kind} xmlns='urn:xmpp:incident:2'>{inner}</{kind}>"


DEEP = "<x xmlns='urn:x'>" * 70 + "</x>" * 70
REFUSED = {
    "no Incident": ((""), "modify/bad-request", "Incident"),
    "two Incidents": ((INCIDENT.format(IDENTITY) * 2), "modify/bad-request", "Incident"),
    "no IncidentID": ((INCIDENT.format("")), "modify/bad-request", "IncidentID"),
    "an empty IncidentID": (
        (INCIDENT.format("<IncidentID name='b.test'> </IncidentID>")),
        "modify/bad-request",
        "IncidentID",
    ),
    "an Incident in no namespace we know": (
        (INCIDENT.format(IDENTITY).replace("iodef-1.0", "iodef-9.9")),
        "modify/bad-request",
        "Incident",
    ),
    "IODEF version 2": (
        (INCIDENT.format(IDENTITY).replace("iodef-1.0", "iodef-2.0")),
        "cancel/feature-not-implemented",
        "",
    ),
    "too deep": (
        (INCIDENT.format(IDENTITY + f"<AdditionalData dtype='xml'>{DEEP}</AdditionalData>")),
        "modify/policy-violation",
        "deep",
    ),
    "too many elements": (
        (INCIDENT.format(IDENTITY + f"<AdditionalData dtype='xml'>{'<x/>' * 5100}</AdditionalData>")),
        "modify/policy-violation",
        "5000",
    ),
    "too many attributes": (
        (INCIDENT.format(IDENTITY + "<x xmlns='urn:x' " + " ".join(f"a{n}='1'" for n in range(70)) + "/>")),
        "modify/policy-violation",
        "64",
    ),
    "over 128 KiB": (
        (INCIDENT.format(IDENTITY + f"<Description>{'x' * 135_000}</Description>")),
        "modify/policy-violation",
        "",
    ),
}


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("what", REFUSED)
async def test_a_document_we_do_not_accept_is_refused_with_what_was_wrong(
    standing: Federation, what: str, kind: str
) -> None:
    inner, error, names = REFUSED[what]
    body = iq(wrapped(kind, inner), to="a.test", sender="b.test", id="bad", type=TYPES[kind])
    reply = await standing.b.send_iq(body)
    assert told(reply) == error
    assert names in (reply.text or ""), reply.text


@pytest.mark.parametrize("kind", TYPES)
async def test_a_wrong_iq_type_is_a_bad_request(standing: Federation, kind: str) -> None:
    wrong = "get" if TYPES[kind] == "set" else "set"
    body = wrapped(kind, INCIDENT.format(IDENTITY))
    reply = await standing.b.send_iq(iq(body, to="a.test", sender="b.test", id="wrong", type=wrong))
    assert told(reply) == "modify/bad-request"


@pytest.mark.parametrize("kind", TYPES)
async def test_another_namespace_is_not_ours_and_prosody_itself_says_so(
    standing: Federation, kind: str
) -> None:
    body = wrapped(kind, INCIDENT.format(IDENTITY)).replace("urn:xmpp:incident:2", "urn:xmpp:incident:1")
    reply = await standing.b.send_iq(iq(body, to="a.test", sender="b.test", id="old", type=TYPES[kind]))
    assert told(reply) == "cancel/service-unavailable"


async def test_an_id_over_256_bytes_is_a_bad_request(standing: Federation) -> None:
    reply = await standing.b.send_iq(iq(payload(), to="a.test", sender="b.test", id="x" * 300))
    assert told(reply) == "modify/bad-request"


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("sender", ["juliet@b.test", "juliet@b.test/balcony"])
async def test_a_user_sends_no_incidents(standing: Federation, sender: str, kind: str) -> None:
    body = wrapped(kind, INCIDENT.format(IDENTITY))
    reply = await standing.b.send_iq(iq(body, to="a.test", sender=sender, id="user", type=TYPES[kind]))
    assert told(reply) == "auth/forbidden"
    assert "users" in (reply.text or "")


async def test_a_blocked_peer_is_forbidden_until_it_is_forgotten(standing: Federation) -> None:
    standing.bridge.cli("peers", "block", "b.test")
    for kind, iq_type in TYPES.items():
        body = wrapped(kind, INCIDENT.format(IDENTITY))
        reply = await standing.b.send_iq(iq(body, to="a.test", sender="b.test", id="no", type=iq_type))
        assert told(reply) == "auth/forbidden"
    standing.bridge.cli("peers", "forget", "b.test")


async def test_one_kind_of_one_peer_is_refused_where_the_operator_said_so(standing: Federation) -> None:
    standing.bridge.cli("peers", "rule", "b.test", "inquiry", "refuse")
    body = wrapped("inquiry", INCIDENT.format(IDENTITY))
    reply = await standing.b.send_iq(iq(body, to="a.test", sender="b.test", id="rule", type="get"))
    assert told(reply) == "auth/forbidden"
    standing.bridge.cli("peers", "rule", "b.test", "inquiry", "default")


async def test_nothing_of_all_that_is_stored(standing: Federation) -> None:
    assert standing.bridge.json("incidents", "list")["incidents"] == []


async def test_an_inquiry_about_what_nobody_knows_is_not_found(standing: Federation) -> None:
    body = wrapped("inquiry", INCIDENT.format(IDENTITY))
    reply = await standing.b.send_iq(iq(body, to="a.test", sender="b.test", id="asked", type="get"))
    assert told(reply) == "cancel/item-not-found"


async def test_a_request_for_what_nobody_can_do_is_stored_and_shown(standing: Federation) -> None:
    strange = "<Expectation action='launch-missiles'/><ReportTime>2009-04-13T24:00:00</ReportTime>"
    body = wrapped("request", INCIDENT.format(IDENTITY + strange))
    reply = await standing.b.send_iq(iq(body, to="a.test", sender="b.test", id="strange", type="get"))
    assert reply.type == "result", reply.xml
    [incident] = standing.bridge.json("incidents", "list")["incidents"]
    assert incident["quarantined"] is True
    shown = standing.bridge.cli("incidents", "show", incident["id"])
    assert "launch-missiles: nothing we can do" in shown, shown
    [interaction] = standing.bridge.json("incidents", "show", incident["id"])["interactions"]
    assert interaction["repairs"], "what was repaired is listed"


async def test_a_response_to_nothing_is_stored_in_quarantine(standing: Federation) -> None:
    standing.bridge.cli("peers", "trust", "b.test")
    item = "<HistoryItem action='block-host'><DateTime>2009-04-13T23:00:00Z</DateTime></HistoryItem>"
    history = IDENTITY.replace(">1<", ">2<") + f"<History>{item}</History>"
    body = wrapped("response", INCIDENT.format(history))
    reply = await standing.b.send_iq(iq(body, to="a.test", sender="b.test", id="unasked"))
    assert reply.type == "result", reply.xml
    listed = standing.bridge.json("incidents", "list")["incidents"]
    assert {one["identity"]["text"]: one["quarantined"] for one in listed} == {"1": True, "2": True}


async def test_a_stream_without_tls_is_refused(lab: Lab) -> None:
    plain = 's2s_require_encryption = false; s2s_secure_auth = false; modules_disabled = { "tls" }'
    bridge = lab.bridge()
    a = lab.prosody("a.test", bridge=bridge, start=False, extra=plain)
    b = lab.prosody("b.test", peer=True, start=False, extra=plain)
    bridge.start_up()
    a.start()
    b.start()
    reply = await b.send_iq(report())
    assert told(reply) == "modify/policy-violation"
    assert "encrypted" in (reply.text or "")
    assert bridge.json("incidents", "list")["incidents"] == []


async def test_more_than_the_quota_is_told_to_wait_and_not_stored(lab: Lab) -> None:
    federation = Federation.start(lab, settings="[policy]\nquota_burst = 3\nquota_per_minute = 1\n")
    replies = await federation.b.send_iqs([report(number) for number in range(8)])
    kinds = [reply.type if reply.type == "result" else told(reply) for reply in replies]
    assert sorted(kinds) == ["result"] * 3 + ["wait/resource-constraint"] * 5
    assert len(federation.bridge.json("incidents", "list")["incidents"]) == 3


async def test_a_full_quarantine_makes_strangers_wait_and_stores_nothing_more(lab: Lab) -> None:
    federation = Federation.start(lab, settings="[policy]\nquarantine_max = 2\n")
    c = lab.prosody("c.test", peer=True)
    for number in range(2):
        assert (await federation.b.send_iq(report(number))).type == "result"
    for peer in (federation.b, c):
        reply = await peer.send_iq(report("more", sender=peer.name))
        assert told(reply) == "wait/resource-constraint"
    federation.bridge.cli("peers", "trust", "c.test")
    assert (await c.send_iq(report("trusted", sender="c.test"))).type == "result", "only strangers wait"
    listed = federation.bridge.json("incidents", "list")["incidents"]
    assert {one["identity"]["text"] for one in listed} == {"incident-0", "incident-1", "incident-trusted"}
