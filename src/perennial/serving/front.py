"""The door every request passes: key, limits, clock and count, and the shortest way to the endpoints.

Plain WSGI (PEP 3333), because around a model that answers in 40 microseconds a framework's request and
response objects are most of the cost (benchmarks/serving).
"""

import hmac
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import orjson
from flask import Flask
from werkzeug.datastructures import Authorization

from perennial.serving import metrics

if TYPE_CHECKING:
    from perennial.serving.app import Service

Endpoint = tuple[str, Callable[[bytes], bytes]]
Start = Callable[..., Any]
JSON = "application/json"
FREE = {"healthz", "readyz"}  # probes need no key


class RefusedError(Exception):
    """An answer other than 200: its code, its message, and what is wrong where."""

    def __init__(
        self, code: int, message: str, details: Iterable[dict[str, str]] = (), headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.code, self.headers = code, headers or {}
        self.body = orjson.dumps({"error": message, "details": list(details)})


class Front:
    """A WSGI application: `endpoints` by path (POST, JSON in and out), all else by the Flask application."""

    def __init__(self, flask: Flask, endpoints: dict[str, Endpoint], service: "Service") -> None:
        self.service = service  # for the housekeeper of the worker
        self._flask, self._endpoints = flask, endpoints
        self._key, self._most = service.settings.api_key.encode(), service.settings.max_bytes
        self._routes = {rule.rule: rule.endpoint for rule in flask.url_map.iter_rules()}

    def __call__(self, environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        began, path = time.perf_counter(), environ["PATH_INFO"]
        name, endpoint = self._endpoints.get(path, (None, None))
        # By route and not by path: a scanner must not fill the memory with counters.
        route = name or self._routes.get(path) or ("docs" if path.startswith("/docs/") else "none")
        code, headers = 200, dict[str, str]()
        try:
            if self._key and route not in FREE:
                self._ask_key(environ)
            if endpoint is None:
                return self._by_flask(environ, start_response, route, began)
            body = endpoint(self._read(environ))
        except RefusedError as refused:
            code, body, headers = refused.code, refused.body, refused.headers
            self._drain(environ)
        except Exception:
            self._flask.logger.exception("%s failed", path)
            code, body = 500, orjson.dumps({"error": "Internal Server Error", "details": []})
        metrics.count_request(route, code, time.perf_counter() - began)
        length = str(len(body))
        start_response(STATUS[code], [("Content-Type", JSON), ("Content-Length", length), *headers.items()])
        return [body]

    def _read(self, environ: dict[str, Any]) -> bytes:
        """The request's body. Raises RefusedError with 405, 413 or 415."""
        if environ["REQUEST_METHOD"] != "POST":
            raise RefusedError(405, "Method Not Allowed", headers={"Allow": "POST"})
        if environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower() != JSON:
            raise RefusedError(415, f"send Content-Type: {JSON}")
        given = environ.get("CONTENT_LENGTH") or ""
        length = int(given) if given.isdigit() else self._most + 1  # chunks tell no length
        body: bytes = environ["wsgi.input"].read(min(length, self._most + 1))
        if len(body) > self._most:
            raise RefusedError(413, f"the body is larger than {self._most} bytes")
        return body

    def _drain(self, environ: dict[str, Any]) -> None:
        """Take what is still to come, within reason: most clients send all before they listen."""
        for _ in range(16):
            if not environ["wsgi.input"].read(self._most):
                return

    def _ask_key(self, environ: dict[str, Any]) -> None:
        """`X-API-Key`, a bearer token, or the password a browser asks for."""
        given = environ.get("HTTP_X_API_KEY", "").encode("latin-1")  # as WSGI decodes what came over the wire
        if not given and (header := Authorization.from_header(environ.get("HTTP_AUTHORIZATION"))):
            given = header.token.encode("latin-1") if header.token else (header.password or "").encode()
        if not hmac.compare_digest(given, self._key):
            asked = {"WWW-Authenticate": 'Basic realm="API key as password"'}
            raise RefusedError(401, "send the API key in X-API-Key", headers=asked)

    def _by_flask(self, environ: dict[str, Any], start_response: Start, route: str, began: float) -> Iterable[bytes]:
        def counted(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            metrics.count_request(route, int(status[:3]), time.perf_counter() - began)
            return start_response(status, headers, *more)

        return self._flask.wsgi_app(environ, counted)


STATUS = {code.value: f"{code.value} {code.phrase}" for code in HTTPStatus}
