"""What operators copy from deploy/ is loaded by a real Prosody."""

from pathlib import Path

import pytest

from deploy.servers import until
from tests.system.servers import Lab, new_secret


@pytest.mark.parametrize("version", ["0.12", "13"])
def test_prosody_loads_the_fragment(lab: Lab, root: Path, version: str) -> None:
    changes = {
        '"example.org"': '"a.test"',
        '"whsec_..."': f'"{new_secret()}"',
        '"/usr/local/lib/prosody/modules"': f'"{root / "prosody_module"}"',
    }
    fragment = (root / "deploy/prosody.cfg.lua").read_text()
    for written, real in changes.items():
        assert written in fragment
        fragment = fragment.replace(written, real)
    copied = lab.folder / "incident-bridge.cfg.lua"
    copied.write_text(fragment)

    a = lab.prosody("a.test", version=version, extra=f'Include "{copied}"')

    said = "Relaying incidents to http://127.0.0.1:8267/prosody/a.test"
    until(lambda: said in a.log(), 10, "the module says that it relays")
    assert "error" not in {line.split("\t")[0].rpartition(" ")[2] for line in a.log().splitlines()}
    assert not [line for line in a.control("check", "config").splitlines() if "incident_bridge" in line]


def test_the_readme_of_deploy_and_the_fragment_say_the_same(root: Path) -> None:
    readme = (root / "deploy/README.md").read_text()
    fragment = (root / "deploy/prosody.cfg.lua").read_text()
    settings = [
        line.partition(" --")[0].strip() for line in fragment.splitlines() if " = " in line.partition("--")[0]
    ]

    assert len(settings) == 5
    assert all(setting in readme for setting in settings)
