"""Plain text that an operator names by its URL, fetched once; no redirect is followed, at most 2 MiB are read."""

from typing import Final

import aiohttp

from bridge.errors import UnavailableError

MAX_BYTES: Final = 2 * 1024 * 1024
_TIMEOUT: Final = aiohttp.ClientTimeout(total=20, connect=5)
_OK: Final = 200


async def fetch_text(session: aiohttp.ClientSession, url: str) -> str:
    """Return what is there; bytes that are not UTF-8 are replaced.

    Raises:
        UnavailableError: it cannot be fetched, or there is too much of it.
    """
    body = bytearray()
    try:
        async with session.get(url, timeout=_TIMEOUT, allow_redirects=False) as answer:
            if answer.status != _OK:
                raise UnavailableError(f"{url} answered {answer.status}")
            async for chunk in answer.content.iter_chunked(65536):
                body += chunk
                if len(body) > MAX_BYTES:
                    raise UnavailableError(f"{url} is longer than {MAX_BYTES} bytes")
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise UnavailableError(f"{url} cannot be fetched: {str(error) or type(error).__name__}") from error
    return body.decode("utf-8", "replace").removeprefix("\ufeff")
