"""How a connection to a server is protected, and what to do when it cannot be.

Owns the TLS context of each mode and the words for what went wrong.  Must not know a driver.
"""

from __future__ import annotations

import ssl
from typing import Final

from procflow_export.model.codes import Code
from procflow_export.model.errors import SourceError
from procflow_export.model.settings import TlsMode
from procflow_export.model.urls import is_loopback

# https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/
_BY_CERTIFICATE: Final = {
    9: "check the clocks of this machine and of whoever made the certificate",
    10: "renew the server's certificate",
    18: "name the file of the server's certificate, or of its authority, in `tls.ca_file`",
    19: "name the file of the authority that signed the server's certificate in `tls.ca_file`",
    20: "name the file of the authority that signed the server's certificate in `tls.ca_file`",
    21: "name the file of the authority that signed the server's certificate in `tls.ca_file`",
    23: "replace the server's certificate",
    62: "connect by a name that the server's certificate has, or let `tls.mode` be verify-ca, which takes any name",
    64: "connect by a name that the server's certificate has, or let `tls.mode` be verify-ca, which takes any name",
}
_NEEDS_NEWER: Final = "let the server offer TLS 1.2 or later: older versions are not safe and not accepted"
NEEDS_CERTIFICATE: Final = (
    "the server may ask for a certificate of ours: name its files in `tls.cert_file` and `tls.key_file`"
)
"""What to do when a server hangs up on us without a certificate; with TLS 1.3 that comes after the handshake."""
_BY_REASON: Final = {
    "TLSV1_ALERT_PROTOCOL_VERSION": _NEEDS_NEWER,
    "UNSUPPORTED_PROTOCOL": _NEEDS_NEWER,
    "NO_PROTOCOLS_AVAILABLE": _NEEDS_NEWER,
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": NEEDS_CERTIFICATE,
    "SSLV3_ALERT_HANDSHAKE_FAILURE": NEEDS_CERTIFICATE,
    "WRONG_VERSION_NUMBER": "whoever answers speaks no TLS: check host and port",
}

WANTS_TLS: Final = "if the login is right, the server may take encrypted connections only: set `tls.mode` (verify-full also checks its certificate)"
"""What to do when a server refuses a plain connection."""


def default_mode(host: str) -> TlsMode:
    """Return the mode for a host where nothing was chosen: full verification, except on this machine."""
    return TlsMode.DISABLE if is_loopback(host) else TlsMode.VERIFY_FULL


def tls_context(
    mode: TlsMode, *, ca_file: str | None = None, cert_file: str | None = None, key_file: str | None = None
) -> ssl.SSLContext | None:
    """Return the client's TLS context for a mode, or ``None`` for a plain connection.  Reads files.

    Args:
        mode: What is checked.
        ca_file: PEM file of the authorities to trust instead of the system's.
        cert_file: PEM file of the certificate that we show when the server asks for one.
        key_file: PEM file of its key; by default it stands with the certificate.

    Raises:
        SourceError: If a file cannot be read or holds something else.
    """
    if mode is TlsMode.DISABLE:
        return None
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as exc:  # ssl.SSLError is one
        raise _unreadable(f"the authorities' file {ca_file} cannot be read", exc) from exc
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if mode is not TlsMode.VERIFY_FULL:
        context.check_hostname = False
    if mode is TlsMode.REQUIRE:
        context.verify_mode = ssl.CERT_NONE
    if cert_file is not None:
        try:
            # No passphrase: otherwise OpenSSL would ask for one on the terminal.
            context.load_cert_chain(cert_file, key_file, password="")
        except OSError as exc:
            what = f"the certificate {cert_file} and its key cannot be used (a key with a passphrase cannot)"
            raise _unreadable(what, exc) from exc
    return context


def tls_refused(exc: ssl.SSLError) -> SourceError:
    """Return the error for a handshake that failed, with what to do as its note."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        error = SourceError(Code.SOURCE_TLS_FAILED, f"the server's TLS was refused: {exc.verify_message}")
        advice = _BY_CERTIFICATE.get(exc.verify_code)
    else:
        reason = exc.reason or type(exc).__name__
        error = SourceError(Code.SOURCE_TLS_FAILED, f"TLS with the server failed: {reason}")
        advice = _BY_REASON.get(reason)
    if advice is not None:
        error.add_note(advice)
    return error


def tls_missing() -> SourceError:
    """Return the error for a server that offers no TLS although it was asked for."""
    error = SourceError(Code.SOURCE_TLS_FAILED, "the server offers no TLS")
    error.add_note(
        "switch TLS on at the server; where the network itself is safe, `tls: {mode: disable}` sends password and rows in plain text"
    )
    return error


def _unreadable(what: str, exc: OSError) -> SourceError:
    reason = exc.strerror if not isinstance(exc, ssl.SSLError) and exc.strerror else type(exc).__name__
    return SourceError(Code.SOURCE_TLS_FAILED, f"{what}: {reason}")
