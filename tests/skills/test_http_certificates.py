"""Which certificates of skill servers are trusted."""

import datetime as dt
import ipaddress
import ssl
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from perstack.definition.model import McpSseSkill
from perstack.errors import SkillError
from tests.skills.harness import Recorder, call, expert, opened
from tests.skills.scripted_http import ScriptedHttp, scripted_http

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for this machine that nobody trusts, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(dt.datetime(2090, 1, 1, tzinfo=dt.UTC))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "certificate.pem"
    file.write_bytes(
        signed.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return file


def secure(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def remote(server: ScriptedHttp) -> McpSseSkill:
    return McpSseSkill(type="mcpSseSkill", endpoint=f"{server.origin}/mcp", allow_private=True)


async def test_the_certificates_of_ssl_cert_file_are_trusted(
    tmp_path: Path, certificate: Path
) -> None:
    def add_tls(server: ThreadingHTTPServer) -> None:
        server.socket = secure(certificate).wrap_socket(server.socket, server_side=True)

    with scripted_http(tls=add_tls) as server:
        tester = expert(plain=remote(server))
        async with opened(tmp_path, {"SSL_CERT_FILE": str(certificate)}) as skills:
            await skills.tools(tester, Recorder())
            result = await skills.call(tester, call("look"), "key")
        async with opened(tmp_path, {"PATH": "/bin"}) as skills:
            with pytest.raises(SkillError, match="CERTIFICATE_VERIFY_FAILED"):
                await skills.tools(tester, Recorder())

    assert result.text == "well"


async def test_a_file_of_certificates_that_is_not_there_is_named(tmp_path: Path) -> None:
    tester = expert(plain=remote(ScriptedHttp(origin="https://127.0.0.1:9")))

    async with opened(tmp_path, {"SSL_CERT_FILE": "/absent.pem"}) as skills:
        with pytest.raises(SkillError, match=r"'/absent\.pem' cannot be read: No such file"):
            await skills.tools(tester, Recorder())
