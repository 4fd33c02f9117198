"""The language model that reads features: packed losses, gradients, answers."""

from dataclasses import replace

import pytest
import torch

from viq.chat import image_tokens
from viq.errors import ModelError
from viq.external.language_model import LanguageModel, load_language_model
from viq.mllm.model import AdapterConfig, MultimodalConfig, MultimodalModel, Prompt
from viq.model.packing import Packing

WIDTH = 12
ADAPTER = AdapterConfig(rank=4, alpha=8, dropout=0.0)
# (grids of images, text before the answer, answer)
SAMPLES = [
    ([(2, 4)], "What is it?", "a cat"),
    ([], "What is 1 + 1?", "two"),
    ([(4, 4), (2, 2)], "And these?", "a dog, a door"),
    ([(6, 2)], "Colour?", "red"),
    ([(6, 2)], "Colour?", "blue"),
]


@pytest.fixture
def config(lm_folder):
    return MultimodalConfig(lm=str(lm_folder), width=WIDTH, adapter=ADAPTER)


@pytest.fixture
def model(config):
    return MultimodalModel.build(config).eval()


def changed(config, **changes):
    """The same config but for some settings."""
    same = {name: getattr(config, name) for name in ("lm", "width", "adapter", "train_lm")}
    return MultimodalConfig(**same | changes)


@pytest.fixture(scope="module")
def features():
    generator = torch.Generator().manual_seed(3)
    counts = [sum(h * w for h, w in grids) for grids, *_ in SAMPLES]
    return [torch.randn(count, WIDTH, generator=generator) for count in counts]


def texts(model, which, *, answered=True):
    """The arguments after ``pool`` for some samples as one sequence; answers are supervised."""
    ids, labels, lengths, places = [], [], [], []
    for grids, question, answer in (SAMPLES[i] for i in which):
        count = sum(image_tokens(grid, 2) for grid in grids)
        chat = [{"role": "user", "content": question}]
        head = model.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        prompt = [0] * count + model.tokenizer(head)["input_ids"]
        reply = model.tokenizer(f"{answer}<|im_end|>")["input_ids"] if answered else []
        places += [sum(lengths) + place for place in range(count)]
        ids += prompt + reply
        labels += [-100] * len(prompt) + reply
        lengths.append(len(prompt) + len(reply))
    return tuple(map(torch.tensor, (ids, labels))), lengths, torch.tensor(places, dtype=torch.int64)


def images(features, which):
    packing = Packing.of(grid for i in which for grid in SAMPLES[i][0])
    return torch.cat([features[i] for i in which]), packing, 2


def loss_of(model, features, which):
    (ids, labels), lengths, places = texts(model, which)
    return model.packed_loss(*images(features, which), ids, labels, lengths, places)


def prompts_of(model, which):
    found = []
    for i in which:
        (ids, _), _, places = texts(model, [i], answered=False)
        found.append(Prompt(ids, places))
    return found


def test_the_loss_of_a_text_is_transformers_own(model, lm_folder, features):
    lm = load_language_model(str(lm_folder)).model
    (ids, labels), _, _ = texts(model, [1])
    found = loss_of(model, features, [1])
    expected = lm(ids[None], labels=labels[None])
    torch.testing.assert_close(found.sum / found.count, expected.loss, rtol=0, atol=1e-5)
    assert found.count == len("two") + 1
    places = found.places
    assert torch.equal(labels[places], labels[labels != -100])
    assert torch.equal(found.predictions, expected.logits[0, places - 1].argmax(-1))


def test_the_loss_of_a_text_with_an_image_is_transformers_own(model, lm_folder, features):
    lm = load_language_model(str(lm_folder)).model
    (ids, labels), _, places = texts(model, [0])
    embedded = lm.get_input_embeddings()(ids)
    embedded[places] = model.projector(*images(features, [0]))
    expected = lm(inputs_embeds=embedded[None], labels=labels[None]).loss
    found = loss_of(model, features, [0])
    torch.testing.assert_close(found.sum / found.count, expected, rtol=0, atol=1e-5)


def test_packed_samples_have_the_losses_they_have_alone(model, features):
    which = range(len(SAMPLES))
    packed = loss_of(model, features, which)
    alone = [loss_of(model, features, [i]) for i in which]
    assert packed.count == sum(one.count for one in alone)
    torch.testing.assert_close(
        packed.losses, torch.cat([one.losses for one in alone]), rtol=0, atol=1e-5
    )


def test_the_first_token_of_a_text_never_counts(model, features):
    (ids, labels), lengths, places = texts(model, [0, 1])
    labels[[0, lengths[0]]] = ids[[0, lengths[0]]]
    found = model.packed_loss(*images(features, [0, 1]), ids, labels, lengths, places)
    assert torch.equal(found.losses, loss_of(model, features, [0, 1]).losses)


