"""The test servers themselves: if these fail, look here first."""

import pytest

from deploy.servers import iq
from tests.system.servers import Lab, eventually

PING = "<ping xmlns='urn:xmpp:ping'/>"


@pytest.mark.parametrize("version", ["0.12", "13"])
async def test_two_servers_federate_with_certificates(lab: Lab, version: str) -> None:
    a = lab.prosody("a.test", version=version)
    b = lab.prosody("b.test", peer=True)

    reply = await b.send_iq(iq(PING, type="get", to="a.test", sender="b.test", id="1"))

    assert (reply.type, reply.id, reply.sender) == ("result", "1", "a.test")
    assert "TLSv1.3" in a.shell("s2s:show()")
    assert "Succeeded" in a.shell("s2s:show()")


async def test_a_peer_sends_hundreds_of_iqs_at_once_and_gets_each_reply(lab: Lab) -> None:
    lab.prosody("a.test")
    b = lab.prosody("b.test", peer=True)

    replies = await b.send_iqs(
        [iq(PING, type="get", to="a.test", sender="b.test", id=f"p{n}") for n in range(500)]
    )

    assert [reply.id for reply in replies] == [f"p{n}" for n in range(500)]
    assert {reply.type for reply in replies} == {"result"}


async def test_a_reply_that_comes_too_late_is_still_recorded(lab: Lab) -> None:
    a = lab.prosody("a.test")
    b = lab.prosody("b.test", peer=True)
    await b.send_iq(iq(PING, type="get", to="a.test", sender="b.test", id="first"))
    a.process.freeze()

    with pytest.raises(TimeoutError):
        await b.send_iq(iq(PING, type="get", to="a.test", sender="b.test", id="late"), seconds=0.2)
    a.process.thaw()

    async def recorded() -> bool:
        return any("'late'" in stanza for stanza in await b.received())

    await eventually(recorded)


async def test_a_killed_prosody_comes_back_and_is_reached_again(lab: Lab) -> None:
    a = lab.prosody("a.test")
    b = lab.prosody("b.test", peer=True)
    a.kill()
    a.start()

    reply = await b.send_iq(iq(PING, type="get", to="a.test", sender="u@b.test/r", id="1"))

    assert reply.type == "result"


def test_a_killed_store_keeps_its_data(lab: Lab) -> None:
    store = lab.store()
    store.cli("SET", "key", "value")
    store.kill()
    store.start()

    assert store.cli("GET", "key") == "value"
