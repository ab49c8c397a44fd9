"""From the configuration of an object store to an open obstore store.

Owns credentials, time limits and retries.  What the configuration names wins; else the environment counts, by the
conventions of each cloud, as obstore knows them; else the identity that the machine has (instance, pod, function).

Keys that the configuration names are given to obstore as a *provider*, not as settings: whatever the environment holds
besides, a session token of other keys for example, is then never mixed with them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlsplit

from obstore.store import AzureStore, GCSStore, S3Store

from procflow_export.destinations.port import Owner
from procflow_export.destinations.stores.credentials import conventions, named, profile_of
from procflow_export.destinations.stores.failures import explained
from procflow_export.destinations.stores.store import StoreDestination
from procflow_export.destinations.stores.uploads import S3Uploads
from procflow_export.model.codes import Code
from procflow_export.model.destination import DestinationConfig, DestinationType
from procflow_export.model.errors import DestinationError
from procflow_export.model.urls import is_loopback

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

CONNECT_S: Final = 5
ANSWER_S: Final = 30
"""How long a store may take to answer one request, its upload included: 4.5 Mbit/s carry two buffers of 8 MiB in it."""
RETRY_S: Final = 20
"""After this nothing is tried again: with the last try, a store that is dead is known to be within a minute."""
_WHOLE_S: Final = 24 * 3600
"""How long one response may take in all: an object of any size is read as one stream, and ``ANSWER_S`` bounds its silence."""

_RETRIES: Final[RetryConfig] = {
    "max_retries": 10,
    "retry_timeout": timedelta(seconds=RETRY_S),
    "backoff": {
        "init_backoff": timedelta(milliseconds=100),
        "max_backoff": timedelta(seconds=5),
        "base": 2,
    },
}


def open_store_destination(
    config: DestinationConfig, owner: Owner | None, environ: Mapping[str, str]
) -> StoreDestination:
    """Return the destination in an object store; blocks, and sends nothing yet.

    Raises:
        DestinationError: If the settings lead nowhere.
    """
    return StoreDestination(
        open_store(config, environ),
        location=config.location,
        verify=config.verify,
        owner=owner,
        uploads=S3Uploads(config, environ) if config.type is DestinationType.S3 else None,
    )


def open_store(config: DestinationConfig, environ: Mapping[str, str]) -> ObjectStore:
    """Return a store whose keys are relative to the folder of ``config``; nothing is sent yet.

    Raises:
        DestinationError: If the settings lead nowhere, or name an AWS profile and boto3 is not installed.
    """
    options = {**store_options(config, environ)}
    with explained("open", config.location):
        match config.type:
            case DestinationType.S3:
                return S3Store(config.bucket, **options)
            case DestinationType.GCS:
                return GCSStore(config.bucket, **options)
            case DestinationType.AZURE:
                return AzureStore(config.bucket, **options)
    raise AssertionError(f"{config.type} is no object store")


def store_options(config: DestinationConfig, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments of a store's constructor: obstore checks them, so they have no type here."""
    settings: dict[str, Any] = dict(conventions(config, environ))
    options: dict[str, Any] = {"prefix": config.folder, "retry_config": _RETRIES}
    match config.type:
        case DestinationType.S3:
            endpoint = config.endpoint or environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")
            _name_s3(config, environ, endpoint, settings, options)
        case DestinationType.GCS:
            endpoint = config.endpoint
            _name_gcs(config, settings)
        case _:
            endpoint = config.endpoint or environ.get("AZURE_STORAGE_ENDPOINT")
            _name_azure(config, environ, endpoint, settings, options)
    options["config"] = settings
    options["client_options"] = _client(config, endpoint)
    return options


