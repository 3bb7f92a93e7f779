"""The main job: a report crosses the bridge, on real servers, over real streams."""

import re

from deploy.servers import iq, report_payload
from tests.system.servers import Federation


async def test_a_report_is_stored_answered_and_told_to_the_operator(federation: Federation) -> None:
    federation.bridge.cli("peers", "trust", "b.test")

    reply = await federation.b.send_iq(
        iq(report_payload(), to="a.test", sender="b.test", id="r1"), seconds=10
    )

    assert (reply.type, reply.id, reply.sender) == ("result", "r1", "a.test")
    [incident] = federation.bridge.json("incidents", "list")["incidents"]
    assert (incident["reporter"], incident["host"], incident["quarantined"]) == ("b.test", "a.test", False)
    assert incident["identity"]["text"] == "4BF5D2CE-7C90-4860-BEF2-43A7D777D5FF"
    shown = federation.bridge.json("incidents", "show", incident["id"])
    [interaction] = shown["interactions"]
    assert interaction["stream"]["authentication"] == "certificate"
    assert interaction["stream"]["encrypted"] is True
    assert re.match(r"TLSv1\.[23]", interaction["stream"]["tls"])
    assert interaction["repairs"], "XEP-0268's own example needs repairs, and they are listed"


async def test_the_terminal_tells_sources_targets_contacts_repairs_and_the_stream(
    federation: Federation,
) -> None:
    await federation.b.send_iq(iq(report_payload(), to="a.test", sender="b.test", id="r1"), seconds=10)
    [incident] = federation.bridge.json("incidents", "list")["incidents"]

    told = federation.bridge.cli("incidents", "show", incident["id"])

    for expected in (
        "abuser@clueless.lit", "123", "luser27@clueless.lit", "47",
        "jdev@conference.jabber.org", "jabber@conference.jabber.org",
        "stpeter@jabber.org", "lots of MUC spammers from clueless.lit!",
        "b.test", "certificate", "quarantin", "repair",
    ):  # fmt: skip
        assert expected.casefold() in told.casefold(), expected
