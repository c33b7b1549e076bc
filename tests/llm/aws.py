"""botocore, which signs, checks and reads what AWS is sent and sends in its own way."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

_AUTH: Any = import_module("botocore.auth")
_REQUEST: Any = import_module("botocore.awsrequest")
_CREDENTIALS: Any = import_module("botocore.credentials")
_EVENT_STREAM: Any = import_module("botocore.eventstream")
_SESSION: Any = import_module("botocore.session")
_VALIDATE: Any = import_module("botocore.validate")


def authorization(
    url: str, body: bytes, headers: Mapping[str, str], keys: tuple[str, str, str | None]
) -> str:
    """The `Authorization` header that botocore gives a request that has these headers."""
    credentials = _CREDENTIALS.Credentials(*keys)
    names = ("host", "x-amz-date", "x-amz-security-token")
    signed = {name: value for name, value in headers.items() if name.lower() in names}
    request = _REQUEST.AWSRequest("POST", url, data=body, headers=signed)
    time = next(value for name, value in headers.items() if name.lower() == "x-amz-date")
    request.context["timestamp"] = time
    auth = _AUTH.SigV4Auth(credentials, "bedrock", region_of(headers))
    to_sign = auth.string_to_sign(request, auth.canonical_request(request))
    parts = [f"AWS4-HMAC-SHA256 Credential={auth.scope(request)}"]
    parts.append(f"SignedHeaders={auth.signed_headers(auth.headers_to_sign(request))}")
    parts.append(f"Signature={auth.signature(to_sign, request)}")
    return ", ".join(parts)


def region_of(headers: Mapping[str, str]) -> str:
    """The region that a signature is for."""
    header = next(value for name, value in headers.items() if name.lower() == "authorization")
    return header.split("/")[2]


def frames(body: bytes) -> list[tuple[dict[str, Any], bytes]]:
    """The headers and the payload of each frame of an event stream."""
    buffer = _EVENT_STREAM.EventStreamBuffer()
    buffer.add_data(body)
    return [(message.headers, message.payload) for message in buffer]


def refused(body: Mapping[str, Any]) -> str:
    """What AWS's own description of the Converse operation says against a body."""
    service = _SESSION.get_session().get_service_model("bedrock-runtime")
    shape = service.operation_model("Converse").input_shape
    report = _VALIDATE.ParamValidator().validate({**body, "modelId": "m"}, shape)
    return str(report.generate_report())
