"""Compose files are as the specification has them, and safe to start: check_compose.py FILE…; prints their services as JSON."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import jsonschema
import yaml

package = Path(importlib.util.find_spec("compose").origin).parent
schema = json.loads((package / "config/compose_spec.json").read_text())
services = {}
for name in sys.argv[1:]:
    text = Path(name).read_text()
    file = yaml.safe_load(text)
    jsonschema.validate(file, schema)
    for service, it in file["services"].items():
        assert it["healthcheck"]["test"] and it["restart"] == "unless-stopped", service
        assert re.fullmatch(r"[a-z/]+:[0-9.]+", it["image"]), "an image of a version"
        assert all(port.startswith("${FLOWCEPT_BIND:-127.0.0.1}:") for port in it["ports"]), "only this host, until told"
        kept = [volume.split(":")[0] for volume in it["volumes"] if not volume.startswith(".")]
        assert kept and set(kept) <= file["volumes"].keys(), "data outlive the container"
        # No password is a default: whoever starts it chooses one.
        secrets = re.findall(r"\$\{(\w*PASS\w*)([^}]*)\}", text)
        assert secrets and all(rest == ":?choose a password" for _, rest in secrets), secrets
        services[service] = it
print(json.dumps(services))
