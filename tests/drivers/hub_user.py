"""Run code against a Hub: hub_user.py, which reads lines of JSON and answers each with one

A line says what is to be run (`code`), in which folder and environment (`folder`, `env`); its
answer is the dict `out` that the code fills. Each runs in a fork of its own, since the Hub's client
reads the environment when it is imported; the fork spares the seconds of a fresh interpreter.
"""

import json
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from ncvq_nb import NCVQ
from toys import fingerprint, forked


def error(f, *args, **kw):
    "The kind and the message of the error that a call ends with."
    try:
        f(*args, **kw)
    except Exception as e:
        return type(e).__name__, str(e)
    return None


def session(code, folder, env):
    signal.alarm(300)
    os.environ.update(env)
    os.chdir(folder)
    sys.stdout = sys.stderr
    names = dict(NCVQ=NCVQ, fingerprint=fingerprint, error=error, out={})
    exec(code, names)
    return names["out"]


assert "huggingface_hub" not in sys.modules
for line in sys.stdin:
    asked = json.loads(line)
    status, answer = forked(lambda: session(**asked))
    print(json.dumps(answer or dict(error=f"it ended with status {status}")), flush=True)
