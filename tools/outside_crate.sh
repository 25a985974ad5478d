#!/usr/bin/env bash
# A crate outside of the workspace, with a path dependency on `lightglm` alone, builds and runs:
#
#   tools/outside_crate.sh SCRATCH
#
# copies tools/outside_crate into the folder SCRATCH, builds it with the versions of this workspace and
# runs it in the background; prints its process id and the address it serves on.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
scratch=$1
mkdir -p "$scratch/files"
cp -r "$here/tools/outside_crate" "$scratch/outside"
sed -i "s|@LIGHTGLM@|$here/crates/lightglm|" "$scratch/outside/Cargo.toml"
# The Rust page of the guide, as it stands there.
mkdir -p "$scratch/outside/src/bin"
python3 "$here/tools/run_guide.py" --rust > "$scratch/outside/src/bin/guide.rs"
cp "$here/Cargo.lock" "$scratch/outside/Cargo.lock"
# The workspace's folder: what is compiled there already is not compiled again.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$here/target}
(cd "$scratch/outside" && cargo build --release)
printf '{"question": "Where is shelf %s?", "answer": "In hall B."}\n' 7 9 11 13 > "$scratch/files/faq.jsonl"
(cd "$scratch/files" && "$CARGO_TARGET_DIR/release/guide" >&2)
"$CARGO_TARGET_DIR/release/outside" "$scratch/files" > "$scratch/outside.out" 2> "$scratch/outside.log" &
program=$!
for _ in $(seq 600); do
    grep -q '^http://' "$scratch/outside.out" && break
    kill -0 "$program" 2> /dev/null || break
    sleep 1
done
if ! grep -q '^http://' "$scratch/outside.out"; then
    kill "$program" 2> /dev/null || true
    cat "$scratch/outside.out" "$scratch/outside.log" >&2
    exit 1
fi
grep -v '^http://' "$scratch/outside.out" >&2
echo "$program $(grep '^http://' "$scratch/outside.out")"
