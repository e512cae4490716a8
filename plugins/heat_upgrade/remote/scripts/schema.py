"""Print the revisions of Heat's schema that each of some releases knows, oldest first, as its migrations' files tell.

schema.py RELEASE=VENV ...

Importing Heat would tell the same, in the time that everything else here takes together.
"""

import re
import sys
from pathlib import Path

FIELD = re.compile(r"^(revision|down_revision)\b[^=\n]*=\s*['\"]?(\w+)", re.MULTILINE)
PLACE = "lib*/python3*/*-packages/heat/db/migrations/versions/*.py"


def revisions(venv):
    following = {}
    for file in Path(venv).glob(PLACE):
        fields = dict(FIELD.findall(file.read_text(encoding="utf-8")))
        if "revision" in fields:
            following[fields.get("down_revision", "None")] = fields["revision"]
    revision = following.pop("None", None)
    while revision:
        yield revision
        revision = following.pop(revision, None)


for word in sys.argv[1:]:
    release, _, venv = word.partition("=")
    print(f"::schema/{release}={' '.join(revisions(venv))}")
