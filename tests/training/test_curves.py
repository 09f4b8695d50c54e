"""Learning curves against the notebook's own sums, done over in plain Python; their file, tables and figures."""

from __future__ import annotations

import gzip
import math
import random
import warnings

import pytest
import torch
from tiny import refusal

from harness.base.errors import FixtureError, MeasurementError
from harness.tasks.addition.arithmetic import encode
from harness.tasks.addition.layout import Question
from harness.tasks.addition.series import check_partition
from harness.tasks.addition.task import Addition
from harness.training.curves import Curves, Recorder, final_losses, read_curves, rows_of, task_shares, to_csv_gz
from harness.training.plots import FIRST_STEPS, FORMATS, card_figures, draw, figures_of

pytestmark = pytest.mark.usefixtures("one_thread")


# What the notebook's calculate_…_loss add up, a question at a time. A digit k of a question or an answer is its
# k-th from the right, as in the notebook.


def use_carry(question, k):
    return question.x % 10**k + question.y % 10**k >= 10**k


def is_sum9(question, k):
    return question.x // 10**k % 10 + question.y // 10**k % 10 == 9


def use_sum9(question, k):
    return use_carry(question, k) and is_sum9(question, k)


def notebook_sums(questions, losses, right, n):
    """Return a step's columns by name, the mean of no cases as None; `losses` is [question][digit], highest first."""

    def mean(values):
        return sum(values) / len(values) if values else None

    def digit(row, k):
        return row[-1 - k]

    pairs = list(zip(questions, losses, strict=True))
    columns = {f"A{k}": mean([digit(row, k) for _, row in pairs]) for k in range(n + 1)}
    columns["loss"] = mean(list(columns.values()))
    columns["right"] = mean(right)

    def any_digit(question, use):
        return any(use(question, k) for k in range(n))

    whole = {
        # calculate_ba_oneloss: the last n digits, the sum over the cases, then over the digits
        "BA.all": [sum(row[-n:]) / n for q, row in pairs if not any_digit(q, use_carry)],
        # calculate_uc1_loss_any: the mean over the questions and all their digits; no US9, whatever its title says
        "UC1.any": [mean(row) for q, row in pairs if any_digit(q, use_carry) and not any_digit(q, use_sum9)],
        # calculate_us9_oneloss
        "US9.any": [mean(row) for q, row in pairs if any_digit(q, use_sum9)],
    }
    for k in range(n):
        whole[f"BA.D{k}"] = [digit(row, k) for q, row in pairs if not use_carry(q, k)]
        whole[f"UC1.D{k}"] = [digit(row, k) for q, row in pairs if use_carry(q, k) and not is_sum9(q, k)]
        whole[f"US9.D{k}"] = [digit(row, k) for q, row in pairs if use_carry(q, k) and is_sum9(q, k)]
    for name, values in whole.items():
        columns[name] = mean(values)
        columns[f"{name}.cases"] = len(values)
    return columns


def notebook_rows(steps, n):
    """Return every step's columns; a series without a case keeps its last value, None before there was one."""
    rows = []
    for questions, losses, right in steps:
        row = notebook_sums(questions, losses, right, n)
        for name, value in row.items():
            if value is None and rows:
                row[name] = rows[-1][name]
        rows.append(row)
    return rows


def random_steps(seed, n, n_steps=None, batch=None):
    """Return the steps of a made-up run: questions with many sum-9 columns, losses, whether all digits are right."""
    draw_from = random.Random(seed)
    n_steps, batch = n_steps or draw_from.randint(1, 12), batch or draw_from.randint(1, 5)
    steps = []
    for _ in range(n_steps):
        questions = []
        for _ in range(batch):
            x, y = 0, 0
            for _ in range(n):
                a = draw_from.randrange(10)
                x, y = 10 * x + a, 10 * y + draw_from.choice([9 - a, draw_from.randrange(10)])
            questions.append(Question(x, y))
        losses = [[draw_from.expovariate(1) for _ in range(n + 1)] for _ in questions]
        steps.append((questions, losses, [draw_from.randrange(2) for _ in questions]))
    return steps


