"""What Flowcept 1.0.3's own telemetry of its settings tells of this process and its node, now and after some work: two lines of JSON."""

import json

from flowcept.flowceptor.telemetry_capture import TelemetryCapture

capture = TelemetryCapture()
print(json.dumps(capture.capture().to_dict()), flush=True)
with open(__file__, "rb") as file:
    content = file.read()
total = sum(i * i for i in range(3_000_000)) + len(content)
print(json.dumps(capture.capture().to_dict()))
