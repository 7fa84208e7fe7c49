"""The dashboard in a browser, on a service, runs and a store that are real; the teacher is scripted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.support import api, runs
from tests.support.api import ServiceProcess
from tests.support.dashboard import NARROW, PAYLOAD, Watched, chromium, watched
from tests.support.teachers import running_teacher

NAMED = f"Explain {PAYLOAD}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service with keys, which analyses what it has made; its store holds an import. The teacher's
    answers to input-first requests are markup that runs where it is taken for such."""
    folder = tmp_path_factory.mktemp("service")
    store, rows, rules = (folder / name for name in ("evoloom.duckdb", "rows.jsonl", "rules.json"))
    rows.write_text(json.dumps({"instruction": NAMED, "input": "", "output": PAYLOAD}) + "\n")
    rules.write_text(
        json.dumps([["Work out examples for each task", f" Output: {PAYLOAD}", "stop"]])
    )
    done = runs.evoloom("import", rows, "--name", "imported", "--store", store)
    assert done.returncode == 0, done.stderr
    with running_teacher(folder / "teacher.log", "--rules", str(rules)) as teacher:
        options = api.settings(teacher__base_url=teacher.url, run__progress_interval_s=0.1)
        with api.serving(store, *options, env={"EVOLOOM_STORE__ANALYSE": "true"}) as started:
            yield started


def test_from_seed_tasks_to_a_comparison(
    service: ServiceProcess, browser: Browser, tmp_path: Path
) -> None:
    """The main path: a key, seed tasks, a set, a run watched to its end, its sunburst, a lineage
    walked, two dataset versions compared; whatever is markup in a text stays text."""
    with watched(browser, service.url) as seen:
        _give_key(seen, service.key())
        _submit_tasks(seen, tmp_path)
        _start_run(seen)
        _open_sunburst(seen)
        _make_versions(seen)
        _walk_lineage(seen)
        seen.check(422)  # the task without an output


def _give_key(seen: Watched, key: str) -> None:
    page = seen.page
    seen.open("runs", "Key")
    page.get_by_role("textbox", name="Key").fill(key)
    page.get_by_role("button", name="Use this key").click()
    seen.settled("Runs")
    expect(page.get_by_role("link", name="imported")).to_be_visible()
    kept = "[sessionStorage.getItem('evoloom-key'), JSON.stringify(localStorage), document.cookie]"
    assert page.evaluate(kept) == [key, "{}", ""]


def _submit_tasks(seen: Watched, folder: Path) -> None:
    page = seen.page
    page.get_by_role("link", name="Seed tasks", exact=True).click()
    seen.settled("Seed tasks")
    single = page.get_by_role("form", name="Submit a seed task")
    single.get_by_label("Name").fill(PAYLOAD)
    single.get_by_label("Instruction").fill(f"Write a poem about {PAYLOAD} and the sea.")
    single.get_by_role("button", name="Submit the task").click()
    output = single.get_by_role("textbox", name="Output")
    expect(output).to_have_attribute("aria-invalid", "true")
    expect(output).to_be_focused()
    output.fill("The sea.")
    single.get_by_role("button", name="Submit the task").click()
    expect(single.get_by_text("Stored as")).to_be_visible()
    upload = folder / "tasks.jsonl"
    upload.write_text("".join(f"{json.dumps(api.task(number))}\n" for number in range(9)))
    many = page.get_by_role("form", name="Submit many seed tasks")
    many.get_by_label("File").set_input_files(upload)
    expect(many.get_by_label("Its text")).to_have_value(re.compile("task_8"))
    many.get_by_role("button", name="Submit them").click()
    expect(many.get_by_text("9 tasks stored.")).to_be_visible()
    pool = page.get_by_role("region", name="10 seed tasks")
    expect(pool.get_by_text(PAYLOAD, exact=True)).to_be_visible()
    making = page.get_by_role("form", name="Make a seed set")
    making.get_by_label("Name").fill("first")
    making.get_by_role("button", name="Make the set").click()
    making.get_by_role("link", name="Start a run from it").click()
    seen.settled("Start a run")


def _start_run(seen: Watched) -> None:
    page = seen.page
    expect(page.get_by_label("Seed set")).to_have_value("first")
    page.get_by_label("Target").fill("12")
    page.get_by_text("Further settings").click()
    page.get_by_label("Id", exact=True).fill("watched")
    page.get_by_role("button", name="Start", exact=True).click()
    seen.settled("watched")
    expect(page.get_by_role("heading", name="Progress")).to_be_visible()
    # Who asks for the run hears that nothing has changed, so that its end can come by events alone.
    asked = re.compile(r"/v1/runs/watched$")
    page.route(asked, lambda route: route.fulfill(status=304))
    expect(page.locator(".now")).to_have_text("completed")
    page.unroute(asked)
    funnel = page.locator("section", has=page.get_by_role("heading", name="Funnel"))
    expect(funnel.get_by_role("row", name=re.compile(r"^accepted .*12")).first).to_be_visible()
    samples = page.locator("section", has=page.get_by_role("heading", name="Samples"))
    expect(samples.get_by_text(PAYLOAD).first).to_be_visible()