def tensors_of(steps, layout):
    """Return tokens, losses and right of all steps, with a step in front."""
    questions, losses, right = zip(*steps, strict=True)
    tokens = torch.stack([encode(batch, layout) for batch in questions])
    return tokens, torch.tensor(losses, dtype=torch.float64), torch.tensor(right, dtype=torch.float64)


def curves_of(steps, layout):
    return Curves(layout, rows_of(*tensors_of(steps, layout), layout))


RUNS = [(seed, n, equals) for seed, n in enumerate([1, 2, 3, 4, 5, 6] * 5) for equals in (["=", "equals"][seed % 2],)]


@pytest.mark.parametrize(("seed", "n", "equals"), RUNS)
def test_every_column_is_what_the_notebook_adds_up(seed, n, equals):
    layout, steps = Addition(n, equals), random_steps(seed, n)
    found = rows_of(*tensors_of(steps, layout), layout)
    expected = notebook_rows(steps, n)
    names = layout.curve_columns
    assert sorted(names) == sorted(expected[0])
    assert found.shape == (len(steps), len(names))
    wanted = [[math.nan if row[name] is None else row[name] for name in names] for row in expected]
    wanted = torch.tensor(wanted, dtype=torch.float64)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0, equal_nan=True)


def test_the_random_runs_have_values_carried_on_and_none_yet_and_their_cases():
    kinds = {"carried": set(), "none yet": set(), "some": set()}
    for seed, n, _ in RUNS:
        for row in notebook_rows(random_steps(seed, n), n):
            for name in Addition(n).series.names:
                kind = "some" if row[f"{name}.cases"] else "none yet" if row[name] is None else "carried"
                kinds[kind].add(name)
    series = set(Addition(6).series.names)
    never, always = {"UC1.D0", "US9.D0"}, {"BA.D0"}  # no carry runs into the units
    assert kinds == {"carried": series - never - always, "none yet": series - always, "some": series - never}


def test_the_columns_are_named_from_the_highest_digit_down():
    series = (
        "BA.all", "UC1.any", "US9.any", "BA.D4", "BA.D3", "BA.D2", "BA.D1", "BA.D0", "UC1.D4", "UC1.D3", "UC1.D2",
        "UC1.D1", "UC1.D0", "US9.D4", "US9.D3", "US9.D2", "US9.D1", "US9.D0",
    )  # fmt: skip
    assert Addition(5).series.names == series
    digits = ("A5", "A4", "A3", "A2", "A1", "A0")
    assert Addition(5).curve_columns == ("loss", "right", *digits, *series, *(f"{name}.cases" for name in series))


def test_uc1_of_any_digit_leaves_out_questions_that_use_a_sum9_but_not_those_that_only_have_one():
    layout = Addition(3)
    # A carry into D1, and no 9; into D1 and through its 9; into D1, and a 9 in D2 that none reaches.
    questions = [Question(115, 117), Question(145, 155), Question(415, 517)]
    losses = torch.tensor([[[1.0] * 4, [2.0] * 4, [4.0] * 4]], dtype=torch.float64)
    row = Curves(layout, rows_of(encode(questions, layout)[None], losses, torch.ones(1, 3).double(), layout))
    assert [row[f"{name}.cases"].item() for name in ("BA.all", "UC1.any", "US9.any")] == [0, 2, 1]
    assert row["UC1.any"].item() == 2.5
    assert row["US9.any"].item() == 2


