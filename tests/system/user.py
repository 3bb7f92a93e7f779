"""A user's XMPP client, as little of one as the tests need: TLS, SASL PLAIN, binding, stream management.

    async with Clients() as clients:                # closes all connections at the end
        user = await clients.connect(a, "alice")    # signed in, no resource yet
        await user.bind("phone")                    # RefusedError with the stanza error if it may not
        reply = await user.ask("<iq type='get' …/>")
        await user.ended()                          # the stream error with which the server closed the stream

House rules: every wait has a deadline; stanzas are lxml elements.
"""

import asyncio
import base64
import contextlib
import ssl
from collections.abc import Callable
from typing import Self

from lxml import etree

from deploy.servers import Prosody

CLIENT = "{jabber:client}"
STREAM = "{http://etherx.jabber.org/streams}"
SASL = "{urn:ietf:params:xml:ns:xmpp-sasl}"
TLS = "{urn:ietf:params:xml:ns:xmpp-tls}"
STANZAS = "{urn:ietf:params:xml:ns:xmpp-stanzas}"
STREAMS = "{urn:ietf:params:xml:ns:xmpp-streams}"
MANAGEMENT = "{urn:xmpp:sm:3}"
SECONDS = 10.0


class RefusedError(Exception):
    """The server said no; `condition` is its word for it, `text` what it adds."""

    def __init__(self, condition: str, text: str = "") -> None:
        super().__init__(f"{condition}: {text}")
        self.condition = condition
        self.text = text


def condition_of(element: etree._Element) -> tuple[str, str]:
    """Return the condition and the text of a stanza, stream or SASL error."""
    names = {etree.QName(child).localname: child.text or "" for child in element}
    return next((name for name in names if name != "text"), ""), names.get("text", "")


def block(jid: str, *, agreed: bool, for_others: bool = False, text: str = "") -> str:
    """What a client sends to block somebody and to report them.

    `agreed`: it may be passed on to the server it is about; `for_others`: to others, too.
    """
    consent = "<report-origin/>" * agreed + "<third-party/>" * for_others
    return (
        f"<iq type='set'><block xmlns='urn:xmpp:blocking'><item jid='{jid}'>"
        f"<report xmlns='urn:xmpp:reporting:1' reason='urn:xmpp:reporting:spam'>{consent}<text>{text}</text></report>"
        "</item></block></iq>"
    )


