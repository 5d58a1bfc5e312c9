"""A Redis that wants certificates, and a user who may no more than a farm needs."""

import datetime
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from img2img_shared.errors import Refused, Unavailable
from img2img_shared.ledger import connect
from tests.integration.test_redis_connections import tickets_come_through
from tests.servers import RedisServer, Sentinel, tls_program

YEAR = datetime.timedelta(days=365)


@dataclass(frozen=True)
class Signed:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates for this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.path = self._write(
            "ca.pem",
            self._certificate(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM),
        )

    def sign(self, name: str) -> Signed:
        """A certificate for what has the address of this machine, or for a client."""
        key = ec.generate_private_key(ec.SECP256R1())
        places = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signed = (
            self._certificate(subject, key)
            .add_extension(places, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        secret = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return Signed(
            self._write(f"{name}.pem", signed.public_bytes(serialization.Encoding.PEM)),
            self._write(f"{name}.key", secret),
        )

    def _certificate(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - YEAR)
            .not_valid_after(now + YEAR)
        )

    def _write(self, name: str, data: bytes) -> Path:
        path = self._folder / name
        path.write_bytes(data)
        return path


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def client(authority: Authority) -> Signed:
    return authority.sign("client")


@pytest.fixture(scope="module")
def tls_lines(authority: Authority) -> list[str]:
    """Of the configuration of a server, or sentinel, that lets nobody in without a certificate."""
    server = authority.sign("server")
    return [
        f"tls-cert-file {server.certificate}",
        f"tls-key-file {server.key}",
        f"tls-ca-cert-file {authority.path}",
        "tls-auth-clients yes",
        "tls-replication yes",
    ]


@pytest.fixture(scope="module")
def tls_server(tls_lines: list[str]) -> Iterator[RedisServer]:
    words = [word for line in tls_lines for word in f"--{line}".split()]
    server = RedisServer(*words, has_tls=True, program=tls_program())
    yield server
    server.remove()


def test_certificates_of_both_sides_are_checked(
    tls_server: RedisServer, authority: Authority, client: Signed, tmp_path: Path
) -> None:
    own = f"ssl_certfile={client.certificate}&ssl_keyfile={client.key}"
    place = f"rediss://127.0.0.1:{tls_server.port}/1"
    tickets_come_through(f"{place}?ssl_ca_certs={authority.path}&{own}")
    tickets_come_through(f"{place}?ssl_cert_reqs=CERT_NONE&{own}")

    with pytest.raises(Unavailable, match="does not answer"):  # it wants one of ours
        connect(f"{place}?ssl_ca_certs={authority.path}")
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other")
    with pytest.raises(Unavailable, match="certificate verify failed"):  # we do not know its
        connect(f"{place}?ssl_ca_certs={stranger.path}&{own}")
    with pytest.raises(Refused, match="option ssl_certfile must be a file that can be read"):
        connect(f"{place}?ssl_certfile={tmp_path}/nowhere")
    with pytest.raises(Unavailable, match="does not answer"):
        connect(f"redis://127.0.0.1:{tls_server.port}")


def test_sentinels_and_the_server_are_reached_with_the_same_certificates(
    tls_server: RedisServer, tls_lines: list[str], authority: Authority, client: Signed
) -> None:
    tls = f"ssl_ca_certs={authority.path}&ssl_certfile={client.certificate}&ssl_keyfile={client.key}"
    sentinel = Sentinel(tls_server.port, quorum=1, lines=tls_lines, tls=tls, program=tls_program())
    try:
        tickets_come_through(f"rediss+sentinel://127.0.0.1:{sentinel.port}/farm/2?{tls}")
    finally:
        sentinel.remove()
