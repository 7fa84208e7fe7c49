"""A skip passes only for a reason that is known; see tests/conftest.py."""

from __future__ import annotations

from pathlib import Path

import pytest

CONFTEST = (Path(__file__).parents[1] / "conftest.py").read_text("utf-8")
MARKERS = (
    "[pytest]\nmarkers =\n  verify\n  verify_run\naddopts = -m 'not verify' -p no:cacheprovider\n"
)


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """An empty project under the rules of this one, in a folder with nothing beside it."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    root = pytester.mkdir("checkout")
    (root / "conftest.py").write_text(CONFTEST, "utf-8")
    (root / "pytest.ini").write_text(MARKERS, "utf-8")
    pytester.chdir()
    return pytester


def run(project: pytest.Pytester, source: str, *arguments: str) -> pytest.RunResult:
    root = project.path / "checkout"
    (root / "test_it.py").write_text("import pytest\n" + source, "utf-8")
    return project.runpytest_inprocess("--rootdir", root, root, *arguments)


def skipping(reason: str) -> str:
    return f"def test_this(): pytest.skip({reason!r})\ndef test_that(): pass\n"


def test_a_session_without_a_gpu_passes_and_says_so(project: pytest.Pytester) -> None:
    result = run(project, skipping("no GPU"))
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["*test_it.py::test_this: no GPU"])


@pytest.mark.parametrize(
    "source",
    [
        skipping("no database"),
        "@pytest.mark.skip\ndef test_this(): pass\ndef test_that(): pass\n",
        "@pytest.mark.skipif(True, reason='slow')\ndef test_this(): pass\ndef test_that(): pass\n",
        "@pytest.fixture\ndef thing(): pytest.skip('late')\ndef test_this(thing): pass\n",
        "import unittest\nclass TestIt(unittest.TestCase):\n"
        "    def test_this(self): raise unittest.SkipTest('old ways')\n",
    ],
)
def test_another_reason_fails_the_session(project: pytest.Pytester, source: str) -> None:
    result = run(project, source)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["FAILED: 1 skip(s) for another reason than *'no GPU'*"])


def test_a_module_that_skips_itself_fails_the_session(project: pytest.Pytester) -> None:
    (project.path / "checkout" / "test_other.py").write_text("def test_that(): pass\n", "utf-8")
    result = run(project, "pytest.importorskip('a_module_nobody_has')\n")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["test_it.py: could not import 'a_module_nobody_has'*"])


@pytest.mark.parametrize(
    "source", [skipping("no database"), "pytest.importorskip('a_module_nobody_has')\n"]
)
def test_spread_over_processes_a_skip_is_noticed_too(project: pytest.Pytester, source: str) -> None:
    root = project.path / "checkout"
    (root / "test_it.py").write_text("import pytest\n" + source, "utf-8")
    (root / "test_other.py").write_text("def test_that(): pass\n", "utf-8")
    result = project.runpytest_subprocess(
        "-p", "xdist", "-n", "2", "--dist", "loadfile", "--rootdir", root, root
    )
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["FAILED: 1 skip(s) for another reason than *'no GPU'*"])


@pytest.mark.parametrize(("is_there", "code"), [(False, 0), (True, 1)])
def test_shared_may_be_missed_only_where_it_is_missing(
    project: pytest.Pytester, is_there: bool, code: int
) -> None:
    if is_there:
        (project.path / "shared").mkdir()
    assert run(project, skipping("no ../shared")).ret == code


def test_a_failed_test_stays_the_failure(project: pytest.Pytester) -> None:
    result = run(project, skipping("no GPU") + "def test_broken(): assert False\n")
    result.assert_outcomes(failed=1, passed=1, skipped=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_verifications_are_left_out_unless_asked_for(project: pytest.Pytester) -> None:
    source = "@pytest.mark.verify_run\ndef test_all(): pass\ndef test_one(): pass\n"
    run(project, source).assert_outcomes(passed=1, deselected=1)
    asked = run(project, source, "-v", "-m", "verify_run")
    asked.assert_outcomes(passed=1, deselected=1)
    asked.stdout.fnmatch_lines(["*::test_all PASSED*"])
