#!/bin/bash
# Builds dinolab and the tests that run on a device, and packs them for a machine with a GPU that has no Rust:
#
#     benches/gpu/pack.sh [FEATURE]          # cuda-cpp, the default, or cuda
#
# Writes benches/gpu/packed/device.tar.xz. DEVICE_TESTS names the modules of tests to take along, as CRATE/MODULE.
# Settings of cargo come from the environment, as CARGO_TARGET_DIR.
set -euo pipefail
cd "$(dirname "$0")/../.."
feature=${1:-cuda-cpp}
limit=$((60 << 20))
read -ra device_tests <<<"${DEVICE_TESTS:-nn/ops nn/model nn/features nn/precision train/golden train/dino_terms train/simdino train/lejepa train/visreg}"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/device"

# Prints the executables of one kind that a build made: crate, name, path.
executables() { # kind
    python3 -c '
import json, pathlib, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("reason") == "compiler-artifact" and message.get("executable"):
        target = message["target"]
        crate = pathlib.Path(message["manifest_path"]).parent.name
        print(target["kind"][0], crate, target["name"], message["executable"])
' | awk -v kind="$1" '$1 == kind { print $2, $3, $4 }'
}

flags=(--release --workspace --features "dinolab/$feature" --message-format=json)
cargo build "${flags[@]}" --bin dinolab --example products | tee "$work/built.json" | executables bin >"$work/programs"
executables example <"$work/built.json" >"$work/examples"
cargo test "${flags[@]}" --no-run --test suite | executables test >"$work/tests"

cp "$(awk '$2 == "dinolab" { print $3 }' "$work/programs")" "$work/device/dinolab"
for test in "${device_tests[@]}"; do
    crate=${test%%/*}
    cp "$(awk -v crate="dinolab-$crate" '$1 == crate { print $3 }' "$work/tests")" "$work/device/test-$crate"
    echo "$test"
done >"$work/device/tests"
awk '$2 == "products" { print $3 }' "$work/examples" | xargs -I{} cp {} "$work/device/products"
strip "$work"/device/{dinolab,products,test-*}
# The tests find their fixtures at the place they were built at.
pwd >"$work/device/built-at"
echo "$feature" >"$work/device/feature"
git rev-parse --short HEAD >"$work/device/revision" 2>/dev/null || echo unknown >"$work/device/revision"

mkdir -p benches/gpu/packed
# The programs have most of their code in common: a dictionary that spans them halves the size.
XZ_OPT='-T1 --lzma2=preset=4,dict=512MiB' tar -C "$work" -cJf benches/gpu/packed/device.tar.xz device
size=$(stat -c %s benches/gpu/packed/device.tar.xz)
echo "benches/gpu/packed/device.tar.xz: $((size >> 20)) MiB, ${#device_tests[@]} modules of tests"
if [ "$size" -gt "$limit" ]; then
    echo "more than $((limit >> 20)) MiB" >&2
    exit 1
fi
