#!/usr/bin/env python3
"""lightglm beside llama.cpp and transformers on this machine, in turns.

    tools/compare.py --work DIR [--quick] [--only NAME,...] [--rounds N]

Builds the peers in DIR, makes model files there, and runs ours and theirs one after the other, round by round:
a prompt of 512 tokens and 64 decode steps, the same threads. Each round gives a ratio of the same minute;
their median and quartiles are what docs/benchmarks/<processor>.md says, with all raw numbers.

* bf16: the same weights in bf16; llama.cpp and transformers
* int8, int4: our schemes, made while the checkpoint is loaded; llama.cpp's Q8_0 and Q4_0 of the same weights
* q8_0, q4_0, q4_k, q6_k, smollm2: one GGUF file as it is stored, in both programs
* depth8192-f16, depth8192-int8: int8 and Q8_0 weights, decode steps behind 8192 positions, keys and values in
  f16 or in eight bits; llama.cpp reads the 8192 tokens first, in a minute or more

Needs cargo, a C++ compiler, Python 3.11 with venv, and the package index, which brings everything else
(cmake, ninja, llama.cpp's sources, torch: 8 GB with its libraries; `--no-torch` leaves it out). Ctrl-C stops;
what was built and measured is kept in DIR, and the next run of the same commit adds its rounds.
"""

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import compare_report
from compare_peers import ROOT, SHAPES, Work, llama_bench, read_llama_bench, say

PREFILL, DECODE, DEPTH_DECODE = 512, 64, 32


class Comparison:
    """What is run in turns: `commands` by program."""

    def __init__(self, name, title, shape, commands):
        self.name, self.title, self.shape, self.commands = name, title, shape, commands


