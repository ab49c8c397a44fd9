"""moto's S3 as a program, and Google's XML API on top of it: `python moto_app.py s3|gcs PORT`.

obstore speaks Google's XML API, which is S3's with headers of other names and with *generations*, numbers that tell the
versions of an object apart, where S3 has entity tags.  The emulators of Google's storage that exist speak its JSON API only.
So this translates headers and keeps the generations.

Its one-request-at-a-time lock is over writes only: a conditional put must compare and store in one step.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from moto.moto_server.werkzeug_app import create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

FIRST_GENERATION: Final = 1_700_000_000_000_000
SIGNED: Final = (
    "AWS4-HMAC-SHA256 Credential=TESTKEY/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
)
"""moto takes any signature, but looks for one."""
REFUSED: Final = b"<?xml version='1.0'?><Error><Code>PreconditionFailed</Code></Error>"
Headers = list[tuple[str, str]]


class GoogleApplication:
    """A WSGI application that answers as Google's XML API and asks an S3 application."""

    def __init__(self, inner: WSGIApplication) -> None:
        self._inner = inner
        self._lock = threading.Lock()
        self._generations: dict[str, int] = {}
        self._last_generation = FIRST_GENERATION

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        method, path, query = environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("QUERY_STRING", "")
        match = environ.pop("HTTP_X_GOOG_IF_GENERATION_MATCH", None)
        _translate_request(environ)
        is_upload_step = "uploads" in query or "partNumber" in query
        if method not in {"PUT", "POST", "DELETE"} or is_upload_step:
            return self._answer(environ, start, path)
        with self._lock:
            if match is not None and int(match) != self._generations.get(path, 0):
                environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                start(
                    "412 Precondition Failed",
                    [("Content-Type", "application/xml"), ("Content-Length", str(len(REFUSED)))],
                )
                return [REFUSED]
            is_removal = method == "DELETE" and "uploadId" not in query
            return self._answer(environ, start, path, on_success=self._forget if is_removal else self._count)

    def _count(self, path: str) -> None:
        self._last_generation += 1
        self._generations[path] = self._last_generation

    def _forget(self, path: str) -> None:
        self._generations.pop(path, None)

    def _answer(
        self, environ: WSGIEnvironment, start: StartResponse, path: str, on_success: Callable[[str], None] | None = None
    ) -> Iterable[bytes]:
        heads: list[tuple[str, Headers]] = []

        def hold(status: str, headers: Headers, exc_info: object = None, /) -> Callable[[bytes], object]:  # noqa: ARG001
            heads.append((status, headers))
            return lambda _: None

        body = list(self._inner(environ, hold))
        status, headers = heads[-1]
        if on_success is not None and status.startswith("2"):
            on_success(path)
        start(status, _translated_answer(headers, self._generations.get(path)))
        return body


def _translate_request(environ: WSGIEnvironment) -> None:
    environ["HTTP_AUTHORIZATION"] = SIGNED
    # The client escapes more of a key than moto expects: %2F, %2E.
    query = environ.get("QUERY_STRING", "")
    raw = quote(environ["PATH_INFO"].encode("latin-1"), safe="/~") + (f"?{query}" if query else "")
    environ["RAW_URI"] = environ["REQUEST_URI"] = raw
    for name in [name for name in environ if name.startswith(("HTTP_X_GOOG_META_", "HTTP_X_GOOG_COPY_"))]:
        environ[name.replace("X_GOOG", "X_AMZ")] = environ.pop(name)


def _translated_answer(headers: Headers, generation: int | None) -> Headers:
    answer = [(name.lower().replace("x-amz-meta-", "x-goog-meta-"), value) for name, value in headers]
    if generation is not None:
        answer.append(("x-goog-generation", str(generation)))
    if not any(name == "etag" for name, _ in answer):
        answer.append(("etag", '"0"'))
    return answer


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_request(self, *_: object) -> None:
        """Keep the log small: it is read for the word that the server is ready."""


def main() -> None:
    application: WSGIApplication = create_backend_app("s3")
    if sys.argv[1] == "gcs":
        application = GoogleApplication(application)
    server = make_server("127.0.0.1", int(sys.argv[2]), application, threaded=True, request_handler=_Handler)
    print("ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
