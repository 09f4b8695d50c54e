"""Validates plain values as strict, frozen models, and reports every mistake with its position. Imports no torch."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError
from pydantic_core.core_schema import no_info_after_validator_function, with_info_plain_validator_function

from harness import __version__
from harness.base.errors import HarnessError
from harness.base.text import in_ascii, shorten
from harness.base.yamlfile import Document, Loc


class Strict(BaseModel):
    """A mapping with these keys and no others; no value is converted, nan and infinity are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


FORMAT = 1  # format version of specs, recipes, roles and pins: the newest, and so far the only one


def newer(version: object, newest: int = FORMAT) -> tuple[str, str, str] | None:
    """Return what was expected, what was found and what to do, if a file has a newer format; otherwise None."""
    if not isinstance(version, int) or isinstance(version, bool) or version <= newest:
        return None
    return f"version {newest}, the newest that harness {__version__} reads", str(version), "install a newer harness"


def _only_whole(value: object) -> object:
    if not isinstance(value, int) or isinstance(value, bool):  # Python has 1 == 1.0 == True
        raise PydanticCustomError("harness", "1", {"expected": "1", "found": _show_quoted(value)})
    return value


Version = Annotated[Literal[1], BeforeValidator(_only_whole)]
Model = TypeVar("Model", bound=BaseModel)
_BOUNDS = {
    "greater_than_equal": ("ge", "of at least"), "less_than_equal": ("le", "of at most"),
    "greater_than": ("gt", "more than"), "less_than": ("lt", "less than"),
}  # fmt: skip
_EXPECTED = {
    "string_type": "text", "string_unicode": "text", "int_type": "a whole number",
    "int_parsing_size": "a smaller number", "float_type": "a number", "bool_type": "true or false",
    "list_type": "a list", "dict_type": "a mapping", "model_type": "a mapping", "tuple_type": "a list",
    "finite_number": "a finite number", "int_from_float": "a whole number", "model_attributes_type": "a mapping",
}  # fmt: skip


def validate(model: type[Model], document: Document, data: Any, at: Loc = (), context: object = None) -> Model | None:
    """Return `data` as a `model`; if that fails, note every problem in `document` and return None.

    Raises:
        SpecError: the file has a newer format; other problems are not reported, as the newer format may allow them.
    """
    if not at and "version" in model.model_fields and isinstance(data, dict) and (new := newer(data.get("version"))):
        document.problems.clear()
        document.report(("version",), *new)
        document.raise_problems()
    try:
        return model.model_validate(data, context=context)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            loc = (*at, *detail["loc"])
            name = str(([part for part in document.known(loc) if isinstance(part, str)] or ["the file"])[-1])
            unknown = detail["type"] == "extra_forbidden" or detail.get("ctx", {}).get("unknown", False)
            at_key = unknown or loc[-1:] == ("[key]",)
            document.report(loc, *_explain(model, detail, name), at_key=at_key)
        return None


def checked(read: Callable[[Any, Any], object]) -> BeforeValidator:
    """Return a validator that calls `read(value, context)`, which may refuse; without a context nothing is checked."""

    def check(value: object, info: ValidationInfo) -> object:
        if info.context is not None:
            try:
                read(value, info.context)
            except HarnessError as error:
                problem = error.problems[0]
                fix = in_ascii(value) or problem.fix
                parts = {"expected": problem.expected, "found": problem.found, "fix": fix}
                raise PydanticCustomError("harness", "{expected}", parts) from None
        return value

    return BeforeValidator(check)


def one_or_many(value: object) -> str:
    """Return the tag of a key that takes one value or a list."""
    return "many" if isinstance(value, list) else "one"


