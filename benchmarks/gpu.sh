#!/usr/bin/env bash
# Run all measurements on a machine with one NVIDIA GPU, in calls of nine minutes, beginning with the most valuable part.
# The script does not need internet access. docs/experiments/gpu.md describes the preparation and the goals, and has the
# tables to fill in.
#
#   bash benchmarks/gpu.sh                tests, parity, speed of engine, kernels, training and shipped weights
#   WHAT=rest bash benchmarks/gpu.sh      the compiled engine, the correlation and its compiled reference, race conditions
#   WHAT=train bash benchmarks/gpu.sh     training of a second, larger set of weights
#   SMOKE=1 bash benchmarks/gpu.sh        a test of the script with tiny sizes on a CPU
#
# Environment variables: OUT is the folder of the results (default: a temporary folder). PHOTOS is a folder of photographs
# for training (default: synthetic pictures). PY is the Python interpreter. SITE is a folder with packages that the
# interpreter lacks. TOTAL is the duration of a call in seconds.
cd "$(dirname "$0")/.." || exit 1
OUT=${OUT:-$(mktemp -d)} WHAT=${WHAT:-first} TOTAL=${TOTAL:-535} PY=${PY:-python3}
mkdir -p "$OUT" && exec > >(tee "$OUT/$WHAT.log") 2>&1
RUNS=$(mktemp -d) IVOS_KERNEL_CACHE=$(mktemp -d) XDG_CACHE_HOME=$(mktemp -d) failed=0
export OUT IVOS_KERNEL_CACHE XDG_CACHE_HOME PYTHONUNBUFFERED=1 PYTHONPATH="${SITE:+$SITE:}$PWD"
measure="$PY benchmarks/gpu.py"
tests="$PY -m pytest -o addopts= --strict-markers --import-mode=importlib -q --tb=short --durations=5"

run() { # SECONDS COMMAND: run a command, but not beyond the end of the call; a failure does not end the other parts
    local left=$((TOTAL - SECONDS)) limit=$1 status
    shift
    if [ $left -lt 5 ]; then echo "=== no time for: $*"; failed=1; return; fi
    if [ -n "$SMOKE" ] || [ "$limit" -gt $left ]; then limit=$left; fi
    echo "=== at $SECONDS s, up to $limit s: $*"
    timeout -k 5 "$limit" "$@"
    status=$?
    echo "=== status $status, at $SECONDS s"
    [ $status = 0 ] || failed=1
}

sanitizer() { # TOOL SECONDS TESTS: run tests under a tool of compute-sanitizer
    [ -n "$SMOKE" ] && return
    command -v compute-sanitizer >/dev/null || { echo "=== no compute-sanitizer here"; failed=1; return; }
    PYTORCH_NO_CUDA_MEMORY_CACHING=1 run "$2" compute-sanitizer --error-exitcode 1 --tool "$1" $tests \
        tests/kernels/test_gpu.py -k "$3"
}

stop_and_resume() { # train until the first metrics are written, stop by SIGTERM, and resume
    "$@" "hydra.run.dir=$RUNS/stopped" &
    local process=$! turn
    for turn in $(seq 240); do
        sleep .5
        grep -qs , "$RUNS/stopped/anet/metrics.csv" && break
        kill -0 $process 2>/dev/null || break
    done
    kill -TERM $process
    wait $process
    local stopped=$?
    echo "stopped with status $stopped, 143 is right"
    timeout -s INT 40 "$@" "hydra.run.dir=$RUNS/stopped" resume=true
    local status=$?
    echo "resumed: status $status; 124 or 130, after 40 seconds of training, is right"
    [ $stopped = 143 ] && { [ $status = 124 ] || [ $status = 130 ]; }
}

if [ -z "$PHOTOS" ]; then
    PHOTOS=$RUNS/pictures
    $measure pictures "$PHOTOS"
fi
recipe=(experiment=pretrain "pictures=$PHOTOS" score=false logger=[csv])
tiny=(model.width=4 "model.depths=[1,1,1,1]" model.decoder_width=8)
for stage in anet tnet joint; do tiny+=("stages.$stage.data.batch_size=2"); done

case $WHAT in
first)
    short=("${recipe[@]}" "~stages.tnet" "~stages.joint" stages.anet.data.val_clips=1
        stages.anet.trainer.max_epochs=1)
    if [ -n "$SMOKE" ]; then
        short+=("${tiny[@]:0:3}" stages.anet.data.batch_size=2) steps=12
    else
        short+=(stages.anet.data.batch_size=64) steps=150
    fi
    run 60 $measure context
    run 130 $tests -m gpu --maxfail=8 tests/kernels/test_gpu.py tests/engine/test_fast.py tests/engine/test_flow.py
    run 60 $measure parity
    run 110 $measure engine
    [ -n "$SMOKE" ] || TORCHDYNAMO_DISABLE=1 run 45 "$PY" benchmarks/correlation.py --device cuda
    run 75 $measure train
    run 90 "$PY" train.py "${short[@]}" stages.anet.data.num_batches=$steps "hydra.run.dir=$RUNS/short"
    run 20 $measure speeds "$RUNS/short"
    export -f stop_and_resume
    export RUNS
    run 120 bash -c 'stop_and_resume "$@"' - "$PY" train.py "${short[@]}" stages.anet.data.num_batches=2000
    run 80 $measure shipped
    run 40 $measure ceilings
    sanitizer memcheck 60 "(test_correlation or test_local_transfer) and 23"
    ;;
rest)
    run 300 env ${SMOKE:+TORCHDYNAMO_DISABLE=1} $measure compiled
    [ -n "$SMOKE" ] || run 200 "$PY" benchmarks/correlation.py --device cuda
    sanitizer racecheck 60 "test_local_transfer and 23 and float32"
    ;;
train) # each stage has a time limit instead of a number of steps
    minutes=(00:00:02:00 00:00:03:20 00:00:01:00)
    longer=(model.width=24 "model.depths=[3,4,6,3]" model.decoder_width=96 callbacks.ema.decay=0.997
        stages.anet.data.batch_size=48 stages.tnet.data.batch_size=24 stages.joint.data.batch_size=12)
    if [ -n "$SMOKE" ]; then minutes=(00:00:00:08 00:00:00:08 00:00:00:08) longer=("${tiny[@]}"); fi
    for index in 0 1 2; do
        stage=$(cut -d' ' -f$((index + 1)) <<<"anet tnet joint")
        longer+=("stages.$stage.data.num_batches=100000" "stages.$stage.data.val_clips=1"
            "+stages.$stage.trainer.max_time=${minutes[$index]}")
    done
    run 470 "$PY" train.py "${recipe[@]}" "${longer[@]}" "hydra.run.dir=$RUNS/run"
    run 15 $measure speeds "$RUNS/run"
    run 40 $measure weights "$RUNS/run"
    for stage in anet tnet joint; do
        [ -f "$RUNS/run/$stage/metrics.csv" ] && gzip -c "$RUNS/run/$stage/metrics.csv" >"$OUT/$stage.csv.gz"
    done
    ;;
*)
    echo "error: WHAT=$WHAT: first, rest or train"
    exit 2
    ;;
esac
sort -u "$OUT/results.jsonl"
echo "=== results in $OUT; $([ $failed = 0 ] && echo all parts ran || echo "some parts failed")"
exit $failed
