"""A real tokenizer, small enough to be trained for a test."""

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SENTENCES = (
    "The weight of a request is known before it runs, in GPU-seconds.",
    "Attention grows with the square of the prompt; decode shares its weight reads with the batch.",
    "def weigh(self, request): return self.price.weigh(input_tokens=2048, output=output)",
    "Wie lange ein Auftrag wartet, hängt davon ab, was vor ihm in der Reihe steht.",
)


def trained() -> Tokenizer:
    """Byte-level BPE of 500 entries: any text can be counted."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<s>"],
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


def write_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer, and its `tokenizer.json` in `folder`."""
    tokenizer = trained()
    tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer
