"""Passes bytes between two programs as a network does, until it is told to cut them off or to go silent.

relay = Relay(("127.1.2.90", 15267), ("127.1.2.100", 15267))     # or paths of Unix sockets
await relay.start()
relay.cut() | relay.stall()      # connections end, new ones too | they stay, and nothing passes
relay.join()                     # as before
await relay.stop()
"""

import asyncio
import contextlib
from pathlib import Path

Place = tuple[str, int] | Path


class Relay:
    """One link: what connects to `here` speaks with `there`."""

    def __init__(self, here: Place, there: Place) -> None:
        self.here = here
        self.there = there
        self.is_cut = False
        self._passes = asyncio.Event()
        self._passes.set()
        self._ends: set[asyncio.StreamWriter] = set()
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        if isinstance(self.here, Path):
            self._server = await asyncio.start_unix_server(self._accepted, self.here)
        else:
            self._server = await asyncio.start_server(self._accepted, *self.here)

    async def stop(self) -> None:
        """End it with all its connections."""
        if self._server:
            self._server.close()
        self.cut()
        if self._connections:
            await asyncio.wait(self._connections)

    def cut(self) -> None:
        """End every connection at once, and each new one."""
        self.is_cut = True
        self._passes.set()
        for writer in list(self._ends):
            writer.transport.abort()

    def stall(self) -> None:
        """Keep every connection, accept new ones, and let nothing pass."""
        self._passes.clear()

    def join(self) -> None:
        """Let everything pass again."""
        self.is_cut = False
        self._passes.set()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._ends.add(writer)
        if task := asyncio.current_task():
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
        try:
            await self._passes.wait()
            if self.is_cut:
                return
            if isinstance(self.there, Path):
                far_reader, far_writer = await asyncio.open_unix_connection(self.there)
            else:
                far_reader, far_writer = await asyncio.open_connection(*self.there)
            self._ends.add(far_writer)
            if self.is_cut:
                writer.transport.abort()
            try:
                await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))
            finally:
                self._end(far_writer)
        except OSError:
            pass  # whoever is gone, the other one is told by the end of its connection
        finally:
            self._end(writer)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self._passes.wait()
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()

    def _end(self, writer: asyncio.StreamWriter) -> None:
        self._ends.discard(writer)
        writer.transport.abort()
