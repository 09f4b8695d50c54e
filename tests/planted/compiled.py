"""A model whose inside is known, because a compiler made it: a RASP program that adds two numbers of two digits.

Layout ``S0 = D1, S1 = D0, S2 = +, S3 = D'1, S4 = D'0, S5 = '=', S6 = A2, S7 = A1``; S5 predicts A2, S6 A1, S7 A0. The
program, whose every line becomes a head or units of an MLP (:func:`places` says which)::

    own_x, own_y   the two digits of the column: D1 and D'1 at S5 and S6, D0 and D'0 at S7
    low_x, low_y   those of the column below: D0 and D'0 at S5 and S6; at S7 there is none, and both fetch the +
    own            own_x + own_y
    carry          low_x + low_y >= 10; no carry from what is no digit
    whole          own + carry
    answer         the tens of `whole` at S5, else its units

The compiler's models differ from those here in three ways, and :func:`converted` makes up for each:

- They begin with a token of the compiler's own, at which heads look that find nothing. Here there is none, and such
  heads, which are all at S0 to S4, look everywhere; nothing reads what they write. So the token is left out.
- They have no layer norm. Here every residual stream has, beside the compiler's coordinates, a large constant and its
  negative, and one coordinate that makes the sum zero: so the mean is zero, and the spread that of the constant but for
  a few parts in a hundred thousand, whatever head or MLP is cut. The norm is a fixed scaling, which the weights undo.
- They say what has no value by chance of the order of their outputs. Here it is 0, by a small bias.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tracr.compiler import compiling
from tracr.compiler.assemble import AssembledTransformerModel
from tracr.rasp import rasp

from harness.engines.transformer import EPSILON
from harness.models.bridge import expected_tensors
from harness.specs.fixtures.recipe import Recipe
from harness.tasks.addition.task import Addition

LAYOUT = Addition(2)
BOS = "bos"  # the token of the compiler's own
POSITIONS = 13  # of the compiled model: a head of this compiler must have room for as many positions as tokens
CONSTANT = 1000.0
VARIABLES = ("own_x", "own_y", "low_x", "low_y", "own", "carry", "whole", "answer")
FETCHED = {
    "own_x": {5: "D1", 6: "D1", 7: "D0"}, "own_y": {5: "D'1", 6: "D'1", 7: "D'0"},
    "low_x": {5: "D0", 6: "D0", 7: "+"}, "low_y": {5: "D'0", 6: "D'0", 7: "+"},
}  # fmt: skip


def program() -> rasp.SOp:
    """Return the program, over the harness's own tokens: 0 to 9 are digits, the others are none."""
    fetched = {name: fetch(table).named(name) for name, table in FETCHED.items()}
    own = rasp.SequenceMap(lambda x, y: x + y if max(x, y) < 10 else 0, fetched["own_x"], fetched["own_y"])
    carry = rasp.SequenceMap(lambda x, y: int(max(x, y) < 10 <= x + y), fetched["low_x"], fetched["low_y"])
    whole = rasp.SequenceMap(lambda total, carried: total + carried, own.named("own"), carry.named("carry"))
    answer = rasp.SequenceMap(
        lambda total, step: total // 10 if step == 5 else total % 10, whole.named("whole"), rasp.indices
    )
    return answer.named("answer")


def fetch(table: dict[int, str]) -> rasp.SOp:
    """Return what copies, at each step in `table`, the token of that name."""
    steps = {step: LAYOUT.names.index(name) for step, name in table.items()}
    return rasp.Aggregate(rasp.Select(rasp.indices, rasp.indices, lambda k, q: k == steps.get(q)), rasp.tokens)


