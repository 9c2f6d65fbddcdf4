"""``minigrad.data`` under PyTorch's path, so that only the package's name changes in an import line."""

from ..data import *  # noqa: F403
from ..data import __all__ as __all__
