"""The policy's JSON Schema, for editors: draft 2020-12, generated from `schema`.

``policy.schema.json`` beside this module is its output. An editor with a YAML language server
completes and checks a policy that starts with
``# yaml-language-server: $schema=PATH/policy.schema.json``. References, conditions and files
are checked by the loader only.

``python -m scanflow_serve.policies.json_schema`` writes the file again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from scanflow_serve.policies import schema as schema_module
from scanflow_serve.policies.descriptions import description
from scanflow_serve.policies.schema import Policy

SCHEMA_FILE = Path(__file__).with_name("policy.schema.json")
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_VARIABLE = "Variable"
_ANNOTATIONS = ("title", "description", "default")
_TYPED = ("boolean", "integer", "number")  # of which a variable's text is not one


def policy_schema() -> dict[str, Any]:
    """Return the JSON Schema of a policy document.

    Where a number, boolean or restricted text is wanted, ``${NAME}`` is allowed too: the loader
    expands variables before it checks types.
    """
    generated = Policy.model_json_schema(by_alias=True, mode="validation")
    _describe(Policy.__name__, generated)
    for name, definition in generated["$defs"].items():
        _describe(name, definition)
    schema = _with_variables(generated)
    schema["$defs"][_VARIABLE] = {
        "description": "An environment variable, ${NAME} or ${NAME:-default}.",
        "type": "string",
        "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}",
    }
    title = {"$schema": _DIALECT, "title": "scanflow-serve policy"}
    return title | {key: value for key, value in schema.items() if key != "title"}


def schema_text() -> str:
    """Return the schema as the shipped file holds it."""
    return json.dumps(policy_schema(), indent=2, ensure_ascii=False) + "\n"


def _describe(name: str, definition: dict[str, Any]) -> None:
    section = getattr(schema_module, name, None)
    for key, value in definition.get("properties", {}).items():
        if "description" not in value and section is not None:
            text = description(section, key)
            if text:
                value["description"] = text


def _with_variables(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_with_variables(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if _is_restricted_scalar(schema):
        outside = {key: value for key, value in schema.items() if key in _ANNOTATIONS}
        inside = {key: value for key, value in schema.items() if key not in _ANNOTATIONS}
        return outside | {"anyOf": [inside, {"$ref": f"#/$defs/{_VARIABLE}"}]}
    return {
        key: value if key in ("propertyNames", "default", "required") else _with_variables(value)
        for key, value in schema.items()
    }


def _is_restricted_scalar(schema: dict[str, Any]) -> bool:
    if schema.get("type") in _TYPED:
        return True
    restrictions = {"enum", "const", "pattern"} & schema.keys()
    return schema.get("type") == "string" and bool(restrictions)


def main() -> None:
    """Write the shipped file."""
    SCHEMA_FILE.write_text(schema_text(), encoding="utf-8")


if __name__ == "__main__":
    main()
