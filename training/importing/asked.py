"""How a model is asked whose pair stands within a whole prompt: by its chat template, and the words of its answer.

Such templates have a place for a message of the role `query` and one of the role `document`, as sentence-transformers
and vLLM fill them, and often one of the role `system` for an instruction. Jinja runs in the sandbox of transformers.
"""

from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from pydantic import ValidationError
from transformers import PreTrainedTokenizerFast

from relevance.errors import ConfigError
from relevance.text.prompt import CANDIDATE, QUERY, Prompt
from training.importing.options import ImportOptions
from training.importing.own_files import OwnFiles

TEMPLATES = {path.stem: path for path in Path(__file__).parent.glob("*.jinja")}
PLACES = (("query", QUERY), ("document", CANDIDATE))
EXPECTED = (
    f"expected a text or a Jinja template in which {QUERY} and {CANDIDATE}, or the messages of the roles query and "
    "document, stand once each, in this order"
)


def asked_prompt(
    name: str, tokenizer: PreTrainedTokenizerFast, files: OwnFiles, options: ImportOptions, answers: tuple[str, str]
) -> Prompt | None:
    """Return the prompt of --template, else that of the model's own chat template; None where it has none for pairs.

    `answers` are the words of yes and no. Raises ConfigError where --template is no such template.
    """
    instruction = files.prompt() if options.prompt is None else options.prompt
    if options.template is None:
        if tokenizer.chat_template is None:
            return None
        text = _rendered(tokenizer, instruction, files.template_arguments())
        if QUERY not in text or CANDIDATE not in text:
            return None  # a template of conversations
        source = f"model {name}: its chat template"
    else:
        source = f"--template {options.template}"
        arguments = files.template_arguments() | {"chat_template": _read(options.template)}
        text = _rendered(tokenizer, instruction, arguments)
    try:
        return Prompt(text=text, yes=answers[0], no=answers[1], breaks_with_query=True)
    except ValidationError:
        raise ConfigError(f"{source} gives {text[:300]!r}; {EXPECTED}") from None


def answer_words(
    name: str, tokenizer: PreTrainedTokenizerFast, files: OwnFiles, options: ImportOptions
) -> tuple[tuple[int, int], tuple[str, str]]:
    """Return the token ids of the answers yes and no, and their words.

    The options come first, then a CrossEncoder's own files, then the words `yes` and `no`. Raises ConfigError where one
    is not one token, both are the same, or the model compares no two of them.
    """
    own_yes, own_no = files.answers()
    if own_yes is not None and own_no is None and options.no is None:
        raise ConfigError(
            f"model {name}: its score is the logit of {tokenizer.decode([own_yes])!r} alone; expected one that "
            "compares two answers, or --no with the other one"
        )
    pairs = (("yes", options.yes, own_yes), ("no", options.no, own_no))
    ids = [_token(tokenizer, option, word, own) for option, word, own in pairs]
    if ids[0] == ids[1]:
        raise ConfigError(f"--yes and --no: both are the token {tokenizer.decode(ids[:1])!r}; expected two")
    return (ids[0], ids[1]), (tokenizer.decode(ids[:1]), tokenizer.decode(ids[1:]))


def _token(tokenizer: PreTrainedTokenizerFast, option: str, word: str | None, own: int | None) -> int:
    if word is None and own is not None:
        if own >= len(tokenizer):
            raise ConfigError(
                f"token {own} of its answer: its tokenizer has {len(tokenizer)} tokens; expected --{option}"
            )
        return own
    ids: list[int] = tokenizer.encode(word or option, add_special_tokens=False)
    if len(ids) != 1:
        tokens = ", ".join(map(repr, tokenizer.convert_ids_to_tokens(ids)))
        raise ConfigError(
            f"--{option} {word or option!r}: its tokens are {tokens}; expected one token of the vocabulary"
        )
    return ids[0]


def _rendered(tokenizer: PreTrainedTokenizerFast, instruction: str, arguments: dict[str, Any]) -> str:
    """Return a template's text with both places in it, or as much as it gives."""
    parts = [*([("system", instruction)] if instruction else []), *PLACES]
    text = ""
    for structured in (False, True):  # contents have two forms; a template reads one of them
        messages = [
            {"role": role, "content": [{"type": "text", "text": content}] if structured else content}
            for role, content in parts
        ]
        try:
            text = str(tokenizer.apply_chat_template(messages, tokenize=False, **arguments))
        except (TemplateError, TypeError, ValueError) as error:  # refuses the roles or the form; or is no template
            text = text or f"{type(error).__name__}: {error}"
        else:
            if QUERY in text and CANDIDATE in text:
                return text
    return text


def _read(template: str) -> str:
    try:
        return TEMPLATES.get(template, Path(template)).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        names = ", ".join(sorted(TEMPLATES))
        raise ConfigError(f"--template {template}: cannot be read ({reason}); expected {names}, or a file") from None
