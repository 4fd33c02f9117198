import pytest
from tokenizers.pre_tokenizers import ByteLevel

from viq.chat import CHATML, IGNORED, encode_chat, encode_prompt, end_of_turn, truncate
from viq.errors import InputError

IMAGE = {"type": "image"}
# Templates as models bring them, in the ways in which they differ.
PLAIN = CHATML.replace("end_of_turn", "'<|im_end|>'")
STRIPPING = (  # white space around contents goes, answers come after a blank, end is EOS alone
    "{% for m in messages %}{% if m.role == 'assistant' %} {{ m.content | trim }} <|im_end|>"
    "{% else %}[{{ m.role }}] {{ m.content | trim }} [/]{% endif %}{% endfor %}"
)
THINKING = (  # an empty thought before the last answer, which the generation prompt has not
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEMPLATES = [None, PLAIN, STRIPPING, THINKING]


def text(value):
    return {"type": "text", "text": value}


def turn(role, *parts):
    return {"role": role, "content": tuple(text(p) if isinstance(p, str) else p for p in parts)}


SAMPLES = {
    "one turn": ([turn("user", IMAGE, "the cat?"), turn("assistant", "the mat")], [5]),
    "system": (
        [
            turn("system", "Be brief."),
            turn("user", "Why?", IMAGE),
            turn("assistant", "\nthe end\n"),
        ],
        [2],
    ),
    "several turns and images": (
        [
            turn("user", IMAGE, "\n", IMAGE, "\nthe first or", IMAGE, "?"),
            turn("assistant", "the first, the"),
            turn("user", "Sure? ", IMAGE),
            turn("assistant", "the"),
            turn("user", "the"),
            turn("assistant", "é, 日本, 🙂"),
        ],
        [3, 1, 4, 2],
    ),
    "no image": ([turn("user", "1 + 1?"), turn("assistant", "2")], []),
    "strings": (
        [{"role": "user", "content": "the"}, {"role": "assistant", "content": "answers>"}],
        [],
    ),
    "an image in an answer": ([turn("user", "Draw."), turn("assistant", "Here: ", IMAGE)], [3]),
}


@pytest.fixture(scope="session", params=TEMPLATES, ids=["none", "plain", "strip", "think"])
def tokenizer(request, make_tokenizer):
    return make_tokenizer(chat_template=request.param, pad_token="<|pad|>", eos_token="<|im_end|>")


@pytest.fixture(scope="session")
def plain(make_tokenizer):
    return make_tokenizer(chat_template=PLAIN, pad_token="<|pad|>", eos_token="<|im_end|>")


def supervised(tokens, tokenizer):
    return tokenizer.decode([label for label in tokens.labels if label != IGNORED])


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
def test_every_token_is_its_label_or_ignored_and_images_have_their_places(tokenizer, sample):
    tokens = encode_chat(sample[0], tokenizer, sample[1])
    assert len(tokens.labels) == len(tokens.input_ids)
    pairs = list(zip(tokens.input_ids, tokens.labels, strict=True))
    assert all(label in (token, IGNORED) for token, label in pairs)
    assert any(label != IGNORED for _, label in pairs)
    assert len(tokens.image_positions) == sum(sample[1])
    assert tokens.image_positions == sorted(set(tokens.image_positions))
    assert {pairs[n] for n in tokens.image_positions} <= {(tokenizer.pad_token_id, IGNORED)}
    assert tokens.input_ids.count(tokenizer.pad_token_id) == sum(sample[1])


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
def test_every_prompt_is_how_the_whole_begins(tokenizer, sample):
    messages, counts = sample
    for k, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        images = sum(part == IMAGE for m in messages[:k] for part in m["content"])
        prompt = encode_prompt(messages[:k], tokenizer, counts[:images])
        whole = encode_chat(messages, tokenizer, counts)
        length = len(prompt.input_ids)
        assert whole.input_ids[:length] == prompt.input_ids
        assert whole.image_positions[: len(prompt.image_positions)] == prompt.image_positions
        assert set(prompt.labels) == {IGNORED}
        assert len(prompt.labels) == length
        assert whole.labels[length] != IGNORED or message["content"] == (IMAGE,)


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
def test_the_text_is_what_the_template_writes(tokenizer, sample):
    messages, counts = sample
    tokens = encode_chat(messages, tokenizer, [1] * len(counts))
    strings = [{"role": m["role"], "content": _marked(m["content"])} for m in messages]
    options = {} if tokenizer.chat_template else {"chat_template": PLAIN}
    written = tokenizer.apply_chat_template(strings, tokenize=False, **options)
    assert _shown(tokens, tokenizer) == written


def _marked(content):
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "<|pad|>") for part in content)


