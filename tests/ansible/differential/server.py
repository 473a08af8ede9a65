"""A web server on loopback for get_url and uri: files, echoes, redirects, passwords, cookies, slowness, errors."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import http.server
import json
import threading
import time
from collections.abc import Iterator

FILE = b"".join(b"line %d of the file\n" % index for index in range(2000))
MODIFIED = "Tue, 02 Jan 2024 03:04:05 GMT"
_AUTH = "Basic " + base64.b64encode(b"user:pass").decode()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "text/plain", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _read_body(self) -> bytes:
        """Read the whole body: a client whose body is left unread may get a broken pipe instead of the answer."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailers
        return b"".join(pieces)

    def _serve(self) -> None:
        body = self._read_body()
        path = self.path.partition("?")[0]
        if path == "/file":
            if self.headers.get("If-Modified-Since") == MODIFIED:
                self._answer(304, b"")
            else:
                self._answer(200, FILE, Last_Modified=MODIFIED, ETag='"one"')
        elif path == "/sum":
            self._answer(200, f"{hashlib.sha256(FILE).hexdigest()}  file\n".encode())
        elif path == "/named":
            self._answer(200, b"named\n", Content_Disposition='attachment; filename="given name.txt"')
        elif path == "/gzip":
            self._answer(200, gzip.compress(b"unpacked\n", mtime=0), Content_Encoding="gzip")
        elif path == "/echo":
            seen = {
                name: value
                for name, value in self.headers.items()
                if name.startswith(("X-", "Content-Type", "Authorization", "Cookie"))
            }
            answer = {"method": self.command, "path": self.path, "headers": seen, "body": body.decode("latin-1")}
            self._answer(200, json.dumps(answer, sort_keys=True).encode(), Content_Type="application/json")
        elif path == "/redirect":
            self._answer(302, b"", Location="/echo")
        elif path == "/auth":
            if self.headers.get("Authorization") == _AUTH:
                self._answer(200, b"welcome\n")
            else:
                self._answer(401, b"who?\n", WWW_Authenticate='Basic realm="x"')
        elif path == "/cookie":
            self._answer(200, b"crumbs\n", Set_Cookie="flavour=plain; Path=/")
        elif path == "/slow":
            time.sleep(3)
            with contextlib.suppress(OSError):
                self._answer(200, b"late\n")
        elif path.startswith("/status/"):
            self._answer(int(path.rpartition("/")[2]), b"as asked\n")
        else:
            self._answer(404, b"no such page\n")

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = do_OPTIONS = _serve


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore the error of a client that hangs up."""


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """Yield the server's address while it runs."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
