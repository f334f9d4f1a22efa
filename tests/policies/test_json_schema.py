from __future__ import annotations

import json

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
