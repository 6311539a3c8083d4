"""Runs a script of this folder and refuses its connections and name look-ups that leave the machine."""

import runpy
import sys

OWN = ("127.0.0.1", "::1", "localhost")


def _refuse(event, arguments):
    if event == "socket.connect":
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else "localhost"  # else a Unix socket
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host not in (*OWN, None):
        raise ConnectionRefusedError(f"{event} {host}: only this machine may be reached")


sys.addaudithook(_refuse)

del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
