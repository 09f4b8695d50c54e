"""The notebook's way of training (Parts 2-4), written anew as the baseline: what a step costs when nothing is saved.

TransformerLens's forward over all positions, three loss functions that wait for a number each, AdamW as it comes.
"""

from __future__ import annotations

import operator

import torch
from torch.nn import functional

from harness.models.bridge import build_model
from harness.tasks.addition.arithmetic import label


class NotebookTraining:
    def __init__(self, recipe, weights, device="cpu", dtype=torch.float32):
        self.recipe = recipe
        self.device = torch.device(device)
        self.model = build_model(recipe, weights, self.device).to(dtype).requires_grad_(True).train()
        # All weights, b_U too: HookedTransformer, which the notebook used, trained it; the bridge keeps it as a buffer.
        weights = [tensor.requires_grad_() for tensor in self.model.state_dict(keep_vars=True).values()]
        o = recipe.run.optimiser
        self.optimiser = torch.optim.AdamW(weights, lr=o.lr, weight_decay=o.weight_decay, betas=tuple(o.betas))
        warm_up = max(1, o.warmup_steps)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimiser, lambda step: min(step / warm_up, 1))
        self.losses, self.per_digit = [], []
        self.tasks = {"BA": [], "UC1": [], "US9": []}

    def step(self, tokens):
        n = self.recipe.task.n_digits
        carry, nine, both = (
            labels.long().to(self.device)
            for labels in operator.attrgetter("use_carry", "sum9", "use_sum9")(label(tokens, self.recipe.task))
        )
        tokens = tokens.to(self.device)
        logits = self.model(tokens)
        log_probs = functional.log_softmax(logits[:, -(n + 2) : -1].to(torch.float64), dim=-1)
        raw = torch.gather(log_probs, -1, tokens[:, -(n + 1) :, None])[..., 0]
        per_digit = -raw.mean(0)
        self.per_digit.append(per_digit.detach().cpu().numpy())
        loss = per_digit.mean()
        loss.backward()
        self.losses.append(loss.item())
        self._task("BA", raw, 1 - carry, (1 - carry).all(1))
        self._task("UC1", raw, carry & (1 - nine), carry.any(1) & ~both.any(1))
        self._task("US9", raw, carry & nine, both.any(1))
        self.optimiser.step()
        self.scheduler.step()
        self.optimiser.zero_grad()

    def _task(self, task, raw, member, questions):
        n = self.recipe.task.n_digits
        row = [-raw[torch.nonzero(questions).squeeze()].mean().detach().cpu().numpy()]
        for digit in range(n):
            cases = torch.sum(member[:, -1 - digit]).cpu().numpy()
            total = torch.sum(raw[:, -1 - digit] * member[:, -1 - digit]).detach().cpu().numpy()
            row.append(-total / cases if cases else 0)
        self.tasks[task].append(row)
