"""Prompts files: a wrong one is refused where it is wrong, and prompts are what the file says, token by token."""

from __future__ import annotations

import pytest
import torch
from tasks.bad_prompts import BAD, FILLED, REPEATED, ROWS, YEARS
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from harness.base.errors import FixtureError, HarnessError, SpecError
from harness.tasks.batch import PAD
from harness.tasks.prompts.definition import Filled
from harness.tasks.prompts.filled import questions_in
from harness.tasks.prompts.filled_task import FilledTask
from harness.tasks.prompts.parsing import read_definition
from harness.tasks.prompts.repeated_task import RepeatedTask
from harness.tasks.prompts.tokens import Tokens
from harness.tasks.questions import Sample

NAMES = (" Mary", " John", " Tom", " Ann", " Sam")
WORDS = (
    "<s>", *NAMES, " store", " park", "In", " and", " went", " to", " the", ",", " gave", " a", " drink", "The",
    " capital", " of", " is", " France", " Paris", " Italy", " Rome", " Spain", " Madrid", " New", " York",
    *(f"{number:02}" for number in range(100)),
)  # fmt: skip
IOI = FILLED.replace('" Mary", " John", " Tom"', ", ".join(f'"{name}"' for name in NAMES))

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def task_of(tmp_path):
    """What makes the task of a prompts file for a tokenizer with one token for each word, its space included."""
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?[A-Za-z]+|[0-9]{2}|,"), "isolated")
    tokenizer.add_special_tokens(["<s>"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))

    def make(text, prepend=""):
        (tmp_path / "some.yaml").write_text(text, "utf-8")
        definition = read_definition(tmp_path / "some.yaml")
        kind = FilledTask if isinstance(definition, Filled) else RepeatedTask
        return kind(definition, Tokens(tmp_path / "tokenizer.json", prepend), len(WORDS) + 3)

    return make


def drawn(task, n=40, seed=0, templates=()):
    return task.drawn(n, torch.Generator().manual_seed(seed), templates)


def words_at(batch, name):
    return [WORDS[token] for token in batch.tokens.gather(1, batch.positions[name])[:, 0].tolist()]


def named(task, batch, place):
    return [task.value_at(question, place) for question in questions_in(batch)]


@pytest.mark.parametrize(("good", "old", "new", "place", "piece"), BAD.values(), ids=BAD.keys())
def test_a_wrong_file_is_refused_where_it_is_wrong(tmp_path, good, old, new, place, piece):
    assert good.count(old) == 1
    path = tmp_path / "some.yaml"
    path.write_text(good.replace(old, new), "utf-8")
    with pytest.raises(SpecError) as refused:
        read_definition(path)
    lines = str(refused.value).splitlines()
    assert any(line.startswith(f"{path}:{place}: expected ") and piece in line for line in lines), lines
    assert all("; " in line and ", found " in line and not line.endswith("write one of ") for line in lines)


@pytest.mark.parametrize("text", ["", "just text", "[", "version: 1\nrandom:\n", "version: 1\ntemplates:\n"])
def test_what_is_no_prompts_file_is_refused(tmp_path, text):
    (tmp_path / "some.yaml").write_text(text, "utf-8")
    with pytest.raises(SpecError):
        read_definition(tmp_path / "some.yaml")


@pytest.mark.parametrize("text", [IOI, ROWS, REPEATED, YEARS])
def test_prompts_are_determined_by_the_seed(task_of, text):
    one, same, other = (drawn(task_of(text), seed=seed) for seed in (3, 3, 4))
    assert torch.equal(one.tokens, same.tokens)
    assert not torch.equal(one.tokens, other.tokens)


def test_slots_that_must_differ_always_do(task_of):
    task = task_of(IOI)
    batch = drawn(task, 300)
    assert all(one != other for one, other in zip(named(task, batch, "IO"), words_at(batch, "S2"), strict=True))
    assert set(named(task, batch, "IO")) == set(NAMES)
    assert set(batch.cases()) == {"ABBA", "BABA"}


def test_values_that_cannot_differ_are_refused(task_of):
    with pytest.raises(HarnessError, match="as `distinct` asks"):
        drawn(task_of(FILLED.replace('" Mary", " John", " Tom"', '" Mary"')))


def test_a_stratified_sample_has_equal_shares(task_of):
    task = task_of(IOI)
    batch = task.batch_for(Sample(9, 0, task.strata(None, "template")))
    assert sorted(batch.cases()) == ["ABBA"] * 5 + ["BABA"] * 4


