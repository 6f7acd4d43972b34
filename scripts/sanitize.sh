#!/bin/sh
# native/ under AddressSanitizer and UBSan: sh scripts/sanitize.sh [pytest arguments]
# Builds a copy of native in build/sanitize with gcc and runs every tests/test_native_*.py against it. The exit code is pytest's,
# or the sanitizer's when it ended the process; the plugin rig.sanitized fails the run if other modules were loaded.
set -eu
cd "$(dirname "$0")/.."
here=$(pwd)
python=$here/.venv/bin/python
tree=$here/build/sanitize
CC=${CC:-gcc}

mkdir -p "$tree/native"
for source in native/*.py native/*.pyi native/*.pyx native/*.pxd native/*.c native/*.h setup.py pyproject.toml; do
    cmp -s "$source" "$tree/$source" || cp "$source" "$tree/$source"
done
# A source that has gone here goes there too: the build digest covers what lies in the folder.
for copy in "$tree"/native/*.py "$tree"/native/*.pyx "$tree"/native/*.pxd "$tree"/native/*.c "$tree"/native/*.h; do
    [ -e "native/$(basename "$copy")" ] || rm -f "$copy"
done
ln -sfn "$here/tests" "$tree/tests"
ln -sfn "$here/pool" "$tree/pool"

flags="-fsanitize=address,undefined -fno-sanitize-recover=all"
(cd "$tree" && NATIVE_WERROR=0 NATIVE_CFLAGS="-O1 -g -fno-omit-frame-pointer $flags" NATIVE_LDFLAGS="$flags" \
    "$python" setup.py -q build_ext --inplace >build.log 2>&1) || { tail -30 "$tree/build.log" >&2; exit 2; }

asan=$("$CC" -print-file-name=libasan.so)
ubsan=$("$CC" -print-file-name=libubsan.so)
[ -e "$asan" ] && [ -e "$ubsan" ] || { echo "sanitize: $CC brings no libasan/libubsan here" >&2; exit 2; }

# Python leaks on purpose (no detect_leaks); a small quarantine keeps the tests that measure memory meaningful.
export SANITIZED_TREE="$tree" PYTHONPATH="$tree:$tree/tests" PYTHONSAFEPATH=1 PYTHONMALLOC=malloc \
    ASAN_OPTIONS="detect_leaks=0:quarantine_size_mb=4:detect_stack_use_after_return=1:strict_string_checks=1:abort_on_error=0" \
    UBSAN_OPTIONS="print_stacktrace=1"
cd "$tree"
# --capture=sys: the file descriptor stays free for a sanitizer's report, which comes as it ends the process.
set -- -p rig.sanitized -p no:cacheprovider --capture=sys "$@"
LD_PRELOAD="$asan $ubsan" exec "$python" -m pytest -q tests/test_native_*.py "$@"
