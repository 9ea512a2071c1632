"""Find wrong labels among sentences, with a transformer of Hugging Face.

A small grammar makes sentences about a restaurant that praise it or complain; "not" turns the
meaning around, so that words alone do not tell. A tokenizer and a small BERT are made and trained
here, and nothing is downloaded. One label in twenty is wrong, and BERT learns some of them by heart.
Influence on sentences with true labels finds them, and says why a prediction is what it is.

Run it with `python docs/examples/text_transformer.py`; it needs transformers.
"""

import argparse
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    PreTrainedTokenizerFast,
)

from upweight import SequentialInfluenceCalculator
from upweight.evaluation import mislabel_detection
from upweight_torch import EkfacInfluence, NestedTorchCatAggregator

N_TRAIN, N_TEST, N_WRONG, EXPECTED = 600, 200, 30, 0.9
OPENINGS = ["", "last week", "as always", "on our second evening here"]
SUBJECTS = ["soup", "bread", "coffee", "service", "music", "view", "garden", "table"]
DEGREES = ["", "very", "really"]
GOOD = ["good", "fresh", "friendly", "lovely", "warm", "pleasant"]
BAD = ["bad", "stale", "rude", "awful", "cold", "dull"]
ENDINGS = ["", "this time", "and we stayed until ten", "said my sister"]


@dataclass(frozen=True)
class Sentences:
    """Sentences, and whether they praise; `given` is what the network is trained on."""

    texts: list[str]
    true: np.ndarray
    given: np.ndarray

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: int) -> tuple[str, int]:
        return self.texts[index], int(self.given[index])


def make_sentences(random: np.random.Generator, n: int, wrong: int) -> Sentences:
    """Make sentences by the grammar, and turn some of the labels around."""
    texts, true = [], np.zeros(n, dtype=np.int64)
    for i in range(n):
        good, negated = random.integers(2, size=2)
        words = [
            *(random.choice(OPENINGS), "the", random.choice(SUBJECTS), "was"),
            *("not" if negated else "", random.choice(DEGREES)),
            *(random.choice(GOOD if good else BAD), random.choice(ENDINGS)),
        ]
        texts.append(" ".join(filter(None, words)))
        true[i] = good != negated
    given = true.copy()
    flipped = random.choice(n, wrong, replace=False)
    given[flipped] = 1 - given[flipped]
    return Sentences(texts, true, given)


def make_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Give every word a number, and every sentence a first token, from which BERT classifies."""
    words = ["[PAD]", "[UNK]", "[CLS]", *sorted({word for text in texts for word in text.split()})]
    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", special_tokens=[("[CLS]", words.index("[CLS]"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]"
    )


class Classifier(torch.nn.Module):
    """BERT, from token ids and attention mask to logits: one tensor, which every loss takes."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        config = BertConfig(
            vocab_size=vocabulary,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=32,
            num_labels=2,
            attn_implementation="eager",  # written in operations that are differentiated twice
        )
        self.bert = BertForSequenceClassification(config)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        # With (n, tokens), BERT asks whether any token is masked at all, and goes another way if
        # not; derivatives sample by sample need one way. With (n, 1, 1, tokens) it does not ask.
        mask = attention_mask[:, None, None, :].bool()
        masked = torch.zeros_like(mask, dtype=torch.float32).masked_fill(~mask, -1e9)
        return self.bert(input_ids=input_ids, attention_mask=masked).logits


def train_network(network: Classifier, batches: DataLoader, epochs: int = 40) -> None:
    """Train until some of the wrong labels are learned, too."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    network.train()
    for _ in range(epochs):
        for x, y in batches:
            optimizer.zero_grad()
            cross_entropy(network(**x), y).backward()
            optimizer.step()
    network.eval()


def print_proponents(influences: np.ndarray, train: Sentences, text: str) -> None:
    """Print the training sentences that speak most for the label of one test sentence."""
    print(f'\nFor the label of "{text}" speak most:')
    for index in np.argsort(-influences)[:4]:
        label = "praise" if train.given[index] else "complaint"
        print(f"  {influences[index]:8.2f}  {label:<10} {train.texts[index]}")


def main() -> None:
    """Train, compute influences, and look for the wrong labels."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0, help="of sentences, weights and batches")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    random = np.random.default_rng(options.seed)
    train, test = make_sentences(random, N_TRAIN, N_WRONG), make_sentences(random, N_TEST, 0)
    tokenizer = make_tokenizer(train.texts)

    def collate(items: list[tuple[str, int]]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        texts, labels = zip(*items, strict=True)
        x = tokenizer(list(texts), padding=True, return_tensors="pt")
        return {name: x[name] for name in ("input_ids", "attention_mask")}, torch.tensor(labels)

    network = Classifier(len(tokenizer))
    train_network(network, DataLoader(train, 50, shuffle=True, collate_fn=collate))

    # Influence over the linear layers; embeddings and norms are taken as they are.
    network.requires_grad_(False)
    for module in network.modules():
        if isinstance(module, torch.nn.Linear):
            module.requires_grad_()
    batches = DataLoader(train, 100, collate_fn=collate)
    model = EkfacInfluence(network, cross_entropy).fit(batches)
    lazy = SequentialInfluenceCalculator(model).influences(
        DataLoader(test, 100, collate_fn=collate), batches
    )
    influences = lazy.compute(NestedTorchCatAggregator()).numpy()  # (200, 600)

    with torch.no_grad():
        logits = torch.cat([network(**x) for x, _ in batches]).numpy()
        right = torch.cat(
            [network(**x).argmax(dim=1) == y for x, y in DataLoader(test, 100, collate_fn=collate)]
        )
    wrong = train.given != train.true
    learned = (logits.argmax(axis=1) == train.given)[wrong].mean()
    print(
        f"\nRight on test sentences: {right.float().mean():.0%}; wrong labels learned: {learned:.0%}"
    )
    print_proponents(influences[0], train, test.texts[0])

    # Every test sentence has an equal say, however badly it is predicted.
    harm = -(influences / np.linalg.norm(influences, axis=1, keepdims=True)).mean(axis=0)
    suspects = np.argsort(-harm)
    print("\nThe most suspicious labels:")
    for index in suspects[:4]:
        label = "praise" if train.given[index] else "complaint"
        print(f"  {label:<10} {train.texts[index]}")
    found = mislabel_detection(harm, wrong, suspicious="high").roc_auc
    print(
        f"\nWrong among the first {N_WRONG}: {wrong[suspects[:N_WRONG]].mean():.0%}; by chance 5 %."
    )
    print(f"Area under the ROC curve: {found.value:.3f}, expected more than {EXPECTED}.")
    if not found.value > EXPECTED:
        raise SystemExit("Influence does not find the wrong labels.")


if __name__ == "__main__":
    main()
