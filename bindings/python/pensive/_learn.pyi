# Training and exams: stubs of pensive.
from typing import Any, Callable, Iterable, Literal, Mapping, Sequence as _Seq

from ._base import Ids, Path, StopName
from ._engine import Engine, Request
from ._guides import BuiltinGuide, Guide
from ._judge import AnyJudge, Problem
from ._model import SoftVocab

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
        # "exact": the bits that tokens were drawn with; the engine must be row-invariant.
        logprobs: Literal["fast", "exact"] = "fast",
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
        max_batch_tokens: int = 4096,
        # What this run is of, for resume() to compare: which problems, what callables do.
        run: str = "",
    ) -> None: ...
    def step(self, problems: list[Problem]) -> TrainReport: ...
    @property
    def steps_done(self) -> int: ...
    @property
    def has_stopped(self) -> bool: ...
    @property
    def last_report(self) -> TrainReport | None: ...
    def check_prompt(self, problem: Problem) -> None: ...
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
    sample_error: float
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
    kind: Literal["plain", "gsm8k", "svamp", "math500", "aime", "math", "auto"] = "auto",
    question: str | None = None,
    answer: str | None = None,
    id: str | None = None,
    answer_after: str | None = None,
    body: str | None = None,
    intermediates: str | None = None,
    target_tokens: str | None = None,
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
    # Goes on with samples of these problems and seed; judge, request, engine are not compared.
    resume: bool = False,
    overwrite: bool = False,
) -> ExamResult: ...
def load_exam(samples_file: Path) -> ExamResult: ...
def summarized(samples: list[ExamSample], problems: int) -> ExamResult: ...
def scaling(
    runs: _Seq[ExamResult], ranges: _Seq[tuple[float, float]] = ()
) -> Scaling: ...
def pass_at_k(result: ExamResult, k: int) -> Share: ...
def majority_at_k(result: ExamResult, k: int) -> Share: ...
def compare(a: ExamResult, b: ExamResult, confidence: float = 0.95) -> Paired: ...
