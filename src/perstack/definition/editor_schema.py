"""The JSON Schema of `perstack.toml` for editors, made from the models, committed beside them."""

import json
import sys
from pathlib import Path
from typing import Any

from perstack.definition.model import Definitions

SCHEMA_FILE = Path(__file__).with_name("perstack.schema.json")
DIALECT = "http://json-schema.org/draft-07/schema#"


def build_editor_schema() -> dict[str, Any]:
    """The schema of a definition file; unknown keys are not allowed."""
    schema = Definitions.model_json_schema(by_alias=True, mode="validation")
    definitions = schema["$defs"]
    schema["properties"].pop("path", None)
    expert = definitions["Expert"]
    expert["properties"].pop("key", None)
    expert["required"] = [key for key in expert.get("required", []) if key != "key"]
    expert["properties"]["skills"].pop("default", None)
    schema["title"] = "perstack.toml"
    for table in _pattern_property_tables(schema):
        table["additionalProperties"] = False
    text = json.dumps(schema).replace("#/$defs/", "#/definitions/")
    renamed: dict[str, Any] = json.loads(text)
    renamed["definitions"] = renamed.pop("$defs")
    return {"$schema": DIALECT, **renamed}


def _pattern_property_tables(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Where keys follow a pattern, and other keys would not be looked at."""
    properties = [
        *schema["properties"].values(),
        *(entry for part in schema["$defs"].values() for entry in part["properties"].values()),
    ]
    return [entry for entry in properties if "patternProperties" in entry]


def render_editor_schema() -> str:
    """The schema as `perstack.schema.json` has it, which is this module's output."""
    return json.dumps(build_editor_schema(), indent=2, ensure_ascii=False, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.stdout.write(render_editor_schema())
