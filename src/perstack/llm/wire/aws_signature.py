"""AWS Signature Version 4: the headers that sign a request."""

import hashlib
import hmac
from datetime import datetime
from urllib.parse import quote, urlsplit

from perstack.llm.providers.aws_credentials import AwsCredentials

ALGORITHM = "AWS4-HMAC-SHA256"
SERVICE = "bedrock"


def signed_headers(
    url: str, body: bytes, credentials: AwsCredentials, now: datetime
) -> dict[str, str]:
    """The headers that sign a POST request without a query.

    Args:
        url: As it is sent, byte by byte.
        body: As it is sent.
        credentials: Whose request it is, and to which region.
        now: In UTC; AWS refuses a signature that is older than a few minutes.
    """
    time = now.strftime("%Y%m%dT%H%M%SZ")
    parts = urlsplit(url)
    headers = {"Host": parts.netloc.rpartition("@")[2], "X-Amz-Date": time}
    if credentials.session_token is not None:
        headers["X-Amz-Security-Token"] = credentials.session_token
    names = ";".join(name.lower() for name in headers)
    request = "\n".join(
        (
            "POST",
            # What is encoded already is encoded once more.
            quote(parts.path or "/", safe="/~"),
            "",
            *(f"{name.lower()}:{value}" for name, value in headers.items()),
            "",
            names,
            hashlib.sha256(body).hexdigest(),
        )
    )
    scope = f"{time[:8]}/{credentials.region}/{SERVICE}/aws4_request"
    digest = hashlib.sha256(request.encode()).hexdigest()
    key = f"AWS4{credentials.secret_access_key}".encode()
    for part in scope.split("/"):
        key = _hmac(key, part)
    signature = _hmac(key, f"{ALGORITHM}\n{time}\n{scope}\n{digest}").hex()
    credential = f"Credential={credentials.access_key_id}/{scope}"
    return {
        **headers,
        "Authorization": f"{ALGORITHM} {credential}, SignedHeaders={names}, Signature={signature}",
    }


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
