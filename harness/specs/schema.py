"""The model of a whole spec file, and its JSON schema for editors. Imports no torch."""

from __future__ import annotations

import copy
from functools import reduce
from operator import or_
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, create_model

from harness.base.validation import Strict, Version
from harness.specs.keys import Text, Where
from harness.specs.verbs.registry import VERBS, parser_of, verb_of
from harness.tasks.prompts.task import TemplateKeys

Rows = Annotated[list[dict[str, str | int | float | bool]], Field(min_length=1)] | None


# One model per verb: a claim, or with `each` one claim per row, in which `{name}` is replaced by the row's value.
_TEMPLATES: list[Any] = [
    Annotated[
        create_model(
            model.__name__.replace("Model", "Template"), __base__=model, __doc__=model.__doc__,
            each=(Rows, Field(None, description="one claim per row of this table, `{name}` filled in everywhere")),
        ),
        Tag(verb),
    ]
    for verb, model in ((verb, parser_of(verb).model) for verb in VERBS)
]  # fmt: skip
AnyTemplate: Any = Annotated[reduce(or_, _TEMPLATES), Discriminator(verb_of)]


class FileModel(Strict):
    """A spec file: claims about one fixture."""

    version: Version = Field(description="of the format")
    fixture: Text = Field(description="the model, a directory below fixtures/")
    task: Text | None = Field(None, description="of a model by reference: the prompts that it is asked, a prompts file")
    hypotheses: Annotated[list[AnyTemplate], Field(min_length=1)] = Field(description="the claims")


def file_schema() -> dict[str, Any]:
    """Return the JSON schema of a spec file; `where`, whose keys are the task's, has those of the shipped families."""
    schema = copy.deepcopy(FileModel.model_json_schema())
    sample = schema["$defs"]["SampleModel"]["properties"]
    sample["where"] = {"$ref": "#/$defs/Where", **{key: sample["where"][key] for key in ("default", "description")}}
    schema["$defs"] = dict(sorted({**schema["$defs"], "Where": Where.model_json_schema()}.items()))
    return schema


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a spec file, for editors; ``{name}`` is allowed as any value or inside it."""
    schema = file_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "A spec of the mechanistic-interpretability test harness"
    _add_prompts(schema["$defs"])
    for definition in schema["$defs"].values():
        if "questions" in definition.get("properties", {}):
            _or_prompts(definition)
        for name, entry in definition.get("properties", {}).items():
            definition["properties"][name] = _or_placeholder(entry)
    return schema


def _add_prompts(definitions: dict[str, Any]) -> None:
    """Let samples be of prompts, too: an editor does not know what a fixture is asked."""
    definitions["Where"]["properties"].update(TemplateKeys.model_json_schema()["properties"])
    stratify = definitions["SampleModel"]["properties"]["stratify"]
    (known,) = (entry for entry in stratify["anyOf"] if "enum" in entry)
    known["enum"] = [*known["enum"], *TemplateKeys.model_fields]


def _or_prompts(claim: dict[str, Any]) -> None:
    """Let the schema of a claim have `prompts` for `questions`."""
    claim["properties"]["prompts"] = {**claim["properties"]["questions"], "description": "the same as `questions`"}
    if "questions" in claim.get("required", ()):
        claim["required"].remove("questions")
        claim["oneOf"] = [{"required": [key]} for key in ("questions", "prompts")]
    else:
        claim["not"] = {"required": ["questions", "prompts"]}


def _or_placeholder(entry: Any) -> Any:
    if isinstance(entry, list):
        return [_or_placeholder(part) for part in entry]
    if not isinstance(entry, dict):
        return entry
    if entry.get("type") in ("integer", "number", "boolean") or ("enum" in entry and "const" not in entry):
        return {"anyOf": [entry, {"type": "string", "pattern": r"^\{\w+\}$"}]}
    if "pattern" in entry:
        return {"anyOf": [entry, {"type": "string", "pattern": r"\{\w+\}"}]}
    keys = ("anyOf", "oneOf", "items", "additionalProperties")
    return {key: _or_placeholder(value) if key in keys else value for key, value in entry.items()}
