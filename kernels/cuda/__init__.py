"""Kernels for NVIDIA GPUs: twins of the CPU kernels, in files of the same names. Importing this imports nothing."""
