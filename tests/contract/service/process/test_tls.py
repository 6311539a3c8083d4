"""HTTPS by settings, with certificates made here by openssl."""

import shutil
import ssl
import subprocess

import httpx
import pytest

from relevance.errors import ConfigError
from service.process.tls import tls_options
from service.settings import Settings
from tests.serving import running

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the command openssl")


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)


def signed(folder, name, authority):
    """Make a key and a certificate for 127.0.0.1, signed by an authority."""
    key, request, certificate = (folder / f"{name}.{end}" for end in ("key", "csr", "pem"))
    subject = ("-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", request, *subject)
    by = ("-CA", folder / f"{authority}.pem", "-CAkey", folder / f"{authority}.key", "-CAcreateserial")
    openssl("x509", "-req", "-in", request, "-out", certificate, "-days", 2, "-copy_extensions", "copyall", *by)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with two authorities, and certificates of a server and a client."""
    folder = tmp_path_factory.mktemp("tls")
    for name in ("ca", "other"):
        made = ("-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem", "-subj", f"/CN={name}")
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", 2, *made)
    for name, authority in (("server", "ca"), ("client", "ca"), ("stranger", "other")):
        signed(folder, name, authority)
    openssl("rsa", "-in", folder / "server.key", "-aes128", "-passout", "pass:x", "-out", folder / "locked.key")
    (folder / "text.pem").write_text("no certificate")
    return folder


def trusting(files, client=None):
    context = ssl.create_default_context(cafile=files / "ca.pem")
    if client:
        context.load_cert_chain(files / f"{client}.pem", files / f"{client}.key")
    return context


def served(files):
    return {"tls_certificate": files / "server.pem", "tls_key": files / "server.key"}


def test_scores_come_over_https_only(files, bundle):
    body = {"task": "qc", "query": "a", "candidates": ["b"]}
    with running({"qc": bundle}, **served(files)) as process:
        url = process.wait_ready()
        assert url.startswith("https://127.0.0.1:")
        with httpx.Client(verify=trusting(files), base_url=url) as client:
            assert client.post("/v1/score", json=body).status_code == 200
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(f"{url}/healthz")
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(url.replace("https", "http") + "/healthz")


def test_only_certificates_of_the_authority_are_accepted(files, bundle):
    with running({"qc": bundle}, tls_client_ca=files / "ca.pem", **served(files)) as process:
        url = process.wait_ready()
        assert httpx.get(f"{url}/healthz", verify=trusting(files, "client")).status_code == 200
        for client in (None, "stranger"):
            with pytest.raises(httpx.TransportError):
                httpx.get(f"{url}/healthz", verify=trusting(files, client))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tls_key": None}, "server.pem: expected both tls_certificate and tls_key"),
        ({"tls_certificate": None}, "server.key: expected both"),
        ({"tls_certificate": None, "tls_key": None, "tls_client_ca": "ca.pem"}, "tls_client_ca"),
        ({"tls_certificate": "nothing.pem"}, "nothing.pem: No such file or directory; expected a file in PEM"),
        ({"tls_key": "nothing.key"}, "tls_key"),
        ({"tls_client_ca": "nothing.pem"}, "tls_client_ca"),
        ({"tls_certificate": "."}, "Is a directory"),
        ({"tls_key": "client.key"}, "KEY_VALUES_MISMATCH"),
        ({"tls_certificate": "text.pem"}, "expected a certificate in PEM and its own key"),
        ({"tls_key": "locked.key"}, "the key has a password"),
        ({"tls_client_ca": "text.pem"}, "expected certificates in PEM"),
    ],
    ids=str,
)
def test_wrong_files_are_named(files, change, said):
    names = {"tls_certificate": "server.pem", "tls_key": "server.key"} | change
    settings = Settings.build(**{name: str(files / value) for name, value in names.items() if value})
    with pytest.raises(ConfigError) as caught:
        tls_options(settings)
    assert said in str(caught.value)


def test_a_process_with_wrong_files_does_not_start(files, bundle):
    with running({"qc": bundle}, tls_certificate=files / "server.pem", tls_key=files / "client.key") as process:
        assert process.end() == 2
    assert [line for line in process.lines if line.startswith("error: tls_certificate")]
