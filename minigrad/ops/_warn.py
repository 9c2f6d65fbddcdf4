"""Warnings that point at the user's line, however many frames of this package lie in between."""

import os
import sys
import warnings

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def warn_user(message, category=UserWarning):
    """``warnings.warn`` with the stacklevel of the first frame outside minigrad.

    Python 3.12 has ``skip_file_prefixes`` for it. Compiled functions have no frame.
    """
    level, frame = 2, sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
