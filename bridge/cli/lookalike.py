"""How the terminal shows addresses, and those that only look like one that the operator knows."""

from collections.abc import Iterable

from bridge.cli.output import cell
from bridge.policy.lookalike import alike, with_ascii


def address_cell(address: str) -> str:
    """The address as it is shown: where it is not ASCII, with its ASCII form beside it."""
    return cell(with_ascii(address))


def remarks(addresses: Iterable[str], known: Iterable[str]) -> list[str]:
    """A sentence on each address whose domain looks like one of `known` and is another."""
    found = alike(addresses, known)
    return [f"Looks alike: {address_cell(address)} is NOT {cell(like)}" for address, like in found]
