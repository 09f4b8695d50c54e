"""Attention patterns and circuits, drawn and described, against TransformerLens's hooks and plain numpy."""

from __future__ import annotations

import io
import json
import re
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import refusal, write_tiny

from harness.base.errors import HarnessError
from harness.cli import main
from harness.exploring.attention import CHUNK, attention_maps, mean_map
from harness.exploring.attention_figures import ANSWER, DPI, UNREAD, attention_figure, draw_attention
from harness.exploring.attention_page import attention_page, require_circuitsvis
from harness.exploring.circuit_figures import by_token, circuit_figure
from harness.exploring.circuits import circuits
from harness.exploring.description import by_layer, describe, to_markdown
from harness.models.fixtures import load_fixture
from harness.specs.fixtures.pins import Accuracy
from harness.tasks.addition.arithmetic import encode, label
from harness.tasks.addition.layout import Question
from harness.tasks.addition.sampling import example_questions, tokens_for
from harness.tasks.addition.task import Addition
from harness.tasks.questions import QuestionList, Sample

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = ["D1", "D0", "+", "D'1", "D'0", "=", "A2", "A1", "A0"]  # of two digits
QUESTIONS = [Question(15, 45), Question(3, 96), Question(70, 8)]


@pytest.fixture(scope="module")
def fixtures(tmp_path_factory):
    directory = tmp_path_factory.mktemp("fixtures")
    write_tiny(directory)
    write_tiny(directory, "words", equals="equals", n_layers=1, n_heads=1)
    return directory


@pytest.fixture(scope="module")
def tiny(fixtures):
    return load_fixture("tiny", fixtures, "cpu")


@pytest.fixture(scope="module")
def words(fixtures):
    return load_fixture("words", fixtures, "cpu")


def patterns_of(fixture, tokens):
    """Return every head's pattern by TransformerLens's own cache, [question, layer, head, query, key]."""
    _, cache = fixture.model.run_with_cache(tokens)
    layers = range(fixture.recipe.model.n_layers)
    return torch.stack([cache[f"blocks.{layer}.attn.hook_pattern"] for layer in layers], dim=1)


def grids(figure):
    """Return what the axes of a figure show, by the name of the head, in the order drawn."""
    found = {}
    for ax in figure.axes:
        if ax.get_label() != "scale":
            (mesh,) = ax.collections
            found.setdefault(ax.get_title(), []).append(mesh)
    return found


# Patterns


def test_maps_are_the_patterns_of_transformerlens(tiny):
    expected = patterns_of(tiny, encode(QUESTIONS, tiny.task))
    maps = attention_maps(tiny, ["15+45", *QUESTIONS[1:]])
    assert len(maps) == len(QUESTIONS)
    for shown, pattern in zip(maps, expected, strict=True):
        assert shown.pattern.shape == (2, 2, 9, 9)
        torch.testing.assert_close(shown.pattern, pattern)
    assert not torch.allclose(expected[0], expected[1], atol=1e-3)  # a mix-up of questions would be seen
    assert not torch.allclose(expected[0, 0, 0], expected[0, 0, 1], atol=1e-3)  # and of heads
    assert not torch.allclose(expected[0, 0], expected[0, 1], atol=1e-3)  # and of layers


@pytest.mark.parametrize("chunk", [1, 2, CHUNK])
def test_the_mean_is_that_of_all_questions_whatever_the_chunks(tiny, chunk, monkeypatch):
    monkeypatch.setattr("harness.exploring.attention.CHUNK", chunk)
    sample = Sample(5, 3)
    expected = patterns_of(tiny, tokens_for(sample, tiny.task)).double().mean(0).float()
    shown = mean_map(tiny, sample)
    torch.testing.assert_close(shown.pattern, expected)
    assert shown.labels == tuple(NAMES)


def test_titles_say_what_was_asked_and_what_a_wrong_model_answers(tiny):
    shown = attention_maps(tiny, QUESTIONS[:1], ["UC1"])[0]
    logits = tiny.model(encode(QUESTIONS[:1], tiny.task))[0]
    said = "".join("0123456789+-="[token] for token in logits.argmax(-1)[5:-1].tolist())
    assert said != "060"  # random weights do not add
    assert shown.title == f"UC1: 15+45=060 (MC1), which the model answers {said}"
    assert mean_map(tiny, QuestionList((QUESTIONS[0],) * 2)).title == "mean over 2 listed (0 of 2 answered right)"


