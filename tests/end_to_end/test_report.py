"""From a file over import and analysis to a report that a browser without a network opens."""

from __future__ import annotations

import base64
import io
import json
import os
import struct
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from flows import cli
from flows.reporting import palette
from store.report_data import read_report_data
from tests.support.browser import WIDTH, Browser, open_browser
from tests.support.cli import Ended, command

EVIL = "Write a letter to <script>window.ran = 1</script><img src=x onerror='window.ran = 1'>."
OTHERS = [
    "把下面的句子翻译成英文，并解释原因。",
    "Paint a picture 🎉 of the sea & the <b>sky</b>.",
    "What is the capital of France?",
    "How do plants grow in the dark?",
    "Is water wet?",
]
TASKS = [
    f"{verb} a {noun} about topic {number}."
    for verb, nouns in {
        "Write": "story letter essay song", "Describe": "city river person", "Create": "list table",
        "Explain": "rule game", "Design": "logo", "Summarize": "report article",
    }.items()
    for place, noun in enumerate(nouns.split())
    for number in range(6 - place)
]  # fmt: skip


def rows() -> list[dict[str, str]]:
    texts = [EVIL, *OTHERS, *TASKS]
    return [
        {"instruction": text, "input": "" if number % 2 else f"input {number} " * (number % 9),
         "output": "word " * (1 + 7 * number % 60)}
        for number, text in enumerate(texts)
    ]  # fmt: skip


def run(*arguments: str, cwd: Path, **env: str) -> Ended:
    """The command line in this process: each start of another would cost seconds."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(cwd)
        patch.setattr(sys, "argv", ["evoloom", *arguments])
        for name in [name for name in os.environ if name.startswith("EVOLOOM_")]:
            patch.delenv(name)
        for name, value in env.items():
            patch.setenv(name, value)
        try:
            cli.main()
        except SystemExit as exc:
            code = exc.code if isinstance(exc.code, int) else 1
    return Ended(code, out.getvalue(), err.getvalue())


def evoloom(*arguments: str, cwd: Path, **env: str) -> Ended:
    """A command that must succeed."""
    ended = run(*arguments, cwd=cwd, **env)
    assert ended.code == 0, ended.err
    return ended


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with an import that has been analysed and another that has not, and both reports."""
    place = tmp_path_factory.mktemp("report")
    lines = [json.dumps(row, ensure_ascii=False) for row in rows()]
    (place / "one.jsonl").write_text("\n".join([*lines, "{broken"]) + "\n", "utf-8")
    (place / "two.jsonl").write_text("\n".join(lines[6:30]) + "\n", "utf-8")
    for name in ("one", "two"):
        evoloom(
            "import", f"{name}.jsonl", "--name", name, cwd=place, EVOLOOM_STORE__ANALYSE="false"
        )
    evoloom("report", "two", "--out", "two.html", cwd=place)
    analysed = command("store", "analyse", "--processes", "1", cwd=place, timeout=600)
    assert analysed.code == 0, analysed.err
    evoloom("report", "one", "--out", "one.html", cwd=place)
    evoloom("report", "one", "--versus", "two", "--out", "both.html", cwd=place)
    return place


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def one(folder: Path, browser: Browser) -> Browser:
    browser.open(folder / "one.html")
    return browser


@pytest.fixture(autouse=True)
def no_page_complains(browser: Browser) -> Iterator[None]:
    yield
    assert browser.complaints() == []
    assert [
        url for url in browser.requests() if not url.startswith(("file:", "data:", "blob:"))
    ] == []


def texts(browser: Browser, selector: str) -> list[str]:
    script = "return [...document.querySelectorAll(arguments[0])].map(node => node.textContent)"
    found: list[str] = browser.ask(script, selector)
    return found


def test_every_chart_is_drawn_in_its_reserved_place(one: Browser) -> None:
    drawn = one.ask(
        "return [...document.querySelectorAll('.chart')].map(node => [node.id, "
        "node.querySelectorAll('svg.main-svg').length > 0, node.style.height, "
        "node.getBoundingClientRect().height, node.querySelector('.main-svg').clientHeight])"
    )
    assert [name for name, *_ in drawn] == [
        "funnel-chart", "verb-nouns-chart", "questions-chart", "novelty-chart", "lengths-chart",
    ]  # fmt: skip
    for _, has_svg, reserved, height, svg_height in drawn:
        assert has_svg
        assert float(reserved.removesuffix("px")) == height == svg_height


