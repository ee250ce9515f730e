"""Checks that dinolab and the Python libraries share the cache of the Hugging Face Hub.

    python hub_check.py --program target/release/dinolab

A server on this machine speaks the hub's protocol and has small networks of transformers and timm with random
weights. Each is downloaded by one program and read by the other without a network, both ways; the features of
dinolab are compared with those of the library that made the network. Nothing is downloaded from elsewhere.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from PIL import Image

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SIDE = 56
TOLERANCE = 1e-5
CARD = "---\nlicense: apache-2.0\ntags:\n- test\n---\n# A network with random weights\n"


def make(root: Path) -> dict[str, Path]:
    """Folders of networks as the libraries write them, by the names of their models."""
    import timm
    import torch
    from timm.models._hub import save_for_hf
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model, ViTConfig, ViTModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": SIDE}
    processor = BitImageProcessor(
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        image_mean=[0.5, 0.4, 0.3],
        image_std=[0.2, 0.25, 0.3],
        resample=3,
    )
    models = {
        "peers/vit": (ViTModel(ViTConfig(**sizes, patch_size=8, intermediate_size=96)), {}),
        "peers/dinov2": (Dinov2Model(Dinov2Config(**sizes, patch_size=14)), {}),
        "peers/sharded": (Dinov2Model(Dinov2Config(**sizes, patch_size=14)), {"max_shard_size": "60KB"}),
    }
    folders = {}
    for name, (model, options) in models.items():
        folder = root / name
        model.eval().save_pretrained(folder, **options)
        processor.save_pretrained(folder)
        folders[name] = folder
    small = {"img_size": SIDE, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3, "num_classes": 0}
    model = timm.create_model("vit_tiny_patch16_224", **small).eval()
    folder = root / "peers/timm"
    folder.mkdir(parents=True)
    args = {key: value for key, value in small.items() if key != "num_classes"}
    model.pretrained_cfg = {**model.pretrained_cfg, "input_size": (3, SIDE, SIDE), "crop_pct": 1.0}
    save_for_hf(model, folder, model_args=args, safe_serialization=True)
    folders["peers/timm"] = folder
    for folder in folders.values():
        (folder / "README.md").write_text(CARD)
    return folders


class Hub:
    """Serves folders as the hub does: small files itself, large ones by a redirect to another port."""

    def __init__(self, folders: dict[str, Path]) -> None:
        self.folders = folders
        self.seen: list[str] = []
        self.files = self.serve(self.file)
        self.hub = self.serve(self.resolve)
        self.endpoint = f"http://127.0.0.1:{self.hub.server_port}"

    @staticmethod
    def serve(answer) -> ThreadingHTTPServer:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer(self)

            do_HEAD = do_GET

            def log_message(self, *_) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    def stop(self) -> None:
        for server in (self.hub, self.files):
            server.shutdown()
            server.server_close()

    @staticmethod
    def send(handler, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        handler.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command == "GET":
            handler.wfile.write(body)

    def resolve(self, handler) -> None:
        self.seen.append(f"{handler.command} {handler.path}")
        parts = handler.path.split("?")[0].split("/")
        if parts[1:3] == ["api", "models"] and len(parts) > 5:
            return self.list(handler, "/".join(parts[3:5]), parts[5])
        if len(parts) < 6 or parts[3] != "resolve":
            return self.send(handler, 404, {"X-Error-Code": "EntryNotFound"})
        folder = self.folders.get("/".join(parts[1:3]))
        if folder is None:
            return self.send(handler, 401, {"X-Error-Code": "RepoNotFound"})
        if parts[4] not in ("main", COMMIT):
            return self.send(handler, 404, {"X-Error-Code": "RevisionNotFound"})
        path = folder / "/".join(parts[5:])
        headers = {"X-Repo-Commit": COMMIT}
        if not path.is_file():
            return self.send(handler, 404, {**headers, "X-Error-Code": "EntryNotFound"})
        body = path.read_bytes()
        if path.suffix == ".safetensors":
            headers["X-Linked-Etag"] = f'"{hashlib.sha256(body).hexdigest()}"'
            headers["X-Linked-Size"] = str(len(body))
            relative = path.relative_to(folder.parent.parent)
            headers["Location"] = f"http://127.0.0.1:{self.files.server_port}/{relative}"
            return self.send(handler, 302, headers)
        git = hashlib.sha1(f"blob {len(body)}\0".encode() + body).hexdigest()
        return self.send(handler, 200, {**headers, "ETag": f'"{git}"'}, body)

    def list(self, handler, model: str, what: str) -> None:
        """The files of a model, which transformers wants to have of one in several files."""
        entries = []
        for path in sorted(self.folders[model].iterdir()):
            body = path.read_bytes()
            git = hashlib.sha1(f"blob {len(body)}\0".encode() + body).hexdigest()
            entry = {"type": "file", "path": path.name, "size": len(body), "oid": git}
            if path.suffix == ".safetensors":
                sha256 = hashlib.sha256(body).hexdigest()
                entry["lfs"] = {"oid": sha256, "size": len(body), "pointerSize": 130}
            entries.append(entry)
        siblings = [{"rfilename": entry["path"]} for entry in entries]
        answer = entries if what == "tree" else {"id": model, "sha": COMMIT, "siblings": siblings}
        headers = {"Content-Type": "application/json", "X-Repo-Commit": COMMIT}
        self.send(handler, 200, headers, json.dumps(answer).encode())

    def file(self, handler) -> None:
        root = next(iter(self.folders.values())).parent.parent
        self.send(handler, 200, {}, (root / handler.path.lstrip("/")).read_bytes())


def environment(home: Path, endpoint: str, offline: bool) -> dict[str, str]:
    """The variables of a program that uses the cache at `home`."""
    unset = ("HF_", "HUGGINGFACE_", "TRANSFORMERS_")
    variables = {key: value for key, value in os.environ.items() if not key.startswith(unset)}
    variables |= {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_TELEMETRY": "1"}
    return variables | ({"HF_HUB_OFFLINE": "1"} if offline else {})


def features_by_library(model: str, images: Path) -> np.ndarray:
    """Class tokens `[N, D]` of the images by the library that the model is of; runs in a process of its own."""
    import torch

    names = sorted(images.iterdir())
    pixels = np.stack([np.asarray(Image.open(name).convert("RGB")) for name in names]) / 255.0
    if model == "peers/timm":
        import timm

        network = timm.create_model(f"hf-hub:{model}", pretrained=True).eval()
        config = network.pretrained_cfg
        mean, std = config["mean"], config["std"]
        tokens = network.forward_features
    else:
        from transformers import AutoImageProcessor, AutoModel

        processor = AutoImageProcessor.from_pretrained(model, backend="pil")
        network = AutoModel.from_pretrained(model).eval()
        mean, std = processor.image_mean, processor.image_std

        def tokens(batch):
            return network(batch).last_hidden_state

    batch = torch.tensor((pixels - mean) / std, dtype=torch.float32).permute(0, 3, 1, 2)
    with torch.inference_mode():
        return tokens(batch)[:, 0].numpy()


def check_cache() -> None:
    """Nothing in the cache is odd to the hub's own library."""
    from huggingface_hub import scan_cache_dir

    found = scan_cache_dir()
    assert not found.warnings, found.warnings
    for repo in found.repos:
        (revision,) = repo.revisions
        assert (revision.commit_hash, revision.refs) == (COMMIT, {"main"}), repo


