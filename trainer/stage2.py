"""Stage 2, fine-tuning with instructions: `python -m trainer.stage2 CONFIG.toml`.

The tasks of MMEB and its like (arXiv 2510.27350, section 3.2): contents carry the instructions of
the data, or those of the checkpoint's settings for their role and modality. False negatives are
masked, hard ones weighted, and every task learns its temperature.
"""

import sys
from collections.abc import Sequence

from trainer.cli import run_stage


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return run_stage("trainer.stage2", __doc__, instructions=True, arguments=arguments)


if __name__ == "__main__":
    sys.exit(main())
