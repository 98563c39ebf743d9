"""Untrained models of every family with a few blocks, seeded; their outputs hang on all their weights."""

from tests import heard, questions, tagged, written
from tests.conftest import tokenizer

BLOCKS = 4
ENCODER = {"hidden_size": 32, "num_hidden_layers": BLOCKS, "num_attention_heads": 4, "intermediate_size": 64}
ENDS = {"bos_token_id": 2, "eos_token_id": 3}
DECODER = {**ENCODER, **ENDS, "num_key_value_heads": 2, "max_position_embeddings": 64}
MODERN = {**ENCODER, **ENDS, "max_position_embeddings": 64, "cls_token_id": 2, "sep_token_id": 3}
GEMMA = {**DECODER, "head_dim": 8}
IMAGES = {**ENCODER, "image_size": 8, "patch_size": 2, "num_labels": 10}
EXPERTS = {**DECODER, "num_local_experts": 4, "num_experts_per_tok": 2}
QWEN_EXPERTS = {**DECODER, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
T5 = {"d_model": 32, "d_ff": 64, "num_layers": BLOCKS, "num_heads": 4, "d_kv": 8, "eos_token_id": 3,
      "decoder_start_token_id": 0, "classifier_dropout": 0.0}  # fmt: skip
BART = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
        "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 64,
        "decoder_start_token_id": 2, "forced_eos_token_id": 3, "num_labels": 3, **ENDS}  # fmt: skip

TEXTS = {
    "bert": ("Bert", {**ENCODER, "max_position_embeddings": 64}),
    "roberta": ("Roberta", {**ENCODER, **ENDS, "max_position_embeddings": 66}),
    "xlm-roberta": ("XLMRoberta", {**ENCODER, **ENDS, "max_position_embeddings": 66}),
    "camembert": ("Camembert", {**ENCODER, **ENDS, "max_position_embeddings": 66}),
    "distilbert": ("DistilBert", {"dim": 32, "n_layers": BLOCKS, "n_heads": 4, "hidden_dim": 64}),
    "electra": ("Electra", {**ENCODER, "embedding_size": 16, "max_position_embeddings": 64}),
    "albert": ("Albert", {**ENCODER, **ENDS, "embedding_size": 16, "max_position_embeddings": 64}),
    "deberta-v2": ("DebertaV2", {**ENCODER, "max_position_embeddings": 64, "relative_attention": True,
                                 "pos_att_type": ["c2p", "p2c"], "position_buckets": 8}),
    "mpnet": ("MPNet", {**ENCODER, **ENDS, "max_position_embeddings": 66}),
    "modernbert": ("ModernBert", MODERN),
    "llama": ("Llama", {key: value for key, value in DECODER.items() if key not in ENDS}),
    "mistral": ("Mistral", DECODER),
    "qwen2": ("Qwen2", DECODER),
    "qwen3": ("Qwen3", {**DECODER, "head_dim": 8}),
    "gemma": ("Gemma", GEMMA),
    "gemma2": ("Gemma2", GEMMA),
    "gemma3_text": ("Gemma3Text", GEMMA),
    "phi3": ("Phi3", DECODER),
    "mixtral": ("Mixtral", EXPERTS),
    "qwen2_moe": ("Qwen2Moe", {**QWEN_EXPERTS, "shared_expert_intermediate_size": 48, "mlp_only_layers": [1]}),
    "qwen3_moe": ("Qwen3Moe", {**QWEN_EXPERTS, "head_dim": 8, "decoder_sparse_step": 2}),
    "gpt2": ("GPT2", {"n_embd": 32, "n_layer": BLOCKS, "n_head": 4, "n_positions": 64, **ENDS}),
    "opt": ("OPT", {"hidden_size": 32, "num_hidden_layers": BLOCKS, "num_attention_heads": 4, "ffn_dim": 64,
                    "word_embed_proj_dim": 32, "max_position_embeddings": 64, **ENDS}),
    "gpt_neox": ("GPTNeoX", {**ENCODER, **ENDS, "max_position_embeddings": 64}),
    "t5": ("T5", T5),
    "t5-gated": ("T5", {**T5, "feed_forward_proj": "gated-gelu"}),
    "bart": ("Bart", BART),
}  # fmt: skip
TAGGED = {"bert-tags": ("Bert", {**ENCODER, "max_position_embeddings": 96, "num_labels": 5})}
ASKED = {"bert-qa": ("Bert", {**ENCODER, "max_position_embeddings": 64})}
MASKED = {"bert-mask": ("Bert", {**ENCODER, "max_position_embeddings": 96})}
PAIRED = {"bert-pairs": ("Bert", {**ENCODER, "max_position_embeddings": 64})}
WRITERS = {
    "t5-writes": ("T5", {**T5, "eos_token_id": 1, "num_layers": 3}),
    "bart-writes": ("Bart", {**BART, "encoder_layers": 3, "decoder_layers": 3, "bos_token_id": 3, "eos_token_id": 1,
                             "decoder_start_token_id": 1, "forced_eos_token_id": None}),
    **{f"{name}-writes": (prefix, {**BART, "encoder_layers": 3, "decoder_layers": 3, "bos_token_id": 3,
                                   "eos_token_id": 1, "decoder_start_token_id": 1, "forced_eos_token_id": None})
       for name, prefix in (("marian", "Marian"), ("mbart", "MBart"), ("m2m", "M2M100"), ("pegasus", "Pegasus"))},
    "mt5-writes": ("MT5", {**T5, "eos_token_id": 1, "num_layers": 3, "feed_forward_proj": "gated-gelu"}),
}  # fmt: skip
PICTURES = {
    "vit": ("ViT", IMAGES),
    "deit": ("DeiT", IMAGES),
    "beit": ("Beit", {**IMAGES, "use_relative_position_bias": True}),
    "beit-shared": ("Beit", {**IMAGES, "use_shared_relative_position_bias": True}),
    "dinov2": ("Dinov2", {**IMAGES, "mlp_ratio": 2}),
    "dinov2-gated": ("Dinov2", {**IMAGES, "mlp_ratio": 3, "use_swiglu_ffn": True}),
}
CONVOLUTIONS = {
    "convnext": ("ConvNext", {"patch_size": 2, "num_stages": 3, "hidden_sizes": [32, 32, 64], "depths": [1, 2, 1],
                              "image_size": 8, "layer_scale_init_value": 0.5, "num_labels": 10}),
    "resnet": ("ResNet", {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [2, 1], "layer_type": "basic",
                          "num_labels": 10}),
    "resnet-bottleneck": ("ResNet", {"embedding_size": 16, "hidden_sizes": [64, 128], "depths": [2, 1],
                                     "layer_type": "bottleneck", "num_labels": 10}),
}  # fmt: skip
WAVES = {**ENCODER, "conv_dim": [16, 16, 16], "conv_stride": [5, 4, 4], "conv_kernel": [10, 8, 8],
         "num_feat_extract_layers": 3, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 4,
         "classifier_proj_size": 16, "vocab_size": 32, "mask_time_prob": 0.0, "num_labels": 3}  # fmt: skip
