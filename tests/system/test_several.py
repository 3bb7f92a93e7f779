"""One bridge for the Prosodys of several hosts."""

from tests.system.reports import report
from tests.system.servers import Lab, eventually


async def test_two_prosodys_of_different_hosts_share_one_bridge(lab: Lab) -> None:
    bridge = lab.bridge(store=lab.store())
    a = lab.prosody("a.test", bridge=bridge, start=False)
    c = lab.prosody("c.test", version="13", bridge=bridge, start=False)
    b = lab.prosody("b.test", peer=True, start=False)
    bridge.start_apart()
    for prosody in (a, b, c):
        prosody.start()

    stanzas = [report(f"{host[0]}{number}", to=host) for number in range(40) for host in ("a.test", "c.test")]
    replies = await b.send_iqs(stanzas)
    same = await b.send_iqs([report("same", to=host) for host in ("a.test", "c.test")])

    assert {(reply.type, reply.sender) for reply in (*replies, *same)} == {
        ("result", "a.test"),
        ("result", "c.test"),
    }
    for host in ("a.test", "c.test"):
        listed = bridge.json("incidents", "list", "--host", host, "--limit", "500")["incidents"]
        names = {one["identity"]["text"] for one in listed}
        assert names == {f"incident-{host[0]}{number}" for number in range(40)} | {"incident-same"}

    c.kill()  # what one of them does not take holds up nobody else
    later = await b.send_iq(report("later"))
    assert later.type == "result"
    c.start()
    await eventually(lambda: bridge.json("check", code=0)["ok"], 20)
