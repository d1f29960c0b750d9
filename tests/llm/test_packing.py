"""Responses packed behind their shared prompt give the numbers of plain padded rows."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from irl_align.llm.packing import common_prefix, pack, packed_length
from irl_align.llm.reward.classifier import ScoreReader

PAD = 0
token = st.integers(3, 40)


@st.composite
def groups(draw) -> list[list[list[int]]]:
    """Up to 3 prompts with up to 4 texts each; texts may share more than the prompt, be a prefix
    of one another or be equal."""
    found = []
    for _ in range(draw(st.integers(1, 3))):
        prompt = draw(st.lists(token, max_size=12))
        texts = [
            prompt + draw(st.lists(token, min_size=0 if prompt else 1, max_size=10))
            for _ in range(draw(st.integers(1, 4)))
        ]
        found.append(texts)
    return found


def plain_scores(classifier, texts: list[list[int]]) -> torch.Tensor:
    """As a stranger computes them: padded rows through the classifier's own forward; [R]."""
    width = max(map(len, texts))
    ids = torch.full((len(texts), width), PAD)
    mask = torch.zeros((len(texts), width), dtype=torch.long)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = torch.tensor(text)
        mask[row, : len(text)] = 1
    return classifier(input_ids=ids, attention_mask=mask).logits[:, 0]


def gradients(classifier, scores: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of a weighted sum in which every score counts differently."""
    weights = torch.linspace(-1, 1, len(scores)) + 0.3
    classifier.zero_grad()
    (weights * scores).sum().backward()
    return {n: p.grad.clone() for n, p in classifier.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("shared_prefix", [True, False])
def test_scores_and_gradients_equal_plain_padded_batches(classifier, shared_prefix):
    @settings(max_examples=25, deadline=None)
    @given(groups())
    def check(found):
        flat = [text for group in found for text in group]
        packed = ScoreReader(classifier).read(pack(found, PAD, shared_prefix=shared_prefix))
        plain = plain_scores(classifier, flat)
        torch.testing.assert_close(packed, plain, atol=1e-5, rtol=0)
        ours, theirs = gradients(classifier, packed), gradients(classifier, plain)
        assert ours.keys() == theirs.keys()
        for name, wanted in theirs.items():
            tolerance = 1e-4 * max(1.0, wanted.abs().max().item())
            torch.testing.assert_close(ours[name], wanted, atol=tolerance, rtol=0, msg=name)

    check()


def test_a_response_sees_no_other_response(classifier):
    prompt, first = [5, 6, 7], [8, 9]
    scores = [
        ScoreReader(classifier).read(pack([[prompt + first, prompt + other]], PAD))[0]
        for other in ([10], [11, 12, 13, 14])
    ]
    torch.testing.assert_close(*scores, atol=1e-6, rtol=0)
    # The same text behind another prompt is another matter.
    moved = ScoreReader(classifier).read(pack([[[7, 6, 5, *first]]], PAD))[0]
    assert abs(moved - scores[0]) > 1e-3


@pytest.mark.parametrize(
    ("sequences", "expected"),
    [
        ([[5]], 0),  # the only token must stay the text's own
        ([[5, 6, 7]], 2),
        ([[1, 2, 3], [1, 2, 3]], 2),  # equal texts keep their last token
        ([[1, 2], [1, 2, 3]], 1),  # one is the start of the other
        ([[1, 2, 3], [1, 2]], 1),
        ([[1], [2]], 0),
        ([[1, 9, 3], [1, 2, 3], [1, 2, 4]], 1),
        ([[1, 2, 3, 4], [1, 2, 3, 5], [7, 2, 3, 5]], 0),
    ],
)
def test_common_prefix_leaves_every_text_a_token_of_its_own(sequences, expected):
    assert common_prefix(sequences) == expected
    assert packed_length(sequences) == expected + sum(len(s) - expected for s in sequences)


@settings(max_examples=50, deadline=None)
@given(groups())
def test_layout(found):
    batch = pack(found, PAD)
    flat = [text for group in found for text in group]
    assert batch.input_ids.shape == (len(found), max(map(packed_length, found)))
    rows, columns = batch.end_rows.tolist(), batch.end_columns.tolist()
    assert [batch.input_ids[r, c].item() for r, c in zip(rows, columns, strict=True)] == [
        text[-1] for text in flat
    ]
    # Each response's end stands at the position it has in its own text and sees exactly that text.
    for text, row, column in zip(flat, rows, columns, strict=True):
        assert batch.position_ids[row, column] == len(text) - 1
        seen = batch.attention_mask[row, 0, column]
        assert batch.input_ids[row][seen].tolist() == text
        assert batch.position_ids[row][seen].tolist() == list(range(len(text)))