def comparisons(work, options):
    """All of them, in the order of the report."""
    threads = str(options.threads)
    plain, k = ("small", "small") if options.quick else ("mid", "mid-k")

    def ours(*arguments, prefill=PREFILL, decode=DECODE):
        fixed = ["--threads", threads, "--prefill", str(prefill), "--decode", str(decode), "--repetitions", "1"]
        return [str(work.program("bench")), *map(str, arguments), *fixed, "--json"]

    def theirs(shape, dtype, *arguments):
        arguments = arguments or ["-p", str(PREFILL), "-n", str(DECODE)]
        return llama_bench(work, threads, work.gguf(shape, dtype), arguments)

    def weights(name, title, ours_arguments, dtype, **others):
        commands = {"lightglm": ours("--model", work.checkpoint(plain), *ours_arguments)}
        return Comparison(name, title, plain, commands | {"llama.cpp": theirs(plain, dtype)} | others)

    def stored(name, title, shape, dtype):
        path = work.gguf(shape, dtype)
        commands = {"lightglm": ours("--model", path), "llama.cpp": theirs(shape, dtype)}
        return Comparison(name, title, shape, commands)

    def deep(depth, name, title, ours_kv, their_kv):
        arguments = ["--model", work.checkpoint(plain), "--scheme", "int8", "--kv-dtype", ours_kv, "--depth", depth]
        peer = ["-p", "0", "-n", str(DEPTH_DECODE), "-d", depth, "-fa", "on", "-ctk", their_kv, "-ctv", their_kv]
        commands = {
            "lightglm": ours(*arguments, prefill=0, decode=DEPTH_DECODE),
            "llama.cpp": theirs(plain, "q8_0", *peer),
        }
        return Comparison(f"depth{depth}-{name}", f"`int8` at depth {depth}, {title}", plain, commands)

    torch = {}
    if options.torch:
        script = str(ROOT / "tools" / "compare_torch.py")
        # A quarter of the steps: where the processor has no bf16 arithmetic, torch takes a second for each.
        sizes = ["--prefill", str(PREFILL), "--decode", str(DECODE // 4)]
        torch["transformers"] = [str(work.python), script, str(work.checkpoint(plain)), "--threads", threads, *sizes]
    return [
        weights("bf16", "bf16 weights", [], "bf16", **torch),
        weights("int8", "`int8`, beside Q8_0", ["--scheme", "int8"], "q8_0"),
        weights("int4", "`int4`, beside Q4_0", ["--scheme", "int4"], "q4_0"),
        stored("q8_0", "GGUF as stored, Q8_0", plain, "q8_0"),
        stored("q4_0", "GGUF as stored, Q4_0", plain, "q4_0"),
        stored("q4_k", "GGUF as stored, Q4_K_M", k, "q4_k"),
        stored("q6_k", "GGUF as stored, Q6_K", k, "q6_k"),
        stored("smollm2", "GGUF as stored, SmolLM2-135M (Q4_1)", "smollm2", None),
        *(deep(depth, "f16", "keys and values f16", "f16", "f16") for depth in options.depth),
        *(deep(depth, "int8", "keys and values int8, beside q8_0", "int8", "q8_0") for depth in options.depth),
    ]


class Stopped(Exception):
    """Ctrl-C."""


def processor_seconds():
    """Seconds that all processors worked, and seconds that passed on them; None where /proc has no such file."""
    path = pathlib.Path("/proc/stat")
    if not path.exists():
        return None
    # user, nice, system, idle, iowait, irq, softirq, steal (guests are part of user).
    ticks = [int(word) for word in path.read_text().splitlines()[0].split()[1:9]]
    return [(sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK"), sum(ticks) / os.sysconf("SC_CLK_TCK")]


def run_measured(command, log):
    """What the command prints, the most memory it held in bytes, and others' share of the processors."""
    before = processor_seconds()
    with log.open("ab") as errors:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
        try:
            text = child.stdout.read().decode()
            _, status, usage = os.wait4(child.pid, 0)
        except KeyboardInterrupt:
            child.kill()
            child.wait()
            raise Stopped from None
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        end = "\n".join(log.read_text(errors="replace").splitlines()[-12:])
        raise SystemExit(f"{end}\nexit status {child.returncode} (all of it in {log}): {' '.join(command)}")
    after, others = processor_seconds(), None
    if before and after and after[1] > before[1]:
        busy = after[0] - before[0] - usage.ru_utime - usage.ru_stime
        others = max(0.0, busy / (after[1] - before[1]))
    return text, {"peak_bytes": usage.ru_maxrss * 1024, "others": others}


def measure(work, program, command):
    """One turn of one program, as a row of numbers."""
    text, held = run_measured(command, work.folder / "measure.log")
    if program == "llama.cpp":
        rates, commit = read_llama_bench(text)
        return {**rates, **held, "commit": commit}
    row = json.loads(text)
    numbers = {"prefill": row["prefill_tokens_per_s"], "decode": row["decode_tokens_per_s"], **held}
    roofs = ["read_bandwidth_gbs", "f32_gflops", "int8_gops", "decode_fraction_of_bandwidth",
             "prefill_fraction_of_compute", "prefill_fraction_of_int8", "decode_bytes_per_token"]
    return numbers | {name: row[name] for name in roofs if row.get(name) is not None}


def measure_all(work, chosen, options, store):
    """Rounds of each comparison, the programs in turns."""
    for comparison in chosen:
        began = time.monotonic()
        for number in range(options.rounds):
            for program, command in comparison.commands.items():
                numbers = measure(work, program, command)
                store.add(comparison.name, program, command, number, numbers)
                rates = [f"{kind} {numbers[kind]:.1f}" for kind in ("prefill", "decode") if numbers.get(kind)]
                say(f"{comparison.name}, round {number + 1} of {options.rounds}: {program} {', '.join(rates)} "
                    f"tokens/s, {numbers['peak_bytes'] / 1e9:.2f} GB"
                    + (", DISTURBED" if compare_report.is_disturbed(numbers) else ""))
        say(f"{comparison.name}: {time.monotonic() - began:.0f} s")


class Store:
    """The measurements of a work folder, one JSON object a line, each with what makes it comparable."""

    def __init__(self, path, setting):
        self.path, self.setting = path, setting
        self.started = time.strftime("%Y-%m-%dT%H:%M:%S")

    def add(self, comparison, program, command, number, numbers):
        row = {"setting": self.setting, "started": self.started, "comparison": comparison, "program": program,
               "round": number, "at": time.strftime("%Y-%m-%d %H:%M:%S"), "numbers": numbers, "command": command}
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def rows(self):
        """All rows of this setting, from this run and from those before."""
        if not self.path.exists():
            return []
        rows = [json.loads(line) for line in self.path.read_text().splitlines()]
        return [row for row in rows if row["setting"] == self.setting]

    def forget(self, names):
        """Removes the rows of these comparisons in this setting."""
        if self.path.exists():
            old = [json.loads(line) for line in self.path.read_text().splitlines()]
            kept = [row for row in old if row["setting"] != self.setting or row["comparison"] not in names]
            write_whole(self.path, "".join(json.dumps(row) + "\n" for row in kept))


def write_whole(path, text):
    """Writes a file under another name and renames it, so that a reader never sees a part of it."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_text(text)
    unfinished.rename(path)


def git(*arguments):
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=pathlib.Path, required=True, help="folder that keeps builds, files, numbers")
    parser.add_argument("--quick", action="store_true", help="a small shape, two rounds, depth 1024")
    parser.add_argument("--only", help="names of comparisons, with commas between; all if omitted")
    parser.add_argument("--rounds", type=int, help="turns of each program (5, with --quick 2)")
    parser.add_argument("--depth", help="depths, with commas between (8192, with --quick 1024)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of every program")
    parser.add_argument("--output", type=pathlib.Path, help="docs/benchmarks/<processor>.md if omitted; with "
                        "--quick DIR/quick.md")
    parser.add_argument("--program-dir", type=pathlib.Path, help="folder with our bench and make_checkpoint; "
                        "cargo builds them if omitted")
    parser.add_argument("--no-torch", dest="torch", action="store_false", help="leave transformers out")
    parser.add_argument("--skip-build", action="store_true", help="measure only: all is built")
    parser.add_argument("--only-build", action="store_true", help="build and make all files, measure nothing")
    parser.add_argument("--only-report", action="store_true", help="write the report of what was measured before")
    parser.add_argument("--fresh", action="store_true", help="forget older rounds of the chosen comparisons")
    options = parser.parse_args()
    options.rounds = options.rounds or (2 if options.quick else 5)
    options.depth = (options.depth or ("1024" if options.quick else "8192")).split(",")
    if not all(depth.isdigit() for depth in options.depth):
        parser.error("--depth takes numbers, with commas between")
    if options.rounds < 1 or options.threads < 1:
        parser.error("--rounds and --threads must be more than 0")
    return parser, options


def main():
    # Ended by `timeout` or a supervisor: as by Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parser, options = arguments()
    began = time.monotonic()
    work = Work(options.work, options.program_dir)
    if options.torch and options.skip_build and not work.version("transformers"):
        say("transformers is not installed in the work folder: left out")
        options.torch = False
    every = comparisons(work, options)
    names = [comparison.name for comparison in every]
    wanted = options.only.split(",") if options.only else names
    unknown = [name for name in wanted if name not in names]
    if unknown:
        parser.error(f"--only: no {', '.join(unknown)}; there are {', '.join(names)}")
    chosen = [comparison for comparison in every if comparison.name in wanted]

    if not (options.skip_build or options.only_report):
        shapes = [shape for shape in SHAPES if any(shape == comparison.shape for comparison in chosen)]
        work.build(shapes, options.torch and "bf16" in wanted)
    if options.only_build:
        say(f"all is built ({time.monotonic() - began:.0f} s)")
        return
    missing = [part for comparison in chosen for command in comparison.commands.values()
               for part in command if part.startswith("/") and not pathlib.Path(part).exists()]
    if missing and not options.only_report:
        raise SystemExit(f"not built yet: {', '.join(sorted(set(missing)))}; run without --skip-build")

    sources = ["--", "crates", "examples", "Cargo.toml", "Cargo.lock"]
    changed = git("status", "--porcelain", "--untracked-files=no", *sources)
    setting = {
        # The last one that touched what is measured: documents may change between two portions.
        "commit": git("log", "-1", "--format=%h", *sources) + (" with changes" if changed else ""),
        "processor": compare_report.processor_kind(),
        "threads": options.threads,
        "quick": options.quick,
    }
    store = Store(work.folder / "measurements.jsonl", setting)
    if options.fresh:
        store.forget(wanted)
    stopped = False
    if not options.only_report:
        try:
            measure_all(work, chosen, options, store)
        except (Stopped, KeyboardInterrupt):
            stopped = True
            say("stopped; what was measured is kept")
    rows = store.rows()
    if not rows:
        raise SystemExit("nothing was measured in this setting: " + json.dumps(setting))
    default = work.folder / "quick.md" if options.quick else (
        ROOT / "docs" / "benchmarks" / f"{setting['processor']}.md")
    output = options.output or default
    output.parent.mkdir(parents=True, exist_ok=True)
    places = {str(work.folder): "DIR", str(work.program("bench").parent): "target/release/examples",
              str(ROOT): "."}
    titles = {comparison.name: comparison.title for comparison in every}
    write_whole(output, compare_report.report(rows, titles, setting, work.versions(), places))
    say(f"wrote {output} ({time.monotonic() - began:.0f} s)")
    if stopped:
        sys.exit(130)


if __name__ == "__main__":
    main()
