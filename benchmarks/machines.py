"""Tell asv this machine's name and, so that `--machine NAME` finds it, the machines whose results are committed."""

from pathlib import Path

from asv.machine import Machine, MachineCollection
from asv.util import load_json

if __name__ == "__main__":
    known, here = Path(MachineCollection.get_machine_file_path()), Machine.get_defaults()
    if not known.exists() or here["machine"] not in load_json(known):
        MachineCollection.save(here["machine"], here | {"os": here["os"].split()[0]})  # a new kernel is no new machine
    for path in sorted(Path(__file__).parent.glob("results/asv/*/machine.json")):
        found = load_json(path, Machine.api_version)
        MachineCollection.save(found["machine"], found)
