"""Every page of the dashboard, light and dark, wide and narrow: what axe-core, the console and the
window's edge say. Pictures are left in the test's folder, to be looked at."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.support import api, runs
from tests.support.api import ServiceProcess
from tests.support.dashboard import NARROW, PAYLOAD, WIDE, chromium, shoot, watched
from tests.support.evaluated import write_evaluation
from tests.support.teachers import TeacherProcess, running_teacher

pytestmark = pytest.mark.verify_api

_EVALUATED = [
    {"instruction": f"Write letter {number} {PAYLOAD}.", "reference": "Dear friend, come soon.",
     "input": PAYLOAD if number % 2 else "", "base": PAYLOAD, "tuned": f"Dear friend {number}."}
    for number in range(30)
]  # fmt: skip


@dataclass
class Site:
    """A service on a store with a bit of everything, and its teacher."""

    service: ServiceProcess
    teacher: TeacherProcess

    def pages(self) -> dict[str, str]:
        """Every page by a name: its address."""
        with self.service.anonymous() as client:

            def first(**wanted: str) -> str:
                found = client.get("/instructions", params={"limit": 1, **wanted}).json()["items"]
                return f"instructions/{found[0]['id']}"

            versions = [one["dataset"] for one in client.get("/datasets").json()["items"]]
            return {
                "runs": "runs", "run": "runs/night", "import": "runs/imported",
                "evolution": "runs/evolved", "training": "runs/evaluation-1",
                "instructions": "instructions", "filtered": "instructions?run=night&state=rejected",
                "instruction": first(run="evolved", state="accepted"),
                "rejected": first(run="night", reason="not_novel"),
                "datasets": "datasets", "dataset": f"datasets/{versions[0]}",
                "comparison": f"compare/{versions[0]}/{versions[1]}", "seeds": "seeds",
                "start": "start", "evaluations": "evaluations",
                "evaluation": "evaluations/evaluation-1", "key": "key", "missing": "nowhere",
            }  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A run, one evolved from it, an import, two dataset versions, an evaluation; all analysed."""
    folder = tmp_path_factory.mktemp("site")
    store = folder / "evoloom.duckdb"
    rows = folder / "rows.csv"
    rows.write_text("instruction,output\nName a river.,The Rhine.\nName a hill.,The Taunus.\n")
    with running_teacher(folder / "teacher.log") as teacher:
        runs.start(store, teacher, run_id="night")
        runs.evolve(store, teacher, "night", run_id="evolved", evol_instruct__rounds=3,
                    evol_instruct__limit=8)  # fmt: skip
        for arguments in (
            ("import", rows, "--name", "imported"),
            ("datasets", "create", "nightly", "night"),
            ("datasets", "create", "nightly", "night", "imported"),
        ):
            done = runs.evoloom(*arguments, "--store", store)
            assert done.returncode == 0, done.stderr
        write_evaluation(store, "evaluation-1", _EVALUATED)
        done = runs.evoloom("store", "analyse", "--store", store)
        assert done.returncode == 0, done.stderr
        options = api.settings(api__auth="off", teacher__base_url=teacher.url,
                               run__progress_interval_s=0.1)  # fmt: skip
        with api.serving(store, *options) as service:
            with service.anonymous() as client:
                tasks = [api.task(number, name=f"{PAYLOAD} {number}") for number in range(12)]
                client.post("/seed-tasks", json=tasks).raise_for_status()
                client.post("/seed-sets", json={"name": "first", "filter": {}}).raise_for_status()
            yield Site(service, teacher)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_every_page_is_sound(
    site: Site, browser: Browser, width: int, scheme: str, tmp_path: Path
) -> None:
    found: dict[str, list[str]] = {}
    with watched(browser, site.service.url, width=width, scheme=scheme) as seen:
        for name, address in site.pages().items():
            seen.open(address)
            expect(seen.page.locator("main h1")).to_have_count(1)
            for summary in seen.page.locator("summary").all()[:3]:
                summary.click()
            found[name] = seen.violations()
            if seen.overflow():
                found[name].append(f"{seen.overflow()} pixels too wide")
            shoot(seen, tmp_path / "pictures", f"{name}-{width}-{scheme}")
        seen.check()
    assert {name: said for name, said in found.items() if said} == {}


def test_text_of_a_model_stays_text(site: Site, browser: Browser) -> None:
    """In an evaluation's prompts and answers, in seed tasks' names; markup is shown as it is."""
    with watched(browser, site.service.url) as seen:
        seen.open("evaluations/evaluation-1")
        first = seen.page.locator("article").first
        expect(first.get_by_text(PAYLOAD, exact=True)).to_have_count(1)
        expect(seen.page.locator("article")).to_have_count(20)
        seen.page.get_by_role("button", name="Show more").click()
        expect(seen.page.locator("article")).to_have_count(30)
        seen.page.get_by_label("Order").select_option("better")
        expect(seen.page.locator("article")).to_have_count(20)
        seen.open("seeds", "Seed tasks")
        expect(seen.page.get_by_text(f"{PAYLOAD} 3", exact=True)).to_be_visible()
        assert seen.page.locator("main img, main script").count() == 0
        seen.check()


