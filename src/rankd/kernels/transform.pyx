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
        RK_TRANSFORM_STEP

    void rk_transform_apply(rk_transform transform, double parameter, size_t outputs, size_t rows, double *values)
    float rk_transform_margin(rk_transform transform, float score)


TRANSFORMS = {
    "identity": RK_TRANSFORM_IDENTITY,
    "signed_square": RK_TRANSFORM_SIGNED_SQUARE,
    "exp": RK_TRANSFORM_EXP,
    "sigmoid": RK_TRANSFORM_SIGMOID,
    "log1p_exp": RK_TRANSFORM_LOG1P_EXP,
    "softmax": RK_TRANSFORM_SOFTMAX,
    "step": RK_TRANSFORM_STEP,
}


def apply_transform(str name, double parameter, double[:, ::1] values):
    cdef rk_transform transform = TRANSFORMS[name]
    cdef size_t outputs = values.shape[0]
    cdef size_t rows = values.shape[1]
    if outputs and rows:
        with nogil:
            rk_transform_apply(transform, parameter, outputs, rows, &values[0, 0])


def margin(str name, float score):
    return rk_transform_margin(TRANSFORMS[name], score)
