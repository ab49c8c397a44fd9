"""The rules of one destination: which keys its type has, and whether they lead to one place in one way.

Owns what can be told without a connection, placeholders included, and that no two exports publish in one place.  Must not
know how a destination is opened.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from procflow_export.config.document import KeyPath
from procflow_export.config.places import EXPORT, manifest_place
from procflow_export.config.shape import Findings, nearest_name
from procflow_export.config.source_rules import Surroundings
from procflow_export.config.structs import Config, ExportConfig, Mode
from procflow_export.model.codes import Code
from procflow_export.model.destination import DestinationConfig, DestinationType, Verify
from procflow_export.model.errors import Severity
from procflow_export.model.urls import is_loopback

PLACEHOLDERS: Final = ("date", "hour", "export", "table", "run_id")
_LATER_PLACEHOLDERS: Final = frozenset({"partition"})
_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")
_BUCKET: Final = re.compile(r"\$?[A-Za-z0-9][A-Za-z0-9._-]{1,221}")
_STORE_KEYS: Final = ("type", "bucket", "prefix", "endpoint", "allow_http", "verify")
_KEYS: Final[Mapping[DestinationType, tuple[str, ...]]] = {
    DestinationType.LOCAL: ("type", "path"),
    DestinationType.S3: (
        *_STORE_KEYS,
        "region",
        "access_key_env",
        "secret_key_env",
        "session_token_env",
        "aws_profile",
    ),
    DestinationType.GCS: (*_STORE_KEYS, "credentials_file", "allow_anonymous"),
    DestinationType.AZURE: (*_STORE_KEYS, "account_name", "account_key_env", "sas_token_env", "allow_anonymous"),
    DestinationType.STDOUT: ("type",),
}
_EXCLUSIVE: Final[Mapping[DestinationType, tuple[str, ...]]] = {
    DestinationType.S3: ("access_key_env", "aws_profile"),
    DestinationType.GCS: ("credentials_file", "allow_anonymous"),
    DestinationType.AZURE: ("account_key_env", "sas_token_env", "allow_anonymous"),
}
"""Ways to say who one is, by type: one at the most; without any, the cloud's own conventions count."""
_VARIABLES: Final = ("access_key_env", "secret_key_env", "session_token_env", "account_key_env", "sas_token_env")
ACCOUNT_VARIABLE: Final = "AZURE_STORAGE_ACCOUNT_NAME"


def check_destination(destination: DestinationConfig, path: KeyPath, findings: Findings, around: Surroundings) -> None:
    """Check that the destination is said once and whole, in the keys of its type."""
    given = _given(destination)
    allowed = _KEYS[destination.type]
    for key in given:
        if key not in allowed:
            findings.add((*path, key), f"{key!r} means nothing to {destination.type.value}", allowed=", ".join(allowed))
    if destination.type is DestinationType.LOCAL:
        _check_path(destination, (*path, "path"), findings)
    elif destination.type.is_store:
        _check_bucket(destination, (*path, "bucket"), findings)
        _check_prefix(destination, (*path, "prefix"), findings)
        _check_endpoint(destination, path, findings)
        _check_credentials(destination, given, path, findings, around)


def check_places(exports: Mapping[int, ExportConfig], config: Config, findings: Findings) -> None:
    """Check that no two exports publish in one directory: each would replace the other's manifest."""
    taken: dict[str, str] = {}
    for index, export in exports.items():
        destination = export.destination or config.destination
        if destination is None or not _has_place(destination):
            continue
        folder, _ = manifest_place(destination.folder, is_cumulative=export.is_cumulative)
        # Two names that differ in case alone are one directory on some file systems.
        there = destination.with_folder(posixpath.normpath(folder.replace(EXPORT, export.name)))
        place = f"{there.account_name or ''}{there.endpoint or ''}{there.location}".casefold()
        if place in taken and taken[place].casefold() != export.name.casefold():
            findings.add(
                ("exports", index, "destination"),
                f"the export {taken[place]!r} goes to the same directory",
                found=there.location.casefold(),
            )
        taken.setdefault(place, export.name)


