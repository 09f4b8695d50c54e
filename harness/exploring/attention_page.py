"""Attention patterns → an interactive HTML page, by CircuitsVis (the optional extra `viz`).

The page is self-contained. CircuitsVis's own HTML loads its script from a server whenever there is a network. Its wheel
holds the same script, so this module puts that script into the page, once for all patterns.
"""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from importlib import import_module, resources

from harness.base.errors import HarnessError
from harness.exploring.attention import AttentionMap
from harness.models.fixtures import Fixture

BUNDLE = "dist/cdn/iife.js"  # path of the script in the wheel


def require_circuitsvis() -> str:
    """Return CircuitsVis's script, safe to put into a page.

    Raises:
        HarnessError: CircuitsVis is not installed, or its wheel has no script.
    """
    try:
        import_module("circuitsvis")
        script = resources.files("circuitsvis").joinpath(BUNDLE).read_text("utf-8")
    except ImportError:
        fix = "install it: pip install circuitsvis (it is the extra viz), or leave --html out"
        raise HarnessError.of("CircuitsVis, which makes the HTML", "none installed", fix) from None
    except OSError as error:
        fix = "install another version of circuitsvis"
        raise HarnessError.of(f"CircuitsVis's script {BUNDLE}", error.strerror or str(error), fix) from None
    # A string in the script must not end the <script> element. Inside a string, `\/` means `/`.
    return script.replace("</script", "<\\/script").partition("//# sourceMappingURL")[0]


def attention_page(fixture: Fixture, maps: Sequence[AttentionMap]) -> str:
    """Return the HTML page of `maps`: one view per map, with every head in layer order, `L0H0` first.

    Raises:
        HarnessError: CircuitsVis is not installed.
    """
    script, views = require_circuitsvis(), []
    for place, shown in enumerate(maps):
        heads = shown.pattern.shape[1]
        by_head = shown.pattern.flatten(0, 1).double().round(decimals=4)  # finer than the colours show; halves the page
        wanted = {
            "tokens": shown.labels,
            "attention": by_head.tolist(),
            "attentionHeadNames": [f"L{layer}H{head}" for layer in shown.layers for head in range(heads)],
            "minValue": 0, "maxValue": 1, "maskUpperTri": True,
        }  # fmt: skip
        views.append(
            f'<h2>{html.escape(shown.title)}</h2>\n<div id="view-{place}"></div>\n'
            f'<script>CircuitsVis.render("view-{place}", CircuitsVis.AttentionHeads, {_json(wanted)})</script>\n'
        )
    title, tokens = f"Attention patterns of {fixture.name}", fixture.task.answer_tokens
    predicting = maps[0].predicting if maps and fixture.task.answer_steps else {}
    told = ""
    if predicting:
        steps = f" Steps {predicting[tokens[0]]} to {predicting[tokens[-1]]} predict the answer"
        told = f"{steps} {fixture.task.nouns.tokens} {tokens[0]} to {tokens[-1]}."
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{title}</title>\n'
        "<style>body {font-family: sans-serif; margin: 2em} h2 {font-size: 1em; margin-top: 3em}</style>\n"
        f"<h1>{title}</h1>\n<p>A row is the step that looks, a column the step that it looks at.{told}</p>\n"
        f"<script>{script}</script>\n{''.join(views)}</html>\n"
    )


def _json(value: object) -> str:
    """Return `value` as JSON that cannot end a script element."""
    return json.dumps(value).replace("</", "<\\/")
