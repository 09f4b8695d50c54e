"""The notebook's named question sets (Part 8), as text. Imports no torch.

The sets hold the notebook's questions, in its order. There are three decisions about them, and no others:

* Row 18 of ``steps`` is removed: the notebook wrote row 17 twice, and so left row 18 as all zero tokens.
* Repeated rows of ``cascade_us9`` stay, because counts over them are published.
* One rule defines the sets for other sizes. A question belongs to the set of an n-digit task if both its addends fit
  into n digits. So a set for fewer digits is a part of the five-digit set, and more digits mean leading zeros (which
  change no case). The five long ``uc1`` questions are added from ten digits on, as in the notebook.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

from harness.base.errors import HarnessError
from harness.tasks.addition.layout import Layout, Question

_BA = """12345+33333 33333+12345 45762+33113 888+11111 2362+23123 15+81 1000+4440 4440+1000 24033+25133
23533+21133 32500+1 31500+1111 5500+12323 4500+2209 10990+44000 60000+30000 10000+20000"""
_UC1 = """15+45 25+55 35+59 40035+40049 5025+5059 15+65 44000+46000 70000+40000 15000+25000 35000+35000
45000+85000 67000+85000 99000+76000 1500+4500 2500+5500 3500+5900 15020+45091 25002+55019 35002+59019"""
_UC1_FROM_TEN_DIGITS = """25000000+55000000 35000000+59000000 150200000+450910000 250020000+550190000
350020000+590190000"""
_SIMPLE_US9 = """55+45 45+55 45+59 35+69 25+79 15+85 15+88 15508+14500 14508+15500 24533+25933 23533+26933
32500+7900 31500+8500 550+450 450+550 10880+41127 41127+10880 12386+82623"""
# The notebook's comments call rows 9–18 "three level"; 334+666, 3340+6660, 33400+66600, 888+112, 8880+1120
# and 88800+11200 are two-level. The rows are facts; the labels are computed (arithmetic.cascade_length).
_CASCADE_US9 = """555+445 3340+6660 8880+1120 1120+8880 123+877 877+123 321+679 679+321 1283+88786
5555+4445 55550+44450 334+666 3340+6660 33400+66600 888+112 8880+1120 88800+11200 1234+8766 4321+5679
44445+55555 33334+66666 88888+11112 12345+87655 54321+45679 45545+54455 36634+63366 81818+18182
87345+12655 55379+44621"""
_STEPS = """1+0 4+3 5+5 8+1 40+30 44+46 400+300 440+460 800+100 270+470 600+300 4000+3000 4400+4600
6000+3000 7000+4000 40000+30000 44000+46000 70000+40000 10000+20000 15000+25000 35000+35000 45000+85000
67000+85000 99000+76000 76000+99000"""
_MANUAL = {"ba": _BA, "uc1": _UC1, "simple_us9": _SIMPLE_US9, "cascade_us9": _CASCADE_US9, "steps": _STEPS}
NAMES = (*_MANUAL, "varied")


def _read(text: str) -> list[Question]:
    return [Question(*(int(part) for part in row.split("+"))) for row in text.split()]


@cache
def _frozen_random() -> tuple[tuple[str, str], ...]:
    text = resources.files("harness.tasks.addition").joinpath("varied_random.txt").read_text("utf-8")
    rows = [line.split("+") for line in text.splitlines() if not line.startswith("#")]
    return tuple((x, y) for x, y in rows)


def named_set(name: str, layout: Layout) -> tuple[Question, ...]:
    """Return the questions of the set `name` (one of :data:`NAMES`) that fit `layout`, in order.

    ``varied`` is 64 frozen random questions followed by all the manual sets: 172 for five digits.

    Raises:
        HarnessError: none of the set's questions fits into the layout's digits.
    """
    if name == "varied":
        n = layout.n_digits
        random = [Question(int(x[-n:]), int(y[-n:])) for x, y in _frozen_random()]
        return (*random, *(question for manual in _MANUAL for question in _fitting(manual, layout)))
    questions = _fitting(name, layout)
    if not questions:
        raise HarnessError.of(
            f"a question set with questions for {layout.n_digits} digits", f"{name}, whose addends are all longer",
            "choose another set or list the questions",
        )  # fmt: skip
    return questions


def _fitting(name: str, layout: Layout) -> tuple[Question, ...]:
    rows = _read(_MANUAL[name])
    if name == "uc1" and layout.n_digits >= 10:
        rows += _read(_UC1_FROM_TEN_DIGITS)
    return tuple(question for question in rows if max(question) < 10**layout.n_digits)