def test_without_supervised_tokens_the_loss_is_zero_with_gradients(model, features):
    (ids, labels), lengths, places = texts(model, [0])
    found = model.packed_loss(
        *images(features, [0]), ids, torch.full_like(labels, -100), lengths, places
    )
    assert (found.count, found.sum.item()) == (0, 0)
    found.sum.backward()
    assert not model.projector.proj_in.weight.grad.any()


def test_gradients_reach_features_projector_and_adapters_alone(model, features):
    rows, packing, pool = images(features, [0, 2])
    rows.requires_grad_()
    (ids, labels), lengths, places = texts(model, [0, 2])
    model.packed_loss(rows, packing, pool, ids, labels, lengths, places).sum.backward()
    assert rows.grad.any(1).all()
    with_gradient = {name for name, p in model.named_parameters() if p.grad is not None}
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert with_gradient == trained
    assert all("lora_" in n for n in trained if not n.startswith("projector."))


@pytest.mark.parametrize("dora", [False, True])
def test_adapters_are_in_all_linear_maps_but_the_last(config, dora):
    model = MultimodalModel.build(changed(config, adapter=replace(ADAPTER, dora=dora)))
    adapted = {n.split(".lora_A")[0] for n, _ in model.lm.named_parameters() if ".lora_A" in n}
    linear = {n for n, m in model.lm.named_modules() if hasattr(m, "base_layer")}
    assert adapted == linear
    assert len(linear) == 2 * 7
    assert not any("lm_head" in name for name in linear)
    groups = model.parameter_groups()
    assert len(groups["projector"]) == len(list(model.projector.parameters()))
    assert len(groups["lm"]) == len(linear) * (3 if dora else 2)


def test_adapters_begin_as_no_change(config, features):
    torch.manual_seed(1)
    adapted = MultimodalModel.build(config).eval()
    plain = MultimodalModel.build(changed(config, adapter=None)).eval()
    plain.projector.load_state_dict(adapted.projector.state_dict())
    losses = [loss_of(model, features, [0, 1]).losses for model in (adapted, plain)]
    torch.testing.assert_close(*losses, rtol=0, atol=1e-5)


def test_all_or_nothing_of_the_language_model_trains(config):
    frozen = MultimodalModel.build(changed(config, adapter=None))
    assert list(frozen.parameter_groups()) == ["projector"]
    whole = MultimodalModel.build(changed(config, adapter=None, train_lm=True))
    assert len(whole.parameter_groups()["lm"]) == len(list(whole.lm.parameters()))
    with pytest.raises(ValueError, match="so adapter must be None"):
        changed(config, train_lm=True)


def test_gradient_checkpointing_changes_no_gradient(config, features):
    model = MultimodalModel.build(config).train()
    gradients = []
    for _ in range(2):
        model.zero_grad()
        loss_of(model, features, [0, 1, 2]).sum.backward()
        gradients.append([p.grad for p in model.parameters() if p.requires_grad])
        model.checkpoint_gradients()
    assert model.causal_lm.model.layers[0].gradient_checkpointing
    torch.testing.assert_close(*gradients)


def test_weights_in_half_precision_train(config, features):
    model = MultimodalModel.build(config, dtype=torch.bfloat16)
    assert model.causal_lm.lm_head.weight.dtype == torch.bfloat16
    found = loss_of(model, features, [0, 1])
    assert found.losses.dtype == torch.float32
    found.sum.backward()
    assert all(p.grad is not None for group in model.parameter_groups().values() for p in group)


def test_answers_of_a_batch_are_those_of_one_prompt_at_a_time(model, features):
    which = range(len(SAMPLES))
    together = model.answer(*images(features, which), prompts_of(model, which), max_new_tokens=12)
    alone = [
        model.answer(*images(features, [i]), prompts_of(model, [i]), max_new_tokens=12)[0]
        for i in which
    ]
    assert together == alone
    assert len(set(together)) > 1
    assert model.answer(*images(features, [1]), [], max_new_tokens=1) == []


def test_generation_leaves_the_model_as_it_was(model, features):
    before = loss_of(model.train(), features, [0, 2]).losses
    model.answer(*images(features, [0]), prompts_of(model, [0]), max_new_tokens=2)
    assert model.training
    assert torch.equal(loss_of(model, features, [0, 2]).losses, before)


