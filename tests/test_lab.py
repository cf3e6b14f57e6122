"""Numbered notebooks in JupyterLab, in a real browser: Run All, save from the browser, and judge the file that was saved.

    pytest tests/test_lab.py                                 # screenshots stay in build/shots, or in $NCVQ_SHOTS
    NCVQ_LAB="11_plots 13_cli" pytest tests/test_lab.py      # other notebooks than those below, or: all

What the page shows is no proof. It says "idle" while there is no kernel yet, stored figures look like new ones, and an error looks like any other red text.
So the outputs are taken out before, a kernel with a name and every cell are waited for, and what counts is the file.
"""
import contextlib, json, os, re, secrets, shutil, socket, subprocess, sys, time, urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
QUICK = ["01_stft", "05_ssl"]
NAMES = {"": QUICK, "all": [p.stem for p in sorted((ROOT / "nbs").glob("[0-9]*.ipynb"))]}.get(w := os.environ.get("NCVQ_LAB", ""), w.split())
SECONDS = 300  # for all cells of one notebook
SEEN = """() => ({kernel: document.querySelector('.jp-NotebookPanel .jp-Toolbar-kernelName')?.textContent ?? '',
  status: document.querySelector('.jp-NotebookPanel .jp-Notebook-ExecutionIndicator')?.dataset.status ?? '',
  cells: document.querySelectorAll('.jp-NotebookPanel .jp-Cell').length,
  prompts: [...document.querySelectorAll('.jp-NotebookPanel .jp-CodeCell .jp-InputPrompt')].map(e => e.textContent.trim()),
  figures: [...document.querySelectorAll('.jp-NotebookPanel .jp-OutputArea-output img')].map(e => e.naturalWidth)})"""


def code(nb): return [c for c in nb["cells"] if c["cell_type"] == "code" and "".join(c["source"]).strip()]
def figures(cell): return sum("image/png" in (d := o.get("data", {})) or "data:image/png;base64," in "".join(d.get("text/html", "")) for o in cell["outputs"])


def judge(saved, committed):
    "What is wrong with a notebook that was run and saved, beside the one in the repository; nothing when all is well."
    cells, wanted = code(saved), code(committed)
    if ["".join(c["source"]) for c in cells] != ["".join(c["source"]) for c in wanted]: return [f"other code cells: {len(cells)} saved, {len(wanted)} committed"]
    found = []
    for i, (c, w) in enumerate(zip(cells, wanted), 1):
        found += [f"cell {i} raised {o['ename']}: {o['evalue']}" for o in c["outputs"] if o["output_type"] == "error"]
        if c["execution_count"] is None: found.append(f"cell {i} was not executed")
        if figures(c) < figures(w): found.append(f"cell {i} shows {figures(c)} figures, {figures(w)} are committed")
    counts = [c["execution_count"] for c in cells if c["execution_count"] is not None]
    if counts != sorted(set(counts)): found.append(f"cells were not executed once and in order: {counts}")
    return found


# The judge can say no

PNG = {"output_type": "display_data", "data": {"image/png": "iVBOR"}, "metadata": {}}
HTML = {"output_type": "execute_result", "data": {"text/html": ["<img ", "src=\"data:image/png;base64,iVBOR\">"], "text/plain": "Data"}, "metadata": {}, "execution_count": 1}
ERROR = {"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": []}


def book(*cells): return {"cells": [dict(cell_type="markdown", source="# T"), *(dict(cell_type="code", source=s, execution_count=n, outputs=o) for s, n, o in cells), dict(cell_type="code", source="", execution_count=None, outputs=[])]}


COMMITTED = book(("x = 1", None, []), ("plot(x)", None, [PNG]), ("data", None, [HTML]))


