"""The settings of a flow run as the Prefect UI shows them: a form with every field of the configuration."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from htcl.config import PipelineConfig


class Settings(BaseModel):
    """Settings laid over the configuration file, such as `{"pairs": {"top_k": 20}}`; what is left out stays.

    They are checked together with the file, when the run starts. The JSON schema is that of the configuration, with no
    field required and none filled in: what a form sends back is only what somebody chose.
    """

    model_config = ConfigDict(extra="allow")

    @property
    def values(self) -> dict[str, Any]:
        """Plain values by section."""
        return dict(self.model_extra or {})

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The configuration's schema in place of this empty one."""
        found = _without_defaults(PipelineConfig.model_json_schema())
        return {**_inlined(found, found.pop("$defs")), "title": cls.__name__, "description": cls.__doc__}


def _without_defaults(schema: Any) -> Any:
    """No field is required, and its default is told in words: a form would send it back as if it had been chosen."""
    if isinstance(schema, list):
        return [_without_defaults(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _without_defaults(value) for key, value in schema.items() if key not in ("required", "default")}
    if "default" in schema and "description" in schema:
        found["description"] = f"{schema['description']} (by default {_words(schema['default'])})"
    return found


def _words(value: Any) -> str:
    if isinstance(value, dict):
        value = {
            key: _words(part) if isinstance(part, dict) else part for key, part in value.items() if part is not None
        }
    return "empty" if value in (None, "", [], {}) else str(value).replace("'", "")


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """References replaced by what they name: a schema inside another one has no place for definitions of its own."""
    if isinstance(schema, list):
        return [_inlined(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        named = definitions[schema["$ref"].rpartition("/")[2]]
        # By its own title a section would be called after its class.
        found = {**named, **{key: value for key, value in schema.items() if key != "$ref"}}
        return _inlined({key: value for key, value in found.items() if key != "title"}, definitions)
    return {key: _inlined(value, definitions) for key, value in schema.items()}
