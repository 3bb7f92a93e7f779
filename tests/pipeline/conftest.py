"""The official schema, as the tests of documents have it."""

from tests.iodef.conftest import schema, schema_file

__all__ = ["schema", "schema_file"]
