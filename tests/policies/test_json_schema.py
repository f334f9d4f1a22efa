from __future__ import annotations

import json

from scanflow_serve.policies import schema as schema_module
from scanflow_serve.policies.descriptions import DESCRIPTIONS
from scanflow_serve.policies.json_schema import SCHEMA_FILE, policy_schema, schema_text
from scanflow_serve.policies.schema import Policy


def test_shipped_schema_is_current() -> None:
    """Else run: python -m scanflow_serve.policies.json_schema."""
    assert SCHEMA_FILE.read_text(encoding="utf-8") == schema_text()


def test_schema_is_draft_2020_12_and_names_every_section() -> None:
    schema = json.loads(schema_text())
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert set(schema["properties"]) == {f.alias or n for n, f in Policy.model_fields.items()}
    assert schema["additionalProperties"] is False


def test_variable_is_allowed_where_a_number_is() -> None:
    port = policy_schema()["$defs"]["Serve"]["properties"]["port"]
    assert port["anyOf"] == [
        {"maximum": 65535, "minimum": 0, "type": "integer"},
        {"$ref": "#/$defs/Variable"},
    ]
    assert port["default"] == 3000


def test_every_key_is_described() -> None:
    schema = policy_schema()
    silent = [
        f"{name}.{key}"
        for name, definition in {"Policy": schema, **schema["$defs"]}.items()
        for key, value in definition.get("properties", {}).items()
        if not value.get("description") and "$ref" not in json.dumps(value)
    ]
    assert silent == []


def test_every_description_is_of_a_key() -> None:
    stale = []
    for entry in DESCRIPTIONS:
        section, _, key = entry.partition(".")
        fields = getattr(schema_module, section).model_fields
        if key not in {field.alias or name for name, field in fields.items()}:
            stale.append(entry)
    assert stale == []
