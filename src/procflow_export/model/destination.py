"""Where the parts of an export go: the settings of a destination, of whichever kind.

Owns the struct that is written in the configuration file and sent to a worker, and how a place is called.  Must not know
environment variables or connections: credentials by reference are resolved by whoever connects.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec


class DestinationType(StrEnum):
    """Where parts are put."""

    LOCAL = "local"
    S3 = "s3"
    """Amazon S3, or whatever speaks its protocol at ``endpoint``."""
    GCS = "gcs"
    AZURE = "azure"
    STDOUT = "stdout"
    """One file on standard output, published by nobody."""

    @property
    def is_store(self) -> bool:
        """Whether it is an object store."""
        return self in _SCHEMES


_SCHEMES: Final = {DestinationType.S3: "s3", DestinationType.GCS: "gs", DestinationType.AZURE: "az"}


class Verify(StrEnum):
    """How an object store's copy of a part is compared with what was sent, before it is recorded."""

    SIZE = "size"
    """By its size."""
    CONTENT = "content"
    """By the digest that the store has computed of it, or by reading it back where the store tells none."""


class DestinationConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where the parts of one export go.  It holds no secret, only the names of variables that do.

    In a configuration ``path`` and ``prefix`` may hold placeholders, and ``path`` may be relative to the file's directory; in a
    work unit they are final, and name the directory of one export.

    Attributes:
        type: Kind of destination.
        path: Directory of the parts (``local``).
        bucket: Bucket, or container (``s3``, ``gcs``, ``azure``).
        prefix: What the names of all objects begin with, as a directory: a slash follows it (``s3``, ``gcs``, ``azure``).
        region: Region of the bucket; ``AWS_REGION`` by default (``s3``).
        endpoint: URL of a server that speaks the store's protocol, instead of the cloud's own (``s3``, ``gcs``, ``azure``).
        allow_http: Send keys and rows in clear to an ``http://`` endpoint that is not on this machine.
        access_key_env: Variable with the access key id; together with ``secret_key_env`` (``s3``).
        secret_key_env: Variable with the secret access key (``s3``).
        session_token_env: Variable with the session token of temporary keys (``s3``).
        aws_profile: Profile of the AWS configuration files, resolved by boto3: extra ``aws`` (``s3``).
        credentials_file: JSON file of a service account or of application default credentials (``gcs``).
        allow_anonymous: Send no credentials (``gcs``, ``azure``).
        account_name: Storage account; ``AZURE_STORAGE_ACCOUNT_NAME`` by default (``azure``).
        account_key_env: Variable with the account's key (``azure``).
        sas_token_env: Variable with a shared access signature (``azure``).
        verify: How an object store's copy of a part is compared with what was sent.
    """

    type: DestinationType
    path: str | None = None
    bucket: str | None = None
    prefix: str | None = None
    region: str | None = None
    endpoint: str | None = None
    allow_http: bool = False
    access_key_env: str | None = None
    secret_key_env: str | None = None
    session_token_env: str | None = None
    aws_profile: str | None = None
    credentials_file: str | None = None
    allow_anonymous: bool = False
    account_name: str | None = None
    account_key_env: str | None = None
    sas_token_env: str | None = None
    verify: Verify = Verify.SIZE

    @property
    def folder(self) -> str:
        """The directory within the place: the path, or the prefix without slashes at its ends."""
        return (self.prefix or "").strip("/") if self.type.is_store else self.path or ""

    def with_folder(self, folder: str) -> DestinationConfig:
        """Return this destination with another ``folder``."""
        if self.type.is_store:
            return msgspec.structs.replace(self, prefix=folder)
        return msgspec.structs.replace(self, path=folder or None)

    @property
    def location(self) -> str:
        """The place as one text, for people and for comparing places: a path, ``s3://bucket/prefix``, or ``stdout``."""
        if self.type in _SCHEMES:
            return f"{_SCHEMES[self.type]}://{self.bucket}/{self.folder}".rstrip("/")
        return self.folder or self.type.value
