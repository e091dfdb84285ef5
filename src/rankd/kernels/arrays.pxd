# What every customs desk checks of an ndarray before its data is handed to C.
cimport numpy as cnp


cdef inline void *array_data(object array, int type_number, int dimensions, str what) except? NULL:
    """The data of an array that has the type, dimensions and layout a kernel reads. ValueError, saying `what`."""
    if not cnp.PyArray_Check(array):
        raise ValueError(f"{what}: expected an ndarray, got {type(array).__name__}")
    cdef cnp.ndarray checked = array
    if (cnp.PyArray_TYPE(checked) != type_number or cnp.PyArray_NDIM(checked) != dimensions
            or not cnp.PyArray_ISCARRAY_RO(checked)):
        expected = <object>cnp.PyArray_DescrFromType(type_number)
        raise ValueError(
            f"{what}: expected a C-contiguous, aligned array of {expected}"
            f" with {dimensions} dimension(s), got {array.dtype} with {array.ndim}, strides {array.strides}"
        )
    return cnp.PyArray_DATA(checked)


cdef inline cnp.npy_intp array_size(object array):
    """The first dimension of what array_data has checked."""
    return cnp.PyArray_DIM(<cnp.ndarray>array, 0)
