"""An authority and a server's certificate, made for one test run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def make_certificates(folder: Path, host: str) -> tuple[Path, Path, Path]:
    """Make PEM files of an authority, and of a server's certificate and key.

    Parameters
    ----------
    host : str
        The one name that the certificate is for.
    """
    authority_key, key = (
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP256R1()),
    )
    authority = _certificate("Test authority", authority_key.public_key(), "Test authority", True)
    signed_authority = authority.sign(authority_key, hashes.SHA256())
    server = _certificate(host, key.public_key(), "Test authority", False).add_extension(
        x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False
    )
    paths = folder / "authority.pem", folder / "server.pem", folder / "server.key"
    pem = serialization.Encoding.PEM
    paths[0].write_bytes(signed_authority.public_bytes(pem))
    paths[1].write_bytes(server.sign(authority_key, hashes.SHA256()).public_bytes(pem))
    paths[2].write_bytes(
        key.private_bytes(
            pem, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    return paths


def _certificate(
    name: str, key: ec.EllipticCurvePublicKey, issuer: str, is_authority: bool
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
    )
