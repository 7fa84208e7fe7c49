"""`analyse`, the published rule, and what stands around the parser."""

import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.diversity import PARSER_VERSION, VerbNoun, analyse
from pipeline.diversity.finishing import Finisher
from pipeline.diversity.model import MODEL, language
from pipeline.diversity.preparing import MOST_CHARACTERS, QUOTED, prepare
from pipeline.diversity.records import UNPARSED


class TestPublishedRule:
    @pytest.mark.parametrize(
        ("text", "verb", "noun"),
        [
            ("Draw a map of the harbour.", "draw", "map"),
            # Only the first sentence, whatever it says.
            ("I drew a map yesterday. Paint the wall.", "draw", "map"),
            # The verb of the sentence, not the one asked for; so with no noun.
            ("I need you to bake a cake.", "need", None),
            # Proper names are no nouns to it, pronouns neither.
            ("Visit Lisbon.", "visit", None),
            ("Given a coin, toss it.", "toss", None),
            # A form of 'be' is no verb: it goes on, to the first child only.
            ("What is the capital of Peru?", None, None),
            ("The tallest man is my uncle.", None, None),
            ("There is a hat.", "be", None),
            ("", None, None),
        ],
    )
    def test_reads(self, text, verb, noun):
        (record,) = analyse([text], "published")
        assert (record.verb, record.noun) == (verb, noun)
        assert record.kind == ("imperative" if verb else "unparsed")

    def test_descends_into_the_first_child(self):
        # The root is 'is'; its first child is the verb of the clause that is its subject.
        (record,) = analyse(["Painting a wall is a chore."], "published")
        assert record.pair == ("paint", "wall")

    def test_first_noun_of_two(self):
        (record,) = analyse(["Give Ann a hat."], "published")
        assert record.pair == ("give", "hat")


class TestAnalyse:
    TEXTS = ("Draw a map.", "What is salt?", "Draw a map.", "", "Paint the wall.")

    def test_one_record_a_text_in_order(self):
        verbs = [record.verb for record in analyse(self.TEXTS)]
        assert verbs == ["draw", None, "draw", None, "paint"]

    def test_any_iterable(self):
        assert analyse(iter(self.TEXTS)) == analyse(list(self.TEXTS))
        assert analyse([]) == []

    def test_a_text_does_not_depend_on_its_neighbours(self):
        together = analyse(self.TEXTS)
        assert together == [analyse([text])[0] for text in self.TEXTS]

    @pytest.mark.parametrize("method", ["mended", "published"])
    def test_processes_change_nothing(self, method):
        texts = [f"Draw {number} maps of town {number}." for number in range(1500)]
        assert analyse(texts, method, processes=2) == analyse(texts, method)

    def test_refuses_what_it_does_not_know(self):
        with pytest.raises(ValueError, match="guessed"):
            analyse(["Draw a map."], "guessed")
        with pytest.raises(ValueError, match="processes"):
            analyse(["Draw a map."], processes=0)

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.text(max_size=200))
    def test_any_text_has_an_answer(self, text):
        for method in ("mended", "published"):
            (record,) = analyse([text], method)
            assert (record.verb is None) == (record.kind != "imperative")
            assert (record.question_word is None) == (record.kind != "question")
            assert record.noun is None or record.verb is not None

    @settings(max_examples=40, deadline=None)
    @given(st.text(st.characters(codec="utf-8", categories=["Lo"]), max_size=100))
    def test_letters_of_no_alphabet_are_never_a_pair(self, text):
        assert analyse([text])[0].kind == "unparsed"


class TestVerbNoun:
    def test_pair_needs_both(self):
        assert VerbNoun("imperative", "sort", "list").pair == ("sort", "list")
        assert VerbNoun("imperative", "sort").pair is None
        assert UNPARSED.pair is None

    def test_frozen(self):
        with pytest.raises(AttributeError):
            UNPARSED.verb = "sort"


def test_parser_version_names_model_and_rules():
    assert language().meta["version"] in PARSER_VERSION
    assert "rules" in PARSER_VERSION and "spacy 3" in PARSER_VERSION


def test_importing_the_package_does_not_import_spacy():
    code = "import sys, pipeline.diversity; print({'spacy', 'torch', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_finisher_answers_as_the_model_does():
    import spacy

    texts = [
        "There is a hat, and there's a cat. Let's go; we're gonna paint it.",
        "It ain't true that he has been painting. She's left. Y'all come on!",
        "What are they doing with the ladders? They have to have had some.",
        "The dogs' owners saw a saw\nand dogs dog dogs.",
    ]
    finisher = Finisher(language())
    plain = spacy.load(MODEL, exclude=["ner", "senter"])
    for _ in range(2):  # learnt, then remembered
        for text in texts:
            found = finisher.finish(language()(text))
            assert [(t.text, t.pos_, t.lemma_) for t in found] == [
                (t.text, t.pos_, t.lemma_) for t in plain(text)
            ]


class TestPrepare:
    @pytest.mark.parametrize(
        ("text", "prepared"),
        [
            ("Sort  “a  list”  now", f'Sort "{QUOTED}" now'),
            ("Spell 'the cat's tail' aloud", f'Spell "{QUOTED}" aloud'),
            ("It's Ann's hat and Bob's", "It's Ann's hat and Bob's"),
            ("Is “hot” or “cold” better?", 'Is "hot" or "cold" better?'),
            ("Sort it (as in the list above).", "Sort it ."),
            ("f(x) = 2^(1/3)", "f(x) = 2^(1/3)"),
            ("a) Sort it\nb) Print it", "Sort it\nPrint it"),
            ("Version 1.5 and 2.0", "Version 1.5 and 2.0"),
            ("Sort it:\n```\nprint(1)\n```\nQuickly", "Sort it:\n\nQuickly"),
            ("Sort it.\nExample 1:\nInput: 3", "Sort it."),
            ("Whats the time, and whats for tea", "What is the time, and whats for tea"),
            ("море и небо", ""),
            ("12 + 7", ""),
        ],
    )
    def test_takes_out_what_is_no_request(self, text, prepared):
        assert prepare(text) == prepared

    def test_cuts_long_texts_between_words(self):
        prepared = prepare("Paint a wall. " * 1000)
        assert MOST_CHARACTERS - 20 < len(prepared) <= MOST_CHARACTERS
        assert prepared.split()[-1] in {"Paint", "a", "wall."}
