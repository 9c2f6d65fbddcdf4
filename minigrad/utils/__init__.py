"""PyTorch's path to the data tools: ``from minigrad.utils.data import DataLoader``."""

from . import data

__all__ = ["data"]
