"""Writes what is below a folder to standard output, archives unpacked: what a search for keys has to look at."""

import sys
from pathlib import Path

from archives import contents

for name, data in contents(Path(sys.argv[1])):
    sys.stdout.buffer.write(f"\n== {name}\n".encode())
    sys.stdout.buffer.write(data)
