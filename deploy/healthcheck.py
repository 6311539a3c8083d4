"""Ends with 0 where the service of this container says that it is ready. For HEALTHCHECK: the standard library only."""

import os
import ssl
import sys
import urllib.request
from collections.abc import Mapping

SECONDS = 2
PORT = "8080"  # the default of the setting


def url(environment: Mapping[str, str]) -> str:
    """Return where this container's service tells whether it is ready, by the settings in the environment."""
    scheme = "https" if environment.get("RELEVANCE_TLS_CERTIFICATE") else "http"
    return f"{scheme}://127.0.0.1:{environment.get('RELEVANCE_PORT', PORT)}/readyz"


def main() -> None:
    """Ask once; the certificate is not checked, since it is made out to another name than the loopback address."""
    unchecked = ssl.create_default_context()
    unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
    try:
        urllib.request.urlopen(url(os.environ), timeout=SECONDS, context=unchecked).close()
    except OSError as error:  # URLError and HTTPError are of this kind: not up, or up and not ready
        sys.exit(f"not ready: {error}")


if __name__ == "__main__":
    main()
