"""A model in llama.cpp's server on loopback: `serve.py MODEL TEMPLATE` prints where it is."""

import os
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

# Installed for this program alone, and without types.
xllamacpp: Any = import_module("xllamacpp")

CONTEXT_TOKENS = 8192
# Threads of the model wait for each other in a loop: with all cores, other work would halt them.
THREADS = max(1, (os.cpu_count() or 1) - 1)

parameters = xllamacpp.CommonParams()
parameters.model.path = sys.argv[1]
parameters.chat_template = Path(sys.argv[2]).read_text(encoding="utf-8")
parameters.hostnames = ["127.0.0.1"]
parameters.port = 0
parameters.n_ctx = CONTEXT_TOKENS
parameters.n_parallel = 1
parameters.use_jinja = True
parameters.warmup = False
parameters.model_alias = {"local"}
parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = THREADS
parameters.sampling.temp = 0.0
server = xllamacpp.Server(parameters)
print(server.listening_address, flush=True)
while True:
    time.sleep(60)