@pytest.mark.parametrize("prepend", ["", "<s>"])
def test_positions_point_at_their_tokens(task_of, prepend):
    task = task_of(IOI.replace("S2: S2", "S2: S2, S1: S1"), prepend)
    batch = drawn(task)
    assert words_at(batch, "IO") == named(task, batch, "IO")
    assert words_at(batch, "S2") == words_at(batch, "S1") == named(task, batch, "S1")
    assert words_at(batch, "S1+1") == [" and" if case == "BABA" else " went" for case in batch.cases()]
    assert words_at(batch, "END") == [" to"] * 40
    assert torch.equal(batch.positions["END"], batch.places - 1)
    assert torch.equal(batch.tokens.gather(1, batch.places), batch.answers)


def test_what_is_put_before_shifts_all_by_one(task_of):
    for text in (IOI, REPEATED):
        bare, put = drawn(task_of(text)), drawn(task_of(text, "<s>"))
        assert torch.equal(put.tokens[:, 1:], bare.tokens)
        assert put.tokens[:, 0].tolist() == [0] * 40
        assert torch.equal(put.places, bare.places + 1)
        assert all(torch.equal(put.positions[name], at + 1) for name, at in bare.positions.items())


def test_the_answer_is_a_slot(task_of):
    task = task_of(IOI)
    batch = drawn(task)
    assert [WORDS[token] for token in batch.right.ids[:, 0, 0].tolist()] == named(task, batch, "IO")
    assert [WORDS[token] for token in batch.wrong.ids[:, 0, 0].tolist()] == named(task, batch, "S1")


def test_the_answer_is_a_set_above_or_at_most(task_of):
    task = task_of(YEARS)
    batch = drawn(task)
    for year, right, wrong in zip(named(task, batch, "YY"), batch.right.ids, batch.wrong.ids, strict=True):
        words = [[WORDS[token] for token in tokens[0].tolist() if token != PAD] for tokens in (right, wrong)]
        assert words == [[f"{n:02}" for n in range(int(year) + 1, 100)], [f"{n:02}" for n in range(int(year) + 1)]]


def test_the_answer_is_a_set_without_a_value(task_of):
    task = task_of(IOI.replace('wrong: "{S}"', "wrong: {of: name, not: IO}"))
    batch = drawn(task)
    for own, wrong in zip(named(task, batch, "IO"), batch.wrong.ids, strict=True):
        assert {WORDS[token] for token in wrong[0].tolist()} == {*NAMES} - {own}


def test_an_answer_both_right_and_wrong_is_refused(task_of):
    with pytest.raises(FixtureError, match="right or wrong, not both"):
        drawn(task_of(IOI.replace("distinct: [[IO, S]]\n", "")))


def test_abc_has_three_new_names_and_all_else_the_same(task_of):
    text = IOI.replace('" Sam"', '" Sam", " France", " Italy"')
    batch = drawn(task_of(text))
    new = batch.counterparts("abc", seed=1)
    for one, other in zip(questions_in(batch), questions_in(new), strict=True):
        places = batch.task.definition.places
        seen = [{batch.task.value_at(q, place) for place in ("IO", "S1", "S2")} for q in (one, other)]
        assert len(seen[1]) == 3
        assert not seen[0] & seen[1]
        assert all(a == b for place, a, b in zip(places, one[1:], other[1:], strict=True) if place in ("YY", "place"))
    assert (new.tokens != batch.tokens)[:, :-1].sum(1).tolist() == [3] * 40
    assert all(torch.equal(new.positions[name], at) for name, at in batch.positions.items())
    assert torch.equal(new.tokens, batch.counterparts("abc", seed=1).tokens)
    assert not torch.equal(new.tokens, batch.counterparts("abc", seed=2).tokens)


def test_swap_changes_the_answer_for_the_wrong_one(task_of):
    batch = drawn(task_of(IOI))
    assert torch.equal(batch.counterparts("swap").answers, batch.wrong.ids[..., 0])
    with pytest.raises(HarnessError, match="counterpart"):
        batch.counterparts("swop")


def test_another_row_is_another_fact(task_of):
    task = task_of(ROWS.replace('" Rome"}', '" Rome"}\n  - {land: " Spain", city: " Madrid"}'))
    batch = task.encode(task.question_set("all"))
    assert batch.texts() == [f"The capital of{land} is" for land in (" France", " Italy", " Spain")]
    assert [WORDS[token] for token in batch.answers[:, 0].tolist()] == [" Paris", " Rome", " Madrid"]
    assert sorted(WORDS[token] for token in batch.wrong.ids[0, 0].tolist()) == [" Madrid", " Rome"]
    new = batch.counterparts("land", seed=5)
    assert all(one != other for one, other in zip(batch.answers.tolist(), new.answers.tolist(), strict=True))
    assert (new.tokens != batch.tokens).sum(1).tolist() == [2, 2, 2]


