#!/usr/bin/env bash
# Trains nano from nothing but captioned pictures and what it draws itself; see docs/TRAINING.md.
#
#   benchmarks/nano/train.sh CORPUS RUNS
#
# Killed and started again it goes on. What is finished is left as it is.
set -euo pipefail
corpus=$1 runs=$2
mkdir -p "$runs"

# stage NAME LEAVES ARGUMENTS: a run of `viq train` in RUNS/NAME that ends by leaving LEAVES there.
stage() {
    local name=$1 leaves=$2 out=$runs/$1 resume=()
    shift 2
    [ -e "$out/$leaves" ] && return
    [ -e "$out/log.jsonl" ] && resume=(--resume)
    echo "== $name"
    viq train "$@" --out "$out" "${resume[@]}"
}

[ -e "$runs/lm/config.json" ] || python "$(dirname "$0")/../../examples/shallow_lm.py" --out "$runs/lm"
stage vae vae vae --recipe nano --data "$corpus"
stage contrast tower contrast --recipe nano --data "$corpus" --start nano
stage read tower align --recipe nano-reading --data "$corpus" --start "$runs/contrast" --lm "$runs/lm"
stage align tower align --recipe nano --start "$runs/read"
stage proximal tokenizer proximal --recipe nano --start "$runs/align" --vae "$runs/vae"
stage quantize tokenizer quantize --recipe nano --start "$runs/proximal"
stage decoder tokenizer decoder --recipe nano --start "$runs/quantize"
