"""What may stand in a spec file: its keys, their types, and the JSON schema made from them. Imports no torch.

Validated with the fixture's :class:`~harness.nodes.Shape` as context, nodes, digits and questions are read
too; without it (the fixture is unknown) only their types are checked.
"""

from __future__ import annotations

import copy
import re
from fractions import Fraction
from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Discriminator, Field, Tag, create_model
from pydantic_core import PydanticCustomError

from harness.errors import HarnessError, is_plain, shorten
from harness.nodes import read_nodes
from harness.question_sets import NAMES
from harness.selection import CASES, Stratify, TriCase, read_pair
from harness.strict import Spelled, Strict, Version, checked, expecting
from harness.tasks import task_of

DEFAULT_GATE = 0.99
# A reference set of its own: no claim's questions are drawn with this seed unless somebody writes it.
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
Method = Literal["mean", "zero", "resample"]
METHODS: tuple[Method, ...] = get_args(Method)
# What a task calls its sets and cases is its own; editors are told addition's.
SetName = Annotated[
    str, Field(examples=list(NAMES)), checked(lambda name, shape: task_of(shape.layout).check_set(name))
]
Case = Annotated[str, Field(examples=list(CASES)), checked(lambda name, shape: task_of(shape.layout).check_case(name))]


def _share(text: str) -> str:
    if Fraction(text) > 1:
        parts = {"expected": "a share of at most 1, like 7/8", "found": text, "fix": "turn it round"}
        raise PydanticCustomError("harness", "share", parts)
    return text


def _one_or_many(value: object) -> str:
    return "many" if isinstance(value, list) else "one"


NodesText = Annotated[str, checked(read_nodes)]
Nodes = Annotated[
    Annotated[NodesText, Tag("one")] | Annotated[list[NodesText], Field(min_length=1), Tag("many")],
    Discriminator(_one_or_many),
]
VariableName = Annotated[str, checked(lambda name, shape: task_of(shape.layout).read_variable(name))]
PairText = Annotated[str, checked(lambda text, shape: read_pair(text, shape.layout))]
DigitName = Annotated[str, checked(lambda name, shape: shape.layout.check_answer_digit(name))]
QuestionText = Annotated[str, checked(lambda text, shape: shape.layout.read_question(text))]
_MUTANTS = r"(head|layer|step|digit|to)[+-]1|(drop|add) [A-Za-z_][A-Za-z0-9_]*|no-op|wider|keep nothing|weights|swapped"
MutantName = Annotated[str, Field(pattern=f"^({_MUTANTS})$"), checked(lambda name, _: _check_mutant(name))]
TagName = Annotated[
    str,
    Spelled(r"^[A-Za-z][A-Za-z0-9_-]*$", "a tag of letters, digits, _ and -"),
    checked(lambda tag, _: _check_tag(tag)),
]
Cases = Annotated[
    Annotated[Case, Tag("one")] | Annotated[list[Case], Field(min_length=1), Tag("many")],
    Discriminator(_one_or_many),
]
Lengths = Annotated[
    Annotated[int, Tag("one")] | Annotated[list[int], Field(min_length=1), Tag("many")],
    Discriminator(_one_or_many),
]


# A tag becomes a pytest marker, and these do something else than mark, or cannot be selected with -m.
_RESERVED_TAGS = frozenset(
    {
        "skip", "skipif", "xfail", "parametrize", "usefixtures", "filterwarnings", "tryfirst", "trylast", "timeout",
        "flaky", "asyncio", "anyio", "benchmark", "xdist_group", "and", "or", "not", "None", "True", "False",
    }
)  # fmt: skip


def _check_mutant(name: object) -> None:
    if isinstance(name, str) and not re.fullmatch(_MUTANTS, name):
        expected = "a mutant (head+1, step-1, digit+1, drop A4, weights, …)"
        raise HarnessError.of(expected, shorten(name), "name one that --harness-mutate reports")


def _check_tag(tag: object) -> None:
    if tag in _RESERVED_TAGS:
        raise HarnessError.of("a tag that pytest does not act on", str(tag), "rename it")


