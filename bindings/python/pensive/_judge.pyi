# Answers and judges: stubs of pensive.
from typing import Callable

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

class ResponseSegment:
    def __init__(
        self, text: str, begin: int = 0, tokens: int = 0, is_thinking: bool = False
    ) -> None: ...
    text: str
    begin: int
    tokens: int
    is_thinking: bool

class Response:
    def __init__(
        self,
        text: str,
        thinking: str = "",
        answer: str = "",
        think_tokens: int = 0,
        answer_tokens: int = 0,
        is_truncated: bool = False,
        segments: list[ResponseSegment] = ...,
        tokens: int = 0,
    ) -> None: ...
    text: str
    thinking: str
    answer: str
    think_tokens: int
    answer_tokens: int
    is_truncated: bool
    segments: list[ResponseSegment]
    tokens: int

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
