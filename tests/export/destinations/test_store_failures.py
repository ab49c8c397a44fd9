"""What an object store says, as codes: each answer once, over real requests of the real client."""

from __future__ import annotations

import socket
import traceback
from collections.abc import Iterator
from datetime import timedelta

import pytest
from obstore.store import AzureStore, S3Store

from procflow_export.destinations.stores.store import StoreDestination
from procflow_export.model.codes import Code
from procflow_export.model.errors import DestinationError
from tests.export.destinations.scripted_store import ScriptedStore, scripted_store

SECRETS = ("s3cr3tK3y", "t0k3nV4lue", "s1gn4ture")
NO_RETRIES = {"max_retries": 0, "retry_timeout": timedelta(seconds=1)}
LOCATION = "s3://shop/orders"


@pytest.fixture
def script() -> Iterator[ScriptedStore]:
    with scripted_store() as script:
        yield script


def s3_at(url: str, **client: object) -> StoreDestination:
    store = S3Store(
        "shop",
        prefix="orders",
        endpoint=url,
        region="eu-west-1",
        access_key_id="AKIA",
        secret_access_key=SECRETS[0],
        session_token=SECRETS[1],
        client_options={"allow_http": True, **client},  # type: ignore[arg-type]  # only timeouts
        retry_config=NO_RETRIES,  # type: ignore[arg-type]  # a plain dictionary
    )
    return StoreDestination(store, location=LOCATION)


def azure_at(url: str) -> StoreDestination:
    store = AzureStore(
        "shop",
        prefix="orders",
        endpoint=f"{url}/account",
        account_name="account",
        sas_key=f"sv=2024&sig={SECRETS[2]}",
        client_options={"allow_http": True},
        retry_config=NO_RETRIES,  # type: ignore[arg-type]  # a plain dictionary
    )
    return StoreDestination(store, location="az://shop/orders")


def error(code: str, words: str = "What happened.") -> str:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{words}</Message></Error>"


ANSWERS: list[tuple[int, str, Code]] = [
    (403, error("AccessDenied"), Code.DESTINATION_DENIED),
    (403, error("SignatureDoesNotMatch"), Code.DESTINATION_DENIED),
    (403, error("InvalidAccessKeyId"), Code.DESTINATION_DENIED),
    (401, error("Unauthorized"), Code.DESTINATION_DENIED),
    (400, error("ExpiredToken"), Code.DESTINATION_DENIED),
    (400, error("InvalidToken"), Code.DESTINATION_DENIED),
    (404, error("NoSuchBucket"), Code.DESTINATION_NOT_USABLE),
    (404, error("ContainerNotFound"), Code.DESTINATION_NOT_USABLE),
    (301, error("PermanentRedirect"), Code.DESTINATION_NOT_USABLE),
    (400, error("AuthorizationHeaderMalformed"), Code.DESTINATION_NOT_USABLE),
    (400, error("InvalidBucketName"), Code.DESTINATION_NOT_USABLE),
    (501, error("NotImplemented"), Code.DESTINATION_NOT_USABLE),
    (500, error("InternalError"), Code.DESTINATION_UNAVAILABLE),
    (502, "<html>bad gateway</html>", Code.DESTINATION_UNAVAILABLE),
    (503, error("SlowDown"), Code.DESTINATION_UNAVAILABLE),
    (429, error("TooManyRequests"), Code.DESTINATION_UNAVAILABLE),
    (408, "", Code.DESTINATION_UNAVAILABLE),
    (400, error("RequestTimeout"), Code.DESTINATION_UNAVAILABLE),
    (507, error("XMinioStorageFull"), Code.DESTINATION_FULL),
    (507, "", Code.DESTINATION_FULL),
    (403, error("QuotaExceeded"), Code.DESTINATION_FULL),
    (400, error("XMinioAdminBucketQuotaExceeded"), Code.DESTINATION_FULL),
    (400, error("InvalidArgument"), Code.DESTINATION_FAILED),
    (405, "", Code.DESTINATION_FAILED),
]


