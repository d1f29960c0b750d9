"""Under torchrun: the child of rank 1 ends at once, that of rank 0 would wait for it for ever."""

import os
import sys
from pathlib import Path

from irl_align.llm.phases.job import PhaseJob
from irl_align.llm.phases.launch import Launcher, PhaseFailed

CHILD = "import os, sys, time; sys.exit(3) if os.environ['RANK'] == '1' else time.sleep(600)"

Launcher.program = (sys.executable, "-c", CHILD)
Launcher.grace_seconds = 1.0
launcher = Launcher()
if launcher.is_main:
    try:
        launcher.run(PhaseJob("reward", {}, {}, "nowhere", 0))
    except PhaseFailed as error:
        Path(sys.argv[1]).write_text(str(error))
else:
    launcher.follow()
launcher.close()
os._exit(0)
