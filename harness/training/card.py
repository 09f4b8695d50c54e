"""Write the model card of a fixture: its model, its source, and its accuracy when it was pinned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tabulate import tabulate

from harness.base.text import markdown_table
from harness.specs.fixture_files import CURVES
from harness.specs.pins import Accuracy, Pin
from harness.specs.recipe import Recipe, UserModelRecipe, UserTaskRecipe
from harness.tasks.positions import Positions

if TYPE_CHECKING:
    from harness.training.curves import Curves

PER_TASK = "![Loss of each sub-task](curves-per-task.png)\n"


def model_card(recipe: Recipe, pin: Pin, curves: Curves | None = None) -> str:
    """Return the Markdown model card of a fixture; `curves` are given if its weights were trained here."""
    layout = recipe.layout
    facts = [
        ("task", f"{layout.description} (n_ctx {layout.n_ctx})"),
        *(_how_built(recipe) if isinstance(recipe, UserModelRecipe) else _how_trained(recipe)),
        ("source", _source(pin)),
        ("weights", f"`model.safetensors`, sha256 `{pin.weights_sha256}`"),
    ]
    note = f"\n{pin.provenance.note}\n" if pin.provenance and pin.provenance.note else ""
    return f"""# {pin.name}

{tabulate(facts, ["", ""], tablefmt="github")}
{note}
## Accuracy

Of random questions, measured when the weights were pinned. A digit's cell is its share of right answers,
teacher-forced; where the free-running model differs, its share follows after a slash. Whole answers agree
always: both models read the same until the first wrong digit.

{accuracy_table(pin, layout)}
{_training(pin, curves) if curves else ""}"""


def _how_built(recipe: UserModelRecipe) -> list[tuple[str, str]]:
    layers = f"{recipe.n_layers} layer{'s' if recipe.n_layers > 1 else ''}, {recipe.n_heads} heads"
    return [("model", f"{layers}, built by `{recipe.model}`")]


def _how_trained(recipe: Recipe) -> list[tuple[str, str]]:
    enrichment = recipe.enrichment
    extra = []
    if enrichment and enrichment.batch_share:
        share = f"{enrichment.digit_share:.0%} of their columns made to sum to 9"
        extra.append(f"{enrichment.batch_share:.0%} of the batches have {share}")
    if enrichment and enrichment.question_share:
        share = "columns made to sum to 9, each with a probability of the question's own"
        extra.append(f"{enrichment.question_share:.0%} of the questions have {share}")
    if enrichment and enrichment.cascade_share:
        share = f"a cascade made, {enrichment.near_share:.0%} of these over a column that sums to 8 or 10"
        extra.append(f"{enrichment.cascade_share:.0%} of the questions have {share}")
    if enrichment and enrichment.double_share:
        extra.append(f"{enrichment.double_share:.0%} of all columns are made 4+4 or 5+5")
    optimiser, hardest = recipe.optimiser, recipe.hardest
    chosen = f", in the last {hardest.last_share:.0%} the hardest of {hardest.of} times as many" if hardest else ""
    schedule = "" if optimiser.schedule == "constant" else f" and a {optimiser.schedule} schedule"
    return [
        ("model", f"{recipe.n_layers} layer{'s' if recipe.n_layers > 1 else ''}, {recipe.n_heads} heads, "
                  f"d_model {recipe.d_model}, d_head {recipe.d_head}, d_mlp {recipe.d_mlp}, "
                  f"{recipe.act_fn}, {recipe.normalisation}"),
        ("training", f"{recipe.steps:,} steps of {recipe.batch_size} questions{chosen}, "
                     f"{optimiser.name} lr {optimiser.lr:g}, weight decay {optimiser.weight_decay:g}, "
                     f"betas {optimiser.betas[0]:g} and {optimiser.betas[1]:g}, "
                     f"{optimiser.warmup_steps} warm-up steps{schedule}, seed {recipe.seed}"),
        *([] if isinstance(recipe, UserTaskRecipe) else [("extra sum-9 questions", "; ".join(extra) or "none")]),
    ]  # fmt: skip


def accuracy_table(pin: Pin, layout: Positions) -> str:
    """Return a Markdown table of the accuracy per kind of question, measured when the weights were pinned."""
    heads = ["questions", "n", "wholly right", "loss (nats/digit)", *layout.answer_digits]
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

    return f"""
## Training

Every step is in `{CURVES}`; `harness curves {pin.name}` draws it all. Final losses, the mean of the last five
steps, in nats per digit; a loss that had no case is left out:

{tabulate(final_losses(curves), "keys", tablefmt="github", disable_numparse=True)}

{task_shares(curves)}

![Loss of all digits](curves-all-digits.png)
![Loss of each answer digit](curves-per-digit.png)
{PER_TASK if curves.layout.columns else ""}"""


def _row(accuracy: Accuracy) -> list[str]:
    cells = []
    for forced, free in zip(accuracy.digits_right_teacher_forced, accuracy.digits_right_free_running, strict=True):
        shares = [f"{right / accuracy.n:.2%}" for right in (forced, free)]
        cells.append(shares[0] if forced == free else " / ".join(shares))
    whole = f"{accuracy.right} ({accuracy.right / accuracy.n:.2%})"
    return [accuracy.questions, str(accuracy.n), whole, f"{accuracy.loss:.2g}", *cells]
