"""pensive: reasoning models, steered while they think.

    import pensive

    model = pensive.Model.load("examples/reasoner")
    engine = pensive.Engine(model)
    answer = engine.start(chat=[{"role": "user", "content": "3 * 4 + 5"}],
                          guides=[pensive.budget(max_think_tokens=200)])
    for event in engine.stream(answer):
        print(event.segment, event.text)

Everything that goes wrong is a pensive.Error whose `code` says what kind of trouble it is. One
thread at a time steps an engine; a Model, a Tokenizer and a Judge serve any number of threads.
"""

import copy as _copy

from . import _torch

_torch.open_libraries()

from ._pensive import (  # noqa: E402  (libtorch must be there first)
    Allow,
    Bias,
    BuiltinGuide,
    Close,
    Engine,
    EngineCounters,
    Error,
    ExamResult,
    ExamSample,
    Force,
    FoundAnswer,
    Job,
    Judge,
    Measures,
    MemoryPlan,
    Model,
    ModelInfo,
    Moment,
    Paired,
    Probe,
    Problem,
    Proceed,
    Request,
    Response,
    ResponseSegment,
    Scaling,
    Sequence,
    Server,
    ServerCounters,
    Share,
    SoftVocab,
    Stop,
    Stream,
    TextEvent,
    Tokenizer,
    Trace,
    TraceAction,
    Trainer,
    TrainReport,
    __version__,
    boxed,
    budget,
    compare,
    continue_thinking,
    correct,
    examine,
    final_answer,
    find_answer,
    find_markers,
    grading_prompt,
    guide,
    guides,
    hybrid,
    is_sentence_end,
    lcpo_exact,
    lcpo_max,
    load_exam,
    load_problems,
    load_traces,
    majority_at_k,
    margin_brake,
    markers_of,
    measure,
    pass_at_k,
    plan_memory,
    salvage_traces,
    same_answer,
    save_traces,
    scaling,
    sum_judges,
    summarized,
    token_price,
)


class Guide:
    """A guide of your own: a small state machine that belongs to one sequence.

    An instance given to a request is a prototype: every sequence, and every fork, gets a clone().
    Methods return an action (Proceed, Allow, Force, Close, Probe, Stop) or None to go on. An
    exception ends its own sequence, whose trace says "error"; others go on.
    """

    #: Tokens whose logprobs every moment shall hold, in `moment.watched`.
    watches = ()
    #: Whether this guide means nothing without thinking markers.
    needs_markers = False

    @property
    def name(self):
        """What traces call this guide."""
        return type(self).__name__

    def on_start(self, moment):
        """Called once before the first token; `moment.token` is the last of the prompt."""

    def on_token(self, moment):
        """Called after every token, forced ones too."""
        raise NotImplementedError("expected a guide with on_token(self, moment)")

    def on_probe(self, reply):
        """Receives what a Probe decoded: reply.tokens, .logprobs, .text, .is_refused."""

    def on_done(self, action, was_mine):
        """Told what was really carried out, whoever asked for it."""

    def clone(self):
        """A guide for another sequence, equal to this one. Models and the like are shared."""
        return _copy.deepcopy(self)


__all__ = [name for name in globals() if not name.startswith("_")] + ["__version__"]
