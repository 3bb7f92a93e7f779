"""The load under which chaos comes: a peer that repeats what was not answered, and a consumer of webhook events."""

import asyncio
import dataclasses
from collections import Counter

from aiohttp import web

from bridge.xep0268.model import Kind
from deploy.servers import Prosody, Reply, iq
from tests.system.reports import inquiry, payload

HOST, PEER = "a.test", "b.test"
AT_ONCE = 8
PAUSE_SECONDS = 0.1
REPLY_SECONDS = 8
AWAY = {
    "remote-server-timeout",
    "remote-server-not-found",
    "resource-constraint",
}  # told by b.test itself, too


def request(text: str, domain: str) -> str:
    """A payload that asks to block a domain."""
    return (
        "<request xmlns='urn:xmpp:incident:2'><Incident xmlns='urn:ietf:params:xml:ns:iodef-1.0' purpose='mitigation'>"
        f"<IncidentID name='{PEER}'>{text}</IncidentID><ReportTime>2026-01-01T00:00:00Z</ReportTime>"
        "<Assessment><Impact type='dos'/></Assessment><Contact role='admin' type='person'/>"
        "<EventData><Flow><System category='source'><Node>"
        f"<Address category='ext-category' ext-category='xmpp'>{domain}</Address>"
        "</Node></System></Flow><Expectation action='block-host'/></EventData></Incident></request>"
    )


@dataclasses.dataclass(slots=True)
class Asked:
    """One interaction of the peer's, and how often it was sent."""

    kind: Kind
    text: str
    tries: int = 0
    is_acknowledged: bool = False

    def stanza(self) -> str:
        """The same payload, under another IQ id each time."""
        to = {"to": HOST, "sender": PEER, "id": f"{self.kind}-{self.text}-{self.tries}"}
        match self.kind:
            case Kind.REPORT:
                return iq(payload(self.text), **to)
            case Kind.REQUEST:
                return iq(request(self.text, f"{self.text}.example"), **to, type="get")
            case _:
                return iq(inquiry(self.text), **to, type="get")


class Peer:
    """Sends as fast as it is answered, and repeats until it is."""

    def __init__(self, prosody: Prosody) -> None:
        self.prosody = prosody
        self.is_over = False
        self.asked: list[Asked] = []
        self.refusals: Counter[str] = Counter()
        self.silences = 0

    async def ask_all(self) -> None:
        """Ask at several places at once until `is_over`, and then until the last is answered."""
        await asyncio.gather(*(self._ask(place) for place in range(AT_ONCE)))

    @property
    def acknowledged(self) -> int:
        """How many of them were."""
        return sum(one.is_acknowledged for one in self.asked)

    async def _ask(self, place: int) -> None:
        number = 0
        while not self.is_over:
            number += 1
            await self._settle(Asked(Kind.REPORT, f"report-{place}-{number}"))
            if number % 8 == 1:
                await self._settle(Asked(Kind.REQUEST, f"request-{place}-{number}"))
            if number % 4 == 3:
                await self._settle(Asked(Kind.INQUIRY, f"report-{place}-{number}"))

    async def _settle(self, one: Asked) -> None:
        self.asked.append(one)
        while not one.is_acknowledged:
            one.tries += 1
            try:
                reply = await self.prosody.send_iq(one.stanza(), seconds=REPLY_SECONDS)
            except TimeoutError:
                self.silences += 1
                continue
            one.is_acknowledged = reply.type == "result"
            if not one.is_acknowledged:
                self._note(one, reply)
                await asyncio.sleep(3 * PAUSE_SECONDS)
        await asyncio.sleep(PAUSE_SECONDS)

    def _note(self, one: Asked, reply: Reply) -> None:
        name = f"{reply.error_type}/{reply.condition}"
        if reply.condition not in AWAY:
            name += f" {one.kind}: {reply.text}"
        self.refusals[name] += 1


class Consumer:
    """An endpoint that takes every event."""

    def __init__(self) -> None:
        self.came: Counter[str] = Counter()
        self._runner: web.AppRunner | None = None

    async def start(self) -> str:
        """Listen; returns the URL."""
        app = web.Application()
        app.router.add_post("/", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}/"

    async def _take(self, request: web.Request) -> web.Response:
        await request.read()
        self.came[request.headers["webhook-id"]] += 1
        return web.Response(status=204)

    async def stop(self) -> None:
        """End it."""
        if self._runner:
            await self._runner.cleanup()