@pytest.mark.parametrize("cells, complaint", {
    "good": ([("x = 1", 1, []), ("plot(x)", 2, [PNG]), ("data", 3, [HTML])], None),
    "raised": ([("x = 1", 1, []), ("plot(x)", 2, [PNG, ERROR]), ("data", 3, [HTML])], "cell 2 raised ValueError: no"),
    "stopped": ([("x = 1", 1, []), ("plot(x)", 2, [PNG]), ("data", None, [HTML])], "cell 3 was not executed"),
    "no figure": ([("x = 1", 1, []), ("plot(x)", 2, []), ("data", 3, [HTML])], "cell 2 shows 0 figures"),
    "no figure in html": ([("x = 1", 1, []), ("plot(x)", 2, [PNG]), ("data", 3, [])], "cell 3 shows 0 figures"),
    "twice": ([("x = 1", 4, []), ("plot(x)", 2, [PNG]), ("data", 3, [HTML])], "not executed once and in order"),
    "lost a cell": ([("x = 1", 1, []), ("plot(x)", 2, [PNG])], "other code cells"),
    "changed": ([("x = 1", 1, []), ("plot(y)", 2, [PNG]), ("data", 3, [HTML])], "other code cells"),
    "never ran": ([("x = 1", None, []), ("plot(x)", None, []), ("data", None, [])], "cell 1 was not executed"),
}.values(), ids=["good", "raised", "stopped", "no figure", "no figure in html", "twice", "lost a cell", "changed", "never ran"])
def test_judge(cells, complaint):
    found = judge(book(*cells), COMMITTED)
    assert found == [] if complaint is None else any(complaint in f for f in found), found


# The browser

@pytest.fixture(scope="module")
def lab(browser, tmp_path_factory):
    "JupyterLab of this environment over a copy of the notebooks without outputs: its address, its token, its folder."
    tmp = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "nbs", tmp / "nbs", ignore=shutil.ignore_patterns(".ipynb_checkpoints", "runs"))
    for path in (tmp / "nbs").glob("*.ipynb"):
        nb = json.loads(path.read_text(encoding="utf-8"))
        for c in nb["cells"]:
            if c["cell_type"] == "code": c["outputs"], c["execution_count"] = [], None
        path.write_text(json.dumps(nb), encoding="utf-8")
    settings = {"apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False}, "notebook-extension/tracker": {"windowingMode": "none"}}  # quiet; every cell is drawn
    for name, value in settings.items():
        path = tmp / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(value))
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        url, token = f"http://127.0.0.1:{s.getsockname()[1]}", secrets.token_hex(16)
    env = {**os.environ, "JUPYTERLAB_SETTINGS_DIR": str(tmp / "settings"), "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
           **{f"JUPYTER_{k}_DIR": str(tmp / k.lower()) for k in ("CONFIG", "DATA", "RUNTIME")}, "JUPYTERLAB_WORKSPACES_DIR": str(tmp / "workspaces"), "IPYTHONDIR": str(tmp / "ipython")}
    env.pop("MPLBACKEND", None)  # tests/run.py asks for Agg, under which a notebook shows no figure
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={url.rsplit(':', 1)[1]}",
               "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={tmp / 'nbs'}"]
    with open(tmp / "log", "w") as log: server = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    try:
        end = time.time() + 90
        while True:
            assert server.poll() is None and time.time() < end, f"JupyterLab did not start:\n{(tmp / 'log').read_text()[-2000:]}"
            try: call(url, token, "GET", "status"); break
            except OSError: time.sleep(.3)
        yield url, token, tmp / "nbs"
    finally:
        server.terminate()  # its kernels end with it
        try: server.wait(30)
        except subprocess.TimeoutExpired: server.kill()


def call(url, token, method, what):
    with urllib.request.urlopen(urllib.request.Request(f"{url}/api/{what}", method=method, headers={"Authorization": f"token {token}"}), timeout=30) as r: return json.loads(r.read() or "null")


