"""All settings, read once from `TICKETING_*` variables and `.env`, and passed down from there."""

import os
import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from dotenv.parser import parse_stream
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from ticketing.database_address import Address
from ticketing.errors import StartupError

PREFIX: Final = "TICKETING_"
DOTENV: Final = ".env"
ORIGIN: Final = re.compile(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(:[1-9][0-9]{0,4})?")
ROOT_PATH: Final = re.compile(r"(?:/[A-Za-z0-9._~-]+)+")
MAX_ROOT_PATH: Final = 200
OWN_SEGMENTS: Final = {
    *(".well-known", "api", "board", "docs", "door", "livez", "openapi.json", "readyz", "redoc"),
    "static",
}
"""The first segments of the service's own paths."""
DEFAULT_PORTS: Final = {"http:": ":80", "https": ":443"}
"""Browsers leave these ports out of an origin."""
MIN_SECRET: Final = 32
"""Bytes. RFC 7518, section 3.2: an HS256 key has at least 256 bits."""

MAX_TOKEN_LIFETIME: Final = 3600
"""Seconds. A revocation is remembered until every access token from before it has expired."""
DAY: Final = 86_400
RATE_LIMIT: Final = re.compile(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,4})s")


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `quota` requests in `window` seconds; all of them may come at once."""

    quota: int
    window: int

    @classmethod
    def parse(cls, text: str) -> "RateLimit":
        """Read the form `60/60s`. Raises ValueError."""
        found = RATE_LIMIT.fullmatch(text.strip())
        if found is None:
            raise ValueError("must look like 60/60s: a number of requests, and in how many seconds")
        return cls(int(found[1]), int(found[2]))


def _long_enough(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value().encode()) < MIN_SECRET:
        raise ValueError(f"must be at least {MIN_SECRET} bytes long")
    return secret


Secret = Annotated[SecretStr, AfterValidator(_long_enough)]


def _words(value: object) -> object:
    return tuple(value.split()) if isinstance(value, str) else value


def _postgres(url: SecretStr) -> SecretStr:
    Address.parse(url.get_secret_value())
    return url


def _listed(given: object) -> object:
    return [item.strip() for item in given.split(",")] if isinstance(given, str) else given


def _network(given: object) -> object:
    try:
        return ip_network(str(given))
    except ValueError:
        raise ValueError("must be addresses or networks, such as 10.0.0.0/8") from None


def _limit(given: object) -> object:
    return RateLimit.parse(given) if isinstance(given, str) else given


Pooler: TypeAlias = Literal["none", "session", "transaction"]
"""How long a pooler in front of the database lends a connection."""
Rate = Annotated[RateLimit, NoDecode, BeforeValidator(_limit)]


def _origin(origin: str) -> str:
    # It is compared letter by letter with the Origin that browsers send (RFC 6454, section 6.2).
    if origin == "*":
        raise ValueError("must list every origin: there is no wildcard")
    if not ORIGIN.fullmatch(origin) or origin.endswith(DEFAULT_PORTS.get(origin[:5], "\0")):
        raise ValueError("must look like https://tickets.example, as a browser sends it")
    return origin


def as_root_path(given: str) -> str:
    """Return a path prefix without a slash at its end. Raises ValueError for any other text."""
    path = given.removesuffix("/")
    segments = path.split("/")[1:]
    if not ROOT_PATH.fullmatch(path) or {".", ".."} & {*segments} or len(path) > MAX_ROOT_PATH:
        raise ValueError("must look like /tickets: letters, digits and . _ ~ - between slashes")
    if segments[0] in OWN_SEGMENTS:
        # The service could not see whether the proxy removed the prefix.
        raise ValueError(f"must not begin with /{segments[0]}: the service has its own paths there")
    return path


def _names_in_dotenv() -> list[str]:
    """Return the names in `.env`. Raises StartupError for a line that is not NAME=value."""
    if not Path(DOTENV).is_file():
        return []
    with Path(DOTENV).open(encoding="utf-8") as file:
        lines = list(parse_stream(file))
    for each in lines:
        if each.error:
            raise StartupError(f"{DOTENV}: line {each.original.line} is not NAME=value")
    return [each.key for each in lines if each.key is not None]


class Settings(BaseSettings):
    """The operator's settings. Each field is read from the variable `TICKETING_<FIELD>`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=DOTENV, env_ignore_empty=True, frozen=True, extra="ignore"
    )

    database_url: Annotated[SecretStr, AfterValidator(_postgres)] | None = None
    """`postgresql://user:password@host/database`. If absent: an embedded PostgreSQL."""
    migration_database_url: Annotated[SecretStr, AfterValidator(_postgres)] | None = None
    """The same database, with the role that owns it, for `migrate`. If absent: `database_url`."""
    pooler: Pooler = "none"
    """What is between the service and PostgreSQL: none, or a pooler such as PgBouncer that lends a
    connection for a session or for a transaction."""
    data_dir: Path = Path("data")
    """Folder of the embedded PostgreSQL and its secret."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(default=3000, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""
    workers: int = Field(default=1, ge=1, le=64)
    """Number of server processes."""
    drain: float = Field(default=1.0, ge=0, le=300)
    """Seconds for which a stopping service is "not ready" but still accepts connections."""
    pool_size: int = Field(default=10, ge=2, le=100)
    """Database connections of each worker."""
    jwt_secret: Secret | None = None
    """Secret that signs access tokens; at least 32 bytes. Required with `database_url`."""
    jwt_previous_secrets: Annotated[tuple[Secret, ...], NoDecode, BeforeValidator(_words)] = ()
    """Previous signing secrets, separated by spaces. Their tokens are still accepted."""
    token_lifetime: int = Field(default=MAX_TOKEN_LIFETIME, ge=900, le=MAX_TOKEN_LIFETIME)
    """Seconds until an access token expires."""
    refresh_lifetime: int = Field(default=14 * DAY, ge=MAX_TOKEN_LIFETIME, le=365 * DAY)
    """Seconds after which a session ends if it is not refreshed."""
    session_lifetime: int = Field(default=90 * DAY, ge=MAX_TOKEN_LIFETIME, le=365 * DAY)
    """Seconds after which a session ends in any case, and the user must log in again."""
    bcrypt_rounds: int = Field(default=12, ge=4, le=16)
    """Cost of a password hash: 2 to this power."""
    registration: Literal["open", "closed"] = "open"
    """Whether people make accounts themselves. closed: only `ticketing user add` makes accounts."""
    organisers: Literal["everybody", "granted"] = "everybody"
    """Who may create events. granted: only admins, and people who were granted the right."""
    header_timeout: int = Field(default=10, ge=1, le=600)
    """Seconds in which the header of a request must arrive."""
    body_timeout: int = Field(default=30, ge=1, le=600)
    """Seconds in which the body of a request must arrive."""
    keep_alive: int = Field(default=75, ge=1, le=3600)
    """Seconds after which a connection without requests is closed."""
    max_connections: int = Field(default=10_000, ge=1, le=1_000_000)
    """Connections of each worker, besides streams; more get 503 `busy`."""
    max_streams: int = Field(default=10_000, ge=1, le=1_000_000)
    """Open streams of each worker, such as `GET /api/events/{id}/live`; more get 503 `busy`."""
    cors_origins: Annotated[
        tuple[Annotated[str, AfterValidator(_origin)], ...], NoDecode, BeforeValidator(_listed)
    ] = ()
    """Origins whose pages may call the API from a browser, separated by commas."""
    trusted_proxies: Annotated[
        tuple[Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)], ...],
        NoDecode,
        BeforeValidator(_listed),
    ] = ()
    """Trusted proxies: addresses and networks whose X-Forwarded-For and X-Forwarded-Prefix are
    used, separated by commas."""
    root_path: Annotated[str, AfterValidator(as_root_path)] | None = None
    """Path at which a proxy shows the service, such as `/tickets`. If absent: the root."""
    rate_limits: Literal["off", "on"] = "on"
    """Whether the rate limits below are applied."""
    rate_limit_store: Literal["memory", "postgresql"] = "memory"
    """Where requests are counted: postgresql if several machines share one database."""
    limit_bookings: Rate = RateLimit(60, 60)
    """Bookings and cancels of one account, and for one customer."""
    limit_key_bookings: Rate = RateLimit(30_000, 60)
    """Bookings and cancels by one API key, which is not counted by address."""
    limit_address_bookings: Rate = RateLimit(3000, 60)
    """Bookings and cancels from one address, which thousands of people may share."""
    limit_requests: Rate = RateLimit(6000, 60)
    """All other API requests from one address."""
    limit_registrations: Rate = RateLimit(200, 3600)
    """New accounts from one address."""
    limit_logins: Rate = RateLimit(100, 3600)
    """Wrong passwords for one account, from addresses that never logged in to it."""
    limit_address_logins: Rate = RateLimit(300, 3600)
    """Wrong passwords from one address, for accounts that it never logged in to."""
    webhook_delivery: Literal["workers", "off"] = "workers"
    """Where webhooks are delivered. off: only by `ticketing deliver`, a process of its own."""
    webhook_networks: Annotated[
        tuple[Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)], ...],
        NoDecode,
        BeforeValidator(_listed),
    ] = ()
    """Addresses and networks besides public ones to which webhooks may be sent, separated by
    commas."""
    metrics_port: int | None = Field(default=None, ge=0, le=65535)
    """Port of `/metrics` for Prometheus; 0 takes a free one. If absent: nothing is counted."""
    metrics_host: str = "127.0.0.1"
    """Address of `/metrics`."""
    otel: Literal["off", "on"] = "off"
    """Whether to send traces and metrics to OpenTelemetry; set its own variables too (OTEL_...)."""
    audit_every: int = Field(default=300, ge=0, le=DAY)
    """Seconds between two audits by the running service; 0 disables them."""
    log_dir: Path = Path("logs")
    """Folder of `combined.log`."""
    log_file: Literal["off", "on"] = "on"
    """Whether the log is written to a file as well as to the console."""
    log_format: Literal["text", "json"] = "text"
    """Format of the log on the console. The file is always JSON."""
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"],
        BeforeValidator(lambda level: level.upper() if isinstance(level, str) else level),
    ] = "INFO"
    """Lowest level that is logged."""

    @property
    def connections(self) -> int:
        """How many database connections the service may need.

        One worker more, because a rolling restart starts the new one before it stops the old one.
        Each has four besides its pool, and one of them audits.
        """
        return (self.workers + 1) * (self.pool_size + 4) + 1

    @classmethod
    def load(cls, **overrides: object) -> Self:
        """Read the settings. `overrides` (options of the command line) win if they are not None.

        Raises StartupError with one line that names the wrong setting or option, never its value.
        """
        known = {PREFIX + name.upper() for name in cls.model_fields}
        values: dict[str, Any] = {k: v for k, v in overrides.items() if v is not None}
        try:
            for name in [*os.environ, *_names_in_dotenv()]:
                if name.startswith(PREFIX) and name not in known:
                    raise StartupError(f"{name}: there is no such setting")
            return cls(**values)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False, include_context=False)[0]
            field = str(first["loc"][0])
            reason = first["msg"].removeprefix("Value error, ")
            option = f"--{field.replace('_', '-')}"
            name = option if field in values else PREFIX + field.upper()
            raise StartupError(f"{name}: {reason}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise StartupError(f"{DOTENV} can't be read: {error}") from None
