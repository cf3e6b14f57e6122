"""How many steps a second do 1, 2, 4, 8 runs get done together, in threads of one process?

    python tests/drivers/together.py --device cuda            # stage 1 and 2, length 140, batch 128
    python tests/drivers/together.py --device cuda --stage 1 --runs 1 4 8 16
    OMP_NUM_THREADS=1 python tests/drivers/together.py --device cpu --steps 40 --runs 1 2

For each number of runs, so many models of the thesis' sizes are trained by `run_grid`'s own threads
on random series, on a GPU each on a stream of its own, with steps captured as a CUDA graph. Of each
run the time counts in which all runs are in the same stage: from the moment when the last of them
has taken a fifth of its steps (all are captured by then) to the moment when the first one ends.
Numbers of runs take turns, twice unless --rounds says otherwise, and the table has the median.
Prints lines of JSON, and whether the weights of runs together are those of the same run alone.

With --bare only the steps of stage 1 are taken, without the loop around them: what the device does.
"""

import argparse
import json
import statistics
import threading
import time

import numpy as np
import torch

from ncvq_nb import NCVQ
from ncvq_nb.bench.workloads import build_workload
from ncvq_nb.engine.runtime import find_device, seeded
from ncvq_nb.engine.streams import own_stream
from ncvq_nb.grids.threads import in_threads

METHODS = {
    "naive": dict(),
    "barlow": dict(ssl="barlow", augment="warp"),
    "vibcreg": dict(ssl="vibcreg", augment="warp"),
}


def series(n, length):
    "Random walks and labels of five classes."
    steps = np.random.default_rng(0).normal(size=(n, length)).cumsum(1)
    return steps.astype(np.float32), np.arange(n) % 5


def run(seed, X, y, settings, device):
    "A model, and for each stage when which step was done."
    lines = {"tokenizer": [], "prior": []}

    def log(stage, row):
        if device.type == "cuda":
            torch.cuda.current_stream(device).synchronize()
        lines[stage].append((row["step"], time.perf_counter()))

    with own_stream(device):
        model = NCVQ.thesis(**settings, device=device, random_state=seed)
        model.fit(X, y, log_with=log, log_every=50)
    return seed, model, lines


def rate(all_lines, stage, steps):
    "Steps a second of all runs while all of them are in a stage, captured and under way."
    if not all(lines[stage] for lines in all_lines):
        return None
    begins = max(next(t for i, t in lines[stage] if i >= steps / 5) for lines in all_lines)
    ends = min(lines[stage][-1][1] for lines in all_lines)
    if ends <= begins:
        return None
    done = 0.0
    for lines in all_lines:
        i, t = zip(*lines[stage])
        done += np.interp(ends, t, i) - np.interp(begins, t, i)
    return done / (ends - begins)


def weights(model):
    "All tensors of a model."
    parts = [getattr(model, k) for k in ("tokenizer_", "prior_") if hasattr(model, k)]
    return [v.cpu() for part in parts for v in part.state_dict().values()]


def farthest(model, alone):
    "The largest difference of two models' weights."
    pairs = zip(weights(model), weights(alone))
    return max(float((a.double() - b.double()).abs().max()) for a, b in pairs)


def bare_rate(n, method, device, args):
    "Steps a second of `n` threads that do nothing but take them."
    how = dict(batch=128, length=args.length, device=device, precision="bfloat16", n_samples=1)
    how |= dict(projector_dim=args.projector_dim, compile=device.type == "cuda")
    with seeded(0, device):
        steps = [build_workload(f"stage1/{method}", **how).ours for _ in range(n)]
    gate, ended = threading.Barrier(n + 1), threading.Barrier(n + 1)

    def work(step):
        with own_stream(device):
            for _ in range(6):  # the first ones are captured
                step()
            gate.wait()
            for _ in range(args.steps):
                step()
            if device.type == "cuda":
                torch.cuda.current_stream(device).synchronize()
            ended.wait()

    threads = [threading.Thread(target=work, args=(step,)) for step in steps]
    for thread in threads:
        thread.start()
    gate.wait()
    began = time.perf_counter()
    ended.wait()
    return n * args.steps / (time.perf_counter() - began)


def bare(args, device):
    "Print a line for each method and number of runs."
    for method in args.methods:
        for n in args.runs:
            rates = [bare_rate(n, method, device, args) for _ in range(args.rounds)]
            row = dict(method=method, runs=n, stage1_per_s=round(statistics.median(rates), 1))
            print(json.dumps(row | dict(bare=True, length=args.length)), flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--device", default="auto")
    p.add_argument("--runs", type=int, nargs="+", default=[1, 2, 4, 8])
    p.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    p.add_argument("--length", type=int, default=140)
    p.add_argument("--series", type=int, default=512)
    p.add_argument("--steps", type=int, default=600, help="of each stage")
    p.add_argument("--stage", type=int, choices=(1, 2), default=2, help="where runs end [2]")
    p.add_argument("--projector_dim", type=int, default=4096)
    p.add_argument("--rounds", type=int, default=2)
    p.add_argument("--bare", action="store_true", help="steps of stage 1 alone")
    args = p.parse_args()
    device = find_device(args.device)
    if args.bare:
        return bare(args, device)
    X, y = series(args.series, args.length)
    on_gpu = device.type == "cuda"
    for method in args.methods:
        epochs = tuple(args.steps * min(b, args.series) / args.series for b in (128, 256))
        if args.stage == 1:
            epochs = (epochs[0], 0)
        settings = METHODS[method] | dict(epochs=epochs, projector_dim=args.projector_dim)
        settings["compile"] = on_gpu
        alone = run(0, X, y, settings, device)[1]  # warm-up too
        found = {n: [] for n in args.runs}
        for _ in range(args.rounds):
            for n in args.runs:
                one = list(in_threads(lambda i: run(i, X, y, settings, device), range(n), n))
                rates = [rate([r[2] for r in one], k, args.steps) for k in ("tokenizer", "prior")]
                apart = farthest(next(m for seed, m, _ in one if seed == 0), alone)
                found[n].append((*rates, apart))
        for n, rounds in found.items():
            stage1, stage2, apart = zip(*rounds)
            middle = [
                round(statistics.median(v), 1) if (v := [x for x in r if x]) else None
                for r in (stage1, stage2)
            ]
            row = dict(method=method, runs=n, stage1_per_s=middle[0], stage2_per_s=middle[1])
            row |= dict(length=args.length, farthest_weight=max(apart), torch=torch.__version__)
            row["device"] = torch.cuda.get_device_name(device) if on_gpu else "cpu"
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
