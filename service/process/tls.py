"""HTTPS. The files are checked first at start, so that a wrong one fails at once and is named."""

import ssl
from pathlib import Path
from typing import Any

from relevance.errors import ConfigError
from service.settings import Settings


def tls_options(settings: Settings) -> dict[str, Any]:
    """Return uvicorn's options for HTTPS; empty without a certificate. Raises ConfigError."""
    certificate, key, authority = settings.tls_certificate, settings.tls_key, settings.tls_client_ca
    if certificate is None or key is None:
        for name in ("tls_certificate", "tls_key", "tls_client_ca"):
            if (value := getattr(settings, name)) is not None:
                raise ConfigError(f"{name} {value}: expected both tls_certificate and tls_key beside it")
        return {}
    _check(certificate, key, authority)
    options: dict[str, Any] = {"ssl_certfile": str(certificate), "ssl_keyfile": str(key)}
    if authority is not None:
        options |= {"ssl_ca_certs": str(authority), "ssl_cert_reqs": ssl.CERT_REQUIRED}
    return options


def _check(certificate: Path, key: Path, authority: Path | None) -> None:
    for name, path in (("tls_certificate", certificate), ("tls_key", key), ("tls_client_ca", authority)):
        if path is not None:
            _check_readable(name, path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(
            f"tls_certificate {certificate}, tls_key {key}: {_reason(error)}; expected a certificate in PEM and its "
            "own key, without a password"
        ) from None
    if authority is not None:
        try:
            context.load_verify_locations(authority)
        except ssl.SSLError as error:
            raise ConfigError(f"tls_client_ca {authority}: {_reason(error)}; expected certificates in PEM") from None


def _check_readable(name: str, path: Path) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise ConfigError(f"{name} {path}: {error.strerror}; expected a file in PEM") from None


def _no_password() -> str:
    raise ValueError("the key has a password")


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error)
