"""Differentiable operations, one file a family; forward and backward of an operation stand on one screen."""
