"""Whether a host is this machine itself, whatever the network: loopback addresses and `localhost`."""

import ipaddress


def is_of_this_machine(host: str) -> bool:
    """Return whether only this machine reaches a host of this name or address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
