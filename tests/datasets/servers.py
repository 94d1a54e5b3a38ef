"""Servers that a test starts on loopback: HTTP with faults to order, and S3."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Fault = Callable[[str, int], str | None]


class Server(ThreadingHTTPServer):
    """Files below a folder. ``fault(path, request number)`` says what goes wrong, if anything:

    "503" and other statuses, "cut" (half of the answer, then the connection is broken), "slow"
    (a byte now and then), "whole" (ranges are not understood), "gone" (hangs up).
    """

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(Handler, directory=str(root)))
        self.fault: Fault = lambda path, number: None
        self.asked: list[tuple[str, str]] = []
        self.sent = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def count(self, ending: str) -> int:
        return sum(path.endswith(ending) for _, path in self.asked)

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that were cut off or gave up are what these tests are about."""


class Handler(SimpleHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        with self.server.lock:
            self.server.asked.append((self.command, self.path))
            number = len(self.server.asked)
        fault = self.server.fault(self.path, number)
        path = Path(self.translate_path(self.path))
        if fault == "gone":
            self.close_connection = True
        elif fault and fault.isdigit():
            self.send_error(int(fault))
        elif not path.is_file():
            self.send_error(404)
        else:
            content = self._head(path, ranges=fault != "whole")
            if body:
                self._send(content, fault)

    def _head(self, path: Path, ranges: bool) -> bytes:
        """Sends the head of the answer and returns what its body is."""
        content, asked = path.read_bytes(), self.headers.get("Range")
        size = len(content)
        if asked and ranges:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, end = int(first), min(size, int(last) + 1 if last else size)
            content = content[start:end]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Last-Modified", self.date_time_string(path.stat().st_mtime))
        self.end_headers()
        return content

    def _send(self, content: bytes, fault: str | None) -> None:
        if fault == "cut":
            content = content[: len(content) // 2]
        if fault == "slow":
            for byte in content:
                self.wfile.write(bytes([byte]))
                time.sleep(0.2)
        self.wfile.write(content)
        self.server.sent += len(content)
        if fault == "cut":
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True


@contextmanager
def http(root: Path) -> Iterator[Server]:
    server = Server(root)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.fault = lambda path, number: "gone"  # also on connections that are kept open
        server.shutdown()
        server.server_close()
        thread.join()
