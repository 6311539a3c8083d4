"""Exits with 0 if the service of this container is ready, for HEALTHCHECK. Standard library only."""

import os
import ssl
import sys
import urllib.request
from collections.abc import Mapping

SECONDS = 2
PORT = "8080"  # the default of the setting


def url(environment: Mapping[str, str]) -> str:
    """Return the URL of /readyz of this container's service, from the settings in the environment."""
    scheme = "https" if environment.get("RELEVANCE_TLS_CERTIFICATE") else "http"
    return f"{scheme}://127.0.0.1:{environment.get('RELEVANCE_PORT', PORT)}/readyz"


def main() -> None:
    """Send one request. The certificate is not verified: it names no loopback address."""
    unchecked = ssl.create_default_context()
    unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
    try:
        urllib.request.urlopen(url(os.environ), timeout=SECONDS, context=unchecked).close()
    except OSError as error:  # includes URLError (not up) and HTTPError (up, not ready)
        sys.exit(f"not ready: {error}")


if __name__ == "__main__":
    main()