class User:
    """One connection of a user."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def __init__(self, prosody: Prosody, name: str) -> None:
        self.prosody = prosody
        self.name = name
        self.jid = f"{name}@{prosody.name}"
        self.stanzas: list[etree._Element] = []
        self.error: tuple[str, str] | None = None
        self.is_closed = False
        self._ids = 0

    async def authenticate(self, password: str) -> None:
        """Connect, encrypt and sign in; RefusedError if the password is not right."""
        async with asyncio.timeout(SECONDS):
            while not hasattr(self, "writer"):  # Prosody may open this port after the others
                with contextlib.suppress(ConnectionRefusedError):
                    self.reader, self.writer = await asyncio.open_connection(self.prosody.address, 15222)
                await asyncio.sleep(0.01)
        await self._open()
        await self.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
        await self._next(f"{TLS}proceed")
        context = ssl.create_default_context(cafile=str(self.prosody.authority.file))
        await self.writer.start_tls(context, server_hostname=self.prosody.name)
        await self._open()
        plain = base64.b64encode(f"\0{self.name}\0{password}".encode()).decode()
        await self.send(f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{plain}</auth>")
        answer = await self._next(f"{SASL}success", f"{SASL}failure")
        if answer.tag == f"{SASL}failure":
            raise RefusedError(*condition_of(answer))
        await self._open()

    async def bind(self, resource: str) -> None:
        """Bind a resource."""
        bind = "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>" + f"<resource>{resource}</resource></bind>"
        reply = await self.ask(f"<iq type='set'>{bind}</iq>")
        if reply.get("type") == "error":
            raise RefusedError(*condition_of(reply.find(f"{CLIENT}error")))
        self.jid = f"{self.name}@{self.prosody.name}/{resource}"

    async def ask(self, iq: str) -> etree._Element:
        """Send an IQ without an id, and return its reply."""
        self._ids += 1
        id_ = f"q{self._ids}"
        await self.send(iq.replace("<iq ", f"<iq id='{id_}' ", 1))
        return await self.wait(lambda one: one.tag == f"{CLIENT}iq" and one.get("id") == id_)

    async def send(self, xml: str) -> None:
        """Send something."""
        self.writer.write(xml.encode())
        await self.writer.drain()

    async def wait(self, matches: Callable[[etree._Element], bool]) -> etree._Element:
        """Return the first stanza that matches, among those that came already, too; it is taken off the list."""
        async with asyncio.timeout(SECONDS):
            while True:
                for one in self.stanzas:
                    if matches(one):
                        self.stanzas.remove(one)
                        return one
                await self._read()

    async def message(self, text: str) -> etree._Element:
        """Wait for a message with this body."""
        return await self.wait(
            lambda one: one.tag == f"{CLIENT}message" and one.findtext(f"{CLIENT}body") == text
        )

    async def keep(self) -> str:
        """Have the server keep the session for a while when the connection breaks; return what resumes it."""
        await self.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
        return str((await self._next(f"{MANAGEMENT}enabled")).get("id"))

    async def resume(self, token: str) -> None:
        """Take up a session that the server kept; RefusedError if it does not have it."""
        await self.send(f"<resume xmlns='urn:xmpp:sm:3' h='0' previd='{token}'/>")
        answer = await self._next(f"{MANAGEMENT}resumed", f"{MANAGEMENT}failed")
        if answer.tag == f"{MANAGEMENT}failed":
            raise RefusedError(*condition_of(answer))

    async def ended(self) -> tuple[str, str]:
        """Wait until the server has closed the stream; return the stream error's condition and text."""
        async with asyncio.timeout(SECONDS):
            while not self.is_closed:
                with contextlib.suppress(ConnectionError):
                    await self._read()
        return self.error or ("", "")

    def vanish(self) -> None:
        """Break the connection without a word."""
        self.writer.transport.abort()

    async def _open(self) -> None:
        self._parser = etree.XMLPullParser(("start", "end"))
        self._depth = 0
        await self.send(
            f"<?xml version='1.0'?><stream:stream to='{self.prosody.name}' version='1.0' xmlns='jabber:client' "
            "xmlns:stream='http://etherx.jabber.org/streams'>"
        )
        await self._next(f"{STREAM}features")

    async def _next(self, *tags: str) -> etree._Element:
        return await self.wait(lambda one: one.tag in tags)

    async def _read(self) -> None:
        """Take in what came; ConnectionError at the end of the stream."""
        data = b"" if self.is_closed else await self.reader.read(65536)
        if not data:
            self.is_closed = True
            raise ConnectionError(f"the stream of {self.jid} ended: {self.error}")
        self._parser.feed(data)
        for event, element in self._parser.read_events():
            self._depth += 1 if event == "start" else -1
            if event == "end" and self._depth == 1:
                self.stanzas.append(element)
                if element.tag == f"{STREAM}error":
                    self.error = condition_of(element)


class Clients:
    """Makes connections and closes them all; every account has the password `secret`."""

    def __init__(self) -> None:
        self._users: list[User] = []

    async def __aenter__(self) -> Self:
        """Have none yet."""
        return self

    async def connect(self, prosody: Prosody, name: str) -> User:
        """Connect and sign in, without a resource."""
        user = User(prosody, name)
        try:
            await user.authenticate("secret")
        finally:
            self._users += [user] if hasattr(user, "writer") else []
        return user

    async def sign_in(self, prosody: Prosody, name: str, resource: str = "phone") -> User:
        """Connect, bind a resource and become available."""
        user = await self.connect(prosody, name)
        await user.bind(resource)
        await user.send("<presence/>")
        return user

    async def __aexit__(self, *_: object) -> None:
        """Close what is open."""
        for user in self._users:
            user.writer.transport.abort()
            with contextlib.suppress(OSError):
                await user.writer.wait_closed()
