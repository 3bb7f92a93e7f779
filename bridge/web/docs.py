"""The documentation page of the API at `/docs`: plain HTML from the OpenAPI document; no script, no third party."""

import base64
import hashlib
from collections.abc import Iterator
from html import escape
from typing import Any, Final

from bridge.web.problems import KINDS
from bridge.web.problems import PREFIX as PROBLEM

_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;"
    "background:#fff}code,pre{font-family:ui-monospace,monospace;font-size:.9em}h2{margin-top:2.5rem;"
    "border-bottom:1px solid #ccc}h3{margin-top:2rem}table{border-collapse:collapse;width:100%}td,th{text-align:"
    "left;vertical-align:top;padding:.2rem .8rem .2rem 0;border-bottom:1px solid #eee}.m{font-weight:700}"
    ".s{color:#555}a{color:#0b57d0}@media(prefers-color-scheme:dark){body{color:#e6e6e6;background:#121212}"
    "h2{border-color:#444}td,th{border-color:#2a2a2a}.s{color:#aaa}a{color:#8ab4f8}}"
)
_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
HEADERS: Final = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def html(described: dict[str, Any]) -> str:
    """The whole page."""
    info, base = described["info"], described["servers"][0]["url"]
    lines = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(info['title'])}: API</title>",
        "<meta name=viewport content='width=device-width'>",
        f"<style>{_STYLE}</style><h1>{escape(info['title'])}: API</h1>",
        f"<p>{_text(info['description'])}</p>",
        f"<p>For programs: <a href='{base}/openapi.json'>{base}/openapi.json</a> (OpenAPI 3.1).</p>",
        *_contents(described),
        *_operations(described, base),
        *_events(described, base),
        *_problems(),
        "<h2 id=schemas>Schemas</h2>",
        *(
            line
            for name, schema in described["components"]["schemas"].items()
            for line in _schema(name, schema)
        ),
        "</html>",
    ]
    return "\n".join(lines)


def _text(text: str) -> str:
    """Escape a text; what stands in back quotes is code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))


def _all(described: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            yield path, method.upper(), operation


def _contents(described: dict[str, Any]) -> Iterator[str]:
    yield "<ul>"
    for path, method, operation in _all(described):
        yield (
            f"<li><a href='#{escape(operation['operationId'])}'><code>{method} {escape(path)}</code></a> "
            f"<span class=s>{_text(operation['summary'])}</span>"
        )
    yield "<li><a href='#events'>Webhook events</a>"
    yield "<li><a href='#problems'>Problems</a><li><a href='#schemas'>Schemas</a></ul>"


def _operations(described: dict[str, Any], base: str) -> Iterator[str]:
    for tag in described["tags"]:
        yield f"<h2>{escape(tag['name'])}</h2>"
        for path, method, operation in _all(described):
            if operation["tags"] == [tag["name"]]:
                yield from _operation(base + path, method, operation)


def _operation(path: str, method: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"<h3 id='{escape(operation['operationId'])}'><code>{method} {escape(path)}</code></h3>"
    scope = operation.get("x-scope")
    needs = f"Needs the scope <code>{escape(scope)}</code>." if scope else "Needs no token."
    yield f"<p>{_text(operation['summary'])}. <span class=s>{needs}</span></p>"
    if operation.get("description"):
        yield f"<p>{_text(operation['description'])}</p>"
    if operation["parameters"]:
        yield "<table><tr><th>parameter<th>in<th>type<th>"
        for one in operation["parameters"]:
            yield (
                f"<tr><td><code>{escape(one['name'])}</code><td>{one['in']}<td>{_type(one['schema'])}"
                f"<td>{_text(one['schema'].get('description', ''))}"
            )
        yield "</table>"
    if "requestBody" in operation:
        yield f"<p>Body: {_content(operation['requestBody'])}</p>"
    yield "<table><tr><th>answer<th><th>"
    for status, response in operation["responses"].items():
        yield f"<tr><td>{escape(status)}<td>{escape(response['description'])}<td>{_content(response)}"
    yield "</table>"


def _events(described: dict[str, Any], base: str) -> Iterator[str]:
    yield "<h2 id=events>Webhook events</h2>"
    yield "<p>The body of each delivery, and of each event in <code>/api/v1/events</code>; signed as Standard "
    yield "Webhooks 1.0 says. More types and members may come: ignore those you do not know.</p>"
    yield "<table><tr><th>type<th><th>data<th>JSON Schema"
    for name, operation in described.get("webhooks", {}).items():
        body = operation["post"]["requestBody"]["content"]["application/json"]["schema"]
        name_, url = escape(name), f"{base}/schemas/{escape(name)}.json"
        yield (
            f"<tr><td><code>{name_}</code><td>{_text(operation['post']['summary'])}"
            f"<td>{_type(body['properties']['data'])}<td><a href='{url}'>{name_}.json</a>"
        )
    yield "</table>"


def _content(holder: dict[str, Any]) -> str:
    return ", ".join(
        f"<code>{escape(media)}</code> {_type(one['schema'])}"
        for media, one in holder.get("content", {}).items()
    )


def _type(schema: Any) -> str:  # noqa: PLR0911 - a line for each shape
    """A schema in a few words, with links to those that have a name."""
    if not isinstance(schema, dict):
        return "anything"
    if "$ref" in schema:
        name = escape(schema["$ref"].rsplit("/", 1)[1])
        return f"<a href='#schema-{name}'>{name}</a>"
    for word in ("anyOf", "oneOf", "allOf"):
        if word in schema:
            return " or ".join(_type(one) for one in schema[word])
    if "const" in schema:
        return f"<code>{escape(str(schema['const']))}</code>"
    if "enum" in schema:
        return " | ".join(f"<code>{escape(str(one))}</code>" for one in schema["enum"])
    if schema.get("type") == "array":
        items = schema.get("items", schema.get("prefixItems", [{}])[0])
        return f"list of {_type(items)}"
    if "additionalProperties" in schema and isinstance(schema["additionalProperties"], dict):
        return f"object of {_type(schema['additionalProperties'])}"
    return escape(str(schema.get("format") or schema.get("type") or "anything"))


def _schema(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield f"<h3 id='schema-{escape(name)}'>{escape(name)}</h3>"
    if schema.get("description"):
        yield f"<p>{_text(schema['description'])}</p>"
    properties = schema.get("properties")
    if not properties:
        yield f"<p>{_type(schema)}</p>"
        return
    required = schema.get("required", ())
    yield "<table><tr><th>field<th>type<th>"
    for field, one in properties.items():
        mark = "" if field in required else " <span class=s>(optional)</span>"
        yield f"<tr><td><code>{escape(field)}</code>{mark}<td>{_type(one)}<td>{_text(one.get('description', ''))}"
    yield "</table>"


def _problems() -> Iterator[str]:
    yield "<h2 id=problems>Problems</h2><table><tr><th>type<th>status<th>"
    for kind, (status, title) in KINDS.items():
        yield f"<tr><td><code>{PROBLEM}{kind}</code><td>{status}<td>{escape(title)}"
    yield "</table>"
