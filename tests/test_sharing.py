"""The model card, and the way to the Hugging Face Hub and back: its real client against a server on this machine that answers like the Hub."""
import hashlib, json, os, re, subprocess, sys
from base64 import b64decode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from urllib.parse import unquote

import numpy as np
import pytest

import ncvq_nb as nv
from ncvq_nb import NCVQ
from test_estimator import TINY, fingerprint, says, series

needs_hub = pytest.mark.skipif(find_spec("huggingface_hub") is None, reason="huggingface_hub is an extra: pip install 'ncvq_nb[hub]'")


def fitted(y, **kw): return NCVQ(**{**TINY, "epochs": 1, **kw}).fit(series()[0], y)


@pytest.fixture(scope="module")
def model(): return fitted(np.array(["sit", "stand up"])[series()[1]])


@pytest.fixture(scope="module")
def report(model):
    X, y = series(n=24)
    names = np.array(["sit", "stand up"])[y]
    return nv.evaluate(model, nv.Dataset("chairs", X[:12], names[:12], X[12:], names[12:]), n_samples=8, n_resamples=20, cas_total=24, fcn=dict(max_steps=20), cache_dir=False, random_state=0, verbose=False)


def card_of(folder): return (folder / "README.md").read_text(encoding="utf-8")


# the model card

def test_the_card_says_what_the_model_is(model, report, tmp_path):
    model.save(tmp_path / "m", report=report)
    card, config = card_of(tmp_path / "m"), json.loads((tmp_path / "m" / "config.json").read_text())
    head, body = re.match(r"---\n(.*?)\n---\n(.*)", card, re.S).groups()
    assert "library_name: ncvq_nb" in head and "time-series" in head and not re.search(r"^license", head, re.M)
    assert "| name | chairs |" in body and "| series | 12 |" in body and f"| {config['data']['digest']} |" in body and "sit (50 %), stand up (50 %)" in body
    for k, v in config["settings"].items(): assert f"| {k} | {v} |" in body
    for row in report: assert row.metric in body and all(b.what in body or b.kind in body for b in row.beside)
    assert "floor" in body
    listed = dict(re.findall(r"\| ([\w.]+) \| \d+ \| ([0-9a-f]{64}) \|", body))
    assert listed == {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in (tmp_path / "m").iterdir() if p.name != "README.md"}
    code = re.search(r"```python\n(.*?)```", body, re.S)[1]
    names = dict(X=series()[0])
    exec(code.replace('"path/to/this/folder"', repr(str(tmp_path / "m"))), names)
    assert np.array_equal(names["Z"], model.transform(series()[0])) and names["X_hat"].shape == (12, 1, 33)


def test_the_card_without_report_labels_or_prior(tmp_path):
    fitted(None, ssl=None).save(tmp_path / "m", data_name="heart beats")
    card = card_of(tmp_path / "m")
    assert "heart beats" in card and "no labels" in card and "Not measured" in card and "without self-supervision" in card and "model.sample(10)" in card and "self-supervised" not in card
    NCVQ(**TINY).fit_tokenizer(series()[0]).save(tmp_path / "t")
    assert "does not sample" in card_of(tmp_path / "t") and "name | not given" in card_of(tmp_path / "t")


def test_labels_cannot_break_out_of_the_card(tmp_path):
    bad = ["a | b\n---\nlicense: mine\n# Big", "<script>x</script> `"]
    fitted(np.array(bad)[series()[1]]).save(tmp_path / "m", data_name=bad[0])
    card = card_of(tmp_path / "m")
    assert "<script" not in card and "\nlicense" not in card and "\n# Big" not in card and card.count("\n---\n") == 1
    assert all(len(re.findall(r"(?<!\\)\|", line)) in (0, 3, 4, 5) for line in card.splitlines())


