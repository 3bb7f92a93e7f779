"""Which draft of what users report a command is about."""

import argparse
from collections.abc import Sequence
from typing import Final

from bridge.cli.arguments import UsageError
from bridge.cli.stored import NotFoundError, hosts_of
from bridge.config import Settings
from bridge.pipeline import abuse as stories
from bridge.policy.abuse_record import AbuseDraft, DraftState
from bridge.store import keys
from bridge.store.connect import Store

_MOST: Final = 500


async def drafts(store: Store, hosts: Sequence[str], *, is_all: bool) -> list[AbuseDraft]:
    """The drafts of these hosts, newest report first."""
    index = keys.abuse_drafts if is_all else keys.abuse_drafts_open
    found = [one for host in hosts for one in await stories.listed(store, index(host), limit=_MOST)]
    return sorted(found, key=lambda one: one.last_at, reverse=True)


async def find_one(store: Store, settings: Settings, arguments: argparse.Namespace) -> AbuseDraft:
    """The draft that was typed.

    Raises:
        NotFoundError: there is none, or several.
    """
    hosts = hosts_of(settings, arguments.host)
    wanted = arguments.id.strip().casefold()
    if not wanted:
        raise UsageError("ID is empty; see: incident-bridge abuse list")
    known = await drafts(store, hosts, is_all=True)
    about = [one for one in known if one.domain == wanted]
    found = [one for one in about if one.state is DraftState.OPEN] or about
    found = found or [one for one in known if one.id.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise NotFoundError(
            f"nothing that users report is called {wanted}; see: incident-bridge abuse list --all"
        )
    ids = "\n".join(f"  {one.id}  {one.kind}  {one.domain}" for one in found)
    raise NotFoundError(f"several are called {wanted}; type more of the id:\n{ids}")
