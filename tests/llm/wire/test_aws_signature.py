"""Signatures of requests to AWS, which botocore would give too."""

from datetime import UTC, datetime

import pytest

from perstack.llm.providers.aws_credentials import AwsCredentials
from perstack.llm.wire.aws_signature import signed_headers
from tests.llm.aws import authorization

NOW = datetime(2026, 11, 29, 12, 30, 5, tzinfo=UTC)
ARN = (
    "arn%3Aaws%3Abedrock%3Aeu-west-1%3A123456789012%3Ainference-profile%2Feu.amazon.nova-pro-v1%3A0"
)


@pytest.mark.parametrize("session_token", [None, "invented/token+with=signs"])
@pytest.mark.parametrize(
    "url",
    [
        "https://bedrock-runtime.eu-west-1.amazonaws.com/model/amazon.nova-pro-v1%3A0/converse",
        f"https://bedrock-runtime.eu-west-1.amazonaws.com/model/{ARN}/converse-stream",
        "http://127.0.0.1:8080/a%20place/model/m~1_2.x/converse",
        "https://vpce.example:443/model/m/converse",
    ],
)
def test_a_signature_is_that_of_botocore(url: str, session_token: str | None) -> None:
    credentials = AwsCredentials("invented-id", "invented-secret", session_token, "eu-west-1")
    body = '{"messages":[{"role":"user","content":[{"text":"für"}]}]}'.encode()

    headers = signed_headers(url, body, credentials, NOW)

    keys = ("invented-id", "invented-secret", session_token)
    assert headers["Authorization"] == authorization(url, body, headers, keys)
    assert headers["X-Amz-Date"] == "20261129T123005Z"
    assert headers.get("X-Amz-Security-Token") == session_token


def test_credentials_do_not_show_their_keys() -> None:
    assert "invented" not in repr(AwsCredentials("invented-id", "invented-secret", None, "r"))
