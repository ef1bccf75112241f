# Requests, sequences, engines, servers: stubs of pensive.
from typing import Any, Callable, Iterable, Iterator, Literal, Mapping, Sequence as _Seq, overload

from ._base import Ids, Log, Path, SegmentName
from ._guides import BuiltinGuide, Guide
from ._judge import Response
from ._model import Model, SoftVocab
from ._trace import TextEvent, Trace

class Request:
    def __init__(
        self,
        *,
        prompt: Ids | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        seed: int | None = None,
        max_new_tokens: int | None = None,
        guides: Iterable[BuiltinGuide | Guide] | None = None,
        markers: Mapping[str, Ids] | None = None,
        closing: Ids | None = None,
        begins_in: SegmentName | None = None,
        extra_stop_tokens: Ids | None = None,
        ignore_end_tokens: bool | None = None,
        sample: int | None = None,
        min_p: float | None = None,
        repetition_penalty: float | None = None,
        presence_penalty: float | None = None,
        frequency_penalty: float | None = None,
        logit_bias: Mapping[int, float] | None = None,
        allowed_tokens: Ids | None = None,
        banned_tokens: Ids | None = None,
        stop_texts: str | _Seq[str] | None = None,
        timeout_seconds: float | None = None,
        top_logprobs: int | None = None,
        prompt_logprobs: bool | None = None,
    ) -> None: ...

class Sequence:
    @property
    def finished(self) -> bool: ...
    @property
    def trace(self) -> Trace: ...
    @property
    def response(self) -> Response: ...
    def take_events(self) -> list[TextEvent]: ...
    def fork(self, draws: Literal["same", "fresh"] = "fresh") -> Sequence: ...
    def feed(self, ids: Ids) -> None: ...
    def rewind(self, tokens: int, draws: Literal["same", "fresh"] = "fresh") -> None: ...
    def cancel(self) -> None: ...

class Stream(Iterator[TextEvent]):
    def __iter__(self) -> Stream: ...
    def __next__(self) -> TextEvent: ...

class MemoryPlan:
    device: str
    memory_bytes: int
    weight_bytes: int
    soft_bytes: int
    cache_bytes: int
    prompt_step_bytes: int
    decode_step_bytes: int
    training_bytes: int
    runtime_bytes: int
    cache_tokens: int
    page_tokens: int
    max_positions: int
    context: int
    most_sequences: int
    bytes: int
    fits: bool
    to_lower: str
    def sequences(self, positions: int) -> int: ...

# engine_options: the keyword arguments of Engine
def plan_memory(
    path: Path,
    *,
    device: str = "auto",
    precision: Literal[
        "as_stored", "float32", "bfloat16", "float16", "float64"
    ] = "as_stored",
    unknown_keys: Literal["refuse", "warn"] = "refuse",
    memory_bytes: int = 0,
    context: int = 0,
    max_batch_tokens: int | None = None,
    max_new_tokens: int | None = None,
    logprobs: Literal["fast", "exact"] | None = None,
    **engine_options: Any,
) -> MemoryPlan: ...

class EngineCounters:
    steps: int
    computed_tokens: int
    reused_tokens: int
    preemptions: int
    live: int
    waiting: int
    pages: int
    free_pages: int
    ahead_steps: int
    ahead_dropped: int

class Engine:
    def __init__(
        self,
        model: Model,
        *,
        soft: SoftVocab | None = None,
        row_invariant: bool = False,
        page_tokens: int = 16,
        cache_tokens: int = 0,
        max_live_sequences: int = 256,
        max_tokens_per_step: int = 2048,
        reuse_prefixes: bool = True,
        graphs: bool = True,
        run_ahead: bool = True,
        log: Log | None = None,
    ) -> None: ...
    @overload
    def start(self, request: Request) -> Sequence: ...
    @overload
    def start(
        self,
        *,
        prompt: str | Ids | None = None,
        chat: Iterable[Mapping[str, Any]] | None = None,
        chat_variables: Mapping[str, Any] | str | None = None,
        tools: Iterable[Mapping[str, Any]] | str | None = None,
        chat_template: str | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        seed: int | None = None,
        max_new_tokens: int | None = None,
        guides: Iterable[BuiltinGuide | Guide] | None = None,
        markers: Mapping[str, Ids] | None = None,
        closing: Ids | None = None,
        begins_in: SegmentName | None = None,
        extra_stop_tokens: Ids | None = None,
        ignore_end_tokens: bool | None = None,
        sample: int | None = None,
        min_p: float | None = None,
        repetition_penalty: float | None = None,
        presence_penalty: float | None = None,
        frequency_penalty: float | None = None,
        logit_bias: Mapping[int, float] | None = None,
        allowed_tokens: Ids | None = None,
        banned_tokens: Ids | None = None,
        stop_texts: str | _Seq[str] | None = None,
        timeout_seconds: float | None = None,
        top_logprobs: int | None = None,
        prompt_logprobs: bool | None = None,
    ) -> Sequence: ...
    def submit(self, request: Request | None = None, **fields: Any) -> Sequence: ...
    def score(self, prompt: Ids, continuation: Ids) -> list[float]: ...
    def step(self) -> int: ...
    @overload
    def finish(self, sequence: Sequence) -> None: ...
    @overload
    def finish(self, sequences: list[Sequence]) -> None: ...
    def stream(self, sequence: Sequence) -> Stream: ...
    def clear_prefixes(self) -> None: ...
    @property
    def counters(self) -> EngineCounters: ...
    @property
    def model(self) -> Model: ...

class ServerCounters:
    queued: int
    running: int
    submitted: int
    refused: int
    finished: int
    cancelled: int
    expired: int
    failed: int
    engine: EngineCounters

class Job:
    @property
    def finished(self) -> bool: ...
    def wait(self, seconds: float | None = None) -> bool: ...
    def take_events(self) -> list[TextEvent]: ...
    def cancel(self) -> None: ...
    @property
    def trace(self) -> Trace: ...

class Server:
    def __init__(self, engine: Engine, *, max_queued: int = 256) -> None: ...
    def submit(
        self,
        request: Request | None = None,
        listener: Callable[[Job, list[TextEvent], bool], Any] | None = None,
        **fields: Any,
    ) -> Job: ...
    def drain(self) -> None: ...
    def stop(self) -> None: ...
    @property
    def counters(self) -> ServerCounters: ...
    def __enter__(self) -> Server: ...
    def __exit__(self, *exception: Any) -> None: ...
