"""To the Hugging Face Hub and back: its real client against a server here that answers like it."""

import hashlib
import json
import re
import subprocess
import sys
from base64 import b64decode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from threading import Thread
from urllib.parse import unquote

import pytest

from ncvq_nb import NCVQ
from toys import DRIVERS, ENV, fingerprint, fitted, posix, says

needs_hub = pytest.mark.skipif(
    find_spec("huggingface_hub") is None,
    reason="huggingface_hub is an extra: pip install 'ncvq_nb[hub]'",
)


@pytest.fixture(scope="module")
def model():
    return fitted(epochs=1)


# Folders on this machine


def test_folders_need_no_client(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # as if it were not installed
    folder, wanted = tmp_path / "m", fingerprint(model)
    assert model.save_pretrained(folder) is None
    assert fingerprint(NCVQ.from_pretrained(folder)) == wanted
    assert fingerprint(NCVQ.from_pretrained(str(folder), device="cpu")) == wanted
    with says("somebody/model", "no folder here", "ncvq_nb[hub]", kind=ImportError):
        NCVQ.from_pretrained("somebody/model")
    with says("ncvq_nb[hub]", kind=ImportError):
        model.save_pretrained(tmp_path / "new", push_to_hub=True)
    assert not (tmp_path / "new").exists()
    with says("revision 'v1'", "folder", kind=ValueError):
        NCVQ.from_pretrained(folder, revision="v1")
    for path in (tmp_path / "nowhere", "./nowhere", "a/b/c"):
        with says("no folder", kind=FileNotFoundError):
            NCVQ.from_pretrained(path)


# A Hub on this machine


def sha1(content):
    return hashlib.sha1(content).hexdigest()


class Hub(ThreadingHTTPServer):
    "Repositories as {name: {revision: (commit, {file: bytes})}}, and a log of what was asked."

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answers)
        self.repos, self.log = {}, []


