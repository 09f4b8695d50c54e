"""What tasks that prompts files define have in common, for one model's tokenizer. Imports no torch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Discriminator, Field, Tag

from harness.base.errors import HarnessError
from harness.base.text import shorten
from harness.base.validation import Strict, one_or_many
from harness.tasks.contract import AnyTask, AnyVariable
from harness.tasks.prompts.definition import Filled, Repeated
from harness.tasks.prompts.tokens import Tokens
from harness.tasks.questions import CaseStratum, NamedSet, QuestionList, Questions
from harness.tasks.where import as_list

if TYPE_CHECKING:
    import torch
    from jaxtyping import Int
    from torch import Tensor

    from harness.tasks.batch import Batch

EXAMPLES, SEED = 3, 13  # examples of a template, and the seed that draws them
GATE = 0.8  # of a language model's answers: on so many prompts it must do what is studied
SWEPT = 100  # prompts that a sweep asks by default
KnownTemplate = Annotated[str, Field(min_length=1)]


class TemplateKeys(Strict):
    """Conditions on prompts: their template; of a list, any of them."""

    template: (
        Annotated[
            Annotated[KnownTemplate, Tag("one")] | Annotated[list[KnownTemplate], Field(min_length=1), Tag("many")],
            Discriminator(one_or_many),
        ]
        | None
    ) = Field(None, description="the template; of a list, any of them")


class PromptsTask(AnyTask):
    """Prompts of a prompts file. Only what needs no tokenizer can be asked before the model is fetched."""

    where_keys = TemplateKeys

    def __init__(self, definition: Filled | Repeated, tokens: Tokens, d_vocab: int) -> None:
        self.definition, self.tokens, self._d_vocab = definition, tokens, d_vocab

    repeats = False  # whether the answers stand inside of the prompt

    def kept_values(self) -> Mapping[str, tuple[int, int]]:
        """Return for each list under `one_token` how many of its values are drawn, and how many it has."""
        return {}

    @property
    def title(self) -> str:
        """The file's name."""
        return self.definition.name

    @property
    def kind(self) -> str:
        """The file's name."""
        return f"prompts {self.definition.name}"

    @property
    def description(self) -> str:
        """What the file says that it is."""
        return self.definition.description or f"the prompts of {self.definition.name}.yaml"

    @property
    def names(self) -> tuple[str, ...]:
        """Nothing: prompts differ in length."""
        return ()

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The text of each token."""
        texts = self.tokens.texts
        return texts + tuple(f"<{number}>" for number in range(len(texts), self._d_vocab))

    @property
    def d_vocab(self) -> int:
        """Size of the model's vocabulary, which may be larger than that of its tokenizer."""
        return self._d_vocab

    @property
    def positions(self) -> tuple[str, ...]:
        """The names of positions."""
        return tuple(self.definition.positions)

    @property
    def counterparts(self) -> tuple[str, ...]:
        """The names of counterparts."""
        return tuple(self.definition.counterparts)

    @property
    def spreads(self) -> tuple[str, ...]:
        """``template``, if there are several."""
        return ("template",) if len(self.cases) > 1 else ()

    @property
    def swept(self) -> tuple[str, ...]:
        """A sample of all templates."""
        return (f"{{n: {SWEPT}{self.spread_key}}}",)

    def strata(self, where: Strict | None = None, stratify: str | None = None) -> tuple[CaseStratum, ...]:
        """Return a stratum for each named template; with `stratify` and none named, for each template."""
        keys = where if isinstance(where, TemplateKeys) else TemplateKeys(template=None)
        named = [str(name) for name in as_list(keys.template)]
        for name in named:
            if name not in self.cases:
                known = ", ".join(self.cases) or "none: it has no templates"
                raise HarnessError.of(f"a template of {self.title}", shorten(name), f"name one of {known}")
        if stratify is not None and stratify not in self.spreads:
            fix = f"write stratify: {self.spreads[0]}" if self.spreads else "leave it out"
            raise HarnessError.of(f"a stratification that {self.title} knows", shorten(stratify), fix)
        chosen = dict.fromkeys(named) or (dict.fromkeys(self.cases) if stratify else {})
        if len(chosen) > 1 and not stratify:
            raise HarnessError.of(
                "one template, or several with stratify", " or ".join(chosen), "add stratify: template"
            )
        return tuple(CaseStratum(name) for name in chosen)

    def read_variable(self, text: str) -> AnyVariable:
        """Refuse all: prompts have no causal model."""
        fix = "ablate with `method: {corrupt: NAME}` to carry values over from a counterpart"
        raise HarnessError.of(f"no variable, for {self.title} has no causal model", shorten(text), fix)

    def batch_for(self, questions: Questions) -> Batch:
        """Return the prompts that a spec asks for; a sample is determined by its seed."""
        import torch

        if isinstance(questions, NamedSet):
            return self.encode(self.question_set(questions.name))
        if isinstance(questions, QuestionList):
            return self.encode(questions.questions)
        generator = torch.Generator().manual_seed(questions.seed)
        return self.drawn(questions.n, generator, [stratum.name for stratum in questions.strata])

    @abstractmethod
    def drawn(self, n: int, generator: torch.Generator, templates: Iterable[str] = ()) -> Batch:
        """Return `n` random prompts: of all templates, or equally many of each that is named."""

    def training_batch(self, n: int, generator: torch.Generator, shares: Mapping[str, float]) -> Batch:
        """Return random prompts; nothing is trained on them here."""
        return self.drawn(n, generator)

    def varied(self, n: int, generator: torch.Generator) -> Batch:
        """Return random prompts."""
        return self.drawn(n, generator)

    def value_of(self, variable: AnyVariable, batch: Batch) -> Int[Tensor, " prompt"]:
        """Refuse: there are no variables."""
        raise NotImplementedError

    def answers_with(self, variable: AnyVariable, values: Tensor, batch: Batch) -> Int[Tensor, "prompt answer"]:
        """Refuse: there are no variables."""
        raise NotImplementedError
