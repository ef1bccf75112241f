# What every room names: stubs of pensive.
from os import PathLike
from typing import Callable, Literal, Sequence as _Seq

Path = str | PathLike[str]
Ids = _Seq[int]
Log = Callable[[str, str], None]
SegmentName = Literal["prompt", "think", "answer"]
StopName = Literal["running", "end_token", "length", "guide", "cancelled", "error", "stop_text", "deadline"]
OriginName = Literal["prompt", "sampled", "forced"]

class Error(RuntimeError):
    code: str
