"""An empty bucket of an object store, with what its clients need to reach it.

Owns the two signatures that creating a bucket takes; everything else is done by the client that is under test.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPConnection
from typing import Final, Literal, get_args
from urllib.parse import urlsplit

from tools.servers.kinds import S3_KEY

StoreKind = Literal["s3", "gcs", "azure", "rclone"]
STORE_KINDS: Final[tuple[StoreKind, ...]] = get_args(StoreKind)
REGION: Final = "us-east-1"
AZURE_ACCOUNT: Final = "devstoreaccount1"
AZURE_KEY: Final = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The account that every Azurite has; its key is published in Microsoft's documentation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectStore:
    """One bucket (a container, with Azure) on a server of this machine.

    Attributes:
        kind: Which server.
        endpoint: Its URL; plain HTTP.
        bucket: Exists, empty at first.
        credentials: By the names that obstore's stores take; all are strings.
        environ: The same, with the endpoint, by the environment variables that the cloud's own clients read.
    """

    kind: StoreKind
    endpoint: str
    bucket: str
    credentials: Mapping[str, str]
    environ: Mapping[str, str]

    def through(self, endpoint: str) -> ObjectStore:
        """Return the same bucket behind another address: a proxy's ``http://host:port``."""
        return _described(self.kind, endpoint + urlsplit(self.endpoint).path, self.bucket)


def new_bucket(kind: StoreKind, url: str, name: str) -> ObjectStore:
    """Create a bucket on the server at ``url``; names are lower case, three letters at least.

    Raises:
        RuntimeError: If the server refuses.
    """
    store = _described(kind, url, name)
    path = f"{urlsplit(url).path}/{name}" + ("?restype=container" if kind == "azure" else "")
    signed = {"azure": _azure_signature, "rclone": _s3_signature}.get(kind)
    connection = HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        connection.request("PUT", path, headers={"Content-Length": "0", **(signed(store) if signed else {})})
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
    finally:
        connection.close()
    if answer.status not in {200, 201}:
        raise RuntimeError(f"{kind} refused a new bucket: {answer.status} {text}")
    return store


def _described(kind: StoreKind, url: str, bucket: str) -> ObjectStore:
    if kind == "gcs":
        # What makes a client of Google's speak to another address without asking for a token.
        account = {
            "gcs_base_url": url,
            "disable_oauth": True,
            "client_email": "",
            "private_key": "",
            "private_key_id": "",
        }
        credentials = {"service_account_key": json.dumps(account)}
        environ = {"GOOGLE_SERVICE_ACCOUNT_KEY": credentials["service_account_key"]}
    elif kind == "azure":
        credentials = {"account_name": AZURE_ACCOUNT, "account_key": AZURE_KEY}
        environ = {"AZURE_STORAGE_ACCOUNT_NAME": AZURE_ACCOUNT, "AZURE_STORAGE_ACCOUNT_KEY": AZURE_KEY}
        environ |= {"AZURE_STORAGE_ENDPOINT": url, "AZURE_ALLOW_HTTP": "true"}
    else:
        key_id, secret = S3_KEY
        credentials = {"access_key_id": key_id, "secret_access_key": secret, "region": REGION}
        environ = {"AWS_ACCESS_KEY_ID": key_id, "AWS_SECRET_ACCESS_KEY": secret, "AWS_REGION": REGION}
        environ |= {"AWS_ENDPOINT_URL": url, "AWS_ALLOW_HTTP": "true"}
    return ObjectStore(kind=kind, endpoint=url, bucket=bucket, credentials=credentials, environ=environ)


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def _azure_signature(store: ObjectStore) -> dict[str, str]:
    """Sign the creation of a container: Authorize with Shared Key, in Microsoft's REST reference."""
    headers = {"x-ms-date": datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT"), "x-ms-version": "2021-08-06"}
    canonical = "".join(f"{name}:{value}\n" for name, value in headers.items())
    resource = f"/{AZURE_ACCOUNT}/{AZURE_ACCOUNT}/{store.bucket}\nrestype:container"
    to_sign = "PUT" + "\n" * 12 + canonical + resource
    signature = base64.b64encode(_hmac(base64.b64decode(AZURE_KEY), to_sign)).decode()
    return {**headers, "Authorization": f"SharedKey {AZURE_ACCOUNT}:{signature}"}


def _s3_signature(store: ObjectStore) -> dict[str, str]:
    """Sign the creation of a bucket: Signature Version 4, in the S3 API reference."""
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{moment[:8]}/{REGION}/s3/aws4_request"
    empty = hashlib.sha256(b"").hexdigest()
    headers = {"host": urlsplit(store.endpoint).netloc, "x-amz-content-sha256": empty, "x-amz-date": moment}
    canonical = "".join(f"{name}:{value}\n" for name, value in headers.items())
    names = ";".join(headers)
    request = f"PUT\n/{store.bucket}\n\n{canonical}\n{names}\n{empty}"
    to_sign = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key_id, secret = S3_KEY
    key = f"AWS4{secret}".encode()
    for word in scope.split("/"):
        key = _hmac(key, word)
    signature = _hmac(key, to_sign).hex()
    credential = f"Credential={key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
    return {**headers, "Authorization": f"AWS4-HMAC-SHA256 {credential}"}
