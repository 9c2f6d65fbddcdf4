"""All dtypes a test runs with; those whose kernels differ from int8's in width alone only in ``make fuzz``."""

import pytest


def each_dtype(dtypes):
    """``dtypes`` for parametrize."""
    wide = ("int16", "int32")
    return [pytest.param(t, marks=pytest.mark.wide) if str(t).rpartition(".")[2] in wide else t for t in dtypes]
