"""What earlier drafts of JSON Schema and OpenAPI wrote in another way than 2020-12."""

from perstack.llm.tool_schemas.keywords import ALTERNATIVES, Schema, list_or_empty
from perstack.models import is_table, table_or_empty


def to_current_draft(schema: Schema) -> Schema:
    """A schema, without regard to its subschemas, in the words of 2020-12."""
    current = dict(schema)
    _convert_exclusive_bounds(current)
    _convert_tuples(current)
    _convert_dependencies(current)
    _convert_required_flags(current)
    if current.pop("nullable", None) is True:
        _allow_null(current)
    return current


def _convert_exclusive_bounds(schema: Schema) -> None:
    for exclusive, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if not isinstance(schema.get(exclusive), bool):
            continue
        if schema.pop(exclusive) and bound in schema:
            schema[exclusive] = schema.pop(bound)


def _convert_tuples(schema: Schema) -> None:
    rest: object = schema.pop("additionalItems", None)
    if isinstance(schema.get("items"), list):
        schema["prefixItems"] = schema.pop("items")
        if rest is not None:
            schema["items"] = rest
    # Few providers take a boolean where they look for the schema of an item.
    if schema.get("items") is False:
        del schema["items"]
        schema["maxItems"] = len(list_or_empty(schema.get("prefixItems")))


def _convert_dependencies(schema: Schema) -> None:
    for name, dependency in table_or_empty(schema.pop("dependencies", None)).items():
        keyword = "dependentSchemas" if is_table(dependency) else "dependentRequired"
        schema[keyword] = {**table_or_empty(schema.get(keyword)), name: dependency}


def _convert_required_flags(schema: Schema) -> None:
    properties = table_or_empty(schema.get("properties"))
    flagged = [name for name, each in properties.items() if _is_flagged(each)]
    if flagged:
        schema["required"] = [*list_or_empty(schema.get("required")), *flagged]


def _is_flagged(property_schema: object) -> bool:
    return table_or_empty(property_schema).get("required") is True


def _allow_null(schema: Schema) -> None:
    kinds: object = schema.get("type")
    if kinds is not None:
        listed = list_or_empty(kinds) or [kinds]
        schema["type"] = listed if "null" in listed else [*listed, "null"]
        if isinstance(schema.get("enum"), list) and None not in schema["enum"]:
            schema["enum"] = [*schema["enum"], None]
        return
    null = {"type": "null"}
    for keyword in ALTERNATIVES:
        if isinstance(schema.get(keyword), list):
            schema[keyword] = [*schema[keyword], null]
            return
    if "$ref" in schema:
        schema["anyOf"] = [{"$ref": schema.pop("$ref")}, null]