def test_a_model_that_is_saved_as_it_was_read_keeps_its_card(model, report, tmp_path):
    model.save(tmp_path / "a", report=report)
    mine = card_of(tmp_path / "a").replace("# license: yours to choose, before this is published\n", "").replace("---\n", "---\nlicense: mit\n", 1) + "\nA line of its owner: ß.\n"
    (tmp_path / "a" / "README.md").write_text(mine, encoding="utf-8")
    NCVQ.load(tmp_path / "a").save(tmp_path / "b")
    NCVQ.load(tmp_path / "b").save(tmp_path / "b")
    assert card_of(tmp_path / "b") == mine and {p.name: p.read_bytes() for p in (tmp_path / "b").iterdir()} == {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()}
    def nudged(m): m.tokenizer_.codebook[0, 0] += 1e-3
    for change in (lambda m: m.set_params(guidance_scale=2.0), nudged, lambda m: m.fit(*series(), run_dir=None)):  # other settings, other weights, another model: figures not its own
        other = NCVQ.load(tmp_path / "a")
        change(other)
        other.save(tmp_path / "c")
        assert "Not measured" in card_of(tmp_path / "c") and "A line of its owner" not in card_of(tmp_path / "c")
    NCVQ.load(tmp_path / "a").save(tmp_path / "d", data_name="stools")  # who says more gets a new card
    assert "| name | stools |" in card_of(tmp_path / "d") and "A line" not in card_of(tmp_path / "d")


@pytest.mark.parametrize("damage", [lambda f: f.unlink(), lambda f: f.write_bytes(b"\xff\xfe\x00"), lambda f: f.write_text("x" * 2**20), lambda f: (f.unlink(), f.mkdir()), lambda f: (f.unlink(), os.mkfifo(f)),
                                    lambda f: ((f.parents[1] / "secret").write_text("my key"), f.unlink(), f.symlink_to(f.parents[1] / "secret"))], ids=["none", "no text", "too long", "a folder", "a pipe", "a link to a secret"])
def test_a_card_that_cannot_be_read_is_written_anew(model, tmp_path, damage):
    model.save(tmp_path / "a")
    damage(tmp_path / "a" / "README.md")
    NCVQ.load(tmp_path / "a").save(tmp_path / "b")
    assert card_of(tmp_path / "b").startswith("---\nlibrary_name") and "my key" not in card_of(tmp_path / "b")


@needs_hub
def test_the_hubs_own_reader_understands_the_card(model, report, tmp_path):
    from huggingface_hub import ModelCard
    model.save(tmp_path / "m", report=report)
    data = ModelCard.load(tmp_path / "m" / "README.md").data
    assert data.library_name == "ncvq_nb" and {"time-series", "vq-vae", "self-supervised-learning"} <= set(data.tags) and data.license is None


# local folders

