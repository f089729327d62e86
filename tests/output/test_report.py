import json
import os
import re
import shutil
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from segqa.data.cases import Cases
from segqa.data.reading import Reading
from segqa.data.types import Case, ObjectMask, Source
from segqa.output.report import PICTURE_BYTES, Pictures, draw_pictures, render_report, worst_first
from segqa.schema import SCORE_SCHEMA

pytest.importorskip("jinja2")

HOSTILE = "<script>alert(1)</script>\"'&amp;{{7*7}}</style>\u202e\x07"
VOID = {"meta", "link", "input", "img"}
PIXEL = "data:image/webp;base64,UklGRiQAAABXRUJQVlA4IBgAAAAwAQCdASoBAAEAAUAmJaQAA3AA/v3AgAA="


def table(n=12, *, models=("one", "two"), **columns):
    rng = np.random.default_rng(0)
    rows = [
        {"case": f"case_{index:03d}", "object": "1", "label": "1", "model": model, "status": "ok"}
        | {"predicted_dice": float(rng.uniform(0.1, 1)), "x0": 1, "y0": 2, "x1": 30, "y1": 40, "box_source": "file"}
        for index in range(n)
        for model in models
    ]
    return pl.DataFrame(rows, schema=SCORE_SCHEMA).with_columns(**columns)


