#!/usr/bin/env python3
"""Writes the model in model/: a Llama-like one, far too small to say anything sensible.

It has everything that a published model has, in the formats that readers of models check: two
shards of BF16 weights in safetensors, their index, config, tokenizer and model card. The weights
are noise from a fixed seed. Only exact arithmetic is used, so every machine writes the same bytes.

    python3 make.py
"""

import json
import pathlib
import random
import struct

VOCABULARY, WIDTH, INNER, BLOCKS, HEADS, KEY_HEADS = 512, 192, 512, 3, 6, 2
SPECIAL = ["<unk>", "<s>", "</s>"]
MODEL = pathlib.Path(__file__).parent / "model"

CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
tags:
- test
---

# A very small model

A Llama-like model of 1.4 million parameters with random weights. It shows how a model becomes
a container image; it answers no question.

| file | what it holds |
|---|---|
| `config.json` | the architecture and its sizes |
| `generation_config.json` | defaults of text generation |
| `tokenizer.json`, `tokenizer_config.json` | byte-pair encoding of this very text |
| `model-*.safetensors` | the weights, in BF16 |
| `model.safetensors.index.json` | which weight is in which file |

Written by `make.py`, which stands beside this directory.
"""


def tensors():
    """Names and shapes, in the order of the forward pass."""
    yield "model.embed_tokens.weight", (VOCABULARY, WIDTH)
    keys = WIDTH // HEADS * KEY_HEADS
    for block in range(BLOCKS):
        for name, shape in [
            ("input_layernorm", (WIDTH,)),
            ("self_attn.q_proj", (WIDTH, WIDTH)),
            ("self_attn.k_proj", (keys, WIDTH)),
            ("self_attn.v_proj", (keys, WIDTH)),
            ("self_attn.o_proj", (WIDTH, WIDTH)),
            ("post_attention_layernorm", (WIDTH,)),
            ("mlp.gate_proj", (INNER, WIDTH)),
            ("mlp.up_proj", (INNER, WIDTH)),
            ("mlp.down_proj", (WIDTH, INNER)),
        ]:
            yield f"model.layers.{block}.{name}.weight", shape
    yield "model.norm.weight", (WIDTH,)
    yield "lm_head.weight", (VOCABULARY, WIDTH)


def weights(name, shape):
    """The tensor's bytes: ones for a norm, else a bell curve of the usual width."""
    count = shape[0] * (shape[1] if len(shape) == 2 else 1)
    if len(shape) == 1:
        return b"\x80\x3f" * count
    # The sum of four uniform values is bell-shaped and, unlike a logarithm, the same everywhere.
    uniform = random.Random(name).random
    values = ((uniform() + uniform() + uniform() + uniform() - 2) / 32 for _ in range(count))
    # BF16 is the upper half of an IEEE single.
    return b"".join(struct.pack("<f", value)[2:] for value in values)


def safetensors(names):
    """A file in the format safetensors: length of the header, header, tensors without gaps."""
    header, data = {"__metadata__": {"format": "pt"}}, []
    start = 0
    for name, shape in names:
        data.append(weights(name, shape))
        end = start + len(data[-1])
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(data)


def characters():
    """GPT-2's characters for the 256 bytes."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    table = {byte: chr(byte) for byte in shown}
    table.update({byte: chr(256 + at) for at, byte in enumerate(hidden)})
    return table


def pairs_of(words):
    counts = {}
    for word in words:
        for pair in zip(word, word[1:]):
            counts[pair] = counts.get(pair, 0) + 1
    return counts


def joined(word, pair):
    out, at = [], 0
    while at < len(word):
        if tuple(word[at : at + 2]) == pair:
            out.append(word[at] + word[at + 1])
            at += 2
        else:
            out.append(word[at])
            at += 1
    return out


def byte_pair_encoding(text):
    """A vocabulary of VOCABULARY tokens and the merges that lead to it."""
    table = characters()
    tokens = SPECIAL + [table[byte] for byte in sorted(table)]
    words = [[table[byte] for byte in (" " + word).encode()] for word in text.split()]
    merges = []
    while len(tokens) < VOCABULARY:
        counts = pairs_of(words)
        pair = min(counts, key=lambda pair: (-counts[pair], pair))
        words = [joined(word, pair) for word in words]
        merges.append(list(pair))
        if pair[0] + pair[1] not in tokens:
            tokens.append(pair[0] + pair[1])
    return {token: at for at, token in enumerate(tokens)}, merges


def tokenizer():
    vocabulary, merges = byte_pair_encoding(CARD)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": at, "content": token, **flags} for at, token in enumerate(SPECIAL)],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": merges,
        },
    }


CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": INNER,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KEY_HEADS,
    "hidden_act": "silu",
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "torch_dtype": "bfloat16",
}

TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "unk_token": "<unk>",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "model_max_length": 2048,
    "clean_up_tokenization_spaces": False,
}

GENERATION = {"bos_token_id": 1, "eos_token_id": 2, "do_sample": True, "temperature": 0.7, "top_p": 0.9}


def write(name, content):
    """Writes text, bytes, or whatever JSON can hold."""
    if not isinstance(content, (str, bytes)):
        content = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    path = MODEL / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def main():
    names = list(tensors())
    half = next(at for at, (name, _) in enumerate(names) if ".layers.1.mlp" in name)
    shards = [names[:half], names[half:]]
    weight_map = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        write(file, safetensors(shard))
        weight_map.update({name: file for name, _ in shard})
    total = sum(2 * shape[0] * (shape[1] if len(shape) == 2 else 1) for _, shape in names)
    write("model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": weight_map})
    write("config.json", CONFIG)
    write("generation_config.json", GENERATION)
    write("tokenizer.json", tokenizer())
    write("tokenizer_config.json", TOKENIZER_CONFIG)
    write("README.md", CARD)
    # What a training run leaves beside a model, and no image should hold.
    steps = [{"step": step, "loss": round(6.24 - step / 1000, 3)} for step in range(0, 100, 10)]
    write("training/log.jsonl", "".join(json.dumps(step) + "\n" for step in steps))


if __name__ == "__main__":
    main()
