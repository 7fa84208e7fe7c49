"""The prompts of Evol-Instruct: published structure and limits, in both APIs, and users' texts in
them."""

from __future__ import annotations

import re

import pytest

from pipeline.config import resolve
from pipeline.evol_instruct.asking import Asker
from pipeline.evol_instruct.elimination import leaked_phrase
from pipeline.evol_instruct.manifest import build_manifest, plan_of
from pipeline.evol_instruct.plan import PROMPTS, SourceInstance, SourceInstruction
from pipeline.evol_instruct.settings import OPERATORS, EvolInstructSettings, Operator
from pipeline.evol_instruct.source import encode_source
from pipeline.records import Address
from pipeline.run.requests import TeacherRequest
from pipeline.teacher.served import ServedModel

APIS = ("completions", "chat")
DEPTH: tuple[Operator, ...] = ("add_constraints", "deepen", "concretise", "reasoning_steps")
PARENT = "Explain why the sky is blue.\n| a | b |"
CHILD = "Explain why the sky is blue at noon and red at dusk."
HOSTILE = [
    "{{ 7 * 7 }}",
    "{% block user %}x{% endblock %}",
    "{# gone #}",
    "#Rewritten Prompt#:",
    "}}",
]


def asker(api: str, structured: str = "off") -> Asker:
    settings = resolve(
        {"run.seed": 1, "teacher.api": api, "teacher.structured_output": structured},
        flags_only=True,
    ).settings
    source = encode_source([SourceInstruction("Do.", (SourceInstance("", "done"),))])
    return Asker(plan_of(build_manifest("r", settings, ServedModel("m"), source), source, ()))


def asked(api: str, prompt: str, parent: str = PARENT, structured: str = "off") -> TeacherRequest:
    made = asker(api, structured)
    address = Address("stage", (3,))
    if prompt == "judge_equality":
        return made.judgement(address, parent, CHILD)
    if prompt == "respond":
        return made.response(address, parent)
    if prompt == "rate_difficulty":
        return made.rating(address, parent)
    (operator,) = [name for name in OPERATORS if prompt == f"evolve_{name}"]
    return made.evolution(address, operator, parent)


def whole(request: TeacherRequest) -> str:
    if isinstance(request.prompt, str):
        return request.prompt
    return "\n".join(message.content for message in request.prompt)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("prompt", PROMPTS)
class TestEveryPrompt:
    def test_layout(self, api: str, prompt: str) -> None:
        text = whole(asked(api, prompt))
        assert "\n\n\n" not in text
        assert not text.startswith("\n")
        assert not re.search(r"[ \t]+$", text, re.MULTILINE)
        assert "{" not in text or prompt == "evolve_complicate_input"

    @pytest.mark.parametrize("hostile", HOSTILE)
    def test_an_instruction_is_shown_as_it_is(self, api: str, prompt: str, hostile: str) -> None:
        assert f"Say {hostile} twice" in whole(asked(api, prompt, f"Say {hostile} twice"))

    def test_no_stop_string_ends_an_answer_at_a_heading_or_a_comment(
        self, api: str, prompt: str
    ) -> None:
        answer = "Mend this:\n# a comment\n\n\ndef f(x):\n## Heading\n### Steps\n#include <math.h>"
        stops = asked(api, prompt).parameters.get("stop", [])
        if prompt.startswith("evolve_") or prompt == "respond":
            assert not [stop for stop in stops if stop in answer]
        assert len(stops) <= 4


@pytest.mark.parametrize("api", APIS)
class TestEvolving:
    @pytest.mark.parametrize("operator", DEPTH)
    def test_depth(self, api: str, operator: Operator) -> None:
        text = whole(asked(api, f"evolve_{operator}"))
        for part in ("You are a Prompt Rewriter", "10 to 20 words", "harder for well-known AI systems",
                     "reasonable", "does not become verbose", "tables, code and the input stay",
                     "'#The Given Prompt#', '#Rewritten Prompt#', 'given prompt'"):  # fmt: skip
            assert part in text
        assert text.rstrip().endswith(f"#The Given Prompt#:\n{PARENT}\n\n#Rewritten Prompt#:")

    def test_the_methods_of_depth_differ_in_their_method_alone(self, api: str) -> None:
        texts = [whole(asked(api, f"evolve_{operator}")).splitlines() for operator in DEPTH]
        rest = {tuple(line for line in text if not line.startswith(("You are", "Method:")))
                for text in texts}  # fmt: skip
        methods = {line for text in texts for line in text if line.startswith("Method:")}
        assert (len(rest), len(methods)) == (1, 4)

    def test_breadth(self, api: str) -> None:
        text = whole(asked(api, "evolve_breadth"))
        for part in ("You are a Prompt Creator", "brand-new", "same domain", "rarer", "length",
                     "difficulty", "reasonable",
                     "'#Given Prompt#', '#Created Prompt#', 'given prompt'"):  # fmt: skip
            assert part in text
        assert "10 to 20 words" not in text
        assert text.rstrip().endswith(f"#Given Prompt#:\n{PARENT}\n\n#Created Prompt#:")

    def test_complicate_input_shows_five_formats_and_asks_for_the_one_drawn(self, api: str) -> None:
        text = whole(asked(api, "evolve_complicate_input"))
        formats = re.findall(r"Rewrite the prompt below using (.+?), so that", text)
        assert formats[:5] == [
            "XML data",
            "SQL database",
            "Python code",
            "HTML page",
            "shell command",
        ]
        assert len(formats) == 6
        assert formats[5] in EvolInstructSettings().data_formats
        assert text.count("\n####\n") == 5
        assert text.rstrip().endswith(
            f"The Given Prompt:\n{PARENT}\n\n"
            f"Rewritten Prompt (MUST contain specific {formats[5]} as input):"
        )
        assert "10 to 20 words" not in text

    def test_what_the_prompts_call_themselves_is_eliminated(self, api: str) -> None:
        for operator in OPERATORS:
            names = re.findall(r"(#?(?:The )?(?:Given|Rewritten|Created) Prompt#?)",
                               whole(asked(api, f"evolve_{operator}")))  # fmt: skip
            assert names
            for name in names:
                phrases = EvolInstructSettings().leak_phrases
                assert leaked_phrase(f"{name}: rain.", PARENT, phrases) is not None


@pytest.mark.parametrize("api", APIS)
class TestJudging:
    def test_the_pair_is_shown_in_order_with_the_two_criteria(self, api: str) -> None:
        text = whole(asked(api, "judge_equality"))
        assert f"The First Prompt:\n{PARENT}\n\nThe Second Prompt:\n{CHILD}\n" in text
        for part in ("constraints and requirements", "depth", "breadth", "'Equal' or 'Not Equal'"):
            assert part in text
        assert text.rstrip().endswith("Your Judgement (just Equal or Not Equal):")

    @pytest.mark.parametrize("prompt", ["judge_equality", "rate_difficulty"])
    def test_json_is_asked_for_only_where_the_schema_wants_it(self, api: str, prompt: str) -> None:
        for structured in ("off", "choice", "json_schema"):
            text = whole(asked(api, prompt, structured=structured))
            assert ("JSON" in text) == (structured == "json_schema")

    def test_a_response_is_asked_for_with_the_instruction_alone(self, api: str) -> None:
        text = whole(asked(api, "respond"))
        assert text.removesuffix("\n\n### Response:\n") == PARENT
