"""Settings: defaults, then the JSON config file, then the environment, then flags; the later one wins."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import msgspec

from policy_engine.bundle.place import check_place
from policy_engine.facts.inventory import Component, bounds, components_from_nodes
from policy_engine.identity.certificate import Certificates
from policy_engine.identity.permission import CHANGING
from policy_engine.identity.principal import Grant
from policy_engine.identity.role import ROLES, client_problem, permissions
from policy_engine.identity.token import ALGORITHMS, Oidc, is_issuer
from policy_engine.language.suggest import did_you_mean
from policy_engine.model.errors import SettingsError
from policy_engine.privacy.budget import Budget
from policy_engine.store.options import PERSONAL, StoreOptions
from policy_engine.trust.settings import TrustSettings

CONFIG_FILES = (Path("config/policies/policy_config.json"), Path("config/policy_engine/policy_config.json"))
"""Where the config file is looked for when POLICY_CONFIG does not name it; the first one found is read."""

POLICY_FILE = Path("config/policies/policies.json")
PACKAGED_POLICY_FILE = Path(__file__).parent / "defaults" / "policies.json"

DATABASE_FILE = "policy-engine.db"

_NODE = "node_ip_"
_MAX_LEEWAY_SECONDS = 600


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set; docs/settings.md says what each does."""

    host: str = "127.0.0.1"
    port: int = 5000
    metrics_port: int = 9091
    log_level: str = "INFO"
    log_file: str = ""
    policy_file: str = ""
    policy_functions_dir: str = ""
    data_dir: str = "data"
    database: str = ""
    key_dir: str = ""
    stream_port: int = 5001
    max_subscribers: int = 5000
    workers: int = 1
    decision_log: str = "batched"
    log_queue: int = 20_000
    spool_max_bytes: int = 256 * 2**20
    masked_fields: tuple[str, ...] = ()
    personal_fields: tuple[str, ...] = PERSONAL
    retention_days: float = 90.0
    retention_max_bytes: int = 0
    event_retention_days: float = 0.0
    anonymous_log_quota: int = 1000
    require_if_match: bool = False
    timezone: str = "UTC"
    decision_ttl_seconds: float = 1.0
    bundle_source: str = ""
    bundle_keys: tuple[str, ...] = ()
    bundle_threshold: int = 1
    bundle_name: str = "policies"
    bundle_poll_seconds: float = 30.0
    bundle_ca_file: str = ""
    require_signatures: bool = False
    file_wins: bool = False
    file_write_back: bool = False
    watch_interval_seconds: float = 0.2
    threads: int = 2
    gather_threads: bool = True
    max_body_bytes: int = 16 * 2**20
    max_batch: int = 10_000
    admin_key: str = ""
    admin_key_file: str = ""
    anonymous_roles: tuple[str, ...] = ("checker", "viewer")
    trusted_networks: tuple[str, ...] = ()
    trusted_roles: tuple[str, ...] = ("reporter", "viewer")
    trusted_hosts: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    certificates: Certificates | None = None
    oidc: Oidc | None = None
    database_file: str = ""
    rate_limit_writes: str = "6000/minute"
    rate_limit_logins: str = "60/minute"
    rate_limit_anonymous_checks: str = ""
    cors_origins: tuple[str, ...] = ()
    tls_certificate: str = ""
    tls_key: str = ""
    tls_client_ca: str = ""
    tls_client_verify: str = ""
    tls_min_version: str = "1.2"
    policy_id: str = "policy-engine"
    policy_ip: str = ""
    collector_host: str = ""
    collector_port: int = 0
    fl_server_port: int = 0
    components: tuple[Component, ...] = ()
    trust: dict[str, TrustSettings] = {}
    privacy: dict[str, Budget] = {}

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of the clock's facts."""
        return ZoneInfo(self.timezone)

    @property
    def data_path(self) -> Path:
        """Where what has to survive a restart is kept."""
        return Path(self.data_dir)

    @property
    def database_url(self) -> str:
        """The database: the one that is set, else a file in the data directory."""
        return self.database or f"sqlite:///{self.data_path / DATABASE_FILE}"

    @property
    def key_path(self) -> Path:
        """Where the key is that signs checkpoints."""
        return Path(self.key_dir) if self.key_dir else self.data_path / "keys"

    @property
    def store_options(self) -> StoreOptions:
        """Where everything is kept."""
        return StoreOptions(
            url=self.database_url,
            data_dir=self.data_path,
            key_dir=self.key_path,
            masked=self.masked_fields,
            personal=self.personal_fields,
            keeps_decisions=self.decision_log != "off",
            queue=self.log_queue,
            spool_bytes=self.spool_max_bytes,
        )

    @property
    def policy_path(self) -> Path:
        """The policy file in use: the one that is set, else the one in the working directory, else the packaged one."""
        if self.policy_file:
            return Path(self.policy_file)
        return POLICY_FILE if POLICY_FILE.exists() else PACKAGED_POLICY_FILE


