"""Recipe → weights: one training run, which can stop after any step and resume. On a CPU the result is bit-identical.

All randomness (initial weights and questions) comes from one generator, seeded by the recipe. The generator stays
on the CPU, so that a run sees the same questions on any device.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import log_softmax

from harness.base.errors import HarnessError
from harness.engines.transformer import answer_logits, answer_logits_at, initial_weights, sizes_of
from harness.specs.fixtures.recipe import Recipe
from harness.tasks.answers import answer_loss, set_loss
from harness.tasks.batch import Batch
from harness.training.curves import Curves, Recorder

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # AdamW's state for each weight


class Training:
    """The state of a training run at some step: everything that the next step depends on."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        self.recipe, self.run, self.task = recipe, recipe.run, recipe.task
        self.device = device
        self.step = 0
        self.seconds = 0.0  # time spent in steps, summed over all processes of the run
        self.generator = torch.Generator().manual_seed(recipe.run.seed)
        start = initial_weights(recipe, self.generator)
        self.weights = {name: weight.to(device).requires_grad_() for name, weight in start.items()}
        optimiser = recipe.run.optimiser
        self.optimiser = torch.optim.AdamW(
            self.weights.values(), lr=optimiser.lr, betas=(optimiser.betas[0], optimiser.betas[1]),
            weight_decay=optimiser.weight_decay, fused=True,
        )  # fmt: skip
        self.recorder = Recorder(self.task)
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
        prompts = self.draw_batch()
        on_device = prompts.to(self.device)
        for group in self.optimiser.param_groups:
            group["lr"] = self.run.optimiser.lr_at(self.step, self.run.steps)
        selects = len(prompts) > self.run.batch_size
        with torch.set_grad_enabled(not selects):
            losses, right = self.losses(on_device)
        descended = self.losses(self._hardest(on_device, losses))[0] if selects else losses
        descended.mean().backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.recorder.record(prompts.tokens, losses, right)
        self.step += 1
        self.seconds += time.perf_counter() - begun

    def draw_batch(self) -> Batch:
        """Return the prompts of the next step, on the CPU: one batch, or several to select the hardest from."""
        hardest = self.run.hardest
        batches = hardest.of if hardest and hardest.is_on(self.step, self.run.steps) else 1
        return self.task.training_batch(batches * self.run.batch_size, self.generator, self.recipe.shares)

    def _hardest(self, prompts: Batch, losses: Float[Tensor, "prompt answer"]) -> Batch:
        """Return one batch: the prompts with the largest losses."""
        return prompts[losses.sum(1).topk(self.run.batch_size).indices]

    def losses(self, prompts: Batch) -> tuple[Float[Tensor, "prompt answer"], Float[Tensor, " prompt"]]:
        """Return the loss of each answer token (nats, float64) and whether all of each prompt are right (0 or 1).

        The prompts must be on the device of the run.
        """
        logits = self._answer_logits(prompts)
        right = prompts.right.contains(logits.detach().argmax(-1)).all(-1)
        if prompts.right.ids.shape[-1] == 1 and prompts.right.weights is None:
            return answer_loss(logits, prompts.answers), right
        log_probs = log_softmax(logits.double(), dim=-1).gather(-1, prompts.right.ids.clamp(min=0))
        return set_loss(log_probs, prompts.right), right

    def _answer_logits(self, prompts: Batch) -> Float[Tensor, "prompt answer vocab"]:
        """Return the logits that predict the answers; where prompts differ, at the steps that each one says."""
        if self.task.answer_steps:
            return self._logits(self.weights, prompts.tokens, self.sizes)
        at, filled = prompts.places - 1, prompts.tokens.clamp(min=0)  # what fills up comes after all that is read
        sizes = sizes_of(self.recipe, range(int(at.min()), int(at.max()) + 1))
        return answer_logits_at(self.weights, filled, at, sizes)

    def curves(self) -> Curves:
        """Return the learning curves so far."""
        return Curves(self.task, self.recorder.table())

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