class Outline(HTMLParser):
    """Collects ids and complains of tags that are not closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.text = [], [], [], []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        assert len(values) == len(attributes), f"an attribute twice in {tag}"
        assert not [name for name in values if name.startswith("on")]
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values[name] for name in ("href", "src", "action") if name in values]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.text.append(data)


def outline(page):
    parser = Outline()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    assert len(set(parser.ids)) == len(parser.ids)
    return parser


def test_of_one_image_the_page_shows_means_without_intervals():
    parser = outline(render_report(table(1)))
    cells = [text.strip() for text in parser.text if text.strip()]
    assert "Keeps its place" in cells
    assert not [text for text in cells if text.endswith(" %")]


def test_of_a_case_no_more_objects_are_cut_out_than_were_drawn(tmp_path, monkeypatch):
    def find_objects(label_map, **_):
        yield ObjectMask("1", "1", label_map > 0, None)
        pytest.fail("the second object was cut out before the first was drawn")

    monkeypatch.setattr("segqa.data.cases.find_objects", find_objects)
    Image.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / "case_000.png")
    case = Case("case_000", Source(tmp_path / "case_000.png"), {"one": Source(tmp_path / "case_000.png")})
    key, _ = next(draw_pictures(table(1), Cases((case,)), Reading()))
    assert key == ("case_000", "1", "1", "one")


def test_the_page_is_well_formed_and_loads_nothing():
    scores = table()
    keys = scores.select("case", "object", "label", "model").rows()
    page = render_report(scores, pictures={keys[0]: Pictures(PIXEL, PIXEL)}, source="scores.csv")
    links = outline(page).links
    assert links
    assert all(link.startswith(("data:", "#")) for link in links)
    assert not re.search(r"(https?:)?//[a-z]|@import|url\(", page)


def test_a_hostile_name_is_text_wherever_it_stands():
    scores = table(3, models=(HOSTILE, "two"), reason=pl.lit(HOSTILE), label=pl.lit(HOSTILE), case=pl.lit(HOSTILE))
    scores = scores.with_columns(object=pl.int_range(pl.len()).cast(pl.String))
    pictures = {key: Pictures(PIXEL) for key in scores.select("case", "object", "label", "model").rows()}
    page = render_report(scores, pictures=pictures, source=HOSTILE)
    parsed = outline(page)
    assert page.count("<script>") == 1
    assert page.count("</style>") == 1
    assert "49" not in "".join(parsed.text)
    assert "\x07" not in page
    assert HOSTILE.replace("\x07", "\ufffd") in "".join(parsed.text)


def test_only_our_own_script_may_run():
    page = render_report(table())
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page).group(1)
    assert "default-src 'none'" in policy
    assert "script-src 'sha256-" in policy
    assert "unsafe-eval" not in policy


def test_rows_without_a_score_come_first_then_the_worst():
    scores = table(20)
    scores = scores.with_columns(
        predicted_dice=pl.when(pl.col("case") == "case_007").then(None).otherwise("predicted_dice")
    )
    shown = worst_first(scores, 7)
    values = shown["predicted_dice"].to_list()
    assert values[:2] == [None, None]
    assert values[2:] == sorted(scores["predicted_dice"].drop_nulls())[:5]


def test_the_worst_are_the_same_however_the_rows_are_ordered():
    scores = table(20, predicted_dice=pl.lit(0.5))
    shuffled = scores.sample(fraction=1, shuffle=True, seed=1)
    assert worst_first(scores, 9).equals(worst_first(shuffled, 9))


def test_all_objects_are_counted_and_the_limit_is_shown():
    text = " ".join(outline(render_report(table(50), limit=10)).text)
    assert "The 10 worst of 100 objects." in " ".join(text.split())
    assert re.search(r"100\s+objects", text)


def test_the_tiles_and_histograms_count_what_is_low_remarked_and_not_scored():
    dice = pl.Series([0.1, 0.69, 0.7, 0.9, 1.0, None])
    status = pl.Series(["ok", "warning", "warning", "ok", "warning", "error"])
    page = render_report(table(3, predicted_dice=dice, status=status))
    cells = [text.strip() for text in outline(page).text if text.strip()]
    facts = {name: cells[cells.index(name) + 1] for name in ("predicted below 0.7", "with a remark", "not scored")}
    assert facts == {"predicted below 0.7": "2 (40 %)", "with a remark": "3", "not scored": "1"}
    assert re.findall(r"Histogram of \d+ predicted Dice: \d+ below 0.7", page) == [
        "Histogram of 3 predicted Dice: 1 below 0.7",
        "Histogram of 2 predicted Dice: 1 below 0.7",
    ]


def test_many_models_share_a_histogram_and_not_all_of_their_pairs_are_shown():
    few, many = (render_report(table(2, models=[f"m{n:02d}" for n in range(n_models)])) for n_models in (12, 13))
    assert (few.count("<figcaption>"), many.count("<figcaption>")) == (12, 1)
    assert "<bdi>all 13 models</bdi>" in many
    assert "30 of 66 pairs;" in few


def test_an_empty_table_is_a_page_that_says_so():
    page = render_report(pl.DataFrame(schema=SCORE_SCHEMA))
    outline(page)
    assert "All 0 objects." in page


def test_a_column_without_values_is_left_out():
    page = render_report(table())
    assert "Novelty" not in page
    assert "Novelty" in render_report(table(novelty=pl.lit(0.3)))
    assert "Reference Dice" not in page
    assert "Reference Dice" in render_report(table(reference_dice=pl.lit(0.3)))


def test_equal_tables_give_equal_bytes():
    assert render_report(table()) == render_report(table())


def test_five_hundred_rows_stay_below_ten_megabytes_with_the_largest_pictures_there_may_be():
    scores = table(250, reason=pl.lit("a remark of a usual length, said about every object of the table"))
    uri = "data:image/webp;base64," + "A" * (PICTURE_BYTES // 1000 - 23)
    pictures = {key: Pictures(uri, uri) for key in scores.select("case", "object", "label", "model").rows()}
    page = render_report(scores, pictures=pictures)
    assert page.count(uri) == 1000
    assert len(page.encode()) < 10_000_000


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the peak of a process's memory is read from /proc")
def test_a_million_rows_are_counted_in_seconds_without_torch(tmp_path):
    n = 250_000
    rng = np.random.default_rng(0)
    models = ("a", "b", "c", "d")
    frame = pl.DataFrame(
        {
            "case": [f"case_{index}" for index in range(n) for _ in models],
            "object": "1",
            "label": "1",
            "model": list(models) * n,
            "predicted_dice": rng.uniform(0, 1, n * len(models)),
        },
        schema_overrides={"object": pl.String, "label": pl.String},
    )
    frame.write_parquet(tmp_path / "scores.parquet")
    code = (
        "import re, resource, sys; from segqa.cli import app; app(sys.argv[1:], standalone_mode=False);"
        "assert 'torch' not in sys.modules;"
        # Not `ru_maxrss`: it begins with the peak of the process that started this one.
        "print(int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) // 1024,"
        "sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))"
    )
    out = tmp_path / "report.html"
    arguments = [sys.executable, "-c", code, "report", str(tmp_path / "scores.parquet"), "--output", str(out)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    megabytes, seconds = done.stdout.splitlines()[-1].split()
    assert int(megabytes) < 2000
    assert float(seconds) < 20  # of all cores together
    assert "1\u202f000\u202f000" in out.read_text()


class Browser:
    """Headless Chromium, driven over its debugging pipe; nothing but the standard library."""

    def __init__(self, program, profile):
        to_them, self._out = os.pipe()
        self._in, from_them = os.pipe()
        flags = (
            "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
            f"--disable-component-update --disable-sync --remote-debugging-pipe --user-data-dir={profile}"
        )
        start = (  # Chromium reads from descriptor 3 and writes to 4
            "import fcntl, os, sys; a, b = (fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1:3]);"
            "os.dup2(a, 3); os.dup2(b, 4); os.execv(sys.argv[3], sys.argv[3:])"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", start, str(to_them), str(from_them), program, *flags.split()],
            pass_fds=(to_them, from_them),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_them)
        os.close(from_them)
        self._buffer, self._number, self._session = b"", 0, None
        self.complaints = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Runtime", "Log", "Page"):
            self._call(f"{domain}.enable")

    def _call(self, method, **parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled"):
                self.complaints.append(answer["params"])
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def _read(self):
        while b"\0" not in self._buffer:
            block = os.read(self._in, 1 << 16)
            assert block, "the browser ended"
            self._buffer += block
        line, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(line)

    def open(self, path):
        self._call("Page.navigate", url=path.as_uri())
        until = time.monotonic() + 30
        while self.run("document.readyState") != "complete":
            assert time.monotonic() < until
            time.sleep(0.05)

    def run(self, code):
        answer = self._call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key, code):
        for kind in ("keyDown", "keyUp"):
            self._call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)
        # What a key sets off comes later: the viewer's `close` is an event of its own.
        self.run("new Promise((done) => setTimeout(() => requestAnimationFrame(() => done(true)), 50))")

    def close(self):
        self._process.terminate()
        self._process.wait(10)
        os.close(self._in)
        os.close(self._out)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on this machine: the page itself is not tried")
    one = Browser(program, tmp_path_factory.mktemp("profile"))
    yield one
    one.close()


@pytest.fixture
def page(browser, tmp_path):
    scores = table(6, lower=pl.lit(0.1), upper=pl.lit(0.9))
    scores = scores.with_columns(
        predicted_dice=pl.when(pl.col("case") == "case_003").then(None).otherwise("predicted_dice"),
        status=pl.when(pl.col("case") == "case_003").then(pl.lit("error")).otherwise("status"),
        reason=pl.when(pl.col("case") == "case_003").then(pl.lit("no such file")).otherwise(None),
    )
    path = tmp_path / "report.html"
    pictures = {("case_001", "1", "1", "one"): Pictures(PIXEL, PIXEL)}
    path.write_text(render_report(scores, pictures=pictures), encoding="utf-8")
    browser.complaints.clear()
    browser.open(path)
    yield browser
    assert browser.complaints == []


HEAD = "[...document.querySelectorAll('#objects thead th')].find((h) => h.textContent.trim() === {!r})"
SHOWN = "[...document.querySelectorAll('#objects tbody tr')].filter((r) => r.getClientRects().length)"
DICE = f"{SHOWN}.map((r) => r.dataset.dice === '' ? null : Number(r.dataset.dice))"


def sort(page, name):
    page.run(HEAD.format(name) + ".querySelector('button').click()")
    return page.run(HEAD.format(name) + ".getAttribute('aria-sort')")


def test_in_a_browser_a_click_sorts_and_tells_so(page):
    before = page.run(DICE)
    assert before[:2] == [None, None]
    assert before[2:] == sorted(before[2:])
    assert sort(page, "Predicted Dice") == "descending"
    falling = page.run(DICE)
    assert falling[:10] == sorted(before[2:], reverse=True)
    assert falling[10:] == [None, None]
    assert sort(page, "Case") == "ascending"
    assert page.run(HEAD.format("Predicted Dice") + ".hasAttribute('aria-sort')") is False
    cases = page.run(f"{SHOWN}.map((r) => r.querySelector('th').textContent.trim())")
    assert cases == sorted(cases)


def fill(page, name, value):
    page.run(
        f"(() => {{ const field = document.forms[0].elements[{name!r}]; field.value = {value!r};"
        "field.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )
    return page.run("document.getElementById('count').textContent")


def test_in_a_browser_the_fields_filter_and_the_count_is_told(page):
    assert page.run("document.forms[0].hidden") is False
    assert fill(page, "model", "two") == "6 of 12 shown"
    assert fill(page, "text", "CASE_00") == "6 of 12 shown"
    assert fill(page, "status", "error") == "1 of 12 shown"
    assert len(page.run(DICE)) == 1
    page.run("document.forms[0].reset()")
    assert page.run("new Promise((done) => setTimeout(() => done(document.getElementById('count').textContent), 50))")
    assert len(page.run(DICE)) == 12
    fill(page, "most", "0.5")
    assert all(value is not None and value <= 0.5 for value in page.run(DICE))


def test_in_a_browser_an_object_opens_steps_and_closes_by_keyboard(page):
    page.run("document.querySelector('.thumb').focus()")
    page.press("Enter", 13)
    if not page.run("document.getElementById('viewer').open"):  # some versions only click on a char event
        page.run("document.activeElement.click()")
    assert page.run("document.getElementById('viewer').open")
    assert page.run("document.getElementById('viewer-title').textContent") == "case_001"
    assert page.run("document.querySelectorAll('#viewer-pictures img').length") == 2
    assert page.run("[...document.querySelectorAll('#viewer-pictures img')].every((i) => i.alt)")
    facts = page.run("document.getElementById('viewer-facts').textContent")
    assert "0.100 – 0.900" in facts
    page.press("ArrowRight", 39)
    place = f"{SHOWN}.findIndex((r) => r.querySelector('.thumb'))"
    following = page.run(f"{SHOWN}[{place} + 1].querySelector('th').textContent.trim()")
    assert page.run("document.getElementById('viewer-title').textContent") == following
    page.press("Escape", 27)
    assert page.run("document.getElementById('viewer').open") is False
    assert page.run("document.activeElement.closest('tr').querySelector('th').textContent.trim()") == following


def test_in_a_browser_every_field_and_button_has_a_name(page):
    nameless = page.run(
        "[...document.querySelectorAll('button, input, select')].filter((e) =>"
        "!(e.textContent.trim() || e.ariaLabel || e.labels?.length)).length"
    )
    assert nameless == 0
