"""Questions about short texts, whose answers hang on the question, and a small model that has learned to answer."""

import random

from tests.conftest import PLAIN, WHAT, WHERE, WHO

KINDS = {"who": WHO, "where": WHERE, "what": WHAT}
WORDS = [*(f"{kind} is it" for kind in KINDS), *PLAIN, *(text for texts in KINDS.values() for text in texts)]


def questions(count, seed, unanswerable=0.0):
    """Rows as SQuAD has them; a share of them asks for what the context doesn't hold."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        asked = draw.choice([*KINDS])
        missing = draw.random() < unanswerable
        parts = [(kind, draw.choice(words)) for kind, words in KINDS.items() if kind != asked or not missing]
        draw.shuffle(parts)
        context = ""
        for kind, text in parts:
            context += " ".join(draw.choices(PLAIN, k=draw.randint(1, 4))) + " "
            if kind == asked:
                answers = {"text": [text], "answer_start": [len(context)]}
            context += f"{text} "
        answers = {"text": [], "answer_start": []} if missing else answers
        context += draw.choice(PLAIN)
        rows.append({"id": str(number), "question": f"{asked} is it", "context": context, "answers": answers})
    return rows


def tokenizer(texts=WORDS, length=64):
    """A word-level tokenizer of some texts, each Chinese character a word, that knows where its tokens stand."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    cut = pre_tokenizers.BertPreTokenizer()
    chinese = pre_tokenizers.Split(Regex(r"[\u4e00-\u9fff]"), "isolated")
    made = Tokenizer(models.WordLevel({}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Sequence([cut, chinese])
    words = sorted({word for text in texts for word, _ in made.pre_tokenizer.pre_tokenize_str(text)})
    vocabulary = {word: index for index, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    made.model = models.WordLevel(vocabulary, unk_token="[UNK]")
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        **special,
        model_max_length=length,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def save_answerer(folder, rows, layers=4):
    """Train a small BERT on the rows, seeded, and save it as a checkpoint."""
    import datasets
    import torch
    from transformers import BertConfig, BertForQuestionAnswering

    from compressit import tasks

    torch.manual_seed(0)
    task = tasks.load("question-answering")
    tokens = tokenizer()
    config = BertConfig(vocab_size=len(tokens), hidden_size=32, num_hidden_layers=layers, num_attention_heads=4,
                        intermediate_size=64, max_position_embeddings=64)  # fmt: skip
    model = BertForQuestionAnswering(config).train()
    prepared = task.prepare(datasets.Dataset.from_list(rows), tokens, None)
    batch = task.collate(tokens)(list(prepared))
    labels = batch.pop("labels")
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for _ in range(10):
        for some in torch.randperm(len(labels)).split(50):
            said = model(**{key: value[some] for key, value in batch.items()})
            logits, places = task.scored(torch.stack([said.start_logits, said.end_logits], -1), labels[some])
            torch.nn.functional.cross_entropy(logits, places).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    model.eval().save_pretrained(folder)
    tokens.save_pretrained(folder)