@pytest.mark.parametrize("seed", range(10))
def test_rows_worked_out_in_parts_are_those_worked_out_at_once(seed):
    n = 2 + seed % 5
    layout = Addition(n)
    steps = random_steps(seed, n, n_steps=20)
    tensors = tensors_of(steps, layout)
    whole = rows_of(*tensors, layout)
    cuts = sorted(random.Random(seed).sample(range(1, 20), 4))
    parts, before = [], None
    for start, stop in zip([0, *cuts], [*cuts, 20], strict=True):
        parts.append(rows_of(*(tensor[start:stop] for tensor in tensors), layout, before))
        before = parts[-1][-1]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=0, equal_nan=True)
    forgetful = torch.cat([rows_of(*(tensor[at : at + 1] for tensor in tensors), layout) for at in range(20)])
    assert forgetful.isnan().sum() > whole.isnan().sum()


# Every digit is in one sub-task.


@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_sub_tasks_partition_the_digits_of_every_step(n):
    layout = Addition(n)
    curves = curves_of(random_steps(n, n, n_steps=30, batch=4), layout)
    for k in range(n):
        together = sum(curves[f"{task}.D{k}.cases"] for task in ("BA", "UC1", "US9"))
        assert together.tolist() == [4] * 30
    assert sum(curves[f"{name}.cases"] for name in ("BA.all", "UC1.any", "US9.any")).tolist() == [4] * 30
    assert sum(curves.cases(task) for task in ("BA", "UC1", "US9")) == 4 * 30 * n


NOT_A_PARTITION = "expected each digit in one of BA, UC1 and US9, found one in none or in two; report this"


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param([(1, 3, 0, False)], id="none"),
        pytest.param([(1, 3, 2, True)], id="two"),
        # The notebook's check, of the sum over all digits, would pass these.
        pytest.param([(1, 3, 0, False), (1, 2, 3, True)], id="none of one question, two of another"),
        pytest.param([(1, 3, 0, False), (1, 3, 3, True)], id="none of one digit, two of another"),
        pytest.param([(0, 0, 1, False), (1, 0, 3, True)], id="none in one step, two in another"),
    ],
)
def test_sub_tasks_that_are_no_partition_are_refused(spoil):
    member = torch.zeros(2, 4, 6, dtype=torch.bool)  # steps, questions, three sub-tasks of two digits
    member[:, :, :2] = True
    check_partition(member, 2)
    for step, question, column, value in spoil:
        assert member[step, question, column] != value
        member[step, question, column] = value
    assert refusal(MeasurementError, check_partition, member, 2) == NOT_A_PARTITION


def test_the_sub_tasks_that_are_counted_are_those_that_are_checked(monkeypatch):
    from harness.tasks.addition import series

    seen = []
    monkeypatch.setattr(series, "check_partition", lambda member, n_digits: seen.append((member, n_digits)))
    layout = Addition(3)
    rows = curves_of(random_steps(0, 3, 6, 4), layout)
    ((member, n_digits),) = seen
    assert n_digits == 3
    names = [f"{task}.D{k}.cases" for task in ("BA", "UC1", "US9") for k in (2, 1, 0)]
    assert member.sum(1).tolist() == torch.stack([rows[name] for name in names], dim=1).tolist()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("digit", [0, 2])
def test_a_loss_that_is_not_finite_is_refused(bad, digit):
    layout = Addition(2)
    tokens, losses, right = tensors_of(random_steps(0, 2, 4, 3), layout)
    recorder = Recorder(layout)
    for step in range(4):
        recorder.record(tokens[step], losses[step], right[step])
    assert recorder.flush().shape == (4, len(layout.curve_columns))
    losses[2, 1, digit] = bad
    expected = "expected finite losses, found nan or infinity; lower the learning rate"
    assert refusal(MeasurementError, rows_of, tokens, losses, right, layout) == expected
    recorder.record(tokens[2], losses[2], right[2])
    assert refusal(MeasurementError, recorder.flush) == expected
    assert len(recorder.table()) == 4


# They are collected a step at a time.


