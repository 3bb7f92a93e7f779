"""Configuration: every key has a default and a reference, every mistake names its place."""

import base64
import os
import re
import tomllib
from ipaddress import ip_network
from pathlib import Path

import pytest

from bridge.config import Address, Input, PolicySettings, Settings, default_toml, load_settings
from bridge.errors import ConfigError
from bridge.policy.trust import Authentication

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER_SECRET = "whsec_" + base64.b64encode(bytes(range(24))).decode()


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.startswith("INCIDENT_BRIDGE_") or name == "CREDENTIALS_DIRECTORY":
            monkeypatch.delenv(name)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(path)
    return str(caught.value)


def test_without_any_file_the_defaults_hold() -> None:
    settings = load_settings()

    assert settings.server.ingest_listen == Address("127.0.0.1", 8267)
    assert settings.policy == PolicySettings()
    assert settings.hosts == {}
    assert settings.store.max_bytes > 0


def test_a_full_file_is_read(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        f"""
        [server]
        ingest_listen = "[::1]:9000"
        [store]
        url = "unix:///run/store.sock"
        durability = "assumed"
        [hosts."Example.ORG"]
        api_url = "https://xmpp.example.org:5281/"
        secret = ["{SECRET}", "{OTHER_SECRET}"]
        [policy]
        require_authentication = "dialback"
        allow_users = ["Admin@Example.net"]
        """,
    )

    settings = load_settings(path)

    assert settings.server.ingest_listen == Address("::1", 9000)
    assert str(settings.server.ingest_listen) == "[::1]:9000"
    assert settings.store_url() == "unix:///run/store.sock"
    assert list(settings.hosts) == ["example.org"]
    host = settings.hosts["example.org"]
    assert host.api_url == "https://xmpp.example.org:5281"
    assert [secret.get_secret_value() for secret in host.secrets] == [SECRET, OTHER_SECRET]
    assert settings.policy.require_authentication is Authentication.DIALBACK
    assert settings.policy.allow_users == {"admin@example.net"}
    assert settings.path == path


def test_what_webhooks_may_reach_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = '[server]\npublic_url = "https://example.org/"\n[webhooks]\nallow_networks = ["fd00::/8"]'
    assert load_settings(write(tmp_path, text)).webhooks.allow_networks == (ip_network("fd00::/8"),)

    monkeypatch.setenv("INCIDENT_BRIDGE_WEBHOOKS__ALLOW_NETWORKS", "10.0.0.0/8, 192.0.2.1")
    settings = load_settings(write(tmp_path, text))

    assert settings.server.public_url == "https://example.org"
    assert settings.webhooks.allow_networks == (ip_network("10.0.0.0/8"), ip_network("192.0.2.1"))
    assert settings.webhooks.timeout_seconds == 15
    assert not settings.webhooks.allow_http


