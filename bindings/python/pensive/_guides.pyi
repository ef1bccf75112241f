# What steers, and what it is told: stubs of pensive.
from typing import Any, Literal, Protocol

from ._base import Ids, OriginName, SegmentName
from ._model import Tokenizer

class Moment:
    tokens: list[int]
    prompt_tokens: int
    token: int
    text: str
    tail: str
    segment: SegmentName
    next: SegmentName
    origin: OriginName
    completes: Literal["none", "think_open", "think_close", "answer_open", "answer_close"]
    marker_tokens: int
    pending_tokens: int
    think_tokens: int
    new_tokens: int
    logprob: float
    entropy_nats: float
    top_token: int
    top_logprob: float
    watched: list[float]

class Bias:
    def __init__(
        self, token: int, logit: float = 0.0, times_max_minus_mean: float = 0.0
    ) -> None: ...
    token: int
    logit: float
    times_max_minus_mean: float

class Proceed:
    def __init__(self, biases: list[Bias] = ...) -> None: ...
    biases: list[Bias]

class Allow:
    def __init__(self, tokens: Ids) -> None: ...
    mask: list[int]

class Force:
    def __init__(
        self, tokens: Ids = ..., replaces_last: int = 0, biases: list[Bias] = ...
    ) -> None: ...
    tokens: list[int]
    replaces_last: int
    biases: list[Bias]

class Close:
    def __init__(
        self,
        reason: Literal["budget", "brake", "other"] = "other",
        replaces_last: int = 0,
        within_tokens: int = 0,
    ) -> None: ...
    reason: str
    replaces_last: int
    within_tokens: int

class Probe:
    def __init__(
        self,
        *,
        from_back: int = 0,
        tokens: Ids = ...,
        stop_texts: list[str] = ...,
        temperature: float = 0.0,
        max_new_tokens: int = 16,
    ) -> None: ...
    from_back: int
    tokens: list[int]
    stop_texts: list[str]
    temperature: float
    max_new_tokens: int

class Stop:
    def __init__(self) -> None: ...

Action = Proceed | Allow | Force | Close | Probe | Stop

class ProbeReply(Protocol):
    tokens: list[int]
    logprobs: list[float]
    text: str
    is_refused: bool

class BuiltinGuide:
    @property
    def name(self) -> str: ...

class Guide:
    watches: Ids
    needs_markers: bool
    @property
    def name(self) -> str: ...
    def on_start(self, moment: Moment) -> Action | None: ...
    def on_token(self, moment: Moment) -> Action | None: ...
    def on_probe(self, reply: ProbeReply) -> Action | None: ...
    def on_done(self, action: Action, was_mine: bool) -> None: ...
    def clone(self) -> Guide: ...

def budget(max_think_tokens: int = 2048, *, window_tokens: int | None = None) -> BuiltinGuide: ...
def continue_thinking(
    with_: Ids, times: int = 1, *, max_think_tokens: int = ...
) -> BuiltinGuide: ...
def margin_brake(
    closer: Ids, *, max_margin_nats: float = 0.1, min_think_tokens: int = 0
) -> BuiltinGuide: ...
def guide(spec: str, tokenizer: Tokenizer | None = None) -> BuiltinGuide: ...
def guides() -> list[dict[str, Any]]: ...
def find_markers(tokenizer: Tokenizer) -> dict[str, list[int]] | None: ...
def markers_of(tokenizer: Tokenizer, open: str, close: str) -> dict[str, list[int]]: ...
def is_sentence_end(text: str) -> bool: ...