def test_the_sunburst_shows_verbs_and_nouns(one: Browser, folder: Path) -> None:
    (data,) = read_report_data(folder / "evoloom.duckdb", "one")
    pairs = Counter(
        {(row["verb"], row["noun"]): row["count"] for row in data.pairs.iter_rows(named=True)}
    )
    assert pairs["write", "story"] == 6
    labels = texts(one, "#verb-nouns .sunburstlayer .slicetext")
    for expected in ("write", "story", "describe", "city", "essay"):
        assert expected in labels
    sectors = one.ask("return document.querySelectorAll('#verb-nouns .slice path.surface').length")
    nouns = Counter(verb for verb, _ in pairs)
    assert sectors == len(nouns) + sum(min(4, count) for count in nouns.values())


def test_the_funnel_shows_counts_and_reasons(one: Browser) -> None:
    labels = texts(one, "#funnel .sankey-node .node-label")
    total = len(rows())
    assert f"read from the file {total + 1} (100.0%)" in labels
    assert any(label.startswith(f"accepted {total} ") for label in labels)
    assert any(label.startswith("rejected 1 ") for label in labels)


def test_histograms_have_a_bar_for_each_bin(one: Browser, folder: Path) -> None:
    (data,) = read_report_data(folder / "evoloom.duckdb", "one")
    lengths = data.lengths.filter(
        (data.lengths["part"] != "input") | (data.lengths["words_from"] > 0)
    )
    for chart, expected in (("lengths", lengths.height), ("novelty", data.novelty.height)):
        bars = one.ask(f"return document.querySelectorAll('#{chart} .bars .point path').length")
        assert bars == expected > 0
    assert set(texts(one, "#questions .ytick text")) == {"how", "what", "yes/no"}


def test_texts_of_the_data_are_readable_and_do_nothing(one: Browser) -> None:
    assert one.ask("return typeof window.ran") == "undefined"
    assert one.ask("return document.querySelectorAll('img[src=x], main b').length") == 0
    cells = texts(one, "#verb-nouns td")
    assert EVIL in cells
    assert OTHERS[1] in cells


def test_a_script_that_slipped_through_would_not_run(folder: Path, browser: Browser) -> None:
    page = (folder / "one.html").read_text("utf-8")
    broken = folder / "broken.html"
    broken.write_text(page.replace("</main>", "<script>window.ran = 1</script></main>"), "utf-8")
    browser.open(broken)
    assert browser.ask("return typeof window.ran") == "undefined"
    assert browser.ask("return document.querySelectorAll('svg.main-svg').length") > 0
    (complaint,) = browser.complaints()
    assert "Content Security Policy" in complaint


def test_labels_are_large_enough_and_within_their_chart(folder: Path, browser: Browser) -> None:
    for page in ("one.html", "both.html"):
        browser.open(folder / page)
        seen = browser.ask(
            """
            return [...document.querySelectorAll('.chart svg text')].filter(node => {
              const style = getComputedStyle(node);
              return node.textContent.trim() && style.display !== 'none' && !node.closest('.modebar')
                && Number(style.opacity) > 0 && node.getBoundingClientRect().width > 0;
            }).map(node => {
              const box = node.getBoundingClientRect();
              const chart = node.closest('.chart').getBoundingClientRect();
              const scale = node.getCTM().a ** 2 + node.getCTM().b ** 2;
              return [node.textContent, parseFloat(getComputedStyle(node).fontSize) * Math.sqrt(scale),
                      box.left - chart.left, chart.right - box.right, box.top - chart.top,
                      chart.bottom - box.bottom];
            })
            """
        )
        assert len(seen) > 60
        assert [text for text, size, *_ in seen if size < 9.9] == []
        assert [text for text, _, *margins in seen if min(margins) < -1] == []
        assert browser.ask("return document.documentElement.scrollWidth") <= WIDTH