ENVIRONMENT: Mapping[str, str] = {
    "HOST": "host",
    "POLICY_PORT": "port",
    "METRICS_PORT": "metrics_port",
    "LOG_LEVEL": "log_level",
    "LOG_FILE": "log_file",
    "POLICY_FILE": "policy_file",
    "POLICY_FUNCTIONS_DIR": "policy_functions_dir",
    "POLICY_DATA_DIR": "data_dir",
    "POLICY_DATABASE": "database",
    "POLICY_KEY_DIR": "key_dir",
    "POLICY_STREAM_PORT": "stream_port",
    "POLICY_MAX_SUBSCRIBERS": "max_subscribers",
    "POLICY_WORKERS": "workers",
    "POLICY_DECISION_LOG": "decision_log",
    "POLICY_LOG_QUEUE": "log_queue",
    "POLICY_SPOOL_MAX_BYTES": "spool_max_bytes",
    "POLICY_MASKED_FIELDS": "masked_fields",
    "POLICY_PERSONAL_FIELDS": "personal_fields",
    "POLICY_RETENTION_DAYS": "retention_days",
    "POLICY_RETENTION_MAX_BYTES": "retention_max_bytes",
    "POLICY_EVENT_RETENTION_DAYS": "event_retention_days",
    "POLICY_ANONYMOUS_LOG_QUOTA": "anonymous_log_quota",
    "POLICY_REQUIRE_IF_MATCH": "require_if_match",
    "POLICY_TIMEZONE": "timezone",
    "POLICY_DECISION_TTL_SECONDS": "decision_ttl_seconds",
    "POLICY_BUNDLE_SOURCE": "bundle_source",
    "POLICY_BUNDLE_KEYS": "bundle_keys",
    "POLICY_BUNDLE_THRESHOLD": "bundle_threshold",
    "POLICY_BUNDLE_NAME": "bundle_name",
    "POLICY_BUNDLE_POLL_SECONDS": "bundle_poll_seconds",
    "POLICY_BUNDLE_CA_FILE": "bundle_ca_file",
    "POLICY_REQUIRE_SIGNATURES": "require_signatures",
    "POLICY_FILE_WINS": "file_wins",
    "POLICY_FILE_WRITE_BACK": "file_write_back",
    "POLICY_WATCH_INTERVAL_SECONDS": "watch_interval_seconds",
    "POLICY_THREADS": "threads",
    "POLICY_GATHER_THREADS": "gather_threads",
    "POLICY_MAX_BODY_BYTES": "max_body_bytes",
    "POLICY_MAX_BATCH": "max_batch",
    "POLICY_ADMIN_KEY": "admin_key",
    "POLICY_ADMIN_KEY_FILE": "admin_key_file",
    "ANONYMOUS_ROLES": "anonymous_roles",
    "POLICY_TRUSTED_NETWORKS": "trusted_networks",
    "POLICY_TRUSTED_ROLES": "trusted_roles",
    "POLICY_TRUSTED_HOSTS": "trusted_hosts",
    "POLICY_TRUSTED_PROXIES": "trusted_proxies",
    "POLICY_DATABASE_FILE": "database_file",
    "POLICY_RATE_LIMIT_WRITES": "rate_limit_writes",
    "POLICY_RATE_LIMIT_LOGINS": "rate_limit_logins",
    "POLICY_RATE_LIMIT_ANONYMOUS_CHECKS": "rate_limit_anonymous_checks",
    "POLICY_CORS_ORIGINS": "cors_origins",
    "POLICY_TLS_CERTIFICATE": "tls_certificate",
    "POLICY_TLS_KEY": "tls_key",
    "POLICY_TLS_CLIENT_CA": "tls_client_ca",
    "POLICY_TLS_CLIENT_VERIFY": "tls_client_verify",
    "POLICY_TLS_MIN_VERSION": "tls_min_version",
}
"""Environment variable -> setting. `POLICY_CONFIG` names the config file, `NODE_IP_*` the addresses of components."""

