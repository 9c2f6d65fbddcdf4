"""Compare two wheels, made from the tree and from the sdist, and look for what must and must not be inside."""

import sys
import zipfile

NEEDED = ("minigrad/__init__.py", "minigrad/py.typed", "minigrad/kernels/__init__.py", "licenses/LICENSE")
UNWANTED = (".pyx", ".pxi", ".c", ".pyc", ".html")


def names(wheel):
    found = zipfile.ZipFile(wheel).namelist()
    if len(found) != len(set(found)):
        sys.exit(f"{wheel}: a file is there twice: {sorted({n for n in found if found.count(n) > 1})}")
    return set(found)


direct, through_sdist = (names(path) for path in sys.argv[1:])
if direct != through_sdist:
    print("only in the wheel made from the tree:", *sorted(direct - through_sdist))
    print("only in the wheel made from the sdist:", *sorted(through_sdist - direct))
    sys.exit("the wheels differ; the sdist has committed files only (is something not committed, or left behind?)")
if missing := [n for n in NEEDED if not any(found.endswith(n) for found in direct)]:
    sys.exit(f"missing from the wheel: {missing}")
if strange := [n for n in direct if n.endswith(UNWANTED) or not n.startswith(("minigrad/", "minigrad_engine-"))]:
    sys.exit(f"not wanted in the wheel: {strange}")
print(f"{len(direct)} files, the same from tree and sdist")
