"""What a.test's admin is told in chat: fixed text with kinds, peers and counts; strangers only in a digest."""

import re

from bridge.policy.change import Telling
from tests.system.desk import Desk
from tests.system.reports import report
from tests.system.servers import Federation, eventually

ADMIN = "admin"
_LUA_STRING = re.compile(r'"((?:[^"\\]|\\.|\\\n)*)"')


def messages(federation: Federation) -> list[str]:
    """The chat messages that wait for the admin, who is offline, in Prosody's own store."""
    path = federation.a.folder / f"data/a%2etest/offline/{ADMIN}.list"
    found = _LUA_STRING.findall(path.read_text()) if path.exists() else []
    return [text.replace("\\\n", "\n").replace("\\n", "\n") for text in found if text.startswith("Incidents")]


async def test_the_admin_gets_one_message_a_minute_and_strangers_stay_in_the_digest(
    federation: Federation,
) -> None:
    federation.a.control("register", ADMIN, "a.test", "secret")
    c = federation.lab.prosody("c.test", peer=True)
    desk = Desk(federation.bridge)
    await desk.decide("b.test")

    # One report of a trusted peer: one message at once.
    assert (await federation.b.send_iq(report("1"))).type == "result"
    [first] = await eventually(lambda: messages(federation), 10)
    assert first == "Incidents for a.test:\nb.test: 1 report\nTo see them: incident-bridge incidents list"

    # Two more: they wait for the next minute.
    for number in ("2", "3"):
        assert (await federation.b.send_iq(report(number))).type == "result"

    async def waits() -> bool:
        return await desk.untold(Telling.NOTICE) == [("b.test", 2)]

    await eventually(waits, 10)

    # A stranger's: not among them, but in the digest, the first of which comes at once.
    assert (await c.send_iq(report("4", sender="c.test"))).type == "result"

    async def told_twice() -> list[str]:
        found = messages(federation)
        return found if len(found) > 1 else []

    _, digest = await eventually(told_twice, 10)
    assert digest.splitlines()[1:] == ["c.test: 1 report", "To see them: incident-bridge incidents list"]
    assert "quarantine" in digest.splitlines()[0]
    assert (await c.send_iq(report("5", sender="c.test"))).type == "result"

    async def digest_waits() -> bool:
        return await desk.untold(Telling.DIGEST) == [("c.test", 1)]

    await eventually(digest_waits, 10)
    assert len(messages(federation)) == 2
    assert not any("spam" in text or "clueless" in text for text in messages(federation)), (
        "no word of a document"
    )