@pytest.mark.parametrize("seed", range(6))
def test_a_recorder_has_the_same_table_whenever_it_is_flushed(seed):
    n = 1 + seed % 3
    layout = Addition(n)
    tensors = tensors_of(random_steps(seed, n, n_steps=15), layout)
    expected = rows_of(*tensors, layout)
    chance = random.Random(seed)
    for share in (0, 0.3, 1):
        recorder, flushed = Recorder(layout), []
        for tokens, losses, right in zip(*tensors, strict=True):
            recorder.record(tokens, losses.clone().requires_grad_(), right.bool())
            if chance.random() < share:
                flushed.append(recorder.flush())
        if share == 1:
            assert [len(rows) for rows in flushed] == [1] * 15
        table = recorder.table()
        torch.testing.assert_close(table, expected, rtol=0, atol=0, equal_nan=True)
        assert not table.requires_grad
        assert recorder.flush().shape == (0, len(layout.curve_columns))
        torch.testing.assert_close(recorder.table(), table, rtol=0, atol=0, equal_nan=True)
        if flushed:
            so_far = torch.cat(flushed)
            torch.testing.assert_close(so_far, expected[: len(so_far)], rtol=0, atol=0, equal_nan=True)


def test_a_recorder_of_nothing_has_an_empty_table():
    assert Recorder(Addition(2)).table().shape == (0, len(Addition(2).curve_columns))


# Their file.


@pytest.fixture
def curves():
    """Curves of two digits, with losses from 1e-7 to 20, so that all lengths of numbers are in the file."""
    layout = Addition(2)
    tokens, losses, right = tensors_of(random_steps(3, 2, n_steps=40, batch=2), layout)
    return Curves(layout, rows_of(tokens, losses * torch.logspace(-6, 1, 40).double()[:, None, None], right, layout))


def write(directory, raw):
    path = directory / "training.csv.gz"
    path.write_bytes(raw)
    return path


def test_the_file_reads_back_to_five_significant_digits(curves, tmp_path):
    read = read_curves(write(tmp_path, to_csv_gz(curves)), curves.task)
    assert read.task == curves.task
    assert curves.values.isnan().any()
    torch.testing.assert_close(read.values, curves.values, rtol=5e-5, atol=0, equal_nan=True)
    assert not torch.allclose(read.values, curves.values, rtol=1e-6, atol=0, equal_nan=True)
    for name in curves.task.curve_columns:
        if name.endswith(".cases"):
            assert torch.equal(read[name], curves[name])
    assert to_csv_gz(read) == to_csv_gz(curves)


def test_the_file_is_a_table_with_steps_from_0_and_nothing_where_there_is_no_value(curves):
    lines = gzip.decompress(to_csv_gz(curves)).decode().split("\n")
    assert lines.pop() == ""
    names = ["step", *curves.task.curve_columns]
    assert lines[0] == ",".join(names)
    for step, line in enumerate(lines[1:]):
        row = dict(zip(names, line.split(","), strict=True))
        assert row["step"] == str(step)
        assert row["loss"] == f"{float(curves['loss'][step]):.5g}"
        assert row["US9.D0"] == ""
        assert row["US9.D0.cases"] == "0"
        assert row["BA.D0.cases"] == "2"
    assert len(lines) == 41


def test_a_case_count_has_all_its_digits(tmp_path):
    layout = Addition(1)
    values = torch.full((1, len(layout.curve_columns)), 1234567.0).double()
    lines = gzip.decompress(to_csv_gz(Curves(layout, values))).decode().splitlines()
    row = dict(zip(lines[0].split(","), lines[1].split(","), strict=True))
    assert (row["BA.D0"], row["BA.D0.cases"]) == ("1.2346e+06", "1234567")


def test_the_same_curves_are_the_same_bytes_at_any_time(curves, monkeypatch):
    first = to_csv_gz(curves)
    monkeypatch.setattr("time.time", lambda: 2e9)
    copy = Curves(curves.task, curves.values.clone())
    assert to_csv_gz(copy) == first
    copy.values[0, 0] *= 1.01
    assert to_csv_gz(copy) != first


