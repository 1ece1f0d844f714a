"""What people open in a browser: the OpenAPI document, Swagger UI, and a form that sends one prediction."""

from pathlib import Path
from typing import Any

import orjson
from flask import Flask, Response, render_template_string
from flask_swagger_ui import get_swaggerui_blueprint

from perennial.contract import Boolean, Category, Number
from perennial.serving import ids, schema
from perennial.serving.predictor import Predictor
from perennial.serving.settings import Settings

REF = "#/components/schemas/{model}"
ERRORS = {
    400: "Not valid JSON", 401: "No or wrong API key", 413: "Too many bytes or rows", 415: "Not JSON",
    422: "Fields are wrong; details name each", 503: "The log cannot be written, and the operator wants no answer then",
}  # fmt: skip


def add(app: Flask, predictor: Predictor, settings: Settings) -> None:
    document = orjson.dumps(openapi(predictor, settings))
    app.add_url_rule("/openapi.json", "openapi", lambda: Response(document, content_type="application/json"))
    swagger = get_swaggerui_blueprint(
        "/docs", "/openapi.json", config={"app_name": settings.model_name, "validatorUrl": None}
    )
    app.register_blueprint(swagger)
    form = Path(__file__).with_name("form.html.j2").read_text(encoding="utf-8")
    fields, target = form_fields(predictor), predictor.contract.target.name
    app.add_url_rule(
        "/", "form", lambda: render_template_string(form, fields=fields, target=target, version=predictor.version)
    )


def openapi(predictor: Predictor, settings: Settings) -> dict[str, Any]:
    """OpenAPI 3.1, from the types that validate the requests."""
    contract = predictor.contract
    example = {"instances": [predictor.profile["example"]["row"]]}
    if contract.task == "regression":
        one: dict[str, Any] = _object({"value": {"type": "number"}, "prediction_id": _ID})
    else:
        probabilities = _object({name: {"type": "number"} for name in predictor.profile["classes"]})
        label = {"type": "string", "enum": predictor.profile["classes"]}
        one = _object({"label": label, "probabilities": probabilities, "prediction_id": _ID})
    answer = _object({"predictions": {"type": "array", "items": one}, "model_version": {"type": "string"}})
    accepted = _object({"accepted": {"type": "integer"}, "unknown": {"type": "integer"}})
    predict = _post("Score rows", schema.requests(contract, settings.max_rows), example, answer)
    labels = {"labels": [{"prediction_id": "0" * 12 + "-" + "0" * 16 + "-0", "label": _any_label(predictor)}]}
    feedback = _post("Say what came true", schema.feedback(contract, settings.max_rows), labels, accepted)
    status = _object({"status": {"type": "string"}})
    paths: dict[str, Any] = {
        "/predict": {"post": predict},
        "/feedback": {"post": feedback},
        "/healthz": {"get": _get("The process is alive", status, free=True)},
        "/readyz": {"get": _get("The model answered as it did in training", status, free=True)},
        "/version": {
            "get": _get(
                "Commit, data, contract and metrics of the model", _object({"model_version": {"type": "string"}})
            )
        },
    }
    schemas: dict[str, Any] = {}
    for path in paths.values():  # pydantic keeps named types beside each schema, OpenAPI in one place
        for operation in path.values():
            if body := operation.get("requestBody"):
                schemas |= body["content"]["application/json"]["schema"].pop("$defs", {})
    components: dict[str, Any] = {"schemas": schemas}
    if settings.api_key:
        components["securitySchemes"] = {"key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}}
    info = {"title": settings.model_name, "version": predictor.version}
    document = {"openapi": "3.1.0", "info": info, "paths": paths, "components": components}
    return document | ({"security": [{"key": []}]} if settings.api_key else {})


_ID = {"type": "string", "pattern": ids.PATTERN}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _content(body: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": body, **more}}}


def _post(summary: str, adapter: Any, example: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    detail = {"type": "array", "items": _object({"path": {"type": "string"}, "message": {"type": "string"}})}
    error = _object({"error": {"type": "string"}, "details": detail})
    body = _content(adapter.json_schema(ref_template=REF), example=example)
    return {
        "summary": summary,
        "requestBody": {"required": True, **body},
        "responses": {"200": {"description": "Done", **_content(answer)}}
        | {str(code): {"description": text, **_content(error)} for code, text in ERRORS.items()},
    }


def _get(summary: str, answer: dict[str, Any], free: bool = False) -> dict[str, Any]:
    refused = {} if free else {"401": {"description": ERRORS[401]}}
    return {"summary": summary, "responses": {"200": {"description": "Done", **_content(answer)}} | refused} | (
        {"security": []} if free else {}
    )


def _any_label(predictor: Predictor) -> Any:
    return predictor.profile["classes"][-1] if predictor.profile["classes"] else 0.0


def form_fields(predictor: Predictor) -> list[dict[str, Any]]:
    """One field for each feature, filled in with the example."""
    fields = []
    for name, spec in predictor.contract.features.items():
        value = predictor.profile["example"]["row"][name]
        field = {"name": name, "type": spec.type, "value": "" if value is None else value, "required": spec.required}
        if isinstance(spec, Number):
            field |= {"min": spec.min, "max": spec.max}
        elif isinstance(spec, (Category, Boolean)):
            field |= {"options": list(spec.values) if isinstance(spec, Category) else ["true", "false"]}
            field["value"] = str(value).lower() if isinstance(value, bool) else field["value"]
        fields.append(field)
    return fields
