"""kill -9 at random moments: always a whole checkpoint, and in the end the bits of the undisturbed run."""

from dataclasses import replace

from benchmarks.kill_training import differing_tensors, train_through_kills
from ctclip.training.checkpoint import read_checkpoint
from ctclip.training.loop import train
from tests.ctclip.learnable import learnable_config, write_learnable


def test_a_run_that_is_killed_three_times_ends_with_the_bits_of_one_that_is_not(tmp_path):
    _, cohort = write_learnable(tmp_path, 24)
    config = learnable_config(
        tmp_path, name="killed", steps=100, checkpoint_every=5, log_every=1, ema_decay=0.9, micro_batch=4
    )
    reached = train_through_kills(config, cohort, 3, longest_s=0.3, seed=1)
    assert reached == sorted(reached)
    whole = train(replace(config, out=str(tmp_path / "whole")), cohort=cohort, is_quiet=True)
    ended = read_checkpoint(tmp_path / "killed")
    assert ended.step == 100
    assert differing_tensors(ended.path, whole.checkpoint) == []
