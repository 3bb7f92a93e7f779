"""Ad-hoc commands (XEP-0050) of a host's admins: Prosody says who asks, here is what they see and what they may.

House rules: a session is bound to the admin and the command, and expires; what is done is done by the stories that the
command line uses, once for each session; every text that goes out is made harmless, in one place.
"""

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Protocol

from bridge import log
from bridge.errors import ConfigError, ConflictError, MalformedError, RefusedError
from bridge.log import visible
from bridge.pipeline import adhoc_decide, adhoc_send
from bridge.pipeline.actors import Actor
from bridge.pipeline.approve import Rules
from bridge.pipeline.desk import Desk
from bridge.pipeline.ids import new_id
from bridge.policy import forms
from bridge.policy.change import Change, Remember
from bridge.policy.forms import CommandError, Reply
from bridge.policy.sign_in import Admitting, configured_role
from bridge.store import load
from bridge.store.commit import Once, SeenError, commit
from bridge.store.connect import Store
from bridge.xmpp.jid import Jid

_log = log.get(__name__)

SESSION_SECONDS: Final = 600
_TEXT: Final = re.compile(r"[^\n\t]+")
Step = Callable[[Desk], Awaitable[Reply]]


class Hosted(Protocol):
    """What the operator configured that matters here."""

    @property
    def hosts(self) -> Mapping[str, Admitting]: ...  # noqa: D102
    @property
    def policy(self) -> Rules: ...  # noqa: D102


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One step as it came.

    Attributes:
        session: "" begins one.
        sender: the admin's JID; Prosody vouches for it.
        origin: the admin's address, or "".
    """

    node: str
    session: str
    action: str
    sender: str
    origin: str
    fields: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Node:
    """A command: `ask` makes the form that is due, `act` does what was typed or asks for more."""

    ask: Step
    act: Step


_NODES: Final = {
    "incident-bridge#incidents": _Node(ask=adhoc_decide.ask_incident, act=adhoc_decide.show_incident),
    "incident-bridge#approvals": _Node(ask=adhoc_decide.ask_approval, act=adhoc_decide.decide_approval),
    "incident-bridge#mitigations": _Node(ask=adhoc_decide.ask_mitigation, act=adhoc_decide.lift_mitigation),
    "incident-bridge#report": _Node(ask=adhoc_send.ask_report, act=adhoc_send.report),
    "incident-bridge#inquiry": _Node(ask=adhoc_send.ask_inquiry, act=adhoc_send.inquire),
    "incident-bridge#request": _Node(ask=adhoc_send.ask_request, act=adhoc_send.request),
    "incident-bridge#response": _Node(ask=adhoc_send.ask_response, act=adhoc_send.respond),
}


async def answer(
    store: Store, command: Command, *, host: str, settings: Hosted, webhook_id: str, now: datetime
) -> bytes:
    """Do one step and return what the module in Prosody makes of it; the same `webhook_id` again gets the same.

    Raises:
        UnavailableError: the store does not answer.
    """
    session = command.session or new_id()
    name = f"adhoc {session}"
    fetched = await load.fetch(store, remembered=[(host, name)], once=webhook_id)
    if fetched.once is not None:
        return fetched.once
    change = Change()
    try:
        owner = f"{Jid.parse(command.sender).bare} {command.node}"
        _check(command, owner, fetched.remembered[host, name])
        desk = _desk(store, command, host=host, settings=settings, session=session, now=now)
        reply = await _step(desk, command)
        said = {**_harmless(forms.plain(reply)), "session": session}
        if reply.actions:
            remember = Remember(host=host, name=name, value=owner, ttl_seconds=SESSION_SECONDS, is_new=False)
            change = Change(remembers=(remember,))
    except MalformedError as error:
        said = _refusal(CommandError("bad-request", str(error), type="modify"))
    except CommandError as error:
        said = _refusal(error)
    _log.info("ad-hoc command", host=host, who=command.sender, node=command.node, action=command.action)
    body = json.dumps(said).encode()
    try:
        await commit(store, change, once=Once(webhook_id, body))
    except SeenError as seen:
        return seen.answer
    return body


def _check(command: Command, owner: str, remembered: str | None) -> None:
    """See that the session is this admin's, for this command."""
    if command.node not in _NODES:
        raise CommandError("item-not-found", "there is no such command")
    if command.session and remembered is None:
        raise CommandError("not-allowed", "this took too long; start it again", detail="session-expired")
    if command.session and remembered != owner:
        raise CommandError("bad-request", "this session is not yours", type="modify", detail="bad-sessionid")


def _desk(
    store: Store, command: Command, *, host: str, settings: Hosted, session: str, now: datetime
) -> Desk:
    bare = Jid.parse(command.sender).bare
    role = configured_role(bare, settings.hosts[host])
    if role is None:
        raise CommandError("forbidden", "the configuration of the bridge does not list you", type="auth")
    return Desk(
        store=store,
        host=host,
        actor=Actor(name=bare, origin=command.origin),
        role=role,
        rules=settings.policy,
        session=session,
        given={} if command.action == "prev" or not command.session else command.fields,
        now=now,
    )


async def _step(desk: Desk, command: Command) -> Reply:
    node = _NODES[command.node]
    if not command.session or command.action == "prev":
        return await node.ask(desk)
    try:
        return await node.act(desk)
    except CommandError:
        raise
    except RefusedError as error:
        why = error.stanza_error.text
    except (ConfigError, ConflictError) as error:
        why = str(error)
    try:
        asked = await node.ask(desk)
    except ConfigError:  # what was typed leads nowhere
        asked = await node.ask(replace(desk, given={}))
    return forms.failed(asked, why)


def _refusal(error: CommandError) -> dict[str, Any]:
    said = {"type": error.type, "condition": error.condition, "text": visible(str(error))}
    return {"error": said | ({"detail": error.detail} if error.detail else {})}


def _harmless(value: Any) -> Any:
    """The same, with control and bidirectional characters shown, but for line breaks and tabs."""
    if isinstance(value, str):
        return _TEXT.sub(lambda part: visible(part[0]), value)
    if isinstance(value, list):
        return [_harmless(one) for one in value]
    if isinstance(value, dict):
        return {key: _harmless(one) for key, one in value.items()}
    return value
