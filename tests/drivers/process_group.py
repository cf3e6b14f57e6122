"""What every process of a group runs: process_group.py FOLDER CASE

The case "together" writes what came out to FOLDER/outcome.npz (the first process) and what was said
to FOLDER/said-RANK.json (each process). The case "cut" ends without a word at step $LAST of stage
$STAGE.
"""

import contextlib
import io
import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import THOROUGH
from ncvq_nb import cli, run_grid
from ncvq_nb.engine.distributed import ProcessGroup
from ncvq_nb.engine.stepper import Stepper
from toys import TINY, tiny, walks

LOGGED = bool(find_spec("accelerate") and find_spec("tensorboard"))
METHODS = (None, "barlow", "vicreg", "vibcreg") if THOROUGH else ("barlow", "vibcreg")
LARGER = dict(dim=16, n_codes=16, projector_dim=32, prior_dim=32)
SETTINGS = dict(**LARGER, batch_size=16, epochs=16, device="cpu")
OFTEN = dict(checkpoint_every=0, log_every=4)


def model(*args, **changes):
    return tiny(*args, **{**SETTINGS, **changes})


def half():
    "In bfloat16, with series held out."
    changes = dict(precision="bfloat16", validation_fraction=0.25, batch_size=12)
    return model("barlow", "slice", **changes)


def outcome(m, X, mark=""):
    "Everything that training ends in, by name."
    histories = {(stage, k): v for stage, h in m.history_.items() for k, v in h.items()}
    out = {f"{stage}/{k}": np.array(v) for (stage, k), v in histories.items() if k != "seconds"}
    out |= {k: v.numpy() for k, v in m.tokenizer_.bands[0].vq.state_dict().items()}
    out |= dict(reconstruction=m.reconstruct(X), tokens=m.encode(X))
    out |= dict(samples=m.sample(8, guidance_scale=1.0, random_state=0))
    return {f"{mark}{k}": v for k, v in out.items()}


def refused(f, *args, **kw):
    try:
        f(*args, **kw)
    except (ValueError, FloatingPointError, RuntimeError) as e:
        return f"{type(e).__name__}: {e}"


def errors(folder, rank):
    "What cannot be distributed, and the seed that all take without one."
    X, y = walks()
    return dict(
        seed=model(random_state=None, epochs=1).fit(X, y).seed_,
        series=refused(model().fit, X + rank, y),
        settings=refused(model(random_state=rank).fit, X, y),
        uneven=refused(model(batch_size=15).fit, X, y),
        not_finite=refused(model(lr=1e30).fit, X, y, run_dir=folder / "run"),
        grid=refused(run_grid, ["GunPoint"], {"default": {}}, [0], folder / "grid"),
    )


def command(folder):
    "What `ncvq_train` prints; it leaves FOLDER/out/model."
    X, y = walks()
    own = folder / f"data-{os.getpid()}.npz"  # the other process may be reading
    np.savez(own, X=X, y=y)
    own.replace(folder / "data.npz")
    options = [f"--{k}={v}" for k, v in {**TINY, **SETTINGS}.items()]
    options += ["--log_with=tensorboard"] if LOGGED else []
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        cli.train([str(folder / "data.npz"), "--out", str(folder / "out"), "--quiet", *options])
    return printed.getvalue()


def together(folder):
    from accelerate import Accelerator

    opened, group = Accelerator(cpu=True), ProcessGroup()  # a group that the script has opened
    assert opened.num_processes == group.size == 2
    (X, y), out = walks(), {}
    for ssl in METHODS:
        out |= outcome(model(ssl).fit(X, y), X, f"{ssl}/")
    out |= outcome(half().fit(X), X, "half/")
    if group.rank == 0:
        np.savez(folder / "outcome.npz", **out)
    said = dict(errors(folder, group.rank), command=command(folder))
    (folder / f"said-{group.rank}.json").write_text(json.dumps(said))


def cut(folder):
    step, stage, last = Stepper.step, os.environ["STAGE"], int(os.environ["LAST"])

    def counted(self, i, *args):
        if i == last and hasattr(self.objective, stage):
            os._exit(9)
        return step(self, i, *args)

    Stepper.step = counted
    model("vibcreg").fit(*walks(), run_dir=folder / "run", **OFTEN)


if __name__ == "__main__":
    dict(together=together, cut=cut)[sys.argv[2]](Path(sys.argv[1]))
