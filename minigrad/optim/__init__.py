"""Optimizers: PyTorch's names, arguments, state and results; every step is one native call over all parameters."""

from . import lr_scheduler as lr_scheduler
from .adam import Adam as Adam
from .adam import AdamW as AdamW
from .optimizer import Optimizer as Optimizer
from .sgd import SGD as SGD
