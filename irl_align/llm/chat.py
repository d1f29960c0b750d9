"""Chat templates: the one way in which text reaches a model.

A reward model and a policy each render messages by their **own** template; token ids never cross
from one model to the other. A completion that was cut off must not look finished, so it is
rendered open: the generation prompt, the text, and nothing after it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from irl_align.core.errors import UserError
from irl_align.llm.data.schema import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "prepare_tokenizer",
    "render",
    "render_prompt",
    "require_chat_template",
    "response_tokens",
    "template_hash",
]


def require_chat_template(tokenizer: PreTrainedTokenizerBase, where: str) -> str:
    """Return the template's text, or raise a :class:`UserError` that names `where`."""
    template = getattr(tokenizer, "chat_template", None)
    if not template:
        raise UserError(
            f"{where}: the tokenizer has no chat template, so messages cannot be rendered. "
            "Set model.chat_template to a Jinja file (configs/llm/templates has one for plain "
            "prompts), put a chat_template.jinja beside the tokenizer files (copy it from the "
            "instruct version of the same model), or start from an instruct model."
        )
    return template if isinstance(template, str) else str(template)


def template_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """First 16 hex digits of the SHA-256 of the chat template's text."""
    template = require_chat_template(tokenizer, "template_hash")
    return hashlib.sha256(template.encode()).hexdigest()[:16]


def prepare_tokenizer(tokenizer: PreTrainedTokenizerBase, where: str) -> PreTrainedTokenizerBase:
    """Give `tokenizer` a chat template check and a pad token that differs from its EOS.

    With pad == EOS a score read at "the last token that is no padding" cannot see the EOS, and
    masked losses never train it. No token is added to the vocabulary: the unknown token or a
    reserved special token is taken, so embeddings keep their size.
    """
    require_chat_template(tokenizer, where)
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id != tokenizer.eos_token_id:
        return tokenizer
    used = {tokenizer.eos_token_id, tokenizer.bos_token_id}
    candidates: list[int] = []
    if tokenizer.unk_token_id is not None:
        candidates.append(tokenizer.unk_token_id)
    template = require_chat_template(tokenizer, where)
    for token_id, token in sorted(getattr(tokenizer, "added_tokens_decoder", {}).items()):
        if token.special and str(token) not in template:
            candidates.append(token_id)
    for token_id in candidates:
        if token_id not in used:
            tokenizer.pad_token = tokenizer.convert_ids_to_tokens(token_id)
            return tokenizer
    raise UserError(
        f"{where}: the tokenizer's pad token is its EOS token and it has no spare special token. "
        "Set a pad token of its own (tokenizer.pad_token = ...) and save it beside the model."
    )


def _plain(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": m["role"], "content": m["content"]} for m in messages]


def render_prompt(tokenizer: PreTrainedTokenizerBase, prompt: Sequence[Message]) -> str:
    """The prompt's text up to where the assistant's answer starts."""
    text = tokenizer.apply_chat_template(_plain(prompt), tokenize=False, add_generation_prompt=True)
    return str(text)


def render(
    tokenizer: PreTrainedTokenizerBase,
    prompt: Sequence[Message],
    response: str,
    *,
    finished: bool = True,
) -> str:
    """The whole conversation as text; it ends with the response's own when not `finished`."""
    messages = [*_plain(prompt), {"role": "assistant", "content": response}]
    whole = str(tokenizer.apply_chat_template(messages, tokenize=False))
    if finished:
        return whole
    # What the template puts between prompt and response (often nothing, in a plain template a
    # space) belongs to both forms, or it would tell finished and cut-off answers apart.
    start = whole.rfind(response) if response else -1
    if start < 0:
        return render_prompt(tokenizer, prompt) + response
    return whole[: start + len(response)]


def response_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of already rendered text: the template has put every special token in place, so
    none is added (a doubled BOS is a classic source of wrong scores)."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
