"""Plain values → strict, frozen models, with every mistake told at the place where it stands. Imports no torch."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, ValidationInfo
from pydantic_core import PydanticCustomError

from harness import __version__
from harness.errors import HarnessError, shorten
from harness.yamlfile import Document, Loc


class Strict(BaseModel):
    """A mapping with these keys and no others; no value is converted, nan and infinity are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


FORMAT = 1  # of specs, recipes, roles and pins: the newest, and so far the only one


def newer(version: object, newest: int = FORMAT) -> tuple[str, str, str] | None:
    """Return what was expected, what was found and what to do if a file says that it is of a format yet to come."""
    if not isinstance(version, int) or isinstance(version, bool) or version <= newest:
        return None
    return f"version {newest}, the newest that harness {__version__} reads", str(version), "install a newer harness"


def _only_whole(value: object) -> object:
    if not isinstance(value, int) or isinstance(value, bool):  # Python has 1 == 1.0 == True
        raise PydanticCustomError(
            "harness", "1", {"expected": "1", "found": _show_quoted(value), "fix": "correct `version`"}
        )
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
    """Return `data` as a `model`, or None after noting everything that is wrong with it in `document`.

    Raises:
        SpecError: the file is of a newer format; what else looks wrong in it may be right there.
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
            at_key = detail["type"] == "extra_forbidden"
            document.report(loc, *_explain(model, detail, name), at_key=at_key)
        return None


def checked(read: Callable[[Any, Any], object]) -> BeforeValidator:
    """Return a validator that lets `read(value, context)` refuse a value; without a context nothing is checked."""

    def check(value: object, info: ValidationInfo) -> object:
        if info.context is not None:
            try:
                read(value, info.context)
            except HarnessError as error:
                problem = error.problems[0]
                parts = {"expected": problem.expected, "found": problem.found, "fix": problem.fix}
                raise PydanticCustomError("harness", "{expected}", parts) from None
        return value

    return BeforeValidator(check)


def _explain(model: type[BaseModel], detail: Any, name: str) -> tuple[str, str, str]:
    """Return what was expected, what was found, and what to do, for one of pydantic's errors."""
    kind, found, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "harness":
        return context["expected"], context["found"], context["fix"]
    if kind == "extra_forbidden":
        known = _fields_at(model, detail["loc"][:-1])
        near = difflib.get_close_matches(str(detail["loc"][-1]), known, n=1)
        fix = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
        return "a known key", shorten(detail["loc"][-1]), fix
    if kind == "missing":
        return f"the key `{detail['loc'][-1]}`", "none", f"add `{detail['loc'][-1]}: …`"
    if kind in _BOUNDS:
        bound, words = _BOUNDS[kind]
        limit = context[bound]
        expected = f"a number {words} {limit:,}" if isinstance(limit, int) else f"a number {words} {limit:g}"
    elif kind == "literal_error":
        expected = context["expected"].replace("'", "")
    elif kind == "too_short":
        expected = f"at least {context['min_length']} in `{name}`"
    elif kind == "too_long":
        expected = f"at most {context['max_length']} in `{name}`"
    elif kind == "string_too_short":
        expected = "text"
    elif kind == "string_too_long":
        expected = f"at most {context['max_length']} characters"
    elif kind == "string_pattern_mismatch":
        expected = f"text that matches {context['pattern']}"
    else:
        expected = _EXPECTED.get(kind, detail["msg"])
    fix = "quote it" if kind == "string_type" and isinstance(found, (int, float)) else f"correct `{name}`"
    wrong_type = isinstance(found, str) and kind in ("int_type", "float_type", "bool_type")
    return expected, _show_quoted(found) if wrong_type else _show(found), fix


def _show_quoted(found: object) -> str:
    """Return `found` as :func:`_show` does, in quotes where it would look like a number or a truth value without."""
    looks_other = isinstance(found, str) and re.fullmatch(r"[-+0-9.eE_]+|true|false", found, re.IGNORECASE)
    return f"'{shorten(found)}'" if looks_other else _show(found)


def _show(found: object) -> str:
    if isinstance(found, (dict, list)):
        return f"{'a' if found else 'an empty'} {'mapping' if isinstance(found, dict) else 'list'}"
    if found is None:
        return "nothing"
    return str(found).lower() if isinstance(found, bool) else shorten(found)


def _fields_at(model: type[BaseModel], loc: Loc) -> list[str]:
    """Return the keys that the mapping at `loc` inside `model` may have."""
    current: Any = model
    for part in loc:
        if part not in getattr(current, "model_fields", {}):
            continue  # an index, or the tag of a union
        field_info = getattr(current, "model_fields", {}).get(part)
        current = field_info and next(iter(_models_in(field_info.annotation)), None)
    return sorted(getattr(current, "model_fields", {}))


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _models_in(part)
