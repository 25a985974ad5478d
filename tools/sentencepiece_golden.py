"""What SentencePiece makes of texts: crates/lightglm-text/tests/data/sentencepiece.

    pip install sentencepiece==0.2.3 protobuf
    python3 tools/sentencepiece_golden.py

Trains a small BPE model with bytes on this repository's documentation and programs and writes `tokenizer.model`, and
`expected.json`: its vocabulary as a GGUF file holds it, and texts with their ids and what those decode to.
"""

import json
import pathlib
import random

import sentencepiece
from sentencepiece import sentencepiece_model_pb2

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = ROOT / "crates/lightglm-text/tests/data/sentencepiece"
ALPHABET = (
    ["a", "e", "th", "the", "model", "1", "2024", ".", "...", "---", "====", "é", "e\u0301", "中", "文", "模型"]
    + ["。", "한", "ال", "😀", "👩‍👩‍👧", "🇩🇪", "\u2028", "\ufffd", "\x00", "<0x0A>", "<s>", "</s>", "<unk>", "<|user|>"]
    + [" ", "  ", "   ", "\n", "\t", "\r\n", "▁"]
)


def train():
    texts = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("tools/*.py")])
    (OUT / "texts.txt").write_text("\n".join(text.read_text() for text in texts))
    sentencepiece.SentencePieceTrainer.train(
        input=OUT / "texts.txt", model_prefix=OUT / "tokenizer", model_type="bpe", vocab_size=900,
        character_coverage=0.98, byte_fallback=True, normalization_rule_name="identity",
        remove_extra_whitespaces=False, split_digits=True, allow_whitespace_only_pieces=True,
        control_symbols=["<|user|>"], max_sentence_length=1 << 20, num_threads=1,
    )
    (OUT / "tokenizer.vocab").unlink()
    corpus = (OUT / "texts.txt").read_text()
    (OUT / "texts.txt").unlink()
    model = sentencepiece_model_pb2.ModelProto.FromString((OUT / "tokenizer.model").read_bytes())
    # Paths of the machine.
    model.trainer_spec.ClearField("input")
    model.trainer_spec.ClearField("model_prefix")
    (OUT / "tokenizer.model").write_bytes(model.SerializeToString())
    return corpus


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    corpus, draw = train(), random.Random(20261129)
    texts = ["", " ", "  ", "▁", " a", "a ", "Hello, world!", "你好，世界", "\n\n", *(" " * n for n in range(3, 40))]
    texts += ["x" + mark * n for mark in "-=.a" for n in range(2, 24)]
    for _ in range(300):
        at = draw.randrange(len(corpus) - 80)
        texts.append(corpus[at : at + draw.randrange(1, 80)])
        texts.append("".join(draw.choice(ALPHABET) for _ in range(draw.randrange(1, 16))))
    processor = sentencepiece.SentencePieceProcessor(model_file=str(OUT / "tokenizer.model"))
    model = sentencepiece_model_pb2.ModelProto.FromString((OUT / "tokenizer.model").read_bytes())
    cases = [[text, ids, processor.decode(ids)] for text in texts for ids in [processor.encode(text)]]
    expected = {
        "sentencepiece": sentencepiece.__version__,
        "tokens": [piece.piece for piece in model.pieces],
        "scores": [piece.score for piece in model.pieces],
        "token_type": [piece.type for piece in model.pieces],
        "cases": cases,
    }
    (OUT / "expected.json").write_text(json.dumps(expected, ensure_ascii=False, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
