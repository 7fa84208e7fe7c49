"""Writes a Llama-type GGUF file as a Hugging Face model folder.

Covers what the bundled model is made of: the `llama` architecture with tied embeddings and the
byte-level BPE of SmolLM. Anything else is refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf import GGUFReader
from gguf.quants import dequantize
from safetensors import TensorSpec, serialize_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

TOP_LEVEL_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
}
LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
CONTROL_TOKEN = 3

Floats = npt.NDArray[np.float32]


def write_model_folder(reader: GGUFReader, folder: Path) -> None:
    """Write weights (bfloat16), configuration and tokenizer into an existing folder.

    Raises:
        ValueError: the file is not of the architecture or tokenizer this module knows.
        KeyError: the file lacks a field or holds a tensor of an unknown name.
    """
    _write_tokenizer(reader, folder)
    config = _model_config(reader)
    _write_json(folder / "config.json", config)
    _write_json(
        folder / "generation_config.json",
        {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")},
    )
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    tensors: dict[str, npt.NDArray[np.uint16]] = {}
    for tensor in reader.tensors:
        weights: Floats = dequantize(tensor.data, tensor.tensor_type)
        kind = tensor.name.split(".")[-2]
        if kind in heads:
            weights = _unpermute(weights, heads[kind])
        tensors[hugging_face_name(tensor.name)] = _to_bfloat16(weights)
    # `tensors` keeps the memory alive that the specifications point into.
    specs = {
        name: TensorSpec(
            dtype="bfloat16",
            shape=list(bits.shape),
            data_ptr=bits.ctypes.data,
            data_len=bits.nbytes,
        )
        for name, bits in tensors.items()
    }
    serialize_file(specs, folder / "model.safetensors", metadata={"format": "pt"})


def hugging_face_name(name: str) -> str:
    """The name transformers gives the tensor: `blk.3.attn_q.weight` and so on.

    Raises:
        KeyError: the tensor is none of a Llama model with tied embeddings.
    """
    stem, suffix = name.rsplit(".", 1)
    if stem.startswith("blk."):
        _, layer, part = stem.split(".")
        return f"model.layers.{int(layer)}.{LAYER_NAMES[part]}.{suffix}"
    return f"{TOP_LEVEL_NAMES[stem]}.{suffix}"


def _unpermute(weights: Floats, heads: int) -> Floats:
    # GGUF interleaves the two halves of every rotary pair within a head; transformers keeps them
    # one after the other.
    half = weights.shape[0] // heads // 2
    shape = weights.shape
    return weights.reshape(heads, half, 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def _to_bfloat16(weights: Floats) -> npt.NDArray[np.uint16]:
    # numpy has no bfloat16: it is the upper half of a float32, rounded to the nearest even.
    bits = np.ascontiguousarray(weights, dtype=np.float32).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return np.ascontiguousarray(rounded >> np.uint32(16), dtype="<u2")


def _model_config(reader: GGUFReader) -> dict[str, Any]:
    if _field(reader, "general.architecture") != "llama":
        raise ValueError(f"architecture {_field(reader, 'general.architecture')!r}, not 'llama'")
    hidden, heads = (
        int(_field(reader, f"llama.{key}")) for key in ("embedding_length", "attention.head_count")
    )
    rope_theta = float(_field(reader, "llama.rope.freq_base"))
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": int(_field(reader, "tokenizer.ggml.bos_token_id")),
        "eos_token_id": int(_field(reader, "tokenizer.ggml.eos_token_id")),
        "pad_token_id": int(_field(reader, "tokenizer.ggml.padding_token_id")),
        "head_dim": int(_field(reader, "llama.rope.dimension_count")),
        "hidden_act": "silu",
        "hidden_size": hidden,
        "initializer_range": 1 / hidden**0.5,
        "intermediate_size": int(_field(reader, "llama.feed_forward_length")),
        "max_position_embeddings": int(_field(reader, "llama.context_length")),
        "mlp_bias": False,
        "num_attention_heads": heads,
        "num_hidden_layers": int(_field(reader, "llama.block_count")),
        "num_key_value_heads": int(_field(reader, "llama.attention.head_count_kv")),
        "rms_norm_eps": round(float(_field(reader, "llama.attention.layer_norm_rms_epsilon")), 9),
        "rope_parameters": {"rope_theta": rope_theta, "rope_type": "default"},
        "tie_word_embeddings": True,
        "use_cache": True,
        "vocab_size": int(_field(reader, "llama.vocab_size")),
    }


def _write_tokenizer(reader: GGUFReader, folder: Path) -> None:
    kind = (_field(reader, "tokenizer.ggml.model"), _field(reader, "tokenizer.ggml.pre"))
    if kind != ("gpt2", "smollm"):
        raise ValueError(f"tokenizer {kind}, not ('gpt2', 'smollm')")
    tokens = _field(reader, "tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ")) for merge in _field(reader, "tokenizer.ggml.merges")]
    tokenizer = Tokenizer(
        models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges)
    )
    # SmolLM splits every digit off before the byte-level rule; GGUF says so by the name 'smollm'.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    types = _field(reader, "tokenizer.ggml.token_type")
    tokenizer.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False)
            for token, token_type in zip(tokens, types, strict=True)
            if token_type == CONTROL_TOKEN
        ]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    _write_json(
        folder / "tokenizer_config.json",
        {
            f"{ours}_token": tokens[int(_field(reader, f"tokenizer.ggml.{theirs}_token_id"))]
            for ours, theirs in named.items()
        }
        | {
            "clean_up_tokenization_spaces": False,
            "model_max_length": int(_field(reader, "llama.context_length")),
            "tokenizer_class": "PreTrainedTokenizerFast",
            "chat_template": _field(reader, "tokenizer.chat_template"),
        },
    )


def _field(reader: GGUFReader, key: str) -> Any:
    field = reader.get_field(key)
    if field is None:
        raise KeyError(f"the field {key} is missing")
    return field.contents()


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
