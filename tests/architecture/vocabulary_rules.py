"""One vocabulary: a thing has one name, in every package.

Only names that we define are judged: functions, classes, parameters, variables, annotated fields,
attributes on self. What foreign libraries call their parameters (`dim=-1`, `lr=`) or attributes (`.lr`)
is theirs. `checkpoints/` translates foreign names and may write them down.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from package import at, docstring_lines, functions, nodes, package_of, parameters, python_files, tree

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
# Parakit's first weeks had words of their own. Each came to an end in favour of the field's term.
_PRIVATE = {
    "TrainingTask, tasks": "Lesson Lessons lesson lessons n_lessons is_lesson",
    "primary_metric": "headline",
    "secondary_metric": "beside",
    "should_stop": "over_at",
    "run_directory": "workplace",
    "load_plan, save_plan": "kept_plan keep_plan",
    "spec, to_spec": "said said_of",
    "ModelSpec, StudentSpec": "SizeWanted StudentWanted",
    "choose_model_size, config_for_size, ModelSizing": "chosen_size size_dial dial SizePlan tuned_dial",
    "adjust_plan": "tuned_plan",
    "continue_pretraining": "going_on",
    "RLContext, load_context, Messages": "Asked ask asked",
    "run_rl": "learn_online",
    "best_of_n_job": "learn_from_the_best",
    "infer_objective": "learned_from",
    "post_training_stages, chat_stage_names": "later_stages speaking",
    "make_prompts, report_skipped": "make_asked tell_left_out",
    "unused settings are errors by type": "unread why_unread unread_keys",
    "ChatModel": "Speaker OwnSpeaker EndpointSpeaker open_speaker Talker load_talker tiny_talker",
    "OnProgress": "Advance",
    "diversity_metrics, OveroptimizationMonitor": "texture Watch",
    "KLController": "Leash leash",
    "ExperienceBatch, RLAlgorithm": "PPOLearning GRPOLearning",
    "ModelReward, parse_reward, score": "LearntReward named_reward",
    "zero_variance_groups": "equal_groups",
    "truncation_penalty, ppo_epochs, reward_centering_coef": "cut_penalty phase_epochs centre_coef",
    "margins, pairwise_accuracy, pad_by_group, ipo_loss": "leads_of right_of by_ranking squared_lead likelier",
    "JsonlCache, cached_map": "KeptLines worked_through",
    "MeanMetrics": "Tally",
    "critique_prompt, comparison_prompt": "under_review two_under_review",
    "Response, check_valid_fraction, ResponsePair": "Answered check_sense TwoAnswers",
    "INVALID, SKIPPED": "NONSENSE max_nonsense",
    "init_embeddings_from_cooccurrence": "begin_with_cooccurrence",
    "can_fuse_head, fused_linear_loss, logits_grad": "can_join joined_loss slope_of",
    "log_probs_at_temperature": "log_shares",
    "RolloutSource": "PhasedSource",
    "eager": "as_used",
    "lr_multipliers": "rate_shares",
    "CheckContext, CheckResult": "Finding Examined",
    "TurnMarkers, Span": "Grammar Stretch",
    "small_batch, probing, with_loss_mask": "tried_out probe_of counted_as unevenly_counted",
    "attention_direction, preference_direction": "looks_wrong_way prefers_the_worse padding_seen positions_run_on",
    "ReferenceEncoder, equivalent_tiktoken_ranks": "PlainEncoder prove_equal plain_inside",
    "EncodedText, add_special_tokens": "Framed frame_text framed",
    "response_prefix": "answer_lead",
    "VocabInfo": "TokenFacts token_facts",
    "segment_arange": "counting_up",
    "pack_prefix_trees": "lay_branches can_branch branch_mask BranchedInputs",
    "merge_rows": "one_below_the_other",
    "truncate_pair, truncate_left": "cut_to_fit cut_left",
    "RowReport, skip_summary": "LeftOut left_out_lines left_out",
    "allocate, repeats": "quotas times_taken",
    "decompression_bomb_error": "bomb",
    "UninformativeExample": "NothingToLearn",
    "Narrator, Random": "Teller Draws",
    "ActorCritic": "PolicyWithValue",
    "FullyTrained, PissaLinear, TrainableTokens": "Retrained SplitLinear TrainedRows",
    "pop_expert_load": "take_expert_load",
    "name, hf_name": "ours theirs",
    "beam_search": "search_ids",
    "warn_prefix_lm": "tell_how_it_reads",
    "merge_repeated_flags": "gathered",
    "closest_match": "nearest",
    "UnexpectedFile, CorruptArtifact": "ForeignFile DamagedArtifact",
    "ForkServer, isolation": "Keeper walls walls_here raise_walls Surroundings enter_room NotPlain",
    "package, SRC": "house HOUSE",
    "TrainingCase": "Patient patient",
}
PRIVATE = {word: use for use, words in _PRIVATE.items() for word in words.split()}
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
    for node in nodes(module):
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


def synonyms(src: Path) -> list[str]:
    """Names for which the vocabulary has another word."""
    violations = []
    for path in python_files(src):
        if package_of(path, src) == "checkpoints":
            continue
        for name, line in defined_names(tree(path)):
            if use := SYNONYMS.get(name.strip("_").lower()):
                violations.append(f"{at(path, line, src)}: {name}: use {use}")
    return sorted(set(violations))


def private_words(root: Path) -> list[str]:
    """Names that only this project's first weeks understood."""
    violations = []
    for path in python_files(root):
        for name, line in defined_names(tree(path)):
            if use := PRIVATE.get(name.lstrip("_")):
                violations.append(f"{at(path, line, root)}: {name}: use {use}")
    return sorted(set(violations))


def public_synonyms(src: Path) -> list[str]:
    """`mask` and `ignore_index` as a parameter of a public function or a field of a public class."""
    violations = []
    for path in python_files(src):
        names = [
            (a.arg, a.lineno)
            for f in functions(tree(path))
            if not f.name.startswith("_")
            for a in parameters(f)
        ]
        for node in nodes(tree(path)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                fields = [line.target for line in node.body if isinstance(line, ast.AnnAssign)]
                names += [(field.id, field.lineno) for field in fields if isinstance(field, ast.Name)]
        found = ((name, line, PUBLIC_SYNONYMS.get(name)) for name, line in names)
        violations += [f"{at(path, line, src)}: {name}: use {use}" for name, line, use in found if use]
    return sorted(set(violations))


def class_suffixes(src: Path) -> list[str]:
    """Settings that are not called Config, and model names in another library's style."""
    violations = []
    for path in python_files(src):
        for node in nodes(tree(path)):
            if isinstance(node, ast.ClassDef) and CLASS_SUFFIX.search(node.name):
                where = at(path, node, src)
                violations.append(
                    f"{where}: class {node.name}: settings end in Config, models have plain names"
                )
    return violations


def foreign_weight_names(src: Path) -> list[str]:
    """Strings outside checkpoints/ that hold other libraries' weight or config names."""
    violations = []
    for path in python_files(src):
        if package_of(path, src) == "checkpoints":
            continue
        module = tree(path)
        docstrings = docstring_lines(module)
        for node in nodes(module):
            if (
                not isinstance(node, ast.Constant)
                or not isinstance(node.value, str)
                or node.lineno in docstrings
            ):
                continue
            if found := FOREIGN_WEIGHTS.search(node.value):
                violations.append(f"{at(path, node, src)}: {found.group()!r} is known to checkpoints/ only")
    return violations
