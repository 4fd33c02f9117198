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

shallow=smollm2:0,1,2,10,20,29  # a fifth of its layers

stage vae vae vae --recipe nano --data "$corpus"
stage contrast tower contrast --recipe nano --data "$corpus"
stage read tower align --recipe nano-reading --data "$corpus" --start "$runs/contrast" --lm $shallow
stage align tower align --recipe nano --start "$runs/read"
stage proximal tokenizer proximal --recipe nano-detail --start "$runs/align" --vae "$runs/vae"
stage quantize tokenizer quantize --recipe nano-detail --start "$runs/proximal"
stage pixels tokenizer decoder --recipe nano --start "$runs/quantize" --perceptual-weight 0 \
    --loop.steps 500
stage decoder tokenizer decoder --recipe nano --start "$runs/pixels" --loop.optim.lr 1.5e-4 \
    --loop.steps 80
stage adversarial tokenizer decoder --recipe nano-adversarial --start "$runs/decoder"

# The weights as they ship, in bfloat16: codes of others are not theirs.
here=$(dirname "$0")
[ -e "$runs/rounded/config.json" ] ||
    python "$here/ship.py" --tokenizer "$runs/decoder" --out "$runs/rounded"
stage reader mllm sft --recipe nano-reading --start "$runs/rounded" --data "$corpus" --lm $shallow

# Pictures drawn once, to be read as codes beside those of the corpus.
#
# drawn NAME COUNT TASKS: so many of them in RUNS/drawn/NAME, and 300 held-out ones.
drawn() {
    local out=$runs/drawn/$1 count=$2
    shift 2
    for split in train validation; do
        [ $split = validation ] && count=300
        compgen -G "$out/$split-*" > /dev/null ||
            python "$here/../../examples/synthetic_data.py" --out "$out" --count "$count" \
                --split $split --seed 11 --tasks "$@"
    done
}
drawn drawn 4000 words words words charts charts shapes scraps documents screens
drawn words 10000 words
drawn scraps 15000 scraps
for data in corpus drawn words scraps; do
    from=$runs/drawn/$data
    [ $data = corpus ] && from=$corpus
    for split in train validation; do
        codes=$runs/codes
        [ $split = validation ] && codes=$runs/held-codes
        viq extract "$from/$split-*.parquet" --model "$runs/rounded" --max-pixels 262144 \
            --dtype bfloat16 --out "$codes/$data"
    done
done
stage sft mllm sft --recipe nano-mixed --start "$runs/reader" --vision-model "$runs/rounded" \
    --lm $shallow \
    --data "$runs/codes" --held-out "$runs/held-codes" \
    --data.phases.0.tokens 400000 --data.phases.1.tokens 3150000
