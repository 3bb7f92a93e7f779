"""`POST /prosody/{host}`: what Prosody's module relays (DESIGN §4)."""

import json
import time
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from bridge import log
from bridge.errors import (
    Condition,
    ErrorType,
    MalformedError,
    SignatureError,
    TimestampError,
    UnavailableError,
)
from bridge.pipeline import abuse
from bridge.pipeline.adhoc import Command, answer
from bridge.pipeline.ids import new_id
from bridge.pipeline.receive import Intake, Relayed, receive
from bridge.policy.abuse_count import UserReport
from bridge.policy.abuse_record import AbuseKind
from bridge.policy.admit import WATERMARK
from bridge.policy.stages import Stage
from bridge.policy.trust import Authentication, Direction, Stream
from bridge.web.bodies import read_body
from bridge.web.state import SERVICE, Service
from bridge.webhooks import signature
from bridge.xmpp.jid import Jid

_log = log.get(__name__)

MAX_ITEMS = 64


class StreamBody(BaseModel):
    """`stream` of one item."""

    model_config = ConfigDict(frozen=True)
    direction: Direction
    encrypted: bool
    tls: str | None = None
    authentication: Authentication
    certificate_sha256: str | None = None


class ItemBody(BaseModel):
    """One relayed stanza."""

    stanza: str
    stream: StreamBody


class DataBody(BaseModel):
    """`data` of `stanza.received`."""

    items: list[ItemBody] = Field(min_length=1, max_length=MAX_ITEMS)


class Body(BaseModel):
    """A whole message with stanzas."""

    type: Literal["stanza.received"]
    timestamp: str
    data: DataBody


class FieldBody(BaseModel):
    """One field of a form that an admin filled in."""

    var: str = Field(max_length=200)
    values: list[str] = Field(max_length=2000)


class CommandDataBody(BaseModel):
    """`data` of `adhoc.command`; `from` is an admin of the host, Prosody says so."""

    node: str = Field(max_length=200)
    session: str = Field(max_length=200)
    action: Literal["execute", "next", "prev", "complete"]
    sender: str = Field(alias="from", max_length=3100)
    ip: str = Field(max_length=64)
    fields: list[FieldBody] = Field(max_length=200)


class CommandBody(BaseModel):
    """A whole message with one step of an admin's ad-hoc command."""

    type: Literal["adhoc.command"]
    timestamp: str
    data: CommandDataBody


class UserReportBody(BaseModel):
    """What one user reported; `at` is when, by Prosody's clock."""

    reporter: str = Field(max_length=3100)
    jid: str = Field(max_length=3100)
    kind: AbuseKind
    text: str = Field(max_length=2000)
    stanza_ids: list[Annotated[str, Field(max_length=512)]] = Field(max_length=10)
    report_origin: bool
    third_party: bool
    is_own: bool
    is_admin: bool
    at: AwareDatetime


class UserReportsDataBody(BaseModel):
    """`data` of `abuse.reported`."""

    items: list[UserReportBody] = Field(min_length=1, max_length=MAX_ITEMS)


class UserReportsBody(BaseModel):
    """A whole message with what users reported."""

    type: Literal["abuse.reported"]
    timestamp: str
    data: UserReportsDataBody


_MESSAGE: TypeAdapter[Body | CommandBody | UserReportsBody] = TypeAdapter(
    Annotated[Body | CommandBody | UserReportsBody, Field(discriminator="type")]
)


async def handle(request: web.Request) -> web.Response:
    """Verify, receive, answer; 401 and 400 are the operator's to mend, 503 means that Prosody answers `wait`."""
    service = request.app[SERVICE]
    host = request.match_info["host"]
    keys = service.keys.get(host)
    if keys is None:
        _log.error(
            f'Prosody posts for a host that is not configured; add [hosts."{host}"] and its secret', host=host
        )
        return _refuse(404, f"the host {host} is not configured here")
    body = await read_body(request)
    now = datetime.now(UTC)
    try:
        webhook_id = signature.verify(keys, request.headers, body, now=now.timestamp())
        message = _MESSAGE.validate_json(body)
    except TimestampError as error:
        _log.error("Prosody's clock and ours differ by more than 5 minutes; set them (NTP)", host=host)
        return _refuse(401, str(error), now=int(error.now))
    except SignatureError as error:
        _log.error(f'{error}; set the same secret in [hosts."{host}"] and incident_bridge_secret', host=host)
        return _refuse(400 if error.malformed else 401, str(error))
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        text = f"{'/'.join(map(str, problem['loc']))}: {problem['msg']}"
        _log.error(
            "Prosody's module sent what we do not understand; install the module of this release",
            host=host,
            problem=text,
        )
        return _refuse(400, text)
    return await _answer(service, host, webhook_id, message, now)


