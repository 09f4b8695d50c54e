"""The types and models of spec keys that all verbs share. Imports no torch.

If validation gets the fixture's :class:`~harness.specs.nodes.Shape` as context, nodes, tokens and questions are
checked against it. Without a shape (the fixture is unknown) only their types are checked.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Annotated, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, WithJsonSchema, create_model
from pydantic_core import PydanticCustomError

from harness.base.errors import HarnessError
from harness.base.ranges import ObservedRange
from harness.base.text import is_plain, shorten
from harness.base.validation import ByContext, Spelled, Strict, checked, expecting, one_or_many
from harness.specs.methods import Method
from harness.specs.nodes import Shape, read_nodes
from harness.tasks.questions import read_pair
from harness.tasks.registry import every_shipped

DEFAULT_GATE = 0.99
# The default reference sample. Its seed is unusual, so that no claim's questions are drawn with it by accident.
REFERENCE_N, REFERENCE_SEED = 1000, 271828


def _one_line(text: str) -> str:
    text = text.strip("\n")
    if not text.strip() or not is_plain(text):
        parts = {"expected": "a line of printable text", "found": shorten(text), "fix": "rewrite it"}
        raise PydanticCustomError("harness", "text", parts)
    return text


Text = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_one_line)]
Rate = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
# Each task has its own names for sets; the JSON schema shows those that ship as examples.
SetName = Annotated[
    str,
    Field(examples=[name for family in every_shipped() for name in family.sets]),
    checked(lambda name, shape: shape.task.check_set(name)),
]


def _share(text: str) -> str:
    if Fraction(text) > 1:
        parts = {"expected": "a share of at most 1, like 7/8", "found": text, "fix": "turn it round"}
        raise PydanticCustomError("harness", "share", parts)
    return text


NodesText = Annotated[str, checked(read_nodes)]
NodeNames = Annotated[
    Annotated[NodesText, Tag("one")] | Annotated[list[NodesText], Field(min_length=1), Tag("many")],
    Discriminator(one_or_many),
]
VariableName = Annotated[
    str,
    Field(examples=[name for family in every_shipped() for name in family.variables]),
    checked(lambda name, shape: shape.task.read_variable(name)),
]
PairText = Annotated[str, checked(lambda text, shape: read_pair(text, shape.task))]
AnswerToken = Annotated[str, checked(lambda name, shape: shape.task.check_answer_token(name))]
QuestionText = Annotated[str, checked(lambda text, shape: shape.task.read_question(text))]
_MUTANTS = (
    r"[a-z ]+[+-]1|(drop|add) [A-Za-z_][A-Za-z0-9_]*|no-op|wider|keep nothing|weights|swapped|(without|variable) .+"
)


def _check_mutant(name: object, shape: Shape) -> None:
    noun = shape.task.nouns.token
    what, _, changed = name.partition(" ") if isinstance(name, str) else ("", "", "")
    if what == "variable" and changed:
        shape.task.read_variable(changed)
        return
    if what == "without" and changed:
        (node, *others) = read_nodes(changed, shape)
        if others or str(node) != changed:
            raise HarnessError.of("one node, as --harness-mutate spells it", shorten(changed), f"write {node}")
        return
    moved = rf"(head|layer|step|{re.escape(noun)}|to)[+-]1"
    if isinstance(name, str) and not re.fullmatch(moved if name[-2:] in ("+1", "-1") else _MUTANTS, name):
        token = shape.task.answer_tokens[:2][-1]
        expected = f"a mutant (head+1, step-1, {noun}+1, drop {token}, weights, …)"
        raise HarnessError.of(expected, shorten(name), "name one that --harness-mutate reports")


MutantName = Annotated[str, Field(pattern=f"^({_MUTANTS})$"), checked(_check_mutant)]
TagName = Annotated[
    str,
    Spelled(r"^[A-Za-z][A-Za-z0-9_-]*$", "a tag of letters, digits, _ and -"),
    checked(lambda tag, _: _check_tag(tag)),
]
# A tag becomes a pytest marker. These names already act in pytest, or cannot be selected with -m.
_RESERVED_TAGS = frozenset(
    {
        "skip", "skipif", "xfail", "parametrize", "usefixtures", "filterwarnings", "tryfirst", "trylast", "timeout",
        "flaky", "asyncio", "anyio", "benchmark", "xdist_group", "and", "or", "not", "None", "True", "False",
    }
)  # fmt: skip


def _check_tag(tag: object) -> None:
    if tag in _RESERVED_TAGS:
        raise HarnessError.of("a tag that pytest does not act on", str(tag), "rename it")


ClaimId = Annotated[
    str,
    Field(max_length=100),
    Spelled(r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$", "a name of letters, digits and ._+-, without spaces"),
]
StepName = Annotated[str, checked(lambda name, shape: name in shape.task.positions or shape.task.step_of(name))]
FixtureNames = Annotated[
    Annotated[Text, Tag("one")] | Annotated[list[Text], Field(min_length=1), Tag("many")], Discriminator(one_or_many)
]
ShareText = Annotated[
    str,
    Spelled(r"^[1-9][0-9]{0,3}/[1-9][0-9]{0,3}$", "a share like 7/8"),
    AfterValidator(_share),
    expecting("a share like 7/8", lambda value: isinstance(value, str)),
]
# The end of the range that every value satisfies is excluded: such a bound could not fail.
AtLeast = Annotated[float, Field(gt=0, le=1)]
AtMost = Annotated[float, Field(ge=0, lt=1)]
LossBound = Annotated[
    Annotated[float, Field(gt=0)] | None,
    Field(description="nats per answer token, mean; of a sample, each question's is capped at ln(vocabulary size)"),
]


# Each task has its own keys of `where`. Editors, and whoever names no fixture, know those of the families that ship.
def _every_where() -> type[Strict]:
    parts = [family.where for family in every_shipped()]
    said = " ".join(filter(None, (part.__doc__ for part in parts)))
    return create_model("Where", __base__=tuple(parts), __doc__=said)


Where = _every_where()


def _where_of(shape: Shape | None) -> type[Strict]:
    return Where if shape is None else shape.task.where_keys


_SPREADS = list(dict.fromkeys(key for family in every_shipped() for key in family.spreads))


def _check_stratify(key: object, shape: Shape) -> None:
    known = dict.fromkeys((*shape.task.spreads, *_SPREADS))  # what this task lacks of them, it refuses in its own words
    if key not in known:
        raise HarnessError.of(" or ".join(known), shorten(key), "correct `stratify`")


Stratify = Annotated[str, WithJsonSchema({"enum": _SPREADS, "type": "string"}), checked(_check_stratify)]


def _size_or_auto(value: object) -> str:
    return "auto" if isinstance(value, str) else "n"


SampleSize = Annotated[
    Annotated[int, Field(ge=1, le=1_000_000), Tag("n")] | Annotated[Literal["auto"], Tag("auto")],
    Discriminator(_size_or_auto),
    expecting("a whole number, or auto", lambda value: value == "auto" or not isinstance(value, str)),
]


class SampleModel(Strict):
    """A random sample: `n` questions, uniform or as described."""

    n: SampleSize = Field(description="how many; `auto`: more and more, until the claim is settled")
    seed: Seed = Field(0, description="of the draw")
    where: Annotated[Strict, ByContext(_where_of, Where)] = Field(
        Where(), description="which questions; all unless said"
    )
    stratify: Stratify | None = Field(
        None, description="as many questions of each case, or of each kind that the task knows besides"
    )


class CorruptModel(Strict):
    """Each prompt's own counterpart."""

    corrupt: Annotated[str, checked(lambda name, shape: shape.task.check_counterpart(name))] = Field(
        description="the counterpart's name, of those that the task has"
    )