@pytest.mark.parametrize("adapter", [ADAPTER, None])
def test_parts_in_evaluation_mode_stay_in_it(adapter, config, features):
    model = MultimodalModel.build(changed(config, adapter=adapter)).train()
    model.lm.eval()
    modes = [module.training for module in model.modules()]
    assert any(modes)
    model.answer(*images(features, [0]), prompts_of(model, [0]), max_new_tokens=2)
    assert [module.training for module in model.modules()] == modes


def test_answers_are_by_the_weights_of_the_moment(model, config, features):
    """DoRA keeps its products while an answer is made, and no longer."""
    arguments = (*images(features, [0]), prompts_of(model, [0]))
    before = model.answer(*arguments, max_new_tokens=12)
    with torch.no_grad():
        for parameter in model.parameter_groups()["lm"]:
            parameter.add_(torch.randn_like(parameter) / 10)
    after = model.answer(*arguments, max_new_tokens=12)
    other = MultimodalModel.build(config).eval()
    other.load_state_dict(model.state_dict())
    assert other.answer(*arguments, max_new_tokens=12) == after != before


@pytest.fixture(scope="module")
def taught(lm_folder, features):
    """A model that knows the answers by heart."""
    torch.manual_seed(0)
    config = MultimodalConfig(
        lm=str(lm_folder), width=WIDTH, adapter=AdapterConfig(rank=16, alpha=32)
    )
    model = MultimodalModel.build(config).train()
    groups = model.parameter_groups()
    optimizer = torch.optim.AdamW([p for group in groups.values() for p in group], lr=1e-2)
    for _ in range(150):
        loss = loss_of(model, features, range(len(SAMPLES)))
        optimizer.zero_grad()
        (loss.sum / loss.count).backward()
        optimizer.step()
    return model.eval()


def test_a_taught_model_gives_the_right_answers(taught, features):
    which = range(len(SAMPLES))
    found = loss_of(taught, features, which)
    assert found.sum / found.count < 0.05
    answers = taught.answer(*images(features, which), prompts_of(taught, which), max_new_tokens=30)
    assert answers == [answer for *_, answer in SAMPLES]


def test_answers_depend_on_the_images(taught, features):
    """One question, two images; and swapped they swap the answers."""
    rows, packing, pool = images(features, [4, 3])
    prompts = prompts_of(taught, [3, 4])
    answers = taught.answer(rows, packing, pool, prompts, max_new_tokens=6)
    assert torch.equal(prompts[0].input_ids, prompts[1].input_ids)
    assert answers == ["blue", "red"]


def test_sampling_and_streaming_are_passed_on(taught, features):
    class Streamer:
        tokens, ended = 0, False

        def put(self, tokens):
            self.tokens += tokens.numel()

        def end(self):
            self.ended = True

    streamer = Streamer()
    options = {"do_sample": True, "temperature": 0.01, "streamer": streamer}
    arguments = (*images(features, [3]), prompts_of(taught, [3]))
    assert taught.answer(*arguments, max_new_tokens=9, **options) == ["red"]
    assert streamer.ended
    assert streamer.tokens == len("red") + 1


def test_a_template_may_end_turns_by_a_token_of_its_own(config, lm_folder):
    """As base models' tokenizers have it, whose own end is that of a document."""
    lm, tokenizer = load_language_model(str(lm_folder))
    tokenizer.eos_token = "<|pad|>"
    lm.generation_config.eos_token_id = [3, 4]
    assert MultimodalModel(config, LanguageModel(lm, tokenizer)).generation_config.eos_token_id == [
        3,
        4,
        257,
        258,
    ]
    tokenizer.eos_token = tokenizer.chat_template = lm.generation_config.eos_token_id = None
    with pytest.raises(ModelError, match="LlamaForCausalLM has no token that ends an answer"):
        MultimodalModel(changed(config, adapter=None), LanguageModel(lm, tokenizer))


def test_adapters_that_fit_nowhere_are_refused(config):
    with pytest.raises(ModelError, match="these adapters do not fit LlamaForCausalLM"):
        MultimodalModel.build(changed(config, adapter=replace(ADAPTER, targets="nothing")))


def test_sizes_that_do_not_fit_are_named(model, features):
    (ids, labels), lengths, places = texts(model, [0])
    rows, packing, pool = images(features, [0])
    with pytest.raises(ValueError, match=r"1 images give 5 tokens, but the texts have 4 places"):
        model.packed_loss(rows, packing, pool, ids, labels, lengths, places[:-1])
    with pytest.raises(ValueError, match=r"texts of \d+ tokens in all"):
        model.packed_loss(rows, packing, pool, ids, labels, [3], places)
    with pytest.raises(ValueError, match="features are 11 wide, the projector takes 12"):
        model.packed_loss(rows[:, 1:], packing, pool, ids, labels, lengths, places)