async def _answer(
    service: Service, host: str, webhook_id: str, message: Body | CommandBody | UserReportsBody, now: datetime
) -> web.Response:
    match message:
        case Body():
            return await _receive(service, host, webhook_id, _batch(message), now)
        case CommandBody():
            return await _command(service, host, webhook_id, message.data, now)
        case UserReportsBody():
            return await _hear(service, host, webhook_id, message.data, now)


async def _receive(
    service: Service, host: str, webhook_id: str, batch: list[Relayed], now: datetime
) -> web.Response:
    """Store the batch, or tell every peer in it to wait while nobody could answer it."""
    reasons = service.unattended()
    if reasons:
        _log.error("incidents are not accepted now", host=host, reason=reasons[0])
        return _wait(len(batch))
    intake = Intake(host=host, rules=service.settings.policy, fill=service.fill)
    started = time.monotonic()
    try:
        answer = await receive(service.store, intake, batch, webhook_id=webhook_id, now=now, new_id=new_id)
    except UnavailableError as error:
        _log.error("the batch is not stored; its peers are told to wait", host=host, reason=str(error))
        return _refuse(503, "the store does not answer")
    service.times += [(Stage.STORED, time.monotonic() - started)] * len(batch)
    return web.Response(body=answer, content_type="application/json")


def _batch(message: Body) -> list[Relayed]:
    return [
        Relayed(stanza=item.stanza, stream=Stream(**item.stream.model_dump())) for item in message.data.items
    ]


async def _command(
    service: Service, host: str, webhook_id: str, data: CommandDataBody, now: datetime
) -> web.Response:
    """Do one step of an admin's command."""
    command = Command(
        node=data.node,
        session=data.session,
        action=data.action,
        sender=data.sender,
        origin=data.ip,
        fields={one.var: tuple(one.values) for one in data.fields},
    )
    try:
        body = await answer(
            service.store, command, host=host, settings=service.settings, webhook_id=webhook_id, now=now
        )
    except UnavailableError as error:
        _log.error("an admin's command failed", host=host, reason=str(error))
        return _refuse(503, "the store does not answer")
    return web.Response(body=body, content_type="application/json")


async def _hear(
    service: Service, host: str, webhook_id: str, data: UserReportsDataBody, now: datetime
) -> web.Response:
    """Count what users reported, unless the store is so full that strangers are refused as well."""
    if service.fill >= WATERMARK:
        return _refuse(503, "the store is full")
    hearing = abuse.Hearing(host=host, rules=service.settings.policy, key=service.keys[host][0])
    reports = [one for body in data.items if (one := _user_report(service, host, body, now)) is not None]
    try:
        await abuse.hear(service.store, hearing, reports, webhook_id=webhook_id, now=now)
    except UnavailableError as error:
        _log.error("what users reported waits in Prosody", host=host, reason=str(error))
        return _refuse(503, "the store does not answer")
    return web.Response(body=abuse.TAKEN, content_type="application/json")


def _user_report(service: Service, host: str, body: UserReportBody, now: datetime) -> UserReport | None:
    """Read one report; None, and a line in the log, where it names no JID as we know them."""
    try:
        jid, reporter = Jid.parse(body.jid), Jid.parse(body.reporter).bare
    except MalformedError as error:
        _log.warning("a user's report names no JID", host=host, reason=str(error))
        return None
    return UserReport(
        reporter=reporter,
        jid=jid,
        kind=body.kind,
        text=body.text,
        stanza_ids=tuple(body.stanza_ids),
        may_go_to_origin=body.report_origin,
        may_go_to_others=body.third_party,
        is_own=body.is_own or jid.domain in service.settings.hosts,
        is_admin=body.is_admin or jid.bare in service.settings.hosts[host].admins,
        at=min(body.at, now),
    )


def _wait(count: int) -> web.Response:
    error = {
        "type": ErrorType.WAIT,
        "condition": Condition.RESOURCE_CONSTRAINT,
        "text": "the incident bridge of this server is not ready; try again later",
    }
    return web.json_response({"results": [{"stanza_error": error}] * count, "refuse": {}})


def _refuse(status: int, text: str, **more: Any) -> web.Response:
    body = json.dumps({"error": text, **more})
    return web.Response(status=status, text=body, content_type="application/json")


def routes() -> list[web.RouteDef]:
    """Return the routes of the ingest listener."""
    return [web.post("/prosody/{host}", handle)]