def test_tables_open_from_the_keyboard(one: Browser, folder: Path) -> None:
    one.open(folder / "one.html")
    summary = one.driver.find_element(By.CSS_SELECTOR, "#funnel details summary")
    assert not one.ask("return document.querySelector('#funnel details').open")
    summary.send_keys(Keys.ENTER)
    assert one.ask("return document.querySelector('#funnel details').open")
    focusable = one.ask(
        "return [...document.querySelectorAll('nav a, summary')].every(node => node.tabIndex === 0)"
    )
    assert focusable


def test_what_is_missing_is_said_with_the_command(folder: Path, browser: Browser) -> None:
    browser.open(folder / "two.html")
    said = texts(browser, ".missing")
    assert len(said) == 3
    assert all("evoloom store analyse two" in text for text in said)
    assert texts(browser, "#verb-nouns svg, #novelty svg, #questions svg") == []
    assert texts(browser, "#lengths svg.main-svg") != []


def test_two_runs_are_told_apart(folder: Path, browser: Browser) -> None:
    browser.open(folder / "both.html")
    assert set(texts(browser, "#lengths .legendtext")) == {"one", "two"}
    colours = browser.ask(
        "return [...new Set([...document.querySelectorAll('#lengths .bars .point path')]"
        ".map(node => getComputedStyle(node).fill))]"
    )
    expected = {
        f"rgb({int(c[1:3], 16)}, {int(c[3:5], 16)}, {int(c[5:7], 16)})" for c in palette.DATASETS
    }
    assert set(colours) == expected
    header = texts(browser, "#statistics thead th")
    assert header == ["", "one", "two", "Self-Instruct, Table 1"]


def test_pictures_are_written_as_png(folder: Path, browser: Browser) -> None:
    shown = json.loads(evoloom("report", "one", "--png", "pictures", "--json", cwd=folder).out)
    files = {path.stem: path.read_bytes() for path in (folder / "pictures").iterdir()}
    assert set(files) == {"funnel", "verb-nouns", "questions", "novelty", "lengths"}
    assert sorted(shown["pictures"]) == sorted(f"pictures/{name}.png" for name in files)
    for data in files.values():
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        assert struct.unpack(">I", data[16:20]) == (2 * WIDTH,)
    assert share_of_colour(browser, files["funnel"], palette.ACCEPTED) > 0.002
    assert share_of_colour(browser, files["lengths"], palette.DATASETS[0]) > 0.01


def share_of_colour(browser: Browser, png: bytes, colour: str) -> float:
    """The share of a picture's pixels that have a colour."""
    source = "data:image/png;base64," + base64.b64encode(png).decode()
    found: Any = browser.driver.execute_async_script(
        """
        const [source, red, green, blue, done] = arguments;
        const image = new Image();
        image.onload = () => {
          const canvas = document.createElement("canvas");
          [canvas.width, canvas.height] = [image.width, image.height];
          const context = canvas.getContext("2d");
          context.drawImage(image, 0, 0);
          const data = context.getImageData(0, 0, image.width, image.height).data;
          let count = 0;
          for (let i = 0; i < data.length; i += 4)
            count += data[i] === red && data[i + 1] === green && data[i + 2] === blue;
          done(count / (data.length / 4));
        };
        image.src = source;
        """,
        source, int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16),
    )  # fmt: skip
    return float(found)


def test_without_a_browser_the_message_says_what_to_install(folder: Path) -> None:
    ended = run("report", "one", "--png", "none", cwd=folder, BROWSER_PATH="/nowhere/chrome")
    assert ended.code == 2
    assert "BROWSER_PATH=/nowhere/chrome" in ended.err
    assert "apt-get install chromium" in ended.err
    assert "Traceback" not in ended.err
    assert not list((folder / "none").iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["one"], "--out FILE.html"),
        (["one", "--versus", "one", "--out", "x.html"], "that is one itself"),
        (["nine", "--out", "x.html"], "nine"),
        (["one", "--out", str(Path("missing") / "x.html")], "missing/x.html: cannot be written"),
    ],
)
def test_mistakes_are_told(folder: Path, arguments: list[str], said: str) -> None:
    ended = run("report", *arguments, cwd=folder)
    assert ended.code == 2
    assert said in ended.err
    assert "Traceback" not in ended.err