@dataclass(frozen=True)
class ByContext:
    """A mapping whose keys depend on the context: they are those of `model_of(context)`; editors know `shown`."""

    model_of: Callable[[Any], type[BaseModel]]
    shown: type[BaseModel]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return with_info_plain_validator_function(self._check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return handler(self.shown.__pydantic_core_schema__)

    def _check(self, value: object, info: ValidationInfo) -> object:
        model = self.model_of(info.context)
        try:
            return model.model_validate(value, context=info.context)
        except ValidationError as error:
            raise ValidationError.from_exception_data(
                model.__name__, [_explained(model, detail) for detail in error.errors(include_url=False)]
            ) from None


def _explained(model: type[BaseModel], detail: Any) -> InitErrorDetails:
    """Return one of pydantic's errors with its explanation, so that whoever reports it need not know the model."""
    named = [part for part in detail["loc"] if isinstance(part, str) and part not in ("one", "many")]
    expected, found, fix = _explain(model, detail, named[-1] if named else "")
    parts: dict[str, Any] = {"expected": expected, "found": found}
    parts |= {"fix": fix} if named else {}  # whoever reports it knows the name of the whole mapping
    parts |= {"unknown": True} if detail["type"] == "extra_forbidden" else {}
    return InitErrorDetails(
        type=PydanticCustomError("harness", "{expected}", parts), loc=detail["loc"], input=detail["input"]
    )


def in_words(model: type[BaseModel], error: ValidationError) -> str:
    """Return the first problem of a JSON file: at which key, what was found, and what was expected."""
    detail: Any = error.errors(include_url=False)[0]
    place = ".".join(map(str, detail["loc"])) or "the file"
    if detail["type"] in ("json_invalid", "missing", "extra_forbidden"):
        told = {"missing": "none", "extra_forbidden": "no key that is known"}
        return f"{place}: {told.get(detail['type'], detail['msg'])}"
    expected, found, _ = _explain(model, detail, place)
    return f"{place}: {found}, not {expected}"


@dataclass(frozen=True)
class Spelled:
    """A pattern that a text must match, also in the JSON schema, and the words that describe it in errors."""

    pattern: str
    words: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"pattern": self.pattern, **handler(schema)}

    def _check(self, text: str) -> str:
        if not re.fullmatch(self.pattern, text):
            raise PydanticCustomError("harness", "{expected}", {"expected": self.words, "fix": in_ascii(text)})
        return text


def expecting(words: str | Callable[[Any], str], fits: Callable[[object], bool]) -> BeforeValidator:
    """Return a validator that refuses values for which `fits` is false, before the type is checked, with `words`.

    The words may depend on the context.
    """

    def check(value: object, info: ValidationInfo) -> object:
        if not fits(value):
            expected = words if isinstance(words, str) else words(info.context)
            raise PydanticCustomError("harness", "{expected}", {"expected": expected})
        return value

    return BeforeValidator(check)


def _explain(model: type[BaseModel], detail: Any, name: str) -> tuple[str, str, str]:
    """Return what was expected, what was found, and what to do, for one of pydantic's errors."""
    kind, found, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "harness":
        return context["expected"], context.get("found") or shorten(found), context.get("fix") or f"correct `{name}`"
    if kind == "extra_forbidden":
        known = _fields_at(model, detail["loc"][:-1])
        near = difflib.get_close_matches(str(detail["loc"][-1]), known, n=1)
        fix = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
        fix = in_ascii(detail["loc"][-1]) or fix
        return "a known key", shorten(detail["loc"][-1]), fix
    if kind == "missing":
        return f"the key `{detail['loc'][-1]}`", "none", f"add `{detail['loc'][-1]}: …`"
    if kind in _BOUNDS:
        bound, words = _BOUNDS[kind]
        limit = context[bound]
        expected = f"a number {words} {limit:,}" if isinstance(limit, int) else f"a number {words} {limit:g}"
    elif kind == "literal_error":
        expected = context["expected"].replace("'", "")
    elif kind in ("too_short", "too_long"):
        bound = f"at least {context['min_length']}" if kind == "too_short" else f"at most {context['max_length']}"
        expected, found = f"{bound} in `{name}`", f"a list of {len(found)}" if found else found
    elif kind == "string_too_short":
        expected = "text"
    elif kind == "string_too_long":
        expected = f"at most {context['max_length']} characters"
    else:
        expected = _EXPECTED.get(kind, detail["msg"])
    fix = "quote it" if kind == "string_type" and isinstance(found, (int, float)) else f"correct `{name}`"
    wrong_type = isinstance(found, str) and kind in ("int_type", "float_type", "bool_type")
    return expected, _show_quoted(found) if wrong_type else shorten(found), fix


def _show_quoted(found: object) -> str:
    """Return `found` as :func:`shorten` does, but quote text that looks like a number or a truth value."""
    looks_other = isinstance(found, str) and re.fullmatch(r"[-+0-9.eE_]+|true|false", found, re.IGNORECASE)
    return f"'{shorten(found)}'" if looks_other else shorten(found)


def _fields_at(model: type[BaseModel], loc: Loc) -> list[str]:
    """Return the keys that the mapping at `loc` inside `model` may have."""
    current: Any = model
    for part in loc:
        if part not in getattr(current, "model_fields", {}):
            continue  # an index, or the tag of a union
        field_info = getattr(current, "model_fields", {}).get(part)
        current = field_info and next(iter(_models_in(field_info.annotation)), None)
    fields = getattr(current, "model_fields", {})
    return sorted(info.alias or name for name, info in fields.items())


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _models_in(part)
