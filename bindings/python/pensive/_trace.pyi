# What happened to a sequence, and what it is worth: stubs of pensive.
from typing import Callable, Iterable

from ._base import OriginName, Path, SegmentName, StopName
from ._model import Tokenizer

class TextEvent:
    segment: SegmentName
    index: int
    text: str

class TraceAction:
    position: int
    guide: str
    kind: str
    reason: str
    tokens: int
    taken_back: int
    draws: int
    text: str
    seconds: float

class Trace:
    prompt_tokens: int
    tokens: list[int]
    logprobs: list[float]
    drawn_logprobs: list[float]
    entropies_nats: list[float]
    segments: list[SegmentName]
    origins: list[OriginName]
    is_marker: list[int]
    is_taken_back: list[int]
    is_steered: list[int]
    seconds: list[float]
    more_json: str
    top_count: int
    top_tokens: list[int]
    top_logprobs: list[float]
    actions: list[TraceAction]
    probe_tokens: int
    stopped: StopName
    error: str
    stop_text: str
    seed: int
    path: list[int]
    def kept(self) -> list[int]: ...
    def decoded_tokens(self) -> int: ...
    def count(self, segment: SegmentName) -> int: ...

def save_traces(traces: Iterable[Trace], path: Path, *, append: bool = False) -> None: ...
def load_traces(path: Path) -> list[Trace]: ...
def salvage_traces(path: Path) -> tuple[list[Trace], int, str]: ...

class FoundAnswer:
    text: str
    position: int
    think_tokens: int
    is_final: bool
    is_right: bool

class Measures:
    think_tokens: int
    answer_tokens: int
    marker_tokens: int
    taken_back_tokens: int
    probe_tokens: int
    decoded_tokens: int
    forced_tokens: int
    steered_tokens: int
    tokens_to_answer: int
    share_to_answer: float
    seconds_to_answer: float
    seconds: float
    doubts: int
    doubt_share: float
    switches: int
    switch_interval: float
    final_answer: str | None
    is_right: bool | None
    answers: list[FoundAnswer]
    answer_changes: int
    first_think_tokens: int
    think_tokens_after: int
    eta: float
    overthink_score: float
    outcome_efficiency: float
    underthinking: float

def measure(
    trace: Trace,
    tokenizer: Tokenizer | None = None,
    *,
    reference: str = "",
    find: str | Callable[[str], str | None] | None = None,
    step_end: str = "\n",
    doubts: Iterable[str] = (),
    switches: Iterable[str] = (),
    beta: float = 0.1,
) -> Measures: ...
