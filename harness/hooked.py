"""The reference engine: interventions through TransformerLens's hook points, on any model it can boot.

Nothing clever: the whole model runs for every question and every intervention, which is what makes it the
engine that others are compared with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness.addition import answer_loss, answers
from harness.errors import MeasurementError, Problem
from harness.fixtures import Fixture
from harness.interventions import Intervention
from harness.nodes import Node, Shape

BATCH = 128  # questions per forward pass; about where two CPU cores are fastest
Hook = Callable[[Tensor], Tensor | None]


@dataclass(frozen=True)
class Outcome:
    """What the model answered, teacher-forced, at the steps that predict answer digits (highest first)."""

    predicted: Int[Tensor, "question digit"]
    true_logit: Float[Tensor, "question digit"]
    loss: Float[Tensor, "question digit"]  # nats, float64


def hook_point(node: Node) -> str:
    """Return the name of the hook point whose value contains the node's."""
    return (
        f"blocks.{node.layer}." + {"head": "attn.hook_z", "mlp": "hook_mlp_out", "resid": "hook_resid_post"}[node.kind]
    )


def index_of(node: Node) -> tuple[slice, int] | tuple[slice, int, int]:
    """Return where in its hook point's value, (question, pos, …), the node stands."""
    return (slice(None), node.step, node.head) if node.kind == "head" else (slice(None), node.step)


def all_nodes(shape: Shape) -> Iterator[Node]:
    """Yield every single node of a model: heads, MLP and residual stream of each layer and step."""
    for step in range(shape.layout.n_ctx):
        for layer in range(shape.n_layers):
            for head in range(shape.n_heads):
                yield Node(step, layer, "head", head)
            yield Node(step, layer, "mlp")
            yield Node(step, layer, "resid")


def width(node: Node, fixture: Fixture) -> int:
    """Return the number of components of the node's value."""
    return fixture.recipe.d_head if node.kind == "head" else fixture.recipe.d_model


@torch.inference_mode()
def run(
    fixture: Fixture,
    tokens: Int[Tensor, "question pos"],
    intervention: Intervention | None = None,
    batch_size: int = BATCH,
) -> Outcome:
    """Return the model's answers to the questions in `tokens`, with `intervention` or clean. Results are on the CPU.

    Raises:
        MeasurementError: no questions, a hook that did not fire, or a logit that is not finite.
    """
    layout = fixture.layout
    parts = []
    for questions in _batches(len(tokens), batch_size):
        batch = tokens[questions]
        logits = _forward(fixture, batch, _replacing(fixture, intervention, questions))
        at_answers = logits[:, layout.answer_start - 1 : -1]
        if not bool(torch.isfinite(at_answers).all()):
            raise MeasurementError(
                Problem("finite logits", "nan or infinity", f"check the weights of {fixture.name}", fixture.name)
            )
        truth = answers(batch, layout).to(logits.device)
        true_logit = at_answers.gather(-1, truth.unsqueeze(-1)).squeeze(-1)
        loss = answer_loss(at_answers, truth)
        parts.append((at_answers.argmax(-1).cpu(), true_logit.cpu(), loss.cpu()))
    predicted, true_logits, losses = (torch.cat(column) for column in zip(*parts, strict=True))
    return Outcome(predicted, true_logits, losses)


@torch.inference_mode()
def capture(
    fixture: Fixture, tokens: Int[Tensor, "question pos"], nodes: Iterable[Node], batch_size: int = BATCH
) -> dict[Node, Float[Tensor, "question d"]]:
    """Return the clean values of `nodes` on every question, on the CPU.

    Raises:
        MeasurementError: no questions, or a hook that did not fire.
    """
    wanted = sorted(set(nodes))
    found: dict[Node, list[Tensor]] = {node: [] for node in wanted}
    for questions in _batches(len(tokens), batch_size):
        _forward(
            fixture,
            tokens[questions],
            _recording(wanted, lambda node, value: found[node].append(value.cpu())),
        )
    return {node: torch.cat(values) for node, values in found.items()}


