"""A settings file as Flowcept 1.0.3 reads it (OmegaConf): the value of each key with its sections, as one JSON map."""

import json
import sys

from omegaconf import OmegaConf

MAPS = ("adapters", "extra_metadata", "agent.model_kwargs")


def flat(prefix, value):
    if isinstance(value, dict) and prefix not in MAPS:
        for key, inner in value.items():
            yield from flat(f"{prefix}.{key}" if prefix else key, inner)
    else:
        yield prefix, value


settings = OmegaConf.to_container(OmegaConf.load(sys.argv[1]), resolve=True)
print(json.dumps(dict(flat("", settings))))
