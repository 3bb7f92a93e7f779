"""A fast consumer in a process of its own: counts what comes, by path; `GET /` tells, `/hangs` never answers.

Run as `receiver.py`; it prints its port. It speaks just enough HTTP/1.1 to be no part of what is measured.
"""

import asyncio
import json
import os
import time
from collections import defaultdict

counts: dict[str, int] = defaultdict(int)
slowest: dict[str, float] = defaultdict(float)
last: dict[str, float] = defaultdict(float)


class Receiver(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].decode("latin-1")
            length = next(
                (int(line[15:]) for line in head.split("\r\n") if line.lower().startswith("content-length:")),
                0,
            )
            if len(self.buffer) < end + 4 + length:
                return
            body, self.buffer = self.buffer[end + 4 : end + 4 + length], self.buffer[end + 4 + length :]
            self.answer(*head.split(" ", 2)[:2], body)

    def answer(self, method: str, path: str, body: bytes) -> None:
        if method == "GET":
            text = json.dumps({"counts": counts, "slowest": slowest, "last": last}).encode()
            self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(text), text))
            counts.clear()
            slowest.clear()
            return
        counts[path] += 1
        last[path] = time.time()
        if b'"put_at":' in body:
            put_at = float(body.partition(b'"put_at":')[2].partition(b"}")[0].partition(b",")[0])
            slowest[path] = max(slowest[path], time.time() - put_at)
        if path != "/hangs":
            self.transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")


async def main() -> None:
    os.nice(15)  # as the worker that delivers does: elsewhere it runs on a machine of its own
    server = await asyncio.get_running_loop().create_server(Receiver, "127.0.0.1", 0, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
