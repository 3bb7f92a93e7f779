"""Forms (XEP-0004) and the steps of ad-hoc commands (XEP-0050), as plain values.

House rules: what a form sends back is what somebody typed, hidden fields too; whoever writes a form out makes its
texts harmless.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from bridge.errors import ConfigError

Given = Mapping[str, tuple[str, ...]]
_TRUE = {"1", "true"}


class FieldKind(StrEnum):
    """The types of fields that we use."""

    BOOLEAN = "boolean"
    FIXED = "fixed"
    HIDDEN = "hidden"
    LIST_MULTI = "list-multi"
    LIST_SINGLE = "list-single"
    TEXT_MULTI = "text-multi"
    TEXT_SINGLE = "text-single"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field; `options` are (what is shown, what is sent back)."""

    var: str = ""
    kind: FieldKind
    label: str = ""
    values: tuple[str, ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    is_required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A form to fill in, or (`is_result`) to read."""

    title: str
    instructions: tuple[str, ...] = ()
    fields: tuple[Field, ...] = ()
    is_result: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One step of a command.

    Attributes:
        actions: what may be done next, the default last; empty: the command is over.
        note: for the person, above the form.
        is_error: the note says what was wrong.
    """

    form: Form | None = None
    note: str = ""
    is_error: bool = False
    actions: tuple[str, ...] = ()


class CommandError(ConfigError):
    """A command that goes no further.

    Attributes:
        type, condition: the stanza error.
        detail: XEP-0050's own word for it, or "".
    """

    def __init__(self, condition: str, text: str, *, type: str = "cancel", detail: str = "") -> None:  # noqa: A002
        super().__init__(text)
        self.type = type
        self.condition = condition
        self.detail = detail


def fixed(text: str) -> Field:
    """A line to read."""
    return Field(kind=FieldKind.FIXED, values=(text,))


def line(var: str, label: str, given: Given, *, is_required: bool = False) -> Field:
    """A field for a line of text, with what was typed before."""
    return Field(
        var=var,
        kind=FieldKind.TEXT_SINGLE,
        label=label,
        values=given.get(var, ())[:1],
        is_required=is_required,
    )


def lines(var: str, label: str, given: Given, *, is_required: bool = False) -> Field:
    """A field for several lines, with what was typed before."""
    return Field(
        var=var, kind=FieldKind.TEXT_MULTI, label=label, values=given.get(var, ()), is_required=is_required
    )


def choice(
    var: str,
    label: str,
    options: Sequence[tuple[str, str]],
    given: Given,
    *,
    default: str = "",
    is_required: bool = False,
) -> Field:
    """A field to choose one thing."""
    chosen = given.get(var, ())[:1] or ((default,) if default else ())
    return Field(
        var=var,
        kind=FieldKind.LIST_SINGLE,
        label=label,
        values=chosen,
        options=tuple(options),
        is_required=is_required,
    )


def words(options: Sequence[str]) -> list[tuple[str, str]]:
    """Options that are shown as they are sent back."""
    return [(one, one) for one in options]


def page(title: str, text: Sequence[str], *, note: str = "") -> Reply:
    """The end of a command: something to read."""
    shown = Field(var="text", kind=FieldKind.TEXT_MULTI, values=tuple(text))
    return Reply(form=Form(title=title, fields=(shown,) if text else (), is_result=True), note=note)


def over(note: str) -> Reply:
    """The end of a command: a sentence."""
    return Reply(note=note)


def failed(asked: Reply, why: str) -> Reply:
    """The same form again, with what was wrong."""
    return replace(asked, note=why, is_error=True)


def first(given: Given, var: str) -> str:
    """What was typed into a field, "" if nothing."""
    return next(iter(given.get(var, ())), "").strip()


def several(given: Given, var: str) -> tuple[str, ...]:
    """The lines typed into a field, each once, without empty ones."""
    return tuple(dict.fromkeys(text.strip() for text in given.get(var, ()) if text.strip()))


def text(given: Given, var: str) -> str:
    """The whole text typed into a field."""
    return "\n".join(given.get(var, ())).strip()


def is_set(given: Given, var: str) -> bool:
    """Whether a box is ticked."""
    return first(given, var) in _TRUE


def one_of(given: Given, var: str, options: Sequence[str], label: str) -> str:
    """What was chosen, "" if nothing.

    Raises:
        ConfigError: it was not offered.
    """
    chosen = first(given, var)
    if chosen and chosen not in options:
        raise ConfigError(f"{label}: {chosen} is not one of {', '.join(options)}")
    return chosen


def plain(reply: Reply) -> dict[str, Any]:
    """As the module in Prosody takes it; nothing is made harmless here."""
    found: dict[str, Any] = {"status": "executing" if reply.actions else "completed"}
    if reply.actions:
        found["actions"] = list(reply.actions)
    if reply.note:
        found["note"] = {"type": "error" if reply.is_error else "info", "text": reply.note}
    if reply.form is not None:
        found["form"] = {
            "type": "result" if reply.form.is_result else "form",
            "title": reply.form.title,
            "instructions": list(reply.form.instructions),
            "fields": [_plain_field(one) for one in reply.form.fields],
        }
    return found


def _plain_field(field: Field) -> dict[str, Any]:
    found: dict[str, Any] = {"type": str(field.kind), "values": list(field.values)}
    if field.var:
        found["var"] = field.var
    if field.label:
        found["label"] = field.label
    if field.options:
        found["options"] = [{"label": label, "value": value} for label, value in field.options]
    if field.is_required:
        found["required"] = True
    return found
