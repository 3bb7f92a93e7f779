"""From which address somebody asks, also behind a proxy.

House rule: what a proxy says counts only if the proxy is one of ours, and of that only what it saw itself.
"""

import ipaddress

from aiohttp import web

from bridge.web.state import SERVICE


def origin(request: web.Request) -> str:
    """The address of who asks; what a trusted proxy says of it, if one asks for somebody."""
    remote = request.remote or ""
    if not _is_proxy(remote, request):
        return remote
    lines = request.headers.getall("X-Forwarded-For", [""])  # a proxy may add a line instead of a word
    said = lines[-1].rpartition(",")[2].strip()
    try:
        return str(ipaddress.ip_address(said))
    except ValueError:
        return remote


def _is_proxy(remote: str, request: web.Request) -> bool:
    try:
        address = ipaddress.ip_address(remote)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    networks = request.app[SERVICE].settings.server.trusted_proxies
    return any((mapped or address) in network for network in networks)