def test_it_works_by_keyboard(site: Site, browser: Browser) -> None:
    """Skip link, focus on the heading after a page is opened, a form sent by Enter, the theme."""
    with watched(browser, site.service.url) as seen:
        page = seen.page
        seen.open("runs", "Runs")
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_be_focused()
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Start a run").last).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1, name="Start a run")).to_be_focused()
        page.get_by_label("Target").focus()
        page.keyboard.type("0")
        page.keyboard.press("Enter")
        expect(page.get_by_label("Target")).to_be_focused()
        expect(page.locator(".wrong", has_text="1")).to_be_visible()
        page.get_by_label("Theme").focus()
        page.keyboard.press("d")
        page.keyboard.press("Tab")
        expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        page.reload()
        expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        seen.check(422)


def test_a_lineage_is_walked_from_leaf_to_root(site: Site, browser: Browser) -> None:
    with watched(browser, site.service.url) as seen:
        with site.service.anonymous() as client:
            listed = client.get("/instructions", params={"run": "evolved", "limit": 200}).json()
            leaf = next(one for one in listed["items"] if one["round"] and one["parent_id"])
        seen.open(f"instructions/{leaf['id']}")
        meant = seen.page.locator(".node.meant")
        for _ in range(10):
            parent = meant.locator("xpath=ancestor::ul[1]/parent::li/div/a")
            if not parent.count():
                break
            text = parent.inner_text()
            parent.click()
            expect(meant.locator("b")).to_have_text(text)
        expect(meant).to_contain_text("generate")
        seen.check()


def test_a_run_is_cancelled_and_resumed(site: Site, browser: Browser) -> None:
    """With live progress, on its page and in the list."""
    body = {"method": "self-instruct", "seed_set": "first", "target": 60_000, "run_id": "long",
            "settings": {"caps": {"tokens": 10**9}}}  # fmt: skip
    with (
        site.service.anonymous() as client,
        watched(browser, site.service.url) as seen,
        watched(browser, site.service.url) as beside,
    ):
        seen.open("start", "Start a run")
        client.post("/runs", json=body).raise_for_status()
        seen.open("runs/long", "long")
        beside.open("runs", "Runs")
        row = beside.page.get_by_role("row", name=re.compile("^long"))
        done = seen.page.get_by_text(re.compile(r"[1-9][0-9,]* of 60,000"))
        expect(done.first).to_be_visible()
        expect(row.get_by_text(re.compile(r"[1-9][0-9,]* of 60,000"))).to_be_visible()
        assert seen.violations() == []
        seen.page.get_by_role("button", name="Cancel").click()
        expect(seen.page.locator(".now")).to_contain_text("cancelled")
        expect(row).to_contain_text("cancelled")
        seen.page.get_by_role("button", name="Resume").click()
        expect(seen.page.locator(".now")).to_contain_text("running")
        seen.page.get_by_role("button", name="Cancel").click()
        expect(seen.page.locator(".now")).to_contain_text("cancelled")
        seen.check()
        beside.check()


def test_a_dataset_is_downloaded(site: Site, browser: Browser, tmp_path: Path) -> None:
    with watched(browser, site.service.url) as seen:
        seen.open(site.pages()["dataset"])
        with seen.page.expect_download() as waiting:
            seen.page.get_by_role("button", name="Download").click()
        waiting.value.save_as(tmp_path / "dataset")
        with site.service.anonymous() as client:
            name = site.pages()["dataset"].removeprefix("datasets/")
            sent = client.get(f"/datasets/{name}/export", params={"format": "alpaca"}).content
        assert (tmp_path / "dataset").read_bytes() == sent
        seen.check()


def test_a_key_that_is_wrong_is_asked_for_again(tmp_path: Path, browser: Browser) -> None:
    with (
        api.serving(tmp_path / "evoloom.duckdb") as service,
        watched(browser, service.url) as seen,
    ):
        seen.open("seeds", "Key")
        field = seen.page.get_by_role("textbox", name="Key")
        seen.page.get_by_role("button", name="Use this key").click()
        expect(seen.page.locator(".wrong")).to_have_text("Enter a key.")
        field.fill("evk_wrong")
        seen.page.get_by_role("button", name="Use this key").click()
        expect(seen.page.get_by_role("alert")).to_contain_text("not known")
        field.fill(service.key("read"))
        seen.page.get_by_role("button", name="Use this key").click()
        seen.settled("Seed tasks")
        expect(seen.page.get_by_text("There are no seed tasks yet")).to_be_visible()
        making = seen.page.get_by_role("form", name="Make a seed set")
        making.get_by_label("Name").fill("first")
        making.get_by_role("button", name="Make the set").click()
        expect(making.get_by_role("alert")).to_contain_text("scope 'submit'")
        assert "evk_wrong" not in service.log.read_text()
        assert 401 in seen.refused
        assert 403 in seen.refused
        assert seen.complaints == []
