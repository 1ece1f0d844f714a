"""The application of one worker: predictions and labels answered at the door, all else by Flask.

A prediction costs as much as Flask's own bookkeeping, so `Front`, a WSGI function around the Flask
application, answers these two itself, and does for every request what must be done for all: the key,
the clock, the count. Everything is made after the fork: the ONNX session (its threads do not survive
one), the metrics (a file each), the segments of the log (a lock each).
"""

import time
from collections.abc import Iterable
from typing import Any

import orjson
from flask import Flask, Response
from pydantic import TypeAdapter, ValidationError
from werkzeug.exceptions import HTTPException

from perennial.serving import artifacts, metrics, pages, schema
from perennial.serving.front import Endpoint, Front, RefusedError
from perennial.serving.ids import Ids, issued, whole
from perennial.serving.log import SegmentLog
from perennial.serving.outcomes import Outcomes
from perennial.serving.predictor import NoAnswerError, Predictor
from perennial.serving.settings import Settings, from_environment
from perennial.serving.version import describe


class Service:
    """What the two endpoints share: a model, its types, its metrics, its logs."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.predictor = Predictor(artifacts.current or artifacts.read(settings.model_dir, settings.model_sha256))
        self.version = describe(settings, self.predictor)
        self._commit = self.version["git_commit"]
        self._requests = schema.requests(self.predictor.contract, settings.max_rows)
        self._labels = schema.feedback(self.predictor.contract, settings.max_rows)
        self._ids = Ids()
        self._metrics = metrics.ModelMetrics(self.predictor.profile, self.predictor.version, self._commit)
        self._outcomes = Outcomes(self.predictor.profile, self.predictor.version)
        self.predictions, self.feedback = self._log("predictions"), self._log("feedback")

    def _log(self, kind: str) -> SegmentLog:
        return SegmentLog(self.settings.log_dir, kind, self.settings.segment_bytes, self.settings.segment_seconds)

    def predict(self, body: bytes) -> bytes:
        """Score rows. They are on disk before this returns."""
        rows = _parsed(self._requests, body)["instances"]
        try:
            answers = self.predictor.predict(rows)
        except NoAnswerError as error:
            where = {"path": f"$.instances[{error}]", "message": "Numbers too large for the model"}
            raise RefusedError(422, "the request does not fit the model", [where]) from None
        request_id, now, version = self._ids.request(), round(time.time(), 3), self.predictor.version
        lines = []
        for place, (row, answer) in enumerate(zip(rows, answers, strict=True)):
            prediction_id = whole(request_id, place, version, *self.predictor.verdict(answer))
            line = {"prediction_id": prediction_id, "time": now, "model_version": version, "commit": self._commit}
            lines.append(orjson.dumps(line | {"features": row, "output": answer}))
            answer["prediction_id"] = prediction_id
        self._append(self.predictions, "predictions", lines, must=self.settings.log_full == "refuse")
        self._metrics.count(rows, [self.predictor.binned(answer) for answer in answers])
        return orjson.dumps({"predictions": answers, "model_version": version})

    def label(self, body: bytes) -> bytes:
        """Labels are appended as they come; whoever joins them takes the latest of an id."""
        entries, now = _parsed(self._labels, body)["labels"], round(time.time(), 3)
        known = [issued(entry["prediction_id"]) for entry in entries]
        lines = [
            orjson.dumps({"time": now, **entry, "known": ours}) for entry, ours in zip(entries, known, strict=True)
        ]
        self._append(self.feedback, "feedback", lines, must=True)  # a label that is lost is lost for good
        for entry, ours in zip(entries, known, strict=True):
            metrics.FEEDBACK.labels(str(ours).lower()).inc()
            if ours:
                self._outcomes.count(entry["prediction_id"], entry["label"])
        return orjson.dumps({"accepted": len(entries), "unknown": known.count(False)})

    def _append(self, log: SegmentLog, kind: str, lines: Iterable[bytes], must: bool) -> None:
        lines = list(lines)
        try:
            log.append(b"\n".join(lines) + b"\n")
        except OSError as error:
            metrics.LOST.labels(kind).inc(len(lines))
            if must:
                raise RefusedError(503, f"the log of {kind} cannot be written: {error.strerror}") from None


def _parsed(adapter: TypeAdapter[Any], body: bytes) -> Any:
    """The validated body. Raises RefusedError with 400, 413 or 422."""
    try:
        return adapter.validate_json(body)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
    if found[0]["type"] == "json_invalid":
        raise RefusedError(400, f"not valid JSON: {found[0]['msg'].removeprefix('Invalid JSON: ')}")
    if found[0]["type"] == "too_long" and len(found[0]["loc"]) == 1:
        raise RefusedError(413, f"too many rows: {found[0]['msg']}")
    raise RefusedError(422, "the request does not fit the contract", schema.problems(found))


def create_app(settings: Settings | None = None) -> Front:
    """A worker's application.

    Raises:
        UserError: when a setting is wrong or the model does not fit its profile.
    """
    settings = settings or from_environment()
    service = Service(settings)
    predict = ["/predict", f"/v1/models/{settings.model_name}:predict", "/invocations", settings.aip_predict_route]
    endpoints: dict[str, Endpoint] = {path: ("predict", service.predict) for path in predict if path}
    endpoints["/feedback"] = ("feedback", service.label)
    return Front(_flask(service), endpoints, service)


def _flask(service: Service) -> Flask:
    """Probes, version, metrics and pages; every error as JSON with the same fields, none with the input."""
    app, settings = Flask("perennial", static_folder=None), service.settings
    alive = ["/healthz", "/ping", f"/v1/models/{settings.model_name}", settings.aip_health_route]

    def healthz() -> Response:
        return _json({"status": "ok", "name": settings.model_name, "ready": True})  # `ready` is KServe's word

    for rule in dict.fromkeys(filter(None, alive)):
        app.add_url_rule(rule, "healthz", healthz)
    # A worker listens only once its model has answered the warm-up row as it did in training.
    app.add_url_rule(
        "/readyz", "readyz", lambda: _json({"status": "ready", "model_version": service.predictor.version})
    )
    app.add_url_rule("/version", "version", lambda: _json(service.version))
    app.add_url_rule("/metrics", "metrics", lambda: Response(metrics.exposition(), content_type=metrics.CONTENT_TYPE))
    app.add_url_rule("/favicon.ico", "favicon", lambda: Response(status=204))
    pages.add(app, service.predictor, settings)

    @app.errorhandler(HTTPException)
    def http(error: HTTPException) -> Response:
        response = _json({"error": error.name, "details": []}, error.code or 500)
        if isinstance(methods := getattr(error, "valid_methods", None), list):
            response.headers["Allow"] = ", ".join(methods)
        return response

    return app


def _json(body: Any, code: int = 200) -> Response:
    return Response(orjson.dumps(body), code, content_type="application/json")
