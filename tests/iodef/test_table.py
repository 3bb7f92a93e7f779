"""Every line of our table against the official schema."""

from pathlib import Path

import pytest
from lxml import etree

from bridge.iodef.table import CLASSES, Class, Text, tag

XS = "{http://www.w3.org/2001/XMLSchema}"
TEXT_TYPES = {
    "dateTime": Text.TIME,
    "integer": Text.INTEGER,
    "double": Text.NUMBER,
    "PositiveFloatType": Text.POSITIVE,
    "PortlistType": Text.PORTLIST,
    "TimezoneType": Text.TIMEZONE,
    "anyURI": Text.URI,
    "string": Text.STRING,
}
Content = list[tuple[frozenset[str], bool, bool]]


class Schema:
    """The official schema as the same facts that the table holds."""

    def __init__(self, path: Path) -> None:
        self.root = etree.parse(path).getroot()
        self.types = {e.get("name"): e for e in self.root.findall(f"{XS}complexType")}
        self.simple = {e.get("name"): e for e in self.root.findall(f"{XS}simpleType")}
        self.elements = {e.get("name"): e for e in self.root.iter(f"{XS}element") if e.get("name")}
        self.globals = {e.get("name") for e in self.root.findall(f"{XS}element")}

    def local(self, name: str | None) -> str:
        return (name or "").partition(":")[2] or (name or "")

    def type_of(self, name: str) -> etree._Element | None:
        element = self.elements[name]
        inner = element.find(f"{XS}complexType")
        return inner if inner is not None else self.types.get(self.local(element.get("type")))

    def content(self, name: str) -> Content:
        kind = self.type_of(name)
        sequence = None if kind is None else kind.find(f"{XS}sequence")
        return (
            []
            if sequence is None
            else [self.particle(item) for item in sequence if item.tag != f"{XS}any"] or []
        )

    def particle(self, item: etree._Element) -> tuple[frozenset[str], bool, bool]:
        inner = item.findall(f"{XS}element") if item.tag == f"{XS}choice" else [item]
        names = frozenset(self.local(e.get("ref") or e.get("name")) for e in inner)
        required = item.get("minOccurs", "1") != "0" and any(e.get("minOccurs", "1") != "0" for e in inner)
        single = item.get("maxOccurs", "1") == "1" and all(e.get("maxOccurs", "1") == "1" for e in inner)
        return names, required, single

    def attributes(self, name: str) -> dict[str | None, tuple[bool, frozenset[str | None] | None]]:
        kind = self.type_of(name)
        found = {}
        while kind is not None:
            for attribute in kind.iter(f"{XS}attribute"):
                found[attribute.get("name")] = (attribute.get("use") == "required", self.values(attribute))
            extension = kind.find(f".//{XS}extension")
            kind = None if extension is None else self.types.get(self.local(extension.get("base")))
        return found

    def values(self, attribute: etree._Element) -> frozenset[str | None] | None:
        if attribute.get("fixed"):
            return frozenset([attribute.get("fixed")])
        simple = attribute.find(f"{XS}simpleType")
        if simple is None:
            simple = self.simple.get(self.local(attribute.get("type")))
        values = [] if simple is None else [e.get("value") for e in simple.iter(f"{XS}enumeration")]
        return frozenset(values) or None

    def text(self, name: str) -> Text | None:
        declared = self.local(self.elements[name].get("type"))
        if declared in TEXT_TYPES:
            return TEXT_TYPES[declared]
        kind = self.type_of(name)
        if kind is None:
            return None
        if kind.get("mixed"):
            return Text.ANY if kind.find(f".//{XS}any") is not None else Text.STRING
        extension = kind.find(f".//{XS}extension")
        if extension is None:
            return Text.ELEMENTS
        base = self.local(extension.get("base"))
        return TEXT_TYPES.get(base, Text.STRING)


@pytest.fixture(scope="module")
def official(schema_file: Path) -> Schema:
    return Schema(schema_file)


def test_the_table_has_the_elements_of_the_schema(official: Schema) -> None:
    assert set(CLASSES) == {tag(name) for name in official.elements if name}
    assert {c.name for c in CLASSES.values() if c.is_global} == official.globals


@pytest.mark.parametrize("spec", CLASSES.values(), ids=lambda spec: spec.name)
def test_a_class_is_what_the_schema_says(official: Schema, spec: Class) -> None:
    ours = [
        (frozenset(name.rpartition("}")[2] for name in group.tags), group.is_required, group.is_single)
        for group in spec.groups
    ]
    if spec.name == "RelatedActivity":  # a choice of one or the other, which the table writes as a mixture
        assert [names for names, _, _ in ours] == [frozenset({"IncidentID", "URL"})]
    elif spec.name == "Node":  # its choice is of optional elements; a Node may be empty
        assert [names for names, _, _ in ours] == [names for names, _, _ in official.content(spec.name)]
    elif spec.text is not Text.ANY:
        assert ours == official.content(spec.name)
    attributes = {name: (a.is_required, a.values) for name, a in spec.attributes.items()}
    assert attributes == official.attributes(spec.name)
    assert spec.text is official.text(spec.name)
