"""The Python prov package reads a PROV-JSON document and writes it again without loss: check_prov.py DOCUMENT"""

import sys
from collections import Counter

from prov.model import ProvDocument

document = ProvDocument.deserialize(sys.argv[1], format="json")
again = ProvDocument.deserialize(content=document.serialize(format="json"), format="json")
assert document == again, "the document changed on its way through the package"
counts = Counter(type(r).__name__ for r in document.get_records())
print(" ".join(f"{k}={v}" for k, v in sorted(counts.items())))
