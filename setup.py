"""Compiles what pyproject.toml cannot describe: the contracts, csrc and the Cython modules.

Conventions instead of lists: every csrc/*.c goes into one static library, every
src/rankd/kernels/*.pyx becomes an extension linked with it, and every
protos/rankd/v1/*.proto is generated into src/rankd/v1. Generated C stays in build/.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

from setuptools import Command, Extension, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
C_FLAGS = ["-std=c11", "-O3", "-Wall", "-Wextra", "-fvisibility=hidden", "-ffp-contract=off", "-fno-math-errno"]

# The Cython modules check and call; what takes time stands in csrc. Debug symbols of generated C help no one.
GLUE_FLAGS = ["-O1", "-g0", "-fvisibility=hidden", "-ffp-contract=off"]


class build_protos(Command):
    """Generates messages, services and their type stubs from protos/ into src/."""

    description = __doc__
    user_options: ClassVar[list[tuple[str, str, str]]] = []

    def initialize_options(self) -> None:
        pass

    def finalize_options(self) -> None:
        pass

    def run(self) -> None:
        import google.rpc.status_pb2 as rpc_status
        import grpc_tools
        from grpc_tools import protoc

        protos = sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("protos/rankd/v1/*.proto"))
        scripts = Path(sys.executable).parent
        code = protoc.main(
            [
                "protoc",
                "-Iprotos",
                f"-I{Path(grpc_tools.__file__).parent / '_proto'}",
                f"-I{Path(rpc_status.__file__).parents[2]}",
                f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
                f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
                "--python_out=src",
                "--grpc_python_out=src",
                "--mypy_out=src",
                "--mypy_grpc_out=src",
                *protos,
            ]
        )
        if code:
            raise SystemExit(f"protoc failed with status {code}")


class build_with_protos(build):
    """Contracts first: setuptools collects the package's files when it builds."""

    sub_commands: ClassVar = [("build_protos", None), *build.sub_commands]


class build_py_with_protos(build_py):
    """The same for editable installs, which run build_py alone."""

    def run(self) -> None:
        self.run_command("build_protos")
        super().run()


class build_ext_with_library(build_ext):
    """Compiles csrc once and links it into every extension."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count() or 1

    def run(self) -> None:
        self.run_command("build_protos")
        super().run()

    def build_extensions(self) -> None:
        with ThreadPoolExecutor(self.parallel) as pool:  # the threads wait for gcc
            compiled = pool.map(self.compile_kernel, sorted(ROOT.glob("csrc/*.c")))
            objects = [name for names in compiled for name in names]
        if objects:
            library = Path(self.build_temp) / "librankd_c.a"
            library.unlink(missing_ok=True)  # ar would keep the objects of sources that are gone
            self.compiler.create_static_lib(objects, "rankd_c", output_dir=self.build_temp)
            for extension in self.extensions:
                extension.extra_objects = [str(library)]
        super().build_extensions()

    def compile_kernel(self, source: Path) -> list[str]:
        return self.compiler.compile(
            [str(source.relative_to(ROOT))],
            output_dir=self.build_temp,
            include_dirs=["csrc"],
            extra_preargs=C_FLAGS,
            depends=sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("csrc/*.h")),
        )


def extensions() -> list[Extension]:
    """One extension per kernels/*.pyx, cythonized into build/."""
    sources = sorted(ROOT.glob("src/rankd/kernels/*.pyx"))
    if not sources:
        return []
    import numpy
    from Cython.Build import cythonize

    csrc = sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("csrc/*.[ch]"))
    return cythonize(
        [
            Extension(
                f"rankd.kernels.{path.stem}",
                [str(path.relative_to(ROOT))],
                include_dirs=["csrc", numpy.get_include()],
                define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
                extra_compile_args=GLUE_FLAGS,
                depends=csrc,  # a changed kernel is linked anew
                libraries=["m"],
            )
            for path in sources
        ],
        build_dir="build/cython",
        compiler_directives={"language_level": 3, "boundscheck": False, "wraparound": False},
    )


setup(
    ext_modules=extensions(),
    cmdclass={
        "build": build_with_protos,
        "build_protos": build_protos,
        "build_py": build_py_with_protos,
        "build_ext": build_ext_with_library,
    },
)
