"""Train with `ncvq_train` in forked processes, kill them at random moments, start them again: killed.py FOLDER SSL KILLS SEED.

Prints as JSON how often, and with how many steps done, a process was killed. A fork of a process that has loaded the library
and computed nothing saves the seconds that a fresh interpreter needs; the kill is the same.
"""
import functools, json, os, random, signal, sys, time, warnings
from pathlib import Path

from safetensors import safe_open

from ncvq_nb import cli, generator

folder, ssl, kills, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
generator.train = functools.partial(generator.train, checkpoint_every=0, log_every=3)  # a checkpoint every third step
SETTINGS = ("--ssl", ssl, "--augment", "warp", "--dim", "8", "--n_res_blocks", "1", "--n_codes", "8", "--projector_dim", "16", "--prior_dim", "16", "--prior_depth", "1",
            "--prior_dropout", "0.1", "--batch_size", "8", "--epochs", "18", "--random_state", "3", "--quiet")


def start(out):
    pid = os.fork()
    if pid: return pid
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    warnings.simplefilter("error")  # a checkpoint that was written is whole
    try: cli.train([str(folder / "data.npz"), "--out", str(out), *SETTINGS])
    except BaseException as e:
        print(repr(e), file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def steps(out):
    "Steps done in each stage, as the newest checkpoints say."
    newest = {s: max(((out / s).glob("checkpoint-*.safetensors")), default=None) for s in ("tokenizer", "prior")}
    return [0 if p is None else json.loads(safe_open(p, "pt").metadata()["ncvq_nb"])["step"] for p in newest.values()]


began = time.perf_counter()
assert os.waitpid(start(folder / "whole"), 0)[1] == 0
duration = time.perf_counter() - began
rng, at, finished = random.Random(seed), [], 0
while len(at) < kills:
    out = folder / f"cut{finished}"
    pid = start(out)
    time.sleep(rng.uniform(0.1, 0.6) * duration)
    done, status = os.waitpid(pid, os.WNOHANG)
    if done:
        assert status == 0, "a process failed on its own"
        finished += 1
        continue
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    at.append(steps(out))
out = folder / f"cut{finished}"
if not (out / "training.png").exists(): assert os.waitpid(start(out), 0)[1] == 0
print(json.dumps(dict(kills=at, runs=finished + 1, seconds=duration)))
