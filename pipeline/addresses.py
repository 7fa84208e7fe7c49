"""Addresses to listen on."""

from __future__ import annotations

import ipaddress
import socket

from pipeline.errors import UsageError


def is_loopback(host: str, named: str) -> bool:
    """Whether an address can be reached from this machine alone.

    Args:
        named: what the message calls it, such as `api.host`.

    Raises:
        UsageError: there is no such address.
    """
    try:
        found = socket.getaddrinfo(host, None)
    except OSError as exc:
        raise UsageError(f"{named} {host!r}: no such address ({exc})") from exc
    return all(ipaddress.ip_address(item[4][0]).is_loopback for item in found)