def _open_sunburst(seen: Watched) -> None:
    page = seen.page
    picture = page.get_by_role("img", name=re.compile("^Sunburst of"))
    expect(picture).to_be_visible()
    picture.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.locator(".sector.marked").count() == 1
    expect(page.locator(".readout").get_by_text("Such as:")).to_be_visible()
    expect(page.get_by_role("img", name=re.compile("^Best ROUGE-L to a seed task"))).to_be_visible()
    assert seen.violations() == []
    page.locator(".readout").get_by_role("link", name="Show them").click()
    seen.settled("Instructions")
    expect(page.get_by_label("Run or dataset")).to_have_value("watched")
    assert page.get_by_label("Verb", exact=True).input_value()
    expect(page.get_by_role("row", name=re.compile("accepted")).first).to_be_visible()


def _make_versions(seen: Watched) -> None:
    page = seen.page
    for inputs, instructions in ((["watched"], 12), (["watched", "imported"], 13)):
        seen.open("datasets", "Datasets")
        making = page.get_by_role("form", name="Make a version")
        making.get_by_label("Name").fill("nightly")
        for name in inputs:
            making.get_by_label(re.compile(f"^{name}")).check()
        making.get_by_role("button", name="Make it").click()
        seen.settled(re.compile("^nightly@"))
        expect(page.locator("dt", has_text="instructions").first).to_be_visible()
        assert page.locator("dd").first.inner_text() == str(instructions)
        # A new version comes into the snapshot a moment later, and then is analysed.
        _until(seen, lambda: page.get_by_role("img", name=re.compile("^Sunburst")).count() == 1)
    seen.open("datasets", "Datasets")
    page.get_by_role("button", name="Compare", exact=True).click()
    seen.settled("Comparison of two versions")
    shared = page.get_by_role("row", name=re.compile("^instructions 12 13 12 0 1$"))
    expect(shared).to_be_visible()
    expect(page.get_by_role("heading", name="Only in B: 1 instruction")).to_be_visible()
    expect(page.get_by_text(NAMED, exact=True)).to_be_visible()
    expect(page.get_by_role("img", name=re.compile("^Sunburst"))).to_have_count(2)


def _walk_lineage(seen: Watched) -> None:
    page = seen.page
    seen.open("instructions?run=imported", "Instructions")
    page.get_by_role("link", name=NAMED).click()
    expect(page.locator(".node")).to_have_count(2)
    expect(page.locator(".node.meant")).to_contain_text("import")
    here = page.url
    page.locator(".node a").click()
    expect(page.locator(".node.meant")).to_contain_text("dataset")
    assert page.url != here
    page.go_back()
    expect(page.locator(".node.meant")).to_contain_text("import")
    seen.page.set_viewport_size({"width": NARROW, "height": 844})
    assert seen.overflow() == 0


def _until(seen: Watched, is_there: object) -> None:
    """Open the page again until it shows what is being worked out."""
    assert callable(is_there)
    for _ in range(120):
        if is_there():
            return
        seen.page.wait_for_timeout(1000)
        seen.page.reload()
        seen.settled()
    pytest.fail(f"still not there: {seen.page.inner_text('main')}")


def test_page_data_needs_a_key_and_files_do_not(service: ServiceProcess) -> None:
    with ExitStack() as stack:
        anonymous = stack.enter_context(service.anonymous())
        client = stack.enter_context(service.client("read"))
        for path in ("/dashboard/runs/imported", "/dashboard/evaluations"):
            assert anonymous.get(path).status_code == 401
            answered = client.get(path)
            assert answered.status_code == 200
            again = client.get(path, headers={"If-None-Match": answered.headers["ETag"]})
            assert again.status_code == 304
        page = anonymous.get(f"{service.url}/")
        assert page.status_code == 200
        assert "script-src 'self'" in page.headers["Content-Security-Policy"]
        for path in ("index.html", "../app.py", "%2e%2e/app.py", "static/main.js", "nothing.js"):
            assert anonymous.get(f"{service.url}/dashboard/{path}").status_code == 404
        data = client.get("/dashboard/runs/imported").json()
        assert [sample["text"] for sample in data["samples"]] == [NAMED]
        assert client.get("/dashboard/evaluations/none").json()["code"] == "evaluation_not_found"
        missing = client.get("/dashboard/compare", params={"a": "x", "b": "y"})
        assert missing.json()["code"] == "dataset_not_found"
