"""Tiny random models of every causal language model of transformers, built from its configuration."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

VOCABULARY = 96

SMALL: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "emb_dim", "word_embed_proj_dim"), 32),
    **dict.fromkeys(("embedding_size", "input_embedding_size", "output_embedding_size"), 32),
    **dict.fromkeys(("embedding_dim", "lru_width", "attention_hidden_size"), 32),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "decoder_ffn_dim", "encoder_ffn_dim"), 48),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 24),
    **dict.fromkeys(("moe_shared_expert_intermediate_size", "expert_ffn_hidden_size"), 24),
    **dict.fromkeys(("shared_experts_intermediate_size", "shared_intermediate_size"), 24),
    **dict.fromkeys(("intermediate_size_mlp", "ffn_hidden_size", "dense_intermediate_size"), 48),
    **dict.fromkeys(("dff", "dim_ff", "d_inner", "feed_forward_size"), 48),
    **dict.fromkeys(("vocab_size", "decoder_vocab_size", "unpadded_vocab_size"), VOCABULARY),
    **dict.fromkeys(("vocab_size_per_layer_input", "shape_vocab_size"), VOCABULARY),
    **dict.fromkeys(("pronunciation_vocab_size",), VOCABULARY),
    **dict.fromkeys(("shape_embed_dim", "pronunciation_embed_dim"), 32),
    **dict.fromkeys(("num_attention_heads", "decoder_attention_heads", "n_head", "n_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "attention_heads", "num_heads"), 4),
    **dict.fromkeys(("num_encoder_attention_heads", "num_decoder_attention_heads"), 4),
    **dict.fromkeys(("swa_num_attention_heads", "num_query_groups"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "swa_num_key_value_heads"), 2),
    **dict.fromkeys(("head_dim", "kv_channels", "attention_head_dim", "attention_head_size"), 8),
    **dict.fromkeys(("d_head", "dim_head", "v_head_dim", "qk_nope_head_dim", "swa_head_dim"), 8),
    **dict.fromkeys(("qk_rope_head_dim", "index_head_dim", "global_head_dim", "rotary_dim"), 8),
    **dict.fromkeys(("qk_head_dim",), 16),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "o_lora_rank", "laurel_rank"), 16),
    **dict.fromkeys(("adapter_rank", "gated_norm_rank", "hc_lowrank"), 8),
    **dict.fromkeys(("num_hidden_layers", "decoder_layers", "encoder_layers", "n_layer"), 2),
    **dict.fromkeys(("n_layers", "num_layers", "num_encoder_layers", "num_decoder_layers"), 2),
    **dict.fromkeys(("num_blocks", "num_layers_per_stack"), 2),
    **dict.fromkeys(("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k"), 2),
    **dict.fromkeys(("n_group", "topk_group", "num_expert_group", "n_shared_experts"), 1),
    **dict.fromkeys(("num_shared_experts", "moe_num_shared_experts"), 1),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx"), 64),
    **dict.fromkeys(("model_max_length", "context_length", "max_target_positions"), 64),
    **dict.fromkeys(("sliding_window", "window_size", "sliding_window_size"), 4),
    **dict.fromkeys(("attention_window_size", "attention_chunk_size", "local_attention"), 4),
    **dict.fromkeys(("keep_window_size", "local_attention_window_len"), 4),
    **dict.fromkeys(("index_topk",), 8),
    **dict.fromkeys(("index_n_heads",), 2),
    **dict.fromkeys(("chunk_size", "mamba_chunk_size"), 4),
    **dict.fromkeys(("mamba_d_state", "state_size", "ssm_state_size"), 8),
    **dict.fromkeys(("mamba_n_heads", "n_mamba_heads", "mamba_num_heads"), 4),
    **dict.fromkeys(("mamba_d_head", "mamba_head_dim", "mamba_headdim"), 16),
    **dict.fromkeys(("mamba_n_groups", "n_groups", "mamba_ngroups"), 1),
    **dict.fromkeys(("mamba_dt_rank", "time_step_rank"), 4),
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads", "linear_num_heads"), 2),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim", "linear_head_dim"), 8),
    **dict.fromkeys(("hidden_size_per_layer_input", "ple_embed_dim", "router_hidden_size"), 8),
    **dict.fromkeys(("first_k_dense_replace", "num_dense_layers"), 1),
    **dict.fromkeys(("encoder_hash_byte_group_vocab",), 128),
    **dict.fromkeys(("prompt_length", "prompt_mid_dim"), 4),
    **dict.fromkeys(("ngram_vocab_size_base",), 200),
    **dict.fromkeys(("num_random_blocks", "num_nextn_predict_layers"), 1),
    **dict.fromkeys(("block_size",), 4),
}
"""What makes a configuration small: for each setting, if it has it."""

KINDS = ("layer_types", "layers_block_type", "block_types", "mlp_layer_types", "indexer_types")
"""Settings with an entry for each layer."""


def shrunk(config_class: Any, given: dict[str, Any] | None = None) -> dict[str, Any]:
    """Keyword arguments for a small configuration of the class."""
    given = dict(given or {})
    default = config_class(**{k: v for k, v in given.items() if not isinstance(v, dict)})
    known = default.to_dict()
    small: dict[str, Any] = {k: SMALL[k] for k, v in known.items() if k in SMALL and v is not None}
    for name, sub in (getattr(config_class, "sub_configs", None) or {}).items():
        if getattr(default, name, None) is not None and sub.__name__ != "AutoConfig":
            small[name] = shrunk(sub, given.pop(name, None))
        elif getattr(default, name, None) is not None:
            small[name] = shrunk(type(getattr(default, name)), given.pop(name, None))
            small[name]["model_type"] = getattr(default, name).model_type
    kinds = list(dict.fromkeys(known.get("layer_types") or known.get("layers_block_type") or ()))
    layers = max(2, len(kinds))
    for name in ("num_hidden_layers", "n_layer", "n_layers", "num_layers"):
        if name in small:
            small[name] = layers
    for name in KINDS:
        if isinstance(known.get(name), list):
            entries = list(dict.fromkeys(known[name]))
            small[name] = [entries[i % len(entries)] for i in range(layers)]
    for name, value in known.items():
        if name.endswith("_token_id") and isinstance(value, int) and value >= VOCABULARY:
            small[name] = 1 + hash(name) % 3 if False else {"bos": 1, "eos": 2}.get(name[:3], 3)
    return small | given


def build(kind: str, seed: int = 0, dtype: torch.dtype = torch.float64, **given: Any) -> Any:
    """A small random model of the architecture `kind`, named as transformers names it."""
    config_class = CONFIG_MAPPING[kind]
    config = config_class(**shrunk(config_class, {**SPECIAL.get(kind, {}), **given}))
    text = config if kind in NO_TEXT else config.get_text_config()
    # The faster kernels of experts have no double precision.
    config._experts_implementation = text._experts_implementation = "eager"
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() > 1 and p.is_floating_point():
                p.mul_(8.0)
    return model.eval()


NO_TEXT = ("musicgen", "musicgen_melody")
DECODERS = (
    "bert bert-generation big_bird camembert data2vec-text electra ernie megatron-bert rembert "
    "roberta roberta-prelayernorm roc_bert roformer xlm-roberta xlm-roberta-xl xmod"
).split()
LATENT = (
    "axk1 axk2 bailing_hybrid deepseek_v2 deepseek_v3 deepseek_v32 dots3_note dots3_note_text "
    "glm4_moe_lite glm_moe_dsa kimi_linear longcat_flash minicpm3 youtu"
).split()

SPECIAL: dict[str, dict[str, Any]] = {
    **{kind: {"is_decoder": True} for kind in DECODERS},
    **{kind: {"num_key_value_heads": 4} for kind in LATENT},
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8},
    "ministral": {"head_dim": 8},
    "nemotron": {"head_dim": 8},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "mamba2": {"num_heads": 4, "head_dim": 16},
    "falcon_h1": {"mamba_d_ssm": 64},
    "zaya": {"num_experts_per_tok": 1},
    "reformer": {
        "is_decoder": True,
        "axial_pos_shape": [8, 8],
        "axial_pos_embds_dim": [16, 16],
        "attn_layers": ["local", "lsh"],
        "local_attn_chunk_length": 4,
        "lsh_attn_chunk_length": 4,
        "num_buckets": 4,
        "max_position_embeddings": 64,
    },
    "xmod": {"is_decoder": True, "default_language": "en_XX"},
    "got_ocr2": {},
}