def test_a_run_without_a_step_can_be_read_back(tmp_path):
    nothing = Curves(Addition(2), Recorder(Addition(2)).table())
    read = read_curves(write(tmp_path, to_csv_gz(nothing)), Addition(2))
    assert read.values.shape == nothing.values.shape


def header(layout):
    return ",".join(["step", *layout.curve_columns]) + "\n"


def row_of(layout, *first):
    return ",".join(["0", *first, *["1"] * (len(layout.curve_columns) - len(first))]) + "\n"


TWO = Addition(2)
BROKEN = {
    "empty": b"",
    "empty inside": gzip.compress(b""),
    "not gzip": header(TWO).encode(),
    "truncated": gzip.compress((header(TWO) + row_of(TWO) * 50).encode())[:-20],
    "a header of gzip alone": gzip.compress(b"")[:7],
    "a checksum that is wrong": gzip.compress(header(TWO).encode())[:-8] + bytes(8),
    "garbage inside": gzip.compress(b"")[:10] + b"\xff" * 40,
    "not text": gzip.compress(header(TWO).encode() + b"\xff\xfe\n"),
    "no header": gzip.compress(row_of(TWO).encode()),
    "not a number": gzip.compress((header(TWO) + row_of(TWO, "x")).encode()),
    "not a number, over lines": gzip.compress((header(TWO) + row_of(TWO, '"x\ny"')).encode()),
    "a row that is short": gzip.compress((header(TWO) + row_of(TWO) + "1,2,3\n").encode()),
    "rows that are all short": gzip.compress((header(TWO) + "0,1,2\n1,2,3\n").encode()),
    "rows that are all long": gzip.compress((header(TWO) + row_of(TWO)[:-1] + ",7\n").encode()),
    "a cell without end": gzip.compress((header(TWO) + row_of(TWO, "1" * 200_000)).encode()),
    "five digits": gzip.compress((header(Addition(5)) + row_of(Addition(5))).encode()),
    "other columns": gzip.compress((header(TWO) + row_of(TWO)).replace("US9.any", "US9.all").encode()),
}


def test_what_is_broken_below_is_whole_otherwise(tmp_path):
    path = write(tmp_path, gzip.compress((header(TWO) + row_of(TWO, "0.5")).encode()))
    assert read_curves(path, TWO)["loss"].tolist() == [0.5]