class Answers(BaseHTTPRequestHandler):
    "The few calls of the Hub's interface that up- and download need."

    def log_message(self, *args):
        pass

    def send(self, content, code=200, **headers):
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
            headers["Content-Type"] = "application/json"
        self.send_response(code)
        for k, v in {"Content-Length": len(content), **headers}.items():
            self.send_header(k.replace("_", "-"), str(v))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def find(self, repo, revision):
        "The commit and the files, or None after an answer that says what is missing."
        revisions = self.server.repos.get(repo)
        if revisions is None:
            self.send(dict(error="Repository not found"), 404, X_Error_Code="RepoNotFound")
            return None
        for name, (commit, files) in revisions.items():
            if revision in (name, commit):
                return commit, files
        self.send(dict(error="Revision not found"), 404, X_Error_Code="RevisionNotFound")
        return None

    def path_asked(self):
        return unquote(self.path.split("?")[0]).strip("/")

    # What is read

    def do_GET(self):
        path = self.path_asked()
        self.server.log.append(f"{self.command} {path}")
        if path == "api/whoami-v2":
            self.send(dict(name="somebody", type="user", orgs=[], auth={}))
        elif m := re.fullmatch(r"api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self.send_model(m[1], m[2] or "main")
        elif m := re.fullmatch(r"api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
            self.send_tree(m[1], m[2])
        elif m := re.fullmatch(r"([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.send_content(*m.groups())
        else:
            self.send(dict(error="no such page"), 404)

    do_HEAD = do_GET

    def send_model(self, repo, revision):
        if found := self.find(repo, revision):
            commit, files = found
            about = dict(_id="1", id=repo, modelId=repo, sha=commit, private=False, tags=[])
            siblings = [dict(rfilename=name) for name in files]
            self.send({**about, "downloads": 0, "likes": 0, "siblings": siblings})

    def send_tree(self, repo, revision):
        if found := self.find(repo, revision):
            files = found[1].items()
            self.send([dict(type="file", path=k, size=len(b), oid=sha1(b)) for k, b in files])

    def send_content(self, repo, revision, name):
        if found := self.find(repo, revision):
            content = found[1][name]
            self.send(content, ETag=f'"{sha1(content)}"', X_Repo_Commit=found[0])

    # What is written

    def do_POST(self):
        path, repos = self.path_asked(), self.server.repos
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        known = self.headers.get("Authorization") == "Bearer secret"
        self.server.log.append(f"POST {path} {'with' if known else 'without'} token")
        if path == "api/repos/create":
            self.create(json.loads(body))
        elif path == "api/validate-yaml":
            self.send(dict(errors=[], warnings=[]))
        elif m := re.fullmatch(r"api/models/([^/]+/[^/]+)/branch/(.+)", path):
            repos[m[1]][m[2]] = repos[m[1]]["main"]
            self.send({})
        elif re.fullmatch(r"api/models/[^/]+/[^/]+/preupload/.+", path):
            regular = dict(uploadMode="regular", shouldIgnore=False)
            files = json.loads(body)["files"]
            self.send(dict(files=[dict(path=f["path"], **regular) for f in files]))
        elif m := re.fullmatch(r"api/models/([^/]+/[^/]+)/commit/(.+)", path):
            self.commit(m[1], m[2], body)
        else:
            self.send(dict(error="no such call"), 404)

    def create(self, asked):
        name = f"{asked.get('organization') or 'somebody'}/{asked['name']}"
        if name in self.server.repos:
            self.send(dict(error="exists"), 409)
            return
        self.server.repos[name] = {"main": ("0" * 40, {})}
        self.send(dict(url=f"http://{self.headers['Host']}/{name}", id=name, name=name))

    def commit(self, repo, revision, body):
        lines = [json.loads(line) for line in body.splitlines()]
        added = [line["value"] for line in lines if line["key"] == "file"]
        files = {f["path"]: b64decode(f["content"]) for f in added}
        commit, revisions = sha1(body), self.server.repos[repo]
        revisions[revision] = commit, {**revisions[revision][1], **files}
        url = f"http://{self.headers['Host']}/{repo}/commit/{commit}"
        self.send(dict(success=True, commitOid=commit, commitUrl=url))


@pytest.fixture(scope="module")
def hub():
    server = Hub()
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def user(hub, tmp_path_factory):
    "Runs code as a user of that Hub; gives the dict `out` that the code fills."
    folder = tmp_path_factory.mktemp("hub")
    clean = {k: v for k, v in ENV.items() if not re.match("(?i)HF_|HUGGING_FACE_|.*proxy", k)}
    command = [sys.executable, DRIVERS / "hub_user.py"]
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    settings = dict(HF_HOME=str(folder / "hf"), HF_ENDPOINT=f"http://127.0.0.1:{hub.server_port}")
    settings |= dict(HF_HUB_DISABLE_XET="1", HF_HUB_DISABLE_PROGRESS_BARS="1")
    with subprocess.Popen(command, env=clean, **pipes) as process:

        def run(code, **env):
            asked = dict(code=code, folder=str(folder), env={**settings, **env})
            process.stdin.write(json.dumps(asked) + "\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
            assert "error" not in answer, answer["error"]
            return answer["result"]

        run.folder = folder
        yield run
        process.stdin.close()


@pytest.fixture(scope="module")
def uploaded(model, hub, user):
    "What was said when a model went up, twice: changed, as a branch of another repository."
    model.save(user.folder / "kept")
    return user("""
model = NCVQ.load("kept")
up = dict(push_to_hub=True, token="secret")
out["url"] = model.save_pretrained("chairs", **up, data_name="chairs")
open("chairs/diary.txt", "w").write("mine")
out["diary"] = error(model.save_pretrained, "chairs", **up)  # not just a model any more
__import__("os").remove("chairs/diary.txt")
model.set_params(guidance_scale=2.0)
model.save_pretrained("chairs", **up, repo_id="group/seats", revision="v2", private=True)
NCVQ.from_pretrained("somebody/chairs")  # which stays in the cache
""")


@needs_hub
@posix
@pytest.mark.slow
def test_a_model_goes_up(uploaded, hub):
    chairs, seats = hub.repos["somebody/chairs"], hub.repos["group/seats"]
    assert uploaded["url"].endswith("/somebody/chairs/commit/" + chairs["main"][0])
    assert uploaded["diary"][0] == "ValueError" and seats["main"][1] == {}
    parts = {f"{k}.safetensors" for k in ("tokenizer", "prior", "noise")}
    model_files = {"README.md", "config.json", *parts}
    assert set(chairs["main"][1]) == set(seats["v2"][1]) == model_files
    posts = [line for line in hub.log if line.startswith("POST") and "validate" not in line]
    assert posts and all("with token" in line for line in posts)


@needs_hub
@posix
@pytest.mark.slow
def test_a_model_comes_down(model, uploaded, hub, user):
    commit, files = hub.repos["somebody/chairs"]["main"]
    with_malware = {**files, "malware.py": b"raise SystemExit('run')"}
    hub.repos["somebody/more"] = {"main": ("3" * 40, with_malware)}
    down = user(f"""
ways = [
    ("somebody/chairs", dict(cache_dir="cache")),
    ("somebody/chairs", dict(cache_dir="cache", local_files_only=True)),
    ("somebody/chairs", dict(revision="{commit}")),
    ("group/seats", dict(revision="v2")),
    ("somebody/more", {{}}),
]
models = [NCVQ.from_pretrained(name, **how) for name, how in ways]
out["prints"] = [fingerprint(m) for m in models]
out["guidance"] = [m.guidance_scale for m in models]
""")
    assert down["prints"] == [fingerprint(model)] * 5
    assert down["guidance"] == [1.3, 1.3, 1.3, 2.0, 1.3]
    fetched = [line for line in hub.log if "somebody/more/resolve" in line]
    assert fetched and not any("malware" in line for line in fetched)


@needs_hub
@posix
@pytest.mark.slow
def test_what_cannot_be_had_is_an_error_in_plain_words(uploaded, hub, user):
    files = hub.repos["somebody/chairs"]["main"][1]
    changed = {**files, "prior.safetensors": files["prior.safetensors"][:-1] + b"x"}
    hub.repos["somebody/changed"] = {"main": ("2" * 40, changed)}
    hub.repos["somebody/bert"] = {"main": ("1" * 40, {"config.json": b'{"model_type": "bert"}'})}
    found = user("""
for key, name, how in [
    ("repo", "somebody/chars", {}),
    ("revision", "somebody/chairs", dict(revision="v9")),
    ("empty", "group/seats", {}),
    ("cached", "somebody/chars", dict(local_files_only=True)),
    ("name", "a--b..c/x", {}),
    ("changed", "somebody/changed", {}),
    ("bert", "somebody/bert", {}),
]:
    out[key] = error(NCVQ.from_pretrained, name, **how)
""")
    neither = "somebody/chars is neither a folder here nor a repository"
    wanted = dict(
        repo=("FileNotFoundError", neither, "token="),
        revision=("ValueError", "'v9'"),
        cached=("ConnectionError", "was not to be asked"),
        name=("FileNotFoundError", "spelling"),
        changed=("ValueError", "hash differs"),
        bert=("ValueError", "not the configuration of a model"),
    )
    for key, (kind, *parts) in wanted.items():
        assert found[key] is not None, key
        assert found[key][0] == kind and all(part in found[key][1] for part in parts), found[key]
    kind, said = found["empty"]  # some versions of the client make a folder for nothing
    assert kind in ("FileNotFoundError", "ValueError")
    assert "no folder" in said or "config.json" in said


@needs_hub
@posix
@pytest.mark.slow
@pytest.mark.parametrize("offline", [False, True])
def test_without_a_network(model, uploaded, user, offline):
    gone = Hub()
    gone.server_close()
    env = dict(HF_ENDPOINT=f"http://127.0.0.1:{gone.server_port}")
    if offline:
        env["HF_HUB_OFFLINE"] = "1"
    ask = """
out["print"] = fingerprint(NCVQ.from_pretrained("somebody/chairs"))
out["new"] = error(NCVQ.from_pretrained, "somebody/else")
"""
    found = user(ask, **env)
    assert found["print"] == fingerprint(model)  # what was downloaded before is there
    kind, said = found["new"]
    assert kind == "ConnectionError" and "not downloaded before" in said and "somebody/else" in said
