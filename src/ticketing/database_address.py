"""Parse the address of a database, in every spelling that libpq accepts.

PostgreSQL 18's manual, section 32.1, describes connection URIs, their parameters and the service
file.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote, unquote

SCHEMES: Final = ("postgresql://", "postgres://", "postgresql+asyncpg://")
MALFORMED: Final = "must look like postgresql://user:password@host:port/database"
PORT: Final = 5432
MAX_PORT: Final = 65_535
HOST: Final = re.compile(r"(?:\[([^]]+)\]|([^][:]*))(?::([0-9]*))?")
"""A name, or an IPv6 address in brackets, and an optional port."""
PARAMETER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")

ROLES: Final = ("any", "primary", "standby", "prefer-standby", "read-write", "read-only")
NUMBERS: Final = {
    "connect_timeout": 0,
    "keepalives": 1,
    "keepalives_idle": 2,
    "keepalives_interval": 1,
    "keepalives_count": 2,
    "tcp_user_timeout": 3000,
}
"""Numeric parameters and their defaults. With these, a server that stops responding is noticed in
three to four seconds."""
OURS: Final = {"application_name", "fallback_application_name", "client_encoding"}
"""Parameters that the service sets itself. Those of an address are ignored."""
LACKING: Final[Mapping[str, set[str]]] = {
    "hostaddr": set(),
    "require_auth": set(),
    "channel_binding": {"disable", "prefer"},
    "replication": {"false", "off", "no", "0"},
    "gssencmode": {"disable", "prefer"},
    "gssdelegation": {"0"},
    "requiressl": {"0"},
    "sslcompression": {"0"},
    "sslkeylogfile": set(),
    "sslcertmode": {"allow"},
    "sslcrldir": set(),
    "sslsni": {"1"},
    "requirepeer": set(),
    "min_protocol_version": {"3.0"},
    "max_protocol_version": {"3.0", "latest"},
    "scram_client_key": set(),
    "scram_server_key": set(),
    "load_balance_hosts": {"disable"},
    "oauth_issuer": set(),
    "oauth_client_id": set(),
    "oauth_client_secret": set(),
    "oauth_scope": set(),
}
"""Parameters of libpq that the driver does not support, and their values that change nothing."""
LACKING_ENVIRONMENT: Final = {
    "hostaddr": "PGHOSTADDR",
    "require_auth": "PGREQUIREAUTH",
    "channel_binding": "PGCHANNELBINDING",
    "gssencmode": "PGGSSENCMODE",
    "gssdelegation": "PGGSSDELEGATION",
    "requiressl": "PGREQUIRESSL",
    "sslcompression": "PGSSLCOMPRESSION",
    "sslcertmode": "PGSSLCERTMODE",
    "sslcrldir": "PGSSLCRLDIR",
    "sslsni": "PGSSLSNI",
    "requirepeer": "PGREQUIREPEER",
    "min_protocol_version": "PGMINPROTOCOLVERSION",
    "max_protocol_version": "PGMAXPROTOCOLVERSION",
    "load_balance_hosts": "PGLOADBALANCEHOSTS",
}
"""Environment variables for some of these: what they require is not ignored."""
ENVIRONMENT: Final = {
    "host": "PGHOST",
    "port": "PGPORT",
    "service": "PGSERVICE",
    "servicefile": "PGSERVICEFILE",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "options": "PGOPTIONS",
}
"""Environment variables for missing parameters. The driver reads PGUSER, PGPASSWORD and others."""


class Host(NamedTuple):
    """A server: its name, IP address or folder of its Unix socket, and its port.

    An empty name is the driver's default: a Unix socket, or else this machine.
    """

    name: str
    port: int

    @property
    def is_folder(self) -> bool:
        """Whether the server is reached by a Unix socket."""
        return self.name.startswith("/")

    def __str__(self) -> str:
        """Return the host as in an address, without the default port."""
        name = f"[{self.name}]" if ":" in self.name else self.name
        return name if self.port == PORT else f"{name}:{self.port}"


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed address. The driver reads missing parts from PGUSER and others, or has a default."""

    user: str
    password: str = field(repr=False)
    database: str
    hosts: Sequence[Host]
    role: str
    """The role that the host must have, a value of `target_session_attrs`."""
    numbers: Mapping[str, int]
    """The parameters in NUMBERS."""
    options: Mapping[str, str] = field(repr=False)
    """The other parameters, for the driver or settings of the server."""

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Parse an address. Missing parts come from the service file, PGHOST, PGPORT and others.

        Raises ValueError. Its text shows no values, because they may be part of a password.
        """
        try:
            said = _read(text)
        except UnicodeDecodeError:
            raise ValueError(MALFORMED) from None
        environment = {k: os.environ[v] for k, v in ENVIRONMENT.items() if os.environ.get(v)}
        said = {**environment, **_of_service({**environment, **said}), **said}
        for name in (*OURS, "service", "servicefile"):
            said.pop(name, None)
        for name, harmless in LACKING.items():
            variable = "" if name in said else LACKING_ENVIRONMENT.get(name, "")
            if (said.pop(name, "") or os.environ.get(variable, "")) not in {*harmless, ""}:
                by = f" by {variable}" if variable else ""
                raise ValueError(f"has {name}{by}, which the database driver does not support")
        if said.get("ssl") == "true":  # The spelling of JDBC, which libpq accepts too.
            said = {"sslmode": "require", **said}
            del said["ssl"]
        role = said.pop("target_session_attrs", "primary")
        if role not in ROLES:
            raise ValueError(f"has target_session_attrs, which must be one of {', '.join(ROLES)}")
        return cls(
            user=said.pop("user", ""),
            password=said.pop("password", ""),
            database=said.pop("dbname", ""),
            hosts=_hosts(said.pop("host", ""), said.pop("port", "")),
            role=role,
            numbers={name: _number(name, said.pop(name, "")) for name in NUMBERS},
            options=said,
        )

    @property
    def dsn(self) -> str:
        """The address for the driver, without the hosts and their role."""
        credentials = quote(self.user, safe="")
        if self.password:
            credentials += ":" + quote(self.password, safe="")
        database = "/" + quote(self.database, safe="") if self.database else ""
        options = "&".join(f"{name}={quote(v, safe='')}" for name, v in self.options.items())
        return f"postgresql://{credentials}@{database}{options and '?'}{options}"

    def __str__(self) -> str:
        """Return the address for messages, without the password and most parameters."""
        before = quote(self.user, safe="") + (":***" if self.password else "")
        before += "@" if before else ""
        after = "/" + quote(self.database, safe="") if self.database else ""
        if all(host.name and not host.is_folder for host in self.hosts):
            return f"postgresql://{before}{','.join(map(str, self.hosts))}{after}"
        query = []
        if any(host.name for host in self.hosts):
            query.append("host=" + ",".join(host.name for host in self.hosts))
        if any(host.port != PORT for host in self.hosts):
            query.append("port=" + ",".join(str(host.port) for host in self.hosts))
        return f"postgresql://{before}{after}{'?' if query else ''}{'&'.join(query)}"


def _read(text: str) -> dict[str, str]:
    """Return the parameters in the text, by name."""
    text = text.strip()  # A file that is read for it most likely ends its line.
    scheme = next((each for each in SCHEMES if text.startswith(each)), None)
    if scheme is None or "\0" in unquote(text):
        raise ValueError(MALFORMED)
    before, _, query = text.removeprefix(scheme).partition("?")
    authority, _, database = before.partition("/")
    credentials, at, hosts = authority.rpartition("@")
    # An @ after the host belongs to a password that is not encoded.
    if "@" in credentials or (not at and "@" in database):
        raise ValueError(MALFORMED)
    user, _, password = credentials.partition(":")
    said = {"user": user, "password": password, "dbname": database}
    said = {name: unquote(value, errors="strict") for name, value in said.items()}
    said |= _listed([_spec(each) for each in hosts.split(",")], unquoted=False)
    # The query comes last, because it overrides the rest.
    return {name: value for name, value in [*said.items(), *_of_query(query).items()] if value}


def _of_query(query: str) -> dict[str, str]:
    said: dict[str, str] = {}
    query = query.removesuffix("&")
    for pair in query.split("&") if query else []:
        name, equals, value = (unquote(each, errors="strict") for each in pair.partition("="))
        if not equals or not PARAMETER.fullmatch(name):
            raise ValueError(MALFORMED)
        name = {"database": "dbname"}.get(name, name)
        if name not in said:
            said[name] = value
        elif name in {"host", "port"}:  # SQLAlchemy repeats them for several hosts.
            said[name] += f",{value}"
        else:
            raise ValueError("has a parameter twice. Only host and port may be repeated")
    return _listed([_spec_of_query(each) for each in said.pop("host", "").split(",")]) | said


def _listed(specs: Sequence[tuple[str, str]], *, unquoted: bool = True) -> dict[str, str]:
    """Return the parameters `host` and `port` of several hosts."""
    names, ports = (",".join(each) for each in zip(*specs, strict=True))
    said = {"host": names if unquoted else unquote(names, errors="strict")}
    return said | ({"port": ports} if ports.strip(",") else {})


def _spec(text: str) -> tuple[str, str]:
    """Return the name and port in `host`, `host:port` or `[::1]:port`."""
    match = HOST.fullmatch(text)
    if match is None:
        raise ValueError(MALFORMED)
    return match[1] or match[2], match[3] or ""


def _spec_of_query(text: str) -> tuple[str, str]:
    """Do as `_spec`, and also accept a folder or an IPv6 address without brackets."""
    is_name = text.startswith("/") or (text.count(":") > 1 and not text.startswith("["))
    return (text, "") if is_name else _spec(text)


def _hosts(names: str, ports: str) -> tuple[Host, ...]:
    each_name, each_port = names.split(","), ports.split(",")
    if len(each_port) == 1:
        each_port *= len(each_name)
    if len(each_name) != len(each_port):
        raise ValueError(f"names {len(each_name)} hosts and {len(each_port)} ports")
    if len(each_name) > 1 and not all(each_name):
        raise ValueError("names several hosts, and one of them is empty")
    if any(name.startswith("@") for name in each_name):
        raise ValueError("names an abstract socket, which the database driver does not support")
    if not all(name.startswith("/") or _can_be_looked_up(name) for name in each_name):
        raise ValueError("names a host of which a part is empty or too long")
    return tuple(Host(name, _port(port)) for name, port in zip(each_name, each_port, strict=True))


def _can_be_looked_up(name: str) -> bool:
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return True


def _port(text: str) -> int:
    if not text:
        return PORT
    if not (text.isascii() and text.isdecimal() and 0 < int(text) <= MAX_PORT):
        raise ValueError(MALFORMED)
    return int(text)


def _number(name: str, text: str) -> int:
    if not text:
        return NUMBERS[name]
    if not re.fullmatch(r"-?[0-9]{1,9}", text):
        raise ValueError(f"has {name}, which must be a number")
    return int(text)


def _of_service(said: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters of the named service from the service file, or none."""
    name = said.get("service", "")
    if not name:
        return {}
    named = said.get("servicefile", "")
    files = [Path(named) if named else Path.home() / ".pg_service.conf"]
    if folder := os.environ.get("PGSYSCONFDIR"):
        files.append(Path(folder) / "pg_service.conf")
    for file in files:
        try:
            found = _section(file.read_text("utf-8"), name)
        except FileNotFoundError:
            continue
        except (OSError, ValueError):
            raise ValueError(f"names a service, and {file} can't be read") from None
        if found is not None:
            return found
    raise ValueError(f"names a service that is not in {' or '.join(map(str, files))}")


def _section(text: str, name: str) -> dict[str, str] | None:
    """Return what a service file says of one service, as libpq reads it: nothing of any other.

    Raises ValueError for a line of it that is no parameter.
    """
    found: dict[str, str] | None = None
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            if found is not None:
                return found
            found = {} if line.startswith(f"[{name}]") else None
        elif found is not None and line and not line.startswith("#"):
            key, equals, value = line.partition("=")
            if not equals or not PARAMETER.fullmatch(key := key.strip()) or key == "service":
                raise ValueError(MALFORMED)
            if value := value.strip():
                found.setdefault({"database": "dbname"}.get(key, key), value)
    return found
