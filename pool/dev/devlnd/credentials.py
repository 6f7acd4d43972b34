"""Certificate, macaroons and their files, where LND puts them; made at the first start, kept after."""

from __future__ import annotations

import datetime
import ipaddress
import os
import secrets
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pool.dev.devlnd.guard import LABEL

MACAROONS = Path("data/chain/bitcoin/regtest")


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner reads, whole or not at all."""
    temporary = path.with_name(f"{path.name}.new")
    with os.fdopen(os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
    temporary.replace(path)


def macaroon(datadir: Path, name: str) -> Path:
    """File of a macaroon, made if there is none. It is a random token: this node knows no caveats."""
    path = datadir / MACAROONS / f"{name}.macaroon"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_private(path, secrets.token_bytes(48))
    return path


def certificate(datadir: Path) -> tuple[bytes, bytes]:
    """Key and self-signed certificate for loopback, as PEM, in tls.key and tls.cert."""
    key_path, certificate_path = datadir / "tls.key", datadir / "tls.cert"
    if not certificate_path.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, LABEL)])
        now = datetime.datetime.now(datetime.UTC)
        alternatives = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=3650))
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        encoding = serialization.Encoding.PEM
        words = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        write_private(key_path, words)
        write_private(certificate_path, made.public_bytes(encoding))
    return key_path.read_bytes(), certificate_path.read_bytes()
