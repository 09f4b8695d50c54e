"""A claim that only looks, as a spec has it → ``answer``, ``attend``, ``learn``. Imports no torch."""

from __future__ import annotations

from harness.errors import did_you_mean
from harness.hypothesis import Claim
from harness.intervals import least_n, least_n_of_mean
from harness.nodes import reach, read_nodes
from harness.observations import Answer, Attend, Learn
from harness.reader import Reader, as_written
from harness.selection import Sample
from harness.series import TASKS, loss_names
from harness.spec_model import AnswerModel, AttendModel, LearnModel


class ObservationReader(Reader):
    """Reads the claims that intervene on nothing."""

    def read(self, model: AnswerModel | AttendModel | LearnModel) -> Claim:
        """Return the claim that a validated part of a spec makes."""
        if isinstance(model, AnswerModel):
            return self._answer(model)
        return self._attend(model) if isinstance(model, AttendModel) else self._learn(model)

    def _answer(self, model: AnswerModel) -> Answer:
        questions, expect = self._questions(model.questions, "questions"), model.expect
        digits = () if isinstance(model.answer, str) else tuple(dict.fromkeys(model.answer))
        gain = expect.gain_at_least is not None or expect.gain_at_most is not None
        accuracy = expect.accuracy_at_least is not None or expect.accuracy_at_most is not None
        loss = expect.loss_below is not None or expect.loss_above is not None
        if model.than is None and gain:
            self._report("expect", "a gain only over the fixtures in `than`", "no `than`", "add `than: …`")
        elif model.than is not None and (accuracy or loss):
            self._report("expect", "with `than`, a gain", "another bound", "write gain_at_least or gain_at_most")
        elif not (gain or accuracy or loss):
            self._report("expect", "something that could fail", "no bound", "add accuracy_at_least, say")
        if len(digits) > 1 and model.than is not None:
            self._report("answer", "`whole`, or one digit, with `than`", f"{len(digits)} digits", "write a claim each")
        self._loss_bounds(expect)
        if model.free_running and not digits:
            found = "`whole`, on which it agrees with the teacher-forced one: both read the same up to the first error"
            self._report("answer", "digits, with free_running", found, "name digits, or remove free_running")
        if model.free_running and loss:
            self._report("expect", "no loss of a free-running model", "a bound", "remove it, or free_running")
        group = self.group_of(model.fixtures, "fixtures")
        than = () if model.than is None else self.group_of(model.than, "than")
        if both := sorted(set(group) & set(than)):
            self._report("than", "other fixtures than those that are compared with them", both[0], "drop it")
        claim = Answer(
            **self.common(model), questions=questions, gate=0.0, digits=digits, free_running=model.free_running,
            group=group, group_text=as_written(model.fixtures), than=than, than_text=as_written(model.than),
            at_least=expect.gain_at_least if than else expect.accuracy_at_least,
            at_most=expect.gain_at_most if than else expect.accuracy_at_most,
            loss_below=expect.loss_below, loss_above=expect.loss_above,
        )  # fmt: skip
        if claim.at_least is not None and claim.at_most is not None and claim.at_least >= claim.at_most:
            found = f"{claim.at_least:g} and {claim.at_most:g}"
            self._report("expect", "the lower bound below the upper one", found, "swap them, or leave one out")
        if isinstance(questions, Sample):
            if than:
                self._least(
                    lambda error: least_n_of_mean(1, claim.at_least, claim.at_most, lowest=-1, highest=1, error=error),
                    questions,
                )
            else:
                least = 2 if claim.says_loss else 1
                self._least(
                    lambda error: max(least, least_n(
                        claim.comparisons, fail_rate=claim.at_least, intact_rate=claim.at_most, error=error
                    )),
                    questions,
                )  # fmt: skip
        return claim

    def _attend(self, model: AttendModel) -> Attend:
        questions, expect = self._questions(model.questions, "questions"), model.expect
        nodes, layout = read_nodes(model.attend.node, self.shape), self.shape.layout
        node = nodes[0]
        if any(other.kind != "head" or other.step != node.step for other in nodes):
            self._report(("attend", "node"), "heads of one step, like S12L0H0", model.attend.node, "name some")
        elif idle := [other for other in nodes if not reach([other], self.shape)]:
            self._report(("attend", "node"), "a head that something reads", f"{idle[0]}, which reaches no digit",
                         "name another")  # fmt: skip
        steps = tuple(dict.fromkeys(layout.step_of(name) for name in model.attend.to))
        for i, name in enumerate(model.attend.to):
            if layout.step_of(name) > node.step:
                self._report(("attend", "to", i), f"steps up to S{node.step}, which {node} can see", name, "drop it")
        if set(steps) >= set(range(node.step + 1)):
            self._report(("attend", "to"), "some of the steps that the head can see", "all", "drop some")
        if (expect.mass_at_least is None) == (expect.mass_at_most is None):
            found = "none" if expect.mass_at_least is None else "both"
            self._report("expect", "mass_at_least or mass_at_most", found, "write one of them")
        if isinstance(questions, Sample):
            bounds = (expect.mass_at_least, expect.mass_at_most)
            self._least(lambda error: least_n_of_mean(1, *bounds, lowest=0, highest=1, error=error), questions)
        return Attend(
            **self.common(model), questions=questions, gate=model.gate, node_text=model.attend.node, nodes=nodes,
            to=tuple(model.attend.to),
            steps=steps, at_least=expect.mass_at_least, at_most=expect.mass_at_most,
        )  # fmt: skip

    def _learn(self, model: LearnModel) -> Learn:
        # No carry runs into the units, so these have no case, ever.
        never = {f"{task}.D0" for task in TASKS[1:]}
        known = [name for name in loss_names(self.shape.layout) if name not in never]
        for key, names in (("first", model.learn.first), ("before", model.learn.before)):
            for i, name in enumerate(names):
                if name not in known:
                    self._report(("learn", key, i), "a loss of the learning curves", name, did_you_mean(name, known))
        if both := set(model.learn.first) & set(model.learn.before):
            self._report(("learn", "before"), "other losses than in `first`", sorted(both)[0], "drop it")
        claim = Learn(
            **self.common(model), questions=None, gate=0.0, first=tuple(dict.fromkeys(model.learn.first)),
            before=tuple(dict.fromkeys(model.learn.before)), below=model.learn.below,
            group=self.group_of(model.fixtures, "fixtures"), group_text=as_written(model.fixtures),
            share_above=model.expect.share_above,
        )  # fmt: skip
        needed = least_n(1, fail_rate=claim.share_above, intact_rate=None)
        if len(claim.group) < needed:
            expected = f"at least {needed:g} training runs, or the claim cannot be settled"
            self._report("fixtures", expected, str(len(claim.group)), "name more, or claim a smaller share")
        return claim
