"""What a program does with its CPUs beside the model's own threads."""

import subprocess
import sys
from pathlib import Path


def test_programs_load_numpy_without_threads_that_wait_busily():
    code = (
        "import indexer.ingest, os, sys\n"
        "assert 'numpy' not in sys.modules or os.environ['OPENBLAS_NUM_THREADS'] == '1'\n"
        "import embedder, numpy, time\n"
        "square = numpy.ones((400, 400), dtype=numpy.float32)\n"
        "for _ in range(9):\n"
        "    square @ square\n"
        "print(len(list(__import__('pathlib').Path('/proc/self/task').iterdir())))\n"
    )
    if not Path("/proc/self/task").is_dir():
        return
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "1"
