"""Notebooks in JupyterLab, in a real browser: Run All, save from the browser, look at that file.

    pytest tests/test_lab.py                                    # screenshots in build/shots
    NCVQ_LAB="11_plots io/files" pytest tests/test_lab.py       # other pages, or: all

What the browser shows is no proof. It says "idle" while there is no kernel yet, stored figures look
like new ones, and an error looks like any other red text. So the outputs are taken out before, a
kernel with a name and every cell are waited for, and what counts is the file.
"""

import contextlib
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from conftest import THOROUGH
from test_house import PAGES, ROOT, copy, notebook, prep

CHAPTER, ANNEX = "01_stft", "io/markup"  # short pages with figures, in the street and behind
FEW = [CHAPTER, *([ANNEX] if THOROUGH else [])]
ASKED = os.environ.get("NCVQ_LAB", "").split()
NAMES = [n for n in PAGES if n != "index"] if ASKED == ["all"] else ASKED or FEW
SECONDS = 300  # for all cells of one notebook
SEEN = """() => {
  const book = document.querySelector('.jp-NotebookPanel:not(.lm-mod-hidden)');
  const all = what => [...(book?.querySelectorAll(what) ?? [])];
  return {
    kernel: book?.querySelector('.jp-Toolbar-kernelName')?.textContent ?? '',
    status: book?.querySelector('.jp-Notebook-ExecutionIndicator')?.dataset.status ?? '',
    cells: all('.jp-Cell').length,
    prompts: all('.jp-CodeCell .jp-InputPrompt').map(e => e.textContent.trim()),
    figures: all('.jp-OutputArea-output img').map(e => e.naturalWidth),
  };
}"""


def code(nb):
    return [c for c in nb["cells"] if c["cell_type"] == "code" and "".join(c["source"]).strip()]


def figures(cell):
    data = [o.get("data", {}) for o in cell["outputs"]]
    inline = "data:image/png;base64,"
    return sum("image/png" in d or inline in "".join(d.get("text/html", "")) for d in data)


def errors(cell):
    return [o for o in cell["outputs"] if o["output_type"] == "error"]


def complaints(saved, committed):
    "What is wrong with a notebook that was run and saved, beside the one in the repository."
    cells, wanted = code(saved), code(committed)
    if ["".join(c["source"]) for c in cells] != ["".join(c["source"]) for c in wanted]:
        return [f"other code cells: {len(cells)} saved, {len(wanted)} committed"]
    found = []
    for i, (c, w) in enumerate(zip(cells, wanted), 1):
        found += [f"cell {i} raised {o['ename']}: {o['evalue']}" for o in errors(c)]
        if c["execution_count"] is None:
            found.append(f"cell {i} was not executed")
        if figures(c) < figures(w):
            found.append(f"cell {i} shows {figures(c)} figures, {figures(w)} are committed")
    counts = [c["execution_count"] for c in cells if c["execution_count"] is not None]
    if counts != sorted(set(counts)):
        found.append(f"cells were not executed once and in order: {counts}")
    return found


# It can complain

PNG = {"output_type": "display_data", "data": {"image/png": "iVBOR"}, "metadata": {}}
HTML = {
    "output_type": "execute_result",
    "data": {"text/html": ["<img ", 'src="data:image/png;base64,iVBOR">'], "text/plain": "Data"},
    "metadata": {},
    "execution_count": 1,
}
ERROR = {"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": []}


def cell(source, count=None, outputs=()):
    return dict(
        cell_type="code",
        id=f"c{secrets.token_hex(4)}",
        metadata={},
        source=source,
        execution_count=count,
        outputs=[*outputs],
    )


def book(*cells):
    title = dict(cell_type="markdown", id="title", metadata={}, source="# T")
    return {"cells": [title, *(cell(*c) for c in cells), cell("")]}


X, PLOT, DATA = ("x = 1", 1, []), ("plot(x)", 2, [PNG]), ("data", 3, [HTML])
COMMITTED = book(("x = 1", None, []), ("plot(x)", None, [PNG]), ("data", None, [HTML]))
CASES = dict(
    good=([X, PLOT, DATA], None),
    raised=([X, ("plot(x)", 2, [PNG, ERROR]), DATA], "cell 2 raised ValueError: no"),
    stopped=([X, PLOT, ("data", None, [HTML])], "cell 3 was not executed"),
    no_figure=([X, ("plot(x)", 2, []), DATA], "cell 2 shows 0 figures"),
    no_figure_in_html=([X, PLOT, ("data", 3, [])], "cell 3 shows 0 figures"),
    twice=([("x = 1", 4, []), PLOT, DATA], "not executed once and in order"),
    lost_a_cell=([X, PLOT], "other code cells"),
    changed=([X, ("plot(y)", 2, [PNG]), DATA], "other code cells"),
    never_ran=([("x = 1", None, []), ("plot(x)", None, []), DATA], "cell 1 was not executed"),
)


