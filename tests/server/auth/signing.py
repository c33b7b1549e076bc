"""An OAuth issuer with keys of its own."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

ISSUER = "https://issuer.example"
RESOURCE = "https://perstack.example/mcp"

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@cache
def private_key(algorithm: str, _number: int = 0) -> PrivateKey:
    """A key for an algorithm; the same for the same number, since RSA keys take their time."""
    if algorithm in ("RS256", "PS256"):
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    return ed25519.Ed25519PrivateKey.generate()


def public_jwk(algorithm: str, number: int = 0, **members: Any) -> dict[str, Any]:
    """The public key as the issuer publishes it."""
    key = private_key(algorithm, number)
    match key:
        case rsa.RSAPrivateKey():
            jwk = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
        case ec.EllipticCurvePrivateKey():
            jwk = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
        case ed25519.Ed25519PrivateKey():
            jwk = OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**jwk, "use": "sig", "kid": f"key-{number}", **members}


def key_set(*keys: Mapping[str, Any]) -> bytes:
    """A JWK set."""
    return json.dumps({"keys": keys}).encode()


@dataclass
class Issuer:
    """Signs tokens; `now` is in seconds."""

    now: float
    name: str = ISSUER
    algorithm: str = "ES256"
    number: int = 0
    header: dict[str, Any] = field(default_factory=dict[str, Any])

    def token(self, **claims: Any) -> str:
        """A token that is in order, but for `claims`; one that is None is left out."""
        every = {
            "iss": self.name,
            "aud": RESOURCE,
            "sub": "alice",
            "exp": int(self.now) + 300,
            "scope": "perstack:run openid",
            **claims,
        }
        return jwt.encode(
            {name: value for name, value in every.items() if value is not None},
            private_key(self.algorithm, self.number),
            self.algorithm,
            headers={"kid": f"key-{self.number}", **self.header},
        )
