"""One port that speaks HTTP, TLS, and CONNECT for any host: an unmodified client finds the stand-in either way."""

import json
import socket
import ssl
import subprocess
import urllib.parse
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stand_in.calls import Answer, Call
from stand_in.routes import answer

if TYPE_CHECKING:
    from stand_in.github import GitHub

NAMES = ("IP:127.0.0.1", "DNS:localhost", "DNS:github.com", "DNS:*.github.com")
TLS_HELLO = b"\x16"
PATIENCE = 60.0  # seconds that a connection may be idle


def certificate(folder: Path) -> Path:
    """A throw-away authority that vouches for one server, itself; the key is in it too."""
    folder.mkdir(parents=True, exist_ok=True)
    made, key = folder / "ca.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-subj", "/CN=stand-in for GitHub", "-days", "2", "-keyout", str(key), "-out", str(made)]
    for extension in ("subjectAltName=" + ",".join(NAMES), "keyUsage=critical,digitalSignature,keyCertSign"):
        command += ["-addext", extension]
    subprocess.run(command, check=True, capture_output=True)
    return made


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, github: "GitHub") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.github = github

    @cached_property
    def tls(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.github.ca, self.github.ca.with_name("key.pem"))
        return context

    def finish_request(self, request: Any, client_address: Any) -> None:
        request.settimeout(PATIENCE)
        if request.recv(1, socket.MSG_PEEK) == TLS_HELLO:
            self.secured(request, client_address)
        else:
            Handler(request, client_address, self)

    def secured(self, request: socket.socket, client_address: Any) -> None:
        with self.tls.wrap_socket(request, server_side=True) as inner:
            Handler(inner, client_address, self)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say what is wrong here; a client that hangs up is not."""
        try:
            raise
        except OSError:
            return
        except Exception:
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_CONNECT(self) -> None:
        self.close_connection = True
        self.send_response(200, "Connection established")
        self.end_headers()
        self.server.secured(self.connection, self.client_address)

    def do_any(self) -> None:
        path, _, query = self.path.partition("?")
        scheme = "https" if isinstance(self.connection, ssl.SSLSocket) else "http"
        content = self._content()
        github = self.server.github
        call = Call(github, self.command, scheme, urllib.parse.unquote(path), query, self.headers, content)
        self._send(answer(call))

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = do_any

    def _content(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        content = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def _send(self, found: Answer) -> None:
        raw = isinstance(found.body, bytes)
        content = found.body if raw else b"" if found.body is None else json.dumps(found.body).encode()
        self.send_response(found.status)
        kind = {} if raw else {"Content-Type": "application/json; charset=utf-8"}
        for name, value in (kind | found.headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Nothing: a test reads GitHub.log."""
