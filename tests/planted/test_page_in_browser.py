"""The page in a real Chromium, without a window: does it work, and can it be read?

Needs the extra ``browser`` and a Chromium with its driver; where they are not here the tests are skipped.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil

import pytest
import tiny

from harness.judging.bench import Workbench
from harness.judging.evaluation import judge
from harness.judging.records import record_of
from harness.judging.worth.coverage import map_nodes
from harness.reporting.page import render
from harness.specs.fixtures.files import FixtureRef
from harness.specs.spec_files import load_file

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install -e '.[browser]'")
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver on the PATH"),
]
SPEC = """\
version: 1
fixture: planted
hypotheses:
  - id: zeta
    claim: Head 0 at S3 serves A1.
    ablate: S3L0H0
    questions: {n: 1000, seed: 3}
    expect: {fails: [A1], loss_above: 0.001}
  - id: alpha
    claim: Head 2 at S3 serves A1, <b>it</b> says.
    ablate: S3L0H2
    questions: {n: 1000, seed: 3}
    expect: {fails: [A1]}
  - id: middle
    claim: The MLP at S4 serves A0 alone, and so long a claim_about_one_thing_that_has_no_place_to_break_its_line_is_read.
    ablate: S4L0M
    questions: {n: 1000, seed: 3}
    expect: {fails: [A0], only_here: true}
