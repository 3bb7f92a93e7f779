"""Hostile bytes: kept seeds, cut, doubled and joined in ways that parsers dislike.

Whatever made something fail is kept in `corpus/`: a file for each seed of documents and requests, a line for each of
what fits into a line.
"""

import resource
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from types import FrameType

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

CORPUS = Path(__file__).parent / "corpus"
MOST_BYTES = 200_000
SECONDS = 5.0
MOST_GROWTH_BYTES = 300 * 2**20
LONGER = 30 if "--long" in sys.argv else 1
TOKENS = (
    *(bytes([number]) for number in (0, 9, 10, 13, 32, 34, 39, 44, 47, 58, 60, 62, 64, 91, 92, 123, 127, 128, 255)),
    *(b"\r\n", b"\xed\xa0\x80", b"\xc0\xaf", b"\xe2\x80\xae", b"\xef\xbb\xbf", b"\xf4\x90\x80\x80"),
    *("\u0130\u1e9e\ufdfa\u2100".encode(), "\u05d0a".encode(), b"xn--", b"%00", b"%ed%a0%80", b"%", b"..", b"'--"),
    *(b"-1", b"9" * 400, b"1e999", b"NaN", b"null", b"true", b'"\\ud800"', b"[", b'{"a":', b"[]", b"{}", b'""'),
    *(b"&#0;", b"&#xD800;", b"&lt;", b"&x;", b"<![CDATA[", b"<!DOCTYPE a [<!ENTITY x 'y'>]>", b"<!--", b"<?a?>"),
    *(b" xmlns:a='u'", b" xmlns=''", b"<a:b xmlns:a='u'/>", b" restriction='private'", b" xml:lang='x'", b"</iq>"),
    *(b"Transfer-Encoding: chunked\r\n", b"Content-Length: -1\r\n", b"Expect: 100-continue\r\n", b"v1,", b"$()"),
)  # fmt: skip


def seeds(name: str) -> list[bytes]:
    """The kept seeds of a parser."""
    folder = CORPUS / name
    if folder.is_dir():
        return [file.read_bytes().removesuffix(b"\n") for file in sorted(folder.iterdir())]
    return (CORPUS / f"{name}.txt").read_bytes().splitlines()


NUMBERS = st.integers(0, 2**64)
"""What `mutation` takes: one number is a hundred times cheaper to draw than what is made of it."""


def mutation(kept: Sequence[bytes], number: int) -> bytes:
    """A seed after up to eight cuts, insertions, repetitions and joints, the same for the same number."""
    dice = Random(number)  # noqa: S311 - no secret
    data = dice.choice(kept)
    for _ in range(dice.randint(0, 8)):
        start = dice.randint(0, len(data))
        end = min(len(data), start + dice.choice((0, 1, 2, 5, 20, 100, 1000)))
        match dice.choice(("put", "put", "cut", "repeat", "join", "bytes")):
            case "put":
                piece = dice.choice(TOKENS)
            case "cut":
                piece = b""
            case "repeat":
                piece = data[start:end] * dice.choice((2, 3, 70, 5001))
            case "join":
                other = dice.choice(kept)
                piece = other[dice.randint(0, len(other)) :]
            case _:
                piece = dice.randbytes(dice.randint(0, 8))
        data = (data[:start] + piece + data[end:])[:MOST_BYTES]
    return data


def bounded(examples: int) -> settings:
    """So many examples, each as long as `watched` lets it; `tests/run --long` tries many times as many."""
    return settings(
        max_examples=examples * LONGER,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=LONGER == 1,
    )


@contextmanager
def watched() -> Iterator[None]:
    """Fail what hangs, by the processor's time: the machine may be busy."""

    def too_long(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"more than {SECONDS:g} s of processor time for one input")

    before = signal.signal(signal.SIGPROF, too_long)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def survives(
    read: Callable[[bytes], object], data: bytes, *, allowed: type[Exception] | tuple[type[Exception], ...]
) -> None:
    """Read it: a value or one of the errors allowed, in bounded time and memory."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with watched():
        try:
            read(data)
        except allowed as error:
            assert str(error)  # noqa: PT017 - either outcome is right
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most)
    assert grown < MOST_GROWTH_BYTES, f"one input of {len(data)} bytes takes {grown} bytes"
