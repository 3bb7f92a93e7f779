"""Small words that the terminal and the console share."""

from datetime import UTC, datetime


def moment(time: datetime | None) -> str:
    """`2026-11-21 22:50:07Z`; operators of two servers compare these, so always UTC."""
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ") if time else "-"


def count(number: int, one: str, many: str | None = None) -> str:
    """`1 incident`, `2 incidents`."""
    return f"{number} {one if number == 1 else many or one + 's'}"