def test_a_row_that_shares_a_value_is_read_as_itself(task_of):
    rows = 'land: " Italy", city: " Rome", name: " Mary"}\n  - {land: " Italy", city: " Madrid", name: " Tom"'
    text = ROWS.replace('land: " Italy", city: " Rome"', rows).replace('city: " Paris"', 'city: " Paris", name: " Ann"')
    task = task_of(text.replace("The capital of{land} is", "The capital of{land} to{name} is"))
    questions = task.question_set("all")
    assert tuple(task.read_question(task.write_question(question)) for question in questions) == questions


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("one_token: [name]\n", "", r"one token of S2, where S2 is, found 2 in .* New\| York"),
        ('answer: "{IO}"', 'answer: "{place}"', r"an answer of one token, ' New York', found ' New\| York'"),
        ("END: last", "END: place", r"one token of place, where END is, found 2 in .*the\| New\| York\|,"),
        ("In{YY}", "In4{YY}", r"tokens of YY alone, found '\d\d' in In\|4\d\|.*let values begin with their space"),
        ('to"\nanswer: "{IO}"', 'to4"\nanswer: "{YY}"', "one token behind .*put the space into the answer"),
        ("END: last", "END: last-90", "END inside of each prompt"),
    ],
)
def test_tokens_that_are_not_as_claimed_are_refused(task_of, old, new, message):
    text = IOI.replace('" Sam"', '" Sam", " New York"').replace('" store", " park"', '" New York"')
    with pytest.raises(FixtureError, match=message):
        drawn(task_of(text.replace(old, new)))


def test_parts_of_a_value_of_two_tokens(task_of):
    text = IOI.replace('" store", " park"', '" New York"').replace("END: last", "A: place.first, B: place.last")
    batch = drawn(task_of(text))
    assert ({*words_at(batch, "A")}, {*words_at(batch, "B")}) == ({" New"}, {" York"})


def test_one_token_draws_only_such_values(task_of):
    task = task_of(IOI.replace('" Sam"', '" Sam", " New York"'))
    assert set(named(task, drawn(task, 300), "IO")) == set(NAMES)
    assert task.kept_values() == {"name": (5, 6)}


def test_a_question_is_written_and_read(task_of):
    task = task_of(IOI)
    batch = drawn(task)
    assert [task.read_question(text) for text in batch.texts()] == questions_in(batch)
    assert torch.equal(task.encode(questions_in(batch)).tokens, batch.tokens)
    text = "In02, Mary and John went to the park,{} gave a drink to"
    for wrong in (" Tom", " Bob", ""):
        with pytest.raises(HarnessError, match="a prompt of some"):
            task.read_question(text.format(wrong))


def test_repeats_are_paired_by_index(task_of):
    batch = drawn(task_of(REPEATED))
    again, before, after = (batch.tokens.gather(1, batch.positions[name]) for name in ("again", "before", "after"))
    assert torch.equal(again, before)
    assert torch.equal(after, batch.answers)
    assert torch.equal(batch.positions["again"], batch.places - 1)
    assert batch.tokens.shape == (40, 8)
    assert all(len(set(row)) == 4 for row in batch.tokens[:, :4].tolist())


def test_unrepeated_keeps_the_last_repeat(task_of):
    batch = drawn(task_of(REPEATED.replace("times: 2", "times: 3"), "<s>"))
    new = batch.counterparts("unrepeated", seed=2)
    assert torch.equal(new.tokens[:, [0, *range(9, 13)]], batch.tokens[:, [0, *range(9, 13)]])
    assert (new.tokens[:, 1:9] != batch.tokens[:, 1:9]).any(1).all()
    assert torch.equal(new.answers, batch.answers)


def test_more_different_tokens_than_there_are_is_one_line(task_of):
    with pytest.raises(HarnessError, match=r"expected at least 500 ordinary tokens, for \w+, found \d+ in its vocab"):
        drawn(task_of(REPEATED.replace("length: 4", "length: 500")))


def test_a_prompt_of_two_rows_is_none(task_of):
    rows = 'land: " Italy", city: " Rome"'
    task = task_of(ROWS.replace("The capital of{land} is", "The{city} of{land} is").replace(rows, rows))
    assert task.read_question("The Rome of Italy is")
    with pytest.raises(HarnessError, match="a prompt of"):
        task.read_question("The Paris of Italy is")
