"""One vocabulary: a thing has one name, in every room.

Only names that we define are judged: functions, classes, parameters, variables, annotated fields,
attributes on self. What foreign libraries call their parameters (`dim=-1`, `lr=`) or attributes (`.lr`)
is theirs. `checkpoints/` translates foreign names and may write them down.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from house import at, docstring_lines, functions, parameters, python_files, room_of, tree

_WORDS = {
    "d_model": "n_embd n_embed dim hidden_size hidden_dim embed_dim emb_dim model_dim",
    "d_ff": "intermediate_size ffn_dim mlp_dim",
    "head_dim": "d_head head_size",
    "n_layers": "n_layer num_layers num_hidden_layers",
    "n_heads": "n_head num_heads num_attention_heads",
    "n_kv_heads": "n_kv_head num_kv_heads num_key_value_heads",
    "n_experts": "num_experts",
    "vocab_size": "n_vocab vocabulary_size",
    "max_seq_len": "block_size max_position_embeddings max_length max_sequence_length n_ctx n_positions",
    "seq_len": "sequence_length seq_length",
    "rope_theta": "rope_base",
    "norm_eps": "rms_norm_eps layer_norm_eps",
    "dropout": "resid_pdrop attn_pdrop embd_pdrop",
    "tie_embeddings": "tie_word_embeddings tied_embeddings weight_tying",
    "token_ids, input_ids or an index with a name": "idx idxs",
    "predictions": "preds",
    "bos_id, eos_id, ... (bos_token_id is checkpoints/' word)": (
        "bos_token_id eos_token_id pad_token_id unk_token_id sep_token_id cls_token_id mask_token_id"
    ),
    "learning_rate": "lr",
    "weight_decay": "wd",
    "grad_clip": "max_norm max_grad_norm",
    "micro_batch_size or batch_tokens": "batch_size",
    "max_steps": "max_iters num_steps n_iters",
    "warmup_steps": "warmup_iters num_warmup_steps",
    "reference": "ref_model",
    "kl_coef": "beta",
    "group_size": "num_generations",
    "rank": "lora_r",
    "bits": "w_bit",
    "bits_per_byte": "bpb",
    "perplexity": "ppl",
    "accuracy": "acc",
    "token_embedding": "wte tok_embeddings embed_tokens",
    "query, key, value": "c_attn q_proj k_proj v_proj qkv_proj",
    "output": "o_proj c_proj",
    "gate, up, down": "w1 w2 w3 gate_proj up_proj down_proj",
}
SYNONYMS = {word: use for use, words in _WORDS.items() for word in words.split()}
PUBLIC_SYNONYMS = {"mask": "attention_mask or loss_mask", "ignore_index": "loss_mask"}
CLASS_SUFFIX = re.compile(
    r".(Args|Arguments|Params|HParams|Hyperparameters|Options|Opts|ForCausalLM|LMHeadModel)$"
)
FOREIGN_WEIGHTS = re.compile(
    r"\b(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj|self_attn|embed_tokens|input_layernorm"
    r"|post_attention_layernorm|c_attn|c_proj|c_fc|wte|wpe|num_hidden_layers|num_attention_heads|num_key_value_heads)\b"
)


def defined_names(module: ast.Module) -> Iterator[tuple[str, int]]:
    """Every name the file defines, with its line."""
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from ((parameter.arg, parameter.lineno) for parameter in parameters(node))
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id == "self":
                yield node.attr, node.lineno
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((alias.asname, node.lineno) for alias in node.names if alias.asname)


def synonyms(house: Path) -> list[str]:
    """Names for which the vocabulary has another word."""
    violations = []
    for path in python_files(house):
        if room_of(path, house) == "checkpoints":
            continue
        for name, line in defined_names(tree(path)):
            if use := SYNONYMS.get(name.strip("_").lower()):
                violations.append(f"{at(path, line, house)}: {name}: the house says {use}")
    return sorted(set(violations))


def public_synonyms(house: Path) -> list[str]:
    """`mask` and `ignore_index` as a parameter of a public function or a field of a public class."""
    violations = []
    for path in python_files(house):
        names = [
            (a.arg, a.lineno)
            for f in functions(tree(path))
            if not f.name.startswith("_")
            for a in parameters(f)
        ]
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                fields = [line.target for line in node.body if isinstance(line, ast.AnnAssign)]
                names += [(field.id, field.lineno) for field in fields if isinstance(field, ast.Name)]
        found = ((name, line, PUBLIC_SYNONYMS.get(name)) for name, line in names)
        violations += [
            f"{at(path, line, house)}: {name}: the house says {use}" for name, line, use in found if use
        ]
    return sorted(set(violations))


def class_suffixes(house: Path) -> list[str]:
    """Settings that are not called Config, and trunk-and-head names that are not the house's."""
    violations = []
    for path in python_files(house):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef) and CLASS_SUFFIX.search(node.name):
                where = at(path, node, house)
                violations.append(
                    f"{where}: class {node.name}: settings end in Config, models have plain names"
                )
    return violations


def foreign_weight_names(house: Path) -> list[str]:
    """Strings outside checkpoints/ that hold other libraries' weight or config names."""
    violations = []
    for path in python_files(house):
        if room_of(path, house) == "checkpoints":
            continue
        module = tree(path)
        docstrings = docstring_lines(module)
        for node in ast.walk(module):
            if (
                not isinstance(node, ast.Constant)
                or not isinstance(node.value, str)
                or node.lineno in docstrings
            ):
                continue
            if found := FOREIGN_WEIGHTS.search(node.value):
                violations.append(f"{at(path, node, house)}: {found.group()!r} is known to checkpoints/ only")
    return violations
