"""Backup and restore, as deploy/README.md says to type them."""

import re
import subprocess
from pathlib import Path

from bridge.store.embedded import server_binary
from deploy.servers import iq, report_payload
from tests.system.servers import Federation, Lab, Store

SOCKET, FOLDER = "/run/redis-incident-bridge/redis-server.sock", "/var/lib/redis/incident-bridge"
FILE = "/var/backups/incident-bridge.rdb"
NAME = "4BF5D2CE"
REPORTS = 20


def commands_in(root: Path, name: str) -> str:
    """The shell block below a marker."""
    text = (root / "deploy/README.md").read_text(encoding="utf-8")
    [block] = re.findall(rf"<!-- {name}: .*? -->\n```sh\n(.*?)```", text, re.DOTALL)
    return block


def type_in(block: str, store: Store, backup: Path) -> None:
    """Type it for this store, without root and without systemd; what systemd starts, the test starts."""
    lines = [
        line
        for line in block.splitlines()
        if "systemctl" not in line and not line.startswith("incident-bridge")
    ]
    script = "\n".join(lines).replace("…", "admin")
    for written, real in ((SOCKET, store.socket), (FOLDER, store.folder), (FILE, backup)):
        script = script.replace(written, str(real))
    script = re.sub(r"sudo (-u redis )?|-o redis -g redis ", "", script)
    env = {"PATH": f"{store.commands}:/usr/bin:/bin"}
    done = subprocess.run(
        ["bash", "-eu", "-c", script], env=env, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, script + done.stdout + done.stderr


async def test_a_backup_of_a_live_store_restored_to_a_new_one_holds_every_incident(
    lab: Lab, root: Path
) -> None:
    old, backup = lab.store(), lab.folder / "backup.rdb"
    federation = Federation.start(lab, version="13", store=old)
    bridge, b = federation.bridge, federation.b
    text = report_payload()
    assert NAME in text
    reports = [
        iq(text.replace(NAME, f"{NAME}{number}"), to="a.test", sender="b.test", id=f"r{number}")
        for number in range(REPORTS)
    ]
    assert {reply.type for reply in await b.send_iqs(reports)} == {"result"}
    before = bridge.json("incidents", "list")["incidents"]
    assert len(before) == REPORTS

    type_in(commands_in(root, "backup"), old, backup)
    bridge.stop()
    old.stop()
    [redis, valkey] = [lab.add(name, Store(lab.folder / name)) for name in ("n", "v")]
    valkey.process.argv[0] = str(server_binary())
    for new in (valkey, redis):
        type_in(commands_in(root, "restore"), new, backup)
        new.start()
        bridge.store = new
        bridge.write_configuration()
        assert bridge.json("incidents", "list")["incidents"] == before
    bridge.json("check", "--rebuild-indexes", code=3)  # the service is not there yet
    bridge.start_apart()

    assert {reply.type for reply in await b.send_iqs(reports[:3])} == {"result"}
    redis.kill()
    redis.start()
    assert bridge.json("incidents", "list")["incidents"] == before, (
        "repeats changed nothing, and all is on disk"
    )
