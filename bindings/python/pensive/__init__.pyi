from os import PathLike
from typing import Any, Callable, Iterable, Iterator, Literal, Mapping, Protocol, Sequence as _Seq
from typing import overload

__version__: str

Path = str | PathLike[str]
Ids = _Seq[int]
Log = Callable[[str, str], None]
SegmentName = Literal["prompt", "think", "answer"]
StopName = Literal["running", "end_token", "length", "guide", "cancelled", "error", "stop_text", "deadline"]
OriginName = Literal["prompt", "sampled", "forced"]

class Error(RuntimeError):
    code: str

class ModelInfo:
    family: str
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab_size: int
    max_positions: int
    is_tied: bool
    parameters: int
    weight_bytes: int
    precision: str
    device: str
    fingerprint: int

class Model:
    @staticmethod
    def load(
        path: Path,
        device: str = "auto",
        precision: Literal[
            "as_stored", "float32", "bfloat16", "float16", "float64"
        ] = "as_stored",
        log: Log | None = None,
        unknown_keys: Literal["refuse", "warn"] = "refuse",
    ) -> Model: ...
    @property
    def info(self) -> ModelInfo: ...
    @property
    def tokenizer(self) -> Tokenizer: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def max_positions(self) -> int: ...
    @property
    def stop_tokens(self) -> list[int]: ...
    @property
    def defaults(self) -> dict[str, float]: ...

