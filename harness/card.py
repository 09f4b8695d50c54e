"""The model card of a fixture: what it is, where it comes from, how accurate it was when it was pinned."""

from __future__ import annotations

from tabulate import tabulate

from harness.pins import Accuracy, Pin
from harness.recipe import Recipe


def model_card(recipe: Recipe, pin: Pin) -> str:
    """Return the Markdown card of a fixture."""
    layout = recipe.layout
    enrichment = recipe.enrichment
    extra = "none"
    if enrichment:
        share = f"{enrichment.digit_share:.0%} of their columns made to sum to 9"
        extra = f"{enrichment.batch_share:.0%} of the batches have {share}"
    optimiser = recipe.optimiser
    facts = [
        ("task", f"addition of two {recipe.n_digits}-digit numbers, ended by `{recipe.equals}` (n_ctx {layout.n_ctx})"),
        ("model", f"{recipe.n_layers} layers, {recipe.n_heads} heads, d_model {recipe.d_model}, "
                  f"d_head {recipe.d_head}, d_mlp {recipe.d_mlp}, {recipe.act_fn}, {recipe.normalisation}"),
        ("training", f"{recipe.steps:,} steps of {recipe.batch_size} questions, {optimiser.name} lr {optimiser.lr:g}, "
                     f"weight decay {optimiser.weight_decay:g}, betas {optimiser.betas[0]:g} and "
                     f"{optimiser.betas[1]:g}, {optimiser.warmup_steps} warm-up steps, seed {recipe.seed}"),
        ("extra sum-9 questions", extra),
        ("source", f"`{pin.provenance.source}`, sha256 `{pin.provenance.source_sha256}`"),
        ("weights", f"`model.safetensors`, sha256 `{pin.weights_sha256}`"),
    ]  # fmt: skip
    note = f"\n{pin.provenance.note}\n" if pin.provenance.note else ""
    rows = [_row(recipe, accuracy) for accuracy in pin.measured]
    digits = layout.answer_digits
    heads = ["questions", "n", "wholly right", "loss (nats/digit)", *digits]
    return f"""# {pin.name}

{tabulate(facts, ["", ""], tablefmt="github")}
{note}
## Accuracy

Of random questions, measured when the weights were pinned. A digit's cell is its share of right answers,
teacher-forced; where the free-running model differs, its share follows after a slash. Whole answers agree
always: both models read the same until the first wrong digit.

{tabulate(rows, heads, tablefmt="github", disable_numparse=True)}
"""


def _row(recipe: Recipe, accuracy: Accuracy) -> list[str]:
    cells = []
    for forced, free in zip(accuracy.digits_right_teacher_forced, accuracy.digits_right_free_running, strict=True):
        shares = [f"{right / accuracy.n:.2%}" for right in (forced, free)]
        cells.append(shares[0] if forced == free else " / ".join(shares))
    whole = f"{accuracy.right} ({accuracy.right / accuracy.n:.2%})"
    return [accuracy.questions, str(accuracy.n), whole, f"{accuracy.loss:.2g}", *cells]
