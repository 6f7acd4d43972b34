"""Builds native/: Cython + C. Everything else is declared in pyproject.toml."""

import hashlib
import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

NATIVE = Path("native")
BUILD = Path("build")


def sources_digest() -> str:
    """One digest over all sources of native: a compiled module carries it, and native/__init__.py refuses to load one
    built from other sources."""
    digest = hashlib.sha256()
    for path in sorted(p for p in NATIVE.iterdir() if p.suffix in {".pyx", ".pxd", ".c", ".h"}):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def build_header() -> str:
    """build/native_build.h, rewritten only when the digest changes: every module depends on it, so a change anywhere
    rebuilds them all."""
    BUILD.mkdir(exist_ok=True)
    header = BUILD / "native_build.h"
    text = f'#define NATIVE_BUILD "{sources_digest()}"\n'
    if not header.exists() or header.read_text() != text:
        header.write_text(text)
    return str(header)


header = build_header()
flags = ["-O3", "-std=gnu11", "-fno-math-errno", "-include", header, *os.environ.get("NATIVE_CFLAGS", "").split()]
if os.environ.get("NATIVE_WERROR") == "1":
    # Cython's own output needs these exemptions; our C files compile clean without.
    flags += [
        "-Wall",
        "-Wextra",
        "-Werror",
        "-Wno-unused-parameter",
        "-Wno-missing-field-initializers",
        "-Wno-unused-function",
        "-Wno-cast-function-type",
    ]
link = os.environ.get("NATIVE_LDFLAGS", "").split()

SOURCES = {
    "hashing": ["sha256.c"],
    "difficulty": [],
    "seen": [],
    "work": [],
    "sharelog": ["crc32c.c"],
    "channel": [],
}
extensions = [
    Extension(
        f"native.{name}",
        [f"native/{name}.pyx", *(f"native/{c}" for c in extra)],
        include_dirs=["native"],
        depends=[header, *(str(p) for p in NATIVE.glob("*.[ch]")), *(str(p) for p in NATIVE.glob("*.pxd"))],
        extra_compile_args=flags,
        extra_link_args=link,
    )
    for name, extra in SOURCES.items()
    if (NATIVE / f"{name}.pyx").exists()
]


class SwapInPlace(build_ext):
    """A fresh module comes in by rename: copying over a file that a running pool has mapped crashes that pool."""

    def copy_file(self, infile, outfile, *args, **kwargs):
        part = f"{outfile}.part"
        super().copy_file(infile, part, *args, **kwargs)
        os.replace(part, outfile)
        return outfile, True


setup(
    cmdclass={"build_ext": SwapInPlace},
    ext_modules=cythonize(
        extensions,
        build_dir="build/cython",
        compiler_directives={
            # Hot code walks C pointers with their lengths; Python objects keep Python's checks.
            "language_level": 3,
            "initializedcheck": False,
            "cdivision": True,
            "binding": False,
        },
    )
)