class Tokenizer:
    @staticmethod
    def load(path: Path) -> Tokenizer: ...
    def encode(
        self, text: str, *, add_special: bool = True, parse_special: bool = True
    ) -> list[int]: ...
    def encode_chat(
        self,
        chat: Iterable[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        variables: Mapping[str, Any] | str | None = None,
        tools: Iterable[Mapping[str, Any]] | str | None = None,
        template: str = "",
    ) -> list[int]: ...
    def render_chat(
        self,
        chat: Iterable[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        variables: Mapping[str, Any] | str | None = None,
        tools: Iterable[Mapping[str, Any]] | str | None = None,
        template: str = "",
    ) -> str: ...
    def decode(self, ids: Ids, *, keep_special: bool = False) -> str: ...
    def find(self, token: str) -> int | None: ...
    def spelling(self, id: int) -> str | None: ...
    def is_special(self, id: int) -> bool: ...
    def __len__(self) -> int: ...
    @property
    def bos(self) -> int | None: ...
    @property
    def eos(self) -> int | None: ...
    @property
    def has_chat_template(self) -> bool: ...
    @property
    def chat_templates(self) -> list[str]: ...
    def with_names(self, names: Mapping[int, str]) -> Tokenizer: ...

class SoftVocab:
    def __init__(self, model: Model) -> None: ...
    @staticmethod
    def load(model: Model, path: Path, *, allow_other_model: bool = False) -> SoftVocab: ...
    @property
    def carried_from(self) -> str: ...
    def start(self, id: int) -> list[int]: ...
    def export_token(self, id: int, to: Path, token: str = "") -> dict[str, Any]: ...
    def save(self, path: Path, training: Mapping[str, Any] | str | None = None) -> None: ...
    def add(self, name: str, start_at_mean_of: Ids) -> int: ...
    def find(self, name: str) -> int | None: ...
    def name(self, id: int) -> str: ...
    def row(self, id: int) -> list[float]: ...
    def set_row(self, id: int, values: _Seq[float]) -> None: ...
    def __len__(self) -> int: ...
    @property
    def tokenizer(self) -> Tokenizer: ...
    @property
    def version(self) -> int: ...
    @property
    def model(self) -> Model: ...

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

class Problem:
    def __init__(
        self,
        question: str,
        reference: str,
        id: str = "",
        intermediates: list[str] = ...,
        target_tokens: int = 0,
    ) -> None: ...
    id: str
    question: str
    reference: str
    intermediates: list[str]
    target_tokens: int

class Response:
    def __init__(
        self,
        text: str,
        thinking: str = "",
        answer: str = "",
        think_tokens: int = 0,
        answer_tokens: int = 0,
        is_truncated: bool = False,
    ) -> None: ...
    text: str
    thinking: str
    answer: str
    think_tokens: int
    answer_tokens: int
    is_truncated: bool

class Judge:
    def __call__(self, problem: Problem, response: Response) -> float: ...

AnyJudge = Judge | Callable[[Problem, Response], float]

def correct(strict: bool = False) -> Judge: ...
def boxed() -> Judge: ...
def sum_judges(first: AnyJudge, second: AnyJudge, weight: float = 1.0) -> Judge: ...
def token_price(per_token: float) -> Judge: ...
def lcpo_exact(judge: AnyJudge, target_tokens: int = 0, per_token: float = 0.0003) -> Judge: ...
def lcpo_max(
    judge: AnyJudge, target_tokens: int = 0, per_token: float = 0.0003, offset: float = 0.5
) -> Judge: ...
def hybrid(judge: AnyJudge, ask: Callable[[str], str], strict: bool = True) -> Judge: ...
def grading_prompt(problem: Problem, response: Response) -> str: ...
def find_answer(response: str, strict: bool = False) -> str | None: ...
def final_answer(response: Response, strict: bool = False) -> str | None: ...
def same_answer(a: str, b: str) -> bool: ...

class TrainReport:
    step: int
    mean_reward: float
    mean_parts: list[float]
    mean_tokens: float
    truncated_share: float
    spread_share: float
    loss: float
    gradient_norm: float
    entropy_nats: float
    kl_nats: float
    clip_share: float
    mean_weight: float
    learning_rate: float
    row_norm: float
    row_distance: float
    mean_logprob_gap: float
    max_logprob_gap: float
    rollout_seconds: float
    judge_seconds: float
    update_seconds: float
    has_stopped: bool
    best_step: int

class Trainer:
    def __init__(
        self,
        engine: Engine,
        soft: SoftVocab,
        row: int,
        # None: the paper's, boxed and correct. A dict: each reward's judge, or judge and weight.
        judge: AnyJudge | Mapping[str, AnyJudge | tuple[AnyJudge, float]] | None = None,
        *,
        rollout: Request | Mapping[str, Any] | None = None,
        one_of: Iterable[BuiltinGuide | Guide] | None = None,
        answer_tokens: int = 0,
        truncated: Literal["judged", "zero", "masked"] = "judged",
        system: str | None = None,
        prompt_of: Callable[[Problem], Ids] | None = None,
        group_size: int = 16,
        branch: Literal["prompt", "soft_token"] = "prompt",
        advantage_scale: Literal["group", "batch", "none"] = "group",
        denominator: Literal["drawn_tokens", "suffix_tokens", "constant"] = "drawn_tokens",
        constant_tokens: int = 0,
        clip: float = 0.2,
        clip_high: float = 0.0,
        inner_steps: int = 1,
        max_importance_weight: float = 0.0,
        kl: float = 0.0,
        pull: float = 0.0,
        learning_rate: float = 0.02,
        rate_unit: Literal["absolute", "start_rms"] = "absolute",
        total_steps: int = 0,
        max_gradient_norm: float = 0.0,
        max_row_norm: float = 0.0,
        max_row_distance: float = 0.0,
        stop_errors: float = 3.0,
        seed: int = 0,
        max_batch_tokens: int = 16384,
    ) -> None: ...
    def step(self, problems: list[Problem]) -> TrainReport: ...
    @property
    def steps_done(self) -> int: ...
    @property
    def has_stopped(self) -> bool: ...
    def pass_rates(self, problems: list[Problem], judge: AnyJudge) -> list[float]: ...
    def save_checkpoint(self, path: Path) -> None: ...
    def resume(self, path: Path) -> None: ...

class ExamSample:
    problem: int
    sample: int
    score: float
    tokens: int
    first_answer: float
    stopped: StopName
    answer: str
    think_tokens: int
    answer_tokens: int
    probe_tokens: int
    seconds: float
    first_partial: float
    first_correct: float
    strict_score: float
    is_boxed: bool
    flops: float

class ExamResult:
    samples: list[ExamSample]
    problems: int
    accuracy: float
    standard_error: float
    low: float
    high: float
    mean_tokens: float
    mean_first_answer: float
    truncated_share: float
    mean_think_tokens: float
    mean_answer_tokens: float
    mean_probe_tokens: float
    seconds_p50: float
    seconds_p95: float
    mean_first_partial: float
    mean_first_correct: float
    strict_accuracy: float
    strict_low: float
    strict_high: float
    boxed_share: float
    mean_flops: float
    tokens_low: float
    tokens_high: float

class Scaling:
    control: float
    slope: float
    performance: float

class Share:
    value: float
    low: float
    high: float

class Paired:
    difference: float
    low: float
    high: float
    token_difference: float
    errors_removed: float
    errors_low: float
    errors_high: float
    p_value: float
    improved: int
    worsened: int
    detectable: float

def load_problems(
    path: Path,
    *,
    kind: Literal["plain", "gsm8k", "svamp", "math500", "aime", "math", "auto"] = "plain",
    question: str | None = None,
    answer: str | None = None,
    id: str | None = None,
    answer_after: str | None = None,
    body: str | None = None,
    broken: list[str] | None = None,
) -> list[Problem]: ...
def examine(
    engine: Engine,
    problems: list[Problem],
    judge: AnyJudge,
    *,
    request: Request | Mapping[str, Any] | None = None,
    samples: int = 1,
    seed: int = 0,
    system: str | None = None,
    prompt_of: Callable[[Problem], Ids] | None = None,
    progress: Callable[[int, int], None] | None = None,
    samples_file: Path | None = None,
    resume: bool = False,
) -> ExamResult: ...
def load_exam(samples_file: Path) -> ExamResult: ...
def summarized(samples: list[ExamSample], problems: int) -> ExamResult: ...
def scaling(
    runs: _Seq[ExamResult], ranges: _Seq[tuple[float, float]] = ()
) -> Scaling: ...
def pass_at_k(result: ExamResult, k: int) -> Share: ...
def majority_at_k(result: ExamResult, k: int) -> Share: ...
def compare(a: ExamResult, b: ExamResult, confidence: float = 0.95) -> Paired: ...
