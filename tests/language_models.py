"""Small language models with random weights, as transformers makes them."""

from collections.abc import Callable
from typing import Any

import torch

WIDTH, WORDS = 16, 50
_SIZES = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def _gpt2(tf: Any) -> Any:
    config = {"n_embd": WIDTH, "n_layer": 2, "n_head": 2, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    return tf.GPT2ForSequenceClassification(tf.GPT2Config(vocab_size=WORDS, **config))


def _t5(tf: Any) -> Any:
    config = {"d_model": WIDTH, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    return tf.T5EncoderModel(tf.T5Config(vocab_size=WORDS, **config))


def _distilbert(tf: Any) -> Any:
    config = {"dim": WIDTH, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}
    return tf.DistilBertForSequenceClassification(tf.DistilBertConfig(vocab_size=WORDS, **config))


def _usual(name: str, task: str, **more: Any) -> Callable[[Any], Any]:
    def made(tf: Any) -> Any:
        return getattr(tf, f"{name}{task}")(getattr(tf, f"{name}Config")(vocab_size=WORDS, **_SIZES, **more))

    return made


LANGUAGE_MODELS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "BERT": (_usual("Bert", "ForSequenceClassification"), "bert.embeddings.word_embeddings"),
    "DistilBERT": (_distilbert, "distilbert.embeddings.word_embeddings"),
    "RoBERTa": (_usual("Roberta", "ForSequenceClassification"), "roberta.embeddings.word_embeddings"),
    "GPT-2": (_gpt2, "transformer.wte"),
    "Llama": (_usual("Llama", "ForCausalLM", num_key_value_heads=2), "model.embed_tokens"),
    "Qwen3": (_usual("Qwen3", "ForCausalLM", num_key_value_heads=2, head_dim=8), "model.embed_tokens"),
    "T5": (_t5, "encoder.embed_tokens"),
}
"""For each family what makes a model from the module transformers, and the name of its token embedding."""


def language_model(family: str, tf: Any) -> torch.nn.Module:
    """Return a model in float64."""
    torch.manual_seed(0)
    model: torch.nn.Module = LANGUAGE_MODELS[family][0](tf).double().eval()
    return model


def scores(output: Any) -> torch.Tensor:
    """Return what a model says of a sequence: its logits, those of the last token, or its last state."""
    value: torch.Tensor = output["logits"] if "logits" in output else output["last_hidden_state"]
    return value[:, -1] if value.ndim == 3 else value