def check_place(export: ExportConfig, path: KeyPath, config: Config, findings: Findings) -> None:
    """Check that the destination suits the export: where its manifest stays, and what a stream cannot be."""
    destination = export.destination or config.destination
    if destination is None:
        return
    if export.verify is Verify.CONTENT and not destination.type.is_store:
        findings.add(
            (*path, "verify"),
            f"'verify' has no effect on {destination.type.value}: it is for object stores",
            severity=Severity.WARNING,
        )
    if destination.type is DestinationType.STDOUT:
        _check_stream(export, path, findings)
    if export.is_cumulative and _has_place(destination):
        key = "prefix" if destination.type.is_store else "path"
        where = (*path, "destination", key) if export.destination is not None else (*path, "destination")
        _check_stable_place(destination, key, where, findings)


def _check_stable_place(destination: DestinationConfig, key: str, where: KeyPath, findings: Findings) -> None:
    """Check that the manifest of an export that adds to its set stays in one place of its own."""
    stable, below = manifest_place(destination.folder, is_cumulative=True)
    if EXPORT not in stable:
        findings.add(
            where,
            f"the manifest of an export that adds to its set stays in one place, and this {key} has none of its own",
            found=destination.folder,
            allowed="{export} before the first of {date}, {hour} and {run_id}",
        )
    if any(segment.startswith(".") for segment in below.split("/")):
        findings.add(where, "parts cannot lie in a hidden directory", found=destination.folder)


def _check_stream(export: ExportConfig, path: KeyPath, findings: Findings) -> None:
    """Check that the export is one file, since a stream holds one and keeps nothing to go on from."""
    if export.mode is not Mode.FULL:
        findings.add(
            (*path, "mode"), "standard output takes one file of all rows", found=export.mode.value, allowed="full"
        )
    if export.max_file_size is not None:
        findings.add((*path, "max_file_size"), "standard output takes one file, however large")


def _has_place(destination: DestinationConfig) -> bool:
    """Whether the destination names a place, as far as the rules of its keys go."""
    return bool(destination.bucket) if destination.type.is_store else bool(destination.path)


def _given(destination: DestinationConfig) -> tuple[str, ...]:
    return tuple(
        field.name
        for field in msgspec.structs.fields(destination)
        if field.required or getattr(destination, field.name) != field.default
    )


def _check_path(destination: DestinationConfig, path: KeyPath, findings: Findings) -> None:
    if not destination.path:
        findings.add(path, "the directory is missing")
        return
    if ".." in Path(destination.path).parts:
        findings.add(path, "the path must not hold '..'", found=destination.path)
    if "\0" in destination.path:
        findings.add(path, "the path must not hold a NUL character")
    _check_placeholders(destination.path, path, findings)


def _check_bucket(destination: DestinationConfig, path: KeyPath, findings: Findings) -> None:
    bucket = destination.bucket
    if not bucket:
        findings.add(path, "the name of the bucket is missing")
    elif "://" in bucket or "/" in bucket:
        findings.add(
            path,
            "the bucket is a name alone, without scheme and path",
            found=bucket,
            allowed="a path goes into `prefix`",
        )
    elif not _BUCKET.fullmatch(bucket):
        findings.add(
            path, "this cannot be the name of a bucket", found=bucket, allowed="letters, digits, '.', '-', '_'"
        )


def _check_prefix(destination: DestinationConfig, path: KeyPath, findings: Findings) -> None:
    prefix = destination.prefix
    if prefix is None:
        return  # the name of the export is appended, so that no listing spans the bucket
    _check_placeholders(prefix, path, findings)
    # A slash at the end is implied: `orders` is a directory, and never matches `orders_archive`.
    segments = prefix.removesuffix("/").split("/")
    if prefix.startswith("/") or not all(segments):
        findings.add(
            path, "the prefix has an empty segment", found=prefix, allowed="names with one '/' between each two of them"
        )
    elif any(segment.startswith(".") for segment in segments) or "\\" in prefix or not prefix.isprintable():
        findings.add(
            path,
            "the prefix cannot be part of an object's name everywhere",
            found=prefix,
            allowed="no backslash, no control character, no segment that begins with a dot",
        )