def _shown(tokens, tokenizer):
    assert {tokens.input_ids[n] for n in tokens.image_positions} <= {tokenizer.pad_token_id}
    return tokenizer.decode(tokens.input_ids)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (None, "the first, the<|im_end|>the<|im_end|>é, 日本, 🙂<|im_end|>"),
        (PLAIN, "the first, the<|im_end|>the<|im_end|>é, 日本, 🙂<|im_end|>"),
        (STRIPPING, " the first, the <|im_end|> the <|im_end|> é, 日本, 🙂 <|im_end|>"),
        (
            THINKING,
            "the first, the<|im_end|>the<|im_end|><think>\n\n</think>\n\né, 日本, 🙂<|im_end|>",
        ),
    ],
)
def test_answers_and_their_end_alone_are_supervised(make_tokenizer, template, expected):
    tokenizer = make_tokenizer(chat_template=template, pad_token="<|pad|>", eos_token="<|im_end|>")
    messages, counts = SAMPLES["several turns and images"]
    assert supervised(encode_chat(messages, tokenizer, counts), tokenizer) == expected


def test_white_space_of_an_answer_stays_where_the_template_keeps_it(plain):
    tokens = encode_chat(*_with_plain("system", plain))
    assert supervised(tokens, plain) == "\nthe end\n<|im_end|>"


def _with_plain(name, tokenizer):
    messages, counts = SAMPLES[name]
    return messages, tokenizer, counts


def test_an_answer_that_ends_like_a_turn_is_supervised_whole(plain):
    messages = [turn("user", "How?"), turn("assistant", "with <|im_end|> at the end")]
    assert supervised(encode_chat(messages, plain, []), plain) == (
        "with <|im_end|> at the end<|im_end|>"
    )


def test_images_lie_where_the_messages_have_them(plain):
    tokens = encode_chat(
        [turn("user", "a", IMAGE, "b", IMAGE), turn("assistant", "c")], plain, [2, 3]
    )
    assert _shown(tokens, plain).replace("<|pad|>", "#") == (
        "<|im_start|>user\na##b###<|im_end|>\n<|im_start|>assistant\nc<|im_end|>\n"
    )


def test_without_a_pad_token_images_are_filled_with_the_end_token(make_tokenizer):
    tokenizer = make_tokenizer(chat_template=PLAIN, eos_token="<|im_end|>")
    tokens = encode_chat(*_with_plain("one turn", tokenizer))
    assert {tokens.input_ids[n] for n in tokens.image_positions} == {tokenizer.eos_token_id}


def test_without_a_template_turns_end_with_its_own_token_or_else_eos(make_tokenizer):
    both = make_tokenizer(special=("<|im_end|>", "</s>"), eos_token="</s>")
    eos = make_tokenizer(special=("</s>",), eos_token="</s>")
    assert end_of_turn(both) == "<|im_end|>"
    assert end_of_turn(eos) == "</s>"
    tokens = encode_chat([turn("user", "Hi"), turn("assistant", "yes")], eos, [])
    assert supervised(tokens, eos) == "yes</s>"
    with pytest.raises(InputError, match=r"no chat template, no <\|im_end\|> and no token"):
        end_of_turn(make_tokenizer(special=("<s>",)))


@pytest.mark.parametrize("counts", [[], [1, 1]])
def test_another_number_of_images_is_an_error_with_the_sample(plain, counts):
    messages = [turn("user", IMAGE, "?"), turn("assistant", "!")]
    for encode, given in ((encode_chat, messages), (encode_prompt, messages[:1])):
        with pytest.raises(InputError) as raised:
            encode(given, plain, counts, name="set/7")
        assert str(raised.value) == (f"set/7: its messages name 1 images, but it has {len(counts)}")


def test_text_may_not_have_the_characters_that_stand_for_images(plain):
    messages = [turn("user", "a \ue0f2 b"), turn("assistant", "c")]
    with pytest.raises(
        InputError, match=r"^set/1: its text has one of the characters .*, used for"
    ):
        encode_chat(messages, plain, [], name="set/1")


