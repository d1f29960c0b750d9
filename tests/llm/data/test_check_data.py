"""`check_file`: says what a file holds, and how long it is for a tokenizer."""

import json

import pytest

from irl_align.core.errors import UserError
from irl_align.llm.data.check import check_file, guess_kind

USER = {"role": "user", "content": "2+2?"}
FOUR = {"role": "assistant", "content": "4"}


def write(path, rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        ([{"prompt": "x", "completion": "y"}], "demonstrations"),
        ([{"messages": [USER, FOUR]}], "demonstrations"),
        ([{"conversations": [USER, FOUR]}], "demonstrations"),
        ([{"messages": [USER, FOUR]}] * 3 + [{"messages": [USER]}], "demonstrations"),
        ([{"messages": [USER]}], "prompts"),
        ([{"prompt": "x"}], "prompts"),
        ([{"question": "x", "level": 2}], "prompts"),
        ([{"prompt": "x", "chosen": "a", "rejected": "b"}], "preferences"),
        ([{"real": [USER, FOUR], "generated": [USER, FOUR]}], "preferences"),
        ([{"prompt": "x", "reponse": "y"}], "demonstrations"),
        ([{"prompt": "x", "chosen": "a", "rejcted": "b"}], "preferences"),
        ([{"text": "x"}], "demonstrations"),
    ],
)
def test_kind_is_guessed_from_the_columns(tmp_path, rows, kind):
    assert guess_kind(write(tmp_path / "a.jsonl", rows)) == kind


def test_slip_in_a_column_is_an_error_and_not_another_kind(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"prompt": "x", "reponse": "y"}] * 9)
    with pytest.raises(UserError, match="'reponse' looks like 'response'") as caught:
        check_file(path)
    assert "rows 1, 2, 3, 4, 5: " in str(caught.value) and "and 4 more" in str(caught.value)


def test_kind_can_be_named(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"prompt": "x", "completion": "y"}])
    assert check_file(path).kind == "demonstrations"
    assert check_file(path, "prompts").kind == "prompts"
    with pytest.raises(UserError, match="cannot be used as preferences"):
        check_file(path, "preferences")
    with pytest.raises(UserError, match="accepted are auto"):
        check_file(path, "demos")


def test_drop_reports_instead(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"prompt": "x", "response": r} for r in ("y", "", " ")])
    with pytest.raises(UserError, match="2 of 3 rows"):
        check_file(path)
    assert check_file(path, on_bad_rows="drop").dropped == {"empty response": 2}


class WordTokenizer:
    """As much of a tokenizer as is needed: words, and the template [role] text [end]."""

    chat_template: str | None = "words"
    takes_system = True

    def __call__(self, texts, add_special_tokens):
        assert not add_special_tokens
        return {"input_ids": [text.split() for text in texts]}

    def apply_chat_template(self, messages, tokenize, add_generation_prompt):
        from jinja2 import TemplateError

        assert not tokenize
        if messages[0]["role"] == "system" and not self.takes_system:
            raise TemplateError("System role not supported")
        text = " ".join(f"[{m['role']}] {m['content']} [end]" for m in messages)
        return text + " [assistant]" * add_generation_prompt


def test_token_lengths(tmp_path):
    rows = [{"prompt": "a b", "response": "c " * n} for n in (1, 2, 30)]
    report = check_file(write(tmp_path / "a.jsonl", rows), tokenizer=WordTokenizer(), max_length=9)
    assert report.tokens["prompt"].max == 5
    assert report.tokens["prompt + response"].max == 4 + 32
    assert report.over_max_length == 1
    assert "1 over 9 tokens" in report.render()
    assert any("1 of 3 are longer than 9 tokens" in warning for warning in report.warnings)


def test_token_lengths_of_preferences_and_prompts(tmp_path):
    pair = {"prompt": "a", "chosen": "b", "rejected": "c c"}
    report = check_file(write(tmp_path / "a.jsonl", [pair] * 300), tokenizer=WordTokenizer())
    assert list(report.tokens) == ["prompt", "prompt + chosen", "prompt + rejected"]
    assert report.tokens["prompt + rejected"].mean == 7
    report = check_file(write(tmp_path / "b.jsonl", [{"prompt": "a"}]), tokenizer=WordTokenizer())
    assert list(report.tokens) == ["prompt"]


def test_tokenizer_without_template_is_said(tmp_path):
    tokenizer = WordTokenizer()
    tokenizer.chat_template = None
    path = write(tmp_path / "a.jsonl", [{"prompt": "a b", "response": "c"}])
    report = check_file(path, tokenizer=tokenizer, max_length=3)
    assert report.tokens["prompt + response"].max == 3 and report.over_max_length == 0
    assert "no chat template" in report.warnings[0]


def test_template_that_refuses_a_conversation_names_the_record(tmp_path):
    tokenizer = WordTokenizer()
    tokenizer.takes_system = False
    rows = [{"prompt": "x", "response": "y"}, {"prompt": "x", "response": "y", "system": "z"}]
    with pytest.raises(UserError, match=r"record a:2: .*System role not supported"):
        check_file(write(tmp_path / "a.jsonl", rows), tokenizer=tokenizer)
