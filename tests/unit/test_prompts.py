"""Prompts: the published structure in both APIs, users' own templates, what they may not do."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.config import Settings, resolve
from pipeline.errors import UsageError
from pipeline.novelty import NoveltyIndex
from pipeline.prompting import PromptBook, load_templates
from pipeline.records import Address, Completion, JournalEntry
from pipeline.run.requests import TeacherRequest
from pipeline.self_instruct.asking import Asker
from pipeline.self_instruct.machine import SelfInstructMachine
from pipeline.self_instruct.manifest import build_manifest, plan_of
from pipeline.self_instruct.plan import PROMPTS, SelfInstructPlan
from pipeline.self_instruct.pool import TaskPool

APIS = ("completions", "chat")
SHOTS = [f"Do the {word} thing." for word in "first second third fourth fifth sixth".split()]
SHOTS += ["Seventh:  with   blanks\nand lines: ", "Eighth."]
INSTRUCTION = "Explain why the sky is blue."
ADDRESS = Address("stage", (3, 1))
HOSTILE = [
    "{{ 7 * 7 }}",
    "{% for x in range(3) %}x{% endfor %}",
    "{# gone #}",
    "{{ shots.__class__.__mro__ }}",
    "{{",
    "%}",
    "{%",
    "}} \\n ${7*7} %s {0} <b>&amp;</b>",
    "{% raw %}{{ 1 }}{% endraw %}",
    "{% block user %}x{% endblock %}",
]


_PLANS: dict[str, SelfInstructPlan] = {}


def plan(**flags: object) -> SelfInstructPlan:
    name = repr(sorted(flags.items(), key=lambda item: item[0]))
    if name not in _PLANS:
        given = {key.replace("__", "."): value for key, value in flags.items()}
        settings = resolve({"run.seed": 1, **given}).settings
        _PLANS[name] = plan_of(build_manifest("r", settings, "m"), ())
    return _PLANS[name]


def texts(request: TeacherRequest) -> list[str]:
    if isinstance(request.prompt, str):
        return [request.prompt]
    return [message.content for message in request.prompt]


def asked(api: str, prompt: str, instruction: str = INSTRUCTION, **flags: object) -> TeacherRequest:
    asker = Asker(plan(teacher__api=api, **flags))
    if prompt == "instruction_generation":
        return asker.generation(ADDRESS, [*SHOTS[:7], instruction])
    if prompt == "classification_detection":
        return asker.classification(ADDRESS, instruction)
    return asker.instances(ADDRESS, instruction, prompt == "output_first")


@pytest.mark.parametrize("api", APIS)
class TestEveryPrompt:
    @pytest.mark.parametrize("prompt", PROMPTS)
    def test_no_double_blank_lines_and_no_trailing_blanks(self, api, prompt):
        for text in texts(asked(api, prompt)):
            assert "\n\n\n" not in text
            assert not re.search(r"[ \t]+$", text, re.MULTILINE)
            assert not text.startswith("\n")

    @pytest.mark.parametrize("prompt", PROMPTS)
    @pytest.mark.parametrize("hostile", HOSTILE)
    def test_instruction_text_is_shown_and_never_executed(self, api, prompt, hostile):
        # What `shown_text` does to a shot is no part of this: no blanks at the ends, no colon.
        calm = texts(asked(api, prompt, "NOTHING"))
        assert texts(asked(api, prompt, hostile)) == [
            text.replace("NOTHING", hostile) for text in calm
        ]

    @pytest.mark.parametrize("prompt", PROMPTS)
    def test_shape(self, api, prompt):
        request = asked(api, prompt)
        if api == "completions":
            assert isinstance(request.prompt, str)
            assert set(request.body()) >= {"prompt", "model", "max_tokens", "seed"}
        else:
            assert [message.role for message in request.prompt] == ["system", "user"]
            assert "messages" in request.body()

    @pytest.mark.parametrize("prompt", ["classification_detection", "input_first", "output_first"])
    def test_constant_part_comes_first(self, api, prompt):
        one, other = (texts(asked(api, prompt, text)) for text in ("Alpha beta.", "Gamma delta."))
        assert one[:-1] == other[:-1]
        head, _, tail = one[-1].rpartition("Task: ")
        other_head, _, other_tail = other[-1].rpartition("Task: ")
        assert head == other_head
        assert tail.startswith("Alpha beta.")
        assert other_tail.startswith("Gamma delta.")
        assert len(head) > 10 * len(tail)

    def test_the_header_of_generation_comes_first(self, api):
        one = texts(Asker(plan(teacher__api=api)).generation(ADDRESS, SHOTS))
        other = texts(Asker(plan(teacher__api=api)).generation(ADDRESS, SHOTS[::-1]))
        assert one[-1].split("1. ")[0] == other[-1].split("1. ")[0] != ""

    def test_generation(self, api):
        text = texts(Asker(plan(teacher__api=api)).generation(ADDRESS, SHOTS))[-1]
        lines = text.split("\n")
        assert lines[-9:] == [
            *(f"{n}. {shot}" for n, shot in enumerate(SHOTS[:6], 1)),
            "7. Seventh: with blanks and lines",
            "8. Eighth.",
            "9.",
        ]
        assert text.endswith("\n9.")
        assert "classification" not in text.lower()

    def test_generation_of_classification_tasks_asks_for_labels(self, api):
        request = asked(
            api, "instruction_generation", self_instruct__classification_seeds_only=True
        )
        assert "classification tasks" in texts(request)[-1].split("\n1. ")[0]
        assert "label" in texts(request)[-1].split("\n1. ")[0]

    def test_numbering_of_the_paper(self, api):
        text = texts(asked(api, "instruction_generation", self_instruct__numbering="task"))[-1]
        assert text.split("\n")[-9].startswith("Task 1: Do the first")
        assert text.endswith("\nTask 9:")

    def test_number_of_shots_sets_the_last_number(self, api):
        asker = Asker(plan(teacher__api=api, self_instruct__shots=3))
        assert texts(asker.generation(ADDRESS, SHOTS[:3]))[-1].endswith("\n4.")

    def test_classification(self, api):
        text = texts(asked(api, "classification_detection"))[-1]
        shots = re.findall(r"^Task: .+\nIs it classification\? (Yes|No)\n\n", text, re.MULTILINE)
        assert (shots.count("Yes"), shots.count("No")) == (12, 19)
        assert shots != sorted(shots)  # interleaved
        assert shots != sorted(shots, reverse=True)
        assert text.endswith(f"\n\nTask: {INSTRUCTION}\nIs it classification?")

    def test_input_first(self, api):
        text = texts(asked(api, "input_first"))[-1]
        blocks = text.split("\n\nTask: ")
        assert blocks[-1] == INSTRUCTION + ("\n" if api == "completions" else "")
        blocks = ("\n\n" + text).split("\n\nTask: ")[1:-1]
        assert len(blocks) == 11
        counts = [len(re.findall(r"^Example \d$", block, re.MULTILINE)) for block in blocks]
        assert sorted(counts) == [0] * 4 + [1] * 3 + [2] * 4
        for block, count in zip(blocks, counts, strict=True):
            assert len(re.findall(r"^Output: ", block, re.MULTILINE)) == max(count, 1)
            assert "Class label:" not in block

    def test_output_first(self, api):
        text = texts(asked(api, "output_first"))[-1]
        blocks = ("\n\n" + text).split("\n\nTask: ")[1:]
        assert blocks[-1] == INSTRUCTION + ("\n" if api == "completions" else "")
        blocks = blocks[:-1]
        assert len(blocks) == 16
        counts = [len(re.findall(r"^Class label: ", block, re.MULTILINE)) for block in blocks]
        assert sum(counts) == 34
        for block in blocks:  # the label comes before its input
            assert block.split("\n")[1].startswith("Class label: ")

    def test_header_is_there_and_own_wording(self, api):
        for prompt in PROMPTS:
            first = texts(asked(api, prompt))[0].split("\n")[0]
            assert len(first.split()) > 8
            assert "come up with" not in first.lower()


class TestDecoding:
    """Which parameters a request carries."""

    def test_published_values_over_completions(self):
        asked_for = {prompt: asked("completions", prompt).parameters for prompt in PROMPTS}
        shown = (
            "max_tokens",
            "temperature",
            "top_p",
            "frequency_penalty",
            "presence_penalty",
            "stop",
        )
        values = {name: tuple(p[key] for key in shown) for name, p in asked_for.items()}
        assert values == {
            "instruction_generation": (1024, 0.7, 0.5, 0, 2, ["\n\n", "\n16", "16.", "16 ."]),
            "classification_detection": (3, 0, 1, 0, 0, ["\n", "Task"]),
            "input_first": (350, 0, 1, 0, 1.5, ["Example 6", "Task:"]),
            "output_first": (300, 0, 1, 0, 1.5, ["Example 6", "Task:"]),
        }

    @pytest.mark.parametrize(
        ("stage", "prompt"),
        [
            ("generation", "instruction_generation"),
            ("classification", "classification_detection"),
            ("input_first", "input_first"),
            ("output_first", "output_first"),
        ],
    )
    @pytest.mark.parametrize("api", APIS)
    def test_each_setting_reaches_the_body(self, stage, prompt, api):
        values = {"max_tokens": 77, "temperature": 1.25, "top_p": 0.25, "frequency_penalty": -1.5,
                  "presence_penalty": 0.75, "stop": ["END"]}  # fmt: skip
        flags = {f"self_instruct__{stage}__{api}__{name}": value for name, value in values.items()}
        body = asked(api, prompt, **flags).body()
        assert {name: body[name] for name in values} == values
        other = asked("chat" if api == "completions" else "completions", prompt, **flags).body()
        assert [name for name, value in values.items() if other.get(name) == value] == []

    def test_no_stop_where_there_is_none(self):
        key = "self_instruct__generation__completions__stop"
        assert "stop" not in asked("completions", "instruction_generation", **{key: []}).body()

    @pytest.mark.parametrize("api", APIS)
    @pytest.mark.parametrize(
        "name", ["temperature", "top_p", "frequency_penalty", "presence_penalty", "stop", "seed"]
    )
    def test_dropped_parameter(self, api, name):
        for prompt in PROMPTS:
            whole = dict(asked(api, prompt).parameters)
            dropped = dict(asked(api, prompt, teacher__drop_parameters=[name]).parameters)
            whole.pop(name, None)
            assert dropped == whole

    def test_seed_depends_on_run_seed_and_address_alone(self):
        def seed(run_seed: int, address: Address, instruction: str) -> int:
            asker = Asker(plan(run__seed=run_seed))
            return asker.classification(address, instruction).parameters["seed"]

        same = seed(1, ADDRESS, "a")
        assert same == seed(1, ADDRESS, "b")
        assert len({same, seed(2, ADDRESS, "a"), seed(1, Address("stage", (3, 2)), "a")}) == 3


class TestOwnTemplates:
    def write(self, folder: Path, name: str, text: str) -> Settings:
        (folder / name).write_text(text, "utf-8")
        return resolve({"prompts.directory": folder}).settings

    def test_takes_the_place_of_the_bundled_and_others_fall_back(self, tmp_path):
        name = "input_first.completion.j2"
        settings = self.write(tmp_path, name, "Zu tun: {{ instruction }} ü\n")
        manifest = build_manifest("r", settings, "m")
        bundled = load_templates(PROMPTS, "completions", None)
        assert manifest["templates"][name] == "Zu tun: {{ instruction }} ü\n"
        assert {**manifest["templates"], name: bundled[name]} == bundled
        asker = Asker(plan_of(manifest, ()))
        assert asker.instances(ADDRESS, "Sing.", False).prompt == "Zu tun: Sing. ü"
        assert "Class label:" in asker.instances(ADDRESS, "Sing.", True).prompt

    def test_later_edits_do_not_touch_the_run(self, tmp_path):
        name = "input_first.completion.j2"
        manifest = build_manifest("r", self.write(tmp_path, name, "1 {{ instruction }}"), "m")
        self.write(tmp_path, name, "2 {{ instruction }}")
        assert Asker(plan_of(manifest, ())).instances(ADDRESS, "S", False).prompt == "1 S"

    @pytest.mark.parametrize(
        ("text", "parts"),
        [
            ("a\n{% for x in shots %}\n{{ instruction }}", ["line 3", "endfor"]),
            ("a\n{{ instruction | nosuch }}", ["line 2", "nosuch"]),
            ("{{ instruction }} {{ shots | random }}", ["line 1", "random"]),
            ("{{ instruction }} {{ lipsum() }}", ["lipsum"]),
            ("{{ instructon }}", ["'instructon' is undefined", "instruction, shots"]),
            ("{{ shots[0].nosuch }} {{ instruction }}", ["nosuch", "instruction, shots"]),
            ("{{ 1 / 0 }}", ["division by zero"]),
            ("{{ shots + 1 }}", ["list"]),
            ("{% include 'x' %}", ["loader"]),
            ("{{ ''.__class__.__mro__ }} {{ instruction }}", ["unsafe"]),
            ("no variable at all", ["does not show", "instruction"]),
            ("", ["does not show"]),
        ],
    )
    def test_bad_template_is_refused_before_anything_starts(self, tmp_path, text, parts):
        settings = self.write(tmp_path, "input_first.completion.j2", text)
        with pytest.raises(UsageError) as caught:
            build_manifest("r", settings, "m")
        for part in ["prompt input_first.completion.j2", *parts]:
            assert part in str(caught.value)

    @pytest.mark.parametrize("prompt", PROMPTS)
    @pytest.mark.parametrize("api", APIS)
    def test_every_template_is_checked(self, tmp_path, api, prompt):
        ending = "chat" if api == "chat" else "completion"
        body = "{{ nosuch }}"
        text = "{% block user %}" + body + "{% endblock %}" if api == "chat" else body
        (tmp_path / f"{prompt}.{ending}.j2").write_text(text)
        settings = resolve({"prompts.directory": tmp_path, "teacher.api": api}).settings
        with pytest.raises(UsageError, match=rf"{prompt}.{ending}.j2: 'nosuch' is undefined"):
            build_manifest("r", settings, "m")

    def test_a_chat_template_needs_a_block_user(self):
        with pytest.raises(
            UsageError, match=r"a.chat.j2: a chat template needs a block named 'user'"
        ):
            PromptBook({"a.chat.j2": "{{ instruction }}"}, "chat")

    def test_a_chat_template_without_system(self):
        book = PromptBook({"a.chat.j2": "{% block user %} {{ x }} {% endblock %}"}, "chat")
        assert [(item.role, item.content) for item in book.render("a", x="hi")] == [("user", "hi")]

    def test_missing_directory(self, tmp_path):
        with pytest.raises(UsageError, match=r"prompts.directory: .*nosuch is not a directory"):
            load_templates(PROMPTS, "chat", tmp_path / "nosuch")

    def test_a_file_that_is_no_prompt_is_named(self, tmp_path):
        (tmp_path / "input_frist.completion.j2").write_text("{{ instruction }}")
        with pytest.raises(UsageError) as caught:
            load_templates(PROMPTS, "completions", tmp_path)
        assert "input_frist.completion.j2 is no prompt" in str(caught.value)
        assert "input_first.completion.j2" in str(caught.value)

    def test_templates_of_the_other_api_may_lie_there(self, tmp_path):
        (tmp_path / "input_first.chat.j2").write_text("x")
        assert load_templates(PROMPTS, "completions", tmp_path) == load_templates(
            PROMPTS, "completions", None
        )

    def test_not_utf8(self, tmp_path):
        (tmp_path / "input_first.chat.j2").write_bytes(b"\xff")
        with pytest.raises(UsageError, match=r"input_first.chat.j2.*utf-8"):
            load_templates(PROMPTS, "chat", tmp_path)


class TestMethodSettings:
    """Settings of the method that show in the pool and in what is drawn from it."""

    def drawn(self, **flags: object) -> list[tuple[str, str]]:
        pool = TaskPool(plan(run__window=1, run__seed=1, **flags))
        for index, text in enumerate(["Xylo quartz bends.", "Fjord vex nymph.", "Waltz jig buck."]):
            assert pool.admit((0, index), text) is None
        pool.close_position()
        return [(shot.source, shot.reference) for shot in pool.shots_for(1)]

    @pytest.mark.parametrize("count", [0, 1, 2, 3])
    def test_machine_shots(self, count):
        sources = [source for source, _ in self.drawn(self_instruct__machine_shots=count)]
        assert (sources.count("machine"), len(sources)) == (count, 8)

    @pytest.mark.parametrize("count", [2, 8, 12])
    def test_shots(self, count):
        assert len(self.drawn(self_instruct__shots=count)) == count

    def test_run_seed(self):
        seeds = [TaskPool(plan(run__seed=seed)).shots_for(0) for seed in (1, 1, 2)]
        assert seeds[0] == seeds[1] != seeds[2]

    def test_classification_seeds_only(self):
        every, only = (
            plan(self_instruct__classification_seeds_only=value) for value in (False, True)
        )
        kinds = {seed.id: seed.is_classification for seed in every.seeds}
        only = replace(only, window=40)
        drawn = [shot.reference for g in range(40) for shot in TaskPool(only).shots_for(g)]
        assert all(kinds[reference] for reference in drawn)
        free = next(seed.instruction for seed in every.seeds if not seed.is_classification)
        assert TaskPool(every).admit((0, 0), free) is not None
        assert TaskPool(only).admit((0, 0), free) is None

    def test_at_threshold(self):
        ten = "One two three four five six seven eight nine ten."
        near = "One two three four five six seven aaa bbb ccc."  # 7 of 10: exactly 0.7
        for value, admitted in (("reject", False), ("admit", True)):
            pool = TaskPool(plan(novelty__at_threshold=value))
            assert pool.admit((0, 0), ten) is None
            assert (pool.admit((0, 1), near) is None) is admitted

    @pytest.mark.parametrize(
        ("flags", "first", "second"),
        [
            ({}, "Name three rivers of Northern Europe.", "Sort THESE words by length."),
            ({"self_instruct__published_casing": True},
             "Name three rivers of northern europe.", "Sort these words by length."),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("numbering", ["plain", "task"])
    def test_casing_and_numbering_of_what_is_read(self, flags, first, second, numbering):
        machine = SelfInstructMachine(plan(self_instruct__numbering=numbering, **flags))
        label = "10." if numbering == "plain" else "Task 10:"
        text = f" Name three rivers of Northern Europe.\n{label} Sort THESE words by length."
        address = machine.ready()[0]
        completion = Completion(text, "stop", None)
        machine.apply(JournalEntry(address, "h", "p", {}, completion, 0, 0.0, "", {"shots": []}))
        rows = machine.drain()[0].instructions
        assert [row.text for row in rows] == [first, second]

    def test_threshold(self):
        ten = "One two three four five six seven eight nine ten."
        near = "One two three four five six aaa bbb ccc ddd."  # 0.6
        for value, admitted in ((0.5, False), (0.6, False), (0.61, True)):
            pool = TaskPool(plan(novelty__threshold=value))
            assert pool.admit((0, 0), ten) is None
            assert (pool.admit((0, 1), near) is None) is admitted

    def test_tokenizer(self):
        texts = ["写一首关于春天的诗给我的朋友", "写一首关于春天的诗给我的朋友吧"]
        for value, admitted in (("rouge", True), ("multilingual", False)):
            pool = TaskPool(plan(novelty__tokenizer=value))
            assert pool.admit((0, 0), texts[0]) is None
            assert (pool.admit((0, 1), texts[1]) is None) is admitted
        assert NoveltyIndex(0.7, tokenizer="rouge").admit([texts[0]])[0].admitted

    @pytest.mark.parametrize(("target", "window"), [(1, 2), (16, 2), (80, 10), (10_000, 512)])
    def test_window_by_default(self, target, window):
        assert plan(run__target=target).window == window

    def test_window_limits_what_is_asked_ahead(self):
        for window in (1, 5):
            machine = SelfInstructMachine(plan(run__window=window))
            assert [str(address) for address in machine.ready()] == [
                f"generate/{g}" for g in range(window)
            ]

    def test_ceiling(self):
        assert plan(run__target=4, run__ceiling=3).ceiling == 12
        limited = replace(plan(run__window=9), ceiling=2)
        assert len(SelfInstructMachine(limited).ready()) == 2

    def test_shots_directory(self, tmp_path):
        (tmp_path / "shots_classification.jsonl").write_text(
            '{"instruction": "MINE ALONE", "is_classification": true}\n'
        )
        asker = Asker(plan(seeds__shots_directory=tmp_path))
        text = asker.classification(ADDRESS, "Sing.").prompt
        assert text.count("Task: ") == 2
        assert "Task: MINE ALONE\nIs it classification? Yes" in text
        assert asker.instances(ADDRESS, "Sing.", False).prompt.count("Task: ") == 12
