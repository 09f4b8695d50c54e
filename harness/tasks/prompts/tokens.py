"""A tokenizer of one's own model, from its ``tokenizer.json``. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from harness.base.errors import FixtureError, NotImportedError, Problem
from harness.base.text import shorten, visible

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# What a tokenizer makes of these texts is pinned, so that a changed one is found out: words, spaces, numbers, signs,
# line breaks, other alphabets, and what pre-tokenizers are known to cut differently.
PROBES = (
    "Hello", " Hello", "hello world", "Hello, world!", " Mary", " John", "When Mary and John went to the store",
    "17", " 17", "1732", " 1732", "12345678", "3.14159", "1,000", "2+2=4", "a\tb", "a\nb", "a\n\nb", "a  b",
    "a   b", " ", "  ", "don't", "DON'T", "it's we'll I'm", "caf\u00e9", "na\u00efve", "\u4f60\u597d",
    "\u3053\u3093\u306b\u3061\u306f", "\u041f\u0440\u0438\u0432\u0435\u0442", "\u0645\u0631\u062d\u0628\u0627",
    "\U0001f600", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "foo_bar", "fooBar", "foo.bar()", "x = y ** 2",
    "if (a<b) { c; }", "https://example.org/a?b=c", "user@example.org", "<b>bold</b>", "\u201cquoted\u201d",
    "\u2014", "...", "!!!", "ALLCAPS", "aAaA", "antidisestablishmentarianism", "zzzzzzzz", "\r\n",
)  # fmt: skip


class Split(NamedTuple):
    """The tokens of a text, and which of its letters each one is made of."""

    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Tokens:
    """A tokenizer, and the token that is put before each prompt."""

    path: Path
    prepend: str = ""  # the token's text; empty: none is put before
    fixture: str = ""  # whose tokenizer it is

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer.

        Raises:
            FixtureError: the file is none.
        """
        if not self.path.exists():
            fix = f"fetch the model: harness fetch {self.fixture}"
            raise NotImportedError(Problem(f"the tokenizer of {self.fixture}", "no such file", fix, str(self.path)))
        return _load(self.path)

    @cached_property
    def before(self) -> tuple[int, ...]:
        """The tokens that are put before each prompt."""
        if not self.prepend:
            return ()
        found = self.tokenizer.token_to_id(self.prepend)
        if found is None:
            fix = "correct `prepend` in model.yaml"
            raise FixtureError(
                Problem("a token of the vocabulary in `prepend`", shorten(self.prepend), fix, str(self.path))
            )
        return (found,)

    def split(self, texts: Sequence[str]) -> list[Split]:
        """Return the tokens of each text, without any that the tokenizer would add."""
        found = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [Split(tuple(one.ids), tuple(one.offsets)) for one in found]

    def single(self, text: str) -> int | None:
        """Return the token that is this text; None if it is several."""
        ids = self.split([text])[0].ids
        return ids[0] if len(ids) == 1 else None

    def shown(self, ids: Iterable[int]) -> str:
        """Return tokens as they are shown: with bars between them, `When| Mary| and`."""
        return "|".join(self.texts[number] for number in ids)

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """The text of each token; what a terminal would act on is escaped, and bytes that are no text stand in hex."""
        size = self.tokenizer.get_vocab_size(with_added_tokens=True)
        decode = self.tokenizer.decode
        found = []
        for number in range(size):
            text = decode([number], skip_special_tokens=False)
            raw = self.tokenizer.id_to_token(number) or ""
            found.append(visible(raw if not text or "\ufffd" in text else text))
        return tuple(found)

    @cached_property
    def ordinary(self) -> tuple[int, ...]:
        """The tokens that are whole words or parts of words: printable letters, a space before them at the most."""
        special = {number for number, one in self.tokenizer.get_added_tokens_decoder().items() if one.special}
        return tuple(
            number for number, text in enumerate(self.texts)
            if number not in special and (word := text.removeprefix(" ")) and word.isascii() and word.isalpha()
        )  # fmt: skip


@lru_cache(maxsize=4)
def _load(path: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises a bare Exception
        raise FixtureError(Problem("a tokenizer", shorten(error, 200), "fetch the model again", str(path))) from None


def fingerprint(tokenizer: Tokenizer) -> str:
    """Return the sha256 of what a tokenizer makes of :data:`PROBES`."""
    ids = [one.ids for one in tokenizer.encode_batch(list(PROBES), add_special_tokens=False)]
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()
