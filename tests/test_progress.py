"""Which bar is shown where, and a line a minute where nobody looks."""

import io
import re
import subprocess
import sys
import warnings

import pytest
from tqdm import tqdm

from ncvq_nb.engine import progress
from ncvq_nb.engine.progress import LineBar, bar_class, progress_bar
from toys import ENV, sines, tiny


class Clock:
    "A clock that is turned by hand, for our lines and for tqdm."

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)
        monkeypatch.setattr("tqdm.std.time", lambda: self.now)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_line_a_minute_and_one_at_the_end(monkeypatch):
    clock, out = Clock(monkeypatch), io.StringIO()
    with LineBar(total=600, desc="prior", initial=100, file=out) as bar:
        for step in range(100, 600):
            clock.now += 0.5
            bar.set_postfix(loss=f"{step}", refresh=False)
            bar.update()
    lines = out.getvalue().splitlines()
    assert lines == [
        "prior: 220 of 600 (37 %) in 01:00, 03:10 left, loss=219",
        "prior: 340 of 600 (57 %) in 02:00, 02:10 left, loss=339",
        "prior: 460 of 600 (77 %) in 03:00, 01:10 left, loss=459",
        "prior: 580 of 600 (97 %) in 04:00, 00:10 left, loss=579",
        "prior: 600 of 600 (100 %) in 04:10, loss=599",
    ]


def test_what_does_not_stay_says_nothing_in_its_first_minute(monkeypatch):
    clock, out = Clock(monkeypatch), io.StringIO()
    with LineBar(total=2, desc="FCN", leave=False, file=out) as bar:
        bar.set_description("other")
        bar.set_postfix(loss="1")
        bar.update()
        assert not out.getvalue()
        clock.now += 61
        bar.update()
    assert out.getvalue() == "other: 2 of 2 (100 %) in 01:01, loss=1\n"


def test_a_number_of_steps_that_nobody_knows():
    out = io.StringIO()
    with LineBar(file=out) as bar:
        bar.update(3)
    assert out.getvalue() == "progress: 3 in 00:00\n"


def test_each_place_has_its_bar(monkeypatch):
    for stream, kind in ((io.StringIO(), LineBar), (Terminal(), tqdm)):
        monkeypatch.setattr(sys, "stderr", stream)
        assert bar_class() is kind
    monkeypatch.setattr(progress, "in_notebook", lambda: True)
    assert bar_class().__module__.startswith("tqdm.a")
    monkeypatch.setattr(sys, "stderr", None)  # a program without a console
    with progress_bar(3, "x") as bar:
        bar.update()
    assert bar.disable


@pytest.mark.parametrize("widgets", [False, True])
def test_a_notebook_has_a_widget_or_else_a_bar_and_no_warning(widgets):
    "In a process of its own, in which a kernel is made up, with ipywidgets or without."
    code = f"""
import sys, types, warnings
warnings.simplefilter("error")
shell = types.SimpleNamespace(config={{"IPKernelApp": {{}}}})
import IPython
IPython.get_ipython = lambda: shell
sys.modules["IPython"].get_ipython = IPython.get_ipython
sys.modules["ipykernel.zmqshell"] = types.ModuleType("ipykernel.zmqshell")
if not {widgets}:
    sys.modules["ipywidgets"] = None
else:
    fake = types.ModuleType("ipywidgets")
    for name in "FloatProgress IntProgress HBox HTML Layout".split():
        setattr(fake, name, type(name, (), {{}}))
    fake.__version__ = "8.1.5"
    sys.modules["ipywidgets"] = fake
from ncvq_nb.engine.progress import bar_class
print([c.__module__ for c in bar_class().__mro__])
"""
    r = subprocess.run([sys.executable, "-c", code], env=ENV, capture_output=True, text=True)
    assert r.returncode == 0 and not r.stderr, r.stderr
    assert ("tqdm.notebook" in r.stdout) == widgets and "ncvq_nb" not in r.stdout


def test_training_that_is_redirected_writes_two_lines(capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tiny(verbose=True).fit(*sines())
    lines = capfd.readouterr().err.splitlines()
    said = r"(tokenizer|prior): \d+ of \d+ \(100 %\) in \d\d:\d\d, loss=[\d.]+"
    assert len(lines) == 2 and all(re.fullmatch(said, line) for line in lines), lines