SOUNDS = {
    "wav2vec2": ("Wav2Vec2", WAVES),
    "wav2vec2-stable": ("Wav2Vec2", {**WAVES, "feat_extract_norm": "layer", "do_stable_layer_norm": True}),
    "hubert": ("Hubert", {**WAVES, "feat_extract_norm": "layer"}),
    "wavlm": ("WavLM", {**WAVES, "feat_extract_norm": "layer"}),
    "ast": ("AST", {**ENCODER, "patch_size": 8, "frequency_stride": 8, "time_stride": 8, "max_length": 32,
                    "num_mel_bins": 16, "num_labels": 3}),
}  # fmt: skip
ALL_PICTURES = {**PICTURES, **CONVOLUTIONS}
KINDS = {
    "text-classification": "ForSequenceClassification",
    "token-classification": "ForTokenClassification",
    "question-answering": "ForQuestionAnswering",
    "fill-mask": "ForMaskedLM",
    "sentence-similarity": "Model",
    "translation": "ForConditionalGeneration",
    "image-classification": "ForImageClassification",
    "audio-classification": "ForSequenceClassification",
}
"""What the classes of transformers are called after the family's name."""


def build(name, **more):
    """Build a model of its task; `more` goes into its config."""
    import torch
    import transformers

    torch.manual_seed(0)
    prefix, fields = {**TEXTS, **TAGGED, **ASKED, **MASKED, **PAIRED, **WRITERS, **ALL_PICTURES, **SOUNDS}[name]
    if name not in {**ALL_PICTURES, **SOUNDS}:
        fields = {"vocab_size": len(processor(name)), "num_labels": 2, "pad_token_id": 0, **fields}
    config = getattr(transformers, f"{prefix}Config")(**{**fields, **more})
    kind = {"Marian": "MTModel", "AST": "ForAudioClassification"}.get(prefix, KINDS[task(name)])
    module = getattr(transformers, f"{prefix}{kind}")(config)
    for parameter in module.parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=0.15)
    return module.eval()


def save(name, folder):
    """Build a model and save it with its tokenizer or processor."""
    build(name).save_pretrained(folder)
    processor(name).save_pretrained(folder)


def processor(name):
    """Give a model's tokenizer or processor."""
    import transformers

    if name in ALL_PICTURES:
        return transformers.ViTImageProcessorPil(size={"height": 8, "width": 8})
    if name == "ast":
        return transformers.ASTFeatureExtractor(sampling_rate=heard.RATE // 2, num_mel_bins=16, max_length=32)
    if name in SOUNDS:
        return heard.extractor(mask=name != "wav2vec2")
    made = {**dict.fromkeys({**TAGGED, **MASKED}, tagged.tokenizer), **dict.fromkeys(ASKED, questions.tokenizer),
            **dict.fromkeys(WRITERS, written.tokenizer)}  # fmt: skip
    return made.get(name, tokenizer)()


def task(name):
    """Name the task that a model is for."""
    groups = {"token-classification": TAGGED, "question-answering": ASKED, "fill-mask": MASKED,
              "sentence-similarity": PAIRED, "translation": WRITERS, "image-classification": ALL_PICTURES,
              "audio-classification": SOUNDS}  # fmt: skip
    return next((each for each, names in groups.items() if name in names), "text-classification")