def test_a_right_answer_is_not_remarked_upon():
    (shown,) = attention_maps(load_fixture("quick_d5_l2_s0", device="cpu"), ["15508+14500"])
    assert shown.title == "15508+14500=030008 (SimpleUS9)"


def test_labels_name_each_step_and_its_digit(tiny, words):
    (shown,) = attention_maps(tiny, ["15+45"])
    assert shown.labels == ("D1=1", "D0=5", "+", "D'1=4", "D'0=5", "=", "A2=0", "A1=6", "A0=0")
    (shown,) = attention_maps(words, ["15+45"])
    assert shown.labels[5:12] == ("e", "q", "u", "a", "l", "s", "A2=0")


@pytest.mark.parametrize("n_digits", [2, 3, 5, 20])
def test_examples_are_of_their_class_and_always_the_same(n_digits):
    layout = Addition(n_digits)
    examples = example_questions(layout)
    assert list(examples) == ["BA", "UC1", "US9"]
    assert examples == example_questions(layout)
    for name, questions in examples.items():
        assert len(questions) == 3
        labels = label(encode(questions, layout), layout)
        assert labels.use_carry.any(1).tolist() == [name != "BA"] * 3
        assert labels.use_sum9.any(1).tolist() == [name == "US9"] * 3


def test_five_digits_show_cascades_of_each_length_to_three():
    labels = label(encode(example_questions(Addition(5))["US9"], Addition(5)), Addition(5))
    assert labels.use_sum9.sum(1).tolist() == [1, 2, 3]


def test_one_digit_has_no_digit_that_uses_a_carry():
    examples = example_questions(Addition(1))
    assert list(examples) == ["BA"]
    assert all(sum(question) < 10 for question in examples["BA"])


# Pictures


def test_what_is_drawn_is_the_pattern_on_one_scale_without_the_future(tiny):
    expected = patterns_of(tiny, encode(QUESTIONS, tiny.task)).numpy()
    drawn = grids(attention_figure(tiny, attention_maps(tiny, QUESTIONS)))
    assert list(drawn) == ["L0H0", "L0H1", "L1H0", "L1H1"]
    for place, meshes in enumerate(drawn.values()):
        assert len(meshes) == len(QUESTIONS)
        for question, mesh in enumerate(meshes):
            values = mesh.get_array()
            assert mesh.get_clim() == (0, 1)
            assert (values.mask == np.triu(np.ones((9, 9), bool), 1)).all()
            np.testing.assert_allclose(values.filled(0), expected[question].reshape(4, 9, 9)[place], atol=1e-6)


def test_axes_are_labelled_and_answer_steps_are_marked(tiny):
    (shown,) = attention_maps(tiny, ["15+45"])
    axes = {ax.get_title(): ax for ax in attention_figure(tiny, [shown]).axes}
    below = [label.get_text() for label in axes["L1H1"].get_xticklabels()]
    assert below == list(shown.labels)
    first, last = axes["L0H0"].get_yticklabels(), axes["L1H0"].get_yticklabels()
    assert [label.get_text() for label in first] == [f"{name}  S{step}" for step, name in enumerate(shown.labels)]
    # S5 to S7 predict A2 to A0; the last step is read by nothing, and in the last layer nor are those before.
    assert [label.get_color() for label in first] == ["black"] * 5 + [ANSWER] * 3 + [UNREAD]
    assert [label.get_color() for label in last] == [UNREAD] * 5 + [ANSWER] * 3 + [UNREAD]
    assert not any(label.get_text() for label in axes["L0H1"].get_yticklabels())
    assert not any(label.get_text() for label in axes["L0H0"].get_xticklabels())
    for ax in (axes["L0H0"], axes["L1H1"]):
        assert [list(line.get_ydata()) for line in ax.lines] == [[5, 5], [8, 8]]
    arrows = {text.get_text(): text.xy[1] for text in axes["L1H1"].texts}
    assert arrows == {"→ A2": 5.5, "→ A1": 6.5, "→ A0": 7.5}


@pytest.mark.parametrize("name", ["tiny", "words"])
def test_no_text_of_the_figure_lies_on_another_or_outside(name, fixtures):
    fixture = load_fixture(name, fixtures, "cpu")
    figure = attention_figure(fixture, [mean_map(fixture, Sample(2, 0)), *attention_maps(fixture, QUESTIONS[:1])])
    check_texts(figure)