LOG_MODES = ("batched", "sync", "off")
"""When a decision is on the disk: soon after its answer, before it, or never."""

TLS_VERIFY = ("off", "optional", "required")
"""What is asked of clients over TLS: no certificate, a valid one or none, a valid one."""

TLS_VERSIONS = ("1.2", "1.3")

_COMMAND_LINE = "the command line"

LOG_LEVELS = ("CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG")


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """The settings in force and what is dubious about where they came from."""

    settings: Settings
    warnings: tuple[str, ...]


def load_settings(
    environment: Mapping[str, str], flags: Mapping[str, Any] | None = None, *, config_file: str | None = None
) -> Loaded:
    """Put the settings together.

    Args:
        environment: Such as `os.environ`.
        flags: What the command line set; None values are passed over.
        config_file: The config file; POLICY_CONFIG and the described places are tried otherwise.

    Raises:
        SettingsError: A value cannot be used, or a named config file cannot be read.
    """
    warnings: list[str] = []
    values: dict[str, tuple[Any, str]] = {}
    nodes: dict[str, str] = {}
    path = _config_path(config_file or environment.get("POLICY_CONFIG"))
    if path is not None:
        _take_file(path, values, nodes, warnings)
    for variable, name in ENVIRONMENT.items():
        if environment.get(variable):
            values[name] = (environment[variable], f"environment variable `{variable}`")
    nodes.update({key: value for key, value in environment.items() if key.lower().startswith(_NODE)})
    for name, value in (flags or {}).items():
        if value is not None:
            values[name] = (value, _COMMAND_LINE)
    if values.get("database", ("", ""))[1] == _COMMAND_LINE:
        values.pop("database_file", None)
        if _has_password(values["database"][0]):
            warnings.append(_SEEN)
    settings = _convert(values, nodes)
    if settings.policy_functions_dir and (settings.bundle_source or settings.require_signatures):
        warnings.append(_UNREAD)
    return Loaded(settings=settings, warnings=(*warnings, *_dubious(settings)))


_MIN_ADMIN_KEY = 16


def _dubious(settings: Settings) -> Iterator[str]:
    """Yield what may be set, and is hardly meant."""
    if not permissions(settings.anonymous_roles).isdisjoint(CHANGING):
        listed = ", ".join(settings.anonymous_roles)
        yield f"`anonymous_roles` ({listed}) lets anybody who reaches the port change something, web pages too"
    if 0 < len(settings.admin_key) < _MIN_ADMIN_KEY:
        yield f"the admin key has fewer than {_MIN_ADMIN_KEY} characters: it can be guessed"
    for name in ("trusted_networks", "trusted_proxies"):
        if any(network.endswith("/0") for network in getattr(settings, name)):
            yield f"`{name}` holds every address there is"


_SEEN = (
    "the password in `--database` can be seen by everybody on this machine, in the list of processes: put the URL into"
    " a file and name that in POLICY_DATABASE_FILE"
)


_UNREAD = "`policy_functions_dir` is not read: functions come with the policies, from signed bundles"


def _has_password(url: str) -> bool:
    try:
        return bool(urlsplit(url).password)
    except ValueError:
        return False


def _config_path(named: str | None) -> Path | None:
    if named:
        return Path(named)
    return next((path for path in CONFIG_FILES if path.exists()), None)


def _take_file(path: Path, values: dict[str, tuple[Any, str]], nodes: dict[str, str], warnings: list[str]) -> None:
    try:
        content = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except OSError as error:
        raise SettingsError("POLICY_CONFIG", f"`{path}`", error.strerror) from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SettingsError("POLICY_CONFIG", f"`{path}`", f"not a JSON object: {error}") from error
    known = Settings.__struct_fields__
    for key, value in content.items():
        if key.lower().startswith(_NODE):
            nodes[key.upper()] = str(value)
        elif key in known:
            values[key] = (value, f"`{path}`")
        else:
            hint = did_you_mean(key, known)
            warnings.append(f"unknown setting `{key}` in `{path}` is passed over{f'; {hint}' if hint else ''}")