"""
LOOKS = list(itertools.product((400, 1400), ("light", "dark")))


@pytest.fixture(scope="module")
def address(tmp_path_factory, fixtures):
    root = tmp_path_factory.mktemp("page")
    (root / "a.yaml").write_text(SPEC, "utf-8")
    # A wider model too, whose map has more steps than a telephone has room for.
    tiny.write_tiny(root, "wide", n_digits=5)
    bench = Workbench("cpu")
    records = [record_of(judge(h, bench, controls=True)) for h in load_file(root / "a.yaml", fixtures, "a.yaml")]
    maps = [map_nodes(FixtureRef("planted", fixtures), bench), map_nodes(FixtureRef("wide", root), bench, 60)]
    path = root / "index.html"
    path.write_text(render(records, maps, command="pytest claims/", root=root), "utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def chromium():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    # --no-sandbox: in a container Chromium cannot make one; the page is ours, and loads nothing.
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def page(chromium, address):
    """The page just opened, 1400 pixels wide."""
    look(chromium, 1400, "light")
    chromium.get("about:blank")
    for kind in ("browser", "performance"):
        chromium.get_log(kind)
    chromium.get(address)
    return chromium


def look(driver, width, scheme):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def shown_ids(page):
    return [link.text for link in page.find_elements(By.CSS_SELECTOR, "#table tbody td a")]


def node(page, name):
    return page.find_element(By.CSS_SELECTOR, f'#map-planted [aria-label^="{name} "]')


def tip(page):
    return page.find_element(By.ID, "tip")


def open_all(page):
    page.execute_script("for (const d of document.querySelectorAll('details')) d.open = true")


def test_there_is_nothing_on_the_console_and_nothing_is_fetched(page):
    page.find_element(By.CSS_SELECTOR, "#table thead th").click()
    open_all(page)
    assert page.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert asked
    assert all(url.startswith(("file:", "data:", "about:")) for url in asked)


def test_what_a_spec_says_stays_text(page):
    assert "<b>it</b> says" in page.find_element(By.ID, "table").text


def test_a_click_or_a_key_sorts_the_table(page):
    assert shown_ids(page) == ["zeta", "alpha", "middle"]  # the order of the spec
    verdict, claim, *_ = page.find_elements(By.CSS_SELECTOR, "#table thead th")
    claim.click()
    assert shown_ids(page) == ["alpha", "middle", "zeta"]
    assert claim.get_attribute("aria-sort") == "ascending"
    claim.click()
    assert shown_ids(page) == ["zeta", "middle", "alpha"]
    verdict.click()
    assert shown_ids(page)[0] == "alpha"  # refuted, and so before supported
    observed = page.find_elements(By.CSS_SELECTOR, "#table thead th")[-1]
    page.execute_script("arguments[0].focus()", observed.find_element(By.CSS_SELECTOR, "[tabindex]"))
    page.switch_to.active_element.send_keys(Keys.ENTER)
    assert shown_ids(page) == ["alpha", "zeta", "middle"]  # by the largest rate that was seen


def test_the_filters_leave_what_they_should_in_the_table_and_below(page):
    def below():
        return [d.get_attribute("id") for d in page.find_elements(By.CSS_SELECTOR, "details.claim") if d.is_displayed()]

    assert len(below()) == 3
    page.find_element(By.CSS_SELECTOR, "button[data-verdict=refuted]").click()
    assert shown_ids(page) == ["alpha"]
    assert below() == ["claim-a.yaml-alpha"]
    page.find_element(By.CSS_SELECTOR, "button[data-verdict=refuted]").click()
    page.find_element(By.CSS_SELECTOR, "input[type=search]").send_keys("serves A0")
    assert shown_ids(page) == ["middle"]
    assert page.find_element(By.CSS_SELECTOR, ".dt-info").text.split() == ["claims", "shown:", "1", "of", "3"]
    page.find_element(By.CSS_SELECTOR, "input[type=search]").send_keys(Keys.BACKSPACE * 20)
    page.find_element(By.CSS_SELECTOR, "#by-verdict option:last-child").click()
    assert shown_ids(page) == ["zeta", "middle"]


def test_a_claims_link_opens_its_section(page):
    section = page.find_element(By.ID, "claim-a.yaml-middle")
    assert section.get_attribute("open") is None
    page.find_element(By.LINK_TEXT, "middle").click()
    assert section.get_attribute("open") is not None
    assert "only_here: true" in section.text


def test_a_pointer_on_a_node_shows_its_numbers_and_the_keyboard_does_too(page):
    open_all(page)
    assert not tip(page).is_displayed()
    cell = node(page, "S3L0H0")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", cell)
    webdriver.ActionChains(page).move_to_element(cell).perform()
    assert re.fullmatch(r"S3L0H0 \(=\)\nA1 fails \d+/300 \([\d.]+%\)\nnamed by zeta", tip(page).text)
    box, screen = (
        tip(page).rect,
        page.execute_script("return [scrollX, scrollX + document.documentElement.clientWidth]"),
    )
    assert screen[0] <= box["x"] <= box["x"] + box["width"] <= screen[1]
    webdriver.ActionChains(page).move_to_element(page.find_element(By.TAG_NAME, "h2")).perform()
    assert not tip(page).is_displayed()
    page.execute_script("arguments[0].focus()", cell)
    assert tip(page).text.startswith("S3L0H0 ")
    page.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert tip(page).text.startswith("S4L0H0 ")
    page.switch_to.active_element.send_keys(Keys.ARROW_DOWN)
    assert tip(page).text.startswith("S4L0H1 ")
    page.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not tip(page).is_displayed()


def fill(page, name):
    return node(page, name).find_element(By.TAG_NAME, "rect").value_of_css_property("fill")


def test_the_map_changes_its_colours(page):
    open_all(page)
    by_rate = {name: fill(page, name) for name in ("S3L0H0", "S4L0H0", "S3L0H2")}
    page.find_element(By.CSS_SELECTOR, "#map-planted .by-token").click()
    by_token = {name: fill(page, name) for name in by_rate}
    assert by_token["S3L0H0"] != by_token["S4L0H0"]  # A1 and A0
    assert by_token["S3L0H0"] == fill(page, "S3L0H1")
    assert by_token["S3L0H2"] == by_rate["S3L0H2"]  # breaks nothing
    assert by_token["S3L0H0"] != by_rate["S3L0H0"]
    assert "hatch" in fill(page, "S5L0H0")


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_it_never_scrolls_sideways(page, width, scheme):
    look(page, width, scheme)
    open_all(page)
    wide, room = page.execute_script(
        "const e = document.scrollingElement; return [Math.max(e.scrollWidth, document.body.scrollWidth), e.clientWidth]"
    )
    assert wide <= room <= width
    if width == 400:  # what is wider scrolls by itself
        grid = (
            "const g = document.querySelector('#map-wide .grid'); return [g.scrollWidth, g.clientWidth, g.scrollLeft]"
        )
        inner, outer, _ = page.execute_script(grid)
        assert inner > outer


CONTRAST = """
const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
const rgb = (colour) => {
  canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
  .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const ground = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const colour = getComputedStyle(at).backgroundColor;
    if (rgb(colour)[3] === 255) return colour;
  }
};
const ratio = (a, b) => { const [x, y] = [light(rgb(a)), light(rgb(b))].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
const found = {};
for (const selector of arguments[0]) {
  for (const element of document.querySelectorAll(selector)) {
    const r = ratio(getComputedStyle(element).color, ground(element));
    found[selector] = Math.min(found[selector] ?? 99, r);
  }
}
for (const cell of document.querySelectorAll(".cell")) {
  const [text, rect] = [cell.querySelector("text"), cell.querySelector("rect")];
  if (text && !cell.classList.contains("dead")) {
    const name = "cell " + [...cell.classList].find((c) => /^q\\d/.test(c));
    found[name] = Math.min(found[name] ?? 99, ratio(getComputedStyle(text).fill, getComputedStyle(rect).fill));
  }
}
return found;
"""
READ = [
    "body", ".summary", "code", "a", ".badge", "th", "td", "td .says", "summary .says", ".finding", ".about", "mark",
    "pre", "dt", "dd", "small", "label", "legend", ".dt-info", "#tip",
]  # fmt: skip


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_it_can_be_read(page, width, scheme):
    look(page, width, scheme)
    open_all(page)
    # All classes of the scale, on the six nodes that break something.
    page.execute_script(
        "document.querySelectorAll('#map-planted .cell:has(text)').forEach((cell, i) => {"
        "cell.classList.remove('q0', 'q1', 'q2', 'q3', 'q4', 'q5'); cell.classList.add('q' + (i % 6)); })"
    )
    page.execute_script("document.getElementById('tip').hidden = false")
    by_rate = page.execute_script(CONTRAST, READ)
    assert {f"cell q{i}" for i in range(6)} <= set(by_rate)
    assert set(READ) <= set(by_rate)
    for button in page.find_elements(By.CSS_SELECTOR, ".by-token"):
        button.click()
    by_token = page.execute_script(CONTRAST, READ)
    poor = {name: round(r, 2) for found in (by_rate, by_token) for name, r in found.items() if r < 4.5}
    assert poor == {}  # WCAG AA
    ground = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 24, 28)"}[scheme]


def test_without_its_script_all_of_it_is_there(chromium, address):
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        chromium.get(address)
        titles = chromium.find_elements(By.CSS_SELECTOR, "#map-planted .cell title")
        assert len(titles) == 6 * 2 * 4
        assert shown_ids(chromium) == ["zeta", "alpha", "middle"]
    finally:
        chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
