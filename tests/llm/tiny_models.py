"""Tiny random models of every causal language model of transformers, built by its name."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

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
    **dict.fromkeys(("index_n_heads",), 16),
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
}
"""What makes a configuration small: for each setting, if it has it."""

WINDOWS = (
    "sliding_window",
    "window_size",
    "sliding_window_size",
    "attention_window_size",
    "attention_chunk_size",
    "local_attention",
    "local_attention_window_len",
    "index_topk",
    "index_block_size",
    "floor_scale",
    "log_scaling_n_floor",
    "chunk_size",
    "mamba_chunk_size",
    "block_size",
)
"""Numbers of tokens beyond which a model computes in another way."""

NARROW, WIDE = 4, 64
"""Values of them: below the length of a tiny row, and above it, as in models that are not tiny."""

KINDS = ("layer_types", "layers_block_type", "block_types", "mlp_layer_types", "indexer_types")
"""Settings with an entry for each layer."""


def shrunk(config_class: Any, given: dict[str, Any], window: int) -> dict[str, Any]:
    """Keyword arguments for a small configuration of the class."""
    given = dict(given)
    default = config_class()
    known = default.to_dict()
    sizes = SMALL | dict.fromkeys(WINDOWS, window)
    small: dict[str, Any] = {k: sizes[k] for k, v in known.items() if k in sizes and v is not None}
    for name in getattr(config_class, "sub_configs", None) or {}:
        sub = getattr(default, name, None)
        if sub is not None:
            small[name] = shrunk(type(sub), given.pop(name, {}), window)
            small[name]["model_type"] = sub.model_type
    kinds = list(dict.fromkeys(known.get("layer_types") or known.get("layers_block_type") or ()))
    layers = max(2, len(kinds))
    for name in ("num_hidden_layers", "n_layer", "n_layers", "num_layers"):
        if name in small:
            small[name] = layers
    for name in KINDS:
        if isinstance(known.get(name), list) and known[name]:
            entries = list(dict.fromkeys(known[name]))
            small[name] = [entries[i % len(entries)] for i in range(layers)]
    for name, value in known.items():
        if name.endswith("_token_id") and isinstance(value, int) and value >= VOCABULARY:
            small[name] = {"bos": 1, "eos": 2}.get(name[:3], 3)
    # BERT and its like are causal only as decoders; latent attention has as many keys as queries.
    small |= {"is_decoder": True} if "is_decoder" in known else {}
    small |= {"num_key_value_heads": 4} if known.get("kv_lora_rank") is not None else {}
    return small | given


def build(kind: str, window: int = NARROW, seed: int = 0, **given: Any) -> Any:
    """A small random model of the architecture `kind`, named as transformers names it."""
    config_class = CONFIG_MAPPING[kind]
    config = config_class(**shrunk(config_class, SPECIAL.get(kind, {}) | given, window))
    torch.manual_seed(seed)
    causal = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    auto = AutoModelForCausalLM if causal else AutoModelForImageTextToText
    model = auto.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for p in model.parameters():
            # Transformers' own first weights are so small that all tokens are about equally likely.
            if p.dim() > 1:
                p.mul_(8.0)
            else:
                p.add_(0.1 * torch.randn(p.shape))
    return model.eval()


INDEXER = {
    "indexer_n_heads": 16,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 8,
    "indexer_budget": 8,
    "indexer_compress_ratio": 2,
}
LONG_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0] * 4,
    "long_factor": [4.0] * 4,
    "original_max_position_embeddings": 24,
}


def pictures(*sections: int) -> dict[str, Any]:
    """Positions by time, height and width."""
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": list(sections)}
    return {"text_config": {"rope_parameters": rope}}


SPECIAL: dict[str, dict[str, Any]] = {
    **{kind: {"head_dim": 8} for kind in ("hunyuan_v1_dense", "hunyuan_v1_moe", "ministral")},
    "bamba": {"attn_layer_indices": [1]},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8},
        "ffn_config": {"ffn_hidden_size": 32, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "deepseek_v2": {"num_experts_per_tok": 2},
    "dots1": {
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_shared_experts": 1,
        "n_group": 1,
        "topk_group": 1,
    },
    "falcon_h1": {"mamba_d_ssm": 64},
    "gemma3n_text": {"num_kv_shared_layers": 0},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"]},
    "hy_v4": {"index_topk": WIDE},
    "moshi": {"sliding_window": WIDE},
    "jamba": {"num_hidden_layers": 4, "attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "mamba2": {"num_heads": 4, "head_dim": 16},
    "nemotron": {"head_dim": 8, "num_key_value_heads": 2},
    "qwen4_exp_text": INDEXER,
    **{kind: pictures(1, 1, 2) for kind in ("qwen2_vl", "qwen2_5_vl", "glm4v")},
    "qwen4_exp": {"text_config": INDEXER},
    "reformer": {
        "is_decoder": True,
        "axial_pos_shape": [8, 8],
        "axial_pos_embds_dim": [16, 16],
        "attn_layers": ["local", "lsh"],
        "local_attn_chunk_length": 4,
        "lsh_attn_chunk_length": 4,
        "num_buckets": 4,
    },
    "xmod": {"is_decoder": True, "default_language": "en_XX"},
    "zamba": {
        "num_hidden_layers": 6,
        "layers_block_type": ["linear_attention", "linear_attention", "hybrid"] * 2,
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
    },
    "zamba2": {
        "num_hidden_layers": 4,
        "layers_block_type": ["linear_attention", "hybrid"] * 2,
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
    },
    "zaya": {"num_experts_per_tok": 1},
}
"""What some architectures need beside."""