def _convert(values: Mapping[str, tuple[Any, str]], nodes: Mapping[str, str]) -> Settings:
    converted: dict[str, Any] = {}
    types = {field.name: field.type for field in msgspec.structs.fields(Settings)}
    for name, (value, source) in values.items():
        given = _listed(value) if types[name] == tuple[str, ...] else value
        try:
            converted[name] = msgspec.convert(given, types[name], strict=False)
        except msgspec.ValidationError as error:
            raise SettingsError(name, source, _plainly(error)) from error
        problem = _CHECKS[name](converted[name]) if name in _CHECKS else None
        if problem:
            raise SettingsError(name, source, problem)
    own = converted.get("policy_ip")
    if own:
        _check_address(own, "policy_ip", values["policy_ip"][1])
        nodes = {"NODE_IP_POLICY_ENGINE": own, **nodes}
    converted["components"] = _components(converted.get("components", ()), nodes)
    if converted.get("admin_key_file"):
        converted["admin_key"] = _read_secret("admin_key_file", "key", converted)
    if converted.get("database_file"):
        if converted.get("database"):
            raise SettingsError("database", values["database"][1], "`database_file` is set too: which one is meant?")
        converted["database"] = _read_secret("database_file", "URL", converted)
    converted["log_level"] = converted.get("log_level", "INFO").upper()
    settings = Settings(**converted)
    _check_ports(settings)
    _check_bundles(settings)
    return settings


def _check_bundles(settings: Settings) -> None:
    """Refuse settings of bundles that do not go together."""
    needed_by = "bundle_source" if settings.bundle_source else "require_signatures"
    problems = (
        (
            "bundle_keys",
            not settings.bundle_keys and (settings.bundle_source or settings.require_signatures),
            f"`{needed_by}` needs the public keys that are trusted",
        ),
        (
            "bundle_threshold",
            settings.bundle_keys and settings.bundle_threshold > len(settings.bundle_keys),
            f"`{settings.bundle_threshold}` keys have to sign, and only {len(settings.bundle_keys)} are trusted",
        ),
        (
            "file_write_back",
            settings.file_write_back and (settings.bundle_source or settings.require_signatures),
            "there is no policy file to write to where policies come from signed bundles",
        ),
    )
    for name, is_wrong, detail in problems:
        if is_wrong:
            raise SettingsError(name, "the settings together", detail)


def _check_ports(settings: Settings) -> None:
    taken = {settings.port: "the service"}
    for name, port in (("metrics_port", settings.metrics_port), ("stream_port", settings.stream_port)):
        if port in taken:
            raise SettingsError(name, "the settings together", f"`{port}` is the port of {taken[port]}")
        if port:
            taken[port] = f"`{name}`"


def _listed(value: Any) -> Any:
    """Return a list that the environment or a flag holds as a text with commas; `none` is the empty one."""
    if not isinstance(value, str):
        return value
    return [] if value.strip() == "none" else [part.strip() for part in value.split(",") if part.strip()]


_TYPE_NAMES = {"`bool`": "true or false", "`int`": "a whole number", "`float`": "a number", "`str`": "a text"}


def _plainly(error: msgspec.ValidationError) -> str:
    """Return what is wrong with a value, without the names of Python's types."""
    text = str(error).replace("Expected", "expected").replace(", got", ", found")
    for name, words in _TYPE_NAMES.items():
        text = text.replace(name, words)
    return text


def _components(listed: tuple[Component, ...], nodes: Mapping[str, str]) -> tuple[Component, ...]:
    for component in listed:
        for address in component.addresses:
            _check_address(address, "components", f"component `{component.id}`")
    for variable, value in nodes.items():
        for address in filter(None, (part.strip() for part in value.split(","))):
            _check_address(address, variable, "the environment or the config file")
    return (*listed, *components_from_nodes(nodes))


def _check_address(address: str, name: str, source: str) -> None:
    try:
        bounds(address)
    except ValueError as error:
        raise SettingsError(name, source, f"`{address}` is not an address or a network") from error


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address to listen on."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _read_secret(name: str, what: str, converted: Mapping[str, Any]) -> str:
    path = Path(converted[name])
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(name, f"`{path}`", f"the {what} cannot be read") from error
    if not secret:
        raise SettingsError(name, f"`{path}`", f"the file holds no {what}")
    return secret


def _check_zone(name: str) -> str | None:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return f"`{name}` is not a time zone such as `Europe/Berlin`"
    return None


def _check_roles(roles: tuple[str, ...]) -> str | None:
    for role in roles:
        if role not in ROLES:
            hint = did_you_mean(role, ROLES)
            return f"`{role}` is not a role{f'; {hint}' if hint else ''}"
    return None


def _check_unbound_roles(roles: tuple[str, ...]) -> str | None:
    """Refuse roles for many callers at once that only one client can have."""
    return _check_roles(roles) or client_problem(roles, None) or None


