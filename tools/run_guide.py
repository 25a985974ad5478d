#!/usr/bin/env python3
"""Runs what docs/guide.md says, block after block, in an empty folder.

    tools/run_guide.py --shell SCRATCH      the blocks of commands, with programs built already
    tools/run_guide.py --rust               prints the Rust program, for tools/outside_crate.sh
    tools/run_guide.py --twins              checks that both languages have the same blocks
"""

import argparse
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def blocks(language: str, file: str = "guide.md") -> list[str]:
    text = (ROOT / "docs" / file).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shell", metavar="SCRATCH", type=pathlib.Path)
    parser.add_argument("--rust", action="store_true")
    parser.add_argument("--twins", action="store_true")
    parser.add_argument("--programs", type=pathlib.Path, default=ROOT / "target/release/examples")
    args = parser.parse_args()
    if args.rust:
        (program,) = blocks("rust")
        print(program, end="")
    if args.twins:
        for language in ("sh", "toml", "rust"):
            if blocks(language) != blocks(language, "guide.zh-CN.md"):
                print(f"the guides differ in their blocks of {language}", file=sys.stderr)
                return 1
    if args.shell:
        # The programs are built already; everything else is taken word for word. One shell for all,
        # with job control, so that the server's job number holds.
        commands = "\n".join(blocks("sh"))
        ours = re.compile(r"cargo run --release --example (\w+) --")
        commands = ours.sub(lambda found: f"{args.programs}/{found[1]}", commands)
        if "cargo" in commands:
            print("a command of the guide does not run an example", file=sys.stderr)
            return 1
        args.shell.mkdir(parents=True, exist_ok=True)
        shell = ["bash", "-c", f"set -euo pipefail -o monitor\n{commands}"]
        return subprocess.run(shell, cwd=args.shell, timeout=900, check=False).returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
