"""Golden cases for the metrics of lightglm-eval's question sets.

    pip install nltk==3.10.4
    python tools/question_set_golden.py crates/lightglm-eval/tests/data/question_sets

Written from the definitions of the metrics, independently of the Rust code; words come from NLTK
itself. The random cases are seeded, so a second run writes the same files.
"""

import json
import random
import re
import string
import sys
from collections import Counter
from pathlib import Path

from nltk.tokenize.destructive import NLTKWordTokenizer

WORDS = NLTKWordTokenizer()

LINES = [
    "", "4", "3.5%", "$3.88", "ω force", "u.s.", "no.1", "vol. 2", "don't stop", "it's",
    "i'll we've they're i'm he'd", "cannot", "gonna wanna gotta gimme lemme", "wanna", "wanna go",
    "d'ye more'n", "'tis 'twas", " 'tis 'twas", '"hello" world', 'say "hi".', "''quoted''",
    "``back''", "(a) [b] {c} <d>", "a,b", "1,000", "1,000,", "a, b: c", "12:30", "12:30:",
    "wait...", "wait....", "...", "a..b", "end.)", 'end."', "end. ", "a; b@c #d &e", "what?! no!",
    "rock 'n' roll", "'hello' there", "the '90s", "o'neil", "dogs' bones", "dogs'", "n't",
    "doesn't.", "DOESN'T", "—dash–", "a―b", "--x--", "* * *", "foo. bar", "f.c. barcelona",
    "«guillemets»", "‘single’", "„low“", "é à ü", "x\ty\nz", "a.b.c.", "http://example.com/a?b=c",
    "100km/h", "2.0.1.", "at&t", "a.", ".", "..", "?", '"', "'", "''", "`", "'s", "'m fine", "'d",
    "it 's", "l'amour", "\"'tis\"", '["x"]', "x:", "x:\n", ":)", ",,", "::", "5'10\"", "…", "３．５",
    "١٢٣:٤",
]  # fmt: skip
ATOMS = (
    ["a", "b1", "can", "not", "'", '"', "''", "``", ".", "..", "...", ",", ":", ";", "!", "?"]
    + ["(", ")", "[", "]", " ", "  ", "-", "--", "$", "%", "&", "#", "@", "*", "3", "1,000"]
    + ["'s", "n't", "'ll", "gonna", "wanna", "'tis", "é", "—", "«", "»", "’", "‘", "“", "”", "\n"]
    + ["0.5", "/", "<", ">", "_"]
)

CHINESE = (
    "这座图书馆（the Old Library）建于1998年3月，由A-Team公司设计，共有3.5万册藏书。"
    "馆长说：“我们每天接待1,200人。”……2003年，它改名为《新知》图书馆，don't worry，英文名是New-Ideas Library. "
    "第二年，U.S. News把它评为最美的十座图书馆之一！票价￥25.00，学生免费。"
)
CHINESE_PAIRS = [
    ("……", "…"), ("1999年", "1999 年"), ("ω-force", "ω force"), ("A-B", "ab"), ("《三国》", "三国"),
    ("3.5", "3.5。"), ("", ""), ("abc", ""), ("don't", "do n't"),
]  # fmt: skip
PUNCTUATION = set("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")

ENGLISH = [
    "The cat", "cat", "A.B.C.", "abc", "", "the", "a an the", "U.S.", "us", "Théâtre", "theatre",
    "don't", "dont", "1,000", "1000", "the-cat", "a_b an_", "the  quick\tbrown", "Ａ b", "a—the—an",
    "x\u00a0y", "“quote”", "a²", "²a the²", "the Blue Bridge over the Tay", "Blue Bridge",
    "a bridge, also known as the Blue Bridge", "İstanbul", "the\u0301 x", "ª the", "a b c c",
    "c c c d", "x y z", "z y x x", "one\u001ctwo",
]  # fmt: skip


def word_cases():
    rng = random.Random(7)
    lines = LINES + ["".join(rng.choices(ATOMS, k=rng.randint(1, 9))) for _ in range(400)]
    for line in dict.fromkeys(lines):
        yield {"text": line, "tokens": WORDS.tokenize(line)}


def bare(text):
    return "".join(c for c in text.lower().strip() if c not in PUNCTUATION)


def segments(text):
    tokens = []
    for piece in re.split("([\u4e00-\u9fa5])", bare(text)):
        tokens += WORDS.tokenize(piece) if piece else []
    return tokens


def run_f1(gold, prediction):
    a, b = segments(gold), segments(prediction)
    starts = [(i, j) for i in range(len(a)) for j in range(len(b))]
    longest = max((common(a[i:], b[j:]) for i, j in starts), default=0)
    return harmonic(longest, len(a), len(b))


def common(a, b):
    length = 0
    while length < min(len(a), len(b)) and a[length] == b[length]:
        length += 1
    return length


def harmonic(overlap, gold, prediction):
    if not overlap:
        return 0.0
    precision, recall = overlap / prediction, overlap / gold
    return 2 * precision * recall / (precision + recall)


def chinese_cases():
    rng = random.Random(3)
    pairs = list(CHINESE_PAIRS)
    for _ in range(100):
        begin = rng.randrange(len(CHINESE) - 2)
        gold = CHINESE[begin : begin + rng.randint(1, 25)]
        shifted = max(0, begin + rng.randint(-6, 6))
        other = CHINESE[shifted : shifted + rng.randint(1, 25)]
        pairs.append((gold, rng.choice([other, gold.upper(), gold + other, "“" + gold + "”。"])))
    for gold, prediction in pairs:
        em = float(bare(gold) == bare(prediction))
        yield {"gold": gold, "prediction": prediction, "em": em, "f1": run_f1(gold, prediction)}


def normalize(text):
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def english_cases():
    for gold in ENGLISH:
        for prediction in ENGLISH:
            a, b = normalize(gold).split(), normalize(prediction).split()
            overlap = sum((Counter(a) & Counter(b)).values())
            f1 = harmonic(overlap, len(a), len(b)) if a and b else float(a == b)
            case = {"gold": gold, "normalized": normalize(gold), "prediction": prediction}
            if gold == prediction or overlap or not (a and b):
                yield case | {"exact": float(normalize(gold) == normalize(prediction)), "f1": f1}


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    files = {"word_tokenize": word_cases, "cmrc2018": chinese_cases, "squad2": english_cases}
    for name, cases in files.items():
        lines = [json.dumps(case, ensure_ascii=False) + "\n" for case in cases()]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
