"""nginx with the configuration of deploy/, on a free port of this machine, before whatever answers there."""

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import pytest
from repository import ROOT

DEPLOY = ROOT / "deploy"


def needs(tool: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not shutil.which(tool), reason=f"{tool} is not installed")


def until(holds: Callable[[], bool], seconds: float = 5) -> bool:
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.01)
    return holds()


class Nginx:
    """A context in which it runs; addresses are `host:port`."""

    def __init__(self, folder: Path, champion: str, challenger: str) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        shutil.copy(DEPLOY / "nginx/nginx.conf", folder)
        shutil.copy(DEPLOY / "nginx/split.conf", folder)
        (folder / "listen.conf").write_text(f"listen 127.0.0.1:{self.port};\n")
        (folder / "upstreams.conf").write_text(
            f"upstream champion {{ server {champion}; keepalive 32; }}\n"
            f"upstream challenger {{ zone challenger 64k; server {challenger} max_conns=64; keepalive 32; }}\n"
        )

    def command(self, *more: str) -> list[str]:
        directives = "daemon off; " + ("user root; " if os.getuid() == 0 else "")
        place = ["-p", str(self.folder), "-c", str(self.folder / "nginx.conf")]
        return ["nginx", "-e", "stderr", *place, "-g", directives, *more]

    def __enter__(self) -> Self:
        with (self.folder / "said").open("a") as said:  # in its folder, for the name of a socket must be short
            self.process = subprocess.Popen(self.command(), cwd=self.folder, stdout=said, stderr=subprocess.STDOUT)
        for _ in range(250):
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return self
            except OSError:
                assert self.process.poll() is None, self.said()
                time.sleep(0.02)
        raise AssertionError(self.said())

    def __exit__(self, *_: Any) -> None:
        self.process.terminate()
        self.process.wait(10)

    def reload(self) -> None:
        subprocess.run(self.command("-s", "reload"), cwd=self.folder, check=True, capture_output=True)
        time.sleep(0.4)

    def split(self, challenger: str = "", shadow: str = "") -> None:
        (self.folder / "split.conf").write_text(
            f"split_clients $request_id $track {{ {challenger and challenger + ' challenger;'} * champion; }}\n"
            f"split_clients shadow$request_id $shadow {{ {shadow and shadow + ' on;'} * off; }}\n"
        )

    def said(self) -> str:
        return (self.folder / "said").read_text()

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.said().splitlines() if line.startswith("{")]


class Backend:
    """Says who it is, and remembers what it was asked."""

    def __init__(self, name: str) -> None:
        self.name, self.code, self.delay, self.hang_up = name, 200, 0.0, False
        self.asked: list[tuple[str, bytes, dict[str, str]]] = []
        backend = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version, disable_nagle_algorithm, wbufsize = "HTTP/1.1", True, -1

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if backend.hang_up and getattr(self, "served", False):
                    backend.hang_up, self.close_connection = False, True
                    return
                self.served = True
                time.sleep(backend.delay)
                backend.asked.append((self.path, body, dict(self.headers)))
                self.send_response(backend.code)
                self.send_header("Content-Length", str(len(backend.name)))
                self.end_headers()
                self.wfile.write(backend.name.encode())
                self.wfile.flush()

            do_GET = do_POST

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads, request_queue_size = True, 128

            def handle_error(self, *_: Any) -> None:  # nginx hangs up on a slow one
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Proxy(Nginx):
    """Before two backends that say who they are."""

    def __init__(self, folder: Path, challenger: str = "", shadow: str = "") -> None:
        self.champion, self.challenger = Backend("champion"), Backend("challenger")
        super().__init__(folder, self.champion.address, self.challenger.address)
        self.connection = HTTPConnection("127.0.0.1", self.port, timeout=10)  # opened at the first request
        self.split(challenger, shadow)

    def __exit__(self, *_: Any) -> None:
        self.connection.close()
        super().__exit__()
        self.champion.stop()
        self.challenger.stop()

    def ask(self, path: str = "/predict", body: bytes = b"{}", method: str = "POST", **headers: str) -> tuple[int, str]:
        response, text = self.exchange(path, body, method, **headers)
        return response.status, text

    def exchange(self, path: str, body: bytes, method: str = "POST", **headers: str) -> tuple[HTTPResponse, str]:
        """On one connection, as a client with a pool keeps it."""
        self.connection.request(method, path, body, {"Content-Type": "application/json"} | headers)
        response = self.connection.getresponse()
        return response, response.read().decode()
