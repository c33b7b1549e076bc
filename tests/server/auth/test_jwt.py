"""Which tokens of an OAuth issuer are accepted, and what is kept of them."""

import base64
import hmac
import json
from dataclasses import dataclass, field, replace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from mcp.server.auth.provider import AccessToken

from perstack.errors import ConfigError
from perstack.server.auth.jwks import (
    REFRESH_SECONDS,
    RETRY_AFTER_FAILURE_SECONDS,
    UNKNOWN_KEY_RETRY_SECONDS,
    UrlJwksSource,
)
from perstack.server.auth.jwt import LEEWAY_SECONDS, MAX_CHARACTERS, ExpectedClaims, JwtVerifier
from tests.fakes import ManualClock
from tests.server.auth.signing import ISSUER, RESOURCE, Issuer, key_set, private_key, public_jwk

pytestmark = pytest.mark.anyio

ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA")
EXPECTED = ExpectedClaims(issuer=ISSUER, audiences=frozenset({RESOURCE}), resource=RESOURCE)


@dataclass
class Published:
    """What the issuer publishes at the moment, and how often it was asked."""

    content: bytes | None
    asked: list[str] = field(default_factory=list[str])

    async def __call__(self, url: str) -> bytes:
        self.asked.append(url)
        if self.content is None:
            raise ConfigError("there was no answer.")
        return self.content


@dataclass
class Place:
    """A verifier and everything around it."""

    clock: ManualClock
    published: Published
    verifier: JwtVerifier

    @property
    def issuer(self) -> Issuer:
        return Issuer(self.clock.now / 1000)

    async def accepted(self, token: str) -> AccessToken | None:
        return await self.verifier.verify_token(token)

    def pass_seconds(self, seconds: float) -> None:
        self.clock.now += int(seconds * 1000)


def place(*keys: dict[str, Any], expected: ExpectedClaims = EXPECTED) -> Place:
    clock, published = ManualClock(), Published(key_set(*(keys or (public_jwk("ES256"),))))
    source = UrlJwksSource(f"{ISSUER}/jwks", clock, published)
    return Place(clock, published, JwtVerifier(source, expected, clock))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_token_of_the_issuer_tells_who_it_speaks_for(algorithm: str) -> None:
    present = place(public_jwk(algorithm))
    token = replace(present.issuer, algorithm=algorithm).token(client_id="an-app")
    accepted = await present.accepted(token)
    assert accepted is not None
    assert (accepted.subject, accepted.claims) == ("alice", {"iss": ISSUER})
    assert accepted.scopes == ["openid", "perstack:run"]
    assert (accepted.client_id, accepted.resource) == ("an-app", RESOURCE)


async def test_nothing_carries_the_token_on() -> None:
    present = place()
    token = present.issuer.token(secret="of the issuer")
    accepted = await present.accepted(token)
    assert accepted is not None
    assert accepted.token == ""
    assert "of the issuer" not in accepted.model_dump_json()


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://other.example"},
        {"iss": ISSUER + "/"},
        {"iss": None},
        {"aud": "https://perstack.example/other"},
        {"aud": []},
        {"aud": None},
        {"aud": [{"a": RESOURCE}]},
        {"sub": None},
        {"sub": ""},
        {"sub": "a" * 1025},
        {"exp": None},
        {"exp": True},
        {"scope": " ".join(f"s{number}" for number in range(300))},
    ],
)
async def test_a_token_that_is_not_meant_for_this_server_is_refused(claims: dict[str, Any]) -> None:
    present = place()
    assert await present.accepted(present.issuer.token()) is not None
    assert await present.accepted(present.issuer.token(**claims)) is None


async def test_an_audience_may_be_one_of_several_or_one_that_the_issuer_has_made_up() -> None:
    present = place(expected=replace(EXPECTED, audiences=frozenset({"api://perstack"})))
    accepted = await present.accepted(present.issuer.token(aud=["api://perstack", "other"]))
    assert accepted is not None
    assert accepted.resource == RESOURCE
    assert await present.accepted(present.issuer.token()) is None


@pytest.mark.parametrize(
    ("scopes", "granted"),
    [
        ({"scope": None}, []),
        ({"scope": None, "scp": ["perstack:run"]}, ["perstack:run"]),
        ({"scope": None, "scp": "a b"}, ["a", "b"]),
        ({"scope": {"perstack:run": True}}, []),
    ],
)
async def test_scopes_are_found_where_issuers_write_them(
    scopes: dict[str, Any], granted: list[str]
) -> None:
    present = place()
    accepted = await present.accepted(present.issuer.token(**scopes))
    assert accepted is not None
    assert accepted.scopes == granted


async def test_a_token_expires_and_begins_with_some_leeway_for_clocks() -> None:
    present = place()
    now = int(present.clock.now / 1000)
    soon, late = LEEWAY_SECONDS - 5, LEEWAY_SECONDS + 5
    assert await present.accepted(present.issuer.token(exp=now - soon)) is not None
    assert await present.accepted(present.issuer.token(exp=now - late)) is None
    assert await present.accepted(present.issuer.token(nbf=now + soon)) is not None
    assert await present.accepted(present.issuer.token(nbf=now + late)) is None
    present.pass_seconds(300 + late)
    assert await present.accepted(Issuer(now).token()) is None


@pytest.mark.parametrize("moment", ["NaN", "Infinity", "-1", "1e400", '"2100-01-01"', "[]"])
async def test_a_time_that_is_none_is_refused(moment: str) -> None:
    present = place()
    claims = json.dumps({"iss": ISSUER, "aud": RESOURCE, "sub": "alice", "exp": "EXP"})
    payload = claims.replace('"EXP"', moment).encode()
    token = jwt.PyJWS().encode(payload, private_key("ES256"), "ES256", {"kid": "key-0"})
    assert await present.accepted(token) is None


