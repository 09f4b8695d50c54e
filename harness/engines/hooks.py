"""The reference engine: interventions at TransformerLens's hook points, on any model that TransformerLens can boot.

It is deliberately simple: the whole model runs for every question and every intervention. So other engines are
compared with this one.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness.base.errors import MeasurementError, Problem
from harness.engines.interventions import Intervention
from harness.engines.predictions import Outcome, batches, join, outcome_of
from harness.models.fixtures import Fixture
from harness.specs.nodes import Node, all_nodes
from harness.tasks.answers import answers

CHUNK = 128  # questions per forward pass; about the fastest size on two CPU cores
Hook = Callable[[Tensor], Tensor | None]


def hook_point(node: Node) -> str:
    """Return the name of the hook point whose value contains the node's value."""
    return (
        f"blocks.{node.layer}." + {"head": "attn.hook_z", "mlp": "hook_mlp_out", "resid": "hook_resid_post"}[node.kind]
    )


def index_of(node: Node) -> tuple[slice, int] | tuple[slice, int, int]:
    """Return the index of the node in the value of its hook point, whose axes are (question, pos, …)."""
    return (slice(None), node.step, node.head) if node.kind == "head" else (slice(None), node.step)


def refusal(fixture: Fixture) -> str | None:
    """Return None: this engine runs any model that TransformerLens can boot."""
    return None


@torch.inference_mode()
def run(
    fixture: Fixture,
    tokens: Int[Tensor, "question pos"],
    interventions: Sequence[Intervention],
    chunk: int | None = None,
) -> list[Outcome]:
    """Return the outcome of each intervention on all questions; an intervention without nodes is the clean run.

    Results are on the CPU. Each forward pass has at most `chunk` questions.

    Raises:
        MeasurementError: there are no questions, or a hook did not fire exactly once.
    """
    parts: list[list[Outcome]] = [[] for _ in interventions]
    for questions in batches(len(tokens), chunk or CHUNK):
        batch = tokens[questions]
        for change, found in zip(interventions, parts, strict=True):
            begun = time.perf_counter()
            logits = _forward(fixture, batch, _replacing(fixture, change, questions))
            outcome = _outcome(fixture, batch, logits)
            found.append(replace(outcome, seconds=time.perf_counter() - begun))
    return [join(found) for found in parts]


@torch.inference_mode()
def capture(
    fixture: Fixture, tokens: Int[Tensor, "question pos"], nodes: Iterable[Node], chunk: int | None = None
) -> tuple[Outcome, dict[Node, Float[Tensor, "question d"]]]:
    """Return the clean outcome, and the clean values of `nodes` on every question, on the CPU.

    Raises:
        MeasurementError: there are no questions, or a hook did not fire exactly once.
    """
    wanted = sorted(set(nodes))
    found: dict[Node, list[Tensor]] = {node: [] for node in wanted}
    hooks = _recording(wanted, lambda node, value: found[node].append(value.cpu()))
    return _watched(fixture, tokens, hooks, chunk), {node: torch.cat(values) for node, values in found.items()}


@torch.inference_mode()
def capture_means(
    fixture: Fixture, tokens: Int[Tensor, "question pos"], chunk: int | None = None
) -> dict[Node, Float[Tensor, " d"]]:
    """Return the mean clean value over the questions, for every node of the model, on the CPU.

    Sums are in float64, so that the mean does not depend on how the questions are split into batches.

    Raises:
        MeasurementError: there are no questions, or a hook did not fire exactly once.
    """
    sums: dict[Node, Tensor] = {}

    def add(node: Node, value: Tensor) -> None:
        total = value.double().sum(0)
        sums[node] = sums[node] + total if node in sums else total

    for questions in batches(len(tokens), chunk or CHUNK):
        _forward(fixture, tokens[questions], _recording(list(all_nodes(fixture.shape)), add))
    return {node: (total / len(tokens)).float().cpu() for node, total in sums.items()}


@torch.inference_mode()
def attention(
    fixture: Fixture, tokens: Int[Tensor, "question pos"], nodes: Iterable[Node], chunk: int | None = None
) -> tuple[Outcome, dict[Node, Float[Tensor, "question key"]]]:
    """Return the clean outcome, and each head's attention pattern at its step: one weight per question and key.

    Both are on the CPU.

    Raises:
        MeasurementError: there are no questions, or a hook did not fire exactly once.
    """
    found: dict[Node, list[Tensor]] = {node: [] for node in sorted(set(nodes))}

    def recording(layer: int) -> Hook:
        def record(pattern: Tensor) -> None:
            for node, patterns in found.items():
                if node.layer == layer:
                    patterns.append(pattern[:, node.head, node.step].cpu())

        return record

    hooks = {f"blocks.{layer}.attn.hook_pattern": recording(layer) for layer in {node.layer for node in found}}
    return _watched(fixture, tokens, hooks, chunk), {node: torch.cat(patterns) for node, patterns in found.items()}


@torch.inference_mode()
def generate(
    fixture: Fixture, tokens: Int[Tensor, "question pos"], chunk: int | None = None
) -> Int[Tensor, "question digit"]:
    """Return the answers of the free-running model: each digit that it predicts becomes its next input token."""
    layout = fixture.layout
    parts = []
    for questions in batches(len(tokens), chunk or CHUNK):
        context = tokens[questions].clone()
        for step in range(layout.answer_start, layout.n_ctx):
            context[:, step] = _forward(fixture, context, {})[:, step - 1].argmax(-1).cpu()
        parts.append(answers(context, layout))
    return torch.cat(parts)


def _watched(fixture: Fixture, tokens: Tensor, hooks: dict[str, Hook], chunk: int | None) -> Outcome:
    """Return the clean outcome on all questions, while hooks that change nothing look on."""
    outcomes = []
    for questions in batches(len(tokens), chunk or CHUNK):
        logits = _forward(fixture, tokens[questions], hooks)
        outcomes.append(_outcome(fixture, tokens[questions], logits))
    return join(outcomes)


def _forward(fixture: Fixture, tokens: Tensor, hooks: dict[str, Hook]) -> Float[Tensor, "question pos vocab"]:
    """Return the logits of a run with these hooks, one per hook point; check that each fired exactly once."""
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


def _outcome(fixture: Fixture, tokens: Tensor, logits: Float[Tensor, "question pos vocab"]) -> Outcome:
    truth = answers(tokens, fixture.layout).to(fixture.device)
    return outcome_of(logits[:, fixture.layout.answer_start - 1 : -1], truth)


def _by_hook_point(nodes: Iterable[Node]) -> dict[str, list[Node]]:
    grouped: dict[str, list[Node]] = {}
    for node in nodes:
        grouped.setdefault(hook_point(node), []).append(node)
    return grouped


def _replacing(fixture: Fixture, change: Intervention, questions: slice) -> dict[str, Hook]:
    def hook_for(nodes: list[Node]) -> Hook:
        def hook(value: Tensor) -> Tensor:
            changed = value.clone()
            for node in nodes:
                changed[index_of(node)] = change.at(node, questions).to(value.device)
            return changed

        return hook

    return {name: hook_for(nodes) for name, nodes in _by_hook_point(change.nodes).items()}


def _recording(nodes: list[Node], record: Callable[[Node, Tensor], None]) -> dict[str, Hook]:
    def hook_for(nodes: list[Node]) -> Hook:
        def hook(value: Tensor) -> None:
            for node in nodes:
                record(node, value[index_of(node)])

        return hook

    return {name: hook_for(group) for name, group in _by_hook_point(nodes).items()}
