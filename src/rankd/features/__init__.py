"""Floor 2: feature expressions, compiled to programs that csrc kernels run over columns.

    program = compile_features(profile, schema, categories.intern)
    matrix = program.run(length, columns)  # columns[i] answers program.inputs[i]

docs/features.md is the language's reference.
"""

from rankd.features.compile import compile_base, compile_features
from rankd.features.functions import FUNCTIONS
from rankd.features.program import CompiledProgram, Input, Program, Source, ValueType

__all__ = [
    "FUNCTIONS",
    "CompiledProgram",
    "Input",
    "Program",
    "Source",
    "ValueType",
    "compile_base",
    "compile_features",
]