def by_library(model: str, images: Path, out: Path, variables: dict[str, str]) -> np.ndarray:
    command = [sys.executable, __file__, "--library", model, "--images", str(images), "--out", str(out)]
    subprocess.run(command, env=variables, check=True)
    return np.load(out)


def by_dinolab(program: Path, model: str, images: Path, out: Path, variables: dict[str, str]) -> np.ndarray:
    command = [str(program), "embed", str(images), "--weights", f"hf:{model}", "--out", str(out)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"commit {COMMIT}, licence " in done.stderr, done.stderr
    return np.load(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", type=Path, help="dinolab")
    parser.add_argument("--library", metavar="MODEL", help=argparse.SUPPRESS)
    parser.add_argument("--images", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.library:
        np.save(args.out, features_by_library(args.library, args.images))
        check_cache()
        return
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        images = root / "images"
        images.mkdir()
        random = np.random.default_rng(0)
        for index in range(4):
            pixels = random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(images / f"{index}.png")
        folders = make(root / "models")
        hub = Hub(folders)
        program = args.program.resolve()
        results, found = [], {}
        for model in folders:
            # Downloaded by one, read by the other.
            theirs = by_library(model, images, root / "a.npy", environment(root / "a", hub.endpoint, False))
            ours = by_dinolab(program, model, images, root / "b.npy", environment(root / "b", hub.endpoint, False))
            found[model] = (theirs, ours)
        hub.stop()
        requests = len(hub.seen)
        for model, (theirs, ours) in found.items():
            again = by_library(model, images, root / "c.npy", environment(root / "b", hub.endpoint, True))
            back = by_dinolab(program, model, images, root / "d.npy", environment(root / "a", hub.endpoint, True))
            assert np.array_equal(theirs, again) and np.array_equal(ours, back), model
            error = float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))
            results.append({"model": model, "relative_error": error})
            print(f"{model:16} read by both from either's cache; relative error of features {error:.1e}")
            assert error < TOLERANCE, model
        assert len(hub.seen) == requests
        print(json.dumps(results))


if __name__ == "__main__":
    main()