REFUSALS = {
    "unknown key": ('[server]\nlistn = "127.0.0.1:1"', 2, 'unknown key; did you mean "listen"?'),
    "unknown section": ("\n[polcy]\nstrangers = 'refuse'", 2, 'unknown key; did you mean "policy"?'),
    "unknown key of a host": (
        f"[hosts.'a.test']\nsecret = '{SECRET}'\napi_ulr = 'x'",
        3,
        'unknown key; did you mean "api_url"?',
    ),
    "dotted key": ('[store]\n\nurl.host = "x"', 3, "string"),
    "not TOML": ("[server]\nlisten = nonsense", 2, "is not TOML"),
    "no port": ('[server]\nlisten = "localhost"', 2, "127.0.0.1:8267"),
    "port too high": ('[server]\nlisten = "127.0.0.1:65536"', 2, "127.0.0.1:8267"),
    "bare IPv6": ('[server]\nlisten = "::1:8268"', 2, "[::1]:8267"),
    "same address twice": ('[server]\nlisten = "127.0.0.1:8267"', 1, "three different"),
    "store scheme": ('[store]\nurl = "http://x"', 2, "unix://"),
    "durability": ('[store]\ndurability = "ssd"', 2, "'disk', 'memory' or 'assumed'"),
    "max_bytes": ("[store]\nmax_bytes = 0", 2, "greater than 0"),
    "no secret": ("\n[hosts.'a.test']\ninsecure = true", 2, "openssl rand"),
    "short secret": ("[hosts.'a.test']\nsecret = 'whsec_YWJj'", 2, "24 to 64 bytes"),
    "no prefix": (f"[hosts.'a.test']\nsecret = '{SECRET[6:]}'", 2, "whsec_"),
    "three secrets": (f"[hosts.'a.test']\nsecret = ['{SECRET}','{SECRET}','{SECRET}']", 2, "list of two"),
    "secret twice": (f"[hosts.'a.test']\nsecret = '{SECRET}'\nsecret_file = 'x'", 3, "cannot be read"),
    "missing secret file": ("[hosts.'a.test']\nsecret_file = 'x'", 2, "No such file"),
    "http over a network": (
        f"[hosts.'a.test']\nsecret = '{SECRET}'\napi_url = 'http://192.0.2.1:5280'",
        3,
        "insecure = true",
    ),
    "not a URL": (f"[hosts.'a.test']\nsecret = '{SECRET}'\napi_url = 'localhost:5280'", 3, "is not a URL"),
    "not a host": (f"[hosts.'a b']\nsecret = '{SECRET}'", 1, "is not a host name"),
    "same host twice": (
        f"[hosts.'a.test']\nsecret = '{SECRET}'\n[hosts.'A.test']\nsecret = '{SECRET}'",
        1,
        "the same host",
    ),
    "a server among users": ('[policy]\n\nallow_users = ["a.test"]', 3, "no local part"),
    "no proof": ('[policy]\nrequire_authentication = "none"', 2, "dialback"),
    "links by plain http": ('[server]\npublic_url = "http://example.org"', 2, "plain http over a network"),
    "an answer page that is nowhere": (
        "[policy]\n\nanswer_page_days = 7",
        3,
        "policy.answer_page_days: needs server.public_url",
    ),
    "links to nowhere": ('[server]\npublic_url = "incidents.example.org"', 2, "is not a URL"),
    "links into a folder": ('[server]\npublic_url = "https://example.org/a"', 2, "has a path"),
    "links with a query": ('[server]\npublic_url = "https://example.org/?a"', 2, "is not a URL"),
    "no network": ('[webhooks]\nallow_networks = ["lan"]', 2, 'holds "lan"'),
    "an address with a mask": (
        '[webhooks]\nallow_networks = ["10.0.0.0/8", "10.1.2.3/16"]',
        2,
        'did you mean "10.1.0.0/16"?',
    ),
    "no networks": ("[webhooks]\nallow_networks = [8]", 2, "holds something other than a network"),
    "an hour to answer": ("[webhooks]\ntimeout_seconds = 3600", 2, "60"),
    "no retention": ("[retention]\nevents_days = 0", 2, "greater than 0"),
    "not a number": ('[policy]\nquota_burst = "many"', 2, "integer"),
}


@pytest.mark.parametrize("mistake", REFUSALS)
def test_a_mistake_names_its_file_and_line(tmp_path: Path, mistake: str) -> None:
    text, line, expected = REFUSALS[mistake]
    path = write(tmp_path, text)

    message = refusal(path)

    assert message.splitlines()[0].startswith(f"{path}:{line}: ")
    assert expected in message
    assert SECRET not in message


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, '[server]\nlistn = "x"\n[store]\nurl = "ftp://x"\n[policy]\nquota_burst = -1')

    lines = refusal(path).splitlines()

    assert [line.split(":")[1] for line in lines] == ["2", "4", "6"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.toml").startswith(f"{tmp_path}/none.toml: cannot be read")


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "[policy]\nquota_burst = 5\nquota_per_minute = 6")
    monkeypatch.setenv("INCIDENT_BRIDGE_POLICY__QUOTA_BURST", "7")
    monkeypatch.setenv("INCIDENT_BRIDGE_HOSTS__a.test__SECRET", SECRET)
    monkeypatch.setenv("INCIDENT_BRIDGE_HOSTS__b.test__SECRET", f'["{SECRET}", "{OTHER_SECRET}"]')

    settings = load_settings(path)

    assert (settings.policy.quota_burst, settings.policy.quota_per_minute) == (7, 6)
    assert len(settings.hosts["a.test"].secrets) == 1
    assert len(settings.hosts["b.test"].secrets) == 2


