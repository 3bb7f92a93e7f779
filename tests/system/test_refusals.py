"""What a peer is told when it sends what we do not accept, and that nothing of it is stored."""

import os
from collections.abc import Iterator

import pytest

from deploy.servers import Authority, Reply, free_network, iq
from tests.system.reports import payload, report
from tests.system.servers import Federation, Lab

INCIDENT = "<Incident xmlns='urn:ietf:params:xml:ns:iodef-1.0' purpose='reporting'>{}</Incident>"
IDENTITY = "<IncidentID name='b.test'>1</IncidentID>"
OPEN = "<report xmlns='urn:xmpp:incident:2'>{}</report>"


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


def in_report(inner: str) -> str:
    return OPEN.format(inner)


DEEP = "<x xmlns='urn:x'>" * 70 + "</x>" * 70
REFUSED = {
    "no Incident": (in_report(""), "modify/bad-request", "Incident"),
    "two Incidents": (in_report(INCIDENT.format(IDENTITY) * 2), "modify/bad-request", "Incident"),
    "no IncidentID": (in_report(INCIDENT.format("")), "modify/bad-request", "IncidentID"),
    "an empty IncidentID": (
        in_report(INCIDENT.format("<IncidentID name='b.test'> </IncidentID>")),
        "modify/bad-request",
        "IncidentID",
    ),
    "an Incident in no namespace we know": (
        in_report(INCIDENT.format(IDENTITY).replace("iodef-1.0", "iodef-9.9")),
        "modify/bad-request",
        "Incident",
    ),
    "IODEF version 2": (
        in_report(INCIDENT.format(IDENTITY).replace("iodef-1.0", "iodef-2.0")),
        "cancel/feature-not-implemented",
        "",
    ),
    "too deep": (
        in_report(INCIDENT.format(IDENTITY + f"<AdditionalData dtype='xml'>{DEEP}</AdditionalData>")),
        "modify/policy-violation",
        "deep",
    ),
    "too many elements": (
        in_report(
            INCIDENT.format(IDENTITY + f"<AdditionalData dtype='xml'>{'<x/>' * 5100}</AdditionalData>")
        ),
        "modify/policy-violation",
        "5000",
    ),
    "too many attributes": (
        in_report(
            INCIDENT.format(IDENTITY + "<x xmlns='urn:x' " + " ".join(f"a{n}='1'" for n in range(70)) + "/>")
        ),
        "modify/policy-violation",
        "64",
    ),
    "over 128 KiB": (
        in_report(INCIDENT.format(IDENTITY + f"<Description>{'x' * 135_000}</Description>")),
        "modify/policy-violation",
        "",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_a_document_we_do_not_accept_is_refused_with_what_was_wrong(
    standing: Federation, what: str
) -> None:
    body, error, names = REFUSED[what]
    reply = await standing.b.send_iq(iq(body, to="a.test", sender="b.test", id="bad"))
    assert told(reply) == error
    assert names in (reply.text or ""), reply.text


@pytest.mark.parametrize("kind", ["report", "response", "inquiry", "request"])
async def test_a_wrong_iq_type_is_a_bad_request(standing: Federation, kind: str) -> None:
    wrong = "get" if kind in {"report", "response"} else "set"
    body = f"<{kind} xmlns='urn:xmpp:incident:2'>{INCIDENT.format(IDENTITY)}</{kind}>"
    reply = await standing.b.send_iq(iq(body, to="a.test", sender="b.test", id="wrong", type=wrong))
    assert told(reply) == "modify/bad-request"


@pytest.mark.parametrize(("kind", "type"), [("inquiry", "get"), ("request", "get"), ("response", "set")])
async def test_what_does_not_exist_yet_is_not_implemented(standing: Federation, kind: str, type: str) -> None:
    body = f"<{kind} xmlns='urn:xmpp:incident:2'>{INCIDENT.format(IDENTITY)}</{kind}>"
    reply = await standing.b.send_iq(iq(body, to="a.test", sender="b.test", id="later", type=type))
    assert told(reply) == "cancel/feature-not-implemented"


async def test_an_id_over_256_bytes_is_a_bad_request(standing: Federation) -> None:
    reply = await standing.b.send_iq(iq(payload(), to="a.test", sender="b.test", id="x" * 300))
    assert told(reply) == "modify/bad-request"


@pytest.mark.parametrize("sender", ["juliet@b.test", "juliet@b.test/balcony"])
async def test_a_user_may_not_report(standing: Federation, sender: str) -> None:
    reply = await standing.b.send_iq(report(sender=sender))
    assert told(reply) == "auth/forbidden"
    assert "users" in (reply.text or "")


async def test_a_blocked_peer_is_forbidden_until_it_is_forgotten(standing: Federation) -> None:
    standing.bridge.cli("peers", "block", "b.test")
    assert told(await standing.b.send_iq(report("blocked"))) == "auth/forbidden"
    standing.bridge.cli("peers", "forget", "b.test")


async def test_nothing_of_all_that_is_stored(standing: Federation) -> None:
    assert standing.bridge.json("incidents", "list")["incidents"] == []


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
