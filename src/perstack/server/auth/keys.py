"""The public keys of an issuer: which of them may have signed a token, and whether one did."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from perstack.errors import ConfigError

ALGORITHMS_OF = {
    ("RSA", None): ("RS256", "PS256"),
    ("EC", "P-256"): ("ES256",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
"""What a key of a kind and curve may be used for. Nothing here has a secret that a public key could
be mistaken for."""

MAX_KEYS = 64
PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
PEM_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key with one thing that it may be used for."""

    key_id: str | None
    algorithm: str
    key: jwt.PyJWK


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of an issuer at one moment."""

    every: tuple[SigningKey, ...] = ()

    def candidates(self, algorithm: str, key_id: str | None) -> tuple[SigningKey, ...]:
        """Those that a token with this header can have been signed with.

        A key without an id, such as one of a PEM file, is one for any id.
        """
        return tuple(
            key
            for key in self.every
            if key.algorithm == algorithm
            and (key_id is None or key.key_id is None or key.key_id == key_id)
        )


def parse_keys(content: bytes) -> Keys:
    """The keys of a JWK set or of a PEM file with public keys or certificates.

    Keys of a kind or for a use that is not needed here are left out.

    Raises:
        ConfigError: It is neither, it holds a private key, or nothing in it can be used.
    """
    try:
        text = content.decode("utf-8")
        found = _of_pem(text) if "-----BEGIN" in text else _of_set(json.loads(text))
    except ConfigError:
        raise
    except (ValueError, TypeError, RecursionError, jwt.PyJWTError) as error:
        raise ConfigError("it is neither a JWK set nor a PEM file with public keys.") from error
    if not found:
        kinds = "RSA (2048 bits or more), P-256 or Ed25519"
        raise ConfigError(f"it has no key for signatures of a kind that is accepted: {kinds}.")
    return Keys(tuple(found))


def _of_set(document: Any) -> list[SigningKey]:
    given: Any = cast("Mapping[str, Any]", document)["keys"] if _is_table(document) else None
    if not isinstance(given, list) or len(cast("Sequence[object]", given)) > MAX_KEYS:
        raise ValueError("a JWK set has a list of keys")
    return [key for one in cast("list[object]", given) if _is_table(one) for key in _of_jwk(one)]


def _is_table(value: object) -> bool:
    return isinstance(value, dict)


def _of_jwk(jwk: Any) -> list[SigningKey]:
    table = cast("dict[str, Any]", jwk)
    if PRIVATE_MEMBERS & table.keys():
        raise ConfigError("it holds a private or secret key.", hint="Give the public keys only.")
    if table.get("use", "sig") != "sig" or "verify" not in table.get("key_ops", ["verify"]):
        return []
    key_id = table.get("kid")
    kind = (str(table.get("kty")), table.get("crv") if table.get("kty") != "RSA" else None)
    keys: list[SigningKey] = []
    for algorithm in ALGORITHMS_OF.get(kind, ()):
        if table.get("alg", algorithm) == algorithm:
            key = jwt.PyJWK(table, algorithm)
            if key.Algorithm.check_key_length(key.key) is None:
                name = key_id if isinstance(key_id, str) else None
                keys.append(SigningKey(name, algorithm, key))
    return keys


def _of_pem(text: str) -> list[SigningKey]:
    keys: list[SigningKey] = []
    for block in PEM_BLOCK.finditer(text):
        if "PRIVATE" in block[1]:
            raise ConfigError("it holds a private key.", hint="Give the public key only.")
        content = block[0].encode()
        key = (
            load_pem_x509_certificate(content).public_key()
            if block[1] == "CERTIFICATE"
            else load_pem_public_key(content)
        )
        match key:
            case RSAPublicKey():
                keys += _of_jwk(RSAAlgorithm.to_jwk(key, as_dict=True))
            case EllipticCurvePublicKey():
                keys += _of_jwk(ECAlgorithm.to_jwk(key, as_dict=True))
            case Ed25519PublicKey():
                keys += _of_jwk(OKPAlgorithm.to_jwk(key, as_dict=True))
            case _:
                pass
    return keys
