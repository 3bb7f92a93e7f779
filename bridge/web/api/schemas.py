"""`schemas`: the JSON Schema of each type of webhook event, for anybody to read."""

import json
from functools import cache
from typing import Any, Final

from pydantic import Field, RootModel

from bridge.web.api.model import Out
from bridge.web.api.router import PREFIX, Answer, Call, Route, not_found
from bridge.webhooks.event import EventType
from bridge.webhooks.schema import EVENTS, schema

TAG: Final = "schemas"


class SchemaItem(Out):
    """Where the schema of one type of event is."""

    type: EventType
    meaning: str
    url: str


class SchemaList(Out):
    """Every type of event."""

    items: tuple[SchemaItem, ...] = Field(description="More may come; ignore those you do not know.")


class JsonSchema(RootModel[dict[str, Any]]):
    """A JSON Schema (2020-12)."""


@cache
def _text(event_type: EventType) -> bytes:
    return json.dumps(schema(event_type), indent=1).encode()


def url_of(event_type: EventType) -> str:
    """Where the schema of this type is served."""
    return f"{PREFIX}/schemas/{event_type}.json"


async def list_schemas(_call: Call) -> Answer:
    """Every type of event."""
    items = tuple(SchemaItem(type=one, meaning=EVENTS[one].meaning, url=url_of(one)) for one in EVENTS)
    return Answer(body=SchemaList(items=items))


async def show_schema(call: Call) -> Answer:
    """The schema of one type."""
    wanted = call.path["type"]
    if wanted not in set(EventType):
        raise not_found("type of event")
    return Answer(raw=_text(EventType(wanted)))


ROUTES: Final = (
    Route(
        method="GET",
        path="/schemas",
        scope=None,
        handler=list_schemas,
        summary="List the types of webhook events and where their schemas are",
        tag=TAG,
        answer=SchemaList,
    ),
    Route(
        method="GET",
        path="/schemas/{type}.json",
        scope=None,
        handler=show_schema,
        summary="The JSON Schema of a type of webhook event",
        tag=TAG,
        answer=JsonSchema,
    ),
)
