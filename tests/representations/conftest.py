from __future__ import annotations

import sys
from pathlib import Path

if str(Path(__file__).parent) not in sys.path:  # `forms`, in any import mode
    sys.path.insert(0, str(Path(__file__).parent))
