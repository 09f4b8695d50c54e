"""Write the model card of a fixture: its model, its source, and its accuracy when it was pinned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tabulate import tabulate

from harness.base.text import markdown_table
from harness.specs.fixtures.files import CURVES
from harness.specs.fixtures.pins import Accuracy, Pin
from harness.specs.fixtures.recipe import OwnModel, Recipe
from harness.tasks.positions import Positions

if TYPE_CHECKING:
    from harness.training.curves import Curves

PER_TASK = "![Loss of each sub-task](curves-per-task.png)\n"


def model_card(recipe: Recipe, pin: Pin, curves: Curves | None = None) -> str:
    """Return the Markdown model card of a fixture; `curves` are given if its weights were trained here."""
    task, nouns = recipe.task, recipe.task.nouns
    facts = [
        ("task", f"{task.description} (n_ctx {task.n_ctx})"),
        *(_how_built(recipe.model) if isinstance(recipe.model, OwnModel) else _how_trained(recipe)),
        ("source", _source(pin)),
        ("weights", f"`model.safetensors`, sha256 `{pin.weights_sha256}`"),
    ]
    note = f"\n{pin.provenance.note}\n" if pin.provenance and pin.provenance.note else ""
    return f"""# {pin.name}

{tabulate(facts, ["", ""], tablefmt="github")}
{note}
## Accuracy

Of random {nouns.prompts}, measured when the weights were pinned. A {nouns.token}'s cell is its share of right answers,
teacher-forced; where the free-running model differs, its share follows after a slash. Whole answers agree
always: both models read the same until the first wrong {nouns.token}.

{accuracy_table(pin, task)}
{_training(pin, curves) if curves else ""}"""


def _how_built(model: OwnModel) -> list[tuple[str, str]]:
    layers = f"{model.n_layers} layer{'s' if model.n_layers > 1 else ''}, {model.n_heads} heads"
    return [("model", f"{layers}, built by `{model.model}`")]


def _how_trained(recipe: Recipe) -> list[tuple[str, str]]:
    sizes, run, optimiser, hardest = recipe.transformer, recipe.run, recipe.run.optimiser, recipe.run.hardest
    chosen = f", in the last {hardest.last_share:.0%} the hardest of {hardest.of} times as many" if hardest else ""
    schedule = "" if optimiser.schedule == "constant" else f" and a {optimiser.schedule} schedule"
    return [
        ("model", f"{sizes.n_layers} layer{'s' if sizes.n_layers > 1 else ''}, {sizes.n_heads} heads, "
                  f"d_model {sizes.d_model}, d_head {sizes.d_head}, d_mlp {sizes.d_mlp}, "
                  f"{sizes.act_fn}, {sizes.normalisation}"),
        ("training", f"{run.steps:,} steps of {run.batch_size} {recipe.task.nouns.prompts}{chosen}, "
                     f"{optimiser.name} lr {optimiser.lr:g}, weight decay {optimiser.weight_decay:g}, "
                     f"betas {optimiser.betas[0]:g} and {optimiser.betas[1]:g}, "
                     f"{optimiser.warmup_steps} warm-up steps{schedule}, seed {run.seed}"),
        *recipe.family.training_facts(recipe.enrichment),
    ]  # fmt: skip


def accuracy_table(pin: Pin, task: Positions) -> str:
    """Return a Markdown table of the accuracy per kind of prompts, measured when the weights were pinned."""
    nouns = task.nouns
    heads = [nouns.prompts, "n", "wholly right", f"loss (nats/{nouns.token})", *task.answer_tokens]
    rows = [_row(accuracy) for accuracy in pin.measured]
    return markdown_table(rows, heads)


def _source(pin: Pin) -> str:
    if pin.trained is not None:
        made = pin.trained
        return (
            f"trained by harness {made.harness} with torch {made.torch} on {made.device}, {made.threads} threads, "
            f"{made.seconds / 60:.1f} minutes of steps"
        )
    assert pin.provenance is not None  # a pin has either `trained` or `provenance`
    return f"`{pin.provenance.source}`, sha256 `{pin.provenance.source_sha256}`"


def _training(pin: Pin, curves: Curves) -> str:
    from harness.training.curves import final_losses, task_shares

    token = curves.task.nouns.token
    return f"""
## Training

Every step is in `{CURVES}`; `harness curves {pin.name}` draws it all. Final losses, the mean of the last five
steps, in nats per {token}; a loss that had no case is left out:

{tabulate(final_losses(curves), "keys", tablefmt="github", disable_numparse=True)}

{task_shares(curves)}

![Loss of all {token}s](curves-all-{token}s.png)
![Loss of each answer {token}](curves-per-{token}.png)
{PER_TASK if curves.task.series.whole else ""}"""


def _row(accuracy: Accuracy) -> list[str]:
    cells = []
    for forced, free in zip(accuracy.right_teacher_forced, accuracy.right_free_running, strict=True):
        shares = [f"{right / accuracy.n:.2%}" for right in (forced, free)]
        cells.append(shares[0] if forced == free else " / ".join(shares))
    whole = f"{accuracy.right} ({accuracy.right / accuracy.n:.2%})"
    return [accuracy.questions, str(accuracy.n), whole, f"{accuracy.loss:.2g}", *cells]
