"""The hosts' Prosodys, for what a page or a call of the API asks while somebody waits."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from bridge.clients.prosody import ProsodyClient
from bridge.config import Settings
from bridge.pipeline.preview import Server


@asynccontextmanager
async def prosody(settings: Settings) -> AsyncIterator[Server]:
    """Open connections to them."""
    async with aiohttp.ClientSession() as session:
        yield ProsodyClient(settings.hosts, session)
