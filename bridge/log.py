"""One line per outcome on stderr, with fields: for people on a terminal, JSON for everybody else.

House rules: never a secret, never a whole stanza; whatever a peer wrote is escaped before it reaches a terminal.
"""

import json
import logging
import sys
import unicodedata
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

Format = Literal["auto", "human", "json"]
Log = logging.LoggerAdapter[logging.Logger]

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_LEVEL_WIDTH = len("critical")


def visible(text: str) -> str:
    r"""Show control, bidirectional, invisible and unassigned characters as escapes such as `\u202e`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(character) for character in text)


def _escaped(character: str) -> str:
    if unicodedata.category(character) not in _HIDDEN:
        return character
    return character.encode("unicode_escape").decode("ascii")


class _FieldsAdapter(logging.LoggerAdapter[logging.Logger]):
    """Takes fields as keywords: `log.info("stored", interaction=id, peer=domain)`."""

    def process(
        self, msg: object, kwargs: MutableMapping[str, Any]
    ) -> tuple[object, MutableMapping[str, Any]]:
        known = {
            name: kwargs.pop(name) for name in ("exc_info", "stack_info", "stacklevel") if name in kwargs
        }
        fields = {**(kwargs.pop("extra", None) or {}), **kwargs}
        return msg, {**known, "extra": {"fields": fields}}


def get(name: str) -> Log:
    """Return the log called `name`; every keyword that logging itself does not know becomes a field."""
    return _FieldsAdapter(logging.getLogger(name), {})


def configure(format: Format = "auto", level: str = "INFO", *, stream: TextIO | None = None) -> None:  # noqa: A002 (the option is called so)
    """Send every log of this process to `stream` (stderr), replacing what was configured before.

    Args:
        format: `auto` is human on a terminal and JSON otherwise.
        level: a level name of stdlib logging.
        stream: where to write; None means stderr.
    """
    out = stream or sys.stderr
    is_human = format == "human" or (format == "auto" and out.isatty())
    handler = logging.StreamHandler(out)
    handler.setFormatter(HumanFormatter() if is_human else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def _fields(record: logging.LogRecord) -> Mapping[str, Any]:
    fields: Mapping[str, Any] = getattr(record, "fields", {})
    return fields


class HumanFormatter(logging.Formatter):
    """`22:51:07 info     stored  peer=spam.example interaction=…`, local time."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; a traceback follows on lines of its own."""
        time = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        words = [f"{time} {record.levelname.lower():{_LEVEL_WIDTH}} {visible(record.getMessage())}"]
        words += [f"{name}={_word(value)}" for name, value in _fields(record).items() if value is not None]
        line = "  ".join([words[0], " ".join(words[1:])]).rstrip()
        if record.exc_info:
            trace = self.formatException(record.exc_info)
            line += "".join(f"\n    {visible(part)}" for part in trace.splitlines())
        return line


def _word(value: object) -> str:
    text = visible(str(value))
    return json.dumps(text, ensure_ascii=False) if " " in text or '"' in text or not text else text


class JsonFormatter(logging.Formatter):
    """One JSON object a line, pure ASCII; fields stand beside `time`, `level`, `log` and `text`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever is inside."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, tz=UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "log": record.name,
            "text": record.getMessage(),
        }
        entry |= {name: value for name, value in _fields(record).items() if name not in entry}
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)
