"""The Python prov package reads a PROV-JSON document and writes it again without loss: check_prov.py DOCUMENT"""

import json
import sys
from collections import Counter

from prov.model import ProvDocument

document = ProvDocument.deserialize(sys.argv[1], format="json")
again = ProvDocument.deserialize(content=document.serialize(format="json"), format="json")
assert document == again, "the document changed on its way through the package"
counts = Counter(type(r).__name__ for r in document.get_records())
with open(sys.argv[1], encoding="utf-8") as text:
    written = sum(len(records) for block, records in json.load(text).items() if block != "prefix")
assert counts.total() == written, f"{written} records were written, {counts.total()} read"
print(" ".join(f"{k}={v}" for k, v in sorted(counts.items())))
