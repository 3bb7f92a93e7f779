"""`/lists/{host}/domains.txt`: the domains that a host publishes, for whoever asks.

House rule: anybody may ask as often as they like, so the store is asked once a second at most for each host.
"""

import asyncio
import hashlib
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

from aiohttp import web

from bridge.pipeline.publish import published_by
from bridge.policy.publish import plain_text
from bridge.web.state import SERVICE, Service

_KEPT_SECONDS: Final = 1.0
_HEADERS: Final = {
    "Content-Type": "text/plain; charset=utf-8",
    "Cache-Control": "public, max-age=60",
    "X-Content-Type-Options": "nosniff",
}


async def show_domains(request: web.Request) -> web.Response:
    """Answer one domain a line; 404 for a host that publishes nothing, and for one that there is not."""
    service = request.app[SERVICE]
    name = request.match_info["host"]
    host = service.settings.hosts.get(name)
    if host is None or not host.publish_lists:
        raise web.HTTPNotFound(text="no list is published here\n")
    body = await _body(service, name)
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {**_HEADERS, "ETag": etag}
    if request.headers.get("If-None-Match") == etag:
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
    return web.Response(body=body, headers=headers)


async def _body(service: Service, host: str) -> bytes:
    """Return the list that was made last or is being made, however many ask for it at once."""
    now = asyncio.get_running_loop().time()
    known = service.lists.get(host)
    if known is not None:
        made_at, making = known
        is_bad = making.done() and (now - made_at >= _KEPT_SECONDS or making.exception() is not None)
        if not is_bad:
            return await asyncio.shield(making)
    making = asyncio.create_task(_make(service, host))
    service.lists[host] = now, making
    return await asyncio.shield(making)  # who goes away does not stop it for the others


async def _make(service: Service, host: str) -> bytes:
    listed = await published_by(service.store, host, now=datetime.now(UTC))
    return plain_text(listed.entries).encode()


def routes() -> list[web.RouteDef]:
    """Return the routes of what is published."""
    return [web.get("/lists/{host}/domains.txt", show_domains)]
