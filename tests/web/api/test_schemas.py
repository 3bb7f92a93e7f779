"""The schemas of webhook events, as they are served and documented."""

import jsonschema_rs
import pytest

from bridge.webhooks.event import EventType
from tests.web.api.conftest import Api


async def test_the_schema_of_every_type_is_served_without_a_token(api: Api) -> None:
    api.token = ""
    items = (await api("GET", "/schemas")).body["items"]
    assert [one["type"] for one in items] == list(EventType)
    for one in items:
        reply = await api("GET", one["url"])
        assert (reply.status, reply.body["title"]) == (200, one["type"])
        jsonschema_rs.meta.validate(reply.body)


@pytest.mark.parametrize("name", ["incident.eaten.json", "incident.reported", "..json", "%2e%2e.json"])
async def test_there_is_no_schema_of_another_name(api: Api, name: str) -> None:
    assert (await api("GET", f"/schemas/{name}")).status == 404


async def test_openapi_and_the_page_describe_every_event(api: Api) -> None:
    described = (await api("GET", "/openapi.json")).body
    assert list(described["webhooks"]) == list(EventType)
    page = (await api("GET", "/docs")).body
    for one in EventType:
        assert f"href='/api/v1/schemas/{one}.json'" in page
    assert "id='schema-Event.RequestAnswered'" in page