def until(page, what, ok, seconds):
    "Look until `ok(what is seen)`; on a timeout say what was seen last."
    end = time.time() + seconds
    while not ok(seen := page.evaluate(SEEN)):
        assert time.time() < end, f"not within {seconds} s: {what}; last seen {seen}"
        page.wait_for_timeout(200)
    return seen


def menu(page, name, entry):
    page.get_by_role("menuitem", name=name, exact=True).click()
    page.locator(".lm-Menu").get_by_text(entry, exact=True).click()


def run_all(browser, lab, name, shot):
    "Open a notebook, Run All, save; gives the saved notebook, and leaves a screenshot in any case."
    url, token, folder = lab
    path = folder / f"{name}.ipynb"
    n_cells = len(json.loads(path.read_text(encoding="utf-8"))["cells"])
    page = browser.new_page(viewport=dict(width=1300, height=1500))
    page.set_default_timeout(120_000)  # a busy machine
    try:
        for attempt in range(3):  # now and then JupyterLab draws the notebook and asks for no kernel: then once more, for nothing has run yet
            page.goto(f"{url}/lab/tree/{path.name}?token={token}&reset")
            try: seen = until(page, "a kernel with a name, idle, and every cell", lambda s: s["kernel"] not in ("", "No Kernel") and s["status"] == "idle" and s["cells"] == n_cells, 60)
            except AssertionError:
                if attempt == 2: raise
            else: break
        assert not seen["figures"] and not any(re.search(r"\d", p) for p in seen["prompts"]), f"there are outputs before the run: {seen}"
        menu(page, "Run", "Run All Cells")
        end = time.time() + SECONDS
        while True:  # an error ends Run All, cells behind it stay unnumbered; between two cells the kernel is idle for a moment
            seen = until(page, "Run All comes to an end", lambda s: s["status"] == "idle" and not any("*" in p for p in s["prompts"]) and any(re.search(r"\d", p) for p in s["prompts"]), max(1, end - time.time()))
            page.wait_for_timeout(700)
            old = path.read_bytes()
            menu(page, "File", "Save Notebook")
            for _ in range(100):
                if path.read_bytes() != old: break
                page.wait_for_timeout(100)
            page.wait_for_timeout(300)
            saved = json.loads(path.read_text(encoding="utf-8"))
            if time.time() > end or any(o["output_type"] == "error" for c in code(saved) for o in c["outputs"]) or all(c["execution_count"] for c in code(saved)): break
        drawn = page.locator(".jp-NotebookPanel .jp-OutputArea-output img")
        if drawn.count(): drawn.last.scroll_into_view_if_needed()
        assert all(seen["figures"]), f"a figure was not drawn: {seen}"
        return saved
    finally:
        page.screenshot(path=shot)
        page.close()
        with contextlib.suppress(OSError):  # memory given back early; all kernels end with the server anyway
            for kernel in call(url, token, "GET", "kernels"): call(url, token, "DELETE", f"kernels/{kernel['id']}")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_notebook_runs_in_jupyterlab(name, browser, lab, shots):
    saved = run_all(browser, lab, name, shots / f"lab-{name}.png")
    assert not (found := judge(saved, json.loads((ROOT / "nbs" / f"{name}.ipynb").read_text(encoding="utf-8")))), found


@pytest.mark.slow
def test_a_raising_cell_is_seen(browser, lab, shots):
    "The same way with a notebook that fails: the browser shows it, the file says it."
    nb = json.loads((lab[2] / "01_stft.ipynb").read_text(encoding="utf-8"))
    bad = {**nb, "cells": [dict(cell_type="code", id=f"c{i}", metadata={}, source=s, execution_count=None, outputs=[]) for i, s in enumerate(["x = 1", "raise ValueError('on purpose')", "x + 1"])]}
    (lab[2] / "bad.ipynb").write_text(json.dumps(bad), encoding="utf-8")
    found = judge(run_all(browser, lab, "bad", shots / "lab-raises.png"), bad)
    assert found == ["cell 2 raised ValueError: on purpose", "cell 3 was not executed"]
