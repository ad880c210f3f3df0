"""A profile of some steps, on demand: torch.profiler's trace and table in the run's folder."""

from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

WARMUP_STEPS = 5


class StepProfiler:
    """Records `num_steps` steps after WARMUP_STEPS, then stops costing anything.

    Writes FOLDER/trace.json (for chrome://tracing or Perfetto) and FOLDER/table.txt.

    Args:
        folder: Is made when there is something to write.
        num_steps: 0 records nothing.
    """

    def __init__(self, folder: Path, num_steps: int) -> None:
        self._folder = folder
        self._left = WARMUP_STEPS + num_steps if num_steps else 0
        self._profile: profile | None = None
        if num_steps:
            activities = [ProfilerActivity.CPU]
            if torch.cuda.is_available():
                activities.append(ProfilerActivity.CUDA)
            self._profile = profile(
                activities=activities,
                schedule=schedule(wait=0, warmup=WARMUP_STEPS, active=num_steps, repeat=1),
                on_trace_ready=self._write,
                record_shapes=True,
                acc_events=True,
            )
            self._profile.start()

    def step(self) -> None:
        """After each step."""
        if self._profile is None:
            return
        self._profile.step()
        self._left -= 1
        if not self._left:
            self.close()

    def close(self) -> None:
        """Write what was recorded, also where the run ended early."""
        if self._profile is not None:
            self._profile.stop()
            self._profile = None

    def _write(self, recorded: profile) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        recorded.export_chrome_trace(str(self._folder / "trace.json"))
        order = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        table = recorded.key_averages().table(sort_by=order, row_limit=40)
        (self._folder / "table.txt").write_text(table, encoding="utf-8")
