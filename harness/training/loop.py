"""Recipe → weights: one training run, which can stop after any step and resume. On a CPU the result is bit-identical.

All randomness (initial weights and questions) comes from one generator, seeded by the recipe. The generator stays
on the CPU, so that a run sees the same questions on any device.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness.base.errors import HarnessError
from harness.engines.transformer import answer_logits, initial_weights, sizes_of
from harness.specs.recipe import Recipe
from harness.tasks.answers import answer_loss, answers
from harness.tasks.registry import task_of
from harness.training.curves import Curves, Recorder

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # AdamW's state for each weight


class Training:
    """The state of a training run at some step: everything that the next step depends on."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        self.recipe, self.task = recipe, task_of(recipe.layout)
        self.device = device
        self.step = 0
        self.seconds = 0.0  # time spent in steps, summed over all processes of the run
        self.generator = torch.Generator().manual_seed(recipe.seed)
        start = initial_weights(recipe, self.generator)
        self.weights = {name: weight.to(device).requires_grad_() for name, weight in start.items()}
        optimiser = recipe.optimiser
        self.optimiser = torch.optim.AdamW(
            self.weights.values(), lr=optimiser.lr, betas=(optimiser.betas[0], optimiser.betas[1]),
            weight_decay=optimiser.weight_decay, fused=True,
        )  # fmt: skip
        self.recorder = Recorder(recipe.layout)
        self.sizes, self._logits = sizes_of(recipe), answer_logits
        if device.type == "cuda":
            # On a GPU, a small model's step is mostly kernel launches. A captured graph launches all kernels at once.
            # The kernels stay PyTorch's own: compiled kernels would need a compiler here, and would sum the gradients
            # of embeddings in no fixed order.
            torch.compiler.reset()  # drop the graphs of earlier recipes: it keeps only a few
            self._logits = torch.compile(answer_logits, backend="cudagraphs", dynamic=False)

    def advance(self) -> None:
        """Do one step: draw questions, descend the mean loss of one batch, record the losses of all drawn questions.

        Nothing waits for the results of this step. On a GPU, copying the questions waits for the step before, so
        `seconds` is still correct.
        """
        begun = time.perf_counter()
        tokens = self.draw_batch()
        on_device = tokens.to(self.device)
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.optimiser.lr_at(self.step, self.recipe.steps)
        selects = len(tokens) > self.recipe.batch_size
        with torch.set_grad_enabled(not selects):
            losses, right = self.losses(on_device)
        descended = self.losses(self._hardest(on_device, losses))[0] if selects else losses
        descended.mean().backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.recorder.record(tokens, losses, right)
        self.step += 1
        self.seconds += time.perf_counter() - begun

    def draw_batch(self) -> Int[Tensor, "question pos"]:
        """Return the questions of the next step, on the CPU: one batch, or several to select the hardest from."""
        hardest = self.recipe.hardest
        batches = hardest.of if hardest and hardest.is_on(self.step, self.recipe.steps) else 1
        return self.task.training_batch(batches * self.recipe.batch_size, self.generator, self.recipe.enriched)

    def _hardest(
        self, tokens: Int[Tensor, "question pos"], losses: Float[Tensor, "question digit"]
    ) -> Int[Tensor, "batch pos"]:
        """Return one batch: the questions with the largest losses."""
        return tokens[losses.sum(1).topk(self.recipe.batch_size).indices]

    def losses(
        self, tokens: Int[Tensor, "question pos"]
    ) -> tuple[Float[Tensor, "question digit"], Float[Tensor, " question"]]:
        """Return the loss of each digit (nats, float64) and whether all digits of each question are right (0 or 1).

        `tokens` must be on the device of the run.
        """
        logits = self._logits(self.weights, tokens, self.sizes)
        truth = answers(tokens, self.recipe.layout)
        right = (logits.detach().argmax(-1) == truth).all(-1)
        return answer_loss(logits, truth), right

    def curves(self) -> Curves:
        """Return the learning curves so far."""
        return Curves(self.recipe.layout, self.recorder.table())

    def checkpoint(self) -> dict[str, Tensor]:
        """Return everything needed to resume from here, as tensors on the CPU."""
        state = {f"weights.{name}": weight.detach().cpu() for name, weight in self.weights.items()}
        for name, weight in self.weights.items():
            for moment in _MOMENTS:
                if weight in self.optimiser.state:  # there is none before the first step
                    state[f"{moment}.{name}"] = self.optimiser.state[weight][moment].cpu()
        state["generator"] = self.generator.get_state()
        state["curves"] = self.recorder.table()
        state["seconds"] = torch.tensor(self.seconds, dtype=torch.float64)
        return state

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Load a checkpoint of the same recipe, to resume from it.

        Raises:
            HarnessError: `state` is not a checkpoint of this recipe.
        """
        try:
            curves = state["curves"]
            for name, weight in self.weights.items():
                with torch.no_grad():
                    weight.copy_(state[f"weights.{name}"])
                if len(curves):
                    # Clone, for memory aligned as torch aligns it: the last bit of a sum can depend on alignment.
                    kept = {moment: state[f"{moment}.{name}"].clone() for moment in _MOMENTS}
                    self.optimiser.state[weight] = {key: value.to(self.device) for key, value in kept.items()}
            self.generator.set_state(state["generator"].clone())
            self.recorder.rows = [curves.clone()] if len(curves) else []
            self.step = len(curves)
            self.seconds = float(state["seconds"])
        except (KeyError, RuntimeError, IndexError) as error:
            raise HarnessError.of("a checkpoint of this recipe", str(error).splitlines()[0], "start anew") from None
