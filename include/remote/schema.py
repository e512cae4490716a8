"""Print the revisions of Heat's schema that a release knows, oldest first, as its migrations' files tell them.

schema.py VENV

Importing Heat would tell the same, in the time that everything else here takes together.
"""

import re
import sys
from pathlib import Path

FIELD = re.compile(r"^(revision|down_revision)\b[^=\n]*=\s*['\"]?(\w+)", re.MULTILINE)
PLACE = "lib*/python3*/*-packages/heat/db/migrations/versions/*.py"


def main():
    following = {}
    for file in Path(sys.argv[1]).glob(PLACE):
        fields = dict(FIELD.findall(file.read_text(encoding="utf-8")))
        if "revision" in fields:
            following[fields.get("down_revision", "None")] = fields["revision"]
    revision = "None"
    while revision := following.pop(revision, None):
        print(revision)


main()