def _check_networks(networks: tuple[str, ...]) -> str | None:
    for network in networks:
        try:
            bounds(network)
        except ValueError:
            return f"`{network}` is not an address or a network"
    return None


def _check_certificates(certificates: Certificates | None) -> str | None:
    for subject, grant in certificates.subjects.items() if certificates else ():
        problem = _check_grant(grant)
        if problem:
            return f"`{subject}`: {problem}"
    return None


def _check_grant(grant: Grant) -> str | None:
    return _check_roles(grant.roles) or client_problem(grant.roles, grant.client_id) or None


def _check_oidc(oidc: Oidc | None) -> str | None:
    if oidc is None:
        return None
    if not is_issuer(oidc.issuer):
        return f"`{oidc.issuer}` is not the address of an issuer: `https://`, or `http://` on this machine"
    if not oidc.audience:
        return "`audience` is empty: tokens for anybody would be accepted"
    if not oidc.algorithms or not set(oidc.algorithms) <= set(ALGORITHMS):
        return f"`algorithms` are some of {', '.join(ALGORITHMS)}"
    if not 0 <= oidc.leeway_seconds <= _MAX_LEEWAY_SECONDS:
        return f"`leeway_seconds` is not between 0 and {_MAX_LEEWAY_SECONDS}"
    return _check_roles(tuple(role for roles in oidc.role_map.values() for role in roles))


NO_LIMIT = ("", "off")
"""What says that there is no limit; a variable of the environment cannot be empty."""


def _check_rate(text: str) -> str | None:
    if text not in NO_LIMIT:
        from limits import parse_many  # noqa: PLC0415 - it takes a third of a second, and most settings leave it alone

        try:
            items = parse_many(text)
        except ValueError:
            items = []
        if not items or not all(item.amount for item in items):
            return f"`{text}` is not a rate such as `600/minute` or `10/minute;100/hour`, or `off`"
    return None


_ORIGIN = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
"""As browsers write it: in small letters, without a path."""


def _check_origins(origins: tuple[str, ...]) -> str | None:
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            return f"`{origin}` is not an origin such as `https://dashboard.example:8443`; patterns are not taken"
    return None


def _one_of(words: tuple[str, ...]) -> Callable[[Any], str | None]:
    return lambda word: None if word in words else f"`{word}` is none of {', '.join(filter(None, words))}"


def _within(low: float, high: float) -> Callable[[Any], str | None]:
    return lambda value: None if low <= value <= high else f"`{value}` is not between {low:g} and {high:g}"


_CHECKS: dict[str, Callable[[Any], str | None]] = {
    "port": _within(1, 65535),
    "metrics_port": _within(0, 65535),
    "timezone": _check_zone,
    "log_level": lambda level: None if level.upper() in LOG_LEVELS else f"`{level}` is none of {', '.join(LOG_LEVELS)}",
    "decision_ttl_seconds": _within(0, 86400),
    "stream_port": _within(0, 65535),
    "max_subscribers": _within(1, 100_000),
    "workers": _within(1, 64),
    "decision_log": lambda mode: None if mode in LOG_MODES else f"`{mode}` is none of {', '.join(LOG_MODES)}",
    "rate_limit_writes": _check_rate,
    "rate_limit_logins": _check_rate,
    "rate_limit_anonymous_checks": _check_rate,
    "cors_origins": _check_origins,
    "tls_client_verify": _one_of(("", *TLS_VERIFY)),
    "tls_min_version": _one_of(TLS_VERSIONS),
    "log_queue": _within(100, 10_000_000),
    "spool_max_bytes": _within(0, 2**40),
    "retention_days": _within(0, 36_500),
    "retention_max_bytes": _within(0, 2**50),
    "event_retention_days": _within(0, 36_500),
    "anonymous_log_quota": _within(0, 1_000_000),
    "watch_interval_seconds": _within(0.05, 3600),
    "bundle_source": check_place,
    "bundle_threshold": _within(1, 32),
    "bundle_poll_seconds": _within(0.05, 86_400),
    "threads": _within(1, 128),
    "max_body_bytes": _within(1024, 2**30),
    "max_batch": _within(1, 10_000),
    "anonymous_roles": _check_unbound_roles,
    "trusted_networks": _check_networks,
    "trusted_roles": _check_unbound_roles,
    "trusted_proxies": _check_networks,
    "certificates": _check_certificates,
    "oidc": _check_oidc,
}
