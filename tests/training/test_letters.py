import math

import pytest
import torch

from viq.data.letters import ALPHABET, BLANK, CLASSES, FRAMES, OTHER, UNKNOWN
from viq.mllm import MultimodalConfig, MultimodalModel
from viq.training.letters import LetterReader, _spelled, letter_count

WIDTH = 32


def of(letter):
    return ALPHABET.index(letter) + 2


@pytest.fixture
def reader():
    torch.manual_seed(0)
    return LetterReader(WIDTH)


@pytest.fixture
def features():
    torch.manual_seed(1)
    return torch.randn(6, WIDTH)


@pytest.fixture
def classes():
    """Four patches with three letters, and two of which nothing is known."""
    known = torch.full((6, FRAMES), BLANK, dtype=torch.uint8)
    known[0, 1], known[1, 3], known[3, 0] = of("g"), of("R"), of("7")
    known[4:] = UNKNOWN
    return known


def test_the_loss_is_of_all_letters_and_a_twentieth_of_all_blanks(reader, features, classes):
    logs = reader(features[:4]).log_softmax(-1).flatten(0, 1)
    targets = classes[:4].flatten().long()
    losses = -logs[torch.arange(len(targets)), targets]
    expected = losses[targets != BLANK].sum() + 0.05 * losses[targets == BLANK].sum()
    torch.testing.assert_close(reader.loss(features, classes), expected)
    assert letter_count(classes) == 3


def test_where_nothing_is_known_there_is_no_loss_and_nothing_to_be_right(reader, features):
    unknown = torch.full((6, FRAMES), UNKNOWN, dtype=torch.uint8)
    for nothing in (None, unknown):
        assert reader.loss(features, nothing) == 0
        assert letter_count(nothing) == 0
        assert math.isnan(reader.right(features, nothing))


def test_letters_are_learnt_and_read(reader, features, classes):
    optimizer = torch.optim.Adam(reader.parameters(), lr=0.02)
    assert reader.right(features, classes) < 1
    for _ in range(60):
        optimizer.zero_grad()
        reader.loss(features, classes).backward()
        optimizer.step()
    assert reader.right(features, classes) == 1
    wrong = classes.clone()
    wrong[0, 1] = of("q")
    assert reader.right(features, wrong) == pytest.approx(2 / 3)


def test_a_reader_has_a_score_for_each_class_of_each_frame(reader, features):
    assert reader(features.bfloat16().float()).shape == (6, FRAMES, CLASSES)


def test_a_token_like_a_letters_embedding_spells_it():
    model = MultimodalModel.build(MultimodalConfig(lm="tiny", width=8, adapter=None))
    ids = [model.tokenizer(letter)["input_ids"] for letter in ALPHABET]
    known = [place for place, one in enumerate(ids) if len(one) == 1]
    table = model.get_input_embeddings().weight[[ids[place][0] for place in known]]
    assert {"a", "Z", "7", "?"} < {ALPHABET[place] for place in known}
    assert len(known) < len(ALPHABET)  # the tokenizer of bytes has no token of its own for these

    place = known.index(ALPHABET.index("g"))
    tokens = torch.stack((table[place], torch.zeros_like(table[0]))).requires_grad_()
    classes = torch.full((2, 4 * FRAMES), BLANK, dtype=torch.uint8)
    classes[0, 5], classes[1, :4] = of("g"), UNKNOWN
    expected = -(table @ table[place]).log_softmax(-1)[place]
    torch.testing.assert_close(_spelled(model, tokens, classes), expected)

    classes[1, 2], classes[1, 3] = of("€"), OTHER  # neither is one token
    classes[1, 9], classes[1, 14] = of("R"), of("R")
    loss = _spelled(model, tokens, classes)
    torch.testing.assert_close(loss, expected + 2 * math.log(len(known)))
    loss.backward()
    assert tokens.grad[1].any()
    assert _spelled(model, tokens, classes.fill_(UNKNOWN)) == 0