@pytest.mark.parametrize("cells, complaint", CASES.values(), ids=CASES)
def test_complaints(cells, complaint):
    found = complaints(book(*cells), COMMITTED)
    assert found == [] if complaint is None else any(complaint in f for f in found), found


# The browser

RAISES = ["x = 1", "raise ValueError('on purpose')", "x + 1"]


def prepare(folder):
    "The notebooks without their outputs, and one that fails."
    copy(folder, "nbs")
    for path in (folder / "nbs").rglob("*.ipynb"):
        nb = notebook(path)
        for c in nb["cells"]:
            if c["cell_type"] == "code":
                c["outputs"], c["execution_count"] = [], None
        path.write_text(json.dumps(nb), encoding="utf-8")
    nb["cells"] = [cell(source) for source in RAISES]
    (folder / "nbs" / "io" / "bad.ipynb").write_text(json.dumps(nb), encoding="utf-8")
    quiet = {
        "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
        "notebook-extension/tracker": {"windowingMode": "none"},  # every cell is drawn
    }
    for name, value in quiet.items():
        path = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(value))


@contextlib.contextmanager
def started(folder):
    "JupyterLab of this environment over `folder`: its address and its token."
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port, token = s.getsockname()[1], secrets.token_hex(16)
    url = f"http://127.0.0.1:{port}"
    paths = [str(ROOT), os.environ.get("PYTHONPATH")]
    env = {
        **os.environ,
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "IPYTHONDIR": str(folder / "ipython"),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        **{f"JUPYTER_{k}_DIR": str(folder / k.lower()) for k in ("CONFIG", "DATA", "RUNTIME")},
    }
    env.pop("MPLBACKEND", None)  # tests/run.py asks for Agg, under which a notebook shows no figure
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root"]
    command += ["--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0"]
    command += [f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder / 'nbs'}"]
    said = dict(stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    with open(folder / "log", "w") as log:
        server = subprocess.Popen(command, env=env, stdout=log, **said)
    try:
        end = time.time() + 90
        while True:
            assert server.poll() is None and time.time() < end, (
                f"JupyterLab did not start:\n{(folder / 'log').read_text()[-2000:]}"
            )
            with contextlib.suppress(OSError):
                request(url, token, "GET", "status")
                break
            time.sleep(0.3)
        yield url, token
    finally:
        server.terminate()  # its kernels end with it
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()


def request(url, token, method, what):
    head = {"Authorization": f"token {token}"}
    ask = urllib.request.Request(f"{url}/api/{what}", method=method, headers=head)
    with urllib.request.urlopen(ask, timeout=30) as r:
        return json.loads(r.read() or "null")


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


def opened(page, address, n_cells):
    "A notebook in the browser, with a kernel and all its cells."

    def ready(s):
        kernel = s["kernel"] not in ("", "No Kernel") and s["status"] == "idle"
        return kernel and s["cells"] == n_cells

    for attempt in range(3):
        # now and then JupyterLab draws a notebook and asks for no kernel: nothing has run yet,
        # so once more
        page.goto(address)
        try:
            return until(page, "a kernel with a name, idle, and every cell", ready, 60)
        except AssertionError:
            if attempt == 2:
                raise


def all_ran(s):
    return (
        s["status"] == "idle"
        and not any("*" in p for p in s["prompts"])
        and any(re.search(r"\d", p) for p in s["prompts"])
    )


def save(page, path):
    old = path.read_bytes()
    menu(page, "File", "Save Notebook")
    for _ in range(100):
        if path.read_bytes() != old:
            break
        page.wait_for_timeout(100)
    page.wait_for_timeout(300)
    return notebook(path)


def shift_tab(page, shot):
    "What Shift-Tab shows behind `NCVQ(`, in a new cell of the notebook that was run."
    page.locator(".jp-NotebookPanel .jp-CodeCell .jp-InputPrompt").last.click()
    page.keyboard.press("b")
    page.keyboard.press("Enter")
    page.keyboard.type("from ncvq_nb import NCVQ")
    page.keyboard.press("Shift+Enter")
    until(page, "the import comes to an end", all_ran, 60)
    page.keyboard.type("NCVQ(")
    page.keyboard.press("Shift+Tab")
    tip = page.locator(".jp-Tooltip")
    tip.wait_for(timeout=30_000)
    page.screenshot(path=shot)
    return tip.inner_text()


def run_all(browser, lab, folder, name, shot, then=None):
    """Open a notebook, Run All, save; gives the saved notebook, and leaves a screenshot in any
    case. `then` looks at the page while its kernel is still there."""
    (url, token), path = lab, folder / "nbs" / f"{name}.ipynb"
    page = browser.new_page(viewport=dict(width=1300, height=1500))
    page.set_default_timeout(120_000)  # a busy machine
    try:
        address = f"{url}/lab/tree/{name}.ipynb?token={token}&reset"
        seen = opened(page, address, len(notebook(path)["cells"]))
        assert not seen["figures"] and not any(re.search(r"\d", p) for p in seen["prompts"]), (
            f"there are outputs before the run: {seen}"
        )
        menu(page, "Run", "Run All Cells")
        end = time.time() + SECONDS
        while True:
            # an error ends Run All, and cells behind it stay without a number; between two cells
            # the kernel is idle for a moment
            seen = until(page, "Run All comes to an end", all_ran, max(1, end - time.time()))
            page.wait_for_timeout(700)
            saved = save(page, path)
            done = all(c["execution_count"] for c in code(saved)) or any(map(errors, code(saved)))
            if done or time.time() > end:
                break
        drawn = page.locator(".jp-NotebookPanel .jp-OutputArea-output img")
        if drawn.count():
            drawn.last.scroll_into_view_if_needed()
        assert all(seen["figures"]), f"a figure was not drawn: {seen}"
        if then:
            then(page)
        return saved
    finally:
        page.screenshot(path=shot)
        page.close()
        with contextlib.suppress(OSError):  # memory back early; kernels end with the server anyway
            for kernel in request(url, token, "GET", "kernels"):
                request(url, token, "DELETE", f"kernels/{kernel['id']}")


def follow_a_link(browser, lab, name, target):
    "Does a click on a link between pages open the other page? In sub-folders it must, too."
    url, token = lab
    page = browser.new_page(viewport=dict(width=1300, height=1500))
    page.set_default_timeout(60_000)
    try:
        page.goto(f"{url}/lab/tree/{name}.ipynb?token={token}&reset")
        file = target.rpartition("/")[2] + ".ipynb"
        page.locator(f".jp-RenderedMarkdown a[href*='{file}']").first.click()
        page.locator(f".lm-TabBar-tabLabel:text-is('{file}')").first.wait_for()
    finally:
        page.close()


def a_link():
    "A page in a sub-folder and the page of another folder that it links to."
    for name, path in PAGES.items():
        text = "\n".join("".join(c["source"]) for c in notebook(path)["cells"])
        for m in prep.LINK.finditer(text) if "/" in name else ():
            if m[2].startswith("../") and m[2].endswith(".ipynb"):
                return name, m[2].removeprefix("../").removesuffix(".ipynb")
    raise AssertionError("no page of an annex links to another folder")


@pytest.mark.slow
def test_notebooks_run_in_jupyterlab(browser, tmp_path, shots):
    """One JupyterLab for all, for it takes long to start: pages, what Shift-Tab shows, a link,
    and a page that fails."""
    prepare(tmp_path)
    found, tips, tip_shot = {}, [], shots / "lab-shift-tab.png"
    with started(tmp_path) as lab:
        for name in NAMES:
            shot = shots / f"lab-{name.replace('/', '-')}.png"
            then = None if tips else lambda page: tips.append(shift_tab(page, tip_shot))
            saved = run_all(browser, lab, tmp_path, name, shot, then)
            if wrong := complaints(saved, notebook(PAGES[name])):
                found[name] = wrong
        follow_a_link(browser, lab, *a_link())
        saved = run_all(browser, lab, tmp_path, "io/bad", shots / "lab-raises.png")
    assert not found
    assert "dim : int, default=64\n    Channels of encoder and decoder" in tips[0], tips
    # the same way with a notebook that fails: the browser shows it, the file says it
    bad = {"cells": [cell(source) for source in RAISES]}
    want = ["cell 2 raised ValueError: on purpose", "cell 3 was not executed"]
    assert complaints(saved, bad) == want
