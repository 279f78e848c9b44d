"""A decoder that is killed while it starts."""

import os
import signal

os.kill(os.getpid(), signal.SIGKILL)
