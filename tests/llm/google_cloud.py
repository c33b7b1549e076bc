"""Credentials of Google Cloud, and the server on loopback that gives access tokens for them."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

TOKEN = "invented-token-of-google-cloud"


@cache
def private_key() -> RSAPrivateKey:
    return generate_private_key(public_exponent=65537, key_size=2048)


@dataclass
class GoogleCloud:
    """A token server.

    Attributes:
        file: The key file of a service account that gets its tokens here.
        seconds: How long they are valid.
        status, answer: What it says instead, if anything.
        requests: Path, headers and form of each request for a token.
    """

    url: str
    file: Path
    seconds: int = 3600
    status: int = 200
    answer: dict[str, Any] | None = None
    requests: list[tuple[str, dict[str, str], dict[str, str]]] = field(
        default_factory=list[tuple[str, dict[str, str], dict[str, str]]]
    )

    @property
    def environment(self) -> dict[str, str]:
        return {"GOOGLE_APPLICATION_CREDENTIALS": str(self.file)}

    def document(self) -> dict[str, Any]:
        issued = {"access_token": TOKEN, "expires_in": self.seconds, "token_type": "Bearer"}
        return self.answer or issued


def service_account(token_uri: str) -> dict[str, str]:
    """What stands in the key file of a service account."""
    encoded = private_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return {
        "type": "service_account",
        "project_id": "our-own",
        "private_key_id": "k1",
        "private_key": encoded.decode(),
        "client_email": "expert@our-own.iam.gserviceaccount.com",
        "token_uri": token_uri,
    }


@contextmanager
def google_cloud() -> Generator[GoogleCloud]:
    """A token server, and a key file for it."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base
            return

        def do_POST(self) -> None:
            form = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
            headers = {name.lower(): value for name, value in self.headers.items()}
            state.requests.append((self.path, headers, dict(parse_qsl(form))))
            body = json.dumps(state.document()).encode()
            self.send_response(state.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.do_POST()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    with TemporaryDirectory() as folder:
        state = GoogleCloud(f"http://127.0.0.1:{server.server_port}", Path(folder, "key.json"))
        document = service_account(f"{state.url}/token")
        state.file.write_text(json.dumps(document), encoding="utf-8")
        try:
            yield state
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
