"""Complete the OpenAPI document with what FastAPI does not find out by itself."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from producer.web.callers import needs_token
from producer.web.problems import PROBLEM, Problem


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the problems that any route may respond with, and those of the given statuses."""
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {
        status: {"description": "A problem; see `code` and `detail`.", "content": {PROBLEM: schema}}
        for status in (*statuses, 400, 401, 403, 408, 413, 415, 422, 429, 503)
    }


REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": "The request was refused, and `errors` says why; or there is a problem with"
        " the call itself.",
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/StudentEnrollmentResponse"}
            },
            PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}},
        },
    }
    for status in (404, 409, 422)
}

BEARER = {
    "type": "http",
    "scheme": "bearer",
    "description": "A token listed in ENROLL_HTTP_TOKENS.",
}

UPLOAD = {
    "required": True,
    "content": {
        "text/csv": {
            "schema": {"type": "string"},
            "example": "student_sis_id,course_sis_id\nS1,LOGIC-1\n",
        },
        # For compressed files, and for JSON Lines, which have no generally accepted media type.
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"file": {"type": "string", "format": "binary"}},
                "required": ["file"],
            }
        },
    },
}


def describe(app: FastAPI) -> dict[str, Any]:
    """Return FastAPI's document, with the problems and media types that FastAPI does not know."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        schemas = document["components"]["schemas"]
        schemas["Problem"] = Problem.model_json_schema()
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        paths = document["paths"]
        document["components"]["securitySchemes"] = {"HTTPBearer": BEARER}
        for path, operations in paths.items():
            for operation in operations.values() if needs_token(path) else ():
                operation["security"] = [{"HTTPBearer": []}]
        errors = paths["/batches/{batch_id}/errors"]["get"]["responses"]["200"]["content"]
        for media_type in ("text/csv", "application/jsonl"):
            errors[media_type] = {"schema": {"type": "string"}}
        drops = paths["/plans/{plan_id}/drops"]["get"]["responses"]["200"]["content"]
        drops["text/csv"] = {"schema": {"type": "string"}}
        events = paths["/batches/{batch_id}/events"]["get"]["responses"]["200"]
        event = {"type": "object", "properties": {"data": {"type": "string"}}}
        events["content"] = {"text/event-stream": {"schema": event}}
        app.openapi_schema = document
    return app.openapi_schema