@pytest.mark.parametrize("raw", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_an_error_of_one_line(raw, tmp_path):
    path = write(tmp_path, raw)
    text = refusal(FixtureError, read_curves, path, TWO)
    assert text.startswith(f"{path}: expected learning curves as `harness train` writes them, found ")
    assert text.endswith("; restore them")
    assert not text.endswith("found ; restore them")


@pytest.mark.parametrize("other", [Addition(1), Addition(3), Addition(20, "equals")], ids=str)
def test_curves_of_another_layout_are_refused(other, curves, tmp_path):
    path = write(tmp_path, to_csv_gz(curves))
    expected = f"{path}: expected learning curves as `harness train` writes them, found other columns; restore them"
    assert refusal(FixtureError, read_curves, path, other) == expected
    assert len(read_curves(path, Addition(2, "equals")).values) == 40  # what is told does not depend on the equals sign


def test_a_file_that_is_not_there_is_an_error_that_says_who_writes_one(tmp_path):
    path = tmp_path / "training.csv.gz"
    expected = f"{path}: expected learning curves, found no such file; only `harness train` records some"
    assert refusal(FixtureError, read_curves, path, TWO) == expected
    path.mkdir()
    assert "expected learning curves as `harness train` writes them" in refusal(FixtureError, read_curves, path, TWO)


# What is told of them.


@pytest.fixture(scope="module")
def told():
    """Seven steps of two questions of two digits: the last five count."""
    layout = Addition(2)
    plain, carried, nine = Question(11, 11), Question(16, 17), Question(46, 57)  # BA; UC1 in D1; US9 in D1
    batches = [
        [plain, nine], [plain, carried], [plain, carried], [plain, plain], [plain, carried], [plain, plain],
        [plain, plain],
    ]  # fmt: skip
    # A2, A1 and A0 cost s, 2s and 3s in step s (from 1), and ten times as much in the second question.
    steps = [
        (batch, [[s, 2 * s, 3 * s], [10 * s, 20 * s, 30 * s]], [1, int(s > 3)]) for s, batch in enumerate(batches, 1)
    ]
    return curves_of(steps, layout)


def test_a_final_loss_is_the_mean_of_the_last_five_steps(told):
    # The mean of the last five s is 5; over the two questions, of 1 and 10 times that, 27.5.
    assert told["loss"].tolist() == [11 * s for s in range(1, 8)]
    assert told["right"].tolist() == [0.5, 0.5, 0.5, 1, 1, 1, 1]
    assert told.final("loss") == 55
    assert [told.final(f"A{k}") for k in (2, 1, 0)] == [27.5, 55, 82.5]
    # BA.all: A1 and A0 of one question in steps 3 and 5, of both in 4, 6 and 7.
    assert told["BA.all"].tolist()[2:] == pytest.approx([7.5, 55, 12.5, 82.5, 96.25])
    assert told.final("BA.all") == pytest.approx(50.75)
    assert told["BA.D1"].tolist()[2:] == [6, 44, 10, 66, 77]
    assert told.final("BA.D1") == pytest.approx(40.6)
    # UC1.D1: twenty times s in 2, 3 and 5; carried on in 4, 6 and 7.
    assert told["UC1.D1"].tolist()[1:] == [40, 60, 60, 100, 100, 100]
    assert told.final("UC1.D1") == 84
    assert told.final("UC1.any") == 84
    assert told.final("US9.D1") == 20
    assert math.isnan(told.final("UC1.D0"))
    assert math.isnan(told.final("US9.D0"))


def test_the_table_of_final_losses_is_by_digit_and_sub_task(told):
    digits = final_losses(told)
    assert digits[0] == {"digit": "all", "loss": "55", "BA": "51", "UC1": "84", "US9": "20"}
    assert digits[1] == {"digit": "A2", "loss": "28"}  # the last carry alone: no digit of the question
    assert digits[2] == {"digit": "A1", "loss": "55", "BA": "41", "UC1": "84", "US9": "20"}
    assert digits[3] == {"digit": "A0", "loss": "82", "BA": "82", "UC1": "", "US9": ""}
    assert len(digits) == 4


@pytest.mark.parametrize("n", [1, 5, 12])
def test_digits_have_their_names_in_every_table(n):
    curves = curves_of(random_steps(1, n, 2, 2), Addition(n))
    assert [row["digit"] for row in final_losses(curves)] == ["all", *(f"A{k}" for k in range(n, -1, -1))]
    assert not any("digit 0" in str(row) for row in final_losses(curves))


def test_fewer_steps_than_five_are_all_there_is():
    curves = curves_of([([Question(1, 2)], [[1, 2]], [1]), ([Question(1, 2)], [[3, 6]], [1])], Addition(1))
    assert (curves.final("loss"), curves.final("A1"), curves.final("BA.D0")) == (3, 2, 4)


def test_a_sentence_tells_how_often_each_sub_task_came_up(told):
    # 28 digits; into D1 three carries as UC1 and one as US9.
    assert [told.cases(task) for task in ("BA", "UC1", "US9")] == [24, 3, 1]
    expected = "Of 28 digits, each in one sub-task: 24 BA (85.7%), 3 UC1 (10.7%), 1 US9 (3.6%)."
    assert task_shares(told) == expected
    nothing = Curves(TWO, told.values[:0])
    assert task_shares(nothing).endswith("0 BA (0.0%), 0 UC1 (0.0%), 0 US9 (0.0%).")


# Their figures.

MAGIC = {"png": b"\x89PNG\r\n\x1a\n", "svg": b"<?xml", "pdf": b"%PDF-"}
SHOWN = {n: curves_of(random_steps(n, n, 30, 8), Addition(n)) for n in (1, 2, 5)}


def texts(svg):
    """Return what is written in a figure; its letters are shapes, with the text in a comment before them."""
    return [part.split("-->")[0].strip() for part in svg.decode().split("<!--")[1:]]


@pytest.mark.parametrize("n", SHOWN)
def test_every_series_of_a_figure_is_a_column(n):
    figures = figures_of(SHOWN[n])
    columns = [f"D{k}" for k in range(n - 1, -1, -1)]
    assert list(figures) == ["all-digits", "per-digit", "per-task", "BA", "UC1", "US9", *columns]
    assert card_figures(SHOWN[n]) == ("all-digits", "per-digit", "per-task")
    shown = {name for series in figures.values() for name in series}
    assert shown == set(SHOWN[n].task.answer_tokens) | set(SHOWN[n].task.series.names) | {"loss"}
    assert shown <= set(SHOWN[n].task.curve_columns)


def test_the_figures_show_what_they_are_named_after():
    figures = figures_of(SHOWN[2])
    assert figures["all-digits"] == ("loss",)
    assert figures["per-digit"] == ("A2", "A1", "A0", "loss")
    assert figures["per-task"] == ("BA.all", "UC1.any", "US9.any")
    assert figures["BA"] == ("BA.D1", "BA.D0", "BA.all")
    assert figures["US9"] == ("US9.D1", "US9.D0", "US9.any")
    assert figures["D1"] == ("BA.D1", "UC1.D1", "US9.D1")


@pytest.mark.slow
def test_every_figure_can_be_drawn_and_every_format_written():
    assert set(MAGIC) == set(FORMATS)
    # Of one digit, so that some of them have nothing to show: no carry runs into it.
    for index, figure in enumerate(figures_of(SHOWN[1])):
        file_format = FORMATS[index % 3]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert draw(SHOWN[1], figure, file_format).startswith(MAGIC[file_format]), figure


@pytest.mark.slow
@pytest.mark.parametrize("file_format", MAGIC)
def test_a_figure_is_the_same_bytes_every_time(file_format, monkeypatch):
    drawn = []
    for now in ("1000000000", "2000000000"):  # what matplotlib would take for the time
        monkeypatch.setenv("SOURCE_DATE_EPOCH", now)
        drawn.append(draw(SHOWN[2], "per-task", file_format))
    assert drawn[0] == drawn[1]


def test_a_figure_names_its_lines_by_digit_and_sub_task():
    written = texts(draw(SHOWN[5], "UC1", "svg"))
    assert "UC1 in each digit: loss of 5-digit addition in training" in written
    assert {"UC1, D4", "UC1, D3", "UC1, D2", "UC1, D1", "UC1, any digit"} <= set(written)
    assert "UC1, D0" not in written  # no carry runs into D0, and a line of nothing has no name
    written = texts(draw(SHOWN[2], "per-digit", "svg"))
    assert {"A2", "A1", "A0", "all digits", "nats per digit", "nats per digit (log)", "step"} <= set(written)
    assert not any("digit 0" in text for text in written)


@pytest.mark.parametrize(("n_steps", "spans"), [(1200, ["whole run"]), (1201, ["whole run", "first 1,200 steps"])])
def test_a_long_run_is_also_shown_close_up(n_steps, spans):
    assert FIRST_STEPS == 1200
    values = SHOWN[1].values.repeat(n_steps // 30 + 1, 1)[:n_steps]
    written = texts(draw(Curves(Addition(1), values), "all-digits", "svg"))
    assert [text for text in written if text in ("whole run", "first 1,200 steps")] == spans
    assert written.count("nats per digit") == len(spans)
