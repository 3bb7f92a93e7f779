"""What users report, over the API: shown without who reported, sent by a token that may approve."""

from datetime import UTC, datetime, timedelta

from bridge.policy.change import Change, Put
from bridge.policy.consumers import Scope
from bridge.policy.record import Peer
from bridge.policy.trust import Trust
from bridge.store.commit import commit
from bridge.store.connect import Store
from tests.pipeline.test_abuse import hear, report
from tests.web.api.conftest import HOST, OTHER, Api, blamed


async def test_what_users_report_is_shown_without_them_and_sent_once(api: Api, store: Store) -> None:
    await hear(store, report(), report("bob", "admin@a.test", is_own=True))
    page = await api("GET", "/abuse?state=open&limit=1")
    rest = await api("GET", f"/abuse?state=open&limit=1&cursor={page.body['next']}")
    drafts = {one["domain"]: one for one in page.body["items"] + rest.body["items"]}
    assert drafts.keys() == {"a.test", "b.test"}
    assert "alice" not in str(drafts)
    assert "this server itself" in drafts["a.test"]["objection"]
    assert (await api("POST", f"/abuse/{drafts['a.test']['id']}/send", {})).status == 409
    path = f"/abuse/{drafts['b.test']['id']}"
    sent = await api("POST", f"{path}/send", {"with_words": True})
    assert (sent.status, sent.body["state"]) == (200, "sent")
    assert (await api("GET", f"/incidents/{sent.body['incident_id']}")).body["reporter"] == "a.test"
    assert (await api("POST", f"{path}/send", {})).status == 409
    gone = await api("POST", f"/abuse/{drafts['a.test']['id']}/dismiss")
    assert (gone.status, gone.body["state"]) == (200, "dismissed")
    assert (await api("POST", f"/abuse/{drafts['a.test']['id']}/dismiss")).status == 409


async def test_only_those_who_may_approve_send_and_only_those_of_the_host_see(api: Api, store: Store) -> None:
    await hear(store, report())
    (one,) = (await api("GET", "/abuse")).body["items"]
    writer = await api.with_token(Scope.WRITE)
    assert (await writer("POST", f"/abuse/{one['id']}/send", {})).status == 403
    other = await api.with_token(Scope.ADMIN, hosts=(OTHER,))
    assert (await other("GET", f"/abuse/{one['id']}")).status == 404
    assert (await other("GET", "/abuse")).body["items"] == []


async def test_nothing_is_listed_because_of_what_users_agreed_to_tell_one_server_alone(
    api: Api, store: Store
) -> None:
    await hear(store, report())
    (one,) = (await api("GET", "/abuse")).body["items"]
    incident = (await api("POST", f"/abuse/{one['id']}/send", {})).body["incident_id"]
    body = {"is_published": True, "incident_id": incident, "second_yes": True}
    reply = await api("PUT", f"/lists/spam%40b.test?host={HOST}", body)
    assert (reply.status, blamed(reply)) == (422, ["incident_id"])
    assert "agreed that b.test be told, and nobody else" in str(reply.body)


async def test_a_yes_lists_accounts_until_its_end_and_a_repeated_one_changes_nothing(
    api: Api, store: Store
) -> None:
    await hear(store, report(may_go_to_others=True), report(jid="quiet@b.test"))
    (one,) = (await api("GET", "/abuse")).body["items"]
    assert one["may_be_listed"] == ["spam@b.test"]
    until = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    body = {"list_accounts": ["spam@b.test"], "listed_until": until}
    key = {"headers": {"Idempotency-Key": "k1"}}
    sent = await api("POST", f"/abuse/{one['id']}/send", body, **key)
    assert (sent.status, sent.body["listed"]) == (200, ["spam@b.test"])
    assert (await api("POST", f"/abuse/{one['id']}/send", body, **key)).body == sent.body
    (shown,) = (await api("GET", f"/lists?host={HOST}")).body["items"]
    (entry,) = shown["entries"]
    assert (entry["address"], entry["is_reported"]) == ("spam@b.test", True)
    assert entry["incident_id"] == sent.body["incident_id"]
    assert datetime.fromisoformat(entry["until"]) == datetime.fromisoformat(until)


async def test_what_was_reported_after_somebody_looked_is_not_listed(api: Api, store: Store) -> None:
    await hear(store, report(may_go_to_others=True))
    (one,) = (await api("GET", "/abuse")).body["items"]
    await hear(store, report("bob", "new@b.test", may_go_to_others=True), webhook_id="w2")
    sent = await api("POST", f"/abuse/{one['id']}/send", {"list_accounts": one["may_be_listed"]})
    assert (sent.status, sent.body["listed"]) == (200, ["spam@b.test"])


async def test_what_cannot_be_listed_names_the_field_and_nothing_is_sent(api: Api, store: Store) -> None:
    await hear(store, report(may_go_to_others=True))
    peer = Peer(host=HOST, domain="b.test", trust=Trust.TRUSTED)
    await commit(store, Change(puts=(Put(None, peer),)))
    (one,) = (await api("GET", "/abuse")).body["items"]
    over, far = "2020-01-01T00:00:00Z", "2999-01-01T00:00:00Z"
    for body, field in (
        ({"list_accounts": ["spam@b.test"]}, "second_yes"),
        ({"list_accounts": ["spam@b.test"], "listed_until": over}, "listed_until"),
        ({"list_accounts": ["spam@b.test"], "listed_until": far}, "listed_until"),
        ({"listed_until": far}, ""),
    ):
        reply = await api("POST", f"/abuse/{one['id']}/send", body)
        assert (reply.status, blamed(reply)) == (422, [field])
    assert (await api("GET", f"/abuse/{one['id']}")).body["state"] == "open"
    body = {"list_accounts": ["spam@b.test"], "second_yes": True}
    assert (await api("POST", f"/abuse/{one['id']}/send", body)).body["listed"] == ["spam@b.test"]


async def test_an_own_account_that_users_reported_is_suspended_once_and_an_admin_never(
    api: Api, store: Store
) -> None:
    boss = report("bob", "admin@a.test", is_own=True, is_admin=True)
    await hear(store, report(jid="eve@a.test", is_own=True), boss, report(jid="x@c.test"))
    drafts = {one["domain"]: one["id"] for one in (await api("GET", "/abuse")).body["items"]}
    path, body = f"/abuse/{drafts['a.test']}/act", {"accounts": ["eve@a.test"], "reason": "spam"}
    assert (await (await api.with_token(Scope.WRITE))("POST", path, body)).status == 403
    for wrong in ("admin@a.test", "nobody@a.test", "spam@b.test"):
        reply = await api("POST", path, {"accounts": ["eve@a.test", wrong]})
        assert (reply.status, blamed(reply)) == (422, ["accounts"])
    assert (await api("POST", f"/abuse/{drafts['c.test']}/act", {"accounts": ["x@c.test"]})).status == 409
    assert (await api("GET", "/mitigations")).body["items"] == []
    key = {"headers": {"Idempotency-Key": "k1"}}
    made = await api("POST", path, body, **key)
    assert (made.status, made.body["incident_id"], made.body["draft_id"]) == (201, "", drafts["a.test"])
    assert (await api("POST", path, body, **key)).body == made.body
    (one,) = (await api("GET", "/mitigations")).body["items"]
    assert (one["target"], one["draft_id"]) == ({"account": "eve@a.test"}, drafts["a.test"])
    after = (await api("GET", f"/abuse/{drafts['a.test']}")).body
    assert {who["jid"]: who["is_acted_on"] for who in after["accused"]} == {
        "eve@a.test": True,
        "admin@a.test": False,
    }