def test_folders_need_no_client(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # as if it were not installed
    assert model.save_pretrained(tmp_path / "m") is None
    assert fingerprint(NCVQ.from_pretrained(tmp_path / "m")) == fingerprint(NCVQ.from_pretrained(str(tmp_path / "m"), device="cpu")) == fingerprint(model)
    with says("somebody/model", "no folder here", "ncvq_nb[hub]", kind=ImportError): NCVQ.from_pretrained("somebody/model")
    with says("ncvq_nb[hub]", kind=ImportError): model.save_pretrained(tmp_path / "new", push_to_hub=True)
    assert not (tmp_path / "new").exists()
    with says("revision 'v1'", "folder", kind=ValueError): NCVQ.from_pretrained(tmp_path / "m", revision="v1")
    for path in (tmp_path / "nowhere", "./nowhere", "a/b/c"):
        with says("no folder", kind=FileNotFoundError): NCVQ.from_pretrained(path)
    os.rename(tmp_path / "m", tmp_path / f".m.new.{os.getpid()}")  # killed between the two moves of a save
    monkeypatch.chdir(tmp_path)
    with pytest.warns(UserWarning, match="is read instead"): assert fingerprint(NCVQ.from_pretrained("m")) == fingerprint(model)


# the Hub

class Hub(BaseHTTPRequestHandler):
    "Repositories as {name: {revision: (commit, {file: bytes})}}, and the few calls of the Hub's interface that up- and download need."
    repos, log = {}, []

    def log_message(self, *args): pass

    def answer(self, content=b"", code=200, **headers):
        blob = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(code)
        for k, v in {"Content-Length": len(blob), **({} if isinstance(content, bytes) else {"Content-Type": "application/json"}), **headers}.items(): self.send_header(k.replace("_", "-"), str(v))
        self.end_headers()
        if self.command != "HEAD": self.wfile.write(blob)

    def find(self, repo, revision):
        "The commit and the files, or None after an answer that says what is missing."
        if repo not in self.repos: return self.answer(dict(error="Repository not found"), 404, X_Error_Code="RepoNotFound")
        found = next((r for name, r in self.repos[repo].items() if revision in (name, r[0])), None)
        return found or self.answer(dict(error="Revision not found"), 404, X_Error_Code="RevisionNotFound")

    def do_GET(self):
        path = unquote(self.path.split("?")[0]).strip("/")
        self.log.append(f"{self.command} {path}")
        if path == "api/whoami-v2": return self.answer(dict(name="somebody", type="user", orgs=[], auth=dict()))
        if m := re.fullmatch(r"api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            if found := self.find(m[1], m[2] or "main"): self.answer(dict(_id="1", id=m[1], modelId=m[1], sha=found[0], private=False, tags=[], downloads=0, likes=0, siblings=[dict(rfilename=f) for f in found[1]]))
        elif m := re.fullmatch(r"api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
            if found := self.find(m[1], m[2]): self.answer([dict(type="file", path=f, size=len(b), oid=hashlib.sha1(b).hexdigest()) for f, b in found[1].items()])
        elif m := re.fullmatch(r"([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            if found := self.find(m[1], m[2]): self.answer(found[1][m[3]], ETag=f'"{hashlib.sha1(found[1][m[3]]).hexdigest()}"', X_Repo_Commit=found[0])
        else: self.answer(dict(error="no such page"), 404)

    do_HEAD = do_GET

    def do_POST(self):
        path, body = unquote(self.path.split("?")[0]).strip("/"), self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.log.append(f"POST {path} {'with' if self.headers.get('Authorization') == 'Bearer secret' else 'without'} token")
        if path == "api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'somebody'}/{asked['name']}"
            if name in self.repos: return self.answer(dict(error="exists"), 409)
            self.repos[name] = {"main": ("0" * 40, {})}
            self.answer(dict(url=f"http://{self.headers['Host']}/{name}", id=name, name=name))
        elif path == "api/validate-yaml": self.answer(dict(errors=[], warnings=[]))
        elif m := re.fullmatch(r"api/models/([^/]+/[^/]+)/branch/(.+)", path):
            self.repos[m[1]][m[2]] = self.repos[m[1]]["main"]
            self.answer({})
        elif m := re.fullmatch(r"api/models/([^/]+/[^/]+)/preupload/(.+)", path): self.answer(dict(files=[dict(path=f["path"], uploadMode="regular", shouldIgnore=False) for f in json.loads(body)["files"]]))
        elif m := re.fullmatch(r"api/models/([^/]+/[^/]+)/commit/(.+)", path):
            lines = [json.loads(l) for l in body.splitlines()]
            files = {l["value"]["path"]: b64decode(l["value"]["content"]) for l in lines if l["key"] == "file"}
            commit = hashlib.sha1(body).hexdigest()
            self.repos[m[1]][m[2]] = commit, {**self.repos[m[1]][m[2]][1], **files}
            self.answer(dict(success=True, commitOid=commit, commitUrl=f"http://{self.headers['Host']}/{m[1]}/commit/{commit}"))
        else: self.answer(dict(error="no such call"), 404)


@pytest.fixture
def hub(tmp_path):
    "Runs code in a process of its own, whose Hub is the server here; gives what it printed as JSON."
    Hub.repos, Hub.log = {}, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()

    def run(code, **env):
        head = ("import json, sys\nfrom ncvq_nb import NCVQ\nfrom test_sharing import fingerprint\nout = {}\n"
                "def error(f):\n    try: f()\n    except Exception as e: return [type(e).__name__, str(e)]\n    return None\n")
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING_FACE_")) and "proxy" not in k.lower()}
        r = subprocess.run([sys.executable, "-c", head + code + "\nprint(json.dumps(out))"], capture_output=True, text=True, cwd=tmp_path, timeout=300,
                           env={**clean, "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
                                "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parent)]), **env})
        assert r.returncode == 0, r.stderr[-3000:]
        return json.loads(r.stdout.splitlines()[-1])
    run.stop = lambda: (server.shutdown(), server.server_close())
    yield run
    run.stop()


@needs_hub
@pytest.mark.slow
def test_there_and_back(model, report, hub, tmp_path):
    model.save(tmp_path / "first")
    (tmp_path / "first").rename(tmp_path / "kept")
    up = hub("m = NCVQ.load('kept')\n"
             "out['url'] = m.save_pretrained('chairs', push_to_hub=True, token='secret', data_name='chairs')\n"
             "open('chairs/diary.txt', 'w').write('mine')\n"
             "out['other'] = error(lambda: m.save_pretrained('chairs', push_to_hub=True, token='secret'))\n"  # not just a model any more
             "import os; os.remove('chairs/diary.txt')\n"
             "m.set_params(guidance_scale=2.0).save_pretrained('chairs', push_to_hub=True, repo_id='group/seats', revision='v2', token='secret', private=True)")
    assert set(Hub.repos) == {"somebody/chairs", "group/seats"} and up["url"].endswith("/somebody/chairs/commit/" + Hub.repos["somebody/chairs"]["main"][0])
    assert up["other"][0] == "ValueError" and Hub.repos["group/seats"]["main"][1] == {}
    for files in (Hub.repos["somebody/chairs"]["main"][1], Hub.repos["group/seats"]["v2"][1]): assert set(files) == {"README.md", "config.json", "tokenizer.safetensors", "prior.safetensors"}
    assert all("without token" not in l for l in Hub.log if l.startswith("POST") and "validate" not in l)

    Hub.repos["somebody/chairs"]["main"][1]["malware.py"] = b"raise SystemExit('run')"
    commit = Hub.repos["somebody/chairs"]["main"][0]
    Hub.log.clear()
    down = hub("a = NCVQ.from_pretrained('somebody/chairs', cache_dir='cache')\n"
               f"out['prints'] = [fingerprint(m) for m in (a, NCVQ.from_pretrained('somebody/chairs', cache_dir='cache', local_files_only=True), NCVQ.from_pretrained('somebody/chairs', revision='{commit}'), NCVQ.from_pretrained('group/seats', revision='v2'))]\n"
               "out['guidance'] = [a.guidance_scale, NCVQ.from_pretrained('group/seats', revision='v2').guidance_scale]")
    assert set(down["prints"]) == {fingerprint(model)} and down["guidance"] == [1.0, 2.0]
    assert not [l for l in Hub.log if "malware" in l and "resolve" in l]

    wrong = hub("out['repo'] = error(lambda: NCVQ.from_pretrained('somebody/chars'))\n"
                "out['revision'] = error(lambda: NCVQ.from_pretrained('somebody/chairs', revision='v9'))\n"
                "out['empty'] = error(lambda: NCVQ.from_pretrained('group/seats'))\n"
                "out['cached'] = error(lambda: NCVQ.from_pretrained('somebody/chars', local_files_only=True))\n"
                "out['name'] = error(lambda: NCVQ.from_pretrained('a--b..c/x'))")
    assert wrong["repo"][0] == "FileNotFoundError" and "somebody/chars is neither a folder here nor a repository" in wrong["repo"][1] and "token=" in wrong["repo"][1]
    assert wrong["revision"][0] == "ValueError" and "'v9'" in wrong["revision"][1]
    assert wrong["empty"][0] in ("FileNotFoundError", "ValueError") and "config.json" in wrong["empty"][1] or "no folder" in wrong["empty"][1]
    assert wrong["cached"][0] == "ConnectionError" and "was not to be asked" in wrong["cached"][1]
    assert wrong["name"][0] == "FileNotFoundError" and "spelling" in wrong["name"][1]


@needs_hub
@pytest.mark.slow
def test_without_a_network(model, hub, tmp_path):
    model.save(tmp_path / "kept")
    hub("NCVQ.load('kept').save_pretrained('chairs', push_to_hub=True, token='secret')\nNCVQ.from_pretrained('somebody/chairs')")
    hub.stop()
    ask = "out['print'] = fingerprint(NCVQ.from_pretrained('somebody/chairs'))\nout['new'] = error(lambda: NCVQ.from_pretrained('somebody/else'))"
    for env in ({}, {"HF_HUB_OFFLINE": "1"}):
        got = hub(ask, **env)
        assert got["print"] == fingerprint(model)  # what was downloaded before is there
        assert got["new"][0] == "ConnectionError" and "somebody/else" in got["new"][1] and "not downloaded before" in got["new"][1]


@needs_hub
@pytest.mark.slow
def test_a_download_is_checked_like_any_folder(model, hub, tmp_path):
    model.save(tmp_path / "kept")
    hub("NCVQ.load('kept').save_pretrained('chairs', push_to_hub=True, token='secret')")
    files = Hub.repos["somebody/chairs"]["main"][1]
    files["prior.safetensors"] = files["prior.safetensors"][:-1] + b"x"
    Hub.repos["somebody/bert"] = {"main": ("1" * 40, {"config.json": b'{"model_type": "bert"}'})}
    got = hub("out['changed'] = error(lambda: NCVQ.from_pretrained('somebody/chairs'))\nout['bert'] = error(lambda: NCVQ.from_pretrained('somebody/bert'))")
    assert got["changed"][0] == "ValueError" and "hash differs" in got["changed"][1] and got["bert"][0] == "ValueError" and "not the configuration of a model" in got["bert"][1]