def _client(config: DestinationConfig, endpoint: str | None) -> ClientConfig:
    client: ClientConfig = {
        "connect_timeout": timedelta(seconds=CONNECT_S),
        "read_timeout": timedelta(seconds=ANSWER_S),
        "timeout": timedelta(seconds=_WHOLE_S),
        "user_agent": "procflow-export",
    }
    if endpoint is not None:
        url = urlsplit(endpoint)
        if url.scheme == "http" and (config.allow_http or is_loopback(url.hostname or "")):
            client["allow_http"] = True
    return client


def _name_s3(
    config: DestinationConfig,
    environ: Mapping[str, str],
    endpoint: str | None,
    settings: dict[str, Any],
    options: dict[str, Any],
) -> None:
    if config.region is not None:
        settings["aws_region"] = config.region
    if endpoint is not None:
        settings["aws_endpoint_url"] = endpoint
    else:
        # S3 itself then verifies what it received; not every relative of it knows the header.
        settings.setdefault("aws_checksum_algorithm", "SHA256")
    if config.access_key_env is not None and config.secret_key_env is not None:
        token = config.session_token_env
        keys = {
            "access_key_id": named(config.access_key_env, environ),
            "secret_access_key": named(config.secret_key_env, environ),
            "token": None if token is None else named(token, environ),
            "expires_at": None,
        }
        options["credential_provider"] = lambda: keys
    elif (profile := profile_of(config, environ)) is not None:
        options["credential_provider"] = _profile_provider(profile)
    if "credential_provider" in options:
        for name in ("aws_access_key_id", "aws_secret_access_key", "aws_session_token"):
            settings.pop(name, None)


def _profile_provider(profile: str) -> object:
    try:
        import boto3.session
        import botocore.exceptions
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError as exc:
        raise DestinationError(
            Code.DESTINATION_NOT_USABLE, "an AWS profile needs boto3: install procflow with the extra `aws`"
        ) from exc
    try:
        return Boto3CredentialProvider(boto3.session.Session(profile_name=profile))
    except (botocore.exceptions.BotoCoreError, ValueError) as exc:
        raise DestinationError(
            Code.DESTINATION_NOT_USABLE, f"the AWS profile {profile!r} gives no credentials ({type(exc).__name__})"
        ) from exc


def _name_gcs(config: DestinationConfig, settings: dict[str, Any]) -> None:
    if config.endpoint is not None:
        settings["google_base_url"] = config.endpoint
    if config.allow_anonymous:
        settings["google_skip_signature"] = "true"
    elif config.credentials_file is not None:
        for name in [name for name in settings if name.startswith("google_") and name != "google_base_url"]:
            del settings[name]
        kind = "service_account" if _is_service_account(config.credentials_file) else "application_credentials"
        settings[f"google_{kind}"] = config.credentials_file


def _is_service_account(file: str) -> bool:
    try:
        with open(file, encoding="utf-8") as stream:  # noqa: PTH123 (a path of the configuration)
            content = json.load(stream)
    except (OSError, ValueError) as exc:
        raise DestinationError(
            Code.DESTINATION_NOT_USABLE, f"the credentials file {file!r} cannot be read ({type(exc).__name__})"
        ) from exc
    return not isinstance(content, dict) or content.get("type", "service_account") == "service_account"


def _name_azure(
    config: DestinationConfig,
    environ: Mapping[str, str],
    endpoint: str | None,
    settings: dict[str, Any],
    options: dict[str, Any],
) -> None:
    if config.account_name is not None:
        settings["azure_storage_account_name"] = config.account_name
    if endpoint is not None:
        settings["azure_storage_endpoint"] = endpoint
    if config.allow_anonymous:
        settings["azure_skip_signature"] = "true"
    elif config.account_key_env is not None:
        key = {"access_key": named(config.account_key_env, environ), "expires_at": None}
        options["credential_provider"] = lambda: key
    elif config.sas_token_env is not None:
        token = named(config.sas_token_env, environ).lstrip("?")
        pairs = {"sas_token": parse_qsl(token), "expires_at": None}
        options["credential_provider"] = lambda: pairs
