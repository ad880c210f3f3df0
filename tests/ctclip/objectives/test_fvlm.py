"""fVLM's local term against the numbers of its specification and the rules of its released code."""

from dataclasses import replace

import pytest
import torch

from ctclip.errors import ConfigError
from ctclip.models.features import Features
from ctclip.objectives.contrast import masked_softmax, uniform_targets
from ctclip.objectives.facts import Facts
from ctclip.objectives.fvlm import fvlm_objective, local_loss, soft_share, used_rows
from ctclip.objectives.grids import same_finding
from ctclip.objectives.parameters import FvlmParameters, LocalParameters
from ctclip.texts.text_hash import hash_text
from tests.ctclip.objectives.rows import features_of_logits, made_facts, random_features
from tests.ctclip.objectives.test_offclip import LOGITS


def facts_of(texts, normal, anatomy=None, valid=None) -> Facts:
    ids = torch.arange(len(texts))
    return Facts(
        ids,
        ids,
        1 - torch.tensor(normal),
        torch.tensor([hash_text(text) for text in texts]),
        torch.zeros_like(ids) if anatomy is None else torch.tensor(anatomy),
        None if valid is None else torch.tensor(valid),
    )


PUBLISHED = facts_of(["n1", "x", "n2", "x"], [1, 0, 1, 0])


def test_targets_and_loss_have_their_published_values():
    target = uniform_targets(same_finding(PUBLISHED), torch.float64)
    even, odd = [0.5, 0, 0.5, 0], [0, 0.5, 0, 0.5]
    assert target.tolist() == [even, odd, even, odd]
    loss, logs = fvlm_objective(features_of_logits(LOGITS, 10.0), PUBLISHED, FvlmParameters())
    assert loss.item() == pytest.approx(1.407451, abs=5e-7)
    assert logs["num_anatomies"].item() == 1


def test_soft_targets_have_their_published_values():
    other = torch.tensor([[2.0, 1, 0], [0, 1, 2], [1, 1, 1]], dtype=torch.float64)
    everything = torch.ones(3, 3, dtype=torch.bool)
    soft = 0.5 * torch.eye(3, dtype=torch.float64) + 0.5 * masked_softmax(other, everything)
    assert soft[0].tolist() == pytest.approx([0.832620, 0.122364, 0.045015], abs=1e-6)
    # the same through the objective: the loss of soft targets is a mean of two losses with targets of one kind
    facts = replace(facts_of(["a", "b", "c"], [0, 0, 0]), teacher=features_of_logits(other, 10.0))
    features = features_of_logits(LOGITS[:3, :3], 10.0)
    loss = local_loss(features, facts, LocalParameters(soft_alpha=0.5))
    by_column = 0.5 * torch.eye(3, dtype=torch.float64) + 0.5 * other.T.softmax(1)
    logits = LOGITS[:3, :3]
    there, back = (soft * logits.log_softmax(1)).sum(1), (by_column * logits.T.log_softmax(1)).sum(1)
    torch.testing.assert_close(loss, -(there.mean() + back.mean()) / 2)
    with pytest.raises(ConfigError, match=r"soft_alpha=0.5 needs a teacher"):
        local_loss(features, replace(facts, teacher=None), LocalParameters(soft_alpha=0.5))


def test_the_share_of_a_teacher_rises_to_its_value():
    assert [soft_share(0.5, step, 4) for step in (0, 2, 4, 9)] == [0, 0.25, 0.5, 0.5]


def test_an_anatomy_without_abnormal_studies_is_not_used():
    facts = facts_of("abcdef", [1, 1, 1, 0, 1, 0], anatomy=[0, 0, 0, 1, 1, 1])
    assert used_rows(facts, LocalParameters()).tolist() == [False] * 3 + [True] * 3
    # without the rule, three normal units are all alike and teach nothing either
    assert used_rows(facts, LocalParameters(needs_abnormal=False)).tolist() == [False] * 3 + [True] * 3
    assert used_rows(facts, LocalParameters(needs_abnormal=False, normal_positives=False)).all()


def test_an_anatomy_of_one_study_or_of_equal_texts_is_not_used():
    assert not used_rows(facts_of(["a"], [0]), LocalParameters()).any()
    assert not used_rows(facts_of(["a", "a"], [0, 0]), LocalParameters()).any()
    assert used_rows(facts_of(["a", "a"], [0, 0]), LocalParameters(text_positives=False)).all()


def test_the_sum_counts_anatomies_and_the_mean_does_not():
    features = random_features(6)
    image, text = (torch.cat([part, part]) for part in (features.image, features.text))
    twice = Features(image, text, features.logit_scale)
    one = facts_of("abcdef", [0] * 6)
    two = facts_of("abcdefabcdef", [0] * 12, anatomy=[0] * 6 + [1] * 6)
    single = local_loss(features, one, LocalParameters())
    torch.testing.assert_close(local_loss(twice, two, LocalParameters("sum")), 2 * single)
    torch.testing.assert_close(local_loss(twice, two, LocalParameters("mean")), single)


def test_a_text_of_another_anatomy_is_neither_positive_nor_negative():
    features, facts = random_features(6), facts_of("aabbcc", [0] * 6, anatomy=[0, 1, 0, 1, 0, 1])
    loss = local_loss(features, facts, LocalParameters())
    (gradient,) = torch.autograd.grad(loss, features.image)
    moved = features.text.detach().clone()
    moved[1::2] = torch.randn(3, moved.shape[1], dtype=moved.dtype, generator=torch.Generator().manual_seed(9))
    other = features._replace(text=moved)
    (again,) = torch.autograd.grad(local_loss(other, facts, LocalParameters()), features.image)
    torch.testing.assert_close(gradient[::2], again[::2])


def test_rows_out_of_the_crop_take_no_part():
    features, facts = random_features(6), made_facts(6, with_queue=False)
    kept = torch.tensor([1, 1, 0, 1, 0, 1]).bool()
    fewer = Facts(*(getattr(facts, name)[kept] for name in ("study", "patient", "abnormal", "text", "anatomy")))
    small = features._replace(image=features.image[kept], text=features.text[kept])
    parameters = LocalParameters()
    torch.testing.assert_close(
        local_loss(features, replace(facts, valid=kept), parameters), local_loss(small, fewer, parameters)
    )