class NoiseModel(Strict):
    """Noise on a node's own value, drawn for each prompt."""

    noise: Annotated[float, Field(gt=0, le=100)] = Field(
        description="its standard deviation, as a multiple of the value's own over prompts of the task: 3"
    )


def _kind_of_method(value: object) -> str:
    if isinstance(value, NoiseModel) or (isinstance(value, dict) and "noise" in value):
        return "noise"
    return "many" if isinstance(value, dict | CorruptModel) else "one"


MethodKey = Annotated[
    Annotated[Method, Tag("one")] | Annotated[CorruptModel, Tag("many")] | Annotated[NoiseModel, Tag("noise")],
    Discriminator(_kind_of_method),
]


def _shape_of_questions(value: object) -> str:
    return "set" if isinstance(value, str) else "list" if isinstance(value, list) else "sample"


QuestionsModel = Annotated[
    Annotated[SetName, Tag("set")]
    | Annotated[list[QuestionText], Field(min_length=1), Tag("list")]
    | Annotated[SampleModel, Tag("sample")],
    Discriminator(_shape_of_questions),
    expecting("a named set, a list or a sample {n: …}", lambda value: isinstance(value, (str, list, dict))),
]


class AskedModel(Strict):
    """Questions on their own, as the command line takes them."""

    questions: QuestionsModel


class RunsModel(Strict):
    """In how many of the fixtures that are asked."""

    at_least: ShareText | None = Field(None, description="with `fixtures`: in what share of them it holds: 7/8")


class XfailModel(Strict):
    """A claim known to be refuted or inconclusive. Strict: if it is supported, or moves out of a range, it fails."""

    reason: Text = Field(description="why it is known")
    verdict: Literal["refuted", "inconclusive", "vacuous"] | None = Field(
        None, description="the verdict that is expected; another one fails"
    )
    observed: dict[Text, ObservedRange] = Field(
        {}, description="by subject (A5, jointly, loss, training runs, …) the range of what is seen: [5%, 12%]"
    )


class ClaimModel(Strict):
    """What every claim has."""

    id: ClaimId = Field(description="its name, once in a file")
    claim: Text = Field(description="the claim in a sentence")
    source: Text | None = Field(None, description="who claims it, and where")
    xfail: XfailModel | None = Field(None, description="known to be refuted or inconclusive; strict")
    tags: list[TagName] = Field([], description="pytest markers")
    recorded: bool = Field(False, description="what was seen is written down, not predicted; drafts begin so")
    fixtures: FixtureNames | None = Field(None, description="the fixtures that are asked, each; globs are fine")
    survivors: dict[MutantName, Text] = Field({}, description="mutants of the claim that hold as well, each with why")
