"""nginx and HAProxy, started with the files of `deploy/` in front of a service."""

import os
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DEPLOY = Path(__file__).parents[1] / "deploy"
PROXIES = ("nginx", "haproxy")
PREFIX = "/tickets"
"""The service's address in the examples."""
PATIENCE = 20.0
"""Seconds in which a proxy must start."""
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin"
"""Debian has both in a folder that only root has in its path."""


@dataclass(frozen=True)
class Proxy:
    """A running proxy."""

    name: str
    host: str
    port: int
    tls: ssl.SSLContext
    """Trusts its certificate."""

    @property
    def url(self) -> str:
        """The URL for clients."""
        return f"https://{self.host}:{self.port}{PREFIX}"


def needed(name: str) -> str:
    """The path of the program. Without it the test fails under CI, and is skipped elsewhere."""
    found = shutil.which(name, path=PATH)
    if found:
        return found
    message = f"the tests need {name}: apt-get install {name}"
    if os.environ.get("CI"):
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def example(name: str) -> str:
    """Return the proxy's file of `deploy/`."""
    return (DEPLOY / {"nginx": "nginx.conf", "haproxy": "haproxy.cfg"}[name]).read_text()


def settings_of(name: str) -> dict[str, str]:
    """Return the settings that the file says the service needs."""
    return dict(re.findall(r"(TICKETING_\w+)=(\S+)", example(name)))


@contextmanager
def proxied(
    name: str, folder: Path, service: str, changes: Mapping[str, str] | None = None
) -> Iterator[Proxy]:
    """Start a proxy with its file of `deploy/`, in front of the service at `service` (host:port).

    Replaces the site's own values, and each of `changes`, which must occur once. It accepts when
    this yields, and has ended when this returns.
    """
    program = needed(name)
    certificate = _certificate(folder)
    port = _free_port()
    here = f"127.0.0.1:{port}"
    common = {"127.0.0.1:3000": service, "/etc/ssl/site.example.pem": str(certificate)}
    if name == "nginx":
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = " ".join(f"{each}_temp_path {folder}/{each};" for each in kinds)
        common |= {
            "listen              443": f"listen {here}",
            "/etc/ssl/site.example.key": str(certificate),
            "http {": f"http {{ access_log off; {temporary}",
        }
        for_tests = f"daemon off; pid {folder}/nginx.pid; error_log stderr;"
        rest = ["-e", "stderr", "-g", for_tests, "-c"]
    else:
        common |= {":443": here}
        rest = ["-f"]
    text = example(name)
    for old, new in {**common, **(changes or {})}.items():
        assert text.count(old) == 1, f"{name}: {old}"
        text = text.replace(old, new)
    config = folder / f"{name}.conf"
    config.write_text(text)
    said = folder / f"{name}.txt"
    with (
        said.open("wb") as console,
        subprocess.Popen([program, *rest, config], stdout=console, stderr=console) as process,
    ):
        try:
            wait_until_accepting(process, port, said)
            yield Proxy(name, "127.0.0.1", port, ssl.create_default_context(cafile=certificate))
        finally:
            process.terminate()


def wait_until_accepting(process: subprocess.Popen[bytes], port: int, said: Path) -> None:
    """Wait until the program accepts connections. Fails with what it said if it ends."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, said.read_text()
        assert time.monotonic() < deadline, said.read_text()
        time.sleep(0.02)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _certificate(folder: Path) -> Path:
    """Make a certificate for this machine, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    here = x509.IPAddress(ip_address("127.0.0.1"))
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([here]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path
