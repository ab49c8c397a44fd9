"""How a connection to a server is protected.

Owns the TLS context of each mode.  Must not know a driver.
"""

from __future__ import annotations

import ipaddress
import ssl

from procflow_export.model.settings import TlsMode


def is_loopback(host: str) -> bool:
    """Return whether a host can only be this machine: a loopback address, ``localhost`` or the path of a socket."""
    if host.startswith("/") or host.rstrip(".").lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def default_mode(host: str) -> TlsMode:
    """Return the mode for a host where nothing was chosen: full verification, except on this machine."""
    return TlsMode.DISABLE if is_loopback(host) else TlsMode.VERIFY_FULL


def tls_context(mode: TlsMode, ca_file: str | None) -> ssl.SSLContext | None:
    """Return the client's TLS context for a mode, or ``None`` for a plain connection.

    Raises:
        OSError: If ``ca_file`` cannot be read.
        ssl.SSLError: If it holds no certificate.
    """
    if mode is TlsMode.DISABLE:
        return None
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if mode is not TlsMode.VERIFY_FULL:
        context.check_hostname = False
    if mode is TlsMode.REQUIRE:
        context.verify_mode = ssl.CERT_NONE
    return context


def tls_reason(exc: ssl.SSLError) -> str:
    """Return why TLS failed, without paths."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return exc.verify_message
    return exc.reason or type(exc).__name__
