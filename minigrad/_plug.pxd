cdef class Plugs:
    cdef public object as_tensor, is_array, legacy                     # creation: from numbers, lists and arrays
    cdef public object device, size, check_format, warn_nonleaf        # what a tensor's attributes are, or say
    cdef public object expand, slice_write, sum_to, any_zero, as_strided_op
    cdef public object iterate, getitem, setitem, contains, text, format, power, matmul    # special methods
    cdef public object backward                                        # of several outputs, or into some inputs only
    cdef public object decorate                                        # a function run under a grad mode

cdef Plugs plugs
