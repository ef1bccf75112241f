"""Makes tests/data/text/published.json: what Transformers makes of the chat templates of published models.

    python tests/make_chat_data.py

Needs transformers 5 and jinja2. tests/data/text/published holds the templates in the form in which the models' makers
publish them with their checkpoints (SmolLM2, Llama 2, 3 and 3.1, TinyLlama, Qwen2, Qwen2.5, Qwen3, Mistral 7B v0.2 and
v0.3, DeepSeek-R1-Distill)."""
import json
import pathlib

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

FOLDER = pathlib.Path(__file__).parent / "data" / "text"

SYSTEM = {"role": "system", "content": "  Be brief; answer in \"UTF-8\" — bitte. "}
USER = {"role": "user", "content": "Is 7 < 12 & odd?\n"}
ANSWER = {"role": "assistant", "content": "<think>\n7 is odd.\n\n</think>\n\nYes, it's odd. "}
AGAIN = {"role": "user", "content": "Grüße, 東京 😀 <|im_end|>"}


def call(number, **arguments):
    return {"id": f"call0000{number}", "type": "function",
            "function": {"name": "weather", "arguments": arguments}}


CALLS = {"role": "assistant", "content": "", "tool_calls": [call(1, place="Köln", days=3)]}
TWO_CALLS = {"role": "assistant", "content": "Both.", "tool_calls": [
    call(1, place="Köln", exact=1.50, none=None), call(2, place="a \"b\" <c>", days=[1, 2])]}
RESULTS = [{"role": "tool", "tool_call_id": "call00001", "content": "{\"rain\": 0.1}"},
           {"role": "tool", "tool_call_id": "call00002", "content": "sun"}]
TEXT_ARGUMENTS = {"role": "assistant", "content": None, "tool_calls": [
    {"id": "call00001", "type": "function", "function": {"name": "weather", "arguments": "{\"place\": \"Köln\"}"}}]}
REASONED = {"role": "assistant", "content": "\nYes.", "reasoning_content": "\nSeven is odd.\n"}
REASONED_OTHERWISE = {"role": "assistant", "reasoning": "Seven is odd.", "content": "Yes.", "refusal": None}
PARTS = {"role": "user", "content": [{"type": "text", "text": "part one"}, {"type": "text", "text": "part two"}]}

CHATS = {
    "user": [USER],
    "system": [SYSTEM, USER],
    "turns": [SYSTEM, USER, ANSWER, AGAIN],
    "answered": [USER, ANSWER],
    "called": [SYSTEM, USER, CALLS, RESULTS[0]],
    "called twice": [USER, TWO_CALLS, *RESULTS],
    "called and answered": [USER, CALLS, RESULTS[0], {"role": "assistant", "content": "Rain."}, AGAIN],
    "text arguments": [USER, TEXT_ARGUMENTS, RESULTS[0]],
    "reasoned": [USER, REASONED, AGAIN, REASONED],
    "reasoned otherwise": [USER, REASONED_OTHERWISE],
    "parts": [PARTS],
    "two users": [USER, AGAIN],
}
TOOLS = [{"type": "function",
          "function": {"name": "weather", "description": "Looks up <b>the</b> weather & 'wind'",
                       "parameters": {"type": "object", "required": ["place"], "properties": {
                           "place": {"type": "string", "description": "Größe"},
                           "days": {"type": "integer", "default": 3, "minimum": 0.5}}}}},
         {"type": "function", "function": {"name": "now", "parameters": {}}}]
VARIABLES = [{}, {"enable_thinking": False}, {"enable_thinking": True, "date_string": "1 Jan 2026"},
             {"tools_in_user_message": False, "builtin_tools": ["code_interpreter", "weather"]}]


def tokenizer(template):
    made = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), bos_token="<s>", eos_token="</s>")
    made.chat_template = template
    return made


def render(made, chat, tools, variables, prompt):
    try:
        return {"rendered": made.apply_chat_template(
            json.loads(json.dumps(chat)), tools=tools, tokenize=False, add_generation_prompt=prompt, **variables)}
    except Exception as error:  # the refusal is what is recorded; the engine's own words are not
        is_own = "exceptions.TemplateError" in str(type(error))
        return {"refused": str(error) if is_own else ""}


def main():
    cases = []
    for path in sorted((FOLDER / "published").glob("*.jinja")):
        made = tokenizer(path.read_text(encoding="utf-8"))
        for name, chat in CHATS.items():
            for tools in (None, TOOLS):
                for number, variables in enumerate(VARIABLES):
                    if number and (name not in ("turns", "called") or (tools is None) == (number == 3)):
                        continue
                    for prompt in (True, False) if name in ("turns", "called", "answered") else (True,):
                        cases.append({"template": path.stem, "chat": name, "tools": tools is not None,
                                      "prompt": prompt, "variables": variables,
                                      **render(made, chat, tools, variables, prompt)})
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    head = json.dumps({"chats": CHATS, "tools": TOOLS}, ensure_ascii=False)[1:-1]
    (FOLDER / "published.json").write_text(f"{{{head},\n\"cases\": [\n{lines}\n]}}\n", encoding="utf-8")
    print(len(cases), "cases,", sum("refused" in case for case in cases), "refused")


if __name__ == "__main__":
    main()
