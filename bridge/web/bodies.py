"""Bodies of requests, which may end early, or be encoded in a way that nobody knows."""

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError


async def read_body(request: web.Request) -> bytes:
    """Read a body whole.

    Raises:
        web.HTTPBadRequest: it cannot be read; nobody's fault here, and often nobody is left to be told.
        web.HTTPRequestEntityTooLarge: it is over what the listener takes.
    """
    try:
        return await request.read()
    except (HttpProcessingError, web.RequestPayloadError, OSError) as error:
        raise web.HTTPBadRequest(reason="The body ended early or is encoded wrongly") from error
