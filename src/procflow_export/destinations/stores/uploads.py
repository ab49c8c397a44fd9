"""Uploads to S3 that nobody will complete: what a process that was killed leaves, invisible and paid for.

Owns which of them are abandoned.  obstore cannot list uploads, boto3 can: where it is installed (extra ``aws``), they are looked for
when there is a dead run to clean up after, and only then, since importing it takes longer than a small export.  Elsewhere, and on
other stores, a rule of the bucket has to remove them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from procflow_export.destinations.stores.credentials import named, profile_of
from procflow_export.model.destination import DestinationConfig

UNKNOWN_AFTER: Final = timedelta(days=7)
"""An upload of a run that nobody knows may be at work elsewhere: no part takes as long as this."""


class S3Uploads:
    """The unfinished uploads below the folder of a destination.

    Args:
        config: The destination.
        environ: Where credentials are looked up.
    """

    def __init__(self, config: DestinationConfig, environ: Mapping[str, str]) -> None:
        self._config = config
        self._environ = environ

    def abort(self, stems: Collection[str], *, export: str) -> tuple[str, ...]:
        """Abort what dead runs have begun, and return its keys; without boto3, or permission, nothing happens.

        Args:
            stems: What the names of parts of dead runs begin with.
            export: The export whose folder it is.
        """
        try:
            import boto3.session
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError:
            return ()
        folder = f"{self._config.folder}/"
        aborted = []
        try:
            client = self._client(boto3.session.Session)
            pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=self._config.bucket, Prefix=folder)
            for upload in (upload for page in pages for upload in page.get("Uploads", ())):
                key = upload["Key"].removeprefix(folder)
                age = datetime.now(UTC) - upload["Initiated"]
                if is_abandoned(key, age, stems=stems, export=export):
                    client.abort_multipart_upload(
                        Bucket=self._config.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                    )
                    aborted.append(key)
        except (BotoCoreError, ClientError):
            # Who may write may not be allowed to list: that something is left is untidy, not wrong.
            return tuple(aborted)
        return tuple(aborted)

    def _client(self, session: Any) -> Any:  # noqa: ANN401 (boto3 has no types)
        from botocore.config import Config

        config, environ = self._config, self._environ
        keys = {
            "aws_access_key_id": environ.get("AWS_ACCESS_KEY_ID"),
            "aws_secret_access_key": environ.get("AWS_SECRET_ACCESS_KEY"),
            "aws_session_token": environ.get("AWS_SESSION_TOKEN"),
        }
        if (profile := profile_of(config, environ)) is not None:
            keys = {"profile_name": profile}
        elif config.access_key_env is not None and config.secret_key_env is not None:
            token = config.session_token_env
            keys = {
                "aws_access_key_id": named(config.access_key_env, environ),
                "aws_secret_access_key": named(config.secret_key_env, environ),
                "aws_session_token": None if token is None else named(token, environ),
            }
        endpoint = config.endpoint or environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")
        region = config.region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
        return session(region_name=region, **keys).client(
            "s3",
            endpoint_url=endpoint,
            config=Config(
                connect_timeout=5,
                read_timeout=30,
                retries={"total_max_attempts": 2},
                s3={"addressing_style": "auto" if endpoint is None else "path"},
            ),
        )


def is_abandoned(key: str, age: timedelta, *, stems: Collection[str], export: str) -> bool:
    """Return whether nobody will complete an upload.

    Args:
        key: Where to, relative to the folder of the export.
        age: How long ago it was begun.
        stems: What the names of parts of dead runs begin with.
        export: The export.
    """
    if key.startswith(tuple(stems)):
        return True
    return age > UNKNOWN_AFTER and key.rpartition("/")[2].startswith(f"{export}-")