def test_the_file_named_by_the_environment_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INCIDENT_BRIDGE_CONFIG", str(write(tmp_path, "[policy]\nquota_burst = 5")))

    assert load_settings().policy.quota_burst == 5


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ("INCIDENT_BRIDGE_POLICY__QUOTA_BRST", 'did you mean "quota_burst"?'),
        ("INCIDENT_BRIDGE_POLCY__QUOTA_BURST", 'did you mean "policy"?'),
        ("INCIDENT_BRIDGE_STORE_URL", "did you mean INCIDENT_BRIDGE_STORE__URL"),
        ("INCIDENT_BRIDGE_POLICY__QUOTA_BURST", "integer"),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, expected: str
) -> None:
    monkeypatch.setenv(variable, "x")

    with pytest.raises(ConfigError, match=re.escape(expected)) as caught:
        load_settings()

    assert str(caught.value).startswith(f"{variable}: ")


def test_other_variables_with_our_prefix_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INCIDENT_BRIDGE_SERVICE_HOST", "10.0.0.1")  # Kubernetes sets such for a service

    load_settings()


def test_a_secret_file_lies_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "a.secret").write_text(f"{SECRET}\n\n{OTHER_SECRET}\n")

    settings = load_settings(write(tmp_path, "[hosts.'a.test']\nsecret_file = 'a.secret'"))

    assert [secret.get_secret_value() for secret in settings.hosts["a.test"].secrets] == [
        SECRET,
        OTHER_SECRET,
    ]


def test_systemd_passes_a_secret_as_a_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret.a.test").write_text(SECRET)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))

    settings = load_settings(write(tmp_path, "[hosts.'A.test']"))

    assert settings.hosts["a.test"].secrets[0].get_secret_value() == SECRET


def test_systemd_passes_the_url_of_the_store_unless_the_configuration_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed, written = "redis://:hunter2@127.0.0.1", "redis://127.0.0.2"
    (tmp_path / "store.url").write_text(f"{passed}\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))

    assert load_settings(write(tmp_path, "[server]")).store.url == passed
    assert load_settings(write(tmp_path, default_toml())).store.url == passed
    assert load_settings(write(tmp_path, f"[store]\nurl='{written}'")).store.url == written
    (tmp_path / "store.url").write_text("http://:hunter2@127.0.0.1")
    with pytest.raises(ConfigError) as told:
        load_settings(write(tmp_path, "[server]"))
    assert f"{tmp_path}/store.url must begin with unix://" in str(told.value)
    assert "hunter2" not in str(told.value)


def test_a_secret_is_in_no_repr(tmp_path: Path) -> None:
    text = f"[store]\nurl='redis://:hunter2@127.0.0.1'\n[hosts.'a.test']\nsecret='{SECRET}'"

    shown = repr(load_settings(write(tmp_path, text)))

    assert "hunter2" not in shown
    assert SECRET not in shown


def test_the_data_of_somebody_who_is_not_root_lies_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setenv("XDG_STATE_HOME", "/home/somebody/state")

    assert load_settings().store.data_dir == Path("/home/somebody/state/incident-bridge")


def uncommented() -> dict[str, dict[str, object]]:
    text = re.sub(r"(?m)^#(?=\[|[a-z_]+ = )", "", default_toml())
    return tomllib.loads(text)


def test_the_default_file_names_every_key_and_no_other() -> None:
    reference = uncommented()

    for section, field in Input.model_fields.items():
        if section == "hosts":
            from bridge.config import HostInput

            assert set(reference["hosts"]["example.org"]) == set(HostInput.model_fields)  # type: ignore[call-overload]
        else:
            assert set(reference[section]) == set(field.annotation.model_fields)  # type: ignore[union-attr]


def test_the_default_file_changes_nothing(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, default_toml()))

    assert (settings.server, settings.store, settings.policy) == (
        Settings().server,
        Settings().store,
        Settings().policy,
    )
    assert not settings.hosts


def test_users_come_from_the_environment_as_words_or_json(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("a@x.test b@x.test", "a@x.test,b@x.test", '["a@x.test", "b@x.test"]'):
        monkeypatch.setenv("INCIDENT_BRIDGE_POLICY__ALLOW_USERS", text)

        assert load_settings().policy.allow_users == {"a@x.test", "b@x.test"}


def test_who_may_sign_in_to_the_console_is_read_as_prepared_jids(tmp_path: Path) -> None:
    lists = 'admins = ["Romeo@Example.ORG"]\nviewers = ["juliet@example.org/balcony"]'
    text = f'[hosts."a.test"]\nsecret = "{SECRET}"\n{lists}'

    [host] = load_settings(write(tmp_path, text)).hosts.values()

    assert host.admins == {"romeo@example.org"}
    assert host.viewers == {"juliet@example.org"}
