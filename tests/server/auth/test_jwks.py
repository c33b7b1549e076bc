"""Which keys of an issuer are used, and from where they may come."""

import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

from perstack.errors import ConfigError
from perstack.server.auth.jwks import FileJwksSource, UrlJwksSource, fetch_document, parse_keys
from tests.fakes import ManualClock
from tests.server.auth.signing import key_set, private_key, public_jwk

pytestmark = pytest.mark.anyio


def used(content: bytes) -> list[tuple[str | None, str]]:
    return [(key.key_id, key.algorithm_name) for key in parse_keys(content)]


def test_a_key_is_used_for_what_it_is_meant_for_only() -> None:
    keys = [
        public_jwk("RS256", 1),
        public_jwk("RS256", 2, alg="PS256"),
        public_jwk("ES256", 3),
        public_jwk("EdDSA", 4),
        public_jwk("EdDSA", 5, use="enc"),
        public_jwk("EdDSA", 6, key_ops=["encrypt"]),
        public_jwk("ES256", 7, alg="ES512"),
        {"kty": "XYZ", "kid": "new"},
    ]
    assert used(key_set(*keys)) == [
        ("key-1", "RS256"),
        ("key-1", "PS256"),
        ("key-2", "PS256"),
        ("key-3", "ES256"),
        ("key-4", "EdDSA"),
    ]


def test_a_short_rsa_key_is_not_used() -> None:
    size = 1024
    short = rsa.generate_private_key(public_exponent=65537, key_size=size).public_key()
    pem = short.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(ConfigError, match="2048 bits"):
        parse_keys(pem)


def certificate() -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "issuer.example")])
    key = private_key("EdDSA")
    assert isinstance(key, ed25519.Ed25519PrivateKey)
    began = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    made = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=key.public_key(),
        serial_number=1,
        not_valid_before=began,
        not_valid_after=began + dt.timedelta(days=1),
    )
    return made.sign(key, None).public_bytes(Encoding.PEM)


def test_pem_holds_public_keys_and_certificates() -> None:
    keys = [
        private_key(algorithm)
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        for algorithm in ("ES256", "RS256")
    ]
    assert used(b"".join([*keys, certificate()])) == [
        (None, "ES256"),
        (None, "RS256"),
        (None, "PS256"),
        (None, "EdDSA"),
    ]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "neither a JWK set nor a PEM file"),
        (b"\xff\xfe", "neither"),
        (b"[]", "neither"),
        (b"{}", "neither"),
        (b'{"keys": 5}', "neither"),
        (b"[" * 100_000, "neither"),
        (b'{"keys": []}', "no key"),
        (key_set(*({"kty": "XYZ"} for _ in range(65))), "neither"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "neither"),
        (key_set({"kty": "oct", "k": "c2VjcmV0"}), "private or secret"),
        (key_set({**public_jwk("ES256"), "d": "AAAA"}), "private or secret"),
        (
            private_key("ES256").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            "private key",
        ),
    ],
)
def test_what_is_no_set_of_public_keys_is_refused(content: bytes, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        parse_keys(content)


async def test_a_file_of_keys_is_read_again_when_it_changes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "jwks.json"
    path.write_bytes(key_set(public_jwk("ES256", 1)))
    keys = FileJwksSource(path)
    assert await keys.candidates("ES256", "key-1")
    path.write_bytes(key_set(public_jwk("ES256", 2), public_jwk("EdDSA", 3)))
    assert not await keys.candidates("ES256", "key-1")
    assert await keys.candidates("ES256", "key-2")
    path.write_text("{", encoding="utf-8")
    assert not await keys.candidates("ES256", "key-2")
    assert "nobody is let in" in caplog.text
    path.write_bytes(key_set(public_jwk("ES256", 2)))
    assert await keys.candidates("ES256", "key-2")


def test_a_file_of_keys_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.json cannot be read: No such file"):
        FileJwksSource(tmp_path / "none.json")


@pytest.mark.parametrize(
    "url",
    [
        "http://issuer.example/jwks",
        "file:///etc/passwd",
        "ftp://x/y",
        "https://",
        "//x",
        "http://127.0.0.1.evil.example/",
    ],
)
def test_keys_come_by_a_way_on_which_nobody_can_change_them(url: str) -> None:
    with pytest.raises(ConfigError, match="is not an https:// address"):
        UrlJwksSource(url, ManualClock())


@pytest.mark.parametrize(
    "url", ["https://issuer.example/jwks", "http://[::1]:80/", "http://localhost/"]
)
def test_or_from_this_machine(url: str) -> None:
    assert UrlJwksSource(url, ManualClock())


async def test_a_set_that_cannot_be_had_is_a_readable_error() -> None:
    with pytest.raises(ConfigError, match="ConnectError"):
        await fetch_document("http://127.0.0.1:1/jwks")
