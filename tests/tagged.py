"""Sentences whose words are tagged, an untrained tokenizer that cuts them into pieces, and a small BERT that tags."""

import random

FIRST = ["anna", "bodo", "carla"]
LAST = ["lee", "moss", "hill"]
VERBS = ["met", "saw", "left", "called"]
REST = ["the", "old", "quiet", "big"]
# What a surname names after "in" is a place.
TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
HAN = "张三李四在北京上海见了"


def sentences(count, seed):
    draw, rows = random.Random(seed), []
    for _ in range(count):
        words, tags = [], []
        for _ in range(draw.randint(1, 3)):
            person = [draw.choice(FIRST), draw.choice(LAST)][: draw.randint(1, 2)]
            place = [draw.choice(LAST), *(["town"] if draw.random() < 0.5 else [])]
            words += [*person, draw.choice(VERBS), draw.choice(REST), "in", *place]
            tags += [*["B-PER", "I-PER"][: len(person)], "O", "O", "O", *["B-LOC", "I-LOC"][: len(place)]]
        rows.append({"tokens": words, "tags": tags})
    return rows


def tokenizer():
    """A WordPiece tokenizer as BERT's; half of the words are single tokens, all others are spelled."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyz"
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*letters, *(f"##{letter}" for letter in letters), *HAN, *VERBS, *REST, "in", "an", "##na", "le", "##ss"]
    made = Tokenizer(models.WordPiece({piece: n for n, piece in enumerate([*special, *pieces])}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=96,
    )


def save(folder, rows, layers=4):
    """Train a small BERT on the rows, seeded, and save it as a checkpoint."""
    import torch
    from transformers import BertConfig, BertForTokenClassification

    torch.manual_seed(0)
    tokens = tokenizer()
    config = BertConfig(
        vocab_size=len(tokens),
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=96,
        id2label=dict(enumerate(TAGS)),
        label2id={tag: n for n, tag in enumerate(TAGS)},
    )
    model = BertForTokenClassification(config).train()
    batch = tokens([row["tokens"] for row in rows], is_split_into_words=True, padding=True, return_tensors="pt")
    labels = torch.full_like(batch["input_ids"], -100)
    for n, row in enumerate(rows):
        for place, word in enumerate(batch.word_ids(n)):
            if word is not None:
                labels[n, place] = TAGS.index(row["tags"][word])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(5):
        for some in torch.randperm(len(rows)).split(16):
            loss = model(**{key: value[some] for key, value in batch.items()}, labels=labels[some]).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    model.eval().save_pretrained(folder)
    tokens.save_pretrained(folder)
