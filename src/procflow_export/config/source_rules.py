"""The rules of one source: where it is, said once, and whether what it refers to is there.

Owns what can be told without a connection.  Must not know a driver.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from procflow_export.config.document import KeyPath
from procflow_export.config.shape import Findings
from procflow_export.model.errors import Severity, SourceError
from procflow_export.model.settings import SourceConfig, SourceType, TlsConfig, TlsMode, Tuning
from procflow_export.model.urls import parse_url

_SCHEMES: Final = {
    "postgres": SourceType.POSTGRES,
    "postgresql": SourceType.POSTGRES,
    "mysql": SourceType.MYSQL,
    "mariadb": SourceType.MYSQL,
    "sqlite": SourceType.SQLITE,
}
_FIELDS: Final = ("host", "port", "user", "password", "password_env", "database")
_NEEDED: Final[Mapping[SourceType, Mapping[str, tuple[str, ...]]]] = {
    SourceType.POSTGRES: {"host": ("PGHOST",), "user": ("PGUSER",), "database": ("PGDATABASE",)},
    SourceType.MYSQL: {
        "host": ("MYSQL_HOST", "MYSQL_UNIX_PORT"),
        "user": ("MYSQL_USER",),
        "database": ("MYSQL_DATABASE",),
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the rules may look at beside the configuration.

    Attributes:
        base_dir: Directory of the configuration file, absolute.
        environ: The environment.
    """

    base_dir: Path
    environ: Mapping[str, str]


def check_source(source: SourceConfig, path: KeyPath, findings: Findings, around: Surroundings) -> None:
    """Check that there is exactly one way to reach the source, and that nothing it refers to is missing."""
    urls = [key for key in ("url", "url_env", "url_file") if getattr(source, key) is not None]
    fields = [key for key in _FIELDS if getattr(source, key) is not None]
    if len(urls) > 1:
        findings.add((*path, urls[1]), f"only one of {', '.join(urls)} may be given")
    if source.type is SourceType.SQLITE:
        _check_sqlite(source, path, urls, fields, findings)
    else:
        if source.path is not None:
            findings.add((*path, "path"), "'path' is for sqlite", allowed="url, url_env, url_file, or host and so on")
        if urls and fields:
            findings.add((*path, fields[0]), f"{fields[0]!r} and {urls[0]!r} exclude each other")
        if not urls:
            _check_fields(source, path, fields, findings, around.environ)
    if source.password is not None and source.password_env is not None:
        findings.add((*path, "password_env"), "'password' and 'password_env' exclude each other")
    for key in ("url_env", "password_env"):
        name = getattr(source, key)
        if name is not None and not around.environ.get(name):
            findings.add((*path, key), f"the environment variable {name!r} is not set, or empty")
    _check_file(source.url_file, (*path, "url_file"), findings, around)
    if source.tls is not None:
        _check_tls(source.tls, (*path, "tls"), findings, around)
    if urls:
        _check_url(source, (*path, urls[0]), findings, around)
    check_tuning(source.tuning, (*path, "tuning"), findings)


def _check_tls(tls: TlsConfig, path: KeyPath, findings: Findings, around: Surroundings) -> None:
    for key in ("ca_file", "cert_file", "key_file"):
        _check_file(getattr(tls, key), (*path, key), findings, around)
    if tls.key_file is not None and tls.cert_file is None:
        findings.add((*path, "cert_file"), "the key is missing: 'key_file' belongs to a certificate")
    if tls.ca_file is not None and tls.mode in (TlsMode.DISABLE, TlsMode.REQUIRE):
        findings.add(
            (*path, "ca_file"),
            f"'ca_file' has no effect in mode {tls.mode.value}: nothing is verified",
            allowed="mode: verify-ca, mode: verify-full",
            severity=Severity.WARNING,
        )


def _check_file(name: str | None, path: KeyPath, findings: Findings, around: Surroundings) -> None:
    if name is not None and not (around.base_dir / name).is_file():
        findings.add(path, "the file does not exist", found=name)


def _check_sqlite(source: SourceConfig, path: KeyPath, urls: list[str], fields: list[str], findings: Findings) -> None:
    for key in fields:
        findings.add((*path, key), f"{key!r} means nothing to sqlite", allowed="path, url, url_env, url_file")
    if source.tls is not None:
        findings.add((*path, "tls"), "'tls' means nothing to sqlite")
    if source.path is not None and urls:
        findings.add((*path, "path"), f"'path' and {urls[0]!r} exclude each other")
    if source.path is None and not urls:
        findings.add((*path, "path"), "the file of the database is missing", allowed="path, url, url_env, url_file")


def _check_fields(
    source: SourceConfig, path: KeyPath, fields: list[str], findings: Findings, environ: Mapping[str, str]
) -> None:
    if not fields and environ.get("DATABASE_URL"):
        return
    if source.type is SourceType.POSTGRES and environ.get("PGSERVICE"):
        return  # what the service says is known when it is looked up
    for key, variables in _NEEDED[source.type].items():
        if getattr(source, key) is None and not any(environ.get(name) for name in variables):
            findings.add(
                (*path, key),
                f"{key!r} is missing",
                allowed=f"url, url_env, url_file, or {key}; or {' or '.join(variables)} in the environment",
            )


def _check_url(source: SourceConfig, path: KeyPath, findings: Findings, around: Surroundings) -> None:
    url = source.url if source.url is not None else around.environ.get(source.url_env or "")
    if url is None and source.url_file is not None:
        url = _first_line(around.base_dir / source.url_file)
    if not url:
        return
    scheme = url.split(":", 1)[0].split("+", 1)[0].lower() if ":" in url else ""
    if _SCHEMES.get(scheme) is not source.type:
        allowed = ", ".join(f"{name}://" for name, kind in _SCHEMES.items() if kind is source.type)
        findings.add(path, f"the URL is not one of type {source.type.value}", allowed=allowed)
    elif source.type is not SourceType.SQLITE:
        try:
            parse_url(url, schemes=(scheme,))
        except SourceError as exc:
            findings.add(path, exc.message)


def _first_line(file: Path) -> str | None:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return None
    return lines[0].strip() if lines else None


def check_tuning(tuning: Tuning, path: KeyPath, findings: Findings) -> None:
    """Check that limits do not contradict each other."""
    if tuning.batch_size is not None and tuning.batch_size_memory_mb is not None:
        findings.add((*path, "batch_size_memory_mb"), "'batch_size' and 'batch_size_memory_mb' exclude each other")
    if tuning.on_batch_memory_exceeded is not None and tuning.max_batch_memory_mb is None:
        findings.add(
            (*path, "on_batch_memory_exceeded"),
            "'on_batch_memory_exceeded' has no effect without 'max_batch_memory_mb'",
            severity=Severity.WARNING,
        )
