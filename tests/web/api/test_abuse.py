"""What users report, over the API: shown without who reported, sent by a token that may approve."""

from bridge.policy.consumers import Scope
from bridge.store.connect import Store
from tests.pipeline.test_abuse import hear, report
from tests.web.api.conftest import OTHER, Api


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
