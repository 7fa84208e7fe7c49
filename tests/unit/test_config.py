"""Settings: precedence and sources, what is refused and how it is said, secrets, the generated page."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.child import with_key
from flows.parameters import public_settings
from flows.runs import resume_settings
from pipeline.config import (
    Settings,
    dump,
    flatten,
    known_keys,
    load_settings,
    operational_keys,
    parse_flag,
    resolve,
)
from pipeline.errors import UsageError
from tests.support.cli import ROOT, InProcess, clean, environment

SECRET = "sk-never-shown-1234"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clean(monkeypatch, tmp_path)


@pytest.fixture
def evoloom(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> InProcess:
    return InProcess(monkeypatch, capsys)


def refusal(flags: dict[str, object] | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        resolve(flags)
    return str(caught.value)


class TestPrecedence:
    def test_default_then_file_then_environment_then_flag(self, monkeypatch):
        assert load_settings().run.target == 100
        Path("evoloom.toml").write_text("[run]\ntarget = 1\nceiling = 1\nwindow = 1\n")
        monkeypatch.setenv("EVOLOOM_RUN__TARGET", "2")
        monkeypatch.setenv("EVOLOOM_RUN__CEILING", "2")
        resolved = resolve({"run.target": 3})
        run = resolved.settings.run
        assert (run.target, run.ceiling, run.window, run.seed) == (3, 2, 1, None)
        assert resolved.sources == {
            "run.target": "flag",
            "run.ceiling": "environment EVOLOOM_RUN__CEILING",
            "run.window": "file evoloom.toml",
        }

    def test_file_named_by_variable_or_argument_instead_of_the_default_one(
        self, monkeypatch, tmp_path
    ):
        Path("evoloom.toml").write_text("[run]\ntarget = 1\n")
        (tmp_path / "other.toml").write_text("[run]\ntarget = 2\n")
        (tmp_path / "third.toml").write_text("[run]\ntarget = 3\n")
        assert load_settings().run.target == 1
        monkeypatch.setenv("EVOLOOM_CONFIG", "other.toml")
        assert load_settings().run.target == 2
        assert load_settings(config_file=Path("third.toml")).run.target == 3

    def test_one_value_of_a_group_leaves_the_others_at_the_groups_defaults(self):
        key = "self_instruct.generation.completions.temperature"
        generation = load_settings({key: 1.5}).self_instruct.generation
        assert generation.completions.temperature == 1.5
        assert generation.completions.top_p == 0.5
        assert generation.completions.max_tokens == 1024
        assert generation.chat.temperature == 0.7

    def test_empty_table_in_a_file_changes_nothing(self):
        Path("evoloom.toml").write_text("[teacher]\n[self_instruct.generation]\n")
        assert load_settings() == Settings()

    @pytest.mark.parametrize("value", ['["seed", "stop"]', '[ "seed","stop" ]'])
    def test_lists_from_every_layer(self, monkeypatch, value):
        expected = ("seed", "stop")
        assert load_settings(dict([parse_flag(f"teacher.drop_parameters={value}")])) \
            .teacher.drop_parameters == expected  # fmt: skip
        monkeypatch.setenv("EVOLOOM_TEACHER__DROP_PARAMETERS", value)
        assert load_settings().teacher.drop_parameters == expected
        monkeypatch.delenv("EVOLOOM_TEACHER__DROP_PARAMETERS")
        Path("evoloom.toml").write_text(f"[teacher]\ndrop_parameters = {value}\n")
        assert load_settings().teacher.drop_parameters == expected

    def test_nested_groups_in_the_environment(self, monkeypatch):
        monkeypatch.setenv("EVOLOOM_SELF_INSTRUCT__GENERATION__CHAT__TOP_P", "0.25")
        assert load_settings().self_instruct.generation.chat.top_p == 0.25

    @pytest.mark.parametrize("text", ["1", "true", "1e5", "2026-01-01", "inf", "a b", "[x", "0123"])
    def test_a_text_setting_keeps_what_looks_like_a_number(self, monkeypatch, text):
        assert load_settings(dict([parse_flag(f"teacher.model={text}")])).teacher.model == text
        monkeypatch.setenv("EVOLOOM_TEACHER__MODEL", text)
        monkeypatch.setenv("EVOLOOM_STORE__PATH", text)
        settings = load_settings()
        assert (settings.teacher.model, settings.store.path) == (text, Path(text))

    @given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
    def test_any_text_can_be_a_model_name(self, text):
        name = f"m{text}"
        assert load_settings(dict([parse_flag(f"teacher.model={name}")])).teacher.model == name


class TestRefused:
    @pytest.mark.parametrize(
        ("flag", "parts"),
        [
            ("teacher.modle=x", ["unknown", "'teacher.modle'", "did you mean 'teacher.model'"]),
            ("target=5", ["unknown", "'target'", "'run.target'"]),
            ("zzz=1", ["unknown", "'zzz'", "config show"]),
            ("teacher.model.x=1", ["unknown", "'teacher.model.x'"]),
            ("teacher=5", ["'teacher'", "group", "teacher.base_url"]),
            ("self_instruct.generation=1", ["group", "self_instruct.generation.completions"]),
            ("run.target=abc", ["'run.target'", "integer", "'abc'"]),
            ("run.target=0", ["'run.target'", "greater than 0", "got 0"]),
            ("run.target=-1", ["'run.target'", "greater than 0"]),
            ("run.target=1.5", ["'run.target'", "integer", "1.5"]),
            ("run.target=true", ["'run.target'", "true or false is not expected"]),
            ("run.seed=-1", ["'run.seed'", "greater than or equal to 0"]),
            ("novelty.threshold=1.5", ["'novelty.threshold'", "less than or equal to 1", "1.5"]),
            ("novelty.threshold=0", ["'novelty.threshold'", "greater than 0"]),
            ("novelty.threshold=nan", ["'novelty.threshold'", "nan"]),
            ("novelty.at_threshold=keep", ["'reject' or 'admit'", "'keep'"]),
            ("novelty.tokenizer=bpe", ["'rouge' or 'multilingual'", "'bpe'"]),
            ("teacher.api=text", ["'completions' or 'chat'", "'text'"]),
            ("teacher.base_url=localhost:8000", ["teacher.base_url", "http://", "localhost:8000"]),
            ("teacher.base_url=", ["teacher.base_url", "http://"]),
            ("teacher.base_url=http://u:p@h/v1", ["teacher.base_url", "teacher.api_key"]),
            ("teacher.model=", ["teacher.model", "must not be empty"]),
            ("teacher.concurrency=0", ["teacher.concurrency"]),
            ("teacher.concurrency=1001", ["teacher.concurrency", "1000"]),
            ("teacher.timeout_s=0", ["teacher.timeout_s", "greater than 0"]),
            ("teacher.timeout_s=inf", ["teacher.timeout_s", "finite"]),
            ("teacher.drop_parameters=seed", ["a list is expected", '["a", "b"]', "'seed'"]),
            ('teacher.drop_parameters=["sede"]', ["drop_parameters.0", "'seed'", "'sede'"]),
            ('teacher.drop_parameters=["max_tokens"]', ["drop_parameters.0", "'max_tokens'"]),
            ("caps.tokens=0", ["caps.tokens", "greater than 0"]),
            ("prices.prompt=-1", ["prices.prompt"]),
            ("prices.prompt=inf", ["prices.prompt", "finite"]),
            ('filters.keywords=[" "]', ["filters.keywords.0", "must not be empty"]),
            ("filters.min_words=200", ["filters", "min_words (200)", "max_words (150)"]),
            ("filters.reject_non_ascii_start=maybe", ["true or false is expected", "'maybe'"]),
            ('self_instruct.generation.completions.stop=[""]', ["stop.0", "must not be empty"]),
            ("self_instruct.classification.chat.top_p=0", ["top_p", "greater than 0"]),
            ("self_instruct.input_first.chat.temperature=3", ["temperature", "2"]),
            ("self_instruct.shots=0", ["self_instruct.shots", "greater than 0"]),
        ],
    )
    def test_message_names_setting_fault_and_remedy(self, flag, parts):
        message = refusal(dict([parse_flag(flag)]))
        for part in parts:
            assert part in message
        assert "Traceback" not in message
        assert "(flag)" in message

    @pytest.mark.parametrize(
        ("name", "parts"),
        [
            (
                "EVOLOOM_TEACHER__MODLE",
                ["teacher.modle", "EVOLOOM_TEACHER__MODLE", "teacher.model"],
            ),
            ("EVOLOOM_NOSUCH__MODEL", ["EVOLOOM_NOSUCH__MODEL", "no section 'nosuch'", "teacher"]),
            ("EVOLOOM_TEACHER_MODEL", ["EVOLOOM_TEACHER_MODEL", "EVOLOOM_TEACHER__MODEL"]),
            ("EVOLOOM_FOO", ["EVOLOOM_FOO", "no section 'foo'"]),
            ("EVOLOOM_TEACHER", ["EVOLOOM_TEACHER", "group"]),
        ],
    )
    def test_unknown_variable(self, monkeypatch, name, parts):
        monkeypatch.setenv(name, "x")
        message = refusal()
        for part in parts:
            assert part in message

    def test_variables_that_are_no_settings_pass(self, monkeypatch):
        monkeypatch.setenv("EVOLOOM_TORCH_INDEX", "https://example.org")
        assert load_settings() == Settings()

    @pytest.mark.parametrize(
        ("text", "parts"),
        [
            ("[teacher]\nmodle = 'x'\n", ["unknown setting 'teacher.modle'", "evoloom.toml"]),
            ("[nosuch]\na = 1\n", ["unknown setting 'nosuch.a'", "evoloom.toml"]),
            ("[run]\ntarget = 'ten'\n", ["run.target", "evoloom.toml", "'ten'"]),
            ("teacher = 5\n", ["teacher", "group"]),
            ("[[teacher]]\nmodel = 'x'\n", ["teacher", "group"]),
            ("[teacher\n", ["evoloom.toml", "not valid TOML", "line 1"]),
        ],
    )
    def test_mistakes_in_a_file(self, text, parts):
        Path("evoloom.toml").write_text(text)
        message = refusal()
        for part in parts:
            assert part in message

    def test_missing_or_binary_file(self, tmp_path):
        with pytest.raises(UsageError, match=r"nosuch.toml: No such file"):
            resolve(config_file=Path("nosuch.toml"))
        (tmp_path / "b.toml").write_bytes(b"\xff\xfe")
        with pytest.raises(UsageError, match=r"b.toml is not valid TOML"):
            resolve(config_file=Path("b.toml"))

    def test_every_mistake_is_reported(self):
        message = refusal({"run.target": 0, "novelty.threshold": 2})
        assert "run.target" in message
        assert "novelty.threshold" in message

    @pytest.mark.parametrize("text", ["foo", "=1", " =1"])
    def test_set_without_key_or_value(self, text):
        with pytest.raises(UsageError, match=r"SECTION.KEY=VALUE"):
            parse_flag(text)

    def test_a_value_below_a_value(self):
        assert "unknown setting 'run.target.x'" in refusal({"run.target": 5, "run.target.x": 1})


class TestSecrets:
    def test_masked_and_not_in_a_manifest(self, monkeypatch):
        monkeypatch.setenv("EVOLOOM_TEACHER__API_KEY", SECRET)
        settings = load_settings()
        assert settings.teacher.api_key.get_secret_value() == SECRET
        assert SECRET not in str(settings)
        assert SECRET not in settings.model_dump_json()
        assert SECRET not in json.dumps(dump(settings))
        assert "api_key" not in dump(settings)["teacher"]

    @pytest.mark.parametrize("key", [f"{SECRET} x", f"{SECRET}é", f"{SECRET}\nx", f"{SECRET}\x00"])
    def test_not_in_a_refusal(self, key):
        message = refusal({"teacher.api_key": key})
        assert "teacher.api_key" in message
        assert SECRET not in message

    def test_not_in_the_refusal_of_a_wrong_type(self):
        Path("evoloom.toml").write_text("[teacher]\napi_key = 987654321\n")
        message = refusal()
        assert "teacher.api_key" in message
        assert "987654321" not in message

    def test_line_end_of_a_key_file_is_cut(self):
        key = load_settings({"teacher.api_key": f"{SECRET}\n"}).teacher.api_key
        assert key.get_secret_value() == SECRET

    def test_empty_key_is_none(self):
        assert load_settings({"teacher.api_key": ""}).teacher.api_key is None

    @pytest.mark.parametrize("key", ["teacher.api_key", "api.admin_key"])
    def test_in_a_file_that_a_variable_names(self, monkeypatch, tmp_path, key):
        (tmp_path / "key").write_text(f"{SECRET}\n")
        variable = f"EVOLOOM_{key.upper().replace('.', '__')}"
        monkeypatch.setenv(f"{variable}_FILE", str(tmp_path / "key"))
        resolved = resolve()
        section, name = key.split(".")
        assert getattr(getattr(resolved.settings, section), name).get_secret_value() == SECRET
        assert resolved.sources == {key: f"environment {variable}_FILE"}
        assert SECRET not in json.dumps(dump(resolved.settings))
        # What a process is handed by another takes precedence, and the file is not looked at.
        monkeypatch.setenv(variable, "sk-handed-on")
        (tmp_path / "key").unlink()
        resolved = resolve()
        assert (
            getattr(getattr(resolved.settings, section), name).get_secret_value() == "sk-handed-on"
        )
        assert resolved.sources == {key: f"environment {variable}"}

    def test_a_child_of_a_run_reads_the_file_too(self, monkeypatch, tmp_path):
        (tmp_path / "key").write_text(SECRET)
        monkeypatch.setenv("EVOLOOM_TEACHER__API_KEY_FILE", str(tmp_path / "key"))
        settings = Settings(**with_key(dump(Settings())))
        assert settings.teacher.api_key.get_secret_value() == SECRET

    @pytest.mark.parametrize(
        ("content", "part"),
        [
            (None, "No such file"),
            (b"", "is empty"),
            (b" \n", "is empty"),
            (b"\xff\xfe", "is not text"),
            (b"x" * 70_000, "too large"),
            (f"{SECRET} and more".encode(), "a key is printable"),
        ],
    )
    def test_a_file_that_holds_no_key(self, evoloom, tmp_path, content, part):
        path = tmp_path / "key"
        if content is not None:
            path.write_bytes(content)
        done = evoloom("config", "show", EVOLOOM_TEACHER__API_KEY_FILE=str(path))
        assert done.code == 2
        assert "EVOLOOM_TEACHER__API_KEY_FILE" in done.err
        assert part in done.err
        assert SECRET not in done.err

    @pytest.mark.parametrize("path", ["", "."])
    def test_a_path_that_is_no_file(self, evoloom, path):
        done = evoloom("config", "show", EVOLOOM_TEACHER__API_KEY_FILE=path)
        assert (done.code, "EVOLOOM_TEACHER__API_KEY_FILE" in done.err) == (2, True)
        assert "Is a directory" in done.err

    def test_a_file_that_others_own(self, tmp_path):
        """Root may read everything, so another user asks."""
        path = tmp_path / "key"
        path.write_text(SECRET)
        path.chmod(0)
        program = (
            "import os\n"
            "from pipeline.secret_files import find_secret\n"
            "os.getuid() or os.setuid(65534)\n"
            "find_secret('EVOLOOM_TEACHER__API_KEY')\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False,
            env=environment({"EVOLOOM_TEACHER__API_KEY_FILE": str(path)}),
        )  # fmt: skip
        assert "UsageError: environment variable EVOLOOM_TEACHER__API_KEY_FILE" in done.stderr
        assert "Permission denied" in done.stderr

    def test_only_secrets_are_read_from_files(self, monkeypatch):
        monkeypatch.setenv("EVOLOOM_TEACHER__MODEL_FILE", "/dev/null")
        assert "teacher.model_file" in refusal()

    @pytest.mark.parametrize("key", ["teacher.api_key", "api.admin_key"])
    def test_no_flow_parameter(self, key):
        section, name = key.split(".")
        with pytest.raises(UsageError, match=rf"{key} is a flow parameter"):
            public_settings({section: {name: SECRET}})


class TestResume:
    """What may differ from the manifest."""

    manifest: ClassVar = {"run_id": "r", "model": "m", "config": dump(Settings())}

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("teacher.concurrency", 3),
            ("teacher.timeout_s", 9.0),
            ("teacher.base_url", "http://h/v1"),
            ("teacher.retry_max_s", 1.0),
            ("caps.tokens", 10),
            ("caps.cost", 2.0),
            ("prices.completion", 1.0),
            ("run.grace_s", 1.0),
            ("store.ingest_interval_s", 1.0),
            ("engine.threads", 2),
        ],
    )
    def test_operational(self, key, value):
        assert key in operational_keys()
        settings = resume_settings(self.manifest, {key: value}).settings
        assert dict(flatten(settings.model_dump()))[key] == value

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("run.target", 5),
            ("run.window", 5),
            ("run.seed", 5),
            ("run.ceiling", 5),
            ("novelty.threshold", 0.5),
            ("novelty.tokenizer", "multilingual"),
            ("teacher.api", "chat"),
            ("teacher.model", "other"),
            ("filters.min_words", 2),
            ("instance_filters.max_instances", 2),
            ("prompts.directory", "mine"),
            ("seeds.file", "mine.jsonl"),
            ("self_instruct.generation.completions.stop", ["x"]),
        ],
    )
    def test_pinned_is_named_with_its_source(self, monkeypatch, key, value):
        name = "EVOLOOM_" + key.upper().replace(".", "__")
        with pytest.raises(UsageError) as by_flag:
            resume_settings(self.manifest, {key: value})
        monkeypatch.setenv(name, json.dumps(value) if isinstance(value, list) else str(value))
        with pytest.raises(UsageError) as by_variable:
            resume_settings(self.manifest, {})
        assert f"'{key}' (flag)" in str(by_flag.value)
        assert f"'{key}' (environment {name})" in str(by_variable.value)
        for part in ("run r", "pinned", "rederive"):
            assert part in str(by_flag.value)

    def test_pinned_in_a_file(self):
        Path("evoloom.toml").write_text("[novelty]\nthreshold = 0.5\n")
        with pytest.raises(UsageError, match=r"novelty.threshold' \(file evoloom.toml\) is 0.5"):
            resume_settings(self.manifest, {})

    def test_the_same_value_and_the_resolved_model_pass(self):
        flags = {"novelty.threshold": 0.7, "teacher.model": "m"}
        assert resume_settings(self.manifest, flags).settings.teacher.model == "m"

    def test_a_key_is_operational(self):
        settings = resume_settings(self.manifest, {"teacher.api_key": SECRET}).settings
        assert settings.teacher.api_key.get_secret_value() == SECRET

    def test_which_are_operational(self):
        pinned = known_keys() - operational_keys()
        assert {key.split(".")[0] for key in pinned} == {
            "run", "teacher", "seeds", "prompts", "self_instruct", "filters", "instance_filters",
            "novelty", "evol_instruct", "training", "methods", "evaluation",
        }  # fmt: skip
        stages = {key for key in pinned if key.startswith("teacher.stages.")}
        assert {key.split(".")[-1] for key in stages} == {
            "model", "api", "structured_output", "drop_parameters"
        }  # fmt: skip
        assert {key for key in pinned - stages if key.startswith(("run.", "teacher."))} == {
            "run.target", "run.seed", "run.window", "run.ceiling",
            "teacher.model", "teacher.api", "teacher.drop_parameters",
            "teacher.structured_output", "teacher.re_asks",
        }  # fmt: skip


class TestTeachers:
    def test_the_last_of_base_url_and_endpoints_counts(self, monkeypatch):
        Path("evoloom.toml").write_text('[teacher]\nendpoints = ["http://a/v1", "http://b/v1"]\n')
        assert load_settings().teacher.addresses == ("http://a/v1", "http://b/v1")
        monkeypatch.setenv("EVOLOOM_TEACHER__BASE_URL", "http://c/v1")
        assert load_settings().teacher.addresses == ("http://c/v1",)
        flags = {"teacher.endpoints": ["http://d/v1"]}
        assert load_settings(flags).teacher.addresses == ("http://d/v1",)

    def test_a_resume_may_put_endpoints_in_place_of_the_manifests_address(self):
        config = dump(resolve({"teacher.base_url": "http://a/v1"}, flags_only=True).settings)
        flags = {"teacher.endpoints": ["http://b/v1", "http://c/v1"]}
        manifest = {"run_id": "r", "model": "m", "config": config}
        teacher = resume_settings(manifest, flags).settings.teacher
        assert teacher.addresses == ("http://b/v1", "http://c/v1")

    @pytest.mark.parametrize(
        ("flags", "parts"),
        [
            ({"teacher.base_url": "http://a/v1", "teacher.endpoints": ["http://b/v1"]},
             ["teacher", "both set"]),
            ({"teacher.base_url": "http://127.0.0.1:99999/v1"}, ["teacher.base_url", "0-65535"]),
            ({"teacher.base_url": "http://127.0.0.1:x/v1"}, ["teacher.base_url", "such as http://"]),
            ({"teacher.endpoints": ["a:8000"]}, ["teacher.endpoints", "http://127.0.0.1:8000/v1"]),
            ({"teacher.endpoints": ["http://a/v1", "http://a/v1"]}, ["named twice"]),
            ({"teacher.stages.clasify.model": "x"}, ["clasify", "generate, classify, instances"]),
            ({"teacher.stages.classify.modle": "x"}, ["modle", "base_url, api_key_variable"]),
            ({"teacher.stages.classify.api": "soap"}, ["teacher.stages.classify.api"]),
            ({"prices.models.gpt-4.1.promt": 1}, ["gpt-4.1.promt", "prompt, cached_prompt, completion"]),
            ({"prices.models.gpt-4.1.prompt": True}, ["prices.models.gpt-4.1.prompt", "true"]),
            ({"prices.models.gpt-4.1.prompt": -1}, ["prices.models.gpt-4.1.prompt"]),
        ],
    )  # fmt: skip
    def test_mistakes_are_named(self, flags, parts):
        with pytest.raises(UsageError) as caught:
            resolve(flags)
        for part in parts:
            assert part in str(caught.value)

    def test_a_key_in_place_of_its_variable_is_not_shown(self):
        with pytest.raises(UsageError) as caught:
            resolve({"teacher.stages.judge.api_key_variable": SECRET + "-x"})
        assert "OPENAI_API_KEY" in str(caught.value)
        assert SECRET not in str(caught.value)

    def test_a_models_name_may_hold_dots_in_every_layer(self, monkeypatch):
        Path("evoloom.toml").write_text('[prices.models."org/a-1.5"]\nprompt = 1\n')
        monkeypatch.setenv("EVOLOOM_PRICES__MODELS", '{"b.c" = {prompt = 2}}')
        models = load_settings({"prices.models.d.e.prompt": 3}).prices.models
        assert {name: prices.prompt for name, prices in models.items()} == {
            "org/a-1.5": 1.0, "b.c": 2.0, "d.e": 3.0
        }  # fmt: skip


class TestSettingsPage:
    def test_is_up_to_date(self):
        done = subprocess.run(
            [sys.executable, str(ROOT / "scripts/settings_doc.py"), "--check"],
            cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def test_names_every_setting_with_a_meaning(self):
        text = (ROOT / "docs/SETTINGS.md").read_text("utf-8")
        rows = {
            cells[1].strip(" `"): cells
            for line in text.splitlines()
            if len(cells := line.replace("\\|", "/").split("|")) == 7 and cells[1].startswith(" `")
        }
        assert set(rows) == known_keys()
        for key, cells in rows.items():
            assert cells[5].strip(), f"{key} has no docstring"
            assert cells[4].strip() == ("operational" if key in operational_keys() else "pinned")