@pytest.mark.parametrize(("status", "body", "code"), ANSWERS)
@pytest.mark.parametrize("kind", ["s3", "azure"])
def test_every_answer_has_its_code(script: ScriptedStore, kind: str, status: int, body: str, code: Code) -> None:
    """E-40: what a store refuses says who must do what: fix access, fix settings, make room, or wait."""
    destination = s3_at(script.url) if kind == "s3" else azure_at(script.url)
    script.status, script.body = status, body

    with pytest.raises(DestinationError) as caught:
        destination.put("manifest.json", b"{}")

    assert caught.value.code is code
    assert caught.value.is_transient == (code is Code.DESTINATION_UNAVAILABLE)
    assert destination.location in caught.value.message


def test_what_the_server_says_is_repeated_without_addresses(script: ScriptedStore) -> None:
    """E-2: the sentence of the server is a note; whatever in it looks like a URL or a query is left out."""
    script.status, script.body = 403, error("AccessDenied", f"You may not http://x/y?sig={SECRETS[2]} write &amp; read")

    with pytest.raises(DestinationError) as caught:
        s3_at(script.url).put("manifest.json", b"{}")

    assert caught.value.message == "cannot store manifest.json at s3://shop/orders: 403 AccessDenied"
    assert caught.value.__notes__ == ["the store says: You may not … write &amp; read"]


@pytest.mark.parametrize("status", [400, 403, 404, 500])
def test_no_failure_shows_a_secret(script: ScriptedStore, status: int) -> None:
    """E-2: neither message nor notes nor traceback has keys, tokens, signatures or signed URLs, whatever was asked."""
    script.status = status
    # A server that repeats what it was asked, as some do.
    script.body = error("Odd", f"you asked {SECRETS[1]}?sig={SECRETS[2]}&amp;sv=1")

    shown = "".join(all_failures(s3_at(script.url))) + "".join(all_failures(azure_at(script.url)))

    assert "cannot store" in shown
    assert "the store says: you asked …" in shown
    assert not any(secret in shown for secret in SECRETS)


def all_failures(destination: StoreDestination) -> Iterator[str]:
    for act in (
        lambda: destination.put("a", b""),
        lambda: destination.create("a", b""),
        lambda: destination.get("a"),
        lambda: destination.head("a"),
        lambda: destination.remove("a"),
        lambda: list(destination.list()),
        lambda: write_part(destination),
    ):
        try:
            act()
        except DestinationError as exc:
            yield "".join(traceback.format_exception(exc))


def write_part(destination: StoreDestination, size_bytes: int = 20 << 20) -> None:
    with destination.open_part("orders-c00000-p000.csv") as part:
        part.write(b"x" * size_bytes)


def test_a_missing_bucket_is_no_missing_object(script: ScriptedStore) -> None:
    """E-40: where not only the object is missing, the destination is wrong: nothing is taken for "not published yet"."""
    destination = s3_at(script.url)
    script.status, script.body = 404, error("NoSuchKey")
    assert destination.get("manifest.json") is None
    assert destination.read("manifest.json") is None

    script.body = error("NoSuchBucket")
    for act in (destination.get, destination.read, lambda _: list(destination.list())):
        with pytest.raises(DestinationError) as caught:
            act("manifest.json")
        assert caught.value.code is Code.DESTINATION_NOT_USABLE


def test_who_does_not_answer_is_unavailable() -> None:
    """E-40: no listener, silence, and a connection that is cut are one class: a retry may help."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        silent = s3_at(f"http://127.0.0.1:{port}", read_timeout="200ms")
        with pytest.raises(DestinationError, match="no answer in time") as caught:
            silent.put("a", b"")
        assert caught.value.code is Code.DESTINATION_UNAVAILABLE
        with pytest.raises(DestinationError) as caught:
            write_part(silent)
        assert caught.value.code is Code.DESTINATION_UNAVAILABLE

    with pytest.raises(DestinationError, match="no connection") as caught:
        s3_at(f"http://127.0.0.1:{port}").put("a", b"")
    assert caught.value.code is Code.DESTINATION_UNAVAILABLE