def unsigned(header: dict[str, Any], claims: dict[str, Any]) -> str:
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in (header, claims)
    ]
    return ".".join([*parts, ""])


async def test_a_token_without_a_signature_is_refused() -> None:
    present = place()
    claims = jwt.decode(present.issuer.token(), options={"verify_signature": False})
    for algorithm in ("none", "None", "", None, ["ES256"], {"ES256": 1}):
        assert await present.accepted(unsigned({"alg": algorithm}, claims)) is None


async def test_a_public_key_is_never_taken_for_a_shared_secret() -> None:
    present = place(public_jwk("RS256"))
    key = private_key("RS256")
    assert isinstance(key, RSAPrivateKey)
    claims = jwt.decode(present.issuer.token(), options={"verify_signature": False})
    numbers = public_jwk("RS256")
    for secret in (
        key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        json.dumps(numbers).encode(),
        numbers["n"].encode(),
    ):
        signed = unsigned({"alg": "HS256", "kid": "key-0"}, claims)[:-1]
        signature = hmac.digest(secret, signed.encode(), "sha256")
        token = f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
        assert await present.accepted(token) is None


async def test_a_signature_of_another_key_or_kind_is_refused() -> None:
    present = place(public_jwk("RS256", alg="RS256"), public_jwk("ES256", 1))
    issuer = present.issuer
    assert await present.accepted(replace(issuer, algorithm="RS256").token()) is not None
    assert await present.accepted(replace(issuer, algorithm="PS256").token()) is None
    assert await present.accepted(replace(issuer, algorithm="ES256", number=2).token()) is None
    lying = replace(issuer, algorithm="ES256", number=2, header={"kid": "key-1"})
    assert await present.accepted(lying.token()) is None


async def test_a_changed_token_is_refused() -> None:
    present = place()
    header, payload, signature = present.issuer.token().split(".")
    other = present.issuer.token(sub="bob").split(".")[1]
    assert await present.accepted(f"{header}.{other}.{signature}") is None
    assert await present.accepted(f"{header}.{payload}.{signature[:-4]}AAAA") is None


async def test_an_id_token_by_type_is_refused() -> None:
    present = place()
    access = replace(present.issuer, header={"typ": "at+jwt"})
    assert await present.accepted(access.token()) is not None
    assert await present.accepted(replace(access, header={"typ": "logout+jwt"}).token()) is None


async def test_a_header_that_must_be_understood_and_is_not_is_refused() -> None:
    present = place()
    critical = replace(present.issuer, header={"crit": ["exotic"], "exotic": 1})
    assert await present.accepted(critical.token()) is None


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "..",
        "a.b.c",
        "ä.ö.ü",
        "\x00.\x00.\x00",
        "A" * (MAX_CHARACTERS + 1),
        base64.urlsafe_b64encode(b"[" * 4000).decode() + ".e30.AA",
        unsigned({"alg": "ES256", "kid": {"a": 1}}, {}),
        unsigned({"alg": "ES256", "kid": "key-0"}, {}) + "AA",
    ],
)
async def test_garbage_is_refused_like_any_other_token(token: str) -> None:
    assert await place().accepted(token) is None


async def test_a_new_key_of_the_issuer_is_found_and_an_old_one_forgotten() -> None:
    present = place(public_jwk("ES256", 0))
    old, new = present.issuer.token(), replace(present.issuer, number=1)
    assert await present.accepted(old) is not None
    present.published.content = key_set(public_jwk("ES256", 1))
    present.pass_seconds(UNKNOWN_KEY_RETRY_SECONDS)
    assert await present.accepted(new.token()) is not None
    assert await present.accepted(old) is None


async def test_unknown_keys_make_the_server_ask_at_most_once_a_minute() -> None:
    present = place()
    unknown = replace(present.issuer, number=1)
    for _ in range(20):
        assert await present.accepted(unknown.token()) is None
    assert len(present.published.asked) == 1
    present.pass_seconds(UNKNOWN_KEY_RETRY_SECONDS)
    for _ in range(20):
        assert await present.accepted(unknown.token()) is None
    assert len(present.published.asked) == 2


async def test_a_key_that_the_issuer_has_withdrawn_is_forgotten_within_the_hour() -> None:
    present = place()
    assert await present.accepted(present.issuer.token()) is not None
    present.published.content = key_set(public_jwk("ES256", 1))
    assert await present.accepted(present.issuer.token()) is not None
    present.pass_seconds(REFRESH_SECONDS)
    assert await present.accepted(present.issuer.token()) is None


async def test_an_issuer_that_does_not_answer_leaves_known_keys_in_use(
    caplog: pytest.LogCaptureFixture,
) -> None:
    present = place()
    assert await present.accepted(present.issuer.token()) is not None
    present.published.content = None
    present.pass_seconds(REFRESH_SECONDS)
    assert await present.accepted(present.issuer.token()) is not None
    assert "there was no answer" in caplog.text
    asked = len(present.published.asked)
    present.pass_seconds(RETRY_AFTER_FAILURE_SECONDS)
    assert await present.accepted(present.issuer.token()) is not None
    assert len(present.published.asked) == asked + 1


async def test_the_log_says_why_a_token_was_refused_and_never_which_it_was(
    caplog: pytest.LogCaptureFixture,
) -> None:
    present = place()
    token = present.issuer.token(aud="other")
    assert await present.accepted(token) is None
    assert "another audience" in caplog.text
    assert token not in caplog.text
    assert token.split(".")[1] not in caplog.text