ClaimId = Annotated[
    str,
    Field(max_length=100),
    Spelled(r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$", "a name of letters, digits and ._+-, without spaces"),
]
StepName = Annotated[str, checked(lambda name, shape: shape.layout.step_of(name))]
FixtureNames = Annotated[
    Annotated[Text, Tag("one")] | Annotated[list[Text], Field(min_length=1), Tag("many")], Discriminator(_one_or_many)
]
ShareText = Annotated[
    str,
    Spelled(r"^[1-9][0-9]{0,3}/[1-9][0-9]{0,3}$", "a share like 7/8"),
    AfterValidator(_share),
    expecting("a share like 7/8", lambda value: isinstance(value, str)),
]
# A bound at the end of its range could not fail, and is refused.
AtLeast = Annotated[float, Field(gt=0, le=1)]
AtMost = Annotated[float, Field(ge=0, lt=1)]


class Where(Strict):
    """Conditions on questions; all hold together, a list means any of it."""

    case: Cases | None = Field(None, description="the case; of a list, any of them")
    cascade: Lengths | None = Field(None, description="length of the longest cascade")
    columns: dict[str, TriCase] = Field({}, description='what columns sum to without a carry: {D1: "=9"}')


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
    where: Where = Field(Where(), description="which questions; all unless said")
    stratify: Stratify | None = Field(None, description="as many questions of each case, or of each cascade length")


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


class ExpectModel(RunsModel):
    """Which answer digits fail; every digit not named must stay right."""

    fails: list[DigitName] = Field(description="these digits fail; [] when nothing may")
    may_fail: list[DigitName] = Field([], description="these digits may fail or not")
    fail_rate: Rate | None = Field(None, description="`fails` fail at more than this rate (sample: 0.05)")
    intact_rate: Rate | None = Field(None, description="the others fail at less than this rate (sample: 0.01)")
    loss_below: Annotated[float, Field(gt=0)] | None = Field(None, description="nats per answer digit, mean")
    loss_above: Annotated[float, Field(ge=0)] | None = Field(None, description="nats per answer digit, mean")
    only_here: bool = Field(False, description="no other head there, and no other step, makes all of `fails` fail too")


class XfailModel(Strict):
    """A claim known to be refuted or inconclusive. Strict: if it comes out supported, that is a failure."""

    reason: Text = Field(description="why it is known")


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


class AblatingModel(ClaimModel):
    """What claims share whose nodes are ablated."""

    method: Method = Field("mean", description="what replaces a node's value")
    reference: QuestionsModel | None = Field(None, description="whose activations replace the nodes' own")
    seed: Seed | None = Field(None, description="of the donors, for `resample`")
    questions: QuestionsModel = Field(description="what is asked: a named set, a list, or a sample")
    gate: Rate = Field(DEFAULT_GATE, description="least clean accuracy on these questions")
    by_construction: bool = Field(False, description="known to be true by the model's shape alone")


class HypothesisModel(AblatingModel):
    """An ablation claim: an intervention, the questions, what is expected."""

    ablate: Nodes = Field(description="the nodes to ablate: S11L0H2, S12L0H0+H1, S0-S7, or a list")
    one_at_a_time: bool = Field(
        False, description="each node on its own; a digit fails on a question if any one node breaks it"
    )
    expect: ExpectModel = Field(description="what happens to the digits")


class KeepModel(Strict):
    """What is left of the model, by kind: of a kind that is named, everything else is ablated."""

    heads: Nodes | None = Field(None, description="the heads that stay; all other heads are ablated")
    mlps: Nodes | None = Field(None, description="the MLPs that stay; all other MLPs are ablated")
    digits: list[DigitName] = Field([], description="the digits that stay right; all of them unless named")


class KeptModel(RunsModel):
    """How right the digits stay."""

    intact_rate: Rate | None = Field(None, description="each fails at less than this rate (sample: 0.01)")
    only_here: bool = Field(False, description="each node is needed: without it, some digit does not stay right")


class KeepClaimModel(AblatingModel):
    """A sufficiency claim: these nodes are enough."""

    keep: KeepModel = Field(description="what is left")
    expect: KeptModel = Field(KeptModel(), description="how right the digits stay")


class CarryModel(Strict):
    """Which node carries which variable to which digits."""

    node: Nodes = Field(description="the node, or nodes taken together: S8L0H1")
    variable: VariableName = Field(description="D2.tricase, D4.T1, D3.base_add, D1.carry, D1.sum9, D2.carry_in")
    digits: list[DigitName] = Field(min_length=1, description="the answer digits that follow")


class PairSampleModel(Strict):
    """A random sample of pairs in which carrying the variable over changes the digits, and as many where it agrees."""

    n: SampleSize = Field(description="how many of each; `auto`: more and more, until the claim is settled")
    seed: Seed = Field(0, description="of the draw")


class FollowModel(RunsModel):
    """How often the digits follow, and the others keep their value."""

    follow_rate: Rate | None = Field(None, description="`digits` follow at more than this rate (sample: 0.9)")
    intact_rate: Rate | None = Field(None, description="the others change at less than this rate (sample: 0.01)")
    may_change: list[DigitName] = Field([], description="these digits may change or not")
    only_here: bool = Field(False, description="no other head there, and no other step, makes the digits follow too")


class PatchModel(ClaimModel):
    """An interchange claim: a node carries a variable of the task."""

    patch: CarryModel = Field(description="what is carried, by which node, to which digits")
    pairs: Annotated[
        Annotated[list[PairText], Field(min_length=1), Tag("many")] | Annotated[PairSampleModel, Tag("one")],
        Discriminator(_one_or_many),
        expecting("a list of pairs, or a sample {n: …}", lambda value: isinstance(value, (list, dict))),
    ] = Field(description="from which question into which: a list, or a sample")
    expect: FollowModel = Field(FollowModel(), description="how often the digits follow")
    gate: Rate = Field(DEFAULT_GATE, description="least clean accuracy on the questions of the pairs")


class AnsweredModel(Strict):
    """How well the clean model answers; with `than`, how much better than other fixtures."""

    accuracy_at_least: AtLeast | None = Field(None, description="fraction of the questions")
    accuracy_at_most: AtMost | None = Field(None, description="fraction of the questions")
    gain_at_least: Annotated[float, Field(gt=-1, le=1)] | None = Field(
        None, description="accuracy less that of the fixtures in `than`, fraction"
    )
    gain_at_most: Annotated[float, Field(ge=-1, lt=1)] | None = Field(None, description="the same, at most")
    loss_below: Annotated[float, Field(gt=0)] | None = Field(None, description="nats per answer digit, mean")
    loss_above: Annotated[float, Field(gt=0)] | None = Field(None, description="nats per answer digit, mean")


class AnswerModel(ClaimModel):
    """A claim about how well the clean model answers, or several of them."""

    answer: Annotated[
        Annotated[Literal["whole"], Tag("one")] | Annotated[list[DigitName], Field(min_length=1), Tag("many")],
        Discriminator(_one_or_many),
        expecting("`whole`, or a list of digits", lambda value: value == "whole" or isinstance(value, list)),
    ] = Field(description="what must be right: the answer as a `whole`, or each of these digits")
    free_running: bool = Field(False, description="the model reads its own digits, not the true ones")
    than: FixtureNames | None = Field(None, description="the fixtures that `gain_at_…` compares with")
    questions: QuestionsModel = Field(description="what is asked: a named set, a list, or a sample")
    expect: AnsweredModel = Field(description="bounds on accuracy, gain or loss")


class AttendToModel(Strict):
    """A head, or several of one step, and the steps that are looked at."""

    node: NodesText = Field(description="heads at one step: S12L0H0; of several, the mean")
    to: list[StepName] = Field(min_length=1, description="steps, or tokens by name: S3, D4, D'4")


class MassModel(RunsModel):
    """How much of the head's attention goes there: a fraction, mean over the questions."""

    mass_at_least: AtLeast | None = Field(None, description="fraction of the attention")
    mass_at_most: AtMost | None = Field(None, description="fraction of the attention")


class AttendModel(ClaimModel):
    """A claim about where a head looks."""

    attend: AttendToModel = Field(description="which head, and where it looks")
    questions: QuestionsModel = Field(description="what is asked: a named set, a list, or a sample")
    expect: MassModel = Field(description="bounds on the share of attention")
    gate: Rate = Field(DEFAULT_GATE, description="least clean accuracy on these questions")


class LearnedFirstModel(Strict):
    """Which losses fall for good below a bound first: each of `first` before each of `before`."""

    first: list[Text] = Field(min_length=1, description="series of the learning curves: A0, UC1.D2, …")
    before: list[Text] = Field(min_length=1, description="series that fall later")
    below: Annotated[float, Field(gt=0)] = Field(description="nats per digit, mean over 20 steps")


class ShareModel(Strict):
    """In how many training runs."""

    share_above: Annotated[float, Field(gt=0, lt=1)] = Field(0.5, description="of training runs like these")


class LearnModel(ClaimModel):
    """A claim about the order in which training runs learn."""

    learn: LearnedFirstModel = Field(description="which losses fall before which")
    expect: ShareModel = Field(ShareModel(), description="in how many training runs")


VERBS: dict[str, type[ClaimModel]] = {
    "ablate": HypothesisModel, "keep": KeepClaimModel, "patch": PatchModel, "answer": AnswerModel,
    "attend": AttendModel, "learn": LearnModel,
}  # fmt: skip
Rows = Annotated[list[dict[str, str | int | float | bool]], Field(min_length=1)] | None


def verb_of(claim: object) -> str:
    """Return the verb that a claim, not validated yet, is of; the first one where there is none."""
    present = [verb for verb in VERBS if isinstance(claim, dict) and verb in claim]
    return present[0] if present else "ablate"


# A claim, or with `each` one claim per row, in which `{name}` stands for the row's value.
_TEMPLATES: list[Any] = [
    Annotated[
        create_model(
            model.__name__.replace("Model", "Template"), __base__=model, __doc__=model.__doc__,
            each=(Rows, Field(None, description="one claim per row of this table, `{name}` filled in everywhere")),
        ),
        Tag(verb),
    ]
    for verb, model in VERBS.items()
]  # fmt: skip


AnyTemplate: Any = Annotated[reduce(or_, _TEMPLATES), Discriminator(verb_of)]


class FileModel(Strict):
    """A spec file: claims about one fixture."""

    version: Version = Field(description="of the format")
    fixture: Text = Field(description="the model, a directory below fixtures/")
    hypotheses: Annotated[list[AnyTemplate], Field(min_length=1)] = Field(description="the claims")


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a spec file, for editors: ``{name}`` may stand for or in any value."""
    schema = copy.deepcopy(FileModel.model_json_schema())
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "A spec of the mechanistic-interpretability test harness"
    for definition in schema["$defs"].values():
        for name, entry in definition.get("properties", {}).items():
            definition["properties"][name] = _or_placeholder(entry)
    return schema


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
