"""Every parser that meets strangers' bytes gives a value or an error of ours: whatever comes, soon, in little room."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import ip_network

import pytest
from hypothesis import given, note
from pydantic import ValidationError

from bridge.cli.validate import judge
from bridge.clients import prosody
from bridge.clients.endpoint import retry_after_seconds
from bridge.errors import ConfigError, MalformedError, RefusedError, SignatureError, UnavailableError
from bridge.iodef.model import Restriction
from bridge.iodef.redact import redact
from bridge.iodef.write import write
from bridge.log import visible
from bridge.policy import answer_link
from bridge.policy.compare import read_plain
from bridge.policy.feed import checked_url, read_names
from bridge.policy.lookalike import alike, with_ascii
from bridge.policy.outreach import MAX_CONTACTS, choose, contacts_in
from bridge.web import ingest
from bridge.web.api import idempotency, paging
from bridge.web.api.table import ROUTES
from bridge.web.problems import ProblemError, of_validation
from bridge.webhooks import signature, subscription
from bridge.webhooks.event import plain
from bridge.xep0268.model import Kind
from bridge.xep0268.read import read
from bridge.xmpp import xml
from bridge.xmpp.jid import Jid
from bridge.xmpp.stanza import read_iq
from tests.fuzz.mutate import CORPUS, NUMBERS, bounded, mutation, seeds, survives

NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
PEER = Jid.parse("peer.example")


def read_stanza(data: bytes) -> None:
    """As `receive` reads, then all that is made of it later: digest, JSON, a document for somebody else."""
    iq = read_iq(xml.parse(data))
    if iq.payload is None:
        return
    reading = read(iq)
    xml.digest(iq.payload)
    json.dumps(plain((reading.incident, reading.repairs)), ensure_ascii=False).encode()
    cut, _ = redact(reading.tree, at_most=Restriction.NEED_TO_KNOW)
    write(cut, reported_at=NOW, contact="host.example")


def read_document(data: bytes) -> None:
    """As `validate` reads a file: read, judged, and written to a terminal."""
    verdict = judge(data, sender=PEER, kind=Kind.REPORT)
    assert visible(str(verdict.refusal)).isprintable()


def read_ingest(data: bytes) -> None:
    message = ingest._MESSAGE.validate_json(data)
    if isinstance(message, ingest.Body):
        for one in ingest._batch(message):
            one.stanza.encode("utf-8", "surrogatepass")


def read_body(data: bytes) -> None:
    """As the API reads: every body that a route takes."""
    for route in ROUTES:
        if route.body is not None:
            try:
                route.body.model_validate_json(data)
            except ValidationError as error:
                assert of_validation(error, kind="invalid-body").detail  # noqa: PT017 - either outcome is right


def read_jid(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    with_ascii(text)
    jid = Jid.parse(text)
    assert Jid.parse(str(jid)) == jid, "prepared once is prepared"
    alike([str(jid)], ["peer.example"])


def read_url(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    for allowed in ((), (ip_network("127.0.0.0/8"),)):
        written = subscription.check_url(text, allow_http=False, allowed=allowed)
        assert written.isascii()
        assert subscription.check_url(written, allow_http=False, allowed=allowed) == written


def read_header(data: bytes) -> None:
    name, _, value = data.decode("utf-8", "surrogateescape").partition(": ")
    checked = subscription.check_headers({name: value})
    assert all(f"{key}{one}".isascii() and f"{key}{one}".isprintable() for key, one in checked.items())


def read_signed(data: bytes) -> None:
    """As aiohttp gives headers: bytes that are no UTF-8 come as lone surrogates."""
    message_id, _, rest = data.decode("utf-8", "surrogateescape").partition("|")
    timestamp, _, signatures = rest.partition("|")
    headers = {"webhook-id": message_id, "webhook-timestamp": timestamp, "webhook-signature": signatures}
    signature.verify([bytes(32)], headers, data, now=1795302600)
    raise AssertionError("nobody knows the key")


def read_retry_after(data: bytes) -> None:
    seconds = retry_after_seconds(data.decode("utf-8", "surrogateescape"), now=1795302600)
    assert seconds is None or 0 <= seconds < 1e12


def read_cursor(data: bytes) -> None:
    parts = paging.decode(data.decode("utf-8", "surrogateescape"), int, str, of="x")
    assert [type(part) for part in parts] == [int, str]


def read_key(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    key = idempotency.read(text, token_id="t", method="POST", path="/x", body=data)
    assert key is not None
    assert key.name.isascii()


def read_answer(data: bytes) -> None:
    """What stands in for Prosody at `api_url` may answer anything."""
    for status in (200, 400, 404, 409, 500):
        try:
            prosody._read("host.example", status, data)
        except UnavailableError as error:
            assert error.retry_after_seconds > 0  # noqa: PT017 - either outcome is right


def read_contacts(data: bytes) -> None:
    """Whom to write to where a server does not speak XEP-0268, as that server announces it."""
    found = contacts_in(xml.parse(data))
    assert len(found) <= MAX_CONTACTS
    for uri in found:
        assert choose([uri]) is not None
        assert visible(uri) == uri


def read_list(data: bytes) -> None:
    """What others publish, as `lists compare` and those who subscribe read it."""
    text = data.decode("utf-8", "replace")
    for domain in read_plain(text).domains:
        assert visible(with_ascii(domain)).isprintable()
    for name in read_names(text.split("\n")).names:
        assert visible(with_ascii(name)).isprintable()


def read_place_of_list(data: bytes) -> None:
    """Where a list is, as an operator types it."""
    text = data.decode("utf-8", "replace")
    for typed in (text, f"xmpp:{text}", f"xmpp:x.example?;node={text}"):
        try:
            assert visible(checked_url(typed, own=("host.example",), allow_http=True)).isprintable()
        except ConfigError:
            continue


def read_link(data: bytes) -> None:
    word = data.decode("utf-8", "surrogateescape")
    answer_link.names(word)
    assert not answer_link.is_good(word, [bytes(32)], host="host.example", now=NOW)


Read = Callable[[bytes], None]
REFUSED = (RefusedError,)
PARSERS: dict[str, tuple[str, Read, tuple[type[Exception], ...], int]] = {
    "stanzas": ("stanza", read_stanza, REFUSED, 600),
    "files": ("document", read_document, REFUSED, 300),
    "what Prosody posts": ("ingest", read_ingest, (ValidationError,), 400),
    "bodies of the API": ("body", read_body, (), 300),
    "JIDs": ("jid", read_jid, (MalformedError,), 600),
    "URLs of endpoints": ("url", read_url, (MalformedError,), 600),
    "headers of endpoints": ("header", read_header, (MalformedError,), 300),
    "headers of signed messages": ("webhook_headers", read_signed, (SignatureError,), 400),
    "Retry-After": ("retry_after", read_retry_after, (), 400),
    "cursors": ("cursor", read_cursor, (ProblemError,), 400),
    "idempotency keys": ("idempotency_key", read_key, (ProblemError,), 200),
    "contacts that servers announce": ("contacts", read_contacts, REFUSED, 400),
    "lists of others": ("plain_list", read_list, (), 200),
    "places of lists": ("url", read_place_of_list, (), 300),
    "links to answer pages": ("answer_link", read_link, (), 300),
    "answers of Prosody": ("prosody_answer", read_answer, (), 400),
}


@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_gives_a_value_or_an_error_of_ours(name: str) -> None:
    corpus, read_it, allowed, examples = PARSERS[name]
    kept = tuple(seeds(corpus))
    for seed in kept:
        survives(read_it, seed, allowed=allowed)

    @bounded(examples)
    @given(NUMBERS)
    def try_all(number: int) -> None:
        data = mutation(kept, number)
        note(f"keep this in tests/fuzz/corpus/{corpus}: {data!r}")
        survives(read_it, data, allowed=allowed)

    try_all()


def test_every_kept_seed_belongs_to_a_parser() -> None:
    assert {one.name.removesuffix(".txt") for one in CORPUS.iterdir()} == {
        *(corpus for corpus, *_ in PARSERS.values()), "endpoint_answer", "request",
    }  # fmt: skip