def _check_placeholders(text: str, path: KeyPath, findings: Findings) -> None:
    for name in _PLACEHOLDER.findall(text):
        if name in _LATER_PLACEHOLDERS:
            findings.add(
                path,
                f"{{{name}}} is not supported yet: parts are told apart by the number of their chunk",
                code=Code.CONFIG_NOT_SUPPORTED,
            )
        elif name not in PLACEHOLDERS:
            findings.add(
                path,
                f"{{{name}}} is not a placeholder",
                allowed=", ".join(f"{{{known}}}" for known in PLACEHOLDERS),
                nearest=nearest_name(name, PLACEHOLDERS),
            )


def _check_endpoint(destination: DestinationConfig, path: KeyPath, findings: Findings) -> None:
    if destination.endpoint is None:
        return
    where = (*path, "endpoint")
    try:
        url = urlsplit(destination.endpoint)
        host = url.hostname
        _ = url.port
    except ValueError:
        findings.add(where, "the endpoint is not a URL", allowed="https://host, https://host:port")
        return
    if url.username is not None or url.password is not None:
        findings.add(where, "the endpoint holds a user or password: credentials have keys of their own")
    elif url.scheme not in ("http", "https") or not host:
        findings.add(where, "the endpoint is not a URL", found=destination.endpoint, allowed="https://host:port")
    elif url.query or url.fragment:
        findings.add(where, "the endpoint holds a query or a fragment", allowed="https://host:port")
    elif url.scheme == "http" and not is_loopback(host) and not destination.allow_http:
        findings.add(
            where,
            "over http, keys and rows travel in clear to another machine",
            found=destination.endpoint,
            allowed="https://, an address of this machine, or `allow_http: true`",
        )


def _check_credentials(
    destination: DestinationConfig,
    given: tuple[str, ...],
    path: KeyPath,
    findings: Findings,
    around: Surroundings,
) -> None:
    for key in _VARIABLES:
        name = getattr(destination, key)
        if name is not None and key in _KEYS[destination.type] and not around.environ.get(name):
            findings.add((*path, key), f"the environment variable {name!r} is not set, or empty")
    ways = [key for key in _EXCLUSIVE[destination.type] if key in given]
    for key in ways[1:]:
        findings.add((*path, key), f"{key!r} and {ways[0]!r} exclude each other")
    match destination.type:
        case DestinationType.S3:
            _check_key_pair(destination, path, findings)
        case DestinationType.GCS:
            file = destination.credentials_file
            if file is not None and not (around.base_dir / file).is_file():
                findings.add((*path, "credentials_file"), "the file does not exist", found=file)
        case DestinationType.AZURE:
            if not destination.account_name and not around.environ.get(ACCOUNT_VARIABLE):
                findings.add(
                    (*path, "account_name"),
                    "'account_name' is missing",
                    allowed=f"account_name, or {ACCOUNT_VARIABLE} in the environment",
                )


def _check_key_pair(destination: DestinationConfig, path: KeyPath, findings: Findings) -> None:
    pair = {"access_key_env": destination.access_key_env, "secret_key_env": destination.secret_key_env}
    missing = [key for key, name in pair.items() if name is None]
    if len(missing) == 1:
        findings.add((*path, missing[0]), f"the key is missing: {' and '.join(map(repr, pair))} belong together")
    if destination.session_token_env is not None and len(missing) == len(pair):
        findings.add(
            (*path, "session_token_env"), "a session token belongs to keys", allowed="access_key_env and secret_key_env"
        )
    if destination.aws_profile is not None and destination.secret_key_env is not None and len(missing) == 1:
        findings.add((*path, "aws_profile"), "'aws_profile' and 'secret_key_env' exclude each other")
