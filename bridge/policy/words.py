"""Small words that the terminal and the console share."""

from datetime import UTC, datetime


def moment(time: datetime | None) -> str:
    """`2026-11-21 22:50:07Z`; operators of two servers compare these, so always UTC."""
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ") if time else "-"


def duration(seconds: float) -> str:
    """`0.4 s`, `12 min`, `5.5 h`, `3.0 days`."""
    for unit_seconds, unit in ((86_400, "days"), (3_600, "h")):
        if seconds >= unit_seconds:
            return f"{seconds / unit_seconds:.1f} {unit}"
    return f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.1f} s"  # noqa: PLR2004 - a minute


def count(number: int, one: str, many: str | None = None) -> str:
    """`1 incident`, `2 incidents`."""
    return f"{number} {one if number == 1 else many or one + 's'}"