@torch.inference_mode()
def capture_means(
    fixture: Fixture, tokens: Int[Tensor, "question pos"], batch_size: int = BATCH
) -> dict[Node, Float[Tensor, " d"]]:
    """Return the mean clean value of every node of the model over the questions, on the CPU.

    Sums are kept in float64, so that the mean does not depend on how questions fall into batches.

    Raises:
        MeasurementError: no questions, or a hook that did not fire.
    """
    sums: dict[Node, Tensor] = {}

    def add(node: Node, value: Tensor) -> None:
        total = value.double().sum(0)
        sums[node] = sums[node] + total if node in sums else total

    for questions in _batches(len(tokens), batch_size):
        _forward(fixture, tokens[questions], _recording(list(all_nodes(fixture.shape)), add))
    return {node: (total / len(tokens)).float().cpu() for node, total in sums.items()}


@torch.inference_mode()
def generate(
    fixture: Fixture, tokens: Int[Tensor, "question pos"], batch_size: int = BATCH
) -> Int[Tensor, "question digit"]:
    """Return the answers of the free-running model: each digit it says is what it reads next."""
    layout = fixture.layout
    parts = []
    for questions in _batches(len(tokens), batch_size):
        context = tokens[questions].clone()
        for step in range(layout.answer_start, layout.n_ctx):
            context[:, step] = _forward(fixture, context, {})[:, step - 1].argmax(-1).cpu()
        parts.append(answers(context, layout))
    return torch.cat(parts)


def _batches(n: int, size: int) -> Iterator[slice]:
    if n == 0:
        raise MeasurementError(Problem("at least one question", "none", "ask some"))
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def _forward(fixture: Fixture, tokens: Tensor, hooks: dict[str, Hook]) -> Float[Tensor, "question pos vocab"]:
    """Run the model with one hook per hook point, and see to it that each fired exactly once."""
    fired: Counter[str] = Counter()

    def counting(name: str, change: Hook) -> Callable[..., Tensor | None]:
        def call(value: Tensor, hook: object) -> Tensor | None:  # TransformerLens passes `hook` by name
            fired[name] += 1
            return change(value)

        return call

    logits: Tensor = fixture.model.run_with_hooks(
        tokens.to(fixture.device), fwd_hooks=[(name, counting(name, hook)) for name, hook in hooks.items()]
    )
    for name in hooks:
        if fired[name] != 1:
            raise MeasurementError(
                Problem(
                    f"the hook at {name} to fire once",
                    f"{fired[name]} times",
                    "check the model's hook points",
                    fixture.name,
                )
            )
    return logits


def _by_hook_point(nodes: Iterable[Node]) -> dict[str, list[Node]]:
    grouped: dict[str, list[Node]] = {}
    for node in nodes:
        grouped.setdefault(hook_point(node), []).append(node)
    return grouped


def _replacing(fixture: Fixture, intervention: Intervention | None, questions: slice) -> dict[str, Hook]:
    def hook_for(nodes: list[Node], change: Intervention) -> Hook:
        def hook(value: Tensor) -> Tensor:
            changed = value.clone()
            for node in nodes:
                changed[index_of(node)] = change.at(node, questions).to(value.device)
            return changed

        return hook

    if intervention is None:
        return {}
    return {name: hook_for(nodes, intervention) for name, nodes in _by_hook_point(intervention.nodes).items()}


def _recording(nodes: list[Node], record: Callable[[Node, Tensor], None]) -> dict[str, Hook]:
    def hook_for(nodes: list[Node]) -> Hook:
        def hook(value: Tensor) -> None:
            for node in nodes:
                record(node, value[index_of(node)])

        return hook

    return {name: hook_for(group) for name, group in _by_hook_point(nodes).items()}
