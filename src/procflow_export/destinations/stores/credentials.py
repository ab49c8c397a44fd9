"""Which environment variables give access to an object store, by the configuration or by the clouds' own conventions.

Owns the names.  Whoever connects reads their values here; whoever shows texts learns here what to mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

from procflow_export.model.codes import Code
from procflow_export.model.destination import DestinationConfig, DestinationType
from procflow_export.model.errors import DestinationError

CONVENTIONS: Final[Mapping[DestinationType, tuple[str, ...]]] = {
    DestinationType.S3: (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_ROLE_ARN",
        "AWS_ROLE_SESSION_NAME",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "AWS_CHECKSUM_ALGORITHM",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
        "AWS_REQUEST_PAYER",
        "AWS_SERVER_SIDE_ENCRYPTION",
        "AWS_SSE_KMS_KEY_ID",
    ),
    DestinationType.GCS: (
        "GOOGLE_SERVICE_ACCOUNT",
        "GOOGLE_SERVICE_ACCOUNT_PATH",
        "GOOGLE_SERVICE_ACCOUNT_KEY",
        "GOOGLE_APPLICATION_CREDENTIALS",
    ),
    DestinationType.AZURE: (
        "AZURE_STORAGE_ACCOUNT_NAME",
        "AZURE_STORAGE_ACCOUNT_KEY",
        "AZURE_STORAGE_ACCESS_KEY",
        "AZURE_STORAGE_SAS_KEY",
        "AZURE_STORAGE_SAS_TOKEN",
        "AZURE_STORAGE_TOKEN",
        "AZURE_CLIENT_ID",
        "AZURE_CLIENT_SECRET",
        "AZURE_TENANT_ID",
        "AZURE_AUTHORITY_HOST",
        "AZURE_FEDERATED_TOKEN_FILE",
        "AZURE_USE_AZURE_CLI",
        "AZURE_MSI_ENDPOINT",
        "AZURE_IDENTITY_ENDPOINT",
    ),
}
"""What obstore understands of each cloud's environment, in the spelling of the environment."""

_SECRET_CONVENTIONS: Final = (
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_STORAGE_SAS_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_TOKEN",
    "AZURE_CLIENT_SECRET",
)
_NAMED: Final = ("access_key_env", "secret_key_env", "session_token_env", "account_key_env", "sas_token_env")


def conventions(config: DestinationConfig, environ: Mapping[str, str]) -> dict[str, str]:
    """Return what ``environ`` says of the store by the cloud's conventions, as obstore spells it."""
    return {name.lower(): environ[name] for name in CONVENTIONS[config.type] if environ.get(name)}


def profile_of(config: DestinationConfig, environ: Mapping[str, str]) -> str | None:
    """Return the AWS profile that gives the credentials, if one does: keys that are named or in the environment go before."""
    if config.access_key_env is not None:
        return None
    if config.aws_profile is not None:
        return config.aws_profile
    return None if environ.get("AWS_ACCESS_KEY_ID") else environ.get("AWS_PROFILE") or None


def named(name: str, environ: Mapping[str, str]) -> str:
    """Return the value of a variable that the configuration names.

    Raises:
        DestinationError: If it is not set, or empty.
    """
    value = environ.get(name)
    if not value:
        raise DestinationError(
            Code.DESTINATION_NOT_USABLE, f"the environment variable {name!r} of the destination is not set, or empty"
        )
    return value.strip()


def secret_texts(config: DestinationConfig, environ: Mapping[str, str]) -> frozenset[str]:
    """Return everything that gives access to a destination, as far as it can be read here: to be masked, not shown."""
    if not config.type.is_store:
        return frozenset()
    names = [name for key in _NAMED if (name := getattr(config, key)) is not None]
    names += [name for name in CONVENTIONS[config.type] if name in _SECRET_CONVENTIONS]
    texts = [value for name in names if (value := environ.get(name, "").strip())]
    # The one word of a shared access signature that nobody could guess stands alone, decoded, where a query was parsed.
    texts += [value for text in texts for key, value in parse_qsl(text.lstrip("?")) if key == "sig"]
    return frozenset(texts)
