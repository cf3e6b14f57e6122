"""Train with `ncvq_train` in forked processes, kill them at random moments, start them again: killed.py FOLDER SSL KILLS SEED.

Prints as JSON how often, and with how many steps done, a process was killed. A fork of a process that has loaded the library
and computed nothing saves the seconds that a fresh interpreter needs; the kill is the same.
"""
import functools, json, os, random, signal, sys, time, warnings
from pathlib import Path

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
    return [max([0, *(int(p.stem.split("-")[1]) for p in (out / s).glob("checkpoint-*.safetensors"))]) for s in ("tokenizer", "prior")]


began = time.perf_counter()
assert os.waitpid(start(folder / "whole"), 0)[1] == 0
duration = time.perf_counter() - began
rng, at, finished = random.Random(seed), [], 0
while len(at) < kills:
    out = folder / f"cut{finished}"
    pid = start(out)
    if len(at) % 2: time.sleep(rng.uniform(0.1, 0.9) * duration)  # any moment, writing the model included
    else:  # a moment of training: soon after a step drawn at random
        stage, step = rng.randrange(2), rng.randrange(45)
        while steps(out)[stage] < step and not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT): time.sleep(0.002)
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
