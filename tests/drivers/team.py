"""What every process of a team runs: team.py FOLDER CASE. The first process writes what came out to FOLDER/CASE.npz."""
import functools, os, sys
from pathlib import Path

import numpy as np

from ncvq_nb import NCVQ, generator, run_grid
from ncvq_nb.processes import Team
from ncvq_nb.training import Stepper

TINY = dict(dim=16, n_res_blocks=1, n_codes=16, projector_dim=32, prior_dim=32, prior_depth=1, batch_size=16, epochs=20, random_state=0, device="cpu")
OFTEN = dict(checkpoint_every=0, log_every=4)
METHODS = (None, "barlow", "vicreg", "vibcreg")


def half(): return NCVQ("barlow", "slice", **{**TINY, "precision": "bfloat16", "validation_fraction": .25, "batch_size": 12})


def walks(n=24, l=64):
    return np.random.default_rng(0).normal(size=(n, 2, l)).cumsum(-1).astype(np.float32), np.arange(n) % 2


def outcome(m, X, mark=""):
    "Everything that training ends in, by name."
    out = {f"{mark}{stage}/{k}": np.array(v) for stage, h in m.history_.items() for k, v in h.items() if k != "seconds"}
    out |= {f"{mark}{k}": v.numpy() for k, v in m.tokenizer_.vq.state_dict().items()}
    return out | {f"{mark}reconstruction": m.reconstruct(X), f"{mark}tokens": m.encode(X), f"{mark}samples": m.sample(8, random_state=0), f"{mark}seed": np.array(m.seed_)}


def refused(fit):
    try: fit()
    except (ValueError, FloatingPointError, RuntimeError) as e: return np.array(f"{type(e).__name__}: {e}")


def run(case, folder):
    (X, y), rank, out = walks(), Team().rank, {}
    if case == "methods":
        from accelerate import Accelerator
        assert Accelerator(cpu=True).num_processes == Team().size  # a group that the script itself has opened
        for ssl in METHODS: out |= outcome(NCVQ(ssl, **TINY).fit(X, y), X, f"{ssl}/")
    elif case == "half": out = outcome(half().fit(X), X)
    elif case == "odds and ends":
        out = {"seed": outcome(NCVQ(**{**TINY, "random_state": None, "epochs": 1}).fit(X, y), X)["seed"]}
        out["series"], out["settings"] = refused(lambda: NCVQ(**TINY).fit(X + rank, y)), refused(lambda: NCVQ(**{**TINY, "random_state": rank}).fit(X, y))
        out["uneven"] = refused(lambda: NCVQ(**{**TINY, "batch_size": 15}).fit(X, y))
        out["not finite"] = refused(lambda: NCVQ(**{**TINY, "lr": 1e30}).fit(X, y, run_dir=folder / "run"))
        out["grid"] = refused(lambda: run_grid(["GunPoint"], {"default": {}}, [0], folder / "grid"))
        np.savez(folder / f"odds {rank}.npz", **out)
    elif case == "cut":
        generator.train, step = functools.partial(generator.train, **OFTEN), Stepper.step
        def counted(self, i, *args):
            if i == int(os.environ["LAST"]) and hasattr(self.objective, os.environ["STAGE"]): os._exit(9)
            return step(self, i, *args)
        Stepper.step = counted
        out = outcome(NCVQ("vibcreg", **TINY).fit(X, y, run_dir=folder / "run"), X)
    if rank == 0: np.savez(folder / f"{case}.npz", size=Team().size, **out)


if __name__ == "__main__": run(sys.argv[2], Path(sys.argv[1]))
