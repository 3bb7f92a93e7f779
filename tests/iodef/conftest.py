"""The official schema, from the collected data or from the public package that carries it."""

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from lxml import etree

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "iodef==1.0.3"
MEMBER = "iodef-1.0.3/examples/iodef-1.0.xsd"


@pytest.fixture(scope="session")
def schema_file(cache_folder: Path) -> Path:
    """The schema of RFC 5070 §8; not in the repository, because its licence is not free."""
    collected = ROOT.parent / "shared" / "iodef" / "schemas" / "iodef-1.0.xsd"
    if collected.is_file():
        return collected
    cached = cache_folder / "iodef-1.0.xsd"
    if not cached.is_file():
        fetch(cache_folder, cached)
    return cached


@pytest.fixture(scope="session")
def schema(schema_file: Path) -> etree.XMLSchema:
    """The schema, ready to validate."""
    return etree.XMLSchema(etree.parse(schema_file))


def fetch(folder: Path, target: Path) -> None:
    """Download the source package and take the schema out of it."""
    options = ["--quiet", "--no-deps", "--no-binary", ":all:", "--dest", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "download", *options, PACKAGE], check=True)
    with tarfile.open(folder / "iodef-1.0.3.tar.gz") as archive:
        member = archive.extractfile(MEMBER)
        assert member is not None
        target.write_bytes(member.read())
