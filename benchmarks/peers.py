"""pensive beside Transformers and llama.cpp on one checkpoint, in turns: the same threads, precision and shapes.

    python benchmarks/peers.py BENCH MODEL [--device cpu] [--threads 2] [--rounds 3] [--gguf FOLDER] [--out FILE]

BENCH is the built pensive-bench. Every round runs all of them, one after the other, so that a machine that slows down
slows all; a ratio is the median of its rounds' ratios, each within one round. One JSON line a case and peer.

Decode: 95 tokens after 65; prefill: 512 tokens, the last one's logits. Ours draws its tokens and keeps their
statistics; Transformers takes the likeliest; llama.cpp draws none. FOLDER holds GGUF files of the same weights, made by
`peers.py --make-gguf FOLDER` from what tests/make_smollm2.py unpacks. Needs torch, transformers, llama-cpp-python.
"""

import argparse
import ctypes
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

PROMPT, NEW, LONG = 64, 96, 512  # as pensive-bench --single has them
GGUF_TYPES = {"float32": 0, "bfloat16": 32}  # llama.cpp's numbers of file types


def by_transformers(model, device):
    """tokens/s of greedy generation and of one forward over a long prompt."""
    import torch
    ids = torch.randint(100, model.config.vocab_size - 100, (1, PROMPT), device=device)
    long = torch.randint(100, model.config.vocab_size - 100, (1, LONG), device=device)
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None

    def seconds(call):
        wait()
        began = time.perf_counter()
        call()
        wait()
        return time.perf_counter() - began

    generate = dict(do_sample=False, pad_token_id=0)
    with torch.inference_mode():
        model.generate(ids, max_new_tokens=8, min_new_tokens=8, **generate)
        first = seconds(lambda: model.generate(ids, max_new_tokens=1, min_new_tokens=1, **generate))
        whole = seconds(lambda: model.generate(ids, max_new_tokens=NEW, min_new_tokens=NEW, **generate))
        model(long, logits_to_keep=1)
        return {"decode": (NEW - 1) / (whole - first),
                "prefill": LONG / seconds(lambda: model(long, logits_to_keep=1))}


def llama_turn(file, threads):
    """One turn of llama.cpp, in this process; prints its figures."""
    import llama_cpp
    model = llama_cpp.Llama(file, n_ctx=1024, n_threads=threads, n_threads_batch=threads, n_gpu_layers=0, verbose=False)

    def run(first, count, at_once):
        model.reset()
        model.eval(list(range(100, 100 + first)))
        began = time.perf_counter()
        for i in range(count):
            model.eval([200 + (7 * i + j) % 5000 for j in range(at_once)])
        return count * at_once / (time.perf_counter() - began)

    run(PROMPT + 1, 8, 1)
    run(1, 1, LONG - 1)
    print(json.dumps({"decode": run(PROMPT + 1, NEW - 1, 1), "prefill": run(1, 1, LONG - 1),
                      "version": llama_cpp.__version__}))


def in_turn(command, threads):
    """The JSON lines of another process with as many threads, which wait awake as llama.cpp's do."""
    text = subprocess.run(command, check=True, capture_output=True, text=True,
                          env=os.environ | {"OMP_NUM_THREADS": str(threads), "GOMP_SPINCOUNT": "3000000"}).stdout
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def ours(args, precision):
    lines = in_turn([args.bench, "--model", args.model, "--precision", precision, "--device", args.device, "--single",
                     "--repetitions", "1"], args.threads)
    return {line["case"]: line["median"] for line in lines}


def by_llama(args, precision):
    file = str(pathlib.Path(args.gguf) / f"{precision}.gguf")
    return in_turn([sys.executable, __file__, "--llama-turn", file, "--threads", str(args.threads)], args.threads)[-1]


def make_gguf(folder):
    """The very weights of .setup/smollm2 as GGUF, by llama.cpp's own conversion."""
    import llama_cpp
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests"))
    from make_smollm2 import unpack
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        packed = unpack(None, scratch)
        for precision, number in GGUF_TYPES.items():
            wanted = llama_cpp.llama_model_quantize_default_params()
            wanted.ftype, wanted.allow_requantize, wanted.nthread = number, True, 2
            out = str(pathlib.Path(folder) / f"{precision}.gguf")
            if llama_cpp.llama_model_quantize(str(packed).encode(), out.encode(), ctypes.byref(wanted)) != 0:
                raise SystemExit(f"llama.cpp did not write {out}")


def hardware(device):
    if device == "cuda":
        import torch
        return torch.cuda.get_device_name()
    names = [line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    return names[0] if names else "unknown"


def compare(args, precision):
    import torch
    import transformers
    model = transformers.AutoModelForCausalLM.from_pretrained(args.model, dtype=getattr(torch, precision))
    model.to(args.device)
    peers = {"transformers": f"torch {torch.__version__}, transformers {transformers.__version__}"}
    rounds = []
    for _ in range(args.rounds):
        figures = {"transformers": by_transformers(model, args.device), "pensive": ours(args, precision)}
        if args.gguf:
            figures["llama.cpp"] = by_llama(args, precision)
            peers["llama.cpp"] = f"llama-cpp-python {figures['llama.cpp']['version']}"
        rounds.append(figures)
    for case in ("decode", "prefill"):
        for peer, versions in peers.items():
            mine, other = ([figures[side][case] for figures in rounds] for side in ("pensive", peer))
            ratios = sorted(a / b for a, b in zip(mine, other))
            yield {"case": f"{case} beside {peer}", "goal": "P8", "precision": precision, "unit": "tokens/s",
                   "median": round(statistics.median(mine), 1), "peer": round(statistics.median(other), 1),
                   "ratio": round(statistics.median(ratios), 2), "low": round(ratios[0], 2),
                   "high": round(ratios[-1], 2), "n": args.rounds, "threads": args.threads, "device": args.device,
                   "hardware": hardware(args.device), "model": os.path.basename(os.path.normpath(args.model)),
                   "versions": versions}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bench", nargs="?")
    parser.add_argument("model", nargs="?")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--gguf")
    parser.add_argument("--make-gguf")
    parser.add_argument("--llama-turn")
    parser.add_argument("--out")
    args = parser.parse_args()
    if args.make_gguf:
        return make_gguf(args.make_gguf)
    if args.llama_turn:
        return llama_turn(args.llama_turn, args.threads)

    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    import torch
    import transformers
    torch.set_num_threads(args.threads)
    transformers.logging.set_verbosity_error()
    with open(args.out or os.devnull, "w") as out:
        for precision in args.precisions:
            for line in compare(args, precision):
                for file in (sys.stdout, out):
                    print(json.dumps(line), file=file, flush=True)


if __name__ == "__main__":
    main()
