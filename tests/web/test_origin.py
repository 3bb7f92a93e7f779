"""Where a request comes from: what a proxy says counts if the proxy is one of ours."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from bridge.config import ServerSettings
from bridge.web.origin import origin
from bridge.web.state import SERVICE


def asked(remote: str, said: str | None, *proxies: str) -> str:
    """The origin of a request from `remote`; a line break in `said` begins another header of that name."""
    given: dict[str, Any] = {"trusted_proxies": proxies} if proxies else {}
    service = SimpleNamespace(settings=SimpleNamespace(server=ServerSettings(**given)))
    headers = CIMultiDict(("X-Forwarded-For", line) for line in (said or "").splitlines())
    request = make_mocked_request("GET", "/", headers=headers, app={SERVICE: service})  # type: ignore[arg-type]
    return origin(request.clone(remote=remote))


@pytest.mark.parametrize(
    ("remote", "said", "proxies", "expected"),
    [
        ("127.0.0.1", "192.0.2.1", (), "192.0.2.1"),
        ("::1", "2001:db8::1", (), "2001:db8::1"),
        ("127.0.0.1", None, (), "127.0.0.1"),
        ("127.0.0.1", "198.51.100.1, 192.0.2.1", (), "192.0.2.1"),
        ("127.0.0.1", "198.51.100.1\n192.0.2.1", (), "192.0.2.1"),
        ("127.0.0.1", "<script>", (), "127.0.0.1"),
        ("10.0.0.2", "192.0.2.1", (), "10.0.0.2"),
        ("10.0.0.2", "192.0.2.1", ("10.0.0.0/24",), "192.0.2.1"),
        ("::ffff:10.0.0.2", "192.0.2.1", ("10.0.0.2",), "192.0.2.1"),
        ("127.0.0.1", "192.0.2.1", ("10.0.0.0/24",), "127.0.0.1"),
        ("", "192.0.2.1", (), ""),
    ],
)
def test_what_a_trusted_proxy_saw_is_where_it_comes_from(
    remote: str, said: str | None, proxies: tuple[str, ...], expected: str
) -> None:
    assert asked(remote, said, *proxies) == expected
