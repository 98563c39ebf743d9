"""A toy language whose words are translated one by one, backwards, and small models that have learned to do so."""

import json
import random

WORDS = {"red": "rot", "green": "grün", "blue": "blau", "small": "klein", "big": "groß", "old": "alt", "new": "neu",
         "house": "Haus", "tree": "Baum", "dog": "Hund", "cat": "Katze", "bird": "Vogel"}  # fmt: skip
SPECIAL = ["<pad>", "</s>", "<unk>", "<s>", "say:"]


def pairs(count, seed, role="translation"):
    """Rows of a text and its translation: the other language's words, from the last to the first."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        words = draw.choices([*WORDS], k=draw.randint(3, 5))
        rows.append({"text": " ".join(words), role: " ".join(WORDS[word] for word in reversed(words))})
    return rows


def tokenizer():
    """A word-level tokenizer of both languages that ends every text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: index for index, word in enumerate([*SPECIAL, *WORDS, *WORDS.values()])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "bos_token": "<s>"}
    names = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=made, **special, model_max_length=32, model_input_names=names)


def save_writer(folder, rows, kind="t5", role="translation", epochs=8, prefix=""):
    """Train a small T5 or BART on the rows, seeded, and save it as a checkpoint."""
    import torch
    import transformers

    torch.manual_seed(0)
    tokens = tokenizer()
    shared = {"vocab_size": len(tokens), "d_model": 64, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 3}
    if kind == "t5":
        config = transformers.T5Config(d_ff=128, num_layers=3, num_decoder_layers=3, num_heads=4, d_kv=16,
                                       decoder_start_token_id=0, dropout_rate=0.0, **shared)  # fmt: skip
        model = transformers.T5ForConditionalGeneration(config)
    else:
        config = transformers.BartConfig(encoder_layers=2, decoder_layers=3, encoder_attention_heads=4, dropout=0.0,
                                         decoder_attention_heads=4, encoder_ffn_dim=128, decoder_ffn_dim=128,
                                         max_position_embeddings=32, decoder_start_token_id=1, init_std=0.1,
                                         forced_eos_token_id=None, **shared)  # fmt: skip
        model = transformers.BartForConditionalGeneration(config)
    inputs = tokens([prefix + row["text"] for row in rows], padding=True, return_tensors="pt")
    labels = tokens([row[role] for row in rows], padding=True, return_tensors="pt")["input_ids"]
    labels[labels == 0] = -100
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    for _ in range(epochs):
        for some in torch.randperm(len(rows)).split(32):
            batch = {name: value[some] for name, value in inputs.items()}
            model(**batch, labels=labels[some]).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    model.generation_config.max_length = None
    model.generation_config.max_new_tokens = 8
    model.eval().save_pretrained(folder)
    tokens.save_pretrained(folder)
    return model


def write(folder, **splits):
    """Write rows as JSON lines."""
    for name, rows in splits.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
