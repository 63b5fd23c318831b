"""Settings: where they come from, which of several wins, and what is said of those that cannot be used."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from policy_engine.config import CONFIG_FILES, ENVIRONMENT, PACKAGED_POLICY_FILE, Settings, load_settings
from policy_engine.language.document import parse_document
from policy_engine.model.errors import SettingsError
from policy_engine.pdp import PolicyEngine

DESCRIBED = {
    "policy_id": "policy-engine",
    "host": "0.0.0.0",  # noqa: S104 - as it is described
    "port": 5000,
    "metrics_port": 9091,
    "log_level": "INFO",
    "log_file": "/app/logs/policy-engine.log",
    "policy_file": "/app/config/policies/policies.json",
    "policy_ip": "192.168.100.20",
    "collector_host": "metrics-collector",
    "fl_server_port": 8080,
    "collector_port": 8081,
    "node_ip_collector": "192.168.100.40",
    "node_ip_fl_server": "192.168.100.10",
    "node_ip_openvswitch": "192.168.100.60",
    "node_ip_policy_engine": "192.168.100.20",
    "node_ip_sdn_controller": "192.168.100.41",
}


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def config(directory: Path, **values: Any) -> str:
    path = directory / "config.json"
    path.write_text(json.dumps(values))
    return str(path)


LEVELS: list[tuple[str, Any, Any, str, Any, Any]] = [
    ("port", 5000, 5002, "5003", 5004, 5003),
    ("log_level", "INFO", "debug", "warning", "error", "WARNING"),
    ("data_dir", "data", "a", "b", "c", "b"),
    ("file_wins", False, True, "false", True, False),
    ("timezone", "UTC", "Asia/Tokyo", "Europe/Berlin", "America/New_York", "Europe/Berlin"),
    ("watch_interval_seconds", 0.2, 1, "2.5", 3.5, 2.5),
    ("decision_log", "batched", "sync", "off", "batched", "off"),
    ("retention_days", 90.0, 7, "0.5", 0, 0.5),
    ("anonymous_log_quota", 1000, 5, "0", 7, 0),
    ("require_if_match", False, True, "false", True, False),
    ("workers", 1, 2, "3", 4, 3),
    ("stream_port", 5001, 0, "5003", 5004, 5003),
    ("key_dir", "", "a", "b", "c", "b"),
    ("database", "", "sqlite:///a", "sqlite:///b", "sqlite:///c", "sqlite:///b"),
]


@pytest.mark.parametrize(("name", "default", "in_file", "in_environment", "as_flag", "converted"), LEVELS)
def test_precedence(  # noqa: PLR0917 - the places
    directory: Path, name: str, default: Any, in_file: Any, in_environment: str, as_flag: Any, converted: Any
) -> None:
    path = config(directory, **{name: in_file})
    (variable,) = (variable for variable, setting in ENVIRONMENT.items() if setting == name)
    environment = {variable: in_environment}

    def found(*args: Any, **more: Any) -> Any:
        return getattr(load_settings(*args, **more).settings, name)

    expected = in_file.upper() if name == "log_level" else in_file
    last = as_flag.upper() if name == "log_level" else as_flag
    assert found({}) == default
    assert found({}, config_file=path) == expected
    assert found({"POLICY_CONFIG": path}) == expected
    assert found(environment, config_file=path) == converted
    assert found(environment, {name: None}, config_file=path) == converted
    assert found(environment, {name: as_flag}, config_file=path) == last
    assert found({variable: ""}, config_file=path) == expected, "an empty variable is not set"


def test_defaults_are_safe() -> None:
    settings = load_settings({}).settings
    assert settings.host == "127.0.0.1"
    assert settings.admin_key == ""
    assert settings.components == ()
    assert (settings.file_wins, settings.file_write_back) == (False, False)


@pytest.mark.parametrize("place", CONFIG_FILES)
def test_both_described_places_are_searched(directory: Path, place: Path) -> None:
    (directory / place).parent.mkdir(parents=True)
    (directory / place).write_text('{"port": 5055}')
    assert load_settings({}).settings.port == 5055
    assert load_settings({}, config_file=config(directory, port=5056)).settings.port == 5056


def test_the_first_place_wins(directory: Path) -> None:
    for number, place in enumerate(CONFIG_FILES):
        (directory / place).parent.mkdir(parents=True)
        (directory / place).write_text(json.dumps({"port": 5055 + number}))
    assert load_settings({}).settings.port == 5055


def test_the_described_file(directory: Path) -> None:
    loaded = load_settings({}, config_file=config(directory, **DESCRIBED))
    assert loaded.warnings == ()
    for key, value in DESCRIBED.items():
        if not key.startswith("node_ip_"):
            assert getattr(loaded.settings, key) == value
    assert {component.type: component.addresses for component in loaded.settings.components} == {
        "collector": ("192.168.100.40",),
        "fl-server": ("192.168.100.10",),
        "openvswitch": ("192.168.100.60",),
        "policy-engine": ("192.168.100.20",),
        "sdn-controller": ("192.168.100.41",),
    }


def test_the_described_environment() -> None:
    environment = {
        "SERVICE_TYPE": "policy-engine",
        "SERVICE_VERSION": "v1.0.0-alpha.8",
        "HOST": "0.0.0.0",  # noqa: S104 - as it is described
        "POLICY_PORT": "5000",
        "LOG_LEVEL": "INFO",
        "NODE_IP_POLICY_ENGINE": "192.168.100.20",
        "POLICY_FUNCTIONS_DIR": "/app/config/policy_functions",
    }
    loaded = load_settings(environment)
    assert loaded.warnings == ()
    assert loaded.settings.host == environment["HOST"]
    assert loaded.settings.policy_functions_dir == environment["POLICY_FUNCTIONS_DIR"]
    assert [component.type for component in loaded.settings.components] == ["policy-engine"]


@pytest.mark.parametrize(
    ("key", "hint"), [("prot", "did you mean `port`?"), ("zzzzz", ""), ("policy_fiel", "did you mean `policy_file`?")]
)
def test_an_unknown_setting_is_a_warning(directory: Path, key: str, hint: str) -> None:
    (warning,) = load_settings({}, config_file=config(directory, **{key: 1})).warnings
    assert f"`{key}`" in warning
    assert "config.json" in warning
    assert warning.endswith(hint or "passed over")


@pytest.mark.parametrize(
    ("user", "warned"), [("postgres:x", True), ("postgres:", False), ("postgres", False), (":x", True)]
)
def test_a_password_on_the_command_line_is_a_warning(user: str, *, warned: bool) -> None:
    loaded = load_settings({}, {"database": f"postgresql://{user}@/policies?host=/run/postgresql"})
    assert [("password" in warning) for warning in loaded.warnings] == [True] * warned


BAD: list[tuple[str, Any, str]] = [
    ("port", "abc", "POLICY_PORT"),
    ("port", 0, "POLICY_PORT"),
    ("port", 70000, "POLICY_PORT"),
    ("port", 1.5, "POLICY_PORT"),
    ("metrics_port", -1, "METRICS_PORT"),
    ("threads", 0, "POLICY_THREADS"),
    ("log_level", "LOUD", "LOG_LEVEL"),
    ("timezone", "Mars/Olympus", "POLICY_TIMEZONE"),
    ("timezone", "../../etc/passwd", "POLICY_TIMEZONE"),
    ("timezone", "Europe", "POLICY_TIMEZONE"),
    ("file_wins", "maybe", "POLICY_FILE_WINS"),
    ("watch_interval_seconds", 0, "POLICY_WATCH_INTERVAL_SECONDS"),
    ("decision_ttl_seconds", "nan", "POLICY_DECISION_TTL_SECONDS"),
    ("decision_ttl_seconds", -1, "POLICY_DECISION_TTL_SECONDS"),
    ("max_batch", 10_001, "POLICY_MAX_BATCH"),
    ("max_body_bytes", 1, "POLICY_MAX_BODY_BYTES"),
    ("stream_port", 70000, "POLICY_STREAM_PORT"),
    ("stream_port", -1, "POLICY_STREAM_PORT"),
    ("workers", 0, "POLICY_WORKERS"),
    ("workers", 65, "POLICY_WORKERS"),
    ("max_subscribers", 0, "POLICY_MAX_SUBSCRIBERS"),
    ("decision_log", "never", "POLICY_DECISION_LOG"),
    ("decision_log", "SYNC", "POLICY_DECISION_LOG"),
    ("log_queue", 99, "POLICY_LOG_QUEUE"),
    ("log_queue", 1.5, "POLICY_LOG_QUEUE"),
    ("spool_max_bytes", -1, "POLICY_SPOOL_MAX_BYTES"),
    ("retention_days", -1, "POLICY_RETENTION_DAYS"),
    ("retention_days", "nan", "POLICY_RETENTION_DAYS"),
    ("retention_days", "inf", "POLICY_RETENTION_DAYS"),
    ("retention_max_bytes", -1, "POLICY_RETENTION_MAX_BYTES"),
    ("event_retention_days", -0.1, "POLICY_EVENT_RETENTION_DAYS"),
    ("anonymous_log_quota", -1, "POLICY_ANONYMOUS_LOG_QUOTA"),
    ("require_if_match", "maybe", "POLICY_REQUIRE_IF_MATCH"),
    ("admin_key_file", "no/such/file", ""),
]


@pytest.mark.parametrize(("name", "value", "variable"), BAD)
def test_a_bad_value_names_its_setting_and_where_it_came_from(
    directory: Path, name: str, value: Any, variable: str
) -> None:
    path = config(directory, **{name: value})
    with pytest.raises(SettingsError, match=f"`{name}`") as in_file:
        load_settings({}, config_file=path)
    assert in_file.value.setting == name
    with pytest.raises(SettingsError, match=f"`{name}`") as as_flag:
        load_settings({}, {name: value})
    if variable:
        assert path in str(in_file.value)
        assert "command line" in str(as_flag.value)
        with pytest.raises(SettingsError, match=f"`{variable}`"):
            load_settings({variable: str(value)})


@pytest.mark.parametrize("value", [None, [], {}])
@pytest.mark.parametrize("name", ["port", "log_file", "file_wins", "components"])
def test_a_value_of_another_kind(directory: Path, name: str, value: Any) -> None:
    if name == "components" and value == []:
        return
    with pytest.raises(SettingsError, match=f"`{name}`"):
        load_settings({}, config_file=config(directory, **{name: value}))


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"host": "\xff"}', b"\xff"])
def test_a_config_file_that_cannot_be_read(directory: Path, content: bytes) -> None:
    (directory / "config.json").write_bytes(content)
    with pytest.raises(SettingsError, match=r"config\.json"):
        load_settings({}, config_file="config.json")


@pytest.mark.parametrize("path", ["nowhere.json", "."])
def test_a_config_file_that_is_not_there(path: str) -> None:
    for environment, named in (({"POLICY_CONFIG": path}, None), ({}, path)):
        with pytest.raises(SettingsError, match=path):
            load_settings(environment, config_file=named)


def kinds(environment: dict[str, str], **flags: Any) -> dict[str, str]:
    return {component.id: component.type for component in load_settings(environment, flags).settings.components}


def test_nodes_become_components(directory: Path) -> None:
    environment = {
        "NODE_IP_FL_SERVER": "10.0.0.1",
        "NODE_IP_FL_CLIENT_1": "10.0.1.1, 10.0.1.2",
        "node_ip_fl_client_2": "10.0.2.0/24",
        "NODE_IP_EMPTY": " ",
        "NODE_IP_": "10.0.0.9",
        "MY_NODE_IP_X": "10.0.0.9",
    }
    assert kinds(environment) == {"fl-server": "fl-server", "fl-client-1": "fl-client", "fl-client-2": "fl-client"}
    path = config(directory, node_ip_fl_server="10.9.9.9", node_ip_collector="10.0.0.3", policy_ip="10.0.0.4")
    loaded = load_settings({"NODE_IP_FL_SERVER": "10.0.0.1"}, config_file=path).settings
    addresses = {component.type: component.addresses for component in loaded.components}
    assert addresses == {"fl-server": ("10.0.0.1",), "collector": ("10.0.0.3",), "policy-engine": ("10.0.0.4",)}


@pytest.mark.parametrize(
    ("address", "allowed"),
    [("10.0.1.2", True), ("::ffff:10.0.1.2", True), ("10.0.2.7", True), ("10.0.0.1", False), ("10.3.0.1", False)],
)
def test_components_say_what_type_an_address_has(address: str, allowed: bool) -> None:  # noqa: FBT001
    nodes = {"NODE_IP_FL_SERVER": "10.0.0.1", "NODE_IP_FL_CLIENT_1": "10.0.1.2", "NODE_IP_FL_CLIENT_2": "10.0.2.0/24"}
    rule = {"action": "allow", "match": {"src_type": "fl-client", "dst_type": "fl-server"}}
    engine = PolicyEngine.from_document(
        {"policies": {"a": {"type": "network_security", "rules": [rule]}}},
        components=load_settings(nodes).settings.components,
    )
    context = {"protocol": "tcp", "src_ip": address, "dst_ip": "10.0.0.1"}
    assert engine.check("network_security", context).allowed is allowed
    claimed = {**context, "src_ip": "10.0.0.1", "src_type": "fl-client"}
    assert engine.check("network_security", claimed).allowed is False, "an address that is known decides"


@pytest.mark.parametrize("address", ["bogus", "10.0.0.1/8", "10.0.0", "10.0.0.1,bogus", "fl-server", "fe80::1%eth0"])
def test_an_address_that_is_none(directory: Path, address: str) -> None:
    with pytest.raises(SettingsError, match=r"(?i)NODE_IP_FL_SERVER"):
        load_settings({"NODE_IP_FL_SERVER": address})
    with pytest.raises(SettingsError, match=r"(?i)node_ip_fl_server"):
        load_settings({}, config_file=config(directory, node_ip_fl_server=address))
    with pytest.raises(SettingsError, match="components"):
        load_settings({}, config_file=config(directory, components=[{"id": "a", "type": "b", "addresses": [address]}]))
    with pytest.raises(SettingsError, match="policy_ip"):
        load_settings({}, {"policy_ip": address})


def test_the_admin_key_comes_from_a_file(directory: Path) -> None:
    (directory / "key").write_text(" secret\n")
    assert load_settings({"POLICY_ADMIN_KEY_FILE": "key"}).settings.admin_key == "secret"
    assert load_settings({}, config_file=config(directory, admin_key_file="key")).settings.admin_key == "secret"
    assert load_settings({"POLICY_ADMIN_KEY": "plain"}).settings.admin_key == "plain"


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff"])
def test_a_key_file_without_a_key(directory: Path, content: bytes) -> None:
    (directory / "key").write_bytes(content)
    with pytest.raises(SettingsError, match="admin_key_file") as refused:
        load_settings({"POLICY_ADMIN_KEY_FILE": "key"})
    assert "key" in str(refused.value)


def test_a_bad_key_is_not_printed() -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings({}, {"admin_key": ["hunter2"]})
    assert "hunter2" not in str(refused.value)


def test_the_policy_file(directory: Path) -> None:
    assert load_settings({}).settings.policy_path == PACKAGED_POLICY_FILE
    own = directory / "config" / "policies" / "policies.json"
    own.parent.mkdir(parents=True)
    own.touch()
    assert load_settings({}).settings.policy_path.resolve() == own
    assert load_settings({"POLICY_FILE": "other.json"}).settings.policy_path == Path("other.json")


def test_the_packaged_policies_can_be_loaded() -> None:
    document = parse_document(PACKAGED_POLICY_FILE.read_bytes())
    assert document.warnings == ()
    assert document.policy_set.policies


def test_two_listeners_do_not_share_a_port(directory: Path) -> None:
    taken = [({"port": 9091}, "metrics_port"), ({"stream_port": 5000}, "stream_port"), ({"port": 5001}, "stream_port")]
    for values, name in taken:
        for given in ({"config_file": config(directory, **values)}, {"flags": values}):
            with pytest.raises(SettingsError, match=rf"`{name}`.*is the port of") as refused:
                load_settings({}, **given)
            assert refused.value.setting == name
    with pytest.raises(SettingsError, match=r"`stream_port`.*`7000` is the port of `metrics_port`"):
        load_settings({"METRICS_PORT": "7000", "POLICY_STREAM_PORT": "7000"})


def test_listeners_that_are_off_share_nothing() -> None:
    settings = load_settings({"METRICS_PORT": "0", "POLICY_STREAM_PORT": "0", "POLICY_PORT": "5001"}).settings
    assert (settings.port, settings.metrics_port, settings.stream_port) == (5001, 0, 0)


@pytest.mark.parametrize(
    ("name", "variable"), [("masked_fields", "POLICY_MASKED_FIELDS"), ("personal_fields", "POLICY_PERSONAL_FIELDS")]
)
def test_lists(directory: Path, name: str, variable: str) -> None:
    expected = ("note", "properties.diagnosis")
    for value in ("note,properties.diagnosis", " note , properties.diagnosis,, ", ["note", "properties.diagnosis"]):
        assert getattr(load_settings({}, config_file=config(directory, **{name: value})).settings, name) == expected
        if isinstance(value, str):
            assert getattr(load_settings({variable: value}).settings, name) == expected
    assert getattr(load_settings({}, config_file=config(directory, **{name: []})).settings, name) == ()
    assert getattr(load_settings({variable: ","}).settings, name) == (), "a comma alone is an empty list"
    for wrong in (5, [5], {"note": True}, None, [None]):
        with pytest.raises(SettingsError, match=f"`{name}`"):
            load_settings({}, config_file=config(directory, **{name: wrong}))


def test_what_is_personal_by_default() -> None:
    assert load_settings({}).settings.personal_fields == ("client_id", "client_ip")
    assert load_settings({}).settings.masked_fields == ()


def test_where_everything_is_kept(directory: Path) -> None:
    options = load_settings({}).settings.store_options
    assert options.url == "sqlite:///data/policy-engine.db"
    assert (options.data_dir, options.key_dir) == (Path("data"), Path("data/keys"))
    given = {"data_dir": str(directory), "key_dir": "keys", "database": "postgresql://localhost/x", "log_queue": 500}
    options = load_settings({}, {**given, "spool_max_bytes": 7, "masked_fields": "a,b"}).settings.store_options
    assert options.url == "postgresql://localhost/x"
    assert (options.data_dir, options.key_dir) == (directory, Path("keys"))
    assert (options.queue, options.spool_bytes, options.masked) == (500, 7, ("a", "b"))


def test_every_variable_is_a_setting() -> None:
    assert set(ENVIRONMENT.values()) <= set(Settings.__struct_fields__)
    assert len(set(ENVIRONMENT.values())) == len(ENVIRONMENT)


OIDC = {"issuer": "https://issuer.example", "audience": "policy-engine"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"anonymous_roles": ["viewr"]}, "did you mean `viewer`"),
        ({"anonymous_roles": ["client"]}, "needs the id"),
        ({"trusted_roles": ["root"]}, "`root` is not a role"),
        ({"trusted_networks": ["office"]}, "`office` is not an address"),
        ({"trusted_proxies": ["10.0.0.1/8"]}, "`10.0.0.1/8` is not an address"),
        ({"certificates": {"subjects": {"CN=a": {"roles": ["root"]}}}}, "`CN=a`: `root` is not a role"),
        ({"certificates": {"subjects": {"CN=a": {"roles": ["client"]}}}}, "needs the id"),
        ({"certificates": {"header": "X"}}, "unknown field"),
        ({"oidc": {"issuer": "https://issuer.example"}}, "audience"),
        ({"oidc": {**OIDC, "audience": ""}}, "`audience` is empty"),
        ({"oidc": {**OIDC, "issuer": "http://issuer.example"}}, "not the address of an issuer"),
        ({"oidc": {**OIDC, "issuer": "file:///etc/passwd"}}, "not the address of an issuer"),
        ({"oidc": {**OIDC, "algorithms": ["none"]}}, "`algorithms` are some of"),
        ({"oidc": {**OIDC, "algorithms": ["RS256", "HS256"]}}, "`algorithms` are some of"),
        ({"oidc": {**OIDC, "algorithms": []}}, "`algorithms` are some of"),
        ({"oidc": {**OIDC, "leeway_seconds": 86400}}, "`leeway_seconds`"),
        ({"oidc": {**OIDC, "role_map": {"staff": ["root"]}}}, "`root` is not a role"),
    ],
)
def test_who_may_do_what_is_checked(tmp_path: Path, settings: dict[str, object], said: str) -> None:
    path = tmp_path / "access.json"
    path.write_text(json.dumps(settings))
    with pytest.raises(SettingsError, match=re.escape(said)):
        load_settings({}, config_file=str(path))


def test_networks_and_roles_from_the_environment() -> None:
    given = {
        "ANONYMOUS_ROLES": "checker",
        "POLICY_TRUSTED_NETWORKS": "10.0.0.0/8, ::1",
        "POLICY_TRUSTED_ROLES": "admin",
    }
    settings = load_settings(given).settings
    assert (settings.anonymous_roles, settings.trusted_networks) == (("checker",), ("10.0.0.0/8", "::1"))
    assert settings.trusted_roles == ("admin",)
    assert load_settings({"ANONYMOUS_ROLES": ","}).settings.anonymous_roles == ()


@pytest.mark.parametrize(
    ("variable", "value", "warned"),
    [
        ("ANONYMOUS_ROLES", "viewer,author", "`anonymous_roles` (viewer, author) lets anybody"),
        ("POLICY_ADMIN_KEY", "a", "fewer than 16 characters"),
        ("POLICY_TRUSTED_NETWORKS", "0.0.0.0/0", "`trusted_networks` holds every address"),
        ("POLICY_TRUSTED_PROXIES", "10.0.0.1, ::/0", "`trusted_proxies` holds every address"),
    ],
)
def test_what_is_hardly_meant_is_warned_of(variable: str, value: str, warned: str) -> None:
    (warning,) = load_settings({variable: value}).warnings
    assert warned in warning


def test_nobody_is_let_in_by_the_word_none() -> None:
    assert load_settings({"ANONYMOUS_ROLES": "none"}).settings.anonymous_roles == ()
    assert load_settings({"ANONYMOUS_ROLES": ""}).settings.anonymous_roles == ("checker", "viewer")


def test_a_rate_of_nothing_is_refused() -> None:
    with pytest.raises(SettingsError, match="is not a rate"):
        load_settings({"POLICY_RATE_LIMIT_WRITES": "0/minute"})
