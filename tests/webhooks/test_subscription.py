"""Which events, URLs, headers and addresses are good for an endpoint."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from bridge.errors import MalformedError
from bridge.webhooks.subscription import (
    check_headers,
    check_url,
    is_allowed,
    is_forbidden,
    wants,
)

PRIVATE = (ip_network("10.0.0.0/8"),)


def event(type: str = "incident.reported", **data: Any) -> dict[str, Any]:
    return {"type": type, "timestamp": "2026-01-01T00:00:00Z", "data": data}


def refusal(url: str, **more: Any) -> str:
    with pytest.raises(MalformedError) as caught:
        check_url(url, **{"allow_http": False, **more})
    assert caught.value.path == "url"
    return caught.value.rule


# --- filters


def test_an_endpoint_without_filters_is_told_of_everything_but_quarantine() -> None:
    assert wants((), (), (), "exclude", event(peer={"domain": "a.test", "quarantined": False}))
    assert wants((), (), (), "exclude", event("endpoint.disabled"))
    assert not wants((), (), (), "exclude", event(peer={"domain": "a.test", "quarantined": True}))


def test_an_endpoint_can_ask_for_quarantine_too_or_for_it_alone() -> None:
    quarantined = event(peer={"domain": "a.test", "quarantined": True})
    shown = event(peer={"domain": "a.test", "quarantined": False})
    assert wants((), (), (), "include", quarantined)
    assert wants((), (), (), "include", shown)
    assert wants((), (), (), "only", quarantined)
    assert not wants((), (), (), "only", shown)
    assert not wants((), (), (), "only", event("endpoint.disabled"))


def test_each_filter_that_is_set_must_let_an_event_through() -> None:
    told = event(peer={"domain": "a.test"}, incident={"severity": "high"})
    assert wants(("incident.reported",), ("a.test",), ("high",), "exclude", told)
    assert not wants(("incident.updated",), ("a.test",), ("high",), "exclude", told)
    assert not wants(("incident.reported",), ("b.test",), ("high",), "exclude", told)
    assert not wants(("incident.reported",), ("a.test",), ("low",), "exclude", told)


def test_an_event_that_lacks_what_a_filter_asks_about_is_not_told() -> None:
    assert not wants((), ("a.test",), (), "include", event())
    assert not wants((), (), ("high",), "include", event(incident={"severity": None}))
    assert not wants((), (), ("high",), "include", event(identity={}))


# --- addresses

FORBIDDEN = {
    "0.0.0.0": "unspecified",  # noqa: S104 (an address to judge)
    "0.1.2.3": "this network",
    "10.1.2.3": "private",
    "100.64.0.1": "carrier-grade NAT",
    "100.127.255.255": "carrier-grade NAT",
    "127.0.0.1": "loopback",
    "127.255.255.254": "loopback",
    "169.254.169.254": "link-local",
    "172.16.0.1": "private",
    "172.31.255.255": "private",
    "192.0.0.170": "IETF protocol assignments",
    "192.0.2.1": "documentation",
    "192.88.99.1": "6to4 relay",
    "192.168.1.1": "private",
    "198.18.0.1": "benchmarking",
    "198.19.255.255": "benchmarking",
    "198.51.100.1": "documentation",
    "203.0.113.1": "documentation",
    "224.0.0.1": "multicast",
    "239.255.255.250": "multicast",
    "240.0.0.1": "reserved",
    "255.255.255.255": "broadcast",
    "::": "unspecified",
    "::1": "loopback",
    "::7f00:1": "IPv4-compatible",
    "::808:808": "IPv4-compatible",
    "::ffff:127.0.0.1": "loopback",
    "::ffff:169.254.169.254": "link-local",
    "::ffff:0:8.8.8.8": "IPv4-translated",
    "64:ff9b::7f00:1": "NAT64",
    "64:ff9b::8.8.8.8": "NAT64",
    "64:ff9b:1::a00:1": "NAT64",
    "100::1": "discard-only",
    "100:0:0:1::1": "reserved",
    "2001::1": "Teredo",
    "2001:2::1": "IETF protocol assignments",
    "2001:20::1": "IETF protocol assignments",
    "2001:db8::1": "documentation",
    "2002:7f00:1::": "6to4",
    "2002:808:808::": "6to4",
    "3fff::1": "documentation",
    "4000::1": "reserved",
    "5f00::1": "SRv6",
    "fc00::1": "unique local",
    "fd00:ec2::254": "unique local",
    "fe80::1": "link-local",
    "fe80::1%eth0": "link-local",
    "fec0::1": "site-local",
    "ff02::1": "multicast",
}


@pytest.mark.parametrize(("address", "name"), FORBIDDEN.items())
def test_an_address_that_is_not_public_is_forbidden_by_the_name_of_its_range(address: str, name: str) -> None:
    assert is_forbidden(ip_address(address)) == name


PUBLIC = """
1.1.1.1 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 172.15.255.255 172.32.0.0 192.0.1.0 198.20.0.0
223.255.255.255 2606:4700::1 2a00:1450::1 ::ffff:8.8.8.8
"""


@pytest.mark.parametrize("address", PUBLIC.split())
def test_a_public_address_is_not_forbidden(address: str) -> None:
    assert is_forbidden(ip_address(address)) is None


@given(st.ip_addresses())
def test_nothing_is_connected_to_that_python_knows_to_be_not_global(
    address: IPv4Address | IPv6Address,
) -> None:
    if is_forbidden(address) is None:
        assert address.is_global
        assert not address.is_multicast


@given(st.ip_addresses(v=4))
def test_no_way_of_writing_an_ipv4_address_as_ipv6_makes_it_good(address: IPv4Address) -> None:
    number = int(address)
    assert is_forbidden(IPv6Address(0xFFFF << 32 | number)) == is_forbidden(address)
    assert is_forbidden(IPv6Address(number))
    assert is_forbidden(IPv6Address(0x64FF9B << 96 | number))
    assert is_forbidden(IPv6Address(0x2002 << 112 | number << 80))


def test_a_network_the_operator_named_is_good_also_as_an_ipv4_mapped_address() -> None:
    assert is_forbidden(ip_address("10.1.2.3"), PRIVATE) is None
    assert is_forbidden(ip_address("::ffff:10.1.2.3"), PRIVATE) is None
    assert is_forbidden(ip_address("192.168.1.1"), PRIVATE) == "private"
    assert is_forbidden(ip_address("::1"), (ip_network("::1/128"),)) is None


def test_allowing_the_nat64_prefix_does_not_allow_private_addresses_behind_it() -> None:
    nat64 = (ip_network("64:ff9b::/96"),)
    assert is_forbidden(ip_address("64:ff9b::8.8.8.8"), nat64) is None
    assert is_forbidden(ip_address("64:ff9b::10.0.0.1"), nat64) == "private"
    assert is_forbidden(ip_address("64:ff9b::10.0.0.1"), nat64 + PRIVATE) is None
    assert is_forbidden(ip_address("2002:7f00:1::"), (ip_network("2002::/16"),)) == "loopback"


def test_a_public_address_is_in_no_network_the_operator_named() -> None:
    assert not is_allowed(ip_address("8.8.8.8"), PRIVATE)
    assert is_allowed(ip_address("::ffff:10.0.0.1"), PRIVATE)


# --- URLs


@pytest.mark.parametrize(
    ("url", "written"),
    [
        ("https://example.org", "https://example.org/"),
        ("HTTPS://Example.ORG.:443/A?b=C", "https://example.org/A?b=C"),
        ("https://example.org:8443/a%20b", "https://example.org:8443/a%20b"),
        ("https://example.org:80/", "https://example.org:80/"),
        ("https://bücher.example/straße?x=ß", "https://xn--bcher-kva.example/stra%C3%9Fe?x=%C3%9F"),
        ("https://faß.example/", "https://xn--fa-hia.example/"),
        ("https://8.8.8.8/", "https://8.8.8.8/"),
        ("https://[2606:4700:0::1]:4433/", "https://[2606:4700::1]:4433/"),
        ("https://my_consumer/in", "https://my_consumer/in"),
        ('https://example.org/{"a"}', "https://example.org/%7B%22a%22%7D"),
    ],
)
def test_a_good_url_is_written_in_one_way(url: str, written: str) -> None:
    assert check_url(url, allow_http=False) == written


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("", "is not a URL"),
        ("example.org", "is not a URL"),
        ("https:example.org", "is not a URL"),
        ("https:///x", "has no host"),
        ("https://:443/", "has no host"),
        ("ftp://example.org/", "begins with ftp://"),
        ("file:///etc/passwd", "begins with file://"),
        ("gopher://example.org/", "begins with gopher://"),
        ("http://example.org/", "plain http"),
        ("https://user@example.org/", "user name"),
        ("https://user:pass@example.org/", "user name"),
        ("https://example.org@10.0.0.1/", "user name"),
        ("https://example.org\\@10.0.0.1/", "backslash"),
        ("https://example.org/#x", "after #"),
        ("https://example.org#", "after #"),
        ("https://example.org/a b", "space"),
        ("https://example.org/\r\nX: y", "cannot be printed"),
        (" https://example.org/", "space"),
        ("https://example.org/\u202etxt", "cannot be printed"),
        ("https://example.org/%zz", "hexadecimal"),
        ("https://example.org:22/", "port 22"),
        ("https://example.org:25/", "port 25"),
        ("https://example.org:0/", "port 0"),
        ("https://example.org:6379/", "port 6379"),
        ("https://example.org:65536/", "port 65536"),
        ("https://example.org:999999/", "is not a host"),
        ("https://example.org:/", "is not a host"),
        ("https://example.org:8a/", "is not a host"),
        ("https://exa%6dple.org/", "is not a host name"),
        ("https://-a.example/", "is not a host name"),
        ("https://a..example/", "is not a host name"),
        ("https://" + "a" * 64 + ".example/", "is not a host name"),
        ("https://" + "a." * 130 + "example/", "is not a host name"),
        ("https://" + "ü" * 100 + "/", "IDNA"),
        ("https://a\u200db.example/", "cannot be printed"),
        ("https://☃.example:8443/", "IDNA"),
        ("https://127.1/", "four decimal numbers"),
        ("https://2130706433/", "four decimal numbers"),
        ("https://0x7f.1/", "four decimal numbers"),
        ("https://0x7f000001/", "four decimal numbers"),
        ("https://0177.0.0.1/", "four decimal numbers"),
        ("https://127.0.0.0x1/", "four decimal numbers"),
        ("https://1.2.3.256/", "four decimal numbers"),
        ("https://127.0.0.1/", "(loopback)"),
        ("https://127.0.0.1./", "(loopback)"),
        ("https://\uff11\uff12\uff17.0.0.1/", "(loopback)"),
        ("https://127。0。0。1/", "(loopback)"),
        ("https://[::1]/", "(loopback)"),
        ("https://[::ffff:7f00:1]/", "(loopback)"),
        ("https://[::ffff:169.254.169.254]/", "(link-local)"),
        ("https://[64:ff9b::7f00:1]/", "(NAT64)"),
        ("https://[fe80::1%25eth0]/", "network interface"),
        ("https://[fe80::1%eth0]/", "network interface"),
        ("https://[::1/", "is not a host"),
        ("https://[::1]x/", "is not a host"),
        ("https://[v1.a]/", "is not an IPv6 address"),
        ("https://10.0.0.1/", "(private)"),
        ("https://localhost/", "(loopback)"),
        ("https://LOCALHOST./", "(loopback)"),
        ("https://a.localhost:8443/", "(loopback)"),
        ("https://example.org/" + "a" * 2040, "2048"),
        ("https://example.org/" + "ü" * 1000, "2048"),
    ],
)
def test_a_forbidden_url_is_refused_with_the_rule_it_breaks(url: str, rule: str) -> None:
    assert rule in refusal(url)


def test_plain_http_is_good_to_networks_the_operator_named_and_to_all_if_allowed() -> None:
    assert check_url("http://10.0.0.1:8080/", allow_http=False, allowed=PRIVATE) == "http://10.0.0.1:8080/"
    assert check_url("http://consumer.lan/", allow_http=False, allowed=PRIVATE) == "http://consumer.lan/"
    assert check_url("http://example.org:80", allow_http=True) == "http://example.org/"
    assert "plain http" in refusal("http://8.8.8.8/", allowed=PRIVATE)
    assert "(private)" in refusal("http://192.168.0.1/", allow_http=True, allowed=PRIVATE)


def test_localhost_is_good_where_the_operator_allows_loopback() -> None:
    allowed = (ip_network("127.0.0.0/8"),)
    assert check_url("http://localhost:9000/", allow_http=False, allowed=allowed) == "http://localhost:9000/"


@given(st.text(max_size=60) | st.text(max_size=60).map("https://".__add__))
def test_any_text_is_a_url_or_refused(text: str) -> None:
    try:
        written = check_url(text, allow_http=True)
    except MalformedError:
        return
    assert written.isascii()
    assert check_url(written, allow_http=True) == written


HOSTS = st.text(alphabet="abz01.-_[]:@%xü。ß\\/?#", min_size=1, max_size=20)


@given(HOSTS)
def test_the_http_client_reads_the_same_host_in_what_we_write(host: str) -> None:
    try:
        written = check_url(f"https://{host}/", allow_http=False)
    except MalformedError:
        return
    url = URL(written)
    shown = f"[{url.raw_host}]" if ":" in (url.raw_host or "") else url.raw_host
    port = "" if url.port == 443 else f":{url.port}"
    assert written.startswith(f"https://{shown}{port}/")
    assert url.user is None


# --- headers


def test_good_headers_are_kept_as_they_are() -> None:
    headers = {"Authorization": "Bearer abc.def", "X-Tenant": "a b"}
    assert check_headers(headers) == headers


RESERVED = """
Host content-length Content-Type Content-Encoding Connection Transfer-Encoding User-Agent Webhook-Id webhook-signature
Cookie TE Trailer Upgrade Expect Accept-Encoding Proxy-Authorization X-Forwarded-For X-HTTP-Method-Override
"""


@pytest.mark.parametrize(
    "name", [*RESERVED.split(), "", "a b", "a:b", "a\r\nHost", "ä", "a\0", "(x)", "x" * 65]
)
def test_a_header_that_is_reserved_or_no_token_is_refused(name: str) -> None:
    with pytest.raises(MalformedError) as caught:
        check_headers({name: "x"})
    assert caught.value.path == "headers"


@pytest.mark.parametrize(
    "value", ["", " x", "x ", "a\r\nX-Evil: 1", "a\nb", "a\tb", "a\0b", "ä", "x" * 1025, 1, None]
)
def test_a_value_that_is_not_plain_is_refused_and_not_shown(value: object) -> None:
    with pytest.raises(MalformedError) as caught:
        check_headers({"X-Key": value})
    assert "X-Key" in caught.value.rule
    assert "X-Evil" not in caught.value.rule


def test_headers_are_at_most_ten_and_none_stands_twice() -> None:
    with pytest.raises(MalformedError, match="10 is the most"):
        check_headers({f"X-{number}": "x" for number in range(11)})
    with pytest.raises(MalformedError, match="twice"):
        check_headers({"X-A": "1", "x-a": "2"})


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=4))
def test_any_headers_are_good_as_they_are_or_refused(headers: dict[str, str]) -> None:
    try:
        checked = check_headers(headers)
    except MalformedError:
        return
    assert checked == headers
    assert all((name + value).isascii() and (name + value).isprintable() for name, value in checked.items())
