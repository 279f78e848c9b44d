"""Stage 1, multimodal continual training: `python -m trainer.stage1 CONFIG.toml`.

Pairs of texts, pictures and videos, without instructions (arXiv 2510.27350, section 3.2): the model
learns that what belongs together lies close together. Hardness weights and masking are set in the
configuration's [loss]; the paper's abstract has both only in stage 2.
"""

import sys
from collections.abc import Sequence

from trainer.cli import run_stage


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return run_stage("trainer.stage1", __doc__, instructions=False, arguments=arguments)


if __name__ == "__main__":
    sys.exit(main())
