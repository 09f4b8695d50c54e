"""Recipe → weights: one training run, step by step, that can stop anywhere and go on, on a CPU to the same bits.

Everything random, the start as well as the questions, comes from one generator seeded by the recipe. It
stays on the CPU, so that a run sees the same questions on any device.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness.addition import answer_loss, answers
from harness.curves import Curves, Recorder
from harness.errors import HarnessError
from harness.recipe import Recipe
from harness.tasks import task_of
from harness.transformer import answer_logits, initial_weights, sizes_of

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # what AdamW keeps of each weight


class Training:
    """A training run at some step: all that the next one depends on."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        self.recipe, self.task = recipe, task_of(recipe.layout)
        self.device = device
        self.step = 0
        self.seconds = 0.0  # spent in steps, over all the processes that the run took
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
            # A small model's step on a GPU is mostly launching kernels, which a captured graph does at once. They stay
            # PyTorch's own: compiled ones would need a compiler here, and add up embeddings' gradients in any order.
            torch.compiler.reset()  # of recipes before this one in the process: it keeps few
            self._logits = torch.compile(answer_logits, backend="cudagraphs", dynamic=False)

    def advance(self) -> None:
        """Do one step: draw questions, descend a batch's mean loss, record what all drawn cost.

        Waits for no result; on a GPU for the step before, behind which the questions queue, so that seconds are true.
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
        """Return the questions of the next step, on the CPU: a batch, or those among which the hardest are sought."""
        hardest = self.recipe.hardest
        batches = hardest.of if hardest and hardest.is_on(self.step, self.recipe.steps) else 1
        return self.task.training_batch(batches * self.recipe.batch_size, self.generator, self.recipe.enriched)

    def _hardest(
        self, tokens: Int[Tensor, "question pos"], losses: Float[Tensor, "question digit"]
    ) -> Int[Tensor, "batch pos"]:
        """Return a batch of those questions whose losses are largest."""
        return tokens[losses.sum(1).topk(self.recipe.batch_size).indices]

    def losses(
        self, tokens: Int[Tensor, "question pos"]
    ) -> tuple[Float[Tensor, "question digit"], Float[Tensor, " question"]]:
        """Return each digit's loss (nats, float64) and, per question, whether all its digits are right (0 or 1).

        The questions are on the device.
        """
        logits = self._logits(self.weights, tokens, self.sizes)
        truth = answers(tokens, self.recipe.layout)
        right = (logits.detach().argmax(-1) == truth).all(-1)
        return answer_loss(logits, truth), right

    def curves(self) -> Curves:
        """Return the learning curves so far."""
        return Curves(self.recipe.layout, self.recorder.table())

    def checkpoint(self) -> dict[str, Tensor]:
        """Return all that is needed to go on from here, as tensors on the CPU."""
        state = {f"weights.{name}": weight.detach().cpu() for name, weight in self.weights.items()}
        for name, weight in self.weights.items():
            for moment in _MOMENTS:
                if weight in self.optimiser.state:  # not before the first step
                    state[f"{moment}.{name}"] = self.optimiser.state[weight][moment].cpu()
        state["generator"] = self.generator.get_state()
        state["curves"] = self.recorder.table()
        state["seconds"] = torch.tensor(self.seconds, dtype=torch.float64)
        return state

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint of the same recipe.

        Raises:
            HarnessError: it is not one.
        """
        try:
            curves = state["curves"]
            for name, weight in self.weights.items():
                with torch.no_grad():
                    weight.copy_(state[f"weights.{name}"])
                if len(curves):
                    # In memory of their own, aligned as torch aligns it: sums can depend on that in the last bit.
                    kept = {moment: state[f"{moment}.{name}"].clone() for moment in _MOMENTS}
                    self.optimiser.state[weight] = {key: value.to(self.device) for key, value in kept.items()}
            self.generator.set_state(state["generator"].clone())
            self.recorder.rows = [curves.clone()] if len(curves) else []
            self.step = len(curves)
            self.seconds = float(state["seconds"])
        except (KeyError, RuntimeError, IndexError) as error:
            raise HarnessError.of("a checkpoint of this recipe", str(error).splitlines()[0], "start anew") from None