def test_a_conversation_without_an_answer_is_an_error(plain):
    with pytest.raises(InputError, match=r"^set/1: there is no answer to learn from$"):
        encode_chat([turn("user", "a")], plain, [], name="set/1")


@pytest.mark.parametrize("messages", [[], [turn("user", "a"), turn("assistant", "b")]])
def test_a_prompt_ends_with_the_user(plain, messages):
    with pytest.raises(InputError, match=r"^set/1: a prompt ends with what the user says$"):
        encode_prompt(messages, plain, [], name="set/1")


LINE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
FAULTS = [
    (
        "{{ messages | length }}" + PLAIN,
        r"writes turns 1 to 1 otherwise when more follow, so answer 2",
    ),
    (LINE, r"changes answer 2, or closes it with no special token: '.*: the\\n'"),
    (PLAIN.replace("['content']", "['content'] | upper"), r"changes answer 2, or closes it"),
    ("{{ raise_exception('no system role') }}", r"refuses the messages \(no system role\)"),
    ("{% for m in messages %}{{ m.role }}{% endfor %}", r"writes 0 of 1 images"),
]


@pytest.mark.parametrize(("template", "message"), FAULTS)
def test_templates_that_cannot_be_used_are_errors(make_tokenizer, template, message):
    tokenizer = make_tokenizer(chat_template=template, eos_token="<|im_end|>")
    with pytest.raises(InputError, match=r"^set/1: the chat template " + message):
        encode_chat(
            [turn("user", "what", IMAGE), turn("assistant", "the")], tokenizer, [1], name="set/1"
        )


def test_truncation_cuts_text_at_the_end(plain):
    tokens = encode_chat(*_with_plain("one turn", plain))
    length = len(tokens.input_ids)
    assert truncate(tokens, length) is tokens
    cut = truncate(tokens, length - 3)  # its last letter, the end of the turn, a line feed
    assert cut.input_ids == tokens.input_ids[:-3]
    assert cut.labels == tokens.labels[:-3]
    assert cut.image_positions == tokens.image_positions


def test_truncation_never_cuts_images(plain):
    tokens = encode_chat(*_with_plain("several turns and images", plain))
    last = tokens.image_positions[-1]
    assert len(truncate(tokens, last + 1).image_positions) == 10
    with pytest.raises(InputError) as raised:
        truncate(tokens, last, name="set/1")
    assert str(raised.value) == (
        f"set/1: its images reach to token {last + 1}, but a sequence has {last};"
        " use a longer one (seq_len), or smaller images"
    )


def test_truncation_leaves_something_to_learn(plain):
    tokens = encode_chat(*_with_plain("no image", plain))
    first = next(n for n, label in enumerate(tokens.labels) if label != IGNORED)
    assert supervised(truncate(tokens, first + 1), plain) == "2"
    with pytest.raises(InputError) as raised:
        truncate(tokens, first, name="set/1")
    assert str(raised.value) == (
        f"set/1: no answer lies in the first {first} of its {len(tokens.input_ids)} tokens;"
        " use a longer sequence (seq_len)"
    )


def test_spelled_answers_read_the_same_and_have_a_token_a_letter(plain):
    messages = [turn("user", IMAGE, "the end?"), turn("assistant", "the mat\n2")]
    spelled = encode_chat(messages, plain, [3], spell=True)
    usual = encode_chat(messages, plain, [3])
    assert plain.decode(spelled.input_ids) == plain.decode(usual.input_ids)
    begins = spelled.labels.index(next(i for i in spelled.labels if i != IGNORED))
    assert spelled.input_ids[:begins] == usual.input_ids[:begins]  # the prompt is as ever
    answer = [i for i in spelled.labels if i != IGNORED]
    assert len(answer) == len("the mat\n2") + 1  # and the end of the turn, in one


def test_a_tokenizer_that_cannot_spell_is_an_error(make_tokenizer):
    tokenizer = make_tokenizer(chat_template=PLAIN)
    tokenizer.backend_tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=True)
    messages = [turn("user", "the end?"), turn("assistant", "the mat")]
    with pytest.raises(InputError, match=r"cannot spell.*--no-data\.phases\.0"):
        encode_chat(messages, tokenizer, [], spell=True)
