"""The lab's own certificate authority, the API server's certificate, and the key that signs tokens.

Made when a lab starts and kept beside its store, so that pods still trust an API server that was
restarted. The only module that imports ``cryptography``; EC keys, because they are made in no time.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from controller.api.wiring import ADMIN_TOKEN, API_SERVER

SERVER_NAMES = (
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
)
SERVER_ADDRESSES = (str(API_SERVER), "127.0.0.1")
_LIFE = timedelta(days=365)
_SKEW = timedelta(hours=1)
"""Certificates are valid from a little before now: clocks differ."""


@dataclass(frozen=True, kw_only=True)
class Pki:
    """Paths of PEM files; ``token_key`` signs tokens, ``admin_token`` is the administrator's."""

    directory: Path
    ca: str
    token_key: bytes
    admin_token: str

    @property
    def certificate(self) -> Path:
        return self.directory / "apiserver.crt"

    @property
    def key(self) -> Path:
        return self.directory / "apiserver.key"


def prepare(directory: Path, addresses: Iterable[str], now: datetime | None = None) -> Pki:
    """The authority (made now if the directory has none) and a certificate for the server's addresses.

    Beside ``addresses`` it is good for the names and the address of the Service ``kubernetes``.
    """
    now = now or datetime.now(UTC)
    directory.mkdir(mode=0o700, exist_ok=True)
    if not (directory / "sa.key").exists():
        _write(directory / "sa.key", secrets.token_bytes(32))
    if not (directory / ADMIN_TOKEN).exists():
        _write(directory / ADMIN_TOKEN, secrets.token_urlsafe(32).encode())
    if not (directory / "ca.crt").exists():
        key = ec.generate_private_key(ec.SECP256R1())
        _write(directory / "ca.key", _private(key))
        _write(directory / "ca.crt", _pem(_authority(key, now)))
    authority = x509.load_pem_x509_certificate((directory / "ca.crt").read_bytes())
    authority_key = serialization.load_pem_private_key((directory / "ca.key").read_bytes(), None)
    assert isinstance(authority_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    wanted = list(dict.fromkeys([*SERVER_ADDRESSES, *addresses]))
    _write(directory / "apiserver.key", _private(key))
    _write(directory / "apiserver.crt", _pem(_server(key, wanted, authority, authority_key, now)))
    return Pki(
        directory=directory,
        ca=(directory / "ca.crt").read_text(),
        token_key=(directory / "sa.key").read_bytes(),
        admin_token=(directory / ADMIN_TOKEN).read_text(),
    )


def _authority(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    name = _name("kubernetes")
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
        decipher_only=False,
    )  # fmt: skip
    return (
        _builder(name, name, key, now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )


def _server(
    key: ec.EllipticCurvePrivateKey,
    addresses: Iterable[str],
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    now: datetime,
) -> x509.Certificate:
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in SERVER_NAMES]
    names += [x509.IPAddress(ip_address(address)) for address in addresses]
    return (
        _builder(_name("kube-apiserver"), authority.subject, key, now)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(authority_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _LIFE)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _write(path: Path, data: bytes) -> None:
    """Born 0600 and replaced at once."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    new.replace(path)
