"""Loads what strangers made: `watched.py a_good_model a_folder_of_forged_ones how_many`.

It runs with Python's audit hook, in 4 GB of address space, and measures the peak of its memory. Of
each folder it says how loading ended, and what else was noticed.
"""

import json
import os
import resource
import signal
import sys
import warnings
from pathlib import Path

import torch

from ncvq_nb import NCVQ
from ncvq_nb.engine.checkpoints import load_checkpoint, save_checkpoint
from ncvq_nb.io.archive import load_ucr
from ncvq_nb.io.files import read_series

BANNED = {"pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen"}
BANNED |= {"os.mkdir", "os.remove", "os.rename", "os.rmdir", "socket.connect", "ctypes.dlopen"}
good, home, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
seen, found = [], {}


class Slow(BaseException):
    "It took too long."


def ring(*args):
    raise Slow


def is_write(mode, flags):
    if isinstance(mode, str) and set(mode) & set("wax+"):
        return True
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def watch(event, args):
    if event in BANNED or event == "open" and is_write(*args[1:3]):
        seen.append(f"{event} {args}")


def peak():
    "Megabytes, at most, so far."
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def attempt(name, load, *args):
    before = peak()
    signal.setitimer(signal.ITIMER_REAL, 5)
    try:
        load(*args)
        said = "loaded"
    except (ValueError, FileNotFoundError) as e:
        said = "refused" if str(home) in str(e) else f"unclear: {e}"
    except BaseException as e:
        said = f"{type(e).__name__}: {e}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if peak() - before > 100:
        said += f", {peak() - before} MB"
    found[name] = ", ".join([said, *seen])
    seen.clear()


def everything():
    "What is in order is still read, and a pickle among checkpoints is passed over."
    NCVQ.load(good).sample(1)
    assert load_checkpoint(home / "run", {"n": 1})[0]["w"].sum() == 2
    load_ucr("GunPoint")


sys.dont_write_bytecode = True
warnings.simplefilter("ignore")
meta = dict(step=3, seconds=0.0, settings={"n": 1}, history={}, best=None)
save_checkpoint(home / "run", 3, {"w": torch.ones(2)}, meta)
everything()  # what is imported late may do what it likes
sys.addaudithook(watch)
resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30,) * 2)
signal.signal(signal.SIGALRM, ring)
for i in range(count):
    attempt(str(i), NCVQ.load, home / str(i))
for file in sorted(home.glob("*.npz")):
    attempt(file.stem, read_series, file)
attempt("good", everything)
print(json.dumps(found))
