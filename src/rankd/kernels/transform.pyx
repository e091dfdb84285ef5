"""Customs desk of csrc/rk_transform.h."""

import numpy as np


cdef extern from "rk_transform.h" nogil:
    ctypedef enum rk_transform:
        RK_TRANSFORM_IDENTITY
        RK_TRANSFORM_SIGNED_SQUARE
        RK_TRANSFORM_EXP
        RK_TRANSFORM_SIGMOID
        RK_TRANSFORM_LOG1P_EXP
        RK_TRANSFORM_SOFTMAX

    void rk_transform_apply(rk_transform transform, double parameter, size_t outputs, size_t rows, double *values)


TRANSFORMS = {
    "identity": RK_TRANSFORM_IDENTITY,
    "signed_square": RK_TRANSFORM_SIGNED_SQUARE,
    "exp": RK_TRANSFORM_EXP,
    "sigmoid": RK_TRANSFORM_SIGMOID,
    "log1p_exp": RK_TRANSFORM_LOG1P_EXP,
    "softmax": RK_TRANSFORM_SOFTMAX,
}


def apply_transform(str name, double parameter, double[:, ::1] values):
    cdef rk_transform transform = TRANSFORMS[name]
    cdef size_t outputs = values.shape[0]
    cdef size_t rows = values.shape[1]
    if outputs and rows:
        with nogil:
            rk_transform_apply(transform, parameter, outputs, rows, &values[0, 0])
