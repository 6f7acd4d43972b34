#!/bin/sh
# Coverage-guided fuzzing of native/: sh scripts/fuzz.sh SECONDS [channel|segment]
# Builds native by clang with libFuzzer's coverage, AddressSanitizer and UBSan into build/fuzz and runs tests/rig/fuzz_<target>.py
# under atheris. Prints executions, bytes and coverage; a crash is kept in build/fuzz/<target>/ and makes the exit code non-zero.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:?"usage: scripts/fuzz.sh SECONDS [channel|segment]"}
target=${2:-channel}
here=$(pwd)
python=$here/.venv/bin/python
tree=$here/build/fuzz
work=$tree/$target

need_clang() {
    command -v "${CLANG:-clang}" >/dev/null 2>&1 && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        apt-get install -y -qq --no-install-recommends clang >/dev/null && return
        apt-get update -qq && apt-get install -y -qq --no-install-recommends clang >/dev/null && return
    fi
    echo "fuzz: clang is missing; as root: apt-get install clang" >&2
    exit 2
}

need_atheris() {
    "$python" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("atheris") is None)' && return
    "$python" -m pip install -q --disable-pip-version-check "atheris>=3.0" || { echo "fuzz: atheris cannot be installed (pip install '.[fuzz]')" >&2; exit 2; }
}

build() {
    flags="-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize=function,vptr -fno-sanitize-recover=all"
    mkdir -p "$tree/native"
    for source in native/*.py native/*.pyx native/*.pxd native/*.c native/*.h setup.py pyproject.toml; do
        cmp -s "$source" "$tree/$source" || cp "$source" "$tree/$source"
    done
    for copy in "$tree"/native/*.py "$tree"/native/*.pyx "$tree"/native/*.pxd "$tree"/native/*.c "$tree"/native/*.h; do
        [ -e "native/$(basename "$copy")" ] || rm -f "$copy"
    done
    (cd "$tree" && CC=${CLANG:-clang} LDSHARED="${CLANG:-clang} -shared" NATIVE_CFLAGS="-O1 -g -fno-omit-frame-pointer $flags" \
        NATIVE_LDFLAGS="$flags" "$python" setup.py -q build_ext --inplace >"$tree/build.log" 2>&1) || { tail -30 "$tree/build.log" >&2; exit 2; }
}

need_clang
need_atheris
build
runtime=$("$python" -c 'import atheris; print(atheris.path())')/asan_with_fuzzer.so
export PYTHONPATH="$tree:$here:$here/tests" PYTHONSAFEPATH=1 PYTHONMALLOC=malloc
# Python itself leaks by design; a leak of native's shows in tests/test_native_channel.py.
export ASAN_OPTIONS="detect_leaks=0:abort_on_error=0:exitcode=99:allocator_may_return_null=0:handle_abort=0" UBSAN_OPTIONS="print_stacktrace=1"
run() { LD_PRELOAD=$runtime "$python" "$@"; }

run -c "
import native.channel, sys
assert native.channel.__file__.startswith('$tree/'), native.channel.__file__
assert any('__asan_init' in line for line in __import__('subprocess').run(['nm', '-D', native.channel.__file__], capture_output=True, text=True, env={}).stdout.splitlines())
" || { echo "fuzz: the sanitized modules are not the ones loaded" >&2; exit 2; }

mkdir -p "$work"
run "tests/rig/fuzz_$target.py" --corpus "$work"
rm -f "$work/stats.json"
code=0
run "tests/rig/fuzz_$target.py" "$work/stats.json" -max_total_time="$seconds" -max_len=8192 -timeout=20 -rss_limit_mb=3000 -detect_leaks=0 \
    -print_final_stats=1 -dict="$work/dict" -artifact_prefix="$work/" "$work/corpus" >"$work/log" 2>&1 || code=$?
grep -E "INITED|DONE|^Done|stat::number_of_executed_units|stat::average_exec" "$work/log" | sed "s|^|fuzz $target: |" || true
[ -f "$work/stats.json" ] && echo "fuzz $target: $(cat "$work/stats.json")"
if [ "$code" -ne 0 ]; then
    tail -60 "$work/log" >&2
    echo "fuzz $target: FAILED ($code); the reproducer is in $work:" >&2
    ls "$work" | grep -E "^(crash|leak|oom|timeout|slow)-" >&2 || true
    exit 1
fi
# A run that never got past the door proves nothing.
"$python" - "$work/stats.json" <<'PY'
import json, sys
reached = json.load(open(sys.argv[1]))
missing = [name for name, count in reached.get("must_reach", {}).items() if not count]
assert reached["executions"] > 0 and not missing, f"never reached: {missing}"
PY
