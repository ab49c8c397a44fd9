"""A server that answers every request of a store's client as a test says, and keeps what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(slots=True)
class ScriptedStore:
    """Attributes: the answer to give, and what was asked so far."""

    status: int = 200
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=lambda: {"ETag": '"1"'})
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    url: str = ""


@contextmanager
def scripted_store() -> Iterator[ScriptedStore]:
    script = ScriptedStore()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            script.asked.append((self.command, self.path, {key.lower(): value for key, value in self.headers.items()}))
            body = b"" if self.command == "HEAD" else script.body.encode()
            self.send_response(script.status)
            for key, value in script.headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            pass

    for method in ("GET", "PUT", "POST", "DELETE", "HEAD"):
        setattr(Handler, f"do_{method}", Handler.answer)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        script.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, name="scripted store", daemon=True)
        thread.start()
        try:
            yield script
        finally:
            server.shutdown()
            thread.join()