def by_hand(question: str, step: int, instead: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return every variable of the program at a step of ``36+58``: None is nothing at all, ``+`` what is no digit.

    Written apart from the program, for what should come out. `instead` has values for some in place of their own. What misses a part of itself is None.
    """
    x1, x0, y1, y0 = (int(question[i]) for i in (0, 1, 3, 4))
    value = dict(zip(FETCHED, (x0, y0, "+", "+") if step == 7 else (x1, y1, x0, y0), strict=True))
    instead = instead or {}

    def put(name: str, parts: tuple[str, ...], function: Callable[..., int]) -> None:
        found = [value[part] for part in parts]
        value[name] = instead[name] if name in instead else None if None in found else function(*found)

    value.update({name: instead[name] for name in FETCHED if name in instead})
    put("own", ("own_x", "own_y"), lambda x, y: x + y)
    put("carry", ("low_x", "low_y"), lambda x, y: 0 if "+" in (x, y) else (x + y) // 10)
    put("whole", ("own", "carry"), lambda own, carry: own + carry)
    put("answer", ("whole",), lambda whole: whole // 10 if step == 5 else whole % 10)
    return value


def said(question: str, step: int, instead: dict[str, Any] | None = None) -> int:
    """Return the digit that is said at a step: 0 where there is no answer."""
    return by_hand(question, step, instead)["answer"] or 0


def answer(question: str) -> list[int]:
    """Return the digits of a question's answer, highest first."""
    x, y = question.split("+")
    return [int(digit) for digit in f"{int(x) + int(y):03d}"]


def compiled() -> AssembledTransformerModel:
    """Return the compiler's model of the program."""
    vocabulary = set(range(LAYOUT.d_vocab))
    return compiling.compile_rasp_to_model(program(), vocabulary, POSITIONS, causal=True, compiler_bos=BOS)


def variables(model: AssembledTransformerModel) -> list[str]:
    """Return which of the program's variables each coordinate of the compiler's residual stream is of."""
    return [re.sub(r"_\d+$", "", label.partition(":")[0]) for label in model.residual_labels]


def places(model: AssembledTransformerModel) -> dict[str, str]:
    """Return which head or MLP computes each variable, as ``L0H2`` or ``L1M``: the one that writes its coordinates.

    A part that writes nothing is in none.
    """
    found: dict[str, str] = {}
    of = np.array(variables(model))
    for layer in range(model.model_config.num_layers):
        heads = np.split(weight(model, layer, "attn/linear"), model.model_config.num_heads)
        parts = {f"L{layer}H{head}": written for head, written in enumerate(heads)}
        for place, written in (parts | {f"L{layer}M": weight(model, layer, "mlp/linear_2")}).items():
            for variable in set(of[written.any(axis=0)].tolist()):
                assert variable not in found, f"{variable} is written twice"
                found[variable] = place
    return found


def weight(model: AssembledTransformerModel, layer: int, part: str, kind: str = "w") -> np.ndarray[Any, Any]:
    """Return a matrix (``kind="b"``: a bias) of one layer."""
    return np.array(model.params[f"transformer/layer_{layer}/{part}"][kind], dtype=np.float64)


def sizes(model: AssembledTransformerModel) -> dict[str, int]:
    """Return the sizes of a recipe that the converted model fits."""
    config = model.model_config
    width = len(model.residual_labels) + 3  # the constant, its negative, and what makes the sum zero
    return {
        "n_digits": LAYOUT.n_digits, "n_layers": config.num_layers, "n_heads": config.num_heads,
        "d_model": math.ceil(width / config.num_heads) * config.num_heads, "d_mlp": config.mlp_hidden_size,
    }  # fmt: skip


@dataclass(frozen=True)
class Stream:
    """How the compiler's residual stream lies in the harness's: its `n` coordinates first, then those of the norm."""

    n: int
    d_model: int

    @property
    def spread(self) -> float:
        """What the layer norm divides by."""
        return math.sqrt(2 * CONSTANT**2 / self.d_model + EPSILON)

    def write(self, values: np.ndarray[Any, Any]) -> Tensor:
        """Return what adds these values (``… n``) and keeps the sum zero: ``… d_model``."""
        rest = np.zeros((*values.shape[:-1], self.d_model - self.n))
        rest[..., 0] = -values.sum(axis=-1)
        return torch.tensor(np.concatenate([values, rest], axis=-1), dtype=torch.float32)

    def read(self, matrix: np.ndarray[Any, Any]) -> Tensor:
        """Return what reads, behind the layer norm, what `matrix` (``n m``) reads of the stream: ``d_model m``."""
        below = np.zeros((self.d_model - self.n, matrix.shape[1]))
        return torch.tensor(np.concatenate([matrix * self.spread, below]), dtype=torch.float32)


def converted(model: AssembledTransformerModel, recipe: Recipe) -> dict[str, Tensor]:
    """Return the weights of the compiled model, float32, under TransformerLens's names."""
    w = {name: torch.zeros(shape) for name, shape in expected_tensors(recipe).items()}
    for name in w:
        if name.endswith(".w"):
            w[name] += 1  # the layer norms
    stream, config = Stream(len(model.residual_labels), recipe.model.d_model), model.model_config
    tokens, steps = (np.array(model.params[name]["embeddings"]) for name in ("token_embed", "pos_embed"))
    rows = [model.input_encoder.encoding_map[token] for token in range(recipe.task.d_vocab)]
    w["embed.W_E"] = stream.write(tokens[rows])
    w["pos_embed.W_pos"] = stream.write(steps[1 : recipe.task.n_ctx + 1])  # the first is that of the token left out
    w["pos_embed.W_pos"][:, -2] += CONSTANT
    w["pos_embed.W_pos"][:, -1] -= CONSTANT

    size = config.key_size
    for layer in range(recipe.model.n_layers):
        for part in ("attn/query", "attn/key", "attn/value", "attn/linear", "mlp/linear_1", "mlp/linear_2"):
            assert not weight(model, layer, part, "b").any(), "this compiler gives no bias but through its `one`"
        block = f"blocks.{layer}"
        # Both divide a head's logits by the root of its width, which is another here.
        for part, letter, scale in (
            ("query", "Q", math.sqrt(recipe.model.d_head / size)),
            ("key", "K", 1),
            ("value", "V", 1),
        ):
            read = stream.read(weight(model, layer, f"attn/{part}") * scale)
            w[f"{block}.attn.W_{letter}"][:, :, :size] = read.unflatten(1, (recipe.model.n_heads, size)).transpose(0, 1)
        written = stream.write(weight(model, layer, "attn/linear"))
        w[f"{block}.attn.W_O"][:, :size] = written.unflatten(0, (recipe.model.n_heads, size))
        w[f"{block}.mlp.W_in"] = stream.read(weight(model, layer, "mlp/linear_1"))
        w[f"{block}.mlp.W_out"] = stream.write(weight(model, layer, "mlp/linear_2"))

    answers = np.zeros((stream.n, recipe.task.d_vocab))
    for coordinate, (variable, label) in enumerate(zip(variables(model), model.residual_labels, strict=True)):
        if variable == "answer":
            answers[coordinate, int(label.partition(":")[2])] = 1
    w["unembed.W_U"] = stream.read(answers)
    w["unembed.b_U"][0] = 1e-4
    w["unembed.b_U"][10:] = -1  # what is no digit is never said
    return w
