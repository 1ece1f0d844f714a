"""What onnxruntime alone needs for a table: python bare_runtime.py <models> <file>, with the package on the path.

Reads the file and makes the model's inputs; then, for each line on its input, asks the model for all rows, in the
chunks that scoring uses, and prints what that took. Nothing but the model is timed.
"""

import json
import sys
import time
from pathlib import Path

from perennial.contract import Contract
from perennial.files import read_json
from perennial.inputs import feed_frame, layout
from perennial.model import CHUNK, open_model
from perennial.pipeline.read import read_batch

models, data = map(Path, sys.argv[1:])
contract = Contract.model_validate(read_json(models / "profile.json")["contract"])
session = open_model(str(models / "model.onnx"))
output = session.get_outputs()[-1].name
frame = read_batch(data, contract).frame
feeds = [feed_frame(frame.iloc[at : at + CHUNK], layout(contract)) for at in range(0, len(frame), CHUNK)]
session.run([output], feeds[0])
for _ in sys.stdin:
    wall, cpu = time.perf_counter(), time.process_time()
    for feed in feeds:
        session.run([output], feed)
    took = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    print(json.dumps(took), flush=True)