def test_no_text_of_the_circuits_lies_on_another_or_outside():
    fixture = load_fixture("quick_d5_l2_s0", device="cpu")
    check_texts(circuit_figure(fixture, circuits(fixture)))


def check_texts(figure):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    FigureCanvasAgg(figure).draw()
    texts = [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
    boxes = [text.get_window_extent() for text in texts]
    assert len(texts) > 40
    for i, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0, texts[i]
        assert box.x1 <= figure.bbox.x1, texts[i]
        assert figure.bbox.y0 <= box.y0, texts[i]
        assert box.y1 <= figure.bbox.y1, texts[i]
        for j in range(i):
            assert not box.overlaps(boxes[j]), (texts[i], texts[j])


@pytest.mark.slow
def test_each_format_is_what_it_says_and_the_same_again(tiny):
    maps = attention_maps(tiny, QUESTIONS)
    for file_format, start in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        picture = draw_attention(tiny, maps, file_format)
        assert picture.startswith(start)
        assert picture == draw_attention(tiny, maps, file_format)
    assert len(re.findall(rb"/Type /Page\b", draw_attention(tiny, maps, "pdf"))) == len(maps)


@pytest.mark.slow
def test_more_questions_than_a_picture_holds_are_refused(tiny, monkeypatch):
    monkeypatch.setattr("harness.exploring.attention_figures.MOST_PIXELS", 2000)
    maps = attention_maps(tiny, QUESTIONS)
    assert attention_figure(tiny, maps).get_figheight() * DPI <= 2000
    text = "expected 1 to 3 questions in a picture, found {}; ask for the mean over them, or make several pictures"
    assert refusal(HarnessError, attention_figure, tiny, [*maps, maps[0]]) == text.format(4)
    none = "expected at least 1 question in a picture, found 0; ask one"
    assert refusal(HarnessError, attention_figure, tiny, []) == none
    assert draw_attention(tiny, [*maps, maps[0]], "pdf").startswith(b"%PDF")  # whose pages hold one each


# The page


def test_the_page_holds_the_script_once_and_the_patterns(tiny):
    pytest.importorskip("circuitsvis", reason="the extra viz is not installed")
    maps = attention_maps(tiny, QUESTIONS)
    page = attention_page(tiny, maps)
    assert page.count("var CircuitsVis=") == 1
    assert len(re.findall("^<script>", page, re.MULTILINE)) == page.count("</script") == 1 + len(maps)
    assert not re.search(r"<(?:script|link|img|iframe)[^>]+(?:src|href)\s*=", page.replace(require_circuitsvis(), ""))
    assert "sourceMappingURL" not in page
    views = re.findall(r'CircuitsVis\.render\("view-\d", CircuitsVis\.AttentionHeads, (\{.*?\})\)</script>', page)
    for view, shown in zip(views, maps, strict=True):
        given = json.loads(view)
        assert given["tokens"] == list(shown.labels)
        assert given["attentionHeadNames"] == ["L0H0", "L0H1", "L1H0", "L1H1"]
        np.testing.assert_allclose(given["attention"], shown.pattern.reshape(4, 9, 9), atol=6e-5)


def test_without_circuitsvis_one_line_says_what_to_install(fixtures, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "circuitsvis", None)
    out, page = tmp_path / "a.png", tmp_path / "a.html"
    arguments = ["attention", "tiny", "--out", str(out), "--html", str(page), "--device=cpu", f"--fixtures={fixtures}"]
    assert main(arguments) == 2
    expected = "harness: expected CircuitsVis, which makes the HTML, found none installed; install it: pip install circuitsvis "
    assert capsys.readouterr().err.startswith(expected)
    assert not list(tmp_path.iterdir())


# Circuits and the description


def test_circuits_are_the_products_of_the_weights(tiny):
    weights = {name: weight.double().numpy() for name, weight in tiny.weights.items()}
    for layer in (0, 1):
        found = circuits(tiny, layer)
        block = {name.split(".", 2)[2]: w for name, w in weights.items() if name.startswith(f"blocks.{layer}.")}
        for head in (0, 1):
            carried = weights["embed.W_E"] @ block["attn.W_V"][head] @ block["attn.W_O"][head]
            np.testing.assert_allclose(found.neurons[head], carried @ block["mlp.W_in"], atol=1e-5)
        np.testing.assert_allclose(found.logits, block["mlp.W_out"] @ weights["unembed.W_U"], atol=1e-5)


def test_the_picture_of_circuits_shows_them_sorted_by_token(tiny):
    found = circuits(tiny, 1)
    drawn = [ax for ax in circuit_figure(tiny, found).axes if ax.images]
    assert [ax.get_title("left") for ax in drawn] == [
        "L1H0: W_E·W_V·W_O·W_in", "L1H1: W_E·W_V·W_O·W_in", "L1M: (W_out·W_U)ᵀ",
    ]  # fmt: skip
    order = by_token(found.logits.numpy().T)
    assert sorted(order.tolist()) == list(range(16))
    raised = found.logits.max(1)
    sorted_by = [(int(raised.indices[neuron]), -float(raised.values[neuron])) for neuron in order]
    assert sorted_by == sorted(sorted_by)
    for ax, matrix in zip(drawn, [*found.neurons, found.logits.T], strict=True):
        assert torch.equal(torch.from_numpy(np.asarray(ax.images[0].get_array())), matrix[:, order])
        assert [label.get_text() for label in ax.get_yticklabels()] == list("0123456789+-=")
    assert drawn[0].images[0].get_clim() == drawn[1].images[0].get_clim()


def test_a_description_holds_shapes_norms_and_every_hook_point(tiny, fixtures):
    found = describe(tiny, fixtures)
    assert found.shapes == {name: tuple(weight.shape) for name, weight in tiny.weights.items()}
    assert next(iter(found.shapes)) == "embed.W_E"
    assert found.norms["blocks.0.mlp.W_in"] == pytest.approx(
        [np.linalg.norm(tiny.weights["blocks.0.mlp.W_in"].numpy())]
    )
    by_head = [np.linalg.norm(head) for head in tiny.weights["blocks.1.attn.W_Q"].numpy()]
    assert found.norms["blocks.1.attn.W_Q"] == pytest.approx(by_head)
    assert len(found.norms["blocks.1.attn.b_O"]) == 1
    assert found.config["d_model"] == "8"
    assert found.hooks["blocks.1.attn.hook_pattern"] == (1, 2, 9, 9)
    assert found.hooks["blocks.0.hook_mlp_out"] == (1, 9, 8)
    assert set(found.hooks) | set(found.silent) == set(tiny.model.hook_dict)
    assert not set(found.hooks) & set(found.silent)
    (product,) = [product for product in found.circuits if product.of == "L1H1"]
    assert (product.shape, product.norm) == ((13, 16), pytest.approx(float(circuits(tiny, 1).neurons[1].norm())))


def test_hook_points_are_told_once_for_layers_alike():
    hooks = {"blocks.0.a": (1, 2), "blocks.1.a": (1, 2), "blocks.2.a": (1, 3), "hook_embed": (1, 4)}
    assert by_layer(hooks) == [
        ("blocks.L.a", (1, 2), "0, 1"), ("blocks.L.a", (1, 3), "2"), ("hook_embed", (1, 4), ""),
    ]  # fmt: skip


def test_the_description_as_text_tells_accuracy_by_case(tiny, fixtures):
    found = describe(tiny, fixtures)
    text = to_markdown(found)
    assert text == found._repr_markdown_()
    assert "None was measured when the weights were pinned." in text
    assert "![" not in text
    assert re.search(r"\| blocks\.L\.attn\.hook_z +\| question × 9 × 2 × 4 +\| 0, 1 +\|", text)
    assert re.search(r"\| blocks\.1\.attn\.W_O +\| 2 × 4 × 8 +\| [\d.]+, [\d.]+ +\|", text)
    measured = Accuracy(
        questions="BA",
        n=8,
        right=6,
        right_teacher_forced=[8, 7, 6],
        right_free_running=[8, 7, 6],
        loss=0.5,
    )
    known = to_markdown(describe_with(found, [measured]))
    assert re.search(r"\| BA +\| 8 +\| 6 \(75\.00%\) +\| 0\.5 +\| 100\.00% +\| 87\.50% +\| 75\.00% +\|", known)


def describe_with(found, measured):
    from dataclasses import replace

    return replace(found, pin=found.pin.model_copy(update={"measured": measured}))


# The commands


@pytest.fixture
def where(fixtures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return [f"--fixtures={fixtures}", "--device=cpu"]


@pytest.mark.slow
def test_attention_draws_nine_examples_where_nothing_is_asked(where, tmp_path, tiny, capsys):
    assert main(["attention", "tiny", *where]) == 0
    assert capsys.readouterr().out == "wrote attention-tiny.png\n"
    assert [path.name for path in tmp_path.iterdir()] == ["attention-tiny.png"]
    examples = example_questions(tiny.task)
    titles = [name for name, questions in examples.items() for _ in questions]
    maps = attention_maps(tiny, [q for questions in examples.values() for q in questions], titles)
    assert (tmp_path / "attention-tiny.png").read_bytes() == draw_attention(tiny, maps, "png")


@pytest.mark.slow
def test_attention_draws_the_mean_before_the_questions(where, tmp_path, tiny):
    assert main(["attention", "tiny", "15+45", "--mean", "{n: 4, seed: 2}", "--out", "A.PNG", *where]) == 0
    maps = [mean_map(tiny, Sample(4, 2)), *attention_maps(tiny, ["15+45"])]
    assert (tmp_path / "A.PNG").read_bytes() == draw_attention(tiny, maps, "png")


def test_attention_draws_the_mean_alone(where, tmp_path, tiny):
    assert main(["attention", "tiny", "--mean", "ba", "--out", "m.svg", *where]) == 0
    text = (tmp_path / "m.svg").read_text("utf-8")
    assert text.count("<!-- L1H1 -->") == 1
    assert re.search(r"<!-- mean over ba \(\d of \d answered right\) -->", text)


@pytest.mark.slow
def test_attention_makes_a_page(where, tmp_path, capsys):
    pytest.importorskip("circuitsvis", reason="the extra viz is not installed")
    assert main(["attention", "tiny", "15+45", "--html", "a.html", *where]) == 0
    assert capsys.readouterr().out == "wrote attention-tiny.png\nwrote a.html\n"
    assert "15+45=060" in (tmp_path / "a.html").read_text("utf-8")


def test_describe_prints_what_the_function_returns(where, tiny, fixtures, tmp_path, capsys):
    assert main(["describe", "tiny", *where]) == 0
    assert capsys.readouterr().out == to_markdown(describe(tiny, fixtures))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_describe_writes_text_and_pictures(where, tmp_path, capsys):
    assert main(["describe", "tiny", "--out", "new/d", *where]) == 0
    assert capsys.readouterr().out.endswith("wrote new/d/describe.md\n")
    made = tmp_path / "new" / "d"
    shown = re.findall(r"!\[Circuits\]\((.*)\)", (made / "describe.md").read_text("utf-8"))
    assert shown == ["circuits-L0.png", "circuits-L1.png"]
    assert sorted(path.name for path in made.iterdir()) == [*shown, "describe.md"]
    for name in shown:
        assert Image.open(io.BytesIO((made / name).read_bytes())).size[0] > 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["attention", "nothing"], "expected a fixture in FIXTURES, found nothing; write one of tiny, words"),
        (["describe", "nothing"], "expected a fixture in FIXTURES, found nothing; write one of tiny, words"),
        (
            ["attention", "tiny", "1+x"],
            "expected a question of two numbers of at most 2 digits, like 15+45, found 1+x;",
        ),
        (["attention", "tiny", "--mean", "all"], "questions:1:1: expected ba, uc1, simple_us9, cascade_us9, steps or"),
        (
            ["attention", "tiny", "--out", "a.gif"],
            "expected a file that ends in .png, .svg or .pdf, found a.gif; choose",
        ),
        (["attention", "tiny", "--out", "png"], "expected a file that ends in .png, .svg or .pdf, found png; choose"),
        (
            ["attention", "tiny", "1+1", "--out", "no/a.png"],
            "no/a.png: expected a file that can be written, found No such",
        ),
        (["describe", "tiny", "--out", "file"], "file: expected a directory that can be written, found File exists;"),
        pytest.param(
            ["describe", "tiny", "--out", "file/d"],
            "file/d: expected a directory that can be written, found Not a dir",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_trouble_is_one_line_and_leaves_nothing(arguments, message, where, fixtures, tmp_path, capsys):
    (tmp_path / "file").write_text("", "utf-8")
    assert main([*arguments, *where]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"harness: {message.replace('FIXTURES', str(fixtures))}")
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
