"""The version of the package; the build takes it from meson.build, and a test compares the two."""

__version__ = "0.1.0"
